"""The classic exec dialects, seen by clients written as the tutorials write them."""

from __future__ import annotations

import json
import os
import pwd
import struct
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

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
from twisted_netsuite.net import serving
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.net.chunks import MAX_HELD
from twisted_netsuite.rexec.classic import (
    MAX_PROGRAM,
    ClassicExecFactory,
    Dialect,
    Transcoder,
    programName,
)
from twisted_netsuite.rexec.collect import CommandLimits
from twisted_netsuite.testing import BUFFER_SIZE, FakeCommand, FakeSpawner
from twisted_netsuite.trust.decisions import Policy
from twisted_netsuite.trust.identity import ANONYMOUS, Identity
from twisted_netsuite.trust.oversight import UNSEEN, Oversight
from twisted_netsuite.wire.header import AnswerParser

DIALECTS: tuple[Dialect, ...] = ("raw", "length", "header")
READY = b"recv_ready"
REFUSAL = (
    b"netsuite: this service runs no shell commands; its operator can allow them with "
    b"--allow-shell.\n"
)


def lengthAnswer(sock: BlockingSocket, acknowledgement: bytes = READY) -> bytes:
    """Read as the tutorial's I{length} client does: a number, an acknowledgement, the rest."""
    size = int(sock.recv(1024).decode())
    sock.send(acknowledgement)
    return sock.recvExactly(size)


def headerAnswer(sock: BlockingSocket) -> tuple[dict[str, Any], bytes]:
    """Read as the tutorial's I{header} client does: a struct, a JSON object, the rest."""
    (size,) = struct.unpack("i", sock.recvExactly(4))
    header = json.loads(sock.recvExactly(size).decode("utf-8"))
    assert isinstance(header, dict)
    return header, sock.recvExactly(header["total_size"])


def answer(dialect: Dialect, sock: BlockingSocket) -> bytes:
    """Read one answer in any dialect."""
    match dialect:
        case "raw":
            return sock.recv(1024 * 1024)
        case "length":
            return lengthAnswer(sock)
        case "header":
            return headerAnswer(sock)[1]


class ServedCase(SynchronousTestCase):
    """Serves one dialect to one client, with commands that run only in the test."""

    def setUp(self) -> None:
        self.serve("raw")

    def serve(self, dialect: Dialect, **options: Any) -> None:
        self.clock = Clock()
        self.spawner = FakeSpawner()
        self.factory = ClassicExecFactory(
            self.clock, dialect, self.spawner, **{"allowShell": True, **options}
        )
        self.sock = BlockingSocket(self.factory)

    def run_(self, line: bytes, out: bytes = b"", err: bytes = b"", code: int = 0) -> None:
        """Send a command, which writes this and ends."""
        self.sock.send(line)
        command = self.command
        if out:
            command.out(out)
        if err:
            command.err(err)
        command.exit(code)

    @property
    def command(self) -> FakeCommand:
        """The command that was started last."""
        return self.spawner.commands[-1]

    def assertBlocks(self) -> None:
        """There is nothing to read, and the connection is open."""
        self.assertRaises(WouldBlock, self.sock.recv, 1)

    def lines(self) -> list[bytes]:
        """The command lines that were run, in order."""
        return [command.launch.argv[-1] for command in self.spawner.commands]


class DialectTests(ServedCase):
    def test_shell(self) -> None:
        """A chunk is one line for the shell, byte for byte."""
        for line in (b"ls -l; pwd", b"-rf", b"a\nb\r\n", b"\xff\xfe", "echo 你好".encode()):
            self.serve("raw")
            self.sock.send(line)
            self.assertEqual(list(self.command.launch.argv), [b"/bin/sh", b"-c", line])

    def test_raw(self) -> None:
        """raw sends stdout, then stderr, and nothing else."""
        self.run_(b"ls", out=b"out\n", err=b"err\n")
        self.assertEqual(self.sock.recv(1024), b"out\nerr\n")
        self.assertBlocks()

    def test_rawWithoutOutput(self) -> None:
        """raw answers a command that prints nothing with one newline."""
        self.run_(b"true")
        self.assertEqual(self.sock.recv(1024), b"\n")
        self.assertBlocks()

    def test_length(self) -> None:
        """length sends a decimal number, waits for a chunk, and sends just as many bytes."""
        self.serve("length")
        self.run_(b"ls", out=b"out\n", err=b"err\n")
        self.assertEqual(self.sock.recv(1024), b"8")
        self.assertBlocks()
        self.sock.send(READY)
        self.assertEqual(self.sock.recv(1024), b"out\nerr\n")
        self.assertBlocks()

    def test_lengthWithoutOutput(self) -> None:
        """length answers a command that prints nothing with C{Have no message}."""
        self.serve("length")
        self.run_(b"true")
        self.assertEqual(self.sock.recv(1024), b"15")
        self.sock.send(READY)
        self.assertEqual(self.sock.recv(1024), b"Have no message")

    def test_anyAcknowledgement(self) -> None:
        """Any chunk acknowledges a length, also one that reads like a command."""
        for word in (READY, "准备好接收".encode(), b"rm -rf /", b"\0", b"8", b"x" * 60_000):
            self.serve("length")
            self.run_(b"ls", out=b"listing")
            self.assertEqual(lengthAnswer(self.sock, word), b"listing")
            self.assertEqual(self.lines(), [b"ls"], word[:20])

    def test_nextCommandAfterTheRest(self) -> None:
        """The chunk after an acknowledged answer is a command again."""
        self.serve("length")
        for line in (b"one", b"two", b"three"):
            self.run_(line, out=line)
            self.assertEqual(lengthAnswer(self.sock), line)
        self.assertEqual(self.lines(), [b"one", b"two", b"three"])

    def test_header(self) -> None:
        """header sends 4 bytes, JSON with the true name, size and digest, then the payload."""
        self.serve("header")
        self.run_(b"/usr/bin/ls -l", out=b"out\n", err="错误\n".encode(), code=2)
        header, payload = headerAnswer(self.sock)
        self.assertEqual(payload, b"out\n" + "错误\n".encode())
        self.assertEqual(
            header,
            {
                "filename": "ls",
                "total_size": 11,
                "hash": sha256(payload).hexdigest(),
                "hash_algorithm": "sha256",
                "exit_status": 2,
                "outcome": "exited",
            },
        )
        self.assertBlocks()

    def test_headerLittleEndian(self) -> None:
        """The four bytes are a little-endian signed integer."""
        self.serve("header")
        self.run_(b"true")
        raw = self.sock.recvExactly(4)
        self.assertEqual(len(self.sock.pending), int.from_bytes(raw, "little", signed=True))

    def test_headerWithoutOutput(self) -> None:
        """header answers a command that prints nothing with a payload of no bytes."""
        self.serve("header")
        self.run_(b"true")
        header, payload = headerAnswer(self.sock)
        self.assertEqual(payload, b"")
        self.assertEqual(header["hash"], sha256(b"").hexdigest())
        self.assertBlocks()

    def test_headerSignal(self) -> None:
        """The header tells death by a signal as a shell does."""
        self.serve("header")
        self.sock.send(b"sleep 9")
        self.command.die(9)
        header, _ = headerAnswer(self.sock)
        self.assertEqual((header["exit_status"], header["outcome"]), (137, "signalled"))

    def test_largeOutput(self) -> None:
        """Output of many reads arrives whole, and the next answer is not mixed with it."""
        for dialect in DIALECTS:
            self.serve(dialect)
            self.run_(b"big", out=bytes(range(256)) * 4000)
            self.assertEqual(answer(dialect, self.sock), bytes(range(256)) * 4000, dialect)
            self.run_(b"small", out=b"next")
            self.assertEqual(answer(dialect, self.sock), b"next", dialect)

    def test_nothingBeforeTheEnd(self) -> None:
        """While a command runs nothing of its output is sent, in any dialect."""
        for dialect in DIALECTS:
            self.serve(dialect)
            self.sock.send(b"make")
            self.command.out(b"half")
            self.assertBlocks()


