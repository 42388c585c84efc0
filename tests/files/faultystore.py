"""
A store in memory whose files have holes, change and fail as a test says.
"""

from __future__ import annotations

from typing import Any

from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.store import Wanted


class FaultyStore(MemoryStore):
    """
    Files in memory.

    @ivar holes: the chunks of every source that hold nothing but zeros.
    @ivar changed: whether every source has changed by the time that this is asked.
    @ivar opened: how many sources were opened.
    @ivar closed: how many of them were closed.
    @ivar looked: the chunks that were read or digested.
    @ivar made: the holes that were made.
    @ivar written: the bytes that were written.
    @ivar failure: what the next writes fail with.
    @ivar ends: how targets were closed.
    @ivar wanted: what targets were to become.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.holes: set[int] = set()
        self.changed = False
        self.opened = self.closed = self.written = 0
        self.looked: list[int] = []
        self.made: list[int] = []
        self.failure: Exception | None = None
        self.ends: list[str] = []
        self.wanted: list[Wanted] = []

    def source(self, parts: Parts) -> Any:
        source = FaultySource(self, super().source(parts))
        self.opened += 1
        return source

    def target(self, parts: Parts, wanted: Wanted, owner: str) -> Any:
        self.wanted.append(wanted)
        return FaultyTarget(self, super().target(parts, wanted, owner))

    def readWhole(self, parts: Parts, limit: int) -> Any:
        source = self.source(parts)
        if source.attributes.size > limit or self.changed:
            return source
        data = source.read(0, source.attributes.size)
        source.close()
        return source.attributes, data

    def publishWhole(self, parts: Parts, wanted: Wanted, data: bytes) -> Any:
        assert len(data) == wanted.size <= CHUNK
        target = self.target(parts, wanted, "whole")
        try:
            target.write(0, [data])
            target.chunkWritten(0, digestOf(data))
        except BaseException:
            target.discard()
            raise
        return target.commit(digestOf(data))


class FaultySource:
    """A file that is read."""

    descriptor = None

    def __init__(self, store: FaultyStore, source: Any) -> None:
        self._store = store
        self._source = source
        self._open = True
        self.attributes = source.attributes

    def read(self, offset: int, count: int) -> bytes:
        assert self._open, "It is read before it is closed."
        self._store.looked.append(offset // CHUNK)
        found: bytes = self._source.read(offset, count)
        return found

    def digest(self, index: int) -> bytes:
        assert self._open, "It is read before it is closed."
        self._store.looked.append(index)
        found: bytes = self._source.digest(index)
        return found

    def data(self, offset: int) -> tuple[int, int]:
        assert self._open, "It is read before it is closed."
        size = self.attributes.size
        while offset < size and offset // CHUNK in self._store.holes:
            offset = (offset // CHUNK + 1) * CHUNK
        return (2 * size, 2 * size) if offset >= size else (offset, offset + 1)

    def unchanged(self) -> bool:
        assert self._open, "It is looked at before it is closed."
        return not self._store.changed

    def close(self) -> None:
        assert self._open, "It is closed once."
        self._open = False
        self._store.closed += 1


class FaultyTarget:
    """A file that is written."""

    def __init__(self, store: FaultyStore, target: Any) -> None:
        self._store = store
        self._target = target
        self._open = True
        self.size = target.size

    @property
    def verified(self) -> Any:
        return self._target.verified

    @property
    def kept(self) -> Any:
        return self._target.kept

    def write(self, offset: int, pieces: list[bytes]) -> None:
        assert self._open, "It is written before it is closed."
        assert all(type(piece) is bytes for piece in pieces)
        if self._store.failure is not None:
            raise self._store.failure
        self._store.written += sum(map(len, pieces))
        self._target.write(offset, pieces)

    def chunkWritten(self, index: int, digest: bytes) -> None:
        assert self._open, "It is written before it is closed."
        assert index not in self.verified, "A chunk that is right is not written again."
        self._target.chunkWritten(index, digest)

    def hole(self, index: int) -> None:
        assert self._open, "It is written before it is closed."
        self._store.made.append(index)
        self._target.hole(index)

    def commit(self, digest: bytes) -> Any:
        self._end("commit")
        return self._target.commit(digest)

    def keep(self) -> None:
        self._end("keep")
        self._target.keep()

    def discard(self) -> None:
        self._end("discard")
        self._target.discard()

    def _end(self, how: str) -> None:
        assert self._open, "It is closed once."
        self._open = False
        self._store.ends.append(how)
