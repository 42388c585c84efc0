"""
Small pieces of work on a disk, done together: the way to a thread and back costs more than they do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_netsuite.files.disk import Disk
from twisted_netsuite.files.together import together

T = TypeVar("T")

#: Pieces of work that one thread does before it answers: with fewer the way costs more than the
#: work, with more the first answer waits for long.
BATCH = 64

#: Bytes of files that one thread reads before it answers: as many as a bundle has; a batch of
#: larger ones would be seven times as much, for each client that takes nothing.
BATCH_BYTES = 2**20

Work = Callable[[], object]

#: Some work, how many pieces it counts for, and what fires with its result.
_Given = tuple[Work, int, Deferred[Any]]


class Batches:
    """Does the work of one session, piece by piece, in the order in which it was given."""

    def __init__(
        self,
        clock: IReactorTime,
        disk: Disk,
        mayBegin: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """
        @param clock: gives the next turn.
        @param disk: does the work.
        @param mayBegin: waits until more can be answered; when it fails nobody takes answers, and
            nothing has to be waited for. C{None} where answers go to this end.
        """
        self._clock = clock
        self._disk = disk
        self._mayBegin = mayBegin
        self._turn: IDelayedCall | None = None
        self._waiting: deque[_Given] = deque()
        self._busy = False
        self._going = self._again = False

    def run(self, work: Callable[[], T], weight: int = 1) -> Deferred[T]:
        """
        Do something, after all that was given before.

        @param work: what; it blocks.
        @param weight: how many pieces of work it counts for; with L{BATCH} it is done alone.
        @return: fires with what it returns, or fails with what it raises.
        """
        done: Deferred[T] = Deferred()
        self._waiting.append((work, weight, done))
        if not self._busy:
            # In a turn of its own: what else has come in the same read goes with it.
            self._busy = True
            self._turn = self._clock.callLater(0, self._next)
        return done

    def hurry(self) -> None:
        """Begin now what waits for its turn, as soon there may be none."""
        if self._turn is not None and self._turn.active():
            self._turn.cancel()
            self._next()

    def _next(self) -> None:
        """One loop begins all: what is done at once would otherwise go deeper and deeper."""
        self._again = True
        if self._going:
            return
        self._going = True
        while self._again:
            self._again = False
            if self._mayBegin is None:
                self._begin(None)
            else:
                Deferred.fromCoroutine(self._mayBegin()).addBoth(self._begin)
        self._going = False

    def _begin(self, result: object) -> None:
        taken: list[_Given] = []
        room = BATCH
        while self._waiting and (self._waiting[0][1] <= room or not taken):
            taken.append(self._waiting.popleft())
            room -= taken[-1][1]
        results = self._disk.run(_doAll, [work for work, _, _ in taken])
        results.addCallbacks(self._tell, self._tellAll, callbackArgs=(taken,), errbackArgs=(taken,))

    def _tell(self, results: list[object], taken: list[_Given]) -> None:
        # What was not come to is first in the next.
        self._waiting.extendleft(reversed(taken[len(results) :]))
        for result, (_, _, done) in zip(results, taken, strict=False):
            done.callback(result)
        self._go()

    def _tellAll(self, failure: Failure, taken: list[_Given]) -> None:
        """There is no thread to do it: the service stops."""
        for _, _, done in taken:
            done.errback(failure)
        self._go()

    def _go(self) -> None:
        self._busy = bool(self._waiting)
        if self._busy:
            self._next()


def _doAll(works: list[Work]) -> list[object]:
    """Do as many as have results that are not too large together."""
    results: list[object] = []
    held = 0
    with together():
        for work in works:
            results.append(_do(work))
            held += _bytesOf(results[-1])
            if held >= BATCH_BYTES:
                break
    return results


def _bytesOf(result: object) -> int:
    """Tell how many bytes of a file are in a result, as in L{small.Small}."""
    data = getattr(result, "data", b"")
    return len(data) if isinstance(data, bytes) else 0


def _do(work: Work) -> object:
    try:
        return work()
    except Exception:
        return cast(object, Failure())
