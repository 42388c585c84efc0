"""
C{netsuite ls}, C{stat}, C{rm}, C{mv} and C{mkdir}.
"""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred

from tests.cli.filesrig import FilesCase
from tests.cli.terminal import closed
from twisted_netsuite.cli.fileslook import (
    listFiles,
    makeDirectory,
    remove,
    rename,
    tellOf,
)
from twisted_netsuite.cli.filesmanner import INCOMPLETE, MAX_TOLD
from twisted_netsuite.cli.filesrun import Console
from twisted_netsuite.cli.filestree import DECLINED
from twisted_netsuite.errors import (
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Denied,
    NotFound,
)
from twisted_netsuite.files.digests import digestOf


class LookCase(FilesCase):
    """Questions to a server; times are of UTC."""

    def setUp(self) -> None:
        super().setUp()
        before = os.environ.get("TZ")
        self.addCleanup(self.setZone, before)
        self.setZone("UTC")

    def setZone(self, zone: str | None) -> None:
        """Live in a time zone."""
        if zone is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = zone
        time.tzset()

    def printed(self) -> bytes:
        """Take what was printed since the last time."""
        out = sys.stdout.buffer
        assert isinstance(out, io.BytesIO)
        found = out.getvalue()
        out.seek(0)
        out.truncate()
        return found


class ListTests(LookCase):
    """L{listFiles}."""

    def list(self, name: str, **options: Any) -> bytes:
        """List a directory."""
        wanted = {"long": False, "hidden": False, "zero": False, "asJson": False} | options
        command = listFiles(
            self.reactor, self.server, self.at(name), console=self.console, **wanted
        )
        self.assertEqual(self.status(command), 0)
        return self.printed()

    def test_names(self) -> None:
        """Names are sorted as bytes, whatever they hold; with a dot they are hidden, or wanted."""
        for name in (b"b", b"B", b"a\nb", b"\xff", b".c", b"\x1b[2J"):
            self.serve(b"d/" + name, b"1")
        self.assertEqual(self.list("/d"), b"\x1b[2J\nB\na\nb\nb\n\xff\n")
        self.assertEqual(self.list("/d/", hidden=True), b"\x1b[2J\n.c\nB\na\nb\nb\n\xff\n")
        self.assertEqual(self.list("/d", zero=True), b"\x1b[2J\0B\0a\nb\0b\0\xff\0")
        self.assertEqual(self.list("/d/b"), b"b\n")

    def test_terminal(self) -> None:
        """On a terminal no name controls it, or looks like two."""
        for name in (b"a\nb", b"\xff", b"\x1b[2J"):
            self.serve(b"d/" + name, b"1")
        self.patch(sys.stdout, "isatty", lambda: True)
        self.assertEqual(self.list("/d").decode(), "\ufffd[2J\na b\n\ufffd\n")
        self.assertEqual(self.list("/d", zero=True), b"\x1b[2J\0a\nb\0\xff\0")

    def test_long(self) -> None:
        """Mode, size and time stand before a name."""
        self.serve("d/a", b"hello", 0o640)
        self.store.makeDirectory((b"d", b"e"), 0o755, False)
        self.store.change((b"d", b"e"), None, 10**18)
        self.assertEqual(
            self.list("/d", long=True).decode().splitlines(),
            [
                "-rw-r-----            5 2023-11-14 22:13 a",
                "drwxr-xr-x            0 2001-09-09 01:46 e",
            ],
        )

    def test_human(self) -> None:
        """Sizes have units when that is wanted."""
        self.serve("d/a", b"hello")
        self.serve("d/b", bytes(1_500_000))
        self.assertEqual(
            self.list("/d", long=True, human=True).decode().splitlines(),
            [
                "-rw-r-----      5 bytes 2023-11-14 22:13 a",
                "-rw-r-----      1.4 MiB 2023-11-14 22:13 b",
            ],
        )

    def test_times(self) -> None:
        """Any time that can be told is told, also one that no calendar has."""
        self.serve("a", b"1")
        for mtime, found in (
            (-1, "1969-12-31 23:59"),
            (2**63 - 1, "2262-04-11 23:47"),
            (-(2**63), "1677-09-21 00:12"),
        ):
            self.store.change((b"a",), None, mtime)
            self.assertIn(found, self.list("/", long=True).decode())

    def test_json(self) -> None:
        """JSON has all that is known, with names that are no text in base64."""
        self.serve("d/a", b"hello", 0o640)
        self.serve(b"d/\xff", b"hello")
        self.store.makeDirectory((b"d", b"e"), 0o755, False)
        first, directory, second = json.loads(self.list("/d", asJson=True))
        self.assertEqual(
            first,
            {
                "name": "a",
                "kind": "file",
                "size": 5,
                "mode": "0640",
                "mtime": "1700000000.123456789",
            },
        )
        self.assertEqual((directory["kind"], "size" in directory), ("directory", False))
        self.assertEqual(second["name64"], "/w==")

    def test_missing(self) -> None:
        """What is not there is told."""
        command = listFiles(
            self.reactor,
            self.server,
            self.at("/no"),
            long=False,
            hidden=False,
            zero=False,
            asJson=False,
            console=self.console,
        )
        self.failureResultOf(self.start(command), NotFound)


