"""
What a directory of the local disk holds; how it was found is not seen here.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from twisted_netsuite.files.localsource import attributesOf
from twisted_netsuite.files.names import RESERVED
from twisted_netsuite.files.root import refusal
from twisted_netsuite.files.store import Entry


def isServed(status: os.stat_result) -> bool:
    """
    Tell whether something is of a kind that is served.

    @param status: what is known of it.
    @return: whether it is a regular file or a directory.
    """
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


class LocalListing:
    """
    What a directory holds, read as it is asked for: it may be larger than the memory.

    @ivar name: what the directory was asked for by.
    """

    _directory = -1

    def __init__(self, directory: int, name: bytes) -> None:
        """
        @param directory: a descriptor for reading; it belongs to this from here on.
        @param name: what it was asked for by.
        """
        self.name = name
        try:
            self._entries = os.scandir(directory)
        except OSError as error:
            os.close(directory)
            raise refusal(error, name) from error
        self._directory = directory

    def __iter__(self) -> LocalListing:
        """Go on with it."""
        return self

    def __next__(self) -> Entry:
        """
        Give one more.

        @return: an entry.
        @raise StopIteration: at the end.
        @raise NetsuiteError: when the directory cannot be read any further.
        """
        try:
            for entry in self._entries:
                name = os.fsencode(entry.name)
                if name.startswith(RESERVED) or entry.is_symlink():
                    continue
                # What has vanished meanwhile is not there.
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if isServed(status):
                        return Entry(name, attributesOf(status))
        except OSError as error:
            self.close()
            raise refusal(error, self.name) from error
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Let the directory go."""
        directory, self._directory = self._directory, -1
        if directory >= 0:
            self._entries.close()
            os.close(directory)

    def __del__(self) -> None:
        """Let the directory go that was forgotten."""
        self.close()
