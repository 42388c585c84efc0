"""
What may be done with a file is decided before anything is opened, and is in the audit log before it
is done; nothing that may not be known is told.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.trust.overseen import ANNA, BOB, PLACE, HeldNotes, Told, events, overseen, policyFrom
from twisted_netsuite.errors import (
    AuditUnavailable,
    ConfigurationError,
    Denied,
    InvalidName,
    LimitExceeded,
    NotFound,
)
from twisted_netsuite.files import permit as permitModule
from twisted_netsuite.files.access import Access
from twisted_netsuite.files.allowance import Allowance
from twisted_netsuite.files.digests import combined, digestOf
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.messages import Put
from twisted_netsuite.files.names import MAX_DEPTH, MAX_NAME, MAX_PART, Parts, split
from twisted_netsuite.files.permit import READ_ONLY, UNUSABLE, Move, Permit, Place
from twisted_netsuite.files.quick import begin, publish
from twisted_netsuite.files.quota import Quotas
from twisted_netsuite.files.reservation import FREE
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.files.store import Store, Wanted
from twisted_netsuite.trust.audit import AuditNotes
from twisted_netsuite.trust.identity import Identity
from twisted_netsuite.trust.oversight import Oversight, Withheld

#: What is told to whom no rule allows it.
REFUSED = "the policy of this service does not allow it to cert:anna."

OWN = "/srv/own"


def rules(*texts: str) -> str:
    """Write a policy that gives rules to everybody who has a certificate."""
    head = '[identities]\n"cert:*" = ["x"]\n[roles.x]\n'
    return head + "".join(f"[[roles.x.files]]\n{text}\n" for text in texts)


ALL = 'actions = ["read", "write", "delete"]'


class Stores:
    """
    Stores in memory, one for each root.

    @ivar made: which were made, in order.
    @ivar missing: roots that cannot be opened.
    """

    def __init__(self) -> None:
        self.made: list[str] = []
        self.missing: set[str] = set()
        self.closed: list[str] = []
        self._there: dict[str, MemoryStore] = {}

    def make(self, path: str) -> Store:
        """Open one."""
        if path in self.missing:
            raise ConfigurationError(f"The root {path!r} cannot be opened: no such file.")
        self.made.append(path)
        store = self.there(path)
        store.close = lambda: self.closed.append(path)  # type: ignore[method-assign]
        return store

    def there(self, path: str = OWN) -> MemoryStore:
        """Give what is kept below a root."""
        return self._there.setdefault(path, MemoryStore())

    def put(self, name: bytes, data: bytes = b"data", root: str = OWN) -> None:
        """Put a file there, and its directories."""
        parts = split(name)
        store = self.there(root)
        if parts[:-1]:
            store.makeDirectory(parts[:-1], None, True)
        target = store.target(parts, Wanted(size=len(data)), "anybody")
        target.write(0, [data])
        target.chunkWritten(0, digestOf(data))
        target.commit(combined([digestOf(data)]))


class PermitCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stores = Stores()
        self.roots = Roots(OWN, self.stores.make)
        self.notes = AuditNotes()

    def permit(self, text: str | None = None, **told: Any) -> Permit:
        """Make what decides, by a policy if there is one."""
        return Permit(overseen(text, self.notes, "files"), self.roots, **told)

    def access(self, text: str | None = None, identity: Identity = ANNA, **told: Any) -> Access:
        """Make what decides for one peer."""
        return self.permit(text, **told).access(identity, "192.0.2.1:1")

    def placed(self, asked: Deferred[Place]) -> Place:
        """Give where something is that is allowed."""
        return self.successResultOf(asked)

    def refusal(self, asked: Deferred[Any], cls: type[Exception] = Denied) -> Any:
        """Give the error of something that is not."""
        return self.failureResultOf(asked, cls).value

    def assertWithheld(self, asked: Deferred[Any], *why: str) -> None:
        """Something is refused; the peer is told nothing of the policy, and the log all."""
        error = self.refusal(asked, Withheld)
        self.assertEqual(error.sentence, REFUSED)
        for each in why:
            self.assertIn(each, error.cause)

    def told(self, *fields: str) -> list[tuple[Any, ...]]:
        """Give some fields of all records."""
        return [tuple(record.get(each) for each in fields) for record in self.notes.records]


class ReadOnlyTests(PermitCase):
    """A service without a policy."""

    def test_reading(self) -> None:
        """Everything may be read, in the service's own root, and all of it is shown."""
        access = self.access()
        place = self.placed(access.read(b"//a/./b"))
        self.assertEqual((place.parts, place.root, place.rule), ((b"a", b"b"), OWN, None))
        self.assertEqual(place.name, b"/a/b")
        self.assertIs(place.store, self.stores.there())
        self.assertIsNone(access.shows(self.placed(access.list(b"/"))))

    def test_changing(self) -> None:
        """Nothing may be changed, and the sentence says what the operator can do."""
        access = self.access()
        for asked in (
            access.write(b"/a", 1),
            access.makeDirectory(b"/a"),
            access.remove(b"/a"),
            access.change(b"/a", 0o600, None),
            access.rename(b"/a", b"/b"),
        ):
            self.assertEqual(self.refusal(asked).sentence, READ_ONLY)
        self.assertEqual(
            events(self.notes),
            [
                *("files.write.start.denied", "files.mkdir.denied", "files.remove.denied"),
                *("files.change.denied", "files.rename.denied"),
            ],
        )

    def test_writable(self) -> None:
        """With the option everything may be changed, too."""
        access = self.access(writable=True)
        for asked in (access.write(b"/a", 1), access.makeDirectory(b"/a"), access.remove(b"/a")):
            self.assertEqual(self.placed(asked).root, OWN)
        self.assertIsInstance(self.successResultOf(access.rename(b"/a", b"/b")), Move)

    def test_nothingOpened(self) -> None:
        """To decide opens nothing."""
        access = self.access(rules(f'root = "/srv/other"\n{ALL}'))
        self.placed(access.read(b"/a"))
        self.placed(access.write(b"/a", 1))
        self.successResultOf(access.rename(b"/a", b"/b"))
        access.shows(self.placed(access.list(b"/")))
        self.assertEqual(self.stores.made, [])


