"""The client of the classic get dialect, against our server and against worse ones."""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.files.tree import makeTree
from tests.rexec.blocking import scripted
from twisted_netsuite.errors import (
    ConnectionFailed,
    Denied,
    InvalidName,
    NetsuiteError,
    NotFound,
    ProtocolError,
    TimedOut,
)
from twisted_netsuite.files.classic import ClassicGetFactory
from twisted_netsuite.files.classicclient import ClassicFiles, connectClassic
from twisted_netsuite.files.root import Root
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.testing import BUFFER_SIZE, MemoryEndpoint

LARGE = bytes(range(256)) * 4000


class ClientCase(SynchronousTestCase):
    """Connects a session to a server in memory."""

    def setUp(self) -> None:
        self.clock = Clock()

    def connect(self, server: IProtocolFactory) -> ClassicFiles:
        self.endpoint = MemoryEndpoint(server)
        connecting = connectClassic(self.endpoint, self.clock, name="there:7021", timeout=5.0)
        return self.successResultOf(Deferred.fromCoroutine(connecting))

    def ask(self, session: ClassicFiles, name: str) -> tuple[Deferred[int], list[bytes]]:
        """Ask for a file, and give its size to be and its pieces so far."""
        pieces: list[bytes] = []
        asked = Deferred.fromCoroutine(session.get(name, pieces.append))
        self.endpoint.flush()
        return asked, pieces

    def pump(self, size: int = BUFFER_SIZE) -> None:
        """Let the two talk, and let a little time pass, until nothing happens any more."""
        for _ in range(8):
            self.endpoint.flush(size)
            self.clock.advance(0.1)

    def get(self, session: ClassicFiles, name: str, size: int = BUFFER_SIZE) -> bytes:
        """Get a whole file."""
        asked, pieces = self.ask(session, name)
        self.pump(size)
        content = b"".join(pieces)
        self.assertEqual(self.successResultOf(asked), len(content))
        return content

    def fails(self, asked: Deferred[int], error: type[NetsuiteError]) -> str:
        """Expect a failure, and give its sentence."""
        self.pump()
        failure = self.failureResultOf(asked, error).value
        assert isinstance(failure, error)
        return failure.sentence


class ServedTests(ClientCase):
    def setUp(self) -> None:
        super().setUp()
        files = {"small": b"a small file", "large": LARGE, "a b/ü c": b"spaced", "empty": b""}
        self.path = makeTree(os.path.abspath(self.mktemp()), files)
        root = Root(self.path)
        self.addCleanup(root.close)
        self.session = self.connect(ClassicGetFactory(self.clock, root))

    def test_files(self) -> None:
        """File after file arrives whole, whatever its size and its name."""
        self.assertEqual(self.get(self.session, "small"), b"a small file")
        self.assertEqual(self.get(self.session, "/large"), LARGE)
        self.assertEqual(self.get(self.session, "a b/ü c"), b"spaced")
        self.assertEqual(self.get(self.session, "empty"), b"")

    def test_byteByByte(self) -> None:
        """Received a byte at a time, a file is the same."""
        self.assertEqual(self.get(self.session, "small", size=1), b"a small file")

    def test_afterAnEmptyFile(self) -> None:
        """The request behind an empty file is not taken for a part of its acknowledgement."""
        pieces: list[bytes] = []

        async def both() -> int:
            await self.session.get("empty", pieces.append)
            return await self.session.get("small", pieces.append)

        asked = Deferred.fromCoroutine(both())
        self.pump()
        self.assertEqual(self.successResultOf(asked), 12)
        self.assertEqual(b"".join(pieces), b"a small file")

    def test_nameOfAnyBytes(self) -> None:
        """A name whose bytes are no UTF-8 is asked for byte for byte."""
        with open(os.path.join(os.fsencode(self.path), b"\xff"), "wb") as file:
            file.write(b"odd")
        self.assertEqual(self.get(self.session, b"\xff".decode("utf-8", "surrogateescape")), b"odd")

    def test_refusals(self) -> None:
        """A refusal is the error that the server means, names the file, and ends nothing."""
        os.symlink("small", os.path.join(self.path, "link"))
        for name, error, words in (
            ("missing", NotFound, "no such file"),
            ("../secret", InvalidName, "'..'"),
            ("link", Denied, "no links"),
        ):
            asked, pieces = self.ask(self.session, name)
            sentence = self.fails(asked, error)
            self.assertIn(f"refused {name!r}", sentence)
            self.assertIn(words, sentence)
            self.assertEqual(pieces, [])
            self.assertEqual(self.get(self.session, "small"), b"a small file")

    def test_shrinks(self) -> None:
        """A file that shrinks while it is sent is no success."""
        asked, _ = self.ask(self.session, "large")
        self.clock.advance(0.1)
        os.truncate(os.path.join(self.path, "large"), 5)
        self.fails(asked, ConnectionFailed)

    def test_close(self) -> None:
        """Closing the session ends the connection."""
        self.session.close()
        self.endpoint.flush()
        self.assertIsNotNone(self.endpoint.pairs[0].server.lost)

    def test_tooManyConnections(self) -> None:
        """A server that turns the client away is named in the error."""
        factory = ClassicGetFactory(self.clock, Root(self.path), ConnectionLimits(0))
        self.addCleanup(factory.root.close)
        asked, _ = self.ask(self.connect(factory), "small")
        self.assertIn("there:7021", self.fails(asked, ConnectionFailed))


