"""
The audit log when system calls fail in turn, and when the process ends at them; no tests by itself.

The unit tests tell some of these stories, C{make soak} all of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import msgspec
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.trust.auditdisk import CALLS, Crashed, Disk, Threads, clockAt, note
from twisted_netsuite.errors import AuditUnavailable, ConfigurationError
from twisted_netsuite.trust.audit import AuditLog
from twisted_netsuite.trust.auditcheck import verify

#: Small enough that the story below has several files.
MAX_BYTES = 1300


class Story:
    """
    What a service records in two lives, on one disk.

    @ivar all: texts of records that were acknowledged.
    @ivar refused: texts of records that were refused and did not wait for the disk: of those that
        did, it is only unknown whether they are there.
    """

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "audit.log")
        self.all: list[str] = []
        self.refused: list[str] = []

    def live(self, disk: Disk, name: str) -> bool:
        """Open, record, close; tell whether it could be opened."""
        threads = Threads()
        log = AuditLog(self.path, clockAt(), maxBytes=MAX_BYTES, calls=disk, inThread=threads)
        try:
            log.open()
        except ConfigurationError:
            return False
        for number in range(8):
            self._record(log, f"{name}{number}", number % 3 != 0)
            if number % 4 == 3:
                threads.runAll()
                self._alive(disk)
        log.close().addErrback(lambda failure: failure.trap(Crashed) and None)
        self._alive(disk)
        threads.runAll()
        self._alive(disk)
        return True

    def _alive(self, disk: Disk) -> None:
        if disk.dead:
            raise Crashed

    def _record(self, log: AuditLog, text: str, durable: bool) -> None:
        done = note(log, text, durable)

        done.addCallbacks(
            lambda _: self.all.append(text), self._refused, errbackArgs=(text, durable)
        )

    def _refused(self, failure: Failure, text: str, durable: bool) -> None:
        failure.trap(AuditUnavailable)
        if not durable:
            self.refused.append(text)


class FaultStories(SynchronousTestCase):
    """
    L{AuditLog} on a disk that fails.

    @cvar every: of how many stories one is told.
    """

    every: ClassVar[int]

    def story(self) -> tuple[Story, Disk]:
        """Begin anew."""
        directory = Path(self.mktemp())
        directory.mkdir()
        return Story(directory), Disk()

    def setUp(self) -> None:
        story, disk = self.story()
        story.live(disk, "a")
        story.live(disk, "b")
        self.calls = disk.made
        self.assertEqual(len(story.all), 16)
        self.assertGreater(len(os.listdir(os.path.dirname(story.path))), 3)

    def assertKept(self, story: Story, where: object) -> None:
        """The log is whole, and has what was acknowledged, once and in order; nothing else."""
        directory = Path(story.path).parent
        paths = [str(path) for path in directory.glob("audit.log*")]
        report = verify(paths)
        self.assertIsNone(report.fault, (where, report.fault))
        self.assertIsNone(report.unfinished, where)
        lines = b"".join(
            Path(path).read_bytes() for path in sorted(paths, key=self._number)
        ).splitlines()
        texts = [msgspec.json.decode(line).get("text") for line in lines]
        found = [text for text in texts if text in story.all]
        self.assertEqual(found, sorted(story.all, key=self._age), where)
        events = [text for text in texts if text is not None]
        self.assertEqual(len(events), len(set(events)), where)
        self.assertEqual([text for text in events if text in story.refused], [], where)

    def _number(self, path: str) -> int:
        suffix = path.rpartition(".")[2]
        return int(suffix) if suffix.isdecimal() else (1 << 30)

    def _age(self, text: str) -> tuple[str, int]:
        return text[0], int(text[1:])

    def places(self, case: int, end: int, step: int = 1) -> range:
        """
        Choose at which calls a fault comes.

        @param case: a number for the fault; each has others, so that all together miss few.
        @param end: the number of calls.
        @param step: how many calls there are from one to the next when all stories are told.
        """
        return range(case * step % (self.every * step), end, self.every * step)

    def run_(self, fault: Callable[[Disk], None], where: object) -> None:
        """Tell the story with a fault, then let a last life be without."""
        story, disk = self.story()
        fault(disk)
        story.live(disk, "a")
        story.live(disk, "b")
        disk.mend()
        self.assertEqual(disk.descriptors, set(), where)
        self.assertTrue(story.live(disk, "c"), where)
        self.assertKept(story, where)

    def test_once(self) -> None:
        """Whichever call fails once, however: nothing that was acknowledged is lost."""
        for case, (number, after) in enumerate(
            (
                (errno.ENOSPC, False),
                (errno.EIO, False),
                (errno.EINTR, False),
                (errno.EIO, True),
            )
        ):
            for index in self.places(case, self.calls + 10):

                def fault(
                    disk: Disk, at: int = index, how: tuple[int, bool] = (number, after)
                ) -> None:
                    disk.failAt(lambda call, _: call == at, *how)

                self.run_(fault, (index, errno.errorcode[number], after))

    def test_forAWhile(self) -> None:
        """Whichever calls fail in a row: nothing that was acknowledged is lost."""
        for case, length in enumerate((2, 7, 20)):
            for index in self.places(case, self.calls + 10):

                def fault(disk: Disk, at: int = index, length: int = length) -> None:
                    disk.failAt(lambda call, _: at <= call < at + length, errno.EIO)

                self.run_(fault, (index, length))

    def test_oneKind(self) -> None:
        """Whichever kind of call fails from some moment on: nothing acknowledged is lost."""
        for case, name in enumerate(CALLS):
            for index in self.places(case, self.calls, 5):

                def fault(disk: Disk, at: int = index, kind: str = name) -> None:
                    disk.failAt(lambda call, each: call >= at and each == kind, errno.EROFS)

                self.run_(fault, (index, name))

    def test_short(self) -> None:
        """Whichever writes take only half: nothing that was acknowledged is lost."""
        for case, length in enumerate((1, 1000)):
            for index in self.places(case, self.calls + 10):

                def fault(disk: Disk, at: int = index, length: int = length) -> None:
                    disk.writeShort(lambda call, _: at <= call < at + length)

                self.run_(fault, (index, length))

    def test_shortAndNotCut(self) -> None:
        """Halves that cannot be cut out at once, either: nothing acknowledged is lost."""
        for index in self.places(0, self.calls + 10):

            def fault(disk: Disk, at: int = index) -> None:
                def half(call: int, name: str, make: Callable[[], object]) -> object:
                    if call < at or call > at + 30:
                        return make()
                    if name == "ftruncate":
                        raise OSError(errno.EIO, os.strerror(errno.EIO))
                    return disk.short() if name == "write" else make()

                disk.fault = half

            self.run_(fault, index)

    def test_crash(self) -> None:
        """
        Whichever call the process ends at: the next one goes on, with all that was acknowledged.

        The machine does not end with it, so that what was only written is there, too.
        """
        for case, after in enumerate((False, True)):
            for index in self.places(case, self.calls):
                story, disk = self.story()
                disk.crashAt(index, after)
                with contextlib.suppress(Crashed):
                    story.live(disk, "a")
                    story.live(disk, "b")
                self.assertTrue(disk.dead)
                self.assertTrue(story.live(Disk(), "c"), (index, after))
                self.assertKept(story, (index, after))
                self.flushLoggedErrors(Crashed)

    def test_crashAgain(self) -> None:
        """A process that ends while it mends what another left harms nothing."""
        for first in self.places(0, self.calls, 4):
            for second in self.places(first // 4 // self.every, 25):
                story, disk = self.story()
                disk.crashAt(first, False)
                with contextlib.suppress(Crashed):
                    story.live(disk, "a")
                    story.live(disk, "b")
                disk = Disk()
                disk.crashAt(second, False)
                with contextlib.suppress(Crashed):
                    story.live(disk, "c")
                self.assertTrue(story.live(Disk(), "d"), (first, second))
                self.assertKept(story, (first, second))
                self.flushLoggedErrors(Crashed)
