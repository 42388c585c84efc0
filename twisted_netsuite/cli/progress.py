"""
How far a transfer is, shown on a terminal: bytes, rate and the time that is left; of trees files,
too. Where nobody would see it nothing is counted.
"""

from __future__ import annotations

import os
import sys
import threading
from types import TracebackType
from typing import Any, TextIO

from twisted_netsuite.cli.run import say
from twisted_netsuite.wire.text import decodeText, shortened

#: Seconds between two changes: what an eye can follow.
INTERVAL = 0.1

#: Characters of a name that stand before the bar.
SHOWN = 30

#: Bytes that come at once at the most: one chunk of a file. What is more was there before, or is a
#: hole.
LEAP = 1024 * 1024

#: Units of bytes, each so many of the one before.
_UNITS, _STEP = ("KiB", "MiB", "GiB", "TiB", "PiB"), 1024


def isSeen(stream: TextIO | None = None) -> bool:
    """
    Tell whether a person looks at what is shown.

    @param stream: where it is shown; standard error by default.
    @return: whether it is a terminal that can go back in a line.
    """
    shown = sys.stderr if stream is None else stream
    try:
        return shown.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:
        # It is closed.
        return False


class Progress:
    """
    A line on a terminal, within a C{with} block, after which it is gone; it gives way to what else
    is said.

    As a C{Progress} of L{files.sync} it watches a tree.

    @ivar isShown: whether there is such a line; if not, nothing has to be told.
    """

    def __init__(
        self, isShown: bool, stream: TextIO | None = None, interval: float = INTERVAL
    ) -> None:
        """
        @param isShown: whether to show anything.
        @param stream: the terminal; standard error by default.
        @param interval: seconds between two changes.
        """
        self.isShown = isShown
        self._stream = stream
        self._interval = interval
        self._bar: Any = None
        self._files = self._done = 0

    def __enter__(self) -> Progress:
        """Show nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the terminal clean."""
        self.close()

    def begin(self, name: bytes, size: int | None) -> None:
        """
        Begin with a file, in place of what was shown.

        @param name: of the file.
        @param size: its bytes; C{None} where nobody knows.
        """
        self._open(decodeText(name, SHOWN), size)

    def moved(self, count: int) -> None:
        """
        Count bytes that are there.

        @param count: how many more; fewer when it is negative.
        """
        bar = self._bar
        if bar is None:
            return
        if count > LEAP:
            # It counts for no rate.
            bar.initial += count
            bar.n += count
            bar.last_print_n += count
            bar.update(0)
        else:
            bar.update(count)

    # What a tree tells.

    def planned(self, files: int, bytes: int) -> None:
        """
        Begin with a tree, in place of what was shown.

        @param files: how many.
        @param bytes: how many these have.
        """
        self._files, self._done = files, 0
        self._open(self._counted(), bytes)

    def finished(self, name: bytes, how: str) -> None:
        """
        Count an entry that is done.

        @param name: which.
        @param how: what was done.
        """
        if how in ("new", "size", "mtime", "content"):
            self._next()

    def failed(self, name: bytes, error: Exception) -> None:
        """
        Count an entry that will not be done; why is told at the end.

        @param name: which.
        @param error: why.
        """
        self._next()

    # What others have to say.

    def say(self, sentence: str) -> None:
        """
        Print one sentence, and go on below it.

        @param sentence: for a person.
        """
        if self._bar is not None:
            self._bar.clear()
        say(sentence)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Show nothing more; to do so again changes nothing."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def _next(self) -> None:
        if self._bar is not None and self._done < self._files:
            self._done += 1
            self._bar.set_description_str(self._counted(), refresh=False)

    def _counted(self) -> str:
        return f"{self._done}/{self._files} files"

    def _open(self, what: str, size: int | None) -> None:
        self.close()
        if not self.isShown:
            return
        from tqdm import tqdm

        # Without them it would start a thread and load multiprocessing, for others to share a line.
        tqdm.monitor_interval = 0
        tqdm.set_lock(threading.RLock())
        self._bar = tqdm(
            desc=what,
            total=size,
            unit="B",
            unit_scale=True,
            unit_divisor=_STEP,
            file=sys.stderr if self._stream is None else self._stream,
            leave=False,
            dynamic_ncols=True,
            mininterval=self._interval,
            miniters=0,
        )


def sizeText(count: float) -> str:
    """
    Write a number of bytes for a person.

    @param count: bytes.
    @return: such as C{12 bytes} or C{1.5 MiB}.
    """
    if count < _STEP:
        return f"{count:.0f} byte{'' if round(count) == 1 else 's'}"
    power = 1
    # What would be rounded to 1024.0 is told in the next unit.
    while count >= (_STEP - 0.05) * _STEP**power and power < len(_UNITS):
        power += 1
    return f"{count / _STEP**power:.1f} {_UNITS[power - 1]}"


def rateText(count: int, seconds: float) -> str:
    """
    Write how long bytes took.

    @param count: bytes.
    @param seconds: how long.
    @return: such as C{2.0 s, 1.5 MiB/s}; without a rate where that would say nothing.
    """
    took = f"{seconds:.1f} s"
    return f"{took}, {sizeText(count / seconds)}/s" if count and seconds > 0 else took


def wholeText(size: int, moved: int, how: str, seconds: float) -> str:
    """
    Write what became of a file.

    @param size: its bytes.
    @param moved: those that were moved; the others were there, or are holes.
    @param how: what became of these, in a word.
    @param seconds: how long that took.
    @return: such as C{2.0 MiB, of which 1.0 MiB came in 2.0 s, 512.0 KiB/s}.
    """
    part = f", of which {sizeText(moved)} {how}" if moved < size else ""
    return f"{sizeText(size)}{part} in {rateText(moved, seconds)}"


def shownFile(name: bytes) -> str:
    """
    Write the name of a file for the line that says that it is done.

    @param name: as it is.
    @return: one line that does nothing to a terminal.
    """
    return shortened(decodeText(name, len(name) + 1), 2 * SHOWN)
