"""
Plans: carried out on a model, they make the target as the source, and remove only what they should.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import examples
from twisted_netsuite.errors import LimitExceeded, ProtocolError
from twisted_netsuite.files.entries import Intake, TreeEntry, shownName
from twisted_netsuite.files.itemize import jsonLines, textLines
from twisted_netsuite.files.messages import Facts, Listed
from twisted_netsuite.files.names import MAX_DEPTH, RESERVED
from twisted_netsuite.files.patterns import Patterns, Rule
from twisted_netsuite.files.plan import Plan, PlanOptions, planOf, sameTime, toDigest

SECOND = 1_000_000_000

#: A time that is no whole number of anything.
T = 1_700_000_000_123_456_789

#: The time of what is done while a plan is carried out.
NOW = T + 77 * SECOND + 1


def file(name: bytes, size: int = 1, mtime: int = T, mode: int = 0o644) -> TreeEntry:
    """Make a file."""
    return TreeEntry(name, False, size, mtime, mode)


def folder(name: bytes, mtime: int = T, mode: int = 0o755) -> TreeEntry:
    """Make a directory."""
    return TreeEntry(name, True, 0, mtime, mode)


def plan(source: list[TreeEntry], target: list[TreeEntry], **options: object) -> Plan:
    """Compare."""
    return planOf(source, target, PlanOptions(**options))  # type: ignore[arg-type]


def excluding(*patterns: bytes) -> Patterns:
    """Leave these out."""
    return Patterns([Rule(False, pattern) for pattern in patterns])


class CompareTests(SynchronousTestCase):
    """What is done with a file that both have."""

    def whyOf(self, ours: TreeEntry, theirs: TreeEntry, **options: object) -> str | None:
        """Tell why a file is transferred."""
        found = plan([ours], [theirs], **options).transfer
        return found[0].why if found else None

    def test_same(self) -> None:
        """A file of the same size, time and mode is left alone, and counted."""
        found = plan([file(b"a")], [file(b"a")])
        self.assertTrue(found.empty)
        self.assertEqual((found.unchanged, found.files, found.bytes), (1, 0, 0))

    def test_why(self) -> None:
        """A file is transferred when it is new, or has another size or time, and that is told."""
        self.assertEqual(plan([file(b"a", 7)], []).transfer, [(file(b"a", 7), "new", None)])
        self.assertEqual(self.whyOf(file(b"a", 2), file(b"a", 1)), "size")
        self.assertEqual(self.whyOf(file(b"a", mtime=T + 1), file(b"a")), "mtime")
        self.assertEqual(self.whyOf(file(b"a", mtime=T - 1), file(b"a")), "mtime")

    def test_mode(self) -> None:
        """Of a file that differs in its mode only, just that is changed."""
        found = plan([file(b"a", mode=0o600)], [file(b"a")])
        self.assertEqual(found.transfer, [])
        self.assertEqual(found.change, [(file(b"a", mode=0o600), file(b"a"), 0o600, None)])

    def test_checksum(self) -> None:
        """With digests, they alone decide of files of the same size; time and mode follow."""
        one, two = file(b"a")._replace(digest=b"1"), file(b"a")._replace(digest=b"2")
        self.assertEqual(self.whyOf(one, two, checksum=True), "content")
        self.assertIsNone(self.whyOf(one, one, checksum=True))
        self.assertEqual(self.whyOf(one, file(b"a", 2), checksum=True), "size")
        later = one._replace(mtime=T + 5, mode=0o600)
        found = plan([later], [one], checksum=True)
        self.assertEqual((found.transfer, found.unchanged), ([], 1))
        self.assertEqual(found.change, [(later, one, 0o600, T + 5)])

    def test_noDigest(self) -> None:
        """Without a digest on both sides nothing is taken for the same."""
        known = file(b"a")._replace(digest=b"1")
        for ours, theirs in ((file(b"a"), known), (known, file(b"a")), (file(b"a"), file(b"a"))):
            self.assertEqual(self.whyOf(ours, theirs, checksum=True), "content")

    def test_toDigest(self) -> None:
        """Only files that both have with one size need digests."""
        source = [file(b"same"), file(b"other", 1), file(b"new"), folder(b"d"), file(b"d/x")]
        target = [file(b"same", mode=0), file(b"other", 2), file(b"old"), folder(b"d")]
        options = PlanOptions(checksum=True, patterns=excluding(b"x"))
        self.assertEqual(toDigest(source, [*target, file(b"d/x")], options), [file(b"same")])

    def test_clobber(self) -> None:
        """Where nothing may be replaced, what is there stays as it is, whatever it is; what is
        other than in the source is told apart from what is the same."""
        source = [file(b"a", 2, T + 1, 0o600), file(b"new"), folder(b"d"), file(b"same")]
        source += [file(b"later", mtime=T + 1), file(b"mode", mode=0o600)]
        target = [file(name) for name in (b"a", b"d", b"same", b"later", b"mode")]
        found = plan(source, target, clobber=False, delete=True)
        self.assertEqual([each.entry.name for each in found.transfer], [b"new"])
        self.assertEqual((found.change, found.unchanged, found.kept), ([], 1, 3))
        total = json.loads(list(jsonLines(found))[-1])
        self.assertEqual((total["unchanged"], total["kept"]), (1, 3))
        self.assertEqual((len(found.clashes), found.removes), (1, 0))

    def test_times(self) -> None:
        """Times are the same as far as both sides know them, and within the window."""
        whole = T // SECOND * SECOND
        self.assertTrue(sameTime(T, T, 0))
        self.assertFalse(sameTime(T, T + 1, 0))
        self.assertTrue(sameTime(T, T + 5, 5))
        self.assertFalse(sameTime(T, T + 6, 5))
        self.assertTrue(sameTime(T, whole, 0))
        self.assertTrue(sameTime(whole, T, 0))
        self.assertFalse(sameTime(T, whole - SECOND, 0))
        self.assertFalse(sameTime(whole + SECOND, T, 0))
        self.assertTrue(sameTime(T, T // 1000 * 1000, 0))
        self.assertFalse(sameTime(T, T // 1000 * 1000 - 1000, 0))
        self.assertTrue(sameTime(T, T // 100 * 100, 0))
        self.assertTrue(sameTime(T, whole + 2 * SECOND, 2 * SECOND))
        self.assertTrue(sameTime(-T, (-T) // SECOND * SECOND, 0))

    def test_sameNotChanged(self) -> None:
        """What is taken for the same time is not set."""
        self.assertTrue(plan([file(b"a")], [file(b"a", mtime=T // SECOND * SECOND)]).empty)
        self.assertTrue(plan([file(b"a")], [file(b"a", mtime=T + 2)], window=2).empty)


class TreeTests(SynchronousTestCase):
    """What is done with directories, and with what one side only has."""

    def test_order(self) -> None:
        """Directories are made before what is in them, and removed after it; names that sort
        between a directory and what is in it come behind all of it."""
        tree = [folder(b"a"), folder(b"a/b"), file(b"a/b/c"), file(b"a-b"), folder(b"a\x01")]
        made = plan(tree[::-1], [])
        self.assertEqual([each.name for each in made.make], [b"a", b"a/b", b"a\x01"])
        self.assertEqual([each.entry.name for each in made.transfer], [b"a/b/c", b"a-b"])
        self.assertEqual([each.entry.name for each in made.settle], [b"a\x01", b"a/b", b"a"])
        gone = plan([], tree, delete=True)
        self.assertEqual(
            [each.name for each in gone.delete], [b"a-b", b"a\x01", b"a/b/c", b"a/b", b"a"]
        )

    def test_kept(self) -> None:
        """What only the target has stays, unless it is to be removed."""
        target = [folder(b"d"), file(b"d/x"), file(b"y")]
        self.assertTrue(plan([], target).empty)
        self.assertEqual(plan([], target, delete=True).removes, 3)

    def test_top(self) -> None:
        """The top is settled like any other directory, made where it is missing, and never
        removed."""
        found = plan([folder(b"", T + 5)], [folder(b"")])
        self.assertEqual(found.settle, [(folder(b"", T + 5), folder(b""), None, T + 5)])
        self.assertEqual(plan([folder(b""), file(b"a")], []).make, [folder(b"")])
        self.assertTrue(plan([], [folder(b"")], delete=True).empty)
        found = plan([folder(b""), file(b"a")], [folder(b"")])
        self.assertEqual([each.mtime for each in found.settle], [T])

    def test_settle(self) -> None:
        """A directory gets its time again after things were done in it, and nothing when not."""
        tree = [folder(b"a"), folder(b"b"), file(b"b/x"), folder(b"c"), file(b"c/y")]
        target = [*tree[:3], folder(b"c"), file(b"c/y", 2), file(b"a/old")]
        found = plan(tree, target, delete=True)
        self.assertEqual(
            [(each.entry.name, each.mode, each.mtime) for each in found.settle],
            [(b"c", None, T), (b"a", None, T)],
        )

    def test_closed(self) -> None:
        """A directory whose own mode forbids it is opened before things are done in it, and closed
        again."""
        closed = folder(b"a", mode=0o555)
        found = plan([closed, file(b"a/new")], [closed])
        self.assertEqual([(each.entry.name, each.mode) for each in found.open], [(b"a", 0o755)])
        self.assertEqual([(each.mode, each.mtime) for each in found.settle], [(0o555, T)])
        self.assertTrue(plan([closed], [closed]).empty)

    def test_clash(self) -> None:
        """A file in place of a directory, or the other way round, is told, and nothing of either is
        touched."""
        source = [file(b"a"), folder(b"b"), folder(b"b/x"), file(b"b/x/y"), file(b"c")]
        target = [folder(b"a"), file(b"a/keep"), file(b"b")]
        found = plan(source, target)
        self.assertEqual([(o.name, t.name) for o, t in found.clashes], [(b"a", b"a"), (b"b", b"b")])
        self.assertEqual([each.entry.name for each in found.transfer], [b"c"])
        self.assertEqual((found.make, found.removes), ([], 0))

    def test_replaced(self) -> None:
        """With removing allowed, what is of another kind gives way first, from the inside out."""
        source = [file(b"a"), folder(b"b"), file(b"b/y")]
        target = [folder(b"a"), folder(b"a/d"), file(b"a/d/x"), file(b"b")]
        found = plan(source, target, delete=True)
        self.assertEqual([each.name for each in found.clear], [b"b", b"a/d/x", b"a/d", b"a"])
        self.assertEqual([each.name for each in found.make], [b"b"])
        self.assertEqual(
            [(t.entry.name, t.why) for t in found.transfer], [(b"a", "new"), (b"b/y", "new")]
        )
        self.assertEqual((found.delete, found.clashes), ([], []))

    def test_excluded(self) -> None:
        """What the patterns leave out is neither transferred nor removed, with all below it, and
        the directories that hold it stay."""
        patterns = excluding(b"*.o", b"cache/")
        source = [file(b"a.o"), folder(b"cache"), file(b"cache/x"), file(b"b")]
        found = plan(source, [], patterns=patterns)
        self.assertEqual([each.entry.name for each in found.transfer], [b"b"])
        self.assertEqual(found.make, [])
        target = [
            *(folder(b"d"), folder(b"d/e"), file(b"d/e/keep.o"), file(b"d/e/go"), file(b"d/go")),
            *(folder(b"cache"), file(b"cache/x"), folder(b"f"), file(b"f/go")),
        ]
        found = plan([], target, patterns=patterns, delete=True)
        self.assertEqual(
            sorted(each.name for each in found.delete), [b"d/e/go", b"d/go", b"f", b"f/go"]
        )

    def test_excludedInTheWay(self) -> None:
        """A directory that holds what the patterns leave out does not give way to a file."""
        target = [folder(b"a"), file(b"a/keep.o"), file(b"a/go")]
        found = plan([file(b"a")], target, patterns=excluding(b"*.o"), delete=True)
        self.assertEqual((len(found.clashes), found.removes, found.files), (1, 0, 0))

    def test_excludedOtherKind(self) -> None:
        """A directory that is left out does not give way to a file of its name that is not."""
        patterns = excluding(b"a/")
        found = plan([file(b"a")], [folder(b"a")], patterns=patterns, delete=True)
        self.assertEqual((len(found.clashes), found.removes, found.files), (1, 0, 0))

    def test_twice(self) -> None:
        """A name that is in a tree twice is refused, on either side, also as file and directory."""
        for tree in ([file(b"a"), file(b"a")], [file(b"a\n"), folder(b"a\n")]):
            for ours, theirs in ((tree, []), ([], tree)):
                error = self.assertRaises(ProtocolError, plan, ours, theirs)
                self.assertNotIn("\n", error.sentence)

    def test_totals(self) -> None:
        """The sums are those of what is transferred."""
        found = plan([file(b"a", 5), file(b"b", 7), file(b"c")], [file(b"a", 1), file(b"c")])
        self.assertEqual((found.files, found.bytes, found.unchanged), (2, 12, 1))


class IntakeTests(SynchronousTestCase):
    """A server that sends names nobody asked for does not get them written."""

    def take(self, *names: bytes, most: int = 100) -> list[bytes]:
        """Take a manifest; names with a slash at the end are directories."""
        listed = [
            Listed(
                name=name.removesuffix(b"/"),
                facts=Facts(directory=name.endswith(b"/"), size=3, version=bytes(16)),
            )
            for name in names
        ]
        return [entry.name for entry in Intake(most).take(listed)]

    def assertRefused(self, *names: bytes) -> None:
        """A manifest is refused, in one sentence that is safe to show."""
        error = self.assertRaises(ProtocolError, self.take, *names)
        self.assertEqual(error.sentence[-1], ".")
        self.assertNotIn("\x1b", error.sentence)

    def test_taken(self) -> None:
        """Names below the top, each in a directory that came before, are taken, whatever bytes
        they are of."""
        names = [b"a/", b"a/b/", b"a/b/c", b"\xff\n\x1b", b"-rf", b"a/..." + b"x" * 252]
        self.assertEqual(self.take(*names), [name.removesuffix(b"/") for name in names])

    def test_refused(self) -> None:
        """Names that lead elsewhere, are not where they can be, or come twice, are refused."""
        for bad in (b"", b"..", b".", b"/etc", b"a//b", b"x\0", b"y" * 256, RESERVED + b"x"):
            self.assertRefused(bad)
            self.assertRefused(b"a/", b"a/" + bad)
        self.assertRefused(b"a/", b"a/../b")
        self.assertRefused(b"a/../../b")
        self.assertRefused(b"a/b")
        self.assertRefused(b"a/b", b"a/")
        self.assertRefused(b"a", b"a/b")
        self.assertRefused(b"a", b"a")
        self.assertRefused(b"a", b"a/")
        self.assertRefused(b"a/", b"a")
        self.assertRefused(b"a/", b"a/")
        self.assertRefused(b"\x1b[2J/x")

    def test_deep(self) -> None:
        """No tree is deeper than names can be."""
        names = [b"/".join([b"d"] * depth) + b"/" for depth in range(1, MAX_DEPTH + 2)]
        self.assertEqual(len(self.take(*names[:-1])), MAX_DEPTH)
        self.assertRefused(*names)

    def test_many(self) -> None:
        """A tree that has no end is refused at its limit."""
        self.assertEqual(len(self.take(b"a", b"b", most=2)), 2)
        error = self.assertRaises(LimitExceeded, self.take, b"a", b"b", b"c", most=2)
        self.assertIn("more than 2 entries", error.sentence)

    def test_entry(self) -> None:
        """What a peer tells of an entry is what it gets back."""
        facts = Facts(size=3, mtime=T, mode=0o640, version=b"v" * 16, room=2)
        (entry,) = Intake().take([Listed(name=b"x", facts=facts, digest=b"d" * 32)])
        self.assertEqual((entry.facts, entry.digest, entry.parts), (facts, b"d" * 32, (b"x",)))
        self.assertEqual(folder(b"").parts, ())
        self.assertEqual(shownName(b"a\nb\x1b\xff"), "a b\ufffd\ufffd")
        self.assertEqual(shownName(b""), ".")


class WrittenTests(SynchronousTestCase):
    """Plans for people and for programs."""

    def setUp(self) -> None:
        source = [
            *(folder(b"", T + 1), folder(b"new", mode=0o700), file(b"new/f", 10)),
            *(file(b"size", 3, T + SECOND), file(b"mode", mode=0o600), file(b"same")),
            *(folder(b"dir", mode=0o700), file(b"\xff\x1b[2J\n", 1, -1)),
        ]
        target = [
            *(folder(b""), file(b"size", 4), file(b"mode"), file(b"same"), folder(b"dir")),
            *(folder(b"old"), file(b"old/x"), folder(b"\xff\x1b[2J\n")),
        ]
        self.plan = plan(source, target, delete=True)
        self.clash = plan([file(b"a")], [folder(b"a")])

    def test_text(self) -> None:
        """People get a line for each entry, as rsync writes them, in order, with names that do
        nothing to a terminal."""
        self.assertEqual(
            list(textLines(self.plan, sending=False)),
            [
                "*deleting   old/",
                "*deleting   old/x",
                "*deleting   \ufffd\ufffd[2J /",
                ".d..t...... ./",
                ".d...p..... dir/",
                ".f...p..... mode",
                "cd+++++++++ new/",
                ">f+++++++++ new/f",
                ">f.st...... size",
                ">f+++++++++ \ufffd\ufffd[2J ",
            ],
        )
        self.assertIn("<f.st...... size", list(textLines(self.plan, sending=True)))
        self.assertEqual(
            list(textLines(self.clash, sending=True)),
            ["!conflict   a: a file where the other side has a directory"],
        )

    def test_content(self) -> None:
        """Other contents of the same size are told apart from another size."""
        one, two = file(b"a")._replace(digest=b"1"), file(b"a")._replace(digest=b"2", mode=0)
        found = plan([one], [two], checksum=True)
        self.assertEqual(list(textLines(found, sending=False)), [">fc..p..... a"])

    def test_sameTime(self) -> None:
        """A directory whose time is the same, as far as both sides know, is not told for what is
        done in it."""
        source = [folder(b"d", 10**18), file(b"d/a")]
        target = [folder(b"d", 10**18 + 1)]
        self.assertEqual(list(textLines(plan(source, target), sending=True)), ["<f+++++++++ d/a"])

    def test_json(self) -> None:
        """Programs get an object for each entry and the sums; each name is text, or base64 of what
        is no UTF-8."""
        lines = list(jsonLines(self.plan))
        self.assertTrue(all(line.isascii() and "\n" not in line for line in lines))
        records = [json.loads(line) for line in lines]
        weird = base64.b64encode(b"\xff\x1b[2J\n").decode()
        self.assertEqual(
            records,
            [
                {"do": "delete", "name64": weird, "kind": "directory"},
                {"do": "make", "name": "new", "kind": "directory", "mode": "0700"} | TIME,
                {"do": "transfer", "name": "new/f", "kind": "file", "why": "new", "size": 10}
                | {"mode": "0644"}
                | TIME,
                {"do": "transfer", "name": "size", "kind": "file", "why": "size", "size": 3}
                | {"mode": "0644", "mtime": "1700000001.123456789"},
                {"do": "transfer", "name64": weird, "kind": "file", "why": "new", "size": 1}
                | {"mode": "0644", "mtime": "-0.000000001"},
                {"do": "change", "name": "mode", "kind": "file", "mode": "0600"},
                {"do": "change", "name": "dir", "kind": "directory", "mode": "0700"},
                {"do": "change", "name": ".", "kind": "directory"}
                | {"mtime": "1700000000.123456790"},
                {"do": "delete", "name": "old/x", "kind": "file"},
                {"do": "delete", "name": "old", "kind": "directory"},
                {"do": "total", "files": 3, "bytes": 14, "make": 1, "change": 3}
                | {"delete": 3, "conflict": 0, "unchanged": 2, "kept": 0},
            ],
        )
        self.assertEqual(
            json.loads(next(jsonLines(self.clash))),
            {"do": "conflict", "name": "a", "kind": "file"},
        )


TIME = {"mtime": "1700000000.123456789"}


# Trees as dictionaries, and plans carried out on them.


@dataclass(frozen=True)
class Node:
    """A file or directory of a model; what is in a file is a number."""

    directory: bool
    size: int
    mtime: int
    mode: int
    contents: int


Model = dict[bytes, Node]

nodes = st.builds(
    Node,
    st.booleans(),
    st.integers(0, 1),
    st.sampled_from([T, T + 1]),
    st.sampled_from([0o755, 0o555, 0o700]),
    st.integers(0, 1),
)
parts = st.sampled_from([b"a", b"b", b"a-", b"x.o", b"keep"])
paths = st.lists(parts, min_size=1, max_size=4).map(b"/".join)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Make a tree: what has something below it is a directory."""
    drawn = draw(st.dictionaries(paths, nodes, max_size=12))
    model: Model = {b"": Node(True, 0, T, 0o755, 0)}
    for path in sorted(drawn):
        while path:
            parent = path.rpartition(b"/")[0]
            node = drawn.get(path) or Node(True, 0, T, 0o755, 0)
            model.setdefault(path, node)
            if parent:
                drawn[parent] = replace(drawn.get(parent) or node, directory=True)
                if parent in model:
                    model[parent] = replace(model[parent], directory=True)
            path = parent
    return {
        name: replace(node, size=0, contents=0) if node.directory else node
        for name, node in model.items()
    }


