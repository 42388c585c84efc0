"""
Values of an audit record as JSON in ASCII, whole or cut: no record, no file.

Records are written while everybody waits, and peers choose what is in them. So what is looked at is
bounded before it is encoded, however long a value is.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import msgspec

#: The least room in which a cut value is told: its length, its digest, and some of it.
LEAST = 256

#: Elements of lists that one record looks at: some microseconds each, so a millisecond in all.
MAX_ELEMENTS = 256

#: Bytes of which one record tells digests: a millisecond of SHA-256, and more than any peer can
#: have in a request. Text that is not ASCII counts as four bytes a character.
MAX_DIGESTED = 512 * 1024

#: Bits of an integer: more than anything counts, and a microsecond to write.
MAX_BITS = 4096

#: JSON readers hold integers as floats up to here without loss (RFC 7493).
_EXACT = 2**53

_BASE64 = (b'{"base64":"', b'"}')
_QUOTES = (b'"', b'"')

#: An escape, or half of a pair, at the end of JSON text that was cut anywhere.
_TORN = (
    re.compile(rb"\\(?:u[0-9a-f]{0,3})?\Z"),
    re.compile(rb"\\ud[89ab][0-9a-f]{2}\Z"),
)

Text = str | bytes | bytearray
Scalar = Text | int | float | None
Value = Scalar | Sequence[Scalar]


class Effort:
    """
    What one record may still cost.

    @ivar elements: how many elements of lists may be looked at.
    @ivar digested: of how many bytes digests may be computed.
    """

    def __init__(self) -> None:
        self.elements = MAX_ELEMENTS
        self.digested = MAX_DIGESTED

    def affords(self, texts: Iterable[Text]) -> bool:
        """
        Spend what digests cost.

        @param texts: of what.
        @return: whether there is as much.
        """
        cost = sum(
            4 * len(text) if isinstance(text, str) and not text.isascii() else len(text)
            for text in texts
        )
        if cost > self.digested:
            return False
        self.digested -= cost
        return True


@dataclass(frozen=True)
class Begun:
    """
    A value, and the JSON of its beginning.

    @ivar value: the whole of it.
    @ivar encoded: JSON of its beginning.
    @ivar isWhole: whether this is all of it.
    """

    value: Scalar
    encoded: bytes
    isWhole: bool

    @property
    def size(self) -> int:
        """The bytes in which as much as is encoded can be told."""
        return len(self.encoded) + (0 if self.isWhole else LEAST)

    def fit(self, room: int, effort: Effort) -> bytes:
        """
        Write it, or as much of it as there is room for.

        @param room: in bytes; L{LEAST} or more.
        @param effort: what digests may cost.
        @return: JSON.
        """
        if self.isWhole and len(self.encoded) <= room:
            return self.encoded
        text = _textOf(self.value)
        length, digest = _measured(text, effort)
        begun = self.encoded
        if begun.startswith(b'{"json"'):
            begun = _inBase64(_bytesOf(text[:room]))
        return _cut(_shortened(begun, room - len(_cut(b"", length, digest))), length, digest)


@dataclass(frozen=True)
class BegunList:
    """
    The beginnings of a list's elements.

    @ivar listed: the list.
    @ivar elements: of its first elements.
    """

    listed: Listed
    elements: Sequence[Begun]

    @property
    def size(self) -> int:
        """The bytes in which as much as is encoded can be told."""
        cut = LEAST if len(self.elements) < self.listed.length else 0
        return 2 + cut + sum(each.size + 1 for each in self.elements)

    def fit(self, room: int, effort: Effort) -> bytes:
        """
        Write as many elements as there is room for; a long one gets half of what is left.

        @param room: in bytes; L{LEAST} or more.
        @param effort: what digests may cost.
        @return: JSON.
        """
        count = self.listed.length
        if len(self.elements) == count and all(each.isWhole for each in self.elements):
            whole = _list(each.encoded for each in self.elements)
            if len(whole) <= room:
                return whole
        left = room - LEAST
        kept: list[bytes] = []
        for each in self.elements:
            half = max(left // 2, 0)
            element = each.encoded
            if half >= LEAST and (len(element) > half or not each.isWhole):
                element = each.fit(half, effort)
            elif not each.isWhole:
                break
            if len(element) + 1 > left:
                break
            kept.append(element)
            left -= len(element) + 1
        told = _list(kept)
        return told if len(kept) == count else _cut(told, count, self.listed.digest(effort))


@dataclass(frozen=True)
class Listed:
    """
    A list of which no more than can be afforded is looked at.

    @ivar length: how many elements it has.
    @ivar elements: the first of them.
    """

    length: int
    elements: Sequence[Scalar]

    def digest(self, effort: Effort) -> str | None:
        """
        Compute the digest of all elements, each with a NUL behind it.

        @param effort: what it may cost.
        @return: SHA-256 in hex; C{None} when it would cost too much.
        """
        texts = [_textOf(each) for each in self.elements]
        if len(texts) < self.length or not effort.affords(texts):
            return None
        return hashlib.sha256(b"".join(bytes(_bytesOf(each)) + b"\0" for each in texts)).hexdigest()


def bounded(value: Value, effort: Effort) -> Scalar | Listed:
    """
    Turn a value into what can be looked at.

    @param value: of any kind.
    @param effort: what may be looked at.
    @return: text, bytes, a number that JSON has, or a list of such.
    @raise TypeError: when it is of another kind.
    @raise ValueError: when it is a number of more than L{MAX_BITS} bits.
    """
    if not isinstance(value, Sequence) or isinstance(value, Text):
        return _scalar(value)
    elements = [_element(each) for each in islice(value, effort.elements)]
    effort.elements -= len(elements)
    return Listed(len(value), elements)


def _element(value: Scalar) -> Scalar:
    if isinstance(value, Sequence) and not isinstance(value, Text):
        raise TypeError("a list in a list cannot be an audit field's value")
    return _scalar(value)


def _scalar(value: Scalar) -> Scalar:
    if value is None or isinstance(value, Text | bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise ValueError(f"an audit field's integer has more than {MAX_BITS} bits")
        return int(value) if abs(value) <= _EXACT else hex(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    raise TypeError(f"{type(value).__name__} cannot be an audit field's value")


def sizeOf(value: Scalar | Listed) -> int:
    """
    Tell how many bytes of JSON a value has at the least, without encoding it.

    @param value: from L{bounded}.
    @return: bytes.
    """
    if isinstance(value, Listed):
        return 1 + sum(sizeOf(each) + 1 for each in value.elements)
    return len(value) + 2 if isinstance(value, Text) else 1


def shareOf(sizes: Iterable[int], room: int) -> int:
    """
    Divide room among those that want some: who wants little gets it, the others as much each.

    @param sizes: what each wants.
    @param room: what there is.
    @return: the most that one gets.
    """
    ordered = sorted(sizes)
    for index, size in enumerate(ordered):
        count = len(ordered) - index
        if size * count > room:
            return room // count
        room -= size
    return max(ordered, default=0) + room


def begin(value: Scalar | Listed, room: int) -> Begun | BegunList:
    """
    Encode as much of a value as can have a place.

    @param value: from L{bounded}.
    @param room: in bytes.
    @return: what was encoded.
    """
    if not isinstance(value, Listed):
        return _begin(value, room)
    left = room
    hasRoom = sizeOf(value) <= room
    begun: list[Begun] = []
    for each in value.elements:
        if left <= 0:
            break
        size = sizeOf(each)
        limit = size if hasRoom else max(left // 2, LEAST)
        begun.append(_begin(each, limit))
        left -= min(size, limit) + 1
    return BegunList(value, begun)


def _begin(value: Scalar, room: int) -> Begun:
    if not isinstance(value, Text):
        return Begun(value, msgspec.json.encode(value), True)
    isWhole = len(value) <= room
    if isinstance(value, str):
        return Begun(value, _encodeText(value[:room]), isWhole)
    data = bytes(value[:room])
    try:
        text, _ = codecs.utf_8_decode(data, "strict", isWhole)
    except UnicodeDecodeError:
        return Begun(value, _inBase64(data), isWhole)
    return Begun(value, _quoted(text), isWhole)


def _encodeText(text: str) -> bytes:
    if not _hasSurrogates(text):
        return _quoted(text)
    # File names and arguments that are no UTF-8 come from Python's C{os} in this disguise.
    with suppress(UnicodeEncodeError):
        data = text.encode("utf-8", "surrogateescape")
        if data.decode("utf-8", "surrogateescape") == text:
            return _inBase64(data)
    escaped = _quoted(text).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'{"json":"%s"}' % escaped


def _hasSurrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _quoted(text: str) -> bytes:
    """
    Write text in ASCII, in one pass of C however much of it has to be escaped.

    What a terminal, an editor or a reader of lines could take for a line end or a control is an
    escape then, so the file can be looked at with any program.
    """
    return json.dumps(text).encode()


def _inBase64(data: bytes | bytearray) -> bytes:
    return base64.b64encode(data).join(_BASE64)


def _textOf(value: Scalar) -> Text:
    """Tell what a digest is of."""
    return value if isinstance(value, Text) else msgspec.json.encode(value)


def _list(elements: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(elements) + b"]"


def _bytesOf(value: Text) -> bytes | bytearray:
    """Tell the bytes that a cut value's length and digest are of."""
    if not isinstance(value, str):
        return value
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def _measured(text: Text, effort: Effort) -> tuple[int, str | None]:
    """Compute the length and digest of a value that is cut."""
    if not effort.affords([text]):
        return len(text), None
    data = _bytesOf(text)
    return len(data), hashlib.sha256(data).hexdigest()


def _cut(told: bytes, length: int, digest: str | None) -> bytes:
    sha256 = b'"%s"' % digest.encode() if digest else b"null"
    return b'{"cut":%s,"length":%d,"sha256":%s}' % (told, length, sha256)


def _shortened(encoded: bytes, room: int) -> bytes:
    """Cut JSON of text so that it is JSON still."""
    if len(encoded) <= room:
        return encoded
    isBase64 = encoded.startswith(_BASE64[0])
    opening, closing = _BASE64 if isBase64 else _QUOTES
    room -= len(opening) + len(closing)
    text = encoded[len(opening) : len(opening) + room]
    return (text[: room // 4 * 4] if isBase64 else _untorn(text)).join((opening, closing))


def _untorn(text: bytes) -> bytes:
    """Take away an escape that was cut, and then the half of a pair."""
    for torn in _TORN:
        found = torn.search(text, max(0, len(text) - 6))
        # A backslash behind a backslash is a letter.
        if found and (found.start() - len(text[: found.start()].rstrip(b"\\"))) % 2 == 0:
            text = text[: found.start()]
    return text
