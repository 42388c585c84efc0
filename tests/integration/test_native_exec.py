"""
Native exec as it is used: by our program, under every reactor, and within another application.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.integration.execwire import (
    FAMILY,
    MARK,
    ExecTestCase,
    Wire,
    environment,
    family,
    gone,
    killBearing,
)
from tests.integration.processes import (
    BIN,
    PATIENCE,
    Twistd,
    bearing,
    eventually,
    netsuite,
    started,
)
from twisted_netsuite.errors import Denied, NotFound
from twisted_netsuite.rexec.allow import allowed
from twisted_netsuite.rexec.client import ExecSession, connectExec
from twisted_netsuite.rexec.messages import Cancel, End, Start, Started, Stdout
from twisted_netsuite.rexec.native import ExecFactory
from twisted_netsuite.rexec.outcome import Exited, Lost, Signalled, TimedOut
from twisted_netsuite.rexec.permit import ownPath
from twisted_netsuite.trust.oversight import Oversight

#: Every reactor that Twisted has for Linux.
REACTORS = ("select", "poll", "epoll", "asyncio")

#: More than any pipe or buffer holds.
BIG = 8 * 2**20


class ProgramTests(ExecTestCase):
    """What a person types."""

    def test_statuses(self) -> None:
        """The status is the command's own, or tells what else became of it."""
        for words, status, said in (
            (("--", "true"), 0, ""),
            (("--", "sh", "-c", "exit 255"), 255, ""),
            (("--", "sh", "-c", "kill -TERM $$"), 143, r"netsuite: [^\n]*TERM[^\n]*\n"),
            (("--", "sh", "-c", "kill -SEGV $$"), 139, r"netsuite: [^\n]*SEGV[^\n]*\n"),
            (("--timeout", "0.2", "--", "sleep", "1000"), 124, r"netsuite: [^\n]*\n"),
            (("--", "/no/such"), 127, r"netsuite: [^\n]*\n"),
            (("--env", "PATH=/", "--", "true"), 126, r"netsuite: [^\n]*\n"),
            (("--shell", "--", "exit", "9"), 9, ""),
        ):
            done = netsuite("exec", self.address, *words)
            self.assertEqual((done.returncode, done.stdout), (status, ""), (words, done.stderr))
            self.assertRegex(done.stderr, rf"\A{said}\Z")

    def test_streams(self) -> None:
        """Bytes of any value pass both ways, and the two outputs are kept apart."""
        data = os.urandom(BIG)
        for words, out, err in (
            (("cat",), data, b""),
            (("sh", "-c", "cat >&2"), b"", data),
            (("sh", "-c", "head -c 1000 >&2; cat"), data[1000:], data[:1000]),
        ):
            command: Sequence[str | Path] = [
                *(BIN / "netsuite", "exec", self.address, "-i", "--"),
                *words,
            ]
            done = subprocess.run(
                command, input=data, capture_output=True, timeout=PATIENCE, check=False
            )
            self.assertEqual(done.returncode, 0)
            self.assertEqual([done.stdout == out, done.stderr == err], [True, True])

    def test_interrupt(self) -> None:
        """Ctrl-C reaches the command, which can end as it likes; TERM ends it."""
        script: str
        for number, script, status in (
            (signal.SIGINT, "trap 'exit 5' INT; echo on; while :; do sleep 0.05; done", 5),
            (signal.SIGTERM, "echo on; exec sleep 1000", 143),
        ):
            word = f"{MARK}=interrupt-{os.getpid()}"
            command: Sequence[str | Path] = [
                *(BIN / "netsuite", "exec", self.address, "--env", word, "--"),
                *("sh", "-c", script),
            ]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
            self.addCleanup(process.kill)
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), b"on\n")
            process.send_signal(number)
            _, err = process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, status, err)
            eventually(partial(gone, word), "the end of the command")


class ReactorTests(SynchronousTestCase):
    """The end of every command is noticed, and its output whole, under each reactor."""

    def test_each(self) -> None:
        """Statuses, signals, time limits, input, both streams, and commands that leave others
        behind, one after another and many at once."""
        for name in REACTORS:
            running = started(
                self,
                f"--reactor={name}",
                "netsuite-exec",
                "--allow-any",
                "--listen=tcp:0:interface=127.0.0.1",
                "--max-per-source=0",
            )
            self.addCleanup(self.assertQuiet, running)
            self.assertIn(f"{name}reactor".replace("_", ""), running.log().lower())
            self.work(running, name)
            running.signal(signal.SIGTERM)
            self.assertEqual(running.wait(), -signal.SIGTERM)

    def assertQuiet(self, running: Twistd) -> None:
        """Nothing went wrong."""
        self.assertNotIn("Traceback", running.log())
        self.assertEqual("", running.stderr())

    def work(self, running: Twistd, name: str) -> None:
        """Run commands of every kind."""

        def wire() -> Wire:
            return Wire(self, running.place("exec"))

        self.assertEqual(wire().run("exit 3").outcome, Exited(code=3), name)
        self.assertEqual(wire().run("kill -9 $$").outcome, Signalled(name="KILL", number=9))
        self.assertEqual(wire().run("exec sleep 99", timeLimit=0.1).outcome, TimedOut(seconds=0.1))
        done = wire().run(f"head -c {BIG} /dev/zero & head -c {BIG} /dev/zero >&2; wait")
        digest = hashlib.sha256(bytes(BIG)).digest()
        self.assertEqual([done.end.stdout.sha256, done.end.stderr.sha256], [digest] * 2, name)
        word = f"{MARK}={name}-{os.getpid()}"
        self.addCleanup(killBearing, word)
        relatives = wire()
        relatives.start(f"{FAMILY}exec cat", env=environment(word), stdin=True)
        relatives.expect(Started)
        eventually(partial(family, word), "the whole family")
        relatives.send(Cancel(channel=1))
        self.assertEqual(relatives.finish(1).outcome, Signalled(name="TERM", number=15))
        self.assertEqual(bearing(word), [])
        self.many(wire(), name)

    def many(self, wire: Wire, name: str) -> None:
        """Run a hundred at once over one connection."""
        argv = (b"/bin/echo", b"hello")
        wire.send(*[Start(channel=number, argv=argv) for number in range(1, 101)])
        begun: set[int] = set()
        written: set[int] = set()
        ended: set[int] = set()
        while len(ended) < 100:
            match wire.read():
                case Started(channel=channel):
                    begun.add(channel)
                case Stdout(channel=channel, data=b"hello\n"):
                    written.add(channel)
                case End(channel=channel, outcome=Exited(code=0)):
                    ended.add(channel)
                case record:
                    raise AssertionError((name, record))
        self.assertEqual((len(begun), begun, begun), (100, written, ended))


