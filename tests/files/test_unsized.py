"""
Files that say that they are empty, and are not.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.files.fileserver import Immediate
from tests.files.tree import descriptors
from twisted_netsuite.errors import StorageFailed
from twisted_netsuite.files import unsized as module
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.localsource import LocalSource
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.moving import Local
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.putfile import openSource
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.small import Small
from twisted_netsuite.files.store import Attributes, Source, Wanted
from twisted_netsuite.files.unsized import unsized


class Silent(LocalStore):
    """A directory whose files do not say how large they are."""

    def readWhole(self, parts: Parts, limit: int) -> tuple[Attributes, bytes] | LocalSource:
        """Open, and believe what it says."""
        source = self.source(parts)
        source.close()
        return source.attributes, b""

    def source(self, parts: Parts) -> LocalSource:
        """Open."""
        source = super().source(parts)
        source.attributes = source.attributes._replace(size=0)
        return source


class UnsizedTests(SynchronousTestCase):
    """What is sent of them."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.mkdir()
        self.store = Silent(Root(str(self.path)))
        self.addCleanup(self.store.close)

    def open(self, store: Any, name: bytes) -> Small | Source:
        """Open a file as it is opened to be sent."""
        return openSource(Local(store, (name,), Immediate()))

    def test_whole(self) -> None:
        """All that is in them is sent, with their own mode and time, and nothing stays open."""
        for size in (1, 1000, CHUNK, 2 * CHUNK + 5):
            content = os.urandom(size)
            file = self.path / "file"
            file.write_bytes(content)
            file.chmod(0o640)
            os.utime(file, ns=(0, 10**18 + 1))
            before = descriptors()
            found = self.open(self.store, b"file")
            assert isinstance(found, LocalSource)
            own = found.attributes
            self.assertEqual((own.size, own.mode, own.mtime), (size, 0o640, 10**18 + 1))
            self.assertEqual(found.read(0, size), content)
            self.assertTrue(found.unchanged())
            found.close()
            self.assertEqual(descriptors(), before)

    def test_empty(self) -> None:
        """What is empty is sent as that, from any store."""
        (self.path / "file").touch()
        real = LocalStore(Root(str(self.path)))
        self.addCleanup(real.close)
        memory = MemoryStore()
        memory.publishWhole((b"file",), Wanted(0), b"")
        before = descriptors()
        for store in (self.store, real, memory):
            found = self.open(store, b"file")
            assert isinstance(found, Small)
            self.assertEqual((found.data, found.digest), (b"", digestOf(b"")))
        self.assertEqual(descriptors(), before)

    def test_filled(self) -> None:
        """One that was empty a moment ago, and says what it has now, is none of these."""
        (self.path / "file").write_bytes(b"x")
        real = LocalStore(Root(str(self.path)))
        self.addCleanup(real.close)
        self.assertIsNone(unsized(Local(real, (b"file",), Immediate())))

    def test_proc(self) -> None:
        """So is what the system tells of itself."""
        if not os.path.exists("/proc/version"):
            raise SkipTest("there is no /proc here")
        store = LocalStore(Root("/proc"))
        self.addCleanup(store.close)
        content = Path("/proc/version").read_bytes()
        found = self.open(store, b"version")
        self.addCleanup(getattr(found, "close", lambda: None))
        assert isinstance(found, LocalSource)
        self.assertEqual(found.read(0, found.attributes.size), content)

    def test_noRoom(self) -> None:
        """Where it cannot be kept that is said, with what to do; nothing stays open."""
        (self.path / "file").write_bytes(b"x")

        def full(file: int, pieces: list[bytes], offset: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        before = descriptors()
        for patched, name in ((module, "writeAll"), (tempfile, "TemporaryFile")):
            self.patch(patched, name, lambda *args, **kwargs: full(0, [], 0))
            error = self.assertRaises(StorageFailed, self.open, self.store, b"file")
            self.assertIn("'/file' cannot be kept", error.sentence)
            self.assertIn("set TMPDIR", error.sentence)
        self.assertEqual(descriptors(), before)

    def test_unreadable(self) -> None:
        """What the system does not let anybody read is not sent as if it were empty."""
        (self.path / "file").write_bytes(b"x")

        def fails(file: int, count: int) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        before = descriptors()
        self.patch(os, "read", fails)
        self.assertRaises(StorageFailed, self.open, self.store, b"file")
        self.assertEqual(descriptors(), before)
