"""
Stores on the disk: the contract, links wherever they can be, and what is no file.

Links that come and go while names are used are in L{tests.files.races}.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.files import storecontract
from tests.files.storecontract import LONG, OWNER, digestsOf, get, names, put, writeChunks
from tests.files.tree import SECRET, descriptors, makeTree, write
from twisted_netsuite.errors import (
    Conflict,
    Denied,
    LimitExceeded,
    NetsuiteError,
    NotFound,
    StorageFailed,
)
from twisted_netsuite.files import localstore, openat2, systemcalls
from twisted_netsuite.files.digests import combined, digestOf
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.names import MAX_DEPTH, Parts, split
from twisted_netsuite.files.root import Links, Root
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.files.together import together

INSIDE = b"inside of the root"

#: Ways to resolve names: which links are followed, and whether the kernel does it.
WAYS: tuple[tuple[Links, bool], ...] = (
    ("never", True),
    ("never", False),
    ("inside", True),
    ("inside", False),
)

Look = tuple[object, ...]


def look(path: str, times: bool) -> Look:
    """Take down all that can be seen of something, without following it."""
    status = os.lstat(path)
    content: object = None
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = file.read()
    mtime = None if stat.S_ISDIR(status.st_mode) and not times else status.st_mtime_ns
    return (status.st_ino, status.st_mode, mtime, status.st_nlink, content)


def lookBelow(path: str, served: str | None = None) -> dict[str, Look]:
    """
    Take down a whole tree.

    @param served: where directories may get another time, as files that are written come and go.
    """
    found = {path: look(path, path != served)}
    directories = [path]
    while directories:
        with os.scandir(directories.pop()) as entries:
            for entry in entries:
                outside = served is None or not entry.path.startswith(served)
                found[entry.path] = look(entry.path, outside)
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
    return found


class LocalCase(storecontract.StoreCase):
    """
    Serves an empty directory, resolving names in one of the ways.

    @cvar links: which links are followed.
    @cvar kernel: whether the kernel resolves whole names.
    """

    links: Links = "never"
    kernel = True

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        self.path = makeTree(self.directory)
        self.store = self.opened(self.links, self.kernel)

    def opened(self, links: Links, kernel: bool) -> LocalStore:
        """Open the store until the end of the test."""
        store = LocalStore(Root(self.path, links, kernel))
        self.addCleanup(store.close)
        return store

    def within(self, name: str) -> str:
        return os.path.join(self.path, name)

    @contextlib.contextmanager
    def failing(self, name: str, number: int) -> Iterator[None]:
        """Let a system call fail."""

        def fail(*args: object, **kwargs: object) -> Any:
            raise OSError(number, os.strerror(number))

        patch = self.patch(os, name, fail)
        yield
        patch.restore()


class KernelContractTests(LocalCase, storecontract.StoreContract):
    """The contract, with names that the kernel resolves."""


class WalkContractTests(LocalCase, storecontract.StoreContract):
    """The contract, with names that are walked part by part."""

    kernel = False


class LinksContractTests(LocalCase, storecontract.StoreContract):
    """The contract, where links are followed."""

    links: Links = "inside"


class StepwiseRenameContractTests(LocalCase, storecontract.StoreContract):
    """The contract, where the kernel cannot rename without replacing."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(systemcalls, "_renameat2", None)


def read(store: LocalStore, parts: Parts) -> bytes:
    """Look at a file, read it, and digest it."""
    store.stat(parts)
    return get(store, parts)


def publishWhole(store: LocalStore, parts: Parts) -> object:
    """Publish a file in one go, twice together, so that its directory is held for the second."""
    with together():
        store.publishWhole(parts, Wanted(3, durable=False), b"new")
        return store.publishWhole(parts, Wanted(3, durable=False), b"new")


def readWhole(store: LocalStore, parts: Parts) -> bytes:
    """Read a file in one go; one that is renamed meanwhile has to be read as large ones are."""
    found = store.readWhole(parts, 1000)
    if isinstance(found, tuple):
        return found[1]
    try:
        return found.read(0, found.attributes.size)
    finally:
        found.close()


#: What reads; links at the last part are followed by these where any are.
READS: dict[str, Callable[[LocalStore, Parts], object]] = {
    "stat": lambda store, parts: store.stat(parts),
    "list": lambda store, parts: [*store.list(parts)],
    "source": read,
    "read whole": readWhole,
}

#: What changes something; none of it follows a link at the last part.
WRITES: dict[str, Callable[[LocalStore, Parts], object]] = {
    "target": lambda store, parts: put(store, parts, b"new"),
    "whole": lambda store, parts: publishWhole(store, parts),
    "resumable": lambda store, parts: put(store, parts, b"new", source=b"s"),
    "mkdir": lambda store, parts: store.makeDirectory(parts, 0o700, False),
    "mkdir -p": lambda store, parts: store.makeDirectory(parts, None, True),
    "rename": lambda store, parts: store.rename(parts, (b"renamed",), True),
    "rename -n": lambda store, parts: store.rename(parts, (b"renamed",), False),
    "rename to": lambda store, parts: store.rename((b"own",), parts, True),
    "rename -n to": lambda store, parts: store.rename((b"own",), parts, False),
    "remove": lambda store, parts: store.remove(parts),
    "chmod": lambda store, parts: store.change(parts, 0o711, None),
    "utimes": lambda store, parts: store.change(parts, None, 1),
}

