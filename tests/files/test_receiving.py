"""
Files that clients put: what is published is what was sent, whatever else comes, and of what was
broken off nothing stays open.
"""

from __future__ import annotations

from tests.files.nativerig import BIG, Client, NativeCase, digestOfAll, pieces
from tests.trust.overseen import ANNA, BOB
from twisted_netsuite.files import receiving, uploads
from twisted_netsuite.files.capacity import MAX_GATHERED, MAX_WAITING
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.disk import STEP
from twisted_netsuite.files.messages import Cancel, Commit, Done, Failed, Have, Holes, Join, Put
from twisted_netsuite.files.receiving import HOLES_WEIGHT, MAX_SILENCE
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.files.uploads import MAX_FILE, Upload

SERVICE_FAILED = "The service failed; its log says why."


class PutTests(NativeCase):
    """Files in chunks."""

    def test_whole(self) -> None:
        """What was sent is there, DONE has its digest, and before COMMIT nothing is there."""
        client = self.connect()
        for data in (b"", b"x", bytes(CHUNK), BIG):
            id = self.putting(client, b"/f", data)
            for index, piece in reversed(list(enumerate(pieces(data)))):
                client.chunk(id, index, piece)
            self.assertIsNone(self.kept(b"/f"))
            client.say(Commit(id=id, digest=digestOfAll(data)))
            self.assertEqual(client.last(id, Done).digest, digestOfAll(data))
            self.assertEqual(self.kept(b"/f"), data)
            self.store.remove((b"f",))
        self.assertEqual(client.server._exchanges, {})

    def test_wrong(self) -> None:
        """A chunk, or a file, that is not what its digest says is never published."""
        client = self.connect()
        id = self.putting(client, b"/f", b"abc")
        client.chunk(id, 0, b"abc", bytes(32))
        self.assertEqual(client.last(id, Failed).code, "corrupted")
        client.chunk(id, 0, b"abc")
        client.say(Commit(id=id, digest=digestOf(b"abc")))
        self.assertEqual(client.server._exchanges, {})
        id = self.putting(client, b"/f", b"abc")
        client.chunk(id, 0, b"abc")
        client.say(Commit(id=id, digest=bytes(32)))
        self.assertEqual(client.last(id, Failed).code, "corrupted")
        self.assertIsNone(self.kept(b"/f"))
        self.assertEqual(client.closed, [])

    def test_early(self) -> None:
        """COMMIT before all chunks fails, and what came is gone on with."""
        client = self.connect()
        id = self.putting(client, b"/f", BIG, source=b"s")
        client.chunk(id, 1, pieces(BIG)[1])
        client.say(Commit(id=id, digest=digestOfAll(BIG)))
        self.assertEqual(client.last(id, Failed).code, "corrupted")
        id = self.putting(client, b"/f", BIG, source=b"s")
        self.assertEqual(client.kinds(id), ["Have", "Ready"])
        self.assertEqual(client.all(id)[0].index, 1)

    def test_keptAfterCommit(self) -> None:
        """FAILED after COMMIT tells whether what has come is kept for another try."""
        client = self.connect()
        self.store.publishWhole((b"f",), Wanted(1, durable=False), b"x")
        for source, kept in ((b"s", True), (None, False)):
            id = self.putting(client, b"/g", BIG, source=source)
            for index, piece in enumerate(pieces(BIG)):
                client.chunk(id, index, piece)
            self.store.makeDirectory((b"g",), None, False)
            client.say(Commit(id=id, digest=digestOfAll(BIG)))
            failed = client.last(id, Failed)
            self.assertEqual((failed.code, failed.kept), ("conflict", kept))
            self.store.remove((b"g",))

    def test_cameBack(self) -> None:
        """A client that comes back, while its first connection is dead and nobody knows that, goes
        on with what had come; what still comes over the first one then is refused by name."""
        dead, client = self.connect(ANNA), self.connect(ANNA)
        old = self.putting(dead, b"/f", BIG, source=b"s")
        dead.chunk(old, 0, pieces(BIG)[0])
        new = self.putting(client, b"/f", BIG, source=b"s")
        self.assertEqual(client.kinds(new), ["Have", "Ready"])
        for index in (1, 2):
            client.chunk(new, index, pieces(BIG)[index])
        dead.chunk(old, 1, pieces(BIG)[1])
        failed = dead.last(old, Failed)
        self.assertEqual((failed.code, failed.kept), ("conflict", False))
        self.assertIn("was begun once more from the same source", failed.message)
        client.say(Commit(id=new, digest=digestOfAll(BIG)))
        client.last(new, Done)
        self.assertEqual(self.kept(b"/f"), BIG)
        dead.say(Cancel(id=old))
        self.assertEqual(dead.server._exchanges, {})

    def test_share(self) -> None:
        """Who takes all of its share leaves others theirs."""
        self.patch(uploads, "MAX_EACH", 2)
        anna, bob = self.connect(ANNA), self.connect(BOB)
        for name in (b"/a", b"/b"):
            self.putting(anna, name, BIG)
        id = anna.put(b"/c", BIG)
        self.assertIn("from one identity", anna.last(id, Failed).message)
        self.putting(bob, b"/c", BIG)

    def test_noDigest(self) -> None:
        """COMMIT of a whole file without its digest fails by name."""
        client = self.connect()
        id = self.putting(client, b"/f", b"")
        client.say(Commit(id=id))
        self.assertEqual(client.last(id, Failed).code, "protocol")

    def test_lengths(self) -> None:
        """A chunk that the file cannot have ends the session, and names itself."""
        for index, length in ((0, 2), (0, 4), (1, 3), (7, 3)):
            client = self.connect()
            id = self.putting(client, b"/f", b"abc")
            client.part(id, index, b"", length)
            self.assertIn(f"BODY {index} of {length} bytes", client.why())

    def test_holesBehind(self) -> None:
        """Holes behind the end end the session."""
        client = self.connect()
        id = self.putting(client, b"/f", BIG)
        client.say(Holes(id=id, index=2, count=2))
        self.assertIn("HOLES 2 to 4", client.why())

    def test_holes(self) -> None:
        """Chunks that are zeros need not come."""
        client = self.connect()
        data = bytes(2 * CHUNK) + b"x"
        id = self.putting(client, b"/f", data)
        client.say(Holes(id=id, index=0, count=2))
        client.chunk(id, 2, b"x")
        client.say(Commit(id=id, digest=digestOfAll(data)))
        client.last(id, Done)
        self.assertEqual((self.kept(b"/f"), self.store.made), (data, [0, 1]))

    def test_again(self) -> None:
        """A chunk that is there may come again, and only as it is."""
        client = self.connect()
        for digest, end in ((None, Done), (bytes(32), Failed)):
            id = self.putting(client, b"/f", b"abc")
            client.chunk(id, 0, b"abc")
            client.chunk(id, 0, b"abc", digest)
            client.say(Commit(id=id, digest=digestOf(b"abc")))
            self.assertIsInstance(client.all(id)[-1], end)
        id = self.putting(client, b"/g", b"abc")
        client.chunk(id, 0, b"abc")
        client.chunk(id, 0, b"xyz")
        self.assertIn("came twice", client.last(id, Failed).message)

    def test_tooMany(self) -> None:
        """More files than a service receives are refused, opened or not."""
        self.patch(uploads, "MAX_UPLOADS", 2)
        client = self.connect()
        for name in (b"/a", b"/b"):
            self.putting(client, name, BIG)
        id = client.put(b"/c", BIG)
        self.assertEqual(client.last(id, Failed).code, "limit")
        id = client.ask(Put, name=b"/c", size=MAX_FILE + 1)
        self.assertIn(str(MAX_FILE), client.last(id, Failed).message)

    def test_refused(self) -> None:
        """What cannot be opened is told, takes no place, and is over with CANCEL or COMMIT."""
        client = self.connect()
        for last in (Cancel, Commit):
            id = client.put(b"/no/such", BIG)
            self.assertEqual(client.last(id, Failed).code, "not-found")
            self.assertEqual(list(client.server._exchanges), [id])
            client.say(Holes(id=id, index=0, count=1), last(id=id))
            client.last(id, Failed)
            self.assertEqual(client.server._exchanges, {})

    def test_faults(self) -> None:
        """A fault of the store that has no sentence is told as such, and is in the log once."""
        client = self.connect()
        self.store.failure = OSError("secret")
        id = self.putting(client, b"/f", BIG)
        client.chunk(id, 0, pieces(BIG)[0])
        self.assertEqual(client.last(id, Failed).message, SERVICE_FAILED)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        client.say(Cancel(id=id))
        id = client.small(b"/f", b"x")
        self.settle()
        self.assertEqual(client.last(id, Failed).message, SERVICE_FAILED)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(self.store.ends, ["discard", "discard"])

    def test_cancel(self) -> None:
        """CANCEL keeps what has come, or does not, as it says."""
        client = self.connect()
        for keep, source, end in ((True, b"s", "keep"), (False, b"s", "discard"), (True, None, "")):
            id = self.putting(client, b"/f", BIG, source=source)
            client.chunk(id, 0, pieces(BIG)[0])
            failed = self.cancelled(client, id, keep)
            self.assertEqual((failed.code, failed.kept), ("conflict", end == "keep"))
            self.assertEqual(self.store.ends.pop(), end or "discard")
            if end == "keep":
                id = self.putting(client, b"/f", BIG, source=b"s")
                (have, _) = client.all(id)
                assert isinstance(have, Have)
                self.assertEqual(have.digests, digestOf(pieces(BIG)[0]))
                self.cancelled(client, id, False)
                self.store.ends.clear()

    def test_unexpected(self) -> None:
        """A record that may not come now ends the session, and names itself."""
        for record, word in (
            (Put(id=1, name=b"/", size=0), "Request 1 came after 1"),
            (Commit(id=2), "COMMIT came for 2"),
            (Holes(id=2, index=0, count=1), "HOLES came for 2"),
            (Cancel(id=2), "CANCEL came for 2"),
            (Done(id=1), "sent no DONE"),
        ):
            client = self.connect()
            self.putting(client, b"/f", BIG)
            client.say(record)
            self.assertIn(word, client.why())


