"""
An exec server that does what a test says, on real channels; it runs no command.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.net.framed import SessionFactory, SessionProtocol
from twisted_netsuite.rexec.client import ExecSession, connectExec
from twisted_netsuite.rexec.flow import Count
from twisted_netsuite.rexec.messages import (
    RECORDS,
    SERVICE,
    Attach,
    Cancel,
    Detach,
    Kill,
    List,
    Start,
    Stdin,
    StdinEof,
    Tally,
)
from twisted_netsuite.rexec.outcome import Exited, Outcome
from twisted_netsuite.rexec.serverchannel import INPUT_WINDOW, ServerChannel
from twisted_netsuite.testing import MemoryEndpoint
from twisted_netsuite.wire.session import Record

NAME = "exec.example:7512"


class Script:
    """
    One command as the server sees it.

    @ivar asked: what the client opened it with.
    @ivar got: its input so far.
    @ivar inputEnded: whether that has ended.
    @ivar others: the records that came for it, but for input.
    """

    def __init__(self, server: Server, asked: Start | Attach) -> None:
        self.server = server
        self.asked = asked
        self.channel = ServerChannel(asked)
        self.got = bytearray()
        self.inputEnded = False
        self.others: list[Record] = []
        self.all = {"stdout": Count(), "stderr": Count()}
        self.waiting = {"stdout": bytearray(), "stderr": bytearray()}
        self.takes = True

    @staticmethod
    def tallyOf(data: bytes) -> Tally:
        """Count and digest some bytes."""
        count = Count()
        count.add(data)
        return count.tally()

    def start(self, **options: Any) -> Script:
        """Say STARTED."""
        wants = isinstance(self.asked, Start) and self.asked.stdin
        told: dict[str, Any] = {
            "id": "abc",
            "known": False,
            "stdout": 0,
            "stderr": 0,
            "stdinAt": 0,
            "stdinRoom": INPUT_WINDOW if wants else None,
            "pty": False,
        }
        told.update(options)
        self.server.say(self.channel.start(told.pop("id"), **told))
        return self

    def out(self, data: bytes, stream: str = "stdout") -> None:
        """Write, as far as the client lets it; the rest follows."""
        self.waiting[stream] += data
        self.flush()

    def err(self, data: bytes) -> None:
        """Write to standard error."""
        self.out(data, "stderr")

    def flush(self) -> None:
        """Send what there is credit for."""
        if not self.channel.started:
            return
        for stream, send, window in (
            ("stdout", self.channel.sendStdout, self.channel.stdout),
            ("stderr", self.channel.sendStderr, self.channel.stderr),
        ):
            waiting = self.waiting[stream]
            while waiting and window.left:
                piece = bytes(waiting[: min(window.left, 60_000)])
                del waiting[: len(piece)]
                self.all[stream].add(piece)
                self.server.say(cast(Record, send(piece)))

    def end(self, outcome: Outcome | None = None) -> None:
        """Say END, with what is true."""
        assert not any(self.waiting.values()), "The window was too small."
        out, err = self.all["stdout"].tally(), self.all["stderr"].tally()
        self.server.say(self.channel.end(outcome or Exited(code=0), out, err))

    def received(self, record: Record) -> None:
        """Take a record."""
        self.channel.received(record)
        if isinstance(record, Stdin):
            self.got += record.data
            if self.takes:
                self.take(len(record.data))
        elif isinstance(record, StdinEof):
            self.inputEnded = True
        else:
            self.others.append(record)
        self.flush()

    def take(self, count: int) -> None:
        """Take input."""
        if credit := self.channel.inputTaken(count):
            self.server.say(credit)

    def saw(self, kind: type[Record]) -> int:
        """Count the records of a kind that came."""
        return sum(isinstance(each, kind) for each in self.others)

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return bool(self.saw(Cancel))

    @property
    def detached(self) -> bool:
        """Whether DETACH came."""
        return bool(self.saw(Detach))


class Server(SessionProtocol):
    """
    One connection of the scripted server.

    @ivar commands: what was started or attached to.
    @ivar questions: each LIST and KILL.
    @ivar errors: what the client said it could not take.
    """

    def connectionMade(self) -> None:
        self.commands: list[Script] = []
        self.questions: list[List | Kill] = []
        self.closedWith: list[NetsuiteError | None] = []
        super().connectionMade()

    def recordReceived(self, record: Record) -> None:
        """Find the command that a record is for."""
        if isinstance(record, Start | Attach):
            self.commands.append(Script(self, record))
        elif isinstance(record, List | Kill):
            self.questions.append(record)
        else:
            number = cast(Any, record).channel
            (script,) = (each for each in self.commands if each.channel.number == number)
            if not script.channel.closed:
                script.received(record)

    def say(self, *records: Record) -> None:
        """Send records."""
        for record in records:
            self.sendRecord(record)

    def sessionDraining(self) -> None:
        """Wait for the client to close."""

    def sessionClosed(self, reason: NetsuiteError | None) -> None:
        """Note the end."""
        self.closedWith.append(reason)


class ServerFactory(SessionFactory):
    """Makes scripted servers."""

    protocol = Server

    def __init__(self, clock: Clock, **options: Any) -> None:
        super().__init__(clock, SERVICE, RECORDS, **options)


class ScriptedTestCase(SynchronousTestCase):
    """
    A client and a scripted server.

    @ivar size: bytes that travel at once.
    """

    size = 64 * 1024

    def setUp(self) -> None:
        self.clock = Clock()
        self.open()

    def open(self, **options: Any) -> None:
        """Connect."""
        self.factory = ServerFactory(self.clock, **options)
        self.endpoint = MemoryEndpoint(self.factory)
        self.session, self.server = self.connect()

    def connect(self) -> tuple[ExecSession, Server]:
        """Open one more session."""
        connecting = connectExec(self.endpoint, self.clock, name=NAME)
        self.flush()
        server: Any = self.endpoint.pairs[-1].server.protocol
        return self.successResultOf(connecting), server

    def flush(self) -> None:
        """Let everything travel."""
        self.endpoint.flush(self.size)
        for _ in range(100_000):
            if not any(
                call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()
            ):
                return
            self.clock.advance(0)
            self.endpoint.flush(self.size)
        raise AssertionError("The two ends did not come to rest.")

    def script(self, number: int = -1) -> Script:
        """Find a command at the server."""
        self.flush()
        return self.server.commands[number]

    def say(self, *records: Record) -> None:
        """Let the server say something that may be wrong."""
        self.server.say(*records)
        self.flush()

    def error(self, failed: Deferred[Any], kind: type[Exception]) -> Any:
        """Take the failure of a Deferred."""
        found = self.failureResultOf(failed).value
        self.assertIs(type(found), kind, found)
        return found
