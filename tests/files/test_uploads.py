"""
Uploads: one thing after the other is done with a file, and what is counted for it is settled once.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.files.faultystore import FaultyStore
from tests.files.fileserver import Immediate, Later
from tests.trust.overseen import ANNA, BOB
from twisted_netsuite.errors import (
    Conflict,
    Corrupted,
    Denied,
    LimitExceeded,
    NotFound,
    ProtocolError,
    StorageFailed,
)
from twisted_netsuite.files import uploads as module
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.messages import Body, Put
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.files.uploads import (
    MAX_EACH,
    MAX_FILE,
    MAX_UPLOADS,
    Begun,
    Upload,
    Uploads,
)
from twisted_netsuite.trust.identity import Identity


class Somewhere(NamedTuple):
    """A place, as far as uploads look at it."""

    root: str
    parts: tuple[bytes, ...]

    def held(self) -> AbstractContextManager[None]:
        """Hold nothing."""
        return nullcontext()


class Counted:
    """Room that notes what became of it."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def publish(self, size: int) -> None:
        self.ends.append(f"publish {size}")

    def keep(self) -> None:
        self.ends.append("keep")

    def release(self) -> None:
        self.ends.append("release")


class UploadTests(SynchronousTestCase):
    """One file."""

    def setUp(self) -> None:
        self.store = FaultyStore(1 << 24)
        self.room: Any = Counted()

    def begin(self, disk: Any, size: int = 3, source: bytes | None = None) -> Upload:
        place: Any = Somewhere("/root", (b"f",))
        target = self.store.target((b"f",), Wanted(size, source=source), "anna")
        return Upload(disk, Begun(target, self.room, place), ANNA)

    def body(self, data: bytes, index: int = 0, digest: bytes = b"") -> Body:
        return Body(id=1, index=index, length=len(data), digest=digest or digestOf(data))

    def test_parts(self) -> None:
        """A chunk may come in pieces; it is right only when all of it is."""
        upload = self.begin(Immediate())
        chunk = upload.chunk(self.body(b"abc"))
        self.successResultOf(upload.write(chunk, [b"a"]))
        self.assertEqual(dict(upload.target.verified), {})
        self.successResultOf(upload.write(chunk, [b"b", b"c"]))
        attributes = self.successResultOf(upload.commit(digestOf(b"abc")))
        self.assertEqual((attributes.size, self.room.ends), (3, ["publish 3"]))

    def test_order(self) -> None:
        """What was given is done in its order, one thing at a time, and nothing after the end."""
        disk = Later()
        upload = self.begin(disk)
        writing = upload.write(upload.chunk(self.body(b"abc")), [b"abc"])
        written = upload.written()
        committing = upload.commit(digestOf(b"abc"))
        self.assertTrue(upload.over)
        self.failureResultOf(upload.end(True), Conflict)
        given: tuple[Any, ...] = (writing, written, committing)
        for done in given:
            self.assertEqual(len(disk.waiting), 1)
            self.assertNoResult(done)
            disk.step()
            self.successResultOf(done)
        self.assertEqual(disk.waiting, [])

    def test_failedPiece(self) -> None:
        """Behind a piece that could not be written nothing of its chunk is, and it may come
        again."""
        disk = Later()
        upload = self.begin(disk)
        chunk = upload.chunk(self.body(b"abc"))
        one, two = upload.write(chunk, [b"ab"]), upload.write(chunk, [b"c"])
        self.store.failure = OSError("full")
        disk.step()
        self.store.failure = None
        disk.step()
        self.failureResultOf(one, OSError)
        self.successResultOf(two)
        self.assertEqual(self.store.written, 0)
        again = upload.write(upload.chunk(self.body(b"abc")), [b"abc"])
        disk.step()
        self.successResultOf(again)

    def test_coming(self) -> None:
        """A chunk comes once at a time, and is no hole then."""
        upload = self.begin(Immediate(), 2 * CHUNK)
        chunk = upload.chunk(self.body(bytes(CHUNK)))
        self.assertRaises(Conflict, upload.chunk, self.body(bytes(CHUNK)))
        self.assertRaises(Conflict, upload.holes, 0, 2)
        self.successResultOf(upload.holes(1, 1))
        upload.dropped(chunk)
        upload.chunk(self.body(bytes(CHUNK)))

    def test_holesAgain(self) -> None:
        """What is there is no hole, nor made one again."""
        upload = self.begin(Immediate(), 5 * CHUNK)
        self.successResultOf(upload.holes(1, 2))
        self.successResultOf(upload.write(upload.chunk(self.body(b"x" * CHUNK)), [b"x" * CHUNK]))
        self.successResultOf(upload.holes(0, 5))
        self.successResultOf(upload.holes(0, 5))
        self.assertEqual(self.store.made, [1, 2, 3, 4])
        self.assertEqual(upload.target.verified[0], digestOf(b"x" * CHUNK))

    def test_holesInSteps(self) -> None:
        """Many holes are made in steps, and what fails of them is told."""
        self.patch(module, "HOLES", 2)
        disk = Later()
        upload = self.begin(disk, 5 * CHUNK)
        made, written = upload.holes(0, 5), upload.written()
        for count in (2, 4, 5):
            self.assertNoResult(made)
            disk.step()
            self.assertEqual(self.store.made, list(range(count)))
        self.successResultOf(made)
        self.assertNoResult(written)

        def fail(index: int) -> None:
            raise StorageFailed("full")

        upload = self.begin(Immediate(), 5 * CHUNK)
        upload.target.hole = fail  # type: ignore[method-assign]
        self.failureResultOf(upload.holes(0, 5), StorageFailed)

    def test_no_such(self) -> None:
        """Chunks that the file does not have are refused."""
        upload = self.begin(Immediate())
        for body in (self.body(b"ab"), self.body(b"abcd"), self.body(b"", 1)):
            self.assertRaises(ProtocolError, upload.chunk, body)
        self.assertRaises(ProtocolError, upload.holes, 0, 2)

    def test_rewritten(self) -> None:
        """What is right is never written again, and other contents for it are refused."""
        upload = self.begin(Immediate())
        self.successResultOf(upload.write(upload.chunk(self.body(b"abc")), [b"abc"]))
        self.successResultOf(upload.write(upload.chunk(self.body(b"abc")), [b"abc"]))
        done = upload.write(upload.chunk(self.body(b"xyz")), [b"xyz"])
        self.failureResultOf(done, Corrupted)
        self.assertEqual(self.store.written, 3)

    def test_room(self) -> None:
        """Its room is settled as the file is: what is kept counts, and what is not does not; and
        when that fails it counts, as nobody knows."""
        for source, keep, end in (
            (b"s", True, "keep"),
            (None, True, "release"),
            (b"s", False, "release"),
        ):
            upload = self.begin(Immediate(), source=source)
            self.successResultOf(upload.end(keep))
            self.assertEqual((self.room.ends.pop(), upload.kept), (end, end == "keep"))

            upload = self.begin(Immediate(), source=source)

            def fail() -> None:
                raise OSError("broken")

            upload.target.keep = upload.target.discard = fail  # type: ignore[method-assign]
            self.failureResultOf(upload.end(keep), OSError)
            self.assertEqual(self.room.ends.pop(), "keep")
            self.store._writing.clear()

    def test_notPublished(self) -> None:
        """When it cannot be published it is told, and counted, whether something of it is kept."""
        for source, end in ((b"s", "keep"), (None, "release")):
            upload = self.begin(Immediate(), source=source)
            self.failureResultOf(upload.commit(bytes(32)), Corrupted)
            self.assertEqual((self.room.ends.pop(), upload.kept), (end, end == "keep"))


