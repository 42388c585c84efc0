"""
Limits of time and rate, on a clock that the test moves.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.net.limits import IdleTimer, TokenBuckets


class IdleTimerTests(SynchronousTestCase):
    """L{IdleTimer} of ten seconds."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.fired: list[float] = []
        self.timer = self.make(10)

    def make(self, seconds: float) -> IdleTimer:
        """Make a timer that notes when it fires."""
        return IdleTimer(self.clock, seconds, lambda: self.fired.append(self.clock.seconds()))

    def test_fires(self) -> None:
        """It fires when its time is over, not before, and once."""
        self.timer.start()
        self.clock.advance(9.75)
        self.assertEqual(self.fired, [])
        self.clock.advance(0.25)
        self.assertEqual(self.fired, [10])
        self.clock.advance(100)
        self.assertEqual(self.fired, [10])

    def test_touch(self) -> None:
        """A touch begins the wait anew, from the moment of the touch."""
        self.timer.start()
        self.clock.advance(9)
        self.timer.touch()
        self.clock.pump([0.5] * 19)
        self.assertEqual(self.fired, [])
        self.clock.advance(0.5)
        self.assertEqual(self.fired, [19])

    def test_storm(self) -> None:
        """A million signs of life cost one pending call, not one each."""
        self.timer.start()
        for _ in range(1000):
            self.clock.advance(0.125)
            for _ in range(1000):
                self.timer.touch()
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(self.fired, [])
        self.clock.pump([10, 10])
        self.assertEqual(self.fired, [135])

    def test_never(self) -> None:
        """No time at all means for ever, and waits for nothing."""
        timer = self.make(0)
        timer.start()
        timer.touch()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        timer.stop()

    def test_stop(self) -> None:
        """A timer that was stopped does not fire and leaves nothing pending, touched or not."""
        self.timer.start()
        self.timer.stop()
        self.timer.touch()
        self.timer.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_startTwice(self) -> None:
        """A second start is a touch, and not a second timer."""
        self.timer.start()
        self.clock.advance(5)
        self.timer.start()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.pump([5, 5])
        self.assertEqual(self.fired, [15])

    def test_again(self) -> None:
        """A timer that has fired, or was stopped, can be started anew."""
        self.timer.start()
        self.clock.advance(10)
        self.timer.start()
        self.clock.advance(10)
        self.timer.stop()
        self.timer.start()
        self.clock.advance(10)
        self.assertEqual(self.fired, [10, 20, 30])

    def test_notStarted(self) -> None:
        """A timer waits only once it is started."""
        self.timer.touch()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.timer.stop()

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.integers(1, 200), max_size=30))
    def test_anyTouches(self, eighths: list[int]) -> None:
        """It fires ten seconds after the last touch before the first pause of ten seconds."""
        self.setUp()
        self.timer.start()
        begun, wanted = 0.0, None
        for pause in (*eighths, 1000):
            self.clock.pump([0.125] * pause)
            if wanted is None and pause >= 80:
                wanted = begun + 10
            begun = self.clock.seconds()
            self.timer.touch()
        self.assertEqual(self.fired, [wanted])


