"""
Both ends of the classic dialects as others write them: the tutorials' blocking client, and a server
that says what a test tells it to. Connections are in memory.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_netsuite.testing import BUFFER_SIZE, Pair, connectPair


class WouldBlock(AssertionError):
    """A blocking client would wait for ever at this point."""


class _Inbox(Protocol):
    """Keeps what arrives until it is taken."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class BlockingSocket:
    """A C{socket.socket} that is connected to a factory's protocol."""

    def __init__(self, factory: IProtocolFactory, pieces: int = BUFFER_SIZE) -> None:
        server = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 50_000))
        assert server is not None
        self._inbox = _Inbox()
        self._pieces = pieces
        self.pair: Pair = connectPair(server, self._inbox)

    def send(self, data: bytes) -> None:
        """Send, and let the server take all of it as one chunk."""
        self.pair.client.write(data)
        self.pair.flush(max(len(data), self._pieces))

    def recv(self, count: int) -> bytes:
        """Return what is there, nothing when the connection has ended."""
        self.pair.flush(self._pieces)
        if not self._inbox.received and self._inbox.lost is None:
            raise WouldBlock
        data = bytes(self._inbox.received[:count])
        del self._inbox.received[:count]
        return data

    def recvExactly(self, count: int) -> bytes:
        """Call C{recv} until so much is there."""
        data = b""
        while len(data) < count:
            piece = self.recv(min(1024, count - len(data)))
            if not piece:
                raise AssertionError(f"closed after {len(data)} of {count} bytes")
            data += piece
        return data

    def endWriting(self) -> None:
        """C{shutdown(SHUT_WR)}."""
        self.pair.client.loseWriteConnection()
        self.pair.flush(self._pieces)

    def reset(self) -> None:
        """Vanish without a word."""
        self.pair.client.abortConnection()
        self.pair.flush(self._pieces)

    def stall(self) -> None:
        """Read nothing until L{goOn}."""
        self.pair.client.pauseProducing()

    def goOn(self) -> None:
        """Read again."""
        self.pair.client.resumeProducing()
        self.pair.flush(self._pieces)

    @property
    def lost(self) -> Failure | None:
        """How the connection ended, if it has."""
        self.pair.flush(self._pieces)
        return self._inbox.lost

    @property
    def pending(self) -> bytes:
        """What has arrived and was not taken."""
        self.pair.flush(self._pieces)
        return bytes(self._inbox.received)


class Scripted(Protocol):
    """
    Answers each chunk with the next of its answers; L{None} closes; after the last it is silent.

    @ivar heard: the chunks that came.
    """

    def __init__(self, answers: list[bytes | None]) -> None:
        self._answers = answers
        self.heard: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)
        if not self._answers:
            return
        answer = self._answers.pop(0)
        assert self.transport is not None
        if answer is None:
            self.transport.loseConnection()
        else:
            self.transport.write(answer)
            if self._answers[:1] == [None]:
                self.transport.loseConnection()


def scripted(*answers: bytes | None) -> IProtocolFactory:
    """Make a server that says these answers, whatever it is asked."""
    return Factory.forProtocol(lambda: Scripted(list(answers)))
