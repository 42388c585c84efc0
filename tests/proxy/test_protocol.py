"""
Forwarding of streams between a client and a target in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL.SSL import Error as SSLError
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionRefusedError,
    DNSLookupError,
)
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from tests.echo.farend import FarEnd, sayGoodbyeOverTLS
from tests.proxy.wires import Wires
from tests.trust.overseen import ANNA, CARL, PLACE, HeldNotes, Told, events, overseen, policyFrom
from twisted_netsuite.errors import AuditUnavailable
from twisted_netsuite.net import serving
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.net.serving import CLOSE_TIMEOUT
from twisted_netsuite.proxy.protocol import HALF_CLOSED_IDLE, MAX_EARLY, MAX_LOGGED
from twisted_netsuite.testing import BUFFER_SIZE, MemoryTransport
from twisted_netsuite.trust.decisions import Policy
from twisted_netsuite.trust.identity import ANONYMOUS, Identity
from twisted_netsuite.trust.oversight import UNSEEN, Oversight


class ProxyTestCase(SynchronousTestCase):
    """What several cases ask of one flow."""

    def assertClean(self, wires: Wires) -> None:
        """Both legs are closed cleanly, and nothing waits for anything."""
        for leg in (wires.toClient, wires.toTarget):
            assert leg.lost is not None
            self.assertTrue(leg.lost.check(ConnectionDone), leg.lost)
        self.assertGone(wires)

    def assertAborted(self, far: FarEnd) -> None:
        """An end was not closed cleanly."""
        assert far.lost is not None
        self.assertFalse(far.lost.check(ConnectionDone))
        self.assertFalse(far.ended)

    def assertGone(self, wires: Wires) -> None:
        """The factory holds nothing of the flow."""
        self.assertEqual(wires.factory.connections, set())
        self.assertEqual(wires.clock.getDelayedCalls(), [])


class EndTests(ProxyTestCase):
    """How each end of a flow is passed on."""

    def test_clientEndsFirst(self) -> None:
        """A client that closes its side still gets the answer that waits for that end."""
        wires = Wires()
        wires.client.transport.write(b"hello")
        wires.client.transport.loseWriteConnection()
        wires.settle()
        self.assertEqual(wires.target.received, b"hello")
        self.assertTrue(wires.target.ended)
        self.assertFalse(wires.client.ended)
        wires.target.transport.write(b"5")
        wires.target.transport.loseConnection()
        wires.settle()
        self.assertEqual(wires.client.received, b"5")
        self.assertTrue(wires.client.ended)
        self.assertClean(wires)

    def test_targetEndsFirst(self) -> None:
        """A target that closes its side still gets what the client sends afterwards."""
        wires = Wires()
        wires.target.transport.write(b"bye")
        wires.target.transport.loseWriteConnection()
        wires.settle()
        self.assertEqual(wires.client.received, b"bye")
        self.assertTrue(wires.client.ended)
        wires.client.transport.write(b"one thing more")
        wires.settle()
        self.assertEqual(wires.target.received, b"one thing more")
        self.assertFalse(wires.target.ended)
        wires.client.transport.loseConnection()
        wires.settle()
        self.assertTrue(wires.target.ended)
        self.assertClean(wires)

    def test_endWithDataBuffered(self) -> None:
        """An end overtakes no data, in either direction, however slowly the other side reads."""
        data = bytes(range(256)) * 4096
        for name in ("client", "target"):
            wires = Wires()
            ends = {"client": wires.client, "target": wires.target}
            sender = ends.pop(name)
            [receiver] = ends.values()
            receiver.transport.pauseProducing()
            sender.transport.write(data)
            sender.transport.loseWriteConnection()
            wires.settle()
            self.assertFalse(receiver.ended)
            receiver.transport.resumeProducing()
            wires.settle(1000)
            self.assertEqual(receiver.received, data)
            self.assertTrue(receiver.ended)
            self.assertFalse(sender.ended)

    def test_bothEndAtOnce(self) -> None:
        """When both sides end at once, each gets all that the other had sent."""
        wires = Wires()
        wires.client.transport.write(b"c" * 200_000)
        wires.target.transport.write(b"t" * 300_000)
        wires.client.transport.loseWriteConnection()
        wires.target.transport.loseWriteConnection()
        wires.settle(777)
        self.assertEqual(wires.target.received, b"c" * 200_000)
        self.assertEqual(wires.client.received, b"t" * 300_000)
        self.assertTrue(wires.client.ended and wires.target.ended)
        self.assertClean(wires)

    def test_finishingTarget(self) -> None:
        """Once both have ended, a target that does not take its last bytes is cut off in time."""
        wires = Wires()
        wires.target.transport.pauseProducing()
        wires.target.transport.loseWriteConnection()
        wires.client.transport.write(b"c" * 50_000)
        wires.client.transport.loseWriteConnection()
        wires.settle()
        self.assertIsNone(wires.toTarget.lost)
        wires.clock.advance(CLOSE_TIMEOUT)
        wires.settle()
        assert wires.toTarget.lost is not None
        self.assertTrue(wires.toTarget.lost.check(ConnectionAborted))
        self.assertGone(wires)

    def test_clientReset(self) -> None:
        """A client's reset in mid-transfer reaches the target as a reset, never as an end."""
        wires = Wires()
        wires.client.transport.write(b"half of a mess")
        wires.settle()
        wires.client.transport.abortConnection()
        wires.settle()
        self.assertAborted(wires.target)
        self.assertGone(wires)

    def test_targetReset(self) -> None:
        """A target's reset in mid-transfer reaches the client as a reset, never as an end."""
        wires = Wires()
        wires.client.transport.pauseProducing()
        wires.target.transport.write(b"x" * 1_000_000)
        wires.settle()
        wires.target.transport.abortConnection()
        wires.settle()
        wires.client.transport.resumeProducing()
        wires.settle()
        self.assertAborted(wires.client)
        self.assertLess(len(wires.client.received), 1_000_000)
        self.assertGone(wires)

    def test_resetWhileHalfClosed(self) -> None:
        """A reset by the side that still sends is passed on after the other side has ended, too."""
        for clientEnds in (True, False):
            wires = Wires()
            ended, resets = wires.client, wires.target
            if not clientEnds:
                ended, resets = resets, ended
            ended.transport.loseWriteConnection()
            wires.settle()
            resets.transport.abortConnection()
            wires.settle()
            self.assertAborted(ended)
            self.assertGone(wires)

    def test_dataAfterPeerHasGone(self) -> None:
        """What is sent to a side that has gone altogether resets the side that sent it."""
        for clientGoes in (True, False):
            wires = Wires()
            goes, stays, leg = wires.client, wires.target, wires.toTarget
            if not clientGoes:
                goes, stays, leg = stays, goes, wires.toClient
            goes.transport.loseConnection()
            wires.settle()
            self.assertTrue(stays.ended)
            self.assertIsNone(leg.lost)
            stays.transport.write(b"late")
            wires.settle()
            assert leg.lost is not None
            self.assertTrue(leg.lost.check(ConnectionAborted))
            self.assertGone(wires)

    def test_targetSpeaksFirst(self) -> None:
        """A target that speaks first is heard before the client says anything."""
        wires = Wires(first=b"220 ready\r\n")
        wires.settle(1)
        self.assertEqual(wires.client.received, b"220 ready\r\n")

    def test_bothDirectionsAreApart(self) -> None:
        """Two clients have a connection to the target each, and their bytes never mix."""
        wires = Wires()
        other = wires.connect()
        wires.client.transport.write(b"one")
        other.transport.write(b"two")
        wires.settle(1)
        self.assertEqual([bytes(t.received) for t in wires.targets], [b"one", b"two"])
        wires.targets[1].transport.write(b"TWO")
        wires.settle(1)
        self.assertEqual((wires.client.received, other.received), (b"", b"TWO"))

    def test_abortConnections(self) -> None:
        """Stopping ends both legs of every flow, and says when they are gone."""
        wires = Wires()
        wires.connect()
        done = wires.factory.abortConnections()
        self.assertNoResult(done)
        wires.settle()
        self.successResultOf(done)
        for pair in wires.endpoint.pairs:
            self.assertIsNotNone(pair.client.lost)
        self.assertIsNotNone(wires.toClient.lost)
        self.assertGone(wires)

    def test_abortWhatOutlivesItsClient(self) -> None:
        """Stopping ends a target's leg that still flushes after its client has gone."""
        wires = Wires()
        wires.target.transport.pauseProducing()
        wires.target.transport.loseWriteConnection()
        wires.client.transport.write(b"c" * 50_000)
        wires.client.transport.loseWriteConnection()
        wires.settle()
        self.assertIsNotNone(wires.toClient.lost)
        self.assertIsNone(wires.toTarget.lost)
        done = wires.factory.abortConnections()
        self.assertNoResult(done)
        wires.settle()
        self.successResultOf(done)
        self.assertIsNotNone(wires.toTarget.lost)
        self.assertGone(wires)


