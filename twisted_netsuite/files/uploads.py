"""
A file that is being received, apart from any connection: several may bring its chunks.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from twisted_netsuite.errors import (
    Conflict,
    LimitExceeded,
    NetsuiteError,
    NotFound,
    ProtocolError,
)
from twisted_netsuite.files.answers import errorOf
from twisted_netsuite.files.chunk import Chunk
from twisted_netsuite.files.digests import chunkLength, chunks
from twisted_netsuite.files.disk import Disk, Line
from twisted_netsuite.files.messages import Body, Put
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.permit import Place
from twisted_netsuite.files.reservation import Reservation
from twisted_netsuite.files.store import Attributes, Target
from twisted_netsuite.files.takeover import Turn, superseded
from twisted_netsuite.files.verified import MAX_FILE as MAX_FILE
from twisted_netsuite.files.verified import missing, within
from twisted_netsuite.trust.identity import Identity

T = TypeVar("T")

#: Files that a service receives at a time, each with three descriptors.
MAX_UPLOADS = 256

#: Files that it receives from one identity, who may be many clients: who takes all of that leaves
#: as many to all others.
MAX_EACH = 128

#: Chunks that are made zeros at a time, so that what others want of the disk comes in between.
HOLES = 4096


@dataclass(frozen=True)
class Begun:
    """
    A file that has begun to be written.

    @ivar target: the file.
    @ivar reservation: the room that it has taken.
    @ivar place: where it will be.
    """

    target: Target
    reservation: Reservation
    place: Place

    def commit(self, digest: bytes) -> Attributes:
        """
        Publish it; this blocks.

        @param digest: its digest.
        @return: what it is then.
        """
        with self.place.held():
            try:
                attributes = self.target.commit(digest)
            except BaseException:
                self._settle()
                raise
            self.reservation.publish(attributes.size)
        return attributes

    def end(self, keep: bool) -> None:
        """
        Give it up; this blocks.

        @param keep: whether what is there is kept for another try.
        """
        try:
            if keep:
                self.target.keep()
            else:
                self.target.discard()
        except BaseException:
            # Nobody knows what is there.
            self.reservation.keep()
            raise
        self._settle()

    def _settle(self) -> None:
        # A store may keep what it could not publish, and have nothing worth to be kept.
        if self.target.kept:
            self.reservation.keep()
        else:
            self.reservation.release()


class Upload:
    """
    A file that is being received.

    @ivar token: what other connections of the same identity join it with.
    @ivar owner: whose it is.
    @ivar onOver: called once when nothing more can be given.
    @ivar movedAt: when something of it has come last, over any connection, in seconds.
    """

    def __init__(
        self, disk: Disk, begun: Begun, owner: Identity, moving: Disk | None = None
    ) -> None:
        """
        @param disk: does what blocks.
        @param begun: the file.
        @param owner: whose it is.
        @param moving: writes what comes; C{None} where the other does.
        """
        self.token = secrets.token_bytes(16)
        self.owner = owner
        self.target = begun.target
        self.onOver: Callable[[Upload], object] = lambda upload: None
        self.movedAt = 0.0
        self._begun = begun
        #: Chunks that are coming: two that are written at once would make one that is neither.
        self._coming: set[int] = set()
        self._line = Line(disk)
        self._moving = moving
        self._over = False
        self._why: NetsuiteError = Conflict("The file was published or given up already.")
        self._closed = False
        self._waiting: list[Deferred[None]] = []

    @property
    def over(self) -> bool:
        """Whether it was published or given up."""
        return self._over

    @property
    def kept(self) -> bool:
        """Whether something of it is kept for another try, once it is closed."""
        return self.target.kept

    @property
    def place(self) -> Place:
        """Where it will be."""
        return self._begun.place

    def chunk(self, header: Body) -> Chunk:
        """
        Begin a chunk.

        @param header: says what comes.
        @return: for L{write}.
        @raise ProtocolError: when the file has no such chunk.
        @raise Conflict: when it is coming already.
        """
        size = self.target.size
        if header.index >= chunks(size) or header.length != chunkLength(size, header.index):
            raise ProtocolError(
                f"BODY {header.index} of {header.length} bytes is no chunk of a file of {size}."
            )
        if header.index in self._coming:
            raise Conflict(f"Chunk {header.index} comes over another connection already.")
        self._coming.add(header.index)
        return Chunk(header.index, header.length, header.digest)

    def dropped(self, chunk: Chunk) -> None:
        """
        Let a chunk come again, as what is missing of it never will.

        @param chunk: which.
        """
        self._coming.discard(chunk.index)

    def write(self, chunk: Chunk, pieces: list[bytes]) -> Deferred[None]:
        """
        Write a part of a chunk.

        @param chunk: which.
        @param pieces: what comes next of it.
        @return: fires once it is written; fails with L{Corrupted} or L{StorageFailed}.
        """

        def work() -> None:
            if chunk.failed:
                return
            try:
                chunk.write(self.target, pieces)
            finally:
                if chunk.failed or chunk.taken == chunk.length:
                    self.dropped(chunk)

        return self._do(work, self._moving)

    def holes(self, first: int, count: int) -> Deferred[None]:
        """
        Let chunks be zeros that are not there.

        @param first: the first of them.
        @param count: how many.
        @return: fires once that is noted.
        @raise ProtocolError: when the file has no such chunks.
        @raise Conflict: when one of them is coming as bytes.
        """
        if first + count > chunks(self.target.size):
            raise ProtocolError(f"HOLES {first} to {first + count} lie behind the end of the file.")
        for index in self._coming:
            if first <= index < first + count:
                raise Conflict(f"Chunk {index} comes as bytes, and cannot be zeros as well.")

        at, behind = first, first + count

        def step() -> bool:
            nonlocal at
            start, at = at, min(at + HOLES, behind)
            for run in list(missing(self.target.verified, start, at - start)):
                for index in within(*run):
                    self.target.hole(index)
            return at < behind

        return fail(self._why) if self._over else self._line.runSteps(step)

    def written(self) -> Deferred[None]:
        """
        Wait for all that was given to be written.

        @return: fires then.
        """
        return self._do(lambda: None)

    def commit(self, digest: bytes) -> Deferred[Attributes]:
        """
        Publish it, after all that was given.

        @param digest: its digest.
        @return: fires with what it is now.
        """
        return self._last(lambda: self._begun.commit(digest))

    def end(self, keep: bool) -> Deferred[None]:
        """
        Give it up, once nothing of it is under way.

        @param keep: whether what is there is kept for another try.
        @return: fires then.
        """
        return self._last(lambda: self._begun.end(keep))

    def supersede(self) -> Deferred[None]:
        """
        Give it up for another try of the same, which goes on with what is there.

        @return: fires when it is closed; at once when it is already.
        """
        if not self._over:
            self._why = superseded()
            self.end(keep=True).addErrback(errorOf)
        return self.closed()

    def closed(self) -> Deferred[None]:
        """
        Wait until nothing of it is open.

        @return: fires then.
        """
        if self._closed:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _last(self, work: Callable[[], T]) -> Deferred[T]:
        if self._over:
            return self._do(work)
        done = self._do(work)
        self._over = True
        self.onOver(self)
        return done.addBoth(self._ended)

    def _ended(self, result: T) -> T:
        self._closed = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
        return result

    def _do(self, work: Callable[[], T], disk: Disk | None = None) -> Deferred[T]:
        """Do one thing after the other."""
        if self._over:
            return fail(self._why)
        return self._line.run(work, disk)


#: What tells a file that is received from others: the owner, the root, the name, and the source.
Key = tuple[Identity, str, Parts, bytes]


class Uploads:
    """All files that one service is receiving."""

    def __init__(self, moving: Disk | None = None) -> None:
        """
        @param moving: writes what comes; C{None} where that does which does the rest.
        """
        self._moving = moving
        self._open: dict[bytes, Upload] = {}
        #: How many each identity has, those among them that are not open yet.
        self._counts: Counter[Identity] = Counter()
        #: Who came last for a file that can be gone on with.
        self._turns: dict[Key, Turn] = {}

    def begin(
        self,
        disk: Disk,
        owner: Identity,
        put: Put,
        asked: Callable[[], Deferred[Place]],
        open: Callable[[Place], Begun],
    ) -> Deferred[Upload]:
        """
        Begin to receive a file.

        When one of the same name and source is being received from the same identity, that ends,
        and this goes on with what is there: its client has come back over another connection, and
        nobody may have noticed that the first is dead.

        @param disk: does what blocks.
        @param owner: who sends it.
        @param put: the request.
        @param asked: asks whether it may be, once there is room for it.
        @param open: begins the file where it may be; it blocks.
        @return: fires with the file; fails with L{LimitExceeded} when there are too many, or it is
            too large, with L{Conflict} when it is begun once more before that, or as C{asked} and
            C{open} do.
        """
        return Deferred.fromCoroutine(self._begin(disk, owner, put, asked, open))

    async def _begin(
        self,
        disk: Disk,
        owner: Identity,
        put: Put,
        asked: Callable[[], Deferred[Place]],
        open: Callable[[Place], Begun],
    ) -> Upload:
        self._enter(put.size, owner)
        try:
            place = await asked()
            if put.source is None:
                return self._add(Upload(disk, await disk.run(open, place), owner, self._moving))
            key = owner, place.root, place.parts, put.source
            return self._add(await self._taken(disk, key, place, open))
        except BaseException:
            self._leave(owner)
            raise

    async def _taken(
        self, disk: Disk, key: Key, place: Place, open: Callable[[Place], Begun]
    ) -> Upload:
        """Begin a file of which there is one writer at a time."""
        turn = self._turns[key] = Turn(self._turns.get(key))
        try:
            await turn.come()
            upload = Upload(disk, await disk.run(open, place), key[0], self._moving)
            if turn.isSuperseded:
                await upload.end(keep=True)
                raise superseded()
        except BaseException:
            self._forget(key, turn)
            turn.leave()
            raise
        turn.upload = upload
        upload.closed().addCallback(lambda _: self._forget(key, turn))
        return upload

    def _forget(self, key: Key, turn: Turn) -> None:
        if self._turns.get(key) is turn:
            del self._turns[key]

    def _enter(self, size: int, owner: Identity) -> None:
        if size > MAX_FILE:
            raise LimitExceeded(
                f"A file of {size} bytes was offered; at most {MAX_FILE} are taken."
            )
        if self._counts.total() >= MAX_UPLOADS:
            raise LimitExceeded(
                f"This service receives {MAX_UPLOADS} files at a time and no more; try again later."
            )
        if self._counts[owner] >= MAX_EACH:
            raise LimitExceeded(
                f"You send {MAX_EACH} files at a time, and no more are taken from one identity; "
                "try again when one of them is done."
            )
        self._counts[owner] += 1

    def _leave(self, owner: Identity) -> None:
        self._counts[owner] -= 1
        if not self._counts[owner]:
            del self._counts[owner]

    def _add(self, upload: Upload) -> Upload:
        self._open[upload.token] = upload
        upload.onOver = self._remove
        return upload

    def find(self, token: bytes, owner: Identity) -> Upload:
        """
        Find one to join.

        @param token: its own.
        @param owner: who asks.
        @return: the upload.
        @raise NotFound: when there is none of that token which is the owner's.
        """
        upload = self._open.get(token)
        if upload is None or upload.owner != owner or upload.over:
            raise NotFound("There is no such upload of yours; it may be over.")
        return upload

    def _remove(self, upload: Upload) -> None:
        if self._open.pop(upload.token, None) is not None:
            self._leave(upload.owner)
