"""
Who gets a place among a service's connections: bounds in all, for each source, and on the way in.

Twisted's C{policies} have two of these, as wrappers around every byte of a connection; these here
decide when a connection comes, and cost nothing after it.
"""

from __future__ import annotations

import math
import socket
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.protocols.policies import WrappingFactory
from zope.interface import Interface

from twisted_netsuite.net.limits import Clock, TokenBuckets

#: Failures of one source that cost it nothing: a person tries the wrong file, and then another.
FREE_FAILURES = 3

#: The longest penalty, in seconds: a guesser has six turns an hour, and a program that was set
#: right waits no longer than somebody needs to wonder.
MAX_PENALTY = 600.0

#: Seconds without a failure after which the earlier ones of a source are forgotten.
FAILURE_MEMORY = 3600.0

#: Sources whose failures are remembered, some 200 bytes each. When they are more, the one that
#: failed longest ago is forgotten, so that inventing sources wins no more than that.
MAX_SOURCES = 16_384

#: Seconds of its rate that a source may use at once.
RATE_BURST = 2

#: What stands before an IPv4 address in the IPv6 address of a socket for both (RFC 4291, 2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"


@dataclass(frozen=True)
class ConnectionLimits:
    """
    What bounds the connections of one factory.

    @ivar maxConnections: connections at a time: 1000 are more than most services ever have, and
        some tens of megabytes of Twisted's objects and buffers when all are idle.
    @ivar idleTimeout: seconds without a byte from the peer before a connection is given up; 0 means
        never. 600 s outlive a person's pause, and free what a vanished peer holds.
    @ivar maxPerSource: connections at a time from one source, an IPv4 address or an IPv6 network of
        64 bits; 0 means no bound. 500 are half of all, so that one source leaves room for others.
    @ivar maxPending: connections at a time that have not proven who they are; one more ends the
        oldest of the source that has the most of them. 100 are some seconds' worth of handshakes
        for one process, and a peer that means to finish its own is done long before it is that.
    @ivar connectionRate: new connections a second from one source; 0 means no bound. 1000 are a
        fifth of what one process can accept.
    @ivar penalty: seconds for which a source is turned away after its fourth failure to prove who
        it is, twice as many after each further one up to L{MAX_PENALTY}; 0 means never. 1 s is
        nothing to a person, and ten failures later a guesser waits for minutes.
    @ivar handshakeTimeout: seconds for a TLS handshake: 10 s are three round trips of the slowest
        link, and a key that a person must touch.
    @ivar firstMessageTimeout: seconds until the first byte of a message; 0 means no bound but that
        of idling. 60 s are enough for a person who connects and then begins to type.
    """

    maxConnections: int = 1000
    idleTimeout: float = 600.0
    maxPerSource: int = 500
    maxPending: int = 100
    connectionRate: float = 1000.0
    penalty: float = 1.0
    handshakeTimeout: float = 10.0
    firstMessageTimeout: float = 60.0


DEFAULT_LIMITS = ConnectionLimits()


def sourceOf(address: object) -> str | None:
    """
    Tell what a peer counts as.

    @param address: the peer's.
    @return: its IPv4 address; for IPv6 the network of 64 bits, which one household or machine has
        whole (RFC 6177); C{None} for what has no address, as on a Unix socket.
    """
    match address:
        case IPv4Address():
            return address.host
        case IPv6Address():
            # Not by ipaddress, which takes ten times as long: a flood pays for nothing else here.
            try:
                packed = socket.inet_pton(socket.AF_INET6, address.host.partition("%")[0])
            except (OSError, ValueError):
                # What a balancer's header calls an address need not be one.
                return None
            if packed.startswith(_MAPPED):
                return socket.inet_ntop(socket.AF_INET, packed[12:])
            return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"
        case _:
            return None


