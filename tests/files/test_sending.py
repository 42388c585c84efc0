"""
Files and lists that clients get: what arrives is what was there, and of what was broken off nothing
stays open.
"""

from __future__ import annotations

import os
from typing import Any

from tests.files.nativerig import BIG, NativeCase, digestOfAll, pieces
from tests.trust.overseen import overseen
from twisted_netsuite.files import manifests
from twisted_netsuite.files.capacity import MAX_QUEUED, MAX_SENDING
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.messages import (
    LIST_ENTRIES,
    Body,
    Cancel,
    Commit,
    Done,
    Entries,
    Failed,
    Found,
    Get,
    Hash,
    Holes,
    List,
    Manifest,
    Stat,
)
from twisted_netsuite.files.native import FilesFactory
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.quick import SMALL
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.net.rates import Pace
from twisted_netsuite.testing import BUFFER_SIZE


class GetTests(NativeCase):
    """Files."""

    def test_whole(self) -> None:
        """A file of any size arrives as it is, with what is known of it, and chunk by chunk."""
        client = self.connect()
        for data in (b"", b"x", bytes(SMALL), bytes(SMALL + 1), BIG[:CHUNK], BIG):
            self.keep(b"/f", data)
            id = self.getting(client, b"/f")
            bodies = ["Body"] * len(pieces(data))
            self.assertEqual(client.kinds(id), ["Found", *bodies, "Done"])
            self.assertEqual(client.all(id)[0].facts.size, len(data))
            self.assertEqual(client.data(id), data)
            for body in client.all(id)[1:-1]:
                self.assertEqual(body.digest, digestOf(client.bodies[id, body.index]))

    def test_ranges(self) -> None:
        """Chunks that were asked for come, and no others; what is not there is refused."""
        client = self.connect()
        self.keep(b"/f", BIG)
        self.keep(b"/s", b"abc")
        for name, first, count, expected in (
            (b"/f", 1, 1, BIG[CHUNK : 2 * CHUNK]),
            (b"/f", 1, None, BIG[CHUNK:]),
            (b"/f", 3, None, b""),
            (b"/f", 3, 0, b""),
            (b"/s", 0, 1, b"abc"),
            (b"/s", 0, 0, b""),
            (b"/s", 1, None, b""),
        ):
            id = self.getting(client, name, first=first, count=count)
            client.last(id, Done)
            self.assertEqual(client.data(id), expected, (name, first, count))
        for name, first, count in ((b"/f", 0, 4), (b"/f", 3, 1), (b"/s", 0, 2), (b"/s", 2, 0)):
            id = self.getting(client, name, first=first, count=count)
            self.assertEqual(client.last(id, Failed).code, "protocol")
        self.assertEqual(client.closed, [])

    def test_holes(self) -> None:
        """Chunks that are holes are told, up to the end of what was asked for."""
        client = self.connect()
        self.keep(b"/f", BIG)
        for holes, count, kinds in (
            ({0, 1, 2}, None, ["Holes"]),
            ({0, 1, 2}, 2, ["Holes"]),
            ({1}, None, ["Body", "Holes", "Body"]),
            ({1, 2}, 2, ["Body", "Holes"]),
        ):
            self.store.holes = holes
            id = self.getting(client, b"/f", count=count)
            self.assertEqual(client.kinds(id), ["Found", *kinds, "Done"])
            found = [each for each in client.all(id) if isinstance(each, Holes)]
            told = {each.index + at for each in found for at in range(each.count)}
            self.assertEqual(told, {each for each in holes if count is None or each < count})

    def test_version(self) -> None:
        """Another version than the one that was looked at is refused, small or large."""
        client = self.connect()
        for data in (b"x", BIG):
            self.keep(b"/f", data)
            id = self.getting(client, b"/f", version=bytes(16))
            self.assertEqual(client.last(id, Failed).code, "source-changed")
            version = self.store.stat((b"f",)).version
            client.last(self.getting(client, b"/f", version=version), Done)

    def test_changed(self) -> None:
        """A file that changes while it is sent is told of in place of DONE."""
        client = self.connect()
        self.keep(b"/f", BIG)
        self.store.changed = True
        id = self.getting(client, b"/f")
        self.assertEqual(client.last(id, Failed).code, "source-changed")

    def test_missing(self) -> None:
        """What is not there, or no file, is told."""
        client = self.connect()
        for name, code in ((b"/no", "not-found"), (b"/", "denied"), (b"/a/../b", "invalid-name")):
            id = self.getting(client, name)
            self.assertEqual(client.last(id, Failed).code, code)

    def test_fault(self) -> None:
        """A fault that has no sentence is told as such, and is in the log once."""
        client = self.connect()
        self.keep(b"/f", BIG)

        def broken(index: int) -> tuple[int, int]:
            raise OSError("secret")

        source = self.store.source

        def open_(parts: Any) -> Any:
            opened = source(parts)
            opened.data = broken
            return opened

        self.patch(self.store, "source", open_)
        id = self.getting(client, b"/f")
        self.assertEqual(client.last(id, Failed).message, "The service failed; its log says why.")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_pace(self) -> None:
        """Bytes leave no faster than the pace, in small files and in large ones."""
        rate = CHUNK
        for size, count in ((SMALL, 64 * 8), (8 * CHUNK, 7)):
            self.serve(Pace(self.clock, rate))
            self.keep(b"/f", bytes(size))
            client = self.connect()
            begun = self.clock.seconds()
            ids = [client.ask(Get, name=b"/f") for _ in range(count)]
            for _ in range(10_000):
                self.settle()
                if all(client.kinds(id)[-1:] == ["Done"] for id in ids):
                    break
                self.clock.advance(1)
            took = self.clock.seconds() - begun
            # A batch of small ones may leave before it is paid for.
            self.assertGreater(took, (count * size - 65 * SMALL) / rate - 2)
            self.assertLess(took, count * size / rate + 5)
            self.assertEqual(client.closed, [])

    def test_paceLost(self) -> None:
        """Who has left waits for no pace, and keeps nothing open."""
        self.serve(Pace(self.clock, 1))
        self.keep(b"/f", BIG)
        client = self.connect()
        self.getting(client, b"/f")
        self.assertEqual(self.store.opened - self.store.closed, 1)
        client.reset()
        self.assertEqual(self.store.opened, self.store.closed)


