"""
Garbage from peers: it ends no service, and shows no traceback in the log.
"""

from __future__ import annotations

import random
import socket
import struct

from tests.integration.processes import ServedTestCase
from tests.integration.tutorial import ask, get, runHeader, runLength

#: Connections to each address.
CONNECTIONS = 200

#: RST in place of FIN.
ABORT = struct.pack("ii", 1, 0)


class GarbageTests(ServedTestCase):
    """Every service; none of them would run what it is sent."""

    suite = """
    [echo.main]
    listen = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"]
    [echo.once]
    listen = ["tcp:0:interface=127.0.0.1"]
    once = true
    [echo.discard]
    listen = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"]
    service = "discard"
    [echo.chargen]
    listen = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"]
    service = "chargen"
    [echo.daytime]
    listen = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"]
    service = "daytime"
    [exec.raw]
    listen = ["tcp:0:interface=127.0.0.1"]
    dialect = "raw"
    [exec.length]
    listen = ["tcp:0:interface=127.0.0.1"]
    dialect = "length"
    [exec.header]
    listen = ["tcp:0:interface=127.0.0.1"]
    dialect = "header"
    [files.main]
    dialect = "get"
    listen = ["tcp:0:interface=127.0.0.1"]
    root = "{dir}"
    [chat.main]
    listen = ["udp:0:interface=127.0.0.1"]
    operate = "{dir}/operate.sock"
    [proxy.main]
    listen = ["tcp:0:interface=127.0.0.1"]
    to = "unix:{dir}/operate.sock"
    [proxy.logging]
    listen = ["tcp:0:interface=127.0.0.1"]
    to = "unix:{dir}/missing.sock"
    log-data = true
    """
    files = {"a.txt": b"alpha\n"}

    def test_streams(self) -> None:
        """Random bytes, cut off in every way, leave each stream service serving."""
        chance = random.Random("streams")
        for place in self.twistd.places:
            if place.kind != "udp":
                for _ in range(CONNECTIONS):
                    with place.socket() as client:
                        _misuse(client, chance)
        self.serves()

    def test_datagrams(self) -> None:
        """Random datagrams leave each datagram service serving."""
        chance = random.Random("datagrams")
        for place in self.twistd.places:
            if place.kind == "udp":
                for _ in range(CONNECTIONS):
                    with place.socket() as client:
                        client.send(chance.randbytes(chance.choice((0, 1, 20, 1400, 60000))))
        self.serves()

    def serves(self) -> None:
        """See that every service still does what it is for."""
        self.assertEqual(b"HELLO", ask(self.open("echo.main"), b"hello"))
        self.assertEqual(b"HELLO", ask(self.open("echo.main", "udp"), b"hello"))
        self.assertEqual(b"HELLO", ask(self.open("echo.once"), b"hello"))
        self.assertEqual(b" !", self.open("echo.chargen").recv(2))
        self.assertIn(b"day", ask(self.open("echo.daytime", "udp"), b""))
        self.assertIn(b"--allow-shell", ask(self.open("exec.raw"), b"id"))
        self.assertIn(b"--allow-shell", runLength(self.open("exec.length"), "id"))
        self.assertIn(b"--allow-shell", runHeader(self.open("exec.header"), "id")[1])
        self.assertEqual(b"alpha\n", get(self.open("files.main"), "a.txt"))
        self.assertIn(b"No operator is here", ask(self.open("chat.main", "udp"), b"hello"))
        operator = self.open("proxy.main")
        operator.sendall(b"no json\n")


def _misuse(client: socket.socket, chance: random.Random) -> None:
    """Send something, perhaps behind a word that is known, and end in one of three ways."""
    word = chance.choice((b"", b"", b"get ", b"get a.txt", b'{"type":"reply","to":', b"\n"))
    try:
        for _ in range(chance.randint(1, 3)):
            client.send(word + chance.randbytes(chance.choice((1, 10, 1000, 70000))))
        ending = chance.randrange(3)
        if ending == 0:
            client.shutdown(socket.SHUT_WR)
            client.recv(1024)
        elif ending == 1:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    except OSError:
        # The service has closed first, as it may.
        return
