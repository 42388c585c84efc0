"""
Third-party programs for tests: found or missed in one place, and run in the background.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.processes import PATIENCE

#: Set to 1 where every program is meant to be there: then a missing one is a failure.
REQUIRE = "NETSUITE_REQUIRE_PEERS"

#: Where Debian keeps daemons, which is not on everybody's path.
_DAEMONS = "/usr/local/sbin:/usr/sbin:/sbin"


def program(name: str, package: str, environment: Mapping[str, str] = os.environ) -> str:
    """
    Find a program, or leave the test.

    @param name: its name, or an absolute path of a file that it needs.
    @param package: Debian's package of it.
    @param environment: with C{PATH}, and perhaps L{REQUIRE}.
    @return: its path.
    @raise SkipTest: when it is not there.
    @raise AssertionError: when it is not there, and was required.
    """
    found = shutil.which(name, os.F_OK, f"{environment.get('PATH', '')}:{_DAEMONS}")
    if found is not None:
        return found
    reason = f"{name} is not here; it is in Debian's package {package}"
    if environment.get(REQUIRE) == "1":
        raise AssertionError(reason)
    raise SkipTest(reason)


def run(*command: str, typed: bytes = b"", cwd: Path | None = None) -> bytes:
    """
    Run a program to its end.

    @param command: program and arguments.
    @param typed: its standard input.
    @param cwd: where.
    @return: its standard output.
    """
    done = subprocess.run(
        command, input=typed, capture_output=True, timeout=PATIENCE, cwd=cwd, check=False
    )
    if done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr!r}")
    return done.stdout


class Background:
    """A program that runs until the end of a test; what it prints on both streams is kept."""

    def __init__(self, test: SynchronousTestCase, *command: str, cwd: Path | None = None) -> None:
        """
        Start it.

        @param test: ends it.
        @param command: program and arguments.
        @param cwd: where.
        """
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            cwd=cwd,
        )
        self.printed = b""
        test.addCleanup(self._stop)

    def type(self, data: bytes) -> None:
        """
        Write to its standard input.

        @param data: what to write.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    def expect(self, text: bytes) -> bytes:
        """
        Wait until it has printed something.

        @param text: part of what it prints.
        @return: all that it has printed.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while text not in self.printed:
            left = max(deadline - time.monotonic(), 0)
            ready, _, _ = select.select([self._process.stdout], [], [], left)
            piece = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not piece:
                raise AssertionError(f"{text!r} is not in {self.printed!r}")
            self.printed += piece
        return self.printed

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
