"""
Chunks that are on the local disk already, and have to be read once more to be believed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from twisted_netsuite.files.digests import CHUNK, ZEROS, chunkLength, chunks
from twisted_netsuite.files.localsource import LocalSource
from twisted_netsuite.files.verified import Verified

#: Threads that read an earlier try's chunks again: the digests of two cores are as fast as memory.
READERS = 4

#: Chunks below which one thread does it.
FEW = 8


def chunksWithData(source: LocalSource, first: int, count: int) -> Iterator[int]:
    """
    Find those of some chunks of a file that are more than a hole.

    @param source: the file.
    @param first: the first of them.
    @param count: how many.
    @return: in order.
    @raise StorageFailed: when the disk fails.
    """
    at, behind = first, first + count
    while at < behind:
        start, _ = source.data(at * CHUNK)
        if start >= source.attributes.size:
            return
        at = max(at, start // CHUNK)
        if at < behind:
            yield at
        at += 1


def reread(source: LocalSource, verified: Verified) -> Verified:
    """
    Find out which chunks of a file are what they are said to be.

    @param source: the file.
    @param verified: what is said.
    @return: those that are.
    @raise SourceChanged: when it has become shorter.
    @raise StorageFailed: when the disk fails.
    """
    right = Verified(chunks(source.attributes.size))
    suspects: list[int] = []
    for first, count, digest in verified.runs():
        if digest == ZEROS:
            right.addZeros(first, count)
            suspects.extend(chunksWithData(source, first, count))
        else:
            suspects.extend(range(first, first + count))
    for index, digest in digestsOf(source, suspects).items():
        if verified[index] == digest:
            right[index] = digest
        elif index in right:
            del right[index]
    return right


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
