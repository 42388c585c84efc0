"""
The audit log as services and operators meet it: on a disk that works, and on one that does not.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.trust.auditdisk import BEGUN, Disk, Threads, atOnce, clockAt, note
from twisted_netsuite.errors import AuditUnavailable, ConfigurationError
from twisted_netsuite.trust.audit import (
    MAX_ALLOWED,
    MAX_WAITING,
    AuditLog,
    AuditNotes,
    IAuditLog,
    NoAudit,
)
from twisted_netsuite.trust.auditcheck import verify
from twisted_netsuite.trust.auditrecord import digestOf
from twisted_netsuite.trust.denials import BURST, INTERVAL
from twisted_netsuite.trust.identity import Identity


class LogCase(SynchronousTestCase):
    """A log on a disk."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = str(self.directory / "audit.log")
        self.clock = clockAt()
        self.threads = Threads()
        self.disk = Disk()
        self.addCleanup(self.closeAll)

    def closeAll(self) -> None:
        """Leave no descriptor open."""
        if not self.disk.dead:
            self.disk.crash()

    def make(self, **more: Any) -> AuditLog:
        """Make a log, and open it."""
        log = AuditLog(self.path, self.clock, calls=self.disk, **{"inThread": self.threads, **more})
        log.open()
        return log

    def end(self, log: AuditLog) -> None:
        """Close a log, and let it."""
        done = log.close()
        self.threads.runAll()
        self.successResultOf(done)

    def lines(self, name: str = "audit.log") -> list[dict[str, Any]]:
        """Read a file's records."""
        text = (self.directory / name).read_text("ascii")
        self.assertTrue(text.endswith("\n") or not text)
        return [json.loads(line) for line in text.splitlines()]

    def events(self, name: str = "audit.log") -> list[str]:
        """Tell what records a file has: their events, and the text of our own."""
        return [line.get("text", line["event"]) for line in self.lines(name)]

    def files(self) -> list[str]:
        """List the files of the log."""
        return sorted(str(path) for path in self.directory.glob("audit.log*"))

    def assertWhole(self) -> None:
        """The log is as it was written."""
        report = verify(self.files())
        self.assertIsNone(report.fault)
        self.assertIsNone(report.unfinished)

    def assertFails(self, done: Deferred[None], reason: str) -> None:
        """A record is refused, in a sentence that tells why and nothing of the machine."""
        error = self.failureResultOf(done, AuditUnavailable).value
        self.assertIn(reason, error.sentence)
        self.assertNotIn(self.path, error.sentence)
        self.assertTrue(error.sentence.endswith("."))

    def assertRefused(self, reason: str) -> None:
        """The log cannot be opened; the sentence tells which and why."""
        log = AuditLog(self.path, self.clock, calls=self.disk, inThread=self.threads)
        error = self.assertRaises(ConfigurationError, log.open)
        self.assertIn(repr(self.path), error.sentence)
        self.assertIn(reason, error.sentence)


class RecordTests(LogCase):
    """L{AuditLog.record}."""

    def test_members(self) -> None:
        """A record tells when, what, where, who, and what else there is, in one line."""
        log = self.make()
        self.clock.advance(0.000001)
        identity = Identity("cert", "anna")
        done = log.record(
            "exec.start", service="exec.main", peer="192.0.2.1:5", identity=identity, argv=["ls"]
        )
        self.assertIsNone(self.successResultOf(done))
        first, second = self.lines()
        self.assertEqual(
            {name: value for name, value in second.items() if name not in ("previous", "hash")},
            {
                "n": 2,
                "time": "2026-11-21T13:28:03.450001Z",
                "event": "exec.start",
                "service": "exec.main",
                "peer": "192.0.2.1:5",
                "identity": "cert:anna",
                "argv": ["ls"],
            },
        )
        self.assertEqual((first["n"], first["previous"]), (1, "0" * 64))

    def test_oneWrite(self) -> None:
        """Each record is one write, at once and in the order of the calls."""
        log = self.make()
        before = self.disk.names.count("write")
        for number in range(20):
            self.successResultOf(note(log, str(number)))
            self.assertEqual(self.disk.names.count("write"), before + number + 1)
        self.assertEqual(self.events()[1:], [str(number) for number in range(20)])
        self.assertEqual(self.threads.waiting, [])

    def test_head(self) -> None:
        """The log knows the head that verifying finds."""
        log = self.make()
        note(log, "a")
        self.assertEqual(verify([self.path]).head, log.head)
        self.assertEqual(log.head.n, 2)

    def test_wrongField(self) -> None:
        """A field that cannot be one is the caller's fault, and leaves the log as it was."""
        log = self.make()
        fields: dict[str, Any]
        for fields, error in (
            ({"n": 1}, ValueError),
            ({"hash": 1}, ValueError),
            ({"a b": 1}, ValueError),
            ({"x": object()}, TypeError),
            ({"x": {"a": 1}}, TypeError),
            ({"x": [["a"]]}, TypeError),
        ):
            with self.assertRaises(error):
                log.record("e", service="s", peer="p", identity="i", **fields)
        self.assertEqual(self.events(), ["audit.opened"])

    def test_closed(self) -> None:
        """A log that is not open takes nothing, and says so."""
        log = AuditLog(self.path, self.clock, calls=self.disk)
        self.assertFails(note(log, "a"), "not open")
        log = self.make()
        self.end(log)
        self.assertFails(note(log, "a", durable=True), "not open")
        self.assertEqual(self.events(), ["audit.opened", "audit.closed"])

    def test_backwards(self) -> None:
        """A clock that is set back is no fault of the log."""
        self.end(self.make())
        self.clock = clockAt(BEGUN - 1000)
        self.end(self.make())
        self.assertWhole()


