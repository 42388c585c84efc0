"""
What a tree holds, one entry after the other; the same whether it is here or a peer has told it.

Nothing here looks at a disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from twisted_netsuite.errors import InvalidName, LimitExceeded, ProtocolError
from twisted_netsuite.files.messages import Facts, Listed
from twisted_netsuite.files.names import MAX_DEPTH, MAX_NAME, Parts, requirePart
from twisted_netsuite.wire.text import decodeText

#: Entries of one tree: with both sides of it and a plan that is two gigabytes.
MAX_ENTRIES = 4_000_000

#: Characters of a name that a sentence shows.
SHOWN = 200


class TreeEntry(NamedTuple):
    """
    A file or directory of a tree.

    @ivar name: from the top of the tree on, without a slash before it; empty for the top itself.
    @ivar directory: whether it is one.
    @ivar size: bytes of a file.
    @ivar mtime: nanoseconds since 1970.
    @ivar mode: permission bits, without setuid, setgid and the sticky bit.
    @ivar version: as a peer has told it; empty for what is here.
    @ivar digest: that of a file, where it is known.
    @ivar room: bytes that it takes without its holes, where a peer has told that it has some.
    """

    name: bytes
    directory: bool
    size: int = 0
    mtime: int = 0
    mode: int = 0
    version: bytes = b""
    digest: bytes | None = None
    room: int | None = None

    @property
    def parts(self) -> Parts:
        """The parts of its name, from the top of the tree on."""
        return tuple(self.name.split(b"/")) if self.name else ()

    @property
    def facts(self) -> Facts:
        """What the peer has told of it."""
        return Facts(
            directory=self.directory,
            size=self.size,
            mtime=self.mtime,
            mode=self.mode,
            version=self.version,
            room=self.room,
        )


def entryOf(name: bytes, facts: Facts, digest: bytes | None = None) -> TreeEntry:
    """
    Take over what a peer has told.

    @param name: from the top of the tree on; it has been checked.
    @param facts: what is known of it.
    @param digest: that of a file, where it is known.
    @return: the entry.
    """
    size = 0 if facts.directory else facts.size
    known = facts.mtime, facts.mode, facts.version, digest, facts.room
    return TreeEntry(name, facts.directory, size, *known)


def shownName(name: bytes) -> str:
    """
    Write a name for a person.

    @param name: from the top of the tree on.
    @return: at most L{SHOWN} characters, which do nothing to a terminal; C{.} for the top.
    """
    return decodeText(name or b".", SHOWN)


class Intake:
    """
    Takes a peer's manifest, and nothing in it that could lead out of the tree.

    Each name has to be below the top, in a directory that was told before, and no name may come
    twice; then no two entries are one file, and no file is the parent of another.
    """

    def __init__(self, most: int = MAX_ENTRIES) -> None:
        """
        @param most: entries that are taken.
        """
        self._most = most
        # How many parts the names of what is in them have before their last one.
        self._directories: dict[bytes, int] = {b"": 0}
        self._names: set[bytes] = set()

    def take(self, batch: Iterable[Listed]) -> Iterator[TreeEntry]:
        """
        Take what has come.

        @param batch: as the peer has sent it.
        @return: the same, entry by entry.
        @raise ProtocolError: when a name can be none there.
        @raise LimitExceeded: when there are too many.
        """
        directories, names = self._directories, self._names
        for listed in batch:
            name, facts = listed.name, listed.facts
            parent, _, part = name.rpartition(b"/")
            depth = directories.get(parent)
            # A slash at the beginning leaves no parent before it either.
            if depth is None or (not parent and name.startswith(b"/")):
                raise _unwanted(name, "which is in no directory that it told before")
            if name in names:
                raise _unwanted(name, "which it told before")
            if depth >= MAX_DEPTH or len(name) > MAX_NAME:
                raise _unwanted(name, "which is longer or deeper than names can be")
            try:
                requirePart(part)
            except InvalidName as error:
                why = f"which can be no name: {error.sentence.rstrip('.')}"
                raise _unwanted(name, why) from error
            names.add(name)
            if facts.directory:
                directories[name] = depth + 1
            if len(names) > self._most:
                raise tooMany(self._most)
            yield entryOf(name, facts, listed.digest)


def _unwanted(name: bytes, why: str) -> ProtocolError:
    return ProtocolError(
        f"The server has sent the name '{shownName(name)}', {why}; nothing is done with what it "
        "has sent."
    )


def tooMany(most: int) -> LimitExceeded:
    """
    Say that a tree is too large.

    @param most: entries that it may have.
    @return: the error.
    """
    return LimitExceeded(f"The tree has more than {most} entries; take its directories one by one.")
