"""
The client's end of a session: how it opens, what it reads, and with which failure it ends.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.net.test_framed import (
    EVERY,
    HELLO,
    WELCOME,
    RawClient,
    Say,
    Talker,
    TalkerFactory,
    framed,
    packed,
)
from twisted_netsuite.errors import (
    ConfigurationError,
    ConnectionFailed,
    Denied,
    LimitExceeded,
    NetsuiteError,
    NotFound,
    ProtocolError,
    TimedOut,
    Unsupported,
)
from twisted_netsuite.net.liveness import PING_INTERVAL
from twisted_netsuite.net.serving import CLOSE_TIMEOUT
from twisted_netsuite.net.sessionclient import (
    MAX_WAITING,
    ClientSession,
    connectSession,
    helloFor,
)
from twisted_netsuite.testing import MemoryEndpoint, Pair, connectPair
from twisted_netsuite.wire.session import (
    DEFAULT_FRAME,
    MAX_FIRST_FRAME,
    MAX_TOKEN,
    Error,
    Goodbye,
    Hello,
    Limits,
    Ping,
    Pong,
    Record,
    SessionCodec,
)

NAME = "talk.example:7512"
CODEC = SessionCodec([Say])


@implementer(IStreamClientEndpoint)
class SocketEndpoint(MemoryEndpoint):
    """The same over a Unix socket."""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect."""
        here: Any = UNIXAddress(b"/run/x.sock")
        server, client = self._server.buildProtocol(here), protocolFactory.buildProtocol(here)
        assert server is not None and client is not None
        self.pairs.append(connectPair(server, client, here, here))
        return succeed(client)


class Script(RawClient):
    """A server that says what the test says."""


class ClientTestCase(SynchronousTestCase):
    """One client."""

    def setUp(self) -> None:
        self.clock = Clock()

    def connect(self, endpoint: Any, **options: Any) -> Deferred[ClientSession]:
        """Begin to connect, and let everything travel."""
        self.endpoint = endpoint
        connecting = connectSession(
            endpoint, self.clock, CODEC, service="talk", name=NAME, **options
        )
        if hasattr(endpoint, "flush"):
            endpoint.flush()
        return connecting

    def served(self, **options: Any) -> tuple[ClientSession, Talker]:
        """Open a session with a real server."""
        factory = TalkerFactory(self.clock, "talk", [Say], **options)
        session = self.successResultOf(self.connect(MemoryEndpoint(factory)))
        (server,) = factory.connections
        assert isinstance(server, Talker)
        return session, server

    def scripted(self) -> tuple[Deferred[ClientSession], Script]:
        """Connect to a server that says what the test says."""
        connecting = self.connect(MemoryEndpoint(Factory.forProtocol(Script)))
        server: Any = self.pair.server.protocol
        return connecting, server

    @property
    def pair(self) -> Pair:
        """The connection."""
        pair: Pair = self.endpoint.pairs[0]
        return pair

    def serverSays(self, *records: Record) -> None:
        """Let the server send."""
        self.serverWrites(b"".join(map(packed, records)))

    def serverWrites(self, data: bytes) -> None:
        """Let the server send bytes."""
        self.pair.server.write(data)
        self.pair.flush()

    def sentence(self, failed: Deferred[Any], kind: type[NetsuiteError]) -> str:
        """Take the failure of a Deferred."""
        error = self.failureResultOf(failed).value
        self.assertIs(type(error), kind, error)
        assert isinstance(error, NetsuiteError)
        return error.sentence

    def assertGone(self) -> None:
        """Check that nothing is left."""
        self.clock.advance(CLOSE_TIMEOUT + 5)
        self.pair.flush()
        self.assertIsNotNone(self.pair.client.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])


