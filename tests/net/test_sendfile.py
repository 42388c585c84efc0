"""
Parts of files over a socket: whole, in turns, behind what was written before, and to every end.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.net.test_framed_frames import Notes, Takes, announced, framed, written
from twisted_netsuite.errors import ConnectionFailed, SourceChanged
from twisted_netsuite.net import sendfile
from twisted_netsuite.net.frames import STALL_TIMEOUT
from twisted_netsuite.net.sendfile import PIECE, SEND_A_TURN, Part, PartSender, partOf

#: More than a socket takes at once, and no multiple of anything.
SIZE = 1_500_001


class OverSockets(SynchronousTestCase):
    """A session over one end of a real socket pair, whose reactor turns when a test says so."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.connect()
        self.data = os.urandom(SIZE)
        self.path = self.mktemp()
        with open(self.path, "wb") as file:
            file.write(self.data)
        self.descriptor = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, self.descriptor)
        self.sent: list[tuple[int, int]] = []
        self.sendfile = os.sendfile
        self.patch(os, "sendfile", self.noting)

    def connect(self) -> None:
        """Begin a session, whose peer is a socket."""
        ours, self.far = socket.socketpair()
        self.far.setblocking(False)
        self.addCleanup(self.far.close)
        self.addCleanup(ours.close)
        self.notes = Ending(cast(Any, self.reactor))
        self.transport = Connection(ours, cast(Any, self.notes), cast(Any, self.reactor))
        self.transport.connected = 1
        self.transport.startReading()
        self.notes.makeConnection(self.transport)
        self.notes.dataReceived(framed(b"begin"))
        self.got = b""

    def noting(self, out: int, source: int, offset: int, count: int) -> int:
        """Note how much the kernel was asked for, and how much it has sent."""
        sent = self.sendfile(out, source, offset, count)
        self.sent.append((count, sent))
        return sent

    def part(self, offset: int = 0, count: int = SIZE) -> Part:
        """Find a part of the file, which the kernel can send, and nobody else may read."""
        return Part(count, self.neverRead, offset, self.descriptor)

    def neverRead(self, offset: int, count: int) -> bytes:
        """Be read, where that is a fault."""
        raise AssertionError("What the kernel sends is not read.")

    def read(self, offset: int, count: int) -> bytes:
        """Read the file."""
        return os.pread(self.descriptor, count, offset)

    def waits(self) -> bool:
        """Tell whether the transport waits to write."""
        return self.transport in self.reactor.getWriters()

    def turn(self) -> None:
        """Let the reactor find the socket writable, as it is called for."""
        assert self.waits()
        why = self.transport.doWrite()
        if why is not None:
            self.transport.connectionLost(Failure(cast(Exception, why)))

    def take(self) -> None:
        """Let the peer take what there is."""
        while True:
            try:
                data = self.far.recv(1 << 20)
            except BlockingIOError:
                return
            if not data:
                return
            self.got += data

    def settle(self) -> None:
        """Let the reactor and the peer go on until there is nothing to write."""
        for _ in range(10_000):
            self.take()
            # What was gathered in this turn leaves with its end.
            self.reactor.advance(0)
            if not self.waits():
                self.take()
                return
            self.turn()
        raise AssertionError("It does not come to rest.")


class Ending(Notes):
    """Ends with its connection, and counts how often it hears of that."""

    losses = 0

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.losses += 1
        self.reason = reason
        self.stopFrames()


