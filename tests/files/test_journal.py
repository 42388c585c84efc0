"""
Journals of files that are not whole: what is read from them was written to them, for the same file,
or is not believed; and what is left of them is cleaned.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.files.faultydisk import FaultyDisk
from tests.files.tree import descriptors
from twisted_netsuite.errors import Conflict
from twisted_netsuite.files import journal as module
from twisted_netsuite.files import leftovers
from twisted_netsuite.files.digests import CHUNK
from twisted_netsuite.files.journal import ENTRY, Claim, Journal, Kept, bootId, sealOf
from twisted_netsuite.files.leftovers import (
    JOURNAL,
    PARTIAL,
    InTheWay,
    acquire,
    cleanDirectory,
    create,
    isOurs,
)
from twisted_netsuite.files.verified import MAX_FILE, Verified

CLAIM = Claim("somebody", b"file", b"one", 10 * CHUNK)
DIGESTS = [bytes([number]) * 32 for number in range(1, 11)]


class JournalCase(SynchronousTestCase):
    """A directory, with something in it to take the seal of."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.mkdir()
        self.directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, self.directory)
        other = self.path.parent / f"{self.path.name}-partial"
        other.write_bytes(b"x")
        self.status = other.stat()
        self.seal = sealOf(self.status)

    @property
    def file(self) -> Path:
        """Where the journal is."""
        return self.path / CLAIM.journalName.decode()

    def open(self, claim: Claim = CLAIM) -> Journal:
        """Open a journal, or begin one."""
        return Journal(self.directory, claim)

    def kept(self, claim: Claim = CLAIM) -> Kept:
        """Tell what a journal says, as another process finds it."""
        journal = self.open(claim)
        journal.close(remove=False)
        return journal.kept

    def written(self, *notes: tuple[int, int, bytes]) -> None:
        """Leave a journal."""
        journal = self.open()
        for first, count, digest in notes:
            journal.note(first, count, digest, self.seal)
        journal.close(remove=False)

    def names(self) -> list[bytes]:
        """List the directory."""
        return sorted(os.listdir(os.fsencode(self.path)))


class ReadTests(JournalCase):
    """What a journal says."""

    def test_new(self) -> None:
        """A new one says nothing, of no partial, and nobody else can read it."""
        self.addCleanup(os.umask, os.umask(0))
        self.assertEqual(self.kept(), Kept(Verified(0), None, 0))
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)

    def test_notes(self) -> None:
        """Chunks and runs of chunks are there at the next try, and whose partial they are of."""
        self.written((7, 1, DIGESTS[7]), (0, 3, DIGESTS[0]))
        verified = Verified(8)
        verified.update({7: DIGESTS[7], **dict.fromkeys(range(3), DIGESTS[0])})
        self.assertEqual(self.kept(), Kept(verified, self.seal, self.status.st_ino))

    def test_last(self) -> None:
        """What was noted last of a chunk counts; what was dropped is gone."""
        journal = self.open()
        for digest in DIGESTS[:3]:
            journal.note(4, 2, digest, self.seal)
        journal.drop(5, self.seal)
        journal.close(remove=False)
        self.assertEqual(self.kept().verified, {4: DIGESTS[2]})

    def test_farTime(self) -> None:
        """A seal is taken also of a file whose time is further away than 64 bits tell."""
        for when in (10**19, -(10**20)):
            far: Any = SimpleNamespace(
                st_dev=1, st_ino=2, st_size=3, st_mtime_ns=when, st_ctime_ns=when
            )
            self.assertEqual(len(sealOf(far)), len(self.seal))

    def test_seal(self) -> None:
        """The last seal counts, whatever was noted before it."""
        self.written((0, 1, DIGESTS[0]))
        os.utime(self.path)
        seal = sealOf(self.path.stat())
        journal = self.open()
        journal.seal(seal)
        journal.close(remove=False)
        kept = self.kept()
        self.assertEqual((kept.seal, kept.verified), (seal, {0: DIGESTS[0]}))

    def test_touched(self) -> None:
        """Each change of a file changes its seal: of its bytes, size and times; and so does another
        boot."""
        path = self.path / "sealed"
        path.write_bytes(b"x")
        before = path.stat()
        seals = {sealOf(before)}
        path.write_bytes(b"y")
        seals.add(sealOf(path.stat()))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        seals.add(sealOf(path.stat()))
        os.truncate(path, 5)
        seals.add(sealOf(path.stat()))
        self.patch(module, "bootId", lambda: bytes(16))
        seals.add(sealOf(path.stat()))
        self.assertEqual(len(seals), 5)

    def test_boot(self) -> None:
        """One boot has one id; where the system tells none, each process is a boot of its own."""
        self.assertEqual((len(bootId()), bootId()), (16, bootId.__wrapped__()))

        def fail(*arguments: Any) -> None:
            raise OSError(errno.ENOENT, "none")

        self.patch(builtins, "open", fail)
        first, second = bootId.__wrapped__(), bootId.__wrapped__()
        self.assertEqual((len(first), len(second)), (16, 16))
        self.assertNotEqual(first, second)

    def test_large(self) -> None:
        """A journal of many thousand entries is read whole."""
        claim = Claim("somebody", b"file", b"one", 10_000 * CHUNK)
        journal = self.open(claim)
        for index in range(10_000):
            journal.note(index, 1, DIGESTS[index % 10], self.seal)
        journal.close(remove=False)
        expected = {index: DIGESTS[index % 10] for index in range(10_000)}
        self.assertEqual(self.kept(claim).verified, expected)

    def test_restart(self) -> None:
        """What was forgotten does not come back."""
        self.written((0, 10, DIGESTS[0]))
        old = self.file.read_bytes()
        journal = self.open()
        journal.restart()
        journal.note(1, 1, DIGESTS[1], self.seal)
        journal.close(remove=False)
        self.assertEqual(self.kept().verified, {1: DIGESTS[1]})
        # Not even if the disk, after a power cut, has the old entries behind the new header.
        new = self.file.read_bytes()
        self.file.write_bytes(new[:-ENTRY] + old[-ENTRY:])
        self.assertEqual(self.kept(), Kept(Verified(0), None, 0))


