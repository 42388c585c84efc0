"""
How much one session of the files service may take and send at a time: what waits for the disk, for
the client, and for the pace that its identity has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from twisted_netsuite.errors import ConnectionFailed, LimitExceeded
from twisted_netsuite.files.sending import Sending
from twisted_netsuite.net.rates import Pace
from twisted_netsuite.trust.identity import Identity

#: Bytes that a session has taken and not given to the disk yet, with which it is not read: two
#: pieces, one that is written and one that waits for that.
MAX_WAITING = 1024 * 1024

#: Bytes of files whose COMMIT has not come, though it follows at once: reading on is the only way
#: to it, so what is more than some whole files ends the session.
MAX_GATHERED = 4 * 1024 * 1024

#: Lists and larger files of one session that are sent at a time; more wait in order.
MAX_SENDING = 2

#: Lists and larger files that wait, beyond which no more requests are begun: each has a descriptor.
MAX_QUEUED = 64


#: Bytes of whole files that were read to be answered, and have not left, beyond which no more
#: requests are begun: two bundles, one that leaves and one that is read meanwhile.
MAX_UNSENT = 2 * 1024 * 1024


class Inflow:
    """What one session takes."""

    def __init__(
        self, clock: IReactorTime, pace: Pace, key: Identity, hold: Callable[[bool], object]
    ) -> None:
        """
        @param clock: tells and waits for time.
        @param pace: how fast bytes may come.
        @param key: whose they are.
        @param hold: stops to read, or goes on.
        """
        self._clock = clock
        self._pace = pace
        self._key = key
        self._hold = hold
        self._waiting = 0
        self._gathered = 0
        #: Holds reading, for the pace.
        self._slow: IDelayedCall | None = None
        self._slowUntil = 0.0
        self._over = False

    def waits(self, count: int) -> None:
        """
        Count bytes that wait for the disk; while there are too many nothing is read.

        @param count: how many more; fewer when it is negative.
        """
        self._waiting += count
        if self._over:
            return
        if count > 0 and (wait := self._pace.take(self._key, count)):
            self._slowUntil = max(self._slowUntil, self._clock.seconds() + wait)
            if self._slow is None:
                self._slow = self._clock.callLater(wait, self._fastAgain)
        self._balance()

    def gathers(self, count: int) -> None:
        """
        Count bytes that wait for their COMMIT.

        @param count: how many more; fewer when it is negative.
        @raise LimitExceeded: when there are too many.
        """
        self._gathered += count
        if self._gathered > MAX_GATHERED:
            raise LimitExceeded(
                f"More than {MAX_GATHERED} bytes of files came without their COMMIT; send it at "
                "once behind each."
            )

    def close(self) -> None:
        """The session is over."""
        self._over = True
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _fastAgain(self) -> None:
        left = self._slowUntil - self._clock.seconds()
        self._slow = self._clock.callLater(left, self._fastAgain) if left > 0 else None
        self._balance()

    def _balance(self) -> None:
        self._hold(self._waiting >= MAX_WAITING or self._slow is not None)


class Outflow:
    """What one session sends."""

    def __init__(
        self, clock: IReactorTime, pace: Pace, key: Identity, stalled: Callable[[], bool]
    ) -> None:
        """
        @param clock: tells and waits for time.
        @param pace: how fast bytes may leave.
        @param key: whose they are.
        @param stalled: tells whether the client takes nothing.
        """
        self._clock = clock
        self._pace = pace
        self._key = key
        self._stalled = stalled
        self._queue: deque[Sending] = deque()
        self._sending = 0
        self._starting = False
        self._waiting: list[Deferred[None]] = []
        self._pauses: set[Deferred[None]] = set()
        self._paidAt = 0.0
        self._unsent = 0
        self._over = False

    def enqueue(self, sending: Sending) -> None:
        """
        Send a list or a larger file, once it is its turn.

        @param sending: which.
        """
        if self._over:
            sending.sessionClosed()
            return
        self._queue.append(sending)
        self._start()

    def ready(self) -> Deferred[None]:
        """
        Wait until the client takes what was sent.

        @return: fires then; fails when the session is over.
        """
        return self._wait() if self._over or self._stalled() else succeed(None)

    def answered(self, count: int) -> None:
        """
        Count bytes of files that are answered whole, from when they were read.

        @param count: how many; L{left} comes after that.
        """
        self._unsent += count
        wait = self._pace.take(self._key, count)
        self._paidAt = max(self._paidAt, self._clock.seconds() + wait)

    def left(self, count: int) -> None:
        """
        Count bytes of such files that have left.

        @param count: how many.
        """
        self._unsent -= count
        if self._mayBegin():
            self.taken()

    async def mayBegin(self) -> None:
        """
        Wait until more requests can be answered: else what is not taken would all be in memory,
        and what waits would all be open.

        @raise ConnectionFailed: when the session is over.
        """
        while self._over or not self._mayBegin():
            await self._wait()
        await self._pause(self._paidAt - self._clock.seconds())

    async def mayLeave(self, count: int) -> None:
        """
        Wait for the pace.

        @param count: bytes that are to leave then.
        @raise ConnectionFailed: when the session is over.
        """
        await self._pause(self._pace.take(self._key, count))

    def taken(self) -> None:
        """The client takes more."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def close(self) -> None:
        """The session is over: nothing waits any more."""
        self._over = True
        self._queue.clear()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(_over())
        for pause in list(self._pauses):
            pause.cancel()

    def _mayBegin(self) -> bool:
        crowded = self._unsent >= MAX_UNSENT or len(self._queue) >= MAX_QUEUED
        return not crowded and not self._stalled()

    def _wait(self) -> Deferred[None]:
        if self._over:
            return fail(_over())
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _pause(self, seconds: float) -> Deferred[None]:
        if self._over:
            return fail(_over())
        if seconds <= 0:
            return succeed(None)
        pause: Deferred[None] = deferLater(self._clock, seconds)
        self._pauses.add(pause)

        def ended(result: Failure | None) -> None:
            self._pauses.discard(pause)
            if isinstance(result, Failure):
                result.trap(CancelledError)
                raise _over()

        return pause.addBoth(ended)

    def _start(self) -> None:
        """One loop starts all: what is sent at once would otherwise go deeper and deeper."""
        if self._starting:
            return
        self._starting = True
        while self._queue and self._sending < MAX_SENDING:
            self._sending += 1
            self._queue.popleft().start().addCallback(self._sent)
        self._starting = False

    def _sent(self, result: None) -> None:
        self._sending -= 1
        self._start()
        if self._mayBegin():
            self.taken()


def _over() -> ConnectionFailed:
    return ConnectionFailed("The session is over.")
