"""
The switchboard between plain UDP clients and the consoles of operators.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.chat.consoles import connectConsole
from tests.chat.test_messages import GARBAGE
from tests.echo.farend import FarEnd
from twisted_netsuite.chat.classic import (
    ANSWER_BURST,
    KEPT,
    MAX_KEPT,
    MAX_KEPT_OF_HOST,
    MAX_KEPT_TEXT,
    MAX_SENDERS,
    NOT_KEPT,
    OPERATOR_LIMITS,
    OperatorFactory,
    Switchboard,
)
from twisted_netsuite.chat.messages import (
    MAX_LINE,
    MAX_TEXT,
    Message,
    Notice,
    Reply,
    decodeForConsole,
    encodeLine,
)
from twisted_netsuite.net.datagrams import LOOP_PORTS, largestAnswer
from twisted_netsuite.testing import DatagramNotes, Pair, listenDatagrams

ANNA = ("192.0.2.1", 5001)
BERT = ("192.0.2.2", 5002)
CARL = ("2001:db8::3", 5003)

#: What the system's clock says in these tests.
NOW = 1_700_000_000.0


class Console:
    """One operator's console."""

    def __init__(self, factory: OperatorFactory) -> None:
        service = factory.buildProtocol(None)
        assert service is not None
        self._far = FarEnd()
        self.pair: Pair = connectConsole(service, self._far)

    def shown(self) -> list[Message | Notice]:
        """Take the records that came since."""
        self.pair.flush()
        lines = bytes(self._far.received).split(b"\n")
        self._far.received[:] = lines.pop()
        return [decodeForConsole(line) for line in lines]

    def texts(self) -> list[str]:
        """Take the texts of the records that came since."""
        return [record.text for record in self.shown()]

    def send(self, data: bytes) -> None:
        """Send bytes to the service."""
        self._far.transport.write(data)
        self.pair.flush()

    def reply(self, to: str, text: str) -> None:
        """Answer somebody."""
        self.send(encodeLine(Reply(to, text)) + b"\n")