class DurableTests(LogCase):
    """Records that wait for the disk."""

    def test_waits(self) -> None:
        """A durable record is acknowledged when the disk has answered, not before."""
        log = self.make()
        synced = self.disk.names.count("fsync")
        done = note(log, "a", durable=True)
        self.assertNoResult(done)
        self.assertEqual(self.events()[1:], ["a"])
        self.assertEqual(self.disk.names.count("fsync"), synced)
        self.threads.run()
        self.assertEqual(self.disk.names.count("fsync"), synced + 1)
        self.successResultOf(done)

    def test_group(self) -> None:
        """What comes while the disk is waited for shares the next wait; the order is kept."""
        log = self.make()
        order: list[int] = []
        for number in range(100):
            done = note(log, str(number), durable=True)
            done.addCallback(lambda _, n: order.append(n), number)
        self.assertEqual(len(self.threads.waiting), 1)
        self.threads.run()
        self.assertEqual(order, [0])
        self.assertEqual(len(self.threads.waiting), 1)
        self.threads.run()
        self.assertEqual(order, list(range(100)))
        self.assertEqual(self.threads.waiting, [])

    def test_notWaitedFor(self) -> None:
        """Other records do not wait behind durable ones, and stand behind them."""
        log = self.make()
        slow = note(log, "slow", durable=True)
        self.successResultOf(note(log, "fast"))
        self.assertNoResult(slow)
        self.assertEqual(self.events()[1:], ["slow", "fast"])

    def test_reentered(self) -> None:
        """Who is told may record the next thing at once."""
        log = self.make()
        done = note(log, "a", durable=True)
        done.addCallback(lambda _: note(log, "b", durable=True))
        self.threads.run()
        self.assertNoResult(done)
        self.threads.run()
        self.successResultOf(done)
        self.assertEqual(self.events()[1:], ["a", "b"])

    def test_cancelled(self) -> None:
        """Who does not want to wait longer disturbs nobody."""
        log = self.make()
        first, second = note(log, "a", durable=True), note(log, "b", durable=True)
        first.cancel()
        self.failureResultOf(first)
        self.threads.runAll()
        self.successResultOf(second)

    def test_bounded(self) -> None:
        """No more than a bound wait; the next is refused unwritten, until there is room."""
        log = self.make()
        waiting = [note(log, "x", durable=True) for _ in range(MAX_WAITING)]
        with capturedLogs() as logged:
            for _ in range(10):
                self.assertFails(note(log, "refused", durable=True), "wait for the disk")
        self.assertEqual(len(logged), 1)
        self.successResultOf(note(log, "fast"))
        self.threads.run()
        waiting.append(note(log, "again", durable=True))
        self.threads.runAll()
        for each in waiting:
            self.successResultOf(each)
        self.assertNotIn("refused", self.events())
        self.assertWhole()

    def test_closing(self) -> None:
        """Closing waits for all that is waited for, and is the last record."""
        log = self.make()
        done = note(log, "a", durable=True)
        closed = log.close()
        self.threads.run()
        self.successResultOf(done)
        self.assertNoResult(closed)
        self.threads.run()
        self.successResultOf(closed)
        self.assertEqual(self.events(), ["audit.opened", "a", "audit.closed"])
        self.assertEqual(self.disk.descriptors, set())
        self.successResultOf(log.close())