#: Where links can lead that leave the root, as seen from the root.
OUTSIDE = ("..", "../outside", "../secret", "../root", "/", "/etc/passwd", "real/../..", "out")


class LinkTests(LocalCase):
    """Links at every place of a name, for everything that can be done with it."""

    def setUp(self) -> None:
        super().setUp()
        os.makedirs(self.within("real/sub"))
        outside = os.path.join(self.directory, "outside")
        os.makedirs(os.path.join(outside, "sub"))
        write(os.path.join(outside, "f"), SECRET)
        write(self.within("real/f"), INSIDE)
        write(self.within("own"), INSIDE)
        os.symlink("../outside", self.within("out"))

    def nothing(self, store: LocalStore, parts: Parts, *errors: type[NetsuiteError]) -> None:
        """Expect that nothing can be done with a name, and that nothing is done."""
        self.nothingOf({**READS, **WRITES}, store, parts, *errors)

    def nothingOf(
        self,
        works: Mapping[str, Callable[[LocalStore, Parts], object]],
        store: LocalStore,
        parts: Parts,
        *errors: type[NetsuiteError],
    ) -> None:
        """Expect that none of some things can be done with a name, and that none is done."""
        # What each leaves as it was is what the next begins with.
        before, opened = lookBelow(self.directory, self.path), descriptors()
        for name, work in works.items():
            try:
                result = work(store, parts)
            except errors:
                pass
            else:
                self.fail(f"{name} of {parts} has done something: {result}")
            self.assertEqual(lookBelow(self.directory, self.path), before, (name, parts))
            self.assertEqual(descriptors(), opened, (name, parts))

    def test_outside(self) -> None:
        """Nothing is done through a link that leads out, wherever it is in a name."""
        for links, kernel in WAYS:
            store = self.opened(links, kernel)
            for target in OUTSIDE:
                for place in ("link", "real/link"):
                    deeper = place != "link" and not target.startswith("/")
                    os.symlink(f"../{target}" if deeper else target, self.within(place))
                    parts = split(place.encode())
                    for name in (
                        (*parts, b"f"),
                        (*parts, b"sub"),
                        (*parts, b"missing"),
                        (*parts, b"outside", b"f"),
                        (*parts, b"root", b"own"),
                    ):
                        self.nothing(store, name, Denied)
                    self.nothing(store, parts, Denied, Conflict)
                    os.unlink(self.within(place))

    def test_never(self) -> None:
        """Where links are never followed nothing is done through one that leads inside, either."""
        for kernel in (True, False):
            store = self.opened("never", kernel)
            for target in ("real", "real/sub/..", ".", "own", "missing", "link"):
                os.symlink(target, self.within("link"))
                for parts in ((b"link", b"f"), (b"link", b"sub"), (b"link", b"sub", b"new")):
                    self.nothing(store, parts, Denied)
                self.nothing(store, (b"link",), Denied, Conflict)
                os.unlink(self.within("link"))

    def test_insideMiddle(self) -> None:
        """A link that leads inside is followed in the middle of a name, by everything."""
        for kernel in (True, False):
            store = self.opened("inside", kernel)
            for target in ("real", "real/sub/..", "./real/", "other"):
                os.symlink(target, self.within("link"))
                os.symlink("real/sub/../../real", self.within("other"))
                self.assertEqual(store.stat((b"link", b"f")).size, len(INSIDE))
                self.assertEqual(names(store, (b"link", b"sub")), set())
                self.assertEqual(get(store, (b"link", b"f")), INSIDE)
                put(store, (b"link", b"new"), b"new", source=b"s")
                self.assertEqual(get(store, (b"real", b"new")), b"new")
                store.change((b"link", b"new"), 0o604, 10**18)
                self.assertEqual(store.stat((b"real", b"new")).mode, 0o604)
                store.makeDirectory((b"link", b"d"), None, False)
                store.makeDirectory((b"link", b"e", b"f"), None, True)
                store.rename((b"link", b"new"), (b"link", b"d", b"new"), False)
                store.rename((b"link", b"d", b"new"), (b"own",), True)
                store.rename((b"own",), (b"link", b"new"), False)
                for parts in ((b"new",), (b"d",), (b"e", b"f"), (b"e",)):
                    store.remove((b"link", *parts))
                write(self.within("own"), INSIDE)
                self.assertEqual(names(store, (b"real",)), {b"f", b"sub"})
                os.unlink(self.within("link"))
                os.unlink(self.within("other"))

    def test_insideLast(self) -> None:
        """A link at the end of a name is followed by what reads, and by nothing else; it stays."""
        for kernel in (True, False):
            store = self.opened("inside", kernel)
            for target in ("real/f", "real", "real/../own"):
                os.symlink(target, self.within("link"))
                followed = store.stat((b"link",))
                self.assertEqual(
                    followed, store.stat(split(target.replace("real/..", "").encode()))
                )
                if followed.kind == "file":
                    self.assertEqual(get(store, (b"link",)), INSIDE)
                else:
                    self.assertEqual(names(store, (b"link",)), {b"f", b"sub"})
                self.nothingOf(WRITES, store, (b"link",), Denied, Conflict)
                os.unlink(self.within("link"))

    def test_nowhere(self) -> None:
        """Through a link to nowhere, to a file or in a circle nothing is done."""
        for kernel in (True, False):
            store = self.opened("inside", kernel)
            for target in ("missing", "own/", "own", "link", "real/f/.."):
                os.symlink(target, self.within("link"))
                for parts in ((b"link", b"f"), (b"link", b"sub", b"f")):
                    self.nothing(store, parts, Denied, NotFound)
                self.nothingOf(WRITES, store, (b"link",), Denied, Conflict)
                os.unlink(self.within("link"))

    def test_list(self) -> None:
        """A list leaves links out, so that who follows it never goes in a circle."""
        for target in ("real", "own", "..", "missing", "."):
            os.symlink(target, self.within("link"))
            for links, kernel in WAYS:
                self.assertEqual(names(self.opened(links, kernel)), {b"real", b"own"})
            os.unlink(self.within("link"))

    def test_clean(self) -> None:
        """Cleaning follows no links, and what it finds behind none stays."""
        outside = os.path.join(self.directory, "outside")
        for name in (b"partial-", b"journal-"):
            write(os.path.join(outside, f".netsuite-{name.decode()}{'0' * 32}"), b"x")
        os.symlink("../../outside", self.within("real/out"))
        os.symlink("../outside/f", self.within(".netsuite-partial-" + "0" * 32))
        before = lookBelow(outside)
        for links, kernel in WAYS:
            self.opened(links, kernel).clean(0)
        self.assertEqual(lookBelow(outside), before)


