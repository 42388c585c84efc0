"""
A file of the local disk that is open for reading, and what is known of it; how it was found is not
seen here.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from hashlib import blake2b

from twisted_netsuite.errors import NetsuiteError, SourceChanged
from twisted_netsuite.files.digests import CHUNK, chunkLength, digestOf
from twisted_netsuite.files.root import refusal, shown
from twisted_netsuite.files.store import Attributes

#: What peers may know and set of a mode: not setuid, setgid and the sticky bit.
PERMISSIONS = 0o777

_VERSION = struct.Struct("=QQqqq").pack

_FIRST, _LAST = -(2**63), 2**63 - 1

#: Bytes that C{st_blocks} counts by, whatever the file system's own blocks are.
_BLOCK = 512

#: What file systems answer that cannot tell where holes are.
_NO_HOLES = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


def told(nanoseconds: int) -> int:
    """
    Bring a time into what is told of files, which ends in 2262; disks can have later ones.

    @param nanoseconds: since 1970.
    @return: the same, or the first or last that 64 bits hold.
    """
    if _FIRST <= nanoseconds <= _LAST:
        return nanoseconds
    return _FIRST if nanoseconds < 0 else _LAST


def attributesOf(status: os.stat_result) -> Attributes:
    """
    Say what is known of a file or directory.

    The version is made of what changes with the contents: whoever sets the time of change back
    still changes C{st_ctime}. On kernels before 6.13, which count time in steps of some
    milliseconds, two changes within one step look like one.

    @param status: of a regular file or a directory.
    @return: the same in the words of stores.
    """
    mtime, changed = told(status.st_mtime_ns), told(status.st_ctime_ns)
    version = blake2b(
        _VERSION(status.st_dev, status.st_ino, status.st_size, mtime, changed),
        digest_size=16,
    ).digest()
    mode = status.st_mode & PERMISSIONS
    if stat.S_ISDIR(status.st_mode):
        return Attributes("directory", 0, mtime, mode, version)
    size, taken = status.st_size, status.st_blocks * _BLOCK
    room = taken if size > CHUNK and taken < size else None
    return Attributes("file", size, mtime, mode, version, room)


def isUnchanged(then: os.stat_result, now: os.stat_result) -> bool:
    """
    Tell whether a file still has the contents that it had.

    One that was replaced or linked meanwhile, or got other permissions, has: C{st_ctime} counts
    only where none of that explains it.

    @param then: what was known of it.
    @param now: what is known of it.
    @return: whether all that was read in between is of one version.
    """
    if now.st_mtime_ns != then.st_mtime_ns or now.st_size != then.st_size:
        return False
    return now.st_ctime_ns == then.st_ctime_ns or _owned(now) != _owned(then)


class LocalSource:
    """
    A regular file that is open for reading.

    It is read by C{pread} and never mapped: a mapped file that somebody cuts kills the process,
    and was not faster.

    @ivar attributes: what it was when it was opened.
    @ivar descriptor: of the file, until this is closed.
    @ivar room: bytes that it takes on the disk, without its holes, and no more than its size.
    """

    def __init__(self, descriptor: int, status: os.stat_result, name: bytes) -> None:
        """
        @param descriptor: of the file; it belongs to this from here on.
        @param status: what it was when it was opened.
        @param name: what it was asked for by.
        """
        self.attributes = attributesOf(status)
        self.descriptor: int | None = descriptor
        self._descriptor = descriptor
        self.room = min(status.st_size, status.st_blocks * _BLOCK)
        self._status = status
        self._name = name
        #: Data that was found last: the system goes through all pages of a run of it each time.
        self._found = (0, self.attributes.size if _isDense(status) else 0)

    def read(self, offset: int, count: int) -> bytes:
        """
        Read.

        @param offset: where it begins, in bytes.
        @param count: bytes.
        @return: all of them.
        @raise SourceChanged: when it has become shorter.
        @raise StorageFailed: when the disk fails.
        """
        data = self._readSome(offset, count)
        if len(data) == count:
            return data
        # The system gives less at the end, and 2 GiB at the most.
        pieces = [data]
        missing = count - len(data)
        while missing:
            data = self._readSome(offset + count - missing, missing)
            if not data:
                raise SourceChanged(
                    f"{shown(self._name)} has become shorter while it was read; get it again."
                )
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)

    def _readSome(self, offset: int, count: int) -> bytes:
        try:
            return os.pread(self._descriptor, count, offset)
        except OSError as error:
            raise self._refusal(error) from error

    def digest(self, index: int) -> bytes:
        """
        Digest a chunk; after that its bytes are in memory, as far as the system keeps them there.

        @param index: which.
        @return: its digest.
        @raise SourceChanged: when the file has become shorter.
        """
        return digestOf(self.read(index * CHUNK, chunkLength(self.attributes.size, index)))

    def data(self, offset: int) -> tuple[int, int]:
        """
        Find what is no hole.

        @param offset: where to begin.
        @return: where data begins, at or behind it, and where that ends; twice the file's size when
            there is no more.
        """
        size = self.attributes.size
        if offset >= size:
            return size, size
        if self._found[0] <= offset < self._found[1]:
            return offset, self._found[1]
        try:
            start = os.lseek(self._descriptor, offset, os.SEEK_DATA)
            if start >= size:
                return size, size
            self._found = start, min(size, os.lseek(self._descriptor, start, os.SEEK_HOLE))
            return self._found
        except OSError as error:
            if error.errno == errno.ENXIO:  # No more data, or nothing at all any more.
                return size, size
            if error.errno in _NO_HOLES:
                return offset, size
            raise self._refusal(error) from error

    def unchanged(self) -> bool:
        """
        Tell whether it is still what it was when it was opened.

        @return: whether all that was read is of one version.
        """
        return isUnchanged(self._status, os.fstat(self._descriptor))

    def close(self) -> None:
        """Let it go."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _refusal(self, error: OSError) -> NetsuiteError:
        return refusal(error, self._name)


def _isDense(status: os.stat_result) -> bool:
    """Tell whether it takes as much room as it has bytes: then no holes are worth a look."""
    return status.st_blocks * _BLOCK >= status.st_size


def _owned(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_nlink, status.st_mode, status.st_uid, status.st_gid
