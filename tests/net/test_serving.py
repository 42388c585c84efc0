"""
What every stream service has in common: a bound on connections, two timeouts, an orderly end.
"""

from __future__ import annotations

from OpenSSL.SSL import TLS_METHOD, Context
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits
from twisted_netsuite.net.serving import (
    CLOSE_TIMEOUT,
    RefusedProtocol,
    ServedFactory,
    ServedProtocol,
    sendAtOnce,
)
from twisted_netsuite.testing import MemoryTransport, Pair, connectPair

PEER = IPv4Address("TCP", "192.0.2.1", 50_000)


class Chatter(ServedProtocol):
    """Takes every byte for a sign of life."""

    def dataReceived(self, data: bytes) -> None:
        self.idle.touch()


class ChatterFactory(ServedFactory):
    """Serves it."""

    protocol = Chatter


@implementer(IOpenSSLContextFactory)
class _Contexts:
    """Gives one context of TLS, which has no certificate: no handshake is ever finished."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def getContext(self) -> Context:
        return self._context


class ServedTests(SynchronousTestCase):
    """A factory of at most three connections, which may be idle for ten seconds."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.factory = ChatterFactory(self.clock, ConnectionLimits(3, 10))

    def connect(self) -> tuple[Chatter, Pair]:
        """Connect once."""
        protocol = self.factory.buildProtocol(PEER)
        assert isinstance(protocol, Chatter)
        return protocol, connectPair(protocol, Protocol())

    def test_limit(self) -> None:
        """So many connections as the limit says are served; one more is turned away and counted."""
        for _ in range(3):
            self.connect()
        refusals = self.factory.admission.refusals
        self.assertEqual((len(self.factory.connections), refusals.total()), (3, 0))
        with capturedLogs() as events:
            pair = connectPair(self.factory.buildProtocol(PEER), Protocol())
        pair.flush()
        self.assertIsNotNone(pair.client.lost)
        self.assertEqual((len(self.factory.connections), refusals), (3, {"max-connections": 1}))
        self.assertEqual(
            formatEvent(events[0]),
            "192.0.2.1:50000: refused, 3 connections are open (max-connections); 1 refused so far",
        )

    def test_placeFree(self) -> None:
        """A connection that ends makes room for another."""
        pairs = [self.connect()[1] for _ in range(3)]
        pairs[0].client.loseConnection()
        pairs[0].flush()
        self.connect()
        self.assertIsInstance(self.factory.buildProtocol(PEER), RefusedProtocol)

    def test_logOfRefusals(self) -> None:
        """A flood of refused connections is told of each time it has doubled."""
        self.factory = ChatterFactory(self.clock, ConnectionLimits(0))
        with capturedLogs() as events:
            for _ in range(100):
                self.factory.buildProtocol(PEER)
        self.assertEqual([event["refused"] for event in events], [1, 2, 4, 8, 16, 32, 64])

    def test_refusedUnderTLS(self) -> None:
        """Under TLS, too, one connection more is closed; nothing is left of it and no traceback."""
        context = Context(TLS_METHOD)
        wrapped = TLSMemoryBIOFactory(_Contexts(context), False, self.factory, self.clock)
        for _ in range(3):
            self.connect()
        pair = connectPair(wrapped.buildProtocol(PEER), Protocol())
        pair.flush()
        self.assertIsNotNone(pair.server.lost)
        self.assertIsNotNone(pair.client.lost)
        self.assertEqual((len(wrapped.protocols), len(self.factory.connections)), (0, 3))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_peer(self) -> None:
        """A peer is named as its transport does now: a balancer tells its address only later."""
        protocol, pair = self.connect()
        pair.server._peer = IPv4Address("TCP", "192.0.2.9", 9)
        self.assertEqual(protocol.peer, "192.0.2.9:9")

    def test_defaults(self) -> None:
        """Without a word, a process' usual descriptors suffice, and idle connections end."""
        self.assertEqual((DEFAULT_LIMITS.maxConnections, DEFAULT_LIMITS.idleTimeout), (1000, 600))
        self.assertIs(ChatterFactory(self.clock).limits, DEFAULT_LIMITS)

    def test_idle(self) -> None:
        """A connection that is idle too long is aborted, in one line of the log."""
        protocol, pair = self.connect()
        self.clock.advance(9.5)
        pair.flush()
        self.assertIsNone(pair.server.lost)
        with capturedLogs() as events:
            self.clock.advance(0.5)
        pair.flush()
        assert pair.server.lost is not None
        self.assertTrue(pair.server.lost.check(ConnectionAborted))
        self.assertEqual(
            [(event["peer"], event["seconds"]) for event in events], [(protocol.peer, 10)]
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_alive(self) -> None:
        """Each byte keeps a connection."""
        _, pair = self.connect()
        for _ in range(10):
            self.clock.advance(9.5)
            pair.client.write(b"x")
            pair.flush()
        self.assertIsNone(pair.server.lost)

    def test_noIdleLimit(self) -> None:
        """An idle time of 0 lets a connection be idle for ever."""
        self.factory = ChatterFactory(self.clock, ConnectionLimits(3, 0, firstMessageTimeout=0))
        _, pair = self.connect()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        pair.client.loseConnection()
        pair.flush()
        self.assertEqual(self.factory.connections, set())

    def test_peerCloses(self) -> None:
        """A peer that sends no more gets what is buffered, then the connection ends cleanly."""
        _, pair = self.connect()
        pair.server.write(b"rest")
        pair.client.loseWriteConnection()
        pair.flush()
        for end in (pair.server, pair.client):
            assert end.lost is not None
            self.assertTrue(end.lost.check(ConnectionDone))
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def stalled(self) -> tuple[Chatter, Pair]:
        """Ask a connection to close whose peer takes nothing."""
        protocol, pair = self.connect()
        pair.client.pauseProducing()
        pair.server.write(b"rest")
        protocol.close()
        pair.flush()
        self.assertIsNone(pair.server.lost)
        return protocol, pair

    def assertCutOff(self, pair: Pair) -> None:
        """Check that a connection ends when the time to close is over, and not before."""
        self.clock.advance(CLOSE_TIMEOUT - self.clock.seconds() - 0.5)
        pair.flush()
        self.assertIsNone(pair.server.lost)
        self.clock.advance(0.5)
        pair.flush()
        assert pair.server.lost is not None
        self.assertTrue(pair.server.lost.check(ConnectionAborted))
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stalled(self) -> None:
        """A peer that does not take its last bytes is cut off when the time to close is over."""
        self.assertCutOff(self.stalled()[1])

    def test_stalledAndTalking(self) -> None:
        """So is one that sends on meanwhile, which TLS delivers even to who is closing."""
        protocol, pair = self.stalled()
        for _ in range(3):
            self.clock.advance(5)
            protocol.dataReceived(b"x")
        self.assertCutOff(pair)

    def test_closedTwice(self) -> None:
        """So is one that is closed again: a second close wins no time."""
        protocol, pair = self.stalled()
        self.clock.advance(5)
        protocol.close()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertCutOff(pair)

    def test_closeSlow(self) -> None:
        """A peer that takes its bytes in time gets them all, and an orderly end."""
        _, pair = self.stalled()
        self.clock.advance(CLOSE_TIMEOUT - 0.5)
        pair.client.resumeProducing()
        pair.flush()
        assert pair.client.lost is not None
        self.assertTrue(pair.client.lost.check(ConnectionDone))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closeWhenGone(self) -> None:
        """To close what is gone starts no timer that nobody stops."""
        protocol, pair = self.connect()
        pair.server.reset()
        protocol.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reset(self) -> None:
        """A reset leaves nothing behind."""
        _, pair = self.connect()
        pair.server.reset()
        self.assertEqual((self.factory.connections, self.clock.getDelayedCalls()), (set(), []))

    def test_abort(self) -> None:
        """All connections are aborted at once, and it is told when the last has gone."""
        pairs = [self.connect()[1] for _ in range(3)]
        gone = self.factory.abortConnections()
        pairs[0].flush()
        pairs[1].flush()
        self.assertNoResult(gone)
        pairs[2].flush()
        self.successResultOf(gone)
        self.assertEqual((self.factory.connections, self.clock.getDelayedCalls()), (set(), []))

    def test_abortNone(self) -> None:
        """Without connections that is told at once."""
        self.successResultOf(self.factory.abortConnections())

    def test_abortTwice(self) -> None:
        """Whoever asks again while connections go is told as well."""
        _, pair = self.connect()
        first, second = self.factory.abortConnections(), self.factory.abortConnections()
        pair.flush()
        self.successResultOf(first)
        self.successResultOf(second)

    def test_abortClosing(self) -> None:
        """A connection that was closing is aborted with the others."""
        _, pair = self.stalled()
        gone = self.factory.abortConnections()
        pair.flush()
        self.successResultOf(gone)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noDelay(self) -> None:
        """Small answers leave at once over TCP; other sockets have no such option."""
        _, pair = self.connect()
        self.assertTrue(pair.server.noDelay)

    def test_noDelayUNIX(self) -> None:
        """Over a Unix socket, nothing of TCP is set."""
        transport = MemoryTransport(UNIXAddress("/run/x"), UNIXAddress(None))
        sendAtOnce(transport)
        self.assertFalse(transport.noDelay)
