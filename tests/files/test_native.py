"""
Sessions of the native files service: what may be asked when, what is allowed, and how all ends.
"""

from __future__ import annotations

import gc
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs

from tests.files.nativerig import BIG, NativeCase, digestOfAll, pieces
from tests.trust.overseen import ANNA, BOB, HeldNotes, events
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.messages import (
    MAX_OPEN,
    Cancel,
    Change,
    Commit,
    Done,
    Entries,
    Failed,
    Get,
    Hash,
    List,
    MakeDirectory,
    Manifest,
    Offered,
    Put,
    PutBundle,
    Remove,
    Rename,
    Stat,
)
from twisted_netsuite.files.names import MAX_DEPTH
from twisted_netsuite.net.rates import Pace
from twisted_netsuite.trust.audit import AuditNotes
from twisted_netsuite.wire.session import Record

POLICY = """
[identities]
"cert:anna" = ["owner"]
"unix:*" = ["guest"]

[[roles.owner.files]]
actions = ["read", "write", "delete"]

[[roles.guest.files]]
paths = ["/open/**"]
actions = ["read"]

[[roles.guest.files]]
paths = ["/inbox/*"]
actions = ["write", "delete"]
"""


class Newest(random.Random):
    """Chooses what came last."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return start - 1


class AskTests(NativeCase):
    """What is asked of a name."""

    def test_names(self) -> None:
        """Each request is carried out, and its answer says what is there then."""
        client = self.connect()
        self.keep(b"/f", BIG)
        client.last(client.ask(MakeDirectory, name=b"/d/e", parents=True), Done)
        done = client.last(client.ask(Rename, name=b"/f", to=b"/d/g"), Done)
        assert done.facts is not None
        self.assertEqual(done.facts.size, len(BIG))
        done = client.last(client.ask(Change, name=b"/d/g", mode=0o600, mtime=5), Done)
        assert done.facts is not None
        self.assertEqual((done.facts.mode, done.facts.mtime), (0o600, 5))
        self.assertEqual(client.last(client.ask(Stat, name=b"/d/g"), Done).facts, done.facts)
        found = client.last(client.ask(Hash, name=b"/d/g"), Done)
        self.assertEqual((found.facts, found.digest), (done.facts, digestOfAll(BIG)))
        self.assertIsNone(client.last(client.ask(Remove, name=b"/d/g"), Done).facts)
        failed = client.last(client.ask(Stat, name=b"/d/g"), Failed)
        self.assertEqual(failed.code, "not-found")
        self.assertEqual(client.server._open, set())

    def test_manifest(self) -> None:
        """A manifest has all below, each directory before what is in it, with digests if asked."""
        client = self.connect()
        self.store.makeDirectory((b"d", b"e"), None, True)
        self.keep(b"/d/e/f", b"x")
        for digests in (False, True):
            id = client.ask(Manifest, name=b"/d", digests=digests)
            client.last(id, Done)
            (entries,) = [each.entries for each in client.all(id) if isinstance(each, Entries)]
            self.assertEqual([each.name for each in entries], [b"e", b"e/f"])
            self.assertEqual(entries[1].digest, digestOf(b"x") if digests else None)
        for name in (b"/no", b"/d/e/f"):
            client.last(client.ask(List, name=name), Failed)

    def test_tooDeep(self) -> None:
        """What no request can name, as directories above it were renamed by others, is in no
        list."""
        client = self.connect()
        deep = (b"d",) * MAX_DEPTH
        self.store.makeDirectory(deep, None, True)
        for name in ((*deep, b"e"), (*deep, b"e", b"f")):
            self.store.makeDirectory(name, None, False)
        id = client.ask(Manifest, name=b"/")
        client.last(id, Done)
        (entries,) = [each.entries for each in client.all(id) if isinstance(each, Entries)]
        self.assertEqual(len(entries), MAX_DEPTH)
        id = client.ask(List, name=b"/".join(deep))
        client.last(id, Done)
        self.assertEqual([each for each in client.all(id) if isinstance(each, Entries)], [])

    def test_ids(self) -> None:
        """Numbers grow; one that does not ends the session, and names itself."""
        for id in (1, 2):
            client = self.connect()
            client.say(Stat(id=2, name=b"/"))
            client.say(Stat(id=id, name=b"/"))
            self.assertIn(f"Request {id} came after 2", client.why())

    def test_tooMany(self) -> None:
        """As many requests are open as may be, and one more ends the session."""
        client = self.connect()
        # Whose name is free again.
        for _ in range(3):
            client.last(client.ask(Stat, name=b"/"), Done)
        first = client.id + 1
        for id in range(first, first + MAX_OPEN):
            client.say(Put(id=id, name=b"/f", size=1, follows=True))
        self.assertEqual(client.closed, [])
        client.say(Stat(id=first + MAX_OPEN, name=b"/"))
        self.assertIn(str(MAX_OPEN), client.why())

    def test_cancel(self) -> None:
        """CANCEL of what is answered already is nothing."""
        client = self.connect()
        id = client.ask(Stat, name=b"/")
        client.say(Cancel(id=id))
        client.last(id, Done)
        self.assertEqual((client.closed, client.server._cancelled), ([], set()))


class EndTests(NativeCase):
    """How sessions end."""

    slow = True

    def test_goodbye(self) -> None:
        """What is open when a client says GOODBYE is finished, and then the session is over."""
        self.keep(b"/f", BIG)
        client = self.connect()
        ids = [client.ask(kind, name=b"/f") for kind in (Get, Stat, Hash)]
        ids.append(client.small(b"/g", b"x"))
        put = self.putting(client, b"/h", BIG)
        for index, piece in enumerate(pieces(BIG)):
            client.chunk(put, index, piece)
        client.leave("Enough.")
        client.say(Commit(id=put, digest=digestOfAll(BIG)))
        self.settle()
        for id in [*ids, put]:
            client.last(id, Done)
        self.assertEqual((client.data(ids[0]), self.kept(b"/h")), (BIG, BIG))
        self.assertEqual(client.closed, [None])

    def test_drain(self) -> None:
        """What is open when the service drains is finished; who takes too long is cut off."""
        self.keep(b"/f", BIG)
        one, two = self.connect(), self.connect()
        id = one.ask(Get, name=b"/f")
        self.putting(two, b"/g", BIG, source=b"s")
        drained = self.factory.drain("Maintenance.", 5)
        self.settle()
        one.last(id, Done)
        self.assertEqual(one.data(id), BIG)
        self.assertNoResult(drained)
        self.clock.advance(40)
        self.settle()
        self.successResultOf(drained)
        self.assertEqual(self.store.ends, ["keep"])

    def test_stop(self) -> None:
        """A service that stops while threads are busy ends all, and closes its root last."""
        self.keep(b"/f", BIG)
        client = self.connect()
        client.ask(Get, name=b"/f")
        client.ask(Hash, name=b"/f")
        self.putting(client, b"/g", BIG, source=b"s")
        client.ask(Get, name=b"/f")
        client.small(b"/small", b"x")
        self.move()
        found: list[tuple[int, list[str]]] = []
        close = self.factory.permit.close

        def closed() -> None:
            found.append((self.store.opened - self.store.closed, [*self.store.ends]))
            close()

        self.patch(self.factory.permit, "close", closed)
        # What is given last is done first: so would the root be closed, were it not waited for.
        self.patch(self.disk, "_random", Newest())
        stopped = self.factory.abortConnections()
        self.move()
        self.clock.advance(40)
        self.assertNoResult(stopped)
        self.settle()
        self.successResultOf(stopped)
        self.assertEqual(found, [(0, ["keep"])])


class PaceTests(NativeCase):
    """How fast files come."""

    def test_put(self) -> None:
        """Bytes are taken no faster than the pace, and all of them in the end."""
        self.serve(Pace(self.clock, CHUNK // 2))
        client = self.connect()
        id = self.putting(client, b"/f", BIG)
        for index, piece in enumerate(pieces(BIG)):
            client.chunk(id, index, piece)
        client.say(Commit(id=id, digest=digestOfAll(BIG)))
        small = client.small(b"/g", b"x")
        begun = self.clock.seconds()
        while client.kinds(small) != ["Done"]:
            self.clock.advance(0.25)
            self.settle()
            self.assertLess(self.clock.seconds(), begun + 10)
        client.last(id, Done)
        self.assertGreater(self.clock.seconds() - begun, 2.9)


class LargeTests(NativeCase):
    """What says that it comes at once, and cannot."""

    def test_nobodyAsked(self) -> None:
        """It ends the session, and nobody is asked about it."""
        for kind in (Put, PutBundle):
            self.serve(writable=False)
            client = self.connect()
            if kind is Put:
                client.ask(Put, name=b"/f", size=3 * CHUNK, follows=True)
            else:
                offered = Offered(name=b"/f", size=CHUNK, digest=bytes(32))
                client.ask(PutBundle, files=(offered, offered))
            self.settle()
            self.assertTrue(client.closed)
            self.assertEqual(events(self.notes), [])
            gc.collect()
            self.assertEqual(self.flushLoggedErrors(), [])


class LogTests(NativeCase):
    """What the service's log has of what is refused."""

    def refusals(self, kind: type[Record], name: bytes, **told: Any) -> list[str]:
        """Ask something that is refused, and tell the lines about that."""
        client = self.connect()
        with capturedLogs() as logged:
            client.last(client.ask(kind, name=name, **told), Failed)
        return [each["cause"] for each in logged if "refused" in str(each["log_format"])]

    def test_absent(self) -> None:
        """Whoever looks whether something is there, as before each put, leaves no line when it is
        not; one who wants it does, and so does one who looks at what cannot be a name."""
        self.assertEqual(self.refusals(Stat, b"/none"), [])
        self.assertEqual(self.refusals(Stat, b"/none/f"), [])
        for kind in (Get, Hash, Remove):
            self.assertEqual(self.refusals(kind, b"/none"), ["'/none' does not exist."], kind)
        (sentence,) = self.refusals(Stat, b"/../f")
        self.assertIn("..", sentence)


