"""
The port forwarder as the tutorial's client meets it, and what the tutorial's does wrong.
"""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from collections.abc import Iterator

from tests.integration.processes import (
    NO_IPV6,
    SOCKET_TIMEOUT,
    ServedTestCase,
    Twistd,
    accepted,
    freePort,
    started,
)
from tests.integration.tutorial import ask, readAll, readSize

#: RST in place of FIN.
ABORT = struct.pack("ii", 1, 0)

#: More than all the buffers on the way hold.
BIG = bytes(range(256)) * 40_000


class ForwardTests(ServedTestCase):
    """TCP and Unix legs in front of an echo service of the same process."""

    suite = """
    [echo.behind]
    listen = ["unix:{dir}/behind.sock"]
    [proxy.main]
    listen = ["tcp:0:interface=127.0.0.1", "unix:{dir}/front.sock"]
    to = "unix:{dir}/behind.sock"
    [proxy.second]
    listen = ["tcp:0:interface=127.0.0.1"]
    to = "unix:{dir}/front.sock"
    log-data = true
    """

    def test_tutorial(self) -> None:
        """The tutorial's client talks through the forwarder as without it."""
        for service, kind in (
            ("proxy.main", "tcp"),
            ("proxy.main", "unix"),
            ("proxy.second", "tcp"),
        ):
            client = self.open(service, kind)
            for message in (b"hello", b"world"):
                self.assertEqual(message.upper(), ask(client, message))
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(b"", client.recv(1))

    def test_logData(self) -> None:
        """With log-data each chunk is logged with time, peer and data, escaped."""
        client = self.open("proxy.second")
        ask(client, b"marked\x1b[2J")
        peer = "{}:{}".format(*client.getsockname())
        lines = [line for line in self.twistd.log().splitlines() if peer in line]
        self.assertEqual(2, len(lines))
        self.assertRegex(lines[0], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.* sent b'marked\\x1b\[2J'")
        self.assertIn(r"got b'MARKED\x1b[2J'", lines[1])

    def test_manyAtOnce(self) -> None:
        """Many clients are forwarded at once, each to a connection of its own."""
        clients = [self.open("proxy.main") for _ in range(50)]
        for number, client in enumerate(clients):
            client.send(b"client %d" % number)
        for number, client in enumerate(clients):
            self.assertEqual(b"CLIENT %d" % number, client.recv(1024))


class Legs(Twistd):
    """
    A proxy for each pair of plain legs, and their targets in the test itself.

    @ivar targets: the listening socket of each sort of target.
    """

    def __init__(self) -> None:
        """Listen, and start the proxies."""
        tcp = socket.create_server(("127.0.0.1", 0))
        nobody = freePort()
        to = {"tcp": f"127.0.0.1:{tcp.getsockname()[1]}", "unix": "unix:{dir}/target.sock"}
        tables = [
            f"[proxy.to-{far}]\n"
            f'listen = ["tcp:0:interface=127.0.0.1", "unix:{{dir}}/to-{far}.sock"]\n'
            f'to = "{address}"\n'
            for far, address in {**to, "nobody": f"127.0.0.1:{nobody}"}.items()
        ]
        super().__init__(suite="\n".join(tables))
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(self.directory / "target.sock"))
        unix.listen()
        self.nobody = nobody
        self.targets = {"tcp": tcp, "unix": unix}
        for target in self.targets.values():
            target.settimeout(SOCKET_TIMEOUT)

    def stop(self) -> None:
        """End all."""
        super().stop()
        for target in self.targets.values():
            target.close()


