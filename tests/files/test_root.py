"""Names from a peer against a real directory: nothing outside of the root is ever opened."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import threading
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.files.tree import SECRET, descriptors, makeTree, write
from twisted_netsuite.errors import (
    ConfigurationError,
    Conflict,
    Denied,
    InvalidName,
    LimitExceeded,
    NetsuiteError,
    NotFound,
    StorageFailed,
)
from twisted_netsuite.files import openat2, root
from twisted_netsuite.files.names import MAX_DEPTH, Parts
from twisted_netsuite.files.root import (
    MAX_LINKS,
    Links,
    Root,
    refusal,
    reopened,
    shown,
)

INSIDE = b"inside of the root"

#: Names of links that lead outside.
LINKS = (b"out", b"link")


class RootCase(SynchronousTestCase):
    """
    Serves a tree with a few files.

    @cvar links: which links are followed.
    @cvar kernel: whether the kernel resolves whole names.
    """

    links: Links = "never"
    kernel = True

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        files = {"a.txt": INSIDE, "sub/b.txt": INSIDE, "a b/ c ": INSIDE, "empty": b""}
        self.path = makeTree(self.directory, files)
        self.root = Root(self.path, self.links, self.kernel)
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


class WalkedOpenTests(OpenTests):
    """The same, walked part by part."""

    kernel = False


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


class WalkedRefusalTests(RefusalTests):
    """The same, walked part by part."""

    kernel = False


class AnyNameTests(RootCase):
    def setUp(self) -> None:
        super().setUp()
        for name, target in zip(LINKS, ("..", "sub/../out/secret"), strict=True):
            os.symlink(target, self.within(name.decode()))
        ways: tuple[Links, ...] = ("never", "inside")
        self.roots = [Root(self.path, links, how) for links in ways for how in (True, False)]
        for each in self.roots:
            self.addCleanup(each.close)

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(
            st.sampled_from((b"..", b".", b"/", b"a.txt", b"sub", b"secret", b"\0", b"\\", *LINKS)),
            max_size=8,
        )
    )
    def test_anyName(self, pieces: list[bytes]) -> None:
        """No name, however it is made up, opens what is outside, or leaves a descriptor."""
        before = descriptors()
        for each in self.roots:
            self.root = each
            for name in (b"".join(pieces), b"/".join(pieces)):
                with contextlib.suppress(InvalidName, NotFound, Denied):
                    self.assertIn(self.content(name), (INSIDE, b""))
        self.assertEqual(descriptors(), before)


class RaceTests(RootCase):
    def swapped(self, swap: Callable[[], None]) -> bytes:
        """Swap a file between the look at it and its opening; give what is read."""
        fstat, swaps = os.fstat, [swap]

        def swapping(descriptor: int) -> os.stat_result:
            looked = fstat(descriptor)
            while swaps and stat.S_ISREG(looked.st_mode):
                swaps.pop()()
            return looked

        self.patch(os, "fstat", swapping)
        before = descriptors()
        content = self.content(b"a.txt")
        self.assertEqual(swaps, [])
        self.assertEqual(descriptors(), before)
        return content

    def test_link(self) -> None:
        """A link that takes the file's place after it was looked at is not followed."""

        def swap() -> None:
            os.unlink(self.within("a.txt"))
            os.symlink("../secret", self.within("a.txt"))

        self.assertEqual(self.swapped(swap), INSIDE)

    def test_fifo(self) -> None:
        """A FIFO that takes the file's place is not opened, and not waited for."""

        def swap() -> None:
            os.unlink(self.within("a.txt"))
            os.mkfifo(self.within("a.txt"))

        self.assertEqual(self.swapped(swap), INSIDE)

    def test_otherFile(self) -> None:
        """A file that takes the file's place is another: what was looked at is opened."""

        def swap() -> None:
            os.rename(self.within("sub/b.txt"), self.within("a.txt"))
            write(self.within("a.txt"), b"other")

        self.assertEqual(self.swapped(swap), INSIDE)

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


