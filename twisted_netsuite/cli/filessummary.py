"""
What was done with files, or would be, as programs and people read it on standard output.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from twisted_netsuite.cli.filesmanner import counted
from twisted_netsuite.cli.progress import sizeText
from twisted_netsuite.cli.run import say, writeOut
from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.files.entries import TreeEntry
from twisted_netsuite.files.itemize import jsonLines, textLines
from twisted_netsuite.files.plan import Clash, Plan, Transfer, Why
from twisted_netsuite.wire.text import cleanText

#: Lines that are printed at a time.
LINES = 1000

#: Names, and why nothing became of them.
Failures = Iterable[tuple[bytes, NetsuiteError]]


@dataclass(frozen=True)
class Summary:
    """
    What was done.

    @ivar files: files that were transferred.
    @ivar bytes: bytes that this has moved.
    @ivar unchanged: files whose contents were right.
    @ivar kept: files that differ, and were not to be replaced.
    @ivar deleted: files and directories that were removed.
    @ivar failed: what could not be done.
    @ivar spared: what was not removed, as something else had failed.
    @ivar skipped: what is neither file nor directory.
    @ivar seconds: how long it took.
    """

    files: int
    bytes: int
    unchanged: int = 0
    kept: int = 0
    deleted: int = 0
    failed: int = 0
    spared: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def write(self, failures: Failures) -> None:
        """
        Print it for a program.

        @param failures: what has failed, and why.
        """
        record = asdict(self) | {
            "seconds": round(self.seconds, 3),
            "failures": [
                nameInJson(name) | {"code": error.wireCode, "error": cleanText(error.sentence)}
                for name, error in failures
            ],
        }
        writeOut(json.dumps(record).encode() + b"\n")


def writePlan(plan: Plan, sending: bool, asJson: bool, quiet: bool) -> None:
    """
    Print what would be done.

    @param plan: that.
    @param sending: whether files are sent, or else fetched.
    @param asJson: whether a program reads it.
    @param quiet: whether the sums are left out, which for a program are a part of it.
    """
    for piece in inPieces(jsonLines(plan) if asJson else textLines(plan, sending)):
        writeOut(piece)
    if not (asJson or quiet):
        kept = f" {plan.kept} kept, as {'it differs' if plan.kept == 1 else 'they differ'},"
        clashes = f", {counted(len(plan.clashes), 'conflict')}"
        say(
            f"{counted(plan.files, 'file')} to transfer, {sizeText(plan.bytes)}; "
            f"{plan.unchanged} unchanged,{kept * bool(plan.kept)} {plan.removes} to remove"
            f"{clashes * bool(plan.clashes)}."
        )


def planOfFiles(pairs: Sequence[tuple[TreeEntry, TreeEntry | None]], clobber: bool) -> Plan:
    """
    Tell what would be done with files that are named one by one: they are not compared.

    @param pairs: each file, and what is in its place.
    @param clobber: whether files may be replaced.
    @return: the plan.
    """
    plan = Plan()
    for ours, theirs in pairs:
        if theirs is not None and theirs.directory:
            plan.clashes.append(Clash(ours, theirs))
        elif theirs is not None and not clobber:
            plan.kept += 1
        else:
            plan.transfer.append(Transfer(ours, _why(ours, theirs), theirs))
            plan.files += 1
            plan.bytes += ours.size
    return plan


def _why(ours: TreeEntry, theirs: TreeEntry | None) -> Why:
    if theirs is None:
        return "new"
    return "mtime" if ours.size == theirs.size else "size"


def entryHere(name: bytes, path: str | bytes) -> TreeEntry | None:
    """
    Look at a file of this end.

    @param name: what a plan calls it.
    @param path: where it is.
    @return: it; C{None} when there is nothing that can be looked at.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    isDirectory = stat.S_ISDIR(status.st_mode)
    size = 0 if isDirectory else status.st_size
    return TreeEntry(name, isDirectory, size, status.st_mtime_ns, status.st_mode & 0o777)


def inPieces(lines: Iterable[str]) -> Iterator[bytes]:
    """
    Put lines together, some at a time.

    @param lines: without their ends.
    @return: as they are printed.
    """
    piece: list[str] = []
    for line in lines:
        piece.append(line + "\n")
        if len(piece) == LINES:
            yield "".join(piece).encode("utf-8", "replace")
            piece.clear()
    yield "".join(piece).encode("utf-8", "replace")


def nameInJson(name: bytes) -> dict[str, str]:
    """
    Write a name for a program, as L{files.itemize} does.

    @param name: any bytes.
    @return: C{name}, or C{name64} for what is no UTF-8.
    """
    try:
        return {"name": name.decode() or "."}
    except UnicodeDecodeError:
        return {"name64": base64.b64encode(name).decode()}