class BadServerTests(ClientCase):
    def refused(self, error: type[NetsuiteError], *answers: bytes | None) -> tuple[str, bytes]:
        """Ask a server that says these answers; give the failure and what was written."""
        asked, pieces = self.ask(self.connect(scripted(*answers)), "f")
        return self.fails(asked, error), b"".join(pieces)

    def test_otherDialects(self) -> None:
        """Where a size should stand and does not, the error shows what came."""
        for words in (b"total 8\n", b"-5", b"5 ", b"+5", b"0x10", b"\xef\xbc\x95", b"1" * 21):
            sentence, _ = self.refused(ProtocolError, words)
            self.assertIn(repr(words), sentence)

    def test_native(self) -> None:
        """Of a server of the native dialect it is said that it is one."""
        for length in (b"\0\0\0\x6a\x84", b"\0\0\1\0\x83"):
            sentence, _ = self.refused(ProtocolError, length + b"\xa4type\xa5error\xa4code")
            self.assertEqual(sentence, "The server speaks the native dialect; leave --dialect out.")

    def test_endlessReply(self) -> None:
        """A server that never stops talking instead of a size is not listened to for ever."""
        sentence, _ = self.refused(ProtocolError, b"9" * 100_000)
        self.assertLess(len(sentence), 200)

    def test_unknownReason(self) -> None:
        """A refusal in words that are not ours is passed on as it is."""
        for reason in ("no file today", "teapot: short and stout", ""):
            sentence, _ = self.refused(Denied, b"err: " + reason.encode())
            self.assertEqual(sentence, f"The server refused 'f': {reason}")

    def test_brokenReason(self) -> None:
        """A refusal whose bytes are no text is passed on as far as it is text."""
        sentence, _ = self.refused(Denied, b"err: \xff\xfe")
        self.assertIn("\ufffd\ufffd", sentence)

    def test_silence(self) -> None:
        """A server that says nothing is given up at the timeout, and not before."""
        asked, _ = self.ask(self.connect(scripted()), "f")
        self.clock.advance(4.9)
        self.assertNoResult(asked)
        self.clock.advance(0.2)
        self.assertIn("there:7021 did not answer within 5 s", self.fails(asked, TimedOut))

    def test_stallsInABody(self) -> None:
        """A server that announces more than it sends is given up at the timeout."""
        asked, pieces = self.ask(self.connect(scripted(b"10", b"hello")), "f")
        self.pump()
        self.assertNoResult(asked)
        self.clock.advance(5)
        self.failureResultOf(asked, TimedOut)
        self.assertEqual(pieces, [b"hello"])

    def test_closesEarly(self) -> None:
        """A server that closes before the announced bytes were sent is no success."""
        _, content = self.refused(ConnectionFailed, b"10", b"hello", None)
        self.assertEqual(content, b"hello")
        self.refused(ConnectionFailed, None)
        self.refused(ConnectionFailed, b"10", None)

    def test_sendsMore(self) -> None:
        """Of a server that sends more than it announced, no more than announced is written."""
        session = self.connect(scripted(b"5", b"hello and more"))
        self.assertEqual(self.get(session, "f"), b"hello")

    def test_moreBehindAnEmptyFile(self) -> None:
        """A server that announces nothing and sends something is no success."""
        sentence, content = self.refused(ProtocolError, b"0", b"hello")
        self.assertIn("b'hello'", sentence)
        self.assertEqual(content, b"")

    def test_closesBehindAnEmptyFile(self) -> None:
        """An empty file is whole also when the server closes behind it."""
        self.assertEqual(self.get(self.connect(scripted(b"0", None)), "f"), b"")

    def test_noTimersLeft(self) -> None:
        """A session that has its file leaves no timer behind."""
        self.get(self.connect(scripted(b"5", b"hello")), "f")
        self.assertEqual(self.clock.getDelayedCalls(), [])