class PolicyTests(PermitCase):
    """A service with a policy."""

    def test_actions(self) -> None:
        """Each request is one action, and is refused without it."""
        for allowed in ("read", "write", "delete"):
            access = self.access(rules(f'actions = ["{allowed}"]'))
            for action, asked in (
                ("read", access.read(b"/a")),
                ("read", access.list(b"/a")),
                ("write", access.write(b"/a", 1)),
                ("write", access.makeDirectory(b"/a")),
                ("write", access.change(b"/a", None, 1)),
                ("delete", access.remove(b"/a")),
            ):
                if action == allowed:
                    self.assertIsNotNone(self.placed(asked).rule)
                else:
                    self.assertWithheld(asked, f"may not {action} '/a'")

    def test_writableIsNothing(self) -> None:
        """With a policy the option changes nothing."""
        access = self.access(rules('actions = ["read"]'), writable=True)
        self.assertWithheld(access.write(b"/a", 1))

    def test_reloaded(self) -> None:
        """The policy of the moment decides, also for a session that began before."""
        told = Told(policyFrom(rules(ALL)))
        access = Permit(Oversight("files", told), self.roots).access(ANNA, "")
        shows = access.shows(self.placed(access.list(b"/")))
        assert shows is not None
        self.assertTrue(shows((b"a",)))
        told.policy = policyFrom(rules("deny = true"))
        self.assertWithheld(access.read(b"/a"), PLACE)
        self.assertFalse(shows((b"a",)))

    def test_identity(self) -> None:
        """Who it is decides."""
        text = rules(ALL)
        self.placed(self.access(text).read(b"/a"))
        error = self.refusal(self.access(text, BOB).read(b"/a"), Withheld)
        self.assertNotIn(PLACE, error.sentence)

    def test_spelling(self) -> None:
        """However a name is written, the policy is asked about what is opened."""
        access = self.access(rules('paths = ["/a/secret/**"]\ndeny = true', ALL))
        for name in (b"/a/secret/x", b"a//secret/x", b"./a/./secret//x/", b"//a/secret/x"):
            self.assertWithheld(access.read(name))
            self.assertWithheld(access.write(name, 1))

    def test_impossible(self) -> None:
        """A name that can be none is told to be one, and is in the audit log."""
        access = self.access(rules(ALL))
        for name in (b"/a/../b", b"/a\0", b"/" + b"x" * 256, b"/.netsuite-x", b"/" * 9000):
            if name.strip(b"/"):
                self.refusal(access.read(name), InvalidName)
                self.refusal(access.rename(b"/a", name), InvalidName)
                self.refusal(access.rename(name, b"/a"), InvalidName)
        self.assertEqual(set(events(self.notes)), {"files.read.denied", "files.rename.denied"})
        self.assertIn((b"/a/../b",), self.told("path"))
        self.assertIn((b"/a/../b",), self.told("to"))

    def test_shows(self) -> None:
        """A list leaves out what may not be read, and what would be read elsewhere."""
        access = self.access(
            rules(
                'paths = ["/secret", "/pub/*.key"]\ndeny = true',
                'paths = ["/other/**"]\nroot = "/srv/other"',
                'actions = ["read"]',
            )
        )
        shows = access.shows(self.placed(access.list(b"/")))
        assert shows is not None
        for name, shown in (
            (b"/a", True),
            (b"/secret", False),
            (b"/pub/a", True),
            (b"/pub/a.key", False),
            (b"/other/a", False),
        ):
            self.assertEqual(shows(split(name)), shown, name)
        elsewhere = access.shows(self.placed(access.list(b"/other/a")))
        assert elsewhere is not None
        self.assertTrue(elsewhere(split(b"/other/a/b")))


