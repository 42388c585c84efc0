"""
Kept output: a model of bytes, whatever is appended, released, read and opened again; on disks that
fail, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError, LimitExceeded
from twisted_netsuite.rexec import spool as module
from twisted_netsuite.rexec.spool import (
    MIN_SEGMENT,
    SEGMENTS,
    Spool,
    SpoolDamaged,
    SpoolFull,
    removeSpools,
)

#: Small enough that a few bytes fill segments.
SEGMENT, LIMIT = 8, 40


def stream(start: int, end: int) -> bytes:
    """Make a part of a stream in which no two places nearby look alike."""
    return bytes((place * 31 + place // 251) % 256 for place in range(start, end))


class SpoolCase(SynchronousTestCase):
    """A spool with segments of 8 bytes."""

    def setUp(self) -> None:
        self.patch(module, "MIN_SEGMENT", SEGMENT)
        self.directory = self.mktemp()
        self.spool = self.make()

    def make(self, limit: int = LIMIT, start: int = 0) -> Spool:
        """Begin a spool."""
        spool = Spool(self.directory, "stdout", limit, start)
        self.addCleanup(spool.close)
        return spool

    def reopen(self, limit: int = LIMIT, start: int = 0) -> Spool:
        """Find what the spool has left, as after a crash."""
        spool = Spool.open(self.directory, "stdout", limit, start)
        self.addCleanup(spool.close)
        return spool

    def append(self, count: int, spool: Spool | None = None) -> None:
        """Append the next bytes of the stream."""
        spool = spool or self.spool
        spool.append(stream(spool.end, spool.end + count))

    def files(self) -> list[str]:
        """List the segments."""
        return sorted(os.listdir(self.directory))

    def onDisk(self) -> bytes:
        """Read all segments as they are."""
        return b"".join((Path(self.directory) / name).read_bytes() for name in self.files())

    def assertHolds(self, spool: Spool, first: int, end: int) -> None:
        """A spool has just these bytes of the stream, for whoever reads, and on the disk."""
        self.assertEqual((spool.first, spool.end), (first, end))
        self.assertEqual(spool.read(first, end - first + 1), stream(first, end))
        self.assertEqual(self.onDisk(), stream(first, end))


class AppendTests(SpoolCase):
    """L{Spool.append} and L{Spool.read}."""

    def test_nothing(self) -> None:
        """A stream that never came leaves nothing on the disk, and reads as empty."""
        self.append(0)
        self.assertEqual((self.spool.first, self.spool.end, self.spool.room()), (0, 0, LIMIT))
        self.assertEqual(self.spool.read(0, 10), b"")
        self.assertFalse(os.path.exists(self.directory))

    def test_parts(self) -> None:
        """Every part of what was appended can be read, from every place and of every size."""
        for count in (1, 7, 9, 3, 20):
            self.append(count)
        for start in range(41):
            for size in range(42):
                self.assertEqual(self.spool.read(start, size), stream(start, min(40, start + size)))

    def test_segments(self) -> None:
        """Segments are named by their first byte, and none is larger than a segment."""
        self.append(20)
        self.assertEqual(self.files(), [f"stdout.{place:020}" for place in (0, 8, 16)])
        sizes = [os.path.getsize(os.path.join(self.directory, name)) for name in self.files()]
        self.assertEqual(sizes, [8, 8, 4])

    def test_segmentSize(self) -> None:
        """A large spool has sixteen segments, a small one none below 64 KiB."""
        self.patch(module, "MIN_SEGMENT", MIN_SEGMENT)
        for limit, files in ((MIN_SEGMENT * 4, 4), (MIN_SEGMENT * SEGMENTS * 2, SEGMENTS)):
            spool = self.make(limit)
            spool.append(b"x" * limit)
            self.assertEqual(len(self.files()), files)
            spool.remove()

    def test_start(self) -> None:
        """A spool can begin in the middle of a stream."""
        spool = self.make(start=1000)
        self.append(12, spool)
        self.assertHolds(spool, 1000, 1012)
        self.assertHolds(self.reopen(), 1000, 1012)

    def test_private(self) -> None:
        """Nobody but the owner can read what is kept, whatever the umask is."""
        self.addCleanup(os.umask, os.umask(0))
        self.append(1)
        self.assertEqual(stat.S_IMODE(os.stat(self.directory).st_mode), 0o700)
        file = os.path.join(self.directory, self.files()[0])
        self.assertEqual(stat.S_IMODE(os.stat(file).st_mode), 0o600)

    def test_outside(self) -> None:
        """What is not kept any more, and what has not come yet, is no byte of anything."""
        spool = self.make(start=10)
        self.append(5, spool)
        self.assertEqual(spool.read(15, 5), b"")
        for place in (-1, 0, 9, 16):
            self.assertRaises(ValueError, spool.read, place, 1)

    def test_full(self) -> None:
        """What exceeds the limit is refused as a whole, in a sentence, and what fits is not."""
        self.append(35)
        error: LimitExceeded = self.assertRaises(SpoolFull, self.append, 6)
        self.assertEqual(
            error.sentence,
            "There is no room for 6 more bytes of stdout, as 35 of 40 wait to be taken; take them "
            "first.",
        )
        self.assertHolds(self.spool, 0, 35)
        self.append(5)
        self.assertEqual(self.spool.room(), 0)
        self.assertHolds(self.spool, 0, 40)

    def test_twoStreams(self) -> None:
        """Both streams of a command are kept in one directory and know nothing of each other."""
        other = Spool(self.directory, "stderr", LIMIT)
        self.addCleanup(other.close)
        self.append(20)
        other.append(b"error")
        self.assertEqual(Spool.open(self.directory, "stderr", LIMIT).read(0, 9), b"error")
        self.assertEqual(self.reopen().end, 20)
        self.spool.remove()
        self.assertEqual(other.read(0, 9), b"error")
        other.remove()
        self.assertFalse(os.path.exists(self.directory))

    def test_descriptors(self) -> None:
        """However much is written and read, one file is open for each; after closing none is."""
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(200):
            self.append(7)
            self.spool.read(self.spool.first, LIMIT)
            self.spool.release(self.spool.end)
            self.assertLessEqual(len(os.listdir("/proc/self/fd")), before + 2)
        self.spool.close()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_closed(self) -> None:
        """A spool that was closed is opened again by whoever needs it."""
        self.append(5)
        self.spool.close()
        self.spool.close()
        self.append(5)
        self.spool.close()
        self.assertHolds(self.spool, 0, 10)


class ReleaseTests(SpoolCase):
    """L{Spool.release} and L{Spool.hold}."""

    def test_stays(self) -> None:
        """What was taken stays readable while nobody needs its space."""
        self.append(40)
        self.spool.release(40)
        self.assertHolds(self.spool, 0, 40)
        self.assertEqual(self.spool.room(), 40)

    def test_dropped(self) -> None:
        """The oldest segments go when their space is needed, and no more of them than needed."""
        self.append(40)
        self.spool.release(40)
        self.append(1)
        self.assertHolds(self.spool, 8, 41)
        self.append(7)
        self.assertHolds(self.spool, 8, 48)
        self.append(9)
        self.assertHolds(self.spool, 24, 57)

    def test_onlyReleased(self) -> None:
        """A byte that was not taken is never dropped, and yet each other byte makes room."""
        self.append(40)
        self.spool.release(15)
        self.assertEqual(self.spool.room(), 15)
        self.append(15)
        self.assertHolds(self.spool, 8, 55)
        self.assertEqual(self.spool.room(), 0)

    def test_bounded(self) -> None:
        """A stream without end never has more on the disk than the limit and one segment."""
        for limit in (1, 7, 8, 9, LIMIT):
            self.spool.remove()
            self.spool = self.make(limit)
            for count in range(300):
                self.append(min(self.spool.room(), 1 + count % 13))
                self.assertLessEqual(len(self.onDisk()), limit + SEGMENT)
                self.spool.release(self.spool.end - count % 3 * (limit // 3))

    def test_backwards(self) -> None:
        """A place that was released before says nothing new."""
        self.append(20)
        self.spool.release(15)
        self.spool.release(3)
        self.assertEqual(self.spool.room(), 35)

    def test_behindTheEnd(self) -> None:
        """What has not come can not have been taken."""
        self.append(5)
        self.assertRaises(ValueError, self.spool.release, 6)
        self.assertEqual(self.spool.room(), 35)

    def test_hold(self) -> None:
        """For one who reads once more all stays until it is taken again."""
        self.append(40)
        self.spool.release(40)
        self.spool.hold(3)
        self.assertEqual(self.spool.room(), 3)
        self.append(3)
        self.assertRaises(SpoolFull, self.append, 1)
        self.assertHolds(self.spool, 0, 43)
        self.spool.release(43)
        self.append(13)
        self.assertHolds(self.spool, 16, 56)

    def test_holdMoreThanFits(self) -> None:
        """When more is kept than the limit there is no room, and not less than none."""
        self.append(40)
        self.spool.release(15)
        self.append(15)
        self.spool.hold(8)
        self.assertEqual(self.spool.room(), 0)
        self.assertRaises(SpoolFull, self.append, 1)

    def test_holdGone(self) -> None:
        """What was dropped cannot be promised."""
        self.append(40)
        self.spool.release(40)
        self.append(1)
        self.assertRaises(ValueError, self.spool.hold, 7)
        self.assertRaises(ValueError, self.spool.hold, 42)

    def test_readerOfTheDropped(self) -> None:
        """A file that is dropped while it was being read is closed, and the next is read right."""
        self.append(40)
        self.spool.read(0, 4)
        self.spool.release(40)
        self.append(8)
        self.assertEqual(self.openButGone(), [])
        self.assertEqual(self.spool.read(8, 4), stream(8, 12))

    def openButGone(self) -> list[str]:
        """List files that take space without a name."""
        links = []
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                links.append(str(each.readlink()))
        return [link for link in links if "stdout." in link and link.endswith("(deleted)")]


class ReopenTests(SpoolCase):
    """L{Spool.open}."""

    def test_nothing(self) -> None:
        """Where nothing was kept a spool begins where its owner says."""
        spool = self.reopen(start=7)
        self.assertEqual((spool.first, spool.end), (7, 7))
        os.mkdir(self.directory)
        spool = self.reopen(start=7)
        self.append(3, spool)
        self.assertHolds(self.reopen(), 7, 10)

    def test_everyLength(self) -> None:
        """After a crash a spool of any length is what it was, and goes on."""
        for count in range(1, 41):
            self.append(1)
            again = self.reopen()
            self.assertHolds(again, 0, count)
            self.assertEqual(again.room(), LIMIT - count)
        again.release(40)
        self.append(20, again)
        self.assertHolds(self.reopen(), 24, 60)

    def test_otherLimit(self) -> None:
        """A server with another limit goes on with what was kept by the old one."""
        self.append(40)
        for limit, room in ((20, 0), (400, 360)):
            again = self.reopen(limit)
            self.assertHolds(again, 0, 40)
            self.assertEqual(again.room(), room)
        self.append(300, again)
        self.assertHolds(again, 0, 340)

    def test_crashBeforeFirstByte(self) -> None:
        """A file that was made and not written to is no hole, wherever it is."""
        os.mkdir(self.directory)
        Path(self.directory, f"stdout.{30:020}").touch()
        again = self.reopen()
        self.assertEqual((again.first, again.end), (30, 30))
        self.append(8, again)
        Path(self.directory, f"stdout.{38:020}").touch()
        again = self.reopen()
        self.assertHolds(again, 30, 38)
        self.append(8, again)
        self.assertHolds(again, 30, 46)

    def test_missing(self) -> None:
        """A spool of which a part in the middle is gone is refused, and says which."""
        self.append(30)
        os.unlink(os.path.join(self.directory, f"stdout.{8:020}"))
        self.assertDamaged("of stdout the bytes between 8 and 16 are missing; remove the directory")

    def test_torn(self) -> None:
        """A spool of which a segment in the middle is short or long is refused."""
        self.append(30)
        middle = os.path.join(self.directory, f"stdout.{8:020}")
        os.truncate(middle, 5)
        self.assertDamaged("the bytes between 13 and 16 are missing")
        os.truncate(middle, 10)
        self.assertDamaged("the bytes between 16 and 18 are there twice")

    def test_tornEnd(self) -> None:
        """What a failing machine has not written of the end is not there, and that is all."""
        self.append(30)
        os.truncate(os.path.join(self.directory, f"stdout.{24:020}"), 2)
        self.assertHolds(self.reopen(), 0, 26)

    def test_noFile(self) -> None:
        """What is no file is not followed or read."""
        self.append(5)
        path = Path(self.directory, f"stdout.{5:020}")
        path.symlink_to("/etc/passwd")
        self.assertDamaged("is no regular file")
        path.unlink()
        path.mkdir()
        self.assertDamaged("is no regular file")

    def test_noDirectory(self) -> None:
        """A directory that cannot be read is refused in a sentence that names it."""
        Path(self.directory).touch()
        self.assertDamaged("not a directory; mend that")

    def test_strangers(self) -> None:
        """Files with other names are no part of it."""
        self.append(5)
        for name in ("stdout", "stdout.5", "stdout.x", f"stdin.{5:020}", f"stdout.{5:020}.bak"):
            Path(self.directory, name).write_bytes(b"no")
        self.assertEqual(self.reopen().read(0, 99), stream(0, 5))

    def assertDamaged(self, reason: str) -> None:
        """The spool is refused for a reason."""
        error: ConfigurationError = self.assertRaises(SpoolDamaged, self.reopen)
        self.assertIn(self.directory, error.sentence)
        self.assertIn(reason, error.sentence)


class FaultTests(SpoolCase):
    """A disk that fails at any call."""

    def breakCall(self, name: str, at: int, number: int, half: bool = False) -> list[int]:
        """Let one call fail, counted from 0; C{write} may take half of it first."""
        calls: list[int] = []
        real: Callable[..., Any] = getattr(os, name)

        def failing(*args: Any, **more: Any) -> Any:
            calls.append(len(calls))
            if half and len(calls) - 1 == at - 1:
                return real(args[0], args[1][: len(args[1]) // 2])
            if len(calls) - 1 == at:
                raise OSError(number, os.strerror(number))
            return real(*args, **more)

        self.patch(os, name, failing)
        return calls

    def test_everyCall(self) -> None:
        """Whichever call fails: nothing of the piece is kept, nothing before it is lost."""
        for name, number in (
            ("write", errno.EIO),
            ("write", errno.ENOSPC),
            ("open", errno.EMFILE),
            ("open", errno.ENOSPC),
            ("mkdir", errno.EACCES),
            ("unlink", errno.EIO),
        ):
            for at in range(5):
                for before in (0, 3, 8, 11, 30):
                    self.tryFailure(name, number, at, before)

    def tryFailure(self, name: str, number: int, at: int, before: int) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        spool = self.make()
        self.append(before, spool)
        spool.release(before)
        calls = self.breakCall(name, at, number, half=name == "write" and at > 0)
        try:
            self.append(25, spool)
        except OSError as error:
            self.assertEqual(error.errno, number)
            expected = before
        else:
            expected = before + 25
        finally:
            self._cleanPatches()
        self.assertEqual(spool.end, expected, (name, number, at, before, calls))
        again = self.reopen() if os.path.exists(self.directory) else spool
        self.assertEqual((again.end, again.first), (expected, spool.first))
        if expected or os.path.exists(self.directory):
            self.assertHolds(spool, spool.first, expected)
        self.append(10, spool)
        self.assertHolds(spool, spool.first, expected + 10)

    def _cleanPatches(self) -> None:
        """Give the system back."""
        self._undo()

    def patch(self, obj: Any, attribute: str, value: Any) -> Any:
        """Patch, and be able to undo what was patched of C{os} before the test's end."""
        if obj is os:
            original = getattr(os, attribute)
            self._undo = lambda: setattr(os, attribute, original)
            self.addCleanup(self._undo)
            setattr(os, attribute, value)
            return None
        return super().patch(obj, attribute, value)

    def test_devFull(self) -> None:
        """A full disk is told as the system tells it, and the stream goes on once it has room."""
        self.append(12)
        with open("/dev/full", "wb") as full:
            real = os.write
            self.patch(os, "write", lambda descriptor, data: real(full.fileno(), data))
            error = self.assertRaises(OSError, self.append, 10)
            self._undo()
        self.assertEqual(error.errno, errno.ENOSPC)
        self.assertHolds(self.spool, 0, 12)
        self.append(10)
        self.assertHolds(self.spool, 0, 22)

    def test_fullDiskTakesReleased(self) -> None:
        """On a full disk what was taken makes room at once for what comes."""
        self.append(30)
        self.spool.release(20)
        real, files = os.write, self.files
        self.patch(os, "write", lambda fd, data: real(fd, data) if len(files()) < 4 else _full())
        self.append(3)
        self._undo()
        self.assertHolds(self.spool, 16, 33)

    def test_byteAtATime(self) -> None:
        """A system that takes one byte at a time gets them all."""
        real = os.write
        self.patch(os, "write", lambda descriptor, data: real(descriptor, data[:1]))
        self.append(30)
        self._undo()
        self.assertHolds(self.spool, 0, 30)

    def test_truncationFails(self) -> None:
        """What cannot be taken back is not read, and taken back before the next piece."""
        self.append(5)
        real, left = os.write, iter([2, 0])

        def half(descriptor: int, data: bytes) -> int:
            return real(descriptor, data[:2]) if next(left) else _full()

        self.patch(os, "write", half)
        undoWrite = self._undo
        self.patch(os, "truncate", lambda path, size: _full())
        self.assertRaises(OSError, self.append, 10)
        undoWrite()
        self.assertEqual((self.spool.end, self.spool.read(0, 99)), (5, stream(0, 5)))
        self.assertRaises(OSError, self.append, 1)
        self._undo()
        self.append(10)
        self.assertHolds(self.spool, 0, 15)

    def test_changed(self) -> None:
        """Output that something else has cut or lengthened is not gone on with."""
        self.append(14)
        file = os.path.join(self.directory, f"stdout.{8:020}")
        for size in (2, 7):
            self.spool.close()
            os.truncate(file, size)
            error = self.assertRaises(OSError, self.append, 1)
            self.assertEqual(error.errno, errno.EIO)

    def test_readChanged(self) -> None:
        """Output that is not there any more is an error for whoever reads, not the end."""
        self.append(14)
        file = os.path.join(self.directory, f"stdout.{0:020}")
        os.truncate(file, 2)
        error = self.assertRaises(OSError, self.spool.read, 0, 14)
        self.assertIn("Something else has changed", str(error))
        self.spool.close()
        os.unlink(file)
        self.assertRaises(FileNotFoundError, self.spool.read, 0, 14)

    def test_foreignFile(self) -> None:
        """A file that is there already is not written to."""
        os.mkdir(self.directory)
        path = Path(self.directory, f"stdout.{0:020}")
        path.write_bytes(b"other")
        self.assertRaises(FileExistsError, self.append, 3)
        self.assertEqual((self.spool.end, path.read_bytes()), (0, b"other"))


