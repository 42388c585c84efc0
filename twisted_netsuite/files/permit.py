"""
Whether something may be done with a file, and in which store it is. What is asked here is decided
before anything is opened; who asks, and what is written down of it, is in L{files.access}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from twisted_netsuite.errors import (
    ConfigurationError,
    Denied,
    InvalidName,
    LimitExceeded,
    NetsuiteError,
    StorageFailed,
)
from twisted_netsuite.files.access import Access
from twisted_netsuite.files.allowance import Allowance
from twisted_netsuite.files.names import MAX_DEPTH, MAX_NAME, Parts, isName, join
from twisted_netsuite.files.quota import Quotas
from twisted_netsuite.files.reservation import FREE, Reservation
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.files.store import Attributes, Store
from twisted_netsuite.trust.decisions import Decision
from twisted_netsuite.trust.identity import Identity
from twisted_netsuite.trust.oversight import Oversight, Withheld
from twisted_netsuite.trust.requests import Action
from twisted_netsuite.trust.rules import FilesRule

#: Files and directories that are looked at, to know whether each may be moved, where a directory
#: is: a second's work at the most, and a larger one can be moved in parts.
MAX_MOVED = 20_000

#: What is told where nothing says who may change files.
READ_ONLY = (
    "this service changes no files; its operator can allow that with --writable or a policy."
)

#: What is told of a root, or of what it keeps, that cannot be used.
UNUSABLE = "the file cannot be opened; the server's log says why."


@dataclass(frozen=True)
class Place:
    """
    A file or directory with which something may be done.

    @ivar parts: its name, from the root on.
    @ivar root: the whole path of the root.
    @ivar owner: who asked, as text.
    @ivar decision: what allows it.
    @ivar allowance: how much its owner may keep by that.
    @ivar durable: whether what is done there has to be on the disk then.
    @ivar roots: open its store.
    @ivar quotas: count what is kept; C{None} where nothing is counted.
    """

    parts: Parts
    root: str
    owner: str
    decision: Decision
    allowance: Allowance
    durable: bool
    roots: Roots = field(repr=False)
    quotas: Quotas | None = field(repr=False)
    _above: Callable[[Parts], Decision] = field(repr=False)

    @property
    def name(self) -> bytes:
        """Its name, with a leading slash."""
        return join(self.parts)

    @property
    def rule(self) -> FilesRule | None:
        """The rule that allows it; C{None} where the service's own options do."""
        return self.decision.rule if isinstance(self.decision.rule, FilesRule) else None

    @property
    def store(self) -> Store:
        """
        Where it is kept; the first look at a rule's own root blocks, so look in a thread.

        @raise Withheld: when the root cannot be opened.
        """
        try:
            return self.roots.at(self.root)
        except ConfigurationError as error:
            where = self.decision.source or "the service"
            raise Withheld(UNUSABLE, f"{where}: {error.sentence}") from error

    def held(self) -> AbstractContextManager[None]:
        """
        Do something here while nobody changes the name, nor that of a directory above: it was
        asked about, and is counted, by this one. To wait for that blocks.

        @return: holds the name.
        """
        if self.bound:
            return self.roots.locks.sharing(self.parts)
        return nullcontext()

    @property
    def bound(self) -> bool:
        """Whether it matters by which name something is done."""
        return self.rule is not None or self.quotas is not None

    def reserve(self, size: int, source: bytes | None = None) -> Reservation:
        """
        Take room for a file that is to be written here; this blocks.

        @param size: its bytes.
        @param source: as L{store.Wanted} has it.
        @return: to be published, kept or released.
        @raise LimitExceeded: when its owner may not keep so much.
        """
        self.requireCounted()
        self.allowance.requireSize(size)
        if self.quotas is None:
            return FREE
        return self.quotas.reserve(self.owner, self.root, self.parts, size, self.allowance, source)

    def makeDirectory(
        self,
        mode: int | None,
        parents: bool,
        made: Callable[[Parts], object] = lambda parts: None,
    ) -> None:
        """
        Make a directory here; this blocks.

        @param mode: permission bits; C{None} for the usual ones.
        @param parents: whether to make those that it is to be in, too.
        @param made: called with the name of each of those that was made, also when the rest fails.
        @raise Withheld: when one of these may not be made.
        @raise NetsuiteError: as L{Store.makeDirectory}.
        """
        store = self.store
        with self.held():
            missing = self._missingAbove() if parents else []
            for above in missing if self.rule is not None else ():
                decision = self._above(above)
                if not decision.allowed:
                    raise Withheld(
                        "the policy of this service does not allow to make the directories above.",
                        decision.reason,
                    )
            try:
                store.makeDirectory(self.parts, mode, parents, self.durable)
            finally:
                for above in missing:
                    if self.roots.look(self.root, above) is not None:
                        made(above)

    def _missingAbove(self) -> list[Parts]:
        """List the directories above that are not there, the highest first."""
        missing: list[Parts] = []
        for length in range(len(self.parts) - 1, 0, -1):
            if self.roots.look(self.root, self.parts[:length]) is not None:
                break
            missing.insert(0, self.parts[:length])
        return missing

    def remove(self) -> None:
        """Remove what is here, and count it for nobody; this blocks."""
        with self.held():
            self.store.remove(self.parts, self.durable)
            if self.quotas is not None:
                self.quotas.removed(self.root, self.parts)

    def requireCounted(self) -> None:
        """
        Require that what is bounded can be counted.

        @raise Withheld: when it cannot.
        """
        if self.quotas is None and self.allowance.counted:
            where = self.decision.source or "the service"
            raise Withheld(
                "this service cannot count what you keep; the server's log says why.",
                f"{where}: a quota needs a state directory, and the service has none.",
            )


