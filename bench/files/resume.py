"""
A large file that is broken off near its end, and gone on with: the client is killed, and the same
command is run again.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from bench.files.contest import Part, Size, Trial
from bench.files.contestants import OURS, Task
from bench.files.scratch import Scratch, makeFile, remove, requireSame
from bench.files.spending import PATIENCE, command
from bench.measure import Measure
from bench.processes import BenchFailure
from bench.targets import Target

BROKEN_OFF = 0.9  # of the bytes are there when the client is killed
LOOK = 0.001  # seconds between two looks at what is there: a megabyte, at a gigabyte a second
NEXT_USER = 0.2  # seconds until who runs the command again has done so; the server sees the end

#: What a resume may take of the whole's time: the share that is missing, and the program's start.
BOUND = 0.25


START = Measure("small_seconds", "seconds to get a file of one byte", False)


def _measures(name: str) -> tuple[Measure, ...]:
    return (
        Measure(f"{name}_whole_seconds", f"seconds for the whole, {name}", False),
        Measure(f"{name}_resume_seconds", f"seconds for the rest, {name}", False),
        Measure(f"{name}_share", f"time of the rest / of the whole, {name}", False),
        Measure(f"{name}_missing", f"bytes of the rest / of the whole, {name}", False),
        Measure(f"{name}_whole_cpu", f"CPU s for the whole, both ends, {name}", False),
        Measure(f"{name}_resume_cpu", f"CPU s for the rest, both ends, {name}", False),
    )


def _prepare(place: Scratch, size: Size) -> None:
    makeFile(place.served / "small", 1)
    makeFile(place.served / "source", size.resumed)
    os.link(place.served / "source", place.local / "source")


def _trial(trial: Trial) -> None:
    served, local = trial.scratch.served, trial.scratch.local
    # It also has a fresh server import what it imports late.
    small = trial.sides.words(Task.GET, str(local / "got-small"), "small")
    try:
        trial.figures[START.key] = trial.spent(small).seconds
    finally:
        remove(local / "got-small")
    for task, here, there in (
        (Task.GET, local / "to" / "got", "source"),
        (Task.PUT, local / "source", "to/put"),
    ):
        words = trial.sides.words(task, str(here), there)
        target = here if task is Task.GET else served / there
        try:
            target.parent.mkdir()
            _resumed(trial, task, words, target)
        finally:
            remove(target.parent)


def _resumed(trial: Trial, task: Task, words: list[str], target: Path) -> None:
    """
    Measure the whole, break it off, and measure the rest.

    @param target: what the command makes, the only one in its directory.
    """
    name = task.name.lower()
    source = trial.scratch.served / "source"
    whole = trial.spent(words)
    requireSame(source, target)
    remove(target)
    there = _breakOff(words, target.parent, round(BROKEN_OFF * trial.size.resumed))
    if there >= trial.size.resumed:
        raise BenchFailure("it could not be broken off: all was there")
    time.sleep(NEXT_USER)
    rest = trial.spent(words)
    requireSame(source, target)
    if left := sorted(os.listdir(target.parent)):
        left.remove(target.name)
    if left:
        raise BenchFailure(f"{left[0]} is left behind")
    trial.figures.update(
        {
            f"{name}_whole_seconds": whole.seconds,
            f"{name}_resume_seconds": rest.seconds,
            f"{name}_share": rest.seconds / whole.seconds,
            f"{name}_missing": 1 - there / trial.size.resumed,
            f"{name}_whole_cpu": whole.client + whole.server,
            f"{name}_resume_cpu": rest.client + rest.server,
        }
    )


def _breakOff(words: list[str], folder: Path, enough: int) -> int:
    """
    Kill a client once so many bytes are there; returns how many then were.
    """
    deadline = time.monotonic() + PATIENCE
    with command(words) as running:
        while _largest(folder) < enough:
            if running.ended or time.monotonic() > deadline:
                raise BenchFailure("it could not be broken off: it had ended, or made no progress")
            time.sleep(LOOK)
    return _largest(folder)


def _largest(folder: Path) -> int:
    """
    Tell what has been written of the largest file in a directory.
    """
    return max((_written(Path(entry.path)) for entry in os.scandir(folder)), default=0)


def _written(path: Path) -> int:
    """
    Tell what has been written of a file: space that is only kept for it counts as a hole.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    found = end = 0
    try:
        while True:
            start = os.lseek(file, end, os.SEEK_DATA)
            end = os.lseek(file, start, os.SEEK_HOLE)
            found += end - start
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return found
    finally:
        os.close(file)


GET, PUT = _measures("get"), _measures("put")

RESUME = Part(
    "resume",
    "a large file, broken off at 90 %",
    (OURS, "rsync-append"),
    OURS,
    (*GET, *PUT, START),
    (
        Target("the rest / the whole, get, seconds", GET[2], OURS, None, False, BOUND),
        Target("the rest / the whole, put, seconds", PUT[2], OURS, None, False, BOUND),
    ),
    lambda size: 2 * size.resumed + 2**20,
    _prepare,
    _trial,
)