class DamageTests(JournalCase):
    """Journals that others have written, or nobody has written to the end."""

    def setUp(self) -> None:
        super().setUp()
        self.written(*((index, 1, DIGESTS[index]) for index in range(5)))
        self.content = self.file.read_bytes()
        self.start = len(self.content) - 5 * ENTRY

    def test_torn(self) -> None:
        """Of a last entry that was torn nothing is believed, nor what it sealed; what comes after
        it is read."""
        for cut in range(1, ENTRY):
            self.file.write_bytes(self.content[:-cut])
            journal = self.open()
            self.assertEqual(set(journal.kept.verified), {0, 1, 2, 3})
            self.assertIsNone(journal.kept.seal)
            journal.note(9, 1, DIGESTS[9], self.seal)
            journal.close(remove=False)
            kept = self.kept()
            self.assertEqual(set(kept.verified), {0, 1, 2, 3, 9})
            self.assertEqual(kept.seal, self.seal)

    def test_missing(self) -> None:
        """Whole entries that are missing are just not there; the last that is left is the seal."""
        self.file.write_bytes(self.content[: -2 * ENTRY])
        self.assertEqual(set(self.kept().verified), {0, 1, 2})

    def test_bytes(self) -> None:
        """Whatever byte was changed: no chunk has another digest than was noted, and the seal is
        not believed."""
        for at in range(len(self.content)):
            changed = bytearray(self.content)
            changed[at] ^= 1
            self.file.write_bytes(changed)
            kept = self.kept()
            self.assertIsNone(kept.seal)
            for index, digest in kept.verified.items():
                self.assertEqual(digest, DIGESTS[index])
            expected = 0 if at < self.start else 4
            self.assertEqual(len(kept.verified), expected, at)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=2000))
    def test_anything(self, data: bytes) -> None:
        """Anything else under its name is no journal, and does no harm."""
        self.file.write_bytes(data)
        self.assertEqual(self.kept(), Kept(Verified(0), None, 0))
        self.file.write_bytes(self.content[: self.start] + data)
        self.assertEqual(self.kept().verified, {})

    def test_wildRun(self) -> None:
        """Runs that lie behind the end of the file, though their checksum is right, are nothing."""
        for first, count in ((10, 1), (0, 11), (2**63, 2**63), (9, 2**40)):
            journal = self.open()
            journal.restart()
            journal.note(first, count, DIGESTS[0], self.seal)
            journal.close(remove=False)
            kept = self.kept()
            self.assertEqual((kept.verified, kept.seal), ({}, None))

    def test_tooLarge(self) -> None:
        """A journal that is larger than any can be is not read."""
        os.truncate(self.file, 2**40)
        self.assertEqual(self.kept(), Kept(Verified(0), None, 0))
        self.assertLess(self.file.stat().st_size, 1000)

    def test_otherClaims(self) -> None:
        """A journal of another file, owner, source or size, moved here, says nothing."""
        for claim in (
            Claim("somebody", b"other", b"one", 10 * CHUNK),
            Claim("somebody else", b"file", b"one", 10 * CHUNK),
            Claim("somebody", b"file", b"two", 10 * CHUNK),
            Claim("somebody", b"file", b"one", 10 * CHUNK + 1),
            Claim("somebodyf", b"ile", b"one", 10 * CHUNK),
        ):
            self.assertNotEqual(claim.journalName, CLAIM.journalName)
            self.assertNotEqual(claim.partialName, CLAIM.partialName)
            moved = self.path / claim.journalName.decode()
            moved.write_bytes(self.content)
            moved.chmod(0o600)
            self.assertEqual(self.kept(claim), Kept(Verified(0), None, 0))

    def test_names(self) -> None:
        """Any name and any owner can have one, of fixed length."""
        for owner, name in (("é\udcff", b"\xff\n" * 100), ("x" * 5000, b"y" * 255)):
            claim = Claim(owner, name, b"s" * 128, MAX_FILE)
            self.assertEqual(len(claim.partialName), len(CLAIM.partialName))
            journal = self.open(claim)
            journal.note(3, 1, DIGESTS[3], self.seal)
            journal.close(remove=False)
            self.assertEqual(self.kept(claim).verified, {3: DIGESTS[3]})