class JoinTests(NativeCase):
    """Files over several connections."""

    def test_join(self) -> None:
        """Another connection of the same identity brings chunks."""
        one, two = self.connect(), self.connect()
        first = self.putting(one, b"/f", BIG)
        second = two.ask(Join, upload=one.ready(first))
        self.assertEqual(two.ready(second), one.ready(first))
        for index, piece in enumerate(pieces(BIG)):
            (one if index == 1 else two).chunk(first if index == 1 else second, index, piece)
        two.say(Commit(id=second))
        self.assertIsNone(two.last(second, Done).digest)
        one.say(Commit(id=first, digest=digestOfAll(BIG)))
        one.last(first, Done)
        self.assertEqual(self.kept(b"/f"), BIG)

    def test_others(self) -> None:
        """Nobody else can join, nor anybody once it is over."""
        one, two, bob = self.connect(), self.connect(ANNA), self.connect(BOB)
        first = self.putting(one, b"/f", BIG)
        id = bob.ask(Join, upload=one.ready(first))
        self.assertEqual(bob.last(id, Failed).code, "not-found")
        self.cancelled(one, first)
        id = two.ask(Join, upload=one.ready(first))
        self.assertEqual(two.last(id, Failed).code, "not-found")

    def test_coming(self) -> None:
        """A chunk that comes over one connection fails over another, whose session lives; once the
        first is lost, it may."""
        one, two = self.connect(), self.connect()
        first = self.putting(one, b"/f", BIG)
        half = two.ask(Join, upload=one.ready(first))
        two.part(half, 0, b"x", CHUNK)
        one.say(Holes(id=first, index=0, count=1))
        self.assertEqual(one.last(first, Failed).code, "conflict")
        first = self.putting(one, b"/g", BIG)
        three = self.connect()
        half = three.ask(Join, upload=one.ready(first))
        three.part(half, 0, b"x", CHUNK)
        three.reset()
        for index, piece in enumerate(pieces(BIG)):
            one.chunk(first, index, piece)
        one.say(Commit(id=first, digest=digestOfAll(BIG)))
        one.last(first, Done)
        self.assertEqual(self.kept(b"/g"), BIG)

    def test_wrongPart(self) -> None:
        """A chunk that came wrong over one connection may come right over another."""
        one, two = self.connect(), self.connect()
        first = self.putting(one, b"/f", BIG)
        second = two.ask(Join, upload=one.ready(first))
        two.chunk(second, 0, pieces(BIG)[0], bytes(32))
        self.assertEqual(two.last(second, Failed).code, "corrupted")
        for index, piece in enumerate(pieces(BIG)):
            one.chunk(first, index, piece)
        one.say(Commit(id=first, digest=digestOfAll(BIG)))
        one.last(first, Done)

    def test_over(self) -> None:
        """When the first connection is lost, the others are told, and what came is kept."""
        one, two = self.connect(), self.connect()
        first = self.putting(one, b"/f", BIG, source=b"s")
        second = two.ask(Join, upload=one.ready(first))
        two.chunk(second, 0, pieces(BIG)[0])
        one.reset()
        self.assertEqual(self.store.ends, ["keep"])
        two.chunk(second, 1, pieces(BIG)[1])
        self.assertEqual(two.last(second, Failed).code, "conflict")


