"""
The program that keeps commands: a process of its own beside the server, which starts them, watches
them, and leaves nothing of them behind, also when the server is killed. It decides nothing.

The keeper forks supervisors, and each of them runs one command at a time. Both are subreapers: a
process of a command that outlives its parent becomes a child of the supervisor, wherever it went;
and what a killed supervisor leaves becomes a child of the keeper. A child's number cannot be given
to another process before it is reaped, so whoever kills only its own children hits no stranger.

It runs with the standard library alone (C{python -I -S keeper.py DESCRIPTOR}), as small as Python
gets. Its sockets carry one message a packet. The keeper takes C{fork}, with a socket for the new
supervisor; C{kill PID}, for a supervisor that does not answer; and C{settle PID}, answered by
C{settled PID} once nothing is left of that supervisor. A supervisor says C{ready PID THOROUGH} and
takes

  - C{job} with a L{Job}, or C{stored} with a file that holds one: C{started PID} or C{failed ERRNO
    STEP}, and later C{exited STATUS ALONE};
  - C{signal NUMBER GROUP}: to the command's process group, and another of its session;
  - C{end}: TERM, and after a grace all that C{sweep} does;
  - C{sweep}: KILL to whatever is left, then C{swept}.

After C{failed}, C{exited STATUS 1} or C{swept} it takes the next job.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import stat
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

#: Seconds between TERM and KILL: long enough for a command to remove its temporary files, short
#: enough that stopping the server stays below two seconds.
KILL_GRACE = 1.0

#: Seconds between two rounds of killing, at first: what was killed is usually gone by then, and
#: what it leaves behind has come up to be killed next.
FIRST_ROUND = 0.005

#: Seconds between two rounds at the most: what is not gone after several sleeps in the kernel, on a
#: dead disk perhaps, and looking at it costs time and changes nothing.
LAST_ROUND = 0.5

#: Seconds that supervisors have to end after the server: all of them do, but those that a command
#: of their own user keeps on stopping.
STRAGGLER_LIMIT = KILL_GRACE + 2.0

#: Descriptors that a command may open, unless it raises that itself: the server may have far more,
#: and there are programs that close all that they might have, or count with C{select}.
USUAL_DESCRIPTORS = 1024

#: How often all descendants are looked for before they are killed: those that were born while one
#: looked are found the next time, and in the end all have stopped.
MAX_PASSES = 50

#: Bytes of one message: a job that is larger comes in a file. A socket takes some 200 kB.
MAX_MESSAGE = 64 * 1024

#: Descriptors that come with a message: three streams, and a file that holds the job.
MAX_DESCRIPTORS = 4

#: What makes a process the one that orphans come to (prctl(2)).
PR_SET_CHILD_SUBREAPER = 36

#: What the server has to say about its commands comes through the socket. These come from others: a
#: terminal, or an init system that ends all processes of the service at once.
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)

#: What a command finds as if nobody had ever touched it.
DEFAULTED = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})

#: The kernel's names of what L{launch.ResourceLimits} grants. The address space is the last: under
#: a small one not even this program runs any further.
LIMITS = {
    "cpuTime": resource.RLIMIT_CPU,
    "processes": resource.RLIMIT_NPROC,
    "openFiles": resource.RLIMIT_NOFILE,
    "fileSize": resource.RLIMIT_FSIZE,
    "memory": resource.RLIMIT_AS,
}


class Job(NamedTuple):
    """
    A command as a supervisor gets it.

    @ivar program: the whole path of what is started.
    @ivar argv: its arguments, its own name first.
    @ivar env: its environment.
    @ivar cwd: where it runs.
    @ivar stdin: whether its standard input comes along, after stdout and stderr.
    @ivar terminal: whether its streams are a terminal that it is to control.
    @ivar account: uid, gid and groups as whom it runs; C{None} for the server's own.
    @ivar limits: what the kernel grants it, by the names in L{LIMITS}.
    @ivar grace: seconds between TERM and KILL.
    """

    program: bytes
    argv: Sequence[bytes]
    env: Mapping[bytes, bytes]
    cwd: bytes
    stdin: bool = False
    terminal: bool = False
    account: tuple[int, int, Sequence[int]] | None = None
    limits: Mapping[str, int] = {}
    grace: float = KILL_GRACE

    def encode(self) -> bytes:
        """
        Put it into a message: words as JSON, then strings, which hold no NUL, each with one behind.

        @raise ValueError: when a string holds a NUL, or no such environment can be.
        """
        if not all(self.argv[:1]) or not self.argv:
            raise ValueError("a command has a name of its own")
        if any(not name or b"=" in name for name in self.env):
            raise ValueError("a variable has a name without =")
        head = [len(self.argv), self.stdin, self.terminal, self.account, self.limits, self.grace]
        variables = [name + b"=" + value for name, value in self.env.items()]
        texts = [self.program, self.cwd, *self.argv, *variables]
        if any(b"\0" in text for text in texts):
            raise ValueError("no string of a command holds a NUL")
        return b"\0".join([json.dumps(head).encode(), *texts])

    @classmethod
    def decode(cls, message: bytes) -> Job:
        """
        Take it out of a message.

        @param message: of L{encode}.
        """
        head, program, cwd, *texts = message.split(b"\0")
        count, stdin, terminal, account, limits, grace = json.loads(head)
        variables = (text.partition(b"=") for text in texts[count:])
        env = {name: value for name, _, value in variables}
        # JSON has no tuples.
        who = None if account is None else (account[0], account[1], account[2])
        return cls(program, texts[:count], env, cwd, stdin, terminal, who, limits, grace)


class NotDone(Exception):
    """
    A command could not be started.

    @ivar errno: what the system says.
    @ivar step: C{enter} its directory, C{become} its user, C{limit} it, C{control} its terminal, or
        C{run} it.
    """

    def __init__(self, number: int, step: str) -> None:
        """
        @param number: what the system says.
        @param step: what could not be done.
        """
        super().__init__(number, step)
        self.errno = number
        self.step = step


def becomeSubreaper() -> bool:
    """
    Have orphans come to this process.

    @return: whether the system can do that.
    """
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def children() -> set[int]:
    """
    List this process's children, those that have ended and were not reaped included.

    @raise OSError: when there is no C{/proc}.
    """
    own = os.getpid()
    try:
        with open(f"/proc/{own}/task/{own}/children", "rb", buffering=0) as listing:
            return {int(word) for word in listing.read().split()}
    except FileNotFoundError:
        return {pid for pid, parent, _, _ in processes() if parent == own}


def processes() -> Iterator[tuple[int, int, int, int]]:
    """
    List all processes: each one's number, its parent's, its group's and its session's.

    @raise OSError: when there is no C{/proc}.
    """
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb", buffering=0) as file:
            # The name of the program stands in brackets, and may hold any.
            parent, group, session = file.read().rpartition(b")")[2].split()[1:4]
            yield int(name), int(parent), int(group), int(session)


def send(number: int, pid: int, *, group: bool = False) -> None:
    """
    Send a signal, if there still is somebody to take it.

    @param number: the signal.
    @param pid: a child of this process, or the number of a group.
    @param group: whether it is a group's.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(pid, number)


