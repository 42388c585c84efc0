"""
An exec service that does what a test tells it to, for the commands of C{netsuite exec}.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.net.tlscontext import TrustFiles
from twisted_netsuite.rexec.client import Ended, OutputStream
from twisted_netsuite.rexec.flow import NOTHING
from twisted_netsuite.rexec.messages import Listing
from twisted_netsuite.rexec.outcome import Outcome


class RemoteInput:
    """
    The input of a command.

    @ivar data: what has come.
    @ivar ended: whether its end has come.
    @ivar producer: gives it.
    """

    def __init__(self) -> None:
        self.data = b""
        self.ended = False
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take a producer."""
        assert streaming and self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        """All has come."""
        self.ended = True

    def write(self, data: bytes) -> None:
        """Take some."""
        assert not self.ended
        self.data += data


class RemoteCommand:
    """
    A command whose streams press back as those of the real client do.

    @ivar told: what was asked of it, in order.
    @ivar taken: bytes of both streams that the consumers have taken.
    @ivar failure: what a consumer has raised.
    """

    def __init__(self, id: str, stdout: Any, stderr: Any, pty: bool) -> None:
        self.id = id
        self.pty = pty
        self.known = False
        self.told: list[Any] = []
        self.stdin = RemoteInput()
        self.taken = 0
        self.failure: NetsuiteError | None = None
        self.stdout = OutputStream("stdout", stdout, self._took, self._broke, self._settle)
        self.stderr = OutputStream("stderr", stderr, self._took, self._broke, self._settle)
        self._outcome: Outcome | None = None
        self._watchers: list[Deferred[Ended]] = []

    # What a command line asks for.

    def whenEnded(self) -> Deferred[Ended]:
        """Wait for the end."""
        watcher: Deferred[Ended] = Deferred(self._watchers.remove)
        self._watchers.append(watcher)
        self._settle()
        return watcher

    def signal(self, name: str) -> None:
        """Note it."""
        self.told.append(name)

    def resize(self, rows: int, cols: int) -> None:
        """Note it."""
        self.told.append((rows, cols))

    def cancel(self) -> None:
        """Note it."""
        self.told.append("cancel")

    def detach(self) -> Deferred[None]:
        """Note it."""
        self.told.append("detach")
        return succeed(None)

    # What a test says.

    def end(self, outcome: Outcome) -> None:
        """End, once all output was delivered."""
        self._outcome = outcome
        self.stdout.end()
        self.stderr.end()
        self._settle()

    def lose(self, error: NetsuiteError) -> None:
        """Lose the connection."""
        for stream in (self.stdout, self.stderr):
            stream.leave()
        for each in list(self._watchers):
            self._watchers.remove(each)
            each.errback(error)

    def _took(self, count: int) -> None:
        self.taken += count

    def _broke(self, why: Any) -> None:
        # As the real one does: the command is cancelled, and the failure is told once it has ended.
        self.failure = why.value
        self.cancel()
        self.stdout.drop()
        self.stderr.drop()

    def _settle(self) -> None:
        if self._outcome is None or not (self.stdout.released and self.stderr.released):
            return
        watchers, self._watchers = self._watchers, []
        for each in watchers:
            if self.failure is not None:
                each.errback(self.failure)
            else:
                each.callback(Ended(self._outcome, NOTHING, NOTHING))


class RemoteSession:
    """
    A session on which a test answers.

    @ivar asked: what was asked, with its words.
    @ivar started: the commands that were started or attached to.
    @ivar refusal: what the next question fails with.
    @ivar waits: whether a start is not answered.
    @ivar pty: whether commands have a terminal; C{None} when they have as asked.
    @ivar listings: what there is.
    @ivar closed: whether it was closed.
    @ivar goodbye: what the server has said before it stops.
    @ivar closing: fires when that is done, where it takes time.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.started: list[RemoteCommand] = []
        self.refusal: NetsuiteError | None = None
        self.waits = False
        self.pty: bool | None = None
        self.listings: list[Listing] = []
        self.closed = False
        self.goodbye: str | None = None
        self.closing: Deferred[None] | None = None

    def start(self, argv: Any, *, stdout: Any, stderr: Any, **options: Any) -> Deferred[Any]:
        """Start a command."""
        return self._opened("start", {"argv": argv, **options}, stdout, stderr)

    def attach(self, id: str, *, stdout: Any, stderr: Any, **options: Any) -> Deferred[Any]:
        """Attach to one."""
        return self._opened("attach", {"id": id, **options}, stdout, stderr)

    def _opened(self, word: str, options: dict[str, Any], out: Any, err: Any) -> Deferred[Any]:
        self.asked.append((word, options))
        if self.refusal is not None:
            return fail(self.refusal)
        if self.waits:
            return Deferred()
        pty = options.get("terminal") is not None if self.pty is None else self.pty
        command = RemoteCommand(options.get("id", "abcdefgh"), out, err, pty)
        self.started.append(command)
        return succeed(command)

    def kill(self, id: str, signal: str | None = None) -> Deferred[None]:
        """Kill a command."""
        self.asked.append(("kill", {"id": id, "signal": signal}))
        return succeed(None) if self.refusal is None else fail(self.refusal)

    def commands(self) -> Deferred[list[Listing]]:
        """List the commands."""
        return succeed(self.listings) if self.refusal is None else fail(self.refusal)

    def close(self) -> Deferred[None]:
        """Close."""
        self.closed = True
        return succeed(None) if self.closing is None else self.closing


class RemoteServers:
    """
    Servers that a module of commands connects to, during a test.

    @ivar sessions: what was connected to, by address.
    @ivar unreachable: what connecting to an address fails with.
    @ivar connects: what each connection was made with.
    """

    def __init__(self, test: SynchronousTestCase, module: ModuleType) -> None:
        self.sessions: dict[str, RemoteSession] = {}
        self.unreachable: dict[str, NetsuiteError] = {}
        self.connects: list[dict[str, Any]] = []
        test.patch(module, "parseConnect", self._parse)
        test.patch(module, "connectExec", self._connect)

    def _parse(self, reactor: object, address: str, files: TrustFiles | None) -> Any:
        return address, files

    def _connect(self, endpoint: Any, clock: object, *, name: str, **words: Any) -> Deferred[Any]:
        self.connects.append({"endpoint": endpoint, **words})
        if name in self.unreachable:
            return fail(self.unreachable[name])
        return succeed(self.sessions.setdefault(name, RemoteSession()))
