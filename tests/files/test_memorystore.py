"""The store in memory: the contract, its bound, and its clock."""

from __future__ import annotations

from tests.files import storecontract
from tests.files.storecontract import LONG, OWNER, digestsOf, put, writeChunks
from twisted_netsuite.errors import Corrupted, StorageFailed
from twisted_netsuite.files.digests import combined, digestOf
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.store import Wanted


class ContractTests(storecontract.StoreContract):
    """The contract."""

    def setUp(self) -> None:
        self.store = MemoryStore()


class BoundTests(storecontract.StoreCase):
    """What a store of 100 bytes takes."""

    def setUp(self) -> None:
        self.time = 10**18
        self.memory = MemoryStore(100, lambda: self.time)
        self.store = self.memory

    def test_bound(self) -> None:
        """Files, finished or not, have no more bytes together than the limit; what does not fit is
        refused before a byte of it is taken, with how much there is."""
        self.put(b"f", b"x" * 60)
        going = self.begin(b"g", 40)
        self.assertEqual(self.memory.used, 100)
        sentence = self.refused(StorageFailed, self.store.target, (b"h",), Wanted(1), OWNER)
        self.assertIn("of 100 there are 0 left", sentence)
        self.put(b"empty", b"")
        going.discard()
        self.put(b"h", b"x" * 40)

    def test_roomAgain(self) -> None:
        """What is replaced, removed, discarded or cleaned makes room, and so does what was not
        what it should be; what is kept takes it."""
        self.put(b"f", b"x" * 50)
        self.put(b"f", b"y" * 50)
        self.assertEqual(self.memory.used, 50)
        self.put(b"g", b"z" * 10)
        self.store.rename((b"g",), (b"f",), True)
        self.assertEqual(self.memory.used, 10)
        self.store.remove((b"f",))
        wrong = self.begin(b"f", 100)
        writeChunks(wrong, b"x" * 100, 0)
        self.assertRaises(Corrupted, wrong.commit, digestOf(b""))
        self.assertEqual(self.memory.used, 0)
        kept = self.begin(b"f", 100, source=b"s")
        kept.keep()
        kept.discard()
        self.assertEqual(self.memory.used, 100)
        self.begin(b"f", 100, source=b"s").keep()
        self.assertEqual(self.memory.used, 100)
        self.begin(b"f", 10, source=b"s").keep()
        self.assertEqual(self.memory.used, 10)
        self.store.clean(0)
        self.assertEqual(self.memory.used, 0)

    def test_tooMuch(self) -> None:
        """More than a file was to have is not taken."""
        target = self.begin(b"f", 3)
        self.assertRaises(Corrupted, target.write, 0, [b"12", b"34"])
        self.assertRaises(Corrupted, target.write, 3, [b"x"])
        target.write(0, [b"123"])
        target.chunkWritten(0, digestOf(b"123"))
        self.assertEqual(target.commit(digestOf(b"123")).size, 3)

    def test_age(self) -> None:
        """What was left is cleaned when it is as old as was said, by the store's own clock."""
        self.begin(b"f", 3, source=b"s").keep()
        self.time += 9_999_999_999
        self.assertEqual(self.store.clean(10), 0)
        self.time += 1
        self.assertEqual(self.store.clean(10), 1)

    def test_times(self) -> None:
        """Where no time is given, a file has that of its publishing, and so has its directory."""
        self.time += 5
        self.assertEqual(self.put(b"f").mtime, self.time)
        self.assertEqual(self.store.stat(()).mtime, self.time)

    def test_close(self) -> None:
        """A store that was closed has what it had: there is nowhere else."""
        self.put(b"f")
        self.store.close()
        self.assertEqual(self.get(b"f"), b"new")

    def test_usual(self) -> None:
        """Without a limit a file of some chunks fits."""
        store = MemoryStore()
        self.assertEqual(put(store, (b"f",), LONG).size, len(LONG))
        self.assertEqual(len(combined(digestsOf(LONG))), 32)
