"""
The native files service in memory: a client that writes records as they come, and a disk that does
all at once or when a test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.files.farend import write
from tests.files.faultystore import FaultyStore
from tests.files.fileserver import Immediate, Later
from tests.trust.overseen import ANNA, overseen
from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.files.digests import CHUNK, chunks, combined, digestOf
from twisted_netsuite.files.messages import (
    FRAME,
    RECORDS,
    SERVICE,
    Body,
    Bundle,
    Cancel,
    Commit,
    Done,
    Failed,
    Get,
    Put,
    Ready,
)
from twisted_netsuite.files.names import split
from twisted_netsuite.files.native import FilesFactory
from twisted_netsuite.files.nativesession import NativeFiles
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.net.rates import Pace
from twisted_netsuite.net.sessionclient import ClientSession, helloFor
from twisted_netsuite.testing import BUFFER_SIZE, Pair, connectPair
from twisted_netsuite.trust.audit import AuditNotes
from twisted_netsuite.trust.identity import Identity
from twisted_netsuite.wire.session import Record, SessionCodec

R = TypeVar("R", bound=Record)

#: Three chunks, the last of them short.
BIG = bytes(range(256)) * 4096 + b"\x01" * CHUNK + b"tail"


def pieces(data: bytes) -> list[bytes]:
    """Cut a file into its chunks."""
    return [data[at * CHUNK : (at + 1) * CHUNK] for at in range(chunks(len(data)))]


def digestOfAll(data: bytes) -> bytes:
    """Digest a file."""
    return combined([digestOf(piece) for piece in pieces(data)])


class Client(ClientSession):
    """
    A client that notes what comes.

    @ivar pair: its connection.
    @ivar server: the server's end.
    @ivar records: all that came.
    @ivar bodies: what came outside frames, by request and chunk; that of a bundle is the chunk 0.
    @ivar closed: why the session ended; C{None} in it when both expected that; empty before.
    """

    readsOn = True
    said: Callable[[], object] = staticmethod(lambda: None)
    pair: Pair
    server: NativeFiles

    def connectionMade(self) -> None:
        self.records: list[Record] = []
        self.bodies: dict[tuple[int, int], bytearray] = {}
        self.closed: list[NetsuiteError | None] = []
        self.id = 0
        super().connectionMade()

    def recordReceived(self, record: Record) -> None:
        self.records.append(record)
        if isinstance(record, Body):
            data = self.bodies[record.id, record.index] = bytearray()
            self.receiveRaw(record.length, data.extend)
        elif isinstance(record, Bundle) and record.length:
            self.receiveRaw(
                record.length, self.bodies.setdefault((record.id, 0), bytearray()).extend
            )

    def sessionClosed(self, reason: NetsuiteError | None) -> None:
        super().sessionClosed(reason)
        self.closed.append(reason)

    def say(self, *records: Record) -> None:
        """Send records, and let the server take all of them at once."""
        for record in records:
            self.sendRecord(record)
        self.pair.flush(max(BUFFER_SIZE, len(self.pair.client.outgoing)))
        self.said()

    def ask(self, kind: type[Record], **told: Any) -> int:
        """Ask something, and tell its number."""
        self.id += 1
        self.say(kind(id=self.id, **told))
        return self.id

    def chunk(self, id: int, index: int, data: bytes, digest: bytes | None = None) -> None:
        """Send a chunk."""
        header = Body(id=id, index=index, length=len(data), digest=digest or digestOf(data))
        self.sendBody(header, data).addErrback(lambda failure: None)
        self.pair.flush()

    def part(self, id: int, index: int, data: bytes, length: int) -> None:
        """Send the beginning of a chunk."""
        self.sendRecord(Body(id=id, index=index, length=length, digest=bytes(32)))
        self.pair.client.write(data)
        self.pair.flush()

    def put(self, name: bytes, data: bytes, **told: Any) -> int:
        """Begin a file."""
        return self.ask(Put, name=name, size=len(data), **told)

    def small(self, name: bytes, data: bytes, **told: Any) -> int:
        """Send a whole file of one chunk."""
        id = self.put(name, data, follows=True, **told)
        self.chunk(id, 0, data)
        self.say(Commit(id=id, digest=digestOf(data)))
        return id

    def all(self, id: int) -> list[Any]:
        """Tell what came about a request."""
        return [each for each in self.records if getattr(each, "id", None) == id]

    def kinds(self, id: int) -> list[str]:
        """Name what came about a request."""
        return [type(each).__name__ for each in self.all(id)]

    def last(self, id: int, kind: type[R]) -> R:
        """Take the last answer, which ends the request."""
        found = self.all(id)[-1]
        assert isinstance(found, kind), found
        ends = [each for each in self.all(id) if isinstance(each, Done | Failed)]
        assert len(ends) == 1, ends
        return found

    def ready(self, id: int) -> bytes:
        """Take READY."""
        (found,) = [each for each in self.all(id) if isinstance(each, Ready)]
        return found.upload

    def data(self, id: int) -> bytes:
        """Join what came of a file."""
        return b"".join(bytes(self.bodies[key]) for key in sorted(self.bodies) if key[0] == id)

    def why(self) -> str:
        """Tell why the session ended."""
        (reason,) = self.closed
        return str(reason)

    def reset(self) -> None:
        """Vanish without a word."""
        self.pair.client.abortConnection()
        self.pair.flush()


class NativeCase(SynchronousTestCase):
    """
    A service in memory.

    @ivar disk: does what blocks.
    @ivar store: what it serves.
    @ivar notes: its audit log.
    """

    slow = False
    policy: str | None = None
    factory: Any = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.disk: Any = Later() if self.slow else Immediate()
        self.store = FaultyStore(1 << 28)
        self.notes = self.makeNotes()
        self.clients: list[Client] = []
        self.serve()

    def makeNotes(self) -> AuditNotes:
        return AuditNotes()

    def serve(self, pace: Pace | None = None, writable: bool = True) -> None:
        """Begin a service, in place of another."""
        if self.factory is not None:
            self.stop()
        oversight = overseen(self.policy, self.notes, "files")
        permit = Permit(
            oversight, Roots("/r", lambda path: self.store), writable=writable and not self.policy
        )
        self.factory = FilesFactory(self.clock, permit, disk=self.disk, pace=pace)
        opened = self.factory.open()
        self.settle()
        self.successResultOf(opened)

    def tearDown(self) -> None:
        """Whatever a test did, nothing stays open, counted or timed."""
        for client in self.clients:
            client.pair.client.resumeProducing()
            client.reset()
        self.stop()
        self.assertEqual(self.store.opened, self.store.closed)
        self.assertEqual(self.store._writing, set())
        self.assertEqual((self.factory.uploads._open, self.factory.uploads._counts), ({}, {}))
        self.assertEqual(self.factory.uploads._turns, {})
        for client in self.clients:
            inflow = client.server._inflow
            self.assertEqual((inflow._waiting, inflow._slow), (0, None))
            self.assertEqual(client.server._outflow._pauses, set())
        self.clock.advance(60)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def stop(self) -> None:
        """Stop the service."""
        stopped = self.factory.abortConnections()
        self.settle()
        self.successResultOf(stopped)

    def step(self) -> bool:
        """Let the disk do one thing."""
        return self.slow and bool(self.disk.step())

    def settle(self) -> None:
        """Let all happen that takes no time."""
        while True:
            self.move()
            if not self.step():
                return

    def move(self) -> None:
        """Let all happen that takes neither time nor the disk."""
        while True:
            for client in self.clients:
                client.pair.flush()
            calls = self.clock.getDelayedCalls()
            if not calls or min(call.getTime() for call in calls) > self.clock.seconds():
                return
            self.clock.advance(0)

    def connect(self, identity: Identity = ANNA) -> Client:
        """Open a session as somebody."""
        client = Client(self.clock, SessionCodec(RECORDS), helloFor(SERVICE), "h:1")
        server: Any = self.factory.buildProtocol(None)
        client.pair = connectPair(server, client)
        client.server = server
        server.identity = identity
        client.pair.flush()
        self.successResultOf(client.greeted)
        client.MAX_LENGTH = FRAME
        self.clients.append(client)
        if not self.slow:
            client.said = self.move
        return client

    def keep(self, name: bytes, data: bytes) -> None:
        """Let the store have a file."""
        write(self.store, split(name), data)
        self.store.ends.clear()

    def kept(self, name: bytes) -> bytes | None:
        """Read a file of the store."""
        try:
            source = super(FaultyStore, self.store).source(split(name))
        except NetsuiteError:
            return None
        return source.read(0, source.attributes.size)

    def getting(self, client: Client, name: bytes, **told: Any) -> int:
        """Ask for a file, and let happen what does."""
        id = client.ask(Get, name=name, **told)
        self.settle()
        return id

    def putting(self, client: Client, name: bytes, data: bytes, **told: Any) -> int:
        """Begin a file, and wait until it can come."""
        id = client.put(name, data, **told)
        self.settle()
        client.ready(id)
        return id

    def whole(self, client: Client, name: bytes, data: bytes, **told: Any) -> int:
        """Send a whole file by chunks."""
        id = self.putting(client, name, data, **told)
        for index, piece in enumerate(pieces(data)):
            client.chunk(id, index, piece)
            self.settle()
        client.say(Commit(id=id, digest=digestOfAll(data)))
        self.settle()
        return id

    def cancelled(self, client: Client, id: int, keep: bool = True) -> Failed:
        """Break a request off."""
        client.say(Cancel(id=id, keep=keep))
        self.settle()
        return client.last(id, Failed)
