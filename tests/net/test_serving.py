"""
What every stream service has in common: bounds on connections, timeouts, an orderly end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from OpenSSL.SSL import TLS_METHOD, Context
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress, IOpenSSLContextFactory, IProtocolFactory
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_netsuite.net import serving
from twisted_netsuite.net.addresses import StreamAddress, parseListen
from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits, IAdmits
from twisted_netsuite.net.handshake import HandshakeGateFactory
from twisted_netsuite.net.serving import (
    CLOSE_TIMEOUT,
    RefusedProtocol,
    ServedFactory,
    ServedProtocol,
    sendAtOnce,
)
from twisted_netsuite.rexec.classic import ClassicExecFactory
from twisted_netsuite.testing import FakeSpawner, Pair, connectPair
from twisted_netsuite.trust.identity import ANONYMOUS, Identity

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


class Prover(Chatter):
    """Lets its peer prove who it is after it is connected."""

    awaitsAuthentication = True


class ProverFactory(ServedFactory):
    """Serves it."""

    protocol = Prover


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

    def test_stringTransport(self) -> None:
        """Over a transport that is only a stream, as Twisted's for tests, it is served as well."""
        transport = StringTransport(peerAddress=PEER)
        sendAtOnce(transport)
        protocol: Any = self.factory.buildProtocol(PEER)
        protocol.makeConnection(transport)
        self.assertEqual((protocol.peer, protocol.secure), ("192.0.2.1:50000", False))
        protocol.close()
        self.assertTrue(transport.disconnecting)
        protocol.connectionLost()
        self.assertEqual((self.factory.connections, len(self.factory.admission)), (set(), 0))


def lines(events: Sequence[Any]) -> list[str]:
    """Write the events of a log as a person reads them."""
    return [formatEvent(event) for event in events]


