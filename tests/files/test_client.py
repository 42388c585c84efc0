"""
The client of the native files service against a server that does what the test says: what a caller
is answered, in what order, and with which failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from tests.files.fileserver import NAME, SessionTestCase, facts
from twisted_netsuite import errors
from twisted_netsuite.errors import (
    ConfigurationError,
    ConnectionFailed,
    InvalidName,
    LimitExceeded,
    NetsuiteError,
    NotFound,
    ProtocolError,
)
from twisted_netsuite.files import client, listing
from twisted_netsuite.files.client import connectFiles, leastBusy
from twisted_netsuite.files.fetching import Getting
from twisted_netsuite.files.messages import (
    MAX_OPEN,
    Body,
    Cancel,
    Change,
    Done,
    Entries,
    Failed,
    Found,
    Get,
    Hash,
    Have,
    Holes,
    List,
    Listed,
    MakeDirectory,
    Manifest,
    Ready,
    Remove,
    Rename,
    Stat,
)
from twisted_netsuite.wire.session import Goodbye, Record

DIGEST = bytes(range(32))


class ClientTestCase(SessionTestCase):
    """One client, one server."""

    def setUp(self) -> None:
        super().setUp()
        self.session = self.connect()
        (self.server,) = self.factory.opened

    def answer(self, *records: Record) -> None:
        """Let the server say something."""
        for record in records:
            self.server.sendRecord(record)
        self.flush()

    def asked(self) -> list[Record]:
        """Tell what has come to the server."""
        self.flush()
        return self.server.records

    def failure(self, asked: Deferred[Any], kind: type[Exception]) -> str:
        return str(self.failureResultOf(asked, kind).value)

    def assertEnded(self, why: str) -> None:
        """See that the session has ended with a protocol error of the server."""
        self.flush()
        self.assertFalse(self.session.isOpen)
        found = self.failureResultOf(self.session.whenEnded(), ProtocolError)
        self.assertIn(NAME, str(found.value))
        self.assertIn(why, str(found.value))


class QuestionTests(ClientTestCase):
    """What is asked of a name, and answered by one record."""

    def test_records(self) -> None:
        """Each method sends its record, each with a number of its own."""
        session = self.session
        ignored: list[Deferred[Any]] = [
            session.stat(b"/a"),
            session.hash(b"/a"),
            session.makeDirectory(b"/d", mode=0o700, parents=True),
            session.rename(b"/a", b"/b", clobber=False),
            session.remove(b"/a"),
            session.change(b"/a", mode=0o600, mtime=-5),
        ]
        self.assertEqual(
            self.asked(),
            [
                Stat(id=1, name=b"/a"),
                Hash(id=2, name=b"/a"),
                MakeDirectory(id=3, name=b"/d", mode=0o700, parents=True),
                Rename(id=4, name=b"/a", to=b"/b", clobber=False),
                Remove(id=5, name=b"/a"),
                Change(id=6, name=b"/a", mode=0o600, mtime=-5),
            ],
        )
        for each in ignored:
            self.assertNoResult(each)

    def test_answers(self) -> None:
        """Each gets what its answer tells."""
        session, known = self.session, facts(7)
        asked: list[tuple[Deferred[Any], Any]] = [
            (session.stat(b"/a"), known),
            (session.hash(b"/a"), client.Hashed(known, DIGEST)),
            (session.makeDirectory(b"/d"), known),
            (session.rename(b"/a", b"/b"), known),
            (session.remove(b"/a"), None),
            (session.change(b"/a", mtime=0), known),
        ]
        self.answer(*(Done(id=id, facts=known, digest=DIGEST) for id in range(1, 7)))
        self.assertEqual(
            [self.successResultOf(each) for each, _ in asked], [found for _, found in asked]
        )

    def test_any_order(self) -> None:
        """Answers find their requests in whatever order they come."""
        asked = [self.session.stat(b"/%d" % number) for number in range(5)]
        order = [3, 1, 5, 2, 4]
        self.answer(*(Done(id=id, facts=facts(id)) for id in order))
        self.assertEqual([self.successResultOf(each).size for each in asked], [1, 2, 3, 4, 5])

    def test_bytewise(self) -> None:
        """So it is when the connection gives one byte at a time."""
        self.size = 1
        asked = [self.session.stat(b"/a"), self.session.stat(b"/b")]
        self.answer(Done(id=2, facts=facts(2)), Done(id=1, facts=facts(1)))
        self.assertEqual([self.successResultOf(each).size for each in asked], [1, 2])

    def test_incomplete(self) -> None:
        """An answer without what was asked for is a failure of its request."""
        stat, hash = self.session.stat(b"/a"), self.session.hash(b"/a")
        self.answer(Done(id=1), Done(id=2, facts=facts(1)))
        self.failure(stat, ProtocolError)
        self.failure(hash, ProtocolError)

    def test_failures(self) -> None:
        """A code becomes the class that it stands for, and its sentence is cleaned."""
        for number, (code, kind) in enumerate(
            [
                ("not-found", NotFound),
                ("denied", errors.Denied),
                ("conflict", errors.Conflict),
                ("source-changed", errors.SourceChanged),
                ("corrupted", errors.Corrupted),
                ("storage", errors.StorageFailed),
                ("limit", LimitExceeded),
                ("invalid-name", InvalidName),
            ],
            1,
        ):
            asked = self.session.stat(b"/a")
            self.answer(Failed(id=number, code=code, message="No\x1b[2J, it is not."))
            self.assertEqual(
                self.failure(asked, kind),
                f"{NAME} says: No\N{REPLACEMENT CHARACTER}[2J, it is not.",
            )

    def test_unknown_code(self) -> None:
        """A code that is not known here is told."""
        asked = self.session.stat(b"/a")
        self.answer(Failed(id=1, code="from-the-future", message="Later."))
        self.assertEqual(
            self.failure(asked, NetsuiteError), f"{NAME} says: Later. (from-the-future)"
        )

    def test_impossible(self) -> None:
        """What can be no name, mode or time is never sent."""
        session = self.session
        for name in (b"/a/../b", b"a\0b", b"x" * 256, b"/" + b"y/" * 3000, b"/.netsuite-x"):
            for asked in (
                session.stat(name),
                session.hash(name),
                session.makeDirectory(name),
                session.rename(name, b"/a"),
                session.rename(b"/a", name),
                session.remove(name),
                session.change(name),
            ):
                self.failure(asked, InvalidName)
            for entries in (session.list(name), session.manifest(name)):
                self.failure(entries.next(), InvalidName)
                self.failure(entries.collect(), InvalidName)
        for mode in (-1, 0o1000, 0o4755):
            self.failure(session.change(b"/a", mode=mode), ConfigurationError)
            self.failure(session.makeDirectory(b"/a", mode=mode), ConfigurationError)
        self.failure(session.change(b"/a", mtime=2**63), ConfigurationError)
        self.assertEqual(self.asked(), [])
        self.assertEqual(session.load, 0)

    def test_cancel(self) -> None:
        """Who cancels hears so at once, the server too, and its answer disturbs nobody."""
        for last in (Done(id=1, facts=facts(1)), Failed(id=2, code="conflict", message="x")):
            asked = self.session.stat(b"/a")
            self.flush()
            asked.cancel()
            self.failure(asked, CancelledError)
            self.assertEqual(self.asked()[-1], Cancel(id=last.id))
            self.assertEqual(self.session.load, 1)
            self.answer(last)
            self.assertEqual(self.session.load, 0)
        self.assertTrue(self.session.isOpen)

    def test_cancel_answered(self) -> None:
        """To cancel what was answered does nothing."""
        asked = self.session.stat(b"/a")
        self.answer(Done(id=1, facts=facts(1)))
        asked.cancel()
        self.assertEqual(len(self.asked()), 1)


class ManyTests(ClientTestCase):
    """More requests than may be open."""

    def test_wait(self) -> None:
        """No more than MAX_OPEN are on their way; each that is answered lets the next go."""
        asked = [self.session.stat(b"/%d" % number) for number in range(MAX_OPEN + 3)]
        self.assertEqual(len(self.asked()), MAX_OPEN)
        self.assertEqual(self.session.load, MAX_OPEN + 3)
        self.answer(Done(id=7, facts=facts(7)))
        self.assertEqual(len(self.asked()), MAX_OPEN + 1)
        self.assertEqual(self.asked()[-1], Stat(id=MAX_OPEN + 1, name=b"/%d" % MAX_OPEN))
        self.answer(*(Done(id=id, facts=facts(id)) for id in range(1, MAX_OPEN + 2) if id != 7))
        self.answer(*(Done(id=MAX_OPEN + more, facts=facts(1)) for more in (2, 3)))
        for each in asked:
            self.successResultOf(each)
        self.assertEqual(self.session.load, 0)

    def test_cancel_waiting(self) -> None:
        """What is cancelled before its turn is never sent."""
        first = [self.session.stat(b"/a") for _ in range(MAX_OPEN)]
        waiting, last = self.session.stat(b"/w"), self.session.stat(b"/l")
        waiting.cancel()
        self.failure(waiting, CancelledError)
        self.answer(Done(id=1, facts=facts(1)), Done(id=2, facts=facts(1)))
        self.assertEqual(self.asked()[MAX_OPEN:], [Stat(id=MAX_OPEN + 1, name=b"/l")])
        self.assertNoResult(last)
        self.assertEqual(len(first), MAX_OPEN)

    def test_numbers_end(self) -> None:
        """A session that has had all numbers wants another in its place."""
        self.session._last = client.LAST_ID - 1
        last, more = self.session.stat(b"/a"), self.session.stat(b"/a")
        self.failure(more, ConnectionFailed)
        self.assertFalse(self.session.isOpen)
        self.answer(Done(id=client.LAST_ID, facts=facts(1)))
        self.successResultOf(last)

    def test_numbersEndForThoseThatWait(self) -> None:
        """What waits for its turn when the last number is gone is told so, and waits no longer."""
        self.session._last = client.LAST_ID - MAX_OPEN - 1
        asked = [self.session.stat(b"/a") for _ in range(MAX_OPEN + 3)]
        self.answer(Done(id=client.LAST_ID - 1, facts=facts(1)))
        self.assertNoResult(asked[-1])
        self.answer(Done(id=client.LAST_ID, facts=facts(1)))
        for each in asked[-2:]:
            self.assertIn("connect again", self.failure(each, ConnectionFailed))
        self.assertNoResult(asked[0])


class EndTests(ClientTestCase):
    """The end of a session."""

    def test_lost(self) -> None:
        """All that is open or waits fails with why, and so does what is asked afterwards."""
        asked = [self.session.stat(b"/a") for _ in range(MAX_OPEN + 1)]
        asked[0].cancel()
        self.failure(asked[0], CancelledError)
        self.flush()
        self.pairs[0].client._lose(Failure(ConnectionLost()))
        for each in asked[1:]:
            self.assertIn("broke", self.failure(each, ConnectionFailed))
        self.assertIn("broke", self.failure(self.session.stat(b"/a"), ConnectionFailed))
        self.failureResultOf(self.session.whenEnded(), ConnectionFailed)

    def test_closed_here(self) -> None:
        """To close a session fails what is open."""
        asked = self.session.stat(b"/a")
        self.session.close()
        self.assertIn("closed", self.failure(asked, ConnectionFailed))
        self.failure(self.session.stat(b"/a"), ConnectionFailed)

    def test_goodbye(self) -> None:
        """A server that stops answers what is open; what has waited fails, and nothing is begun."""
        asked = [self.session.stat(b"/a") for _ in range(MAX_OPEN + 1)]
        self.flush()
        self.answer(Goodbye(reason="Bye."))
        self.assertFalse(self.session.isOpen)
        self.assertIn("stops", self.failure(asked[-1], ConnectionFailed))
        self.assertIn("stops", self.failure(self.session.stat(b"/a"), ConnectionFailed))
        self.answer(*(Done(id=id, facts=facts(id)) for id in range(1, MAX_OPEN + 1)))
        for each in asked[:-1]:
            self.successResultOf(each)
        self.assertTrue(self.session.machine.closed)

    def test_goodbye_idle(self) -> None:
        """A session on which nothing is open ends at once."""
        self.answer(Goodbye())
        self.successResultOf(self.session.whenEnded())

    def test_caller_closes(self) -> None:
        """Whoever is answered may close the session."""
        asked = self.session.stat(b"/a").addCallback(lambda found: self.session.close())
        more = self.session.stat(b"/b")
        self.answer(Done(id=1, facts=facts(1)), Done(id=2, facts=facts(1)))
        self.failure(more, ConnectionFailed)
        self.assertTrue(self.session.machine.closed)
        asked.addErrback(lambda failure: None)

    def test_with(self) -> None:
        """A session closes at the end of its block."""

        async def use() -> None:
            async with self.session as session:
                self.assertTrue(session.isOpen)

        used = Deferred.fromCoroutine(use())
        self.flush()
        self.clock.advance(5)
        self.flush()
        self.successResultOf(used)
        self.assertFalse(self.session.isOpen)

    def test_least_busy(self) -> None:
        """What needs one session gets that with the least to do, and never one that is over."""
        other = self.connect()
        asked = self.session.stat(b"/a")
        self.assertIs(leastBusy([self.session, other]), other)
        other.close()
        self.assertIs(leastBusy([self.session, other]), self.session)
        self.session.close()
        self.assertRaises(ConnectionFailed, leastBusy, [self.session, other])
        self.failure(asked, ConnectionFailed)

    def test_user_without_token(self) -> None:
        """A user without a token can be nobody."""
        opening = connectFiles(self.endpoint, self.clock, name=NAME, user="anna")
        self.failure(opening, ConfigurationError)


class Takes:
    """A GET's taker, which takes everything."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def found(self, got: Getting, facts: Any) -> None:
        self.told.append("found")

    def body(self, got: Getting, header: Body) -> Callable[[Any], object]:
        self.told.append(header.index)
        return lambda piece: None

    def holes(self, got: Getting, first: int, count: int) -> None:
        self.told.append((first, count))

    def finished(self, got: Getting, digest: bytes | None) -> None:
        self.told.append("done")

    def failed(self, got: Getting, error: NetsuiteError) -> None:
        self.told.append(type(error))