class OpeningTests(ClientTestCase):
    """L{connectSession}."""

    def test_open(self) -> None:
        """It says HELLO and hands out an open session with the server's WELCOME."""
        session, server = self.served(features=["a", "b"])
        self.assertEqual(session.welcome, WELCOME)
        self.assertEqual(server.hello, Hello(versions=(1,), service="talk", client="netsuite"))
        self.assertFalse(session.draining)

    def test_features(self) -> None:
        """The features of both are in WELCOME."""
        factory = TalkerFactory(self.clock, "talk", [Say], features=["a", "b"])
        session = self.successResultOf(
            self.connect(MemoryEndpoint(factory), features=["c", "b", "b"])
        )
        self.assertEqual(session.welcome.features, ("b",))

    def test_noTimerLeft(self) -> None:
        """An open session leaves the timers of its pings and nothing else of the opening."""
        connecting, _ = self.scripted()
        self.serverSays(WELCOME)
        self.successResultOf(connecting)
        (call,) = self.clock.getDelayedCalls()
        self.assertEqual(call.getTime(), PING_INTERVAL)

    def test_refusals(self) -> None:
        """Each ERROR is the failure of its class, with who says it."""
        for code, kind in (
            ("denied", Denied),
            ("unsupported", Unsupported),
            ("not-found", NotFound),
            ("protocol", ProtocolError),
            ("internal", NetsuiteError),
        ):
            connecting, _ = self.scripted()
            self.serverSays(Error(code=code, message="No\x1b.", fatal=True))
            self.assertEqual(self.sentence(connecting, kind), f"{NAME} says: No\ufffd.")
            self.assertGone()

    def test_unknownCode(self) -> None:
        """An ERROR of a code that is not known is a failure, too."""
        connecting, _ = self.scripted()
        self.serverSays(Error(code="tired", message="No.", fatal=True))
        self.assertEqual(self.sentence(connecting, NetsuiteError), f"{NAME} says: No. (tired)")

    def test_realRefusal(self) -> None:
        """A real server's refusal arrives as its class."""
        for service, kind in (("other", Unsupported),):
            factory = TalkerFactory(self.clock, service, [Say])
            connecting = self.connect(MemoryEndpoint(factory))
            self.assertIn("This service is other, not talk", self.sentence(connecting, kind))

    def test_requiredIdentity(self) -> None:
        """A server that wants to know who comes says so as a failure of that class."""
        factory = TalkerFactory(self.clock, "talk", [Say], requireIdentity=True)
        connecting = self.connect(MemoryEndpoint(factory))
        self.assertEqual(self.failureResultOf(connecting).value.wireCode, "unauthenticated")
        self.assertGone()

    def test_nothingElse(self) -> None:
        """Anything but WELCOME, an ERROR that ends, or GOODBYE is an error, told to the server."""
        for record in EVERY:
            if record == WELCOME or isinstance(record, Goodbye):
                continue
            if isinstance(record, Error) and record.fatal:
                continue
            connecting, server = self.scripted()
            server.data = b""
            self.serverSays(record)
            sentence = self.sentence(connecting, ProtocolError)
            self.assertIn(f"{NAME} does not keep to the session protocol: ", sentence)
            self.assertIn("while waiting for WELCOME", sentence)
            (error,) = server.records()
            assert isinstance(error, Error)
            self.assertEqual((error.code, error.fatal), ("protocol", True))
            self.assertGone()

    def test_goodbyeFirst(self) -> None:
        """A server that is about to stop says goodbye, and that is the failure."""
        connecting, _ = self.scripted()
        self.serverSays(Goodbye(reason="Maintenance."))
        sentence = self.sentence(connecting, ConnectionFailed)
        self.assertEqual(sentence, f"{NAME} has said goodbye: Maintenance.")
        self.assertGone()

    def test_badWelcome(self) -> None:
        """A WELCOME that chooses what was not offered, or has impossible limits, is refused."""
        replace = msgspec.structs.replace
        for welcome in (
            replace(WELCOME, version=2),
            replace(WELCOME, features=("x",)),
            replace(WELCOME, limits=Limits(frame=0)),
            replace(WELCOME, limits=Limits(frame=2**40)),
            replace(WELCOME, ping=0),
            replace(WELCOME, ping=10**9),
        ):
            connecting, _ = self.scripted()
            self.serverSays(welcome)
            self.sentence(connecting, ProtocolError)
            self.assertGone()

    def test_otherProtocol(self) -> None:
        """A server of another protocol is not understood, in one sentence."""
        connecting, _ = self.scripted()
        self.serverWrites(b"SSH-2.0-OpenSSH_9.2\r\n")
        sentence = self.sentence(connecting, LimitExceeded)
        self.assertIn(f"{NAME} does not keep to the session protocol: A frame of ", sentence)
        self.assertGone()

    def test_silent(self) -> None:
        """A server that says nothing fails in time, and its connection is cut off."""
        connecting = self.connect(MemoryEndpoint(Factory.forProtocol(Script)), timeout=5)
        self.clock.advance(4.5)
        self.assertNoResult(connecting)
        self.clock.advance(0.5)
        self.assertIn("did not open a session within 5 s", self.sentence(connecting, TimedOut))
        self.assertGone()

    def test_neverConnected(self) -> None:
        """An endpoint that never connects fails in the same time."""

        @implementer(IStreamClientEndpoint)
        class Never:
            def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
                return Deferred()

        connecting = self.connect(Never(), timeout=5)
        self.clock.advance(5)
        self.assertIn("within 5 s", self.sentence(connecting, TimedOut))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refusedConnection(self) -> None:
        """A connection that is refused is told with its reason."""

        @implementer(IStreamClientEndpoint)
        class Refusing:
            def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
                raise ConnectionRefusedError("no")

        connecting = self.connect(Refusing())
        self.assertIn(f"Cannot connect to {NAME}: ", self.sentence(connecting, ConnectionFailed))

    def test_closedFirst(self) -> None:
        """A connection that ends before WELCOME fails with how it ended."""
        for end, words in (
            ("loseConnection", "was closed before the session was open."),
            ("abortConnection", "broke before the session was open: "),
        ):
            connecting, _ = self.scripted()
            getattr(self.pair.server, end)()
            self.pair.flush()
            self.assertIn(
                f"The connection to {NAME} {words}", self.sentence(connecting, ConnectionFailed)
            )
            self.assertGone()

    def test_cancelled(self) -> None:
        """A caller that gives up leaves no connection."""
        connecting, _ = self.scripted()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertGone()

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.sampled_from(EVERY).map(packed) | st.binary(max_size=40).map(framed) | st.binary(),
            max_size=8,
        ),
        st.integers(1, 100),
    )
    def test_anything(self, pieces: list[bytes], size: int) -> None:
        """Whatever a server sends, the client opens or fails with one of our errors, and ends."""
        self.setUp()
        connecting, _ = self.scripted()
        self.pair.server.write(b"".join(pieces))
        self.pair.flush(size)
        self.clock.pump([1] * 150)
        self.pair.flush()
        outcome: list[Any] = []
        connecting.addBoth(outcome.append)
        if not isinstance(outcome[0], ClientSession):
            self.assertIsInstance(outcome[0].value, NetsuiteError)
        self.assertGone()


