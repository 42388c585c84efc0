"""
The command echo.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import twisted_netsuite.cli.echo as command
from tests.cli.service import scripted
from tests.cli.terminal import Screen
from tests.echo.farend import DatagramReactor
from twisted_netsuite.cli.echo import echoTexts
from twisted_netsuite.echo.protocol import EchoFactory
from twisted_netsuite.errors import ConfigurationError, ConnectionFailed, TimedOut
from twisted_netsuite.testing import MemoryEndpoint


class StreamTests(SynchronousTestCase):
    """L{echoTexts} over streams."""

    def setUp(self) -> None:
        self.screen = Screen(self)
        self.clock = Clock()

    def echo(self, *texts: str) -> Deferred[int]:
        """Run the command."""
        return Deferred.fromCoroutine(echoTexts(self.clock, "h:7", texts, 5))

    def test_answers(self) -> None:
        """Each text's answer is printed on a line of its own; an empty text is not sent."""
        endpoint = MemoryEndpoint(EchoFactory(self.clock))
        self.patch(command, "parseConnect", lambda reactor, address, files: endpoint)
        done = self.echo("hello", "", "é", "\udcff")
        for _ in range(3):
            endpoint.flush()
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(self.screen.out, "HELLO\né\n".encode() + b"\xff\n")
        self.assertEqual(len(endpoint.pairs), 1)
        endpoint.flush()
        self.assertIsNotNone(endpoint.pairs[0].client.lost)

    def test_timeout(self) -> None:
        """A service that says nothing ends the command with status 124."""
        endpoint, _ = scripted(self, command, None)
        done = self.echo("hello")
        endpoint.flush()
        self.clock.advance(5)
        error = self.failureResultOf(done, TimedOut).value
        self.assertEqual(error.exitStatus, 124)
        self.assertIn("h:7 did not answer within 5 s", str(error))

    def test_closed(self) -> None:
        """A service that closes in place of an answer ends the command with status 125."""
        endpoint, _ = scripted(self, command, b"one")
        done = self.echo("one", "two")
        for _ in range(3):
            endpoint.flush()
        error = self.failureResultOf(done, ConnectionFailed).value
        self.assertEqual(error.exitStatus, 125)
        self.assertEqual(self.screen.out, b"one\n")

    def test_badAddress(self) -> None:
        """An address that cannot be understood ends the command with status 1."""
        done = Deferred.fromCoroutine(echoTexts(self.clock, "nonsense", ["x"], 5))
        error = self.failureResultOf(done, ConfigurationError).value
        self.assertEqual(error.exitStatus, 125)
        self.assertIn("'nonsense'", str(error))


class DatagramTests(SynchronousTestCase):
    """L{echoTexts} over datagrams."""

    def setUp(self) -> None:
        self.screen = Screen(self)
        self.reactor = DatagramReactor()

    def echo(self, address: str, *texts: str) -> Deferred[int]:
        """Run the command."""
        return Deferred.fromCoroutine(echoTexts(self.reactor, address, texts, 5))

    def test_answers(self) -> None:
        """Each text goes out when the one before is answered; an empty one is one, too."""
        done = self.echo("udp:127.0.0.1:7007", "one", "")
        [(protocol, notes)] = self.reactor.ports
        self.assertEqual(notes.sent, [(b"one", ("127.0.0.1", 7007))])
        protocol.datagramReceived(b"ONE", ("127.0.0.1", 7007))
        self.assertEqual(notes.sent[1:], [(b"", ("127.0.0.1", 7007))])
        protocol.datagramReceived(b"", ("127.0.0.1", 7007))
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(self.screen.out, b"ONE\n\n")

    def test_IPv6(self) -> None:
        """Datagrams go over IPv6 where the address is one."""
        self.echo("udp:[::1]:7007", "one")
        [(_, notes)] = self.reactor.ports
        self.assertEqual(notes.connected, ("::1", 7007))
        self.assertEqual(notes.getHost().type, "UDP")
        self.assertEqual(notes.getHost().host, "::")

    def test_timeout(self) -> None:
        """A datagram or an answer that is lost ends the command with status 124."""
        done = self.echo("udp:127.0.0.1:7007", "one")
        self.reactor.advance(5)
        error = self.failureResultOf(done, TimedOut).value
        self.assertIn("No answer from 127.0.0.1:7007 within 5 s", str(error))

    def test_refused(self) -> None:
        """An address where nobody listens ends the command with status 125."""
        done = self.echo("udp:127.0.0.1:7007", "one")
        self.reactor.ports[0][0].connectionRefused()
        error = self.failureResultOf(done, ConnectionFailed).value
        self.assertIn("Nobody listens at 127.0.0.1:7007", str(error))

    def test_badAddress(self) -> None:
        """An address without a host, a port or an existing port is named."""
        for address in ("udp:", "udp:7007", "udp:h", "udp:h:x", "udp:h:65536"):
            done = self.echo(address, "x")
            error = self.failureResultOf(done, ConfigurationError).value
            self.assertIn(repr(address.removeprefix("udp:"))[1:], str(error))
