"""
Frames over a stream: split anywhere, of every length, without end, too slow, and not read.
"""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import LimitExceeded, NetsuiteError, ProtocolError, TimedOut
from twisted_netsuite.net.frames import (
    FRAME_TIMEOUT,
    FRAMES_A_TURN,
    STALL_TIMEOUT,
    FrameReceiver,
)
from twisted_netsuite.testing import BUFFER_SIZE, Pair, connectPair
from twisted_netsuite.wire.session import MAX_FIRST_FRAME

#: Tiny frames in a flood.
FLOOD = 1_000_000


def framed(data: bytes) -> bytes:
    """Put a length before bytes."""
    return struct.pack("!I", len(data)) + data


class Notes(FrameReceiver):
    """Notes what happens."""

    answer = b""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.frames: list[bytes] = []
        self.faults: list[NetsuiteError] = []
        self.reading: list[bool] = []
        self.count = 0
        self.givenUp = False

    def frameReceived(self, frame: bytes) -> None:
        self.count += 1
        if self.count <= 1000:
            self.frames.append(frame)
        if self.answer:
            self.sendFrame(self.answer)

    def frameFault(self, error: NetsuiteError) -> None:
        self.faults.append(error)
        self.stopFrames()

    def answersNotTaken(self) -> None:
        self.givenUp = True
        self.stopFrames()

    def readingChanged(self, reading: bool) -> None:
        self.reading.append(reading)


