"""
Native sessions over real sockets: what only a kernel does, resets and TLS among it.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import clientFromString, serverFromString, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate, optionsForClientTLS
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.protocols.basic import FileSender
from twisted.trial.unittest import TestCase

from tests.net.test_framed import HELLO, packed
from twisted_netsuite.echo.client import connectNativeEcho
from twisted_netsuite.echo.messages import RECORDS, Echo
from twisted_netsuite.echo.native import NativeEcho, NativeEchoFactory
from twisted_netsuite.errors import (
    ConfigurationError,
    ConnectionFailed,
    LimitExceeded,
    Unauthenticated,
)
from twisted_netsuite.trust.tokens import TokenVerifier
from twisted_netsuite.wire.session import Error, Goodbye, Hello, Record, SessionCodec, Welcome

#: Seconds in which anything on loopback is done.
PATIENCE = 20.0

HELLO_ECHO = msgspec.structs.replace(HELLO, service="echo")
CODEC = SessionCodec(RECORDS)

#: What is sent outside frames: more than any buffer holds.
BOOK = os.urandom(3_000_000)


def realReactor() -> Any:
    """Find the reactor that trial runs; imported late, as importing it installs it."""
    from twisted.internet import reactor

    return reactor


def echoed(data: bytes) -> bytes:
    """Write an echo as a frame."""
    frame = CODEC.encode(Echo(data=data))
    return struct.pack("!I", len(frame)) + frame


def readRecord(stream: socket.socket) -> Record | None:
    """Read a record as any client may: C{None} at the end."""
    head = _exactly(stream, 4)
    if head is None:
        return None
    body = _exactly(stream, struct.unpack("!I", head)[0])
    assert body is not None
    return CODEC.decode(body)


def _exactly(stream: socket.socket, count: int) -> bytes | None:
    found = b""
    while len(found) < count:
        piece = stream.recv(count - len(found))
        if not piece:
            assert not found, "The server has cut a frame."
            return None
        found += piece
    return found


def memory() -> int:
    """Tell how many bytes this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def listenAt(description: str) -> Callable[[Any], Any]:
    """Listen where a string says."""
    return lambda factory: serverFromString(realReactor(), description).listen(factory)


def listenTLS(factory: Any, options: Any) -> Any:
    """Listen on loopback, with TLS."""
    return realReactor().listenSSL(0, factory, options, interface="127.0.0.1")


class SessionTestCase(TestCase):
    """A native echo in this process; blocking clients in threads."""

    timeout = 60

    async def serve(self, listen: Callable[[Any], Any], **options: Any) -> Any:
        """Listen, as a function says."""
        reactor = realReactor()
        memoryDB: Any = InMemoryUsernamePasswordDatabaseDontUse(anna=b"s3cret")
        self.factory = NativeEchoFactory(reactor, tokens=TokenVerifier([memoryDB]), **options)
        port = await maybeDeferred(listen, self.factory)
        self.addCleanup(self.factory.abortConnections)
        self.addCleanup(port.stopListening)
        return port

    async def port(self) -> int:
        """Listen on loopback."""
        port = await self.serve(listenAt("tcp:0:interface=127.0.0.1"))
        number: int = port.getHost().port
        return number

    async def blocking(self, act: Callable[[socket.socket], Any], port: int) -> Any:
        """Do something with a blocking connection, in a thread."""

        def run() -> Any:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as stream:
                return act(stream)

        return await deferToThread(run)