class FullTests(JournalCase):
    """A journal that grows, and disks that do not let it."""

    def test_limit(self) -> None:
        """Who sends the same chunks for ever fills no disk; what is behind the limit is not
        missed, as nothing is sealed any more."""
        self.patch(module, "SPARE_ENTRIES", 5)
        journal = self.open()
        for number in range(100):
            journal.note(number % 10, 1, DIGESTS[number % 10], self.seal)
        journal.drop(0, self.seal)
        other = sealOf(self.path.stat())
        journal.seal(other)
        journal.close(remove=False)
        self.assertLess(self.file.stat().st_size, 27 * ENTRY)
        self.assertNotEqual(self.kept().seal, other)

    def test_limitInGroups(self) -> None:
        """Nor is anything sealed for which there would be room, after something had none."""
        disk = FaultyDisk(self)
        self.patch(module, "SPARE_ENTRIES", 0)
        journal = self.open()
        for number in range(19):
            journal.note(number % 10, 1, DIGESTS[number % 10], self.seal)
        disk.failAt(len(disk.calls) + 1, errno.ENOSPC)
        journal.drop(0, self.seal)
        journal.drop(1, self.seal)
        other = sealOf(self.path.stat())
        journal.seal(other)
        journal.close(remove=False)
        self.assertNotEqual(self.kept().seal, other)

    def test_again(self) -> None:
        """What could not be written is written with what comes next, in its order; a part of it
        that was written is not believed alone."""
        disk = FaultyDisk(self)
        journal = self.open()
        disk.failAt(len(disk.calls) + 1, errno.ENOSPC)
        journal.note(0, 1, DIGESTS[0], self.seal)
        disk.short = True
        journal.note(1, 1, DIGESTS[1], self.seal)
        journal.drop(0, self.seal)
        disk.short = False
        journal.note(2, 1, DIGESTS[2], self.seal)
        journal.close(remove=False)
        self.assertEqual(set(self.kept().verified), {1, 2})

    def test_lost(self) -> None:
        """What could never be written is not there, and nothing else suffers."""
        disk = FaultyDisk(self)
        journal = self.open()
        journal.note(0, 1, DIGESTS[0], self.seal)
        disk.failAt(len(disk.calls) + 1, errno.ENOSPC, frozenset(["pwrite"]))
        journal.note(1, 1, DIGESTS[1], self.seal)
        journal.close(remove=False)
        disk.reset()
        self.assertEqual(set(self.kept().verified), {0})

    def test_calls(self) -> None:
        """To note a chunk is one system call, and never waits for the disk."""
        disk = FaultyDisk(self)
        journal = self.open()
        disk.reset()
        journal.note(0, 1, DIGESTS[0], self.seal)
        journal.seal(self.seal)
        journal.close(remove=True)
        self.assertEqual(disk.calls, ["pwrite", "pwrite", "unlink", "close"])


