"""
A person at a terminal, in memory: what is typed, and what is printed.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.testing import MemoryReactor, MemoryReactorClock
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


#: Turns after which a test that never comes to rest is given up.
MAX_TURNS = 10_000

_GONE = select.POLLHUP | select.POLLERR


class DescriptorReactor(MemoryReactorClock):
    """A reactor on which time passes as a test says, and real descriptors are looked at as well."""

    def callFromThread(self, call: Callable[[], object]) -> None:
        """Call it at once, as the test is the only thread."""
        call()

    def turn(self) -> bool:
        """
        Let each descriptor do what it can, once, as a real reactor does.

        @return: whether there was any.
        """
        happened = False
        for each in list(self.getReaders()):
            happened |= self._look(each, select.POLLIN, each.doRead, self.removeReader)
        for each in list(self.getWriters()):
            happened |= self._look(each, select.POLLOUT, each.doWrite, self.removeWriter)
        return happened

    def settle(self) -> None:
        """Turn until there is nothing to do."""
        for _ in range(MAX_TURNS):
            if not self.turn():
                return
        raise AssertionError(f"The descriptors did not come to rest in {MAX_TURNS} turns.")

    @staticmethod
    def _look(each: Any, wanted: int, act: Callable[[], Any], remove: Callable[[Any], Any]) -> bool:
        poll = select.poll()
        poll.register(each.fileno(), wanted)
        events = dict(poll.poll(0)).get(each.fileno(), 0)
        if not events:
            return False
        gone = events & _GONE and not events & select.POLLIN
        why = CONNECTION_LOST if gone else act()
        if why is not None:
            remove(each)
            each.connectionLost(Failure(why))
        return True


def pipe(test: SynchronousTestCase) -> tuple[int, int]:
    """
    Make a pipe.

    @param test: closes at its end what is still open of it.
    @return: where it is read, and where it is written.
    """
    ends = os.pipe()
    for each in ends:
        test.addCleanup(closed, each)
    return ends


def closed(descriptor: int) -> None:
    """
    Close a descriptor, if it is not yet.

    @param descriptor: its number.
    """
    try:
        os.close(descriptor)
    except OSError:
        return


def drained(descriptor: int) -> bytes:
    """
    Read what is there now.

    @param descriptor: of a pipe or a terminal.
    @return: the bytes, without waiting for any.
    """
    found = b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while poll.poll(0):
        piece = os.read(descriptor, 65536)
        if not piece:
            break
        found += piece
    return found
