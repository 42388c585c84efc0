"""
Recordings as a player of asciicast v2 reads them, and what becomes of them when the disk fails.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import AuditUnavailable, ConfigurationError
from twisted_netsuite.rexec.launch import TerminalSize
from twisted_netsuite.rexec.recording import (
    BUFFER,
    FLUSH_INTERVAL,
    MAX_COMMAND,
    MAX_RECORDING,
    Recording,
    RecordingFailed,
    prepareRecordings,
)

#: 2026-11-21 13:28:03.25 UTC.
BEGUN = 1795267683.25


class RecordingCase(SynchronousTestCase):
    """Recordings in a directory, on a clock that the test moves."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.clock = Clock()
        self.clock.advance(BEGUN)

    def make(self, argv: tuple[bytes, ...] = (b"ls",), **more: Any) -> Recording:
        """Begin a recording."""
        recording = Recording(self.directory, "abc", argv, self.clock, **more)
        self.addCleanup(recording.close)
        return recording

    def lines(self, recording: Recording) -> list[Any]:
        """Read a file as a player does: every line by itself."""
        text = Path(recording.path).read_bytes()
        self.assertTrue(text.endswith(b"\n"))
        return [json.loads(line) for line in text[:-1].split(b"\n")]

    def events(self, recording: Recording) -> list[Any]:
        """Read what stands behind the header, after the end."""
        recording.close()
        return self.lines(recording)[1:]

    def break_(self, name: str, number: int = errno.ENOSPC) -> Callable[[], None]:
        """Let a call of the system fail until the answer is called."""
        original = getattr(os, name)

        def failing(*args: Any, **more: Any) -> Any:
            raise OSError(number, os.strerror(number))

        def restore() -> None:
            setattr(os, name, original)

        setattr(os, name, failing)
        self.addCleanup(restore)
        return restore


class HeaderTests(RecordingCase):
    """The first line, and the file."""

    def test_terminal(self) -> None:
        """The header tells a player all that the format asks for, before the command writes."""
        size = TerminalSize(rows=50, cols=132)
        recording = self.make(
            (b"vim", b"a b"), terminal=size, term="xterm-256color", title="cert:anna"
        )
        self.assertEqual(
            self.lines(recording),
            [
                {
                    "version": 2,
                    "width": 132,
                    "height": 50,
                    "timestamp": 1795267683,
                    "command": "vim 'a b'",
                    "title": "cert:anna",
                    "env": {"TERM": "xterm-256color"},
                }
            ],
        )

    def test_noTerminal(self) -> None:
        """A command without a terminal is shown in one of the usual size, and without a title."""
        (header,) = self.lines(self.make())
        self.assertEqual((header["width"], header["height"]), (80, 24))
        self.assertEqual(header["env"], {"TERM": "dumb"})
        self.assertNotIn("title", header)

    def test_name(self) -> None:
        """The file is named by the time in UTC and the command."""
        self.assertEqual(os.path.basename(self.make().path), "20261121T132803Z-abc.cast")

    def test_private(self) -> None:
        """Nobody but its owner reads it, whatever the umask is."""
        self.addCleanup(os.umask, os.umask(0))
        self.assertEqual(stat.S_IMODE(os.stat(self.make().path).st_mode), 0o600)

    def test_anyArgument(self) -> None:
        """Arguments may be any bytes, and of any length."""
        (header,) = self.lines(self.make((b"\xff\x1b[2J\n", b"\xe2\x82\xac" * 5000)))
        self.assertTrue(header["command"].startswith("'\ufffd\x1b[2J\n' '€€"))
        self.assertEqual(len(header["command"]), MAX_COMMAND)
        self.assertTrue(header["command"].endswith("…"))

    def test_taken(self) -> None:
        """What is there already, a link to nothing too, is neither overwritten nor followed."""
        path = Path(self.directory, "20261121T132803Z-abc.cast")
        target = Path(self.directory, "target")
        path.symlink_to(target)
        self.assertRaises(RecordingFailed, self.make)
        self.assertFalse(target.exists())
        path.unlink()
        path.write_text("mine")
        self.assertRaises(RecordingFailed, self.make)
        self.assertEqual(path.read_text(), "mine")

    def test_noDirectory(self) -> None:
        """Where no file can be made there is no recording, and no path in what a peer is told."""
        os.rmdir(self.directory)
        error: AuditUnavailable = self.assertRaises(RecordingFailed, self.make)
        self.assertEqual(
            error.sentence,
            "The command's recording cannot be written: no such file or directory; the server's "
            "operator has to mend that.",
        )

    def test_fullFromTheStart(self) -> None:
        """A disk that has no room for the header fails at once, and no empty file stays."""
        self.break_("write")
        self.assertRaises(RecordingFailed, self.make)
        self.assertEqual(os.listdir(self.directory), [])


