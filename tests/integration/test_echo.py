"""
Echo as the tutorials' clients meet it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import (
    NO_IPV6,
    Place,
    ServedTestCase,
    eventually,
    started,
)
from tests.integration.tutorial import ask, readAll, readSize

#: RST in place of FIN.
ABORT = struct.pack("ii", 1, 0)

#: Clients that are all connected before the first speaks.
CLIENTS = 100


class EchoTests(ServedTestCase):
    """The echo service over IPv4."""

    suite = """
    [echo.upper]
    listen = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"]
    [echo.verbatim]
    listen = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"]
    upper = false
    [echo.once]
    listen = ["tcp:0:interface=127.0.0.1"]
    once = true
    [echo.fixed]
    listen = ["tcp:0:interface=127.0.0.1"]
    once = true
    reply = "Hello,I have received the message!"
    [echo.hasty]
    listen = ["tcp:0:interface=127.0.0.1"]
    idle-timeout = 0.1
    [echo.narrow]
    listen = ["tcp:0:interface=127.0.0.1"]
    max-connections = 1
    [echo.daytime]
    listen = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"]
    service = "daytime"
    """

    def test_upper(self) -> None:
        """Each chunk comes back upper-cased until the client closes."""
        client = self.open("echo.upper")
        for message in (b"hello", b"a", b"Already UPPER 123"):
            self.assertEqual(message.upper(), ask(client, message))
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(b"", client.recv(1))

    def test_utf8(self) -> None:
        """Only ASCII letters change, so that UTF-8 survives."""
        client = self.open("echo.upper")
        self.assertEqual("你好 GRüßE", ask(client, "你好 grüße".encode()).decode())

    def test_verbatim(self) -> None:
        """With upper = false each chunk and each datagram comes back as it came."""
        for kind in ("tcp", "udp"):
            self.assertEqual(b"as It is", ask(self.open("echo.verbatim", kind), b"as It is"))

    def test_reset(self) -> None:
        """A client's reset ends that client's connection only."""
        bystander, vandal = self.open("echo.upper"), self.open("echo.upper")
        self.assertEqual(b"X", ask(vandal, b"x"))
        vandal.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        vandal.close()
        self.assertEqual(b"STILL HERE", ask(bystander, b"still here"))
        self.assertEqual(b"NEW", ask(self.open("echo.upper"), b"new"))

    def test_once(self) -> None:
        """A one-shot server closes after its first answer, and serves the next client."""
        for message in (b"first", b"second"):
            client = self.open("echo.once")
            self.assertEqual(message.upper(), ask(client, message))
            self.assertEqual(b"", client.recv(1024))

    def test_fixedText(self) -> None:
        """A one-shot server may answer a fixed text."""
        client = self.open("echo.fixed")
        client.send(b"anything")
        self.assertEqual(b"Hello,I have received the message!", readAll(client))

    def test_datagrams(self) -> None:
        """Each datagram comes back upper-cased to its sender, an empty one empty."""
        one, other = self.open("echo.upper", "udp"), self.open("echo.upper", "udp")
        one.send(b"one")
        other.send(b"other")
        self.assertEqual(b"OTHER", other.recv(1024))
        self.assertEqual(b"ONE", one.recv(1024))
        self.assertEqual(b"", ask(one, b""))

    def test_largestDatagram(self) -> None:
        """The largest payload that UDP over IPv4 carries comes back whole."""
        client = self.open("echo.upper", "udp")
        client.send(b"x" * 65507)
        self.assertEqual(b"X" * 65507, client.recv(65536))

    def test_joined(self) -> None:
        """What is sent at once may come back at once, and nothing of it is lost."""
        client = self.open("echo.upper")
        client.send(b"hello")
        client.send(b"world")
        self.assertEqual(b"HELLOWORLD", readSize(client, 10))

    def test_readInPieces(self) -> None:
        """A client that reads less than an answer finds the rest at its next read."""
        client = self.open("echo.upper")
        client.send(b"hello")
        self.assertEqual([b"HE", b"LLO"], [readSize(client, 2), readSize(client, 3)])

    def test_manyStreams(self) -> None:
        """Many clients that are connected at once are each answered their own."""
        clients = [self.open("echo.upper") for _ in range(CLIENTS)]

        def talk(number: int) -> None:
            for turn in range(10):
                message = f"client {number} turn {turn}".encode()
                self.assertEqual(message.upper(), ask(clients[number], message))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(talk, range(CLIENTS)))

    def test_manyDatagramClients(self) -> None:
        """Many senders of datagrams are each answered their own."""
        clients = [self.open("echo.upper", "udp") for _ in range(CLIENTS)]
        for number, client in enumerate(clients):
            client.send(b"client %d" % number)
        for number, client in enumerate(clients):
            self.assertEqual(b"CLIENT %d" % number, client.recv(1024))

    def test_stalledReader(self) -> None:
        """A client that never reads is not read either, and gets every byte once it does."""
        client = self.open("echo.upper")
        client.settimeout(0.5)
        sent = 0
        with self.assertRaises(TimeoutError):
            while sent < 64 * 2**20:
                sent += client.send(b"x" * 65536)
        client.settimeout(10)
        client.shutdown(socket.SHUT_WR)
        got = 0
        while chunk := client.recv(2**20):
            self.assertEqual(len(chunk), chunk.count(b"X"))
            got += len(chunk)
        self.assertEqual(sent, got)

    def test_idle(self) -> None:
        """A connection on which nothing happens is given up after its idle timeout."""
        client = self.open("echo.hasty")
        with self.assertRaises(ConnectionResetError):
            client.recv(1)

    def test_tooMany(self) -> None:
        """A connection too many is closed at once, while those that are open live on."""
        first = self.open("echo.narrow")
        # The reset may come while the client still connects, or after it.
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(b"", self.open("echo.narrow").recv(1))
        self.assertEqual(b"HERE", ask(first, b"here"))
        self.assertIn("refused, 1 connections are open (max-connections)", self.twistd.log())

    def test_daytime(self) -> None:
        """A sibling service answers over streams and datagrams alike (RFC 867)."""
        self.assertRegex(readAll(self.open("echo.daytime")), rb"^\w+day, .*UTC\r\n$")
        self.assertRegex(ask(self.open("echo.daytime", "udp"), b""), rb"^\w+day, .*UTC\r\n$")

    def test_createConnection(self) -> None:
        """The standard library's way to connect to a name reaches the service."""
        port = self.twistd.place("echo.upper").port
        with socket.create_connection(("localhost", port), timeout=10) as client:
            self.assertEqual(b"HELLO", ask(client, b"hello"))


