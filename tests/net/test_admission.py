"""
Who gets a place: each limit at its edge, whose place is given to another, and that none is lost.
"""

from __future__ import annotations

import ipaddress
import re
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import (
    HostnameAddress,
    IPv4Address,
    IPv6Address,
    UNIXAddress,
    _ProcessAddress,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net import admission
from twisted_netsuite.net.admission import (
    DEFAULT_LIMITS,
    FAILURE_MEMORY,
    FREE_FAILURES,
    MAX_PENALTY,
    Admission,
    ConnectionLimits,
    Penalties,
    Place,
    Recurrences,
    sourceOf,
)
from twisted_netsuite.net.handshake import HANDSHAKE_TIMEOUT
from twisted_netsuite.ops.config import StreamConfig, fieldsOf, readConfig
from twisted_netsuite.ops.options import optionsFor
from twisted_netsuite.ops.suite import KINDS
from twisted_netsuite.wire.words import kebab

#: What a service needs to be told.
REQUIRED = {"files": {"root": "/"}, "proxy": {"to": "127.0.0.1:7"}}


def ipv4(host: str = "192.0.2.1", port: int = 50_000) -> IPv4Address:
    """Make an address."""
    return IPv4Address("TCP", host, port)


def ipv6(host: str, port: int = 50_000) -> IPv6Address:
    """Make an address."""
    return IPv6Address("TCP", host, port)


class SourceTests(SynchronousTestCase):
    """L{sourceOf}: what a peer counts as."""

    def test_noAddress(self) -> None:
        """What a balancer's header calls an IPv6 address, and is none, has no source."""
        for host in ("", "x", "2001:db8::1::2", "a\0b", "\x1b[2J\n"):
            self.assertIsNone(sourceOf(ipv6(host)))

    def test_ipv4(self) -> None:
        """An IPv4 peer counts as its address, whatever its port."""
        self.assertEqual(sourceOf(ipv4("192.0.2.1", 1)), "192.0.2.1")
        self.assertEqual(sourceOf(ipv4("192.0.2.1", 2)), "192.0.2.1")
        self.assertEqual(sourceOf(ipv4("192.0.2.2", 1)), "192.0.2.2")

    def test_ipv6(self) -> None:
        """All IPv6 peers of one network of 64 bits count as one; those of the next do not."""
        for host in ("2001:db8:1:2::", "2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"):
            self.assertEqual(sourceOf(ipv6(host)), "2001:db8:1:2::/64")
        for host in ("2001:db8:1:1:ffff:ffff:ffff:ffff", "2001:db8:1:3::"):
            self.assertNotEqual(sourceOf(ipv6(host)), "2001:db8:1:2::/64")
        self.assertEqual(sourceOf(ipv6("::1")), "::/64")

    def test_written(self) -> None:
        """An address counts the same however it is written."""
        for host in ("2001:DB8::1", "2001:db8:0:0:0:0:0:1", "2001:0db8::0001"):
            self.assertEqual(sourceOf(ipv6(host)), "2001:db8::/64")

    def test_mapped(self) -> None:
        """An IPv4 peer of a socket for both versions counts as one that came by IPv4."""
        for host in ("::ffff:192.0.2.1", "::FFFF:c000:201", "0:0:0:0:0:ffff:192.0.2.1"):
            self.assertEqual(sourceOf(ipv6(host)), sourceOf(ipv4("192.0.2.1")))

    def test_nearlyMapped(self) -> None:
        """What only looks like a mapped address counts as IPv6."""
        for host in ("::192.0.2.1", "::fffe:192.0.2.1", "::1:ffff:192.0.2.1", "::ffff:0:192.0.2.1"):
            self.assertEqual(sourceOf(ipv6(host)), "::/64")

    def test_zone(self) -> None:
        """On a link all neighbours count as one, as each may take any address there is on it."""
        for host in ("fe80::1%eth0", "fe80::2%eth0", "fe80::1%25", "fe80::1"):
            self.assertEqual(sourceOf(ipv6(host)), "fe80::/64")

    def test_none(self) -> None:
        """What has no address, or is not known, counts as nobody."""
        for address in (
            UNIXAddress("/run/x"),
            UNIXAddress(None),
            None,
            HostnameAddress(b"example.org", 80),
            _ProcessAddress(),
        ):
            self.assertIsNone(sourceOf(address))

    @given(st.integers(0, 2**128 - 1), st.booleans(), st.sampled_from(["", "%eth0", "%1"]))
    def test_anyIPv6(self, number: int, exploded: bool, zone: str) -> None:
        """Any IPv6 address counts as the network that holds it, or as the IPv4 address in it."""
        address = ipaddress.IPv6Address(number)
        host = (address.exploded if exploded else str(address)) + zone
        if address.ipv4_mapped is not None:
            expected = str(address.ipv4_mapped)
        else:
            expected = str(ipaddress.IPv6Network((number >> 64 << 64, 64)))
        self.assertEqual(sourceOf(ipv6(host)), expected)

    @given(st.ip_addresses(v=4))
    def test_anyMapped(self, address: ipaddress.IPv4Address) -> None:
        """Any IPv4 address counts as itself, mapped or not."""
        self.assertEqual(sourceOf(ipv4(str(address))), str(address))
        self.assertEqual(sourceOf(ipv6(f"::ffff:{address}")), str(address))


class PenaltyTests(SynchronousTestCase):
    """L{Penalties} that begin with two seconds."""

    def setUp(self) -> None:
        self.clock = Clock()
        # So that no time of the test is 0, which also stands for "now".
        self.clock.advance(100)
        self.penalties = Penalties(self.clock, 2)

    def fail(self, times: int = 1, source: str = "a") -> None:  # type: ignore[override]
        """Let a source fail."""
        for _ in range(times):
            self.penalties.failed(source)

    def left(self, source: str = "a") -> float:
        """Tell for how many seconds a source is still turned away."""
        until = self.penalties.until(source)
        return until - self.clock.seconds() if until else 0.0

    def test_free(self) -> None:
        """Who has never failed, or only as often as is free, may come at once."""
        self.assertEqual(self.left(), 0)
        self.fail(FREE_FAILURES)
        self.assertEqual(self.left(), 0)

    def test_doubled(self) -> None:
        """The failure after the free ones costs the first penalty, each further one twice that."""
        self.fail(FREE_FAILURES)
        for expected in (2, 4, 8, 16, 32, 64, 128, 256, 512):
            self.fail()
            self.assertEqual(self.left(), expected)

    def test_cap(self) -> None:
        """No penalty is longer than the longest, however often somebody fails."""
        self.fail(FREE_FAILURES + 10)
        self.assertEqual(self.left(), MAX_PENALTY)
        self.fail(100_000)
        self.assertEqual(self.left(), MAX_PENALTY)

    def test_capAtFirst(self) -> None:
        """That holds for the first, too."""
        for seconds in (MAX_PENALTY + 1, 1e308, float("inf")):
            self.penalties = Penalties(self.clock, seconds)
            self.fail(FREE_FAILURES + 1)
            self.assertEqual(self.left(), MAX_PENALTY)
            self.fail(100)
            self.assertEqual(self.left(), MAX_PENALTY)

    def test_tiny(self) -> None:
        """A first penalty of next to nothing grows to the longest, too."""
        self.penalties = Penalties(self.clock, 1e-6)
        self.fail(FREE_FAILURES + 64)
        self.assertEqual(self.left(), MAX_PENALTY)

    def test_over(self) -> None:
        """A penalty is over when its time is, and not before; it begins with the last failure."""
        self.fail(FREE_FAILURES + 1)
        self.clock.advance(1.5)
        self.assertEqual(self.left(), 0.5)
        self.fail()
        self.clock.advance(3.75)
        self.assertEqual(self.left(), 0.25)
        self.clock.advance(0.25)
        self.assertEqual(self.left(), 0)

    def test_remembered(self) -> None:
        """Who fails again within an hour pays more than before."""
        self.fail(FREE_FAILURES + 1)
        self.clock.advance(FAILURE_MEMORY)
        self.assertEqual(self.left(), 0)
        self.fail()
        self.assertEqual(self.left(), 4)

    def test_forgotten(self) -> None:
        """After a longer time the earlier failures are forgotten, and some are free again."""
        self.fail(50)
        self.clock.advance(FAILURE_MEMORY + 0.25)
        self.fail(FREE_FAILURES)
        self.assertEqual(self.left(), 0)
        self.fail()
        self.assertEqual(self.left(), 2)

    def test_apart(self) -> None:
        """A source pays for its own failures only."""
        self.fail(FREE_FAILURES + 5, "a")
        self.fail(FREE_FAILURES, "b")
        self.assertEqual((self.left("a"), self.left("b"), self.left("c")), (32, 0, 0))

    def test_never(self) -> None:
        """A penalty of 0 turns nobody away."""
        self.penalties = Penalties(self.clock, 0)
        self.fail(1000)
        self.assertEqual(self.left(), 0)

    def test_asking(self) -> None:
        """To ask about a source is not to remember it."""
        self.assertEqual(self.penalties.until("x"), 0)
        self.assertEqual(len(self.penalties), 0)

    def test_bounded(self) -> None:
        """A full table forgets the source that failed longest ago, and no other."""
        self.patch(admission, "MAX_SOURCES", 3)
        for source in "abc":
            self.fail(FREE_FAILURES + 1, source)
        self.fail(1, "a")
        self.fail(FREE_FAILURES + 1, "d")
        self.assertEqual([self.left(source) for source in "abcd"], [4, 0, 2, 2])
        self.assertEqual(len(self.penalties), 3)


class AdmissionTestCase(SynchronousTestCase):
    """Tests of an L{Admission} of their own limits."""

    def make(self, **limits: float) -> None:
        """Give out places by some limits; those that are not told do not bite."""
        self.clock = Clock()
        told: dict[str, Any] = {"maxPerSource": 0, "connectionRate": 0.0, "penalty": 0.0} | limits
        self.limits = ConnectionLimits(**told)
        self.admission = Admission(self.clock, self.limits)

    def place(self, address: object = None) -> Place:
        """Get a place that there has to be."""
        place = self.admission.admit(address)
        assert isinstance(place, Place), place
        return place

    def awaiting(self, address: object = None, ended: list[Place] | None = None) -> Place:
        """Get a place of a peer that has yet to prove who it is."""
        place = self.place(address)
        if ended is not None:
            place.onEvicted = lambda: ended.append(place)
        place.await_()
        return place

    def assertRefused(self, address: object, limit: str, times: int = 1) -> None:
        """Check that there is no place, why, and that it is counted and costs nothing."""
        before = len(self.admission)
        self.assertEqual(self.admission.admit(address), limit)
        self.assertEqual(self.admission.refusals, {limit: times})
        self.assertEqual(len(self.admission), before)


class LimitTests(AdmissionTestCase):
    """Each limit at its edge."""

    def test_inAll(self) -> None:
        """There are as many places as the limit says, and one again when one has left."""
        for most in (1, 2, 7):
            self.make(maxConnections=most)
            places = [self.place() for _ in range(most)]
            self.assertRefused(None, "max-connections")
            self.assertRefused(ipv4(), "max-connections", 2)
            places[0].leave()
            self.place(ipv4())
            self.assertRefused(None, "max-connections", 3)

    def test_none(self) -> None:
        """A limit of no connections lets nobody in."""
        self.make(maxConnections=0)
        self.assertRefused(ipv4(), "max-connections")

    def test_perSource(self) -> None:
        """A source has as many places as the limit says; others have theirs."""
        for most in (1, 2, 7):
            self.make(maxPerSource=most)
            places = [self.place(ipv4(port=port)) for port in range(most)]
            self.assertRefused(ipv4(port=999), "max-per-source")
            self.place(ipv4("192.0.2.2"))
            places[-1].leave()
            self.place(ipv4())
            self.assertRefused(ipv4(), "max-per-source", 2)

    def test_perNetwork(self) -> None:
        """The addresses of one IPv6 network share the places of one source."""
        self.make(maxPerSource=2)
        self.place(ipv6("2001:db8::1"))
        self.place(ipv6("2001:db8::2"))
        self.assertRefused(ipv6("2001:db8::3"), "max-per-source")
        self.place(ipv6("2001:db8:0:1::1"))

    def test_perSourceMapped(self) -> None:
        """A source wins nothing by coming to a socket for both versions."""
        self.make(maxPerSource=1)
        self.place(ipv4())
        self.assertRefused(ipv6("::ffff:192.0.2.1"), "max-per-source")

    def test_uncounted(self) -> None:
        """Who has no address is bounded by the limit in all only, and pays for no failure."""
        self.make(maxConnections=50, maxPerSource=1, connectionRate=0.5, penalty=1)
        for address in (None, UNIXAddress("/run/x")):
            for _ in range(25):
                self.place(address).fail()
        self.assertEqual(self.admission.failures, 50)
        self.assertRefused(None, "max-connections")

    def test_unbounded(self) -> None:
        """A limit of 0 for sources, rates and penalties is none."""
        self.make(maxConnections=2000)
        for _ in range(2000):
            self.place(ipv4()).fail()
        self.assertEqual(self.admission.refusals.total(), 0)

    def test_refusedCostsNothing(self) -> None:
        """A connection that is refused takes nothing of any source's places."""
        self.make(maxConnections=1, maxPerSource=1)
        place = self.place(ipv4("192.0.2.1"))
        for number in range(2, 100):
            self.admission.admit(ipv4(f"192.0.2.{number}"))
        place.leave()
        self.place(ipv4("192.0.2.2"))

    def test_order(self) -> None:
        """Where several limits bite, the one that says most about the peer is named."""
        self.make(maxConnections=1, maxPerSource=1, connectionRate=1, penalty=1)
        place = self.place(ipv4())
        self.assertEqual(self.admission.admit(ipv4()), "max-per-source")
        self.assertEqual(self.admission.admit(ipv4()), "connection-rate")
        for _ in range(FREE_FAILURES + 1):
            place.fail()
        self.assertEqual(self.admission.admit(ipv4()), "penalty")
        self.assertEqual(self.admission.admit(ipv4("192.0.2.2")), "max-connections")

    def test_leaveTwice(self) -> None:
        """A place that is given back twice is one place."""
        self.make(maxConnections=2, maxPerSource=2)
        first, _ = self.place(ipv4()), self.place(ipv4())
        first.leave()
        first.leave()
        self.assertEqual(len(self.admission), 1)
        self.place(ipv4())
        self.assertRefused(ipv4(), "max-per-source")

    def test_ended(self) -> None:
        """What ends a connection that had its place is counted, too."""
        self.make()
        place = self.place()
        place.ended("idle-timeout")
        place.ended("idle-timeout")
        place.ended("handshake-timeout")
        self.assertEqual(self.admission.refusals, {"idle-timeout": 2, "handshake-timeout": 1})


class RateTests(AdmissionTestCase):
    """Connections a second from one source."""

    def come(self, times: int, address: object = None) -> int:
        """Tell how many of some connections are let in; each leaves at once."""
        let = 0
        for _ in range(times):
            place = self.admission.admit(address or ipv4())
            if isinstance(place, Place):
                place.leave()
                let += 1
        return let

    def test_burst(self) -> None:
        """Two seconds' worth may come at once; then as many a second as the rate says."""
        self.make(connectionRate=4)
        self.assertEqual(self.come(100), 8)
        self.assertEqual(self.admission.refusals, {"connection-rate": 92})
        self.clock.advance(0.25)
        self.assertEqual(self.come(100), 1)
        self.clock.advance(1)
        self.assertEqual(self.come(100), 4)
        self.clock.advance(1000)
        self.assertEqual(self.come(100), 8)

    def test_apart(self) -> None:
        """Each source has a rate of its own, and a network of IPv6 one for all its addresses."""
        self.make(connectionRate=1)
        self.assertEqual(self.come(10, ipv4("192.0.2.1")), 2)
        self.assertEqual(self.come(10, ipv4("192.0.2.2")), 2)
        self.assertEqual(self.come(10, ipv6("2001:db8::1")), 2)
        self.assertEqual(self.come(10, ipv6("2001:db8::2")), 0)

    def test_slow(self) -> None:
        """A rate of less than one lets one in, and the next when it is time."""
        self.make(connectionRate=0.25)
        self.assertEqual(self.come(10), 1)
        self.clock.advance(3.75)
        self.assertEqual(self.come(10), 0)
        self.clock.advance(0.25)
        self.assertEqual(self.come(10), 1)

    def test_uncounted(self) -> None:
        """Who has no address has no rate."""
        self.make(connectionRate=1)
        self.assertEqual(sum(isinstance(self.admission.admit(None), Place) for _ in range(50)), 50)

    def test_endless(self) -> None:
        """A rate that nothing can reach is none."""
        for rate in (1e308, float("inf")):
            self.make(connectionRate=rate)
            self.assertEqual(self.come(5000), 5000)


class FailureTests(AdmissionTestCase):
    """What a source pays for peers that fail to prove who they are."""

    def test_turnedAway(self) -> None:
        """After the free failures the source gets no place until its penalty is over."""
        self.make(penalty=2)
        for _ in range(FREE_FAILURES):
            place = self.place(ipv4())
            place.fail()
            place.leave()
        place = self.place(ipv4())
        place.fail()
        self.assertRefused(ipv4(port=9), "penalty")
        self.clock.advance(1.75)
        self.assertRefused(ipv4(), "penalty", 2)
        self.clock.advance(0.25)
        self.place(ipv4())
        self.assertEqual(self.admission.failures, FREE_FAILURES + 1)

    def test_network(self) -> None:
        """The addresses of one IPv6 network pay together."""
        self.make(penalty=1)
        for number in range(FREE_FAILURES + 1):
            self.place(ipv6(f"2001:db8::{number}")).fail()
        self.assertRefused(ipv6("2001:db8::ffff"), "penalty")
        self.place(ipv6("2001:db8:0:1::"))

    def test_older(self) -> None:
        """Connections that the source has already keep their places."""
        self.make(penalty=1)
        older = self.place(ipv4())
        for _ in range(FREE_FAILURES + 1):
            self.place(ipv4()).fail()
        self.assertRefused(ipv4(), "penalty")
        older.settle()
        self.assertEqual(len(self.admission), FREE_FAILURES + 2)

    def test_together(self) -> None:
        """However many fail that came before a penalty began, it is the first one, to the end."""
        self.make(penalty=2)
        places = [self.place(ipv4()) for _ in range(100)]
        self.clock.advance(10)
        for place in places[:50]:
            place.fail()
        self.clock.advance(1.75)
        for place in places[50:80]:
            place.fail()
        self.assertRefused(ipv4(), "penalty")
        self.clock.advance(0.25)
        newer = self.place(ipv4())
        for place in places[80:]:
            place.fail()
        self.place(ipv4())
        self.assertEqual(self.admission.failures, 100)
        # One that came afterwards is the second, once for all that have come before it fails.
        others = [self.place(ipv4()) for _ in range(10)]
        newer.fail()
        for place in others:
            place.fail()
        self.assertRefused(ipv4(), "penalty", 2)
        self.clock.advance(3.75)
        self.assertRefused(ipv4(), "penalty", 3)
        self.clock.advance(0.25)
        self.place(ipv4())

    def test_stillDoubled(self) -> None:
        """Whoever comes again and fails again after each penalty waits twice as long each time."""
        self.make(penalty=1)
        for _ in range(FREE_FAILURES):
            self.place(ipv4()).fail()
        for seconds in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600):
            self.place(ipv4()).fail()
            self.clock.advance(seconds - 0.25)
            self.assertEqual(self.admission.admit(ipv4()), "penalty")
            self.clock.advance(0.25)

    def test_turnedAwayIsNoFailure(self) -> None:
        """To come during a penalty does not make it longer."""
        self.make(penalty=1)
        for _ in range(FREE_FAILURES + 1):
            self.place(ipv4()).fail()
        for _ in range(100):
            self.admission.admit(ipv4())
        self.clock.advance(1)
        self.place(ipv4())

    def test_evicted(self) -> None:
        """Who was not given the time to prove anything has not failed to."""
        self.make(penalty=1, maxPending=1)
        for _ in range(100):
            evicted = self.awaiting(ipv4())
            self.awaiting(ipv4("192.0.2.2")).settle()
            evicted.settle()
        for _ in range(100):
            evicted = self.awaiting(ipv4())
            self.awaiting(ipv4()).settle()
            evicted.fail()
        self.place(ipv4())
        self.assertEqual(self.admission.failures, 0)


