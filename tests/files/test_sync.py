"""
One tree made as another: all of it, in the right order, whatever fails in between.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given, settings
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.files.farend import AtOnce, FarEnd, factsOf, write
from tests.files.test_plan import Model, models
from twisted_netsuite.errors import (
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Denied,
    NetsuiteError,
    NotFound,
    ProtocolError,
    SourceChanged,
    StorageFailed,
    TimedOut,
)
from twisted_netsuite.files import carrying, flights, progress
from twisted_netsuite.files import sync as module
from twisted_netsuite.files.client import FilesSession
from twisted_netsuite.files.entries import TreeEntry
from twisted_netsuite.files.flights import MAX_FLIGHTS, Flights, inThread, itsOwn, together
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.messages import Facts, Listed
from twisted_netsuite.files.names import RESERVED, Parts, split
from twisted_netsuite.files.patterns import Patterns, Rule
from twisted_netsuite.files.plan import Plan
from twisted_netsuite.files.progress import How, Outcome, TreeIncomplete
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.store import Attributes, Store
from twisted_netsuite.files.sync import SyncOptions, once, sync
from twisted_netsuite.files.transfer import Sent, Unconfirmed
from twisted_netsuite.files.trees import LocalTree, RemoteTree, getTree, putTree

#: A time that is no whole number of anything, and that of all that is done meanwhile.
T, NOW = 1_700_000_000_123_456_789, 1_800_000_000_987_654_321

Tree = dict[bytes, tuple[object, ...]]


def fill(store: Store, top: Parts, files: dict[bytes, bytes], mtime: int = T) -> None:
    """Put files into a tree, and directories where a slash is at the end."""
    store.makeDirectory(top, 0o755, True)
    directories = {top}
    for name, data in files.items():
        parts = top + split(name)
        directory = parts if name.endswith(b"/") else parts[:-1]
        store.makeDirectory(directory, 0o755, True)
        directories |= {directory[:depth] for depth in range(len(top), len(directory) + 1)}
        if directory != parts:
            write(store, parts, data, mtime, 0o640)
    for directory in directories:
        store.change(directory, None, mtime)


def treeOf(store: Store, top: Parts, below: Parts = ()) -> Tree:
    """Tell all that is in a tree, and its top."""
    found: Tree = {}
    if not below:
        found[b"."] = seen(store.stat(top))
    for entry in store.list(top + below):
        parts = (*below, entry.name)
        name = b"/".join(parts)
        found[name] = seen(entry.attributes)
        if entry.attributes.kind == "directory":
            found |= treeOf(store, top, parts)
        else:
            source = store.source(top + parts)
            found[name] += (source.read(0, entry.attributes.size),)
            source.close()
    return found


def seen(attributes: Attributes) -> tuple[object, ...]:
    """What has to be the same at both ends."""
    return (attributes.kind, attributes.mode, attributes.mtime)


class Watcher:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.totals: list[tuple[int, int]] = []
        self.bytes = 0
        self.done: list[tuple[bytes, How]] = []
        self.bad: list[tuple[bytes, NetsuiteError]] = []

    def planned(self, files: int, bytes: int) -> None:
        """Note it."""
        self.totals.append((files, bytes))

    def moved(self, bytes: int) -> None:
        """Note it."""
        self.bytes += bytes

    def finished(self, name: bytes, how: How) -> None:
        """Note it."""
        self.done.append((name, how))

    def failed(self, name: bytes, error: NetsuiteError) -> None:
        """Note it."""
        self.bad.append((name, error))


class SyncCase(SynchronousTestCase):
    """Two stores: what is fetched comes from C{far} to C{near}, both with the tree C{t}."""

    #: Whether each file goes for itself, as larger ones do.
    alone = False

    def setUp(self) -> None:
        self.near = MemoryStore(now=lambda: NOW)
        self.far = MemoryStore(now=lambda: NOW)
        self.end = FarEnd(self.far)
        for name in ("getFile", "putFile", "getBundle", "putBundle"):
            self.patch(carrying, name, getattr(self.end, name))
        if self.alone:
            self.patch(carrying, "SMALL", -1)
        self.watcher = Watcher()
        self.local = LocalTree(self.near, AtOnce(), (b"t",))
        self.remote = RemoteTree(self.sessions(), b"/t")

    def sessions(self) -> list[FilesSession]:
        """The far end, as a session."""
        return [cast(FilesSession, self.end)]

    def fetch(
        self, confirm: Callable[[Plan], bool] | None = None, **options: Any
    ) -> Deferred[Outcome]:
        """Make the near tree as the far one."""
        made = SyncOptions(**options)
        return sync(self.remote, self.local, made, confirm=confirm, progress=self.watcher)

    def send(self, **options: Any) -> Deferred[Outcome]:
        """Make the far tree as the near one."""
        return sync(self.local, self.remote, SyncOptions(**options), progress=self.watcher)

    def incomplete(self, work: Deferred[Outcome]) -> Outcome:
        """Something of it has failed."""
        error = self.failureResultOf(work, TreeIncomplete).value
        assert isinstance(error, TreeIncomplete)
        self.assertEqual(error.sentence[-1], ".")
        return error.outcome

    def assertSame(self) -> None:
        """Both trees are the same, in all that can be seen."""
        self.assertEqual(treeOf(self.near, (b"t",)), treeOf(self.far, (b"t",)))


FILES = {
    b"a": b"one",
    b"d/b": b"two" * 10,
    b"d/e/\xff\n-": b"",
    b"empty/": b"",
    b"-rf": b"x",
    b"n" * 255: b"long",
}


class WholeTests(SyncCase):
    """A tree goes over, in either direction."""

    def test_fetch(self) -> None:
        """All files and directories come, with their modes and times, whatever their names are."""
        fill(self.far, (b"t",), FILES)
        self.far.change((b"t", b"d"), 0o555, T - 5)
        outcome = self.successResultOf(self.fetch())
        self.assertSame()
        self.assertEqual((outcome.files, outcome.bytes, outcome.carriedOut), (5, 38, True))
        self.assertEqual(self.watcher.totals, [(5, 38)])
        self.assertEqual(self.watcher.bytes, 38)
        self.assertEqual(
            sorted(how for _, how in self.watcher.done),
            ["changed"] * 4 + ["made"] * 4 + ["new"] * 5,
        )

    def test_send(self) -> None:
        """The same the other way."""
        fill(self.near, (b"t",), FILES)
        outcome = self.successResultOf(self.send())
        self.assertSame()
        self.assertEqual((outcome.files, outcome.bytes), (5, 38))

    def test_closed(self) -> None:
        """A directory that its owner may not write to is made so that things can be put into it,
        and gets its mode at the end."""
        fill(self.near, (b"t",), {b"d/x": b"1"})
        self.near.change((b"t", b"d"), 0o555, T)
        self.successResultOf(self.send())
        self.assertSame()
        self.assertEqual(self.end.modes, [0o755, 0o755])

    def test_again(self) -> None:
        """What is the same already costs one list, and nothing is changed."""
        fill(self.far, (b"t",), FILES)
        self.successResultOf(self.fetch())
        self.end.asked.clear()
        outcome = self.successResultOf(self.fetch(delete=True, yes=True))
        self.assertEqual(self.end.verbs(), ["stat", "manifest"])
        self.assertTrue(outcome.plan.empty)
        self.assertEqual(outcome.plan.unchanged, 5)
        self.successResultOf(self.send(delete=True, yes=True))
        self.assertEqual(self.end.verbs(), ["stat", "manifest"] * 2)

    def test_changed(self) -> None:
        """Only what differs goes over, and directories keep their times."""
        fill(self.far, (b"t",), FILES)
        self.successResultOf(self.fetch())
        write(self.far, (b"t", b"d", b"b"), b"other", T + 9, 0o600)
        self.far.change((b"t", b"d"), None, T + 10)
        self.far.change((b"t", b"a"), 0o600, None)
        self.watcher.done.clear()
        self.successResultOf(self.fetch())
        self.assertSame()
        self.assertEqual(
            self.watcher.done, [(b"d/b", "size"), (b"a", "changed"), (b"d", "changed")]
        )

    def test_wishes(self) -> None:
        """Files keep mode and time, replace what they may, and are flushed where that is asked; a
        file that is fetched has to be that of the list."""
        fill(self.far, (b"t",), {b"a": b"1"})
        self.successResultOf(self.fetch())
        self.successResultOf(self.send(durable=True, clobber=False))
        write(self.near, (b"t", b"z"), b"2", T)
        self.successResultOf(self.send(durable=True, clobber=False))
        facts = factsOf(self.far.stat((b"t", b"a")))
        usual = {"preserve": True}
        self.assertEqual(
            self.end.wishes,
            [
                usual | {"clobber": True, "durable": False, "facts": facts},
                usual | {"clobber": False, "durable": True},
            ],
        )

    def test_trees(self) -> None:
        """A tree can be fetched and sent by name; nothing is removed, and nothing the patterns
        leave out goes over."""
        fill(self.far, (b"t",), FILES)
        fill(self.near, (b"t",), {b"mine": b"1"})
        patterns = Patterns([Rule(False, b"d/")])
        self.successResultOf(getTree(self.sessions(), b"t", self.local, patterns=patterns))
        self.assertEqual(
            set(treeOf(self.near, (b"t",))),
            {b".", b"mine", b"a", b"empty", b"-rf", b"n" * 255},
        )
        self.successResultOf(putTree(self.sessions(), self.local, b"//u/v/"))
        self.assertEqual(treeOf(self.near, (b"t",)), treeOf(self.far, (b"u", b"v")))

    def test_root(self) -> None:
        """What a server's root is like stays as its owner has made it."""
        fill(self.near, (b"t",), {b"a": b"1"})
        self.remote = RemoteTree(self.sessions(), b"/")
        before = self.far.stat(()).mode
        self.near.change((b"t",), 0o700, T)
        self.successResultOf(self.send())
        self.assertEqual(self.far.stat(()).mode, before)
        self.assertEqual(self.far.stat((b"a",)).size, 1)
        self.assertNotIn("change", self.end.verbs())

    def test_checksum(self) -> None:
        """With digests, what has another content is found though size and time are the same, and
        what has another time only is not transferred; only files of the same size are digested."""
        fill(self.far, (b"t",), {b"a": b"one", b"b": b"two", b"c": b"new", b"d": b"four"})
        fill(self.near, (b"t",), {b"a": b"One", b"d": b"4"})
        write(self.near, (b"t", b"b"), b"two", T - 1, 0o600)
        self.successResultOf(self.fetch(checksum=True))
        self.assertSame()
        self.assertEqual(
            [name for verb, name in self.end.asked if verb == "hash"], [b"/t/a", b"/t/b"]
        )
        gets = {name for verb, name in self.end.asked if verb == "get"}
        self.assertEqual(gets, {b"/t/a", b"/t/c", b"/t/d"})
        self.assertIn((b"a", "content"), self.watcher.done)
        self.successResultOf(self.send(checksum=True))
        self.assertNotIn("put", self.end.verbs())

    def test_undigested(self) -> None:
        """A file that cannot be digested at one end is transferred."""
        fill(self.far, (b"t",), {b"a": b"one"})
        fill(self.near, (b"t",), {b"a": b"One"})
        self.end.fault("hash", b"/t/a", Denied("No."))
        self.successResultOf(self.fetch(checksum=True))
        self.assertSame()

    @settings(max_examples=100, deadline=None)
    @given(source=models(), target=models())
    def test_any(self, source: Model, target: Model) -> None:
        """Whatever both ends have, the target becomes what the source is, in either direction, and
        then there is nothing to do."""
        for fetching in (True, False):
            SyncCase.setUp(self)
            for store, model in ((self.far, source), (self.near, target)):
                build(store if fetching else self.other(store), model)
            work = self.fetch if fetching else self.send
            self.successResultOf(work(delete=True, yes=True))
            self.assertSame()
            self.end.asked.clear()
            self.successResultOf(work(delete=True, yes=True))
            self.assertEqual(self.end.verbs(), ["stat", "manifest"])

    def other(self, store: MemoryStore) -> MemoryStore:
        """The other end."""
        return self.near if store is self.far else self.far