class OtherKindsTests(LocalCase):
    """What is neither a regular file nor a directory."""

    def setUp(self) -> None:
        super().setUp()
        write(self.within("own"), INSIDE)
        self.paths = {b"fifo": self.within("fifo"), b"socket": self.within("socket")}
        os.mkfifo(self.paths[b"fifo"])
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        before = os.getcwd()
        os.chdir(self.path)
        try:
            listening.bind("socket")
        finally:
            os.chdir(before)
        with contextlib.suppress(PermissionError):
            os.mknod(self.within("zero"), stat.S_IFCHR | 0o666, os.makedev(1, 5))
            self.paths[b"zero"] = self.within("zero")

    def test_refused(self) -> None:
        """Nothing is done with them, and they are not even opened, which some would notice."""
        opens = watchOpens(self.paths.values())
        self.addCleanup(os.close, opens)
        before = lookBelow(self.path, self.path)
        for links, kernel in WAYS:
            store = self.opened(links, kernel)
            for name in self.paths:
                for work in (READS["stat"], READS["source"], *WRITES.values()):
                    self.assertRaises((Denied, Conflict), work, store, (name,))
                self.assertRaises(NotFound, store.list, (name,))
                self.assertRaises(NotFound, store.stat, (name, b"x"))
            self.assertEqual(names(store), {b"own"})
        self.assertEqual(lookBelow(self.path, self.path), before)
        self.assertRaises(BlockingIOError, os.read, opens, 4096)

    def test_watched(self) -> None:
        """If they were opened it would be seen."""
        opens = watchOpens(self.paths.values())
        self.addCleanup(os.close, opens)
        os.close(os.open(self.paths[b"fifo"], os.O_RDONLY | os.O_NONBLOCK))
        self.assertTrue(os.read(opens, 4096))

    def test_late(self) -> None:
        """A FIFO that comes after the look is not opened, nor waited for."""
        fstat, swaps = os.fstat, [1]

        def swapping(descriptor: int) -> os.stat_result:
            looked = fstat(descriptor)
            if swaps and stat.S_ISREG(looked.st_mode):
                swaps.pop()
                os.unlink(self.within("own"))
                os.rename(self.paths[b"fifo"], self.within("own"))
            return looked

        opens = watchOpens([self.paths[b"fifo"]])
        self.addCleanup(os.close, opens)
        self.patch(os, "fstat", swapping)
        self.assertEqual(self.get(b"own"), INSIDE)
        self.assertEqual(swaps, [])
        self.assertRaises(BlockingIOError, os.read, opens, 4096)

    def test_removeDirectory(self) -> None:
        """A directory that holds one is not empty, and stays."""
        os.mkdir(self.within("d"))
        os.rename(self.paths[b"fifo"], self.within("d/fifo"))
        self.refused(Conflict, self.store.remove, (b"d",))


