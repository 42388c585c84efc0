"""
Native exec when the server or a client goes in the middle: killed, drained, and started again.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.execwire import (
    FAMILY,
    FAMILY_SIZE,
    MARK,
    Wire,
    environment,
    family,
    killBearing,
    living,
    words,
)
from tests.integration.processes import (
    BIN,
    PATIENCE,
    Twistd,
    bearing,
    eventually,
    netsuite,
    scratch,
)
from twisted_netsuite.rexec.messages import (
    Credit,
    End,
    List,
    Listed,
    Started,
    Stdin,
    Stdout,
)
from twisted_netsuite.rexec.outcome import Exited, Lost, NotStarted
from twisted_netsuite.wire.session import Goodbye, Record

#: What bears this was started by the service itself: it is in the environment of no command.
SERVER_MARK = "NETSUITE_TEST_SERVER"

#: Commands that are begun before a server is killed among them.
CROWD = 12


class RestartCase(SynchronousTestCase):
    """A service that is started again and again over the same state, at the same socket."""

    def setUp(self) -> None:
        """Have a place for its state."""
        self.directory = scratch(self)
        self.counter = self.directory / "counter"
        self.serverMark = f"{SERVER_MARK}={os.getpid()}-{self.id()}"

    def serve(self, **options: object) -> Twistd:
        """Start it; whatever happens, nothing in it goes wrong."""
        told = "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())
        name, _, value = self.serverMark.partition("=")
        os.environ[name] = value
        try:
            running = Twistd(
                suite=f"""
                [exec.main]
                listen = ["unix:{self.directory}/exec.sock"]
                allow-any = true
                state = "{self.directory}/state"
                audit = "{self.directory}/audit.log"
                {told}
                """
            )
        finally:
            del os.environ[name]
        self.addCleanup(running.stop)
        self.addCleanup(self.assertQuiet, running)
        return running

    def assertQuiet(self, running: Twistd) -> None:
        """Nothing went wrong in a service."""
        before, found, after = running.log().partition("Traceback")
        self.assertFalse(found, f"{before[-200:]}{found}{after[:4000]}")
        self.assertEqual("", running.stderr())

    @property
    def address(self) -> str:
        """An ADDRESS of the C{netsuite} program."""
        return f"unix:{self.directory}/exec.sock"

    def wire(self, running: Twistd) -> Wire:
        """Connect."""
        return Wire(self, running.place("exec.main", "unix"))

    def mark(self, value: str) -> str:
        """Choose a variable for the processes of a command."""
        word = f"{MARK}={value}-{os.getpid()}"
        self.addCleanup(killBearing, word)
        return word

    def crash(self, running: Twistd) -> None:
        """Kill the server; nothing of it, nor of its commands, is left soon after."""
        running.signal(signal.SIGKILL)
        self.assertEqual(running.wait(), -signal.SIGKILL)
        eventually(lambda: not bearing(self.serverMark), "the end of all that the server started")

    def counted(self) -> list[str]:
        """Tell which commands have run, and how often."""
        return words(self.counter)


class CrashTests(RestartCase):
    """SIGKILL in the middle."""

    def test_orphans(self) -> None:
        """A server that is killed leaves nothing of a command, whatever that has started: what was
        forked twice, has its own session, ignores TERM, or is stopped; and nothing of its own."""
        running = self.serve()
        marks = [self.mark("kept"), self.mark("not-kept")]
        wire = self.wire(running)
        for word, options in zip(marks, ({"onDisconnect": "detach"}, {}), strict=True):
            wire.start(FAMILY + "sleep 1000", env=environment(word), **options)
            wire.expect(Started)
            eventually(partial(family, word), "the family")
        left = [pid for word in marks for pid in bearing(word)]
        self.crash(running)
        eventually(lambda: not living(left), "the end of both families")
        self.assertEqual([bearing(word) for word in marks], [[], []])

    def test_retry(self) -> None:
        """A retry with the same key after the restart is told that the command is lost, with what
        was kept of its output, and does not run it twice; another key does."""
        running = self.serve()
        script = f"echo once >>{self.counter}; echo begun; sleep 1000"
        wire = self.wire(running)
        started = wire.started(script, key="wish", onDisconnect="detach")
        self.assertEqual(wire.expect(Stdout).data, b"begun\n")
        self.crash(running)
        running = self.serve()
        for _ in range(2):
            done = self.wire(running).run(script, key="wish", onDisconnect="detach")
            assert isinstance(done.outcome, Lost), done
            assert done.started is not None
            self.assertEqual((done.started.id, done.started.known), (started.id, True))
            self.assertEqual(done.stdout, b"begun\n")
        wire = self.wire(running)
        wire.attach(started.id, stdout=0)
        self.assertEqual(wire.finish(1).stdout, b"begun\n")
        self.assertEqual(self.counted(), ["once"])
        self.wire(running).started(script, key="another")
        eventually(lambda: len(self.counted()) == 2, "another command")

    def test_retryAtOnce(self) -> None:
        """So is one that comes before the service has found what it kept: it waits for that."""
        for _ in range(3):
            running = self.serve()
            done = self.wire(running).run(
                f"echo once >>{self.counter}; echo out", key="wish", onDisconnect="detach"
            )
            self.assertEqual((done.outcome, done.stdout), (Exited(code=0), b"out\n"))
            self.crash(running)
        self.assertEqual(self.counted(), ["once"])

    def test_crowd(self) -> None:
        """Wherever a server is killed among commands that begin, run and end, each key has run its
        command once at the most, and whoever is told that one has ended finds that it ran."""
        rng = random.Random(11)
        for round in range(2):
            keys = [f"{round}-{number}" for number in range(CROWD)]
            scripts = {
                key: f"echo {key} >>{self.counter}; {rng.choice(['', 'sleep 0.05;', 'sleep 9;'])}"
                for key in keys
            }
            running = self.serve()
            wire = self.wire(running)
            seen: dict[str, End] = {}
            for key in keys:
                wire.start(scripts[key], key=key, onDisconnect="detach")
            for _ in range(rng.randint(0, CROWD)):
                record = wire.read()
                if isinstance(record, End):
                    seen[keys[record.channel - 1]] = record
            self.crash(running)
            running = self.serve()
            for key in keys:
                done = self.wire(running).run(scripts[key], key=key, timeLimit=0.5)
                if key in seen:
                    self.assertEqual(done.outcome, seen[key].outcome)
                ran = self.counted().count(key)
                self.assertLessEqual(ran, 1, done)
                if isinstance(done.outcome, Exited):
                    self.assertEqual(ran, 1)
            running.signal(signal.SIGTERM)
            running.wait()

    def test_audit(self) -> None:
        """The audit log goes on after it, and has each start, once."""
        running = self.serve()
        self.wire(running).started("sleep 1000", key="a", onDisconnect="detach")
        self.crash(running)
        running = self.serve()
        self.wire(running).run("sleep 1000", key="a", onDisconnect="detach")
        running.signal(signal.SIGTERM)
        running.wait()
        done = netsuite("audit", "verify", f"{self.directory}/audit.log")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        lines = (self.directory / "audit.log").read_text().splitlines()
        events = [json.loads(line)["event"] for line in lines]
        self.assertEqual(events.count("exec.start"), 1, events)

    def test_keeper(self) -> None:
        """A keeper that is killed ends no command, and the next one has another."""
        running = self.serve()
        wire = self.wire(running)
        started = wire.started("cat", stdin=True)
        for pid in bearing(self.serverMark):
            if _parent(pid) == running.pid:
                os.kill(pid, signal.SIGKILL)
        self.assertEqual(self.wire(running).run("echo", "on").stdout, b"on\n")
        wire.send(Stdin(channel=1, data=b"on\n"))
        self.assertEqual(wire.expect(Stdout).data, b"on\n")
        self.assertFalse(started.known)
        self.crash(running)


class DrainTests(RestartCase):
    """SIGTERM in the middle, with time to finish or without."""

    def gate(self, name: str) -> tuple[Path, str]:
        """Name a file, and a script that waits for it."""
        path = self.directory / name
        return path, f"until [ -e {path} ]; do sleep 0.02; done"

    def test_attached(self) -> None:
        """With time, a command that somebody follows ends as it would have, with all of its output
        and its status; nothing more is started meanwhile; then the server ends."""
        running = self.serve(drain=60)
        path, wait = self.gate("go")
        wire = self.wire(running)
        wire.start(f"echo first; {wait}; seq 100000; exit 3")
        started = wire.expect(Started)
        self.assertEqual(wire.expect(Stdout).data, b"first\n")
        program = subprocess.Popen(
            [BIN / "netsuite", "exec", self.address, "--", "sh", "-c", f"echo I; {wait}; exit 4"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert program.stdout is not None
        self.assertEqual(program.stdout.read(2), b"I\n")
        running.signal(signal.SIGTERM)
        wire.expect(Goodbye)
        refused = wire.start("true")
        end = wire.expect(End)
        self.assertEqual(end.channel, refused)
        assert isinstance(end.outcome, NotStarted), end
        done = netsuite("exec", self.address, "--", "true")
        self.assertEqual(done.returncode, 125)
        path.touch()
        finished = wire.finish(1, started, b"first\n")
        expected = b"first\n" + b"".join(b"%d\n" % number for number in range(1, 100001))
        self.assertEqual((finished.outcome, finished.stdout), (Exited(code=3), expected))
        out, err = program.communicate(timeout=PATIENCE)
        self.assertEqual((program.returncode, out), (4, b""), err)
        self.assertEqual(running.wait(), -signal.SIGTERM)

    def test_detached(self) -> None:
        """With time, a command that nobody follows ends, too; after the restart whoever attaches
        gets its output from the byte where it stopped, and its status; no key runs it again."""
        running = self.serve(drain=60)
        path, wait = self.gate("go")
        script = f"echo once >>{self.counter}; echo first; {wait}; echo last; exit 5"
        wire = self.wire(running)
        channel = wire.start(script, key="wish", onDisconnect="detach")
        started = wire.expect(Started)
        first = wire.expect(Stdout)
        wire.send(Credit(channel=channel, stream="stdout", count=len(first.data)))
        wire.close()
        eventually(partial(self.alone, running), "a server that knows that its client has gone")
        running.signal(signal.SIGTERM)
        eventually(lambda: "Received SIGTERM" in running.log(), "the signal")
        path.touch()
        self.assertEqual(running.wait(), -signal.SIGTERM)
        running = self.serve()
        wire = self.wire(running)
        done = wire.finish(wire.attach(started.id))
        assert done.started is not None
        self.assertEqual((done.started.stdout, done.stdout), (6, b"last\n"))
        self.assertEqual(done.outcome, Exited(code=5))
        again = netsuite("exec", "attach", self.address, started.id)
        self.assertEqual((again.returncode, again.stderr), (5, ""))
        self.assertEqual(self.counted(), ["once"])

    def alone(self, running: Twistd) -> bool:
        """Tell whether nobody follows the only command."""
        wire = self.wire(running)
        wire.send(List(channel=1))
        (command,) = wire.expect(Listed).commands
        return not command.attached

    def test_noTime(self) -> None:
        """Without time all commands are ended, and say so: to whoever follows them at once, to
        others after the restart, with all that they had written; and nothing runs twice."""
        running = self.serve()
        word = self.mark("drained")
        script = f"echo once >>{self.counter}; seq 1000; {FAMILY}sleep 1000"
        wire, other = self.wire(running), self.wire(running)
        wire.start(script, env=environment(word))
        started = other.started(script, key="wish", onDisconnect="detach", env=environment(word))
        other.close()
        eventually(lambda: len(bearing(word)) >= 2 * FAMILY_SIZE, "both families")
        running.signal(signal.SIGTERM)
        records: list[Record | None] = []
        while not isinstance(record := wire.read(), End):
            assert record is not None, records
            records.append(record)
        assert isinstance(record.outcome, Lost), record
        self.assertEqual(running.wait(), -signal.SIGTERM)
        self.assertEqual(bearing(word), [])
        running = self.serve()
        wire = self.wire(running)
        done = wire.finish(wire.attach(started.id, stdout=0))
        assert isinstance(done.outcome, Lost), done
        self.assertEqual(done.stdout, b"".join(b"%d\n" % n for n in range(1, 1001)))
        self.wire(running).run(script, key="wish", onDisconnect="detach", env=environment(word))
        self.assertEqual(self.counted(), ["once"] * 2)


class ClientTests(RestartCase):
    """Clients that go, and others that come."""

    #: Prints two megabytes, waits for a file, and prints as much again.
    SIZE = 2 * 2**20

    def halves(self) -> tuple[Path, str, bytes]:
        """Name the file, the script, and all that it prints."""
        path = self.directory / "go"
        half = "head -c {} /dev/zero | tr '\\0' {}"
        script = (
            f"echo once >>{self.counter}; {half.format(self.SIZE, 'x')}; "
            f"until [ -e {path} ]; do sleep 0.02; done; {half.format(self.SIZE, 'y')}; exit 6"
        )
        return path, script, b"x" * self.SIZE + b"y" * self.SIZE

    def client(self, out: Path, *words: str) -> subprocess.Popen[bytes]:
        """Start our program, with its output in a file."""
        with out.open("ab") as file:
            process = subprocess.Popen(
                [BIN / "netsuite", "exec", *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.PIPE,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def listed(self) -> list[dict[str, object]]:
        """List the commands."""
        done = netsuite("exec", "ps", self.address, "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        found: list[dict[str, object]] = json.loads(done.stdout)
        return found

    def test_killed(self) -> None:
        """A client that is killed in the middle misses nothing: another goes on at its byte, and
        both files together are all of the output, once."""
        self.serve()
        path, script, expected = self.halves()
        one, two = self.directory / "one", self.directory / "two"
        client = self.client(
            one, self.address, "--on-disconnect", "detach:60", "--", "sh", "-c", script
        )
        eventually(
            lambda: one.exists() and one.stat().st_size >= self.SIZE, "the first half", PATIENCE
        )
        client.kill()
        client.wait()
        (command,) = self.listed()
        path.touch()
        again = self.client(two, "attach", self.address, str(command["id"]))
        self.assertEqual(again.wait(PATIENCE), 6)
        first, rest = one.read_bytes(), two.read_bytes()
        # What it had not told the server that it has comes again; nothing is missed.
        begun = len(expected) - len(rest)
        self.assertLessEqual(begun, len(first))
        self.assertEqual(first[:begun] + rest, expected)
        self.assertGreater(begun, 0)
        self.assertEqual(self.counted(), ["once"])

    def test_ownByte(self) -> None:
        """A client that says where it is goes on right there, at whichever byte, though it had
        told the server nothing of that; a byte that was not written is refused."""
        running = self.serve()
        path, script, expected = self.halves()
        wire = self.wire(running)
        started = wire.started(script, onDisconnect="detach", stdoutCredit=self.SIZE)
        got = b""
        while len(got) < self.SIZE // 2:
            got += wire.expect(Stdout).data
        wire.close()
        for at in (0, 1, len(got), self.SIZE - 1):
            wire = self.wire(running)
            wire.attach(started.id, stdout=at, stdoutCredit=1000)
            self.assertEqual(wire.expect(Started).stdout, at)
            self.assertEqual(wire.expect(Stdout).data, expected[at : at + 1000][: self.SIZE - at])
            wire.close()
        wire = self.wire(running)
        wire.attach(started.id, stdout=2**40)
        end = wire.expect(End)
        assert isinstance(end.outcome, NotStarted), end
        path.touch()
        wire = self.wire(running)
        done = wire.finish(wire.attach(started.id, stdout=len(got)))
        self.assertEqual((got + done.stdout, done.outcome), (expected, Exited(code=6)))
        self.assertEqual(self.counted(), ["once"])

    def test_two(self) -> None:
        """Of two clients of one command the later has it, from its byte on; the earlier is told,
        and ends with a sentence; the output of both together is all of it, once."""
        self.serve()
        path, script, expected = self.halves()
        one, two = self.directory / "one", self.directory / "two"
        first = self.client(
            one, self.address, "--on-disconnect", "detach:60", "--", "sh", "-c", script
        )
        eventually(lambda: one.exists() and one.stat().st_size >= self.SIZE, "the first half")
        (command,) = self.listed()
        second = self.client(two, "attach", self.address, str(command["id"]))
        _, said = first.communicate(timeout=PATIENCE)
        self.assertEqual(first.returncode, 125)
        self.assertRegex(said, rb"\Anetsuite: [^\n]*Another connection[^\n]*\n\Z")
        path.touch()
        self.assertEqual(second.wait(PATIENCE), 6)
        begun = len(expected) - two.stat().st_size
        self.assertLessEqual(begun, one.stat().st_size)
        self.assertEqual(one.read_bytes()[:begun] + two.read_bytes(), expected)
        self.assertEqual(self.counted(), ["once"])

    def test_oneKey(self) -> None:
        """Many clients with one key at the same time are one command."""
        self.serve()
        outs = [self.directory / f"out{number}" for number in range(5)]
        script = f"echo once >>{self.counter}; sleep 0.5; echo out; exit 7"
        clients = [
            self.client(out, self.address, "--key", "wish", "--", "sh", "-c", script)
            for out in outs
        ]
        statuses = []
        for client in clients:
            client.communicate(timeout=PATIENCE)
            statuses.append(client.returncode)
        self.assertEqual(self.counted(), ["once"])
        # Whoever came last has followed it; who was there before was told.
        self.assertIn(7, statuses)
        self.assertLessEqual(set(statuses), {7, 125})
        for status, out in zip(statuses, outs, strict=True):
            if status == 7:
                self.assertEqual(out.read_bytes(), b"out\n")

    def test_serverGone(self) -> None:
        """A client whose server is killed ends with status 125 and one sentence, which tells how to
        go on with a command that may be gone on with."""
        for options, said in (
            (("--on-disconnect", "detach:60"), rf"netsuite exec attach {self.address} [a-z2-7]+"),
            ((), r""),
        ):
            running = self.serve()
            out = self.directory / f"gone{len(options)}"
            client = self.client(
                out, self.address, *options, "--", "sh", "-c", "echo on; sleep 1000"
            )
            eventually(lambda out=out: out.exists() and out.stat().st_size, "its output")  # type: ignore[misc]
            self.crash(running)
            _, err = client.communicate(timeout=PATIENCE)
            self.assertEqual((client.returncode, out.read_bytes()), (125, b"on\n"))
            self.assertRegex(err.decode(), rf"\Anetsuite: [^\n]*{said}[^\n]*\n\Z")

    #: Says that it has been signalled, which does nothing to what it waits for.
    TRAPPED = "trap '' USR1; sleep 1000 & trap 'echo usr1' USR1; echo on; while :; do wait; done"

    def test_detach(self) -> None:
        """What was started and left is listed, goes on, can be signalled and ended by its name, and
        is nobody else's."""
        running = self.serve()
        word = self.mark("left")
        done = netsuite(
            *("exec", self.address, "--detach", "--ttl", "10m", "--env", word, "--"),
            *("sh", "-c", self.TRAPPED),
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        id = done.stdout.strip()
        self.assertEqual([each["id"] for each in self.listed()], [id])
        wire = self.wire(running)
        channel = wire.attach(id)
        wire.expect(Started)
        self.assertEqual(wire.expect(Stdout).data, b"on\n")
        done = netsuite("exec", "kill", self.address, id, "--signal", "USR1")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(wire.expect(Stdout).data, b"usr1\n")
        done = netsuite("exec", "kill", self.address, id)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(bearing(word), [])
        self.assertEqual(wire.expect(End).channel, channel)
        done = netsuite("exec", "attach", self.address, "abcdefgh")
        self.assertEqual(done.returncode, 127)


def _parent(pid: int) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
