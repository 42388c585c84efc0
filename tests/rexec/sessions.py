"""
The native exec service in memory: sessions whose client writes records as they come, commands that
do what a test says, and a ledger whose thread is the test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.trust.overseen import ANNA, overseen
from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.net.sessionclient import ClientSession, helloFor
from twisted_netsuite.rexec.command import Command
from twisted_netsuite.rexec.ledger import Ledger
from twisted_netsuite.rexec.messages import (
    RECORDS,
    SERVICE,
    Attach,
    Credit,
    Detached,
    End,
    Kill,
    List,
    Listed,
    Listing,
    Start,
    Started,
    Stderr,
    Stdout,
)
from twisted_netsuite.rexec.native import ExecFactory, NativeExec
from twisted_netsuite.rexec.outcome import Outcome
from twisted_netsuite.testing import BUFFER_SIZE, FakeCommand, FakeSpawner, Pair, connectPair
from twisted_netsuite.trust.audit import AuditNotes
from twisted_netsuite.trust.identity import Identity
from twisted_netsuite.wire.session import About, Record, SessionCodec

R = TypeVar("R", bound=Record)

#: When tests begin: a time of day.
NOW = 1_795_267_683.0

#: A program that is everywhere.
SHELL = b"/bin/sh"

#: Allows everybody everything but C{/bin/false} and C{/bin/cat x}.
POLICY = """
[identities]
"cert:*" = ["operators"]
"unix:*" = ["operators"]
anonymous = ["operators"]

[[roles.operators.exec]]
deny = true
argv = ["/bin/false", "..."]

[[roles.operators.exec]]
argv = ["/bin/sh", "..."]
env = ["LANG"]
cwd = ["/**"]
pty = true
detach = true

[[roles.operators.exec]]
argv = ["/bin/ls", "..."]
output-limit = 10
time-limit = 60
detach = true

[[roles.operators.exec]]
argv = ["/bin/cat", "..."]
concurrency = 2
"""

#: Records that the reader of a channel gets.
_ON_CHANNEL = (Started, Stdout, Stderr, Detached, End)


class Threads:
    """
    Calls what has to be called in a thread: at once, or when a test says so.

    @ivar holding: whether it waits.
    @ivar failure: raised instead, if it is set.
    """

    def __init__(self) -> None:
        self.holding = False
        self.failure: Exception | None = None
        self._waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def __call__(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Call it."""
        if not self.holding:
            return maybeDeferred(self._call, function)
        done: Deferred[Any] = Deferred()
        self._waiting.append((done, function))
        return done

    def _call(self, function: Callable[[], Any]) -> Any:
        if self.failure is not None:
            raise self.failure
        return function()

    def let(self) -> None:
        """Call all that waits, and wait no more."""
        self.holding = False
        while self._waiting:
            done, function = self._waiting.pop(0)
            maybeDeferred(self._call, function).chainDeferred(done)


class Client(ClientSession):
    """
    A client that notes what comes.

    @ivar pair: its connection.
    @ivar server: the server's end.
    @ivar records: all that came.
    @ivar errors: each ERROR that did not end the session, and what it is about.
    @ivar closed: why the session ended; C{None} in it when both expected that; empty before.
    @ivar takes: whether it credits all output as it comes.
    """

    pair: Pair
    server: NativeExec

    def connectionMade(self) -> None:
        self.records: list[Record] = []
        self.errors: list[tuple[NetsuiteError, About]] = []
        self.closed: list[NetsuiteError | None] = []
        self.takes = False
        self.channel = 0
        super().connectionMade()

    def recordReceived(self, record: Record) -> None:
        self.records.append(record)
        if self.takes and isinstance(record, Stdout | Stderr) and self.machine.isOpen:
            stream: Literal["stdout", "stderr"]
            stream = "stdout" if isinstance(record, Stdout) else "stderr"
            count = len(record.data)
            self.sendRecord(Credit(channel=record.channel, stream=stream, count=count))

    def errorReceived(self, error: NetsuiteError, about: About) -> None:
        self.errors.append((error, about))

    def sessionClosed(self, reason: NetsuiteError | None) -> None:
        super().sessionClosed(reason)
        self.closed.append(reason)

    def say(self, *records: Record) -> None:
        """Send records, and let the server take all of them as one chunk."""
        for record in records:
            self.sendRecord(record)
        self.pair.flush(max(BUFFER_SIZE, len(self.pair.client.outgoing)))

    def open(self, kind: type[Start | Attach | List | Kill], **told: Any) -> int:
        """Open a channel, and tell its number."""
        self.channel += 1
        self.say(kind(channel=self.channel, **told))
        return self.channel

    def start(self, *argv: bytes, **told: Any) -> int:
        """Start a command."""
        return self.open(Start, argv=argv or (SHELL,), **told)

    def attach(self, id: str, **told: Any) -> int:
        """Attach to a command."""
        return self.open(Attach, id=id, **told)

    def listings(self) -> list[Listing]:
        """Ask for the list."""
        channel = self.open(List)
        parts = [each for each in self.all(Listed) if each.channel == channel]
        assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
        return [each for part in parts for each in part.commands]

    def all(self, kind: type[R]) -> list[R]:
        """Tell what came of a kind."""
        return [each for each in self.records if isinstance(each, kind)]

    def of(self, channel: int) -> list[Any]:
        """Tell what came on a channel."""
        return [each for each in self.records if getattr(each, "channel", None) == channel]

    def stdout(self, channel: int) -> bytes:
        """Tell what came of standard output."""
        return b"".join(each.data for each in self.of(channel) if isinstance(each, Stdout))

    def stderr(self, channel: int) -> bytes:
        """Tell what came of standard error."""
        return b"".join(each.data for each in self.of(channel) if isinstance(each, Stderr))

    def started(self, channel: int) -> Started:
        """Take the only STARTED."""
        (found,) = [each for each in self.of(channel) if isinstance(each, Started)]
        return found

    def end(self, channel: int) -> End:
        """Take the only END, which is the last record."""
        found = self.of(channel)
        assert [isinstance(each, End) for each in found] == [False] * (len(found) - 1) + [True]
        end: End = found[-1]
        return end

    def outcome(self, channel: int) -> Outcome:
        """Take how it ended."""
        return self.end(channel).outcome

    def kinds(self, channel: int) -> list[str]:
        """Name what came on a channel."""
        return [type(each).__name__ for each in self.of(channel)]

    def reset(self) -> None:
        """Vanish without a word."""
        self.pair.client.abortConnection()
        self.pair.flush()

    def stall(self) -> None:
        """Read nothing."""
        self.pair.client.pauseProducing()

    def goOn(self) -> None:
        """Read again."""
        self.pair.client.resumeProducing()