def _full() -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class RemoveTests(SpoolCase):
    """L{Spool.remove} and L{removeSpools}."""

    def test_remove(self) -> None:
        """Nothing stays, and it can be done again."""
        self.append(30)
        self.spool.remove()
        self.assertFalse(os.path.exists(self.directory))
        self.spool.remove()
        self.assertEqual((self.spool.first, self.spool.end, self.spool.room()), (30, 30, 40))

    def test_removedBySomebody(self) -> None:
        """What somebody else has removed is no failure."""
        self.append(30)
        shutil.rmtree(self.directory)
        self.spool.remove()

    def test_removeSpools(self) -> None:
        """The spools of a command go with their directory, and it need not be there."""
        self.append(30)
        Spool(self.directory, "stderr", LIMIT).append(b"x")
        removeSpools(self.directory)
        self.assertFalse(os.path.exists(self.directory))
        removeSpools(self.directory)

    def test_keepsStrangers(self) -> None:
        """What no spool has written is not removed."""
        self.append(30)
        Path(self.directory, "notes").touch()
        removeSpools(self.directory)
        self.assertEqual(self.files(), ["notes"])
        self.spool.remove()
        self.assertEqual(self.files(), ["notes"])

    def test_failure(self) -> None:
        """What cannot be removed is told."""
        Path(self.directory).touch()
        self.assertRaises(NotADirectoryError, removeSpools, self.directory)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 60)),
        st.tuples(st.just("release"), st.integers(0, 60)),
        st.tuples(st.just("hold"), st.integers(0, 60)),
        st.tuples(st.just("read"), st.integers(0, 60)),
        st.tuples(st.just("reopen"), st.booleans()),
        st.tuples(st.just("fail"), st.integers(0, 6)),
    ),
    max_size=60,
)


