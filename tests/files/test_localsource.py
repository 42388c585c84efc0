"""Sources on the disk, and what happens to their files meanwhile."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.files.storecontract import LONG, digestsOf
from tests.files.tree import descriptors, write
from twisted_netsuite.errors import LimitExceeded, SourceChanged, StorageFailed
from twisted_netsuite.files.digests import CHUNK
from twisted_netsuite.files.localsource import LocalSource, attributesOf

#: A time of change in the past, so that another one is no matter of the clock's steps.
OLD = 10**18


class SourceCase(SynchronousTestCase):
    """Has a file that is open."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        self.source = self.opened(LONG)

    def opened(self, content: bytes) -> LocalSource:
        """Write the file, and open it until the end of the test."""
        write(self.path, content)
        os.utime(self.path, ns=(OLD, OLD))
        return self.reopened()

    def reopened(self) -> LocalSource:
        """Open the file as it is."""
        descriptor = os.open(self.path, os.O_RDONLY)
        source = LocalSource(descriptor, os.fstat(descriptor), b"/a/\x1bname")
        self.addCleanup(source.close)
        return source


class ReadTests(SourceCase):
    def test_shrinks(self) -> None:
        """A file that is cut while it is read ends with that error, never with the process."""
        self.assertEqual(self.source.digest(1), digestsOf(LONG)[1])
        os.truncate(self.path, CHUNK + 5)
        self.assertEqual(self.source.read(0, CHUNK + 5), LONG[: CHUNK + 5])
        for index in (1, 2):
            error = self.assertRaises(SourceChanged, self.source.digest, index)
            self.assertIn("shorter", error.sentence)
            self.assertIn("'/a/\N{REPLACEMENT CHARACTER}name'", error.sentence)
        self.assertFalse(self.source.unchanged())

    def test_grows(self) -> None:
        """What is added to a file is not read, and it is noticed."""
        with open(self.path, "ab") as file:
            file.write(b"more")
        self.assertEqual(self.source.digest(2), digestsOf(LONG)[2])
        self.assertEqual(self.source.data(0), (0, len(LONG)))
        self.assertFalse(self.source.unchanged())

    def test_pieces(self) -> None:
        """What the system gives in pieces is put together."""
        pread = os.pread
        self.patch(os, "pread", lambda file, count, at: pread(file, min(count, 700_000), at))
        self.assertEqual(self.source.read(3, len(LONG) - 3), LONG[3:])
        self.assertEqual([self.source.digest(index) for index in range(3)], digestsOf(LONG))

    def test_failingDisk(self) -> None:
        """What the disk fails with is told, by every way to read."""

        def fail(*args: object) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        with open(self.path, "r+b") as file:
            # With a hole, or nobody would look for one.
            file.truncate(self.source.attributes.size + 16 * CHUNK)
        self.source = self.reopened()
        self.patch(os, "pread", fail)
        self.patch(os, "lseek", fail)
        for work in (self.source.read, self.source.data):
            args = (0, 1) if work == self.source.read else (0,)
            error = self.assertRaises(StorageFailed, work, *args)
            self.assertIn("input/output error", error.sentence)
        self.assertRaises(StorageFailed, self.source.digest, 0)

    def test_limit(self) -> None:
        """What the system has too little of is no fault of the disk."""

        def fail(*args: object) -> bytes:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")

        self.patch(os, "pread", fail)
        self.assertRaises(LimitExceeded, self.source.read, 0, 1)

    def test_close(self) -> None:
        """A source that is closed is closed once: its descriptor is another's by then."""
        before = descriptors()
        source = self.reopened()
        self.assertEqual(descriptors(), before + 1)
        source.close()
        taken = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, taken)
        source.close()
        os.fstat(taken)
        self.assertRaises(StorageFailed, source.read, 0, 1)


class HoleTests(SourceCase):
    def sparse(self, size: int, *data: tuple[int, bytes]) -> LocalSource:
        """Make a file with holes."""
        os.unlink(self.path)
        with open(self.path, "wb") as file:
            file.truncate(size)
            for offset, piece in data:
                file.seek(offset)
                file.write(piece)
        return self.reopened()

    def test_holes(self) -> None:
        """Data is found behind holes, and the end where there is no more."""
        size = 64 * CHUNK
        block = b"x" * CHUNK
        source = self.sparse(size, (8 * CHUNK, block), (32 * CHUNK, block))
        self.assertEqual(source.data(0), (8 * CHUNK, 9 * CHUNK))
        self.assertEqual(source.data(8 * CHUNK + 5), (8 * CHUNK + 5, 9 * CHUNK))
        self.assertEqual(source.data(9 * CHUNK), (32 * CHUNK, 33 * CHUNK))
        self.assertEqual(source.data(33 * CHUNK), (size, size))
        self.assertEqual(source.read(8 * CHUNK - 1, 2), b"\0x")

    def test_room(self) -> None:
        """The room that it takes is known without its holes, and is no more than its bytes."""
        source = self.sparse(64 * CHUNK, (8 * CHUNK, b"x" * CHUNK))
        self.assertTrue(CHUNK <= source.room < 2 * CHUNK)
        self.assertEqual(self.sparse(10, (0, b"x" * 10)).room, 10)

    def test_huge(self) -> None:
        """A sparse file of a terabyte is looked through at once."""
        size = 2**40
        source = self.sparse(size, (size - 4096, b"x" * 4096))
        self.assertEqual(source.data(0), (size - 4096, size))
        self.assertEqual(self.sparse(size).data(0), (size, size))

    def test_nowhere(self) -> None:
        """Where the file system knows no holes, everything is data."""
        for number in (errno.EINVAL, errno.EOPNOTSUPP):

            def fail(*args: object, number: int = number) -> int:
                raise OSError(number, os.strerror(number))

            self.patch(os, "lseek", fail)
            self.assertEqual(self.source.data(7), (7, len(LONG)))

    def test_grown(self) -> None:
        """Data that came behind the end as it was is none of it."""
        source = self.sparse(CHUNK, (0, b"x"))
        with open(self.path, "r+b") as file:
            file.seek(8 * CHUNK)
            file.write(b"x")
        start, end = source.data(CHUNK - 4096)
        self.assertTrue(start <= end <= CHUNK)
        self.assertEqual(source.data(CHUNK), (CHUNK, CHUNK))

    def test_cut(self) -> None:
        """A file that was cut has no more data; that it changed is told by another method."""
        source = self.sparse(64 * CHUNK, (32 * CHUNK, b"x"))
        os.truncate(self.path, 0)
        self.assertEqual(source.data(0), (64 * CHUNK, 64 * CHUNK))
        self.assertFalse(source.unchanged())