def watchOpens(paths: Any) -> int:
    """Have a descriptor from which there is something to read once one of these is opened."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    for path in paths:
        if libc.inotify_add_watch(descriptor, os.fsencode(path), 0x20) < 0:  # IN_OPEN
            raise SkipTest("there is no inotify")
    return int(descriptor)


class ReservedTests(LocalCase):
    """Names that are the service's own."""

    def test_hidden(self) -> None:
        """They are not listed, and a directory with one that is nobody's stays."""
        os.mkdir(self.within("d"))
        write(self.within("d/.netsuite-something"), b"x")
        write(self.within(".netsuite-partial-x"), b"x")
        self.assertEqual(names(self.store), {b"d"})
        self.assertEqual(names(self.store, (b"d",)), set())
        self.refused(Conflict, self.store.remove, (b"d",))
        self.assertEqual(os.listdir(self.within("d")), [".netsuite-something"])

    def test_removeWriting(self) -> None:
        """A directory in which somebody is writing stays, and what is written too."""
        os.mkdir(self.within("d"))
        target = self.begin(b"d/f", len(LONG), source=b"s")
        writeChunks(target, LONG, 0, 1, 2)
        self.refused(Conflict, self.store.remove, (b"d",))
        target.commit(combined(digestsOf(LONG)))
        self.assertEqual(self.get(b"d/f"), LONG)


class ModeTests(LocalCase):
    """Permissions."""

    def test_kept(self) -> None:
        """What an administrator has set on a directory stays; files lose it with a new mode."""
        os.mkdir(self.within("d"))
        os.chmod(self.within("d"), 0o3775)
        self.store.change((b"d",), 0o755, None)
        self.assertEqual(stat.S_IMODE(os.stat(self.within("d")).st_mode), 0o3755)
        self.assertEqual(self.store.stat((b"d",)).mode, 0o755)
        write(self.within("f"), b"")
        os.chmod(self.within("f"), 0o6755)
        self.store.change((b"f",), 0o6755, None)
        self.assertEqual(stat.S_IMODE(os.stat(self.within("f")).st_mode), 0o755)

    def test_inherited(self) -> None:
        """A directory that gets a mode has the group's bit of the one that it is in."""
        os.mkdir(self.within("d"))
        os.chmod(self.within("d"), 0o2755)
        self.store.makeDirectory((b"d", b"e"), 0o711, False)
        self.assertEqual(stat.S_IMODE(os.stat(self.within("d/e")).st_mode), 0o2711)

    def test_umask(self) -> None:
        """The umask counts where no mode is given, and not where one is."""
        self.addCleanup(os.umask, os.umask(0o027))
        self.store.makeDirectory((b"a",), None, False)
        self.store.makeDirectory((b"b", b"c"), 0o777, True)
        for name, mode in ((b"a", 0o750), (b"b", 0o750), (b"b/c", 0o777)):
            self.assertEqual(self.store.stat(split(name)).mode, mode)

    def test_locked(self) -> None:
        """A directory can be made, and opened up again, with a mode that locks out its owner."""
        if os.geteuid() == 0:
            os.chmod(self.directory, 0o755)
            os.chown(self.path, 65534, 65534)
            self.addCleanup(os.seteuid, 0)
            os.seteuid(65534)
        self.store.makeDirectory((b"d",), 0, False)
        self.assertEqual(self.store.stat((b"d",)).mode, 0)
        self.refused(Denied, self.store.list, (b"d",))
        self.refused(Denied, self.store.stat, (b"d", b"f"))
        self.store.change((b"d",), 0o700, None)
        self.assertEqual(names(self.store, (b"d",)), set())

    def test_others(self) -> None:
        """What the server's account may not do is denied, and told."""
        if os.geteuid() != 0:
            raise SkipTest("only root can give files away")
        write(self.within("f"), b"x")
        os.chmod(self.within("f"), 0o600)
        os.mkdir(self.within("d"))
        os.chmod(self.directory, 0o755)
        self.addCleanup(os.seteuid, 0)
        os.seteuid(65534)
        for work, *args in (
            (self.store.source, (b"f",)),
            (self.store.remove, (b"f",)),
            (self.store.rename, (b"f",), (b"g",), True),
            (self.store.rename, (b"f",), (b"g",), False),
            (self.store.change, (b"f",), 0o666, None),
            (self.store.change, (b"f",), None, 1),
            (self.store.makeDirectory, (b"e",), None, False),
            (self.store.makeDirectory, (b"e", b"f"), None, True),
            (self.store.target, (b"g",), Wanted(1), OWNER),
        ):
            self.assertIn("permission", self.refused(Denied, work, *args))

    def test_inTheWay(self) -> None:
        """Where anybody may make files, another account keeps nobody from writing one by taking
        the names of what is kept: nothing is, then, and it is known why."""
        if os.geteuid() != 0:
            raise SkipTest("only root can give files away")
        os.chmod(self.directory, 0o755)
        os.chmod(self.path, 0o1777)
        self.addCleanup(os.seteuid, 0)
        store = self.opened("never", True)
        wanted = Wanted(len(LONG), source=b"one")
        os.seteuid(65534)
        target = store.target((b"f",), wanted, OWNER)
        os.seteuid(0)
        kept = os.listdir(self.path)
        self.assertEqual(len(kept), 2)
        target.discard()
        for name in kept:
            for held, make in (
                (False, lambda path: write(path, b"")),
                (True, lambda path: write(path, b"")),
                (False, os.mkdir),
                (False, os.mkfifo),
                (False, lambda path: os.symlink("nowhere", path)),
            ):
                os.seteuid(0)
                path = self.within(name)
                make(path)
                file = os.open(path, os.O_RDONLY) if held else -1
                if held:
                    fcntl.flock(file, fcntl.LOCK_EX)
                os.seteuid(65534)
                store.inTheWay = None
                target = store.target((b"f",), wanted, OWNER)
                assert store.inTheWay is not None
                self.assertIn(f"'{name}' is in the way", store.inTheWay.sentence)
                writeChunks(target, LONG, *range(len(digestsOf(LONG))))
                target.commit(combined(digestsOf(LONG)))
                os.seteuid(0)
                self.assertEqual(sorted(os.listdir(self.path)), sorted([name, "f"]))
                if held:
                    os.close(file)
                os.rmdir(path) if os.path.isdir(path) else os.unlink(path)


