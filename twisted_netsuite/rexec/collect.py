"""
Collecting what one command writes, within limits of size and time.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_netsuite.errors import LimitExceeded, NetsuiteError, TimedOut
from twisted_netsuite.rexec.launch import (
    UNBOUNDED,
    Ending,
    Exited,
    Launch,
    Lost,
    NotStarted,
    RunningCommand,
    Signalled,
    Spawner,
)


@dataclass(frozen=True)
class CommandLimits:
    """
    What bounds one command.

    @ivar output: bytes of stdout and stderr together. They are kept until the command ends, as the
        dialects send a length first; 1 MiB times the connections is what the server can hold.
    @ivar seconds: how long it may run: the tutorials' commands end in seconds, so five minutes are
        plenty.
    """

    output: int = 1024 * 1024
    seconds: float = 300.0


DEFAULT_COMMAND_LIMITS = CommandLimits()


class Outcome(Enum):
    """How a command came to its end, in the words of the answer header."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    TIMED_OUT = "timed-out"
    LIMIT = "limit"
    DENIED = "denied"


@dataclass(frozen=True)
class Result:
    """
    What a command came to.

    @ivar output: stdout, then stderr, then a sentence of the server when it had to step in.
    @ivar outcome: how it came to its end.
    @ivar status: the exit status as a shell would say it.
    """

    output: bytes
    outcome: Outcome
    status: int


def notStarted(outcome: Outcome, error: NetsuiteError) -> Result:
    """
    Answer for a command that was never started.

    @param outcome: how the answer calls it.
    @param error: says why.
    @return: the answer.
    """
    return Result(f"netsuite: {error.sentence}\n".encode(), outcome, error.exitStatus)


class CollectedCommand:
    """
    A command of which the output is kept until it has ended.

    @ivar result: fires once it has ended.
    """

    def __init__(
        self,
        clock: IReactorTime,
        spawner: Spawner,
        launch: Launch,
        limits: CommandLimits,
    ) -> None:
        """
        Start it.

        @param clock: tells and waits for time.
        @param spawner: starts the command.
        @param launch: what is started, and how.
        @param limits: bounds it.
        """
        self.result: Deferred[Result] = Deferred()
        self._limits = limits
        self._out = bytearray()
        self._err = bytearray()
        self._left = limits.output
        self._cause: NetsuiteError | None = None
        self._command: RunningCommand = spawner(launch, self)
        # What is not kept is read all the same: a command must not wait for us until it has ended.
        self._command.allow("stdout", UNBOUNDED)
        self._command.allow("stderr", UNBOUNDED)
        self._timer = clock.callLater(limits.seconds, self._tooLong)

    def end(self) -> None:
        """Ask it to end, with all that it started."""
        self._command.end()

    def started(self, pid: int) -> None:
        """It runs, which is what everybody expects of it."""

    def stdinTaken(self, count: int) -> None:
        """Nothing is written to it."""

    def stdinLost(self) -> None:
        """Nothing is written to it."""

    def outReceived(self, data: bytes) -> None:
        """Keep a piece of stdout."""
        self._keep(self._out, data)

    def errReceived(self, data: bytes) -> None:
        """Keep a piece of stderr."""
        self._keep(self._err, data)

    def outputWaits(self) -> None:
        """All of it may be read."""

    def commandEnded(self, ending: Ending) -> None:
        """Put the result together."""
        if self._timer.active():
            self._timer.cancel()
        self.result.callback(self._result(ending))

    def _result(self, ending: Ending) -> Result:
        output = bytes(self._out + self._err)
        if isinstance(ending, NotStarted):
            reason = f"the command was not started: {os.strerror(ending.errno)}."
            if ending.own:
                reason = "the command was not started: the service failed, and its log says why."
            return notStarted(Outcome.LIMIT, LimitExceeded(reason))
        if self._cause is not None:
            sentence = f"\nnetsuite: {self._cause} was reached, and the command was ended.\n"
            late = isinstance(self._cause, TimedOut)
            outcome = Outcome.TIMED_OUT if late else Outcome.LIMIT
            return Result(output + sentence.encode(), outcome, self._cause.exitStatus)
        match ending:
            case Exited(code):
                return Result(output, Outcome.EXITED, code)
            case Signalled(number):
                return Result(output, Outcome.SIGNALLED, 128 + number)
            case Lost():
                # Whatever it came to before, nothing of it is left because it was killed.
                return Result(output, Outcome.SIGNALLED, 128 + signal.SIGKILL)

    def _keep(self, stream: bytearray, data: bytes) -> None:
        kept = data[: self._left]
        stream += kept
        self._left -= len(kept)
        if len(kept) < len(data):
            self._stop(LimitExceeded(f"the output limit of {self._limits.output} bytes"))

    def _tooLong(self) -> None:
        self._stop(TimedOut(f"the time limit of {self._limits.seconds:g} s"))

    def _stop(self, cause: NetsuiteError) -> None:
        if self._cause is None:
            self._cause = cause
            self._command.end()