class TokenTests(ClientTestCase):
    """Users and tokens."""

    def test_plain(self) -> None:
        """A token is not sent over plain TCP, to loopback neither, and nothing else is."""
        for host in ("192.0.2.7", "127.0.0.1", "::1"):
            connecting = self.connect(
                MemoryEndpoint(Factory.forProtocol(Script)), user="anna", token="s3cret"
            )
            self.assertIn(
                f"only over TLS or a Unix socket, and {NAME} is neither",
                self.sentence(connecting, ConfigurationError),
            )
            server: Any = self.pair.server.protocol
            self.assertEqual(server.data, b"", host)
            self.assertGone()

    def test_socket(self) -> None:
        """Over a Unix socket it is sent."""
        connecting = self.connect(
            SocketEndpoint(Factory.forProtocol(Script)), user="anna", token="s3cret"
        )
        server: Any = self.pair.server.protocol
        (hello,) = server.records()
        assert isinstance(hello, Hello)
        self.assertEqual((hello.user, hello.token), ("anna", "s3cret"))
        self.serverSays(WELCOME)
        self.successResultOf(connecting)

    def test_impossible(self) -> None:
        """What no server accepts is refused before there is a connection."""
        for user, token, words in (
            ("anna", None, "give both"),
            (None, "s3cret", "give both"),
            ("a b", "s3cret", "'a b' is no name"),
            ("", "s3cret", "is no name"),
            ("\x1b[2J", "s3cret", "'\ufffd[2J' is no name"),
            ("x" * 65, "s3cret", "is no name"),
            ("anna", "", "0 characters"),
            ("anna", "x" * (MAX_TOKEN + 1), f"{MAX_TOKEN + 1} characters"),
            ("anna", "\udcff", "no UTF-8"),
        ):
            error = self.assertRaises(ConfigurationError, helloFor, "talk", user=user, token=token)
            self.assertIn(words, error.sentence)
            self.assertNotIn("s3cret", error.sentence)