class ListTests(LocalCase):
    """Lists of what changes, and of what is large."""

    def test_streams(self) -> None:
        """A list is read as it is taken, not before."""
        for number in range(3000):
            write(self.within(f"{number}"), b"")
        taken = iter(self.store.list(()))
        first = {next(taken).name for _ in range(10)}
        for number in range(3000):
            os.unlink(self.within(f"{number}"))
        # What the system has read ahead has vanished, and is left out; all else was never read.
        rest = [entry.name for entry in taken]
        self.assertEqual((len(first), rest), (10, []))

    def test_vanished(self) -> None:
        """What vanishes after it was read, and before it was looked at, is left out."""
        for name in ("a", "b", "c"):
            write(self.within(name), b"")
        entries = self.store.list(())
        first = next(entries).name
        gone = ({b"a", b"b", b"c"} - {first}).pop()
        os.unlink(self.within(gone.decode()))
        self.assertEqual({first, *(entry.name for entry in entries)}, {b"a", b"b", b"c"} - {gone})

    def test_failing(self) -> None:
        """A directory that fails while it is read says so, and holds nothing after that."""
        write(self.within("a"), b"")
        before = descriptors()
        with self.failing("scandir", errno.EMFILE):
            self.refused(LimitExceeded, self.store.list, ())

        class Failing:
            def __iter__(self) -> Failing:
                return self

            def __next__(self) -> object:
                raise OSError(errno.EIO, "Input/output error")

            def close(self) -> None:
                """Hold nothing."""

        self.patch(os, "scandir", lambda descriptor: Failing())
        entries = self.store.list(())
        self.assertRaises(StorageFailed, next, entries)
        self.assertEqual(descriptors(), before)

    def test_removed(self) -> None:
        """A list of a directory that was removed meanwhile just ends."""
        os.mkdir(self.within("d"))
        entries = self.store.list((b"d",))
        os.rmdir(self.within("d"))
        self.assertEqual([*entries], [])


class RenameTests(LocalCase):
    """Renames, beyond the contract."""

    def test_oneFile(self) -> None:
        """Of two names of one file the old one goes."""
        write(self.within("f"), INSIDE)
        os.link(self.within("f"), self.within("g"))
        self.store.rename((b"f",), (b"f",), True)
        self.store.rename((b"f",), (b"g",), True)
        self.assertEqual(os.listdir(self.path), ["g"])

    def test_fileSystems(self) -> None:
        """What is on another file system is not moved, and that is said."""
        write(self.within("f"), INSIDE)
        self.patch(systemcalls, "_renameat2", None)
        with self.failing("link", errno.EXDEV):
            sentence = self.refused(Denied, self.store.rename, (b"f",), (b"g",), False)
        self.assertIn("another file system", sentence)

    def test_faults(self) -> None:
        """What the disk answers is told, and nothing has changed."""
        for name in ("f", "g"):
            write(self.within(name), INSIDE)
        before = lookBelow(self.path, self.path)
        for call, work in (
            ("rename", lambda: self.store.rename((b"f",), (b"g",), True)),
            ("mkdir", lambda: self.store.makeDirectory((b"d",), None, False)),
            ("mkdir", lambda: self.store.makeDirectory((b"d", b"e"), None, True)),
            ("unlink", lambda: self.store.remove((b"f",))),
            ("chmod", lambda: self.store.change((b"f",), 0o600, None)),
            ("utime", lambda: self.store.change((b"f",), None, 1)),
        ):
            for number, error in (
                (errno.ENOSPC, StorageFailed),
                (errno.EDQUOT, StorageFailed),
                (errno.EIO, StorageFailed),
                (errno.EROFS, StorageFailed),
                (errno.EACCES, Denied),
                (errno.EMFILE, LimitExceeded),
            ):
                with self.failing(call, number):
                    self.refused(error, work)
        self.assertEqual(lookBelow(self.path, self.path), before)