class SlowTests(NativeCase):
    """A disk that lags behind."""

    slow = True

    def test_held(self) -> None:
        """No more is taken than a bound while the disk does nothing, and all of it in the end."""
        client = self.connect()
        id = self.putting(client, b"/f", BIG)
        for index, piece in enumerate(pieces(BIG)):
            client.chunk(id, index, piece)
        self.move()
        inflow = client.server._inflow
        self.assertGreaterEqual(inflow._waiting, MAX_WAITING)
        self.assertLessEqual(inflow._waiting, MAX_WAITING + STEP)
        client.say(Commit(id=id, digest=digestOfAll(BIG)))
        self.settle()
        client.last(id, Done)
        self.assertEqual((self.kept(b"/f"), inflow._waiting), (BIG, 0))

    def test_heldHoles(self) -> None:
        """HOLES that wait for the disk are bounded, too."""
        client = self.connect()
        id = self.putting(client, b"/f", BIG)
        inflow, line = client.server._inflow, self.uploadOf()._line
        client.say(*(Holes(id=id, index=1, count=1) for _ in range(10_000)))
        self.move()
        most = MAX_WAITING // HOLES_WEIGHT
        self.assertGreaterEqual(inflow._waiting, MAX_WAITING)
        self.assertLessEqual(len(line._waiting), most)
        self.settle()
        self.assertEqual((inflow._waiting, self.store.made), (0, [1]))

    def uploadOf(self) -> Upload:
        (upload,) = self.factory.uploads._open.values()
        assert isinstance(upload, Upload)
        return upload

    def test_failLate(self) -> None:
        """What fails behind COMMIT is told once, and logged once, and nothing is published."""
        client = self.connect()
        id = self.putting(client, b"/f", BIG[:CHUNK])
        client.chunk(id, 0, BIG[:CHUNK])
        client.say(Commit(id=id, digest=digestOf(BIG[:CHUNK])))
        self.store.failure = OSError("secret")
        self.settle()
        self.assertEqual(client.last(id, Failed).message, SERVICE_FAILED)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertIsNone(self.kept(b"/f"))
        self.assertEqual(client.server._exchanges, {})

    def test_failTwice(self) -> None:
        """Of two chunks that cannot be written one is told, and logged."""
        client = self.connect()
        id = self.putting(client, b"/f", BIG)
        client.chunk(id, 2, pieces(BIG)[2])
        client.chunk(id, 1, pieces(BIG)[1])
        self.store.failure = OSError("secret")
        self.settle()
        client.last(id, Failed)
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_failLateJoined(self) -> None:
        """A part that could not be written is never told DONE."""
        one, two = self.connect(), self.connect()
        first = self.putting(one, b"/f", BIG)
        second = two.ask(Join, upload=one.ready(first))
        two.chunk(second, 0, pieces(BIG)[0], bytes(32))
        two.say(Commit(id=second))
        self.settle()
        self.assertEqual(two.last(second, Failed).code, "corrupted")

    def test_failThenCancel(self) -> None:
        """A fault while CANCEL is carried out makes one answer."""
        client = self.connect()
        id = self.putting(client, b"/f", BIG[:CHUNK])
        client.chunk(id, 0, BIG[:CHUNK], bytes(32))
        self.cancelled(client, id)

    def test_freeOnceTold(self) -> None:
        """Who is told FAILED can begin again at once."""
        client = self.connect()
        id = self.putting(client, b"/f", BIG, source=b"s")
        client.chunk(id, 0, pieces(BIG)[0], bytes(32))
        while not client.kinds(id)[1:]:
            self.move()
            self.assertTrue(self.step())
            self.move()
        client.say(Cancel(id=id))
        self.putting(client, b"/f", BIG, source=b"s")

    def test_cancelOpening(self) -> None:
        """CANCEL before READY has its say about what an earlier try has left."""
        client = self.connect()
        for keep, end in ((True, "keep"), (False, "discard")):
            id = client.put(b"/f", BIG, source=b"s")
            self.cancelled(client, id, keep)
            self.assertEqual((client.kinds(id), self.store.ends.pop()), (["Failed"], end))

    def test_cancelPublishing(self) -> None:
        """CANCEL behind COMMIT comes too late."""
        client = self.connect()
        id = self.putting(client, b"/f", b"")
        client.chunk(id, 0, b"")
        client.say(Commit(id=id, digest=digestOf(b"")), Cancel(id=id))
        self.settle()
        client.last(id, Done)

    def test_lost(self) -> None:
        """Whenever the client vanishes, what has come is kept, or published, and no more."""
        for step in range(9):
            for source, end in ((b"s", "keep"), (None, "discard")):
                self.store.ends.clear()
                client = self.connect()
                id = client.put(b"/f", BIG, source=source)
                self.move()
                sent = False
                for _ in range(step):
                    self.step()
                    self.move()
                    if not sent and client.kinds(id)[-1:] == ["Ready"]:
                        sent = True
                        for index, piece in enumerate(pieces(BIG)):
                            client.chunk(id, index, piece)
                client.reset()
                self.settle()
                self.assertIn(self.store.ends, ([], [end]), (step, source))
                self.assertIsNone(self.kept(b"/f"))

    def test_lostPublishing(self) -> None:
        """What was to be published is, also when nobody waits for it any more."""
        client = self.connect()
        id = self.putting(client, b"/f", b"abc")
        client.chunk(id, 0, b"abc")
        client.say(Commit(id=id, digest=digestOf(b"abc")))
        client.reset()
        self.settle()
        self.assertEqual((self.kept(b"/f"), self.store.ends), (b"abc", ["commit"]))

    def test_enter(self) -> None:
        """Files that are being opened count, too."""
        self.patch(uploads, "MAX_UPLOADS", 2)
        client = self.connect()
        ids = [client.put(b"/%d" % number, BIG) for number in range(3)]
        self.assertEqual(client.last(ids[2], Failed).code, "limit")
        self.settle()

    def test_stop(self) -> None:
        """A service that stops waits for its threads, and keeps what has come."""
        client = self.connect()
        id = self.putting(client, b"/f", BIG, source=b"s")
        client.chunk(id, 0, pieces(BIG)[0])
        self.move()
        stopped = self.factory.abortConnections()
        self.move()
        self.clock.advance(30)
        self.assertNoResult(stopped)
        self.settle()
        self.successResultOf(stopped)
        self.assertEqual(self.store.ends, ["keep"])


