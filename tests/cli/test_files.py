"""
The words of get, put, sync, ls, stat, rm, mv and mkdir: what each takes, and what is refused.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import twisted_netsuite.cli.fileslook as fileslook
import twisted_netsuite.cli.filesmove as filesmove
import twisted_netsuite.cli.filestree as filestree
import twisted_netsuite.cli.get as classic
from tests.cli.filesrig import FilesCase
from tests.cli.service import scripted
from tests.cli.words import WordsCase
from twisted_netsuite.cli import filesrun, streams
from twisted_netsuite.cli.filesmanner import Manner
from twisted_netsuite.cli.filesplaces import Remote, remoteOf, requireRemote, shownName
from twisted_netsuite.cli.filesrun import FilesServer, Sessions
from twisted_netsuite.cli.filestree import Comparison
from twisted_netsuite.cli.login import Login
from twisted_netsuite.errors import ConfigurationError, ConnectionFailed, LimitExceeded
from twisted_netsuite.net.tlscontext import TrustFiles

SERVER = FilesServer("h:1")
PLACE = Remote("h:1", b"/a")
TREE = {"comparison": Comparison()}


class WordsTests(WordsCase):
    """All commands."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(streams, "holdStandard", lambda: None)
        for module, names in (
            (filesmove, ("get", "put")),
            (filestree, ("getTree", "putTrees", "syncTree")),
            (fileslook, ("listFiles", "tellOf", "remove", "rename", "makeDirectory")),
            (classic, ("getFile",)),
        ):
            for name in names:
                self.record(module, name)

    def test_get(self) -> None:
        """Get takes a source and perhaps a place for it, natively unless told otherwise."""
        self.assertCalls("get h:1:/a", "get", "reactor", SERVER, PLACE, "", Manner())
        self.assertCalls("get h:1:/a -", "get", "reactor", SERVER, PLACE, "-", Manner())
        self.assertCalls(
            "get -r h:1:/a b", "getTree", "reactor", SERVER, PLACE, "b", Manner(), TREE
        )
        self.assertCalls(
            "get --dialect get h:1:/a b", "getFile", "reactor", "h:1:/a", "b", 60.0, None
        )
        self.assertRefused("get", "Missing argument 'ADDRESS:/REMOTE'")
        self.assertRefused("get a", "The source 'a' names no file of a server")
        self.assertRefused("get ./h:1:/a", "The source './h:1:/a' names no file of a server")
        self.assertRefused("get -r h:1:/a -", "A tree cannot be written to standard output")

    def test_classic(self) -> None:
        """What only the native dialect has is refused in the other."""
        for words in (
            "-r",
            "--preserve",
            "--no-clobber",
            "--durable",
            "--no-resume",
            "-j 2",
            "--retries 1",
            "--limit-rate 1M",
            "--quiet",
            "--user a",
            "--token-file f",
            "--exclude x",
            "--include x",
            "--dry-run",
            "--json",
        ):
            self.assertRefused(
                f"get --dialect get {words} h:1:/a", f"{words.split()[0]} is for --dialect native"
            )

    def test_put(self) -> None:
        """Put takes files, and where they go."""
        self.assertCalls("put a h:1:/a", "put", "reactor", SERVER, ["a"], PLACE, Manner())
        self.assertCalls("put - h:1:/a", "put", "reactor", SERVER, ["-"], PLACE, Manner())
        self.assertCalls("put a b h:1:/a", "put", "reactor", SERVER, ["a", "b"], PLACE, Manner())
        self.assertCalls(
            "put -r a h:1:/a", "putTrees", "reactor", SERVER, ["a"], PLACE, Manner(), TREE
        )
        self.assertRefused("put", "LOCAL")
        self.assertRefused("put h:1:/a", "Give one LOCAL or more")
        self.assertRefused("put a b", "The target 'b' names no file of a server")
        self.assertRefused("put a - h:1:/a", "Standard input is put alone")
        self.assertRefused("put -r - h:1:/a", "Standard input is put alone")

    def test_manner(self) -> None:
        """How files are moved can be said of each command that moves some."""
        words = "-j 3 --retries 0 --no-clobber --durable -q --limit-rate 1M"
        manner = Manner(connections=3, retries=0, clobber=False, durable=True, quiet=True)
        server = FilesServer("h:1", rate=1024.0**2)
        self.assertCalls(f"get {words} h:1:/a", "get", "reactor", server, PLACE, "", manner)
        self.assertCalls(
            f"get -r {words} h:1:/a", "getTree", "reactor", server, PLACE, "", manner, TREE
        )
        self.assertCalls(f"put {words} a h:1:/a", "put", "reactor", server, ["a"], PLACE, manner)
        self.assertCalls(
            f"put -r {words} a h:1:/a", "putTrees", "reactor", server, ["a"], PLACE, manner, TREE
        )
        self.assertCalls(
            f"sync {words} a h:1:/a",
            "syncTree", "reactor", server, PLACE, "a",
            {"sending": True, "comparison": Comparison(), "manner": manner},
        )  # fmt: skip
        self.assertCalls(
            "get --no-resume --no-durable -p h:1:/a",
            "get", "reactor", SERVER, PLACE, "", Manner(resume=False, durable=False, preserve=True),
        )  # fmt: skip
        for words in ("get -n h:1:/a", "put -n a h:1:/a"):
            self.assertRefused(words, "--dry-run is for trees")
        self.assertRefused("mv -n h:1:/a /b", "No such option")
        self.assertCalls(
            "sync -n a h:1:/a",
            "syncTree", "reactor", SERVER, PLACE, "a",
            {"sending": True, "comparison": Comparison(dryRun=True), "manner": Manner()},
        )  # fmt: skip
        for words in ("get -r h:1:/a", "put -r a h:1:/a", "sync a h:1:/a"):
            self.assertRefused(f"{words} --no-resume", "--no-resume is for files")

    def test_trees(self) -> None:
        """Of trees some names can be left out, by patterns in their order, and a plan or a summary
        be had for programs; files have none of that. What -n means is a dry run."""
        rules = ((False, b"*.o"), (True, b"x"), (False, b"y"))
        compared = {"comparison": Comparison(dryRun=True, json=True, rules=rules)}
        words = "--exclude *.o --include x --dry-run --json --exclude y"
        self.assertCalls(
            f"get -r {words} h:1:/a", "getTree", "reactor", SERVER, PLACE, "", Manner(), compared
        )
        self.assertCalls(
            f"put -r {words} a h:1:/a",
            "putTrees", "reactor", SERVER, ["a"], PLACE, Manner(), compared,
        )  # fmt: skip
        for command in ("get h:1:/a", "put a h:1:/a"):
            for word in ("--exclude x", "--include x", "--dry-run", "--json"):
                self.assertRefused(f"{command} {word}", f"{word.split()[0]} is for trees, with -r")
        dry = {"comparison": Comparison(dryRun=True)}
        self.assertCalls("get -rn h:1:/a", "getTree", "reactor", SERVER, PLACE, "", Manner(), dry)
        self.assertCalls(
            "put -rn a h:1:/a", "putTrees", "reactor", SERVER, ["a"], PLACE, Manner(), dry
        )
        for words in ("get -r --delete h:1:/a", "put -r --delete a h:1:/a"):
            self.assertRefused(words, "No such option")

    def test_compareAndSwap(self) -> None:
        """One file is replaced only if it has a digest, which is 64 hexadecimal digits."""
        digest = 32 * "aB"
        manner = Manner(replaces=bytes.fromhex(digest))
        self.assertCalls(
            f"put --if-unchanged {digest} a h:1:/a",
            "put", "reactor", SERVER, ["a"], PLACE, manner,
        )  # fmt: skip
        for wrong in ("", "ab", digest + "00", 64 * "g", "-"):
            result = self.invoke("put", f"--if-unchanged={wrong}", "a", "h:1:/a")
            self.assertEqual(result.exit_code, 125)
            self.assertIn("is no digest", result.stderr)
        self.assertRefused(f"put --if-unchanged {digest} a b h:1:/a", "is for one file")
        self.assertRefused(f"put --if-unchanged {digest} -r a h:1:/a", "is for one file")

    def test_rates(self) -> None:
        """A rate is bytes a second, with a unit; one at which the connection would be taken for
        dead is refused."""
        for text, rate in (
            ("500K", 512000.0),
            ("1.5m", 1.5 * 1024**2),
            ("1G", 1024.0**3),
            ("1MiB", 1024.0**2),
            ("2MB", 2e6),
            ("900kB", 9e5),
            ("900KB", 9e5),
            ("40000B", 4e4),
            ("40000", 4e4),
            ("0", None),
            ("0M", None),
        ):
            server = FilesServer("h:1", rate=rate)
            self.assertCalls(
                f"get --limit-rate {text} h:1:/a", "get", "reactor", server, PLACE, "", Manner()
            )
        self.called.clear()
        self.invoke("get", "--limit-rate", "20 MiB", "h:1:/a")
        self.assertEqual(self.called[0][2].rate, 20 * 1024.0**2)
        for text in ("fast", "-1M", "1T", "1.M", "nan", "inf", "1e9", "1mb", 400 * "9", ""):
            self.assertRefused(f"get --limit-rate={text} h:1:/a", "is no rate")
        self.assertRefused("get --limit-rate 31K h:1:/a", "has to be 32K at least with -j 1")
        self.assertRefused("get --limit-rate 100K -j 4 h:1:/a", "has to be 128K at least with -j 4")

    def test_sync(self) -> None:
        """Sync takes two directories, one of which is at a server, and patterns in their order."""
        manner = Manner()
        self.assertCalls(
            "sync h:1:/a b",
            "syncTree", "reactor", SERVER, PLACE, "b",
            {"sending": False, "comparison": Comparison(), "manner": manner},
        )  # fmt: skip
        rules = ((False, b"*.o"), (True, b"x"), (False, b"\xff"), (False, b"y"), (True, b"z"))
        compared = Comparison(
            checksum=True, delete=True, yes=True, dryRun=True, json=True, rules=rules
        )
        result = self.invoke(
            *("sync", "--exclude", "*.o", "--include", "x"),
            "--exclude=" + os.fsdecode(b"\xff"),
            *("a", "--exclude", "y", "h:1:/a", "--include", "z"),
            *("-c", "--delete", "--yes", "--dry-run", "--json"),
        )
        self.assertEqual(result.exit_code, 7, result.output)
        self.assertEqual(
            self.called[-1],
            (
                "syncTree", "reactor", SERVER, PLACE, "a",
                {"sending": True, "comparison": compared, "manner": manner},
            ),
        )  # fmt: skip
        for words in ("a b", "h:1:/a h:1:/b", "./h:1:/a b"):
            self.assertRefused(f"sync {words}", "One of SOURCE and TARGET has to be here")
        self.assertRefused("sync a", "Missing argument 'TARGET'")
        self.assertRefused("sync --yes a h:1:/a", "--yes is for --delete")

    def test_look(self) -> None:
        """The other commands take a place at a server."""
        plain = dict.fromkeys(("long", "human", "hidden", "zero", "asJson"), False)
        self.assertCalls("ls h:1:/a", "listFiles", "reactor", SERVER, PLACE, plain)
        self.assertCalls(
            "ls -la0 h:1:/a",
            "listFiles", "reactor", SERVER, PLACE,
            plain | {"long": True, "hidden": True, "zero": True},
        )  # fmt: skip
        self.assertCalls(
            "ls --json h:1:/a", "listFiles", "reactor", SERVER, PLACE, plain | {"asJson": True}
        )
        self.assertRefused("ls --json -l h:1:/a", "give it without -l and -0")
        self.assertCalls(
            "ls -lh h:1:/a",
            "listFiles", "reactor", SERVER, PLACE, plain | {"long": True, "human": True},
        )  # fmt: skip
        self.assertRefused("ls -h h:1:/a", "-h is for -l")
        self.assertCalls(
            "stat h:1:/a", "tellOf", "reactor", SERVER, PLACE, {"digest": False, "asJson": False}
        )
        self.assertCalls(
            "stat --hash --json h:1:/a",
            "tellOf", "reactor", SERVER, PLACE, {"digest": True, "asJson": True},
        )  # fmt: skip
        self.assertCalls(
            "mkdir -p h:1:/a", "makeDirectory", "reactor", SERVER, PLACE, {"parents": True}
        )
        for command in ("ls", "stat", "rm", "mkdir"):
            self.assertRefused(f"{command} a", "names no file of a server")
            self.assertRefused(command, "Missing argument 'ADDRESS:/REMOTE'")

    def test_remove(self) -> None:
        """Rm asks before it removes a tree, unless it is told not to."""
        for words, recursive, yes in (
            ("", False, False),
            ("-r ", True, False),
            ("-r --yes ", True, True),
        ):
            self.assertCalls(
                f"rm {words}h:1:/a",
                "remove", "reactor", SERVER, PLACE, {"recursive": recursive, "yes": yes},
            )  # fmt: skip
        self.assertRefused("rm --yes h:1:/a", "--yes is for -r")

    def test_rename(self) -> None:
        """Mv takes a new name at the same server."""
        for words, clobber in (("/b", True), ("h:1:/b", True), ("--no-clobber /b", False)):
            self.assertCalls(
                f"mv h:1:/a {words}",
                "rename", "reactor", SERVER, PLACE, Remote("h:1", b"/b"), {"clobber": clobber},
            )  # fmt: skip
        self.assertRefused("mv h:1:/a h:2:/b", "at the same server")
        self.assertRefused("mv h:1:/a b", "The name 'b' names no file of a server")

    def test_login(self) -> None:
        """Who one is, and whom one trusts, can be said to each command."""
        path = self.mktemp()
        with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write("secret\n")
        words = f"--user anna --token-file {path} --ca ca.pem --cert me.pem --timeout 5"
        server = FilesServer("h:1", TrustFiles("me.pem", "ca.pem"), Login("anna", "secret"), 5.0)
        for command in (
            *("get h:1:/a", "put a h:1:/a", "sync a h:1:/a", "ls h:1:/a", "stat h:1:/a"),
            *("rm h:1:/a", "mv h:1:/a /b", "mkdir h:1:/a"),
        ):
            self.invoke(*command.split(), *words.split())
            self.assertEqual(self.called.pop()[2], server)
            self.assertRefused(f"{command} --user anna", "--user and --token-file belong together")
            self.assertRefused(f"{command} --cert a", "--cert needs --ca")

    def test_help(self) -> None:
        """Each command tells what it takes, with an example."""
        for command in ("get", "put", "sync", "ls", "stat", "rm", "mv", "mkdir"):
            result = self.invoke(command, "--help")
            self.assertEqual(result.exit_code, 0)
            self.assertIn(f"\n  netsuite {command} ", result.output)
            self.assertIn(f"  {command} ", self.invoke("--help").output)

    def test_light(self) -> None:
        """What only prints help loads nothing heavy, of any command."""
        script = (
            "import sys\n"
            "from twisted_netsuite.cli.main import main\n"
            "try:\n"
            "    main(sys.argv[1:])\n"
            "except SystemExit:\n"
            "    pass\n"
            "heavy = {'twisted', 'tqdm', 'blake3', 'cryptography', 'OpenSSL', 'msgspec'}\n"
            "sys.exit(' '.join(sorted(heavy & sys.modules.keys())) or 0)\n"
        )
        for words in (["--help"], ["sync", "--help"], ["get", "nothing"]):
            done = subprocess.run(
                [sys.executable, "-c", script, *words], capture_output=True, timeout=60, check=False
            )
            self.assertEqual(done.returncode, 0, done.stderr)


