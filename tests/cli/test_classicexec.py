"""
The command exec in the classic dialects.
"""

from __future__ import annotations

import json
import struct

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import twisted_netsuite.cli.classicexec as command
from tests.cli.service import scripted
from tests.cli.terminal import Screen
from twisted_netsuite.cli.classicexec import runCommand
from twisted_netsuite.errors import ConnectionFailed, NetsuiteError, ProtocolError, TimedOut
from twisted_netsuite.wire.header import encodeAnswer


def answer(**told: object) -> bytes:
    """Write a header-dialect answer without output."""
    fields = {"filename": "ls", "total_size": 0, "hash": "", **told}
    header = json.dumps(fields).encode()
    return struct.pack("<i", len(header)) + header


class RunCommandTests(SynchronousTestCase):
    """L{runCommand}."""

    def setUp(self) -> None:
        self.screen = Screen(self)
        self.clock = Clock()

    def execute(self, dialect: str, *answers: bytes | None) -> Deferred[int]:
        """Run a command with a service that answers so, for as long as it takes."""
        self.endpoint, self.heard = scripted(self, command, *answers)
        done = Deferred.fromCoroutine(runCommand(self.clock, "h:1", "ls é", dialect, 5))
        for _ in range(100):
            self.endpoint.flush()
            self.clock.advance(0.1)
        return done

    def assertFails(self, done: Deferred[int], cls: type[NetsuiteError], status: int) -> str:
        """The command has failed so; give its sentence."""
        error = self.failureResultOf(done, cls).value
        self.assertEqual(error.exitStatus, status)
        self.assertEqual(self.screen.out, b"")
        return str(error)

    def test_raw(self) -> None:
        """In the raw dialect the output is printed as it is, and the status is 0."""
        self.assertEqual(self.successResultOf(self.execute("raw", b"a\xff\n")), 0)
        self.assertEqual(self.screen.out, b"a\xff\n")
        self.assertEqual(self.heard, ["ls é".encode()])
        self.assertIsNotNone(self.endpoint.pairs[0].client.lost)

    def test_length(self) -> None:
        """In the length dialect just as many bytes are printed as were announced."""
        self.assertEqual(self.successResultOf(self.execute("length", b"5", b"hello")), 0)
        self.assertEqual(self.screen.out, b"hello")
        self.assertEqual(self.heard, ["ls é".encode(), b"recv_ready"])

    def test_header(self) -> None:
        """In the header dialect the status is the command's own."""
        for status in (0, 3, 126, 127, 137):
            whole = encodeAnswer("ls", b"out", status, "exited")
            self.assertEqual(self.successResultOf(self.execute("header", whole)), status)
        self.assertEqual(self.screen.out, b"out" * 5)

    def test_outcomes(self) -> None:
        """Where the server tells an outcome but no status, the status is that of the outcome."""
        for outcome, status in (
            ("denied", 126),
            ("timed-out", 124),
            ("limit", 125),
            ("exited", 0),
            ("", 0),
        ):
            done = self.execute("header", answer(outcome=outcome))
            self.assertEqual(self.successResultOf(done), status)
            done = self.execute("header", answer(outcome=outcome, exit_status=7))
            self.assertEqual(self.successResultOf(done), 7)

    def test_badStatus(self) -> None:
        """What is no exit status of a program is a fault of the server."""
        self.assertEqual(self.successResultOf(self.execute("header", answer(exit_status=255))), 255)
        for status in (-1, 256, 2**70, "0", 1.5):
            self.assertFails(self.execute("header", answer(exit_status=status)), ProtocolError, 125)

    def test_timeout(self) -> None:
        """A service that says nothing ends the command with status 124."""
        for dialect in ("raw", "length", "header"):
            self.assertIn(
                "h:1 did not answer within 5 s",
                self.assertFails(self.execute(dialect, None), TimedOut, 124),
            )

    def test_cutOff(self) -> None:
        """Output that breaks off is not printed as if it were whole."""
        self.assertFails(self.execute("length", b"10"), ConnectionFailed, 125)

    def test_otherDialect(self) -> None:
        """A service that speaks another dialect is told apart from one that answers."""
        sentence = self.assertFails(self.execute("length", b"hello"), ProtocolError, 125)
        self.assertIn("b'hello'", sentence)
