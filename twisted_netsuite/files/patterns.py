"""
Patterns that say which names of a tree are left out of what is done with it; all are bytes.

Of the rules of a tree the first that matches a name decides, and what none matches is taken. What
is below a directory that is left out is left out with it, whatever the rules say of it.

  - A pattern without a slash, but for one at its end, is looked for at any depth; one with a slash
    begins at the top of the tree, with or without a slash before it.
  - C{*} stands for any bytes but slashes, also for none; C{?} for one; C{[a-z]} and C{[!a-z]} for
    one of these, or of all others; C{[[:digit:]]} and its like are known.
  - C{**} stands for any bytes with slashes. As a whole part it stands for any directories, also
    for none (C{a/**/b} is C{a/b}, too); as the last part for all that is below.
    C{a/***} is C{a} and all that is below.
  - A slash at the end: directories only.
  - A backslash takes from the byte behind it what it would mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.files.names import MAX_NAME
from twisted_netsuite.wire.text import decodeText

#: Bytes of one pattern: as many as those of a name, which it would never match with more.
MAX_PATTERN = MAX_NAME

#: Rules of one tree. Each is tried on each name, and the rules of a tree are written by a person.
MAX_RULES = 10_000

#: Characters of a pattern that a sentence shows.
_SHOWN = 80

_CLASSES = {
    b"alnum": rb"[0-9A-Za-z]",
    b"alpha": rb"[A-Za-z]",
    b"blank": rb"[ \t]",
    b"cntrl": rb"[\x00-\x1f\x7f]",
    b"digit": rb"[0-9]",
    b"graph": rb"[!-~]",
    b"lower": rb"[a-z]",
    b"print": rb"[ -~]",
    b"punct": rb"[!-/:-@\[-`{-~]",
    b"space": rb"[ \t\n\r\f\v]",
    b"upper": rb"[A-Z]",
    b"xdigit": rb"[0-9A-Fa-f]",
}

_EVERY = frozenset(range(256))


@dataclass(frozen=True)
class Rule:
    """
    What is to be done with the names that a pattern matches.

    @ivar include: whether they are taken, or else left out.
    @ivar pattern: which they are.
    """

    include: bool
    pattern: bytes


class Patterns:
    """
    The rules of one tree.

    All of them are one regular expression, in which no part can be tried again at the same place
    (see L{_segment}): the time for a name follows its length, whatever the patterns are.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        """
        @param rules: in the order in which they are tried.
        @raise ConfigurationError: when a pattern cannot be used, or there are too many.
        """
        self.rules = tuple(rules)
        if len(self.rules) > MAX_RULES:
            raise ConfigurationError(
                f"There are {len(self.rules)} patterns; at most {MAX_RULES} can be used."
            )
        # The group that is empty at the end of each alternative tells which one has matched.
        alternatives = [b"(?:%s)()" % _translated(rule.pattern) for rule in self.rules]
        self._match = re.compile(b"|".join(alternatives), re.DOTALL).match

    def __bool__(self) -> bool:
        """Whether anything can be left out."""
        return bool(self.rules)

    def excludes(self, name: bytes, directory: bool) -> bool:
        """
        Tell whether a name is left out by itself; of the directories above it nothing is known.

        @param name: from the top of the tree on, without a slash before or behind it.
        @param directory: whether it is one.
        @return: whether it is, and all below it.
        """
        if not self.rules:
            return False
        found = self._match(b"/%s/" % name if directory else b"/" + name)
        if found is None or found.lastindex is None:
            return False
        return not self.rules[found.lastindex - 1].include


#: Nothing is left out.
EVERYTHING = Patterns()


class _Wild(Enum):
    """What stands for more than one byte."""

    #: C{*}: within a part.
    STAR = "star"
    #: C{**} within a part.
    CROSS = "cross"
    #: C{**} as a part, with the slash behind it.
    DIRECTORIES = "directories"


#: A regular expression for bytes that are one behind the other, or what stands for any number.
_Item = bytes | _Wild


def _translated(pattern: bytes) -> bytes:
    """
    Make a regular expression of a pattern.

    It matches names with a slash before them, and one behind those of directories.
    """
    try:
        parts = _partsOf(pattern)
        end = rb"/\Z" if pattern.endswith(b"/") else rb"/?\Z"
        if len(parts) > 1 and parts[-1] == b"***":
            return b"%s%s|%s%s" % (_whole(parts[:-1]), end, _whole(parts), end)
        return _whole(parts) + end
    except ValueError as error:
        raise ConfigurationError(
            f"The pattern '{decodeText(pattern, _SHOWN)}' cannot be used: {error}."
        ) from None


