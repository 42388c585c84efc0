"""
The server's end of a session, as a peer meets it that may send anything at any time.
"""

from __future__ import annotations

import struct
from itertools import product
from typing import Annotated, Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_netsuite.errors import ConfigurationError, Denied, NetsuiteError, Unauthenticated
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.net.framed import (
    HELLO_TIMEOUT,
    REFUSAL_DELAY,
    STOP_TIMEOUT,
    VERIFY_TIMEOUT,
    SessionFactory,
    SessionProtocol,
)
from twisted_netsuite.net.frames import FRAME_TIMEOUT, STALL_TIMEOUT
from twisted_netsuite.net.liveness import PING_INTERVAL
from twisted_netsuite.net.sessionend import LINGER_TIMEOUT, PING_BURST
from twisted_netsuite.testing import Pair, connectPair
from twisted_netsuite.trust.identity import Identity
from twisted_netsuite.trust.tokens import TokenVerifier, refusal
from twisted_netsuite.wire.session import (
    DEFAULT_FRAME,
    MAX_FIRST_FRAME,
    MAX_FRAME,
    About,
    Error,
    Goodbye,
    Hello,
    Limits,
    Ping,
    Pong,
    Record,
    SessionCodec,
    Welcome,
)

HERE = IPv4Address("TCP", "192.0.2.7", 7512)
PEER = IPv4Address("TCP", "192.0.2.1", 50_000)
SOCKET = UNIXAddress(b"/run/x.sock")


class Say(Record, frozen=True, kw_only=True, tag="say", tag_field="type"):
    """The record of a service."""

    text: Annotated[str, Meta(max_length=1_000_000)] = ""


class Talker(SessionProtocol):
    """Notes what it is told; some words make it do something."""

    stays = False

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def sessionOpened(self) -> None:
        self.notes.append("opened")

    def recordReceived(self, record: Record) -> None:
        assert isinstance(record, Say)
        self.notes.append(record.text)
        match record.text:
            case "deny":
                raise Denied("No.")
            case "fail":
                self.fail(Denied("Not that."), 7)
            case "break":
                raise RuntimeError("a fault of ours, with a secret")
            case "echo":
                self.sendRecord(record)

    def errorReceived(self, error: NetsuiteError, about: About) -> None:
        super().errorReceived(error, about)
        self.notes.append((error.sentence, about))

    def sessionDraining(self) -> None:
        self.notes.append("draining")
        if not self.stays:
            super().sessionDraining()

    def sessionClosed(self, reason: NetsuiteError | None) -> None:
        self.notes.append(("closed", reason and reason.sentence))


class TalkerFactory(SessionFactory):
    """Serves it."""

    protocol = Talker


class RawClient(Protocol):
    """Keeps what the server sends."""

    def __init__(self) -> None:
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def records(self) -> list[Record]:
        """Decode what has come, and forget it."""
        codec, found = SessionCodec([Say]), []
        while self.data:
            (length,) = struct.unpack("!I", self.data[:4])
            assert len(self.data) >= 4 + length, "The server has cut a frame."
            found.append(codec.decode(self.data[4 : 4 + length]))
            self.data = self.data[4 + length :]
        return found


@implementer(IHalfCloseableProtocol)
class StubbornClient(RawClient):
    """Stays when the server has closed its side."""

    def readConnectionLost(self) -> None:
        """Stay."""

    def writeConnectionLost(self) -> None:
        """Stay."""


def framed(frame: bytes) -> bytes:
    """Put a length before bytes."""
    return struct.pack("!I", len(frame)) + frame


def packed(record: Record) -> bytes:
    """Write a record as a frame."""
    return framed(SessionCodec([Say]).encode(record))


HELLO = Hello(versions=(1,), service="talk", client="test")
WELCOME = Welcome(
    version=1,
    server="netsuite",
    identity="anonymous",
    limits=Limits(frame=DEFAULT_FRAME),
    ping=PING_INTERVAL,
)
TOKEN = Hello(versions=(1,), service="talk", client="test", user="anna", token="s3cret")
EVERY: list[Record] = [
    HELLO,
    WELCOME,
    Error(code="denied", message="x"),
    Error(code="denied", message="x", fatal=True),
    Ping(id=1),
    Pong(id=1),
    Goodbye(),
    Say(text="hi"),
]


