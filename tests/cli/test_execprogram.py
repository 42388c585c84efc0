"""
The real C{netsuite exec} beside a real native service: pipes, files, terminals, and every way out.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import (
    BIN,
    PATIENCE,
    ServedTestCase,
    Twistd,
    alive,
    eventually,
    scratch,
)

#: More than all buffers between two processes hold, and many times a window.
BIG = 20_000_000


def ended(pid: int) -> bool:
    """Tell whether a process has ended."""
    return not alive(pid)


def owned() -> None:
    """Make standard input the terminal that controls this process, as a shell does."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class AtTerminal:
    """
    A C{netsuite} at a terminal of its own.

    @ivar process: the program.
    """

    def __init__(self, test: SynchronousTestCase, *words: str, rows: int = 30, cols: int = 100):
        """
        Start it until the end of the test.

        @param test: ends it.
        @param words: its arguments.
        @param rows: lines of the terminal.
        @param cols: columns.
        """
        self._far, self._near = pty.openpty()
        test.addCleanup(os.close, self._far)
        test.addCleanup(os.close, self._near)
        self.resize(rows, cols)
        self._before = termios.tcgetattr(self._near)
        self._seen = b""
        self._test = test
        self.process = subprocess.Popen(
            [BIN / "netsuite", *words],
            stdin=self._near,
            stdout=self._near,
            stderr=self._near,
            preexec_fn=owned,
            env={**os.environ, "TERM": "vt100"},
        )
        test.addCleanup(self._stop)

    def resize(self, rows: int, cols: int) -> None:
        """Give the terminal another size; its process learns that as from any terminal."""
        fcntl.ioctl(self._far, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, keys: bytes) -> None:
        """Type."""
        os.write(self._far, keys)

    def expect(self, text: bytes) -> None:
        """Wait for a text, and forget what was shown up to it."""
        deadline = time.monotonic() + PATIENCE
        while text not in self._seen:
            left = deadline - time.monotonic()
            if not select.select([self._far], [], [], max(left, 0))[0]:
                raise AssertionError(f"{text!r} is not in {self._seen!r}")
            self._seen += os.read(self._far, 65536)
        self._seen = self._seen.partition(text)[2]

    @property
    def raw(self) -> bool:
        """Whether the terminal hands on each key."""
        return not termios.tcgetattr(self._near)[3] & termios.ICANON

    def end(self) -> int:
        """Wait for its end, and see that the terminal is what it was, and blocks."""
        status = self.process.wait(PATIENCE)
        self._test.assertEqual(termios.tcgetattr(self._near), self._before)
        self._test.assertTrue(os.get_blocking(self._near))
        return status

    def rest(self) -> str:
        """Give what was shown and not yet expected."""
        while select.select([self._far], [], [], 0)[0]:
            self._seen += os.read(self._far, 65536)
        return self._seen.decode()

    def _stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class ProgramTestCase(ServedTestCase):
    """Tests with a service that runs everything, and keeps what is detached."""

    suite = """
    [exec.main]
    listen = ["unix:{dir}/exec.sock", "tcp:0:interface=127.0.0.1"]
    allow-any = true
    state = "{dir}/state"
    """

    @property
    def address(self) -> str:
        """Where it is."""
        return self.twistd.place("exec.main", "unix").text

    def exec_(self, *words: str, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run C{netsuite exec} with pipes."""
        return subprocess.run(
            [BIN / "netsuite", "exec", *words],
            input=b"" if input is None else input,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    def run_(self, *words: str, input: bytes | None = None) -> tuple[int, bytes, str]:
        """Run it on the service; give status, output and errors."""
        done = self.exec_(self.address, *words, input=input)
        return done.returncode, done.stdout, done.stderr.decode()

    def shell(self, line: str) -> subprocess.CompletedProcess[bytes]:
        """Run a line of a shell, in which C{$N} is C{netsuite exec ADDRESS}."""
        return subprocess.run(
            ["/bin/bash", "-c", line],
            env={**os.environ, "N": f"{BIN / 'netsuite'} exec {self.address}"},
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """Start it in the background until the end of the test."""
        process = subprocess.Popen(
            [BIN / "netsuite", "exec", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

        def stop() -> None:
            if process.poll() is None:
                process.kill()
            process.communicate()

        self.addCleanup(stop)
        return process


class PipeTests(ProgramTestCase):
    """Pipes, files and statuses."""

    def test_streams(self) -> None:
        """Output, errors and status are the command's own."""
        done = self.run_("--", "sh", "-c", "printf 'a\\0\\377'; printf b >&2; exit 3")
        self.assertEqual(done, (3, b"a\0\xff", "b"))

    def test_statuses(self) -> None:
        """The status tells how it ended, and a sentence, when that was not by itself."""
        for words, status, says in (
            (["--", "true"], 0, ""),
            (["--", "/no/such/program"], 127, "netsuite: "),
            (["--", "sh", "-c", "kill -KILL $$"], 137, "netsuite: the command was ended by KILL."),
            (["--timeout", "0.2", "--", "sleep", "60"], 124, "its time limit of 0.2 s."),
            (["--shell", "--", "exit", "7"], 7, ""),
        ):
            code, out, err = self.run_(*words)
            self.assertEqual((code, out), (status, b""), err)
            self.assertIn(says, err)
            self.assertLessEqual(err.count("\n"), 1)

    def test_options(self) -> None:
        """Environment and directory are as they were asked for."""
        done = self.run_("--env", "A=b c", "--cwd", "/", "--", "sh", "-c", 'echo "$A"; pwd')
        self.assertEqual(done, (0, b"b c\n/\n", ""))

    def test_input(self) -> None:
        """Input goes through whole, with its end, and comes back the same."""
        data = os.urandom(BIG)
        code, out, err = self.run_("-i", "--", "cat", input=data)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(hashlib.sha256(out).digest(), hashlib.sha256(data).digest())

    def test_noInput(self) -> None:
        """Without being asked for, input is left to the next program."""
        done = self.shell("printf 'one\\ntwo\\n' | while read x; do $N -- cat; echo $x; done")
        self.assertEqual((done.stdout, done.stderr), (b"one\ntwo\n", b""))

    def test_files(self) -> None:
        """Input and output may be files, and a file that is appended to keeps its beginning."""
        directory = scratch(self)
        data = os.urandom(BIG // 10)
        (directory / "in").write_bytes(data)
        (directory / "out").write_bytes(b"head")
        done = self.shell(f"cd {directory}; $N -i -- cat <in >>out")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual((directory / "out").read_bytes(), b"head" + data)

    def test_closed(self) -> None:
        """Closed streams are as the null device, and nothing gets their numbers."""
        done = self.shell("$N -i -- cat <&-; $N -- echo out >&-; $N -- sh -c 'echo err >&2' 2>&-")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    def test_full(self) -> None:
        """An output that takes no more is one sentence."""
        done = self.shell("$N -- yes >/dev/full")
        self.assertEqual(done.returncode, 125)
        self.assertRegex(done.stderr, rb"\Anetsuite: Standard output takes no more: [^\n]*\n\Z")

    def test_head(self) -> None:
        """Behind C{| head} the command ends, quietly, with the status of any program there."""
        done = self.shell('$N -- yes | head -n 2; echo "${PIPESTATUS[0]}"')
        self.assertEqual((done.stdout, done.stderr), (b"y\ny\n141\n", b""))
        eventually(lambda: "b'yes'" in self.twistd.log().rpartition("signalled")[2], "yes ended")

    def test_stalled(self) -> None:
        """A reader that takes nothing stops the command, and the client grows no more."""
        process = self.begin(self.address, "--", "yes")
        assert process.stdout is not None
        self.assertTrue(process.stdout.read(2))
        size = Path(f"/proc/{process.pid}/statm")

        def cpu() -> int:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            return int(fields[11]) + int(fields[12])

        seen: list[int] = []

        def still() -> bool:
            seen.append(cpu())
            return len(seen) > 20 and len(set(seen[-20:])) == 1

        eventually(still, "the client has come to rest")
        self.assertLess(int(size.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"), 150_000_000)
        process.terminate()
        process.stdout.read()
        self.assertEqual(process.wait(PATIENCE), 143)

    def test_interrupted(self) -> None:
        """Each signal to the client ends the command, and the status says which."""
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            mark = f"{os.getpid()}{number}"
            process = self.begin(self.address, "--", "sh", "-c", f"echo $$; exec sleep 60{mark}")
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            self.assertTrue(alive(pid))
            process.send_signal(number)
            self.assertEqual(process.wait(PATIENCE), status)
            eventually(partial(ended, pid), "the command has ended")

    def test_killed(self) -> None:
        """A client that is killed takes its command with it."""
        process = self.begin(self.address, "--", "sh", "-c", "echo $$; exec sleep 60")
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        eventually(partial(ended, pid), "the command has ended")

    def test_serverGone(self) -> None:
        """A server that dies is one sentence, and no success."""
        server = Twistd(suite=self.suite)
        self.addCleanup(server.stop)
        process = self.begin(
            server.place("exec.main", "unix").text, "--", "sh", "-c", "echo on; exec sleep 60"
        )
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        server.signal(signal.SIGKILL)
        self.assertEqual(process.wait(PATIENCE), 125)
        self.assertRegex(process.stderr.read(), rb"\Anetsuite: [^\n]+\n\Z")


class TerminalTests(ProgramTestCase):
    """The command at this terminal."""

    def at(self, *words: str) -> AtTerminal:
        """Run C{netsuite exec} on the service at a terminal."""
        return AtTerminal(self, "exec", self.address, *words)

    def test_terminal(self) -> None:
        """The command has a terminal of the same type and size, and learns of each new size."""
        script = "stty size; echo $TERM; read x; stty size; echo got $x; exit 5"
        screen = self.at("-t", "--", "sh", "-c", script)
        screen.expect(b"30 100\r\nvt100\r\n")
        self.assertTrue(screen.raw)
        screen.resize(50, 132)
        screen.type(b"hi\r")
        screen.expect(b"50 132\r\ngot hi\r\n")
        self.assertEqual((screen.end(), screen.rest()), (5, ""))

    def test_keys(self) -> None:
        """Ctrl-C is the command's, and ends it as it would there."""
        screen = self.at("-t", "--", "cat")
        screen.type(b"a\r")
        screen.expect(b"a\r\na\r\n")
        screen.type(b"\x03")
        self.assertEqual(screen.end(), 130)
        self.assertIn("netsuite: the command was ended by INT.\r\n", screen.rest())

    def test_everyWayOut(self) -> None:
        """However the client ends, short of SIGKILL, the terminal is what it was."""
        ways: list[tuple[Callable[[AtTerminal], object], int]] = [
            (lambda screen: screen.type(b"\x04"), 0),
            (lambda screen: screen.type(b"~."), 129),
            (lambda screen: screen.process.send_signal(signal.SIGHUP), 129),
            (lambda screen: screen.process.send_signal(signal.SIGTERM), 143),
            (lambda screen: screen.process.send_signal(signal.SIGQUIT), 143),
            (lambda screen: screen.process.send_signal(signal.SIGINT), 130),
            (lambda screen: screen.process.send_signal(signal.SIGUSR1), 138),
            (lambda screen: screen.process.send_signal(signal.SIGABRT), 134),
        ]
        for way, status in ways:
            screen = self.at("-t", "--", "cat")
            screen.type(b"a\r")
            screen.expect(b"a\r\na\r\n")
            self.assertTrue(screen.raw)
            way(screen)
            self.assertEqual(screen.end(), status)

    def test_stopped(self) -> None:
        """A client that is stopped gives the terminal back for that while."""
        screen = self.at("-t", "--", "cat")
        screen.type(b"a\r")
        screen.expect(b"a\r\na\r\n")
        screen.process.send_signal(signal.SIGTSTP)
        eventually(lambda: self.state(screen.process.pid) == "T", "it has stopped")
        self.assertFalse(screen.raw)
        screen.process.send_signal(signal.SIGCONT)
        eventually(lambda: screen.raw, "it goes on")
        screen.type(b"b\r\x04")
        screen.expect(b"b\r\nb\r\n")
        self.assertEqual(screen.end(), 0)

    @staticmethod
    def state(pid: int) -> str:
        """Tell in which state a process is."""
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    def test_withoutOne(self) -> None:
        """Ctrl-C at a terminal interrupts a command that has none; a second one ends it."""
        screen = self.at("--", "sh", "-c", "trap 'echo no' INT; echo on; while :; do sleep 1; done")
        screen.expect(b"on\r\n")
        screen.type(b"\x03")
        screen.expect(b"no\r\n")
        screen.type(b"\x03")
        self.assertEqual(screen.end(), 143)
        screen = self.at("--", "sh", "-c", "echo on; exec sleep 60")
        screen.expect(b"on\r\n")
        screen.type(b"\x03")
        self.assertEqual(screen.end(), 130)

    def test_serverGone(self) -> None:
        """A server that dies leaves the terminal as it was, and a sentence on it."""
        server = Twistd(suite=self.suite)
        self.addCleanup(server.stop)
        screen = AtTerminal(self, "exec", server.place("exec.main", "unix").text, "-t", "--", "cat")
        screen.type(b"a\r")
        screen.expect(b"a\r\na\r\n")
        server.signal(signal.SIGKILL)
        self.assertEqual(screen.end(), 125)
        self.assertIn("netsuite: ", screen.rest())


class DetachedTests(ProgramTestCase):
    """Commands that outlive their client."""

    def detached(self, script: str) -> str:
        """Start one, and give its ID."""
        code, out, err = self.run_("--detach", "--ttl", "10m", "--", "sh", "-c", script)
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, rb"\A[a-z2-7]+\n\Z")
        return out.decode().strip()

    def state(self, id: str) -> str:
        """Ask for the state of a command."""
        listed = self.exec_("ps", self.address).stdout.decode()
        found = re.search(rf"^{id}  \S+ \S+  (.*?)  ", listed, re.MULTILINE)
        assert found is not None, listed
        return found[1]

    def test_attach(self) -> None:
        """All that it wrote is there for who attaches, and its status."""
        id = self.detached("seq 100000; echo err >&2; exit 4")
        done = self.exec_("attach", self.address, id)
        expected = "".join(f"{n}\n" for n in range(1, 100001)).encode()
        self.assertEqual((done.returncode, done.stdout, done.stderr), (4, expected, b"err\n"))
        self.assertEqual(self.state(id), "exited 4")

    def test_list(self) -> None:
        """A list for programs has everything."""
        id = self.detached("exec sleep 60")
        listed = json.loads(self.exec_("ps", "--json", self.address).stdout)
        [found] = [each for each in listed if each["id"] == id]
        self.assertEqual((found["command"], found["attached"]), ("sh -c 'exec sleep 60'", False))
        self.assertIsNone(found["outcome"])

    def test_kill(self) -> None:
        """A command can be signalled and ended from elsewhere."""
        id = self.detached("exec sleep 60")
        self.assertEqual(self.exec_("kill", self.address, id, "--signal", "usr1").returncode, 0)
        done = self.exec_("attach", self.address, id)
        self.assertEqual(
            (done.returncode, done.stderr), (138, b"netsuite: the command was ended by USR1.\n")
        )
        id = self.detached("exec sleep 60")
        done = self.exec_("kill", self.address, id)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
        self.assertEqual(self.state(id), "ended by TERM")

    def test_leftAndFollowed(self) -> None:
        """Who leaves at the terminal is told how to follow it again, and can."""
        screen = AtTerminal(
            self, "exec", self.address, "--on-disconnect", "detach:10m", "-t", "--", "cat"
        )
        screen.type(b"a\r")
        screen.expect(b"a\r\na\r\n")
        screen.type(b"~.")
        self.assertEqual(screen.end(), 0)
        found = re.search(r"follow it with: netsuite (exec attach \S+ \S+ -t)\r\n", screen.rest())
        assert found is not None
        again = AtTerminal(self, *found[1].split())
        again.type(b"b\r")
        again.expect(b"b\r\nb\r\n")
        again.type(b"\x04")
        self.assertEqual(again.end(), 0)

    def test_clientKilled(self) -> None:
        """What follows after the death of its client is there for the next, byte for byte."""
        directory = scratch(self)
        script = f"cd {directory}; echo one; while ! test -e go; do sleep 0.05; done; echo two"
        process = self.begin(
            self.address, "--on-disconnect", "detach", "--ttl", "10m", "--", "sh", "-c", script
        )
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"one\n")
        [id] = [
            each["id"]
            for each in json.loads(self.exec_("ps", "--json", self.address).stdout)
            if str(directory) in each["command"]
        ]
        process.kill()
        eventually(lambda: self.state(id) == "detached", "the server has noticed")
        (directory / "go").touch()
        done = self.exec_("attach", self.address, id)
        self.assertEqual((done.returncode, done.stdout), (0, b"two\n"))
        done = self.exec_("attach", "--from-start", self.address, id)
        self.assertEqual((done.returncode, done.stdout), (0, b"one\ntwo\n"))

    def test_key(self) -> None:
        """The same key is the same command, and is never run twice."""
        directory = scratch(self)
        words = ("--key", "k1", "--", "sh", "-c", f"echo ran >>{directory}/ran; echo out")
        for _ in range(2):
            self.assertEqual(self.run_(*words), (0, b"out\n", ""))
        self.assertEqual((directory / "ran").read_text(), "ran\n")

    def test_keyRetried(self) -> None:
        """Where its client dies, what has a key goes on, and the retry has all of its output."""
        directory = scratch(self)
        script = f"cd {directory}; echo one; while ! test -e go; do sleep 0.05; done; echo two"
        words = (self.address, "--key", "k2", "--", "sh", "-c", script)
        process = self.begin(*words)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"one\n")
        process.kill()
        process.wait()
        (directory / "go").touch()
        done = self.exec_(*words)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout, b"one\ntwo\n")


