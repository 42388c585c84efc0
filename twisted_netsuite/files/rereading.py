"""
Chunks that are on the local disk already, and have to be read once more to be believed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from twisted_netsuite.files.digests import CHUNK, ZEROS, chunkLength
from twisted_netsuite.files.localsource import LocalSource

#: Threads that read an earlier try's chunks again: the digests of two cores are as fast as memory.
READERS = 4

#: Chunks below which one thread does it.
FEW = 8


def runs(digests: Mapping[int, bytes]) -> Iterator[tuple[int, int, bytes]]:
    """
    Put chunks together that follow each other and have the same digest.

    @param digests: theirs, by their index.
    @return: of each run the first chunk, how many there are, and their digest, in order.
    """
    first, count, last = 0, 0, b""
    for index in sorted(digests):
        if count and index == first + count and digests[index] == last:
            count += 1
            continue
        if count:
            yield first, count, last
        first, count, last = index, 1, digests[index]
    if count:
        yield first, count, last


def digestsOf(source: LocalSource, indexes: list[int]) -> dict[int, bytes]:
    """
    Digest chunks of a file that is on the disk; holes are known without that.

    @param source: the file.
    @param indexes: which chunks, in order.
    @return: their digests, by their index.
    @raise SourceChanged: when it has become shorter.
    @raise StorageFailed: when the disk fails.
    """
    size = source.attributes.size

    def some(indexes: list[int]) -> list[tuple[int, bytes]]:
        found = []
        start = end = 0
        for index in indexes:
            at, length = index * CHUNK, chunkLength(size, index)
            if at >= end:  # Not for each chunk: to find the end of the data can take long.
                start, end = source.data(at)
            hole = length == CHUNK and start >= at + length
            found.append((index, ZEROS if hole else source.digest(index)))
        return found

    if len(indexes) <= FEW:
        return dict(some(indexes))
    with ThreadPoolExecutor(READERS) as pool:
        parts = pool.map(some, (indexes[at::READERS] for at in range(READERS)))
        return dict(itertools.chain.from_iterable(parts))
