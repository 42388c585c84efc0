"""
Frames over a stream: split anywhere, of every length, without end, too slow, and not read.
"""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
from socket import socketpair
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.basic import FileSender
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_netsuite.errors import (
    ConnectionFailed,
    LimitExceeded,
    NetsuiteError,
    ProtocolError,
    TimedOut,
)
from twisted_netsuite.net.frames import (
    FRAME_TIMEOUT,
    FRAMES_A_TURN,
    MAX_BEHIND,
    RAW_READ,
    RAW_TIMEOUT,
    STALL_TIMEOUT,
    FrameReceiver,
)
from twisted_netsuite.net.sendfile import PIECE, Part
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

    def test_pushesOn(self) -> None:
        """A push producer that goes on although it is paused wins no time for the peer."""
        producer, raw = Pushes(), self.notes.sendRaw(400_000)
        raw.registerProducer(producer, True)
        self.pair.client.pauseProducing()
        for _ in range(2):
            raw.write(bytes(100_000))
            self.clock.advance(STALL_TIMEOUT - 1)
        self.assertTrue(self.notes.givenUp)

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


def announced(data: bytes) -> bytes:
    """Write bytes behind a frame that tells how many they are."""
    return framed(b"raw %d" % len(data)) + data


class Takes(Notes):
    """
    Takes the bytes that a frame announces.

    @ivar told: all that has come in order, each body as one entry once it is whole.
    @ivar body: what has come of the last.
    @ivar pieces: the sizes of what its sink was given.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.told: list[tuple[str, bytes]] = []
        self.body = bytearray()
        self.pieces: list[int] = []

    def frameReceived(self, frame: bytes) -> None:
        super().frameReceived(frame)
        if not frame.startswith(b"raw "):
            self.told.append(("frame", frame))
            return
        self.body.clear()
        self.wanted = int(frame[4:])
        self.receiveRaw(self.wanted, self.take)
        if not self.wanted:
            self.told.append(("raw", b""))

    def take(self, data: bytes | memoryview) -> None:
        """Be the sink."""
        assert data, "No piece is empty."
        self.body += data
        self.pieces.append(len(data))
        if len(self.body) == self.wanted:
            self.told.append(("raw", bytes(self.body)))


#: Frames and bodies, as they go in and have to come out; a frame that announces is none of these.
parts = st.lists(
    st.tuples(st.just("frame"), st.binary(min_size=1, max_size=60).map(lambda data: b"f" + data))
    | st.tuples(st.just("raw"), st.binary(max_size=300)),
    max_size=20,
)


def written(told: list[tuple[str, bytes]]) -> bytes:
    """Write frames and bodies as a peer does."""
    return b"".join(framed(data) if kind == "frame" else announced(data) for kind, data in told)


class ReceiveRawTests(SynchronousTestCase):
    """L{FrameReceiver.receiveRaw}: bytes outside frames, as they come."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.notes = Takes(self.clock)
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

    def test_everySplit(self) -> None:
        """Frames and bodies, also empty ones, come out whole wherever they are split."""
        told = [("raw", b""), ("frame", b"a"), ("raw", b"12345"), ("raw", b"6"), ("frame", b"b")]
        data = written(told)
        for first in range(len(data) + 1):
            for second in range(first, len(data) + 1, 3):
                self.setUp()
                for piece in (data[:first], data[first:second], data[second:]):
                    self.say(piece)
                self.assertEqual((self.notes.told, self.notes.faults), (told, []), (first, second))
                self.assertFalse(self.notes.inFrame)

    @settings(deadline=None)
    @given(parts, st.lists(st.integers(1, 400), min_size=1, max_size=8), st.data())
    def test_anySplit(self, told: list[tuple[str, bytes]], cuts: list[int], data: Any) -> None:
        """What goes in comes out, in its order, however it is cut, and whenever it is held."""
        self.setUp()
        stream, turn = written(told), 0
        while stream:
            cut = cuts[turn % len(cuts)]
            self.notes.hold(data.draw(st.booleans()))
            self.say(stream[:cut])
            stream, turn = stream[cut:], turn + 1
        self.notes.hold(False)
        self.pair.flush()
        self.settle()
        self.assertEqual((self.notes.told, self.notes.faults), (told, []))
        self.assertFalse(self.notes.inFrame)

    def test_asTheyCome(self) -> None:
        """Each piece is passed on as it comes, and is not kept until the body is whole."""
        self.say(framed(b"raw 100") + b"x" * 10)
        self.say(b"x" * 20)
        self.assertEqual(self.notes.pieces, [10, 20])
        self.assertTrue(self.notes.inFrame)
        self.say(b"x" * 70 + framed(b"a"))
        self.assertEqual(self.notes.pieces, [10, 20, 70])
        self.assertEqual(self.notes.told[-1], ("frame", b"a"))

    def test_notCopied(self) -> None:
        """A read that holds nothing but such bytes is passed on as it is, and one that holds more
        in part, without a copy."""
        given: list[bytes | memoryview] = []

        class Sinks(Notes):
            def frameReceived(self, frame: bytes) -> None:
                self.receiveRaw(20, given.append)

        notes = Sinks(self.clock)
        connectPair(notes, Protocol())
        first, second = framed(b"a") + b"x" * 5, b"y" * 10
        for data in (first, second):
            notes.dataReceived(data)
        self.assertIs(given[1], second)
        assert isinstance(given[0], memoryview)
        self.assertIs(given[0].obj, first)

    def test_large(self) -> None:
        """A body may be larger than any frame, and costs no memory but for a read's."""
        count = 50_000_000
        sizes: list[int] = []

        class Sinks(Notes):
            def frameReceived(self, frame: bytes) -> None:
                super().frameReceived(frame)
                if frame == b"raw":
                    self.receiveRaw(count, lambda data: sizes.append(len(data)))

        self.notes = Sinks(self.clock)  # type: ignore[assignment]
        connectPair(self.notes, Protocol())
        self.notes.dataReceived(framed(b"raw"))
        piece = bytes(50_000)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(count // len(piece)):
            self.notes.dataReceived(piece)
        self.assertLess(tracemalloc.get_traced_memory()[1], 200_000)
        self.notes.dataReceived(framed(b"end"))
        self.assertEqual((sum(sizes), self.notes.frames[-1]), (count, b"end"))

    def test_held(self) -> None:
        """While the service holds it is given nothing, and then all, in the same order."""
        self.say(framed(b"raw 10") + b"abc")
        self.notes.hold(True)
        self.say(b"defghij" + framed(b"a"))
        self.clock.advance(RAW_TIMEOUT * 3)
        self.assertEqual((bytes(self.notes.body), self.notes.faults), (b"abc", []))
        self.notes.hold(False)
        self.pair.flush()
        self.assertEqual(self.notes.told, [("raw", b"abcdefghij"), ("frame", b"a")])

    def test_heldLittle(self) -> None:
        """The order stays also where only a byte or two have come while it was held."""
        self.pair.server.pauseProducing = lambda: None  # type: ignore[method-assign]
        self.say(framed(b"raw 6") + b"a")
        self.notes.hold(True)
        self.say(b"b")
        self.say(b"c")
        self.notes.hold(False)
        self.say(b"def")
        self.assertEqual(self.notes.told, [("raw", b"abcdef")])

    def test_heldByTheSink(self) -> None:
        """A sink that holds gets no further piece, nor is a frame taken, before it lets go."""
        self.pair.server.pauseProducing = lambda: None  # type: ignore[method-assign]
        take = self.notes.take

        def holding(data: bytes | memoryview) -> None:
            take(data)
            self.notes.hold(True)

        self.notes.take = holding  # type: ignore[method-assign]
        # This transport goes on, as one with TLS may with what it has read.
        self.say(framed(b"raw 6") + b"abc")
        for data in (b"de", b"f" + framed(b"x")):
            self.say(data)
        self.assertEqual(self.notes.pieces, [3])
        self.notes.hold(False)
        self.assertEqual((self.notes.pieces, self.notes.told), ([3, 3], [("raw", b"abcdef")]))
        self.notes.hold(False)
        self.assertEqual(self.notes.told[1:], [("frame", b"x")])

    def test_heldUntilKnown(self) -> None:
        """A service that holds may say only later where the bytes go."""

        class Waits(Takes):
            def frameReceived(self, frame: bytes) -> None:
                Notes.frameReceived(self, frame)
                self.hold(True)

        self.notes = Waits(self.clock)
        self.pair = connectPair(self.notes, Protocol())
        self.say(framed(b"soon") + b"abcd" + framed(b"a"))
        self.say(framed(b"b"))
        self.clock.advance(100)
        self.notes.wanted = 4
        self.notes.receiveRaw(4, self.notes.take)
        self.assertEqual(self.notes.told, [])
        self.notes.hold(False)
        self.pair.flush()
        self.assertEqual((self.notes.told, self.notes.frames[1:]), ([("raw", b"abcd")], [b"a"]))

    def test_notTaken(self) -> None:
        """While the peer takes no answers its bytes are not taken either."""
        self.notes.answer = b"y" * 8000
        self.pair.client.pauseProducing()
        self.say(framed(b"x") * 20 + announced(b"abc"))
        self.assertNotIn(("raw", b"abc"), self.notes.told)
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertEqual(self.notes.told[-1], ("raw", b"abc"))

    def test_turns(self) -> None:
        """Bodies take part in the turns of their frames: so many, and others are served."""
        self.say(announced(b"abc") * (2 * FRAMES_A_TURN + 1))
        # The bytes behind the last frame of a turn wait for the next.
        self.assertEqual(len(self.notes.told), FRAMES_A_TURN - 1)
        others: list[int] = []
        self.clock.callLater(0, lambda: others.append(len(self.notes.told)))
        self.settle()
        self.assertEqual(others, [2 * FRAMES_A_TURN - 1])
        self.assertEqual(self.notes.told, [("raw", b"abc")] * (2 * FRAMES_A_TURN + 1))

    def test_chained(self) -> None:
        """A sink may ask for further bytes as it gets the last, and not before."""
        got: list[bytes] = []

        def second(data: bytes | memoryview) -> None:
            got.append(bytes(data))

        def first(data: bytes | memoryview) -> None:
            got.append(bytes(data))
            if len(b"".join(got)) < 4:
                self.assertRaises(RuntimeError, self.notes.receiveRaw, 2, second)
            else:
                self.notes.receiveRaw(2, second)

        class Sinks(Notes):
            def frameReceived(self, frame: bytes) -> None:
                super().frameReceived(frame)
                if frame == b"raw":
                    self.receiveRaw(4, first)

        self.notes = Sinks(self.clock)  # type: ignore[assignment]
        self.pair = connectPair(self.notes, Protocol())
        self.say(framed(b"raw") + b"a")
        self.say(b"bcdef" + framed(b"end"))
        self.assertEqual((got, self.notes.frames[-1]), ([b"a", b"bcd", b"ef"], b"end"))

    def test_misused(self) -> None:
        """To ask a second time, or once the next frame has begun, is a fault of the program."""
        self.say(framed(b"raw 5") + b"ab")
        self.assertRaises(RuntimeError, self.notes.receiveRaw, 1, self.notes.take)
        for begun in (framed(b"abc")[:2], framed(b"abc")[:5]):
            self.setUp()
            self.say(begun)
            self.assertRaises(RuntimeError, self.notes.receiveRaw, 1, self.notes.take)

    def test_slow(self) -> None:
        """A body may take any time, as long as some of it comes."""
        self.say(framed(b"raw 100"))
        for _ in range(100):
            self.clock.advance(RAW_TIMEOUT - 1)
            self.say(b"x")
        self.assertEqual((self.notes.faults, self.notes.told), ([], [("raw", b"x" * 100)]))
        self.clock.advance(RAW_TIMEOUT * 3)
        self.assertEqual((self.notes.faults, self.clock.getDelayedCalls()), ([], []))

    def test_stuck(self) -> None:
        """A body of which nothing comes for too long ends the connection, wherever it stands."""
        for begun in (b"", b"abc"):
            self.setUp()
            self.clock.advance(5)
            self.say(framed(b"raw 10") + begun)
            self.clock.advance(RAW_TIMEOUT - 1)
            self.assertEqual(self.notes.faults, [])
            self.clock.advance(1)
            (error,) = self.notes.faults
            self.assertIsInstance(error, TimedOut)
            self.assertIn(f"{10 - len(begun)} bytes that were announced", error.sentence)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stuckThenFrame(self) -> None:
        """The time of the frame behind a body begins with the frame."""
        self.say(framed(b"raw 2") + b"a")
        self.clock.advance(RAW_TIMEOUT - 1)
        self.say(b"b" + framed(b"abc")[:5])
        self.clock.advance(FRAME_TIMEOUT - 1)
        self.say(framed(b"abc")[5:])
        self.assertEqual((self.notes.faults, self.notes.told[-1]), ([], ("frame", b"abc")))

    def test_stopped(self) -> None:
        """After the stop nothing goes to the sink, also if it was the sink that stopped."""
        self.say(framed(b"raw 10") + b"abc")
        self.notes.stopFrames()
        self.say(b"defghij" + framed(b"a"))
        self.assertEqual((bytes(self.notes.body), self.notes.told), (b"abc", []))
        self.assertFalse(self.notes.inFrame)
        self.notes.receiveRaw(1, self.notes.take)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.setUp()
        self.notes.take = lambda data: self.notes.stopFrames()  # type: ignore[method-assign]
        self.say(announced(b"abc") + framed(b"a"))
        self.assertEqual((self.notes.told, self.clock.getDelayedCalls()), ([], []))

    def test_limitBehind(self) -> None:
        """A frame behind a body is checked as any other."""
        self.say(announced(b"abc") + struct.pack("!I", 2**31))
        self.assertIsInstance(self.notes.faults[0], LimitExceeded)


class ReadSizeTests(SynchronousTestCase):
    """How much is read from a socket at once."""

    def test_large(self) -> None:
        """Much is read at once while much is to come outside frames, and the usual again after."""
        ours, theirs = socketpair()
        self.addCleanup(theirs.close)
        self.addCleanup(ours.close)
        clock = MemoryReactorClock()
        notes = Notes(clock)
        transport = Connection(ours, notes, clock)
        notes.makeConnection(transport)
        usual = transport.bufferSize
        received: list[int] = []
        count = RAW_READ + 1
        notes.receiveRaw(count, lambda data: received.append(len(data)))
        self.assertEqual(transport.bufferSize, RAW_READ)
        self.assertGreater(RAW_READ, usual)
        notes.dataReceived(b"x" * RAW_READ)
        self.assertEqual(transport.bufferSize, RAW_READ)
        notes.dataReceived(b"x" + framed(b"on"))
        self.assertEqual((transport.bufferSize, sum(received)), (usual, count))
        self.assertEqual(notes.frames, [b"on"])
        notes.receiveRaw(RAW_READ, lambda data: None)
        self.assertEqual(transport.bufferSize, usual)


class SendBodyTests(SynchronousTestCase):
    """L{FrameReceiver.sendFrameWithBody}, over a transport that is no socket."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.notes = Notes(self.clock)
        self.peer = Keeps()
        self.pair: Pair = connectPair(self.notes, self.peer)
        # From the first frame on the session is its transport's producer.
        self.pair.client.write(framed(b"begin"))
        self.pair.flush()
        self.data = bytes(range(256)) * 1024 * 2

    def part(self, data: bytes) -> Part:
        """Let a file that is no file be read."""
        return Part(len(data), lambda offset, count: data[offset : offset + count])

    def test_small(self) -> None:
        """A small body leaves with its frame in one write, and the next may be sent at once."""
        written: list[bytes] = []
        self.notes = Notes(self.clock)
        self.pair.server.write = written.append  # type: ignore[method-assign,assignment]
        self.notes.makeConnection(self.pair.server)
        for data in (b"", b"abc", bytes(PIECE)):
            sending = self.notes.sendFrameWithBody(b"head", data)
            self.assertEqual(self.successResultOf(sending), 0)
            self.assertEqual(written, [framed(b"head") + data])
            written.clear()

    def test_order(self) -> None:
        """Frames and bodies of all kinds leave in the order in which they were sent."""
        sendings = []
        wanted = b""
        for number, data in enumerate((self.data, b"small", b"", self.data[:PIECE], self.data)):
            frame = b"head %d" % number
            for body in (data, self.part(data)):
                sendings.append(self.notes.sendFrameWithBody(frame, body))
                self.notes.sendFrame(b"after")
                wanted += framed(frame) + data + framed(b"after")
        self.pair.flush()
        self.assertEqual([self.successResultOf(each) for each in sendings], [0] * 10)
        self.assertEqual(self.peer.data, wanted)
        self.assertEqual((self.notes.faults, self.clock.getDelayedCalls()), ([], []))

    def test_oneAfterTheOther(self) -> None:
        """Who sends each body when the one before has left, sends them all, in bounded memory."""
        most = 0

        def note(missing: int, number: int = 0) -> Any:
            nonlocal most
            most = max(most, len(self.pair.server.outgoing))
            if number < 50:
                sending = self.notes.sendFrameWithBody(b"head", self.data)
                return sending.addCallback(note, number + 1)
            return None

        sending = note(0)
        self.pair.flush()
        self.successResultOf(sending)
        self.assertEqual(self.peer.data, (framed(b"head") + self.data) * 50)
        self.assertLess(most, 3 * PIECE)

    def test_flow(self) -> None:
        """Of a body no more is read than the peer takes, and small ones wait for it, too."""
        self.pair.client.pauseProducing()
        asked: list[int] = []

        def read(offset: int, count: int) -> bytes:
            asked.append(count)
            return bytes(count)

        sending = self.notes.sendFrameWithBody(b"head", Part(10_000_000, read))
        self.pair.flush()
        self.assertLess(sum(asked), 3 * PIECE)
        self.assertNoResult(sending)
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertEqual(self.successResultOf(sending), 0)
        self.pair.client.pauseProducing()
        sendings = [self.notes.sendFrameWithBody(b"head", bytes(8000)) for _ in range(10)]
        self.assertEqual([sending.called for sending in sendings], [True] * 8 + [False] * 2)
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertEqual([self.successResultOf(sending) for sending in sendings], [0] * 10)

    def test_smallThenRaw(self) -> None:
        """A small body that waits for the peer is done also when other bytes stand behind it."""
        self.pair.client.pauseProducing()
        small = self.notes.sendFrameWithBody(b"head", bytes(PIECE))
        large = self.notes.sendFrameWithBody(b"head", self.data)
        self.assertNoResult(small)
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertEqual((self.successResultOf(small), self.successResultOf(large)), (0, 0))

    def test_notTaken(self) -> None:
        """A peer that takes none of a body for too long is given up; one that takes some is not."""
        self.pair.client.pauseProducing()
        sending = self.notes.sendFrameWithBody(b"head", self.data)
        self.clock.advance(STALL_TIMEOUT - 1)
        self.pair.server.step(BUFFER_SIZE)
        for _ in range(3):
            self.pair.client.resumeProducing()
            while self.pair.server.outgoing:
                self.pair.server.step(BUFFER_SIZE)
            self.pair.server.step(BUFFER_SIZE)
            self.pair.client.pauseProducing()
            self.clock.advance(STALL_TIMEOUT - 1)
            self.assertFalse(self.notes.givenUp)
        self.clock.advance(1)
        self.assertTrue(self.notes.givenUp)
        self.failureResultOf(sending, ConnectionFailed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """At the end of the session all that wait are told so, and nothing more is written."""
        self.pair.client.pauseProducing()
        sendings = [
            self.notes.sendFrameWithBody(b"head", body) for body in (self.data, b"a", self.data)
        ]
        self.notes.stopFrames()
        sendings.append(self.notes.sendFrameWithBody(b"head", b"late"))
        for sending in sendings:
            self.failureResultOf(sending, ConnectionFailed)
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertLess(len(self.peer.data), len(self.data))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stoppedWhileWaiting(self) -> None:
        """A small body that the peer has not taken fails with the session, too."""
        self.pair.client.pauseProducing()
        sending = self.notes.sendFrameWithBody(b"head", bytes(PIECE))
        self.assertNoResult(sending)
        self.notes.stopFrames()
        self.failureResultOf(sending, ConnectionFailed)

    def test_lost(self) -> None:
        """A connection that is lost ends a body once."""
        self.pair.client.pauseProducing()
        sending = self.notes.sendFrameWithBody(b"head", self.data)
        self.pair.server.reset()
        self.failureResultOf(sending, ConnectionFailed)
        self.notes.stopFrames()
        self.assertEqual((self.notes.faults, self.clock.getDelayedCalls()), ([], []))

    def test_tooLarge(self) -> None:
        """Where the frame is too large neither it nor the body is sent."""
        large = b"x" * (MAX_FIRST_FRAME + 1)
        self.assertRaises(LimitExceeded, self.notes.sendFrameWithBody, large, b"abc")
        self.assertEqual(self.pair.server.outgoing, b"")

    def test_bothWays(self) -> None:
        """Two services that read on send each other bodies at once, and both get on."""
        ends = (ReadsOnAndTakes(self.clock), ReadsOnAndTakes(self.clock))
        pair = connectPair(*ends)
        sendings = []
        for end in ends:
            for _ in range(3):
                frame = b"raw %d" % len(self.data)
                sendings.append(end.sendFrameWithBody(frame, self.part(self.data)))
                end.sendFrame(b"end")
        pair.flush()
        for sending in sendings:
            self.assertEqual(self.successResultOf(sending), 0)
        for end in ends:
            self.assertEqual(end.told, [("raw", self.data), ("frame", b"end")] * 3)

    def test_readOn(self) -> None:
        """A service that reads on answers behind its body, and is read no more when its answers
        grow too many."""
        notes = ReadsOn(self.clock)
        pair = connectPair(notes, self.peer)
        pair.client.write(framed(b"begin"))
        pair.flush()
        pair.client.pauseProducing()
        self.peer.data = b""
        sending = notes.sendFrameWithBody(b"head", self.data)
        notes.answer = b"y" * 8000
        for _ in range(100):
            pair.client.write(framed(b"x"))
            pair.flush()
        self.assertGreater(notes.count * 8000, MAX_BEHIND)
        self.assertLess(notes.count * 8000, MAX_BEHIND + 3 * 8004)
        pair.client.resumeProducing()
        pair.flush()
        self.successResultOf(sending)
        self.assertEqual(notes.count, 101)
        answers = framed(notes.answer) * 100
        self.assertEqual(self.peer.data, framed(b"head") + self.data + answers)

    def test_readOnAnew(self) -> None:
        """What was said behind one body does not count against the next."""
        notes = ReadsOn(self.clock)
        pair = connectPair(notes, self.peer)
        pair.client.write(framed(b"begin"))
        pair.flush()
        notes.reading.clear()
        notes.answer = b"y" * 8000
        for _ in range(3 * MAX_BEHIND // 40_000):
            raw = notes.sendRaw(1)
            pair.client.write(framed(b"x") * 5)
            pair.flush()
            raw.write(b"1")
            raw.unregisterProducer()
            pair.flush()
        self.assertEqual(notes.reading, [])


class ReadsOnAndTakes(Takes):
    """Takes what comes also while its own bodies leave."""

    readsOn = True
