"""
One chunk at a time: in order, bounded, and none once the connection closes.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.net.chunks import MAX_HELD, ChunkProtocol
from twisted_netsuite.net.serving import CLOSE_TIMEOUT, ConnectionLimits, ServedFactory
from twisted_netsuite.testing import connectPair


class Worker(ChunkProtocol):
    """
    Notes each chunk; what it does with one is written in it.

    C{h} holds, C{r} holds and releases at once, C{c} closes, C{a} aborts, C{f} fails.
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
        self.send(b"h", *[b"r%d" % number for number in range(5000)])
        self.worker.release()
        self.assertEqual(self.worker.served[1:], [b"r%d" % number for number in range(5000)])

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
