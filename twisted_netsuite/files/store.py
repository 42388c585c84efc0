"""
The interface between those who serve or fetch files and the place where they are kept.

All methods block, so they are called in threads; what one L{Source} or L{Target} does is asked for
one after the other, different ones at the same time. What cannot be is a L{NetsuiteError}:
L{NotFound}, L{Denied}, L{InvalidName}, L{Conflict}, L{SourceChanged}, L{Corrupted},
L{LimitExceeded}, or L{StorageFailed} for a disk that is full or fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from twisted_netsuite.files.names import Parts

Kind = Literal["file", "directory"]


class Attributes(NamedTuple):
    """
    What is known of a file or a directory without reading it.

    @ivar kind: which of these; nothing else is ever served.
    @ivar size: bytes of a file; 0 for a directory.
    @ivar mtime: when it was changed last, in nanoseconds since 1970.
    @ivar mode: permission bits, without setuid, setgid and the sticky bit.
    @ivar version: 16 bytes that are others whenever the contents may be others.
    @ivar room: bytes that a large file takes without its holes, where it has some.
    """

    kind: Kind
    size: int
    mtime: int
    mode: int
    version: bytes
    room: int | None = None


class Entry(NamedTuple):
    """
    What a directory holds.

    @ivar name: one part of a name.
    @ivar attributes: what is known of it.
    """

    name: bytes
    attributes: Attributes


@dataclass(frozen=True)
class Wanted:
    """
    What is to be published under a name.

    @ivar size: its bytes.
    @ivar mtime: as in L{Attributes}; C{None} for the time of its publishing.
    @ivar mode: permission bits; C{None} for those of the file that it replaces, or the usual ones.
    @ivar clobber: whether it may replace a file.
    @ivar replaces: the digest that the file must have that it replaces; C{None} for any.
    @ivar source: what tells the source apart from others and from itself once it has changed, 1 to
        128 bytes; C{None} when nothing of it is to be kept for another try.
    @ivar durable: whether it is on the disk, and not in memory only, once it is published.
    @ivar room: bytes that it takes without its holes, so that it is refused at once when there is
        not as much; C{None} when that is not known: it can be anything up to its size.
    """

    size: int
    mtime: int | None = None
    mode: int | None = None
    clobber: bool = True
    replaces: bytes | None = None
    source: bytes | None = None
    durable: bool = True
    room: int | None = None


class Source(Protocol):
    """A file that is open for reading."""

    @property
    def attributes(self) -> Attributes:
        """What it was when it was opened."""

    @property
    def descriptor(self) -> int | None:
        """For the kernel to send from; C{None} when it is not on a disk."""

    def read(self, offset: int, count: int) -> bytes:
        """
        Read.

        @param offset: where it begins, in bytes.
        @param count: bytes.
        @return: all of them.
        @raise SourceChanged: when it has become shorter.
        """

    def digest(self, index: int) -> bytes:
        """
        Digest a chunk; after that its bytes are in memory, as far as the system keeps them there.

        @param index: which.
        @return: its digest.
        """

    def data(self, offset: int) -> tuple[int, int]:
        """
        Find what is no hole.

        @param offset: where to begin.
        @return: where data begins, at or behind it, and where that ends; twice the file's size when
            there is no more.
        """

    def unchanged(self) -> bool:
        """Tell whether it is still what it was when it was opened."""

    def close(self) -> None:
        """Let it go."""


class Target(Protocol):
    """
    A file that is being written, and nobody sees.

    @ivar size: bytes that it will have.
    @ivar kept: once it is closed, whether something of it is there for another try.
    """

    size: int
    kept: bool

    @property
    def verified(self) -> Mapping[int, bytes]:
        """The chunks that are there, and right, by their index; in the beginning those that an
        earlier try has left."""

    def write(self, offset: int, pieces: list[bytes]) -> None:
        """
        Write.

        @param offset: where, in bytes.
        @param pieces: what, one behind the other.
        """

    def chunkWritten(self, index: int, digest: bytes) -> None:
        """
        Note that all of a chunk was written, and is right.

        @param index: which.
        @param digest: its own.
        """

    def hole(self, index: int) -> None:
        """
        Let a whole chunk be zeros that take no room; nothing was written to it.

        @param index: which.
        """

    def commit(self, digest: bytes) -> Attributes:
        """
        Publish it: from here on everybody sees it in place of the old one, and never a part of it.
        It is closed, also when that fails.

        @param digest: that of the whole, by L{digests.combined}.
        @return: what it is now.
        @raise Corrupted: when chunks are missing, or have another digest together.
        @raise Conflict: when there is a file that it may not replace.
        """

    def keep(self) -> None:
        """Close it, and keep what is there for another try, if its source has a name."""

    def discard(self) -> None:
        """Close it, and leave nothing of it."""


class Store(Protocol):
    """Files and directories below one root."""

    def stat(self, parts: Parts) -> Attributes:
        """
        Look at a file or directory.

        @param parts: its name.
        """

    def list(self, parts: Parts) -> Iterator[Entry]:
        """
        Look into a directory, in no order; what is neither file nor directory is left out.

        @param parts: its name.
        @return: closes what it holds when it is closed, or at its end.
        """

    def holdsLink(self, parts: Parts) -> bool:
        """
        Tell whether there is something in a directory that leads to another name, and is followed.

        @param parts: the directory's name.
        """

    def source(self, parts: Parts) -> Source:
        """
        Open a file for reading.

        @param parts: its name.
        """

    def readWhole(self, parts: Parts, limit: int) -> tuple[Attributes, bytes] | Source:
        """
        Read a file, if it is small and holds still; else open it.

        @param parts: its name.
        @param limit: bytes that it may have at the most.
        @return: what it is, and all of it, of one version; or the file, as it is larger, or changes
            just now.
        """

    def publishWhole(self, parts: Parts, wanted: Wanted, data: bytes) -> Attributes:
        """
        Publish a file that is all there. It is as safe as one that is written piece by piece, and
        takes less time.

        @param parts: its name; its directory has to exist.
        @param wanted: what it will be, of one chunk at the most; nothing is kept of it for another
            try, whatever its source.
        @param data: all of it, which is right: whoever asks for this has seen to that.
        @return: what it is now.
        @raise Conflict: when there is something that it may not replace.
        @raise StorageFailed: when there is not room enough.
        """

    def target(self, parts: Parts, wanted: Wanted, owner: str) -> Target:
        """
        Begin to write a file, or go on where an earlier try of the same source has ended.

        @param parts: its name; its directory has to exist.
        @param wanted: what it will be.
        @param owner: whose it is: nobody else goes on with it.
        @raise Conflict: when it is plain already that it cannot be published, or another is being
            written from the same source for the same name.
        @raise StorageFailed: when there is not room enough.
        """

    def makeDirectory(
        self, parts: Parts, mode: int | None, parents: bool, durable: bool = False
    ) -> None:
        """
        Make a directory; one that is there already is left as it is.

        @param parts: its name.
        @param mode: permission bits; C{None} for the usual ones.
        @param parents: whether to make those that it is to be in, too.
        @param durable: whether it is on the disk, and not in memory only, once it is made.
        """

    def rename(self, parts: Parts, to: Parts, clobber: bool, durable: bool = False) -> None:
        """
        Give a file or a directory another name.

        @param parts: its name.
        @param to: its new one.
        @param clobber: whether a file that has that name is replaced.
        @param durable: whether the disk, and not memory only, has the new name then.
        """

    def remove(self, parts: Parts, durable: bool = False) -> None:
        """
        Remove a file, or a directory that is empty.

        @param parts: its name.
        @param durable: whether it is gone from the disk then, and not in memory only.
        """

    def change(self, parts: Parts, mode: int | None, mtime: int | None) -> None:
        """
        Change what is known of a file or directory.

        @param parts: its name.
        @param mode: permission bits; C{None} to leave them.
        @param mtime: in nanoseconds since 1970; C{None} to leave it.
        """

    def clean(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> int:
        """
        Remove what tries have left that nobody goes on with.

        @param seconds: how old it has to be.
        @param stopped: tells, again and again, whether to leave the rest for another time.
        @return: how many files were removed.
        """

    def close(self) -> None:
        """Let the root go."""
