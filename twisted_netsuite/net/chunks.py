"""
Conversations without framing: what one read returns is one message, and one is served at a time.

The tutorials' stream dialects work so. Chunks that arrive while one is being served, or while the
peer does not take its answers, are held, in order, up to a bound at which reading stops.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.net.serving import ServedProtocol

#: Bytes held for one connection before its reading stops: one read of Twisted's size.
MAX_HELD = 64 * 1024

#: Chunks held before reading stops: what comes after waits in the kernel, as with the tutorials.
MAX_HELD_CHUNKS = 256

#: Held chunks that are served before other work of the process gets its turn.
CHUNKS_A_TURN = 16


@implementer(IPushProducer)
class AnswerFlow:
    """Serves no chunk while the peer does not take its answers."""

    def __init__(self, protocol: ChunkProtocol) -> None:
        """
        @param protocol: whose chunks wait.
        """
        self._protocol = protocol

    def pauseProducing(self) -> None:
        """Serve nothing."""
        self._protocol.stall(True)

    def resumeProducing(self) -> None:
        """Serve on."""
        self._protocol.stall(False)

    def stopProducing(self) -> None:
        """The connection is lost: the protocol hears of that itself."""


class ChunkProtocol(ServedProtocol):
    """
    Serves one chunk at a time.

    Subclasses say what a chunk means in L{chunkReceived}; between L{hold} and L{release} no chunk
    is given to it.
    """

    _held: deque[bytes]
    _heldBytes = 0
    _holding = False
    _stalled = False
    _serving = False
    _paused = False
    _closed = False
    _later: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Begin with nothing held."""
        self._held = deque()
        super().connectionMade()
        self.watchAnswers()

    def chunkReceived(self, chunk: bytes) -> None:
        """
        Serve one chunk.

        @param chunk: what one read returned; never empty.
        """
        raise NotImplementedError

    def dataReceived(self, data: bytes) -> None:
        """Serve the chunk, or hold it until its turn comes."""
        self.idle.touch()
        if self._closed:
            return
        self._held.append(data)
        self._heldBytes += len(data)
        self._serve()
        self._balance()

    def hold(self) -> None:
        """Give out no further chunk until L{release}."""
        self._holding = True

    def release(self) -> None:
        """Give out what is held, and read on."""
        self._holding = False
        self._serve()
        self._balance()

    def watchAnswers(self) -> None:
        """
        Stall while answers are not taken.

        A subclass that registers a producer of its own unregisters this one before, and calls this
        again when it is done.
        """
        self.transport.registerProducer(AnswerFlow(self), True)

    def stall(self, stalled: bool) -> None:
        """
        Stop or go on, as the peer takes its answers.

        @param stalled: whether it does not.
        """
        self._stalled = stalled
        self._serve()
        self._balance()

    def close(self) -> None:
        """Flush and close; no further chunk is served."""
        self._forget()
        self.transport.unregisterProducer()
        super().close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget what is held."""
        self._forget()
        super().connectionLost(reason)

    def _serve(self) -> None:
        if self._serving or self._later is not None:
            return
        self._serving = True
        try:
            for _ in range(CHUNKS_A_TURN):
                if not self._held or self._holding or self._stalled:
                    return
                chunk = self._held.popleft()
                self._heldBytes -= len(chunk)
                self.chunkReceived(chunk)
        finally:
            self._serving = False
        if self._held:
            self._later = self.factory.clock.callLater(0, self._nextTurn)

    def _nextTurn(self) -> None:
        self._later = None
        self._serve()
        self._balance()

    def _balance(self) -> None:
        """Read only while there is room to hold what is read, and somewhere to write."""
        full = self._heldBytes > MAX_HELD or len(self._held) > MAX_HELD_CHUNKS
        paused = (full or self._stalled) and not self._closed
        if paused and not self._paused:
            self.transport.pauseProducing()
        elif self._paused and not paused and not self._closed:
            self.transport.resumeProducing()
        self._paused = paused

    def _forget(self) -> None:
        self._closed = True
        self._held.clear()
        self._heldBytes = 0
        if self._later is not None:
            self._later.cancel()
            self._later = None
