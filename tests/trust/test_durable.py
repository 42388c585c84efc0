"""
Files that appear whole or not at all, in a real directory on a system that fails.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.trust.authorities import FailingSystem, fullAt, killedAt, underSystem, unfinished
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.trust import durable
from twisted_netsuite.trust.durable import DurableDirectory


class DurableTests(SynchronousTestCase):
    """L{DurableDirectory}."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.mkdir(0o700)
        self.directory = self.opened()

    def opened(self) -> DurableDirectory:
        """Open the directory once more."""
        directory = DurableDirectory(self.path)
        self.addCleanup(directory.__exit__, None, None, None)
        return directory

    def put(self, data: bytes, replace: bool = False) -> None:
        """Put a file into the directory."""
        with self.directory.draft("file", data) as draft:
            self.directory.publish(draft, replace)

    def refused(self, replace: bool = False) -> str:
        """Let a file be refused."""
        error: ConfigurationError = self.assertRaises(ConfigurationError, self.put, b"new", replace)
        return error.sentence

    def test_published(self) -> None:
        """A file is there with all of its content, and nothing beside it."""
        self.put(b"content" * 100_000)
        self.assertEqual(self.directory.read("file"), b"content" * 100_000)
        self.assertEqual(os.listdir(self.path), ["file"])

    def test_secretFromTheStart(self) -> None:
        """Before a file has its mode it is its owner's alone, whatever the umask is."""
        modes: list[int] = []

        def look(call: int, name: str) -> None:
            modes.extend(stat.S_IMODE(each.stat().st_mode) for each in unfinished(self.path))

        self.addCleanup(os.umask, os.umask(0))
        self.patch(durable, "os", FailingSystem(look))
        with self.directory.draft("file", b"x", 0o644) as draft:
            self.directory.publish(draft)
        self.assertEqual(modes[:2], [0o600, 0o600])
        self.assertEqual(stat.S_IMODE((self.path / "file").stat().st_mode), 0o644)

    def test_shortWrites(self) -> None:
        """A system that takes a byte at a time gets them all."""
        self.patch(os, "write", lambda fd, data: os.pwrite(fd, data[:1], _end(fd)))
        self.put(b"content")
        self.assertEqual(self.directory.read("file"), b"content")

    def test_taken(self) -> None:
        """What is there already stays, even if it is only a link to nothing."""
        for make in (
            lambda file: file.write_bytes(b"old"),
            lambda file: file.symlink_to("nowhere"),
            lambda file: file.mkdir(),
        ):
            make(self.path / "file")
            before = os.lstat(self.path / "file")
            self.assertIn("file exists", self.refused())
            self.assertEqual(os.lstat(self.path / "file"), before)
            self.assertEqual(unfinished(self.path), [])
            os.rename(self.path / "file", self.mktemp())

    def test_replaced(self) -> None:
        """A link that is replaced is no way to a file elsewhere."""
        elsewhere = Path(self.mktemp())
        elsewhere.write_bytes(b"old")
        (self.path / "file").symlink_to(elsewhere.absolute())
        self.put(b"new", replace=True)
        self.assertEqual(elsewhere.read_bytes(), b"old")
        self.assertEqual((self.path / "file").read_bytes(), b"new")
        self.assertFalse((self.path / "file").is_symlink())

    def test_full(self) -> None:
        """A full disk, at whichever call, leaves nothing, and what was there as it was."""
        for number in range(1, 6):
            failed = underSystem(self, fullAt(number), lambda: self.put(b"new"))
            self.assertEqual((failed, os.listdir(self.path)), (True, []), number)
        self.put(b"old")
        for number in range(1, 5):
            failed = underSystem(self, fullAt(number), lambda: self.put(b"new", replace=True))
            self.assertEqual((failed, self.directory.read("file")), (True, b"old"), number)
            self.assertEqual(os.listdir(self.path), ["file"])

    def test_killed(self) -> None:
        """A run that is killed leaves all of a file or nothing; the next clears away its rest."""
        number = 0
        failed = True
        while failed:
            number += 1
            self.put(b"old", replace=True)
            system = killedAt(number)
            failed = underSystem(self, system, lambda: self.put(b"new", replace=True))
            self.assertIn(self.directory.read("file"), (b"old", b"new"))
            with DurableDirectory(self.path) as following:
                following.lock()
            self.assertEqual(os.listdir(self.path), ["file"])
        self.assertGreater(number, 5)

    def test_sentences(self) -> None:
        """A failure of the system is a sentence with the file, the reason and what to do."""
        sentence = self.assertRaises(
            ConfigurationError, DurableDirectory, self.path / "none"
        ).sentence
        self.assertIn("none' cannot be opened: no such file or directory; give", sentence)
        (self.path / "plain").write_bytes(b"")
        sentence = self.assertRaises(
            ConfigurationError, DurableDirectory, self.path / "plain"
        ).sentence
        self.assertIn("plain' cannot be opened: not a directory", sentence)
        self.patch(durable, "os", fullAt(2))
        self.assertEqual(
            self.refused(),
            f"'{self.path}/file' cannot be written: no space left on device; make room, and run "
            "this again.",
        )

    def test_locked(self) -> None:
        """While one has the lock no other gets it; when it is closed, the next one does."""
        self.patch(durable, "LOCK_TIMEOUT", 0.0)
        with DurableDirectory(self.path) as first:
            first.lock()
            for shared in (False, True):
                error = self.assertRaises(ConfigurationError, self.directory.lock, shared)
                self.assertIn("has locked", error.sentence)
        self.directory.lock()

    def test_readersTogether(self) -> None:
        """Readers do not keep each other out, only writers."""
        self.patch(durable, "LOCK_TIMEOUT", 0.0)
        self.directory.lock(shared=True)
        self.opened().lock(shared=True)
        self.assertRaises(ConfigurationError, self.opened().lock)

    def test_readerChangesNothing(self) -> None:
        """A reader does not clear away what a writer might yet need."""
        (self.path / f"{durable.UNFINISHED}x").write_bytes(b"")
        self.directory.lock(shared=True)
        self.assertEqual(len(unfinished(self.path)), 1)

    def test_read(self) -> None:
        """What is not there is L{None}; what is no file is refused at once, even a FIFO."""
        self.assertIsNone(self.directory.read("file"))
        os.mkfifo(self.path / "fifo")
        os.mkdir(self.path / "folder")
        for name in ("fifo", "folder"):
            error = self.assertRaises(ConfigurationError, self.directory.read, name)
            self.assertIn(f"{name}' is no file", error.sentence)

    def test_private(self) -> None:
        """A secret that others can read or write is refused, with its mode."""
        self.put(b"key")
        self.assertEqual(self.directory.read("file", private=True), b"key")
        for mode in (0o640, 0o604, 0o620, 0o601):
            os.chmod(self.path / "file", mode)
            error = self.assertRaises(ConfigurationError, self.directory.read, "file", True)
            self.assertIn(f"by its mode 0{mode:o}; run chmod 600", error.sentence)

    def test_othersMayWrite(self) -> None:
        """A directory that others may write to is refused; one that they may read is not."""
        for mode, right in ((0o700, True), (0o755, True), (0o770, False), (0o702, False)):
            os.chmod(self.path, mode)
            if right:
                self.directory.refuseOthers()
            else:
                self.assertRaises(ConfigurationError, self.directory.refuseOthers)

    def test_link(self) -> None:
        """A directory within is never one that a link leads to."""
        elsewhere = Path(self.mktemp())
        elsewhere.mkdir(0o700)
        os.symlink(os.path.abspath(elsewhere), self.path / "inner")
        os.symlink("nowhere", self.path / "dangling")
        for name in ("inner", "dangling"):
            error = self.assertRaises(ConfigurationError, self.directory.make, name)
            self.assertEqual(
                error.sentence,
                f"'{self.path}/{name}' is a link, which may lead out of '{self.path}'; put the "
                "directory itself in its place.",
            )

    def test_lateLink(self) -> None:
        """A link that appears at the last moment is not followed either."""
        os.symlink(os.path.abspath(self.mktemp()), self.path / "inner")
        os.mkdir(os.readlink(self.path / "inner"))
        self.patch(DurableDirectory, "_refuseLink", lambda *args: None)
        error = self.assertRaises(ConfigurationError, self.directory.make, "inner")
        self.assertIn("inner' cannot be opened: ", error.sentence)

    def test_foreign(self) -> None:
        """A directory of another account is refused, also within one's own."""
        if os.geteuid():
            raise SkipTest("only root can give a directory away")
        self.directory.make("inner").__exit__(None, None, None)
        os.chown(self.path / "inner", 12345, -1)
        error = self.assertRaises(ConfigurationError, self.directory.make, "inner")
        self.assertIn("inner' belongs to another account (uid 12345), which could", error.sentence)
        self.directory.refuseForeign()
        os.chown(self.path, 12345, -1)
        self.assertRaises(ConfigurationError, self.directory.refuseForeign)

    def test_make(self) -> None:
        """A directory within is made for its owner alone, and found when it is there."""
        for _ in range(2):
            with self.directory.make("inner") as inner:
                self.assertEqual(inner.path, self.path / "inner")
        self.assertEqual(stat.S_IMODE((self.path / "inner").stat().st_mode), 0o700)


def _end(descriptor: int) -> int:
    return os.fstat(descriptor).st_size
