"""Commands as real processes: what they get, how they end, and that nothing of them stays."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
from typing import Any
from unittest import mock

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from twisted_netsuite.rexec import process
from twisted_netsuite.rexec.process import (
    CommandProcess,
    Ending,
    Exited,
    ProcessSpawner,
    Signalled,
)

reactor: Any = _reactor

#: Seconds after which a process that ought to be gone is given up; it is never waited for in full.
PATIENCE = 20

ENVIRONMENT = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}


class Notes:
    """
    Notes what a command writes.

    @ivar ended: fires with how it ended.
    @ivar endings: every ending that was reported.
    """

    def __init__(self) -> None:
        self.out = bytearray()
        self.err = bytearray()
        self.ended: Deferred[Ending] = Deferred()
        self.endings: list[Ending] = []
        self._awaited: list[tuple[bytes, Deferred[None]]] = []

    def outReceived(self, data: bytes) -> None:
        self.out += data
        for words, seen in list(self._awaited):
            if words in self.out:
                self._awaited.remove((words, seen))
                seen.callback(None)

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def commandEnded(self, ending: Ending) -> None:
        self.endings.append(ending)
        self.ended.callback(ending)

    def said(self, words: bytes) -> Deferred[None]:
        """Fire once the command has written this to stdout."""
        seen: Deferred[None] = Deferred()
        self._awaited.append((words, seen))
        self.outReceived(b"")
        return seen


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


class ProcessCase(TestCase):
    """Runs shell lines as processes."""

    timeout = 60

    def setUp(self) -> None:
        self.spawner = ProcessSpawner(reactor, drainLimit=0.05)

    def shell(self, line: str) -> tuple[CommandProcess, Notes]:
        notes = Notes()
        command = self.spawner([b"/bin/sh", b"-c", line.encode()], ENVIRONMENT, notes)
        return command, notes

    async def run_(self, line: str) -> Notes:
        """Run a line to its end."""
        _, notes = self.shell(line)
        await notes.ended
        return notes

    def watch(self, pid: int) -> Life:
        life = Life(pid)
        self.addCleanup(life.kill)
        return life


class SurroundingsTests(ProcessCase):
    async def test_sessionAndGroup(self) -> None:
        """A command leads a session and a process group of its own."""
        notes = await self.run_("echo $$; cut -d' ' -f5,6 /proc/$$/stat")
        pid, group, session = map(int, notes.out.split())
        self.assertEqual((group, session), (pid, pid))
        self.assertNotEqual(group, os.getpgrp())

    async def test_stdin(self) -> None:
        """Standard input is /dev/null: a command that reads it sees its end at once."""
        reading, writing = os.pipe()
        ours = os.dup(0)
        os.dup2(reading, 0)
        try:
            _, notes = self.shell("readlink /proc/self/fd/0; cat; echo done")
        finally:
            os.dup2(ours, 0)
            for descriptor in (ours, reading, writing):
                os.close(descriptor)
        await notes.ended
        self.assertEqual(notes.out, b"/dev/null\ndone\n")

    async def test_noDescriptors(self) -> None:
        """No descriptor of the server but the three standard ones reaches a command."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        os.set_inheritable(writing, True)
        notes = await self.run_("exec ls /proc/self/fd")
        # ls itself has one open, for the directory that it lists.
        self.assertEqual(len(notes.out.split()), 4, notes.out)
        self.assertEqual(notes.out.split()[:3], [b"0", b"1", b"2"])

    async def test_environment(self) -> None:
        """The environment is the one that was given, and nothing of the server's."""
        notes = Notes()
        with mock.patch.dict(os.environ, SECRET_TOKEN="x"):
            self.spawner([b"/usr/bin/env"], {"ONE": "1", "TWO": "2"}, notes)
        await notes.ended
        self.assertEqual(sorted(bytes(notes.out).split()), [b"ONE=1", b"TWO=2"])

    async def test_signals(self) -> None:
        """A command does not inherit that the server ignores SIGPIPE."""
        notes = await self.run_("grep SigIgn /proc/self/status")
        ignored = int(notes.out.split()[1], 16)
        self.assertFalse(ignored & 1 << signal.SIGPIPE - 1)

    async def test_arguments(self) -> None:
        """Arguments arrive byte for byte, without a shell in between."""
        notes = Notes()
        self.spawner([b"/usr/bin/printf", b"%s|", b"$HOME;`id`", b"\xff", b"-x"], {}, notes)
        await notes.ended
        self.assertEqual(notes.out, b"$HOME;`id`|\xff|-x|")