class RootTests(NativeCase):
    """The root itself."""

    def test_change(self) -> None:
        """Nobody can lock it, whatever may be written in it."""
        client = self.connect()
        for told in ({"mode": 0}, {"mtime": 0}, {}):
            id = client.ask(Change, name=b"/", **told)
            self.assertEqual(client.last(id, Failed).code, "denied")


class PolicyTests(NativeCase):
    """A policy decides."""

    policy = POLICY

    def test_denied(self) -> None:
        """What is not allowed is refused, is in the audit log, and is not done."""
        self.keep(b"/f", b"x")
        client = self.connect(BOB)
        asked = [
            client.ask(Get, name=b"/f"),
            client.ask(Stat, name=b"/f"),
            client.ask(Remove, name=b"/f"),
            client.ask(Rename, name=b"/f", to=b"/open"),
            client.ask(Hash, name=b"/f"),
            client.ask(Manifest, name=b"/"),
            client.small(b"/open/g", b"y"),
            client.put(b"/open/h", BIG),
        ]
        for id in asked:
            self.assertEqual(client.last(id, Failed).code, "denied")
        found = events(self.notes)
        self.assertEqual(sum(each.endswith(".denied") for each in found), len(asked), found)
        self.assertEqual(self.kept(b"/f"), b"x")
        self.assertEqual(self.store.wanted[1:], [])

    def test_deniedAfter(self) -> None:
        """What is refused only once it is looked at is in the audit log as that, too, and what
        fails for another reason is not."""
        self.keep(b"/f", b"x")
        client = self.connect()
        self.store.makeDirectory((b"d", b"e"), None, True)
        self.patch(self.store, "holdsLink", lambda parts: parts[-1] == b"e")
        denied = client.ask(Rename, name=b"/d", to=b"/n")
        self.assertEqual(client.last(denied, Failed).code, "denied")
        asked = [
            client.ask(Rename, name=b"/", to=b"/n"),
            client.ask(Remove, name=b"/"),
            client.ask(Change, name=b"/", mode=0),
        ]
        for id in asked:
            self.assertEqual(client.last(id, Failed).code, "denied")
        for id in (client.ask(Rename, name=b"/no", to=b"/n"), client.ask(Remove, name=b"/d")):
            client.last(id, Failed)
        found = [each for each in self.notes.records if each["event"].endswith(".denied")]
        self.assertEqual(
            [(each["event"], each["path"], each.get("to")) for each in found],
            [
                ("files.rename.denied", b"/d", b"/n"),
                ("files.rename.denied", b"/", b"/n"),
                ("files.remove.denied", b"/", None),
                ("files.change.denied", b"/", None),
            ],
        )
        self.assertIn("symbolic links", found[0]["reason"])

    def test_parents(self) -> None:
        """Each directory that is made is in the audit log, and those that were there are not."""
        client = self.connect()
        self.store.makeDirectory((b"d",), None, False)
        client.last(client.ask(MakeDirectory, name=b"/d/e/f/g", parents=True), Done)
        client.last(client.ask(MakeDirectory, name=b"/d/e/f/h", parents=True), Done)
        client.last(client.ask(MakeDirectory, name=b"/i"), Done)
        made = [each["path"] for each in self.notes.records if each["event"] == "files.mkdir"]
        self.assertEqual(made, [b"/d/e/f/g", b"/d/e", b"/d/e/f", b"/d/e/f/h", b"/i"])

    def test_hidden(self) -> None:
        """What may not be read is not listed."""
        for name in (b"/open", b"/closed"):
            self.store.makeDirectory((name[1:],), None, False)
            self.keep(name + b"/f", b"x")
        for identity, names in ((ANNA, [b"/closed", b"/open"]), (BOB, [b"/open"])):
            client = self.connect(identity)
            for name in names:
                id = client.ask(List, name=name)
                self.settle()
                if client.kinds(id) == ["Failed"]:
                    self.assertEqual((identity, name), (BOB, b"/open"))
                    continue
                (entries,) = [each.entries for each in client.all(id) if isinstance(each, Entries)]
                self.assertEqual([each.name for each in entries], [b"f"])

    def test_written(self) -> None:
        """What was published is in the audit log with its digest, small or large."""
        client = self.connect()
        client.last(client.small(b"/f", b"x"), Done)
        client.last(self.whole(client, b"/g", BIG), Done)
        found = [each for each in self.notes.records if each["event"] == "files.write"]
        self.assertEqual([each["path"] for each in found], [b"/f", b"/g"])
        self.assertEqual(found[1]["digest"], digestOfAll(BIG).hex())

    def test_writeOnly(self) -> None:
        """Who may write and not read learns nothing of what is there by changing it."""
        self.store.makeDirectory((b"inbox",), None, False)
        self.keep(b"/inbox/f", b"x")
        client = self.connect(BOB)
        for id in (
            client.ask(Change, name=b"/inbox/f"),
            client.ask(MakeDirectory, name=b"/inbox/d"),
            client.ask(Rename, name=b"/inbox/d", to=b"/inbox/e"),
        ):
            self.assertIsNone(client.last(id, Done).facts)
        for data in (b"y", BIG):
            id = client.put(b"/inbox/f", data, replaces=digestOf(b"x"), follows=data == b"y")
            self.settle()
            if data == b"y":
                client.chunk(id, 0, data)
                client.say(Commit(id=id, digest=digestOf(data)))
                self.settle()
            self.assertIn("read", client.last(id, Failed).message)
        self.assertEqual(self.kept(b"/inbox/f"), b"x")
        known = self.connect(ANNA)
        facts = known.last(known.ask(Change, name=b"/inbox/f"), Done).facts
        assert facts is not None
        self.assertEqual(facts.size, 1)