class SlowVerifier(TokenVerifier):
    """Answers when the test does."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answer: Deferred[Identity] = Deferred()

    def verify(self, user: str, token: str) -> Deferred[Identity]:
        self.asked.append((user, token))
        return self.answer


class Served(SynchronousTestCase):
    """One connection to a service."""

    def setUp(self) -> None:
        self.serve()

    def serve(self, **options: Any) -> None:
        """Begin anew, with a service of other options, over TCP or a Unix socket."""
        unix = options.pop("unix", False)
        self.clock = Clock()
        self.factory = TalkerFactory(self.clock, "talk", [Say], **options)
        self.connect(unix)

    def connect(self, unix: bool = False) -> None:
        """Connect once more."""
        server = self.factory.buildProtocol(SOCKET if unix else PEER)
        assert isinstance(server, Talker)
        self.server, self.client = server, RawClient()
        here, there = (SOCKET, SOCKET) if unix else (HERE, PEER)
        self.pair: Pair = connectPair(self.server, self.client, here, there)

    def say(self, *records: Record, size: int = 65536) -> list[Record]:
        """Send records in one go, and take what comes back."""
        return self.write(b"".join(map(packed, records)), size)

    def write(self, data: bytes, size: int = 65536) -> list[Record]:
        """Send bytes, and take what comes back."""
        self.pair.client.write(data)
        self.pair.flush(size)
        return self.client.records()

    def after(self, seconds: float) -> list[Record]:
        """Let time pass, and take what comes."""
        self.clock.advance(seconds)
        self.pair.flush()
        return self.client.records()

    def opened(self, **options: Any) -> None:
        """Open a session."""
        self.serve(**options)
        welcome = self.say(HELLO)
        self.assertIsInstance(welcome[0], Welcome)
        self.server.notes.clear()

    def assertFatal(self, answers: list[Record], code: str, *words: str) -> Error:
        """Check that the only answer ends the session, and that the connection ends as well."""
        (error,) = answers
        assert isinstance(error, Error)
        self.assertEqual((error.code, error.fatal), (code, True), error)
        for word in words:
            self.assertIn(word, error.message)
        self.pair.flush()
        self.assertIsNotNone(self.pair.client.lost)
        self.assertIsNotNone(self.pair.server.lost)
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])
        return error


class OpeningTests(Served):
    """From a connection to WELCOME."""

    def test_welcome(self) -> None:
        """A HELLO is answered with who the client is and what holds from there on."""
        self.assertEqual(self.say(HELLO), [WELCOME])
        self.assertEqual(self.server.notes, ["opened"])
        self.assertEqual(self.server.hello, HELLO)

    def test_split(self) -> None:
        """A HELLO that comes byte by byte is one."""
        self.assertEqual(self.say(HELLO, size=1), [WELCOME])

    def test_options(self) -> None:
        """A service's own limits stand in its WELCOME."""
        self.serve(frame=MAX_FRAME, ping=5)
        (welcome,) = self.say(HELLO)
        assert isinstance(welcome, Welcome)
        self.assertEqual((welcome.limits.frame, welcome.ping), (MAX_FRAME, 5))

    def test_badOptions(self) -> None:
        """Limits that no client accepts are refused at the start."""
        for option, value in (
            ("frame", MAX_FIRST_FRAME - 1),
            ("frame", MAX_FRAME + 1),
            ("frame", 0),
            ("ping", 0),
            ("ping", 601),
        ):
            options: Any = {option: value}
            error = self.assertRaises(
                ConfigurationError, SessionFactory, self.clock, "talk", **options
            )
            self.assertIn(f"{option} is {value}; give ", error.sentence)

    def test_features(self) -> None:
        """Of the features that a client knows, those remain that the service has."""
        self.serve(features=["b", "a", "c"])
        hello = msgspec.structs.replace(HELLO, features=("x", "c", "a"))
        (welcome,) = self.say(hello)
        assert isinstance(welcome, Welcome)
        self.assertEqual((welcome.features, self.server.features), (("a", "c"), ("a", "c")))

    def test_versions(self) -> None:
        """Of the versions that a client speaks, the highest that the service speaks is chosen."""
        self.assertEqual(self.say(msgspec.structs.replace(HELLO, versions=(7, 1, 2))), [WELCOME])

    def test_noVersion(self) -> None:
        """A client of another age is told what is spoken here."""
        answers = self.say(msgspec.structs.replace(HELLO, versions=(7, 9)))
        self.assertFatal(answers, "unsupported", "speaks version 1 ", "offered 7, 9")

    def test_otherService(self) -> None:
        """A client of another service is told which one this is."""
        answers = self.say(msgspec.structs.replace(HELLO, service="exec"))
        self.assertFatal(answers, "unsupported", "This service is talk, not exec")

    def test_notHello(self) -> None:
        """Anything but HELLO first ends the session with an ERROR and one line of the log."""
        for record in EVERY[1:]:
            self.serve()
            with capturedLogs() as events:
                self.assertFatal(self.say(record), "protocol", "while waiting for HELLO")
            (event,) = events
            self.assertEqual(event["peer"], "192.0.2.1:50000")
            self.assertIn("while waiting for HELLO", event["cause"])
            self.assertEqual(self.server.notes, [])

    def test_helloTwice(self) -> None:
        """A second HELLO ends the session, in the same read or later."""
        answers = self.say(HELLO, HELLO)
        self.assertEqual(answers[0], WELCOME)
        self.assertFatal(answers[1:], "protocol", "HELLO is not expected while open")

    def test_noRecord(self) -> None:
        """What is no record ends the session with the reason."""
        for frame, reason in (
            (b"GET / HTTP/1.1", "malformed"),
            (b"\xc1", "malformed"),
            (msgspec.msgpack.encode({"type": "dance"}), "'dance'"),
            (msgspec.msgpack.encode({"type": "hello", "versions": "1"}), "$.versions"),
            (b"\x82\xa4type\xa5hello\xa1x" + b"\x91" * 8000 + b"\xc0", "A record "),
            (b"\x80\x04\x95pickle", "A record cannot be read"),
        ):
            self.serve()
            with capturedLogs() as events:
                self.assertFatal(self.write(framed(frame)), "protocol")
            (event,) = events
            self.assertIn("cannot be read" if reason == "malformed" else reason, event["cause"])

    def test_lengths(self) -> None:
        """Before WELCOME a frame of more than its limit ends the session by its length alone."""
        for length in (MAX_FIRST_FRAME + 1, DEFAULT_FRAME, 2**32 - 1):
            self.serve()
            with capturedLogs() as events:
                answers = self.write(struct.pack("!I", length))
                self.assertFatal(answers, "limit", str(length), f"1 to {MAX_FIRST_FRAME}")
                refusals = self.factory.admission.refusals
                self.assertEqual(refusals["session-limits"], 1)
            self.assertEqual(len(events), 1)
        self.serve()
        self.assertFatal(self.write(struct.pack("!I", 0)), "protocol", "0 bytes")

    def test_otherProtocols(self) -> None:
        """A browser and a TLS client get an ERROR, not silence."""
        for first in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00" + b"x" * 500):
            self.serve()
            self.assertFatal(self.write(first), "limit")

    def test_endless(self) -> None:
        """Endless bytes before HELLO cost no memory, and end with the first frame's length."""
        self.pair.client.write(b"\xff" * 10_000_000)
        self.pair.flush()
        self.assertFatal(self.client.records(), "limit")

    def test_silent(self) -> None:
        """A client that says nothing is told so, and let go, in time."""
        self.assertEqual(self.after(HELLO_TIMEOUT - 0.5), [])
        with capturedLogs() as events:
            self.assertFatal(self.after(0.5), "timed-out", "HELLO was not complete within 10 s")
        self.assertEqual(len(events), 1)
        self.assertEqual(self.factory.admission.refusals["first-message-timeout"], 1)

    def test_drip(self) -> None:
        """A HELLO that drips a byte a second has no more time than silence."""
        answers: list[Record] = []
        for byte in packed(HELLO):
            answers = self.write(bytes([byte])) or self.after(1)
            if answers:
                break
        self.assertEqual(self.clock.seconds(), HELLO_TIMEOUT)
        self.assertFatal(answers, "timed-out", "HELLO")

    def test_ownTimeout(self) -> None:
        """A service may give less time for HELLO, not more, and 0 is no bound of its own."""
        for seconds, wanted in ((3.0, 3.0), (60.0, HELLO_TIMEOUT), (0.0, HELLO_TIMEOUT)):
            self.serve(limits=ConnectionLimits(firstMessageTimeout=seconds))
            self.write(packed(HELLO)[:9])
            self.assertEqual(self.after(wanted - 0.5), [])
            self.assertFatal(self.after(0.5), "timed-out", f"within {wanted:g} s")

    def test_pending(self) -> None:
        """A connection counts among those that have proven nothing until WELCOME."""
        self.assertEqual(len(self.factory.admission.pending), 1)
        self.say(HELLO)
        self.assertEqual(len(self.factory.admission.pending), 0)

    def test_evicted(self) -> None:
        """When too many wait the oldest has to go, at once and with one line of the log."""
        for data in (b"", packed(HELLO)[:9], struct.pack("!I", 0)):
            self.serve(limits=ConnectionLimits(maxPending=1))
            self.pair.client.pauseProducing()
            self.write(data)
            oldest = self.pair
            closed = self.server.machine.closed
            with capturedLogs() as events:
                self.connect()
                oldest.flush()
            assert oldest.server.lost is not None
            self.assertTrue(oldest.server.lost.check(ConnectionAborted))
            self.assertEqual(len(events), 0 if closed else 1)
            self.assertEqual(len(self.factory.connections), 1)
            self.assertEqual(self.say(HELLO), [WELCOME])

    def test_cut(self) -> None:
        """A client that closes in the middle of HELLO is one line of the log; one that only looks
        is none."""
        for data, lines in ((b"", 0), (packed(HELLO)[:9], 1)):
            self.serve()
            self.write(data)
            with capturedLogs() as events:
                self.pair.client.loseConnection()
                self.pair.flush()
            self.assertEqual(len(events), lines)
            self.assertEqual((self.factory.connections, self.server.notes), (set(), []))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lastBytes(self) -> None:
        """An ERROR reaches a client that is still sending: what it sends is read, and dropped."""
        self.pair.client.write(struct.pack("!I", 2**32 - 1))
        self.pair.flush()
        self.assertEqual(len(self.client.records()), 1)
        # A client that hears of the end of the server's side, and goes on to send for a while.
        self.serve()
        talker = StubbornClient()
        server = self.factory.buildProtocol(PEER)
        assert isinstance(server, Talker)
        pair = connectPair(server, talker, HERE, PEER)
        for _ in range(10):
            pair.client.write(b"\xff" * 100_000)
            pair.flush()
            self.assertEqual(len(pair.client.outgoing), 0)
            self.assertIsNone(pair.server.lost)
        self.assertEqual(len(talker.records()), 1)
        self.clock.advance(LINGER_TIMEOUT)
        pair.flush()
        self.assertIsNotNone(pair.server.lost)

    def test_lingers(self) -> None:
        """A client that is told of its end and does not go is closed shortly after."""
        self.pair.client.pauseProducing()
        self.write(struct.pack("!I", 0))
        self.assertIsNone(self.pair.server.lost)
        self.clock.advance(LINGER_TIMEOUT)
        self.pair.flush()
        self.assertIsNone(self.pair.server.lost)
        self.clock.advance(31)
        self.pair.flush()
        self.assertIsNotNone(self.pair.server.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_everyRecordEverywhere(self) -> None:
        """Any two records at any place leave a server that has answered or ended, never a fault."""
        for first, second in product(EVERY, EVERY):
            for begun in (False, True):
                self.serve()
                if begun:
                    self.say(HELLO)
                answers = self.say(first, second)
                fatal = [a for a in answers if isinstance(a, Error) and a.fatal]
                self.assertLessEqual(len(fatal), 1)
                if fatal:
                    self.assertIs(answers[-1], fatal[0])
                    self.assertIsNotNone(self.pair.server.lost)
                if not begun and first is not HELLO:
                    self.assertEqual(self.server.notes, [])
                self.assertEqual(self.flushLoggedErrors(), [])

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.sampled_from(EVERY).map(packed) | st.binary(max_size=40).map(framed) | st.binary(),
            max_size=8,
        ),
        st.integers(1, 100),
    )
    def test_anything(self, pieces: list[bytes], size: int) -> None:
        """Any bytes, split anywhere, never make the server fail; it says all in whole frames."""
        self.setUp()
        answers = self.write(b"".join(pieces), size)
        fatal = [a for a in answers if isinstance(a, Error) and a.fatal]
        self.assertLessEqual(len(fatal), 1)
        self.after(1000)
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])


