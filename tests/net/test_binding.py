"""
Addresses are tried out before anything starts, and left as they were.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import tempfile
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.net.test_addresses import hasIPv6, listen, listening
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.binding import MAX_UNIX_PATH, bindSentence, checkBinds, requireApart


class CheckBindsTests(SynchronousTestCase):
    """L{checkBinds} on sockets of this machine."""

    def setUp(self) -> None:
        # Not trial's own temporary directory, of which the path may be too long for a socket.
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, name: str) -> str:
        """Name a file in a fresh directory."""
        return os.path.join(self.directory, name)

    def held(self, sock: socket.socket, where: Any) -> Any:
        """Bind a socket for the time of a test, and tell where it is."""
        self.addCleanup(sock.close)
        sock.bind(where)
        return sock.getsockname()

    def free(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
        """Find a port of loopback that is free."""
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.bind(("127.0.0.1", 0))
            return int(sock.getsockname()[1])

    def refusal(self, *descriptions: str) -> str:
        """Check addresses of which one cannot be bound, and return what is said of it."""
        addresses = [listen(description) for description in descriptions]
        with self.assertRaises(ConfigurationError) as caught:
            requireApart(addresses)
            checkBinds(addresses)
        return str(caught.exception)

    def test_free(self) -> None:
        """Addresses that are free pass, and are as free afterwards as before."""
        path = self.path("s")
        descriptions = [
            f"tcp:{self.free()}:interface=127.0.0.1",
            f"udp:{self.free(socket.SOCK_DGRAM)}:interface=127.0.0.1",
            f"unix:{path}",
            "tcp:0:interface=127.0.0.1",
            "tcp:0:interface=127.0.0.1",
        ]
        for _ in range(2):
            checkBinds([listen(description) for description in descriptions])
        self.assertEqual(os.listdir(self.directory), [])

    def test_sameNumber(self) -> None:
        """TCP and UDP may have one port number."""
        port = self.free()
        checkBinds([listen(f"{kind}:{port}:interface=127.0.0.1") for kind in ("tcp", "udp")])

    def test_ipv6(self) -> None:
        """IPv6 addresses are tried as such."""
        if not hasIPv6():
            raise SkipTest("this machine has no IPv6")
        sock = listening("::1")
        self.addCleanup(sock.close)
        port = sock.getsockname()[1]
        sentence = self.refusal(rf"tcp:{port}:interface=\:\:1")
        self.assertIn(f"Cannot listen on tcp [::1]:{port}", sentence)

    def test_portInUse(self) -> None:
        """A port that is in use is named, with what to do."""
        sock = socket.socket()
        port = self.held(sock, ("127.0.0.1", 0))[1]
        sock.listen()
        sentence = self.refusal(f"tcp:{port}:interface=127.0.0.1")
        self.assertIn(f"Cannot listen on tcp 127.0.0.1:{port}: address already in use", sentence)
        self.assertIn("stop the program that holds it, or give another listen address", sentence)

    def test_datagramPortInUse(self) -> None:
        """So is one of datagrams."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        port = self.held(sock, ("127.0.0.1", 0))[1]
        sentence = self.refusal(f"udp:{port}:interface=127.0.0.1")
        self.assertIn(f"Cannot listen on udp 127.0.0.1:{port}: address already in use", sentence)

    def test_timeWait(self) -> None:
        """A port on which connections of an earlier run are still remembered passes."""
        with listening("127.0.0.1") as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as client:
                server.accept()[0].close()
                client.recv(1)
        checkBinds([listen(f"tcp:{port}:interface=127.0.0.1")])

    def test_notOurs(self) -> None:
        """An address that this machine does not have is named, with how to find one."""
        for kind in ("tcp", "udp"):
            sentence = self.refusal(f"{kind}:0:interface=192.0.2.1")
            self.assertIn(f"Cannot listen on {kind} 192.0.2.1:0", sentence)
            self.assertIn("it is not an address of this machine", sentence)
            self.assertIn("`ip address`", sentence)

    def test_hostUnknown(self) -> None:
        """An interface that is no address at all is named."""
        for host in ("x\0y", "é" * 70):
            sentence = self.refusal(f"tcp:0:interface={host}")
            self.assertIn(repr(f"tcp {host}:0")[1:-1], sentence)
            self.assertIn("give another listen address", sentence)

    def test_noDirectory(self) -> None:
        """A Unix socket in a directory that is not there is named, with what to do."""
        path = self.path("missing/s")
        sentence = self.refusal(f"unix:{path}")
        self.assertIn(f"Cannot listen on unix:{path}: no such file or directory", sentence)
        self.assertIn("make its directory first", sentence)

    def test_fileInPlace(self) -> None:
        """A file, a directory or a link in the socket's place is named, and left alone."""
        path = self.path("s")
        for make in (
            lambda: os.close(os.open(path, os.O_CREAT)),
            lambda: os.mkdir(path),
            lambda: os.symlink("/nonexistent", path),
        ):
            make()
            sentence = self.refusal(f"unix:{path}")
            self.assertIn(f"unix:{path}: a file that is no socket is in its place", sentence)
            self.assertIn("remove that file, or give another path", sentence)
            self.assertTrue(os.path.lexists(path))
            os.rmdir(path) if os.path.isdir(path) else os.remove(path)

    def test_pathLength(self) -> None:
        """A path of just the largest length passes; one byte more is named, bytes counted."""
        room = MAX_UNIX_PATH - len(self.directory) - 1
        for name in ("n" * (room - 1), "n" * room):
            checkBinds([listen(f"unix:{self.path(name)}")])
            self.held(socket.socket(socket.AF_UNIX), self.path(name))
        for name in ("n" * (room + 1), "é" * (room // 2 + 1)):
            sentence = self.refusal(f"unix:{self.path(name)}")
            self.assertIn("file name too long", sentence)
            self.assertIn(f"at most {MAX_UNIX_PATH} bytes", sentence)

    def test_pathWithNUL(self) -> None:
        """A path with a NUL in it is named, in one sentence."""
        self.assertIn("is no address that can be listened on", self.refusal("unix:/tmp/a\0b"))

    def test_socketInUse(self) -> None:
        """A Unix socket on which somebody listens is in use."""
        sock = socket.socket(socket.AF_UNIX)
        self.held(sock, self.path("s"))
        sock.listen()
        self.assertIn("address already in use", self.refusal(f"unix:{self.path('s')}"))

    def test_fullBacklog(self) -> None:
        """A socket whose listener is too busy to accept is in use, and that is told at once."""
        where = self.path("busy")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.held(listener, where)
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            for _ in range(10):
                waiting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self.addCleanup(waiting.close)
                waiting.setblocking(False)
                waiting.connect(where)
        case = self

        class Probe(socket.socket):
            """A socket that would tell of a wait."""

            def connect(self, address: Any) -> None:
                case.assertEqual(self.gettimeout(), 0)
                super().connect(address)

        self.patch(socket, "socket", Probe)
        self.assertIn("already in use", self.refusal(f"unix:{where}"))

    def test_staleSocket(self) -> None:
        """A Unix socket that was left behind by a program that was killed passes."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(self.path("s"))
        checkBinds([listen(f"unix:{self.path('s')}")])

    def test_twice(self) -> None:
        """An address that is given twice is named, before either is tried."""
        port = self.free()
        for description in (
            f"tcp:{port}:interface=127.0.0.1",
            f"udp:{port}:interface=127.0.0.1",
            f"unix:{self.path('s')}",
        ):
            sentence = self.refusal(description, description)
            self.assertIn(f"{listen(description).binds()[0]} is given twice", sentence)
            self.assertIn("give each service an address of its own", sentence)

    def test_within(self) -> None:
        """An address that another one, of all interfaces, takes along is named with that one."""
        port = self.free()
        sentence = self.refusal(f"tcp:{port}", f"tcp:{port}:interface=127.0.0.1")
        self.assertIn(f"tcp 127.0.0.1:{port} is taken by tcp *:{port} already", sentence)

    def test_advice(self) -> None:
        """Each reason of the system has advice of its own, and any other has one too."""
        for number, advice in (
            (errno.EACCES, "a port above 1023"),
            (errno.EADDRINUSE, "stop the program"),
            (errno.EIO, "give another listen address"),
        ):
            sentence = bindSentence("here", OSError(number, os.strerror(number)))
            self.assertTrue(sentence.startswith("Cannot listen on here: "), sentence)
            self.assertIn(os.strerror(number).lower(), sentence)
            self.assertIn(advice, sentence)
        self.assertIn("odd", bindSentence("here", OSError("odd")))