@dataclass(frozen=True)
class Move:
    """
    A change of a name that may be made.

    @ivar source: what has the name.
    @ivar target: where it will be.
    """

    source: Place
    target: Place
    _below: Callable[[Parts, Parts, int], Decision | None] = field(repr=False)

    def make(self, clobber: bool) -> None:
        """
        Make it; this blocks.

        @param clobber: whether a file of the new name is replaced.
        @raise Withheld: when it is a directory, and something in it may not be moved.
        @raise LimitExceeded: when the owner may not keep so much there, or when there is too much
            in it to be asked about.
        @raise InvalidName: when something in it would get a name that is none.
        @raise Conflict: when something in it is published for long.
        @raise NetsuiteError: as L{Store.rename}.
        """
        source, target = self.source, self.target
        if not source.parts or not target.parts:
            self._rename(clobber)  # Which says that it cannot be.
            return
        with self._alone():
            self._requireAll()
            target.requireCounted()
            if target.quotas is None:
                self._rename(clobber)
                return
            id = target.quotas.beginRename(
                target.owner, target.root, source.parts, target.parts, target.allowance
            )
            done: bool | None = None
            try:
                self._rename(clobber)
                done = True
            except StorageFailed:
                raise  # It may have been renamed, and the disk may have failed after that.
            except NetsuiteError:
                done = False
                raise
            finally:
                target.quotas.endRename(id, done)

    def _alone(self) -> AbstractContextManager[None]:
        """What is asked about now stays all that is in it, and is counted by one name."""
        if self.source.bound:
            return self.source.roots.locks.taking(self.source.parts, self.target.parts)
        return nullcontext()

    def _rename(self, clobber: bool) -> None:
        source, target = self.source, self.target
        source.store.rename(source.parts, target.parts, clobber, target.durable)

    def _requireAll(self) -> None:
        """
        Ask about the file, or about all that is in the directory: by its new name it may be open
        to others, too large, or none that anybody could ask for. Where all may be done by any name
        a large directory is not looked at to its end.
        """
        store, source = self.source.store, self.source.parts
        asks = self.source.rule is not None or self.target.allowance.maxSize is not None
        if not (asks or self._deepens()):
            return
        found = store.stat(source)
        if found.kind == "file":
            self._requireOne((), found)
            return
        for count, (below, attributes) in enumerate(_walk(store, source, self._requireNoLink)):
            if count == MAX_MOVED:
                if not asks:
                    return
                raise LimitExceeded(
                    f"There are more than {MAX_MOVED} files and directories in it; move them in "
                    "parts."
                )
            self._requireOne(below, attributes)

    def _deepens(self) -> bool:
        """Tell whether names get longer, or have more parts."""
        source, target = self.source.parts, self.target.parts
        return len(target) > len(source) or len(join(target)) > len(join(source))

    def _requireOne(self, below: Parts, attributes: Attributes) -> None:
        target = self.target.parts + below
        if not isName(target):
            raise InvalidName(
                f"What is in it would get a name of more than {MAX_DEPTH} parts or {MAX_NAME} "
                "bytes; move it to where it is not so deep."
            )
        denied = self._below(self.source.parts + below, target, attributes.size)
        if denied is not None:
            raise Withheld(
                "the policy of this service does not allow to move all that is in it.",
                denied.reason,
            )

    def _requireNoLink(self, directory: Parts) -> None:
        """What a link leads to depends on where it is, and the policy was not asked about that."""
        if self.source.rule is not None and self.source.store.holdsLink(directory):
            raise Denied(
                "There are symbolic links in it, which would lead to something else from there; "
                "its operator can move it."
            )


