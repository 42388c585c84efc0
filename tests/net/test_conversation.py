"""
The client's side of a stream or of datagrams: what is read, when waiting ends, and with what words.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Coroutine
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionRefusedError,
    DNSLookupError,
    MessageLengthError,
    TimeoutError,
)
from twisted.internet.interfaces import IHalfCloseableProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_netsuite.errors import ConnectionFailed, LimitExceeded, NetsuiteError, TimedOut
from twisted_netsuite.net.conversation import (
    MAX_WAITING,
    Conversation,
    DatagramConversation,
    connectReason,
    converse,
    resolve,
)
from twisted_netsuite.testing import BUFFER_SIZE, MemoryEndpoint, connectPair, listenDatagrams

NAME = "example:7007"


class Reading(SynchronousTestCase):
    """A L{Conversation} with a server that says what the test says."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.conversation = Conversation(self.clock, NAME)
        self.pair = connectPair(Protocol(), self.conversation)

    def say(self, data: bytes) -> None:
        """Let the server say something."""
        self.pair.server.write(data)
        self.pair.flush()

    def read(self, reading: Coroutine[Any, Any, bytes]) -> Deferred[bytes]:
        """Begin to read."""
        return Deferred.fromCoroutine(reading)

    def failure(self, reading: Deferred[bytes], kind: type[NetsuiteError]) -> str:
        """Take the sentence of a read that has failed, and see that it left no timer."""
        error: Any = self.failureResultOf(reading, kind).value
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return str(error.sentence)