class DenialTests(LogCase):
    """Records of what was refused."""

    def deny(self, log: AuditLog, times: int = 1, **fields: Any) -> None:
        """Record denials from one source."""
        for port in range(times):
            done = log.record(
                "exec.start.denied", service="exec", peer=f"192.0.2.1:{port}",
                identity="anonymous", durable=True, denial=True, **fields,
            )  # fmt: skip
            self.threads.runAll()
            self.successResultOf(done)

    def test_short(self) -> None:
        """Of each value little is kept, with the length and digest of the whole."""
        log = self.make()
        self.deny(log, command=b"x" * 65_000, short="y")
        denied = self.lines()[-1]
        self.assertEqual(denied["short"], "y")
        self.assertGreater(len(denied["command"]["cut"]), 300)
        self.assertEqual(denied["command"]["length"], 65_000)
        self.assertEqual(denied["command"]["sha256"], digestOf(b"x" * 65_000))
        self.assertLess(os.path.getsize(self.path), 1500)

    def test_allowedShort(self) -> None:
        """Of what is allowed more is kept, and not so much that it could fill the disk."""
        log = self.make()
        typed = "x" * 8000
        for command in (typed, "y" * 60_000):
            self.successResultOf(note(log, command))
        whole, cut = (line["text"] for line in self.lines()[-2:])
        self.assertEqual(whole, typed)
        self.assertEqual(cut["length"], 60_000)
        self.assertEqual(cut["sha256"], digestOf(b"y" * 60_000))
        self.assertLess(len(cut["cut"]), MAX_ALLOWED)
        self.assertGreater(len(cut["cut"]), MAX_ALLOWED - 256)

    def test_flood(self) -> None:
        """A flood fills no disk, is counted in full, and takes no room from what is allowed."""
        log = self.make()
        self.deny(log, 10_000, command=b"\x7f" * 1000)
        self.successResultOf(note(log, "allowed"))
        self.assertEqual(self.events(), ["audit.opened", *["exec.start.denied"] * BURST, "allowed"])
        self.assertLess(os.path.getsize(self.path), 20_000)
        self.clock.advance(INTERVAL)
        told = self.lines()[-1]
        self.assertEqual(
            {name: told[name] for name in ("event", "service", "peer", "identity", "suppressed")},
            {
                "event": "exec.start.denied",
                "service": "exec",
                "peer": "192.0.2.1",
                "identity": "anonymous",
                "suppressed": 10_000 - BURST,
            },
        )
        self.assertWhole()

    def test_unwritable(self) -> None:
        """A count that cannot be written is written when the disk takes it again."""
        log = self.make()
        self.deny(log, BURST + 5)
        self.disk.failOn("write")
        self.clock.advance(INTERVAL)
        self.disk.mend()
        self.clock.advance(INTERVAL)
        self.assertEqual(self.lines()[-1]["suppressed"], 5)
        self.assertEqual(self.events()[-2:], ["audit.resumed", "exec.start.denied"])
        self.assertWhole()

    def test_closing(self) -> None:
        """A log that is closed has every count, and nothing waits."""
        log = self.make()
        self.deny(log, BURST + 5)
        self.end(log)
        self.assertEqual(self.lines()[-2]["suppressed"], 5)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFails(
            log.record("e", service="s", peer="p", identity="i", denial=True), "not open"
        )


class ReopenTests(LogCase):
    """A log that is opened again."""

    def test_again(self) -> None:
        """A log that was closed goes on when it is opened again, as another would."""
        log = self.make(maxBytes=1000)
        for life in range(4):
            self.successResultOf(note(log, f"a{life}"))
            done = note(log, f"b{life}", durable=True)
            self.threads.runAll()
            self.successResultOf(done)
            self.end(log)
            self.assertFails(note(log, "between"), "not open")
            self.assertEqual(self.disk.descriptors, set())
            log.open()
        self.end(log)
        report = verify(self.files())
        self.assertEqual((report.records, report.fault), (5 * 2 + 4 * 2, None))
        self.assertEqual(report.head, log.head)
        self.assertGreater(len(self.files()), 2)

    def test_whileOpen(self) -> None:
        """A log that is open, or not closed yet, is not opened, and goes on undisturbed."""
        log = self.make()
        error = self.assertRaises(ConfigurationError, log.open)
        self.assertIn("in use here", error.sentence)
        done = log.close()
        self.assertRaises(ConfigurationError, log.open)
        self.threads.runAll()
        self.successResultOf(done)
        log.open()
        self.end(log)
        self.assertEqual(self.events(), ["audit.opened", "audit.closed"] * 2)
        self.assertWhole()

    def test_whileThreadRuns(self) -> None:
        """A log that could not be closed well is not opened before its thread is done."""
        log = self.make()
        note(log, "a", durable=True).addErrback(lambda _: None)
        self.disk.failOn("write")
        self.successResultOf(log.close())
        self.disk.mend()
        self.assertRaises(ConfigurationError, log.open)
        self.threads.runAll()
        log.open()
        self.assertEqual(self.events(), ["audit.opened", "a", "audit.opened", "audit.resumed"])
        self.successResultOf(note(log, "b"))
        self.end(log)
        self.assertWhole()

    def test_movedAway(self) -> None:
        """A log whose files were moved away meanwhile begins anew."""
        log = self.make()
        note(log, "a")
        self.end(log)
        os.rename(self.path, str(self.directory / "old"))
        log.open()
        self.assertEqual([line["n"] for line in self.lines()], [1])
        self.end(log)
        self.assertWhole()

    def test_afterFailure(self) -> None:
        """A log that could not be opened can be when that is mended."""
        log = self.make()
        self.end(log)
        self.disk.failOn("fsync")
        self.assertRaises(ConfigurationError, log.open)
        self.disk.mend()
        log.open()
        self.successResultOf(note(log, "a"))
        self.end(log)
        self.assertWhole()


