"""
What a server holds after many commands, beside what it held after few.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.exec.contestants import OURS, Contestant, Sides
from bench.processes import residentOf, tree

WIDTH = 10  # commands at once: enough to keep both CPUs busy, and few of it waits
STEP = 500  # commands that are asked for at a time: a slow machine ends them in time, too
PROGRAM = b"keeper.py"


@dataclass(frozen=True)
class Held:
    """
    What a server holds once so many commands have ended; sizes are in bytes.

    @ivar resident: memory of the server's process.
    @ivar descriptors: that it has open.
    @ivar supervisors: processes that wait for a command, and the keeper that forks them.
    @ivar private: what each of those shares with none, the keeper's first.
    """

    commands: int
    resident: int
    descriptors: int
    supervisors: int
    private: list[int]


def measure(contestants: Sequence[Contestant], counts: Sequence[int]) -> list[Held]:
    """
    Run commands on a fresh server, over one session, and look at it after so many.

    @param contestants: ours is among them.
    @param counts: after how many, rising.
    """
    result: list[Held] = []
    (ours,) = (each for each in contestants if each.name == OURS)
    with ours.running("") as sides:
        for count in counts:
            print(f"memory after {count} commands", file=sys.stderr)
            done = result[-1].commands if result else 0
            for start in range(done, count, STEP):
                sides.client.do("many", count=min(STEP, count - start), width=WIDTH)
            result.append(_held(sides, count))
    return result


def _held(sides: Sides, commands: int) -> Held:
    assert sides.server is not None
    private = [size for pid, _ in tree(sides.server) if (size := _private(pid)) is not None]
    return Held(
        commands=commands,
        resident=residentOf(sides.server),
        descriptors=len(os.listdir(f"/proc/{sides.server}/fd")),
        supervisors=len(private),
        private=private,
    )


def _private(pid: int) -> int | None:
    """Tell what is a process's own, if it is one that watches commands and has not just ended."""
    try:
        if PROGRAM not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return None
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    sizes = [int(line.split()[1]) for line in lines if line.startswith("Private_")]
    return sum(sizes) * 1024
