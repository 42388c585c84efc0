"""
The walk over a tree: whatever names there are, whatever happens meanwhile, and nothing outside.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.files.tree import descriptors
from twisted_netsuite.errors import Denied, LimitExceeded, NotFound
from twisted_netsuite.files import scan as module
from twisted_netsuite.files.entries import TreeEntry
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.names import MAX_DEPTH, RESERVED, Parts
from twisted_netsuite.files.patterns import Patterns, Rule
from twisted_netsuite.files.scan import Scan, openTop

#: Names that programs stumble over.
AWKWARD = [
    *(b"\xff\xfe", b"a\nb", b"-rf", b" ", b"*", b"\x01", b"a\\b", b"\xc3\xa4", b"a\xcc\x88"),
    *(b"x" * 255, b"\xf0\x9f\x98\x80" * 63, b"...", b".hidden", b"~", b"$(id)", b"'"),
]


class ScanCase(SynchronousTestCase):
    """A directory to walk over."""

    def setUp(self) -> None:
        self.top = os.path.abspath(self.mktemp()).encode()
        os.mkdir(self.top)

    def path(self, name: bytes) -> bytes:
        """Name something in it."""
        return os.path.join(self.top, name)

    def make(self, *names: bytes) -> None:
        """Make files, and directories where a slash is at the end."""
        for name in names:
            if name.endswith(b"/"):
                os.makedirs(self.path(name), exist_ok=True)
            else:
                os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
                with open(self.path(name), "wb") as file:
                    file.write(b"data")

    def scan(self, scan: Scan) -> list[TreeEntry]:
        """Walk over all of it, and leave nothing open."""
        before = descriptors()
        top = openTop(self.top)
        try:
            return list(scan.directory(top))
        finally:
            os.close(top)
            self.assertEqual(descriptors(), before)

    def names(self, scan: Scan) -> set[bytes]:
        """Tell the names of all entries; none comes twice."""
        found = [entry.name for entry in self.scan(scan)]
        self.assertEqual(len(found), len(set(found)))
        return set(found)


class DirectoryTests(ScanCase):
    """A tree on the disk."""

    def test_far(self) -> None:
        """A time that 64 bits do not hold is told as the last that they hold."""
        self.make(b"d/", b"f")
        for name in (b"d", b"f"):
            os.utime(self.path(name), ns=(0, 10**19))
        self.assertEqual({entry.mtime for entry in self.scan(Scan())}, {2**63 - 1})

    def test_entries(self) -> None:
        """A file is told with its size, time and mode, a directory with time and mode."""
        self.make(b"d/", b"d/f")
        os.chmod(self.path(b"d/f"), 0o4751)
        os.utime(self.path(b"d/f"), ns=(0, 1_234_567_890_123_456_789))
        os.chmod(self.path(b"d"), 0o1750)
        os.utime(self.path(b"d"), ns=(0, -1))
        scan = Scan()
        self.assertEqual(
            self.scan(scan),
            [
                TreeEntry(b"d", True, 0, -1, 0o750),
                TreeEntry(b"d/f", False, 4, 1_234_567_890_123_456_789, 0o751),
            ],
        )
        self.assertEqual((scan.entries, scan.links, scan.special, scan.unread), (2, 0, 0, []))

    def test_empty(self) -> None:
        """An empty tree has no entries."""
        self.assertEqual(self.scan(Scan()), [])

    def test_awkward(self) -> None:
        """Whatever bytes a name is of, it is told as it is, for files and for directories."""
        self.make(*AWKWARD)
        wanted = set(AWKWARD)
        for name in AWKWARD:
            if len(name) < 200:
                self.make(b"in/" + name + b"/" + name)
                wanted |= {b"in", b"in/" + name, b"in/" + name + b"/" + name}
        self.assertEqual(self.names(Scan()), wanted)

    def test_order(self) -> None:
        """Each directory is told before what is in it."""
        self.make(*(b"%d/%d/%d/f" % (one, two, one) for one in range(4) for two in range(3)))
        seen = {b""}
        for entry in self.scan(Scan()):
            self.assertIn(entry.name.rpartition(b"/")[0], seen)
            seen.add(entry.name)
        self.assertEqual(len(seen), 1 + 4 + 12 + 12 + 12)

    def test_skipped(self) -> None:
        """Links, also to directories and to nowhere, and what is no file are skipped, counted and
        told; nothing behind a link is entered."""
        self.make(b"d/f", b"g")
        os.symlink(b"d", self.path(b"toDirectory"))
        os.symlink(b"/", self.path(b"toRoot"))
        os.symlink(b"nowhere", self.path(b"toNowhere"))
        os.mkfifo(self.path(b"fifo"))
        with socket.socket(socket.AF_UNIX) as unix:
            here = os.getcwd()
            os.chdir(self.top)
            try:
                unix.bind("socket")
            finally:
                os.chdir(here)
            scan = Scan()
            self.assertEqual(self.names(scan), {b"d", b"d/f", b"g"})
        self.assertEqual((scan.links, scan.special, scan.entries), (3, 2, 3))
        self.assertEqual(
            set(scan.told), {b"toDirectory", b"toRoot", b"toNowhere", b"fifo", b"socket"}
        )

    def test_toldSome(self) -> None:
        """Of many that are skipped all are counted, and some are told."""
        self.patch(module, "MAX_TOLD", 2)
        for number in range(5):
            os.symlink(b"x", self.path(b"%d" % number))
        scan = Scan()
        self.scan(scan)
        self.assertEqual((scan.links, len(scan.told)), (5, 2))

    def test_reserved(self) -> None:
        """What the service keeps for itself is no part of the tree."""
        self.make(b"f", RESERVED + b"partial-x", RESERVED + b"d/x")
        scan = Scan()
        self.assertEqual(self.names(scan), {b"f"})
        self.assertEqual(scan.unread, [])

    def test_patterns(self) -> None:
        """A directory that is left out is told, and not entered; files are not left out here."""
        self.make(b"out/f", b"in/out/f", b"in/f", b"f.o")
        patterns = Patterns([Rule(False, b"out/"), Rule(False, b"*.o")])
        self.assertEqual(self.names(Scan(patterns)), {b"out", b"in", b"in/out", b"in/f", b"f.o"})

    def test_deep(self) -> None:
        """As many descriptors are open as the tree is deep, never more, however many directories
        there are; what is deeper than names can be is told as unread."""
        for number in range(30):
            self.make(b"a/%d/x/" % number)
        deep = b"/".join([b"d"] * MAX_DEPTH)
        self.make(deep + b"/below", b"f")
        before = descriptors()
        top = openTop(self.top)
        scan, most = Scan(), 0
        for _ in scan.directory(top):
            most = max(most, descriptors() - before)
        os.close(top)
        self.assertLessEqual(most, MAX_DEPTH + 2)
        self.assertEqual([each.name for each in scan.unread], [deep + b"/below"])

    def test_broken(self) -> None:
        """A walk that nobody wants further leaves nothing open."""
        self.make(*(b"a/b/c/%d" % number for number in range(10)))
        before = descriptors()
        top = openTop(self.top)
        walk = Scan().directory(top)
        for _ in range(6):
            next(walk)
        walk.close()
        os.close(top)
        self.assertEqual(descriptors(), before)

    def test_stopped(self) -> None:
        """A walk ends at the next directory when it is told to."""
        self.make(b"a/b/c", b"f")
        self.assertEqual(self.names(Scan(stopped=lambda: True)), {b"a", b"f"})

    def test_most(self) -> None:
        """A tree that is too large is refused."""
        self.make(b"a/1", b"a/2", b"b")
        self.assertEqual(len(self.scan(Scan(most=4))), 4)
        error = self.assertRaises(LimitExceeded, self.scan, Scan(most=3))
        self.assertIn("more than 3", error.sentence)

    def test_speed(self) -> None:
        """Ten thousand entries take a tenth of a second, or little more on a slow machine."""
        for number in range(100):
            self.make(b"%d/" % number)
            for each in range(99):
                os.close(os.open(self.path(b"%d/%d" % (number, each)), os.O_CREAT))
        start = time.process_time()
        self.assertEqual(len(self.scan(Scan())), 10_000)
        self.assertLess(time.process_time() - start, 1.0)


class MeanwhileTests(ScanCase):
    """What happens while the walk goes on, or cannot be read."""

    def test_vanished(self) -> None:
        """Files and directories that vanish were never there, and that is no failure."""
        self.make(b"a/x", b"b/x", b"c/x")
        top = openTop(self.top)
        self.addCleanup(os.close, top)
        scan = Scan()
        walk = scan.directory(top)
        first = next(walk).name
        gone = next(name for name in (b"a", b"b", b"c") if name != first)
        for name in (gone, first):
            os.unlink(self.path(name + b"/x"))
            os.rmdir(self.path(name))
        names = {entry.name for entry in walk}
        last = ({b"a", b"b", b"c"} - {first, gone}).pop()
        self.assertEqual(names - {gone}, {last, last + b"/x"})
        self.assertEqual(scan.unread, [])

    def test_swapped(self) -> None:
        """A directory that becomes a link before it is entered is not followed."""
        outside = self.path(b"../outside-%d" % os.getpid())
        os.mkdir(outside)
        self.addCleanup(os.rmdir, outside)
        self.addCleanup(os.unlink, outside + b"/secret")
        Path(os.fsdecode(outside), "secret").write_bytes(b"secret")
        self.make(b"d/x")
        top = openTop(self.top)
        self.addCleanup(os.close, top)
        scan = Scan()
        walk = scan.directory(top)
        self.assertEqual(next(walk).name, b"d")
        os.rename(self.path(b"d"), self.path(b"moved"))
        os.symlink(outside, self.path(b"d"))
        self.assertEqual(
            [e.name for e in walk if e.name != b"moved" and b"moved" not in e.name], []
        )
        self.assertEqual(scan.unread, [])

    def test_unreadable(self) -> None:
        """What cannot be looked at is told, with why, and the rest is there."""
        self.make(b"bad/x", b"good/x")
        real = os.open

        def refusing(path: bytes, flags: int, *args: int, **more: int) -> int:
            if path == b"bad":
                raise PermissionError(13, "Permission denied")
            return real(path, flags, *args, **more)

        self.patch(os, "open", refusing)
        scan = Scan()
        self.assertEqual(self.names(scan), {b"bad", b"good", b"good/x"})
        self.assertEqual(
            [(each.name, each.reason) for each in scan.unread], [(b"bad", "permission denied")]
        )

    def test_failing(self) -> None:
        """A directory that cannot be listed is told by its name, also the top."""
        self.make(b"d/x")
        real = os.scandir
        failing = [2]

        def refusing(descriptor: int) -> object:
            failing[0] -= 1
            if not failing[0]:
                raise OSError(5, "Input/output error")
            return real(descriptor)

        self.patch(os, "scandir", refusing)
        scan = Scan()
        self.assertEqual(self.names(scan), {b"d"})
        self.assertEqual([each.name for each in scan.unread], [b"d"])
        failing[0] = 1
        scan = Scan()
        self.assertEqual(self.names(scan), set())
        self.assertEqual([each.name for each in scan.unread], [b""])

    def test_failures(self) -> None:
        """However much cannot be read, what is kept of that has a limit."""
        self.patch(module, "MAX_FAILED", 2)
        self.patch(module, "MAX_NAME", 0)
        self.make(b"a", b"b", b"c")
        scan = Scan()
        self.assertEqual(self.names(scan), set())
        self.assertEqual(len(scan.unread), 2)


class StoreTests(SynchronousTestCase):
    """A tree that is kept in another way."""

    def setUp(self) -> None:
        self.kept = MemoryStore(now=lambda: 7)
        for parts in ((b"t",), (b"t", b"d"), (b"t", b"d", b"e"), (b"other",)):
            self.kept.makeDirectory(parts, 0o750, False)

    def test_entries(self) -> None:
        """All below the top is told, each directory before what is in it, with names from there."""
        found = list(Scan().store(self.kept, (b"t",)))
        self.assertEqual(
            [(entry.name, entry.directory, entry.mtime, entry.mode) for entry in found],
            [(b"d", True, 7, 0o750), (b"d/e", True, 7, 0o750)],
        )

    def test_patterns(self) -> None:
        """A directory that is left out is told, and not entered."""
        patterns = Patterns([Rule(False, b"d")])
        found = list(Scan(patterns).store(self.kept, (b"t",)))
        self.assertEqual([entry.name for entry in found], [b"d"])

    def test_most(self) -> None:
        """A tree that is too large is refused."""
        self.assertRaises(LimitExceeded, list, Scan(most=1).store(self.kept, (b"t",)))

    def test_failing(self) -> None:
        """What vanishes was never there; what is denied is told; a top that is not there is an
        error."""
        real = self.kept.list

        def refusing(parts: Parts) -> object:
            if parts == (b"t", b"d"):
                raise why
            return real(parts)

        self.patch(self.kept, "list", refusing)
        why: Exception = NotFound("It is gone.")
        scan = Scan()
        self.assertEqual(len(list(scan.store(self.kept, (b"t",)))), 1)
        self.assertEqual(scan.unread, [])
        why = Denied("It is not yours.")
        self.assertEqual(len(list(scan.store(self.kept, (b"t",)))), 1)
        self.assertEqual([(e.name, e.reason) for e in scan.unread], [(b"d", "It is not yours")])
        self.assertRaises(NotFound, list, Scan().store(self.kept, (b"none",)))