class ReadingTests(ClientTestCase):
    """An open session."""

    def setUp(self) -> None:
        super().setUp()
        self.session, self.server = self.served()
        self.server.notes.clear()

    def next(self) -> Deferred[Any]:
        """Begin to read."""
        return self.session.next(5)

    def flush(self) -> None:
        """Let everything travel."""
        self.pair.flush(7)

    def test_exchange(self) -> None:
        """What is sent reaches the service, and its answers are read in order."""
        self.session.send(Say(text="a"))
        self.session.send(Say(text="echo"))
        reading = self.next()
        self.flush()
        self.assertEqual(self.successResultOf(reading), Say(text="echo"))
        self.assertEqual(self.server.notes, ["a", "echo"])

    def test_waiting(self) -> None:
        """Records that come before they are wanted wait."""
        for number in range(3):
            self.server.sendRecord(Say(text=str(number)))
        self.flush()
        found = [self.successResultOf(self.next()).text for _ in range(3)]
        self.assertEqual(found, ["0", "1", "2"])

    def test_timeout(self) -> None:
        """A record that does not come fails in time; the session goes on, and nothing is lost."""
        reading = self.next()
        self.clock.advance(5)
        self.assertIn(f"{NAME} did not answer within 5 s", self.sentence(reading, TimedOut))
        self.server.sendRecord(Say(text="late"))
        self.flush()
        self.assertEqual(self.successResultOf(self.next()), Say(text="late"))

    def test_error(self) -> None:
        """An ERROR is the failure of the read that it is for, and the session goes on."""
        self.session.send(Say(text="fail"))
        self.session.send(Say(text="echo"))
        self.flush()
        self.assertEqual(self.sentence(self.next(), Denied), f"{NAME} says: Not that.")
        self.assertEqual(self.successResultOf(self.next()), Say(text="echo"))

    def test_fatal(self) -> None:
        """An ERROR that ends the session fails each read from there on, and each sending."""
        reading = self.next()
        self.session.send(Say(text="deny"))
        self.flush()
        said = f"{NAME} says: No."
        self.assertEqual(self.sentence(reading, Denied), said)
        self.assertEqual(self.sentence(self.next(), Denied), said)
        error = self.assertRaises(Denied, self.session.send, Say())
        self.assertEqual(error.sentence, said)
        self.assertEqual(self.sentence(self.session.whenEnded(), Denied), said)
        self.assertGone()

    def test_beforeTheEnd(self) -> None:
        """What came before the end is read before it."""
        self.server.sendRecord(Say(text="last"))
        self.server.refuse(Denied("No."))
        self.flush()
        self.assertEqual(self.successResultOf(self.next()), Say(text="last"))
        self.sentence(self.next(), Denied)

    def test_lost(self) -> None:
        """A connection that breaks fails the read that waits, and says so."""
        reading = self.next()
        self.pair.server.abortConnection()
        self.flush()
        self.assertIn(f"The connection to {NAME} broke: ", self.sentence(reading, ConnectionFailed))
        self.failureResultOf(self.session.whenEnded(), ConnectionFailed)

    def test_twoReads(self) -> None:
        """A second read at the same time is a fault of the program."""
        self.next()
        self.failureResultOf(self.next(), RuntimeError)

    def test_tooLarge(self) -> None:
        """A record that the server would refuse is not sent."""
        self.assertRaises(LimitExceeded, self.session.send, Say(text="x" * DEFAULT_FRAME))
        self.session.send(Say(text="x" * 60_000))
        self.session.send(Say(text="echo"))
        self.flush()
        self.assertEqual(self.successResultOf(self.next()), Say(text="echo"))

    def test_bounded(self) -> None:
        """A server that sends without end is not read beyond a bound until somebody reads."""
        for number in range(1000):
            self.server.sendRecord(Say(text=str(number)))
        self.flush()
        self.assertFalse(self.pair.client.reading)
        self.assertLessEqual(len(self.session._queue), MAX_WAITING)
        for number in range(1000):
            self.flush()
            self.assertEqual(self.successResultOf(self.next()), Say(text=str(number)))
        self.assertTrue(self.pair.client.reading)

    def test_pings(self) -> None:
        """Both ends keep a quiet session for ever."""
        for _ in range(100):
            self.clock.advance(PING_INTERVAL)
            self.flush()
        self.assertNoResult(self.session.whenEnded())
        self.assertEqual(self.server.notes, [])

    def test_close(self) -> None:
        """Closing says GOODBYE; both ends know that it was meant."""
        gone = self.session.close("Done.")
        self.assertNoResult(gone)
        self.flush()
        self.successResultOf(gone)
        self.assertEqual(self.server.goodbye, "Done.")
        self.assertEqual(self.server.notes, ["draining", ("closed", None)])
        self.assertIsNone(self.successResultOf(self.session.whenEnded()))
        self.assertIn("not connected any more", self.sentence(self.next(), ConnectionFailed))
        self.successResultOf(self.session.close())
        self.assertGone()

    def test_serverLeaves(self) -> None:
        """A server's GOODBYE is noted; what is open goes on until the client closes."""
        self.server.leave("Maintenance.")
        self.flush()
        self.assertTrue(self.session.draining)
        self.assertEqual(self.session.goodbye, "Maintenance.")
        self.session.send(Say(text="echo"))
        self.flush()
        self.assertEqual(self.successResultOf(self.next()), Say(text="echo"))
        self.session.close()
        self.flush()
        self.assertIsNone(self.successResultOf(self.session.whenEnded()))
        self.assertGone()

    def test_serverStops(self) -> None:
        """A server that stops says why, and that is what a read fails with."""
        reading = self.next()
        self.server.factory.abortConnections()
        self.flush()
        self.assertEqual(
            self.sentence(reading, ConnectionFailed), f"{NAME} has said goodbye: The service stops."
        )
        self.assertIsNone(self.successResultOf(self.session.whenEnded()))
        self.assertGone()

    def test_whenEnded(self) -> None:
        """Each caller is told of the end for itself, whenever it asks; one may give up."""
        waiting = [self.session.whenEnded() for _ in range(3)]
        waiting[1].cancel()
        self.failureResultOf(waiting[1], CancelledError)
        waiting[0].addErrback(lambda failure: "another result")
        self.session.send(Say(text="deny"))
        self.flush()
        self.assertEqual(self.successResultOf(waiting[0]), "another result")
        for each in (waiting[2], self.session.whenEnded()):
            self.assertEqual(self.sentence(each, Denied), f"{NAME} says: No.")
        self.assertGone()

    def test_readGivenUp(self) -> None:
        """A read that is given up leaves no timer, and takes no record from the next."""
        reading = self.next()
        timers = len(self.clock.getDelayedCalls())
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertEqual(len(self.clock.getDelayedCalls()), timers - 1)
        self.server.sendRecord(Say(text="a"))
        self.flush()
        self.assertEqual(self.successResultOf(self.next()), Say(text="a"))

    def test_bothLeave(self) -> None:
        """Both may leave at once."""
        self.server.leave("I go.")
        self.session.close("I too.")
        self.flush()
        self.assertIsNone(self.successResultOf(self.session.whenEnded()))
        self.assertEqual(self.server.notes[-1], ("closed", None))
        self.assertGone()