def build(store: Store, model: Model) -> None:
    """Make a tree of a model; what is in a file follows from its size and time."""
    for name, node in sorted(model.items()):
        parts = (b"t", *split(name))
        if node.directory:
            store.makeDirectory(parts, 0o755, True)
        else:
            data = bytes([node.mtime % 251]) * node.size
            write(store, parts, data, node.mtime, node.mode)
    for name, node in sorted(model.items()):
        store.change((b"t", *split(name)), node.mode, node.mtime)


class RemoveTests(SyncCase):
    """Nothing is removed that was not to be."""

    def setUp(self) -> None:
        super().setUp()
        fill(self.far, (b"t",), {b"a": b"1", b"d/b": b"2"})
        fill(self.near, (b"t",), {b"a": b"1", b"old/x": b"3", b"old/y/z": b"4", b"d/b": b"2"})

    def test_unasked(self) -> None:
        """Without being asked for, nothing is removed; what is asked for without anybody to confirm
        it is refused before anything is looked at."""
        before = treeOf(self.near, (b"t",))
        self.successResultOf(self.fetch())
        self.assertEqual(treeOf(self.near, (b"t",)), before)
        self.end.asked.clear()
        self.failureResultOf(self.fetch(delete=True), ConfigurationError)
        self.assertEqual(self.end.asked, [])

    def test_confirmed(self) -> None:
        """Who is asked sees the plan; nothing at all is done when they do not want it, and it is
        when they do."""
        before = treeOf(self.near, (b"t",))
        write(self.far, (b"t", b"new"), b"5", T)
        plans: list[Plan] = []

        def no(plan: Plan) -> bool:
            plans.append(plan)
            return False

        outcome = self.successResultOf(self.fetch(no, delete=True))
        self.assertFalse(outcome.carriedOut)
        self.assertEqual(treeOf(self.near, (b"t",)), before)
        self.assertEqual(
            [each.name for each in plans[0].delete], [b"old/y/z", b"old/y", b"old/x", b"old"]
        )
        self.assertEqual(self.watcher.totals, [])
        answer: Deferred[bool] = Deferred()
        made = SyncOptions(delete=True)
        work = sync(self.remote, self.local, made, confirm=lambda plan: answer)
        self.assertNoResult(work)
        self.assertEqual(treeOf(self.near, (b"t",)), before)
        answer.callback(True)
        self.assertTrue(self.successResultOf(work).carriedOut)
        self.assertSame()

    def test_askedOnce(self) -> None:
        """Who has agreed is not asked again at another try, unless that removes something else; who
        has not agreed is."""
        answers: list[bool | Deferred[bool]] = [False, succeed(True), False, True]
        asked: list[list[bytes]] = []

        def confirm(plan: Plan) -> bool | Deferred[bool]:
            asked.append([each.name for each in (*plan.clear, *plan.delete)])
            return answers.pop(0)

        confirmed = once(confirm)
        old, new = TreeEntry(b"old", False), TreeEntry(b"new", False)
        for plan, may, count in (
            (Plan(delete=[old]), False, 1),
            (Plan(delete=[old]), True, 2),
            (Plan(delete=[old]), True, 2),
            (Plan(clear=[old]), True, 2),
            (Plan(clear=[new], delete=[old]), False, 3),
            (Plan(clear=[new], delete=[old]), True, 4),
            (Plan(delete=[new]), True, 4),
        ):
            answer = confirmed(plan)
            assert isinstance(answer, Deferred)
            self.assertEqual((self.successResultOf(answer), len(asked)), (may, count))
        self.assertEqual(asked, [[b"old"], [b"old"], [b"new", b"old"], [b"new", b"old"]])

    def test_notAsked(self) -> None:
        """Nobody is asked where nothing is to be removed, or yes was said before."""

        def never(plan: Plan) -> bool:
            raise AssertionError("This was asked.")

        self.successResultOf(self.fetch(never, delete=True, yes=True))
        self.successResultOf(self.fetch(never, delete=True))
        self.assertSame()

    def test_dryRun(self) -> None:
        """A dry run changes nothing, and needs nobody to ask."""
        write(self.far, (b"t", b"new"), b"5", T)
        before = treeOf(self.near, (b"t",))
        outcome = self.successResultOf(self.fetch(delete=True, dryRun=True))
        self.assertEqual(treeOf(self.near, (b"t",)), before)
        self.assertEqual((outcome.plan.files, outcome.plan.removes), (1, 4))
        self.assertFalse(outcome.carriedOut)
        self.assertEqual(outcome.failed, 0)

    def test_dryRunClash(self) -> None:
        """A dry run tells what could not be done, as the run itself would."""
        fill(self.far, (b"t",), {b"clash/x": b""})
        fill(self.near, (b"t",), {b"clash": b""})
        outcome = self.successResultOf(self.fetch(dryRun=True))
        self.assertEqual([each.name for each in outcome.failures], [b"clash"])
        self.assertEqual((outcome.failed, len(outcome.plan.clashes)), (1, 1))
        error = self.failureResultOf(self.fetch(), TreeIncomplete).value
        self.assertEqual(
            [each.error.sentence for each in error.outcome.failures],
            [each.error.sentence for each in outcome.failures],
        )

    def test_send(self) -> None:
        """At the server all is removed that is to be, inner things before outer ones."""
        fill(self.far, (b"t",), {b"gone/1/2": b"", b"gone/3": b""})
        self.successResultOf(self.send(delete=True, yes=True))
        self.assertSame()

    def test_last(self) -> None:
        """What is not wanted any more is removed when all has come, and not before; directories
        are settled after that."""
        write(self.near, (b"t", b"up"), b"6", T)
        fill(self.far, (b"t",), {b"gone": b""})
        self.successResultOf(self.send(delete=True, yes=True))
        verbs = self.end.verbs()
        self.assertLess(verbs.index("put"), verbs.index("remove"))
        self.assertLess(verbs.index("remove"), verbs.index("change"))

    def test_spared(self) -> None:
        """When a file has not come, nothing is removed: it may be there under its old name."""
        write(self.far, (b"t", b"new"), b"5", T)
        self.end.fault("get", b"/t/new", Denied("No."))
        outcome = self.incomplete(self.fetch(delete=True, yes=True))
        self.assertEqual((outcome.failed, outcome.spared), (1, 4))
        self.assertIn(b"old/y/z", treeOf(self.near, (b"t",)))

    def test_unreadableHere(self) -> None:
        """When something of the source cannot be read, nobody knows what is in it, and nothing is
        removed."""
        real = self.near.list

        def refusing(parts: Parts) -> object:
            if parts == (b"t", b"d"):
                raise Denied("It is not yours.")
            return real(parts)

        fill(self.far, (b"t",), {b"gone": b""})
        self.patch(self.near, "list", refusing)
        outcome = self.incomplete(self.send(delete=True, yes=True))
        self.assertEqual(outcome.failures[0].name, b"d")
        self.assertEqual(outcome.spared, 2)
        self.assertNotIn("remove", self.end.verbs())

    def test_unreadableInTheWay(self) -> None:
        """Then nothing gives way to something of another kind either, and the plan says so."""
        fill(self.near, (b"u",), {b"a": b"1", b"bad/x": b"2"})
        self.local = LocalTree(self.near, AtOnce(), (b"u",))
        self.remote = RemoteTree(self.sessions(), b"/v")
        fill(self.far, (b"v",), {b"a/keep": b"3", b"gone": b"4"})
        real = self.near.list

        def refusing(parts: Parts) -> object:
            if parts == (b"u", b"bad"):
                raise Denied("It is not yours.")
            return real(parts)

        self.patch(self.near, "list", refusing)
        dry = self.successResultOf(self.send(delete=True, dryRun=True))
        self.assertEqual((dry.plan.removes, dry.spared, len(dry.plan.clashes)), (0, 3, 1))
        outcome = self.incomplete(self.send(delete=True, yes=True))
        self.assertEqual({each.name for each in outcome.failures}, {b"a", b"bad"})
        self.assertEqual(self.far.stat((b"v", b"a", b"keep")).size, 1)

    def test_unreadableThere(self) -> None:
        """A directory that the server cannot read looks empty, and what is in ours stays."""
        self.end.hides.add(b"d")
        self.end.fault("list", b"/t/d", Denied("It is not yours."))
        outcome = self.incomplete(self.fetch(delete=True, yes=True))
        self.assertEqual([each.name for each in outcome.failures], [b"d"])
        self.assertEqual(outcome.spared, 5)
        self.assertIn(b"d/b", treeOf(self.near, (b"t",)))
        self.assertIn(b"old", treeOf(self.near, (b"t",)))

    def test_emptyThere(self) -> None:
        """One that is empty is made empty."""
        self.far.remove((b"t", b"d", b"b"))
        self.far.change((b"t", b"d"), None, T)
        self.successResultOf(self.fetch(delete=True, yes=True))
        self.assertSame()

    def test_noSource(self) -> None:
        """A source that is not there is no empty source."""
        before = treeOf(self.near, (b"t",))
        self.remote = RemoteTree(self.sessions(), b"/none")
        self.failureResultOf(self.fetch(delete=True, yes=True), NotFound)
        self.assertEqual(treeOf(self.near, (b"t",)), before)
        self.local = LocalTree(self.near, AtOnce(), (b"none",))
        self.failureResultOf(self.send(delete=True, yes=True), NotFound)

    def test_vanished(self) -> None:
        """What somebody else removes meanwhile is removed."""
        fill(self.far, (b"t",), {b"gone": b""})
        self.end.fault("remove", b"/t/gone", NotFound("It is gone."))
        self.successResultOf(self.send(delete=True, yes=True))

    def test_patterns(self) -> None:
        """What the patterns leave out stays, with the directories that hold it."""
        patterns = Patterns([Rule(False, b"z")])
        self.successResultOf(self.fetch(delete=True, yes=True, patterns=patterns))
        left = set(treeOf(self.near, (b"t",)))
        self.assertEqual(left, {b".", b"a", b"d", b"d/b", b"old", b"old/y", b"old/y/z"})


