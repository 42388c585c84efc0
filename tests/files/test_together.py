"""
Small files that are published together: their directory is looked up once, and yet nobody can tell
that from the files.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Thread

from tests.files.storecontract import names
from tests.files.test_localstore import LocalCase
from tests.files.tree import descriptors
from twisted_netsuite.errors import InvalidName, NotFound
from twisted_netsuite.files import openat2
from twisted_netsuite.files.names import split
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.files.together import letGo, together


class TogetherTests(LocalCase):
    """Two directories, and files that are published in them."""

    def setUp(self) -> None:
        super().setUp()
        for name in ("d", "e", "d/below"):
            os.mkdir(self.within(name))
        self.asked: list[bytes] = []
        self.addCleanup(letGo)
        real = openat2.openBeneath

        def openBeneath(directory: int, path: bytes, flags: int) -> int:
            self.asked.append(path)
            return real(directory, path, flags)

        self.patch(openat2, "openBeneath", openBeneath)

    def whole(self, name: bytes, durable: bool = False) -> None:
        """Publish a file."""
        self.store.publishWhole(split(name), Wanted(1, durable=durable), b"x")

    def test_once(self) -> None:
        """A directory is looked up once for all files in a row that go there, and held no longer
        than until the last of them."""
        before = descriptors()
        with together():
            for name in (b"d/1", b"d/2", b"d/3", b"e/1", b"e/2", b"d/4", b"5", b"6"):
                self.whole(name)
            self.assertEqual(descriptors(), before + 1)
        self.assertEqual(self.asked, [b"d", b"e", b"d", b"."])
        self.assertEqual(descriptors(), before)
        self.assertEqual(names(self.store, (b"d",)), {b"below", b"1", b"2", b"3", b"4"})
        self.assertEqual(names(self.store, (b"e",)), {b"1", b"2"})

    def test_apart(self) -> None:
        """What is not done together is looked up each time, also after something was."""
        with together():
            self.whole(b"d/1")
        for name in (b"d/2", b"d/3"):
            self.whole(name)
        self.assertEqual(self.asked, [b"d"] * 3)

    def test_within(self) -> None:
        """What is together within something that is, is as long together as that."""
        with together():
            with together():
                self.whole(b"d/1")
            self.whole(b"d/2")
        self.assertEqual(self.asked, [b"d"])

    def test_renamedElsewhere(self) -> None:
        """Who was allowed to write by one name does not write by another that the directory has
        got meanwhile."""

        def rename() -> None:
            self.store.rename((b"d",), (b"moved",), False)
            self.store.makeDirectory((b"d",), None, False)

        with together():
            self.whole(b"d/1")
            other = Thread(target=rename)
            other.start()
            other.join()
            self.whole(b"d/2")
        self.assertEqual(names(self.store, (b"moved",)), {b"below", b"1"})
        self.assertEqual(names(self.store, (b"d",)), {b"2"})

    def test_swapped(self) -> None:
        """What changes names, in the same thread, is done before what comes after it."""

        def replace() -> None:
            self.store.rename((b"d",), (b"old",), False)
            self.store.makeDirectory((b"d",), None, False)

        def turn() -> None:
            self.store.rename((b"d",), (b"first",), False)
            self.store.rename((b"e",), (b"d",), False)

        def remake() -> None:
            # The second name was changed by somebody else.
            os.rename(self.within("d"), self.within("other"))
            self.store.makeDirectory((b"d",), None, False)

        def remove() -> None:
            self.store.remove((b"d", b"1"))
            self.store.remove((b"d",))
            os.mkdir(self.within("d"))

        os.rmdir(self.within("d/below"))
        changes: tuple[Callable[[], None], ...] = (replace, turn, remake, remove)
        for change in changes:
            with together():
                self.whole(b"d/1")
                change()
                self.whole(b"d/2")
            self.assertEqual(names(self.store, (b"d",)), {b"2"})
            os.unlink(self.within("d/2"))

    def test_next(self) -> None:
        """What others did before the next are together is seen by these."""
        with together():
            self.whole(b"d/1")
        os.rename(self.within("d"), self.within("gone"))
        with together():
            self.refused(NotFound, self.whole, b"d/2")

    def test_durable(self) -> None:
        """A descriptor with which nothing can be brought to the disk is not held for what has to
        be."""
        with together():
            for durable in (False, True, False, True):
                self.whole(b"d/1", durable)
        self.assertEqual(self.asked, [b"d", b"d"])

    def test_names(self) -> None:
        """A name is looked at however its directory was found."""
        with together():
            self.whole(b"d/1")
            for part in (b"..", b"a/b", b".netsuite-x", b""):
                self.assertRaises(
                    InvalidName,
                    self.store.publishWhole,
                    (b"d", part),
                    Wanted(1, durable=False),
                    b"x",
                )

    def test_failed(self) -> None:
        """A directory that is not there leaves nothing held."""
        before = descriptors()
        with together():
            self.whole(b"d/1")
            for _ in range(2):
                self.assertRaises(NotFound, self.whole, b"none/1")
            self.whole(b"d/2")
        self.assertEqual(descriptors(), before)

    def test_stores(self) -> None:
        """The same name below another root is another directory."""
        other = self.opened("never", True)
        with together():
            self.whole(b"d/1")
            other.publishWhole((b"d", b"2"), Wanted(1, durable=False), b"x")
        self.assertEqual(self.asked, [b"d", b"d"])

    def test_threads(self) -> None:
        """One thread does not use what another holds."""
        with together():
            self.whole(b"d/1")
            thread = Thread(target=self.whole, args=(b"d/2",))
            thread.start()
            thread.join()
            self.whole(b"d/3")
        self.assertEqual(self.asked, [b"d", b"d"])
