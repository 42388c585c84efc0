"""
A file at this end that chunks are written into, in any order, each checked by its digest.

Where they come from is no concern of this module. The disk does one thing after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import Corrupted, LimitExceeded
from twisted_netsuite.files import chunk
from twisted_netsuite.files.digests import CHUNK, chunkLength, chunks, combined, digestOf
from twisted_netsuite.files.disk import Disk, Line
from twisted_netsuite.files.store import Attributes, Target
from twisted_netsuite.files.verified import MAX_FILE, missing, within
from twisted_netsuite.files.verified import Run as Run

T = TypeVar("T")


class Chunk(chunk.Chunk):
    """
    One chunk, and what was told of it.

    @ivar counted: how many of its bytes somebody was told to be in place.
    @ivar isForgotten: whether it comes from elsewhere, or once more.
    """

    counted = 0
    isForgotten = False


class Filling:
    """A file that is being written."""

    def __init__(self, disk: Disk, open: Callable[[], Target], size: int) -> None:
        """
        @param disk: does what blocks.
        @param open: begins the file; it blocks.
        @param size: its bytes.
        """
        self._line = Line(disk)
        self._open = open
        self._size = size
        self._target: Target | None = None
        self._why: Failure | None = None
        self._dirty: set[int] = set()
        self._closed = False

    def begin(self) -> Deferred[tuple[list[Run], int]]:
        """
        Begin the file, or go on with it; what is written at once waits for that.

        @return: fires with the chunks that are missing, and how many bytes are there; fails with
            L{LimitExceeded} when it is too large, or as L{Store.target} does, and so does then all
            that was given meanwhile.
        """
        return self._line.run(self._begin)

    def write(self, chunk: Chunk, pieces: list[bytes]) -> Deferred[int]:
        """
        Write a part of a chunk.

        @param chunk: which.
        @param pieces: what comes next of it.
        @return: fires with how many bytes are in place now that were not; fails with L{Corrupted}
            when the chunk is whole and wrong, or with L{StorageFailed}.
        """
        return self._line.run(lambda: self._write(chunk, pieces))

    def holes(self, first: int, count: int) -> Deferred[int]:
        """
        Let chunks be zeros.

        @param first: the first of them.
        @param count: how many.
        @return: fires with how many bytes are in place now that were not.
        """
        return self._line.run(lambda: self._holes(first, count))

    def publish(self) -> Deferred[tuple[Attributes, bytes]]:
        """
        Publish it; it is closed, also when that fails.

        @return: fires with what it is, and its digest; fails as L{Target.commit} does.
        """
        return self._line.run(self._publish)

    def end(self, keep: bool) -> Deferred[None]:
        """
        Give it up, once nothing of it is under way; what is over already stays as it is.

        @param keep: whether what is there is kept for another try.
        @return: fires when it is closed.
        """
        return self._line.run(lambda: self._end(keep))

    # What is done in a thread.

    def _begin(self) -> tuple[list[Run], int]:
        try:
            if self._size > MAX_FILE:
                raise LimitExceeded(
                    f"The file has {self._size} bytes; at most {MAX_FILE} can be fetched."
                )
            self._target = self._open()
        except BaseException:
            self._why = Failure()
            raise
        runs = missingRuns(chunks(self._size), self._target.verified)
        return runs, self._size - sum(self._bytes(*run) for run in runs)

    def _bytes(self, first: int, count: int) -> int:
        return min((first + count) * CHUNK, self._size) - first * CHUNK

    def _opened(self) -> Target:
        if self._target is None:
            assert self._why is not None, "It is begun first."
            self._why.raiseException()
        return self._target

    def _write(self, chunk: Chunk, pieces: list[bytes]) -> int:
        target = self._opened()
        if chunk.index not in target.verified:
            # Until all of it is there, and right.
            self._dirty.add(chunk.index)
        count = chunk.write(target, pieces)
        if chunk.index in target.verified:
            self._dirty.discard(chunk.index)
        return count

    def _holes(self, first: int, count: int) -> int:
        target = self._opened()
        runs = list(missing(target.verified, first, count))
        for run in runs:
            for index in within(*run):
                if index in self._dirty:
                    # Of another try to get it something was written that was no hole.
                    zeros = bytes(chunkLength(self._size, index))
                    target.write(index * CHUNK, [zeros])
                    target.chunkWritten(index, digestOf(zeros))
                    self._dirty.discard(index)
                else:
                    target.hole(index)
        return sum(self._bytes(*run) for run in runs)

    def _publish(self) -> tuple[Attributes, bytes]:
        target = self._opened()
        verified = target.verified
        try:
            digest = combined([verified[index] for index in range(chunks(self._size))])
        except KeyError as error:
            raise Corrupted(f"Chunk {error} has not come; fetch the file again.") from None
        self._closed = True
        return target.commit(digest), digest

    def _end(self, keep: bool) -> None:
        if self._target is None or self._closed:
            return
        self._closed = True
        if keep:
            self._target.keep()
        else:
            self._target.discard()


def missingRuns(count: int, there: Mapping[int, object]) -> list[Run]:
    """
    Find the chunks that are missing.

    @param count: how many the file has.
    @param there: those that are there.
    @return: the others, in order, as few runs as possible.
    """
    return list(missing(there, 0, count))
