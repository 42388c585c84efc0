"""The classic get dialect, seen by a client written as the tutorials write it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL.SSL import RECEIVED_SHUTDOWN, SENT_SHUTDOWN
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from tests.files.tree import descriptors, makeTree, write
from tests.rexec.blocking import BlockingSocket, WouldBlock
from tests.trust.overseen import (
    ANNA,
    BOB,
    CARL,
    PLACE,
    HeldNotes,
    Told,
    events,
    overseen,
    policyFrom,
)
from twisted_netsuite.errors import AuditUnavailable
from twisted_netsuite.files.classic import PIECE, ClassicGet, ClassicGetFactory
from twisted_netsuite.files.root import OpenFile, Root
from twisted_netsuite.net import serving
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.net.chunks import MAX_HELD
from twisted_netsuite.testing import BUFFER_SIZE
from twisted_netsuite.trust.decisions import Policy
from twisted_netsuite.trust.identity import ANONYMOUS, Identity
from twisted_netsuite.trust.oversight import Oversight

READY = b"recv_ready"
SMALL = b"a small file\n"
LARGE = bytes(range(256)) * 2000


def get(sock: BlockingSocket, name: bytes, acknowledgement: bytes = READY) -> bytes:
    """Get a file as the tutorial's client does: a size, an acknowledgement, the bytes."""
    sock.send(b"get " + name)
    size = int(sock.recv(1024).decode())
    sock.send(acknowledgement)
    return sock.recvExactly(size)


class ServedCase(SynchronousTestCase):
    """Serves a tree to one client."""

    limits = ConnectionLimits(idleTimeout=60)

    def setUp(self) -> None:
        files = {"small": SMALL, "large": LARGE, "a b/ c  d.txt": SMALL, "empty": b""}
        self.path = makeTree(os.path.abspath(self.mktemp()), files)
        self.root = Root(self.path)
        self.addCleanup(self.root.close)
        self.before = descriptors()
        self.connect()

    def connect(self) -> None:
        self.clock = Clock()
        self.factory = ClassicGetFactory(self.clock, self.root, self.limits)
        self.sock = BlockingSocket(self.factory)

    def within(self, name: str) -> str:
        return os.path.join(self.path, name)

    def refused(self, request: bytes) -> bytes:
        """Send a request, and give the reason of the refusal."""
        self.sock.send(request)
        reply = self.sock.recv(1024)
        self.assertEqual(reply[:5], b"err: ", reply)
        return reply[5:]

    def assertBlocks(self) -> None:
        """There is nothing to read, and the connection is open."""
        self.assertRaises(WouldBlock, self.sock.recv, 1)

    def assertNothingOpen(self) -> None:
        """No file is open."""
        self.assertEqual(descriptors(), self.before)


class GetTests(ServedCase):
    def test_wire(self) -> None:
        """A request is answered with a size, an acknowledgement with the bytes, and no more."""
        self.sock.send(b"get small")
        self.assertEqual(self.sock.recv(1024), b"13")
        self.assertBlocks()
        self.sock.send(READY)
        self.assertEqual(self.sock.recv(1024), SMALL)
        self.assertBlocks()
        self.assertNothingOpen()

    def test_oneAfterAnother(self) -> None:
        """File after file comes over one connection, the largest as the smallest."""
        for _ in range(3):
            self.assertEqual(get(self.sock, b"large"), LARGE)
            self.assertEqual(get(self.sock, b"small"), SMALL)
            self.assertEqual(get(self.sock, b"/a b/ c  d.txt"), SMALL)
        self.assertNothingOpen()

    def test_anyAcknowledgement(self) -> None:
        """Any chunk acknowledges a size, also one that reads like a request."""
        for word in (READY, "准备好接收".encode(), b"get large", b"get ../x", b"\0", b"x" * 60_000):
            self.assertEqual(get(self.sock, b"small", word), SMALL)
            self.assertBlocks()

    def test_empty(self) -> None:
        """An empty file is announced with 0; its acknowledgement is not answered."""
        for _ in range(2):
            self.sock.send(b"get empty")
            self.assertEqual(self.sock.recv(1024), b"0")
            self.sock.send(READY)
            self.assertBlocks()
        self.assertEqual(get(self.sock, b"small"), SMALL)
        self.assertNothingOpen()

    def test_lineEnds(self) -> None:
        """The line end that a person types is no part of the name."""
        for end in (b"\n", b"\r\n"):
            self.assertEqual(get(self.sock, b"small" + end), SMALL)

    def test_sizes(self) -> None:
        """Files around the size of a piece come whole."""
        for size in (1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE):
            write(self.within("f"), b"x" * size)
            self.assertEqual(get(self.sock, b"f"), b"x" * size)

    def test_byteByByte(self) -> None:
        """Sent a byte at a time, the bytes are the same."""
        self.sock = BlockingSocket(self.factory, pieces=1)
        self.assertEqual(get(self.sock, b"small"), SMALL)

    def test_waitingRequests(self) -> None:
        """What comes while a body is sent waits its turn."""
        self.sock.stall()
        self.sock.send(b"get large")
        self.sock.send(READY)
        self.sock.send(b"get small")
        self.sock.send(READY)
        self.sock.goOn()
        self.assertEqual(self.sock.pending, b"512000" + LARGE + b"13" + SMALL)

    def test_manyClients(self) -> None:
        """A stalled client does not hold up another."""
        self.sock.stall()
        self.sock.send(b"get large")
        self.sock.send(READY)
        self.assertEqual(get(BlockingSocket(self.factory), b"large"), LARGE)

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.binary(min_size=1, max_size=30), max_size=10))
    def test_garbage(self, chunks: list[bytes]) -> None:
        """No sequence of chunks ends the service, or leaves a file open."""
        before = descriptors()
        sock = BlockingSocket(self.factory)
        for chunk in chunks:
            sock.send(chunk)
        self.assertIsNone(sock.lost)
        sock.reset()
        self.assertEqual(descriptors(), before)


