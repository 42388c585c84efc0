"""
Files that are written beside their place and published there in one step: what is there is the old
file or the new one, whole, whatever fails and whoever interferes.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.files.faultydisk import NEEDS_ROOM, Crash, FaultyDisk, unsupported
from tests.files.tree import descriptors
from twisted_netsuite.errors import Conflict, Corrupted, NetsuiteError, StorageFailed
from twisted_netsuite.files import (
    digests,
    journal,
    localsource,
    partialfile,
    publishing,
    rereading,
    verified,
)
from twisted_netsuite.files import target as module
from twisted_netsuite.files.digests import combined, digestOf
from twisted_netsuite.files.journal import ENTRY
from twisted_netsuite.files.leftovers import JOURNAL, PARTIAL, cleanDirectory
from twisted_netsuite.files.localsource import LocalSource, attributesOf
from twisted_netsuite.files.publishing import usualMode
from twisted_netsuite.files.store import Attributes, Wanted
from twisted_netsuite.files.systemcalls import fallocate, renameat2
from twisted_netsuite.files.target import LocalTarget
from twisted_netsuite.files.wholefile import publishWhole

#: Small enough that a few kilobytes are many chunks; a block of most file systems, so that holes
#: have their size.
CHUNK = 4096

#: Five chunks: data, a hole, data, a hole, and a short one.
CONTENT = os.urandom(CHUNK) + bytes(CHUNK) + os.urandom(CHUNK) + bytes(CHUNK) + os.urandom(100)
OLD = b"the old one"
NAME = b"file"
WHEN = 1_600_000_000_123_456_789

#: What a whole device answers that is gone, however it is asked.
EVERYTHING = frozenset({*NEEDS_ROOM, "fsync", "renameat2", "rename", "unlink", "fchmod", "utime"})


def pieces(content: bytes) -> list[bytes]:
    """Cut a content into chunks."""
    return [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)] or [b""]


def digestOfAll(content: bytes) -> bytes:
    """Digest a content as files are digested."""
    return combined([digestOf(piece) for piece in pieces(content)])


class TargetCase(SynchronousTestCase):
    """A directory, and chunks of 4 KiB."""

    def setUp(self) -> None:
        for changed in (digests, module, localsource, partialfile, rereading):
            self.patch(changed, "CHUNK", CHUNK)
        for changed in (module, rereading, journal, verified):
            self.patch(changed, "ZEROS", digestOf(bytes(CHUNK)))
        self.path = Path(self.mktemp())
        self.path.mkdir()
        self.directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, self.directory)
        self.file = self.path / NAME.decode()

    def want(self, content: bytes = CONTENT, **fields: Any) -> Wanted:
        """Say what is wanted, if nothing else is said: all that makes work."""
        usual: dict[str, Any] = {"mtime": WHEN, "mode": 0o640, "source": b"one"}
        return Wanted(len(content), **{**usual, **fields})

    def begin(self, content: bytes = CONTENT, **fields: Any) -> LocalTarget:
        """Begin to write a file."""
        wanted = self.want(content, **fields)
        target = LocalTarget.begin(self.directory, NAME, wanted, "somebody")
        self.addCleanup(target._close, False)
        return target

    def fill(self, target: LocalTarget, content: bytes = CONTENT, most: int = 1000) -> None:
        """Write what is missing, some chunks at the most."""
        for index, piece in enumerate(pieces(content)):
            if index in target.verified:
                continue
            if most == 0:
                return
            most -= 1
            if piece and not piece.strip(b"\0"):
                target.hole(index)
            else:
                target.write(index * CHUNK, [piece[:50], piece[50:]])
                target.chunkWritten(index, digestOf(piece))

    def put(self, content: bytes = CONTENT, **fields: Any) -> Attributes:
        """Write a file and publish it."""
        target = self.begin(content, **fields)
        self.fill(target, content)
        return target.commit(digestOfAll(content))

    def names(self) -> list[bytes]:
        """List the directory."""
        return sorted(os.listdir(os.fsencode(self.path)))

    def assertOnly(self, content: bytes | None) -> None:
        """There is this file, or none, and nothing beside it."""
        self.assertEqual(self.names(), [] if content is None else [NAME])
        if content is not None:
            self.assertEqual(self.file.read_bytes(), content)

    def leftover(self, prefix: bytes) -> Path:
        """Find a partial, or a journal."""
        [name] = [name for name in self.names() if name.startswith(prefix)]
        return self.path / name.decode()


class WriteTests(TargetCase):
    """Writing and publishing, when all goes well."""

    def test_small(self) -> None:
        """A file of one chunk is there after its publishing, with its mode and time."""
        attributes = self.put(b"hello", source=None)
        status = os.stat(self.file)
        self.assertOnly(b"hello")
        self.assertEqual(attributes, attributesOf(status))
        self.assertEqual((attributes.mtime, attributes.mode, attributes.size), (WHEN, 0o640, 5))

    def test_sizes(self) -> None:
        """Files of all sizes about chunks are right, with and without a source, durable or not."""
        for size in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 12 * CHUNK + 5):
            for source in (None, b"one"):
                for durable in (False, True):
                    content = os.urandom(size)
                    self.put(content, source=source, durable=durable)
                    self.assertOnly(content)

    def test_order(self) -> None:
        """Chunks can come in any order."""
        target = self.begin()
        for index in (4, 0, 3, 2, 1):
            piece = pieces(CONTENT)[index]
            target.write(index * CHUNK, [piece])
            target.chunkWritten(index, digestOf(piece))
        target.commit(digestOfAll(CONTENT))
        self.assertOnly(CONTENT)

    def test_unseen(self) -> None:
        """Until it is published it has a reserved name, and nobody else can read it."""
        self.addCleanup(os.umask, os.umask(0))
        for source in (None, b"one"):
            target = self.begin(b"x", source=source)
            for name in self.names():
                self.assertTrue(name.startswith((PARTIAL, JOURNAL)))
                mode = stat.S_IMODE(os.stat(self.path / name.decode()).st_mode)
                self.assertEqual(mode, 0o600)
            target.discard()
            self.assertOnly(None)

    def test_calls(self) -> None:
        """What a small file costs is known to the single system call."""
        disk = FaultyDisk(self)
        self.put(b"x", source=None, durable=False)
        before = ["dup", "open", "flock", "pwritev", "access"]
        after = ["fstat", "close", "close"]
        self.assertEqual(disk.calls, [*before, "fchmod", "utime", "renameat2", *after])
        disk.reset()
        self.put(b"y", source=None, durable=True)
        # Whose the old one is, and whom it lets in.
        before += ["stat", "fstat", "getxattr", "listxattr", "fchmod", "utime"]
        over = ["renameat2", "stat", "fstat", "renameat2", "stat"]
        self.assertEqual(disk.calls, [*before, "fsync", *over, "fsync", "unlink", *after])

    def test_durable(self) -> None:
        """The file is on the disk before it has its name, and its name before success is told."""
        disk = FaultyDisk(self)
        for content in (b"x", CONTENT):
            disk.reset()
            self.put(content)
            first = disk.calls.index("fsync")
            self.assertLess(first, disk.calls.index("renameat2"))
            self.assertLess(disk.calls.index("renameat2"), disk.calls.index("fsync", first + 1))
            disk.reset()
            self.put(content, durable=False)
            self.assertNotIn("fsync", disk.calls)

    def test_mode(self) -> None:
        """Without a mode it is that of the replaced file, else what the umask leaves; no more than
        permissions can be given."""
        self.addCleanup(os.umask, os.umask(0o027))
        self.addCleanup(usualMode.cache_clear)
        usualMode.cache_clear()
        self.assertEqual(self.put(mode=None).mode, 0o640)
        os.chmod(self.file, 0o604)
        self.assertEqual(self.put(mode=None).mode, 0o604)
        self.put(mode=0o6755)
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o755)

    def test_umask(self) -> None:
        """A system that does not tell the umask gets the mode that nobody can regret."""

        def fail(path: str) -> None:
            raise OSError(errno.ENOENT, "no such file")

        self.patch(builtins, "open", fail)
        self.assertEqual(usualMode.__wrapped__(), 0o600)

    def test_time(self) -> None:
        """Without a time it is that of its publishing, and before 1970 is a time, too."""
        before = time.time_ns() - 10**9
        self.assertGreater(self.put(mtime=None).mtime, before)
        self.assertEqual(self.put(mtime=-(10**18)).mtime, -(10**18))

    def test_manyPieces(self) -> None:
        """More pieces than a system call takes are written; a disk that takes half, gets all."""
        disk = FaultyDisk(self)
        for disk.short in (False, True):
            content = os.urandom(3000)
            target = self.begin(content, source=None)
            target.write(0, [content[at : at + 1] for at in range(3000)])
            target.chunkWritten(0, digestOf(content))
            target.commit(digestOfAll(content))
            self.assertOnly(content)

    def test_outside(self) -> None:
        """Nothing is written before or behind a file."""
        target = self.begin()
        for offset in (-1, len(CONTENT)):
            self.assertRaises(ValueError, target.write, offset, [b"x"])

    def test_ended(self) -> None:
        """What has ended can be ended again, and takes nothing any more."""
        target = self.begin(b"x", source=None)
        self.fill(target, b"x")
        target.commit(digestOf(b"x"))
        target.keep()
        target.discard()
        self.assertRaises(NetsuiteError, target.write, 0, [b"y"])
        self.assertRaises(NetsuiteError, target.commit, digestOf(b"x"))
        self.assertOnly(b"x")

    def test_descriptors(self) -> None:
        """However it ends, all that was opened is closed."""
        before = descriptors()
        for content in (b"x", CONTENT):
            for end in ("keep", "discard", "commit", "corrupt"):
                target = self.begin(content)
                self.fill(target, content)
                if end == "commit":
                    target.commit(digestOfAll(content))
                elif end == "corrupt":
                    self.assertRaises(Corrupted, target.commit, b"x" * 32)
                else:
                    getattr(target, end)()
                self.assertEqual(descriptors(), before, end)


class VerifyTests(TargetCase):
    """Nothing is published that is not what it was to be."""

    def setUp(self) -> None:
        super().setUp()
        self.file.write_bytes(OLD)

    def test_missing(self) -> None:
        """With chunks missing nothing is published, and those that are there are kept."""
        target = self.begin()
        self.fill(target, most=3)
        error: Corrupted = self.assertRaises(Corrupted, target.commit, digestOfAll(CONTENT))
        self.assertEqual(error.sentence, "Of 'file' 2 of 5 chunks are missing; send it again.")
        self.assertEqual(self.file.read_bytes(), OLD)
        self.assertEqual(set(self.begin().verified), {0, 1, 2})

    def test_another(self) -> None:
        """Right chunks of a wrong file are not published, and not kept."""
        target = self.begin()
        self.fill(target)
        error: Corrupted = self.assertRaises(Corrupted, target.commit, digestOfAll(b"x"))
        self.assertEqual(error.sentence, "'file' is not what its digest says; send it again.")
        self.assertOnly(OLD)

    def test_overwritten(self) -> None:
        """A chunk that is written to again has to be right again, also for another try."""
        target = self.begin()
        self.fill(target)
        target.write(2 * CHUNK + 5, [b"x"])
        self.assertEqual(set(target.verified), {0, 1, 3, 4})
        target.keep()
        target = self.begin()
        self.assertEqual(set(target.verified), {0, 1, 3, 4})
        target.write(CHUNK, [bytes(CHUNK + 1)])
        self.assertEqual(set(target.verified), {0, 3, 4})
        self.fill(target)
        target.commit(digestOfAll(CONTENT))
        self.assertOnly(CONTENT)


class PlaceTests(TargetCase):
    """What may be replaced."""

    def meanwhile(self, work: Callable[[], object], at: int = 1) -> FaultyDisk:
        """Let something happen right before the n-th rename that exchanges or replaces."""
        disk = FaultyDisk(self)
        seen = 0

        def before(name: str, args: tuple[Any, ...]) -> None:
            nonlocal seen
            if name == "renameat2" and args[4] == 2:
                seen += 1
                if seen == at:
                    work()

        disk.before = before
        return disk

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
        """A directory, a FIFO or a link is never replaced, and what a link leads to not written;
        a large file is refused before it is sent."""
        for make in self.obstacles():
            make()
            before = os.lstat(self.file)
            for fields in ({}, {"replaces": digestOf(b"aim")}):
                self.assertRaises(Conflict, self.begin, **fields)
                self.assertRaises(Conflict, self.put, b"x", source=None, **fields)
                self.assertTrue(os.path.samestat(os.lstat(self.file), before))
                self.assertEqual(self.names(), [NAME])
            self.clear()
        aim = self.path.parent / f"{self.path.name}-aim"
        self.assertEqual(aim.read_bytes(), b"aim")

    def test_device(self) -> None:
        """A device is not replaced."""
        try:
            os.mknod(self.file, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            raise SkipTest("only root makes devices") from None
        self.assertRaises(Conflict, self.put, b"x", source=None)
        self.assertTrue(stat.S_ISCHR(os.lstat(self.file).st_mode))

    def test_lastMoment(self) -> None:
        """What takes the old file's place in the last moment is put back as it was."""
        for make in self.obstacles():
            self.file.write_bytes(OLD)
            made: list[os.stat_result] = []

            def swap(make: Callable[[], object] = make, made: list[os.stat_result] = made) -> None:
                self.clear()
                make()
                made.append(os.lstat(self.file))

            disk = self.meanwhile(swap)
            self.assertRaises(Conflict, self.put, b"x", source=None)
            self.assertTrue(os.path.samestat(os.lstat(self.file), made[0]))
            self.assertEqual(self.names(), [NAME])
            disk.reset()
            self.clear()

    def test_clobber(self) -> None:
        """Without leave to replace nothing is replaced, and that is told before it is sent."""
        self.file.write_bytes(OLD)
        for source in (None, b"one"):
            error: Conflict = self.assertRaises(Conflict, self.begin, source=source, clobber=False)
            self.assertEqual(
                error.sentence,
                "'file' exists already; choose another name, or remove it first.",
            )
        self.assertOnly(OLD)

    def test_clobberLate(self) -> None:
        """Nor is what has come in between; what was sent is kept, if its source has a name."""
        for content in (b"x", CONTENT):
            target = self.begin(content, clobber=False)
            self.fill(target, content)
            self.file.write_bytes(OLD)
            self.assertRaises(Conflict, target.commit, digestOfAll(content))
            self.assertEqual(self.file.read_bytes(), OLD)
            partial = self.leftover(PARTIAL)
            self.assertEqual(stat.S_IMODE(partial.stat().st_mode), 0o600)
            again = self.begin(content)
            self.assertEqual(len(again.verified), len(pieces(content)))
            again.commit(digestOfAll(content))
            self.assertOnly(content)
            self.file.unlink()

    def test_replaces(self) -> None:
        """Only a file with the given digest is replaced: not another, and not nothing."""
        for content in (b"x", CONTENT):
            for old in (OLD, CONTENT * 3):
                self.file.write_bytes(old)
                self.put(content, replaces=digestOfAll(old))
                self.assertOnly(content)
                self.assertRaises(Conflict, self.put, replaces=digestOfAll(old))
                self.assertOnly(content)
                self.file.unlink()
                self.assertRaises(Conflict, self.put, replaces=digestOfAll(old))
                self.assertOnly(None)

    def test_replacesOnce(self) -> None:
        """The file that is replaced is read once, however long the new one takes."""
        self.file.write_bytes(OLD)
        target = self.begin(replaces=digestOf(OLD))
        self.fill(target)
        self.patch(LocalSource, "digest", lambda *args: self.fail("read again"))
        target.commit(digestOfAll(CONTENT))
        self.assertOnly(CONTENT)

    def test_replacesChanged(self) -> None:
        """What has changed before the publishing, or in its last moment, stays; a file with the
        same contents that has come in between is compared again."""
        other = self.path / "other"

        def change() -> None:
            other.write_bytes(b"somebody else's")
            other.rename(self.file)

        self.file.write_bytes(OLD)
        target = self.begin(replaces=digestOf(OLD))
        self.fill(target)
        change()
        self.assertRaises(Conflict, target.commit, digestOfAll(CONTENT))
        self.assertEqual(self.file.read_bytes(), b"somebody else's")

        self.file.write_bytes(OLD)
        disk = self.meanwhile(change)
        self.assertRaises(Conflict, self.put, replaces=digestOf(OLD))
        self.assertEqual(self.file.read_bytes(), b"somebody else's")
        disk.reset()

        self.file.write_bytes(OLD)
        target = self.begin(replaces=digestOf(OLD))
        self.assertEqual(len(target.verified), 5)
        other.write_bytes(OLD)
        other.rename(self.file)
        target.commit(digestOfAll(CONTENT))
        self.assertOnly(CONTENT)

    def test_newerStays(self) -> None:
        """What others publish while an exchange is undone is not lost by that."""
        for writers in (1, 2, 3):
            self.file.write_bytes(OLD)
            disk = FaultyDisk(self)
            exchanges = 0

            def before(name: str, args: tuple[Any, ...], writers: int = writers) -> None:
                nonlocal exchanges
                if name != "renameat2" or args[4] != 2:
                    return
                exchanges += 1
                if exchanges <= writers + 1:
                    other = self.path / "other"
                    other.write_bytes(b"%d" % exchanges)
                    other.rename(self.file)

            disk.before = before
            self.assertRaises(Conflict, self.put, b"x", source=None, replaces=digestOf(OLD))
            self.assertEqual(self.file.read_bytes(), b"%d" % (writers + 1))
            disk.reset()
            cleanDirectory(self.directory, 0)
            self.assertOnly(b"%d" % (writers + 1))
            exchanges = 0

    def test_notUndone(self) -> None:
        """When an exchange cannot be undone, what came out of it is left, as there is no other."""
        self.file.write_bytes(OLD)
        disk = FaultyDisk(self)
        exchanges = 0

        def before(name: str, args: tuple[Any, ...]) -> None:
            nonlocal exchanges
            if name == "renameat2" and args[4] == 2:
                exchanges += 1
                if exchanges > 1:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                other = self.path / "other"
                other.write_bytes(b"somebody else's")
                other.rename(self.file)

        disk.before = before
        fields: dict[str, Any] = {"source": None, "replaces": digestOf(OLD)}
        self.assertRaises(StorageFailed, self.put, b"x", **fields)
        self.assertEqual(self.leftover(PARTIAL).read_bytes(), b"somebody else's")
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o640)

    def test_comesAndGoes(self) -> None:
        """A name at which something comes and goes ends in a conflict, not in an endless loop."""
        disk = FaultyDisk(self)

        def before(name: str, args: tuple[Any, ...]) -> None:
            if name == "renameat2":
                self.file.write_bytes(OLD)
            elif name == "stat" and args[0] == NAME:
                self.file.unlink()

        disk.before = before
        self.assertRaises(Conflict, self.put, b"x", source=None)
        disk.reset()
        self.assertOnly(None)

    def test_removed(self) -> None:
        """Whoever removes what is being written gets a sentence that says so."""
        target = self.begin(b"x", source=None)
        self.fill(target, b"x")
        self.leftover(PARTIAL).unlink()
        error: StorageFailed = self.assertRaises(StorageFailed, target.commit, digestOf(b"x"))
        self.assertEqual(
            error.sentence, "What had come of 'file' was removed by somebody else; send it again."
        )

    def test_hardLinks(self) -> None:
        """Other names of the old file keep it."""
        self.file.write_bytes(OLD)
        other = self.path.parent / f"{self.path.name}-other"
        os.link(self.file, other)
        self.put()
        self.assertOnly(CONTENT)
        self.assertEqual(other.read_bytes(), OLD)


