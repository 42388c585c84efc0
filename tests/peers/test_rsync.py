"""
Trees that go to a server and come back, looked at by C{diff} and C{rsync}; and what there is to do
between two trees, as C{rsync} sees it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import netsuite, scratch, started
from tests.peers.awkward import SPARSE, listed, makeAwkward, makeRemovable
from tests.peers.programs import program, run
from twisted_netsuite.files.entries import TreeEntry
from twisted_netsuite.files.patterns import Patterns, Rule
from twisted_netsuite.files.plan import PlanOptions, planOf, sameTime

#: Entries of the tree: each awkward name some ten times.
ENTRIES = 2000

#: Makes the tree.
SEED = 20

#: A time in nanoseconds, and one that differs by less than a second.
TIME, LATER = 1_700_000_000_123_456_789, 1_700_000_000_623_456_789

#: How C{rsync} shows a byte that it does not print.
_ESCAPED = re.compile(rb"\\#([0-7]{3})")


class TreeCase(SynchronousTestCase):
    """
    A server, and C{diff} and C{rsync} as judges.

    @ivar here: a directory for trees.
    @ivar root: what the server serves.
    """

    def setUp(self) -> None:
        self.rsync = program("rsync", "rsync")
        self.diff = program("diff", "diffutils")
        self.here = scratch(self)
        self.addCleanup(makeRemovable, os.fsencode(self.here))
        self.root = self.here / "root"
        self.root.mkdir()
        self.twistd = started(
            self,
            *("netsuite-files", "--root", str(self.root), "--writable"),
            *("--listen", "tcp:0:interface=127.0.0.1"),
        )
        self.address = self.twistd.places[0].text
        self.addCleanup(lambda: self.assertNotIn("Traceback", self.twistd.log()))

    def run_(self, *words: str) -> str:
        """Run a command that has to succeed; tell what it printed."""
        done = netsuite(*words, cwd=self.here)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def assertSame(self, one: Path, other: Path) -> None:
        """Names, contents, kinds, modes and times to the nanosecond are the same."""
        run(self.diff, "-r", "--no-dereference", str(one), str(other))
        found = run(
            *(self.rsync, "-rnci", "--times", "--perms", "--modify-window=-1", "--delete"),
            *(f"{one}/", f"{other}/"),
        )
        self.assertEqual(found, b"")

    def asked(self, *words: str) -> list[tuple[str, bytes]]:
        """
        Ask C{rsync} what it would do.

        @param words: options and both trees.
        @return: what, as C{-i} has it, and names; the top is a dot.
        """
        lines = run(
            *("env", "LC_ALL=C", self.rsync, "-rnpt", "--modify-window=-1"),
            *("--out-format=%i %n", *words),
        )
        return sorted((line[:11].decode(), shown(line[12:])) for line in lines.splitlines())

    def planned(self, *words: str) -> list[tuple[str, bytes]]:
        """
        Ask our program the same.

        @param words: options and both trees.
        @return: the same.
        """
        lines = self.run_("sync", "--dry-run", *words).splitlines()
        plain = [(line[:11].replace("<", ">"), line[12:].encode()) for line in lines]
        return sorted(plain)


def shown(name: bytes) -> bytes:
    """Undo what C{rsync} does to names that it prints."""
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), name)


class AwkwardTests(TreeCase):
    """A tree of awkward names, modes, times and contents."""

    def setUp(self) -> None:
        super().setUp()
        self.tree = self.here / "tree"
        makeAwkward(os.fsencode(self.tree), ENTRIES, SEED)

    def test_putAndGet(self) -> None:
        """A tree that was put and got is the same at the server and here, and holes take no room;
        doing that again moves nothing."""
        self.run_("put", "-r", "tree", f"{self.address}:/")
        self.assertSame(self.tree, self.root / "tree")
        self.run_("get", "-r", f"{self.address}:/tree", "back")
        self.assertSame(self.tree, self.here / "back" / "tree")
        for place in (self.root / "tree", self.here / "back" / "tree"):
            # What is in it is in three of its chunks.
            self.assertLess((place / "sparse").stat().st_blocks * 512, SPARSE * 0.7)
        before = stamps(self.root), stamps(self.here / "back")
        self.run_("put", "-r", "tree", f"{self.address}:/")
        self.run_("get", "-r", f"{self.address}:/tree", "back")
        self.assertEqual((stamps(self.root), stamps(self.here / "back")), before)

    def test_sync(self) -> None:
        """A tree that was synchronized both ways is the same, over several connections and by
        contents, too; what was removed from it then goes there and here."""
        self.run_("sync", "-j", "3", "tree", f"{self.address}:/a/b")
        self.assertSame(self.tree, self.root / "a/b")
        self.run_("sync", "-j", "3", f"{self.address}:/a/b", "back")
        self.assertSame(self.tree, self.here / "back")
        self.run_("sync", "-c", "tree", f"{self.address}:/a/b", "--delete", "--yes")
        self.assertSame(self.tree, self.root / "a/b")
        makeRemovable(os.fsencode(self.tree))
        for number, each in enumerate(sorted(os.listdir(os.fsencode(self.tree)))):
            path = os.path.join(os.fsencode(self.tree), each)
            if number % 3:
                pass
            elif os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        self.run_("sync", "tree", f"{self.address}:/a/b", "--delete", "--yes")
        self.assertSame(self.tree, self.root / "a/b")
        self.run_("sync", f"{self.address}:/a/b", "back", "--delete", "--yes")
        self.assertSame(self.tree, self.here / "back")

    def test_plan(self) -> None:
        """The plan for programs names each entry that rsync would touch, byte for byte, and no
        other."""
        (self.root / "t").mkdir()
        half = self.here / "half"
        makeAwkward(os.fsencode(half), ENTRIES // 2, SEED)
        # What was made first is the same there but for times and modes; the rest is missing.
        run(self.rsync, "-rpt", f"{half}/", f"{self.root}/t/")
        (self.root / "t/old\n").write_bytes(b"")
        for words in ([], ["--delete"]):
            text = self.run_("sync", "--dry-run", "--json", "tree", f"{self.address}:/t", *words)
            ours = sorted(
                nameOf(record)
                for record in map(json.loads, text.splitlines())
                if record["do"] != "total"
            )
            theirs = self.asked(*words, f"{self.tree}/", f"{self.root}/t/")
            wanted = [
                name.removesuffix(b"/") or b"."
                for what, name in theirs
                if not (what[2:] == "..t......" and self.isSame(name))
            ]
            self.assertEqual(set(ours) ^ set(wanted), set())
            self.assertEqual(len(ours), len(wanted))
            self.assertGreater(len(ours), ENTRIES // 2)

    def isSame(self, name: bytes) -> bool:
        """Tell whether times differ only in what one side may not know."""
        one, other = (
            os.stat(os.path.join(os.fsencode(top), name)).st_mtime_ns
            for top in (self.tree, self.root / "t")
        )
        return sameTime(one, other, 0)


def nameOf(record: dict[str, str]) -> bytes:
    """Read a name that was written for a program."""
    return record["name"].encode() if "name" in record else base64.b64decode(record["name64"])


def stamps(top: Path) -> list[tuple[bytes, int, int]]:
    """Tell which files there are: other ones, even with the same contents, have other numbers."""
    found = listed(os.fsencode(top))
    return sorted((name, status.st_ino, status.st_ctime_ns) for name, status in found)


class PlanTests(TreeCase):
    """What is to be done, line by line as C{rsync -i} has it."""

    def setUp(self) -> None:
        super().setUp()
        self.tree, self.other = self.here / "tree", self.root / "t"
        for name in ("same", "size", "time", "less", "mode", "both", "d/in", "d/e/in", "f/in"):
            self.make(self.tree / name)
        for top in (self.tree, self.tree / "d", self.tree / "d/e", self.tree / "f"):
            os.utime(top, ns=(0, TIME))
        run(self.rsync, "-rpt", f"{self.tree}/", f"{self.other}/")
        self.assertEqual(self.compared(), [])

    def make(self, path: Path, content: bytes = b"hello", mtime: int = TIME) -> None:
        """Write a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(0, mtime))

    def compared(self, *words: str, back: bool = False) -> list[tuple[str, bytes]]:
        """Ask both; they have to agree."""
        places = [f"{self.tree}/", f"{self.other}/"]
        ours = ["tree", f"{self.address}:/t"]
        if back:
            places.reverse()
            ours.reverse()
        theirs = self.asked(*words, *places)
        # It tells of other sizes that contents are other, too, if it compares these.
        theirs = sorted((what.replace(">fcs", ">f.s"), name) for what, name in theirs)
        self.assertEqual(self.planned(*ours, *words), theirs)
        return theirs

    def change(self) -> None:
        """Make the trees differ in every way."""
        self.make(self.tree / "size", b"longer than before")
        self.make(self.tree / "time", mtime=TIME + 10**9)
        self.make(self.tree / "less", mtime=LATER)
        (self.tree / "mode").chmod(0o600)
        self.make(self.tree / "both", b"x")
        (self.tree / "both").chmod(0o755)
        self.make(self.tree / "new")
        self.make(self.tree / "new.d/in/it")
        (self.tree / "empty").mkdir()
        (self.tree / "f").chmod(0o700)
        self.make(self.other / "old")
        self.make(self.other / "old.d/in/it")
        self.make(self.other / "d/e/old")

    def test_lines(self) -> None:
        """Each way, with and without removing, the lines are those of rsync."""
        self.change()
        for back in (False, True):
            for words in ([], ["--delete"]):
                self.assertGreater(len(self.compared(*words, back=back)), 10)

    def test_checksum(self) -> None:
        """By contents, too: of the same size and time, and of the same contents at another time."""
        self.change()
        self.make(self.tree / "same", b"HELLO")
        for back in (False, True):
            found = self.compared("--checksum", back=back)
            self.assertIn((">fc........", b"same"), found)
            self.assertIn((".f..t......", b"time"), found)

    def test_sent(self) -> None:
        """After a tree was sent rsync finds nothing more to do."""
        self.change()
        self.run_("sync", "tree", f"{self.address}:/t", "--delete", "--yes")
        self.assertSame(self.tree, self.other)
        self.assertTrue((self.other / "new.d/in/it").exists())

    def test_fetched(self) -> None:
        """Nor does it after one was fetched."""
        self.change()
        self.run_("sync", f"{self.address}:/t", "tree", "--delete", "--yes")
        self.assertSame(self.tree, self.other)
        self.assertTrue((self.tree / "old.d/in/it").exists())

    def test_deleteExcluded(self) -> None:
        """What is left out is not removed, nor are the directories in which it is."""
        self.make(self.other / "keep.o")
        self.make(self.other / "gone/keep.o")
        self.make(self.other / "gone/too")
        self.make(self.other / "whole/too")
        self.make(self.tree / "new.o")
        words = ("--delete", "--exclude", "*.o")
        self.run_("sync", "tree", f"{self.address}:/t", *words, "--yes")
        judge = self.here / "judge"
        self.assertTrue((self.other / "gone/keep.o").exists())
        self.assertFalse((self.other / "whole").exists())
        shutil.copytree(self.other, judge)
        # It would remove nothing more, though it would like to remove what it cannot.
        run(self.rsync, "-rpt", *words, f"{self.tree}/", f"{judge}/")
        self.assertSame(judge, self.other)


