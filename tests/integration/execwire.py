"""
Native exec as a client of its own that knows frames, msgpack and nothing else: a test writes each
record or byte, and reads what comes; and the services that such tests start.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import (
    SOCKET_TIMEOUT,
    Place,
    ServedTestCase,
    Twistd,
    alive,
    bearing,
    eventually,
    kill,
)
from twisted_netsuite.rexec.flow import Count
from twisted_netsuite.rexec.launch import OutputStream
from twisted_netsuite.rexec.messages import (
    RECORDS,
    Attach,
    Credit,
    Detached,
    End,
    Start,
    Started,
    Stderr,
    Stdout,
)
from twisted_netsuite.rexec.outcome import Outcome
from twisted_netsuite.wire.session import Error, Hello, Ping, Pong, Record, SessionCodec, Welcome

R = TypeVar("R", bound=Record)

CODEC = SessionCodec(RECORDS)
HELLO = Hello(versions=(1,), service="exec", client="test")

#: Reads of a socket: output of megabytes comes in few.
PIECE = 2**18

#: What this process has in its environment, so that what it has started can be found.
MARK = "NETSUITE_TEST_COMMAND"

#: Starts everything that could stay: in the background, in a session of its own, twice forked,
#: deaf to TERM and HUP, stopped; prints a line once all of it is there.
FAMILY = """
    trap '' HUP
    sleep 1000 &
    setsid sleep 1000 &
    (setsid sh -c 'sleep 1000 & sleep 1000' &)
    (trap '' TERM INT; sleep 1000 & exec sleep 1000) &
    setsid sh -c 'kill -STOP $$; exec sleep 1000' &
    python3 -c 'import os, time
if not os.fork():
    os.setsid()
    if not os.fork():
        os.closerange(0, 100)
        time.sleep(1000)
    os._exit(0)'
    """

#: Processes of the family, with the shell.
FAMILY_SIZE = 10


def framed(data: bytes) -> bytes:
    """Write a frame."""
    return struct.pack("!I", len(data)) + data


def packed(*records: Record) -> bytes:
    """Write records as frames."""
    return b"".join(framed(CODEC.encode(record)) for record in records)


@dataclass(frozen=True)
class Finished:
    """
    A command that has ended.

    @ivar started: what the server said at its beginning; C{None} when it was not started.
    @ivar stdout: what came of standard output on this connection.
    @ivar stderr: the same of standard error.
    @ivar end: what the server said at its end.
    """

    started: Started | None
    stdout: bytes
    stderr: bytes
    end: End

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return self.end.outcome


class Wire:
    """
    One connection.

    @ivar socket: it.
    """

    def __init__(
        self, test: SynchronousTestCase, place: Place, *, hello: Hello | None = HELLO
    ) -> None:
        """
        Connect until the end of a test.

        @param test: closes it.
        @param place: where to.
        @param hello: what to say first, and be welcomed for; C{None} for nothing.
        """
        self.socket = place.socket()
        test.addCleanup(self.socket.close)
        self._buffer = bytearray()
        self._channel = 0
        if hello is not None:
            self.send(hello)
            welcome = self.read()
            assert isinstance(welcome, Welcome), welcome

    def send(self, *records: Record) -> None:
        """Write records."""
        self.socket.sendall(packed(*records))

    def flood(self, data: bytes) -> None:
        """Write bytes for as long as the server reads them."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.socket.sendall(data)

    def close(self) -> None:
        """Break the connection, without a word."""
        self.socket.close()

    def read(self) -> Record | None:
        """
        Read a record.

        @return: the next, but for PING, which is answered; C{None} at the end.
        """
        while True:
            record = self._frame()
            if not isinstance(record, Ping):
                return record
            self.send(Pong(id=record.id))

    def _frame(self) -> Record | None:
        if not self._filled(4):
            return None
        size = struct.unpack("!I", self._buffer[:4])[0]
        assert self._filled(4 + size), "the server has cut a frame"
        body = bytes(self._buffer[4 : 4 + size])
        del self._buffer[: 4 + size]
        return CODEC.decode(body)

    def _filled(self, size: int) -> bool:
        while len(self._buffer) < size:
            try:
                piece = self.socket.recv(PIECE)
            except ConnectionResetError:
                piece = b""
            if not piece:
                assert not self._buffer, "the server has cut a frame"
                return False
            self._buffer += piece
        return True

    def expect(self, kind: type[R]) -> R:
        """
        Read a record of a kind.

        @param kind: what it has to be.
        @return: it.
        """
        record = self.read()
        assert isinstance(record, kind), record
        return record

    def refused(self) -> Error:
        """
        Read the error with which the server ends the session, and the end.

        @return: the error.
        """
        error = self.expect(Error)
        assert error.fatal, error
        assert self.read() is None
        return error

    def channel(self) -> int:
        """Choose the number of a new channel."""
        self._channel += 1
        return self._channel

    def start(self, *argv: bytes | str | Path, **options: Any) -> int:
        """
        Ask for a command.

        @param argv: program and arguments; a lone text is a line for a shell.
        @param options: of START.
        @return: its channel.
        """
        words = tuple(map(os.fsencode, argv))
        if len(argv) == 1 and isinstance(argv[0], str):
            words = (b"sh", b"-c", *words)
        channel = self.channel()
        self.send(Start(channel=channel, argv=words, **options))
        return channel

    def started(self, *argv: bytes | str | Path, **options: Any) -> Started:
        """Start a command, and wait until it runs."""
        self.start(*argv, **options)
        return self.expect(Started)

    def attach(self, id: str, **options: Any) -> int:
        """Ask to go on with a command."""
        channel = self.channel()
        self.send(Attach(channel=channel, id=id, **options))
        return channel

    def finish(self, channel: int, started: Started | None = None, first: bytes = b"") -> Finished:
        """
        Take all output of a command, to its end.

        @param channel: its own; nothing else is open.
        @param started: what was read already.
        @param first: the same of standard output.
        @return: all of it, once its digests were found to be those of what came.
        """
        streams: dict[OutputStream, bytearray] = {
            "stdout": bytearray(first),
            "stderr": bytearray(),
        }
        while True:
            record = self.read()
            match record:
                case Started():
                    started = record
                case Stdout() | Stderr():
                    name: OutputStream = "stdout" if isinstance(record, Stdout) else "stderr"
                    streams[name] += record.data
                    count = len(record.data)
                    with contextlib.suppress(ConnectionError):
                        self.send(Credit(channel=channel, stream=name, count=count))
                case End():
                    break
                case _:
                    raise AssertionError(record)
        out, err = bytes(streams["stdout"]), bytes(streams["stderr"])
        for data, all_, here in (
            (out, record.stdout, record.stdoutHere),
            (err, record.stderr, record.stderrHere),
        ):
            assert counted(data) == (here or all_), record
        return Finished(started, out, err, record)

    def run(self, *argv: bytes | str | Path, **options: Any) -> Finished:
        """Run a command to its end."""
        return self.finish(self.start(*argv, **options))

    def detached(self) -> Detached:
        """Read that another connection follows the command now."""
        return self.expect(Detached)


