"""
Frames over a stream: split anywhere, of every length, without end, too slow, and not read.
"""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.protocols.basic import FileSender
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_netsuite.errors import LimitExceeded, NetsuiteError, ProtocolError, TimedOut
from twisted_netsuite.net.frames import (
    FRAME_TIMEOUT,
    FRAMES_A_TURN,
    MAX_BEHIND,
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

    def rawFault(self, error: NetsuiteError) -> None:
        self.frameFault(error)

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

    def flood(self, reads: int) -> int:
        """Let the peer fill so many reads with tiny frames, and tell how many there were."""
        read = framed(b"x") * (BUFFER_SIZE // 5)
        for _ in range(reads):
            self.say(read)
            self.settle()
        return reads * (BUFFER_SIZE // 5)

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
        self.assertEqual((self.notes.inFrame, self.notes.frames), (False, []))

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
        reads = FLOOD // (BUFFER_SIZE // 5) + 1
        sent = self.flood(5)
        self.addCleanup(tracemalloc.stop)
        # Small objects are counted all the time, which is cheap, and all memory at the end.
        objects = sys.getallocatedblocks()
        sent += self.flood(reads - 10)
        self.assertLess(sys.getallocatedblocks(), objects + 1000)
        tracemalloc.start()
        sent += self.flood(5)
        kept, peak = tracemalloc.get_traced_memory()
        self.assertEqual(self.notes.count, sent)
        self.assertGreaterEqual(sent, FLOOD)
        self.assertLess(peak, 2_000_000)
        self.assertLess(kept, 50_000)

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


class ReadsOn(Notes):
    """Takes frames also while its peer takes none, and notes when that is."""

    readsOn = True

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.writing: list[tuple[bool, bool]] = []

    def writingChanged(self, taken: bool) -> None:
        self.writing.append((taken, self.stalled))


class ReadsOnTests(SynchronousTestCase):
    """L{FrameReceiver.readsOn}: a service that reads on while its peer takes nothing."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.notes = ReadsOn(self.clock)
        self.peer = Keeps()
        self.pair: Pair = connectPair(self.notes, self.peer)
        # From the first frame on the session is its transport's producer.
        self.say(framed(b"begin"))
        self.pair.client.pauseProducing()

    def say(self, data: bytes) -> None:
        """Let the peer write, and every turn come."""
        self.pair.client.write(data)
        self.pair.flush()
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)
            self.pair.flush()

    def stall(self) -> None:
        """Send more than the peer takes."""
        while not self.notes.stalled:
            self.notes.sendFrame(b"x" * 8000)

    def test_goesOn(self) -> None:
        """While the peer takes nothing what it sends is taken, and it is said to live."""
        self.stall()
        self.say(framed(b"a") * 10)
        self.assertEqual((self.notes.count, self.notes.reading), (11, []))

    def test_told(self) -> None:
        """Each change is told of once, however much is sent meanwhile."""
        self.assertFalse(self.notes.stalled)
        self.stall()
        for _ in range(10):
            self.notes.sendFrame(b"x")
        self.assertEqual(self.notes.writing, [(False, True)])
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertEqual(self.notes.writing, [(False, True), (True, False)])
        self.stall()
        self.assertEqual(self.notes.writing[2:], [(False, True)])

    def test_bounded(self) -> None:
        """Answers to a peer that takes none are bounded: then it is read no more."""
        self.notes.answer = b"y" * 1000
        sent = 2 * (MAX_BEHIND + BUFFER_SIZE) // 1000
        self.say(framed(b"a") * sent)
        self.assertTrue(self.notes.stalled)
        self.assertLess(len(self.pair.server.outgoing), MAX_BEHIND + BUFFER_SIZE + 3000)
        self.assertGreater(len(self.pair.server.outgoing), MAX_BEHIND)
        self.assertEqual((self.notes.reading, self.pair.server.reading), ([False], False))
        self.pair.client.resumeProducing()
        self.say(b"")
        self.assertEqual((self.notes.count, self.notes.reading[-1]), (sent + 1, True))
        self.assertEqual(len(self.peer.data), sent * 1004)

    def test_bulk(self) -> None:
        """What was sent before the peer took no more does not count: only what is said then."""
        self.notes.MAX_LENGTH = 10 * MAX_BEHIND
        self.notes.sendFrame(b"x" * (2 * BUFFER_SIZE))
        for _ in range(10):
            self.notes.sendFrame(b"y" * (MAX_BEHIND // 20))
        self.say(framed(b"a"))
        self.assertEqual((self.notes.frames[-1], self.notes.reading), (b"a", []))

    def test_anew(self) -> None:
        """Once the peer has taken all, as much may be sent again as before."""
        for _ in range(4):
            self.stall()
            for _ in range(MAX_BEHIND // 8000 - 2):
                self.notes.sendFrame(b"y" * 8000)
            self.assertEqual((self.notes.reading, self.notes.stalled), ([], True))
            self.pair.client.resumeProducing()
            self.pair.flush()
            self.pair.client.pauseProducing()

    def test_stillGivenUp(self) -> None:
        """A peer that takes nothing is given up in time, however much it sends meanwhile."""
        self.stall()
        for _ in range(int(STALL_TIMEOUT)):
            self.assertFalse(self.notes.givenUp)
            self.say(framed(b"a"))
            self.notes.sendFrame(b"b")
            self.clock.advance(1)
        self.assertTrue(self.notes.givenUp)

    def test_others(self) -> None:
        """A service that does not read on is told of its writing, too."""
        self.assertFalse(Notes.readsOn)
        told: list[bool] = []

        class Told(Notes):
            def writingChanged(self, taken: bool) -> None:
                told.append(taken)

        notes = Told(self.clock)
        pair = connectPair(notes, Protocol())
        pair.client.write(framed(b"a"))
        pair.flush()
        pair.client.pauseProducing()
        for _ in range(20):
            notes.sendFrame(b"x" * 8000)
        self.assertEqual((told, pair.server.reading), ([False], False))


class Keeps(Protocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data


@implementer(IPushProducer)
class Pushes:
    """A push producer that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class RawTests(SynchronousTestCase):
    """L{FrameReceiver.sendRaw}: bytes outside frames."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.notes = Notes(self.clock)
        self.peer = Keeps()
        self.pair: Pair = connectPair(self.notes, self.peer)
        # From the first frame on the session is its transport's producer.
        self.pair.client.write(framed(b"begin"))
        self.pair.flush()

    def send(self, data: bytes, count: int) -> Any:
        """Begin to send a file's bytes."""
        return FileSender().beginFileTransfer(io.BytesIO(data), self.notes.sendRaw(count))

    def test_between(self) -> None:
        """The bytes of a file stand after the frames that were sent, and before all others."""
        data = bytes(range(256)) * 2000
        self.notes.sendFrame(b"before")
        sending = self.send(data, len(data))
        self.notes.sendFrame(b"after")
        self.notes.sendFrame(b"last")
        self.pair.flush()
        self.successResultOf(sending)
        wanted = framed(b"before") + data + framed(b"after") + framed(b"last")
        self.assertEqual(self.peer.data, wanted)
        self.assertEqual((self.notes.faults, self.clock.getDelayedCalls()), ([], []))

    def test_empty(self) -> None:
        """A file of no bytes is one."""
        self.successResultOf(self.send(b"", 0))
        self.notes.sendFrame(b"after")
        self.pair.flush()
        self.assertEqual(self.peer.data, framed(b"after"))

    def test_before(self) -> None:
        """Who has heard nothing yet can send so, too."""
        self.notes, self.peer = Notes(self.clock), Keeps()
        self.pair = connectPair(self.notes, self.peer)
        self.send(b"abc", 3)
        self.pair.flush()
        self.test_flowAfter()

    def test_flowBefore(self) -> None:
        """No more of a file is read than the peer takes."""
        file = io.BytesIO(bytes(10_000_000))
        self.pair.client.pauseProducing()
        FileSender().beginFileTransfer(file, self.notes.sendRaw(10_000_000))
        self.pair.flush()
        self.assertLess(file.tell(), 2 * BUFFER_SIZE)

    def test_flowAfter(self) -> None:
        """After the bytes the answers to a peer that does not take them are bounded as before."""
        self.send(b"abc", 3)
        self.pair.flush()
        self.notes.answer = b"y" * 8000
        self.pair.client.pauseProducing()
        self.pair.client.write(framed(b"x") * 50)
        self.pair.flush()
        self.assertFalse(self.pair.server.reading)
        self.assertLess(len(self.pair.server.outgoing), BUFFER_SIZE + 8100)
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertEqual(self.notes.frames.count(b"x"), 50)

    def test_notRead(self) -> None:
        """Nothing is read meanwhile, so that no answers pile up; then it is all there."""
        raw = self.notes.sendRaw(1)
        self.pair.client.write(framed(b"a") * 3)
        self.pair.flush()
        self.assertEqual((self.notes.frames, self.notes.reading), ([b"begin"], [False]))
        raw.write(b"1")
        raw.unregisterProducer()
        self.pair.flush()
        self.assertEqual((self.notes.frames[1:], self.notes.reading), ([b"a"] * 3, [False, True]))

    def test_stalledBefore(self) -> None:
        """Who is told that nothing is taken is told when it is, also where bytes outside frames
        come between; until these have left it has to wait."""
        self.notes, self.peer = ReadsOn(self.clock), Keeps()
        self.pair = connectPair(self.notes, self.peer)
        self.pair.client.write(framed(b"begin"))
        self.pair.flush()
        for again in (b"", b"y" * 2 * BUFFER_SIZE):
            self.notes.writing.clear()
            self.pair.client.pauseProducing()
            self.notes.MAX_LENGTH = 4 * BUFFER_SIZE
            self.notes.sendFrame(b"x" * 2 * BUFFER_SIZE)
            self.assertEqual(self.notes.writing, [(False, True)])
            raw = self.notes.sendRaw(1)
            self.pair.client.resumeProducing()
            self.pair.flush()
            self.notes.sendFrame(b"after" + again)
            self.assertEqual((self.notes.writing, self.notes.stalled), ([(False, True)], True))
            raw.write(b"1")
            raw.unregisterProducer()
            self.assertEqual(self.notes.stalled, bool(again))
            self.pair.flush()
            self.assertEqual((self.notes.writing[-1], self.notes.stalled), ((True, False), False))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_insideAFrame(self) -> None:
        """A service that sends bytes in answer to a frame gets the next one after them."""

        class Sends(Notes):
            def frameReceived(self, frame: bytes) -> None:
                super().frameReceived(frame)
                raw = self.sendRaw(1)
                self.clock.callLater(1, raw.write, frame)
                self.clock.callLater(1, raw.unregisterProducer)

        self.notes, self.peer = Sends(self.clock), Keeps()
        self.pair = connectPair(self.notes, self.peer)
        self.pair.client.write(framed(b"a") + framed(b"b"))
        self.pair.flush()
        self.assertEqual(self.notes.frames, [b"a"])
        for wanted in (b"a", b"ab"):
            self.clock.advance(1)
            self.pair.flush()
            self.assertEqual(self.peer.data, wanted)

    def test_push(self) -> None:
        """A push producer is paused and resumed as the peer takes the bytes."""
        producer, raw = Pushes(), self.notes.sendRaw(200_001)
        raw.registerProducer(producer, True)
        self.pair.client.pauseProducing()
        raw.write(bytes(200_000))
        self.assertEqual(producer.told, ["pause"])
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertEqual(producer.told, ["pause", "resume"])
        self.assertRaises(RuntimeError, raw.registerProducer, producer, True)
        raw.write(b"x")
        raw.unregisterProducer()
        self.pair.flush()
        self.assertEqual(len(self.peer.data), 200_001)
        self.assertEqual((self.notes.faults, self.clock.getDelayedCalls()), ([], []))

    def test_notTaken(self) -> None:
        """A peer that takes none of the bytes for too long is given up, whatever produces them."""
        for streaming in (True, False):
            self.setUp()
            self.pair.client.pauseProducing()
            if streaming:
                producer, raw = Pushes(), self.notes.sendRaw(200_000)
                raw.registerProducer(producer, True)
                raw.write(bytes(200_000))
            else:
                sending = self.send(bytes(200_000), 200_000)
            self.clock.advance(STALL_TIMEOUT - 0.5)
            self.assertFalse(self.notes.givenUp)
            self.clock.advance(0.5)
            self.assertTrue(self.notes.givenUp)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            if streaming:
                self.assertEqual(producer.told, ["pause", "stop"])
            else:
                self.failureResultOf(sending)

    def test_miscounted(self) -> None:
        """More or fewer bytes than announced end the connection, and no frame follows them."""
        for data, words in ((b"abc", "1 more"), (b"a", "1 fewer")):
            self.setUp()
            self.send(data, 2).addErrback(lambda stopped: None)
            self.notes.sendFrame(b"after")
            self.pair.flush()
            (fault,) = self.notes.faults
            self.assertIn(f"{words} bytes were written", str(fault))
            self.assertNotIn(b"after", self.peer.data)
            self.assertLessEqual(len(self.peer.data), 2)

    def test_lost(self) -> None:
        """A connection that breaks ends the producer; what it still writes is dropped."""
        producer, raw = Pushes(), self.notes.sendRaw(10)
        raw.registerProducer(producer, True)
        self.pair.server.reset()
        self.notes.stopFrames()
        raw.write(b"x")
        raw.unregisterProducer()
        self.assertEqual(producer.told, ["stop"])
        self.assertEqual((self.notes.faults, self.clock.getDelayedCalls()), ([], []))

    def test_stopped(self) -> None:
        """After the end of the session nothing can be sent so; its producer is stopped at once."""
        self.notes.stopFrames()
        self.failureResultOf(self.send(b"abc", 3))
        self.assertEqual(self.pair.server.outgoing, b"")

    def test_twice(self) -> None:
        """To send two at once is a fault of the program."""
        self.notes.sendRaw(1)
        self.assertRaises(RuntimeError, self.notes.sendRaw, 1)