class AuditTests(NativeCase):
    """An audit log whose disk is slow."""

    policy = POLICY

    def makeNotes(self) -> AuditNotes:
        self.held = HeldNotes()
        return self.held

    def test_lost(self) -> None:
        """Whose client is gone before its request is written down is not carried out."""
        self.keep(b"/f", BIG)
        client = self.connect()
        client.ask(Get, name=b"/f")
        client.ask(Remove, name=b"/f")
        client.ask(Hash, name=b"/f")
        client.ask(List, name=b"/")
        client.small(b"/g", b"x")
        client.put(b"/h", BIG)
        client.reset()
        self.held.let()
        self.settle()
        self.assertEqual((self.kept(b"/f"), self.kept(b"/g")), (BIG, None))
        self.assertEqual((self.store.opened, len(self.store.wanted)), (0, 1))

    def test_cancelled(self) -> None:
        """What is cancelled before it is written down is answered once."""
        self.keep(b"/f", BIG)
        client = self.connect()
        ids = [client.ask(Get, name=b"/f"), client.ask(List, name=b"/")]
        ids += [client.put(b"/h", BIG), client.small(b"/g", b"x")]
        client.say(*(Cancel(id=id) for id in ids))
        self.held.let()
        self.settle()
        for id in ids[:3]:
            client.last(id, Failed)
        client.last(ids[3], Done)

    def test_failing(self) -> None:
        """What cannot be written down is not done."""
        client = self.connect()
        id = client.small(b"/g", b"x")
        self.held.giveUp(OSError("full"))
        self.settle()
        client.last(id, Failed)
        self.assertIsNone(self.kept(b"/g"))
        self.flushLoggedErrors()