class ConnectingTests(ProxyTestCase):
    """What happens before the target has accepted."""

    def test_earlyData(self) -> None:
        """What a client sends before the target accepts is delivered first, in order."""
        wires = Wires(wait=True)
        for message in (b"one ", b"two "):
            wires.client.transport.write(message)
            wires.settle()
        wires.waiting.accept()
        wires.client.transport.write(b"three")
        wires.settle(2)
        self.assertEqual(wires.target.received, b"one two three")

    def test_earlyDataIsBounded(self) -> None:
        """Reading stops at the limit of early data; below it, it goes on."""
        for size, reading in ((MAX_EARLY - 1, True), (MAX_EARLY, False), (MAX_EARLY + 1, False)):
            wires = Wires(wait=True)
            data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            wires.client.transport.write(data)
            wires.settle(size)
            self.assertIs(wires.toClient.reading, reading)
            wires.client.transport.write(b"y" * 1_000_000)
            wires.settle(1000)
            self.assertFalse(wires.toClient.reading)
            taken = size + 1_000_000 - len(wires.client.transport.outgoing)
            self.assertLess(taken, MAX_EARLY + 1000)
            wires.waiting.accept()
            wires.settle(1000)
            self.assertEqual(wires.target.received, data + b"y" * 1_000_000)

    def test_clientEndsBefore(self) -> None:
        """A client that ends before the target accepts: the target gets its data, then its end."""
        wires = Wires(wait=True)
        wires.client.transport.write(b"hello")
        wires.client.transport.loseWriteConnection()
        wires.settle()
        self.assertIsNone(wires.client.lost)
        wires.waiting.accept()
        wires.settle()
        self.assertEqual(wires.target.received, b"hello")
        self.assertTrue(wires.target.ended)
        wires.target.transport.write(b"5")
        wires.target.transport.loseConnection()
        wires.settle()
        self.assertEqual(wires.client.received, b"5")
        self.assertClean(wires)

    def test_clientEndsBeforeWithMuchData(self) -> None:
        """A client that ends behind more than the limit of early data loses none of it."""
        wires = Wires(wait=True)
        data = bytes(range(256)) * 2048
        wires.client.transport.write(data)
        wires.client.transport.loseWriteConnection()
        wires.settle()
        wires.waiting.accept()
        wires.settle(5000)
        self.assertEqual(wires.target.received, data)
        self.assertTrue(wires.target.ended)

    def test_clientGoneBefore(self) -> None:
        """A client that is gone before the target accepts ends the connecting, without a word."""
        wires = Wires(wait=True)
        wires.client.transport.abortConnection()
        with capturedLogs() as events:
            wires.settle()
        self.assertTrue(wires.waiting.cancelled)
        self.assertEqual(list(events), [])
        self.assertGone(wires)

    def closedBefore(self) -> Wires:
        """A client that has said C{hello} and closed both ways at once, as over TLS."""
        wires = Wires(wait=True)
        wires.client.transport.write(b"hello")
        wires.settle()
        wires.toClient.loseConnection()
        wires.settle()
        return wires

    def test_clientClosedBefore(self) -> None:
        """What a client sent before it closed both ways at once still reaches the target."""
        wires = self.closedBefore()
        self.assertFalse(wires.waiting.cancelled)
        wires.waiting.accept()
        wires.settle()
        self.assertEqual(wires.target.received, b"hello")
        self.assertTrue(wires.target.ended)
        self.assertGone(wires)

    def test_clientClosedBeforeRefusal(self) -> None:
        """A refusal for a client that has closed already leaves nothing behind."""
        wires = self.closedBefore()
        wires.waiting.refuse(ConnectionRefusedError(111, "Connection refused"))
        wires.settle()
        self.assertGone(wires)

    def test_stoppedWhileConnecting(self) -> None:
        """A proxy that stops gives up connecting, also for a client that has closed already."""
        wires = self.closedBefore()
        self.successResultOf(wires.factory.abortConnections())
        self.assertTrue(wires.waiting.cancelled)
        self.assertGone(wires)

    def test_refused(self) -> None:
        """A target that refuses closes that client only, in one line with target and reason."""
        for ended in (False, True):
            wires = Wires(wait=True)
            if ended:
                wires.client.transport.loseWriteConnection()
                wires.settle()
            with capturedLogs() as events:
                wires.waiting.refuse(ConnectionRefusedError(111, "Connection refused"))
                wires.settle()
            self.assertEqual(
                [formatEvent(event) for event in events],
                ["127.0.0.1:50000: closed, target.example:80 was not reached: connection refused"],
            )
            self.assertNotIn("log_failure", events[0])
            self.assertTrue(wires.client.ended)
            assert wires.toClient.lost is not None
            self.assertTrue(wires.toClient.lost.check(ConnectionDone))
            self.assertGone(wires)
            other = wires.connect()
            wires.waiting.accept()
            other.transport.write(b"still here")
            wires.settle()
            self.assertEqual(wires.target.received, b"still here")

    def test_unknownName(self) -> None:
        """A target whose name is unknown is told apart from one that refuses."""
        wires = Wires(wait=True)
        with capturedLogs() as events:
            wires.waiting.refuse(DNSLookupError("no results for hostname lookup: nowhere."))
        self.assertIn("no results for hostname lookup: nowhere", formatEvent(events[0]))

    def test_connectionLimit(self) -> None:
        """One client over the limit is refused, and no connection to the target is made for it."""
        wires = Wires(limits=ConnectionLimits(maxConnections=1))
        with capturedLogs():
            other = wires.connect()
            wires.settle()
        self.assertAborted(other)
        self.assertIsNone(wires.client.lost)
        self.assertEqual(len(wires.targets), 1)