class RaceTests(TargetCase):
    """Several threads at one name."""

    def run_(self, *works: Callable[[], None]) -> None:
        """Do all at once, and fail with what fails."""
        with ThreadPoolExecutor(len(works)) as pool:
            for done in [pool.submit(work) for work in works]:
                done.result()

    def test_readers(self) -> None:
        """Whoever reads while others publish reads one whole version."""
        versions = [bytes([number]) * (3 * CHUNK + number) for number in range(1, 5)]
        self.file.write_bytes(versions[0])
        left = [100, 100]

        def write(which: int) -> None:
            while left[which]:
                left[which] -= 1
                self.put(versions[(left[which] + which) % 4], source=None, durable=False)

        def read() -> None:
            while any(left):
                self.assertIn(self.file.read_bytes(), versions)

        self.run_(lambda: write(0), lambda: write(1), read)
        self.assertEqual(self.names(), [NAME])

    def test_counter(self) -> None:
        """No change is lost among those that name the contents which they replace, nor by those who
        are refused; other names for the same times, sizes and numbers of files do not matter."""
        self.file.write_bytes(b"%8d" % 0)

        def count() -> None:
            for _ in range(50):
                while True:
                    before = self.file.read_bytes()
                    fields = {"replaces": digestOf(before), "source": None, "durable": False}
                    with contextlib.suppress(Conflict):
                        self.put(b"%8d" % (int(before) + 1), **fields)
                        break

        self.run_(count, count, count)
        self.assertOnly(b"%8d" % 150)

    def test_swapped(self) -> None:
        """While somebody swaps links and directories in the target's place as fast as can be,
        nothing that they lead to is touched, and none of them is replaced."""
        outside = self.path.parent / f"{self.path.name}-outside"
        outside.write_bytes(b"outside")
        going = [True]

        def swap() -> None:
            while going:
                os.symlink(outside, self.path / "link")
                os.mkdir(self.path / "directory")
                for name in ("link", "directory"):
                    with contextlib.suppress(OSError):
                        renameat2(self.directory, name.encode(), self.directory, NAME, 1)
                        os.rename(self.file, self.path / "taken")
                        taken = self.path / "taken"
                        taken.rmdir() if taken.is_dir() and not taken.is_symlink() else None
                        taken.unlink(missing_ok=True)
                for name in ("link", "directory"):
                    path = self.path / name
                    if path.is_symlink():
                        path.unlink()
                    elif path.is_dir():
                        path.rmdir()

        def write() -> None:
            try:
                for _ in range(300):
                    with contextlib.suppress(NetsuiteError):
                        self.put(b"x", source=None, durable=False)
            finally:
                going.clear()

        self.run_(write, swap)
        self.assertEqual(outside.read_bytes(), b"outside")