class MixTests(NativeCase):
    """Many requests at once."""

    slow = True

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["put", "small", "get"]),
                st.sampled_from([0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5]),
            ),
            min_size=1,
            max_size=6,
        ),
        st.integers(0, 2**32),
    )
    def test_mix(self, asked: list[tuple[str, int]], seed: int) -> None:
        """However requests mix, the bytes that come out are those that went in."""
        choice = random.Random(seed)
        self.disk._random = choice
        client = self.connect()
        wanted: dict[int, tuple[str, bytes, bytes]] = {}
        left: list[tuple[int, list[tuple[int, bytes]]]] = []
        for number, (kind, size) in enumerate(asked):
            name, data = b"/%d" % number, choice.randbytes(size)
            if kind == "get":
                self.keep(name, data)
                id = client.ask(Get, name=name)
            elif kind == "small" and size <= CHUNK:
                id = client.small(name, data)
            else:
                id = client.put(name, data)
                parts = list(enumerate(pieces(data)))
                choice.shuffle(parts)
                left.append((id, parts))
            wanted[id] = kind, name, data
        while left:
            self.move()
            if choice.random() < 0.6:
                self.step()
            each = choice.choice(left)
            id, parts = each
            if client.kinds(id) != ["Ready"]:
                self.step()
            elif parts:
                client.chunk(id, *parts.pop())
            else:
                client.say(Commit(id=id, digest=digestOfAll(wanted[id][2])))
                left.remove(each)
        self.settle()
        for id, (kind, name, data) in wanted.items():
            client.last(id, Done)
            self.assertEqual(client.data(id) if kind == "get" else self.kept(name), data)
            self.store.remove((name[1:],))
        client.reset()
        self.settle()
        self.clients.clear()