class RootTests(PermitCase):
    """Roots of rules."""

    text = rules(f'paths = ["/in/**"]\nroot = "/srv/in"\n{ALL}', ALL)

    def test_store(self) -> None:
        """A rule's root is used in place of the service's own."""
        access = self.access(self.text)
        place = self.placed(access.read(b"/in/a"))
        self.assertEqual(place.root, "/srv/in")
        self.assertIs(place.store, self.stores.there("/srv/in"))
        self.assertIs(self.placed(access.read(b"/a")).store, self.stores.there())

    def test_once(self) -> None:
        """A store is made once for each root, and closed at the end."""
        permit = self.permit(self.text)
        permit.open()
        for _ in range(3):
            access = permit.access(ANNA, "")
            for name in (b"/a", b"/in/a", b"/in/b"):
                self.placed(access.read(name)).store.stat(())
        self.assertEqual(self.stores.made, [OWN, "/srv/in"])
        self.assertEqual(len(self.roots.stores), 2)
        permit.close()
        self.assertEqual(self.stores.closed, [OWN, "/srv/in"])
        self.assertEqual(self.roots.stores, [])
        permit.open()
        permit.close()

    def test_same(self) -> None:
        """A root that is the service's own is no other."""
        access = self.access(rules(f'root = "{OWN}"\n{ALL}'))
        self.assertEqual(self.placed(access.read(b"/a")).root, OWN)

    def test_missing(self) -> None:
        """One that cannot be opened is told in the log alone, and is tried anew the next time."""
        self.stores.missing.add("/srv/in")
        place = self.placed(self.access(self.text).read(b"/in/a"))
        error: Any = self.assertRaises(Withheld, lambda: place.store)
        self.assertEqual(error.sentence, UNUSABLE)
        self.assertIn(PLACE, error.cause)
        self.assertIn("/srv/in", error.cause)
        self.stores.missing.clear()
        self.assertIs(place.store, self.stores.there("/srv/in"))

    def test_ownMissing(self) -> None:
        """When the service's own cannot be opened, that is an error of its configuration."""
        self.stores.missing.add(OWN)
        self.assertRaises(ConfigurationError, self.permit().open)

    def test_apart(self) -> None:
        """Nothing is renamed from one root to another, and that is in the audit log."""
        access = self.access(self.text)
        for names in ((b"/a", b"/in/a"), (b"/in/a", b"/a")):
            self.assertIn("different places", self.refusal(access.rename(*names)).sentence)
        self.successResultOf(access.rename(b"/in/a", b"/in/b"))
        self.assertEqual(
            events(self.notes), ["files.rename.denied", "files.rename.denied", "files.rename"]
        )

    def test_look(self) -> None:
        """To look at what is not there finds nothing."""
        self.stores.put(b"/a", b"12345")
        found = self.roots.look(OWN, (b"a",))
        assert found is not None
        self.assertEqual(found.size, 5)
        self.assertIsNone(self.roots.look(OWN, (b"b",)))


