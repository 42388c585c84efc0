"""
Whole files fetched and sent by a client: what is published, what is moved, and what is left, with
one session and several, whatever the disk, the connection and the server do.
"""

from __future__ import annotations

import os
import random
from itertools import chain, pairwise
from typing import Any, cast
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from tests.files.faultystore import FaultyStore
from tests.files.fileserver import (
    OTHER_VERSION,
    FileServer,
    Immediate,
    Kept,
    Later,
    SessionTestCase,
    facts,
    fileDigest,
)
from twisted_netsuite.errors import (
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Corrupted,
    Denied,
    InvalidName,
    NetsuiteError,
    NotFound,
    ProtocolError,
    SourceChanged,
    StorageFailed,
    TimedOut,
)
from twisted_netsuite.files import client, download, putfile
from twisted_netsuite.files.client import MAX_DEBT, FilesSession
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.filling import missingRuns
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.messages import Body, Cancel, Commit, Get, Hash, Holes, Join, Put
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.files.transfer import (
    Got,
    Local,
    Sent,
    Unconfirmed,
    getFile,
    getStream,
    putFile,
    retrying,
)

TAIL = 1000


def noise(size: int, seed: int = 0) -> bytes:
    """Make bytes that do not repeat."""
    return random.Random(seed).randbytes(size)


LARGE = noise(5 * CHUNK + TAIL)


class TransferTestCase(SessionTestCase):
    """A store at this end, and a server that keeps files."""

    factory: FileServer

    def setUp(self) -> None:
        super().setUp()
        self.store = FaultyStore(256 * CHUNK)
        self.disk: Any = Immediate()
        self.told: list[int] = []
        self.session = self.connect()

    def makeFactory(self) -> FileServer:
        return FileServer(self.clock)

    def turn(self) -> bool:
        """One more thing of a disk whose answers come later."""
        stepped = isinstance(self.disk, Later) and self.disk.step()
        return super().turn() or stepped

    def local(self, name: bytes = b"here") -> Local:
        return Local(self.store, (name,), self.disk)

    def contents(self, name: bytes = b"here") -> bytes:
        """Read what is published at this end."""
        source = super(FaultyStore, self.store).source((name,))
        return source.read(0, source.attributes.size)

    def write(self, data: bytes, name: bytes = b"here", **options: Any) -> None:
        """Have a file at this end."""
        parts, wanted = (name,), Wanted(size=len(data), **options)
        target = super(FaultyStore, self.store).target(parts, wanted, "test")
        target.write(0, [data])
        for index, at in enumerate(range(0, max(1, len(data)), CHUNK)):
            target.chunkWritten(index, digestOf(data[at : at + CHUNK]))
        target.commit(fileDigest(data))

    def serve(self, data: bytes, **options: Any) -> Kept:
        kept = self.factory.files[b"/there"] = Kept(data, **options)
        return kept

    def served(self) -> bytes:
        return self.factory.files[b"/there"].data

    def startGet(self, *sessions: FilesSession, **options: Any) -> Deferred[Got]:
        return getFile(
            sessions or [self.session], b"/there", self.local(), moved=self.told.append, **options
        )

    def get(self, *sessions: FilesSession, **options: Any) -> Deferred[Got]:
        getting = self.startGet(*sessions, **options)
        self.flush()
        return getting

    def startPut(self, *sessions: FilesSession, **options: Any) -> Deferred[Sent]:
        return putFile(
            sessions or [self.session], self.local(), b"/there", moved=self.told.append, **options
        )

    def put(self, *sessions: FilesSession, **options: Any) -> Deferred[Sent]:
        putting = self.startPut(*sessions, **options)
        self.flush()
        return putting

    def records(self, kind: type[Any], number: int = 0) -> list[Any]:
        """Tell what of a kind has come to the server over a session."""
        return [each for each in self.factory.opened[number].records if isinstance(each, kind)]

    def assertNothing(self) -> None:
        """See that nothing was published at this end, and nothing is in use."""
        self.assertRaises(NotFound, self.store.stat, (b"here",))
        self.assertIdle()

    def assertIdle(self) -> None:
        """See that nothing is left of any transfer."""
        self.flush()
        self.assertEqual(self.store.opened, self.store.closed)
        self.assertEqual(len(self.store.ends), len(self.store.wanted))
        for session in {self.session}:
            if session.isOpen:
                self.assertEqual(
                    (session.load, session._debt, session._gathered, session._held),
                    (0, 0, 0, False),
                )
                self.assertEqual(
                    (session.reading._free, session.moving._free),
                    (client.MAX_READ, client.MAX_MOVING),
                )

    def failure(self, doing: Deferred[Any], kind: type[Exception]) -> str:
        return str(self.failureResultOf(doing, kind).value)

    def lose(self, number: int = 0) -> None:
        """End a connection abruptly, at both ends."""
        pair = self.pairs[number]
        self.factory.cut(self.factory.opened[number])
        pair.client.reset()
        pair.server.abortConnection()
        self.flush()


