"""
Echo over streams and datagrams.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, MessageLengthError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.echo.farend import FarEnd
from twisted_netsuite.echo.protocol import Answer, EchoDatagrams, EchoFactory, answerFor
from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits
from twisted_netsuite.net.datagrams import LOOP_PORTS
from twisted_netsuite.net.serving import CLOSE_TIMEOUT
from twisted_netsuite.testing import BUFFER_SIZE, DatagramNotes, connectPair, listenDatagrams

PEER = IPv4Address("TCP", "127.0.0.1", 50_000)
SENDER = ("127.0.0.1", 50_000)


class AnswerTests(SynchronousTestCase):
    """L{answerFor}."""

    @settings(deadline=None)
    @given(st.binary())
    def test_upper(self, message: bytes) -> None:
        """A message comes back as C{bytes.upper} makes it."""
        self.assertEqual(answerFor()(message), message.upper())

    @settings(deadline=None)
    @given(st.text())
    def test_upperKeepsOtherCharacters(self, text: str) -> None:
        """Only ASCII letters change, so UTF-8 comes back as valid UTF-8."""
        expected = "".join(c.upper() if c.isascii() else c for c in text)
        self.assertEqual(answerFor()(text.encode()).decode(), expected)

    def test_noUpper(self) -> None:
        """Without upper-casing every byte comes back as it came."""
        everything = bytes(range(256))
        self.assertEqual(answerFor(upper=False)(everything), everything)

    def test_reply(self) -> None:
        """A fixed reply stands for every message, and is not upper-cased."""
        answer = answerFor(reply="Hello,I have received the message! é")
        self.assertEqual(answer(b"one"), "Hello,I have received the message! é".encode())
        self.assertEqual(answer(b"two"), answer(b"one"))


class EchoTests(SynchronousTestCase):
    """L{EchoFactory}'s connections."""

    def serve(
        self,
        answer: Answer = bytes.upper,
        *,
        once: bool = False,
        limits: ConnectionLimits = DEFAULT_LIMITS,
    ) -> FarEnd:
        """Connect a client to a service of its own."""
        self.clock = Clock()
        self.factory = EchoFactory(self.clock, answer, once=once, limits=limits)
        return self.connect()

    def connect(self) -> FarEnd:
        """Connect one more client."""
        server = self.factory.buildProtocol(PEER)
        assert server is not None
        far = FarEnd()
        self.pair = connectPair(server, far)
        return far

    def test_answersEachChunk(self) -> None:
        """Each chunk is answered, until the client closes."""
        far = self.serve()
        for message, answer in ((b"hello", b"HELLO"), ("héllo".encode(), "HéLLO".encode())):
            far.received.clear()
            far.transport.write(message)
            self.pair.flush()
            self.assertEqual(far.received, answer)
        self.assertIsNone(far.lost)

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.binary(min_size=1, max_size=300), max_size=10), st.integers(1, 64))
    def test_anySplit(self, messages: list[bytes], size: int) -> None:
        """However a stream is split, all of it comes back upper-cased, in order."""
        far = self.serve()
        for message in messages:
            far.transport.write(message)
        far.transport.loseWriteConnection()
        self.pair.flush(size)
        self.assertEqual(far.received, b"".join(messages).upper())
        self.assertTrue(far.ended)

    def test_halfClose(self) -> None:
        """A client that closes its side gets all answers, then the end."""
        far = self.serve()
        message = b"abcdefgh" * 50_000
        far.transport.write(message)
        far.transport.loseWriteConnection()
        self.pair.flush(1000)
        self.assertEqual(far.received, message.upper())
        self.assertTrue(far.ended)
        assert self.pair.server.lost is not None
        self.assertTrue(self.pair.server.lost.check(ConnectionDone))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_once(self) -> None:
        """With C{once}, what follows the first chunk is not answered, and the connection closes."""
        far = self.serve(once=True)
        far.transport.write(b"firstsecond")
        self.pair.flush(5)
        self.assertEqual(far.received, b"FIRST")
        assert self.pair.server.lost is not None
        self.assertTrue(self.pair.server.lost.check(ConnectionDone))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_onceFlushes(self) -> None:
        """With C{once}, an answer larger than any buffer arrives whole before the end."""
        reply = "r" * (3 * BUFFER_SIZE)
        far = self.serve(answerFor(reply=reply), once=True)
        far.transport.write(b"x")
        self.pair.flush(1000)
        self.assertEqual(far.received, reply.encode())
        self.assertTrue(far.ended)

    def test_onceIgnoresLateData(self) -> None:
        """With C{once}, a transport that still delivers after the close gets no second answer."""
        self.serve(once=True)
        server = self.pair.server.protocol
        server.dataReceived(b"one")
        server.dataReceived(b"two")
        self.assertEqual(self.pair.server.outgoing, b"ONE")

    def test_closeLetsProducerGo(self) -> None:
        """
        A close takes effect although writing had stopped reading: a TLS transport, or one whose
        producer is paused, would otherwise wait for its producer until it is cut off.
        """
        self.clock = Clock()
        echo = EchoFactory(self.clock, answerFor(reply="r" * 100_000), once=True).buildProtocol(
            PEER
        )
        assert echo is not None
        transport = StringTransport(peerAddress=PEER)
        transport.setTcpNoDelay = lambda enabled: None  # type: ignore[attr-defined]
        echo.makeConnection(transport)
        self.assertIsNotNone(transport.producer)
        echo.dataReceived(b"x")
        self.assertTrue(transport.disconnecting)
        self.assertIsNone(transport.producer)
        echo.connectionLost()

    @settings(deadline=None, max_examples=20)
    @given(st.integers(1000, 2 * BUFFER_SIZE))
    def test_backpressure(self, size: int) -> None:
        """While a reader stalls, what is kept for it is bounded; afterwards nothing is missing."""
        far = self.serve()
        message = b"0123456789abcdef" * (1 << 16)
        self.pair.client.pauseProducing()
        far.transport.write(message)
        self.pair.flush(size)
        self.assertGreater(len(self.pair.server.outgoing), BUFFER_SIZE)
        self.assertLessEqual(len(self.pair.server.outgoing), BUFFER_SIZE + size)
        self.assertFalse(self.pair.server.reading)
        self.pair.client.resumeProducing()
        self.pair.flush(size)
        self.assertEqual(far.received, message.upper())
        self.assertTrue(self.pair.server.reading)

    def test_idle(self) -> None:
        """A silent connection is given up after the idle timeout, counted from its last byte."""
        far = self.serve(limits=ConnectionLimits(idleTimeout=10))
        self.clock.advance(9)
        far.transport.write(b"x")
        self.pair.flush()
        self.clock.advance(9)
        self.pair.flush()
        self.assertIsNone(far.lost)
        with capturedLogs() as events:
            self.clock.advance(1)
        self.pair.flush()
        assert self.pair.server.lost is not None
        self.assertTrue(self.pair.server.lost.check(ConnectionAborted))
        self.assertIsNotNone(far.lost)
        self.assertEqual(
            [formatEvent(e) for e in events], ["127.0.0.1:50000: closed, idle for 10 s"]
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_idleStalledReader(self) -> None:
        """A reader that stalls for the idle timeout is given up, however much it sends."""
        far = self.serve(limits=ConnectionLimits(idleTimeout=10))
        self.pair.client.pauseProducing()
        for _ in range(3):
            far.transport.write(b"x" * 100_000)
            self.pair.flush()
            self.clock.advance(3)
        self.pair.flush()
        self.assertIsNone(self.pair.server.lost)
        with capturedLogs():
            far.transport.write(b"x" * 100_000)
            self.pair.flush()
            self.clock.advance(3)
        self.pair.flush()
        self.assertIsNotNone(self.pair.server.lost)
        self.assertEqual(self.factory.connections, set())

    def test_neverIdle(self) -> None:
        """An idle timeout of 0 means never."""
        self.serve(limits=ConnectionLimits(idleTimeout=0, firstMessageTimeout=0))
        self.clock.advance(1e9)
        self.pair.flush()
        self.assertIsNone(self.pair.server.lost)

    def test_closeTimeout(self) -> None:
        """A client that ends and does not take its answers in time is cut off."""
        far = self.serve()
        self.pair.client.pauseProducing()
        far.transport.write(b"hello")
        far.transport.loseWriteConnection()
        self.pair.flush()
        self.clock.advance(CLOSE_TIMEOUT - 0.1)
        self.pair.flush()
        self.assertIsNone(self.pair.server.lost)
        self.clock.advance(0.1)
        self.pair.flush()
        assert self.pair.server.lost is not None
        self.assertTrue(self.pair.server.lost.check(ConnectionAborted))

    def test_reset(self) -> None:
        """A reset ends one connection, not the service."""
        far = self.serve()
        other = self.pair
        self.connect()
        far.transport.abortConnection()
        other.flush()
        self.assertIsNotNone(other.server.lost)
        again = self.connect()
        again.transport.write(b"x")
        self.pair.flush()
        self.assertEqual(again.received, b"X")

    def test_connectionLimit(self) -> None:
        """One connection over the limit is refused in one line; one that ends makes room."""
        far = self.serve(limits=ConnectionLimits(maxConnections=2))
        first = self.pair
        self.connect()
        with capturedLogs() as events:
            refused = self.connect()
            self.pair.flush()
        self.assertEqual(
            [formatEvent(e) for e in events],
            [
                "127.0.0.1:50000: refused, 2 connections are open (max-connections); "
                "1 refused so far"
            ],
        )
        self.assertEqual(self.factory.admission.refusals.total(), 1)
        self.assertIsNotNone(refused.lost)
        far.transport.loseConnection()
        first.flush()
        again = self.connect()
        again.transport.write(b"x")
        self.pair.flush()
        self.assertEqual(again.received, b"X")

    def test_abortConnections(self) -> None:
        """Stopping ends every connection, and says when they are gone."""
        self.serve()
        first = self.pair
        self.connect()
        done = self.factory.abortConnections()
        self.assertNoResult(done)
        first.flush()
        self.assertNoResult(done)
        self.pair.flush()
        self.successResultOf(done)
        self.successResultOf(self.factory.abortConnections())


class EchoDatagramsTests(SynchronousTestCase):
    """L{EchoDatagrams}."""

    def ask(self, datagram: bytes, answer: Answer = bytes.upper) -> DatagramNotes:
        """Send one datagram to a service of its own."""
        self.echo = EchoDatagrams(Clock(), answer)
        notes = listenDatagrams(self.echo)
        self.echo.datagramReceived(datagram, SENDER)
        return notes

    def test_upper(self) -> None:
        """A datagram comes back upper-cased to its sender."""
        self.assertEqual(self.ask("hé".encode()).sent, [("Hé".encode(), SENDER)])

    def test_sizes(self) -> None:
        """Datagrams from empty to the largest that IPv4 carries come back at their size."""
        for size in (0, 1, 1471, 1472, 1473, 65_506, 65_507):
            self.assertEqual(self.ask(b"a" * size).sent, [(b"A" * size, SENDER)])

    def test_loopPorts(self) -> None:
        """What comes from a service that would answer again, or from our own port, is dropped."""
        echo = EchoDatagrams(Clock())
        notes = listenDatagrams(echo, IPv4Address("UDP", "127.0.0.1", 7007))
        for port in (*LOOP_PORTS, 7007):
            with capturedLogs():
                echo.datagramReceived(b"x", ("192.0.2.1", port))
        self.assertEqual(LOOP_PORTS, {7, 13, 17, 19, 37})
        self.assertEqual(notes.sent, [])
        self.assertEqual(echo.dropped, 6)
        echo.datagramReceived(b"x", ("192.0.2.1", 8))
        self.assertEqual(len(notes.sent), 1)

    def test_dropsAreLoggedSparsely(self) -> None:
        """A flood of dropped datagrams is told each time their number has doubled."""
        echo = EchoDatagrams(Clock())
        listenDatagrams(echo)
        with capturedLogs() as events:
            for _ in range(1000):
                echo.datagramReceived(b"x", ("192.0.2.1", 7))
        self.assertEqual(len(events), 10)
        self.assertEqual(
            formatEvent(events[-1]),
            "192.0.2.1:7: no answer, its source port is that of a service that would answer again "
            "(512 so far)",
        )

    def test_amplification(self) -> None:
        """No answer is more than three times its question, headers counted."""
        for asked, most in ((0, 56), (1, 59), (100, 356)):
            fits = self.ask(b"q" * asked, answerFor(reply="r" * most))
            self.assertEqual([len(answer) for answer, _ in fits.sent], [most])
            with capturedLogs() as events:
                over = self.ask(b"q" * asked, answerFor(reply="r" * (most + 1)))
            self.assertEqual(over.sent, [])
            self.assertEqual(self.echo.dropped, 1)
            self.assertIn(f"an answer of {most + 1} bytes to {asked}", formatEvent(events[0]))

    def test_unsent(self) -> None:
        """What the system does not take is counted, and the service goes on."""
        echo = EchoDatagrams(Clock())
        notes = listenDatagrams(echo)
        for failure in (OSError(105, "No buffer space"), MessageLengthError("long")):
            notes.failure = failure
            echo.datagramReceived(b"x", SENDER)
        self.assertEqual(echo.unsent, 2)
        notes.failure = None
        echo.datagramReceived(b"x", SENDER)
        self.assertEqual(notes.sent, [(b"X", SENDER)])