class FailureTests(SyncCase):
    """What fails for itself stops nothing else."""

    def setUp(self) -> None:
        super().setUp()
        fill(self.far, (b"t",), {b"a": b"1", b"b": b"22", b"d/c": b"333"})

    def test_one(self) -> None:
        """A file that fails is told, and all others come."""
        self.end.fault("get", b"/t/b", Denied("It is not yours."))
        work = self.fetch()
        outcome = self.incomplete(work)
        self.assertEqual(
            [(e.name, e.error.sentence) for e in outcome.failures], [(b"b", "It is not yours.")]
        )
        self.assertEqual((outcome.failed, outcome.files), (1, 2))
        self.assertEqual([name for name, _ in self.watcher.bad], [b"b"])
        self.assertEqual(set(treeOf(self.near, (b"t",))), {b".", b"a", b"d", b"d/c"})
        self.assertEqual(self.near.stat((b"t", b"d")).mtime, T)

    def test_sentence(self) -> None:
        """The failure says how many, and what was wrong with the first, and nothing in it does
        anything to a terminal."""
        write(self.far, (b"t", b"\x1b[2J"), b"", T)
        self.end.fault("get", b"/t/\x1b[2J", Denied("It is not yours."))
        self.end.fault("get", b"/t/b", Denied("It is not yours."))
        error = self.failureResultOf(self.fetch(), TreeIncomplete).value
        self.assertEqual(
            error.sentence,
            "2 entries of /t could not be done; the first is '\ufffd[2J': It is not yours.",
        )

    def test_many(self) -> None:
        """However many fail, all are counted, and some are kept."""
        self.patch(module, "MAX_FAILURES", 1)
        for name in (b"/t/a", b"/t/b"):
            self.end.fault("get", name, StorageFailed("The disk is full."))
        outcome = self.incomplete(self.fetch())
        self.assertEqual((outcome.failed, len(outcome.failures)), (2, 1))

    def test_directory(self) -> None:
        """What is in a directory that could not be made is not tried, and told."""
        self.near, self.far = self.far, self.near
        self.end.store, self.local = self.far, LocalTree(self.near, AtOnce(), (b"t",))
        fill(self.near, (b"t",), {b"d/deep/er/x": b""})
        self.end.fault("make", b"/t/d", Denied("No."))
        outcome = self.incomplete(self.send())
        self.assertEqual(
            [each.name for each in outcome.failures],
            [b"d", b"d/deep", b"d/deep/er", b"d/c", b"d/deep/er/x"],
        )
        self.assertEqual(set(treeOf(self.far, (b"t",))), {b".", b"a", b"b"})
        self.assertNotIn(("put", b"/t/d/c"), self.end.asked)
        self.assertNotIn(("make", b"/t/d/deep"), self.end.asked)

    def test_clash(self) -> None:
        """A file in place of a directory is told, and all else is done."""
        fill(self.near, (b"t",), {b"a/x": b"1", b"d": b"2"})
        outcome = self.incomplete(self.fetch())
        self.assertEqual([each.name for each in outcome.failures], [b"a", b"d"])
        self.assertEqual(set(treeOf(self.near, (b"t",))), {b".", b"a", b"a/x", b"b", b"d"})
        self.successResultOf(self.fetch(delete=True, yes=True))
        self.assertSame()

    def test_sourceChanged(self) -> None:
        """A file that has changed since it was listed comes as it is now, and counts once."""
        self.end.fault("get", b"/t/b", SourceChanged("It changed."))
        self.successResultOf(self.fetch())
        self.assertSame()
        self.assertEqual(self.watcher.bytes, 6)
        self.assertEqual([wish["facts"] is None for wish in self.end.wishes].count(True), 1)

    def test_changing(self) -> None:
        """One that does not stop changing fails."""
        changed = SourceChanged("It changed.")
        again = SourceChanged("It changed again.")
        self.end.fault("get", b"/t/b", changed, again, again)
        outcome = self.incomplete(self.fetch())
        self.assertEqual(outcome.failures[0].error.sentence, "It changed again.")

    def test_file(self) -> None:
        """A tree that is a file is refused at either end."""
        fill(self.near, (), {b"t": b""})
        self.failureResultOf(self.fetch(), Conflict)
        self.remote = RemoteTree(self.sessions(), b"/t/a")
        self.local = LocalTree(self.near, AtOnce())
        self.failureResultOf(self.fetch(), Conflict)

    def test_ends(self) -> None:
        """Two trees at one end are refused."""
        self.failureResultOf(sync(self.local, self.local), ConfigurationError)
        self.failureResultOf(sync(self.remote, self.remote), ConfigurationError)

    def test_bug(self) -> None:
        """What is no failure of a file is not taken for one."""
        self.end.fault("get", b"/t/b", ZeroDivisionError())
        self.failureResultOf(self.fetch(), ZeroDivisionError)