class AuditTests(PermitCase):
    """What is in the audit log."""

    def test_records(self) -> None:
        """Each request has a record of its own, with all that is asked."""
        access = self.access(rules(ALL))
        self.placed(access.read(b"a"))
        self.placed(access.list(b"/d"))
        place = self.placed(access.write(b"/b", 5))
        access.wrote(place, 5, bytes(range(32)))
        self.placed(access.makeDirectory(b"/d"))
        self.successResultOf(access.rename(b"b", b"c"))
        self.placed(access.remove(b"/c"))
        self.placed(access.change(b"/c", 0o640, 7))
        self.placed(access.change(b"/c", None, None))
        self.assertEqual(
            self.told("event", "path", "to", "size", "digest", "mode", "mtime"),
            [
                ("files.read", b"/a", None, None, None, None, None),
                ("files.list", b"/d", None, None, None, None, None),
                ("files.write.start", b"/b", None, 5, None, None, None),
                ("files.write", b"/b", None, 5, bytes(range(32)).hex(), None, None),
                ("files.mkdir", b"/d", None, None, None, None, None),
                ("files.rename", b"/b", b"/c", None, None, None, None),
                ("files.remove", b"/c", None, None, None, None, None),
                ("files.change", b"/c", None, None, None, "640", 7),
                ("files.change", b"/c", None, None, None, None, None),
            ],
        )
        for record in self.notes.records:
            self.assertEqual(record["service"], "files")
            self.assertEqual(record["identity"], "cert:anna")
            self.assertEqual(record["peer"], "192.0.2.1:1")
            if record["event"] != "files.write":
                self.assertIn(PLACE, record["rule"])

    def test_waits(self) -> None:
        """Nothing is begun before it is in the log."""
        notes = HeldNotes()
        access = Permit(overseen(None, notes), self.roots, writable=True).access(ANNA, "")
        asked: list[Deferred[Any]] = [
            access.read(b"/a"),
            access.write(b"/a", 1),
            access.rename(b"/a", b"/b"),
            access.remove(b"/a"),
        ]
        for each in asked:
            self.assertNoResult(each)
        notes.let()
        for each in asked:
            self.successResultOf(each)

    def test_unavailable(self) -> None:
        """What cannot be written down is not done."""
        notes = HeldNotes()
        access = Permit(overseen(None, notes), self.roots, writable=True).access(ANNA, "")
        asked = access.write(b"/a", 1)
        notes.giveUp(AuditUnavailable("The disk is full."))
        self.refusal(asked, AuditUnavailable)

    def test_refusedAnyway(self) -> None:
        """What is refused is refused, whether that can be written down or not."""
        for name, error in ((b"/a", Denied), (b"/..", InvalidName)):
            notes = HeldNotes()
            access = Permit(overseen(None, notes), self.roots).access(ANNA, "")
            asked = access.write(name, 1)
            self.assertNoResult(asked)
            notes.giveUp(AuditUnavailable("The disk is full."))
            self.refusal(asked, error)

    def test_denied(self) -> None:
        """What the policy denies is in the log with its reason."""
        access = self.access(rules("deny = true"))
        self.assertWithheld(access.rename(b"/a", b"/b"))
        ((event, path, to, reason),) = self.told("event", "path", "to", "reason")
        self.assertEqual((event, path, to), ("files.rename.denied", b"/a", b"/b"))
        self.assertIn("may not delete '/a'", reason)


