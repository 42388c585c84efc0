"""
The tutorials' exec dialects: I{raw}, I{length} and I{header}. A chunk is a command for the shell.

Nothing in them says who the client is or which commands are harmless, so nothing runs unless the
operator has allowed a shell, to everybody or, by a policy, to some.
"""

from __future__ import annotations

import codecs
import os
import re
import shlex
from dataclasses import replace
from typing import Literal, TypeVar, cast

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from twisted_netsuite.errors import Denied, LimitExceeded, NetsuiteError
from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits
from twisted_netsuite.net.chunks import ChunkProtocol
from twisted_netsuite.net.serving import ServedFactory
from twisted_netsuite.rexec.classicmachine import TABLE, Act, Event, Turn
from twisted_netsuite.rexec.collect import (
    DEFAULT_COMMAND_LIMITS,
    CollectedCommand,
    CommandLimits,
    Outcome,
    Result,
    notStarted,
)
from twisted_netsuite.rexec.launch import Launch, Spawner
from twisted_netsuite.rexec.permit import SHELL, Terms, baseEnvironment, ownEntry
from twisted_netsuite.trust.decisions import Decision
from twisted_netsuite.trust.oversight import UNSEEN, Oversight, causeOf
from twisted_netsuite.trust.rules import ExecRule
from twisted_netsuite.wire.header import encodeAnswer
from twisted_netsuite.wire.machine import Machine
from twisted_netsuite.wire.text import shownBytes

Dialect = Literal["raw", "length", "header"]

#: What the I{length} dialect answers in place of nothing.
NO_MESSAGE = b"Have no message"

#: What a command is answered when no shell is allowed.
NO_SHELL = "this service runs no shell commands; its operator can allow them with --allow-shell."

#: What a browser sends first. Any web page can make one send a request to a port of this machine,
#: with commands in its body: a connection that begins so gets nothing run.
_HTTP = re.compile(rb"[A-Z]+ \S+ HTTP/\d")

#: Bytes of a command that the log shows: what a person types is shorter.
MAX_LOGGED = 512

#: Bytes of a command in which its program is looked for: more than any path has, and few enough
#: that a client cannot keep the process busy with looking.
MAX_PROGRAM = 4096


def programName(command: bytes) -> str:
    """
    Tell the program that a command line begins with.

    @param command: a command line for the shell.
    @return: the last part of its path; empty when there is no word.
    """
    text = command[:MAX_PROGRAM].decode("utf-8", "replace")
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    return os.path.basename(words[0]) if words else ""


class Transcoder:
    """Turns a command's output, which is UTF-8, into the encoding that the clients decode."""

    def __init__(self, encoding: str) -> None:
        """
        @param encoding: any of Python's text encodings.
        @raise LookupError: when there is no such encoding, or it cannot replace what it lacks.
        """
        try:
            "?".encode(encoding, "replace")
        except ValueError as error:
            raise LookupError(f"{encoding!r} cannot encode every text") from error
        self._encoding = codecs.lookup(encoding).name

    def __call__(self, output: bytes) -> bytes:
        """
        Turn output.

        @param output: UTF-8; what is not becomes U+FFFD.
        @return: the same text; what the encoding lacks becomes a question mark.
        """
        if self._encoding == "utf-8":
            return output
        return output.decode("utf-8", "replace").encode(self._encoding, "replace")


