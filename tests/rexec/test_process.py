"""Commands as real processes: what they get, how they end, and that nothing of them stays."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from twisted_netsuite.rexec import keeper, process, supervision
from twisted_netsuite.rexec.launch import (
    UNBOUNDED,
    Account,
    Ending,
    Exited,
    Launch,
    Lost,
    NotStarted,
    ResourceLimits,
    Signalled,
    TerminalSize,
)
from twisted_netsuite.rexec.pipes import OutputReader
from twisted_netsuite.rexec.process import CommandProcess, ProcessSpawner

reactor: Any = _reactor

#: Seconds after which a process that ought to be gone is given up; it is never waited for in full.
PATIENCE = 20

ENVIRONMENT = {b"PATH": os.environb.get(b"PATH", b"/usr/bin:/bin")}

#: A line for the shell that leaves a process in another session, twice forked, deaf to TERM,
#: without any of the command's streams, and writes its number.
FLED = (
    "exec 3>&1; setsid sh -c 'sh -c '\\''trap \"\" TERM; echo $$ >&3;"
    " exec 3>&- >/dev/null 2>&1; while :; do sleep 1000; done'\\'' &' ;"
)

MEBIBYTE = 1024 * 1024


class Notes:
    """
    Notes what a command does.

    @ivar ended: fires with how it ended.
    @ivar endings: every ending that was reported.
    @ivar pid: the number of its process.
    @ivar sizes: of the pieces that came.
    @ivar taken: bytes of input that reached it.
    @ivar losses: how often it was said that it reads no more.
    @ivar waits: how often it was said that its output waits after its end.
    """

    def __init__(self) -> None:
        self.out = bytearray()
        self.err = bytearray()
        self.ended: Deferred[Ending] = Deferred()
        self.endings: list[Ending] = []
        self.pid = 0
        self.sizes: list[int] = []
        self.taken = 0
        self.losses = 0
        self.waits = 0
        self._awaited: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def started(self, pid: int) -> None:
        assert self.pid == 0
        self.pid = pid
        self._look()

    def outReceived(self, data: bytes) -> None:
        self.out += data
        self.sizes.append(len(data))
        self._look()

    def errReceived(self, data: bytes) -> None:
        self.err += data
        self._look()

    def stdinTaken(self, count: int) -> None:
        self.taken += count
        self._look()

    def stdinLost(self) -> None:
        self.losses += 1
        self._look()

    def outputWaits(self) -> None:
        self.waits += 1
        self._look()

    def commandEnded(self, ending: Ending) -> None:
        self.endings.append(ending)
        self._look()
        self.ended.callback(ending)

    def _look(self) -> None:
        for test, seen in list(self._awaited):
            if test():
                self._awaited.remove((test, seen))
                seen.callback(None)

    def when(self, test: Callable[[], bool]) -> Deferred[None]:
        """Fire once this is so."""
        seen: Deferred[None] = Deferred()
        self._awaited.append((test, seen))
        self._look()
        return seen

    def said(self, words: bytes) -> Deferred[None]:
        """Fire once the command has written this to stdout."""
        return self.when(lambda: words in self.out)


class Life:
    """Watches any process, and tells whether it has ended, however late it is looked at."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def over(self) -> bool:
        """Wait for its end."""
        return bool(select.select([self._descriptor], [], [], PATIENCE)[0])

    @property
    def on(self) -> bool:
        """Whether it lives now."""
        return not select.select([self._descriptor], [], [], 0)[0]

    def kill(self) -> None:
        """End it, so that nothing outlives the test."""
        if self.on:
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        os.close(self._descriptor)


def descriptors() -> int:
    """Count the descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


async def until(test: Callable[[], bool]) -> None:
    """Wait until this is so, of which nobody tells."""
    while not test():
        await deferLater(reactor, 0.005)


def shellLaunch(line: str, **told: Any) -> Launch:
    """A launch of a line for the shell."""
    return Launch(b"/bin/sh", [b"sh", b"-c", line.encode()], ENVIRONMENT, **told)


def numbers(data: bytes | bytearray) -> list[int]:
    """Take all words of output as numbers."""
    return [int(word) for word in data.split()]


def parentOf(pid: int) -> int:
    """Tell whose child a process is."""
    return next(parent for number, parent, _, _ in keeper.processes() if number == pid)


class ProcessCase(TestCase):
    """
    Runs shell lines as processes.

    @ivar told: of every launch.
    """

    timeout = 60
    told: dict[str, Any] = {}

    def setUp(self) -> None:
        self.spawner = self.spawnerFor()

    def spawnerFor(self, drainLimit: float = 0.05, killGrace: float = 0.05) -> ProcessSpawner:
        spawner = ProcessSpawner(reactor, drainLimit, killGrace)
        self.addCleanup(spawner.stop)
        return spawner

    def launch(self, launch: Launch, allowed: int = UNBOUNDED) -> tuple[CommandProcess, Notes]:
        notes = Notes()
        command = self.spawner(replace(launch, **self.told), notes)
        command.allow("stdout", allowed)
        command.allow("stderr", allowed)
        return command, notes

    def shell(
        self, line: str, allowed: int = UNBOUNDED, **told: Any
    ) -> tuple[CommandProcess, Notes]:
        return self.launch(shellLaunch(line, **told), allowed)

    async def run_(self, line: str, **told: Any) -> Notes:
        """Run a line to its end."""
        _, notes = self.shell(line, **told)
        await notes.ended
        return notes

    async def words(self, line: str, **told: Any) -> list[bytes]:
        """Run a line to its end, and give what it wrote."""
        return bytes((await self.run_(line, **told)).out).split()

    async def settled(self) -> None:
        """Let supervisors that were asked for come, and those that are not wanted go."""
        await deferLater(reactor, 0)
        pool = self.spawner._pool
        await until(lambda: not pool._forking and pool._all == set(pool._idle))

    async def exited(self, command: CommandProcess) -> None:
        """Wait until its end is known, which its receiver may not have been told yet."""
        await until(lambda: command._ending is not None)

    def watch(self, pid: int) -> Life:
        life = Life(pid)
        self.addCleanup(life.kill)
        return life


class SurroundingsTests(ProcessCase):
    async def test_started(self) -> None:
        """The number of its process is told before anything else of it, but not too early."""
        _, notes = self.shell("echo $$")
        self.assertEqual(notes.pid, 0)
        self.assertEqual(await notes.ended, Exited(0))
        self.assertEqual(numbers(notes.out), [notes.pid])

    async def test_sessionAndGroup(self) -> None:
        """A command leads a session and a process group of its own."""
        notes = await self.run_("echo $$; cut -d' ' -f5,6 /proc/$$/stat")
        pid, group, session = numbers(notes.out)
        self.assertEqual((group, session), (pid, pid))
        self.assertNotEqual(group, os.getpgrp())

    async def test_stdin(self) -> None:
        """Standard input is /dev/null: a command that reads it sees its end at once."""
        notes = await self.run_("readlink /proc/self/fd/0; cat; echo done")
        self.assertEqual(notes.out, b"/dev/null\ndone\n")

    async def test_noDescriptors(self) -> None:
        """No descriptor but the three standard ones reaches a command, whoever has others."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        os.set_inheritable(writing, True)
        for told in ({}, {"stdin": True}):
            command, notes = self.shell("exec ls /proc/self/fd", **told)
            command.endInput()
            await notes.ended
            # ls itself has one open, for the directory that it lists.
            self.assertEqual(len(notes.out.split()), 4, notes.out)
            self.assertEqual(notes.out.split()[:3], [b"0", b"1", b"2"])

    async def test_environment(self) -> None:
        """The environment is the one that was given, and nothing of the server's."""
        env = {b"ONE": b"1", b"TWO": b"", b"\xff": b"a=b\n"}
        with mock.patch.dict(os.environ, SECRET_TOKEN="x"):
            _, notes = self.launch(Launch(b"/usr/bin/env", [b"env", b"-0"], env))
        await notes.ended
        self.assertEqual(
            sorted(bytes(notes.out).split(b"\0")), [b"", b"ONE=1", b"TWO=", b"\xff=a=b\n"]
        )

    async def test_signals(self) -> None:
        """A command ignores and blocks no signal, whatever the server or its keeper does."""
        found = await self.words("grep -E 'Sig(Ign|Blk)' /proc/self/status")
        # 32 and 33 are the C library's own.
        known = sum(1 << number - 1 for number in signal.valid_signals())
        self.assertEqual([int(word, 16) & known for word in found[1::2]], [0, 0])

    async def test_arguments(self) -> None:
        """Arguments arrive byte for byte, without a shell in between."""
        argv = [b"printf", b"%s|", b"$HOME;`id`", b"", b"\xff\n", b"-x"]
        _, notes = self.launch(Launch(b"/usr/bin/printf", argv, {}))
        await notes.ended
        self.assertEqual(notes.out, b"$HOME;`id`||\xff\n|-x|")

    async def test_ownName(self) -> None:
        """A program's own name is what was given, not its path."""
        _, notes = self.launch(Launch(b"/bin/sh", [b"my name", b"-c", b"echo $0"], {}))
        await notes.ended
        self.assertEqual(notes.out, b"my name\n")

    async def test_many(self) -> None:
        """A hundred thousand arguments arrive, as Linux takes them."""
        argv = [b"sh", b"-c", b"echo $# $100000", b"0", *(b"%d" % n for n in range(1, 100_001))]
        _, notes = self.launch(Launch(b"/bin/sh", argv, {}))
        self.assertEqual(await notes.ended, Exited(0))
        self.assertEqual(notes.out, b"100000 100000\n")

    async def test_directory(self) -> None:
        """A command runs where it was told to, and the next one is not affected."""
        directory = self.mktemp()
        os.mkdir(directory)
        path = os.path.realpath(directory)
        self.assertEqual(await self.words("pwd -P", cwd=os.fsencode(path)), [os.fsencode(path)])
        self.assertEqual(await self.words("pwd -P"), [b"/"])

    async def test_umask(self) -> None:
        """Its umask is the server's."""
        mask = os.umask(0)
        os.umask(mask)
        self.assertEqual(await self.words("umask"), [b"%04o" % mask])

    async def test_interpreter(self) -> None:
        """A script runs by what its first line names."""
        script = Path(self.mktemp())
        script.write_text("#!/bin/sh\necho $1\n")
        script.chmod(0o755)
        path = bytes(script.absolute())
        _, notes = self.launch(Launch(path, [b"x", b"told"], {}))
        await notes.ended
        self.assertEqual(notes.out, b"told\n")


