"""
Files of a plan on their way: which go together, what becomes of each, and that a tree that went in
bundles is the one that went file by file.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.files.farend import AtOnce, write
from tests.files.faultystore import FaultyStore
from tests.files.fileserver import SessionTestCase
from tests.files.test_sync import SyncCase, T, Tree, Watcher, fill, treeOf
from tests.trust.overseen import overseen
from twisted_netsuite.errors import (
    ConnectionFailed,
    Corrupted,
    Denied,
    SourceChanged,
    StorageFailed,
)
from twisted_netsuite.files import carrying, quick
from twisted_netsuite.files import small as smallFiles
from twisted_netsuite.files.bundles import TooLarge
from twisted_netsuite.files.carrying import LOAD, SMALL, loads, weigh
from twisted_netsuite.files.digests import digestOf
from twisted_netsuite.files.entries import TreeEntry
from twisted_netsuite.files.messages import (
    BUNDLE_BYTES,
    BUNDLE_FILES,
    BUNDLE_NAMES,
    FRAME,
    RECORDS,
    Chosen,
    Get,
    GetBundle,
    Offered,
    Put,
    PutBundle,
)
from twisted_netsuite.files.names import MAX_NAME
from twisted_netsuite.files.native import FilesFactory
from twisted_netsuite.files.nativesession import NativeFiles
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.plan import Transfer
from twisted_netsuite.files.progress import Outcome, TreeIncomplete
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.files.store import Store
from twisted_netsuite.files.sync import SyncOptions, sync
from twisted_netsuite.files.trees import LocalTree, RemoteTree
from twisted_netsuite.wire.session import Record, SessionCodec


def transfers(*sizes: int, name: int = 4) -> list[Transfer]:
    """Make files that are to go over, with names of so many bytes."""
    return [
        Transfer(TreeEntry(b"%0*d" % (name, number), False, size), "new", None)
        for number, size in enumerate(sizes)
    ]


def shapes(found: list[list[Transfer]]) -> list[int]:
    """Tell how many files each load has."""
    return [len(load) for load in found]


class LoadTests(SynchronousTestCase):
    """What goes together."""

    def test_small(self) -> None:
        """Small files go together, in order; one byte more, and a file goes alone, and parts the
        small ones before it from none behind it."""
        files = transfers(0, SMALL, SMALL + 1, 7, 2**40, SMALL)
        found = list(loads(files))
        self.assertEqual(found[:2], [[files[2]], [files[4]]])
        self.assertEqual(found[2:], [[files[0], files[1], files[3], files[5]]])
        self.assertEqual(list(loads([])), [])
        self.assertEqual(weigh(found[2]), 2 * SMALL + 7)
        self.assertEqual(weigh([]), 0)

    def test_count(self) -> None:
        """As many files go together as a record has room for, and no more."""
        for count, wanted in (
            (1, [1]),
            (BUNDLE_FILES, [BUNDLE_FILES]),
            (BUNDLE_FILES + 1, [BUNDLE_FILES, 1]),
            (3 * BUNDLE_FILES, [BUNDLE_FILES] * 3),
        ):
            self.assertEqual(shapes(list(loads(transfers(*[0] * count)))), wanted)

    def test_bytes(self) -> None:
        """As many bytes go together as a load has, and no more; that is less than a bundle has, so
        that some can grow meanwhile."""
        full = [SMALL] * (LOAD // SMALL)
        self.assertEqual(shapes(list(loads(transfers(*full)))), [len(full)])
        self.assertEqual(shapes(list(loads(transfers(*full, 0, 0, 1)))), [len(full) + 2, 1])
        self.assertEqual(
            shapes(list(loads(transfers(*full[1:], SMALL - 1, 1, 1)))), [len(full) + 1, 1]
        )
        self.assertLess(LOAD, BUNDLE_BYTES)

    def test_names(self) -> None:
        """As many names go together as fit into a record, those of the tree's top at the server
        included, which is before each."""
        count = BUNDLE_NAMES // 1000 + 1
        self.assertEqual(shapes(list(loads(transfers(*[0] * count * 2, name=1000)))), [count] * 2)
        self.assertEqual(shapes(list(loads(transfers(*[0] * count * 2), 996))), [count] * 2)

    def test_eager(self) -> None:
        """A load is there as soon as what follows it is known, however many files there are."""

        def endless() -> Any:
            while True:
                yield from transfers(1)

        self.assertEqual(len(next(loads(endless()))), BUNDLE_FILES)

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([0, 1, 4096, SMALL - 1, SMALL, SMALL + 1]), st.integers(1, 3000)
            ),
            max_size=80,
        ),
        st.integers(1, 5),
        st.integers(0, 900),
    )
    def test_any(self, files: list[tuple[int, int]], times: int, before: int) -> None:
        """Each file is in one load, in order among those like it; every load keeps to the limits,
        and fits into a record, whatever is known of its files."""
        planned = [
            Transfer(TreeEntry(b"x" * length, False, size, number), "new", None)
            for number, (size, length) in enumerate(files * times)
        ]
        codec = SessionCodec(RECORDS)
        found = list(loads(planned, before))
        for small in (True, False):
            wanted = [each for each in planned if (each.entry.size <= SMALL) is small]
            got = [each for load in found for each in load if (each.entry.size <= SMALL) is small]
            self.assertEqual(got, wanted)
        for load in found:
            self.assertTrue(load)
            if load[0].entry.size > SMALL:
                self.assertEqual(len(load), 1)
                continue
            self.assertLessEqual((len(load), weigh(load)), (BUNDLE_FILES, LOAD))
            self.assertLessEqual(weigh(load), LOAD)
            names = [b"/" * before + each.entry.name for each in load]
            chosen = tuple(Chosen(name=name, version=bytes(16)) for name in names)
            self.assertLessEqual(len(codec.encode(GetBundle(id=2**31 - 1, files=chosen))), FRAME)
            offered = tuple(
                Offered(name=name, size=SMALL, mtime=-(2**63), mode=0o777, digest=bytes(32))
                for name in names
            )
            made = PutBundle(id=2**31 - 1, files=offered, clobber=False, durable=False)
            self.assertLessEqual(len(codec.encode(made)), FRAME)

    def test_longest(self) -> None:
        """As many names of the longest that can be, go together as fit into a record."""
        for before in (0, 2000, MAX_NAME - 4):
            for load in loads(transfers(*[1] * 1000, name=MAX_NAME - before), before):
                names = sum(before + len(each.entry.name) for each in load)
                self.assertLess(names, BUNDLE_NAMES + 2 * MAX_NAME)


class CarriageTests(SyncCase):
    """What becomes of each file, with a server's end that fails as a test says."""

    def setUp(self) -> None:
        super().setUp()
        self.files = {b"%d" % number: bytes(number) for number in range(1, 6)}
        fill(self.far, (b"t",), self.files)
        self.end.bundles.clear()

    def names(self, verb: str) -> list[bytes]:
        """Tell what was carried, in order."""
        return [name[3:] for asked, name in self.end.asked if asked == verb]

    def test_together(self) -> None:
        """All small files come with one request, and what was moved is what was planned."""
        self.successResultOf(self.fetch())
        self.assertEqual(self.end.bundles, [5])
        self.assertEqual(self.watcher.totals, [(5, self.watcher.bytes)])
        self.assertEqual(self.names("get"), list(self.files))

    def test_alone(self) -> None:
        """One small file needs no bundle, and a larger one is in none; each has to be the version
        of the list."""
        large = bytes(SMALL + 1)
        write(self.far, (b"t", b"1"), large, T)
        self.successResultOf(self.fetch())
        self.assertEqual(self.end.bundles, [4])
        self.assertEqual(self.watcher.bytes, self.watcher.totals[0][1])
        self.assertNotIn(None, [wish["facts"] for wish in self.end.wishes])
        write(self.far, (b"t", b"3"), b"other", T)
        self.successResultOf(self.fetch())
        self.assertEqual(self.end.bundles, [4])
        self.assertSame()

    def test_again(self) -> None:
        """What was too large, has changed, or came wrong is tried alone, as it is now, once more;
        what is moved is counted once."""
        for number, error in enumerate(
            (TooLarge("It grew."), SourceChanged("It changed."), Corrupted("It came wrong."))
        ):
            self.end.fault("get", b"/t/%d" % (number + 2), error)
        self.successResultOf(self.fetch())
        self.assertSame()
        self.assertEqual(self.names("get"), [b"1", b"2", b"3", b"4", b"5", b"2", b"3", b"4"])
        self.assertEqual([wish["facts"] for wish in self.end.wishes][-3:], [None] * 3)
        self.assertEqual(self.watcher.bytes, self.watcher.totals[0][1])
        done = [name for name, how in self.watcher.done if how == "new"]
        self.assertEqual(sorted(done), list(self.files))

    def test_sentAgain(self) -> None:
        """So it is with files that are sent."""
        fill(self.near, (b"t",), {b"a": b"1", b"b": b"22", b"c": b"333"})
        for name, error in (
            (b"a", TooLarge("It grew.")),
            (b"b", SourceChanged("It changed.")),
            (b"c", Corrupted("It came wrong.")),
        ):
            self.end.fault("put", b"/t/" + name, error)
        self.successResultOf(self.send())
        self.assertEqual(self.names("put"), [b"a", b"b", b"c"] * 2)
        self.assertEqual(self.watcher.bytes, self.watcher.totals[0][1])

    def test_twice(self) -> None:
        """What fails alone, too, is that failure, and nothing of it is counted as moved."""
        self.end.fault("get", b"/t/2", *[SourceChanged("It changed.")] * 3)
        self.end.fault("get", b"/t/3", TooLarge("It grew."), StorageFailed("The disk is full."))
        outcome = self.incomplete(self.fetch())
        self.assertEqual(
            [(each.name, type(each.error)) for each in outcome.failures],
            [(b"2", SourceChanged), (b"3", StorageFailed)],
        )
        self.assertEqual((outcome.files, outcome.bytes), (3, 1 + 4 + 5))

    def test_refused(self) -> None:
        """What is refused is not tried again; the others are there, and were moved."""
        self.end.fault("get", b"/t/2", Denied("It is not yours."))
        self.end.fault("get", b"/t/4", StorageFailed("The disk is full."))
        outcome = self.incomplete(self.fetch())
        self.assertEqual([each.name for each in outcome.failures], [b"2", b"4"])
        self.assertEqual(self.names("get"), list(self.files))
        self.assertEqual((outcome.bytes, self.watcher.bytes), (9, 9))

    def test_all(self) -> None:
        """A request that fails as a whole fails each of its files, and no other."""
        real = self.end.getBundle

        def first(*told: Any) -> Deferred[Any]:
            self.patch(carrying, "getBundle", real)
            done: Deferred[Any] = Deferred()
            done.errback(StorageFailed("The disk is broken."))
            return done

        self.patch(carrying, "BUNDLE_FILES", 3)
        self.patch(carrying, "getBundle", first)
        outcome = self.incomplete(self.fetch())
        self.assertEqual([each.name for each in outcome.failures], [b"1", b"2", b"3"])
        self.assertEqual((outcome.files, self.watcher.bytes), (2, 9))

    def test_lost(self) -> None:
        """A connection that is lost while one goes alone stops all."""
        self.end.fault("get", b"/t/2", TooLarge("It grew."), ConnectionFailed("It is gone."))
        self.failureResultOf(self.fetch(), ConnectionFailed)
        self.assertEqual(self.names("get")[-1], b"2")

    def test_cancelled(self) -> None:
        """What is under way when all is cancelled ends well, and only then is it over."""
        self.end.holds = True
        work = self.fetch()
        work.cancel()
        self.assertNoResult(work)
        self.assertEqual(self.end.cancelled, [b"/t/1"])
        self.end.release()
        self.failureResultOf(work, CancelledError)
        self.assertEqual(set(treeOf(self.near, (b"t",))), {b"."})