class AdmittedTests(SynchronousTestCase):
    """What each limit does to connections, and what the log says of it."""

    def make(self, factory: type[ServedFactory] = ChatterFactory, **limits: float) -> None:
        """Serve with some limits; those that are not told do not bite."""
        self.clock = Clock()
        bounds: dict[str, Any] = {"maxPerSource": 0, "connectionRate": 0.0} | limits
        self.factory = factory(self.clock, ConnectionLimits(**bounds))
        self.admission = self.factory.admission

    def connect(self, peer: IAddress = PEER, over: IProtocolFactory | None = None) -> Pair:
        """Connect once."""
        protocol = (over or self.factory).buildProtocol(peer)
        assert protocol is not None
        pair = connectPair(protocol, Protocol(), clientAddress=peer)
        pair.flush()
        return pair

    def assertRefused(
        self, peer: IAddress, *logged: str, over: IProtocolFactory | None = None
    ) -> None:
        """Check that a connection is closed at once, what is logged, and that nothing is left."""
        before = len(self.admission)
        with capturedLogs() as events:
            pair = self.connect(peer, over)
        self.assertIsNotNone(pair.client.lost)
        self.assertEqual((lines(events), len(self.admission)), (list(logged), before))

    def test_perSource(self) -> None:
        """One more connection of a source is refused, and the log says of which limit it is."""
        self.make(maxPerSource=2)
        pairs = [self.connect() for _ in range(2)]
        self.assertRefused(
            PEER,
            "192.0.2.1:50000: refused, its source has 2 connections open (max-per-source); "
            "1 refused so far",
        )
        self.connect(IPv4Address("TCP", "192.0.2.2", 1))
        pairs[0].client.loseConnection()
        pairs[0].flush()
        self.connect()
        self.assertEqual(self.admission.refusals, {"max-per-source": 1})

    def test_rate(self) -> None:
        """So is one that comes too soon."""
        self.make(connectionRate=1)
        self.connect()
        self.connect()
        self.assertRefused(
            PEER,
            "192.0.2.1:50000: refused, its source connects too often (connection-rate); "
            "1 refused so far",
        )
        self.clock.advance(1)
        self.connect()

    def test_penalty(self) -> None:
        """So is one of a source that has failed too often, until its time is over."""
        self.make(ProverFactory, penalty=2)
        for _ in range(4):
            protocol = self.factory.buildProtocol(PEER)
            assert isinstance(protocol, Prover)
            pair = connectPair(protocol, Protocol(), clientAddress=PEER)
            protocol.authenticationFailed()
            pair.server.reset()
        self.assertEqual((self.admission.failures, len(self.admission)), (4, 0))
        self.assertRefused(
            PEER,
            "192.0.2.1:50000: refused, its source has failed to prove who it is too often "
            "(penalty); 1 refused so far",
        )
        self.clock.advance(2)
        self.connect()

    def test_everyWord(self) -> None:
        """Each limit that refuses has its words for the log."""
        self.make(maxConnections=0)
        self.connect()
        self.make(maxPerSource=1, penalty=1)
        self.connect()
        self.connect()
        for _ in range(4):
            self.admission.failed("192.0.2.1")
        self.connect()
        self.make(connectionRate=0.5)
        self.connect()
        self.connect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_doubling(self) -> None:
        """Each limit tells of its refusals each time they have doubled, whatever others do."""
        self.make(maxConnections=2, maxPerSource=1)
        self.connect()
        self.connect(IPv4Address("TCP", "192.0.2.2", 1))
        with capturedLogs() as events:
            for number in range(20):
                self.connect()
                self.connect(IPv4Address("TCP", "198.51.100.1", number))
        told = [(event["limit"], event["refused"]) for event in events]
        for limit in ("max-per-source", "max-connections"):
            self.assertEqual([n for name, n in told if name == limit], [1, 2, 4, 8, 16])
        self.assertEqual(len(told), 10)

    def test_unixUncounted(self) -> None:
        """Peers on a Unix socket are bounded in all only."""
        self.make(maxConnections=20, maxPerSource=1, connectionRate=1)
        for _ in range(20):
            self.connect(UNIXAddress(None))
        self.assertRefused(
            UNIXAddress(None),
            "unix: refused, 20 connections are open (max-connections); 1 refused so far",
        )

    def test_cleanPeer(self) -> None:
        """A peer that names its Unix socket like a line of the log writes no line of its own."""
        self.make(maxConnections=0)
        with capturedLogs() as events:
            self.connect(UNIXAddress(b"/x\n127.0.0.1: all is well\x1b[2J"))
        [line] = lines(events)
        self.assertNotIn("\n", line)
        self.assertNotIn("\x1b", line)

    def test_placeHeld(self) -> None:
        """A connection holds one place from the moment it comes until it has gone."""
        self.make()
        protocol = self.factory.buildProtocol(PEER)
        assert isinstance(protocol, Chatter)
        self.assertEqual((len(self.admission), len(self.admission.pending)), (1, 0))
        pair = connectPair(protocol, Protocol())
        self.assertEqual((len(self.admission), len(self.admission.pending)), (1, 0))
        pair.server.reset()
        self.assertEqual(len(self.admission), 0)
        self.factory.connectionGone(protocol)
        self.assertEqual(len(self.admission), 0)

    def test_withPlace(self) -> None:
        """A place that was given before is the protocol's, once; not taken, it comes back."""
        self.make(maxConnections=2)
        self.assertTrue(IAdmits.providedBy(self.factory))
        place = self.factory.placeFor(PEER)
        assert place is not None
        with self.factory.withPlace(place):
            protocol = self.factory.buildProtocol(PEER)
            other = self.factory.buildProtocol(PEER)
        assert isinstance(protocol, Chatter) and isinstance(other, Chatter)
        self.assertIs(protocol.place, place)
        self.assertIsNot(other.place, place)
        self.assertEqual(len(self.admission), 2)
        with capturedLogs() as events:
            self.assertIsNone(self.factory.placeFor(PEER))
        self.assertEqual([event["limit"] for event in events], ["max-connections"])
        other.place.leave()
        place = self.factory.placeFor(PEER)
        assert place is not None
        with self.factory.withPlace(place):
            self.assertEqual(len(self.admission), 2)
        self.assertEqual(len(self.admission), 1)
        another = self.factory.buildProtocol(PEER)
        assert isinstance(another, Chatter)
        self.assertIsNot(another.place, place)

    def test_handshakeWasAll(self) -> None:
        """Where a handshake is all the proof there is, who is connected after it waits no more."""
        self.make()
        protocol = self.factory.buildProtocol(PEER)
        assert isinstance(protocol, Chatter)
        protocol.place.await_()
        self.assertEqual(len(self.admission.pending), 1)
        connectPair(protocol, Protocol())
        self.assertEqual((len(self.admission), len(self.admission.pending)), (1, 0))

    def test_evicted(self) -> None:
        """The peer that has waited longest to prove itself makes room, in one line of the log."""
        self.make(ProverFactory, maxPending=2)
        pairs = [self.connect(IPv4Address("TCP", "192.0.2.1", number)) for number in range(2)]
        with capturedLogs() as events:
            self.connect(IPv4Address("TCP", "192.0.2.1", 2))
            pairs[0].flush()
        assert pairs[0].server.lost is not None
        self.assertTrue(pairs[0].server.lost.check(ConnectionAborted))
        self.assertIsNone(pairs[1].server.lost)
        self.assertEqual(
            lines(events),
            ["192.0.2.1:0: closed, too many have not proven who they are (max-pending)"],
        )
        self.assertEqual(
            (len(self.admission), len(self.admission.pending), self.admission.failures), (2, 2, 0)
        )

    def test_authenticated(self) -> None:
        """A peer that has proven who it is stays, however many come after it."""
        self.make(ProverFactory, maxPending=1)
        protocol = self.factory.buildProtocol(PEER)
        assert isinstance(protocol, Prover)
        pair = connectPair(protocol, Protocol())
        protocol.authenticated()
        for number in range(20):
            self.connect(IPv4Address("TCP", "192.0.2.2", number))
        pair.flush()
        self.assertIsNone(pair.server.lost)
        self.assertEqual(self.admission.refusals, {"max-pending": 19})

    def test_waitersMakeRoom(self) -> None:
        """Where all places are taken, those that have proven nothing make room for who comes."""
        self.make(ProverFactory, maxConnections=3)
        silent = [self.connect(IPv4Address("TCP", "192.0.2.9", number)) for number in range(3)]
        self.connect()
        silent[0].flush()
        self.assertIsNotNone(silent[0].server.lost)
        self.assertEqual((len(self.admission), self.admission.refusals), (3, {"max-pending": 1}))


