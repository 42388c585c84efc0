"""
One remote command as its caller has it, from the wish to its end; how it is spoken of on the wire
is in L{rexec.clientchannel}, and the session that carries it in L{rexec.client}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure

from twisted_netsuite.errors import (
    ConfigurationError,
    ConnectionFailed,
    Denied,
    LimitExceeded,
    NetsuiteError,
    ProtocolError,
    TimedOut,
    classForCode,
)
from twisted_netsuite.rexec import outcome as outcomes
from twisted_netsuite.rexec.clientchannel import ClientChannel
from twisted_netsuite.rexec.machine import Effect
from twisted_netsuite.rexec.messages import (
    Attach,
    Detached,
    End,
    Start,
    Started,
    Stderr,
    Stdout,
    Tally,
)
from twisted_netsuite.rexec.options import signalWord
from twisted_netsuite.rexec.outcome import Outcome
from twisted_netsuite.rexec.streams import Allowance, Collector, InputStream, OutputStream, apart
from twisted_netsuite.wire.session import Record
from twisted_netsuite.wire.text import cleanText

#: Bytes of both streams together that are kept where nobody gives a consumer: the output of most
#: commands that are asked a question, and not a disk's.
OUTPUT_LIMIT = 16 * 1024 * 1024

#: Lines and columns that a terminal can be told.
MAX_SIDE = 65535


class CommandDetached(ConnectionFailed):
    """The command runs on, or is kept, at the server, and this end follows it no more."""


@dataclass(frozen=True)
class Ended:
    """
    How a command ended, all of its output having come here.

    @ivar outcome: how.
    @ivar stdout: what it wrote to standard output, from the first byte on.
    @ivar stderr: the same of standard error.
    """

    outcome: Outcome
    stdout: Tally
    stderr: Tally

    @property
    def status(self) -> int:
        """What a client exits with."""
        return self.outcome.status


def notStarted(outcome: Outcome) -> NetsuiteError | None:
    """
    Put into an error that a command was not started.

    @param outcome: what END says without any STARTED.
    @return: an error of the class that the outcome stands for, of which L{outcomeOf} tells the
        outcome; C{None} for an outcome that only a command has that was started.
    """
    match outcome:
        case outcomes.Denied():
            error: NetsuiteError = Denied(_sentence(outcome.reason))
        case outcomes.Limit():
            error = LimitExceeded(_sentence(outcome.reason))
        case outcomes.NotStarted():
            error = (classForCode(outcome.code) or NetsuiteError)(_sentence(outcome.reason))
        case outcomes.Lost():
            error = NetsuiteError(_sentence(outcome.reason))
        case outcomes.TimedOut():
            error = TimedOut(f"The command was not started within {outcome.seconds:g} s.")
        case _:
            return None
    vars(error)["outcome"] = outcome
    return error


def outcomeOf(error: BaseException) -> Outcome | None:
    """
    Tell what a server has said about a command that was not started.

    @param error: what C{start}, C{run} or C{attach} has failed with.
    @return: the outcome; C{None} for a failure of another kind.
    """
    found: Outcome | None = vars(error).get("outcome")
    return found


class Link(Protocol):
    """What a command needs of its session."""

    @property
    def writable(self) -> bool:
        """Whether the connection takes more than what must be said."""

    @property
    def pieceSize(self) -> int:
        """Bytes of input that fit in one record."""

    def send(self, record: Record) -> None:
        """Send a record."""

    def sendRecord(self, record: Record) -> None:
        """Send a record, or drop it when the session is over."""

    def release(self, number: int) -> None:
        """Take the channel for closed."""


class RemoteCommand:
    """
    A command on a server, which has started.

    @ivar id: names it there.
    @ivar known: whether it was started before this end asked for it.
    @ivar pty: whether it has a terminal, so that all output is C{stdout}.
    @ivar stdin: its input.
    @ivar stdout: its standard output.
    @ivar stderr: its standard error.
    """

    def __init__(self, channel: CommandChannel, started: Started) -> None:
        """
        @param channel: on which it is spoken of.
        @param started: what the server tells of it.
        """
        self.id, self.known, self.pty = started.id, started.known, started.pty
        self.stdin, self.stdout, self.stderr = channel.stdin, channel.stdout, channel.stderr
        self._channel = channel

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; C{None} until that is known, and all of its output was delivered."""
        return self._channel.outcome

    @property
    def status(self) -> int | None:
        """What a client exits with; C{None} until that is known."""
        return None if self.outcome is None else self.outcome.status

    def whenEnded(self) -> Deferred[Ended]:
        """
        Wait for the end.

        @return: one for each caller; fires when the command has ended and its consumers have been
            given all of its output; fails with L{CommandDetached} when it runs on without this
            end, with why the session has ended, or, once the command has ended, with what a
            consumer or a producer has raised.
        """
        return self._channel.whenEnded()

    def signal(self, name: str) -> None:
        """
        Send its process group a signal; nothing happens once it has ended.

        @param name: such as C{TERM}.
        @raise ConfigurationError: when that is no name of a signal.
        """
        self._channel.signal(signalWord(name))

    def resize(self, rows: int, cols: int) -> None:
        """
        Give its terminal another size; nothing happens where it has none.

        @param rows: lines.
        @param cols: columns.
        @raise ConfigurationError: when no terminal can have that.
        """
        if not (0 <= rows <= MAX_SIDE and 0 <= cols <= MAX_SIDE):
            raise ConfigurationError(
                f"A terminal of {rows} lines and {cols} columns cannot be; 0 to {MAX_SIDE} can."
            )
        if self.pty:
            self._channel.resize(rows, cols)

    def cancel(self) -> None:
        """Ask for its end, by TERM and after a grace KILL; the rest of its output still comes."""
        self._channel.cancel()

    def detach(self) -> Deferred[None]:
        """
        Leave it alone: from here on none of its output is delivered, and it runs on, unless it was
        to be followed to its end.

        @return: fires when the server knows, and has been told how far each stream has come here,
            which C{stdout.at} and C{stderr.at} tell; fails with why the session has ended.
        """
        return self._channel.detach()


