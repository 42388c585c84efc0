"""
The native files service: its sessions, and what they share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_netsuite.errors import ConfigurationError, NetsuiteError
from twisted_netsuite.files.disk import MOVERS, NICE, Disk, ThreadedDisk, WatchedDisk
from twisted_netsuite.files.messages import (
    FRAME,
    RECORDS,
    SERVICE,
)
from twisted_netsuite.files.nativesession import NativeFiles
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.quota import KEEP
from twisted_netsuite.files.uploads import Uploads
from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits
from twisted_netsuite.net.framed import SessionFactory
from twisted_netsuite.net.rates import Pace
from twisted_netsuite.trust.tokens import TokenVerifier

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds between two looks for what nobody goes on with; each walks through all directories.
CLEAN_INTERVAL = 6 * 3600.0


class FilesFactory(SessionFactory):
    """
    Serves files over native sessions.

    @ivar permit: decides what may be done.
    @ivar disk: does what blocks.
    @ivar pace: how fast bytes may flow for each identity.
    @ivar uploads: the files that are being received.
    """

    protocol = NativeFiles

    def __init__(
        self,
        reactor: IReactorTime,
        permit: Permit,
        *,
        disk: Disk | None = None,
        pace: Pace | None = None,
        tokens: TokenVerifier | None = None,
        requireIdentity: bool = False,
        limits: ConnectionLimits = DEFAULT_LIMITS,
    ) -> None:
        """
        @param reactor: the reactor; with a disk something that tells time is enough, such as a fake
            clock in tests.
        @param permit: decides what may be done, and knows where files are kept.
        @param disk: does what blocks; by default in threads, between L{open} and
            L{abortConnections}.
        @param pace: how fast bytes may flow for each identity; as fast as can be without.
        @param tokens: checks users and tokens; C{None} where none are taken.
        @param requireIdentity: whether to refuse who is anonymous.
        @param limits: bounds the connections.
        """
        super().__init__(
            reactor,
            SERVICE,
            RECORDS,
            tokens=tokens,
            requireIdentity=requireIdentity,
            frame=FRAME,
            limits=limits,
        )
        self.permit = permit
        #: Disks of our own.
        self._threads: tuple[ThreadedDisk, ...] = ()
        if disk is None:
            most, movers = ThreadedDisk(reactor, nice=NICE), ThreadedDisk(reactor, MOVERS, NICE)
            self._threads = (most, movers)
            self._gate = Gate(most)
            self.disk = WatchedDisk(self._gate)
            moving = self.disk.beside(movers)
        else:
            self._gate = Gate(disk)
            self.disk = moving = WatchedDisk(self._gate)
        self.pace = Pace(reactor) if pace is None else pace
        self.uploads = Uploads(moving)
        self._cleaning: IDelayedCall | None = None
        #: What comes of L{open} and L{abortConnections}; C{None} where they are not begun.
        self._opening: Outcome | None = None
        self._stopping: Outcome | None = None

    def open(self) -> Deferred[None]:
        """
        Open the root, and find what an earlier run has left; without it nothing is served.

        What is asked meanwhile waits for it. It can be called again while it is open, which changes
        nothing, and once it has stopped.

        @return: fires when all is ready; fails with L{ConfigurationError} when something cannot be
            used, which closes it again, or while it stops.
        """
        if self._stopping is not None:
            return fail(ConfigurationError("The service stops; open it again once it has."))
        if self._opening is not None:
            return self._opening.wait()
        self._opening = opening = Outcome()
        for threads in self._threads:
            threads.start()
        self.disk.beside(self._gate.disk).run(self.permit.open).addBoth(self._opened, opening)
        return opening.wait()

    def _opened(self, result: Failure | None, opening: Outcome) -> None:
        self._gate.open()
        if isinstance(result, Failure):
            # What was opened of it is closed, before anybody tries anew.
            self.abortConnections().addBoth(lambda _: opening.tell(result))
            return
        if self._stopping is None:
            self._clean()
        opening.tell(None)

    def requireOpen(self) -> None:
        """
        Require that files are served.

        @raise NetsuiteError: when L{open} was not called, or the service stops.
        """
        if self._opening is None or self._stopping is not None:
            raise NetsuiteError(
                "This service serves no files now; whoever runs it has to call its open()."
            )

    def _clean(self) -> None:
        """Remove what nobody has gone on with for long, now and from time to time."""
        self._cleaning = self.clock.callLater(CLEAN_INTERVAL, self._clean)
        cleaned = self.disk.run(_cleanAll, self.permit, lambda: self._stopping is not None)
        cleaned.addErrback(lambda failure: self.log.failure("leftovers were not removed", failure))

    def abortConnections(self) -> Deferred[None]:
        """
        Stop the service: end every session, keep what can be kept, and close the root.

        @return: fires when nothing is left.
        """
        if self._opening is None:
            return super().abortConnections()
        if self._stopping is not None:
            return self._stopping.wait()
        self._stopping = stopping = Outcome()
        Deferred.fromCoroutine(self._stop()).addBoth(self._stopped, stopping)
        return stopping.wait()

    async def _stop(self) -> None:
        if self._cleaning is not None and self._cleaning.active():
            self._cleaning.cancel()
        await super().abortConnections()
        # What is kept of files is written down by then, and what was being opened is open.
        await self.disk.idle()
        try:
            await self.disk.run(self.permit.close)
        finally:
            self._gate.shut()
            for threads in self._threads:
                threads.stop()

    def _stopped(self, result: Failure | None, stopping: Outcome) -> None:
        self._opening = self._stopping = None
        stopping.tell(result)


class Gate:
    """
    Does what blocks on another disk, as long as it is open; until then it keeps it.

    @ivar disk: the other.
    """

    def __init__(self, disk: Disk) -> None:
        """
        @param disk: does it.
        """
        self.disk = disk
        self._isOpen = False
        self._waiting: list[Callable[[], object]] = []

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """
        Do something.

        @param work: what; it blocks.
        @param args: for it.
        @param kwargs: for it.
        @return: fires with what it returns, or fails with what it raises.
        """
        if self._isOpen:
            return self.disk.run(work, *args, **kwargs)
        done: Deferred[T] = Deferred()
        self._waiting.append(lambda: self.disk.run(work, *args, **kwargs).chainDeferred(done))
        return done

    def open(self) -> None:
        """Do what was kept, in its order, and from now on all."""
        self._isOpen = True
        waiting, self._waiting = self._waiting, []
        for begin in waiting:
            begin()

    def shut(self) -> None:
        """Keep what comes."""
        self._isOpen = False


class Outcome:
    """What comes of something that is done once, for any number who wait for it."""

    def __init__(self) -> None:
        self._known = False
        self._result: Failure | None = None
        self._waiting: list[Deferred[None]] = []

    def wait(self) -> Deferred[None]:
        """
        Wait for it.

        @return: one for each caller; fires, or fails, as L{tell} says, at once when it has said so.
        """
        waiting: Deferred[None] = Deferred()
        if self._known:
            waiting.callback(self._result)
        else:
            self._waiting.append(waiting)
        return waiting

    def tell(self, result: Failure | None) -> None:
        """
        Tell all who wait, and will.

        @param result: what it failed with; C{None} where it did not.
        """
        self._known, self._result = True, result
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(result)


def _cleanAll(permit: Permit, stopped: Callable[[], bool]) -> None:
    for store in permit.roots.stores:
        if not stopped():
            store.clean(KEEP, stopped)