class StalledTests(NativeCase):
    """A client that does not read."""

    def stall(self) -> Any:
        client = self.connect()
        client.pair.client.pauseProducing()
        return client

    def test_files(self) -> None:
        """Of files no more is in memory than is on its way, and none more are opened than wait."""
        for size in (SMALL, 2 * CHUNK):
            self.keep(b"/f", bytes(size))
            client = self.stall()
            ids = list(range(1, 1001))
            client.say(*(Get(id=id, name=b"/f") for id in ids))
            self.settle()
            self.assertLessEqual(len(client.pair.server.outgoing), 70 * SMALL + CHUNK)
            self.assertLessEqual(
                self.store.opened - self.store.closed, MAX_QUEUED + 64 + MAX_SENDING
            )
            if size == SMALL:
                client.pair.client.resumeProducing()
                self.settle()
                self.assertEqual([client.kinds(id)[-1] for id in ids], ["Done"] * len(ids))
            client.reset()
            self.settle()

    def test_lists(self) -> None:
        """Of a list no more is in memory than is on its way, and all of it comes in the end."""
        self.store.makeDirectory((b"d",), None, False)
        for number in range(8000):
            self.store.makeDirectory((b"d", b"%0200d" % number), None, False)
        for kind in (List, Manifest):
            client = self.stall()
            id = client.ask(kind, name=b"/d")
            self.settle()
            self.assertLess(len(client.pair.server.outgoing), 2 * BUFFER_SIZE + 512 * 1024)
            client.pair.client.resumeProducing()
            self.settle()
            client.last(id, Done)
            found = [each for each in client.all(id) if isinstance(each, Entries)]
            self.assertLessEqual(max(len(each.entries) for each in found), LIST_ENTRIES)
            names = [entry.name for each in found for entry in each.entries]
            self.assertEqual(sorted(names), [b"%0200d" % number for number in range(8000)])

    def test_lost(self) -> None:
        """When it vanishes, nothing stays open."""
        self.keep(b"/f", bytes(4 * CHUNK))
        client = self.stall()
        for _ in range(5):
            client.ask(Get, name=b"/f")
        client.ask(List, name=b"/")
        self.settle()
        client.reset()
        self.assertEqual(self.store.opened, self.store.closed)