class RefusalTests(ServedCase):
    def test_reasons(self) -> None:
        """A refusal is C{err: }, a word for programs, and a sentence."""
        for name, reason in (
            (b"missing", b"not-found: there is no such file."),
            (b"../secret", b"invalid-name: a name cannot hold '..'."),
            (b"small\0", b"invalid-name: a name cannot hold a NUL byte."),
            (b"a b", b"denied: only regular files are served, and no links."),
            (b"", b"invalid-name: give the name of a file."),
            (b"\n", b"invalid-name: give the name of a file."),
        ):
            self.connect()
            self.assertEqual(self.refused(b"get " + name), reason)
        self.assertNothingOpen()

    def test_noRequest(self) -> None:
        """A chunk that is no request is answered with what one looks like."""
        for chunk in (b"ls", b"GET small", b"getsmall", b"\xff\xfe\0", b"put x", b"get\tsmall"):
            self.connect()
            self.assertEqual(self.refused(chunk), b"unknown request: send 'get NAME'.")

    def test_noName(self) -> None:
        """C{get} alone asks for a name."""
        for chunk in (b"get", b"get\n", b"get\r\n", b"get "):
            self.connect()
            self.assertEqual(self.refused(chunk), b"invalid-name: give the name of a file.")

    def test_spaceBefore(self) -> None:
        """Of C{get} with something before it no piece is taken for a name."""
        write(self.within("t"), SMALL)
        for chunk in (b"  get", b"\n\nget"):
            self.connect()
            self.assertEqual(self.refused(chunk), b"unknown request: send 'get NAME'.")

    def test_acknowledgedRefusal(self) -> None:
        """The acknowledgement of a refusal is swallowed, and the next request works."""
        self.refused(b"get missing")
        self.sock.send(READY)
        self.assertBlocks()
        self.assertEqual(get(self.sock, b"small"), SMALL)

    def test_refusalWithoutAcknowledgement(self) -> None:
        """A client that does not acknowledge a refusal can go on at once."""
        self.refused(b"get missing")
        self.assertEqual(get(self.sock, b"small"), SMALL)

    def test_swallowedOnce(self) -> None:
        """Only one chunk behind a refusal is swallowed; the next is answered."""
        self.refused(b"get missing")
        self.sock.send(READY)
        self.assertBlocks()
        self.assertEqual(self.refused(READY), b"unknown request: send 'get NAME'.")

    def test_refusalsInARow(self) -> None:
        """Each of several wrong requests in a row is answered."""
        for _ in range(3):
            self.assertEqual(self.refused(b"get missing"), b"not-found: there is no such file.")


