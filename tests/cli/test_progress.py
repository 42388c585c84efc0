"""
How far a transfer is, on a terminal.
"""

from __future__ import annotations

import io
import os
import sys
import threading

from twisted.trial.unittest import SynchronousTestCase

from tests.cli.terminal import Screen
from twisted_netsuite.cli.progress import (
    LEAP,
    Progress,
    isSeen,
    rateText,
    shownFile,
    sizeText,
    wholeText,
)
from twisted_netsuite.errors import Conflict


class Terminal(io.StringIO):
    """
    A terminal of 80 columns.

    @ivar isOne: whether it is one.
    """

    isOne = True

    def isatty(self) -> bool:
        return self.isOne

    def line(self) -> str:
        """Read what stands on the last line, as a terminal would show it."""
        shown: list[str] = []
        at = 0
        for character in self.getvalue().rpartition("\n")[2]:
            if character == "\r":
                at = 0
                continue
            shown[at : at + 1] = character
            at += 1
        return "".join(shown).rstrip()


class ProgressTests(SynchronousTestCase):
    """L{Progress}."""

    def setUp(self) -> None:
        self.terminal = Terminal()
        self.progress = Progress(True, self.terminal, 0.0)

    def test_file(self) -> None:
        """A file has its name, its bytes and its size on the line, and the line is gone at the
        end."""
        with self.progress as progress:
            self.assertEqual(self.terminal.getvalue(), "")
            progress.begin(b"a.iso", 4 * 1024 * 1024)
            progress.moved(1024 * 1024)
            line = self.terminal.line()
            self.assertTrue(line.startswith("a.iso:  25%|"), line)
            self.assertIn("1.00M/4.00M", line)
            progress.moved(-512 * 1024)
            self.assertIn("512k/4.00M", self.terminal.line())
            progress.moved(1)
        self.assertEqual(self.terminal.line(), "")
        self.assertNotIn("\n", self.terminal.getvalue())

    def test_leap(self) -> None:
        """What was there before is on the line, and counts for no rate."""
        with self.progress as progress:
            progress.begin(b"a", 400 * LEAP)
            progress.moved(300 * LEAP)
            line = self.terminal.line()
            self.assertIn("300M/400M", line)
            self.assertNotRegex(line, r"[1-9][0-9.]*[kMGT]?B/s")

    def test_unknown(self) -> None:
        """What has no known size has its bytes on the line."""
        with self.progress as progress:
            progress.begin(b"-", None)
            progress.moved(2048)
            self.assertIn("2.00kB", self.terminal.line())

    def test_tree(self) -> None:
        """A tree has its files on the line, too: those that are done, and those that fail."""
        with self.progress as progress:
            progress.planned(3, 3000)
            self.assertTrue(self.terminal.line().startswith("0/3 files:   0%|"))
            progress.finished(b"a", "new")
            progress.finished(b"d", "made")
            progress.failed(b"b", Conflict("It is there."))
            progress.moved(1000)
            self.assertTrue(self.terminal.line().startswith("2/3 files:  33%|"))
            for _ in range(5):
                progress.finished(b"c", "size")
            progress.moved(1000)
            self.assertTrue(self.terminal.line().startswith("3/3 files:  67%|"))
        self.assertEqual(self.terminal.line(), "")

    def test_whole(self) -> None:
        """Of a file that was there in part it is told how much has moved, and its rate is that of
        this."""
        self.assertEqual(
            wholeText(4 * LEAP, LEAP, "came", 2.0),
            "4.0 MiB, of which 1.0 MiB came in 2.0 s, 512.0 KiB/s",
        )
        self.assertEqual(wholeText(LEAP, LEAP, "came", 2.0), "1.0 MiB in 2.0 s, 512.0 KiB/s")

    def test_again(self) -> None:
        """What begins anew begins at nothing."""
        with self.progress as progress:
            progress.begin(b"a", 1000)
            progress.moved(900)
            progress.begin(b"a", 1000)
            self.assertTrue(self.terminal.line().startswith("a:   0%|"))

    def test_cleaned(self) -> None:
        """No name does anything to the terminal, nor takes its whole width."""
        with self.progress as progress:
            progress.begin(b"\x1b[2J\n\xff" + 300 * b"x", 1000)
            progress.moved(1)
            self.assertNotIn("\x1b", self.terminal.getvalue())
            self.assertNotIn("\n", self.terminal.getvalue())
            self.assertNotIn(40 * "x", self.terminal.getvalue())

    def test_say(self) -> None:
        """What is said stands on a line of its own, and the progress below it."""
        self.patch(sys, "stderr", self.terminal)
        with self.progress as progress:
            progress.say("One.")
            progress.begin(b"a", 1000)
            progress.moved(500)
            progress.say("Two.")
            lines = self.terminal.getvalue().split("\n")
            self.assertEqual(lines[0], "netsuite: One.")
            self.assertTrue(lines[1].endswith("\rnetsuite: Two."), lines)
            self.assertTrue(self.terminal.line().startswith("a:  50%|"))
        self.assertEqual(self.terminal.line(), "")

    def test_failure(self) -> None:
        """Whatever happens, the line is gone."""

        def fails(error: BaseException) -> None:
            with Progress(True, self.terminal, 0.0) as progress:
                progress.begin(b"a", 1000)
                progress.moved(1)
                raise error

        for error in (ValueError(), KeyboardInterrupt(), GeneratorExit()):
            self.assertRaises(type(error), fails, error)
            self.assertEqual(self.terminal.line(), "")

    def test_closed(self) -> None:
        """What is told after the end changes nothing."""
        with self.progress as progress:
            progress.begin(b"a", 1000)
            progress.close()
            before = self.terminal.getvalue()
            progress.moved(1)
            progress.finished(b"a", "new")
            progress.close()
        self.assertEqual(self.terminal.getvalue(), before)

    def test_notShown(self) -> None:
        """Where nobody looks nothing is shown, but for what is said."""
        screen = Screen(self)
        with Progress(False, self.terminal, 0.0) as progress:
            progress.begin(b"a", 1000)
            progress.planned(1, 1000)
            progress.moved(1000)
            progress.finished(b"a", "new")
            progress.say("One.")
        self.assertEqual(self.terminal.getvalue(), "")
        self.assertEqual(screen.err, "netsuite: One.\n")

    def test_alone(self) -> None:
        """The line takes no thread."""
        before = threading.active_count()
        with self.progress as progress:
            progress.begin(b"a", 1000)
            progress.moved(1)
            self.assertEqual(threading.active_count(), before)

    def test_seen(self) -> None:
        """Progress is shown on a terminal that can, and nowhere else."""
        environment = {**os.environ, "TERM": "xterm"}
        self.patch(os, "environ", environment)
        self.assertTrue(isSeen(self.terminal))
        environment["TERM"] = "dumb"
        self.assertFalse(isSeen(self.terminal))
        environment["TERM"] = "xterm"
        self.terminal.isOne = False
        self.assertFalse(isSeen(self.terminal))
        closed = io.StringIO()
        closed.close()
        self.assertFalse(isSeen(closed))


class WordsTests(SynchronousTestCase):
    """How numbers and names are written."""

    def test_sizes(self) -> None:
        """A size has the unit that a person would choose."""
        for count, text in (
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024**2 - 1, "1.0 MiB"),
            (10 * 1024**3, "10.0 GiB"),
            (1024**4, "1.0 TiB"),
            (2000 * 1024**5, "2000.0 PiB"),
        ):
            self.assertEqual(sizeText(count), text)

    def test_rates(self) -> None:
        """A rate is told where there is one."""
        self.assertEqual(rateText(2 * 1024**2, 2.0), "2.0 s, 1.0 MiB/s")
        self.assertEqual(rateText(0, 2.04), "2.0 s")
        self.assertEqual(rateText(5, 0.0), "0.0 s")

    def test_names(self) -> None:
        """A name is one line."""
        self.assertEqual(shownFile(b"a\nb\x1b"), "a b\ufffd")
        self.assertEqual(len(shownFile(500 * b"x")), 60)
