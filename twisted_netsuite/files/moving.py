"""
What it takes to move one file, whichever way: where it is at this end, what is wished, and what has
become of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from blake3 import blake3

from twisted_netsuite.errors import ConnectionFailed
from twisted_netsuite.files.disk import Disk
from twisted_netsuite.files.messages import Facts
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.store import Attributes, Store, Wanted
from twisted_netsuite.wire.text import decodeText

#: Called with bytes that are in place now and were not before; less than 0 where some have to come
#: again. What an earlier try has left counts, and so do holes: the sum is the size in the end.
Moved = Callable[[int], object]

#: Characters of a name that a sentence shows.
_SHOWN = 200


@dataclass(frozen=True)
class Local:
    """
    A file at this end: where it is, or is to be.

    @ivar store: the place where files are kept.
    @ivar parts: its name there.
    @ivar disk: does what blocks.
    @ivar owner: who goes on with what is left of it.
    """

    store: Store
    parts: Parts
    disk: Disk
    owner: str = "local"


@dataclass(frozen=True)
class Got:
    """
    A file that was fetched.

    @ivar facts: what the server says of it.
    @ivar digest: its digest, which was verified.
    @ivar moved: bytes of its contents that came over the network.
    @ivar there: bytes that did not have to: from an earlier try, or holes.
    """

    facts: Facts
    digest: bytes
    moved: int
    there: int


@dataclass(frozen=True)
class Sent:
    """
    A file that was sent.

    @ivar facts: what the server says it is now, if it does.
    @ivar digest: its digest.
    @ivar size: its bytes.
    @ivar moved: bytes of its contents that went over the network.
    @ivar there: bytes that did not have to: from an earlier try, or holes.
    """

    facts: Facts | None
    digest: bytes
    size: int
    moved: int
    there: int


class Unconfirmed(ConnectionFailed):
    """
    The connection has ended after all of a file was sent: it may have been published.

    @ivar name: which.
    @ivar sent: what it was to become.
    """

    def __init__(self, sentence: str, name: bytes, sent: Sent) -> None:
        """
        @param sentence: for a person.
        @param name: which file.
        @param sent: what it was to become.
        """
        super().__init__(sentence)
        self.name = name
        self.sent = sent


class Wishes(TypedDict, total=False):
    """
    How a file is to be moved.

    @ivar resume: whether to go on with what an earlier try has left, and to leave something for a
        later one; as it is unless told otherwise.
    @ivar clobber: whether a file may be replaced; as it may unless told otherwise.
    @ivar replaces: the digest that the file must have that is replaced.
    @ivar mode: permission bits that it gets.
    @ivar mtime: its time, in nanoseconds since 1970.
    @ivar preserve: whether it keeps its mode and its time where they are not given.
    @ivar durable: whether it has to be on the disk at the end; as it has unless told otherwise.
    """

    resume: bool
    clobber: bool
    replaces: bytes | None
    mode: int | None
    mtime: int | None
    preserve: bool
    durable: bool


def wantedOf(origin: Facts | Attributes, wishes: Wishes, source: bytes | None) -> Wanted:
    """
    Tell what is to be published.

    @param origin: what is known of the original.
    @param wishes: how it is to be moved.
    @param source: what tells the original apart; C{None} when nothing is to be kept of a try.
    @return: for a store, or a PUT.
    """
    mode, mtime = wishes.get("mode"), wishes.get("mtime")
    if wishes.get("preserve", False):
        mode = origin.mode if mode is None else mode
        mtime = origin.mtime if mtime is None else mtime
    return Wanted(
        size=origin.size,
        mode=mode,
        mtime=mtime,
        clobber=wishes.get("clobber", True),
        replaces=wishes.get("replaces"),
        source=source if wishes.get("resume", True) else None,
        durable=wishes.get("durable", True),
    )


def fingerprint(name: bytes, version: bytes) -> bytes:
    """
    Tell a file apart from others, and from itself once it has changed.

    @param name: its own, where it is kept.
    @param version: 16 bytes that are others once it has changed.
    @return: 32 bytes that tell nothing else.
    """
    return blake3(version + name).digest()


def shown(name: bytes) -> str:
    """
    Write a name for a sentence.

    @param name: any.
    @return: cleaned, in quotes.
    """
    return f"'{decodeText(name, _SHOWN)}'"
