"""What keeps commands: its messages, and each of its processes without a server."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_netsuite.rexec import keeper
from twisted_netsuite.rexec.keeper import Job, Supervisor
from twisted_netsuite.rexec.launch import ResourceLimits

#: Seconds after which an answer that ought to come is given up; it is never waited for in full.
PATIENCE = 20.0

#: A line for the shell that ignores TERM.
DEAF = "trap '' TERM; echo on; while :; do sleep 0.01; done"

TEXT = st.binary(max_size=20).filter(lambda text: b"\0" not in text)
NAME = TEXT.filter(lambda text: text and b"=" not in text)
NUMBER = st.integers(0, 2**31)

JOBS = st.builds(
    Job,
    program=TEXT,
    argv=st.builds(lambda first, rest: [first, *rest], TEXT.filter(bool), st.lists(TEXT)),
    env=st.dictionaries(NAME, TEXT),
    cwd=TEXT,
    stdin=st.booleans(),
    terminal=st.booleans(),
    account=st.none() | st.tuples(NUMBER, NUMBER, st.lists(NUMBER)),
    limits=st.dictionaries(st.sampled_from(list(keeper.LIMITS)), NUMBER),
    grace=st.floats(0, 100),
)


class JobTests(SynchronousTestCase):
    @given(JOBS)
    def test_through(self, job: Job) -> None:
        """What is put into a message comes out of it."""
        self.assertEqual(Job.decode(job.encode()), job)

    @given(JOBS, st.data())
    def test_refused(self, job: Job, data: Any) -> None:
        """A NUL anywhere, and a name that cannot be, are refused."""
        bad = data.draw(TEXT) + b"\0" + data.draw(TEXT)
        for worse in (
            job._replace(program=bad),
            job._replace(cwd=bad),
            job._replace(argv=[*job.argv, bad]),
            job._replace(env={**job.env, b"A": bad}),
            job._replace(env={**job.env, b"A" + bad: b""}),
            job._replace(env={**job.env, b"A=B": b""}),
            job._replace(env={**job.env, b"": b""}),
            job._replace(argv=[]),
            job._replace(argv=[b"", b"x"]),
        ):
            self.assertRaises(ValueError, worse.encode)

    def test_limits(self) -> None:
        """There is a limit of the kernel for each that a launch may have."""
        self.assertEqual(keeper.LIMITS.keys(), vars(ResourceLimits()).keys())
        self.assertEqual(list(keeper.LIMITS)[-1], "memory")


class ProgramTests(SynchronousTestCase):
    def test_small(self) -> None:
        """It is a program that needs nothing but the standard library, and no site."""
        script = "import keeper, sys; print([n for n in sys.modules if 'twisted' in n])"
        done = subprocess.run(
            [sys.executable, "-S", "-c", script],
            cwd=os.path.dirname(keeper.__file__),
            env={},
            capture_output=True,
            text=True,
        )
        self.assertEqual((done.stdout, done.stderr), ("[]\n", ""))


class RoundsTests(SynchronousTestCase):
    def test_unknown(self) -> None:
        """Where nobody can tell who is left, that is looked for again, and never taken for none."""
        rounds = keeper.Rounds()
        self.assertIsNone(rounds.wait)
        rounds.kill(None)
        wait = rounds.wait
        assert wait is not None
        self.assertTrue(0 < wait <= keeper.LAST_ROUND)
        rounds.kill(set())
        self.assertIsNone(rounds.wait)


class LookTests(SynchronousTestCase):
    """Who is whose child."""

    def setUp(self) -> None:
        self.child = subprocess.Popen(["/bin/sleep", "1000"])
        self.addCleanup(self.child.wait)
        self.addCleanup(self.child.kill)

    def test_children(self) -> None:
        """Children are listed, also those that have ended, until they are reaped."""
        pid = self.child.pid
        self.assertIn(pid, keeper.children())
        self.assertEqual(keeper.childrenOf(os.getpid()), keeper.children())
        self.assertFalse(keeper.bury(pid))
        self.child.kill()
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self.assertIn(pid, keeper.children())
        self.assertTrue(keeper.bury(pid))
        self.assertNotIn(pid, keeper.children())
        self.assertTrue(keeper.bury(pid))
        self.assertEqual(keeper.childrenOf(pid), set())

    def test_withoutTheList(self) -> None:
        """Where the kernel keeps no such list, all processes are looked at."""
        listed = keeper.children()
        real = open

        def refuse(path: Any, *rest: Any, **more: Any) -> Any:
            if str(path).endswith("/children"):
                raise FileNotFoundError
            return real(path, *rest, **more)

        keeper.open = refuse  # type: ignore[attr-defined]
        self.addCleanup(delattr, keeper, "open")
        self.assertEqual(keeper.children(), listed)

    def test_processes(self) -> None:
        """Of each process, its parent, group and session are told."""
        found = {pid: rest for pid, *rest in keeper.processes()}
        pid = self.child.pid
        self.assertEqual(found[pid], [os.getpid(), os.getpgid(pid), os.getsid(pid)])

    def test_left(self) -> None:
        """Those that live are told, but for those that are spared."""
        pid = self.child.pid
        others = keeper.children() - {pid}
        self.assertEqual(keeper.left(others), {pid})
        self.assertEqual(keeper.left(others | {pid}), set())

    def test_strike(self) -> None:
        """A process that has another parent than was thought is not the one that was meant."""
        line = "sleep 1000 & echo $!; wait $!; echo $?"
        told: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(["/bin/sh", "-c", line], **told) as shell:
            assert shell.stdout is not None
            pid = int(shell.stdout.readline())
            keeper.strike(signal.SIGKILL, pid, 1)
            keeper.strike(signal.SIGKILL, pid, self.child.pid)
            keeper.strike(signal.SIGUSR1, pid, shell.pid)
            self.assertEqual(int(shell.stdout.readline()), 128 + signal.SIGUSR1)
        # Nor is one that is gone.
        keeper.strike(signal.SIGKILL, pid, shell.pid)

    def test_send(self) -> None:
        """A signal to nobody is none."""
        keeper.send(signal.SIGKILL, 2**22)
        keeper.send(signal.SIGKILL, 2**22, group=True)


class Far:
    """
    A keeper or a supervisor in a process of its own, spoken to by its socket.

    @ivar pid: its number.
    """

    def __init__(self, run: Callable[[socket.socket], object]) -> None:
        self.channel, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.channel.close()
                for number in keeper.IGNORED:
                    signal.signal(number, signal.SIG_IGN)
                run(its)
                os._exit(0)
            finally:
                os._exit(1)
        its.close()
        self.channel.settimeout(PATIENCE)
        self._out, self.writing = os.pipe()

    def say(self, message: bytes, *descriptors: int) -> None:
        socket.send_fds(self.channel, [message], descriptors)

    def hear(self) -> list[bytes]:
        return self.channel.recv(1000).split()

    def job(self, line: str, **told: Any) -> None:
        """Start a line for the shell."""
        job = Job(b"/bin/sh", [b"sh", b"-c", line.encode()], {b"PATH": b"/usr/bin:/bin"}, b"/")
        self.say(b"job " + job._replace(**told).encode(), self.writing, self.writing)

    def read(self) -> bytes:
        """Read what a command has written."""
        assert select.select([self._out], [], [], PATIENCE)[0]
        return os.read(self._out, 1000)

    def end(self) -> int:
        """Hang up, and tell how it ends."""
        self.channel.close()
        os.close(self._out)
        os.close(self.writing)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


class FarCase(SynchronousTestCase):
    def far(self, run: Callable[[socket.socket], object]) -> Far:
        far = Far(run)
        self.addCleanup(lambda: self.assertEqual(far.end(), 0))
        return far


class SupervisorTests(FarCase):
    def setUp(self) -> None:
        def run(channel: socket.socket) -> None:
            Supervisor(channel, keeper.becomeSubreaper()).run()

        self.supervisor = self.far(run)
        self.assertEqual(self.supervisor.hear(), [b"ready", b"%d" % self.supervisor.pid, b"1"])

    def test_alone(self) -> None:
        """A command of which nothing is left has one message for its start and one for its end."""
        self.supervisor.job("exit 3")
        word, pid = self.supervisor.hear()
        self.assertEqual(word, b"started")
        self.assertEqual(self.supervisor.hear(), [b"exited", b"768", b"1"])
        self.assertFalse(Path(f"/proc/{int(pid)}").exists())

    def test_oneAfterAnother(self) -> None:
        """After the end of a command it takes the next one, of whatever kind."""
        for told in ({}, {"limits": {"openFiles": 50}}, {}):
            self.supervisor.job("echo $$; kill -TERM $$", **told)
            _, pid = self.supervisor.hear()
            self.assertEqual(self.supervisor.read(), pid + b"\n")
            self.assertEqual(self.supervisor.hear(), [b"exited", b"15", b"1"])

    def test_sweep(self) -> None:
        """Its leader stays a zombie, and its number is taken, until all others are gone."""
        self.supervisor.job("sleep 1000 & setsid sleep 1000 & exit 3")
        _, pid = self.supervisor.hear()
        self.assertEqual(self.supervisor.hear(), [b"exited", b"768", b"0"])
        self.assertIn(b"State:\tZ", Path(f"/proc/{int(pid)}/status").read_bytes())
        self.assertEqual(len(keeper.childrenOf(self.supervisor.pid)), 3)
        self.supervisor.say(b"sweep")
        self.assertEqual(self.supervisor.hear(), [b"swept"])
        self.assertEqual(keeper.childrenOf(self.supervisor.pid), set())

    def test_othersEnd(self) -> None:
        """When the others end by themselves, nobody has to ask."""
        self.supervisor.job("sleep 0.1 & exit 3")
        self.supervisor.hear()
        self.assertEqual(self.supervisor.hear(), [b"exited", b"768", b"0"])
        self.assertEqual(self.supervisor.hear(), [b"swept"])

    def test_orphansAreReaped(self) -> None:
        """An orphan that ends while the command runs does not stay a zombie."""
        self.supervisor.job("(true & ) ; (exit 1 &); sleep 0.2; echo on; exec sleep 1000")
        self.supervisor.hear()
        self.assertEqual(self.supervisor.read(), b"on\n")
        self.assertEqual(len(keeper.childrenOf(self.supervisor.pid)), 1)

    def test_end(self) -> None:
        """TERM comes first; who does not obey has its grace, and not more."""
        line = "exec 2>&-; trap 'echo told' TERM; echo on; while :; do sleep 0.01; done"
        self.supervisor.job(line, grace=0.1)
        self.supervisor.hear()
        self.assertEqual(self.supervisor.read(), b"on\n")
        began = time.monotonic()
        self.supervisor.say(b"end")
        self.assertEqual(self.supervisor.read(), b"told\n")
        self.assertEqual(self.supervisor.hear()[:2], [b"exited", b"9"])
        self.assertGreater(time.monotonic() - began, 0.1)

    def test_endKeepsItsGrace(self) -> None:
        """Asking again does not give it more time, or less."""
        self.supervisor.job(DEAF, grace=0.2)
        self.supervisor.hear()
        self.assertEqual(self.supervisor.read(), b"on\n")
        self.supervisor.say(b"end")
        self.supervisor.say(b"end")
        self.assertEqual(self.supervisor.hear()[:2], [b"exited", b"9"])

    def test_late(self) -> None:
        """What comes after the end of a command does not reach the next one."""
        self.supervisor.job("exit 3")
        self.supervisor.hear()
        self.supervisor.hear()
        for message in (b"sweep", b"end", b"signal 9 0", b"what is this"):
            self.supervisor.say(message)
        self.supervisor.job("sleep 0.1; exit 4")
        self.supervisor.hear()
        self.assertEqual(self.supervisor.hear(), [b"exited", b"1024", b"1"])

    def test_foreignGroup(self) -> None:
        """A signal reaches no group of another session, whatever number is asked for."""
        stranger = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
        self.addCleanup(stranger.wait)
        self.addCleanup(stranger.kill)
        self.supervisor.job(
            "exec 2>&-; trap 'echo told' USR1; echo on; while :; do sleep 0.01; done"
        )
        self.supervisor.hear()
        self.assertEqual(self.supervisor.read(), b"on\n")
        self.supervisor.say(b"signal %d %d" % (signal.SIGUSR1, stranger.pid))
        self.assertEqual(self.supervisor.read(), b"told\n")
        self.assertIsNone(stranger.poll())
        self.supervisor.say(b"sweep")
        self.assertEqual(self.supervisor.hear()[:2], [b"exited", b"9"])

    def test_failed(self) -> None:
        """What could not be done is told, and the next command is taken."""
        for told, step in (
            ({"program": b"/nowhere"}, b"run"),
            ({"cwd": b"/nowhere"}, b"enter"),
            ({"program": b"/nowhere", "limits": {"openFiles": 50}}, b"run"),
            ({"cwd": b"/nowhere", "limits": {"openFiles": 50}}, b"enter"),
        ):
            self.supervisor.job("true", **told)
            self.assertEqual(self.supervisor.hear(), [b"failed", b"%d" % errno.ENOENT, step])
        self.supervisor.job("true", terminal=True)
        self.assertEqual(self.supervisor.hear(), [b"failed", b"%d" % errno.ENOTTY, b"control"])
        self.assertEqual(keeper.childrenOf(self.supervisor.pid), set())
        self.test_alone()

    def test_descriptors(self) -> None:
        """Nothing that comes along stays open."""
        before = os.listdir(f"/proc/{self.supervisor.pid}/fd")
        for _ in range(20):
            self.test_alone()
            self.supervisor.say(b"what is this", self.supervisor.writing)
        self.test_failed()
        self.assertEqual(os.listdir(f"/proc/{self.supervisor.pid}/fd"), before)

    def test_hangUp(self) -> None:
        """When the server is gone the command is ended, and after it the supervisor."""
        self.supervisor.job("trap '' TERM; setsid sleep 1000 & echo $!; sleep 1000", grace=0.05)
        self.supervisor.hear()
        descriptor = os.pidfd_open(int(self.supervisor.read()))
        self.addCleanup(os.close, descriptor)
        self.supervisor.channel.shutdown(socket.SHUT_RDWR)
        self.assertTrue(select.select([descriptor], [], [], PATIENCE)[0])


class BecomeTests(FarCase):
    def test_notAllowed(self) -> None:
        """Who may become nobody else is told so; who is that user already need not."""
        if os.geteuid() != 0:
            raise SkipTest("Only root may become somebody else.")

        def run(channel: socket.socket) -> None:
            os.setgroups([65534])
            os.setgid(65534)
            os.setuid(65534)
            Supervisor(channel, True).run()

        supervisor = self.far(run)
        supervisor.hear()
        supervisor.job("true", account=(0, 0, [0]))
        self.assertEqual(supervisor.hear(), [b"failed", b"%d" % errno.EPERM, b"become"])
        supervisor.job("exit 3", account=(65534, 65534, [65534]))
        self.assertEqual(supervisor.hear()[0], b"started")
        self.assertEqual(supervisor.hear(), [b"exited", b"768", b"1"])


class WithoutTests(FarCase):
    """What a system can do that knows no subreapers, or no /proc."""

    def setUp(self) -> None:
        self.supervisor = self.far(lambda channel: Supervisor(channel, False).run())
        self.assertEqual(self.supervisor.hear()[2], b"0")

    def test_group(self) -> None:
        """The process group of a command is ended with it; what has left it stays."""
        line = "sleep 1000 & echo -$!; setsid sh -c 'echo $$; exec sleep 1000' & exit 3"
        self.supervisor.job(line)
        self.supervisor.hear()
        self.assertEqual(self.supervisor.hear(), [b"exited", b"768", b"0"])
        words = self.supervisor.read().split()
        while len(words) < 2:
            words += self.supervisor.read().split()
        group, fled = (os.pidfd_open(abs(pid)) for pid in sorted(int(word) for word in words))
        self.supervisor.say(b"sweep")
        self.assertEqual(self.supervisor.hear(), [b"swept"])
        self.assertTrue(select.select([group], [], [], PATIENCE)[0])
        self.assertFalse(select.select([fled], [], [], 0)[0])
        signal.pidfd_send_signal(fled, signal.SIGKILL)
        os.close(group)
        os.close(fled)

    def test_end(self) -> None:
        """It is ended by TERM, or after its grace, as elsewhere."""
        for line, status in (("echo on; exec sleep 1000", b"15"), (DEAF, b"9")):
            self.supervisor.job(line, grace=0.05)
            self.supervisor.hear()
            self.assertEqual(self.supervisor.read(), b"on\n")
            self.supervisor.say(b"end")
            self.assertEqual(self.supervisor.hear(), [b"exited", status, b"0"])
            self.supervisor.say(b"sweep")
            self.assertEqual(self.supervisor.hear(), [b"swept"])

    def test_notFound(self) -> None:
        """A system that has no such call, or no C library to call, is told as one without."""
        self.patch(keeper, "PR_SET_CHILD_SUBREAPER", -1)
        self.assertFalse(keeper.becomeSubreaper())
        self.patch(keeper, "PR_SET_CHILD_SUBREAPER", 36)
        with mock.patch.dict(sys.modules, ctypes=None):
            self.assertFalse(keeper.becomeSubreaper())

    def test_noProcesses(self) -> None:
        """A system that does not tell of its processes is told as one that does not."""
        self.assertTrue(keeper.hasProcesses())

        def refuse() -> set[int]:
            raise FileNotFoundError

        self.patch(keeper, "children", refuse)
        self.assertFalse(keeper.hasProcesses())
        self.assertIsNone(keeper.left(set()))


class KeeperTests(FarCase):
    def setUp(self) -> None:
        self.keeper = self.far(lambda channel: keeper.main([str(channel.detach())]))

    def fork(self) -> socket.socket:
        """Have a supervisor forked."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE)
        self.addCleanup(ours.close)
        with its:
            self.keeper.say(b"fork", its.fileno())
        return ours

    def test_fork(self) -> None:
        """Each supervisor that is asked for comes, as a child, and goes when it is let go."""
        channels = [self.fork() for _ in range(5)]
        pids = {int(channel.recv(100).split()[1]) for channel in channels}
        self.assertEqual(keeper.childrenOf(self.keeper.pid), pids)
        self.assertEqual(len(pids), 5)
        for channel in channels:
            channel.shutdown(socket.SHUT_WR)
            self.assertEqual(channel.recv(100), b"")

    def test_noDescriptors(self) -> None:
        """A supervisor has no descriptor of the keeper, nor of another supervisor."""
        for _ in range(3):
            pid = int(self.fork().recv(100).split()[1])
            # Three streams, its socket, and both ends of the pipe that wakes it up.
            inherited = {
                name
                for name in os.listdir(f"/proc/{pid}/fd")
                if "socket" in os.readlink(f"/proc/{pid}/fd/{name}")
            }
            self.assertEqual(len(inherited), 1)

    def test_settle(self) -> None:
        """It says when nothing is left of a supervisor that was killed, and not before."""
        channel = self.fork()
        pid = int(channel.recv(100).split()[1])
        job = Job(b"/bin/sh", [b"sh", b"-c", b"setsid sleep 1000 & echo $!; wait"], {}, b"/")
        writing = self.keeper.writing
        socket.send_fds(channel, [b"job " + job.encode()], [writing, writing])
        leader = int(channel.recv(100).split()[1])
        lives = [os.pidfd_open(leader), os.pidfd_open(int(self.keeper.read()))]
        self.keeper.say(b"settle %d" % pid)
        self.assertEqual(select.select([self.keeper.channel], [], [], 0.1)[0], [])
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(self.keeper.hear(), [b"settled", b"%d" % pid])
        self.assertEqual(len(select.select(lives, [], [], 0)[0]), 2)
        for life in lives:
            os.close(life)

    def test_kill(self) -> None:
        """It kills a supervisor when it is told to, and nobody else."""
        channels = [self.fork(), self.fork()]
        pids = [int(channel.recv(100).split()[1]) for channel in channels]
        stranger = subprocess.Popen(["/bin/sleep", "1000"])
        self.addCleanup(stranger.wait)
        self.addCleanup(stranger.kill)
        os.kill(pids[0], signal.SIGSTOP)
        for pid in (stranger.pid, pids[0]):
            self.keeper.say(b"kill %d" % pid)
        self.assertEqual(channels[0].recv(100), b"")
        self.keeper.say(b"settle %d" % pids[0])
        self.assertEqual(self.keeper.hear(), [b"settled", b"%d" % pids[0]])
        self.assertIsNone(stranger.poll())
        self.assertEqual(keeper.childrenOf(self.keeper.pid) & set(pids), {pids[1]})

    def test_hurry(self) -> None:
        """Once the server is gone, stopped supervisors go on, and those that stay are killed."""
        for limit, again in ((PATIENCE, False), (0.0, True)):
            self.patch(keeper, "STRAGGLER_LIMIT", limit)
            self.setUp()
            channel = self.fork()
            pid = int(channel.recv(100).split()[1])
            life = os.pidfd_open(pid)
            self.addCleanup(os.close, life)
            os.kill(pid, signal.SIGSTOP)
            if not again:
                channel.shutdown(socket.SHUT_WR)
            self.keeper.channel.shutdown(socket.SHUT_WR)
            self.assertTrue(select.select([life], [], [], PATIENCE)[0])

    def test_signals(self) -> None:
        """No signal that comes from elsewhere ends it."""
        self.fork().recv(100)
        for number in keeper.IGNORED:
            os.kill(self.keeper.pid, number)
        self.assertTrue(self.fork().recv(100))

    def test_noProcessLeft(self) -> None:
        """That there are no more processes is told to whom it concerns, and is no end."""
        if os.geteuid() != 0:
            raise SkipTest("Only root can bound it by a user of its own.")

        def run(channel: socket.socket) -> None:
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            os.setgroups([])
            os.setgid(61236)
            os.setuid(61236)
            keeper.main([str(channel.detach())])

        self.keeper = self.far(run)
        ours = self.fork()
        self.assertEqual(ours.recv(100).split(), [b"failed", b"%d" % errno.EAGAIN, b"fork"])
        self.assertEqual(ours.recv(100), b"")
        self.keeper.say(b"settle 5")
        self.assertEqual(self.keeper.hear(), [b"settled", b"5"])
