"""
The server's side of the processes that start and watch commands: L{keeper} tells theirs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.rexec import keeper
from twisted_netsuite.rexec.pipes import closeSoon

#: Supervisors without a command that are kept for the next ones: a fork takes longer than /bin/true
#: does, and each costs 0.6 MB.
WARM = 4

#: Supervisors that are asked for at a time. When many short commands come at once, those that have
#: ended free a supervisor sooner than the keeper has forked the last one.
FORKS_AT_ONCE = 4

#: Seconds in which the keeper has a supervisor ready: it takes 0.05, and on a machine that is short
#: of everything a hundred times as much.
KEEPER_TIMEOUT = 10.0

#: Seconds that processes which were killed may take to be gone. Those that take longer sleep in the
#: kernel; they go as soon as it lets them, but nobody waits any more.
SWEEP_LIMIT = 5.0

#: Seconds until a keeper that has closed its socket is looked for again, each time twice as many:
#: it is gone some microseconds later.
FIRST_LOOK = 0.001

#: Messages that are taken at a time before others get their turn.
MESSAGES_AT_ONCE = 8


class Prepared(NamedTuple):
    """
    What a supervisor needs to start a command.

    @ivar message: a job.
    @ivar descriptors: go along.
    """

    message: bytes
    descriptors: list[int]


class Supervised(Protocol):
    """A command, as its supervisor sees it."""

    def prepare(self) -> Prepared | None:
        """Tell what its supervisor gets; nothing, when it has come to its end before."""

    def supervised(self, supervisor: Supervisor) -> None:
        """Learn that a supervisor has its job."""

    def refuse(self, number: int, why: str) -> None:
        """Learn that there is no supervisor for it."""

    def started(self, pid: int) -> None:
        """Learn that it runs."""

    def failed(self, number: int, step: str) -> None:
        """Learn that it was not started."""

    def exited(self, status: int, alone: bool) -> None:
        """Learn that its leader ended."""

    def swept(self) -> None:
        """Learn that nothing of it is left."""

    def lost(self, clear: bool) -> None:
        """
        Learn that the supervisor is gone.

        @param clear: whether it is known that whatever it watched is, too.
        """


class Waiting:
    """Those who wait for the same thing."""

    def __init__(self) -> None:
        self._all: list[Deferred[None]] = []

    def join(self) -> Deferred[None]:
        """
        Wait.

        @return: fires with the others.
        """
        fired: Deferred[None] = Deferred()
        self._all.append(fired)
        return fired

    def fire(self) -> None:
        """Let all of them go on."""
        waiting, self._all = self._all, []
        for fired in waiting:
            fired.callback(None)


@implementer(IReadDescriptor)
class Channel:
    """A socket that carries one message a packet."""

    def __init__(
        self,
        reactor: Any,
        end: socket.socket,
        received: Callable[[bytes], object],
        ended: Callable[[], object],
    ) -> None:
        """
        @param reactor: watches it.
        @param end: this end of it.
        @param received: gets each message.
        @param ended: called once, when the other end is gone.
        """
        self._reactor = reactor
        self._socket = end
        self._received = received
        self._ended = ended
        self._open = True
        end.setblocking(False)
        reactor.addReader(self)

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> bool:
        """
        Send a message.

        @param message: not empty.
        @param descriptors: go along.
        @return: whether it could be sent at once.
        """
        try:
            socket.send_fds(self._socket, [message], list(descriptors))
        except OSError:
            return False
        return True

    def shutdown(self) -> None:
        """Let the other end go, which ends this one in turn."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def fileno(self) -> int:
        """Tell the descriptor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """Name this in the log."""
        return "commands"

    def doRead(self) -> None:
        """Take messages."""
        for _ in range(MESSAGES_AT_ONCE):
            try:
                message = self._socket.recv(keeper.MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self.close()
                return
            self._received(message)
            if not self._open:
                return

    def connectionLost(self, reason: Failure) -> None:
        """The other end is gone, which some reactors notice without a read."""
        if self._open:
            # They do not look whether it has said something before.
            self.doRead()
            self.close()

    def close(self) -> None:
        """Let go of it."""
        if self._open:
            self._open = False
            self._reactor.removeReader(self)
            closeSoon(self._reactor, self._socket.detach())
            self._ended()


class Supervisor:
    """
    A process that runs one command at a time.

    @ivar pid: its number; 0 before it is ready.
    @ivar keeper: forked it.
    @ivar command: what it runs.
    @ivar thorough: whether it finds processes that have left the command's group.
    @ivar failure: why it could not be forked, as the system says.
    """

    def __init__(self, pool: SupervisorPool, keeper: KeeperProcess, ours: socket.socket) -> None:
        """
        @param pool: it belongs to.
        @param keeper: forks it.
        @param ours: leads to it.
        """
        self.pid = 0
        self.keeper = keeper
        self.command: Supervised | None = None
        self.thorough = True
        self.failure = 0
        self._pool = pool
        self.channel = Channel(pool.reactor, ours, self._received, self._ended)

    def take(self, command: Supervised, prepared: Prepared) -> bool:
        """
        Run a command.

        @param command: the next one.
        @param prepared: its job.
        @return: whether the supervisor was there to take it.
        """
        if not self.channel.send(*prepared):
            self.channel.shutdown()
            return False
        self.command = command
        command.supervised(self)
        return True

    def release(self) -> None:
        """The command has ended, and nothing is left of it."""
        if self.command is not None:
            self.command = None
            self._pool.freed(self)

    def kill(self) -> bool:
        """
        End it, as it does not answer; its keeper sees to what it leaves.

        @return: whether there is somebody to do so.
        """
        return self.keeper.killSupervisor(self.pid)

    def abandon(self) -> None:
        """Let it go, with whatever it still waits for."""
        self.command = None
        self.channel.shutdown()

    def _received(self, message: bytes) -> None:
        word, *rest = message.split()
        command = self.command
        match word:
            case b"ready":
                self.pid, self.thorough = int(rest[0]), rest[1] == b"1"
                self._pool.ready(self)
            case b"failed" if rest[1] == b"fork":
                self.failure = int(rest[0])
            case _ if command is None:
                # Of a command that was given up.
                pass
            case b"started":
                command.started(int(rest[0]))
            case b"failed":
                command.failed(int(rest[0]), rest[1].decode())
            case b"exited":
                command.exited(int(rest[0]), rest[1] == b"1")
            case b"swept":
                command.swept()

    def _ended(self) -> None:
        command, self.command = self.command, None
        self._pool.gone(self)
        if command is not None:
            self.keeper.settled(self.pid).addCallback(command.lost)


class KeeperProcess:
    """
    The keeper.

    @ivar alive: whether it was there when it was last heard of.
    """

    def __init__(self, pool: SupervisorPool) -> None:
        """
        Start it.

        @param pool: what it forks for.
        @raise OSError: when it cannot be started.
        """
        self.alive = True
        self._pool = pool
        self._settling: dict[int, Deferred[bool]] = {}
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            try:
                self._process = subprocess.Popen(  # noqa: S603
                    keeperCommand(its.fileno()),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[its.fileno()],
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        self.channel = Channel(pool.reactor, ours, self._received, self._ended)

    def fork(self) -> Supervisor:
        """
        Have a supervisor forked.

        @return: it, once it is ready; or its end.
        @raise OSError: when that cannot be.
        """
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            # A keeper that cannot take it lets it end at once.
            self._tell(b"fork", [its.fileno()])
        return Supervisor(self._pool, self, ours)

    def killSupervisor(self, pid: int) -> bool:
        """
        Have a supervisor killed, and after it whatever it watched.

        @param pid: its number.
        @return: whether the keeper was there to be asked.
        """
        return self.alive and self._tell(b"kill %d" % pid)

    def _tell(self, message: bytes, descriptors: Sequence[int] = ()) -> bool:
        self.wake()
        return self.channel.send(message, descriptors)

    def wake(self) -> None:
        """Let it go on: a command of the server's own user can have stopped it."""
        self._process.send_signal(signal.SIGCONT)

    def settled(self, pid: int) -> Deferred[bool]:
        """
        Wait until nothing is left of a supervisor that is gone.

        @param pid: its number.
        @return: fires with C{True} then; with C{False} when the keeper is gone, or after
            L{SWEEP_LIMIT}.
        """
        if not self.alive or not self._tell(b"settle %d" % pid):
            return succeed(False)
        settled = self._settling[pid] = Deferred()
        settled.addTimeout(SWEEP_LIMIT, self._pool.reactor, lambda _, __: False)
        return settled

    def kill(self) -> None:
        """End it, as it does not answer."""
        self._process.kill()

    def _received(self, message: bytes) -> None:
        settled = self._settling.pop(int(message.split()[1]), None)
        if settled is not None and not settled.called:
            settled.callback(True)

    def _ended(self) -> None:
        # Not killed: a reactor that stops lets go of all sockets, and the keeper has work then.
        self.alive = False
        settling, self._settling = self._settling, {}
        for settled in settling.values():
            if not settled.called:
                settled.callback(False)
        self._pool.keeperGone(self)
        self._reap(FIRST_LOOK)

    def _reap(self, pause: float) -> None:
        # Waiting for it would halt the server for as long as the kernel does not let it go.
        if self._process.poll() is None and pause < SWEEP_LIMIT:
            self._pool.reactor.callLater(pause, self._reap, pause * 2)
        else:
            self._pool.keeperReaped(self)


