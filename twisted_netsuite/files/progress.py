"""
What is told of a run over a tree: to whoever watches, and at its end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from twisted_netsuite.errors import Incomplete, NetsuiteError
from twisted_netsuite.files.plan import Plan, Why

#: What became of an entry: why it was transferred, or what else was done.
How = Why | Literal["made", "changed", "deleted"]

#: Failures that are kept to be told; more are counted. Nobody reads on, and memory has an end.
MAX_FAILURES = 10_000


class Progress(Protocol):
    """Whoever watches."""

    def planned(self, files: int, bytes: int) -> object:
        """
        Note what there is to transfer.

        @param files: how many files.
        @param bytes: how many these have.
        """

    def moved(self, bytes: int) -> object:
        """
        Note that more is there.

        @param bytes: how many; fewer than none when some have to come again.
        """

    def finished(self, name: bytes, how: How) -> object:
        """
        Note that an entry is done.

        @param name: from the top of the tree on.
        @param how: what was done.
        """

    def failed(self, name: bytes, error: NetsuiteError) -> object:
        """
        Note that an entry is not done.

        @param name: from the top of the tree on.
        @param error: why.
        """


class Unwatched:
    """Nobody watches."""

    def planned(self, files: int, bytes: int) -> None:
        """Nothing to do."""

    def moved(self, bytes: int) -> None:
        """Nothing to do."""

    def finished(self, name: bytes, how: How) -> None:
        """Nothing to do."""

    def failed(self, name: bytes, error: NetsuiteError) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class Failed:
    """
    What could not be done.

    @ivar name: from the top of the tree on.
    @ivar error: why.
    """

    name: bytes
    error: NetsuiteError


@dataclass
class Outcome:
    """
    What became of a plan.

    @ivar plan: what there was to do.
    @ivar carriedOut: whether it was done; not in a dry run, nor when removing was not wanted.
    @ivar links: symbolic links at this end that were skipped.
    @ivar special: sockets, devices and the like at this end that were skipped.
    @ivar told: names of the first of those.
    @ivar files: how many were transferred.
    @ivar bytes: how many came over the connection for that.
    @ivar failures: what could not be done, or not be read; at most L{MAX_FAILURES}.
    @ivar failed: how many that are.
    @ivar spared: how many entries were not removed, as something had failed before.
    """

    plan: Plan
    carriedOut: bool = False
    links: int = 0
    special: int = 0
    told: list[bytes] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    failures: list[Failed] = field(default_factory=list)
    failed: int = 0
    spared: int = 0


class TreeIncomplete(Incomplete):
    """
    A tree was transferred, but for some of it.

    @ivar outcome: what was done, and what not.
    """

    def __init__(self, sentence: str, outcome: Outcome) -> None:
        """
        @param sentence: for a person.
        @param outcome: what was done, and what not.
        """
        super().__init__(sentence)
        self.outcome = outcome
