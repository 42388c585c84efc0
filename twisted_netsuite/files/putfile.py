"""
One file of this end, sent to be published by a server: small ones in one go, many at once; larger
ones chunk by chunk, over all sessions that there are.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import (
    ConnectionFailed,
    Corrupted,
    NetsuiteError,
    ProtocolError,
    SourceChanged,
)
from twisted_netsuite.files.client import FilesSession, leastBusy
from twisted_netsuite.files.digests import CHUNK, chunkLength, digestOf
from twisted_netsuite.files.localsource import LocalSource
from twisted_netsuite.files.messages import Done, Join
from twisted_netsuite.files.moving import (
    Local,
    Moved,
    Sent,
    Unconfirmed,
    Wishes,
    fingerprint,
    shown,
    wantedOf,
)
from twisted_netsuite.files.names import join
from twisted_netsuite.files.offering import Putting, SmallPutting, putRecord
from twisted_netsuite.files.small import Small, readSmall
from twisted_netsuite.files.store import Source
from twisted_netsuite.files.supply import Piece, Supply, sizeOf
from twisted_netsuite.files.unsized import unsized
from twisted_netsuite.net.sendfile import Part, kernelSends

#: Bytes of a file that is read whole before it is sent: with the records around them they are
#: written at once, and many of them wait.
SMALL = 64 * 1024

#: Chunks that have to be missing for each session that takes part: with fewer it costs more to ask
#: it than it brings.
WORTH_JOINING = 8


class _Doubtful(Exception):
    """Some chunks may have come or not, and be coming still: only another upload may bring them."""


class PutFile:
    """A file that is being sent."""

    def __init__(
        self,
        sessions: Sequence[FilesSession],
        local: Local,
        name: bytes,
        wishes: Wishes,
        moved: Moved,
    ) -> None:
        """
        @param sessions: of one server, at least one.
        @param local: the file.
        @param name: what it is to be there.
        @param wishes: how it is to be sent.
        @param moved: told of progress.
        """
        # For a small file it fires with that, else with what is then waited for: so a large one
        # that is cancelled ends when nothing of it is in use.
        self._done: Deferred[Any] = Deferred(self._cancelled)
        self._sessions = sessions
        self._local = local
        self._name = name
        self._wishes = wishes
        self._moved = moved
        self._told = 0
        self._bytes = 0
        self._session: FilesSession
        self._turn: Deferred[None] | None = None
        self._small: SmallPutting | None = None
        self._found: Small

    def start(self) -> Deferred[Sent]:
        """
        Send it.

        @return: fires with what it is, once it is published.
        @raise ConnectionFailed: when no session is open any more.
        """
        self._session = session = leastBusy(self._sessions)
        sent = self._done.addCallback(_waited)
        if session.reading.tryToTake():
            self._open(None)
        else:
            self._turn = session.reading.wait()
            self._turn.addCallbacks(self._open, lambda failure: None)
        return sent

    # Small files.

    def _open(self, turn: None) -> None:
        self._turn = None
        work = partial(openSource, self._local)
        self._session.batches(self._local.disk).run(work).addBoth(self._opened)

    def _opened(self, found: Small | Source | Failure) -> None:
        """Send it, if it is small and still wanted."""
        reading = self._session.reading
        if isinstance(found, Failure):
            reading.done()
            self._fail(found)
        elif not isinstance(found, Small):
            if self._done.called:
                self._local.disk.run(found.close).addBoth(lambda _: reading.done())
            else:
                self._done.callback(self._sendLarge(self._session, found))
        elif self._done.called:
            reading.done()
        else:
            self._found = found
            wanted = wantedOf(found.attributes, self._wishes, None)
            self._small = SmallPutting(
                self._session,
                wanted,
                self._name,
                found.data,
                found.digest,
                reading.done,
                self._smallEnded,
            )
            self._session.ask(self._small)

    def _smallEnded(self, answer: Done | NetsuiteError) -> None:
        small, self._small = self._small, None
        found = self._found
        size = found.attributes.size
        facts = answer.facts if isinstance(answer, Done) else None
        sent = Sent(facts, found.digest, size, size, 0)
        if isinstance(answer, Done):
            self._tell(size)
            try:
                requireAgreed(answer, sent)
            except NetsuiteError:
                self._fail(Failure())
            else:
                self._done.callback(sent)
        else:
            unconfirmed = small is not None and small.isLost and small.id > 0
            self._fail(Failure(self._explained(answer, unconfirmed, sent)))

    def _fail(self, failure: Failure) -> None:
        if not self._done.called:
            self._done.errback(failure)

    def _cancelled(self, done: Deferred[Any]) -> None:
        if self._turn is not None:
            self._turn.cancel()
        if self._small is not None:
            self._small.cancel()

    # Larger files.

    async def _sendLarge(self, session: FilesSession, source: Source) -> Sent:
        supply = Supply(self._local.disk, source)
        try:
            await session.moving.wait()
            try:
                return await self._sendTwice(session, supply)
            finally:
                session.moving.done()
        finally:
            await supply.close()
            # It has kept a file open.
            session.reading.done()

    async def _sendTwice(self, session: FilesSession, supply: Supply) -> Sent:
        """What has come wrong is sent once more, unless it was the file that changed."""
        try:
            return await self._sendOnce(session, supply)
        except Corrupted:
            await self._requireUnchanged(supply)
            self._tell(-self._told)
            self._bytes = 0
        try:
            return await self._sendOnce(session, supply)
        except Corrupted:
            await self._requireUnchanged(supply)
            raise

    async def _sendOnce(self, session: FilesSession, supply: Supply) -> Sent:
        try:
            return await self._sendAll(session, supply, self._sessions)
        except _Doubtful:
            # The server says what it has of it.
            self._tell(-self._told)
            return await self._sendAll(session, supply, [])

    async def _sendAll(
        self, session: FilesSession, supply: Supply, others: Sequence[FilesSession]
    ) -> Sent:
        follows = supply.size <= CHUNK
        attributes = supply.source.attributes
        named = None if follows else fingerprint(join(self._local.parts), attributes.version)
        wanted = wantedOf(attributes, self._wishes, named)
        if not follows and isinstance(supply.source, LocalSource):
            wanted = replace(wanted, room=supply.source.room)
        make = partial(putRecord, self._name, wanted, follows)
        put = Putting(session, make, supply.size, follows)
        try:
            if follows:
                sent = await self._sendOnlyChunk(session, put, supply)
            else:
                sent = await self._sendChunks(session, put, supply, others)
        except NetsuiteError as error:
            put.cancel(not isinstance(error, SourceChanged))
            if isinstance(error, ConnectionFailed) and put.why is None:
                raise await self._broken(session) from error
            raise
        except BaseException:
            put.cancel(self._wishes.get("resume", True))
            raise
        finally:
            await put.drained()
        try:
            done = await put.whenDone()
            requireAgreed(done, sent)
            return replace(sent, facts=done.facts)
        except NetsuiteError as error:
            raise self._explained(error, put.isLost, sent) from None
        except BaseException:
            put.cancel()
            raise

    async def _sendOnlyChunk(self, session: FilesSession, put: Putting, supply: Supply) -> Sent:
        """Send it with all that belongs to it; COMMIT follows at once, before anything else."""
        supply.begin({})
        piece = await supply.next(readsFor(session, supply.source))
        assert piece is not None, "A file has at least one chunk."
        if piece.holes:
            zeros = bytes(supply.size)
            piece = Piece(0, digest=digestOf(zeros), data=zeros)
        # What is sent has the digest that was taken, or is refused.
        await self._requireUnchanged(supply)
        session.ask(put)
        await put.whenBegun()
        body = bodyOf(supply, piece)
        going = put.startBody(0, supply.size, piece.digest, body)
        put.commit(piece.digest)
        if await going:
            raise self._changed()
        self._bytes += supply.size
        self._tell(supply.size)
        return Sent(None, piece.digest, supply.size, supply.size, 0)

    async def _sendChunks(
        self,
        session: FilesSession,
        put: Putting,
        supply: Supply,
        sessions: Sequence[FilesSession],
    ) -> Sent:
        session.ask(put)
        await put.whenReady()
        self._tell(supply.begin(put.have))
        others = [each for each in sessions if each is not session and each.isOpen]
        joined = self._joinOthers(others, put.upload, supply)
        try:
            await self._feed(session, put, supply, [])
            brought = [await each for each in joined]
            # What they did not begin.
            await self._feed(session, put, supply, [])
        finally:
            for each in joined:
                each.cancel()
                await each
        if not all(brought):
            await put.giveUp()
            raise _Doubtful
        await self._requireUnchanged(supply)
        digest = await supply.digest()
        put.commit(digest)
        return Sent(None, digest, supply.size, self._bytes, max(0, supply.size - self._bytes))

    def _joinOthers(
        self, others: Sequence[FilesSession], upload: bytes, supply: Supply
    ) -> list[Deferred[bool]]:
        """Let other sessions take a part, if there is enough for each."""
        worth = max(0, supply.left // WORTH_JOINING - 1)
        return [Deferred.fromCoroutine(self._join(each, upload, supply)) for each in others[:worth]]

    async def _join(self, session: FilesSession, upload: bytes, supply: Supply) -> bool:
        """
        Send what one more session can.

        Of a session that is lost here the server may still be taking chunks, and the same chunk
        must not come over another meanwhile. So what was begun is left out of this upload.

        @return: whether the server has all that was begun.
        """
        put = Putting(session, partial(_joinRecord, upload), supply.size)
        taken: list[Piece] = []
        session.ask(put)
        try:
            await put.whenReady()
            await self._feed(session, put, supply, taken)
            put.commit(None)
            await put.whenDone()
        except (NetsuiteError, CancelledError):
            put.cancel()
            return not taken
        finally:
            await put.drained()
        return True

    async def _feed(
        self, session: FilesSession, put: Putting, supply: Supply, taken: list[Piece]
    ) -> None:
        """Send chunk by chunk as long as there are some, with the next looked at meanwhile."""
        reads = readsFor(session, supply.source)
        coming = supply.next(reads)
        try:
            while (piece := await coming) is not None:
                coming = supply.next(reads)
                # Before it is sent: of a part of it the server may be taking the rest.
                taken.append(piece)
                await self._sendPiece(put, supply, piece)
        except BaseException:
            supply.leave(coming)
            raise

    async def _sendPiece(self, put: Putting, supply: Supply, piece: Piece) -> None:
        if piece.holes:
            put.sendHoles(piece.first, piece.holes)
        else:
            length = chunkLength(supply.size, piece.first)
            body = bodyOf(supply, piece)
            if await put.sendBody(piece.first, length, piece.digest, body):
                raise self._changed()
            self._bytes += length
        self._tell(sizeOf(supply.size, piece.run))

    # What is said.

    def _tell(self, count: int) -> None:
        self._told += count
        if count:
            self._moved(count)

    async def _requireUnchanged(self, supply: Supply) -> None:
        if not await supply.run(supply.source.unchanged):
            raise self._changed()

    def _changed(self) -> SourceChanged:
        return SourceChanged(f"{shown(self._name)} changed while it was sent; send it again.")

    async def _broken(self, session: FilesSession) -> NetsuiteError:
        """Say why a session ends; who sends over it hears only that it does, and before that."""
        try:
            await session.whenEnded()
        except NetsuiteError as error:
            return error
        return ConnectionFailed(
            f"{session.peerName()} has closed the session, and not all of {shown(self._name)} was "
            "sent; send it again."
        )

    def _explained(self, error: NetsuiteError, unconfirmed: bool, sent: Sent) -> NetsuiteError:
        if not unconfirmed:
            return error
        return Unconfirmed(
            f"All of {shown(self._name)} was sent, and whether it was published is not known: "
            f"{error.sentence}",
            self._name,
            sent,
        )


def _waited(found: Sent | Coroutine[Deferred[Any], Any, Sent]) -> Sent | Deferred[Sent]:
    return found if isinstance(found, Sent) else Deferred.fromCoroutine(found)


def openSource(local: Local) -> Small | Source:
    """
    Open a file, and read it if it is small; blocks.

    @param local: which.
    @return: all of it, or what has to be closed.
    """
    found = readSmall(local.store, local.parts, SMALL)
    if isinstance(found, Small) and not found.data:
        return unsized(local) or found
    return found


def readsFor(session: FilesSession, source: Source) -> bool:
    """
    Tell whether bytes have to be read to be sent, as the kernel does not send them.

    @param session: over which.
    @param source: the file.
    @return: whether they have.
    """
    return source.descriptor is None or not kernelSends(session.transport)


def bodyOf(supply: Supply, piece: Piece) -> bytes | Part:
    """
    Get what is to be sent of a chunk.

    @param supply: has the file.
    @param piece: which chunk.
    @return: its bytes, or where they are.
    """
    length = chunkLength(supply.size, piece.first)
    if piece.data or not length:
        return piece.data
    return Part(
        count=length,
        read=supply.read,
        offset=piece.first * CHUNK,
        descriptor=supply.source.descriptor,
    )


def requireAgreed(done: Done, sent: Sent) -> None:
    """
    Require that a server has published what was sent.

    @param done: its answer.
    @param sent: what was sent.
    @raise ProtocolError: when it says otherwise.
    """
    facts = done.facts
    if done.digest not in (None, sent.digest) or (facts and facts.size != sent.size):
        raise ProtocolError("The server says that it has published something else than was sent.")


def _joinRecord(upload: bytes, id: int) -> Join:
    return Join(id=id, upload=upload)