@dataclass
class Sizes:
    """How much a service remembers, by where."""

    ids: int
    keys: int
    unended: int
    rows: int
    timers: int


class ExecCase(SynchronousTestCase):
    """
    A service in memory.

    @ivar clock: its time.
    @ivar notes: its audit log.
    @ivar spawner: starts its commands.
    @ivar threads: where its ledger works.
    @ivar factory: the service.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.notes = AuditNotes()
        self.threads = Threads()
        self.clients: list[Client] = []
        self.state = self.mktemp()
        self.serve()

    def tearDown(self) -> None:
        self.stop()

    def serve(self, policy: str | None = POLICY, state: bool = False, **options: Any) -> None:
        """Begin another service; with C{state} one that keeps something."""
        self.spawner = FakeSpawner()
        ledger = Ledger(self.state, self.clock, inThread=self.threads) if state else None
        self.factory = ExecFactory(
            self.clock,
            overseen(policy, self.notes, "exec"),
            spawner=self.spawner,
            ledger=ledger,
            **options,
        )
        self.successResultOf(self.factory.open())

    def stop(self) -> None:
        """Stop it, and see that nothing is left."""
        self.threads.let()
        for client in self.clients:
            client.goOn()
        stopped = self.factory.abortConnections()
        for _ in range(5):
            self.settle()
            self.clock.advance(self.factory._drain)
            for command in self.spawner.commands:
                if not command.ended:
                    command.die(15)
            self.settle()
        self.clock.advance(40)
        self.settle()
        self.successResultOf(stopped)
        self.clients.clear()
        self.assertEqual(self.sizes(), Sizes(0, 0, 0, 0, 0))
        self.assertTrue(self.spawner.stopped)

    def crash(self) -> None:
        """Let the server vanish, with all that it knew in memory."""
        for client in self.clients:
            client.pair.server.abortConnection()
        commands = self.factory.commands
        for command in commands._byId.values():
            command.onEnded, command.onLeft = (lambda _: Deferred()), (lambda _: None)
            command.close()
        ledger = commands._ledger
        assert ledger is not None
        ledger._file.close()
        ledger._takes = False
        for client in self.clients:
            client.pair.flush()
            client.pair.server.reset()
        self.clients.clear()
        self.clock.calls.clear()

    def settle(self) -> None:
        """Let all happen that takes no time."""
        while True:
            for client in self.clients:
                client.pair.flush()
            calls = self.clock.getDelayedCalls()
            if not calls or min(call.getTime() for call in calls) > self.clock.seconds():
                return
            self.clock.advance(0)

    def connect(self, identity: Identity = ANNA) -> Client:
        """Open a session as somebody."""
        client = self.knock(identity)
        self.successResultOf(client.greeted)
        return client

    def knock(self, identity: Identity = ANNA) -> Client:
        """Ask for a session as somebody."""
        server = self.factory.buildProtocol(None)
        assert isinstance(server, NativeExec)
        hello = helloFor(SERVICE)
        client = Client(self.clock, SessionCodec(RECORDS), hello, "exec.example:7512")
        client.pair = connectPair(server, client)
        client.server = server
        server.identity = identity
        client.pair.flush()
        self.clients.append(client)
        return client

    def last(self) -> FakeCommand:
        """Tell what was started last."""
        return self.spawner.commands[-1]

    def run_(self, client: Client, *argv: bytes, **told: Any) -> tuple[int, FakeCommand]:
        """Start a command that runs."""
        before = len(self.spawner.commands)
        channel = client.start(*argv, **told)
        self.assertEqual(len(self.spawner.commands), before + 1, client.of(channel))
        command = self.last()
        command.start()
        self.settle()
        return channel, command

    def sizes(self) -> Sizes:
        """Tell how much the service remembers."""
        commands = self.factory.commands
        return Sizes(
            len(commands._byId),
            len(commands._byKey),
            len(commands._unended),
            len(commands._rows),
            len(self.clock.getDelayedCalls()),
        )

    def kept(self, id: str) -> Command:
        """Find a command by its name."""
        return self.factory.commands._byId[id]