class ChangedFileTests(ServedCase):
    def test_shrinks(self) -> None:
        """A file that shrinks while it is sent ends the connection abruptly: it is not whole."""
        self.sock.stall()
        self.sock.send(b"get large")
        self.sock.send(READY)
        os.truncate(self.within("large"), PIECE + 5)
        self.sock.goOn()
        lost = self.sock.lost
        assert lost is not None
        self.assertIsInstance(lost.value, ConnectionLost)
        self.assertEqual(self.sock.pending, (b"512000" + LARGE)[: PIECE + 5 + 6])
        self.assertNothingOpen()

    def test_emptied(self) -> None:
        """A file that is emptied before the acknowledgement ends the connection abruptly."""
        self.sock.send(b"get large")
        os.truncate(self.within("large"), 0)
        self.sock.send(READY)
        self.assertEqual(self.sock.pending, b"512000")
        self.assertIsNotNone(self.sock.lost)
        self.assertNothingOpen()

    def test_grows(self) -> None:
        """Of a file that has grown since, just the announced bytes are sent."""
        for name, content in ((b"small", SMALL), (b"large", LARGE), (b"empty", b"")):
            self.sock.send(b"get " + name)
            self.assertEqual(int(self.sock.recv(1024)), len(content))
            with open(self.within(name.decode()), "ab") as file:
                file.write(b"more" * 100)
            self.sock.send(READY)
            self.assertEqual(self.sock.pending, content)
            if content:
                self.sock.recvExactly(len(content))
            self.assertBlocks()

    def test_replaced(self) -> None:
        """A file that is replaced or removed after its size was sent is sent as it was."""
        self.sock.send(b"get large")
        self.assertEqual(self.sock.recv(1024), b"512000")
        os.unlink(self.within("large"))
        self.sock.send(READY)
        self.assertEqual(self.sock.recvExactly(len(LARGE)), LARGE)

    def test_unreadable(self) -> None:
        """A disk that fails in the middle ends the connection abruptly, with the file closed."""

        def fail(file: OpenFile, offset: int, count: int) -> bytes:
            raise OSError(5, "Input/output error")

        self.sock.send(b"get small")
        self.patch(OpenFile, "read", fail)
        self.sock.send(READY)
        self.assertIsNotNone(self.sock.lost)
        self.assertEqual(self.sock.pending, b"13")
        self.assertNothingOpen()


class GoodbyeTests(ServedCase):
    """Over TLS, with a handle that says what the test says."""

    def connect(self) -> None:
        super().connect()
        self.goodbye = 0
        server: Any = self.sock.pair.server
        server.getHandle = lambda: mock.Mock(get_shutdown=lambda: self.goodbye)
        alsoProvides(server, ISSLTransport)

    def test_inABody(self) -> None:
        """A body ends with its client: TLS would take all the rest, and lose it."""
        self.sock.stall()
        self.sock.send(b"get large")
        self.sock.send(READY)
        self.goodbye = RECEIVED_SHUTDOWN
        with capturedLogs() as events:
            self.sock.goOn()
        self.assertIsNotNone(self.sock.pair.server.lost)
        self.assertLess(len(self.sock.pending), len(LARGE))
        (text,) = map(formatEvent, events)
        self.assertIn("broken off, the client has closed", text)
        self.assertNothingOpen()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ours(self) -> None:
        """Without the client's goodbye a body comes whole over TLS, too."""
        self.goodbye = SENT_SHUTDOWN
        self.assertEqual(get(self.sock, b"large"), LARGE)
        self.assertEqual(get(self.sock, b"small"), SMALL)


