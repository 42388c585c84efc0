"""
The plan of making one tree as another is: what there is to do, found by comparing both.

Nothing is looked at here and nothing is done. What is compared are lists of entries; how a plan is
written for people and programs is in L{files.itemize}, what carries it out in L{files.sync}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.files.entries import TreeEntry, shownName
from twisted_netsuite.files.patterns import EVERYTHING, Patterns

#: Why a file is transferred: it is not there, or is other in this.
Why = Literal["new", "size", "mtime", "content"]

#: What file systems count times in, beside nanoseconds: of a file that went through one of these
#: nothing finer is known.
_UNITS = (1_000_000_000, 1_000, 100)

#: What the owner of a directory needs to change what is in it.
_OPEN = 0o700


@dataclass(frozen=True)
class PlanOptions:
    """
    What is compared, and what is done about it.

    @ivar checksum: whether files of the same size are the same when their digests are, and not
        their times.
    @ivar delete: whether what only the target has is removed, and a file or directory where the
        source has the other gives way.
    @ivar patterns: what is left out on both sides: it is neither transferred nor removed.
    @ivar window: nanoseconds by which times of the same may differ; where one side knows them in
        coarser units only, they are compared in these.
    @ivar clobber: whether files that are there may be replaced, or changed at all.
    """

    checksum: bool = False
    delete: bool = False
    patterns: Patterns = EVERYTHING
    window: int = 0
    clobber: bool = True


class Transfer(NamedTuple):
    """
    A file to transfer.

    @ivar entry: as the source has it.
    @ivar why: why.
    @ivar there: as the target has it; C{None} when it is new.
    """

    entry: TreeEntry
    why: Why
    there: TreeEntry | None


class Change(NamedTuple):
    """
    A file or directory of which only what is known of it changes.

    @ivar entry: as the source has it.
    @ivar there: as the target has it; C{None} for a directory that is made before.
    @ivar mode: what is to be set, or C{None}.
    @ivar mtime: what is to be set, or C{None}.
    """

    entry: TreeEntry
    there: TreeEntry | None
    mode: int | None
    mtime: int | None


class Clash(NamedTuple):
    """
    A file where the other side has a directory, or the other way round; what is below is left out.

    @ivar entry: as the source has it.
    @ivar there: as the target has it.
    """

    entry: TreeEntry
    there: TreeEntry


@dataclass(slots=True)
class Plan:
    """
    What there is to do, in the order of these lists.

    @ivar open: directories in which things change, and whose own mode does not allow that; each
        before what is in it.
    @ivar clear: what stands in the way of something of another kind; what is in a directory before
        it.
    @ivar make: directories that are missing, each before what is in it.
    @ivar transfer: files.
    @ivar change: files whose contents are right.
    @ivar settle: directories whose mode or time is not right, or will not be after all that is done
        in them; what is in a directory before it.
    @ivar delete: what only the target has; what is in a directory before it.
    @ivar clashes: what cannot be done.
    @ivar unchanged: files whose contents are right.
    @ivar kept: files that are other than in the source, and may not be replaced.
    @ivar files: how many are transferred.
    @ivar bytes: how many these have.
    """

    open: list[Change] = field(default_factory=list)
    clear: list[TreeEntry] = field(default_factory=list)
    make: list[TreeEntry] = field(default_factory=list)
    transfer: list[Transfer] = field(default_factory=list)
    change: list[Change] = field(default_factory=list)
    settle: list[Change] = field(default_factory=list)
    delete: list[TreeEntry] = field(default_factory=list)
    clashes: list[Clash] = field(default_factory=list)
    unchanged: int = 0
    kept: int = 0
    files: int = 0
    bytes: int = 0

    @property
    def removes(self) -> int:
        """How many files and directories are removed, also to make way for others."""
        return len(self.clear) + len(self.delete)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do, and nothing that cannot be done."""
        return not (
            self.clear
            or self.make
            or self.transfer
            or self.change
            or self.settle
            or self.delete
            or self.clashes
        )


def planOf(source: Iterable[TreeEntry], target: Iterable[TreeEntry], options: PlanOptions) -> Plan:
    """
    Compare two trees.

    @param source: what the target shall be; in any order. An entry with an empty name is the top.
    @param target: what it is; in any order. With C{delete}, also what the patterns leave out, but
        nothing below that.
    @param options: what is compared.
    @return: what there is to do.
    @raise ProtocolError: when a name is there twice in one of them.
    """
    planning = _Planning(options)
    for ours, theirs in _pairs(source, target, options.patterns, planning.held):
        if theirs is None:
            if ours is not None:
                planning.missing(ours)
        elif ours is None:
            planning.surplus(theirs)
        else:
            planning.both(ours, theirs)
    return planning.finish()