class LoopTests(ProxyTestCase):
    """A target that turns out to be the proxy itself."""

    #: The near end of the first connection that a L{MemoryEndpoint} makes.
    END = IPv4Address("TCP", "127.0.0.1", 40_000)

    LINE = (
        "127.0.0.1:40000: closed, target.example:80 leads back to this proxy; "
        "give it another target"
    )

    def test_targetFirst(self) -> None:
        """A client that is a known leg to the target is closed, before it makes one more leg."""
        wires = Wires()
        with capturedLogs() as events:
            back = wires.connect(self.END)
            wires.settle()
        self.assertEqual([formatEvent(event) for event in events], [self.LINE])
        self.assertAborted(back)
        self.assertEqual(len(wires.targets), 1)
        self.assertEqual(len(wires.factory.connections), 1)

    def test_clientFirst(self) -> None:
        """A client is closed once the leg to the target turns out to be its other end."""
        wires = Wires(wait=True)
        wires.client.transport.abortConnection()
        wires.settle()
        back = wires.connect(self.END)
        with capturedLogs() as events:
            wires.waiting.accept()
            wires.settle()
        self.assertEqual([formatEvent(event) for event in events], [self.LINE])
        self.assertAborted(back)
        self.assertAborted(wires.target)
        self.assertEqual(wires.factory.targets, set())
        self.assertEqual(wires.factory.connections, set())

    def test_sharedPort(self) -> None:
        """A client whose port is also that of a leg to elsewhere is no loop: ports are shared."""
        for wait in (False, True):
            wires = Wires(wait=wait)
            with capturedLogs() as events:
                other = wires.connect(self.END, IPv4Address("TCP", "127.0.0.1", 7080))
                other.transport.write(b"hello")
                if wait:
                    wires.waiting.accept()
                wires.settle()
            self.assertEqual(list(events), [])
            self.assertIsNone(other.lost)

    def test_endsAreForgotten(self) -> None:
        """The port of a leg that has ended may come back as that of a client."""
        wires = Wires()
        wires.client.transport.abortConnection()
        wires.settle()
        with capturedLogs() as events:
            other = wires.connect(self.END)
            other.transport.write(b"hello")
            wires.settle()
        self.assertEqual(list(events), [])
        self.assertEqual(wires.targets[1].received, b"hello")

    def test_renamedClientIsForgotten(self) -> None:
        """A client to which a balancer's header gave another name is forgotten when it ends."""
        wires = Wires(wait=True)
        named = IPv4Address("TCP", "192.0.2.1", 5)
        back = wires.connect(self.END)
        self.patch(MemoryTransport, "getPeer", lambda transport: named)
        back.transport.abortConnection()
        wires.settle()
        wires.connect()
        with capturedLogs() as events:
            wires.waiting.accept()
            wires.settle()
        self.assertEqual(list(events), [])
        self.assertEqual(len(wires.factory.targets), 1)

    def test_unixEnds(self) -> None:
        """Ends of Unix sockets have no names to tell them apart, and are never taken for loops."""
        for name in ("getHost", "getPeer"):
            self.patch(MemoryTransport, name, lambda transport: UNIXAddress(None))
        with capturedLogs() as events:
            wires = Wires()
            other = wires.connect()
            for client in (wires.client, other):
                client.transport.write(b"hello")
            wires.settle()
        self.assertEqual(list(events), [])
        self.assertEqual([bytes(target.received) for target in wires.targets], [b"hello"] * 2)


