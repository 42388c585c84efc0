"""
Names that are a link to outside every other moment, and everything that can be done with them.

These are tests in real time, as what they are about is the kernel, and a thread or a process beside
this one, which no fake clock moves. Each operation goes on for L{RaceStories.seconds}, and is given
up after L{PATIENCE} when it was never done; that it is done is all that is expected of that time.

Import this module and none of its classes, as trial runs each case that a module names.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tests.files import test_localstore as local
from tests.files.storecontract import get, names, put
from tests.files.test_localstore import INSIDE, WAYS, lookBelow, readWhole
from tests.files.tree import SECRET, descriptors, write
from twisted_netsuite.errors import Conflict, Denied, NetsuiteError, NotFound, SourceChanged
from twisted_netsuite.files.digests import digestOf
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.manifests import _below, digesting
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.scan import Scan, openTop
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.files.together import together

#: What is done with a store, and which names are swapped meanwhile.
Works = dict[str, Callable[[LocalStore], object]]

#: Seconds that each operation goes on in each way of resolving names, unless it is said: enough for
#: some dozens of them, which find a confinement that leaks in most runs.
SECONDS = float(os.environ.get("NETSUITE_RACE_SECONDS", "0.02"))

#: Seconds after which an operation is given up that was never done.
PATIENCE = 20.0

#: What may become of an operation, other than that it is done.
REFUSALS = (NotFound, Denied, Conflict, SourceChanged)


class Swapper(Protocol):
    """Exchanges two names until it is stopped."""

    def stop(self) -> int:
        """
        Stop.

        @return: how often they were exchanged.
        """


def exchange(one: str, other: str) -> Callable[[], bool]:
    """Make a function that exchanges two names in one step, and tells whether it could."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (-100, os.fsencode(one), -100, os.fsencode(other), 2)

    def swap() -> bool:
        return bool(libc.renameat2(*arguments) == 0)

    return swap


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
            self._count += self._swap()

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
    Each operation, over and over in real time, while what it is done with is swapped for a link to
    outside.

    @cvar seconds: for how long each.
    @cvar swapper: makes what swaps.
    @ivar raced: what came of it.
    @ivar swaps: exchanges in all.
    """

    seconds = SECONDS
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
        directory = os.path.isdir(one)
        before = lookBelow(self.outside)
        gc.collect()
        opened = descriptors()
        for links, kernel in WAYS:
            store = LocalStore(Root(self.path, links, kernel))
            way = f"{'openat2' if kernel else 'walk'}, links {links}"
            for what, work in works.items():
                self.prepare(one, other, to, directory)
                swapper = type(self).swapper(one, other)
                try:
                    done, refused = self.rounds(store, work)
                finally:
                    swaps = swapper.stop()
                self.swaps += swaps
                self.raced.append(Raced(f"{what} ({name})", way, done, refused))
                self.assertTrue(swaps, f"nothing was swapped: {what}, {way}")
                self.assertTrue(done, f"{what} was never done, {way}")
                self.assertEqual(lookBelow(self.outside), before, f"{what}, {way}")
            store.close()
        gc.collect()
        self.assertEqual(descriptors(), opened)
        for path in (one, other):
            if os.path.islink(path):
                os.unlink(path)
        if os.path.lexists(other):
            os.rename(other, one)

    def prepare(self, one: str, other: str, to: str, directory: bool) -> None:
        """Have a link to outside at one of the names, and what is inside at the other: a file that
        was published, and a link that came in its way, may have a reserved name instead."""
        found = [os.path.islink(path) for path in (one, other) if os.path.lexists(path)]
        if sorted(found) == [False, True]:
            return
        for path in (one, other):
            if not directory:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            elif os.path.islink(path):
                os.unlink(path)
        if not os.path.lexists(one):
            os.mkdir(one) if directory else write(one, INSIDE)
        os.symlink(to, other)

    def rounds(self, store: LocalStore, work: Callable[[LocalStore], object]) -> tuple[int, int]:
        """Do something over and over; tell how often it was done, and how often not."""
        done = refused = 0
        now = time.monotonic()
        end, last = now + self.seconds, now + max(PATIENCE, self.seconds)
        while time.monotonic() < end or (not done and time.monotonic() < last):
            try:
                work(store)
                done += 1
            except REFUSALS:
                refused += 1
        return done, refused

    # What is never to be seen.

    def read(self, store: LocalStore, parts: Parts) -> None:
        """Read a file as GET does that is large, which is never the one outside."""
        self.assertNotEqual(get(store, parts)[: len(SECRET)], SECRET)

    def readSmall(self, store: LocalStore, *files: Parts) -> None:
        """Read files as GET does that are small; more than one as a bundle, in one go."""
        with together():
            for parts in files:
                self.assertNotEqual(readWhole(store, parts)[: len(SECRET)], SECRET)

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

    def putSmall(self, store: LocalStore, *files: Parts, **wanted: Any) -> None:
        """Put files as PUT does that are small; more than one as a bundle, in one go, where each
        is refused by itself."""
        refused: list[NetsuiteError] = []
        with together():
            for parts in files:
                try:
                    fields = {"durable": False, **wanted}
                    store.publishWhole(parts, Wanted(3, **fields), b"new")
                except REFUSALS as error:
                    refused.append(error)
        if refused:
            raise refused[0]

    def putSmallNew(self, store: LocalStore, *files: Parts) -> None:
        """Put small files where none may be."""
        for parts in files:
            with contextlib.suppress(NetsuiteError):
                store.remove(parts)
        self.putSmall(store, *files, clobber=False)

    def putSmallOver(self, store: LocalStore, parts: Parts) -> None:
        """Put a small file over one of which the contents are known."""
        with contextlib.suppress(NetsuiteError):
            self.putSmall(store, parts)
        self.putSmall(store, parts, replaces=digestOf(b"new"))

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
        # Nothing removes the first, which others look for.
        f, g, c = (b"d", b"f"), (b"d", b"g"), (b"d", b"c")
        self.race(
            "d",
            "../outside",
            {
                "stat": lambda store: self.look(store, f),
                "list": lambda store: self.list(store, (b"d",)),
                "manifest": lambda store: self.manifest(store, ()),
                "get": lambda store: self.read(store, f),
                "get, small": lambda store: self.readSmall(store, f),
                "get, in a bundle": lambda store: self.readSmall(store, f, f),
                "hash": lambda store: self.hash(store, f),
                "put": lambda store: put(store, f, b"new"),
                "put, resumable": lambda store: put(store, f, b"new", source=b"s"),
                "put, no clobber": lambda store: self.putNew(store, (b"d", b"c")),
                "put, if unchanged": lambda store: self.putOver(store, f),
                "put, small": lambda store: self.putSmall(store, f),
                "put, small, durable": lambda store: self.putSmall(store, f, durable=True),
                "put, small, no clobber": lambda store: self.putSmallNew(store, c),
                "put, small, if unchanged": lambda store: self.putSmallOver(store, f),
                "put, in a bundle": lambda store: self.putSmall(store, f, g),
                "put, in a bundle, no clobber": lambda store: self.putSmallNew(store, c, g),
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
                "get, small": lambda store: self.readSmall(store, file),
                "get, in a bundle": lambda store: self.readSmall(store, file, (b"own",), file),
                "hash": lambda store: self.hash(store, file),
                "chmod and utimes": lambda store: self.changed(store, file),
                "put": lambda store: put(store, file, b"new"),
                "put, resumable": lambda store: put(store, file, b"new", source=b"s"),
                "put, if unchanged": lambda store: self.putOver(store, file),
                "put, small": lambda store: self.putSmall(store, file),
                "put, small, if unchanged": lambda store: self.putSmallOver(store, file),
                "put, in a bundle": lambda store: self.putSmall(store, (b"new",), file),
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