class RefusalTests(ServedCase):
    def test_noShell(self) -> None:
        """Without an allowed shell no command starts; each is refused in the dialect's own form."""
        for dialect in DIALECTS:
            self.serve(dialect, allowShell=False)
            for _ in range(2):
                self.sock.send(b"ls")
                self.assertEqual(answer(dialect, self.sock), REFUSAL, dialect)
                self.assertEqual(self.sock.pending, b"")
            self.assertEqual(self.spawner.commands, [])

    def test_noShellByDefault(self) -> None:
        """A factory that was told nothing about a shell allows none."""
        factory = ClassicExecFactory(self.clock, "raw", self.spawner)
        sock = BlockingSocket(factory)
        sock.send(b"ls")
        self.assertEqual(sock.recv(1024), REFUSAL)

    def test_refusalHeader(self) -> None:
        """The header of a refusal says so, with the status for what may not be run."""
        self.serve("header", allowShell=False)
        self.sock.send(b"ls -l")
        header, _ = headerAnswer(self.sock)
        self.assertEqual((header["exit_status"], header["outcome"]), (126, "denied"))
        self.assertEqual(header["filename"], "ls")

    def test_manyRefusals(self) -> None:
        """Ten thousand chunks that wait their turn are refused one by one without recursion."""
        self.serve("length", allowShell=False)
        protocol: Any = self.sock.pair.server.protocol
        protocol.hold()
        for _ in range(10_000):
            protocol.dataReceived(b"ls")
        protocol.release()
        answers = (b"%d" % len(REFUSAL) + REFUSAL) * 5000
        self.drain(len(answers))
        self.assertEqual(self.sock.pending, answers)

    def drain(self, size: int) -> None:
        """Let turn after turn come until so many bytes have arrived."""
        arrived = -1
        while arrived < len(self.sock.pending) < size:
            arrived = len(self.sock.pending)
            self.clock.advance(0)

    def test_readsNothing(self) -> None:
        """Answers to a client that reads none stay few, and go on in order once it reads."""
        self.serve("header", allowShell=False)
        names = [b"%c" % (97 + number % 26) for number in range(2000)]
        client, server = self.sock.pair.client, self.sock.pair.server
        client.pauseProducing()
        client.write(b"".join(names))
        for _ in range(10):
            self.sock.pair.flush(1)
            self.clock.advance(0)
        self.assertLess(len(server.outgoing), BUFFER_SIZE + 1000)
        self.assertGreater(len(client.outgoing), 1000)
        client.resumeProducing()
        for _ in range(10_000):
            moved = client.step(1)
            moved = server.step(BUFFER_SIZE) or moved
            self.clock.advance(0)
            if not moved:
                break
        stream = self.sock.pending
        answers = AnswerParser(1024).feed(stream)
        self.assertEqual([header.filename.encode() for header, _ in answers], names)

    def test_nul(self) -> None:
        """A command that holds a NUL byte is refused, and the next one runs."""
        for dialect in DIALECTS:
            self.serve(dialect)
            self.sock.send(b"ls\0-l")
            self.assertEqual(
                answer(dialect, self.sock), b"netsuite: a command cannot hold a NUL byte.\n"
            )
            self.assertEqual(self.spawner.commands, [])
            self.run_(b"ls", out=b"x")
            self.assertEqual(answer(dialect, self.sock), b"x")

    def test_notStarted(self) -> None:
        """A command that cannot be started is answered with the system's reason."""
        for dialect in DIALECTS:
            self.serve(dialect)
            self.sock.send(b"ls")
            self.command.refuse(24, "run /bin/sh")
            self.assertEqual(
                answer(dialect, self.sock),
                b"netsuite: the command was not started: Too many open files.\n",
            )
            self.run_(b"ls", out=b"x")
            self.assertEqual(answer(dialect, self.sock), b"x")

    def test_notStartedHeader(self) -> None:
        """The header of a command that could not be started names a limit, and our status."""
        self.serve("header")
        self.sock.send(b"ls")
        self.command.refuse(24, "run /bin/sh")
        header, _ = headerAnswer(self.sock)
        self.assertEqual((header["exit_status"], header["outcome"]), (125, "limit"))


