"""
Connections that keep a rate.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import fail
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_netsuite.cli.paced import MAX_QUEUED, NEWS_INTERVAL, PIECE, pacedEndpoint
from twisted_netsuite.net.rates import BURST, Pace
from twisted_netsuite.testing import MemoryEndpoint

RATE = 100_000.0


class Noting(Protocol):
    """Notes what comes."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


@implementer(IPushProducer)
class Producing:
    """
    A producer of which a test says what it does.

    @ivar told: what it was told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class PacedTests(SynchronousTestCase):
    """L{pacedEndpoint}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.servers: list[Noting] = []
        self.inner = MemoryEndpoint(Factory.forProtocol(self.serve))
        self.endpoint = pacedEndpoint(self.inner, self.clock, Pace(self.clock, RATE))

    def serve(self) -> Noting:
        """Make a server's end."""
        self.servers.append(Noting())
        return self.servers[-1]

    def connect(self) -> tuple[Noting, Noting]:
        """Connect; give both ends."""
        factory = Factory.forProtocol(Noting)
        client: Any = self.successResultOf(self.endpoint.connect(factory))
        self.assertIsInstance(client, Noting)
        return client, self.servers[-1]

    def go(self, seconds: float, step: float = 0.01) -> None:
        """Let time pass."""
        for _ in range(round(seconds / step)):
            self.inner.flush()
            self.clock.advance(step)
        self.inner.flush()

    def test_sending(self) -> None:
        """What is sent leaves no faster than the rate, in order, and all of it."""
        client, server = self.connect()
        data = bytes(range(256)) * 4000
        client.transport.write(data)  # type: ignore[union-attr]
        for second in range(1, 10):
            self.go(1.0)
            most = RATE * (second + BURST)
            self.assertLessEqual(len(server.received), most)
            self.assertGreater(len(server.received), min(len(data), most - RATE * 0.2) - 1)
        self.go(3.0)
        self.assertEqual(server.received, data)

    def test_receiving(self) -> None:
        """What comes is read no faster than the rate, but for one read."""
        client, server = self.connect()
        data = bytes(range(256)) * 4000
        server.transport.write(data)  # type: ignore[union-attr]
        for second in range(1, 10):
            self.go(1.0)
            self.assertLessEqual(len(client.received), RATE * (second + BURST) + 65536)
            self.assertGreater(len(client.received), min(len(data), RATE * second) - 65536)
        self.go(4.0)
        self.assertEqual(client.received, data)

    def test_shared(self) -> None:
        """All connections have one rate together, each way by itself."""
        first, second = self.connect(), self.connect()
        for client, server in (first, second):
            client.transport.write(bytes(10 * MAX_QUEUED))  # type: ignore[union-attr]
            server.transport.write(bytes(10 * MAX_QUEUED))  # type: ignore[union-attr]
        self.go(4.0)
        sent = sum(len(server.received) for _, server in (first, second))
        came = sum(len(client.received) for client, _ in (first, second))
        self.assertLessEqual(sent, RATE * (4 + BURST))
        self.assertLessEqual(came, RATE * (4 + BURST) + 2 * 65536)
        self.assertGreater(min(sent, came), 3 * RATE)

    def test_producer(self) -> None:
        """Who writes waits while too much waits here, and goes on then."""
        client, server = self.connect()
        transport: Any = client.transport
        producer = Producing()
        transport.registerProducer(producer, True)
        transport.write(bytes(MAX_QUEUED // 2))
        self.assertEqual(producer.told, [])
        transport.write(bytes(2 * MAX_QUEUED))
        self.assertEqual(producer.told, ["pause"])
        self.go(2.0)
        self.assertEqual(producer.told, ["pause", "resume"])
        self.assertGreater(len(server.received), MAX_QUEUED)

    def test_news(self) -> None:
        """Who has to wait for long may write now and then: else it would take the other end for
        dead."""
        client, _ = self.connect()
        transport: Any = client.transport
        producer = Producing()
        transport.registerProducer(producer, True)
        transport.write(bytes(round(RATE * 3.5 * NEWS_INTERVAL)))
        self.go(NEWS_INTERVAL + 1, 0.1)
        self.assertEqual(producer.told, ["pause", "resume"])
        self.go(NEWS_INTERVAL, 0.1)
        self.assertEqual(producer.told, ["pause", "resume"])
        transport.write(b"more")
        self.go(NEWS_INTERVAL + 1, 0.1)
        self.assertEqual(producer.told, ["pause", "resume", "pause", "resume"])

    def test_onlyAtWrites(self) -> None:
        """A producer hears that it has to wait only while it writes, as from any transport."""
        client, server = self.connect()
        transport: Any = client.transport
        server.transport.pauseProducing()  # type: ignore[union-attr]
        for _ in range(20):
            transport.write(bytes(PIECE))
        producer = Producing()
        transport.registerProducer(producer, True)
        self.go(5.0)
        self.assertEqual(producer.told, [])
        transport.write(b"more")
        self.assertEqual(producer.told, ["pause"])
        server.transport.resumeProducing()  # type: ignore[union-attr]
        self.go(5.0)
        self.assertEqual(producer.told, ["pause", "resume"])

    def test_below(self) -> None:
        """While the transport has no room nothing is given to it, and its producer waits."""
        client, server = self.connect()
        transport: Any = client.transport
        producer = Producing()
        transport.registerProducer(producer, True)
        below = self.inner.pairs[0].client
        server.transport.pauseProducing()  # type: ignore[union-attr]
        for _ in range(20):
            transport.write(bytes(PIECE))
            self.go(0.2)
        self.assertEqual(producer.told, ["pause"])
        self.assertLess(len(below.outgoing), 65536 + 2 * PIECE)
        server.transport.resumeProducing()  # type: ignore[union-attr]
        self.go(5.0)
        self.assertEqual(producer.told, ["pause", "resume"])
        self.assertEqual(len(server.received), 20 * PIECE)

    def test_held(self) -> None:
        """What the session holds is not read, whatever the rate would allow."""
        client, server = self.connect()
        transport: Any = client.transport
        transport.pauseProducing()
        server.transport.write(bytes(300_000))  # type: ignore[union-attr]
        self.go(3.0)
        self.assertEqual(client.received, b"")
        transport.resumeProducing()
        self.go(0.01)
        self.assertNotEqual(client.received, b"")
        transport.pauseProducing()
        before = len(client.received)
        self.go(3.0)
        self.assertEqual(len(client.received), before)
        transport.resumeProducing()
        self.go(5.0)
        self.assertEqual(len(client.received), 300_000)

    def test_resumed(self) -> None:
        """A session that reads on does so no sooner than the rate allows."""
        client, server = self.connect()
        transport: Any = client.transport
        server.transport.write(bytes(300_000))  # type: ignore[union-attr]
        self.inner.flush()
        before = len(client.received)
        self.assertLess(before, 300_000)
        transport.pauseProducing()
        transport.resumeProducing()
        self.inner.flush()
        self.assertEqual(len(client.received), before)

    def test_close(self) -> None:
        """A connection closes when all has left, and takes nothing more meanwhile."""
        client, server = self.connect()
        transport: Any = client.transport
        transport.writeSequence([bytes(100_000), bytes(100_000)])
        transport.loseConnection()
        transport.write(b"late")
        self.go(0.5)
        self.assertIsNone(client.lost)
        self.go(3.0)
        self.assertEqual(len(server.received), 200_000)
        self.assertIsNotNone(client.lost)
        self.assertIsNotNone(server.lost)

    def test_lost(self) -> None:
        """When the connection is lost nothing is left to do."""
        client, server = self.connect()
        transport: Any = client.transport
        producer = Producing()
        transport.registerProducer(producer, True)
        transport.write(bytes(300_000))
        server.transport.write(bytes(300_000))  # type: ignore[union-attr]
        self.go(0.1)
        transport.abortConnection()
        self.inner.flush()
        self.assertIsNotNone(client.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(producer.told.count("stop"), 1)

    def test_oneProducer(self) -> None:
        """A second producer, and one that is asked for each piece, are faults of the program."""
        client, _ = self.connect()
        transport: Any = client.transport
        self.assertRaises(RuntimeError, transport.registerProducer, Producing(), False)
        transport.registerProducer(Producing(), True)
        self.assertRaises(RuntimeError, transport.registerProducer, Producing(), True)
        transport.unregisterProducer()
        transport.registerProducer(Producing(), True)

    def test_unreachable(self) -> None:
        """What cannot be connected fails as it would without."""
        self.patch(self.inner, "connect", lambda factory: fail(OSError(111, "refused")))
        self.failureResultOf(self.endpoint.connect(Factory.forProtocol(Noting)), OSError)
