"""
A session written as a film: what a command writes, and when; never what it reads, as that holds
passwords.

The format is asciicast v2 (https://docs.asciinema.org/manual/asciicast/v2/).
"""

from __future__ import annotations

import codecs
import os
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_netsuite.errors import AuditUnavailable, ConfigurationError
from twisted_netsuite.rexec.launch import OutputStream, TerminalSize
from twisted_netsuite.trust.durable import DurableDirectory

#: Bytes of a recording: some hours of a person's work, and not a disk's worth of C{yes}.
MAX_RECORDING = 64 * 1024 * 1024

#: Bytes that are kept free for the line that says where a recording was cut.
_RESERVE = 256

#: Bytes that wait in memory before they are written.
BUFFER = 64 * 1024

#: Seconds after which they are written all the same: how far a recording is behind.
FLUSH_INTERVAL = 1.0

#: Characters of a command line or title: more is no headline.
MAX_COMMAND = 4096

#: The size of a terminal for a command that has none: what players show.
NO_TERMINAL = TerminalSize(rows=24, cols=80)

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class RecordingFailed(AuditUnavailable):
    """A recording cannot be written, so what must be recorded is not to run."""


def prepareRecordings(directory: str) -> None:
    """
    See to it that recordings can be made, before any has to be.

    @param directory: where; it is made for its owner alone when it is not there, its parent is not.
    @raise ConfigurationError: when it cannot be used, belongs to another account, or others may
        write to it.
    """
    try:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        with DurableDirectory(Path(directory)) as opened:
            opened.refuseForeign()
            opened.refuseOthers()
        # A real file, as access(2) knows nothing of a file system that is read-only for others.
        path = os.path.join(directory, f".probe-{os.getpid()}")
        os.close(os.open(path, _CREATE, 0o600))
        os.unlink(path)
    except OSError as error:
        raise ConfigurationError(
            f"Recordings cannot be written to {directory!r}: {_reasonOf(error)}; mend that, or "
            "name another directory."
        ) from error


class _Text:
    """The text of one stream, whose characters and line ends may be split between reads."""

    def __init__(self, bareLineEnds: bool) -> None:
        """
        @param bareLineEnds: whether a line end has to become what a terminal makes of it.
        """
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._bareLineEnds = bareLineEnds
        self._last = ""

    def feed(self, data: bytes, final: bool = False) -> str:
        """
        Decode what comes next.

        @param data: bytes.
        @param final: whether nothing comes after it.
        @return: what is whole now; U+FFFD for what is no UTF-8.
        """
        text = self._decoder.decode(data, final)
        if not self._bareLineEnds or not text:
            return text
        before, self._last = self._last, text[-1]
        # Not by a regular expression, which takes eight times as long.
        shown = text.replace("\r\n", "\n").replace("\n", "\r\n")
        return shown[1:] if before == "\r" and text[0] == "\n" else shown