class ClosingTests(ServedCase):
    def test_everyState(self) -> None:
        """A client that is gone leaves no file open, whatever it was about."""
        requests: dict[str, list[bytes]] = {
            "idle": [],
            "announced": [b"get large"],
            "sending": [b"get large", READY],
            "waiting": [b"get large", READY, b"get small", READY],
            "refused": [b"get missing"],
            "again": [b"get small", READY],
        }
        for state, chunks in requests.items():
            self.connect()
            self.sock.stall()
            for chunk in chunks:
                self.sock.send(chunk)
            self.sock.reset()
            self.assertEqual(self.factory.connections, set(), state)
            self.assertNothingOpen()
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_halfClose(self) -> None:
        """A client that closes its side while nothing is sent is closed, and its file too."""
        for chunks in ([], [b"get large"], [b"get missing"], [b"get small", READY]):
            self.connect()
            for chunk in chunks:
                self.sock.send(chunk)
            self.sock.endWriting()
            lost = self.sock.lost
            assert lost is not None
            self.assertIsInstance(lost.value, ConnectionDone)
            self.assertNothingOpen()
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_halfCloseInABody(self) -> None:
        """A client that closes its side in the middle of a body still gets the whole body."""
        self.sock.send(b"get large")
        self.assertEqual(self.sock.recv(1024), b"512000")
        self.sock.stall()
        self.sock.send(READY)
        self.sock.endWriting()
        self.clock.advance(59)
        self.assertIsNone(self.sock.lost)
        self.sock.goOn()
        self.assertEqual(self.sock.recvExactly(len(LARGE)), LARGE)
        self.assertEqual(self.sock.recv(1), b"")
        self.assertNothingOpen()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_halfCloseBehindRequests(self) -> None:
        """What a client has asked for before it closes its side is served, however much it is."""
        self.sock.send(b"get large")
        self.sock.stall()
        for chunk in (READY, b"get small", READY):
            self.sock.send(chunk)
        self.sock.endWriting()
        self.sock.goOn()
        size = b"%d" % len(SMALL)
        expected = b"512000" + LARGE + size + SMALL
        self.assertEqual(self.sock.recvExactly(len(expected)), expected)
        self.assertEqual(self.sock.recv(1), b"")
        self.assertNothingOpen()

    def test_abortConnections(self) -> None:
        """The end of a factory closes every connection and every file."""
        self.sock.stall()
        self.sock.send(b"get large")
        self.sock.send(READY)
        ended = self.factory.abortConnections()
        self.sock.pair.flush()
        self.successResultOf(ended)
        self.assertNothingOpen()


class LimitTests(ServedCase):
    def test_stalledReader(self) -> None:
        """For a client that does not read, no more than a piece and a buffer is held."""
        self.sock.stall()
        self.sock.send(b"get large")
        self.sock.send(READY)
        self.assertLessEqual(len(self.sock.pair.server.outgoing), PIECE + BUFFER_SIZE)
        self.sock.goOn()
        self.assertEqual(self.sock.pending, b"512000" + LARGE)

    def test_stalledReaderIsCutOff(self) -> None:
        """A client that stalls in the middle of a body is cut off after the idle timeout."""
        self.sock.stall()
        self.sock.send(b"get large")
        self.sock.send(READY)
        self.clock.advance(59)
        self.sock.pair.flush()
        self.assertEqual(len(self.factory.connections), 1)
        self.clock.advance(1)
        self.sock.pair.flush()
        self.assertEqual(self.factory.connections, set())
        self.assertNothingOpen()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slowReader(self) -> None:
        """A client that takes a little at a time is not idle."""
        self.sock.stall()
        self.sock.send(b"get large")
        self.sock.send(READY)
        for _ in range(10):
            self.clock.advance(50)
            self.sock.pair.client.resumeProducing()
            for _ in range(4):
                self.sock.pair.server.step(BUFFER_SIZE)
            self.sock.stall()
        self.assertEqual(self.sock.pending, b"512000" + LARGE)

    def test_idle(self) -> None:
        """A client that asks for nothing, or acknowledges nothing, is cut off."""
        for chunks in ([], [b"get small"], [b"get missing"]):
            self.connect()
            for chunk in chunks:
                self.sock.send(chunk)
            self.clock.advance(59)
            self.assertIsNone(self.sock.lost)
            self.clock.advance(1)
            self.assertIsNotNone(self.sock.lost)
            self.assertNothingOpen()

    def test_connections(self) -> None:
        """One connection more than allowed is turned away."""
        factory = ClassicGetFactory(self.clock, self.root, ConnectionLimits(maxConnections=1))
        sock = BlockingSocket(factory)
        self.assertIsNotNone(BlockingSocket(factory).lost)
        sock.reset()
        self.assertIsNone(BlockingSocket(factory).lost)

    def test_log(self) -> None:
        """A request of any length is told of in a short line, served or refused."""
        for request, said in (
            (b"get small", "gets b'small', 13 bytes"),
            (b"x" * 65536, "' and 65024 bytes more: unknown request"),
            (b"get " + b"\xff" * 65532, "' and 65024 bytes more: "),
            (b"get " + b"/" * 2000 + b"small", "' and 1493 bytes more, 13 bytes"),
        ):
            self.connect()
            with capturedLogs() as events:
                self.sock.send(request)
            (text,) = map(formatEvent, events)
            self.assertIn(said, text)
            self.assertLess(len(text), 512 * 4 + 200)
            self.sock.reset()

    def test_readsNothing(self) -> None:
        """Refusals to a client that reads none stay few, and go on once it reads."""
        get(self.sock, b"small")
        client, server = self.sock.pair.client, self.sock.pair.server
        client.pauseProducing()
        client.write(b"x" * 20_000)
        for _ in range(10):
            self.sock.pair.flush(1)
            self.clock.advance(0)
        self.assertLess(len(server.outgoing), BUFFER_SIZE + 100)
        self.assertGreater(len(client.outgoing), 10_000)
        client.resumeProducing()
        while client.outgoing:
            self.sock.pair.flush(100)
            self.clock.advance(0)
        self.sock.recv(len(self.sock.pending))
        self.assertEqual(get(self.sock, b"small")[-len(SMALL) :], SMALL)

    def test_hostileTree(self) -> None:
        """A thousand refusals of every sort on one connection leave no descriptor."""
        os.mkfifo(self.within("fifo"))
        os.symlink("../secret", self.within("link"))
        names = [b"fifo", b"link", b"link/x", b"a b", b"..", b"", b"n" * 256, b"small/x", b"\0"]
        for turn in range(1000):
            self.refused(b"get " + names[turn % len(names)])
        self.assertNothingOpen()
        self.assertEqual(get(self.sock, b"small"), SMALL)