class OpenTests(LogCase):
    """L{AuditLog.open}."""

    def test_foreign(self) -> None:
        """A log of another account is refused, as it could change it; of ours or root's is not."""
        Path(self.path).touch(0o600)
        mine = os.stat(self.path).st_uid
        self.patch(os, "geteuid", lambda: mine + 1)
        if mine:
            self.assertRefused(f"it belongs to another account (uid {mine})")
        else:
            self.end(self.make())
            os.chown(self.path, 4711, -1)
            self.assertRefused("it belongs to another account (uid 4711)")
        self.assertEqual(self.disk.descriptors, set())

    def test_mode(self) -> None:
        """The log is its owner's alone, whatever the mask."""
        mask = os.umask(0)
        try:
            log = self.make(maxBytes=300)
            note(log, "a")
        finally:
            os.umask(mask)
        self.assertEqual(len(self.files()), 2)
        for path in self.files():
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def test_readable(self) -> None:
        """Rights to read that an operator gave stay."""
        Path(self.path).touch()
        os.chmod(self.path, 0o640)
        self.make()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)

    def test_writable(self) -> None:
        """A log that others can write to proves nothing, and is refused."""
        Path(self.path).touch()
        for mode in (0o620, 0o602):
            os.chmod(self.path, mode)
            self.assertRefused("other users can write to it")

    def test_inherited(self) -> None:
        """No child process gets the log."""
        self.make()
        for descriptor in self.disk.descriptors:
            self.assertFalse(os.get_inheritable(descriptor))

    def test_locked(self) -> None:
        """A second writer is refused, and the first goes on."""
        log = self.make()
        self.assertRefused("another process writes it")
        note(log, "a")
        self.assertEqual(self.events(), ["audit.opened", "a"])
        self.end(log)
        self.make()

    def test_lockedWhileRotated(self) -> None:
        """A second writer that opened the file just before it was rotated away is refused."""
        log = self.make(maxBytes=400)
        other = Disk()

        def rotate(index: int, name: str, call: Any) -> Any:
            if name == "flock":
                other.mend()
                note(log, "x" * 300)
                note(log, "y" * 300)
                self.threads.runAll()
            return call()

        other.fault = rotate
        second = AuditLog(self.path, self.clock, calls=other, inThread=atOnce)
        error = self.assertRaises(ConfigurationError, second.open)
        self.assertIn("another process writes it", error.sentence)
        self.assertEqual(other.descriptors, set())
        self.assertGreater(len(self.files()), 1)

    def test_noFile(self) -> None:
        """What cannot be a log is refused with its path, the reason, and nothing is left open."""
        os.symlink(str(self.directory / "elsewhere"), self.path)
        self.assertRefused("symbolic link")
        os.unlink(self.path)
        os.mkfifo(self.path)
        self.assertRefused("no regular file")
        os.unlink(self.path)
        os.mkdir(self.path)
        self.assertRefused("is a directory")
        self.path = str(self.directory / "nowhere" / "audit.log")
        self.assertRefused("no such file or directory")
        self.assertEqual(self.disk.descriptors, set())

    def test_fullDisk(self) -> None:
        """A disk that takes nothing is noticed when the service starts."""
        for name in ("write", "fsync"):
            self.disk.failOn(name)
            self.assertRefused("no space left on device")
            self.assertEqual(self.disk.descriptors, set())
        self.disk.mend()
        self.end(self.make())
        self.assertWhole()

    def test_goesOn(self) -> None:
        """Numbers and chain go on over restarts."""
        for _ in range(3):
            log = self.make()
            note(log, "a")
            self.end(log)
        self.assertEqual([line["n"] for line in self.lines()], list(range(1, 10)))
        self.assertWhole()

    def test_changedEnd(self) -> None:
        """A log whose last line was changed, or does not follow, is not gone on with."""
        log = self.make()
        note(log, "a")
        self.end(log)
        whole = Path(self.path).read_bytes()
        lines = whole.splitlines(keepends=True)
        for changed, reason in (
            (whole.replace(b"audit.closed", b"audit.cl0sed"), "does not match its own hash"),
            (lines[0] + lines[2], "does not follow the line before it"),
            (whole + b"\n", "is not JSON"),
            (whole + b"{}\n", "is JSON and no audit record"),
            (b"something else\n", "is not JSON"),
            (b"x" * 100_000 + b"\n", "does not end with lines"),
            (b"x" * 10_000_000, "does not end with lines"),
        ):
            Path(self.path).write_bytes(changed)
            self.assertRefused(reason)
            self.assertEqual(Path(self.path).read_bytes(), changed)
            self.assertEqual(self.disk.descriptors, set())

    def test_torn(self) -> None:
        """What a crash left of a line is kept beside the log, and recorded."""
        log = self.make()
        note(log, "a")
        self.disk.crash()
        whole = Path(self.path).read_bytes()
        for tail in (b"{", whole.splitlines()[-1], b"\0" * 100_000, b'{"n":3,"time"', b"\xff"):
            with open(self.path, "wb") as file:
                file.write(whole + tail)
            self.disk = Disk()
            with capturedLogs() as logged:
                self.end(self.make())
            self.assertEqual(len(logged), 1)
            # It is on the disk, and its directory, before it is gone from the log.
            cut = self.disk.names.index("ftruncate")
            steps = ["open", "write", "fsync", "open", "fsync"]
            self.assertEqual(self.disk.names[cut - 5 : cut], steps)
            torn = self.lines()[2]
            self.assertEqual(self.events()[2:], ["audit.torn", "audit.opened", "audit.closed"])
            self.assertEqual(Path(torn["file"]).read_bytes(), tail)
            self.assertEqual(torn["length"], len(tail))
            self.assertEqual(stat.S_IMODE(os.stat(torn["file"]).st_mode), 0o600)
            self.assertWhole()
        self.assertEqual(len(list(self.directory.glob("torn-3-*.audit.log"))), 5)

    def test_tornFirst(self) -> None:
        """A log of which there is only a torn line begins at 1."""
        Path(self.path).write_bytes(b'{"n":1,"ti')
        os.chmod(self.path, 0o600)
        self.make()
        self.assertEqual(self.events(), ["audit.torn", "audit.opened"])
        self.assertWhole()

    def test_tornCannotBeKept(self) -> None:
        """A torn line that cannot be kept stays where it is, and the log stays closed."""
        self.end(self.make())
        with open(self.path, "ab") as file:
            file.write(b'{"n":3')
        torn = Path(self.path).read_bytes()
        for name in ("write", "fsync", "ftruncate"):
            self.disk.failOn(name, number=errno.EIO)
            self.assertRefused("input/output error")
            self.assertEqual(Path(self.path).read_bytes(), torn)
        self.disk.writeShort(lambda *_: True)
        self.assertRefused("no space left")
        self.assertEqual(Path(self.path).read_bytes(), torn)

    def test_afterRotated(self) -> None:
        """A log whose last file is gone, or empty, goes on after the one before."""
        log = self.make()
        note(log, "a")
        self.end(log)
        os.rename(self.path, f"{self.path}.1")
        self.end(self.make())
        self.assertEqual(self.lines()[0]["n"], 4)
        self.assertWhole()
        os.rename(self.path, f"{self.path}.2")
        Path(self.path).touch(0o600)
        self.end(self.make())
        self.assertEqual(self.lines()[0]["n"], 6)
        self.assertWhole()

    def test_afterBadRotated(self) -> None:
        """A log does not go on after a file whose end is not right."""
        for data in (b"", b"{", b"{}\n", b"{}"):
            Path(f"{self.path}.1").write_bytes(data)
            self.assertRefused("")