class LimitTests(ServedCase):
    def test_output(self) -> None:
        """A command that writes too much is asked to end; its answer says so."""
        self.serve("header", commandLimits=CommandLimits(output=4))
        self.sock.send(b"yes")
        self.command.out(b"12345")
        self.assertTrue(self.command.asked)
        self.assertBlocks()
        self.command.die(15)
        header, payload = headerAnswer(self.sock)
        self.assertEqual((header["exit_status"], header["outcome"]), (125, "limit"))
        self.assertTrue(payload.startswith(b"1234\nnetsuite: the output limit of 4 bytes"))

    def test_time(self) -> None:
        """A command that runs too long is asked to end; its answer says so."""
        self.serve("header", commandLimits=CommandLimits(seconds=2))
        self.sock.send(b"sleep 9")
        self.clock.advance(2)
        self.assertTrue(self.command.asked)
        self.command.die(15)
        header, payload = headerAnswer(self.sock)
        self.assertEqual((header["exit_status"], header["outcome"]), (124, "timed-out"))
        self.assertIn(b"the time limit of 2 s", payload)

    def test_connections(self) -> None:
        """One connection more than allowed is turned away, and finds room once another goes."""
        self.serve("raw", limits=ConnectionLimits(maxConnections=2))
        second = BlockingSocket(self.factory)
        self.assertIsNotNone(BlockingSocket(self.factory).lost)
        self.assertEqual(self.factory.admission.refusals.total(), 1)
        second.reset()
        self.assertIsNone(BlockingSocket(self.factory).lost)

    def test_commandsOfClientsThatLeft(self) -> None:
        """Commands whose clients have left, and that still end, count among those that may run."""
        self.serve("header", limits=ConnectionLimits(maxConnections=2))
        for _ in range(2):
            self.sock.send(b"sleep 100")
            self.sock.reset()
            self.sock = BlockingSocket(self.factory)
        self.assertEqual(len(self.spawner.commands), 2)
        self.sock.send(b"ls")
        header, payload = headerAnswer(self.sock)
        self.assertEqual((header["exit_status"], header["outcome"]), (125, "limit"))
        self.assertEqual(payload, b"netsuite: 2 commands are running, and no more are started.\n")
        self.assertEqual(len(self.spawner.commands), 2)
        self.command.die(15)
        self.run_(b"ls", out=b"listing")
        self.assertEqual(headerAnswer(self.sock)[1], b"listing")

    def test_log(self) -> None:
        """A command of any length is told of in short lines."""
        for line, said in (
            (b"x" * 65536, " and 65024 bytes more"),
            (b"\xff" * 65536, " and 65024 bytes more"),
            (b"x" * 512, "x'"),
            (b"x" * 513, " and 1 bytes more"),
        ):
            with capturedLogs() as events:
                self.run_(line)
                self.sock.recv(10)
            told = [formatEvent(event) for event in events]
            self.assertEqual(len(told), 2)
            for text in told:
                self.assertTrue(text.endswith(said), text[-40:])
                self.assertLess(len(text), 512 * 4 + 100)

    def test_idle(self) -> None:
        """A client that is silent for too long is cut off, and not before."""
        self.serve("raw", limits=ConnectionLimits(idleTimeout=60))
        self.clock.advance(59)
        self.assertIsNone(self.sock.lost)
        self.clock.advance(1)
        self.assertIsNotNone(self.sock.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_idleWhileRunning(self) -> None:
        """The idle timeout does not count while a command runs, and counts anew after it."""
        self.serve("raw", limits=ConnectionLimits(idleTimeout=60))
        self.clock.advance(50)
        self.sock.send(b"sleep 100")
        self.clock.advance(100)
        self.assertIsNone(self.sock.lost)
        self.command.exit()
        self.assertEqual(self.sock.recv(10), b"\n")
        self.clock.advance(59)
        self.assertIsNone(self.sock.lost)
        self.clock.advance(1)
        self.assertIsNotNone(self.sock.lost)

    def test_idleWithoutAcknowledgement(self) -> None:
        """A length that is never acknowledged holds the answer only for the idle timeout."""
        self.serve("length", limits=ConnectionLimits(idleTimeout=60))
        self.run_(b"ls", out=b"x")
        self.clock.advance(60)
        self.assertIsNotNone(self.sock.lost)


class BrowserTests(ServedCase):
    def test_first(self) -> None:
        """A connection that begins as a browser's runs nothing, is told of once, and ends."""
        for request in (
            b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\ntouch /tmp/x\n",
            b"GET /;ls HTTP/1.0",
            b"OPTIONS * HTTP/2",
        ):
            for dialect in DIALECTS:
                self.serve(dialect)
                with capturedLogs() as events:
                    self.sock.send(request)
                    self.sock.send(b"ls")
                self.assertEqual(self.spawner.commands, [])
                self.assertEqual([event["log_level"] for event in events], [LogLevel.warn])
                self.assertIn("a web browser is no client of exec", formatEvent(events[0]))
                self.assertIsInstance(self.sock.pair.server.lost.value, ConnectionAborted)  # type: ignore[union-attr]
                self.assertEqual(self.sock.pending, b"")
                self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_heldBehind(self) -> None:
        """Nor does what such a connection has sent behind its first chunk run."""
        protocol: Any = self.sock.pair.server.protocol
        protocol.hold()
        for chunk in (b"GET / HTTP/1.1\r\n", b"ls"):
            protocol.dataReceived(chunk)
        protocol.release()
        self.clock.advance(0)
        self.assertEqual(self.spawner.commands, [])

    def test_later(self) -> None:
        """The same line behind a command is a command: a person may type it."""
        for dialect in DIALECTS:
            self.serve(dialect)
            self.run_(b"ls", out=b"x")
            answer(dialect, self.sock)
            self.run_(b"GET / HTTP/1.1", out=b"y")
            self.assertEqual(answer(dialect, self.sock), b"y")
            self.assertEqual(self.lines(), [b"ls", b"GET / HTTP/1.1"])

    def test_other(self) -> None:
        """A first command that only resembles a request is a command."""
        for line in (b"GET", b"GET /x", b"echo GET / HTTP/1.1", b"get / HTTP/1.1", b"A=1 HTTP/x"):
            self.serve("raw")
            self.sock.send(line)
            self.assertEqual(self.lines(), [line])


class OrderTests(ServedCase):
    def test_heldChunks(self) -> None:
        """Chunks that come while a command runs wait their turn, each a command of its own."""
        dialects: tuple[Dialect, ...] = ("raw", "header")
        for dialect in dialects:
            self.serve(dialect)
            for line in (b"one", b"two", b"three"):
                self.sock.send(line)
            for line in (b"one", b"two", b"three"):
                self.assertEqual(self.lines()[-1], line)
                self.command.out(line)
                self.command.exit()
                self.assertEqual(answer(dialect, self.sock), line, dialect)

    def test_heldAcknowledgement(self) -> None:
        """In length, what comes while a command runs is the acknowledgement of its answer."""
        self.serve("length")
        self.sock.send(b"ls")
        self.sock.send(READY)
        self.sock.send(b"pwd")
        self.command.out(b"listing")
        self.command.exit()
        self.assertEqual(self.lines(), [b"ls", b"pwd"])
        self.assertEqual(self.sock.recv(1024), b"7listing")

    def test_joined(self) -> None:
        """The answers C{hello} and C{world}, joined in one read, are told apart in header."""
        self.serve("header")
        self.sock.send(b"echo hello")
        self.sock.send(b"echo world")
        for word in (b"hello", b"world"):
            self.command.out(word)
            self.command.exit()
        stream = self.sock.pending
        self.assertLess(stream.index(b"hello"), stream.index(b"world"))
        self.assertEqual(headerAnswer(self.sock)[1], b"hello")
        self.assertEqual(headerAnswer(self.sock)[1], b"world")
        self.assertBlocks()

    def test_byteByByte(self) -> None:
        """An answer that arrives a byte at a time is read whole in every dialect."""
        for dialect in DIALECTS:
            self.serve(dialect)
            self.sock = BlockingSocket(self.factory, pieces=1)
            self.run_(b"ls", out=b"hello world" * 20)
            self.assertEqual(answer(dialect, self.sock), b"hello world" * 20, dialect)

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40)), max_size=5),
        st.lists(st.integers(1, 400), min_size=1, max_size=12),
    )
    def test_anySplit(self, outputs: list[tuple[bytes, bytes]], sizes: list[int]) -> None:
        """Whatever commands print, and wherever the stream is cut, header answers come whole."""
        self.serve("header")
        for out, err in outputs:
            self.run_(b"x", out, err)
        stream = self.sock.pending
        parser = AnswerParser(1024)
        answers = []
        turn = 0
        while stream:
            size = sizes[turn % len(sizes)]
            piece, stream = stream[:size], stream[size:]
            answers += parser.feed(piece)
            turn += 1
        self.assertEqual([payload for _, payload in answers], [o + e for o, e in outputs])

    def test_everyCut(self) -> None:
        """Two joined header answers, cut in two at every place, come out whole."""
        self.serve("header")
        self.run_(b"echo hello", b"hello")
        self.run_(b"echo world", b"world")
        stream = self.sock.pending
        for cut in range(len(stream) + 1):
            parser = AnswerParser(1024)
            answers = parser.feed(stream[:cut]) + parser.feed(stream[cut:])
            self.assertEqual([payload for _, payload in answers], [b"hello", b"world"])

    def test_manyClients(self) -> None:
        """A command of one client does not hold up another's."""
        other = BlockingSocket(self.factory)
        self.sock.send(b"slow")
        slow = self.command
        other.send(b"fast")
        self.command.out(b"fast")
        self.command.exit()
        self.assertEqual(other.recv(1024), b"fast")
        slow.out(b"slow")
        slow.exit()
        self.assertEqual(self.sock.recv(1024), b"slow")