def bury(pid: int) -> bool:
    """
    Reap a child if it has ended.

    @param pid: its number.
    @return: whether it is gone.
    """
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def left(spared: set[int]) -> set[int] | None:
    """
    Reap the children that have ended.

    @param spared: those that are not looked at.
    @return: those that live; C{None} when that cannot be told now, as descriptors may have run out.
    """
    try:
        return {pid for pid in children() - spared if not bury(pid)}
    except OSError:
        return None


def childrenOf(pid: int) -> set[int]:
    """
    List the children of any process.

    @param pid: its number.
    @return: theirs; none when it is gone.
    """
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as listing:
                found.update(int(word) for word in listing.read().split())
    return found


def strike(number: int, pid: int, parent: int) -> None:
    """
    Send a signal to a descendant that is not a child.

    @param number: the signal.
    @param pid: a child of that parent a moment ago.
    @param parent: a descendant.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return
    try:
        # Whoever has this number now is who the descriptor is of: it must not be a stranger.
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            its = int(file.read().rpartition(b")")[2].split()[1])
        if its in (parent, os.getpid()):
            signal.pidfd_send_signal(descriptor, number)
    except OSError:
        # It is gone.
        return
    finally:
        os.close(descriptor)


def killTrees(roots: set[int]) -> None:
    """
    Stop whole families of processes, and only then kill them.

    Those that fork on, without end and each into a session of its own, would fill each place that
    a killed one leaves. A stopped one keeps its place.

    @param roots: children of this process.
    """
    found: dict[int, int] = {}
    for _ in range(MAX_PASSES):
        before = len(found)
        waiting = [(pid, 0) for pid in roots]
        seen = set(roots)
        while waiting:
            pid, parent = waiting.pop()
            if pid not in found:
                found[pid] = parent
                if parent:
                    strike(signal.SIGSTOP, pid, parent)
                else:
                    send(signal.SIGSTOP, pid)
            offspring = childrenOf(pid) - seen
            seen |= offspring
            waiting += [(child, pid) for child in offspring]
        if len(found) == before:
            break
    for pid, parent in found.items():
        if parent:
            strike(signal.SIGKILL, pid, parent)
        else:
            send(signal.SIGKILL, pid)


class Rounds:
    """
    Kills children, and whom they leave behind, in rounds until none is left.

    Killed children hand up their own, so each round reaches one generation more, whatever sessions
    and groups they made for themselves. That is enough for almost all; what is there in the second
    round is killed with all its descendants at once.
    """

    def __init__(self) -> None:
        self._pause = FIRST_ROUND
        self._next = 0.0
        self._due = False
        self._seen: set[int] = set()

    @property
    def wait(self) -> float | None:
        """Seconds until the next round is due; C{None} when there is nobody to kill."""
        return max(0.0, self._next - time.monotonic()) if self._due else None

    def kill(self, living: set[int] | None) -> None:
        """
        Do a round.

        @param living: children of this process; C{None} when that cannot be told before the next.
        """
        self._due = living is None or living != set()
        if living is None:
            self._next = time.monotonic() + LAST_ROUND
            return
        if self._seen:
            killTrees(living)
        for pid in living:
            # Its group first, if it leads one: all at once, before they can fork any further.
            send(signal.SIGKILL, pid, group=True)
            send(signal.SIGKILL, pid)
        self._pause = min(self._pause * 2, LAST_ROUND) if living == self._seen else FIRST_ROUND
        self._next = time.monotonic() + self._pause
        self._seen = living


class Attention:
    """Waits for messages, ends of children, and time."""

    def __init__(self, channel: socket.socket) -> None:
        """
        @param channel: where messages come from.
        """
        self.channel = channel
        self.open = True
        self._wakeup, waking = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(waking, False)
        self._waking = waking
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)

    def wait(self, seconds: float | None) -> bool:
        """
        Wait for anything.

        @param seconds: at the most; C{None} for ever.
        @return: whether a message is there, or its end.
        """
        # A millisecond more: never wake up just too early, again and again.
        ready = dict(self._poll.poll(None if seconds is None else seconds * 1000 + 1))
        if self._wakeup in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakeup, 4096)
        return self.open and self.channel.fileno() in ready

    def receive(self) -> tuple[bytes, list[int]]:
        """
        Take a message.

        @return: the message, empty at the end; and the descriptors that came along.
        """
        room = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
        try:
            message, extra, _, _ = self.channel.recvmsg(
                MAX_MESSAGE + 16, room, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            message, extra = b"", []
        descriptors = array.array("i")
        for _, _, data in extra:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        if not message:
            self.open = False
            self._poll.unregister(self.channel)
        return message, list(descriptors)

    def say(self, message: bytes) -> None:
        """
        Send a message; a server that is gone misses nothing.

        @param message: to the server.
        """
        with contextlib.suppress(OSError):
            self.channel.send(message)

    def close(self) -> None:
        """Let go of everything, in a process that was forked from the one that made this."""
        signal.set_wakeup_fd(-1)
        os.close(self._wakeup)
        os.close(self._waking)
        self.channel.close()


class Supervisor:
    """Runs one command at a time, until its socket ends and nothing is left."""

    def __init__(self, channel: socket.socket, thorough: bool) -> None:
        """
        @param channel: leads to the server.
        @param thorough: whether orphans come to this process and can be found; without, only the
            process group of a command is ended.
        """
        self._attention = Attention(channel)
        self._thorough = thorough
        self._free()

    def _free(self) -> None:
        self._leader = 0
        self._ended = False
        self._grace = KILL_GRACE
        self._killAt: float | None = None
        self._rounds: Rounds | None = None

    def run(self) -> None:
        """Work."""
        self._attention.say(b"ready %d %d" % (os.getpid(), self._thorough))
        while self._attention.open or self._leader:
            if self._attention.wait(self._timeout()):
                self._take(*self._attention.receive())
            self._look()

    def _timeout(self) -> float | None:
        if self._rounds is not None:
            return self._rounds.wait
        if self._killAt is not None:
            return max(0.0, self._killAt - time.monotonic())
        return None

    def _take(self, message: bytes, descriptors: list[int]) -> None:
        word, _, rest = message.partition(b" ")
        answer = b""
        try:
            if word == b"job":
                answer = self._start(rest, descriptors)
            elif word == b"stored":
                with open(descriptors.pop(), "rb") as file:
                    answer = self._start(file.read(), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if answer:
            # Not before: as long as its streams are open here, nobody sees that it has closed them.
            self._attention.say(answer)
        # What comes for a command that has just ended is late, and for nobody.
        if self._leader and word == b"signal":
            self._signal(*map(int, rest.split()))
        elif self._leader and word == b"sweep":
            self._sweep()
        elif self._leader and word in (b"end", b""):
            self._end()

    def _start(self, message: bytes, descriptors: list[int]) -> bytes:
        job = Job.decode(message)
        out, err = descriptors[:2]
        streams = (descriptors[2] if job.stdin else 0, out, err)
        try:
            self._leader = start(job, streams)
        except NotDone as error:
            return b"failed %d %s" % (error.errno, error.step.encode())
        self._grace = job.grace
        return b"started %d" % self._leader

    def _signal(self, number: int, group: int) -> None:
        send(number, self._leader, group=True)
        if group not in (0, self._leader) and self._owns(group):
            send(number, group, group=True)

    def _owns(self, group: int) -> bool:
        """Tell whether a group is one of the command's session, and no stranger's by now."""
        try:
            return any(
                (itsGroup, session) == (group, self._leader)
                for _, _, itsGroup, session in processes()
            )
        except OSError:
            return False

    def _end(self) -> None:
        if self._ended:
            self._sweep()
        elif self._killAt is None:
            self._killAt = time.monotonic() + self._grace
            send(signal.SIGTERM, self._leader, group=True)
            # A stopped process takes TERM only once it goes on.
            send(signal.SIGCONT, self._leader, group=True)

    def _sweep(self) -> None:
        if self._rounds is None:
            self._rounds = Rounds()

    def _look(self) -> None:
        """See what has ended, and kill what is to be killed."""
        if not self._leader:
            reapAny(0)
            return
        if not self._ended:
            result = reapAny(self._leader)
            if result is not None:
                self._leaderEnded(result)
                if not self._leader:
                    return
        if self._killAt is not None and time.monotonic() >= self._killAt:
            self._sweep()
        if self._rounds is not None:
            self._round(self._rounds)
        elif self._ended and self._thorough and left({self._leader}) == set():
            self._swept()

    def _leaderEnded(self, result: os.waitid_result) -> None:
        if result.si_code == os.CLD_EXITED:
            status = result.si_status << 8
        else:
            status = result.si_status | (0x80 if result.si_code == os.CLD_DUMPED else 0)
        self._ended = True
        alone = self._thorough and left({self._leader}) == set()
        if alone:
            bury(self._leader)
            self._free()
        self._attention.say(b"exited %d %d" % (status, alone))
        if not alone and not self._attention.open:
            # Nobody is there to ask for it after a while.
            self._sweep()

    def _round(self, rounds: Rounds) -> None:
        # While the leader is not reaped, the group's number is taken.
        send(signal.SIGKILL, self._leader, group=True)
        living = left({self._leader}) if self._thorough else set()
        if living is not None and not self._ended:
            living.add(self._leader)
        rounds.kill(living)
        if self._ended and living == set():
            self._swept()

    def _swept(self) -> None:
        bury(self._leader)
        self._free()
        self._attention.say(b"swept")


def reapAny(leader: int) -> os.waitid_result | None:
    """
    Reap the children that have ended, in the order in which they are found, up to the leader.

    @param leader: is left to be reaped, as its number is also that of its group.
    @return: how the leader ended, if it has.
    """
    while True:
        try:
            result = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if result is None or result.si_pid == leader:
            return result
        bury(result.si_pid)


def start(job: Job, streams: tuple[int, int, int]) -> int:
    """
    Start a command.

    @param job: what, and how.
    @param streams: what it reads and writes.
    @return: the number of its process.
    @raise NotDone: when that cannot be.
    """
    if job.account is None and not job.limits and not job.terminal:
        # In a third of the time of a fork.
        with contextlib.suppress(NotImplementedError):
            return _spawn(job, streams)
    return _fork(job, streams)


def _spawn(job: Job, streams: tuple[int, int, int]) -> int:
    try:
        os.chdir(job.cwd)
    except OSError as error:
        raise NotDone(error.errno or errno.EIO, "enter") from error
    try:
        return os.posix_spawn(
            job.program,
            list(job.argv),
            dict(job.env),
            file_actions=[(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in enumerate(streams)],
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULTED,
        )
    except OSError as error:
        raise NotDone(error.errno or errno.EIO, "run") from error
    finally:
        os.chdir("/")


def _fork(job: Job, streams: tuple[int, int, int]) -> int:
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise NotDone(error.errno or errno.EIO, "run") from error
    if pid == 0:
        _become(job, streams, writing)
    os.close(writing)
    with open(reading, "rb") as failure:
        # It ends when the program begins, which closes the other end.
        words = failure.read().split()
    if words:
        os.waitid(os.P_PID, pid, os.WEXITED)
        raise NotDone(int(words[0]), words[1].decode())
    return pid


def _become(job: Job, streams: tuple[int, int, int], failure: int) -> NoReturn:
    """Become the command, in a process that was just forked."""
    step = "run"
    try:
        for step in _surround(job, streams):  # noqa: B007
            pass
        step = "run"
        os.execve(job.program, list(job.argv), dict(job.env))  # noqa: S606
    except OSError as error:
        os.write(failure, b"%d %s" % (error.errno or errno.EIO, step.encode()))
    except MemoryError:
        os.write(failure, b"%d %s" % (errno.ENOMEM, step.encode()))
    except BaseException:
        os.write(failure, b"%d %s" % (errno.EINVAL, step.encode()))
    finally:
        os._exit(127)


def _surround(job: Job, streams: tuple[int, int, int]) -> Iterator[str]:
    """Make all of a command's surroundings, and name each step before it is done."""
    yield "run"
    os.setsid()
    for its, ours in enumerate(streams):
        os.dup2(ours, its)
    yield "control"
    if job.terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    yield "limit"
    for name, kind in LIMITS.items():
        if name != "memory" and name in job.limits:
            _limit(kind, job.limits[name])
    yield "become"
    if job.account is not None:
        _switch(*job.account)
    yield "enter"
    # As that user: others may not see the directory.
    os.chdir(job.cwd)
    yield "run"
    signal.set_wakeup_fd(-1)
    for number in DEFAULTED:
        # Some are the C library's own.
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    yield "limit"
    if "memory" in job.limits:
        _limit(LIMITS["memory"], job.limits["memory"])