class FrameTests(SynchronousTestCase):
    """L{FrameReceiver} with a peer that writes bytes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.notes = Notes(self.clock)
        self.pair: Pair = connectPair(self.notes, Protocol())

    def say(self, data: bytes, size: int = BUFFER_SIZE) -> None:
        """Let the peer write."""
        self.pair.client.write(data)
        self.pair.flush(size)

    def settle(self) -> None:
        """Let every turn of the reactor come that is due now."""
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)
            self.pair.flush()

    def fault(self, kind: type[NetsuiteError]) -> str:
        """Take the only fault."""
        (error,) = self.notes.faults
        self.assertIsInstance(error, kind)
        return error.sentence

    def test_everySplit(self) -> None:
        """Two frames come out whole wherever they are split, inside a length too."""
        data = framed(b"hello") + framed(b"x")
        for first in range(len(data) + 1):
            for second in range(first, len(data) + 1):
                self.setUp()
                for piece in (data[:first], data[first:second], data[second:]):
                    self.say(piece)
                self.assertEqual(self.notes.frames, [b"hello", b"x"], (first, second))

    @settings(deadline=None)
    @given(st.lists(st.binary(min_size=1, max_size=200), max_size=20), st.integers(1, 300))
    def test_anySplit(self, frames: list[bytes], size: int) -> None:
        """Any frames come out as they went in, in pieces of any size, in their order."""
        self.setUp()
        self.say(b"".join(map(framed, frames)), size)
        self.assertEqual((self.notes.frames, self.notes.faults), (frames, []))

    def test_lengths(self) -> None:
        """One byte and the limit are taken; nothing, and more than the limit, are not."""
        for length in (1, MAX_FIRST_FRAME - 1, MAX_FIRST_FRAME):
            self.setUp()
            self.say(framed(b"x" * length))
            self.assertEqual([len(frame) for frame in self.notes.frames], [length])
        for length in (MAX_FIRST_FRAME + 1, 2**31 - 1, 2**31, 2**32 - 1):
            self.setUp()
            self.say(struct.pack("!I", length), 1)
            self.assertEqual(
                self.fault(LimitExceeded),
                f"A frame of {length} bytes was announced; 1 to {MAX_FIRST_FRAME} are accepted.",
            )
            self.assertEqual(self.notes.frames, [])
        self.setUp()
        self.say(struct.pack("!I", 0))
        self.assertIn("0 bytes", self.fault(ProtocolError))

    def test_refusedBeforeItComes(self) -> None:
        """A frame that is too large is refused by its length alone, and none of it is kept."""
        self.say(struct.pack("!I", 2**32 - 1) + b"x" * 60_000)
        self.fault(LimitExceeded)
        self.say(b"x" * 200_000)
        self.assertEqual(len(self.notes.faults), 1)
        self.assertEqual((self.notes._unprocessed, self.notes.frames), (b"", []))

    def test_behindAFault(self) -> None:
        """What stands behind a fault in the same read is not served, and what stood before is."""
        self.say(framed(b"a") + framed(b"") + framed(b"b"))
        self.assertEqual(self.notes.frames, [b"a"])
        self.fault(ProtocolError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_largerLimit(self) -> None:
        """A limit that is raised while frames are waiting holds for the next of them."""

        class Growing(Notes):
            def frameReceived(self, frame: bytes) -> None:
                super().frameReceived(frame)
                self.MAX_LENGTH = 100_000

        self.notes = Growing(self.clock)
        self.pair = connectPair(self.notes, Protocol())
        self.say(framed(b"a") + framed(b"x" * 100_000) + framed(b"x" * 100_001))
        self.assertEqual([len(frame) for frame in self.notes.frames], [1, 100_000])
        self.assertIn("100001", self.fault(LimitExceeded))

    def test_send(self) -> None:
        """A frame that the other end would refuse is not sent, and nothing of it is."""
        self.notes.sendFrame(b"x" * MAX_FIRST_FRAME)
        self.assertEqual(len(self.pair.server.outgoing), MAX_FIRST_FRAME + 4)
        error = self.assertRaises(LimitExceeded, self.notes.sendFrame, b"x" * (MAX_FIRST_FRAME + 1))
        self.assertIn(str(MAX_FIRST_FRAME + 1), error.sentence)
        self.assertEqual(len(self.pair.server.outgoing), MAX_FIRST_FRAME + 4)

    def test_drip(self) -> None:
        """A frame that comes a byte a second ends when its time is over, however lively it is."""
        for byte in framed(b"x" * 1000):
            self.say(bytes([byte]))
            if self.notes.faults:
                break
            self.clock.advance(1)
        self.assertEqual(self.clock.seconds(), FRAME_TIMEOUT)
        self.assertIn("30 s", self.fault(TimedOut))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slowButInTime(self) -> None:
        """Each frame has its whole time, from its first byte; between frames none runs."""
        for _ in range(5):
            self.say(framed(b"abc")[:3])
            self.clock.advance(FRAME_TIMEOUT - 0.5)
            # The end of one frame comes together with the beginning of the next.
            self.say(framed(b"abc")[3:] + framed(b"abc")[:1])
            self.clock.advance(FRAME_TIMEOUT - 0.5)
            self.say(framed(b"abc")[1:])
            self.clock.advance(FRAME_TIMEOUT * 3)
        self.assertEqual((self.notes.faults, len(self.notes.frames)), ([], 10))

    def test_oneTimer(self) -> None:
        """Many frames that come in pieces cost one pending call, not one each."""
        for _ in range(1000):
            self.say(framed(b"abc")[3:] if self.notes.inFrame else framed(b"abc")[:3])
            self.clock.advance(0.25)
            self.assertLessEqual(len(self.clock.getDelayedCalls()), 1)

    def test_turns(self) -> None:
        """A read of many frames is served in turns, between which others have theirs."""
        self.say(framed(b"x") * (FRAMES_A_TURN * 3 + 1))
        self.assertEqual(self.notes.count, FRAMES_A_TURN)
        self.assertFalse(self.pair.server.reading)
        others: list[int] = []

        def work() -> None:
            others.append(self.notes.count)
            if len(others) < 3:
                self.clock.callLater(0, work)

        self.clock.callLater(0, work)
        self.clock.advance(0)
        self.assertEqual(others, [FRAMES_A_TURN * 2, FRAMES_A_TURN * 3, FRAMES_A_TURN * 3 + 1])
        self.assertEqual(self.notes.count, FRAMES_A_TURN * 3 + 1)
        self.assertTrue(self.pair.server.reading)
        self.assertEqual((self.notes.reading, self.notes.faults), ([], []))

    def test_flood(self) -> None:
        """A million tiny frames are served, with memory that stays as it is."""
        read = framed(b"x") * (BUFFER_SIZE // 5)
        sent = 0
        peaks = []
        tracemalloc.start()
        try:
            while sent < FLOOD:
                tracemalloc.reset_peak()
                self.say(read)
                self.settle()
                sent += BUFFER_SIZE // 5
                peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        self.assertEqual(self.notes.count, sent)
        self.assertLess(max(peaks), 2_000_000)
        self.assertLess(peaks[-1], peaks[5] + 50_000)

    def test_answersNotTaken(self) -> None:
        """While a peer takes no answers nothing of it is read; what waits is bounded."""
        self.notes.answer = b"y" * 8000
        self.pair.client.pauseProducing()
        self.say(framed(b"x") * 50)
        self.assertFalse(self.pair.server.reading)
        self.assertLess(len(self.pair.server.outgoing), BUFFER_SIZE + 8100)
        self.assertEqual(self.notes.count, 9)
        self.assertEqual(self.notes.reading, [False])
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertEqual((self.notes.count, self.notes.reading[-1]), (50, True))
        self.assertTrue(self.pair.server.reading)
        self.assertFalse(self.notes.givenUp)

    def test_neverTaken(self) -> None:
        """A peer that takes nothing for too long is given up, and not before."""
        self.notes.answer = b"y" * 8000
        self.pair.client.pauseProducing()
        self.say(framed(b"x") * 50)
        self.clock.advance(STALL_TIMEOUT - 0.5)
        self.assertFalse(self.notes.givenUp)
        self.clock.advance(0.5)
        self.assertTrue(self.notes.givenUp)
        self.assertEqual((self.clock.getDelayedCalls(), self.notes.faults), ([], []))

    def test_stalledInAFrame(self) -> None:
        """The time of a frame does not run while it is we who do not read it."""
        self.say(framed(b"abc")[:5])
        self.notes.pauseProducing()
        self.clock.advance(FRAME_TIMEOUT - 1)
        self.say(framed(b"abc")[5:])
        self.clock.advance(5)
        self.notes.resumeProducing()
        self.pair.flush()
        self.assertEqual((self.notes.frames, self.notes.faults), ([b"abc"], []))

    def test_hold(self) -> None:
        """Frames that nobody can take wait, in order, and in the kernel."""
        self.notes.hold(True)
        self.say(framed(b"a") + framed(b"b"))
        self.assertEqual((self.notes.frames, self.pair.server.reading), ([], False))
        self.notes.hold(False)
        self.pair.flush()
        self.assertEqual(self.notes.frames, [b"a", b"b"])

    def test_holdInAFrame(self) -> None:
        """A service that holds while it is given a frame gets no other before it lets go."""

        class Holding(Notes):
            def frameReceived(self, frame: bytes) -> None:
                super().frameReceived(frame)
                self.hold(True)

        self.notes = Holding(self.clock)
        self.pair = connectPair(self.notes, Protocol())
        self.say(framed(b"a") + framed(b"b"))
        self.assertEqual(self.notes.frames, [b"a"])
        self.notes.hold(False)
        self.assertEqual(self.notes.frames, [b"a", b"b"])

    def test_stalledDuringATurn(self) -> None:
        """A peer that takes no answers between two turns is noted as one that is not read."""
        self.say(framed(b"x") * (FRAMES_A_TURN + 1))
        self.notes.pauseProducing()
        self.clock.advance(0)
        self.assertEqual((self.notes.reading, self.notes.count), ([False], FRAMES_A_TURN))
        self.notes.resumeProducing()
        self.assertEqual((self.notes.reading, self.notes.count), ([False, True], FRAMES_A_TURN + 1))

    def test_stopped(self) -> None:
        """After the stop whatever comes is read and dropped, so that the peer can end."""
        self.notes.hold(True)
        self.say(framed(b"a"))
        self.notes.stopFrames()
        self.notes.stopFrames()
        self.say(framed(b"b") * 100_000)
        self.assertEqual((self.notes.frames, len(self.pair.client.outgoing)), ([], 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @settings(deadline=None)
    @given(st.lists(st.integers(0, 5), max_size=40))
    def test_anyOrder(self, steps: list[int]) -> None:
        """Stalls, holds, turns and reads in any order lose no frame and change no order."""
        self.setUp()
        sent = 0
        for step in steps:
            numbers = b"".join(framed(b"%d" % (sent + n)) for n in range(70))
            act: Any = (
                lambda numbers=numbers: self.say(numbers, 7),
                self.notes.pauseProducing,
                self.notes.resumeProducing,
                lambda: self.notes.hold(True),
                lambda: self.notes.hold(False),
                lambda: self.clock.advance(0),
            )[step]
            act()
            sent += 70 if step == 0 else 0
            self.pair.flush()
        self.notes.resumeProducing()
        self.notes.hold(False)
        self.pair.flush()
        self.settle()
        self.notes.frames = self.notes.frames[:1000]
        self.assertEqual(self.notes.count, sent)
        self.assertEqual(self.notes.frames, [b"%d" % n for n in range(min(sent, 1000))])
