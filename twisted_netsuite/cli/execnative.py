"""
C{netsuite exec} in the native dialect, on one server: a command with the streams, the signals and
the terminal of this process; and the list, the attaching and the killing of commands.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IProducer,
    IPushProducer,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from twisted_netsuite.cli.login import Login
from twisted_netsuite.cli.run import say, writeOut
from twisted_netsuite.cli.signals import Signals
from twisted_netsuite.cli.streams import InputDescriptor, OutputDescriptor, written
from twisted_netsuite.cli.terminal import EscapeFilter, RawTerminal, terminalSize
from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.net.addresses import parseConnect
from twisted_netsuite.net.tlscontext import TrustFiles
from twisted_netsuite.rexec.client import (
    CommandDetached,
    Ended,
    ExecSession,
    RemoteCommand,
    connectExec,
)
from twisted_netsuite.rexec.messages import Listing, Terminal
from twisted_netsuite.rexec.outcome import (
    SIGNAL_BASE,
    Denied,
    Exited,
    Limit,
    Lost,
    NotStarted,
    Outcome,
    Signalled,
    TimedOut,
)
from twisted_netsuite.wire.text import decodeText

#: Seconds that a command may take to end after it was asked to: what a server grants it between
#: TERM and KILL, and the way there and back.
CANCEL_PATIENCE = 30.0

#: The status of a program whose output nobody reads any more, as a shell gives it.
BROKEN_PIPE = SIGNAL_BASE + signal.SIGPIPE

#: The other signals that would end this process: not those that nobody can take, or that do not
#: end it, or that tell of a fault in it, to which Python could not return.
DEADLY = signal.valid_signals() - {
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL, signal.SIGSTOP),
    *(signal.SIGCHLD, signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    *(signal.SIGURG, signal.SIGWINCH, signal.SIGPIPE, signal.SIGXFSZ),
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
}

#: Characters of a command that a list shows.
SHOWN = 60


@dataclass(frozen=True)
class Server:
    """
    Where commands run, and as whom one speaks to it.

    @ivar address: an ADDRESS.
    @ivar files: to connect by TLS with; C{None} for plain text.
    @ivar login: who one is.
    @ivar timeout: seconds for the connection and each answer.
    """

    address: str
    files: TrustFiles | None = None
    login: Login = field(default_factory=Login)
    timeout: float = 10.0

    def endpoint(self, reactor: Any) -> IStreamClientEndpoint:
        """
        Find out how to connect.

        @param reactor: connects.
        @return: where to.
        @raise ConfigurationError: when that can be no address, or a file cannot be used.
        """
        return parseConnect(reactor, self.address, self.files)

    def options(self) -> list[str]:
        """
        Write who one is, and whom to trust, as on a command line.

        @return: the words.
        """
        files = self.files or TrustFiles("", "")
        named = {"--cert": files.cert, "--ca": files.ca, "--crl": files.crl}
        if self.login.user:
            named |= {"--user": self.login.user, "--token-file": "FILE"}
        return [word for name, value in named.items() if value for word in (name, value)]

    async def connect(self, reactor: Any) -> ExecSession:
        """
        Open a session.

        @param reactor: connects.
        @return: an open one.
        """
        return await connectExec(
            self.endpoint(reactor),
            reactor,
            name=self.address,
            user=self.login.user,
            token=self.login.token,
            timeout=self.timeout,
        )


@dataclass(frozen=True)
class Wish:
    """
    What is to be run, and how.

    @ivar argv: program and arguments, or with C{shell} words of one command line.
    @ivar shell: whether the server's shell is to read it.
    @ivar env: variables that are set for it.
    @ivar cwd: where it runs; C{None} for where the server says.
    @ivar account: as whom it runs; C{None} for whom the server says.
    @ivar timeLimit: seconds; C{None} for what the server grants.
    @ivar onDisconnect: what becomes of it when the connection ends.
    @ivar ttl: seconds for which it is kept then; C{None} for what the server says.
    @ivar key: names this wish, so that it is done once.
    @ivar terminal: whether it gets a terminal.
    @ivar stdin: whether it gets the standard input of this process.
    """

    argv: tuple[str, ...]
    shell: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    account: str | None = None
    timeLimit: float | None = None
    onDisconnect: Literal["kill", "detach"] = "kill"
    ttl: int | None = None
    key: str | None = None
    terminal: bool = False
    stdin: bool = False

    def options(self) -> dict[str, Any]:
        """
        Write it as C{ExecSession.start} takes it.

        @return: all but the terminal and the consumers.
        """
        return {
            "argv": (" ".join(self.argv),) if self.shell else self.argv,
            "shell": self.shell,
            "env": self.env,
            "cwd": self.cwd,
            "user": self.account,
            "stdin": self.stdin,
            "timeLimit": self.timeLimit,
            "onDisconnect": self.onDisconnect,
            "ttl": self.ttl,
            "key": self.key,
        }


@dataclass(frozen=True)
class Console:
    """
    What this process has that a command can be given.

    @ivar stdin: the descriptor of its input.
    @ivar stdout: that of its output.
    @ivar stderr: that of its errors.
    @ivar signals: takes its signals, given the reactor.
    """

    stdin: int = 0
    stdout: int = 1
    stderr: int = 2
    signals: Callable[[Any], Any] = Signals

    @property
    def typed(self) -> bool:
        """Whether a person types its input."""
        return os.isatty(self.stdin)

    def size(self) -> tuple[int, int]:
        """Tell lines and columns of its terminal."""
        return terminalSize((self.stdin, self.stdout, self.stderr))

    def terminal(self) -> Terminal:
        """Describe its terminal, or one of old where it has none."""
        rows, cols = self.size()
        term = os.environ.get("TERM", "")
        try:
            return msgspec.convert({"term": term, "rows": rows, "cols": cols}, Terminal)
        except msgspec.ValidationError:
            # No terminal has such a name.
            return Terminal(rows=rows, cols=cols)


STANDARD = Console()


async def execute(reactor: Any, server: Server, wish: Wish, console: Console = STANDARD) -> int:
    """
    Run a command in place of this process.

    @param reactor: connects.
    @param server: where.
    @param wish: what.
    @param console: what this process has.
    @return: the exit status.
    """
    terminal = console.terminal() if wish.terminal else None
    if terminal is not None and not console.typed:
        say(
            "Standard input is no terminal; the command gets one of "
            f"{terminal.rows} lines and {terminal.cols} columns."
        )
    attended = Attended(reactor, console, stays=wish.onDisconnect == "detach")

    def start(session: ExecSession, stdout: Any, stderr: Any) -> Deferred[RemoteCommand]:
        return session.start(**wish.options(), terminal=terminal, stdout=stdout, stderr=stderr)

    return await attended.run(server, start, stdin=wish.stdin, raw=wish.terminal)


async def attach(
    reactor: Any,
    server: Server,
    id: str,
    *,
    stdin: bool,
    raw: bool,
    fromStart: bool,
    console: Console = STANDARD,
) -> int:
    """
    Follow a command that was started before.

    @param reactor: connects.
    @param server: where it runs.
    @param id: the command.
    @param stdin: whether it gets the standard input of this process.
    @param raw: whether the terminal of this process is to be its own.
    @param fromStart: whether all of its output is wanted, or else what nobody has had yet.
    @param console: what this process has.
    @return: the exit status.
    """
    attended = Attended(reactor, console, stays=True)
    at = 0 if fromStart else None

    def follow(session: ExecSession, stdout: Any, stderr: Any) -> Deferred[RemoteCommand]:
        return session.attach(id, stdoutAt=at, stderrAt=at, stdout=stdout, stderr=stderr)

    return await attended.run(server, follow, stdin=stdin, raw=raw)


Opening = Callable[[ExecSession, Any, Any], "Deferred[RemoteCommand]"]


class Attended:
    """A remote command with the streams, the signals and the terminal of this process."""

    def __init__(self, reactor: Any, console: Console, stays: bool) -> None:
        """
        @param reactor: watches the streams.
        @param console: what this process has.
        @param stays: whether the command outlives the connection.
        """
        self._reactor = reactor
        self._console = console
        self._stays = stays
        self._out = OutputDescriptor(reactor, console.stdout, self._broken, self._faulty)
        self._err = OutputDescriptor(reactor, console.stderr, self._broken, self._faulty)
        self._session: ExecSession
        self._command: RemoteCommand
        #: The words that attach to it again, before and behind its ID.
        self._again: tuple[list[str], list[str]] = [], []
        self._input: InputDescriptor | None = None
        self._following: Deferred[Ended] | None = None
        self._fault: NetsuiteError | None = None
        self._leftBy: int | None = None
        self._late: IDelayedCall | None = None
        self._interrupts = 0
        self._cancelled = False
        self._ended = False

    async def run(self, server: Server, opening: Opening, *, stdin: bool, raw: bool) -> int:
        """
        Start or find the command, and follow it to its end.

        @param server: where it is.
        @param opening: starts it, or attaches to it.
        @param stdin: whether it gets the standard input.
        @param raw: whether it gets the terminal.
        @return: the exit status.
        """
        streams = ["-t"] if raw else ["-i"] if stdin else []
        attach = ["netsuite", "exec", "attach", server.address]
        self._again = attach, [*streams, *server.options()]
        self._session = session = await server.connect(self._reactor)
        try:
            self._command = await opening(session, self._out, self._err)
            ended = await self._attend(stdin, raw and self._console.typed)
        except NetsuiteError:
            # The server hears a proper end before this process is gone.
            await session.close()
            raise
        finally:
            closing = session.close()
            self._out.close()
            self._err.close()
        if ended is None:
            assert self._leftBy is not None
            return self._left(self._leftBy)
        await closing
        return self._status(ended.outcome)

    async def _attend(self, stdin: bool, raw: bool) -> Ended | None:
        if raw and not self._command.pty:
            say("The command has no terminal; what is typed goes to it line by line.")
            raw = False
        with ExitStack() as stack:
            signals = stack.enter_context(self._console.signals(self._reactor))
            terminal = RawTerminal(self._console.stdin) if raw else None
            self._watch(signals, terminal)
            if terminal is not None:
                stack.enter_context(terminal)
                # It may have changed since, or be another than that which it was started at.
                self._resized()
            if stdin:
                self._give(raw)
            self._following = following = Deferred.fromCoroutine(self._follow())
            if self._fault is not None or self._out.broken or self._err.broken:
                # That was so before there was a command.
                self._giveUp()
            try:
                return await following
            except CancelledError:
                if self._leftBy is None:
                    raise
                return None
            finally:
                if self._input is not None:
                    self._input.stopProducing()
                if self._late is not None and self._late.active():
                    self._late.cancel()

    async def _follow(self) -> Ended:
        try:
            ended = await self._command.whenEnded()
        except NetsuiteError as error:
            # What has come is shown before it is told why there is no more.
            await written(self._out)
            await written(self._err)
            # Where the server does not stop, somebody else follows it, and has it from now on.
            takenOver = isinstance(error, CommandDetached) and self._session.goodbye is None
            hint = "" if takenOver else self._hint()
            raise type(error)(f"{error.sentence}{hint}") from error
        self._ended = True
        await self._out.whenTaken()
        await self._err.whenTaken()
        return ended

    def _give(self, raw: bool) -> None:
        """Give the command the standard input."""
        escapes = EscapeFilter()

        def strain(typed: bytes) -> bytes:
            sent, leaves = escapes.feed(typed)
            if leaves:
                self._leave(0 if self._stays else SIGNAL_BASE + signal.SIGHUP)
            return sent

        self._input = InputDescriptor(
            self._reactor, self._console.stdin, self._faulty, strain if raw else None
        )
        self._input.begin(self._command.stdin)

    # What happens to this process.

    def _watch(self, signals: Any, terminal: RawTerminal | None) -> None:
        signals.watch(signal.SIGINT, self._interrupted)
        signals.watch(signal.SIGTERM, self._terminated)
        signals.watch(signal.SIGHUP, lambda: self._leave(SIGNAL_BASE + signal.SIGHUP))
        if self._command.pty:
            signals.watch(signal.SIGWINCH, self._resized)
        if terminal is not None:
            # Otherwise it would end here and leave the terminal raw.
            signals.watch(signal.SIGQUIT, self._terminated)
            for number in DEADLY:
                signals.watch(number, lambda number=number: self._leave(SIGNAL_BASE + number))
            signals.watch(signal.SIGTSTP, terminal.suspend)
            signals.watch(signal.SIGCONT, lambda: self._continued(terminal))

    def _interrupted(self) -> None:
        """Ctrl-C: interrupt the command; then end it; then leave."""
        self._interrupts += 1
        if self._ended or self._cancelled:
            self._leave(SIGNAL_BASE + signal.SIGINT)
        elif self._interrupts == 1:
            self._command.signal("INT")
        else:
            self._cancel()

    def _terminated(self) -> None:
        """End the command, if it is not to outlive this process; then leave."""
        if self._ended or self._stays or self._cancelled:
            self._leave(SIGNAL_BASE + signal.SIGTERM)
        else:
            self._cancel()

    def _resized(self) -> None:
        self._command.resize(*self._console.size())

    def _continued(self, terminal: RawTerminal) -> None:
        """The shell has changed the terminal while this process was stopped."""
        terminal.enter()
        self._resized()

    def _broken(self) -> None:
        """Nobody reads the output any more."""
        if self._following is not None:
            self._giveUp()

    def _faulty(self, error: NetsuiteError) -> None:
        """The input or the output cannot be used."""
        if self._fault is None:
            self._fault = error
            if self._following is not None:
                self._giveUp()

    def _giveUp(self) -> None:
        """Be done with the command, as it cannot be followed as it should be."""
        if self._stays:
            self._leave(BROKEN_PIPE)
        else:
            self._cancel()

    def _cancel(self) -> None:
        if not self._cancelled and not self._ended:
            self._cancelled = True
            self._command.cancel()
            self._late = self._reactor.callLater(
                CANCEL_PATIENCE, self._leave, SIGNAL_BASE + signal.SIGTERM
            )

    def _leave(self, status: int) -> None:
        if self._following is not None and not self._following.called:
            self._leftBy = status
            self._following.cancel()

    # What is told at the end.

    def _hint(self) -> str:
        if not self._stays:
            return ""
        before, behind = self._again
        attach = shlex.join([*before, self._command.id, *behind])
        return f" The command runs on; follow it with: {attach}"

    def _left(self, status: int) -> int:
        if self._fault is not None:
            raise type(self._fault)(f"{self._fault.sentence}{self._hint()}")
        if self._out.broken or self._err.broken:
            return BROKEN_PIPE
        if self._stays and not self._ended:
            say(self._hint().strip())
        return status

    def _status(self, outcome: Outcome) -> int:
        if self._fault is not None:
            raise self._fault
        if self._out.broken or self._err.broken:
            return BROKEN_PIPE
        if sentence := howItEnded(outcome):
            say(sentence)
        return outcome.status


def howItEnded(outcome: Outcome) -> str:
    """
    Say how a command has ended.

    @param outcome: how.
    @return: a sentence; empty when it has ended by itself.
    """
    match outcome:
        case Exited():
            return ""
        case Signalled(name=name, core=core):
            return f"the command was ended by {name}{', and left a core dump' if core else ''}."
        case TimedOut(seconds=seconds):
            return f"the command was ended after its time limit of {seconds:g} s."
        case Denied(reason=reason) | Limit(reason=reason) | Lost(reason=reason):
            return reason
        case NotStarted(reason=reason):
            return reason


@implementer(IConsumer)
class Untaken:
    """Takes nothing, so that all of a stream is there for who attaches."""

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Let it wait."""
        IPushProducer(producer).pauseProducing()

    def unregisterProducer(self) -> None:
        """It waits no more."""

    def write(self, data: bytes) -> None:
        """Nothing comes from a producer that waits."""
        raise AssertionError(f"{len(data)} bytes came.")


