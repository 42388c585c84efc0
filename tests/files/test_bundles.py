"""
Bundles of small files at the client, against a server that does what a test says: what of its
answers is believed, what becomes of each file, and how all ends.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred

from tests.files.faultystore import FaultyStore
from tests.files.fileserver import (
    NAME,
    OTHER_VERSION,
    Immediate,
    Later,
    Script,
    SessionTestCase,
    facts,
)
from twisted_netsuite.errors import (
    Conflict,
    ConnectionFailed,
    Corrupted,
    Denied,
    LimitExceeded,
    NetsuiteError,
    NotFound,
    ProtocolError,
    SourceChanged,
    StorageFailed,
    TimedOut,
)
from twisted_netsuite.files.bundles import Item, TooLarge, getBundle, putBundle
from twisted_netsuite.files.client import MAX_BUNDLING, FilesSession
from twisted_netsuite.files.digests import digestOf
from twisted_netsuite.files.messages import (
    BUNDLE_BYTES,
    BUNDLE_FILES,
    Bundled,
    Cancel,
    Done,
    Failed,
    Found,
    GetBundle,
    PutBundle,
    Request,
)
from twisted_netsuite.files.moving import Got, Local, Sent, Wishes
from twisted_netsuite.files.names import split
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.wire.session import Record

#: Three files, one of them empty.
FILES = {b"a": b"one", b"b": b"", b"c": b"three" * 1000}
BODY = b"".join(FILES.values())


def told(data: bytes, **other: Any) -> Bundled:
    """Say of a file what is right."""
    return Bundled(facts=facts(len(data)), digest=digestOf(data), **other)


def right() -> list[Bundled]:
    """Say that of all files."""
    return [told(data) for data in FILES.values()]


def done(script: Script, id: int) -> None:
    """End an answer."""
    script.sendRecord(Done(id=id))


class BundleCase(SessionTestCase):
    """A store at this end, and a server that notes what it is asked."""

    def setUp(self) -> None:
        super().setUp()
        self.store = FaultyStore(1 << 24)
        self.disk: Any = Immediate()
        self.session = self.connect()

    def tearDown(self) -> None:
        """Whatever a test did, nothing stays open, counted, or without its turn."""
        for session in self.sessions:
            self.assertEqual((session._debt, session._open), (0, {}))
            self.assertEqual(
                (session.bundling._free, len(session.bundling._waiting)), (MAX_BUNDLING, 0)
            )
        self.assertEqual(self.store.opened, self.store.closed)

    def connect(self) -> FilesSession:
        session = super().connect()
        self.sessions: list[FilesSession] = [*getattr(self, "sessions", []), session]
        return session

    def turn(self) -> bool:
        stepped = isinstance(self.disk, Later) and self.disk.step()
        return super().turn() or stepped

    def move(self) -> None:
        """Let happen what takes neither time nor the disk."""
        for _ in range(100):
            for pair in self.pairs:
                pair.flush()
            super().turn()

    @property
    def script(self) -> Script:
        """The server's end."""
        return self.factory.opened[0]

    def asked(self) -> list[Record]:
        """Tell what has come there."""
        return self.script.records

    def items(self, *names: bytes, **known: Any) -> list[Item]:
        """Name files at both ends."""
        return [
            Item(b"/" + name, Local(self.store, (name,), self.disk), **known)
            for name in names or FILES
        ]

    def answering(self, *files: Bundled, body: bytes = b"", length: int | None = None) -> None:
        """Let the server answer every bundle in the same way."""

        def answer(script: Script, record: Record) -> None:
            if isinstance(record, GetBundle | PutBundle):
                script.sendBundle(record.id, [*files], body, length)
                done(script, record.id)

        self.factory.onRecord = answer

    def acting(self, act: Callable[[Script, int], object]) -> None:
        """Let the server do something for every request."""
        self.factory.onRecord = lambda script, record: act(script, cast(Request, record).id)

    def contents(self, name: bytes) -> bytes | None:
        """Read what is published at this end."""
        try:
            source = super(FaultyStore, self.store).source((name,))
        except NotFound:
            return None
        return source.read(0, source.attributes.size)

    def write(self, files: dict[bytes, bytes]) -> None:
        """Have files at this end."""
        for name, data in files.items():
            wanted = Wanted(size=len(data), mtime=1_000_000_007, mode=0o640)
            target = super(FaultyStore, self.store).target((name,), wanted, "test")
            target.write(0, [data])
            if len(data) <= 2**20:
                target.chunkWritten(0, digestOf(data))
                target.commit(digestOf(data))

    def ended(self, work: Deferred[Any]) -> None:
        """The session is over, as it has to be when the server cannot be believed."""
        error = self.failureResultOf(work, ProtocolError).value
        self.assertEqual(error.sentence[-1], ".")
        self.assertFalse(self.session.isOpen)


