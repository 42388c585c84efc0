"""
The plugin C{netsuite}: all services in one process, several of a kind, over every family.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from socket import socket

from tests.integration.processes import NO_IPV6, ServedTestCase, netsuite
from tests.integration.tutorial import ask, get, runHeader

#: What a client asks each kind of service, and is answered.
TALKS: Mapping[str, tuple[Callable[[socket], bytes], bytes]] = {
    "echo": (lambda client: ask(client, b"hello"), b"HELLO"),
    "exec": (lambda client: runHeader(client, "echo hello")[1], b"hello\n"),
    "files": (lambda client: get(client, "a.txt"), b"alpha\n"),
    "chat": (lambda client: ask(client, b"hi"), b"No operator is here; your message is kept."),
    "proxy": (lambda client: ask(client, b"through"), b"THROUGH"),
}


class SuiteTests(ServedTestCase):
    """One file with two of each."""

    suite = """
    [echo.main]
    listen = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1", "unix:{dir}/echo.sock"]
    [echo.other]
    listen = ["tcp:0:interface=127.0.0.1"]
    upper = false
    [exec.main]
    listen = ["tcp:0:interface=127.0.0.1", "unix:{dir}/exec.sock"]
    dialect = "header"
    allow-shell = true
    [exec.other]
    listen = ["tcp:0:interface=127.0.0.1"]
    dialect = "raw"
    [exec.native]
    listen = ["tcp:0:interface=127.0.0.1", "unix:{dir}/native.sock"]
    allow = ["echo *"]
    [files.main]
    dialect = "get"
    listen = ["tcp:0:interface=127.0.0.1", "unix:{dir}/files.sock"]
    root = "{dir}/root"
    [files.other]
    dialect = "get"
    listen = ["tcp:0:interface=127.0.0.1"]
    root = "{dir}/other"
    [chat.main]
    listen = ["udp:0:interface=127.0.0.1"]
    operate = "{dir}/main.operate"
    [chat.other]
    listen = ["udp:0:interface=127.0.0.1"]
    operate = "{dir}/other.operate"
    [proxy.main]
    listen = ["tcp:0:interface=127.0.0.1", "unix:{dir}/proxy.sock"]
    to = "unix:{dir}/echo.sock"
    [proxy.other]
    listen = ["tcp:0:interface=127.0.0.1"]
    to = "unix:{dir}/files.sock"
    """
    files = {"root/a.txt": b"alpha\n", "other/a.txt": b"another\n"}

    def test_places(self) -> None:
        """The table has every address of every service, under the name in the file."""
        counted = Counter(place.service for place in self.twistd.places)
        expected = {"echo.main": 3, "exec.main": 2, "files.main": 2, "proxy.main": 2}
        expected["exec.native"] = 2
        for service in ("echo", "exec", "files", "chat", "proxy"):
            expected[f"{service}.other"] = 1
        for service in ("chat.main", "chat.main/operators", "chat.other/operators"):
            expected[service] = 1
        self.assertEqual(expected, counted)

    def test_kinds(self) -> None:
        """Each kind is served over IPv4."""
        for kind, (talk, answer) in TALKS.items():
            socketKind = "udp" if kind == "chat" else "tcp"
            self.assertEqual(answer, talk(self.open(f"{kind}.main", socketKind)), kind)

    def test_unix(self) -> None:
        """Each kind that speaks streams is served over a Unix socket."""
        for kind, (talk, answer) in TALKS.items():
            if kind != "chat":
                self.assertEqual(answer, talk(self.open(f"{kind}.main", "unix")), kind)

    def test_native(self) -> None:
        """Exec without a dialect is the native one, over TCP and a Unix socket."""
        for kind in ("tcp", "unix"):
            place = self.twistd.place("exec.native", kind)
            done = netsuite("exec", place.text, "--", "echo", "a  b")
            self.assertEqual(("a  b\n", "", 0), (done.stdout, done.stderr, done.returncode))

    def test_severalOfAKind(self) -> None:
        """Each service has its own configuration."""
        self.assertEqual(b"hello", ask(self.open("echo.other"), b"hello"))
        self.assertIn(b"--allow-shell", ask(self.open("exec.other"), b"id"))
        self.assertEqual(b"another\n", get(self.open("files.other"), "a.txt"))
        self.assertEqual(b"alpha\n", get(self.open("proxy.other"), "a.txt"))


class IPv6Tests(ServedTestCase):
    """All kinds over IPv6."""

    skip = NO_IPV6
    suite = r"""
    [echo.main]
    listen = ['tcp6:0:interface=\:\:1', 'unix:{dir}/echo.sock']
    [exec.main]
    listen = ['tcp6:0:interface=\:\:1']
    dialect = "header"
    allow-shell = true
    [exec.native]
    listen = ['tcp6:0:interface=\:\:1']
    allow-any = true
    [files.main]
    dialect = "get"
    listen = ['tcp6:0:interface=\:\:1']
    root = "{dir}/root"
    [chat.main]
    listen = ['udp:0:interface=\:\:1']
    operate = "{dir}/operate"
    [proxy.main]
    listen = ['tcp6:0:interface=\:\:1']
    to = "unix:{dir}/echo.sock"
    """
    files = {"root/a.txt": b"alpha\n"}

    def test_kinds(self) -> None:
        """Each kind is served over IPv6, and exec in the native dialect, too."""
        for kind, (talk, answer) in TALKS.items():
            socketKind = "udp" if kind == "chat" else "tcp"
            self.assertEqual(answer, talk(self.open(f"{kind}.main", socketKind)), kind)
        done = netsuite("exec", self.twistd.place("exec.native").text, "--", "echo", "hello")
        self.assertEqual(("hello\n", "", 0), (done.stdout, done.stderr, done.returncode))