class GetSmallTests(TransferTestCase):
    """Files of one chunk."""

    def test_small(self) -> None:
        """A file is fetched with one request, verified, and published."""
        for size in (0, 1, 4096, 65536, 65537, CHUNK):
            self.setUp()
            data = noise(size)
            self.serve(data)
            got = self.successResultOf(self.get())
            self.assertEqual(self.contents(), data)
            self.assertEqual(got, Got(facts(size), digestOf(data), size, 0))
            self.assertEqual(sum(self.told), size)
            self.assertEqual(self.records(Get), [Get(id=1, name=b"/there", count=1)])
            self.assertIdle()

    def test_bytewise(self) -> None:
        """So it is when the connection gives one byte at a time."""
        self.size = 1
        self.serve(noise(3000))
        self.successResultOf(self.get())
        self.assertEqual(self.contents(), noise(3000))

    def test_pipelined(self) -> None:
        """Many are asked for without waiting for one another."""
        for number in range(300):
            self.factory.files[b"/%d" % number] = Kept(b"%d" % number)
        getting = [
            getFile([self.session], b"/%d" % number, self.local(b"%d" % number))
            for number in range(300)
        ]
        self.pairs[0].client.step(10**9)
        self.pairs[0].server.step(10**9)
        self.flush()
        self.assertEqual(len(self.records(Get)), 300)
        for number, each in enumerate(getting):
            self.successResultOf(each)
            self.assertEqual(self.contents(b"%d" % number), b"%d" % number)
        self.assertIdle()

    def test_hole(self) -> None:
        """A small file that is a hole is zeros."""
        self.serve(bytes(5000), holes=frozenset([0]))
        got = self.successResultOf(self.get())
        self.assertEqual((self.contents(), got.digest), (bytes(5000), digestOf(bytes(5000))))
        self.assertIdle()

    def test_wishes(self) -> None:
        """What is wished is what the store is asked for; nothing is kept of a small file."""
        self.serve(b"abc")
        self.successResultOf(self.get(mode=0o600, mtime=5, durable=False))
        self.write(b"old")
        self.successResultOf(self.get(preserve=True, replaces=digestOf(b"old")))
        self.successResultOf(self.get(preserve=True, mode=0o600))
        first, second, third = self.store.wanted
        self.assertEqual(first, Wanted(size=3, mode=0o600, mtime=5, durable=False))
        self.assertEqual(
            second,
            Wanted(size=3, mode=0o640, mtime=1_000_000_007, replaces=digestOf(b"old")),
        )
        self.assertEqual((third.mode, third.mtime), (0o600, 1_000_000_007))

    def test_conflict(self) -> None:
        """A file that may not be replaced stays as it is."""
        self.serve(b"abc")
        self.write(b"old")
        self.failure(self.get(clobber=False), Conflict)
        self.assertEqual(self.contents(), b"old")

    def test_not_found(self) -> None:
        """What the server does not have is not found, and nothing is published."""
        self.assertIn("It is not there", self.failure(self.get(), NotFound))
        self.assertNothing()

    def test_wrong_once(self) -> None:
        """What comes wrong is asked for once more."""
        self.serve(b"abc", wrong={0: 1})
        self.successResultOf(self.get())
        self.assertEqual((self.contents(), self.told), (b"abc", [3]))
        self.assertEqual(len(self.records(Get)), 2)
        self.assertIdle()

    def test_wrong_twice(self) -> None:
        """What comes wrong twice is corrupted, and never published."""
        self.serve(b"abc", wrong={0: 2})
        self.failure(self.get(), Corrupted)
        self.assertEqual(len(self.records(Get)), 2)
        self.assertNothing()

    def test_known(self) -> None:
        """A file of which the version is known is no other one."""
        self.serve(b"abc")
        self.successResultOf(self.get(facts=facts(3)))
        self.assertEqual(self.records(Get)[0].version, facts(3).version)
        self.failure(self.get(facts=facts(3, OTHER_VERSION)), SourceChanged)

    def test_changed(self) -> None:
        """A file that changes before all of it was sent is not published."""
        self.serve(b"abc", changesAfter=0)
        self.failure(self.get(), SourceChanged)
        self.assertNothing()

    def test_disk_fails(self) -> None:
        """A disk that is full is told, and nothing of the file is left."""
        self.serve(b"abc")
        self.store.failure = StorageFailed("The disk is full.")
        self.failure(self.get(), StorageFailed)
        self.assertEqual(self.store.ends, ["discard"])
        self.assertNothing()

    def test_names(self) -> None:
        """The root is no file, and a name has a largest length."""
        root = getFile([self.session], b"/a", Local(self.store, (), self.disk))
        self.failure(root, InvalidName)
        self.failure(getFile([self.session], b"x" * 4001, self.local()), InvalidName)

    def test_wrong_wishes(self) -> None:
        """What cannot be wished for is refused before anything is asked."""
        self.failure(self.startGet(mode=0o1777), ConfigurationError)
        self.failure(self.startGet(replaces=b"short"), ConfigurationError)
        self.assertRaises(TypeError, self.startGet, clober=False)

    def test_lost(self) -> None:
        """A small file whose session ends fails."""
        self.serve(b"abc")
        getting = self.startGet()
        self.lose()
        self.failure(getting, ConnectionFailed)
        self.failure(self.startGet(), ConnectionFailed)
        self.assertNothing()

    def test_cancel(self) -> None:
        """A file that is cancelled is not published, and the server hears of it."""
        self.serve(b"abc")
        getting = self.startGet()
        getting.cancel()
        self.failure(getting, CancelledError)
        self.flush()
        self.assertEqual(self.records(Cancel), [Cancel(id=1)])

    def test_gathered(self) -> None:
        """A server that sends bodies and no DONE cannot fill the memory."""
        self.patch(client, "MAX_GATHERED", 3000)
        self.factory.onRecord = lambda script, record: None
        getting = [self.startGet() for _ in range(4)]
        self.flush()
        (script,) = self.factory.opened
        from twisted_netsuite.files.messages import Found

        for id in range(1, 5):
            script.sendRecord(Found(id=id, facts=facts(1000)))
            script.sendChunk(id, 0, bytes(1000))
        self.flush()
        for each in getting:
            self.failure(each, ProtocolError)

    def test_other_digest(self) -> None:
        """A server that tells two digests of one file is wrong."""
        from twisted_netsuite.files.messages import Done, Found

        self.factory.onRecord = lambda script, record: None
        getting = self.get()
        (script,) = self.factory.opened
        script.sendRecord(Found(id=1, facts=facts(3)))
        script.sendChunk(1, 0, b"abc")
        script.sendRecord(Done(id=1, digest=bytes(32)))
        self.flush()
        self.failure(getting, ProtocolError)
        self.assertNothing()


