"""
One file, or a part of one, that a client sends over one session: what comes, and what is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_netsuite.errors import (
    Conflict,
    ConnectionFailed,
    LimitExceeded,
    NetsuiteError,
    ProtocolError,
)
from twisted_netsuite.files.answers import errorOf, factsOf
from twisted_netsuite.files.chunk import Chunk
from twisted_netsuite.files.disk import STEP
from twisted_netsuite.files.machine import Effect, Input, State, receivingMachine
from twisted_netsuite.files.messages import (
    MAX_DIGESTS,
    Body,
    Cancel,
    Commit,
    Done,
    Failed,
    Have,
    Holes,
    Ready,
)
from twisted_netsuite.files.store import Attributes
from twisted_netsuite.files.uploads import Upload
from twisted_netsuite.files.verified import present
from twisted_netsuite.wire.session import Record

#: Seconds without anything of a file, over any connection, until it is given up: it holds one of
#: the service's places, descriptors, and room on the disk, and who lives can begin it again.
MAX_SILENCE = 600.0

#: Bytes that a HOLES counts for while it waits for the disk: what it takes in memory, and more.
HOLES_WEIGHT = 4096

#: What a chunk's bytes come as.
Piece = bytes | memoryview

#: Publishes a file, given its digest.
Publish = Callable[[bytes], Deferred[Attributes]]


class Carrier(Protocol):
    """
    The session, as a request that receives sees it.

    @ivar clock: tells and waits for time.
    """

    clock: IReactorTime

    def receiveRaw(self, count: int, sink: Callable[[Piece], object]) -> None:
        """
        Have the next bytes of the connection, which stand outside frames.

        @param count: how many.
        @param sink: gets them.
        """

    def answer(self, record: Record) -> None:
        """
        Send an answer.

        @param record: the answer.
        """

    def ready(self) -> Deferred[None]:
        """
        Wait until the client takes what was sent.

        @return: fires then; fails when the session is over.
        """

    def waits(self, count: int) -> None:
        """
        Count bytes that wait for the disk; while there are too many nothing is read.

        @param count: how many more; fewer when it is negative.
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


