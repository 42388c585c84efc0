"""
Chunks that come piece by piece: written as they come, right only as a whole, and never written over
what is right.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import Corrupted, StorageFailed
from twisted_netsuite.files.chunk import Chunk
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.store import Wanted


class ChunkTests(SynchronousTestCase):
    """The second chunk of a file, of three bytes."""

    def setUp(self) -> None:
        self.target = MemoryStore().target((b"f",), Wanted(CHUNK + 3), "anna")

    def chunk(self, data: bytes = b"abc") -> Chunk:
        """Begin the chunk."""
        return Chunk(1, 3, digestOf(data))

    def test_pieces(self) -> None:
        """Its pieces are written one behind the other, and it is right once all are there."""
        chunk = self.chunk()
        self.assertEqual(chunk.write(self.target, [b"a"]), 1)
        self.assertEqual(dict(self.target.verified), {})
        self.assertEqual(chunk.write(self.target, [b"b", b"c"]), 2)
        self.assertEqual(dict(self.target.verified), {1: digestOf(b"abc")})
        self.assertEqual(bytes(self.target._partial.data[CHUNK:]), b"abc")

    def test_wrong(self) -> None:
        """One that is not what its digest says is not noted as right."""
        chunk = self.chunk()
        self.assertRaises(Corrupted, chunk.write, self.target, [b"abd"])
        self.assertTrue(chunk.failed)
        self.assertEqual(dict(self.target.verified), {})

    def test_there(self) -> None:
        """What is there is not written again; it may come once more as it is, and as nothing
        else."""
        self.chunk().write(self.target, [b"abc"])
        again = self.chunk()
        self.assertEqual([again.write(self.target, [piece]) for piece in (b"a", b"bc")], [0, 0])
        self.assertRaises(Corrupted, self.chunk(b"xyz").write, self.target, [b"xyz"])
        self.assertRaises(Corrupted, self.chunk().write, self.target, [b"xyz"])
        self.assertEqual(bytes(self.target._partial.data[CHUNK:]), b"abc")

    def test_failed(self) -> None:
        """Behind a piece that could not be written nothing of it is: it would be in the wrong
        place."""
        chunk, write = self.chunk(), self.target.write

        def fail(offset: int, pieces: list[bytes]) -> None:
            raise StorageFailed("The disk is full.")

        patch = self.patch(self.target, "write", fail)
        self.assertRaises(StorageFailed, chunk.write, self.target, [b"a"])
        patch.restore()
        self.assertEqual(self.target.write, write)
        self.assertEqual(chunk.write(self.target, [b"b"]), 0)
        self.assertEqual(bytes(self.target._partial.data[CHUNK:]), bytes(3))