def toDigest(
    source: Iterable[TreeEntry], target: Iterable[TreeEntry], options: PlanOptions
) -> list[TreeEntry]:
    """
    Find the files whose digests a plan with C{checksum} has to know; the others are not read.

    @param source: as for L{planOf}.
    @param target: as for L{planOf}.
    @param options: what is compared.
    @return: those of the source that are in the target with the same size.
    """
    return [
        ours
        for ours, theirs in _pairs(source, target, options.patterns, set())
        if ours is not None
        and theirs is not None
        and not ours.directory
        and not theirs.directory
        and ours.size == theirs.size
    ]


def sameTime(one: int, other: int, window: int) -> bool:
    """
    Tell whether two times are the same, as far as both sides know.

    A time that is a whole number of seconds, or of the units of 1000 or 100 ns, may come from where
    there is nothing finer; then the other is compared as it would be there.

    @param one: nanoseconds since 1970.
    @param other: the same.
    @param window: nanoseconds by which they may differ.
    @return: whether they are.
    """
    if one == other or abs(one - other) <= window:
        return True
    for unit in _UNITS:
        if one % unit == 0 or other % unit == 0:
            return one // unit == other // unit
    return False


class _Planning:
    """
    Makes a plan of pairs of entries that come in order.

    @ivar held: directories of the target that hold what the patterns leave out: they stay.
    """

    def __init__(self, options: PlanOptions) -> None:
        self.held: set[bytes] = set()
        self._options = options
        self._plan = Plan()
        self._directories: list[tuple[TreeEntry, TreeEntry | None]] = []
        # Those that the target alone has, and that are removed, or something in them.
        self._surplus: list[TreeEntry] = []
        # Directories whose times change by what is done in them.
        self._touched: set[bytes] = set()
        # What begins with these is not made; is removed to make way; is not removed. They have
        # slashes at their ends.
        self._left: bytes | None = None
        self._cleared: bytes | None = None
        self._spared: bytes | None = None

    def missing(self, ours: TreeEntry) -> None:
        """The target does not have it."""
        if self._left is not None and ours.name.startswith(self._left):
            return
        if ours.name in self.held:
            # It is there after all, and left out, as ours is not: so it is of the other kind.
            self._clash(ours, TreeEntry(ours.name, not ours.directory))
            return
        self._touch(ours)
        if ours.directory:
            self._plan.make.append(ours)
            self._directories.append((ours, None))
        else:
            self._transfer(ours, "new", None)

    def surplus(self, theirs: TreeEntry) -> None:
        """The source does not have it."""
        name = theirs.name
        if not self._options.delete or not name:
            return
        if self._spared is not None and name.startswith(self._spared):
            return
        if theirs.directory:
            self._surplus.append(theirs)
        if name in self.held:
            return
        self._touch(theirs)
        if self._cleared is not None and name.startswith(self._cleared):
            self._plan.clear.append(theirs)
        else:
            self._plan.delete.append(theirs)

    def both(self, ours: TreeEntry, theirs: TreeEntry) -> None:
        """Both have it."""
        if ours.directory != theirs.directory:
            self._clash(ours, theirs)
        elif ours.directory:
            self._directories.append((ours, theirs))
        else:
            self._compare(ours, theirs)

    def finish(self) -> Plan:
        """Add what follows from all the rest."""
        plan = self._plan
        plan.clear.reverse()
        plan.delete.reverse()
        for ours, there in self._directories:
            self._settle(ours, there)
        for theirs in self._surplus:
            if self._opens(theirs) and theirs.name in self.held:
                plan.settle.append(Change(theirs, theirs, theirs.mode, None))
        plan.open.sort(key=lambda change: _order(change.entry))
        plan.settle.sort(key=lambda change: _order(change.entry), reverse=True)
        return plan

    def _compare(self, ours: TreeEntry, theirs: TreeEntry) -> None:
        options = self._options
        sameTimes = sameTime(ours.mtime, theirs.mtime, options.window)
        why: Why | None = None
        if ours.size != theirs.size:
            why = "size"
        elif not options.checksum:
            why = None if sameTimes else "mtime"
        elif ours.digest is None or ours.digest != theirs.digest:
            why = "content"
        mode = ours.mode if ours.mode != theirs.mode else None
        mtime = None if sameTimes else ours.mtime
        isOther = why is not None or mode is not None or mtime is not None
        if isOther and not options.clobber:
            self._plan.kept += 1
        elif why is not None:
            self._touch(ours)
            self._transfer(ours, why, theirs)
        else:
            self._plan.unchanged += 1
            if isOther:
                self._plan.change.append(Change(ours, theirs, mode, mtime))

    def _clash(self, ours: TreeEntry, theirs: TreeEntry) -> None:
        below = ours.name + b"/"
        options = self._options
        if not (options.delete and options.clobber and ours.name) or ours.name in self.held:
            self._plan.clashes.append(Clash(ours, theirs))
            self._left = self._spared = below
            return
        self._plan.clear.append(theirs)
        if theirs.directory:
            self._surplus.append(theirs)
        self._cleared = below
        self.missing(ours)

    def _transfer(self, ours: TreeEntry, why: Why, theirs: TreeEntry | None) -> None:
        self._plan.transfer.append(Transfer(ours, why, theirs))
        self._plan.files += 1
        self._plan.bytes += ours.size

    def _touch(self, entry: TreeEntry) -> None:
        if entry.name:
            self._touched.add(entry.name.rpartition(b"/")[0])

    def _settle(self, ours: TreeEntry, theirs: TreeEntry | None) -> None:
        if theirs is None:
            self._plan.settle.append(Change(ours, None, ours.mode, ours.mtime))
            return
        touched = ours.name in self._touched
        mode = ours.mode if self._opens(theirs) or ours.mode != theirs.mode else None
        same = sameTime(ours.mtime, theirs.mtime, self._options.window)
        mtime = ours.mtime if touched or not same else None
        if mode is not None or mtime is not None:
            self._plan.settle.append(Change(ours, theirs, mode, mtime))

    def _opens(self, theirs: TreeEntry) -> bool:
        """Open a directory, if things are done in it, and its mode does not allow that."""
        if theirs.name not in self._touched or theirs.mode & _OPEN == _OPEN:
            return False
        self._plan.open.append(Change(theirs, theirs, theirs.mode | _OPEN, None))
        return True


