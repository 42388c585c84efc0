"""
A quota counts what somebody keeps, whatever becomes of uploads, of names, of what happens without
the service, and of the service.
"""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError, LimitExceeded, NotFound, StorageFailed
from twisted_netsuite.files.allowance import Allowance
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.names import Parts, split
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.quota import (
    FORGET_INTERVAL,
    KEEP,
    LOOK_PAUSE,
    MAX_LOOKED,
    Quotas,
)
from twisted_netsuite.files.quotarecords import VERSION
from twisted_netsuite.files.quotasums import MAX_RULES, MAX_SUMMED
from twisted_netsuite.files.reservation import FREE, Reservation
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.files.store import Attributes
from twisted_netsuite.trust.identity import ANONYMOUS
from twisted_netsuite.trust.oversight import UNSEEN
from twisted_netsuite.trust.patterns import AbsolutePath
from twisted_netsuite.trust.rules import FilesRule

ROOT = "/srv/files"
ANNA, BOB = "cert:anna", "unix:bob"

#: Counts all, and lets in any.
ALL = Allowance(quota=2**40, fileQuota=2**40)


def only(*paths: str, **told: int) -> Allowance:
    """Make an allowance for some paths."""
    return Allowance(paths=tuple(map(AbsolutePath, paths)), **told)


class World:
    """
    What is on the disk: sizes of files by root and name, C{None} for a directory.

    @ivar looked: how many looks there were.
    @ivar fails: what each look raises, if anything.
    """

    def __init__(self) -> None:
        self.there: dict[tuple[str, Parts], tuple[int | None, int]] = {}
        self.looked = 0
        self.fails: Exception | None = None
        self._version = 0

    def put(self, name: bytes, size: int | None, root: str = ROOT) -> None:
        """Put a file, or a directory, there."""
        self._version += 1
        self.there[root, split(name)] = size, self._version

    def remove(self, name: bytes, root: str = ROOT) -> None:
        """Take something away."""
        del self.there[root, split(name)]

    def rename(self, name: bytes, to: bytes) -> None:
        """Give something another name, and all that is below it."""
        old, new = split(name), split(to)
        for root, parts in list(self.there):
            if parts[: len(old)] == old:
                self.there[root, new + parts[len(old) :]] = self.there.pop((root, parts))

    def look(self, root: str, parts: Parts) -> Attributes | None:
        """Look at something."""
        self.looked += 1
        if self.fails is not None:
            raise self.fails
        found = self.there.get((root, parts))
        if found is None:
            return None
        size, version = found
        kind: Any = "directory" if size is None else "file"
        return Attributes(kind, size or 0, 0, 0o644, version.to_bytes(16, "big"))


class QuotaCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        self.world = World()
        self.now = 1e9
        self.quotas = self.opened()

    def opened(self, directory: str = "") -> Quotas:
        """Open a ledger."""
        quotas = Quotas(directory or self.directory, lambda: self.now)
        quotas.open(self.world.look)
        self.addCleanup(quotas.close)
        return quotas

    def kill(self) -> None:
        """End the service without letting it write anything, and begin another."""
        self.quotas._ledger.rollBack()
        self.quotas.close()
        self.quotas = self.opened()

    def reserve(
        self,
        name: bytes,
        size: int,
        allowance: Allowance = ALL,
        owner: str = ANNA,
        root: str = ROOT,
        source: bytes | None = None,
    ) -> Reservation:
        """Take room."""
        return self.quotas.reserve(owner, root, split(name), size, allowance, source)

    def put(self, name: bytes, size: int, allowance: Allowance = ALL, owner: str = ANNA) -> None:
        """Do all of an upload."""
        reservation = self.reserve(name, size, allowance, owner)
        self.world.put(name, size)
        reservation.publish(size)

    def rename(self, name: bytes, to: bytes, allowance: Allowance = ALL, owner: str = ANNA) -> None:
        """Do all of a renaming."""
        id = self.quotas.beginRename(owner, ROOT, split(name), split(to), allowance)
        self.world.rename(name, to)
        self.quotas.endRename(id)

    def remove(self, name: bytes) -> None:
        """Remove a file."""
        self.world.remove(name)
        self.quotas.removed(ROOT, split(name))

    def assertKeeps(
        self, bytes: int, files: int, owner: str = ANNA, allowance: Allowance = ALL
    ) -> None:
        """Somebody keeps so much, by what is in memory and by what is in the ledger."""
        self.assertEqual(self.quotas.keeps(owner, ROOT, allowance), (bytes, files))
        self.quotas._sums.clear()
        self.assertEqual(self.quotas.keeps(owner, ROOT, allowance), (bytes, files))

    def assertRefused(self, name: bytes, size: int, allowance: Allowance, *said: str) -> None:
        """Something does not fit, and the sentence says why."""
        before = self.quotas.keeps(ANNA, ROOT, allowance)
        error: Any = self.assertRaises(LimitExceeded, self.reserve, name, size, allowance)
        for each in said:
            self.assertIn(each, error.sentence)
        self.assertEqual(self.quotas.keeps(ANNA, ROOT, allowance), before)