class UploadsTests(SynchronousTestCase):
    """Those of a service."""

    def setUp(self) -> None:
        self.uploads = Uploads()
        self.store = FaultyStore(1 << 20)
        self.disk: Any = Immediate()
        self.room: Any = Counted()

    def begin(
        self,
        owner: Identity = ANNA,
        source: bytes | None = None,
        name: bytes = b"f",
        size: int = 3,
        asked: Deferred[Any] | None = None,
    ) -> Deferred[Upload]:
        """Begin a file."""
        place: Any = Somewhere("/root", (name,))
        put = Put(id=1, name=name, size=size, source=source)

        def open(place: Any) -> Begun:
            target = self.store.target(place.parts, Wanted(size, source=source), str(owner))
            return Begun(target, self.room, place)

        return self.uploads.begin(
            self.disk, owner, put, lambda: succeed(place) if asked is None else asked, open
        )

    def opened(self, *args: Any, **kwargs: Any) -> Upload:
        """Begin a file that is open at once."""
        return self.successResultOf(self.begin(*args, **kwargs))

    def write(self, upload: Upload) -> None:
        """Write the only chunk."""
        body = Body(id=1, index=0, length=3, digest=digestOf(b"abc"))
        self.successResultOf(upload.write(upload.chunk(body), [b"abc"]))

    def assertNone(self) -> None:
        """Nothing is open or counted."""
        self.assertEqual(self.store._writing, set())
        uploads = self.uploads
        self.assertEqual((uploads._open, uploads._counts, uploads._turns), ({}, {}, {}))

    def test_room(self) -> None:
        """Files count from before they may be opened until they are over, whatever becomes of
        them, and there are only so many."""
        self.patch(module, "MAX_UPLOADS", 3)
        asked: Deferred[Any] = Deferred()
        waiting = self.begin(asked=asked)
        one, two = self.opened(), self.opened(BOB)
        self.failureResultOf(self.begin(), LimitExceeded)
        asked.errback(Denied("No."))
        self.failureResultOf(waiting, Denied)
        three = self.opened()
        self.failureResultOf(self.begin(), LimitExceeded)
        for upload in (one, two, three):
            self.successResultOf(upload.end(False))
        self.assertNone()

    def test_share(self) -> None:
        """One identity takes no more than its share, and is told so; others have theirs."""
        self.assertLess(MAX_EACH, MAX_UPLOADS)
        self.patch(module, "MAX_EACH", 2)
        mine = [self.opened(), self.opened()]
        failure = self.failureResultOf(self.begin(), LimitExceeded)
        self.assertEqual(
            failure.value.sentence,
            "You send 2 files at a time, and no more are taken from one identity; try again when "
            "one of them is done.",
        )
        mine += [self.opened(BOB), self.opened(BOB)]
        self.failureResultOf(self.begin(BOB), LimitExceeded)
        self.successResultOf(mine.pop(0).end(False))
        mine.append(self.opened())
        for upload in mine:
            self.successResultOf(upload.end(False))
        self.assertNone()

    def test_tooLarge(self) -> None:
        """A file that is too large is refused before it is asked for."""
        failure = self.failureResultOf(self.begin(size=MAX_FILE + 1), LimitExceeded)
        self.assertIn(str(MAX_FILE), failure.value.sentence)
        self.assertNone()

    def test_find(self) -> None:
        """Only its owner finds one, and only as long as it is not over."""
        upload = self.opened()
        self.assertIs(self.uploads.find(upload.token, ANNA), upload)
        self.assertRaises(NotFound, self.uploads.find, upload.token, BOB)
        self.assertRaises(NotFound, self.uploads.find, bytes(16), ANNA)
        self.successResultOf(upload.end(False))
        self.assertRaises(NotFound, self.uploads.find, upload.token, ANNA)

    def test_takenOver(self) -> None:
        """The newer of two that send the same goes on with what the older has brought; the older
        is told why it cannot go on."""
        old = self.opened(source=b"s")
        self.write(old)
        new = self.opened(source=b"s")
        self.assertEqual([*new.target.verified], [0])
        self.assertTrue(old.over)
        for failed in (old.commit(digestOf(b"abc")), old.written()):
            failure = self.failureResultOf(failed, Conflict)
            self.assertIn("was begun once more from the same source", failure.value.sentence)
        self.successResultOf(new.commit(digestOf(b"abc")))
        self.assertEqual(
            (self.store.ends, self.room.ends), (["keep", "commit"], ["keep", "publish 3"])
        )
        self.assertNone()

    def test_twoWriters(self) -> None:
        """The newer waits for all that is under way of the older, so that there is one writer at
        any time."""
        old = self.opened(source=b"s")
        self.disk = old._line._disk = Later()
        body = Body(id=1, index=0, length=3, digest=digestOf(b"abc"))
        writing = old.write(old.chunk(body), [b"abc"])
        new = self.begin(source=b"s")
        self.assertNoResult(new)
        self.disk.step()  # The piece.
        self.successResultOf(writing)
        self.assertEqual(self.store.ends, [])
        self.disk.step()  # The end of the old one.
        self.assertEqual(self.store.ends, ["keep"])
        self.assertNoResult(new)
        self.disk.step()  # The new one.
        upload = self.successResultOf(new)
        self.assertEqual([*upload.target.verified], [0])
        ended = upload.end(False)
        self.disk.step()
        self.successResultOf(ended)
        self.assertNone()

    def test_committing(self) -> None:
        """One that is being published already is published, before the newer begins."""
        old = self.opened(source=b"s")
        self.write(old)
        self.disk = old._line._disk = Later()
        committing = old.commit(digestOf(b"abc"))
        new = self.begin(source=b"s")
        self.disk.step()
        self.successResultOf(committing)
        self.disk.step()
        upload = self.successResultOf(new)
        self.assertEqual([*upload.target.verified], [])
        upload.end(False)
        self.disk.step()
        self.assertNone()

    def test_opening(self) -> None:
        """One that is not open yet when a newer comes is never used, and lets that one pass."""
        self.disk = Later()
        old, middle, new = (self.begin(source=b"s") for _ in range(3))
        self.disk.step()  # The oldest opens,
        self.disk.step()  # and ends.
        self.failureResultOf(old, Conflict)
        self.failureResultOf(middle, Conflict)
        self.disk.step()
        upload = self.successResultOf(new)
        self.assertEqual(self.disk.waiting, [])
        upload.end(True)
        self.disk.step()
        self.assertNone()

    def test_openingFails(self) -> None:
        """One that cannot be opened lets a newer pass."""
        self.disk = Later()
        old, new = self.begin(source=b"s", size=2 << 20), self.begin(source=b"s")
        self.disk.step()
        self.failureResultOf(old, StorageFailed)
        self.disk.step()
        self.successResultOf(new).end(False)
        self.disk.step()
        self.assertNone()

    def test_others(self) -> None:
        """Another identity, name or source, or none, takes nothing over."""
        begun = [self.opened(source=b"s")]
        begun.append(self.opened(BOB, source=b"s"))
        begun.append(self.opened(source=b"t"))
        begun.append(self.opened(source=b"s", name=b"g"))
        begun += [self.opened(), self.opened()]
        for upload in begun:
            self.assertFalse(upload.over)
            self.successResultOf(upload.end(False))
        self.assertNone()