class SilenceTests(NativeCase):
    """Files of which nothing comes."""

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds / 5)):
            self.clock.advance(5)
            self.settle()

    def test_silent(self) -> None:
        """A file of which nothing comes any more is given up, its place is free, and what has come
        is kept; a try of which nothing has come leaves nothing."""
        for source, end in ((b"s", "keep"), (None, "discard")):
            client = self.connect()
            id = self.putting(client, b"/f", BIG, source=source)
            client.chunk(id, 0, pieces(BIG)[0])
            self.wait(MAX_SILENCE - 5)
            self.assertEqual(client.kinds(id)[-1:], ["Ready"])
            self.wait(5)
            failed = client.last(id, Failed)
            self.assertEqual((failed.code, failed.kept), ("limit", end == "keep"))
            self.assertIn("for 10 minutes", failed.message)
            self.assertEqual(self.store.ends.pop(), end)
            self.assertEqual((self.factory.uploads._open, self.factory.uploads._counts), ({}, {}))
            client.say(Cancel(id=id))
            self.assertEqual((client.server._exchanges, client.closed), ({}, []))

    def test_slow(self) -> None:
        """As long as something comes, over any connection, it goes on."""
        one, two = self.connect(), self.connect()
        first = self.putting(one, b"/f", BIG)
        second = two.ask(Join, upload=one.ready(first))
        for index in (0, 2):
            self.wait(MAX_SILENCE - 5)
            two.chunk(second, index, pieces(BIG)[index])
        self.wait(MAX_SILENCE - 5)
        one.say(Holes(id=first, index=1, count=1))
        self.wait(MAX_SILENCE - 5)
        self.assertEqual(one.kinds(first), ["Ready"])
        self.cancelled(one, first)

    def test_over(self) -> None:
        """Nobody is waited for once it is to be published."""
        client = self.connect()
        id = self.whole(client, b"/f", BIG)
        client.last(id, Done)
        self.wait(2 * MAX_SILENCE)
        self.assertEqual((self.kept(b"/f"), client.closed), (BIG, []))