class ClosingTests(ServedCase):
    def leave(self, how: str) -> None:
        if how == "half-close":
            self.sock.endWriting()
        else:
            self.sock.reset()

    def test_idle(self) -> None:
        """A client that leaves while nothing runs is forgotten."""
        for how in ("half-close", "reset"):
            for dialect in DIALECTS:
                self.serve(dialect)
                self.leave(how)
                self.assertIsNotNone(self.sock.lost)
                self.assertEqual(self.factory.connections, set())

    def test_running(self) -> None:
        """When a client leaves, its command is asked to end, and its answer goes nowhere."""
        for how in ("half-close", "reset"):
            for dialect in DIALECTS:
                self.serve(dialect)
                self.sock.send(b"sleep 100")
                self.assertFalse(self.command.asked)
                self.leave(how)
                self.assertTrue(self.command.asked, f"{how} {dialect}")
                self.assertEqual(self.factory.connections, set())
                self.command.out(b"too late")
                self.command.die(15)
                self.assertEqual(self.sock.pending, b"")

    def test_announced(self) -> None:
        """A client that leaves without its acknowledgement is forgotten, and gets no more."""
        for how in ("half-close", "reset"):
            self.serve("length")
            self.run_(b"ls", out=b"x")
            self.assertEqual(self.sock.recv(10), b"1")
            self.leave(how)
            self.assertIsNotNone(self.sock.lost)
            self.assertEqual(self.sock.pending, b"")
            self.assertEqual(self.factory.connections, set())

    def test_answerIsFlushed(self) -> None:
        """An answer that was sent before the client closed its side still arrives whole."""
        self.sock.stall()
        self.run_(b"big", out=b"x" * 300_000)
        self.sock.endWriting()
        self.sock.goOn()
        self.assertEqual(self.sock.recvExactly(300_000), b"x" * 300_000)
        self.assertEqual(self.sock.recv(1), b"")

    def test_heldCommandsAreDropped(self) -> None:
        """After a client has closed its side, no command that it had waiting is started."""
        self.sock.stall()
        self.run_(b"big", out=b"x" * 1000)
        self.sock.send(b"second")
        self.sock.send(b"third")
        self.sock.endWriting()
        self.assertIsNone(self.sock.lost)
        self.assertTrue(self.command.asked)
        self.command.die(15)
        self.assertEqual(self.lines(), [b"big", b"second"])

    def test_heldCommandsAreDroppedByReset(self) -> None:
        """After a reset no command that was waiting is started."""
        self.sock.send(b"first")
        self.sock.send(b"second")
        self.sock.reset()
        self.command.die(15)
        self.assertEqual(self.lines(), [b"first"])

    def test_deadReader(self) -> None:
        """A client that closed its side and reads nothing is cut off in time."""
        self.sock.stall()
        self.run_(b"big", out=b"x" * 1000)
        self.sock.endWriting()
        self.clock.advance(29)
        self.assertEqual(len(self.factory.connections), 1)
        self.clock.advance(1)
        self.sock.pair.flush()
        self.assertEqual(self.factory.connections, set())

    def test_stalledReader(self) -> None:
        """A client that does not take its answer gets no command run, and is cut off as idle."""
        self.serve("raw", limits=ConnectionLimits(idleTimeout=60))
        self.sock.stall()
        self.run_(b"big", out=b"x" * 300_000)
        self.sock.send(b"second")
        self.sock.endWriting()
        self.clock.advance(59)
        self.sock.pair.flush()
        self.assertEqual(len(self.factory.connections), 1)
        self.clock.advance(1)
        self.sock.pair.flush()
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.lines(), [b"big"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noTimersLeft(self) -> None:
        """A connection that has ended, and its command, leave no timer behind."""
        self.sock.send(b"sleep")
        self.sock.endWriting()
        self.command.die(15)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AbortTests(ServedCase):
    def test_nothingThere(self) -> None:
        """Without connections there is nothing to wait for."""
        self.sock.reset()
        self.successResultOf(self.factory.abortConnections())

    def test_waitsForCommands(self) -> None:
        """The end of a factory comes only when its connections and all its commands have ended."""
        other = BlockingSocket(self.factory)
        self.sock.send(b"one")
        other.send(b"two")
        ended = self.factory.abortConnections()
        self.assertNoResult(ended)
        self.sock.pair.flush()
        other.pair.flush()
        self.assertIsInstance(self.sock.pair.server.lost.value, ConnectionAborted)  # type: ignore[union-attr]
        one, two = self.spawner.commands
        self.assertTrue(one.asked and two.asked)
        self.assertNoResult(ended)
        one.die(15)
        self.assertNoResult(ended)
        two.die(9)
        self.assertIsNone(self.successResultOf(ended))

    def test_commandOfAClientThatLeft(self) -> None:
        """A command that is still ending, of a client that left before, is waited for too."""
        self.sock.send(b"one")
        self.sock.reset()
        ended = self.factory.abortConnections()
        self.assertNoResult(ended)
        self.command.die(15)
        self.successResultOf(ended)

    def test_twice(self) -> None:
        """Everybody who asked for the end learns of it."""
        self.sock.send(b"one")
        first = self.factory.abortConnections()
        self.sock.pair.flush()
        second = self.factory.abortConnections()
        third = self.factory.abortConnections()
        for ended in (first, second, third):
            self.assertNoResult(ended)
        self.command.die(15)
        for ended in (first, second, third):
            self.assertIsNone(self.successResultOf(ended))


class EncodingTests(ServedCase):
    def test_gbk(self) -> None:
        """With gbk a client that decodes GBK reads the text, and lengths count GBK's bytes."""
        self.serve("length", encoding="gbk")
        self.run_(b"ls", out="中文.txt\n".encode())
        self.assertEqual(self.sock.recv(1024), b"9")
        self.sock.send(READY)
        self.assertEqual(self.sock.recv(1024).decode("gbk"), "中文.txt\n")

    def test_gbkHeader(self) -> None:
        """Size and digest in the header are those of the bytes that are sent."""
        self.serve("header", encoding="gbk")
        self.run_(b"ls", out="中文\n".encode())
        header, payload = headerAnswer(self.sock)
        self.assertEqual(payload, "中文\n".encode("gbk"))
        self.assertEqual(header["hash"], sha256(payload).hexdigest())

    def test_whatGBKLacks(self) -> None:
        """A character that the encoding lacks becomes a question mark."""
        self.assertEqual(Transcoder("gbk")("a😀b".encode()), b"a?b")

    def test_notUTF8(self) -> None:
        """Bytes that are no UTF-8 do not stop an answer in another encoding."""
        self.assertEqual(Transcoder("latin-1")(b"a\xffb"), b"a?b")

    def test_utf8IsNotTouched(self) -> None:
        """Without another encoding output passes byte for byte, also when it is no text."""
        for name in ("utf-8", "UTF8", "utf_8"):
            self.assertEqual(Transcoder(name)(b"\xff\x00\xfe"), b"\xff\x00\xfe")

    def test_input(self) -> None:
        """Command lines are not transcoded."""
        self.serve("raw", encoding="gbk")
        self.sock.send("echo 你好".encode())
        self.assertEqual(self.lines(), ["echo 你好".encode()])

    def test_unknown(self) -> None:
        """A name that is no encoding for text, or one that cannot replace, is no encoding."""
        for name in ("klingon", "", "hex", "rot13", "idna", "undefined", "a\0b", "é"):
            self.assertRaises(LookupError, Transcoder, name)


class EnvironmentTests(ServedCase):
    def environment(self, given: dict[str, str]) -> dict[bytes, bytes]:
        """Tell what a command gets of a server's environment."""
        with mock.patch.dict(os.environ, given, clear=True):
            self.sock.send(b"env")
        return dict(self.command.launch.env)

    def test_allowed(self) -> None:
        """Only names that are known to be harmless pass; those that steer a loader do not."""
        harmless = {"HOME": "/h", "PATH": "/bin", "LANG": "C", "LC_ALL": "C", "TZ": "UTC"}
        harmless |= {"USER": "u", "LOGNAME": "u", "SHELL": "/bin/sh", "TMPDIR": "/tmp"}
        others = {"LD_PRELOAD": "x", "BASH_ENV": "x", "ENV": "x", "IFS": "x", "PYTHONPATH": "x"}
        others |= {"AWS_SECRET_ACCESS_KEY": "x", "LCX": "x", "path": "x", "LD_LIBRARY_PATH": "x"}
        self.patch(pwd, "getpwuid", mock.Mock(side_effect=KeyError))
        expected = {name.encode(): value.encode() for name, value in harmless.items()}
        self.assertEqual(self.environment({**harmless, **others}), expected)

    def test_path(self) -> None:
        """What is relative in the server's PATH, and depends on where it was started, is left."""
        found = self.environment({"PATH": "/usr/bin:.:bin:/bin:/usr/bin"})
        self.assertEqual(found[b"PATH"], b"/usr/bin:/bin")

    def test_user(self) -> None:
        """A command is told whose rights it has, and not who started the server."""
        uid = os.geteuid()
        entry = pwd.struct_passwd(("nobody", "x", uid, uid, "", "/nonexistent", "/bin/false"))
        asked = mock.Mock(return_value=entry)
        self.patch(pwd, "getpwuid", asked)
        started = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/bash"}
        found = self.environment(started)
        found.pop(b"PATH")
        self.assertEqual(
            found,
            {
                b"HOME": b"/nonexistent",
                b"USER": b"nobody",
                b"LOGNAME": b"nobody",
                b"SHELL": b"/bin/false",
            },
        )
        asked.assert_called_with(uid)

    def test_served(self) -> None:
        """A command gets no variable of the server that could change what a shell runs."""
        harmful = {"LD_PRELOAD": "", "BASH_ENV": "/nowhere", "SECRET_TOKEN": "x"}
        with mock.patch.dict(os.environ, harmful):
            self.sock.send(b"env")
        self.assertEqual(
            {name.encode() for name in harmful} & self.command.launch.env.keys(), set()
        )
        self.assertIn(b"PATH", self.command.launch.env)


class ProgramNameTests(SynchronousTestCase):
    def test_names(self) -> None:
        """The program's name is the last part of the first word, as far as there is one."""
        for line, name in (
            (b"ls", "ls"),
            (b"/bin/ls -l", "ls"),
            (b"'my prog' x", "my prog"),
            (b"", ""),
            (b"   ", ""),
            (b"echo 'open", "echo"),
            (b"/", ""),
            (b"\xff\xfe x", "\ufffd\ufffd"),
        ):
            self.assertEqual(programName(line), name)

    def test_bounded(self) -> None:
        """Of a chunk of any length only its beginning is looked at."""
        self.assertEqual(programName(b"x" * 65536), "x" * MAX_PROGRAM)
        self.assertEqual(programName(b"ls " + b"'" * 65535), "ls")
        self.assertEqual(programName(b"ls " + b"x " * 32768), "ls")
        self.assertEqual(programName(b" " * 65536 + b"ls"), "")
        path = b"/" + b"d/" * 2046
        self.assertEqual(programName(path + b"ls -l"), "ls")

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=60))
    def test_anything(self, line: bytes) -> None:
        """No line of bytes, however wrong, is without an answer."""
        self.assertNotIn("/", programName(line))


