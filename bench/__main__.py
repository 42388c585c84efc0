"""
The command C{python -m bench}: measures a service beside its peers, or its memory.
"""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bench import memory
from bench.exec import command as execs
from bench.files import command as files
from bench.files import page
from bench.load import compiled
from bench.measure import CONTESTS, Contest, run
from bench.needs import Need, module
from bench.processes import BenchFailure, twoCpus
from bench.report import contestJson, table, writeJson
from bench.servers import BASELINE


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=_Named)

FILES_SIZES = {
    "rounds": "of each part",
    "bulk": "bytes of the large file",
    "files": "of the tree",
    "fileSize": "bytes of each of them",
    "resumed": "bytes of the file that is broken off",
    "clients": "at once",
    "each": "bytes that each of them moves",
}
RESULTS = Path(__file__).with_name("results")


def main() -> None:
    """
    Do what the command line says; one sentence and exit status 1 when that cannot be.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _parser().parse_args()
    command = f"python -m bench {shlex.join(sys.argv[1:])}"
    try:
        if options.what == "memory":
            _memory(options, command)
        elif options.what == "exec":
            _exec(options, command)
        elif options.what == "files":
            _files(options, command)
        elif options.what == "page":
            page.update(options.output)
        else:
            _contest(CONTESTS[options.what], options, command)
    except BenchFailure as why:
        sys.exit(str(why))


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--output", type=Path, default=RESULTS, metavar="DIR", help="where the results go"
    )
    common.add_argument(
        "--only", type=_names, metavar="NAMES", help="competitors to measure, joined by commas"
    )
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure a service beside its peers, or its memory."
    )
    commands = parser.add_subparsers(dest="what", required=True)
    for contest in CONTESTS.values():
        names = ", ".join(competitor.name for competitor in contest.competitors)
        text = f"measure {contest.name} beside its peers: {names}"
        command = commands.add_parser(contest.name, parents=[common], help=text, description=text)
        command.add_argument("--rounds", type=_positive, default=5, help="default 5")
        command.add_argument(
            "--seconds", type=_seconds, default=2.0, help="of each load; default 2"
        )
    text = "measure the memory of echo and proxy when a client does not read"
    commands.add_parser("memory", parents=[common], help=text, description=text)
    names = ", ".join(each.name for each in execs.CONTESTANTS)
    text = f"measure exec beside its peers, and the memory of its server: {names}"
    command = commands.add_parser("exec", parents=[common], help=text, description=text)
    command.add_argument("--rounds", type=_positive, help=f"default {execs.WHOLE.size.rounds}")
    command.add_argument(
        "--quick", action="store_true", help="one round, and less of all: to see that it works"
    )
    _filesParser(commands, common)
    text = "write what files measured into docs/performance.md"
    commands.add_parser("page", parents=[common], help=text, description=text)
    return parser


def _filesParser(commands: Any, common: argparse.ArgumentParser) -> None:
    names = ", ".join(each.name for each in files.CONTESTANTS)
    text = f"measure file transfer beside its peers, and the memory of its server: {names}"
    command = commands.add_parser("files", parents=[common], help=text, description=text)
    command.add_argument(
        "--quick", action="store_true", help="one round, and less of all: to see that it works"
    )
    parts = ", ".join(files.NAMES)
    command.add_argument("--parts", type=_names, metavar="NAMES", help=f"by default all: {parts}")
    for name, what in FILES_SIZES.items():
        default = f"{what}; default {getattr(files.WHOLE, name)}"
        flag = "--" + re.sub("([A-Z])", r"-\1", name).lower()
        command.add_argument(flag, type=_positive, dest=name, help=default)
    command.add_argument(
        "--data", type=Path, metavar="DIR", help="where the files lie; default memory"
    )
    command.add_argument(
        "--disk", type=Path, metavar="DIR", help="a disk, for the part disk; default as TMPDIR says"
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _seconds(text: str) -> float:
    if not 0.1 <= (value := float(text)) <= 3600:
        raise argparse.ArgumentTypeError("must be from 0.1 to 3600")
    return value


def _contest(whole: Contest, options: argparse.Namespace, command: str) -> None:
    """
    Measure a contest and show and write the results.
    """
    names = options.only and [BASELINE, *options.only]
    contest = whole.among(_chosen(whole.competitors, names))
    _require([module("matplotlib")])
    _require(need for competitor in contest.competitors for need in competitor.needs)
    cpu, loadCpu = twoCpus()
    rounds = run(contest, compiled(loadCpu), cpu, options.rounds, options.seconds)
    path = options.output / f"{contest.name}.json"
    writeJson(path, command, contestJson(contest, rounds, options.seconds))
    from bench.plot import draw  # matplotlib may be missing until now

    draw(contest, rounds, path.with_suffix(".png"))
    print(table(contest, rounds))


def _exec(options: argparse.Namespace, command: str) -> None:
    """
    Measure exec and show and write the results.
    """
    contestants = _chosen(execs.CONTESTANTS, options.only and [execs.OURS, *options.only])
    _require(need for each in contestants for need in each.needs)
    content = execs.measure(contestants, execs.extent(options.quick, options.rounds))
    writeJson(options.output / "exec.json", command, content)
    print(execs.table(content))


def _files(options: argparse.Namespace, command: str) -> None:
    """
    Measure the parts of files, each with results of its own, and show and write them.
    """
    if options.only:
        _chosen(files.CONTESTANTS, options.only)
    for name in options.parts or ():
        if name not in files.NAMES:
            raise BenchFailure(f"{name} is not among {', '.join(files.NAMES)}.")
    asked = [name for name in files.NAMES if options.parts is None or name in options.parts]
    parts = [name for name in asked if files.concerned(name, options.only)]
    _require(need for part in parts for need in files.needs(part, options.only))
    chosen = {name: getattr(options, name) for name in FILES_SIZES if getattr(options, name)}
    size = replace(files.QUICK if options.quick else files.WHOLE, **chosen)
    how = files.Asked(size, options.only, options.data, options.disk)
    for part in parts:
        content = files.content(part, how)
        writeJson(options.output / f"files-{part}.json", command, content)
        print(files.table(content), flush=True)


def _memory(options: argparse.Namespace, command: str) -> None:
    """
    Measure memory and show and write the results.
    """
    services = {
        name: _chosen(contest.competitors, options.only or ["ours"])
        for name, contest in CONTESTS.items()
    }
    _require(need for each in services.values() for one in each for need in one.needs)
    cpu, loadCpu = twoCpus()
    results = list(memory.measure(services, compiled(loadCpu), cpu))
    content: dict[str, object] = {"results": [asdict(each) for each in results]}
    writeJson(options.output / "memory.json", command, content)
    print(memory.table(results))


def _chosen(competitors: Sequence[Named], names: Sequence[str] | None) -> list[Named]:
    """
    Pick competitors by name, in their own order; all of them without names.
    """
    known = [competitor.name for competitor in competitors]
    for name in names or ():
        if name not in known:
            raise BenchFailure(f"{name} is not among {', '.join(known)}.")
    return [each for each in competitors if names is None or each.name in names]


def _require(needs: Iterable[Need]) -> None:
    for need in needs:
        if not need.present():
            raise BenchFailure(f"{need.sentence}, or choose others with --only.")


if __name__ == "__main__":
    main()
