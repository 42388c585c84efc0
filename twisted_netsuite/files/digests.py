"""
Digests of files: BLAKE3 of each chunk, and one of them all, so that a file never has to be read
whole to go on with the rest of it.

A file of one chunk has the digest that C{b3sum} prints. That of a larger one is made of its chunks'
digests, keyed so that no small file has the same by design.
"""

from __future__ import annotations

from blake3 import blake3

#: Bytes of a chunk, but for a file's last: what is lost at most when a connection breaks, and what
#: is read again when a digest is wrong. Of a file of 1 GiB the digests have 32 KiB.
CHUNK = 1024 * 1024

#: Bytes of a digest.
DIGEST = 32

_CONTEXT = "twisted_netsuite files, digests of chunks, version 1"


def chunks(size: int) -> int:
    """
    Tell how many chunks a file has.

    @param size: its bytes.
    @return: at least one: an empty file has an empty chunk.
    """
    return max(1, -(-size // CHUNK))


def chunkLength(size: int, index: int) -> int:
    """
    Tell how long a chunk is.

    @param size: bytes of the file.
    @param index: which, from 0 on.
    @return: its bytes.
    """
    return max(0, min(CHUNK, size - index * CHUNK))


def digestOf(data: bytes | bytearray | memoryview) -> bytes:
    """
    Digest one chunk.

    @param data: all of it.
    @return: its digest.
    """
    return blake3(data).digest()


def combined(digests: list[bytes]) -> bytes:
    """
    Digest a file of which the chunks' digests are known.

    @param digests: one for each chunk, in order.
    @return: the file's digest.
    """
    if len(digests) == 1:
        return digests[0]
    return blake3(b"".join(digests), derive_key_context=_CONTEXT).digest()


#: The digests of chunks that hold nothing but zeros, as holes read, by their lengths.
ZEROS = digestOf(bytes(CHUNK))