class FailureAloneTests(FailureTests):
    """So it is with files that go each for itself."""

    alone = True


class ConnectionTests(SyncCase):
    """What is wrong with the connection stops all, and leaves it so that another run goes on."""

    def setUp(self) -> None:
        super().setUp()
        fill(self.far, (b"t",), {b"%03d" % number: b"x" for number in range(9)})

    def test_lost(self) -> None:
        """When the connection is lost nothing more is tried, and another run does the rest."""
        self.end.fault("get", b"/t/004", ConnectionFailed("It is gone."))
        self.failureResultOf(self.fetch(), ConnectionFailed)
        self.assertEqual(self.end.verbs().count("get"), 5)
        self.assertEqual(len(treeOf(self.near, (b"t",))), 5)
        self.successResultOf(self.fetch())
        self.assertSame()
        self.assertEqual(self.end.verbs().count("get"), 5 + 5)

    def test_making(self) -> None:
        """That goes for all that is asked, not for files only."""
        self.near, self.far = self.far, self.near
        self.end.store, self.local = self.far, LocalTree(self.near, AtOnce(), (b"t",))
        self.end.fault("make", b"/t", ConnectionFailed("It is gone."))
        self.failureResultOf(self.send(), ConnectionFailed)
        self.assertNotIn("put", self.end.verbs())