class SocketTests(SessionTestCase):
    """Over TCP and Unix sockets."""

    async def test_plainClient(self) -> None:
        """A client written in ten lines, which knows frames and msgpack, is served."""

        def talk(stream: socket.socket) -> list[Record | None]:
            stream.sendall(packed(HELLO_ECHO))
            welcome = readRecord(stream)
            stream.sendall(echoed(b"hello"))
            answer = readRecord(stream)
            frame = CODEC.encode(Goodbye())
            stream.sendall(struct.pack("!I", len(frame)) + frame)
            return [welcome, answer, readRecord(stream)]

        welcome, answer, end = await self.blocking(talk, await self.port())
        self.assertIsInstance(welcome, Welcome)
        self.assertEqual((answer, end), (Echo(data=b"hello"), None))

    async def test_errorArrives(self) -> None:
        """An ERROR reaches a client that goes on sending, and so would be reset by most servers."""

        def flood(stream: socket.socket) -> Record | None:
            with contextlib.suppress(OSError):
                for _ in range(100):
                    stream.sendall(b"\xff" * 65536)
            return readRecord(stream)

        for _ in range(5):
            port = await self.port()
            with capturedLogs() as events:
                error = await self.blocking(flood, port)
            assert isinstance(error, Error)
            self.assertEqual((error.code, error.fatal), ("limit", True))
            causes = [event for event in events if "cause" in event]
            self.assertEqual(len(causes), 1)

    async def test_tinyFrames(self) -> None:
        """A million tiny frames that are no records end at the first; others are served meanwhile,
        and memory stays flat."""
        port = await self.port()
        reactor = realReactor()
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port}")
        good = await connectNativeEcho(endpoint, reactor, name="echo")

        def flood(stream: socket.socket) -> Record | None:
            stream.sendall(packed(HELLO_ECHO))
            readRecord(stream)
            with contextlib.suppress(OSError):
                for _ in range(50):
                    stream.sendall(b"\x00\x00\x00\x01\xc0" * 20_000)
            return readRecord(stream)

        before = memory()
        flooding = [Deferred.fromCoroutine(self.blocking(flood, port)) for _ in range(3)]
        for _ in range(50):
            self.assertEqual(await good.ask(b"x"), b"x")
        for each in flooding:
            error = await each
            assert isinstance(error, Error)
            self.assertEqual(error.code, "protocol")
        self.assertLess(memory() - before, 30_000_000)
        good.close()

    async def test_manyEchoes(self) -> None:
        """Two hundred thousand small records that are served keep memory flat, though nobody reads
        an answer for a while, and every answer comes."""
        count = 200_000
        port = await self.port()

        def flood(stream: socket.socket) -> int:
            stream.sendall(packed(HELLO_ECHO))
            readRecord(stream)
            stream.setblocking(False)
            data, sent, got = memoryview(echoed(b"x") * count), 0, 0
            deadline = time.monotonic() + PATIENCE
            wait = time.monotonic() + 0.5
            while got < len(data) and time.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    sent += stream.send(data[sent : sent + 65536])
                if time.monotonic() > wait:
                    with contextlib.suppress(BlockingIOError):
                        got += len(stream.recv(65536))
            return got

        before = memory()
        got = await self.blocking(flood, port)
        self.assertEqual(got, len(echoed(b"x")) * count)
        self.assertLess(memory() - before, 30_000_000)

    async def test_unix(self) -> None:
        """Over a Unix socket the client is known by its account, or by a token."""
        path = os.path.join(os.path.relpath(self.mktemp() + ".sock"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        await self.serve(listenAt(f"unix:{path}"), requireIdentity=True)
        reactor = realReactor()
        endpoint = clientFromString(reactor, f"unix:{path}")
        session = await connectNativeEcho(endpoint, reactor, name=path)
        self.assertTrue(session.welcome.identity.startswith("unix:"), session.welcome)
        session.close()
        session = await connectNativeEcho(endpoint, reactor, name=path, user="anna", token="s3cret")
        self.assertEqual(session.welcome.identity, "token:anna")
        self.assertEqual(await session.ask(b"hello"), b"hello")
        session.close()
        with self.assertRaises(Unauthenticated):
            await connectNativeEcho(endpoint, reactor, name=path, user="anna", token="wrong")

    async def test_outsideFrames(self) -> None:
        """Files that a service sends outside frames arrive whole, each where it belongs."""
        port = await self.port()
        self.factory.protocol = Library
        await readBooks(self, clientFromString(realReactor(), f"tcp:127.0.0.1:{port}"))

    async def test_stop(self) -> None:
        """A stop says GOODBYE to a client that reads, and takes no second."""
        port = await self.port()

        def wait(stream: socket.socket) -> list[Record | None]:
            stream.sendall(packed(HELLO_ECHO))
            readRecord(stream)
            reactor = realReactor()
            reactor.callFromThread(self.factory.abortConnections)
            return [readRecord(stream), readRecord(stream)]

        begun = time.monotonic()
        records = await self.blocking(wait, port)
        self.assertEqual(records, [Goodbye(reason="The service stops."), None])
        self.assertLess(time.monotonic() - begun, 5)


class Library(NativeEcho):
    """Answers each record with a file outside frames, between two records."""

    def recordReceived(self, record: Record) -> None:
        """Send it."""
        self.sendRecord(record)
        sending = FileSender().beginFileTransfer(io.BytesIO(BOOK), self.sendRaw(len(BOOK)))
        sending.addErrback(lambda failure: failure.trap(Exception))
        self.sendRecord(Echo(data=b"end"))


class Reader(Protocol):
    """Asks for two files and keeps what comes, slowly."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.complete: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Ask."""
        cast(Any, self.transport).write(packed(HELLO_ECHO))

    def dataReceived(self, data: bytes) -> None:
        """Wait a little after each piece."""
        if not self.data:
            cast(Any, self.transport).write(echoed(b"a") + echoed(b"b"))
        self.data += data
        if self.data.count(echoed(b"end")) == 2 and not self.complete.called:
            self.complete.callback(None)
        else:
            transport = cast(Any, self.transport)
            transport.pauseProducing()
            realReactor().callLater(0, transport.resumeProducing)


async def readBooks(case: TestCase, endpoint: Any) -> None:
    """Check that files arrive whole and where they belong."""
    reader = await endpoint.connect(Factory.forProtocol(Reader))
    await reader.complete
    wanted = b"".join(echoed(word) + BOOK + echoed(b"end") for word in (b"a", b"b"))
    found = bytes(reader.data)
    case.assertEqual(len(found) - found.index(echoed(b"a")), len(wanted))
    case.assertTrue(found.endswith(wanted))
    reader.transport.loseConnection()


class TLSTests(SessionTestCase):
    """Over TLS."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.certificate = selfSigned()
        options = self.certificate.options()
        port = await self.serve(lambda factory: listenTLS(factory, options))
        self.number = port.getHost().port

    def endpoint(self, trusted: bool = True) -> Any:
        """Find the way there."""
        reactor = realReactor()
        trust = self.certificate if trusted else None
        options = optionsForClientTLS("localhost", trustRoot=trust)
        plain = clientFromString(reactor, f"tcp:127.0.0.1:{self.number}")
        return wrapClientTLS(options, plain)

    async def test_token(self) -> None:
        """A token over TLS is accepted, and records pass, large ones too."""
        reactor = realReactor()
        session = await connectNativeEcho(
            self.endpoint(), reactor, name="tls", user="anna", token="s3cret"
        )
        self.assertEqual(session.welcome.identity, "token:anna")
        message = os.urandom(3_000_000)
        self.assertEqual(await session.ask(message), message)
        session.close()
        await session.whenEnded()

    async def test_wrongToken(self) -> None:
        """A wrong one is refused, with the ERROR, not with a broken connection."""
        with self.assertRaises(Unauthenticated):
            await connectNativeEcho(
                self.endpoint(), realReactor(), name="tls", user="anna", token="wrong"
            )

    async def test_outsideFrames(self) -> None:
        """Files that a service sends outside frames arrive whole over TLS, too."""
        self.factory.protocol = Library
        await readBooks(self, self.endpoint())

    async def test_otherServer(self) -> None:
        """A server whose certificate is not trusted never sees the token."""
        seen: list[Hello] = []
        self.factory.protocol.begin = lambda *args: seen.append(args[-1])  # type: ignore[method-assign]
        self.addCleanup(delattr, self.factory.protocol, "begin")
        with self.assertRaisesRegex(ConnectionFailed, "before the session was open: TLS: "):
            await connectNativeEcho(
                self.endpoint(False), realReactor(), name="tls", user="anna", token="s3cret"
            )
        self.assertEqual(seen, [])

    async def test_plainTextThere(self) -> None:
        """A client that speaks plain text to it fails in one sentence, and sends no token."""
        reactor = realReactor()
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self.number}")
        with self.assertRaises(ConfigurationError):
            await connectNativeEcho(endpoint, reactor, name="x", user="anna", token="s3cret")
        with self.assertRaises(Exception) as caught:
            await connectNativeEcho(endpoint, reactor, name="x", timeout=3)
        self.assertEqual(str(caught.exception).count("\n"), 0)

    async def test_error(self) -> None:
        """An ERROR reaches a client over TLS that goes on sending."""
        session = await connectNativeEcho(self.endpoint(), realReactor(), name="tls")
        for _ in range(50):
            session.transport.write(b"\xff" * 65536)
        with self.assertRaises(LimitExceeded):
            await session.whenEnded()


def selfSigned() -> Any:
    """Make a certificate for localhost, with its key."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    pem = serialization.Encoding.PEM
    text = key.private_bytes(pem, form, serialization.NoEncryption())
    text += certificate.public_bytes(pem)
    return PrivateCertificate.loadPEM(text)