def _partsOf(pattern: bytes) -> list[bytes]:
    """Take a pattern apart at its slashes; one that begins at any depth gets C{**} before it."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"it has {len(pattern)} bytes, and no name has more than {MAX_PATTERN}")
    if b"\0" in pattern:
        raise ValueError("no name holds a NUL byte")
    body = pattern.removesuffix(b"/")
    parts = body.removeprefix(b"/").split(b"/")
    for part in parts:
        if part in (b"", b".", b".."):
            shown = f"'{part.decode()}'" if part else "an empty part"
            raise ValueError(f"no name in a tree holds {shown}; leave that away")
    return parts if b"/" in body else [b"**", *parts]


def _whole(parts: list[bytes]) -> bytes:
    """Make a regular expression of all parts, from the top of the tree on."""
    if len(parts) == 2 and parts[0] == b"**" and b"**" not in parts[1]:
        # The most frequent: what is looked for at any depth is the last part of a name, and the
        # way to that from the end is short.
        return b".*/" + _segment(list(_items(parts[1])), last=True)
    items: list[_Item] = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if len(part) > 1 and not part.strip(b"*"):
            items += [b".", _Wild.CROSS] if last else [_Wild.DIRECTORIES]
        else:
            # Behind the slash of a directory comes nothing, and nothing is no part.
            items += [b"[^/]"] if part == b"*" else []
            items += _items(part)
            items += [] if last else [b"/"]
    return b"/" + _assembled(items)


def _assembled(items: list[_Item]) -> bytes:
    """Put segments together: what is between two of the wildcards that pass slashes."""
    made: list[bytes] = []
    opening, segment = b"", list[_Item]()
    for item in items:
        if item is _Wild.CROSS or item is _Wild.DIRECTORIES:
            made.append(_placed(opening, _segment(segment, last=False)))
            opening = b".*?" if item is _Wild.CROSS else b"(?:.*?/)??"
            segment = []
        else:
            segment.append(item)
    return b"".join(made) + opening + _segment(segment, last=True)


def _placed(opening: bytes, segment: bytes) -> bytes:
    """
    Look for a segment where it comes first, and never further on.

    What is behind it begins with a wildcard that passes slashes, and takes in whatever lies between
    here and a later place: if the rest does not match from here on, it does not from there on.
    """
    return b"(?>%s%s)" % (opening, segment) if opening and segment else segment


def _segment(items: list[_Item], last: bool) -> bytes:
    """
    Make a regular expression of what holds no wildcard that passes slashes.

    What is behind a star is looked for where it comes first, and never further on: another star
    comes later, which takes in what is between. Only what ends the pattern has to be at the end.
    """
    chunks = [b""]
    for item in items:
        if isinstance(item, bytes):
            chunks[-1] += item
        else:
            chunks.append(b"")
    first, rest = chunks[0], chunks[1:]
    made = [b"(?>[^/]*?%s)" % chunk if chunk else b"" for chunk in rest]
    if rest and last:
        made[-1] = b"[^/]*" + rest[-1]
    return first + b"".join(made)


def _items(part: bytes) -> Iterator[_Item]:
    """Read one part of a pattern."""
    at = 0
    while at < len(part):
        byte = part[at : at + 1]
        if byte == b"*":
            stars = len(part) - at - len(part[at:].lstrip(b"*"))
            yield _Wild.STAR if stars == 1 else _Wild.CROSS
            at += stars
        elif byte == b"?":
            yield b"[^/]"
            at += 1
        elif byte == b"[":
            among, at = _setOf(part, at + 1)
            yield _written(among)
        else:
            literal, at = _literal(part, at)
            yield re.escape(bytes([literal]))


def _literal(part: bytes, at: int) -> tuple[int, int]:
    """Read one byte that stands for itself; tell where the next begins."""
    if part[at : at + 1] != b"\\":
        return part[at], at + 1
    if at + 1 == len(part):
        raise ValueError("nothing is behind its backslash; double that where it is meant itself")
    return part[at + 1], at + 2


def _setOf(part: bytes, at: int) -> tuple[frozenset[int], int]:
    """Read what is in brackets, from behind the first; tell where the rest begins."""
    negated = part[at : at + 1] in (b"!", b"^")
    at += negated
    among: set[int] = set()
    start = at
    while part[at : at + 1] != b"]" or at == start:
        if at >= len(part):
            raise ValueError("its '[' has no ']' in the same part; put a backslash before it")
        if part[at : at + 2] == b"[:":
            named, at = _classOf(part, at + 2)
            among |= named
            continue
        low, at = _literal(part, at)
        high = low
        if part[at : at + 1] == b"-" and part[at + 1 : at + 2] not in (b"]", b""):
            high, at = _literal(part, at + 1)
        if high < low:
            raise ValueError("a range in its brackets ends before it begins")
        among.update(range(low, high + 1))
    return frozenset(_EVERY - among if negated else among) - {0x2F}, at + 1


def _classOf(part: bytes, at: int) -> tuple[set[int], int]:
    """Read the name of a class, from behind its colon; tell where the rest begins."""
    name, closed, _ = part[at:].partition(b":]")
    if not closed or name not in _CLASSES:
        raise ValueError(
            f"'{decodeText(name, 20)}' in its brackets is no class; there are "
            + ", ".join(known.decode() for known in _CLASSES)
        )
    known = re.compile(_CLASSES[name])
    return {byte for byte in _EVERY if known.fullmatch(bytes([byte]))}, at + len(name) + 2


def _written(among: frozenset[int]) -> bytes:
    """Write a set of bytes; one that is empty matches nothing."""
    if not among:
        return b"(?!)"
    return b"[%s]" % b"".join(b"\\x%02x" % byte for byte in sorted(among))