class GetLargeTests(TransferTestCase):
    """Files of several chunks."""

    def test_large(self) -> None:
        """Its first chunk tells how large it is, and one more request brings the rest."""
        self.serve(LARGE)
        got = self.successResultOf(self.get())
        self.assertEqual(self.contents(), LARGE)
        self.assertEqual(got, Got(facts(len(LARGE)), fileDigest(LARGE), len(LARGE), 0))
        self.assertEqual(sum(self.told), len(LARGE))
        first, rest = self.records(Get)
        self.assertEqual((first.first, first.count, first.version), (0, 1, None))
        self.assertEqual((rest.first, rest.count, rest.version), (1, 5, facts(0).version))
        self.assertEqual(self.store.ends, ["commit"])
        self.assertIdle()

    def test_known(self) -> None:
        """A file that is known is asked for at once, with one request."""
        self.serve(LARGE)
        self.successResultOf(self.get(facts=facts(len(LARGE))))
        self.assertEqual(self.contents(), LARGE)
        (asked,) = self.records(Get)
        self.assertEqual((asked.first, asked.count), (0, 6))

    def test_slowDisk(self) -> None:
        """No chunk is asked for twice where the first has come before there was a file for it."""
        self.disk = Later()
        self.serve(LARGE)
        getting = self.startGet()
        with patch.object(self.disk, "step", return_value=False):
            self.flush()
        self.flush()
        self.assertEqual(self.successResultOf(getting).moved, len(LARGE))
        self.assertEqual(self.contents(), LARGE)
        self.assertEqual([(each.first, each.count) for each in self.records(Get)], [(0, 1), (1, 5)])

    def test_steps(self) -> None:
        """The disk gets a chunk at a time, and what waits for it makes the server wait."""
        self.disk = Later()
        self.serve(LARGE)
        getting = self.startGet()
        most = 0
        for _ in range(100_000):
            moved = self.pairs[0].client.step(65536)
            moved = self.pairs[0].server.step(65536) or moved
            most = max(most, self.session._debt)
            if not moved and not self.disk.step() and not super().turn():
                break
        self.successResultOf(getting)
        self.assertEqual(self.contents(), LARGE)
        self.assertGreater(most, MAX_DEBT)
        self.assertLessEqual(most, MAX_DEBT + CHUNK + 65536)
        self.assertIdle()

    def test_holes(self) -> None:
        """Holes stay holes, also the last, which is shorter."""
        data = bytes(CHUNK) + noise(CHUNK) + bytes(2 * CHUNK + 5)
        self.serve(data, holes=frozenset([0, 2, 3, 4]))
        got = self.successResultOf(self.get())
        self.assertEqual(self.contents(), data)
        self.assertEqual(sorted(self.store.made), [0, 2, 3, 4])
        self.assertEqual(
            (got.moved, got.there, got.digest), (CHUNK, len(data) - CHUNK, fileDigest(data))
        )
        self.assertEqual(sum(self.told), len(data))

    def test_noRoom(self) -> None:
        """What the disk of this end has no room for is refused before any of it is asked for;
        nothing is written."""
        self.serve(LARGE)
        top = self.mktemp()
        os.mkdir(top)
        status = os.statvfs(top)
        free = (len(LARGE) - 1) // status.f_frsize
        full = os.statvfs_result((*status[:4], free, *status[5:]))
        self.patch(os, "fstatvfs", lambda file: full)
        store = LocalStore(Root(top))
        self.addCleanup(store.close)
        local, known = Local(store, (b"f",), self.disk), facts(len(LARGE))
        getting = getFile([self.session], b"/there", local, facts=known)
        self.flush()
        told = self.failure(getting, StorageFailed)
        self.assertIn(f"'f' needs {len(LARGE)} bytes more, and the disk has", told)
        self.assertEqual((os.listdir(top), self.records(Get)), ([], []))
        # What has holes needs no more room than it says.
        known = facts(len(LARGE), room=CHUNK)
        self.successResultOf(self.get(facts=known))
        self.assertEqual([each.room for each in self.store.wanted], [CHUNK])

    def partial(self, *have: int, **options: Any) -> None:
        """Leave some chunks of an earlier try."""
        kept = self.serve(LARGE)
        self.factory.closesAfter[0] = 10**9
        self.successResultOf(self.get())
        (wanted,) = self.store.wanted
        self.store.remove((b"here",))
        target = super(FaultyStore, self.store).target((b"here",), wanted, "local")
        for index in have:
            data = kept.data[index * CHUNK : (index + 1) * CHUNK]
            target.write(index * CHUNK, [data])
            target.chunkWritten(index, digestOf(data))
        target.keep()
        self.factory.asked.clear()
        self.told.clear()
        self.store.written = 0

    def test_resume(self) -> None:
        """What is there from an earlier try is not asked for again, but for the first chunk."""
        self.partial(0, 1, 3)
        got = self.successResultOf(self.get())
        self.assertEqual(self.contents(), LARGE)
        (asked,) = self.factory.asked.values()
        self.assertEqual(asked, [0, 2, 4, 5])
        self.assertEqual(self.store.written, 2 * CHUNK + TAIL)
        self.assertEqual(sum(self.told), len(LARGE))
        self.assertEqual(got.digest, fileDigest(LARGE))

    def test_resume_known(self) -> None:
        """Where the file is known nothing is asked for that is there."""
        self.partial(0, 1, 2, 3, 4)
        got = self.successResultOf(self.get(facts=facts(len(LARGE))))
        self.assertEqual(self.contents(), LARGE)
        (asked,) = self.factory.asked.values()
        self.assertEqual(asked, [5])
        self.assertEqual((got.moved, got.there), (TAIL, 5 * CHUNK))

    def test_all_there(self) -> None:
        """A file of which everything is there is published without being asked for."""
        self.partial(0, 1, 2, 3, 4, 5)
        self.successResultOf(self.get(facts=facts(len(LARGE))))
        self.assertEqual(self.contents(), LARGE)
        self.assertEqual(self.factory.asked, {})

    def test_changed_between(self) -> None:
        """A source that has changed between two tries is fetched anew."""
        self.partial(0, 1, 2)
        other = noise(len(LARGE), 1)
        self.serve(other, version=OTHER_VERSION)
        self.successResultOf(self.get())
        self.assertEqual(self.contents(), other)
        (asked,) = self.factory.asked.values()
        self.assertEqual(asked, [0, 1, 2, 3, 4, 5])

    def test_no_resume(self) -> None:
        """Who wants nothing resumed has nothing kept."""
        self.serve(LARGE)
        self.successResultOf(self.get(resume=False))
        (wanted,) = self.store.wanted
        self.assertIsNone(wanted.source)

    def test_changed(self) -> None:
        """A file that changes while it comes is not published, and nothing of it is kept."""
        for after in range(6):
            self.setUp()
            self.serve(LARGE, changesAfter=after)
            self.failure(self.get(), SourceChanged)
            self.assertNotIn("keep", self.store.ends)
            self.assertNothing()
            self.assertEqual(self.store.used, 0)

    def test_wrong_once(self) -> None:
        """A chunk that comes wrong is asked for once more, and no other is."""
        for index in range(6):
            self.setUp()
            self.serve(LARGE, wrong={index: 1})
            self.successResultOf(self.get())
            self.assertEqual(self.contents(), LARGE)
            (asked,) = self.factory.asked.values()
            self.assertEqual(sorted(asked), sorted([*range(6), index]))
            self.assertEqual(sum(self.told), len(LARGE))
            self.assertIdle()

    def test_wrong_twice(self) -> None:
        """A chunk that comes wrong twice is corrupted; what was right is kept."""
        self.serve(LARGE, wrong={3: 2})
        self.assertIn("'/there'", self.failure(self.get(), Corrupted))
        self.assertEqual(self.store.ends, ["keep"])
        self.assertNothing()
        self.factory.asked.clear()
        self.successResultOf(self.get())
        self.assertEqual(self.contents(), LARGE)
        (asked,) = self.factory.asked.values()
        self.assertEqual(asked, [0, 3])

    def test_disk_fails(self) -> None:
        """A disk that fails ends the transfer; the session goes on."""
        self.serve(LARGE)
        self.store.failure = StorageFailed("The disk is full.")
        self.failure(self.get(), StorageFailed)
        self.assertNothing()
        self.assertTrue(self.session.isOpen)

    def test_cannot_begin(self) -> None:
        """A file that cannot be begun fails so, and what is on its way is dropped."""
        self.serve(LARGE)
        self.write(b"old")
        self.disk = Later()
        self.failure(self.get(clobber=False), Conflict)
        self.assertEqual(self.contents(), b"old")
        self.assertEqual(self.session.load, 0)
        self.assertEqual(self.session._debt, 0)
        self.assertTrue(self.session.isOpen)

    def test_fault_of_the_store(self) -> None:
        """What a store raises that is no failure for people is passed on, and all is closed."""
        self.serve(LARGE)
        self.store.failure = ZeroDivisionError()
        self.failure(self.get(), ZeroDivisionError)
        self.assertNothing()

    def test_cancel(self) -> None:
        """A file that is cancelled keeps what has come, and another try goes on there."""
        self.disk = Later()
        self.serve(LARGE)
        getting = self.startGet()
        for _ in range(60):
            self.pairs[0].client.step(65536)
            self.pairs[0].server.step(65536)
            super().turn()
            self.disk.step()
        getting.cancel()
        self.assertNoResult(getting)
        self.flush()
        self.failure(getting, CancelledError)
        self.assertEqual(self.store.ends, ["keep"])
        self.assertNothing()
        written, self.store.written = self.store.written, 0
        self.assertGreater(written, CHUNK)
        self.successResultOf(self.get())
        self.assertEqual(self.contents(), LARGE)
        self.assertLess(self.store.written, len(LARGE) - CHUNK // 2)

    def test_cancel_any_time(self) -> None:
        """Whenever a file is cancelled nothing stays open, and the session is good."""
        for steps in range(0, 400, 19):
            self.setUp()
            self.disk = Later(steps)
            self.serve(LARGE)
            getting = self.startGet()
            results: list[Any] = []
            getting.addBoth(results.append)
            for _ in range(steps):
                self.pairs[0].client.step(65536)
                self.pairs[0].server.step(65536)
                SessionTestCase.turn(self)
                self.disk.step()
            getting.cancel()
            self.flush()
            if isinstance(results[0], Got):
                self.assertEqual(self.contents(), LARGE)
            else:
                self.assertIsInstance(results[0].value, CancelledError)
            self.assertEqual(len(results), 1)
            self.assertIdle()
            self.successResultOf(self.get())
            self.assertEqual(self.contents(), LARGE)

    def test_turns(self) -> None:
        """Only some larger files move at a time; of the others nothing is held."""
        data = noise(CHUNK + 5)
        for number in range(9):
            self.factory.files[b"/%d" % number] = Kept(data)
        self.disk = Later()
        getting = [
            getFile([self.session], b"/%d" % number, self.local(b"%d" % number))
            for number in range(9)
        ]
        most = 0
        for _ in range(10_000):
            moved = self.pairs[0].client.step(65536)
            moved = self.pairs[0].server.step(65536) or moved
            most = max(most, len(self.store.wanted) - len(self.store.ends))
            if not moved and not SessionTestCase.turn(self) and not self.disk.step():
                break
        self.assertEqual(most, client.MAX_MOVING)
        for number, each in enumerate(getting):
            self.successResultOf(each)
            self.assertEqual(self.contents(b"%d" % number), data)
        self.assertIdle()

    def test_lost(self) -> None:
        """When the only session ends the file fails, and what has come is kept."""
        self.serve(LARGE)
        self.factory.closesAfter[0] = 3
        self.failure(self.get(), ConnectionFailed)
        self.assertEqual(self.store.ends, ["keep"])
        self.assertRaises(NotFound, self.store.stat, (b"here",))
        other = self.connect()
        self.store.written = 0
        self.successResultOf(self.get(other))
        self.assertEqual(self.contents(), LARGE)
        self.assertEqual(self.store.written, 2 * CHUNK + TAIL)


class SeveralTests(TransferTestCase):
    """One large file over several sessions."""

    data = noise(12 * CHUNK + TAIL)

    def setUp(self) -> None:
        super().setUp()
        self.patch(download, "SPAN", 2)
        self.others = [self.connect(), self.connect()]

    def test_shared(self) -> None:
        """Each brings a part, none is asked for twice, and the whole is right."""
        self.serve(self.data)
        self.successResultOf(self.get(self.session, *self.others))
        self.assertEqual(self.contents(), self.data)
        asked = list(self.factory.asked.values())
        self.assertEqual(len(asked), 3)
        self.assertEqual(sorted(chain(*asked)), list(range(13)))
        self.assertEqual(sum(self.told), len(self.data))
        self.assertIdle()

    def test_one_ends(self) -> None:
        """What one does not bring as its session ends is brought by the others."""
        for number in range(3):
            for after in (0, 1, 3):
                self.setUp()
                self.serve(self.data)
                self.factory.closesAfter[number] = after
                self.successResultOf(self.get(self.session, *self.others))
                self.assertEqual(self.contents(), self.data)
                self.assertEqual(sum(self.told), len(self.data))

    def test_all_end(self) -> None:
        """When all end the file fails, and what has come is kept."""
        self.serve(self.data)
        for number in range(3):
            self.factory.closesAfter[number] = 2
        self.failure(self.get(self.session, *self.others), ConnectionFailed)
        self.assertEqual(self.store.ends, ["keep"])

    def test_small(self) -> None:
        """A small file takes the session with the least to do."""
        asked = self.session.stat(b"/a")
        self.serve(b"abc")
        self.successResultOf(self.get(self.session, *self.others))
        self.assertEqual(len(self.records(Get, 0)), 0)
        asked.cancel()
        self.failure(asked, CancelledError)

    def test_leaving(self) -> None:
        """A session whose server stops finishes what it has, and is asked for nothing more."""
        self.serve(self.data)
        getting = self.startGet(self.session, *self.others, facts=facts(len(self.data)))
        self.factory.opened[1].leave("It stops.")
        self.flush()
        self.successResultOf(getting)
        self.assertEqual(self.contents(), self.data)

    def test_failed_elsewhere(self) -> None:
        """What fails for one session has failed for all."""
        self.serve(self.data, changesAfter=7)
        self.failure(self.get(self.session, *self.others), SourceChanged)
        self.assertNothing()


class Sink:
    """A consumer that does what the test says."""

    def __init__(self, pausesAfter: int | None = None) -> None:
        self.data = bytearray()
        self.producer: Any = None
        self.failure: Exception | None = None
        self.pausesAfter = pausesAfter
        self.registered = 0

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer
        self.registered += 1

    def unregisterProducer(self) -> None:
        assert self.producer is not None, "It is let go once."
        self.producer = None

    def write(self, data: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.data += data
        if self.pausesAfter is not None and len(self.data) >= self.pausesAfter:
            self.pausesAfter = None
            self.producer.pauseProducing()


class StreamTests(TransferTestCase):
    """Files that go into a consumer."""

    def stream(self, sink: Sink, *sessions: FilesSession, **options: Any) -> Deferred[Got]:
        streaming = getStream(
            sessions or [self.session],
            b"/there",
            cast(Any, sink),
            moved=self.told.append,
            **options,
        )
        self.flush()
        return streaming

    def test_whole(self) -> None:
        """All of a file, in order, whatever its size."""
        for size in (0, 1, CHUNK, CHUNK + 1, 3 * CHUNK):
            self.setUp()
            data, sink = noise(size), Sink()
            self.serve(data)
            got = self.successResultOf(self.stream(sink))
            self.assertEqual(sink.data, data)
            self.assertEqual(got, Got(facts(size), fileDigest(data), size, 0))
            self.assertIsNone(sink.producer)
            self.assertEqual(sum(self.told), size)
            self.assertEqual(len(self.records(Get)), 1)

    def test_verified(self) -> None:
        """Not a byte of a chunk that is wrong is handed on; it is asked for once more."""
        sink = Sink()
        self.serve(LARGE, wrong={2: 1})
        self.successResultOf(self.stream(sink))
        self.assertEqual(sink.data, LARGE)

    def test_wrong_twice(self) -> None:
        """A chunk that is wrong twice ends it, behind what was right."""
        sink = Sink()
        self.serve(LARGE, wrong={2: 2})
        self.failure(self.stream(sink), Corrupted)
        self.assertEqual(sink.data, LARGE[: 2 * CHUNK])
        self.assertIsNone(sink.producer)
        self.assertIdle()

    def test_pause(self) -> None:
        """A consumer that pauses makes the server wait, and gets all when it goes on."""
        sink = Sink(pausesAfter=1)
        self.serve(LARGE)
        streaming = self.stream(sink)
        self.assertEqual(len(sink.data), CHUNK)
        self.assertFalse(self.pairs[0].client.reading)
        sink.producer.resumeProducing()
        self.flush()
        self.successResultOf(streaming)
        self.assertEqual(sink.data, LARGE)
        self.assertIdle()

    def test_holes(self) -> None:
        """Holes are handed on as zeros, no faster than they are taken."""
        data = noise(CHUNK) + bytes(20 * CHUNK) + noise(7)
        sink = Sink(pausesAfter=5 * CHUNK)
        self.serve(data, holes=frozenset(range(1, 21)))
        streaming = self.stream(sink)
        self.assertEqual(len(sink.data), 5 * CHUNK)
        sink.producer.resumeProducing()
        self.flush()
        got = self.successResultOf(streaming)
        self.assertEqual(sink.data, data)
        self.assertEqual((got.moved, got.there), (CHUNK + 7, 20 * CHUNK))
        self.assertEqual(got.digest, fileDigest(data))
        self.assertIdle()

    def test_stopped(self) -> None:
        """A consumer that takes nothing any more ends it, and the server hears so."""
        sink = Sink(pausesAfter=1)
        self.serve(LARGE)
        streaming = self.stream(sink)
        sink.producer.stopProducing()
        self.failure(streaming, ConnectionFailed)
        self.assertIdle()

    def test_consumer_fails(self) -> None:
        """What a consumer raises is told, and the session goes on."""
        sink = Sink()
        sink.failure = ValueError()
        self.serve(LARGE)
        self.failure(self.stream(sink), ValueError)
        self.assertTrue(self.session.isOpen)
        self.assertIdle()

    def test_cancel(self) -> None:
        """To cancel it lets the consumer go."""
        sink = Sink(pausesAfter=1)
        self.serve(LARGE)
        streaming = self.stream(sink)
        streaming.cancel()
        self.failure(streaming, CancelledError)
        self.assertIsNone(sink.producer)
        self.assertIdle()

    def test_next_session(self) -> None:
        """When a session ends another goes on where it was."""
        sink = Sink()
        self.serve(LARGE)
        self.factory.closesAfter[0] = 3
        other = self.connect()
        self.successResultOf(self.stream(sink, self.session, other))
        self.assertEqual(sink.data, LARGE)
        self.assertEqual(self.records(Get, 1)[0].first, 3)
        self.assertEqual(self.records(Get, 1)[0].version, facts(0).version)

    def test_no_session(self) -> None:
        """When none is left it fails."""
        sink = Sink()
        self.serve(LARGE)
        self.factory.closesAfter[0] = 3
        self.failure(self.stream(sink), ConnectionFailed)
        self.failure(self.stream(sink), ConnectionFailed)

    def test_failed(self) -> None:
        """What the server says is told; a file that changes ends it."""
        self.failure(self.stream(Sink()), NotFound)
        self.serve(LARGE, changesAfter=2)
        self.failure(self.stream(Sink()), SourceChanged)
        self.assertIdle()


class PutSmallTests(TransferTestCase):
    """Files that are sent in one go."""

    def test_small(self) -> None:
        """A file is sent without waiting for anything, and closed before."""
        for size in (0, 1, 4096, 65536):
            self.setUp()
            data = noise(size)
            self.write(data)
            sent = self.successResultOf(self.put())
            self.assertEqual(self.served(), data)
            self.assertEqual(sent, Sent(facts(size), digestOf(data), size, size, 0))
            self.assertEqual(sum(self.told), size)
            put, body, commit = self.factory.opened[0].records
            self.assertEqual(put, Put(id=1, name=b"/there", size=size, follows=True))
            self.assertEqual(body, Body(id=1, index=0, length=size, digest=digestOf(data)))
            self.assertEqual(commit, Commit(id=1, digest=digestOf(data)))
            self.assertIdle()

    def test_one_chunk(self) -> None:
        """So it is with a larger file of one chunk, of which not all is in memory at once."""
        for size in (65537, CHUNK):
            self.setUp()
            data = noise(size)
            self.write(data)
            sent = self.successResultOf(self.put())
            self.assertEqual(self.served(), data)
            self.assertEqual((sent.moved, sent.digest), (size, digestOf(data)))
            kinds = [type(each) for each in self.factory.opened[0].records]
            self.assertEqual(kinds, [Put, Body, Commit])
            self.assertEqual(sum(self.told), size)
            self.assertIdle()

    def test_one_chunk_hole(self) -> None:
        """What follows at once is no hole, even where it is one."""
        self.write(bytes(CHUNK))
        self.store.holes.add(0)
        self.successResultOf(self.put())
        self.assertEqual(self.served(), bytes(CHUNK))

    def test_commit_follows(self) -> None:
        """Nothing comes between a file of one chunk and its COMMIT."""
        for number in range(6):
            self.write(noise(200_000, number), b"%d" % number)
        putting = [
            putFile([self.session], self.local(b"%d" % number), b"/%d" % number)
            for number in range(6)
        ]
        self.flush()
        for each in putting:
            self.successResultOf(each)
        records: list[Any] = [
            each for each in self.factory.opened[0].records if not isinstance(each, Put)
        ]
        for body, commit in zip(records[::2], records[1::2], strict=True):
            self.assertIsInstance(body, Body)
            self.assertEqual(commit, Commit(id=body.id, digest=body.digest))

    def test_pipelined(self) -> None:
        """Many are sent with one write each, without waiting for answers."""
        for number in range(300):
            self.write(b"%d" % number, b"%d" % number)
        self.factory.holdsDone = True
        putting = [
            putFile([self.session], self.local(b"%d" % number), b"/%d" % number)
            for number in range(300)
        ]
        self.flush()
        self.assertEqual(len(self.records(Commit)), 300)
        for each in putting:
            self.assertNoResult(each)
            each.cancel()
            self.failure(each, CancelledError)
        self.assertEqual(self.session.reading._free, client.MAX_READ)

    def test_server_takes_nothing(self) -> None:
        """While the server takes nothing only so many files are read."""
        data = noise(60_000)
        self.write(data)
        putting = [self.startPut() for _ in range(600)]
        pair = self.pairs[0]
        for _ in range(600):
            self.turn()
        # The first have left, as it takes something before it says so.
        self.assertLessEqual(self.store.opened, client.MAX_READ + 4)
        self.assertLess(len(pair.client.outgoing), client.MAX_READ * 70_000)
        self.flush()
        for each in putting:
            self.successResultOf(each)
        self.assertEqual(self.store.opened, 600)
        self.assertIdle()

    def test_wishes(self) -> None:
        """What is wished is what the server is asked for."""
        self.write(b"abc", mode=0o604, mtime=77)
        self.successResultOf(
            self.put(clobber=True, mode=0o600, mtime=5, durable=False, replaces=bytes(32))
        )
        self.successResultOf(self.put(preserve=True))
        first, second = self.records(Put)
        self.assertEqual((first.mode, first.mtime, first.durable), (0o600, 5, False))
        self.assertEqual((first.replaces, first.source), (bytes(32), None))
        self.assertEqual((second.mode, second.mtime, second.durable), (0o604, 77, True))
        self.failure(self.put(clobber=False), Conflict)
        self.assertTrue(self.session.isOpen)
        self.assertIdle()

    def test_not_found(self) -> None:
        """A file that is not there at this end is not found, and nothing is sent."""
        self.failure(self.put(), NotFound)
        self.assertEqual(self.factory.opened[0].records, [])
        self.assertIdle()

    def test_changed(self) -> None:
        """A file that changes while it is read is not sent."""
        for size in (10, 100_000):
            self.setUp()
            self.write(noise(size))
            self.store.changed = True
            self.failure(self.put(), SourceChanged)
            self.assertEqual(self.factory.files, {})
            self.assertEqual(self.records(Commit), [])
            self.assertIdle()

    def test_lost(self) -> None:
        """A file whose session ends after it was sent may have been published, and that is told."""
        self.write(b"abc")
        self.factory.holdsDone = True
        putting = self.put()
        self.lose()
        error = self.failureResultOf(putting, Unconfirmed).value
        self.assertEqual((error.name, error.sent.digest), (b"/there", digestOf(b"abc")))
        self.assertIn("not known", str(error))

    def test_cancel(self) -> None:
        """A file that is cancelled before it is read is not sent; later the server hears so."""
        self.disk = Later()
        self.write(b"abc")
        putting = self.startPut()
        putting.cancel()
        self.failure(putting, CancelledError)
        self.flush()
        self.assertEqual(self.factory.opened[0].records, [])
        self.factory.holdsDone = True
        putting = self.put()
        putting.cancel()
        self.failure(putting, CancelledError)
        self.flush()
        self.assertEqual(self.records(Cancel), [Cancel(id=1)])

    def test_cancel_opened(self) -> None:
        """A larger file that is cancelled while it is opened is closed."""
        self.disk = Later()
        self.write(LARGE)
        putting = self.startPut()
        self.turn()
        putting.cancel()
        self.failure(putting, CancelledError)
        self.assertIdle()


class PutLargeTests(TransferTestCase):
    """Files of several chunks."""

    def test_large(self) -> None:
        """Chunk by chunk, each looked at once."""
        self.write(LARGE)
        sent = self.successResultOf(self.put())
        self.assertEqual(self.served(), LARGE)
        self.assertEqual(
            sent, Sent(facts(len(LARGE)), fileDigest(LARGE), len(LARGE), len(LARGE), 0)
        )
        self.assertEqual(sum(self.told), len(LARGE))
        self.assertEqual(self.store.looked, [0, 1, 2, 3, 4, 5])
        self.assertEqual(len(self.records(Put)[0].source), 32)
        self.assertIdle()

    def test_bytewise(self) -> None:
        """So it is when the connection gives a few bytes at a time, and a disk takes its time."""
        self.size = 4096
        self.disk = Later()
        self.write(LARGE)
        self.successResultOf(self.put())
        self.assertEqual(self.served(), LARGE)
        self.assertIdle()

    def test_holes(self) -> None:
        """Holes are told and not sent, and the digest is that of zeros."""
        data = noise(CHUNK) + bytes(3 * CHUNK) + noise(CHUNK) + bytes(TAIL)
        self.write(data)
        self.store.holes |= {1, 2, 3, 5}
        sent = self.successResultOf(self.put())
        self.assertEqual(self.served(), data)
        self.assertEqual(
            self.records(Holes),
            [Holes(id=1, index=1, count=3), Holes(id=1, index=5, count=1)],
        )
        self.assertEqual((sent.moved, sent.there), (2 * CHUNK, 3 * CHUNK + TAIL))
        self.assertEqual(sum(self.told), len(data))
        self.assertEqual(self.store.looked, [0, 4])

    def leave(self, *have: int) -> None:
        """Have the server keep some chunks of an earlier try."""
        self.write(LARGE)
        self.successResultOf(self.put())
        (put,) = self.records(Put)
        del self.factory.files[b"/there"]
        self.factory.partials[b"/there", put.source] = {
            index: LARGE[index * CHUNK : (index + 1) * CHUNK] for index in have
        }
        self.told.clear()
        self.store.looked.clear()

    def test_room(self) -> None:
        """A server is told how much room a file takes without its holes, where that is known."""
        top = self.mktemp()
        os.mkdir(top)
        with open(os.path.join(top, "sparse"), "wb") as file:
            file.truncate(5 * CHUNK)
            file.write(noise(CHUNK))
        store = LocalStore(Root(top))
        putting = putFile([self.session], Local(store, (b"sparse",), self.disk), b"/there")
        self.flush()
        self.successResultOf(putting)
        status = os.stat(os.path.join(top, "sparse"))
        self.write(LARGE)
        self.successResultOf(self.put())
        known, unknown = self.records(Put)
        self.assertEqual((known.room, unknown.room), (status.st_blocks * 512, None))
        self.assertLess(known.room, 2 * CHUNK)

    def test_resume(self) -> None:
        """What the server has is neither sent nor read."""
        self.leave(0, 1, 3)
        sent = self.successResultOf(self.put())
        self.assertEqual(self.served(), LARGE)
        self.assertEqual(self.store.looked, [2, 4, 5])
        self.assertEqual((sent.moved, sent.there), (2 * CHUNK + TAIL, 3 * CHUNK))
        self.assertEqual(sum(self.told), len(LARGE))

    def test_all_there(self) -> None:
        """A file that is there is committed only."""
        self.leave(*range(6))
        sent = self.successResultOf(self.put())
        self.assertEqual(self.served(), LARGE)
        self.assertEqual((sent.moved, self.store.looked), (0, []))

    def test_changed_between(self) -> None:
        """A file that has changed has another fingerprint, and nothing of the old one is used."""
        self.leave(0, 1, 3)
        other = noise(len(LARGE), 1)
        self.write(other)
        self.successResultOf(self.put())
        self.assertEqual(self.served(), other)
        first, second = self.records(Put)
        self.assertNotEqual(first.source, second.source)

    def test_no_resume(self) -> None:
        """Who wants nothing resumed gives no fingerprint."""
        self.write(LARGE)
        self.successResultOf(self.put(resume=False))
        self.assertIsNone(self.records(Put)[0].source)

    def test_changed(self) -> None:
        """A file that changes while it is sent is not committed, and nothing of it is kept."""
        self.write(LARGE)
        self.store.changed = True
        self.assertIn("changed", self.failure(self.put(), SourceChanged))
        self.assertEqual(self.records(Commit), [])
        self.assertEqual(self.records(Cancel), [Cancel(id=1, keep=False)])
        self.assertEqual((self.factory.files, self.factory.partials), ({}, {}))
        self.assertTrue(self.session.isOpen)
        self.assertIdle()

    def test_refused(self) -> None:
        """A server that fails stops what is sent at the next chunk, and the session goes on."""
        self.write(LARGE)
        self.factory.refuses[1] = StorageFailed("The disk is full.")
        self.failure(self.put(), StorageFailed)
        self.assertLess(len(self.records(Body)), 6)
        self.assertEqual(self.records(Cancel), [Cancel(id=1)])
        self.assertTrue(self.session.isOpen)
        self.assertIdle()
        self.successResultOf(self.put())
        self.assertEqual(self.served(), LARGE)

    def test_refused_at_once(self) -> None:
        """A server that refuses gets nothing."""
        self.write(LARGE)
        self.serve(b"old")
        self.failure(self.put(clobber=False), Conflict)
        self.assertEqual(self.store.looked, [])
        self.assertEqual(self.records(Body), [])
        self.assertIdle()

    def test_wrong_once(self) -> None:
        """A chunk that has come wrong is sent again, with no other that was right."""
        self.write(LARGE)
        self.factory.refuses[5] = Corrupted("It came wrong.")
        sent = self.successResultOf(self.put())
        self.assertEqual(self.served(), LARGE)
        self.assertEqual(sum(self.told), len(LARGE))
        self.assertEqual(sent.size, len(LARGE))
        self.assertEqual([each.index for each in self.records(Body)], [0, 1, 2, 3, 4, 5, 5])
        self.assertIdle()

    def test_wrong_twice(self) -> None:
        """What comes wrong again has failed."""
        self.write(LARGE)

        def wrong(script: Any, record: Commit) -> None:
            script.fail_(record.id, Corrupted("It came wrong."))
            self.factory._open.pop((script, record.id))

        self.factory._commit = wrong  # type: ignore[method-assign]
        self.failure(self.put(), Corrupted)
        self.assertEqual(len(self.records(Put)), 2)
        self.assertIdle()

    def test_wrong_as_it_changed(self) -> None:
        """What has come wrong as the file has changed has changed."""
        self.write(LARGE)
        self.factory.refuses[5] = Corrupted("It came wrong.")
        self.store.changed = True
        self.failure(self.put(), SourceChanged)
        self.assertIdle()

    def test_lost(self) -> None:
        """When the session ends before COMMIT nothing can have been published."""
        self.write(LARGE)
        self.factory.closesAfter[0] = 3
        error = self.failureResultOf(self.put(), ConnectionFailed).value
        self.assertNotIsInstance(error, Unconfirmed)
        self.assertIdle()
        (left,) = self.factory.partials.values()
        self.assertEqual(sorted(left), [0, 1, 2])
        other = self.connect()
        self.store.looked.clear()
        self.successResultOf(self.put(other))
        self.assertEqual(self.served(), LARGE)
        self.assertEqual(self.store.looked, [3, 4, 5])

    def test_lost_unconfirmed(self) -> None:
        """When it ends after COMMIT the file may have been published."""
        for size in (100_000, len(LARGE)):
            self.setUp()
            self.write(LARGE[:size])
            self.factory.holdsDone = True
            putting = self.put()
            self.lose()
            error = self.failureResultOf(putting, Unconfirmed).value
            self.assertEqual(error.sent.digest, fileDigest(LARGE[:size]))
            self.assertIdle()

    def test_cancel_any_time(self) -> None:
        """Whenever a file is cancelled nothing stays open, and another try goes on."""
        for steps in range(0, 300, 17):
            self.setUp()
            self.disk = Later(steps)
            self.write(LARGE)
            putting = self.startPut()
            results: list[Any] = []
            putting.addBoth(results.append)
            for _ in range(steps):
                self.pairs[0].client.step(65536)
                self.pairs[0].server.step(65536)
                SessionTestCase.turn(self)
                self.disk.step()
            putting.cancel()
            self.flush()
            self.assertEqual(len(results), 1)
            if not isinstance(results[0], Sent):
                self.assertIsInstance(results[0].value, CancelledError)
            self.assertIdle()
            self.assertEqual(self.factory._open, {})
            self.successResultOf(self.put())
            self.assertEqual(self.served(), LARGE)

    def test_other_published(self) -> None:
        """A server that says that it has published something else is wrong."""
        from twisted_netsuite.files.messages import Done

        for wrong in (Done(id=1, digest=bytes(32)), Done(id=1, facts=facts(7))):
            for size in (10, 100_000, len(LARGE)):
                self.setUp()
                self.write(LARGE[:size])
                self.factory.holdsDone = True
                putting = self.put()
                self.factory.opened[0].sendRecord(wrong)
                self.flush()
                self.failure(putting, ProtocolError)
                self.assertIdle()

    def test_wrong_have(self) -> None:
        """A server that tells of chunks that cannot be is wrong."""
        from twisted_netsuite.files.messages import Have

        for wrong in (
            [Have(id=1, index=6, digests=bytes(32))],
            [Have(id=1, index=5, digests=bytes(64))],
            [Have(id=1, index=0, digests=bytes(33))],
            [Have(id=1, index=1, digests=bytes(32)), Have(id=1, index=1, digests=bytes(32))],
        ):
            self.setUp()
            self.write(LARGE)
            self.factory.onRecord = lambda script, record: None
            putting = self.put()
            for each in wrong:
                self.factory.opened[0].sendRecord(each)
            self.flush()
            self.failure(putting, ProtocolError)
            self.assertFalse(self.session.isOpen)
            self.assertIdle()


class PutSeveralTests(TransferTestCase):
    """One large file sent over several sessions."""

    data = noise(13 * CHUNK + TAIL)

    def setUp(self) -> None:
        super().setUp()
        self.patch(putfile, "WORTH_JOINING", 3)
        self.others = [self.connect(), self.connect()]
        self.write(self.data)

    def test_shared(self) -> None:
        """Each brings a part, no chunk is sent twice, and the whole is right."""
        self.successResultOf(self.put(self.session, *self.others))
        self.assertEqual(self.served(), self.data)
        received = list(self.factory.received.values())
        self.assertEqual(len(received), 3)
        self.assertEqual(sorted(chain(*received)), list(range(14)))
        self.assertEqual(sum(self.told), len(self.data))
        self.assertEqual([len(self.records(Join, number)) for number in range(3)], [0, 1, 1])
        self.assertIdle()

    def test_holes(self) -> None:
        """Holes are told once."""
        self.write(self.data[:CHUNK] + bytes(5 * CHUNK) + self.data[6 * CHUNK :])
        self.store.holes |= set(range(1, 6))
        sent = self.successResultOf(self.put(self.session, *self.others))
        told = [each for number in range(3) for each in self.records(Holes, number)]
        self.assertEqual(sum(each.count for each in told), 5)
        self.assertEqual(sent.moved, len(self.data) - 5 * CHUNK)

    def test_too_few(self) -> None:
        """A file of a few chunks is not worth another session."""
        self.patch(putfile, "WORTH_JOINING", 8)
        self.successResultOf(self.put(self.session, *self.others))
        self.assertEqual(self.records(Join, 1) + self.records(Join, 2), [])

    def test_other_ends(self) -> None:
        """What another session may not have brought is sent over the first."""
        for after in (0, 1, 2):
            self.setUp()
            self.factory.closesAfter[1] = after
            self.successResultOf(self.put(self.session, *self.others))
            self.assertEqual(self.served(), self.data)
            self.assertEqual(sum(self.told), len(self.data))
            self.assertEqual(self.factory.twice, [])
            self.assertIdle()

    def test_other_ends_unheard(self) -> None:
        """Of what the server may still be taking from a session that is lost, no chunk is sent
        over another in the same upload, and what has come is not sent twice."""
        for steps in range(0, 120, 7):
            self.setUp()
            putting = self.startPut(self.session, *self.others)
            for _ in range(steps):
                for pair in self.pairs:
                    pair.client.step(65536)
                    pair.server.step(65536)
                self.turn()
            # The server hears nothing of that.
            self.pairs[1].client.reset()
            self.flush()
            self.successResultOf(putting)
            self.assertEqual(self.served(), self.data)
            self.assertEqual(sum(self.told), len(self.data))
            self.assertEqual(self.factory.twice, [])
            self.assertIdle()

    def test_other_fails(self) -> None:
        """What comes wrong over any session is sent again, though not in the same upload."""
        for index in range(14):
            self.setUp()
            self.factory.refuses[index] = Corrupted("It came wrong.")
            self.successResultOf(self.put(self.session, *self.others))
            self.assertEqual(self.served(), self.data)
            self.assertEqual(sum(self.told), len(self.data))
            self.assertEqual(self.factory.twice, [])
            self.assertIdle()

    def test_given_up_lost(self) -> None:
        """When the first session ends while the server lets an upload go, the file fails."""
        cancel = self.factory._cancel
        self.factory._cancel = (  # type: ignore[method-assign]
            lambda script, record: (
                self.factory.cut(script)
                if script is self.factory.opened[0]
                else cancel(script, record)
            )
        )
        self.factory.closesAfter[1] = 1
        self.failure(self.put(self.session, *self.others), ConnectionFailed)
        self.assertIdle()

    def test_other_is_refused(self) -> None:
        """A server that lets nobody join gets all over the first."""
        self.factory.joinFails = Denied("No.")
        self.successResultOf(self.put(self.session, *self.others))
        self.assertEqual(self.served(), self.data)
        self.assertEqual(len(self.factory.received), 1)

    def test_first_ends(self) -> None:
        """When the first session ends the file fails, and the others are free."""
        self.factory.closesAfter[0] = 3
        self.failure(self.put(self.session, *self.others), ConnectionFailed)
        self.flush()
        for other in self.others:
            self.assertEqual(other.load, 0)
            self.assertTrue(other.isOpen)
        self.assertIdle()

    def test_cancel(self) -> None:
        """To cancel it breaks off all parts."""
        self.disk = Later()
        putting = self.startPut(self.session, *self.others)
        for _ in range(100):
            for pair in self.pairs:
                pair.client.step(65536)
                pair.server.step(65536)
            self.turn()
        putting.cancel()
        self.flush()
        self.failure(putting, CancelledError)
        for session in (self.session, *self.others):
            self.assertEqual(session.load, 0)
        self.assertIdle()

    def test_disk_in_any_order(self) -> None:
        """Whenever the disk answers, the whole is right."""
        for seed in range(5):
            self.setUp()
            self.disk = Later(seed)
            self.successResultOf(self.put(self.session, *self.others))
            self.assertEqual(self.served(), self.data)
            self.assertIdle()


class RetryTests(TransferTestCase):
    """Transfers that go on over new sessions."""

    def setUp(self) -> None:
        super().setUp()
        self.connects: list[FilesSession | NetsuiteError] = []
        self.noticed: list[float] = []

    def connecting(self) -> Deferred[Any]:
        if self.connects:
            found = self.connects.pop(0)
            return succeed([found]) if isinstance(found, FilesSession) else fail(found)
        return succeed([self.connect()])

    def retry(self, transfer: Any, **options: Any) -> Deferred[Any]:
        return retrying(
            self.connecting,
            transfer,
            clock=self.clock,
            notice=lambda error, seconds: self.noticed.append(seconds),
            **options,
        )

    def test_get(self) -> None:
        """A file goes on where it was, after a growing wait."""
        self.serve(LARGE)
        self.factory.closesAfter.update({1: 2, 2: 2})
        getting = self.retry(lambda sessions: getFile(sessions, b"/there", self.local()))
        for seconds in (1, 2):
            self.flush()
            self.assertNoResult(getting)
            self.clock.advance(seconds)
        self.flush()
        got = self.successResultOf(getting)
        self.assertEqual(self.contents(), LARGE)
        self.assertEqual(self.noticed, [1, 2])
        self.assertLess(got.moved, len(LARGE))

    def test_gives_up(self) -> None:
        """After so many tries the last failure is told."""
        self.connects = [ConnectionFailed(f"No {number}.") for number in range(3)]
        trying = self.retry(lambda sessions: fail(ValueError()), attempts=3, most=1.5)
        self.clock.pump([0, 1, 1.5])
        self.assertEqual(self.failure(trying, ConnectionFailed), "No 2.")
        self.assertEqual(self.noticed, [1, 1.5])

    def test_timed_out(self) -> None:
        """A server that is silent is tried again."""
        self.connects = [TimedOut("It is silent.")]
        self.serve(b"abc")
        trying = self.retry(lambda sessions: getFile(sessions, b"/there", self.local()))
        self.clock.advance(1)
        self.flush()
        self.successResultOf(trying)

    def test_not_again(self) -> None:
        """What another connection does not mend is told at once."""
        trying = self.retry(lambda sessions: getFile(sessions, b"/there", self.local()))
        self.flush()
        self.failure(trying, NotFound)
        self.assertEqual(self.noticed, [])

    def test_cancel(self) -> None:
        """To cancel it ends the wait."""
        self.connects = [ConnectionFailed("No.")]
        trying = self.retry(lambda sessions: fail(ValueError()))
        trying.cancel()
        self.failure(trying, CancelledError)
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.getTime() == 1], [])

    def unconfirmed(self) -> Deferred[Any]:
        self.write(LARGE)
        self.factory.holdsDone = True
        trying = self.retry(lambda sessions: putFile(sessions, self.local(), b"/there"))
        self.flush()
        self.lose(1)
        self.assertEqual(self.noticed, [1])
        self.factory.holdsDone = False
        return trying

    def test_was_published(self) -> None:
        """A file that was published unheard is not sent again."""
        trying = self.unconfirmed()
        self.serve(LARGE)
        self.clock.advance(1)
        self.flush()
        self.assertEqual(self.successResultOf(trying).digest, fileDigest(LARGE))
        self.assertEqual([type(each) for each in self.factory.opened[2].records], [Hash])

    def test_was_not_published(self) -> None:
        """A file that was not published is sent again."""
        for before in (None, b"old"):
            self.setUp()
            trying = self.unconfirmed()
            if before is not None:
                self.serve(before)
            self.clock.advance(1)
            self.flush()
            self.successResultOf(trying)
            self.assertEqual(self.served(), LARGE)

    def test_may_not_read(self) -> None:
        """Who may write and not read is told that nobody knows, and nothing is sent again."""
        trying = self.unconfirmed()
        take = self.factory.onRecord

        def refusing(script: Any, record: Any) -> None:
            if isinstance(record, Hash):
                script.fail_(record.id, Denied("You may not read it."))
            else:
                take(script, record)

        self.factory.onRecord = refusing
        self.clock.advance(1)
        self.flush()
        error = self.failureResultOf(trying, Unconfirmed).value
        self.assertIn("not known", str(error))
        self.assertEqual(self.noticed, [1])
        self.assertEqual([type(each) for each in self.factory.opened[2].records], [Hash])

    def test_never_known(self) -> None:
        """Where nobody ever says, that is what is told in the end."""
        trying = self.unconfirmed()
        self.connects = [ConnectionFailed("No.")] * 5
        self.clock.pump([1, 2, 4, 8, 16])
        self.failure(trying, Unconfirmed)


