"""
The bytes of a file of the local disk that is not whole yet: the room that it takes, what is written
to it, and its holes. Which of its chunks are right, and what it will be called, is not known here.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

from twisted_netsuite.errors import StorageFailed
from twisted_netsuite.files.digests import CHUNK, chunkLength, chunks
from twisted_netsuite.files.localsource import LocalSource
from twisted_netsuite.files.rereading import chunksWithData
from twisted_netsuite.files.root import shown
from twisted_netsuite.files.systemcalls import KEEP_SIZE, NOT_THERE, PUNCH_HOLE, fallocate
from twisted_netsuite.files.verified import missing

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

#: Pieces that one system call takes.
_IOV_MAX = 1024

#: Bytes that C{st_blocks} counts by, whatever the file system's own blocks are.
_BLOCK = 512

#: Bytes of zeros that are left out of what is written, where they begin at a multiple of that: to
#: leave out fewer would take more calls than it saves room.
HOLE = 64 * 1024

_ZEROS = bytes(HOLE)


def zeroRuns(offset: int, pieces: Sequence[bytes]) -> list[tuple[int, int]]:
    """
    Find zeros that need not be written. Of other data hardly more than one byte in L{HOLE} is
    looked at.

    @param offset: where the pieces begin in their file, in bytes.
    @param pieces: one behind the other.
    @return: where each run of zeros begins in the file, and how many bytes it has; in order.
    """
    runs: list[tuple[int, int]] = []
    starts = list(accumulate(map(len, pieces), initial=offset))
    for at in range(-(-offset // HOLE) * HOLE, starts[-1] - HOLE + 1, HOLE):
        number = bisect_right(starts, at) - 1
        skip = at - starts[number]
        if pieces[number][skip] or not _isZero(pieces, number, skip):
            continue
        if runs and sum(runs[-1]) == at:
            first, count = runs.pop()
            runs.append((first, count + HOLE))
        else:
            runs.append((at, HOLE))
    return runs


def _isZero(pieces: Sequence[bytes], number: int, skip: int) -> bool:
    """Tell whether there are L{HOLE} zeros in pieces from a place in one of them on."""
    left = HOLE
    while left:
        length = min(len(pieces[number]) - skip, left)
        if not pieces[number].startswith(_ZEROS[:length], skip):
            return False
        left -= length
        number, skip = number + 1, 0
    return True


def writeAll(file: int, pieces: Sequence[bytes | memoryview], offset: int) -> None:
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
        # Whether the file system can make holes, as far as is known.
        self._sparse = True

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

    def reserve(self, room: int | None, there: Mapping[int, object]) -> None:
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
        runs = list(missing(there, 0, chunks(self.size)))
        free, needed = self._free(wanted, sum(self._bytes(*run) for run in runs))
        if needed > free and room is not None:
            raise StorageFailed(
                f"{shown(self._name)} needs {needed} bytes more, and the disk has {free}; make "
                "some room there."
            )
        self.resize()
        if needed > free or wanted < self.size or not self.size:
            return
        try:
            # Not all of it: what is there may have holes of its own.
            for first, count in runs:
                fallocate(self.descriptor, 0, first * CHUNK, self._bytes(first, count))
        except OSError as error:
            if error.errno in _NO_ROOM:
                self.release(there)
                if room is not None:
                    raise
            elif error.errno not in NOT_THERE:
                raise

    def _bytes(self, first: int, count: int) -> int:
        return min((first + count) * CHUNK, self.size) - first * CHUNK

    def _free(self, wanted: int, left: int) -> tuple[int, int]:
        """Tell how much room there is, and how much is missing for what is left to write."""
        system = os.fstatvfs(self.descriptor)
        status = self.status()
        self._sized = status.st_size == self.size
        # Not every file system says how much it has.
        free = system.f_bavail * system.f_frsize if system.f_blocks else wanted
        return free, max(0, min(left, wanted - status.st_blocks * _BLOCK))

    def release(self, there: Mapping[int, object]) -> None:
        """
        Give the room back of all that is not there.

        @param there: the chunks that are.
        """
        for run in list(missing(there, 0, chunks(self.size))):
            self.punch(*run)

    def punch(self, first: int, count: int) -> None:
        """
        Let chunks be zeros that take no room.

        @param first: the first of them.
        @param count: how many.
        """
        length = self._bytes(first, count)
        if length <= 0:
            return
        try:
            fallocate(self.descriptor, PUNCH_HOLE | KEEP_SIZE, first * CHUNK, length)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            self._writeZeros(first, count)

    def _writeZeros(self, first: int, count: int) -> None:
        source = LocalSource(self.descriptor, self.status(), self._name)
        for index in chunksWithData(source, first, count):
            zeros = bytes(chunkLength(self.size, index))
            writeAll(self.descriptor, [zeros], index * CHUNK)

    def write(self, offset: int, pieces: Sequence[bytes]) -> None:
        """
        Write; long runs of zeros become holes, whatever was there.

        @param offset: where, in bytes.
        @param pieces: what, one behind the other.
        """
        runs = zeroRuns(offset, pieces) if self._sparse else []
        if not runs:
            writeAll(self.descriptor, pieces, offset)
            return
        # What is left out at the end is to be there nevertheless.
        self.resize()
        data = memoryview(b"".join(pieces))
        at = 0
        for first, count in runs:
            if self._leaveOut(first, count):
                self._writePart(offset + at, data[at : first - offset])
                at = first - offset + count
        self._writePart(offset + at, data[at:])

    def _writePart(self, offset: int, data: memoryview) -> None:
        if data:
            writeAll(self.descriptor, [data], offset)

    def _leaveOut(self, start: int, length: int) -> bool:
        """Make a hole, where that can be; else zeros have to be written."""
        try:
            fallocate(self.descriptor, PUNCH_HOLE | KEEP_SIZE, start, length)
        except OSError as error:
            if error.errno not in _NO_ROOM + NOT_THERE:
                raise
            # A full disk may have no room for the note of a hole; there is some for the bytes.
            self._sparse = self._sparse and error.errno not in NOT_THERE
            return False
        return True
