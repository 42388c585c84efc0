"""
A pace holds in the long run, lets a burst through, and is shared fairly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.net.rates import BURST, MAX_KEYS, Pace


@dataclass
class User:
    """
    Somebody who sends as fast as the pace lets.

    @ivar sent: bytes, each with when it was sent.
    """

    clock: Clock
    pace: Pace
    key: object
    size: int
    pause: float = 0.0
    sent: list[tuple[float, int]] = field(default_factory=list)

    def begin(self, connections: int = 1) -> None:
        """Send over some connections."""
        for _ in range(connections):
            self._ask()

    def _ask(self) -> None:
        wait = self.pace.take(self.key, self.size)
        self.clock.callLater(wait, self._send)

    def _send(self) -> None:
        self.sent.append((self.clock.seconds(), self.size))
        # A connection takes a little time, too: else a burst would never end.
        self.clock.callLater(self.pause or 1e-6, self._ask)

    def between(self, start: float, end: float) -> int:
        """Count the bytes of some time."""
        return sum(size for when, size in self.sent if start <= when < end)


class PaceCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)

    def run_(self, seconds: float) -> None:
        """Let time pass, from one thing that happens to the next."""
        end = self.clock.seconds() + seconds
        while self.clock.calls and self.clock.calls[0].getTime() <= end:
            self.clock.advance(max(0.0, self.clock.calls[0].getTime() - self.clock.seconds()))
        self.clock.advance(max(0.0, end - self.clock.seconds()))

    def assertNear(self, value: float, wanted: float, most: float) -> None:
        """Two numbers differ by so much at the most."""
        self.assertLessEqual(abs(value - wanted), most, f"{value} is not near {wanted}")

    def user(self, pace: Pace, key: object = "anna", size: int = 1000, pause: float = 0.0) -> User:
        """Make somebody."""
        return User(self.clock, pace, key, size, pause)


class OwnTests(PaceCase):
    """A rate for each key."""

    def test_longRun(self) -> None:
        """In the long run the rate is exact, whatever is taken at a time."""
        for size in (1, 999, 10_000, 1_000_000):
            pace = Pace(self.clock, rate=100_000.0)
            start = self.clock.seconds()
            taken, wait = 0, 0.0
            while taken < 10_000_000:
                wait = pace.take("anna", size)
                taken += size
                if size >= 999:
                    self.clock.advance(wait)
                elif taken > 100_000:
                    break
            elapsed = self.clock.seconds() + (wait if size == 1 else 0.0) - start
            self.assertAlmostEqual(elapsed, taken / 100_000.0 - BURST, places=3)

    def test_burst(self) -> None:
        """What comes at once after a pause is bounded, however long the pause was."""
        pace = Pace(self.clock, rate=1000.0)
        for pause in (0.0, 10.0, 1e6):
            self.clock.advance(pause)
            anna = self.user(pace, size=10)
            start = self.clock.seconds()
            anna.begin(connections=3)
            self.run_(20.0)
            early = anna.between(start, start + 0.001)
            self.assertLessEqual(early, 1000 * BURST + 10)
            self.assertGreaterEqual(early, 1000 * BURST - 10)
            self.assertLessEqual(anna.between(start, start + 20), 1000 * (20 + BURST) + 30)
            for call in list(self.clock.getDelayedCalls()):
                call.cancel()
            self.clock.advance(10.0)

    def test_everyWindow(self) -> None:
        """In no time, wherever it begins, more comes than the rate and one burst."""
        pace = Pace(self.clock, rate=1000.0)
        anna = self.user(pace, size=37)
        start = self.clock.seconds()
        anna.begin(connections=4)
        self.run_(10.0)
        for index in range(80):
            begin = start + index / 10
            self.assertLessEqual(anna.between(begin, begin + 2.0), 2000 + 1000 * BURST + 4 * 37)

    def test_connections(self) -> None:
        """All connections of one key share one rate; another key has its own."""
        pace = Pace(self.clock, rate=10_000.0)
        anna, bob = self.user(pace), self.user(pace, "bob")
        start = self.clock.seconds()
        anna.begin(connections=10)
        bob.begin()
        self.run_(60.0)
        for each in (anna, bob):
            self.assertNear(each.between(start + 10, start + 60), 500_000, 12_000)

    def test_large(self) -> None:
        """What is more than a burst waits for as long as it takes, and no longer."""
        pace = Pace(self.clock, rate=1000.0)
        self.assertAlmostEqual(pace.take("anna", 10_000), 10.0 - BURST)
        self.assertAlmostEqual(pace.take("anna", 1000), 11.0 - BURST)

    def test_forgotten(self) -> None:
        """Who is idle for long enough to have a whole burst again costs no memory."""
        pace = Pace(self.clock, rate=1000.0)
        for number in range(100):
            pace.take(number, 400)
        self.assertEqual(len(pace), 100)
        self.clock.advance(0.41)
        pace.take("anna", 1)
        self.assertEqual(len(pace), 1)

    def test_oneBurst(self) -> None:
        """Who waits behind somebody with a long queue wins no more than one burst by that."""
        pace = Pace(self.clock, rate=1000.0)
        pace.take("bob", 1_000_000)
        pace.take("anna", 100)
        self.clock.advance(100.0)
        self.assertAlmostEqual(pace.take("anna", 1000), 1.0 - BURST)

    def test_bounded(self) -> None:
        """However many keys there are, no more than some are remembered."""
        pace = Pace(self.clock, rate=1.0)
        for number in range(MAX_KEYS + 100):
            pace.take(number, 1000)
        self.assertEqual(len(pace), MAX_KEYS)


class TotalTests(PaceCase):
    """A rate that all keys share."""

    def test_longRun(self) -> None:
        """One alone has all of it, and no more."""
        pace = Pace(self.clock, total=100_000.0)
        anna = self.user(pace, size=5000)
        start = self.clock.seconds()
        anna.begin(connections=3)
        self.run_(100.0)
        all = anna.between(start, start + 100)
        self.assertNear(all, 100_000 * (100 + BURST), 4 * 5000)

    def test_fair(self) -> None:
        """Two have a half each, however many connections and whatever pieces each of them has."""
        pace = Pace(self.clock, total=100_000.0)
        anna, bob = self.user(pace, size=8000), self.user(pace, "bob", size=500)
        start = self.clock.seconds()
        anna.begin(connections=20)
        self.run_(5.0)
        bob.begin()
        self.run_(100.0)
        shares = [each.between(start + 25, start + 105) for each in (anna, bob)]
        self.assertNear(sum(shares), 8_000_000, 300_000)
        self.assertNear(shares[0] / sum(shares), 0.5, 0.03)

    def test_late(self) -> None:
        """Who comes while others have long queues waits for its own bytes, not for theirs."""
        pace = Pace(self.clock, total=1000.0)
        for _ in range(100):
            pace.take("anna", 1000)
        self.assertLessEqual(pace.take("bob", 100), 0.2 + 1e-9)

    def test_rest(self) -> None:
        """What one does not use the others get: nothing of the total is lost."""
        pace = Pace(self.clock, total=100_000.0)
        slow, fast = self.user(pace, "slow", size=1000, pause=0.1), self.user(pace, size=2000)
        start = self.clock.seconds()
        slow.begin()
        fast.begin(connections=2)
        self.run_(100.0)
        used = [each.between(start + 10, start + 90) for each in (slow, fast)]
        # A piece each 0.1 s and the 0.02 s that it takes by a half of the rate.
        self.assertNear(used[0], 667_000, 20_000)
        self.assertNear(sum(used), 8_000_000, 300_000)

    def test_left(self) -> None:
        """When one has gone, the other has all of it, and nothing is remembered of both in the
        end."""
        pace = Pace(self.clock, total=10_000.0)
        anna = self.user(pace, size=1000)
        pace.take("bob", 5000)
        anna.begin()
        start = self.clock.seconds()
        self.run_(60.0)
        self.assertNear(anna.between(start + 10, start + 60), 500_000, 10_000)
        for call in list(self.clock.getDelayedCalls()):
            call.cancel()
        self.clock.advance(10.0)
        pace.take("carl", 1)
        self.assertEqual(len(pace), 0)

    def test_burst(self) -> None:
        """What comes at once after a pause is bounded for all keys together."""
        pace = Pace(self.clock, total=1000.0)
        for _ in range(3):
            waits = [pace.take(number, 10) for number in range(100)]
            self.assertEqual(waits.count(0.0), 1000 * BURST // 10)
            self.clock.advance(1e6)

    def test_bounded(self) -> None:
        """However many keys there are, no more than some are remembered."""
        pace = Pace(self.clock, total=1.0, maxKeys=10)
        for number in range(1000):
            pace.take(number, number + 1)
        self.assertEqual(len(pace), 10)
        self.clock.advance(1e9)
        pace.take("anna", 2)
        self.assertEqual(len(pace), 1)

    def test_both(self) -> None:
        """Where there are both rates, the slower holds."""
        pace = Pace(self.clock, rate=1000.0, total=10_000.0)
        self.assertAlmostEqual(pace.take("anna", 2000), 2.0 - BURST)
        pace = Pace(self.clock, rate=10_000.0, total=1000.0)
        self.assertAlmostEqual(pace.take("anna", 2000), 2.0 - BURST)

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 5), st.integers(0, 100_000), st.floats(0, 10, allow_nan=False)
            ),
            max_size=60,
        )
    )
    def test_any(self, takes: list[tuple[int, int, float]]) -> None:
        """Whatever is taken and when, no wait is negative, and it is never longer than all that
        was taken takes."""
        clock = Clock()
        pace = Pace(clock, rate=5000.0, total=10_000.0, maxKeys=4)
        taken = 0
        for key, count, pause in takes:
            taken += count
            wait = pace.take(key, count)
            self.assertGreaterEqual(wait, 0.0)
            self.assertLessEqual(wait, 6 * taken / 5000.0 + 1e-6)
            self.assertLessEqual(len(pace), 4)
            clock.advance(pause)


class UnboundedTests(PaceCase):
    """No rate at all."""

    def test_never(self) -> None:
        """Nobody waits, and nothing is remembered."""
        pace = Pace(self.clock)
        self.assertEqual(pace.take("anna", 2**60), 0.0)
        self.assertTrue(pace.unbounded)
        self.assertEqual(len(pace), 0)
        self.assertFalse(Pace(self.clock, rate=1.0).unbounded)
        self.assertFalse(Pace(self.clock, total=1.0).unbounded)