class OutputTests(ProcessCase):
    async def test_apart(self) -> None:
        """stdout and stderr are kept apart."""
        notes = await self.run_("echo out; echo err >&2; echo out2")
        self.assertEqual((notes.out, notes.err), (b"out\nout2\n", b"err\n"))

    async def test_large(self) -> None:
        """A mebibyte on each of both streams arrives whole, without a deadlock."""
        mebibyte = 1024 * 1024
        line = f"head -c {mebibyte} /dev/zero & head -c {mebibyte} /dev/zero >&2; wait"
        notes = await self.run_(line)
        self.assertEqual(len(notes.out), mebibyte)
        self.assertEqual(len(notes.err), mebibyte)

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

    async def test_heldFromAnotherSession(self) -> None:
        """A process that fled into another session and holds stdout does not delay it longer."""
        self.patch(process, "KILL_GRACE", 0.05)
        command, notes = self.shell("setsid sh -c 'echo $$; exec sleep 1000' & exec sleep 1000")
        await notes.said(b"\n")
        life = self.watch(int(notes.out))
        command.end()
        self.assertEqual(await notes.ended, Signalled(signal.SIGTERM))
        self.assertTrue(life.on)

    async def test_nothingLeftBehind(self) -> None:
        """A background process that holds nothing is ended with the command that started it."""
        line = "trap 'exit 4' USR1; sleep 1000 >/dev/null 2>&1 & echo $$ $!; wait"
        _, notes = self.shell(line)
        await notes.said(b"\n")
        leader, background = map(int, notes.out.split())
        life = self.watch(background)
        os.kill(leader, signal.SIGUSR1)
        self.assertEqual(await notes.ended, Exited(4))
        self.assertTrue(life.over())