class PlaceTests(LocalCase):
    """Directories that get another name while something is written in them."""

    def test_renamed(self) -> None:
        """What was begun by one name is published by no other, and is kept."""
        for again in (False, True):
            os.mkdir(self.within("d"))
            target = self.begin(b"d/f", len(LONG), source=b"s")
            writeChunks(target, LONG, *range(len(digestsOf(LONG))))
            self.store.rename((b"d",), (b"e",), False)
            if again:
                os.mkdir(self.within("d"))
            with self.assertRaises(Conflict) as caught:
                target.commit(combined(digestsOf(LONG)))
            self.assertIn("renamed or removed", caught.exception.sentence)
            self.assertTrue(target.kept)
            self.assertEqual(names(self.store, (b"e",)), set())
            self.store.rename((b"e",), (b"f%d" % again,), False)

    def test_back(self) -> None:
        """One that has its name again is what it was."""
        os.mkdir(self.within("d"))
        target = self.begin(b"d/f", len(LONG), source=b"s")
        writeChunks(target, LONG, *range(len(digestsOf(LONG))))
        self.store.rename((b"d",), (b"e",), False)
        self.store.rename((b"e",), (b"d",), False)
        target.commit(combined(digestsOf(LONG)))
        self.assertEqual(names(self.store, (b"d",)), {b"f"})

    def test_holdsLink(self) -> None:
        """A link in a directory is told of where links are followed, whatever it leads to."""
        os.mkdir(self.within("d"))
        write(self.within("d/f"), b"x")
        for links, kernel in WAYS:
            self.assertFalse(self.opened(links, kernel).holdsLink((b"d",)))
        os.symlink("nowhere", self.within("d/link"))
        for links, kernel in WAYS:
            store = self.opened(links, kernel)
            before = descriptors()
            self.assertEqual(store.holdsLink((b"d",)), links == "inside")
            if links == "inside":
                self.assertRaises(NotFound, store.holdsLink, (b"none",))
            self.assertEqual(descriptors(), before)


class CleanTests(LocalCase):
    """Cleaning, beyond the contract."""

    def leave(self, name: bytes) -> None:
        """Leave something that is to be cleaned."""
        target = self.begin(name, len(LONG), source=b"s")
        writeChunks(target, LONG, 0)
        target.keep()

    def test_wide(self) -> None:
        """Cleaning needs no more descriptors for many directories than for few."""
        for number in range(600):
            os.mkdir(self.within(f"{number}"))
        self.leave(b"599/f")
        before = descriptors()
        self.assertTrue(self.store.clean(0) >= 1)
        self.assertEqual(descriptors(), before)

    def test_deep(self) -> None:
        """Directories that are too deep to have a name, as others above them were renamed, are
        cleaned, too, and take no more descriptors than others."""
        os.makedirs(self.within("/".join(["d"] * 60)))
        self.leave(b"d/" * 60 + b"f")
        for number in range(4):
            os.makedirs(self.within(f"{number}/" + "/".join(["n"] * 60)))
            below = "d" if not number else f"{number - 1}"
            os.rename(self.within(below), self.within(f"{number}/" + "n/" * 60 + below))
        self.leave(b"f")
        before = most = descriptors()
        real = os.scandir

        def scandir(*args: Any) -> Any:
            nonlocal most
            most = max(most, descriptors())
            return real(*args)

        self.patch(os, "scandir", scandir)
        self.assertEqual(self.store.clean(0), 4)
        self.assertEqual(descriptors(), before)
        self.assertTrue(most < before + 2 * MAX_DEPTH + 8)

    def test_unreadable(self) -> None:
        """A directory that cannot be read does not keep the others from being cleaned."""
        os.mkdir(self.within("d"))
        self.leave(b"f")
        opened, scandir = os.open, os.scandir

        def refusing(path: Any, *args: Any, **kwargs: Any) -> int:
            if path == "d":
                raise PermissionError(errno.EACCES, "Permission denied")
            return opened(path, *args, **kwargs)

        self.patch(os, "open", refusing)
        self.assertTrue(self.store.clean(0) >= 1)
        self.leave(b"f")

        def exhausted(path: Any) -> Any:
            if os.readlink(f"/proc/self/fd/{path}").endswith("/d"):
                raise OSError(errno.EMFILE, "Too many open files")
            return scandir(path)

        self.patch(os, "open", opened)
        self.patch(os, "scandir", exhausted)
        before = descriptors()
        self.assertTrue(self.store.clean(0) >= 1)
        self.assertEqual(descriptors(), before)


#: What is called of the system; in a swap test something moves after each of these calls.
CALLS = (
    *("open", "dup", "stat", "fstat", "mkdir", "rmdir", "unlink", "rename", "link", "chmod"),
    *("utime", "scandir", "listdir", "readlink"),
)