class OldSystemTests(TargetCase):
    """Systems and file systems that lack a call."""

    def test_publishing(self) -> None:
        """Without the newer renames, and without hard links, all promises hold but for those
        against whoever takes no lock."""
        disk = FaultyDisk(self)
        for missing in (("renameat2",), ("renameat2", "link")):
            disk.before = unsupported(*missing)
            for content in (b"x", CONTENT):
                self.put(content, clobber=False)
                self.assertOnly(content)
                self.assertRaises(Conflict, self.put, content, clobber=False)
                self.put(OLD, replaces=digestOfAll(content))
                self.assertOnly(OLD)
                self.assertRaises(Conflict, self.put, content, replaces=digestOfAll(content))
                self.assertOnly(OLD)
                self.put(content)
                self.assertOnly(content)
                self.file.unlink()

    def test_clobberLate(self) -> None:
        """Nor is replaced what comes in between."""
        disk = FaultyDisk(self)
        for missing in (("renameat2",), ("renameat2", "link")):
            disk.before = unsupported(*missing)
            target = self.begin(b"x", source=None, clobber=False)
            self.fill(target, b"x")
            self.file.write_bytes(OLD)
            self.assertRaises(Conflict, target.commit, digestOf(b"x"))
            self.assertOnly(OLD)
            self.file.unlink()

    def test_obstacle(self) -> None:
        """A FIFO is not replaced."""
        FaultyDisk(self).before = unsupported("renameat2")
        os.mkfifo(self.file)
        self.assertRaises(Conflict, self.put, b"x", source=None)
        self.assertTrue(stat.S_ISFIFO(os.lstat(self.file).st_mode))

    def test_locked(self) -> None:
        """A directory that somebody keeps locked is a conflict, after a while."""
        disk = FaultyDisk(self)
        disk.before = unsupported("renameat2")
        self.file.write_bytes(OLD)
        self.patch(publishing, "LOCK_PAUSE", 0)
        fcntl.flock(self.directory, fcntl.LOCK_EX)
        self.assertRaises(Conflict, self.put, b"x", source=None)
        self.assertOnly(OLD)

    def test_noAllocation(self) -> None:
        """Where room cannot be taken first, and holes cannot be made, files are right."""
        disk = FaultyDisk(self)
        disk.before = unsupported("fallocate")
        target = self.begin()
        target.write(CHUNK, [b"not a hole yet"])
        self.fill(target, most=3)
        target.keep()
        target = self.begin()
        self.assertEqual(set(target.verified), {0, 1, 2})
        self.fill(target)
        target.commit(digestOfAll(CONTENT))
        self.assertOnly(CONTENT)


