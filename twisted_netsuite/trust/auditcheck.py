"""
Reading audit logs, and finding the first line that is not as it was written. It prints nothing.

A log is read line by line, in memory that does not grow with it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any

import msgspec

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.trust.auditrecord import (
    MAX_RECORD,
    NOTHING_BEFORE,
    BadRecord,
    Head,
    Sealed,
    isCutOff,
    openRecord,
)

#: The path that stands for standard input.
STANDARD_INPUT = "-"

_HEAD = re.compile(r"([1-9][0-9]{0,18}):([0-9a-f]{64})")


@dataclass(frozen=True)
class Line:
    """
    One line of a log as it stands there.

    @ivar file: the path of its file, as it was given.
    @ivar number: of the line in its file, from 1.
    @ivar data: without its newline.
    @ivar isEnded: whether it has one.
    """

    file: str
    number: int
    data: bytes
    isEnded: bool

    @property
    def place(self) -> str:
        """As people and editors write it: C{FILE:LINE}."""
        return f"{self.file}:{self.number}"


@dataclass(frozen=True)
class Fault:
    """
    The first line that is not as it was written.

    @ivar file: the path of its file, as it was given.
    @ivar line: its number there, from 1; behind the last line when lines are missing at the end.
    @ivar sentence: what it looks like.
    """

    file: str
    line: int
    sentence: str

    def __str__(self) -> str:
        """As people and editors read it: C{FILE:LINE: sentence}."""
        return f"{self.file}:{self.line}: {self.sentence}"


@dataclass(frozen=True)
class Report:
    """
    What verifying has found.

    @ivar records: how many are right; those before the fault if there is one.
    @ivar begins: the number of the first of them; 0 when there is none.
    @ivar first: its time; empty when there is none.
    @ivar last: the time of the last of them.
    @ivar head: the last of them.
    @ivar unfinished: the last line, if it has no end: it is being written, or a crash tore it.
    @ivar fault: the first line that is not right.
    """

    records: int
    begins: int
    first: str
    last: str
    head: Head | None
    unfinished: Line | None
    fault: Fault | None


def parseHead(text: str) -> Head:
    """
    Read a head as people note it.

    @param text: C{N:HASH}.
    @return: the head.
    @raise ConfigurationError: when it is none.
    """
    found = _HEAD.fullmatch(text.strip())
    if not found:
        raise ConfigurationError(
            f"The head {text[:100]!r} is none; give N:HASH as netsuite audit verify prints it."
        )
    return Head(int(found[1]), found[2])


def verify(paths: Sequence[str], *, head: Head | None = None, fromMiddle: bool = False) -> Report:
    """
    Check that a log is as it was written.

    @param paths: its files, in any order; C{-} is standard input.
    @param head: a place that was noted earlier; a log that has not come there is cut short.
    @param fromMiddle: whether the files may begin after the first record.
    @return: what was found.
    @raise ConfigurationError: when a file cannot be read.
    """
    with LogFiles(paths) as log:
        return _Check(log.lines(), paths[-1], head, fromMiddle).run()


class _Check:
    """One walk along a chain."""

    def __init__(
        self, lines: Iterator[Line], file: str, head: Head | None, fromMiddle: bool
    ) -> None:
        """
        @param lines: of the whole log.
        @param file: where lines are missing if there are none at all.
        @param head: where it has to come by.
        @param fromMiddle: whether it may begin anywhere.
        """
        self._lines = lines
        self._file = file
        self._head = head
        self._fromMiddle = fromMiddle
        self._first: Sealed | None = None
        self._last: Sealed | None = None
        self._unfinished: Line | None = None

    def run(self) -> Report:
        """Walk to the end, or to the first fault."""
        end = Line(self._file, 0, b"", True)
        for line in self._lines:
            if self._unfinished is not None:
                cut = "The line has no end, and there is more of the log; its file was cut."
                return self._report(Fault(end.file, end.number, cut))
            fault = self._step(line)
            if fault is not None:
                return self._report(Fault(line.file, line.number, fault))
            end = line
        if self._unfinished is not None:
            return self._report(self._cutShort(self._unfinished.file, self._unfinished.number))
        return self._report(self._cutShort(end.file, end.number + 1))

    def _step(self, line: Line) -> str | None:
        """Take one line; tell what is wrong with it."""
        if not line.isEnded:
            if len(line.data) >= MAX_RECORD:
                return (
                    f"The line is longer than the {MAX_RECORD} bytes of a record; it was changed."
                )
            if not isCutOff(line.data):
                return "The line is a whole record with something else for its end; it was changed."
            self._unfinished = line
            return None
        try:
            sealed = openRecord(line.data)
        except BadRecord as error:
            return f"The line {error}."
        fault = self._place(sealed) or self._compareHead(sealed)
        if fault is None:
            self._first = self._first or sealed
            self._last = sealed
        return fault

    def _place(self, sealed: Sealed) -> str | None:
        """Compare a record with what is due after the last."""
        n = sealed.head.n
        if self._last is None:
            return self._begin(sealed)
        due = self._last.head.n + 1
        if n == due and sealed.previous == self._last.digest:
            return None
        if n == due:
            return (
                f"Record {n} does not follow the line before; one of the two was changed, "
                "and given a hash that fits."
            )
        if n < due:
            if sealed.digest == self._last.digest:
                return f"Record {n} stands here twice; the line was doubled."
            return f"Record {n} stands where {due} is due; a line was inserted, doubled or moved."
        return self._missing(due, n - 1, f"Record {n} stands where {due} is due")

    def _begin(self, sealed: Sealed) -> str | None:
        n = sealed.head.n
        if n == 1 and sealed.previous != NOTHING_BEFORE:
            return "Record 1 says that another was before it; it was changed."
        if n == 1 or self._fromMiddle:
            return None
        return self._missing(1, n - 1, f"The log begins with record {n}")

    def _missing(self, first: int, last: int, sentence: str) -> str:
        """Tell what was removed from what was moved: by looking whether it comes later."""
        for line in self._lines:
            try:
                found = openRecord(line.data).head.n
            except BadRecord:
                continue
            if found == first:
                return f"{sentence}, which comes at {line.place}; lines were swapped or moved."
        which = f"record {first}" if first == last else f"records {first} to {last}"
        were = "was" if first == last else "were"
        if self._last is None:
            return (
                f"{sentence}; {which} {were} removed, or in a file that was not given "
                "(--from-middle begins anywhere)."
            )
        return f"{sentence}; {which} {were} removed, or in a file that was not given."

    def _compareHead(self, sealed: Sealed) -> str | None:
        noted = self._head
        if noted is None or sealed.head.n != noted.n or sealed.head == noted:
            return None
        return (
            f"Record {noted.n} has another hash than was noted; the log was written anew, "
            "here or before."
        )

    def _cutShort(self, file: str, number: int) -> Fault | None:
        """See that the end is not before the head that was noted, nor the beginning behind it."""
        noted = self._head
        if noted is None:
            return None
        begins = self._first.head.n if self._first else 0
        ends = self._last.head.n if self._last else 0
        if ends < noted.n:
            sentence = f"The log ends with record {ends}, and record {noted.n} was noted; "
            return Fault(file, number, sentence + "its last lines were removed.")
        if noted.n < begins:
            sentence = f"The log begins with record {begins}, and record {noted.n} was noted; "
            return Fault(file, 1, sentence + "give the files before it.")
        return None

    def _report(self, fault: Fault | None) -> Report:
        first, last = self._first, self._last
        if first is None or last is None:
            return Report(0, 0, "", "", None, self._unfinished, fault)
        return Report(
            records=last.head.n - first.head.n + 1,
            begins=first.head.n,
            first=first.time,
            last=last.time,
            head=last.head,
            unfinished=self._unfinished,
            fault=fault,
        )


@dataclass(frozen=True)
class Entry:
    """
    One line for people to read.

    @ivar line: as it stands in the file.
    @ivar members: of the record, by name; empty when it is none.
    @ivar fault: what is wrong with the line by itself; empty when nothing is.
    """

    line: Line
    members: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""


def entries(paths: Sequence[str]) -> Iterator[Entry]:
    """
    Read a log line by line, good and bad; the chain between the lines is not looked at.

    @param paths: its files, in any order; C{-} is standard input.
    @return: each line.
    @raise ConfigurationError: when a file cannot be read.
    """
    with LogFiles(paths) as log:
        for line in log.lines():
            yield _entry(line)


def _entry(line: Line) -> Entry:
    if not line.isEnded:
        tooLong = len(line.data) >= MAX_RECORD
        return Entry(line, fault="is longer than a record" if tooLong else "has no end")
    try:
        openRecord(line.data)
        members = msgspec.json.decode(line.data, type=dict[str, Any])
    except BadRecord as error:
        return Entry(line, _guess(line.data), str(error))
    return Entry(line, members)


def _guess(data: bytes) -> dict[str, Any]:
    """A line that was changed is worth reading all the more."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


