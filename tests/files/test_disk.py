"""
Threads that work on a disk: how much of a processor they take, and when nothing is under way.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from threading import get_native_id
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.files.disk import Line, ThreadedDisk, WatchedDisk

#: Seconds after which a process that has not ended never will.
PATIENCE = 30


class Held:
    """Does what is asked when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.asked.append((lambda: work(*args, **kwargs), done))
        return done

    def step(self) -> None:
        work, done = self.asked.pop(0)
        done.callback(work())


class Inbox(Clock):
    """A reactor that keeps what threads hand it."""

    def __init__(self) -> None:
        super().__init__()
        self.handed: list[Callable[[], object]] = []

    def callFromThread(self, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        self.handed.append(lambda: call(*args, **kwargs))


class ThreadedDiskTests(SynchronousTestCase):
    """L{ThreadedDisk}."""

    def test_nice(self) -> None:
        """Its threads step back as far as they were told; nobody else does."""
        if sys.platform != "linux":
            raise SkipTest("Only Linux can say so of one thread.")
        own = os.getpriority(os.PRIO_PROCESS, get_native_id())
        for nice, expected in ((0, own), (7, 7)):
            reactor = Inbox()
            disk = ThreadedDisk(reactor, 1, nice)
            disk.start()
            found = disk.run(lambda: os.getpriority(os.PRIO_PROCESS, get_native_id()))
            disk.stop()
            for call in reactor.handed:
                call()
            self.assertEqual(self.successResultOf(found), expected)
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, get_native_id()), own)

    def test_notRunning(self) -> None:
        """What is asked of threads that do not run fails with a sentence, before and after."""
        disk = ThreadedDisk(Inbox(), 1)
        self.failureResultOf(disk.run(lambda: 1), NetsuiteError)
        disk.start()
        disk.stop()
        self.failureResultOf(disk.run(lambda: 1), NetsuiteError)

    def test_again(self) -> None:
        """Threads that were stopped can be started again."""
        reactor = Inbox()
        disk = ThreadedDisk(reactor, 1)
        disk.start()
        disk.stop()
        disk.start()
        found = disk.run(lambda: 1)
        disk.stop()
        for call in reactor.handed:
            call()
        self.assertEqual(self.successResultOf(found), 1)

    def test_reactorStops(self) -> None:
        """Its threads end with the reactor, so that the process can, whether or not anybody has
        stopped it; who stops it leaves nothing with the reactor."""
        script = (
            "import sys\n"
            "from twisted.internet import reactor\n"
            "from twisted_netsuite.files.disk import ThreadedDisk\n"
            "disk = ThreadedDisk(reactor)\n"
            "disk.start()\n"
            "disk.run(int).addCallback(lambda _: sys.argv[1:] and disk.stop())"
            ".addCallback(lambda _: reactor.stop())\n"
            "reactor.run()\n"
            "disk.stop()\n"
        )
        for words in ([], ["stop"]):
            done = subprocess.run(
                [sys.executable, "-c", script, *words],
                timeout=PATIENCE,
                capture_output=True,
                check=False,
            )
            self.assertEqual((done.returncode, done.stderr), (0, b""))


class WatchedDiskTests(SynchronousTestCase):
    """L{WatchedDisk}."""

    def test_beside(self) -> None:
        """It is idle when nothing is under way on any of its disks."""
        one, other = Held(), Held()
        disk = WatchedDisk(one)
        beside = disk.beside(other)
        results = [disk.run(lambda: 1), beside.run(lambda: 2)]
        idle = disk.idle()
        one.step()
        self.assertNoResult(idle)
        other.step()
        self.successResultOf(idle)
        self.assertEqual([self.successResultOf(each) for each in results], [1, 2])


class LineTests(SynchronousTestCase):
    """L{Line}."""

    def test_disks(self) -> None:
        """One thing is done after the other, whichever disk does it."""
        one, other = Held(), Held()
        line = Line(one)
        done: list[int] = []
        line.run(lambda: done.append(1), other)
        line.run(lambda: done.append(2))
        line.run(lambda: done.append(3), other)
        self.assertEqual((len(one.asked), len(other.asked)), (0, 1))
        other.step()
        self.assertEqual((len(one.asked), len(other.asked)), (1, 0))
        one.step()
        other.step()
        self.assertEqual(done, [1, 2, 3])

    def test_steps(self) -> None:
        """What says that there is more is done again before the next, however often."""
        done: list[int] = []
        line = Line(AtOnce())

        def step() -> bool:
            done.append(1)
            return len(done) < 5000

        first = line.runSteps(step)
        for _ in range(5000):
            last = line.run(lambda: len(done))
        self.successResultOf(first)
        self.assertEqual(self.successResultOf(last), 5000)


class AtOnce:
    """Does what is asked while it is asked."""

    def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        return maybeDeferred(work, *args, **kwargs)
