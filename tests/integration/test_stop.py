"""
Stopping C{twistd}: at once, whatever goes on, with nothing left behind.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.console import Console
from tests.integration.processes import Twistd, alive, eventually, kill, netsuite, started
from tests.integration.tutorial import ask

#: Seconds that stopping may take.
SOON = 2.0

SUITE = """
[echo.main]
listen = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"]
[exec.main]
listen = ["tcp:0:interface=127.0.0.1"]
dialect = "header"
allow-shell = true
[exec.native]
listen = ["unix:{dir}/native.sock"]
allow-any = true
state = "{dir}/state"
[files.main]
dialect = "get"
listen = ["tcp:0:interface=127.0.0.1"]
root = "{dir}"
[chat.main]
listen = ["udp:0:interface=127.0.0.1"]
operate = "{dir}/operate.sock"
[proxy.main]
listen = ["tcp:0:interface=127.0.0.1"]
to = "unix:{dir}/behind.sock"
[echo.behind]
listen = ["unix:{dir}/behind.sock"]
"""


class StopTests(SynchronousTestCase):
    """All five services in one process, each in the middle of something."""

    def busy(self) -> tuple[Twistd, list[int]]:
        """
        Start all, with open connections, half a download, a console, and commands of both kinds.

        @return: the program, and the numbers of all that the commands have started.
        """
        twistd = started(self, suite=SUITE)
        (twistd.directory / "big").write_bytes(bytes(8 * 2**20))
        for service in ("echo.main", "proxy.main", "exec.main", "files.main"):
            self.addCleanup(twistd.place(service).socket().close)
        for service in ("echo.main", "proxy.main"):
            stalled = twistd.place(service).socket()
            self.addCleanup(stalled.close)
            stalled.setblocking(False)
            eventually(partial(_full, stalled), "a connection that is stalled")
        download = twistd.place("files.main").socket()
        self.addCleanup(download.close)
        ask(download, b"get big")
        ask(download, b"recv_ready")
        console = Console(self, "chat", "--plain", "--operate", f"{twistd.directory}/operate.sock")
        with twistd.place("chat.main", "udp").socket() as writer:
            writer.send(b"seen")
            console.expect("seen")
        pids: list[int] = []
        for number, trap in enumerate(("true", "trap '' TERM INT HUP")):
            path = twistd.directory / f"pids{number}"
            command = twistd.place("exec.main").socket()
            self.addCleanup(command.close)
            command.send(f"{trap}; sleep 1000 & echo $! $$ >{path}; wait".encode())
            eventually(partial(_words, path), "a running command")
            pids += map(int, _words(path))
        pids += self.detached(twistd)
        for pid in pids:
            self.addCleanup(kill, pid)
        self.assertEqual([True] * 6, [alive(pid) for pid in pids])
        return twistd, pids

    def detached(self, twistd: Twistd) -> list[int]:
        """
        Start a command that has left everything that could hold it.

        @param twistd: runs it.
        @return: the numbers of its processes.
        """
        path = twistd.directory / "pids-detached"
        line = f"trap '' TERM INT HUP; setsid sleep 1000 & echo $! $$ >{path}; wait"
        native = f"unix:{twistd.directory}/native.sock"
        done = netsuite("exec", native, "--detach", "--", "sh", "-c", line)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        eventually(partial(_words, path), "a command that is detached")
        return [int(word) for word in _words(path)]

    def stops(self, number: int) -> None:
        """
        See that a signal ends all of it.

        @param number: the signal.
        """
        twistd, pids = self.busy()
        begun = time.monotonic()
        twistd.signal(number)
        status = twistd.wait()
        self.assertLess(time.monotonic() - begun, SOON)
        # Twisted shuts down in order, then lets the signal itself end the process.
        self.assertEqual(-number, status)
        self.assertEqual([], [pid for pid in pids if alive(pid)])
        log = twistd.log()
        self.assertIn("Server Shut Down.", log)
        self.assertNotIn("Traceback", log)
        self.assertNotIn("Unhandled", log)
        self.assertEqual("", twistd.stderr())
        self.assertFalse((twistd.directory / "operate.sock").exists())

    def test_terminate(self) -> None:
        """SIGTERM ends services, connections and commands within two seconds."""
        self.stops(signal.SIGTERM)

    def test_interrupt(self) -> None:
        """Ctrl-C does the same."""
        self.stops(signal.SIGINT)


def _full(sock: socket.socket) -> bool:
    """Send all that a connection takes; tell whether that was nothing."""
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += sock.send(bytes(2**16))
    return not taken


def _words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []
