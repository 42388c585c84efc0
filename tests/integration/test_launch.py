"""
Starting by C{twistd}: bad input is refused before anything is daemonised, and daemons serve.
"""

from __future__ import annotations

import os
import signal
import socket
import uuid
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import (
    SOCKET_TIMEOUT,
    alive,
    bearing,
    eventually,
    freePort,
    kill,
    netsuite,
    readTable,
    scratch,
    started,
    twistd,
)
from tests.integration.tutorial import ask, get

#: An address that no machine has (RFC 5737).
NOBODYS = "203.0.113.9"

FREE = "--listen=tcp:0:interface=127.0.0.1"


class BadInputTests(SynchronousTestCase):
    """One sentence on stderr, status 1, and nothing left behind."""

    def setUp(self) -> None:
        """Have a directory, and a mark on whatever is started."""
        self.directory = scratch(self)
        self.mark = f"NETSUITE_TEST={uuid.uuid4().hex}"

    def refused(self, *words: str, says: tuple[str, ...], foreground: bool = False) -> None:
        """
        See that a C{twistd} refuses to start.

        @param words: the plugin and its options.
        @param says: parts of its one sentence: the value, and what to do.
        @param foreground: whether it would have stayed there.
        """
        name, value = self.mark.split("=")
        mode = ("-n", "--pidfile=", "--logfile=twistd.log") if foreground else ()
        done = twistd(*mode, *words, cwd=self.directory, env={name: value})
        self.assertEqual((1, ""), (done.returncode, done.stdout))
        self.assertRegex(done.stderr, r"\A[^\n]+\n\Z")
        self.assertTrue(done.stderr.startswith(f"{words[0]}: "), done.stderr)
        for part in says:
            self.assertIn(part, done.stderr)
        self.assertEqual([], bearing(self.mark))
        self.assertFalse((self.directory / "twistd.pid").exists())

    def file(self, content: str) -> str:
        """
        Write a configuration.

        @param content: TOML, or what claims to be.
        @return: its path.
        """
        path = self.directory / "wrong.toml"
        path.write_text(content)
        return str(path)

    def held(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
        """Hold a port until the end of the test."""
        holder = socket.socket(socket.AF_INET, kind)
        self.addCleanup(holder.close)
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        return int(holder.getsockname()[1])

    def test_portInUse(self) -> None:
        """A TCP port that another program holds."""
        port = self.held()
        for foreground in (False, True):
            self.refused(
                *("netsuite-echo", f"--listen=tcp:{port}:interface=127.0.0.1"),
                says=(f"tcp 127.0.0.1:{port}", "in use", "stop the program that holds it"),
                foreground=foreground,
            )

    def test_datagramPortInUse(self) -> None:
        """A UDP port that another program holds."""
        port = self.held(socket.SOCK_DGRAM)
        self.refused(
            *("netsuite-chat", f"--listen=udp:{port}:interface=127.0.0.1"),
            *("--operate", str(self.directory / "operate.sock")),
            says=(f"udp 127.0.0.1:{port}", "in use", "another listen address"),
        )

    def test_portOfSuiteInUse(self) -> None:
        """A port of one service in a file, of which the others could start."""
        port = self.held()
        path = self.file(
            '[echo.one]\nlisten = ["tcp:0:interface=127.0.0.1"]\n'
            f'[echo.two]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\n'
        )
        self.refused("netsuite", "--config", path, says=(f"tcp 127.0.0.1:{port}", "in use"))

    def test_portGivenTwice(self) -> None:
        """One port for two services of a file."""
        table = f'listen = ["tcp:{freePort()}:interface=127.0.0.1"]\n'
        path = self.file(f"[echo.one]\n{table}[echo.two]\n{table}")
        self.refused("netsuite", "--config", path, says=("given twice", "an address of its own"))

    def test_unixSocketInUse(self) -> None:
        """A Unix socket on which another program listens."""
        path = str(self.directory / "echo.sock")
        with socket.socket(socket.AF_UNIX) as holder:
            holder.bind(path)
            holder.listen()
            self.refused("netsuite-echo", f"--listen=unix:{path}", says=(path, "in use"))

    def test_unixSocketIsFile(self) -> None:
        """A file where a Unix socket should be; it is not touched."""
        path = self.directory / "precious"
        path.write_text("content")
        self.refused("netsuite-echo", f"--listen=unix:{path}", says=(str(path), "remove that file"))
        self.assertEqual("content", path.read_text())

    def test_addressNotOurs(self) -> None:
        """An address of another machine."""
        self.refused(
            *("netsuite-echo", f"--listen=tcp:0:interface={NOBODYS}"),
            says=(NOBODYS, "not an address of this machine", "give one"),
        )

    def test_addressNotUnderstood(self) -> None:
        """An address of no known form."""
        self.refused(
            *("netsuite-echo", "--listen=carrier-pigeon:7"),
            says=("'carrier-pigeon:7'", "give an endpoint string such as tcp:7007"),
        )

    def test_noSuchPort(self) -> None:
        """A port above the last."""
        self.refused("netsuite-echo", "--listen=tcp:65536", says=("65536", "from 0 to 65535"))

    def test_noRoot(self) -> None:
        """A root that does not exist, and one that is a file."""
        for root in ("/nonexistent/root", self.file("")):
            self.refused(
                *("netsuite-files", FREE, "--root", root),
                says=(repr(root), "give a directory that exists"),
            )

    def test_missingOption(self) -> None:
        """A service without what it cannot do without."""
        self.refused("netsuite-files", FREE, says=("--root is missing; give ",))
        self.refused("netsuite-proxy", FREE, says=("--to is missing; give ",))

    def test_noTOML(self) -> None:
        """A file that is no TOML: its path and its line."""
        path = self.file("[echo.main]\nlisten = tcp\n")
        self.refused("netsuite", "--config", path, says=(path, "not TOML", "line 2", "mend"))

    def test_noFile(self) -> None:
        """A file that does not exist."""
        says = ("'/nonexistent.toml'", "no such file", "give one")
        self.refused("netsuite", "--config", "/nonexistent.toml", says=says)

    def test_wrongKey(self) -> None:
        """A key that no service has: file, path, and the nearest that it has."""
        path = self.file("[echo.main]\nidle-timeuot = 3\n")
        says = (f"{path}: echo.main.idle-timeuot", "did you mean idle-timeout?")
        self.refused("netsuite", "--config", path, says=says)

    def test_wrongType(self) -> None:
        """A value of the wrong type: file, path, value, and what it takes."""
        path = self.file('[exec.main]\noutput-limit = "much"\n')
        says = (f"{path}: exec.main.output-limit is 'much'", "give a whole number")
        self.refused("netsuite", "--config", path, says=says)

    def test_wrongKind(self) -> None:
        """A service that there is not."""
        path = self.file("[ecko.main]\n")
        says = (path, "ecko is no service", "did you mean echo?")
        self.refused("netsuite", "--config", path, says=says)

    def test_unknownDialect(self) -> None:
        """A dialect that nobody speaks, as an option and in a file."""
        choices = ("'klingon'", "give one of int32, raw, length, header")
        self.refused("netsuite-exec", FREE, "--dialect=klingon", says=("--dialect", *choices))
        path = self.file('[exec.main]\ndialect = "klingon"\n')
        self.refused("netsuite", "--config", path, says=(f"{path}: exec.main.dialect", *choices))

    def test_unknownOption(self) -> None:
        """An option that there is not."""
        says = ("--bogus", "twistd netsuite-echo --help")
        self.refused("netsuite-echo", "--bogus", says=says)

    def test_unknownEncoding(self) -> None:
        """An encoding that there is not."""
        says = ("'gbkk'", "such as utf-8 or gbk")
        self.refused("netsuite-exec", FREE, "--dialect=raw", "--encoding=gbkk", says=says)

    def test_otherDialect(self) -> None:
        """An option of the other dialects, on either side."""
        says = ("allow-shell", "this is int32", "allow-any")
        self.refused("netsuite-exec", FREE, "--allow-shell", says=says)
        says = ("state", "this is header", "leave it out")
        self.refused("netsuite-exec", FREE, "--dialect=header", "--state=state", says=says)

    def test_unusableState(self) -> None:
        """A directory for what is kept that cannot be made."""
        for option in ("--state", "--record"):
            says = ("'/nonexistent/kept'", "no such file or directory", "mend that")
            self.refused("netsuite-exec", FREE, f"{option}=/nonexistent/kept", says=says)

    def test_unknownProgram(self) -> None:
        """A program to be allowed that there is not."""
        says = ("--allow 'no-such-program **'", "there is no program")
        self.refused("netsuite-exec", FREE, "--allow=no-such-program **", says=says)

    def test_shellForStrangers(self) -> None:
        """A shell, or commands for everybody, on an address that other machines can reach."""
        for listen, words in (
            ("tcp:0", ("--dialect=header", "--allow-shell")),
            ("tcp:0:interface=0.0.0.0", ("--allow=ls **",)),
            (r"tcp6:0:interface=\:\:", ("--allow-any",)),
        ):
            self.refused(
                *("netsuite-exec", *words, f"--listen={listen}"),
                says=(repr(listen), "from other machines", "on loopback"),
            )


class CheckTests(SynchronousTestCase):
    """Only checking a configuration."""

    def test_right(self) -> None:
        """A right configuration is said to be so, and nothing is bound or started."""
        with socket.create_server(("127.0.0.1", 0)) as holder:
            listen = f"--listen=tcp:{holder.getsockname()[1]}:interface=127.0.0.1"
            done = twistd("netsuite-echo", listen, "--check", cwd=scratch(self))
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertIn("the configuration is right", done.stdout)

    def test_defaults(self) -> None:
        """Every plugin's defaults are right, as far as it has any."""
        directory = scratch(self)
        needs = {
            "netsuite": [],
            "netsuite-echo": [],
            "netsuite-exec": [],
            "netsuite-files": ["--root=."],
            "netsuite-chat": ["--operate=operate.sock"],
            "netsuite-proxy": ["--to=127.0.0.1:7007"],
        }
        for plugin, words in needs.items():
            done = twistd(plugin, *words, "--check", cwd=directory)
            self.assertEqual((0, ""), (done.returncode, done.stderr), plugin)
        self.assertEqual([], os.listdir(directory))

    def test_wrong(self) -> None:
        """A wrong one is refused as it would be at the start."""
        done = twistd("netsuite-echo", "--listen=nowhere:1", "--check", cwd=scratch(self))
        self.assertEqual((1, ""), (done.returncode, done.stdout))
        self.assertIn("'nowhere:1'", done.stderr)


class DaemonTests(SynchronousTestCase):
    """In the background, as C{twistd} does it without C{-n}."""

    def test_daemon(self) -> None:
        """It has detached and serves when the command returns, and ends by its number."""
        directory = scratch(self)
        (directory / "root").mkdir()
        (directory / "root" / "a.txt").write_text("alpha\n")
        port = freePort()
        listen = f"--listen=tcp:{port}:interface=127.0.0.1"
        done = twistd("netsuite-files", listen, "--root=root", "--dialect=get", cwd=directory)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        pid = int((directory / "twistd.pid").read_text())
        self.addCleanup(kill, pid)
        with socket.create_connection(("127.0.0.1", port), SOCKET_TIMEOUT) as client:
            self.assertEqual(b"alpha\n", get(client, "a.txt"))
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not alive(pid), "the end of the daemon", 5)
        self.assertFalse((directory / "twistd.pid").exists())
        self.assertNotIn("Traceback", (directory / "twistd.log").read_text())