class StatTests(LookCase):
    """L{tellOf}."""

    def tell(self, name: str, digest: bool = False, asJson: bool = False) -> str:
        """Look at something."""
        command = tellOf(
            self.reactor,
            self.server,
            self.at(name),
            digest=digest,
            asJson=asJson,
            console=self.console,
        )
        self.assertEqual(self.status(command), 0)
        return self.printed().decode()

    def test_file(self) -> None:
        """A file is described, with its digest when that is wanted."""
        self.serve("d/a", b"hello", 0o640)
        lines = [
            "name:    /d/a",
            "kind:    file",
            "size:    5",
            "mode:    0640 -rw-r-----",
            "changed: 2023-11-14 22:13:20.123456789 +0000",
        ]
        self.assertEqual(self.tell("/d/a").splitlines(), lines)
        digest = digestOf(b"hello").hex()
        self.assertEqual(
            self.tell("/d/a", digest=True).splitlines(), [*lines, f"digest:  {digest}"]
        )
        found = json.loads(self.tell("/d/a", digest=True, asJson=True))
        self.assertEqual((found["name"], found["digest"]), ("/d/a", digest))

    def test_directory(self) -> None:
        """A directory has no size."""
        self.serve("d/a", b"hello")
        self.assertNotIn("size", self.tell("/d"))
        self.assertIn("kind:    directory", self.tell("/"))
        self.assertNotIn("digest", json.loads(self.tell("/", asJson=True)))