class EmbeddingTests(TestCase):
    """A small application with an exec service of its own, and a client of it, in one process."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        # From the root on it may be too long for a socket.
        path = os.path.relpath(self.directory / "exec.sock")
        words = ("/bin/sh **", "echo **", "sleep *", "cat")
        self.factory = ExecFactory(reactor, Oversight("app", allowed(words, ownPath())))
        await self.factory.open()
        port = await serverFromString(reactor, f"unix:{path}").listen(self.factory)
        self.addCleanup(self.factory.abortConnections)
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        self.endpoint = clientFromString(reactor, f"unix:{path}")

    async def connect(self) -> ExecSession:
        """Connect to it."""
        return await connectExec(self.endpoint, self.reactor, name="app")

    async def until(self, happened: Any) -> None:
        """Wait, without keeping the reactor from anything."""
        while not happened():
            await deferLater(self.reactor, 0.01)

    async def test_run(self) -> None:
        """Many commands at once are awaited over one session, each with its own answer."""
        async with await self.connect() as session:
            done = await gatherResults([session.run(["echo", str(number)]) for number in range(50)])
            self.assertEqual([int(each.stdout) for each in done], list(range(50)))
            completed = await session.run(["/bin/sh", "-c", "cat; exit 3"], input=b"x" * BIG)
            self.assertEqual((completed.status, len(completed.stdout)), (3, BIG))
            for argv, error in ((["touch", "x"], Denied), (["/bin/sleep/x", "1"], Denied)):
                with self.assertRaises(error):
                    await session.run(argv)

    async def test_cancel(self) -> None:
        """Who cancels the Deferred of a command kills it, and all that it has started; the session
        goes on."""
        ready = self.directory / "ready"
        script = f"{FAMILY}echo $$ >{ready}; sleep 1000"
        async with await self.connect() as session:
            running = session.run(["/bin/sh", "-c", script])
            await self.until(lambda: ready.exists() and ready.read_text())
            group = int(ready.read_text())
            running.cancel()
            with self.assertRaises(CancelledError):
                await running
            await self.until(lambda: not _members(group))
            self.assertEqual((await session.run(["echo", "on"])).stdout, b"on\n")
            starting = session.start(["sleep", "1000"])
            starting.cancel()
            with self.assertRaises(CancelledError):
                await starting
            await self.until(lambda: not self.running())

    def running(self) -> list[str]:
        """Name the commands that the service has."""
        return [each.id for each in self.factory.commands._unended]

    async def test_close(self) -> None:
        """Who closes the session ends what runs on it; who stops the service gets that told."""
        session = await self.connect()
        first = Deferred.fromCoroutine(_outcome(session, ["sleep", "1000"]))
        await self.until(self.running)
        await session.close()
        self.assertEqual(await first, "ConnectionFailed")
        await self.until(lambda: not self.running())
        session = await self.connect()
        command = await session.start(["sleep", "1000"])
        ended = command.whenEnded()
        await self.factory.abortConnections()
        self.assertIsInstance((await ended).outcome, Lost)
        await session.whenEnded()

    async def test_two(self) -> None:
        """Two services in one process have nothing in common."""
        other = ExecFactory(self.reactor, Oversight("other", allowed(("cat",), ownPath())))
        await other.open()
        path = os.path.relpath(self.directory / "other.sock")
        port = await serverFromString(self.reactor, f"unix:{path}").listen(other)
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        endpoint = clientFromString(self.reactor, f"unix:{path}")
        session = await connectExec(endpoint, self.reactor, name="other")
        with self.assertRaises(Denied):
            await session.run(["echo", "hello"])
        self.assertEqual((await session.run(["cat"], input=b"x")).stdout, b"x")
        await other.abortConnections()
        mine = await self.connect()
        self.assertEqual((await mine.run(["echo", "on"])).stdout, b"on\n")
        with self.assertRaises(NotFound):
            await mine.attach("abcdefgh")
        await mine.close()


async def _outcome(session: ExecSession, argv: list[str]) -> str:
    """Tell how a command ended, or with which error."""
    try:
        done = await session.run(argv)
    except Exception as error:
        return type(error).__name__
    return type(done.outcome).__name__


def _members(group: int) -> list[int]:
    """Find the processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found