class HandshakeTests(AdmittedTests):
    """The same of connections that have to finish a TLS handshake first, which none here does."""

    def setUp(self) -> None:
        self.context = Context(TLS_METHOD)

    def over(self) -> IProtocolFactory:
        """Put TLS below the factory."""
        gates = HandshakeGateFactory(self.factory, self.clock)
        return TLSMemoryBIOFactory(_Contexts(self.context), False, gates, self.clock)

    def connect(self, peer: IAddress = PEER, over: IProtocolFactory | None = None) -> Pair:
        """Connect once, over TLS unless it is said over what."""
        return super().connect(peer, over or self.over())

    def assertNothingLeft(self) -> None:
        """Check that no place is taken and no time waited for."""
        self.assertEqual((len(self.admission), len(self.admission.pending)), (0, 0))
        self.assertEqual((self.factory.connections, self.clock.getDelayedCalls()), (set(), []))

    def test_evicted(self) -> None:
        """The handshake that has waited longest makes room, and was no failure of its peer."""
        self.make(maxPending=2)
        pairs = [self.connect(IPv4Address("TCP", "192.0.2.1", number)) for number in range(2)]
        with capturedLogs() as events:
            pairs.append(self.connect(IPv4Address("TCP", "192.0.2.1", 2)))
            pairs[0].flush()
        assert pairs[0].server.lost is not None
        self.assertTrue(pairs[0].server.lost.check(ConnectionAborted))
        self.assertIsNone(pairs[1].server.lost)
        [line] = lines(events)
        self.assertRegex(line, r"^192\.0\.2\.1:0: closed, no TLS handshake: .*\(max-pending\)$")
        self.assertEqual((len(self.admission), len(self.admission.pending)), (2, 2))
        self.assertEqual(self.admission.failures, 0)
        for pair in pairs[1:]:
            pair.client.loseConnection()
            pair.flush()
        self.assertNothingLeft()

    def test_authenticated(self) -> None:
        """A handshake alone settles nothing for a peer that has to say who it is after it."""
        self.make(ProverFactory, maxPending=1)
        pair = self.connect()
        self.assertEqual(len(self.admission.pending), 1)
        pair.client.loseConnection()
        pair.flush()
        self.assertNothingLeft()

    def test_late(self) -> None:
        """A handshake that is not complete in time is one failure, and counted by its limit."""
        self.make(handshakeTimeout=5)
        pair = self.connect()
        self.clock.advance(4.75)
        pair.flush()
        self.assertIsNone(pair.server.lost)
        with capturedLogs() as events:
            self.clock.advance(0.25)
            pair.flush()
        self.assertEqual(
            lines(events),
            ["192.0.2.1:50000: closed, no TLS handshake: it was not complete within 5 s"],
        )
        self.assertEqual(self.admission.refusals, {"handshake-timeout": 1})
        self.assertEqual(self.admission.failures, 1)
        self.assertNothingLeft()

    def test_penalty(self) -> None:
        """A source whose handshakes are never complete is turned away for a while."""
        self.make(handshakeTimeout=5, penalty=2)
        for _ in range(4):
            pair = self.connect()
            self.clock.advance(5)
            pair.flush()
        self.assertRefused(
            PEER,
            "192.0.2.1:50000: refused, its source has failed to prove who it is too often "
            "(penalty); 1 refused so far",
        )
        self.clock.advance(2)
        self.connect()

    def test_garbage(self) -> None:
        """So is one that sends what is no handshake."""
        self.make(penalty=2)
        for _ in range(4):
            pair = self.connect()
            pair.client.write(b"GET / HTTP/1.0\r\n\r\n")
            pair.flush()
            self.assertIsNotNone(pair.client.lost)
        self.assertNothingLeft()
        self.assertEqual(self.admission.failures, 4)
        self.connect()
        self.assertEqual(self.admission.refusals, {"penalty": 1})

    def test_gone(self) -> None:
        """A check of health, which connects and closes, is no failure."""
        self.make(penalty=2)
        for _ in range(50):
            pair = self.connect()
            pair.client.loseConnection()
            pair.flush()
        for _ in range(50):
            self.connect().server.reset()
        self.assertNothingLeft()
        self.assertEqual((self.admission.failures, self.admission.refusals.total()), (0, 0))

    def test_unixUncounted(self) -> None:
        """Peers on a Unix socket are bounded in all only: here those that wait make room."""
        self.make(maxConnections=20, maxPerSource=1, connectionRate=1)
        for _ in range(25):
            self.connect(UNIXAddress(None))
        self.assertEqual((len(self.admission), self.admission.refusals), (20, {"max-pending": 5}))

    def test_doubling(self) -> None:
        """A flood of refused connections is told of each time it has doubled, under TLS too."""
        self.make(maxPerSource=1)
        self.connect()
        with capturedLogs() as events:
            for _ in range(20):
                self.connect()
        self.assertEqual([event["refused"] for event in events], [1, 2, 4, 8, 16])


