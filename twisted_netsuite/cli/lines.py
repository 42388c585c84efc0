"""
Reading lines from standard input on the reactor, whether it is a terminal, a pipe or a file.

The descriptor stays blocking, as others may share it: it is read only when it has something.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IReadDescriptor)
class LineReader:
    """Gives out one line after another."""

    def __init__(self, reactor: Any, descriptor: int = 0) -> None:
        """
        @param reactor: watches the descriptor.
        @param descriptor: what to read.
        """
        self._reactor = reactor
        self._descriptor = descriptor
        self._partial = b""
        self._lines: deque[str] = deque()
        self._ended = False
        self._waiting: Deferred[None] | None = None

    async def readLine(self) -> str | None:
        """
        Read the next line.

        @return: without its end; C{None} once the input has ended.
        """
        if not self._lines and not self._ended:
            self._waiting = Deferred(lambda _: self._reactor.removeReader(self))
            self._reactor.addReader(self)
            await self._waiting
        return self._lines.popleft() if self._lines else None

    def fileno(self) -> int:
        """Tell the descriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Name this in the log."""
        return "input"

    def doRead(self) -> Exception | None:  # type: ignore[override]
        """Take what is there."""
        data = os.read(self._descriptor, 65536)
        if not data:
            return CONNECTION_DONE
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._lines.extend(line.decode("utf-8", "replace").rstrip("\r") for line in lines)
        if self._lines:
            self._wake()
        return None

    def connectionLost(self, reason: Failure) -> None:
        """The input has ended."""
        self.end()

    def end(self) -> None:
        """Read no more; what is there can still be taken."""
        self._ended = True
        if self._partial:
            self._lines.append(self._partial.decode("utf-8", "replace"))
            self._partial = b""
        self._wake()

    def _wake(self) -> None:
        self._reactor.removeReader(self)
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)