class PatternTests(SynchronousTestCase):
    """What patterns leave out, as C{rsync} understands them."""

    NAMES = """
        a.o a.c keep.o src/a.o src/b.c src/keep.o src/deep/a.o src/deep/er/a.c tmp/x tmp/y.o
        src/tmp/z src/tmp/deep/q build/out build/keep.o x1 x2 x10 xa src/x1 a/b/c/d a/c/d a/x/d
        .git/config src/.git/config .hidden docs/index.md docs/a/b/index.md docs/index.html
        src/[x] src/*star src/b?d src/b\\d Makefile src/Makefile src/TMP a-b a_b [[ !x
        lib/src/a.o lib/src/keep.o
    """

    #: Rules that people write, each as options.
    RULES = (
        "-e *.o",
        "-e /a.o",
        "-e tmp",
        "-e tmp/",
        "-e /tmp/",
        "-e /tmp/*",
        "-e /tmp/**",
        "-e /tmp/***",
        "-e .git",
        "-e .*",
        "-e x?",
        "-e x[0-9]",
        "-e x[!0-9]",
        "-e x[^0-9]*",
        "-e x[[:digit:]]",
        "-e [a-c]*",
        "-e *",
        "-e */",
        "-e /*",
        "-e /*/",
        "-e /src/*.o",
        "-e /src/**.o",
        "-e **/a.o",
        "-e **/deep/**",
        "-e /a/**/d",
        "-e /a/*/d",
        "-e **.o",
        "-e **",
        "-i keep.o -e *.o",
        "-e *.o -i keep.o",
        "-i */ -i *.c -e *",
        "-i *.c -i */ -e *",
        "-i /src/ -i /src/** -e *",
        "-i /src/*** -e *",
        "-i /docs/ -i /docs/a/*** -e /docs/* -e *.c",
        "-i **/index.md -i */ -e *",
        "-e \\*star",
        "-e /src/\\[x\\]",
        "-e \\[x\\]",
        "-e b\\?d",
        "-e *-* -e *_*",
        "-e TMP",
        "-e Make*",
    )

    #: Rules of ours, and those of rsync that mean the same.
    TRANSLATED = (
        ("-e **/src/*.o", "-e src/*.o"),
        ("-e /src/*/**/a.o", "-e /src/**/a.o"),
        ("-e /src/b\\\\d", "-e /src/b\\d"),
    )

    def test_patterns(self) -> None:
        """Of rules that people write, ours take what rsync takes."""
        self.compare([(text, text) for text in self.RULES])

    def test_translated(self) -> None:
        """What means other things to both can be said to each."""
        self.compare(self.TRANSLATED)
        for ours, theirs in self.TRANSLATED:
            with self.assertRaises(self.failureException, msg=ours):
                self.compare([(theirs, theirs)])

    def compare(self, rules: Iterable[tuple[str, str]]) -> None:
        """Ask both what they take."""
        rsync = program("rsync", "rsync")
        here = scratch(self)
        for name in self.NAMES.split():
            path = here / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"1")
        (here / "none").mkdir()
        entries = [
            TreeEntry(name, stat.S_ISDIR(status.st_mode))
            for name, status in listed(os.fsencode(here / "tree"))
        ]
        for text, theirText in rules:
            patterns = Patterns(
                Rule(word == "-i", pattern.encode()) for word, pattern in inPairs(text)
            )
            plan = planOf(entries, [], PlanOptions(patterns=patterns))
            ours = [each.entry.name for each in plan.transfer]
            ours += [each.name + b"/" for each in plan.make]
            options = [
                f"--{'include' if word == '-i' else 'exclude'}={pattern}"
                for word, pattern in inPairs(theirText)
            ]
            printed = run(
                rsync, "-rn", "--out-format=%n", *options, f"{here}/tree/", f"{here}/none/"
            )
            theirs = set(printed.splitlines()) - {b"./"}
            self.assertEqual(sorted(ours), sorted(theirs), text)
            self.assertLess(len(ours), len(entries), text)


def inPairs(text: str) -> list[tuple[str, str]]:
    """Read rules: C{-i} or C{-e}, and a pattern."""
    words = text.split()
    return list(zip(words[::2], words[1::2], strict=True))
