"""The two system calls, as the kernel has them and where it has not."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.files.tree import descriptors, makeTree, write
from twisted_netsuite.files import openat2, systemcalls
from twisted_netsuite.files.openat2 import TRIES, openBeneath, renameNoReplace

#: Answers of systems and sandboxes that have no such call.
MISSING = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def failing(*numbers: int) -> tuple[Callable[..., int], list[int]]:
    """Make a call that fails with these errors, the last one over and over, and counts."""
    calls: list[int] = []

    def fail(*args: object) -> int:
        number = numbers[min(len(calls), len(numbers) - 1)]
        calls.append(number)
        ctypes.set_errno(number)
        return -1

    return fail, calls


class SystemCallCase(SynchronousTestCase):
    """Has a directory, with something beside it."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        self.path = makeTree(self.directory, {"f": b"f", "d/g": b"g"})
        self.root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, self.root)

    def within(self, name: str) -> str:
        return os.path.join(self.path, name)

    def fails(self, number: int, work: Callable[..., object], *args: object) -> None:
        """Expect an error, and no descriptor that stays."""
        before = descriptors()
        error: OSError = self.assertRaises(OSError, work, *args)
        self.assertEqual(errno.errorcode[error.errno or 0], errno.errorcode[number])
        self.assertEqual(descriptors(), before)


class OpenBeneathTests(SystemCallCase):
    def setUp(self) -> None:
        super().setUp()
        self.assertTrue(openat2.available())

    def test_opens(self) -> None:
        """What is below the directory opens, and is not inherited."""
        for path in (b"f", b"d", b"d/g", b"d/../f", b"."):
            descriptor = openBeneath(self.root, path, os.O_RDONLY)
            self.addCleanup(os.close, descriptor)
            self.assertFalse(os.get_inheritable(descriptor))
            there = os.stat(self.within(os.fsdecode(path)))
            self.assertTrue(os.path.samestat(os.fstat(descriptor), there))

    def test_outside(self) -> None:
        """No path leads out."""
        for path in (b"..", b"../secret", b"d/../../secret", b"/etc/passwd", b"/"):
            self.fails(errno.EXDEV, openBeneath, self.root, path, os.O_PATH)

    def test_links(self) -> None:
        """No link is followed, wherever it is and wherever it leads."""
        for target in ("d", "..", "/etc", "f", "missing", "/proc/self/root", "link"):
            os.symlink(target, self.within("link"))
            for path in (b"link", b"link/g", b"d/../link"):
                self.fails(errno.ELOOP, openBeneath, self.root, path, os.O_PATH)
            os.unlink(self.within("link"))

    def test_errors(self) -> None:
        """Other errors are the system's."""
        self.fails(errno.ENOENT, openBeneath, self.root, b"missing", os.O_PATH)
        self.fails(errno.ENOENT, openBeneath, self.root, b"", os.O_PATH)
        self.fails(errno.ENOTDIR, openBeneath, self.root, b"f/g", os.O_PATH)
        self.fails(errno.ENAMETOOLONG, openBeneath, self.root, b"n" * 256, os.O_PATH)
        self.fails(errno.EBADF, openBeneath, -1, b"f", os.O_PATH)

    def test_retry(self) -> None:
        """What moves meanwhile is tried again, and not forever."""
        for number in (errno.EAGAIN, errno.EINTR):
            fail, calls = failing(number)
            self.patch(openat2, "_syscall", fail)
            self.fails(number, openBeneath, self.root, b"f", os.O_PATH)
            self.assertEqual(len(calls), TRIES)
        fail, calls = failing(errno.EAGAIN, errno.EINTR, errno.ENOENT)
        self.patch(openat2, "_syscall", fail)
        self.fails(errno.ENOENT, openBeneath, self.root, b"f", os.O_PATH)
        self.assertEqual(len(calls), 3)