class Receiving:
    """
    A file of any size that comes in chunks, or a part of one.

    @ivar id: the number of its request.
    """

    def __init__(self, id: int, carrier: Carrier) -> None:
        """
        @param id: the number of its request.
        @param carrier: the session.
        """
        self.id = id
        self._carrier = carrier
        self._machine = receivingMachine(follows=False)
        self._upload: Upload | None = None
        self._main = False
        self._resumable = False
        self._publish: Publish | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        #: What has begun to come, and not ended.
        self._chunk: Chunk | None = None
        #: What has gone wrong first.
        self._fault: NetsuiteError | None = None
        #: Whether the client wants what has come to be kept.
        self._keeps = True
        self._told = False
        self._gone = False
        #: Ends it when nothing comes.
        self._silence: IDelayedCall | None = None

    # What is found when it is opened.

    def opened(self, upload: Upload, publish: Publish, keeps: bool) -> None:
        """
        Tell the client what is missing.

        @param upload: the file.
        @param publish: publishes it, given its digest.
        @param keeps: whether what came of it can be kept for another try.
        """
        self._upload, self._publish = upload, publish
        self._main, self._resumable = True, keeps
        if self._gone:
            self.sessionClosed()
        elif self._machine.state is State.OPENING:
            self._moved(upload)
            self._listen(MAX_SILENCE)
            Deferred.fromCoroutine(self._tellReady(upload))
        else:
            self._leave(self._keeps)

    async def _tellReady(self, upload: Upload) -> None:
        """Tell what is there as the client takes it: it can be more than fits into memory."""
        for have in haves(self.id, upload.target.verified):
            try:
                await self._carrier.ready()
            except ConnectionFailed:
                return
            if self._upload is not upload:
                return  # It was cancelled, or given up.
            self._carrier.answer(have)
        self._machine.feed(Input.READY)
        self._carrier.answer(Ready(id=self.id, upload=upload.token))

    def joined(self, upload: Upload) -> None:
        """
        Bring parts of a file that another request has opened.

        @param upload: the file.
        """
        self._upload = upload
        self._machine.feed(Input.READY)
        self._carrier.answer(Ready(id=self.id, upload=upload.token))

    def refused(self, error: NetsuiteError) -> None:
        """
        Tell the client that it cannot be.

        @param error: why.
        """
        self._end(error)

    # What the client sends.

    def received(self, record: Record) -> None:
        """
        Take a record of the client.

        @param record: about this request.
        @raise ProtocolError: when it may not come now.
        """
        match record:
            case Body():
                self._body(record)
            case Holes():
                self._holes(record)
            case Commit():
                if self._machine.feed(Input.COMMIT) is Effect.FORGET:
                    self._forgetIfOver()
                else:
                    self._commit(record.digest)
            case Cancel():
                effect = self._machine.feed(Input.CANCEL)
                if effect is Effect.FORGET:
                    self._forgetIfOver()
                elif effect is Effect.STOP:
                    self._keeps = record.keep
                    if self._upload is not None:
                        self._leave(record.keep)
            case _:
                raise ProtocolError(f"{type(record).__name__.upper()} is no part of a PUT.")

    def sessionClosed(self) -> None:
        """The client is gone: keep what can be kept."""
        self._gone = True
        upload = self._letGo()
        if upload is not None and self._main and not upload.over:
            upload.end(self._resumable).addErrback(errorOf)

    def _body(self, header: Body) -> None:
        if self._machine.feed(Input.BODY) is not Effect.TAKE or self._upload is None:
            self._carrier.receiveRaw(header.length, _drop)
            return
        try:
            chunk = self._chunk = self._upload.chunk(header)
        except Conflict as error:
            self._carrier.receiveRaw(header.length, _drop)
            self._end(error)
            return
        left = header.length

        def take(piece: Piece) -> None:
            nonlocal left
            left -= len(piece)
            self._take(chunk, bytes(piece), not left)

        if left:
            self._carrier.receiveRaw(left, take)
        else:
            self._take(chunk, b"", True)

    def _holes(self, record: Holes) -> None:
        if self._machine.feed(Input.HOLES) is not Effect.TAKE:
            return
        assert self._upload is not None
        try:
            made = self._upload.holes(record.index, record.count)
        except Conflict as error:
            self._end(error)
            return
        self._moved(self._upload)
        self._carrier.waits(HOLES_WEIGHT)
        self._watch(made, HOLES_WEIGHT)

    def _take(self, chunk: Chunk, piece: bytes, last: bool) -> None:
        """Gather what comes, and give it to the disk in larger pieces."""
        if self._upload is None:
            return
        self._moved(self._upload)
        self._pieces.append(piece)
        self._held += len(piece)
        if last or self._held >= STEP:
            pieces, self._pieces = self._pieces, []
            count, self._held = self._held, 0
            self._carrier.waits(count)
            self._watch(self._upload.write(chunk, pieces), count)
        if last:
            self._chunk = None

    def _watch(self, done: Deferred[None], count: int) -> None:
        done.addBoth(self._written, count)

    def _written(self, result: Failure | None, count: int) -> None:
        if count:
            self._carrier.waits(-count)
        if self._upload is not None:
            self._moved(self._upload)
        if not isinstance(result, Failure) or self._fault is not None:
            return
        self._fault = errorOf(result)
        # Once it is to be published, or stopped, that tells of it when it has come to its end.
        if self._machine.state is State.RECEIVING:
            self._end(self._fault)

    def _commit(self, digest: bytes | None) -> None:
        assert self._upload is not None
        self._listenNoMore()
        if not self._main:
            self._upload.written().addCallbacks(self._partWritten, self._notPublished)
        elif digest is None:
            self._leave(keep=True, error=ProtocolError("COMMIT of a whole file has its digest."))
        else:
            assert self._publish is not None
            done = self._publish(digest)
            done.addCallbacks(self._published, self._notPublished, callbackArgs=(digest,))

    def _partWritten(self, result: None) -> None:
        if self._fault is None:
            self._upload = None
            self._close(Done(id=self.id), Input.DONE)
        else:
            self._notPublished(Failure(self._fault))

    def _published(self, attributes: Attributes, digest: bytes) -> None:
        self._upload = None
        self._close(Done(id=self.id, facts=factsOf(attributes), digest=digest), Input.DONE)

    def _notPublished(self, failure: Failure) -> None:
        upload, self._upload = self._upload, None
        # What came first tells why the rest could not be.
        error = self._fault or errorOf(failure)
        kept = self._main and upload is not None and upload.kept
        self._close(self._carrier.failed(self.id, error, kept), Input.FAILED)

    def _letGo(self) -> Upload | None:
        """Be done with the file: what is missing of a chunk, others may bring."""
        upload, self._upload = self._upload, None
        if upload is not None and self._chunk is not None:
            upload.dropped(self._chunk)
        self._chunk = None
        self._pieces.clear()
        self._held = 0
        self._listenNoMore()
        return upload

    # How long it may be silent.

    def _moved(self, upload: Upload) -> None:
        upload.movedAt = self._carrier.clock.seconds()

    def _listen(self, seconds: float) -> None:
        self._silence = self._carrier.clock.callLater(seconds, self._silent)

    def _listenNoMore(self) -> None:
        silence, self._silence = self._silence, None
        if silence is not None and silence.active():
            silence.cancel()

    def _silent(self) -> None:
        assert self._upload is not None
        left = self._upload.movedAt + MAX_SILENCE - self._carrier.clock.seconds()
        if left > 0:
            self._listen(left)
            return
        self._end(
            LimitExceeded(
                f"Nothing of the file has come for {MAX_SILENCE / 60:.0f} minutes; begin it again."
            )
        )

    # How it ends.

    def _leave(self, keep: bool, error: NetsuiteError | None = None) -> None:
        """Stop, as the client wants, and answer once nothing of it is under way."""
        self._stop(
            keep and self._resumable,
            lambda kept: self._close(
                self._carrier.failed(self.id, error or Conflict("It was cancelled."), kept),
                Input.FAILED,
            ),
        )

    def _end(self, error: NetsuiteError) -> None:
        """Fail, and keep what can be kept: none of it is known to be wrong."""
        self._fault = error
        self._machine.feed(Input.FAILED)
        self._stop(
            self._resumable,
            lambda kept: self._tell(self._carrier.failed(self.id, error, kept)),
        )

    def _stop(self, keep: bool, stopped: Callable[[bool], None]) -> None:
        """Be done with the file, and wait for what is under way: who tries again finds it free."""
        upload = self._letGo()
        if upload is None or upload.over:
            stopped(False)
        elif self._main:
            upload.end(keep).addErrback(errorOf).addBoth(lambda _: stopped(upload.kept))
        else:
            upload.written().addBoth(lambda _: stopped(False))

    def _close(self, last: Record, symbol: Input) -> None:
        if self._gone:
            return
        self._machine.feed(symbol)
        self._tell(last)

    def _tell(self, last: Record) -> None:
        self._told = True
        if not self._gone:
            self._carrier.answer(last)
            self._forgetIfOver()

    def _forgetIfOver(self) -> None:
        if self._told and self._machine.state is State.OVER:
            self._carrier.forget(self.id)


def haves(id: int, verified: Mapping[int, bytes]) -> Iterator[Have]:
    """
    Tell which chunks are there.

    @param id: of the request.
    @param verified: their digests.
    @return: records, one for each run of chunks, and more for long ones.
    """
    for start, count in present(verified):
        behind = start + count
        for first in range(start, behind, MAX_DIGESTS):
            indexes = range(first, min(first + MAX_DIGESTS, behind))
            digests = b"".join([verified[index] for index in indexes])
            yield Have(id=id, index=first, digests=digests)


def _drop(piece: Piece) -> None:
    """What comes of a request that has failed is not wanted."""
