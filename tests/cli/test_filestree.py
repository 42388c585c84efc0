"""
C{netsuite sync}, C{get -r} and C{put -r}.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import time
from typing import Any

from twisted.internet.defer import Deferred, fail

from tests.cli.filesrig import ADDRESS, TIME, FilesCase
from tests.cli.terminal import closed
from twisted_netsuite.cli import filestree
from twisted_netsuite.cli.filesmanner import INCOMPLETE, KEPT, MAX_TOLD, Manner
from twisted_netsuite.cli.filesrun import Console
from twisted_netsuite.cli.filessummary import LINES, inPieces, nameInJson
from twisted_netsuite.cli.filestree import DECLINED, Comparison, getTree, putTrees, syncTree
from twisted_netsuite.errors import ConfigurationError, Conflict, ConnectionFailed, Denied, NotFound
from twisted_netsuite.files import sync as syncing
from twisted_netsuite.files.digests import CHUNK
from twisted_netsuite.files.entries import TreeEntry
from twisted_netsuite.files.plan import Plan
from twisted_netsuite.files.progress import Failed, Outcome, TreeIncomplete
from twisted_netsuite.files.quota import KEEP

MANNER = Manner()
QUIET = Manner(quiet=True)


class TreeCase(FilesCase):
    """Trees at both ends."""

    def here(self, top: str = ".") -> dict[str, bytes]:
        """Read all files of a directory here."""
        return {
            os.path.relpath(os.path.join(above, name), top): self.read(os.path.join(above, name))
            for above, _, names in os.walk(top)
            for name in names
        }

    def there(self, top: str = "") -> dict[str, bytes]:
        """Read all files of a directory at the server."""
        found: dict[str, bytes] = {}
        for each in self.store.list(tuple(p.encode() for p in top.split("/") if p)):
            name = f"{top}/{os.fsdecode(each.name)}".lstrip("/")
            if each.attributes.kind == "directory":
                inside = self.there(name)
                found |= {f"{os.fsdecode(each.name)}/{key}": data for key, data in inside.items()}
            else:
                found[os.fsdecode(each.name)] = self.served(name)
        return found

    def sync(
        self,
        local: str,
        name: str,
        sending: bool = True,
        manner: Manner = MANNER,
        **compared: Any,
    ) -> Deferred[int]:
        """Make one tree as another."""
        return self.start(
            syncTree(
                self.reactor,
                self.server,
                self.at(name),
                local,
                sending=sending,
                comparison=Comparison(**compared),
                manner=manner,
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


class SyncTests(TreeCase):
    """L{syncTree}."""

    def test_bothWays(self) -> None:
        """A tree is sent and fetched, with modes and times; what is right is left as it is."""
        self.write("a/x", b"hello")
        self.write("a/d/y", b"world")
        os.chmod("a/x", 0o604)
        os.utime("a/x", ns=(TIME, TIME))
        self.assertEqual(self.successResultOf(self.sync("a", "/t/u")), 0)
        self.assertEqual(self.there("t/u"), {"x": b"hello", "d/y": b"world"})
        self.assertRegex(
            self.screen.err, r"^netsuite: 2 files sent, 0 unchanged; 10 bytes in 0\.\d s, .*/s\.\n$"
        )
        self.assertEqual(self.successResultOf(self.sync("b/c", "/t/u", sending=False)), 0)
        self.assertEqual(self.here("b/c"), {"x": b"hello", "d/y": b"world"})
        found = os.stat("b/c/x")
        self.assertEqual((found.st_mode & 0o777, found.st_mtime_ns), (0o604, TIME))
        before = len(self.screen.err)
        self.assertEqual(self.successResultOf(self.sync("b/c/", "/t/u", sending=False)), 0)
        self.assertRegex(
            self.screen.err[before:],
            r"^netsuite: 0 files fetched, 2 unchanged; 0 bytes in .* s\.\n$",
        )

    def test_quiet(self) -> None:
        """Nothing is said when nothing is to be said."""
        self.write("a/x", b"hello")
        self.assertEqual(self.successResultOf(self.sync("a", "/t", manner=QUIET)), 0)
        self.assertEqual((self.screen.out, self.screen.err), (b"", ""))

    def test_rules(self) -> None:
        """Patterns decide in their order, of what is transferred and of what is removed."""
        for name in ("a.o", "keep.o", "b", "tmp/c"):
            self.write(f"a/{name}", b"1")
        self.serve("t/old.o", b"1")
        self.serve("t/old", b"1")
        rules = ((True, b"keep.o"), (False, b"*.o"), (False, b"/tmp/"))
        done = self.sync("a", "/t", delete=True, yes=True, rules=rules)
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(sorted(self.there("t")), ["b", "keep.o", "old.o"])
        done = self.sync("a", "/t", rules=((False, b"[x"),))
        self.failureResultOf(done, ConfigurationError)

    def test_checksum(self) -> None:
        """With checksum contents are compared, and not times."""
        self.serve("t/x", b"hello")
        self.write("a/x", b"world")
        os.utime("a/x", ns=(TIME, TIME))
        self.successResultOf(self.sync("a", "/t"))
        self.assertEqual(self.served("t/x"), b"hello")
        self.successResultOf(self.sync("a", "/t", checksum=True))
        self.assertEqual(self.served("t/x"), b"world")

    def test_clobber(self) -> None:
        """What is there is left as it is when that is wanted."""
        self.serve("t/x", b"hello")
        self.write("a/x", b"other")
        self.write("a/y", b"new")
        self.assertEqual(
            self.successResultOf(self.sync("a", "/t", manner=Manner(clobber=False))), 0
        )
        self.assertEqual(self.there("t"), {"x": b"hello", "y": b"new"})

    def test_dryRun(self) -> None:
        """A dry run prints what would be done, and does nothing; on no terminal, too, it asks
        nobody."""
        self.write("a/x", b"hello")
        self.serve("t/y", b"1")
        done = self.sync("a", "/t", delete=True, dryRun=True)
        self.assertEqual(self.successResultOf(done), 0)
        lines = self.screen.out.decode().splitlines()
        self.assertEqual(lines[0], "*deleting   y")
        self.assertEqual(lines[-1], "<f+++++++++ x")
        self.assertIn(
            "netsuite: 1 file to transfer, 5 bytes; 0 unchanged, 1 to remove.", self.screen.err
        )
        self.assertEqual(self.there("t"), {"y": b"1"})

    def test_dryRunInJson(self) -> None:
        """The plan of a dry run can be read by programs, of which stdout holds nothing else."""
        self.write("a/x", b"hello")
        done = self.sync("a", "/t", dryRun=True, json=True)
        self.assertEqual(self.successResultOf(done), 0)
        lines = [json.loads(line) for line in self.screen.out.splitlines()]
        self.assertEqual([line["do"] for line in lines], ["make", "transfer", "total"])
        self.assertEqual(self.screen.err, "")

    def test_json(self) -> None:
        """What was done can be read by programs."""
        self.write("a/x", b"hello")
        self.serve("t/y/z", b"1")
        self.write("a/y", b"a file where the server has a directory")
        self.write(b"a/\xff", b"hello")
        done = self.sync("a", "/t", json=True)
        self.assertEqual(self.successResultOf(done), INCOMPLETE)
        found = json.loads(self.screen.out)
        self.assertEqual((found["files"], found["bytes"], found["failed"]), (2, 10, 1))
        [failure] = found["failures"]
        self.assertEqual((failure["name"], failure["code"]), ("y", "conflict"))
        self.assertEqual(self.screen.err, "")

    def test_deleteAsks(self) -> None:
        """Before anything is removed a person is asked, and without one nothing is."""
        self.write("a/x", b"hello")
        for name in ("a\x1b[2J", "b", "c", "d"):
            self.serve(f"t/{name}", b"1")
        error = self.failureResultOf(self.sync("a", "/t", delete=True), ConfigurationError).value
        self.assertIn("--yes", error.sentence)
        for answer in (b"\n", b"n\n", b"no\n", b"what?\n"):
            self.atTerminal(answer)
            done = self.sync("a", "/t", delete=True)
            self.assertEqual(self.successResultOf(done), DECLINED)
            self.assertEqual(len(self.there("t")), 4)
        self.assertEqual(
            self.questions[-1],
            "netsuite: Remove 4 files and directories ('d', 'c', 'b', ...)? [y/N] ",
        )
        self.assertEqual(self.screen.err, 4 * "netsuite: nothing was done.\n")
        self.atTerminal(b"Yes\n")
        self.assertEqual(self.successResultOf(self.sync("a", "/t", delete=True)), 0)
        self.assertEqual(list(self.there("t")), ["x"])
        self.assertIn("4 removed", self.screen.err)
        self.assertNotIn("\x1b", "".join(self.questions))

    def test_deleteAsksOnce(self) -> None:
        """When the connection is lost after somebody has agreed, nobody is asked again; unless
        something else would be removed by then."""
        self.write("a/x", b"hello")
        real, tries = syncing.sync, []

        def lost(*words: Any, **more: Any) -> Deferred[Any]:
            tries.append(words)
            if len(tries) > 1:
                return real(*words, **more)
            plan = Plan(delete=[TreeEntry(b"old", False)])
            agreed: Deferred[bool] = more["confirm"](plan)
            return agreed.addCallback(lambda _: fail(ConnectionFailed("It is gone.")))

        self.patch(filestree, "sync", lost)
        for others, asked in (((), 1), (("new",), 2)):
            tries.clear()
            self.questions.clear()
            for name in ("old", *others):
                self.serve(f"t/{name}", b"1")
            self.atTerminal(b"y\n" * asked)
            self.assertEqual(self.successResultOf(self.sync("a", "/t", delete=True)), 0)
            self.assertEqual((len(tries), len(self.questions)), (2, asked))
            self.assertEqual(self.there("t"), {"x": b"hello"})

    def test_interruptedQuestion(self) -> None:
        """Who breaks off at the question is told that nothing was begun."""
        self.write("a/x", b"hello")
        self.serve("t/y", b"1")
        self.atTerminal(b"")
        done = self.sync("a", "/t", delete=True)
        self.assertNoResult(done)
        self.signals.post(signal.SIGINT)
        self.go(done)
        self.assertEqual(self.successResultOf(done), 130)
        self.assertEqual(self.screen.err, "netsuite: broken off; nothing was begun.\n")
        self.assertEqual(self.there("t"), {"y": b"1"})

    def test_held(self) -> None:
        """A directory that holds what is not transferred is not removed, and that is said; of those
        above it, that they are not empty."""
        self.serve("t/x", b"1")
        os.makedirs("b/d/e")
        os.symlink("x", "b/d/e/link")
        done = self.sync("b", "/t", sending=False, delete=True, yes=True)
        self.assertEqual(self.successResultOf(done), INCOMPLETE)
        self.assertIn(
            "netsuite: d/e: It holds what is not transferred (links, devices), or what has just "
            "come; remove that on this machine.",
            self.screen.err,
        )
        self.assertIn("d' is a directory that is not empty", self.screen.err)
        self.assertTrue(os.path.islink("b/d/e/link"))

    def test_unreadable(self) -> None:
        """A file of this end that cannot be read is named as it was given."""
        os.mkdir("b")
        for local, known, told in (
            ("a", "'/a/d/x' lacks it.", "'a/d/x' lacks it."),
            ("b", "'/d/x' lacks it.", "'b/d/x' lacks it."),
            ("b", "h:1 says: '/d/x' lacks it.", "h:1 says: '/d/x' lacks it."),
        ):
            outcome = Outcome(Plan(), failed=1)
            outcome.failures = [Failed(b"d/x", Denied(known))]
            failed = TreeIncomplete("Some failed.", outcome)
            self.patch(filestree, "sync", lambda *_, failed=failed, **__: fail(failed))
            before = len(self.screen.err)
            done = self.sync(local, "/t", sending=False)
            self.assertEqual(self.successResultOf(done), INCOMPLETE)
            self.assertEqual(self.screen.err[before:].splitlines()[0], f"netsuite: {told}")

    def test_nothingToDelete(self) -> None:
        """Nobody is asked when there is nothing to remove."""
        self.write("a/x", b"hello")
        self.atTerminal(b"n\n")
        self.assertEqual(self.successResultOf(self.sync("a", "/t", delete=True)), 0)
        self.assertEqual(self.questions, [])

    def test_incomplete(self) -> None:
        """When some of it fails the rest is done; what failed is told, and nothing is removed."""
        for number in range(MAX_TOLD + 3):
            self.write(f"a/{number:02}", b"1")
            self.serve(f"t/{number:02}/old", b"1")
        self.write("a/x", b"hello")
        self.serve("t/y", b"1")
        os.symlink("x", "a/link")
        done = self.sync("a", "/t", delete=True, yes=True, manner=Manner(clobber=False))
        self.assertEqual(self.successResultOf(done), INCOMPLETE)
        lines = self.screen.err.splitlines()
        self.assertEqual(self.served("t/x"), b"hello")
        self.assertEqual(self.served("t/y"), b"1")
        self.assertTrue(lines[0].startswith("netsuite: 00: "), lines)
        self.assertEqual(lines[MAX_TOLD], "netsuite: 3 more failed.")
        self.assertEqual(
            lines[MAX_TOLD + 1], "netsuite: 1 entry was not removed, as something else had failed."
        )
        self.assertEqual(
            lines[MAX_TOLD + 2],
            "netsuite: skipped 1 entry, which is neither file nor directory: 'link'.",
        )
        self.assertIn("1 file sent, 0 unchanged, 23 failed; ", lines[-1])

    def test_noSource(self) -> None:
        """A tree that is not there is not made, and removes nothing."""
        self.serve("t/x", b"1")
        self.write("file", b"1")
        self.failureResultOf(self.sync("no", "/t", delete=True, yes=True), NotFound)
        self.failureResultOf(self.sync("file", "/t"), Conflict)
        self.failureResultOf(self.sync("file", "/t", sending=False), Conflict)
        self.failureResultOf(self.sync("file/d", "/t", sending=False), Conflict)
        error = self.failureResultOf(self.sync("b", "/no", sending=False), NotFound).value
        self.assertEqual(error.sentence, "There is no directory 'h:1:/no'.")
        self.assertEqual(os.listdir("."), ["file"])
        self.assertEqual(self.there("t"), {"x": b"1"})

    def test_link(self) -> None:
        """A link that is named stands for the directory to which it leads."""
        self.write("a/x", b"hello")
        os.symlink("a", "link")
        self.assertEqual(self.successResultOf(self.sync("link", "/t")), 0)
        self.assertEqual(self.there("t"), {"x": b"hello"})

    def test_interrupted(self) -> None:
        """Ctrl-C leaves whole files and what another run goes on with, and says so."""
        data = bytes(5 * CHUNK - 1) + b"1"
        for number in range(4):
            self.write(f"a/{number}", os.urandom(64) + data)
        command = syncTree(
            self.reactor,
            self.server,
            self.at("/t"),
            "a",
            sending=True,
            comparison=Comparison(),
            manner=MANNER,
            console=self.console,
        )
        done = Deferred.fromCoroutine(command)
        for _ in range(40):
            self.part()
        self.assertNoResult(done)
        self.signals.post(signal.SIGTERM)
        self.go(done)
        self.assertEqual(self.successResultOf(done), 143)
        self.assertEqual(self.screen.err, f"netsuite: {KEPT}\n")
        self.assertEqual(self.successResultOf(self.sync("a", "/t")), 0)
        self.assertEqual(self.there("t"), self.here("a"))

    def test_connectionLost(self) -> None:
        """A tree is gone on with over a new connection; files that were done are told, too."""
        self.write("a/x", b"hello")
        self.write("a/y", b"hello")
        real, tries = syncing.sync, []

        def once(source: Any, target: Any, options: Any, **more: Any) -> Deferred[Any]:
            tries.append(options)
            if len(tries) > 1:
                return real(source, target, options, **more)
            more["progress"].planned(2, 10)
            more["progress"].finished(b"z", "new")
            return fail(ConnectionFailed("It is gone."))

        self.patch(filestree, "sync", once)
        self.assertEqual(self.successResultOf(self.sync("a", "/t")), 0)
        self.assertEqual(
            self.screen.err.splitlines()[0], "netsuite: It is gone. It is tried again in 1 s."
        )
        self.assertIn("3 files sent", self.screen.err)

    def test_options(self) -> None:
        """Trees are not waited for on the disk, unless that is wanted."""
        self.assertFalse(Comparison().options(MANNER).durable)
        self.assertFalse(Comparison().options(Manner(durable=False)).durable)
        self.assertTrue(Comparison().options(Manner(durable=True)).durable)
        self.assertTrue(Comparison(delete=True, yes=True).options(MANNER).yes)


class GetTests(TreeCase):
    """L{getTree}."""

    def get(self, name: str, local: str = "", manner: Manner = QUIET, **compared: Any) -> int:
        """Get a tree."""
        comparison = Comparison(**compared)
        place = self.at(name)
        return self.status(
            getTree(self.reactor, self.server, place, local, manner, self.console, comparison)
        )

    def test_names(self) -> None:
        """A tree comes under its own name, what is in it without that, and again the same."""
        self.serve("t/d/x", b"hello")
        for name, local, found in (
            ("/t", "", "t/d/x"),
            ("/t", "", "t/d/x"),
            ("/t", "b", "b/t/d/x"),
            ("/t/", "c", "c/d/x"),
            ("/t/", "c", "c/d/x"),
            ("/t/d", "e", "e/d/x"),
            ("/", "f", "f/t/d/x"),
        ):
            self.assertEqual(self.get(name, local), 0)
            self.assertEqual(self.read(found), b"hello")
        self.assertEqual(sorted(os.listdir(".")), ["b", "c", "e", "f", "t"])

    def test_file(self) -> None:
        """A file is got as without -r."""
        self.serve("x", b"hello")
        self.assertEqual(self.get("/x", "y"), 0)
        self.assertEqual(self.here(), {"y": b"hello"})

    def test_told(self) -> None:
        """Names can be left out, and what would be done, or was, be told to people and programs;
        of a file, too."""
        self.serve("t/d/x", b"hello")
        self.serve("t/d/y.o", b"1")
        rules = ((False, b"*.o"),)
        self.assertEqual(self.get("/t", manner=MANNER, dryRun=True, rules=rules), 0)
        self.assertEqual(
            self.screen.out.decode().splitlines(),
            ["cd+++++++++ ./", "cd+++++++++ d/", ">f+++++++++ d/x"],
        )
        self.assertEqual(self.get("/t/d/x", manner=MANNER, dryRun=True), 0)
        self.assertEqual(self.screen.out.decode().splitlines()[3:], [">f+++++++++ x"])
        self.assertEqual(
            self.screen.err,
            2 * "netsuite: 1 file to transfer, 5 bytes; 0 unchanged, 0 to remove.\n",
        )
        self.assertEqual(os.listdir("."), [])
        before = len(self.screen.out)
        self.assertEqual(self.get("/t/", "b", rules=rules, json=True), 0)
        self.assertEqual(self.get("/t/d/y.o", manner=MANNER, json=True), 0)
        self.assertEqual(self.here(), {"b/d/x": b"hello", "y.o": b"1"})
        tree, file = map(json.loads, self.screen.out[before:].splitlines())
        self.assertEqual((tree["files"], tree["bytes"]), (1, 5))
        self.assertEqual((file["files"], file["bytes"]), (1, 1))
        self.assertEqual(tree.keys(), file.keys())

    def test_toldReplaced(self) -> None:
        """A file that is replaced, may not be, or cannot be is told as such."""
        self.serve("x", b"hello")
        self.write("x", b"12345")
        os.makedirs("d/x")
        self.assertEqual(self.get("/x", dryRun=True), 0)
        self.assertEqual(self.get("/x", dryRun=True, manner=Manner(clobber=False)), 0)
        self.assertEqual(self.get("/x", "d", dryRun=True), INCOMPLETE)
        replaced, clash = self.screen.out.decode().splitlines()
        self.assertRegex(replaced, r"^>f\.\.t[p.]\.\.\.\.\. x$")
        self.assertTrue(clash.startswith("!conflict   x: a file where"), clash)
        self.assertIn("0 files to transfer, 0 bytes; 0 unchanged, 1 kept", self.screen.err)
        self.assertEqual(self.read("x"), b"12345")

    def test_abandoned(self) -> None:
        """What an abandoned command has left long ago is removed by another one, in the directories
        that files come to, and in no other; not when it is only told what would be done."""
        self.serve("t/d/x", b"hello")
        left = [f"{place}.netsuite-partial-0" for place in ("t/", "t/d/", "t/e/")]
        for name in left:
            self.write(name, b"left")
        self.assertEqual(self.get("/t"), 0)
        os.remove("t/d/x")
        now = time.time()
        self.patch(time, "time", lambda: now + KEEP + 60)
        self.assertEqual(self.get("/t", dryRun=True), 0)
        self.assertTrue(all(map(os.path.exists, left)))
        self.assertEqual(self.get("/t"), 0)
        self.assertEqual([name for name in left if os.path.exists(name)], left[2:])

    def test_missing(self) -> None:
        """What is not there leaves nothing here."""
        done = self.start(
            getTree(self.reactor, self.server, self.at("/t"), "", QUIET, self.console)
        )
        self.failureResultOf(done, NotFound)
        self.assertEqual(os.listdir("."), [])


class PutTests(TreeCase):
    """L{putTrees}."""

    def put(self, *words: str, manner: Manner = QUIET, **compared: Any) -> int:
        """Put trees."""
        *paths, name = words
        comparison = Comparison(**compared)
        place = self.at(name)
        return self.status(
            putTrees(self.reactor, self.server, paths, place, manner, self.console, comparison)
        )

    def test_names(self) -> None:
        """A tree goes under its own name, what is in it without that, and again the same."""
        self.write("a/d/x", b"hello")
        for path, name, found in (
            ("a", "/", "a/d/x"),
            ("a", "/", "a/d/x"),
            ("a", "/b", "b/a/d/x"),
            ("a/", "/c", "c/d/x"),
            ("a/", "/c", "c/d/x"),
            ("a/.", "/e/", "e/d/x"),
        ):
            self.assertEqual(self.put(path, name), 0)
            self.assertEqual(self.served(found), b"hello")
        self.assertEqual(self.names(), [b"a", b"b", b"c", b"e"])

    def test_mixed(self) -> None:
        """Files and trees go together; when one fails the others do not."""
        self.serve("t/a/x", b"1")
        self.write("a/x/y", b"a directory where the server has a file")
        self.write("b/x", b"hello")
        self.write("z", b"world")
        self.assertEqual(self.put("a", "b", "z", "/t"), INCOMPLETE)
        self.assertEqual(self.there("t"), {"a/x": b"1", "b/x": b"hello", "z": b"world"})

    def test_makes(self) -> None:
        """The directory that files go to is made for them, too, and nothing else is."""
        self.write("y", b"hello")
        self.write("z", b"world")
        self.assertEqual(self.put("y", "z", "/t/u", dryRun=True), 0)
        self.assertEqual(self.names(), [])
        for _ in range(2):
            self.assertEqual(self.put("y", "z", "/t/u"), 0)
            self.assertEqual(self.there("t/u"), {"y": b"hello", "z": b"world"})
        self.assertEqual(self.put("y", "/v/"), 0)
        self.assertEqual(self.there("v"), {"y": b"hello"})

    def test_file(self) -> None:
        """One file is put as without -r."""
        self.write("x", b"hello")
        self.assertEqual(self.put("x", "/y"), 0)
        self.assertEqual(self.there(), {"y": b"hello"})

    def test_rules(self) -> None:
        """What is left out by its own name is not put, be it a tree, a file, or in a tree; what
        goes without a name of its own has none."""
        for name in ("a/x", "a/y.o", "z.o", "z", "tmp/x"):
            self.write(name, b"hello")
        rules = ((False, b"*.o"), (False, b"tmp/"))
        self.assertEqual(self.put("a", "z.o", "z", "tmp", "/t", rules=rules), 0)
        self.assertEqual(self.there("t"), {"a/x": b"hello", "z": b"hello"})
        self.assertEqual(self.put("tmp/", "/u", rules=rules), 0)
        self.assertEqual(self.there("u"), {"x": b"hello"})
        self.assertEqual(self.put("z.o", "/v", rules=rules), 0)
        self.assertEqual(self.names(), [b"t", b"u"])
        failing = putTrees(
            self.reactor,
            self.server,
            ["a"],
            self.at("/t"),
            QUIET,
            self.console,
            Comparison(rules=((False, b"[x"),)),
        )
        self.failureResultOf(self.start(failing), ConfigurationError)

    def test_dryRun(self) -> None:
        """A dry run tells of trees and of files among them, and does nothing."""
        self.write("a/x", b"hello")
        self.write("z", b"world")
        self.serve("t/z", b"1")
        self.assertEqual(self.put("a", "z", "/t", manner=MANNER, dryRun=True), 0)
        top, inside, file = self.screen.out.decode().splitlines()
        self.assertRegex(file, r"^<f\.st[p.]\.\.\.\.\. z$")
        self.assertEqual([top, inside], ["cd+++++++++ ./", "<f+++++++++ x"])
        self.serve("u/z/w", b"1")
        self.assertEqual(self.put("z", "a", "/u", dryRun=True), INCOMPLETE)
        self.assertIn("!conflict   z: a file where", self.screen.out.decode())
        self.store.remove((b"u", b"z", b"w"))
        self.store.remove((b"u", b"z"))
        self.store.remove((b"u",))
        self.assertEqual(self.put("z", "/new", dryRun=True), 0)
        self.assertEqual(self.screen.out.decode().splitlines()[-1], "<f+++++++++ new")
        self.assertEqual(self.there(), {"t/z": b"1"})
        failing = self.start(
            putTrees(
                self.reactor, self.server, ["no"], self.at("/t"), QUIET, self.console,
                Comparison(dryRun=True),
            )
        )  # fmt: skip
        self.failureResultOf(failing, NotFound)

    def test_json(self) -> None:
        """Programs are told of each tree, and then of the files together."""
        self.write("a/x", b"hello")
        for name in ("y", "z"):
            self.write(name, b"world!")
        self.serve("t/z/w", b"a directory where a file is to be")
        self.assertEqual(self.put("a", "y", "z", "/t", manner=MANNER, json=True), INCOMPLETE)
        tree, files = map(json.loads, self.screen.out.splitlines())
        self.assertEqual((files["files"], files["bytes"], files["failed"]), (1, 6, 1))
        self.assertEqual([each["name"] for each in files["failures"]], ["z"])
        self.assertEqual((tree["files"], tree["bytes"], tree["failures"]), (1, 5, []))
        self.assertEqual(files.keys(), tree.keys())
        self.assertEqual(self.put("y", "/v", manner=MANNER, json=True), 0)
        self.assertEqual(json.loads(self.screen.out.splitlines()[2])["files"], 1)
        self.assertEqual(self.screen.err, "")


class WordsTests(FilesCase):
    """What is written for programs."""

    def test_names(self) -> None:
        """A name in JSON is text, or bytes that were no text."""
        self.assertEqual(nameInJson(b"a\n"), {"name": "a\n"})
        self.assertEqual(nameInJson(b"\xff"), {"name64": "/w=="})
        self.assertEqual(nameInJson(b""), {"name": "."})

    def test_pieces(self) -> None:
        """A long plan is printed in pieces, all of it."""
        pieces = list(inPieces(str(number) for number in range(LINES + 1)))
        self.assertEqual(len(pieces), 2)
        self.assertEqual(len(b"".join(pieces).splitlines()), LINES + 1)
        self.assertEqual(ADDRESS, str(self.at("/x")).removesuffix(":/x"))
