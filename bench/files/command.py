"""
C{python -m bench files} as a whole: its parts, how much is measured, the results, and their tables.
"""

from __future__ import annotations

import compileall
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import twisted_netsuite
from bench.files import crowd
from bench.files.contest import Part, Size, run
from bench.files.contestants import CONTESTANTS, OURS, Contestant
from bench.files.moves import BULK, DISK, ENCRYPTED, TREES
from bench.files.resume import RESUME
from bench.files.scratch import scratch
from bench.needs import Need
from bench.openssh import CIPHER_BYTES, CIPHERS, ciphers
from bench.report import measured, summary
from bench.targets import lines, reached

__all__ = [
    "CONTESTANTS",
    "NAMES",
    "QUICK",
    "WHOLE",
    "Asked",
    "concerned",
    "content",
    "needs",
    "table",
]

PARTS = {part.name: part for part in (BULK, ENCRYPTED, DISK, TREES, RESUME)}
CROWD = "crowd"
#: Of all parts, in their order.
NAMES = (*PARTS, CROWD)

MIB, GIB = 2**20, 2**30

# Within a quarter of an hour, and within two minutes, on a machine that does little else.
WHOLE = Size(
    rounds=5,
    bulk=GIB,
    files=10_000,
    fileSize=4096,
    resumed=4 * GIB,
    clients=50,
    each=100_000_000,
    within=100.0,
)
QUICK = Size(
    rounds=1,
    bulk=64 * MIB,
    files=500,
    fileSize=4096,
    resumed=512 * MIB,
    clients=10,
    each=20_000_000,
    within=60.0,
)


@dataclass(frozen=True)
class Asked:
    """
    What is to be measured.

    @ivar only: the contestants, by name; C{None} for all.
    @ivar data: where the files lie; C{None} for memory if there is room.
    @ivar disk: where those of the part lie that is about a disk.
    """

    size: Size
    only: Sequence[str] | None
    data: Path | None
    disk: Path | None


def concerned(name: str, only: Sequence[str] | None) -> bool:
    """
    Tell whether a part is about any of these contestants; without names each is.
    """
    names = PARTS[name].names if name in PARTS else (OURS,)
    return only is None or not set(only).isdisjoint(names)


def needs(name: str, only: Sequence[str] | None) -> Iterator[Need]:
    """
    Tell what has to be installed for a part.
    """
    part = PARTS.get(name)
    # The crowd has none but ours.
    chosen = part.among(only) if part else [each for each in CONTESTANTS if each.name == OURS]
    for each in chosen:
        yield from each.needs


def content(name: str, asked: Asked) -> dict[str, object]:
    """
    Measure a part.

    @return: what the JSON has, beside the command and the environment.
    @raise BenchFailure: there is no room.
    """
    _compile()
    return _crowd(asked) if name == CROWD else _contest(PARTS[name], asked)


def _compile() -> None:
    """
    Have our modules compiled, as pip does when it installs them. Where Python may not keep what it
    compiles, each command would do so again, which takes as long as all the rest of its start.
    """
    compileall.compile_dir(Path(twisted_netsuite.__file__).parent, quiet=2)


def _contest(part: Part, asked: Asked) -> dict[str, object]:
    contestants = part.among(asked.only)
    tried, cipher = _cipher(contestants)
    folder = (asked.disk or Path(gettempdir())) if part.disk else asked.data
    with scratch(part.room(asked.size), folder) as place:
        rounds = run(part, contestants, asked.size, place, cipher or CIPHERS[0])
    return {
        "part": part.name,
        "title": part.title,
        "size": asdict(asked.size),
        "files_on": place.system,
        "baseline": part.baseline,
        "cipher": cipher,
        "cipher_seconds": {"bytes": CIPHER_BYTES, **tried},
        "competitors": {each.name: each.title for each in contestants},
        "measures": [asdict(each) for each in part.measures],
        "summary": summary(rounds, part.measures, part.baseline),
        "targets": [asdict(each) for each in reached(part.targets, rounds)],
        "failures": rounds.failures,
        "rounds": rounds.figures,
    }


def _cipher(contestants: Sequence[Contestant]) -> tuple[dict[str, float], str | None]:
    """
    Find the fastest cipher, if anybody needs one.
    """
    if not any(each.ssh for each in contestants):
        return {}, None
    tried = ciphers()
    return tried, min(tried, key=lambda name: tried[name])


def _crowd(asked: Asked) -> dict[str, object]:
    # What these figures show does not become clearer by many rounds.
    size = replace(asked.size, rounds=min(asked.size.rounds, crowd.ROUNDS))
    with scratch(crowd.room(size), asked.data) as place:
        rounds = crowd.run(place, size)
    clients = f"{size.clients} clients at once"
    return {
        "part": CROWD,
        "title": f"{clients}, {size.each / 1e6:g} MB each",
        "size": asdict(size),
        "files_on": place.system,
        "competitors": {kind: f"{clients}, {title}" for kind, title in crowd.KINDS.items()},
        "measures": [asdict(each) for each in crowd.MEASURES],
        "summary": crowd.spreads(rounds),
        "targets": [asdict(each) for each in reached(crowd.TARGETS, rounds)],
        "failures": rounds.failures,
        "rounds": rounds.figures,
    }


def table(content: dict[str, Any]) -> str:
    """
    Make the tables of a part for the terminal.

    @param content: of L{content}.
    """
    return "\n".join(_lines(content))


def _lines(content: dict[str, Any]) -> Iterator[str]:
    yield f"\n{content['title']}; the files are on {content['files_on']}"
    if content.get("cipher"):
        yield f"the cipher of scp is {content['cipher']}"
    yield from measured(content["part"], content)
    if content["targets"]:
        yield "\ntargets, by the median of the rounds"
        yield from lines(content["targets"])
    for failure in content["failures"]:
        yield f"\nround {failure['round']}: {failure['competitor']} failed: {failure['why']}"