class ModelTests(SpoolCase):
    """A spool beside a model that keeps all of the stream."""

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from([1, 7, 8, 20, LIMIT, 200]), STEPS)
    def test_model(self, limit: int, steps: list[tuple[str, int]]) -> None:
        """Nothing is lost that was not released, nothing doubled, whatever happens when."""
        self.spool.remove()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.spool, released = Spool(self.directory, "stdout", limit), 0
        for step, value in steps:
            spool, end, first = self.spool, self.spool.end, self.spool.first
            match step:
                case "append":
                    fits = value <= max(0, limit - (end - released))
                    try:
                        self.append(value)
                    except SpoolFull:
                        self.assertFalse(fits)
                    else:
                        self.assertTrue(fits)
                        self.assertEqual(spool.end, end + value)
                case "release":
                    released = max(released, first + (end - first) * value // 60)
                    spool.release(released)
                case "hold":
                    place = first + (end - first) * value // 60
                    released = min(released, place)
                    spool.hold(place)
                case "read":
                    place = first + (end - first) * value // 60
                    self.assertEqual(spool.read(place, 17), stream(place, min(end, place + 17)))
                case "reopen":
                    spool.close()
                    self.spool = spool = Spool.open(self.directory, "stdout", limit)
                    self.assertEqual((spool.first, spool.end), (first, end))
                    released = first
                case "fail":
                    self.failing(value)
                    self.assertEqual(spool.end, end)
            self.assertLessEqual(spool.first, released)
            self.assertEqual(spool.room(), max(0, limit - (spool.end - released)))
            self.assertLessEqual(spool.end - spool.first, limit + SEGMENT)
        if self.spool.end:
            self.assertHolds(self.spool, self.spool.first, self.spool.end)
        self.spool.close()

    def failing(self, calls: int) -> None:
        """Append as much as fits to a disk that fails after some calls of C{write}."""
        real, left = os.write, iter(range(calls))

        def write(descriptor: int, data: bytes) -> int:
            if next(left, None) is None:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(descriptor, data[:1])

        count = self.spool.room()
        if count <= calls:
            return
        os.write = write  # type: ignore[assignment]
        try:
            self.assertRaises(OSError, self.append, count)
        finally:
            os.write = real
