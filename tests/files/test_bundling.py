"""
Bundles of small files at the server: each file of one fares as if it had been asked for alone, and
none of them hurts another.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import fail
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.files.nativerig import Client, NativeCase
from tests.trust.overseen import BOB, HeldNotes, overseen
from twisted_netsuite.errors import AuditUnavailable, NetsuiteError, StorageFailed
from twisted_netsuite.files.answers import refused
from twisted_netsuite.files.capacity import MAX_GATHERED
from twisted_netsuite.files.digests import digestOf
from twisted_netsuite.files.messages import (
    BUNDLE_BYTES,
    BUNDLE_FILES,
    BUNDLE_SENTENCE,
    FRAME,
    RECORDS,
    Body,
    Bundle,
    Bundled,
    Cancel,
    Chosen,
    Commit,
    Done,
    Failed,
    Get,
    GetBundle,
    MakeDirectory,
    Offered,
    PutBundle,
    Stat,
)
from twisted_netsuite.files.names import Parts, split
from twisted_netsuite.files.native import FilesFactory
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.quota import Quotas
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.net.rates import Pace
from twisted_netsuite.trust.audit import AuditNotes
from twisted_netsuite.wire.session import SessionCodec

POLICY = """
[identities]
"cert:anna" = ["owner"]
"unix:*" = ["guest"]

[[roles.owner.files]]
actions = ["read", "write", "delete"]