class RenameTests(PermitCase):
    """To rename is to delete here, and to write there."""

    def test_both(self) -> None:
        """Both have to be allowed."""
        here = rules('paths = ["/a/**"]\nactions = ["read", "delete"]', 'actions = ["read"]')
        self.assertWithheld(self.access(here).rename(b"/a/x", b"/b/x"), "may not write '/b/x'")
        there = rules('paths = ["/b/**"]\nactions = ["read", "write"]', 'actions = ["read"]')
        self.assertWithheld(self.access(there).rename(b"/a/x", b"/b/x"), "may not delete '/a/x'")

    def test_hidden(self) -> None:
        """What may not be read gets no name by which it may be, and else any."""
        text = rules(
            'paths = ["/drop/**"]\nactions = ["write", "delete"]',
            'paths = ["/box/**"]\nactions = ["write"]',
            'paths = ["/mine/**"]\nactions = ["read", "write", "delete"]',
        )
        access = self.access(text)
        self.assertWithheld(access.rename(b"/drop/a", b"/mine/a"), "may not read '/drop/a'")
        self.successResultOf(access.rename(b"/drop/a", b"/box/a"))
        self.successResultOf(access.rename(b"/mine/a", b"/drop/a"))

    def test_made(self) -> None:
        """A file that may be renamed is."""
        self.stores.put(b"/a", b"new")
        self.stores.put(b"/b", b"old one")
        move = self.successResultOf(self.access(rules(ALL)).rename(b"/a", b"/b"))
        move.make(clobber=True)
        self.assertEqual(self.stores.there().stat((b"b",)).size, 3)
        self.assertRaises(NotFound, self.stores.there().stat, (b"a",))
        self.assertRaises(NotFound, move.make, True)

    def test_directory(self) -> None:
        """With a directory no name gets another that may not be renamed by itself."""
        self.stores.put(b"/d/e/plain")
        self.stores.put(b"/d/e/secret/key")
        for text, why in (
            ('paths = ["/d/e/secret/**"]\ndeny = true', "'/d/e/secret'"),
            ('paths = ["/new/e/secret"]\ndeny = true\nactions = ["write"]', "'/new/e/secret'"),
            ('paths = ["/**/key"]\ndeny = true\nactions = ["delete"]', "secret/key'"),
            ('paths = ["/d/**/key"]\ndeny = true\nactions = ["read"]', "'/d/e/secret/key'"),
        ):
            move = self.successResultOf(self.access(rules(text, ALL)).rename(b"/d", b"/new"))
            error: Any = self.assertRaises(Withheld, move.make, False)
            self.assertIn("all that is in it", error.sentence)
            self.assertNotIn("secret", error.sentence)
            self.assertIn(why, error.cause)
            self.stores.there().stat(split(b"/d/e/secret/key"))
        self.successResultOf(self.access(rules(ALL)).rename(b"/d", b"/new")).make(False)
        self.stores.there().stat(split(b"/new/e/secret/key"))

    def test_withoutPolicy(self) -> None:
        """Without a policy nothing in it is asked about, nor looked at where names get shorter."""
        self.stores.put(b"/old/a")
        self.stores.there().list = None  # type: ignore[method-assign, assignment]
        move = self.successResultOf(self.access(writable=True).rename(b"/old", b"/new"))
        move.make(False)

    def test_manyInside(self) -> None:
        """A directory with too much in it is refused, and stays where it is."""
        self.patch(permitModule, "MAX_MOVED", 3)
        for number in range(3):
            self.stores.put(b"/d/%d" % number)
        access = self.access(rules(ALL))
        self.successResultOf(access.rename(b"/d", b"/e")).make(False)
        self.stores.put(b"/e/more")
        move = self.successResultOf(access.rename(b"/e", b"/f"))
        error: Any = self.assertRaises(LimitExceeded, move.make, False)
        self.assertIn("more than 3", error.sentence)
        self.stores.there().stat(split(b"/e/more"))

    def test_maxSize(self) -> None:
        """No file gets a name by which it could not be written, alone or in a directory, with and
        without a policy."""
        self.stores.put(b"/a", b"12345")
        self.stores.put(b"/d/e/a", b"12345")
        text = rules(f'paths = ["/new/**"]\nmax-size = 4\n{ALL}', ALL)
        for policy, allowance in ((text, None), (None, Allowance(maxSize=4))):
            access = self.access(policy, writable=True, allowance=allowance)
            for name, to in ((b"/a", b"/new/a"), (b"/d", b"/new/d"), (b"/d", b"/new")):
                move = self.successResultOf(access.rename(name, to))
                error: Any = self.assertRaises(LimitExceeded, move.make, False)
                self.assertIn("max-size", error.sentence)
        self.stores.there().makeDirectory((b"new",), None, False)
        text = rules(f'paths = ["/new/**"]\nmax-size = 5\n{ALL}', ALL)
        self.successResultOf(self.access(text).rename(b"/d", b"/new/d")).make(False)

    def test_links(self) -> None:
        """What holds a link is not moved, by a policy: it would lead to something else."""
        self.stores.put(b"/d/e/a")
        store = self.stores.there()
        self.patch(store, "holdsLink", lambda parts: parts == (b"d", b"e"))
        for name, to in ((b"/d", b"/new"), (b"/d/e", b"/new")):
            move = self.successResultOf(self.access(rules(ALL)).rename(name, to))
            error: Any = self.assertRaises(Denied, move.make, False)
            self.assertIn("symbolic links", error.sentence)
        store.stat(split(b"/d/e/a"))
        self.successResultOf(self.access(writable=True).rename(b"/d", b"/new")).make(False)

    def test_deep(self) -> None:
        """Nothing gets a name that no request can have, with and without a policy."""
        deep = b"/a" + b"/d" * (MAX_DEPTH - 1)
        self.stores.there().makeDirectory(split(deep), None, True)
        self.stores.put(b"/b/f")
        long = b"/" + b"/".join([b"x" * MAX_PART] * (MAX_NAME // (MAX_PART + 1) - 1))
        self.stores.put(b"/c/d/" + b"y" * MAX_PART)
        self.stores.there().makeDirectory(split(long), None, True)
        for text in (None, rules(ALL)):
            access = self.access(text, writable=True)
            for name, to in ((b"/a", b"/b/a"), (b"/b", deep), (b"/c", long + b"/" + b"z" * 200)):
                move = self.successResultOf(access.rename(name, to))
                error: Any = self.assertRaises(InvalidName, move.make, False)
                self.assertIn("would get a name of more than", error.sentence)
            self.successResultOf(access.rename(b"/a/d", b"/b/d")).make(False)
            self.successResultOf(access.rename(b"/b/d", b"/a/d")).make(False)

    def test_manyWithoutPolicy(self) -> None:
        """Without a policy a directory may hold any number."""
        self.patch(permitModule, "MAX_MOVED", 3)
        for number in range(5):
            self.stores.put(b"/d/%d" % number)
        self.successResultOf(self.access(writable=True).rename(b"/d", b"/longer")).make(False)
        self.stores.there().stat(split(b"/longer/4"))

    def test_root(self) -> None:
        """The root is not renamed, and nothing in it is looked at for that."""
        self.stores.there().list = None  # type: ignore[method-assign, assignment]
        for names in ((b"/", b"/a"), (b"/a", b"/")):
            move = self.successResultOf(self.access(rules(ALL)).rename(*names))
            self.assertRaises(Denied, move.make, False)

    def test_alone(self) -> None:
        """What comes to be in a directory while all in it is asked about comes after that."""
        self.stores.put(b"/d/a")
        store, begun, done = self.stores.there(), Event(), Event()
        real = store.rename
        access = self.access(rules(ALL))
        place = self.placed(access.makeDirectory(b"/d/late"))

        def make() -> None:
            begun.set()
            try:
                place.makeDirectory(None, False)
            except NotFound:
                done.set()

        late = Thread(target=make)

        def rename(*args: Any) -> None:
            late.start()
            begun.wait()
            self.assertFalse(done.wait(0.05))
            real(*args)

        self.patch(store, "rename", rename)
        self.successResultOf(access.rename(b"/d", b"/e")).make(False)
        late.join(10)
        self.assertTrue(done.is_set())
        self.assertEqual([entry.name for entry in store.list((b"e",))], [b"a"])


class MakeTests(PermitCase):
    """Directories."""

    def test_made(self) -> None:
        """One that may be made is, with those above it where all may be."""
        for text in (None, rules(ALL)):
            place = self.placed(self.access(text, writable=True).makeDirectory(b"/a/b/c"))
            self.assertRaises(NotFound, place.makeDirectory, None, False)
            place.makeDirectory(None, True)
            self.stores.there().stat(split(b"/a/b/c"))
            self.setUp()

    def test_above(self) -> None:
        """None is made above it that may not be; those that are there need not be."""
        access = self.access(rules('paths = ["/in/box/**"]\nactions = ["write"]'))
        place = self.placed(access.makeDirectory(b"/in/box/a/b"))
        error: Any = self.assertRaises(Withheld, place.makeDirectory, None, True)
        self.assertIn("directories above", error.sentence)
        self.assertIn("may not write '/in'", error.cause)
        self.assertRaises(NotFound, self.stores.there().stat, (b"in",))
        self.stores.there().makeDirectory(split(b"/in/box"), None, True)
        place.makeDirectory(None, True)
        self.stores.there().stat(split(b"/in/box/a/b"))

    def test_told(self) -> None:
        """Those above that were made are told of, also when the rest was not."""
        for text in (None, rules(ALL)):
            access = self.access(text, writable=True)
            told: list[Parts] = []
            self.placed(access.makeDirectory(b"/a/b/c")).makeDirectory(None, True, told.append)
            self.placed(access.makeDirectory(b"/a/b/d")).makeDirectory(None, True, told.append)
            self.assertEqual(told, [(b"a",), (b"a", b"b")])
            self.setUp()
        told = []
        store = self.stores.there()
        real = store.makeDirectory

        def failing(parts: Parts, *args: Any) -> None:
            real(parts[:-2], None, True)
            raise NotFound("It has gone.")

        self.patch(store, "makeDirectory", failing)
        place = self.placed(self.access(writable=True).makeDirectory(b"/a/b/c"))
        self.assertRaises(NotFound, place.makeDirectory, None, True, told.append)
        self.assertEqual(told, [(b"a",)])


class QuotaTests(PermitCase):
    """What one identity may keep."""

    def setUp(self) -> None:
        super().setUp()
        self.quotas = Quotas(os.path.abspath(self.mktemp()))

    def opened(self, text: str | None = None, **told: Any) -> Access:
        """Make what decides, and count."""
        permit = self.permit(text, quotas=self.quotas, **told)
        permit.open()
        self.addCleanup(permit.close)
        return permit.access(ANNA, "")

    def keeps(self) -> tuple[int, int]:
        """Tell what is counted."""
        return self.quotas.keeps("cert:anna", OWN, Allowance())

    def put(self, access: Access, name: bytes, data: bytes) -> None:
        """Do all of an upload."""
        place = self.placed(access.write(name, len(data)))
        reservation = place.reserve(len(data))
        self.stores.put(name, data)
        reservation.publish(len(data))

    def test_options(self) -> None:
        """Without a policy the service's options hold."""
        access = self.opened(writable=True, allowance=Allowance(10, 2, 8))
        self.put(access, b"/a", b"x" * 8)
        place = self.placed(access.write(b"/b", 1))
        for size, said in ((9, "max-size"), (3, "quota")):
            error: Any = self.assertRaises(LimitExceeded, place.reserve, size)
            self.assertIn(said, error.sentence)
        self.put(access, b"/b", b"xx")
        error = self.assertRaises(LimitExceeded, self.placed(access.write(b"/c", 0)).reserve, 0)
        self.assertIn("file-quota", error.sentence)

    def test_rule(self) -> None:
        """What a rule says holds for it, and the options where it says nothing."""
        text = rules(
            f'paths = ["/in/**"]\nquota = 5\n{ALL}', f'paths = ["/big/*"]\nmax-size = 100\n{ALL}'
        )
        access = self.opened(text, allowance=Allowance(50, 5, 10))
        for name, wanted in (
            (b"/in/a", (5, 5, 10)),
            (b"/big/a", (50, 5, 100)),
        ):
            found = self.placed(access.write(name, 1)).allowance
            self.assertEqual((found.quota, found.fileQuota, found.maxSize), wanted)

    def test_changes(self) -> None:
        """Files that are renamed and removed are counted as they are then."""
        access = self.opened(writable=True)
        self.put(access, b"/a", b"12345")
        self.put(access, b"/b", b"123")
        self.assertEqual(self.keeps(), (8, 2))
        self.successResultOf(access.rename(b"/a", b"/b")).make(True)
        self.assertEqual(self.keeps(), (5, 1))
        self.placed(access.remove(b"/b")).remove()
        self.assertEqual(self.keeps(), (0, 0))

    def test_meanwhile(self) -> None:
        """What is written by the old name while a file is renamed, or is published or removed
        then, comes before or after that, so that both files count."""
        access = self.opened(writable=True)
        self.put(access, b"/a", b"12345")
        self.put(access, b"/b", b"1")
        store = self.stores.there()
        write = Put(id=1, name=b"/a", size=3)
        large = Put(id=2, name=b"/a", size=4, source=b"s")
        place = self.placed(access.write(b"/a", 3))
        begun = begin(large, place)
        begun.target.write(0, [b"1234"])
        begun.target.chunkWritten(0, digestOf(b"1234"))
        works: list[Callable[[], object]] = [
            lambda: publish(write, place, [b"123"], digestOf(b"123")),
            lambda: begun.commit(digestOf(b"1234")),
            self.placed(access.remove(b"/a")).remove,
        ]
        for number, work in enumerate(works):
            done = Event()

            def late(work: Callable[[], object] = work, done: Event = done) -> None:
                with contextlib.suppress(NotFound):
                    work()
                done.set()

            thread = Thread(target=late)
            real = store.rename

            def rename(
                *args: Any,
                thread: Thread = thread,
                done: Event = done,
                real: Callable[..., None] = real,
            ) -> None:
                thread.start()
                self.assertFalse(done.wait(0.05))
                real(*args)
                self.assertFalse(done.wait(0.05))

            patched = self.patch(store, "rename", rename)
            move = self.successResultOf(access.rename(b"/a", b"/n%d" % number))
            move.make(False)
            thread.join(10)
            patched.restore()
            self.assertEqual(self.keeps(), (13, 4))

    def test_failures(self) -> None:
        """What could not be done changes nothing of it."""
        access = self.opened(writable=True)
        self.put(access, b"/a", b"12345")
        self.assertRaises(NotFound, self.placed(access.remove(b"/b")).remove)
        move = self.successResultOf(access.rename(b"/a", b"/none/b"))
        self.assertRaises(NotFound, move.make, True)
        self.assertEqual(self.keeps(), (5, 1))

    def test_renameRefused(self) -> None:
        """Who has no room for somebody else's file cannot rename it."""
        access = self.opened(writable=True, allowance=Allowance(quota=4))
        self.stores.put(b"/a", b"12345")
        move = self.successResultOf(access.rename(b"/a", b"/b"))
        self.assertRaises(LimitExceeded, move.make, True)
        self.stores.there().stat((b"a",))

    def test_uncounted(self) -> None:
        """A quota that nothing counts lets nothing be written, and the log says why; a largest
        size needs no counting."""
        text = rules(f'paths = ["/q"]\nfile-quota = 1\n{ALL}', f"max-size = 5\n{ALL}")
        access = self.access(text)
        place = self.placed(access.write(b"/q", 1))
        error: Any = self.assertRaises(Withheld, place.reserve, 1)
        self.assertNotIn(PLACE, error.sentence)
        self.assertIn(PLACE, error.cause)
        self.stores.put(b"/a")
        move = self.successResultOf(access.rename(b"/a", b"/q"))
        self.assertRaises(Withheld, move.make, True)
        other = self.placed(access.write(b"/x", 1))
        self.assertIs(other.reserve(5), FREE)
        self.assertRaises(LimitExceeded, other.reserve, 6)

    def test_durable(self) -> None:
        """What the service says of that reaches every place."""
        for durable in (True, False):
            access = self.access(writable=True, durable=durable)
            self.assertEqual(self.placed(access.write(b"/a", 1)).durable, durable)

    def test_durableNames(self) -> None:
        """And so it does with what is done to names there, with and without a quota."""
        store, told = self.stores.there(), []
        for name in ("makeDirectory", "rename", "remove"):
            self.patch(store, name, lambda *args: told.append(args[-1]))
        quotas = Quotas(self.mktemp())
        for counts in (None, quotas):
            for durable in (True, False):
                permit = self.permit(writable=True, durable=durable, quotas=counts)
                permit.open()
                access = permit.access(ANNA, "192.0.2.1:1")
                self.placed(access.makeDirectory(b"/a")).makeDirectory(None, False)
                self.placed(access.remove(b"/a")).remove()
                self.successResultOf(access.rename(b"/a", b"/b")).make(True)
                self.assertEqual(told, [durable] * 3)
                told.clear()
                permit.close()


def _walked(store: Store, top: Parts) -> set[Parts]:
    return {below for below, _ in permitModule._walk(store, top, lambda directory: None)}


class WalkTests(PermitCase):
    """What is in a directory."""

    def test_all(self) -> None:
        """All of it is found, at any depth."""
        for name in (b"/d/a", b"/d/e/b", b"/d/e/f/g/h", b"/other"):
            self.stores.put(name)
        self.assertEqual(
            _walked(self.stores.there(), (b"d",)),
            {
                *((b"a",), (b"e",), (b"e", b"b"), (b"e", b"f"), (b"e", b"f", b"g")),
                (b"e", b"f", b"g", b"h"),
            },
        )
