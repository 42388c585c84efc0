"""
Files in memory that are open, for reading or for writing; where they are kept is in
L{files.memorystore}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from twisted_netsuite.errors import Corrupted, NetsuiteError, SourceChanged
from twisted_netsuite.files.digests import CHUNK, ZEROS, chunkLength, chunks, combined, digestOf
from twisted_netsuite.files.names import Parts, join
from twisted_netsuite.files.root import shown
from twisted_netsuite.files.store import Attributes, Wanted

#: What tells one try to write from the others: the owner, the name, and the source.
Key = tuple[str, Parts, bytes]


@dataclass
class Partial:
    """
    What a try has written.

    @ivar data: the bytes, as many as the file will have.
    @ivar verified: the digests of the chunks that are right, by their index.
    @ivar since: when it was left, in nanoseconds since 1970.
    """

    data: bytearray
    verified: dict[int, bytes] = field(default_factory=dict)
    since: int = 0


class Keeping(Protocol):
    """A store, as a target sees it."""

    def publish(self, parts: Parts, wanted: Wanted, data: bytearray) -> Attributes:
        """
        Make a file of what was written.

        @param parts: its name.
        @param wanted: what it was to be.
        @param data: its bytes; they belong to the file from here on.
        @return: what it is now.
        @raise Conflict: when it may not replace what is there.
        """

    def ended(self, key: Key | None, kept: Partial | None, dropped: int) -> None:
        """
        Know that a try is over.

        @param key: what tells it from the others, if anything does.
        @param kept: what it has written, if that is to be kept for another.
        @param dropped: bytes of room that it gives back.
        """


class MemorySource:
    """
    A file that is open for reading: what it was when it was opened.

    @ivar attributes: what is known of it.
    @ivar descriptor: none.
    """

    def __init__(self, data: bytes | bytearray, attributes: Attributes) -> None:
        """
        @param data: its bytes, which nobody changes.
        @param attributes: what is known of it.
        """
        self.attributes = attributes
        self.descriptor: int | None = None
        self._data = data

    def read(self, offset: int, count: int) -> bytes:
        """
        Read.

        @param offset: where it begins, in bytes.
        @param count: bytes.
        @return: all of them.
        @raise SourceChanged: when there are not as many.
        """
        data = bytes(memoryview(self._data)[offset : offset + count])
        if len(data) < count:
            raise SourceChanged("The file is shorter than what was to be read; get it again.")
        return data

    def digest(self, index: int) -> bytes:
        """
        Digest a chunk.

        @param index: which.
        @return: its digest.
        """
        return _chunkDigest(self._data, index)

    def data(self, offset: int) -> tuple[int, int]:
        """
        Find what is no hole: everything.

        @param offset: where to begin.
        @return: where data begins, and the end of the file.
        """
        size = self.attributes.size
        return min(offset, size), size

    def unchanged(self) -> bool:
        """Tell that it is still what it was: another file takes its place, and it stays."""
        return True

    def close(self) -> None:
        """Let it go."""


class MemoryTarget:
    """
    A file that is being written, and nobody sees.

    @ivar size: bytes that it will have.
    @ivar kept: once it is closed, whether something of it is there for another try.
    """

    def __init__(
        self, store: Keeping, parts: Parts, wanted: Wanted, key: Key | None, partial: Partial
    ) -> None:
        """
        @param store: where it will be.
        @param parts: its name.
        @param wanted: what it will be.
        @param key: what tells this try from the others, if anything does.
        @param partial: what an earlier one has left, or nothing yet.
        """
        self.size = wanted.size
        self.kept = False
        self._store = store
        self._parts = parts
        self._wanted = wanted
        self._key = key
        self._partial = partial
        self._open = True

    @property
    def verified(self) -> Mapping[int, bytes]:
        """The chunks that are there, and right, by their index."""
        return self._partial.verified

    def write(self, offset: int, pieces: list[bytes]) -> None:
        """
        Write.

        @param offset: where, in bytes.
        @param pieces: what, one behind the other.
        @raise Corrupted: when it is more than the file was to have.
        """
        for piece in pieces:
            end = offset + len(piece)
            if end > self.size:
                raise Corrupted(
                    f"{_shown(self._parts)} was to have {self.size} bytes, and {end} have come."
                )
            self._partial.data[offset:end] = piece
            offset = end

    def chunkWritten(self, index: int, digest: bytes) -> None:
        """
        Note that all of a chunk was written, and is right.

        @param index: which.
        @param digest: its own.
        """
        self._partial.verified[index] = digest

    def hole(self, index: int) -> None:
        """
        Let a whole chunk be zeros.

        @param index: which.
        """
        zeros = bytes(chunkLength(self.size, index))
        start = index * CHUNK
        # An earlier try may have written a part of it.
        self._partial.data[start : start + len(zeros)] = zeros
        self._partial.verified[index] = ZEROS if len(zeros) == CHUNK else digestOf(zeros)

    def commit(self, digest: bytes) -> Attributes:
        """
        Publish it; it is closed, also when that fails.

        @param digest: that of the whole.
        @return: what it is now.
        @raise Corrupted: when chunks are missing, or have another digest together.
        @raise Conflict: when there is a file that it may not replace.
        """
        verified, count = self._partial.verified, chunks(self.size)
        missing = [index for index in range(count) if index not in verified]
        if missing:
            self.keep()
            raise Corrupted(
                f"Of {_shown(self._parts)} {len(missing)} of {count} chunks are missing; send them."
            )
        if combined([verified[index] for index in range(count)]) != digest:
            self.discard()
            raise Corrupted(f"{_shown(self._parts)} is not what its digest says; put it once more.")
        try:
            attributes = self._store.publish(self._parts, self._wanted, self._partial.data)
        except NetsuiteError:
            self.keep()
            raise
        self._close()
        return attributes

    def keep(self) -> None:
        """Close it, and keep what is there for another try, if its source has a name."""
        if self._key is None:
            self.discard()
        else:
            self._close(kept=self._partial)

    def discard(self) -> None:
        """Close it, and leave nothing of it."""
        self._close(dropped=self.size)

    def _close(self, kept: Partial | None = None, dropped: int = 0) -> None:
        if self._open:
            self._open = False
            self.kept = kept is not None
            self._store.ended(self._key, kept, dropped)


def _shown(parts: Parts) -> str:
    return shown(join(parts))


def _chunkDigest(data: bytes | bytearray, index: int) -> bytes:
    return digestOf(memoryview(data)[index * CHUNK : (index + 1) * CHUNK])


def digestOfAll(data: bytes | bytearray) -> bytes:
    """
    Digest a file.

    @param data: all of it.
    @return: its digest.
    """
    return combined([_chunkDigest(data, index) for index in range(chunks(len(data)))])