class BackpressureTests(ProxyTestCase):
    """Nothing is read that cannot be written."""

    @settings(deadline=None, max_examples=20)
    @given(st.integers(1000, BUFFER_SIZE))
    def test_stalledTarget(self, size: int) -> None:
        """For a target that stalls a bounded number of bytes waits, and none is lost."""
        self.stall(size, "target")

    @settings(deadline=None, max_examples=20)
    @given(st.integers(1000, BUFFER_SIZE))
    def test_stalledClient(self, size: int) -> None:
        """For a client that stalls a bounded number of bytes waits, and none is lost."""
        self.stall(size, "client")

    def stall(self, size: int, name: str) -> None:
        """Let one side stall while the other sends."""
        wires = Wires()
        ends = {"client": wires.client, "target": wires.target}
        reader = ends.pop(name)
        [sender] = ends.values()
        leg = wires.toClient if name == "client" else wires.toTarget
        data = b"0123456789abcdef" * (1 << 16)
        reader.transport.pauseProducing()
        sender.transport.write(data)
        wires.settle(size)
        self.assertGreater(len(leg.outgoing), BUFFER_SIZE)
        self.assertLessEqual(len(leg.outgoing), BUFFER_SIZE + size)
        reader.transport.write(b"the other way goes on")
        wires.settle(size)
        self.assertEqual(sender.received, b"the other way goes on")
        reader.transport.resumeProducing()
        wires.settle(size)
        self.assertEqual(reader.received, data)


