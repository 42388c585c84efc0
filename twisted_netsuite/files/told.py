"""
A progress callback of a caller, which is code of others: what it raises ends the transfer that it
is told of, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_netsuite.files.moving import Moved

T = TypeVar("T")


class Told:
    """Calls it, until it has raised something."""

    def __init__(self, clock: IReactorTime, moved: Moved) -> None:
        """
        @param clock: gives the next turn.
        @param moved: the callback.
        """
        self._clock = clock
        self._moved = moved
        self._why: Failure | None = None
        self._cancel: Callable[[], object] = _nothing

    def __call__(self, count: int) -> None:
        """
        Tell it.

        @param count: bytes.
        """
        if self._why is not None:
            return
        try:
            self._moved(count)
        except Exception:
            self._why = Failure()
            # Not at once: the transfer is in the middle of something.
            self._clock.callLater(0, self._stop)

    def follow(self, transfer: Deferred[T]) -> Deferred[T]:
        """
        Have a transfer end with what the callback raises.

        @param transfer: which.
        @return: the same; it fails with that.
        """
        self._cancel = transfer.cancel
        return transfer.addBoth(self._ended)

    def _stop(self) -> None:
        self._cancel()

    def _ended(self, result: T | Failure) -> T | Failure:
        return result if self._why is None else self._why


def _nothing() -> None:
    """It has not begun."""