POLICY = """
[identities]
"cert:anna" = ["reader"]
"unix:bob" = ["own"]
anonymous = ["guest"]
[[roles.reader.files]]
paths = ["/private/**"]
deny = true
[[roles.reader.files]]
paths = ["/**"]
durable = true
[[roles.own.files]]
root = "ROOT"
[[roles.guest.files]]
paths = ["/small"]
"""


class OverseenCase(ServedCase):
    """Serves a tree to somebody whom a test names, with something standing over it."""

    who = ANNA
    policy: str | None = POLICY

    def setUp(self) -> None:
        self.notes = HeldNotes()
        self.notes.holding = False
        self.patch(serving, "identityOf", lambda _: self.who)
        own = {"small": b"another small file", "private/x": b"bob's own"}
        self.own = makeTree(os.path.abspath(self.mktemp()), own)
        super().setUp()
        os.mkdir(self.within("private"))
        write(self.within("private/x"), b"private")

    def connect(self) -> None:
        self.clock = Clock()
        text = self.policy and self.policy.replace("ROOT", self.own)
        self.factory = ClassicGetFactory(
            self.clock, self.root, self.limits, overseen(text, self.notes, "files")
        )
        self.sock = BlockingSocket(self.factory)

    def connectAs(self, who: Identity) -> None:
        """Connect as somebody."""
        self.who = who
        self.connect()

    def denial(self, who: Identity) -> bytes:
        """What somebody is told who is denied a file."""
        return f"denied: the policy of this service does not allow it to {who}.".encode()


