"""
The command get.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import twisted_netsuite.cli.get as command
from tests.cli.service import scripted
from tests.cli.terminal import Screen
from twisted_netsuite.cli.get import getFile, splitSource, wholeFile
from twisted_netsuite.cli.run import report
from twisted_netsuite.errors import (
    ConfigurationError,
    ConnectionFailed,
    Denied,
    NetsuiteError,
    NotFound,
    TimedOut,
)


class SplitSourceTests(SynchronousTestCase):
    """L{splitSource}."""

    def test_forms(self) -> None:
        """A source is an address and a name, whatever form the address has."""
        for source, address, name in (
            ("127.0.0.1:7021:/a.txt", "127.0.0.1:7021", "a.txt"),
            ("host.example:7021:/d/a b.txt", "host.example:7021", "d/a b.txt"),
            ("[::1]:7021:/a", "[::1]:7021", "a"),
            ("h:1://a", "h:1", "/a"),
            ("h:1:/a:/b", "h:1", "a:/b"),
            ("[::1]:1:/a:/b", "[::1]:1", "a:/b"),
            ("h:1:/unix:/a", "h:1", "unix:/a"),
            ("h:1:/a\nb", "h:1", "a\nb"),
            ("unix:/tmp/s:/a", "unix:/tmp/s", "a"),
            ("unix:s:/a", "unix:s", "a"),
            ("unix:/tmp/s:/a:/b", "unix:/tmp/s", "a:/b"),
            ("unix:/tmp/s:timeout=3:/a", "unix:/tmp/s:timeout=3", "a"),
            ("unix:path=/tmp/s:/a", "unix:path=/tmp/s", "a"),
            ("tls:h:1:/a", "tls:h:1", "a"),
            ("tls:h:1:/a:/b", "tls:h:1", "a:/b"),
            ("tcp:host=h:port=1:/a", "tcp:host=h:port=1", "a"),
        ):
            self.assertEqual(splitSource(source), (address, name))

    def test_bad(self) -> None:
        """What names no file is refused, with the form that it should have."""
        for source in ("", "h:1", "h:1:", "h:1:/", "h:1:a", "/a", ":/a", "unix:/tmp/s", "unix:/a/"):
            error = self.assertRaises(ConfigurationError, splitSource, source)
            self.assertEqual(
                str(error),
                f"The source {source!r} names no file; give ADDRESS:/NAME, as in "
                "127.0.0.1:7021:/a.txt.",
            )


class WholeFileTests(SynchronousTestCase):
    """L{wholeFile}."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.path = os.path.join(self.directory, "a.txt")

    def content(self) -> bytes:
        """Read the file."""
        with open(self.path, "rb") as file:
            return file.read()

    def test_whole(self) -> None:
        """A file appears under its name when all of it is written, and not before."""
        with wholeFile(self.path) as file:
            file.write(b"hello")
            self.assertFalse(os.path.exists(self.path))
        self.assertEqual(self.content(), b"hello")
        self.assertEqual(os.listdir(self.directory), ["a.txt"])

    def test_replaced(self) -> None:
        """What had the name is there until the new file is whole."""
        with open(self.path, "wb") as old:
            old.write(b"something old and longer")
        with wholeFile(self.path) as file:
            file.write(b"new")
            file.flush()
            self.assertEqual(self.content(), b"something old and longer")
        self.assertEqual(self.content(), b"new")

    def test_failure(self) -> None:
        """A failure leaves what was there before, and nothing else."""
        with open(self.path, "wb") as old:
            old.write(b"old")

        def interrupted(error: BaseException) -> None:
            with wholeFile(self.path) as file:
                file.write(b"half")
                raise error

        for error in (TimedOut("late"), KeyboardInterrupt(), GeneratorExit()):
            self.assertRaises(type(error), interrupted, error)
            self.assertEqual(os.listdir(self.directory), ["a.txt"])
            self.assertEqual(self.content(), b"old")

    def test_mode(self) -> None:
        """A file's rights are those that the mask leaves, as with any new file."""
        for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o000, 0o666)):
            before = os.umask(mask)
            try:
                with wholeFile(self.path):
                    pass
                self.assertEqual(os.umask(mask), mask)
            finally:
                os.umask(before)
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), mode)

    def test_unwritable(self) -> None:
        """A place where no file can be is told in one sentence, and nothing is left there."""
        there = os.path.join(self.directory, "directory")
        os.mkdir(there)
        cases: list[tuple[str, str]] = [
            (os.path.join(self.directory, "missing", "a"), "no such file or directory"),
            (os.path.join("/dev/null", "a"), "not a directory"),
            (there, "is a directory"),
            (os.path.join(self.directory, "n" * 256), "file name too long"),
        ]
        for path, reason in cases:

            def write(path: str = path) -> None:
                with wholeFile(path) as file:
                    file.write(b"x")

            error = self.assertRaises(ConfigurationError, write)
            self.assertEqual(
                str(error), f"The file {path!r} cannot be written: {reason}; give another LOCAL."
            )
        self.assertEqual(os.listdir(self.directory), ["directory"])

    def test_longName(self) -> None:
        """Any name that a file can have can be written, of the longest too."""
        for name in ("n" * 255, "é" * 127, "\N{GRINNING FACE}" * 63):
            with wholeFile(os.path.join(self.directory, name)) as file:
                file.write(b"x")
            self.assertIn(name, os.listdir(self.directory))