class GetTests(BundleCase):
    """Files that are fetched."""

    def get(self, *items: Item, **wishes: Any) -> Deferred[list[Got | NetsuiteError]]:
        """Fetch files."""
        getting = getBundle([self.session], items or self.items(), cast(Wishes, wishes))
        self.flush()
        return getting

    def nothing(self) -> None:
        """Nothing of any file is there."""
        self.assertEqual([self.contents(name) for name in FILES], [None] * len(FILES))

    def test_get(self) -> None:
        """All come with one request, which says which versions are wanted, and are published each
        by itself, with mode and time where that was asked."""
        self.answering(*right(), body=BODY)
        known = self.items(facts=facts(3))[:2]
        got = self.successResultOf(self.get(*known, *self.items(b"c"), preserve=True))
        (asked,) = self.asked()
        assert isinstance(asked, GetBundle)
        self.assertEqual([each.name for each in asked.files], [b"/a", b"/b", b"/c"])
        self.assertEqual([each.version for each in asked.files], [facts(3).version] * 2 + [None])
        for each, (name, data) in zip(got, FILES.items(), strict=True):
            self.assertEqual(each, Got(facts(len(data)), digestOf(data), len(data), 0))
            self.assertEqual(self.contents(name), data)
            found = self.store.stat((name,))
            self.assertEqual((found.mode, found.mtime), (0o640, 1_000_000_007))

    def test_pieces(self) -> None:
        """However the bytes come, they are the same files."""
        self.answering(*right(), body=BODY)
        for self.size in (1, 3, 1000):
            self.successResultOf(self.get())
            self.assertEqual({name: self.contents(name) for name in FILES}, FILES)

    def test_wishes(self) -> None:
        """What may not be replaced stays, and what is to be durable is; nothing is kept for another
        try."""
        self.write({b"b": b"old"})
        self.answering(*right(), body=BODY)
        got = self.successResultOf(self.get(clobber=False, durable=False, mode=0o600, mtime=5))
        self.assertIsInstance(got[1], Conflict)
        self.assertEqual((self.contents(b"b"), self.contents(b"c")), (b"old", FILES[b"c"]))
        self.assertEqual(
            {(w.durable, w.mode, w.mtime, w.source) for w in self.store.wanted},
            {(False, 0o600, 5, None)},
        )
        self.store.wanted.clear()
        self.successResultOf(self.get())
        self.assertEqual([(w.durable, w.mode) for w in self.store.wanted], [(True, None)] * 3)

    def test_refused(self) -> None:
        """What the server refuses is an error of its class that names the server, and can do a
        terminal no harm; of a code that nobody knows it is some error. The others come."""
        refused = [
            Bundled(code="denied", message="It is \x1b[2J not yours."),
            told(b"x"),
            Bundled(code="strange"),
            Bundled(code="source-changed", message="Look again."),
            Bundled(code="internal", message="It failed."),
        ]
        self.answering(*refused, body=b"x")
        got = self.successResultOf(self.get(*self.items(b"a", b"b", b"c", b"d", b"e")))
        self.assertEqual(
            [type(each) for each in got],
            [Denied, Got, NetsuiteError, SourceChanged, NetsuiteError],
        )
        self.assertIn(NAME, str(got[0]))
        self.assertNotIn("\x1b", str(got[0]))
        self.assertIn("strange", str(got[2]))
        self.assertEqual([self.contents(name) for name in FILES], [None, b"x", None])

    def test_tooLarge(self) -> None:
        """What has become too large is told so, and the bytes of the others are theirs."""
        self.answering(told(b"one"), Bundled(facts=facts(2**40)), told(b"3"), body=b"one3")
        got = self.successResultOf(self.get())
        self.assertEqual([type(each) for each in got], [Got, TooLarge, Got])
        self.assertEqual([self.contents(name) for name in FILES], [b"one", None, b"3"])

    def test_corrupted(self) -> None:
        """What came wrong is not published, and hurts nothing else."""
        self.write({b"a": b"old"})
        self.answering(*right(), body=b"One" + BODY[3:])
        got = self.successResultOf(self.get())
        self.assertEqual([type(each) for each in got], [Corrupted, Got, Got])
        self.assertEqual((self.contents(b"a"), self.contents(b"c")), (b"old", FILES[b"c"]))

    def test_version(self) -> None:
        """A server that sends another version than was asked for has sent nothing that is used."""
        other = Bundled(facts=facts(3, OTHER_VERSION), digest=digestOf(b"one"))
        self.answering(other, *right()[1:], body=BODY)
        got = self.successResultOf(self.get(*self.items(facts=facts(3))))
        self.assertEqual([type(each) for each in got], [ProtocolError, Got, Got])
        self.assertEqual((self.contents(b"a"), self.contents(b"c")), (None, FILES[b"c"]))

    def test_lies(self) -> None:
        """A BUNDLE that has other files or bytes than it says, or does not say just what became of
        a file, ends the session, and nothing of it is published."""
        denied = Bundled(code="denied", message="No.")
        a, b, c = right()
        both = Bundled(facts=a.facts, digest=a.digest, code="denied")
        for files, length in (
            ([a, b], 3),
            ([a, b, c, b], len(BODY)),
            ([a, b, c], len(BODY) - 1),
            ([a, b, c], len(BODY) + 1),
            ([a, b, c], 0),
            ([denied] * 3, 1),
            ([Bundled(facts=facts(5)), b, b], 5),
            ([Bundled(), b, c], 5000),
            ([Bundled(digest=bytes(32)), b, c], 5000),
            ([both, b, c], len(BODY)),
            ([Bundled(facts=a.facts, code="denied"), b, c], 5000),
            ([Bundled(digest=a.digest, code="denied"), b, c], 5000),
            ([Bundled(facts=facts(2**62), digest=bytes(32))] * 3, BUNDLE_BYTES),
        ):
            self.answering(*files, body=bytes(length))
            self.session = self.connect()
            self.ended(self.get())
            self.nothing()

    def test_order(self) -> None:
        """An answer without BUNDLE, with two of them, or with something else ends the session."""

        def twice(script: Script, id: int) -> None:
            script.sendBundle(id, right(), BODY)
            script.sendBundle(id, right(), BODY)

        def found(script: Script, id: int) -> None:
            script.sendRecord(Found(id=id, facts=facts(3)))

        for act in (done, twice, found):
            self.acting(act)
            self.session = self.connect()
            self.ended(self.get())
            self.nothing()

    def test_failed(self) -> None:
        """A request that fails, before its BUNDLE or behind it, is that failure, and nothing of it
        is there; the session goes on."""
        for before in (True, False):

            def fails(script: Script, record: Record, before: bool = before) -> None:
                id = cast(Request, record).id
                if not before:
                    script.sendBundle(id, right(), BODY)
                script.sendRecord(Failed(id=id, code="storage", message="The disk is broken."))

            self.factory.onRecord = fails
            self.failureResultOf(self.get(), StorageFailed)
            self.nothing()
            self.assertTrue(self.session.isOpen)

    def test_silence(self) -> None:
        """Bytes that never come end with the session, and nothing is there."""
        self.answering(*right(), body=BODY[:-1], length=len(BODY))
        self.factory.onRecord = lambda script, record: script.sendBundle(
            1, right(), BODY[:-1], len(BODY)
        )
        getting = self.get()
        self.assertNoResult(getting)
        self.pairs[0].server.reading = False
        for _ in range(200):
            self.clock.advance(1)
            self.flush()
        self.failureResultOf(getting, TimedOut, ConnectionFailed)
        self.nothing()

    def test_lost(self) -> None:
        """A connection that ends, wherever, is what all of it fails with; nothing is there."""
        for count in (None, 0, 5):

            def cut(script: Script, record: Record, count: int | None = count) -> None:
                if count is not None:
                    script.sendBundle(1, right(), BODY[:count], len(BODY))
                script.transport.loseConnection()

            self.factory.onRecord = cut
            self.session = self.connect()
            self.failureResultOf(self.get(), ConnectionFailed)
            self.nothing()
        self.failureResultOf(self.get(), ConnectionFailed)

    def test_disk(self) -> None:
        """A disk that is full here fails each file by itself; what is no such failure is raised."""
        self.answering(*right(), body=BODY)
        self.store.failure = StorageFailed("The disk is full.")
        got = self.successResultOf(self.get())
        self.assertEqual([type(each) for each in got], [StorageFailed] * 3)
        self.store.failure = ZeroDivisionError()
        self.failureResultOf(self.get(), ZeroDivisionError)

    def test_turns(self) -> None:
        """So many bundles are asked for at a time as there may be; the others follow, and who gives
        up before has asked nothing."""
        work = [getBundle([self.session], self.items(), Wishes()) for _ in range(MAX_BUNDLING + 3)]
        self.flush()
        self.assertEqual(len(self.asked()), MAX_BUNDLING)
        work[-2].cancel()
        self.failureResultOf(work.pop(-2), CancelledError)
        for answered in range(MAX_BUNDLING + 2):
            self.script.sendBundle(answered + 1, right(), BODY)
            done(self.script, answered + 1)
            self.flush()
        self.assertEqual(len(self.asked()), MAX_BUNDLING + 2)
        for each in work:
            self.successResultOf(each)

    def test_leastBusy(self) -> None:
        """Of several sessions the one with the least to do is asked, and none that is over."""
        other = self.connect()
        sessions = [self.session, other]
        work = [getBundle(sessions, self.items(), Wishes()) for _ in range(3)]
        self.flush()
        self.assertEqual([len(each.records) for each in self.factory.opened], [2, 1])
        self.script.transport.loseConnection()
        self.flush()
        self.answering(*right(), body=BODY)
        self.successResultOf(self.cleaned(getBundle(sessions, self.items(), Wishes())))
        self.factory.opened[1].transport.loseConnection()
        self.flush()
        for each in work:
            self.failureResultOf(each, ConnectionFailed)
        self.failureResultOf(getBundle(sessions, self.items(), Wishes()), ConnectionFailed)

    def cleaned(self, work: Deferred[Any]) -> Deferred[Any]:
        """Let all happen first."""
        self.flush()
        return work

    def test_cancelled(self) -> None:
        """Who cancels is free at once; CANCEL is sent once, what was on its way is dropped wherever
        that was, nothing is published, and the session goes on."""
        for sent in (None, 0, 7, len(BODY)):
            self.factory.onRecord = lambda script, record: None
            before = len(self.asked())
            getting = self.get()
            id = cast(Request, self.asked()[before]).id
            if sent is not None:
                self.script.sendBundle(id, right(), BODY[:sent], len(BODY))
                self.flush()
            getting.cancel()
            self.failureResultOf(getting, CancelledError)
            self.flush()
            self.assertEqual(self.asked()[before + 1 :], [Cancel(id=id)])
            if sent is None:
                self.script.sendBundle(id, right(), BODY)
            else:
                self.script.transport.write(BODY[sent:])
            if sent == 7:
                self.script.fail_(id, Conflict("It was cancelled."))
            else:
                done(self.script, id)
            self.flush()
            self.nothing()
            self.assertEqual(self.session._open, {})
        self.answering(*right(), body=BODY)
        self.successResultOf(self.get())

    def test_cancelledAndLost(self) -> None:
        """So it is when the session ends then."""
        getting = self.get()
        getting.cancel()
        self.failureResultOf(getting, CancelledError)
        self.script.transport.loseConnection()
        self.flush()
        self.nothing()

    def test_cancelledWhileWritten(self) -> None:
        """What is written when it is cancelled is written to its end, and only then is it over."""
        self.disk = Later()
        self.answering(*right(), body=BODY)
        getting = getBundle([self.session], self.items(), Wishes())
        self.move()
        self.assertEqual(len(self.disk.waiting), 1)
        getting.cancel()
        self.assertNoResult(getting)
        self.disk.step()
        self.failureResultOf(getting, CancelledError)
        self.assertEqual({name: self.contents(name) for name in FILES}, FILES)
        getting.cancel()

    def test_debt(self) -> None:
        """What waits for the disk holds the session as any file does."""
        self.disk = Later()
        data = bytes(BUNDLE_BYTES)
        self.answering(told(data), body=data)
        work = [getBundle([self.session], self.items(b"a"), Wishes()) for _ in range(3)]
        self.move()
        self.assertGreater(self.session._debt, BUNDLE_BYTES)
        self.assertFalse(self.pairs[0].client.reading)
        self.flush()
        for each in work:
            self.successResultOf(each)