class RotationTests(LogCase):
    """Files that have grown to their size."""

    def filled(self, count: int = 40, **more: Any) -> AuditLog:
        """Make a log of many small files."""
        log = self.make(maxBytes=2000, **more)
        for number in range(count):
            self.successResultOf(note(log, str(number)))
        return log

    def test_files(self) -> None:
        """Full files get increasing numbers, no file is larger than its size, nothing is lost."""
        self.end(self.filled())
        files = self.files()
        self.assertGreater(len(files), 5)
        events = []
        for number in range(1, len(files)):
            events += self.events(f"audit.log.{number}")
        events += self.events()
        wanted = ["audit.opened", *map(str, range(40)), "audit.closed"]
        self.assertEqual(events, wanted)
        for path in files:
            self.assertLessEqual(os.path.getsize(path), 2000)
            self.assertGreater(os.path.getsize(path), 0)
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertWhole()

    def test_numbersGoOn(self) -> None:
        """Old files that were taken away leave their numbers unused."""
        self.end(self.filled())
        for path in self.files()[1:-2]:
            os.unlink(path)
        highest = max(int(path.rpartition(".")[2]) for path in self.files()[1:])
        self.end(self.filled())
        numbers = sorted(int(path.rpartition(".")[2]) for path in self.files()[1:])
        self.assertGreater(numbers[-1], highest)
        self.assertEqual(numbers, list(range(numbers[0], numbers[-1] + 1)))
        self.assertIsNone(verify(self.files(), fromMiddle=True).fault)

    def test_onDisk(self) -> None:
        """A durable record in a new file waits for the old file and the directory, too."""
        log = self.make(maxBytes=1000)
        note(log, "x" * 600)
        self.threads.runAll()
        done = note(log, "y" * 600, durable=True)
        self.assertEqual(self.events(), ["y" * 600])
        before = self.disk.names.count("fsync")
        self.threads.run()
        self.successResultOf(done)
        self.assertEqual(self.disk.names.count("fsync"), before + 3)
        self.assertEqual(len(self.disk.descriptors), 1)

    def test_whileSyncing(self) -> None:
        """A file that is rotated away while the disk is waited for is not closed under the wait."""
        log = self.make(maxBytes=1300)
        first = note(log, "x" * 600, durable=True)
        second = note(log, "y" * 600, durable=True)
        self.assertEqual(len(self.files()), 2)
        self.assertEqual(len(self.disk.descriptors), 2)
        self.threads.run()
        self.successResultOf(first)
        self.assertNoResult(second)
        self.threads.run()
        self.successResultOf(second)
        self.assertEqual(len(self.disk.descriptors), 1)

    def test_largerThanFile(self) -> None:
        """A record that is larger than a file has one of its own."""
        log = self.make(maxBytes=1)
        for text in "abc":
            note(log, text)
        self.assertEqual(len(self.files()), 4)
        self.threads.runAll()
        self.assertWhole()

    def test_failing(self) -> None:
        """A file that cannot be rotated grows on, which is told once; then it is rotated."""
        for name in ("link", "rename", "listdir"):
            self.setUp()
            log = self.make(maxBytes=2000)
            self.disk.failOn(name, number=errno.EPERM)
            with capturedLogs() as logged:
                for number in range(30):
                    self.successResultOf(note(log, str(number)))
            [event] = logged
            self.assertEqual(event["log_level"], LogLevel.error)
            self.assertIn("operation not permitted", str(formatEvent(event)))
            self.assertEqual(len(self.events()), 31)
            self.disk.mend()
            with capturedLogs() as logged:
                for number in range(30):
                    self.successResultOf(note(log, str(number)))
            self.assertEqual(len(logged), 1)
            self.assertGreater(len(self.files()), 2)
            self.end(log)
            self.assertWhole()

    def test_crashBetween(self) -> None:
        """A rotation that a crash came between is finished at the next start."""
        self.end(self.make())
        os.link(self.path, f"{self.path}.1")
        Path(f"{self.path}.new").touch(0o600)
        self.assertWhole()
        self.end(self.make())
        self.assertEqual(self.events("audit.log.1"), ["audit.opened", "audit.closed"])
        self.assertEqual(self.events(), ["audit.opened", "audit.closed"])
        self.assertWhole()

    def test_strangeNew(self) -> None:
        """Something that is in the way of the new file is not written over."""
        Path(f"{self.path}.new").write_bytes(b"mine")
        self.filled()
        self.assertEqual(Path(f"{self.path}.new").read_bytes(), b"mine")
        self.assertEqual(len(self.events()), 41)

    def test_staleNew(self) -> None:
        """An empty file that an earlier rotation left is replaced, whoever has it open."""
        stale = Path(f"{self.path}.new")
        stale.touch(0o666)
        os.chmod(stale, 0o666)
        with stale.open("ab") as held:
            self.filled()
            held.write(b"late")
        self.assertGreater(len(self.files()), 1)
        self.assertFalse(stale.exists())
        for path in self.files():
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertWhole()

    def test_noFileNew(self) -> None:
        """A link or a pipe in the way of the new file is neither followed nor removed."""
        victim = self.directory / "victim"
        victim.touch()
        new = f"{self.path}.new"
        for make in (lambda: os.symlink(victim, new), lambda: os.mkfifo(new)):
            make()
            self.filled()
            self.assertEqual(self.files(), [self.path, new])
            os.unlink(new)
            os.unlink(self.path)
        self.assertEqual(victim.read_bytes(), b"")


