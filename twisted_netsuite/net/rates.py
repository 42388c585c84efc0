"""
How fast bytes may flow: so many a second for each key, and so many for all keys together, which
share them equally. Nothing here waits or sends: it counts, on a clock that is handed in.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime

from twisted_netsuite.net.limits import Clock

#: Seconds of a rate that may be used at once after a pause: small files do not wait, and a link
#: does not notice.
BURST = 0.5

#: Keys that are remembered, some 300 bytes each. When they are more, the one that owes least is
#: forgotten: inventing keys wins no more than a burst each.
MAX_KEYS = 4096


class Pace:
    """
    Tells how long who sends or takes bytes has to wait, so that a rate holds.

    A key may have any number of connections: what they use is counted together.
    """

    def __init__(
        self,
        clock: IReactorTime | Clock,
        rate: float | None = None,
        total: float | None = None,
        maxKeys: int = MAX_KEYS,
    ) -> None:
        """
        @param clock: tells time.
        @param rate: bytes a second for each key; C{None} for any number.
        @param total: bytes a second for all keys together; C{None} for any number.
        @param maxKeys: how many keys are remembered.
        """
        self._clock = clock
        self._own = _Own(rate, maxKeys) if rate else None
        self._shares = _Shares(total, maxKeys) if total else None

    @property
    def unbounded(self) -> bool:
        """Whether nobody ever has to wait."""
        return self._own is None and self._shares is None

    def take(self, key: object, count: int) -> float:
        """
        Use some bytes: they count from now on, also while they wait.

        @param key: whose, any hashable.
        @param count: bytes; more than a burst are as right as fewer.
        @return: seconds to wait before they are sent or taken.
        """
        now = self._clock.seconds()
        wait = 0.0
        if self._own is not None:
            wait = self._own.take(key, count, now)
        if self._shares is not None:
            wait = max(wait, self._shares.take(key, count, now))
        return wait

    def __len__(self) -> int:
        """Tell how many keys are remembered."""
        return max(len(meter) for meter in (self._own or (), self._shares or ()))


class _Own:
    """A rate for each key by itself: of each is kept when all that it has used will be paid for."""

    def __init__(self, rate: float, maxKeys: int) -> None:
        self._rate = rate
        self._maxKeys = maxKeys
        #: Who used some longest ago is the first.
        self._paid: OrderedDict[object, float] = OrderedDict()

    def take(self, key: object, count: int, now: float) -> float:
        earliest = now - BURST
        paid = max(self._paid.pop(key, earliest), earliest) + count / self._rate
        self._paid[key] = paid
        # Whose burst is whole again is as one that never came.
        while self._paid:
            first = next(iter(self._paid))
            if self._paid[first] > earliest and len(self._paid) <= self._maxKeys:
                break
            del self._paid[first]
        return max(0.0, paid - now)

    def __len__(self) -> int:
        return len(self._paid)


class _Shares:
    """
    A rate for all keys, of which those that owe something have equal parts.

    C{level} is how much was paid for a key that has always owed something, and of each that owes
    some it is kept at which level that will be paid: so time costs nothing for each key. What is
    left when nobody owes anything is spared for whoever comes next.
    """

    def __init__(self, rate: float, maxKeys: int) -> None:
        self._rate = rate
        self._maxKeys = maxKeys
        self._spare = rate * BURST
        self._level = 0.0
        self._then = 0.0
        self._paid: dict[object, float] = {}
        #: Levels at which a key may owe nothing more, the least first: one for each key, perhaps
        #: less than the right one, as the right one only ever grows.
        self._next: list[tuple[float, int, object]] = []
        self._serial = 0

    def take(self, key: object, count: int, now: float) -> float:
        self._pour(now)
        spared = min(self._spare, count)
        self._spare -= spared
        if key not in self._paid:
            if spared == count:
                return 0.0
            self._push(self._level, key)
        paid = self._paid.get(key, self._level) + count - spared
        self._paid[key] = paid
        if len(self._paid) > self._maxKeys:
            self._pop()
        return (paid - self._level) * len(self._paid) / self._rate

    def _pour(self, now: float) -> None:
        left, self._then = (now - self._then) * self._rate, now
        while self._paid:
            level, _, key = self._next[0]
            if level < self._paid[key]:
                heapq.heappop(self._next)
                self._push(self._paid[key], key)
                continue
            needed = (level - self._level) * len(self._paid)
            if needed > left:
                self._level += left / len(self._paid)
                return
            left -= needed
            self._level = level
            self._pop()
        # Small numbers are exact ones.
        self._level = 0.0
        self._spare = min(self._rate * BURST, self._spare + left)

    def _push(self, level: float, key: object) -> None:
        self._serial += 1
        heapq.heappush(self._next, (level, self._serial, key))

    def _pop(self) -> None:
        del self._paid[heapq.heappop(self._next)[2]]

    def __len__(self) -> int:
        return len(self._paid)
