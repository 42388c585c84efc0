"""
C{netsuite put} of files, in the native dialect.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, fail

from tests.cli.filesrig import TIME, FilesCase
from twisted_netsuite.cli import filesmanner, filesmove
from twisted_netsuite.cli.filesmanner import (
    DROPPED,
    INCOMPLETE,
    Manner,
)
from twisted_netsuite.cli.filesmove import put
from twisted_netsuite.errors import (
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Denied,
    NetsuiteError,
    NotFound,
    StorageFailed,
)
from twisted_netsuite.files.digests import CHUNK, digestOf

MANNER = Manner()
LARGE = bytes(range(256)) * (5 * CHUNK // 256) + b"end"


class PutTests(FilesCase):
    """L{put}."""

    def put(self, *words: str, manner: Manner = MANNER) -> Deferred[int]:
        """Put files."""
        *paths, name = words
        return self.start(
            put(self.reactor, self.server, paths, self.at(name), manner, self.console)
        )

    def test_places(self) -> None:
        """A file gets the name that is told, or its own in a directory that is there or meant."""
        self.serve("d/x", b"x")
        self.write("a", b"hello")
        for name, found in (
            ("/b", "b"),
            ("/d", "d/a"),
            ("/d/", "d/a"),
            ("/d/c", "d/c"),
            ("/", "a"),
        ):
            self.assertEqual(self.successResultOf(self.put("a", name)), 0)
            self.assertEqual(self.served(found), b"hello")
            self.store.remove(tuple(part.encode() for part in found.split("/")))
        for name in ("/e/", "/e/a"):
            failure = self.failureResultOf(self.put("a", name), NotFound)
            self.assertEqual(
                failure.value.sentence,
                "There is no directory for h:1:/e/a; make it with netsuite mkdir -p.",
            )
        self.assertEqual((self.screen.out, self.screen.err), (b"", ""))

    def test_unasked(self) -> None:
        """What is at the server is looked at only if the file cannot be put there: who may write
        need not be allowed to look."""
        self.serve("d/x", b"x")
        self.write("a", b"hello")
        asked: list[object] = []
        real = filesmanner.lookAt

        def look(work: Any, session: Any, remote: Any) -> Any:
            asked.append(remote)
            return real(work, session, remote)

        self.patch(filesmanner, "lookAt", look)
        for name in ("/b", "/d/x", "/d/"):
            self.assertEqual(self.successResultOf(self.put("a", name)), 0)
        self.assertEqual(asked, [])
        self.assertEqual(self.successResultOf(self.put("a", "/d")), 0)
        self.assertEqual(asked, [self.at("/d")])
        self.assertEqual(self.names("d"), [b"a", b"x"])
        done = self.put("a", "/b", manner=Manner(clobber=False))
        self.failureResultOf(done, Conflict)

    def test_belowFile(self) -> None:
        """Where a file stands in the place of a directory it is named."""
        self.serve("d/x", b"x")
        self.write("a", b"hello")
        for name in ("/d/x/a", "/d/x/y/z/a", "/d/x/"):
            error = self.failureResultOf(self.put("a", name), Conflict).value
            self.assertEqual(
                error.sentence, "h:1:/d/x is a file, and no directory; give a directory."
            )

    def test_unreadable(self) -> None:
        """A file of this end that cannot be read is named as it was given."""
        self.write("o/secret", b"hello")
        refused = Denied("'/secret' needs a permission that the account of this program lacks.")

        def denied(*_: object, **__: object) -> Deferred[Any]:
            return fail(refused)

        self.patch(filesmove, "putFile", denied)
        error = self.failureResultOf(self.put("o/secret", "/a"), Denied).value
        self.assertTrue(error.sentence.startswith("'o/secret' needs a permission"), error.sentence)

    def test_large(self) -> None:
        """A file of many chunks goes whole, over several connections, too."""
        self.write("a", LARGE)
        self.assertEqual(self.successResultOf(self.put("a", "/a")), 0)
        self.assertEqual(self.served("a"), LARGE)
        self.patch(filesmanner, "WORTH_CONNECTING", CHUNK)
        self.endpoint.pairs.clear()
        self.assertEqual(self.successResultOf(self.put("a", "/b", manner=Manner(connections=2))), 0)
        self.assertEqual(self.served("b"), LARGE)
        self.assertEqual(len(self.endpoint.pairs), 2)

    def test_many(self) -> None:
        """Several files go to a directory, with a summary; those that fail are told at the end."""
        self.serve("d/x", b"x")
        self.write("a", b"hello")
        self.write("o/b", b"hello, too")
        self.assertEqual(self.successResultOf(self.put("a", "o/b", "/d")), 0)
        self.assertEqual(self.names("d"), [b"a", b"b", b"x"])
        self.assertIn("netsuite: 2 files sent; 15 bytes in 0.", self.screen.err)
        before = len(self.screen.err)
        done = self.put("a", "o/b", "/d", manner=Manner(clobber=False, quiet=True))
        self.assertEqual(self.successResultOf(done), INCOMPLETE)
        self.assertEqual(self.screen.err[before:].count("\n"), 2)

    def test_manyLost(self) -> None:
        """When the connection is lost for good, that is what failed, and not each file."""
        self.write("a", b"a")
        self.write("b", b"b")

        def lost(*_: object, **__: object) -> Deferred[Any]:
            return fail(ConnectionFailed("It is gone."))

        self.patch(filesmove, "putFile", lost)
        done = self.put("a", "b", "/", manner=Manner(retries=0))
        self.failureResultOf(done, ConnectionFailed)

    def test_link(self) -> None:
        """A link here stands for what it leads to."""
        self.write("o/a", b"hello")
        os.symlink("o/a", "link")
        self.assertEqual(self.successResultOf(self.put("link", "/")), 0)
        self.assertEqual(self.served("link"), b"hello")

    def test_refused(self) -> None:
        """What is no file here is not sent, and nothing else either."""
        self.write("a", b"hello")
        os.mkdir("d")
        os.mkfifo("fifo")
        cases: list[tuple[str, type[NetsuiteError], str]] = [
            ("no", NotFound, "There is no file 'no' here."),
            ("a/no", NotFound, "There is no file 'a/no' here."),
            ("d", ConfigurationError, "give -r"),
            ("fifo", Conflict, "standard input"),
        ]
        for path, cls, words in cases:
            error = self.failureResultOf(self.put("a", path, "/"), cls).value
            self.assertIn(words, error.sentence)
        self.assertEqual(self.names(), [])

    def test_compareAndSwap(self) -> None:
        """A file is replaced only if it still is what somebody has seen."""
        self.serve("a", b"old")
        self.write("a", b"new")
        done = self.put("a", "/a", manner=Manner(replaces=digestOf(b"other")))
        self.failureResultOf(done, Conflict)
        self.assertEqual(self.served("a"), b"old")
        done = self.put("a", "/no", manner=Manner(replaces=digestOf(b"old")))
        error = self.failureResultOf(done, NotFound).value
        self.assertIn("There is no file h:1:/no to replace", error.sentence)
        done = self.put("a", "/a", manner=Manner(replaces=digestOf(b"old")))
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(self.served("a"), b"new")

    def test_preserve(self) -> None:
        """Mode and time are kept when that is wanted."""
        self.write("a", b"hello")
        os.chmod("a", 0o604)
        os.utime("a", ns=(TIME, TIME))
        self.assertEqual(self.successResultOf(self.put("a", "/a", manner=Manner(preserve=True))), 0)
        found = self.store.stat((b"a",))
        self.assertEqual((found.mode, found.mtime), (0o604, TIME))

    def test_readOnly(self) -> None:
        """A server that changes nothing says so."""
        self.write("a", b"hello")
        self.patch(self.permit, "_writable", False)
        self.failureResultOf(self.put("a", "/a"), Denied)

    def test_standardInput(self) -> None:
        """A dash is standard input, which is sent once it has ended."""
        done = self.put("-", "/a")
        os.write(self.typed, b"hello, ")
        self.go(done)
        self.assertNoResult(done)
        os.write(self.typed, b"world")
        os.close(self.typed)
        self.go(done)
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(self.served("a"), b"hello, world")

    def test_standardInputNames(self) -> None:
        """Standard input has no name of its own, and is alone."""
        self.write("a", b"hello")
        for words in (("-", "/"), ("-", "/d/"), ("-", "a", "/d")):
            self.failureResultOf(self.put(*words), ConfigurationError)

    def test_standardInputFull(self) -> None:
        """When standard input cannot be kept, that is told, and how it could."""

        class Full:
            """A file on a disk without room."""

            name = "full"

            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: object) -> None:
                """There is nothing to close."""

            def write(self, data: bytes) -> int:
                raise OSError(28, "No space left on device")

        self.patch(filesmove, "spoolFile", Full)
        done = self.put("-", "/a")
        os.write(self.typed, b"hello")
        self.go(done)
        error = self.failureResultOf(done, StorageFailed).value
        self.assertIn("set TMPDIR", error.sentence)
        self.assertEqual(self.names(), [])

    def test_interruptedInput(self) -> None:
        """What came by standard input is gone when it is broken off, and that is said."""
        done = self.put("-", "/a")
        os.write(self.typed, b"hello")
        self.go(done)
        self.signals.post()
        self.go(done)
        self.assertEqual(self.successResultOf(done), 130)
        self.assertEqual(self.screen.err, f"netsuite: {DROPPED}\n")
        self.assertEqual(self.names(), [])

    def test_connectionLost(self) -> None:
        """A connection that breaks is made anew, and the file gone on with."""
        self.write("a", LARGE)
        command = put(self.reactor, self.server, ["a"], self.at("/a"), MANNER, self.console)
        done = Deferred.fromCoroutine(command)
        for _ in range(60):
            self.part()
        self.assertNoResult(done)
        self.cut()
        self.go(done, 200)
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(self.served("a"), LARGE)

    def test_noRetries(self) -> None:
        """A connection that breaks in the middle of a file is a failure that says with whom it was,
        why, and what to do."""
        self.write("a", LARGE)
        for steps in range(10, 70, 10):
            manner = Manner(retries=0, resume=steps % 20 == 0)
            place = self.at(f"/a{steps}")
            command = put(self.reactor, self.server, ["a"], place, manner, self.console)
            done = Deferred.fromCoroutine(command)
            for _ in range(steps):
                self.part()
            self.assertNoResult(done)
            self.cut()
            self.go(done)
            sentence = self.failureResultOf(done, ConnectionFailed).value.sentence
            self.assertIn("The connection to h:1 broke: ", sentence)
            end = " to go on with it." if manner.resume else "."
            self.assertTrue(sentence.endswith(f"; run the same command again{end}"), sentence)
        self.assertEqual(self.screen.err, "")
