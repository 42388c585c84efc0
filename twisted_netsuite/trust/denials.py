"""
How many denials are told one by one, and how many only counted. It writes nothing itself.

Whoever may do nothing can still be denied as often as they like; without a bound they would fill
the disk, and then nothing could be done by anyone, as nothing is done that cannot be written down.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Denials of one source and identity that are told one by one at once: more than a person makes by
#: mistake, and a program that is set up wrongly is plain to see by then.
BURST = 20

#: And those a second from then on: one a minute shows that it still goes on.
RATE = 1 / 60

#: Denials of all sources together that are told one by one at once, and a second from then on: with
#: their sums some 100 MB a day at the most, however many sources there are.
TOTAL_BURST = 500
TOTAL_RATE = 0.5

#: Sources and identities that are known apart, some 300 bytes each. Who is forgotten has its burst
#: again, which the bound for all still holds.
MAX_SOURCES = 1024

#: Seconds between two times at which the sums are told.
INTERVAL = 60.0

#: Sums that are told apart each time; what goes beyond is told in one sum for each event.
MAX_SUMS = 16


class Sum(NamedTuple):
    """
    Denials that are only counted.

    @ivar event: what was denied, as C{exec.start.denied}.
    @ivar service: the service's name.
    @ivar source: where from; empty for many sources, and for what has no address.
    @ivar identity: to whom; empty for many.
    """

    event: str
    service: str
    source: str
    identity: str


def sourceOf(peer: str) -> str:
    """
    Tell what a peer counts as.

    @param peer: its address, with its port.
    @return: its IPv4 address; for IPv6 the network of 64 bits, which one household or machine has
        whole (RFC 6177); empty for what has no address, as on a Unix socket.
    """
    host = peer.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


class Denials:
    """Tells which denials are written down one by one, and has the others told as sums."""

    def __init__(self, clock: IReactorTime, tell: Callable[[Sum, int], bool]) -> None:
        """
        @param clock: tells and waits for time.
        @param tell: writes a sum down with its number; returns whether that could be done.
        """
        self._clock = clock
        self._tell = tell
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._total = (float(TOTAL_BURST), clock.seconds())
        self._sums: Counter[Sum] = Counter()
        self._call: IDelayedCall | None = None

    def admits(self, event: str, service: str, peer: str, identity: str) -> bool:
        """
        Tell whether a denial is written down by itself; if not, it is counted.

        @param event: what was denied.
        @param service: the service's name.
        @param peer: the peer's address.
        @param identity: who the peer is.
        @return: whether it is.
        """
        source = sourceOf(peer)
        if self._take((source, identity)) and self._takeTotal():
            return True
        self._count(Sum(event, service, source, identity), 1)
        if self._call is None:
            self._call = self._clock.callLater(INTERVAL, self._tellAll)
        return False

    def stop(self) -> None:
        """Tell what is counted, and wait no more."""
        if self._call is not None:
            self._call.cancel()
            self._tellAll()
        if self._call is not None:
            # It could not be told, and whoever stops will not come again.
            self._call.cancel()
            self._call = None

    def _take(self, key: tuple[str, str]) -> bool:
        now = self._clock.seconds()
        granted, self._buckets[key] = _used(
            self._buckets.pop(key, (float(BURST), now)), now, BURST, RATE
        )
        if len(self._buckets) > MAX_SOURCES:
            self._buckets.popitem(last=False)
        return granted

    def _takeTotal(self) -> bool:
        granted, self._total = _used(self._total, self._clock.seconds(), TOTAL_BURST, TOTAL_RATE)
        return granted

    def _count(self, denied: Sum, times: int) -> None:
        if denied not in self._sums and len(self._sums) >= MAX_SUMS:
            denied = denied._replace(source="", identity="")
        self._sums[denied] += times

    def _tellAll(self) -> None:
        self._call = None
        sums, self._sums = self._sums, Counter()
        for denied, times in sums.items():
            if not self._tell(denied, times):
                self._count(denied, times)
        if self._sums:
            self._call = self._clock.callLater(INTERVAL, self._tellAll)


def _used(
    bucket: tuple[float, float], now: float, burst: int, rate: float
) -> tuple[bool, tuple[float, float]]:
    """Use one permit of a bucket, if it has one; a clock that is set back earns none."""
    permits, then = bucket
    permits = min(burst, permits + max(0.0, now - then) * rate)
    return permits >= 1, (permits - 1 if permits >= 1 else permits, now)