class RecurrenceTests(SynchronousTestCase):
    """L{Recurrences}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.recurrences = Recurrences(self.clock)

    def test_doubling(self) -> None:
        """The first of each kind counts, then each time that their number has doubled."""
        told = [self.recurrences.again("x") for _ in range(20)]
        self.assertEqual(list(filter(None, told)), [1, 2, 4, 8, 16])
        self.assertEqual(self.recurrences.again("y"), 1)

    def test_forgotten(self) -> None:
        """What has not happened for long is new again; what goes on is not."""
        for _ in range(3):
            self.recurrences.again("x")
        self.clock.advance(FAILURE_MEMORY)
        self.assertEqual(self.recurrences.again("x"), 4)
        self.clock.advance(FAILURE_MEMORY + 1)
        self.assertEqual(self.recurrences.again("x"), 1)

    def test_bounded(self) -> None:
        """No more kinds are remembered than sources."""
        self.patch(admission, "MAX_SOURCES", 10)
        for kind in range(100):
            self.recurrences.again(kind)
        self.assertEqual(len(self.recurrences), 10)
        self.assertEqual((self.recurrences.again(99), self.recurrences.again(0)), (2, 1))


class PendingTests(AdmissionTestCase):
    """Peers that have yet to prove who they are."""

    def setUp(self) -> None:
        self.make(maxPending=3)
        self.ended: list[Place] = []

    def wait(self, number: int = 1) -> Place:
        """Let one more wait, of a source by its number."""
        return self.awaiting(ipv4(f"192.0.2.{number}"), self.ended)

    def test_edge(self) -> None:
        """As many wait as the limit says; one more ends one, and its place is free at once."""
        for most in (1, 2, 7):
            self.make(maxPending=most, maxConnections=most + 1)
            self.ended.clear()
            places = [self.wait(number) for number in range(most)]
            self.assertEqual((self.ended, len(self.admission.pending)), ([], most))
            self.wait(200)
            self.assertEqual((self.ended, len(self.admission.pending)), ([places[0]], most))
            self.assertEqual(len(self.admission), most)
            self.assertEqual(self.admission.refusals, {"max-pending": 1})

    def test_none(self) -> None:
        """Where none may wait, each is ended at once, and nobody who need not wait."""
        self.make(maxPending=0)
        place = self.wait()
        self.assertEqual((self.ended, len(self.admission)), ([place], 0))
        self.place(ipv4())

    def test_oldest(self) -> None:
        """Among sources with as many each, the one that has waited longest is ended."""
        places = [self.wait(number) for number in (1, 2, 3, 4, 5)]
        self.assertEqual(self.ended, places[:2])

    def test_oldestNow(self) -> None:
        """That one counts which waits, not one of its source that waits no more."""
        gone = self.wait(1)
        older, newer = self.wait(2), self.wait(1)
        gone.leave()
        self.wait(3)
        self.wait(4)
        self.assertEqual(self.ended, [older])
        self.wait(5)
        self.assertEqual(self.ended, [older, newer])

    def test_flood(self) -> None:
        """However many come from one source, they drive out one another, and nobody else."""
        good = self.wait(1)
        flood = [self.wait(9) for _ in range(1000)]
        self.assertEqual(self.ended, flood[:-2])
        self.assertEqual(list(self.admission.pending), [good, *flood[-2:]])

    def test_floodWithoutAddress(self) -> None:
        """Those who have no address count as one here."""
        good = self.wait(1)
        for _ in range(10):
            self.awaiting(None, self.ended)
        self.assertNotIn(good, self.ended)

    def test_settled(self) -> None:
        """Who has proven who it is is not ended by others, and makes room for one more."""
        good = self.wait(1)
        good.settle()
        good.settle()
        for number in range(2, 5):
            self.wait(number)
        self.assertEqual((self.ended, len(self.admission)), ([], 4))
        self.wait(5)
        self.assertNotIn(good, self.ended)

    def test_waitTwice(self) -> None:
        """Who begins to wait again, after a handshake say, is one, and keeps its turn."""
        first = self.wait(1)
        self.wait(2)
        first.await_()
        self.wait(3)
        self.assertEqual(self.ended, [])
        self.wait(4)
        self.assertEqual(self.ended, [first])

    def test_gone(self) -> None:
        """Who has gone waits no more, and does not begin to."""
        first = self.wait(1)
        first.leave()
        first.await_()
        self.assertEqual((len(self.admission.pending), len(self.admission)), (0, 0))

    def test_evictedOnce(self) -> None:
        """Who was ended is not ended again, and its leaving takes nothing from anybody."""
        evicted = self.wait(1)
        for number in (2, 3, 4):
            self.wait(number)
        evicted.await_()
        evicted.settle()
        evicted.leave()
        self.assertEqual((self.ended, len(self.admission)), ([evicted], 3))

    def test_full(self) -> None:
        """Peers that have proven nothing do not keep out others when all places are taken."""
        self.make(maxConnections=3, maxPending=100)
        proven = self.place(ipv4())
        first, second = self.wait(2), self.wait(3)
        self.place(ipv4("192.0.2.9"))
        self.assertEqual(self.ended, [first])
        self.place(None)
        self.assertEqual(self.ended, [first, second])
        self.assertEqual(self.admission.admit(ipv4("192.0.2.9")), "max-connections")
        self.assertEqual(self.admission.refusals, {"max-pending": 2, "max-connections": 1})
        self.assertIn(proven, self.admission._places)
        self.assertEqual(len(self.admission), 3)

    def test_fullPerSource(self) -> None:
        """A source that has all its places gets no other's, whoever waits."""
        self.make(maxConnections=2, maxPerSource=1)
        self.wait(1)
        self.wait(2)
        self.assertEqual(self.admission.admit(ipv4("192.0.2.1")), "max-per-source")
        self.assertEqual(self.ended, [])


