"""
Reading lines from standard input.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from tests.cli.terminal import Keyboard
from twisted_netsuite.cli.lines import LineReader


class LineReaderTests(SynchronousTestCase):
    """L{LineReader} over a pipe."""

    def setUp(self) -> None:
        self.open()

    def open(self) -> None:
        """Begin with a pipe of its own."""
        self.reactor = MemoryReactor()
        self.keyboard = Keyboard(self, self.reactor)
        self.lines = LineReader(self.reactor, self.keyboard.descriptor)

    def read(self) -> Deferred[str | None]:
        """Ask for a line."""
        return Deferred.fromCoroutine(self.lines.readLine())

    def test_line(self) -> None:
        """A line comes once it is whole, without its end, whether that is LF or CR LF."""
        for typed, line in (
            ("hello\n", "hello"),
            ("hello\r\n", "hello"),
            ("\n", ""),
            (" a ", None),
        ):
            reading = self.read()
            self.assertNoResult(reading)
            self.keyboard.type(typed)
            if line is None:
                self.assertNoResult(reading)
                self.keyboard.type("b\n")
                line = " a b"
            self.assertEqual(self.successResultOf(reading), line)

    def test_pieces(self) -> None:
        """A line that comes byte by byte is one line, a character that is split among them."""
        reading = self.read()
        for byte in "né\r\n".encode():
            self.keyboard.type(bytes([byte]))
        self.assertEqual(self.successResultOf(reading), "né")

    def test_several(self) -> None:
        """Several lines that come at once are given out one after another."""
        reading = self.read()
        self.keyboard.type("one\ntwo\nthr")
        self.assertEqual(self.successResultOf(reading), "one")
        self.assertEqual(self.successResultOf(self.read()), "two")
        reading = self.read()
        self.assertNoResult(reading)
        self.keyboard.type("ee\n")
        self.assertEqual(self.successResultOf(reading), "three")

    def test_readsOnlyWhenAsked(self) -> None:
        """Input is watched only while a line is waited for, so that others may read it."""
        self.assertEqual(self.reactor.getReaders(), [])
        reading = self.read()
        self.assertEqual(self.reactor.getReaders(), [self.lines])
        self.keyboard.type("one\n")
        self.successResultOf(reading)
        self.assertEqual(self.reactor.getReaders(), [])

    def test_end(self) -> None:
        """The end of input is told for good, after a last line that has no end of its own."""
        reading = self.read()
        self.keyboard.type("one\nla")
        self.assertEqual(self.successResultOf(reading), "one")
        reading = self.read()
        self.keyboard.type("st")
        self.keyboard.end()
        self.assertEqual(self.successResultOf(reading), "last")
        for _ in range(2):
            self.assertIsNone(self.successResultOf(self.read()))
        self.assertEqual(self.reactor.getReaders(), [])

    def test_endAtOnce(self) -> None:
        """Empty input has no line."""
        reading = self.read()
        self.keyboard.end()
        self.assertIsNone(self.successResultOf(reading))

    def test_ended(self) -> None:
        """Reading can be ended from elsewhere: what has come can still be taken."""
        reading = self.read()
        self.lines.end()
        self.assertIsNone(self.successResultOf(reading))
        self.assertEqual(self.reactor.getReaders(), [])

    def test_cancel(self) -> None:
        """Who no longer waits watches nothing."""
        reading = self.read()
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertEqual(self.reactor.getReaders(), [])

    def test_notUTF8(self) -> None:
        """Input that is not UTF-8 is read as well as it can be."""
        reading = self.read()
        self.keyboard.type(b"a\xffb\n")
        self.assertEqual(self.successResultOf(reading), "a\ufffdb")

    def test_names(self) -> None:
        """The reactor learns which descriptor it is, and the log what it is for."""
        self.assertEqual(self.lines.fileno(), self.keyboard.descriptor)
        self.assertEqual(self.lines.logPrefix(), "input")

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))),
        st.integers(1, 7),
    )
    def test_anySplit(self, lines: list[str], size: int) -> None:
        """However input is split, its lines are the same."""
        self.open()
        typed = "".join(line + "\n" for line in lines).encode()
        reading = self.read()
        got: list[str | None] = []
        for start in range(0, len(typed), size):
            self.keyboard.type(typed[start : start + size])
            while reading.called:
                got.append(self.successResultOf(reading))
                reading = self.read()
        self.keyboard.end()
        self.assertIsNone(self.successResultOf(reading))
        self.assertEqual(got, lines)