class FirstTests(SynchronousTestCase):
    """L{IdleTimer} with a time of its own for the first touch."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.fired: list[float] = []

    def start(self, seconds: float, first: float) -> None:
        """Start a timer that notes when it fires."""
        self.timer = IdleTimer(
            self.clock, seconds, lambda: self.fired.append(self.clock.seconds()), first
        )
        self.timer.start()

    def run_(self, seconds: float = 100) -> None:
        """Let time pass in small steps."""
        self.clock.pump([0.25] * int(seconds * 4))

    def test_silent(self) -> None:
        """Without a touch it fires when the first time is over, not before, and once."""
        self.start(10, 4)
        self.clock.advance(3.75)
        self.assertEqual((self.fired, self.timer.touched), ([], False))
        self.run_()
        self.assertEqual(self.fired, [4])

    def test_touched(self) -> None:
        """After a touch the first time counts no more, and the later one does from the touch."""
        self.start(10, 4)
        self.clock.advance(3.75)
        self.timer.touch()
        self.assertTrue(self.timer.touched)
        self.run_()
        self.assertEqual(self.fired, [13.75])

    def test_longer(self) -> None:
        """A first time that is longer than the later one wins no time."""
        for touched, fired in ((False, 10), (True, 11)):
            self.setUp()
            self.start(10, 40)
            self.clock.advance(1)
            if touched:
                self.timer.touch()
            self.run_()
            self.assertEqual(self.fired, [fired])

    def test_equal(self) -> None:
        """One that is as long makes no difference."""
        self.start(10, 10)
        self.clock.advance(9)
        self.timer.touch()
        self.run_()
        self.assertEqual(self.fired, [19])

    def test_onlyFirst(self) -> None:
        """Without a later time it waits for the first touch alone, and then for nothing."""
        self.start(0, 4)
        self.run_()
        self.assertEqual(self.fired, [4])
        self.setUp()
        self.start(0, 4)
        self.clock.advance(3.75)
        self.timer.touch()
        self.run_()
        self.assertEqual((self.fired, self.clock.getDelayedCalls()), ([], []))
        self.timer.start()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_neither(self) -> None:
        """Without either it waits for nothing."""
        self.start(0, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_startedAgain(self) -> None:
        """After a touch, a timer that is stopped and started waits for the later time."""
        self.start(10, 4)
        self.timer.touch()
        self.timer.stop()
        self.clock.advance(50)
        self.timer.start()
        self.run_()
        self.assertEqual(self.fired, [60])

    def test_startedAgainSilent(self) -> None:
        """Without one, the first time begins anew."""
        self.start(10, 4)
        self.clock.advance(3)
        self.timer.stop()
        self.clock.advance(50)
        self.timer.start()
        self.run_(20)
        self.assertEqual(self.fired, [57])

    def test_oneCall(self) -> None:
        """However often it is touched, one call is pending."""
        self.start(10, 4)
        for _ in range(1000):
            self.clock.advance(0.125)
            self.timer.touch()
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    @settings(deadline=None, max_examples=100)
    @given(
        st.sampled_from([0.0, 2.0, 5.0, 10.0]),
        st.sampled_from([0.0, 2.0, 5.0, 10.0]),
        st.lists(st.integers(1, 60), max_size=20),
    )
    def test_anyTouches(self, seconds: float, first: float, quarters: list[int]) -> None:
        """It fires at the end of the first pause that is too long, and at no other time."""
        self.setUp()
        self.start(seconds, first)
        wanted: list[float] = []
        begun = 0.0
        allowed = min(filter(None, (first, seconds)), default=0.0)
        for pause in (*quarters, 100):
            if not wanted and allowed and pause / 4 >= allowed:
                wanted = [begun + allowed]
            self.run_(pause / 4)
            begun, allowed = self.clock.seconds(), seconds
            self.timer.touch()
        self.assertEqual(self.fired, wanted)


class TokenBucketsTests(SynchronousTestCase):
    """L{TokenBuckets} of one permit a second, three at once, for four keys."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.buckets = TokenBuckets(self.clock, 1, 3, 4)

    def taken(self, key: object = "a", tries: int = 10) -> int:
        """Tell how many of some tries are granted."""
        return sum(self.buckets.take(key) for _ in range(tries))

    def test_burst(self) -> None:
        """A key that is new has its burst, and no more."""
        self.assertEqual([self.buckets.take("a") for _ in range(4)], [True, True, True, False])

    def test_earned(self) -> None:
        """A permit is there once it is earned, not a moment before."""
        self.taken()
        self.clock.advance(0.875)
        self.assertFalse(self.buckets.take("a"))
        self.clock.advance(0.125)
        self.assertEqual(self.taken(), 1)

    def test_refusalsFree(self) -> None:
        """To be refused costs nothing: who tries on earns as fast as who waits."""
        self.taken()
        for _ in range(8):
            self.taken(tries=1)
            self.clock.advance(0.125)
        self.assertEqual(self.taken(), 1)

    def test_mostHeld(self) -> None:
        """However long a key waits, it holds no more than the burst."""
        self.taken()
        self.clock.advance(1000)
        self.assertEqual(self.taken(), 3)

    def test_apart(self) -> None:
        """Each key has permits of its own."""
        self.taken("a")
        self.assertEqual(self.taken("b"), 3)

    def test_bounded(self) -> None:
        """A flood of keys never makes the table larger than its limit."""
        for number in range(3):
            self.buckets.take(number)
        self.assertEqual(len(self.buckets), 3)
        for number in range(1000):
            self.buckets.take(number)
            self.assertLessEqual(len(self.buckets), 4)
        self.assertEqual(len(self.buckets), 4)

    def test_forgotten(self) -> None:
        """A full table forgets the key that was used longest ago, also if that was in vain."""
        self.taken("a")
        for key in "bcd":
            self.buckets.take(key)
        self.assertFalse(self.buckets.take("a"))
        self.buckets.take("e")
        self.assertFalse(self.buckets.take("a"))
        self.assertEqual(self.taken("b"), 3)

    def test_full(self) -> None:
        """At the limit itself nothing is forgotten."""
        self.taken("a")
        for key in "bcd":
            self.buckets.take(key)
        self.assertFalse(self.buckets.take("a"))

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.integers(0, 30), max_size=60))
    def test_rate(self, eighths: list[int]) -> None:
        """In any run, no more is granted than the burst and what the time has earned."""
        self.setUp()
        granted = 0
        for pause in eighths:
            self.clock.advance(pause / 8)
            granted += self.buckets.take("a")
            self.assertLessEqual(granted, 3 + self.clock.seconds())