class MemoryTests(AdmissionTestCase):
    """A flood from sources that are invented."""

    def flood(self, first: int, last: int) -> None:
        """Come from some networks, once from each, fail, and go."""
        for number in range(first, last):
            place = self.admission.admit(ipv6(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"))
            assert isinstance(place, Place)
            place.await_()
            place.fail()
            place.leave()

    def test_flat(self) -> None:
        """It costs memory up to a bound, and nothing more however long it goes on."""
        self.patch(admission, "MAX_SOURCES", 1000)
        self.make(penalty=1, connectionRate=10)
        self.flood(0, 4000)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.flood(4000, 6000)
        before, _ = tracemalloc.get_traced_memory()
        self.flood(6000, 12_000)
        after, _ = tracemalloc.get_traced_memory()
        self.assertLess(after - before, 50_000)
        self.assertEqual((len(self.admission), len(self.admission.pending)), (0, 0))
        for counted in (self.admission._sources, self.admission._pendingOf):
            self.assertEqual(counted, {})

    def test_default(self) -> None:
        """The tables hold as many sources as the bound says."""
        self.make(penalty=1, connectionRate=10)
        self.flood(0, admission.MAX_SOURCES + 100)
        assert self.admission._rates is not None
        self.assertEqual(len(self.admission._rates), admission.MAX_SOURCES)
        self.assertEqual(len(self.admission._penalties), admission.MAX_SOURCES)


#: What may happen: somebody comes from one of four sources or from nowhere, or one of those that
#: came does something.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(0, 4)),
        st.tuples(st.sampled_from(["await", "settle", "fail", "leave"]), st.integers(0, 30)),
        st.tuples(st.just("pass"), st.integers(1, 8)),
    ),
    max_size=120,
)


