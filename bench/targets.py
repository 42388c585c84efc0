"""
Targets that the figures of a contest are held against.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.measure import Figures, Measure, Rounds, Spread, spread


@dataclass(frozen=True)
class Target:
    """
    What a figure, or the ratio of two contestants' figures, is to be.

    @ivar over: whose figure C{of}'s is divided by; C{None} for the figure itself.
    @ivar least: whether C{bound} is the least it may be, or the most.
    """

    title: str
    measure: Measure
    of: str
    over: str | None
    least: bool
    bound: float


@dataclass(frozen=True)
class Reached:
    """
    How a target was reached over the rounds, judged by the median.
    """

    title: str
    measure: str
    least: bool
    bound: float
    spread: Spread
    met: bool


def reached(targets: Sequence[Target], rounds: Rounds) -> list[Reached]:
    """
    Hold the figures against the targets; one whose contestants were not measured is left out.
    """
    result = []
    for target in targets:
        if values := [value for each in rounds.figures for value in _values(target, each)]:
            found = spread(values)
            met = found.median >= target.bound if target.least else found.median <= target.bound
            key = target.measure.key
            result.append(Reached(target.title, key, target.least, target.bound, found, met))
    return result


def _values(target: Target, figures: dict[str, Figures]) -> list[float]:
    """
    Tell the value of a target in one round, if it has one.
    """
    of = figures.get(target.of, {}).get(target.measure.key)
    if target.over is None or of is None:
        return [] if of is None else [of]
    over = figures.get(target.over, {}).get(target.measure.key)
    return [] if over is None else [of / over]


def lines(targets: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """
    Make the lines for the terminal.

    @param targets: as the JSON has them.
    """
    for each in targets:
        word = "at least" if each["least"] else "at most"
        met = "met" if each["met"] else "NOT MET"
        yield f"  {each['title']:46} {ends(each['spread']):24} {word} {each['bound']:g}: {met}"


def ends(spread: Mapping[str, float]) -> str:
    """
    Write the middle and the ends of a ratio.
    """
    return f"{spread['median']:.2f} ({spread['minimum']:.2f} to {spread['maximum']:.2f})"
