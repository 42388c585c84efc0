"""
Many small files fetched or sent by one request of a client, so that what a request costs does not
count: here is the request, what is read for it, and what is written. Which files go together is not
decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import (
    ConnectionFailed,
    LimitExceeded,
    NetsuiteError,
    ProtocolError,
    SourceChanged,
)
from twisted_netsuite.files.asking import Piece, Question
from twisted_netsuite.files.batches import BATCH
from twisted_netsuite.files.client import FilesSession, leastBusy
from twisted_netsuite.files.clientmachine import State, bundleMachine
from twisted_netsuite.files.flights import whole
from twisted_netsuite.files.getfile import storeSmall
from twisted_netsuite.files.messages import (
    BUNDLE_BYTES,
    Bundle,
    Bundled,
    Chosen,
    Facts,
    GetBundle,
    Offered,
    PutBundle,
    Request,
)
from twisted_netsuite.files.moving import Got, Local, Sent, Wishes, wantedOf
from twisted_netsuite.files.small import Small, readSmall
from twisted_netsuite.wire.session import Error, Record, failureOf


@dataclass(frozen=True)
class Item:
    """
    One file of a bundle.

    @ivar name: at the server.
    @ivar local: at this end.
    @ivar facts: what a list has told of it; C{None} where it is sent.
    """

    name: bytes
    local: Local
    facts: Facts | None = None

    def chosen(self) -> Chosen:
        """
        Ask for it.

        @return: for the record.
        """
        version = None if self.facts is None else self.facts.version
        return Chosen(name=self.name, version=version)


class TooLarge(SourceChanged):
    """A file has become too large for a bundle, or changes just now, and has to go alone."""


class BundleRequest(Question):
    """
    The request, and the one record that answers it.

    @ivar bundle: that record, once the answer has fired.
    @ivar pieces: the bytes behind it.
    """

    bundle: Bundle

    def __init__(
        self, session: FilesSession, count: int, make: Callable[[int], Request], body: bytes | None
    ) -> None:
        """
        @param session: carries it.
        @param count: how many files there are.
        @param make: makes the record.
        @param body: what follows it; C{None} where bytes come back.
        """
        super().__init__(session, bundleMachine(), make)
        self.pieces: list[bytes] = []
        self._count = count
        self._body = body

    def begin(self, id: int) -> None:
        """Send it, with what belongs to it; it fails where its names are too long for a record."""
        try:
            self._send(id)
        except LimitExceeded as error:
            self.machine.state = State.OVER
            self.carrier.release(self)
            self.failed(error)

    def _send(self, id: int) -> None:
        if self._body is None:
            super().begin(id)
            return
        self.id = id
        body, self._body = self._body, b""
        self.carrier.sendBody(self._make(id), body).addErrback(_gone)

    def taken(self, record: Record) -> None:
        """Take what became of the files."""
        assert isinstance(record, Bundle)
        expected = 0
        for each in record.files:
            found = each.facts is not None
            if found is (each.code is not None) or (each.digest is not None and not found):
                raise ProtocolError("BUNDLE does not say just what became of a file.")
            if self._body is None and each.digest is not None and each.facts is not None:
                expected += each.facts.size
        if len(record.files) != self._count or record.length != expected:
            raise ProtocolError(
                f"BUNDLE has {len(record.files)} files and {record.length} bytes, where "
                f"{self._count} and {expected} were to come."
            )
        self.bundle = record
        if record.length:
            self.carrier.receiveRaw(record.length, self._take)

    def _take(self, piece: Piece) -> None:
        if self.machine.state is State.RECEIVING:
            self.pieces.append(bytes(piece))


def getBundle(
    sessions: Sequence[FilesSession], items: Sequence[Item], wishes: Wishes
) -> Deferred[list[Got | NetsuiteError]]:
    """
    Fetch small files, and publish each at this end when it is right.

    @param sessions: of one server, at least one; the one with the least to do is asked.
    @param items: which, of one store and disk.
    @param wishes: how.
    @return: fires with what became of each; where that is L{TooLarge}, L{SourceChanged} or
        L{Corrupted} it can be tried again alone. Fails with what has become of the session.
        Cancelling it leaves whole files.
    """
    return Deferred.fromCoroutine(_get(sessions, items, wishes))


async def _get(
    sessions: Sequence[FilesSession], items: Sequence[Item], wishes: Wishes
) -> list[Got | NetsuiteError]:
    session = leastBusy(sessions)
    await session.bundling.wait()
    try:
        chosen = tuple(each.chosen() for each in items)
        asked = BundleRequest(session, len(items), partial(_getRecord, chosen), None)
        await session.ask(asked).answer
        files, pieces = asked.bundle.files, asked.pieces
        length = asked.bundle.length
        work = partial(_publishAll, items, files, pieces, wishes, session.peerName())
        session.waits(length)
        try:
            return await whole(session.batches(items[0].local.disk).run(work, BATCH), _untouched)
        finally:
            session.waits(-length)
    finally:
        session.bundling.done()


def _publishAll(
    items: Sequence[Item], files: Sequence[Bundled], pieces: list[bytes], wishes: Wishes, peer: str
) -> list[Got | NetsuiteError]:
    data = memoryview(b"".join(pieces))
    ended: list[Got | NetsuiteError] = []
    start = 0
    for item, bundled in zip(items, files, strict=True):
        try:
            facts, digest = _agreed(bundled, peer)
            if digest is None:
                raise TooLarge("The file has become too large to come with others.")
            end = start + facts.size
            contents = [bytes(data[start:end])]
            start = end
            if item.facts is not None and facts.version != item.facts.version:
                raise ProtocolError("Another version of a file was sent than was asked for.")
            storeSmall(item.local, wantedOf(facts, wishes, None), contents, digest)
            ended.append(Got(facts, digest, facts.size, 0))
        except NetsuiteError as error:
            ended.append(error)
    return ended


def putBundle(
    sessions: Sequence[FilesSession], items: Sequence[Item], wishes: Wishes
) -> Deferred[list[Sent | NetsuiteError]]:
    """
    Send small files; the server publishes each that is right.

    @param sessions: of one server, at least one; the one with the least to do carries them.
    @param items: which, of one store and disk.
    @param wishes: how.
    @return: fires with what became of each, and fails, as L{getBundle} does.
    """
    return Deferred.fromCoroutine(_put(sessions, items, wishes))


async def _put(
    sessions: Sequence[FilesSession], items: Sequence[Item], wishes: Wishes
) -> list[Sent | NetsuiteError]:
    session = leastBusy(sessions)
    await session.bundling.wait()
    try:
        batches = session.batches(items[0].local.disk)
        read = await whole(batches.run(partial(_readAll, items), BATCH), _untouched)
        sent = [
            (item, small)
            for item, small in zip(items, read, strict=True)
            if isinstance(small, Small)
        ]
        files: tuple[Bundled, ...] = ()
        if sent:
            offered = tuple(_offered(item, small, wishes) for item, small in sent)
            make = partial(_putRecord, offered, wishes)
            body = b"".join([small.data for _, small in sent])
            asked = BundleRequest(session, len(sent), make, body)
            await session.ask(asked).answer
            files = asked.bundle.files
        told = iter(files)
        peer = session.peerName()
        return [_sent(each, next(told), peer) if isinstance(each, Small) else each for each in read]
    finally:
        session.bundling.done()


def _readAll(items: Sequence[Item]) -> list[Small | NetsuiteError]:
    """Read all that fits."""
    room = BUNDLE_BYTES
    read: list[Small | NetsuiteError] = []
    for item in items:
        try:
            small = _read(item.local, room)
        except NetsuiteError as error:
            read.append(error)
        else:
            room -= len(small.data)
            read.append(small)
    return read


def _read(local: Local, room: int) -> Small:
    found = readSmall(local.store, local.parts, room)
    if isinstance(found, Small):
        return found
    found.close()
    raise TooLarge("The file is too large to go with others, or changes.")


def _offered(item: Item, small: Small, wishes: Wishes) -> Offered:
    wanted = wantedOf(small.attributes, wishes, None)
    return Offered(
        name=item.name,
        size=wanted.size,
        mtime=wanted.mtime,
        mode=wanted.mode,
        digest=small.digest,
    )


def _sent(small: Small, bundled: Bundled, peer: str) -> Sent | NetsuiteError:
    try:
        facts, digest = _agreed(bundled, peer)
    except NetsuiteError as error:
        return error
    size = len(small.data)
    if digest != small.digest or facts.size != size:
        return ProtocolError("The server says that it has published something else than was sent.")
    return Sent(facts, digest, size, size, 0)


def _agreed(bundled: Bundled, peer: str) -> tuple[Facts, bytes | None]:
    """Tell what became of a file, or raise why it is not there."""
    if bundled.code is not None:
        raise failureOf(Error(code=bundled.code, message=bundled.message), peer)
    assert bundled.facts is not None, "It was checked when it came."
    return bundled.facts, bundled.digest


def _getRecord(files: tuple[Chosen, ...], id: int) -> GetBundle:
    return GetBundle(id=id, files=files)


def _putRecord(files: tuple[Offered, ...], wishes: Wishes, id: int) -> PutBundle:
    return PutBundle(
        id=id,
        files=files,
        clobber=wishes.get("clobber", True),
        durable=wishes.get("durable", True),
    )


def _untouched() -> None:
    """What a thread has begun it ends: whole files, in some milliseconds."""


def _gone(failure: Failure) -> None:
    """The session is over, and so says the answer."""
    failure.trap(ConnectionFailed)
