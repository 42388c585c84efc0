"""The client of the classic exec dialects, against our server and against worse ones."""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.rexec.blocking import scripted
from twisted_netsuite.errors import (
    ConnectionFailed,
    LimitExceeded,
    NetsuiteError,
    ProtocolError,
    TimedOut,
)
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.rexec import classicclient
from twisted_netsuite.rexec.classic import ClassicExecFactory
from twisted_netsuite.rexec.classicclient import Answer, ClassicSession, Dialect, connectClassic
from twisted_netsuite.testing import BUFFER_SIZE, FakeSpawner, MemoryEndpoint

DIALECTS: tuple[Dialect, ...] = ("raw", "length", "header")


def headerAnswer(header: bytes, payload: bytes = b"") -> bytes:
    """Pack an answer of the header dialect from any bytes."""
    return struct.pack("<i", len(header)) + header + payload


class ClientCase(SynchronousTestCase):
    """Connects a session to a server in memory."""

    def setUp(self) -> None:
        self.clock = Clock()

    def connect(self, server: IProtocolFactory, dialect: Dialect) -> ClassicSession:
        self.endpoint = MemoryEndpoint(server)
        connecting = connectClassic(
            self.endpoint, self.clock, dialect=dialect, name="there:7512", timeout=5.0
        )
        return self.successResultOf(Deferred.fromCoroutine(connecting))

    def answered(
        self, asked: Deferred[Answer], size: int = BUFFER_SIZE, rounds: int = 12
    ) -> Deferred[Answer]:
        """Let the two talk, and let a little time pass, until nothing happens any more."""
        for _ in range(rounds):
            self.endpoint.flush(size)
            self.clock.advance(0.1)
        return asked

    def run_(self, session: ClassicSession, command: str = "ls") -> Deferred[Answer]:
        asked = Deferred.fromCoroutine(session.run(command))
        self.endpoint.flush()
        return asked

    def fails(
        self, dialect: Dialect, error: type[NetsuiteError], *answers: bytes | None
    ) -> NetsuiteError:
        """Expect a server that says these answers to make a command fail so."""
        session = self.connect(scripted(*answers), dialect)
        failure = self.failureResultOf(self.answered(self.run_(session)), error)
        assert isinstance(failure.value, error)
        return failure.value