class ChunkTests(Reading):
    """L{Conversation.readChunk} and L{Conversation.readExactly}."""

    def test_there(self) -> None:
        """What is there is read at once, all of it, and no timer is begun."""
        self.say(b"one")
        self.say(b"two")
        reading = self.read(self.conversation.readChunk(10))
        self.assertEqual(self.successResultOf(reading), b"onetwo")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_comes(self) -> None:
        """What is not there yet is waited for, and the timer stops when it comes."""
        reading = self.read(self.conversation.readChunk(10))
        self.clock.advance(9.5)
        self.assertNoResult(reading)
        self.say(b"late")
        self.assertEqual(self.successResultOf(reading), b"late")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_most(self) -> None:
        """No more is taken than was asked for; the rest waits for the next read."""
        self.say(b"hello")
        self.assertEqual(self.successResultOf(self.read(self.conversation.readChunk(1, 2))), b"he")
        self.assertEqual(self.successResultOf(self.read(self.conversation.readChunk(1))), b"llo")

    def test_timeout(self) -> None:
        """When nothing comes in time, that is told with the name, the time and what to do."""
        reading = self.read(self.conversation.readChunk(2.5))
        self.clock.advance(2.5)
        sentence = self.failure(reading, TimedOut)
        self.assertIn(f"{NAME} did not answer within 2.5 s", sentence)
        self.assertIn("give it longer", sentence)

    def test_afterTimeout(self) -> None:
        """After that, what comes late can still be read."""
        reading = self.read(self.conversation.readChunk(1))
        self.clock.advance(1)
        self.failure(reading, TimedOut)
        self.say(b"late")
        self.assertEqual(self.successResultOf(self.read(self.conversation.readChunk(1))), b"late")

    def test_ended(self) -> None:
        """A connection that ends while it is read, or before, is told of with its name."""
        reading = self.read(self.conversation.readChunk(10))
        self.pair.server.loseConnection()
        self.pair.flush()
        for one in (reading, self.read(self.conversation.readChunk(10))):
            sentence = self.failure(one, ConnectionFailed)
            self.assertIn(f"{NAME} closed the connection before it had answered", sentence)

    def test_reset(self) -> None:
        """So is one that is reset."""
        reading = self.read(self.conversation.readChunk(10))
        self.pair.server.abortConnection()
        self.pair.flush()
        self.failure(reading, ConnectionFailed)

    def test_restAfterEnd(self) -> None:
        """What came before the end can be read after it."""
        self.say(b"last words")
        self.pair.server.loseConnection()
        self.pair.flush()
        reading = self.read(self.conversation.readChunk(1))
        self.assertEqual(self.successResultOf(reading), b"last words")
        self.failure(self.read(self.conversation.readChunk(1)), ConnectionFailed)

    def test_halfClosed(self) -> None:
        """A server that sends no more ends the connection, which is closed from here too."""
        self.say(b"answer")
        self.pair.server.loseWriteConnection()
        self.pair.flush()
        assert self.conversation.ended is not None
        self.assertTrue(self.conversation.ended.check(ConnectionDone))
        self.assertIsNotNone(self.pair.client.lost)

    def test_halfClosedStalled(self) -> None:
        """A read ends with the server's side at once, also while what we sent is not taken."""
        reading = self.read(self.conversation.readChunk(10))
        self.pair.server.pauseProducing()
        self.conversation.write(b"never taken")
        self.pair.server.loseWriteConnection()
        self.pair.flush()
        self.assertIsNone(self.pair.client.lost)
        self.failure(reading, ConnectionFailed)

    def test_cancelled(self) -> None:
        """A caller that gives up gets no sentence about an answer that was late: it was not."""
        reading = self.read(self.conversation.readChunk(10))
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.say(b"x")
        self.assertEqual(self.successResultOf(self.read(self.conversation.readChunk(1))), b"x")

    def test_exactly(self) -> None:
        """So many bytes are read as were asked for, however they come, and none more."""
        reading = self.read(self.conversation.readExactly(5, 10))
        self.pair.server.write(b"hello world")
        self.pair.flush(1)
        self.assertEqual(self.successResultOf(reading), b"hello")
        self.assertEqual(self.successResultOf(self.read(self.conversation.readChunk(1))), b" world")

    def test_exactlyNone(self) -> None:
        """No bytes are read at once."""
        self.assertEqual(self.successResultOf(self.read(self.conversation.readExactly(0, 1))), b"")

    def test_exactlySlow(self) -> None:
        """A server that goes on sending may take longer in all than one wait may."""
        reading = self.read(self.conversation.readExactly(4, 10))
        for byte in (b"a", b"b", b"c", b"d"):
            self.clock.advance(9)
            self.say(byte)
        self.assertEqual(self.successResultOf(reading), b"abcd")

    def test_exactlyStalls(self) -> None:
        """A server that stops in the middle is late, one that closes there has failed."""
        reading = self.read(self.conversation.readExactly(4, 10))
        self.say(b"ab")
        self.clock.advance(10)
        self.failure(reading, TimedOut)
        reading = self.read(self.conversation.readExactly(4, 10))
        self.pair.server.loseConnection()
        self.pair.flush()
        self.failure(reading, ConnectionFailed)

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.binary(max_size=50)), st.lists(st.integers(1, 60)))
    def test_anyReads(self, said: list[bytes], counts: list[int]) -> None:
        """However it is sent and read, the bytes are those that were sent."""
        self.setUp()
        everything = b"".join(said)
        for data in said:
            self.say(data)
        got = b""
        for count in counts:
            wanted = min(count, len(everything) - len(got))
            reading = self.read(self.conversation.readExactly(wanted, 1))
            got += self.successResultOf(reading)
        self.assertEqual(got, everything[: len(got)])