class PolicyTests(OverseenCase):
    """Who may read what."""

    def test_rules(self) -> None:
        """Each gets what the rules say, by certificate, by Unix account or as nobody; the others
        get nothing."""
        for who, name, content in (
            (ANNA, b"small", SMALL),
            (ANNA, b"a b/ c  d.txt", SMALL),
            (ANNA, b"private/x", None),
            (BOB, b"small", b"another small file"),
            (BOB, b"private/x", b"bob's own"),
            (ANONYMOUS, b"small", SMALL),
            (ANONYMOUS, b"large", None),
            (CARL, b"small", None),
            (Identity("token", "anna"), b"small", None),
        ):
            self.connectAs(who)
            for _ in range(2):
                if content is None:
                    self.assertEqual(self.refused(b"get " + name), self.denial(who))
                else:
                    self.assertEqual(get(self.sock, name), content)
            self.sock.reset()
        self.assertNothingOpen()

    def test_nothingToLearn(self) -> None:
        """A name that is denied is denied in the same words, whether there is such a file or
        not."""
        for name in (b"large", b"missing", b"private/x", b"../secret", b"a b", b"small\0", b""):
            self.connectAs(ANONYMOUS)
            self.assertEqual(self.refused(b"get " + name), self.denial(ANONYMOUS))

    def test_refusals(self) -> None:
        """What the policy allows is refused as without one."""
        for name in (b"missing", b"a b"):
            self.connect()
            answer = self.refused(b"get " + name)
            self.policy = None
            self.connect()
            self.assertEqual(self.refused(b"get " + name), answer)
            self.policy = POLICY

    def test_writtenOtherwise(self) -> None:
        """However a name is written, the policy is asked about just the file that it names."""
        for name in (b"small", b"/small", b"//small", b"./small", b"/.//./small/", b"small/."):
            self.connectAs(ANONYMOUS)
            self.assertEqual(get(self.sock, name), SMALL, name)
        for name in (
            *(b"private/x", b"/private/x", b"//private//x", b"./private/./x", b"/.//private/x/"),
            *(b"a b/../private/x", b"private/../private/x", b"private/x\0", b"../root/private/x"),
        ):
            self.connectAs(ANNA)
            self.assertEqual(self.refused(b"get " + name), self.denial(ANNA), name)

    def test_notDecoded(self) -> None:
        """Nothing in a name is an escape, neither to the policy nor to the disk."""
        for name in (b"%2e%2e/secret", b"privat%65/x", b"private%2fx", b"\\private\\x"):
            self.connect()
            self.assertEqual(self.refused(b"get " + name), b"not-found: there is no such file.")
        for name in (b"%2e", b"private%2fx", b"\xff\xfe", b"priv\xc1\xa1te"):
            os.makedirs(os.path.dirname(os.fsencode(self.path) + b"/" + name), exist_ok=True)
            with open(os.fsencode(self.path) + b"/" + name, "wb") as file:
                file.write(name)
            self.connect()
            self.assertEqual(get(self.sock, name), name)

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(
            st.sampled_from(
                [b"private", b"x", b"small", b"a b", b"", b".", b"..", b"%2e%2e", b"\xff", b"x\0"]
            ),
            max_size=6,
        )
    )
    def test_sameFile(self, parts: list[bytes]) -> None:
        """No name gets a file that a rule denies, or another than the one that is allowed."""
        name = b"/".join(parts)
        for who in (ANNA, ANONYMOUS):
            self.connectAs(who)
            self.sock.send(b"get " + name)
            if self.sock.recv(1024).isdigit():
                self.sock.send(READY)
                content = self.sock.pending
                self.assertNotEqual(content, b"private", name)
                if who is ANONYMOUS:
                    self.assertEqual(content, SMALL, name)
            self.sock.reset()

    def test_log(self) -> None:
        """The log tells the whole reason of a denial, with the rule's file and line, on one line;
        the peer is told neither."""
        with capturedLogs() as told:
            self.sock.send(b"get private/x")
        self.assertEqual(
            list(map(formatEvent, told)),
            [
                "127.0.0.1:50000 (cert:anna): refused b'get private/x': denied: cert:anna may not "
                f"read '/private/x': {PLACE}:6 denies it."
            ],
        )
        self.assertNotIn(b"policy.toml", self.sock.pending)

    def test_records(self) -> None:
        """Each request is recorded once, with what decides it; an acknowledgement is none."""
        get(self.sock, b"small")
        self.refused(b"get private/x")
        self.sock.send(READY)
        self.sock.send(READY)
        read, denied = self.notes.records
        self.assertEqual(
            (read["event"], read["path"], read["rule"], read["durable"]),
            ("files.read", b"/small", f"{PLACE}:9", True),
        )
        self.assertEqual((denied["event"], denied["path"]), ("files.read.denied", b"/private/x"))
        self.assertEqual(denied["rule"], f"{PLACE}:6")

    def test_auditAlone(self) -> None:
        """Without a policy an audit log records what is read, and changes no byte."""
        self.policy = None
        self.connectAs(ANONYMOUS)
        self.assertEqual(get(self.sock, b"private/x"), b"private")
        self.assertEqual(self.refused(b"get x"), b"not-found: there is no such file.")
        self.assertEqual(events(self.notes), ["files.read"] * 2)

    def test_another(self) -> None:
        """Another policy holds from the next request on; a file that is being sent comes whole."""
        source = Told(policyFrom(POLICY.replace("ROOT", self.own)))
        self.factory = ClassicGetFactory(
            self.clock, self.root, self.limits, Oversight("files", source, self.notes)
        )
        self.sock = BlockingSocket(self.factory)
        self.sock.send(b"get small")
        source.policy = policyFrom("")
        self.assertEqual(self.sock.recv(100), b"13")
        self.sock.send(READY)
        self.assertEqual(self.sock.recv(100), SMALL)
        self.assertEqual(self.refused(b"get small"), self.denial(ANNA))