class IdleTests(ProxyTestCase):
    """How long a flow may be silent."""

    def test_idle(self) -> None:
        """A flow that is silent both ways is given up, and both legs with it."""
        wires = Wires(limits=ConnectionLimits(idleTimeout=10))
        for end in (wires.client, wires.target):
            wires.clock.advance(9)
            end.transport.write(b"x")
            wires.settle()
        self.assertIsNone(wires.toClient.lost)
        with capturedLogs() as events:
            wires.clock.advance(10)
            wires.settle()
        self.assertEqual(
            [formatEvent(e) for e in events], ["127.0.0.1:50000: closed, idle for 10 s"]
        )
        self.assertAborted(wires.client)
        self.assertAborted(wires.target)
        self.assertGone(wires)

    def test_idleWhileConnecting(self) -> None:
        """A target that never answers does not hold a silent client for ever."""
        wires = Wires(wait=True, limits=ConnectionLimits(idleTimeout=10))
        with capturedLogs():
            wires.clock.advance(10)
            wires.settle()
        self.assertTrue(wires.waiting.cancelled)
        self.assertGone(wires)

    def test_tlsTarget(self) -> None:
        """A target over TLS is not half closed, and its answer still reaches the client."""
        wires = Wires(limits=ConnectionLimits(idleTimeout=600))
        alsoProvides(wires.toTarget, ISSLTransport)
        wires.client.transport.write(b"hello")
        wires.client.transport.loseWriteConnection()
        wires.settle()
        self.assertEqual(wires.target.received, b"hello")
        self.assertFalse(wires.target.ended)
        wires.clock.advance(HALF_CLOSED_IDLE - 1)
        wires.target.transport.write(b"5")
        wires.settle()
        wires.clock.advance(HALF_CLOSED_IDLE - 1)
        wires.target.transport.loseConnection()
        wires.settle()
        self.assertEqual(wires.client.received, b"5")
        self.assertTrue(wires.client.ended)
        self.assertClean(wires)

    def test_tlsTargetSilent(self) -> None:
        """A TLS target that could not be told of the end is given up early, and the log says so."""
        wires = Wires(limits=ConnectionLimits(idleTimeout=600))
        alsoProvides(wires.toTarget, ISSLTransport)
        wires.client.transport.loseWriteConnection()
        wires.settle()
        wires.clock.advance(HALF_CLOSED_IDLE - 0.1)
        self.assertIsNone(wires.toClient.lost)
        with capturedLogs() as events:
            wires.clock.advance(0.1)
            wires.settle()
        self.assertEqual(
            [formatEvent(e) for e in events],
            ["127.0.0.1:50000: closed, half closed over TLS and idle for 60 s"],
        )
        self.assertGone(wires)

    def test_tlsClientSilent(self) -> None:
        """A TLS client that could not be told of the target's end is given up early, too."""
        wires = Wires(limits=ConnectionLimits(idleTimeout=0, firstMessageTimeout=0))
        alsoProvides(wires.toClient, ISSLTransport)
        wires.target.transport.write(b"all")
        wires.target.transport.loseWriteConnection()
        wires.settle()
        self.assertEqual(wires.client.received, b"all")
        self.assertFalse(wires.client.ended)
        with capturedLogs():
            wires.clock.advance(HALF_CLOSED_IDLE)
            wires.settle()
        self.assertGone(wires)

    def test_tlsClientSaidGoodbye(self) -> None:
        """What would not arrive at a TLS client ends the flow as a reset, not in silence."""
        wires = Wires(tlsClient=True)
        sayGoodbyeOverTLS(wires.toClient)
        wires.target.transport.write(b"late")
        wires.settle()
        self.assertEqual(wires.client.received, b"")
        self.assertAborted(wires.target)
        self.assertGone(wires)

    def test_tlsTargetSaidGoodbye(self) -> None:
        """What would not arrive at a TLS target ends the flow as a reset, not in silence."""
        wires = Wires(tlsTarget=True)
        wires.client.transport.write(b"in time")
        wires.settle()
        sayGoodbyeOverTLS(wires.toTarget)
        wires.client.transport.write(b"late")
        wires.settle()
        self.assertEqual(wires.target.received, b"in time")
        self.assertAborted(wires.client)
        self.assertGone(wires)

    def test_tlsDeliversAfterTheEnd(self) -> None:
        """What a TLS leg still delivers once the other has gone is dropped: there is no TLS left
        to ask there."""
        for clientGoes in (True, False):
            wires = Wires(tlsClient=True, tlsTarget=True)
            goes, stays = wires.toClient, wires.toTarget
            if not clientGoes:
                goes, stays = stays, goes
            goes.loseConnection()
            goes.step(1)
            self.assertIsNotNone(goes.lost)
            goes.getHandle = lambda: None  # type: ignore[method-assign]
            stays.protocol.dataReceived(b"late")
            wires.settle()
            self.assertGone(wires)

    def test_tlsHandshakeFails(self) -> None:
        """A target whose certificate is refused ends its client, and one line says why."""
        wires = Wires(tlsTarget=True)
        with capturedLogs() as events:
            wires.toTarget.protocol.connectionLost(
                Failure(SSLError([("SSL routines", "", "certificate verify failed")]))
            )
            wires.settle()
        [line] = [formatEvent(event) for event in events]
        self.assertIn("127.0.0.1:50000: target.example:80 was lost: ", line)
        self.assertIn("the peer's certificate was refused", line)
        self.assertAborted(wires.client)
        self.assertGone(wires)

    def test_tlsKeepsShorterTimeout(self) -> None:
        """An idle timeout that is shorter than that of a half-closed TLS flow holds there too."""
        wires = Wires(limits=ConnectionLimits(idleTimeout=5))
        alsoProvides(wires.toTarget, ISSLTransport)
        wires.client.transport.loseWriteConnection()
        wires.settle()
        with capturedLogs() as events:
            wires.clock.advance(5)
            wires.settle()
        self.assertIn("idle for 5 s", formatEvent(events[0]))
        self.assertGone(wires)


