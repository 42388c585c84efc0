"""
The ledger of commands: what it promises it keeps, through crashes, full disks and second servers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from twisted_netsuite.errors import ConfigurationError, LimitExceeded
from twisted_netsuite.rexec import ledger as module
from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.ledger import (
    MAX_WAITING,
    MIGRATIONS,
    STOPPED,
    Kept,
    KeyTaken,
    Ledger,
    LedgerUnavailable,
)
from twisted_netsuite.rexec.messages import MAX_SHOWN, Tally
from twisted_netsuite.rexec.outcome import Outcome
from twisted_netsuite.rexec.spool import Spool

NOW = 1_795_267_683.25

#: One of each way to end.
OUTCOMES: list[Outcome] = [
    outcome.Exited(code=3),
    outcome.Signalled(name="SEGV", number=11, core=True),
    outcome.TimedOut(seconds=1.5),
    outcome.Denied(rule="operators", reason="No: \u2028 \x1b\x00 \U0001f600."),
    outcome.Limit(which="output", reason="Too much."),
    outcome.Lost(reason="Gone."),
    outcome.NotStarted(code="not-found", reason="There is no such program."),
]

#: Begins a command in a process that is then killed; the end of its input would end it, too.
HELPER = """
import sys
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted_netsuite.rexec.ledger import Kept, Ledger

ledger = Ledger(sys.argv[1], Clock(), inThread=maybeDeferred)
ledger.open()
row = Kept(id="abc", identity="cert:anna", key="k", digest=b"d", started=1.0, ttl=60.0)
ledger.begin(row).addCallback(lambda _: print("begun", flush=True))
sys.stdin.read()
"""


def kept(id: str = "abc", identity: str = "cert:anna", **more: Any) -> Kept:
    """Make a row of a command that runs."""
    return Kept(**{"id": id, "identity": identity, "started": NOW, "ttl": 60.0, **more})


def ended(row: Kept, **more: Any) -> Kept:
    """Make a row of a command that has exited."""
    end = {"outcome": outcome.Exited(code=0), "ended": NOW, "expires": NOW + row.ttl}
    return replace(row, **{**end, **more})


class Threads:
    """Does what is given to a thread at once, or, when it is held, when it is let."""

    def __init__(self) -> None:
        self.held = False
        self.calls = 0
        self._waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, function: Callable[[], Any]) -> Deferred[Any]:
        self.calls += 1
        if not self.held:
            return maybeDeferred(function)
        done: Deferred[Any] = Deferred()
        self._waiting.append((function, done))
        return done

    def run(self) -> None:
        """Do all that waits, and what comes of it."""
        while self._waiting:
            ((function, done),) = self._waiting
            self._waiting = []
            maybeDeferred(function).chainDeferred(done)


class LedgerCase(SynchronousTestCase):
    """A ledger in a directory."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.threads = Threads()
        self.opened: list[Ledger] = []
        self.addCleanup(self.closeAll)

    def closeAll(self) -> None:
        """Leave nothing open, as a crash would."""
        for each in self.opened:
            each._file.close()

    def new(self) -> Ledger:
        """Make a ledger."""
        ledger = Ledger(self.directory, self.clock, inThread=self.threads)
        self.opened.append(ledger)
        return ledger

    def make(self) -> Ledger:
        """Make a ledger, and open it."""
        ledger = self.new()
        self.successResultOf(ledger.open())
        return ledger

    def crash(self, ledger: Ledger) -> list[Kept]:
        """Leave a ledger as a process does that is killed, and open it anew."""
        ledger._file.close()
        return self.successResultOf(self.new().open())

    def assertRefused(self, *reasons: str, path: str | None = None) -> None:
        """The directory cannot be used; the sentence names it and tells why; nothing stays open."""
        before = os.listdir("/proc/self/fd")
        ledger = self.new()
        error = self.failureResultOf(ledger.open(), ConfigurationError).value
        for reason in (path or self.directory, *reasons):
            self.assertIn(reason, error.sentence)
        self.assertTrue(error.sentence.endswith("."))
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before))

    def connect(self) -> sqlite3.Connection:
        """Look at the database from outside."""
        path = os.path.join(self.directory, "ledger.sqlite")
        connection = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(connection.close)
        return connection

    def alter(self, statement: str, *values: str) -> None:
        """Change the database from outside."""
        with contextlib.closing(self.connect()) as connection:
            connection.execute(statement, values)

    def stored(self) -> list[str]:
        """List the commands in the database."""
        with contextlib.closing(self.connect()) as connection:
            return [id for (id,) in connection.execute("SELECT id FROM command ORDER BY id")]


