"""
The chunks of one file, fetched over one or several sessions into a file at this end; beginning and
publishing that file is in L{files.getfile}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import ConnectionFailed, Corrupted, NetsuiteError
from twisted_netsuite.files.asking import Piece
from twisted_netsuite.files.client import FilesSession
from twisted_netsuite.files.digests import CHUNK
from twisted_netsuite.files.fetching import Getting
from twisted_netsuite.files.filling import Chunk, Filling, Run
from twisted_netsuite.files.messages import Body, Facts
from twisted_netsuite.files.moving import Moved, shown

#: Chunks that one session is asked for at a time, where there are several: enough that asking costs
#: nothing, and few enough that the slowest session does not keep the others waiting at the end.
SPAN = 16

#: Requests that one session has at a time: while one is answered the next is there already.
AHEAD = 2

#: Bytes that a HOLES counts for while it waits for the disk: what it takes in memory, and more.
HOLES_WEIGHT = 4096

#: Bytes that are written and digested at once: a whole chunk, as a client holds few of them, and
#: half as many ways to a thread cost it up to a fifth less CPU (docs/decisions/files-splice.md).
STEP = CHUNK


@dataclass
class _Range:
    """
    What one request is to bring.

    @ivar session: over which it comes.
    @ivar behind: the chunk behind the last.
    @ivar coming: the chunk that is coming, as far as it was not handed to the disk whole.
    """

    session: FilesSession
    behind: int
    coming: Chunk | None = None


class Download:
    """
    The chunks of a file, as they come.

    Which are missing is shared out among the sessions, and what one of them does not bring as it
    has ended is asked of the others. A chunk that is wrong is asked for once more.

    @ivar done: fires when all chunks are there; cancelling it stops everything. Fails with what the
        server says; with L{Corrupted}; with L{StorageFailed}; with L{ConnectionFailed} when no
        session is left.
    @ivar moved: bytes that have come.
    """

    def __init__(
        self,
        sessions: Sequence[FilesSession],
        name: bytes,
        facts: Facts,
        filling: Filling,
        moved: Moved,
    ) -> None:
        """
        @param sessions: at least one.
        @param name: the file.
        @param facts: what is known of it.
        @param filling: takes the chunks.
        @param moved: told of progress.
        """
        self.done: Deferred[None] = Deferred(lambda done: self._fail(CancelledError()))
        self.moved = 0
        self._sessions = sessions
        self._name = name
        self._facts = facts
        self._filling = filling
        self._onMoved = moved
        self._missing: deque[Run] = deque()
        self._asked: dict[Getting, _Range] = {}
        #: The chunk behind those that a request brings, or has brought, which was adopted.
        self._adopted = 0
        self._again: set[int] = set()
        self._begun = self._over = False
        self._writing = 0
        self._lost: NetsuiteError | None = None

    # What its owner calls.

    def adopt(self, got: Getting, session: FilesSession) -> None:
        """
        Take what a request brings that was sent before the file was known; before L{begin}.

        @param got: the request, of which the file was just found.
        @param session: over which it comes.
        """
        got.taker = self
        self._adopted = got.behind
        self._asked[got] = _Range(session, got.behind)

    def begin(self, missing: Sequence[Run]) -> None:
        """
        Ask for what is missing.

        @param missing: in order; what an adopted request brings may be in it.
        """
        self._begun = True
        for first, count in missing:
            behind = first + count
            # Also when it has ended by now: what it did not bring is among the missing already.
            first = max(first, self._adopted)
            if first < behind:
                self._missing.append((first, behind - first))
        self._share()

    def stop(self) -> None:
        """Want nothing more, if it has not ended."""
        self._fail(CancelledError())
        self.done.addErrback(lambda failure: None)

    # What the requests call.

    def found(self, got: Getting, facts: Facts) -> None:
        """It is the file that is known: it was asked for by its version."""

    def body(self, got: Getting, header: Body) -> Callable[[Piece], object]:
        """Gather a chunk's bytes in pieces for the disk."""
        range = self._asked[got]
        range.coming = chunk = Chunk(header.index, header.length, header.digest)
        pieces: list[bytes] = []
        held, left = 0, header.length

        def take(piece: Piece) -> None:
            nonlocal pieces, held, left
            pieces.append(bytes(piece))
            held += len(piece)
            left -= len(piece)
            if not left or held >= STEP:
                if not left:
                    range.coming = None
                step, count, pieces, held = pieces, held, [], 0
                self._write(range.session, chunk, step, count)

        return take

    def holes(self, got: Getting, first: int, count: int) -> None:
        """Note the holes."""
        session = self._asked[got].session
        self._writing += 1
        session.waits(HOLES_WEIGHT)
        noted = self._filling.holes(first, count)
        noted.addBoth(self._paid, session, HOLES_WEIGHT)
        noted.addCallbacks(self._holesNoted, self._notWritten)

    def finished(self, got: Getting, digest: bytes | None) -> None:
        """Ask for more; the digest of the whole is made of those of the chunks."""
        self._asked.pop(got, None)
        self._share()

    def failed(self, got: Getting, error: NetsuiteError) -> None:
        """Ask others for what this session does not bring any more."""
        range = self._asked.pop(got, None)
        if range is None or self._over:
            return
        if not got.isLost:
            self._fail(error)
            return
        self._lost = error
        first = got.next
        if range.coming is not None:
            first = range.coming.index
            self._forget(range.coming)
        if first < range.behind:
            self._missing.appendleft((first, range.behind - first))
        self._share()

    # What is behind that.

    def _share(self) -> None:
        """Ask each session for some of what is missing, in turns."""
        if not self._begun or self._over:
            return
        usable = [session for session in self._sessions if session.isOpen]
        for _ in range(AHEAD):
            for session in usable:
                if self._missing and self._askedOf(session) < AHEAD:
                    self._ask(session, len(usable) > 1)
        if self._missing and not self._asked:
            self._fail(
                self._lost or ConnectionFailed("No session is open any more; connect again.")
            )
        elif not self._missing and not self._asked and not self._writing:
            self._over = True
            self.done.callback(None)

    def _askedOf(self, session: FilesSession) -> int:
        return sum(range.session is session for range in self._asked.values())

    def _ask(self, session: FilesSession, shared: bool) -> None:
        first, count = self._missing.popleft()
        if shared and count > SPAN:
            self._missing.appendleft((first + SPAN, count - SPAN))
            count = SPAN
        got = Getting(session, self, self._name, first, count, self._facts.version)
        # Before it is asked: where the session is over, that is told at once.
        self._asked[got] = _Range(session, first + count)
        session.ask(got)

    def _write(self, session: FilesSession, chunk: Chunk, pieces: list[bytes], count: int) -> None:
        self.moved += count
        self._writing += 1
        session.waits(count)
        written = self._filling.write(chunk, pieces)
        written.addBoth(self._paid, session, count)
        written.addCallbacks(
            self._written, self._chunkFailed, callbackArgs=(chunk,), errbackArgs=(chunk,)
        )

    def _paid(self, result: int | Failure, session: FilesSession, count: int) -> int | Failure:
        session.waits(-count)
        return result

    def _written(self, count: int, chunk: Chunk) -> None:
        if not chunk.isForgotten:
            chunk.counted += count
            self._tell(count)
        self._writing -= 1
        self._share()

    def _holesNoted(self, count: int) -> None:
        self._tell(count)
        self._writing -= 1
        self._share()

    def _tell(self, count: int) -> None:
        if count and not self._over:
            self._onMoved(count)

    def _forget(self, chunk: Chunk) -> None:
        """What was told of a chunk that has to come again is taken back."""
        chunk.isForgotten = True
        self._tell(-chunk.counted)

    def _chunkFailed(self, failure: Failure, chunk: Chunk) -> None:
        """Ask for a wrong chunk once more; what fails otherwise, or again, is over."""
        if not failure.check(Corrupted) or chunk.index in self._again:
            self._notWritten(failure)
            return
        self._again.add(chunk.index)
        self._missing.appendleft((chunk.index, 1))
        self._forget(chunk)
        self._writing -= 1
        self._share()

    def _notWritten(self, failure: Failure) -> None:
        self._writing -= 1
        assert failure.value is not None
        error: BaseException = failure.value
        if isinstance(error, Corrupted):
            error = Corrupted(f"{shown(self._name)} came wrong, and once more: {error.sentence}")
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Stop everything, and tell why, once."""
        if self._over:
            return
        self._over = True
        asked, self._asked = self._asked, {}
        for got in asked:
            got.cancel()
        if not self.done.called:
            self.done.errback(error)