class RuleRootTests(OverseenCase):
    """A rule with a root of its own."""

    who = BOB

    def test_confined(self) -> None:
        """Its root confines as the service's does, and leaves no descriptor."""
        os.symlink("../secret", os.path.join(self.own, "link"))
        for name, answer in (
            (b"link", b"denied: only regular files are served, and no links."),
            (b"missing", b"not-found: there is no such file."),
            (b"private", b"denied: only regular files are served, and no links."),
        ):
            self.assertEqual(self.refused(b"get " + name), answer)
        for _ in range(100):
            self.assertEqual(get(self.sock, b"small"), b"another small file")
        self.assertNothingOpen()

    def test_missing(self) -> None:
        """A root that cannot be opened is a refusal that names no path of the server, and one line
        in the log with the rule and the path; once it is there, it is served."""
        own = self.own
        os.rename(own, own + ".away")
        with capturedLogs() as told:
            answer = self.refused(b"get small")
        self.assertEqual(answer, b"denied: the file cannot be opened; the server's log says why.")
        (line,) = map(formatEvent, told)
        self.assertIn(f"{PLACE}:12: The root {own!r} cannot be opened: no such file", line)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertNothingOpen()
        os.rename(own + ".away", own)
        self.assertEqual(get(self.sock, b"small"), b"another small file")

    def test_noDirectory(self) -> None:
        """Nor does a root that is a file lead anywhere."""
        self.own = self.within("small")
        self.connect()
        with capturedLogs():
            self.assertIn(b"the server's log says why", self.refused(b"get small"))
        self.assertNothingOpen()