class Penalties:
    """Turns sources away that keep failing to prove who they are, for longer each time."""

    def __init__(self, clock: IReactorTime | Clock, seconds: float) -> None:
        """
        @param clock: tells time.
        @param seconds: the first penalty; 0 means none.
        """
        self._clock = clock
        self._seconds = seconds
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def failed(self, source: str, admitted: float = math.inf) -> None:
        """
        Note a failure, unless it is of a connection from before the last penalty began: connections
        that fail together are one failure more than what is free, however many they are.

        @param source: whose.
        @param admitted: when the connection came, in seconds of the clock; without it, it counts.
        """
        count, then = self._failures.get(source, (0, 0.0))
        now = self._clock.seconds()
        if now - then > FAILURE_MEMORY:
            count = 0
        if count > FREE_FAILURES and admitted <= then:
            return
        self._failures.pop(source, None)
        self._failures[source] = (count + 1, now)
        if len(self._failures) > MAX_SOURCES:
            self._failures.popitem(last=False)

    def until(self, source: str) -> float:
        """
        Tell when a source may come again.

        @param source: which.
        @return: seconds of the clock; 0 when it may come now.
        """
        count, then = self._failures.get(source, (0, 0.0))
        if count <= FREE_FAILURES or not self._seconds:
            return 0.0
        # Doubled at most as often as it takes to pass the longest.
        doublings = min(count - FREE_FAILURES - 1, 64)
        end = then + min(self._seconds * 2.0**doublings, MAX_PENALTY)
        return end if end > self._clock.seconds() else 0.0

    def __len__(self) -> int:
        return len(self._failures)


class Recurrences:
    """Tells which of many happenings of one kind are worth a line: the first, then fewer."""

    def __init__(self, clock: IReactorTime | Clock) -> None:
        """
        @param clock: tells time.
        """
        self._clock = clock
        self._counts: OrderedDict[object, tuple[int, float]] = OrderedDict()

    def again(self, kind: object) -> int:
        """
        Count one more.

        @param kind: what happens again, any hashable.
        @return: how often it has happened, when that is once or has doubled; else 0. What has not
            happened for L{FAILURE_MEMORY} happens for the first time.
        """
        count, then = self._counts.pop(kind, (0, 0.0))
        now = self._clock.seconds()
        count = 1 if now - then > FAILURE_MEMORY else count + 1
        self._counts[kind] = (count, now)
        if len(self._counts) > MAX_SOURCES:
            self._counts.popitem(last=False)
        return count if count & (count - 1) == 0 else 0

    def __len__(self) -> int:
        return len(self._counts)


class Place:
    """
    What one connection takes of the limits, from when it comes until it has gone.

    @ivar limits: those of its service.
    @ivar onEvicted: called when the connection has to end because others wait; it is set by whoever
        can end it.
    """

    def __init__(self, admission: Admission, source: str | None, admitted: float) -> None:
        """
        @param admission: gave this place.
        @param source: what the peer counts as.
        @param admitted: when, in seconds of the clock.
        """
        self._admission = admission
        self.source = source
        self._admitted = admitted
        self.limits = admission.limits
        self.onEvicted: Callable[[], object] = lambda: None
        self._evicted = False

    def settle(self) -> None:
        """The peer has proven who it is, or need not."""
        self._admission.settled(self)

    def await_(self) -> None:
        """The peer has yet to prove who it is."""
        self._admission.wait(self)

    def fail(self) -> None:
        """The peer has failed to prove who it is, unless it was not given the time."""
        if not self._evicted:
            self._admission.failed(self.source, self._admitted)

    def evict(self) -> None:
        """Give the place to another."""
        self._evicted = True
        self.ended("max-pending")
        # Now, and not once the connection has gone: the other is about to be counted.
        self.leave()
        self.onEvicted()

    def ended(self, limit: str) -> None:
        """
        Count that a limit has ended the connection.

        @param limit: its name, as people write it.
        """
        self._admission.refusals[limit] += 1

    def leave(self) -> None:
        """The connection has gone."""
        self._admission.leave(self)