class EventTests(RecordingCase):
    """What comes behind the header."""

    def test_output(self) -> None:
        """Output has the time since the start, on a clock in seconds."""
        recording = self.make(terminal=TerminalSize(24, 80))
        recording.output("stdout", b"$ ")
        self.clock.advance(1.5)
        recording.output("stdout", b"ls\r\n")
        self.clock.advance(0.25)
        recording.resize(100, 30)
        self.assertEqual(
            self.events(recording), [[0.0, "o", "$ "], [1.5, "o", "ls\r\n"], [1.75, "r", "100x30"]]
        )

    def test_bothStreams(self) -> None:
        """Both streams of a command without a terminal are there, in the order they came."""
        recording = self.make()
        recording.output("stdout", b"one\n")
        recording.output("stderr", b"two\n")
        recording.output("stdout", b"three")
        self.assertEqual(
            [text for _, _, text in self.events(recording)], ["one\r\n", "two\r\n", "three"]
        )

    def test_splitCharacter(self) -> None:
        """A character that comes in pieces is one character, also when the streams alternate."""
        recording = self.make()
        for byte in "€".encode():
            recording.output("stdout", bytes([byte]))
            recording.output("stderr", b"e")
        texts = [text for _, _, text in self.events(recording)]
        self.assertEqual(texts, ["e", "e", "€", "e"])

    def test_invalid(self) -> None:
        """Bytes that are no UTF-8 are shown as such, and half a character at the end is told."""
        recording = self.make()
        recording.output("stdout", b"a\xffb\xe2\x82")
        self.assertEqual(self.events(recording), [[0.0, "o", "a\ufffdb"], [0.0, "o", "\ufffd"]])

    def test_lineEnds(self) -> None:
        """Without a terminal a line end becomes what a player needs, once, however it is split."""
        for pieces, shown in (
            ([b"a\nb\n"], "a\r\nb\r\n"),
            ([b"a\r\nb\n"], "a\r\nb\r\n"),
            ([b"a\r", b"\nb"], "a\r\nb"),
            ([b"a", b"\n", b"\n"], "a\r\n\r\n"),
            ([b"a\r", b"b\n"], "a\rb\r\n"),
            ([b"a\r", b"", b"\n\n"], "a\r\n\r\n"),
        ):
            recording = self.make()
            for piece in pieces:
                recording.output("stdout", piece)
            self.assertEqual("".join(text for _, _, text in self.events(recording)), shown)
            os.unlink(recording.path)

    def test_lineEndsOfTerminal(self) -> None:
        """What a terminal has made of its line ends is left alone."""
        recording = self.make(terminal=TerminalSize(24, 80))
        recording.output("stdout", b"a\nb\r\n")
        self.assertEqual(self.events(recording), [[0.0, "o", "a\nb\r\n"]])

    def test_control(self) -> None:
        """Whatever the text is, a line of the file is one line."""
        text = "".join(map(chr, range(32))) + '\x7f\x85\u2028\u2029"\\'
        recording = self.make(terminal=TerminalSize(24, 80))
        recording.output("stdout", text.encode())
        self.assertEqual(self.events(recording), [[0.0, "o", text]])

    def test_clockSetBack(self) -> None:
        """A film does not go backwards when the time of day does."""
        recording = self.make()
        self.clock.advance(5)
        recording.output("stdout", b"a")
        self.clock.rightNow -= 3
        recording.output("stdout", b"b")
        self.assertEqual([moment for moment, _, _ in self.events(recording)], [5.0, 5.0])

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=60), st.lists(st.integers(0, 60)), st.booleans())
    def test_anySplit(self, data: bytes, cuts: list[int], terminal: bool) -> None:
        """However output is split, the film shows the same text."""
        shown = data.decode("utf-8", "replace")
        if not terminal:
            shown = shown.replace("\r\n", "\n").replace("\n", "\r\n")
        recording = self.make(terminal=TerminalSize(24, 80) if terminal else None)
        places = [0, *sorted(cuts), len(data)]
        for start, end in pairwise(places):
            recording.output("stdout", data[start:end])
        self.assertEqual("".join(text for _, _, text in self.events(recording)), shown)
        os.unlink(recording.path)