class KernelTests(OverSockets):
    """What the kernel sends."""

    def test_whole(self) -> None:
        """A part of a file arrives as it is, between the frames before and behind it."""
        self.notes.sendFrame(b"before")
        sending = self.notes.sendFrameWithBody(b"head", self.part(17, SIZE - 20))
        self.notes.sendFrame(b"after")
        self.settle()
        self.assertEqual(self.successResultOf(sending), 0)
        body = self.data[17:-3]
        self.assertEqual(self.got, framed(b"before") + framed(b"head") + body + framed(b"after"))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_behindWhatIsBuffered(self) -> None:
        """What the peer has not taken yet stays before the file."""
        self.notes.MAX_LENGTH = SIZE
        self.notes.sendFrame(self.data)
        self.assertTrue(self.waits())
        sending = self.notes.sendFrameWithBody(b"head", self.part())
        self.assertEqual(self.sent, [])
        self.settle()
        self.assertEqual(self.successResultOf(sending), 0)
        self.assertEqual(self.got, framed(self.data) + framed(b"head") + self.data)

    def test_manyInOrder(self) -> None:
        """Parts, bytes and frames that are sent at once leave in their order, each once."""
        wanted = b""
        for number in range(5):
            part, count = self.part(number * 1000, 300_000), 300_000
            self.notes.sendFrameWithBody(b"head", part)
            self.notes.sendFrameWithBody(b"small", b"abc")
            self.notes.sendFrameWithBody(b"large", self.data)
            self.notes.sendFrame(b"frame")
            wanted += framed(b"head") + self.data[number * 1000 :][:count]
            wanted += framed(b"small") + b"abc" + framed(b"large") + self.data + framed(b"frame")
        self.settle()
        self.assertEqual(self.got, wanted)

    def test_oneAfterTheOther(self) -> None:
        """Who sends each part when the one before has left never has more than one turn."""
        left = list(range(20))
        depth = 0

        def following(missing: int) -> None:
            nonlocal depth
            depth += 1
            assert depth == 1, "A part that has left does not end inside the next."
            if left:
                sending = self.notes.sendFrameWithBody(b"%d" % left.pop(0), self.part(0, 1000))
                sending.addCallback(following)
            depth -= 1

        following(0)
        self.settle()
        self.assertEqual(
            self.got, b"".join(framed(b"%d" % n) + self.data[:1000] for n in range(20))
        )

    def test_empty(self) -> None:
        """A part of no bytes is one."""
        sending = self.notes.sendFrameWithBody(b"head", self.part(0, 0))
        self.settle()
        self.assertEqual((self.successResultOf(sending), self.got), (0, framed(b"head")))

    def test_turns(self) -> None:
        """No turn sends more than its share, and none is taken without the reactor."""
        self.notes.sendFrameWithBody(b"head", self.part())
        self.assertEqual(self.sent, [])
        self.settle()
        self.assertLessEqual(max(count for count, _ in self.sent), SEND_A_TURN)
        self.assertEqual(sum(sent for _, sent in self.sent), SIZE)

    def test_notTaken(self) -> None:
        """A peer that takes nothing costs nothing but waiting, and is given up in time."""
        sending = self.notes.sendFrameWithBody(b"head", self.part())
        for _ in range(100):
            self.turn()
        # A reactor would not call a socket that is not writable; one that does gets no harm done.
        self.assertTrue(self.waits())
        left = SIZE - sum(sent for _, sent in self.sent)
        self.assertGreater(left, 0)
        self.reactor.advance(STALL_TIMEOUT - 1)
        self.assertFalse(self.notes.givenUp)
        self.far.recv(1 << 20)
        self.turn()
        self.reactor.advance(STALL_TIMEOUT - 1)
        self.assertFalse(self.notes.givenUp)
        self.reactor.advance(1)
        self.assertTrue(self.notes.givenUp)
        self.failureResultOf(sending, ConnectionFailed)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_goesAway(self) -> None:
        """A peer that goes away is heard of once, as a connection that broke, and ends the part."""
        for begun in (0, 1, 20):
            self.connect()
            sending = self.notes.sendFrameWithBody(b"head", self.part())
            for _ in range(begun):
                self.turn()
            self.far.close()
            for _ in range(5):
                if self.waits():
                    self.turn()
            self.failureResultOf(sending, ConnectionFailed)
            self.assertEqual(self.notes.losses, 1)
            self.assertIsNotNone(self.notes.reason.check(ConnectionLost))
            self.assertFalse(self.waits())
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_reset(self) -> None:
        """A reset is no clean end, whatever would be read after the kernel has told of it."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        self.patch(
            socket,
            "socketpair",
            lambda: (socket.create_connection(listening.getsockname()), listening.accept()[0]),
        )
        self.connect()
        sending = self.notes.sendFrameWithBody(b"head", self.part())
        self.turn()
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.far.close()
        while self.waits():
            self.turn()
        self.failureResultOf(sending, ConnectionFailed)
        self.assertIsNotNone(self.notes.reason.check(ConnectionLost))

    def test_resetInside(self) -> None:
        """Nor is one that the kernel has noticed after it had sent a part, and tells nobody of."""
        sendfile = os.sendfile

        def resetting(out: int, source: int, offset: int, count: int) -> int:
            sent = sendfile(out, source, offset, 1000)
            self.far.close()
            return sent

        self.patch(os, "sendfile", resetting)
        self.patch(Ending, "readsOn", True)
        sending = self.notes.sendFrameWithBody(b"head", self.part())
        self.assertIn(self.transport, self.reactor.getReaders())
        self.turn()
        self.assertNotIn(self.transport, self.reactor.getReaders())
        self.turn()
        self.failureResultOf(sending, ConnectionFailed)
        self.assertIsNotNone(self.notes.reason.check(ConnectionLost))

    def test_shorter(self) -> None:
        """Of a file that has become shorter the rest is zeros, so that what follows is understood;
        who has sent it is told, also when it grows again."""
        for size in (0, 1, 700_000):
            self.connect()
            with open(self.path, "wb") as file:
                file.write(self.data)
            part = Part(SIZE, self.read, 0, self.descriptor)
            sending = self.notes.sendFrameWithBody(b"head", part)
            self.notes.sendFrame(b"after")
            self.turn()
            # What the peer has not taken yet are the pages of the file itself.
            self.take()
            os.truncate(self.path, size)
            first = sum(sent for _, sent in self.sent)
            self.settle()
            missing = self.successResultOf(sending)
            self.assertEqual(missing, SIZE - max(first, size))
            body = self.data[: SIZE - missing] + bytes(missing)
            self.assertEqual(self.got, framed(b"head") + body + framed(b"after"))
            self.sent.clear()

    def test_growsAgain(self) -> None:
        """Once a file was too short, nothing of it is sent that is there later."""
        os.truncate(self.path, 0)
        part = Part(SIZE, self.read, 0, self.descriptor)
        sending = self.notes.sendFrameWithBody(b"head", part)
        self.turn()
        with open(self.path, "wb") as file:
            file.write(self.data)
        self.settle()
        self.assertEqual(self.successResultOf(sending), SIZE)
        self.assertEqual(self.got, framed(b"head") + bytes(SIZE))

    def test_notFromThisFile(self) -> None:
        """A file that the kernel cannot send from, now or ever, is read."""
        for number in (errno.EINVAL, errno.ENOSYS, errno.EIO, errno.ENOMEM, errno.ENOBUFS):
            for after in (0, 2):
                self.connect()
                self.sent.clear()

                def failing(*args: int, number: int = number, after: int = after) -> int:
                    if len(self.sent) < after:
                        return self.noting(*args)
                    raise OSError(number, os.strerror(number))

                self.patch(os, "sendfile", failing)
                asked: list[int] = []

                def read(offset: int, count: int, asked: list[int] = asked) -> bytes:
                    asked.append(count)
                    return self.read(offset, count)

                part = Part(SIZE, read, 0, self.descriptor)
                sending = self.notes.sendFrameWithBody(b"head", part)
                self.notes.sendFrame(b"after")
                while not asked:
                    self.take()
                    self.turn()
                self.assertEqual(asked, [PIECE], "More than the peer takes is read.")
                self.settle()
                self.assertEqual(self.successResultOf(sending), 0)
                self.assertEqual(self.got, framed(b"head") + self.data + framed(b"after"))
                self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """After the stop nothing touches the file, and what is buffered leaves before the end."""
        sending = self.notes.sendFrameWithBody(b"head", self.part())
        self.turn()
        count = len(self.sent)
        self.notes.stopFrames()
        self.failureResultOf(sending, ConnectionFailed)
        self.transport.loseConnection()
        self.settle()
        self.assertEqual((len(self.sent), self.notes.losses), (count, 1))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stoppedThenHalfClosed(self) -> None:
        """A session that ends in the middle of a part still closes one way at a time."""
        self.notes.sendFrameWithBody(b"head", self.part()).addErrback(lambda failure: None)
        self.turn()
        self.notes.stopFrames()
        self.transport.loseWriteConnection()
        self.settle()
        self.assertEqual((self.far.recv(1), self.notes.losses), (b"", 0))

    def test_loseConnection(self) -> None:
        """A connection that is to be closed is closed behind the part, and what was sent then."""
        sending = self.notes.sendFrameWithBody(b"head", self.part())
        self.notes.sendFrame(b"after")
        self.turn()
        self.transport.loseConnection()
        self.settle()
        self.assertEqual(self.successResultOf(sending), 0)
        self.assertEqual(self.got, framed(b"head") + self.data + framed(b"after"))
        self.assertEqual(self.notes.losses, 1)

    def test_abortConnection(self) -> None:
        """A connection that is cut off ends the part at once."""
        sending = self.notes.sendFrameWithBody(b"head", self.part())
        self.turn()
        self.transport.abortConnection()
        self.assertFalse(self.waits())
        self.reactor.advance(0)
        self.failureResultOf(sending, ConnectionFailed)
        self.assertEqual((self.notes.losses, self.reactor.getDelayedCalls()), (1, []))

    def test_lostBefore(self) -> None:
        """Where the connection has gone already nothing is sent, and nobody waits."""
        self.transport.connectionLost(Failure(Exception()))
        sending = self.notes.sendFrameWithBody(b"head", self.part())
        self.failureResultOf(sending, ConnectionFailed)
        ended: list[int] = []
        sender = PartSender(
            cast(Any, self.transport), self.part(), lambda stalled: None, ended.append
        )
        sender.start()
        sender.stop()
        self.assertEqual((ended, self.sent), ([SIZE], []))

    def test_noProducerLeft(self) -> None:
        """Behind a part the session is its transport's producer again: it hears of a full one."""
        sending = self.notes.sendFrameWithBody(b"head", self.part(0, 10))
        self.settle()
        self.successResultOf(sending)
        self.notes.MAX_LENGTH = SIZE
        self.notes.sendFrame(self.data)
        self.assertTrue(self.notes.stalled)
        self.settle()
        self.assertFalse(self.notes.stalled)

    def test_startTLS(self) -> None:
        """Over a socket that has begun TLS, all goes through that."""
        self.transport.TLS = True
        self.assertIsNone(sendfile._plainSocket(cast(Any, self.transport)))
        self.transport.TLS = False
        self.assertIs(sendfile._plainSocket(cast(Any, self.transport)), self.transport)

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(
            st.sampled_from(["frame", "small", "bytes", "part", "read"]), min_size=1, max_size=8
        ),
        st.lists(st.integers(3000, 400_000), min_size=1, max_size=8),
    )
    def test_anyOrder(self, kinds: list[str], cuts: list[int]) -> None:
        """Whatever is sent, and however much the peer takes at a time, comes out as it went in, at
        the other end of such a session, too."""
        self.connect()
        told: list[tuple[str, bytes]] = []
        for number, kind in enumerate(kinds):
            at, count = number * 1000, 200_000 + number
            data = self.data[at : at + count]
            bodies: dict[str, bytes | Part] = {
                "small": b"small",
                "bytes": data,
                "part": self.part(at, count),
                "read": Part(count, self.read, at),
            }
            part = bodies.get(kind)
            if part is None:
                told.append(("frame", b"frame"))
                self.notes.sendFrame(b"frame")
            else:
                data = part if isinstance(part, bytes) else data
                told.append(("raw", data))
                self.notes.sendFrameWithBody(b"raw %d" % len(data), part)
        other = Takes(Clock())
        other.makeConnection(StringTransport())
        for step in range(10_000):
            self.reactor.advance(0)
            if self.waits():
                self.turn()
            try:
                other.dataReceived(self.far.recv(cuts[step % len(cuts)]))
            except BlockingIOError:
                if not self.waits():
                    break
        self.assertEqual((other.told, other.faults), (told, []))
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class ReadingTests(OverSockets):
    """What is read, as over TLS."""

    def reading(self, read: Callable[[int, int], Any], count: int = SIZE) -> Deferred[int]:
        """Send what a function reads."""
        return self.notes.sendFrameWithBody(b"head", Part(count, read))

    def test_whole(self) -> None:
        """All of it arrives, whether it is there at once, soon, or in pieces smaller than asked."""
        for read in (
            self.read,
            lambda offset, count: succeed(self.read(offset, count)),
            lambda offset, count: self.read(offset, min(count, 10_007)),
        ):
            self.connect()
            sending = self.reading(read)
            self.notes.sendFrame(b"after")
            self.settle()
            self.assertEqual(self.successResultOf(sending), 0)
            self.assertEqual(self.got, framed(b"head") + self.data + framed(b"after"))

    def test_later(self) -> None:
        """While a piece is read nothing else is asked for, and the peer has no part in that."""
        asked: list[tuple[Deferred[bytes], int, int]] = []

        def read(offset: int, count: int) -> Deferred[bytes]:
            asked.append((Deferred(), offset, count))
            return asked[-1][0]

        for descriptor in (None, self.descriptor):
            self.connect()
            self.patch(os, "sendfile", lambda *args: 0)
            sending = self.notes.sendFrameWithBody(b"head", Part(SIZE, read, 0, descriptor))
            while not sending.called:
                if self.waits():
                    self.turn()
                self.take()
                if not asked:
                    continue
                self.transport.startWriting()
                self.turn()
                self.reactor.advance(STALL_TIMEOUT * 2)
                self.assertFalse(self.notes.givenUp)
                ((piece, offset, count),) = asked
                asked.clear()
                piece.callback(self.read(offset, count))
            self.settle()
            self.assertEqual(self.got, framed(b"head") + self.data)
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """No more is read than the peer takes, and in pieces of one size."""
        asked: list[int] = []

        def read(offset: int, count: int) -> bytes:
            asked.append(count)
            return self.read(offset, count)

        self.reading(read).addErrback(lambda failure: None)
        self.assertLessEqual(sum(asked), 2 * PIECE)
        self.settle()
        self.assertEqual((sum(asked), max(asked)), (SIZE, PIECE))
        self.notes.stopFrames()

    def test_fails(self) -> None:
        """What cannot be read is zeros; only what nobody has expected is logged."""
        late: Deferred[bytes] = fail(SourceChanged("It is shorter."))
        for failing, logged in (
            (lambda: late, 0),
            (lambda: _raise(OSError(errno.EIO, "broken")), 0),
            (lambda: _raise(ZeroDivisionError()), 1),
            (lambda: b"", 0),
        ):
            self.connect()

            def read(offset: int, count: int, failing: Callable[[], Any] = failing) -> Any:
                return self.read(offset, count) if offset < 2 * PIECE else failing()

            sending = self.reading(read)
            self.notes.sendFrame(b"after")
            self.settle()
            self.assertEqual(self.successResultOf(sending), SIZE - 2 * PIECE)
            body = self.data[: 2 * PIECE] + bytes(SIZE - 2 * PIECE)
            self.assertEqual(self.got, framed(b"head") + body + framed(b"after"))
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), logged)

    def test_tooMuch(self) -> None:
        """Who reads more than was asked for does not make frames of it."""
        sending = self.reading(lambda offset, count: self.data[offset:], 1000)
        self.notes.sendFrame(b"after")
        self.settle()
        self.assertEqual(self.successResultOf(sending), 0)
        self.assertEqual(self.got, framed(b"head") + self.data[:1000] + framed(b"after"))

    def test_stoppedWhileReading(self) -> None:
        """The end of a session waits for what is being read, so that a file may be closed then."""
        for stop in (
            lambda: self.notes.stopFrames(),
            lambda: self.transport.connectionLost(Failure(Exception())),
        ):
            for result in (b"x" * 1000, Failure(OSError(errno.EIO, "broken"))):
                self.connect()
                piece: Deferred[bytes] = Deferred()

                def read(offset: int, count: int, piece: Deferred[bytes] = piece) -> Any:
                    return piece

                sending = self.reading(read)
                stop()
                self.assertNoResult(sending)
                piece.callback(cast(Any, result))
                self.failureResultOf(sending, ConnectionFailed)
                self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_deep(self) -> None:
        """A transport that takes all, and a file that is read at once, make no deep stack."""
        self.notes = Ending(cast(Any, self.reactor))
        transport = StringTransport()
        self.notes.makeConnection(transport)
        data = bytes(400 * PIECE)
        parts = [Part(len(data), lambda offset, count: succeed(data[offset : offset + count]))]
        sendings = [self.notes.sendFrameWithBody(b"head", part) for part in parts * 2]
        self.assertEqual([self.successResultOf(sending) for sending in sendings], [0, 0])
        self.assertEqual(transport.value(), (framed(b"head") + data) * 2)

    def test_deepQueue(self) -> None:
        """Many bodies that wait behind one, and leave at once, make no deep stack either."""
        raw = self.notes.sendRaw(1)
        self.transport.write = lambda data: None  # type: ignore[method-assign]
        body = partOf(bytes(1000))
        sendings = [self.notes.sendFrameWithBody(b"head", body) for _ in range(2000)]
        raw.write(b"x")
        raw.unregisterProducer()
        self.assertEqual([self.successResultOf(sending) for sending in sendings], [0] * 2000)

    @settings(deadline=None, max_examples=300)
    @given(st.lists(st.sampled_from(["read", "pause", "resume", "both", "nested"]), max_size=40))
    def test_pauses(self, steps: list[str]) -> None:
        """However pauses come and go while a piece is read or written, all of it is sent."""
        for descriptor in (None, self.descriptor):
            self.pausing(steps, descriptor)

    def pausing(self, steps: list[str], descriptor: int | None) -> None:
        """Send a part over a transport that pauses as it is told."""
        asked: list[tuple[Deferred[bytes], int, int]] = []
        ended: list[int] = []
        nested: list[str] = []
        data = bytes(range(256)) * 2000

        def pause() -> None:
            if nested:
                nested.pop()
                sender.pauseProducing()
                sender.resumeProducing()

        def read(offset: int, count: int) -> Deferred[bytes]:
            asked.append((Deferred(), offset, count))
            pause()
            return asked[-1][0]

        transport = Pausing()
        transport.onWrite = pause
        part = Part(len(data), read, 0, descriptor)
        sender = PartSender(cast(Any, transport), part, lambda stalled: None, ended.append)
        sender.start()
        paused = False
        for step in [*steps, *["resume", "read"] * 10]:
            if step == "read" and asked:
                ((piece, offset, count),) = asked
                asked.clear()
                piece.callback(data[offset : offset + count])
            elif step == "pause":
                paused = True
                sender.pauseProducing()
            elif step == "resume" and paused:
                paused = False
                sender.resumeProducing()
            elif step == "both":
                sender.pauseProducing()
                if not paused:
                    sender.resumeProducing()
            elif step == "nested" and not paused:
                nested.append(step)
        self.assertEqual((ended, transport.value()), ([0], data))

    def test_halves(self) -> None:
        """What one end sends the other takes, bodies behind their frames."""
        told = [("raw", b"abc"), ("frame", b"x"), ("raw", self.data)]
        for kind, data in told:
            if kind == "raw":
                self.notes.sendFrameWithBody(b"raw %d" % len(data), data)
            else:
                self.notes.sendFrame(data)
        self.settle()
        self.assertEqual(self.got, written(told))
        self.assertTrue(self.got.startswith(announced(b"abc")))


class Pausing(StringTransport):
    """A transport that does something at each write."""

    onWrite: Callable[[], object] = staticmethod(lambda: None)

    def write(self, data: bytes) -> None:
        super().write(data)
        self.onWrite()


def _raise(error: Exception) -> Any:
    raise error
