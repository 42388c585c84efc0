"""
Commands that work with files, and a server in memory for them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cli.terminal import DescriptorReactor, Screen, pipe
from tests.files.farend import AtOnce, write
from twisted_netsuite.cli import filesrun
from twisted_netsuite.cli.filesplaces import Remote, requireRemote
from twisted_netsuite.cli.filesrun import Console, FilesServer
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.names import split
from twisted_netsuite.files.native import FilesFactory
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.testing import BUFFER_SIZE, MemoryEndpoint
from twisted_netsuite.trust.oversight import UNSEEN

ADDRESS = "h:1"

#: A time that is no whole number of anything, in nanoseconds.
TIME = 1_700_000_000_123_456_789

#: Turns after which a command that does not end is taken to wait for somebody.
TURNS = 60


class Threads(AtOnce):
    """A disk of one's own that does all at once."""

    def __init__(self, reactor: object) -> None:
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False


class Posted:
    """
    The signals of a process, sent by a test.

    @ivar watched: who watches which.
    """

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], object]] = {}

    def __call__(self, reactor: object) -> Posted:
        return self

    def __enter__(self) -> Posted:
        return self

    def __exit__(self, *_: object) -> None:
        self.watched.clear()

    def watch(self, number: int, call: Callable[[], object]) -> None:
        self.watched[number] = call

    def post(self, number: int = signal.SIGINT) -> None:
        """Send one."""
        self.watched[number]()


class FilesCase(SynchronousTestCase):
    """
    Commands against a server in memory, in a directory of their own.

    @ivar store: what the server has.
    @ivar left: the statuses with which a process was ended at once.
    """

    def setUp(self) -> None:
        self.screen = Screen(self)
        self.reactor = DescriptorReactor()
        self.store = MemoryStore()
        self.permit = self.makePermit()
        self.factory = FilesFactory(self.reactor, self.permit, disk=AtOnce())
        self.successResultOf(self.factory.open())
        self.endpoint = MemoryEndpoint(self.factory)
        self.patch(filesrun, "parseConnect", lambda reactor, address, files: self.endpoint)
        self.patch(filesrun, "ThreadedDisk", Threads)
        self.server = FilesServer(ADDRESS)
        self.signals = Posted()
        self.left: list[int] = []
        self.stdin, self.typed = pipe(self)
        self.stdout, self.written = pipe(self)
        self.written, self.stdout = self.stdout, self.written
        self.questions: list[str] = []
        self.console = Console(
            self.stdin, self.stdout, self.questions.append, self.signals, self.left.append
        )
        self.directory = os.path.realpath(self.mktemp())
        os.mkdir(self.directory)
        home = os.getcwd()
        os.chdir(self.directory)
        self.addCleanup(os.chdir, home)

    def makePermit(self) -> Permit:
        """Say what the server allows."""
        return Permit(UNSEEN, Roots("/root", lambda path: self.store), writable=True)

    # What the server has.

    def serve(self, name: str | bytes, data: bytes, mode: int = 0o640) -> None:
        """Put a file into the server's store."""
        parts = split(os.fsencode(name))
        if parts[:-1]:
            self.store.makeDirectory(parts[:-1], None, True)
        write(self.store, parts, data, TIME, mode)

    def served(self, name: str | bytes) -> bytes:
        """Read a file of the server's store."""
        source = self.store.source(split(os.fsencode(name)))
        return source.read(0, source.attributes.size)

    def names(self, name: str = "") -> list[bytes]:
        """List a directory of the server's store."""
        return sorted(each.name for each in self.store.list(split(os.fsencode(name))))

    # What is here.

    def write(self, path: str | bytes, data: bytes) -> None:
        """Write a file at this end."""
        above = os.path.dirname(path)
        if above:
            os.makedirs(above, exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    def read(self, path: str | bytes) -> bytes:
        """Read a file of this end."""
        with open(path, "rb") as file:
            return file.read()

    # Running commands.

    def at(self, name: str) -> Remote:
        """Name something at the server."""
        return requireRemote(f"{ADDRESS}:{name}", "place")

    def start(self, command: Coroutine[Any, Any, int]) -> Deferred[int]:
        """Begin a command, and let happen what happens soon."""
        done = Deferred.fromCoroutine(command)
        self.go(done)
        return done

    def go(self, done: Deferred[int], turns: int = TURNS, seconds: float = 0.05) -> None:
        """Let time pass, until a command has ended or waits for somebody."""
        for _ in range(turns):
            self.turn(seconds)
            if done.called:
                return

    def turn(self, seconds: float = 0.0) -> None:
        """Let happen what happens now, and a time later."""
        self.endpoint.flush()
        self.reactor.settle()
        self.reactor.advance(seconds)

    def part(self) -> None:
        """Let some bytes move on the connection that was made last."""
        for pair in self.endpoint.pairs[-1:]:
            pair.client.step(BUFFER_SIZE)
            pair.server.step(BUFFER_SIZE)
        self.reactor.advance(0)

    def status(self, command: Coroutine[Any, Any, int]) -> int:
        """Run a command to its end."""
        return self.successResultOf(self.start(command))

    def cut(self) -> None:
        """Break all connections."""
        for pair in self.endpoint.pairs:
            pair.client.reset()
            pair.server.reset()
