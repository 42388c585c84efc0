"""
The load generator of `load.c`: compiles it, runs it, and reads its figures.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.processes import BenchFailure, awaitListening, started

SOURCE = Path(__file__).with_name("load.c")
PROGRAM = SOURCE.parent / "build" / "load"
PATIENCE = 30.0  # seconds more than the load was to take: what is under way must still come back


class LoadFailure(BenchFailure):
    """
    A load did not come to its figures: the server or proxy did not do what it was to do.
    """


@dataclass(frozen=True)
class Load:
    """
    A compiled load generator and the CPU that it runs on.
    """

    program: Path
    cpu: int

    @contextmanager
    def run(self, *words: object, seconds: float) -> Iterator[dict[str, float]]:
        """
        Run one load; inside the block it still holds its connections.

        @param words: its kind and its arguments, as the top of load.c tells them.
        @param seconds: how long it was told to take.
        @raise LoadFailure: it did not come to its figures.
        """
        with subprocess.Popen(
            [str(self.program), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=partial(os.sched_setaffinity, 0, {self.cpu}),
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            ready, _, _ = select.select([process.stdout], [], [], seconds + PATIENCE)
            line = process.stdout.readline() if ready else b""
            if not line:
                process.kill()
                said = process.stderr.read().decode(errors="replace").strip()
                raise LoadFailure(f"{words[0]}: {said or 'it did not end in time'}")
            yield json.loads(line)

    @contextmanager
    def target(self, port: int, folder: Path) -> Iterator[None]:
        """
        Run the fast echo server on a port, ready, until the block is left.
        """
        log = folder / "target.log"
        with started([str(self.program), "echo", str(port)], self.cpu, log) as process:
            awaitListening(process, port, log)
            yield


def compiled(cpu: int) -> Load:
    """
    Compile the load generator, unless that has been done since it was last changed.

    @param cpu: where it is to run.
    @raise BenchFailure: there is no C compiler, or it refuses.
    """
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < SOURCE.stat().st_mtime:
        if shutil.which("cc") is None:
            raise BenchFailure("cc is missing: install the Debian package gcc.")
        PROGRAM.parent.mkdir(exist_ok=True)
        command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(PROGRAM), str(SOURCE)]
        outcome = subprocess.run(command, capture_output=True, text=True)
        if outcome.returncode:
            raise BenchFailure(f"cc does not compile load.c: {outcome.stderr.strip()}")
    return Load(PROGRAM, cpu)
