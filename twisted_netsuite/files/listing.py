"""
A list of what a server has, as it comes: batch by batch, no faster than it is read where that can
be.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from twisted_netsuite.errors import LimitExceeded, NetsuiteError, ProtocolError
from twisted_netsuite.files.asking import Asked, Carrier, Make
from twisted_netsuite.files.clientmachine import listMachine
from twisted_netsuite.files.messages import Done, Entries, Listed
from twisted_netsuite.files.names import requirePart, split
from twisted_netsuite.wire.session import Record

Batch = tuple[Listed, ...]

#: Batches that wait to be read before the server is made to wait: one more than is read, so that it
#: never waits for somebody who reads steadily.
MAX_BATCHES = 4

#: Entries that wait to be read, where the server cannot be made to wait as something else is open
#: on the same session: some 20 MB.
MAX_UNREAD = 65536

#: Entries of a list that is collected: some 500 MB, and more files than one tree is expected to
#: have.
MAX_COLLECTED = 2_000_000


class Listing(Asked):
    """
    What is in a directory, or in all below it.

    Every name was checked: it is one part, or in a manifest several, and leads nowhere else.
    """

    def __init__(self, carrier: Carrier, make: Make, deep: bool) -> None:
        """
        @param carrier: the session.
        @param make: makes the record of the request.
        @param deep: whether it is a manifest.
        """
        super().__init__(carrier, listMachine(), make)
        self._deep = deep
        self._batches: deque[Batch] = deque()
        self._unread = 0
        self._reader: Deferred[Batch | None] | None = None
        self._why: NetsuiteError | None = None
        self._ended = False
        self._held = False

    # What its user calls.

    def next(self) -> Deferred[Batch | None]:
        """
        Read on; one read may wait at a time.

        What is not read makes the server wait, and all else on this session with it, unless more is
        open on it: then up to L{MAX_UNREAD} entries are kept.

        @return: fires with what comes next, at least one entry, and with C{None} at the end; fails
            with what the server says, or with why the session has ended; cancelling it breaks the
            list off.
        """
        if self._reader is not None:
            raise RuntimeError("One read may wait at a time.")
        if self._batches:
            batch = self._batches.popleft()
            self._unread -= len(batch)
            self._balance()
            return succeed(batch)
        if self._why is not None:
            return fail(self._why)
        if self._ended:
            return succeed(None)
        self._reader = Deferred(lambda reader: self._stop(CancelledError()))
        return self._reader

    def collect(self, most: int = MAX_COLLECTED) -> Deferred[list[Listed]]:
        """
        Read all of it.

        @param most: entries that there may be.
        @return: fires with them; fails as L{next} does, and with L{LimitExceeded} when there are
            more; cancelling it breaks the list off.
        """
        return Deferred.fromCoroutine(self._collect(most))

    async def _collect(self, most: int) -> list[Listed]:
        found: list[Listed] = []
        async for batch in self:
            found += batch
            if len(found) > most:
                self.close()
                raise LimitExceeded(
                    f"A list has more than {most} entries; ask for a directory with fewer."
                )
        return found

    def close(self) -> None:
        """Break it off, if it has not ended; a read that waits fails with C{CancelledError}."""
        self._stop(CancelledError())

    def __aiter__(self) -> Listing:
        """Read batch by batch."""
        return self

    async def __anext__(self) -> Batch:
        """Read on."""
        batch = await self.next()
        if batch is None:
            raise StopAsyncIteration
        return batch

    # What comes.

    def taken(self, record: Record) -> None:
        """Check a batch, and keep it until it is read."""
        assert isinstance(record, Entries)
        for entry in record.entries:
            self._check(entry)
        if not record.entries:
            return
        if self._reader is not None:
            self._tell(record.entries)
            return
        self._batches.append(record.entries)
        self._unread += len(record.entries)
        if self._unread > MAX_UNREAD:
            self._refuse()
        self._balance()

    def finished(self, record: Done) -> None:
        """Tell the reader, once all was read."""
        self._ended = True
        self._balance()
        if self._reader is not None:
            self._tell(None)

    def failed(self, error: NetsuiteError) -> None:
        """Tell the reader, once all was read."""
        self._why = error
        self._balance()
        if self._reader is not None:
            self._tell(Failure(error))

    def _refuse(self) -> None:
        self._batches.clear()
        self._unread = 0
        self.cancel()
        self._why = LimitExceeded(
            f"More than {MAX_UNREAD} entries of a list wait to be read while other things are "
            "asked on its session; read it first, or on a session of its own."
        )

    def _check(self, entry: Listed) -> None:
        """A server that is not to be trusted sends names, too: none leads out of the directory."""
        try:
            parts = split(entry.name) if self._deep else (entry.name,)
            if not self._deep:
                requirePart(entry.name)
        except NetsuiteError as error:
            raise ProtocolError(f"A list holds what can be no name: {error.sentence}") from error
        if not parts or b"/".join(parts) != entry.name:
            raise ProtocolError("A list holds a name that is not written as it has to be.")

    def _stop(self, why: CancelledError) -> None:
        """Break it off at this end."""
        if self.cancel():
            self._batches.clear()
            self._unread = 0
            self._ended = True
            self._balance()
            if self._reader is not None:
                self._tell(Failure(why))

    def _tell(self, batch: Batch | Failure | None) -> None:
        reader, self._reader = self._reader, None
        assert reader is not None
        reader.callback(batch)

    def _balance(self) -> None:
        open = not self._ended and self._why is None
        held = open and len(self._batches) >= MAX_BATCHES
        if held != self._held:
            self._held = held
            self.carrier.unread(1 if held else -1)