class WalkedRaceTests(RaceTests):
    """The same, walked part by part."""

    kernel = False


class FindTests(RootCase):
    """Names that were taken apart, and links that are followed inside."""

    links: Links = "inside"

    def setUp(self) -> None:
        super().setUp()
        os.makedirs(self.within("sub/deep/er"))
        write(self.within("sub/deep/er/f"), INSIDE)

    def found(self, parts: Parts, path: str, follow: bool = True) -> None:
        """Expect that a name leads to a path."""
        before = descriptors()
        descriptor = self.root.find(parts, follow)
        try:
            there = os.stat(os.path.join(self.path, path))
            self.assertTrue(os.path.samestat(os.fstat(descriptor), there), (parts, path))
            self.assertFalse(os.get_inheritable(descriptor))
            self.assertRaises(OSError, os.read, descriptor, 1)
        finally:
            os.close(descriptor)
        self.assertEqual(descriptors(), before)

    def fails(self, number: int, parts: Parts, follow: bool = True) -> None:
        """Expect that a name leads nowhere, and leaves no descriptor."""
        before = descriptors()
        error: OSError = self.assertRaises(OSError, self.root.find, parts, follow)
        self.assertEqual(errno.errorcode[error.errno or 0], errno.errorcode[number], parts)
        self.assertEqual(descriptors(), before)

    def link(self, name: str, target: str) -> None:
        """Make a link in place of what was linked there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.within(name))
        os.symlink(target, self.within(name))

    def test_plain(self) -> None:
        """What is no link is found with and without following, and so is the root."""
        for follow in (True, False):
            self.found((), "", follow)
            self.found((b"sub", b"deep"), "sub/deep", follow)
            self.found((b"sub", b"deep", b"er", b"f"), "sub/deep/er/f", follow)
            self.fails(errno.ENOENT, (b"missing",), follow)
            self.fails(errno.ENOENT, (b"missing", b"x"), follow)
            self.fails(errno.ENOTDIR, (b"a.txt", b"x"), follow)

    def test_inside(self) -> None:
        """A link is followed to wherever it leads below the root, up and down again, too."""
        for place, target, path in (
            ("link", "sub", "sub"),
            ("link", "sub/", "sub"),
            ("link", "./sub//deep/./er", "sub/deep/er"),
            ("link", "sub/deep/../..", ""),
            ("link", ".", ""),
            ("sub/link", "..", ""),
            ("sub/deep/link", "../../sub/b.txt", "sub/b.txt"),
            ("sub/deep/link", "../../a.txt", "a.txt"),
            ("link", "sub/deep/../../a b/ c ", "a b/ c "),
        ):
            self.link(place, target)
            parts = tuple(os.fsencode(place).split(b"/"))
            self.found(parts, path)
            self.fails(errno.ELOOP, parts, follow=False)
            if os.path.isdir(self.within(path)):
                inner = sorted(os.listdir(self.within(path)))[0]
                for follow in (True, False):
                    if not os.path.islink(os.path.join(self.path, path, inner)):
                        self.found((*parts, os.fsencode(inner)), os.path.join(path, inner), follow)
            os.unlink(self.within(place))

    def test_chain(self) -> None:
        """Links to links are followed, in the middle of each other's ways."""
        self.link("one", "sub/two")
        self.link("sub/two", "../three/er")
        self.link("three", "sub/deep")
        self.found((b"one", b"f"), "sub/deep/er/f")
        self.found((b"one",), "sub/deep/er")

    def test_outside(self) -> None:
        """A link is not followed out of the root, not even for a moment, nor an absolute one."""
        for place, target in (
            ("link", ".."),
            ("link", "../secret"),
            ("link", "../root/sub"),
            ("link", "sub/../.."),
            ("sub/link", "../../secret"),
            ("sub/deep/link", "../../../root"),
            ("link", "/"),
            ("link", "/etc"),
            ("link", self.path),
            ("link", self.within("sub")),
            ("link", "/proc/self/cwd"),
            ("link", "//etc"),
        ):
            self.link(place, target)
            parts = tuple(os.fsencode(place).split(b"/"))
            for name in (parts, (*parts, b"passwd"), (*parts, b"secret"), (*parts, b"sub")):
                self.fails(errno.EXDEV, name)
            os.unlink(self.within(place))

    def test_nowhere(self) -> None:
        """Links to what is missing, to a file as a directory, and in circles, lead nowhere."""
        for target, number in (
            ("missing", errno.ENOENT),
            ("sub/missing/..", errno.ENOENT),
            ("a.txt/", errno.ENOTDIR),
            ("a.txt/..", errno.ENOTDIR),
            ("a.txt/.", errno.ENOTDIR),
            ("link", errno.ELOOP),
            ("./link/x", errno.ELOOP),
            ("sub/back", errno.ELOOP),
            ("x" * 256, errno.ENAMETOOLONG),
        ):
            self.link("link", target)
            self.link("sub/back", "../link")
            self.fails(number, (b"link",))
            self.fails(number, (b"sub", b"back", b"b.txt"))

    def test_many(self) -> None:
        """As many links as Linux follows are followed, and no more."""
        self.link("l1", "a.txt")
        for number in range(2, MAX_LINKS + 2):
            self.link(f"l{number}", f"l{number - 1}")
        self.found((b"l%d" % MAX_LINKS,), "a.txt")
        self.fails(errno.ELOOP, (b"l%d" % (MAX_LINKS + 1),))

    def test_deep(self) -> None:
        """A link leads no deeper than a name may, so that nobody runs out of descriptors."""
        deepest = "/".join(["d"] * MAX_DEPTH)
        os.makedirs(self.within(deepest + "/d"))
        self.link("link", deepest)
        self.found((b"link",), deepest)
        self.fails(errno.ELOOP, (b"link", b"d"))
        self.link("link", "sub/../" * 500 + "a.txt")
        self.found((b"link",), "a.txt")

    def test_reserved(self) -> None:
        """What is the service's own is not reached by links either."""
        os.mkdir(self.within(".netsuite-d"))
        write(self.within(".netsuite-d/f"), SECRET)
        write(self.within(".netsuite-f"), SECRET)
        for target in (".netsuite-f", ".netsuite-d", ".netsuite-d/f", "sub/../.netsuite-f"):
            self.link("link", target)
            self.fails(errno.ENOENT, (b"link",))
            self.fails(errno.ENOENT, (b"link", b"f"))
        self.refused(b".netsuite-f", NotFound)
        self.refused(b".netsuite-d/f", NotFound)

    def test_wrongParts(self) -> None:
        """What is no part of a name is refused, wherever it stands and whatever it is for."""
        for wrong in (b"", b".", b"..", b"/", b"sub/b.txt", b"..\0", b".netsuite-f", b"n" * 256):
            for parts in ((wrong,), (b"sub", wrong), (wrong, b"b.txt")):
                calls = (self.root.find, self.root.directory, self.root.parent, self.root.regular)
                for look in calls:
                    self.assertRaises(InvalidName, look, parts)

    def test_directory(self) -> None:
        """A directory opens for reading, also behind a link; nothing else does."""
        self.link("link", "sub")
        before = descriptors()
        for parts, content in (
            ((), ["a b", "a.txt", "empty", "link", "sub"]),
            ((b"sub",), ["b.txt", "deep"]),
            ((b"link",), ["b.txt", "deep"]),
            ((b"link", b"deep"), ["er"]),
        ):
            descriptor = self.root.directory(parts)
            self.assertEqual(sorted(os.listdir(descriptor)), content)
            self.assertFalse(os.get_inheritable(descriptor))
            os.close(descriptor)
        os.mkfifo(self.within("fifo"))
        self.link("file", "a.txt")
        for part in (b"a.txt", b"fifo", b"file"):
            self.assertRaises(NotADirectoryError, self.root.directory, (part,))
        self.assertEqual(descriptors(), before)

    def test_parent(self) -> None:
        """The directory that a name is in is found, whatever is there by that name."""
        self.link("link", "sub")
        for parts in ((b"link", b"missing"), (b"sub", b"deep"), (b"link", b"b.txt")):
            for read in (False, True):
                descriptor = self.root.parent(parts, read)
                there = os.stat(self.within("sub"))
                self.assertTrue(os.path.samestat(os.fstat(descriptor), there))
                if read:
                    os.fsync(descriptor)
                os.close(descriptor)
        self.link("link", "..")
        self.assertRaises(OSError, self.root.parent, (b"link", b"secret"))

    def test_regular(self) -> None:
        """A file opens, behind links too, and what is known of it is its own."""
        self.link("link", "sub/deep")
        self.link("sub/deep/last", "er/f")
        descriptor, status = self.root.regular((b"link", b"last"))
        self.addCleanup(os.close, descriptor)
        self.assertTrue(os.path.samestat(os.fstat(descriptor), status))
        self.assertEqual(os.read(descriptor, 100), INSIDE)
        self.assertFalse(os.get_inheritable(descriptor))


