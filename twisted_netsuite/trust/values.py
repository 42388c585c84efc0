"""
The values that the rules of a policy are made of, each read from what stands in the file; a value
that cannot be used is refused with the end of a sentence about it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

import msgspec

from twisted_netsuite.trust.hosts import PortRange
from twisted_netsuite.trust.identity import NAME, Identity
from twisted_netsuite.trust.patterns import Glob, compilePattern

#: What C{sizes} are counted in.
_UNITS = {
    unit: factor
    for power, letter in enumerate(["", "K", "M", "G", "T"])
    for unit, factor in (
        (f"{letter}iB" if letter else "B", 1024**power),
        ("kB" if letter == "K" else f"{letter}B", 1000**power),
    )
}

#: The largest size and count: what fits where the kernel and SQLite keep them.
_LARGEST = 2**63 - 1

#: What stands at the end of argv for any further arguments, also none.
REST = "..."

Count = Annotated[int, msgspec.Meta(ge=1, le=_LARGEST)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=_LARGEST)]


class Size(int):
    """A number of bytes."""

    @classmethod
    def read(cls, size: object) -> Size:
        """
        Read a size.

        @param size: a number of bytes, or a text such as C{64 MiB}.
        @return: at least one byte.
        @raise ValueError: when it is none.
        """
        found = re.fullmatch(r"(\d{1,15})(\.\d{1,6})? ?([A-Za-z]+)", str(size), re.ASCII)
        if isinstance(size, str) and found and found[3] in _UNITS:
            size = int(found[1]) * _UNITS[found[3]] + int(float(found[2] or 0) * _UNITS[found[3]])
        if not isinstance(size, int) or isinstance(size, bool):
            raise ValueError(f'it is no size; write such as 4096 or "64 MiB" ({", ".join(_UNITS)})')
        if not 1 <= size <= _LARGEST:
            raise ValueError(f"a size is from 1 to {_LARGEST} bytes")
        return cls(size)


class Element:
    """
    What one argument may be.

    @ivar alternatives: the patterns of which one has to fit.
    @ivar rest: whether it stands for any further arguments instead.
    """

    __slots__ = ("alternatives", "rest")

    def __init__(self, written: object) -> None:
        """
        @param written: a pattern, or a list of alternatives.
        @raise ValueError: when it is neither.
        """
        self.rest = written == REST
        texts: list[Any] = written if isinstance(written, list) else [written]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError("it is no pattern; write a text, or a list of texts as alternatives")
        if REST in texts and not self.rest:
            raise ValueError('"..." is no alternative; write it alone, as the last of argv')
        self.alternatives = [] if self.rest else [compilePattern(text) for text in texts]

    def __repr__(self) -> str:
        return f"Element({REST if self.rest else self.alternatives!r})"

    def matches(self, text: str, wide: bool) -> bool:
        """
        Tell whether an argument fits.

        @param text: the argument.
        @param wide: as for patterns.
        @return: whether it does.
        """
        return any(pattern.matches(text, wide) for pattern in self.alternatives)


class RoomPattern(Glob):
    """A pattern for names and rooms of chat, in which a slash is a character as any other."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        """
        @param text: the pattern.
        @raise ValueError: when nothing can fit.
        """
        super().__init__(text)
        if not text:
            raise ValueError("nothing has an empty name; write * for all")


class IdentityPattern:
    """
    Whom a line of C{[identities]} means.

    @ivar text: as written.
    @ivar method: how it must be known who it is.
    @ivar name: the names that are meant.
    """

    METHODS: ClassVar = ("cert", "unix", "token")

    __slots__ = ("method", "name", "text")

    def __init__(self, text: str) -> None:
        """
        @param text: such as C{cert:anna}.
        @raise ValueError: when it means nobody, or leaves open how it is known who it is.
        """
        self.text = text
        self.method, colon, name = text.partition(":")
        self.name = Glob(name)
        if text == "anonymous":
            return
        if self.method not in self.METHODS or not colon or not name:
            raise ValueError(
                "it names no identity; write how it is known and a name: cert:NAME, unix:NAME, "
                "token:NAME or anonymous, where only NAME can have wildcards"
            )
        if self.name.literal and not NAME.fullmatch(name) and not re.fullmatch(r"#\d+", name):
            raise ValueError("nobody can have that name; names are letters, digits and ._@-")

    def __repr__(self) -> str:
        return f"IdentityPattern({self.text!r})"

    def matches(self, identity: Identity) -> bool:
        """
        Tell whether somebody is meant.

        @param identity: who.
        @return: whether the method is the same, and the name fits.
        """
        return self.method == identity.method and self.name.matches(identity.name)


def convertHook(kind: type[Any], value: object) -> object:
    """
    Make what C{msgspec} does not know, as its C{dec_hook}.

    @param kind: one of the types of this module and of L{trust.patterns}.
    @param value: as it stands in the file.
    @return: the value of that type.
    @raise ValueError: the end of a sentence about the value.
    """
    if kind is Size:
        return Size.read(value)
    if kind is Element:
        return Element(value)
    if kind is PortRange and isinstance(value, int | str):
        return PortRange(value)
    if not isinstance(value, str):
        raise ValueError("it is no text; write one in quotes")
    return kind(value)