class Admission:
    """
    Gives out the places of one service.

    @ivar limits: what bounds them.
    @ivar refusals: how many connections each limit has turned away or ended, by the limit's name as
        people write it.
    @ivar failures: how often a peer has failed to prove who it is.
    @ivar pending: the places of peers that have yet to, the oldest first.
    """

    def __init__(self, clock: IReactorTime | Clock, limits: ConnectionLimits) -> None:
        """
        @param clock: tells time.
        @param limits: what bounds the places.
        """
        self.limits = limits
        self._clock = clock
        self.refusals: Counter[str] = Counter()
        self.failures = 0
        self.pending: OrderedDict[Place, None] = OrderedDict()
        self._places: set[Place] = set()
        self._sources: Counter[str] = Counter()
        self._pendingOf: Counter[str | None] = Counter()
        rate = limits.connectionRate
        burst = rate * RATE_BURST
        self._rates: TokenBuckets | None = None
        if rate and math.isfinite(burst):
            self._rates = TokenBuckets(clock, rate, max(1, int(burst)), MAX_SOURCES)
        self._penalties = Penalties(clock, limits.penalty)

    def __len__(self) -> int:
        return len(self._places)

    def admit(self, address: object) -> Place | str:
        """
        Give a new connection a place.

        @param address: the peer's; C{None} when it is not known yet.
        @return: the place, or the name of the limit that leaves none.
        """
        source = sourceOf(address)
        refusal = self._refusal(source)
        if refusal:
            self.refusals[refusal] += 1
            return refusal
        place = Place(self, source, self._clock.seconds())
        self._places.add(place)
        if source is not None:
            self._sources[source] += 1
        return place

    def _refusal(self, source: str | None) -> str:
        limits = self.limits
        if source is not None:
            if self._penalties.until(source):
                return "penalty"
            if self._rates is not None and not self._rates.take(source):
                return "connection-rate"
            if limits.maxPerSource and self._sources[source] >= limits.maxPerSource:
                return "max-per-source"
        if len(self._places) < limits.maxConnections:
            return ""
        # Those that have proven nothing must not keep out those that will.
        return "" if self._evictOne() else "max-connections"

    def wait(self, place: Place) -> None:
        """
        Note that a peer has yet to prove who it is; when too many have, one has to go.

        @param place: the peer's.
        """
        if place not in self._places or place in self.pending:
            return
        self.pending[place] = None
        self._pendingOf[place.source] += 1
        if len(self.pending) > self.limits.maxPending:
            self._evictOne()

    def settled(self, place: Place) -> None:
        """
        Note that a peer has proven who it is, or need not.

        @param place: the peer's.
        """
        if place in self.pending:
            del self.pending[place]
            _decrease(self._pendingOf, place.source)

    def _evictOne(self) -> bool:
        """
        End the oldest connection of the source that has most of those that have proven nothing.

        Of that source, as one that floods would otherwise drive out all others: it needs only to
        be quicker than their handshakes.
        """
        if not self.pending:
            return False
        most = max(self._pendingOf.values())
        next(place for place in self.pending if self._pendingOf[place.source] == most).evict()
        return True

    def failed(self, source: str | None, admitted: float = math.inf) -> None:
        """
        Note that a peer has failed to prove who it is.

        @param source: what it counts as.
        @param admitted: when its connection came, in seconds of the clock.
        """
        self.failures += 1
        if source is not None:
            self._penalties.failed(source, admitted)

    def leave(self, place: Place) -> None:
        """
        Take a place back; once is enough, and twice is no harm.

        @param place: what was given.
        """
        if place not in self._places:
            return
        self._places.discard(place)
        self.settled(place)
        if place.source is not None:
            _decrease(self._sources, place.source)


S = TypeVar("S", bound=str | None)


def _decrease(counts: Counter[S], source: S) -> None:
    counts[source] -= 1
    if not counts[source]:
        # Or sources that have gone would be remembered for ever.
        del counts[source]


class IAdmits(Interface):
    """
    A factory that gives a connection its place before it makes a protocol for it, so that what
    stands before the protocol, as a TLS handshake does, is bounded as well.
    """

    def placeFor(address: IAddress | None) -> Place | None:
        """
        Give a new connection a place.

        @param address: the peer's; C{None} when it is not known yet.
        @return: the place, which whoever asked takes back unless it is handed on; C{None} when
            there is none, which has been logged.
        """

    def withPlace(place: Place) -> AbstractContextManager[None]:
        """
        Hand a place on to the protocol that is made within; unless one takes it, it is taken back.

        @param place: what L{placeFor} gave.
        """


def admitting(factory: object) -> Any:
    """
    Find who gives out the places of a factory, which may be wrapped.

    @param factory: any.
    @return: the outermost that is L{IAdmits}; C{None} when there is none.
    """
    while not IAdmits.providedBy(factory):
        if not isinstance(factory, WrappingFactory):
            return None
        factory = factory.wrappedFactory
    return factory
