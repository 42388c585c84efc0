"""
The life of a native files service: opened, stopped, and both of that at once, twice or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.files.fileserver import Immediate, Later
from tests.files.nativerig import Client, NativeCase
from twisted_netsuite.errors import ConfigurationError, NetsuiteError
from twisted_netsuite.files import disk
from twisted_netsuite.files.leftovers import PARTIAL
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.messages import RECORDS, SERVICE, Stat
from twisted_netsuite.files.native import CLEAN_INTERVAL, FilesFactory
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.net.sessionclient import helloFor
from twisted_netsuite.testing import connectPair
from twisted_netsuite.trust.oversight import UNSEEN
from twisted_netsuite.wire.session import SessionCodec


class Noting(MemoryStore):
    """Notes what is asked of it as a whole."""

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self.told = told

    def clean(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> int:
        self.told.append("clean")
        return super().clean(seconds, stopped)

    def close(self) -> None:
        self.told.append("close")
        super().close()


class LifeTests(SynchronousTestCase):
    """L{FilesFactory} on a disk whose answers come when a test says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.disk = Later()
        self.told: list[str] = []
        permit = Permit(UNSEEN, Roots("/r", self.store))
        self.factory = FilesFactory(self.clock, permit, disk=self.disk)

    def tearDown(self) -> None:
        """Nothing is timed, open or under way."""
        self.assertEqual((self.clock.getDelayedCalls(), self.disk.waiting), ([], []))
        self.assertEqual(self.factory.permit.roots.stores, [])

    def store(self, path: str) -> Noting:
        """Open the store."""
        self.told.append("open")
        return Noting(self.told)

    def settle(self) -> None:
        """Let the disk do all."""
        while self.disk.step():
            pass

    def opened(self) -> None:
        """Open it."""
        opened = self.factory.open()
        self.settle()
        self.successResultOf(opened)

    def stop(self) -> None:
        """Stop it."""
        stopped = self.factory.abortConnections()
        self.settle()
        self.successResultOf(stopped)

    def test_stopTwice(self) -> None:
        """Each stop fires, whether the one before has ended or not."""
        self.opened()
        both = [self.factory.abortConnections(), self.factory.abortConnections()]
        for each in both:
            self.assertNoResult(each)
        self.settle()
        for each in both:
            self.successResultOf(each)
        self.successResultOf(self.factory.abortConnections())
        self.assertEqual(self.told, ["open", "clean", "close"])

    def test_stopUnopened(self) -> None:
        """What was never opened is stopped at once, and touches no disk."""
        self.successResultOf(self.factory.abortConnections())
        self.assertEqual(self.told, [])

    def test_stopWhileOpening(self) -> None:
        """A stop while it is opened waits for that, and leaves nothing behind."""
        opened = self.factory.open()
        stopped = self.factory.abortConnections()
        self.assertNoResult(stopped)
        self.settle()
        self.successResultOf(opened)
        self.successResultOf(stopped)
        self.assertEqual(self.told, ["open", "close"])

    def test_openTwice(self) -> None:
        """It is opened once, however often that is asked."""
        both = [self.factory.open(), self.factory.open()]
        self.settle()
        for each in [*both, self.factory.open()]:
            self.successResultOf(each)
        self.stop()
        self.assertEqual(self.told, ["open", "clean", "close"])

    def test_openAgain(self) -> None:
        """Not while it stops, but once it has stopped, it can be opened again."""
        for _ in range(2):
            opened = self.factory.open()
            asked = self.factory.disk.run(self.told.append, "asked")
            # Whatever is asked waits for that, the second time as the first.
            self.assertEqual(len(self.disk.waiting), 1)
            self.settle()
            self.successResultOf(opened)
            self.successResultOf(asked)
            stopped = self.factory.abortConnections()
            self.failureResultOf(self.factory.open(), ConfigurationError)
            self.settle()
            self.successResultOf(stopped)
        self.assertEqual([self.told.count(each) for each in ("open", "asked", "close")], [2] * 3)
        self.assertEqual((self.told[0], self.told[-1]), ("open", "close"))

    def test_openFails(self) -> None:
        """What cannot be opened is closed again, and all who wait are told; it can be tried
        anew."""
        fails = [True]

        def check(path: str) -> Noting:
            if fails.pop():
                raise ConfigurationError("There is no such directory.")
            return self.store(path)

        self.factory.permit.roots._make = check
        both = [self.factory.open(), self.factory.open()]
        self.settle()
        for each in both:
            self.failureResultOf(each, ConfigurationError)
        self.assertRaises(NetsuiteError, self.factory.requireOpen)
        fails.append(False)
        self.opened()
        self.stop()

    def test_openFailsWhileStopping(self) -> None:
        """A stop comes to its end also when what it waits for could not be opened."""
        self.factory.permit.roots._make = lambda path: cast(Any, 1 // 0)
        opened, stopped = self.factory.open(), self.factory.abortConnections()
        self.settle()
        self.failureResultOf(opened, ZeroDivisionError)
        self.successResultOf(stopped)

    def test_closeFails(self) -> None:
        """A root that cannot be closed is told of, and the service has stopped."""
        self.opened()
        close = self.factory.permit.close

        def failing() -> None:
            close()
            raise OSError("EIO")

        self.patch(self.factory.permit, "close", failing)
        stopped = self.factory.abortConnections()
        self.settle()
        self.failureResultOf(stopped, OSError)
        self.successResultOf(self.factory.abortConnections())

    def test_cleanedAgain(self) -> None:
        """What is left over is looked for from time to time, and never after the stop."""
        self.opened()
        self.clock.advance(CLEAN_INTERVAL)
        self.settle()
        self.assertEqual(self.told, ["open", "clean", "clean"])
        self.stop()
        self.clock.advance(2 * CLEAN_INTERVAL)
        self.assertEqual(self.told, ["open", "clean", "clean", "close"])

    def test_cleaningGivenUp(self) -> None:
        """What has not begun to be cleaned when the service stops is not cleaned any more."""
        opened = self.factory.open()
        self.disk.step()
        self.successResultOf(opened)
        self.assertEqual(len(self.disk.waiting), 1)
        self.stop()
        self.assertEqual(self.told, ["open", "close"])


class UnopenedTests(NativeCase):
    """Sessions with a service that serves nothing."""

    def refused(self) -> str:
        """Open a session, and tell how it ends."""
        client = Client(self.clock, SessionCodec(RECORDS), helloFor(SERVICE), "h:1")
        server: Any = self.factory.buildProtocol(None)
        client.pair = connectPair(server, client)
        client.server = server
        client.greeted.addErrback(lambda failure: None)
        client.pair.flush()
        client.pair.flush()
        return client.why()

    def test_refused(self) -> None:
        """Before C{open}, and after the stop, a session is told what is missing, at once."""
        permit = Permit(UNSEEN, Roots("/r", lambda path: self.store))
        stopped, self.factory = self.factory, FilesFactory(self.clock, permit, disk=self.disk)
        self.assertIn("open()", self.refused())
        self.successResultOf(stopped.abortConnections())
        self.factory = stopped
        self.assertIn("open()", self.refused())

    def test_stopWhileAsked(self) -> None:
        """What waits for the service to be open does not keep it from stopping."""
        self.stop()
        later = Later()
        permit = Permit(UNSEEN, Roots("/r", lambda path: self.store))
        self.factory = FilesFactory(self.clock, permit, disk=later)
        opened = self.factory.open()
        self.connect().ask(Stat, name=b"/")
        stopped = self.factory.abortConnections()
        self.disk, self.slow = later, True
        self.settle()
        self.successResultOf(opened)
        self.clock.advance(40)
        self.settle()
        self.successResultOf(stopped)
        self.assertEqual(permit.roots.stores, [])

    def test_opening(self) -> None:
        """While it is opened sessions are let in, and what they ask waits for that."""
        self.stop()
        later = Later()
        permit = Permit(UNSEEN, Roots("/r", lambda path: self.store))
        self.factory = FilesFactory(self.clock, permit, disk=later)
        opened = self.factory.open()
        client = self.connect()
        ids = [client.ask(Stat, name=b"/") for _ in range(3)]
        self.settle()
        self.assertEqual(len(later.waiting), 1)
        self.assertNoResult(opened)
        later.step()
        self.successResultOf(opened)
        while later.step():
            self.settle()
        self.assertEqual([client.kinds(id) for id in ids], [["Done"]] * 3)
        self.disk, self.slow = later, True


class CleanTests(SynchronousTestCase):
    """The look for what nobody goes on with, in a whole tree."""

    def test_stopped(self) -> None:
        """It ends where it is when it is told so, and closes all that it has opened."""
        path = os.path.abspath(self.mktemp())
        for number in range(20):
            directory = os.path.join(path, f"d{number}")
            os.makedirs(directory)
            with open(os.path.join(directory, os.fsdecode(PARTIAL) + "0"), "wb"):
                pass
        store = LocalStore(Root(path))
        self.addCleanup(store.close)
        before = os.listdir("/proc/self/fd")
        turns = iter([False] * 8)
        self.assertEqual(store.clean(0, lambda: True), 0)
        removed = store.clean(0, lambda: next(turns, True))
        self.assertTrue(0 < removed < 20, removed)
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before))
        self.assertEqual(store.clean(0), 20 - removed)


class ThreadsTests(TestCase):
    """A service that has threads of its own."""

    def factory(self) -> FilesFactory:
        """Make it."""
        from twisted.internet import reactor

        return FilesFactory(
            cast(Any, reactor), Permit(UNSEEN, Roots("/", lambda path: MemoryStore()))
        )

    async def test_again(self) -> None:
        """It can be stopped twice, and opened again, with threads anew."""
        factory = self.factory()
        await factory.abortConnections()
        for _ in range(2):
            await factory.open()
            await factory.abortConnections()
            await factory.abortConnections()

    async def test_stopWhileOpening(self) -> None:
        """It leaves nothing in the reactor when it is stopped before it was open."""
        factory = self.factory()
        opened = factory.open()
        await factory.abortConnections()
        await opened

    def test_givenDisk(self) -> None:
        """Who brings a disk gets no threads."""
        made: list[Deferred[None]] = []
        self.patch(disk.ThreadedDisk, "__init__", lambda *args, **told: made.append(args[0]))
        permit = Permit(UNSEEN, Roots("/", lambda path: MemoryStore()))
        FilesFactory(Clock(), permit, disk=Immediate())
        self.assertEqual(made, [])
