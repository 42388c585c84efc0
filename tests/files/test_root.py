"""Names from a peer against a real directory: nothing outside of the root is ever opened."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.files.tree import SECRET, descriptors, makeTree, write
from twisted_netsuite.errors import (
    ConfigurationError,
    Denied,
    InvalidName,
    NetsuiteError,
    NotFound,
)
from twisted_netsuite.files.root import Root

INSIDE = b"inside of the root"


class RootCase(SynchronousTestCase):
    """Serves a tree with a few files."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        files = {"a.txt": INSIDE, "sub/b.txt": INSIDE, "a b/ c ": INSIDE, "empty": b""}
        self.path = makeTree(self.directory, files)
        self.root = Root(self.path)
        self.addCleanup(self.root.close)

    def within(self, name: str) -> str:
        return os.path.join(self.path, name)

    def content(self, name: bytes) -> bytes:
        """Open a file and read all of it."""
        file = self.root.open(name)
        try:
            return file.read(0, file.size + 1)
        finally:
            file.close()

    def refused(self, name: bytes, error: type[NetsuiteError]) -> str:
        """Expect a refusal, and that it leaves no descriptor."""
        before = descriptors()
        refusal: NetsuiteError = self.assertRaises(error, self.root.open, name)
        self.assertEqual(descriptors(), before, name)
        return refusal.sentence


class OpenTests(RootCase):
    def test_regular(self) -> None:
        """Regular files open by their path from the root, with spaces and slashes as they are."""
        for name in (b"a.txt", b"/a.txt", b"./a.txt", b"//a.txt", b"sub/b.txt", b"sub//./b.txt"):
            self.assertEqual(self.content(name), INSIDE, name)
        self.assertEqual(self.content(b"a b/ c "), INSIDE)

    def test_size(self) -> None:
        """An open file tells its size, and gives any piece of itself."""
        file = self.root.open(b"a.txt")
        self.addCleanup(file.close)
        self.assertEqual(file.size, len(INSIDE))
        self.assertEqual(file.read(7, 2), b"of")
        self.assertEqual(file.read(file.size - 1, 10), INSIDE[-1:])
        self.assertEqual(file.read(file.size, 10), b"")

    def test_empty(self) -> None:
        """An empty file is a file."""
        self.assertEqual(self.content(b"empty"), b"")

    def test_anyBytes(self) -> None:
        """A name may hold any byte that a file's name can hold."""
        for name in (b"\xff\xfe", b"a\nb", b"\x1b[2J", "名.txt".encode(), b"-rf", b"...", b"C:\\x"):
            write(os.path.join(self.path, os.fsdecode(name)), INSIDE)
            self.assertEqual(self.content(name), INSIDE)

    def test_longest(self) -> None:
        """A name of 255 bytes, the longest there is, opens."""
        write(self.within("n" * 255), INSIDE)
        self.assertEqual(self.content(b"n" * 255), INSIDE)

    def test_deepest(self) -> None:
        """A name of 64 parts opens; one of 65 is refused, whether the file is there or not."""
        for parts in (63, 64, 65):
            directory = self.within("/".join(["d"] * (parts - 1)))
            os.makedirs(directory, exist_ok=True)
            write(os.path.join(directory, "f"), INSIDE)
        before = descriptors()
        self.assertEqual(self.content(b"d/" * 62 + b"f"), INSIDE)
        self.assertEqual(self.content(b"d/" * 63 + b"f"), INSIDE)
        self.assertEqual(descriptors(), before)
        self.refused(b"d/" * 63 + b"missing", NotFound)
        self.assertIn("64", self.refused(b"d/" * 64 + b"f", InvalidName))
        self.refused(b"d/" * 30_000 + b"f", InvalidName)

    def test_rootMoved(self) -> None:
        """A root that is renamed after it was opened stays the same root."""
        os.rename(self.path, self.path + ".old")
        os.mkdir(self.path)
        write(self.within("a.txt"), b"another root")
        self.assertEqual(self.content(b"a.txt"), INSIDE)

    def test_rootLinked(self) -> None:
        """The root itself may be given as a symbolic link."""
        link = os.path.join(self.directory, "link")
        os.symlink(self.path, link)
        root = Root(link)
        self.addCleanup(root.close)
        root.open(b"a.txt").close()

    def test_hardLinked(self) -> None:
        """A hard link is a regular file like any other."""
        os.link(self.within("a.txt"), self.within("hard"))
        self.assertEqual(self.content(b"hard"), INSIDE)