class HaveTests(NativeCase):
    """What an earlier try has left."""

    def begin(self) -> Client:
        """Have much of a file kept, and put it once more for a client that does not read."""
        self.patch(receiving, "MAX_DIGESTS", 1)
        writer, client = self.connect(), self.connect()
        count = 100
        size = 2 * count * CHUNK
        id = writer.ask(Put, name=b"/f", size=size, source=b"s")
        writer.say(*(Holes(id=id, index=index, count=1) for index in range(0, 2 * count, 2)))
        self.cancelled(writer, id)
        client.pair.client.pauseProducing()
        self.made = 0

        def counted(id: int, index: int, digests: bytes) -> Have:
            self.made += 1
            return Have(id=id, index=index, digests=digests * 4096)

        self.patch(receiving, "Have", counted)
        client.ask(Put, name=b"/f", size=size, source=b"s")
        self.settle()
        return client

    def test_asTaken(self) -> None:
        """HAVE is made as the client takes it, and READY comes behind all of it."""
        client = self.begin()
        self.assertLess(self.made, 10)
        client.pair.client.resumeProducing()
        self.settle()
        self.assertEqual(self.made, 100)
        self.assertEqual(client.kinds(client.id), ["Have"] * 100 + ["Ready"])
        self.cancelled(client, client.id)

    def test_cancel(self) -> None:
        """What is cancelled meanwhile is not told any further."""
        client = self.begin()
        client.say(Cancel(id=client.id))
        self.settle()
        client.pair.client.resumeProducing()
        self.settle()
        self.assertLess(self.made, 10)
        self.assertEqual(client.last(client.id, Failed).kept, True)
        self.assertNotIn("Ready", client.kinds(client.id))

    def test_lost(self) -> None:
        """When the client vanishes meanwhile, it is kept."""
        client = self.begin()
        client.reset()
        self.settle()
        self.assertEqual(self.store.ends, ["keep", "keep"])


