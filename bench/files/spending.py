"""
What a transfer takes: a client's command from its start to its end, and the CPU time of both ends.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from bench.processes import BenchFailure, treeCpuSeconds

REAPED = 0.1  # seconds until what has ended was waited for, and counts for its parent
PATIENCE = 120.0  # seconds for one command: the slowest of all takes some fifteen


@dataclass(frozen=True)
class Spent:
    """
    Seconds that passed, and seconds of CPU of either end with all its children.
    """

    seconds: float
    client: float
    server: float


@contextmanager
def command(words: Sequence[str]) -> Iterator[Command]:
    """
    Run a client, until the block is left.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        running = Command(process, words, said.fileno())
        try:
            yield running
        finally:
            running.kill()


class Command:
    """
    A client that runs.
    """

    def __init__(self, process: subprocess.Popen[bytes], words: Sequence[str], said: int) -> None:
        """
        @param words: its command line.
        @param said: a descriptor of what it says on standard error.
        """
        self._process = process
        self._words = words
        self._said = said

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def end(self) -> float:
        """
        Wait until it has ended well.

        @return: seconds of CPU that it has used, with the children that it has waited for.
        @raise BenchFailure: it failed, or did not end in L{PATIENCE}.
        """
        pid = self._process.pid
        watched = os.pidfd_open(pid)
        try:
            if not select.select([watched], [], [], PATIENCE)[0]:
                raise BenchFailure(f"{self._name}: it did not end within {PATIENCE:g} s")
        finally:
            os.close(watched)
        _, status, usage = os.wait4(pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            said = os.pread(self._said, 10_000, 0).decode(errors="replace").strip()
            last = (said.splitlines() or ["it said nothing"])[-1]
            raise BenchFailure(f"{self._name}: status {self._process.returncode}: {last}")
        return usage.ru_utime + usage.ru_stime

    @property
    def _name(self) -> str:
        return os.path.basename(self._words[0])

    def kill(self) -> None:
        """
        End it, and all of its session, at once; nothing if it has.
        """
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def spent(words: Sequence[str], server: int | None) -> Spent:
    """
    Run a client to its end.

    @param server: the pid of the server, if there is one.
    @raise BenchFailure: it failed.
    """
    before = serverSeconds(server)
    began = time.perf_counter()
    with command(words) as running:
        client = running.end()
        seconds = time.perf_counter() - began
    time.sleep(REAPED)
    return Spent(seconds, client, serverSeconds(server) - before)


def serverSeconds(server: int | None) -> float:
    """
    Tell the seconds of CPU that a server has used until now.
    """
    return 0.0 if server is None else treeCpuSeconds(server)