class AvailableTests(SystemCallCase):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(openat2.available.cache_clear)

    def test_missing(self) -> None:
        """An old kernel and a sandbox are found out once, and hold no descriptor."""
        for number in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            openat2.available.cache_clear()
            fail, calls = failing(number)
            self.patch(openat2, "_syscall", fail)
            before = descriptors()
            self.assertFalse(openat2.available())
            self.assertFalse(openat2.available())
            self.assertEqual(len(calls), 1)
            self.assertEqual(descriptors(), before)

    def test_there(self) -> None:
        """A kernel that has it is believed, and that holds no descriptor either."""
        openat2.available.cache_clear()
        before = descriptors()
        self.assertTrue(openat2.available())
        self.assertEqual(descriptors(), before)


class RenameTests(SystemCallCase):
    """Renames, as the kernel does them."""

    def rename(self, source: bytes, to: bytes) -> None:
        renameNoReplace(source, self.root, to, self.root)

    def test_renames(self) -> None:
        """A file, a directory and a link get another name, also in another directory."""
        os.symlink("../secret", self.within("l"))
        below = os.open(self.within("d"), os.O_PATH)
        self.addCleanup(os.close, below)
        for name in (b"f", b"l"):
            renameNoReplace(name, self.root, b"new", below)
            renameNoReplace(b"new", below, name, self.root)
        self.rename(b"d", b"e")
        self.assertEqual(sorted(os.listdir(self.path)), ["e", "f", "l"])
        self.assertEqual(os.readlink(self.within("l")), "../secret")

    def test_taken(self) -> None:
        """A name that is taken stays what it is, whatever it is."""
        os.symlink("missing", self.within("l"))
        os.mkdir(self.within("empty"))
        os.mkfifo(self.within("p"))
        for to in (b"f", b"l", b"empty", b"p", b"d"):
            for source in (b"f", b"d"):
                self.fails(errno.EEXIST, self.rename, source, to)
        self.assertEqual(sorted(os.listdir(self.path)), ["d", "empty", "f", "l", "p"])

    def test_errors(self) -> None:
        """What is missing is missing, and a directory is not moved into itself."""
        self.fails(errno.ENOENT, self.rename, b"missing", b"x")
        below = os.open(self.within("d"), os.O_PATH)
        self.addCleanup(os.close, below)
        self.fails(errno.EINVAL, renameNoReplace, b"d", self.root, b"x", below)


class StepwiseRenameTests(RenameTests):
    """The same, where neither the kernel nor the file system can do it in one step."""

    def setUp(self) -> None:
        super().setUp()
        fail, self.calls = failing(*MISSING)
        self.patch(systemcalls, "_renameat2", fail)

    def tearDown(self) -> None:
        self.assertTrue(self.calls)

    def test_otherFile(self) -> None:
        """A file that takes the old name meanwhile keeps it."""
        link = os.link

        def swapped(source: bytes, to: bytes, **directories: Any) -> None:
            link(source, to, **directories)
            write(self.within("other"), b"other")
            os.rename(self.within("other"), self.within("f"))

        self.patch(os, "link", swapped)
        self.rename(b"f", b"new")
        with open(self.within("f"), "rb") as old, open(self.within("new"), "rb") as new:
            self.assertEqual((old.read(), new.read()), (b"other", b"f"))

    def test_vanished(self) -> None:
        """A file that loses its old name meanwhile has the new one."""
        link = os.link

        def removed(source: bytes, to: bytes, **directories: Any) -> None:
            link(source, to, **directories)
            os.unlink(self.within("f"))

        self.patch(os, "link", removed)
        self.rename(b"f", b"new")
        self.assertEqual(sorted(os.listdir(self.path)), ["d", "new"])


class NoLibraryTests(RenameTests):
    """The same, with a C library that does not know the call."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(systemcalls, "_renameat2", None)

    def test_unknown(self) -> None:
        """A function that the library does not have is none."""
        self.assertIs(openat2._function("netsuite_has_no_such_call"), None)
