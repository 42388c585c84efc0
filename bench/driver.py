"""
The end of a client process at which it is told what to do.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.processes import BenchFailure
from bench.servers import Place

READY_WITHIN = 20.0  # seconds: a cold Python that imports Twisted, and connects
ANSWER_WITHIN = 45.0  # seconds: the slowest task takes ten when nothing else runs
ENDS_WITHIN = 5.0  # seconds from the end of its input to KILL
ROOT = Path(__file__).parents[1]  # where a module of this benchmark is found


class ClientFailure(BenchFailure):
    """
    A client did not come to a figure: what ran did not do what it was to do.
    """


class Driver:
    """
    Tells a client what to do.

    @ivar pid: of its process, which may have children.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, within: float) -> None:
        """
        @param process: the client.
        @param log: has what it said on standard error.
        @param within: seconds for a task.
        """
        self.pid = process.pid
        self._process = process
        self._log = log
        self._within = within

    def ready(self) -> None:
        """
        Wait until it is connected.

        @raise BenchFailure: it does not get there.
        """
        self._answer(READY_WITHIN, "to connect")

    def do(self, task: str, **how: object) -> dict[str, Any]:
        """
        Give it a task.

        @return: its answer.
        @raise ClientFailure: it did not do it, not in time or not right.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"task": task, **how}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ClientFailure(f"{task}: the client is gone: {self._said()}") from None
        answer = self._answer(self._within, task)
        if "wrong" in answer:
            raise ClientFailure(f"{task}: {answer['wrong']}")
        return answer

    def _answer(self, seconds: float, task: str) -> dict[str, Any]:
        stream = self._process.stdout
        assert stream is not None
        ready, _, _ = select.select([stream], [], [], seconds)
        if not ready:
            raise ClientFailure(f"{task}: no answer within {seconds:g} s: {self._said()}")
        line = stream.readline()
        if not line:
            raise ClientFailure(f"{task}: the client has ended: {self._said()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _said(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


@contextmanager
def driver(command: Sequence[str], where: Place, within: float = ANSWER_WITHIN) -> Iterator[Driver]:
    """
    Run a client, connected, until the block is left.

    @param command: of the client.
    @param within: seconds for each of its tasks.
    @raise BenchFailure: it does not connect.
    """
    log = where.folder / "client.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        client = Driver(process, log, within)
        client.ready()
        yield client
    finally:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_WITHIN)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
