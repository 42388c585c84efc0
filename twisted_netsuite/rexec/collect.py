"""
Collecting what one command writes, within limits of size and time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_netsuite.errors import LimitExceeded, NetsuiteError, TimedOut
from twisted_netsuite.rexec.process import Ending, Exited, RunningCommand, Spawner


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


class CollectedCommand:
    """
    A command of which the output is kept until it has ended.

    @ivar result: fires once it has ended.
    """

    def __init__(
        self,
        clock: IReactorTime,
        spawner: Spawner,
        argv: Sequence[bytes],
        env: Mapping[str, str],
        limits: CommandLimits,
    ) -> None:
        """
        Start it.

        @param clock: tells and waits for time.
        @param spawner: starts the command.
        @param argv: the program and its arguments.
        @param env: its whole environment.
        @param limits: bounds it.
        @raise OSError: when it cannot be started.
        @raise ValueError: when an argument holds a NUL byte.
        """
        self.result: Deferred[Result] = Deferred()
        self._limits = limits
        self._out = bytearray()
        self._err = bytearray()
        self._left = limits.output
        self._cause: NetsuiteError | None = None
        self._command: RunningCommand = spawner(argv, env, self)
        self._timer = clock.callLater(limits.seconds, self._tooLong)

    def end(self) -> None:
        """Ask it to end, with all that it started."""
        self._command.end()

    def outReceived(self, data: bytes) -> None:
        """Keep a piece of stdout."""
        self._keep(self._out, data)

    def errReceived(self, data: bytes) -> None:
        """Keep a piece of stderr."""
        self._keep(self._err, data)

    def commandEnded(self, ending: Ending) -> None:
        """Put the result together."""
        if self._timer.active():
            self._timer.cancel()
        output = bytes(self._out + self._err)
        if self._cause is not None:
            sentence = f"\nnetsuite: {self._cause} was reached, and the command was ended.\n"
            late = isinstance(self._cause, TimedOut)
            outcome = Outcome.TIMED_OUT if late else Outcome.LIMIT
            result = Result(output + sentence.encode(), outcome, self._cause.exitStatus)
        elif isinstance(ending, Exited):
            result = Result(output, Outcome.EXITED, ending.code)
        else:
            result = Result(output, Outcome.SIGNALLED, 128 + ending.number)
        self.result.callback(result)

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
