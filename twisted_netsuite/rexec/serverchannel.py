"""
The server's end of one channel: what a client may send on it, and the records that are sent to it;
no I/O, and no command.
"""

from __future__ import annotations

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.rexec.flow import Count, Intake, Window
from twisted_netsuite.rexec.machine import Effect, Input, State, serverMachine
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
from twisted_netsuite.rexec.outcome import Outcome
from twisted_netsuite.wire.session import Record

#: Bytes of input that a client may be ahead of the command: four times what a pipe holds.
INPUT_WINDOW = 256 * 1024

_INPUTS: dict[type[Record], Input] = {
    Stdin: Input.STDIN,
    StdinEof: Input.STDIN_EOF,
    Credit: Input.CREDIT,
    Signal: Input.SIGNAL,
    Resize: Input.RESIZE,
    Cancel: Input.CANCEL,
    Detach: Input.DETACH,
}


class ServerChannel:
    """
    One channel, from START or ATTACH to END or DETACHED.

    @ivar number: the client's number for it.
    @ivar stdout: what may be sent of standard output.
    @ivar stderr: what may be sent of standard error.
    """

    def __init__(self, asked: Start | Attach) -> None:
        """
        @param asked: what the client has opened it with.
        """
        self.number = asked.channel
        self.stdout = Window("stdout", asked.stdoutCredit)
        self.stderr = Window("stderr", asked.stderrCredit)
        self._machine = serverMachine()
        self._input: Intake | None = None
        #: What was sent here, where that is not all of the stream.
        self._here: dict[str, Count] = {}

    @property
    def closed(self) -> bool:
        """Whether the last record was sent."""
        return self._machine.state is State.CLOSED

    @property
    def started(self) -> bool:
        """Whether STARTED was sent, and nothing that closes it."""
        return self._machine.state not in (State.ASKED, State.CLOSED)

    def received(self, record: Record) -> Effect:
        """
        Take a record of the client.

        @param record: what came on this channel.
        @return: what is to be done about it: C{DELIVER} input or its end, C{CARRY_OUT} a wish,
            C{GRANT}: there may be room to send; C{DROP}: nothing.
        @raise ProtocolError: when it may not come now, or breaks a window.
        """
        symbol = _INPUTS.get(type(record))
        if symbol is None:
            raise ProtocolError(f"A server is sent no {type(record).__name__.upper()}.")
        if isinstance(record, Credit) and record.stream == "stdin":
            raise ProtocolError("A client grants no credit for its own input.")
        effect = self._machine.feed(symbol)
        if isinstance(record, Credit):
            (self.stdout if record.stream == "stdout" else self.stderr).grant(record.count)
        elif isinstance(record, Stdin):
            assert self._input is not None, "No input comes before STARTED."
            self._input.receive(len(record.data))
        return effect

    def start(
        self,
        id: str,
        *,
        known: bool,
        stdout: int,
        stderr: int,
        stdinAt: int,
        stdinRoom: int | None,
        pty: bool,
    ) -> Started:
        """
        Say that the command runs, or has run.

        @param id: its name.
        @param known: whether it was started before.
        @param stdout: the place in standard output from which on it is sent.
        @param stderr: the same of standard error.
        @param stdinAt: bytes of input that it has been given.
        @param stdinRoom: bytes of input that it takes before it has read any, at most
            L{INPUT_WINDOW}; C{None} when its input has ended.
        @param pty: whether it has a terminal.
        @return: the record.
        """
        self._machine.feed(Input.STARTED_FED if stdinRoom is None else Input.STARTED)
        self._input = Intake("stdin", stdinRoom or 0, INPUT_WINDOW // 4)
        self._here = {
            stream: Count() for stream, offset in (("stdout", stdout), ("stderr", stderr)) if offset
        }
        return Started(
            channel=self.number,
            id=id,
            known=known,
            stdout=stdout,
            stderr=stderr,
            stdin=stdinRoom or 0,
            stdinAt=stdinAt,
            stdinOpen=stdinRoom is not None,
            pty=pty,
        )

    def sendStdout(self, data: bytes) -> Stdout:
        """
        Send standard output.

        @param data: no more than its window has left.
        @return: the record.
        """
        self._machine.feed(Input.STDOUT)
        self.stdout.spend(len(data))
        if "stdout" in self._here:
            self._here["stdout"].add(data)
        return Stdout(channel=self.number, data=data)

    def sendStderr(self, data: bytes) -> Stderr:
        """
        Send standard error.

        @param data: no more than its window has left.
        @return: the record.
        """
        self._machine.feed(Input.STDERR)
        self.stderr.spend(len(data))
        if "stderr" in self._here:
            self._here["stderr"].add(data)
        return Stderr(channel=self.number, data=data)

    def inputTaken(self, count: int) -> Credit | None:
        """
        Note that the command has taken input.

        @param count: bytes.
        @return: a credit for the client, when it is time for one.
        """
        if self._machine.feed(Input.TAKEN) is not Effect.SEND or self._input is None:
            return None
        due = self._input.take(count)
        return Credit(channel=self.number, stream="stdin", count=due) if due else None

    def inputLost(self) -> StdinEof | None:
        """
        Note that the command reads no more.

        @return: a record for the client, unless it has sent all.
        """
        if self._machine.feed(Input.DEAFENED) is not Effect.SEND:
            return None
        return StdinEof(channel=self.number)

    def end(self, outcome: Outcome, stdout: Tally, stderr: Tally) -> End:
        """
        Close, with how the command ended.

        @param outcome: how.
        @param stdout: all of standard output.
        @param stderr: all of standard error.
        @return: the record.
        """
        self._machine.feed(Input.END)
        here = {f"{stream}Here": count.tally() for stream, count in self._here.items()}
        return End(channel=self.number, outcome=outcome, stdout=stdout, stderr=stderr, **here)

    def detach(self, reason: str) -> Detached:
        """
        Close, while the command runs on.

        @param reason: a sentence.
        @return: the record.
        """
        self._machine.feed(Input.DETACHED)
        return Detached(channel=self.number, reason=reason)
