"""
A terminal that is lent to a remote command: raw, given back, and left by an escape.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.cli.terminal import DescriptorReactor, closed, pipe
from twisted_netsuite.cli.signals import Signals
from twisted_netsuite.cli.terminal import (
    DEFAULT_COLS,
    DEFAULT_ROWS,
    EscapeFilter,
    RawTerminal,
    terminalSize,
)


class PtyTestCase(SynchronousTestCase):
    """
    Tests with a terminal.

    @ivar far: where a person would be.
    @ivar near: the terminal.
    """

    def setUp(self) -> None:
        self.far, self.near = pty.openpty()
        self.addCleanup(closed, self.far)
        self.addCleanup(closed, self.near)
        self.before = termios.tcgetattr(self.near)

    @property
    def raw(self) -> bool:
        """Whether it hands on each key, and shows none by itself."""
        modes = termios.tcgetattr(self.near)[3]
        return not modes & (termios.ICANON | termios.ECHO | termios.ISIG)

    def assertRestored(self) -> None:
        """It is just what it was."""
        self.assertEqual(termios.tcgetattr(self.near), self.before)


class SizeTests(PtyTestCase):
    """L{terminalSize}."""

    def resize(self, rows: int, cols: int) -> None:
        """Give the terminal a size."""
        fcntl.ioctl(self.near, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def test_size(self) -> None:
        """The first terminal among the descriptors tells it."""
        self.resize(30, 100)
        near, _ = pipe(self)
        self.assertEqual(terminalSize((near, self.near)), (30, 100))
        self.assertEqual(terminalSize((self.near,)).cols, 100)

    def test_none(self) -> None:
        """Where there is none, or it does not know, it is that of a terminal of old."""
        near, _ = pipe(self)
        self.assertEqual(terminalSize((near,)), (DEFAULT_ROWS, DEFAULT_COLS))
        for rows, cols in ((0, 0), (0, 80), (24, 0)):
            self.resize(rows, cols)
            self.assertEqual(terminalSize((self.near,)), (DEFAULT_ROWS, DEFAULT_COLS))


class RawTests(PtyTestCase):
    """L{RawTerminal}."""

    def test_within(self) -> None:
        """It is raw within the block, and after it what it was."""
        with RawTerminal(self.near):
            self.assertTrue(self.raw)
        self.assertRestored()

    def test_exception(self) -> None:
        """It is given back when the block fails."""
        with self.assertRaises(KeyError), RawTerminal(self.near):
            raise KeyError
        self.assertRestored()

    def test_endOfTheProgram(self) -> None:
        """It is given back at the end of the program, when the block never ends, and only then."""
        registered: list[object] = []
        self.patch(atexit, "register", registered.append)
        self.patch(atexit, "unregister", registered.remove)
        with RawTerminal(self.near) as raw:
            self.assertEqual(registered, [raw.restore])
            raw.restore()
            self.assertRestored()
        self.assertEqual(registered, [])

    def test_again(self) -> None:
        """It can be given back and taken any number of times; what it was stays known."""
        raw = RawTerminal(self.near)
        for _ in range(2):
            raw.enter()
            raw.enter()
            self.assertTrue(raw is not None and self.raw)
            raw.restore()
            raw.restore()
            self.assertRestored()

    def test_typedBefore(self) -> None:
        """What was typed before it was raw is not lost."""
        os.write(self.far, b"early")
        with RawTerminal(self.near):
            self.assertEqual(os.read(self.near, 100), b"early")

    def test_suspended(self) -> None:
        """Who stops for a while gives it back for that while."""
        seen = []

        def stop(pid: int, number: int) -> None:
            self.assertEqual((pid, number), (os.getpid(), signal.SIGSTOP))
            seen.append(self.raw)

        self.patch(os, "kill", stop)
        with RawTerminal(self.near) as raw:
            raw.suspend()
            self.assertTrue(self.raw)
        self.assertEqual(seen, [False])
        self.assertRestored()

    def test_background(self) -> None:
        """Who is in the background changes nothing, as another has the terminal."""
        self.patch(os, "tcgetpgrp", lambda descriptor: os.getpgrp() + 1)
        with RawTerminal(self.near):
            self.assertRestored()

    def test_intoTheBackground(self) -> None:
        """Who was put into the background does not give back what another has set up since."""
        with RawTerminal(self.near):
            modes = termios.tcgetattr(self.near)
            modes[3] |= termios.ECHO
            termios.tcsetattr(self.near, termios.TCSANOW, modes)
            self.patch(os, "tcgetpgrp", lambda descriptor: os.getpgrp() + 1)
        self.assertEqual(termios.tcgetattr(self.near), modes)

    def test_hungUp(self) -> None:
        """A terminal that was hung up, in whatever moment, is no failure."""
        with RawTerminal(self.near):
            os.close(self.far)
        with RawTerminal(self.near):
            pass

    def test_program(self) -> None:
        """A program that ends in the middle of the block, by an error or not, gives it back."""
        for end in ("sys.exit(3)", "raise KeyError", "os.kill(os.getpid(), 2)"):
            code = (
                "import os, sys; from twisted_netsuite.cli.terminal import RawTerminal;"
                f"RawTerminal(0).__enter__(); {end}"
            )
            subprocess.run(
                [sys.executable, "-c", code],
                stdin=self.near,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            self.assertRestored()


class EscapeTests(SynchronousTestCase):
    """L{EscapeFilter}."""

    def feed(self, *typed: bytes) -> list[tuple[bytes, bool]]:
        """Type."""
        escapes = EscapeFilter()
        return [escapes.feed(each) for each in typed]

    def test_leave(self) -> None:
        """Tilde and dot at the beginning of a line leave; what comes after is not sent."""
        self.assertEqual(self.feed(b"~.rest"), [(b"", True)])
        self.assertEqual(self.feed(b"a\r~.rest"), [(b"a\r", True)])
        self.assertEqual(
            self.feed(b"a\n", b"~", b"."), [(b"a\n", False), (b"", False), (b"", True)]
        )

    def test_elsewhere(self) -> None:
        """They are only two characters elsewhere."""
        self.assertEqual(self.feed(b"a~.b"), [(b"a~.b", False)])
        self.assertEqual(self.feed(b"a", b"~", b"."), [(b"a", False), (b"~", False), (b".", False)])

    def test_tilde(self) -> None:
        """Two tildes are one, after which no line begins."""
        self.assertEqual(self.feed(b"~~.\r"), [(b"~.\r", False)])
        self.assertEqual(self.feed(b"~~~."), [(b"~~.", False)])

    def test_otherKey(self) -> None:
        """A tilde and another key are what they are, and a line's end begins a line again."""
        self.assertEqual(self.feed(b"~", b"x"), [(b"", False), (b"~x", False)])
        self.assertEqual(self.feed(b"~\r~."), [(b"~\r", True)])
        self.assertEqual(self.feed(b"~/bin\r"), [(b"~/bin\r", False)])

    @given(st.lists(st.sampled_from([b"~", b".", b"\r", b"\n", b"x"]), max_size=30), st.data())
    def test_anySplit(self, keys: list[bytes], data: st.DataObject) -> None:
        """However the keys come, the same is sent, and the same leaves."""
        typed = b"".join(keys)
        whole, leaves = EscapeFilter().feed(typed)
        cut = data.draw(st.integers(0, len(typed)))
        escapes = EscapeFilter()
        sent, left = escapes.feed(typed[:cut])
        if not left:
            more, left = escapes.feed(typed[cut:])
            sent += more
        self.assertEqual((sent, left), (whole, leaves))

    @given(st.binary().filter(lambda typed: b"~" not in typed))
    def test_plain(self, typed: bytes) -> None:
        """What has no tilde in it is sent as it is."""
        self.assertEqual(EscapeFilter().feed(typed), (typed, False))


class SignalTests(SynchronousTestCase):
    """L{Signals}."""

    def test_watched(self) -> None:
        """A signal calls what watches it, each time, and only until the end of the block."""
        before = signal.getsignal(signal.SIGUSR1)
        called: list[str] = []
        with Signals(DescriptorReactor()) as signals:
            signals.watch(signal.SIGUSR1, lambda: called.append("one"))
            signals.watch(signal.SIGUSR1, lambda: called.append("two"))
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGUSR1)
        self.assertEqual(called, ["two", "two"])
        self.assertIs(signal.getsignal(signal.SIGUSR1), before)

    def test_ignored(self) -> None:
        """A signal that is ignored, as SIGHUP under nohup, stays so."""
        before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        with Signals(DescriptorReactor()) as signals:
            signals.watch(signal.SIGUSR1, self.fail)
            os.kill(os.getpid(), signal.SIGUSR1)
        self.assertEqual(signal.getsignal(signal.SIGUSR1), signal.SIG_IGN)