Pair = tuple[TreeEntry | None, TreeEntry | None]


def _pairs(
    source: Iterable[TreeEntry],
    target: Iterable[TreeEntry],
    patterns: Patterns,
    held: set[bytes],
) -> Iterator[Pair]:
    """
    Bring together what has one name; what is in a directory comes behind it, before all else.

    @param held: gets the target's directories that hold something that the patterns leave out; it
        is complete before the first pair.
    """
    kept = iter(list(_taken(target, patterns, held)))
    taken = _taken(source, patterns, set())
    ours, theirs = next(taken, None), next(kept, None)
    while ours is not None or theirs is not None:
        if theirs is None or (ours is not None and _before(ours, theirs)):
            yield ours, None
            ours = next(taken, None)
        elif ours is None or ours.name != theirs.name:
            yield None, theirs
            theirs = next(kept, None)
        else:
            yield ours, theirs
            ours, theirs = next(taken, None), next(kept, None)


def _before(one: TreeEntry, other: TreeEntry) -> bool:
    return one.name != other.name and _order(one) < _order(other)


def _order(entry: TreeEntry) -> bytes:
    # With the lowest byte for a slash nothing stands between a directory and what is below it.
    return entry.name.replace(b"/", b"\0")


def _taken(
    entries: Iterable[TreeEntry], patterns: Patterns, held: set[bytes]
) -> Iterator[TreeEntry]:
    """Put entries in order, and leave out what the patterns leave out."""
    outside: bytes | None = None
    last: bytes | None = None
    for entry in sorted(entries, key=_order):
        name = entry.name
        if name == last:
            raise ProtocolError(
                f"The name '{shownName(name)}' is in a tree twice; nothing is done with it."
            )
        last = name
        if outside is not None:
            if name.startswith(outside):
                continue
            outside = None
        if name and patterns.excludes(name, entry.directory):
            _hold(name, held)
            if entry.directory:
                outside = name + b"/"
            continue
        yield entry


def _hold(name: bytes, held: set[bytes]) -> None:
    """Keep a name, and the directories in which it is."""
    while name and name not in held:
        held.add(name)
        name = name.rpartition(b"/")[0]