class ChatTestCase(SynchronousTestCase):
    """A service with one address of each version of IP."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.switchboard = Switchboard(self.clock, lambda: NOW)
        self.factory = OperatorFactory(self.clock, self.switchboard)
        self.line = self.switchboard.listen()
        self.notes = listenDatagrams(self.line, IPv4Address("UDP", "127.0.0.1", 7425))

    def hear(self, text: str | bytes, sender: tuple[str, int] = ANNA) -> None:
        """Let somebody write."""
        datagram = text.encode() if isinstance(text, str) else text
        self.line.datagramReceived(datagram, sender)

    def listen6(self) -> DatagramNotes:
        """Add an address of IPv6."""
        self.line6 = self.switchboard.listen()
        host = IPv6Address("UDP", "::1", 7425)
        return listenDatagrams(self.line6, host)  # type: ignore[arg-type]

    def answers(self) -> list[tuple[str, tuple[str, int] | None]]:
        """Take what was sent since."""
        sent = [(datagram.decode(), to) for datagram, to in self.notes.sent]
        self.notes.sent.clear()
        return sent


class DeliveryTests(ChatTestCase):
    """Messages on their way to operators."""

    def test_message(self) -> None:
        """An operator sees when who wrote what, and the sender gets no automatic answer."""
        console = Console(self.factory)
        self.hear("hello")
        self.assertEqual(console.shown(), [Message(NOW, "192.0.2.1:5001", "hello")])
        self.assertEqual(self.answers(), [])

    def test_everyOperator(self) -> None:
        """Every operator sees every message."""
        consoles = [Console(self.factory), Console(self.factory)]
        self.hear("hello")
        for console in consoles:
            self.assertEqual(console.texts(), ["hello"])

    def test_kept(self) -> None:
        """Without an operator a message is kept, its sender is told, and the next operator sees
        all that were kept in order, once."""
        self.hear("one", ANNA)
        self.hear("two", BERT)
        self.assertEqual(self.answers(), [(KEPT, ANNA), (KEPT, BERT)])
        first, second = Console(self.factory), Console(self.factory)
        self.hear("three")
        self.assertEqual(first.texts(), ["one", "two", "three"])
        self.assertEqual(second.texts(), ["three"])

    def test_operatorLeaves(self) -> None:
        """What comes after the last operator has left is kept again."""
        console = Console(self.factory)
        console.pair.client.abortConnection()
        console.pair.flush()
        self.hear("one")
        self.assertEqual(self.answers(), [(KEPT, ANNA)])
        self.assertEqual(Console(self.factory).texts(), ["one"])

    def test_operatorEnds(self) -> None:
        """A console that has said that it ends gets no more; what comes meanwhile is kept."""
        console = Console(self.factory)
        console.pair.client.pauseProducing()
        self.hear("before")
        console.pair.client.loseWriteConnection()
        console.pair.flush()
        self.hear("after")
        self.assertEqual(self.answers(), [(KEPT, ANNA)])
        console.pair.client.resumeProducing()
        self.assertEqual(console.texts(), ["before"])
        assert console.pair.server.lost is not None
        self.assertTrue(console.pair.server.lost.check(ConnectionDone))
        self.assertEqual(Console(self.factory).texts(), ["after"])

    def test_stalledOperator(self) -> None:
        """A console that takes nothing is detached: what comes is kept, and delivered in order
        once it takes messages again."""
        console = Console(self.factory)
        console.pair.client.pauseProducing()
        sent = [f"{n}" + "x" * 8000 for n in range(20)]
        for text in sent:
            self.hear(text)
        console.pair.flush()
        self.assertLess(len(console.pair.server.outgoing), 64 * 1024 + MAX_LINE)
        self.assertGreater(len(self.switchboard.kept), 5)
        self.assertEqual(len(self.answers()), len(self.switchboard.kept))
        console.pair.client.resumeProducing()
        self.assertEqual(console.texts(), sent)
        self.assertEqual(len(self.switchboard.kept), 0)
        self.hear("live")
        self.assertEqual(console.texts(), ["live"])

    def test_stalledWhileCatchingUp(self) -> None:
        """An operator who stalls in the midst of what was kept gets the rest later, in order."""
        sent = [f"{n}" + "x" * 8000 for n in range(100)]
        for text in sent:
            self.hear(text)
        console = Console(self.factory)
        self.assertGreater(len(self.switchboard.kept), 80)
        console.pair.client.pauseProducing()
        console.pair.flush()
        self.assertGreater(len(self.switchboard.kept), 80)
        console.pair.client.resumeProducing()
        self.assertEqual(console.texts(), sent)

    def test_stalledThatEnds(self) -> None:
        """A stalled console that ends gets all that waits once it takes messages, and no one gets
        any of it twice."""
        console = Console(self.factory)
        console.pair.client.pauseProducing()
        sent = [f"{n}" + "x" * 8000 for n in range(20)]
        for text in sent:
            self.hear(text)
        console.pair.client.loseWriteConnection()
        console.pair.flush()
        console.pair.client.resumeProducing()
        self.assertEqual(console.texts(), sent)
        assert console.pair.server.lost is not None
        self.assertTrue(console.pair.server.lost.check(ConnectionDone))
        self.assertEqual(Console(self.factory).texts(), [])

    def test_stalledIsNotRead(self) -> None:
        """A console that takes nothing is not read, as each of its lines may be answered."""
        console = Console(self.factory)
        console.pair.client.pauseProducing()
        for n in range(20):
            self.hear(f"{n}" + "x" * 8000)
        self.answers()
        console.reply("192.0.2.1:5001", "hi")
        self.assertEqual(self.answers(), [])
        console.pair.client.resumeProducing()
        console.pair.flush()
        self.assertEqual(self.answers(), [("hi", ANNA)])

    def test_stalledBesideAnother(self) -> None:
        """While one operator stalls, another gets every message."""
        stalled, other = Console(self.factory), Console(self.factory)
        stalled.pair.client.pauseProducing()
        for n in range(20):
            self.hear(f"{n}" + "x" * 8000)
            self.assertEqual(len(other.texts()), 1)
        self.assertEqual(self.answers(), [])
        self.assertEqual(len(self.switchboard.kept), 0)


class LimitTests(ChatTestCase):
    """What a flood can do."""

    def flood(self, count: int, text: str) -> list[str]:
        """Let many people write once each, and take what they were answered."""
        for n in range(count):
            self.hear(text, (f"198.51.{n // 250}.{n % 250}", 5000))
        return [text for text, _ in self.answers()]

    def test_maxKept(self) -> None:
        """So many messages are kept and no more, and the sender of one over it is told."""
        self.assertEqual(set(self.flood(MAX_KEPT - 1, "x")), {KEPT})
        self.assertEqual(self.flood(3, "y"), [KEPT, NOT_KEPT, NOT_KEPT])
        self.assertEqual(len(self.switchboard.kept), MAX_KEPT)
        self.assertEqual(Console(self.factory).texts(), ["x"] * (MAX_KEPT - 1) + ["y"])

    def test_maxKeptText(self) -> None:
        """So many characters are kept and no more."""
        full = MAX_KEPT_TEXT // MAX_TEXT - 1
        self.assertEqual(self.flood(full, "x" * MAX_TEXT), [KEPT] * full)
        self.assertEqual(self.flood(1, "x" * (MAX_TEXT - 1)), [KEPT])
        self.assertEqual(self.flood(3, "xx"), [NOT_KEPT] * 3)
        self.assertEqual(self.flood(2, "x"), [KEPT, NOT_KEPT])

    def test_maxKeptOfHost(self) -> None:
        """So many messages of one host are kept, whatever its ports, and others have room."""

        def fromHost(count: int, host: str = "2001:db8::1") -> list[str]:
            for port in range(count):
                self.hear("x", (host, 5000 + port))
                self.clock.advance(1)
            return [text for text, _ in self.answers()]

        for _ in range(2):
            self.assertEqual(fromHost(MAX_KEPT_OF_HOST - 1), [KEPT] * (MAX_KEPT_OF_HOST - 1))
            self.assertEqual(fromHost(3), [KEPT, NOT_KEPT, NOT_KEPT])
            self.assertEqual(fromHost(1, "2001:db8::2"), [KEPT])
            console = Console(self.factory)
            self.assertEqual(len(console.texts()), MAX_KEPT_OF_HOST + 1)
            console.pair.client.abortConnection()
            console.pair.flush()

    def test_roomAfterDelivery(self) -> None:
        """Once an operator has taken what was kept, there is room for as much again."""
        full = MAX_KEPT_TEXT // MAX_TEXT
        for _ in range(3):
            self.assertEqual(self.flood(full + 1, "x" * MAX_TEXT), [KEPT] * full + [NOT_KEPT])
            console = Console(self.factory)
            self.assertEqual(len(console.texts()), full)
            console.pair.client.abortConnection()
            console.pair.flush()

    def test_answersAreLimited(self) -> None:
        """One sender gets a burst of answers, then one a second; its messages are still kept."""
        for _ in range(ANSWER_BURST + 10):
            self.hear("x")
        self.assertEqual(len(self.answers()), ANSWER_BURST)
        self.hear("y", BERT)
        self.assertEqual(self.answers(), [(KEPT, BERT)])
        self.clock.advance(1)
        self.hear("x")
        self.hear("x")
        self.assertEqual(self.answers(), [(KEPT, ANNA)])
        self.assertEqual(len(self.switchboard.kept), ANSWER_BURST + 13)

    def test_twoServices(self) -> None:
        """Two services that answer each other come to rest."""
        far = Switchboard(self.clock).listen()
        farNotes = listenDatagrams(far, IPv4Address("UDP", "127.0.0.1", 7426))
        self.hear("start", ("127.0.0.1", 7426))
        exchanged = 0
        while self.notes.sent or farNotes.sent:
            for notes, to, sender in (
                (self.notes, far, ("127.0.0.1", 7425)),
                (farNotes, self.line, ("127.0.0.1", 7426)),
            ):
                waiting, notes.sent = notes.sent, []
                for datagram, _ in waiting:
                    exchanged += 1
                    to.datagramReceived(datagram, sender)
            self.assertLess(exchanged, 1000)
        self.assertEqual(exchanged, 1)

    def test_automaticAnswers(self) -> None:
        """An automatic answer that comes back, upper-cased too, is neither kept nor answered."""
        for text in (KEPT, NOT_KEPT, KEPT.upper(), NOT_KEPT.upper(), f" {KEPT}\r\n"):
            self.hear(text)
        self.assertEqual(self.answers(), [])
        self.assertEqual(len(self.switchboard.kept), 0)
        self.hear(f"{KEPT} What?")
        self.assertEqual(self.answers(), [(KEPT, ANNA)])

    @settings(deadline=None, max_examples=50)
    @given(st.binary(min_size=1, max_size=100), st.booleans())
    def test_amplification(self, datagram: bytes, full: bool) -> None:
        """No automatic answer is more than three times its question."""
        switchboard = Switchboard(Clock())
        line = switchboard.listen()
        notes = listenDatagrams(line)
        if full:
            switchboard._keptText = MAX_KEPT_TEXT
        line.datagramReceived(datagram, ANNA)
        for answer, _ in notes.sent:
            self.assertLessEqual(len(answer), largestAnswer(len(datagram)))
        self.assertEqual(line.dropped, 0)

    def test_loopPorts(self) -> None:
        """What comes from a port that answers again, or from our own, is neither kept nor
        answered."""
        with capturedLogs():
            for port in (*LOOP_PORTS, 7425):
                self.hear("x", ("192.0.2.1", port))
        self.assertEqual(self.answers(), [])
        self.assertEqual(len(self.switchboard.kept), 0)

    def test_operatorLimit(self) -> None:
        """Only a few consoles are taken at a time."""
        for _ in range(OPERATOR_LIMITS.maxConnections):
            Console(self.factory)
        with capturedLogs():
            console = Console(self.factory)
            console.pair.flush()
        assert console.pair.client.lost is not None
        self.assertIsNotNone(console.pair.server.lost)

    def test_silentOperator(self) -> None:
        """An operator may be silent for ever."""
        console = Console(self.factory)
        self.clock.advance(1e8)
        self.hear("hello")
        self.assertEqual(console.texts(), ["hello"])


class TextTests(ChatTestCase):
    """What people write."""

    def shown(self, datagram: bytes) -> list[str]:
        """Tell what an operator sees of a datagram."""
        console = Console(self.factory)
        self.hear(datagram)
        texts = console.texts()
        console.pair.client.abortConnection()
        console.pair.flush()
        return texts

    def test_blank(self) -> None:
        """A blank datagram is no message, and is not answered."""
        for datagram in (b"", b" ", b"\r\n", b"\t \n", "\u3000\u00a0".encode()):
            self.assertEqual(self.shown(datagram), [])
            self.hear(datagram)
        self.assertEqual(self.answers(), [])
        self.assertEqual(len(self.switchboard.kept), 0)

    def test_clean(self) -> None:
        """Nothing that a stranger writes controls a terminal or changes how a line reads."""
        for datagram, text in (
            (b"hello\n", "hello"),
            (b"a\nb\r\tc", "a b  c"),
            (b"\x1b[2Jx", "\ufffd[2Jx"),
            ("\x9b2Jx".encode(), "\ufffd2Jx"),
            ("a\u202eb\u2066c".encode(), "a\ufffdb\ufffdc"),
            (b"\xff\xfe", "\ufffd\ufffd"),
            (b"\x00", "\ufffd"),
            ("你好 é".encode(), "你好 é"),
        ):
            self.assertEqual(self.shown(datagram), [text])

    def test_long(self) -> None:
        """A text is cut at the limit, and shows that it was."""
        self.assertEqual(self.shown(b"x" * MAX_TEXT), ["x" * MAX_TEXT])
        self.assertEqual(self.shown(b"x" * (MAX_TEXT + 1)), ["x" * (MAX_TEXT - 1) + "…"])
        self.assertEqual(len(self.shown(b"x" * 65_507)[0]), MAX_TEXT)

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=200))
    def test_anyDatagram(self, datagram: bytes) -> None:
        """Whatever comes is one printable line or nothing."""
        for text in self.shown(datagram):
            self.assertTrue(text.strip())
            self.assertNotRegex(text, "[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class ReplyTests(ChatTestCase):
    """Answers on their way to people."""

    def setUp(self) -> None:
        super().setUp()
        self.console = Console(self.factory)

    def assertNotice(self, sentence: str) -> None:
        """The operator is told something, and is still there."""
        self.assertEqual(self.console.shown(), [Notice(sentence)])
        self.assertIsNone(self.console.pair.server.lost)
        self.assertEqual(self.answers(), [])

    def test_reply(self) -> None:
        """An answer reaches its address, also one that has never written."""
        self.hear("hello")
        self.console.reply("192.0.2.1:5001", "hi é")
        self.console.reply("192.0.2.99:1", "you do not know me")
        self.assertEqual(
            self.answers(), [("hi é", ANNA), ("you do not know me", ("192.0.2.99", 1))]
        )

    def test_replyToIPv6(self) -> None:
        """An answer over IPv6 leaves from the address that speaks it."""
        notes6 = self.listen6()
        self.line6.datagramReceived(b"hello", CARL)
        self.assertEqual(self.console.shown(), [Message(NOW, "[2001:db8::3]:5003", "hello")])
        self.console.reply("[2001:db8::3]:5003", "hi")
        self.console.reply("[2001:db8::4]:1", "stranger")
        self.assertEqual(notes6.sent, [(b"hi", CARL), (b"stranger", ("2001:db8::4", 1))])
        self.assertEqual(self.answers(), [])

    def test_replyFromWhereItCameIn(self) -> None:
        """With several addresses, an answer leaves from the one that its sender wrote to."""
        second = self.switchboard.listen()
        notes = listenDatagrams(second, IPv4Address("UDP", "192.0.2.100", 7425))
        second.datagramReceived(b"hello", BERT)
        self.hear("hello", ANNA)
        self.console.reply("192.0.2.2:5002", "hi")
        self.console.reply("192.0.2.1:5001", "ho")
        self.assertEqual(notes.sent, [(b"hi", BERT)])
        self.assertEqual(self.answers(), [("ho", ANNA)])
        self.hear("now here", BERT)
        self.console.reply("192.0.2.2:5002", "hi")
        self.assertEqual(self.answers(), [("hi", BERT)])

    def test_restarted(self) -> None:
        """Answers leave through the address that listens now, not through one that has stopped."""
        self.hear("hello", ANNA)
        self.line.stopProtocol()
        self.answers()
        again = listenDatagrams(self.switchboard.listen(), IPv4Address("UDP", "127.0.0.1", 7425))
        self.console.reply("192.0.2.1:5001", "hi")
        self.console.reply("192.0.2.99:1", "stranger")
        self.assertEqual(again.sent, [(b"hi", ANNA), (b"stranger", ("192.0.2.99", 1))])
        self.assertEqual(self.answers(), [])

    def test_sendersAreForgotten(self) -> None:
        """Only so many senders are remembered; one that was forgotten can still be answered."""
        second = self.switchboard.listen()
        notes = listenDatagrams(second, IPv4Address("UDP", "192.0.2.100", 7425))
        second.datagramReceived(b"hello", BERT)
        for n in range(MAX_SENDERS - 1):
            self.hear("x", (f"198.51.{n // 250}.{n % 250}", 5000))
        self.console.reply("192.0.2.2:5002", "remembered")
        self.assertEqual(notes.sent, [(b"remembered", BERT)])
        self.hear("x", ANNA)
        self.answers()
        self.console.reply("192.0.2.2:5002", "forgotten")
        self.assertEqual(self.answers(), [("forgotten", BERT)])

    def test_badAddress(self) -> None:
        """What is no address is answered with one sentence that says how to write it."""
        for to in (
            "",
            "anna",
            "192.0.2.1",
            "host:1",
            "192.0.2.1:65536",
            "1.2.3:4",
            "::1:5",
            "[x]:1",
        ):
            self.console.reply(to, "hi")
            self.assertNotice(f"{to!r} is no IP:PORT; write @IP:PORT and the text.")

    def test_noIPv6(self) -> None:
        """An address that no line can reach is told so."""
        self.console.reply("[::1]:5", "hi")
        self.assertNotice("This service does not listen on IPv6, so [::1]:5 cannot be reached.")

    def test_unsent(self) -> None:
        """An answer that the system does not take is told to the operator, not lost in silence."""
        self.notes.failure = OSError(101, "Network is unreachable")
        self.console.reply("192.0.2.1:5001", "hi")
        self.assertNotice(
            "The system did not take the answer to 192.0.2.1:5001; see whether that address can be "
            "reached, or write a shorter text."
        )

    def test_garbage(self) -> None:
        """A line that is no record is answered with a notice, and the console goes on."""
        for line in GARBAGE:
            self.console.send(line + b"\n")
            [notice] = self.console.shown()
            self.assertIn("The console sent a line that cannot be read", notice.text)
        self.console.reply("192.0.2.1:5001", "still here")
        self.assertEqual(self.answers(), [("still here", ANNA)])

    def test_split(self) -> None:
        """An answer may come in pieces, and several in one."""
        line = encodeLine(Reply("192.0.2.1:5001", "hi")) + b"\n"
        for byte in line:
            self.console.send(bytes([byte]))
        self.console.send(line + line)
        self.assertEqual(self.answers(), [("hi", ANNA)] * 3)

    def test_longLine(self) -> None:
        """A line of the largest size is read; a longer one, ended or not, is no console of ours."""
        for size, ended in ((MAX_LINE, b"\n"), (MAX_LINE, b"")):
            self.console.send(b"x" * size + ended)
            self.assertIsNone(self.console.pair.server.lost)
        self.console.send(b"\n")
        self.assertEqual(len(self.console.shown()), 2)
        for line in (b"x" * (MAX_LINE + 1) + b"\n", b"x" * (MAX_LINE + 1)):
            console = Console(self.factory)
            with capturedLogs() as events:
                console.send(line)
            assert console.pair.server.lost is not None
            self.assertTrue(console.pair.server.lost.check(ConnectionAborted))
            self.assertEqual(
                [formatEvent(event) for event in events],
                [f"unix: closed, a line is longer than {MAX_LINE} bytes"],
            )
        self.console.reply("192.0.2.1:5001", "others go on")
        self.assertEqual(self.answers(), [("others go on", ANNA)])