class UnchangedTests(SourceCase):
    def written(self, how: Callable[[], None]) -> None:
        """Expect that a change is noticed, also when the time of change is set back."""
        for back in (False, True):
            source = self.opened(LONG)
            self.assertTrue(source.unchanged())
            version = attributesOf(os.stat(self.path)).version
            self.assertEqual(version, source.attributes.version)
            how()
            if back:
                os.utime(self.path, ns=(OLD, OLD))
            self.assertFalse(source.unchanged())
            self.assertNotEqual(attributesOf(os.stat(self.path)).version, version)

    def test_written(self) -> None:
        """A byte that is overwritten is a change."""

        def overwrite() -> None:
            with open(self.path, "r+b") as file:
                file.write(b"x")

        self.written(overwrite)

    def test_cutAndFilled(self) -> None:
        """A file that is written anew, with as many bytes, has changed."""
        self.written(lambda: write(self.path, LONG))

    def test_mapped(self) -> None:
        """What is written through memory is a change once it was written."""

        def overwrite() -> None:
            with open(self.path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
                mapped[0] = 7
                mapped.flush()

        self.written(overwrite)

    def test_notContents(self) -> None:
        """A file that is replaced, linked, given to somebody or read is what it was."""
        other = self.path + ".other"

        def replace() -> None:
            write(other, b"x")
            os.rename(other, self.path)

        for how in (
            lambda: os.link(self.path, other),
            lambda: os.unlink(other),
            lambda: os.chmod(self.path, 0o600),
            replace,
        ):
            source = self.reopened()
            how()
            self.assertTrue(source.unchanged())


class AttributesTests(SourceCase):
    def test_bits(self) -> None:
        """Bits that give rights away are not told."""
        os.chmod(self.path, 0o7754)
        self.assertEqual(attributesOf(os.stat(self.path)).mode, 0o754)

    def test_room(self) -> None:
        """Of a large file that has holes it is told how much room it takes, of others not."""
        found = []
        for data, size in ((b"x" * 4096, 64 * CHUNK), (b"x" * 2 * CHUNK, 2 * CHUNK), (b"x", CHUNK)):
            with open(self.path, "wb") as file:
                file.write(data)
                file.truncate(size)
            found.append(attributesOf(os.stat(self.path)).room)
        assert found[0] is not None
        self.assertLess(found[0], CHUNK)
        self.assertEqual(found[1:], [None, None])

    def test_directory(self) -> None:
        """A directory has no size, and another version once something is made in it."""
        path = os.path.abspath(self.mktemp())
        os.mkdir(path)
        os.utime(path, ns=(OLD, OLD))
        before = attributesOf(os.stat(path))
        self.assertEqual((before.kind, before.size, before.mtime), ("directory", 0, OLD))
        write(os.path.join(path, "f"), b"")
        self.assertNotEqual(attributesOf(os.stat(path)).version, before.version)

    def test_early(self) -> None:
        """Times before 1970, and sizes beyond 4 GiB, are times and sizes."""
        os.truncate(self.path, 2**33 + 1)
        os.utime(self.path, ns=(0, -(10**18)))
        attributes = attributesOf(os.stat(self.path))
        self.assertEqual((attributes.size, attributes.mtime), (2**33 + 1, -(10**18)))

    def test_far(self) -> None:
        """A time that 64 bits do not hold is told as the last, or the first, that they hold; with
        the other attributes it is told all the same, of a file that can be read."""
        for when, mtime in ((10**19, 2**63 - 1), (2**63 - 1, 2**63 - 1), (-(10**20), -(2**63))):
            os.utime(self.path, ns=(0, when))
            status = os.stat(self.path)
            if status.st_mtime_ns == when:  # File systems have limits, too.
                self.assertEqual(attributesOf(status).mtime, mtime)
                self.assertEqual(self.reopened().attributes.mtime, mtime)