def abandon(command: RemoteCommand) -> None:
    """
    Have a command ended, as the caller waits for nothing of it any more.

    @param command: which.
    """
    command._channel.abandon()


def leave(command: RemoteCommand) -> None:
    """
    Ask to follow a command no more, and wait for nothing.

    @param command: which.
    """
    command._channel.leave()


class CommandChannel:
    """
    The channel of a command: its records, its streams, and its end.

    @ivar starting: fires with the command when it runs.
    @ivar stdin: its input.
    @ivar stdout: its standard output.
    @ivar stderr: its standard error.
    """

    def __init__(
        self,
        link: Link,
        asked: Start | Attach,
        batch: int,
        *,
        stays: bool,
        stdout: IConsumer | None,
        stderr: IConsumer | None,
    ) -> None:
        """
        @param link: carries what is said of it.
        @param asked: what it is asked for with, which is sent by whoever makes this.
        @param batch: bytes that are taken of a stream before they are credited.
        @param stays: whether it is to run on without this end: then it is left alone, and not
            ended, when its output can be taken no more.
        @param stdout: gets standard output; C{None} to keep it.
        @param stderr: gets standard error, may be the same; C{None} to keep it.
        @raise Exception: what a consumer raises that takes no producer, and L{ConnectionFailed} for
            one that stops it at once.
        """
        self._link = link
        self._channel = ClientChannel(asked, batch)
        self._stays = stays
        self._attaching = isinstance(asked, Attach)
        #: What was taken while the connection took nothing, and has to be credited.
        self._untold = {"stdout": 0, "stderr": 0}
        self._result: Ended | Failure | None = None
        #: How the command ended, which is told when all output was delivered.
        self._ending: Ended | None = None
        #: Why its output or input is not whole, which is told when it has ended.
        self._cause: Failure | None = None
        self._leaving = False
        #: Whether it is to be left as soon as what a consumer is being given has been counted.
        self._leavesNext = False
        self._watchers: list[Deferred[Ended]] = []
        self._leavers: list[Deferred[None]] = []
        self.starting: Deferred[RemoteCommand] = Deferred(self._giveUp)
        self.stdin = InputStream(self)
        self._command: RemoteCommand | None = None
        allowance = Allowance(OUTPUT_LIMIT)
        out, err = apart(
            Collector(allowance) if stdout is None else stdout,
            Collector(allowance) if stderr is None else stderr,
        )
        self.stdout = self._output("stdout", out)
        try:
            self.stderr = self._output("stderr", err)
        except BaseException:
            self.stdout.leave()
            raise

    def _output(self, name: str, consumer: IConsumer) -> OutputStream:
        return OutputStream(
            name,
            consumer,
            lambda count: self._taken(name, count),
            self._outputBroke,
            self._settle,
        )

    # What the command calls.

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, as L{RemoteCommand.outcome} tells."""
        return self._result.outcome if isinstance(self._result, Ended) else None

    def whenEnded(self) -> Deferred[Ended]:
        """Wait for the end, as L{RemoteCommand.whenEnded} does."""
        if isinstance(self._result, Ended):
            return succeed(self._result)
        if self._result is not None:
            return fail(self._result)
        watcher: Deferred[Ended] = Deferred(self._watchers.remove)
        self._watchers.append(watcher)
        return watcher

    def signal(self, word: str) -> None:
        """Send a signal, if anything can be said to the command."""
        if self._running:
            self._link.send(self._channel.signal(word))

    def resize(self, rows: int, cols: int) -> None:
        """Give the terminal another size, if anything can be said to the command."""
        if self._running:
            self._link.send(self._channel.resize(rows, cols))

    def cancel(self) -> None:
        """Ask for the end, as L{RemoteCommand.cancel} does."""
        if not self._channel.closed and self._result is None:
            self._link.send(self._channel.cancel())

    def detach(self) -> Deferred[None]:
        """Leave the command alone, as L{RemoteCommand.detach} does."""
        if self._channel.closed:
            return succeed(None)
        if isinstance(self._result, Failure):
            return fail(self._result)
        self.leave()
        leaver: Deferred[None] = Deferred(self._leavers.remove)
        self._leavers.append(leaver)
        return leaver

    def abandon(self) -> None:
        """Have the command ended, as the caller waits for nothing of it any more."""
        if self._cause is None:
            self._cause = Failure(CancelledError())
        self.cancel()
        self._drop()

    def leave(self) -> None:
        """Ask to follow it no more, once the server knows how much has come."""
        if self.stdout.writing or self.stderr.writing:
            self._leavesNext = True
        if self._leaving or self._leavesNext:
            return
        self._leaving = True
        for output in (self.stdout, self.stderr):
            output.leave()
        self.stdin.close()
        if self._running:
            for stream, count in self._untold.items():
                self._untold[stream] = 0
                credit = self._channel.settle(stream, count)
                if credit is not None:
                    self._link.send(credit)
            self._link.send(self._channel.detach())

    @property
    def _running(self) -> bool:
        """Whether anything can be said to it."""
        return self._result is None and self._channel.running

    # What the session calls.

    def received(self, record: Record) -> None:
        """
        Take a record of this channel.

        @param record: what came.
        @raise ProtocolError: when it may not come, or what has come is not what was sent.
        """
        effect = self._channel.received(record)
        match effect, record:
            case Effect.DELIVER, Stdout():
                self.stdout.receive(record.data)
            case Effect.DELIVER, Stderr():
                self.stderr.receive(record.data)
            case Effect.DELIVER, _:
                self.stdin.close()
            case Effect.GRANT, _:
                self.stdin.pump()
            case Effect.BEGIN, Started():
                self._begin(record)
            case Effect.FINISH, End():
                self._end(record)
            case Effect.FINISH, Detached():
                self._detached(cleanText(record.reason))

    def refused(self, error: NetsuiteError) -> bool:
        """
        Take an ERROR about this channel.

        @param error: what the server says.
        @return: whether the channel is closed by it: nothing has begun.
        """
        if self._channel.running:
            return False
        self.lost(error)
        return True

    def lost(self, error: NetsuiteError) -> None:
        """
        Give up: nothing more comes.

        @param error: why.
        """
        if self._result is not None or self._ending is not None:
            return
        self._finish(self._cause or Failure(error))
        leavers, self._leavers = self._leavers, []
        for each in leavers:
            each.errback(error)

    def flush(self) -> None:
        """Say what had to wait until the connection took more."""
        for stream, count in self._untold.items():
            if count:
                self._untold[stream] = 0
                self._taken(stream, count)
        self.stdin.pump()

    # What the streams call.

    def inputRoom(self) -> int:
        """Tell how much input can be sent at once."""
        if not self._link.writable:
            return 0
        return min(self._channel.stdin.left, self._link.pieceSize)

    def sendInput(self, data: bytes) -> None:
        """Send input."""
        record = self._channel.sendInput(data)
        if record is not None:
            self._link.send(record)

    def endInput(self) -> None:
        """Say that no more comes."""
        self._link.send(self._channel.endInput())

    def inputBroke(self, why: Failure) -> None:
        """The producer has failed: what the command has is not all of its input."""
        self._spoil(why)

    def _outputBroke(self, why: Failure) -> None:
        self._spoil(why)
        if not self._stays:
            # What comes is taken nevertheless: END waits behind it.
            self._drop()
        self._settle()

    def _spoil(self, why: Failure) -> None:
        """Give the command up, as something of it is not whole."""
        if self._cause is None:
            self._cause = why
        if self._stays:
            self.leave()
        elif self._ending is None:
            self.cancel()

    def _taken(self, stream: str, count: int) -> None:
        if not self._link.writable:
            # CREDIT may wait, so that whoever takes nothing is not sent more and more.
            self._untold[stream] += count
            return
        credit = self._channel.taken(stream, count)
        if credit is not None:
            # After END the session may be over, and it comes too late.
            self._link.sendRecord(credit)
        if self._leavesNext:
            self._leavesNext = False
            self.leave()

    # What happens.

    def _begin(self, record: Started) -> None:
        self._command = RemoteCommand(self, record)
        self.stdout.begin(record.stdout)
        self.stderr.begin(record.stderr)
        if self._leaving:
            self._link.send(self._channel.detach())
            return
        if self.starting.called:
            # The caller gave it up, and it has been cancelled.
            return
        if record.stdinOpen:
            self.stdin.begin(record.stdinAt)
        self.starting.callback(self._command)

    def _end(self, record: End) -> None:
        if not self.starting.called and self._command is None:
            self._neverStarted(record.outcome)
            return
        self._link.release(self._channel.number)
        self.stdin.close()
        if self._leaving:
            self._detached("It has ended.")
        else:
            self._ending = Ended(record.outcome, record.stdout, record.stderr)
            self.stdout.end()
            self.stderr.end()
            self._settle()

    def _neverStarted(self, outcome: Outcome) -> None:
        error = notStarted(outcome)
        if error is None:
            raise ProtocolError("END tells how a command ended, and it was never started.")
        self._link.release(self._channel.number)
        self._finish(self._cause or Failure(error))

    def _detached(self, reason: str) -> None:
        self._link.release(self._channel.number)
        name = f"The command {self._command.id}" if self._command else "The command"
        what = f"{name} is followed here no more"
        error = CommandDetached(f"{what}: {reason}" if reason else f"{what}.")
        self._finish(self._cause or Failure(error))
        leavers, self._leavers = self._leavers, []
        for each in leavers:
            each.callback(None)

    def _settle(self) -> None:
        """End, if all is here and delivered."""
        if self._ending is None or self._result is not None:
            return
        if self.stdout.released and self.stderr.released:
            self._finish(self._cause or self._ending)

    def _finish(self, result: Ended | Failure) -> None:
        self._result = result
        for output in (self.stdout, self.stderr):
            output.leave()
        self.stdin.close()
        if not self.starting.called:
            assert isinstance(result, Failure), "Only what was started has an end."
            self.starting.errback(result)
        watchers, self._watchers = self._watchers, []
        for each in watchers:
            if isinstance(result, Ended):
                each.callback(result)
            else:
                each.errback(result)

    def _giveUp(self, starting: Deferred[RemoteCommand]) -> None:
        """The caller waits for the start no more."""
        if self._attaching:
            self.leave()
        else:
            self.abandon()

    def _drop(self) -> None:
        for output in (self.stdout, self.stderr):
            output.drop()


def _sentence(reason: str) -> str:
    return cleanText(reason).strip() or "The server gives no reason."