class HostileServerTests(ClientTestCase):
    """An open session with a server that says what the test says."""

    def setUp(self) -> None:
        super().setUp()
        connecting, self.server = self.scripted()
        self.serverSays(WELCOME)
        self.session = self.successResultOf(connecting)
        self.server.data = b""

    def ended(self) -> NetsuiteError:
        """Take how the session has ended."""
        error = self.failureResultOf(self.session.whenEnded()).value
        assert isinstance(error, NetsuiteError)
        self.assertIn(NAME, error.sentence)
        self.assertGone()
        return error

    def test_wrongRecords(self) -> None:
        """What a server cannot send ends the session with an ERROR to it."""
        for record in (HELLO, WELCOME, Pong(id=1)):
            self.setUp()
            self.serverSays(record)
            (error,) = self.server.records()
            assert isinstance(error, Error)
            self.assertEqual((error.code, error.fatal), ("protocol", True))
            self.assertIsInstance(self.ended(), ProtocolError)

    def test_tooLarge(self) -> None:
        """A frame of more than the server's own limit is refused by its length."""
        self.serverWrites(struct.pack("!I", DEFAULT_FRAME + 1))
        self.assertIsInstance(self.ended(), LimitExceeded)

    def test_beforeWelcome(self) -> None:
        """Before WELCOME a frame may have no more than a first frame."""
        connecting, _ = self.scripted()
        self.serverWrites(struct.pack("!I", MAX_FIRST_FRAME + 1))
        self.assertIn(f"1 to {MAX_FIRST_FRAME}", self.sentence(connecting, LimitExceeded))

    def test_pingStorm(self) -> None:
        """A server's PINGs have the same bound."""
        self.serverSays(*(Ping(id=number) for number in range(50)))
        self.assertIsInstance(self.ended(), LimitExceeded)

    def test_dead(self) -> None:
        """A server that is not heard of any more is given up within 30 s."""
        self.clock.advance(PING_INTERVAL)
        self.pair.flush()
        self.assertEqual(self.server.records(), [Ping(id=1)])
        self.clock.advance(PING_INTERVAL)
        self.assertEqual(self.clock.seconds(), 30)
        self.assertIsInstance(self.ended(), TimedOut)

    def test_drip(self) -> None:
        """A record that is never complete ends the session."""
        for byte in packed(Say(text="x" * 1000)):
            self.serverWrites(bytes([byte]))
            if self.session.machine.closed:
                break
            self.clock.advance(1)
        self.assertIsInstance(self.ended(), TimedOut)

    def test_goodbyeTwice(self) -> None:
        """A second GOODBYE is an error."""
        self.serverSays(Goodbye(), Goodbye())
        self.assertIsInstance(self.ended(), ProtocolError)

    def test_notClosing(self) -> None:
        """A server that takes nothing does not keep a client that closes."""
        self.pair.server.pauseProducing()
        self.session.close()
        self.assertIsNone(self.successResultOf(self.session.whenEnded()))
        self.clock.advance(2)
        self.clock.advance(CLOSE_TIMEOUT)
        self.pair.flush()
        self.assertIsNotNone(self.pair.client.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noTraceback(self) -> None:
        """A subclass that fails ends its session, and nothing else; the log has it."""
        self.session.recordReceived = lambda record: 1 / 0  # type: ignore[assignment,method-assign]
        with capturedLogs():
            self.serverSays(Say())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.failureResultOf(self.session.whenEnded(), NetsuiteError)


class PairTests(SynchronousTestCase):
    """A real server and a real client, in pieces of every size."""

    @settings(deadline=None, max_examples=80)
    @given(st.lists(st.integers(0, 8), max_size=30), st.integers(1, 400))
    def test_anyRun(self, steps: list[int], size: int) -> None:
        """Whatever both do, in any order: no protocol error, nothing lost before the end, and the
        end is known to both."""
        clock = Clock()
        factory = TalkerFactory(clock, "talk", [Say])
        endpoint = MemoryEndpoint(factory)
        connecting = connectSession(endpoint, clock, CODEC, service="talk", name=NAME)
        endpoint.flush(size)
        session = self.successResultOf(connecting)
        server: Any = endpoint.pairs[0].server.protocol
        server.stays = True
        sent = 0
        for step in steps:
            if step == 0 and session.machine.isOpen:
                session.send(Say(text=f"{sent}"))
                sent += 1
            elif step == 1:
                server.sendRecord(Say(text="x"))
                session._queue.clear()
            elif step == 2:
                server.leave("s")
            elif step == 3:
                session.leave("c")
            elif step == 4:
                server.fail(Denied("x"))
                session._queue.clear()
            elif step == 5:
                clock.advance(PING_INTERVAL)
                endpoint.flush(size)
            elif step == 6:
                endpoint.pairs[0].client.step(size)
            elif step == 7:
                endpoint.pairs[0].server.step(size)
            else:
                endpoint.flush(size)
        endpoint.flush(size)
        said = [note for note in server.notes if isinstance(note, str) and note.isdigit()]
        self.assertEqual(said, [str(number) for number in range(sent)])
        ended = [session.whenEnded(), session.whenEnded()]
        self.assertNoResult(ended[0])
        session.close()
        endpoint.flush(size)
        server.finish()
        endpoint.flush(size)
        for each in ended:
            self.assertIsNone(self.successResultOf(each))
        self.assertEqual(server.notes[-1], ("closed", None))
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])
