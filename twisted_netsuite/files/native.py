"""
The native files service: its sessions, and what they share.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_netsuite.files.disk import Disk, ThreadedDisk, WatchedDisk
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
        self._threads = threads = ThreadedDisk(reactor)
        self._ownDisk = disk is None
        self.disk = WatchedDisk(threads if disk is None else disk)
        self.pace = Pace(reactor) if pace is None else pace
        self.uploads = Uploads()
        self._cleaning: IDelayedCall | None = None

    def open(self) -> Deferred[None]:
        """
        Open the root, and find what an earlier run has left.

        @return: fires when all is ready; fails with L{ConfigurationError} when something cannot be
            used.
        """
        if self._ownDisk:
            self._threads.start()
        return self.disk.run(self.permit.open).addCallback(lambda _: self._clean())

    def _clean(self) -> None:
        """Remove what nobody has gone on with for long, now and from time to time."""
        self._cleaning = self.clock.callLater(CLEAN_INTERVAL, self._clean)
        cleaned = self.disk.run(_cleanAll, self.permit)
        cleaned.addErrback(lambda failure: self.log.failure("leftovers were not removed", failure))

    def abortConnections(self) -> Deferred[None]:
        """
        Stop the service: end every session, keep what can be kept, and close the root.

        @return: fires when nothing is left.
        """
        if self._cleaning is not None and self._cleaning.active():
            self._cleaning.cancel()
        aborted = super().abortConnections().addCallback(lambda _: self.disk.idle())
        return aborted.addCallback(self._closed)

    def _closed(self, result: None) -> Deferred[None]:
        # Not before: what is kept of files is written down by then.
        closed = self.disk.run(self.permit.close)
        return closed.addCallback(self._stopThreads)

    def _stopThreads(self, result: None) -> None:
        self._threads.stop()


def _cleanAll(permit: Permit) -> None:
    for store in permit.roots.stores:
        store.clean(KEEP)
