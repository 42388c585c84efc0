"""
The file that another may replace only if it has the right digest, and nobody touches it until then.
"""

from __future__ import annotations

import os

from twisted_netsuite.files.digests import chunks, combined
from twisted_netsuite.files.leftovers import close
from twisted_netsuite.files.localsource import LocalSource
from twisted_netsuite.files.publishing import Slot, isSame
from twisted_netsuite.files.rereading import digestsOf

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Replaced:
    """
    The file that is to be replaced.

    It stays open, as another file can have the same number once it is gone.
    """

    _found: tuple[os.stat_result, bytes] | None = None
    _file = -1

    def __init__(self, slot: Slot, digest: bytes) -> None:
        """
        @param slot: where it is.
        @param digest: what it has to have.
        """
        self._slot = slot
        self._digest = digest

    def require(self) -> os.stat_result:
        """
        Require that what is there has that digest; it is read only if it was touched since.

        @return: what is known of it.
        @raise Conflict: when it has not, or nothing is there.
        @raise OSError: from the system.
        """
        slot = self._slot
        present = slot.present()
        if present is None:
            raise slot.changed()
        if self._found is None or not _isUntouched(self._found[0], present):
            self.close()
            self._file = os.open(slot.name, _READ, dir_fd=slot.directory)
            self._found = present, _digestOf(slot, self._file, present)
        if self._found[1] != self._digest:
            raise slot.changed()
        return present

    def close(self) -> None:
        """Let it go."""
        if self._file >= 0:
            close(self._file)
        self._file = -1


def _digestOf(slot: Slot, file: int, present: os.stat_result) -> bytes:
    """Digest the file that is to be replaced, and nothing else."""
    if not _isUntouched(os.fstat(file), present):
        raise slot.changed()
    source = LocalSource(file, present, slot.name)
    found = digestsOf(source, list(range(chunks(present.st_size))))
    if not _isUntouched(os.fstat(file), present):
        raise slot.changed()
    return combined([found[index] for index in sorted(found)])


def _isUntouched(one: os.stat_result, other: os.stat_result) -> bool:
    """Tell whether nothing at all was done to a file."""
    return isSame(one, other) and one.st_ctime_ns == other.st_ctime_ns
