"""
The tables of files in the page about performance: what the JSON has, for people.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.files.command import NAMES
from bench.measure import spread
from bench.processes import BenchFailure
from bench.report import number
from bench.targets import ends

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- files: made by python -m bench page -->\n", "<!-- end of files -->\n"

#: What the tables of each part show: the heads of their columns, with the keys of the measures.
#: Several keys are added up, as the CPU time of both ends.
_FILE = {
    "get GB/s": ("get_gbps",),
    "CPU s/GB": ("get_client_cpu_per_gb", "get_server_cpu_per_gb"),
    "put GB/s": ("put_gbps",),
    "CPU s/GB ": ("put_client_cpu_per_gb", "put_server_cpu_per_gb"),
    "one byte, s": ("small_seconds",),
}
COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "bulk": _FILE,
    "tls": _FILE,
    "disk": _FILE,
    "trees": {
        "get, s": ("get_tree_seconds",),
        "put, s": ("put_tree_seconds",),
        "again: get, s": ("pull_seconds",),
        "put, s ": ("push_seconds",),
        "contents compared: get, s": ("pull_checked_seconds",),
        "put, s  ": ("push_checked_seconds",),
    },
    "resume": {
        "get: whole, s": ("get_whole_seconds",),
        "rest, s": ("get_resume_seconds",),
        "rest / whole": ("get_share",),
        "put: whole, s": ("put_whole_seconds",),
        "rest, s ": ("put_resume_seconds",),
        "rest / whole ": ("put_share",),
    },
    "crowd": {
        "server's growth, MiB": ("growth_mib",),
        "GB/s": ("gbps",),
        "echo in it, ms: half": ("echo_p50_ms",),
        "99 %": ("echo_p99_ms",),
        "longest": ("echo_max_ms",),
        "over 20 ms, % of the time": ("echo_late_percent",),
        "echo elsewhere, ms: 99 %": ("other_p99_ms",),
    },
}


def update(results: Path) -> None:
    """
    Write the tables into the page.

    @param results: the directory with the JSON.
    @raise BenchFailure: the page has no place for them.
    """
    text = PAGE.read_text()
    if BEGIN not in text or END not in text:
        raise BenchFailure(f"{PAGE} has no place for the tables of files.")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + tables(results) + END + after)


def tables(results: Path) -> str:
    """
    Make the tables, as Markdown.

    @param results: the directory with the JSON; a part that is not there has no table.
    """
    parts = []
    for name in NAMES:
        path = results / f"files-{name}.json"
        if path.exists():
            parts.append("\n".join([*_part(json.loads(path.read_text())), "", ""]))
    return "\n" + "".join(parts) if parts else ""


def _part(content: Mapping[str, Any]) -> Iterator[str]:
    rounds = len(content["rounds"])
    yield f"**{_subject(content)}**: the files are on {content['files_on']}; {rounds} " + (
        "round." if rounds == 1 else "rounds."
    )
    if content.get("cipher"):
        yield f"The cipher of scp is {content['cipher']}."
    yield ""
    columns = COLUMNS[content["part"]]
    yield "| | " + " | ".join(head.strip() for head in columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for name, title in content["competitors"].items():
        figures = content["rounds"]
        cells = [_cell(figures, name, keys, content.get("baseline")) for keys in columns.values()]
        yield f"| {title} | " + " | ".join(cells) + " |"
    yield from _targets(content["targets"])
    for failure in content["failures"]:
        yield from ("", f"In round {failure['round']} {failure['competitor']} failed.")


def _subject(content: Mapping[str, Any]) -> str:
    """
    Say what was moved.
    """
    size, title = content["size"], content["title"]
    if content["part"] == "trees":
        return f"{size['files']:,} files of {_bytes(size['fileSize'])}"
    if content["part"] == "crowd":
        return str(title)
    large = size["resumed"] if content["part"] == "resume" else size["bulk"]
    return f"{_bytes(large)}, {title}"


def _bytes(count: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count} bytes"


def _cell(
    rounds: Sequence[Mapping[str, Any]], name: str, keys: Sequence[str], baseline: str | None
) -> str:
    """
    Write the middle of a figure over the rounds, and its ratio to the baseline's of the same round
    with its ends.
    """
    pairs = [(_sum(each[name], keys), _sum(each.get(baseline or "", {}), keys)) for each in rounds]
    values = [value for value, _ in pairs if value is not None]
    if not values:
        return "-"
    found = spread(values)
    ratios = [one / other for one, other in pairs if one is not None and other]
    if baseline is None or name == baseline or not ratios:
        span = f" ({number(found.minimum)} to {number(found.maximum)})" if len(values) > 1 else ""
        return f"{number(found.median)}{span}"
    ratio = spread(ratios)
    span = f" ({ratio.minimum:.2f} to {ratio.maximum:.2f})" if len(ratios) > 1 else ""
    return f"{number(found.median)}, x {ratio.median:.2f}{span}"


def _sum(figures: Mapping[str, float], keys: Sequence[str]) -> float | None:
    """
    Add up the figures that are there; C{cp} has no server.
    """
    values = [figures[key] for key in keys if key in figures]
    return sum(values) if values else None


def _targets(targets: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield ""
    for each in targets:
        word = "at least" if each["least"] else "at most"
        met = "met" if each["met"] else "**not met**"
        yield f"- {each['title']}: {ends(each['spread'])}, wanted {word} {each['bound']:g}: {met}"