class PutTests(BundleCase):
    """Files that are sent."""

    def setUp(self) -> None:
        super().setUp()
        self.write(FILES)

    def put(self, *items: Item, **wishes: Any) -> Deferred[list[Sent | NetsuiteError]]:
        """Send files."""
        putting = putBundle([self.session], items or self.items(), cast(Wishes, wishes))
        self.flush()
        return putting

    def test_put(self) -> None:
        """All go with one request, which says what each is to become, and their bytes behind it."""
        self.answering(*right())
        sent = self.successResultOf(self.put(preserve=True, clobber=False, durable=False))
        (asked,) = self.asked()
        assert isinstance(asked, PutBundle)
        self.assertEqual((asked.clobber, asked.durable), (False, False))
        self.assertEqual(bytes(self.script.bodies[asked.id, 0]), BODY)
        for each, file, (name, data) in zip(sent, asked.files, FILES.items(), strict=True):
            self.assertEqual(
                (file.name, file.size, file.mtime, file.mode, file.digest),
                (b"/" + name, len(data), 1_000_000_007, 0o640, digestOf(data)),
            )
            self.assertEqual(each, Sent(facts(len(data)), digestOf(data), len(data), len(data), 0))

    def test_usual(self) -> None:
        """Unless told otherwise files replace others, are durable, and have no mode and time."""
        self.answering(*right())
        self.successResultOf(self.put())
        (asked,) = self.asked()
        assert isinstance(asked, PutBundle)
        self.assertEqual((asked.clobber, asked.durable), (True, True))
        self.assertEqual({(each.mtime, each.mode) for each in asked.files}, {(None, None)})

    def test_empty(self) -> None:
        """Files without a byte have none behind their request."""
        self.answering(told(b""))
        self.successResultOf(self.put(*self.items(b"b")))
        self.successResultOf(self.put(*self.items(b"b")))

    def test_unread(self) -> None:
        """What cannot be read here is told so, and the others go; where nothing can, nothing is
        asked."""
        self.answering(told(b"one"), told(FILES[b"c"]))
        self.store.makeDirectory((b"d",), None, False)
        sent = self.successResultOf(self.put(*self.items(b"a", b"none", b"d", b"c")))
        self.assertEqual([type(each) for each in sent], [Sent, NotFound, Denied, Sent])
        self.assertEqual(bytes(self.script.bodies[1, 0]), b"one" + FILES[b"c"])
        sent = self.successResultOf(self.put(*self.items(b"none", b"d")))
        self.assertEqual([type(each) for each in sent], [NotFound, Denied])
        self.assertEqual(len(self.asked()), 1)

    def test_tooLarge(self) -> None:
        """What has grown, so that all together are more than a bundle has, is not sent with the
        others; nor is what changes while it is read."""
        half = bytes(BUNDLE_BYTES // 2)
        self.write({b"a": half, b"b": half + b"x", b"c": half})
        self.answering(told(half), told(half))
        sent = self.successResultOf(self.put())
        self.assertEqual([type(each) for each in sent], [Sent, TooLarge, Sent])
        self.assertEqual(len(self.script.bodies[1, 0]), BUNDLE_BYTES)
        self.store.changed = True
        sent = self.successResultOf(self.put())
        self.assertEqual([type(each) for each in sent], [TooLarge] * 3)
        self.assertEqual(len(self.asked()), 1)

    def test_refused(self) -> None:
        """What the server refuses is refused for itself."""
        self.answering(
            told(b"one"),
            Bundled(code="conflict", message="It exists."),
            Bundled(code="corrupted", message="It came wrong."),
        )
        sent = self.successResultOf(self.put())
        self.assertEqual([type(each) for each in sent], [Sent, Conflict, Corrupted])

    def test_others(self) -> None:
        """What the server has published else than was sent is no success."""
        a, b, c = right()
        for wrong in (
            Bundled(facts=a.facts, digest=bytes(32)),
            Bundled(facts=a.facts),
            Bundled(facts=facts(4), digest=a.digest),
        ):
            self.answering(wrong, b, c)
            sent = self.successResultOf(self.put())
            self.assertEqual([type(each) for each in sent], [ProtocolError, Sent, Sent])

    def test_lies(self) -> None:
        """A BUNDLE of another count, with bytes, or that does not say just what became of a file
        ends the session."""
        a, b, c = right()
        for files, body in (
            ([a, b], b""),
            ([a, b, c, c], b""),
            ([a, b, c], b"x"),
            ([a, b, c], BODY),
            ([Bundled(), b, c], b""),
            ([Bundled(facts=a.facts, digest=a.digest, code="denied"), b, c], b""),
            ([Bundled(digest=a.digest, code="denied"), b, c], b""),
        ):
            self.answering(*files, body=body)
            self.session = self.connect()
            self.ended(self.put())

    def test_order(self) -> None:
        """So does DONE without BUNDLE, and a second one."""

        def twice(script: Script, id: int) -> None:
            script.sendBundle(id, right())
            script.sendBundle(id, right())

        for act in (done, twice):
            self.acting(act)
            self.session = self.connect()
            self.ended(self.put())

    def test_failed(self) -> None:
        """A request that fails is that failure, and the session goes on."""
        self.factory.onRecord = lambda script, record: script.fail_(1, StorageFailed("Broken."))
        self.failureResultOf(self.put(), StorageFailed)
        self.assertTrue(self.session.isOpen)

    def test_lost(self) -> None:
        """A connection that ends, in the middle of the bytes or behind them, is what all of it
        fails with, and nothing else; so is what waited behind it."""
        self.factory.onRecord = lambda script, record: script.transport.loseConnection()
        self.failureResultOf(self.put(), ConnectionFailed)
        self.write({b"c": bytes(BUNDLE_BYTES // 2)})
        self.session = self.connect()
        work = [putBundle([self.session], self.items(), Wishes()) for _ in range(3)]
        super().turn()
        self.pairs[-1].client.step(3000)
        self.assertEqual(self.factory.opened[-1].bodies[1, 0][:3], b"one")
        self.pairs[-1].client.abortConnection()
        self.flush()
        for each in work:
            self.failureResultOf(each, ConnectionFailed)
        work.clear()
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_cancelled(self) -> None:
        """CANCEL goes behind the last byte, so that the server knows what follows; its answer is
        dropped, and the session goes on."""
        putting = self.put()
        putting.cancel()
        self.failureResultOf(putting, CancelledError)
        self.flush()
        self.assertEqual(self.asked()[1:], [Cancel(id=1)])
        self.assertEqual(bytes(self.script.bodies[1, 0]), BODY)
        self.script.sendBundle(1, right())
        done(self.script, 1)
        self.flush()
        self.answering(*right())
        self.successResultOf(self.put())

    def test_cancelledWhileRead(self) -> None:
        """What is read when it is cancelled is read to its end, and nothing is asked."""
        self.disk = Later()
        putting = putBundle([self.session], self.items(), Wishes())
        self.move()
        putting.cancel()
        self.assertNoResult(putting)
        self.flush()
        self.failureResultOf(putting, CancelledError)
        self.assertEqual(self.asked(), [])

    def test_turns(self) -> None:
        """So many bundles are under way at a time as there may be, those that are read included;
        and who gives up before has asked nothing."""
        work = [putBundle([self.session], self.items(), Wishes()) for _ in range(MAX_BUNDLING + 2)]
        self.flush()
        self.assertEqual(len(self.asked()), MAX_BUNDLING)
        work[-1].cancel()
        self.failureResultOf(work.pop(), CancelledError)
        for id in range(1, MAX_BUNDLING + 2):
            self.script.sendBundle(id, right())
            done(self.script, id)
            self.flush()
        for each in work:
            self.successResultOf(each)
        self.assertEqual(len(self.asked()), MAX_BUNDLING + 1)

    def test_names(self) -> None:
        """Names that together are too long for one record are refused here, and the session goes
        on."""
        items = [
            Item(b"/" + b"/".join([b"%0255d" % n] * 5), Local(self.store, (b"b",), self.disk))
            for n in range(BUNDLE_FILES)
        ]
        self.failureResultOf(self.put(*items), LimitExceeded)
        self.answering(told(b""))
        self.successResultOf(self.put(*items[:1]))
        self.assertEqual(len(split(items[0].name)), 5)


class BalanceTests(BundleCase):
    """More than one session."""

    def test_get(self) -> None:
        """Each has its part of what waits for a turn."""
        sessions = [self.session, self.connect()]
        work = [getBundle(sessions, self.items(), Wishes()) for _ in range(40)]
        self.flush()
        loads = [each.bundling.load for each in sessions]
        for each in work:
            each.cancel()
            self.failureResultOf(each)
        for pair in self.pairs:
            pair.client.abortConnection()
        self.flush()
        self.assertEqual(loads, [20, 20])

    def test_put(self) -> None:
        """So it is with those that are read."""
        self.disk = Later()
        self.write({b"a": b"x", b"b": b"", b"c": b""})
        sessions = [self.session, self.connect()]
        work = [putBundle(sessions, self.items(), Wishes()) for _ in range(10)]
        loads = [each.bundling.load for each in sessions]
        for each in work:
            each.cancel()
        self.flush()
        for each in work:
            self.failureResultOf(each)
        self.assertEqual(loads, [5, 5])