class OpenTests(LedgerCase):
    """L{Ledger.open}."""

    def test_made(self) -> None:
        """The directory and all in it are made for the owner alone, whatever the umask is."""
        self.addCleanup(os.umask, os.umask(0))
        ledger = self.new()
        self.assertEqual(self.successResultOf(ledger.open()), [])
        self.successResultOf(ledger.begin(kept()))
        modes = {
            os.path.relpath(path, self.directory): stat.S_IMODE(os.stat(path).st_mode)
            for path in (self.directory, *Path(self.directory).iterdir())
        }
        self.assertEqual(
            modes,
            {
                ".": 0o700,
                "spool": 0o700,
                "ledger.sqlite": 0o600,
                "ledger.sqlite-wal": 0o600,
                "ledger.sqlite-shm": 0o600,
            },
        )

    def test_backup(self) -> None:
        """A ledger that came back from a backup is its owner's alone again."""
        self.successResultOf(self.make().close())
        path = os.path.join(self.directory, "ledger.sqlite")
        os.chmod(path, 0o644)
        self.make()
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def test_durable(self) -> None:
        """Each commit waits for the disk."""
        connection = self.make()._file._connection
        assert connection is not None
        self.assertEqual(connection.execute("PRAGMA synchronous").fetchone(), (2,))
        self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))

    def test_everyField(self) -> None:
        """What was written is what is read, for each way to end, and each field."""
        ledger = self.make()
        rows = []
        for number, how in enumerate(OUTCOMES):
            row = kept(
                "abcdefgh"[number],
                key=f"key {number}",
                digest=b"\x00\xff" * 16,
                command=b"\xff\x00ls",
                pty=True,
                started=NOW + number,
                onDisconnect="detach",
            )
            self.successResultOf(ledger.begin(row))
            row = ended(
                row,
                outcome=how,
                stdout=Tally(count=2**62, sha256=b"\xfe" * 32),
                stderr=Tally(count=0, sha256=b"\x01" * 32),
                stdinAt=2**62,
                stdoutCredited=2**62,
                stderrCredited=7,
            )
            self.successResultOf(ledger.update(row))
            rows.append(row)
        self.successResultOf(ledger.close())
        self.assertEqual(self.successResultOf(self.new().open()), rows)

    def test_oldestFirst(self) -> None:
        """Commands come in the order in which they were started."""
        ledger = self.make()
        for id, started in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
            self.successResultOf(ledger.begin(kept(id, started=started)))
        self.assertEqual([row.id for row in self.crash(ledger)], ["b", "c", "a"])

    def test_lost(self) -> None:
        """What ran when the server stopped is lost, and kept for as long as was promised."""
        ledger = self.make()
        row = kept(key="k", ttl=100.0, stdinAt=5)
        self.successResultOf(ledger.begin(row))
        self.clock.advance(1000)
        found = replace(row, outcome=STOPPED, ended=NOW + 1000, expires=NOW + 1100)
        self.assertEqual(self.crash(ledger), [found])
        self.clock.advance(99)
        self.assertEqual(self.crash(self.opened[-1]), [found])

    def test_expired(self) -> None:
        """What has expired is forgotten, to the second, and its key is free."""
        ledger = self.make()
        for id, seconds in (("a", 0.0), ("b", 1.0), ("c", 2.0)):
            row = kept(id, key=id)
            self.successResultOf(ledger.begin(row))
            self.successResultOf(ledger.update(ended(row, expires=NOW + seconds)))
        self.clock.advance(1)
        self.assertEqual([row.id for row in self.crash(ledger)], ["c"])
        self.assertEqual(self.stored(), ["c"])

    def test_many(self) -> None:
        """However many commands there are, opening takes the same few statements."""
        ledger = self.make()
        counts = []
        for start, count in ((0, 10), (10, 9_990)):
            self.threads.held = True
            for number in range(start, start + count):
                if number % 1000 == 0:
                    self.threads.run()
                ledger.begin(kept(f"a{number}".translate(LETTERS), key=str(number)))
            self.threads.run()
            self.threads.held = False
            ledger._file.close()
            statements: list[str] = []
            self.trace(statements)
            ledger = self.new()
            self.assertEqual(len(self.successResultOf(ledger.open())), start + count)
            counts.append(len(statements))
        self.assertEqual(counts[0], counts[1])
        self.assertLess(counts[0], 16)

    def trace(self, statements: list[str]) -> None:
        """Note what is asked of each database that is opened from now on."""
        real = sqlite3.connect

        def connect(*args: Any, **more: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = real(*args, **more)
            connection.set_trace_callback(statements.append)
            return connection

        self.patch(sqlite3, "connect", connect)

    def test_twice(self) -> None:
        """A ledger that is open, being opened, or being closed is not opened again."""
        ledger = self.new()
        self.threads.held = True
        opening = ledger.open()
        self.failureResultOf(ledger.open(), ConfigurationError)
        self.threads.run()
        self.successResultOf(opening)
        self.failureResultOf(ledger.open(), ConfigurationError)
        ended = ledger.close()
        self.failureResultOf(ledger.open(), ConfigurationError)
        self.threads.run()
        self.successResultOf(ended)
        opening = ledger.open()
        self.threads.run()
        self.assertEqual(self.successResultOf(opening), [])

    def test_afterRefusal(self) -> None:
        """One that could not be opened can be, once what was wrong is mended."""
        Path(self.directory).touch()
        ledger = self.new()
        self.failureResultOf(ledger.open(), ConfigurationError)
        os.unlink(self.directory)
        self.assertEqual(self.successResultOf(ledger.open()), [])


class CheckTests(LedgerCase):
    """L{Ledger.check}."""

    def test_right(self) -> None:
        """What can be used is made, and is free again; what is in it does not change."""
        before = len(os.listdir("/proc/self/fd"))
        ledger = self.new()
        ledger.check()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        self.successResultOf(ledger.open())
        self.successResultOf(ledger.begin(kept(ttl=5.0)))
        ledger.check()
        self.successResultOf(ledger.begin(kept("b")))
        ledger._file.close()
        self.new().check()
        with contextlib.closing(self.connect()) as connection:
            rows = connection.execute("SELECT id, outcome FROM command ORDER BY id").fetchall()
        self.assertEqual(rows, [("abc", None), ("b", None)])

    def test_wrong(self) -> None:
        """What cannot be used is told before it is needed, and can be used when it is mended."""
        first = self.make()
        ledger = self.new()
        error: ConfigurationError = self.assertRaises(ConfigurationError, ledger.check)
        self.assertIn("Another server uses the state directory", error.sentence)
        self.successResultOf(first.close())
        self.alter("PRAGMA user_version = 99")
        error = self.assertRaises(ConfigurationError, ledger.check)
        self.assertIn("version 99", error.sentence)
        self.alter(f"PRAGMA user_version = {len(MIGRATIONS)}")
        ledger.check()
        self.successResultOf(ledger.open())


#: From digits to what a name can have.
LETTERS = str.maketrans("0123456789", "bcdefghijk")


class RefusalTests(LedgerCase):
    """State directories that cannot be used."""

    def test_twoServers(self) -> None:
        """Two servers never have one directory, also when one has had it before."""
        first = self.make()
        self.assertRefused("Another server uses the state directory")
        self.successResultOf(first.close())
        self.make()
        self.assertRefused("Another server uses the state directory")

    def test_newer(self) -> None:
        """What a newer version has written is left as it is."""
        self.successResultOf(self.make().close())
        self.alter(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        self.assertRefused("was written by a newer netsuite", "version 2, here 1")

    def test_otherProgram(self) -> None:
        """Another program's database is not written to."""
        os.mkdir(self.directory, 0o700)
        self.alter("CREATE TABLE mine (x)")
        self.assertRefused("is a database of another program")

    def test_noDatabase(self) -> None:
        """A file that is no database is refused, and left as it is."""
        os.mkdir(self.directory, 0o700)
        path = Path(self.directory, "ledger.sqlite")
        path.write_bytes(b"no database" * 1000)
        self.assertRefused("file is not a database")
        self.assertEqual(path.read_bytes(), b"no database" * 1000)

    def test_corrupt(self) -> None:
        """A database with a page of garbage is refused when it is opened, not when it is needed."""
        ledger = self.make()
        self.threads.held = True
        for number in range(1000):
            ledger.begin(kept(f"a{number}".translate(LETTERS), key=str(number)))
        self.threads.run()
        self.threads.held = False
        self.successResultOf(ledger.close())
        path = Path(self.directory, "ledger.sqlite")
        whole = path.read_bytes()
        for at in range(4096, len(whole), 8 * 4096):
            path.write_bytes(whole[:at] + b"\xa5" * 4096 + whole[at + 4096 :])
            self.assertRefused()
        path.write_bytes(whole[: len(whole) // 2])
        self.assertRefused("malformed")

    def test_wrongRow(self) -> None:
        """A row that makes no sense is told with its field."""
        ledger = self.make()
        row = kept()
        self.successResultOf(ledger.begin(row))
        self.successResultOf(ledger.update(ended(row)))
        self.successResultOf(ledger.close())
        for value in ('{"kind": "exited"}', "{", '{"kind": "exited", "code": 999}'):
            self.alter("UPDATE command SET outcome = ?", value)
            self.assertRefused("damaged")

    def test_noTable(self) -> None:
        """A database without its table is no empty ledger."""
        self.successResultOf(self.make().close())
        self.alter("DROP TABLE command")
        self.assertRefused("no such table: command")

    def test_noDirectory(self) -> None:
        """A path that can be no directory is refused."""
        Path(self.directory).touch()
        self.assertRefused("not a directory")
        self.directory = os.path.join(self.directory, "below")
        self.assertRefused("not a directory")
        self.directory = os.path.join(self.mktemp(), "no", "parent")
        self.assertRefused("no such file or directory")

    def test_links(self) -> None:
        """A link in the place of the ledger leads nowhere."""
        os.mkdir(self.directory, 0o700)
        target = self.mktemp()
        os.symlink(os.path.abspath(target), os.path.join(self.directory, "ledger.sqlite"))
        self.assertRefused("cannot be used")
        self.assertFalse(os.path.exists(target))

    def test_fifo(self) -> None:
        """What is no file is not waited for."""
        os.mkdir(self.directory, 0o700)
        os.mkfifo(os.path.join(self.directory, "ledger.sqlite"))
        self.assertRefused("is no file")

    def test_writableByOthers(self) -> None:
        """A directory in which others can exchange files is refused."""
        os.mkdir(self.directory)
        os.chmod(self.directory, 0o770)
        self.assertRefused("Others than its owner may write")

    def test_readOnly(self) -> None:
        """A directory that cannot be written to is refused, with a ledger in it and without."""
        if os.geteuid() != 0:
            raise SkipTest("becomes another user")
        os.chmod(os.path.dirname(self.directory), 0o755)
        os.mkdir(self.directory, 0o500)
        os.chown(self.directory, 65534, 65534)
        os.seteuid(65534)
        try:
            self.assertRefused("permission denied")
            os.chmod(self.directory, 0o700)
            self.successResultOf(self.make().close())
            os.chmod(self.directory, 0o500)
            self.assertRefused("readonly database")
        finally:
            os.seteuid(0)

    def test_foreign(self) -> None:
        """Somebody else's directory is refused, also by root."""
        if os.geteuid() != 0:
            raise SkipTest("gives a directory away")
        os.mkdir(self.directory, 0o700)
        os.chown(self.directory, 65534, 65534)
        self.assertRefused("belongs to another account")


class BeginTests(LedgerCase):
    """L{Ledger.begin}."""

    def test_onDisk(self) -> None:
        """It does not fire before the command is in the database."""
        ledger = self.make()
        self.threads.held = True
        done = ledger.begin(kept())
        self.assertNoResult(done)
        self.assertEqual(self.stored(), [])
        done.addCallback(lambda _: self.stored())
        self.threads.run()
        self.assertEqual(self.successResultOf(done), ["abc"])

    def test_killed(self) -> None:
        """A key that was promised is known after the server was killed at once."""
        with subprocess.Popen(
            [sys.executable, "-c", HELPER, self.directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                self.assertEqual(process.stdout.readline(), "begun\n")
                self.assertRefused("Another server")
            finally:
                process.send_signal(signal.SIGKILL)
        ledger = self.new()
        (row,) = self.successResultOf(ledger.open())
        self.assertEqual((row.id, row.key, row.digest), ("abc", "k", b"d"))
        self.assertEqual(row.outcome, STOPPED)
        self.failureResultOf(ledger.begin(kept("other", key="k")), KeyTaken)

    def test_keyTaken(self) -> None:
        """An identity has a key for one command, in the database too; another may have the same."""
        ledger = self.make()
        self.successResultOf(ledger.begin(kept("a", key="k")))
        error = self.failureResultOf(ledger.begin(kept("b", key="k")), KeyTaken).value
        self.assertEqual(
            error.sentence,
            "The key names another command, which is kept; use another key, or none.",
        )
        self.successResultOf(ledger.begin(kept("c", "cert:bert", key="k")))
        for id, key in (("d", "K"), ("e", "k "), ("f", "\u212a"), ("g", None), ("h", None)):
            self.successResultOf(ledger.begin(kept(id, key=key)))
        self.assertEqual(self.stored(), list("acdefgh"))

    def test_keyTakenAtOnce(self) -> None:
        """Of several that come at once with one key one is begun, and the others' company is."""
        ledger = self.make()
        self.threads.held = True
        done = [ledger.begin(kept(id, key=key)) for id, key in zip("abcd", "xkkz", strict=True)]
        self.threads.run()
        self.failureResultOf(done.pop(2), KeyTaken)
        for each in done:
            self.successResultOf(each)
        self.assertEqual(self.stored(), ["a", "b", "d"])

    def test_keyFreed(self) -> None:
        """A key can be used again once its command is forgotten."""
        ledger = self.make()
        self.successResultOf(ledger.begin(kept("a", key="k")))
        self.successResultOf(ledger.forget(["a"]))
        self.successResultOf(ledger.begin(kept("b", key="k")))
        self.assertEqual(self.stored(), ["b"])

    def test_cut(self) -> None:
        """Of a long command line the first bytes are kept."""
        ledger = self.make()
        self.successResultOf(ledger.begin(kept(command=b"x" * (MAX_SHOWN + 1))))
        self.assertEqual(self.crash(ledger)[0].command, b"x" * MAX_SHOWN)

    @settings(max_examples=100, deadline=None)
    @given(
        st.text(min_size=1, max_size=20),
        st.text(min_size=1, max_size=20),
        st.binary(max_size=64),
    )
    def test_anyText(self, identity: str, key: str, digest: bytes) -> None:
        """Identities and keys of any characters come back as they were, and are told apart."""
        ledger = self.make()
        row = kept("a", identity, key=key, digest=digest)
        self.successResultOf(ledger.begin(row))
        self.failureResultOf(ledger.begin(kept("b", identity, key=key)), KeyTaken)
        self.successResultOf(ledger.begin(kept("c", identity, key=key + "\x00")))
        self.successResultOf(ledger.begin(kept("d", identity + "'", key=key)))
        rows = self.crash(ledger)
        self.assertEqual(replace(rows[0], outcome=None, ended=None, expires=None), row)
        self.assertEqual(len(rows), 3)
        self.successResultOf(self.opened[-1].forget("acd"))
        self.closeAll()

    def test_together(self) -> None:
        """What comes while the disk is busy is written together, and not one by one."""
        ledger = self.make()
        self.threads.held, self.threads.calls = True, 0
        done = [ledger.begin(kept(f"a{n}".translate(LETTERS))) for n in range(200)]
        self.threads.run()
        self.assertEqual(self.threads.calls, 2)
        for each in done:
            self.successResultOf(each)

    def test_tooMany(self) -> None:
        """When the disk has stopped, commands are refused before memory is full of them."""
        ledger = self.make()
        self.threads.held = True
        done = [ledger.begin(kept(f"a{n}".translate(LETTERS))) for n in range(MAX_WAITING)]
        late = ledger.begin(kept("late"))
        self.assertEqual(
            self.failureResultOf(late, LedgerUnavailable).value.sentence,
            f"{MAX_WAITING} commands wait for the disk; try again later.",
        )
        # An end is known already, and is not refused.
        update = ledger.update(ended(kept()))
        self.threads.run()
        self.successResultOf(update)
        for each in done:
            self.successResultOf(each)
        self.threads.held = False
        self.successResultOf(ledger.begin(kept("late")))

    def test_cancelled(self) -> None:
        """One who does not wait any more does not disturb those who do."""
        ledger = self.make()
        self.threads.held = True
        first, second = ledger.begin(kept("a")), ledger.begin(kept("b"))
        first.addErrback(lambda _: None)
        second.addErrback(lambda _: None)
        first.cancel()
        second.cancel()
        third = ledger.begin(kept("c"))
        self.threads.run()
        self.successResultOf(third)


class ChangeTests(LedgerCase):
    """L{Ledger.update}, L{Ledger.forget}."""

    def test_offsets(self) -> None:
        """Offsets of a command that runs survive a crash."""
        ledger = self.make()
        row = kept()
        self.successResultOf(ledger.begin(row))
        row = replace(row, stdinAt=3, stdoutCredited=2**40, stderrCredited=1)
        self.successResultOf(ledger.update(row))
        self.assertEqual(
            self.crash(ledger), [replace(row, outcome=STOPPED, ended=NOW, expires=NOW + 60)]
        )

    def test_fixed(self) -> None:
        """What a command was started with does not change."""
        ledger = self.make()
        row = ended(kept(key="k", digest=b"1"))
        self.successResultOf(ledger.begin(row))
        other = replace(row, identity="x", key="y", digest=b"2", command=b"3", started=0.0)
        self.successResultOf(ledger.update(other))
        self.assertEqual(self.crash(ledger), [row])

    def test_inOrder(self) -> None:
        """Of several changes the last holds, however they come together."""
        ledger = self.make()
        self.threads.held = True
        ledger.begin(kept())
        for number in range(5):
            done = ledger.update(replace(kept(), stdinAt=number))
        self.threads.run()
        self.successResultOf(done)
        self.threads.held = False
        self.assertEqual(self.crash(ledger)[0].stdinAt, 4)

    def test_forget(self) -> None:
        """What is forgotten is gone; what was never known is no failure."""
        ledger = self.make()
        for id in "abc":
            self.successResultOf(ledger.begin(kept(id)))
        self.successResultOf(ledger.forget(["a", "c", "zzz"]))
        self.successResultOf(ledger.forget([]))
        self.assertEqual(self.stored(), ["b"])
        self.successResultOf(ledger.update(ended(kept("a"))))
        self.assertEqual(self.stored(), ["b"])


class FaultTests(LedgerCase):
    """A disk that fails while the ledger is open."""

    def fill(self, ledger: Ledger, full: bool = True) -> None:
        """Let the disk be full for the database, or not any more."""
        connection = ledger._file._connection
        assert connection is not None
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages if full else 2**30}")

    def freeze(self, ledger: Ledger, frozen: bool = True) -> None:
        """Let the database be read-only, or not any more."""
        connection = ledger._file._connection
        assert connection is not None
        connection.execute(f"PRAGMA query_only = {int(frozen)}")

    def test_full(self) -> None:
        """On a full disk a command is refused in a sentence without paths, and not half begun."""
        ledger = self.make()
        self.fill(ledger)
        begun = []
        for number in range(200):
            id = f"a{number}".translate(LETTERS)
            done = ledger.begin(kept(id, key=id, command=b"x" * 400))
            errors: list[Any] = []
            done.addErrback(errors.append)
            if errors:
                break
            begun.append(id)
        error = errors[0].value
        self.assertIsInstance(error, LedgerUnavailable)
        self.assertIsInstance(error, LimitExceeded)
        self.assertEqual(
            error.sentence,
            "The ledger of commands cannot be written: database or disk is full; its operator has "
            "to mend that.",
        )
        self.assertEqual(self.stored(), sorted(begun))
        self.fill(ledger, False)
        self.successResultOf(ledger.begin(kept(id, key=id)))

    def test_together(self) -> None:
        """Of what is written together nothing is written when that fails, and all learn of it."""
        ledger = self.make()
        self.freeze(ledger)
        self.threads.held = True
        done = [ledger.begin(kept(id)) for id in "abc"]
        self.threads.run()
        for each in done:
            self.assertIn(
                "attempt to write a readonly database",
                self.failureResultOf(each, LedgerUnavailable).value.sentence,
            )
        self.freeze(ledger, False)
        self.assertEqual(self.stored(), [])

    def test_endIsOwed(self) -> None:
        """An end that could not be written is written with what comes next."""
        ledger = self.make()
        for id in "ab":
            self.successResultOf(ledger.begin(kept(id)))
        self.freeze(ledger)
        self.failureResultOf(ledger.update(replace(kept("a"), stdinAt=1)), LedgerUnavailable)
        self.failureResultOf(ledger.update(ended(kept("a"))), LedgerUnavailable)
        self.failureResultOf(ledger.update(ended(kept("b"))), LedgerUnavailable)
        self.failureResultOf(ledger.begin(kept("c")), LedgerUnavailable)
        self.freeze(ledger, False)
        self.successResultOf(ledger.forget(["b"]))
        self.successResultOf(ledger.begin(kept("d")))
        rows = self.crash(ledger)
        self.assertEqual([row.id for row in rows], ["a", "d"])
        self.assertEqual(rows[0], ended(kept("a")))

    def test_endIsOwedAtTheEnd(self) -> None:
        """What could not be written is tried once more when the ledger is closed, and only once."""
        ledger = self.make()
        self.successResultOf(ledger.begin(kept("a")))
        self.freeze(ledger)
        self.failureResultOf(ledger.update(ended(kept("a"))), LedgerUnavailable)
        self.freeze(ledger, False)
        self.successResultOf(ledger.close())
        ledger = self.new()
        self.assertEqual(self.successResultOf(ledger.open()), [ended(kept("a"))])
        self.freeze(ledger)
        self.failureResultOf(ledger.update(ended(kept("a"), stdinAt=9)), LedgerUnavailable)
        self.successResultOf(ledger.close())
        self.assertEqual(self.successResultOf(self.new().open()), [ended(kept("a"))])

    def test_newerChangeWins(self) -> None:
        """What is owed does not undo what was written after it."""
        ledger = self.make()
        self.successResultOf(ledger.begin(kept("a")))
        self.freeze(ledger)
        self.failureResultOf(ledger.update(replace(kept("a"), stdinAt=1)), LedgerUnavailable)
        self.freeze(ledger, False)
        self.successResultOf(ledger.update(replace(kept("a"), stdinAt=2)))
        self.successResultOf(ledger.begin(kept("b")))
        self.assertEqual(self.crash(ledger)[0].stdinAt, 2)

    def test_log(self) -> None:
        """The log tells once that it fails, and once that it works again."""
        ledger = self.make()
        with capturedLogs() as events:
            self.freeze(ledger)
            for id in "abc":
                self.failureResultOf(ledger.begin(kept(id)), LedgerUnavailable)
            self.freeze(ledger, False)
            for id in "abc":
                self.successResultOf(ledger.begin(kept(id)))
        levels = [event["log_level"] for event in events]
        self.assertEqual(levels, [LogLevel.error, LogLevel.info])
        self.assertEqual(events[0]["directory"], self.directory)

    def test_locked(self) -> None:
        """Somebody who holds the database for long is a failure, not a wait without end."""
        self.patch(module, "BUSY_TIMEOUT", 0.0)
        ledger = self.make()
        other = self.connect()
        other.execute("BEGIN IMMEDIATE")
        error = self.failureResultOf(ledger.begin(kept()), LedgerUnavailable).value
        self.assertIn("database is locked", error.sentence)
        other.execute("ROLLBACK")
        self.successResultOf(ledger.begin(kept()))

    def test_removed(self) -> None:
        """Nothing is promised in a file that was removed or replaced, where nobody will find it."""
        ledger = self.make()
        path = Path(self.directory, "ledger.sqlite")
        copy = path.read_bytes()
        path.unlink()
        error = self.failureResultOf(ledger.begin(kept()), LedgerUnavailable).value
        self.assertIn("no such file or directory", error.sentence)
        self.assertNotIn(self.directory, error.sentence)
        path.write_bytes(copy)
        error = self.failureResultOf(ledger.begin(kept()), LedgerUnavailable).value
        self.assertIn("another file has taken its place", error.sentence)

    def test_noThread(self) -> None:
        """Where there is no thread, nothing is promised, and the peer sees no traceback."""
        ledger = self.make()
        self.patch(ledger, "_inThread", lambda function: 1 / 0)
        error = self.failureResultOf(ledger.begin(kept()), LedgerUnavailable).value
        self.assertEqual(
            error.sentence,
            "The ledger of commands cannot be written; its operator has to mend that.",
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.successResultOf(ledger.close())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class CloseTests(LedgerCase):
    """L{Ledger.close}."""

    def test_writesAll(self) -> None:
        """What waits is written first; what comes later is refused."""
        ledger = self.make()
        self.threads.held = True
        done = [ledger.begin(kept(id)) for id in "abc"]
        closing = ledger.close()
        self.failureResultOf(ledger.begin(kept("d")), LedgerUnavailable)
        self.failureResultOf(ledger.update(kept("a")), LedgerUnavailable)
        self.assertNoResult(closing)
        self.threads.run()
        for each in done:
            self.successResultOf(each)
        self.successResultOf(closing)
        self.assertEqual(self.stored(), ["a", "b", "c"])

    def test_never(self) -> None:
        """One that was never opened keeps nothing, and need not be closed."""
        ledger = self.new()
        self.failureResultOf(ledger.begin(kept()), LedgerUnavailable)
        self.successResultOf(ledger.close())
        self.assertFalse(os.path.exists(self.directory))

    def test_twice(self) -> None:
        """Closing twice is closing once, and leaves no file open."""
        before = len(os.listdir("/proc/self/fd"))
        ledger = self.make()
        self.successResultOf(ledger.close())
        self.successResultOf(ledger.close())
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_twiceAtOnce(self) -> None:
        """All who close it wait until it is closed."""
        ledger = self.make()
        self.threads.held = True
        ledger.begin(kept())
        done = [ledger.close(), ledger.close()]
        for each in done:
            self.assertNoResult(each)
        self.threads.run()
        for each in done:
            self.successResultOf(each)

    def test_whileOpening(self) -> None:
        """One that is closed while it is being opened is closed, and takes nothing."""
        ledger = self.new()
        self.threads.held = True
        opening, done = ledger.open(), ledger.close()
        self.assertNoResult(done)
        self.threads.run()
        self.successResultOf(opening)
        self.successResultOf(done)
        self.failureResultOf(ledger.begin(kept()), LedgerUnavailable)
        self.threads.held = False
        self.make()

    def test_whileRefused(self) -> None:
        """One that cannot be opened is closed with that."""
        Path(self.directory).touch()
        ledger = self.new()
        self.threads.held = True
        opening, done = ledger.open(), ledger.close()
        self.threads.run()
        self.failureResultOf(opening, ConfigurationError)
        self.successResultOf(done)

    def test_tidy(self) -> None:
        """After the end all is in one file, which can be copied."""
        ledger = self.make()
        self.successResultOf(ledger.begin(kept()))
        self.successResultOf(ledger.close())
        self.assertEqual(sorted(os.listdir(self.directory)), ["ledger.sqlite", "spool"])


class SweepTests(LedgerCase):
    """L{Ledger.sweep} and L{Ledger.spoolDirectory}."""

    def spool(self, ledger: Ledger, id: str) -> str:
        """Keep some output of a command."""
        directory = ledger.spoolDirectory(id)
        for name in ("stdout", "stderr"):
            spool = Spool(directory, name, 100)
            spool.append(b"x")
            spool.close()
        return directory

    def test_strays(self) -> None:
        """Output of commands that are not known is removed, and that of the others stays."""
        ledger = self.make()
        self.successResultOf(ledger.begin(kept("a")))
        directories = [self.spool(ledger, id) for id in "abc"]
        self.assertEqual(self.successResultOf(ledger.sweep()), 2)
        self.assertEqual([os.path.exists(each) for each in directories], [True, False, False])
        self.assertEqual(len(os.listdir(directories[0])), 2)
        self.assertEqual(self.successResultOf(ledger.sweep()), 0)

    def test_bounded(self) -> None:
        """One sweep does no more than its share, and says when there may be more to do."""
        self.patch(module, "MAX_SWEPT", 3)
        ledger = self.make()
        for id in "abcde":
            self.spool(ledger, id)
        self.assertEqual(self.successResultOf(ledger.sweep()), 3)
        self.assertEqual(self.successResultOf(ledger.sweep()), 2)
        self.assertEqual(os.listdir(os.path.join(self.directory, "spool")), [])

    def test_strangers(self) -> None:
        """What is no kept output is left where it is, and no link is followed."""
        ledger = self.make()
        root = Path(self.directory, "spool")
        stray = self.spool(ledger, "b")
        (Path(stray) / "notes").touch()
        other = Path(self.mktemp())
        other.mkdir()
        (other / f"stdout.{0:020}").touch()
        (root / "c").symlink_to(other.absolute())
        (root / "d").touch()
        (root / "NOT-AN-ID").mkdir()
        self.assertEqual(self.successResultOf(ledger.sweep()), 0)
        self.assertEqual(sorted(os.listdir(root)), ["NOT-AN-ID", "b", "c", "d"])
        self.assertEqual(len(os.listdir(other)), 1)
        self.assertEqual(os.listdir(stray), ["notes"])

    def test_gone(self) -> None:
        """When its directory is gone that is told as any failure is."""
        ledger = self.make()
        os.rmdir(os.path.join(self.directory, "spool"))
        self.failureResultOf(ledger.sweep(), LedgerUnavailable)
        self.successResultOf(ledger.begin(kept()))


class ThreadTests(TestCase):
    """The ledger with threads of the reactor."""

    async def test_threads(self) -> None:
        """With the reactor's own threads it is opened, written and closed."""
        from twisted.internet import reactor

        ledger = Ledger(self.mktemp(), reactor)
        self.assertEqual(await ledger.open(), [])
        done = [ledger.begin(kept(f"a{n}".translate(LETTERS), key="k")) for n in range(50)]
        begun = 0
        for each in done:
            with contextlib.suppress(KeyTaken):
                await each
                begun += 1
        self.assertEqual(begun, 1)
        await ledger.close()
        (row,) = await ledger.open()
        self.assertEqual(row.id, "ab")
        await ledger.close()