def body(index: int, length: int) -> Body:
    return Body(id=1, index=index, length=length, digest=DIGEST)


MIB = 2**20


class UnexpectedTests(ClientTestCase):
    """Answers that cannot be end the session, and tell why."""

    def test_nobody_asked(self) -> None:
        """An answer to nothing."""
        self.answer(Done(id=1))
        self.assertEnded("request 1, which is not open")

    def test_answered_twice(self) -> None:
        """A second answer."""
        asked = self.session.stat(b"/a")
        self.answer(Done(id=1, facts=facts(1)), Done(id=1, facts=facts(1)))
        self.successResultOf(asked)
        self.assertEnded("request 1, which is not open")

    def test_a_request(self) -> None:
        """What only a client says."""
        asked = self.session.stat(b"/a")
        self.answer(Get(id=1, name=b"/a"))
        self.failure(asked, ProtocolError)
        self.assertEnded("GET is no answer")

    def test_to_a_question(self) -> None:
        """What belongs to other requests."""
        for wrong in (
            Found(id=1, facts=facts(1)),
            body(0, 0),
            Holes(id=1, index=0, count=1),
            Have(id=1, index=0, digests=DIGEST),
            Ready(id=1, upload=bytes(16)),
            Entries(id=1, entries=()),
        ):
            self.setUp()
            asked = self.session.stat(b"/a")
            self.answer(wrong)
            self.failure(asked, ProtocolError)
            self.assertEnded("is not expected while waiting for an answer")

    def get(self, *records: Record, **options: Any) -> Takes:
        """Begin a session, a GET, and let the server answer it."""
        self.setUp()
        takes = Takes()
        self.session.ask(Getting(self.session, takes, b"/a", **options))
        self.answer(*records)
        return takes

    def test_get(self) -> None:
        """A GET's answers that are not those that were asked for."""
        found = Found(id=1, facts=facts(3 * MIB + 5))
        wrong: list[tuple[str, list[Record], dict[str, Any]]] = [
            ("BODY is not expected", [body(0, 0)], {}),
            ("DONE is not expected", [Done(id=1)], {}),
            ("FOUND is not expected", [found, found], {}),
            ("A directory", [Found(id=1, facts=facts(0, directory=True))], {}),
            ("Another version", [found], {"version": b"y" * 16}),
            ("does not have the chunks", [found], {"first": 3, "count": 2}),
            ("does not have the chunks", [found], {"first": 9, "count": 1}),
            ("where 0 was to come", [found, body(1, MIB)], {}),
            ("where 2 was to come", [found, body(1, MIB)], {"first": 2}),
            ("it has 1048576", [found, body(0, MIB - 1)], {}),
            ("it has 5", [found, body(3, 6)], {"first": 3}),
            ("where 0 was to come", [found, Holes(id=1, index=0, count=5)], {}),
            ("where 0 was to come", [found, Holes(id=1, index=1, count=1)], {}),
            ("where 2 was to come", [found, Holes(id=1, index=1, count=2)], {"first": 2}),
            ("4 more were asked", [found, Done(id=1)], {}),
            ("1 more were asked", [found, Holes(id=1, index=0, count=3), Done(id=1)], {}),
            ("READY is not expected", [Ready(id=1, upload=bytes(16))], {}),
        ]
        for why, records, options in wrong:
            takes = self.get(*records, **options)
            self.assertIn(takes.told[-1], (ProtocolError, "found", (0, 3)), why)
            self.assertEnded(why)

    def test_get_behind(self) -> None:
        """A GET that asks for the end gets nothing behind it."""
        found = Found(id=1, facts=facts(3 * MIB))
        takes = self.get(found, Holes(id=1, index=2, count=1), Done(id=1), first=2)
        self.assertEqual(takes.told, ["found", (2, 1), "done"])


