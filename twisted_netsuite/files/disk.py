"""
Work on the disk, in threads: a disk that is slow makes nobody wait but those who asked for it.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Thread, get_native_id
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorCore
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from twisted_netsuite.errors import NetsuiteError

P = ParamSpec("P")
T = TypeVar("T")

#: Bytes that are written and digested at once: a way to a thread and back costs as much as a tenth
#: of that, and of two such pieces for each of 50 connections the memory is 50 MB.
STEP = 512 * 1024

#: Threads at the most: one disk serves no more at once, and hashing has as many on a small machine.
THREADS = 8


#: How much less of a processor the threads of a service get than its reactor, by nice(1): while
#: both want one, the reactor answers others first. With 50 clients that send at once it answers in
#: a fifth of the time (docs/performance.md).
NICE = 10

#: Threads that write and digest what comes: two do as much as a reactor receives, and each more
#: only has it wait longer for the interpreter.
MOVERS = 2


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

    def __init__(self, reactor: Any, threads: int = THREADS, nice: int = 0) -> None:
        """
        @param reactor: gets the results.
        @param threads: how many there are at the most.
        @param nice: how much less of a processor they get than the rest of the process, 0 to 19;
            on Linux, where that can be said of one thread.
        """
        self._reactor = reactor
        self._threads = threads
        self._nice = nice
        self._pool = self._makePool()
        self._trigger: Any = None

    def start(self) -> None:
        """Be ready to work, until L{stop} or the end of the reactor."""
        if self._pool.joined:
            # One that has ended begins no more.
            self._pool = self._makePool()
        self._pool.start()
        if IReactorCore.providedBy(self._reactor):
            # A process ends only after all its threads, and whoever stops the reactor may not
            # know of these.
            add = self._reactor.addSystemEventTrigger
            self._trigger = add("during", "shutdown", self._reactorStops)

    def stop(self) -> None:
        """Finish what was begun, and end the threads."""
        trigger, self._trigger = self._trigger, None
        if trigger is not None:
            self._reactor.removeSystemEventTrigger(trigger)
        if self._pool.started:
            self._pool.stop()

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """
        Do something in a thread.

        @param work: what; it blocks.
        @param args: for it.
        @param kwargs: for it.
        @return: fires with what it returns, or fails with what it raises; with L{NetsuiteError}
            before L{start} and after L{stop}.
        """
        if not self._pool.started:
            return fail(NetsuiteError("Threads that do not run do nothing; start them first."))
        return deferToThreadPool(self._reactor, self._pool, work, *args, **kwargs)

    def _makePool(self) -> ThreadPool:
        pool = ThreadPool(0, self._threads, "files")
        if self._nice and sys.platform == "linux":
            pool.threadFactory = partial(_NiceThread, self._nice)  # type: ignore[assignment]
        return pool

    def _reactorStops(self) -> None:
        # A trigger that was pulled is none any more, and cannot be removed.
        self._trigger = None
        self.stop()


class _NiceThread(Thread):
    """Begins by stepping back behind others."""

    def __init__(self, nice: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._nice = nice

    def run(self) -> None:
        with suppress(OSError):
            # Of this thread alone, though the name says otherwise (setpriority(2), "BUGS").
            os.setpriority(os.PRIO_PROCESS, get_native_id(), self._nice)
        super().run()


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
        return self._watch(self._disk.run, work, *args, **kwargs)

    def beside(self, disk: Disk) -> Disk:
        """
        Watch another disk, too.

        @param disk: which.
        @return: does what is asked on that one, and it counts here.
        """
        return _Beside(self, disk)

    def _watch(
        self,
        run: Callable[..., Deferred[T]],
        work: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Deferred[T]:
        done: Deferred[T] = Deferred()
        self._busy += 1
        run(work, *args, **kwargs).addBoth(self._finished, done)
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


class _Beside:
    """One of several disks that are watched together."""

    def __init__(self, watched: WatchedDisk, disk: Disk) -> None:
        self._watched = watched
        self._disk = disk

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return self._watched._watch(self._disk.run, work, *args, **kwargs)


class _Piece(NamedTuple):
    """Something to do, and whether it is done again as long as it says so."""

    work: Callable[[], Any]
    disk: Disk
    again: bool
    done: Deferred[Any]


class Line:
    """Does what blocks, one thing after the other: so a file is never closed under anybody."""

    def __init__(self, disk: Disk) -> None:
        """
        @param disk: does it.
        """
        self._disk = disk
        self._waiting: deque[_Piece] = deque()
        #: What is done now, and whether the disk is at it.
        self._current: _Piece | None = None
        self._busy = False
        self._looping = False

    def run(self, work: Callable[[], T], disk: Disk | None = None) -> Deferred[T]:
        """
        Do something after all that was given before.

        @param work: what; it blocks. It is done also when nobody waits for it any more.
        @param disk: does it in place of the other.
        @return: fires with what it returns, or fails with what it raises.
        """
        return self._give(work, disk, False)

    def runSteps(self, step: Callable[[], bool]) -> Deferred[None]:
        """
        Do something that takes long, as L{run} does; between its steps the disk is others'.

        @param step: does the next of it, and tells whether there is more; it blocks.
        @return: fires after the last step, or fails with what one raises, which is the last then.
        """
        return self._give(step, None, True).addCallback(lambda _: None)

    def _give(self, work: Callable[[], T], disk: Disk | None, again: bool) -> Deferred[T]:
        done: Deferred[T] = Deferred()
        self._waiting.append(_Piece(work, disk or self._disk, again, done))
        self._go()
        return done

    def _go(self) -> None:
        """One loop begins all: what is done at once would otherwise go deeper and deeper."""
        if self._looping:
            return
        self._looping = True
        while not self._busy and (self._current or self._waiting):
            self._current = current = self._current or self._waiting.popleft()
            self._busy = True
            current.disk.run(current.work).addBoth(self._finished, current)
        self._looping = False

    def _finished(self, result: Any, piece: _Piece) -> None:
        self._busy = False
        more = piece.again and result is True
        if not more:
            self._current = None
        # First, so that the disk works while this end thinks.
        self._go()
        if not more:
            piece.done.callback(result)