class RunsTests(SessionTestCase):
    """What is missing."""

    @given(st.integers(1, 40), st.sets(st.integers(0, 39)))
    def test_runs(self, count: int, there: set[int]) -> None:
        """Runs are in order, do not touch, and are all that is not there."""
        there = {index for index in there if index < count}
        runs = missingRuns(count, dict.fromkeys(there))
        missing = [index for first, length in runs for index in range(first, first + length)]
        self.assertEqual(missing, [index for index in range(count) if index not in there])
        for (first, length), (second, _) in pairwise(runs):
            self.assertLess(first + length, second)


#: What can happen in the course of transfers.
STEPS = st.lists(st.integers(0, 9), max_size=60)


class InterleavingTests(TransferTestCase):
    """Everything at once, in any order."""

    @settings(max_examples=30, deadline=None)
    @given(STEPS, st.integers(0, 1000), st.sampled_from([1 << 12, 1 << 15, 1 << 18]))
    def test_any(self, steps: list[int], seed: int, size: int) -> None:
        """
        Whatever is begun, cancelled, or cut off: what is published is whole, each transfer ends
        once, and nothing stays in use.
        """
        self.setUp()
        self.size = size
        self.disk = Later(seed)
        self.factory.files.update({b"/s": Kept(noise(3000)), b"/l": Kept(LARGE)})
        self.write(LARGE, b"l")
        self.write(noise(3000), b"s")
        sessions = [self.session, self.connect()]
        results: list[list[Any]] = []
        doing: list[Deferred[Any]] = []
        for number, step in enumerate(steps):
            begun: Deferred[Any] | None = None
            if step == 0:
                begun = getFile(sessions, b"/s", self.local(b"s%d" % number))
            elif step == 1:
                begun = getFile(sessions, b"/l", self.local(b"l%d" % number))
            elif step == 2:
                begun = putFile(sessions, self.local(b"s"), b"/ps%d" % number)
            elif step == 3:
                begun = putFile(sessions, self.local(b"l"), b"/pl%d" % number)
            elif step == 4 and doing:
                doing[seed % len(doing)].cancel()
            elif step == 5 and number % 4 == 0:
                self.pairs[1].client.reset()
                self.pairs[1].server.abortConnection()
            else:
                for _ in range(8):
                    for pair in self.pairs:
                        pair.client.step(size)
                        pair.server.step(size)
                    self.turn()
            if begun is not None:
                ended: list[Any] = []
                results.append(ended)
                doing.append(begun.addBoth(ended.append))
        self.flush()
        for ended in results:
            self.assertEqual(len(ended), 1)
            if isinstance(ended[0], Failure):
                ended[0].trap(CancelledError, ConnectionFailed)
        for entry in self.store.list(()):
            known = LARGE if entry.name.startswith(b"l") else noise(3000)
            self.assertEqual(self.contents(entry.name), known)
        for name, kept in self.factory.files.items():
            self.assertEqual(kept.data, LARGE if b"l" in name else noise(3000))
        self.assertIdle()