class UnixTests(ServedTestCase):
    """Echo over Unix sockets."""

    suite = """
    [echo.main]
    listen = ["unix:{dir}/echo.sock"]
    """

    def test_unix(self) -> None:
        """The same program is served over AF_UNIX."""
        client = self.open("echo.main", "unix")
        self.assertEqual(b"HELLO", ask(client, b"hello"))
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(b"", client.recv(1))


class IPv6Tests(ServedTestCase):
    """Echo over IPv6."""

    skip = NO_IPV6
    suite = r"""
    [echo.main]
    listen = ['tcp6:0:interface=\:\:1', 'udp:0:interface=\:\:1']
    """

    def test_stream(self) -> None:
        """The same program is served over AF_INET6."""
        self.assertEqual(b"HELLO", ask(self.open("echo.main"), b"hello"))

    def test_datagram(self) -> None:
        """Datagrams over AF_INET6 are answered too."""
        self.assertEqual(b"HELLO", ask(self.open("echo.main", "udp"), b"hello"))


class RestartTests(SynchronousTestCase):
    """Socket care."""

    def test_restart(self) -> None:
        """A service starts again at once on its port while old connections are in TIME_WAIT."""
        first = started(self, "netsuite-echo", "--once", "--listen=tcp:0:interface=127.0.0.1")
        place = first.place("echo")
        for _ in range(3):
            with place.socket() as client:
                ask(client, b"hello")
                self.assertEqual(b"", client.recv(1))
        eventually(lambda: _inTimeWait(place), "a connection in TIME_WAIT")
        first.stop()
        second = started(self, "netsuite-echo", f"--listen=tcp:{place.port}:interface=127.0.0.1")
        self.assertTrue(_inTimeWait(place))
        self.assertEqual(place, second.place("echo"))
        with place.socket() as client:
            self.assertEqual(b"AGAIN", ask(client, b"again"))

    def test_restartUnix(self) -> None:
        """A service starts again on a Unix socket that a killed one has left behind."""
        first = started(self, "netsuite-echo", "--listen=unix:{dir}/echo.sock")
        place = first.place("echo", "unix")
        first.signal(9)
        first.wait()
        self.assertTrue(Path(place.host).is_socket())
        second = started(self, "netsuite-echo", f"--listen=unix:{place.host}")
        with second.place("echo", "unix").socket() as client:
            self.assertEqual(b"AGAIN", ask(client, b"again"))


def _inTimeWait(place: Place) -> bool:
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1].endswith(f":{place.port:04X}") and row[3] == "06" for row in rows)
