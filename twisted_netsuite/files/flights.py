"""
Many things under way at once, and no more than there is room for; what is cancelled is over only
when all of it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Event
from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import ConnectionFailed, NetsuiteError, ProtocolError, TimedOut
from twisted_netsuite.files.disk import Disk

T = TypeVar("T")
R = TypeVar("R")

#: Things that are under way at a time: enough small files to keep a disk busy over any link, and
#: half of what one session carries.
MAX_FLIGHTS = 512

#: Bytes of files that are under way, beyond which no more are begun: a large file is on its way
#: almost alone, so that an interruption finds few that are not whole.
MAX_LOAD = 32 * 1024 * 1024

#: What is wrong with the session, and so with all that is asked over it.
_ALL = (ConnectionFailed, ProtocolError, TimedOut)


class Flights(Generic[T, R]):
    """
    Does one thing for each of many items.

    What C{begin} gives for an item is cancelled when all is stopped; C{ended} hears of every item
    that was begun, whatever became of it.
    """

    def __init__(
        self,
        items: Iterable[T],
        begin: Callable[[T], Deferred[R]],
        ended: Callable[[T, R | Failure], object],
        weigh: Callable[[T], int] = lambda item: 0,
    ) -> None:
        """
        @param items: what there is to do; the next is asked for when there is room.
        @param begin: begins it.
        @param ended: gets the item, and what came of it; what it raises stops all.
        @param weigh: tells how many bytes of room it takes.
        """
        self._items: Iterator[T] = iter(items)
        self._begin = begin
        self._ended = ended
        self._weigh = weigh
        self._open: dict[int, Deferred[R]] = {}
        self._begun = 0
        self._load = 0
        self._more = True
        self._filling = False
        self._stopped = False
        self._why: Failure | None = None
        self._done: Deferred[None] = Deferred()

    async def run(self) -> None:
        """
        Do all of it.

        @raise CancelledError: when it was cancelled, and nothing is under way any more.
        """
        self._fill()
        await whole(self._done, self.stop)

    def stop(self, why: Failure | None = None) -> None:
        """
        Begin nothing more, and break off what is under way.

        @param why: what L{run} shall fail with.
        """
        self._why = self._why or why
        self._more = False
        if self._stopped:
            # Each that is broken off may say so again. One loop breaks off all, and each once: the
            # second time would hit what it does to end well.
            return
        self._stopped = True
        for each in list(self._open.values()):
            each.cancel()
        self._fill()

    def _fill(self) -> None:
        """One loop begins all: what ends at once would otherwise go deeper and deeper."""
        if self._filling:
            return
        self._filling = True
        try:
            while self._more and len(self._open) < MAX_FLIGHTS and self._load < MAX_LOAD:
                self._next()
        except Exception:
            self.stop(Failure())
        finally:
            self._filling = False
        if not self._more and not self._open and not self._done.called:
            if self._why is None:
                self._done.callback(None)
            else:
                self._done.errback(self._why)

    def _next(self) -> None:
        try:
            item = next(self._items)
        except StopIteration:
            self._more = False
            return
        self._begun += 1
        number, weight = self._begun, self._weigh(item)
        begun = self._begin(item)
        self._open[number] = begun
        self._load += weight
        begun.addBoth(self._over, number, weight, item)
        if self._stopped:
            # Something has stopped all while this was begun.
            begun.cancel()

    def _over(self, result: R | Failure, number: int, weight: int, item: T) -> None:
        del self._open[number]
        self._load -= weight
        try:
            self._ended(item, result)
        except Exception:
            self.stop(Failure())
        self._fill()


async def whole(work: Deferred[T], stop: Callable[[], object]) -> T:
    """
    Wait for something, and when that is cancelled, stop it and wait until it really is over.

    @param work: what to wait for; it is not cancelled itself.
    @param stop: makes it end soon.
    @return: its result.
    """
    result: Deferred[T] = Deferred()
    end: Deferred[None] = Deferred()

    def over(found: T | Failure) -> None:
        if not result.called:
            result.callback(found)
        end.callback(None)

    work.addBoth(over)
    try:
        return await result
    except CancelledError:
        stop()
        await end
        raise


async def inThread(disk: Disk, work: Callable[[Callable[[], bool]], T]) -> T:
    """
    Do something in a thread; when it is cancelled, wait until the thread has left it, so that
    nothing is taken from under it.

    @param disk: has the thread.
    @param work: gets what tells whether to stop.
    @return: what it returns.
    """
    stopped = Event()
    return await whole(disk.run(work, stopped.is_set), stopped.set)


async def together(one: Deferred[T], other: Deferred[R]) -> tuple[T, R]:
    """
    Wait for two things; when the first fails, or the waiting is cancelled, so is the other.

    @param one: the first, which is waited for first.
    @param other: the other.
    @return: what both give, when both are over.
    """
    try:
        first = await one
    except BaseException:
        other.cancel()
        await other.addErrback(lambda failure: None)
        raise
    return first, await other


def itsOwn(failure: Failure) -> NetsuiteError:
    """
    Tell what is wrong with one thing of many; what is wrong with all of them is raised.

    @param failure: of one thing.
    @return: why; the others can go on.
    @raise ConnectionFailed: when the connection is gone; C{ProtocolError} or C{TimedOut} when it
        soon will be.
    """
    error = failure.value
    assert error is not None
    if isinstance(error, NetsuiteError) and not isinstance(error, _ALL):
        return error
    raise error
