"""
The C{netsuite} program at a pipe or a terminal, typed into and read by a test.
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import BIN, PATIENCE


class Console:
    """A running C{netsuite}; what it prints on both streams is read together."""

    def __init__(self, test: SynchronousTestCase, *words: str, terminal: bool = False) -> None:
        """
        Start it until the end of the test.

        @param test: ends it.
        @param words: its arguments.
        @param terminal: whether it runs at a terminal, or else at pipes.
        """
        if terminal:
            self._near, far = pty.openpty()
            test.addCleanup(os.close, self._near)
            self._write = self._near
            stdin = stdout = far
        else:
            stdin, self._write = os.pipe()
            self._near, stdout = os.pipe()
            test.addCleanup(os.close, self._near)
        self._typing = True
        self._terminal = terminal
        self._seen = ""
        self._process = subprocess.Popen(
            [BIN / "netsuite", *words], stdin=stdin, stdout=stdout, stderr=stdout
        )
        for descriptor in {stdin, stdout}:
            os.close(descriptor)
        test.addCleanup(self._stop)

    def type(self, line: str) -> None:
        """
        Type a line.

        @param line: without its end.
        """
        os.write(self._write, line.encode() + b"\n")

    def expect(self, text: str) -> str:
        """
        Wait for a text; what was printed up to it is then forgotten.

        @param text: what should be printed.
        @return: all that was printed up to it and with it.
        """
        deadline = time.monotonic() + PATIENCE
        while text not in self._seen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._near], [], [], max(left, 0))
            piece = self._read() if ready else b""
            if not piece:
                raise AssertionError(f"{text!r} is not in {self._seen!r}")
            self._seen += piece.decode()
        before, _, self._seen = self._seen.partition(text)
        return before + text

    def end(self) -> int:
        """
        Type no more, and wait for the end.

        @return: the exit status.
        """
        self._endTyping()
        return self._process.wait(PATIENCE)

    def rest(self) -> str:
        """Wait for the end, and read what was printed since the last L{expect}."""
        while piece := self._read():
            self._seen += piece.decode()
        return self._seen

    def _read(self) -> bytes:
        try:
            return os.read(self._near, 65536)
        except OSError:
            # So a terminal says that its other side is closed.
            return b""

    def _endTyping(self) -> None:
        if self._typing:
            self._typing = False
            if self._terminal:
                os.write(self._write, b"\x04")
            else:
                os.close(self._write)

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if not self._terminal and self._typing:
            os.close(self._write)