class ConnectionAloneTests(ConnectionTests):
    """So it is with files that go each for itself; so many of them at a time."""

    alone = True

    def test_unconfirmed(self) -> None:
        """A file of which nobody knows whether it was published is not what the run fails with:
        whoever tries again must not take that file for the whole."""
        self.near, self.far = self.far, self.near
        self.end.store, self.local = self.far, LocalTree(self.near, AtOnce(), (b"t",))
        sent = Sent(None, bytes(32), 1, 1, 0)
        self.end.fault("put", b"/t/003", Unconfirmed("It may be there.", b"/t/003", sent))
        error = self.failureResultOf(self.send(), ConnectionFailed).value
        self.assertNotIsInstance(error, Unconfirmed)

    def test_cancelled(self) -> None:
        """Cancelling begins nothing more, breaks off what is under way, and is over when all of
        that is; finished files stay."""
        self.patch(flights, "MAX_FLIGHTS", 3)
        self.end.holds = True
        work = self.fetch()
        self.end.release()
        self.assertEqual(len(self.end.waiting), 3)
        work.cancel()
        self.assertNoResult(work)
        self.assertEqual(self.end.cancelled, [b"/t/003", b"/t/004", b"/t/005"])
        self.end.release()
        self.failureResultOf(work, CancelledError)
        self.assertEqual(self.end.verbs().count("get"), 6)
        self.assertEqual(set(treeOf(self.near, (b"t",))), {b".", b"000", b"001", b"002"})

    def test_bounded(self) -> None:
        """So many files are under way as there may be, and all come in the end."""
        self.patch(flights, "MAX_FLIGHTS", 4)
        self.end.holds = True
        work = self.fetch()
        turns = []
        while self.end.waiting:
            turns.append(len(self.end.waiting))
            self.end.release()
        self.assertEqual(turns, [4, 4, 1])
        self.successResultOf(work)
        self.assertSame()

    def test_large(self) -> None:
        """A large file keeps others from being begun, and goes whole."""
        self.patch(flights, "MAX_LOAD", 10)
        write(self.far, (b"t", b"001"), b"x" * 100, T)
        self.end.holds = True
        work = self.fetch()
        self.assertEqual([name for name, _ in self.end.waiting], [b"/t/000", b"/t/001"])
        self.end.release()
        self.assertEqual(len(self.end.waiting), 7)
        self.end.release()
        self.successResultOf(work)
        self.assertSame()