class ServedTests(ClientCase):
    def serve(self, dialect: Dialect, **options: Any) -> ClassicSession:
        self.spawner = FakeSpawner()
        factory = ClassicExecFactory(
            self.clock, dialect, self.spawner, **{"allowShell": True, **options}
        )
        return self.connect(factory, dialect)

    def test_commands(self) -> None:
        """In each dialect, command after command gets its own whole answer."""
        for dialect in DIALECTS:
            session = self.serve(dialect)
            for number, output in enumerate((b"hello\n", b"x" * 500_000, b"world\n")):
                asked = self.run_(session, f"command {number} 你")
                self.assertEqual(
                    self.spawner.commands[-1].launch.argv[-1], f"command {number} 你".encode()
                )
                self.spawner.commands[-1].out(output)
                self.spawner.commands[-1].exit(number)
                status = number if dialect == "header" else None
                answer = self.successResultOf(self.answered(asked))
                self.assertEqual(answer, Answer(output, status), dialect)

    def test_byteByByte(self) -> None:
        """An answer that comes a byte at a time is read whole in every dialect."""
        for dialect in DIALECTS:
            session = self.serve(dialect)
            asked = self.run_(session)
            self.spawner.commands[-1].out(b"hello world" * 10)
            self.spawner.commands[-1].exit()
            answer = self.successResultOf(self.answered(asked, size=1))
            self.assertEqual(answer.output, b"hello world" * 10, dialect)

    def test_noOutput(self) -> None:
        """A command without output is answered in each dialect's own way."""
        for dialect, output in zip(DIALECTS, (b"\n", b"Have no message", b""), strict=True):
            session = self.serve(dialect)
            asked = self.run_(session)
            self.spawner.commands[-1].exit()
            self.assertEqual(self.successResultOf(self.answered(asked)).output, output)

    def test_refused(self) -> None:
        """A refusal comes as an answer, with its status where the dialect has one."""
        for dialect in DIALECTS:
            session = self.serve(dialect, allowShell=False)
            answer = self.successResultOf(self.answered(self.run_(session)))
            self.assertIn(b"--allow-shell", answer.output)
            self.assertEqual(answer.status, 126 if dialect == "header" else None)

    def test_notUTF8(self) -> None:
        """A command whose bytes are no UTF-8 reaches the server byte for byte."""
        session = self.serve("raw")
        self.run_(session, b"ls \xff".decode("utf-8", "surrogateescape"))
        self.assertEqual(self.spawner.commands[-1].launch.argv[-1], b"ls \xff")

    def test_outcomes(self) -> None:
        """Where a header tells no status, its outcome stands for ours; a status counts more."""
        for outcome, told, status in (
            (b"denied", b"null", 126),
            (b"timed-out", b"null", 124),
            (b"limit", b"null", 125),
            (b"exited", b"null", None),
            (b"odd", b"null", None),
            (b"denied", b"3", 3),
            (b"denied", b"0", 0),
        ):
            header = b'{"filename":"","total_size":0,"hash":"","outcome":"%s","exit_status":%s}'
            session = self.connect(scripted(headerAnswer(header % (outcome, told))), "header")
            answer = self.successResultOf(self.answered(self.run_(session)))
            self.assertEqual(answer.status, status, (outcome, told))

    def test_close(self) -> None:
        """Closing the session ends the connection, and with it the command."""
        session = self.serve("header")
        asked = self.run_(session)
        session.close()
        self.endpoint.flush()
        self.assertTrue(self.spawner.commands[-1].asked)
        self.failureResultOf(asked, ConnectionFailed)

    def test_tooManyConnections(self) -> None:
        """A server that turns the client away is named in the error."""
        factory = ClassicExecFactory(
            self.clock, "raw", FakeSpawner(), limits=ConnectionLimits(maxConnections=0)
        )
        session = self.connect(factory, "raw")
        failure = self.failureResultOf(self.answered(self.run_(session)), ConnectionFailed)
        self.assertIn("there:7512", failure.value.sentence)

    def test_noTimersLeft(self) -> None:
        """A session that has its answer leaves no timer of its own behind."""
        for dialect in DIALECTS:
            session = self.connect(scripted(b"5", b"hello", None), dialect)
            asked = self.run_(session)
            session.close()
            self.answered(asked).addErrback(lambda _: None)
            self.assertEqual(self.clock.getDelayedCalls(), [], dialect)