class LegTests(ServedTestCase):
    """Half-close, resets and slow readers on every pair of plain legs; targets that refuse."""

    twistd: Legs

    @classmethod
    def start(cls) -> Twistd:
        """Start proxies and targets."""
        return Legs()

    def pair(self, near: str, far: str) -> tuple[socket.socket, socket.socket]:
        """
        Make one connection through a proxy.

        @param near: the sort of the client's leg.
        @param far: the sort of the target's leg.
        @return: the client's socket and the target's.
        """
        client = self.open(f"proxy.to-{far}", near)
        target = accepted(self.twistd.targets[far])
        self.addCleanup(target.close)
        return client, target

    def pairs(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """Make one connection for each pair of legs."""
        for near, far in itertools.product(("tcp", "unix"), repeat=2):
            yield self.pair(near, far)

    def test_clientEnds(self) -> None:
        """A client's end reaches the target, whose answer still reaches the client."""
        for client, target in self.pairs():
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(b"hello", readAll(target))
            target.sendall(b"5\n")
            target.close()
            self.assertEqual(b"5\n", readAll(client))

    def test_targetEnds(self) -> None:
        """A target's end reaches the client, whose answer still reaches the target."""
        for client, target in self.pairs():
            target.sendall(b"greeting")
            target.shutdown(socket.SHUT_WR)
            self.assertEqual(b"greeting", readAll(client))
            client.sendall(b"late answer")
            client.close()
            self.assertEqual(b"late answer", readAll(target))

    def test_endBehindData(self) -> None:
        """An end that stands behind much data comes after all of it."""
        for client, target in self.pairs():
            sending = threading.Thread(target=_sendAndEnd, args=(client, BIG))
            sending.start()
            self.assertEqual(BIG, readAll(target))
            sending.join()
            _sendAndEnd(target, b"done")
            self.assertEqual(b"done", readAll(client))

    def test_stalledTarget(self) -> None:
        """A client is not read while its target reads nothing, and no byte of it is lost."""
        for client, target in self.pairs():
            client.settimeout(0.3)
            sent = 0
            with self.assertRaises(TimeoutError):
                while sent < 64 * 2**20:
                    sent += client.send(b"x" * 65536)
            client.shutdown(socket.SHUT_WR)
            got = 0
            while chunk := target.recv(2**20):
                got += len(chunk)
            self.assertEqual(sent, got)

    def test_reset(self) -> None:
        """A reset passes through as a reset, so that what was cut off does not look whole."""
        for vandal, victim in (self.pair("tcp", "tcp"), reversed(self.pair("tcp", "tcp"))):
            vandal.sendall(b"half of it")
            self.assertEqual(b"half of it", readSize(victim, 10))
            vandal.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            vandal.close()
            self.assertRaises(ConnectionResetError, victim.recv, 1)

    def test_early(self) -> None:
        """What a client sends before its target has accepted arrives, its end included."""
        client = self.open("proxy.to-tcp")
        client.sendall(b"early")
        client.shutdown(socket.SHUT_WR)
        target = accepted(self.twistd.targets["tcp"])
        self.addCleanup(target.close)
        self.assertEqual(b"early", readAll(target))

    def test_refusal(self) -> None:
        """A target that refuses closes that client only, with one line in the log."""
        address = ("127.0.0.1", self.twistd.nobody)
        with socket.create_server(address) as heard:
            heard.settimeout(SOCKET_TIMEOUT)
            bystander = self.open("proxy.to-nobody")
            target = accepted(heard)
            self.addCleanup(target.close)
        refused = self.open("proxy.to-nobody")
        self.assertEqual(b"", refused.recv(1))
        peer = "{}:{}".format(*refused.getsockname())
        lines = [line for line in self.twistd.log().splitlines() if peer in line]
        self.assertEqual(1, len(lines), lines)
        self.assertIn(
            f"127.0.0.1:{self.twistd.nobody} was not reached: connection refused", lines[0]
        )
        bystander.sendall(b"still here")
        self.assertEqual(b"still here", readSize(target, 10))
        with socket.create_server(address) as heard:
            heard.settimeout(SOCKET_TIMEOUT)
            late = self.open("proxy.to-nobody")
            late.sendall(b"back again")
            with accepted(heard) as server:
                self.assertEqual(b"back again", readSize(server, 10))

    def test_refusalUnix(self) -> None:
        """A Unix socket that is not there is a refusal like another."""
        proxy = started(
            self,
            *("netsuite-proxy", "--listen=tcp:0:interface=127.0.0.1"),
            "--to=unix:{dir}/missing.sock",
        )
        with proxy.place("proxy").socket() as client:
            self.assertEqual(b"", client.recv(1))
        self.assertEqual(1, proxy.log().count("was not reached: no such file or directory"))
        self.assertNotIn("Traceback", proxy.log())


def _sendAndEnd(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


class IPv6Tests(ServedTestCase):
    """The forwarder over IPv6."""

    skip = NO_IPV6
    suite = r"""
    [echo.behind]
    listen = ["unix:{dir}/behind.sock"]
    [proxy.main]
    listen = ['tcp6:0:interface=\:\:1']
    to = "unix:{dir}/behind.sock"
    """

    def test_tutorial(self) -> None:
        """The same program is served over AF_INET6."""
        self.assertEqual(b"HELLO", ask(self.open("proxy.main"), b"hello"))
