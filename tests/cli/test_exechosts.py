"""
C{netsuite exec --hosts}: one command on many servers.
"""

from __future__ import annotations

import os
import pty
import signal
import tempfile
import tty

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import twisted_netsuite.cli.exechosts as hosts
import twisted_netsuite.cli.execnative as native
from tests.cli.remote import RemoteCommand, RemoteServers, RemoteSession
from tests.cli.terminal import DescriptorReactor, Screen, closed, drained, pipe
from tests.cli.test_execnative import Posted
from twisted_netsuite.cli.exechosts import (
    MAX_HOSTS,
    MAX_LINE,
    PROGRESS_INTERVAL,
    WINDOW,
    Block,
    readHosts,
    runOnHosts,
)
from twisted_netsuite.cli.execnative import Console, Server, Wish
from twisted_netsuite.errors import ConfigurationError, ConnectionFailed, Denied, LimitExceeded
from twisted_netsuite.rexec.outcome import Exited, Signalled


class ReadTests(SynchronousTestCase):
    """L{readHosts}."""

    def written(self, content: bytes) -> str:
        """Write a file, and name it."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(content)
        return f"@{path}"

    def test_commas(self) -> None:
        """Addresses stand between commas; each is taken once, in their order."""
        self.assertEqual(readHosts("b:1, a:2,,b:1,unix:/x"), ["b:1", "a:2", "unix:/x"])
        self.assertEqual(readHosts("b:1,a:2", "c:3,b:1"), ["b:1", "a:2", "c:3"])

    def test_file(self) -> None:
        """A file has one on each line, and comments."""
        path = self.written(b"# web\na:1\r\n\n  b:2  # the other\na:1\n#c:3")
        self.assertEqual(readHosts(path), ["a:1", "b:2"])

    def test_wrong(self) -> None:
        """What names no server is refused in a sentence."""
        for text, part in (
            ("", "names no server"),
            (" ,", "names no server"),
            (self.written(b"# none\n"), "names no server"),
            ("@/no/where", "cannot be read: no such file or directory"),
            ("@.", "cannot be read: is a directory"),
            (self.written(b"a:1\n\xff"), "is not UTF-8 at byte 4"),
            (self.written(b"".join(b"h:%d\n" % n for n in range(MAX_HOSTS + 1))), "is the most"),
        ):
            error = self.assertRaises(ConfigurationError, readHosts, text)
            self.assertIn(part, error.sentence)

    def test_large(self) -> None:
        """A file that is too large is not read to its end."""
        self.patch(hosts, "MAX_HOSTS_FILE", 10)
        self.assertEqual(readHosts(self.written(b"a:1\nb:2\n##")), ["a:1", "b:2"])
        path = self.written(b"a:1\nb:2\n###")
        error = self.assertRaises(ConfigurationError, readHosts, path)
        self.assertIn("more than 10 bytes", error.sentence)


class RoundTestCase(SynchronousTestCase):
    """Tests with servers a:1, b:1 and so on, and the ends of this process's outputs."""

    blocks = False

    def setUp(self) -> None:
        self.reactor = DescriptorReactor()
        self.screen = Screen(self)
        self.servers = RemoteServers(self, native)
        self.signals = Posted()
        self.printed, self.stdout = pipe(self)
        self.complained, self.stderr = pipe(self)

    def run_(self, names: str, parallel: int = 32) -> Deferred[int]:
        """Run a command on servers that have one letter each."""
        return Deferred.fromCoroutine(
            runOnHosts(
                self.reactor,
                [Server(f"{name}:1") for name in names],
                Wish(("ls",)),
                parallel=parallel,
                blocks=self.blocks,
                console=Console(-1, self.stdout, self.stderr, self.signals),
            )
        )

    def at(self, name: str) -> RemoteCommand:
        """Find the command on a server."""
        [command] = self.servers.sessions[f"{name}:1"].started
        return command

    def reached(self) -> str:
        """Tell which servers were connected to."""
        return "".join(str(each["endpoint"][0])[0] for each in self.servers.connects)

    def out(self) -> bytes:
        """What was printed since the last time."""
        self.reactor.settle()
        return drained(self.printed)

    def err(self) -> str:
        """What was said since the last time."""
        self.reactor.settle()
        return drained(self.complained).decode()

    def assertGone(self) -> None:
        """Nothing is left."""
        self.assertTrue(all(each.closed for each in self.servers.sessions.values()))
        self.assertEqual(self.signals.watched, {})
        self.assertEqual(self.reactor.getWriters(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class PrefixTests(RoundTestCase):
    """Lines with a host before each."""

    def test_lines(self) -> None:
        """Each line has its host before it, and comes once it is whole, on its own stream."""
        done = self.run_("ab")
        self.at("a").stdout.receive(b"one\ntw")
        self.at("b").stdout.receive(b"three\n")
        self.at("b").stderr.receive(b"oops\n")
        self.assertEqual(self.out(), b"a:1: one\nb:1: three\n")
        self.assertEqual(self.err(), "b:1: oops\n")
        self.at("a").stdout.receive(b"o\n\nlast")
        self.assertEqual(self.out(), b"a:1: two\na:1: \n")
        self.at("a").end(Exited(code=0))
        self.assertEqual(self.out(), b"a:1: last\n")
        self.at("b").end(Exited(code=0))
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual((self.out(), self.err()), (b"", "netsuite: 2 of 2 hosts are done.\n"))
        self.assertGone()

    def test_window(self) -> None:
        """What many servers send ahead is bounded."""
        self.run_("a")
        self.assertEqual(self.servers.sessions["a:1"].asked[0][1]["window"], WINDOW)

    def test_longLine(self) -> None:
        """A line without end is broken, and nothing of it is lost."""
        done = self.run_("a")
        for _ in range(4):
            self.at("a").stdout.receive(b"x" * (MAX_LINE // 2))
        self.at("a").end(Exited(code=0))
        found = b""
        while not done.called:
            found += self.out()
            self.reactor.turn()
        found += self.out()
        self.assertEqual(found, (b"a:1: " + b"x" * MAX_LINE + b"\n") * 2)

    def test_asTheyAre(self) -> None:
        """Into a pipe or a file lines go as they are, whatever is in them."""
        done = self.run_("a")
        self.at("a").stdout.receive(b"\x1b[2J\xff\ta\r\n")
        self.at("a").end(Exited(code=0))
        self.successResultOf(done)
        self.assertEqual(self.out(), b"a:1: \x1b[2J\xff\ta\r\n")

    def test_cleaned(self) -> None:
        """On a terminal no host can imitate another's lines, or move the cursor."""
        far, self.stdout = pty.openpty()
        for each in (far, self.stdout):
            self.addCleanup(closed, each)
        tty.setraw(self.stdout)
        done = self.run_("a")
        self.at("a").stdout.receive(b"\x1b[2J\rb:1: \xff\ta\r\n")
        self.at("a").end(Exited(code=0))
        self.successResultOf(done)
        shown = "a:1: \ufffd[2J b:1: \ufffd\ta\n"
        self.assertEqual(drained(far).decode(), shown)

    def test_backPressure(self) -> None:
        """While nobody reads, every host waits, and in the end no byte is missing."""
        done = self.run_("abc")
        piece = b"x" * 999 + b"\n"
        for _ in range(10):
            for name in "abc":
                self.at(name).stdout.receive(piece * 50)
        self.assertLess(sum(self.at(name).taken for name in "abc"), 300_000)
        for name in "abc":
            self.at(name).end(Exited(code=0))
        found = b""
        while not done.called:
            found += drained(self.printed)
            self.reactor.turn()
        found += drained(self.printed)
        for name in "abc":
            self.assertEqual(found.count(name.encode() + b":1: " + piece), 500)
        self.assertEqual(len(found), 1500 * 1005)
        self.assertGone()

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.binary(max_size=9)), max_size=20))
    def test_whole(self, pieces: list[tuple[str, bytes]]) -> None:
        """However output comes, lines are whole, in order, and their own host's."""
        self.setUp()
        self.run_("ab")
        sent = {"a": b"", "b": b""}
        for name, data in pieces:
            sent[name] += data
            self.at(name).stdout.receive(data)
        for name in "ab":
            self.at(name).end(Exited(code=0))
        lines = self.out().split(b"\n")[:-1]
        for name, data in sent.items():
            prefix = f"{name}:1: ".encode()
            mine = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
            expected = data.split(b"\n")
            self.assertEqual(mine, expected if expected[-1] else expected[:-1])


class RoundTests(RoundTestCase):
    """How many at a time, and what becomes of them."""

    def test_parallel(self) -> None:
        """No more servers are connected to at a time than may be; the next follows at once."""
        done = self.run_("abcd", parallel=2)
        self.assertEqual(self.reached(), "ab")
        self.at("b").end(Exited(code=0))
        self.assertEqual(self.reached(), "abc")
        self.at("a").end(Exited(code=0))
        self.at("c").end(Exited(code=0))
        self.assertNoResult(done)
        self.at("d").end(Exited(code=0))
        self.assertEqual(self.successResultOf(done), 0)

    def test_failures(self) -> None:
        """The status tells how many failed, and a line on stderr why each did."""
        self.servers.unreachable["c:1"] = ConnectionFailed("Cannot connect to c:1: it is off.")
        self.servers.unreachable["d:1"] = Denied("you may not.")
        done = self.run_("abcde")
        self.at("a").end(Exited(code=3))
        self.at("b").end(Signalled(name="KILL", number=9))
        self.at("e").end(Exited(code=0))
        self.assertEqual(self.successResultOf(done), 4)
        self.assertEqual(
            sorted(self.err().splitlines()),
            [
                "netsuite: 4 of 5 hosts failed.",
                "netsuite: Cannot connect to c:1: it is off.",
                "netsuite: a:1: exited with 3.",
                "netsuite: b:1: the command was ended by KILL.",
                "netsuite: d:1: you may not.",
            ],
        )
        self.assertGone()

    def test_noAddress(self) -> None:
        """An address that can be none is found before the command runs anywhere."""

        def parse(reactor: object, address: str, files: object) -> tuple[str, object]:
            if address == "c:1":
                raise ConfigurationError("c:1 is no address.")
            return address, files

        self.patch(native, "parseConnect", parse)
        error = self.failureResultOf(self.run_("abc"), ConfigurationError).value
        self.assertEqual((error.sentence, self.reached()), ("c:1 is no address.", ""))
        self.assertGone()

    def test_refusedAndClosed(self) -> None:
        """A server that refuses the command hears the end of the session before that counts."""
        session = self.servers.sessions["a:1"] = RemoteSession()
        session.refusal, session.closing = Denied("no."), Deferred()
        done = self.run_("a")
        self.assertNoResult(done)
        session.closing.callback(None)
        self.reactor.settle()
        self.assertEqual(self.successResultOf(done), 1)

    def test_mostCounted(self) -> None:
        """More than a hundred failures are told as 101, so that no status means something else."""
        for count, status in ((100, 100), (101, 101), (150, 101)):
            self.setUp()
            names = [chr(0x4E00 + n) for n in range(count)]
            for name in names:
                self.servers.unreachable[f"{name}:1"] = ConnectionFailed("off.")
            self.assertEqual(self.successResultOf(self.run_("".join(names))), status)

    def test_lostInTheMiddle(self) -> None:
        """A connection that breaks is a failure of that host, and of no other."""
        done = self.run_("ab")
        self.at("a").stdout.receive(b"half")
        self.at("a").lose(ConnectionFailed("it is gone."))
        self.assertEqual(self.out(), b"a:1: half\n")
        self.at("b").end(Exited(code=0))
        self.assertEqual(self.successResultOf(done), 1)
        self.assertIn("netsuite: a:1: it is gone.\n", self.err())

    def test_interrupted(self) -> None:
        """Ctrl-C, TERM and HUP end all, and begin nothing more."""
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            self.setUp()
            done = self.run_("abc", parallel=2)
            self.at("a").end(Exited(code=0))
            self.signals.send(number)
            self.assertEqual(self.successResultOf(done), status)
            self.assertEqual(self.screen.err, "netsuite: stopped when 1 of 3 hosts were done.\n")
            self.assertEqual(self.reached(), "abc")
            self.assertGone()

    def test_brokenPipe(self) -> None:
        """When nobody reads any more all are ended, quietly."""
        done = self.run_("abc", parallel=2)
        os.close(self.printed)
        self.at("a").stdout.receive(b"x\n")
        self.assertEqual(self.successResultOf(done), 141)
        self.assertEqual((self.screen.err, self.reached()), ("", "ab"))
        self.assertGone()

    def test_full(self) -> None:
        """An output that takes no more ends all with one sentence."""
        self.stdout = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(closed, self.stdout)
        done = self.run_("ab")
        self.at("a").stdout.receive(b"x\n")
        error = self.failureResultOf(done, ConfigurationError).value
        self.assertIn("no space left", str(error))
        self.assertGone()

    def test_given_up(self) -> None:
        """Who gives up ends all."""
        done = self.run_("ab")
        done.cancel()
        self.failureResultOf(done)
        self.assertGone()


class ProgressTests(RoundTestCase):
    """The line that says how far all is."""

    def setUp(self) -> None:
        super().setUp()
        self.complained, self.stderr = pty.openpty()
        for each in (self.complained, self.stderr):
            self.addCleanup(closed, each)
        tty.setraw(self.stderr)

    def test_progress(self) -> None:
        """On a terminal it comes soon, changes, gives way to lines, and is gone at the end."""
        done = self.run_("abc", parallel=2)
        self.assertEqual(self.err(), "")
        self.reactor.advance(PROGRESS_INTERVAL)
        self.assertEqual(self.err(), "\r\x1b[K0 of 3 done, 2 running, 0 failed")
        self.at("a").end(Exited(code=1))
        self.reactor.advance(PROGRESS_INTERVAL)
        self.assertEqual(self.err(), "\r\x1b[K1 of 3 done, 2 running, 1 failed")
        self.at("b").stdout.receive(b"x\n")
        self.assertEqual(self.err(), "\r\x1b[K")
        self.reactor.advance(PROGRESS_INTERVAL)
        self.assertIn("1 of 3", self.err())
        self.at("b").end(Exited(code=0))
        self.at("c").end(Exited(code=0))
        self.assertEqual(self.successResultOf(done), 1)
        self.assertEqual(
            self.err(),
            "\r\x1b[Knetsuite: a:1: exited with 1.\nnetsuite: 1 of 3 hosts failed.\n",
        )
        self.assertGone()

    def test_interrupted(self) -> None:
        """It is gone, too, when all is ended."""
        done = self.run_("ab")
        self.reactor.advance(PROGRESS_INTERVAL)
        self.err()
        self.signals.send(signal.SIGINT)
        self.successResultOf(done)
        self.assertEqual(self.err(), "\r\x1b[K")
        self.assertGone()

    def test_stalled(self) -> None:
        """A terminal that takes nothing is not sent more and more news."""
        done = self.run_("ab")
        self.at("a").stderr.receive(b"x\n" * 30_000)
        for _ in range(50):
            self.reactor.advance(PROGRESS_INTERVAL)
        self.assertNotIn("done", drained(self.complained).decode())
        done.cancel()
        self.failureResultOf(done)


class BlockTests(RoundTestCase):
    """A block for each host."""

    blocks = True

    def test_blocks(self) -> None:
        """A host's output comes as a whole when it is done, below its name and how it ended."""
        done = self.run_("ab")
        for name in "ab":
            self.at(name).stdout.receive(b"one of %s\n" % name.encode())
            self.at(name).stderr.receive(b"oops")
        self.assertEqual((self.out(), self.err()), (b"", ""))
        self.at("b").stdout.receive(b"two")
        self.at("b").end(Exited(code=2))
        self.assertEqual(self.out(), b"== b:1: exited with 2.\none of b\ntwo\n")
        self.assertEqual(self.err(), "oops\n")
        self.at("a").end(Exited(code=0))
        self.assertEqual(self.successResultOf(done), 1)
        self.assertEqual(self.out(), b"== a:1: done\none of a\n")
        self.assertGone()

    def test_unreachable(self) -> None:
        """A host that is not there has its block, too."""
        self.servers.unreachable["a:1"] = ConnectionFailed("off.")
        done = self.run_("a")
        self.assertEqual(self.successResultOf(done), 1)
        self.assertEqual(self.out(), b"== a:1: off.\n")

    def test_large(self) -> None:
        """What is large waits on the disk, comes at the reader's pace, and is not mixed."""
        done = self.run_("ab")
        size = 300_000
        for name in "ab":
            for _ in range(size // 1000):
                self.at(name).stdout.receive(name.encode() * 1000)
            self.assertEqual(self.at(name).taken, size)
            self.at(name).end(Exited(code=0))
        found = b""
        while not done.called:
            found += drained(self.printed)
            self.reactor.turn()
        found += drained(self.printed)
        first = b"== a:1: done\n" + b"a" * size + b"\n"
        self.assertEqual(found, first + b"== b:1: done\n" + b"b" * size + b"\n")
        self.assertGone()

    def test_tooLarge(self) -> None:
        """A host that writes more than a block may hold is ended, and says so."""
        self.patch(hosts, "MAX_BLOCK", 1000)
        done = self.run_("a")
        self.at("a").stdout.receive(b"x" * 1000)
        self.assertEqual(self.at("a").told, [])
        self.at("a").stdout.receive(b"x")
        self.assertEqual(self.at("a").told, ["cancel"])
        self.at("a").end(Exited(code=0))
        self.assertEqual(self.successResultOf(done), 1)
        self.assertIn("more than the 1000 bytes that a block holds", self.err())

    def test_diskFull(self) -> None:
        """A disk that takes no more ends the command of that host, with a sentence."""
        block = Block()
        self.addCleanup(block.close)

        class Full:
            def write(self, data: bytes) -> None:
                raise OSError(28, "No space left on device")

            def close(self) -> None: ...

        self.patch(block, "_file", Full())
        error = self.assertRaises(LimitExceeded, block.write, b"x")
        self.assertIn("no space left on device; set TMPDIR", error.sentence)
        self.assertIn(tempfile.gettempdir(), error.sentence)

    def test_cleaned(self) -> None:
        """On a terminal no block can imitate another."""
        far, self.stdout = pty.openpty()
        for each in (far, self.stdout):
            self.addCleanup(closed, each)
        tty.setraw(self.stdout)
        done = self.run_("a")
        self.at("a").stdout.receive(b"\x1b[2Jx\n\ty")
        self.at("a").end(Exited(code=0))
        self.successResultOf(done)
        self.assertEqual(drained(far).decode(), "== a:1: done\n\ufffd[2Jx\n\ty\n")

    def test_interrupted(self) -> None:
        """Whoever is interrupted while a block waits for its reader leaves nothing behind."""
        done = self.run_("ab")
        self.at("a").stdout.receive(b"x" * 300_000)
        self.at("a").end(Exited(code=0))
        self.signals.send(signal.SIGINT)
        self.assertEqual(self.successResultOf(done), 130)
        self.assertGone()
