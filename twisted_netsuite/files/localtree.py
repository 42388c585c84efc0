"""
A tree at this end: how it is looked over and changed, many entries at a time. What is in its files
is carried by L{files.transfer}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import Conflict, Denied, NetsuiteError, NotFound
from twisted_netsuite.files.digests import chunks, combined
from twisted_netsuite.files.disk import Disk
from twisted_netsuite.files.entries import TreeEntry
from twisted_netsuite.files.flights import Flights, inThread
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.patterns import Patterns
from twisted_netsuite.files.scan import Scan, openTop
from twisted_netsuite.files.store import Store
from twisted_netsuite.files.transfer import Local
from twisted_netsuite.wire.text import cleanText

#: Deeds that one thread does before it looks whether to stop: some milliseconds of work.
BATCH = 256

#: Bytes of files that one thread digests before it looks whether to stop.
DIGEST_BATCH = 16 * 1024 * 1024


class Deed(NamedTuple):
    """
    Something to do to one entry of a tree.

    @ivar do: what: C{change} sets mode and time where there are any.
    @ivar entry: which.
    @ivar mode: permission bits.
    @ivar mtime: nanoseconds since 1970.
    """

    do: Literal["make", "change", "remove"]
    entry: TreeEntry
    mode: int | None = None
    mtime: int | None = None


#: Gets what was done, and why it could not be.
Tell = Callable[[Deed, NetsuiteError | None], object]


@dataclass
class Found:
    """
    What a look over a tree has found.

    @ivar top: its top; C{None} when there is no such tree.
    @ivar entries: all that is in it, in no order.
    @ivar scan: what was skipped, or could not be read, where that is known.
    """

    top: TreeEntry | None
    entries: list[TreeEntry] = field(default_factory=list)
    scan: Scan = field(default_factory=Scan)

    def all(self) -> Iterator[TreeEntry]:
        """
        Tell all entries, and the top.

        @return: the top first.
        """
        if self.top is not None:
            yield self.top
        yield from self.entries


@dataclass(frozen=True)
class LocalTree:
    """
    What is below one directory at this end.

    @ivar store: where it is kept.
    @ivar disk: does what blocks.
    @ivar parts: its name there; none for all that is there.
    @ivar path: where the same is on the disk: then it is looked over by descriptors, which is much
        faster, and what is skipped is told; C{None} when it is not on a disk.
    @ivar owner: whose the partial files are.
    """

    store: Store
    disk: Disk
    parts: Parts = ()
    path: str | bytes | None = None
    owner: str = "local"

    def shown(self) -> str:
        """
        Name it for a person.

        @return: text.
        """
        path = b"/" + b"/".join(self.parts) if self.path is None else self.path
        return cleanText(os.fsdecode(path))

    def file(self, entry: TreeEntry) -> Local:
        """
        Name a file of it.

        @param entry: which.
        @return: for a transfer.
        """
        return Local(self.store, self.parts + entry.parts, self.disk, self.owner)

    async def look(self, patterns: Patterns) -> Found:
        """
        Look over it.

        @param patterns: directories that these leave out are not entered.
        @return: what there is.
        @raise Conflict: when there is a file in its place.
        """
        return await inThread(self.disk, partial(self._look, patterns))

    async def digests(self, entries: Sequence[TreeEntry]) -> dict[bytes, bytes]:
        """
        Digest files.

        @param entries: which.
        @return: their digests by their names; of those that can be read.
        """
        found: dict[bytes, bytes] = {}

        def begin(batch: list[TreeEntry]) -> Deferred[dict[bytes, bytes]]:
            return Deferred.fromCoroutine(inThread(self.disk, partial(self._digests, batch)))

        def ended(batch: list[TreeEntry], result: dict[bytes, bytes] | Failure) -> None:
            if isinstance(result, Failure):
                result.raiseException()
            found.update(result)

        await Flights(_digestBatches(entries), begin, ended).run()
        return found

    async def carryOut(self, deeds: Sequence[Deed], tell: Tell) -> None:
        """
        Change what is there, in any order.

        @param deeds: what to do.
        @param tell: hears of each.
        """
        for start in range(0, len(deeds), BATCH):
            batch = deeds[start : start + BATCH]
            for deed, error in await inThread(self.disk, partial(self._carryOut, batch)):
                tell(deed, error)

    def _look(self, patterns: Patterns, stopped: Callable[[], bool]) -> Found:
        try:
            attributes = self.store.stat(self.parts)
        except NotFound:
            return Found(None)
        if attributes.kind != "directory":
            raise Conflict(f"{self.shown()} is a file, and no directory; give a directory.")
        top = TreeEntry(b"", True, 0, attributes.mtime, attributes.mode, attributes.version)
        scan = Scan(patterns, stopped=stopped)
        if self.path is None:
            return Found(top, list(scan.store(self.store, self.parts)), scan)
        try:
            descriptor = openTop(self.path)
        except OSError as error:
            raise Denied(
                f"{self.shown()} cannot be read: {(error.strerror or '').lower()}."
            ) from error
        try:
            return Found(top, list(scan.directory(descriptor)), scan)
        finally:
            os.close(descriptor)

    def _digests(self, batch: list[TreeEntry], stopped: Callable[[], bool]) -> dict[bytes, bytes]:
        found = {}
        for entry in batch:
            try:
                found[entry.name] = self._digest(entry, stopped)
            except NetsuiteError:
                # That it cannot be read is told when it is to be transferred.
                continue
        return found

    def _digest(self, entry: TreeEntry, stopped: Callable[[], bool]) -> bytes:
        source = self.store.source(self.parts + entry.parts)
        try:
            made: list[bytes] = []
            for index in range(chunks(source.attributes.size)):
                if stopped():
                    raise Conflict("It was cancelled.")
                made.append(source.digest(index))
            return combined(made)
        finally:
            source.close()

    def _carryOut(
        self, deeds: Sequence[Deed], stopped: Callable[[], bool]
    ) -> list[tuple[Deed, NetsuiteError | None]]:
        told: list[tuple[Deed, NetsuiteError | None]] = []
        for deed in deeds:
            if stopped():
                break
            try:
                self._do(deed)
                told.append((deed, None))
            except NetsuiteError as error:
                told.append((deed, error))
        return told

    def _do(self, deed: Deed) -> None:
        parts = self.parts + deed.entry.parts
        match deed.do:
            case "make":
                self.store.makeDirectory(parts, deed.mode, not deed.entry.name)
            case "change":
                self.store.change(parts, deed.mode, deed.mtime)
            case "remove":
                self.store.remove(parts)


def heldText(where: str) -> str:
    """
    Say why a directory is not removed out of which all went that is known of it.

    @param where: at which end it is.
    @return: a sentence.
    """
    return (
        "It holds what is not transferred (links, devices), or what has just come; remove that on "
        f"{where}."
    )


def _digestBatches(entries: Sequence[TreeEntry]) -> Iterator[list[TreeEntry]]:
    batch: list[TreeEntry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += entry.size
        if len(batch) == BATCH or size >= DIGEST_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