class BackpressureTests(Reading):
    """What waits to be read is bounded."""

    def test_limit(self) -> None:
        """The server is made to wait just when so much waits here as may."""
        self.say(bytes(MAX_WAITING - 1))
        self.assertTrue(self.pair.client.reading)
        self.say(b"1")
        self.assertFalse(self.pair.client.reading)

    def test_flood(self) -> None:
        """A server that sends without end costs no more than the bound."""
        self.say(bytes(100 * BUFFER_SIZE))
        held = 100 * BUFFER_SIZE - len(self.pair.server.outgoing)
        self.assertEqual(held, MAX_WAITING)

    def test_readOn(self) -> None:
        """A read makes room, and then everything arrives."""
        self.say(bytes(MAX_WAITING) + b"rest")
        self.successResultOf(self.read(self.conversation.readExactly(1, 1)))
        self.assertTrue(self.pair.client.reading)
        reading = self.read(self.conversation.readExactly(MAX_WAITING + 3, 1))
        self.pair.flush()
        self.assertEqual(self.successResultOf(reading)[-4:], b"rest")

    def test_stillFull(self) -> None:
        """A read that does not make enough room does not let more in."""
        self.pair.server.write(bytes(2 * MAX_WAITING))
        self.pair.flush(2 * MAX_WAITING)
        self.successResultOf(self.read(self.conversation.readExactly(10, 1)))
        self.assertFalse(self.pair.client.reading)

    def test_endAfterFlood(self) -> None:
        """What is held back is still there when the server has long closed."""
        self.pair.server.write(bytes(MAX_WAITING + 10))
        self.pair.server.loseConnection()
        self.pair.flush()
        reading = self.read(self.conversation.readExactly(MAX_WAITING + 10, 1))
        self.pair.flush()
        self.assertEqual(len(self.successResultOf(reading)), MAX_WAITING + 10)


class QuietTests(Reading):
    """L{Conversation.readUntilQuiet}: an answer that has no mark at its end."""

    def until(self, enough: int = 0, limit: int = 1000) -> Deferred[bytes]:
        """Read with a second for the first byte and half of one for the others."""
        return self.read(self.conversation.readUntilQuiet(1, 0.5, enough, limit))

    def test_silence(self) -> None:
        """Silence ends an answer, counted from its last byte."""
        reading = self.until()
        self.clock.advance(0.75)
        self.say(b"one")
        self.clock.advance(0.25)
        self.say(b"two")
        self.clock.advance(0.25)
        self.assertNoResult(reading)
        self.clock.advance(0.25)
        self.assertEqual(self.successResultOf(reading), b"onetwo")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_enough(self) -> None:
        """An answer of known length ends with its last byte, without waiting for silence."""
        reading = self.until(enough=5)
        self.say(b"hell")
        self.assertNoResult(reading)
        self.say(b"o")
        self.assertEqual(self.successResultOf(reading), b"hello")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_limit(self) -> None:
        """An answer without end is no longer read once the limit is reached."""
        reading = self.until(limit=10)
        self.say(b"123456789")
        self.assertNoResult(reading)
        self.say(b"0")
        self.assertEqual(self.successResultOf(reading), b"1234567890")

    def test_closed(self) -> None:
        """The end of the connection ends an answer."""
        reading = self.until()
        self.say(b"one")
        self.pair.server.loseConnection()
        self.pair.flush()
        self.assertEqual(self.successResultOf(reading), b"one")

    def test_nothing(self) -> None:
        """An answer that never begins is late, or has failed."""
        reading = self.until()
        self.clock.advance(1)
        self.failure(reading, TimedOut)
        reading = self.until()
        self.pair.server.loseConnection()
        self.pair.flush()
        self.failure(reading, ConnectionFailed)

    def test_cancelled(self) -> None:
        """To give up in the middle of an answer is not its end."""
        reading = self.until()
        self.say(b"half an ans")
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class WritingTests(Reading):
    """What is sent."""

    def test_write(self) -> None:
        """What is written arrives."""
        self.pair = connectPair(Answers(), self.conversation)
        self.conversation.write(b"hello")
        self.pair.flush()
        reading = self.read(self.conversation.readChunk(1))
        self.assertEqual(self.successResultOf(reading), b"hello")

    def test_close(self) -> None:
        """A close flushes."""
        self.conversation.write(b"bye")
        self.conversation.close()
        self.pair.flush()
        assert self.pair.client.lost is not None
        self.assertTrue(self.pair.client.lost.check(ConnectionDone))


@implementer(IHalfCloseableProtocol)
class Answers(Protocol):
    """Answers as it was asked; when the other side ends, it says goodbye."""

    def dataReceived(self, data: bytes) -> None:
        cast(Any, self.transport).write(data)

    def readConnectionLost(self) -> None:
        cast(Any, self.transport).write(b", goodbye")
        cast(Any, self.transport).loseConnection()

    def writeConnectionLost(self) -> None:
        """As asked."""


