"""
The client's side of a stream or of datagrams, read with C{await}.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TypeVar, cast

from OpenSSL.SSL import Error as SSLError
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionDone,
    MessageLengthError,
)
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    IStreamClientEndpoint,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.errors import ConnectionFailed, LimitExceeded, TimedOut
from twisted_netsuite.net.handshake import HandshakeFailed, tlsReason
from twisted_netsuite.net.interfaces import IStreamTransport

T = TypeVar("T")

#: Seconds for a peer to take what is buffered for it, and under TLS to answer the goodbye.
CLOSE_WAIT = 2.0

#: Bytes that may wait to be read before the peer is made to wait: four reads of Twisted's size.
MAX_WAITING = 256 * 1024


async def within(clock: IReactorTime, timeout: float, waiting: Deferred[T], late: TimedOut) -> T:
    """
    Wait for a result.

    @param clock: waits for time.
    @param timeout: seconds to wait.
    @param waiting: fires with the result; when that is late it gets the error in its place.
    @param late: the error.
    @return: the result.
    """
    call = clock.callLater(timeout, waiting.errback, late)
    try:
        return await waiting
    finally:
        if call.active():
            call.cancel()


@implementer(IHalfCloseableProtocol)
class Conversation(Protocol):
    """
    A connection that is read in turns.

    One read may wait at a time. Each read fails with L{TimedOut} when nothing comes in time, and
    with L{ConnectionFailed} when the connection ends first.
    """

    transport: IStreamTransport

    def __init__(self, clock: IReactorTime, name: str) -> None:
        """
        @param clock: tells and waits for time.
        @param name: the peer's address, for error sentences.
        """
        self._clock = clock
        self._name = name
        self._buffer = bytearray()
        self._waiting: Deferred[None] | None = None
        self._paused = False
        self._closing: list[Deferred[None]] = []
        self._cutOff: IDelayedCall | None = None
        self._lost = False
        self.ended: Failure | None = None

    def write(self, data: bytes) -> None:
        """
        Send.

        @param data: bytes to send.
        """
        self.transport.write(data)

    def close(self) -> Deferred[None]:
        """
        Close the connection.

        @return: fires when it is closed, which a peer cannot put off for long.
        """
        if self._lost:
            return succeed(None)
        if not self._closing:
            self._cutOff = self._clock.callLater(CLOSE_WAIT, self.transport.abortConnection)
        closing: Deferred[None] = Deferred()
        self._closing.append(closing)
        self.transport.loseConnection()
        return closing

    async def readExactly(self, count: int, timeout: float) -> bytes:
        """
        Read so many bytes.

        @param count: how many.
        @param timeout: seconds that may pass without a byte.
        @return: just as many.
        """
        pieces = []
        while count:
            piece = await self.readChunk(timeout, count)
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    async def readChunk(self, timeout: float, most: int = MAX_WAITING) -> bytes:
        """
        Read what is there, or the first bytes that come.

        @param timeout: seconds to wait.
        @param most: the largest number of bytes to take.
        @return: at least one byte.
        """
        if not self._buffer:
            await self._arrival(timeout)
        if not self._buffer:
            assert self.ended is not None
            if self.ended.check(ConnectionDone):
                raise ConnectionFailed(
                    f"{self._name} closed the connection before it had answered."
                )
            raise ConnectionFailed(
                f"The connection to {self._name} broke before an answer came: "
                f"{connectReason(self.ended.value)}."
            )
        piece = bytes(self._buffer[:most])
        del self._buffer[:most]
        if self._paused and len(self._buffer) < MAX_WAITING:
            self._paused = False
            self.transport.resumeProducing()
        return piece

    async def readUntilQuiet(self, timeout: float, quiet: float, enough: int, limit: int) -> bytes:
        """
        Read an answer that has no mark at its end.

        @param timeout: seconds to wait for its first byte.
        @param quiet: seconds of silence that end it.
        @param enough: bytes after which it is complete; 0 when its length is not known.
        @param limit: bytes after which reading stops in any case.
        @return: at least one byte.
        """
        answer = bytearray(await self.readChunk(timeout))
        while (not enough or len(answer) < enough) and len(answer) < limit:
            try:
                answer += await self.readChunk(quiet)
            except (TimedOut, ConnectionFailed):
                break
        return bytes(answer)

    def dataReceived(self, data: bytes) -> None:
        """Keep the bytes until they are read."""
        self._buffer += data
        if len(self._buffer) >= MAX_WAITING and not self._paused:
            self._paused = True
            self.transport.pauseProducing()
        self._wake()

    def readConnectionLost(self) -> None:
        """The peer sends no more."""
        self.ended = self.ended or Failure(ConnectionDone())
        self._wake()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our side is closed, as we asked."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self.ended = self.ended or reason
        self._lost = True
        self._wake()
        if self._cutOff is not None and self._cutOff.active():
            self._cutOff.cancel()
        closing, self._closing = self._closing, []
        for each in closing:
            each.callback(None)

    def _wake(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)

    async def _arrival(self, timeout: float) -> None:
        if self.ended is not None:
            return
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        late = TimedOut(
            f"{self._name} did not answer within {timeout:g} s; "
            "see whether the service speaks this dialect, or give it longer."
        )
        try:
            await within(self._clock, timeout, waiting, late)
        finally:
            self._waiting = None


async def converse(endpoint: IStreamClientEndpoint, clock: IReactorTime, name: str) -> Conversation:
    """
    Connect.

    @param endpoint: where to.
    @param clock: tells and waits for time.
    @param name: the address, for error sentences.
    @return: the open conversation.
    @raise ConnectionFailed: with the reason.
    """
    factory = Factory.forProtocol(lambda: Conversation(clock, name))
    factory.noisy = False
    try:
        return cast(Conversation, await endpoint.connect(factory))
    except (CancelledError, ConnectingCancelledError) as error:
        # The caller gave up, which is no failure of the connection.
        raise CancelledError from error
    except Exception as error:
        raise notConnected(name, error) from error


def notConnected(name: str, error: Exception) -> ConnectionFailed:
    """
    Say why a connection was not made, and what to look at.

    @param name: the address.
    @param error: what the endpoint failed with.
    @return: one sentence.
    """
    reached = isinstance(error, HandshakeFailed)
    advice = "the certificates of both ends" if reached else "whether the service runs there"
    return ConnectionFailed(f"Cannot connect to {name}: {connectReason(error)}; see {advice}.")


def connectReason(error: BaseException | None) -> str:
    """
    Say in a few words why a connection was not made.

    @param error: what the endpoint failed with.
    @return: words without a full stop.
    """
    if isinstance(error, ConnectError):
        if error.osError is not None and isinstance(error.osError, OSError):
            return str(error.osError.strerror).lower()
        if error.args and isinstance(error.args[-1], str) and error.args[-1]:
            return error.args[-1].lower().rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, SSLError):
        return f"TLS: {tlsReason(error)}"
    text = str(error).replace("\n", " ").rstrip(".")
    if text[1:2].isupper():
        # The first word is an abbreviation.
        return text
    return text[:1].lower() + text[1:] if text else type(error).__name__


class DatagramConversation(DatagramProtocol):
    """
    Datagrams to and from one address: each that is sent waits for the next that comes.

    UDP loses datagrams and delays them, so the next that comes may answer an earlier one.
    """

    noisy = False
    transport: IUDPTransport

    def __init__(
        self,
        clock: IReactorTime,
        host: str,
        port: int,
        received: Callable[[bytes], object] = lambda datagram: None,
    ) -> None:
        """
        @param clock: tells and waits for time.
        @param host: the peer's IP address.
        @param port: its port.
        @param received: called with every datagram that comes, also when none is waited for.
        """
        self._clock = clock
        self._address = (host, port)
        self._received = received
        self._waiting: Deferred[bytes] | None = None
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def startProtocol(self) -> None:
        """Talk to this one address, so that its refusals are heard, and nobody else is."""
        self.transport.connect(*self._address)

    async def ask(self, datagram: bytes, timeout: float) -> bytes:
        """
        Send a datagram and wait for the next that comes.

        @param datagram: its payload, which may be empty.
        @param timeout: seconds to wait.
        @return: the payload that came.
        @raise TimedOut: when none comes.
        @raise ConnectionFailed: when nobody listens there, or the system cannot send.
        @raise LimitExceeded: when the payload fits in no datagram.
        """
        waiting: Deferred[bytes] = Deferred()
        self._waiting = waiting
        late = TimedOut(
            f"No answer from {self.name} within {timeout:g} s: what was sent or its answer may be "
            "lost; send it again."
        )
        try:
            self._send(datagram)
            return await within(self._clock, timeout, waiting, late)
        finally:
            self._waiting = None

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Take whatever comes."""
        self._received(datagram)
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(datagram)

    def connectionRefused(self) -> None:
        """Nobody listens there."""
        self._fail(
            ConnectionFailed(f"Nobody listens at {self.name}; see whether the service runs there.")
        )

    def _send(self, datagram: bytes) -> None:
        try:
            self.transport.write(datagram, self._address)
        except MessageLengthError as error:
            raise LimitExceeded(
                f"{len(datagram)} bytes fit in no datagram; send fewer at a time."
            ) from error
        except OSError as error:
            raise ConnectionFailed(
                f"Cannot send to {self.name}: {(error.strerror or str(error)).lower()}; "
                "try again later."
            ) from error

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.errback(error)


def resolve(host: str, port: int) -> tuple[str, int]:
    """
    Find the first datagram address of a host; this blocks, so it is for programs of one purpose.

    @param host: a name or an address.
    @param port: the port.
    @return: IP address and port.
    @raise ConnectionFailed: when there is none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ConnectionFailed(
            f"The host {host!r} has no address: {(error.strerror or str(error)).lower()}; "
            "see whether it is written right."
        ) from error
    address = found[0][4]
    return str(address[0]), int(address[1])
