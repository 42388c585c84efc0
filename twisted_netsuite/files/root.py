"""
The one place that turns names from a peer into open files, confined to one directory.

Confinement is by file descriptors: each part of a name is opened below the directory opened before
it, never following a symbolic link, so that no name and no race leads outside. Strings are never
compared.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from twisted_netsuite.errors import ConfigurationError, Denied, InvalidName, NotFound

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that was put in the file's place must not hold the reactor.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: Parts of one name. Each costs an open; no tree that people keep is so deep.
MAX_DEPTH = 64


@dataclass
class OpenFile:
    """
    A regular file that is open for reading.

    @ivar descriptor: to be closed by whoever holds this.
    @ivar size: its bytes when it was opened.
    """

    descriptor: int
    size: int

    def read(self, offset: int, count: int) -> bytes:
        """
        Read a piece.

        @param offset: where it begins, in bytes.
        @param count: bytes to read at the most.
        @return: fewer at the end of the file.
        """
        return os.pread(self.descriptor, count, offset)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)


class Root:
    """A directory of which the regular files can be read."""

    def __init__(self, path: str) -> None:
        """
        @param path: the directory; it is opened now, so that later renames do not move the root.
        @raise ConfigurationError: when it is no directory, or cannot be opened.
        """
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigurationError(
                f"The root {path!r} cannot be opened: {(reason or '').lower()}; "
                "give a directory that exists and can be read."
            ) from error

    def open(self, name: bytes) -> OpenFile:
        """
        Open a file.

        @param name: its path from the root, parts divided by slashes; a leading slash stands for
            the root.
        @return: the open file.
        @raise InvalidName: when the name can be none here, as with C{..} in it.
        @raise NotFound: when there is no such file.
        @raise Denied: when it may not be read, is a link, or is no regular file.
        """
        *parents, last = _parts(name)
        directory = self._descriptor
        try:
            for part in parents:
                below = os.open(part, _DIRECTORY, dir_fd=directory)
                self._closeBelow(directory)
                directory = below
            return _openRegular(last, directory)
        except OSError as error:
            raise _refusal(error) from error
        finally:
            self._closeBelow(directory)

    def close(self) -> None:
        """Give the root's descriptor back."""
        os.close(self._descriptor)

    def _closeBelow(self, directory: int) -> None:
        if directory != self._descriptor:
            os.close(directory)


def _parts(name: bytes) -> list[bytes]:
    if b"\0" in name:
        raise InvalidName("a name cannot hold a NUL byte.")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if not parts:
        raise InvalidName("give the name of a file.")
    if b".." in parts:
        raise InvalidName("a name cannot hold '..'.")
    if len(parts) > MAX_DEPTH:
        raise InvalidName(f"a name has at most {MAX_DEPTH} parts.")
    return parts


def _openRegular(name: bytes, directory: int) -> OpenFile:
    # Looked at before it is opened, as opening a device can already act on it.
    if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        raise Denied("only regular files are served, and no links.")
    descriptor = os.open(name, _FILE, dir_fd=directory)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise Denied("only regular files are served, and no links.")
    return OpenFile(descriptor, status.st_size)


def _refusal(error: OSError) -> Exception:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ENAMETOOLONG:
            return NotFound("there is no such file.")
        case errno.ELOOP:
            return Denied("only regular files are served, and no links.")
        case errno.EACCES | errno.EPERM:
            return Denied("the server may not read that file.")
        case _:
            return Denied(f"the file cannot be opened: {(error.strerror or '').lower()}.")
