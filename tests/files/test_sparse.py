"""
Zeros that are written to a file of the local disk take no room there, and are read as zeros
whatever was there before.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.files.faultydisk import FaultyDisk, unsupported
from twisted_netsuite.errors import StorageFailed
from twisted_netsuite.files import partialfile
from twisted_netsuite.files.digests import CHUNK, combined, digestOf
from twisted_netsuite.files.leftovers import PARTIAL
from twisted_netsuite.files.partialfile import HOLE, PartialFile, zeroRuns
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.files.target import LocalTarget

#: Bytes of the blocks of most file systems.
BLOCK = 4096

#: Two chunks and a bit; in the first a block of data at its beginning and in its middle.
CONTENT = b"".join(
    (
        os.urandom(BLOCK) + bytes(CHUNK // 2 - BLOCK),
        os.urandom(BLOCK) + bytes(CHUNK // 2 - BLOCK),
        os.urandom(CHUNK),
        bytes(3 * HOLE + 7),
    )
)

#: What of it takes room: three runs of data, and what no whole hole is.
ROOM = 2 * HOLE + CHUNK + HOLE


def chunksOf(content: bytes) -> list[bytes]:
    """Cut a content into chunks."""
    return [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)]


def digestOfAll(content: bytes) -> bytes:
    """Digest a content as files are digested."""
    return combined([digestOf(chunk) for chunk in chunksOf(content)])


class SparseCase(SynchronousTestCase):
    """A directory whose file system can have holes."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.mkdir()
        self.file = self.path / "file"
        self.directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, self.directory)
        probe = self.path / "probe"
        with probe.open("wb") as file:
            file.truncate(CHUNK)
        if self.room(probe):
            raise SkipTest("this file system has no holes")
        probe.unlink()

    def room(self, path: Path) -> int:
        """Tell how many bytes of the disk a file takes."""
        return path.stat().st_blocks * 512

    def begin(self, content: bytes = CONTENT, **fields: Any) -> LocalTarget:
        """Begin to write a file."""
        wanted = Wanted(len(content), **{"source": b"one", "durable": False, **fields})
        target = LocalTarget.begin(self.directory, b"file", wanted, "somebody")
        self.addCleanup(target._close, False)
        return target

    def fill(self, target: LocalTarget, content: bytes = CONTENT, size: int = 30_001) -> None:
        """Write what is missing, as it comes: in pieces that have nothing to do with holes."""
        for index, chunk in enumerate(chunksOf(content)):
            if index in target.verified:
                continue
            pieces = [chunk[at : at + size] for at in range(0, len(chunk), size)]
            half = len(pieces) // 2
            target.write(index * CHUNK, pieces[:half])
            target.write(index * CHUNK + half * size, pieces[half:])
            target.chunkWritten(index, digestOf(chunk))

    def finish(self, target: LocalTarget, content: bytes = CONTENT) -> None:
        """Publish it, and see that it is right."""
        target.commit(digestOfAll(content))
        self.assertEqual(self.file.read_bytes(), content)
        self.assertEqual(os.listdir(self.path), ["file"])

    def dirty(self, target: LocalTarget, index: int) -> None:
        """Write what is no chunk of the file."""
        target.write(index * CHUNK, [b"\xff" * len(chunksOf(CONTENT)[index])])

    @property
    def partial(self) -> Path:
        """Where it is until it is published."""
        (name,) = self.path.glob(f"{PARTIAL.decode()}*")
        return name