class RefusalTests(RootCase):
    def test_parents(self) -> None:
        """No name with C{..} in it is looked up, wherever it stands."""
        for name in (
            b"..",
            b"../secret",
            b"/../secret",
            b"sub/../../secret",
            b"sub/../a.txt",
            b"sub/..",
            b"./../secret",
            b"//..//secret",
            b"missing/../../secret",
        ):
            self.assertIn("'..'", self.refused(name, InvalidName))

    def test_absolute(self) -> None:
        """An absolute name is a name below the root."""
        self.refused(b"/etc/passwd", NotFound)
        self.refused(os.fsencode(os.path.join(self.directory, "secret")), NotFound)

    def test_otherSystems(self) -> None:
        """Names that mean a drive, a share or a device elsewhere mean nothing here."""
        names = (b"C:\\secret", b"C:", b"\\\\host\\share", b"..\\secret", b"~/secret", b"%2e%2e/x")
        for name in (*names, b"CON", b"file:///etc/passwd", b"A.TXT"):
            self.refused(name, NotFound)

    def test_nothing(self) -> None:
        """No name, and a name of nothing but slashes and dots, asks for a name."""
        for name in (b"", b"/", b"////", b".", b"./", b"/./."):
            self.assertEqual(self.refused(name, InvalidName), "give the name of a file.")

    def test_nul(self) -> None:
        """A NUL byte ends no name early."""
        for name in (b"\0", b"a.txt\0", b"a.txt\0.jpg", b"sub\0/b.txt"):
            self.assertIn("NUL", self.refused(name, InvalidName))

    def test_missing(self) -> None:
        """What is not there is not found, at any depth."""
        for name in (b"missing", b"sub/missing", b"missing/b.txt", b" a.txt", b"a.txt "):
            self.assertEqual(self.refused(name, NotFound), "there is no such file.")

    def test_tooLong(self) -> None:
        """A part of 256 bytes, and a name of many kilobytes, are not found."""
        self.refused(b"n" * 256, NotFound)
        self.refused(b"n" * 256 + b"/f", NotFound)
        self.refused(b"n" * 60_000, NotFound)

    def test_fileAsParent(self) -> None:
        """A file has nothing below it."""
        self.refused(b"a.txt/b", NotFound)
        self.refused(b"a.txt/b/c", NotFound)

    def test_directory(self) -> None:
        """A directory is not served."""
        for name in (b"sub", b"sub/", b"/sub"):
            self.assertIn("only regular files", self.refused(name, Denied))

    def test_linksToFiles(self) -> None:
        """A symbolic link to a file is not followed, be it inside, outside, or broken."""
        for target in ("a.txt", "sub/b.txt", "../secret", "/etc/passwd", "missing", "link", "."):
            os.symlink(target, self.within("link"))
            self.assertIn("no links", self.refused(b"link", Denied))
            os.unlink(self.within("link"))

    def test_linksToDirectories(self) -> None:
        """A symbolic link to a directory is not followed in the middle of a name."""
        for target, name in (("sub", b"b.txt"), ("..", b"secret"), ("/etc", b"passwd")):
            os.symlink(target, self.within("link"))
            self.refused(b"link/" + name, NetsuiteError)
            self.refused(b"sub/../link/" + name, InvalidName)
            os.unlink(self.within("link"))

    def test_fifo(self) -> None:
        """A FIFO is refused, and nobody waits for its other end."""
        os.mkfifo(self.within("fifo"))
        self.assertIn("only regular files", self.refused(b"fifo", Denied))

    def test_socket(self) -> None:
        """A socket is refused."""
        with socket.socket(socket.AF_UNIX) as listening:
            before = os.getcwd()
            os.chdir(self.path)
            self.addCleanup(os.chdir, before)
            listening.bind("socket")
            self.assertIn("only regular files", self.refused(b"socket", Denied))

    def test_device(self) -> None:
        """A device node is refused before it is opened."""
        try:
            os.mknod(self.within("zero"), stat.S_IFCHR | 0o666, os.makedev(1, 5))
        except PermissionError as error:
            raise SkipTest("only root can make a device node") from error
        self.assertIn("only regular files", self.refused(b"zero", Denied))

    def test_unreadable(self) -> None:
        """A file or directory that the server may not read is refused with that reason."""
        os.chmod(self.within("a.txt"), 0)
        os.chmod(self.within("sub"), 0)
        self.addCleanup(os.chmod, self.within("sub"), 0o700)
        if os.geteuid() == 0:
            os.chmod(self.path, 0o755)
            self.addCleanup(os.seteuid, 0)
            os.seteuid(65534)
        for name in (b"a.txt", b"sub/b.txt"):
            self.assertEqual(self.refused(name, Denied), "the server may not read that file.")

    def test_otherErrors(self) -> None:
        """Whatever else the system answers is passed on as its own words."""

        def fail(*args: object, **kwargs: object) -> int:
            raise OSError(24, "Too many open files")

        self.patch(os, "open", fail)
        sentence = self.refused(b"a.txt", Denied)
        self.assertEqual(sentence, "the file cannot be opened: too many open files.")

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(
            st.sampled_from([b"..", b".", b"/", b"a.txt", b"sub", b"secret", b"\0", b"\\", b"x"]),
            max_size=8,
        )
    )
    def test_anyName(self, pieces: list[bytes]) -> None:
        """No name, however it is made up, opens what is outside, or leaves a descriptor."""
        before = descriptors()
        for name in (b"".join(pieces), b"/".join(pieces)):
            with contextlib.suppress(InvalidName, NotFound, Denied):
                self.assertIn(self.content(name), (INSIDE, b""))
        self.assertEqual(descriptors(), before)


