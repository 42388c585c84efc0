"""
Denials: the first are told one by one, the others as sums, and none is lost.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.trust.denials import (
    BURST,
    INTERVAL,
    MAX_SOURCES,
    MAX_SUMS,
    RATE,
    TOTAL_BURST,
    TOTAL_RATE,
    Denials,
    Sum,
    sourceOf,
)


class SourceTests(SynchronousTestCase):
    """L{sourceOf}"""

    def test_source(self) -> None:
        """A source is an address without its port; of IPv6 a network; of a Unix socket nothing."""
        for peer, source in (
            ("192.0.2.1:5", "192.0.2.1"),
            ("[2001:db8::1]:5", "2001:db8::/64"),
            ("2001:db8:0:0:9:9:9:9:5", "2001:db8::/64"),
            ("[fe80::1%eth0]:5", "fe80::/64"),
            ("[::ffff:192.0.2.1]:5", "192.0.2.1"),
            ("", ""),
            ("/run/exec.sock", ""),
            ("a local peer", ""),
        ):
            self.assertEqual(sourceOf(peer), source)


class DenialTests(SynchronousTestCase):
    """L{Denials}"""

    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[Sum, int]] = []
        self.works = True
        self.denials = Denials(self.clock, self.tell)

    def tell(self, denied: Sum, times: int) -> bool:
        """Take a sum, unless it cannot be taken."""
        if self.works:
            self.told.append((denied, times))
        return self.works

    def deny(self, times: int, host: str = "192.0.2.1", who: str = "anonymous") -> int:
        """Deny something some times from as many ports; tell how often it was told by itself."""
        return sum(
            self.denials.admits("e.denied", "exec", f"{host}:{port}", who) for port in range(times)
        )

    def test_burst(self) -> None:
        """A source and identity has some told, whatever its ports; others have theirs."""
        self.assertEqual(self.deny(BURST + 100), BURST)
        self.assertEqual(self.deny(BURST + 100, "192.0.2.2"), BURST)
        self.assertEqual(self.deny(BURST + 100, who="cert:anna"), BURST)

    def test_rate(self) -> None:
        """Later some more are told, and not before."""
        self.deny(BURST)
        self.clock.advance(0.9 / RATE)
        self.assertEqual(self.deny(5), 0)
        self.clock.advance(0.2 / RATE)
        self.assertEqual(self.deny(5), 1)
        self.clock.advance(10 * BURST / RATE)
        self.assertEqual(self.deny(2 * BURST), BURST)

    def test_sums(self) -> None:
        """What was not told by itself is told as a sum after a while, once."""
        self.deny(BURST + 7)
        self.deny(BURST + 2, who="cert:anna")
        self.assertEqual(self.told, [])
        self.clock.advance(INTERVAL)
        self.assertEqual(
            self.told,
            [
                (Sum("e.denied", "exec", "192.0.2.1", "anonymous"), 7),
                (Sum("e.denied", "exec", "192.0.2.1", "cert:anna"), 2),
            ],
        )
        self.clock.advance(INTERVAL * 10)
        self.assertEqual(len(self.told), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_total(self) -> None:
        """However many sources there are, all together have a bound, and none is uncounted."""
        hosts = [f"10.{n // 65536}.{n // 256 % 256}.{n % 256}" for n in range(5000)]
        told = sum(self.deny(2, host) for host in hosts)
        self.assertEqual(told, TOTAL_BURST)
        self.clock.advance(INTERVAL)
        self.assertLessEqual(len(self.told), MAX_SUMS + 1)
        self.assertEqual(told + sum(times for _, times in self.told), 10_000)
        self.assertEqual(self.told[-1][0], Sum("e.denied", "exec", "", ""))
        self.clock.advance(100 - INTERVAL)
        again = sum(self.deny(2, host) for host in hosts)
        self.assertEqual(again, int(100 * TOTAL_RATE))

    def test_bounded(self) -> None:
        """No more sources are remembered than a bound."""
        for number in range(MAX_SOURCES * 2):
            self.deny(1, who=f"cert:{number}")
        self.assertEqual(len(self.denials._buckets), MAX_SOURCES)

    def test_cannotBeTold(self) -> None:
        """A sum that cannot be told is told when it can be, with what has come since."""
        self.deny(BURST + 7)
        self.works = False
        self.clock.advance(INTERVAL)
        self.deny(1, who="cert:anna")
        self.works = True
        self.assertEqual(self.denials.admits("e.denied", "exec", "192.0.2.1:1", "anonymous"), True)
        self.deny(3)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.told, [(Sum("e.denied", "exec", "192.0.2.1", "anonymous"), 10)])

    def test_stop(self) -> None:
        """Who stops tells what is counted, and leaves nothing that waits, even if it fails."""
        self.denials.stop()
        self.deny(BURST + 7)
        self.works = False
        self.denials.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.works = True
        self.deny(1)
        self.denials.stop()
        self.assertEqual([times for _, times in self.told], [8])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_backwards(self) -> None:
        """A clock that is set back is no fault; it earns nothing, and costs nothing."""
        self.deny(BURST)
        self.clock.rightNow -= 1000
        self.assertEqual(self.deny(1), 0)
        self.clock.advance(1.1 / RATE)
        self.assertEqual(self.deny(2), 1)
