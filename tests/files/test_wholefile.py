"""
Small files that are published and read in one go: as safe as those that take long, and with no
system call more than that needs. Faults and crashes at each of them are in L{test_target}.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.files.faultydisk import FaultyDisk
from tests.files.test_target import NAME, OLD, WHEN, TargetCase
from tests.files.tree import descriptors
from twisted_netsuite.errors import Conflict, NetsuiteError, NotFound, StorageFailed
from twisted_netsuite.files.leftovers import PARTIAL, cleanDirectory, unusedName
from twisted_netsuite.files.localsource import LocalSource, attributesOf
from twisted_netsuite.files.publishing import usualMode
from twisted_netsuite.files.store import Attributes
from twisted_netsuite.files.wholefile import publishWhole, readWhole

NEW = b"the new one"

#: What a small file costs that replaces none.
ALONE = ["open", "pwrite", "access", "fchmod", "utime", "renameat2", "fstat", "close"]


class WholeCase(TargetCase):
    """A directory in which files are published."""

    def put(self, content: bytes = NEW, **fields: Any) -> Attributes:
        """Publish a file."""
        wanted = self.want(content, **{"durable": False, **fields})
        return publishWhole(self.directory, NAME, wanted, content)

    def refused(self, error: type[NetsuiteError], content: bytes = NEW, **fields: Any) -> str:
        """Expect a refusal, after which nothing is left or held."""
        before = descriptors()
        refusal: NetsuiteError = self.assertRaises(error, self.put, content, **fields)
        self.assertEqual(descriptors(), before)
        self.assertEqual([name for name in self.names() if name != NAME], [])
        return refusal.sentence


class PublishTests(WholeCase):
    """Publishing."""

    def test_file(self) -> None:
        """A file has the contents, the mode and the time that were asked for, and its attributes
        are told as they are; an empty one is a file, too."""
        for content in (NEW, b""):
            found = self.put(content)
            self.assertOnly(content)
            self.assertEqual(found, attributesOf(os.lstat(self.file)))
            self.assertEqual((found.mode, found.mtime), (0o640, WHEN))

    def test_calls(self) -> None:
        """What it costs is known to the single system call."""
        disk = FaultyDisk(self)
        self.put()
        self.assertEqual(disk.calls, ALONE)
        disk.reset()
        self.put(durable=True)
        # Whose the old one is, and whom it lets in.
        inherited = ["access", "stat", "fstat", "getxattr", "listxattr", "fchmod"]
        first = ["open", "pwrite", *inherited, "utime", "fsync"]
        over = ["renameat2", "stat", "fstat", "renameat2", "stat"]
        self.assertEqual(disk.calls, [*first, *over, "fsync", "unlink", "fstat", "close"])

    def test_durable(self) -> None:
        """The file is on the disk before it has its name, its name before the old file goes, and
        that before success is told."""
        disk = FaultyDisk(self)
        for _ in range(2):
            disk.reset()
            self.put(durable=True)
            calls = disk.calls
            first = calls.index("fsync")
            self.assertLess(first, calls.index("renameat2"))
            second = calls.index("fsync", first + 1)
            self.assertLess(len(calls) - calls[::-1].index("renameat2") - 1, second)
        self.assertLess(second, calls.index("unlink"))

    def test_unseen(self) -> None:
        """Until it is whole nobody else can read it, and its name is a reserved one."""
        self.addCleanup(os.umask, os.umask(0))
        disk, seen = FaultyDisk(self), []

        def before(name: str, args: tuple[Any, ...]) -> None:
            if name in ("pwrite", "fchmod"):
                [found] = self.names()
                self.assertTrue(found.startswith(PARTIAL))
                seen.append(stat.S_IMODE(os.stat(self.path / os.fsdecode(found)).st_mode))

        disk.before = before
        self.put()
        self.assertEqual(seen, [0o600, 0o600])

    def test_mode(self) -> None:
        """Without a mode it is that of the replaced file, else the usual one; setuid, setgid and
        the sticky bit are dropped, those of the replaced file as well."""
        self.addCleanup(os.umask, os.umask(0o027))
        self.addCleanup(usualMode.cache_clear)
        usualMode.cache_clear()
        self.assertEqual(self.put(mode=None).mode, 0o640)
        os.chmod(self.file, 0o6604)
        self.put(mode=None)
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o604)
        self.put(mode=0o7755)
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o755)

    def test_time(self) -> None:
        """Without a time it is that of its publishing."""
        before = time.time_ns() - 10**9
        self.assertGreater(self.put(mtime=None).mtime, before)

    def test_short(self) -> None:
        """A disk that takes half at once gets all."""
        disk = FaultyDisk(self)
        disk.short = True
        self.put()
        self.assertOnly(NEW)

    def test_readers(self) -> None:
        """Who reads the old file goes on with it."""
        self.file.write_bytes(OLD)
        with self.file.open("rb") as reader:
            self.put()
            self.assertEqual(reader.read(), OLD)
        self.assertOnly(NEW)

    def test_names(self) -> None:
        """A process that was forked off another takes no name of that one."""
        names = {unusedName()}
        self.patch(os, "getpid", lambda: 1)
        names.add(unusedName())
        self.assertEqual(len({name.rsplit(b"-", 2)[1] for name in names}), 2)


class RefusalTests(WholeCase):
    """What is not published."""

    def obstacles(self) -> list[Callable[[], object]]:
        """Make what no file replaces."""
        (self.path.parent / f"{self.path.name}-aim").write_bytes(b"aim")
        return [
            lambda: os.mkdir(self.file),
            lambda: os.mkfifo(self.file),
            lambda: os.symlink(f"../{self.path.name}-aim", self.file),
            lambda: os.symlink("nowhere", self.file),
        ]

    def clear(self) -> None:
        """Make room again."""
        if self.file.is_dir() and not self.file.is_symlink():
            self.file.rmdir()
        else:
            self.file.unlink(missing_ok=True)

    def test_obstacle(self) -> None:
        """A directory, a FIFO or a link is never replaced, and what a link leads to not written."""
        for make in self.obstacles():
            make()
            before = os.lstat(self.file)
            for mode in (0o600, None):
                self.refused(Conflict, mode=mode)
            self.assertTrue(os.path.samestat(os.lstat(self.file), before))
            self.clear()
        aim = self.path.parent / f"{self.path.name}-aim"
        self.assertEqual(aim.read_bytes(), b"aim")

    def test_lastMoment(self) -> None:
        """What takes the old file's place in the last moment is put back as it was."""
        disk = FaultyDisk(self)
        for make in self.obstacles():
            self.file.write_bytes(OLD)
            made: list[os.stat_result] = []

            def before(
                name: str,
                args: tuple[Any, ...],
                make: Callable[[], object] = make,
                made: list[os.stat_result] = made,
            ) -> None:
                if name == "renameat2" and args[4] == 2 and not made:
                    self.clear()
                    make()
                    made.append(os.lstat(self.file))

            disk.before = before
            self.refused(Conflict)
            self.assertTrue(os.path.samestat(os.lstat(self.file), made[0]))
            self.clear()

    def test_notUndone(self) -> None:
        """When an exchange cannot be undone, what came out of it is left, as there is no other."""
        self.file.write_bytes(OLD)
        disk, exchanges = FaultyDisk(self), 0

        def before(name: str, args: tuple[Any, ...]) -> None:
            nonlocal exchanges
            if name == "renameat2" and args[4] == 2:
                exchanges += 1
                if exchanges > 1:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                self.file.unlink()
                self.file.symlink_to("somewhere")

        disk.before = before
        self.assertRaises(StorageFailed, self.put)
        self.assertEqual(os.readlink(self.leftover(PARTIAL)), "somewhere")

    def test_clobber(self) -> None:
        """Without leave to replace nothing is replaced."""
        self.file.write_bytes(OLD)
        self.assertEqual(
            self.refused(Conflict, clobber=False),
            "'file' exists already; choose another name, or remove it first.",
        )
        self.assertOnly(OLD)

    def test_directoryGone(self) -> None:
        """A directory that was removed meanwhile takes nothing."""
        os.rmdir(self.path)
        error: NotFound = self.assertRaises(NotFound, self.put)
        self.assertEqual(error.sentence, "'file' does not exist.")
        os.mkdir(self.path)

    def test_full(self) -> None:
        """A full disk leaves the old file, and says so."""
        self.file.write_bytes(OLD)
        disk = FaultyDisk(self)

        def before(name: str, args: tuple[Any, ...]) -> None:
            if name == "pwrite":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        disk.before = before
        self.assertIn("finds no room", self.refused(StorageFailed))
        self.assertOnly(OLD)

    def test_cleaned(self) -> None:
        """Who cleans the directory away meanwhile was first: it fails, and says what was done."""
        disk = FaultyDisk(self)

        def before(name: str, args: tuple[Any, ...]) -> None:
            if name == "renameat2":
                disk.before = None
                self.assertEqual(cleanDirectory(self.directory, 0), 1)

        disk.before = before
        self.assertIn("was removed by somebody else", self.refused(StorageFailed))

    def test_leftovers(self) -> None:
        """What a process leaves that dies is cleaned by its age, and never one that is written."""
        (self.path / os.fsdecode(unusedName())).write_bytes(b"half")
        self.assertEqual(cleanDirectory(self.directory, 3600), 0)
        self.assertEqual(cleanDirectory(self.directory, 0), 1)
        self.assertOnly(None)

    def test_device(self) -> None:
        """A device is not replaced."""
        try:
            os.mknod(self.file, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            raise SkipTest("only root makes devices") from None
        self.refused(Conflict)
        self.assertTrue(stat.S_ISCHR(os.lstat(self.file).st_mode))


class ReadTests(WholeCase):
    """Reading."""

    def read(self, limit: int = 100) -> tuple[Attributes, bytes] | LocalSource:
        """Read the file."""
        descriptor = os.open(self.file, os.O_RDONLY)
        return readWhole(descriptor, os.fstat(descriptor), NAME, limit)

    def source(self, limit: int = 100) -> LocalSource:
        """Expect that it is opened, and not read."""
        found = self.read(limit)
        assert isinstance(found, LocalSource)
        self.addCleanup(found.close)
        return found

    def test_small(self) -> None:
        """A small file is read whole, and nothing of it stays open."""
        before = descriptors()
        for content in (OLD, b""):
            self.file.write_bytes(content)
            self.assertEqual(self.read(), (attributesOf(os.lstat(self.file)), content))
        self.assertEqual(descriptors(), before)

    def test_large(self) -> None:
        """One that has more bytes than the limit is opened, and not read."""
        self.file.write_bytes(b"12345")
        self.assertNotIsInstance(self.read(5), LocalSource)
        self.assertEqual(self.source(4).read(0, 5), b"12345")

    def test_changes(self) -> None:
        """One that changes while it is read is opened, as it is then; so what is read whole is of
        one version."""
        disk = FaultyDisk(self)
        changes: list[Callable[[], object]] = [
            lambda: os.truncate(self.file, 3),
            lambda: self.file.write_bytes(OLD + OLD),
            lambda: os.utime(self.file, ns=(WHEN, WHEN)),
        ]
        for change in changes:
            self.file.write_bytes(OLD)

            def before(
                name: str, args: tuple[Any, ...], change: Callable[[], object] = change
            ) -> None:
                if name == "pread":
                    disk.before = None
                    change()

            disk.before = before
            source = self.source()
            self.assertEqual(source.attributes, attributesOf(os.lstat(self.file)))
            self.assertTrue(source.unchanged())

    def test_replaced(self) -> None:
        """One that is replaced, or loses its name, while it is read does not change."""
        disk = FaultyDisk(self)
        self.file.write_bytes(OLD)

        def before(name: str, args: tuple[Any, ...]) -> None:
            if name == "pread":
                disk.before = None
                self.file.unlink()

        disk.before = before
        found = self.read()
        assert not isinstance(found, LocalSource)
        self.assertEqual(found[1], OLD)

    def test_failing(self) -> None:
        """A disk that fails is said to, and the file is closed."""
        self.file.write_bytes(OLD)
        disk = FaultyDisk(self)
        for call in ("pread", "fstat"):

            def before(name: str, args: tuple[Any, ...], call: str = call) -> None:
                if name == call:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

            open_ = descriptors()
            disk.before = before
            self.assertRaises(StorageFailed, self.read)
            disk.before = None
            self.assertEqual(descriptors(), open_)
