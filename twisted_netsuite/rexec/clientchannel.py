"""
The client's end of one channel: what a server may send on it, and whether all of it has come; no
I/O.
"""

from __future__ import annotations

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.rexec.flow import Count, Intake, Window
from twisted_netsuite.rexec.machine import Effect, Input, State, clientMachine
from twisted_netsuite.rexec.messages import (
    Attach,
    Cancel,
    Credit,
    Detach,
    Detached,
    End,
    Resize,
    Signal,
    Start,
    Started,
    Stderr,
    Stdin,
    StdinEof,
    Stdout,
    Tally,
)
from twisted_netsuite.wire.session import Record

_INPUTS: dict[type[Record], Input] = {
    Credit: Input.TAKEN,
    StdinEof: Input.DEAFENED,
    Stdout: Input.STDOUT,
    Stderr: Input.STDERR,
    Detached: Input.DETACHED,
    End: Input.END,
}


class ClientChannel:
    """
    One channel, from START or ATTACH to END or DETACHED.

    @ivar number: of the channel.
    @ivar stdin: what may be sent of the input.
    @ivar stdoutAt: how far this end has come in standard output.
    @ivar stderrAt: the same in standard error.
    """

    def __init__(self, asked: Start | Attach, batch: int) -> None:
        """
        @param asked: what it is opened with.
        @param batch: bytes that are taken of a stream before they are credited.
        """
        self.number = asked.channel
        self.stdin = Window("stdin", 0)
        self.stdoutAt = 0
        self.stderrAt = 0
        #: Whether the server is to know of each byte, also of those that were taken after END.
        self._exact = batch <= 1
        self._machine = clientMachine()
        self._out = Intake("stdout", asked.stdoutCredit, min(batch, asked.stdoutCredit // 2))
        self._err = Intake("stderr", asked.stderrCredit, min(batch, asked.stderrCredit // 2))
        self._outHere = Count()
        self._errHere = Count()
        self._begunAt = (0, 0)
        #: Where the streams are to go on; C{None} where that is for the server to say.
        self._askedAt = (asked.stdout, asked.stderr) if isinstance(asked, Attach) else (None, None)
        self._attaches = isinstance(asked, Attach)

    @property
    def closed(self) -> bool:
        """Whether the last record has come."""
        return self._machine.state is State.CLOSED

    @property
    def running(self) -> bool:
        """Whether STARTED has come, and nothing that closes it."""
        return self._machine.state not in (State.ASKED, State.CLOSED)

    def received(self, record: Record) -> Effect:
        """
        Take a record of the server.

        @param record: what came on this channel.
        @return: what is to be done about it: C{BEGIN}; C{DELIVER} output, or that no more input is
            read; C{GRANT}: there may be room to send input; C{DROP}: nothing; C{FINISH}: the
            channel is closed, and what came on it is all that was sent.
        @raise ProtocolError: when it may not come now, breaks a window, or END tells of other bytes
            than have come.
        """
        if isinstance(record, Stdout):
            effect = self._machine.feed(Input.STDOUT)
            self._out.receive(len(record.data))
            self._outHere.add(record.data)
            self.stdoutAt += len(record.data)
        elif isinstance(record, Stderr):
            effect = self._machine.feed(Input.STDERR)
            self._err.receive(len(record.data))
            self._errHere.add(record.data)
            self.stderrAt += len(record.data)
        elif isinstance(record, Started):
            effect = self._machine.feed(Input.STARTED if record.stdinOpen else Input.STARTED_FED)
            self._requireAsked("stdout", self._askedAt[0], record.stdout, record.known)
            self._requireAsked("stderr", self._askedAt[1], record.stderr, record.known)
            self.stdin.grant(record.stdin)
            self._begunAt = self.stdoutAt, self.stderrAt = record.stdout, record.stderr
        else:
            effect = self._other(record)
        return effect

    def _requireAsked(self, stream: str, asked: int | None, told: int, known: bool) -> None:
        """See that a stream goes on where it is to: at its first byte when the command is new."""
        if asked is None and not known and not self._attaches:
            asked = 0
        if asked is not None and told != asked:
            raise ProtocolError(
                f"STARTED says that {stream} goes on at {told}, and it was asked for from {asked}."
            )

    def _other(self, record: Record) -> Effect:
        symbol = _INPUTS.get(type(record))
        if symbol is None:
            raise ProtocolError(f"A client is sent no {type(record).__name__.upper()}.")
        if isinstance(record, Credit) and record.stream != "stdin":
            raise ProtocolError("A server grants no credit for its own output.")
        started = self.running
        effect = self._machine.feed(symbol)
        if isinstance(record, Credit) and effect is Effect.GRANT:
            self.stdin.grant(record.count)
        elif isinstance(record, End) and started:
            at = self._begunAt
            _requireWhole("stdout", self._outHere, at[0], record.stdout, record.stdoutHere)
            _requireWhole("stderr", self._errHere, at[1], record.stderr, record.stderrHere)
        return effect

    def taken(self, stream: str, count: int) -> Credit | None:
        """
        Note that output was taken by whoever it is for.

        @param stream: C{stdout} or C{stderr}.
        @param count: bytes.
        @return: a credit for the server, when it is time for one.
        """
        intake = self._out if stream == "stdout" else self._err
        return self._credit(stream, intake.take(count))

    def settle(self, stream: str, count: int) -> Credit | None:
        """
        Note that output was taken, and tell the server all that it was not told of.

        @param stream: C{stdout} or C{stderr}.
        @param count: bytes, beside those of which L{taken} knows.
        @return: a credit for the server, unless it knows all.
        """
        intake = self._out if stream == "stdout" else self._err
        return self._credit(stream, intake.take(count) + intake.settle())

    def _credit(self, stream: str, due: int) -> Credit | None:
        if not due or not (self.running or (self.closed and self._exact)):
            return None
        self._machine.feed(Input.CREDIT)
        return Credit(
            channel=self.number, stream="stdout" if stream == "stdout" else "stderr", count=due
        )

    def sendInput(self, data: bytes) -> Stdin | None:
        """
        Send input.

        @param data: no more than its window has left.
        @return: the record; C{None} when the command reads no more.
        """
        if self._machine.feed(Input.STDIN) is not Effect.SEND:
            return None
        self.stdin.spend(len(data))
        return Stdin(channel=self.number, data=data)

    def endInput(self) -> StdinEof:
        """
        Send no more input.

        @return: the record.
        """
        self._machine.feed(Input.STDIN_EOF)
        return StdinEof(channel=self.number)

    def signal(self, name: str) -> Signal:
        """
        Send a signal.

        @param name: without SIG.
        @return: the record.
        """
        self._machine.feed(Input.SIGNAL)
        return Signal(channel=self.number, name=name)

    def resize(self, rows: int, cols: int) -> Resize:
        """
        Tell the size of the terminal.

        @param rows: lines.
        @param cols: columns.
        @return: the record.
        """
        self._machine.feed(Input.RESIZE)
        return Resize(channel=self.number, rows=rows, cols=cols)

    def cancel(self) -> Cancel:
        """
        Ask for the end of the command.

        @return: the record.
        """
        self._machine.feed(Input.CANCEL)
        return Cancel(channel=self.number)

    def detach(self) -> Detach:
        """
        Leave the command alone.

        @return: the record.
        """
        self._machine.feed(Input.DETACH)
        return Detach(channel=self.number)


def _requireWhole(stream: str, here: Count, begun: int, all_: Tally, told: Tally | None) -> None:
    """Compare what has come with what was sent."""
    if begun + here.count != all_.count:
        raise ProtocolError(
            f"{begun + here.count} bytes of {stream} have come, and {all_.count} were sent."
        )
    expected = told if begun else all_
    if expected is None or expected != here.tally():
        raise ProtocolError(f"What has come of {stream} is not what was sent: its SHA-256 differs.")