def keeperCommand(descriptor: int) -> list[str]:
    """
    Tell how the keeper is started.

    @param descriptor: of its socket.
    @return: its arguments.
    """
    return [sys.executable, "-I", "-S", os.path.abspath(keeper.__file__), str(descriptor)]


class SupervisorPool:
    """
    Finds each command a supervisor, and has more of them forked when all are taken.
    """

    log = Logger()

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: watches the sockets, and tells time.
        """
        self.reactor = reactor
        self._keeper: KeeperProcess | None = None
        self._proven = False
        self._waiting: deque[Supervised] = deque()
        self._forking: set[Supervisor] = set()
        self._idle: list[Supervisor] = []
        self._all: set[Supervisor] = set()
        self._keepers: set[KeeperProcess] = set()
        self._timer: IDelayedCall | None = None
        self._stopping = False
        self._stopTimer: IDelayedCall | None = None
        self._awaitingStop = Waiting()
        self._warned = False
        self._troubled = False

    def run(self, command: Supervised) -> None:
        """
        Run a command on the next supervisor that is free.

        @param command: what.
        """
        self._waiting.append(command)
        self._dispatch()

    def withdraw(self, command: Supervised) -> bool:
        """
        Forget a command.

        @param command: what.
        @return: whether it had not been handed to a supervisor.
        """
        try:
            self._waiting.remove(command)
        except ValueError:
            return False
        return True

    def _dispatch(self) -> None:
        while self._waiting and self._idle:
            command = self._waiting[0]
            prepared = command.prepare()
            if prepared is None or self._idle.pop().take(command, prepared):
                self._waiting.popleft()
        self._order()

    def _order(self) -> None:
        """Ask for as many supervisors as are wanted: one for the next command is always."""
        if self._stopping:
            return
        wanted = len(self._waiting) + (not self._idle)
        try:
            while len(self._forking) < min(wanted, FORKS_AT_ONCE):
                self._fork()
        except OSError as error:
            self._refuse(error.errno or errno.EAGAIN, "no process was left to watch it")
        if self._waiting and self._timer is None:
            self._timer = self.reactor.callLater(KEEPER_TIMEOUT, self._late)

    def _fork(self) -> None:
        if self._keeper is None:
            self._proven = False
            self._keeper = KeeperProcess(self)
            self._keepers.add(self._keeper)
        supervisor = self._keeper.fork()
        self._forking.add(supervisor)
        self._all.add(supervisor)

    def _refuse(self, number: int, why: str) -> None:
        """Refuse the commands that no supervisor is coming for."""
        while len(self._waiting) > len(self._forking):
            self._complain(number, why)
            self._waiting.pop().refuse(number, why)

    def _complain(self, number: int, why: str) -> None:
        """Log it, once for all commands that meet the same trouble."""
        if not self._troubled:
            self._troubled = True
            self.log.error(
                "No command can be started, as {why}: {error}.", why=why, error=os.strerror(number)
            )

    def _late(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, deque()
        why = "what starts commands did not answer"
        self._complain(errno.ETIMEDOUT, why)
        for command in waiting:
            command.refuse(errno.ETIMEDOUT, why)
        if self._keeper is not None:
            self._keeper.kill()
            # It is not asked again, although its end is yet to be heard of.
            self._forsake(self._keeper)

    def _progress(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def ready(self, supervisor: Supervisor) -> None:
        """
        Take in a new supervisor.

        @param supervisor: has just been forked.
        """
        self._progress()
        self._troubled = False
        self._forking.discard(supervisor)
        if supervisor.keeper is self._keeper:
            self._proven = True
        if not supervisor.thorough and not self._warned:
            self._warned = True
            self.log.warn(
                "This system does not tell which processes a command has started: those that leave "
                "its process group outlive it."
            )
        self.freed(supervisor)

    def freed(self, supervisor: Supervisor) -> None:
        """
        Give a supervisor its next command, or let it wait for one.

        @param supervisor: has none.
        """
        foreign = supervisor.keeper is not self._keeper
        if foreign or self._stopping or (not self._waiting and len(self._idle) >= WARM):
            # One without its keeper would leave orphans if it were killed.
            supervisor.channel.shutdown()
        else:
            self._idle.append(supervisor)
        self._dispatch()

    def gone(self, supervisor: Supervisor) -> None:
        """
        Forget a supervisor.

        @param supervisor: has ended.
        """
        self._all.discard(supervisor)
        if supervisor in self._idle:
            self._idle.remove(supervisor)
        if supervisor in self._forking:
            self._forking.discard(supervisor)
            if supervisor.failure:
                self._refuse(supervisor.failure, "no process was left to watch it")
            elif self._waiting:
                self._order()
        self._checkStopped()

    def keeperGone(self, gone: KeeperProcess) -> None:
        """
        Go on without a keeper; the next command gets a new one.

        @param gone: has ended.
        """
        if gone is self._keeper:
            self._forsake(gone)
            if self._stopping:
                return
            if not self._proven:
                self._progress()
                self._refuse(errno.ECHILD, "what starts commands has ended at once")
            elif self._waiting:
                self._order()

    def keeperReaped(self, gone: KeeperProcess) -> None:
        """
        Wait no longer for a keeper.

        @param gone: has ended, and is no process any more.
        """
        self._keepers.discard(gone)
        self._checkStopped()

    def _forsake(self, gone: KeeperProcess) -> None:
        """Have a new keeper fork the next supervisor, and let those of the old one go."""
        self._keeper = None
        for supervisor in [idle for idle in self._idle if idle.keeper is gone]:
            self._idle.remove(supervisor)
            supervisor.channel.shutdown()
        self._forking = {forking for forking in self._forking if forking.keeper is not gone}

    def stop(self) -> Deferred[None]:
        """
        Let go of all processes; no command runs any more.

        @return: fires once they are gone.
        """
        if not self._stopping:
            self._stopping = True
            self._progress()
            for supervisor in list(self._all):
                supervisor.channel.shutdown()
            for process in list(self._keepers):
                process.wake()
                process.channel.shutdown()
            self._stopTimer = self.reactor.callLater(SWEEP_LIMIT, self._giveUp)
            self._idle.clear()
            self.reactor.callLater(0, self._checkStopped)
        return self._awaitingStop.join()

    def _giveUp(self) -> None:
        self._stopTimer = None
        for supervisor in list(self._all):
            supervisor.channel.close()
        for process in list(self._keepers):
            process.kill()
            process.channel.close()

    def _checkStopped(self) -> None:
        if self._stopping and not self._all and not self._keepers:
            if self._stopTimer is not None:
                self._stopTimer.cancel()
                self._stopTimer = None
            self._keeper = None
            self._stopping = False
            self._awaitingStop.fire()
