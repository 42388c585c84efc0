"""
A file that is being received, apart from any connection: several may bring its chunks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from blake3 import blake3
from twisted.internet.defer import Deferred, fail

from twisted_netsuite.errors import Conflict, Corrupted, LimitExceeded, NotFound, ProtocolError
from twisted_netsuite.files.digests import CHUNK, chunkLength, chunks
from twisted_netsuite.files.disk import Disk, Line
from twisted_netsuite.files.messages import Body
from twisted_netsuite.files.permit import Place
from twisted_netsuite.files.quota import Reservation
from twisted_netsuite.files.store import Attributes, Target
from twisted_netsuite.trust.identity import Identity

T = TypeVar("T")

#: Bytes of a file that is received: of each of its chunks something is kept in memory, some 200
#: bytes, also of those that are zeros.
MAX_FILE = 2**40

#: Files that a service receives at a time, each with two descriptors.
MAX_UPLOADS = 256


class Chunk:
    """
    One chunk, as far as it has come.

    @ivar index: which.
    @ivar failed: whether a part of it could not be written, so that what follows it is dropped.
    """

    def __init__(self, header: Body) -> None:
        """
        @param header: says what it is.
        """
        self.index = header.index
        self.digest = header.digest
        self.length = header.length
        self.taken = 0
        self.failed = False
        self._hash = blake3()
        self._begun = False
        #: The digest of what is there already: then nothing of it is written.
        self._there: bytes | None = None

    def write(self, target: Target, pieces: list[bytes]) -> None:
        """
        Write a part of it; the last tells whether it is right.

        @param target: the file.
        @param pieces: what comes next of it.
        @raise Corrupted: when it is not what its digest says.
        """
        if not self._begun:
            self._begun = True
            self._there = target.verified.get(self.index)
        if self._there is None:
            target.write(self.index * CHUNK + self.taken, pieces)
        for piece in pieces:
            self._hash.update(piece)
            self.taken += len(piece)
        if self.taken == self.length:
            if self._hash.digest() != self.digest:
                raise Corrupted(
                    f"Chunk {self.index} came with other contents than its digest says; send it "
                    "again."
                )
            if self._there is None:
                target.chunkWritten(self.index, self.digest)
            elif self._there != self.digest:
                raise Corrupted(
                    f"Chunk {self.index} came twice, with other contents; send the file again."
                )


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
        try:
            attributes = self.target.commit(digest)
        except BaseException:
            # A store may keep what it could not publish, if its source has a name.
            self.reservation.keep()
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
        finally:
            if keep:
                self.reservation.keep()
            else:
                self.reservation.release()


class Upload:
    """
    A file that is being received.

    @ivar token: what other connections of the same identity join it with.
    @ivar owner: whose it is.
    @ivar onOver: called once when nothing more can be given.
    """

    def __init__(self, disk: Disk, begun: Begun, owner: Identity) -> None:
        """
        @param disk: does what blocks.
        @param begun: the file.
        @param owner: whose it is.
        """
        self.token = secrets.token_bytes(16)
        self.owner = owner
        self.target = begun.target
        self.onOver: Callable[[Upload], object] = lambda upload: None
        self._begun = begun
        #: Chunks that are coming: two that are written at once would make one that is neither.
        self._coming: set[int] = set()
        self._line = Line(disk)
        self._over = False

    @property
    def over(self) -> bool:
        """Whether it was published or given up."""
        return self._over

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
        return Chunk(header)

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
            except BaseException:
                chunk.failed = True
                self.dropped(chunk)
                raise
            if chunk.taken == chunk.length:
                self.dropped(chunk)

        return self._do(work)

    def holes(self, first: int, count: int) -> Deferred[None]:
        """
        Let chunks be zeros.

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

        def work() -> None:
            for index in range(first, first + count):
                self.target.hole(index)

        return self._do(work)

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

    def _last(self, work: Callable[[], T]) -> Deferred[T]:
        done = self._do(work)
        if not self._over:
            self._over = True
            self.onOver(self)
        return done

    def _do(self, work: Callable[[], T]) -> Deferred[T]:
        """Do one thing after the other."""
        if self._over:
            return fail(Conflict("The file was published or given up already."))
        return self._line.run(work)


class Uploads:
    """All files that one service is receiving."""

    def __init__(self) -> None:
        """There are none."""
        self._open: dict[bytes, Upload] = {}
        self._opening = 0

    def enter(self, size: int) -> None:
        """
        Take the room of one more, before it is opened; L{add} or L{leave} comes after that.

        @param size: its bytes.
        @raise LimitExceeded: when there are too many, or it is too large.
        """
        if size > MAX_FILE:
            raise LimitExceeded(
                f"A file of {size} bytes was offered; at most {MAX_FILE} are taken."
            )
        if len(self._open) + self._opening >= MAX_UPLOADS:
            raise LimitExceeded(
                f"This service receives {MAX_UPLOADS} files at a time and no more; try again later."
            )
        self._opening += 1

    def leave(self) -> None:
        """Give the room back: the file could not be opened."""
        self._opening -= 1

    def add(self, upload: Upload) -> None:
        """
        Let others join one that has entered.

        @param upload: which.
        """
        self._opening -= 1
        self._open[upload.token] = upload
        upload.onOver = self._remove

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
        self._open.pop(upload.token, None)
