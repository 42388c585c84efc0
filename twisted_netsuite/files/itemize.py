"""
A plan, written for people and for programs; nothing is decided here.

For people it has one line for each entry, as C{rsync -i} writes them::

    *deleting   old/notes
    cd+++++++++ new/
    >f+++++++++ new/file
    >f.st...... other size, other time
    .f...p..... other mode only
    !conflict   name: a file where the other side has a directory

C{<} stands for what is sent and C{>} for what is fetched; C{c} for other contents of the same size.
Names are cleaned, so that none does anything to a terminal; they are not meant to be read back.

For programs it has one JSON object for each entry, and one at the end with the sums. Each entry has
either C{name}, its name as text, or, when its name is no UTF-8, C{name64}: the bytes of its name in
base64; never both. Names begin at the top of the tree, which itself is C{"."} (no other has that
name). The rest is:

  - C{do}: C{delete}, C{make}, C{transfer}, C{change} or C{conflict};
  - C{kind}: C{file} or C{directory}, of the entry that there is or will be;
  - C{why}, of a transfer: C{new}, C{size}, C{mtime} or C{content};
  - C{size}, of a transfer: bytes;
  - C{mode}, where it is set: octal digits, as C{chmod} takes them;
  - C{mtime}, where it is set: seconds since 1970 with nine digits behind the point, as text, since
    many programs lose digits of numbers that are so long.

The last object has C{do} = C{"total"}, C{files} and C{bytes} of the transfers, and how many there
are of C{make}, C{change}, C{delete} and C{conflict}, of files that are C{unchanged}, and of those
that are C{kept}, as they differ and may not be replaced.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from twisted_netsuite.files.entries import TreeEntry
from twisted_netsuite.files.names import MAX_NAME
from twisted_netsuite.files.plan import Change, Plan, Transfer, sameTime
from twisted_netsuite.wire.text import decodeText

_SECOND = 1_000_000_000

#: What stands in the place of the top's name.
_TOP = b"."


def textLines(plan: Plan, sending: bool) -> Iterator[str]:
    """
    Write a plan for people.

    @param plan: the plan.
    @param sending: whether files are sent, or else fetched.
    @return: lines without line ends; what is removed is first, all else in the order of the names.
    """
    for entry in sorted([*plan.clear, *plan.delete], key=_order):
        yield _line("*deleting  ", entry)
    arrow = "<" if sending else ">"
    rest = [(_order(entry), _line("cd+++++++++", entry)) for entry in plan.make]
    rest += [(_order(each.entry), _transferred(arrow, each)) for each in plan.transfer]
    rest += [(_order(each.entry), _changed(each)) for each in _changes(plan)]
    for ours, theirs in plan.clashes:
        what = f"a {_kind(ours)} where the other side has a {_kind(theirs)}"
        rest.append((_order(ours), f"{_line('!conflict  ', ours)}: {what}"))
    for _, line in sorted(rest):
        yield line


def jsonLines(plan: Plan) -> Iterator[str]:
    """
    Write a plan for programs.

    @param plan: the plan.
    @return: JSON objects, each on one line without its end, in the order in which things are done.
    """
    for record in _records(plan):
        yield json.dumps(record, separators=(",", ":"))


def _records(plan: Plan) -> Iterator[dict[str, Any]]:
    for entry in plan.clear:
        yield _record("delete", entry)
    for entry in plan.make:
        yield _record("make", entry) | _attributes(entry.mode, entry.mtime)
    for each in plan.transfer:
        entry = each.entry
        more = {"why": each.why, "size": entry.size}
        yield _record("transfer", entry) | more | _attributes(entry.mode, entry.mtime)
    changes = list(_changes(plan))
    for change in changes:
        yield _record("change", change.entry) | _attributes(change.mode, change.mtime)
    for entry in plan.delete:
        yield _record("delete", entry)
    for ours, _ in plan.clashes:
        yield _record("conflict", ours)
    yield {
        "do": "total",
        "files": plan.files,
        "bytes": plan.bytes,
        "make": len(plan.make),
        "change": len(changes),
        "delete": plan.removes,
        "conflict": len(plan.clashes),
        "unchanged": plan.unchanged,
        "kept": plan.kept,
    }


def _changes(plan: Plan) -> Iterator[Change]:
    """
    Tell what changes of what is there.

    That the time of a directory is set again after things are done in it is no change, nor is what
    is set of one that is made.
    """
    yield from plan.change
    for each in plan.settle:
        there = each.there
        if there is None:
            continue
        mode = each.mode if each.mode != there.mode else None
        mtime = each.mtime
        if mtime is not None and sameTime(mtime, there.mtime, 0):
            mtime = None
        if mode is not None or mtime is not None:
            yield each._replace(mode=mode, mtime=mtime)


def _record(do: str, entry: TreeEntry) -> dict[str, Any]:
    name = entry.name or _TOP
    record: dict[str, Any] = {"do": do}
    try:
        record["name"] = name.decode()
    except UnicodeDecodeError:
        record["name64"] = base64.b64encode(name).decode()
    record["kind"] = _kind(entry)
    return record


def _attributes(mode: int | None, mtime: int | None) -> dict[str, str]:
    found = {}
    if mode is not None:
        found["mode"] = f"{mode:04o}"
    if mtime is not None:
        sign, seconds = ("-", -mtime) if mtime < 0 else ("", mtime)
        found["mtime"] = f"{sign}{seconds // _SECOND}.{seconds % _SECOND:09}"
    return found


def _transferred(arrow: str, each: Transfer) -> str:
    ours, why, theirs = each
    if theirs is None:
        return _line(f"{arrow}f+++++++++", ours)
    letters = (
        "c" if why == "content" else ".",
        "s" if ours.size != theirs.size else ".",
        "t" if ours.mtime != theirs.mtime else ".",
        "p" if ours.mode != theirs.mode else ".",
    )
    return _line(f"{arrow}f{''.join(letters)}.....", ours)


def _changed(each: Change) -> str:
    letter = "d" if each.entry.directory else "f"
    time = "." if each.mtime is None else "t"
    mode = "." if each.mode is None else "p"
    return _line(f".{letter}..{time}{mode}.....", each.entry)


def _line(what: str, entry: TreeEntry) -> str:
    # Only the top has no name; a name is shown whole, as it is what the line is for.
    name = decodeText(entry.name or _TOP, MAX_NAME)
    return f"{what} {name}{'/' if entry.directory else ''}"


def _kind(entry: TreeEntry) -> str:
    return "directory" if entry.directory else "file"


def _order(entry: TreeEntry) -> bytes:
    return entry.name.replace(b"/", b"\0")