class RoomTests(TargetCase):
    """Room on the disk."""

    def blocks(self, path: Path) -> int:
        """Tell how many bytes of the disk a file takes."""
        return path.stat().st_blocks * 512

    def test_taken(self) -> None:
        """The room that a file needs is taken before its first byte comes."""
        self.begin(bytes(100 * CHUNK))
        self.assertGreaterEqual(self.blocks(self.leftover(PARTIAL)), 100 * CHUNK)

    def test_givenBack(self) -> None:
        """What is kept for another try takes no more room than what has come."""
        target = self.begin(bytes(100 * CHUNK))
        target.write(0, [b"x" * CHUNK])
        target.chunkWritten(0, digestOf(b"x" * CHUNK))
        target.keep()
        self.assertLessEqual(self.blocks(self.leftover(PARTIAL)), 4 * CHUNK)

    def test_holes(self) -> None:
        """Holes take no room in the published file, whether room for them was taken or not."""
        content = bytes(60 * CHUNK) + b"x" * CHUNK + bytes(60 * CHUNK + 7)
        for room in (None, len(content), CHUNK):
            self.put(content, room=room)
            self.assertOnly(content)
            self.assertLessEqual(self.blocks(self.file), 4 * CHUNK)

    def test_holeOverBytes(self) -> None:
        """A hole is zeros also where something was written before, in small files, too."""
        for content in (bytes(7), bytes(3 * CHUNK)):
            for source in (None, b"one"):
                target = self.begin(content, source=source)
                target.write(0, [b"bad"])
                for index in range(len(pieces(content))):
                    target.hole(index)
                target.commit(digestOfAll(content))
                self.assertOnly(content)

    def test_tera(self) -> None:
        """A file of 1 TiB of holes and little data takes no room, now or later."""
        size, chunk = 2**40, 2**25
        for changed in (digests, module, localsource, partialfile, rereading):
            self.patch(changed, "CHUNK", chunk)
        zeros = digestOf(bytes(chunk))
        for changed in (module, rereading, journal, verified):
            self.patch(changed, "ZEROS", zeros)
        data = b"x" * chunk
        last = size // chunk - 1
        wanted = Wanted(size, source=b"one")
        target = LocalTarget.begin(self.directory, NAME, wanted, "somebody")
        for index in range(last):
            target.hole(index)
        target.keep()
        self.assertLessEqual(self.blocks(self.leftover(PARTIAL)), 16384)
        self.assertLess(self.leftover(JOURNAL).stat().st_size, 1000)
        os.utime(self.leftover(PARTIAL))  # So that all of it is looked at again.
        target = LocalTarget.begin(self.directory, NAME, wanted, "somebody")
        self.assertEqual(len(target.verified), last)
        target.write(last * chunk, [data])
        target.chunkWritten(last, digestOf(data))
        target.commit(combined([zeros] * last + [digestOf(data)]))
        self.assertEqual(self.file.stat().st_size, size)
        self.assertLessEqual(self.blocks(self.file), chunk + 65536)

    def test_tooLarge(self) -> None:
        """What is known to need more than there is is refused at once, with the numbers."""
        wanted = Wanted(2**43, source=b"one", room=2**43)
        error: StorageFailed = self.assertRaises(
            StorageFailed, LocalTarget.begin, self.directory, NAME, wanted, "somebody"
        )
        self.assertRegex(error.sentence, r"^'file' needs 8796093022208 bytes more, and the disk h")
        self.assertOnly(None)

    def test_noRoom(self) -> None:
        """Where a quota says no, a file that may have holes is written as far as it goes; one that
        has none is refused. Nothing of it is left on the disk."""
        disk = FaultyDisk(self)
        for number in (errno.ENOSPC, errno.EDQUOT):

            def before(name: str, args: tuple[Any, ...], number: int = number) -> None:
                if name == "fallocate" and not args[1]:
                    raise OSError(number, os.strerror(number))

            disk.before = before
            self.put(durable=False)
            self.assertOnly(CONTENT)
            self.assertRaises(StorageFailed, self.begin, room=len(CONTENT))
            self.assertOnly(CONTENT)

    def test_halfAllocated(self) -> None:
        """Of room that was taken only in part before the disk was full nothing stays taken."""
        real = fallocate

        def half(file: int, mode: int, offset: int, length: int) -> None:
            real(file, mode, offset, length if mode else length // 2)
            if not mode:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(partialfile, "fallocate", half)
        self.begin(bytes(100 * CHUNK))
        self.assertLessEqual(self.blocks(self.leftover(PARTIAL)), CHUNK)

    def test_holeFailed(self) -> None:
        """A hole that could not be made is none that is there."""
        disk = FaultyDisk(self)
        target = self.begin()
        target.hole(1)
        disk.failAt(len(disk.calls) + 1, errno.EIO)
        self.assertRaises(StorageFailed, target.hole, 3)
        self.assertNotIn(1, target.verified)


def _notRenamed(name: str, args: tuple[Any, ...]) -> None:
    if name in ("renameat2", "rename"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


class ResumeTests(TargetCase):
    """Another try."""

    def kept(self, most: int = 3) -> None:
        """Leave what a clean stop leaves."""
        target = self.begin()
        self.fill(target, most=most)
        target.keep()

    def test_clean(self) -> None:
        """After a clean stop nothing of the file is read, whatever its size."""
        self.kept()
        self.patch(LocalSource, "digest", lambda *args: self.fail("read again"))
        target = self.begin()
        self.assertEqual(set(target.verified), {0, 1, 2})
        self.fill(target)
        target.commit(digestOfAll(CONTENT))
        self.assertOnly(CONTENT)

    def test_notBegun(self) -> None:
        """A try that cannot begin leaves what an earlier one has left."""
        self.kept()
        disk = FaultyDisk(self)
        disk.before = unsupported("fstatvfs")
        self.assertRaises(StorageFailed, self.begin)
        disk.reset()
        self.assertEqual(set(self.begin().verified), {0, 1, 2})

    def test_again(self) -> None:
        """It can be stopped, and gone on with, often."""
        for count in range(1, 5):
            self.kept(1)
            self.assertEqual(len(self.names()), 2)
            target = self.begin()
            self.assertEqual(len(target.verified), count)
            target.keep()
        self.put()
        self.assertOnly(CONTENT)

    def test_tampered(self) -> None:
        """When the partial was touched, all is read again, and what is not right is dropped."""
        self.kept(5)
        partial = self.leftover(PARTIAL)
        with partial.open("r+b") as file:
            file.seek(2 * CHUNK + 7)
            file.write(bytes([CONTENT[2 * CHUNK + 7] ^ 1]))
        target = self.begin()
        self.assertEqual(set(target.verified), {0, 1, 3, 4})
        self.fill(target)
        target.commit(digestOfAll(CONTENT))
        self.assertOnly(CONTENT)

    def test_tamperedSecretly(self) -> None:
        """Also when the time of its change was set back."""
        self.kept(5)
        partial = self.leftover(PARTIAL)
        status = partial.stat()
        partial.write_bytes(b"!" + partial.read_bytes()[1:])
        os.utime(partial, ns=(status.st_atime_ns, status.st_mtime_ns))
        self.assertEqual(set(self.begin().verified), {1, 2, 3, 4})

    def test_resized(self) -> None:
        """A partial that was cut, or has grown, is used as far as it is right."""
        for size, left in ((CHUNK + 1, {0, 1, 3}), (10 * CHUNK, {0, 1, 2, 3, 4})):
            self.kept(5)
            os.truncate(self.leftover(PARTIAL), size)
            target = self.begin()
            self.assertEqual(set(target.verified), left)
            self.fill(target)
            target.commit(digestOfAll(CONTENT))
            self.assertOnly(CONTENT)

    def test_otherFile(self) -> None:
        """Another file under the partial's name is not gone on with, and not written to."""
        self.kept()
        partial = self.leftover(PARTIAL)
        other = self.path.parent / f"{self.path.name}-other"

        def link() -> None:
            other.write_bytes(b"other")
            os.link(other, partial)

        for make in (
            lambda: partial.write_bytes(CONTENT),
            lambda: os.symlink(other, partial),
            lambda: os.mkfifo(partial),
            link,
        ):
            os.rename(partial, other)
            make()
            target = self.begin()
            self.assertEqual(dict(target.verified), {})
            self.fill(target, most=3)
            target.keep()
        self.assertEqual(other.stat().st_nlink, 1)

    def test_foreign(self) -> None:
        """A partial or a journal of another account is neither trusted nor written to."""
        if os.geteuid():
            raise SkipTest("only root gives files away")
        for prefix in (PARTIAL, JOURNAL):
            self.kept()
            os.chown(self.leftover(prefix), 12345, 12345)
            target = self.begin()
            self.assertEqual(dict(target.verified), {})
            target.discard()
            self.assertOnly(None)

    def test_othersFile(self) -> None:
        """What could not be published in place of another account's file is gone on with."""
        if os.geteuid():
            raise SkipTest("only root gives files away")
        self.file.write_bytes(OLD)
        os.chown(self.file, 12345, 12345)
        disk = FaultyDisk(self)
        disk.before = _notRenamed
        self.assertRaises(StorageFailed, self.put)
        self.assertEqual(self.leftover(PARTIAL).stat().st_uid, os.geteuid())
        disk.before = None
        self.assertEqual(set(self.begin().verified), {0, 1, 2, 3, 4})

    def test_power(self) -> None:
        """After another boot all is read again."""
        self.kept()
        self.patch(journal, "bootId", lambda: b"another boot, as")
        read: list[int] = []
        digest = LocalSource.digest

        def noted(source: LocalSource, index: int) -> bytes:
            read.append(index)
            return digest(source, index)

        self.patch(LocalSource, "digest", noted)
        self.assertEqual(set(self.begin().verified), {0, 1, 2})
        self.assertEqual(read, [0, 2])

    def test_many(self) -> None:
        """Many chunks are read again by several threads, to the same end; where the data ends is
        not asked for each of them, as a system can take long to tell."""
        content = os.urandom(50 * CHUNK)
        target = self.begin(content)
        self.fill(target, content)
        target.keep()
        os.utime(self.leftover(PARTIAL))
        asked: list[int] = []
        data = LocalSource.data

        def noted(source: LocalSource, offset: int) -> tuple[int, int]:
            asked.append(offset)
            return data(source, offset)

        self.patch(LocalSource, "data", noted)
        self.assertEqual(len(self.begin(content).verified), 50)
        self.assertLessEqual(len(asked), rereading.READERS)

    def test_unreadable(self) -> None:
        """What the disk cannot read any more is sent again."""
        self.kept()
        os.utime(self.leftover(PARTIAL))

        def digest(source: LocalSource, index: int) -> bytes:
            raise StorageFailed("failed")

        self.patch(LocalSource, "digest", digest)
        target = self.begin()
        self.assertEqual(dict(target.verified), {})
        self.fill(target)
        target.commit(digestOfAll(CONTENT))
        self.assertOnly(CONTENT)

    def test_another(self) -> None:
        """Another owner, name, source or size does not find it."""
        self.kept()
        for owner, name, wanted in (
            ("somebody else", NAME, self.want()),
            ("somebody", b"other", self.want()),
            ("somebody", NAME, self.want(source=b"two")),
            ("somebody", NAME, self.want(CONTENT + b"x")),
        ):
            target = LocalTarget.begin(self.directory, name, wanted, owner)
            self.assertEqual(dict(target.verified), {})
            target.discard()
        self.assertEqual(set(self.begin().verified), {0, 1, 2})

    def test_twice(self) -> None:
        """Two tries at once conflict, and the first goes on; another source does not conflict."""
        target = self.begin()
        self.fill(target, most=2)
        for _ in range(2):
            self.assertRaises(Conflict, self.begin)
        self.put(b"another", source=b"two")
        self.fill(target)
        target.commit(digestOfAll(CONTENT))
        self.assertOnly(CONTENT)

    def test_nothing(self) -> None:
        """Nothing is kept where nothing has come, or the source has no name."""
        self.begin().keep()
        self.assertOnly(None)
        target = self.begin(source=None)
        self.fill(target)
        target.keep()
        self.assertOnly(None)

    def test_fsync(self) -> None:
        """Once an fsync has failed nothing of the file is believed, though the next one works."""
        disk = FaultyDisk(self)
        for end in ("keep", "commit"):
            target = self.begin()
            self.fill(target)
            disk.reset()
            disk.before = self.onceFailing("fsync")
            if end == "keep":
                target.keep()
            else:
                error: StorageFailed = self.assertRaises(
                    StorageFailed, target.commit, digestOfAll(CONTENT)
                )
                self.assertIn("input/output error", error.sentence)
            self.assertEqual(disk.calls.count("fsync"), 1)
            self.assertOnly(None)

    def onceFailing(self, call: str) -> Callable[[str, tuple[Any, ...]], None]:
        """Fail a call, once."""
        calls = 0

        def before(name: str, args: tuple[Any, ...]) -> None:
            nonlocal calls
            if name == call:
                calls += 1
                if calls == 1:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

        return before


class Run(NamedTuple):
    """A way to publish a file, for faults to come upon."""

    content: bytes
    old: bytes | None
    fields: dict[str, Any]
    stops: bool = False
    lacks: tuple[str, ...] = ()
    whole: bool = False


REPLACES = {"replaces": digestOf(OLD)}
RUNS = (
    Run(b"small", None, {"source": None}),
    Run(b"small", None, {"source": None, "clobber": False, "mode": None}),
    Run(b"small", OLD, {"source": None}),
    Run(b"small", OLD, {"source": None, **REPLACES}),
    Run(bytes(50), OLD, {"source": None}),
    Run(CONTENT, None, {}),
    Run(CONTENT, OLD, {"mode": None}),
    Run(CONTENT, OLD, {"source": None}),
    Run(CONTENT, OLD, REPLACES),
    Run(CONTENT, OLD, {}, stops=True),
    Run(CONTENT, OLD, {"durable": False, "room": CHUNK * 3}, stops=True),
    Run(b"small", None, {"source": None}, lacks=("renameat2",)),
    Run(b"small", None, {"source": None}, lacks=("renameat2", "link")),
    Run(CONTENT, OLD, REPLACES, lacks=("renameat2", "fallocate")),
    Run(b"small", None, {}, whole=True),
    Run(b"small", None, {"clobber": False, "mtime": None}, whole=True),
    Run(b"small", OLD, {"mode": None}, whole=True),
    Run(b"small", OLD, {}, whole=True, lacks=("renameat2",)),
    Run(b"small", None, {}, whole=True, lacks=("renameat2", "link")),
)


class FaultCase(TargetCase):
    """Publishing, with a fault at each system call in its turn."""

    def setUp(self) -> None:
        super().setUp()
        usualMode()  # So that it is not asked in some runs only.
        self.disk = FaultyDisk(self)

    def prepare(self, run: Run) -> None:
        """Begin anew."""
        self.disk.crash()
        for name in self.names():
            os.unlink(self.path / os.fsdecode(name))
        if run.old is not None:
            self.file.write_bytes(run.old)
        self.disk.before = unsupported(*run.lacks)

    def go(self, run: Run) -> None:
        """Publish; if it stops in between, go on."""
        wanted = self.want(run.content, **run.fields)
        if run.whole:
            publishWhole(self.directory, NAME, wanted, run.content)
            return
        target = LocalTarget.begin(self.directory, NAME, wanted, "somebody")
        try:
            if run.stops:
                self.fill(target, run.content, most=3)
                target.keep()
                target = LocalTarget.begin(self.directory, NAME, wanted, "somebody")
            self.fill(target, run.content)
        except NetsuiteError:
            target.keep()
            raise
        target.commit(digestOfAll(run.content))

    def present(self) -> bytes | None:
        """Read what everybody sees."""
        return self.file.read_bytes() if self.file.exists() else None

    def finish(self, run: Run, published: bool) -> None:
        """Another try ends right, and what is left then is cleaned."""
        self.disk.reset()
        self.disk.before = unsupported(*run.lacks)
        if not (published and ("replaces" in run.fields or "clobber" in run.fields)):
            self.go(run)
        self.assertEqual(self.present(), run.content)
        cleanDirectory(self.directory, 0)
        self.assertOnly(run.content)


class FaultTests(FaultCase):
    """The disk fails."""

    def each(self, number: int, sticky: frozenset[str]) -> int:
        """Fail at each call of each run; tell how many faults that were."""
        faults = 0
        for which, run in enumerate(RUNS):
            at = 0
            while True:
                at += 1
                self.prepare(run)
                self.disk.failAt(at, number, sticky)
                before = descriptors()
                sentence = ""
                try:
                    self.go(run)
                except NetsuiteError as error:
                    sentence = error.sentence
                what = f"Run {which}, call {at}: {self.disk.calls[at - 1 : at]}, {sentence}"
                reached = self.disk.reached
                self.disk.reset()
                self.assertEqual(descriptors(), before, what)
                published = self.present() == run.content
                if not published:
                    self.assertEqual(self.present(), run.old, what)
                    self.assertNotEqual(sentence, "", what)
                elif sentence and not sticky:
                    self.assertIn("was published, but", sentence, what)
                self.finish(run, published)
                if not reached:
                    self.assertEqual(sentence, "")
                    break
                faults += 1
        return faults

    def test_once(self) -> None:
        """Whatever fails, with whatever: the old file is whole, or the new one is and an error says
        so; nothing is left that is not cleaned; and another try ends right."""
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            self.assertGreater(self.each(number, frozenset()), 300)

    def test_full(self) -> None:
        """The same on a disk that is full from some point on."""
        self.each(errno.ENOSPC, frozenset(NEEDS_ROOM))

    def test_gone(self) -> None:
        """The same on a disk that fails for good, so that nothing can be put right either."""
        self.each(errno.EIO, EVERYTHING)

    def test_failedWrite(self) -> None:
        """After a write that failed the file can be gone on with, and ends right."""
        target = self.begin()
        self.disk.failAt(len(self.disk.calls) + 1, errno.ENOSPC)
        error: StorageFailed = self.assertRaises(StorageFailed, target.write, 0, [b"x"])
        self.assertEqual(
            error.sentence,
            "'file' finds no room: no space left on device; make some there.",
        )
        self.disk.reset()
        self.fill(target)
        target.commit(digestOfAll(CONTENT))
        self.assertOnly(CONTENT)

    def test_journal(self) -> None:
        """A journal that cannot be written does not stop the file that it is about, and one that
        misses something is not believed."""
        target = self.begin()
        self.disk.before = unsupported("pwrite")
        self.fill(target, most=2)
        target.keep()
        self.disk.before = None
        self.assertEqual(dict(self.begin().verified), {})


class CrashTests(FaultCase):
    """The process dies."""

    def test_each(self) -> None:
        """Whenever it dies: the old file is whole or the new one is; another process goes on to the
        right end, though it dies as well; and what is left then is cleaned."""
        for which, run in enumerate(RUNS):
            for torn in (False, True):
                at = 0
                while True:
                    at += 1
                    self.prepare(run)
                    self.disk.crashAt(at, torn)
                    try:
                        self.go(run)
                        break
                    except Crash:
                        pass
                    calls = self.disk.calls[-3:]
                    self.disk.crash()
                    self.disk.before = unsupported(*run.lacks)
                    present = self.present()
                    self.assertIn(present, (run.old, run.content), f"Run {which}, {calls}")
                    if present != run.content:
                        self.disk.crashAt(at * 2 // 3 + 1, torn)
                        try:
                            self.go(run)
                        except Crash:
                            self.disk.crash()
                        present = self.present()
                        self.assertIn(present, (run.old, run.content), f"Run {which}, {calls}")
                    self.finish(run, present == run.content)

    def test_kept(self) -> None:
        """What was verified before it died is there afterwards, all of it."""
        for count in range(1, 5):
            content = os.urandom(5 * CHUNK)
            target = self.begin(content)
            self.fill(target, content, most=count)
            target.write(count * CHUNK, [b"half a chunk"])
            self.disk.crash()
            target = self.begin(content)
            self.assertEqual(set(target.verified), set(range(count)))
            target.discard()

    def test_idle(self) -> None:
        """If it dies while nothing comes, nothing has to be read again."""
        content = os.urandom(5 * CHUNK)
        self.fill(self.begin(content), content, most=3)
        self.disk.crash()
        self.patch(LocalSource, "digest", lambda *args: self.fail("read again"))
        self.assertEqual(set(self.begin(content).verified), {0, 1, 2})

    def test_afterExchange(self) -> None:
        """The old file, which has the partial's name if it dies right then, is not written to."""
        self.file.write_bytes(bytes(len(CONTENT)))
        target = self.begin()
        self.fill(target)

        def before(name: str, args: tuple[Any, ...]) -> None:
            if name == "stat" and args[0].startswith(PARTIAL):
                raise Crash

        self.disk.before = before
        self.assertRaises(Crash, target.commit, digestOfAll(CONTENT))
        self.disk.crash()
        old = self.leftover(PARTIAL)
        with old.open("rb") as reader:
            self.put()
            self.assertEqual(reader.read(), bytes(len(CONTENT)))
        self.assertOnly(CONTENT)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("chunk"), st.integers(0, 4)),
        st.tuples(st.just("half"), st.integers(0, 4)),
        st.tuples(st.just("hole"), st.sampled_from([1, 3])),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("keep"), st.just(0)),
        st.tuples(st.just("crashAt"), st.integers(1, 12)),
        st.tuples(st.just("partial"), st.integers(0, len(CONTENT) - 1)),
        st.tuples(st.just("journal"), st.integers(0, 12 * ENTRY)),
        st.tuples(st.just("cut"), st.integers(0, 12 * ENTRY)),
        st.tuples(st.just("early"), st.just(0)),
    ),
    max_size=25,
)


