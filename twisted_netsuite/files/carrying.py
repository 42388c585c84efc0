"""
The files of a plan, carried from one tree to the other: small ones many at a time, larger ones each
for itself. In what order is not decided here, nor what becomes of failures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import Corrupted, NetsuiteError, SourceChanged
from twisted_netsuite.files.bundles import Item, getBundle, putBundle
from twisted_netsuite.files.entries import TreeEntry
from twisted_netsuite.files.flights import itsOwn
from twisted_netsuite.files.localtree import LocalTree
from twisted_netsuite.files.messages import BUNDLE_BYTES, BUNDLE_FILES, BUNDLE_NAMES, Facts
from twisted_netsuite.files.moving import Got, Moved, Sent, Wishes
from twisted_netsuite.files.plan import Transfer
from twisted_netsuite.files.progress import Progress
from twisted_netsuite.files.remotetree import RemoteTree
from twisted_netsuite.files.transfer import getFile, putFile

Tree = LocalTree | RemoteTree

#: What became of a file.
Carried = Got | Sent | NetsuiteError

#: Bytes of a file beyond which it goes alone: what it costs to ask for it does not count any more.
SMALL = 64 * 1024

#: Bytes of files that go together: while one load is written the next is on its way.
LOAD = BUNDLE_BYTES // 2


def loads(transfers: Iterable[Transfer], before: int = 0) -> Iterator[list[Transfer]]:
    """
    Put together what goes together.

    @param transfers: all files, in order.
    @param before: bytes that stand before the name of each at the server: those of its tree.
    @return: the same: larger ones alone, and small ones with those that follow.
    """
    load: list[Transfer] = []
    size = names = 0
    for each in transfers:
        entry = each.entry
        if entry.size > SMALL:
            yield [each]
            continue
        if len(load) == BUNDLE_FILES or size + entry.size > LOAD or names > BUNDLE_NAMES:
            yield load
            load, size, names = [], 0, 0
        load.append(each)
        size += entry.size
        names += before + len(entry.name)
    if load:
        yield load


def weigh(load: Sequence[Transfer]) -> int:
    """
    Tell how many bytes a load has.

    @param load: its files.
    @return: bytes.
    """
    return sum(each.entry.size for each in load)


class Carriage:
    """Carries files from one tree to another."""

    def __init__(self, source: Tree, target: Tree, wishes: Wishes, progress: Progress) -> None:
        """
        @param source: where they are.
        @param target: where they are to be; one of both is here, and one at a server.
        @param wishes: how.
        @param progress: hears of bytes.
        """
        self._source = source
        self._target = target
        self._wishes = wishes
        self._progress = progress

    def carry(self, load: list[Transfer]) -> Deferred[list[Carried]]:
        """
        Carry some files.

        @param load: as L{loads} has put them together.
        @return: fires with what became of each. Cancelling it leaves whole files, and what can be
            gone on with. Fails with what has become of the session.
        """
        return Deferred.fromCoroutine(self._carry(load))

    async def _carry(self, load: list[Transfer]) -> list[Carried]:
        if len(load) == 1:
            return [await self._alone(load[0].entry, load[0].entry.facts)]
        carried = await self._together(load)
        for index, became in enumerate(carried):
            if isinstance(became, SourceChanged | Corrupted):
                carried[index] = await self._alone(load[index].entry, None)
            elif not isinstance(became, NetsuiteError):
                self._progress.moved(load[index].entry.size)
        return carried

    async def _together(self, load: list[Transfer]) -> list[Carried]:
        source, target = self._source, self._target
        if isinstance(source, RemoteTree) and isinstance(target, LocalTree):
            items = [
                Item(source.nameOf(each.entry), target.file(each.entry), each.entry.facts)
                for each in load
            ]
            return [*await getBundle(source.sessions, items, self._wishes)]
        assert isinstance(source, LocalTree) and isinstance(target, RemoteTree)
        items = [Item(target.nameOf(each.entry), source.file(each.entry)) for each in load]
        return [*await putBundle(target.sessions, items, self._wishes)]

    async def _alone(self, entry: TreeEntry, facts: Facts | None) -> Carried:
        moved = _Moved(self._progress)
        try:
            try:
                return await self._begin(entry, facts, moved)
            except SourceChanged:
                # Since it was listed, or while it came: what it is now is as good.
                moved.undo()
                return await self._begin(entry, None, moved)
        except NetsuiteError:
            return itsOwn(Failure())

    def _begin(
        self, entry: TreeEntry, facts: Facts | None, moved: Moved
    ) -> Deferred[Got] | Deferred[Sent]:
        source, target = self._source, self._target
        if isinstance(source, RemoteTree) and isinstance(target, LocalTree):
            return getFile(
                source.sessions,
                source.nameOf(entry),
                target.file(entry),
                facts=facts,
                moved=moved,
                **self._wishes,
            )
        assert isinstance(source, LocalTree) and isinstance(target, RemoteTree)
        return putFile(
            target.sessions, source.file(entry), target.nameOf(entry), moved=moved, **self._wishes
        )


class _Moved:
    """Tells how much of one file is there."""

    __slots__ = ("_count", "_progress")

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._count = 0

    def __call__(self, count: int) -> None:
        self._count += count
        self._progress.moved(count)

    def undo(self) -> None:
        """All of it has to come again."""
        self(-self._count)