class ClassicExec(ChunkProtocol):
    """
    Runs one command after another for one client.

    When the client closes its side, its command is ended with all that it started.
    """

    factory: ClassicExecFactory
    _command: CollectedCommand | None = None
    _rest = b""
    _left = False
    _begun = False

    def connectionMade(self) -> None:
        """Wait for a command."""
        self._machine = Machine(TABLE, Turn.IDLE)
        super().connectionMade()

    def chunkReceived(self, chunk: bytes) -> None:
        """Run a command, or take an acknowledgement."""
        if not self._begun and _HTTP.match(chunk):
            self.log.warn("{peer}: closed, a web browser is no client of exec", peer=self.peer)
            self.close()
            self.transport.abortConnection()
            return
        self._begun = True
        match self._machine.feed(Event.CHUNK):
            case Act.RUN:
                self._run(chunk)
            case Act.SEND_REST:
                rest, self._rest = self._rest, b""
                self.transport.write(rest)

    def _run(self, line: bytes) -> None:
        self.hold()
        self.idle.stop()
        permitted = maybeDeferred(self.factory.permit, self, line)
        begun = permitted.addCallbacks(
            lambda limits: self._start(line, limits),
            lambda failure: self._refused(line, failure),
        )
        self.factory.attend(begun.addErrback(self.broken))

    def _start(self, line: bytes, limits: CommandLimits) -> None:
        if self._left:
            # Its permission took longer than its client would wait.
            self.factory.noteEnd(self, line, None)
            return
        started = self.factory.start(self, line, limits)
        if isinstance(started, Result):
            self._ended(line, started)
        else:
            self.log.info("{peer}: runs {line}", peer=self.peer, line=shownBytes(line, MAX_LOGGED))
            self._command = started
            ended = started.result.addCallback(lambda result: self._ended(line, result))
            ended.addErrback(self.broken)

    def _refused(self, line: bytes, failure: Failure) -> None:
        failure.trap(NetsuiteError)
        error = cast(NetsuiteError, failure.value)
        self.log.info(
            "{peer}: refused {line}: {cause}",
            peer=self.peer,
            line=shownBytes(line, MAX_LOGGED),
            cause=causeOf(error),
        )
        self._answer(line, notStarted(Outcome.DENIED, error))

    def _ended(self, line: bytes, result: Result) -> None:
        self._command = None
        self.log.info(
            "{peer}: {outcome} {status} {line}",
            peer=self.peer,
            outcome=result.outcome.value,
            status=result.status,
            line=shownBytes(line, MAX_LOGGED),
        )
        self._answer(line, result)

    def _answer(self, line: bytes, result: Result) -> None:
        if self._left:
            # Nobody is there for the answer, nor for the commands that are held behind this one.
            return
        payload = self.factory.transcode(result.output)
        if self.factory.dialect == "length":
            self._rest = payload or NO_MESSAGE
            self._send(Event.LENGTH, b"%d" % len(self._rest))
        elif self.factory.dialect == "raw":
            self._send(Event.ANSWER, payload or b"\n")
        else:
            outcome = result.outcome.value
            answer = encodeAnswer(programName(line), payload, result.status, outcome)
            self._send(Event.ANSWER, answer)

    def _send(self, event: Event, data: bytes) -> None:
        self._machine.feed(event)
        self.transport.write(data)
        self.idle.start()
        self.release()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the command."""
        super().connectionLost(reason)
        self._leave()

    def readConnectionLost(self) -> None:
        """
        End the command.

        These clients never close one side only, so there is nobody left to answer while a command
        runs; an answer that was sent before is still flushed.
        """
        self._leave()
        self.close()

    def _leave(self) -> None:
        self._left = True
        if self._command is not None:
            self._command.end()


class ClassicExecFactory(ServedFactory):
    """
    Serves one of the classic exec dialects.

    @ivar dialect: the form of the answers.
    @ivar transcode: applied to every output.
    """

    protocol = ClassicExec

    def __init__(
        self,
        clock: IReactorTime,
        dialect: Dialect,
        spawner: Spawner,
        *,
        allowShell: bool = False,
        encoding: str = "utf-8",
        commandLimits: CommandLimits = DEFAULT_COMMAND_LIMITS,
        limits: ConnectionLimits = DEFAULT_LIMITS,
        oversight: Oversight = UNSEEN,
    ) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param dialect: the form of the answers.
        @param spawner: starts commands.
        @param allowShell: whether commands are run at all, where no policy says; otherwise each is
            refused in the dialect's own form.
        @param encoding: the encoding of the answers.
        @param commandLimits: bounds each command.
        @param limits: bounds the connections, each of which runs one command at a time.
        @param oversight: tells who may run commands.
        @raise LookupError: when there is no such encoding.
        """
        super().__init__(clock, limits)
        self.dialect = dialect
        self.transcode = Transcoder(encoding)
        self._spawner = spawner
        self._allowShell = allowShell
        self._oversight = oversight
        self._commandLimits = commandLimits
        self._running: set[CollectedCommand] = set()
        self._asking: set[Deferred[None]] = set()
        self._awaiting: list[Deferred[None]] = []

    def permit(self, client: ClassicExec, line: bytes) -> Deferred[CommandLimits]:
        """
        Ask whether a client may run a command.

        @param client: asks.
        @param line: a command line for the shell.
        @return: fires with what bounds the command; fails with L{NetsuiteError}.
        """
        decision = self._oversight.decide(lambda policy: policy.shell(client.identity, line))
        rule = decision.rule
        if decision.allowed and not self._oversight.guarded and not self._allowShell:
            decision = Decision(False, NO_SHELL, False)
        elif decision.allowed and isinstance(rule, ExecRule) and (wants := _unheld(rule)):
            decision = replace(
                decision,
                allowed=False,
                reason=f"{decision.source} asks for {wants}, which this dialect cannot hold to.",
            )
        permitted = self._oversight.begin(
            "exec.start",
            decision,
            peer=client.address,
            identity=client.identity,
            command=line,
        )
        return permitted.addCallback(lambda _: self._limitsOf(rule))

    def _limitsOf(self, rule: object) -> CommandLimits:
        limits = self._commandLimits
        if not isinstance(rule, ExecRule):
            return limits
        return CommandLimits(
            _smaller(limits.output, rule.outputLimit), _smaller(limits.seconds, rule.timeLimit)
        )

    def attend(self, begun: Deferred[None]) -> None:
        """
        Let the end of the factory wait for a command that may yet begin: a start that is written
        down has its end written down too, before the audit log is closed.

        @param begun: fires when the command has begun, or never will.
        """
        self._asking.add(begun)
        begun.addCallback(lambda _: self._asking.discard(begun)).addCallback(self._settle)

    def noteEnd(self, client: ClassicExec, line: bytes, result: Result | None) -> None:
        """
        Write down how a command ended that was permitted.

        @param client: had asked for it.
        @param line: the command line.
        @param result: what it came to; C{None} when it was not started after all.
        """
        self._oversight.note(
            "exec.end",
            peer=client.address,
            identity=client.identity,
            command=line,
            outcome=result.outcome.value if result else "not-started",
            status=result.status if result else None,
            output=len(result.output) if result else 0,
        )

    def start(
        self, client: ClassicExec, line: bytes, limits: CommandLimits
    ) -> CollectedCommand | Result:
        """
        Start a command that was permitted, unless it is refused all the same.

        @param client: had asked for it.
        @param line: a command line for the shell.
        @param limits: bounds the command.
        @return: the running command, or why there is none.
        """
        try:
            started = self._spawn(line, limits)
        except Exception:
            self.noteEnd(client, line, None)
            raise
        if isinstance(started, Result):
            self.noteEnd(client, line, started)
        else:
            self._running.add(started)
            started.result.addCallback(self._forget, started, client, line)
        return started

    def _spawn(self, line: bytes, limits: CommandLimits) -> CollectedCommand | Result:
        if b"\0" in line:
            return notStarted(Outcome.DENIED, Denied("a command cannot hold a NUL byte."))
        if len(self._running) >= self.limits.maxConnections:
            # Those of clients that have gone may take a moment to end.
            reason = f"{len(self._running)} commands are running, and no more are started."
            return notStarted(Outcome.LIMIT, LimitExceeded(reason))
        try:
            directory = os.getcwdb()
        except OSError as error:
            reason = f"the command was not started: {error.strerror}."
            return notStarted(Outcome.LIMIT, LimitExceeded(reason))
        env = baseEnvironment(ownEntry(), Terms())
        launch = Launch(SHELL, [SHELL, b"-c", line], env, directory)
        return CollectedCommand(self.clock, self._spawner, launch, limits)

    def abortConnections(self) -> Deferred[None]:
        """
        End every connection, and with each its command.

        @return: fires when all connections and all commands have ended.
        """
        ended = super().abortConnections().addCallback(lambda _: self._commandsEnded())
        return ended.addCallback(lambda _: self._spawner.stop())

    def _commandsEnded(self) -> Deferred[None]:
        if not self._running and not self._asking:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._awaiting.append(ended)
        return ended

    def _forget(
        self, result: Result, command: CollectedCommand, client: ClassicExec, line: bytes
    ) -> Result:
        # Before anybody hears that all commands have ended, and closes the audit log.
        self.noteEnd(client, line, result)
        self._running.discard(command)
        self._settle()
        return result

    def _settle(self, _: object = None) -> None:
        if not self._running and not self._asking:
            awaiting, self._awaiting = self._awaiting, []
            for ended in awaiting:
                ended.callback(None)


#: What a rule may ask for that no classic dialect can do, with the rule's own word for it.
_UNHELD = {
    "user": "user",
    "concurrency": "concurrency",
    "cpuTime": "cpu-time",
    "memory": "memory",
    "processes": "processes",
    "openFiles": "open-files",
    "fileSize": "file-size",
    "directory": "cwd",
}

N = TypeVar("N", int, float)


def _unheld(rule: ExecRule) -> str:
    """Tell what a rule asks for that cannot be held to; to run without would break the rule."""
    return ", ".join(word for name, word in _UNHELD.items() if getattr(rule, name) is not None)


def _smaller(own: N, rules: N | None) -> N:
    return own if rules is None else min(own, rules)