class TroubleTests(LogCase):
    """A disk that fails, and recovers."""

    def logged(self, events: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
        """Tell the level of each log line, and its text after the path."""
        return [
            (event["log_level"].name, str(formatEvent(event)).removeprefix(f"{self.path}: "))
            for event in events
        ]

    def test_full(self) -> None:
        """While the disk is full every record fails; it is told once, and once when it is over."""
        log = self.make()
        note(log, "before")
        with capturedLogs() as logged:
            self.disk.failOn("write")
            for number in range(50):
                durable = number % 2 == 0
                self.assertFails(note(log, "lost", durable), "no space left on device")
            self.disk.mend()
            self.successResultOf(note(log, "after"))
            self.successResultOf(note(log, "later"))
        self.assertEqual(
            self.logged(logged),
            [
                (
                    "error",
                    "cannot be written: no space left on device; "
                    "what has to be recorded is refused",
                ),
                ("info", "is written again"),
            ],
        )
        self.assertEqual(
            self.events(), ["audit.opened", "before", "audit.resumed", "after", "later"]
        )
        resumed = self.lines()[2]
        self.assertEqual(resumed["cause"], "no space left on device")
        self.assertEqual((resumed["refused"], resumed["unsynced"]), (50, None))
        self.assertWhole()

    def test_short(self) -> None:
        """A record that is taken by halves is cut out again."""
        log = self.make()
        self.disk.writeShort(lambda *_: True)
        self.assertFails(note(log, "half"), ": the disk took only a part of a record; ")
        self.assertWhole()
        self.disk.mend()
        self.successResultOf(note(log, "after"))
        self.assertEqual(self.events(), ["audit.opened", "audit.resumed", "after"])
        self.assertWhole()

    def test_shortAndNotCut(self) -> None:
        """A half record that cannot be cut out is cut out before anything else is written."""
        log = self.make()

        def fault(index: int, name: str, call: Any) -> Any:
            if name == "ftruncate":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return self.disk.short() if name == "write" else call()

        self.disk.fault = fault
        for _ in range(3):
            self.assertFails(note(log, "half"), "")
        self.assertIsNotNone(verify([self.path]).unfinished)
        self.disk.mend()
        self.successResultOf(note(log, "after"))
        self.assertEqual(self.events(), ["audit.opened", "audit.resumed", "after"])
        self.assertWhole()
        self.assertEqual(len(self.disk.descriptors), 1)

    def test_fsync(self) -> None:
        """When the disk does not take it, who waits is told; nothing counts on a later fsync."""
        log = self.make()
        note(log, "fast")
        waiting = [note(log, text, durable=True) for text in "abc"]
        self.disk.failOn("fsync", number=errno.EIO)
        with capturedLogs() as logged:
            self.threads.run()
            for each in waiting:
                self.assertFails(each, "input/output error")
            self.assertEqual(self.threads.waiting, [])
            self.assertEqual(self.disk.descriptors, set())
            self.disk.mend()
            done = note(log, "d", durable=True)
            self.assertNoResult(done)
            self.assertEqual(len(logged), 1)
            self.threads.runAll()
        self.successResultOf(done)
        self.assertEqual([level for level, _ in self.logged(logged)], ["error", "info"])
        resumed = self.lines()[-2]
        self.assertEqual(resumed["event"], "audit.resumed")
        self.assertEqual(resumed["cause"], "input/output error")
        self.assertEqual((resumed["refused"], resumed["unsynced"]), (0, [2, 5]))
        self.assertWhole()

    def test_fsyncAgain(self) -> None:
        """It is told once however often the disk fails, and is over when the disk has answered."""
        log = self.make()
        self.disk.failOn("fsync", number=errno.EIO)
        with capturedLogs() as logged:
            for _ in range(5):
                done = note(log, "a", durable=True)
                self.threads.runAll()
                self.assertFails(done, "input/output error")
                self.successResultOf(note(log, "fast"))
                self.threads.runAll()
            self.assertEqual(len(logged), 1)
            self.disk.mend()
            self.successResultOf(note(log, "fast"))
            self.assertEqual(len(logged), 1)
            self.threads.runAll()
            self.assertEqual(len(logged), 2)
        self.assertWhole()

    def test_noThread(self) -> None:
        """Where no thread can be had, who waits is told."""

        def quit(function: object) -> Deferred[None]:
            raise RuntimeError("no more threads")

        log = self.make(inThread=quit)
        self.assertFails(note(log, "a", durable=True), "no more threads")
        self.successResultOf(note(log, "b"))
        self.assertWhole()

    def test_deleted(self) -> None:
        """A log that is deleted or moved away is refused once, and goes on in a new file."""
        log = self.make()
        note(log, "before")
        waiting = note(log, "waiting", durable=True)
        os.rename(self.path, str(self.directory / "audit.log.1"))
        self.assertFails(note(log, "lost"), "deleted or moved away")
        self.assertFails(waiting, "deleted or moved away")
        self.threads.runAll()
        self.successResultOf(note(log, "after"))
        self.assertEqual(self.events(), ["audit.resumed", "after"])
        self.assertEqual(self.lines()[0]["unsynced"], [2, 3])
        self.assertWhole()

    def test_replaced(self) -> None:
        """Another file under the log's name is not written to, until it is away."""
        log = self.make()
        note(log, "before")
        os.rename(self.path, f"{self.path}.1")
        Path(self.path).write_bytes(b"something else\n")
        os.chmod(self.path, 0o600)
        self.assertFails(note(log, "lost"), "another file has taken its place")
        for _ in range(3):
            self.assertFails(note(log, "lost"), "something else has changed it")
        self.assertEqual(Path(self.path).read_bytes(), b"something else\n")
        self.assertEqual(self.disk.descriptors, set())
        os.unlink(self.path)
        self.successResultOf(note(log, "after"))
        self.assertWhole()

    def test_restored(self) -> None:
        """A copy of the log in its place is as good as the log."""
        log = self.make()
        note(log, "before")
        copy = Path(self.path).read_bytes()
        os.unlink(self.path)
        Path(self.path).write_bytes(copy)
        os.chmod(self.path, 0o600)
        self.assertFails(note(log, "lost"), "another file has taken its place")
        self.successResultOf(note(log, "after"))
        self.assertEqual(self.events(), ["audit.opened", "before", "audit.resumed", "after"])
        self.assertWhole()

    def test_replacedAlike(self) -> None:
        """A file of the same length with another last line is not taken for the log."""
        log = self.make()
        note(log, "before")
        changed = Path(self.path).read_bytes().replace(b"before", b"behind")
        os.unlink(self.path)
        Path(self.path).write_bytes(changed)
        os.chmod(self.path, 0o600)
        self.assertFails(note(log, "lost"), "another file has taken its place")
        self.assertFails(note(log, "lost"), "something else has changed it")
        self.assertEqual(Path(self.path).read_bytes(), changed)

    def test_tampered(self) -> None:
        """A log that something else writes to, or shortens, or changes, is not gone on with."""
        log = self.make()
        note(log, "before")
        whole = Path(self.path).read_bytes()
        last = whole.splitlines(keepends=True)[-1]
        for changed in (whole + b"x", whole + last, whole[:-1], whole[: -len(last)]):
            with open(self.path, "r+b") as file:
                file.write(changed)
                file.truncate()
            self.assertFails(note(log, "lost"), "something else has")
            self.assertFails(note(log, "lost"), "something else has")
            self.assertEqual(Path(self.path).read_bytes(), changed)
        with open(self.path, "r+b") as file:
            file.write(whole)
            file.truncate()
        self.successResultOf(note(log, "after"))
        self.assertWhole()

    def test_emptied(self) -> None:
        """A log that was emptied goes on, and its missing records are found."""
        log = self.make()
        note(log, "before")
        os.truncate(self.path, 0)
        self.assertFails(note(log, "lost"), "something else has written to it")
        self.successResultOf(note(log, "after"))
        fault = verify([self.path]).fault
        assert fault is not None
        self.assertIn("records 1 to 2 were removed", fault.sentence)

    def test_lockTaken(self) -> None:
        """A log that another process took meanwhile is left to it, until it is free."""
        log = self.make()
        self.disk.failOn("fstat", number=errno.EIO)
        self.assertFails(note(log, "lost"), "input/output error")
        self.disk.mend()
        with open(self.path, "rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            self.assertFails(note(log, "lost"), "another process writes it")
        self.successResultOf(note(log, "after"))
        self.assertWhole()

    def test_descriptorClosed(self) -> None:
        """A descriptor that somebody closed, and that is another file's now, is left alone."""
        log = self.make()
        [descriptor] = self.disk.descriptors
        victim = self.directory / "victim"
        victim.write_bytes(b"")
        os.close(descriptor)
        self.assertFails(note(log, "lost"), "bad file descriptor")
        self.disk.descriptors.clear()
        self.successResultOf(note(log, "between"))
        [descriptor] = self.disk.descriptors
        with open(victim, "r+b") as file:
            os.dup2(file.fileno(), descriptor)
            self.assertFails(note(log, "lost"), "its descriptor was closed")
            self.assertEqual(os.fstat(descriptor).st_ino, os.stat(victim).st_ino)
        self.assertEqual(victim.read_bytes(), b"")
        self.successResultOf(note(log, "after"))
        self.assertWhole()

    def test_closingFails(self) -> None:
        """A log whose end cannot be written closes all the same, and nobody waits for ever."""
        log = self.make()
        flying, waiting = note(log, "a", durable=True), note(log, "b", durable=True)
        self.disk.failOn("write")
        self.successResultOf(log.close())
        self.failureResultOf(flying, AuditUnavailable)
        self.failureResultOf(waiting, AuditUnavailable)
        self.threads.runAll()
        self.assertEqual(self.disk.descriptors, set())

    def test_duringSync(self) -> None:
        """A full disk while an earlier record is waited for takes nothing from that one."""
        log = self.make()
        early = note(log, "early", durable=True)
        self.disk.failOn("write")
        self.assertFails(note(log, "lost", durable=True), "no space left")
        self.disk.mend()
        self.threads.runAll()
        self.successResultOf(early)
        late = note(log, "late", durable=True)
        self.threads.runAll()
        self.successResultOf(late)
        self.assertWhole()

    def test_droppedDuringSync(self) -> None:
        """A file that is given up while a thread waits for it keeps its descriptor till then."""
        log = self.make()
        early = note(log, "early", durable=True)
        held = set(self.disk.descriptors)
        self.disk.failOn("stat", number=errno.EIO)
        self.assertFails(note(log, "lost"), "input/output error")
        self.assertFails(early, "input/output error")
        self.assertEqual(self.disk.descriptors, held)
        self.disk.mend()
        late = note(log, "late", durable=True)
        self.assertNoResult(late)
        self.assertEqual(len(self.disk.descriptors), 2)
        self.threads.runAll()
        self.successResultOf(late)
        self.assertEqual(len(self.disk.descriptors), 1)
        self.assertWhole()


class ThreadTests(TestCase):
    """The log with the reactor's own clock and threads."""

    async def test_reactor(self) -> None:
        """Durable records are acknowledged by the real disk, in order."""
        from twisted.internet import reactor

        path = os.path.join(self.mktemp())
        log = AuditLog(path, reactor)
        log.open()
        order: list[int] = []
        waiting = [note(log, str(number), durable=True) for number in range(50)]
        for number, each in enumerate(waiting):
            each.addCallback(lambda _, n: order.append(n), number)
        for each in waiting:
            await each
        self.assertEqual(order, list(range(50)))
        await log.close()
        report = verify([path])
        self.assertEqual((report.records, report.fault), (52, None))


class OtherLogTests(SynchronousTestCase):
    """L{NoAudit} and L{AuditNotes}."""

    def write(self, log: IAuditLog, **fields: Any) -> Deferred[None]:
        """Record something."""
        return log.record("e", service="s", peer="p", identity=Identity("unix", "root"), **fields)

    def test_none(self) -> None:
        """Where no log is configured, recording succeeds."""
        self.assertIsNone(self.successResultOf(self.write(NoAudit(), durable=True, x=1)))

    def test_notes(self) -> None:
        """Notes have what was recorded; they fail as they are told, and refuse what a log would."""
        notes = AuditNotes()
        self.successResultOf(self.write(notes, durable=True, x=b"\xff"))
        self.assertEqual(
            notes.records,
            [
                {
                    "event": "e", "service": "s", "peer": "p", "identity": "unix:root",
                    "durable": True, "x": b"\xff",
                }
            ],
        )  # fmt: skip
        notes.failure = AuditUnavailable("Full.")
        self.failureResultOf(self.write(notes), AuditUnavailable)
        self.assertEqual(len(notes.records), 1)
        self.assertRaises(TypeError, self.write, notes, x=object())