POLICY = """
[identities]
"cert:anna" = ["shell"]
"unix:bob" = ["briefly"]
"cert:carl" = ["other"]
[[roles.shell.exec]]
shell = true
durable = true
[[roles.briefly.exec]]
shell = true
time-limit = 2
output-limit = 4
[[roles.other.exec]]
argv = ["/bin/ls"]
"""


class OverseenCase(ServedCase):
    """Serves somebody whom a test names, with something standing over it."""

    who = ANNA

    def setUp(self) -> None:
        self.notes = HeldNotes()
        self.notes.holding = False
        self.patch(serving, "identityOf", lambda _: self.who)
        self.oversee("raw")

    def oversee(self, dialect: Dialect = "raw", policy: str | None = POLICY, **told: Any) -> None:
        """Serve, with a policy and an audit log."""
        self.serve(
            dialect,
            **{"allowShell": False, "oversight": overseen(policy, self.notes, "exec"), **told},
        )

    def denial(self, who: Identity) -> bytes:
        """What somebody is told who is denied a command."""
        return f"netsuite: the policy of this service does not allow it to {who}.\n".encode()


class PolicyTests(OverseenCase):
    """Who may have a shell, and how much of it."""

    def test_deniedByDefault(self) -> None:
        """Who has no rule for a shell gets none, in any dialect's own form; the next is asked for
        anew."""
        for who in (ANONYMOUS, CARL, Identity("unix", "root"), Identity("token", "anna")):
            self.who = who
            for dialect in DIALECTS:
                self.oversee(dialect)
                for _ in range(2):
                    self.sock.send(b"/bin/ls")
                    self.assertEqual(answer(dialect, self.sock), self.denial(who))
                self.assertEqual(self.spawner.commands, [])
                self.assertBlocks()

    def test_header(self) -> None:
        """The header of a denial says so, with the status for what may not be run."""
        self.who = ANONYMOUS
        self.oversee("header")
        self.sock.send(b"ls -l")
        header, _ = headerAnswer(self.sock)
        self.assertEqual((header["exit_status"], header["outcome"]), (126, "denied"))
        self.assertEqual(header["filename"], "ls")

    def test_allowed(self) -> None:
        """Who has a rule for a shell gets one by a certificate or a Unix account."""
        for who in (ANNA, BOB):
            self.who = who
            for dialect in DIALECTS:
                self.oversee(dialect)
                self.run_(b"ls", out=b"x")
                self.assertEqual(answer(dialect, self.sock), b"x")

    def test_otherOutcomes(self) -> None:
        """Under a policy that allows all, every answer is byte for byte as without one."""
        for dialect in DIALECTS:
            answers = []
            plain: dict[str, Any] = {"policy": None, "allowShell": True, "oversight": UNSEEN}
            for told in ({}, plain):
                self.oversee(dialect, **told)
                self.run_(b"ls", out=b"out", err=b"err", code=3)
                answers.append(answer(dialect, self.sock))
                self.sock.send(b"x")
                self.command.die(9)
                answers.append(answer(dialect, self.sock))
                self.sock.send(b"x")
                self.command.refuse(24, "run /bin/sh")
                answers.append(answer(dialect, self.sock))
            self.assertEqual(answers[:3], answers[3:])

    def test_auditAlone(self) -> None:
        """Without a policy an audit log changes nothing of who may what."""
        self.who = ANONYMOUS
        self.oversee(policy=None)
        self.sock.send(b"ls")
        self.assertEqual(self.sock.recv(1024), REFUSAL)
        self.oversee(policy=None, allowShell=True)
        self.run_(b"ls", out=b"x")
        self.assertEqual(self.sock.recv(1024), b"x")
        self.assertEqual(events(self.notes), ["exec.start.denied", "exec.start", "exec.end"])
        self.assertEqual([record["durable"] for record in self.notes.records], [False] * 3)

    def test_log(self) -> None:
        """The log tells the whole reason of a denial, with the rule's file and line, on one line;
        the peer is told neither."""
        self.who = CARL
        self.oversee(policy=POLICY + "[[roles.other.exec]]\nshell = true\ndeny = true\n")
        with capturedLogs() as told:
            self.sock.send(b"ls; rm x")
        (line,) = map(formatEvent, told)
        self.assertEqual(
            line,
            "127.0.0.1:50000 (cert:carl): refused b'ls; rm x': cert:carl may not have a shell run "
            f"'ls; rm x': {PLACE}:15 denies it.",
        )
        self.assertNotIn(b"policy.toml", self.sock.pending)

    def test_limits(self) -> None:
        """What bounds a command is the smaller of the rule's and the service's own."""
        for service, output, seconds in (
            (CommandLimits(), 4, 2.0),
            (CommandLimits(3, 1), 3, 1.0),
            (CommandLimits(3, 100), 3, 2.0),
            (CommandLimits(100, 1), 4, 1.0),
        ):
            self.who = BOB
            self.oversee("header", commandLimits=service)
            self.sock.send(b"yes")
            self.command.out(b"1" * output)
            self.assertFalse(self.command.asked)
            self.command.out(b"1")
            self.assertTrue(self.command.asked)
            self.command.die(15)
            _, payload = headerAnswer(self.sock)
            self.assertIn(b"the output limit of %d bytes" % output, payload)
            self.sock.send(b"sleep")
            self.clock.advance(seconds - 0.1)
            self.assertFalse(self.command.asked)
            self.clock.advance(0.1)
            self.assertTrue(self.command.asked)
            self.command.die(15)
            _, payload = headerAnswer(self.sock)
            self.assertIn(b"the time limit of %g s" % seconds, payload)

    def test_withoutLimits(self) -> None:
        """A rule that names no limits leaves the service's own."""
        self.oversee("header", commandLimits=CommandLimits(output=2))
        self.sock.send(b"yes")
        self.command.out(b"123")
        self.command.die(15)
        _, payload = headerAnswer(self.sock)
        self.assertIn(b"the output limit of 2 bytes", payload)

    def test_unheld(self) -> None:
        """A rule that asks for what no classic dialect can hold to allows nothing here: log and
        audit log name the rule's place, and what it asks for in its own words."""
        self.who = CARL
        for asks, word in (
            ('user = "nobody"', "user"),
            ("concurrency = 1", "concurrency"),
            ("cpu-time = 5", "cpu-time"),
            ('memory = "1 GiB"', "memory"),
            ("processes = 3", "processes"),
            ("open-files = 9", "open-files"),
            ('file-size = "1 MiB"', "file-size"),
            ('cwd = ["/srv", "/srv/**"]', "cwd"),
            ('user = "nobody"\nmemory = 4096', "user, memory"),
        ):
            self.oversee(policy=f"{POLICY}[[roles.other.exec]]\nshell = true\n{asks}\n")
            with capturedLogs() as told:
                self.sock.send(b"ls")
            self.assertEqual(self.sock.recv(1024), self.denial(CARL))
            self.assertEqual(self.spawner.commands, [])
            cause = f"{PLACE}:15 asks for {word}, which this dialect cannot hold to."
            self.assertTrue(formatEvent(told[0]).endswith(cause), formatEvent(told[0]))
            self.assertEqual(self.notes.records[-1]["event"], "exec.start.denied")
            self.assertEqual(self.notes.records[-1]["reason"], cause)

    def test_held(self) -> None:
        """What a rule only permits to clients that can ask for it is in nobody's way."""
        self.who = CARL
        allows = 'env = ["LC_*"]\ncwd = ["/srv/**"]\npty = true\ndetach = true\n'
        self.oversee(policy=f"{POLICY}[[roles.other.exec]]\nshell = true\n{allows}")
        self.run_(b"ls", out=b"x")
        self.assertEqual(self.sock.recv(10), b"x")

    def test_another(self) -> None:
        """Another policy holds from the next command on; one that runs is left alone."""
        source = Told(policyFrom(POLICY))
        self.oversee(oversight=Oversight("exec", source, self.notes))
        self.sock.send(b"one")
        source.policy = policyFrom("")
        self.assertFalse(self.command.asked)
        self.command.exit()
        self.assertEqual(self.sock.recv(10), b"\n")
        self.sock.send(b"two")
        self.assertEqual(self.sock.recv(1000), self.denial(ANNA))
        self.assertEqual(self.lines(), [b"one"])

    def test_browser(self) -> None:
        """What a web browser sends is asked of nobody, and not recorded as a command."""
        with capturedLogs():
            self.sock.send(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(self.notes.records, [])


class WaitingTests(OverseenCase):
    """While the audit log waits for its disk."""

    def setUp(self) -> None:
        super().setUp()
        self.notes.holding = True

    def test_nothingStarts(self) -> None:
        """No command starts before its record is written; then it does."""
        for dialect in DIALECTS:
            self.notes.holding = True
            self.oversee(dialect)
            self.sock.send(b"ls")
            self.clock.advance(1000)
            self.assertEqual(self.spawner.commands, [])
            self.assertEqual(self.notes.records[-1]["event"], "exec.start")
            self.assertBlocks()
            self.notes.let()
            self.command.out(b"x")
            self.command.exit()
            self.assertEqual(answer(dialect, self.sock), b"x")

    def test_record(self) -> None:
        """The record tells who wants to run what, by which rule, and must be on the disk."""
        self.sock.send(b"ls -l \xff")
        self.assertEqual(
            self.notes.records,
            [
                {
                    "event": "exec.start",
                    "service": "exec",
                    "peer": "127.0.0.1:50000",
                    "identity": "cert:anna",
                    "command": b"ls -l \xff",
                    "rule": f"{PLACE}:6",
                    "durable": True,
                }
            ],
        )

    def test_clientLeaves(self) -> None:
        """For a client that leaves meanwhile nothing starts, and the log says that of it."""
        for leave in (self.reset, self.endWriting):
            self.notes.holding = True
            self.notes.records.clear()
            self.oversee()
            self.sock.send(b"one")
            self.sock.send(b"two")
            leave()
            self.notes.let()
            self.sock.pair.flush()
            self.assertEqual(self.spawner.commands, [])
            self.assertEqual(events(self.notes), ["exec.start", "exec.end"])
            self.assertEqual(self.notes.records[-1]["outcome"], "not-started")
            self.assertIsNone(self.notes.records[-1]["status"])
            self.assertEqual(self.factory.connections, set())
            self.assertEqual(len(self.factory.admission), 0)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertIsNone(self.successResultOf(self.factory.abortConnections()))

    def reset(self) -> None:
        """Vanish."""
        self.sock.reset()

    def endWriting(self) -> None:
        """Close one side."""
        self.sock.endWriting()

    def test_order(self) -> None:
        """Chunks that come meanwhile wait in order, and are asked about one by one."""
        for line in (b"one", b"two", b"three"):
            self.sock.send(line)
        self.assertEqual([record["command"] for record in self.notes.records], [b"one"])
        self.notes.let()
        for line in (b"one", b"two", b"three"):
            self.assertEqual(self.lines()[-1], line)
            self.command.out(line)
            self.command.exit()
            self.assertEqual(self.sock.recv(100), line)

    def test_bounded(self) -> None:
        """What comes meanwhile is held up to a bound; then the client is not read."""
        self.sock.send(b"first")
        client, server = self.sock.pair.client, self.sock.pair.server
        client.write(b"x" * 1_000_000)
        self.sock.pair.flush(1000)
        self.assertFalse(server.reading)
        self.assertGreater(len(client.outgoing), 1_000_000 - MAX_HELD - 2000)
        self.notes.let()
        for _ in range(2):
            self.command.exit()
            self.sock.recv(10)
        self.assertEqual(len(self.lines()), 3)
        self.assertEqual(self.lines()[1:], [b"x" * 1000] * 2)

    def test_idle(self) -> None:
        """The wait is not the client's, and costs it nothing of its idle timeout."""
        self.oversee(limits=ConnectionLimits(idleTimeout=60))
        self.sock.send(b"ls")
        self.clock.advance(600)
        self.assertIsNone(self.sock.lost)
        self.notes.let()
        self.command.exit()
        self.assertEqual(self.sock.recv(10), b"\n")

    def test_unavailable(self) -> None:
        """What cannot be recorded is refused in each dialect's own form, with one line in the
        log; when it can be again, the next command runs."""
        sentence = "The audit log cannot be written: no space left on device."
        for dialect in DIALECTS:
            self.notes.holding, self.notes.failure = True, None
            self.oversee(dialect)
            self.sock.send(b"ls")
            with capturedLogs() as told:
                self.notes.giveUp(AuditUnavailable(sentence))
            self.assertEqual(answer(dialect, self.sock), f"netsuite: {sentence}\n".encode())
            self.assertEqual(
                list(map(formatEvent, told)),
                [f"127.0.0.1:50000 (cert:anna): refused b'ls': {sentence}"],
            )
            self.notes.failure = AuditUnavailable(sentence)
            self.sock.send(b"ls")
            self.assertEqual(answer(dialect, self.sock), f"netsuite: {sentence}\n".encode())
            self.assertEqual(self.spawner.commands, [])
            self.notes.holding, self.notes.failure = False, None
            self.run_(b"ls", out=b"x")
            self.assertEqual(answer(dialect, self.sock), b"x")

    def test_deniedAndUnavailable(self) -> None:
        """A denial that cannot be recorded is still one, and is told as one."""
        self.who = CARL
        self.oversee()
        self.sock.send(b"ls")
        self.assertBlocks()
        self.notes.giveUp(AuditUnavailable("full"))
        self.assertEqual(self.sock.recv(1000), self.denial(CARL))

    def test_unavailableWhenGone(self) -> None:
        """A record that fails after its client has left harms nobody."""
        self.sock.send(b"ls")
        self.sock.reset()
        with capturedLogs():
            self.notes.giveUp(AuditUnavailable("full"))
        self.assertEqual(events(self.notes), ["exec.start"])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class EndRecordTests(OverseenCase):
    """A command whose start was recorded has its end recorded, however it ends."""

    def ended(self) -> dict[str, Any]:
        """The last record, of an end that follows a start."""
        start, end = self.notes.records[-2:]
        self.assertEqual((start["event"], end["event"]), ("exec.start", "exec.end"))
        for name in ("service", "peer", "identity", "command"):
            self.assertEqual(start[name], end[name])
        self.assertFalse(end["durable"])
        return end

    def test_outcomes(self) -> None:
        """The end tells outcome, status and bytes, as the header does."""
        self.oversee("header", commandLimits=CommandLimits(4, 2))

        def limit() -> None:
            self.command.out(b"12345")
            self.command.die(15)

        def time() -> None:
            self.clock.advance(2)
            self.command.die(15)

        for act, outcome, status in (
            (lambda: self.command.exit(3), "exited", 3),
            (lambda: self.command.die(9), "signalled", 137),
            (limit, "limit", 125),
            (time, "timed-out", 124),
        ):
            self.sock.send(b"ls")
            act()
            _, payload = headerAnswer(self.sock)
            end = self.ended()
            self.assertEqual((end["outcome"], end["status"]), (outcome, status))
            self.assertEqual(end["output"], len(payload))

    def test_clientGone(self) -> None:
        """A command that is ended as its client has left has an end like any other."""
        for leave in (self.sock.reset, self.sock.endWriting):
            self.notes.records.clear()
            self.oversee()
            leave = getattr(self.sock, leave.__name__)
            self.sock.send(b"sleep 9")
            leave()
            self.assertTrue(self.command.asked)
            self.assertEqual(events(self.notes), ["exec.start"])
            self.command.die(15)
            self.assertEqual(self.ended()["outcome"], "signalled")

    def test_notStarted(self) -> None:
        """A command that was permitted and could not be started has an end that says why."""
        self.oversee(policy=None, allowShell=True)
        self.sock.send(b"ls")
        self.command.refuse(24, "run /bin/sh")
        end = self.ended()
        self.assertEqual((end["outcome"], end["status"]), ("limit", 125))
        self.sock.send(b"l\0s")
        end = self.ended()
        self.assertEqual((end["outcome"], end["status"]), ("denied", 126))

    def test_fault(self) -> None:
        """Nor does a fault of ours leave a start without an end."""

        def fail(launch: object, receiver: object) -> None:
            raise ZeroDivisionError

        self.patch(self.factory, "_spawner", fail)
        with capturedLogs():
            self.sock.send(b"ls")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.ended()["outcome"], "not-started")
        self.assertIsNotNone(self.sock.lost)

    def closeLogWith(self, ended: Deferred[None]) -> None:
        """Close the audit log as soon as the factory says that all has ended."""

        def close(_: object) -> None:
            self.notes.failure = AuditUnavailable("The audit log is not open.")

        ended.addCallback(close)

    def test_stop(self) -> None:
        """When the service stops, the end of the last command comes before the log is closed."""
        self.sock.send(b"sleep 9")
        ended = self.factory.abortConnections()
        self.closeLogWith(ended)
        self.sock.pair.flush()
        self.assertNoResult(ended)
        self.command.die(15)
        self.successResultOf(ended)
        self.assertEqual(self.ended()["outcome"], "signalled")

    def test_stopWhileWaiting(self) -> None:
        """A service that stops waits for a command that was about to start, and tells its end."""
        self.notes.holding = True
        self.sock.send(b"sleep 9")
        ended = self.factory.abortConnections()
        self.closeLogWith(ended)
        self.sock.pair.flush()
        self.assertNoResult(ended)
        self.notes.let()
        self.successResultOf(ended)
        self.assertEqual(self.ended()["outcome"], "not-started")
        self.assertEqual(self.spawner.commands, [])

    def test_unavailable(self) -> None:
        """That the end cannot be recorded does not keep the answer from the client."""
        self.sock.send(b"ls")
        self.notes.failure = AuditUnavailable("full")
        self.command.out(b"x")
        self.command.exit()
        self.assertEqual(self.sock.recv(10), b"x")


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
        self.assertIsNone(self.successResultOf(self.factory.abortConnections()))

    def test_permit(self) -> None:
        """A fault while permission is asked for, now or after a while, ends the connection."""
        failing = mock.Mock(side_effect=ZeroDivisionError)
        for target, name in ((self.notes, "record"), (Policy, "shell")):
            self.oversee()
            patched = self.patch(target, name, failing)
            self.broken(lambda: self.sock.send(b"ls"))
            patched.restore()
        self.notes.holding = True
        self.oversee()
        self.sock.send(b"ls")
        self.broken(lambda: self.notes.giveUp(ZeroDivisionError()))

    def test_answer(self) -> None:
        """So does one while an answer is made."""
        self.oversee()
        self.sock.send(b"ls")
        self.patch(self.factory, "transcode", mock.Mock(side_effect=ZeroDivisionError))
        self.broken(self.command.exit)

    def test_heldBehind(self) -> None:
        """A fault behind chunks that wait ends the connection, and runs none of them."""
        self.notes.holding = True
        self.sock.send(b"one")
        self.sock.send(b"two")
        self.broken(lambda: self.notes.giveUp(ZeroDivisionError()))
        self.assertEqual(self.spawner.commands, [])