class GetFileTests(SynchronousTestCase):
    """L{getFile}."""

    def setUp(self) -> None:
        self.screen = Screen(self)
        self.clock = Clock()
        self.directory = os.path.realpath(self.mktemp())
        os.mkdir(self.directory)
        home = os.getcwd()
        os.chdir(self.directory)
        self.addCleanup(os.chdir, home)

    def get(self, local: str, *answers: bytes | None, name: str = "d/a.txt") -> Deferred[int]:
        """Get a file from a service that answers so, for as long as it takes."""
        self.endpoint, self.heard = scripted(self, command, *answers)
        done = Deferred.fromCoroutine(getFile(self.clock, f"h:1:/{name}", local, 5))
        for _ in range(100):
            self.endpoint.flush()
            self.clock.advance(0.1)
        return done

    def assertFails(self, done: Deferred[int], cls: type[NetsuiteError], status: int) -> str:
        """The command has failed so and left nothing; give its sentence."""
        error = self.failureResultOf(done, cls).value
        self.assertEqual(error.exitStatus, status)
        self.assertEqual(os.listdir(self.directory), [])
        return str(error)

    def test_places(self) -> None:
        """A file goes to this directory, to another under its own name, or where it is told."""
        os.mkdir("other")
        for local, path in (
            ("", "a.txt"),
            (".", "./a.txt"),
            ("other", "other/a.txt"),
            ("other/", "other/a.txt"),
            ("other/b", "other/b"),
            (f"{self.directory}/c", "c"),
        ):
            self.assertEqual(self.successResultOf(self.get(local, b"5", b"hello")), 0)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), b"hello")
        self.assertEqual(self.heard, [b"get d/a.txt", b"recv_ready"])
        self.assertIsNotNone(self.endpoint.pairs[0].client.lost)
        self.assertEqual(self.screen.out, b"")

    def test_standardOutput(self) -> None:
        """A dash is standard output."""
        self.assertEqual(self.successResultOf(self.get("-", b"5", b"he\xff\r\n")), 0)
        self.assertEqual(self.screen.out, b"he\xff\r\n")
        self.assertEqual(os.listdir(self.directory), [])

    def test_empty(self) -> None:
        """An empty file is a file."""
        self.assertEqual(self.successResultOf(self.get("", b"0", None)), 0)
        self.assertEqual(os.path.getsize("a.txt"), 0)

    def test_refused(self) -> None:
        """A refusal is told with the status of its kind, and leaves nothing."""
        cases: list[tuple[bytes, type[NetsuiteError], int]] = [
            (b"err: not-found: there is none.", NotFound, 127),
            (b"err: denied: it is not yours.", Denied, 126),
            (b"err: whatever", Denied, 126),
        ]
        for answer, cls, status in cases:
            sentence = self.assertFails(self.get("", answer), cls, status)
            self.assertIn("The server refused 'd/a.txt': ", sentence)

    def test_refusedWithControls(self) -> None:
        """A refusal that would control the terminal is shown as one harmless line."""
        done = self.get("", b"err: denied: \x1b[2J\nnetsuite: all is well")
        self.assertEqual(report(self.failureResultOf(done, Denied)), 126)
        [line] = self.screen.err.splitlines()
        self.assertTrue(line.startswith("netsuite: The server refused 'd/a.txt': "), line)
        self.assertNotIn("\x1b", line)

    def test_cutOff(self) -> None:
        """A file that breaks off leaves nothing, and what was there before stays."""
        self.assertFails(self.get("", b"10"), ConnectionFailed, 125)
        self.assertFails(self.get("", b"10", b"half"), TimedOut, 124)
        with open("a.txt", "w") as old:
            old.write("old")
        done = self.get("", b"10", b"half")
        self.failureResultOf(done, TimedOut)
        with open("a.txt") as old:
            self.assertEqual(old.read(), "old")
        self.assertEqual(os.listdir(self.directory), ["a.txt"])

    def test_timeout(self) -> None:
        """A service that says nothing ends the command with status 124."""
        self.assertFails(self.get("", None), TimedOut, 124)

    def test_bad(self) -> None:
        """A source that names no file, or an address that is none, is refused with status 1."""
        sources: list[Callable[[], Deferred[int]]] = [
            lambda: Deferred.fromCoroutine(getFile(self.clock, "h:1", "", 5)),
            lambda: Deferred.fromCoroutine(getFile(self.clock, "nonsense:/a", "", 5)),
        ]
        for get in sources:
            self.assertFails(get(), ConfigurationError, 125)
