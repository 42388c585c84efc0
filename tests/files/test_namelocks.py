"""
Nothing is done by a name, or by one below it, while that is changed, and nobody waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Event, Thread

from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import Conflict
from twisted_netsuite.files import namelocks
from twisted_netsuite.files.namelocks import NameLocks
from twisted_netsuite.files.names import Parts, split

#: Seconds after which who still waits is taken to wait for good, and those for who will not wait.
SHORT, LONG = 0.05, 10.0


class NameLocksTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.locks = NameLocks()

    def share(self, name: bytes) -> AbstractContextManager[None]:
        """Do something by a name."""
        return self.locks.sharing(split(name))

    def take(self, name: bytes, to: bytes) -> AbstractContextManager[None]:
        """Change a name."""
        return self.locks.taking(split(name), split(to))

    def start(self, held: AbstractContextManager[None]) -> tuple[Event, Callable[[], None]]:
        """Hold something in another thread; give whether it is held, and what ends that."""
        has, end = Event(), Event()

        def work() -> None:
            with held:
                has.set()
                end.wait(LONG)

        thread = Thread(target=work)
        thread.start()

        def finish() -> None:
            end.set()
            thread.join(LONG)
            self.assertFalse(thread.is_alive())

        self.addCleanup(finish)
        return has, finish

    def test_apart(self) -> None:
        """Names that have nothing to do with each other are used, and changed, at the same time."""
        with self.share(b"/a/f"), self.share(b"/a/f"), self.take(b"/b", b"/c"):
            for held in (self.share(b"/a/f"), self.share(b"/bb"), self.take(b"/d", b"/e")):
                has, finish = self.start(held)
                self.assertTrue(has.wait(LONG))
                finish()

    def test_changeWaits(self) -> None:
        """A change waits for all who do something at or below either name."""
        for name in (b"/d", b"/d/e/f", b"/new", b"/new/f"):
            with self.share(name):
                has, finish = self.start(self.take(b"/d", b"/new"))
                self.assertFalse(has.wait(SHORT))
            self.assertTrue(has.wait(LONG))
            finish()

    def test_useWaits(self) -> None:
        """Who does something at or below either name waits for the change."""
        for name in (b"/d", b"/d/e/f", b"/new", b"/new/f"):
            with self.take(b"/d", b"/new"):
                has, finish = self.start(self.share(name))
                self.assertFalse(has.wait(SHORT))
            self.assertTrue(has.wait(LONG))
            finish()

    def test_changesWait(self) -> None:
        """Changes wait for each other where one is above the other, also crosswise."""
        for names in ((b"/d/e", b"/x"), (b"/x", b"/d/e"), (b"/new/d", b"/d/new"), (b"/", b"/x")):
            with self.take(b"/d", b"/new"):
                has, finish = self.start(self.take(*names))
                self.assertFalse(has.wait(SHORT))
            self.assertTrue(has.wait(LONG))
            finish()

    def test_changeComes(self) -> None:
        """Those who come after a change do not keep it waiting."""
        with self.share(b"/d/1"):
            changes, changed = self.start(self.take(b"/d", b"/e"))
            self.assertFalse(changes.wait(SHORT))
            uses, used = self.start(self.share(b"/d/2"))
            self.assertFalse(uses.wait(SHORT))
        self.assertTrue(changes.wait(LONG))
        self.assertFalse(uses.wait(SHORT))
        changed()
        self.assertTrue(uses.wait(LONG))
        used()

    def test_long(self) -> None:
        """A change does not wait for ever, and then keeps nobody waiting."""
        self.patch(namelocks, "PATIENCE", SHORT)
        for held in (self.share(b"/d/f"), self.take(b"/x", b"/d/f")):
            with held:
                with self.assertRaises(Conflict), self.take(b"/d", b"/e"):
                    self.fail("It was changed.")
                has, finish = self.start(self.share(b"/d/g"))
                self.assertTrue(has.wait(LONG))
                finish()
        with self.take(b"/d", b"/e"):
            pass

    def test_failures(self) -> None:
        """What fails holds nothing."""
        name: Parts = (b"d",)
        for held in (self.locks.sharing(name), self.locks.taking(name, name)):
            with self.assertRaises(KeyError), held:
                raise KeyError
        has, finish = self.start(self.take(b"/d", b"/e"))
        self.assertTrue(has.wait(LONG))
        finish()