class ForkedSurroundingsTests(SurroundingsTests):
    """The same, for commands with limits, which are started in another way."""

    told = {"limits": ResourceLimits(openFiles=100)}


class LimitsTests(ProcessCase):
    async def test_each(self) -> None:
        """What the kernel grants is what was told, and a command cannot raise it."""
        limits = ResourceLimits(
            cpuTime=7, memory=2**30, processes=5000, openFiles=50, fileSize=1024 * 512
        )
        for flag in ("S", "H"):
            notes = await self.run_(f"for l in t v p n f; do ulimit -{flag}$l; done", limits=limits)
            found = numbers(notes.out)
            self.assertEqual(found[0], 7 + (flag == "H"))
            self.assertEqual(found[1:], [2**20, 5000, 50, 1024])

    async def test_none(self) -> None:
        """What was not told is as the server has it."""
        cpu, _ = resource.getrlimit(resource.RLIMIT_CPU)
        self.assertEqual(cpu, resource.RLIM_INFINITY)
        limits = ResourceLimits(fileSize=1024)
        self.assertEqual(await self.words("ulimit -t", limits=limits), [b"unlimited"])

    async def test_descriptors(self) -> None:
        """However many the server may open, a command begins with what is usual."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.assertGreater(hard, 1500)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for its, expected in ((hard, 1024), (900, 900)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (its, hard))
            self.spawner = self.spawnerFor()
            found = await self.words("ulimit -Sn; ulimit -Hn; ulimit -Sn 1500; ulimit -Sn")
            self.assertEqual(numbers(b" ".join(found)), [expected, hard, 1500])

    async def test_processorTime(self) -> None:
        """A command that has used up its processor time ends with the signal that says so."""
        notes = await self.run_("while :; do :; done", limits=ResourceLimits(cpuTime=1))
        self.assertEqual(notes.endings, [Signalled(signal.SIGXCPU, mock.ANY)])

    async def test_fileSize(self) -> None:
        """A file that is too large ends a command with the signal that says so."""
        path = os.path.abspath(self.mktemp())
        notes = await self.run_(
            f"exec head -c 2000 /dev/zero > {path}", limits=ResourceLimits(fileSize=1000)
        )
        self.assertEqual(notes.endings, [Signalled(signal.SIGXFSZ, mock.ANY)])
        self.assertEqual(os.path.getsize(path), 1000)

    async def test_tooLittleMemory(self) -> None:
        """Where not even the program fits, the command ends, one way or the other."""
        _, notes = self.shell("true", limits=ResourceLimits(memory=4096))
        self.assertNotEqual(await notes.ended, Exited(0))

    async def test_aboveTheServers(self) -> None:
        """No command gets more than the server can give."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limits = ResourceLimits(openFiles=hard + 1)
        self.assertEqual(await self.words("ulimit -Hn", limits=limits), [b"%d" % hard])


NOBODY = Account("nobody", 65534, 65534, (65534, 60000))


