"""
A list, or a file, that is sent over one session: in what pieces, and until when.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import (
    Conflict,
    NetsuiteError,
    ProtocolError,
    SourceChanged,
)
from twisted_netsuite.files.answers import errorOf, factsOf
from twisted_netsuite.files.digests import CHUNK, chunkLength, chunks, digestOf
from twisted_netsuite.files.disk import Disk
from twisted_netsuite.files.machine import Effect, Input, State, sendingMachine
from twisted_netsuite.files.messages import (
    Body,
    Cancel,
    Done,
    Entries,
    Failed,
    Found,
    Get,
    Holes,
    Listed,
)
from twisted_netsuite.files.quick import requireVersion
from twisted_netsuite.files.store import Attributes, Source
from twisted_netsuite.net.sendfile import Part
from twisted_netsuite.wire.session import Record


class Carrier(Protocol):
    """The session, as a request that sends sees it."""

    def answer(self, record: Record) -> None:
        """
        Send an answer.

        @param record: the answer.
        """

    @property
    def kernelSends(self) -> bool:
        """Whether the kernel can send from a file by itself."""

    def sendChunk(self, header: Body, part: Part) -> Deferred[bool]:
        """
        Send a chunk.

        @param header: says what it is.
        @param part: has its bytes.
        @return: fires when another may be sent, with whether all of it was there; fails when the
            session is over.
        """

    def ready(self) -> Deferred[None]:
        """
        Wait until the client takes what was sent.

        @return: fires then; fails when the session is over.
        """

    def forget(self, id: int) -> None:
        """
        The request is over, for both ends.

        @param id: its number.
        """

    def failed(self, id: int, error: NetsuiteError, kept: bool) -> Failed:
        """
        Put a failure into a record, and into the log.

        @param id: of the request.
        @param error: what is wrong.
        @param kept: whether something is kept for another try.
        @return: the record.
        """


class Sending:
    """
    What takes more than an answer.

    @ivar id: the number of its request.
    """

    def __init__(self, id: int, carrier: Carrier, disk: Disk) -> None:
        """
        @param id: the number of its request.
        @param carrier: the session.
        @param disk: does what blocks.
        """
        self.id = id
        self._carrier = carrier
        self._disk = disk
        self._machine = sendingMachine()
        self._begun = False
        self._gone = False

    def start(self) -> Deferred[None]:
        """
        Send it.

        @return: fires when all is over, whatever became of it.
        """
        self._begun = True
        return Deferred.fromCoroutine(self._run()).addErrback(self._broken)

    def refused(self, error: NetsuiteError) -> None:
        """
        Tell the client that it cannot be.

        @param error: why.
        """
        self._close(self._carrier.failed(self.id, error, False), Input.FAILED)

    def received(self, record: Record) -> None:
        """
        Take a record of the client.

        @param record: about this request.
        @raise ProtocolError: when it may not come now.
        """
        if not isinstance(record, Cancel):
            raise ProtocolError(f"{type(record).__name__.upper()} is no part of such a request.")
        self._machine.feed(Input.CANCEL)

    def sessionClosed(self) -> None:
        """The client is gone: stop after what a thread is doing."""
        self._gone = True

    async def _run(self) -> None:
        raise NotImplementedError

    def _send(self, record: Record, symbol: Input) -> None:
        if self._machine.feed(symbol) is Effect.SEND:
            self._carrier.answer(record)

    def _requireWanted(self) -> None:
        if self._gone or self._machine.state is State.STOPPING:
            raise Conflict("It was cancelled.")

    def _close(self, last: Record, symbol: Input) -> None:
        self._send(last, symbol)
        self._carrier.forget(self.id)

    def _broken(self, failure: Failure) -> None:
        if not self._gone:
            self.refused(errorOf(failure))


@dataclass
class Next:
    """
    The next that is sent of a file.

    @ivar index: a chunk.
    @ivar holes: how many chunks from there on hold nothing but zeros.
    @ivar digest: where there are none, the chunk's.
    @ivar data: its bytes, if they were to be read.
    """

    index: int
    holes: int = 0
    digest: bytes = b""
    data: bytes | None = None


class FileSending(Sending):
    """A file, or some chunks of it."""

    _source: Source

    def __init__(
        self, asked: Get, open: Callable[[], Source], carrier: Carrier, disk: Disk
    ) -> None:
        """
        @param asked: which of it.
        @param open: opens it, once it is its turn; blocks.
        @param carrier: the session.
        @param disk: does what blocks.
        """
        super().__init__(asked.id, carrier, disk)
        self._open = open
        self._asked = asked
        self._size = self._behind = 0

    async def _run(self) -> None:
        self._requireWanted()
        self._source = await self._disk.run(self._open)
        try:
            self._requireChunks()
            self._send(Found(id=self.id, facts=factsOf(self._source.attributes)), Input.FOUND)
            await self._sendAll()
            self._requireWanted()
            if not await self._disk.run(self._source.unchanged):
                raise SourceChanged("The file changed while it was sent; ask for it again.")
        finally:
            self._source.close()
        self._close(Done(id=self.id), Input.DONE)

    def _requireChunks(self) -> None:
        """Require that it has what was asked for."""
        asked, attributes = self._asked, self._source.attributes
        requireVersion(attributes, asked.version)
        self._size = attributes.size
        have = chunks(self._size)
        self._behind = have if asked.count is None else asked.first + asked.count
        if self._behind > have:
            raise ProtocolError(
                f"Chunks {asked.first} to {self._behind} were asked for, and the file has {have}."
            )

    async def _sendAll(self) -> None:
        """Send chunk by chunk, with the next digested while one is sent."""
        coming = self._look(self._asked.first)
        try:
            while coming is not None:
                found = await coming
                coming = self._look(found.index + max(1, found.holes))
                self._requireWanted()
                await self._sendNext(found)
        finally:
            if coming is not None:
                # The source is not to be closed under it.
                await coming.addErrback(lambda failure: None)

    def _look(self, index: int) -> Deferred[Next] | None:
        if index >= self._behind:
            return None
        reads = not self._carrier.kernelSends or self._source.descriptor is None
        return self._disk.run(nextOf, self._source, index, self._behind, reads)

    async def _sendNext(self, found: Next) -> None:
        if found.holes:
            self._send(Holes(id=self.id, index=found.index, count=found.holes), Input.PART)
            await self._carrier.ready()
            return
        length = chunkLength(self._size, found.index)
        header = Body(id=self.id, index=found.index, length=length, digest=found.digest)
        self._machine.feed(Input.PART)
        if not await self._carrier.sendChunk(header, self._part(found, length)):
            raise SourceChanged("The file became shorter while it was sent; ask for it again.")

    def _part(self, found: Next, length: int) -> Part:
        start = found.index * CHUNK
        data = found.data
        if data is None:
            # It was digested just now, so its pages are in memory. Where the kernel finds that it
            # cannot send from there after all, it is read.
            return Part(length, self._read, start, self._source.descriptor)
        return Part(length, lambda at, count: data[at - start : at - start + count], start)

    def _read(self, offset: int, count: int) -> Deferred[bytes]:
        return self._disk.run(self._source.read, offset, count)


def nextOf(source: Source, index: int, behind: int, reads: bool) -> Next:
    """
    Find what comes next of a file; blocks.

    @param source: the file.
    @param index: a chunk.
    @param behind: the chunk behind the last that is wanted.
    @param reads: whether its bytes are to be had.
    @return: that chunk, or the holes that begin with it.
    """
    size = source.attributes.size
    start, _ = source.data(index * CHUNK)
    if size and start >= size:
        return Next(index, holes=behind - index)
    if start // CHUNK > index:
        return Next(index, holes=min(behind, start // CHUNK) - index)
    if not reads:
        return Next(index, digest=source.digest(index))
    data = source.read(index * CHUNK, chunkLength(size, index))
    return Next(index, digest=digestOf(data), data=data)


class ListSending(Sending):
    """A directory's entries, or those of all below it."""

    def __init__(
        self, id: int, entries: Iterator[tuple[Listed, ...]], carrier: Carrier, disk: Disk
    ) -> None:
        """
        @param id: the number of the request.
        @param entries: in pieces that fit into a record, or empty ones for a pause; blocks.
        @param carrier: the session.
        @param disk: does what blocks.
        """
        super().__init__(id, carrier, disk)
        self._entries = entries

    async def _run(self) -> None:
        try:
            while (found := await self._disk.run(next, self._entries, None)) is not None:
                self._requireWanted()
                if found:
                    self._send(Entries(id=self.id, entries=found), Input.PART)
                    await self._carrier.ready()
        finally:
            # What it has open lives in a thread's hands no longer.
            close = getattr(self._entries, "close", None)
            if close is not None:
                await self._disk.run(close)
        self._close(Done(id=self.id), Input.DONE)


class DigestSending(Sending):
    """The digest of a file, which takes long when that is large."""

    def __init__(
        self,
        id: int,
        steps: Generator[tuple[Attributes, bytes] | None],
        carrier: Carrier,
        disk: Disk,
    ) -> None:
        """
        @param id: the number of the request.
        @param steps: digests it, as L{manifests.digesting} does.
        @param carrier: the session.
        @param disk: does what blocks.
        """
        super().__init__(id, carrier, disk)
        self._steps = steps

    async def _run(self) -> None:
        try:
            while (found := await self._disk.run(next, self._steps)) is None:
                self._requireWanted()
        finally:
            await self._disk.run(self._steps.close)
        attributes, digest = found
        self._close(Done(id=self.id, facts=factsOf(attributes), digest=digest), Input.DONE)
