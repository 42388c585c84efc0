"""
A connection that is no faster than a rate, each way; what passes over it is not looked at.

It stands between a session and its transport, so that all bytes count: those of files, of lists,
and those that the protocol itself takes.
"""

from __future__ import annotations

from collections import deque
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.net.rates import Pace

#: Bytes that leave at a time: small enough to flow evenly, and large enough to cost little.
PIECE = 16 * 1024

#: Bytes that wait here before whoever writes them is made to wait.
MAX_QUEUED = 64 * 1024

#: Seconds after which who is made to wait may write once more: a session takes a peer for dead that
#: takes nothing for a minute.
NEWS_INTERVAL = 10.0

#: What counts by itself: all connections of one pace share each.
_IN, _OUT = "in", "out"


@implementer(IPushProducer)
class PacedProtocol(ProtocolWrapper):
    """Holds what comes and what goes, so that a rate is kept."""

    def __init__(
        self, factory: _PacedFactory, wrapped: IProtocol, clock: IReactorTime, pace: Pace
    ) -> None:
        """
        @param factory: has made this.
        @param wrapped: the session.
        @param clock: waits for time.
        @param pace: tells how long.
        """
        super().__init__(factory, wrapped)
        self._clock = clock
        self._pace = pace
        self._slow: IDelayedCall | None = None
        self._pausedAbove = False
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._sending: IDelayedCall | None = None
        self._producer: Any = None
        self._full = False
        self._paused = False
        self._told = 0.0
        self._closing = False

    # What comes.

    def dataReceived(self, data: bytes) -> None:
        """Hand it on, and read no more before its time."""
        wait = self._pace.take(_IN, len(data))
        if wait and self._slow is None:
            self._slow = self._clock.callLater(wait, self._readOn)
            self._transport.pauseProducing()
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Wait for nothing more."""
        for call in (self._slow, self._sending):
            if call is not None and call.active():
                call.cancel()
        self._slow = self._sending = None
        self._queue.clear()
        self._queued = 0
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        super().connectionLost(reason)

    def pauseProducing(self) -> None:
        """The session reads nothing, or there is no room for what it writes."""
        self._pausedAbove = True
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The session reads again."""
        self._pausedAbove = False
        if self._slow is None:
            self._transport.resumeProducing()

    # What goes.

    def write(self, data: bytes) -> None:
        """Take it, and send it in its time."""
        if self._closing or not data:
            return
        for start in range(0, len(data), PIECE):
            self._queue.append(data[start : start + PIECE])
        self._queued += len(data)
        self._send()
        # Not at other times: who is just reading what it writes next is not to be told then.
        if self._producer is not None and self._isFull and not self._paused:
            self._paused, self._told = True, self._clock.seconds()
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        """Take it, and send it in its time."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close, once all has left."""
        self._closing = True
        if not self._queue and self._producer is None:
            super().loseConnection()

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Take a producer, which waits when there is no room here or below."""
        if self._producer is not None or not streaming:
            raise RuntimeError("One producer can be registered, and none that is asked for more.")
        self._producer, self._paused = producer, False
        self._transport.registerProducer(_Below(self), True)

    def unregisterProducer(self) -> None:
        """Let it go."""
        self._producer = None
        self._full = False
        self._transport.unregisterProducer()
        self._send()
        if self._closing and not self._queue:
            super().loseConnection()

    def setFull(self, full: bool) -> None:
        """
        Note whether the transport has room.

        @param full: whether it has none.
        """
        self._full = full
        if not full:
            self._send()
            self._letGoOn()

    @property
    def _transport(self) -> Any:
        return self.transport

    def _readOn(self) -> None:
        self._slow = None
        if not self._pausedAbove:
            self._transport.resumeProducing()

    def _send(self) -> None:
        """Send what may leave now."""
        while self._queue and self._sending is None and not self._full:
            piece = self._queue.popleft()
            wait = self._pace.take(_OUT, len(piece))
            if wait:
                self._sending = self._clock.callLater(wait, self._sendNow, piece)
            else:
                self._pass(piece)

    def _sendNow(self, piece: bytes) -> None:
        self._sending = None
        self._pass(piece)
        self._send()
        self._letGoOn()
        if self._closing and not self._queue and self._sending is None:
            super().loseConnection()

    def _pass(self, piece: bytes) -> None:
        self._queued -= len(piece)
        self._transport.write(piece)

    @property
    def _isFull(self) -> bool:
        return self._full or self._queued > MAX_QUEUED

    def _letGoOn(self) -> None:
        """Let the producer write when there is room, or when it has had no news for long."""
        if self._producer is None or not self._paused:
            return
        late = not self._full and self._clock.seconds() - self._told >= NEWS_INTERVAL
        if late or not self._isFull:
            self._paused = False
            self._producer.resumeProducing()


@implementer(IPushProducer)
class _Below:
    """What the transport sees of whoever writes."""

    def __init__(self, paced: PacedProtocol) -> None:
        self._paced = paced

    def pauseProducing(self) -> None:
        """There is no room."""
        self._paced.setFull(True)

    def resumeProducing(self) -> None:
        """There is room again."""
        self._paced.setFull(False)

    def stopProducing(self) -> None:
        """The connection is lost, which the protocol hears itself."""


@implementer(IStreamClientEndpoint)
class _PacedEndpoint:
    """Connects as another does, at a pace."""

    def __init__(self, endpoint: IStreamClientEndpoint, clock: IReactorTime, pace: Pace) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._pace = pace

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect."""
        factory = _PacedFactory(protocolFactory, self._clock, self._pace)
        connecting = self._endpoint.connect(cast(IProtocolFactory, factory))
        return connecting.addCallback(lambda paced: cast(ProtocolWrapper, paced).wrappedProtocol)


class _PacedFactory(WrappingFactory[PacedProtocol]):
    """Makes protocols for L{_PacedEndpoint}."""

    noisy = False

    def __init__(self, wrapped: IProtocolFactory, clock: IReactorTime, pace: Pace) -> None:
        super().__init__(wrapped)
        self._clock = clock
        self._pace = pace

    def buildProtocol(self, addr: Any) -> PacedProtocol | None:  # type: ignore[override]
        """Put one around the other's."""
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else PacedProtocol(self, wrapped, self._clock, self._pace)


def pacedEndpoint(
    endpoint: IStreamClientEndpoint, clock: IReactorTime, pace: Pace
) -> IStreamClientEndpoint:
    """
    Let an endpoint make connections that keep a pace.

    @param endpoint: connects.
    @param clock: waits for time.
    @param pace: tells how long; all connections of it share its rate, each way.
    @return: connects.
    """
    return _PacedEndpoint(endpoint, clock, pace)