[[roles.guest.files]]
paths = ["/open/**"]
actions = ["read", "write"]
"""


def offered(name: bytes, data: bytes, **told: Any) -> Offered:
    """Announce a file."""
    return Offered(name=name, size=len(data), **{"digest": digestOf(data)} | told)


class BundleCase(NativeCase):
    """A service in memory, and what is asked of it."""

    def getBundle(self, client: Client, *files: bytes | Chosen) -> int:
        """Ask for files, and let happen what does."""
        chosen = [each if isinstance(each, Chosen) else Chosen(name=each) for each in files]
        id = client.ask(GetBundle, files=tuple(chosen))
        self.settle()
        return id

    def sendBundle(
        self,
        client: Client,
        files: list[Offered],
        body: bytes,
        length: int | None = None,
        **told: Any,
    ) -> int:
        """Send files, or the first bytes of them, as they are announced."""
        client.id += 1
        record = PutBundle(id=client.id, files=tuple(files), **told)
        client.sendRecord(record)
        client.pair.client.write(body[:length])
        client.pair.flush()
        client.said()
        return client.id

    def putBundle(self, client: Client, *files: tuple[bytes, bytes], **told: Any) -> int:
        """Send whole files, and let happen what does."""
        announced = [offered(name, data) for name, data in files]
        id = self.sendBundle(client, announced, b"".join(data for _, data in files), **told)
        self.settle()
        return id

    def bundle(self, client: Client, id: int) -> tuple[Bundled, ...]:
        """Take the answer, which has just that in it."""
        bundle, done = client.all(id)
        assert isinstance(bundle, Bundle) and isinstance(done, Done), (bundle, done)
        self.assertEqual((done.facts, done.digest), (None, None))
        self.assertEqual(bundle.length, len(client.data(id)))
        return bundle.files

    def codes(self, client: Client, id: int) -> list[str | None]:
        """Tell why each file of a bundle failed."""
        found = []
        for each in self.bundle(client, id):
            self.assertEqual(each.facts is None, each.code is not None)
            self.assertEqual(bool(each.message), each.code is not None)
            found.append(each.code)
        return found

    def facts(self, client: Client, name: bytes) -> Any:
        """Tell what the service says of a file."""
        return client.last(client.ask(Stat, name=name), Done).facts

    def refusing(self, names: dict[Parts, Callable[[], Any]], verb: str) -> None:
        """Let the store do something else for some names."""
        real = getattr(self.store, verb)

        def do(parts: Parts, *told: Any) -> Any:
            return names[parts]() if parts in names else real(parts, *told)

        self.patch(self.store, verb, do)


def raising(error: Exception) -> Callable[[], None]:
    """Make what fails."""

    def fails() -> None:
        raise error

    return fails


class GetTests(BundleCase):
    """Files that are fetched."""

    def test_order(self) -> None:
        """Files come in the order in which they were asked for, one behind the other, each with
        what it is and its digest; one that is asked for twice comes twice."""
        files = {b"/b": b"two", b"/a": b"", b"/c": bytes(70_000), b"/d": b"x"}
        for name, data in files.items():
            self.keep(name, data)
        client = self.connect()
        names = [*files, b"/b"]
        id = self.getBundle(client, *names)
        found = self.bundle(client, id)
        self.assertEqual(client.data(id), b"".join(files[name] for name in names))
        for each, name in zip(found, names, strict=True):
            self.assertEqual(each.digest, digestOf(files[name]))
            self.assertEqual(each.facts, self.facts(client, name))
            self.assertIsNone(each.code)

    def test_empty(self) -> None:
        """Where no file has a byte, none follows, and the session goes on."""
        self.keep(b"/a", b"")
        client = self.connect()
        id = self.getBundle(client, b"/a", b"/a")
        self.assertEqual(self.codes(client, id), [None, None])
        self.assertEqual(client.data(id), b"")
        self.facts(client, b"/a")

    def test_others(self) -> None:
        """A file that is missing, no file, without a possible name, or of another version than was
        asked for is so for itself; what is around it comes."""
        self.keep(b"/f", b"right")
        self.keep(b"/g", b"also")
        self.store.makeDirectory((b"d",), None, False)
        client = self.connect()
        version = self.facts(client, b"/f").version
        id = self.getBundle(
            client,
            Chosen(name=b"/f", version=version),
            b"/none",
            b"/d",
            b"/../f",
            b"/a\0b",
            b"/.netsuite-partial-x",
            Chosen(name=b"/f", version=bytes(16)),
            b"/g",
        )
        self.assertEqual(
            self.codes(client, id),
            [None, "not-found", "denied", *["invalid-name"] * 3, "source-changed", None],
        )
        self.assertEqual(client.data(id), b"rightalso")
        self.assertIn("/none", self.bundle(client, id)[1].message)

    def test_log(self) -> None:
        """What is refused is in the service's log, each file by itself, with who asked."""
        self.keep(b"/f", b"x")
        client = self.connect()
        with capturedLogs() as logged:
            self.getBundle(client, b"/none", b"/f", b"/../g")
            self.putBundle(client, (b"/none/a", b"x"))
        refused = [each for each in logged if "refused" in str(each["log_format"])]
        self.assertEqual([each["peer"] for each in refused], [client.server.peer] * 3)
        for each, why in zip(refused, ("/none", "..", "/none"), strict=True):
            self.assertIn(why, each["cause"])

    def test_room(self) -> None:
        """Files that have just the bytes that there may be come all; where there is one byte more,
        of what does not fit any more it is told what it is, and what fits still comes."""
        self.keep(b"/a", bytes(BUNDLE_BYTES - 5))
        self.keep(b"/b", b"12345")
        self.keep(b"/c", b"123456")
        client = self.connect()
        id = self.getBundle(client, b"/a", b"/b")
        self.assertEqual([each.digest is None for each in self.bundle(client, id)], [False, False])
        self.assertEqual(len(client.data(id)), BUNDLE_BYTES)
        id = self.getBundle(client, b"/a", b"/c", b"/b")
        large = self.bundle(client, id)[1]
        self.assertEqual((large.facts, large.digest), (self.facts(client, b"/c"), None))
        self.assertEqual(client.data(id), bytes(BUNDLE_BYTES - 5) + b"12345")

    def test_changing(self) -> None:
        """Of one that changes while it is read nothing comes but what it is, so that it is asked
        for again; it is closed."""
        for name in (b"/a", b"/b", b"/c"):
            self.keep(name, name)
        opened = self.store.source
        self.refusing({(b"b",): lambda: opened((b"b",))}, "readWhole")
        client = self.connect()
        id = self.getBundle(client, b"/a", b"/b", b"/c")
        self.assertEqual([each.digest is None for each in self.bundle(client, id)], [0, 1, 0])
        self.assertEqual(client.data(id), b"/a/c")
        self.assertEqual(self.store.opened, self.store.closed)

    def test_failing(self) -> None:
        """A disk that fails for one file fails for no other; neither does a fault of the service,
        of which the client is told no more than that, and the log all."""
        for name in (b"/a", b"/b", b"/c", b"/d"):
            self.keep(name, name)
        broken: dict[Parts, Callable[[], Any]] = {
            (b"b",): raising(StorageFailed("The disk is broken.")),
            (b"c",): raising(ZeroDivisionError("secret")),
        }
        self.refusing(broken, "readWhole")
        client = self.connect()
        id = self.getBundle(client, b"/a", b"/b", b"/c", b"/d")
        self.assertEqual(self.codes(client, id), [None, "storage", "internal", None])
        self.assertNotIn("secret", self.bundle(client, id)[2].message)
        self.assertEqual(client.data(id), b"/a/d")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_longest(self) -> None:
        """A record of as many files as there may be fits into a frame, also when none of them is
        there, and their names have the longest characters."""
        client = self.connect()
        part = "\U0001f4be".encode() * 63
        names = [b"/%s/%s/%s/%03d" % (part, part, part, number) for number in range(BUNDLE_FILES)]
        bad = [b"/../%s/%s/%s/%03d" % (part, part, part, n) for n in range(BUNDLE_FILES)]
        for asked in (names, bad):
            id = self.getBundle(client, *asked)
            files = self.bundle(client, id)
            self.assertEqual(len(files), BUNDLE_FILES)
            self.assertLessEqual(max(len(each.message) for each in files), BUNDLE_SENTENCE)

    def test_cancelled(self) -> None:
        """CANCEL changes nothing: what is answered is answered once, with all its bytes."""
        self.keep(b"/a", b"x")
        client = self.connect()
        client.said = lambda: None
        id = client.ask(GetBundle, files=(Chosen(name=b"/a"),))
        client.say(Cancel(id=id))
        self.settle()
        self.assertEqual(self.codes(client, id), [None])
        client.say(Cancel(id=id))
        behind = client.ask(Stat, name=b"/a")
        self.settle()
        client.last(behind, Done)
        self.assertEqual(client.server._cancelled, set())

    def test_pace(self) -> None:
        """What follows a bundle waits until its bytes are paid for."""
        self.serve(Pace(self.clock, 50_000))
        for name in (b"/a", b"/b"):
            self.keep(name, bytes(100_000))
        client = self.connect()
        first = self.getBundle(client, b"/a", b"/b")
        self.assertEqual(client.kinds(first), ["Bundle", "Done"])
        second = self.getBundle(client, b"/a")
        self.assertEqual(client.kinds(second), [])
        begun = self.clock.seconds()
        while not client.kinds(second):
            self.clock.advance(0.25)
            self.settle()
            self.assertLess(self.clock.seconds(), begun + 10)
        self.assertGreater(self.clock.seconds() - begun, 2.5)

    def test_stalled(self) -> None:
        """Of bundles that a client does not take no more is in memory than is on its way and one
        that is read meanwhile, however many it has asked for; all come once it takes them."""
        self.keep(b"/a", bytes(BUNDLE_BYTES))
        client = self.connect()
        client.pair.client.pauseProducing()
        ids = range(1, 41)
        client.say(*(GetBundle(id=id, files=(Chosen(name=b"/a"),)) for id in ids))
        self.settle()
        self.assertLessEqual(len(self.store.looked), 3)
        client.pair.client.resumeProducing()
        self.settle()
        self.assertEqual([client.kinds(id) for id in ids], [["Bundle", "Done"]] * len(ids))

    def test_stalledAndLost(self) -> None:
        """However many wait for a client that takes nothing, they end with it, and unread."""
        self.keep(b"/a", bytes(BUNDLE_BYTES))
        client = self.connect()
        client.pair.client.pauseProducing()
        client.say(*(GetBundle(id=id, files=(Chosen(name=b"/a"),)) for id in range(1, 1001)))
        self.settle()
        client.reset()
        self.settle()
        self.assertLessEqual(len(self.store.looked), 3)

    def test_stopped(self) -> None:
        """Where there is no thread any more the request fails, and what fails is in the log."""
        self.keep(b"/a", b"x")
        client = self.connect()
        self.patch(self.disk, "run", lambda *told: fail(RuntimeError("no threads")))
        id = self.getBundle(client, b"/a")
        self.assertEqual(client.last(id, Failed).code, "internal")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class PutTests(BundleCase):
    """Files that are sent."""

    def test_order(self) -> None:
        """Each file gets its own bytes, time and mode; its answer says what it is now. Of one that
        comes twice the last stays."""
        client = self.connect()
        files = [
            (b"/b", b"two"),
            (b"/a", b""),
            (b"/c", bytes(70_000)),
            (b"/d", b"old"),
            (b"/d", b"x"),
        ]
        announced = [
            offered(name, data, mtime=1_000 + number, mode=0o600 + number)
            for number, (name, data) in enumerate(files)
        ]
        id = self.sendBundle(client, announced, b"".join(data for _, data in files))
        found = self.bundle(client, id)
        for name, data in dict(files).items():
            self.assertEqual(self.kept(name), data)
        for number, (each, (name, data)) in enumerate(zip(found, files, strict=True)):
            assert each.facts is not None
            self.assertEqual(each.digest, digestOf(data))
            self.assertEqual(
                (each.facts.size, each.facts.mtime, each.facts.mode),
                (len(data), 1_000 + number, 0o600 + number),
            )
            if number != 3:
                self.assertEqual(each.facts, self.facts(client, name))

    def test_empty(self) -> None:
        """Files without a byte are there at once, and what follows the request is the next."""
        client = self.connect()
        id = self.putBundle(client, (b"/a", b""), (b"/b", b""))
        self.assertEqual(self.codes(client, id), [None, None])
        self.assertEqual((self.kept(b"/a"), self.kept(b"/b")), (b"", b""))
        self.facts(client, b"/a")

    def test_usual(self) -> None:
        """What is told neither time nor mode gets those that a PUT gives."""
        client = self.connect()
        self.putBundle(client, (b"/a", b"x"))
        client.small(b"/b", b"x")
        self.assertEqual(self.facts(client, b"/a").mode, self.facts(client, b"/b").mode)
        self.assertGreater(self.facts(client, b"/a").mtime, 10**18)

    def test_others(self) -> None:
        """A file that has no directory, no possible name, that would replace a directory, or that
        came wrong is refused for itself; the bytes of the others are theirs."""
        self.keep(b"/bad", b"old")
        self.store.makeDirectory((b"d",), None, False)
        client = self.connect()
        files = [
            offered(b"/a", b"first"),
            offered(b"/none/b", b"second"),
            offered(b"/../c", b"third"),
            offered(b"/d", b"fourth"),
            offered(b"/bad", b"fifth", digest=digestOf(b"other")),
            offered(b"/e", b"sixth"),
        ]
        id = self.sendBundle(client, files, b"firstsecondthirdfourthfifthsixth")
        self.assertEqual(
            self.codes(client, id),
            [None, "not-found", "invalid-name", "conflict", "corrupted", None],
        )
        kept = [self.kept(name) for name in (b"/a", b"/bad", b"/e")]
        self.assertEqual(kept, [b"first", b"old", b"sixth"])
        self.assertEqual(self.store.used, len(b"firstoldsixth"))

    def test_clobber(self) -> None:
        """Without C{clobber} nothing is replaced, not even by the same bundle."""
        self.keep(b"/a", b"old")
        client = self.connect()
        id = self.putBundle(client, (b"/a", b"new"), (b"/b", b"1"), (b"/b", b"2"), clobber=False)
        self.assertEqual(self.codes(client, id), ["conflict", None, "conflict"])
        self.assertEqual((self.kept(b"/a"), self.kept(b"/b")), (b"old", b"1"))
        self.assertEqual(self.codes(client, self.putBundle(client, (b"/a", b"new"))), [None])
        self.assertEqual(self.kept(b"/a"), b"new")

    def test_tooMuch(self) -> None:
        """Bundles of just the bytes that there may be come; one more ends the session before any of
        it comes."""
        client = self.connect()
        half = bytes(BUNDLE_BYTES // 2)
        self.assertEqual(
            self.codes(client, self.putBundle(client, (b"/a", half), (b"/b", half))), [None] * 2
        )
        files = [offered(b"/c", half), offered(b"/d", half + b"x")]
        self.sendBundle(client, files, b"")
        self.assertIn(str(BUNDLE_BYTES + 1), client.why())
        self.assertIn(str(BUNDLE_BYTES), client.why())
        self.assertIsNone(self.kept(b"/c"))

    def test_many(self) -> None:
        """However many come over a session, what has come whole is no more what waits for its end:
        nothing of that adds up."""
        client = self.connect()
        for _ in range(MAX_GATHERED // BUNDLE_BYTES + 2):
            id = self.putBundle(client, (b"/a", bytes(BUNDLE_BYTES)))
            self.assertEqual(self.codes(client, id), [None])
        self.assertEqual((client.closed, client.server._inflow._gathered), ([], 0))

    def test_pieces(self) -> None:
        """However the bytes are cut on their way, they are the same files."""
        for size in (1, 2, 7, 1000):
            client = self.connect()
            files = [(b"/a", b"one"), (b"/b", b"two" * 300), (b"/c", b"")]
            client.id += 1
            announced = tuple(offered(name, data) for name, data in files)
            body = b"".join(data for _, data in files)
            record = PutBundle(id=client.id, files=announced)
            client.sendBody(record, body).addErrback(lambda failure: None)
            client.pair.flush(size)
            self.settle()
            self.assertEqual(self.codes(client, client.id), [None] * 3)
            self.assertEqual([self.kept(name) for name, _ in files], [data for _, data in files])

    def test_failing(self) -> None:
        """A disk that is full for one file, and a fault of the service at another, leave no trace
        of these two, and the others come."""
        self.keep(b"/b", b"old")
        broken: dict[Parts, Callable[[], Any]] = {
            (b"b",): raising(StorageFailed("The disk is full.")),
            (b"c",): raising(ZeroDivisionError("secret")),
        }
        self.refusing(broken, "publishWhole")
        client = self.connect()
        id = self.putBundle(client, *((b"/" + name, name) for name in (b"a", b"b", b"c", b"d")))
        self.assertEqual(self.codes(client, id), [None, "storage", "internal", None])
        self.assertNotIn("secret", self.bundle(client, id)[2].message)
        kept = [self.kept(name) for name in (b"/a", b"/b", b"/c", b"/d")]
        self.assertEqual(kept, [b"a", b"old", None, b"d"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stopped(self) -> None:
        """Where there is no thread any more all fail, and nothing is there."""
        client = self.connect()
        self.patch(self.disk, "run", lambda *told: fail(RuntimeError("no threads")))
        id = self.putBundle(client, (b"/a", b"x"))
        self.assertEqual(client.last(id, Failed).code, "internal")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertIsNone(self.kept(b"/a"))

    def test_between(self) -> None:
        """A directory that is asked for before is there for the files, and what is asked behind
        them finds them, though nobody waits for anything."""
        client = self.connect()
        client.said = lambda: None
        made = client.ask(MakeDirectory, name=b"/d")
        put = self.sendBundle(client, [offered(b"/d/a", b"x")], b"x")
        seen = client.ask(Stat, name=b"/d/a")
        got = client.ask(GetBundle, files=(Chosen(name=b"/d/a"),))
        one = client.ask(Get, name=b"/d/a")
        self.settle()
        client.last(made, Done)
        self.assertEqual(self.codes(client, put), [None])
        facts = client.last(seen, Done).facts
        self.assertEqual(self.bundle(client, got)[0].facts, facts)
        self.assertEqual((client.data(got), client.data(one)), (b"x", b"x"))

    def test_pace(self) -> None:
        """Bytes are taken no faster than the pace."""
        self.serve(Pace(self.clock, 50_000))
        client = self.connect()
        self.putBundle(client, (b"/a", bytes(100_000)), (b"/b", bytes(100_000)))
        behind = client.ask(Stat, name=b"/a")
        begun = self.clock.seconds()
        while not client.kinds(behind):
            self.clock.advance(0.25)
            self.settle()
            self.assertLess(self.clock.seconds(), begun + 10)
        self.assertGreater(self.clock.seconds() - begun, 2.5)

    def test_durable(self) -> None:
        """Files are durable where the client asks for it, or the service says so."""
        for service, asked in ((False, False), (False, True), (True, False), (True, True)):
            self.stop()
            roots = Roots("/r", lambda path: self.store)
            permit = Permit(overseen(None), roots, writable=True, durable=service)
            self.factory = FilesFactory(self.clock, permit, disk=self.disk)
            opened = self.factory.open()
            self.settle()
            self.successResultOf(opened)
            self.store.wanted.clear()
            client = self.connect()
            id = self.putBundle(client, (b"/a", b"x"), (b"/b", b"y"), durable=asked)
            self.assertEqual(self.codes(client, id), [None] * 2)
            self.assertEqual([each.durable for each in self.store.wanted], [service or asked] * 2)
            self.assertEqual([each.source for each in self.store.wanted], [None] * 2)

    def test_readOnly(self) -> None:
        """Of a service that may not be written to each file is refused, and none is there."""
        self.serve(writable=False)
        client = self.connect()
        id = self.putBundle(client, (b"/a", b"x"), (b"/b", b""))
        self.assertEqual(self.codes(client, id), ["denied"] * 2)
        self.assertEqual(self.store.wanted, [])


class EndTests(BundleCase):
    """What happens while it is under way."""

    slow = True

    def test_cancelled(self) -> None:
        """CANCEL while files are written comes too late: they are published, and that is said
        once."""
        client = self.connect()
        id = self.sendBundle(client, [offered(b"/a", b"x")], b"x")
        self.move()
        client.say(Cancel(id=id))
        client.say(Cancel(id=id))
        self.assertEqual(client.kinds(id), [])
        self.settle()
        self.assertEqual(self.codes(client, id), [None])
        self.assertEqual((self.kept(b"/a"), client.closed), (b"x", []))

    def test_within(self) -> None:
        """Nothing else belongs to a bundle: it ends the session, and names itself."""
        for record in (
            Body(id=1, index=0, length=0, digest=bytes(32)),
            Commit(id=1, digest=bytes(32)),
        ):
            client = self.connect()
            self.sendBundle(client, [offered(b"/a", b"x")], b"x")
            self.move()
            client.say(record)
            self.assertIn(type(record).__name__.upper(), client.why())
            self.settle()

    def test_lostWithin(self) -> None:
        """Of a bundle whose connection ends in the middle of its bytes nothing is written, not even
        the files that were there already."""
        client = self.connect()
        files = [offered(b"/a", b"one"), offered(b"/b", b"two")]
        self.sendBundle(client, files, b"onetwo", 5)
        client.reset()
        self.settle()
        self.assertEqual(self.store.wanted, [])

    def test_lostBehind(self) -> None:
        """Of one whose connection ends behind them each file is there whole, or not at all; and a
        fault then is in the log."""
        for steps in range(3):
            self.store.wanted.clear()
            client = self.connect()
            files = [(b"/a%d" % steps, b"one"), (b"/b%d" % steps, b"two")]
            self.sendBundle(client, [offered(*each) for each in files], b"onetwo")
            self.move()
            for _ in range(steps):
                self.step()
            client.reset()
            self.settle()
            kept = [self.kept(name) for name, _ in files]
            self.assertIn(kept, ([None, None], [b"one", b"two"]))

    def test_lostUnwritten(self) -> None:
        """What nobody waits for any more is not begun."""
        client = self.connect()
        self.sendBundle(client, [offered(b"/a", b"x")], b"x")
        client.ask(GetBundle, files=(Chosen(name=b"/a"),))
        self.move()
        client.reset()
        self.settle()
        self.assertEqual((self.store.wanted, self.store.opened), ([], 0))

    def test_lostWhileRead(self) -> None:
        """What is read for somebody who goes meanwhile is dropped."""
        self.keep(b"/a", b"x")
        client = self.connect()
        self.losing(client, b"a", "readWhole")
        client.ask(GetBundle, files=(Chosen(name=b"/a"), Chosen(name=b"/a")))
        self.settle()
        self.assertEqual((self.store.opened, self.store.closed), (2, 2))

    def test_lostWhileWritten(self) -> None:
        """A file that is written for somebody who goes meanwhile is there, and so it is in the
        audit log; so are the others of its bundle. A fault then is in the service's log."""
        client = self.connect()
        self.losing(client, b"a", "publishWhole")
        self.putBundle(client, (b"/a", b"x"), (b"/b", b"y"))
        self.assertEqual((self.kept(b"/a"), self.kept(b"/b")), (b"x", b"y"))
        written = [each["path"] for each in self.notes.records if each["event"] == "files.write"]
        self.assertEqual(written, [b"/a", b"/b"])
        client = self.connect()
        self.sendBundle(client, [offered(b"/c", b"x")], b"x")
        self.move()
        self.patch(client.server, "_stored", lambda *told: 1 / 0)
        self.losing(client, b"c", "publishWhole")
        self.settle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def losing(self, client: Client, name: bytes, verb: str) -> None:
        """Let a client go while the disk does something for it."""
        real = getattr(self.store, verb)

        def do(parts: Parts, *told: Any) -> Any:
            if parts == (name,):
                client.pair.client.abortConnection()
                client.pair.flush()
            return real(parts, *told)

        self.patch(self.store, verb, do)

    def test_goodbye(self) -> None:
        """What is open when a client says GOODBYE is finished, and then the session is over."""
        self.keep(b"/a", b"x")
        client = self.connect()
        got = client.ask(GetBundle, files=(Chosen(name=b"/a"),))
        put = self.sendBundle(client, [offered(b"/b", b"y")], b"y")
        client.leave("Enough.")
        self.settle()
        self.assertEqual((self.codes(client, got), self.codes(client, put)), ([None], [None]))
        self.assertEqual((client.closed, self.kept(b"/b")), ([None], b"y"))


class PolicyTests(BundleCase):
    """A policy decides on each file."""

    policy = POLICY

    def test_denied(self) -> None:
        """What is not allowed is refused in the same words whether or not it is there, is in the
        audit log, and hurts nothing else."""
        self.store.makeDirectory((b"open",), None, False)
        self.keep(b"/open/a", b"x")
        self.keep(b"/shut", b"y")
        client = self.connect(BOB)
        got = self.getBundle(client, b"/open/a", b"/shut", b"/none", b"/open/a")
        self.assertEqual(self.codes(client, got), [None, "denied", "denied", None])
        _, there, missing, _ = self.bundle(client, got)
        self.assertEqual(there.message.replace("shut", "none"), missing.message)
        put = self.putBundle(client, (b"/shut", b"new"), (b"/open/b", b"z"))
        self.assertEqual(self.codes(client, put), ["denied", None])
        self.assertEqual((self.kept(b"/shut"), self.kept(b"/open/b")), (b"y", b"z"))
        denied = [e["path"] for e in self.notes.records if e["event"].endswith(".denied")]
        self.assertEqual(denied, [b"/shut", b"/none", b"/shut"])

    def test_audit(self) -> None:
        """Each file is in the audit log by its name, before and after it is written, and then with
        its digest; one that is not written has no record that it was."""
        self.keep(b"/a", b"x")
        client = self.connect()
        self.notes.records.clear()
        self.getBundle(client, b"/a", b"/none")
        self.putBundle(client, (b"/b", b"1"), (b"/none/c", b"2"), (b"/d", b"3"))
        found = [(each["event"], each["path"]) for each in self.notes.records]
        self.assertEqual(
            found,
            [
                ("files.read", b"/a"),
                ("files.read", b"/none"),
                ("files.write.start", b"/b"),
                ("files.write.start", b"/none/c"),
                ("files.write.start", b"/d"),
                ("files.write", b"/b"),
                ("files.write", b"/d"),
            ],
        )
        digests = [each["digest"] for each in self.notes.records if each["event"] == "files.write"]
        self.assertEqual(digests, [digestOf(b"1").hex(), digestOf(b"3").hex()])

    def test_unavailable(self) -> None:
        """Where the audit log cannot be written nothing is done."""
        self.keep(b"/a", b"x")
        client = self.connect()
        self.notes.failure = AuditUnavailable("The log is full.")
        self.store.wanted.clear()
        opened = self.store.opened
        for id in (self.getBundle(client, b"/a"), self.putBundle(client, (b"/b", b"y"))):
            self.assertEqual(self.codes(client, id), ["audit-unavailable"])
        self.assertEqual((self.store.opened, self.store.wanted), (opened, []))


class HeldTests(BundleCase):
    """An audit log whose disk is slow."""

    policy = POLICY

    def makeNotes(self) -> AuditNotes:
        self.held = HeldNotes()
        return self.held

    def test_before(self) -> None:
        """Nothing is opened or written before all of it is in the audit log."""
        self.keep(b"/a", b"x")
        self.store.wanted.clear()
        client = self.connect()
        got, put = self.getBundle(client, b"/a"), self.putBundle(client, (b"/b", b"y"))
        self.assertEqual((self.store.opened, self.store.wanted), (0, []))
        self.held.let()
        self.settle()
        self.assertEqual((self.codes(client, got), self.codes(client, put)), ([None], [None]))

    def test_lost(self) -> None:
        """Whose client is gone before is not carried out."""
        self.keep(b"/a", b"x")
        self.store.wanted.clear()
        client = self.connect()
        self.getBundle(client, b"/a")
        self.putBundle(client, (b"/b", b"y"))
        client.reset()
        self.held.let()
        self.settle()
        self.assertEqual((self.store.opened, self.store.wanted), (0, []))


class QuotaTests(BundleCase):
    """Each file counts."""

    policy = POLICY.replace('"delete"]', '"delete"]\nquota = 10\nfile-quota = 3\nmax-size = 8')

    def serve(self, pace: Pace | None = None, writable: bool = True) -> None:
        path = os.path.abspath(self.mktemp())
        self.quotas = Quotas(path)
        permit = Permit(
            overseen(self.policy, self.notes, "files"),
            Roots("/r", lambda path: self.store),
            quotas=self.quotas,
        )
        self.factory = FilesFactory(self.clock, permit, disk=self.disk)
        opened = self.factory.open()
        self.settle()
        self.successResultOf(opened)

    def test_each(self) -> None:
        """A file beyond what its owner may keep, or too large, is refused, and a smaller one behind
        it has its room; so has what is written once the first is gone."""
        client = self.connect()
        id = self.putBundle(
            client,
            (b"/a", b"12345678"),
            (b"/b", b"123"),
            (b"/big", b"123456789"),
            (b"/c", b"12"),
            (b"/d", b""),
            (b"/e", b""),
        )
        self.assertEqual(self.codes(client, id), [None, "limit", "limit", None, None, "limit"])
        self.assertEqual(self.codes(client, self.putBundle(client, (b"/a", b"1"))), [None])
        self.assertEqual(
            self.codes(client, self.putBundle(client, (b"/c", b"123456789"[:8]))), [None]
        )

    def test_failing(self) -> None:
        """What was not published takes nothing of it."""
        client = self.connect()
        self.store.failure = StorageFailed("The disk is full.")
        for _ in range(3):
            id = self.putBundle(client, (b"/a", b"12345678"))
            self.assertEqual(self.codes(client, id), ["storage"])
        self.store.failure = None
        self.assertEqual(self.codes(client, self.putBundle(client, (b"/b", b"12345678"))), [None])


#: Sizes of files, and what is wrong with each, if anything.
FILES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 1000, 65_536, 100_000]),
        st.sampled_from(["right", "right", "wrong", "nowhere", "bad"]),
    ),
    min_size=1,
    max_size=10,
)
CODES = {"right": None, "wrong": "corrupted", "nowhere": "not-found", "bad": "invalid-name"}


