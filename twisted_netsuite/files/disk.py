"""
Work on the disk, in threads: a disk that is slow makes nobody wait but those who asked for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")

#: Threads at the most: one disk serves no more at once, and hashing has as many on a small machine.
THREADS = 8


class Disk(Protocol):
    """Does what blocks."""

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """
        Do something.

        @param work: what; it blocks.
        @param args: for it.
        @param kwargs: for it.
        @return: fires with what it returns, or fails with what it raises.
        """


class ThreadedDisk:
    """Does what blocks in threads of its own."""

    def __init__(self, reactor: Any, threads: int = THREADS) -> None:
        """
        @param reactor: gets the results.
        @param threads: how many there are at the most.
        """
        self._reactor = reactor
        self._pool = ThreadPool(0, threads, "files")

    def start(self) -> None:
        """Be ready to work."""
        self._pool.start()

    def stop(self) -> None:
        """Finish what was begun, and end the threads."""
        if self._pool.started:
            self._pool.stop()

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """
        Do something in a thread.

        @param work: what; it blocks.
        @param args: for it.
        @param kwargs: for it.
        @return: fires with what it returns, or fails with what it raises.
        """
        return deferToThreadPool(self._reactor, self._pool, work, *args, **kwargs)