class AccountTests(ProcessCase):
    def setUp(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("Only root may become somebody else.")
        super().setUp()

    async def test_become(self) -> None:
        """A command has the user, the group and the groups of its account, and no other."""
        notes = await self.run_(
            "id -u; id -g; id -G; grep Cap[EP] /proc/self/status", account=NOBODY
        )
        lines = bytes(notes.out).split(b"\n")
        self.assertEqual(lines[:2], [b"65534", b"65534"])
        self.assertEqual(sorted(numbers(lines[2])), [60000, 65534])
        self.assertEqual({int(line.split()[1], 16) for line in lines[3:5]}, {0})

    async def test_ownStreams(self) -> None:
        """A command may open its streams by name, though another user made them."""
        for told in ({}, {"terminal": TerminalSize(24, 80)}):
            line = "echo one > /dev/stdout; echo two > /dev/stderr"
            notes = await self.run_(line, account=NOBODY, **told)
            self.assertEqual(sorted((notes.out + notes.err).split()), [b"one", b"two"])

    async def test_directory(self) -> None:
        """A directory is entered with the rights of the account, not with the server's."""
        directory = self.mktemp()
        os.mkdir(directory, 0o700)
        path = os.path.realpath(directory)
        notes = await self.run_("true", cwd=os.fsencode(path), account=NOBODY)
        self.assertEqual(notes.endings, [NotStarted(errno.EACCES, f"enter {path}")])

    async def test_processes(self) -> None:
        """A user that has all the processes it may have gets no more, and is told so."""
        account = Account("crowd", 61234, 61234, ())
        limits = ResourceLimits(processes=1)
        for _ in range(2):
            # Linux counts the one that begins only once it has begun.
            _, first = self.shell("echo on; exec sleep 1000", account=account, limits=limits)
            await first.said(b"on")
        _, second = self.shell("true", account=account, limits=limits)
        self.assertEqual(await second.ended, NotStarted(errno.EAGAIN, "run /bin/sh"))


class OutputTests(ProcessCase):
    async def test_apart(self) -> None:
        """stdout and stderr are kept apart."""
        notes = await self.run_("echo out; echo err >&2; echo out2")
        self.assertEqual((notes.out, notes.err), (b"out\nout2\n", b"err\n"))

    async def test_large(self) -> None:
        """Ten mebibytes on each of both streams arrive whole, without a deadlock."""
        size = 10 * MEBIBYTE
        line = f"head -c {size} /dev/zero & head -c {size} /dev/zero >&2; wait"
        notes = await self.run_(line)
        self.assertEqual((len(notes.out), len(notes.err)), (size, size))

    async def test_closedEarly(self) -> None:
        """A command that closes its streams and runs on is waited for."""
        notes = await self.run_("exec >&- 2>&-; sleep 0.05; exit 5")
        self.assertEqual(notes.endings, [Exited(5)])

    async def test_heldByGrandchild(self) -> None:
        """A process left behind that holds stdout delays the end by the drain limit only."""
        _, notes = self.shell("sleep 1000 & echo $!")
        await notes.said(b"\n")
        life = self.watch(int(notes.out))
        self.assertEqual(await notes.ended, Exited(0))
        self.assertTrue(life.over())

    async def test_floodFromGrandchild(self) -> None:
        """A process left behind that writes without end delays it no longer."""
        notes = await self.run_("yes & exit 3")
        self.assertEqual(notes.endings, [Exited(3)])

    async def test_nothingLeftBehind(self) -> None:
        """A background process that holds nothing is ended with the command that started it."""
        _, notes = self.shell("sleep 1000 >/dev/null 2>&1 & echo $!; read x; exit 4", stdin=True)
        await notes.said(b"\n")
        life = self.watch(int(notes.out))
        self.assertTrue(life.on)
        os.kill(notes.pid, signal.SIGKILL)
        self.assertEqual(await notes.ended, Signalled(signal.SIGKILL))
        self.assertTrue(life.over())

    async def test_backgroundGetsItsTime(self) -> None:
        """What ends by itself within the drain limit is not killed."""
        self.spawner = self.spawnerFor(drainLimit=PATIENCE)
        path = os.path.abspath(self.mktemp())
        notes = await self.run_(f"(sleep 0.1; echo late; touch {path}) & exit 3")
        self.assertEqual((notes.endings, notes.out), ([Exited(3)], b"late\n"))
        self.assertTrue(os.path.exists(path))


class AllowanceTests(ProcessCase):
    async def test_nothing(self) -> None:
        """Nothing is read before it is allowed; then just as much as that, and no more."""
        command, notes = self.shell("echo $$; exec yes", allowed=0)
        await notes.when(lambda: notes.pid > 0)
        self.assertEqual(notes.out, b"")
        total = 0
        for count in (1, 10, 100_000):
            total += count
            command.allow("stdout", count)
            await notes.when(lambda: len(notes.out) >= total)  # noqa: B023
            await deferLater(reactor, 0)
            self.assertEqual(len(notes.out), total)
        command.end()
        self.assertEqual(await notes.ended, Signalled(signal.SIGTERM))
        self.assertEqual(len(notes.out), total)

    async def test_eachStream(self) -> None:
        """Each stream has its own allowance."""
        command, notes = self.shell("echo out; echo err >&2", allowed=0)
        command.allow("stderr", 100)
        await notes.when(lambda: notes.err == b"err\n")
        self.assertEqual(notes.out, b"")
        command.allow("stdout", 100)
        await notes.ended
        self.assertEqual((notes.out, notes.err), (b"out\n", b"err\n"))

    async def test_lastWords(self) -> None:
        """A receiver that is slow misses nothing: the end comes only after all was allowed."""
        command, notes = self.shell("head -c 60000 /dev/zero; exit 3", allowed=0)
        await notes.when(lambda: notes.pid > 0)
        await self.exited(command)
        # For longer than the drain limit.
        await deferLater(reactor, 0.1)
        for _ in range(60):
            self.assertEqual(notes.endings, [])
            seen = len(notes.out)
            command.allow("stdout", 1000)
            await notes.when(lambda: len(notes.out) == seen + 1000)  # noqa: B023
        self.assertEqual(await notes.ended, Exited(3))
        self.assertEqual(len(notes.out), 60_000)

    async def test_noWords(self) -> None:
        """Nothing need be allowed for a command to end that wrote nothing, or no more than it."""
        for told in ({}, {"terminal": SIZE}):
            _, notes = self.shell("exit 3", allowed=0, **told)
            self.assertEqual(await notes.ended, Exited(3))
            command, notes = self.shell("printf 123; exit 3", allowed=0, **told)
            command.allow("stdout", 2)
            await notes.said(b"12")
            await self.exited(command)
            await deferLater(reactor, 0.1)
            self.assertEqual(notes.endings, [])
            command.allow("stdout", 1)
            self.assertEqual(await notes.ended, Exited(3))
            self.assertEqual(notes.out, b"123")

    async def test_slowAfterItsEnd(self) -> None:
        """Time in which nothing may be read is no reason to kill what still writes."""
        path = os.path.abspath(self.mktemp())
        os.mkfifo(path)
        with open(path, "r+b", buffering=0) as gate:
            command, notes = self.shell(f"(read x <{path}; echo late) & exit 3", allowed=0)
            await self.exited(command)
            # For longer than the drain limit.
            await deferLater(reactor, 0.1)
            self.assertEqual(notes.endings, [])
            gate.write(b"\n")
            await until(lambda: command._clear)
        command.allow("stdout", 100)
        command.allow("stderr", 100)
        self.assertEqual(await notes.ended, Exited(3))
        self.assertEqual(notes.out, b"late\n")

    async def test_waits(self) -> None:
        """Its receiver learns once that it has ended with output that may not be read; of one that
        runs, has nothing left, may be read, or was asked to end, it learns nothing."""
        command, notes = self.shell("echo out; echo err >&2; exit 3", allowed=0)
        await notes.when(lambda: notes.waits == 1)
        self.assertIsNotNone(command._ending)
        command.pause()
        command.allow("stdout", 2)
        command.resume()
        command.allow("stdout", 2)
        command.allow("stderr", 4)
        self.assertEqual(await notes.ended, Exited(3))
        self.assertEqual((notes.out, notes.err, notes.waits), (b"out\n", b"err\n", 1))
        command, notes = self.shell("yes; exit 3", allowed=1000)
        await notes.when(lambda: len(notes.out) == 1000)
        await deferLater(reactor, 0.1)
        self.assertEqual(notes.waits, 0)
        command.end()
        await notes.ended
        self.assertEqual(notes.waits, 0)
        for line, allowed in (("exit 3", 0), ("echo out; sleep 1000 & exit 3", UNBOUNDED)):
            _, notes = self.shell(line, allowed=allowed)
            await notes.ended
            self.assertEqual(notes.waits, 0)

    async def test_waitsWithOthers(self) -> None:
        """So it does when something that the command has left behind holds its streams."""
        command, notes = self.shell("echo out; sleep 1000 & exit 3", allowed=0)
        await notes.when(lambda: notes.waits == 1)
        self.assertEqual(notes.endings, [])
        command.end()
        self.assertEqual(await notes.ended, Exited(3))

    async def test_paused(self) -> None:
        """A paused command is not read; what it wrote until then comes after that."""
        command, notes = self.shell("echo one; read x; echo two; exit 3", stdin=True)
        await notes.said(b"one")
        command.pause()
        command.write(b"\n")
        await notes.when(lambda: notes.taken == 1)
        await deferLater(reactor, 0.1)
        self.assertEqual((notes.out, notes.endings), (b"one\n", []))
        command.resume()
        self.assertEqual(await notes.ended, Exited(3))
        self.assertEqual(notes.out, b"one\ntwo\n")

    async def test_pausedFromWithin(self) -> None:
        """A receiver may pause while it receives, and gets nothing more."""
        command, notes = self.shell("exec yes")
        await notes.said(b"y")
        command.pause()
        seen = len(notes.out)
        await deferLater(reactor, 0.05)
        self.assertEqual(len(notes.out), seen)
        command.end()
        await notes.ended

    async def test_pieces(self) -> None:
        """No piece is larger than one read."""
        _, notes = self.shell(f"exec head -c {4 * MEBIBYTE} /dev/zero")
        await notes.ended
        self.assertLessEqual(max(notes.sizes), 128 * 1024)
        self.assertEqual(len(notes.out), 4 * MEBIBYTE)

    async def test_stalledCostsNothing(self) -> None:
        """Neither a stalled command, nor one of which the pipes have ended, costs any time."""
        for line in ("exec yes", "exec >&- 2>&-; exec sleep 1000", "echo x; exec 2>&-; exit 3"):
            command, notes = self.shell(line, allowed=0)
            await notes.when(lambda: notes.pid > 0)  # noqa: B023
            await deferLater(reactor, 0.05)
            before = os.times()
            await deferLater(reactor, 0.2)
            after = os.times()
            spent = after.user + after.system - before.user - before.system
            self.assertLess(spent, 0.05, line)
            command.end()
            await notes.ended

    async def test_cutOff(self) -> None:
        """A command that is asked to end does, whether its output is allowed to be read or not."""
        command, notes = self.shell("yes", allowed=1000)
        await notes.said(b"y")
        command.end()
        self.assertEqual(await notes.ended, Signalled(signal.SIGTERM))
        self.assertEqual(len(notes.out), 1000)

    async def test_cutOffAfterItsEnd(self) -> None:
        """So does one that has ended, and of which the output was not all read."""
        command, notes = self.shell("echo $$; exit 3", allowed=0)
        await self.exited(command)
        self.assertEqual(notes.endings, [])
        command.end()
        self.assertEqual(await notes.ended, Exited(3))


class InputTests(ProcessCase):
    async def test_through(self) -> None:
        """All that is written is read, as it was written, up to its end."""
        data = bytes(range(256)) * 4096 * 4
        command, notes = self.shell("exec cat", stdin=True)
        for start in range(0, len(data), 100_000):
            command.write(data[start : start + 100_000])
        command.endInput()
        self.assertEqual(await notes.ended, Exited(0))
        self.assertEqual(bytes(notes.out), data)
        self.assertEqual((notes.taken, notes.losses), (len(data), 0))

    async def test_noneYet(self) -> None:
        """A command waits for its input; without the end of it, it does not end."""
        command, notes = self.shell("head -c 3; echo; cat; echo end", stdin=True)
        command.write(b"one")
        await notes.said(b"one\n")
        command.write(b"two")
        await notes.said(b"two")
        self.assertEqual(notes.endings, [])
        command.endInput()
        command.endInput()
        command.write(b"late")
        await notes.ended
        self.assertEqual(notes.out, b"one\ntwoend\n")

    async def test_ended(self) -> None:
        """An input that ends at once is empty."""
        command, notes = self.shell("wc -c", stdin=True)
        command.endInput()
        await notes.ended
        self.assertEqual(notes.out.split(), [b"0"])

    async def test_notRead(self) -> None:
        """What a command does not read is not taken beyond what its pipe holds."""
        command, notes = self.shell("echo on; exec sleep 1000", stdin=True)
        command.write(b"x" * MEBIBYTE)
        await notes.when(lambda: notes.taken > 0)
        await deferLater(reactor, 0.05)
        self.assertLessEqual(notes.taken, 128 * 1024)
        command.end()
        await notes.ended

    async def test_lost(self) -> None:
        """That a command reads no more is told once, and what is written then is dropped."""
        command, notes = self.shell("exec <&-; echo closed; exec sleep 1000", stdin=True)
        await notes.said(b"closed")
        command.write(b"x")
        await notes.when(lambda: notes.losses > 0)
        command.write(b"x" * 1000)
        command.endInput()
        await deferLater(reactor, 0.05)
        self.assertEqual((notes.losses, notes.taken, notes.endings), (1, 0, []))
        command.end()
        await notes.ended
        self.assertEqual(notes.losses, 1)

    async def test_lostHalfWay(self) -> None:
        """So is that it stops reading half-way: `yes | head`."""
        command, notes = self.shell("head -c 1; exec <&-; exec sleep 1000", stdin=True)
        command.write(b"y" * MEBIBYTE * 4)
        await notes.when(lambda: notes.losses > 0)
        self.assertLess(notes.taken, MEBIBYTE)
        command.end()
        await notes.ended

    async def test_toOneThatHasEnded(self) -> None:
        """What is written to a command that has ended is dropped."""
        command, notes = self.shell("exit 3", stdin=True)
        await notes.ended
        command.write(b"x" * MEBIBYTE)
        command.endInput()
        command.signal(15)
        command.resize(TerminalSize(1, 1))
        command.allow("stdout", 1)
        command.pause()
        command.resume()
        command.end()
        await deferLater(reactor, 0)
        self.assertEqual((notes.endings, notes.taken), ([Exited(3)], 0))

    async def test_without(self) -> None:
        """What is written to a command that cannot be written to is dropped."""
        command, notes = self.shell("cat")
        command.write(b"x")
        command.endInput()
        self.assertEqual(await notes.ended, Exited(0))
        self.assertEqual((notes.out, notes.taken), (b"", 0))


SIZE = TerminalSize(30, 100)


class TerminalTests(ProcessCase):
    told = {"terminal": SIZE}

    async def test_streams(self) -> None:
        """All three streams are the terminal that the command controls, of the told size."""
        line = "for n in 0 1 2; do test -t $n && echo $n; done; stty size </dev/tty; echo err >&2"
        notes = await self.run_(line)
        self.assertEqual(notes.out, b"0\r\n1\r\n2\r\n30 100\r\nerr\r\n")
        self.assertEqual((notes.err, notes.endings), (b"", [Exited(0)]))

    async def test_noDescriptors(self) -> None:
        """No other descriptor reaches the command."""
        self.assertEqual(len(await self.words("exec ls /proc/self/fd")), 4)

    async def test_resize(self) -> None:
        """A new size is the terminal's, and the command learns of it."""
        command, notes = self.shell(
            "trap 'stty size; exit' WINCH; echo on; while :; do read x; done"
        )
        await notes.said(b"on")
        command.resize(TerminalSize(7, 9))
        await notes.ended
        self.assertEqual(notes.out, b"on\r\n7 9\r\n")

    async def test_resizeBeforeItStarts(self) -> None:
        """A size that is changed before the command starts is the one that it finds."""
        command, notes = self.shell("stty size")
        command.resize(TerminalSize(7, 9))
        await notes.ended
        self.assertEqual(notes.out, b"7 9\r\n")

    async def test_input(self) -> None:
        """What is written is echoed and read; its end is seen, after whole lines and within one."""
        for text in (b"one\n", b"one\ntwo", b""):
            command, notes = self.shell("stty -echo; echo on; cat; echo end")
            await notes.said(b"on\r\n")
            command.write(text)
            command.endInput()
            self.assertEqual(await notes.ended, Exited(0))
            shown = b"on\r\n" + text.replace(b"\n", b"\r\n") + b"end\r\n"
            self.assertEqual(bytes(notes.out), shown)
            self.assertEqual(notes.taken, len(text))

    async def test_inputRaw(self) -> None:
        """A terminal that does not read lines gets nothing that was not written."""
        command, notes = self.shell("stty raw -echo; echo on; head -c 3 | od -An -tx1; sleep 1000")
        await notes.said(b"on\n")
        command.write(b"ab")
        command.endInput()
        await deferLater(reactor, 0.1)
        self.assertEqual(notes.out, b"on\n")
        command.end()
        await notes.ended

    async def test_keys(self) -> None:
        """Control-C interrupts what is in the foreground."""
        line = "trap 'echo stopped; exit 3' INT; echo on; while :; do read x; done"
        command, notes = self.shell(line)
        await notes.said(b"on")
        command.write(b"\x03")
        self.assertEqual(await notes.ended, Exited(3))
        self.assertIn(b"stopped", notes.out)

    async def test_signalForeground(self) -> None:
        """A signal reaches the group in the foreground, too, with job control in between."""
        command, notes = self.shell(
            'set -m; trap : USR1; sh -c \'trap "echo told; exit 5" USR1; echo on;'
            " while :; do sleep 0.01; done'; exit $?"
        )
        await notes.said(b"on")
        command.signal(signal.SIGUSR1)
        self.assertEqual(await notes.ended, Exited(5))

    async def test_endsAll(self) -> None:
        """What job control has put into groups of its own ends with the command."""
        command, notes = self.shell(
            "set -m; sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 1000; done' & wait"
        )
        await notes.said(b"\n")
        life = self.watch(int(notes.out.split()[-1]))
        command.end()
        self.assertIsInstance(await notes.ended, Signalled)
        self.assertTrue(life.over())

    async def test_large(self) -> None:
        """A mebibyte arrives whole over a terminal."""
        notes = await self.run_(f"stty -opost; exec head -c {MEBIBYTE} /dev/zero")
        self.assertEqual(len(notes.out), MEBIBYTE)

    async def test_givenUp(self) -> None:
        """A command that closes its terminal and runs on is waited for, and may open it again."""
        notes = await self.run_("exec <&- >&- 2>&-; sleep 0.1; echo late > /dev/tty; exit 4")
        self.assertEqual((notes.endings, notes.out), ([Exited(4)], b"late\r\n"))

    async def test_limits(self) -> None:
        """A terminal and limits go together."""
        notes = await self.run_("ulimit -n", limits=ResourceLimits(openFiles=44))
        self.assertEqual(notes.out, b"44\r\n")

    async def test_descriptors(self) -> None:
        """Terminals leave no descriptor."""
        await self.run_("true")
        await self.settled()
        before = descriptors()
        for _ in range(20):
            await self.run_("true")
        # What was watched is closed in the reactor's next turn.
        await deferLater(reactor, 0)
        self.assertEqual(descriptors(), before)


class EndingTests(ProcessCase):
    async def test_codes(self) -> None:
        """Exit statuses from 0 to 255 are told as they are."""
        for code in (0, 1, 2, 124, 127, 128, 255):
            notes = await self.run_(f"exit {code}")
            self.assertEqual(notes.endings, [Exited(code)])

    async def test_signalled(self) -> None:
        """Death by a signal is told apart from an exit status."""
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGPIPE, signal.SIGUSR1):
            notes = await self.run_(f"kill -{int(number)} $$")
            self.assertEqual(notes.endings, [Signalled(number)])

    async def test_signal(self) -> None:
        """A signal reaches the whole group."""
        line = "sh -c 'trap \"echo child\" USR1; echo on; wait; while :; do sleep 0.01; done' &"
        command, notes = self.shell(f"trap 'echo parent' USR1; {line} while :; do wait; done")
        await notes.said(b"on")
        command.signal(signal.SIGUSR1)
        await gatherResults([notes.said(b"child"), notes.said(b"parent")])
        command.signal(signal.SIGKILL)
        self.assertEqual(await notes.ended, Signalled(signal.SIGKILL))

    async def test_signalAtOnce(self) -> None:
        """A signal that is sent before the command has started reaches it."""
        command, notes = self.shell("exec sleep 1000")
        await deferLater(reactor, 0)
        command.signal(signal.SIGKILL)
        command.end()
        self.assertIsInstance(await notes.ended, Signalled | NotStarted)

    async def test_end(self) -> None:
        """A command that is asked to end gets TERM, and may clean up."""
        self.spawner = self.spawnerFor(killGrace=PATIENCE)
        command, notes = self.shell(
            "trap 'echo cleaned; exit 7' TERM; echo ready; while :; do sleep 1000 & wait; done"
        )
        await notes.said(b"ready")
        command.end()
        self.assertEqual(await notes.ended, Exited(7))
        self.assertEqual(notes.out, b"ready\ncleaned\n")

    async def test_endWholeGroup(self) -> None:
        """All of a command's group ends, its background processes that ignore TERM included."""
        command, notes = self.shell(
            "trap '' TERM; sleep 1000 & echo $!; sleep 1000 >/dev/null 2>&1 & echo $!;"
            " echo $$; echo ready; while :; do sleep 1000; done"
        )
        await notes.said(b"ready")
        lives = [self.watch(int(pid)) for pid in notes.out.split()[:3]]
        self.assertTrue(all(life.on for life in lives))
        command.end()
        self.assertEqual(await notes.ended, Signalled(signal.SIGKILL))
        self.assertTrue(all(life.over() for life in lives))

    async def test_endLeaderAlone(self) -> None:
        """When only the leader obeys TERM, the rest of its group is killed, not waited for."""
        self.spawner = self.spawnerFor(killGrace=PATIENCE)
        command, notes = self.shell(
            """sh -c 'trap "" TERM; echo $$; while :; do sleep 1000; done' & wait"""
        )
        await notes.said(b"\n")
        life = self.watch(int(notes.out))
        command.end()
        self.assertEqual(await notes.ended, Signalled(signal.SIGTERM))
        self.assertTrue(life.over())

    async def test_endFled(self) -> None:
        """What has fled into another session, twice forked and deaf to TERM, ends all the same."""
        for line in ("exec sleep 1000", "sleep 0.1; exit 3"):
            command, notes = self.shell(FLED + line)
            await notes.said(b"\n")
            life = self.watch(int(notes.out))
            self.assertTrue(life.on)
            if "exec" in line:
                command.end()
            await notes.ended
            # By then, not some time after.
            self.assertFalse(life.on)

    async def test_endStopped(self) -> None:
        """A stopped command ends too, by TERM."""
        self.spawner = self.spawnerFor(killGrace=PATIENCE)
        command, notes = self.shell("echo $$; kill -STOP $$; echo never")
        await notes.said(b"\n")
        await self.stopped(notes.pid)
        command.end()
        self.assertEqual(await notes.ended, Signalled(signal.SIGTERM))
        self.assertNotIn(b"never", notes.out)

    async def stopped(self, pid: int) -> None:
        """Wait until a process is stopped."""
        while b"State:\tT" not in Path(f"/proc/{pid}/status").read_bytes():
            await deferLater(reactor, 0.01)

    async def test_endStoppedAndDeaf(self) -> None:
        """A stopped command that ignores TERM is killed."""
        command, notes = self.shell("trap '' TERM; echo $$; while :; do kill -STOP $$; done")
        await notes.said(b"\n")
        await self.stopped(notes.pid)
        command.end()
        self.assertEqual(await notes.ended, Signalled(signal.SIGKILL))

    async def test_endTwice(self) -> None:
        """Asking again, also after the end, changes nothing."""
        command, notes = self.shell("echo ready; exec sleep 1000")
        await notes.said(b"ready")
        command.end()
        command.end()
        await notes.ended
        command.end()
        command.kill()
        self.assertEqual(notes.endings, [Signalled(signal.SIGTERM)])
        self.assertEqual((await self.run_("echo x")).out, b"x\n")

    async def test_endBeforeItStarts(self) -> None:
        """A command that is asked to end before there was anybody to start it never starts."""
        path = os.path.abspath(self.mktemp())
        command, notes = self.shell(f"touch {path}")
        command.end()
        self.assertEqual(notes.endings, [])
        self.assertEqual(await notes.ended, NotStarted(errno.ECANCELED, "run /bin/sh"))
        await self.run_("true")
        self.assertFalse(os.path.exists(path))

    async def test_bomb(self) -> None:
        """A crowd of processes that fork on, each in a session of its own, comes to its end."""
        if os.geteuid() != 0:
            raise SkipTest("Only root can bound it by a user of its own.")
        command, notes = self.launch(
            Launch(
                b"/usr/bin/perl",
                [b"perl", b"-MPOSIX", b"-e", b"while (1) { POSIX::setsid() if fork() == 0 }"],
                ENVIRONMENT,
                account=Account("crowd", 61235, 61235, ()),
                limits=ResourceLimits(processes=80),
            )
        )
        while self.crowd(61235) < 70:
            self.assertEqual(notes.endings, [])
            await deferLater(reactor, 0.01)
        command.end()
        self.assertIsInstance(await notes.ended, Signalled)
        self.assertEqual(self.crowd(61235), 0)

    def crowd(self, uid: int) -> int:
        """Count the processes of a user."""
        count = 0
        for pid, *_ in keeper.processes():
            try:
                count += os.stat(f"/proc/{pid}").st_uid == uid
            except FileNotFoundError:
                continue
        return count