def entries(model: Model) -> list[TreeEntry]:
    """List a model, in some order."""
    return [
        TreeEntry(name, n.directory, n.size, n.mtime, n.mode, b"", bytes([n.contents]))
        for name, n in sorted(model.items(), reverse=True)
    ]


def parentOf(name: bytes) -> bytes:
    """Name the directory that something is in."""
    return name.rpartition(b"/")[0]


class Disk:
    """Carries out plans on a model, and allows nothing that a disk would not."""

    def __init__(self, model: Model, source: Model) -> None:
        self.model = dict(model)
        self.source = source

    def carryOut(self, plan: Plan) -> None:
        """Do all of it, in order."""
        for change in plan.open:
            self.set(change.entry.name, change.mode, change.mtime)
        for entry in plan.clear:
            self.remove(entry.name)
        for entry in plan.make:
            assert entry.name not in self.model
            self.model[entry.name] = Node(True, 0, NOW, entry.mode | 0o700, 0)
            self.touch(entry.name)
        for entry, _, _ in plan.transfer:
            there = self.model.get(entry.name)
            assert there is None or not there.directory
            self.model[entry.name] = self.source[entry.name]
            self.touch(entry.name)
        for change in plan.change:
            assert not self.model[change.entry.name].directory
            self.set(change.entry.name, change.mode, change.mtime)
        for entry in plan.delete:
            self.remove(entry.name)
        for change in plan.settle:
            self.set(change.entry.name, change.mode, change.mtime)

    def remove(self, name: bytes) -> None:
        """Remove a file or an empty directory."""
        assert not any(other.startswith(name + b"/") for other in self.model)
        del self.model[name]
        self.touch(name)

    def set(self, name: bytes, mode: int | None, mtime: int | None) -> None:
        """Change what is known of something; the directories on the way must let one pass."""
        node = self.model[name]
        above = name
        while above:
            above = parentOf(above)
            assert self.model[above].mode & 0o100
        mode, mtime = node.mode if mode is None else mode, node.mtime if mtime is None else mtime
        self.model[name] = replace(node, mode=mode, mtime=mtime)

    def touch(self, name: bytes) -> None:
        """Something was done in the directory of something."""
        parent = self.model[parentOf(name)]
        assert parent.directory and parent.mode & 0o700 == 0o700, (name, parent)
        self.model[parentOf(name)] = replace(parent, mtime=NOW)


