"""
The bytes of a file of the local disk that is not whole yet: the room that it takes, what is written
to it, and its holes. Which of its chunks are right, and what it will be called, is not known here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection

from twisted_netsuite.errors import StorageFailed
from twisted_netsuite.files.digests import CHUNK, chunkLength, chunks
from twisted_netsuite.files.localsource import LocalSource
from twisted_netsuite.files.root import shown
from twisted_netsuite.files.systemcalls import KEEP_SIZE, NOT_THERE, PUNCH_HOLE, fallocate

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

#: Pieces that one system call takes.
_IOV_MAX = 1024

#: Bytes that C{st_blocks} counts by, whatever the file system's own blocks are.
_BLOCK = 512


def writeAll(file: int, pieces: list[bytes], offset: int) -> None:
    """
    Write, also where the system takes less at once.

    @param file: a descriptor.
    @param pieces: what to write, one behind the other.
    @param offset: where, in bytes.
    @raise OSError: from the system.
    """
    if len(pieces) > _IOV_MAX:
        pieces = [b"".join(pieces)]
    written = os.pwritev(file, pieces, offset)
    missing = sum(map(len, pieces)) - written
    while missing:
        offset += written
        written = os.pwrite(file, b"".join(pieces)[-missing:], offset)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        missing -= written


class PartialFile:
    """
    A file that is not whole yet. All of it raises C{OSError} from the system.

    @ivar descriptor: of the file, which stays its owner's.
    @ivar size: bytes that it will have.
    """

    def __init__(self, descriptor: int, size: int, name: bytes) -> None:
        """
        @param descriptor: of the file.
        @param size: bytes that it will have.
        @param name: what it will be called, for people.
        """
        self.descriptor = descriptor
        self.size = size
        self._name = name
        # Whether it has its size; a small one has it once it is written.
        self._sized = False

    def status(self) -> os.stat_result:
        """
        Look at it.

        @return: what the system knows of it.
        """
        return os.fstat(self.descriptor)

    def resize(self) -> None:
        """Give it the size that it will have."""
        if not self._sized:
            os.ftruncate(self.descriptor, self.size)
            self._sized = True

    def reserve(self, room: int | None, there: Collection[int]) -> None:
        """
        Take the room that it needs, so that it does not run out in the middle.

        What has holes is not to take more room than it needs, and whether a file has some is not
        known before they come: where there is room for it as if it had none that is taken, and each
        hole gives back its own; where not, it is written without.

        @param room: bytes that it takes without its holes; C{None} when that is not known.
        @param there: the chunks that are there already.
        @raise StorageFailed: when it is known that there is not room enough.
        """
        wanted = self.size if room is None else room
        free, missing = self._free(wanted)
        if missing > free and room is not None:
            raise StorageFailed(
                f"{shown(self._name)} needs {missing} bytes more, and the disk has {free}; make "
                "some room there."
            )
        self.resize()
        if missing > free or wanted < self.size or not self.size:
            return
        try:
            fallocate(self.descriptor, 0, 0, self.size)
        except OSError as error:
            if error.errno in _NO_ROOM:
                self.release(there)
                if room is not None:
                    raise
            elif error.errno not in NOT_THERE:
                raise

    def _free(self, wanted: int) -> tuple[int, int]:
        """Tell how much room there is, and how much is missing."""
        system = os.fstatvfs(self.descriptor)
        status = self.status()
        self._sized = status.st_size == self.size
        # Not every file system says how much it has.
        free = system.f_bavail * system.f_frsize if system.f_blocks else wanted
        return free, max(0, wanted - status.st_blocks * _BLOCK)

    def release(self, there: Collection[int]) -> None:
        """
        Give the room back of all that is not there.

        @param there: the chunks that are.
        """
        at = 0
        for index in (*sorted(there), chunks(self.size)):
            if index > at:
                self.punch(at, index - at)
            at = index + 1

    def punch(self, first: int, count: int) -> None:
        """
        Let chunks be zeros that take no room.

        @param first: the first of them.
        @param count: how many.
        """
        start = first * CHUNK
        length = min(count * CHUNK, self.size - start)
        if length <= 0:
            return
        try:
            fallocate(self.descriptor, PUNCH_HOLE | KEEP_SIZE, start, length)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            self._writeZeros(first, count)

    def _writeZeros(self, first: int, count: int) -> None:
        source = LocalSource(self.descriptor, self.status(), self._name)
        for index in range(first, first + count):
            length = chunkLength(self.size, index)
            if source.data(index * CHUNK)[0] < index * CHUNK + length:
                self.write(index * CHUNK, [bytes(length)])

    def write(self, offset: int, pieces: list[bytes]) -> None:
        """
        Write.

        @param offset: where, in bytes.
        @param pieces: what, one behind the other.
        """
        writeAll(self.descriptor, pieces, offset)
