"""
One PUT or JOIN of a client: what is there, what is sent, and how it ended; which chunks to send is
not decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred, fail, succeed

from twisted_netsuite.errors import ConnectionFailed, NetsuiteError, ProtocolError
from twisted_netsuite.files.asking import Asked, Carrier, Make
from twisted_netsuite.files.clientmachine import Input, putMachine
from twisted_netsuite.files.digests import DIGEST, chunks
from twisted_netsuite.files.messages import Body, Commit, Done, Have, Holes, Put, Ready
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.net.sendfile import Part
from twisted_netsuite.wire.session import Record

#: Bytes before a frame that tell its length.
_PREFIX = 4


class Putting(Asked):
    """
    A file, or a part of one, that is sent over one session.

    @ivar have: the digests of the chunks that are there from an earlier try.
    @ivar upload: for JOIN, once it is ready.
    @ivar why: why it has failed, if it has.
    @ivar wasCommitted: whether COMMIT was sent.
    """

    def __init__(self, carrier: Carrier, make: Make, size: int, follows: bool = False) -> None:
        """
        @param carrier: the session.
        @param make: makes the record of the request.
        @param size: bytes of the file.
        @param follows: whether READY is not waited for.
        """
        super().__init__(carrier, putMachine(follows), make)
        self.have: dict[int, bytes] = {}
        self.upload = b""
        self.why: NetsuiteError | None = None
        self._size = size
        self._next = 0
        self.wasCommitted = False
        self._isForgotten = False
        self._done: Done | None = None
        self._waiter: Deferred[None] | None = None
        self._sending: Deferred[int] | None = None

    # What its user calls.

    async def whenBegun(self) -> None:
        """
        Wait until the request was sent.

        @raise NetsuiteError: why it was not.
        """
        while not self.id:
            await self._wait()
        self._requireGood()

    async def whenReady(self) -> None:
        """
        Wait until the server says what is there.

        @raise NetsuiteError: what it says instead, or why the session has ended.
        """
        while not self.upload:
            await self._wait()

    async def whenDone(self) -> Done:
        """
        Wait for the end.

        @return: the last answer.
        @raise NetsuiteError: what the server says instead, or why the session has ended.
        """
        while self._done is None:
            await self._wait()
        return self._done

    async def sendBody(self, index: int, length: int, digest: bytes, body: bytes | Part) -> int:
        """
        Send a chunk.

        @param index: which.
        @param length: its bytes.
        @param digest: its digest.
        @param body: the bytes.
        @return: how many of them could not be read, once the next chunk can be sent.
        @raise NetsuiteError: why the request has failed meanwhile.
        """
        missing = await self.startBody(index, length, digest, body)
        self._requireGood()
        return missing

    def startBody(
        self, index: int, length: int, digest: bytes, body: bytes | Part
    ) -> Deferred[int]:
        """
        Begin to send a chunk.

        @param index: which.
        @param length: its bytes.
        @param digest: its digest.
        @param body: the bytes.
        @return: fires when the next can be sent, with how many bytes could not be read; fails with
            L{ConnectionFailed} when the session ends before. Cancelling it changes nothing.
        """
        if self.why is not None:
            return fail(self.why)
        self.machine.feed(Input.BODY)
        header = Body(id=self.id, index=index, length=length, digest=digest)
        return self._shielded(self.carrier.sendBody(header, body))

    def sendHoles(self, first: int, count: int) -> None:
        """
        Tell that chunks are zeros.

        @param first: the first of them.
        @param count: how many.
        @raise NetsuiteError: why the request has failed meanwhile.
        """
        self._requireGood()
        self.machine.feed(Input.HOLES)
        self.carrier.sendRecord(Holes(id=self.id, index=first, count=count))

    def commit(self, digest: bytes | None) -> None:
        """
        Tell that all was sent.

        @param digest: of the whole file; C{None} where this was a part.
        @raise NetsuiteError: why the request has failed meanwhile.
        """
        self._requireGood()
        self.machine.feed(Input.COMMIT)
        self.wasCommitted = True
        self.carrier.sendRecord(Commit(id=self.id, digest=digest))

    async def giveUp(self) -> None:
        """
        Break it off, with what has come kept, and wait until the server has done so.

        @raise NetsuiteError: why the request has failed meanwhile, or why the session has ended.
        """
        self._requireGood()
        if self.cancel():
            while not self._isForgotten:
                await self._wait()
            if self.isLost:
                raise ConnectionFailed("The session ended before the server had let the file go.")

    def drained(self) -> Deferred[None]:
        """
        Wait until nothing of the file is in use.

        @return: fires then, also when the session ends.
        """
        if self._sending is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._sending.addBoth(_tell, waiting)
        return waiting

    # What comes.

    def begin(self, id: int) -> None:
        """Send the request."""
        super().begin(id)
        self._wake()

    def taken(self, record: Record) -> None:
        """Note what is there, and that the rest can be sent."""
        if isinstance(record, Ready):
            self.upload = record.upload
            self._wake()
            return
        assert isinstance(record, Have)
        digests = record.digests
        count, rest = divmod(len(digests), DIGEST)
        if rest or record.index < self._next or record.index + count > chunks(self._size):
            raise ProtocolError(
                f"HAVE tells of chunk {record.index} and {len(digests)} bytes of digests, which "
                "cannot be."
            )
        self._next = record.index + count
        for number in range(count):
            digest = digests[number * DIGEST : (number + 1) * DIGEST]
            self.have[record.index + number] = digest

    def finished(self, record: Done) -> None:
        """Note the end."""
        self._done = record
        self._wake()

    def failed(self, error: NetsuiteError) -> None:
        """Note why nothing more is wanted."""
        self.why = error
        self._wake()

    def forgotten(self) -> None:
        """Note that the server has let it go."""
        self._isForgotten = True
        self._wake()

    # What is behind that.

    def _requireGood(self) -> None:
        if self.why is not None:
            raise self.why

    async def _wait(self) -> None:
        self._requireGood()
        self._waiter = Deferred()
        await self._waiter
        self._requireGood()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(None)

    def _shielded(self, going: Deferred[int]) -> Deferred[int]:
        """Who waits may give up, and the bytes leave all the same: the server was promised them."""
        shown: Deferred[int] = Deferred()
        if not going.called:
            self._sending = going
        going.addBoth(self._sent, shown)
        return shown

    def _sent(self, result: object, shown: Deferred[int]) -> None:
        self._sending = None
        if not shown.called:
            shown.callback(result)  # type: ignore[arg-type]
        else:
            shown.addErrback(lambda failure: None)


class SmallPutting(Asked):
    """A whole file of one chunk, sent in one go."""

    def __init__(
        self,
        carrier: Carrier,
        wanted: Wanted,
        name: bytes,
        data: bytes,
        digest: bytes,
        onSent: Callable[[], object],
        onEnd: Callable[[Done | NetsuiteError], object],
    ) -> None:
        """
        @param carrier: the session.
        @param wanted: what it will be.
        @param name: the file.
        @param data: its contents.
        @param digest: theirs.
        @param onSent: called when the next can be sent, or this one never will be.
        @param onEnd: called with the last answer, or with why there is none.
        """
        make = partial(putRecord, name, wanted, True)
        super().__init__(carrier, putMachine(follows=True), make)
        self._data = data
        self._digest = digest
        self._onSent = onSent
        self._onEnd = onEnd

    def begin(self, id: int) -> None:
        """Send all of it with one write, which is one system call."""
        self.id = id
        data, digest, self._data = self._data, self._digest, b""
        encode = self.carrier.codec.encode
        body = encode(Body(id=id, index=0, length=len(data), digest=digest))
        commit = encode(Commit(id=id, digest=digest))
        rest = b"%b%b%b%b%b" % (
            len(body).to_bytes(_PREFIX, "big"),
            body,
            data,
            len(commit).to_bytes(_PREFIX, "big"),
            commit,
        )
        self.machine.feed(Input.BODY)
        self.machine.feed(Input.COMMIT)
        self.carrier.sendBody(self._make(id), rest).addBoth(self._sent)

    def finished(self, record: Done) -> None:
        """Tell whoever waits."""
        self._onEnd(record)

    def failed(self, error: NetsuiteError) -> None:
        """Tell whoever waits."""
        if not self.id:
            self._onSent()
        self._onEnd(error)

    def cancel(self, keep: bool = True) -> bool:
        """Break it off; one that waits is not sent any more."""
        cancelled = super().cancel(keep)
        if cancelled and not self.id:
            self._onSent()
        return cancelled

    def _sent(self, result: object) -> None:
        self._onSent()


def putRecord(name: bytes, wanted: Wanted, follows: bool, id: int) -> Put:
    """
    Write what is to be published as a record.

    @param name: the file.
    @param wanted: what it will be.
    @param follows: whether its only chunk comes at once.
    @param id: of the request.
    @return: the record.
    """
    return Put(
        id=id,
        name=name,
        size=wanted.size,
        mtime=wanted.mtime,
        mode=wanted.mode,
        clobber=wanted.clobber,
        replaces=wanted.replaces,
        source=wanted.source,
        durable=wanted.durable,
        room=wanted.room,
        follows=follows,
    )


def _tell(result: object, waiting: Deferred[None]) -> object:
    waiting.callback(None)
    return result