class RoomTests(SparseCase):
    """What does not take room."""

    def test_published(self) -> None:
        """Zeros take no room in a published file, whether room was taken before or not, and
        however they came."""
        for size in (1000, 30_001, HOLE, CHUNK):
            for room in (None, BLOCK, len(CONTENT)):
                target = self.begin(room=room)
                self.fill(target, size=size)
                self.finish(target)
                # One that lies across two writes is written.
                self.assertLessEqual(self.room(self.file), ROOM + 3 * HOLE)

    def test_all(self) -> None:
        """A file of zeros takes no room, and has its size, also where nothing was to be kept."""
        for size in (HOLE, 5 * HOLE, 2 * CHUNK):
            for source in (None, b"one"):
                target = self.begin(bytes(size), source=source)
                for index, chunk in enumerate(chunksOf(bytes(size))):
                    target.write(index * CHUNK, [chunk])
                    target.chunkWritten(index, digestOf(chunk))
                self.finish(target, bytes(size))
                self.assertLessEqual(self.room(self.file), BLOCK)

    def test_dirty(self) -> None:
        """What was written before gives its room back, and is read as zeros."""
        for source in (None, b"one"):
            target = self.begin(source=source)
            for index in range(3):
                self.dirty(target, index)
            self.fill(target)
            self.finish(target)
            self.assertLessEqual(self.room(self.file), ROOM + 3 * HOLE)

    def test_resumed(self) -> None:
        """Another try takes no room again for the holes in what is there."""
        target = self.begin()
        self.fill(target)
        target.keep()
        before = self.room(self.partial)
        target = self.begin()
        self.assertEqual(set(target.verified), {0, 1, 2})
        self.assertLessEqual(self.room(self.partial), before)
        self.finish(target)

    def test_roomLeft(self) -> None:
        """Another try needs no more room than for what has not come, whatever holes are in what
        has."""
        target = self.begin(room=len(CONTENT))
        self.fill(target, CONTENT[: 2 * CHUNK])
        target.keep()
        status = os.statvfs(self.path)
        free = os.statvfs_result((*status[:4], 4 * HOLE // status.f_frsize, *status[5:]))
        self.patch(os, "fstatvfs", lambda file: free)
        target = self.begin(room=len(CONTENT))
        self.fill(target)
        self.finish(target)


class ResumeTests(SparseCase):
    """Zeros over what an earlier try has left."""

    def test_unfinished(self) -> None:
        """What was written of a chunk that was never right is not seen behind zeros."""
        target = self.begin()
        self.fill(target, CONTENT[:CHUNK])
        self.dirty(target, 1)
        self.dirty(target, 2)
        target.keep()
        target = self.begin()
        self.assertEqual(set(target.verified), {0})
        self.fill(target)
        self.finish(target)

    def test_killed(self) -> None:
        """Nor where the process was killed, and nothing was given back."""
        target = self.begin()
        self.fill(target, CONTENT[:CHUNK])
        self.dirty(target, 1)
        self.dirty(target, 2)
        target._close(False)
        target = self.begin()
        self.assertEqual(set(target.verified), {0})
        self.fill(target)
        self.finish(target)

    def test_tampered(self) -> None:
        """Bytes that somebody wrote into a hole are found, and are zeros again."""
        target = self.begin()
        self.fill(target)
        target.keep()
        with self.partial.open("r+b") as file:
            file.seek(2 * HOLE)
            file.write(b"bad")
        target = self.begin()
        self.assertEqual(set(target.verified), {1, 2})
        self.fill(target)
        self.finish(target)
        self.assertLessEqual(self.room(self.file), ROOM + 3 * HOLE)


class FaultTests(SparseCase):
    """File systems that do not do it."""

    def test_noHoles(self) -> None:
        """Where no holes can be made zeros are written, over anything; that is tried once."""
        disk = FaultyDisk(self)
        target = self.begin()
        for index in range(3):
            self.dirty(target, index)
        disk.before = unsupported("fallocate")
        disk.calls.clear()
        self.fill(target)
        self.assertEqual(disk.calls.count("fallocate"), 1)
        self.finish(target)

    def test_full(self) -> None:
        """Where a full disk has no room for the note of a hole zeros are written."""
        for number in (errno.ENOSPC, errno.EDQUOT):
            disk = FaultyDisk(self)
            target = self.begin()
            self.dirty(target, 0)

            def before(name: str, args: tuple[Any, ...], number: int = number) -> None:
                if name == "fallocate":
                    raise OSError(number, os.strerror(number))

            disk.before = before
            self.fill(target)
            self.finish(target)

    def test_failing(self) -> None:
        """A disk that fails to make a hole is one that fails."""
        disk = FaultyDisk(self)
        target = self.begin()

        def before(name: str, args: tuple[Any, ...]) -> None:
            if name == "fallocate":
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        disk.before = before
        self.assertRaises(StorageFailed, self.fill, target)


class FoundTests(SynchronousTestCase):
    """What is left out."""

    def test_data(self) -> None:
        """What has no long run of zeros is written by one call, whole."""
        disk = FaultyDisk(self)
        file = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, file)
        partial = PartialFile(file, CHUNK, b"name")
        almost = bytearray(HOLE)
        almost[-1] = 1
        for data in (
            b"x" * 8 * HOLE,
            b"x" + bytes(2 * HOLE - 2) + b"x",
            bytes(almost) * 4,
            bytes(HOLE - 1),
            b"",
        ):
            disk.calls.clear()
            partial.write(0, [data])
            self.assertEqual(disk.calls, ["pwritev"])
            self.assertEqual(os.pread(file, len(data), 0), data)

    @given(
        st.integers(0, 40),
        st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 60).map(bytes)), max_size=8),
    )
    def test_runs(self, offset: int, pieces: list[bytes]) -> None:
        """All whole holes are found, and nothing else, however the data is cut."""
        self.patch(partialfile, "HOLE", 16)
        self.patch(partialfile, "_ZEROS", bytes(16))
        data = b"".join(pieces)
        wanted = [
            at
            for at in range(0, offset + len(data), 16)
            if data[at - offset : at - offset + 16] == bytes(16) and at >= offset
        ]
        runs = zeroRuns(offset, pieces)
        found = [at for first, count in runs for at in range(first, first + count, 16)]
        self.assertEqual(found, wanted)
        self.assertEqual(len(runs), sum(at - 16 not in wanted for at in wanted))

    @settings(max_examples=50)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 100),
                st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 60).map(bytes))),
            ),
            max_size=5,
        )
    )
    def test_any(self, writes: list[tuple[int, list[bytes]]]) -> None:
        """Whatever is written over whatever, it is read as it was written last."""
        self.patch(partialfile, "HOLE", 16)
        self.patch(partialfile, "_ZEROS", bytes(16))
        size = max((at + sum(map(len, pieces)) for at, pieces in writes), default=0)
        file = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, file)
        partial = PartialFile(file, size, b"name")
        model = bytearray(size)
        for at, pieces in writes:
            partial.write(at, pieces)
            data = b"".join(pieces)
            model[at : at + len(data)] = data
        partial.resize()
        self.assertEqual(os.pread(file, size + 1, 0), bytes(model))