class LogTests(ProxyTestCase):
    """What C{logData} writes."""

    def logged(self, data: bytes, *, logData: bool = True) -> list[str]:
        """Let a client send data, the target answer it, and read the log."""
        wires = Wires(logData=logData)
        with capturedLogs() as events:
            wires.client.transport.write(data)
            wires.settle(100_000)
            wires.target.transport.write(b"ok")
            wires.settle()
        self.assertEqual(wires.target.received, data)
        return [formatEvent(event) for event in events]

    def test_chunks(self) -> None:
        """Each chunk both ways is one line with its peer, escaped."""
        self.assertEqual(
            self.logged(b"\x1b[2Jh\xc3\xa9{x}\r\n"),
            [
                r"127.0.0.1:50000 sent b'\x1b[2Jh\xc3\xa9{x}\r\n'",
                "127.0.0.1:50000 got b'ok'",
            ],
        )

    def test_long(self) -> None:
        """Of a long chunk the log shows a bounded part, and says how much it leaves out."""
        for size, more in ((MAX_LOGGED - 1, ""), (MAX_LOGGED, ""), (MAX_LOGGED + 1, " and 1")):
            line = self.logged(b"x" * size)[0]
            shown = "x" * min(size, MAX_LOGGED)
            rest = f"{more} bytes more" if more else ""
            self.assertEqual(line, f"127.0.0.1:50000 sent b'{shown}'{rest}")

    def test_off(self) -> None:
        """Without it no data reaches the log."""
        self.assertEqual(self.logged(b"secret", logData=False), [])


class Sender:
    """Writes bytes that tell where they belong, and remembers them."""

    def __init__(self, far: FarEnd, first: int) -> None:
        self.far = far
        self.sent = bytearray()
        self.ended = False
        self._next = first

    def write(self, size: int) -> None:
        """Send so many bytes, unless the side has ended."""
        if not self.ended:
            piece = bytes((self._next + i) % 251 for i in range(size))
            self._next += size
            self.sent += piece
            self.far.transport.write(piece)

    def end(self) -> None:
        """Close this side."""
        self.ended = True
        self.far.transport.loseWriteConnection()


_acts = st.one_of(
    st.tuples(
        st.just("write"),
        st.integers(0, 1),
        st.one_of(st.integers(1, 300), st.integers(60_000, 140_000)),
    ),
    st.tuples(st.sampled_from(["end", "pause", "resume"]), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("step"), st.integers(1, 20), st.sampled_from([1, 100, 5000, BUFFER_SIZE])),
    st.tuples(st.just("accept"), st.just(0), st.just(0)),
)


class InterleavingTests(ProxyTestCase):
    """Any order of events."""

    @settings(deadline=None, max_examples=100)
    @given(st.lists(_acts, max_size=25), st.sampled_from([1000, 4096, BUFFER_SIZE]))
    def test_everyByteInOrder(self, acts: list[tuple[str, int, int]], size: int) -> None:
        """
        However writes, ends, pauses and the target's acceptance interleave, what goes in at one end
        comes out at the other, whole and in order, and both legs close cleanly.
        """
        wires = Wires(wait=True)
        senders = [Sender(wires.client, 0)]

        def accept() -> None:
            if not wires.targets:
                wires.waiting.accept()
                senders.append(Sender(wires.target, 100))

        for act, which, amount in acts:
            sender = senders[min(which, len(senders) - 1)]
            match act:
                case "write":
                    sender.write(amount)
                case "end":
                    sender.end()
                case "pause":
                    sender.far.transport.pauseProducing()
                case "resume":
                    sender.far.transport.resumeProducing()
                case "step":
                    for _ in range(which):
                        wires.step(amount)
                case "accept":
                    accept()
            for pair in wires.endpoint.pairs:
                self.assertLessEqual(len(pair.client.outgoing), 2 * BUFFER_SIZE + MAX_EARLY)
            self.assertLessEqual(len(wires.toClient.outgoing), 2 * BUFFER_SIZE)
        accept()
        for sender in senders:
            sender.far.transport.resumeProducing()
            sender.end()
        wires.settle(size)
        client, target = senders
        self.assertEqual(target.far.received, client.sent)
        self.assertEqual(client.far.received, target.sent)
        self.assertTrue(client.far.ended and target.far.ended)
        self.assertClean(wires)


POLICY = """
[identities]
"cert:anna" = ["member"]
"cert:carl" = ["elsewhere"]
[[roles.member.proxy]]
to = ["target.example"]
ports = [80]
durable = true
[[roles.elsewhere.proxy]]
to = ["target.example"]
ports = [443]
"""


