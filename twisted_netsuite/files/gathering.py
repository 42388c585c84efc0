"""
One file of one chunk that a client sends in one go, without waiting to be asked for it.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import Conflict, ProtocolError
from twisted_netsuite.files import receiving
from twisted_netsuite.files.answers import errorOf, factsOf
from twisted_netsuite.files.digests import CHUNK
from twisted_netsuite.files.machine import Effect, Input, receivingMachine
from twisted_netsuite.files.messages import Body, Cancel, Commit, Done, Put
from twisted_netsuite.files.receiving import Piece
from twisted_netsuite.files.store import Attributes
from twisted_netsuite.wire.session import Record

P = TypeVar("P", contravariant=True)


class Store(Protocol[P]):
    """Writes and publishes a file of one chunk."""

    def __call__(self, place: P, pieces: list[bytes], digest: bytes, /) -> Deferred[Attributes]:
        """
        Write it.

        @param place: where to.
        @param pieces: its contents.
        @param digest: their digest, as the client says.
        @return: fires with what it is then.
        """


class Carrier(receiving.Carrier, Protocol):
    """The session, as such a request sees it."""

    def gathers(self, count: int) -> None:
        """
        Count bytes that wait for their COMMIT.

        @param count: how many more; fewer when it is negative.
        @raise LimitExceeded: when there are too many.
        """


def requireOneChunk(asked: Put) -> None:
    """
    Require that a file is one chunk.

    @param asked: what is to come.
    @raise ProtocolError: when it is not.
    """
    if asked.size > CHUNK:
        raise ProtocolError(f"A PUT of {asked.size} bytes cannot be one chunk, and follow.")


class Gathering:
    """
    A file of one chunk, which comes at once, and is written when all of it is there.

    @ivar id: the number of its request.
    """

    def __init__(self, asked: Put, carrier: Carrier, placed: Deferred[P], store: Store[P]) -> None:
        """
        @param asked: what is to come.
        @param carrier: the session.
        @param placed: fires with where it goes, or fails with why it may not.
        @param store: writes it there, given its contents and its digest.
        """
        self.id = asked.id
        self._size = asked.size
        self._carrier = carrier
        self._placed = placed
        self._store = store
        self._machine = receivingMachine(follows=True)
        self._pieces: list[bytes] = []
        self._digest = b""
        self._gone = False

    def received(self, record: Record) -> None:
        """
        Take a record of the client.

        @param record: about this request.
        @raise ProtocolError: when it may not come now.
        """
        match record:
            case Body():
                self._machine.feed(Input.BODY)
                self._begin(record)
                self._carrier.receiveRaw(record.length, self._take)
            case Commit():
                self._machine.feed(Input.COMMIT)
                self._commit(record.digest)
            case Cancel():
                if self._machine.feed(Input.CANCEL) is Effect.STOP:
                    self._placed.addErrback(lambda failure: None)
                    self._carrier.gathers(-self._bytes())
                    self._close(Failure(Conflict("It was cancelled.")), b"")
            case _:
                raise ProtocolError(f"{type(record).__name__.upper()} is no part of such a PUT.")

    def sessionClosed(self) -> None:
        """The client is gone: what is not on its way to the disk is dropped."""
        self._gone = True
        self._placed.addErrback(lambda failure: None)

    def _begin(self, header: Body) -> None:
        if header.index or header.length != self._size or self._digest:
            raise ProtocolError(
                f"BODY {header.index} of {header.length} bytes is no file of {self._size}."
            )
        self._digest = header.digest

    def _take(self, piece: Piece) -> None:
        self._pieces.append(bytes(piece))
        self._carrier.gathers(len(piece))

    def _commit(self, digest: bytes | None) -> None:
        if not self._digest or digest != self._digest:
            raise ProtocolError("COMMIT of one chunk has another digest than its BODY.")
        count = self._bytes()
        self._carrier.gathers(-count)
        self._carrier.waits(count)
        pieces, self._pieces = self._pieces, []
        stored = self._placed.addCallback(self._store, pieces, digest)
        stored.addBoth(self._written, digest, count)

    def _bytes(self) -> int:
        return sum(map(len, self._pieces))

    def _written(self, result: Failure | Attributes, digest: bytes, count: int) -> None:
        self._carrier.waits(-count)
        self._close(result, digest)

    def _close(self, result: Failure | Attributes, digest: bytes) -> None:
        if self._gone:
            if isinstance(result, Failure):
                errorOf(result)
            return
        if isinstance(result, Failure):
            self._machine.feed(Input.FAILED)
            self._carrier.answer(self._carrier.failed(self.id, errorOf(result), False))
        else:
            self._machine.feed(Input.DONE)
            self._carrier.answer(Done(id=self.id, facts=factsOf(result), digest=digest))
        self._carrier.forget(self.id)
