"""
Signals that this process gets, taken from the reactor for a while.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import TracebackType
from typing import Any


class Signals:
    """Calls functions for signals, within a C{with} block; then all are as they were before."""

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: calls the functions, in its own turn.
        """
        self._reactor = reactor
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        """Begin; nothing is taken yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give all of them back."""
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)

    def watch(self, number: int, call: Callable[[], object]) -> None:
        """
        Take a signal.

        @param number: which; one that this process ignores, as under nohup, is left ignored.
        @param call: called for each.
        """
        if signal.getsignal(number) == signal.SIG_IGN:
            return
        before = signal.signal(number, lambda *_: self._reactor.callFromThread(call))
        self._before.setdefault(number, before)
