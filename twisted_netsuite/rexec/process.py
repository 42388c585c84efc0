"""
Commands as processes of this machine: what they write, what they read, and how they end. What
starts and kills them are processes beside the server, see L{supervision} and L{keeper}.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, ParamSpec

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_netsuite.rexec.keeper import KILL_GRACE, MAX_MESSAGE, Job
from twisted_netsuite.rexec.launch import (
    CommandReceiver,
    Ending,
    Exited,
    Launch,
    Lost,
    NotStarted,
    OutputStream,
    Signalled,
    TerminalSize,
)
from twisted_netsuite.rexec.pipes import (
    InputWriter,
    OutputReader,
    foregroundGroup,
    setSize,
)
from twisted_netsuite.rexec.supervision import (
    SWEEP_LIMIT,
    Prepared,
    Supervisor,
    SupervisorPool,
    Waiting,
)

P = ParamSpec("P")

#: Seconds that streams are still read after the command itself has ended, while something that it
#: left behind may write to them; time in which nothing may be read does not count. What the command
#: wrote is in the pipes already.
DRAIN_LIMIT = 0.5

#: Seconds that a supervisor has to say that it has started a command, or cannot: one that its
#: command has stopped before never does. It takes milliseconds where nothing is wrong.
START_LIMIT = 10.0

#: Seconds in which the end of a command is told that was asked to end, where nothing is as it is to
#: be: after the grace its supervisor does not answer, as it was stopped; its keeper is told to kill
#: that, and says nothing either; and some of its output was never allowed to be read.
END_LIMIT = KILL_GRACE + SWEEP_LIMIT + SWEEP_LIMIT + DRAIN_LIMIT

#: Bytes of a command's strings: Linux takes 2 MiB of them where the stack may have the usual 8, and
#: says so itself when there are more. This only bounds what is copied before it can.
MAX_STRINGS = 8 * 1024 * 1024

#: What could not be done, by the supervisor's word for it.
_STEPS = {
    "enter": "enter {cwd}",
    "become": "become {user}",
    "limit": "limit {program}",
    "control": "give {program} a terminal",
}


class ProcessSpawner:
    """
    Starts commands as processes of this machine.

    It starts a process of its own with the first command, see L{supervision}; whoever made it calls
    L{stop} in the end. If the server is killed without having done so, all commands end.
    """

    def __init__(
        self, reactor: Any, drainLimit: float = DRAIN_LIMIT, killGrace: float = KILL_GRACE
    ) -> None:
        """
        @param reactor: watches the pipes, and tells time.
        @param drainLimit: seconds that pipes are read after the command itself has ended.
        @param killGrace: seconds between TERM and KILL.
        """
        self._reactor = reactor
        self._drainLimit = drainLimit
        self._killGrace = killGrace
        self._pool = SupervisorPool(reactor)
        self._running: set[CommandProcess] = set()
        self._stopping = False
        self._awaitingEnds = Waiting()
        self._awaitingStop = Waiting()

    def __call__(self, launch: Launch, receiver: CommandReceiver) -> CommandProcess:
        """
        Start a command.

        @param launch: what, and how.
        @param receiver: gets what becomes of it; that it could not be started, too.
        @return: the command.
        """
        command = CommandProcess(
            self._reactor, self._pool, launch, receiver, self._drainLimit, self._killGrace
        )
        self._running.add(command)
        command.onGone = self._forget
        if self._stopping:
            command.refuseStopping()
        else:
            self._pool.run(command)
        return command

    def _forget(self, command: CommandProcess) -> None:
        self._running.discard(command)
        if not self._running:
            self._awaitingEnds.fire()

    def stop(self) -> Deferred[None]:
        """
        Kill what runs, and let go of all processes.

        @return: fires once nothing is left; another command may be started after that.
        """
        stopped = self._awaitingStop.join()
        if not self._stopping:
            self._stopping = True
            Deferred.fromCoroutine(self._stop())
        return stopped

    async def _stop(self) -> None:
        for command in list(self._running):
            command.kill()
        if self._running:
            await self._awaitingEnds.join()
        await self._pool.stop()
        # Those that came meanwhile were refused, and may have yet to be told.
        if self._running:
            await self._awaitingEnds.join()
        self._stopping = False
        self._awaitingStop.fire()


class CommandProcess:
    """A command that is, or will be, a process."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        pool: SupervisorPool,
        launch: Launch,
        receiver: CommandReceiver,
        drainLimit: float,
        killGrace: float,
    ) -> None:
        """
        @param reactor: watches the pipes, and tells time.
        @param pool: finds its supervisor.
        @param launch: what is started.
        @param receiver: gets what becomes of it.
        @param drainLimit: seconds that pipes are read after it has ended.
        @param killGrace: seconds between TERM and KILL.
        """
        self.onGone: Callable[[CommandProcess], object] = lambda command: None
        self._reactor = reactor
        self._pool = pool
        self._launch = launch
        self._receiver = receiver
        self._killGrace = killGrace
        out, err = self._telling(receiver.outReceived), self._telling(receiver.errReceived)
        self._out = OutputReader(reactor, out, self._changed, self._break)
        self._err = OutputReader(reactor, err, self._changed, self._break)
        taken, lost = self._telling(receiver.stdinTaken), self._telling(receiver.stdinLost)
        self._in = InputWriter(reactor, taken, lost, self._break)
        self._size = launch.terminal
        self._held = -1
        self._prepared: Prepared | None = None
        self._supervisor: Supervisor | None = None
        self._drain = Drain(reactor, drainLimit, self._drained)
        self._guard: IDelayedCall | None = None
        #: Whether it ends although not all of its output was allowed to be read.
        self._cut = False
        #: Whether its receiver knows that its output waits after its end.
        self._waits = False
        #: Whether its receiver has missed something.
        self._broken = False
        self._begun = False
        self._ending: Ending | None = None
        self._sweeping = False
        self._clear = False
        self._over = False

    # What its owner calls.

    def allow(self, stream: OutputStream, count: int) -> None:
        """
        Let some of its output be read.

        @param stream: which.
        @param count: bytes, beside those that were allowed before.
        """
        (self._out if stream == "stdout" else self._err).allow(count)

    def pause(self) -> None:
        """Read nothing for now."""
        for reader in (self._out, self._err):
            reader.pause(True)

    def resume(self) -> None:
        """Read on."""
        for reader in (self._out, self._err):
            reader.pause(False)

    def write(self, data: bytes) -> None:
        """
        Give it input.

        @param data: what it will read.
        """
        self._in.write(data)

    def endInput(self) -> None:
        """Let it read the end of its input, after all that was written."""
        self._in.end()

    def signal(self, number: int) -> None:
        """
        Send a signal to its process group; with a terminal, to the group in the foreground as well.

        @param number: the signal.
        """
        group = foregroundGroup(self._terminal) if self._terminal >= 0 else 0
        self._tell(b"signal %d %d" % (number, group))

    def resize(self, size: TerminalSize) -> None:
        """
        Change the size of its terminal.

        @param size: the new one.
        """
        if self._size is not None:
            self._size = size
            if self._terminal >= 0:
                setSize(self._terminal, size)

    def end(self) -> None:
        """
        Ask its process group to end, and after a grace kill it and all that has left it.

        After that, its end is reported within the drain limit, and output that was not allowed to
        be read until then is lost.
        """
        if not self._cut:
            self._stop(b"end", self._killGrace)

    def kill(self) -> None:
        """Kill it and all that has left it, as L{end} does after its grace."""
        self._stop(b"sweep", 0)

    def _stop(self, word: bytes, grace: float) -> None:
        if self._over:
            return
        self._cut = True
        if self._pool.withdraw(self):
            self._refused(errno.ECANCELED, self._words("run"))
            return
        self._tell(word)
        self._watchOver(grace + SWEEP_LIMIT)
        self._changed()

    def _tell(self, message: bytes) -> None:
        if self._supervisor is None or self._clear:
            return
        if not self._supervisor.channel.send(message) and not message.startswith(b"signal"):
            # It takes nothing any more. Without its socket it ends the command by itself.
            self._supervisor.channel.shutdown()

    def _telling(self, tell: Callable[P, object]) -> Callable[P, None]:
        """Let what a receiver raises end its own command, and no other."""

        def told(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                tell(*args, **kwargs)
            except Exception:
                self.log.failure("What a command did could not be taken; it is killed.")
                self._break()

        return told

    def _break(self) -> None:
        """Kill it: what has come of it so far must not be taken for all that there was."""
        self._broken = True
        self._in.halt()
        self.kill()
        for reader in (self._out, self._err):
            reader.close()

    # What is asked of it before it starts.

    def prepare(self) -> Prepared | None:
        """
        Make its streams, and its job.

        @return: what its supervisor gets; C{None} when it cannot be started.
        """
        if self._prepared is None and not self._over:
            try:
                self._prepared = self._prepare()
            except ValueError:
                self._refused(errno.EINVAL, self._words("run"))
            except OSError as error:
                self._refused(error.errno or errno.EIO, self._words("run"))
        return self._prepared

    def _prepare(self) -> Prepared:
        job = self._job().encode()
        if len(job) > MAX_STRINGS:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        its = self._openTerminal() if self._launch.terminal else self._openPipes()
        message = b"job " + job
        if len(message) > MAX_MESSAGE:
            message = b"stored"
            try:
                its.append(stored(job))
            except OSError:
                closeAll(its)
                raise
        return Prepared(message, its)

    def _job(self) -> Job:
        launch = self._launch
        account, limits = launch.account, vars(launch.limits)
        return Job(
            launch.program,
            launch.argv,
            launch.env,
            launch.cwd,
            launch.stdin or launch.terminal is not None,
            launch.terminal is not None,
            (account.uid, account.gid, account.groups) if account is not None else None,
            {name: value for name, value in limits.items() if value is not None},
            self._killGrace,
        )

    def _openPipes(self) -> list[int]:
        pipes: list[int] = []
        try:
            for _ in range(3 if self._launch.stdin else 2):
                pipes += os.pipe()
        except OSError:
            closeAll(pipes)
            raise
        outRead, outWrite, errRead, errWrite, *rest = pipes
        self._out.connect(outRead)
        self._err.connect(errRead)
        if rest:
            self._in.connect(rest[1])
        return [outWrite, errWrite, *rest[:1]]

    def _openTerminal(self) -> list[int]:
        terminals = list(os.openpty())
        try:
            if self._size is not None:
                setSize(terminals[0], self._size)
            # The reactor knows a descriptor either as a reader or as a writer.
            terminals.append(os.dup(terminals[0]))
            # One more than it needs: a terminal that nobody has open hangs up for good, and a
            # command may close it and open it again.
            for _ in range(3):
                terminals.append(os.dup(terminals[1]))
        except OSError:
            closeAll(terminals)
            raise
        ours, its, writing, self._held, *more = terminals
        self._out.connect(ours)
        self._in.connect(writing)
        self._err.close()
        return [its, *more]

    def _letGo(self) -> None:
        """Leave its terminal to those that have it open, if any."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    @property
    def _terminal(self) -> int:
        """The descriptor of its terminal, as long as it is open."""
        return self._out.fileno() if self._launch.terminal is not None else -1

    # What its supervisor tells.

    def supervised(self, supervisor: Supervisor) -> None:
        """
        Let go of what its supervisor has now.

        @param supervisor: starts and watches it.
        """
        assert self._prepared is not None
        closeAll(self._prepared.descriptors)
        self._supervisor = supervisor
        self._watchOver(START_LIMIT)
        if self._launch.terminal is None and not self._launch.stdin:
            self._in.close()

    def refuse(self, number: int, why: str) -> None:
        """
        Learn that there is no supervisor for it.

        @param number: what the system says.
        @param why: in words.
        """
        self._refused(number, f"{self._words('run')}, as {why}", own=True)

    def refuseStopping(self) -> None:
        """Learn that it came too late."""
        self._refused(errno.ESHUTDOWN, f"{self._words('run')}, as the service is stopping")

    def _refused(self, number: int, what: str, own: bool = False) -> None:
        if self._prepared is not None and self._supervisor is None:
            closeAll(self._prepared.descriptors)
        self._ending = NotStarted(number, what, own)
        self._closeStreams()
        # Nothing is called before the spawner has returned.
        self._reactor.callLater(0, self._finish)

    def started(self, pid: int) -> None:
        """
        Pass on that it runs.

        @param pid: the number of its first process.
        """
        self._begun = True
        if not self._cut:
            self._stopGuard()
        self._telling(self._receiver.started)(pid)
        # Not before: a pipe may be looked at earlier than the socket that tells of the start.
        for stream in (self._out, self._err, self._in):
            stream.begin()

    def failed(self, number: int, step: str) -> None:
        """
        Learn that it was not started.

        @param number: what the system says.
        @param step: what could not be done.
        """
        self._ending = NotStarted(number, self._words(step))
        self._closeStreams()
        self._free()
        self._finish()

    def _words(self, step: str) -> str:
        launch = self._launch
        return _STEPS.get(step, "run {program}").format(
            cwd=os.fsdecode(launch.cwd),
            program=os.fsdecode(launch.program),
            user=launch.account.name if launch.account else "the user",
        )

    def exited(self, status: int, alone: bool) -> None:
        """
        Learn that its first process ended.

        @param status: as C{wait} tells it.
        @param alone: whether nothing is left of it.
        """
        if os.WIFEXITED(status):
            self._ending = Exited(os.WEXITSTATUS(status))
        else:
            self._ending = Signalled(os.WTERMSIG(status), os.WCOREDUMP(status))
        self._letGo()
        if alone:
            self.swept()
        else:
            self._changed()

    def swept(self) -> None:
        """Learn that nothing of it is left."""
        self._free()
        self._cleared()

    def lost(self, clear: bool) -> None:
        """
        Learn that its supervisor is gone.

        @param clear: whether it is known that whatever it watched is, too.
        """
        self._ending = self._ending or Lost(clear)
        # Of one that nobody knows to have started, nothing is read.
        self._cut = self._cut or not self._begun
        self._cleared()

    def _free(self) -> None:
        if self._supervisor is not None:
            supervisor, self._supervisor = self._supervisor, None
            supervisor.release()

    # How it ends.

    def _cleared(self) -> None:
        """Nobody writes any more: what is in the pipes is all that will come."""
        self._clear = True
        self._supervisor = None
        self._letGo()
        self._in.close()
        self._stopGuard()
        self._drain.restart()
        # Until it is known of each whether it holds something, nothing is said to wait.
        waits, self._waits = self._waits, True
        for reader in self._open:
            reader.unwritten()
        self._waits = waits
        self._changed()

    @property
    def _open(self) -> list[OutputReader]:
        return [reader for reader in (self._out, self._err) if reader.open]

    def _changed(self) -> None:
        """See whether it is time to go on: after its end, with each change of a stream."""
        if self._ending is None or self._over:
            return
        if not self._open:
            self._drained()
            return
        # A receiver that is slow shall miss nothing; one that has asked for the end, may.
        reading = self._cut or all(reader.reading for reader in self._open)
        self._drain.count(reading)
        if not reading and not self._waits and self._begun:
            self._waits = True
            self._telling(self._receiver.outputWaits)()

    def _drained(self) -> None:
        self._drain.count(False)
        if not self._clear:
            self._sweep()
            return
        # A busy reactor may not have come to them.
        for reader in self._open:
            reader.drain()
        if self._cut:
            self._closeStreams()
        if not self._open:
            self._finish()
        else:
            self._drain.restart()
            self._changed()

    def _sweep(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._watchOver(SWEEP_LIMIT)
            self._tell(b"sweep")

    def _watchOver(self, seconds: float) -> None:
        self._stopGuard()
        self._guard = self._reactor.callLater(seconds, self._overdue)

    def _stopGuard(self) -> None:
        if self._guard is not None and self._guard.active():
            self._guard.cancel()
        self._guard = None

    def _overdue(self) -> None:
        """
        Have its supervisor killed, which may have been stopped, as a command of the server's own
        user can do: its keeper sweeps then.
        """
        if self._supervisor is not None and self._supervisor.kill():
            self._guard = self._reactor.callLater(SWEEP_LIMIT, self._abandon)
        else:
            self._abandon()

    def _abandon(self) -> None:
        """What was killed is not gone, as it sleeps in the kernel: wait no longer."""
        self._guard = None
        if self._supervisor is not None:
            supervisor, self._supervisor = self._supervisor, None
            supervisor.abandon()
        self._ending = self._ending or Lost(clear=False)
        self._cut = True
        self._cleared()

    def _closeStreams(self) -> None:
        self._letGo()
        for reader in (self._out, self._err):
            reader.close()
        self._in.close()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        self._closeStreams()
        self._stopGuard()
        self._drain.count(False)
        assert self._ending is not None
        ending = self._ending
        if self._broken:
            ending = Lost(ending.clear if isinstance(ending, Lost) else True)
        self._telling(self._receiver.commandEnded)(ending)
        self.onGone(self)


class Drain:
    """Counts the time in which something may be read."""

    def __init__(self, reactor: Any, limit: float, over: Callable[[], object]) -> None:
        """
        @param reactor: tells time.
        @param limit: seconds.
        @param over: called when they are over.
        """
        self._reactor = reactor
        self._limit = self._left = limit
        self._over = over
        self._timer: IDelayedCall | None = None

    def count(self, counting: bool) -> None:
        """
        Count, or do not.

        @param counting: whether time counts from now on.
        """
        if counting and self._timer is None:
            self._timer = self._reactor.callLater(self._left, self._expired)
        elif not counting and self._timer is not None:
            self._left = max(0.0, self._timer.getTime() - self._reactor.seconds())
            self._timer.cancel()
            self._timer = None

    def restart(self) -> None:
        """Begin anew, without counting yet."""
        self.count(False)
        self._left = self._limit

    def _expired(self) -> None:
        self._timer = None
        self._over()


def stored(job: bytes) -> int:
    """
    Put a job that is larger than a message into a file without a name.

    @param job: the job.
    @return: the file's descriptor.
    @raise OSError: when it is too large for a system without such files, or there is no room.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    descriptor = os.memfd_create("job")
    with open(descriptor, "r+b", closefd=False) as file:
        file.write(job)
        file.flush()
        file.seek(0)
    return descriptor


def closeAll(descriptors: list[int]) -> None:
    """
    Close descriptors.

    @param descriptors: emptied.
    """
    while descriptors:
        os.close(descriptors.pop())