class RaceTests(RootCase):
    def swapped(self, swap: Callable[[], None]) -> str:
        """Swap a file between the look at it and its opening; give the refusal."""
        stat, swaps = os.stat, [swap]

        def swapping(*args: Any, **kwargs: Any) -> os.stat_result:
            looked = stat(*args, **kwargs)
            while swaps:
                swaps.pop()()
            return looked

        self.patch(os, "stat", swapping)
        before = descriptors()
        refusal: NetsuiteError = self.assertRaises(Denied, self.root.open, b"a.txt")
        self.assertEqual(descriptors(), before)
        return refusal.sentence

    def test_link(self) -> None:
        """A link that takes the file's place after it was looked at is not followed."""

        def swap() -> None:
            os.unlink(self.within("a.txt"))
            os.symlink("../secret", self.within("a.txt"))

        self.assertIn("no links", self.swapped(swap))

    def test_fifo(self) -> None:
        """A FIFO that takes the file's place is not waited for."""

        def swap() -> None:
            os.unlink(self.within("a.txt"))
            os.mkfifo(self.within("a.txt"))

        self.assertIn("only regular files", self.swapped(swap))

    def test_directory(self) -> None:
        """A directory that takes the file's place is refused."""

        def swap() -> None:
            os.unlink(self.within("a.txt"))
            os.mkdir(self.within("a.txt"))

        self.assertIn("only regular files", self.swapped(swap))

    def test_directoryForLink(self) -> None:
        """While a directory is swapped with a link to outside, nothing from outside is opened."""
        outside = os.path.join(self.directory, "outside")
        os.mkdir(outside)
        write(os.path.join(outside, "b.txt"), SECRET)
        sub, away = self.within("sub"), self.within("away")
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                os.rename(sub, away)
                os.symlink(outside, sub)
                os.unlink(sub)
                os.rename(away, sub)

        before = descriptors()
        swapping = threading.Thread(target=swap)
        swapping.start()
        try:
            opened = refused = 0
            for _ in range(2000):
                try:
                    self.assertEqual(self.content(b"sub/b.txt"), INSIDE)
                    opened += 1
                except (NotFound, Denied):
                    refused += 1
        finally:
            stop.set()
            swapping.join()
        self.assertEqual(opened + refused, 2000)
        self.assertEqual(descriptors(), before)


class WrongRootTests(SynchronousTestCase):
    def test_missing(self) -> None:
        """A root that is not there, or is no directory, is named with the reason."""
        path = os.path.abspath(self.mktemp())
        for make, reason in ((None, "no such file"), (write, "not a directory")):
            if make is not None:
                make(path, b"")
            before = descriptors()
            error = self.assertRaises(ConfigurationError, Root, path)
            self.assertIn(repr(path), error.sentence)
            self.assertIn(reason, error.sentence)
            self.assertIn("give a directory", error.sentence)
            self.assertEqual(descriptors(), before)

    def test_nul(self) -> None:
        """A root that cannot be a path is named too."""
        error = self.assertRaises(ConfigurationError, Root, "a\0b")
        self.assertIn(repr("a\0b"), error.sentence)

    def test_close(self) -> None:
        """A root that is closed holds no descriptor."""
        path = makeTree(self.mktemp())
        before = descriptors()
        Root(path).close()
        self.assertEqual(descriptors(), before)
