"""
The chunks of a file at this end that are to be sent: each digested before it is, and given to
whoever sends next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.files.digests import CHUNK, ZEROS, chunkLength, chunks, combined, digestOf
from twisted_netsuite.files.disk import Disk, Line
from twisted_netsuite.files.filling import Run, missingRuns
from twisted_netsuite.files.store import Source


@dataclass(frozen=True)
class Piece:
    """
    The next that is to be sent.

    @ivar first: a chunk.
    @ivar holes: how many chunks from there on hold nothing but zeros; 0 for a chunk that does not.
    @ivar digest: that chunk's.
    @ivar data: its bytes, where they were read.
    """

    first: int
    holes: int = 0
    digest: bytes = b""
    data: bytes = b""

    @property
    def run(self) -> Run:
        """Tell which chunks these are."""
        return self.first, max(1, self.holes)


class Supply:
    """
    What is missing of a file at the other end.

    @ivar source: the file.
    @ivar size: its bytes.
    """

    def __init__(self, disk: Disk, source: Source) -> None:
        """
        @param disk: does what blocks.
        @param source: the file, which is closed here.
        """
        self.source = source
        self.size = source.attributes.size
        self._line = Line(disk)
        self._missing: deque[Run] = deque()
        self._digests: dict[int, bytes] = {}
        self._zeros: list[Run] = []
        self._waiting: deque[tuple[bool, Deferred[Piece | None]]] = deque()
        self._looking = False

    def begin(self, have: dict[int, bytes]) -> int:
        """
        Find what is missing.

        @param have: the digests of what is not.
        @return: how many bytes that is.
        """
        self._missing = deque(missingRuns(chunks(self.size), have))
        self._digests = dict(have)
        self._zeros = []
        return sum(chunkLength(self.size, index) for index in have)

    @property
    def left(self) -> int:
        """How many chunks nobody has taken yet."""
        return sum(count for _, count in self._missing)

    @property
    def holes(self) -> int:
        """How many bytes lie in holes."""
        return sum(sizeOf(self.size, run) for run in self._zeros)

    def next(self, reads: bool) -> Deferred[Piece | None]:
        """
        Take what is to be sent next.

        @param reads: whether its bytes are wanted, as the kernel cannot send them by itself.
        @return: fires with it, and with C{None} when nothing is left.
        """
        wanted: Deferred[Piece | None] = Deferred()
        self._waiting.append((reads, wanted))
        if not self._looking:
            self._look()
        return wanted

    def giveBack(self, run: Run) -> None:
        """
        Let somebody else send what was not taken by the server, or may not have been.

        @param run: which chunks.
        """
        self._missing.append(run)

    def leave(self, coming: Deferred[Piece | None]) -> None:
        """
        Let somebody else have what was asked for.

        @param coming: what L{next} has returned.
        """
        coming.addCallback(lambda piece: None if piece is None else self.giveBack(piece.run))
        coming.addErrback(lambda failure: None)

    def run(self, work: Callable[[], bool]) -> Deferred[bool]:
        """
        Do something with the file, after all that was asked for.

        @param work: what; it blocks.
        @return: fires with what it returns.
        """
        return self._line.run(work)

    def read(self, offset: int, count: int) -> Deferred[bytes]:
        """
        Read some of it.

        @param offset: from where.
        @param count: bytes.
        @return: fires with them.
        """
        return self._line.run(partial(self.source.read, offset, count))

    def close(self) -> Deferred[None]:
        """
        Close the file, after all that was asked for.

        @return: fires then.
        """
        return self._line.run(self.source.close)

    def digest(self) -> Deferred[bytes]:
        """
        Tell the digest of the whole, once nothing is left.

        @return: fires with it.
        """
        return self._line.run(self._combined)

    def _look(self) -> None:
        """One after the other, as holes may take in what would be the next one's."""
        while self._waiting and not self._looking:
            reads, wanted = self._waiting.popleft()
            if not self._missing:
                wanted.callback(None)
                continue
            run = self._missing.popleft()
            self._looking = True
            looked = self._line.run(partial(pieceOf, self.source, self.size, *run, reads))
            looked.addCallbacks(
                self._found, self._notFound, callbackArgs=(run,), errbackArgs=(run,)
            )
            looked.addBoth(self._give, wanted)

    def _found(self, piece: Piece, run: Run) -> Piece:
        first, count = piece.run
        if piece.holes:
            self._zeros.append(piece.run)
        else:
            self._digests[first] = piece.digest
        if run[1] > count:
            self._missing.appendleft((first + count, run[1] - count))
        return piece

    def _notFound(self, failure: Failure, run: Run) -> Failure:
        self._missing.appendleft(run)
        return failure

    def _give(self, result: Piece | Failure, wanted: Deferred[Piece | None]) -> None:
        self._looking = False
        if not wanted.called:
            wanted.callback(result)
        self._look()

    def _combined(self) -> bytes:
        digests, size = self._digests, self.size
        for first, count in self._zeros:
            for index in range(first, first + count):
                digests[index] = zerosDigest(size, index)
        return combined([digests[index] for index in range(chunks(size))])


def pieceOf(source: Source, size: int, first: int, count: int, reads: bool) -> Piece:
    """
    Look at a chunk, and see how many holes begin there; blocks.

    @param source: the file.
    @param size: its bytes.
    @param first: the chunk.
    @param count: how many from there on are wanted.
    @param reads: whether to read it, too.
    @return: what is to be sent.
    """
    start = first * CHUNK
    if size:
        data, _ = source.data(start)
        holes = count if data >= size else min(count, data // CHUNK - first)
        if holes > 0:
            return Piece(first, holes)
    if not reads:
        return Piece(first, digest=source.digest(first))
    found = source.read(start, chunkLength(size, first))
    return Piece(first, digest=digestOf(found), data=found)


def zerosDigest(size: int, index: int) -> bytes:
    """
    Digest a chunk that is a hole.

    @param size: bytes of the file.
    @param index: which chunk.
    @return: its digest.
    """
    length = chunkLength(size, index)
    return ZEROS if length == CHUNK else digestOf(bytes(length))


def sizeOf(size: int, run: Run) -> int:
    """
    Tell how many bytes some chunks have.

    @param size: those of the file.
    @param run: the chunks.
    @return: their bytes.
    """
    first, count = run
    return (count - 1) * CHUNK + chunkLength(size, first + count - 1)
