"""
This process's own terminal, lent to a remote command: its size, and raw while the command runs; it
is given back as it was on every way out.

Nothing here reads or writes what is typed and shown; see L{cli.streams}.
"""

from __future__ import annotations

import atexit
import os
import signal
import termios
import tty
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple

#: Of a terminal that does not know its size, and where there is none.
DEFAULT_ROWS, DEFAULT_COLS = 24, 80


class Size(NamedTuple):
    """
    The size of a terminal, in characters.

    @ivar rows: its lines.
    @ivar cols: its columns.
    """

    rows: int
    cols: int


def terminalSize(descriptors: Iterable[int]) -> Size:
    """
    Find out how large the terminal is.

    @param descriptors: what may be one; the first that is counts.
    @return: its size, or that of a terminal of old where none of them knows one.
    """
    for descriptor in descriptors:
        try:
            cols, rows = os.get_terminal_size(descriptor)
        except OSError:
            continue
        if rows and cols:
            return Size(rows, cols)
    return Size(DEFAULT_ROWS, DEFAULT_COLS)


class RawTerminal:
    """
    A terminal that hands on every key as it is typed, within a C{with} block.

    It is given back at the end of the program, too, should the block never end. Who is in the
    background changes nothing: then the terminal is somebody else's, who has set it up anew.
    """

    def __init__(self, descriptor: int) -> None:
        """
        @param descriptor: the terminal.
        """
        self._descriptor = descriptor
        self._before: list[Any] | None = None

    def __enter__(self) -> RawTerminal:
        """Make it raw."""
        atexit.register(self.restore)
        self.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give it back."""
        self.restore()
        atexit.unregister(self.restore)

    def enter(self) -> None:
        """Make it raw, and note how it was."""
        if not self._isOurs():
            return
        try:
            before = termios.tcgetattr(self._descriptor)
            if self._before is None:
                self._before = before
            # What was typed before is not lost, but read raw.
            tty.setraw(self._descriptor, termios.TCSADRAIN)
        except termios.error:
            # It has been hung up; whoever reads it will be told.
            return

    def restore(self) -> None:
        """Make it what it was; to do so again changes nothing."""
        before, self._before = self._before, None
        if before is None or not self._isOurs():
            return
        try:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, before)
        except termios.error:
            return

    def suspend(self) -> None:
        """Give it back, stop this process as Ctrl-Z does, and take it again once it goes on."""
        self.restore()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.enter()

    def _isOurs(self) -> bool:
        """Whether this process is in the foreground, or the terminal knows no such thing."""
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:
            # Not the terminal that controls this process: nobody else is set up to change it.
            return True


#: What follows a tilde at the beginning of a line.
_LEAVE, _TILDE = b".", b"~"


class EscapeFilter:
    """
    Finds C{~.} at the beginning of a line, by which a person leaves, as with ssh; no I/O.

    A tilde that is typed there is kept until the next key; C{~~} sends one.
    """

    def __init__(self) -> None:
        self._lineBegins = True
        self._held = False

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """
        Take what was typed.

        @param typed: any number of keys.
        @return: what is to be sent, and whether the person leaves; what comes after is not sent.
        """
        sent = bytearray()
        for position in range(len(typed)):
            key = typed[position : position + 1]
            if self._held:
                self._held = False
                if key == _LEAVE:
                    return bytes(sent), True
                sent += _TILDE
                if key == _TILDE:
                    self._lineBegins = False
                    continue
            elif key == _TILDE and self._lineBegins:
                self._held = True
                continue
            sent += key
            self._lineBegins = key in b"\r\n"
        return bytes(sent), False
