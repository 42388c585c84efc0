"""
The program C{ssh}, a new connection for each command, or all over one that stays open:
C{python -m bench.exec.clients.openssh fresh|master SSH...}.
"""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE

from bench.exec.clients.work import Sink, Wrong, serve

OPEN_WITHIN = 10.0  # seconds for the connection that stays open
READ_SIZE = 128 * 1024  # bytes of one read, as much as ours


class OpenSSH:
    """
    Runs a program for each command.
    """

    def __init__(self, ssh: Sequence[str]) -> None:
        """
        @param ssh: the program, its options, and where to.
        """
        self._ssh = list(ssh)

    def _start(self, argv: Sequence[str], stdout: int = PIPE) -> subprocess.Popen[bytes]:
        words = [*self._ssh, shlex.join(argv)]
        return subprocess.Popen(words, stdin=DEVNULL, stdout=stdout)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
        said, _ = process.communicate()
        return process.returncode, said

    async def run(self, argv: Sequence[str]) -> tuple[int, bytes]:
        """
        Run one command.
        """
        return self._end(self._start(argv))

    async def together(self, commands: Sequence[Sequence[str]]) -> list[tuple[int, bytes]]:
        """
        Run all commands at once.
        """
        return list(map(self._end, [self._start(argv) for argv in commands]))

    async def bulk(self, argv: Sequence[str], sink: Sink) -> None:
        """
        Run one command with much output, to the null device when nobody checks it.
        """
        process = self._start(argv, PIPE if sink.checked else DEVNULL)
        if process.stdout is None:
            sink.count = None
        else:
            with process.stdout as stream:
                while data := stream.read1(READ_SIZE):  # type: ignore[attr-defined]
                    sink.take(data)
        if process.wait():
            raise Wrong(f"ssh ended with {process.returncode}")


@contextmanager
def master(ssh: Sequence[str]) -> Iterator[list[str]]:
    """
    Hold a connection open; returns the words with which commands go over it.
    """
    *options, host = ssh
    path = str(Path(options[options.index("-F") + 1]).with_name("master"))
    with subprocess.Popen([*options, "-M", "-S", path, "-N", host], stdin=DEVNULL) as process:
        try:
            deadline = time.monotonic() + OPEN_WITHIN
            while not Path(path).exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("ssh does not open a connection that stays.")
                time.sleep(0.01)
            yield [options[0], "-S", path, *options[1:], host]
        finally:
            process.terminate()


if __name__ == "__main__":
    kind, *words = sys.argv[1:]
    if kind == "master":
        with master(words) as over:
            asyncio.run(serve(OpenSSH(over)))
    else:
        asyncio.run(serve(OpenSSH(words)))