class OverseenCase(ProxyTestCase):
    """One flow of somebody whom a test names, with something standing over it."""

    who = ANNA

    def setUp(self) -> None:
        self.notes = HeldNotes()
        self.notes.holding = False
        self.patch(serving, "identityOf", lambda _: self.who)

    def wires(self, policy: str | None = POLICY, **told: Any) -> Wires:
        """Let somebody connect."""
        return Wires(**{"oversight": overseen(policy, self.notes, "proxy"), **told})

    def heard(self, act: Callable[[], object]) -> list[str]:
        """Do something, and read what is logged."""
        with capturedLogs() as events:
            act()
        return [formatEvent(event) for event in events]

    def assertNeverReached(self, wires: Wires) -> None:
        """Nobody has connected to the target, and nothing is left of the client."""
        self.assertEqual(wires.endpoint.pairs, [])
        self.assertEqual(wires.factory.targets, set())
        self.assertEqual(len(wires.factory.admission), 0)
        self.assertGone(wires)
        self.successResultOf(wires.factory.abortConnections())


class PolicyTests(OverseenCase):
    """Who may be connected with the target."""

    def test_allowed(self) -> None:
        """Who may be connected is, and every byte passes as without a policy; the record tells
        who, where to, and by which rule."""
        for policy, oversight in ((POLICY, None), (None, UNSEEN)):
            wires = self.wires(policy, **({"oversight": oversight} if oversight else {}))
            wires.client.transport.write(b"hello")
            wires.client.transport.loseWriteConnection()
            wires.settle()
            self.assertEqual(wires.target.received, b"hello")
            wires.target.transport.write(b"5")
            wires.target.transport.loseConnection()
            wires.settle()
            self.assertEqual(wires.client.received, b"5")
            self.assertClean(wires)
        self.assertEqual(
            self.notes.records,
            [
                {
                    "event": "proxy.connect",
                    "service": "proxy",
                    "peer": "127.0.0.1:50000",
                    "identity": "cert:anna",
                    "target": "target.example:80",
                    "rule": f"{PLACE}:5",
                    "durable": True,
                }
            ],
        )

    def test_denied(self) -> None:
        """Who may not be connected is closed cleanly with nothing sent to the target, and one line
        in the log says who and why."""
        for who, why in (
            (CARL, f"no rule allows it; {PLACE}:9 comes near, but not for port 80 (ports)"),
            (Identity("unix", "anna"), "it has no role in this policy"),
            (ANONYMOUS, "it has no role in this policy"),
        ):
            self.who = who

            def act() -> None:
                self.flow = self.wires()
                self.flow.client.transport.write(b"early")
                self.flow.settle()

            lines = self.heard(act)
            shown = "" if who is ANONYMOUS else f" ({who})"
            cause = f"{who} may not be connected with target.example:80: {why}."
            self.assertEqual(lines, [f"127.0.0.1:50000{shown}: closed, {cause}"])
            self.assertEqual(self.notes.records[-1]["event"], "proxy.connect.denied")
            self.assertEqual(self.notes.records[-1]["reason"], cause)
            self.assertTrue(self.flow.client.ended)
            self.assertEqual(self.flow.client.received, b"")
            self.assertNeverReached(self.flow)

    def test_auditAlone(self) -> None:
        """Without a policy an audit log records who is connected, and changes nothing."""
        self.who = ANONYMOUS
        wires = self.wires(None)
        wires.client.transport.write(b"hello")
        wires.settle()
        self.assertEqual(wires.target.received, b"hello")
        self.assertEqual(events(self.notes), ["proxy.connect"])

    def test_another(self) -> None:
        """Another policy holds for the next client; a flow goes on as it was allowed."""
        source = Told(policyFrom(POLICY))
        wires = self.wires(oversight=Oversight("proxy", source, self.notes))
        source.policy = policyFrom("")
        with capturedLogs():
            other = wires.connect()
            wires.client.transport.write(b"hello")
            wires.settle()
        self.assertTrue(other.ended)
        self.assertEqual(wires.target.received, b"hello")
        self.assertEqual(len(wires.endpoint.pairs), 1)

    def test_loop(self) -> None:
        """A client that is the proxy itself is turned away before anybody is asked."""
        wires = self.wires()
        self.notes.records.clear()
        with capturedLogs():
            wires.connect(
                IPv4Address("TCP", "127.0.0.1", 40_000), IPv4Address("TCP", "127.0.0.1", 7)
            )
            wires.settle()
        self.assertEqual(self.notes.records, [])


