"""
The native echo: every message comes back as it went, whole, over a session.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.echo.client import NativeEchoSession, connectNativeEcho
from twisted_netsuite.echo.messages import RECORDS, Echo
from twisted_netsuite.echo.native import NativeEchoFactory
from twisted_netsuite.errors import (
    ConnectionFailed,
    NetsuiteError,
    ProtocolError,
    TimedOut,
    Unauthenticated,
    Unsupported,
)
from twisted_netsuite.net.framed import SessionFactory, SessionProtocol
from twisted_netsuite.testing import MemoryEndpoint
from twisted_netsuite.wire.session import DEFAULT_FRAME, MAX_DATA, Ping, Record, SessionCodec

NAME = "echo.example:7007"


class Deaf(SessionProtocol):
    """Answers nothing."""

    def recordReceived(self, record: Record) -> None:
        """Forget it."""


class NativeEchoTests(SynchronousTestCase):
    """L{NativeEchoFactory} and L{connectNativeEcho}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.factory: SessionFactory = NativeEchoFactory(self.clock)

    def connect(self) -> Deferred[NativeEchoSession]:
        """Begin to connect."""
        self.endpoint = MemoryEndpoint(self.factory)
        connecting = connectNativeEcho(self.endpoint, self.clock, name=NAME, timeout=5)
        self.endpoint.flush()
        return connecting

    def ask(self, session: NativeEchoSession, message: bytes, size: int = 65536) -> Deferred[bytes]:
        """Send a message and let it travel."""
        asking = session.ask(message)
        self.endpoint.flush(size)
        return asking

    def failure(self, failed: Deferred[Any], kind: type[NetsuiteError]) -> str:
        """Take the sentence of a failure."""
        return str(self.failureResultOf(failed, kind).value)

    def test_asItCame(self) -> None:
        """Messages come back byte for byte: none is upper-cased, and an empty one is one, too."""
        session = self.successResultOf(self.connect())
        for message in (b"hello", b"", b"\0\xff", bytes(range(256)), b"x" * MAX_DATA):
            self.assertEqual(self.successResultOf(self.ask(session, message)), message)

    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 400_000), st.integers(1000, 100_000))
    def test_anyLength(self, length: int, size: int) -> None:
        """A message of any length comes back whole, whatever fits in a record."""
        self.setUp()
        session = self.successResultOf(self.connect())
        message = (b"0123456789abc" * (length // 13 + 1))[:length]
        self.assertEqual(self.successResultOf(self.ask(session, message, size)), message)

    def test_largestRecord(self) -> None:
        """The largest record fits in the frame that is the default."""
        frame = SessionCodec(RECORDS).encode(Echo(data=b"x" * MAX_DATA))
        self.assertLessEqual(len(frame), DEFAULT_FRAME)
        codec = SessionCodec(RECORDS)
        self.assertRaises(
            ProtocolError, codec.decode, codec.encode(Echo(data=b"x" * (MAX_DATA + 1)))
        )

    def test_notAnEcho(self) -> None:
        """A service of another name is found out when the session opens."""
        self.factory = SessionFactory(self.clock, "exec", RECORDS)
        self.assertIn("This service is exec, not echo", self.failure(self.connect(), Unsupported))

    def test_requireIdentity(self) -> None:
        """It can be kept to those who are known."""
        self.factory = NativeEchoFactory(self.clock, requireIdentity=True)
        self.failure(self.connect(), Unauthenticated)

    def test_silent(self) -> None:
        """An answer that does not come fails in time, and ends the session: it might come later."""
        self.factory = SessionFactory(self.clock, "echo", RECORDS)
        self.factory.protocol = Deaf
        session = self.successResultOf(self.connect())
        asking = self.ask(session, b"hello")
        self.clock.advance(5)
        self.assertIn("did not answer within 5 s", self.failure(asking, TimedOut))
        self.endpoint.flush()
        self.failure(self.ask(session, b"again"), TimedOut)
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_otherAnswer(self) -> None:
        """An answer that is no echo is an error of the protocol."""
        session = self.successResultOf(self.connect())
        asking = session.ask(b"hello")
        session.recordReceived(Ping(id=1))
        self.assertIn(NAME, self.failure(asking, ProtocolError))

    def test_stops(self) -> None:
        """When the service says GOODBYE the answer that is on its way still comes, nothing new is
        begun, and the session ends."""
        session = self.successResultOf(self.connect())
        asking = session.ask(b"x" * 200_000)
        drained = self.factory.drain("Maintenance.", 60)
        self.endpoint.flush()
        self.assertEqual(self.successResultOf(asking), b"x" * 200_000)
        self.successResultOf(drained)
        self.assertIn("has said goodbye", self.failure(self.ask(session, b"x"), ConnectionFailed))
        self.assertIsNone(self.successResultOf(session.whenEnded()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopsIdle(self) -> None:
        """A session that asks nothing ends with the GOODBYE."""
        session = self.successResultOf(self.connect())
        drained = self.factory.drain("Maintenance.", 60)
        self.endpoint.flush()
        self.successResultOf(drained)
        self.assertIsNone(self.successResultOf(session.whenEnded()))

    def test_close(self) -> None:
        """Closing leaves nothing at either end."""
        session = self.successResultOf(self.connect())
        session.close()
        self.endpoint.flush()
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])
