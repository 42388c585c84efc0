"""
Links that come and go while names are used, swapped by a process of their own as fast as that can.
C{NETSUITE_RACE_SECONDS} is how long each operation is tried, 10 unless it is said, half of them
with names that the kernel resolves and half with names that are walked.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict

from tests.files import races
from tests.files.test_localstore import WAYS

SECONDS = float(os.environ.get("NETSUITE_RACE_SECONDS", "10"))

#: Exchanges two names until its input ends, and prints how often it could.
SWAP = """
import ctypes, os, sys, threading
rename = ctypes.CDLL(None).renameat2
one, other = map(os.fsencode, sys.argv[1:])
stopped = []
threading.Thread(target=lambda: stopped.append(sys.stdin.read())).start()
count = 0
print("begun", flush=True)
while not stopped:
    count += rename(-100, one, -100, other, 2) == 0
print(count)
"""


class ProcessSwapper:
    """A process that swaps."""

    def __init__(self, one: str, other: str) -> None:
        """
        @param one: a path.
        @param other: another one.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-c", SWAP, one, other],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def stop(self) -> int:
        """Stop."""
        out, _ = self._process.communicate("", timeout=10)
        return int(out)


class RaceTests(races.RaceStories):
    """For long."""

    seconds = SECONDS / len(WAYS)
    swapper = ProcessSwapper
    timeout = 3600

    def tearDown(self) -> None:
        """Say what came of it."""
        super().tearDown()
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for raced in self.raced:
            for key in (f"{raced.name}, by {raced.way.split(',')[0]}", ""):
                sums[key][0] += raced.done
                sums[key][1] += raced.refused
        for key, (done, refused) in sums.items():
            if key:
                print(f"\n{key}: {done} done, {refused} refused", end="")
        done, refused = sums[""]
        print(
            f"\n{self.swaps} swaps; {done + refused} tries, of which {done} were done; nothing "
            "outside was touched.",
            flush=True,
        )
