"""
One file, sent as a producer writes it and published when all of it has come; nothing of it is kept
at this end, so that what has failed is written anew from its beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IProducer, IPullProducer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.errors import ConnectionFailed, NetsuiteError, SourceChanged
from twisted_netsuite.files.client import FilesSession, leastBusy
from twisted_netsuite.files.digests import CHUNK, chunkLength, chunks, combined, digestOf
from twisted_netsuite.files.disk import Disk
from twisted_netsuite.files.moving import Moved, Sent, Unconfirmed, shown
from twisted_netsuite.files.offering import Putting, putRecord
from twisted_netsuite.files.putfile import requireAgreed
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.files.streaming import IBreakable
from twisted_netsuite.files.supply import zerosDigest

T = TypeVar("T")

#: Bytes that were written and have not left, from which on the producer pauses: a chunk that is
#: sent, and the next, digested by then. With what comes before it has paused, or is joined in a
#: thread, there are three.
MAX_HELD = 2 * CHUNK

#: How often a pull producer is asked before other work of the process gets its turn: 1 MiB of what
#: Twisted's C{FileSender} gives at a time.
ASKED_A_TURN = 64

_ZEROS = bytes(CHUNK)

#: A chunk and its digest; without bytes where all of them are zeros.
_Digested = tuple[bytes | None, bytes]


class _Watched(Putting):
    """Tells at once that it has failed, also while nobody waits for it."""

    onFailed: Callable[[NetsuiteError], object] = staticmethod(lambda error: None)

    def failed(self, error: NetsuiteError) -> None:
        super().failed(error)
        self.onFailed(error)


@implementer(IBreakable)
class PutStream:
    """
    A file that is sent while it is written.

    C{write} takes its bytes, with or without a producer, and C{unregisterProducer} says that these
    were all. While more than two chunks wait to be sent, the producer pauses; who writes without
    one keeps measure alone.

    @ivar done: fires when the file is published; cancelling it breaks it off.
    """

    log = Logger()

    def __init__(
        self,
        sessions: Sequence[FilesSession],
        name: bytes,
        wanted: Wanted,
        disk: Disk,
        moved: Moved,
    ) -> None:
        """
        @param sessions: of one server, at least one; one is used.
        @param name: what it is to be there.
        @param wanted: what will be published; nothing of it is kept for another try.
        @param disk: digests what is written, apart from the reactor.
        @param moved: told of progress.
        """
        self.done: Deferred[Sent] = Deferred(lambda done: self.breakOff(CancelledError()))
        self._sessions = sessions
        self._name = name
        self._wanted = wanted
        self._disk = disk
        self._onMoved = moved
        self._session: FilesSession
        self._put: _Watched | None = None
        self._producer: IProducer | None = None
        self._streaming = self._paused = self._asked = self._pulling = False
        self._turn: IDelayedCall | None = None
        # What was written: the chunk that grows, the whole ones, and the digested ones.
        self._came = self._held = 0
        self._growing = bytearray()
        self._whole: deque[bytearray] = deque()
        self._digested: deque[_Digested] = deque()
        self._digesting = False
        self._cut = 0
        self._ended = self._over = False
        # What the sending waits for, and what has broken it off.
        self._awaited: Deferred[Any] | None = None
        self._waiter: Deferred[None] | None = None
        self._broken: BaseException | None = None
        # What it is, once COMMIT was sent.
        self._sent: Sent | None = None

    def start(self) -> None:
        """
        Begin.

        @raise ConnectionFailed: when no session is open.
        """
        self._session = self._choose()
        # It tells all in `done`.
        Deferred.fromCoroutine(self._run())

    # What the producer calls.

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Have somebody write the file.

        @param producer: who; told to stop when the file is not wanted any more.
        @param streaming: whether it writes until it is paused; else it is asked each time.
        @raise RuntimeError: when somebody does already, or all was written.
        """
        if self._producer is not None or (self._ended and not self._over):
            raise RuntimeError("This file has a producer, or is whole; it takes no other.")
        if self._over or self._broken is not None:
            producer.stopProducing()
            return
        self._producer, self._streaming = producer, streaming
        self._paused = self._asked = False
        self._balance()

    def unregisterProducer(self) -> None:
        """Say that all was written: the file is published, if it is what was promised."""
        self._producer = None
        if self._ended or self._over or self._broken is not None:
            return
        self._ended = True
        size = self._wanted.size
        if self._came < size:
            self.breakOff(self._unlike(f"only {self._came} came"))
            return
        if not size:
            self._whole.append(self._growing)
            self._digest()
        self._wake()

    def write(self, data: bytes) -> None:
        """
        Take some of the file; what comes after it has failed is dropped.

        @param data: what comes next.
        @raise RuntimeError: when it was said that all was written.
        """
        if self._over or self._broken is not None:
            return
        if self._ended:
            raise RuntimeError("All of this file was written; it takes no more.")
        self._asked = False
        self._came += len(data)
        self._held += len(data)
        if self._came > self._wanted.size:
            self.breakOff(self._unlike("more came"))
            return
        self._gather(memoryview(data))
        self._balance()

    def breakOff(self, error: BaseException) -> None:
        """
        Publish nothing: what was to be written is not all to come.

        @param error: why, for whoever waits for L{done}.
        """
        if self._over or self._broken is not None:
            return
        self._broken = error
        if self._awaited is not None:
            self._awaited.cancel()

    # What comes in.

    def _gather(self, data: memoryview) -> None:
        """Cut what is written into chunks."""
        size = self._wanted.size
        at = 0
        while at < len(data):
            missing = chunkLength(size, self._cut) - len(self._growing)
            self._growing += data[at : at + missing]
            at += missing
            if len(self._growing) == chunkLength(size, self._cut):
                self._whole.append(self._growing)
                self._growing = bytearray()
                self._cut += 1
        self._digest()

    def _digest(self) -> None:
        """Have the next chunk digested, one at a time: they are sent in order."""
        if self._digesting or not self._whole or self._over:
            return
        self._digesting = True
        chunk = self._whole.popleft()
        self._disk.run(_digested, chunk).addCallbacks(self._wasDigested, self._wasNot)

    def _wasDigested(self, found: _Digested) -> None:
        self._digesting = False
        if not self._over:
            self._digested.append(found)
            self._digest()
            self._wake()

    def _wasNot(self, failure: Failure) -> None:
        assert failure.value is not None, "A failure has an exception."
        self.breakOff(failure.value)

    def _balance(self) -> None:
        """Have the producer write as long as not too much waits."""
        if self._producer is None or self._broken is not None:
            return
        full = self._held >= MAX_HELD
        try:
            if not self._streaming:
                self._pull()
            elif full != self._paused:
                self._paused = full
                producer = cast(IPushProducer, self._producer)
                if full:
                    producer.pauseProducing()
                else:
                    producer.resumeProducing()
        except Exception as error:
            # It is called where a session ends its work, which is not to suffer from it.
            self.breakOff(error)

    def _pull(self) -> None:
        """Ask a pull producer, as often as it answers, some times in each turn."""
        if self._pulling or self._turn is not None:
            return
        self._pulling = True
        try:
            for _ in range(ASKED_A_TURN):
                if not self._wantsMore():
                    return
                self._asked = True
                cast(IPullProducer, self._producer).resumeProducing()
        finally:
            self._pulling = False
        if self._wantsMore():
            self._turn = self._session.clock.callLater(0, self._goOn)

    def _wantsMore(self) -> bool:
        return (
            self._producer is not None
            and self._broken is None
            and not self._asked
            and self._held < MAX_HELD
        )

    def _goOn(self) -> None:
        self._turn = None
        self._balance()

    # What goes out.

    async def _run(self) -> None:
        """Send it, and tell how that ended."""
        try:
            sent = await self._send()
        except Exception:
            self._end()
            if not self.done.called:
                self.done.errback(Failure())
        else:
            self._end()
            self.done.callback(sent)

    async def _send(self) -> Sent:
        try:
            sending = self._sendOnlyChunk if self._wanted.size <= CHUNK else self._sendChunks
            put, sent = await sending()
            done = await self._wait(Deferred.fromCoroutine(put.whenDone()))
        except NetsuiteError as error:
            if self._put is None or self._sent is None or not self._put.isLost:
                raise
            raise Unconfirmed(
                f"Whether {shown(self._name)} was published is not known: {error.sentence}",
                self._name,
                self._sent,
            ) from None
        requireAgreed(done, sent)
        return replace(sent, facts=done.facts)

    async def _sendOnlyChunk(self) -> tuple[Putting, Sent]:
        """Send it once it is whole, with all that belongs to it."""
        data, digest = await self._next()
        await self._whenWritten()
        size = self._wanted.size
        # The one from the beginning may have ended meanwhile.
        self._session = self._choose()
        put = self._ask(True)
        await self._wait(Deferred.fromCoroutine(put.whenBegun()))
        if data is None:
            # What follows at once is no hole.
            data, digest = bytes(size), zerosDigest(size, 0)
        going = put.startBody(0, size, digest, data)
        sent = self._commit(put, digest, 0)
        await self._leaving(put, going)
        self._left(size)
        return put, sent

    async def _sendChunks(self) -> tuple[Putting, Sent]:
        size = self._wanted.size
        put = self._ask(False)
        await self._wait(Deferred.fromCoroutine(put.whenReady()))
        digests: list[bytes] = []
        holes = 0
        for index in range(chunks(size)):
            data, digest = await self._next()
            length = chunkLength(size, index)
            if data is None:
                # Nobody waits until these have left: they have some 50 bytes for each MiB.
                put.sendHoles(index, 1)
                holes += length
                digest = zerosDigest(size, index)
            else:
                await self._leaving(put, put.startBody(index, length, digest, data))
            digests.append(digest)
            self._left(length)
        await self._whenWritten()
        digest = await self._wait(self._disk.run(combined, digests))
        return put, self._commit(put, digest, holes)

    def _ask(self, follows: bool) -> _Watched:
        make = partial(putRecord, self._name, self._wanted, follows)
        put = self._put = _Watched(self._session, make, self._wanted.size, follows)
        put.onFailed = self.breakOff
        self._session.ask(put)
        return put

    def _commit(self, put: Putting, digest: bytes, holes: int) -> Sent:
        size = self._wanted.size
        self._sent = sent = Sent(None, digest, size, size - holes, holes)
        put.commit(digest)
        return sent

    async def _leaving(self, put: Putting, going: Deferred[int]) -> None:
        """Wait until a chunk has left; when it cannot, the request is about to hear why."""
        try:
            await self._wait(going)
        except ConnectionFailed:
            if put.why is None:
                await self._wait(Deferred())
            raise

    def _left(self, count: int) -> None:
        self._held -= count
        self._onMoved(count)
        self._balance()

    async def _next(self) -> _Digested:
        while not self._digested:
            await self._wait(self._waking())
        return self._digested.popleft()

    async def _whenWritten(self) -> None:
        """Wait until it is sure that no more comes."""
        while not self._ended:
            await self._wait(self._waking())

    def _waking(self) -> Deferred[None]:
        self._waiter = Deferred()
        return self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(None)

    async def _wait(self, doing: Deferred[T]) -> T:
        """Wait for something, or until it is broken off, also by what was called just now."""
        if self._broken is not None:
            doing.addErrback(lambda failure: None)
            raise self._broken
        self._awaited = doing
        try:
            return await doing
        finally:
            self._awaited = None
            if self._broken is not None:
                raise self._broken

    # How it ends.

    def _end(self) -> None:
        self._over = True
        if self._put is not None:
            self._put.cancel(keep=False)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._growing = bytearray()
        self._whole.clear()
        self._digested.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.stopProducing()
            except Exception:
                self.log.failure("a producer did not stop")

    def _choose(self) -> FilesSession:
        session = leastBusy(self._sessions)
        if not session.isOpen:
            raise ConnectionFailed("No session is open any more; connect again.")
        return session

    def _unlike(self, what: str) -> SourceChanged:
        return SourceChanged(
            f"{shown(self._name)} was to have {self._wanted.size} bytes, and {what}; nothing was "
            "published. Give the size that it has."
        )


def _digested(chunk: bytearray) -> _Digested:
    """Look at a chunk; blocks."""
    if chunk and chunk == memoryview(_ZEROS)[: len(chunk)]:
        return None, b""
    data = bytes(chunk)
    return data, digestOf(data)
