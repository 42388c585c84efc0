"""
What is done in one go: what it answers, and that nothing of it stays open.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.files.farend import write
from tests.files.faultystore import FaultyStore
from tests.trust.overseen import ANNA, overseen
from twisted_netsuite.errors import (
    Corrupted,
    Denied,
    NotFound,
    SourceChanged,
    StorageFailed,
)
from twisted_netsuite.files import quick
from twisted_netsuite.files.digests import digestOf
from twisted_netsuite.files.manifests import _below, digesting, listed, manifest
from twisted_netsuite.files.messages import (
    BUNDLE_BYTES,
    LIST_BYTES,
    LIST_ENTRIES,
    Chosen,
    Get,
    GetBundle,
    Offered,
    Put,
    PutBundle,
)
from twisted_netsuite.files.permit import Permit, Place
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.files.small import Small


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
        """A small file is read whole; a larger one, or a part, stays closed until its turn."""
        write(self.store, (b"f",), bytes(quick.SMALL))
        small = quick.openFile(Get(id=1, name=b"/f"), self.place(b"/f"))
        assert isinstance(small, Small)
        self.assertEqual(small.digest, digestOf(small.data))
        write(self.store, (b"f",), bytes(quick.SMALL + 1))
        for first, count in ((0, None), (0, 0), (1, None), (0, 2)):
            opened = quick.openFile(
                Get(id=1, name=b"/f", first=first, count=count), self.place(b"/f")
            )
            assert isinstance(opened, Place)
            self.assertEqual(opened.parts, (b"f",))

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

    def test_readBundle(self) -> None:
        """Each file of a bundle is whole, or what it is where there is no room for it, or why it is
        not there; and closed."""
        write(self.store, (b"f",), bytes(BUNDLE_BYTES))
        write(self.store, (b"g",), b"x")
        write(self.store, (b"e",), b"")
        names = (b"/f", b"/g", b"/e", b"/none", b"/denied")
        record = GetBundle(id=1, files=tuple(Chosen(name=name) for name in names))
        denied = Denied("No.")
        placed: list[quick.Placed] = [*map(self.place, names[:-1]), denied]
        full, large, empty, missing, refused = quick.readBundle(record, placed)
        assert isinstance(full, Small) and isinstance(empty, Small)
        self.assertEqual((len(full.data), full.digest), (BUNDLE_BYTES, digestOf(full.data)))
        self.assertEqual((empty.data, empty.digest), (b"", digestOf(b"")))
        self.assertEqual(large, self.store.stat((b"g",)))
        self.assertIsInstance(missing, NotFound)
        self.assertIs(refused, denied)

    def test_publishBundle(self) -> None:
        """Each file of a bundle gets its bytes, whatever becomes of those before it, and however
        they are cut."""
        files = {b"/a": b"one", b"/b": b"two", b"/c": b"", b"/d": b"four"}
        offered = tuple(
            Offered(name=name, size=len(data), digest=digestOf(data))
            for name, data in files.items()
        )
        record = PutBundle(id=1, files=offered, durable=False)
        denied = Denied("No.")
        placed: list[quick.Placed] = [self.place(name) for name in files]
        placed[1] = denied
        for pieces in ([b"onetwofour"], [b"o", b"netwofou", b"r"]):
            made = quick.publishBundle(record, pieces, placed)
            self.assertIs(made[1], denied)
            for (name, data), each in zip(files.items(), made, strict=True):
                if name != b"/b":
                    self.assertEqual(each, self.store.stat((name[1:],)))
                    source = self.store.source((name[1:],))
                    self.assertEqual(source.read(0, len(data)), data)
                    source.close()

    def test_digest(self) -> None:
        """A file that changes while it is digested has no digest."""
        write(self.store, (b"f",), b"x")
        *_, found = digesting(self.store, (b"f",))
        assert found is not None
        self.assertEqual(found[1], digestOf(b"x"))
        self.store.changed = True
        with self.assertRaises(SourceChanged):
            list(digesting(self.store, (b"f",)))
        ((entry,),) = manifest(self.place(b"/"), None, True)
        self.assertIsNone(entry.digest)

    def test_pieces(self) -> None:
        """Lists come in pieces that fit into records."""
        for number in range(2 * LIST_ENTRIES):
            self.store.makeDirectory((b"%d" % number,), None, False)
        pieces = list(listed(self.place(b"/"), None))
        self.assertEqual([len(piece) for piece in pieces], [LIST_ENTRIES, LIST_ENTRIES])
        for number in range(2 * LIST_ENTRIES):
            self.store.makeDirectory((b"0", b"%0255d" % number), None, False)
        for piece in manifest(self.place(b"/"), None, False):
            self.assertLess(sum(len(entry.name) for entry in piece), LIST_BYTES + 8192)

    def test_hidden(self) -> None:
        """Of what may not be known nothing is told, nor of what is below it."""
        self.store.makeDirectory((b"a", b"b"), None, True)
        self.store.makeDirectory((b"c", b"d"), None, True)
        found = manifest(self.place(b"/"), lambda parts: parts[0] == b"c", False)
        self.assertEqual([each.name for piece in found for each in piece], [b"c", b"c/d"])
        ((only,),) = listed(self.place(b"/"), lambda parts: parts == (b"a",))
        self.assertEqual(only.name, b"a")

    def test_vanished(self) -> None:
        """A directory that vanishes meanwhile is empty; one that was asked for is not found."""
        self.store.makeDirectory((b"a",), None, False)
        entries = _below(self.store, (), None, False)
        first = next(entries)
        assert first is not None
        self.assertEqual(first.name, b"a")
        self.store.remove((b"a",))
        self.assertEqual(list(entries), [])
        with self.assertRaises(NotFound):
            list(manifest(self.place(b"/no"), None, False))
