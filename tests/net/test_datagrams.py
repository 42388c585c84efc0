"""
Answers to datagrams: no loop, no amplification, no exception, no flood of the log.
"""

from __future__ import annotations

import errno

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import MessageLengthError
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.net.datagrams import (
    ANSWER_BURST,
    ANSWER_RATE,
    HEADER_BYTES,
    LOOP_PORTS,
    MAX_GAIN,
    GuardedDatagrams,
    largestAnswer,
)
from twisted_netsuite.testing import listenDatagrams

OWN_PORT = 7007
PEER = ("192.0.2.1", 50_000)


class Parrot(GuardedDatagrams):
    """Answers with as many bytes as the test says."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.size: int | None = None

    def guardedReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        answer = datagram if self.size is None else bytes(self.size)
        self.answer(answer, len(datagram), addr)


class GuardTests(SynchronousTestCase):
    """L{GuardedDatagrams} at work."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.parrot = Parrot(self.clock)
        self.notes = listenDatagrams(self.parrot, IPv4Address("UDP", "127.0.0.1", OWN_PORT))

    def test_answered(self) -> None:
        """A datagram from an ordinary port is answered to its sender, an empty one, too."""
        for datagram in (b"hello", b""):
            self.parrot.datagramReceived(datagram, PEER)
        self.assertEqual(self.notes.sent, [(b"hello", PEER), (b"", PEER)])
        self.assertEqual(self.parrot.dropped, 0)

    def test_loopPorts(self) -> None:
        """A datagram from a port whose service would answer again is counted and not answered."""
        self.assertTrue({7, 13, 17, 19, 37} <= LOOP_PORTS)
        for port in LOOP_PORTS:
            self.parrot.datagramReceived(b"hello", ("192.0.2.1", port))
        self.assertEqual(self.notes.sent, [])
        self.assertEqual(self.parrot.dropped, len(LOOP_PORTS))

    def test_ownPort(self) -> None:
        """Nor is one from our own port number, whoever sends it; its neighbours are."""
        for port in (OWN_PORT - 1, OWN_PORT, OWN_PORT + 1):
            self.parrot.datagramReceived(b"hello", ("192.0.2.1", port))
        near = [("192.0.2.1", OWN_PORT - 1), ("192.0.2.1", OWN_PORT + 1)]
        self.assertEqual(self.notes.sent, [(b"hello", addr) for addr in near])
        self.assertEqual(self.parrot.dropped, 1)

    def ask(self, count: int, addr: tuple[str, int] = PEER) -> int:
        """Ask so often at once, and tell how often that was answered."""
        self.notes.sent.clear()
        for _ in range(count):
            self.parrot.datagramReceived(b"hello", addr)
        return len(self.notes.sent)

    def test_rate(self) -> None:
        """One address has so many answers at once, then so many a second; another has its own."""
        self.assertEqual(self.ask(ANSWER_BURST), ANSWER_BURST)
        self.assertEqual(self.parrot.dropped, 0)
        with capturedLogs() as events:
            self.assertEqual(self.ask(1), 0)
        self.assertEqual(self.parrot.dropped, 1)
        self.assertEqual(events[0]["why"], "it asks for more than 2000 answers a second")
        self.assertEqual(self.ask(1, (PEER[0], PEER[1] + 1)), 1)
        self.clock.advance(0.5)
        self.assertEqual(self.ask(2 * ANSWER_BURST), ANSWER_RATE / 2)

    def test_loop(self) -> None:
        """Two services that answer everything, and were set on each other by a forged datagram,
        are quiet again after some seconds, and stay so."""
        ports = {7007: Parrot(self.clock), 7425: Parrot(self.clock)}
        notes = {
            port: listenDatagrams(parrot, IPv4Address("UDP", "127.0.0.1", port))
            for port, parrot in ports.items()
        }
        ports[7007].datagramReceived(b"hello", ("127.0.0.1", 7425))
        while any(note.sent for note in notes.values()):
            for port, note in notes.items():
                for datagram, addr in note.sent:
                    assert addr is not None
                    note.sent = []
                    ports[addr[1]].datagramReceived(datagram, ("127.0.0.1", port))
                    self.clock.advance(0.0001)
            self.assertLess(self.clock.seconds(), 10)
        self.assertEqual(sum(parrot.dropped for parrot in ports.values()), 1)

    def test_gain(self) -> None:
        """An answer of just the largest size is sent; one byte more is dropped and counted."""
        for asked in (0, 1, 100, 1400):
            self.setUp()
            most = largestAnswer(asked)
            for size in (most - 1, most, most + 1):
                self.parrot.size = size
                self.parrot.datagramReceived(bytes(asked), PEER)
            self.assertEqual([len(answer) for answer, _ in self.notes.sent], [most - 1, most])
            self.assertEqual(self.parrot.dropped, 1)

    @settings(deadline=None)
    @given(st.integers(0, 65507))
    def test_factor(self, asked: int) -> None:
        """The largest answer is three times what asked for it with all headers, over IPv6 less."""
        most = largestAnswer(asked)
        self.assertEqual(most + HEADER_BYTES, MAX_GAIN * (asked + HEADER_BYTES))
        self.assertLessEqual(most + 48, 3 * (asked + 48))

    def test_notTaken(self) -> None:
        """What the system does not take is counted and forgotten; the next answer is sent."""
        failures: list[Exception] = [
            BlockingIOError(errno.EAGAIN, "full"),
            OSError(errno.ENOBUFS, "none left"),
            OSError(errno.EPERM, "a firewall"),
            OSError(errno.EINVAL, "port 0"),
            MessageLengthError("too long"),
            OverflowError("no such port"),
        ]
        for failure in failures:
            self.notes.failure = failure
            self.parrot.datagramReceived(b"hello", PEER)
        self.assertEqual(self.parrot.unsent, len(failures))
        self.notes.failure = None
        self.parrot.datagramReceived(b"hello", PEER)
        self.assertEqual(self.notes.sent, [(b"hello", PEER)])
        self.assertEqual((self.parrot.unsent, self.parrot.dropped), (len(failures), 0))

    def test_log(self) -> None:
        """A flood is told of each time it has doubled: ten lines for a thousand, not a thousand."""
        with capturedLogs() as events:
            for _ in range(1000):
                self.parrot.datagramReceived(b"hello", ("192.0.2.1", 19))
        counts = [event["count"] for event in events]
        self.assertEqual(counts, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
        self.assertEqual((events[0]["host"], events[0]["port"]), ("192.0.2.1", 19))
        self.assertIn("would answer again", events[0]["why"])

    def test_logAmplification(self) -> None:
        """An answer that would amplify is told of with both sizes."""
        self.parrot.size = 1000
        with capturedLogs() as events:
            self.parrot.datagramReceived(b"ab", PEER)
        self.assertIn("an answer of 1000 bytes to 2 would amplify", events[0]["why"])

    def test_subclass(self) -> None:
        """What a datagram means is for a subclass to say."""
        with self.assertRaises(NotImplementedError):
            GuardedDatagrams(self.clock).guardedReceived(b"", PEER)
