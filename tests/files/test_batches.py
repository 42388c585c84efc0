"""
Batches: what is given together is done together, in its order, and each has its own answer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.files.fileserver import Later
from twisted_netsuite.errors import ConnectionFailed, NotFound
from twisted_netsuite.files.batches import BATCH, BATCH_BYTES, Batches
from twisted_netsuite.files.disk import WatchedDisk


class BatchTests(SynchronousTestCase):
    """Batches of one session."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.disk = Later()
        self.batches = Batches(self.clock, self.disk)
        self.done: list[int] = []

    def give(self, number: int, error: Exception | None = None) -> Deferred[int]:
        def work() -> int:
            self.done.append(number)
            if error is not None:
                raise error
            return number

        return self.batches.run(work)

    def test_together(self) -> None:
        """What comes in one turn goes to one thread, in order, and no more than a batch of it."""
        results = [self.give(number) for number in range(BATCH + 1)]
        self.assertEqual(self.disk.waiting, [])
        self.clock.advance(0)
        self.assertEqual(len(self.disk.waiting), 1)
        self.disk.step()
        self.assertEqual(self.done, list(range(BATCH)))
        self.assertEqual([self.successResultOf(each) for each in results[:BATCH]], self.done)
        self.assertNoResult(results[BATCH])
        self.disk.step()
        self.assertEqual(self.successResultOf(results[BATCH]), BATCH)
        self.assertFalse(self.disk.step())

    def test_bytes(self) -> None:
        """No more of files is read in one go than a bound, and all of it in order in the end."""
        size = BATCH_BYTES // 4
        read: list[int] = []

        class Content:
            data = bytes(size)

        def work(number: int) -> Content:
            read.append(number)
            return Content()

        results = [self.batches.run(partial(work, number)) for number in range(10)]
        self.clock.advance(0)
        for count in (4, 8, 10):
            self.assertTrue(self.disk.step())
            self.assertEqual(read, list(range(count)))
            self.assertEqual(
                [each.called for each in results], [True] * count + [False] * (10 - count)
            )
        self.assertFalse(self.disk.step())

    def test_fault(self) -> None:
        """What fails, fails alone."""
        results = [self.give(0), self.give(1, NotFound("no")), self.give(2, ValueError("x"))]
        results.append(self.give(3))
        self.clock.advance(0)
        self.disk.step()
        self.failureResultOf(results[1], NotFound)
        self.failureResultOf(results[2], ValueError)
        self.assertEqual(self.successResultOf(results[3]), 3)

    def test_noThread(self) -> None:
        """When there is no thread all of it fails, and what comes later is tried."""
        failing: list[Any] = [True]

        class Broken(Later):
            def run(self, work: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
                def broken(works: object) -> None:
                    raise RuntimeError("no thread")

                return super().run(broken if failing else work, *args, **kwargs)

        disk = Broken()
        self.batches = Batches(self.clock, disk)
        one, two = self.give(1), self.give(2)
        self.clock.advance(0)
        disk.step()
        self.failureResultOf(one, RuntimeError)
        self.failureResultOf(two, RuntimeError)
        failing.clear()
        three = self.give(3)
        self.clock.advance(0)
        disk.step()
        self.assertEqual(self.successResultOf(three), 3)

    def test_gate(self) -> None:
        """Nothing is begun whose answer nobody could take; once nobody ever will, all is."""
        for fails in (False, True):
            gate: Deferred[None] = Deferred()

            async def mayBegin(gate: Deferred[None] = gate) -> None:
                await gate

            self.batches = Batches(self.clock, self.disk, mayBegin)
            result = self.give(1)
            self.clock.advance(0)
            self.assertEqual(self.disk.waiting, [])
            if fails:
                gate.errback(ConnectionFailed("over"))
            else:
                gate.callback(None)
            self.disk.step()
            self.assertEqual(self.successResultOf(result), 1)

    def test_hurry(self) -> None:
        """What waits for its turn is begun at once, and once."""
        self.batches.hurry()
        result = self.give(1)
        self.batches.hurry()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.batches.hurry()
        self.disk.step()
        self.assertEqual(self.successResultOf(result), 1)
        self.assertFalse(self.disk.step())


class WatchedDiskTests(SynchronousTestCase):
    """A disk that tells when it rests."""

    def test_idle(self) -> None:
        """It rests once all is done, and what was begun because of that."""
        later = Later()
        disk = WatchedDisk(later)
        self.successResultOf(disk.idle())
        first = disk.run(lambda: 1)
        second = first.addCallback(lambda _: disk.run(lambda: 2))
        idle = disk.idle()
        later.step()
        self.assertNoResult(idle)
        later.step()
        self.successResultOf(idle)
        self.assertEqual(self.successResultOf(second), 2)

    def test_failure(self) -> None:
        """What fails is over, too."""
        later = Later()
        disk = WatchedDisk(later)

        def fail() -> None:
            raise NotFound("no")

        failing = disk.run(fail)
        idle = disk.idle()
        later.step()
        self.failureResultOf(failing, NotFound)
        self.successResultOf(idle)