def counted(data: bytes) -> Any:
    """Count what has come."""
    count = Count()
    count.add(data)
    return count.tally()


def lone(error: Error) -> str:
    """Tell what a person would read, which is one line."""
    assert "\n" not in error.message and "\x1b" not in error.message, error
    return f"{error.code}: {error.message}"


class ExecTestCase(ServedTestCase):
    """Tests of one running exec service; what its commands leave behind fails them."""

    suite = """
    [exec.main]
    listen = ["tcp:0:interface=127.0.0.1"]
    allow-any = true
    state = "{dir}/state"
    max-per-source = 0
    """

    def wire(self, **options: Any) -> Wire:
        """Connect."""
        return Wire(self, self.twistd.place("exec.main"), **options)

    @property
    def address(self) -> str:
        """An ADDRESS of the C{netsuite} program."""
        return self.twistd.place("exec.main").text

    def assertServes(self) -> None:
        """The service runs commands as ever."""
        self.assertEqual(self.wire().run("echo", "hello").stdout, b"hello\n")

    def logged(self, words: str) -> str:
        """Wait for words in the log, and find their line."""
        eventually(lambda: words in self.twistd.log(), f"{words!r} in the log")
        return next(line for line in self.twistd.log().splitlines() if words in line)

    def mark(self, value: str) -> str:
        """
        Choose a variable that marks the processes of a command.

        @param value: of the test.
        @return: C{NAME=VALUE}; what bears it at the end of the test is killed.
        """
        word = f"{MARK}={value}-{os.getpid()}"
        self.addCleanup(killBearing, word)
        return word

    def assertGone(self, word: str) -> None:
        """No process bears a mark any more."""
        eventually(lambda: not bearing(word), f"the end of all that bears {word}", SOCKET_TIMEOUT)


def killBearing(word: str) -> None:
    """End whatever bears a mark."""
    for pid in bearing(word):
        kill(pid)


def family(word: str) -> bool:
    """Tell whether the whole L{FAMILY} that bears a mark is there."""
    return len(bearing(word)) >= FAMILY_SIZE


def gone(word: str) -> bool:
    """Tell whether nothing bears a mark any more."""
    return not bearing(word)


def environment(word: str) -> Mapping[str, bytes]:
    """Write a mark as the variables of a START."""
    name, _, value = word.partition("=")
    return {name: value.encode()}


def words(path: Path) -> list[str]:
    """Read a file that may not be there yet."""
    return path.read_text().split() if path.exists() else []


def living(pids: Iterable[int]) -> list[int]:
    """Tell which processes run."""
    return [pid for pid in pids if alive(pid)]


def memory(running: Twistd) -> int:
    """Tell how many bytes a service holds."""
    text = Path(f"/proc/{running.pid}/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def busy(running: Twistd) -> float:
    """Tell how many seconds of processor time a service has used."""
    fields = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reset(stream: socket.socket) -> None:
    """Break a connection by RST."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()
