"""
One session of the native files service: what is asked over it, and in what order it is answered.

What is asked of a name alone, and files of one chunk, are done in the order in which they come,
many at once in one thread. Lists and larger files take as long as they take beside that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import (
    ConnectionFailed,
    Denied,
    LimitExceeded,
    NetsuiteError,
    NotFound,
    ProtocolError,
)
from twisted_netsuite.files import quick
from twisted_netsuite.files.answers import errorOf, factsOf, failed, refused
from twisted_netsuite.files.batches import BATCH, Batches
from twisted_netsuite.files.bundling import Bundling, requireFits
from twisted_netsuite.files.capacity import Inflow, Outflow
from twisted_netsuite.files.gathering import Gathering, requireOneChunk
from twisted_netsuite.files.manifests import digesting, listed, manifest
from twisted_netsuite.files.messages import (
    MAX_OPEN,
    Body,
    Bundle,
    Bundled,
    Cancel,
    Change,
    Commit,
    Done,
    Facts,
    Failed,
    Found,
    Get,
    GetBundle,
    Hash,
    Holes,
    Join,
    List,
    MakeDirectory,
    Manifest,
    Put,
    PutBundle,
    Remove,
    Rename,
    Stat,
)
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.permit import Move, Place
from twisted_netsuite.files.receiving import Receiving
from twisted_netsuite.files.sending import DigestSending, FileSending, ListSending, Sending
from twisted_netsuite.files.small import Small
from twisted_netsuite.files.store import Attributes
from twisted_netsuite.files.uploads import Upload
from twisted_netsuite.net.framed import SessionProtocol
from twisted_netsuite.net.sendfile import Part, kernelSends
from twisted_netsuite.trust.oversight import causeOf
from twisted_netsuite.wire.session import Record

if TYPE_CHECKING:
    from twisted_netsuite.files.native import FilesFactory

A = TypeVar("A")
T = TypeVar("T")

Exchange = Sending | Receiving | Gathering | Bundling


class NativeFiles(SessionProtocol):
    """One session."""

    factory: FilesFactory
    # Else two ends that both send files would wait for each other.
    readsOn: ClassVar[bool] = True

    def connectionMade(self) -> None:
        """Have nothing open."""
        self._exchanges: dict[int, Exchange] = {}
        #: Requests of which nothing was answered yet.
        self._open: set[int] = set()
        #: Those of them that the client wants no more.
        self._cancelled: set[int] = set()
        self._highest = 0
        super().connectionMade()

    def sessionOpened(self) -> None:
        """Know who asks."""
        self._access = self.factory.permit.access(self.identity, self.address)
        pace = self.factory.pace
        self._inflow = Inflow(self.clock, pace, self.identity, self.hold)
        self._outflow = Outflow(self.clock, pace, self.identity, lambda: self.stalled)
        self._batches = Batches(self.clock, self.factory.disk, self._outflow.mayBegin)
        self.factory.requireOpen()

    def sessionClosed(self, reason: NetsuiteError | None) -> None:
        """Send and receive nothing more; what can be kept of files is."""
        exchanges, self._exchanges = self._exchanges, {}
        self._inflow.close()
        for each in exchanges.values():
            each.sessionClosed()
        self._outflow.close()
        self._batches.hurry()

    def sessionDraining(self) -> None:
        """The client asks nothing more: close once all is answered."""
        self._finishIfDone()

    def writingChanged(self, taken: bool) -> None:
        """Go on with what waits for the client."""
        if self.machine.isOpen and not self.stalled:
            self._outflow.taken()

    # What the client sends.

    def recordReceived(self, record: Record) -> None:
        """Take a record."""
        match record:
            case Body() | Holes() | Commit() | Cancel():
                self._within(record)
            case Put(follows=True):
                self._claim(record.id)
                self._gather(record)
            case Put():
                self._claim(record.id)
                self._receive(record)
            case Join():
                self._claim(record.id)
                self._join(record)
            case Get():
                self._claim(record.id)
                self._get(record)
            case GetBundle():
                self._claim(record.id)
                self._getBundle(record)
            case PutBundle():
                self._claim(record.id)
                self._putBundle(record)
            case List() | Manifest():
                self._claim(record.id)
                self._list(record)
            case Stat() | MakeDirectory() | Remove() | Change():
                self._claim(record.id)
                self._ask(record)
            case Rename():
                self._claim(record.id)
                self._rename(record)
            case Hash():
                self._claim(record.id)
                self._hash(record)
            case _:
                raise ProtocolError(f"A server is sent no {type(record).__name__.upper()}.")

    def _claim(self, id: int) -> None:
        if id <= self._highest:
            raise ProtocolError(f"Request {id} came after {self._highest}; each has a greater one.")
        self._highest = id
        if len(self._open) + len(self._exchanges) >= MAX_OPEN:
            raise LimitExceeded(f"{MAX_OPEN} requests are open, and no more can be.")

    def _within(self, record: Body | Holes | Commit | Cancel) -> None:
        exchange = self._exchanges.get(record.id)
        if exchange is not None:
            exchange.received(record)
        elif not isinstance(record, Cancel) or record.id > self._highest:
            raise ProtocolError(
                f"{type(record).__name__.upper()} came for {record.id}, which is not open."
            )
        elif record.id in self._open:
            self._cancelled.add(record.id)

    # What is answered at once.

    def _ask(self, record: Stat | MakeDirectory | Remove | Change) -> None:
        """Do what is asked of a name."""
        access = self._access
        made: list[Parts] = []

        def act(place: Place) -> Facts | None:
            return quick.carryOut(record, place, self._access.shows(place), made)

        done: Deferred[Facts | None]
        match record:
            case Stat():
                done = self._do(access.list(record.name), act)
            case MakeDirectory():
                refused = partial(access.refused, "files.mkdir")
                done = self._do(access.makeDirectory(record.name), act, refused=refused)
            case Remove():
                refused = partial(access.refused, "files.remove")
                done = self._do(access.remove(record.name), act, refused=refused)
            case Change():
                changed = access.change(record.name, record.mode, record.mtime)
                refused = partial(access.refused, "files.change")
                done = self._do(changed, act, refused=refused)
        self._open.add(record.id)

        def told(result: T) -> T:
            access.made(made)
            return result

        self._answerWith(record.id, done.addBoth(told), isinstance(record, Stat))

    def _rename(self, record: Rename) -> None:
        moved = self._access.rename(record.name, record.to)
        self._open.add(record.id)

        def rename(move: Move) -> Facts | None:
            return quick.rename(record, move, self._access.shows(move.target))

        def refused(move: Move, failure: Failure) -> Failure:
            source, to = move.source, move.target.name
            return self._access.refused("files.rename", source, failure, to=to)

        self._answerWith(record.id, self._do(moved, rename, refused=refused))

    def _hash(self, record: Hash) -> None:
        self._open.add(record.id)
        opened = self._do(self._access.read(record.name), quick.openToDigest)
        opened.addCallback(self._digested, record.id)
        opened.addErrback(lambda failure: self._notDone(record.id, failure))

    def _digested(self, found: Small | Place, id: int) -> None:
        if isinstance(found, Small):
            self._done(id, factsOf(found.attributes), found.digest)
            return
        self._open.discard(id)
        steps = digesting(found.store, found.parts)
        self._enqueue(DigestSending(id, steps, self, self.factory.disk))

    def _answerWith(self, id: int, done: Deferred[Any], looks: bool = False) -> None:
        done.addCallbacks(
            lambda facts: self._done(id, facts), lambda failure: self._notDone(id, failure, looks)
        )

    def _do(
        self,
        asked: Deferred[A],
        work: Callable[[A], T],
        weight: int = 1,
        refused: Callable[[A, Failure], Failure] | None = None,
    ) -> Deferred[T]:
        """Do something in a thread, once it is allowed, and after what was asked before; it may be
        refused there, after all."""

        def do(allowed: A) -> Deferred[T]:
            done = self._batches.run(partial(self._ifOpen, work, allowed), weight)
            return done if refused is None else done.addErrback(partial(refused, allowed))

        return asked.addCallback(do)

    def _ifOpen(self, work: Callable[[A], T], allowed: A) -> T:
        """Do what somebody still waits for."""
        if self.machine.closed:
            raise ConnectionFailed("The session is over.")
        return work(allowed)

    def _done(self, id: int, facts: Facts | None, digest: bytes | None = None) -> None:
        self._closed(id)
        self.answer(Done(id=id, facts=facts, digest=digest))
        self._finishIfDone()

    def _notDone(self, id: int, failure: Failure, looks: bool = False) -> None:
        self._closed(id)
        error = errorOf(failure)
        if not (looks and isinstance(error, NotFound)):
            # To whoever looks whether it is there that is the answer, as it is before each put.
            self._noteRefusal(error)
        self.answer(failed(id, error, False))
        self._finishIfDone()

    def _closed(self, id: int) -> None:
        self._open.discard(id)
        self._cancelled.discard(id)

    # What is sent.

    def _get(self, record: Get) -> None:
        self._open.add(record.id)
        opened = self._do(self._access.read(record.name), partial(quick.openFile, record))
        opened.addCallback(self._found, record)
        opened.addErrback(lambda failure: self._notDone(record.id, failure))

    def _found(self, found: Small | Place, record: Get) -> None:
        id = record.id
        self._open.discard(id)
        if not isinstance(found, Small):
            open = partial(found.store.source, found.parts)
            self._enqueue(FileSending(record, open, self, self.factory.disk))
            return
        facts = factsOf(found.attributes)
        self._outflow.answered(len(found.data))
        self.answer(Found(id=id, facts=facts))
        body = Body(id=id, index=0, length=len(found.data), digest=found.digest)
        self._leaves(self.sendBody(body, found.data), len(found.data))
        self._done(id, None, found.digest)

    def _leaves(self, sent: Deferred[int], count: int) -> None:
        sent.addErrback(_gone).addCallback(lambda _: self._outflow.left(count))

    def _getBundle(self, record: GetBundle) -> None:
        self._open.add(record.id)
        asked = _outcomes([self._access.read(each.name) for each in record.files])
        found = self._do(asked, partial(quick.readBundle, record), BATCH)
        found.addCallback(self._bundled, record.id)
        found.addErrback(lambda failure: self._notDone(record.id, failure))

    def _bundled(self, found: list[Small | Attributes | NetsuiteError], id: int) -> None:
        files, bodies = [], []
        for each in found:
            if isinstance(each, Small):
                files.append(Bundled(facts=factsOf(each.attributes), digest=each.digest))
                bodies.append(each.data)
            elif isinstance(each, NetsuiteError):
                files.append(self._refused(each))
            else:
                files.append(Bundled(facts=factsOf(each)))
        body = b"".join(bodies)
        self._outflow.answered(len(body))
        bundle = Bundle(id=id, files=tuple(files), length=len(body))
        self._leaves(self.sendBody(bundle, body), len(body))
        self._done(id, None)

    def _list(self, record: List | Manifest) -> None:
        self._open.add(record.id)
        asked = self._access.list(record.name)
        asked.addCallbacks(
            lambda place: self._listed(record, place),
            lambda failure: self._notDone(record.id, failure),
        )

    def _listed(self, record: List | Manifest, place: Place) -> None:
        self._open.discard(record.id)
        shows = self._access.shows(place)
        if isinstance(record, Manifest):
            entries = manifest(place, shows, record.digests)
        else:
            entries = listed(place, shows)
        self._enqueue(ListSending(record.id, entries, self, self.factory.disk))

    def _enqueue(self, sending: Sending) -> None:
        if not self.machine.closed:
            self._exchanges[sending.id] = sending
            if sending.id in self._cancelled:
                self._cancelled.discard(sending.id)
                sending.received(Cancel(id=sending.id))
        self._outflow.enqueue(sending)

    # What is received.

    def _write(self, record: Put) -> Deferred[Place]:
        """Ask to write a file; to compare it with a digest is to learn of what is in it."""

        def readable(place: Place) -> Place:
            shows = self._access.shows(place)
            if record.replaces is not None and shows is not None and not shows(place.parts):
                raise Denied("Who replaces a file by its digest has to be allowed to read it.")
            return place

        return self._access.write(record.name, record.size).addCallback(readable)

    def _gather(self, record: Put) -> None:
        # Before anybody is asked, who would not be heard.
        requireOneChunk(record)
        placed = self._write(record)
        self._exchanges[record.id] = Gathering(record, self, placed, partial(self._store, record))

    def _store(
        self, record: Put, place: Place, pieces: list[bytes], digest: bytes
    ) -> Deferred[Attributes]:
        write = partial(quick.publish, record, pieces=pieces, digest=digest)
        stored = self._batches.run(partial(self._ifOpen, write, place))
        return stored.addCallback(self._stored, place, digest)

    def _stored(self, attributes: Attributes, place: Place, digest: bytes) -> Attributes:
        self._access.wrote(place, attributes.size, digest)
        return attributes

    def _putBundle(self, record: PutBundle) -> None:
        requireFits(record)
        asked = _outcomes([self._access.write(each.name, each.size) for each in record.files])
        store = partial(self._storeBundle, record, asked)
        bundling = self._exchanges[record.id] = Bundling(record, self, store)
        bundling.start()

    def _storeBundle(
        self, record: PutBundle, asked: Deferred[list[quick.Placed]], pieces: list[bytes]
    ) -> Deferred[list[Bundled]]:
        def write(placed: list[quick.Placed]) -> Deferred[list[Bundled]]:
            work = partial(quick.publishBundle, record, pieces)
            made = self._batches.run(partial(self._ifOpen, work, placed), BATCH)
            return made.addCallback(self._bundleStored, placed, record)

        return asked.addCallback(write)

    def _bundleStored(
        self,
        made: list[Attributes | NetsuiteError],
        placed: list[quick.Placed],
        record: PutBundle,
    ) -> list[Bundled]:
        files = []
        for result, place, offered in zip(made, placed, record.files, strict=True):
            if isinstance(result, NetsuiteError) or isinstance(place, NetsuiteError):
                assert isinstance(result, NetsuiteError), "Nothing is written without a place."
                files.append(self._refused(result))
            else:
                self._stored(result, place, offered.digest)
                files.append(Bundled(facts=factsOf(result), digest=offered.digest))
        return files

    def _receive(self, record: Put) -> None:
        receiving = Receiving(record.id, self)
        self._exchanges[record.id] = receiving
        opened = self.factory.uploads.begin(
            self.factory.disk,
            self.identity,
            record,
            lambda: self._write(record),
            partial(self._ifOpen, partial(quick.begin, record)),
        )
        opened.addCallbacks(
            partial(self._uploadOpened, record, receiving),
            lambda failure: receiving.refused(errorOf(failure)),
        )

    def _uploadOpened(self, record: Put, receiving: Receiving, upload: Upload) -> None:
        def publish(digest: bytes) -> Deferred[Attributes]:
            return upload.commit(digest).addCallback(self._stored, upload.place, digest)

        receiving.opened(upload, publish, record.source is not None)

    def _join(self, record: Join) -> None:
        receiving = Receiving(record.id, self)
        self._exchanges[record.id] = receiving
        try:
            receiving.joined(self.factory.uploads.find(record.upload, self.identity))
        except NetsuiteError as error:
            receiving.refused(error)

    # What requests call.

    def answer(self, record: Record) -> None:
        """Send an answer."""
        self.sendRecord(record)

    def failed(self, id: int, error: NetsuiteError, kept: bool) -> Failed:
        """Put a failure into a record, and what the client is not told into the log."""
        self._noteRefusal(error)
        return failed(id, error, kept)

    def _refused(self, error: NetsuiteError) -> Bundled:
        """The same for one file of many."""
        self._noteRefusal(error)
        return refused(error)

    def _noteRefusal(self, error: NetsuiteError) -> None:
        if not self.machine.closed:
            self.log.info("{peer}: refused: {cause}", peer=self.peer, cause=causeOf(error))

    def forget(self, id: int) -> None:
        """The request is over."""
        self._exchanges.pop(id, None)
        self._finishIfDone()

    def waits(self, count: int) -> None:
        """Read no more while too much waits for the disk, or too much has come."""
        self._inflow.waits(count)

    def gathers(self, count: int) -> None:
        """Count what waits for its COMMIT."""
        self._inflow.gathers(count)

    def ready(self) -> Deferred[None]:
        """Wait until the client takes what was sent."""
        return self._outflow.ready()

    @property
    def kernelSends(self) -> bool:
        """Whether the kernel can send from a file by itself."""
        return kernelSends(self.transport)

    def sendChunk(self, header: Body, part: Part) -> Deferred[bool]:
        """Send a chunk, at the pace that its reader has."""
        return Deferred.fromCoroutine(self._sendChunk(header, part))

    async def _sendChunk(self, header: Body, part: Part) -> bool:
        await self._outflow.mayLeave(header.length)
        return not await self.sendBody(header, part)

    def _finishIfDone(self) -> None:
        if not self._exchanges and not self._open and self.machine.draining:
            self.finish()


def _outcomes(asked: list[Deferred[Place]]) -> Deferred[list[quick.Placed]]:
    """Wait for all answers: the place, or why there is none."""
    return Deferred.fromCoroutine(_waited(asked))


async def _waited(asked: list[Deferred[Place]]) -> list[quick.Placed]:
    placed: list[quick.Placed] = []
    for each in asked:
        try:
            placed.append(await each)
        except NetsuiteError as error:
            placed.append(error)
    return placed


def _gone(failure: Failure) -> None:
    """The session is over, which it knows."""
    failure.trap(NetsuiteError)
