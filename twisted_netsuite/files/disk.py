"""
Work on the disk, in threads: a disk that is slow makes nobody wait but those who asked for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")

#: Bytes that are written and digested at once: a way to a thread and back costs as much as a tenth
#: of that, and of two such pieces for each of 50 connections the memory is 50 MB.
STEP = 512 * 1024

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


class WatchedDisk:
    """Does what blocks on another disk, and tells when nothing of it is under way."""

    def __init__(self, disk: Disk) -> None:
        """
        @param disk: does it.
        """
        self._disk = disk
        self._busy = 0
        self._waiting: list[Deferred[None]] = []

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """
        Do something.

        @param work: what; it blocks.
        @param args: for it.
        @param kwargs: for it.
        @return: fires with what it returns, or fails with what it raises.
        """
        done: Deferred[T] = Deferred()
        self._busy += 1
        self._disk.run(work, *args, **kwargs).addBoth(self._finished, done)
        return done

    def idle(self) -> Deferred[None]:
        """
        Wait until nothing is under way, nor what was begun because of that.

        @return: fires then.
        """
        if not self._busy:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _finished(self, result: Any, done: Deferred[Any]) -> None:
        # First, as what comes of it may be more work.
        done.callback(result)
        self._busy -= 1
        if not self._busy:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)


class Line:
    """Does what blocks, one thing after the other: so a file is never closed under anybody."""

    def __init__(self, disk: Disk) -> None:
        """
        @param disk: does it.
        """
        self._disk = disk
        self._waiting: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._busy = False

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """
        Do something after all that was given before.

        @param work: what; it blocks. It is done also when nobody waits for it any more.
        @return: fires with what it returns, or fails with what it raises.
        """
        done: Deferred[T] = Deferred()
        self._waiting.append((work, done))
        if not self._busy:
            self._next()
        return done

    def _next(self) -> None:
        self._busy = bool(self._waiting)
        if self._waiting:
            work, done = self._waiting.popleft()
            self._disk.run(work).addBoth(self._finished, done)

    def _finished(self, result: Any, done: Deferred[Any]) -> None:
        # First, so that the disk works while this end thinks.
        self._next()
        done.callback(result)