def isOut(patterns: Patterns, model: Model, name: bytes) -> bool:
    """Tell whether something is left out, by itself or with a directory above it."""
    return bool(name) and (
        patterns.excludes(name, model[name].directory) or isOut(patterns, model, parentOf(name))
    )


def settled(node: Node, checksum: bool) -> tuple[object, ...]:
    """What has to be the same in the end."""
    if node.directory or checksum:
        return (node.directory, node.size, node.mtime, node.mode, node.contents)
    return (False, node.size, node.mtime, node.mode)


class ModelTests(SynchronousTestCase):
    """Any two trees."""

    @settings(max_examples=examples(200), deadline=None)
    @given(source=models(), target=models(), checksum=st.booleans())
    def test_mirror(self, source: Model, target: Model, checksum: bool) -> None:
        """With removing, the target becomes what the source is, in every respect; and then there is
        nothing more to do."""
        options = PlanOptions(checksum=checksum, delete=True)
        found = planOf(entries(source), entries(target), options)
        disk = Disk(target, source)
        disk.carryOut(found)
        self.assertEqual(found.clashes, [])
        self.assertEqual(
            {name: settled(node, checksum) for name, node in disk.model.items()},
            {name: settled(node, checksum) for name, node in source.items()},
        )
        self.assertTrue(planOf(entries(source), entries(disk.model), options).empty)

    @settings(max_examples=examples(200), deadline=None)
    @given(source=models(), target=models())
    def test_added(self, source: Model, target: Model) -> None:
        """Without removing, all that the target had is there, as a file or directory as it was; all
        of the source is, but for what clashes and is below that."""
        found = planOf(entries(source), entries(target), PlanOptions())
        disk = Disk(target, source)
        disk.carryOut(found)
        clashing = {ours.name for ours, _ in found.clashes}
        for name, node in target.items():
            self.assertEqual(disk.model[name].directory, node.directory)
            if name not in source:
                self.assertEqual(replace(disk.model[name], mtime=0), replace(node, mtime=0))
        for name, node in source.items():
            above = [name]
            while above[-1]:
                above.append(parentOf(above[-1]))
            if not clashing & set(above):
                self.assertEqual(settled(disk.model[name], False), settled(node, False))
        both = source.keys() & target.keys()
        self.assertLessEqual(
            clashing, {name for name in both if source[name].directory != target[name].directory}
        )

    @settings(max_examples=examples(200), deadline=None)
    @given(
        source=models(),
        target=models(),
        rules=st.lists(
            st.builds(
                Rule, st.booleans(), st.sampled_from([b"*.o", b"keep", b"a/", b"/b", b"a/**"])
            ),
            max_size=3,
        ),
        delete=st.booleans(),
    )
    def test_leftOut(self, source: Model, target: Model, rules: list[Rule], delete: bool) -> None:
        """What patterns leave out stays at the target as it is, and none of it comes there; of the
        rest only what the source has, or holds what is left out, remains after removing."""
        patterns = Patterns(rules)
        options = PlanOptions(patterns=patterns, delete=delete)
        found = planOf(entries(source), entries(target), options)
        disk = Disk(target, source)
        disk.carryOut(found)
        for name, node in target.items():
            if isOut(patterns, target, name):
                self.assertEqual(disk.model[name], node)
        for name in disk.model.keys() - target.keys():
            self.assertFalse(isOut(patterns, source, name))
        clashing = {ours.name for ours, _ in found.clashes}
        if delete and not clashing:
            for name in target.keys() - source.keys():
                out = isOut(patterns, target, name)
                holds = any(
                    other.startswith(name + b"/") and isOut(patterns, target, other)
                    for other in target
                )
                self.assertEqual(name in disk.model, out or holds, name)