class CountTests(QuotaCase):
    """What counts for whom."""

    def test_published(self) -> None:
        """What was published counts for whoever has written it."""
        self.put(b"/a", 10)
        self.put(b"/d/b", 5)
        self.put(b"/c", 7, owner=BOB)
        self.assertKeeps(15, 2)
        self.assertKeeps(7, 1, BOB)
        self.assertKeeps(0, 0, "anonymous")

    def test_size(self) -> None:
        """What counts in the end is the size that was published."""
        reservation = self.reserve(b"/a", 10)
        self.assertKeeps(10, 1)
        reservation.publish(4)
        self.assertKeeps(4, 1)

    def test_underWay(self) -> None:
        """An upload counts from its beginning, and no more once it is given up."""
        first, second = self.reserve(b"/a", 10), self.reserve(b"/b", 20)
        self.assertKeeps(30, 2)
        first.release()
        self.assertKeeps(20, 1)
        second.release()
        self.assertKeeps(0, 0)

    def test_once(self) -> None:
        """What becomes of an upload is counted once, whatever is said of it later."""
        reservation = self.reserve(b"/a", 10, source=b"s")
        reservation.publish(10)
        for again in (reservation.release, reservation.keep):
            again()
        reservation.publish(99)
        self.assertKeeps(10, 1)
        other = self.reserve(b"/b", 20)
        reservation.release()
        self.assertKeeps(30, 2)
        other.release()

    def test_ownReplaced(self) -> None:
        """Who replaces an own file needs room for the difference alone."""
        exact = Allowance(quota=100, fileQuota=1)
        self.put(b"/a", 100, exact)
        self.put(b"/a", 100, exact)
        self.assertKeeps(100, 1)
        self.put(b"/a", 40, exact)
        self.assertKeeps(40, 1)
        self.assertRefused(b"/a", 101, exact, "61 more")

    def test_creditOnce(self) -> None:
        """The room of a file that will be replaced is given to one upload at a time."""
        self.put(b"/a", 100)
        exact = Allowance(quota=100)
        first = self.reserve(b"/a", 100, exact)
        self.assertRefused(b"/a", 100, exact)
        first.release()
        self.reserve(b"/a", 100, exact).release()
        self.assertKeeps(100, 1)

    def test_othersReplaced(self) -> None:
        """A file that somebody else replaces changes hands."""
        self.put(b"/a", 10)
        self.put(b"/a", 30, owner=BOB)
        self.assertKeeps(0, 0)
        self.assertKeeps(30, 1, BOB)

    def test_nobodys(self) -> None:
        """What was there before counts for nobody until it is replaced."""
        self.world.put(b"/a", 1000)
        self.assertKeeps(0, 0)
        self.put(b"/a", 5)
        self.assertKeeps(5, 1)

    def test_removed(self) -> None:
        """What is removed counts no more, whoever removes it; nor does what nobody had."""
        self.put(b"/a", 10)
        self.world.put(b"/b", 10)
        self.remove(b"/b")
        self.assertKeeps(10, 1)
        self.remove(b"/a")
        self.assertKeeps(0, 0)

    def test_roots(self) -> None:
        """Each root counts by itself."""
        self.put(b"/a", 10)
        self.quotas.reserve(ANNA, "/other", (b"a",), 5, ALL).publish(5)
        self.assertKeeps(10, 1)
        self.assertEqual(self.quotas.keeps(ANNA, "/other", ALL), (5, 1))

    def test_names(self) -> None:
        """Names that are no text are names like others, and so are roots."""
        odd = os.fsdecode(b"/srv/\xff")
        self.put(b"/\xff\n\x01", 3)
        self.quotas.reserve(ANNA, odd, (b"\xfe",), 5, ALL).publish(5)
        self.assertKeeps(3, 1)
        self.assertEqual(self.quotas.keeps(ANNA, odd, ALL), (5, 1))

    def test_paths(self) -> None:
        """What counts by a rule is what its paths are about."""
        inbox, other = only("/in/**", quota=10), only("/other/*", "/x", quota=5)
        self.put(b"/in/a", 10, inbox)
        self.assertRefused(b"/in/b", 1, inbox)
        self.put(b"/other/b", 5, other)
        self.assertRefused(b"/x", 1, other)
        self.put(b"/y", 1000)
        self.assertKeeps(10, 1, allowance=inbox)
        self.assertKeeps(5, 1, allowance=other)
        self.assertKeeps(1015, 3)

    def test_free(self) -> None:
        """Where nothing is counted any number of files of any size find room, whatever has become
        of those before."""
        roots = Roots(ROOT, lambda path: MemoryStore())
        access = Permit(UNSEEN, roots, writable=True).access(ANONYMOUS, "192.0.2.1:1")
        for settle in (Reservation.keep, Reservation.release, lambda free: free.publish(2**60)):
            for name in (b"/a", b"/a", b"/b"):
                reserved = self.successResultOf(access.write(name, 2**60)).reserve(2**60, b"source")
                self.assertIs(reserved, FREE)
                settle(reserved)
        self.assertKeeps(0, 0)


