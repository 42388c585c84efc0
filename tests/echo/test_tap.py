"""
The plugin of echo: every service, and every contradiction.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.echo.farend import FarEnd, datagramsInMemory
from twisted_netsuite.echo import tap
from twisted_netsuite.echo.native import NativeEchoFactory
from twisted_netsuite.echo.simple import CHARGEN_PATTERN
from twisted_netsuite.echo.tap import EchoConfig, build
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.testing import Pair, connectPair

PEER = IPv4Address("TCP", "127.0.0.1", 50_000)
SENDER = ("127.0.0.1", 50_000)


class BuildTests(SynchronousTestCase):
    """L{build}."""

    def setUp(self) -> None:
        self.udp = datagramsInMemory(self)

    def start(self, **options: Any) -> ListeningService:
        """Build a service and start it."""
        self.reactor = MemoryReactorClock()
        self.udp.clear()
        [service] = build(EchoConfig(**options), self.reactor)
        with capturedLogs():
            service.startService()
        return service

    def refusal(self, **options: Any) -> str:
        """Tell why a configuration is refused."""
        error = self.assertRaises(
            ConfigurationError, build, EchoConfig(**options), MemoryReactorClock()
        )
        return cast(ConfigurationError, error).sentence

    def connect(self) -> tuple[Pair, FarEnd]:
        """Connect to the started service."""
        server = self.reactor.tcpServers[0][1].buildProtocol(PEER)
        assert server is not None
        far = FarEnd()
        return connectPair(server, far), far

    def stream(self, message: bytes = b"") -> bytes:
        """Connect to the started service, send, and read until nothing moves."""
        pair, far = self.connect()
        far.transport.write(message)
        far.transport.loseWriteConnection()
        pair.flush()
        return bytes(far.received)

    def datagram(self, message: bytes) -> list[bytes]:
        """Send a datagram to the started service, and take its answers."""
        protocol, notes = self.udp[0]
        protocol.datagramReceived(message, SENDER)
        return [answer for answer, _ in notes.sent]

    def test_default(self) -> None:
        """By default echo listens for streams and datagrams on port 7007 of loopback only."""
        self.start()
        self.assertEqual(self.stream(b"hello"), b"HELLO")
        self.assertEqual(self.datagram(b"hello"), [b"HELLO"])
        [(port, _, _, interface)] = self.reactor.tcpServers
        self.assertEqual((port, interface), (7007, "127.0.0.1"))
        host = self.udp[0][1].getHost()
        self.assertEqual((host.port, host.host), (7007, "127.0.0.1"))

    def test_services(self) -> None:
        """Each sibling service answers as its RFC says, over streams and datagrams."""
        self.patch(tap, "time", SimpleNamespace(time=lambda: 0.0))
        day = b"Thursday, January 1, 1970 00:00:00-UTC\r\n"
        answers: dict[str, tuple[bytes, list[bytes]]] = {
            "discard": (b"", []),
            "daytime": (day, [day]),
            "time": (b"\x83\xaa\x7e\x80", [b"\x83\xaa\x7e\x80"]),
        }
        for name, (stream, datagrams) in answers.items():
            service = self.start(service=name)
            self.assertEqual(service.dialect, name)
            self.assertEqual(self.stream(b"x"), stream)
            self.assertEqual(self.datagram(b"x"), datagrams)

    def test_chargen(self) -> None:
        """Chargen sends its pattern over streams and datagrams."""
        self.start(service="chargen")
        pair, far = self.connect()
        for _ in range(3):
            pair.server.step(len(CHARGEN_PATTERN))
        self.assertTrue(far.received.startswith(CHARGEN_PATTERN))
        [answer] = self.datagram(b"x" * 100)
        self.assertTrue(CHARGEN_PATTERN.startswith(answer))

    def test_options(self) -> None:
        """The options of echo reach both transports."""
        self.start(upper=False)
        self.assertEqual((self.stream(b"Hi"), self.datagram(b"Hi")), (b"Hi", [b"Hi"]))
        self.start(reply="ok", once=True)
        self.assertEqual((self.stream(b"Hi"), self.datagram(b"Hi")), (b"ok", [b"ok"]))

    def test_limits(self) -> None:
        """The limits that are told bound the connections."""
        service = self.start(maxConnections=3, idleTimeout=5.0)
        assert service.factory is not None
        self.assertEqual(service.factory.limits.maxConnections, 3)
        self.assertEqual(service.factory.limits.idleTimeout, 5.0)

    def test_contradictions(self) -> None:
        """A sibling service refuses each option that only echo has, by name."""
        options: list[dict[str, Any]] = [{"once": True}, {"reply": "x"}, {"upper": False}]
        for service in ("discard", "chargen", "daytime", "time"):
            for option in options:
                self.assertEqual(
                    self.refusal(service=service, **option),
                    f"The service {service} answers by its RFC, so it takes no once, reply or "
                    "no-upper; leave them out.",
                )

    def test_longReply(self) -> None:
        """A reply that would amplify an empty datagram is refused, over streams it is not."""
        fits, long = "é" * 28, "é" * 28 + "x"
        build(EchoConfig(reply=fits), MemoryReactorClock())
        self.assertEqual(
            self.refusal(reply=long),
            "A reply of 57 bytes over UDP would amplify what a forged sender asks for; give one of "
            "at most 56 bytes, or listen on streams only.",
        )
        build(EchoConfig(reply=long, listen=("tcp:0:interface=127.0.0.1",)), MemoryReactorClock())

    def test_badAddress(self) -> None:
        """An address that cannot be understood is named."""
        self.assertIn("'nonsense:1'", self.refusal(listen=("nonsense:1",)))

    def test_example(self) -> None:
        """The line to try it with is one of the netsuite program."""
        service = self.start()
        example: Callable[[str], str] = service.example
        self.assertEqual(example("127.0.0.1:7007"), "netsuite echo 127.0.0.1:7007 hello")


class NativeTests(SynchronousTestCase):
    """The native dialect, as a configuration asks for it."""

    def build(self, **options: Any) -> tuple[ListeningService, NativeEchoFactory]:
        """Build the service, and give it with its factory."""
        (service,) = build(EchoConfig(dialect="native", **options), MemoryReactorClock())
        assert isinstance(service.factory, NativeEchoFactory)
        return service, service.factory

    def refusal(self, **options: Any) -> str:
        """Tell why a configuration is refused."""
        with self.assertRaises(ConfigurationError) as caught:
            build(EchoConfig(**options), MemoryReactorClock())
        return str(caught.exception)

    def test_default(self) -> None:
        """It listens on the default address for streams, and takes anybody."""
        service, factory = self.build()
        self.assertEqual([a.description for a in service.addresses], [EchoConfig().listen[0]])
        self.assertEqual((factory.tokens, factory.requireIdentity), (None, False))
        self.assertEqual(service.example("h:7"), "netsuite echo --dialect native h:7 hello")

    def test_told(self) -> None:
        """Checkers, the demand for a name, and the limits are the factory's."""
        _, factory = self.build(auth=("memory:a:b",), requireIdentity=True, maxPending=3)
        self.assertTrue(factory.requireIdentity)
        self.assertIsNotNone(factory.tokens)
        self.assertEqual(factory.limits.maxPending, 3)

    def test_datagrams(self) -> None:
        """Datagrams that are asked for are refused: there is no session over them."""
        sentence = self.refusal(dialect="native", listen=("udp:7:interface=127.0.0.1",))
        self.assertIn("speaks streams", sentence)

    def test_contradictions(self) -> None:
        """What belongs to the other dialect is refused on either side."""
        of: dict[str, Any]
        for of in ({"upper": False}, {"once": True}, {"reply": "x"}, {"service": "time"}):
            self.assertIn("leave them out", self.refusal(dialect="native", **of))
        for of in ({"auth": ("memory:a:b",)}, {"requireIdentity": True}):
            self.assertIn("give the dialect native", self.refusal(**of))

    def test_auth(self) -> None:
        """A checker that cannot be is refused when the service is built."""
        self.assertIn("'x:y'", self.refusal(dialect="native", auth=("x:y",)))