class AnyOrderTests(FaultCase):
    """Whatever happens, in any order."""

    @settings(max_examples=300, deadline=None)
    @given(STEPS)
    def test_right(self, steps: list[tuple[str, int]]) -> None:
        """After any chunks in any order, crashes, stops, and changes of any byte of what is kept
        meanwhile, the file is published right; before that the old one is there."""
        self.prepare(Run(CONTENT, OLD, {}))
        self.target: LocalTarget | None = None
        for step, value in steps:
            try:
                self.do(step, value)
            except Crash:
                self.disk.crash()
                self.target = None
            self.assertEqual(self.file.read_bytes(), OLD)
        self.disk.reset()
        if self.target is None:
            self.target = self.begun()
        self.fill(self.target)
        self.target.commit(digestOfAll(CONTENT))
        self.assertOnly(CONTENT)

    def begun(self) -> LocalTarget:
        """Begin, or go on."""
        return LocalTarget.begin(self.directory, NAME, self.want(), "somebody")

    def do(self, step: str, value: int) -> None:
        """Do one step; those that change what is kept end the process before."""
        if step in ("chunk", "half", "hole", "early"):
            target = self.target = self.target or self.begun()
            piece = pieces(CONTENT)[value]
            if step == "chunk":
                target.write(value * CHUNK, [piece])
                target.chunkWritten(value, digestOf(piece))
            elif step == "half":
                target.write(value * CHUNK + 3, [b"wrong"])
            elif step == "hole":
                target.hole(value)
            else:
                with contextlib.suppress(Corrupted):
                    target.commit(b"no digest of anything at all ...")
                self.target = None
        elif step == "crashAt":
            self.disk.crashAt(len(self.disk.calls) + value, torn=bool(value % 2))
        elif step == "keep":
            if self.target is not None:
                self.target.keep()
                self.target = None
        else:
            self.disk.crash()
            self.target = None
            self.change(step, value)

    def change(self, step: str, value: int) -> None:
        """Change a byte of what is kept, or cut it."""
        prefix = PARTIAL if step == "partial" else JOURNAL
        for name in self.names():
            if not name.startswith(prefix) or step == "crash":
                continue
            path = self.path / name.decode()
            content = path.read_bytes()
            if step == "cut":
                os.truncate(path, min(value, len(content)))
            elif value < len(content):
                with path.open("r+b") as file:
                    file.seek(value)
                    file.write(bytes([content[value] ^ 255]))