class CallbackTests(TransferTestCase):
    """A caller's own code that fails."""

    def test_moved(self) -> None:
        """What a progress callback raises is what its transfer fails with; the session goes on, and
        nothing is left."""

        def moved(count: int) -> None:
            raise ZeroDivisionError

        sink = Sink()
        for data in (b"x", LARGE):
            self.serve(data)
            self.write(data)
            for begin in (
                lambda: getFile([self.session], b"/there", self.local(), moved=moved),
                lambda: putFile([self.session], self.local(), b"/there", moved=moved),
                lambda: getStream([self.session], b"/there", cast(Any, sink), moved=moved),
            ):
                begun: Deferred[Any] = begin()
                self.flush()
                self.failureResultOf(begun, ZeroDivisionError)
                self.assertIsNone(sink.producer)
                self.assertTrue(self.session.isOpen)
                self.store.ends.clear()
                self.store.wanted.clear()
                self.assertEqual(self.session.load, 0)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_consumerTaken(self) -> None:
        """A consumer that has a producer already keeps it, gets nothing, and nothing is asked."""

        class Taken(Sink):
            def registerProducer(self, producer: Any, streaming: bool) -> None:
                raise RuntimeError("Cannot register two producers.")

            def unregisterProducer(self) -> None:
                raise AssertionError("It is not ours.")

        self.serve(LARGE)
        begun = getStream([self.session], b"/there", cast(Any, Taken()))
        self.flush()
        self.failureResultOf(begun, RuntimeError)
        self.assertEqual(self.records(Get), [])
