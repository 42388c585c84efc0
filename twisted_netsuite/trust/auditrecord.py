"""
One record of the audit log as one line of JSON, sealed and chained: no file, no clock.

The form is that of C{docs/protocol/audit-log.md}.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

#: Bytes of a line with its newline: what one write puts into a file whole, and a reader can hold.
MAX_RECORD = 64 * 1024

#: Fields of a record: more than any event has, and few enough that each keeps some 900 bytes when
#: all of them have to be cut.
MAX_FIELDS = 64

#: What stands in C{previous} of the first record.
NOTHING_BEFORE = "0" * 64

#: JSON readers hold integers as floats up to here without loss (RFC 7493).
_EXACT = 2**53

#: Bytes of a line beside the members that are cut to fit: C{n}, C{time}, C{previous}, C{hash}, the
#: braces and the newline, with room to spare.
_FRAME = 320

#: The least room in which a cut value is told: its length, its digest, and some of it.
_LEAST = 256

#: Names of members: what a query language takes without quotes.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_RESERVED = frozenset({"n", "time", "previous", "hash"})

_SEAL = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
#: Bytes of the member C{hash}, from its comma to the brace.
SEAL_SIZE = len(',"hash":""}') + 64

Scalar = str | bytes | int | float | bool | None
Value = Scalar | Sequence[Scalar]


class BadRecord(Exception):
    """A line is no record as it was written; the argument says what it looks like."""


class _Chained(msgspec.Struct):
    """What the chain needs of a record."""

    n: Annotated[int, msgspec.Meta(ge=1)]
    time: str
    previous: str


@dataclass(frozen=True)
class Head:
    """
    A place in the chain, to be noted where whoever can write the log cannot.

    @ivar n: the record's number.
    @ivar hash: its C{hash}.
    """

    n: int
    hash: str

    def __str__(self) -> str:
        """As people note it: C{N:HASH}."""
        return f"{self.n}:{self.hash}"


@dataclass(frozen=True)
class Sealed:
    """
    A line that is a whole and unchanged record.

    @ivar head: its number and hash.
    @ivar time: as it stands there.
    @ivar previous: the digest of the line before.
    @ivar digest: of this line, which is C{previous} of the next.
    """

    head: Head
    time: str
    previous: str
    digest: str


def digestOf(data: bytes | bytearray) -> str:
    """
    Compute a digest as the log writes it.

    @param data: a line without its newline, or a part of one.
    @return: SHA-256 in hex.
    """
    return hashlib.sha256(data).hexdigest()


def timestamp(seconds: float) -> str:
    """
    Write a moment as the log does.

    @param seconds: since the epoch.
    @return: UTC by RFC 3339, with microseconds.
    """
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds") + "Z"


def encodeMembers(members: Mapping[str, Value]) -> bytes:
    """
    Write what a record tells, apart from its place in the chain.

    @param members: name to value. Values of any size and with any bytes are taken; what is too long
        is cut, with its length and digest.
    @return: JSON members without the braces, in ASCII; they fit into a record.
    @raise ValueError: when a name cannot be a member's, or there are more than L{MAX_FIELDS}.
    @raise TypeError: when a value is of another kind.
    """
    for name in members:
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise ValueError(f"{name!r} cannot be the name of an audit field")
    if len(members) > MAX_FIELDS:
        raise ValueError(f"{len(members)} audit fields, and {MAX_FIELDS} are the most")
    forms = {name: _form(value) for name, value in members.items()}
    whole = _encode(forms)[1:-1]
    return whole if len(whole) <= MAX_RECORD - _FRAME else _fit(members, forms)


def _fit(members: Mapping[str, Value], forms: Mapping[str, Any]) -> bytes:
    """Cut the longest values, and no more of them than it takes."""
    encoded = {name: _encode(form) for name, form in forms.items()}
    budget = MAX_RECORD - _FRAME - sum(len(name) + 4 for name in members)
    share = MAX_RECORD
    while sum(min(len(each), share) for each in encoded.values()) > budget:
        share = share * 7 // 8
    return b",".join(
        b'"%s":%s' % (name.encode(), each if len(each) <= share else _cut(members[name], share))
        for name, each in encoded.items()
    )


def sealRecord(n: int, time: str, members: bytes, previous: str) -> tuple[bytes, Sealed]:
    """
    Give a record its place in the chain.

    @param n: its number, from 1.
    @param time: see L{timestamp}.
    @param members: from L{encodeMembers}.
    @param previous: the digest of the line before, or L{NOTHING_BEFORE}.
    @return: the line, without a newline, and its place in the chain.
    """
    place = f'{{"n":{n},"time":"{time}",'.encode()
    body = place + members + f',"previous":"{previous}"}}'.encode()
    seal = digestOf(body)
    line = body[:-1] + f',"hash":"{seal}"}}'.encode()
    return line, Sealed(Head(n, seal), time, previous, digestOf(line))


def openRecord(line: bytes) -> Sealed:
    """
    Check one line by itself.

    @param line: without its newline.
    @return: its place in the chain.
    @raise BadRecord: when it is no record, or was changed.
    """
    seal = _SEAL.fullmatch(line, max(0, len(line) - SEAL_SIZE))
    right = seal is not None and digestOf(line[:-SEAL_SIZE] + b"}") == seal[1].decode()
    try:
        chained = msgspec.json.decode(line, type=_Chained)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRecord(_strange(line)) from None
    if not right or seal is None:
        raise BadRecord("does not match its own hash; it was changed")
    head = Head(chained.n, seal[1].decode())
    return Sealed(head, chained.time, chained.previous, digestOf(line))


def _strange(line: bytes) -> str:
    """Tell what a line is that is not even like a record."""
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "is not JSON; it was changed, cut or inserted"
    return "is JSON and no audit record; it was changed or inserted"


def isCutOff(rest: bytes) -> bool:
    """
    Tell whether bytes without a newline can be a record that was not written to its end.

    @param rest: what stands behind the last newline of a file.
    @return: whether they can; a whole record with more behind it cannot.
    """
    if len(rest) >= MAX_RECORD:
        return False
    for seal in _SEAL.finditer(rest, 0, len(rest) - 1):
        if digestOf(rest[: seal.start()] + b"}") == seal[1].decode():
            return False
    return True


def _encode(form: Any) -> bytes:
    """
    Write JSON in ASCII.

    What a terminal, an editor or a reader of lines could take for a line end or a control is an
    escape then, so the file can be looked at with any program.
    """
    encoded = msgspec.json.encode(form)
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return re.sub(r"[^\x00-\x7e]", _escape, encoded.decode()).encode()


def _escape(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1] if found[0] != "\x7f" else "\\u007f"


def _form(value: Value) -> Any:
    """Turn a value into what JSON can hold without loss."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _textForm(value)
    if isinstance(value, bytes | bytearray):
        return _bytesForm(value)
    if isinstance(value, Sequence):
        if any(
            isinstance(each, Sequence) and not isinstance(each, str | bytes | bytearray)
            for each in value
        ):
            raise TypeError("a list in a list cannot be an audit field's value")
        return [_form(each) for each in value]
    raise TypeError(f"{type(value).__name__} cannot be an audit field's value")


