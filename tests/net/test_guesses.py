"""
Who guesses tokens: what its failures count against, how long it waits, what the log hears.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.net import admission
from twisted_netsuite.net.admission import FAILURE_MEMORY, FREE_FAILURES, MAX_PENALTY
from twisted_netsuite.net.guesses import Guesses, guesserOf
from twisted_netsuite.trust.identity import ANONYMOUS, Identity

SOCKET = UNIXAddress(b"/run/x.sock")


class GuesserTests(SynchronousTestCase):
    """L{guesserOf}."""

    def test_order(self) -> None:
        """The source of the connection counts, then what a balancer says, then the account, and
        the user where nothing else is known."""
        behind = IPv4Address("TCP", "192.0.2.9", 1)
        root = Identity("unix", "root")
        for source, address, identity, wanted in (
            ("192.0.2.1", behind, root, "192.0.2.1"),
            (None, behind, root, "192.0.2.9"),
            (None, IPv6Address("TCP", "2001:db8::1", 1), ANONYMOUS, "2001:db8::/64"),
            (None, SOCKET, root, "unix:root"),
            (None, SOCKET, ANONYMOUS, "user:anna"),
            (None, None, ANONYMOUS, "user:anna"),
        ):
            self.assertEqual(guesserOf(source, address, identity, "anna"), wanted)

    def test_noAddress(self) -> None:
        """What a balancer says and is no address breaks nothing."""
        address = IPv6Address("TCP", "nonsense\x1b", 1)
        self.assertEqual(guesserOf(None, address, ANONYMOUS, "anna"), "user:anna")


class GuessesTests(SynchronousTestCase):
    """L{Guesses}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.guesses = Guesses(self.clock, 1.0)

    def test_penalty(self) -> None:
        """Some failures are free; after each further one the wait is twice as long, up to a most;
        others do not wait."""
        for _ in range(FREE_FAILURES):
            self.guesses.failed("a")
        self.assertEqual(self.guesses.wait("a"), 0)
        for seconds in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, MAX_PENALTY, MAX_PENALTY):
            self.guesses.failed("a")
            self.assertEqual(self.guesses.wait("a"), seconds)
            self.clock.advance(seconds - 0.25)
            self.assertEqual(self.guesses.wait("a"), 0.25)
            self.clock.advance(0.25)
            self.assertEqual((self.guesses.wait("a"), self.guesses.wait("b")), (0, 0))

    def test_burst(self) -> None:
        """Failures of checks that had begun before a wait make it no longer."""
        for _ in range(100):
            self.guesses.failed("a")
        self.assertEqual(self.guesses.wait("a"), 1)

    def test_told(self) -> None:
        """The first failure is told, and each time their number has doubled, for each apart; after
        a long quiet it begins anew."""
        told = [self.guesses.failed("a") for _ in range(9)]
        self.assertEqual(told, [1, 2, 0, 4, 0, 0, 0, 8, 0])
        self.assertEqual(self.guesses.failed("b"), 1)
        self.clock.advance(FAILURE_MEMORY)
        self.assertEqual(self.guesses.failed("a"), 0)
        self.clock.advance(FAILURE_MEMORY + 1)
        self.assertEqual(self.guesses.failed("a"), 1)

    def test_bounded(self) -> None:
        """Guessers without end cost no memory without end; the oldest is forgotten."""
        self.patch(admission, "MAX_SOURCES", 10)
        for number in range(100):
            self.guesses.failed(str(number))
        self.assertEqual((len(self.guesses._penalties), len(self.guesses._recurrences)), (10, 10))
        self.assertEqual([self.guesses.failed("0"), self.guesses.failed("99")], [1, 2])
