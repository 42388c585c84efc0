"""
C{netsuite audit}.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.wire.text import cleanText

if TYPE_CHECKING:
    from twisted_netsuite.trust.auditcheck import Entry, Report

#: What stands in columns of its own, or only serves the chain.
_COLUMNS = ("time", "n", "service", "event", "identity", "peer")
_CHAIN = ("previous", "hash")

#: What needs no quotes to be told from what stands beside it.
_PLAIN = re.compile(r'[^\s"\'=,()\[\]{}\\]+')

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_FILES = click.argument("files", metavar="FILE...", nargs=-1, required=True)


class _Moment(click.ParamType[datetime]):
    """A moment: a date, a time, or how long ago it was."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Take RFC 3339, in UTC unless it says otherwise, or a number and s, m, h or d."""
        try:
            if found := re.fullmatch(r"([0-9]+)([smhd])", value):
                ago = int(found[1]) * _SECONDS[found[2]]
                return datetime.fromtimestamp(time.time() - ago, UTC)
            moment = datetime.fromisoformat(value)
        except (ValueError, OverflowError, OSError):
            self.fail(
                f"{value!r} is no time; give one such as 2026-11-21, 2026-11-21T13:00 or 2h (ago).",
                param,
                ctx,
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.group()
def audit() -> None:
    """Verify and read audit logs."""


@audit.command()
@_FILES
@click.option(
    "--head", "noted", metavar="N:HASH", help="A head noted earlier, where the log has to come by."
)
@click.option("--from-middle", is_flag=True, help="The files begin after the first record.")
def verify(files: tuple[str, ...], noted: str | None, from_middle: bool) -> None:
    """Check that no line of a log was changed, removed, inserted or moved.

    FILEs are those of one log, in any order; a dash is standard input. The head that is printed is
    worth noting elsewhere: with it, a log whose last lines were removed is found, too.
    """
    from twisted_netsuite.trust import auditcheck

    with _sentences():
        head = auditcheck.parseHead(noted) if noted is not None else None
        report = auditcheck.verify(files, head=head, fromMiddle=from_middle)
    if report.fault is not None:
        raise click.ClickException(str(report.fault))
    click.echo(cleanText(_summary(report)))


def _summary(report: Report) -> str:
    """Tell in one line what is right."""
    unfinished = ""
    if report.unfinished is not None:
        unfinished = f"; {report.unfinished.place} has no end: it is being written, or was torn"
    if report.head is None:
        return f"No records{unfinished}"
    count = f"{report.records} record{'s' * (report.records != 1)}"
    middle = f" from record {report.begins} on" if report.begins > 1 else ""
    return f"{count}{middle}, {report.first} to {report.last}, head {report.head}{unfinished}"


@dataclass(frozen=True)
class _Filter:
    """
    Which records are shown.

    @ivar patterns: member to the shell pattern that it has to match.
    @ivar since: the first moment.
    @ivar until: the first moment that is not shown any more.
    """

    patterns: Mapping[str, str | None]
    since: datetime | None
    until: datetime | None

    def takes(self, members: Mapping[str, Any]) -> bool:
        """Tell whether a record is shown."""
        for name, pattern in self.patterns.items():
            if pattern is not None and not fnmatchcase(_text(members.get(name, "")), pattern):
                return False
        if self.since is None and self.until is None:
            return True
        try:
            moment = datetime.fromisoformat(members["time"])
            early = self.since is not None and moment < self.since
            late = self.until is not None and moment >= self.until
        except (KeyError, TypeError, ValueError):
            return False
        return not early and not late


@audit.command()
@_FILES
@click.option("--identity", metavar="PATTERN", help="Only of these, as in 'cert:*'.")
@click.option("--service", metavar="PATTERN", help="Only of these.")
@click.option("--event", metavar="PATTERN", help="Only these, as in 'exec.*'.")
@click.option("--peer", metavar="PATTERN", help="Only from these addresses.")
@click.option("--since", type=_Moment(), metavar="TIME", help="Only from then on.")
@click.option("--until", type=_Moment(), metavar="TIME", help="Only before then.")
@click.option("--json", "asJson", is_flag=True, help="Print the lines as they stand in the files.")
def show(
    files: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    asJson: bool,
    **patterns: str | None,
) -> None:
    """Print the records of a log, one a line.

    FILEs are those of one log, in any order; a dash is standard input. A line that is no record, or
    was changed, is shown as such, whatever is asked for. TIME is a date, a date and time (in UTC
    unless it says otherwise), or how long ago: 30m, 2h, 7d.
    """
    from twisted_netsuite.trust.auditcheck import entries

    shown = _Filter(patterns, since, until)
    with _sentences():
        for entry in entries(files):
            if entry.fault:
                click.echo(cleanText(_bad(entry)), err=asJson)
            elif shown.takes(entry.members):
                click.echo(entry.line.data if asJson else cleanText(_readable(entry.members)))


def _bad(entry: Entry) -> str:
    """Tell what is wrong with a line, and what can be read of it."""
    return f"{entry.line.place}: the line {entry.fault}: {_beginning(entry)}"


def _beginning(entry: Entry) -> str:
    if entry.members:
        return _readable(entry.members)
    data = entry.line.data
    return repr(data[:200]) + (" ..." if len(data) > 200 else "")


def _readable(members: Mapping[str, Any]) -> str:
    """Write a record for people: columns, then what else it tells."""
    told = [_shown(members.get(name, "")) or "-" for name in _COLUMNS]
    told += [
        f"{_quoted(name)}={_shown(value)}"
        for name, value in members.items()
        if name not in (*_COLUMNS, *_CHAIN)
    ]
    return " ".join(told)


def _text(value: Any) -> str:
    """Write a value as a pattern is compared with it."""
    return value if isinstance(value, str) else _shown(value)


def _shown(value: Any) -> str:
    """Write a value so that it cannot be taken for more than one."""
    match value:
        case str():
            return _quoted(value) if value else ""
        case {"cut": begun, "length": length, "sha256": str() | None} if len(value) == 3:
            return f"{_inList(begun)}...({length} in all)"
        case {"base64": str(text)} if len(value) == 1:
            with suppress(ValueError):
                return repr(base64.b64decode(text, validate=True))
        case list():
            return "[" + ", ".join(map(_inList, value)) + "]"
    return _escaped(json.dumps(value, ensure_ascii=False))


def _inList(value: Any) -> str:
    return _escaped(json.dumps(value, ensure_ascii=False)) if value == "" else _shown(value)


def _quoted(text: str) -> str:
    """Put quotes around what could be taken for several things, or for nothing."""
    if _PLAIN.fullmatch(text) and text != "-" and cleanText(text) == text:
        return text
    return _escaped(json.dumps(text, ensure_ascii=False))


def _escaped(text: str) -> str:
    """Write what would not be safe to show as JSON's escapes, which lose nothing."""
    if cleanText(text) == text:
        return text
    return "".join(each if cleanText(each) == each else json.dumps(each)[1:-1] for each in text)


@contextmanager
def _sentences() -> Iterator[None]:
    """Let failures end the command with their sentence, and a reader that has enough with none."""
    for stream in (sys.stdout, sys.stderr):
        # A character that this terminal lacks is no reason to end.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        yield
        sys.stdout.flush()
    except NetsuiteError as error:
        raise click.ClickException(error.sentence) from error
    except OSError as error:
        # What is still buffered would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            reason = (error.strerror or str(error)).lower()
            raise click.ClickException(f"Standard output takes no more: {reason}") from error
