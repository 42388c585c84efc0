"""
One file, fetched and published at this end: small ones in one go, many at once; larger ones chunk
by chunk, over all sessions that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import Corrupted, NetsuiteError, ProtocolError, SourceChanged
from twisted_netsuite.files.asking import Piece
from twisted_netsuite.files.client import FilesSession, leastBusy
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.download import Download
from twisted_netsuite.files.fetching import Getting
from twisted_netsuite.files.filling import Filling
from twisted_netsuite.files.messages import Body, Facts
from twisted_netsuite.files.moving import (
    Got,
    Local,
    Moved,
    Wishes,
    fingerprint,
    wantedOf,
)
from twisted_netsuite.files.store import Wanted

#: Bytes of files that are written many in one thread, one after the other; those of larger ones
#: would make the others wait.
SMALL = 64 * 1024


class GetFile:
    """
    A file that is being fetched.

    """

    def __init__(
        self,
        sessions: Sequence[FilesSession],
        name: bytes,
        local: Local,
        facts: Facts | None,
        wishes: Wishes,
        moved: Moved,
    ) -> None:
        """
        @param sessions: of one server, at least one.
        @param name: the file there.
        @param local: where it is to be.
        @param facts: what is known of it, if it is; then it has to be that version.
        @param wishes: how it is to be fetched.
        @param moved: told of progress.
        """
        # For a small file it fires with that, else with what is then waited for: so a large one
        # that is cancelled ends when what can be gone on with is on the disk.
        self._done: Deferred[Any] = Deferred(self._cancelled)
        self._sessions = sessions
        self._name = name
        self._local = local
        self._facts = facts
        self._wishes = wishes
        self._moved = moved
        self._tries = 0
        self._got: Getting | None = None
        self._session: FilesSession
        self._pieces: list[bytes] = []
        self._digest = b""
        self._gathered = 0

    def start(self) -> Deferred[Got]:
        """
        Fetch it.

        @return: fires with what it is, once it is published.
        @raise ConnectionFailed: when no session is open any more.
        """
        fetched = self._done.addCallback(_waited)
        self._start()
        return fetched

    def _start(self) -> None:
        """Ask for it: for its first chunk where its size is not known."""
        self._session = leastBusy(self._sessions)
        facts = self._facts
        if facts is not None and facts.size > CHUNK:
            self._wait(facts)
            return
        self._tries += 1
        version = None if facts is None else facts.version
        self._got = Getting(self._session, self, self._name, 0, 1, version)
        self._session.ask(self._got)

    # What the request calls, as long as it is not known to be a larger file.

    def found(self, got: Getting, facts: Facts) -> None:
        """See how large it is."""
        self._facts = facts
        self._pieces = []
        if facts.size <= CHUNK:
            return
        self._got = None
        if not self._session.moving.tryToTake():
            # What comes of it now would have to wait for others, and they for it.
            got.cancel()
            self._wait(facts)
            return
        download, filling = self._begun(facts)
        download.adopt(got, self._session)
        self._follow(self._fetch(download, filling, facts))

    def body(self, got: Getting, header: Body) -> Callable[[Piece], object]:
        """Gather its only chunk."""
        self._digest = header.digest
        self._gather(header.length)
        return self._take

    def holes(self, got: Getting, first: int, count: int) -> None:
        """It holds nothing but zeros."""
        assert self._facts is not None, "FOUND comes first."
        data = bytes(self._facts.size)
        self._gather(len(data))
        self._pieces, self._digest = [data], digestOf(data)

    def finished(self, got: Getting, digest: bytes | None) -> None:
        """Write and publish it: it has not changed since it was found."""
        facts = self._facts
        assert facts is not None, "FOUND comes first."
        self._got = None
        session, local, size = self._session, self._local, facts.size
        self._gather(-size)
        if digest is not None and digest != self._digest:
            error = ProtocolError("DONE has another digest than the file's only chunk.")
            self._fail(Failure(error))
            return
        pieces, self._pieces = self._pieces, []
        wanted = wantedOf(facts, self._wishes, None)
        work = partial(storeSmall, local, wanted, pieces, self._digest)
        session.waits(size)
        disk = session.batches(local.disk) if size <= SMALL else local.disk
        disk.run(work).addBoth(self._stored, size)

    def failed(self, got: Getting, error: NetsuiteError) -> None:
        """There is no such file, or no session any more."""
        self._got = None
        self._gather(-self._gathered)
        self._fail(Failure(error))

    # What is behind that.

    def _gather(self, count: int) -> None:
        self._gathered += count
        self._session.gathers(count)

    def _take(self, piece: Piece) -> None:
        self._pieces.append(bytes(piece))

    def _stored(self, result: Failure | None, size: int) -> None:
        self._session.waits(-size)
        if not isinstance(result, Failure):
            if not self._done.called:
                assert self._facts is not None
                self._moved(size)
                self._done.callback(Got(self._facts, self._digest, size, 0))
            return
        if result.check(Corrupted) and self._tries == 1 and not self._done.called:
            try:
                self._start()
            except NetsuiteError:
                self._fail(Failure())
            return
        self._fail(result)

    def _wait(self, facts: Facts) -> None:
        """Begin a larger file when there are not too many."""
        self._follow(self._fetchLater(facts))

    async def _fetchLater(self, facts: Facts) -> Got:
        await self._session.moving.wait()
        return await self._fetch(*self._begun(facts), facts)

    def _begun(self, facts: Facts) -> tuple[Download, Filling]:
        local = self._local
        wanted = wantedOf(facts, self._wishes, fingerprint(self._name, facts.version))
        # Rather than to fill the disk it is refused.
        wanted = replace(wanted, room=facts.size if facts.room is None else facts.room)
        begin = partial(local.store.target, local.parts, wanted, local.owner)
        filling = Filling(local.disk, begin, facts.size)
        return Download(self._sessions, self._name, facts, filling, self._moved), filling

    def _follow(self, fetching: Coroutine[Deferred[Any], Any, Got]) -> None:
        self._done.callback(fetching)

    async def _fetch(self, download: Download, filling: Filling, facts: Facts) -> Got:
        """Fetch a larger file; its turn has come."""
        keep = self._wishes.get("resume", True)
        try:
            missing, there = await filling.begin()
            if there:
                self._moved(there)
            download.begin(missing)
            await download.done
            _, digest = await filling.publish()
        except BaseException as error:
            download.stop()
            # Of a source that has changed nobody can go on.
            await filling.end(keep and not isinstance(error, SourceChanged))
            raise
        finally:
            self._session.moving.done()
        return Got(facts, digest, download.moved, max(0, facts.size - download.moved))

    def _fail(self, failure: Failure) -> None:
        if not self._done.called:
            self._done.errback(failure)

    def _cancelled(self, done: Deferred[Any]) -> None:
        if self._got is not None:
            self._got.cancel()
            self._gather(-self._gathered)


def _waited(found: Got | Coroutine[Deferred[Any], Any, Got]) -> Got | Deferred[Got]:
    return found if isinstance(found, Got) else Deferred.fromCoroutine(found)


def storeSmall(local: Local, wanted: Wanted, pieces: list[bytes], digest: bytes) -> None:
    """
    Write and publish a file of one chunk; blocks.

    @param local: where.
    @param wanted: what it is to be.
    @param pieces: its contents.
    @param digest: what its sender says that they are.
    @raise Corrupted: when they are not.
    """
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if digestOf(data) != digest:
        raise Corrupted("The file came with other contents than its digest says, and once more.")
    local.store.publishWhole(local.parts, wanted, data)