class RemoveTests(LookCase):
    """L{remove}."""

    def remove(self, name: str, recursive: bool = False, yes: bool = False) -> Deferred[int]:
        """Remove something."""
        return self.start(
            remove(
                self.reactor,
                self.server,
                self.at(name),
                recursive=recursive,
                yes=yes,
                console=self.console,
            )
        )

    def atTerminal(self, answer: bytes) -> None:
        """Let a person type."""
        far, near = pty.openpty()
        self.addCleanup(closed, far)
        self.addCleanup(closed, near)
        os.write(far, answer)
        self.console = Console(near, self.stdout, self.questions.append, self.signals)

    def test_one(self) -> None:
        """A file and an empty directory go, and a full one does not: how it would is told."""
        self.serve("d/a", b"hello")
        error = self.failureResultOf(self.remove("/d"), Conflict).value
        self.assertIn("h:1:/d is a directory that is not empty; give -r", error.sentence)
        self.assertEqual(self.successResultOf(self.remove("/d/a")), 0)
        self.assertEqual(self.successResultOf(self.remove("/d")), 0)
        self.assertEqual(self.names(), [])
        self.failureResultOf(self.remove("/d"), NotFound)

    def test_tree(self) -> None:
        """All of a tree goes, and nothing beside it."""
        for number in range(600):
            self.serve(f"d/{number % 7}/{number % 3}/{number}", b"1")
        self.serve("e", b"1")
        self.assertEqual(self.successResultOf(self.remove("/d", recursive=True, yes=True)), 0)
        self.assertEqual(self.names(), [b"e"])
        self.assertEqual(self.successResultOf(self.remove("/e", recursive=True, yes=True)), 0)
        self.assertEqual((self.screen.out, self.screen.err), (b"", ""))

    def test_root(self) -> None:
        """All that a server has is not removed, however that is written."""
        self.serve("d/a", b"1")
        for name in ("/", "//", "/."):
            for yes in (False, True):
                error = self.failureResultOf(
                    self.remove(name, recursive=True, yes=yes), ConfigurationError
                ).value
                self.assertIn("all that the server has, which is not removed", error.sentence)
        self.assertEqual(self.names("d"), [b"a"])

    def test_held(self) -> None:
        """Of a directory that holds what no list shows it is said what to do; of those above it,
        that they are not empty."""
        self.serve("d/e/a", b"1")
        real = self.store.remove

        def guarded(parts: tuple[bytes, ...], *more: bool) -> None:
            if parts == (b"d", b"e"):
                raise Conflict("'e' is a directory that is not empty.")
            real(parts, *more)

        self.patch(self.store, "remove", guarded)
        done = self.remove("/d", recursive=True, yes=True)
        self.assertEqual(self.successResultOf(done), INCOMPLETE)
        self.assertIn("netsuite: e: It holds what is not", self.screen.err)
        self.assertIn("remove that on the server.", self.screen.err)

        def held(parts: tuple[bytes, ...], *more: bool) -> None:
            raise Conflict("'f' is a directory that is not empty.")

        self.patch(self.store, "remove", held)
        self.store.makeDirectory((b"f",), None, False)
        done = self.remove("/f", recursive=True, yes=True)
        self.assertEqual(self.successResultOf(done), INCOMPLETE)
        self.assertIn("netsuite: /f: It holds what is not", self.screen.err)

    def test_asks(self) -> None:
        """A person is asked before a tree goes, and without one none does."""
        self.serve("d/a/b", b"hello")
        error = self.failureResultOf(self.remove("/d", recursive=True), ConfigurationError).value
        self.assertIn("--yes", error.sentence)
        self.atTerminal(b"n\n")
        self.assertEqual(self.successResultOf(self.remove("/d", recursive=True)), DECLINED)
        self.assertEqual(self.names(), [b"d"])
        self.assertEqual(
            self.questions,
            ["netsuite: Remove h:1:/d with 1 file of 5 bytes and 1 directory in it? [y/N] "],
        )
        self.atTerminal(b"y\n")
        self.assertEqual(self.successResultOf(self.remove("/d", recursive=True)), 0)
        self.assertEqual(self.names(), [])

    def test_interruptedQuestion(self) -> None:
        """Who leaves a question unanswered has removed nothing."""
        self.serve("d/a/b", b"hello")
        self.atTerminal(b"")
        done = self.remove("/d", recursive=True)
        self.assertNoResult(done)
        self.signals.post(signal.SIGINT)
        self.go(done)
        self.assertEqual(self.successResultOf(done), 130)
        self.assertEqual(self.names("d/a"), [b"b"])
        self.assertEqual(self.screen.err, "netsuite: broken off; nothing was begun.\n")

    def test_incomplete(self) -> None:
        """What cannot be removed is told, and the rest goes."""
        for number in range(MAX_TOLD + 5):
            self.serve(f"d/{number:02}/a", b"1")
        real = self.store.remove

        def guarded(parts: tuple[bytes, ...], *more: bool) -> None:
            if len(parts) == 3 and parts[1] != b"03":
                raise Denied("It is not yours.")
            real(parts, *more)

        self.patch(self.store, "remove", guarded)
        done = self.remove("/d", recursive=True, yes=True)
        self.assertEqual(self.successResultOf(done), INCOMPLETE)
        lines = self.screen.err.splitlines()
        self.assertEqual(len(lines), MAX_TOLD + 2)
        self.assertEqual(lines[-1], f"netsuite: 2 removed, {2 * (MAX_TOLD + 4)} not.")
        self.assertNotIn(b"03", self.names("d"))

    def test_connectionLost(self) -> None:
        """A connection that breaks is what failed."""
        self.serve("d/a", b"1")
        self.patch(self.store, "remove", lambda *words: self.cut())
        self.failureResultOf(self.remove("/d/a"), ConnectionFailed)