class HostsTests(ProgramTestCase):
    """Many servers."""

    def hosts(self) -> tuple[str, str]:
        """Give the service's two addresses, as if they were two."""
        return self.address, self.twistd.place("exec.main").text

    def test_prefix(self) -> None:
        """Every line has its host before it, and the status tells how many failed."""
        one, two = self.hosts()
        done = self.exec_(
            *("--hosts", f"{one},{two},127.0.0.1:9", "--", "sh", "-c", "seq 2; exit 3")
        )
        self.assertEqual(done.returncode, 3)
        self.assertEqual(
            sorted(done.stdout.decode().splitlines()),
            sorted(f"{host}: {n}" for host in (one, two) for n in (1, 2)),
        )
        *failures, summary = done.stderr.decode().splitlines()
        self.assertEqual(summary, "netsuite: 3 of 3 hosts failed.")
        self.assertEqual(
            sum(
                line in failures for line in (f"netsuite: {h}: exited with 3." for h in (one, two))
            ),
            2,
        )

    def test_block(self) -> None:
        """Every host has one block."""
        directory = scratch(self)
        one, two = self.hosts()
        (directory / "hosts").write_text(f"# both\n{one}\n{two}\n")
        done = self.exec_("--block", "--hosts", f"@{directory}/hosts", "--", "seq", "30000")
        numbers = "".join(f"{n}\n" for n in range(1, 30001))
        self.assertEqual(done.returncode, 0)
        self.assertIn(f"== {one}: done\n{numbers}", done.stdout.decode())
        self.assertIn(f"== {two}: done\n{numbers}", done.stdout.decode())

    def test_interrupted(self) -> None:
        """Ctrl-C ends all, and takes the progress line away."""
        screen = AtTerminal(
            self, "exec", "--hosts", ",".join(self.hosts()), "--", "sh", "-c", "echo $$; sleep 60"
        )
        screen.expect(b"2 running")
        screen.type(b"\x03")
        self.assertEqual(screen.end(), 130)
        self.assertIn("netsuite: stopped when 0 of 2 hosts were done.", screen.rest())