class HostileTests(SyncCase):
    """A server that sends names nobody asked for."""

    def test_names(self) -> None:
        """Nothing of what it sends is written, neither outside of the tree nor in it."""
        fill(self.far, (b"t",), {b"good": b"1"})
        facts = Facts(size=1, version=bytes(16))
        folder = Facts(directory=True, version=bytes(16))
        good = Listed(name=b"good", facts=facts)
        for bad in (
            [Listed(name=b"../x", facts=facts)],
            [Listed(name=b"/etc/passwd", facts=facts)],
            [Listed(name=b"..", facts=folder), Listed(name=b"../x", facts=facts)],
            [Listed(name=b"", facts=folder)],
            [Listed(name=b"other/x", facts=facts)],
            [good],
            [Listed(name=b"good", facts=folder)],
            [Listed(name=b"good/x", facts=facts)],
            [Listed(name=RESERVED + b"partial-1", facts=facts)],
        ):
            self.end.manifests = [good, *bad]
            self.failureResultOf(self.fetch(), ProtocolError)
            self.assertRaises(NotFound, self.near.stat, (b"t",))
            self.assertEqual(self.watcher.totals, [])


class DiskTests(SyncCase):
    """A tree on a real disk."""

    def setUp(self) -> None:
        super().setUp()
        self.top = self.mktemp()
        os.mkdir(self.top)
        store = LocalStore(Root(self.top))
        self.addCleanup(store.close)
        self.local = LocalTree(store, AtOnce(), (), self.top)
        self.disk = store

    def test_there(self) -> None:
        """A tree comes to a disk as it is, and goes back the same."""
        fill(self.far, (b"t",), FILES)
        self.far.change((b"t", b"d"), 0o500, T - 7)
        self.far.change((b"t",), 0o751, T - 8)
        self.successResultOf(self.fetch())
        self.assertEqual(treeOf(self.disk, ()), treeOf(self.far, (b"t",)))
        self.remote = RemoteTree(self.sessions(), b"/u")
        self.successResultOf(self.send())
        self.assertEqual(treeOf(self.far, (b"u",)), treeOf(self.far, (b"t",)))
        self.end.asked.clear()
        self.successResultOf(self.send(checksum=True, delete=True, yes=True))
        self.assertEqual(set(self.end.verbs()), {"stat", "manifest", "hash"})

    def test_skipped(self) -> None:
        """Links and the like are skipped and told, and never followed."""
        os.symlink("/etc", os.path.join(self.top, "link"))
        os.mkfifo(os.path.join(self.top, "fifo"))
        outcome = self.successResultOf(self.send())
        self.assertEqual((outcome.links, outcome.special), (1, 1))
        self.assertEqual(sorted(outcome.told), [b"fifo", b"link"])
        self.assertEqual(set(treeOf(self.far, (b"t",))), {b"."})

    def test_link(self) -> None:
        """A link in place of a directory is neither followed nor replaced."""
        outside = self.mktemp()
        os.mkdir(outside)
        os.symlink(os.path.abspath(outside), os.path.join(self.top, "d"))
        fill(self.far, (b"t",), {b"d/x": b"1", b"y": b"2"})
        self.incomplete(self.fetch(delete=True, yes=True))
        self.assertEqual(os.listdir(outside), [])
        self.assertTrue(os.path.islink(os.path.join(self.top, "d")))
        self.assertTrue(os.path.exists(os.path.join(self.top, "y")))


