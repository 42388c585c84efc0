"""
Windows, what they are credited with, and the counts and digests of streams.
"""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.rexec.flow import NOTHING, Count, Intake, Window
from twisted_netsuite.rexec.messages import MAX_WINDOW


class WindowTests(SynchronousTestCase):
    """L{Window}: what a sender may send."""

    def test_spend(self) -> None:
        """What is sent is taken off, down to nothing."""
        window = Window("stdout", 10)
        window.spend(4)
        self.assertEqual(window.left, 6)
        window.spend(6)
        self.assertEqual(window.left, 0)

    def test_overspend(self) -> None:
        """A sender that does not look first is a fault of ours, and is not let through."""
        window = Window("stdout", 10)
        self.assertRaises(AssertionError, window.spend, 11)
        self.assertEqual(window.left, 10)

    def test_grant(self) -> None:
        """A credit is added."""
        window = Window("stdin", 0)
        window.grant(5)
        window.grant(1)
        self.assertEqual(window.left, 6)

    def test_most(self) -> None:
        """A window may be as large as the largest, and a peer that would make it larger is told."""
        window = Window("stdin", 1)
        window.grant(MAX_WINDOW - 1)
        self.assertEqual(window.left, MAX_WINDOW)
        with self.assertRaises(ProtocolError) as caught:
            window.grant(1)
        self.assertEqual(window.left, MAX_WINDOW)
        self.assertEqual(
            caught.exception.sentence,
            "The window of stdin would be 67108865 bytes; 67108864 is the most.",
        )


class IntakeTests(SynchronousTestCase):
    """L{Intake}: what a receiver has granted."""

    def test_within(self) -> None:
        """All that was granted may come, in any pieces, and not one byte more."""
        intake = Intake("stdout", 10, 4)
        intake.receive(3)
        intake.receive(7)
        with self.assertRaises(ProtocolError) as caught:
            intake.receive(1)
        self.assertEqual(caught.exception.sentence, "1 bytes of stdout came, and the window was 0.")

    def test_tooMuchAtOnce(self) -> None:
        """A piece that is larger than what is left is refused as a whole."""
        intake = Intake("stdout", 10, 4)
        self.assertRaises(ProtocolError, intake.receive, 11)
        intake.receive(10)

    def test_batch(self) -> None:
        """What is taken is credited once it is as much as a batch, and all of it."""
        intake = Intake("stdout", 100, 10)
        intake.receive(25)
        self.assertEqual([intake.take(9), intake.take(1), intake.take(15)], [0, 10, 15])

    def test_each(self) -> None:
        """A batch of no bytes, as a small window has, credits each delivery."""
        intake = Intake("stdout", 1, 0)
        intake.receive(1)
        self.assertEqual(intake.take(1), 1)
        intake.receive(1)

    def test_settle(self) -> None:
        """What is owed can be credited at any time, once."""
        intake = Intake("stdout", 100, 50)
        intake.receive(7)
        intake.take(7)
        self.assertEqual([intake.settle(), intake.settle()], [7, 0])

    def test_nothing(self) -> None:
        """Where nothing was granted nothing may come."""
        self.assertRaises(ProtocolError, Intake("stdin", 0, 0).receive, 1)

    @settings(deadline=None)
    @given(
        st.integers(1, 200),
        st.integers(0, 300),
        st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), max_size=60),
    )
    def test_anyPace(self, window: int, batch: int, steps: list[tuple[int, int]]) -> None:
        """
        A sender that keeps to its window is never refused, is never further ahead of the one who
        takes than the window, and, once all was taken, is owed less than a batch: with a batch of
        at most half the window it can always go on.
        """
        sender, intake = Window("stdout", window), Intake("stdout", window, batch)
        ahead = 0
        for send, take in steps:
            count = min(send, sender.left)
            sender.spend(count)
            intake.receive(count)
            ahead += count
            self.assertLessEqual(ahead, window)
            taken = min(take, ahead)
            ahead -= taken
            if due := intake.take(taken):
                sender.grant(due)
        if due := intake.take(ahead):
            sender.grant(due)
        self.assertGreater(sender.left, window - max(1, batch))


class CountTests(SynchronousTestCase):
    """L{Count}: what came through a stream."""

    @given(st.lists(st.binary(max_size=50), max_size=20))
    def test_pieces(self, pieces: list[bytes]) -> None:
        """Count and digest are those of the whole, however it was cut."""
        count = Count()
        for piece in pieces:
            count.add(piece)
        whole = b"".join(pieces)
        self.assertEqual(count.tally().count, len(whole))
        self.assertEqual(count.tally().sha256, hashlib.sha256(whole).digest())

    def test_onAndOn(self) -> None:
        """A tally that was taken is not changed by what comes later."""
        count = Count()
        self.assertEqual(count.tally(), NOTHING)
        before = count.tally()
        count.add(b"x")
        self.assertEqual(before, NOTHING)
        self.assertNotEqual(count.tally(), NOTHING)