class SessionCase(SessionTestCase):
    """
    Two stores, and real sessions between them.

    @ivar asked: what has come to the server.
    """

    def setUp(self) -> None:
        self.near, self.far = FaultyStore(1 << 26), FaultyStore(1 << 26)
        self.asked: list[Record] = []
        real = NativeFiles.recordReceived

        def noted(server: NativeFiles, record: Record) -> None:
            self.asked.append(record)
            real(server, record)

        self.patch(NativeFiles, "recordReceived", noted)
        super().setUp()
        self.watcher = Watcher()
        self.open()

    def makeFactory(self) -> Any:
        roots = Roots("/r", lambda path: self.far)
        permit = Permit(overseen(None), roots, writable=True)
        factory = FilesFactory(self.clock, permit, disk=AtOnce())
        self.successResultOf(factory.open())
        return factory

    def open(self) -> None:
        """Open a session, for both trees."""
        self.session = self.connect()
        self.local = LocalTree(self.near, AtOnce(), (b"t",))
        self.remote = RemoteTree([self.session], b"/t")

    def tearDown(self) -> None:
        for pair in self.pairs:
            pair.client.abortConnection()
        self.flush()
        for store in (self.near, self.far):
            self.assertEqual(store.opened, store.closed)

    def running(self, fetching: bool) -> Deferred[Outcome]:
        """Begin to make one tree as the other, without moving anything."""
        options = SyncOptions(delete=True, yes=True)
        if fetching:
            return sync(self.remote, self.local, options, progress=self.watcher)
        return sync(self.local, self.remote, options, progress=self.watcher)

    def run_(self, fetching: bool) -> Deferred[Outcome]:
        """Make one tree as the other."""
        work = self.running(fetching)
        self.flush()
        return work

    def count(self, *kinds: type[Record]) -> int:
        """Tell how often something was asked."""
        return sum(isinstance(each, kinds) for each in self.asked)

    def same(self) -> None:
        """Both trees are the same."""
        self.assertEqual(read(self.near), read(self.far))


