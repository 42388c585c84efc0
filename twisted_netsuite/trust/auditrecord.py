"""
One record of the audit log as one line of JSON, sealed and chained: no file, no clock.

The form is that of C{docs/protocol/audit-log.md}.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from twisted_netsuite.trust.auditvalue import (
    Effort,
    Value,
    begin,
    bounded,
    shareOf,
    sizeOf,
)

#: Bytes of a line with its newline: what one write puts into a file whole, and a reader can hold.
MAX_RECORD = 64 * 1024

#: Fields of a record: more than any event has, and few enough that each keeps some 900 bytes when
#: all of them have to be cut.
MAX_FIELDS = 64

#: What stands in C{previous} of the first record.
NOTHING_BEFORE = "0" * 64

#: Bytes of a line beside the members that are cut to fit: C{n}, C{time}, C{previous}, C{hash}, the
#: braces and the newline, with room to spare.
_FRAME = 320

#: Names of members: what a query language takes without quotes.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_RESERVED = frozenset({"n", "time", "previous", "hash"})

_SEAL = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
#: Bytes of the member C{hash}, from its comma to the brace.
SEAL_SIZE = len(',"hash":""}') + 64


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


def encodeMembers(members: Mapping[str, Value], most: int = MAX_RECORD) -> bytes:
    """
    Write what a record tells, apart from its place in the chain.

    @param members: name to value. Text, bytes and lists of any size and with any bytes are taken;
        what is too long is cut, with its length and digest.
    @param most: bytes of JSON that one value may have, C{auditvalue.LEAST} or more.
    @return: JSON members without the braces, in ASCII; they fit into a record.
    @raise ValueError: when a name cannot be a member's, there are more than L{MAX_FIELDS}, or an
        integer has more than L{MAX_BITS<twisted_netsuite.trust.auditvalue.MAX_BITS>} bits.
    @raise TypeError: when a value is of another kind.
    """
    for name in members:
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise ValueError(f"{name!r} cannot be the name of an audit field")
    if len(members) > MAX_FIELDS:
        raise ValueError(f"{len(members)} audit fields, and {MAX_FIELDS} are the most")
    effort = Effort()
    values = [bounded(value, effort) for value in members.values()]
    room = MAX_RECORD - _FRAME - sum(len(name) + 4 for name in members)
    # Twice: what cannot have a place is not encoded, and what was encoded is longer again.
    share = min(most, shareOf(map(sizeOf, values), room))
    begun = [begin(value, share) for value in values]
    share = min(most, shareOf([each.size for each in begun], room))
    return b",".join(
        b'"%s":%s' % (name.encode(), each.fit(share, effort))
        for name, each in zip(members, begun, strict=True)
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
