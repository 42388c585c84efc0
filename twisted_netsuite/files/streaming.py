"""
One file, fetched into a consumer: in order, and each chunk verified before any of it is handed on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from blake3 import blake3
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from twisted_netsuite.errors import ConnectionFailed, Corrupted, NetsuiteError
from twisted_netsuite.files.asking import Piece
from twisted_netsuite.files.client import MAX_DEBT, FilesSession, leastBusy
from twisted_netsuite.files.digests import CHUNK, ZEROS, chunkLength, chunks, combined, digestOf
from twisted_netsuite.files.fetching import Getting
from twisted_netsuite.files.messages import Body, Facts
from twisted_netsuite.files.moving import Got, Moved, shown

#: Chunks of zeros that are handed on before other work of the process gets its turn.
ZEROS_A_TURN = 4

_ZEROS = bytes(CHUNK)


class IBreakable(IConsumer):
    """
    Takes the end of what it gets for the end of all: so it has to know when that was not all.
    """

    def breakOff(error: BaseException) -> None:
        """
        Take nothing more, and do not take what has come for the whole.

        @param error: why.
        """


@implementer(IPushProducer)
class Streaming:
    """
    A file that is fetched in order, over one session at a time.

    Where that ends, another goes on with the first chunk that was not handed on.

    @ivar done: fires when all was handed on; cancelling it breaks it off.
    """

    def __init__(
        self,
        sessions: Sequence[FilesSession],
        name: bytes,
        consumer: IConsumer,
        facts: Facts | None,
        moved: Moved,
    ) -> None:
        """
        @param sessions: of one server, at least one.
        @param name: the file there.
        @param consumer: gets it.
        @param facts: what is known of it, if it is; then it has to be that version.
        @param moved: told of progress.
        """
        self.done: Deferred[Got] = Deferred(lambda done: self._fail(CancelledError()))
        self._sessions = sessions
        self._name = name
        self._consumer = consumer
        self._facts = facts
        self._onMoved = moved
        self._got: Getting | None = None
        self._session: FilesSession | None = None
        self._digests: list[bytes] = []
        self._wrong = -1
        self._came = 0
        self._zeros = 0
        self._paused = self._held = self._over = self._looping = False
        self._ended = False

    def start(self) -> None:
        """
        Ask for it, once the consumer takes it. What that raises, or that no session is open, fails
        what is waited for.
        """
        try:
            # A consumer that wants nothing any more says so here, or goes on at once.
            self._consumer.registerProducer(self, True)
        except Exception as error:
            self._over = True
            self.done.errback(error)
            return
        if self._over:
            return
        try:
            self._ask()
        except NetsuiteError as error:
            self._fail(error)

    # What the consumer calls.

    def pauseProducing(self) -> None:
        """Hand nothing on; the server waits."""
        self._paused = True
        self._balance()

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        self._go()

    def stopProducing(self) -> None:
        """Nobody takes it any more."""
        self._fail(ConnectionFailed("Who was to take the file takes nothing any more."))

    # What the request calls.

    def found(self, got: Getting, facts: Facts) -> None:
        """Note what it is."""
        self._facts = facts

    def body(self, got: Getting, header: Body) -> Callable[[Piece], object]:
        """Take a chunk, and hand it on when it is whole and right."""
        pieces: list[bytes] = []
        hashed = blake3()
        left = header.length

        def take(piece: Piece) -> None:
            nonlocal left
            data = bytes(piece)
            pieces.append(data)
            hashed.update(data)
            left -= len(data)
            if left:
                return
            self._came += header.length
            if hashed.digest() == header.digest:
                self._digests.append(header.digest)
                self._hand(pieces, header.length)
            else:
                self._refuse(got, header.index)

        return take

    def holes(self, got: Getting, first: int, count: int) -> None:
        """Hand zeros on, as fast as they are taken."""
        self._zeros += count
        self._go()

    def finished(self, got: Getting, digest: bytes | None) -> None:
        """All has come, and it has not changed meanwhile."""
        self._got, self._ended = None, True
        self._go()

    def failed(self, got: Getting, error: NetsuiteError) -> None:
        """Go on over another session, if it is this one that has ended."""
        self._got = None
        if self._over:
            return
        if not got.isLost:
            self._fail(error)
            return
        try:
            self._ask()
        except NetsuiteError:
            self._fail(error)

    # What is behind that.

    def _ask(self) -> None:
        self._release()
        self._session = session = leastBusy(self._sessions)
        if not session.isOpen:
            raise ConnectionFailed("No session is open any more; connect again.")
        version = None if self._facts is None else self._facts.version
        first = len(self._digests) + self._zeros
        self._got = Getting(session, self, self._name, first, None, version)
        self._balance()
        session.ask(self._got)

    def _hand(self, pieces: list[bytes], count: int) -> None:
        for piece in pieces:
            if self._over:
                return
            try:
                self._consumer.write(piece)
            except Exception as error:
                # It is called where bytes come, and the session is not to end with it.
                self._fail(error)
        if not self._over:
            self._onMoved(count)

    def _refuse(self, got: Getting, index: int) -> None:
        """Ask for a wrong chunk once more."""
        got.cancel()
        self._got = None
        if index == self._wrong:
            self._fail(Corrupted(f"{shown(self._name)} came wrong, and chunk {index} once more."))
            return
        self._wrong = index
        try:
            self._ask()
        except NetsuiteError as error:
            self._fail(error)

    def _go(self) -> None:
        """Hand on the zeros that were due, some in each turn, and what has waited behind them."""
        if self._looping or self._over:
            return
        for _ in range(ZEROS_A_TURN):
            if self._paused or not self._zeros or self._over:
                break
            self._zero()
        if self._zeros and not self._paused and not self._over and self._session is not None:
            self._looping = True
            self._session.clock.callLater(0, self._goOn)
        self._balance()
        if self._ended and not self._zeros and not self._over:
            self._finish()

    def _goOn(self) -> None:
        self._looping = False
        self._go()

    def _zero(self) -> None:
        assert self._facts is not None, "FOUND comes first."
        length = chunkLength(self._facts.size, len(self._digests))
        zeros = _ZEROS[:length]
        self._zeros -= 1
        self._digests.append(ZEROS if length == CHUNK else digestOf(zeros))
        self._hand([zeros], length)

    def _balance(self) -> None:
        """Make the server wait while what has come cannot be handed on."""
        held = (self._paused or self._zeros > 0) and not self._over
        if held != self._held and self._session is not None:
            self._held = held
            self._session.waits(MAX_DEBT + 1 if held else -MAX_DEBT - 1)

    def _release(self) -> None:
        if self._held and self._session is not None:
            self._held = False
            self._session.waits(-MAX_DEBT - 1)

    def _finish(self) -> None:
        assert self._facts is not None, "FOUND comes first."
        assert len(self._digests) == chunks(self._facts.size), "DONE comes when all has come."
        self._end()
        self._consumer.unregisterProducer()
        facts, came = self._facts, self._came
        digest = combined(self._digests)
        self.done.callback(Got(facts, digest, came, max(0, facts.size - came)))

    def _fail(self, error: BaseException) -> None:
        if self._over:
            return
        self._end()
        # A file may turn out to have changed when all of it was handed on.
        if IBreakable.providedBy(self._consumer):
            cast(Any, self._consumer).breakOff(error)
        self._consumer.unregisterProducer()
        self.done.errback(error)

    def _end(self) -> None:
        self._over = True
        self._release()
        if self._got is not None:
            self._got.cancel()
            self._got = None
