"""
Uploads: one thing after the other is done with a file, and what is counted for it is settled once.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.files.faultystore import FaultyStore
from tests.files.fileserver import Immediate, Later
from tests.trust.overseen import ANNA, BOB
from twisted_netsuite.errors import Conflict, Corrupted, LimitExceeded, NotFound, ProtocolError
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.messages import Body
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.files.uploads import MAX_UPLOADS, Begun, Upload, Uploads


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
        place: Any = None
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
        """Its room is settled as the file is, also when that fails."""
        for keep, end in ((True, "keep"), (False, "release")):
            self.successResultOf(self.begin(Immediate()).end(keep))
            self.assertEqual(self.room.ends.pop(), end)
            upload = self.begin(Immediate())

            def fail() -> None:
                raise OSError("broken")

            upload.target.keep = upload.target.discard = fail  # type: ignore[method-assign]
            self.failureResultOf(upload.end(keep), OSError)
            self.assertEqual(self.room.ends.pop(), end)
        upload = self.begin(Immediate(), source=b"s")
        self.failureResultOf(upload.commit(bytes(32)), Corrupted)
        self.assertEqual(self.room.ends, ["keep"])


class UploadsTests(SynchronousTestCase):
    """Those of a service."""

    def test_room(self) -> None:
        """Files count from before they are opened until they are over."""
        uploads = Uploads()
        for _ in range(MAX_UPLOADS):
            uploads.enter(1)
        self.assertRaises(LimitExceeded, uploads.enter, 1)
        uploads.leave()
        uploads.enter(1)

    def test_find(self) -> None:
        """Only its owner finds one, and only as long as it is not over."""
        store, uploads = FaultyStore(100), Uploads()
        room: Any = Counted()
        place: Any = None
        target = store.target((b"f",), Wanted(1), "anna")
        upload = Upload(Immediate(), Begun(target, room, place), ANNA)
        uploads.enter(1)
        uploads.add(upload)
        self.assertIs(uploads.find(upload.token, ANNA), upload)
        self.assertRaises(NotFound, uploads.find, upload.token, BOB)
        self.assertRaises(NotFound, uploads.find, bytes(16), ANNA)
        self.successResultOf(upload.end(False))
        self.assertRaises(NotFound, uploads.find, upload.token, ANNA)