class FlightsTests(SynchronousTestCase):
    """Many things at once."""

    def test_immediate(self) -> None:
        """However many end at once, nothing goes deep."""
        ended: list[int] = []

        def begin(item: int) -> Deferred[int]:
            done: Deferred[int] = Deferred()
            done.callback(item)
            return done

        work = Flights(range(50_000), begin, lambda item, result: ended.append(item))
        self.successResultOf(Deferred.fromCoroutine(work.run()))
        self.assertEqual(len(ended), 50_000)

    def test_broken(self) -> None:
        """What cannot be begun, or be taken, stops all, after what is under way has ended."""
        first: Deferred[None] = Deferred()

        def begin(item: int) -> Deferred[None]:
            if item == 2:
                raise KeyError(item)
            return first

        heard: list[object] = []
        flying = Flights([1, 2, 3], begin, lambda item, result: heard.append(result))
        work = Deferred.fromCoroutine(flying.run())
        self.failureResultOf(work, KeyError)
        assert isinstance(heard[0], Failure)
        heard[0].trap(CancelledError)

    def test_stopMany(self) -> None:
        """However many are broken off, it goes no deeper, and each is broken off once."""
        cancelled: list[int] = []
        heard: list[int] = []

        def begin(item: int) -> Deferred[None]:
            return Deferred(lambda _: cancelled.append(item))

        def ended(item: int, result: Failure | None) -> None:
            heard.append(item)
            assert isinstance(result, Failure)
            itsOwn(result)

        for inside in (False, True):
            cancelled.clear()
            heard.clear()
            flying = Flights(range(10_000), begin, ended)
            work = Deferred.fromCoroutine(flying.run())
            if inside:
                flying.stop(Failure(CancelledError()))
            else:
                work.cancel()
            self.failureResultOf(work, CancelledError)
            self.assertEqual(cancelled, list(range(MAX_FLIGHTS)))
            self.assertEqual(heard, cancelled)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_stopSlow(self) -> None:
        """What takes its time to end is left to end, whatever else ends meanwhile."""
        cancelled: list[int] = []
        slow: list[Deferred[None]] = []

        def begin(item: int) -> Deferred[None]:
            slow.append(Deferred(lambda _: cancelled.append(item)))
            if item % 2:
                return slow[-1]
            return Deferred.fromCoroutine(taking(item))

        ends: list[Deferred[None]] = []

        async def taking(item: int) -> None:
            try:
                await slow[item]
            finally:
                ends.append(Deferred(lambda _: cancelled.append(-item)))
                await ends[-1]

        flying = Flights(range(6), begin, lambda item, result: itsOwn(cast(Failure, result)))
        work = Deferred.fromCoroutine(flying.run())
        work.cancel()
        self.assertNoResult(work)
        self.assertEqual(cancelled, list(range(6)))
        for each in ends:
            each.callback(None)
        self.failureResultOf(work, CancelledError)

    def test_stopWhileBegun(self) -> None:
        """What is being begun as all is stopped is broken off, too."""
        first: Deferred[None] = Deferred()
        cancelled: list[int] = []

        def begin(item: int) -> Deferred[None]:
            if item == 0:
                return first
            first.errback(KeyError())
            return Deferred(lambda _: cancelled.append(item))

        def ended(item: int, result: Failure | None) -> None:
            if item == 0 and isinstance(result, Failure):
                result.raiseException()

        work = Deferred.fromCoroutine(Flights(range(5), begin, ended).run())
        self.failureResultOf(work, KeyError)
        self.assertEqual(cancelled, [1])

    def test_wrongWithAll(self) -> None:
        """A peer that is dead, gone or wrong is no failure of one item; all else is."""
        for kind in (ConnectionFailed, ProtocolError, TimedOut):
            self.assertRaises(kind, itsOwn, Failure(kind("It is silent.")))
        self.assertRaises(KeyError, itsOwn, Failure(KeyError()))
        own = Denied("No.")
        self.assertIs(itsOwn(Failure(own)), own)

    def test_inThread(self) -> None:
        """What is cancelled is over when its thread is, which is told to stop."""

        class Later:
            """A disk that takes its time."""

            def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
                """Do it later."""
                self.done: Deferred[Any] = Deferred()
                self.stopped = args[0]
                return self.done

        disk = Later()
        work = Deferred.fromCoroutine(inThread(disk, lambda stopped: None))
        self.assertFalse(disk.stopped())
        work.cancel()
        self.assertTrue(disk.stopped())
        self.assertNoResult(work)
        disk.done.errback(KeyError())
        self.failureResultOf(work, CancelledError)

    def test_together(self) -> None:
        """When one of two fails the other is broken off, and the failure is the first one's."""
        one: Deferred[int] = Deferred()
        other: Deferred[int] = Deferred()
        work = Deferred.fromCoroutine(together(one, other))
        one.errback(KeyError())
        self.failureResultOf(work, KeyError)
        self.assertTrue(other.called)


class ProgressTests(SynchronousTestCase):
    """What is told."""

    def test_unwatched(self) -> None:
        """Whoever does not watch hears nothing, and misses nothing."""
        nobody = progress.Unwatched()
        nobody.planned(1, 2)
        nobody.moved(3)
        nobody.finished(b"x", "new")
        nobody.failed(b"x", Denied("No."))
