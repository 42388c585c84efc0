"""
Small files that a client sends many at a time in one request; they are written when all of their
bytes are there.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.files.answers import errorOf
from twisted_netsuite.files.gathering import Carrier
from twisted_netsuite.files.machine import Input, receivingMachine
from twisted_netsuite.files.messages import (
    BUNDLE_BYTES,
    Bundle,
    Bundled,
    Cancel,
    Done,
    PutBundle,
)
from twisted_netsuite.files.receiving import Piece
from twisted_netsuite.wire.session import Record

#: Writes and publishes the files, given their contents one behind the other.
Store = Callable[[list[bytes]], Deferred[list[Bundled]]]


def requireFits(asked: PutBundle) -> None:
    """
    Require that a bundle is no larger than bundles are.

    @param asked: what is to come.
    @raise ProtocolError: when it is.
    """
    length = sum(each.size for each in asked.files)
    if length > BUNDLE_BYTES:
        raise ProtocolError(
            f"A PUT-BUNDLE of {length} bytes came; it has {BUNDLE_BYTES} at the most."
        )


class Bundling:
    """
    One such request.

    @ivar id: its number.
    """

    def __init__(self, asked: PutBundle, carrier: Carrier, store: Store) -> None:
        """
        @param asked: what is to come.
        @param carrier: the session.
        @param store: writes it.
        """
        self.id = asked.id
        self._length = sum(each.size for each in asked.files)
        self._carrier = carrier
        self._store = store
        self._machine = receivingMachine(follows=True)
        self._pieces: list[bytes] = []
        self._missing = self._length
        self._gone = False

    def start(self) -> None:
        """Take what follows the request."""
        self._machine.feed(Input.BODY)
        if self._length:
            self._carrier.receiveRaw(self._length, self._take)
        else:
            self._came()

    def received(self, record: Record) -> None:
        """
        Take a record of the client.

        @param record: about this request.
        @raise ProtocolError: when it may not come now.
        """
        if not isinstance(record, Cancel):
            raise ProtocolError(f"{type(record).__name__.upper()} is no part of a PUT-BUNDLE.")
        # It comes behind the last byte, so all of it is on its way to the disk.
        self._machine.feed(Input.CANCEL)

    def sessionClosed(self) -> None:
        """The client is gone: what is not on its way to the disk is dropped."""
        self._gone = True

    def _take(self, piece: Piece) -> None:
        self._pieces.append(bytes(piece))
        self._carrier.gathers(len(piece))
        self._missing -= len(piece)
        if not self._missing:
            self._carrier.gathers(-self._length)
            self._came()

    def _came(self) -> None:
        self._machine.feed(Input.COMMIT)
        self._carrier.waits(self._length)
        pieces, self._pieces = self._pieces, []
        self._store(pieces).addBoth(self._written)

    def _written(self, result: list[Bundled] | Failure) -> None:
        self._carrier.waits(-self._length)
        if self._gone:
            if isinstance(result, Failure):
                errorOf(result)
            return
        if isinstance(result, Failure):
            self._machine.feed(Input.FAILED)
            self._carrier.answer(self._carrier.failed(self.id, errorOf(result), False))
        else:
            self._machine.feed(Input.PART)
            self._carrier.answer(Bundle(id=self.id, files=tuple(result)))
            self._machine.feed(Input.DONE)
            self._carrier.answer(Done(id=self.id))
        self._carrier.forget(self.id)
