"""
Running one command in a session and process group of its own, and ending all of it.

Twisted's C{spawnProcess} leaves a child without a terminal in the server's own process group, where
it cannot be killed as a whole. So the standard library starts the process, and the reactor watches
its pipes and its exit (by pidfd, so under every reactor).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Shape

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

#: Seconds between TERM and KILL: long enough for a command to remove its temporary files, short
#: enough that stopping the server stays below two seconds.
KILL_GRACE = 1.0

#: Seconds that pipes are still read after the command itself has ended. What it wrote is in the
#: pipes already; only a process it left behind can hold them open for longer.
DRAIN_LIMIT = 0.5

#: Bytes that one read takes from a pipe: a pipe's usual capacity on Linux.
READ_SIZE = 64 * 1024


@dataclass(frozen=True)
class Exited:
    """The command ended by itself.

    @ivar code: its exit status, 0 to 255.
    """

    code: int


@dataclass(frozen=True)
class Signalled:
    """A signal ended the command.

    @ivar number: the signal.
    """

    number: int


Ending = Exited | Signalled


class CommandReceiver(Shape):
    """Gets what a command writes, and how it ended."""

    def outReceived(self, data: bytes) -> None:
        """Get a piece of standard output."""

    def errReceived(self, data: bytes) -> None:
        """Get a piece of standard error."""

    def commandEnded(self, ending: Ending) -> None:
        """Learn how it ended; nothing comes after this."""


class RunningCommand(Shape):
    """A command that was started."""

    def end(self) -> None:
        """Ask the whole process group to end, and kill it soon after."""


class Spawner(Shape):
    """Starts commands."""

    def __call__(
        self, argv: Sequence[bytes], env: Mapping[str, str], receiver: CommandReceiver
    ) -> RunningCommand:
        """
        Start a command.

        @param argv: the program and its arguments.
        @param env: its whole environment.
        @param receiver: gets what it writes.
        @raise OSError: when it cannot be started.
        """


class ProcessSpawner:
    """Starts commands as processes of this machine."""

    def __init__(self, reactor: Any, drainLimit: float = DRAIN_LIMIT) -> None:
        """
        @param reactor: watches the pipes, and tells time.
        @param drainLimit: seconds that pipes are read after the command itself has ended.
        """
        self._reactor = reactor
        self._drainLimit = drainLimit

    def __call__(
        self, argv: Sequence[bytes], env: Mapping[str, str], receiver: CommandReceiver
    ) -> CommandProcess:
        """
        Start a command with nothing on its standard input.

        @param argv: the program and its arguments.
        @param env: its whole environment.
        @param receiver: gets what it writes.
        @return: the running command.
        @raise OSError: when it cannot be started.
        """
        process = subprocess.Popen(  # noqa: S603
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            restore_signals=True,
        )
        return CommandProcess(self._reactor, process, receiver, self._drainLimit)


class CommandProcess:
    """
    A command that was started as a process.

    Its process is reaped last: until then its number cannot be given to another, so signals to its
    group reach no stranger.
    """

    def __init__(
        self,
        reactor: Any,
        process: subprocess.Popen[bytes],
        receiver: CommandReceiver,
        drainLimit: float,
    ) -> None:
        """
        @param reactor: watches the pipes, and tells time.
        @param process: just started, as the leader of its group.
        @param receiver: gets what it writes.
        @param drainLimit: seconds that pipes are read after the process has ended.
        """
        self._reactor = reactor
        self._process = process
        self._receiver = receiver
        self._drainLimit = drainLimit
        self._ending = False
        self._leaderGone = False
        self._reaped = False
        self._timer: IDelayedCall | None = None
        assert process.stdout is not None
        assert process.stderr is not None
        self._pipes = {
            _PipeReader(reactor, process.stdout.fileno(), receiver.outReceived, self._pipeEnded),
            _PipeReader(reactor, process.stderr.fileno(), receiver.errReceived, self._pipeEnded),
        }
        watchExit(reactor, process.pid, self._leaderEnded)

    def end(self) -> None:
        """Ask the whole process group to end, and kill it after a grace."""
        if self._reaped or self._ending:
            return
        self._ending = True
        self._signal(signal.SIGTERM)
        # A stopped process takes TERM only once it goes on.
        self._signal(signal.SIGCONT)
        self._arm(KILL_GRACE, self._kill)

    def _kill(self) -> None:
        self._timer = None
        self._signal(signal.SIGKILL)
        self._arm(self._drainLimit, self._finish)

    def _leaderEnded(self) -> None:
        self._leaderGone = True
        if not self._pipes:
            self._finish()
        elif self._timer is None:
            self._arm(self._drainLimit, self._finish)

    def _pipeEnded(self, pipe: _PipeReader) -> None:
        self._pipes.discard(pipe)
        if not self._pipes and self._leaderGone:
            self._finish()

    def _arm(self, delay: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.callLater(delay, then)

    def _finish(self) -> None:
        """Leave nothing of the group behind, then reap its leader and report."""
        if self._reaped:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if not self._leaderGone:
            # Killed, and yet there: it sleeps in the kernel. Its exit will come here again.
            return
        self._signal(signal.SIGKILL)
        self._reaped = True
        for pipe in list(self._pipes):
            pipe.drop()
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdout.close()
        self._process.stderr.close()
        status = self._process.wait()
        self._receiver.commandEnded(Exited(status) if status >= 0 else Signalled(-status))

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


@implementer(IReadDescriptor)
class _PipeReader:
    """Reads one pipe until it ends."""

    def __init__(
        self,
        reactor: Any,
        descriptor: int,
        received: Callable[[bytes], object],
        ended: Callable[[_PipeReader], object],
    ) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._received = received
        self._ended = ended
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        reactor.addReader(self)

    def fileno(self) -> int:
        """Tell the descriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Name this in the log."""
        return "command"

    def doRead(self) -> Exception | None:  # type: ignore[override]
        """Take what is there."""
        try:
            data = os.read(self._descriptor, READ_SIZE)
        except OSError as error:
            return None if error.errno == errno.EAGAIN else CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self._received(data)
        return None

    def connectionLost(self, reason: Failure) -> None:
        """The pipe has ended, which some reactors notice without a read."""
        self._reactor.removeReader(self)
        self._ended(self)

    def drop(self) -> None:
        """Take what is there, as a busy reactor may not have read it yet, and read no more."""
        self.doRead()
        self._reactor.removeReader(self)


def watchExit(reactor: Any, pid: int, ended: Callable[[], None]) -> None:
    """
    Notice that a child has ended, without reaping it.

    @param reactor: watches a pidfd; without pidfds, a thread waits in its place.
    @param pid: a child of this process.
    @param ended: called once, in the reactor.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        _waitInThread(reactor, pid, ended)
    else:
        reactor.addReader(_ExitReader(reactor, descriptor, ended))


def _waitInThread(reactor: Any, pid: int, ended: Callable[[], None]) -> None:
    def wait() -> None:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        reactor.callFromThread(ended)

    threading.Thread(target=wait, daemon=True, name=f"exit of {pid}").start()


@implementer(IReadDescriptor)
class _ExitReader:
    """Watches a pidfd, which is readable once its process has ended."""

    def __init__(self, reactor: Any, descriptor: int, ended: Callable[[], None]) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._ended = ended

    def fileno(self) -> int:
        """Tell the descriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Name this in the log."""
        return "exit"

    def doRead(self) -> None:
        """The process has ended."""
        self._reactor.removeReader(self)
        os.close(self._descriptor)
        self._descriptor = -1
        self._ended()

    def connectionLost(self, reason: Failure) -> None:
        """Some reactors tell it so."""
        if self._descriptor >= 0:
            self.doRead()
