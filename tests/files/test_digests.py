"""Digests of files, as another program would make them."""

from __future__ import annotations

from blake3 import blake3
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.files.digests import (
    CHUNK,
    chunkLength,
    chunks,
    combined,
    digestOf,
)


class DigestTests(SynchronousTestCase):
    """Chunks, and the digest of all of them."""

    def test_chunks(self) -> None:
        """A file has as many chunks as cover it, and at least one."""
        for size, lengths in (
            (0, [0]),
            (1, [1]),
            (CHUNK, [CHUNK]),
            (CHUNK + 1, [CHUNK, 1]),
            (3 * CHUNK, [CHUNK] * 3),
        ):
            self.assertEqual([chunkLength(size, at) for at in range(chunks(size))], lengths)
        self.assertEqual(chunkLength(CHUNK, 1), 0)

    def test_one(self) -> None:
        """A file of one chunk has the digest that b3sum prints."""
        self.assertEqual(
            combined([digestOf(b"")]).hex(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        )

    def test_many(self) -> None:
        """That of a larger one is the keyed digest of its chunks' digests."""
        found = [digestOf(b"a" * CHUNK), digestOf(b"b")]
        context = "twisted_netsuite files, digests of chunks, version 1"
        wanted = blake3(found[0] + found[1], derive_key_context=context).digest()
        self.assertEqual(combined(found), wanted)

    def test_noClash(self) -> None:
        """No file that holds the digests of another's chunks has the digest of that other."""
        found = [digestOf(b"a"), digestOf(b"b")]
        self.assertNotEqual(combined(found), combined([digestOf(b"".join(found))]))
