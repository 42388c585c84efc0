"""
The native files service on disks that are full or have no inodes left, with devices in the way,
with files that change, and with very large ones: C{twistd} and the C{netsuite} program.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.processes import (
    BIN,
    Twistd,
    eventually,
    scratch,
    started,
)
from tests.integration.test_native_files import begun, sha256
from twisted_netsuite.files.names import RESERVED

MIB = 2**20

#: Seconds for one command: a million chunks are looked at for a file of 1 TiB.
LONG = 120

#: Bytes a second at which files are still on their way once 2 MiB have come, on a busy machine.
RATE = "4M"


def mounted(case: SynchronousTestCase, path: Path, options: str) -> None:
    """Have a small disk of its own somewhere, which only root can."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise SkipTest("only root can mount a small disk")
    case.addCleanup(subprocess.run, ["umount", "-l", str(path)], check=True)


class FaultCase(SynchronousTestCase):
    """A service, and a directory to run commands in."""

    def setUp(self) -> None:
        self.here = scratch(self)
        self.root = self.here / "root"
        self.mine = self.here / "mine"
        self.makeDirectories()
        self.twistd = started(
            self,
            *("netsuite-files", "--root", str(self.root), "--writable"),
            *("--listen", "tcp:0:interface=127.0.0.1"),
        )
        self.address = self.twistd.places[0].text
        self.addCleanup(self.assertQuiet, self.twistd)

    def makeDirectories(self) -> None:
        """Make what is served, and where commands run."""
        self.root.mkdir()
        self.mine.mkdir()

    def assertQuiet(self, twistd: Twistd) -> None:
        """Whatever happened, nothing in the service went wrong."""
        self.assertNotIn("Traceback", twistd.log())

    def at(self, name: str) -> str:
        """Name something at the server."""
        return f"{self.address}:/{name}"

    def ran(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [BIN / "netsuite", *words],
            cwd=self.mine,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=False,
        )

    def succeeds(self, *words: str) -> str:
        """Run a command that has to succeed."""
        done = self.ran(*words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def fails(self, status: int, said: str, *words: str) -> None:
        """Run a command that has to fail, in one sentence."""
        self.assertFailed(self.ran(*words), status, said)

    def assertFailed(self, done: subprocess.CompletedProcess[str], status: int, said: str) -> None:
        """A command has failed in one sentence."""
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertRegex(done.stderr, rf"\Anetsuite: [^\n]*{said}[^\n]*\n\Z")

    def meanwhile(
        self, directory: Path, act: Callable[[], object], *words: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a slow command, and do something once some of its file has come somewhere."""
        process = subprocess.Popen(
            [BIN / "netsuite", *words, "--limit-rate", RATE],
            cwd=self.mine,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            eventually(lambda: begun(directory), "some of the file")
            act()
            out, err = process.communicate(timeout=LONG)
        finally:
            process.kill()
            process.wait()
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def published(self, directory: Path) -> list[str]:
        """List what is there under names that are served."""
        names = os.listdir(directory)
        return sorted(each for each in names if not os.fsencode(each).startswith(RESERVED))

    def assertClean(self, directory: Path, *names: str) -> None:
        """Nothing is there but these."""
        self.assertEqual(sorted(os.listdir(directory)), sorted(names))


class FullDiskTests(FaultCase):
    """Disks of 8 MiB at both ends."""

    options = "size=8m"

    def makeDirectories(self) -> None:
        for path in (self.root, self.mine):
            mounted(self, path, self.options)

    def test_put(self) -> None:
        """A file for which there is no room is refused before a byte of it is sent, with how much
        there is; the old one is there, and nothing is left."""
        (self.root / "f").write_bytes(b"old")
        big = self.here / "big"
        big.write_bytes(os.urandom(20 * MIB))
        self.fails(125, "room", "put", "-q", str(big), self.at("f"))
        self.assertEqual((self.root / "f").read_bytes(), b"old")
        self.assertClean(self.root, "f")

    def test_get(self) -> None:
        """At the client the old one is there, and what has come is kept for when there is room."""
        (self.mine / "f").write_bytes(b"old")
        (self.root / "f").write_bytes(os.urandom(6 * MIB))
        (self.mine / "ballast").write_bytes(bytes(4 * MIB))
        self.fails(125, "room", "get", "-q", self.at("f"))
        self.assertEqual((self.mine / "f").read_bytes(), b"old")
        self.assertEqual(self.published(self.mine), ["ballast", "f"])
        (self.mine / "ballast").unlink()
        (self.mine / "f").unlink()
        self.succeeds("get", "-q", self.at("f"))
        self.assertEqual(sha256(self.mine / "f"), sha256(self.root / "f"))
        self.assertClean(self.mine, "f")

    def test_tree(self) -> None:
        """Of a tree that does not fit each file is there whole, or is not, with what it is; the
        rest is told. With room, the same command does the rest."""
        tree = self.here / "tree"
        tree.mkdir()
        for number in range(30):
            (tree / f"f{number}").write_bytes(os.urandom(MIB // 2))
        words = ("sync", "-q", str(tree), self.at("tree"))
        done = self.ran(*words)
        self.assertEqual(done.returncode, 23, done.stderr)
        self.assertIn("room", done.stderr)
        there = self.published(self.root / "tree")
        self.assertGreater(len(there), 5)
        for name in there:
            self.assertEqual(sha256(self.root / "tree" / name), sha256(tree / name))
        subprocess.run(["mount", "-o", "remount,size=64m", str(self.root)], check=True)
        self.succeeds(*words)
        self.assertEqual(len(self.published(self.root / "tree")), 30)


class NoInodesTests(FullDiskTests):
    """Disks that have bytes, and no inodes."""

    options = "size=64m,nr_inodes=6"

    def test_put(self) -> None:
        """Where no file can be made nothing is put, small or large, nor a directory made; what is
        there stays, and is told so. A file can be renamed and removed, and then there is room."""
        for number in range(5):
            (self.root / f"f{number}").write_bytes(b"old")
        for name, size in (("small", 10), ("large", 3 * MIB)):
            (self.here / name).write_bytes(os.urandom(size))
            for to in ("new", "f1"):
                self.fails(125, "room", "put", "-q", str(self.here / name), self.at(to))
        self.fails(125, "room", "mkdir", self.at("d"))
        self.assertEqual((self.root / "f1").read_bytes(), b"old")
        self.assertClean(self.root, *(f"f{number}" for number in range(5)))
        self.succeeds("mv", self.at("f0"), "/g")
        self.succeeds("rm", self.at("g"))
        self.succeeds("put", "-q", str(self.here / "small"), self.at("new"))

    def test_get(self) -> None:
        """So it is at the client."""
        for number in range(5):
            (self.mine / f"f{number}").write_bytes(b"old")
        for size in (10, 3 * MIB):
            (self.root / "f1").write_bytes(os.urandom(size))
            self.fails(125, "room", "get", "-q", self.at("f1"))
        self.assertEqual((self.mine / "f1").read_bytes(), b"old")
        self.assertClean(self.mine, *(f"f{number}" for number in range(5)))

    def test_tree(self) -> None:
        """Of a tree some files are there, each whole, and the rest is told."""
        tree = self.here / "tree"
        tree.mkdir()
        for number in range(10):
            (tree / f"f{number}").write_bytes(b"%d" % number)
        done = self.ran("sync", "-q", str(tree), self.at("tree"))
        self.assertEqual(done.returncode, 23, done.stderr)
        there = self.published(self.root / "tree")
        self.assertGreater(len(there), 0)
        for name in there:
            self.assertEqual(sha256(self.root / "tree" / name), sha256(tree / name))


class ObstacleTests(FaultCase):
    """What no file can replace, and nobody may open."""

    def test_targets(self) -> None:
        """A FIFO, a device, a socket's directory or a link is replaced at neither end, and is not
        written to; nobody waits for the other end of a FIFO."""
        (self.here / "aim").write_bytes(b"aim")
        for directory in (self.root, self.mine):
            os.mkfifo(directory / "fifo")
            (directory / "directory").mkdir()
            os.symlink("../aim", directory / "link")
            try:
                os.mknod(directory / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            except PermissionError as error:
                raise SkipTest("only root can make devices") from error
        (self.mine / "f").write_bytes(b"new")
        (self.root / "f").write_bytes(b"new")
        for name, why in (("fifo", "replaces"), ("null", "replaces"), ("link", "a symbolic link")):
            self.fails(125, "no file replaces", "put", "-q", "f", self.at(name))
            self.fails(125, why, "get", "-q", self.at("f"), name)
            self.fails(126, "", "get", "-q", self.at(name), "got")
            self.fails(126, "", "rm", self.at(name))
        self.assertEqual((self.here / "aim").read_bytes(), b"aim")
        for directory in (self.root, self.mine):
            self.assertTrue(stat.S_ISFIFO((directory / "fifo").lstat().st_mode))
            self.assertTrue(stat.S_ISCHR((directory / "null").lstat().st_mode))
            self.assertTrue((directory / "link").is_symlink())
            self.assertClean(directory, "directory", "f", "fifo", "link", "null")

    def test_setuid(self) -> None:
        """The bits of setuid, setgid and sticky go neither way, though the mode is kept."""
        for directory in (self.root, self.mine):
            (directory / "f").write_bytes(b"program")
            os.chmod(directory / "f", 0o7751)
        self.succeeds("put", "-q", "-p", "f", self.at("put"))
        self.succeeds("get", "-q", "-p", self.at("f"), "got")
        (self.mine / "tree").mkdir()
        os.rename(self.mine / "f", self.mine / "tree/f")
        self.succeeds("sync", "-q", "tree", self.at("tree"))
        for path in (self.root / "put", self.mine / "got", self.root / "tree/f"):
            self.assertEqual(path.stat().st_mode & 0o7777, 0o751, path)


class ChangingTests(FaultCase):
    """A file that does not stay as it is while it is on its way."""

    def setUp(self) -> None:
        super().setUp()
        # More than the kernel takes of whoever sends while nobody reads.
        self.data = os.urandom(48 * MIB)

    def changes(self, path: Path) -> list[Callable[[], object]]:
        """Change it in all ways in which its contents are not those any more."""

        def rewritten() -> None:
            with path.open("r+b") as file:
                file.seek(47 * MIB)
                file.write(b"another")

        def grown() -> None:
            with path.open("ab") as file:
                file.write(b"more")

        return [grown, lambda: os.truncate(path, MIB), rewritten]

    def moved(self, verb: str, number: int) -> None:
        """Change a file in one way while it is got or put, and then move it once more."""
        source, target = (self.root, self.mine) if verb == "get" else (self.mine, self.root)
        for directory in (source, target):
            (directory / str(number)).mkdir()
        path, there = source / f"{number}/f", target / f"{number}/f"
        path.write_bytes(self.data)
        there.write_bytes(b"old")
        words = [self.at(f"{number}/f"), f"{number}/f"]
        words = [verb, "-q", "--retries", "0", *(words if verb == "get" else reversed(words))]
        done = self.meanwhile(there.parent, self.changes(path)[number], *words)
        if verb == "put":
            self.assertFailed(done, 125, "chang|shorter")
            self.assertEqual(there.read_bytes(), b"old")
            self.succeeds(*words)
        self.assertEqual(done.returncode, 125 if verb == "put" else 0, done.stderr)
        self.assertEqual(sha256(there), sha256(path))
        self.assertEqual(self.published(there.parent), ["f"])

    def test_get(self) -> None:
        """Of a file that grows, shrinks or is written to while it is got nothing is published but
        what it is afterwards, whole."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda number: self.moved("get", number), range(3)))

    def test_put(self) -> None:
        """One that is put is not published, and the old one is there. Put again, it is what it is
        now."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda number: self.moved("put", number), range(3)))

    def test_gone(self) -> None:
        """One that is removed, or replaced by another, while it is on its way arrives as it was:
        who has it open has it to its end."""
        self.data = self.data[: 12 * MIB]
        want = hashlib.sha256(self.data).hexdigest()
        for verb, source, target in (("get", self.root, self.mine), ("put", self.mine, self.root)):
            path = source / "f"
            for replaces in (False, True):
                path.write_bytes(self.data)
                words = (self.at("f"), "got") if verb == "get" else ("f", self.at("got"))

                def change(path: Path = path, replaces: bool = replaces) -> None:
                    if replaces:
                        (path.parent / "other").write_bytes(b"other")
                        os.rename(path.parent / "other", path)
                    else:
                        path.unlink()

                done = self.meanwhile(target, change, verb, "-q", "--retries", "0", *words)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertEqual(sha256(target / "got"), want)
                (target / "got").unlink()

    def test_tampered(self) -> None:
        """What somebody has changed in a partial is noticed, and sent again; what comes of it in
        the end is right."""
        (self.mine / "f").write_bytes(self.data)
        words = ("put", "-q", "--retries", "0", "f", self.at("f"))
        process = subprocess.Popen([BIN / "netsuite", *words, "--limit-rate", RATE], cwd=self.mine)
        try:
            eventually(lambda: begun(self.root), "some of the file")
        finally:
            process.send_signal(SIGKILL)
            process.wait()
        eventually(lambda: not self.isHeld(), "what the server has to do")
        [partial] = self.root.glob(".netsuite-partial-*")
        times = partial.stat()
        with partial.open("r+b") as file:
            file.seek(MIB + 5)
            byte = file.read(1)
            file.seek(MIB + 5)
            file.write(bytes([byte[0] ^ 1]))
        os.utime(partial, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.succeeds(*words)
        self.assertEqual(sha256(self.root / "f"), hashlib.sha256(self.data).hexdigest())
        self.assertClean(self.root, "f")

    def isHeld(self) -> bool:
        """Tell whether the server has a partial open."""
        [partial] = self.root.glob(".netsuite-partial-*")
        for each in Path(f"/proc/{self.twistd.pid}/fd").iterdir():
            try:
                if os.readlink(each) == str(partial):
                    return True
            except FileNotFoundError:
                continue
        return False


class LargeTests(FaultCase):
    """Files that are larger than numbers of 32 bits, and mostly holes."""

    def carried(self, size: int, marks: tuple[int, ...]) -> None:
        """Carry a file with a few bytes at some places there and back."""
        path = self.mine / "f"
        with path.open("wb") as file:
            file.truncate(size)
            for mark in marks:
                os.pwrite(file.fileno(), b"mark %d" % mark, mark)
        self.succeeds("put", "-q", "f", self.at("f"))
        self.succeeds("get", "-q", self.at("f"), "back")
        for there in (self.root / "f", self.mine / "back"):
            status = there.stat()
            self.assertEqual(status.st_size, size)
            self.assertLess(status.st_blocks * 512, (len(marks) + 1) * 2 * MIB)
            with there.open("rb") as one, path.open("rb") as other:
                for at in self.data(one.fileno()) | self.data(other.fileno()):
                    pieces = [os.pread(each.fileno(), MIB, at) for each in (one, other)]
                    self.assertEqual(pieces[0], pieces[1], f"at {at}")

    def data(self, file: int) -> set[int]:
        """Find the chunks of a file in which there is something but holes."""
        found, at, size = set(), 0, os.fstat(file).st_size
        while at < size:
            try:
                at = os.lseek(file, at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file, at, os.SEEK_HOLE)
            found |= set(range(at - at % MIB, end, MIB))
            at = end
        return found

    def test_overFour(self) -> None:
        """A file of more than 4 GiB is the same at both ends, about 2 and 4 GiB, too, and to its
        last byte."""
        gib = 2**30
        self.carried(5 * gib + 777, (0, 2 * gib - 4, 4 * gib - 4, 4 * gib + MIB - 3, 5 * gib + 760))

    def test_tera(self) -> None:
        """A file of 1 TiB with a few bytes of data is carried in seconds, and takes no more room
        than they do; one that is larger is refused."""
        self.carried(2**40, (0, 2**39, 2**40 - 20))
        with (self.mine / "f").open("wb") as file:
            file.truncate(2**40 + 1)
        self.fails(125, "1099511627776", "put", "-q", "f", self.at("larger"))
        self.assertClean(self.root, "f")