class IdentityTests(Served):
    """Who the client is."""

    def setUp(self) -> None:
        super().setUp()
        memory: Any = InMemoryUsernamePasswordDatabaseDontUse(anna=b"s3cret")
        self.tokens = TokenVerifier([memory])

    def test_token(self) -> None:
        """The right token over a Unix socket makes the client known, and counted as proven."""
        self.serve(tokens=self.tokens, unix=True)
        (welcome,) = self.say(TOKEN)
        assert isinstance(welcome, Welcome)
        self.assertEqual(welcome.identity, "token:anna")
        self.assertEqual(self.server.identity, Identity("token", "anna"))
        self.assertEqual(len(self.factory.admission.pending), 0)
        self.assertIn("(token:anna)", self.server.peer)

    def test_plain(self) -> None:
        """A token over plain TCP is refused unchecked, even where none is taken."""
        for tokens in (self.tokens, None):
            self.serve(tokens=tokens)
            self.assertFatal(self.say(TOKEN), "unauthenticated", "only over TLS or a Unix socket")
            self.assertEqual(self.factory.admission.failures, 0)

    def test_noneTaken(self) -> None:
        """A service without checkers says that it takes no tokens."""
        self.serve(unix=True)
        self.assertFatal(self.say(TOKEN), "unauthenticated", "takes no tokens")

    def test_wrong(self) -> None:
        """Wrong tokens and unknown users are told the same, at the same time, and are counted."""
        said = []
        for user, token in (("anna", "wrong"), ("nobody", "s3cret"), ("a b", "s3cret")):
            self.serve(tokens=self.tokens, unix=True)
            with capturedLogs() as events:
                hello = msgspec.structs.replace(TOKEN, user=user, token=token)
                self.assertEqual(self.say(hello), [])
                self.assertEqual(self.after(REFUSAL_DELAY - 0.25), [])
                error = self.assertFatal(self.after(0.25), "unauthenticated")
            said.append(error.message)
            self.assertEqual(self.factory.admission.failures, 1)
            (event,) = events
            self.assertIn(f"the user {user} ", event["cause"])
            self.assertNotIn(token, str(event["cause"]).replace(user, ""))
        self.assertEqual(said, [refusal().sentence] * 3)

    def test_penalty(self) -> None:
        """A source that guesses is turned away after some tries."""
        self.serve(tokens=SlowVerifier())
        for _ in range(10):
            self.server.authenticationFailed()
        self.assertNotIsInstance(self.factory.buildProtocol(PEER), Talker)

    def guess(self, **changes: str) -> list[Record]:
        """Connect over a Unix socket, show a wrong token, and go without waiting."""
        self.connect(unix=True)
        answers = self.say(msgspec.structs.replace(TOKEN, token="wrong", **changes))
        self.pair.client.loseConnection()
        self.pair.flush()
        return answers

    def test_guesserGoes(self) -> None:
        """A failure is counted and in the log at once, whether or not the answer is waited for."""
        self.serve(tokens=self.tokens, unix=True)
        with capturedLogs() as events:
            self.assertEqual(self.guess(), [])
        self.assertEqual(self.factory.admission.failures, 1)
        (event,) = (event for event in events if "refused" in event["log_format"])
        self.assertEqual(event["cause"], "the user anna and the token are not accepted.")
        self.assertEqual(event["peer"], self.server.peer)

    def test_guessesWithoutSource(self) -> None:
        """Over a Unix socket, too, who guesses has to wait, for longer each time: no token is
        checked until then, not even the right one, and other users are none the worse."""
        self.serve(tokens=self.tokens, unix=True)
        oldest = self.pair
        for _ in range(4):
            self.guess()
        oldest.client.loseConnection()
        oldest.flush()
        self.connect(unix=True)
        answers = self.say(TOKEN)
        self.assertFatal(answers, "unauthenticated", "Too many tokens", "try again in 1 s")
        self.assertEqual(self.factory.admission.refusals["penalty"], 1)
        self.assertEqual(self.factory.admission.failures, 4)
        self.assertEqual(self.guess(user="bert"), [])
        self.clock.advance(1)
        self.connect(unix=True)
        (welcome,) = self.say(TOKEN)
        self.assertIsInstance(welcome, Welcome)

    def test_guessesOfAnAccount(self) -> None:
        """A known account is one guesser, whichever users it tries."""
        self.serve(tokens=self.tokens, unix=True)
        for number in range(5):
            self.connect(unix=True)
            self.server.identity = Identity("unix", "mallory")
            answers = self.say(msgspec.structs.replace(TOKEN, user=f"user{number}"))
        self.assertIsInstance(answers[0], Error)
        self.connect(unix=True)
        self.server.identity = Identity("unix", "anna")
        self.assertIsInstance(self.say(TOKEN)[0], Welcome)

    def test_guessesAtOnce(self) -> None:
        """Connections that were open before the first failure win no further tries."""
        self.serve(tokens=self.tokens, unix=True)
        wrong = msgspec.structs.replace(TOKEN, token="wrong")
        open_ = []
        for _ in range(20):
            self.connect(unix=True)
            open_.append((self.server, self.client, self.pair))
        for _, _, pair in open_:
            pair.client.write(packed(wrong))
            pair.flush()
        self.assertEqual(self.factory.admission.failures, 4)
        self.assertEqual(self.factory.admission.refusals["penalty"], 16)

    def test_floodOfGuesses(self) -> None:
        """Failures without end are told of each time their number has doubled."""
        limits = ConnectionLimits(penalty=0)
        self.serve(tokens=self.tokens, unix=True, limits=limits)
        with capturedLogs() as events:
            for _ in range(100):
                self.guess()
        causes = [event["cause"] for event in events if "refused" in event["log_format"]]
        self.assertEqual(len(causes), 7)
        self.assertEqual(
            causes[-1], "the user anna and the token are not accepted; 64 such failures so far"
        )
        self.assertEqual(self.factory.admission.failures, 100)

    def test_floodInPenalty(self) -> None:
        """Neither does one who does not wait fill the log."""
        self.serve(tokens=self.tokens, unix=True)
        with capturedLogs() as events:
            for _ in range(104):
                self.guess()
        causes = [event["cause"] for event in events if "refused" in event["log_format"]]
        self.assertEqual(len(causes), 3 + 7)
        self.assertIn("(penalty); 64 refused so far", causes[-1])

    def test_half(self) -> None:
        """A user without a token, or a token without a user, is an error of the protocol."""
        for name in ("user", "token"):
            self.serve(tokens=self.tokens, unix=True)
            hello = msgspec.structs.replace(TOKEN, **{name: None})
            self.assertFatal(self.say(hello), "protocol", "a user without a token")

    def test_required(self) -> None:
        """Where everybody has to be known, who is not is told how to be."""
        self.serve(tokens=self.tokens, requireIdentity=True, unix=True)
        self.assertFatal(self.say(HELLO), "unauthenticated", "client certificate", "token")
        self.assertEqual(self.server.notes, [])
        self.connect(unix=True)
        (welcome,) = self.say(TOKEN)
        self.assertIsInstance(welcome, Welcome)

    def test_transport(self) -> None:
        """Who is known by the connection itself needs no token."""
        self.serve(requireIdentity=True)
        self.server.identity = Identity("cert", "carl")
        (welcome,) = self.say(HELLO)
        assert isinstance(welcome, Welcome)
        self.assertEqual(welcome.identity, "cert:carl")

    def slow(self) -> SlowVerifier:
        """Begin a check that takes its time."""
        tokens = SlowVerifier()
        self.serve(tokens=tokens, unix=True)
        self.assertEqual(self.say(TOKEN), [])
        self.assertEqual(tokens.asked, [("anna", "s3cret")])
        return tokens

    def test_checking(self) -> None:
        """Whatever comes while a token is checked ends the session, and the check."""
        for record in EVERY:
            tokens = self.slow()
            self.assertFatal(self.say(record), "protocol", "while finding out who the client is")
            self.assertTrue(tokens.answer.called)
            self.assertEqual(self.server.notes, [])

    def test_late(self) -> None:
        """A check that takes too long is given up; the log knows why, and nobody is counted."""
        tokens = self.slow()
        with capturedLogs() as events:
            answers = self.after(VERIFY_TIMEOUT) or self.after(0)
            self.assertFatal(answers, "unauthenticated", refusal().sentence)
        self.assertIn("not checked within 10 s", events[-1]["cause"])
        self.assertEqual(self.factory.admission.failures, 0)
        self.assertTrue(tokens.answer.called)

    def test_inTime(self) -> None:
        """A check may take its time; HELLO's own limit is over by then."""
        tokens = self.slow()
        self.assertEqual(self.after(VERIFY_TIMEOUT - 0.5), [])
        tokens.answer.callback(Identity("token", "anna"))
        self.pair.flush()
        (welcome,) = self.client.records()
        assert isinstance(welcome, Welcome)
        self.assertEqual(welcome.identity, "token:anna")

    def test_failing(self) -> None:
        """A verifier that fails is a fault of ours, in the log; the client is refused as any."""
        tokens = self.slow()
        tokens.answer.errback(RuntimeError("oh"))
        answers = self.after(REFUSAL_DELAY)
        (error,) = answers
        self.assertEqual(
            error, Error(code="unauthenticated", message=refusal().sentence, fatal=True)
        )
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_goneWhileChecking(self) -> None:
        """A client that goes while it is checked ends the check, whatever comes of that."""
        tokens = self.slow()
        self.pair.client.loseConnection()
        self.pair.flush()
        self.assertTrue(tokens.answer.called)
        self.assertEqual((self.clock.getDelayedCalls(), self.server.notes), ([], []))
        self.serve(tokens=self.tokens, unix=True)
        self.say(msgspec.structs.replace(TOKEN, token="wrong"))
        self.pair.client.abortConnection()
        self.pair.flush()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_goneTooSoon(self) -> None:
        """Who goes before a refusal could come is taken for a guesser; who goes later is only
        told of."""
        for seconds, count in ((REFUSAL_DELAY - 0.25, 1), (REFUSAL_DELAY, 0)):
            self.slow()
            with capturedLogs() as events:
                self.clock.advance(seconds)
                self.pair.client.abortConnection()
                self.pair.flush()
            (event,) = (event for event in events if "refused" in event["log_format"])
            self.assertEqual(event["cause"], "it was over before the token of anna was checked.")
            self.assertEqual(self.factory.admission.failures, count)

    def test_stoppedWhileChecking(self) -> None:
        """A service that stops blames nobody for it."""
        self.slow()
        with capturedLogs() as events:
            self.factory.abortConnections()
            self.pair.flush()
            self.after(LINGER_TIMEOUT)
        self.assertEqual((self.factory.admission.failures, events), (0, []))

    def test_openingFails(self) -> None:
        """A service that cannot begin after a token was checked ends the session with an ERROR."""

        class Unlucky(Talker):
            def sessionOpened(self) -> None:
                raise Unauthenticated("Not today.")

        tokens = SlowVerifier()
        self.clock = Clock()
        self.factory = TalkerFactory(self.clock, "talk", [Say], tokens=tokens)
        self.factory.protocol = Unlucky
        self.connect(unix=True)
        self.say(TOKEN)
        tokens.answer.callback(Identity("token", "anna"))
        self.pair.flush()
        welcome, *rest = self.client.records()
        self.assertIsInstance(welcome, Welcome)
        self.assertFatal(rest, "unauthenticated", "Not today.")