class RefusalTests(QuotaCase):
    """What does not fit."""

    def test_bytes(self) -> None:
        """One byte too many is refused, with what may be kept and what is."""
        exact = Allowance(quota=100)
        self.put(b"/a", 60, exact)
        self.assertRefused(b"/b", 41, exact, "100 bytes", "have 60", "41 more", "quota")
        self.put(b"/b", 40, exact)
        self.put(b"/empty", 0, exact)

    def test_files(self) -> None:
        """So is one file too many."""
        exact = Allowance(fileQuota=2)
        self.put(b"/a", 1, exact)
        self.put(b"/b", 2**50, exact)
        self.assertRefused(b"/c", 0, exact, "2 files", "have 2", "file-quota")

    def test_maxSize(self) -> None:
        """A file that is too large is refused, with its size and with what may be."""
        exact = Allowance(maxSize=10)
        self.assertRefused(b"/a", 11, exact, "11 bytes", "10", "max-size")
        self.put(b"/a", 10, exact)

    def test_less(self) -> None:
        """Who keeps too much already can replace a file by one that is no larger."""
        self.put(b"/a", 100)
        tight = Allowance(quota=10, fileQuota=1)
        self.put(b"/a", 100, tight)
        self.put(b"/a", 50, tight)
        self.assertRefused(b"/b", 0, tight)

    def test_underWay(self) -> None:
        """Uploads that are under way fit together, or not."""
        exact = Allowance(quota=100)
        first = self.reserve(b"/a", 60, exact)
        self.assertRefused(b"/b", 60, exact)
        first.release()
        self.reserve(b"/b", 60, exact)

    def test_atOnce(self) -> None:
        """Many threads that reserve at once get no more together than there is."""
        exact = Allowance(quota=1000, fileQuota=1000)
        got: list[Reservation] = []

        def work(index: int) -> None:
            for number in range(20):
                try:
                    got.append(self.reserve(b"/%d/%d" % (index, number), 10, exact))
                except LimitExceeded:
                    pass
                else:
                    if number % 2:
                        got.pop().release()

        threads = [threading.Thread(target=work, args=(index,)) for index in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bytes, files = self.quotas.keeps(ANNA, ROOT, ALL)
        self.assertEqual(bytes, 10 * files)
        self.assertEqual(files, len(got))
        self.assertLessEqual(bytes, 1000)


class UnderTests(SynchronousTestCase):
    """What an allowance is by a rule."""

    def test_rule(self) -> None:
        """What a rule says counts, and where it says nothing, what the service says."""
        service = Allowance(1, 2, 3)
        paths = (AbsolutePath("/a/**"),)
        for told, wanted in (
            ({}, service),
            ({"maxSize": 9}, Allowance(1, 2, 9)),
            ({"quota": 9}, Allowance(9, 2, 3, paths)),
            ({"fileQuota": 9}, Allowance(1, 9, 3, paths)),
            ({"quota": 7, "fileQuota": 8, "maxSize": 9}, Allowance(7, 8, 9, paths)),
        ):
            given: dict[str, Any] = told
            found = service.under(FilesRule(paths=paths, actions=("write",), **given))
            self.assertEqual(found, wanted)

    def test_counted(self) -> None:
        """Whether there is something to count."""
        self.assertFalse(Allowance().counted)
        self.assertFalse(Allowance(maxSize=1).counted)
        self.assertTrue(Allowance(quota=1).counted)
        self.assertTrue(Allowance(fileQuota=1).counted)


class RenameTests(QuotaCase):
    """What changes its name."""

    def test_own(self) -> None:
        """An own file counts by its new name as it did by its old one."""
        exact = Allowance(quota=10, fileQuota=1)
        self.put(b"/a", 10, exact)
        self.rename(b"/a", b"/b", exact)
        self.assertKeeps(10, 1)
        self.remove(b"/b")
        self.assertKeeps(0, 0)

    def test_others(self) -> None:
        """Somebody else's file belongs to whoever gives it another name, who needs room for it."""
        self.put(b"/a", 10)
        self.assertRaises(LimitExceeded, self.rename, b"/a", b"/b", Allowance(quota=9), BOB)
        self.assertKeeps(10, 1)
        self.rename(b"/a", b"/b", Allowance(quota=10), BOB)
        self.assertKeeps(0, 0)
        self.assertKeeps(10, 1, BOB)

    def test_nobodys(self) -> None:
        """So does a file that was nobody's."""
        self.world.put(b"/a", 10)
        self.assertRaises(LimitExceeded, self.rename, b"/a", b"/b", Allowance(quota=9))
        self.rename(b"/a", b"/b", Allowance(quota=10, fileQuota=1))
        self.assertKeeps(10, 1)

    def test_replaced(self) -> None:
        """What is replaced counts no more."""
        self.put(b"/a", 10)
        self.put(b"/b", 5)
        self.put(b"/c", 3, owner=BOB)
        exact = Allowance(quota=15, fileQuota=2)
        self.rename(b"/a", b"/b", exact)
        self.assertKeeps(10, 1)
        self.rename(b"/b", b"/c", exact)
        self.assertKeeps(10, 1)
        self.assertKeeps(0, 0, BOB)

    def test_intoPaths(self) -> None:
        """Who brings an own file to the paths of another rule needs room there."""
        inbox = only("/in/**", quota=10)
        self.put(b"/a", 11)
        self.assertRaises(LimitExceeded, self.rename, b"/a", b"/in/a", inbox)
        self.put(b"/b", 10)
        self.rename(b"/b", b"/in/b", inbox)
        self.assertKeeps(10, 1, allowance=inbox)
        self.rename(b"/in/b", b"/in/c", inbox)
        self.rename(b"/in/c", b"/c")
        self.assertKeeps(0, 0, allowance=inbox)
        self.assertKeeps(21, 2)

    def test_maxSize(self) -> None:
        """No file gets a name there that is too large for one to be written."""
        self.put(b"/a", 11)
        self.assertRaises(LimitExceeded, self.rename, b"/a", b"/b", Allowance(maxSize=10))

    def test_directory(self) -> None:
        """With a directory goes all that is in it, and nothing that is beside it."""
        self.world.put(b"/d", None)
        for name in (b"/d/a", b"/d/e/b", b"/d-x", b"/d0", b"/dd"):
            self.put(name, 10)
        self.put(b"/d/bob", 5, owner=BOB)
        self.rename(b"/d", b"/new")
        self.assertKeeps(55, 6)
        self.assertKeeps(0, 0, BOB)
        moved = [file.name for file in self.quotas._ledger.after(ANNA, ROOT, b"", 100)]
        self.assertEqual(moved, [b"/d-x", b"/d0", b"/dd", b"/new/a", b"/new/bob", b"/new/e/b"])

    def test_directoryTooLarge(self) -> None:
        """A directory of others' files needs room for all of them."""
        self.world.put(b"/d", None)
        self.put(b"/d/a", 10)
        self.put(b"/d/b", 10)
        self.assertRaises(LimitExceeded, self.rename, b"/d", b"/x", Allowance(fileQuota=1), BOB)
        self.assertKeeps(20, 2)

    def test_uploadInside(self) -> None:
        """What is being written in a directory goes with it."""
        self.world.put(b"/d", None)
        reservation = self.reserve(b"/d/a", 10, only("/d/**", quota=10))
        self.rename(b"/d", b"/in")
        self.assertKeeps(10, 1, allowance=only("/in/**"))
        self.world.put(b"/in/a", 10)
        reservation.publish(10)
        self.assertKeeps(10, 1, allowance=only("/in/**"))
        self.assertKeeps(10, 1)

    def test_replacing(self) -> None:
        """An upload that was to replace a file counts in full once that has gone, by whatever way,
        so that files that are there and files that come never are more than one may keep."""
        few = Allowance(quota=10)

        def gone() -> None:
            self.rename(b"/a", b"/c", ALL)

        def emptied() -> None:
            self.put(b"/a", 0, few)

        def others() -> None:
            self.rename(b"/a", b"/c", owner=BOB)

        def vanished() -> None:
            self.world.remove(b"/a")
            self.now += LOOK_PAUSE
            self.assertRaises(LimitExceeded, self.reserve, b"/b", 2**41)

        for way, keeps in (
            (gone, (20, 2)),
            (lambda: self.remove(b"/a"), (10, 1)),
            (emptied, (10, 1)),
            (others, (10, 1)),
            (vanished, (10, 1)),
        ):
            self.put(b"/a", 10)
            reservation = self.reserve(b"/a", 10, few)
            self.assertKeeps(10, 1)
            way()
            self.assertKeeps(*keeps)
            self.assertRaises(LimitExceeded, self.reserve, b"/b", 1, few)
            self.world.put(b"/a", 10)
            reservation.publish(10)
            self.assertKeeps(*keeps)
            for name in (b"/a", b"/c"):
                if (ROOT, split(name)) in self.world.there:
                    self.remove(name)
            self.assertKeeps(0, 0)

    def test_replacingRefused(self) -> None:
        """A file that is to be replaced is not renamed without room for both."""
        few = Allowance(quota=19)
        self.put(b"/a", 10)
        reservation = self.reserve(b"/a", 10, few)
        self.assertRaises(LimitExceeded, self.rename, b"/a", b"/c", few)
        self.assertRaises(LimitExceeded, self.rename, b"/a", b"/c", Allowance(fileQuota=1))
        reservation.release()
        self.rename(b"/a", b"/c", few)
        self.assertKeeps(10, 1)

    def test_told(self) -> None:
        """Who renames tells what has become of it, whatever has either name now."""
        self.put(b"/a", 10)
        id = self.quotas.beginRename(BOB, ROOT, (b"a",), (b"b",), ALL)
        self.world.rename(b"/a", b"/b")
        self.world.put(b"/a", 7)
        self.quotas.endRename(id, True)
        self.assertKeeps(0, 0)
        self.assertKeeps(10, 1, BOB)
        id = self.quotas.beginRename(ANNA, ROOT, (b"b",), (b"c",), ALL)
        self.world.rename(b"/b", b"/c")
        self.quotas.endRename(id, False)
        self.assertKeeps(10, 1, BOB)

    def test_failed(self) -> None:
        """What was not renamed after all counts as before."""
        self.put(b"/a", 10)
        self.put(b"/b", 5, owner=BOB)
        id = self.quotas.beginRename(BOB, ROOT, (b"a",), (b"b",), ALL)
        self.quotas.endRename(id)
        self.assertKeeps(10, 1)
        self.assertKeeps(5, 1, BOB)

    def test_itself(self) -> None:
        """A name that stays is no change."""
        self.put(b"/a", 10)
        self.rename(b"/a", b"/a", Allowance(quota=10))
        self.assertKeeps(10, 1)

    def test_missing(self) -> None:
        """What is not there needs no room."""
        self.rename(b"/a", b"/b", Allowance(quota=1))
        self.assertKeeps(0, 0)

    def test_unseen(self) -> None:
        """What cannot be looked at is settled at the next start."""
        self.put(b"/a", 10)
        id = self.quotas.beginRename(BOB, ROOT, (b"a",), (b"b",), ALL)
        self.world.rename(b"/a", b"/b")
        self.world.fails = StorageFailed("The disk fails.")
        self.quotas.endRename(id)
        self.world.fails = None
        self.assertKeeps(10, 1)
        self.quotas.close()
        self.quotas = self.opened()
        self.assertKeeps(10, 1, BOB)


class KeptTests(QuotaCase):
    """What is kept of uploads for another try."""

    def test_otherSize(self) -> None:
        """A try of another size lies beside the first, and both count."""
        self.reserve(b"/a", 100, source=b"s").keep()
        few = Allowance(quota=150)
        self.assertRaises(LimitExceeded, self.reserve, b"/a", 99, few, source=b"s")
        self.reserve(b"/a", 99, source=b"s").keep()
        self.assertKeeps(199, 2)

    def test_undone(self) -> None:
        """What is kept counts on, as long as before, when a try cannot be begun."""
        self.reserve(b"/a", 100, source=b"s").keep()
        self.now += KEEP / 2
        reservation = self.reserve(b"/a", 100, source=b"s")
        reservation.undo()
        reservation.release()
        reservation.undo()
        self.assertKeeps(100, 1)
        self.reserve(b"/b", 5).undo()
        self.assertKeeps(100, 1)
        self.kill()
        self.assertKeeps(100, 1)
        self.now += KEEP / 2 + FORGET_INTERVAL
        self.put(b"/c", 1)
        self.assertKeeps(1, 1)

    def test_undoneElsewhere(self) -> None:
        """And it does so by the name that its directory has then."""
        self.world.put(b"/d", None)
        self.reserve(b"/d/a", 100, source=b"s").keep()
        reservation = self.reserve(b"/d/a", 100, source=b"s")
        self.rename(b"/d", b"/e")
        reservation.undo()
        self.assertKeeps(100, 1, allowance=only("/e/**"))

    def test_counts(self) -> None:
        """It counts as a whole, also where it was to replace an own file."""
        self.put(b"/a", 100)
        self.reserve(b"/a", 100, source=b"s").keep()
        self.assertKeeps(200, 2)

    def test_nothingKept(self) -> None:
        """Of a source without a name nothing is kept, and nothing counts."""
        self.reserve(b"/a", 100).keep()
        self.assertKeeps(0, 0)

    def test_resumed(self) -> None:
        """Who goes on with it needs no more room."""
        exact = Allowance(quota=100, fileQuota=1)
        self.reserve(b"/a", 100, exact, source=b"s").keep()
        self.assertRefused(b"/a", 100, exact)
        self.assertRaises(LimitExceeded, self.reserve, b"/a", 100, exact, source=b"other")
        reservation = self.reserve(b"/a", 100, exact, source=b"s")
        self.assertKeeps(100, 1)
        reservation.publish(100)
        self.assertKeeps(100, 1)

    def test_others(self) -> None:
        """Nobody goes on with somebody else's."""
        self.reserve(b"/a", 100, source=b"s").keep()
        self.reserve(b"/a", 100, owner=BOB, source=b"s").publish(100)
        self.assertKeeps(100, 1)
        self.assertKeeps(100, 1, BOB)

    def test_expired(self) -> None:
        """It counts for as long as it is kept."""
        exact = Allowance(quota=100)
        self.reserve(b"/a", 100, exact, source=b"s").keep()
        self.now += KEEP - 1
        self.assertRefused(b"/b", 1, exact)
        self.now += FORGET_INTERVAL
        self.reserve(b"/b", 100, exact).publish(100)
        self.assertKeeps(100, 1)

    def test_restart(self) -> None:
        """A restart changes nothing of that."""
        self.reserve(b"/a", 100, source=b"s").keep()
        self.quotas.close()
        self.quotas = self.opened()
        self.assertKeeps(100, 1)
        self.now += KEEP + FORGET_INTERVAL
        self.reserve(b"/b", 1).release()
        self.assertKeeps(0, 0)


class BehindTests(QuotaCase):
    """What happens without the service."""

    def test_vanished(self) -> None:
        """Who would be refused is not, when files have gone."""
        exact = Allowance(quota=100, fileQuota=2)
        self.put(b"/a", 50, exact)
        self.put(b"/b", 50, exact)
        self.world.remove(b"/a")
        self.put(b"/c", 50, exact)
        self.assertKeeps(100, 2)

    def test_changed(self) -> None:
        """So it is with files that are smaller now; those that are larger count as they are."""
        exact = Allowance(quota=100)
        self.put(b"/a", 100, exact)
        self.world.put(b"/a", 10)
        self.put(b"/b", 90, exact)
        self.world.put(b"/a", 1000)
        self.now += LOOK_PAUSE
        error: Any = self.assertRaises(LimitExceeded, self.reserve, b"/c", 1, exact)
        self.assertIn("have 1090", error.sentence)

    def test_otherKind(self) -> None:
        """A file in whose place there is a directory counts no more."""
        self.put(b"/a", 100)
        self.world.put(b"/a", None)
        self.put(b"/b", 100, Allowance(quota=100))
        self.assertKeeps(100, 1)

    def test_unseen(self) -> None:
        """What cannot be looked at counts as before."""
        exact = Allowance(quota=100)
        self.put(b"/a", 100, exact)
        self.quotas._look = lambda root, parts: None
        looks = [None]

        def look(root: str, parts: Parts) -> Attributes | None:
            if looks:
                return looks.pop()
            raise StorageFailed("The disk fails.")

        self.quotas._look = look
        self.assertRefused(b"/b", 1, exact)
        self.assertKeeps(100, 1)

    def test_seldom(self) -> None:
        """Who tries over and over has the disk looked at no more than now and then."""
        exact = Allowance(fileQuota=10)
        for number in range(10):
            self.put(b"/%d" % number, 1, exact)
        self.world.looked = 0
        for _ in range(100):
            self.assertRefused(b"/x", 1, exact)
        self.assertEqual(self.world.looked, 100 + 10)
        self.world.remove(b"/3")
        self.now += LOOK_PAUSE
        self.put(b"/x", 1, exact)

    def test_bounded(self) -> None:
        """Of many files some are looked at each time, and in the end all."""
        count = MAX_LOOKED + 10
        exact = Allowance(fileQuota=count)
        for number in range(count):
            self.put(b"/%06d" % number, 1, exact)
        self.world.looked = 0
        self.assertRefused(b"/x", 1, exact)
        self.assertEqual(self.world.looked, 1 + MAX_LOOKED)
        self.world.remove(b"/%06d" % (count - 1))
        self.put(b"/x", 1, exact)

    def test_notAsked(self) -> None:
        """Nothing is looked at for who is not refused, but the name itself."""
        for number in range(10):
            self.put(b"/%d" % number, 1)
        self.world.looked = 0
        self.put(b"/x", 1)
        self.assertEqual(self.world.looked, 1)


class KilledTests(QuotaCase):
    """What is found after the service was killed."""

    def test_published(self) -> None:
        """What was published, and not counted yet, counts after the next start."""
        self.reserve(b"/a", 10)
        self.world.put(b"/a", 10)
        self.kill()
        self.assertKeeps(10, 1)
        self.kill()
        self.assertKeeps(10, 1)

    def test_counted(self) -> None:
        """What was counted, and not committed yet, too."""
        self.put(b"/a", 10)
        self.kill()
        self.assertKeeps(10, 1)

    def test_replaced(self) -> None:
        """A file of the same size that took another's place is not taken for that one."""
        self.put(b"/a", 10, owner=BOB)
        self.reserve(b"/a", 10)
        self.kill()
        self.assertKeeps(10, 1, BOB)
        self.assertKeeps(0, 0)
        self.reserve(b"/a", 10)
        self.world.put(b"/a", 10)
        self.kill()
        self.assertKeeps(0, 0, BOB)
        self.assertKeeps(10, 1)

    def test_twoWriters(self) -> None:
        """Of two who write one name, what the one has published is not taken for the other's."""
        first, second = self.reserve(b"/a", 10), self.reserve(b"/a", 10, owner=BOB)
        self.world.put(b"/a", 10)
        second.publish(10)
        self.quotas._ledger.commit()
        self.kill()
        self.assertKeeps(10, 1, BOB)
        self.assertKeeps(0, 0)
        first.release()

    def test_unfinished(self) -> None:
        """What was not published counts as long as it may be kept."""
        self.put(b"/a", 5)
        self.reserve(b"/a", 10, source=b"s")
        self.reserve(b"/b", 20)
        self.kill()
        self.assertKeeps(15, 2)
        self.now += KEEP + FORGET_INTERVAL
        self.reserve(b"/c", 1).release()
        self.assertKeeps(5, 1)

    def test_removed(self) -> None:
        """What was removed is noticed when it matters."""
        self.put(b"/a", 10)
        self.reserve(b"/b", 0).release()
        self.remove(b"/a")
        self.kill()
        self.put(b"/b", 10, Allowance(quota=10))
        self.assertKeeps(10, 1)

    def test_renamed(self) -> None:
        """What was renamed, and not counted yet, counts for whoever did."""
        self.put(b"/a", 10)
        self.quotas.beginRename(BOB, ROOT, (b"a",), (b"b",), ALL)
        self.world.rename(b"/a", b"/b")
        self.kill()
        self.assertKeeps(10, 1, BOB)
        self.assertKeeps(0, 0)

    def test_notRenamed(self) -> None:
        """What was about to be counts as before."""
        self.put(b"/a", 10)
        self.quotas.beginRename(BOB, ROOT, (b"a",), (b"b",), ALL)
        self.kill()
        self.assertKeeps(10, 1)
        self.assertEqual(self.quotas._ledger.renamings(), [])

    def test_changedSize(self) -> None:
        """A file of another size than the upload's is none of it."""
        self.reserve(b"/a", 10)
        self.world.put(b"/a", 11)
        self.kill()
        self.assertKeeps(0, 0)

    def test_numbers(self) -> None:
        """What was settled is not settled again, whatever was begun since: no number is used
        twice."""
        stale = self.reserve(b"/a", 10)
        stale.release()
        self.reserve(b"/b", 20, source=b"s")
        for settle in (stale.keep, stale.release, lambda: stale.publish(5)):
            settle()
            self.assertKeeps(20, 1)


#: For each seed that it reads a child puts, replaces, renames and removes files of its own until it
#: is killed; then it tells how that ended. Children are forks, as importing takes longer than all
#: of their work.
PARENT = """
import os, random, sys
from twisted_netsuite.files.allowance import Allowance
from twisted_netsuite.files.quota import Quotas
from tests.files.test_quota import lookAt

root, state = sys.argv[1:]

def work(chance):
    quotas = Quotas(state)
    quotas.open(lookAt)
    allowance = Allowance(quota=2**40, fileQuota=2**40)
    print(os.getpid(), flush=True)
    while True:
        name, to = b"%d" % chance.randrange(20), b"%d" % chance.randrange(20)
        path, other = (os.path.join(os.fsencode(root), each) for each in (name, to))
        what = chance.randrange(4)
        if what < 2:
            size = chance.randrange(1, 5000)
            reservation = quotas.reserve("cert:anna", root, (name,), size, allowance)
            with open(path + b".new", "wb") as file:
                file.truncate(size)
            os.rename(path + b".new", path)
            reservation.publish(size)
        elif what == 2 and os.path.exists(path):
            id = quotas.beginRename("cert:anna", root, (name,), (to,), allowance)
            os.rename(path, other)
            quotas.endRename(id)
        elif os.path.exists(path):
            os.unlink(path)
            quotas.removed(root, (name,))

for seed in sys.stdin:
    pid = os.fork()
    if not pid:
        work(random.Random(int(seed)))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def lookAt(root: str, parts: Parts) -> Attributes | None:
    """Look at a real file."""
    try:
        status = os.stat(os.path.join(os.fsencode(root), *parts))
    except FileNotFoundError:
        return None
    version = b"%d %d" % (status.st_ino, status.st_mtime_ns)
    return Attributes("file", status.st_size, 0, 0o644, version)


class KillTests(SynchronousTestCase):
    """A service that is really killed."""

    ROUNDS = 12

    def test_kill(self) -> None:
        """However often and whenever it is killed, what counts in the end is what is there."""
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        root, state = str(directory / "root"), str(directory / "state")
        os.mkdir(root)
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, root, state],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What went wrong is then read in place of a number.
            stderr=subprocess.STDOUT,
            bufsize=0,
            cwd=Path(__file__).parent.parent.parent,
        )
        self.addCleanup(parent.wait)
        assert parent.stdin is not None and parent.stdout is not None
        self.addCleanup(parent.stdout.close)
        self.addCleanup(parent.stdin.close)
        chance = random.Random(5)
        for round in range(self.ROUNDS):
            parent.stdin.write(b"%d\n" % round)
            pid = int(parent.stdout.readline())
            # Somewhere in its work, which begins at once and has no end.
            ended, _, _ = select.select([parent.stdout], [], [], chance.uniform(0.0, 0.15))
            self.assertEqual(ended, [])
            os.kill(pid, signal.SIGKILL)
            self.assertEqual(int(parent.stdout.readline()), -signal.SIGKILL)
            self.verify(root, state)

    def verify(self, root: str, state: str) -> None:
        """Compare what counts with what is there; removed files are noticed by a refusal."""
        quotas = Quotas(state)
        quotas.open(lookAt)
        try:
            for _ in range(2):
                with self.assertRaises(LimitExceeded):
                    quotas.reserve("cert:anna", root, (b"x",), 2**50, Allowance(quota=1))
            sizes = [each.stat().st_size for each in Path(root).iterdir() if not each.suffix]
            found = quotas.keeps("cert:anna", root, ALL)
            self.assertEqual(found, (sum(sizes), len(sizes)))
        finally:
            quotas.close()


#: Names that a model is tried with, some below others.
NAMES = (b"/a", b"/b", b"/d/a", b"/d/b", b"/e/a")

STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES), st.integers(0, 100)),
    st.tuples(st.just("give up"), st.sampled_from(NAMES), st.integers(0, 100)),
    st.tuples(st.just("put, killed"), st.sampled_from(NAMES), st.integers(0, 100)),
    st.tuples(st.just("rename"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("rename, killed"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("kill"), st.just(b""), st.none()),
)


class ModelTests(QuotaCase):
    """Any order of anything."""

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from((ANNA, BOB)), STEPS), max_size=25))
    def test_any(self, steps: list[tuple[str, Any]]) -> None:
        """After anything each keeps just what it has written last."""
        self.quotas.close()
        self.world = World()
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.quotas = self.opened()
        owners: dict[bytes, str] = {}
        for owner, (what, name, more) in steps:
            getattr(self, "_" + what.replace(",", "").replace(" ", "_"))(owner, owners, name, more)
        for owner in (ANNA, BOB):
            with self.assertRaises(LimitExceeded):
                self.reserve(b"/x", 2**50, Allowance(quota=1), owner)
            sizes = [
                self.world.there[ROOT, split(name)][0] or 0
                for name, whose in owners.items()
                if whose == owner
            ]
            self.assertKeeps(sum(sizes), len(sizes), owner)
        self.quotas.close()

    def _put(self, owner: str, owners: dict[bytes, str], name: bytes, size: int) -> None:
        self.put(name, size, owner=owner)
        owners[name] = owner

    def _give_up(self, owner: str, owners: dict[bytes, str], name: bytes, size: int) -> None:
        self.reserve(name, size, owner=owner).release()

    def _put_killed(self, owner: str, owners: dict[bytes, str], name: bytes, size: int) -> None:
        self.reserve(name, size, owner=owner)
        self.world.put(name, size)
        self.kill()
        owners[name] = owner

    def _rename(self, owner: str, owners: dict[bytes, str], name: bytes, to: bytes) -> None:
        if name in owners:
            self.rename(name, to, owner=owner)
            if name != to:
                owners[to] = owner
                del owners[name]

    def _rename_killed(self, owner: str, owners: dict[bytes, str], name: bytes, to: bytes) -> None:
        if name in owners and name != to:
            self.quotas.beginRename(owner, ROOT, split(name), split(to), ALL)
            self.world.rename(name, to)
            self.kill()
            owners[to] = owner
            del owners[name]

    def _remove(self, owner: str, owners: dict[bytes, str], name: bytes, more: None) -> None:
        if owners.pop(name, None):
            self.remove(name)

    def _kill(self, owner: str, owners: dict[bytes, str], name: bytes, more: None) -> None:
        self.kill()


class LedgerTests(QuotaCase):
    """The state directory."""

    def test_restart(self) -> None:
        """What counts is there after a restart."""
        self.put(b"/a", 10)
        self.quotas.close()
        self.quotas = self.opened()
        self.assertKeeps(10, 1)

    def test_private(self) -> None:
        """It is made for its owner alone, and so is what is in it."""
        self.put(b"/a", 10)
        self.assertEqual(stat.S_IMODE(os.stat(self.directory).st_mode), 0o700)
        for each in Path(self.directory).iterdir():
            self.assertEqual(stat.S_IMODE(each.stat().st_mode), 0o600, each)

    def test_inUse(self) -> None:
        """Two servers do not use one directory."""
        other = Quotas(self.directory)
        for use in (other.check, lambda: other.open(self.world.look)):
            error: Any = self.assertRaises(ConfigurationError, use)
            self.assertIn("Another server uses", error.sentence)
            self.assertIn(repr(self.directory), error.sentence)
        self.quotas.close()
        other.check()

    def test_check(self) -> None:
        """To check it leaves it for whoever opens it, and changes nothing while it is open."""
        place = self.directory + "-2"
        other = Quotas(place)
        other.check()
        other.open(self.world.look)
        other.check()
        other.reserve(ANNA, ROOT, (b"a",), 1, ALL).release()
        other.close()
        other.close()

    def test_unusable(self) -> None:
        """What cannot be used is one sentence, and nothing is held."""
        file = Path(self.directory + "-file")
        file.write_text("")
        loose = Path(self.directory + "-loose")
        loose.mkdir()
        loose.chmod(0o777)
        damaged = Path(self.directory + "-damaged")
        damaged.mkdir(0o700)
        (damaged / "quota.sqlite").write_bytes(b"nothing of ours" * 1000)
        for place in (f"{self.directory}/missing/x", str(file), str(loose), str(damaged)):
            before = len(os.listdir("/proc/self/fd"))
            error: Any = self.assertRaises(ConfigurationError, Quotas(place).check)
            self.assertIn(repr(place), error.sentence)
            self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_others(self) -> None:
        """The database of another program, or of a newer version, is left as it is."""
        for statement, said in (
            ("CREATE TABLE x (y)", "another program"),
            (f"PRAGMA user_version = {VERSION + 1}", "newer netsuite"),
        ):
            place = Path(self.directory + f"-{len(said)}")
            place.mkdir(0o700)
            connection = sqlite3.connect(place / "quota.sqlite")
            connection.execute(statement)
            connection.commit()
            connection.close()
            error: Any = self.assertRaises(ConfigurationError, Quotas(str(place)).check)
            self.assertIn(said, error.sentence)

    def test_closed(self) -> None:
        """Once it is closed nothing is reserved, and what is under way ends without a word."""
        reservation = self.reserve(b"/a", 10)
        id = self.quotas.beginRename(ANNA, ROOT, (b"b",), (b"c",), ALL)
        self.quotas.close()
        self.assertRaises(StorageFailed, self.reserve, b"/b", 1)
        reservation.publish(10)
        self.quotas.endRename(id)
        self.quotas.removed(ROOT, (b"a",))

    def test_sums(self) -> None:
        """However many identities and rules there are, sums of some alone are in memory."""
        for number in range(MAX_SUMMED + 10):
            self.quotas.keeps(f"cert:{number}", ROOT, ALL)
        self.assertEqual(len(self.quotas._sums), MAX_SUMMED)
        for number in range(MAX_RULES + 10):
            self.quotas.keeps(ANNA, ROOT, only(f"/{number}"))
        self.assertLessEqual(len(self.quotas._sums._sums[ANNA, ROOT]), MAX_RULES)


class FaultTests(QuotaCase):
    """A disk that fails."""

    def break_(self) -> None:
        """Let nothing be written from now on."""
        self.quotas._ledger._sql.execute("PRAGMA query_only = ON")

    def mend(self) -> None:
        """Let all be written again."""
        self.quotas._ledger._sql.execute("PRAGMA query_only = OFF")

    def test_reserve(self) -> None:
        """Nothing is let in that cannot be counted; the log tells once."""
        self.reserve(b"/a", 10).publish(10)
        self.quotas._ledger.commit()
        self.break_()
        with capturedLogs() as events:
            for _ in range(3):
                error: Any = self.assertRaises(StorageFailed, self.reserve, b"/b", 1)
        self.assertIn("cannot be written", error.sentence)
        self.assertEqual(len(events), 1)
        self.mend()
        self.assertKeeps(10, 1)

    def test_publish(self) -> None:
        """What was published and could not be counted is counted as soon as that can be."""
        reservation = self.reserve(b"/a", 10)
        self.break_()
        self.world.put(b"/a", 10)
        with capturedLogs():
            reservation.publish(10)
        self.mend()
        self.assertKeeps(10, 1)

    def test_nothingBegun(self) -> None:
        """So is what was published when not even a transaction could be begun."""
        reservation = self.reserve(b"/a", 10)
        self.put(b"/b", 5)
        id = self.quotas.beginRename(ANNA, ROOT, (b"b",), (b"c",), ALL)
        self.world.put(b"/a", 10)
        self.world.rename(b"/b", b"/c")

        def begin() -> None:
            raise sqlite3.OperationalError("disk I/O error")

        broken = self.patch(self.quotas._ledger, "begin", begin)
        with capturedLogs():
            reservation.publish(10)
            self.quotas.endRename(id)
        broken.restore()
        self.assertKeeps(15, 2)
        self.assertEqual(self.quotas._ledger.unsettled(), [])
        self.assertEqual(self.quotas._ledger.renamings(), [])

    def test_remembered(self) -> None:
        """Nothing is remembered that a failure has taken back."""
        self.put(b"/a", 10)
        self.quotas._ledger.commit()
        self.remove(b"/a")
        self.break_()
        with capturedLogs():
            self.assertRaises(StorageFailed, self.reserve, b"/c", 1)
        self.mend()
        self.assertKeeps(10, 1)
        self.put(b"/c", 10, Allowance(quota=10))
        self.assertKeeps(10, 1)

    def test_uncommitted(self) -> None:
        """So is what a failure has taken back."""
        self.put(b"/a", 10)
        other = self.reserve(b"/b", 20)
        self.world.put(b"/b", 20)
        other.publish(20)
        third = self.reserve(b"/c", 30)
        self.put(b"/a", 11)
        self.world.put(b"/c", 30)
        self.break_()
        with capturedLogs():
            third.publish(30)
        self.mend()
        self.assertKeeps(61, 3)

    def test_underWay(self) -> None:
        """What is under way then is not settled by looking, but by what becomes of it."""
        first, second = self.reserve(b"/a", 10), self.reserve(b"/b", 20)
        self.break_()
        with capturedLogs():
            self.assertRaises(StorageFailed, self.reserve, b"/c", 1)
        self.mend()
        self.world.put(b"/a", 10)
        self.assertKeeps(30, 2)
        first.publish(10)
        second.release()
        self.assertKeeps(10, 1)

    def test_rename(self) -> None:
        """A change of a name that could not be counted is counted later."""
        self.put(b"/a", 10)
        id = self.quotas.beginRename(BOB, ROOT, (b"a",), (b"b",), ALL)
        self.world.rename(b"/a", b"/b")
        self.break_()
        with capturedLogs():
            self.quotas.endRename(id)
        self.mend()
        self.assertKeeps(0, 0)
        self.assertKeeps(10, 1, BOB)

    def test_refusedLook(self) -> None:
        """A name that cannot be looked at is refused with what was in the way."""
        self.world.fails = NotFound("There is no such directory.")
        self.assertRaises(NotFound, self.reserve, b"/a/b", 1)
        self.world.fails = None
        self.assertKeeps(0, 0)