def _textForm(text: str) -> Any:
    try:
        # Made anew, as an enumeration's member is a text, and none that JSON knows.
        return text.encode().decode()
    except UnicodeEncodeError:
        data = _bytesOf(text)
    # File names and arguments that are no UTF-8 come from Python's C{os} in this disguise.
    if data.decode("utf-8", "surrogateescape") == text:
        return _bytesForm(data)
    return {"json": json.dumps(text)}


def _bytesForm(data: bytes | bytearray) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _bytesOf(value: str | bytes | bytearray) -> bytes | bytearray:
    """Tell the bytes that a cut value's length and digest are of."""
    if not isinstance(value, str):
        return value
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def _cut(value: Value, room: int) -> bytes:
    """Write the beginning of a value that is too long, with what the whole of it was."""
    if isinstance(value, str | bytes | bytearray):
        return _cutText(_bytesOf(value), room)
    if isinstance(value, Sequence):
        return _cutList(value, room)
    return _cutText(str(_form(value)).encode(), room)


def _cutText(data: bytes | bytearray, room: int) -> bytes:
    take = min(room, len(data))
    try:
        data.decode()
        errors = "ignore"
    except UnicodeDecodeError:
        errors = ""
    while True:
        begun = data[:take]
        told: Any = (
            begun.decode("utf-8", errors)
            if errors
            else {"base64": base64.b64encode(begun).decode()}
        )
        cut = _encode({"cut": told, "length": len(data), "sha256": digestOf(data)})
        if len(cut) <= room:
            return cut
        take = take * 3 // 4


def _cutList(values: Sequence[Scalar], room: int) -> bytes:
    """Keep elements from the first on; a long one gets half of the room that is left."""
    whole = _encode(_form(values))
    left = room - _LEAST
    kept: list[bytes] = []
    for value in values:
        element = _encode(_form(value))
        half = max(left // 2, 0)
        if len(element) > half and half >= _LEAST:
            element = _cut(value, half)
        if len(element) + 1 > left:
            break
        kept.append(element)
        left -= len(element) + 1
    told = b"[" + b",".join(kept) + b"]"
    if len(kept) == len(values):
        return told
    return b'{"cut":%s,"length":%d,"sha256":"%s"}' % (
        told,
        len(values),
        digestOf(whole).encode(),
    )