class OpenTests(Served):
    """An open session."""

    def setUp(self) -> None:
        super().setUp()
        self.opened()

    def test_records(self) -> None:
        """Records of the service reach it, in order, and its answers the client."""
        self.assertEqual(self.say(Say(text="a"), Say(text="echo"), size=3), [Say(text="echo")])
        self.assertEqual(self.server.notes, ["a", "echo"])

    def test_largest(self) -> None:
        """After WELCOME a frame may be as large as that says, and no larger."""
        room = len(packed(Say(text="x" * 66_000))) - 66_000 - 4
        self.assertEqual(self.say(Say(text="x" * (DEFAULT_FRAME - room))), [])
        self.assertEqual(len(self.server.notes[0]), DEFAULT_FRAME - room)
        answers = self.say(Say(text="x" * (DEFAULT_FRAME - room + 1)))
        self.assertFatal(answers, "limit", str(DEFAULT_FRAME + 1))

    def test_ownLimit(self) -> None:
        """A service that answers more than a frame holds ends the session, not the process."""
        self.server.recordReceived = lambda record: self.server.sendRecord(  # type: ignore[method-assign]
            Say(text="x" * DEFAULT_FRAME)
        )
        self.assertFatal(self.say(Say()), "limit", "fits in no frame")

    def test_error(self) -> None:
        """An error of one request does not end the session."""
        answers = self.say(Say(text="fail"), Say(text="echo"))
        self.assertEqual(
            answers, [Error(code="denied", message="Not that.", about=7), Say(text="echo")]
        )

    def test_refused(self) -> None:
        """A service that raises one of our errors ends the session with it."""
        self.assertFatal(self.say(Say(text="deny"), Say(text="b")), "denied", "No.")
        self.assertEqual(self.server.notes, ["deny", ("closed", "No.")])

    def test_broken(self) -> None:
        """A service that fails ends that session; the log is told why, the client not."""
        answers = self.say(Say(text="break"), Say(text="b"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        error = self.assertFatal(answers, "internal")
        self.assertNotIn("secret", error.message)

    def test_clientsError(self) -> None:
        """An ERROR of the client reaches the service, and no line of the log that people read."""
        with capturedLogs() as events:
            self.assertEqual(self.say(Error(code="limit", message="Full.", about=3)), [])
        self.assertEqual(self.server.notes, [("192.0.2.1:50000 says: Full.", 3)], self.server.notes)
        self.assertEqual([event["log_level"] for event in events], [LogLevel.debug])

    def test_clientsEnd(self) -> None:
        """An ERROR with which the client ends is not answered, and is one line of the log."""
        with capturedLogs() as events:
            self.assertEqual(self.say(Error(code="protocol", message="Odd\n.", fatal=True)), [])
        self.pair.flush()
        self.assertIsNotNone(self.pair.server.lost)
        sentence = "192.0.2.1:50000 says: Odd ."
        self.assertEqual([event["cause"] for event in events], [sentence])
        self.assertEqual(self.server.notes, [("closed", sentence)])

    def test_ping(self) -> None:
        """A PING is answered with its number."""
        self.assertEqual(self.say(Ping(id=7), Ping(id=7)), [Pong(id=7), Pong(id=7)])

    def test_pingStorm(self) -> None:
        """PINGs beyond their rate end the session; at the rate they never do."""
        for number in range(100):
            self.assertEqual(self.say(Ping(id=number)), [Pong(id=number)])
            self.clock.advance(1)
        self.opened()
        answers = self.say(*(Ping(id=number) for number in range(PING_BURST + 1)))
        self.assertEqual(answers[:-1], [Pong(id=number) for number in range(PING_BURST)])
        self.assertFatal(answers[-1:], "limit", "More PINGs")

    def test_pongUnasked(self) -> None:
        """A PONG that answers no PING, or answers one twice, is an error."""
        self.assertFatal(self.say(Pong(id=1)), "protocol", "PONG 1 answers no PING")
        self.opened()
        (ping,) = self.after(PING_INTERVAL)
        self.assertEqual(ping, Ping(id=1))
        self.assertFatal(self.say(Pong(id=1), Pong(id=1)), "protocol", "PONG 1")

    def test_alive(self) -> None:
        """A client that only answers PINGs stays for ever."""
        for number in range(1, 100):
            (ping,) = self.after(PING_INTERVAL)
            self.assertEqual(ping, Ping(id=number))
            self.assertEqual(self.say(Pong(id=number)), [])
        self.assertEqual(self.server.notes, [])

    def test_busy(self) -> None:
        """A client that says something is not asked whether it lives."""
        for _ in range(20):
            self.assertEqual(self.after(PING_INTERVAL - 1), [])
            self.say(Say(text="x"))

    def test_anyByte(self) -> None:
        """An answer to a PING that is on its way is a sign of life by its first byte."""
        self.after(PING_INTERVAL)
        self.write(packed(Pong(id=1))[:1])
        self.assertEqual(self.after(PING_INTERVAL - 0.5), [])
        self.assertEqual(self.server.notes, [])

    def test_dead(self) -> None:
        """A client that is not heard of for 30 s is given up, with a line of the log."""
        self.assertEqual(self.after(PING_INTERVAL), [Ping(id=1)])
        self.assertEqual(self.after(PING_INTERVAL - 0.5), [])
        with capturedLogs() as events:
            self.assertFatal(self.after(0.5), "timed-out", "Nothing came for 30 s")
        self.assertEqual(len(events), 1)
        self.assertEqual(self.server.notes, [("closed", "Nothing came for 30 s.")])

    def test_halfARecord(self) -> None:
        """A record that is begun and not ended ends the session, however lively the rest is."""
        data = packed(Say(text="x" * 1000))
        answers: list[Record] = []
        for byte in data:
            answers = self.write(bytes([byte])) or self.after(1)
            if answers:
                break
        self.assertEqual(self.clock.seconds(), FRAME_TIMEOUT)
        self.assertFatal(answers, "timed-out", "A frame was not complete within 30 s")

    def test_notTaking(self) -> None:
        """A client that takes no answers is not read; it is not taken for dead, but is in time cut
        off, with a line of the log."""
        self.pair.client.pauseProducing()
        big = "echo"
        self.server.recordReceived = lambda record: self.server.sendRecord(  # type: ignore[method-assign]
            Say(text="y" * 50_000)
        )
        self.write(packed(Say(text=big)) * 10)
        self.assertLess(len(self.pair.server.outgoing), 200_000)
        self.clock.advance(STALL_TIMEOUT - 1)
        self.pair.flush()
        self.assertIsNone(self.pair.server.lost)
        with capturedLogs() as events:
            self.clock.advance(1)
        self.pair.flush()
        assert self.pair.server.lost is not None
        self.assertTrue(self.pair.server.lost.check(ConnectionAborted))
        (event,) = events
        self.assertIn("Nothing was taken by the peer for 60 s", event["cause"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_takingAgain(self) -> None:
        """A client that takes its answers again is served on, and asked again whether it lives."""
        self.pair.client.pauseProducing()
        self.server.recordReceived = lambda record: self.server.sendRecord(  # type: ignore[method-assign]
            Say(text="y" * 50_000)
        )
        self.write(packed(Say()) * 10)
        self.clock.advance(STALL_TIMEOUT - 1)
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertEqual(len(self.client.records()), 10)
        self.assertEqual(self.after(PING_INTERVAL), [Ping(id=1)])

    def test_outsideFrames(self) -> None:
        """Bytes outside frames stand whole between records; a GOODBYE and the answers wait."""
        raw = self.server.sendRaw(6)
        raw.write(b"abc")
        self.server.leave("Maintenance.")
        self.pair.client.write(packed(Say(text="echo")))
        self.clock.advance(PING_INTERVAL * 3)
        self.pair.flush()
        self.assertEqual(self.client.data, b"abc")
        raw.write(b"def")
        raw.unregisterProducer()
        self.pair.flush()
        data, self.client.data = self.client.data, b""
        goodbye, said = packed(Goodbye(reason="Maintenance.")), packed(Say(text="echo"))
        self.assertEqual(data, b"abcdef" + goodbye + said)

    def test_miscounted(self) -> None:
        """A service that sends more bytes outside frames than it said is cut off: what follows
        would be taken for records."""
        raw = self.server.sendRaw(2)
        with capturedLogs() as events:
            raw.write(b"abc")
            self.assertEqual(self.say(Say(text="echo")), [])
        (event,) = events
        self.assertEqual(event["log_level"], LogLevel.error)
        self.assertIn("1 more bytes", event["cause"])
        assert self.pair.server.lost is not None
        self.assertTrue(self.pair.server.lost.check(ConnectionAborted))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noHalfClose(self) -> None:
        """Over a transport that cannot close one way, the end of a session closes both."""
        server = self.factory.buildProtocol(SOCKET)
        assert isinstance(server, Talker)
        transport = StringTransport(peerAddress=SOCKET)
        server.makeConnection(transport)
        server.dataReceived(packed(HELLO) + packed(HELLO))
        self.assertTrue(transport.disconnecting)
        server.connectionLost(Failure(ConnectionDone()))

    def test_idle(self) -> None:
        """A service that allows less idleness than a PING needs says so at the end."""
        self.opened(limits=ConnectionLimits(idleTimeout=5, firstMessageTimeout=5))
        self.assertFatal(self.after(5), "timed-out", "Nothing came for 5 s")

    def test_lost(self) -> None:
        """A connection that breaks is told to the service once, with the cause, and to the log."""
        with capturedLogs() as events:
            self.pair.client.abortConnection()
            self.pair.flush()
        (note,) = self.server.notes
        self.assertIn("The connection to 192.0.2.1:50000 broke: ", note[1])
        self.assertEqual(len(events), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closedWithoutGoodbye(self) -> None:
        """A client that just closes is told to the service as such."""
        self.pair.client.loseConnection()
        self.pair.flush()
        self.assertEqual(
            self.server.notes, [("closed", "The connection to 192.0.2.1:50000 was closed.")]
        )

    def test_sendingAfterTheEnd(self) -> None:
        """What a service sends after the end is dropped without a word."""
        self.say(Say(text="deny"))
        self.server.sendRecord(Say(text="late"))
        self.server.fail(Denied("late"))
        self.server.refuse(Denied("late"))
        self.server.leave()
        self.server.finish()
        self.pair.flush()
        self.assertEqual(self.client.records(), [])


class GoodbyeTests(Served):
    """How sessions end well."""

    def setUp(self) -> None:
        super().setUp()
        self.opened()

    def assertGone(self) -> None:
        """Check that the connection has ended, and that the service heard of a good end."""
        self.pair.flush()
        self.assertIsNotNone(self.pair.server.lost)
        self.assertEqual(self.server.notes[-1], ("closed", None))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_client(self) -> None:
        """When the client says GOODBYE and nothing is open, the connection closes."""
        self.assertEqual(self.say(Goodbye(reason="Done.\x1b[2J")), [])
        self.assertEqual(self.server.goodbye, "Done.\ufffd[2J")
        self.assertEqual(self.server.notes[0], "draining")
        self.assertGone()

    def test_clientWhileOpen(self) -> None:
        """When something is open it goes on, both ways, until it has finished."""
        self.server.stays = True
        self.say(Goodbye())
        self.assertTrue(self.server.machine.draining)
        self.assertEqual(self.say(Say(text="echo"), Ping(id=1)), [Say(text="echo"), Pong(id=1)])
        self.server.finish()
        self.assertGone()

    def test_clientTwice(self) -> None:
        """A second GOODBYE is an error."""
        self.server.stays = True
        self.assertFatal(self.say(Goodbye(), Goodbye()), "protocol", "GOODBYE is not expected")

    def test_server(self) -> None:
        """When the server says GOODBYE it serves on until the client goes."""
        self.server.leave("Maintenance.")
        self.server.leave("Again.")
        self.pair.flush()
        self.assertEqual(self.client.records(), [Goodbye(reason="Maintenance.")])
        self.assertEqual(self.say(Say(text="echo")), [Say(text="echo")])
        self.pair.client.loseConnection()
        self.assertGone()

    def test_both(self) -> None:
        """When both say GOODBYE at once, both drain, and it is the end that both expect."""
        self.server.stays = True
        self.server.leave("I go.")
        self.assertEqual(self.say(Goodbye(reason="I too.")), [Goodbye(reason="I go.")])
        self.assertEqual(self.server.notes, ["draining"])
        self.assertEqual(self.say(Say(text="echo")), [Say(text="echo")])
        self.server.finish()
        self.assertGone()

    def test_finishUnasked(self) -> None:
        """Nothing is finished where nobody has said GOODBYE."""
        self.server.finish()
        self.assertEqual(self.say(Say(text="echo")), [Say(text="echo")])

    def test_drain(self) -> None:
        """A drain waits for what is open, and takes no longer than it may."""
        gone = self.factory.drain("Maintenance.", 60)
        self.pair.flush()
        self.assertEqual(self.client.records(), [Goodbye(reason="Maintenance.")])
        self.clock.advance(14)
        self.assertEqual(self.say(Say(text="echo")), [Say(text="echo")])
        self.assertNoResult(gone)
        self.pair.client.loseConnection()
        self.pair.flush()
        self.successResultOf(gone)
        self.assertGone()

    def test_drainTooLong(self) -> None:
        """Who does not finish in time is cut off."""
        gone = self.factory.drain("Maintenance.", 10)
        self.clock.advance(9.5)
        self.pair.flush()
        self.assertNoResult(gone)
        self.clock.advance(0.5)
        self.pair.flush()
        self.successResultOf(gone)
        self.assertIsNotNone(self.pair.server.lost)

    def test_stop(self) -> None:
        """A stop says GOODBYE and ends the session; a client that goes by itself is waited for."""
        gone = self.factory.abortConnections()
        self.pair.flush()
        self.assertEqual(self.client.records(), [Goodbye(reason="The service stops.")])
        self.successResultOf(gone)
        self.assertGone()

    def test_stopStalled(self) -> None:
        """A stop does not wait for a client that takes nothing."""
        self.pair.client.pauseProducing()
        gone = self.factory.abortConnections()
        self.pair.flush()
        self.clock.advance(STOP_TIMEOUT)
        self.pair.flush()
        self.successResultOf(gone)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopDraining(self) -> None:
        """A stop in the middle of a drain ends it, and both are told."""
        drained = self.factory.drain("Maintenance.", 60)
        self.server.stays = True
        stopped = self.factory.abortConnections()
        self.pair.flush()
        self.successResultOf(drained)
        self.successResultOf(stopped)
        self.assertEqual(self.client.records(), [Goodbye(reason="Maintenance.")])
        self.assertGone()

    def test_stopNobody(self) -> None:
        """Where nobody is connected a stop is over at once."""
        self.factory = TalkerFactory(self.clock, "talk", [Say])
        self.successResultOf(self.factory.abortConnections())
        self.successResultOf(self.factory.drain("", 10))

    def test_stopBefore(self) -> None:
        """A client that has not said HELLO, or is being checked, is told, too."""
        tokens = SlowVerifier()
        for said in ((), (TOKEN,)):
            self.serve(tokens=tokens, unix=True)
            self.say(*said)
            gone = self.factory.abortConnections()
            self.pair.flush()
            self.assertEqual(self.client.records(), [Goodbye(reason="The service stops.")])
            self.successResultOf(gone)
            self.assertEqual((self.clock.getDelayedCalls(), self.server.notes), ([], []))