@implementer(IStreamClientEndpoint)
class Failing:
    """An endpoint that connects as the test says."""

    def __init__(self, answer: Deferred[Any]) -> None:
        self.answer = answer

    def connect(self, protocolFactory: object) -> Deferred[Any]:
        return self.answer


class ConverseTests(SynchronousTestCase):
    """L{converse}: connecting."""

    def test_connects(self) -> None:
        """A connection that is made can be talked over."""
        server = Factory.forProtocol(Answers)
        endpoint = MemoryEndpoint(server)
        talk = self.successResultOf(Deferred.fromCoroutine(converse(endpoint, Clock(), NAME)))
        talk.write(b"hello")
        endpoint.flush()
        reading = Deferred.fromCoroutine(talk.readChunk(1))
        self.assertEqual(self.successResultOf(reading), b"hello")

    def test_fails(self) -> None:
        """A connection that is not made is one sentence with name, reason and what to do."""
        for error, reason in (
            (
                ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
                "connection refused",
            ),
            (OSError(errno.EINVAL, "Invalid argument"), "invalid argument"),
            (DNSLookupError("no results for hostname lookup: example"), "no results for hostname"),
        ):
            made = Deferred.fromCoroutine(converse(Failing(fail(error)), Clock(), NAME))
            sentence = str(self.failureResultOf(made, ConnectionFailed).value)
            self.assertIn(f"Cannot connect to {NAME}: ", sentence)
            self.assertIn(reason, sentence)
            self.assertIn("see whether the service runs there", sentence)

    def test_cancelled(self) -> None:
        """A caller that gives up gets no sentence about a connection that failed: it did not."""
        waiting: Deferred[Any] = Deferred(lambda d: d.errback(ConnectingCancelledError(None)))
        for answer in (Deferred(), waiting):
            made = Deferred.fromCoroutine(converse(Failing(answer), Clock(), NAME))
            made.cancel()
            self.failureResultOf(made, CancelledError)


class ReasonTests(SynchronousTestCase):
    """L{connectReason}: a failure in a few words."""

    def test_reasons(self) -> None:
        """The system's own words are used where it has spoken, else those of the failure."""
        inside = ConnectionRefusedError()
        inside.osError = OSError(errno.ECONNREFUSED, "Connection refused")
        for error, reason in (
            (
                ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
                "connection refused",
            ),
            (inside, "connection refused"),
            (ConnectError(string="No route to host."), "no route to host"),
            (DNSLookupError("no results: x"), "DNS lookup failed: no results: x"),
            (TimeoutError(), "user timeout caused connection failure"),
            (ValueError("Two\nlines."), "two lines"),
            (ValueError(), "ValueError"),
        ):
            self.assertEqual(connectReason(error), reason)