class Recording:
    """
    The recording of one command.

    Once it has failed, or is closed, everything but L{close} raises L{RecordingFailed}.

    @ivar path: the file.
    @ivar isCut: whether it has reached its limit, and the command is not recorded any more.
    @ivar onFailed: called when what waited could not be written, and nobody is there to get the
        exception.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        directory: str,
        id: str,
        argv: Sequence[bytes],
        clock: IReactorTime,
        *,
        terminal: TerminalSize | None = None,
        term: str = "dumb",
        title: str | None = None,
        limit: int = MAX_RECORDING,
    ) -> None:
        """
        Begin a recording.

        @param directory: where it is made.
        @param id: the command's name, of which its own is made.
        @param argv: the command.
        @param clock: tells and waits for time; its seconds are those since 1970.
        @param terminal: the size of its terminal; C{None} when it has none.
        @param term: the type of its terminal.
        @param title: a headline, such as whose the command is.
        @param limit: bytes of the file.
        @raise RecordingFailed: when it cannot be made.
        """
        self.isCut = False
        self.onFailed: Callable[[RecordingFailed], None] = lambda error: None
        self._clock = clock
        self._began = clock.seconds()
        self._moment = 0.0
        self._limit = limit
        self._texts = {stream: _Text(terminal is None) for stream in ("stdout", "stderr")}
        self._encoder = msgspec.json.Encoder()
        self._buffer = bytearray()
        # Bytes of whole lines that are in the file.
        self._size = 0
        self._timer: IDelayedCall | None = None
        self._failure: str | None = None
        day = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._began))
        self.path = os.path.join(directory, f"{day}-{id}.cast")
        try:
            self._descriptor = os.open(self.path, _CREATE, 0o600)
        except OSError as error:
            raise self._failed(error) from error
        self._begin(argv, terminal or NO_TERMINAL, term, title)

    def _begin(
        self, argv: Sequence[bytes], size: TerminalSize, term: str, title: str | None
    ) -> None:
        words = shlex.join(word.decode("utf-8", "replace") for word in argv)
        header: dict[str, object] = {
            "version": 2,
            "width": size.cols,
            "height": size.rows,
            "timestamp": int(self._began),
            "command": _cut(words),
            "env": {"TERM": term},
        }
        if title is not None:
            header["title"] = _cut(title)
        # Without waiting: if this cannot be written, the command is not to start.
        self._buffer += self._encoder.encode(header) + b"\n"
        try:
            self._flush()
        except RecordingFailed:
            with suppress(OSError):
                os.unlink(self.path)
            raise

    def output(self, stream: OutputStream, data: bytes) -> None:
        """
        Record what the command has written.

        @param stream: where to.
        @param data: what.
        @raise RecordingFailed: when it cannot be.
        """
        if self.isCut and self._failure is None:
            # What is decoded costs as much as what is written.
            return
        self._event("o", self._texts[stream].feed(data))

    def resize(self, cols: int, rows: int) -> None:
        """
        Record that its terminal has another size.

        @param cols: its columns.
        @param rows: its lines.
        @raise RecordingFailed: when it cannot be.
        """
        self._event("r", f"{cols}x{rows}")

    def close(self) -> None:
        """
        Write what is left, and close the file.

        @raise RecordingFailed: when that cannot be written; the file is closed.
        """
        if self._descriptor < 0:
            return
        try:
            for text in self._texts.values():
                self._event("o", text.feed(b"", final=True))
            self._flush()
        finally:
            self._shut()
            self._failure = self._failure or "The command's recording is closed; it has ended."

    def _event(self, code: str, text: str) -> None:
        if self._failure is not None:
            raise RecordingFailed(self._failure)
        if self.isCut or not text:
            return
        # The time of day can be set back while a command runs, and a film cannot.
        self._moment = max(self._moment, self._clock.seconds() - self._began)
        line = self._line(code, text)
        if self._size + len(self._buffer) + len(line) > self._limit - _RESERVE:
            self.isCut = True
            self.log.warn(
                "{path}: not recorded from here on, the limit is {limit} bytes; "
                "the command runs on",
                path=self.path,
                limit=self._limit,
            )
            line = self._line("m", f"Not recorded from here on: the limit is {self._limit} bytes.")
        self._buffer += line
        if len(self._buffer) >= BUFFER or self.isCut:
            self._flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(FLUSH_INTERVAL, self._flushInTime)

    def _line(self, code: str, text: str) -> bytes:
        return self._encoder.encode((round(self._moment, 6), code, text)) + b"\n"

    def _flushInTime(self) -> None:
        self._timer = None
        try:
            self._flush()
        except RecordingFailed as error:
            self.onFailed(error)

    def _flush(self) -> None:
        """Write all that waits, or nothing: the file has whole lines only."""
        self._stopTimer()
        try:
            rest = bytes(self._buffer)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            self._shut()
            raise self._failed(error) from error
        self._size += len(self._buffer)
        self._buffer.clear()

    def _failed(self, error: OSError) -> RecordingFailed:
        self._failure = (
            f"The command's recording cannot be written: {_reasonOf(error)}; the server's operator "
            "has to mend that."
        )
        return RecordingFailed(self._failure)

    def _shut(self) -> None:
        self._buffer.clear()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


def _cut(text: str) -> str:
    return text if len(text) <= MAX_COMMAND else text[: MAX_COMMAND - 1] + "…"


def _reasonOf(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