class GatheringTests(NativeCase):
    """Files of one chunk that come at once."""

    slow = True

    def test_small(self) -> None:
        """Many of them are written together."""
        client = self.connect()
        ids = [client.small(b"/%d" % number, b"%d" % number) for number in range(20)]
        ids.append(client.small(b"/empty", b""))
        self.settle()
        for id in ids:
            client.last(id, Done)
        self.assertEqual((self.kept(b"/7"), self.kept(b"/empty")), (b"7", b""))

    def test_wrong(self) -> None:
        """What is not what its digest says is not published."""
        client = self.connect()
        id = client.put(b"/f", b"abc", follows=True)
        client.chunk(id, 0, b"abc", bytes(32))
        client.say(Commit(id=id, digest=bytes(32)))
        self.settle()
        self.assertEqual(client.last(id, Failed).code, "corrupted")
        self.assertIsNone(self.kept(b"/f"))

    def test_unexpected(self) -> None:
        """What such a file cannot be ends the session."""
        client = self.connect()
        client.put(b"/f", bytes(CHUNK + 1), follows=True)
        self.assertIn("cannot be one chunk", client.why())
        for index, length in ((1, 3), (0, 2)):
            client = self.connect()
            id = client.put(b"/f", b"abc", follows=True)
            client.part(id, index, b"", length)
            self.assertIn("is no file of 3", client.why())
        for digest in (None, bytes(32)):
            client = self.connect()
            id = client.put(b"/f", b"abc", follows=True)
            client.chunk(id, 0, b"abc")
            client.say(Commit(id=id, digest=digest))
            self.assertIn("another digest", client.why())
        client = self.connect()
        id = client.put(b"/f", b"abc", follows=True)
        client.say(Holes(id=id, index=0, count=1))
        self.assertIn("HOLES", client.why())

    def test_cancel(self) -> None:
        """CANCEL before COMMIT leaves nothing."""
        client = self.connect()
        id = client.put(b"/f", b"abc", follows=True)
        client.chunk(id, 0, b"abc")
        self.assertEqual(self.cancelled(client, id).code, "conflict")
        self.assertEqual((client.server._exchanges, client.server._inflow._gathered), ({}, 0))

    def test_interleaved(self) -> None:
        """Files whose COMMIT comes late do not keep it from being read, and have a bound."""
        client = self.connect()
        data = bytes(CHUNK)
        ids = [client.put(b"/%d" % number, data, follows=True) for number in range(3)]
        for id in ids:
            client.chunk(id, 0, data)
        for id in ids:
            client.say(Commit(id=id, digest=digestOf(data)))
        self.settle()
        for id in ids:
            client.last(id, Done)
        for number in range(MAX_GATHERED // CHUNK + 1):
            id = client.put(b"/%d" % number, data, follows=True)
            client.chunk(id, 0, data)
        self.assertIn("without their COMMIT", client.why())

    def test_lost(self) -> None:
        """What nobody waits for any more is not begun; what was begun is done."""
        client = self.connect()
        client.small(b"/f", b"abc")
        client.reset()
        self.settle()
        self.assertIsNone(self.kept(b"/f"))
        client = self.connect()
        client.small(b"/f", b"abc")
        self.move()
        self.step()
        client.reset()
        self.assertEqual(self.kept(b"/f"), b"abc")
