"""
Names of files as they stand on the wire: bytes, parts divided by slashes, from the root on.

Nothing here looks at a disk. Names are compared and checked as bytes, never decoded.
"""

from __future__ import annotations

from twisted_netsuite.errors import InvalidName

#: Bytes of one part, as in every file system of Linux.
MAX_PART = 255

#: Bytes of a whole name: Linux takes 4096 with the NUL behind it, and with the root before it.
MAX_NAME = 4000

#: Parts of one name; no tree that people keep is so deep.
MAX_DEPTH = 64

#: What the parts begin with that are the service's own: files that are not whole yet, and what is
#: known of them. They are never listed, and no request can name them.
RESERVED = b".netsuite-"

_DOT = ord(".")

Parts = tuple[bytes, ...]


def split(name: bytes) -> Parts:
    """
    Take a name apart.

    @param name: from the root on, with or without a leading slash; parts that are empty or a dot
        count for nothing.
    @return: its parts; none for the root itself.
    @raise InvalidName: when it can be none here.
    """
    if b"\0" in name:
        raise InvalidName("A name cannot hold a NUL byte.")
    if len(name) > MAX_NAME:
        raise InvalidName(f"A name of {len(name)} bytes was given; at most {MAX_NAME} are taken.")
    # Every request has a name: only what begins with a dot is looked at closely.
    parts = tuple(part for part in name.split(b"/") if part and part != b".")
    if len(parts) > MAX_DEPTH:
        raise InvalidName(f"A name of {len(parts)} parts was given; at most {MAX_DEPTH} are taken.")
    for part in parts:
        if len(part) > MAX_PART or part[0] == _DOT:
            requirePart(part)
    return parts


def requirePart(part: bytes) -> None:
    """
    Require that one part can stand in a name, also one that a peer's list holds.

    @param part: what would stand between two slashes.
    @raise InvalidName: when it cannot.
    """
    if part in (b"", b".", b"..") or b"/" in part or b"\0" in part:
        raise InvalidName(f"A name cannot hold {_shown(part)}.")
    if len(part) > MAX_PART:
        raise InvalidName(
            f"A part of a name has {len(part)} bytes; at most {MAX_PART} are possible."
        )
    if part.startswith(RESERVED):
        raise InvalidName(f"Names that begin with '{RESERVED.decode()}' are the service's own.")


def _shown(part: bytes) -> str:
    return "'..'" if part == b".." else "an empty part" if not part else "such a part"


def join(parts: Parts) -> bytes:
    """
    Put a name together.

    @param parts: from the root on.
    @return: the name, with a leading slash.
    """
    return b"/" + b"/".join(parts)


def isName(parts: Parts) -> bool:
    """
    Tell whether a request can name something: parts that can be, but so many or so long that
    L{split} refuses them, are there where directories were renamed.

    @param parts: from the root on.
    @return: whether it can.
    """
    return len(parts) <= MAX_DEPTH and sum(map(len, parts)) + len(parts) <= MAX_NAME