def read(store: FaultyStore) -> Tree:
    """Tell all that is in a store's tree."""
    return treeOf(store, (b"t",))


class SessionTests(SessionCase):
    """Trees that go over a session."""

    def test_requests(self) -> None:
        """Many small files need few requests, either way."""
        files = {b"d/%03d" % number: bytes(number) for number in range(2 * BUNDLE_FILES + 1)}
        fill(self.near, (b"t",), files)
        self.successResultOf(self.run_(False))
        self.same()
        self.assertEqual((self.count(PutBundle), self.count(Put)), (2, 1))
        self.near.remove((b"t", b"d", b"007"))
        self.near = FaultyStore(1 << 26)
        self.open()
        self.successResultOf(self.run_(True))
        self.same()
        self.assertEqual((self.count(GetBundle), self.count(Get)), (2, 1))
        self.assertEqual(self.watcher.bytes, 2 * sum(map(len, files.values())))

    def meanwhile(self, verb: str, act: Callable[[], object]) -> None:
        """Do something between the plan and the first bundle."""
        real = getattr(carrying, verb)

        def later(*told: Any) -> Any:
            setattr(carrying, verb, real)
            act()
            return real(*told)

        self.patch(carrying, verb, later)

    def test_changed(self) -> None:
        """Files that change, grow, or vanish between the list and their turn come as they are
        then, or are told; the others are not hurt."""
        for fetching in (True, False):
            source = self.far if fetching else self.near
            fill(source, (b"t",), {name: name * 3 for name in (b"a", b"b", b"c", b"d", b"e")})

            def change(source: Store = source) -> None:
                write(source, (b"t", b"b"), b"another", T + 1, 0o640)
                write(source, (b"t", b"c"), bytes(3 * BUNDLE_BYTES + 1), T + 1, 0o640)
                source.remove((b"t", b"d"))
                source.change((b"t",), None, T)

            self.meanwhile("getBundle" if fetching else "putBundle", change)
            error = self.failureResultOf(self.run_(fetching), TreeIncomplete).value
            assert isinstance(error, TreeIncomplete)
            self.assertEqual([each.name for each in error.outcome.failures], [b"d"])
            self.assertEqual(error.outcome.bytes, 3 + 7 + 3 * BUNDLE_BYTES + 1 + 3)
            self.same()
            self.setUp()

    def test_corrupted(self) -> None:
        """What comes wrong once, at either end, comes again alone, and is right."""
        fill(self.far, (b"t",), {b"a": b"1", b"b": b"22", b"c": b"333"})
        real = digestOf

        def spoil(module: ModuleType) -> None:
            def once(data: bytes) -> bytes:
                self.patch(module, "digestOf", real)
                return bytes(32)

            self.patch(module, "digestOf", once)

        spoil(smallFiles)
        self.successResultOf(self.run_(True))
        self.same()
        self.assertEqual((self.count(GetBundle), self.count(Get)), (1, 1))
        self.assertEqual(self.watcher.bytes, 6)
        fill(self.near, (b"t",), {b"x": b"1", b"y": b"22", b"z": b"333"})
        spoil(quick)
        self.successResultOf(self.run_(False))
        self.same()
        self.assertEqual((self.count(PutBundle), self.count(Put)), (1, 1))

    def test_lost(self) -> None:
        """A connection that is lost while bundles are under way stops all; what is there is whole,
        and another run does the rest."""
        files = {b"%03d" % number: bytes(1000) for number in range(600)}
        for fetching in (True, False):
            source, target = (self.far, self.near) if fetching else (self.near, self.far)
            fill(source, (b"t",), files)
            target.makeDirectory((b"t",), 0o755, False)
            write(target, (b"t", b"599"), b"old", T)
            work = self.running(fetching)
            for _ in range(60):
                self.pairs[-1].client.step(65_536)
                self.pairs[-1].server.step(65_536)
                self.turn()
                if self.count(GetBundle, PutBundle):
                    break
            self.pairs[-1].server.abortConnection()
            self.flush()
            self.failureResultOf(work, ConnectionFailed)
            found = read(target)
            for name in found:
                if name != b".":
                    self.assertIn(found[name][3], (bytes(1000), b"old"))
            self.assertEqual(found[b"599"][3], b"old")
            self.open()
            self.successResultOf(self.run_(fetching))
            self.same()
            self.setUp()

    @settings(max_examples=15, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([b"", b"d/", b"d/e/"]),
                st.sampled_from([0, 1, 7, 50, 99, 100, 101, 5000]),
            ),
            max_size=30,
        ),
        st.integers(0, 2**32),
    )
    def test_any(self, files: list[tuple[bytes, int]], seed: int) -> None:
        """Any mixture of files goes there and back in bundles, and is the same as what goes file by
        file; so is what is told of it."""
        noise = random.Random(seed)
        made = {
            b"%s%d" % (directory, number): noise.randbytes(size)
            for number, (directory, size) in enumerate(files)
        }
        told: list[list[object]] = []
        together = ((100, 300, 4), (100, 100, 2), (SMALL, LOAD, BUNDLE_FILES))
        for small, load, count in ((-1, 0, 0), *together):
            with (
                patch.object(carrying, "SMALL", small),
                patch.object(carrying, "LOAD", load),
                patch.object(carrying, "BUNDLE_FILES", count),
            ):
                self.near, self.far = FaultyStore(1 << 26), FaultyStore(1 << 26)
                self.asked.clear()
                self.factory = self.makeFactory()
                self.endpoint = type(self.endpoint)(self.factory)
                self.open()
                self.watcher = Watcher()
                fill(self.near, (b"t",), made)
                told.append([self.seen(self.run_(False))])
                self.same()
                self.near = FaultyStore(1 << 26)
                self.open()
                told[-1].append(self.seen(self.run_(True)))
                self.same()
                told[-1].append((read(self.near), self.watcher.totals, sorted(self.watcher.done)))
                self.assertEqual(self.watcher.bytes, 2 * sum(map(len, made.values())))
                if small < 0:
                    self.assertEqual(self.count(GetBundle, PutBundle), 0)
        for each in told:
            self.assertEqual(each, told[0])

    def seen(self, work: Deferred[Outcome]) -> tuple[int, int, int]:
        """What is told of a run."""
        outcome = self.successResultOf(work)
        return outcome.files, outcome.bytes, outcome.failed