class ClosingTests(SynchronousTestCase):
    """When descriptors are closed."""

    def test_nextTurn(self) -> None:
        """A descriptor that was watched keeps its number for this turn: events of it may be on
        their way, and whoever had the number next would be taken to have ended."""
        ours, its = os.pipe()
        self.addCleanup(os.close, its)
        watching: Any = Clock()
        watching.addReader = watching.removeReader = lambda reader: None
        reader = OutputReader(watching, lambda _: None, *[lambda: None] * 2)
        reader.connect(ours)
        reader.begin()
        reader.allow(1)
        reader.close()
        os.fstat(ours)
        watching.advance(0)
        self.assertRaises(OSError, os.fstat, ours)

    def test_sockets(self) -> None:
        """The same holds for sockets."""
        ours, its = socket.socketpair()
        self.addCleanup(its.close)
        watching: Any = Clock()
        watching.addReader = watching.removeReader = lambda reader: None
        number = ours.fileno()
        channel = supervision.Channel(watching, ours, lambda _: None, lambda: None)
        channel.close()
        os.fstat(number)
        watching.advance(0)
        self.assertRaises(OSError, os.fstat, number)


class FailureTests(ProcessCase):
    async def notStarted(self, launch: Launch) -> tuple[int, str]:
        """Tell why something was not started; its streams are not left open, nor said to wait."""
        await self.run_("true")
        await self.settled()
        before = descriptors()
        _, notes = self.launch(launch)
        self.assertEqual(notes.endings, [])
        ending = await notes.ended
        assert isinstance(ending, NotStarted), ending
        self.assertEqual((notes.pid, notes.waits), (0, 0))
        # What was watched is closed in the reactor's next turn.
        await deferLater(reactor, 0)
        self.assertEqual(descriptors(), before)
        return ending.errno, ending.what

    async def test_program(self) -> None:
        """A program that is not there, or is none, is told apart, and what was tried is named."""
        empty = Path(self.mktemp())
        empty.write_bytes(b"\0\1\2\3")
        empty.chmod(0o755)
        for program, number in (
            ("/nowhere/program", errno.ENOENT),
            ("/etc/passwd", errno.EACCES),
            ("/", errno.EACCES),
            ("/etc/passwd/x", errno.ENOTDIR),
            (str(empty.absolute()), errno.ENOEXEC),
            ("", errno.ENOENT),
        ):
            launch = Launch(program.encode(), [b"x"], {})
            self.assertEqual(await self.notStarted(launch), (number, f"run {program}"))

    async def test_directory(self) -> None:
        """So is a directory that is not there, is gone, or is none."""
        gone = os.path.realpath(self.mktemp())
        os.mkdir(gone)
        await self.run_("true", cwd=gone.encode())
        os.rmdir(gone)
        for cwd, number in (
            ("/nowhere", errno.ENOENT),
            (gone, errno.ENOENT),
            ("/etc/passwd", errno.ENOTDIR),
        ):
            launch = shellLaunch("true", cwd=cwd.encode())
            self.assertEqual(await self.notStarted(launch), (number, f"enter {cwd}"))

    async def test_strings(self) -> None:
        """Strings that no process can have are refused before anything starts."""
        for launch in (
            Launch(b"/bin/echo", [b"echo", b"a\0b"], {}),
            Launch(b"/bin/echo\0", [b"echo"], {}),
            Launch(b"/bin/echo", [b"echo"], {b"A": b"\0"}),
            Launch(b"/bin/echo", [b"echo"], {b"A=B": b"c"}),
            Launch(b"/bin/echo", [b"echo"], {b"": b"c"}),
            Launch(b"/bin/echo", [b"echo"], {}, b"/\0"),
            Launch(b"/bin/echo", [], {}),
            Launch(b"/bin/echo", [b""], {}),
        ):
            number, _ = await self.notStarted(launch)
            self.assertEqual(number, errno.EINVAL, launch)

    async def test_tooLong(self) -> None:
        """An argument that is longer than the system takes, and too many of them, are told so."""
        for argv in ([b"sh", b"-c", b"true " + b"x" * 200_000], [b"sh", *[b"x" * 100_000] * 60]):
            launch = Launch(b"/bin/sh", argv, {})
            self.assertEqual(await self.notStarted(launch), (errno.E2BIG, "run /bin/sh"))
        self.patch(process, "MAX_STRINGS", 1000)
        launch = Launch(b"/bin/sh", [b"sh", b"x" * 1000], {})
        self.assertEqual(await self.notStarted(launch), (errno.E2BIG, "run /bin/sh"))

    async def test_withoutFilesInMemory(self) -> None:
        """Where there are no files in memory, what does not fit into a message is too long."""
        memfd = os.memfd_create
        del os.memfd_create
        self.addCleanup(setattr, os, "memfd_create", memfd)
        launch = Launch(b"/bin/sh", [b"sh", b"x" * 70_000], {})
        self.assertEqual(await self.notStarted(launch), (errno.E2BIG, "run /bin/sh"))

    async def test_noDescriptorsLeft(self) -> None:
        """When descriptors run out half-way, that is told, and those it has are given back."""
        await gatherResults([self.shell("sleep 0.1")[1].ended for _ in range(3)])
        await self.settled()
        large = [b"sh", b"-c", b"true", b"x" * 100_000]
        for told, most in (({}, 4), ({"stdin": True}, 6), ({"terminal": SIZE}, 6)):
            before = descriptors()
            free = os.dup(0)
            os.close(free)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            for more in range(most + 1):
                resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, limits[1]))
                try:
                    _, notes = self.launch(Launch(b"/bin/sh", large, {}, **told))
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                self.assertEqual(await notes.ended, NotStarted(errno.EMFILE, "run /bin/sh"))
            # What was watched is closed in the reactor's next turn.
            await deferLater(reactor, 0)
            self.assertEqual(descriptors(), before)

    async def test_noDescriptorForTheKeeper(self) -> None:
        """So it is when not even the keeper can be started for want of them."""
        free = os.dup(0)
        os.close(free)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        for more in (0, 1, 2):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, limits[1]))
            try:
                _, notes = self.shell("true")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            ending = await notes.ended
            self.assertEqual(ending, NotStarted(errno.EMFILE, mock.ANY, own=mock.ANY))
        self.assertEqual((await self.run_("echo x")).out, b"x\n")

    async def keeperIs(self, *command: str, patience: float = PATIENCE) -> NotStarted:
        """Tell what becomes of a command if this is started in place of the keeper."""
        with (
            mock.patch.object(supervision, "KEEPER_TIMEOUT", patience),
            mock.patch.object(supervision, "keeperCommand", lambda descriptor: list(command)),
            capturedLogs() as events,
        ):
            _, first = self.shell("true")
            _, second = self.shell("true")
            endings = [await first.ended, await second.ended]
        self.assertEqual(endings[0], endings[1])
        assert isinstance(endings[0], NotStarted), endings
        self.assertTrue(endings[0].own)
        # Once for both.
        [logged] = [formatEvent(event) for event in events if event["log_level"] == LogLevel.error]
        self.assertTrue(logged.startswith("No command can be started, as "), logged)
        # And it is not given up for good.
        self.assertEqual((await self.run_("echo x")).out, b"x\n")
        return endings[0]

    async def test_noKeeper(self) -> None:
        """A command is not started when the keeper cannot be."""
        self.assertEqual((await self.keeperIs("/nowhere")).errno, errno.ENOENT)

    async def test_keeperEnds(self) -> None:
        """Nor when the keeper ends at once."""
        self.assertEqual((await self.keeperIs("/bin/false")).errno, errno.ECHILD)

    async def test_keeperHangs(self) -> None:
        """Nor when it does nothing at all, for which nobody waits for ever."""
        ending = await self.keeperIs("/bin/sleep", "1000", patience=0.1)
        self.assertEqual(ending.errno, errno.ETIMEDOUT)
        self.assertEqual(ending.what, "run /bin/sh, as what starts commands did not answer")


