"""
A person at a terminal, in memory: what is typed, and what is printed.
"""

from __future__ import annotations

import io
import os
import sys
from typing import cast

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase


class Screen:
    """What a test's program prints on standard output and standard error."""

    def __init__(self, test: SynchronousTestCase) -> None:
        """
        @param test: the test, during which both are taken.
        """
        self._out, self._err = io.BytesIO(), io.StringIO()
        test.patch(sys, "stdout", io.TextIOWrapper(self._out, "utf-8", write_through=True))
        test.patch(sys, "stderr", self._err)

    @property
    def out(self) -> bytes:
        """Standard output so far."""
        return self._out.getvalue()

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._err.getvalue()


class Keyboard:
    """
    Types into a pipe.

    @ivar descriptor: where it is read.
    """

    def __init__(self, test: SynchronousTestCase, reactor: MemoryReactor) -> None:
        """
        @param test: the test, at whose end the pipe is closed.
        @param reactor: watches the pipe.
        """
        self.descriptor, self._far = os.pipe()
        self._reactor = reactor
        self._open = True
        test.addCleanup(os.close, self.descriptor)
        test.addCleanup(self.end)

    def type(self, text: str | bytes) -> None:
        """
        Type, and let whoever reads read.

        @param text: with its line ends.
        """
        os.write(self._far, text.encode() if isinstance(text, str) else text)
        self._turn()

    def end(self) -> None:
        """Type no more."""
        if self._open:
            self._open = False
            os.close(self._far)
            self._turn()

    def _turn(self) -> None:
        """Let the reactor report once that there is something to read, as a real one does."""
        for reader in self._reactor.getReaders():
            why = cast(IReadDescriptor, reader).doRead()
            if why is not None:
                self._reactor.removeReader(reader)
                cast(IReadDescriptor, reader).connectionLost(Failure(cast(Exception, why)))