class HoldTests(JournalCase):
    """One file, one process."""

    def test_twice(self) -> None:
        """Nobody else opens it until it is closed; to have died is to have closed it."""
        journal = self.open()
        before = descriptors()
        error: Conflict = self.assertRaises(Conflict, self.open)
        self.assertEqual(
            error.sentence,
            "The same file is being written from the same source already; wait for that, or end "
            "it.",
        )
        self.assertEqual(descriptors(), before)
        os.close(journal._file)
        self.open().close(remove=True)
        self.assertEqual(self.names(), [])

    def test_private(self) -> None:
        """What others could have written, or lead elsewhere to, is replaced, and not followed."""
        outside = self.path.parent / f"{self.path.name}-outside"
        outside.write_bytes(b"outside")
        self.written((0, 1, DIGESTS[0]))
        content = self.file.read_bytes()

        def writable() -> None:
            self.file.write_bytes(content)
            self.file.chmod(0o620)

        for make in (
            lambda: os.symlink(outside, self.file),
            lambda: os.symlink("nowhere", self.file),
            lambda: os.mkfifo(self.file),
            lambda: os.link(outside, self.file),
            writable,
        ):
            self.file.unlink()
            make()
            self.assertEqual(self.kept(), Kept(Verified(0), None, 0))
            self.assertEqual(stat.S_IMODE(os.lstat(self.file).st_mode), 0o600)
            self.assertTrue(isOurs(os.lstat(self.file)))
        self.assertEqual(outside.read_bytes(), b"outside")

    def test_foreign(self) -> None:
        """Another account's is replaced."""
        if os.geteuid():
            raise SkipTest("only root gives files away")
        self.written((0, 1, DIGESTS[0]))
        os.chown(self.file, 12345, 12345)
        self.assertEqual(self.kept(), Kept(Verified(0), None, 0))
        self.assertEqual(self.file.stat().st_uid, os.geteuid())

    def test_directory(self) -> None:
        """A directory under its name is left alone, and named."""
        self.file.mkdir()
        before = descriptors()
        self.assertIn(self.file.name, self.assertRaises(InTheWay, self.open).sentence)
        self.assertEqual(descriptors(), before)
        self.assertTrue(self.file.is_dir())

    def test_heldForeigner(self) -> None:
        """What does not fit is not removed while somebody writes to it."""
        file = create(self.directory, b"held")
        self.addCleanup(os.close, file)
        self.assertRaises(Conflict, acquire, self.directory, b"held", lambda found: False)
        self.assertEqual(self.names(), [b"held"])

    def quicker(self, call: str, work: Any) -> FaultyDisk:
        """Let something happen before the first call of a kind."""
        disk = FaultyDisk(self)

        def before(name: str, args: tuple[Any, ...]) -> None:
            if name == call:
                disk.before = None
                work()

        disk.before = before
        return disk

    def test_quicker(self) -> None:
        """Who is quicker between the making of a file and its holding has it, and keeps it."""
        held: list[int] = []

        def work() -> None:
            held.append(os.open(self.file, os.O_RDWR))
            fcntl.flock(held[0], fcntl.LOCK_EX)

        self.quicker("flock", work)
        self.assertRaises(Conflict, self.open)
        self.assertEqual(self.names(), [CLAIM.journalName])
        os.close(held[0])

    def test_cleanedMeanwhile(self) -> None:
        """What is cleaned away while it is being opened is not used; it is made anew."""
        for kept in (False, True):
            if kept:
                self.written((0, 1, DIGESTS[0]))
            self.quicker("flock", lambda: self.file.unlink())
            journal = self.open()
            self.assertEqual(journal.kept.verified, {})
            journal.close(remove=True)
            self.assertEqual(self.names(), [])

    def test_alwaysCleaned(self) -> None:
        """That ends in a conflict when it never ends, and leaves nothing open."""
        disk = FaultyDisk(self)

        def before(name: str, args: tuple[Any, ...]) -> None:
            if name == "flock":
                self.file.unlink()

        disk.before = before
        opened = descriptors()
        self.assertRaises(Conflict, self.open)
        self.assertEqual(descriptors(), opened)