class LogFiles:
    """The files of a log, opened all at once, so that a rotation meanwhile does not matter."""

    def __init__(self, paths: Sequence[str]) -> None:
        """
        @param paths: in any order; C{-} is standard input.
        """
        self._paths = paths
        self._stack = ExitStack()
        self._files: list[tuple[str, IO[bytes]]] = []

    def __enter__(self) -> LogFiles:
        """Open them; raises L{ConfigurationError}."""
        with self._stack:
            seen = set()
            for path in self._paths:
                file = _openFile(path)
                if path != STANDARD_INPUT:
                    self._stack.enter_context(file)
                status = os.fstat(file.fileno()) if path != STANDARD_INPUT else None
                # A crash can leave a file with two names, and a person can give one twice.
                which = (status.st_dev, status.st_ino) if status else path
                if which not in seen:
                    self._files.append((path, file))
                seen.add(which)
            self._files = _inOrder(self._files)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close them."""
        self._stack.close()

    def lines(self) -> Iterator[Line]:
        """
        Read them.

        @return: each line, from the first file's first to the last file's last.
        @raise ConfigurationError: when one cannot be read.
        """
        for path, file in self._files:
            for number, data in enumerate(_pieces(path, file), 1):
                ended = data.endswith(b"\n")
                yield Line(path, number, data[:-1] if ended else data, ended)


def _openFile(path: str) -> IO[bytes]:
    if path == STANDARD_INPUT:
        return sys.stdin.buffer
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> ConfigurationError:
    reason = error.strerror if isinstance(error, OSError) else None
    return ConfigurationError(
        f"The file {path!r} cannot be read: {(reason or str(error)).lower()}; give one that can."
    )


def _inOrder(files: list[tuple[str, IO[bytes]]]) -> list[tuple[str, IO[bytes]]]:
    """Put files in the order of their first records; where one has none, of their names."""
    if len(files) < 2:
        return files
    byRecord = [(_firstNumber(path, file), path, file) for path, file in files]
    written = [each for each in byRecord if each[0] != 0]
    if all(number is not None for number, _, _ in written):
        # An empty file has just been begun, or is about to be.
        ordered = sorted(byRecord, key=lambda each: each[0] or sys.maxsize)
        return [(path, file) for _, path, file in ordered]
    return sorted(files, key=lambda each: _byName(each[0]))


def _byName(path: str) -> tuple[str, int]:
    stem, _, number = path.rpartition(".")
    return (stem, int(number)) if stem and number.isdecimal() else (path, sys.maxsize)


def _firstNumber(path: str, file: IO[bytes]) -> int | None:
    """Read the number of a file's first record: 0 in an empty file, C{None} when it is none."""
    if not file.seekable():
        raise ConfigurationError(
            f"The file {path!r} can be read only once, so it has to be given alone."
        )
    try:
        line = file.readline(MAX_RECORD)
        file.seek(0)
        return openRecord(line.removesuffix(b"\n")).head.n if line else 0
    except BadRecord:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error


def _pieces(path: str, file: IO[bytes]) -> Iterable[bytes]:
    """Read lines; one that is too long comes as its beginning."""
    while True:
        try:
            data = file.readline(MAX_RECORD)
            rest = data
            while len(rest) == MAX_RECORD and not rest.endswith(b"\n"):
                rest = file.readline(MAX_RECORD)
        except OSError as error:
            raise _unreadable(path, error) from error
        if not data:
            return
        yield data