@skipIf(os.geteuid(), "only root can give its rights up")
class OtherUserTests(SynchronousTestCase):
    """Begun as root, to go on as another user."""

    #: The user that owns nothing, on every Linux.
    NOBODY = 65534

    def setUp(self) -> None:
        """Have a directory of root's, and one of the user's in it."""
        self.directory = scratch(self)
        self.directory.chmod(0o755)
        self.theirs = self.directory / "theirs"
        self.theirs.mkdir()
        os.chown(self.theirs, self.NOBODY, self.NOBODY)

    def test_kept(self) -> None:
        """What is kept and recorded lies in directories of that user."""
        words = (f"--state={self.theirs}/state", f"--record={self.theirs}/record")
        running = started(self, f"--uid={self.NOBODY}", "netsuite-exec", FREE, *words)
        found = {path.name: path.stat() for path in self.theirs.iterdir()}
        self.assertEqual({"state", "record"}, set(found))
        for status in found.values():
            self.assertEqual((self.NOBODY, 0o40700), (status.st_uid, status.st_mode))
        done = netsuite("exec", "ps", running.places[0].text)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertNotIn("nothing is kept", running.log())

    def test_notTheirs(self) -> None:
        """Where that user cannot write, or what root has made, is one sentence, in the foreground
        and before it goes to the background; and nothing is made."""
        kept = self.theirs / "kept"
        kept.mkdir(0o700)
        new = self.directory / "new"
        back, fore = (), ("-n", "--pidfile=", "--logfile=twistd.log")
        # Each of two with each of two others.
        for place, option, mode in (
            (new, "--state", back),
            (new, "--record", fore),
            (kept, "--state", fore),
            (kept, "--record", back),
        ):
            done = twistd(
                *(*mode, f"--uid={self.NOBODY}", "netsuite-exec", FREE),
                f"{option}={place}",
                cwd=self.directory,
            )
            self.assertEqual((1, ""), (done.returncode, done.stdout))
            self.assertRegex(done.stderr, r"\Anetsuite-exec: [^\n]+\n\Z")
            self.assertIn(repr(str(place)), done.stderr)
        self.assertEqual([], list(kept.iterdir()))
        self.assertFalse(new.exists())