class WaitingTests(OverseenCase):
    """While the audit log waits for its disk."""

    def setUp(self) -> None:
        super().setUp()
        self.notes.holding = True

    def test_nothingConnects(self) -> None:
        """The target is not connected before the record is written; then it gets what the client
        had sent, in order."""
        wires = self.wires()
        for data in (b"one ", b"two "):
            wires.client.transport.write(data)
            wires.settle()
        self.assertEqual(events(self.notes), ["proxy.connect"])
        self.assertEqual(wires.endpoint.pairs, [])
        self.notes.let()
        wires.client.transport.write(b"three")
        wires.settle()
        self.assertEqual(wires.target.received, b"one two three")

    def test_earlyDataIsBounded(self) -> None:
        """What a client sends meanwhile is taken up to the limit of early data, and none is
        lost."""
        wires = self.wires()
        data = bytes(range(256)) * 4096
        wires.client.transport.write(data)
        wires.settle(1000)
        self.assertFalse(wires.toClient.reading)
        self.assertLess(len(data) - len(wires.client.transport.outgoing), MAX_EARLY + 1000)
        self.notes.let()
        wires.settle(1000)
        self.assertEqual(wires.target.received, data)

    def test_clientLeaves(self) -> None:
        """For a client that is lost meanwhile the target is not connected, without a word."""
        wires = self.wires()
        wires.client.transport.write(b"early")
        wires.settle()
        wires.client.transport.abortConnection()
        wires.settle()
        self.assertEqual(self.heard(self.notes.let), [])
        self.assertNeverReached(wires)

    def test_halfClose(self) -> None:
        """A client that ends its side meanwhile still gets the target's answer."""
        wires = self.wires()
        wires.client.transport.write(b"hello")
        wires.client.transport.loseWriteConnection()
        wires.settle()
        self.notes.let()
        wires.settle()
        self.assertEqual(wires.target.received, b"hello")
        self.assertTrue(wires.target.ended)
        wires.target.transport.write(b"5")
        wires.target.transport.loseConnection()
        wires.settle()
        self.assertEqual(wires.client.received, b"5")
        self.assertClean(wires)

    def test_closedBothWays(self) -> None:
        """What a client sent before it closed both ways at once still reaches a target that is
        allowed, and none that is not."""
        for who, delivered in ((ANNA, True), (CARL, False)):
            self.who, self.notes.holding = who, True
            wires = self.wires()
            wires.client.transport.write(b"hello")
            wires.settle()
            wires.toClient.loseConnection()
            wires.settle()
            with capturedLogs():
                self.notes.let()
                wires.settle()
            if delivered:
                self.assertEqual(wires.target.received, b"hello")
                self.assertGone(wires)
            else:
                self.assertNeverReached(wires)

    def test_stop(self) -> None:
        """A proxy that stops connects nobody any more."""
        wires = self.wires()
        ended = wires.factory.abortConnections()
        wires.settle()
        self.successResultOf(ended)
        self.notes.let()
        self.assertNeverReached(wires)

    def test_idle(self) -> None:
        """A disk that never answers does not hold a client for ever."""
        wires = self.wires(limits=ConnectionLimits(idleTimeout=10))
        with capturedLogs():
            wires.clock.advance(10)
            wires.settle()
        self.notes.let()
        self.assertNeverReached(wires)

    def test_unavailable(self) -> None:
        """Without a record nobody is connected, now or after a while, and one line says why."""
        sentence = "The audit log cannot be written: no space left on device."
        wires = self.wires()

        def later() -> None:
            self.notes.giveUp(AuditUnavailable(sentence))
            wires.settle()

        line = f"127.0.0.1:50000 (cert:anna): closed, {sentence}"
        self.assertEqual(self.heard(later), [line])
        self.assertNeverReached(wires)
        self.notes.failure = AuditUnavailable(sentence)
        self.assertEqual(self.heard(lambda: self.wires().settle()), [line])
        self.notes.failure, self.notes.holding = None, False
        wires = self.wires()
        wires.client.transport.write(b"x")
        wires.settle()
        self.assertEqual(wires.target.received, b"x")

    def test_deniedAndUnavailable(self) -> None:
        """A denial that cannot be recorded is still one."""
        self.who = CARL
        wires = self.wires()

        def later() -> None:
            self.notes.giveUp(AuditUnavailable("full"))
            wires.settle()

        (line,) = self.heard(later)
        self.assertIn("cert:carl may not be connected", line)
        self.assertNeverReached(wires)


class FaultTests(OverseenCase):
    """What nobody has expected."""

    def broken(self, act: Callable[[], Wires]) -> None:
        """One traceback is logged, the client is closed, and nothing is left."""
        with capturedLogs() as told:
            wires = act()
            wires.settle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        (fault,) = [event for event in told if event["log_level"] >= LogLevel.error]
        self.assertIn("a fault of the service", formatEvent(fault))
        self.assertIsNotNone(wires.toClient.lost)
        self.assertNeverReached(wires)

    def test_permit(self) -> None:
        """A fault while permission is asked for ends the connection."""
        failing = mock.Mock(side_effect=ZeroDivisionError)
        for target, name in ((self.notes, "record"), (Policy, "proxy")):
            patched = self.patch(target, name, failing)
            self.broken(self.wires)
            patched.restore()

    def test_connecting(self) -> None:
        """So does one when the target is about to be connected."""

        def act() -> Wires:
            self.notes.holding = True
            wires = self.wires()
            self.patch(wires.endpoint, "connect", mock.Mock(side_effect=ZeroDivisionError))
            self.notes.let()
            return wires

        self.broken(act)

    def test_later(self) -> None:
        """So does one that comes after a while."""
        self.notes.holding = True

        def act() -> Wires:
            wires = self.wires()
            self.notes.giveUp(ZeroDivisionError())
            return wires

        self.broken(act)
