"""
Conversations without framing: what one read returns is one message, and one is served at a time.

The tutorials' stream dialects work so. Chunks that arrive while one is being served are held, in
order, up to a bound at which reading stops.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from twisted_netsuite.net.serving import ServedProtocol

#: Bytes held for one connection before its reading stops: one read of Twisted's size.
MAX_HELD = 64 * 1024


class ChunkProtocol(ServedProtocol):
    """
    Serves one chunk at a time.

    Subclasses say what a chunk means in L{chunkReceived}; between L{hold} and L{release} no chunk
    is given to it.
    """

    _held: deque[bytes]
    _heldBytes = 0
    _holding = False
    _releasing = False
    _closed = False

    def connectionMade(self) -> None:
        """Begin with nothing held."""
        self._held = deque()
        super().connectionMade()

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
        if not self._holding and not self._held:
            self.chunkReceived(data)
            return
        self._held.append(data)
        self._heldBytes += len(data)
        if self._heldBytes > MAX_HELD:
            self.transport.pauseProducing()

    def hold(self) -> None:
        """Give out no further chunk until L{release}."""
        self._holding = True

    def release(self) -> None:
        """Give out what is held, and read on."""
        self._holding = False
        if self._releasing:
            return
        self._releasing = True
        try:
            while self._held and not self._holding:
                chunk = self._held.popleft()
                self._heldBytes -= len(chunk)
                if self._heldBytes <= MAX_HELD < self._heldBytes + len(chunk):
                    self.transport.resumeProducing()
                self.chunkReceived(chunk)
        finally:
            self._releasing = False

    def close(self) -> None:
        """Flush and close; no further chunk is served."""
        self._forget()
        super().close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget what is held."""
        self._forget()
        super().connectionLost(reason)

    def _forget(self) -> None:
        self._closed = True
        self._held.clear()
