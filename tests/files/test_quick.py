"""
What is done in one go: what it answers, and that nothing of it stays open.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.files.farend import write
from tests.files.faultystore import FaultyStore
from tests.trust.overseen import ANNA, overseen
from twisted_netsuite.errors import Corrupted, NotFound, SourceChanged, StorageFailed
from twisted_netsuite.files import quick
from twisted_netsuite.files.digests import digestOf
from twisted_netsuite.files.messages import LIST_BYTES, LIST_ENTRIES, Get, Put
from twisted_netsuite.files.permit import Permit, Place
from twisted_netsuite.files.roots import Roots


class QuickTests(SynchronousTestCase):
    """A store in memory."""

    def setUp(self) -> None:
        self.store = FaultyStore(1 << 24)
        self.permit = Permit(
            overseen(None), Roots("/r", lambda path: self.store), writable=True, durable=True
        )

    def tearDown(self) -> None:
        self.assertEqual(self.store.opened, self.store.closed)

    def place(self, name: bytes) -> Place:
        return self.successResultOf(self.permit.access(ANNA, "h").write(name, 1))

    def test_small(self) -> None:
        """A small file is read whole and closed; a larger one, or a part, has to be closed."""
        write(self.store, (b"f",), bytes(quick.SMALL))
        small = quick.openFile(Get(id=1, name=b"/f"), self.place(b"/f"))
        assert isinstance(small, quick.Small)
        self.assertEqual(small.digest, digestOf(small.data))
        write(self.store, (b"f",), bytes(quick.SMALL + 1))
        for first, count in ((0, None), (0, 0), (1, None), (0, 2)):
            opened = quick.openFile(
                Get(id=1, name=b"/f", first=first, count=count), self.place(b"/f")
            )
            assert not isinstance(opened, quick.Small)
            opened.close()

    def test_version(self) -> None:
        """Another version is refused, and closed."""
        write(self.store, (b"f",), b"x")
        with self.assertRaises(SourceChanged):
            quick.openFile(Get(id=1, name=b"/f", version=bytes(16)), self.place(b"/f"))

    def test_publish(self) -> None:
        """A file is published as it should be, or nothing of it is left."""
        record = Put(id=1, name=b"/f", size=3, follows=True, source=b"s", durable=False)
        quick.publish(record, self.place(b"/f"), [b"a", b"bc"], digestOf(b"abc"))
        self.assertEqual((self.store.wanted[0].source, self.store.wanted[0].durable), (None, True))
        with self.assertRaises(Corrupted):
            quick.publish(record, self.place(b"/f"), [b"abc"], bytes(32))
        self.store.failure = StorageFailed("full")
        with self.assertRaises(StorageFailed):
            quick.publish(record, self.place(b"/f"), [b"xyz"], digestOf(b"xyz"))
        self.assertEqual(self.store.ends, ["commit", "discard"])
        self.assertEqual(self.store.used, 3)

    def test_digest(self) -> None:
        """A file that changes while it is digested has no digest."""
        write(self.store, (b"f",), b"x")
        self.assertEqual(quick.digest(self.place(b"/f"))[1], digestOf(b"x"))
        self.store.changed = True
        with self.assertRaises(SourceChanged):
            quick.digest(self.place(b"/f"))
        ((entry,),) = quick.manifest(self.place(b"/"), None, True)
        self.assertIsNone(entry.digest)

    def test_pieces(self) -> None:
        """Lists come in pieces that fit into records."""
        for number in range(2 * LIST_ENTRIES):
            self.store.makeDirectory((b"%d" % number,), None, False)
        pieces = list(quick.listed(self.place(b"/"), None))
        self.assertEqual([len(piece) for piece in pieces], [LIST_ENTRIES, LIST_ENTRIES])
        for number in range(2 * LIST_ENTRIES):
            self.store.makeDirectory((b"0", b"%0255d" % number), None, False)
        for piece in quick.manifest(self.place(b"/"), None, False):
            self.assertLess(sum(len(entry.name) for entry in piece), LIST_BYTES + 8192)

    def test_hidden(self) -> None:
        """Of what may not be known nothing is told, nor of what is below it."""
        self.store.makeDirectory((b"a", b"b"), None, True)
        self.store.makeDirectory((b"c", b"d"), None, True)
        found = quick.manifest(self.place(b"/"), lambda parts: parts[0] == b"c", False)
        self.assertEqual([each.name for piece in found for each in piece], [b"c", b"c/d"])
        ((only,),) = quick.listed(self.place(b"/"), lambda parts: parts == (b"a",))
        self.assertEqual(only.name, b"a")

    def test_vanished(self) -> None:
        """A directory that vanishes meanwhile is empty; one that was asked for is not found."""
        self.store.makeDirectory((b"a",), None, False)
        entries = quick._below(self.store, (), None, False)
        self.assertEqual(next(entries).name, b"a")
        self.store.remove((b"a",))
        self.assertEqual(list(entries), [])
        with self.assertRaises(NotFound):
            list(quick.manifest(self.place(b"/no"), None, False))
