"""
Files that a producer writes and a server publishes: whole or not at all, and no more of them in
memory than some chunks, whatever the producer, the connection and the server do.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.protocols.basic import FileSender
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.files.farend import write
from tests.files.fileserver import NAME, Later, Script, facts, fileDigest
from tests.files.test_transfer import TAIL, TransferTestCase, noise
from tests.trust.overseen import overseen
from twisted_netsuite.errors import (
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Corrupted,
    InvalidName,
    LimitExceeded,
    NotFound,
    ProtocolError,
    SourceChanged,
)
from twisted_netsuite.files.client import FilesSession, connectFiles
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.messages import Body, Cancel, Commit, Done, Found, Get, Holes, Put
from twisted_netsuite.files.names import split
from twisted_netsuite.files.native import FilesFactory
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.receiving import MAX_SILENCE
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.files.streamput import ASKED_A_TURN, MAX_HELD, PutStream
from twisted_netsuite.files.transfer import MAX_SIZE, Sent, Unconfirmed, getStream, putStream
from twisted_netsuite.testing import MemoryEndpoint
from twisted_netsuite.trust.audit import AuditNotes

#: Bytes that a test's producers write at a time, as sockets give them.
PIECE = 64 * 1024

LARGE = noise(5 * CHUNK + TAIL)


def held(stream: PutStream) -> int:
    """Count the bytes of a file that are in memory for it."""
    chunks = [stream._growing, *stream._whole, *(data or b"" for data, _ in stream._digested)]
    return sum(map(len, chunks))


class Pusher:
    """
    A producer that writes until it is paused.

    @ivar paused: how often it was.
    @ivar stopped: how often it was told to stop.
    @ivar most: the most bytes that were held after any of its writes.
    """

    def __init__(self, stream: PutStream, data: bytes, piece: int = PIECE) -> None:
        self.stream = stream
        self.data = data
        self.at = 0
        self.piece = piece
        self.paused = self.stopped = self.most = 0
        self.going = True

    def start(self) -> None:
        self.stream.registerProducer(self, True)  # type: ignore[arg-type]
        self.go()

    def go(self) -> None:
        while self.going and self.at < len(self.data):
            at, self.at = self.at, self.at + self.piece
            self.stream.write(self.data[at : self.at])
            self.most = max(self.most, held(self.stream), self.stream._held)
        if self.going and not self.stopped:
            self.going = False
            self.stream.unregisterProducer()

    def pauseProducing(self) -> None:
        assert self.going
        self.going = False
        self.paused += 1

    def resumeProducing(self) -> None:
        assert not self.going
        self.going = True
        self.go()

    def stopProducing(self) -> None:
        self.going = False
        self.stopped += 1


class Puller:
    """
    A producer that is asked each time.

    @ivar asked: how often it was.
    """

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.asked = self.stopped = 0

    def resumeProducing(self) -> None:
        self.asked += 1
        self.act()

    def stopProducing(self) -> None:
        self.stopped += 1


class StreamCase(TransferTestCase):
    """A stream to a server that keeps files."""

    def stream(self, size: int, *sessions: FilesSession, **options: Any) -> PutStream:
        return putStream(
            sessions or [self.session],
            b"/there",
            size,
            self.disk,
            moved=self.told.append,
            **options,
        )

    def pushed(self, data: bytes, **options: Any) -> PutStream:
        """Write a file as a producer does."""
        stream = self.stream(len(data), **options)
        Pusher(stream, data).start()
        self.flush()
        return stream

    def written(self, data: bytes, size: int | None = None) -> PutStream:
        """Write a file, and say that it was all."""
        stream = self.stream(len(data) if size is None else size)
        stream.write(data)
        self.flush()
        stream.unregisterProducer()
        self.flush()
        return stream

    def due(self) -> int:
        """Count what waits for the next turn of the reactor."""
        now = self.clock.seconds()
        return sum(each.getTime() <= now for each in self.clock.getDelayedCalls())

    def assertNotThere(self) -> None:
        """See that nothing was published, and nothing is in use."""
        self.assertEqual(self.factory.files, {})
        self.assertIdle()
        self.assertEqual(self.due(), 0)


class PutStreamTests(StreamCase):
    """Files of any size, and how they fail."""

    def test_whole(self) -> None:
        """A file of any size is published as it was written, and small ones at once."""
        for size in (0, 1, PIECE, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, len(LARGE)):
            self.setUp()
            data = noise(size)
            stream = self.pushed(data)
            expected = Sent(facts(size), fileDigest(data), size, size, 0)
            self.assertEqual(self.successResultOf(stream.done), expected)
            self.assertEqual(self.served(), data)
            self.assertEqual(sum(self.told), size)
            (put,) = self.records(Put)
            self.assertEqual((put.follows, put.source), (size <= CHUNK, None))
            self.assertIdle()

    def test_consumer(self) -> None:
        """It is what whoever writes to a consumer expects."""
        stream = self.stream(0)
        self.assertTrue(verifyObject(IConsumer, stream))
        stream.unregisterProducer()
        self.flush()
        self.successResultOf(stream.done)

    def test_fileSender(self) -> None:
        """Twisted's own sender of files can write it."""
        for size in (0, 5, CHUNK, len(LARGE)):
            self.setUp()
            data = noise(size)
            stream = self.stream(size)
            sending = FileSender().beginFileTransfer(BytesIO(data), stream)
            self.flush()
            self.assertEqual(self.successResultOf(sending), data[-1:] or "")
            self.assertEqual(self.successResultOf(stream.done).digest, fileDigest(data))
            self.assertEqual(self.served(), data)
            self.assertEqual(self.due(), 0)
            self.assertIdle()

    def test_noProducer(self) -> None:
        """Who has no producer can write all at once, or byte by byte."""
        self.successResultOf(self.written(LARGE).done)
        self.assertEqual(self.served(), LARGE)
        stream = self.stream(1000)
        for at in range(1000):
            stream.write(LARGE[at : at + 1])
        stream.unregisterProducer()
        self.flush()
        self.successResultOf(stream.done)
        self.assertEqual(self.served(), LARGE[:1000])

    def test_ownBuffer(self) -> None:
        """Who writes may use its buffer for something else at once."""
        self.disk = Later()
        buffer = bytearray(b"abc")
        stream = self.stream(6)
        stream.write(buffer)  # type: ignore[arg-type]
        buffer[:] = b"def"
        stream.write(buffer)  # type: ignore[arg-type]
        buffer[:] = b"xyz"
        stream.unregisterProducer()
        self.flush()
        self.successResultOf(stream.done)
        self.assertEqual(self.served(), b"abcdef")

    def test_zeros(self) -> None:
        """Chunks of zeros are holes, also the last; one that is sent at once is none."""
        data = noise(CHUNK) + bytes(3 * CHUNK) + b"x" + bytes(CHUNK - 1) + bytes(7)
        sent = self.successResultOf(self.pushed(data).done)
        self.assertEqual(self.served(), data)
        self.assertEqual((sent.moved, sent.there), (2 * CHUNK, 3 * CHUNK + 7))
        self.assertEqual(sent.digest, fileDigest(data))
        self.assertEqual([each.index for each in self.records(Holes)], [1, 2, 3, 5])
        self.assertEqual([each.index for each in self.records(Body)], [0, 4])
        self.assertEqual(sum(self.told), len(data))
        self.successResultOf(self.pushed(bytes(CHUNK)).done)
        self.assertEqual(self.served(), bytes(CHUNK))
        self.assertEqual(len(self.records(Holes)), 4)

    def test_wishes(self) -> None:
        """What is wished is what the server is asked for."""
        for size in (3, CHUNK + 3):
            self.setUp()
            stream = self.pushed(
                noise(size), mode=0o600, mtime=5, durable=False, replaces=bytes(32), resume=True
            )
            self.successResultOf(stream.done)
            (put,) = self.records(Put)
            self.assertEqual((put.mode, put.mtime, put.durable), (0o600, 5, False))
            self.assertEqual((put.replaces, put.source), (bytes(32), None))
            stream = self.pushed(noise(size), clobber=False)
            self.failure(stream.done, Conflict)
            self.assertIdle()

    def test_wrongWishes(self) -> None:
        """What cannot be sent is refused before anything is."""
        for kind, options in (
            (ConfigurationError, {"preserve": True}),
            (ConfigurationError, {"replaces": b"x"}),
            (ConfigurationError, {"mode": 0o1000}),
            (TypeError, {"wish": 1}),
        ):
            with self.assertRaises(kind):
                self.stream(1, **options)
        for size in (-1, MAX_SIZE + 1):
            self.assertRaises(ConfigurationError, self.stream, size)
        with self.assertRaises(InvalidName):
            putStream([self.session], b"x" * 100_000, 1, self.disk)
        self.assertEqual(self.factory.opened[0].records, [])

    def test_short(self) -> None:
        """A file that comes shorter than promised is not published."""
        for size in (1, CHUNK, CHUNK + 1, 3 * CHUNK):
            self.setUp()
            stream = self.written(noise(size)[1:], size)
            said = self.failure(stream.done, SourceChanged)
            self.assertEqual(
                said,
                f"'/there' was to have {size} bytes, and only {size - 1} came; nothing was "
                "published. Give the size that it has.",
            )
            self.assertNotThere()

    def test_long(self) -> None:
        """A file that comes longer than promised is not published, also when all has left."""
        for size in (0, 1, CHUNK, CHUNK + 1, 3 * CHUNK):
            for atOnce in (True, False):
                self.setUp()
                stream = self.stream(size)
                if atOnce:
                    stream.write(noise(size + 1))
                else:
                    stream.write(noise(size))
                    self.flush()
                    stream.write(b"x")
                self.assertIn("more came", self.failure(stream.done, SourceChanged))
                stream.write(b"it is dropped")
                stream.unregisterProducer()
                self.flush()
                self.assertEqual(self.records(Commit), [])
                self.assertNotThere()

    def test_endUnknown(self) -> None:
        """A file of which all came is not published before it is said that this was all."""
        for size in (0, 10, 2 * CHUNK):
            self.setUp()
            stream = self.stream(size)
            stream.write(noise(size))
            self.flush()
            self.assertNoResult(stream.done)
            self.assertEqual(self.records(Commit), [])
            stream.unregisterProducer()
            self.flush()
            self.successResultOf(stream.done)

    def test_misused(self) -> None:
        """Two producers are too many, and nothing comes after the end."""
        stream = self.stream(CHUNK + 1)
        first = Puller(lambda: None)
        stream.registerProducer(first, False)  # type: ignore[arg-type]
        with self.assertRaises(RuntimeError):
            stream.registerProducer(Puller(lambda: None), False)  # type: ignore[arg-type]
        stream.write(noise(CHUNK + 1))
        stream.unregisterProducer()
        with self.assertRaises(RuntimeError):
            stream.write(b"x")
        with self.assertRaises(RuntimeError):
            stream.registerProducer(first, False)  # type: ignore[arg-type]
        stream.unregisterProducer()
        self.flush()
        self.successResultOf(stream.done)
        stream.registerProducer(first, False)  # type: ignore[arg-type]
        self.assertEqual(first.stopped, 1)

    def test_cancel(self) -> None:
        """To cancel it stops the producer, and the server hears so."""
        for size in (CHUNK, len(LARGE)):
            self.setUp()
            stream = self.stream(size)
            producer = Puller(lambda: None)
            stream.registerProducer(producer, False)  # type: ignore[arg-type]
            stream.write(LARGE[: size - 1])
            self.flush()
            stream.done.cancel()
            self.failure(stream.done, CancelledError)
            self.flush()
            self.assertEqual(producer.stopped, 1)
            cancels = [] if size == CHUNK else [Cancel(id=1, keep=False)]
            self.assertEqual(self.records(Cancel), cancels)
            self.assertEqual(held(stream), 0)
            self.assertNotThere()

    def test_cancelledMeanwhile(self) -> None:
        """It can be cancelled by what it calls itself."""
        for size in (10, 3 * CHUNK):
            self.setUp()
            stream = self.stream(size)
            told: list[int] = []

            def cancel(count: int, stream: PutStream = stream, told: list[int] = told) -> None:
                told.append(count)
                stream.done.cancel()

            stream._onMoved = cancel
            stream.write(noise(size))
            stream.unregisterProducer()
            self.flush()
            self.failure(stream.done, CancelledError)
            self.assertEqual(len(told), 1)
            self.assertIdle()

    def test_movedFails(self) -> None:
        """What is raised where progress is told is told, and the session goes on."""
        stream = self.stream(3)

        def moved(count: int) -> None:
            raise ValueError

        stream._onMoved = moved
        stream.write(b"abc")
        stream.unregisterProducer()
        self.flush()
        self.failure(stream.done, ValueError)
        self.assertTrue(self.session.isOpen)
        self.assertIdle()

    def test_broken(self) -> None:
        """Who writes can break it off, with why."""
        stream = self.stream(10)
        stream.write(b"abc")
        stream.breakOff(NotFound("It is gone."))
        self.assertEqual(self.failure(stream.done, NotFound), "It is gone.")
        stream.breakOff(ValueError())
        self.assertNotThere()

    def test_refused(self) -> None:
        """What the server says is told at once, though nothing comes, and the producer stops."""
        stream = self.stream(len(LARGE))
        producer = Puller(lambda: None)
        stream.registerProducer(producer, False)  # type: ignore[arg-type]
        stream.write(LARGE[:CHUNK])
        self.flush()
        self.factory.opened[0].fail_(1, LimitExceeded("It is too much."))
        self.flush()
        self.assertEqual(self.failure(stream.done, LimitExceeded), f"{NAME} says: It is too much.")
        self.assertEqual(producer.stopped, 1)
        self.assertNotThere()

    def test_corrupted(self) -> None:
        """A chunk that comes wrong ends it: it is not there any more to be sent again."""
        self.factory.refuses[2] = Corrupted("It came wrong.")
        self.failure(self.pushed(LARGE).done, Corrupted)
        self.assertNotThere()

    def test_otherPublished(self) -> None:
        """A server that says that it has published something else is not believed."""
        self.factory.holdsDone = True
        stream = self.pushed(b"abc")
        self.factory.opened[0].sendRecord(Done(id=1, digest=bytes(32)))
        self.flush()
        self.failure(stream.done, ProtocolError)

    def test_lost(self) -> None:
        """When the session ends so does the stream, whether something is sent or waited for."""
        for count in (0, CHUNK, 2 * CHUNK + 5):
            self.setUp()
            stream = self.stream(len(LARGE))
            producer = Puller(lambda: None)
            stream.registerProducer(producer, False)  # type: ignore[arg-type]
            stream.write(LARGE[:count])
            if count < CHUNK:
                self.flush()
            self.lose()
            error = self.failureResultOf(stream.done, ConnectionFailed).value
            self.assertNotIsInstance(error, Unconfirmed)
            self.assertIn(NAME, str(error))
            self.assertEqual(producer.stopped, 1)
            self.assertEqual(self.factory.files, {})

    def test_lostSmall(self) -> None:
        """A small file goes over another session when the first has ended before it was whole."""
        other = self.connect()
        stream = self.stream(3, self.session, other)
        stream.write(b"abc")
        self.lose()
        stream.unregisterProducer()
        self.flush()
        self.successResultOf(stream.done)
        self.assertEqual(self.served(), b"abc")

    def test_unconfirmed(self) -> None:
        """Who cannot know whether a file was published is told so, and what it would be."""
        for size in (3, CHUNK, len(LARGE)):
            self.setUp()
            data = noise(size)
            self.factory.holdsDone = True
            stream = self.pushed(data)
            self.lose()
            error = self.failureResultOf(stream.done, Unconfirmed).value
            self.assertEqual((error.name, error.sent.digest), (b"/there", fileDigest(data)))
            self.assertIn("Whether '/there' was published is not known", str(error))

    def test_noSession(self) -> None:
        """Where no session is open none is begun."""
        self.lose()
        with self.assertRaises(ConnectionFailed):
            self.stream(1)
        with self.assertRaises(ConnectionFailed):
            self.stream(1, self.session, self.session)

    def test_diskFails(self) -> None:
        """What cannot be digested is not sent."""

        class Failing:
            def run(self, work: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
                return fail(MemoryError())

        self.disk = Failing()
        self.failure(self.pushed(LARGE).done, MemoryError)
        self.assertNotThere()


class PressureTests(StreamCase):
    """Producers that are faster than the connection, and those that are slower."""

    def test_push(self) -> None:
        """A producer pauses while the server takes nothing, and goes on when it does."""
        stream = self.stream(20 * CHUNK)
        data = LARGE[:CHUNK] * 20
        producer = Pusher(stream, data)
        producer.start()
        pair = self.pairs[0]
        self.assertEqual((producer.paused, producer.at), (1, MAX_HELD))
        pair.server.pauseProducing()
        self.flush()
        self.assertLessEqual(producer.at, MAX_HELD)
        self.assertFalse(producer.going)
        pair.server.resumeProducing()
        self.flush()
        self.successResultOf(stream.done)
        self.assertEqual(self.served(), data)
        self.assertLess(producer.most, MAX_HELD + PIECE)
        self.assertGreater(producer.paused, 5)

    def test_slowDisk(self) -> None:
        """So it does while chunks wait to be digested; that happens apart from the reactor."""
        self.disk = Later()
        stream = self.stream(len(LARGE))
        producer = Pusher(stream, LARGE)
        producer.start()
        for pair in self.pairs:
            pair.flush()
        self.assertEqual(self.records(Body), [])
        self.assertEqual((len(self.disk.waiting), producer.going), (1, False))
        self.flush()
        self.successResultOf(stream.done)
        self.assertEqual(self.served(), LARGE)
        self.assertLess(producer.most, MAX_HELD + PIECE)

    def test_pull(self) -> None:
        """One that is asked is not asked while too much waits, and in turns otherwise."""
        stream = self.stream(len(LARGE))
        self.pairs[0].server.pauseProducing()
        source = BytesIO(LARGE)

        def read() -> None:
            stream.write(source.read(1024))
            self.assertLess(stream._held, MAX_HELD + 1024)
            if source.tell() == len(LARGE):
                stream.unregisterProducer()

        producer = Puller(read)
        stream.registerProducer(producer, False)  # type: ignore[arg-type]
        self.assertEqual(producer.asked, ASKED_A_TURN)
        self.flush()
        self.assertEqual(producer.asked, MAX_HELD // 1024)
        self.pairs[0].server.resumeProducing()
        self.flush()
        self.successResultOf(stream.done)
        self.assertEqual(self.served(), LARGE)

    def test_pullLater(self) -> None:
        """One that answers later is asked once for each answer."""
        stream = self.stream(3)
        producer = Puller(lambda: None)
        stream.registerProducer(producer, False)  # type: ignore[arg-type]
        for count in (1, 2, 3):
            self.flush()
            self.assertEqual(producer.asked, count)
            stream.write(b"x")
        stream.unregisterProducer()
        self.flush()
        self.successResultOf(stream.done)
        self.assertEqual(producer.asked, 4)

    def test_pullNothing(self) -> None:
        """One that writes nothing each time makes nobody else wait."""
        stream = self.stream(3)
        producer = Puller(lambda: stream.write(b""))
        stream.registerProducer(producer, False)  # type: ignore[arg-type]
        self.assertEqual(producer.asked, ASKED_A_TURN)
        self.assertEqual(self.due(), 1)
        stream.done.cancel()
        self.failure(stream.done, CancelledError)
        self.assertNotThere()

    def test_producerFails(self) -> None:
        """What a producer raises is told, and nothing is published."""

        def read() -> None:
            raise OSError("It cannot be read.")

        stream = self.stream(CHUNK)
        producer = Puller(read)
        stream.registerProducer(producer, False)  # type: ignore[arg-type]
        self.failure(stream.done, OSError)
        self.assertEqual((producer.asked, producer.stopped), (1, 1))
        self.assertNotThere()

    def test_producerDoesNotStop(self) -> None:
        """One that fails where it has to stop changes nothing, and that is logged."""
        stream = self.stream(CHUNK)
        producer = Puller(lambda: None)
        producer.stopProducing = lambda: 1 / 0  # type: ignore[method-assign, assignment]
        stream.registerProducer(producer, False)  # type: ignore[arg-type]
        stream.done.cancel()
        self.failure(stream.done, CancelledError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertNotThere()

    @given(
        st.lists(st.integers(0, 2 * CHUNK), max_size=6),
        st.integers(0, 1000),
        st.sampled_from([-1, 0, 0, 0, 1]),
        st.integers(0, 40),
    )
    @settings(max_examples=30, deadline=None)
    def test_any(self, cuts: list[int], seed: int, off: int, steps: int) -> None:
        """However it is written, and whatever is slow, it is published as it was written if it was
        as long as promised, and else not at all; cancelling it leaves nothing."""
        self.setUp()
        self.disk = Later(seed)
        data = noise(sum(cuts), seed)
        size = max(0, len(data) + off)
        stream = self.stream(size)
        at = 0
        for cut in cuts:
            stream.write(data[at : at + cut])
            at += cut
            for pair in self.pairs:
                pair.client.step(100_000)
                pair.server.step(100_000)
            self.turn()
        stream.unregisterProducer()
        if steps < 20:
            for _ in range(steps):
                self.turn()
            stream.done.cancel()
        self.flush()
        results: list[Any] = []
        stream.done.addBoth(results.append)
        self.assertEqual(len(results), 1)
        if isinstance(results[0], Sent):
            self.assertEqual(size, len(data))
            self.assertEqual(self.served(), data)
            self.assertIdle()
        elif steps >= 20:
            results[0].trap(SourceChanged)
            self.assertNotEqual(size, len(data))
            self.assertNotThere()
        self.assertEqual(held(stream), 0)


class SourceTests(StreamCase):
    """A stream that is written by L{getStream}."""

    def test_changed(self) -> None:
        """A file that turns out to have changed when all of it was handed on is not published."""

        def get(script: Script, asked: Get) -> None:
            script.sendRecord(Found(id=asked.id, facts=facts(3)))
            script.sendChunk(asked.id, 0, b"abc")
            script.fail_(asked.id, SourceChanged("It has changed."))

        self.patch(self.factory, "_get", get)
        stream = self.stream(3)
        getting = getStream([self.session], b"/from", stream)
        self.flush()
        self.failure(getting, SourceChanged)
        self.failure(stream.done, SourceChanged)
        self.assertNotThere()


class Services:
    """Two services in memory, and a client of both."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.disk = Later()
        self.most = 0
        self.watched: PutStream | None = None
        self.stores = [MemoryStore(1 << 28), MemoryStore(1 << 28)]
        self.factories = [self._factory(store) for store in self.stores]
        self.endpoints = [MemoryEndpoint(each) for each in self.factories]
        opened = [each.open() for each in self.factories]
        self.flush()
        assert all(each.called for each in opened)
        opening = [connectFiles(each, self.clock, name=NAME) for each in self.endpoints]
        self.flush()
        self.sessions: list[Any] = [each.result for each in opening]

    def _factory(self, store: MemoryStore) -> FilesFactory:
        permit = Permit(
            overseen(None, AuditNotes(), "files"), Roots("/r", lambda path: store), writable=True
        )
        return FilesFactory(self.clock, permit, disk=self.disk)

    def flush(self, *numbers: int) -> None:
        """Let all happen that takes no time, at these services only if they are given."""
        moved = True
        while moved:
            moved = False
            for number in numbers or (0, 1):
                for pair in self.endpoints[number].pairs:
                    moved = pair.client.step(PIECE) or moved
                    moved = pair.server.step(PIECE) or moved
                    self._watch()
            moved = self.disk.step() or moved
            if any(each.getTime() <= self.clock.seconds() for each in self.clock.getDelayedCalls()):
                self.clock.advance(0)
                moved = True
            self._watch()

    def _watch(self) -> None:
        if self.watched is not None:
            waiting = sum(
                len(end.outgoing)
                for endpoint in self.endpoints
                for pair in endpoint.pairs
                for end in (pair.client, pair.server)
            )
            self.most = max(self.most, self.watched._held + waiting)

    def stop(self) -> None:
        """Stop both."""
        stopped = [each.abortConnections() for each in self.factories]
        self.flush()
        assert all(each.called for each in stopped)


class ServiceTests(SynchronousTestCase):
    """From one service to another, through a client that keeps nothing."""

    def setUp(self) -> None:
        self.services = Services()
        self.addCleanup(self.services.stop)
        self.source, self.target = self.services.sessions

    def relay(self, data: bytes, size: int | None = None) -> tuple[Deferred[Any], PutStream]:
        write(self.services.stores[0], split(b"/from"), data)
        stream = putStream(
            [self.target], b"/to", len(data) if size is None else size, self.services.disk
        )
        self.services.watched = stream
        return getStream([self.source], b"/from", stream), stream

    def kept(self) -> bytes:
        source = self.services.stores[1].source(split(b"/to"))
        return source.read(0, source.attributes.size)

    def test_relayed(self) -> None:
        """A file that is fetched into a stream is the same at the other service."""
        for data in (b"", b"abc", noise(CHUNK), LARGE, noise(CHUNK) + bytes(9 * CHUNK) + b"x"):
            getting, stream = self.relay(data)
            self.services.flush()
            got, sent = self.successResultOf(getting), self.successResultOf(stream.done)
            self.assertEqual((got.digest, sent.digest), (fileDigest(data), fileDigest(data)))
            self.assertEqual(self.kept(), data)

    def test_pressure(self) -> None:
        """While the other service takes nothing, little is fetched; at no time more than some
        chunks of it are in memory."""
        data = LARGE[: 4 * CHUNK] * 6
        getting, stream = self.relay(data)
        self.services.flush(0)
        self.assertNoResult(getting)
        self.assertFalse(self.services.endpoints[0].pairs[0].client.reading)
        self.assertLessEqual(stream._came, 3 * CHUNK)
        self.services.flush()
        self.successResultOf(getting)
        self.successResultOf(stream.done)
        self.assertEqual(self.kept(), data)
        # What is held, and what is on its way in the transports.
        self.assertLessEqual(self.services.most, 3 * CHUNK + 16 * PIECE)

    def test_targetFails(self) -> None:
        """When the target refuses it, nothing more is fetched."""
        getting, stream = self.relay(LARGE, len(LARGE) - 1)
        self.services.flush()
        self.failureResultOf(getting, ConnectionFailed)
        self.failureResultOf(stream.done, SourceChanged)
        self.assertRaises(NotFound, self.kept)

    def test_silent(self) -> None:
        """A producer that gives nothing for long is told that it has taken too long."""
        stream = putStream([self.target], b"/to", len(LARGE), self.services.disk)
        self.services.flush()
        for _ in range(int(MAX_SILENCE / 10)):
            self.services.clock.advance(10)
            self.services.flush()
        error = self.failureResultOf(stream.done, LimitExceeded).value
        self.assertIn("Nothing of the file has come for 10 minutes", str(error))

    def test_replaced(self) -> None:
        """A file is replaced if it is the one that was meant, and only then."""
        write(self.services.stores[1], split(b"/to"), b"old")
        for replaces, kept in ((bytes(32), b"old"), (digestOf(b"old"), b"new")):
            stream = putStream([self.target], b"/to", 3, self.services.disk, replaces=replaces)
            stream.write(b"new")
            stream.unregisterProducer()
            self.services.flush()
            if kept == b"old":
                self.failureResultOf(stream.done, Conflict)
            else:
                self.successResultOf(stream.done)
            self.assertEqual(self.kept(), kept)
