"""
Names that are a link to outside every other moment, and everything that can be done with them.

Import this module and none of its classes, as trial runs each case that a module names.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.files import test_localstore as local
from tests.files.storecontract import get, names, put
from tests.files.test_localstore import INSIDE, WAYS, exchange, lookBelow
from tests.files.tree import SECRET, descriptors, write
from twisted_netsuite.errors import Conflict, Denied, NetsuiteError, NotFound, SourceChanged
from twisted_netsuite.files.digests import digestOf
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.manifests import _below, digesting
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.scan import Scan, openTop

#: What is done with a store, and which names are swapped meanwhile.
Works = dict[str, Callable[[LocalStore], object]]

#: Seconds after which an operation is given up that was never done.
PATIENCE = 20.0


class Swapper(Protocol):
    """Exchanges two names until it is stopped."""

    def stop(self) -> int:
        """
        Stop.

        @return: how often they were exchanged.
        """


class ThreadSwapper:
    """A thread that does it."""

    def __init__(self, one: str, other: str) -> None:
        """
        @param one: a path.
        @param other: another one.
        """
        self._swap = exchange(one, other)
        self._count = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._swap()
            self._count += 1

    def stop(self) -> int:
        """Stop."""
        self._stopped.set()
        self._thread.join()
        return self._count


@dataclass
class Raced:
    """
    What came of one operation in one way of resolving names.

    @ivar name: the operation, and where the link was.
    @ivar way: which links are followed, and by whom names are resolved.
    @ivar done: how often it was done.
    @ivar refused: how often it was not.
    """

    name: str
    way: str
    done: int
    refused: int


class RaceStories(local.LocalCase):
    """
    Each operation, over and over, while what it is done with is swapped for a link to outside.

    @cvar seconds: for how long each.
    @cvar swapper: makes what swaps.
    @ivar raced: what came of it.
    @ivar swaps: exchanges in all.
    """

    seconds = local.RACE_SECONDS
    swapper: Callable[[str, str], Swapper] = ThreadSwapper

    def setUp(self) -> None:
        super().setUp()
        self.raced: list[Raced] = []
        self.swaps = 0
        self.outside = os.path.join(self.directory, "outside")
        os.makedirs(os.path.join(self.outside, "empty"))
        for name in ("f", "g", "only", "outside"):
            write(os.path.join(self.outside, name), SECRET)
        os.makedirs(self.within("d/empty"))
        write(self.within("d/f"), INSIDE)
        write(self.within("file"), INSIDE)
        write(self.within("own"), INSIDE)
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(1e-5)

    def race(self, name: str, to: str, works: Works) -> None:
        """
        Do each of these while a name is swapped for a link; outside nothing may change.

        @param name: the name.
        @param to: where the link leads.
        @param works: what is done.
        """
        one, other = self.within(name), self.within("link")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(other)
        os.symlink(to, other)
        before = lookBelow(self.outside)
        gc.collect()
        opened = descriptors()
        swapper = type(self).swapper(one, other)
        try:
            for links, kernel in WAYS:
                store = LocalStore(Root(self.path, links, kernel))
                for what, work in works.items():
                    done, refused = self.rounds(store, work)
                    way = f"{'openat2' if kernel else 'walk'}, links {links}"
                    self.raced.append(Raced(f"{what} ({name})", way, done, refused))
                    self.assertTrue(done, f"{what} was never done, {way}")
                    self.assertEqual(lookBelow(self.outside), before, f"{what}, {way}")
                store.close()
        finally:
            self.swaps += swapper.stop()
        gc.collect()
        self.assertEqual(descriptors(), opened)
        for path in (one, other):
            if os.path.islink(path):
                os.unlink(path)
        if os.path.lexists(other):
            os.rename(other, one)

    def rounds(self, store: LocalStore, work: Callable[[LocalStore], object]) -> tuple[int, int]:
        """Do something over and over; tell how often it was done, and how often not."""
        done = refused = 0
        now = time.monotonic()
        end, last = now + self.seconds, now + max(PATIENCE, self.seconds)
        while time.monotonic() < end or (not done and time.monotonic() < last):
            try:
                work(store)
                done += 1
            except (NotFound, Denied, Conflict, SourceChanged):
                refused += 1
        return done, refused

    # What is never to be seen.

    def read(self, store: LocalStore, parts: Parts) -> None:
        """Read a file as GET does, which is never the one outside."""
        self.assertNotEqual(get(store, parts)[: len(SECRET)], SECRET)

    def hash(self, store: LocalStore, parts: Parts) -> None:
        """Digest it as HASH does."""
        *_, found = digesting(store, parts)
        assert found is not None
        attributes, digest = found
        self.assertNotEqual(attributes.size, len(SECRET))
        self.assertNotEqual(digest, digestOf(SECRET))

    def look(self, store: LocalStore, parts: Parts) -> None:
        """Look at it as STAT does."""
        self.assertNotEqual(store.stat(parts).size, len(SECRET))

    def list(self, store: LocalStore, parts: Parts) -> None:
        """List it as LIST does."""
        self.assertNotIn(b"outside", names(store, parts))

    def manifest(self, store: LocalStore, parts: Parts) -> None:
        """List all below it, with digests, as MANIFEST does."""
        for entry in _below(store, parts, None, True):
            if entry is None:
                continue
            self.assertNotIn(b"outside", entry.name.split(b"/"))
            self.assertNotEqual(entry.digest, digestOf(SECRET))

    def scan(self, parts: Parts) -> None:
        """Walk over it as a client does that puts it."""
        top = openTop(os.path.join(os.fsencode(self.path), *parts))
        try:
            for entry in Scan().directory(top):
                self.assertNotIn(b"outside", entry.name.split(b"/"))
        finally:
            os.close(top)

    # What changes something.

    def made(self, store: LocalStore, parts: Parts) -> None:
        """Make a directory anew, as MKDIR does."""
        with contextlib.suppress(NetsuiteError):
            store.remove(parts)
        store.makeDirectory(parts, 0o705, False)

    def madeAll(self, store: LocalStore) -> None:
        """Make directories anew."""
        for parts in ((b"d", b"n", b"n"), (b"d", b"n")):
            with contextlib.suppress(NetsuiteError):
                store.remove(parts)
        store.makeDirectory((b"d", b"n", b"n"), 0o705, True)

    def removed(self, store: LocalStore, parts: Parts) -> None:
        """Make a file, perhaps, and remove it."""
        with contextlib.suppress(NetsuiteError):
            put(store, parts, b"new")
        store.remove(parts)

    def removedDirectory(self, store: LocalStore, parts: Parts) -> None:
        """Make a directory, perhaps, and remove it."""
        with contextlib.suppress(NetsuiteError):
            store.makeDirectory(parts, None, False)
        store.remove(parts)

    def putNew(self, store: LocalStore, parts: Parts) -> None:
        """Put a file where none may be."""
        with contextlib.suppress(NetsuiteError):
            store.remove(parts)
        put(store, parts, b"new", clobber=False)

    def putOver(self, store: LocalStore, parts: Parts) -> None:
        """Put a file over one of which the contents are known."""
        put(store, parts, b"newer")
        put(store, parts, b"new", replaces=digestOf(b"newer"))

    def changed(self, store: LocalStore, parts: Parts) -> None:
        """Change a mode and a time."""
        store.change(parts, 0o601, None)
        store.change(parts, 0o604, 1)

    def renamedOut(self, store: LocalStore) -> None:
        """Rename what is in it."""
        put(store, (b"d", b"r"), b"new")
        store.rename((b"d", b"r"), (b"r",), True)

    def renamedIn(self, store: LocalStore, clobber: bool) -> None:
        """Rename something into it."""
        with contextlib.suppress(NetsuiteError):
            store.remove((b"d", b"r"))
        put(store, (b"r",), b"new")
        store.rename((b"r",), (b"d", b"g" if clobber else b"r"), clobber)

    def renamedDirectory(self, store: LocalStore, *, out: bool) -> None:
        """Rename a directory into it, or out of it."""
        parts, to = ((b"d", b"m"), (b"m",)) if out else ((b"m",), (b"d", b"m"))
        with contextlib.suppress(NetsuiteError):
            store.remove(to)
        with contextlib.suppress(NetsuiteError):
            store.makeDirectory(parts, None, False)
        store.rename(parts, to, False)

    # What is run.

    def test_middle(self) -> None:
        """On the way to a name."""
        f = (b"d", b"f")
        self.race(
            "d",
            "../outside",
            {
                "stat": lambda store: self.look(store, f),
                "list": lambda store: self.list(store, (b"d",)),
                "manifest": lambda store: self.manifest(store, ()),
                "get": lambda store: self.read(store, f),
                "hash": lambda store: self.hash(store, f),
                "put": lambda store: put(store, f, b"new"),
                "put, resumable": lambda store: put(store, f, b"new", source=b"s"),
                "put, no clobber": lambda store: self.putNew(store, (b"d", b"c")),
                "put, if unchanged": lambda store: self.putOver(store, f),
                "mkdir": lambda store: self.made(store, (b"d", b"n")),
                "mkdir -p": self.madeAll,
                "rename out of": self.renamedOut,
                "rename into": lambda store: self.renamedIn(store, True),
                "rename into, no clobber": lambda store: self.renamedIn(store, False),
                "rename a directory out of": lambda store: self.renamedDirectory(store, out=True),
                "rename a directory into": lambda store: self.renamedDirectory(store, out=False),
                "unlink": lambda store: self.removed(store, (b"d", b"only")),
                "rmdir": lambda store: self.removedDirectory(store, (b"d", b"empty")),
                "chmod and utimes": lambda store: self.changed(store, (b"d", b"f")),
                "clean": lambda store: [store.clean(0)],
                "scan at the client": lambda store: self.scan(()),
            },
        )

    def test_last(self) -> None:
        """A file, at the end of a name."""
        file = (b"file",)

        def renamed(store: LocalStore) -> None:
            put(store, (b"r",), b"new")
            store.rename((b"r",), file, True)

        self.race(
            "file",
            "../outside/f",
            {
                "stat": lambda store: self.look(store, file),
                "list": lambda store: self.list(store, ()),
                "get": lambda store: self.read(store, file),
                "hash": lambda store: self.hash(store, file),
                "chmod and utimes": lambda store: self.changed(store, file),
                "put": lambda store: put(store, file, b"new"),
                "put, resumable": lambda store: put(store, file, b"new", source=b"s"),
                "put, if unchanged": lambda store: self.putOver(store, file),
                "rename to": renamed,
            },
        )

    def test_lastDirectory(self) -> None:
        """A directory, at the end of a name."""
        self.race(
            "d",
            "../outside",
            {
                "stat": lambda store: self.look(store, (b"d",)),
                "list": lambda store: self.list(store, (b"d",)),
                "manifest": lambda store: self.manifest(store, (b"d",)),
                "mkdir": lambda store: store.makeDirectory((b"d",), 0o705, False),
                "chmod and utimes": lambda store: self.changed(store, (b"d",)),
                "clean": lambda store: [store.clean(0)],
            },
        )

    def test_lastGone(self) -> None:
        """A name that is taken away while it is a link every other moment: it is never followed,
        and what goes is a name inside."""

        def again(kept: bytes, directory: bool) -> None:
            """Put back what was taken away, file or link."""
            for path in (self.within(kept.decode()), self.within("link")):
                if os.path.lexists(path):
                    continue
                other = self.within("link" if path != self.within("link") else kept.decode())
                if not os.path.islink(other):
                    os.symlink("../outside" if directory else "../outside/f", path)
                elif directory:
                    os.mkdir(path)
                else:
                    write(path, INSIDE)

        def gone(
            work: Callable[[LocalStore], object], name: bytes, directory: bool
        ) -> Callable[[LocalStore], object]:
            def run(store: LocalStore) -> None:
                try:
                    work(store)
                finally:
                    again(name, directory)

            return run

        def away(store: LocalStore, name: bytes) -> None:
            store.rename((name,), (b"away",), True)
            os.unlink(self.within("away"))

        self.race(
            "file",
            "../outside/f",
            {
                "unlink": gone(lambda store: store.remove((b"file",)), b"file", False),
                "rename from": gone(lambda store: away(store, b"file"), b"file", False),
            },
        )
        os.mkdir(self.within("e"))
        self.race(
            "e",
            "../outside/empty",
            {"rmdir": gone(lambda store: store.remove((b"e",)), b"e", True)},
        )