class PlaceTests(SynchronousTestCase):
    """L{remoteOf}."""

    def test_remote(self) -> None:
        """What is at a server has an address and a name, of any bytes."""
        for text, address, name in (
            ("h:1:/a", "h:1", b"/a"),
            ("h:1:/", "h:1", b"/"),
            ("h:1:/a/", "h:1", b"/a/"),
            ("[::1]:1:/a:/b", "[::1]:1", b"/a:/b"),
            ("unix:/tmp/s:/a", "unix:/tmp/s", b"/a"),
            ("tls:h:1:/a", "tls:h:1", b"/a"),
            (os.fsdecode(b"h:1:/\xff\n"), "h:1", b"/\xff\n"),
        ):
            self.assertEqual(remoteOf(text), Remote(address, name))

    def test_local(self) -> None:
        """All else is here, as is what has a slash before its first colon."""
        for text in (
            "",
            "a",
            "/a",
            "./h:1:/a",
            "/h:1:/a",
            "h:1",
            "h:1:",
            "a:b",
            "-",
            "unix:/tmp/s",
        ):
            self.assertIsNone(remoteOf(text))

    def test_addressAlone(self) -> None:
        """Who names a server and nothing in it is told how that is written."""
        for text in ("h:1", "127.0.0.1:7021:", "[::1]:1", "tls:h:1", "unix:/tmp/s"):
            error = self.assertRaises(ConfigurationError, requireRemote, text, "place")
            self.assertIn("add :/ at its end", error.sentence)
        for text in ("a", "/h:1", "./h:1", "a:b", "-"):
            error = self.assertRaises(ConfigurationError, requireRemote, text, "place")
            self.assertIn("names no file of a server", error.sentence)

    def test_parts(self) -> None:
        """A place tells its last part, whether it is a directory for what comes, and names what
        is in it."""
        self.assertEqual(Remote("h:1", b"/a/b/").last, b"b")
        self.assertEqual(Remote("h:1", b"/").last, b"")
        self.assertTrue(Remote("h:1", b"/").isInto)
        self.assertFalse(Remote("h:1", b"/a").isInto)
        for name in (b"/a", b"/a/"):
            self.assertEqual(Remote("h:1", name).within(b"b"), Remote("h:1", b"/a/b"))
        self.assertEqual(Remote("h:1", b"/").within(b"b"), Remote("h:1", b"/b"))

    def test_shown(self) -> None:
        """What is shown does nothing to a terminal, and is not without end."""
        self.assertEqual(str(Remote("h:1", b"/\x1b\xff")), "h:1:/\ufffd\ufffd")
        self.assertEqual(len(shownName(5000 * b"x")), 200)


