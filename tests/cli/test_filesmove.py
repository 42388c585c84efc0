"""
C{netsuite get} of a file in the native dialect, and what is said of files that are moved.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail

from tests.cli.filesrig import ADDRESS, TIME, FilesCase
from tests.cli.terminal import drained
from twisted_netsuite.cli import filesmanner, filesmove, filesrun
from twisted_netsuite.cli.filesmanner import (
    DROPPED,
    KEPT,
    MAX_TOLD,
    WORTH_CONNECTING,
    Manner,
    tellFailures,
    worthwhile,
)
from twisted_netsuite.cli.filesmove import get
from twisted_netsuite.errors import (
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Denied,
    NetsuiteError,
    NotFound,
    SourceChanged,
    TimedOut,
)
from twisted_netsuite.files.digests import CHUNK
from twisted_netsuite.files.quota import KEEP
from twisted_netsuite.files.transfer import Got, getFile

MANNER = Manner()
LARGE = bytes(range(256)) * (5 * CHUNK // 256) + b"end"


class GetTests(FilesCase):
    """L{get}."""

    def get(self, name: str, local: str = "", manner: Manner = MANNER) -> Deferred[int]:
        """Get a file."""
        return self.start(
            get(self.reactor, self.server, self.at(name), local, manner, self.console)
        )

    def assertFails(self, done: Deferred[int], cls: type[NetsuiteError], *words: str) -> None:
        """The command has failed in a sentence, and nothing is left here."""
        sentence = self.failureResultOf(done, cls).value.sentence
        for word in words:
            self.assertIn(word, sentence)
        self.assertEqual(os.listdir("."), [])

    def test_places(self) -> None:
        """A file goes to this directory, to another under its own name, or where it is told."""
        self.serve("d/a b", b"hello")
        os.mkdir("other")
        for local, path in (
            ("", "a b"),
            (".", "a b"),
            ("other", "other/a b"),
            ("other/", "other/a b"),
            ("other/c", "other/c"),
            (f"{self.directory}/e", "e"),
        ):
            self.assertEqual(self.successResultOf(self.get("/d/a b", local)), 0)
            self.assertEqual(self.read(path), b"hello")
            os.remove(path)
        self.assertEqual((self.screen.out, self.screen.err), (b"", ""))

    def test_special(self) -> None:
        """What no file replaces is told as what it is, before anything is asked for."""
        self.serve("a", b"hello")
        os.mkfifo("fifo")
        os.symlink("nowhere", "link")
        for local, words in (
            ("/dev/null", "is no regular file, and none replaces it; give - and let standard"),
            ("fifo", "- > fifo"),
            ("link", "'link' is a symbolic link, which no file replaces; choose another name"),
        ):
            error = self.failureResultOf(self.get("/a", local), Conflict).value
            self.assertIn(words, error.sentence)
        self.assertEqual(sorted(os.listdir(".")), ["fifo", "link"])

    def test_large(self) -> None:
        """A file of many chunks comes whole, over several connections, too, and not over more than
        it is worth."""
        self.serve("a", LARGE)
        self.assertEqual(self.successResultOf(self.get("/a")), 0)
        self.assertEqual(self.read("a"), LARGE)
        self.patch(filesmanner, "WORTH_CONNECTING", CHUNK)
        self.endpoint.pairs.clear()
        self.assertEqual(self.successResultOf(self.get("/a", "b", Manner(connections=3))), 0)
        self.assertEqual(self.read("b"), LARGE)
        self.assertEqual(len(self.endpoint.pairs), 3)

    def test_names(self) -> None:
        """A name may hold any byte; it is that of the file here, too."""
        for name in (b"\xff\xfe", b"a\nb", b"-x", b"a:b", b"\x1b[2J", b"x" * 255):
            self.serve(name, b"hello")
            self.assertEqual(self.successResultOf(self.get("/" + os.fsdecode(name))), 0)
            self.assertEqual(os.listdir(b"."), [name])
            os.remove(name)

    def test_standardOutput(self) -> None:
        """A dash is standard output, as fast as that takes it."""
        self.serve("a", LARGE)
        done = self.get("/a", "-")
        self.assertNoResult(done)
        found = b""
        while not done.called:
            found += drained(self.written)
            self.turn(0.01)
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(found + drained(self.written), LARGE)
        self.assertEqual(os.listdir("."), [])

    def test_brokenOutput(self) -> None:
        """When nobody takes standard output any more the status is that of SIGPIPE, and nothing
        is said."""
        self.serve("a", LARGE)
        done = self.get("/a", "-")
        os.close(self.written)
        self.go(done)
        self.assertEqual(self.successResultOf(done), 141)
        self.assertEqual(self.screen.err, "")

    def test_fullOutput(self) -> None:
        """Standard output that takes no more is a failure."""
        self.serve("a", LARGE)
        full = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(os.close, full)
        self.console = filesrun.Console(self.stdin, full, signals=self.signals)
        done = self.get("/a", "-")
        self.assertFails(done, ConfigurationError, "The output takes no more")

    def test_refused(self) -> None:
        """What cannot be had fails with the status of its kind, and leaves nothing here."""
        self.serve("d/a", b"hello")
        self.assertFails(self.get("/b"), NotFound, "'/b'")
        self.assertFails(self.get("/../b"), NetsuiteError, "'..'")
        self.assertFails(self.get("/d"), ConfigurationError, "directory", "-r")
        self.assertFails(self.get("/"), ConfigurationError, "directory", "-r")
        self.assertFails(self.get("/d/.."), ConfigurationError, "names no file")
        self.assertFails(self.get("/d/a", "no/a"), ConfigurationError, "no directory 'no'")
        self.assertFails(self.get("/d/a", "no/"), ConfigurationError, "no directory 'no/'")

    def test_badTargets(self) -> None:
        """What is no file here is not replaced."""
        self.serve("a", b"hello")
        os.mkfifo("fifo")
        os.symlink("b", "link")
        for local in ("fifo", "link"):
            self.failureResultOf(self.get("/a", local), Conflict)
        self.assertEqual(sorted(os.listdir(".")), ["fifo", "link"])

    def test_clobber(self) -> None:
        """A file that is there is replaced, unless that is not wanted."""
        self.serve("a", b"new")
        self.write("a", b"old")
        self.failureResultOf(self.get("/a", manner=Manner(clobber=False)), Conflict)
        self.assertEqual(self.read("a"), b"old")
        self.assertEqual(self.successResultOf(self.get("/a")), 0)
        self.assertEqual(self.read("a"), b"new")

    def test_preserve(self) -> None:
        """Mode and time are kept when that is wanted, and only then."""
        self.serve("a", b"hello", 0o604)
        for preserve in (True, False):
            self.assertEqual(
                self.successResultOf(self.get("/a", manner=Manner(preserve=preserve))), 0
            )
            found = os.stat("a")
            kept = (found.st_mode & 0o777, found.st_mtime_ns) == (0o604, TIME)
            self.assertEqual(kept, preserve)
            os.remove("a")

    def test_wishes(self) -> None:
        """What is wished is asked for: by default with resume, and on the disk at the end."""
        self.serve("a", b"hello")
        asked: list[dict[str, Any]] = []

        def noted(*_: object, **wishes: Any) -> Deferred[Any]:
            asked.append(wishes)
            return fail(Conflict("It is only a test."))

        self.patch(filesmove, "getFile", noted)
        self.failureResultOf(self.get("/a"), Conflict)
        self.failureResultOf(self.get("/a", manner=Manner(resume=False, durable=False)), Conflict)
        self.assertEqual([each["resume"] for each in asked], [True, False])
        self.assertEqual([each["durable"] for each in asked], [True, False])

    def test_interrupted(self) -> None:
        """Ctrl-C breaks off, says how to go on, and the same command goes on with what is there."""
        self.serve("a", LARGE)
        for number, manner, sentence in (
            (signal.SIGINT, MANNER, KEPT),
            (signal.SIGTERM, MANNER, KEPT),
            (signal.SIGHUP, Manner(resume=False), DROPPED),
        ):
            before = len(self.screen.err)
            done = self.interruptible(manner)
            self.signals.post(number)
            self.go(done)
            self.assertEqual(self.successResultOf(done), 128 + number)
            self.assertEqual(self.screen.err[before:], f"netsuite: {sentence}\n")
            self.assertFalse(os.path.exists("a"))
            self.assertEqual(bool(os.listdir(".")), manner.resume)
            if manner.resume:
                self.assertEqual(self.successResultOf(self.get("/a")), 0)
                self.assertEqual(self.read("a"), LARGE)
                self.assertEqual(os.listdir("."), ["a"])
                os.remove("a")
        self.assertEqual(self.left, [])

    def interruptible(self, manner: Manner) -> Deferred[int]:
        """Get a file until some of it is there."""
        command = get(self.reactor, self.server, self.at("/a"), "", manner, self.console)
        done = Deferred.fromCoroutine(command)
        for _ in range(60):
            self.part()
        self.assertNoResult(done)
        return done

    def test_inTheWay(self) -> None:
        """What has the name of what is kept, and stays, keeps no file from coming; who breaks off
        is told that nothing is kept then, and why."""
        self.serve("a", LARGE)
        done = self.interruptible(MANNER)
        self.signals.post()
        self.go(done)
        journal, partial = sorted(os.listdir("."))
        for name in (journal, partial):
            os.remove(name)
        os.mkdir(journal)
        before = len(self.screen.err)
        done = self.interruptible(MANNER)
        self.signals.post()
        self.go(done)
        self.assertEqual(self.successResultOf(done), 130)
        first, second = self.screen.err[before:].splitlines()
        self.assertIn(f"'{journal}' is in the way", first)
        self.assertEqual(second, f"netsuite: {DROPPED}")
        self.assertEqual(os.listdir("."), [journal])
        before = len(self.screen.err)
        self.assertEqual(self.successResultOf(self.get("/a")), 0)
        self.assertEqual((self.read("a"), self.screen.err[before:]), (LARGE, ""))

    def test_interruptedTwice(self) -> None:
        """A second Ctrl-C ends the process at once."""
        self.serve("a", LARGE)
        self.interruptible(MANNER)
        self.signals.post()
        self.assertEqual(self.left, [])
        self.signals.post()
        self.assertEqual(self.left, [130])

    def test_interruptedOutput(self) -> None:
        """What went to standard output cannot be gone on with, and nothing is said of that."""
        self.serve("a", LARGE)
        done = self.get("/a", "-")
        self.signals.post()
        self.go(done)
        self.assertEqual(self.successResultOf(done), 130)
        self.assertEqual(self.screen.err, "")

    def test_connectionLost(self) -> None:
        """A connection that breaks is made anew, and the file gone on with; a person is told."""
        self.serve("a", LARGE)
        done = self.interruptible(MANNER)
        self.cut()
        self.go(done, 200)
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(self.read("a"), LARGE)
        [line] = self.screen.err.splitlines()
        self.assertTrue(line.endswith(" It is tried again in 1 s."), line)

    def test_changed(self) -> None:
        """A file that is replaced while it comes is got as it is then; one that changes all the
        time is told after some tries, and leaves nothing."""
        self.serve("a", b"old")
        tries = 0

        def changing(*words: Any, **more: Any) -> Deferred[Any]:
            nonlocal tries
            tries += 1
            if tries <= filesmove.CHANGES:
                self.serve("a", b"version %d" % tries)
            return getFile(*words, **more)

        self.patch(filesmove, "getFile", changing)
        self.assertEqual(self.successResultOf(self.get("/a")), 0)
        self.assertEqual(self.read("a"), b"version %d" % filesmove.CHANGES)
        os.remove("a")
        self.patch(filesmove, "getFile", lambda *words, **more: fail(SourceChanged("It changed.")))
        self.assertFails(self.get("/a"), SourceChanged)

    def test_abandoned(self) -> None:
        """What an abandoned command has left is removed by another one in the same directory, when
        it is as old as what a server keeps no longer; what another name leads to, too, and what is
        in other directories, stays. Old or not, the same command goes on with it."""
        self.assertEqual(filesmanner.KEEP, KEEP)
        self.serve("a", LARGE)
        self.serve("b", b"hello")
        done = self.interruptible(MANNER)
        self.signals.post()
        self.go(done)
        left = sorted(os.listdir("."))
        self.assertEqual(len(left), 2)
        os.mkdir("d")
        self.write("d/.netsuite-partial-x", b"of another directory")
        self.write(".netsuite-partial-y", b"of two names")
        os.link(".netsuite-partial-y", "y")
        self.assertEqual(self.successResultOf(self.get("/b")), 0)
        self.assertLessEqual(set(left), set(os.listdir(".")))
        now = time.time()
        self.patch(time, "time", lambda: now + KEEP + 60)
        got: list[Got] = []

        def kept(found: Got) -> Got:
            got.append(found)
            return found

        def noted(*words: Any, **more: Any) -> Deferred[Got]:
            return getFile(*words, **more).addCallback(kept)

        self.patch(filesmove, "getFile", noted)
        self.assertEqual(self.successResultOf(self.get("/a")), 0)
        self.assertEqual(self.read("a"), LARGE)
        self.assertGreater(got[0].there, 0)
        for name in left:
            self.write(name, b"left")
        self.assertEqual(self.successResultOf(self.get("/b")), 0)
        self.assertEqual(sorted(os.listdir(".")), [".netsuite-partial-y", "a", "b", "d", "y"])
        self.assertEqual(os.listdir("d"), [".netsuite-partial-x"])
        self.assertEqual(self.screen.err.count("\n"), 1)

    def test_noRetries(self) -> None:
        """Without retries a connection that breaks is a failure, which says with whom, and what to
        do."""
        self.serve("a", LARGE)
        for manner, end in ((Manner(), " to go on with it."), (Manner(resume=False), ".")):
            done = self.interruptible(replace(manner, retries=0))
            self.cut()
            self.go(done, 200)
            error = self.failureResultOf(done, ConnectionFailed).value
            self.assertIn(ADDRESS, error.sentence)
            self.assertTrue(error.sentence.endswith(f"; run the same command again{end}"))
            self.assertEqual(self.screen.err, "")

    def test_unreachable(self) -> None:
        """Who cannot be reached at all is not tried again."""
        self.patch(self.endpoint, "connect", lambda factory: fail(OSError(111, "refused")))
        self.assertFails(self.get("/a"), ConnectionFailed, ADDRESS)
        self.assertEqual(self.screen.err, "")

    def test_silent(self) -> None:
        """A server that does not answer ends the command with the status of a timeout."""
        self.patch(self.factory.protocol, "_ask", lambda *_: None)
        self.server = filesrun.FilesServer(ADDRESS, timeout=2.0)
        done = self.get("/a")
        self.assertFails(done, TimedOut, "within 2 s")

    def test_noLooking(self) -> None:
        """Who may read but not look gets files all the same."""
        self.serve("a", LARGE)
        self.patch(
            self.factory.protocol,
            "_ask",
            lambda session, record: session.answer(
                session.failed(record.id, Denied("You may not."), False)
            ),
        )
        self.assertEqual(self.successResultOf(self.get("/a")), 0)
        self.assertEqual(self.read("a"), LARGE)


class WordsTests(FilesCase):
    """What is said, whichever way they are moved."""

    def test_failures(self) -> None:
        """So many failures are told, and the rest is counted; none controls a terminal."""
        failures = [(f"n{number}", "It failed.") for number in range(MAX_TOLD + 5)]
        failures[0] = ("a\x1b[2J", "It failed.")
        failures[1] = ("n1", "'n1' failed.")
        failures[3] = ("5", "unix:/tmp/5.sock says: 'a5' is 5 bytes too large.")
        tellFailures(failures, 1000)
        lines = self.screen.err.splitlines()
        self.assertEqual(len(lines), MAX_TOLD + 1)
        self.assertEqual(lines[1:3], ["netsuite: 'n1' failed.", "netsuite: n2: It failed."])
        # A name is told also where its letters are in other words.
        self.assertEqual(lines[3], f"netsuite: 5: {failures[3][1]}")
        self.assertEqual(lines[-1], f"netsuite: {1000 - MAX_TOLD} more failed.")
        self.assertNotIn("\x1b", self.screen.err)

    def test_worthwhile(self) -> None:
        """A small file has one connection, a larger one as many as there may be."""
        for size, most, found in (
            (0, 4, 1),
            (WORTH_CONNECTING, 4, 1),
            (2 * WORTH_CONNECTING, 4, 2),
            (100 * WORTH_CONNECTING, 4, 4),
            (100 * WORTH_CONNECTING, 1, 1),
        ):
            self.assertEqual(worthwhile(most, size), found)
        self.assertEqual(worthwhile(3, None), 3)