class CleanTests(JournalCase):
    """L{cleanDirectory}."""

    def make(self, *names: bytes) -> None:
        """Leave files."""
        for name in names:
            (self.path / name.decode()).write_bytes(b"x")

    def test_all(self) -> None:
        """Partials, journals and pairs of them go; nothing else does."""
        others = [b"file", b".netsuite", b"x" + PARTIAL, b"partial-1"]
        self.make(PARTIAL + b"1", JOURNAL + b"1", PARTIAL + b"2", JOURNAL + b"3", *others)
        self.assertEqual(cleanDirectory(self.directory, 0), 4)
        self.assertEqual(self.names(), sorted(others))

    def test_age(self) -> None:
        """What was touched since is left, and so is what belongs to it."""
        self.make(PARTIAL + b"1", JOURNAL + b"1", PARTIAL + b"2")
        os.utime(self.path / (PARTIAL + b"2").decode(), (0, 0))  # A time of change that is set.
        self.assertEqual(cleanDirectory(self.directory, 60), 0)
        now = time.time()
        self.patch(time, "time", lambda: now + 100)
        self.assertEqual(cleanDirectory(self.directory, 1000), 0)
        self.assertEqual(cleanDirectory(self.directory, 60), 3)

    def test_half(self) -> None:
        """A journal that is old stays with a partial that is not."""
        self.make(PARTIAL + b"1", JOURNAL + b"1")
        real = os.stat

        def old(name: Any, **kwargs: Any) -> Any:
            status = list(real(name, **kwargs))
            if name.startswith(JOURNAL):
                status[9] = 0
            return os.stat_result(status)

        self.patch(leftovers, "os", _Stat(os, old))
        self.assertEqual(cleanDirectory(self.directory, 60), 0)
        self.assertEqual(len(self.names()), 2)

    def test_busy(self) -> None:
        """What somebody has open stays, and so does what belongs to it."""
        journal = self.open()
        self.make(CLAIM.partialName)
        single = create(self.directory, PARTIAL + b"1")
        self.assertEqual(cleanDirectory(self.directory, 0), 0)
        os.close(single)
        self.assertEqual(cleanDirectory(self.directory, 0), 1)
        journal.close(remove=False)
        self.assertEqual(cleanDirectory(self.directory, 0), 2)
        self.assertEqual(self.names(), [])

    def test_kinds(self) -> None:
        """Links and FIFOs go, and are not followed; a directory stays, and does not stop it."""
        outside = self.path.parent / f"{self.path.name}-outside"
        outside.write_bytes(b"outside")
        os.symlink(outside, self.path / (PARTIAL + b"1").decode())
        os.symlink("nowhere", self.path / (PARTIAL + b"2").decode())
        os.mkfifo(self.path / (JOURNAL + b"3").decode())
        os.mkdir(self.path / (PARTIAL + b"4").decode())
        self.make(PARTIAL + b"5")
        self.assertEqual(cleanDirectory(self.directory, 0), 4)
        self.assertEqual(self.names(), [PARTIAL + b"4"])
        self.assertEqual(outside.read_bytes(), b"outside")

    def test_published(self) -> None:
        """A file that is published while it is looked at is not removed."""
        self.make(PARTIAL + b"1")
        partial = self.path / (PARTIAL + b"1").decode()
        disk = FaultyDisk(self)

        def before(name: str, args: tuple[Any, ...]) -> None:
            if name == "flock":
                partial.rename(self.path / "file")
                partial.write_bytes(b"another")

        disk.before = before
        self.assertEqual(cleanDirectory(self.directory, 0), 0)
        self.assertEqual(self.names(), sorted([PARTIAL + b"1", b"file"]))

    def test_faults(self) -> None:
        """Whatever fails, nothing is raised but when the directory cannot be read; all that was
        opened is closed, and what is left is removed the next time."""
        disk = FaultyDisk(self)
        at = 0
        while True:
            at += 1
            disk.reset()
            self.make(PARTIAL + b"1", JOURNAL + b"1", PARTIAL + b"2")
            before = descriptors()
            disk.failAt(at, errno.EIO)
            try:
                cleanDirectory(self.directory, 0)
            except OSError:
                self.assertEqual(disk.calls, ["listdir"])
            self.assertEqual(descriptors(), before)
            reached = disk.reached
            disk.reset()
            cleanDirectory(self.directory, 0)
            self.assertEqual(self.names(), [])
            if not reached:
                break
        self.assertGreater(at, 10)


class _Stat:
    """The module C{os} with another C{stat}."""

    def __init__(self, real: Any, other: Any) -> None:
        self._real = real
        self.stat = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
