"""
One GET of a client: some chunks of a file in order, checked for being those that were asked for,
not for being right.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted_netsuite.errors import NetsuiteError, ProtocolError
from twisted_netsuite.files.asking import Asked, Carrier, Piece
from twisted_netsuite.files.clientmachine import State, getMachine
from twisted_netsuite.files.digests import chunkLength, chunks
from twisted_netsuite.files.messages import Body, Done, Facts, Found, Get, Holes
from twisted_netsuite.wire.session import Record


class Taker(Protocol):
    """Whoever wants the chunks."""

    def found(self, got: Getting, facts: Facts) -> None:
        """
        Note what it is; that is told before all else.

        @param got: the request.
        @param facts: what is known of the file.
        """

    def body(self, got: Getting, header: Body) -> Callable[[Piece], object]:
        """
        Take a chunk.

        @param got: the request.
        @param header: says what it is.
        @return: gets its bytes; of an empty one, an empty piece.
        """

    def holes(self, got: Getting, first: int, count: int) -> None:
        """
        Take chunks that are zeros.

        @param got: the request.
        @param first: the first of them.
        @param count: how many.
        """

    def finished(self, got: Getting, digest: bytes | None) -> None:
        """
        Note that all chunks have come, and the file has not changed since.

        @param got: the request.
        @param digest: of the whole file, where the server knows it.
        """

    def failed(self, got: Getting, error: NetsuiteError) -> None:
        """
        Note that no more comes.

        @param got: the request; it says whether the session has ended.
        @param error: why.
        """


class Getting(Asked):
    """
    One request for chunks of a file.

    @ivar taker: gets what comes.
    @ivar next: the first chunk that has not come yet; one that is coming has.
    @ivar behind: the chunk behind the last that comes, once that is known.
    """

    def __init__(
        self,
        carrier: Carrier,
        taker: Taker,
        name: bytes,
        first: int = 0,
        count: int | None = None,
        version: bytes | None = None,
    ) -> None:
        """
        @param carrier: the session.
        @param taker: gets what comes.
        @param name: the file.
        @param first: the first chunk.
        @param count: how many chunks; C{None} for all from there on.
        @param version: which version it has to be; C{None} for any.
        """
        make = partial(_get, name, first, count, version)
        super().__init__(carrier, getMachine(), make)
        self.taker = taker
        self.next = first
        self.behind = first
        self._count = count
        self._version = version
        self._size = 0
        self._sink: Callable[[Piece], object] | None = None

    def taken(self, record: Record) -> None:
        """Take what was found, a chunk, or holes."""
        if isinstance(record, Body):
            self._body(record)
        elif isinstance(record, Found):
            self._found(record.facts)
        else:
            assert isinstance(record, Holes)
            self._require(record.index, record.count)
            self.next += record.count
            self.taker.holes(self, record.index, record.count)

    def checkEnd(self, record: Done) -> None:
        """See that all has come."""
        if self.next != self.behind:
            raise ProtocolError(
                f"DONE came after chunk {self.next - 1}, and {self.behind - self.next} more were "
                "asked for."
            )

    def finished(self, record: Done) -> None:
        """Tell whoever waits."""
        self.taker.finished(self, record.digest)

    def failed(self, error: NetsuiteError) -> None:
        """Tell whoever waits."""
        self.taker.failed(self, error)

    def _found(self, facts: Facts) -> None:
        if facts.directory:
            raise ProtocolError("A directory was found where a file was asked for.")
        if self._version is not None and facts.version != self._version:
            raise ProtocolError("Another version of a file was found than was asked for.")
        have = chunks(facts.size)
        self._size = facts.size
        self.behind = have if self._count is None else self.next + self._count
        if self.behind > have:
            raise ProtocolError("A file was found that does not have the chunks asked for.")
        self.taker.found(self, facts)

    def _body(self, header: Body) -> None:
        self._require(header.index, 1)
        length = chunkLength(self._size, header.index)
        if header.length != length:
            raise ProtocolError(
                f"Chunk {header.index} came with {header.length} bytes; it has {length}."
            )
        self.next += 1
        self._sink = self.taker.body(self, header)
        if length:
            self.carrier.receiveRaw(length, self._piece)
        else:
            self._sink(b"")

    def _piece(self, piece: Piece) -> None:
        if self.machine.state is State.RECEIVING and self._sink is not None:
            self._sink(piece)

    def _require(self, first: int, count: int) -> None:
        if first != self.next or first + count > self.behind:
            raise ProtocolError(
                f"Chunk {first} came, and {count - 1} more, where {self.next} was to come and "
                f"{self.behind} was not."
            )


def _get(name: bytes, first: int, count: int | None, version: bytes | None, id: int) -> Get:
    return Get(id=id, name=name, first=first, count=count, version=version)