def listed(name: bytes, directory: bool = False) -> Listed:
    return Listed(name=name, facts=facts(0, directory=directory))


def entries(id: int, *names: bytes) -> Entries:
    return Entries(id=id, entries=tuple(listed(name) for name in names))


class ListTests(ClientTestCase):
    """Lists, batch by batch."""

    def test_collect(self) -> None:
        """All of a list, in the order in which it comes."""
        found = self.session.list(b"/d").collect()
        self.assertEqual(self.asked(), [List(id=1, name=b"/d")])
        self.answer(entries(1, b"b", b"a"), entries(1, b"\xff\n-"), Done(id=1))
        names = [each.name for each in self.successResultOf(found)]
        self.assertEqual(names, [b"b", b"a", b"\xff\n-"])

    def test_bytewise(self) -> None:
        """So it is when the connection gives one byte at a time."""
        self.size = 1
        found = self.session.manifest(b"/d", digests=True).collect()
        self.assertEqual(self.asked(), [Manifest(id=1, name=b"/d", digests=True)])
        self.answer(entries(1, b"b", b"b/a"), Done(id=1))
        self.assertEqual(len(self.successResultOf(found)), 2)

    def test_empty(self) -> None:
        """An empty list is one."""
        found = self.session.list(b"/d").collect()
        self.answer(Entries(id=1, entries=()), Done(id=1))
        self.assertEqual(self.successResultOf(found), [])

    def test_batches(self) -> None:
        """A batch is given as soon as it has come."""
        reading = self.session.list(b"/d")
        first = reading.next()
        self.assertNoResult(first)
        self.answer(entries(1, b"a"))
        self.assertEqual(self.successResultOf(first), (listed(b"a"),))
        second = reading.next()
        self.assertRaises(RuntimeError, reading.next)
        self.answer(entries(1, b"b"), Done(id=1))
        self.assertEqual(self.successResultOf(second), (listed(b"b"),))
        self.assertIsNone(self.successResultOf(reading.next()))
        self.assertIsNone(self.successResultOf(reading.next()))

    def test_failed(self) -> None:
        """What has come before a failure can be read; then it is told, as often as it is read."""
        reading = self.session.list(b"/d")
        self.answer(entries(1, b"a"), Failed(id=1, code="denied", message="No."))
        self.assertEqual(len(self.successResultOf(reading.next()) or ()), 1)
        for _ in range(2):
            self.failure(reading.next(), errors.Denied)

    def test_lost(self) -> None:
        """A list that ends with its session fails."""
        reading, found = self.session.list(b"/d"), self.session.list(b"/e").collect()
        waiting = reading.next()
        self.session.close()
        self.failure(waiting, ConnectionFailed)
        self.failure(found, ConnectionFailed)
        self.failure(self.session.list(b"/d").next(), ConnectionFailed)

    def test_names(self) -> None:
        """A name that leads elsewhere, or is none, ends the session before anybody sees it."""
        for bad in (b"", b".", b"..", b"a/b", b"/a", b"a\0", b".netsuite-x", b"x" * 256):
            self.setUp()
            found = self.session.list(b"/d").collect()
            self.answer(entries(1, b"good", bad))
            self.failure(found, ProtocolError)
            self.assertEnded("name")

    def test_names_below(self) -> None:
        """So it is in a manifest, where names have parts."""
        for bad in (b"", b"a/../b", b"/a", b"a//b", b"a/", b"./a", b"..", b"a/.netsuite-x"):
            self.setUp()
            found = self.session.manifest(b"/d").collect()
            self.answer(entries(1, b"good/one", bad))
            self.failure(found, ProtocolError)
            self.assertEnded("name")

    def test_too_many(self) -> None:
        """Who collects gets no more than was said, and the server hears that it is enough."""
        found = self.session.list(b"/d").collect(most=2)
        self.answer(entries(1, b"a", b"b"))
        self.assertNoResult(found)
        self.answer(entries(1, b"c"))
        self.failure(found, LimitExceeded)
        self.assertEqual(self.asked()[-1], Cancel(id=1))
        self.answer(entries(1, b"d"), Failed(id=1, code="conflict", message="x"))
        self.assertTrue(self.session.isOpen)
        self.assertEqual(self.session.load, 0)

    def test_close(self) -> None:
        """A list that is closed is cancelled; what was on its way is dropped."""
        reading = self.session.list(b"/d")
        waiting = reading.next()
        reading.close()
        reading.close()
        self.failure(waiting, CancelledError)
        self.assertEqual(self.asked(), [List(id=1, name=b"/d"), Cancel(id=1)])
        self.answer(entries(1, b"a"), Done(id=1))
        self.assertIsNone(self.successResultOf(reading.next()))

    def test_cancel_read(self) -> None:
        """To cancel a read breaks the list off."""
        reading = self.session.list(b"/d")
        waiting = reading.next()
        waiting.cancel()
        self.failure(waiting, CancelledError)
        self.assertEqual(self.asked()[-1], Cancel(id=1))

    def test_cancel_collect(self) -> None:
        """To cancel a collection breaks the list off."""
        found = self.session.list(b"/d").collect()
        found.cancel()
        self.failure(found, CancelledError)
        self.assertEqual(self.asked()[-1], Cancel(id=1))

    def test_unread(self) -> None:
        """A list that nobody reads makes the server wait; when it is read, it goes on."""
        reading = self.session.list(b"/d")
        self.answer(*(entries(1, b"%d" % number) for number in range(100)), Done(id=1))
        self.assertFalse(self.pairs[0].client.reading)
        self.assertLess(reading._unread, 10)
        found = reading.collect()
        self.flush()
        self.assertEqual(len(self.successResultOf(found)), 100)
        self.assertTrue(self.pairs[0].client.reading)

    def test_unread_while_asked(self) -> None:
        """Who asks something else while a list waits is answered, and finds the list afterwards."""
        reading = self.session.list(b"/d")
        self.answer(*(entries(1, b"%d" % number) for number in range(50)))
        self.assertFalse(self.pairs[0].client.reading)
        asked = self.session.stat(b"/d/1")
        self.answer(Done(id=2, facts=facts(1)), Done(id=1))
        self.successResultOf(asked)
        found = reading.collect()
        self.flush()
        self.assertEqual(len(self.successResultOf(found)), 50)

    def test_unread_too_many(self) -> None:
        """What waits to be read while other things are open has a limit; then the list fails."""
        self.patch(listing, "MAX_UNREAD", 20)
        reading, asked = self.session.list(b"/d"), self.session.stat(b"/a")
        self.answer(*(entries(1, b"%d" % number) for number in range(30)))
        self.failure(reading.next(), LimitExceeded)
        self.assertEqual(self.asked()[-1], Cancel(id=1))
        self.answer(Failed(id=1, code="conflict", message="x"), Done(id=2, facts=facts(1)))
        self.successResultOf(asked)
        self.assertTrue(self.session.isOpen)

    def test_closed_unread(self) -> None:
        """A list that is given up lets the session read on."""
        reading = self.session.list(b"/d")
        self.answer(*(entries(1, b"%d" % number) for number in range(50)))
        self.assertFalse(self.pairs[0].client.reading)
        reading.close()
        self.answer(Failed(id=1, code="conflict", message="x"))
        self.assertTrue(self.pairs[0].client.reading)
        self.assertEqual(self.session.load, 0)

    def test_lost_unread(self) -> None:
        """A session that ends while a list was not read tells it, after what has come."""
        reading = self.session.list(b"/d")
        self.answer(*(entries(1, b"%d" % number) for number in range(50)))
        self.session.close()
        for _ in range(listing.MAX_BATCHES):
            self.successResultOf(reading.next())
        self.failure(reading.next(), ConnectionFailed)