def _limit(kind: int, value: int) -> None:
    """Set both limits, so that a command cannot raise its own; no higher than they are."""
    hard = resource.getrlimit(kind)[1]
    # A second after XCPU, which tells what happened, comes KILL, which tells nothing.
    most = value + (kind == resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(kind, (min(value, most), most))


def _switch(uid: int, gid: int, groups: Sequence[int]) -> None:
    if (uid, gid, set(groups)) == (os.geteuid(), os.getegid(), set(os.getgroups())):
        # Who is that user already needs no right to become it.
        return
    for descriptor in (0, 1, 2):
        # Else it could not open /dev/stderr, as its streams belong to the server's user.
        mode = os.fstat(descriptor).st_mode
        if os.isatty(descriptor) or stat.S_ISFIFO(mode):
            os.fchown(descriptor, uid, -1)
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)


class Keeper:
    """Forks supervisors, and kills what those leave that were killed."""

    def __init__(self, channel: socket.socket, thorough: bool) -> None:
        """
        @param channel: leads to the server.
        @param thorough: whether orphans come to this process and can be found.
        """
        self._attention = Attention(channel)
        self._thorough = thorough
        self._supervisors: set[int] = set()
        self._settling: set[int] = set()
        self._rounds = Rounds()
        self._killAt: float | None = None

    def run(self) -> None:
        """Work until the server is gone, and all supervisors are."""
        clear = True
        while self._attention.open or self._supervisors or not clear:
            if self._attention.wait(self._timeout()):
                self._take(*self._attention.receive())
            clear = self._look()
            if not self._attention.open:
                self._hurry()

    def _timeout(self) -> float | None:
        pauses = [self._rounds.wait, None if self._attention.open else LAST_ROUND]
        return min((pause for pause in pauses if pause is not None), default=None)

    def _hurry(self) -> None:
        """Let supervisors end that were stopped: a command of the server's own user can do that."""
        now = time.monotonic()
        if self._killAt is None:
            self._killAt = now + STRAGGLER_LIMIT
        for pid in self._supervisors:
            send(signal.SIGCONT if now < self._killAt else signal.SIGKILL, pid)

    def _take(self, message: bytes, descriptors: list[int]) -> None:
        word, _, rest = message.partition(b" ")
        if word == b"fork":
            with socket.socket(fileno=descriptors.pop()) as channel:
                self._fork(channel)
        elif word == b"settle":
            self._settling.add(int(rest))
        elif word == b"kill" and int(rest) in self._supervisors:
            send(signal.SIGKILL, int(rest))
        for descriptor in descriptors:
            os.close(descriptor)

    def _fork(self, channel: socket.socket) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            channel.send(b"failed %d fork" % (error.errno or errno.EAGAIN))
            return
        if pid:
            self._supervisors.add(pid)
            return
        status = 1
        try:
            self._attention.close()
            Supervisor(channel, becomeSubreaper() and self._thorough).run()
            status = 0
        finally:
            os._exit(status)

    def _look(self) -> bool:
        """
        See which supervisors are gone, and kill what is nobody's.

        @return: whether nothing is.
        """
        self._supervisors -= {pid for pid in self._supervisors if bury(pid)}
        orphans = left(self._supervisors) if self._thorough else set()
        self._rounds.kill(orphans)
        if orphans != set():
            return False
        for pid in self._settling - self._supervisors:
            self._attention.say(b"settled %d" % pid)
        self._settling &= self._supervisors
        return True


def hasProcesses() -> bool:
    """Tell whether the system says which processes there are."""
    try:
        children()
    except OSError:
        return False
    return True


def main(arguments: Sequence[str]) -> None:
    """
    Keep commands.

    @param arguments: the number of the descriptor of the socket that leads to the server.
    """
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > USUAL_DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_DESCRIPTORS, hard))
    thorough = becomeSubreaper() and hasProcesses()
    channel = socket.socket(fileno=int(arguments[0]))
    channel.set_inheritable(False)
    # What is there now is there for good: supervisors share its pages with this process.
    gc.collect()
    gc.freeze()
    Keeper(channel, thorough).run()


if __name__ == "__main__":
    main(sys.argv[1:])