class Steps:
    """Counts calls of the system, and does something once after one of them."""

    def __init__(self, case: LocalCase, at: int, swap: Callable[[], None]) -> None:
        self.made, self._at, self._swap, self._counting = 0, at, swap, True
        owners = [(os, name) for name in CALLS]
        owners += [(openat2, "openBeneath"), (localstore, "renameNoReplace")]
        self._patches = [case.patch(o, name, self._after(getattr(o, name))) for o, name in owners]

    def _after(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            finally:
                if self._counting:
                    self.made += 1
                    if self.made == self._at:
                        self._counting = False
                        self._swap()
                        self._counting = True

        return counted

    def restore(self) -> None:
        """Call the system as ever."""
        for patch in self._patches:
            patch.restore()


class SwapTests(LocalCase):
    """A name that becomes a link to outside between any two calls of the system."""

    built = 0

    def build(self) -> str:
        """Make a root, and the same beside it, with other contents."""
        self.built += 1
        directory = os.path.join(self.directory, str(self.built))
        for top, content in (("root/d", INSIDE), ("outside", SECRET)):
            for name in ("empty", "left"):
                os.makedirs(os.path.join(directory, top, name))
            write(os.path.join(directory, top, "f"), content)
            for kind in ("partial", "journal"):
                name = f"left/.netsuite-{kind}-{'0' * 32}"
                write(os.path.join(directory, top, name), content)
        os.mkdir(os.path.join(directory, "outside/new"))
        write(os.path.join(directory, "root/own"), INSIDE)
        return directory

    def everyStep(self, work: Callable[[LocalStore, Parts], object], parts: Parts) -> None:
        """Do something, and swap each part of its name after each call."""
        for links, kernel in WAYS[2:]:  # Where no link is followed, less of this is done.
            for part in range(1, len(parts) + 1):
                at = 1
                while self.oneStep(self.build(), links, kernel, part, at, work, parts) >= at:
                    at += 1
                self.assertGreater(at, 1)

    def oneStep(
        self,
        directory: str,
        links: Links,
        kernel: bool,
        part: int,
        at: int,
        work: Callable[[LocalStore, Parts], object],
        parts: Parts,
    ) -> int:
        """Do it with one swap; give the number of calls."""
        root, outside = os.path.join(directory, "root"), os.path.join(directory, "outside")
        swapped = os.path.join(root, *map(os.fsdecode, parts[:part]))
        target = os.path.join(*[".."] * part, "outside", *map(os.fsdecode, parts[1:part]))

        def swap() -> None:
            if os.path.lexists(swapped):
                os.rename(swapped, os.path.join(root, "away"))
            with contextlib.suppress(FileNotFoundError):
                os.symlink(target, swapped)

        before = lookBelow(outside)
        store = LocalStore(Root(root, links, kernel))
        opened = descriptors()
        steps = Steps(self, at, swap)
        try:
            with contextlib.suppress(NetsuiteError):
                result = work(store, parts)
                self.assertNotEqual(result, SECRET)
        finally:
            steps.restore()
        self.assertEqual(descriptors(), opened)
        store.close()
        self.assertEqual(lookBelow(outside), before, (links, kernel, part, at))
        return steps.made

    def test_file(self) -> None:
        """A file that is there."""
        for work in (*READS.values(), *WRITES.values()):
            self.everyStep(work, (b"d", b"f"))

    def test_directory(self) -> None:
        """A directory that is there."""
        for work in (*READS.values(), *WRITES.values()):
            self.everyStep(work, (b"d", b"empty"))

    def test_new(self) -> None:
        """What is not there."""
        made = ("target", "whole", "resumable", "mkdir", "mkdir -p", "rename to", "rename -n to")
        for name in made:
            self.everyStep(WRITES[name], (b"d", b"new"))

    def test_leftovers(self) -> None:
        """A directory with leftovers that is removed, or cleaned."""
        self.everyStep(WRITES["remove"], (b"d", b"left"))
        self.everyStep(lambda store, parts: store.clean(0), (b"d", b"left"))


class DurableTests(LocalCase):
    """What is done with names, where it has to be on the disk."""

    def setUp(self) -> None:
        super().setUp()
        self.synced: list[str] = []

        def fsync(descriptor: int) -> None:
            self.synced.append(
                os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), self.path)
            )

        self.patch(os, "fsync", fsync)
        os.mkdir(self.within("d"))

    def test_makeDirectory(self) -> None:
        """A directory is on the disk once it is made, and so are those above it; also one that
        somebody has made before, who may not have seen to that."""
        self.store.makeDirectory((b"d", b"e"), 0o700, False, durable=True)
        self.assertEqual(self.synced, ["d"])
        self.synced.clear()
        self.store.makeDirectory((b"d", b"e", b"f", b"g"), None, True, durable=True)
        self.assertEqual(self.synced, [".", "d", "d/e", "d/e/f"])
        self.synced.clear()
        self.store.makeDirectory((b"d",), None, False, durable=True)
        self.assertEqual(self.synced, ["."])

    def test_rename(self) -> None:
        """The new name is on the disk before the old one is gone from there."""
        self.put(b"f")
        self.store.rename((b"f",), (b"d", b"g"), True, durable=True)
        self.assertEqual(self.synced, ["d", "."])

    def test_remove(self) -> None:
        """What was removed is gone from the disk, a file as well as a directory."""
        self.put(b"d/f")
        self.store.remove((b"d", b"f"), durable=True)
        self.store.remove((b"d",), durable=True)
        self.assertEqual(self.synced, ["d", "."])

    def above(self) -> list[str]:
        """Tell which directories were written, each once, in that order."""
        found, self.synced = [name for name in self.synced if ".netsuite" not in name], []
        return found

    def test_files(self) -> None:
        """With a file the way to it is on the disk, as those who made that need not have waited:
        before it is published, and for small ones that come together once."""
        self.store.makeDirectory((b"d", b"e", b"f"), None, True)
        before = descriptors()
        put(self.store, (b"d", b"e", b"f", b"1"), LONG, durable=True)
        self.assertEqual(self.above(), ["d/e", "d", ".", "d/e/f"])
        put(self.store, (b"2",), LONG, durable=True)
        self.assertEqual(self.above(), ["."])
        with together():
            for name in (b"3", b"4"):
                self.store.publishWhole((b"d", b"e", name), Wanted(1, durable=False), b"x")
            for name in (b"5", b"6"):
                self.store.publishWhole((b"d", b"e", name), Wanted(1), b"x")
        self.assertEqual(self.above(), ["d", ".", "d/e", "d/e"])
        self.store.publishWhole((b"d", b"7"), Wanted(1), b"x")
        self.assertEqual(self.above(), [".", "d"])
        self.assertEqual(descriptors(), before)

    def test_fileByLink(self) -> None:
        """It is the way that there is without links."""
        self.store.makeDirectory((b"d", b"e"), None, True)
        os.symlink("d/e", self.within("link"))
        store = self.opened("inside", True)
        put(store, (b"link", b"1"), LONG, durable=True)
        self.assertEqual(self.above(), ["d", ".", "d/e"])

    def test_closed(self) -> None:
        """What this account may not read, above a file, is no reason not to take that."""
        if os.geteuid() != 0:
            raise SkipTest("only root can give files away")
        os.makedirs(self.within("d/e"))
        os.chmod(self.directory, 0o755)
        os.chmod(self.within("d"), 0o711)
        os.chmod(self.within("d/e"), 0o777)
        self.addCleanup(os.seteuid, 0)
        os.seteuid(65534)
        before = descriptors()
        put(self.store, (b"d", b"e", b"1"), LONG, durable=True)
        self.assertEqual(self.above(), ["d/e"])
        self.assertEqual(descriptors(), before)

    def test_lost(self) -> None:
        """When the disk fails with that, nothing is published, and nothing left."""
        before = descriptors()
        with self.failing("fsync", errno.EIO):
            for work, *args in (
                (self.store.target, OWNER),
                (self.store.publishWhole, b"x"),
            ):
                self.refused(StorageFailed, work, (b"d", b"f"), Wanted(1), *args)
        self.assertEqual(os.listdir(self.within("d")), [])
        self.assertEqual(descriptors(), before)

    def test_notAsked(self) -> None:
        """Nobody waits for the disk who has not asked for that."""
        self.store.makeDirectory((b"e",), None, True)
        self.store.rename((b"e",), (b"g",), True)
        self.store.remove((b"g",))
        self.assertEqual(self.synced, [])

    def test_failed(self) -> None:
        """When the disk fails then, it is said what was done, and that it may be lost."""
        with self.failing("fsync", errno.EIO):
            sentence = self.refused(
                StorageFailed, self.store.makeDirectory, (b"e",), None, False, True
            )
            self.assertEqual(
                sentence,
                "'/e' was made, but whether the disk keeps that is not known: input/output error; "
                "see to the disk.",
            )
            sentence = self.refused(StorageFailed, self.store.rename, (b"e",), (b"g",), False, True)
            self.assertIn("'/e' was renamed, but", sentence)
            sentence = self.refused(StorageFailed, self.store.remove, (b"g",), True)
            self.assertIn("'/g' was removed, but", sentence)
        self.assertEqual(names(self.store), {b"d"})


class WholeTests(LocalCase):
    """Files that are published in one go, on a disk that fails."""

    def test_nothingKept(self) -> None:
        """Of one that cannot be published nothing is kept, whatever it was to replace."""
        self.put(b"f", b"old")
        for replaces in (None, digestOf(b"old")):
            wanted = Wanted(3, mtime=1, durable=False, source=b"s", replaces=replaces)
            with self.failing("utime", errno.EIO):
                self.refused(StorageFailed, self.store.publishWhole, (b"f",), wanted, b"new")
            self.assertEqual(os.listdir(self.path), ["f"])
            self.assertEqual(self.get(b"f"), b"old")