class FlushTests(RecordingCase):
    """What waits in memory."""

    def test_inTime(self) -> None:
        """Output is in the file a second after it came, and then nothing is pending."""
        recording = self.make()
        recording.output("stdout", b"a")
        self.clock.advance(FLUSH_INTERVAL / 2)
        recording.output("stdout", b"b")
        self.assertEqual(len(self.lines(recording)), 1)
        self.clock.advance(FLUSH_INTERVAL / 2)
        self.assertEqual(len(self.lines(recording)), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_much(self) -> None:
        """What is more than the buffer is written at once, and memory stays small."""
        recording = self.make()
        for _ in range(10):
            recording.output("stdout", b"x" * (BUFFER // 3))
        self.assertGreater(os.path.getsize(recording.path), BUFFER * 2)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_close(self) -> None:
        """At the end all is in the file, nothing is pending, and no file is open."""
        before = len(os.listdir("/proc/self/fd"))
        recording = self.make()
        recording.output("stdout", b"a")
        recording.close()
        recording.close()
        self.assertEqual(len(self.lines(recording)), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_afterwards(self) -> None:
        """What comes after the end is refused, not lost silently."""
        recording = self.make()
        recording.close()
        self.assertRaises(RecordingFailed, recording.output, "stdout", b"a")
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LimitTests(RecordingCase):
    """The largest recording."""

    def test_cut(self) -> None:
        """A recording that reaches its limit says so in a marker, and grows no more."""
        recording = self.make(limit=2000)
        for _ in range(1000):
            recording.output("stdout", b"x" * 20)
            self.clock.advance(1)
        recording.resize(1, 1)
        self.assertTrue(recording.isCut)
        *before, last = self.events(recording)
        self.assertEqual({code for _, code, _ in before}, {"o"})
        self.assertEqual(last[1:], ["m", "Not recorded from here on: the limit is 2000 bytes."])
        self.assertLessEqual(os.path.getsize(recording.path), 2000)
        self.assertGreater(os.path.getsize(recording.path), 1600)

    def test_cutIsTold(self) -> None:
        """The log says once that the command runs on and is not recorded."""
        recording = self.make(limit=2000)
        with capturedLogs() as events:
            for _ in range(5):
                recording.output("stdout", b"x" * 2000)
        (told,) = (formatEvent(each) for each in events)
        self.assertEqual(
            told,
            f"{recording.path}: not recorded from here on, the limit is 2000 bytes; the command "
            "runs on",
        )
        self.assertEqual([each["log_level"].name for each in events], ["warn"])

    def test_cutCostsNothing(self) -> None:
        """What is not recorded any more is not looked at."""
        recording = self.make(limit=2000)
        recording.output("stdout", b"x" * 2000)
        unread: Any = object()
        recording.output("stdout", unread)
        recording.close()
        self.assertRaises(RecordingFailed, recording.output, "stdout", b"y")

    def test_onePiece(self) -> None:
        """A piece that does not fit is left out as a whole, however large it is."""
        recording = self.make(limit=2000)
        recording.output("stdout", b"\x00" * 65536)
        self.assertEqual([code for _, code, _ in self.events(recording)], ["m"])

    def test_default(self) -> None:
        """A short session is far from the limit."""
        self.assertEqual(MAX_RECORDING, 67108864)
        recording = self.make()
        recording.output("stdout", b"x" * 65536)
        self.assertFalse(recording.isCut)


class FaultTests(RecordingCase):
    """A disk that fails."""

    def test_output(self) -> None:
        """What cannot be written is told to whoever records, and everything after it, too."""
        recording = self.make()
        recording.output("stdout", b"kept")
        self.clock.advance(FLUSH_INTERVAL)
        restore = self.break_("write")
        error = self.assertRaises(RecordingFailed, recording.output, "stdout", b"x" * BUFFER)
        self.assertIn("no space left on device", error.sentence)
        self.assertNotIn(self.directory, error.sentence)
        restore()
        again = self.assertRaises(RecordingFailed, recording.output, "stdout", b"y")
        self.assertEqual(again.sentence, error.sentence)
        self.assertRaises(RecordingFailed, recording.resize, 1, 1)
        self.assertEqual(self.events(recording), [[0.0, "o", "kept"]])

    def test_inTime(self) -> None:
        """What fails while nobody writes is told, too, so that a quiet command does not run on."""
        recording = self.make()
        told: list[RecordingFailed] = []
        recording.onFailed = told.append
        recording.output("stdout", b"a")
        self.break_("write", errno.EIO)
        self.clock.advance(FLUSH_INTERVAL)
        self.assertEqual(len(told), 1)
        self.assertIn("input/output error", told[0].sentence)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertRaises(RecordingFailed, recording.output, "stdout", b"b")

    def test_atTheEnd(self) -> None:
        """What fails at the end is told, and the file is closed all the same."""
        recording = self.make()
        recording.output("stdout", b"a")
        before = len(os.listdir("/proc/self/fd"))
        self.break_("write")
        self.assertRaises(RecordingFailed, recording.close)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before - 1)
        recording.close()

    def test_half(self) -> None:
        """A disk that takes half a line keeps none of it: every line of the file can be read."""
        recording = self.make()
        recording.output("stdout", b"kept")
        self.clock.advance(FLUSH_INTERVAL)
        real, sizes = os.write, iter([10])

        def half(descriptor: int, data: bytes) -> int:
            size = next(sizes, None)
            if size is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(descriptor, data[:size])

        self.patch(os, "write", half)
        self.assertRaises(RecordingFailed, recording.output, "stdout", b"x" * BUFFER)
        self.assertEqual(len(self.lines(recording)), 2)

    def test_shortWrites(self) -> None:
        """A system that takes some bytes at a time gets them all."""
        real = os.write
        self.patch(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
        recording = self.make()
        recording.output("stdout", b"x" * 100)
        self.assertEqual(self.events(recording), [[0.0, "o", "x" * 100]])


class PrepareTests(RecordingCase):
    """L{prepareRecordings}."""

    def test_made(self) -> None:
        """A directory that is not there is made for its owner alone; one that is stays."""
        path = os.path.join(self.directory, "casts")
        prepareRecordings(path)
        prepareRecordings(path)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o700)
        self.assertEqual(os.listdir(path), [])

    def test_refused(self) -> None:
        """What cannot be written to is refused in a sentence that names it."""
        file = os.path.join(self.directory, "file")
        Path(file).touch()
        for path in (file, os.path.join(self.directory, "no", "parent")):
            error = self.assertRaises(ConfigurationError, prepareRecordings, path)
            self.assertIn(repr(path), error.sentence)
        os.chmod(self.directory, 0o770)
        error = self.assertRaises(ConfigurationError, prepareRecordings, self.directory)
        self.assertIn(f"Others than its owner may write to {self.directory!r}", error.sentence)
        os.chmod(self.directory, 0o700)
        with mock.patch("os.geteuid", lambda: os.getuid() + 1):
            error = self.assertRaises(ConfigurationError, prepareRecordings, self.directory)
        self.assertIn(f"{self.directory!r} belongs to another account", error.sentence)
        self.assertEqual(os.listdir(self.directory), ["file"])
        self.break_("open", errno.EROFS)
        error = self.assertRaises(ConfigurationError, prepareRecordings, self.directory)
        self.assertIn("read-only file system", error.sentence)