def _walk(
    store: Store, top: Parts, enter: Callable[[Parts], object]
) -> Iterator[tuple[Parts, Attributes]]:
    """List what is below a directory, by names from there on."""
    waiting: list[Parts] = [()]
    while waiting:
        directory = waiting.pop()
        enter(top + directory)
        for entry in store.list(top + directory):
            below = (*directory, entry.name)
            yield below, entry.attributes
            if entry.attributes.kind == "directory":
                waiting.append(below)


class Permit:
    """
    Decides for one service.

    @ivar roots: the stores that it decides about.
    """

    def __init__(
        self,
        oversight: Oversight,
        roots: Roots,
        *,
        writable: bool = False,
        durable: bool = False,
        allowance: Allowance | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        """
        @param oversight: has the policy and the audit log. Without a policy everything may be read.
        @param roots: the service's own root, and those of rules.
        @param writable: whether everything may be changed, too, where there is no policy.
        @param durable: whether every file is to be on the disk once it is published, whatever its
            sender asks for, and so is each change of a name.
        @param allowance: what one identity may keep, where no rule says.
        @param quotas: counts that; without it nothing is counted, and what has to be is refused.
        """
        self.roots = roots
        self._oversight = oversight
        self._writable = writable
        self._durable = durable
        self._allowance = allowance or Allowance()
        self._quotas = quotas

    def access(self, identity: Identity, address: str) -> Access:
        """
        Decide for one peer.

        @param identity: who it is.
        @param address: its address, for the audit log.
        @return: decides.
        """
        return Access(self, self._oversight, identity, address)

    def open(self) -> None:
        """
        Open the service's own root and what counts; this blocks.

        @raise ConfigurationError: when that cannot be.
        """
        self.roots.at(self.roots.own)
        if self._quotas is not None:
            self._quotas.open(self.roots.look)

    def close(self) -> None:
        """Close all that was opened; this blocks."""
        if self._quotas is not None:
            self._quotas.close()
        self.roots.close()

    def decide(self, identity: Identity, action: Action, parts: Parts) -> Decision:
        """
        Decide about a name.

        @param identity: who asks.
        @param action: what for.
        @param parts: the name.
        @return: the answer.
        """
        if not self._oversight.guarded:
            if action == "read" or self._writable:
                return Decision(True, "The options of the service allow it.", False)
            return Decision(False, READ_ONLY, False)
        return self._oversight.decide(lambda policy: policy.files(identity, action, join(parts)))

    def place(self, identity: Identity, decision: Decision, parts: Parts) -> Place:
        """
        Tell where something is.

        @param identity: who asks.
        @param decision: allows it.
        @param parts: its name.
        @return: where.
        """
        return Place(
            parts,
            self.rootOf(decision),
            str(identity),
            decision,
            self.allowance(decision),
            self._durable,
            self.roots,
            self._quotas,
            partial(self.decide, identity, "write"),
        )

    def allowance(self, decision: Decision) -> Allowance:
        """
        Tell how much may be kept.

        @param decision: allows to write.
        @return: what its rule says, or the service.
        """
        rule = decision.rule
        return self._allowance.under(rule) if isinstance(rule, FilesRule) else self._allowance

    def move(
        self, source: Place, target: Place, below: Callable[[Parts, Parts, int], Decision | None]
    ) -> Move:
        """
        Let a name be changed.

        @param source: what has the name.
        @param target: where it will be.
        @param below: tells what denies to move it, or something that is in it, if anything does,
            given both names and its bytes; raises L{LimitExceeded} when these are too many.
        @return: to be made.
        """
        return Move(source, target, below)

    def rootOf(self, decision: Decision) -> str:
        """
        Tell by which root a name is looked up.

        @param decision: allows it.
        @return: a whole path.
        """
        rule = decision.rule
        if not isinstance(rule, FilesRule) or rule.root is None:
            return self.roots.own
        return rule.root

    @property
    def guarded(self) -> bool:
        """Whether a policy decides."""
        return self._oversight.guarded
