"""
Turns: so many of what is to be done are begun, and more wait, in order.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import CancelledError, Deferred, succeed


class Turns:
    """Gives turns while there are not too many."""

    def __init__(self, most: int) -> None:
        """
        @param most: how many are under way at a time.
        """
        self._most = self._free = most
        self._waiting: deque[Deferred[None]] = deque()
        self._giving = False

    @property
    def load(self) -> int:
        """How many are under way, or wait."""
        return self._most - self._free + len(self._waiting)

    def wait(self) -> Deferred[None]:
        """
        Wait for a turn.

        @return: fires with it; its end is told by L{done}. Cancelling it before gives it up.
        """
        if self.tryToTake():
            return succeed(None)
        turn: Deferred[None] = Deferred(self._cancelled)
        self._waiting.append(turn)
        return turn

    def tryToTake(self) -> bool:
        """
        Take a turn, if there is one at once.

        @return: whether there was.
        """
        if self._waiting or not self._free:
            return False
        self._free -= 1
        return True

    def done(self) -> None:
        """Note the end of a turn, so that the next begins."""
        self._free += 1
        if self._giving:
            # One loop gives all: what ends at once would otherwise go deeper and deeper.
            return
        self._giving = True
        while self._waiting and self._free:
            self._free -= 1
            self._waiting.popleft().callback(None)
        self._giving = False

    def _cancelled(self, turn: Deferred[None]) -> None:
        self._waiting.remove(turn)
        turn.errback(CancelledError())
