"""
The results of a contest as JSON and as a table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.environment import environment
from bench.measure import CONNECTIONS, MESSAGE, Contest, Measure, Rounds, Spread, standings
from bench.servers import BASELINE


def writeJson(path: Path, command: str, content: dict[str, object]) -> None:
    """
    Write results, with the command that made them and what it ran on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"command": command, "environment": environment()} | content
    path.write_text(json.dumps(whole, indent=1) + "\n")


def contestJson(contest: Contest, rounds: Rounds, seconds: float) -> dict[str, object]:
    """
    Put together all figures of a contest, raw and summed up.
    """
    return {
        "seconds": seconds,
        "connections": CONNECTIONS,
        "message_bytes": MESSAGE,
        "baseline": BASELINE,
        "competitors": {each.name: each.title for each in contest.competitors},
        "left_out": contest.leftOut,
        "measures": [asdict(measure) for measure in contest.measures],
        "summary": summary(rounds, contest.measures, BASELINE),
        "failures": rounds.failures,
        "rounds": rounds.figures,
    }


def summary(rounds: Rounds, measures: Sequence[Measure], baseline: str) -> dict[str, object]:
    """
    Sum up the rounds: for each measure, how each competitor did.

    @param baseline: whose figures the others' are divided by.
    """
    return {
        measure.key: {
            name: asdict(standing)
            for name, standing in standings(rounds.figures, measure, baseline).items()
        }
        for measure in measures
    }


def measured(what: str, content: Mapping[str, Any]) -> Iterator[str]:
    """
    Make the lines for the terminal: each figure with its ends, and its ratio to the baseline's, if
    there is one.

    @param what: was measured.
    @param content: with C{competitors}, C{measures} and C{summary}, as the JSON has them.
    """
    titles = content["competitors"]
    width = max(map(len, titles.values()))
    for measure in content["measures"]:
        better = "higher" if measure["higherIsBetter"] else "lower"
        yield f"\n{what}: {measure['title']} ({better} is better)"
        for name, standing in content["summary"][measure["key"]].items():
            figure, ratio = standing["figure"], standing.get("ratio")
            times = f"x {_ratio(Spread(**ratio))}" if ratio else ""
            span = f"({number(figure['minimum'])} to {number(figure['maximum'])})"
            middle = number(figure["median"])
            yield f"  {titles[name]:{width}} {middle:>9} {span:20} {times}".rstrip()


def table(contest: Contest, rounds: Rounds) -> str:
    """
    Make the table for the terminal: the median figure, and the ratio to stock Twisted's.
    """
    return "\n".join(_lines(contest, rounds))


def _lines(contest: Contest, rounds: Rounds) -> Iterator[str]:
    titles = {competitor.name: competitor.title for competitor in contest.competitors}
    width = max(map(len, titles.values()))
    for measure in contest.measures:
        better = "higher" if measure.higherIsBetter else "lower"
        yield f"\n{contest.name}: {measure.title} ({better} is better)"
        for name, standing in standings(rounds.figures, measure).items():
            figure = number(standing.figure.median)
            yield f"  {titles[name]:{width}} {figure:>9}   x {_ratio(standing.ratio)}"
    for name, why in contest.leftOut.items():
        yield f"\n{name} is left out: {why}"
    for failure in rounds.failures:
        yield f"\nround {failure['round']}: {failure['competitor']} failed: {failure['why']}"


def _ratio(ratio: Spread) -> str:
    return f"{ratio.median:.2f} ({ratio.minimum:.2f} to {ratio.maximum:.2f})"


def number(value: float) -> str:
    """
    Write a figure with as many digits as a person wants to read.
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