class BadServerTests(ClientCase):
    def test_silence(self) -> None:
        """A server that says nothing is given up at the timeout, and not before."""
        for dialect in DIALECTS:
            session = self.connect(scripted(), dialect)
            asked = self.run_(session)
            self.clock.advance(4.9)
            self.assertNoResult(asked)
            self.clock.advance(0.2)
            sentence = self.failureResultOf(asked, TimedOut).value.sentence
            self.assertIn("there:7512 did not answer within 5 s", sentence)
            self.assertIn("give it longer", sentence)

    def test_closes(self) -> None:
        """A server that closes before it has answered is told from one that is slow."""
        for dialect in DIALECTS:
            error = self.fails(dialect, ConnectionFailed, None)
            self.assertIn("there:7512 closed the connection", error.sentence)

    def test_closesInTheMiddle(self) -> None:
        """A server that closes in the middle of a framed answer is no success."""
        self.fails("length", ConnectionFailed, b"10", b"hello", None)
        whole = headerAnswer(b'{"filename":"ls","total_size":5,"hash":""}', b"hello")
        for cut in (1, 3, 4, 20, len(whole) - 1):
            self.fails("header", ConnectionFailed, whole[:cut], None)

    def test_stallsInTheMiddle(self) -> None:
        """A server that stops in the middle of an announced answer is given up."""
        for dialect, answers in (("length", [b"10", b"hello"]), ("header", [b"\x05\0\0\0{"])):
            session = self.connect(scripted(*answers), dialect)  # type: ignore[arg-type]
            asked = self.answered(self.run_(session))
            self.assertNoResult(asked)
            self.clock.advance(5)
            self.failureResultOf(asked, TimedOut)

    def test_lengthOfAnotherDialect(self) -> None:
        """Where a number should stand and does not, the error shows what came and what to try."""
        for words in (b"total 8\n", b"-5", b"5 ", b"\xef\xbc\x95", b"+5", b"0x10"):
            error = self.fails("length", ProtocolError, words)
            self.assertIn(repr(words), error.sentence)
            self.assertIn("--dialect", error.sentence)

    def test_tooManyDigits(self) -> None:
        """A length of more digits than any number has is no length."""
        self.fails("length", ProtocolError, b"1" * 21)

    def test_lengthLimit(self) -> None:
        """A length up to the limit is waited for; one byte more is refused with both numbers."""
        self.patch(classicclient, "MAX_ANSWER", 10)
        for size in (9, 10):
            session = self.connect(scripted(b"%d" % size, b"x" * size), "length")
            answer = self.successResultOf(self.answered(self.run_(session)))
            self.assertEqual(answer.output, b"x" * size)
        error = self.fails("length", LimitExceeded, b"11")
        self.assertIn("11 bytes; at most 10", error.sentence)

    def test_lengthZero(self) -> None:
        """An announced nothing is an answer."""
        session = self.connect(scripted(b"0"), "length")
        self.assertEqual(self.successResultOf(self.answered(self.run_(session))).output, b"")

    def test_headerLimit(self) -> None:
        """A payload up to the limit is read; one byte more is refused before it is read."""
        self.patch(classicclient, "MAX_ANSWER", 10)
        for size in (9, 10):
            header = b'{"filename":"","total_size":%d,"hash":""}' % size
            session = self.connect(scripted(headerAnswer(header, b"x" * size)), "header")
            answer = self.successResultOf(self.answered(self.run_(session)))
            self.assertEqual(answer, Answer(b"x" * size, None))
        header = b'{"filename":"","total_size":11,"hash":""}'
        error = self.fails("header", LimitExceeded, headerAnswer(header))
        self.assertIn("11 bytes", error.sentence)

    def test_rawLimit(self) -> None:
        """A raw answer up to the limit is given; a larger one is an error, never cut in silence."""
        self.patch(classicclient, "MAX_ANSWER", 10)
        for size in (9, 10):
            session = self.connect(scripted(b"x" * size), "raw")
            answer = self.successResultOf(self.answered(self.run_(session)))
            self.assertEqual(answer.output, b"x" * size)
        error = self.fails("raw", LimitExceeded, b"x" * 11)
        self.assertIn("at most 10", error.sentence)
        session = self.connect(scripted(b"x" * 11), "raw")
        asked = Deferred.fromCoroutine(session.run("ls"))
        self.failureResultOf(self.answered(asked, size=1), LimitExceeded)

    def test_headerOfAnotherDialect(self) -> None:
        """A server of another dialect is not waited for by the header client."""
        self.fails("header", LimitExceeded, b"total 8\n")
        self.fails("header", LimitExceeded, b"\0\0\0\0")
        self.fails("header", LimitExceeded, b"\xff\xff\xff\xff")
        self.fails("header", ProtocolError, headerAnswer(b"no JSON"))
        self.fails("header", ProtocolError, headerAnswer(b'{"filename": 5}'))
        self.fails("header", ProtocolError, headerAnswer(b'{"filename":"\xff"}'))

    def test_wrongDigest(self) -> None:
        """A payload that does not match a digest that the server vouches for is no success."""
        digest = sha256(b"hello").hexdigest().encode()
        header = b'{"filename":"","total_size":5,"hash":"%s","hash_algorithm":"sha256"}' % digest
        session = self.connect(scripted(headerAnswer(header, b"hello")), "header")
        self.assertEqual(self.successResultOf(self.answered(self.run_(session))).output, b"hello")
        error = self.fails("header", ProtocolError, headerAnswer(header, b"hellO"))
        self.assertIn("digest", error.sentence)

    def test_madeUpDigest(self) -> None:
        """The made-up hash of the tutorial's server is not held against it."""
        header = b'{"filename": "1.txt", "total_size": 5, "hash": "xxxxxxx", "new": [1]}'
        session = self.connect(scripted(headerAnswer(header, b"hello")), "header")
        answer = self.successResultOf(self.answered(self.run_(session)))
        self.assertEqual(answer, Answer(b"hello", None))

    def test_twoAnswersAtOnce(self) -> None:
        """Two joined answers answer two commands, in order."""
        pieces = [
            headerAnswer(b'{"filename":"","total_size":5,"hash":""}', word)
            for word in (b"hello", b"world")
        ]
        session = self.connect(scripted(b"".join(pieces)), "header")
        for word in (b"hello", b"world"):
            answer = self.successResultOf(self.answered(self.run_(session)))
            self.assertEqual(answer.output, word)
