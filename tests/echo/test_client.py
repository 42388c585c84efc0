"""
The client of echo over streams.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.echo.farend import FarEnd
from twisted_netsuite.echo.client import QUIET, EchoSession, connectEcho
from twisted_netsuite.echo.protocol import Answer, EchoFactory, answerFor
from twisted_netsuite.errors import ConnectionFailed, TimedOut
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.testing import MemoryEndpoint


class NoFactory(Factory):
    """Takes no connection."""

    def buildProtocol(self, addr: IAddress | None) -> None:
        """Build none."""


class EchoSessionTests(SynchronousTestCase):
    """L{connectEcho} and L{EchoSession}."""

    def connect(self, answer: Answer = bytes.upper, *, once: bool = False) -> EchoSession:
        """Open a session with a service of its own."""
        self.clock = Clock()
        self.endpoint = MemoryEndpoint(EchoFactory(self.clock, answer, once=once))
        return self.successResultOf(
            Deferred.fromCoroutine(
                connectEcho(self.endpoint, self.clock, name="echo.example:7", timeout=5)
            )
        )

    def send(self, session: EchoSession, message: bytes) -> Deferred[bytes]:
        """Send a message and let it travel."""
        sent = Deferred.fromCoroutine(session.send(message))
        self.endpoint.flush(3)
        return sent

    def test_answers(self) -> None:
        """Each message gets its own answer, however it is split, and without waiting for quiet."""
        session = self.connect()
        self.assertEqual(self.successResultOf(self.send(session, b"hello")), b"HELLO")
        self.assertEqual(self.successResultOf(self.send(session, b"x" * 5000)), b"X" * 5000)
        session.close()
        self.endpoint.flush()
        self.assertIsNotNone(self.endpoint.pairs[0].client.lost)

    def test_shortAnswer(self) -> None:
        """An answer shorter than its message is complete after a moment of silence."""
        sent = self.send(self.connect(answerFor(reply="ok")), b"hel")
        self.clock.advance(QUIET - 0.01)
        self.assertNoResult(sent)
        self.clock.advance(0.01)
        self.assertEqual(self.successResultOf(sent), b"ok")

    def test_shortAnswerThenEnd(self) -> None:
        """An answer shorter than its message is complete when the connection ends."""
        sent = self.send(self.connect(answerFor(reply="ok"), once=True), b"hel")
        self.assertEqual(self.successResultOf(sent), b"ok")

    def test_timeout(self) -> None:
        """A service that says nothing fails the message in time, naming itself."""
        self.clock = Clock()
        self.endpoint = MemoryEndpoint(Factory.forProtocol(FarEnd))
        session = self.successResultOf(
            Deferred.fromCoroutine(
                connectEcho(self.endpoint, self.clock, name="echo.example:7", timeout=5)
            )
        )
        sent = self.send(session, b"hello")
        self.clock.advance(4.9)
        self.assertNoResult(sent)
        self.clock.advance(0.1)
        error = self.failureResultOf(sent, TimedOut).value
        self.assertIn("echo.example:7 did not answer within 5 s", str(error))

    def test_closedBeforeAnswer(self) -> None:
        """A connection that ends before an answer fails the message, and says how it ended."""
        closed = "echo.example:7 closed the connection before it had answered."
        broke = "The connection to echo.example:7 broke before an answer came: "
        for end, said in (("loseConnection", closed), ("abortConnection", broke)):
            session = self.connect()
            sent = Deferred.fromCoroutine(session.send(b"hello"))
            getattr(self.endpoint.pairs[0].server, end)()
            self.endpoint.flush()
            error = self.failureResultOf(sent, ConnectionFailed).value
            self.assertIn(said, str(error))

    def test_refused(self) -> None:
        """A service that takes no connection fails to connect, with what to do."""
        endpoint = MemoryEndpoint(NoFactory())
        connecting = Deferred.fromCoroutine(connectEcho(endpoint, Clock(), name="echo.example:7"))
        error = self.failureResultOf(connecting, ConnectionFailed).value
        self.assertIn("Cannot connect to echo.example:7: ", str(error))
        self.assertIn("see whether the service runs there.", str(error))

    def test_tooMany(self) -> None:
        """A service that has too many connections fails the message, not the caller's patience."""
        self.clock = Clock()
        limits = ConnectionLimits(maxConnections=0)
        self.endpoint = MemoryEndpoint(EchoFactory(self.clock, limits=limits))
        session = self.successResultOf(
            Deferred.fromCoroutine(connectEcho(self.endpoint, self.clock, name="echo.example:7"))
        )
        with capturedLogs():
            sent = self.send(session, b"hello")
        error = self.failureResultOf(sent, ConnectionFailed).value
        self.assertIn("The connection to echo.example:7 broke before an answer came", str(error))
