"""
C{python -m bench exec} as a whole: how much is measured, the results, and their tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from bench.exec import growth, stall
from bench.exec.contest import CROWD_COMMANDS, CROWD_WORDS, MEASURES, TARGETS, TRIPS, Size, run
from bench.exec.contestants import CONTESTANTS, OURS, Contestant
from bench.measure import Rounds
from bench.openssh import CIPHER_BYTES, CIPHERS, ciphers
from bench.processes import BenchFailure
from bench.report import measured, summary
from bench.targets import lines, reached

__all__ = ["CONTESTANTS", "OURS", "WHOLE", "Contestant", "Extent", "extent", "measure", "table"]

T = TypeVar("T")


@dataclass(frozen=True)
class Extent:
    """
    How much is measured.

    @ivar size: of the contest.
    @ivar stall: seconds that a client takes nothing.
    @ivar growth: after how many commands the server is looked at.
    """

    size: Size
    stall: float
    growth: tuple[int, ...]


# Within eight minutes, and within one and a half, on a machine that does little else.
WHOLE = Extent(Size(rounds=5, bulk=2**30, within=270.0), stall=20.0, growth=(100, 10_000))
QUICK = Extent(Size(rounds=1, bulk=2**27, within=60.0), stall=5.0, growth=(100, 1000))


def extent(quick: bool, rounds: int | None) -> Extent:
    """
    Choose how much is measured.

    @param rounds: of the contest, when it is to be others than usual.
    """
    chosen = QUICK if quick else WHOLE
    if rounds is None:
        return chosen
    return replace(chosen, size=replace(chosen.size, rounds=rounds))


def measure(contestants: Sequence[Contestant], extent: Extent) -> dict[str, object]:
    """
    Measure everything.

    @return: what the JSON has, beside the command and the environment.
    """
    tried = ciphers() if any(each.ssh for each in contestants) else {}
    cipher = min(tried, key=lambda name: tried[name], default=CIPHERS[0])
    rounds = run(contestants, extent.size, cipher)
    stalled = _kept("stall", rounds, lambda: stall.measure(extent.stall))
    held = _kept("growth", rounds, lambda: growth.measure(CONTESTANTS, extent.growth))
    return {
        "trips": TRIPS,
        "bulk_bytes": extent.size.bulk,
        "crowd": f"{CROWD_COMMANDS} commands, {CROWD_WORDS}",
        "baseline": OURS,
        "cipher": cipher if tried else None,
        "cipher_seconds": {"bytes": CIPHER_BYTES, **tried},
        "competitors": {each.name: each.title for each in contestants},
        "shares": {
            each.name: {"trips": each.tripShare, "bulk": each.bulkShare} for each in contestants
        },
        "measures": [asdict(each) for each in MEASURES],
        "summary": summary(rounds, MEASURES, OURS),
        "targets": [asdict(each) for each in reached(TARGETS, rounds)],
        "stalled": [asdict(each) for each in stalled],
        "held": [asdict(each) for each in held],
        "failures": rounds.failures,
        "rounds": rounds.figures,
    }


def _kept(name: str, rounds: Rounds, part: Callable[[], list[T]]) -> list[T]:
    """
    Measure another part; that it fails is no reason to lose what there is already.
    """
    try:
        return part()
    except BenchFailure as why:
        rounds.failures.append({"round": 0, "competitor": name, "why": str(why)})
        return []


def table(content: dict[str, Any]) -> str:
    """
    Make the tables for the terminal.

    @param content: of L{measure}.
    """
    return "\n".join(_lines(content))


def _lines(content: dict[str, Any]) -> Iterator[str]:
    yield from measured("exec", content)
    yield from _targets(content)
    yield from _stalled(content)
    yield from _held(content)
    for failure in content["failures"]:
        yield f"\nround {failure['round']}: {failure['competitor']} failed: {failure['why']}"


def _targets(content: dict[str, Any]) -> Iterator[str]:
    yield f"\ntargets, by the median of the rounds; the cipher of ssh is {content['cipher']}"
    yield from lines(content["targets"])


def _stalled(content: dict[str, Any]) -> Iterator[str]:
    yield "\na client that takes nothing, and yes"
    for each in content["stalled"]:
        waits = "yes waits" if each["running"] else "yes has ENDED"
        yield (
            f"  {each['client']:16} {each['seconds']:g} s: memory {_mib(each['before'])}, "
            f"highest {_mib(each['highest'])}, growth {_mib(each['growth'])}; CPU of the server "
            f"{each['serverCpu'] * 1e3:.1f} ms, of yes {each['commandCpu'] * 1e3:.1f} ms; "
            f"on disk {each['state']} bytes; {waits}"
        )


def _held(content: dict[str, Any]) -> Iterator[str]:
    yield "\nwhat a server holds"
    for each in content["held"]:
        private = ", ".join(_mib(size) for size in each["private"])
        yield (
            f"  after {each['commands']:6,} commands: memory {_mib(each['resident'])}, "
            f"{each['descriptors']} descriptors, {each['supervisors']} processes beside it with "
            f"{private} of their own"
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