class WaitingTests(OverseenCase):
    """While the audit log waits for its disk."""

    def setUp(self) -> None:
        super().setUp()
        self.notes.holding = True

    def test_nothingOpens(self) -> None:
        """No file is opened before the record is written; then it is sent."""
        opened = mock.Mock(wraps=self.root.open)
        self.patch(self.root, "open", opened)
        self.sock.send(b"get small")
        self.assertEqual(events(self.notes), ["files.read"])
        self.assertBlocks()
        self.assertNothingOpen()
        opened.assert_not_called()
        self.notes.let()
        self.assertEqual(self.sock.recv(100), b"13")
        self.sock.send(READY)
        self.assertEqual(self.sock.recv(100), SMALL)
        opened.assert_called_once_with(b"small")

    def test_clientLeaves(self) -> None:
        """For a client that leaves meanwhile nothing is opened, and nothing is left of it."""
        opened = mock.Mock(wraps=self.root.open)
        self.patch(self.root, "open", opened)
        for chunks in ([b"get small"], [b"get small", READY, b"get large"]):
            self.notes.holding = True
            self.connect()
            for chunk in chunks:
                self.sock.send(chunk)
            self.sock.reset()
            with capturedLogs() as told:
                self.notes.let()
            self.assertEqual(list(told), [])
            opened.assert_not_called()
            self.assertNothingOpen()
            self.assertEqual(self.factory.connections, set())
            self.assertEqual(len(self.factory.admission), 0)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refusedWhenGone(self) -> None:
        """A refusal for a client that has left meanwhile is told to nobody."""
        self.sock.send(b"get small")
        self.sock.reset()
        with capturedLogs() as told:
            self.notes.giveUp(AuditUnavailable("full"))
        self.assertEqual(list(told), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_halfClose(self) -> None:
        """A client that ends its side meanwhile still gets its answer, be it a size or a refusal;
        then the connection closes."""
        for name, answer in ((b"small", b"13"), (b"x", b"err: not-found: there is no such file.")):
            self.notes.holding = True
            self.connect()
            self.sock.send(b"get " + name)
            self.sock.endWriting()
            self.assertIsNone(self.sock.lost)
            self.notes.let()
            self.assertEqual(self.sock.recv(100), answer)
            self.assertEqual(self.sock.recv(1), b"")
            lost = self.sock.lost
            assert lost is not None
            self.assertIsInstance(lost.value, ConnectionDone)
            self.assertNothingOpen()
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_halfCloseBehindRequests(self) -> None:
        """All that a client has asked for before it ended its side is served, in order, though
        each request waits for its own record."""
        chunks = [b"get small", READY, b"get x", b"get large", READY, b"get small", READY]
        for chunk in chunks:
            self.sock.send(chunk)
        self.sock.endWriting()
        while self.notes.waiting:
            self.notes.waiting.pop(0).callback(None)
            self.sock.pair.flush()
        self.assertEqual(
            self.sock.pending,
            b"13" + SMALL + b"err: not-found: there is no such file.512000" + LARGE + b"13" + SMALL,
        )
        self.assertIsNotNone(self.sock.lost)
        self.assertEqual(len(self.notes.records), 4)
        self.assertNothingOpen()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_halfCloseBehindMany(self) -> None:
        """So it is when there are more of them than are served in one turn, and when the client
        reads late."""
        for stalled in (False, True):
            self.notes.holding = True
            self.connect()
            for _ in range(100):
                self.sock.send(b"get x")
            self.sock.endWriting()
            if stalled:
                self.sock.stall()
            self.notes.let()
            for _ in range(20):
                self.clock.advance(0)
                self.sock.pair.flush()
            self.sock.goOn()
            answer = b"err: not-found: there is no such file."
            self.assertEqual(self.sock.pending, answer * 100)
            self.assertIsNotNone(self.sock.lost)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_order(self) -> None:
        """Chunks that come meanwhile wait in order: an acknowledgement stays one."""
        for chunk in (b"get small", b"get large", b"get empty", READY, b"get x"):
            self.sock.send(chunk)
        self.notes.let()
        self.assertEqual(
            self.sock.pending,
            b"13" + SMALL + b"0" + b"err: not-found: there is no such file.",
        )
        self.assertEqual(
            [record["path"] for record in self.notes.records], [b"/small", b"/empty", b"/x"]
        )

    def test_bounded(self) -> None:
        """What comes meanwhile is held up to a bound; then the client is not read."""
        self.sock.send(b"get small")
        client, server = self.sock.pair.client, self.sock.pair.server
        client.write(b"x" * 1_000_000)
        self.sock.pair.flush(1000)
        self.assertFalse(server.reading)
        self.assertGreater(len(client.outgoing), 1_000_000 - MAX_HELD - 2000)

    def test_idle(self) -> None:
        """A disk that never answers does not hold a client for ever, nor anything of it."""
        self.sock.send(b"get small")
        with capturedLogs():
            self.clock.advance(60)
            self.assertIsNotNone(self.sock.lost)
        self.notes.let()
        self.assertNothingOpen()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """A service that stops opens nothing any more."""
        self.sock.send(b"get small")
        ended = self.factory.abortConnections()
        self.sock.pair.flush()
        self.successResultOf(ended)
        self.notes.let()
        self.assertNothingOpen()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unavailable(self) -> None:
        """What cannot be recorded is refused, with one line in the log; when it can be again, the
        next request is served."""
        sentence = "The audit log cannot be written: no space left on device."
        for now in (False, True):
            self.connect()
            with capturedLogs() as told:
                self.notes.failure = AuditUnavailable(sentence) if now else None
                self.sock.send(b"get small")
                self.notes.giveUp(AuditUnavailable(sentence))
            answer = f"audit-unavailable: {sentence}"
            self.assertEqual(self.sock.recv(100), f"err: {answer}".encode())
            self.assertEqual(
                list(map(formatEvent, told)),
                [f"127.0.0.1:50000 (cert:anna): refused b'get small': {answer}"],
            )
            self.assertNothingOpen()
        self.notes.holding, self.notes.failure = False, None
        self.assertEqual(get(self.sock, b"small"), SMALL)

    def test_deniedAndUnavailable(self) -> None:
        """A denial that cannot be recorded is still one, and is told as one."""
        self.sock.send(b"get private/x")
        self.assertBlocks()
        self.notes.giveUp(AuditUnavailable("full"))
        self.assertEqual(self.sock.recv(100), b"err: " + self.denial(ANNA))


class FaultTests(OverseenCase):
    """What nobody has expected."""

    def broken(self, act: Callable[[], object]) -> None:
        """One traceback is logged, the connection closes, and nothing is left."""
        with capturedLogs() as told:
            act()
            self.assertIsNotNone(self.sock.lost)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        (fault,) = [event for event in told if event["log_level"] >= LogLevel.error]
        self.assertIn("a fault of the service", formatEvent(fault))
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertNothingOpen()

    def test_faults(self) -> None:
        """A fault while permission is asked for, or while a file is opened, ends the
        connection."""
        failing = mock.Mock(side_effect=ZeroDivisionError)
        for target, name in (
            (self.notes, "record"),
            (Policy, "files"),
            (self.root, "open"),
            (ClassicGet, "_take"),
        ):
            self.connect()
            patched = self.patch(target, name, failing)
            self.broken(lambda: self.sock.send(b"get small"))
            patched.restore()

    def test_later(self) -> None:
        """So does one that comes after a while."""
        self.notes.holding = True
        self.sock.send(b"get small")
        self.broken(lambda: self.notes.giveUp(ZeroDivisionError()))