class DeathTests(ProcessCase):
    """What is left when those that watch are killed."""

    async def test_supervisor(self) -> None:
        """A command of which the supervisor is killed is lost, and nothing of it is left."""
        _, notes = self.shell(FLED + "echo on; sleep 1000 & wait")
        await notes.said(b"on")
        await notes.said(b"\n")
        await notes.when(lambda: len(notes.out.split()) == 2)
        fled = next(int(word) for word in notes.out.split() if word != b"on")
        lives = [self.watch(notes.pid), self.watch(fled)]
        os.kill(parentOf(notes.pid), signal.SIGKILL)
        self.assertEqual(await notes.ended, Lost())
        self.assertEqual([life.on for life in lives], [False, False])
        self.assertEqual((await self.run_("echo x")).out, b"x\n")

    async def test_idleSupervisor(self) -> None:
        """A supervisor that is killed while it has no command is missed by nobody."""
        command, notes = self.shell("read x", stdin=True)
        await notes.when(lambda: notes.pid > 0)
        supervisor = parentOf(notes.pid)
        command.write(b"\n")
        await notes.ended
        life = self.watch(supervisor)
        os.kill(supervisor, signal.SIGKILL)
        self.assertTrue(life.over())
        # Not heard of yet.
        self.assertEqual((await self.run_("echo x")).out, b"x\n")

    async def test_keeper(self) -> None:
        """When the keeper is killed, what runs goes on; the next command has a new keeper."""
        command, notes = self.shell("echo on; read x; exit 5", stdin=True)
        await notes.said(b"on")
        old = parentOf(parentOf(notes.pid))
        os.kill(old, signal.SIGKILL)
        await until(lambda: self.spawner._pool._keeper is None)
        self.assertEqual(notes.endings, [])
        _, other = self.shell("echo on; exec sleep 1000")
        await other.said(b"on")
        self.assertNotEqual(parentOf(parentOf(other.pid)), old)
        command.write(b"\n")
        self.assertEqual(await notes.ended, Exited(5))

    async def test_keeperUnderWay(self) -> None:
        """A command that waits for a keeper that is killed gets another one."""
        await self.run_("true")
        command, first = self.shell("read x", stdin=True)
        running = [self.shell("exec sleep 0.1")[1] for _ in range(20)]
        await first.when(lambda: first.pid > 0)
        os.kill(parentOf(parentOf(first.pid)), signal.SIGKILL)
        command.write(b"\n")
        for notes in [first, *running]:
            self.assertEqual(await notes.ended, Exited(0))

    async def test_everySignal(self) -> None:
        """No signal that an init system or a terminal sends ends what watches."""
        command, notes = self.shell(
            "trap '' TERM INT HUP QUIT; echo on; read x; exit 5", stdin=True
        )
        await notes.said(b"on")
        supervisor = parentOf(notes.pid)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(supervisor, number)
            os.kill(parentOf(supervisor), number)
        await self.run_("true")
        command.write(b"\n")
        self.assertEqual(await notes.ended, Exited(5))

    def test_server(self) -> None:
        """When the server is killed, nothing of its commands is left, wherever it has gone."""
        script = textwrap.dedent(
            """
            from twisted.internet import reactor
            from tests.rexec.test_process import *
            spawner = ProcessSpawner(reactor, killGrace=0.2)
            class Show(Notes):
                def outReceived(self, data):
                    os.write(1, data)
                    self.command.write(b"\\n")
            def go(**told):
                lines = [
                    FLED + "sleep 1000",
                    "trap '' TERM; echo $$; while :; do sleep 1000; done",
                    "echo $$; sleep 1000 >/dev/null & echo $!; kill -STOP $$",
                    "echo $$; sleep 1000 & echo $!; read x; kill -STOP $PPID; wait",
                ]
                for line in lines:
                    show = Show()
                    show.command = spawner(shellLaunch(line, stdin=True, **told), show)
                    show.command.allow("stdout", UNBOUNDED)
            go()
            go(limits=ResourceLimits(openFiles=100))
            reactor.run()
            """
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as server:
            self.addCleanup(server.kill)
            assert server.stdout is not None
            pids = [int(server.stdout.readline()) for _ in range(12)]
            lives = [self.watch(pid) for pid in pids]
            supervisors = {self.watch(parentOf(pid)) for pid in pids}
            self.assertTrue(all(life.on for life in lives))
            server.kill()
        self.assertTrue(all(life.over() for life in [*lives, *supervisors]))

    def test_serverStops(self) -> None:
        """Nor when the reactor stops first, and what watches was stopped by a command."""
        script = textwrap.dedent(
            """
            from twisted.internet import reactor
            from tests.rexec.test_process import *
            spawner = ProcessSpawner(reactor)
            class Show(Notes):
                def outReceived(self, data):
                    os.write(1, data)
                    command.write(b"\\n")
            line = "echo $$; sleep 1000 & echo $!; read x; kill -STOP $PPID; wait"
            command = spawner(shellLaunch(line, stdin=True), Show())
            command.allow("stdout", UNBOUNDED)
            reactor.run()
            """
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as server:
            self.addCleanup(server.kill)
            assert server.stdout is not None
            pids = [int(server.stdout.readline()) for _ in range(2)]
            supervisor = parentOf(pids[0])
            lives = [self.watch(pid) for pid in (*pids, supervisor, parentOf(supervisor))]
            server.terminate()
        self.assertTrue(all(life.over() for life in lives))

    def test_serverAndKeeper(self) -> None:
        """Nor when the keeper goes with it, as when a whole group is killed."""
        script = textwrap.dedent(
            """
            from twisted.internet import reactor
            from tests.rexec.test_process import *
            spawner = ProcessSpawner(reactor)
            class Show(Notes):
                def outReceived(self, data):
                    os.write(1, data)
            command = spawner(shellLaunch(FLED + "echo $$; exec sleep 1000"), Show())
            command.allow("stdout", UNBOUNDED)
            reactor.run()
            """
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as server:
            self.addCleanup(server.kill)
            assert server.stdout is not None
            pids = [int(server.stdout.readline()) for _ in range(2)]
            lives = [self.watch(pid) for pid in pids]
            [child] = [pid for pid, parent, _, _ in keeper.processes() if parent == server.pid]
            os.kill(child, signal.SIGKILL)
            server.kill()
        self.assertTrue(all(life.over() for life in lives))


class StoppedTests(ProcessCase):
    """What becomes of commands that stop those who watch them."""

    def setUp(self) -> None:
        super().setUp()
        for module in (process, supervision):
            self.patch(module, "SWEEP_LIMIT", 0.5)

    async def begin(self, line: str) -> tuple[CommandProcess, Notes, Life]:
        """Start a line that leaves a process in the background, and let it do its work."""
        command, notes = self.shell(
            "K=$(cut -d' ' -f4 /proc/$PPID/stat); sleep 1000 >/dev/null 2>&1 & echo $!;"
            f" read x; {line}; wait",
            stdin=True,
        )
        await notes.said(b"\n")
        # Not before: one that is stopped does not say that it has started a command.
        command.write(b"\n")
        return command, notes, self.watch(int(notes.out))

    async def halted(self, pid: int) -> None:
        """Wait until a process is stopped."""
        await until(lambda: b"State:\tT" in Path(f"/proc/{pid}/status").read_bytes())

    async def test_supervisor(self) -> None:
        """One that stops its supervisor is ended all the same, with all that it started."""
        for ask in (CommandProcess.end, CommandProcess.kill):
            command, notes, life = await self.begin("kill -STOP $PPID")
            await self.halted(parentOf(notes.pid))
            ask(command)
            self.assertEqual(await notes.ended, Lost())
            self.assertFalse(life.on)
        self.assertEqual((await self.run_("echo x")).out, b"x\n")

    async def test_atOnce(self) -> None:
        """One that does so before it is said to have started is given up after a while."""
        self.patch(process, "START_LIMIT", 0.2)
        started = CommandProcess.started
        self.patch(CommandProcess, "started", lambda command, pid: None)
        for word in ("STOP", "KILL"):
            _, notes = self.shell(f"echo x; kill -{word} $PPID; exec sleep 1000")
            self.assertEqual(await notes.ended, Lost())
            self.assertEqual((notes.pid, notes.out), (0, b""))
        self.patch(CommandProcess, "started", started)
        self.assertEqual((await self.run_("sleep 0.3; echo x")).out, b"x\n")

    async def test_keeper(self) -> None:
        """So is one that stops the keeper and kills its supervisor."""
        _, notes, life = await self.begin("kill -STOP $K; kill -KILL $PPID")
        self.assertEqual(await notes.ended, Lost())
        self.assertFalse(life.on)
        self.assertEqual((await self.run_("echo x")).out, b"x\n")

    async def test_both(self) -> None:
        """So is one that stops both."""
        command, notes, life = await self.begin("kill -STOP $K; kill -STOP $PPID")
        await self.halted(parentOf(notes.pid))
        command.end()
        self.assertEqual(await notes.ended, Lost())
        self.assertFalse(life.on)

    async def test_stop(self) -> None:
        """Stopping the spawner ends both, and what they watched."""
        _, notes, life = await self.begin("kill -STOP $K; kill -STOP $PPID")
        supervisor = parentOf(notes.pid)
        lives = [life, self.watch(supervisor), self.watch(parentOf(supervisor))]
        await self.halted(supervisor)
        await self.spawner.stop()
        self.assertEqual(notes.endings, [Lost()])
        self.assertEqual([life.on for life in lives], [False] * 3)

    async def test_idle(self) -> None:
        """So it does with those that have no command."""
        await self.run_("true")
        await self.settled()
        assert self.spawner._pool._keeper is not None
        child = self.spawner._pool._keeper._process.pid
        lives = [self.watch(pid) for pid in (child, *keeper.childrenOf(child))]
        for pid in (child, *keeper.childrenOf(child)):
            os.kill(pid, signal.SIGSTOP)
        await self.spawner.stop()
        self.assertTrue(all(life.over() for life in lives))

    async def test_keeperThenSupervisor(self) -> None:
        """Where the keeper was killed before the supervisor, nobody says that nothing is left."""
        _, notes, _ = await self.begin("read x")
        supervisor = parentOf(notes.pid)
        os.kill(parentOf(supervisor), signal.SIGKILL)
        await until(lambda: self.spawner._pool._keeper is None)
        os.kill(supervisor, signal.SIGKILL)
        self.assertEqual(await notes.ended, Lost(clear=False))
        self.watch(notes.pid)


class BrokenTests(ProcessCase):
    """What becomes of commands of which the receiver fails."""

    def breaking(self, line: str, *names: str, **told: Any) -> tuple[CommandProcess, Notes]:
        """Run a line for a receiver that fails when it is told these."""
        notes = Notes()

        def fail(*args: object) -> None:
            raise ZeroDivisionError

        for name in names:
            self.patch(notes, name, mock.Mock(side_effect=fail))
        command = self.spawner(shellLaunch(line, **told), notes)
        command.allow("stdout", UNBOUNDED)
        command.allow("stderr", UNBOUNDED)
        return command, notes

    def assertLogged(self, count: int = 1) -> None:
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), count)

    async def test_output(self) -> None:
        """Output that could not be taken is never followed by an end that seems well."""
        for line in ("echo x; exit 0", "exec yes", "echo x; exec >&- 2>&-; sleep 1000"):
            for name, redirection in (("outReceived", ""), ("errReceived", "exec >&2;")):
                for told in ({}, {"stdin": True}):
                    _, notes = self.breaking(redirection + line, name, **told)
                    self.assertEqual(await notes.ended, Lost(), line)
                    self.assertEqual(getattr(notes, name).call_count, 1)
                    self.assertLogged()
        self.assertEqual((await self.run_("echo x")).out, b"x\n")

    async def test_terminal(self) -> None:
        """Nor is that of a terminal."""
        _, notes = self.breaking("echo x; exit 0", "outReceived", terminal=SIZE)
        self.assertEqual(await notes.ended, Lost())
        self.assertLogged()

    async def test_started(self) -> None:
        """A command whose start could not be taken is killed."""
        _, notes = self.breaking("exec sleep 1000", "started")
        self.assertEqual(await notes.ended, Lost())
        self.assertLogged()

    async def test_input(self) -> None:
        """A command whose input breaks off for our own fault never reads an end of it."""
        path = os.path.abspath(self.mktemp())
        command, notes = self.breaking(f"cat; touch {path}", "stdinTaken", stdin=True)
        command.write(b"x" * MEBIBYTE)
        command.endInput()
        self.assertEqual(await notes.ended, Lost())
        self.assertLogged()
        self.assertFalse(os.path.exists(path))
        command, notes = self.breaking("exec <&-; exec sleep 1000", "stdinLost", stdin=True)
        command.write(b"x" * MEBIBYTE)
        self.assertEqual(await notes.ended, Lost())
        self.assertLogged()

    async def test_end(self) -> None:
        """That an end could not be taken is no matter of the next command's."""
        _, notes = self.breaking("read x", "commandEnded", stdin=True)
        await notes.when(lambda: notes.pid > 0)
        os.kill(notes.pid, signal.SIGKILL)
        running = [self.shell("echo x")[1] for _ in range(8)]
        for other in running:
            self.assertEqual(await other.ended, Exited(0))
        await until(lambda: notes.commandEnded.called)  # type: ignore[attr-defined]
        self.assertLogged()
        await self.spawner.stop()

    async def test_reactor(self) -> None:
        """A pipe that the reactor gives up for a fault has not come to its end."""
        for pick in (lambda command: command._out, lambda command: command._in):
            command, notes = self.shell("echo on; exec cat", stdin=True)
            await notes.said(b"on")
            pick(command).connectionLost(Failure(ZeroDivisionError()))
            pick(command).connectionLost(Failure(ZeroDivisionError()))
            self.assertEqual(await notes.ended, Lost())

    async def test_reactorNoticesTheEnd(self) -> None:
        """One that has ended has, without a read."""
        command, notes = self.shell("echo on; read x; exit 3", stdin=True)
        await notes.said(b"on")
        command._out.connectionLost(Failure(ConnectionDone()))
        command._in.connectionLost(Failure(ConnectionLost()))
        self.assertEqual((await notes.ended, notes.losses), (Exited(3), 1))


class PoolTests(SynchronousTestCase):
    """The pool without processes."""

    def setUp(self) -> None:
        self.clock = LateReactor()
        self.far: list[socket.socket] = []
        self.process = mock.Mock()
        self.process.poll.return_value = None
        self.patch(subprocess, "Popen", self.open)
        self.patch(supervision.KeeperProcess, "_tell", self.tell)
        self.pool = supervision.SupervisorPool(self.clock)
        self.pool.run(mock.Mock())

    def open(self, arguments: list[str], **told: Any) -> mock.Mock:
        """Begin a process that is none."""
        self.far.append(socket.socket(fileno=os.dup(int(arguments[-1]))))
        return self.process

    def tell(self, message: bytes, descriptors: Sequence[int] = ()) -> bool:
        """Take what a keeper is told."""
        self.far += [socket.socket(fileno=os.dup(each)) for each in descriptors]
        return True

    def close(self) -> None:
        """End all that is far."""
        for end in self.far:
            end.close()

    def test_readyWhileStopping(self) -> None:
        """What comes while all stops does not let the stop go on for ever."""
        stopped = self.pool.stop()
        self.far[1].send(b"ready 7 1")
        self.clock.look("commands")
        self.process.poll.return_value = 0
        self.assertNoResult(stopped)
        self.clock.advance(supervision.SWEEP_LIMIT)
        self.successResultOf(stopped)
        self.assertEqual((self.clock.getDelayedCalls(), self.clock.readers), ([], []))
        self.close()

    def test_unreapable(self) -> None:
        """A keeper that the kernel does not let go halts nobody, and is given up after a while."""
        self.close()
        while self.clock.readers:
            self.clock.look("commands")
        self.process.wait.assert_not_called()
        self.pool._waiting.clear()
        stopped = self.pool.stop()
        self.clock.advance(0)
        self.assertNoResult(stopped)
        self.clock.pump([0.1] * 100)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StopTests(ProcessCase):
    async def test_all(self) -> None:
        """Stopping kills what runs, and lets no process and no descriptor stay."""
        await self.settled()
        before = descriptors()
        _, notes = self.shell("trap '' TERM; echo $$; while :; do sleep 1000; done")
        await notes.said(b"\n")
        supervisor = parentOf(notes.pid)
        lives = [self.watch(pid) for pid in (notes.pid, supervisor, parentOf(supervisor))]
        _, waiting = self.shell("sleep 1000", allowed=0)
        await self.spawner.stop()
        self.assertEqual([life.on for life in lives], [False] * 3)
        self.assertEqual(notes.endings, [Signalled(signal.SIGKILL)])
        self.assertEqual(len(waiting.endings), 1)
        for life in lives:
            life.kill()
        self._cleanups.clear()
        # What was watched is closed in the reactor's next turn.
        await deferLater(reactor, 0)
        self.assertEqual(descriptors(), before)

    async def test_nothing(self) -> None:
        """One that was never used has nothing to stop; nor has one that is stopped twice."""
        await self.spawner.stop()
        await self.run_("true")
        await gatherResults([self.spawner.stop(), self.spawner.stop()])
        await self.spawner.stop()

    async def test_whileStopping(self) -> None:
        """Nothing is started while it stops; after that, it is."""
        await self.run_("true")
        stopped = self.spawner.stop()
        _, notes = self.shell("true")
        ending = await notes.ended
        self.assertEqual(
            ending, NotStarted(errno.ESHUTDOWN, "run /bin/sh, as the service is stopping")
        )
        await stopped
        self.assertEqual((await self.run_("echo x")).out, b"x\n")

    async def test_waiting(self) -> None:
        """Commands that nobody has started yet never are."""
        running = [self.shell("exec sleep 1000")[1] for _ in range(20)]
        await self.spawner.stop()
        for notes in running:
            self.assertEqual(len(notes.endings), 1)

    async def test_refusedMeanwhile(self) -> None:
        """Those that come while it stops are told that they are too late before it has stopped."""
        await self.run_("true")
        await self.settled()
        stopped = self.spawner.stop()
        many = [self.shell("true")[1] for _ in range(3)]
        many[0].ended.addCallback(lambda _: many.append(self.shell("true")[1]))
        await gatherResults([stopped, self.spawner.stop()])
        for notes in many:
            [ending] = notes.endings
            assert isinstance(ending, NotStarted)
            self.assertEqual((ending.errno, ending.own), (errno.ESHUTDOWN, False))
        self.assertEqual(len(many), 4)
        self.assertEqual((await self.run_("echo x")).out, b"x\n")


class LeakTests(ProcessCase):
    async def test_manyCommands(self) -> None:
        """A hundred commands leave no descriptor and no process."""
        await gatherResults([self.shell("sleep 0.1")[1].ended for _ in range(2)])
        await self.settled()
        before, children = descriptors(), keeper.children()
        for number in range(100):
            told = {"limits": ResourceLimits(openFiles=99)} if number % 10 == 0 else {}
            await self.run_("echo $$", **told)
        # What was watched is closed in the reactor's next turn.
        await deferLater(reactor, 0)
        self.assertEqual(descriptors(), before)
        self.assertEqual(keeper.children(), children)

    async def test_atOnce(self) -> None:
        """A hundred commands at once are told apart, and leave only what is kept warm."""
        await self.run_("true")
        await self.settled()
        before = descriptors()
        running = [self.shell(f"echo {number}; exit {number}")[1] for number in range(100)]
        for number, notes in enumerate(running):
            self.assertEqual(await notes.ended, Exited(number))
            self.assertEqual(notes.out, b"%d\n" % number)
        sleeping = [self.shell("read x", stdin=True) for _ in range(30)]
        for _, notes in sleeping:
            await notes.when(lambda: notes.pid > 0)  # noqa: B023
        for command, _ in sleeping:
            command.endInput()
        await gatherResults([notes.ended for _, notes in sleeping])
        await until(lambda: descriptors() <= before + supervision.WARM)


#: A program that does a little of everything, under the reactor that it is told.
EVERYTHING = """
import sys
from twisted.application.reactors import installReactor
reactor = installReactor(sys.argv[1])
from tests.rexec.test_process import *

async def main():
    spawner = ProcessSpawner(reactor, 0.05, 0.05)
    async def run(line, **told):
        notes = Notes()
        command = spawner(shellLaunch(line, **told), notes)
        command.allow("stdout", UNBOUNDED)
        command.allow("stderr", UNBOUNDED)
        if told.get("stdin"):
            command.write(b"x" * 1000000)
            command.endInput()
        await notes.ended
        return len(notes.out), len(notes.err), notes.endings
    print(await run("echo out; echo err >&2; exit 3"))
    print(await run("cat; exit 4", stdin=True))
    print(await run("exec <&-; sleep 0.1; exit 5", stdin=True))
    print(await run("sleep 1000 & exit 6"))
    print(await run("stty size", terminal=SIZE))
    print(await run("head -c 1000000 /dev/zero; kill -9 $$"))
    stalled = Notes()
    command = spawner(shellLaunch("yes"), stalled)
    before = os.times()
    await deferLater(reactor, 0.3)
    after = os.times()
    assert after.user + after.system - before.user - before.system < 0.1
    command.end()
    print(await stalled.ended)
    await spawner.stop()
    assert not keeper.children()

def run():
    done = Deferred.fromCoroutine(main())
    done.addErrback(lambda failure: failure.printTraceback(sys.stdout))
    done.addBoth(lambda _: reactor.stop())

reactor.callWhenRunning(run)
reactor.run()
"""


class ReactorTests(TestCase):
    timeout = 60

    def begin(self, name: str) -> subprocess.Popen[str]:
        running = subprocess.Popen(
            [sys.executable, "-c", EVERYTHING, name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(running.kill)
        return running

    def test_every(self) -> None:
        """Commands are the same under every reactor that Twisted has for Linux."""
        expected = (
            "(4, 4, [Exited(code=3)])\n"
            "(1000000, 0, [Exited(code=4)])\n"
            "(0, 0, [Exited(code=5)])\n"
            "(0, 0, [Exited(code=6)])\n"
            "(8, 0, [Exited(code=0)])\n"
            "(1000000, 0, [Signalled(number=9, core=False)])\n"
            "Signalled(number=15, core=False)\n"
        )
        names = ("epoll", "poll", "select", "asyncio")
        for name, running in [(name, self.begin(name)) for name in names]:
            self.assertEqual(running.communicate(timeout=50), (expected, ""), name)


class LateReactor(Clock):
    """A reactor on which a test says what is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def addWriter(self, writer: Any) -> None:
        """Nothing is written in these tests."""

    removeWriter = addWriter

    def look(self, name: str) -> None:
        """Wait until there is something to read, and read all there is, of these readers."""
        chosen = [reader for reader in self.readers if reader.logPrefix() == name]
        ready = select.select(chosen, [], [], PATIENCE)[0]
        assert ready
        for reader in ready:
            reader.doRead()


class LateTests(TestCase):
    """What happens when the server is too busy to look at everything in time."""

    timeout = 60

    def setUp(self) -> None:
        self.late = LateReactor()
        self.spawner = ProcessSpawner(self.late, drainLimit=0.5)
        self.addCleanup(self.stop)

    def stop(self) -> None:
        keepers = self.spawner._pool._keepers
        lives = [Life(each._process.pid) for each in keepers if each._process is not None]
        for life in lives:
            self.addCleanup(life.kill)
        stopped = self.spawner.stop()
        while not stopped.called:
            self.late.advance(1)
            if any(reader.logPrefix() == "commands" for reader in self.late.readers):
                self.late.look("commands")
            else:
                # The last one has closed its socket, and may have some microseconds to go.
                self.assertTrue(all(life.over() for life in lives))
        self.late.advance(0)
        self.assertEqual(self.late.readers, [])
        self.assertEqual(self.late.getDelayedCalls(), [])

    def shell(self, line: str) -> tuple[CommandProcess, Notes]:
        notes = Notes()
        command = self.spawner(shellLaunch(line), notes)
        command.allow("stdout", UNBOUNDED)
        command.allow("stderr", UNBOUNDED)
        while not notes.pid:
            self.late.look("commands")
        return command, notes

    def test_lastWords(self) -> None:
        """What a command wrote is not lost when the server is too busy to read it in time."""
        command, notes = self.shell("sleep 1000 & echo out; echo err >&2")
        while command._ending is None:
            self.late.look("commands")
        self.late.advance(0.5)
        while not command._clear:
            self.late.look("commands")
        self.assertEqual((notes.endings, notes.out), ([], b""))
        self.late.advance(0.5)
        self.assertEqual(notes.endings, [Exited(0)])
        self.assertEqual((notes.out, notes.err), (b"out\n", b"err\n"))

    def test_lastWordsNotTaken(self) -> None:
        """Nor is it well when those cannot be taken."""
        command, notes = self.shell("sleep 1000 & echo out; echo err >&2")
        while command._ending is None:
            self.late.look("commands")
        self.late.advance(0.5)
        while not command._clear:
            self.late.look("commands")
        self.patch(notes, "_look", mock.Mock(side_effect=[ZeroDivisionError, None]))
        self.late.advance(0.5)
        self.assertEqual(notes.endings, [Lost()])
        self.assertEqual((notes.out, notes.err), (b"out\n", b""))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_drainLimit(self) -> None:
        """What a command left behind has the drain limit, and no less."""
        command, notes = self.shell("sleep 1000 & exit 3")
        while command._ending is None:
            self.late.look("commands")
        life = Life(next(p for p, _, group, _ in keeper.processes() if group == notes.pid))
        self.addCleanup(life.kill)
        self.late.advance(0.49)
        self.assertFalse(command._sweeping)
        self.late.advance(0.02)
        self.assertTrue(command._sweeping)

    def test_endWhileDraining(self) -> None:
        """A command whose leader has gone can still be asked to end, and takes no longer."""
        command, notes = self.shell("sleep 1000 & exit 3")
        while command._ending is None:
            self.late.look("commands")
        command.end()
        while not command._clear:
            self.late.look("commands")
        self.late.advance(0.5)
        self.assertEqual(notes.endings, [Exited(3)])

    def test_sleepsInTheKernel(self) -> None:
        """A command that KILL does not end is given up after a while."""
        command, notes = self.shell("exec sleep 1000")
        life = Life(notes.pid)
        self.addCleanup(life.kill)
        command.end()
        self.late.advance(keeper.KILL_GRACE + supervision.SWEEP_LIMIT)
        self.assertEqual(notes.endings, [])
        self.late.advance(supervision.SWEEP_LIMIT)
        self.assertEqual(notes.endings, [Lost(clear=False)])
        self.assertTrue(life.over())

    def test_endLimit(self) -> None:
        """The end of a command that was asked to end is told in time, whoever does not answer."""
        command, notes = self.shell("echo out; exec sleep 1000")
        life = Life(notes.pid)
        self.addCleanup(life.kill)
        command.pause()
        self.assertTrue(select.select([command._out], [], [], PATIENCE)[0])
        command.end()
        # Each begins with the end of the one before.
        waits = (keeper.KILL_GRACE, supervision.SWEEP_LIMIT, supervision.SWEEP_LIMIT)
        for seconds in (*waits, process.DRAIN_LIMIT):
            self.assertEqual(notes.endings, [])
            self.late.advance(seconds)
        self.assertEqual(notes.endings, [Lost(clear=False)])
        self.assertEqual(sum(waits) + process.DRAIN_LIMIT, process.END_LIMIT)

    def test_restSleepsInTheKernel(self) -> None:
        """So is what it left behind, and then its own end is told."""
        command, notes = self.shell("sleep 1000 & exit 3")
        while command._ending is None:
            self.late.look("commands")
        self.late.advance(0.5)
        self.assertTrue(command._sweeping)
        self.late.advance(supervision.SWEEP_LIMIT)
        self.assertEqual(notes.endings, [])
        self.late.advance(supervision.SWEEP_LIMIT)
        self.assertEqual(notes.endings, [Exited(3)])
