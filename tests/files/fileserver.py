"""
Servers of the native files protocol for tests of its client: one that notes what comes and does
what a test says, and one that keeps files in memory, with faults on demand.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.files.client import FilesSession, connectFiles
from twisted_netsuite.files.digests import CHUNK, chunkLength, chunks, combined, digestOf
from twisted_netsuite.files.messages import (
    FRAME,
    RECORDS,
    SERVICE,
    Body,
    Bundle,
    Bundled,
    Cancel,
    Commit,
    Done,
    Facts,
    Failed,
    Found,
    Get,
    Hash,
    Have,
    Holes,
    Join,
    Put,
    PutBundle,
    Ready,
)
from twisted_netsuite.net.framed import SessionFactory, SessionProtocol
from twisted_netsuite.net.sendfile import Part
from twisted_netsuite.testing import BUFFER_SIZE, MemoryEndpoint, Pair
from twisted_netsuite.wire.session import Record

#: What a server is called in sentences.
NAME = "files.example"

VERSION = bytes(range(16))
OTHER_VERSION = bytes(16)


class Immediate:
    """A disk that does everything at once."""

    def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        return execute(work, *args, **kwargs)


class Later:
    """
    A disk whose answers come when a test says so, in any order.

    @ivar waiting: what was given to it and not done.
    """

    def __init__(self, seed: int = 0) -> None:
        self.waiting: list[Callable[[], object]] = []
        self._random = random.Random(seed)

    def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()

        def do() -> None:
            execute(work, *args, **kwargs).chainDeferred(done)

        self.waiting.append(do)
        return done

    def step(self) -> bool:
        """Do one thing; tell whether there was any."""
        if not self.waiting:
            return False
        self.waiting.pop(self._random.randrange(len(self.waiting)))()
        return True


class Script(SessionProtocol):
    """
    The server's end of a session.

    @ivar records: what has come.
    @ivar bodies: what has come outside frames, by request and chunk; that of a bundle is the chunk
        0.
    """

    factory: Scripts
    readsOn = True

    def sessionOpened(self) -> None:
        self.records: list[Record] = []
        self.bodies: dict[tuple[int, int], bytearray] = {}
        self.factory.opened.append(self)

    def recordReceived(self, record: Record) -> None:
        self.records.append(record)
        if isinstance(record, Body):
            self.factory.bodyBegins(self, record)
            data = self.bodies[record.id, record.index] = bytearray()
            if record.length:
                self.receiveRaw(record.length, self._taking(record, record.length, data))
                return
        elif isinstance(record, PutBundle):
            length = sum(each.size for each in record.files)
            data = self.bodies[record.id, 0] = bytearray()
            if length:
                self.receiveRaw(length, self._taking(record, length, data))
                return
        self.factory.onRecord(self, record)

    def _taking(
        self, record: Record, length: int, data: bytearray
    ) -> Callable[[bytes | memoryview], None]:
        def take(piece: bytes | memoryview) -> None:
            data.extend(piece)
            if len(data) == length:
                self.factory.onRecord(self, record)

        return take

    def sendChunk(self, id: int, index: int, data: bytes, digest: bytes | None = None) -> None:
        header = Body(id=id, index=index, length=len(data), digest=digest or digestOf(data))
        self.sendBody(header, data).addErrback(lambda failure: None)

    def sendBundle(
        self, id: int, files: list[Bundled], body: bytes = b"", length: int | None = None
    ) -> None:
        announced = len(body) if length is None else length
        self.sendRecord(Bundle(id=id, files=tuple(files), length=announced))
        self.transport.write(body)

    def fail_(self, id: int, error: NetsuiteError, kept: bool = False) -> None:
        self.sendRecord(Failed(id=id, code=error.wireCode, message=error.sentence, kept=kept))


class Scripts(SessionFactory):
    """
    Makes them.

    @ivar opened: the sessions, in order.
    """

    protocol = Script

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, SERVICE, RECORDS, frame=FRAME)
        self.opened: list[Script] = []
        self.onRecord: Callable[[Script, Record], object] = lambda script, record: None

    def bodyBegins(self, script: Script, header: Body) -> None:
        """A chunk is coming."""


def facts(size: int, version: bytes = VERSION, **known: Any) -> Facts:
    """Make what is known of a file."""
    return Facts(size=size, version=version, mode=0o640, mtime=1_000_000_007, **known)


class SessionTestCase(SynchronousTestCase):
    """Sessions of a client with a server, in memory."""

    #: Bytes that move at a time.
    size = BUFFER_SIZE

    def setUp(self) -> None:
        self.clock = Clock()
        self.factory = self.makeFactory()
        self.endpoint = MemoryEndpoint(self.factory)

    def makeFactory(self) -> Scripts:
        return Scripts(self.clock)

    def connect(self) -> FilesSession:
        """Open one more session."""
        opening = connectFiles(self.endpoint, self.clock, name=NAME)
        self.endpoint.flush()
        return self.successResultOf(opening)

    @property
    def pairs(self) -> list[Pair]:
        return self.endpoint.pairs

    def flush(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(100_000):
            moved = False
            for pair in self.pairs:
                moved = pair.client.step(self.size) or moved
                moved = pair.server.step(self.size) or moved
            moved = self.turn() or moved
            if not moved:
                return
        raise AssertionError("It does not come to rest.")

    def turn(self) -> bool:
        """Give one turn of the reactor; tell whether something was waiting for it."""
        now = self.clock.seconds()
        if not any(call.getTime() <= now for call in self.clock.getDelayedCalls()):
            return False
        self.clock.advance(0)
        return True


@dataclass
class Kept:
    """A file that a server has."""

    data: bytes
    version: bytes = VERSION
    #: Chunks that are sent as holes.
    holes: frozenset[int] = frozenset()
    #: How often each chunk is sent wrong.
    wrong: dict[int, int] = field(default_factory=dict)
    #: After so many chunks the file is another.
    changesAfter: int | None = None

    @property
    def facts(self) -> Facts:
        return facts(len(self.data), self.version)


@dataclass
class Incoming:
    """A file that a client sends."""

    put: Put
    chunks: dict[int, bytes]
    begun: set[int] = field(default_factory=set)


class FileServer(Scripts):
    """
    A server that keeps files.

    @ivar files: by their names.
    @ivar partials: chunks that an earlier try has left, by name and source.
    @ivar asked: the chunks that each session was asked for by GET.
    @ivar closesAfter: a session is cut off after so many chunks in all.
    @ivar refuses: what the chunk of an index fails with when it comes.
    @ivar twice: chunks that have begun to come more than once in one upload.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.files: dict[bytes, Kept] = {}
        self.partials: dict[tuple[bytes, bytes], dict[int, bytes]] = {}
        self.asked: dict[Script, list[int]] = {}
        self.received: dict[Script, list[int]] = {}
        self.uploads: dict[bytes, Incoming] = {}
        self.closesAfter: dict[int, int] = {}
        self.refuses: dict[int, NetsuiteError] = {}
        self.twice: list[int] = []
        self.joinFails: NetsuiteError | None = None
        self.holdsDone = False
        self._open: dict[tuple[Script, int], Incoming] = {}
        self.onRecord = self._take
        self.published: list[Put] = []

    def _take(self, script: Script, record: Record) -> None:
        match record:
            case Get():
                self._get(script, record)
            case Hash():
                self._hash(script, record)
            case Put():
                self._put(script, record)
            case Join():
                self._join(script, record)
            case Body():
                self._body(script, record)
            case Holes():
                incoming = self._open.get((script, record.id))
                if incoming is not None:
                    for index in range(record.index, record.index + record.count):
                        length = chunkLength(incoming.put.size, index)
                        incoming.chunks[index] = bytes(length)
            case Commit():
                self._commit(script, record)
            case Cancel():
                self._cancel(script, record)

    def bodyBegins(self, script: Script, header: Body) -> None:
        incoming = self._open.get((script, header.id))
        if incoming is not None:
            if header.index in incoming.begun:
                self.twice.append(header.index)
            incoming.begun.add(header.index)

    def _hash(self, script: Script, asked: Hash) -> None:
        kept = self.files.get(asked.name)
        if kept is None:
            script.sendRecord(Failed(id=asked.id, code="not-found", message="It is not there."))
        else:
            digest = fileDigest(kept.data)
            script.sendRecord(Done(id=asked.id, facts=kept.facts, digest=digest))

    def _get(self, script: Script, asked: Get) -> None:
        kept = self.files.get(asked.name)
        if kept is None:
            script.sendRecord(Failed(id=asked.id, code="not-found", message="It is not there."))
            return
        if asked.version not in (None, kept.version):
            script.sendRecord(Failed(id=asked.id, code="source-changed", message="It has changed."))
            return
        script.sendRecord(Found(id=asked.id, facts=kept.facts))
        have = chunks(len(kept.data))
        behind = have if asked.count is None else asked.first + asked.count
        for index in range(asked.first, behind):
            if not self._sendChunk(script, asked.id, kept, index):
                return
        script.sendRecord(Done(id=asked.id))

    def _sendChunk(self, script: Script, id: int, kept: Kept, index: int) -> bool:
        self.asked.setdefault(script, []).append(index)
        if kept.changesAfter is not None:
            kept.changesAfter -= 1
            if kept.changesAfter < 0:
                kept.version = OTHER_VERSION
                script.sendRecord(Failed(id=id, code="source-changed", message="It has changed."))
                return False
        if index in kept.holes:
            script.sendRecord(Holes(id=id, index=index, count=1))
            return True
        data = kept.data[index * CHUNK : (index + 1) * CHUNK]
        digest = digestOf(data)
        if kept.wrong.get(index, 0) > 0:
            kept.wrong[index] -= 1
            data = b"x" * len(data)
        number = self.opened.index(script)
        limit = self.closesAfter.get(number)
        if limit is not None and len(self.asked[script]) > limit:
            header = Body(id=id, index=index, length=len(data), digest=digest)
            part = Part(len(data), self._cuttingOff(script, data))
            script.sendBody(header, part).addErrback(lambda failure: None)
            return False
        script.sendChunk(id, index, data, digest)
        return True

    def _cuttingOff(
        self, script: Script, data: bytes
    ) -> Callable[[int, int], bytes | Deferred[bytes]]:
        """Give a half of a chunk, and end the connection in its middle."""

        def read(offset: int, count: int) -> bytes | Deferred[bytes]:
            if offset < len(data) // 2:
                return data[offset : offset + count]
            self.clock.callLater(0, self.cut, script)
            return Deferred()

        return read

    def _put(self, script: Script, asked: Put) -> None:
        if asked.name in self.files and not asked.clobber:
            script.sendRecord(Failed(id=asked.id, code="conflict", message="It exists."))
            return
        left = self.partials.pop((asked.name, asked.source), {}) if asked.source else {}
        incoming = Incoming(asked, dict(left))
        self._open[script, asked.id] = incoming
        if asked.follows:
            return
        token = len(self.uploads).to_bytes(16, "big")
        self.uploads[token] = incoming
        for index, data in sorted(left.items()):
            script.sendRecord(Have(id=asked.id, index=index, digests=digestOf(data)))
        script.sendRecord(Ready(id=asked.id, upload=token))

    def _join(self, script: Script, asked: Join) -> None:
        if self.joinFails is not None:
            script.fail_(asked.id, self.joinFails)
            return
        self._open[script, asked.id] = self.uploads[asked.upload]
        script.sendRecord(Ready(id=asked.id, upload=asked.upload))

    def _body(self, script: Script, header: Body) -> None:
        incoming = self._open.get((script, header.id))
        if incoming is None:
            return
        self.received.setdefault(script, []).append(header.index)
        number = self.opened.index(script)
        limit = self.closesAfter.get(number)
        if limit is not None and len(self.received[script]) > limit:
            self.cut(script)
            return
        data = bytes(script.bodies[header.id, header.index])
        error = self.refuses.pop(header.index, None)
        if error is None and digestOf(data) != header.digest:
            script.sendRecord(Failed(id=header.id, code="corrupted", message="It came wrong."))
            self._leave(script, header.id, True)
        elif error is not None:
            script.fail_(header.id, error)
            self._leave(script, header.id, True)
        else:
            incoming.chunks[header.index] = data

    def cut(self, script: Script) -> None:
        """End a session; what a PUT has brought is kept."""
        for number, id in list(self._open):
            if number is script:
                self._leave(script, id, True)
        script._ended(None)
        script.transport.loseConnection()

    def _leave(self, script: Script, id: int, keep: bool) -> None:
        incoming = self._open.pop((script, id), None)
        if incoming is not None and keep and incoming.put.source:
            self.partials[incoming.put.name, incoming.put.source] = incoming.chunks

    def _commit(self, script: Script, record: Commit) -> None:
        incoming = self._open.pop((script, record.id), None)
        if incoming is None or self.holdsDone:
            return
        put = incoming.put
        if record.digest is None:
            script.sendRecord(Done(id=record.id))
            return
        data = b"".join(incoming.chunks[index] for index in range(chunks(put.size)))
        if fileDigest(data) != record.digest:
            script.sendRecord(Failed(id=record.id, code="corrupted", message="It is wrong."))
            return
        self.published.append(put)
        self.files[put.name] = Kept(data)
        script.sendRecord(Done(id=record.id, facts=facts(put.size), digest=record.digest))

    def _cancel(self, script: Script, record: Cancel) -> None:
        if (script, record.id) in self._open:
            self._leave(script, record.id, record.keep)
            script.sendRecord(Failed(id=record.id, code="conflict", message="It was cancelled."))


def fileDigest(data: bytes) -> bytes:
    """Digest a whole file."""
    pieces = [data[at : at + CHUNK] for at in range(0, max(1, len(data)), CHUNK)]
    return combined([digestOf(piece) for piece in pieces])