async def detached(reactor: Any, server: Server, wish: Wish) -> int:
    """
    Start a command, print its ID, and leave it alone.

    @param reactor: connects.
    @param server: where.
    @param wish: what; it outlives the connection.
    @return: the exit status.
    """
    session = await server.connect(reactor)
    try:
        command = await session.start(**wish.options(), stdout=Untaken(), stderr=Untaken())
        await command.detach()
        writeOut(f"{command.id}\n".encode())
    finally:
        await session.close()
    return 0


async def kill(reactor: Any, server: Server, id: str, name: str | None) -> int:
    """
    Signal a command, or end it and wait until it has ended.

    @param reactor: connects.
    @param server: where it runs.
    @param id: the command.
    @param name: of the signal; C{None} to end it.
    @return: the exit status.
    """
    session = await server.connect(reactor)
    try:
        await session.kill(id, name)
    finally:
        await session.close()
    return 0


async def listCommands(reactor: Any, server: Server, *, asJson: bool) -> int:
    """
    Print the commands that one has on a server.

    @param reactor: connects.
    @param server: which.
    @param asJson: for programs.
    @return: the exit status.
    """
    session = await server.connect(reactor)
    try:
        found = await session.commands()
    finally:
        await session.close()
    writeOut((_inJson(found) if asJson else "".join(_inColumns(found))).encode())
    return 0


def _inJson(found: Iterable[Listing]) -> str:
    rows = [
        {
            **msgspec.to_builtins(each),
            "command": each.command.decode("utf-8", "backslashreplace"),
        }
        for each in found
    ]
    return json.dumps(rows, indent=2) + "\n"


def _inColumns(found: Iterable[Listing]) -> list[str]:
    rows = [("ID", "STARTED", "STATE", "STDOUT", "STDERR", "COMMAND")]
    rows += [
        (
            each.id,
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.started)),
            _state(each),
            str(each.stdout),
            str(each.stderr),
            decodeText(each.command, SHOWN),
        )
        for each in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in rows
    ]


def _state(each: Listing) -> str:
    match each.outcome:
        case None:
            return "attached" if each.attached else "detached"
        case Exited(code=code):
            return f"exited {code}"
        case Signalled(name=name):
            return f"ended by {name}"
        case TimedOut():
            return "timed out"
        case Denied() | NotStarted():
            return "not started"
        case Limit(which=which):
            return f"limit {which}"
        case Lost():
            return "lost"