class RenameTests(LookCase):
    """L{rename} and L{makeDirectory}."""

    def rename(self, name: str, to: str, clobber: bool = True) -> Deferred[int]:
        """Rename something."""
        return self.start(
            rename(
                self.reactor,
                self.server,
                self.at(name),
                self.at(to),
                clobber=clobber,
                console=self.console,
            )
        )

    def make(self, name: str, parents: bool = False) -> Deferred[int]:
        """Make a directory."""
        return self.start(
            makeDirectory(
                self.reactor, self.server, self.at(name), parents=parents, console=self.console
            )
        )

    def test_rename(self) -> None:
        """A file gets another name, or goes to a directory, and replaces a file or does not."""
        self.serve("d/a", b"a")
        self.serve("b", b"b")
        self.assertEqual(self.successResultOf(self.rename("/b", "/d/")), 0)
        self.assertEqual(self.names("d"), [b"a", b"b"])
        self.failureResultOf(self.rename("/d/a", "/d/b", clobber=False), Conflict)
        self.assertEqual(self.successResultOf(self.rename("/d/a", "/d/b")), 0)
        self.assertEqual(self.served("d/b"), b"a")
        self.failureResultOf(self.rename("/d/a", "/c"), NotFound)

    def test_renameOnto(self) -> None:
        """Who names a directory without a slash is told how to move something into it."""
        self.serve("d/a", b"a")
        self.serve("b", b"b")
        for clobber in (True, False):
            error = self.failureResultOf(self.rename("/b", "/d", clobber), Conflict).value
            self.assertEqual(
                error.sentence,
                "h:1:/d is a directory; write h:1:/d/ to move it into that directory.",
            )
        error = self.failureResultOf(self.rename("/b", "/d/a", False), Conflict).value
        self.assertIn("h:1 says", error.sentence)

    def test_renameInto(self) -> None:
        """Whether the file is not there, or the directory for it, is told."""
        self.serve("a", b"a")
        for name, to, sentence in (
            ("/no", "/b", "h:1 says: '/no' does not exist."),
            ("/no", "/no/b", "h:1 says: '/no' does not exist."),
            (
                "/a",
                "/no/b",
                "There is no directory for h:1:/no/b; make it with netsuite mkdir -p.",
            ),
        ):
            failure = self.failureResultOf(self.rename(name, to), NotFound)
            self.assertEqual(failure.value.sentence, sentence)
        self.assertEqual(self.names(), [b"a"])

    def test_make(self) -> None:
        """A directory is made, and those above it when that is wanted."""
        self.assertEqual(self.successResultOf(self.make("/a")), 0)
        self.assertEqual(self.successResultOf(self.make("/a")), 0)
        failure = self.failureResultOf(self.make("/b/c"), NotFound)
        self.assertEqual(
            failure.value.sentence, "There is no directory for h:1:/b/c; give -p to make that, too."
        )
        self.assertEqual(self.successResultOf(self.make("/b/c", parents=True)), 0)
        self.assertEqual(self.names("b"), [b"c"])