class Model:
    """Places as one would count them by hand: every list is gone through each time."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.now = 0.0
        self.places: list[int] = []
        self.waiting: list[int] = []
        self.evicted: list[int] = []
        self.sources: list[str | None] = []
        self.failures: list[tuple[str, float]] = []
        self.came: list[float] = []
        self.refusals: Counter[str] = Counter()

    def banned(self, source: str) -> bool:
        """Tell whether a source is under a penalty."""
        times = [then for who, then in self.failures if who == source]
        over = len(times) - FREE_FAILURES
        return over > 0 and self.now < times[-1] + self.limits.penalty * 2 ** (over - 1)

    def evict(self) -> None:
        """End whoever has to go."""
        counts = Counter(self.sources[each] for each in self.waiting)
        victim = next(
            each for each in self.waiting if counts[self.sources[each]] == max(counts.values())
        )
        self.refusals["max-pending"] += 1
        self.evicted.append(victim)
        self.leave(victim)

    def come(self, source: str | None) -> str:
        """Say what somebody who comes is told; empty for a place."""
        mine = [each for each in self.places if self.sources[each] == source]
        refusal = ""
        if source is not None and self.banned(source):
            refusal = "penalty"
        elif source is not None and len(mine) >= self.limits.maxPerSource:
            refusal = "max-per-source"
        elif len(self.places) >= self.limits.maxConnections:
            if self.waiting:
                self.evict()
            else:
                refusal = "max-connections"
        if refusal:
            self.refusals[refusal] += 1
        else:
            self.places.append(len(self.sources))
            self.sources.append(source)
            self.came.append(self.now)
        return refusal

    def wait(self, number: int) -> None:
        """Somebody has to prove who it is."""
        if number in self.places and number not in self.waiting:
            self.waiting.append(number)
            if len(self.waiting) > self.limits.maxPending:
                self.evict()

    def settle(self, number: int) -> None:
        """Somebody has."""
        if number in self.waiting:
            self.waiting.remove(number)

    def fail(self, number: int) -> None:
        """Somebody has not."""
        source = self.sources[number]
        if number in self.evicted or source is None:
            return
        times = [then for who, then in self.failures if who == source]
        if len(times) <= FREE_FAILURES or self.came[number] > times[-1]:
            self.failures.append((source, self.now))

    def leave(self, number: int) -> None:
        """Somebody goes."""
        self.settle(number)
        if number in self.places:
            self.places.remove(number)


class AnySequenceTests(AdmissionTestCase):
    """Whatever happens, in whatever order, no place is lost, and none is doubled."""

    @settings(deadline=None, max_examples=300)
    @given(STEPS)
    def test_model(self, steps: list[tuple[str, int]]) -> None:
        """The places agree with those that one counts by hand, and all come back in the end."""
        self.make(maxConnections=6, maxPerSource=3, maxPending=3, penalty=1)
        model = Model(self.limits)
        addresses = [None, ipv4(), ipv4("192.0.2.2"), ipv6("2001:db8::1"), ipv6("2001:db8::2")]
        places: list[Place] = []
        ended: list[int] = []
        for step, number in steps:
            if step == "come":
                self.come(model, addresses[number], places, ended)
            elif step == "pass":
                self.clock.advance(number / 4)
                model.now += number / 4
            elif number < len(places):
                self.act(model, step, number, places[number])
            self.assertEqual(len(self.admission), len(model.places))
            self.assertEqual(
                [places.index(place) for place in self.admission.pending], model.waiting
            )
            self.assertEqual((self.admission.refusals, ended), (model.refusals, model.evicted))
        for place in places:
            place.leave()
        self.assertEqual((len(self.admission), len(self.admission.pending)), (0, 0))
        self.assertEqual((self.admission._sources, self.admission._pendingOf), ({}, {}))

    def come(self, model: Model, address: object, places: list[Place], ended: list[int]) -> None:
        """Let somebody come."""
        told = self.admission.admit(address)
        self.assertEqual(told if isinstance(told, str) else "", model.come(sourceOf(address)))
        if isinstance(told, Place):
            number = len(places)
            places.append(told)
            told.onEvicted = lambda: ended.append(number)

    def act(self, model: Model, step: str, number: int, place: Place) -> None:
        """Let somebody do something."""
        match step:
            case "await":
                place.await_()
                model.wait(number)
            case "settle":
                place.settle()
                model.settle(number)
            case "fail":
                place.fail()
                model.fail(number)
            case "leave":
                place.leave()
                model.leave(number)


class ConfiguredTests(SynchronousTestCase):
    """The limits as people give them."""

    words = [kebab(name) for name in ConnectionLimits.__dataclass_fields__]
    streams = {name: kind for name, kind in KINDS.items() if issubclass(kind.config, StreamConfig)}

    def test_defaults(self) -> None:
        """Without a word a service has the limits of a factory that is embedded."""
        self.assertEqual(StreamConfig(listen=("tcp:1",)).limits(), DEFAULT_LIMITS)
        self.assertEqual(ConnectionLimits.handshakeTimeout, HANDSHAKE_TIMEOUT)

    def test_reasons(self) -> None:
        """Each default stands in the words that give its reason."""
        _, *told = re.split(r"@ivar (\w+):", ConnectionLimits.__doc__ or "")
        reasons = dict(zip(told[::2], told[1::2], strict=True))
        for name, field in ConnectionLimits.__dataclass_fields__.items():
            self.assertRegex(reasons[name], rf"\b{field.default:g}\b", name)

    def test_page(self) -> None:
        """The page about limits lists each with its default."""
        page = Path(__file__).resolve().parents[2] / "docs/howto/limits.md"
        rows = re.findall(r"^\| `([\w-]+)` \| (\d+) \|", page.read_text(), re.MULTILINE)
        defaults = ConnectionLimits.__dataclass_fields__.items()
        self.assertEqual(
            {word: float(value) for word, value in rows},
            {kebab(name): field.default for name, field in defaults},
        )

    def test_everyLimit(self) -> None:
        """Each limit can be told to each service of streams, in a file and as an option."""
        self.assertEqual(set(self.streams), {"echo", "exec", "files", "proxy"})
        for name, kind in self.streams.items():
            known = {field.name for field in fieldsOf(kind.config)}
            self.assertEqual(set(self.words) - known, set(), name)
            told = dict.fromkeys(self.words, 7)
            config = readConfig(kind.config, REQUIRED.get(name, {}) | told, str)
            self.assertEqual(config.limits(), ConnectionLimits(7, 7, 7, 7, 7, 7, 7, 7), name)
            options = optionsFor(kind, "")()
            required = [f"--{word}={value}" for word, value in REQUIRED.get(name, {}).items()]
            options.parseOptions(required + [f"--{word}=7" for word in self.words])
            self.assertEqual(options.config, config, name)

    def test_wrong(self) -> None:
        """What a limit cannot be is said in one sentence, with its name and the value."""
        for word, value, sentence in (
            ("max-connections", 0, "max-connections is 0; give a whole number >= 1."),
            ("max-per-source", -1, "max-per-source is -1; give a whole number >= 0."),
            ("max-per-source", 1.5, "max-per-source is 1.5; give a whole number."),
            ("max-pending", 0, "max-pending is 0; give a whole number >= 1."),
            ("max-pending", "many", "max-pending is 'many'; give a whole number."),
            ("connection-rate", -1, "connection-rate is -1; give a number >= 0.0."),
            ("connection-rate", float("nan"), "connection-rate is nan; give a number >= 0.0."),
            ("penalty", -0.5, "penalty is -0.5; give a number >= 0.0."),
            ("penalty", True, "penalty is True; give a number."),
            ("handshake-timeout", 0, "handshake-timeout is 0; give a number > 0.0."),
            ("handshake-timeout", "", "handshake-timeout is ''; give a number."),
            ("first-message-timeout", -1, "first-message-timeout is -1; give a number >= 0.0."),
            ("idle-timeout", [], "idle-timeout is []; give a number."),
        ):
            with self.assertRaises(ConfigurationError) as caught:
                readConfig(StreamConfig, {"listen": ["tcp:1"], word: value}, str)
            self.assertEqual(caught.exception.sentence, sentence)

    def test_least(self) -> None:
        """The least that each can be is taken, and a service can be made with it."""
        least = dict.fromkeys(self.words, 0) | {"max-connections": 1, "max-pending": 1}
        least["handshake-timeout"] = 0.001  # type: ignore[assignment]
        config = readConfig(StreamConfig, {"listen": ["tcp:1"], **least}, str)
        self.assertEqual(config.limits(), ConnectionLimits(1, 0, 0, 1, 0, 0, 0.001, 0))
        self.assertIsInstance(Admission(Clock(), config.limits()).admit(ipv4()), Place)

    def test_endless(self) -> None:
        """Infinity, which TOML can write, is no bound, and not a fault."""
        told = {word: float("inf") for word in ("connection-rate", "penalty", "idle-timeout")}
        config = readConfig(StreamConfig, {"listen": ["tcp:1"], **told}, str)
        made = Admission(Clock(), config.limits())
        self.assertTrue(all(isinstance(made.admit(ipv4()), Place) for _ in range(500)))

    def test_frozen(self) -> None:
        """Limits that factories share cannot be changed below them."""
        with self.assertRaises(AttributeError):
            DEFAULT_LIMITS.maxConnections = 1  # type: ignore[misc]
