"""
Limits of a real service, and peers at several addresses of loopback that run into them.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import (
    SOCKET_TIMEOUT,
    Place,
    Twistd,
    eventually,
    scratch,
    started,
)
from twisted_netsuite.trust.ca import Authority

#: The states ESTABLISHED and CLOSE_WAIT in /proc/net/tcp: whatever its peer has done, a connection
#: is there until the service closes it.
_HELD = ("01", "08")


def connectFrom(test: SynchronousTestCase, source: str, place: Place) -> socket.socket:
    """
    Connect from one of loopback's addresses.

    @param test: closes it at its end.
    @param source: such as 127.0.0.2.
    @param place: where to.
    @return: a blocking socket.
    """
    made = socket.create_connection((place.host, place.port), SOCKET_TIMEOUT, (source, 0))
    test.addCleanup(made.close)
    return made


def isOpen(made: socket.socket) -> bool:
    """Tell whether the other end still has a connection, on which it sends nothing."""
    made.setblocking(False)
    try:
        return bool(made.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except OSError:
        return False


def served(place: Place) -> int:
    """Count the connections that a service has at one of its ports."""
    count = 0
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_, inode = row.split()[:10]
        mine = int(local.partition(":")[2], 16) == place.port
        # One that was not accepted yet has no inode.
        count += mine and state in _HELD and inode != "0"
    return count


class PlainTests(SynchronousTestCase):
    """Limits of a service that knows nobody."""

    def serve(self, *words: str) -> tuple[Twistd, Place]:
        """Serve echo."""
        twistd = started(self, "netsuite-echo", "--listen", "tcp:0:interface=127.0.0.1", *words)
        return twistd, twistd.place("echo")

    def assertServed(self, made: socket.socket) -> None:
        """Check that a connection is answered."""
        made.sendall(b"hello")
        self.assertEqual(made.recv(5, socket.MSG_WAITALL), b"HELLO")

    def assertClosed(self, source: str, place: Place) -> None:
        """Check that a connection is, or is soon, closed."""
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(connectFrom(self, source, place).recv(1), b"")

    def test_perSource(self) -> None:
        """A source that has its connections gets no more; another does, and so it does later."""
        twistd, place = self.serve("--max-per-source", "2")
        first, second = (connectFrom(self, "127.0.0.2", place) for _ in range(2))
        self.assertServed(first)
        self.assertServed(second)
        self.assertClosed("127.0.0.2", place)
        self.assertServed(connectFrom(self, "127.0.0.3", place))
        first.close()
        eventually(lambda: served(place) == 2, "the connection that was closed is gone")
        self.assertServed(connectFrom(self, "127.0.0.2", place))
        self.assertRegex(
            twistd.log(),
            r"127\.0\.0\.2:\d+: refused, its source has 2 connections open \(max-per-source\); "
            r"1 refused so far",
        )

    def test_rate(self) -> None:
        """A source that connects too often is turned away; another is not."""
        twistd, place = self.serve("--connection-rate", "0.01")
        self.assertServed(connectFrom(self, "127.0.0.2", place))
        for _ in range(8):
            self.assertClosed("127.0.0.2", place)
        self.assertServed(connectFrom(self, "127.0.0.3", place))
        told = [line for line in twistd.log().splitlines() if "(connection-rate)" in line]
        self.assertEqual([line.split()[-4] for line in told], ["1", "2", "4", "8"])

    def test_firstMessage(self) -> None:
        """A peer that says nothing is given up; one that has said something may then be silent."""
        twistd, place = self.serve("--first-message-timeout", "0.5")
        talker = connectFrom(self, "127.0.0.2", place)
        self.assertServed(talker)
        self.assertClosed("127.0.0.3", place)
        self.assertServed(talker)
        self.assertRegex(twistd.log(), r"127\.0\.0\.3:\d+: closed, no message for 0.5 s\n")


class ProvenTests(SynchronousTestCase):
    """Limits of a service whose peers have certificates."""

    def setUp(self) -> None:
        directory = scratch(self) / "ca"
        authority = Authority.create(directory)
        authority.issueServer("localhost", sans=["127.0.0.1"])
        authority.issueClient("anna")
        self.server = f"cert={directory}/localhost.pem:clientCA={directory}/ca.pem"
        self.context = ssl.create_default_context(cafile=f"{directory}/ca.pem")
        self.context.load_cert_chain(f"{directory}/anna.pem")

    def serve(self, *words: str) -> None:
        """Serve echo over mutual TLS."""
        where = f"mtls:0:interface=127.0.0.1:{self.server}"
        self.twistd = started(self, "netsuite-echo", "--listen", where, *words)
        self.place = self.twistd.place("echo")

    def assertGoodServed(self, source: str = "127.0.0.1") -> None:
        """Check that a client with a certificate is answered."""
        plain = connectFrom(self, source, self.place)
        with self.context.wrap_socket(plain, server_hostname="127.0.0.1") as good:
            good.sendall(b"hello")
            self.assertEqual(good.recv(5), b"HELLO")

    def silent(self, count: int, sources: int) -> list[socket.socket]:
        """Connect some peers that never begin a handshake, from several addresses."""
        return [
            connectFrom(self, f"127.0.1.{number % sources + 1}", self.place)
            for number in range(count)
        ]

    def pending(self, silent: list[socket.socket]) -> int:
        """Count the silent peers that still have their connection."""
        return sum(map(isOpen, silent))

    def flood(self, sources: int) -> str:
        """Let many wait for ever, and a good client come now and then; tell what is logged."""
        self.serve("--max-pending", "20", "--handshake-timeout", "2", "--penalty", "0")
        silent = self.silent(60, sources)
        for _ in range(5):
            self.assertGoodServed()
            eventually(lambda: self.pending(silent) <= 20, "no more than 20 wait")
        eventually(lambda: not self.pending(silent), "their time is over")
        eventually(lambda: not served(self.place), "nobody is left")
        log = self.twistd.log()
        self.assertNotIn("Traceback", log)
        return log

    def test_manySources(self) -> None:
        """Of 60 that never finish a handshake 20 wait, and a good client gets through at once."""
        log = self.flood(60)
        evicted, late = log.count("(max-pending)"), log.count("not complete within 2 s")
        self.assertEqual(evicted + late, 60)
        self.assertGreaterEqual(evicted, 40)

    def test_oneSource(self) -> None:
        """So it does when they all come from one address, of which the log has a few lines."""
        log = self.flood(1)
        for cause, most in ((r"\(max-pending\)", 32), ("not complete within 2 s", 8)):
            told = re.findall(f"{cause}(?:; ([0-9]+) times so far)?\n", log)
            counts = [int(count or 1) for count in told]
            self.assertEqual(counts, [2**power for power in range(len(counts))])
            self.assertGreaterEqual(counts[-1], most)

    def test_sameSource(self) -> None:
        """A good client gets through from the very address that floods, if it is quick."""
        self.serve("--max-pending", "5", "--penalty", "0")
        silent = self.silent(20, 1)
        self.assertGoodServed("127.0.1.1")
        eventually(lambda: self.pending(silent) <= 5, "no more than 5 wait")

    def test_fullOfWaiting(self) -> None:
        """Those that wait keep nobody out who proves itself, though they have all the places."""
        self.serve("--max-connections", "5")
        silent = self.silent(5, 5)
        eventually(lambda: served(self.place) == 5, "all places are taken")
        self.assertGoodServed()
        eventually(lambda: self.pending(silent) == 4, "one of them has made room")

    def test_penalty(self) -> None:
        """A source that keeps failing is turned away, and nobody else is."""
        self.serve("--penalty", "60")
        for _ in range(4):
            guesser = connectFrom(self, "127.0.0.9", self.place)
            guesser.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                while guesser.recv(100):
                    pass
        with self.assertRaises((ConnectionError, ssl.SSLError)):
            self.assertGoodServed("127.0.0.9")
        self.assertGoodServed()
        self.assertRegex(
            self.twistd.log(),
            r"127\.0\.0\.9:\d+: refused, its source has failed to prove who it is too often "
            r"\(penalty\); 1 refused so far",
        )