class SessionsTests(FilesCase):
    """L{Sessions}."""

    def test_opened(self) -> None:
        """Sessions are opened as they are wanted; those that have ended are replaced."""
        sessions = Sessions(self.reactor, self.server)
        self.serve("a", b"1")

        def have(count: int) -> list[Any]:
            wanted = sessions.some(count)
            self.endpoint.flush()
            asked: Any = wanted
            return list(self.successResultOf(asked))

        (first,) = have(1)
        self.assertEqual(have(1), [first])
        found = have(3)
        self.assertIs(found[0], first)
        self.assertEqual(len(self.endpoint.pairs), 3)
        self.endpoint.pairs[1].client.reset()
        self.assertEqual(len(have(3)), 3)
        self.assertEqual(len(self.endpoint.pairs), 4)
        closing = Deferred.fromCoroutine(sessions.close())
        self.endpoint.flush()
        self.successResultOf(closing)
        self.assertTrue(all(pair.client.lost for pair in self.endpoint.pairs))

    def test_oneFails(self) -> None:
        """When one of several cannot be opened that is told, and the others can be closed."""
        sessions = Sessions(self.reactor, self.server)
        real, calls = self.endpoint.connect, []

        def connect(factory: Any) -> Deferred[Any]:
            calls.append(factory)
            if len(calls) == 2:
                return real(factory).addCallback(lambda _: 1 / 0)
            return real(factory)

        self.patch(self.endpoint, "connect", connect)
        wanted = sessions.some(3)
        self.endpoint.flush()
        self.failureResultOf(wanted, ConnectionFailed)
        self.successResultOf(Deferred.fromCoroutine(sessions.close()))

    def test_otherDialect(self) -> None:
        """Of a server that speaks no session a person is told what it may be."""
        self.endpoint = scripted(self, filesrun, b"err: unknown request")[0]
        wanted = Sessions(self.reactor, self.server).some(1)
        self.endpoint.flush()
        error = self.failureResultOf(wanted, LimitExceeded).value
        self.assertTrue(error.sentence.endswith("; see whether it speaks another dialect."))

    def test_closed(self) -> None:
        """Of a server that closes the connection at once a person is told what it may want."""
        files = TrustFiles("", "ca.pem", "")
        for server, words in (
            (self.server, "wants TLS, then give --ca, or speaks another dialect."),
            (FilesServer("h:1", files), "see whether it speaks another dialect."),
            (FilesServer("unix:/s"), "see whether it speaks another dialect."),
        ):
            wanted = Sessions(self.reactor, server).some(1)
            self.endpoint.pairs[-1].server.loseConnection()
            self.endpoint.flush()
            error = self.failureResultOf(wanted, ConnectionFailed).value
            self.assertIn(words, error.sentence)

    def test_rate(self) -> None:
        """A rate holds for all that one command moves, whichever way."""
        self.server = FilesServer("h:1", rate=100 * 1024.0)
        self.serve("a", bytes(250 * 1024))
        command = filesmove.get(
            self.reactor, self.server, Remote("h:1", b"/a"), "", Manner(), self.console
        )
        done = Deferred.fromCoroutine(command)
        self.go(done, turns=100, seconds=0.01)
        self.assertNoResult(done)
        self.go(done, turns=300, seconds=0.01)
        self.assertEqual(self.successResultOf(done), 0)
        self.write("b", os.urandom(250 * 1024))
        command = filesmove.put(
            self.reactor, self.server, ["b"], Remote("h:1", b"/b"), Manner(), self.console
        )
        done = Deferred.fromCoroutine(command)
        self.go(done, turns=150, seconds=0.01)
        self.assertNoResult(done)
        self.go(done, turns=300, seconds=0.01)
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(self.served("b"), self.read("b"))
