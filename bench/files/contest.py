"""
The parts of the contest that are made of rounds: what is in a round, and how the rounds go.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.files.contestants import CONTESTANTS, Contestant, Sides
from bench.files.scratch import Scratch
from bench.files.spending import Spent, spent
from bench.measure import Figures, Measure, Rounds
from bench.processes import BenchFailure
from bench.targets import Target


@dataclass(frozen=True)
class Size:
    """
    How much is measured.

    @ivar rounds: of each part.
    @ivar bulk: bytes of the one large file.
    @ivar files: in a tree.
    @ivar fileSize: bytes of each of them.
    @ivar resumed: bytes of the file that is broken off.
    @ivar clients: at once, in the crowd.
    @ivar each: bytes that each of them moves.
    @ivar within: seconds after which no other round of a part begins, however slow the machine is.
    """

    rounds: int
    bulk: int
    files: int
    fileSize: int
    resumed: int
    clients: int
    each: int
    within: float


@dataclass(frozen=True)
class Trial:
    """
    One contestant's turn.

    @ivar figures: takes what is found, also when something later fails.
    """

    sides: Sides
    scratch: Scratch
    size: Size
    figures: Figures

    def spent(self, words: Sequence[str]) -> Spent:
        """
        Run a client to its end, with nothing left to write from before.

        @raise BenchFailure: it failed.
        """
        if not self.scratch.system.startswith("tmpfs"):
            os.sync()
        return spent(words, self.sides.server)


@dataclass(frozen=True)
class Part:
    """
    One part of the contest.

    @ivar names: of the contestants.
    @ivar baseline: whose figures the others' are divided by.
    @ivar room: bytes that its files need.
    @ivar prepare: makes what is moved.
    @ivar trial: measures one contestant.
    @ivar disk: whether the files are to lie on a disk, and not in memory.
    """

    name: str
    title: str
    names: tuple[str, ...]
    baseline: str
    measures: tuple[Measure, ...]
    targets: tuple[Target, ...]
    room: Callable[[Size], int]
    prepare: Callable[[Scratch, Size], None]
    trial: Callable[[Trial], None]
    disk: bool = False

    def among(self, only: Sequence[str] | None) -> list[Contestant]:
        """
        Tell its contestants, by name; the baseline is always among them.
        """
        chosen = self.names if only is None else {*only, self.baseline}.intersection(self.names)
        return [each for each in CONTESTANTS if each.name in chosen]


def run(
    part: Part, contestants: Sequence[Contestant], size: Size, place: Scratch, cipher: str
) -> Rounds:
    """
    Measure all contestants in turn, each round begun by another one: what changes on the machine
    meanwhile meets them all.

    @param cipher: for whoever speaks SSH.
    """
    result = Rounds()
    part.prepare(place, size)
    began = time.monotonic()
    for number in range(size.rounds):
        if number and time.monotonic() - began > size.within:
            print(f"no time for round {number + 1}", file=sys.stderr)
            break
        first = number % len(contestants)
        # All have a place in each round, whether they come to a figure or not.
        result.figures.append({each.name: {} for each in contestants})
        for each in [*contestants[first:], *contestants[:first]]:
            print(f"{part.name}, round {number + 1} of {size.rounds}: {each.name}", file=sys.stderr)
            figures = result.figures[-1][each.name]
            try:
                with each.running(place.served, cipher) as sides:
                    part.trial(Trial(sides, place, size, figures))
            except BenchFailure as why:
                failure = {"round": number + 1, "competitor": each.name, "why": str(why)}
                result.failures.append({**failure})
                print(f"    failed: {why}", file=sys.stderr)
    return result
