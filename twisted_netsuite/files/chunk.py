"""
One chunk of a file that comes piece by piece, is written as it comes, and checked at its end.
"""

from __future__ import annotations

from blake3 import blake3

from twisted_netsuite.errors import Corrupted
from twisted_netsuite.files.digests import CHUNK
from twisted_netsuite.files.store import Target


class Chunk:
    """
    One chunk, as far as it has come.

    @ivar index: which.
    @ivar length: its bytes.
    @ivar taken: how many of them have come.
    @ivar failed: whether a part of it could not be written: then nothing of it is any more.
    """

    def __init__(self, index: int, length: int, digest: bytes) -> None:
        """
        @param index: which.
        @param length: its bytes.
        @param digest: what it has to be.
        """
        self.index = index
        self.length = length
        self.taken = 0
        self.failed = False
        self._digest = digest
        self._hash = blake3()
        self._begun = False
        #: The digest of what is there already: then nothing of it is written.
        self._there: bytes | None = None

    def write(self, target: Target, pieces: list[bytes]) -> int:
        """
        Write a part of it; the last tells whether it is right. Blocks.

        @param target: the file.
        @param pieces: what comes next of it.
        @return: how many bytes are in place now that were not.
        @raise Corrupted: when it is not what its digest says.
        """
        if self.failed:
            return 0
        try:
            return self._write(target, pieces)
        except BaseException:
            self.failed = True
            raise

    def _write(self, target: Target, pieces: list[bytes]) -> int:
        if not self._begun:
            self._begun = True
            self._there = target.verified.get(self.index)
        if self._there is None:
            target.write(self.index * CHUNK + self.taken, pieces)
        count = 0
        for piece in pieces:
            self._hash.update(piece)
            count += len(piece)
        self.taken += count
        if self.taken == self.length:
            self._end(target)
        return count if self._there is None else 0

    def _end(self, target: Target) -> None:
        if self._hash.digest() != self._digest:
            raise Corrupted(
                f"Chunk {self.index} came with other contents than its digest says; try again."
            )
        if self._there is None:
            target.chunkWritten(self.index, self._digest)
        elif self._there != self._digest:
            raise Corrupted(f"Chunk {self.index} came twice, with other contents; try again.")