class SlowTests(NativeCase):
    """A disk that lags behind."""

    slow = True

    def test_cancel(self) -> None:
        """CANCEL is answered once, whenever it comes, and nothing stays open."""
        self.keep(b"/f", BIG)
        self.keep(b"/s", b"x")
        for kind, name in ((Get, b"/f"), (Get, b"/s"), (List, b"/"), (Manifest, b"/")):
            for step in range(8):
                client = self.connect()
                id = client.ask(kind, name=name)
                self.move()
                for _ in range(step):
                    self.step()
                    self.move()
                client.say(Cancel(id=id))
                self.settle()
                end = client.all(id)[-1]
                self.assertIsInstance(end, Done | Failed)
                client.last(id, type(end))
                self.assertEqual(client.closed, [])
                self.assertEqual(self.store.opened, self.store.closed)

    def test_lost(self) -> None:
        """Whenever the client vanishes, nothing stays open, and nothing fails."""
        self.keep(b"/f", BIG)
        for step in range(8):
            client = self.connect()
            for kind in (Get, Get, Get, List, Manifest, Stat):
                client.ask(kind, name=b"/f" if kind in (Get, Stat) else b"/")
            self.move()
            for _ in range(step):
                self.step()
                self.move()
            client.reset()
            self.settle()
            self.assertEqual(self.store.opened, self.store.closed)

    def test_unexpected(self) -> None:
        """Only CANCEL may come for a file that is sent."""
        self.keep(b"/f", BIG)
        client = self.connect()
        id = client.ask(Get, name=b"/f")
        self.move()
        while not client.kinds(id):
            self.step()
            self.move()
        self.assertEqual(client.kinds(id), ["Found"])
        client.say(Commit(id=id))
        self.assertIn("COMMIT", client.why())

    def test_order(self) -> None:
        """Many at once arrive each as it is."""
        names = [b"/%d" % number for number in range(6)]
        files = {name: bytes([at]) * (at * CHUNK // 2 + 1) for at, name in enumerate(names)}
        for name, data in files.items():
            self.keep(name, data)
        client = self.connect()
        ids = {client.ask(Get, name=name): name for name in names}
        self.settle()
        for id, name in ids.items():
            self.assertEqual(client.data(id), files[name])
            self.assertIsInstance(client.all(id)[0], Found)
            bodies = [each.index for each in client.all(id) if isinstance(each, Body)]
            self.assertEqual(bodies, sorted(bodies))


class DigestTests(NativeCase):
    """Digests of files that take long."""

    slow = True

    def setUp(self) -> None:
        super().setUp()
        self.patch(manifests, "STEP", 1)
        self.keep(b"/f", BIG)
        self.keep(b"/s", b"x")

    def test_others(self) -> None:
        """Between two steps others have their turn."""
        client, other = self.connect(), self.connect()
        id = client.ask(Hash, name=b"/f")
        self.move()
        while not self.store.looked:
            self.step()
            self.move()
        stat = other.ask(Stat, name=b"/s")
        while not other.kinds(stat):
            self.move()
            self.assertTrue(self.step())
            self.move()
        self.assertLess(len(self.store.looked), len(pieces(BIG)))
        self.settle()
        self.assertEqual(client.last(id, Done).digest, digestOfAll(BIG))

    def test_cancelled(self) -> None:
        """One that is not wanted any more ends after the step that it is in, whoever ends it."""
        for kind in (Hash, Manifest):
            for gone in (False, True):
                self.store.looked.clear()
                client = self.connect()
                told = {"name": b"/f"} if kind is Hash else {"name": b"/", "digests": True}
                id = client.ask(kind, **told)
                self.move()
                while not self.store.looked:
                    self.step()
                    self.move()
                if gone:
                    client.reset()
                else:
                    client.say(Cancel(id=id))
                self.settle()
                self.assertLess(len(self.store.looked), len(pieces(BIG)))
                if not gone:
                    self.assertEqual(client.last(id, Failed).code, "conflict")
                self.assertEqual(self.store.opened, self.store.closed)

    def test_holes(self) -> None:
        """Holes are not read, and the digest is that of zeros."""
        client = self.connect()
        for size in (2 * CHUNK, 2 * CHUNK + 5):
            data = bytearray(size)
            for there in ({0, 1, 2}, {1}, {0, 1}, {2}, set()):
                self.store.looked.clear()
                self.store.holes = {0, 1, 2} - there
                self.keep(b"/h", bytes(data))
                id = client.ask(Hash, name=b"/h")
                self.settle()
                self.assertEqual(client.last(id, Done).digest, digestOfAll(bytes(data)))
                self.assertEqual(set(self.store.looked) & self.store.holes, set())


class DescriptorTests(NativeCase):
    """Files that wait to be sent."""

    slow = True

    def test_waiting(self) -> None:
        """They are not open while they wait for their turn."""
        self.keep(b"/f", BIG)
        client = self.connect()
        client.pair.client.pauseProducing()
        for _ in range(20):
            client.ask(Get, name=b"/f")
        self.settle()
        self.assertEqual(self.store.opened - self.store.closed, MAX_SENDING)

    def test_changed(self) -> None:
        """One that is another when its turn comes than was asked for is refused."""
        self.keep(b"/f", BIG)
        client = self.connect()
        client.pair.client.pauseProducing()
        version = self.store.stat((b"f",)).version
        ids = [client.ask(Get, name=b"/f", version=version) for _ in range(3)]
        self.settle()
        self.keep(b"/f", BIG)
        client.pair.client.resumeProducing()
        self.settle()
        self.assertEqual(client.last(ids[2], Failed).code, "source-changed")


class WrappedTests(NativeCase):
    """Files of a disk, over what is no socket."""

    def serve(self, pace: Pace | None = None, writable: bool = True) -> None:
        self.top = self.mktemp()
        os.mkdir(self.top)
        store = LocalStore(Root(self.top))
        permit = Permit(overseen(None), Roots("/r", lambda path: store))
        self.factory = FilesFactory(self.clock, permit, disk=self.disk)
        self.successResultOf(self.factory.open())

    def test_whole(self) -> None:
        """They arrive as they are where the kernel cannot send them."""
        for data in (b"x", BIG):
            with open(os.path.join(self.top, "f"), "wb") as file:
                file.write(data)
            client = self.connect()
            id = self.getting(client, b"/f")
            client.last(id, Done)
            self.assertEqual(client.data(id), data)


class ManyTests(NativeCase):
    """More that waits than a stack is deep."""

    def test_lists(self) -> None:
        """Lists that a client takes late are all sent, also where the disk answers at once."""
        client = self.connect()
        client.pair.client.pauseProducing()
        client.said = lambda: None
        ids = [client.ask(List, name=b"/") for _ in range(500)]
        self.settle()
        client.pair.client.resumeProducing()
        self.settle()
        for id in ids:
            self.assertEqual(client.kinds(id), ["Done"])
