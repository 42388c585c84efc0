"""
Files that are fetched, as they are written: holes are what is missing, whatever is there already,
and nothing is begun of what is too large.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.files.faultystore import FaultyStore
from tests.files.fileserver import Immediate, Later
from twisted_netsuite.errors import LimitExceeded, StorageFailed
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.download import HOLES_WEIGHT, Download
from twisted_netsuite.files.filling import Chunk, Filling
from twisted_netsuite.files.messages import Facts
from twisted_netsuite.files.store import Target, Wanted
from twisted_netsuite.files.verified import MAX_FILE


class FillingCase(SynchronousTestCase):
    """A store, and a disk."""

    def setUp(self) -> None:
        self.store = FaultyStore(1 << 24)
        self.disk: Any = Immediate()
        self.opened = 0

    def filling(self, size: int) -> Filling:
        def open() -> Target:
            self.opened += 1
            target: Target = self.store.target((b"f",), Wanted(size), "me")
            return target

        return Filling(self.disk, open, size)


class FillingTests(FillingCase):
    """One file."""

    def test_tooLarge(self) -> None:
        """What a server says to be larger than any file can be is refused before it is begun, and
        so is what comes of it."""
        for size in (MAX_FILE + 1, 2**62):
            filling = self.filling(size)
            failure = self.failureResultOf(filling.begin(), LimitExceeded)
            self.assertIn(f"has {size} bytes; at most {MAX_FILE}", failure.value.sentence)
            self.failureResultOf(filling.holes(0, size // CHUNK), LimitExceeded)
            self.successResultOf(filling.end(True))
        self.assertEqual(self.opened, 0)

    def test_holes(self) -> None:
        """Holes count once, and what is there, or was begun, is right in the end."""
        size = 4 * CHUNK + 3
        filling = self.filling(size)
        self.assertEqual(self.successResultOf(filling.begin()), ([(0, 5)], 0))
        data = b"x" * CHUNK
        for index, pieces in ((0, [data]), (2, [b"bad"])):
            chunk = Chunk(index, CHUNK, digestOf(data))
            self.successResultOf(filling.write(chunk, pieces))
        self.assertEqual(self.successResultOf(filling.holes(0, 5)), size - CHUNK)
        self.assertEqual(self.successResultOf(filling.holes(0, 5)), 0)
        self.assertEqual(self.store.made, [1, 3, 4])
        attributes, _ = self.successResultOf(filling.publish())
        source = super(FaultyStore, self.store).source((b"f",))
        self.assertEqual(
            (attributes.size, source.read(0, size)), (size, data + bytes(size - CHUNK))
        )


class Session:
    """A session that asks nobody, and notes what waits for the disk."""

    isOpen = True

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.waiting = 0

    def ask(self, got: Any) -> None:
        self.asked.append(got)

    def waits(self, count: int) -> None:
        self.waiting += count


class HolesTests(FillingCase):
    """Holes of a server that tells of them faster than they can be made."""

    def test_waiting(self) -> None:
        """They count as what waits for the disk, until they are made, or cannot be."""
        self.disk = Later()
        size = 4 * CHUNK
        session: Any = Session()
        filling, facts = self.filling(size), Facts(size=size, version=bytes(16))
        begun = filling.begin()
        self.disk.step()
        missing, _ = self.successResultOf(begun)
        told: list[int] = []
        download = Download([session], b"/f", facts, filling, told.append)
        download.begin(missing)
        (got,) = session.asked
        self.patch(got, "cancel", lambda: None)
        for index in range(3):
            download.holes(got, index, 1)
        self.assertEqual(session.waiting, 3 * HOLES_WEIGHT)
        self.disk.step()
        self.assertEqual((session.waiting, told), (2 * HOLES_WEIGHT, [CHUNK]))

        def fail(index: int) -> None:
            raise StorageFailed("full")

        assert filling._target is not None
        filling._target.hole = fail  # type: ignore[method-assign]
        while self.disk.step():
            pass
        self.assertEqual(session.waiting, 0)
        self.failureResultOf(download.done, StorageFailed)