class MixTests(BundleCase):
    """Any bundles."""

    slow = True

    @settings(max_examples=40, deadline=None)
    @given(st.lists(FILES, min_size=1, max_size=4), st.integers(0, 2**32))
    def test_any(self, bundles: list[list[tuple[int, str]]], seed: int) -> None:
        """Whatever is wrong with files of a bundle, and however many bundles are under way, the
        others are published, and come back as they were sent."""
        choice = self.disk._random = random.Random(seed)
        client = self.connect()
        put: list[int] = []
        wanted: list[dict[bytes, tuple[bytes, str]]] = []
        for number, files in enumerate(bundles):
            wanted.append({})
            announced = []
            for index, (size, what) in enumerate(files):
                name = {"nowhere": b"/none", "bad": b"/.."}.get(what, b"") + b"/%d-%d" % (
                    number,
                    index,
                )
                data = choice.randbytes(size)
                wanted[-1][name] = data, what
                digest = bytes(32) if what == "wrong" else digestOf(data)
                announced.append(offered(name, data, digest=digest))
            body = b"".join(data for data, _ in wanted[-1].values())
            put.append(self.sendBundle(client, announced, body))
            if choice.random() < 0.5:
                self.step()
        got = [client.ask(GetBundle, files=tuple(Chosen(name=n) for n in each)) for each in wanted]
        self.settle()
        for putting, getting, sent in zip(put, got, wanted, strict=True):
            codes = [CODES[what] for _, what in sent.values()]
            self.assertEqual(self.codes(client, putting), codes)
            there = ["not-found" if code == "corrupted" else code for code in codes]
            self.assertEqual(self.codes(client, getting), there)
            right = [data for data, what in sent.values() if what == "right"]
            self.assertEqual(client.data(getting), b"".join(right))
            for name, (_, what) in sent.items():
                if what == "right":
                    self.store.remove(split(name))
        client.reset()
        self.settle()
        self.clients.clear()


class SizeTests(SynchronousTestCase):
    """The record of an answer."""

    def test_sentences(self) -> None:
        """As many refusals as there may be fit into a frame, whatever is in their sentences."""

        class Longest(NetsuiteError):
            wireCode = "x" * 32

        each = refused(Longest("\U0001f4be" * 1000))
        record = Bundle(id=2**31 - 1, files=(each,) * BUNDLE_FILES)
        self.assertLessEqual(len(SessionCodec(RECORDS).encode(record)), FRAME)
