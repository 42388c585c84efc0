"""
One chunk at a time: in order, bounded, and none once the connection closes.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.net.chunks import (
    CHUNKS_A_TURN,
    MAX_HELD,
    MAX_HELD_CHUNKS,
    ChunkProtocol,
)
from twisted_netsuite.net.serving import CLOSE_TIMEOUT, ServedFactory
from twisted_netsuite.testing import BUFFER_SIZE, connectPair


class Worker(ChunkProtocol):
    """
    Notes each chunk; what it does with one is written in it.

    C{h} holds, C{r} holds and releases at once, C{w} writes more than is buffered, C{c} closes,
    C{a} aborts, C{f} fails.
    """

    def __init__(self) -> None:
        self.served: list[bytes] = []

    def chunkReceived(self, chunk: bytes) -> None:
        self.served.append(chunk)
        match chunk[:1]:
            case b"h":
                self.hold()
            case b"r":
                self.hold()
                self.release()
            case b"w":
                self.transport.write(bytes(BUFFER_SIZE + 1))
            case b"c":
                self.close()
            case b"a":
                self.transport.abortConnection()
            case b"f":
                raise ValueError("as asked")


class WorkerFactory(ServedFactory):
    """Serves it."""

    protocol = Worker


class ChunkTests(SynchronousTestCase):
    """L{ChunkProtocol} over a pair in memory, each write one chunk."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.factory = WorkerFactory(self.clock, ConnectionLimits(10, 600))
        worker = self.factory.buildProtocol(None)
        assert isinstance(worker, Worker)
        self.worker = worker
        self.pair = connectPair(worker, Protocol())

    def send(self, *chunks: bytes) -> None:
        """Send each as a chunk of its own."""
        for chunk in chunks:
            self.pair.client.write(chunk)
            self.pair.flush()

    def test_served(self) -> None:
        """While nothing is held each chunk is served as it comes."""
        self.send(b"1", b"2")
        self.assertEqual(self.worker.served, [b"1", b"2"])

    def test_held(self) -> None:
        """While one is served the others wait, and then come one by one, in order."""
        self.send(b"h1", b"2", b"h3", b"4")
        self.assertEqual(self.worker.served, [b"h1"])
        self.worker.release()
        self.assertEqual(self.worker.served, [b"h1", b"2", b"h3"])
        self.worker.release()
        self.assertEqual(self.worker.served, [b"h1", b"2", b"h3", b"4"])

    def test_notJoined(self) -> None:
        """Chunks that wait are not joined: each stays one message."""
        self.send(b"h", b"a", b"b")
        self.worker.release()
        self.assertEqual(self.worker.served[1], b"a")

    def test_releasedInside(self) -> None:
        """A chunk that is done at once lets the next follow, without ever nesting deeper."""
        chunks = [b"r%d" % number for number in range(5000)]
        self.worker.dataReceived(b"h")
        for chunk in chunks:
            self.worker.dataReceived(chunk)
        self.worker.release()
        self.clock.advance(0)
        self.assertEqual(self.worker.served[1:], chunks)

    def turn(self) -> None:
        """Let just one turn of the reactor come, in which what it schedules waits for the next."""
        call = self.clock.calls.pop(0)
        call.called = 1
        call.func(*call.args, **call.kw)

    def test_turns(self) -> None:
        """Of many small chunks a few are served a turn, in order, and others get a turn between."""
        sent = [b"%d" % (number % 10) for number in range(4000)]
        self.send(b"h")
        self.pair.client.write(b"".join(sent))
        self.pair.flush(1)
        self.worker.release()
        for turns in range(1, 4):
            self.assertEqual(len(self.worker.served), 1 + turns * CHUNKS_A_TURN)
            self.turn()
        while self.pair.client.outgoing:
            self.pair.flush(1)
            self.clock.advance(0)
        self.assertEqual(self.worker.served[1:], sent)

    def test_turnsFromTheWire(self) -> None:
        """What comes while others wait for their turn goes behind them, in no turn of its own."""
        self.send(b"h", *[b"1"] * 40)
        self.worker.release()
        self.send(b"2")
        self.assertEqual(len(self.worker.served), 1 + CHUNKS_A_TURN)
        self.clock.advance(0)
        self.assertEqual(self.worker.served[1:], [b"1"] * 40 + [b"2"])

    def test_endBetweenTurns(self) -> None:
        """An end between two turns is the end: nothing more is served, and no call is left."""
        for end in ("close", "reset"):
            self.setUp()
            self.send(b"h", *[b"1"] * 40)
            self.worker.release()
            if end == "close":
                self.worker.close()
                self.pair.flush()
            else:
                self.pair.server.reset()
            self.assertEqual(self.clock.getDelayedCalls(), [], end)
            self.assertEqual(len(self.worker.served), 1 + CHUNKS_A_TURN)

    def test_chunkLimit(self) -> None:
        """Reading stops with the first chunk over how many may be held, however small they are."""
        self.send(b"h", *[b"1"] * (MAX_HELD_CHUNKS - 1))
        self.assertTrue(self.pair.server.reading)
        self.send(b"1")
        self.assertTrue(self.pair.server.reading)
        self.send(b"1")
        self.assertFalse(self.pair.server.reading)
        self.worker.release()
        self.assertTrue(self.pair.server.reading)

    def test_stalled(self) -> None:
        """While the peer takes no answer, nothing is served or read; then all is, in order."""
        self.pair.client.pauseProducing()
        self.send(b"w1", b"2")
        self.assertFalse(self.pair.server.reading)
        self.assertEqual(self.worker.served, [b"w1"])
        self.worker.dataReceived(b"w3")
        self.worker.dataReceived(b"4")
        self.assertEqual(self.worker.served, [b"w1"])
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertEqual(self.worker.served, [b"w1", b"w3", b"4", b"2"])
        self.assertTrue(self.pair.server.reading)

    def test_stalledInside(self) -> None:
        """A stall stops also what was held before and is being given out."""
        self.pair.client.pauseProducing()
        self.send(b"h", b"w1", b"2")
        self.worker.release()
        self.clock.advance(0)
        self.assertEqual(self.worker.served, [b"h", b"w1"])
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertEqual(self.worker.served, [b"h", b"w1", b"2"])

    def test_stalledClose(self) -> None:
        """A close while the peer takes nothing still flushes, and serves nothing more."""
        self.pair.client.pauseProducing()
        self.send(b"w1", b"2")
        self.worker.close()
        self.pair.client.resumeProducing()
        self.pair.flush()
        self.assertEqual(self.worker.served, [b"w1"])
        assert self.pair.client.lost is not None
        self.assertTrue(self.pair.client.lost.check(ConnectionDone))

    def test_stalledIdle(self) -> None:
        """A peer that takes no answer is given up when it has been idle too long."""
        self.pair.client.pauseProducing()
        self.send(b"w1", b"2")
        self.clock.advance(600)
        self.pair.flush()
        self.assertIsNotNone(self.pair.server.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_laterChunkWaits(self) -> None:
        """A chunk that comes while others are held goes behind them."""
        self.send(b"h1", b"h2", b"3")
        self.worker.release()
        self.send(b"4")
        self.worker.release()
        self.assertEqual(self.worker.served, [b"h1", b"h2", b"3", b"4"])

    def test_limit(self) -> None:
        """Reading stops with the first byte over what may be held, not before."""
        self.send(b"h", bytes(MAX_HELD - 1))
        self.assertTrue(self.pair.server.reading)
        self.send(b"1")
        self.assertTrue(self.pair.server.reading)
        self.send(b"2")
        self.assertFalse(self.pair.server.reading)
        self.send(bytes(10 * MAX_HELD))
        self.assertEqual(len(self.pair.client.outgoing), 10 * MAX_HELD)

    def test_readOn(self) -> None:
        """Reading goes on once no more is held than may be."""
        self.send(b"h", b"h" + bytes(MAX_HELD - 1), b"h2", b"3")
        self.assertFalse(self.pair.server.reading)
        self.worker.release()
        self.assertTrue(self.pair.server.reading)
        self.pair.flush()
        self.worker.release()
        self.worker.release()
        self.assertEqual([chunk[:2] for chunk in self.worker.served[2:]], [b"h2", b"3"])

    def test_stillFull(self) -> None:
        """Reading does not go on while too much is held."""
        self.send(b"h", b"h")
        self.pair.client.write(bytes(2 * MAX_HELD))
        self.pair.flush(2 * MAX_HELD)
        self.assertFalse(self.pair.server.reading)
        self.worker.release()
        self.assertFalse(self.pair.server.reading)

    def test_flood(self) -> None:
        """A peer that sends a lot while one chunk is served costs no more than the bound."""
        self.send(b"h")
        self.pair.client.write(bytes(100 * MAX_HELD))
        self.pair.flush()
        self.assertEqual(len(self.pair.client.outgoing), 98 * MAX_HELD)

    def test_close(self) -> None:
        """Once a connection closes, what is held is never served."""
        self.send(b"h", b"1", b"2")
        self.worker.close()
        self.worker.release()
        self.pair.flush()
        self.assertEqual(self.worker.served, [b"h"])
        self.assertIsNotNone(self.pair.server.lost)

    def test_closeInside(self) -> None:
        """A chunk that closes is the last one, though others wait behind it."""
        self.send(b"h", b"c", b"1")
        self.worker.release()
        self.assertEqual(self.worker.served, [b"h", b"c"])

    def test_dataAfterClose(self) -> None:
        """What still comes after a close, as under TLS, is not served."""
        self.pair.client.pauseProducing()
        self.pair.server.write(b"rest")
        self.worker.close()
        self.worker.dataReceived(b"1")
        self.assertEqual(self.worker.served, [])

    def test_lost(self) -> None:
        """A connection that is lost while one chunk is served never serves the next."""
        self.send(b"h", b"1")
        self.pair.server.reset()
        self.worker.release()
        self.assertEqual(self.worker.served, [b"h"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_peerEnds(self) -> None:
        """A peer that sends no more while one chunk is served gets its answer, then the end."""
        self.send(b"h", b"1")
        self.pair.client.loseWriteConnection()
        self.pair.server.write(b"answer")
        self.pair.flush()
        self.assertEqual(self.worker.served, [b"h"])
        self.assertIsNotNone(self.pair.server.lost)

    def test_failure(self) -> None:
        """A chunk that fails does not keep the ones behind it from being released later."""
        self.send(b"h", b"f", b"1")
        self.assertRaises(ValueError, self.worker.release)
        self.send(b"2")
        self.worker.release()
        self.assertEqual(self.worker.served, [b"h", b"f", b"1", b"2"])

    def test_alive(self) -> None:
        """A chunk that is held is a sign of life, too."""
        self.send(b"h")
        self.clock.advance(599)
        self.send(b"1")
        self.clock.advance(599)
        self.pair.flush()
        self.assertIsNone(self.pair.server.lost)

    def test_closeStalled(self) -> None:
        """A stalled peer is cut off in time, also when chunks are held."""
        self.send(b"h", b"1")
        self.pair.client.pauseProducing()
        self.pair.server.write(b"rest")
        self.worker.close()
        self.clock.advance(CLOSE_TIMEOUT)
        self.pair.flush()
        self.assertIsNotNone(self.pair.server.lost)

    def test_subclass(self) -> None:
        """What a chunk means is for a subclass to say."""
        self.assertRaises(NotImplementedError, ChunkProtocol().chunkReceived, b"x")

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.sampled_from([b"1", b"h", b"r", b"h" * 40_000, None]), max_size=30))
    def test_anyOrder(self, steps: list[bytes | None]) -> None:
        """However chunks and releases follow each other, each chunk is served once, in order."""
        self.setUp()
        sent = [step for step in steps if step is not None]
        for step in steps:
            if step is None:
                self.worker.release()
            else:
                self.pair.client.write(step)
            self.pair.flush()
        for _ in sent:
            self.worker.release()
            self.pair.flush()
        self.assertEqual(b"".join(self.worker.served), b"".join(sent))