class EndingTests(ProcessCase):
    async def test_codes(self) -> None:
        """Exit statuses from 0 to 255 are told as they are."""
        for code in (0, 1, 2, 124, 127, 128, 255):
            notes = await self.run_(f"exit {code}")
            self.assertEqual(notes.endings, [Exited(code)])

    async def test_signalled(self) -> None:
        """Death by a signal is told apart from an exit status."""
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
            notes = await self.run_(f"kill -{int(number)} $$")
            self.assertEqual(notes.endings, [Signalled(number)])

    async def test_end(self) -> None:
        """A command that is asked to end gets TERM, and may clean up."""
        command, notes = self.shell(
            "trap 'echo cleaned; exit 7' TERM; echo ready; while :; do sleep 1000 & wait; done"
        )
        await notes.said(b"ready")
        command.end()
        self.assertEqual(await notes.ended, Exited(7))
        self.assertEqual(notes.out, b"ready\ncleaned\n")

    async def test_endWholeGroup(self) -> None:
        """All of a command's group ends, its background processes that ignore TERM included."""
        self.patch(process, "KILL_GRACE", 0.05)
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
        """When only the leader obeys TERM, the rest of its group is killed."""
        self.patch(process, "KILL_GRACE", 0.05)
        command, notes = self.shell(
            """sh -c 'trap "" TERM; echo $$; while :; do sleep 1000; done' & wait"""
        )
        await notes.said(b"\n")
        life = self.watch(int(notes.out))
        command.end()
        self.assertEqual(await notes.ended, Signalled(signal.SIGTERM))
        self.assertTrue(life.over())

    async def test_endStopped(self) -> None:
        """A stopped command ends too."""
        command, notes = self.shell("echo $$; kill -STOP $$; echo never")
        await notes.said(b"\n")
        os.waitid(os.P_PID, int(notes.out), os.WSTOPPED | os.WNOWAIT)
        command.end()
        self.assertEqual(await notes.ended, Signalled(signal.SIGTERM))
        self.assertNotIn(b"never", notes.out)

    async def test_endStoppedAndDeaf(self) -> None:
        """A stopped command that ignores TERM is killed."""
        self.patch(process, "KILL_GRACE", 0.05)
        command, notes = self.shell("trap '' TERM; echo $$; while :; do kill -STOP $$; done")
        await notes.said(b"\n")
        os.waitid(os.P_PID, int(notes.out), os.WSTOPPED | os.WNOWAIT)
        command.end()
        self.assertEqual(await notes.ended, Signalled(signal.SIGKILL))

    async def test_endTwice(self) -> None:
        """Asking again, also after the end, changes nothing."""
        command, notes = self.shell("echo ready; exec sleep 1000")
        await notes.said(b"ready")
        command.end()
        command.end()
        await notes.ended
        sent: list[int] = []
        self.patch(os, "killpg", lambda pid, number: sent.append(number))
        command.end()
        self.assertEqual(sent, [])
        self.assertEqual(notes.endings, [Signalled(signal.SIGTERM)])

    async def test_endAfterTheEnd(self) -> None:
        """Asking a command to end that has ended by itself signals nobody."""
        command, notes = self.shell("exit 3")
        await notes.ended
        sent: list[int] = []
        self.patch(os, "killpg", lambda pid, number: sent.append(pid))
        command.end()
        self.assertEqual(sent, [])

    async def test_reapedLast(self) -> None:
        """The leader is there, if only as a zombie, whenever its group is signalled."""
        self.patch(process, "KILL_GRACE", 0.05)
        killpg = os.killpg
        states: list[bool] = []

        def noting(pid: int, number: int) -> None:
            states.append(os.path.exists(f"/proc/{pid}"))
            killpg(pid, number)

        self.patch(os, "killpg", noting)
        await self.run_("sleep 1000 & exit 3")
        command, notes = self.shell("trap '' TERM; echo ready; while :; do sleep 1000; done")
        await notes.said(b"ready")
        command.end()
        await notes.ended
        self.assertGreaterEqual(len(states), 4)
        self.assertTrue(all(states))


class LateReactor(Clock):
    """A reactor that was busy: nothing is read until a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)


class LateTests(ProcessCase):
    def setUp(self) -> None:
        self.late = LateReactor()
        self.spawner = ProcessSpawner(self.late, drainLimit=0.5)

    @property
    def leader(self) -> Any:
        """What watches for the leader's end."""
        (reader,) = (reader for reader in self.late.readers if reader.logPrefix() == "exit")
        return reader

    def leaderEnds(self) -> None:
        """Wait for the leader's end, and let it be noticed, but nothing else."""
        self.assertTrue(select.select([self.leader], [], [], PATIENCE)[0])
        self.leader.doRead()

    def test_lastWords(self) -> None:
        """What a command wrote is not lost when the server is too busy to read it in time."""
        _, notes = self.shell("sleep 1000 & echo out; echo err >&2")
        self.leaderEnds()
        self.assertEqual(notes.endings, [])
        self.late.advance(0.5)
        self.assertEqual(notes.endings, [Exited(0)])
        self.assertEqual((notes.out, notes.err), (b"out\n", b"err\n"))
        self.assertEqual(self.late.readers, [])
        self.assertEqual(self.late.getDelayedCalls(), [])

    def test_endWhileDraining(self) -> None:
        """A command whose leader has gone can still be asked to end, and takes no longer."""
        command, notes = self.shell("sleep 1000 & exit 3")
        self.leaderEnds()
        command.end()
        self.late.advance(process.KILL_GRACE)
        self.late.advance(0.5)
        self.assertEqual(notes.endings, [Exited(3)])
        self.assertEqual(self.late.getDelayedCalls(), [])

    def test_sleepsInTheKernel(self) -> None:
        """A command that KILL does not end at once is reported when it has ended, not before."""
        self.patch(os, "killpg", lambda pid, number: None)
        command, notes = self.shell("exec sleep 1000")
        command.end()
        self.late.advance(process.KILL_GRACE)
        self.late.advance(0.5)
        self.assertEqual(notes.endings, [])
        signal.pidfd_send_signal(self.leader.fileno(), signal.SIGKILL)
        self.leaderEnds()
        self.late.advance(0.5)
        self.assertEqual(notes.endings, [Signalled(signal.SIGKILL)])