class TableTests(SynchronousTestCase):
    """What C{--table} prints."""

    def test_table(self) -> None:
        """Each address has its service, its dialect, and a line to try it with that works."""
        twistd = started(
            self,
            *("netsuite-echo", FREE, "--listen=udp:0:interface=127.0.0.1"),
            "--listen=unix:{dir}/echo.sock",
        )
        self.assertEqual(["tcp", "udp", "unix"], [place.kind for place in twistd.places])
        for place in twistd.places:
            with place.socket() as client:
                self.assertEqual(b"HELLO", ask(client, b"hello"))

    def test_read(self) -> None:
        """The tests read a table as it is printed."""
        table = (
            "SERVICE  ADDRESS              DIALECT  TRY\n"
            "echo     tcp 127.0.0.1:39291  classic  netsuite echo 127.0.0.1:39291 hello\n"
            "echo     tcp [::1]:46277      classic  netsuite echo [::1]:46277 hello\n"
        )
        self.assertEqual(["127.0.0.1:39291", "[::1]:46277"], [p.text for p in readTable(table)])


class HelpTests(SynchronousTestCase):
    """What C{twistd} says of the plugins."""

    def test_listed(self) -> None:
        """Each of the six is in the list, once."""
        listed = twistd("--help", cwd=scratch(self)).stdout
        for service in ("", "-echo", "-exec", "-files", "-chat", "-proxy"):
            self.assertEqual(1, listed.count(f"    netsuite{service} "), service)

    def test_help(self) -> None:
        """Each explains its options."""
        directory = scratch(self)
        for service in ("echo", "exec", "files", "chat", "proxy"):
            done = twistd(f"netsuite-{service}", "--help", cwd=directory)
            self.assertEqual(0, done.returncode)
            for option in ("--listen=", "--dialect=", "--check", "--table"):
                self.assertIn(option, done.stdout)
