"""
The chunks of a file that are there, and right, with their digests: a byte for each of those that
hold nothing but zeros, however many there are, and a digest for each of the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping

from twisted_netsuite.files.digests import ZEROS

#: Bytes of a file that is written chunk by chunk, at either end: whatever its other end says of its
#: size, what is kept in memory of its chunks is a byte for each, and some 200 more for each of
#: those whose bytes have come.
MAX_FILE = 2**40

#: The first of some chunks, and how many.
Run = tuple[int, int]

# What is known of a chunk.
_MISSING, _BYTES, _ZEROS = range(3)

_ALIKE = re.compile(rb"\x00+|\x01+|\x02+")
_ABSENT = re.compile(rb"\x00+")
_THERE = re.compile(rb"[^\x00]+")


class Verified(MutableMapping[int, bytes]):
    """The digests of chunks, by their index, in order."""

    def __init__(self, count: int) -> None:
        """
        @param count: how many chunks the file has.
        """
        self._states = bytearray(count)
        self._digests: dict[int, bytes] = {}

    def __getitem__(self, index: int) -> bytes:
        """
        Look up a digest.

        @param index: of the chunk.
        @return: its digest.
        @raise KeyError: when it is not there.
        """
        if index in self and self._states[index] == _ZEROS:
            return ZEROS
        return self._digests[index]

    def __setitem__(self, index: int, digest: bytes) -> None:
        """
        Note a chunk.

        @param index: which.
        @param digest: its own.
        """
        # Not by L{addZeros}: a million chunks may be noted one by one.
        if digest == ZEROS:
            if self._states[index] == _BYTES:
                del self._digests[index]
            self._states[index] = _ZEROS
        else:
            self._states[index] = _BYTES
            self._digests[index] = digest

    def __delitem__(self, index: int) -> None:
        """
        Know nothing of a chunk any more.

        @param index: which.
        @raise KeyError: when it is not there.
        """
        if index not in self:
            raise KeyError(index)
        self.discard(index, 1)

    def __contains__(self, index: object) -> bool:
        """Tell whether a chunk is there."""
        states = self._states
        return isinstance(index, int) and 0 <= index < len(states) and states[index] != _MISSING

    def __iter__(self) -> Iterator[int]:
        """Name all that are there, in order."""
        for first, count in self.present():
            yield from within(first, count)

    def __len__(self) -> int:
        """Count them."""
        return len(self._states) - self._states.count(_MISSING)

    def __bool__(self) -> bool:
        """Tell whether any is there, without counting them."""
        return bool(self._digests) or self._states.find(_ZEROS) >= 0

    def addZeros(self, first: int, count: int) -> None:
        """
        Note chunks that hold nothing but zeros, and are whole.

        @param first: the first of them.
        @param count: how many.
        """
        self._set(first, count, _ZEROS)

    def discard(self, first: int, count: int) -> None:
        """
        Know nothing of chunks any more.

        @param first: the first of them.
        @param count: how many.
        """
        self._set(first, count, _MISSING)

    def _set(self, first: int, count: int, state: int) -> None:
        at, behind = first, first + count
        while (at := self._states.find(_BYTES, at, behind)) >= 0:
            del self._digests[at]
            at += 1
        self._states[first:behind] = bytes((state,)) * count

    def runs(self) -> Iterator[tuple[int, int, bytes]]:
        """
        Put chunks together that follow each other and have the same digest.

        @return: of each run the first chunk, how many there are, and their digest, in order.
        """
        for match in _ALIKE.finditer(self._states):
            first, behind = match.span()
            state = self._states[first]
            if state == _ZEROS:
                yield first, behind - first, ZEROS
            elif state == _BYTES:
                yield from self._runsOfBytes(first, behind)

    def _runsOfBytes(self, first: int, behind: int) -> Iterator[tuple[int, int, bytes]]:
        digest = self._digests[first]
        for index in range(first + 1, behind):
            if self._digests[index] != digest:
                yield first, index - first, digest
                first, digest = index, self._digests[index]
        yield first, behind - first, digest

    def digests(self) -> list[bytes]:
        """
        List all digests.

        @return: those of the chunks that are there, in order.
        """
        found: list[bytes] = []
        for _, count, digest in self.runs():
            found += [digest] * count
        return found

    def present(self) -> Iterator[Run]:
        """
        Find the chunks that are there.

        @return: in order, as few runs as possible.
        """
        for match in _THERE.finditer(self._states):
            first, behind = match.span()
            yield first, behind - first

    def missing(self, first: int, count: int) -> Iterator[Run]:
        """
        Find the chunks among some that are not there.

        @param first: the first of them.
        @param count: how many.
        @return: in order, as few runs as possible.
        """
        for match in _ABSENT.finditer(self._states, first, first + count):
            start, behind = match.span()
            yield start, behind - start


def within(first: int, count: int) -> range:
    """
    Tell the chunks of a run.

    @param first: the first of them.
    @param count: how many.
    @return: their indexes.
    """
    return range(first, first + count)


def present(there: Mapping[int, object]) -> Iterator[Run]:
    """
    Find the chunks that are there, whatever their digests are kept in.

    @param there: they are, by their index.
    @return: in order, as few runs as possible.
    """
    if isinstance(there, Verified):
        yield from there.present()
        return
    first = behind = 0
    for index in sorted(there):
        if index != behind:
            if first < behind:
                yield first, behind - first
            first = index
        behind = index + 1
    if first < behind:
        yield first, behind - first


def missing(there: Mapping[int, object], first: int, count: int) -> Iterator[Run]:
    """
    Find the chunks among some that are not there, whatever the others' digests are kept in.

    @param there: those that are there, by their index.
    @param first: the first of them.
    @param count: how many.
    @return: in order, as few runs as possible.
    """
    if isinstance(there, Verified):
        yield from there.missing(first, count)
        return
    at, behind = first, first + count
    for start, number in present(there):
        if at < min(start, behind):
            yield at, min(start, behind) - at
        at = max(at, start + number)
    if at < behind:
        yield at, behind - at
