"""
SIGHUP as the wish to read files again, for any number of listeners in one process.

A process has one action for a signal, so whoever asks first installs ours, which keeps the others'.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

_log = Logger()

Act = Callable[[], object]


class HangupAction:
    """The action of SIGHUP: tells everyone who has asked, each in the reactor's own turn."""

    def __init__(self, previous: Any) -> None:
        """
        @param previous: the action that this one takes the place of; C{None} for one that Python
            does not know.
        """
        self.previous = previous
        self._asked: list[tuple[IReactorFromThreads, Act]] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Tell everyone, and do what was done before."""
        for reactor, act in self._asked:
            reactor.callFromThread(act)
        if callable(self.previous):
            self.previous(number, frame)

    def add(self, reactor: IReactorFromThreads, act: Act) -> Act:
        """
        Tell one more.

        @param reactor: runs the act.
        @param act: called after each SIGHUP.
        @return: ends that; the action before this one comes back with the last who leaves.
        """
        asked = (reactor, act)
        previous = self.previous
        # A new list, as the signal may come while the old one is gone through.
        self._asked = [*self._asked, asked]

        def remove() -> None:
            self._asked = [one for one in self._asked if one is not asked]
            if not self._asked and signal.getsignal(signal.SIGHUP) is self:
                signal.signal(signal.SIGHUP, signal.SIG_DFL if previous is None else previous)

        return remove


def onHangup(reactor: IReactorFromThreads, act: Act) -> Act:
    """
    Ask to be told of SIGHUP, which ends the process where nobody asks.

    @param reactor: runs the act.
    @param act: called after each SIGHUP.
    @return: ends that.

    Outside the main thread nobody can be told, which is a line in the log.
    """
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set actions; a reactor elsewhere has an owner who does.
        _log.warn("SIGHUP cannot be had outside the main thread, so it reads no files again here")
        return lambda: None
    action = signal.getsignal(signal.SIGHUP)
    if not isinstance(action, HangupAction):
        action = HangupAction(action)
        signal.signal(signal.SIGHUP, action)
    return action.add(reactor, act)