class DatagramTests(SynchronousTestCase):
    """L{DatagramConversation} with one address."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.received: list[bytes] = []
        self.talk = DatagramConversation(self.clock, "192.0.2.1", 7007, self.received.append)
        self.notes = listenDatagrams(self.talk)

    def ask(self, datagram: bytes, timeout: float = 10) -> Deferred[bytes]:
        """Ask."""
        return Deferred.fromCoroutine(self.talk.ask(datagram, timeout))

    def come(self, datagram: bytes) -> None:
        """Let a datagram come."""
        self.talk.datagramReceived(datagram, ("192.0.2.1", 7007))

    def failure(self, asked: Deferred[bytes], kind: type[NetsuiteError]) -> str:
        """Take the sentence of what has failed, and see that it left no timer."""
        sentence = str(self.failureResultOf(asked, kind).value)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return sentence

    def test_connected(self) -> None:
        """It talks to its one address, so that nobody else is heard and a refusal is."""
        self.assertEqual(self.notes.connected, ("192.0.2.1", 7007))

    def test_answer(self) -> None:
        """A datagram is sent as it is, and the next that comes is its answer, an empty one, too."""
        for datagram in (b"hello", b""):
            asked = self.ask(datagram)
            self.assertNoResult(asked)
            self.come(datagram.upper())
            self.assertEqual(self.successResultOf(asked), datagram.upper())
        self.assertEqual([sent for sent, _ in self.notes.sent], [b"hello", b""])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unasked(self) -> None:
        """What comes unasked is passed on, and is no answer to what is asked later."""
        self.come(b"news")
        asked = self.ask(b"x")
        self.assertNoResult(asked)
        self.come(b"y")
        self.assertEqual(self.successResultOf(asked), b"y")
        self.come(b"z")
        self.assertEqual(self.received, [b"news", b"y", b"z"])

    def test_late(self) -> None:
        """When none comes in time, that is told with the name, the time and what to do."""
        asked = self.ask(b"x", 2.5)
        self.clock.advance(2.25)
        self.assertNoResult(asked)
        self.clock.advance(0.25)
        sentence = self.failure(asked, TimedOut)
        self.assertIn("No answer from 192.0.2.1:7007 within 2.5 s", sentence)
        self.assertIn("send it again", sentence)

    def test_afterLate(self) -> None:
        """An answer that comes too late harms nothing, and the next question is answered."""
        asked = self.ask(b"x", 1)
        self.clock.advance(1)
        self.failure(asked, TimedOut)
        self.come(b"late")
        asked = self.ask(b"y", 1)
        self.come(b"in time")
        self.assertEqual(self.successResultOf(asked), b"in time")

    def test_refused(self) -> None:
        """When nobody listens there, that is told at once."""
        asked = self.ask(b"x")
        self.talk.connectionRefused()
        sentence = self.failure(asked, ConnectionFailed)
        self.assertIn("Nobody listens at 192.0.2.1:7007", sentence)
        self.assertIn("see whether the service runs there", sentence)

    def test_refusedUnasked(self) -> None:
        """A refusal that nobody waits for harms nothing."""
        self.talk.connectionRefused()
        asked = self.ask(b"x")
        self.come(b"y")
        self.assertEqual(self.successResultOf(asked), b"y")

    def test_tooLarge(self) -> None:
        """What fits in no datagram is told of with its size."""
        self.notes.failure = MessageLengthError()
        sentence = self.failure(self.ask(bytes(70_000)), LimitExceeded)
        self.assertIn("70000 bytes fit in no datagram", sentence)
        self.assertIn("send fewer", sentence)

    def test_notTaken(self) -> None:
        """What the system cannot send is told of with its reason."""
        self.notes.failure = OSError(errno.ENETUNREACH, "Network is unreachable")
        sentence = self.failure(self.ask(b"x"), ConnectionFailed)
        self.assertIn("Cannot send to 192.0.2.1:7007: network is unreachable", sentence)
        self.assertIn("try again later", sentence)

    def test_cancelled(self) -> None:
        """A caller that gives up leaves no timer, and what comes after is not lost on the next."""
        asked = self.ask(b"x")
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        asked = self.ask(b"y")
        self.come(b"z")
        self.assertEqual(self.successResultOf(asked), b"z")

    def test_name(self) -> None:
        """An IPv6 address is named with brackets."""
        self.assertEqual(DatagramConversation(self.clock, "::1", 7).name, "[::1]:7")


class ResolveTests(SynchronousTestCase):
    """L{resolve}, without asking any name server."""

    def test_address(self) -> None:
        """An address is its own answer."""
        self.assertEqual(resolve("127.0.0.1", 7), ("127.0.0.1", 7))
        self.assertEqual(resolve("::1", 7), ("::1", 7))

    def test_none(self) -> None:
        """A host that has no address is named, with the reason and what to do."""

        def none(*args: object, **kwargs: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        self.patch(socket, "getaddrinfo", none)
        with self.assertRaises(ConnectionFailed) as caught:
            resolve("exmaple", 7)
        sentence = caught.exception.sentence
        self.assertIn("'exmaple' has no address: name or service not known", sentence)
        self.assertIn("see whether it is written right", sentence)