class FailureTests(ProcessCase):
    def test_missing(self) -> None:
        """A program that is not there, or is none, is an error, and nothing stays open."""
        before = descriptors()
        for program, number in (
            (b"/nowhere/program", errno.ENOENT),
            (b"/etc/passwd", errno.EACCES),
            (b"/", errno.EACCES),
            (b"/etc/passwd/x", errno.ENOTDIR),
        ):
            error = self.assertRaises(OSError, self.spawner, [program], {}, Notes())
            self.assertEqual(error.errno, number)
        self.assertEqual(descriptors(), before)

    def test_tooLong(self) -> None:
        """An argument that is longer than the system takes is an error."""
        line = b"true " + b"x" * 200_000
        error = self.assertRaises(OSError, self.spawner, [b"/bin/sh", b"-c", line], {}, Notes())
        self.assertEqual(error.errno, errno.E2BIG)

    def test_noDescriptorsLeft(self) -> None:
        """When descriptors run out half-way, that is an error, and those it has are given back."""
        before = descriptors()
        free = os.dup(0)
        os.close(free)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        for more in range(5):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, limits[1]))
            error = self.assertRaises(OSError, self.spawner, [b"/bin/true"], {}, Notes())
            self.assertEqual(error.errno, errno.EMFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        self.assertEqual(descriptors(), before)

    def test_nul(self) -> None:
        """An argument with a NUL byte is refused before anything starts."""
        before = descriptors()
        self.assertRaises(ValueError, self.spawner, [b"/bin/echo", b"a\0b"], {}, Notes())
        self.assertEqual(descriptors(), before)


class LeakTests(ProcessCase):
    async def test_manyCommands(self) -> None:
        """Two hundred commands leave no descriptor and no zombie."""
        await self.run_("true")
        before = descriptors()
        pids = []
        for _ in range(200):
            notes = await self.run_("echo $$")
            pids.append(int(notes.out))
        self.assertEqual(descriptors(), before)
        for pid in pids:
            self.assertRaises(ChildProcessError, os.waitid, os.P_PID, pid, os.WEXITED | os.WNOHANG)

    async def test_atOnce(self) -> None:
        """Fifty commands at once are told apart, and leave no descriptor."""
        await self.run_("true")
        before = descriptors()
        running = [self.shell(f"echo {number}; exit {number}")[1] for number in range(50)]
        for number, notes in enumerate(running):
            self.assertEqual(await notes.ended, Exited(number))
            self.assertEqual(notes.out, b"%d\n" % number)
        self.assertEqual(descriptors(), before)


class ThreadTests(ProcessCase):
    async def fallsBack(self) -> None:
        notes = await self.run_("echo out; exit 3")
        self.assertEqual((notes.endings, notes.out), ([Exited(3)], b"out\n"))
        command, notes = self.shell("echo ready; exec sleep 1000")
        await notes.said(b"ready")
        command.end()
        self.assertEqual(await notes.ended, Signalled(signal.SIGTERM))

    async def test_withoutPidfd(self) -> None:
        """Where Python has no pidfds, a thread notices the end of a command."""
        pidfd_open = os.pidfd_open
        del os.pidfd_open
        self.addCleanup(setattr, os, "pidfd_open", pidfd_open)
        await self.fallsBack()

    async def test_refusedPidfd(self) -> None:
        """Where the kernel refuses a pidfd, a thread notices the end of a command."""

        def refuse(pid: int) -> int:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        self.patch(os, "pidfd_open", refuse)
        await self.fallsBack()