class InterleavingTests(ClientTestCase):
    """Questions and lists, answered in any order, cancelled at any time."""

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=40))
    def test_any(self, acts: list[tuple[int, int]]) -> None:
        """Every request ends once, with its own answer, and the session goes on."""
        self.setUp()
        asked: dict[int, tuple[Deferred[Any], list[Any]]] = {}
        open: list[int] = []
        last = 0
        for act, which in acts:
            if act <= 1:
                last += 1
                list_ = act == 1
                question: Deferred[Any] = (
                    self.session.list(b"/d").collect() if list_ else self.session.stat(b"/a")
                )
                results: list[Any] = []
                question.addBoth(results.append)
                asked[last] = question, results
                open.append(last)
            elif open:
                id = open[which % len(open)]
                isList = id in {each.id for each in self.asked() if isinstance(each, List)}
                if act == 2:
                    asked[id][0].cancel()
                elif act == 3 and isList:
                    self.answer(entries(id, b"x%d" % id))
                else:
                    open.remove(id)
                    done = Done(id=id, facts=facts(id))
                    failed = Failed(id=id, code="not-found", message="x")
                    self.answer(failed if act == 4 else done)
        self.assertTrue(self.session.isOpen)
        self.assertEqual(self.session.load, len(open))
        self.session.close()
        for id, (_, results) in asked.items():
            self.assertEqual(len(results), 1)
            if isinstance(results[0], list):
                self.assertTrue(all(each.name == b"x%d" % id for each in results[0]))
            elif not isinstance(results[0], Failure):
                self.assertEqual(results[0].size, id)
