"""
Limits of time and rate that every service shares; the clock is always handed in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol as Shape

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Clock(Shape):
    """What is needed of a reactor to tell and to wait for time."""

    def seconds(self) -> float:
        """Tell the time in seconds, from any start."""

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """Call later, in seconds."""


class IdleTimer:
    """
    Notices that nothing has happened for a while.

    One pending call serves it however often it is touched: a touch only notes the time, so it may
    stand on a hot path.
    """

    def __init__(
        self,
        clock: IReactorTime | Clock,
        seconds: float,
        onIdle: Callable[[], object],
        first: float = 0.0,
    ) -> None:
        """
        @param clock: tells and waits for time.
        @param seconds: how long nothing may happen; 0 means for ever.
        @param onIdle: called once when that time is over; the timer has then stopped.
        @param first: how long nothing may happen before the first touch; 0 means as long as later.
        """
        self._clock = clock
        self._seconds = seconds
        self._onIdle = onIdle
        self._first = min(filter(None, (first, seconds)), default=0.0)
        self._begun = 0.0
        self._last: float | None = None
        self._call: IDelayedCall | None = None

    @property
    def touched(self) -> bool:
        """Whether anything has ever happened."""
        return self._last is not None

    def start(self) -> None:
        """Begin, or begin again, to wait."""
        self._begun = self._clock.seconds()
        if self._last is not None:
            self.touch()
        self._wait(self._first if self._last is None else self._seconds)

    def touch(self) -> None:
        """Something has happened."""
        self._last = self._clock.seconds()

    def stop(self) -> None:
        """Wait no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _wait(self, seconds: float) -> None:
        if seconds and self._call is None:
            self._call = self._clock.callLater(seconds, self._check)

    def _check(self) -> None:
        self._call = None
        if self._last is None:
            end = self._begun + self._first
        elif self._seconds:
            end = self._last + self._seconds
        else:
            return
        left = end - self._clock.seconds()
        if left > 0:
            self._wait(left)
        else:
            self._onIdle()


class TokenBuckets:
    """
    A rate limit for each key, in a table that cannot grow without bound.

    When the table is full the key that was used longest ago is forgotten, and so has its whole
    burst again: a flood from invented keys can win no more than that.
    """

    def __init__(
        self, clock: IReactorTime | Clock, rate: float, burst: int, maxKeys: int = 4096
    ) -> None:
        """
        @param clock: tells time.
        @param rate: permits a second that each key earns.
        @param burst: the most permits that a key can hold.
        @param maxKeys: how many keys are remembered; 4096 keys are about 1 MB.
        """
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._maxKeys = maxKeys
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def take(self, key: object) -> bool:
        """
        Use one permit.

        @param key: whose permit, any hashable.
        @return: whether there was one.
        """
        now = self._clock.seconds()
        permits, then = self._buckets.pop(key, (float(self._burst), now))
        permits = min(self._burst, permits + (now - then) * self._rate)
        granted = permits >= 1
        self._buckets[key] = (permits - 1 if granted else permits, now)
        if len(self._buckets) > self._maxKeys:
            self._buckets.popitem(last=False)
        return granted

    def __len__(self) -> int:
        return len(self._buckets)
