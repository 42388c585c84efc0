"""
Making one tree as another, one of them here and one at a server: the order in which it is done, and
what becomes of failures. What there is to do is found by L{files.plan}.

First goes what stands in the way, then directories are made and files transferred, many at a time;
what is not wanted any more is removed when all that was successful. Last, directories get their
modes and times, which all of this would change. Whatever interrupts that leaves whole files, and
files that another run goes on with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import (
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    NetsuiteError,
    NotFound,
)
from twisted_netsuite.files.carrying import Carriage, Carried, Tree, loads, weigh
from twisted_netsuite.files.disk import Disk
from twisted_netsuite.files.entries import TreeEntry, shownName
from twisted_netsuite.files.flights import Flights, inThread, itsOwn, together
from twisted_netsuite.files.localtree import Deed, Found, LocalTree, heldText
from twisted_netsuite.files.plan import Change, Plan, PlanOptions, Transfer, planOf, toDigest
from twisted_netsuite.files.progress import (
    MAX_FAILURES,
    Failed,
    How,
    Outcome,
    Progress,
    TreeIncomplete,
    Unwatched,
)
from twisted_netsuite.files.remotetree import RemoteTree
from twisted_netsuite.files.transfer import Unconfirmed

#: Asked before anything is removed; what it returns, or its Deferred fires with, says whether to
#: go on.
Confirm = Callable[[Plan], "bool | Deferred[bool]"]

#: What is said of a source that is not there, with its name behind it.
NO_SOURCE = "There is no directory"

#: What the owner of a directory needs while things are put into it.
_OPEN = 0o700


@dataclass(frozen=True)
class SyncOptions(PlanOptions):
    """
    What is compared, and how it is carried out.

    @ivar yes: whether things are removed without asking.
    @ivar dryRun: whether nothing is done, but the plan made; what could not be done is counted as
        failed, and told, without any failure of the whole.
    @ivar durable: whether each file is on the disk, and not in memory only, before the next step;
        that takes a file of some kilobytes many times as long. Without it a power cut can cost the
        last seconds, which another run with C{checksum} finds.
    """

    yes: bool = False
    dryRun: bool = False
    durable: bool = False


def sync(
    source: Tree,
    target: Tree,
    options: SyncOptions | None = None,
    *,
    confirm: Confirm | None = None,
    progress: Progress | None = None,
) -> Deferred[Outcome]:
    """
    Make one tree as another.

    @param source: what the other shall be. Nothing of it is changed.
    @param target: what is changed; made when it is not there. One of both is here, and one at a
        server.
    @param options: what is compared, and how it is carried out.
    @param confirm: asked before anything is removed, unless C{yes} says so; without either nothing
        can be removed. Where this is tried several times, as by L{retrying}, L{once} asks once.
    @param progress: hears of each entry.
    @return: fires with what became of it. Cancelling it leaves files that are whole, and others
        that another run goes on with; it fires when all is at rest. Fails with L{TreeIncomplete}
        when something of it could not be done; with L{NotFound} when there is no source;
        L{ConnectionFailed} when the connection is lost, and another run goes on;
        L{ConfigurationError} when that cannot be asked for.
    """
    work = _Sync(source, target, options or SyncOptions(), progress or Unwatched())
    return Deferred.fromCoroutine(work.run(confirm))


def once(confirm: Confirm) -> Confirm:
    """
    Ask for each thing once, however often it is tried: as long as another try removes nothing else
    than what was agreed to, nobody is asked again.

    @param confirm: asks.
    @return: asks if it has to; for all tries of one pair of trees.
    """
    agreed: set[bytes] = set()

    async def asked(plan: Plan) -> bool:
        names = {entry.name for entry in (*plan.clear, *plan.delete)}
        if names <= agreed:
            return True
        answer = confirm(plan)
        yes = await answer if isinstance(answer, Deferred) else answer
        if yes:
            agreed.update(names)
        return yes

    return lambda plan: Deferred.fromCoroutine(asked(plan))


class _Sync:
    """One run."""

    def __init__(
        self, source: Tree, target: Tree, options: SyncOptions, progress: Progress
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._progress = progress
        self._outcome = Outcome(Plan())
        # Directories that could not be made, so that nothing in them needs to be tried.
        self._unmade: set[bytes] = set()
        # Those in which something is left that could not be removed.
        self._holding: set[bytes] = set()

    async def run(self, confirm: Confirm | None) -> Outcome:
        """Do all of it."""
        options = self._options
        if isinstance(self._source, RemoteTree) == isinstance(self._target, RemoteTree):
            raise ConfigurationError("One tree has to be here, and the other at a server.")
        if options.delete and not (options.yes or options.dryRun or confirm):
            raise ConfigurationError(
                "Nothing is removed unasked; say yes to that before, or give somebody to ask."
            )
        plan = await self._plan()
        self._outcome.plan = plan
        if options.dryRun:
            self._noteClashes(plan)
            return self._outcome
        if plan.removes and not await self._mayRemove(confirm):
            return self._outcome
        self._outcome.carriedOut = True
        await self._carryOut(plan)
        self._requireComplete()
        return self._outcome

    async def _mayRemove(self, confirm: Confirm | None) -> bool:
        if self._options.yes or confirm is None:
            return True
        answer = confirm(self._outcome.plan)
        return await answer if isinstance(answer, Deferred) else answer

    # Finding out what there is to do.

    async def _plan(self) -> Plan:
        options, patterns = self._options, self._options.patterns
        source, target = await together(
            Deferred.fromCoroutine(self._source.look(patterns)),
            Deferred.fromCoroutine(self._target.look(patterns)),
        )
        if source.top is None:
            raise NotFound(f"{NO_SOURCE} '{self._source.shown()}'.")
        self._note(source, target)
        ours, theirs = list(source.all()), list(target.all())
        if isinstance(self._target, RemoteTree) and self._target.isRoot:
            # What a server's root itself is like is for whoever runs it.
            ours, theirs = source.entries, target.entries
        if options.checksum:
            ours, theirs = await self._digested(ours, theirs)
        compared = plan = await self._compared(ours, theirs, options)
        unread = source.scan.unread
        if plan.delete and isinstance(self._source, RemoteTree):
            suspects = await inThread(self._disk, lambda stopped: _suspects(ours, compared))
            unread += await self._source.unreadable(suspects)
        if unread and plan.removes:
            # What is there, and so what is wanted no more, nobody knows.
            self._outcome.spared = plan.removes
            plan = await self._compared(ours, theirs, replace(options, delete=False))
        for each in [*unread, *target.scan.unread]:
            self._failed(each.name, Conflict(f"It cannot be read: {each.reason}."))
        return plan

    async def _compared(
        self, ours: list[TreeEntry], theirs: list[TreeEntry], options: SyncOptions
    ) -> Plan:
        # Of a large tree that takes seconds.
        return await inThread(self._disk, lambda stopped: planOf(ours, theirs, options))

    async def _digested(
        self, ours: list[TreeEntry], theirs: list[TreeEntry]
    ) -> tuple[list[TreeEntry], list[TreeEntry]]:
        options = self._options
        wanted = await inThread(self._disk, lambda stopped: toDigest(ours, theirs, options))
        mine, others = await together(
            Deferred.fromCoroutine(self._source.digests(wanted)),
            Deferred.fromCoroutine(self._target.digests(wanted)),
        )
        return _withDigests(ours, mine), _withDigests(theirs, others)

    @property
    def _disk(self) -> Disk:
        return next(
            tree.disk for tree in (self._source, self._target) if isinstance(tree, LocalTree)
        )

    def _note(self, *looks: Found) -> None:
        for look in looks:
            self._outcome.links += look.scan.links
            self._outcome.special += look.scan.special
            self._outcome.told += look.scan.told

    # Doing it.

    async def _carryOut(self, plan: Plan) -> None:
        self._progress.planned(plan.files, plan.bytes)
        self._noteClashes(plan)
        for opened in _levels(plan.open, deepest=False):
            await self._change(opened)
        await self._remove(plan.clear)
        await self._make(plan.make)
        options = self._options
        carriage = Carriage(
            self._source,
            self._target,
            {"clobber": options.clobber, "durable": options.durable, "preserve": True},
            self._progress,
        )
        await Flights(self._loads(plan.transfer), carriage.carry, self._carried, weigh).run()
        await self._change(plan.change)
        if self._outcome.failed:
            # A file that was to come under another name may be here under its old one only.
            self._outcome.spared += len(plan.delete)
        else:
            await self._remove(plan.delete)
        for level in _levels(plan.settle, deepest=True):
            await self._change([each for each in level if each.entry.name not in self._unmade])

    async def _remove(self, entries: Sequence[TreeEntry]) -> None:
        files = [entry for entry in entries if not entry.directory]
        directories = [entry for entry in entries if entry.directory]
        await self._do(Deed("remove", entry) for entry in files)
        for level in _levels(directories, deepest=True):
            await self._do(Deed("remove", entry) for entry in level)

    async def _make(self, entries: Sequence[TreeEntry]) -> None:
        for level in _levels(entries, deepest=False):
            deeds = []
            for entry in level:
                if self._isLost(entry):
                    self._unmade.add(entry.name)
                    self._failed(entry.name, _lost())
                else:
                    deeds.append(Deed("make", entry, mode=entry.mode | _OPEN))
            await self._do(deeds)

    async def _change(self, changes: Iterable[Change]) -> None:
        await self._do(Deed("change", each.entry, each.mode, each.mtime) for each in changes)

    async def _do(self, deeds: Iterable[Deed]) -> None:
        asked = list(deeds)
        if asked:
            await self._target.carryOut(asked, self._did)

    def _did(self, deed: Deed, error: NetsuiteError | None) -> None:
        name = deed.entry.name
        if error is None or (deed.do == "remove" and isinstance(error, NotFound)):
            self._progress.finished(name, _HOW[deed.do])
            return
        if deed.do == "make":
            self._unmade.add(name)
        elif deed.do == "remove":
            if isinstance(error, Conflict) and deed.entry.directory and name not in self._holding:
                # All went that is known to be in it.
                isThere = isinstance(self._target, RemoteTree)
                error = Conflict(heldText("the server" if isThere else "this machine"))
            self._holding.add(name.rpartition(b"/")[0])
        self._failed(name, error)

    def _isLost(self, entry: TreeEntry) -> bool:
        """Whether a directory that it would be in is not there."""
        return bool(entry.name) and entry.name.rpartition(b"/")[0] in self._unmade

    def _loads(self, transfers: Iterable[Transfer]) -> Iterator[list[Transfer]]:
        """Leave out what has nowhere to go."""
        there = (each for each in transfers if not self._isLostNow(each))
        remote = self._source if isinstance(self._source, RemoteTree) else self._target
        assert isinstance(remote, RemoteTree)
        return loads(there, len(remote.before))

    def _isLostNow(self, each: Transfer) -> bool:
        lost = self._isLost(each.entry)
        if lost:
            self._failed(each.entry.name, _lost())
        return lost

    def _carried(self, load: list[Transfer], result: list[Carried] | Failure) -> None:
        if isinstance(result, Failure):
            if isinstance(result.value, Unconfirmed):
                # Another run finds out about this file; it is not the one that failed.
                raise ConnectionFailed(result.value.sentence)
            for each in load:
                self._failed(each.entry.name, itsOwn(result))
            return
        for each, became in zip(load, result, strict=True):
            if isinstance(became, NetsuiteError):
                self._failed(each.entry.name, became)
                continue
            self._outcome.files += 1
            self._outcome.bytes += became.moved
            self._progress.finished(each.entry.name, each.why)

    # What could not be done.

    def _noteClashes(self, plan: Plan) -> None:
        for ours, theirs in plan.clashes:
            self._failed(ours.name, _clash(ours, theirs))

    def _failed(self, name: bytes, error: NetsuiteError) -> None:
        outcome = self._outcome
        outcome.failed += 1
        if len(outcome.failures) < MAX_FAILURES:
            outcome.failures.append(Failed(name, error))
        self._progress.failed(name, error)

    def _requireComplete(self) -> None:
        outcome = self._outcome
        if not outcome.failed:
            return
        first = outcome.failures[0]
        count = "1 entry" if outcome.failed == 1 else f"{outcome.failed} entries"
        spared = f", and so {outcome.spared} were not removed" if outcome.spared else ""
        raise TreeIncomplete(
            f"{count} of {self._source.shown()} could not be done{spared}; the first is "
            f"'{shownName(first.name)}': {first.error.sentence}",
            outcome,
        )


_HOW: dict[str, How] = {"make": "made", "change": "changed", "remove": "deleted"}


def _clash(ours: TreeEntry, theirs: TreeEntry) -> Conflict:
    kind, other = ("directory", "file") if ours.directory else ("file", "directory")
    assert theirs.directory != ours.directory
    return Conflict(f"It is a {kind}, and there is a {other} of that name; remove that first.")


def _lost() -> Conflict:
    return Conflict("The directory that it belongs into could not be made.")


def _withDigests(entries: list[TreeEntry], digests: dict[bytes, bytes]) -> list[TreeEntry]:
    return [
        each if (found := digests.get(each.name)) is None else each._replace(digest=found)
        for each in entries
    ]


def _suspects(source: list[TreeEntry], plan: Plan) -> list[TreeEntry]:
    """Find directories of a source that hold nothing, while things are to be removed from them."""
    losing = {entry.name.rpartition(b"/")[0] for entry in plan.delete}
    filled = {entry.name.rpartition(b"/")[0] for entry in source if entry.name}
    return [
        entry
        for entry in source
        if entry.directory and entry.name in losing and entry.name not in filled
    ]


E = TypeVar("E", TreeEntry, Change)


def _levels(items: Sequence[E], deepest: bool) -> Iterator[list[E]]:
    """Part what can be done at once: nothing of it is in anything else of it."""
    ordered = sorted(items, key=_depth, reverse=deepest)
    for _, level in groupby(ordered, _depth):
        yield list(level)


def _depth(item: TreeEntry | Change) -> int:
    name = item.entry.name if isinstance(item, Change) else item.name
    return name.count(b"/") + bool(name)