class BalancedTests(SynchronousTestCase):
    """Behind a balancer, which is not whom its connections come from."""

    def listen(self, description: str, **limits: float) -> tuple[ServedFactory, IProtocolFactory]:
        """Listen in memory; return the service's factory, and the one that is listened with."""
        self.reactor: Any = MemoryReactorClock()
        factory = ChatterFactory(self.reactor, ConnectionLimits(**limits))  # type: ignore[arg-type]
        address = parseListen(self.reactor, description, ("stream",))
        assert isinstance(address, StreamAddress)
        address.listen(factory, self.reactor)
        servers = self.reactor.tcpServers + self.reactor.unixServers
        return factory, servers[0][1]

    def test_uncounted(self) -> None:
        """The balancer is no source: it may bring more than any source may."""
        factory, heard = self.listen(
            "haproxy:tcp:7", maxConnections=30, maxPerSource=1, connectionRate=1, penalty=1
        )
        for _ in range(30):
            connectPair(heard.buildProtocol(PEER), Protocol())  # type: ignore[arg-type]
        self.assertEqual((len(factory.connections), factory.admission.refusals), (30, {}))
        with capturedLogs() as events:
            pair = connectPair(heard.buildProtocol(PEER), Protocol())  # type: ignore[arg-type]
        pair.flush()
        self.assertIsNotNone(pair.client.lost)
        self.assertEqual(factory.admission.refusals, {"max-connections": 1})
        self.assertEqual([event["limit"] for event in events], ["max-connections"])

    def test_given(self) -> None:
        """Whatever the balancer sends, the place comes back when the connection has gone."""
        factory, heard = self.listen("haproxy:tcp:7")
        for sent in (b"", b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\nx", b"GET / HTTP/1.1\r\n\r\n"):
            pair = connectPair(heard.buildProtocol(PEER), Protocol())  # type: ignore[arg-type]
            self.assertEqual(len(factory.admission), 1)
            pair.client.write(sent)
            pair.flush()
            pair.client.loseConnection()
            pair.flush()
            self.assertEqual((len(factory.admission), factory.connections), (0, set()))

    def bring(self, description: str, sent: bytes, peer: IAddress = PEER) -> ServedProtocol:
        """Let a balancer bring somebody."""
        factory, heard = self.listen(description)
        protocol: Any = heard.buildProtocol(peer)
        pair = connectPair(protocol, Protocol(), clientAddress=peer)
        pair.client.write(sent)
        pair.flush()
        (served,) = factory.connections
        return served

    def test_anonymous(self) -> None:
        """Who a balancer is on its Unix socket is not who its clients are, header or not."""
        asked: list[Any] = []

        def identityOf(transport: object) -> Identity:
            asked.append(transport)
            return ANONYMOUS

        self.patch(serving, "identityOf", identityOf)
        for sent in (b"", b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\nx"):
            served = self.bring("haproxy:unix:/run/x", sent, UNIXAddress(None))
            self.assertIs(served.identity, ANONYMOUS)
            self.assertTrue(served.secure)
        self.assertEqual(asked, [])
        self.bring("unix:/run/x", b"", UNIXAddress(None))
        self.assertEqual(len(asked), 1)

    def test_secure(self) -> None:
        """Plain TCP is not secure because a balancer says that its own peer used a Unix socket."""
        head = b"\r\n\r\n\0\r\nQUIT\n\x21\x31\x00\xd8"
        served = self.bring("haproxy:tcp:7", head + b"/run/y".ljust(108, b"\0") * 2)
        self.assertEqual(served.peer, "unix:/run/y")
        self.assertFalse(served.secure)

    def test_cleanPeer(self) -> None:
        """What a balancer's header calls an address writes no line of its own."""
        served = self.bring("haproxy:tcp:7", b"PROXY TCP4 a\x1b[2J\nb 192.0.2.8 1 2\r\n")
        self.assertEqual(served.peer, "a\N{REPLACEMENT CHARACTER}[2J b:1")

    def test_direct(self) -> None:
        """Without the balancer's header in its address, the service counts who connects."""
        factory, heard = self.listen("tcp:7", maxPerSource=1)
        for _ in range(3):
            connectPair(heard.buildProtocol(PEER), Protocol()).flush()  # type: ignore[arg-type]
        self.assertEqual(factory.admission.refusals, {"max-per-source": 2})


class FirstMessageTests(SynchronousTestCase):
    """How long a peer may say nothing, at first and later."""

    def silence(self, first: float, later: float, spoken: bool = False) -> tuple[str, float]:
        """Let a connection be silent; return what the log says of its end, and when that was."""
        clock = Clock()
        self.factory = ChatterFactory(
            clock, ConnectionLimits(idleTimeout=later, firstMessageTimeout=first)
        )
        protocol = self.factory.buildProtocol(PEER)
        assert isinstance(protocol, Chatter)
        pair = connectPair(protocol, Protocol(), clientAddress=PEER)
        if spoken:
            clock.advance(1)
            pair.client.write(b"x")
            pair.flush()
        with capturedLogs() as events:
            while clock.seconds() < 100 and pair.server.lost is None:
                clock.advance(0.5)
                pair.flush()
        self.assertLessEqual(len(events), 1)
        if pair.server.lost is None:
            return "", 0.0
        self.assertTrue(pair.server.lost.check(ConnectionAborted))
        self.assertEqual((clock.getDelayedCalls(), len(self.factory.admission)), ([], 0))
        [line] = lines(events)
        return line.removeprefix("192.0.2.1:50000: closed, "), clock.seconds()

    def assertCounted(self, *limits: str) -> None:
        """Check which limits have ended a connection."""
        self.assertEqual(self.factory.admission.refusals, Counter(limits))

    def test_silent(self) -> None:
        """A peer that never says anything is given up when the shorter of both times is over."""
        self.assertEqual(self.silence(5, 20), ("no message for 5 s", 5))
        self.assertCounted("first-message-timeout")
        self.assertEqual(self.silence(20, 5), ("idle for 5 s", 5))
        self.assertCounted("idle-timeout")
        self.assertEqual(self.silence(5, 5), ("idle for 5 s", 5))
        self.assertCounted("idle-timeout")

    def test_spoken(self) -> None:
        """Once it has said something, only the time to be idle counts."""
        for first in (0, 5, 20, 50):
            self.assertEqual(self.silence(first, 20, spoken=True), ("idle for 20 s", 21))
            self.assertCounted("idle-timeout")

    def test_onlyFirst(self) -> None:
        """Where it may be idle for ever it still has to say something first."""
        self.assertEqual(self.silence(5, 0), ("no message for 5 s", 5))
        self.assertCounted("first-message-timeout")
        self.assertEqual(self.silence(5, 0, spoken=True), ("", 0))
        self.assertCounted()

    def test_onlyLater(self) -> None:
        """Without a time for the first message, that for all of them counts."""
        self.assertEqual(self.silence(0, 20), ("idle for 20 s", 20))
        self.assertCounted("idle-timeout")

    def test_neither(self) -> None:
        """Without either, it may be silent for ever."""
        self.assertEqual(self.silence(0, 0), ("", 0))
        self.assertCounted()

    def test_default(self) -> None:
        """Without a word, a peer that says nothing is given up after a minute."""
        limits = DEFAULT_LIMITS
        self.assertEqual(
            self.silence(limits.firstMessageTimeout, limits.idleTimeout),
            ("no message for 60 s", 60),
        )

    def test_execStartsAgain(self) -> None:
        """After a command has ended, its client is idle, and not one that has said nothing."""
        clock = Clock()
        spawner = FakeSpawner()
        factory = ClassicExecFactory(
            clock,
            "raw",
            spawner,
            allowShell=True,
            limits=ConnectionLimits(idleTimeout=20, firstMessageTimeout=5),
        )
        protocol = factory.buildProtocol(PEER)
        assert protocol is not None
        pair = connectPair(protocol, Protocol(), clientAddress=PEER)
        pair.client.write(b"sleep 50")
        pair.flush()
        clock.advance(50)
        pair.flush()
        self.assertIsNone(pair.server.lost)
        [command] = spawner.commands
        command.exit(0)
        pair.flush()
        clock.advance(19.75)
        pair.flush()
        self.assertIsNone(pair.server.lost)
        clock.advance(0.25)
        pair.flush()
        self.assertIsNotNone(pair.server.lost)
        self.assertEqual(factory.admission.refusals, {"idle-timeout": 1})