class WalkedFindTests(FindTests):
    """The same, walked from the first part on."""

    kernel = False


class BusyKernelTests(FindTests):
    """The same, with a kernel that never gets its way because things move."""

    def setUp(self) -> None:
        super().setUp()

        def busy(directory: int, path: bytes, flags: int) -> int:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        self.patch(openat2, "openBeneath", busy)


class NoKernelTests(RootCase):
    """A kernel that cannot resolve names by itself."""

    def setUp(self) -> None:
        self.patch(openat2, "available", lambda: False)

        def never(directory: int, path: bytes, flags: int) -> int:
            raise AssertionError("asked all the same")

        self.patch(openat2, "openBeneath", never)
        super().setUp()

    def test_walks(self) -> None:
        """It is found out, and not asked."""
        self.assertEqual(self.content(b"sub/b.txt"), INSIDE)
        os.symlink("sub", self.within("link"))
        self.refused(b"link/b.txt", Denied)


class SentenceTests(SynchronousTestCase):
    def test_classes(self) -> None:
        """Each answer of the system is an error that tells who has to do something."""
        for number, error in (
            *(
                (errno.ENOENT, NotFound),
                (errno.ENOTDIR, NotFound),
                (errno.ENAMETOOLONG, InvalidName),
            ),
            *((errno.EACCES, Denied), (errno.EPERM, Denied), (errno.ELOOP, Denied)),
            *((errno.EXDEV, Denied), (errno.EEXIST, Conflict), (errno.ENOTEMPTY, Conflict)),
            *((errno.EISDIR, Conflict), (errno.EMFILE, LimitExceeded)),
            *((errno.ENFILE, LimitExceeded), (errno.ENOSPC, StorageFailed)),
            *((errno.EDQUOT, StorageFailed), (errno.EIO, StorageFailed)),
            *((errno.EROFS, StorageFailed), (errno.ESTALE, StorageFailed)),
        ):
            found = refusal(OSError(number, os.strerror(number)), b"/a/b")
            self.assertIs(type(found), error)
            self.assertTrue(found.sentence.startswith("'/a/b' "), found.sentence)
            self.assertTrue(found.sentence.endswith("."))
        self.assertIn("no space", refusal(OSError(errno.ENOSPC, "No space"), b"x").sentence)
        self.assertIn("strange", refusal(OSError("strange"), b"x").sentence)

    def test_shown(self) -> None:
        """A name cannot play tricks in a sentence, and does not fill it."""
        self.assertEqual(shown(b"/a\x1b[2J\nb\xff"), "'/a\ufffd[2J b\ufffd'")
        self.assertLess(len(shown(b"n" * 4000)), 300)


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

    def test_noProc(self) -> None:
        """Where what was found cannot be opened again, that is said at once."""
        path = makeTree(self.mktemp())
        self.patch(root, "reopened", lambda descriptor: reopened(descriptor) + b"-missing")
        before = descriptors()
        error = self.assertRaises(ConfigurationError, Root, path)
        self.assertIn("/proc", error.sentence)
        self.assertEqual(descriptors(), before)
