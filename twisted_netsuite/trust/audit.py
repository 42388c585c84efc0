"""
The audit log: what was done, by whom, in a chain of records that shows when one is changed.

Who may do something is decided elsewhere; see L{trust.policy}. Reading and verifying is in
L{trust.auditcheck}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_netsuite.errors import AuditUnavailable, ConfigurationError, NetsuiteError
from twisted_netsuite.trust.auditfile import SYSTEM, AuditFile, Disturbed, SystemCalls, reasonOf
from twisted_netsuite.trust.auditrecord import (
    NOTHING_BEFORE,
    BadRecord,
    Head,
    digestOf,
    encodeMembers,
    openRecord,
    sealRecord,
    timestamp,
)
from twisted_netsuite.trust.auditvalue import Value
from twisted_netsuite.trust.denials import Denials, Sum
from twisted_netsuite.trust.identity import Identity

#: Bytes of a file before another is begun: some 200,000 records, which a person's tools still open.
MAX_BYTES = 64 * 1024 * 1024

#: Bytes of JSON of each value where something was refused: the path or the command of an honest
#: mistake, and not so much that whoever may do nothing can fill the disk.
MAX_DENIED = 512

#: Bytes of JSON of each value where something was done: all of what a person types, and not so much
#: that whoever may do one harmless thing can fill the disk.
MAX_ALLOWED = 8 * 1024

#: Records that wait for the disk at a time. One fsync serves them all, so more of them mean a disk
#: that has stopped, and acts that had better be refused.
MAX_WAITING = 1024


class IAuditLog(Protocol):
    """Where services write what they do."""

    def record(
        self,
        event: str,
        *,
        service: str,
        peer: str,
        identity: Identity | str,
        durable: bool = False,
        denial: bool = False,
        **fields: Value,
    ) -> Deferred[None]:
        """
        Write one record; records stand in the order of these calls.

        @param event: what happened, as C{exec.start}.
        @param service: the service's name.
        @param peer: the peer's address.
        @param identity: who the peer is.
        @param durable: whether to wait until the record is on the disk.
        @param denial: whether this was refused, which anyone can bring about as often as they like:
            little is kept of each value, and of very many only the number.
        @param fields: what else there is to tell; text and bytes of any content and length. The
            names C{n}, C{time}, C{previous} and C{hash} are taken.
        @return: fires when the record is written; fails with L{AuditUnavailable} when it cannot be,
            and then what it tells of must not be done.
        """


class NoAudit:
    """The audit log where none is configured."""

    def record(
        self,
        event: str,
        *,
        service: str,
        peer: str,
        identity: Identity | str,
        durable: bool = False,
        denial: bool = False,
        **fields: Value,
    ) -> Deferred[None]:
        """Write nothing, which always succeeds."""
        return succeed(None)


class AuditNotes:
    """
    An audit log in memory, for tests.

    @ivar records: what was recorded, each by name: event, service, peer, identity (as text),
        durable, and its fields.
    @ivar failure: what records fail with, if it is set.
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.failure: NetsuiteError | None = None

    def record(
        self,
        event: str,
        *,
        service: str,
        peer: str,
        identity: Identity | str,
        durable: bool = False,
        denial: bool = False,
        **fields: Value,
    ) -> Deferred[None]:
        """Note a record."""
        members: dict[str, Any] = {
            "event": event,
            "service": service,
            "peer": peer,
            "identity": str(identity),
            **fields,
        }
        # What a log would refuse is a fault of whoever is tested.
        encodeMembers(members)
        if self.failure is not None:
            return fail(self.failure)
        self.records.append({**members, "durable": durable})
        return succeed(None)


@dataclass
class _Gap:
    """
    What the log will say about a time in which it could not be written.

    @ivar cause: why not.
    @ivar refused: how many records it did not take.
    @ivar unsynced: the first and the last record that may not be on the disk.
    """

    cause: str
    refused: int = 0
    unsynced: tuple[int, int] | None = None


class AuditLog:
    """
    The audit log in a file; there is one writer at a time.

    @ivar path: the file.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        path: str,
        reactor: Any,
        *,
        maxBytes: int = MAX_BYTES,
        calls: SystemCalls = SYSTEM,
        inThread: Callable[[Callable[[], None]], Deferred[None]] | None = None,
    ) -> None:
        """
        @param path: the file; those that were before it are C{PATH.1}, C{PATH.2} and so on.
        @param reactor: tells the time, and has the threads that wait for the disk.
        @param maxBytes: the size at which another file is begun.
        @param calls: asks the system.
        @param inThread: calls something in a thread; by default one of the reactor's.
        """
        self.path = path
        self._clock: IReactorTime = reactor
        self._maxBytes = maxBytes
        self._inThread = inThread or _threadsOf(reactor)
        self._file = AuditFile(path, calls)
        self._isOpen = False
        self._head = Head(0, NOTHING_BEFORE)
        self._previous = NOTHING_BEFORE
        # The last record that is known to be on the disk.
        self._synced = 0
        self._waiting: list[Deferred[None]] = []
        self._inFlight: list[Deferred[None]] | None = None
        self._gap: _Gap | None = None
        self._failing = False
        self._doubtful = False
        self._overfull = False
        self._rotateAt = maxBytes
        self._rotationFails = False
        self._denials = Denials(self._clock, self._tellDenials)

    @property
    def head(self) -> Head:
        """The last record: what to note elsewhere, so that a shortened log is noticed."""
        return self._head

    def open(self) -> None:
        """
        Take the log, and go on with its chain.

        This waits for the disk, so call it before the service listens.

        It can be opened again when it is closed.

        @raise ConfigurationError: when another process has it, it does not end as it was written,
            it cannot be written, or it is open here, or being closed.
        """
        if self._isOpen or self._file.isOpen or self._inFlight is not None:
            raise ConfigurationError(
                f"The audit log {self.path!r} is in use here; close it, and wait until it is."
            )
        self._rotateAt, self._rotationFails, self._overfull = self._maxBytes, False, False
        try:
            self._continue(self._file.openFirst())
            torn = self._file.setAside(self._head.n + 1)
            if torn is not None:
                self.log.warn(
                    "{path}: the last line was torn, and is in {aside} now",
                    path=self.path,
                    aside=torn.path,
                )
                self._append(
                    _ownRecord(
                        "audit.torn",
                        file=torn.path,
                        length=len(torn.data),
                        sha256=digestOf(torn.data),
                    )
                )
            if self._file.isRotatedHalf():
                self._rotateAt = 0
            self._append(_ownRecord("audit.opened"))
            self._tellGap()
            sync = self._file.beginSync()
            try:
                sync()
            finally:
                self._file.endSync()
        except (OSError, Disturbed) as error:
            self._file.drop()
            raise ConfigurationError(
                f"The audit log {self.path!r} cannot be used: {reasonOf(error)}; "
                "mend that, or name another file."
            ) from error
        except ConfigurationError:
            self._file.drop()
            raise
        self._synced, self._doubtful = self._head.n, False
        self._isOpen = True
        self._recovered()

    def _continue(self, lines: list[bytes]) -> None:
        """Take the chain up where it ends."""
        self._head, self._previous = Head(0, NOTHING_BEFORE), NOTHING_BEFORE
        if not lines:
            return
        *before, last = lines
        try:
            sealed = openRecord(last)
            if before and sealed.previous != digestOf(before[0]):
                raise BadRecord("does not follow the line before it")
        except BadRecord as error:
            raise ConfigurationError(
                f"The last line of the audit log {self.path!r} {error}; "
                "look at it with netsuite audit verify, and move the log's files away."
            ) from error
        self._head, self._previous = sealed.head, sealed.digest

    def record(
        self,
        event: str,
        *,
        service: str,
        peer: str,
        identity: Identity | str,
        durable: bool = False,
        denial: bool = False,
        **fields: Value,
    ) -> Deferred[None]:
        """
        Write one record; see L{IAuditLog.record}.

        @return: fires, or fails with L{AuditUnavailable}; when C{durable}, not before the disk has
            answered, and in the order of the calls.
        @raise ValueError: when a field's name cannot be one.
        @raise TypeError: when a field's value cannot be one.
        """
        who = str(identity)
        # Before it is encoded: who is only counted shall cost little.
        if denial and self._isOpen and not self._denials.admits(event, service, peer, who):
            return succeed(None)
        members = encodeMembers(
            {
                "event": event,
                "service": service,
                "peer": peer,
                "identity": who,
                **fields,
            },
            MAX_DENIED if denial else MAX_ALLOWED,
        )
        if not self._isOpen:
            return fail(AuditUnavailable("The audit log is not open; nothing can be recorded."))
        if durable and self._countWaiting() >= MAX_WAITING:
            return fail(self._refuseWaiting())
        return self._write(members, durable)

    def close(self) -> Deferred[None]:
        """
        Write what is left, and give the log back.

        @return: fires when all is on the disk, or cannot be brought there, which the log tells.
        """
        if not self._isOpen:
            return succeed(None)
        self._denials.stop()
        self._isOpen = False
        done = self._write(_ownRecord("audit.closed"), True)
        done.addBoth(self._closed)
        return done

    def _closed(self, result: Failure | None) -> None:
        self._file.drop()
        if result is not None:
            result.trap(AuditUnavailable)
            self._failWaiting(result.getErrorMessage())

    def _tellDenials(self, denied: Sum, times: int) -> bool:
        """Write down how many denials were not written down by themselves."""
        members: dict[str, Value] = {
            "event": denied.event,
            "service": denied.service,
            "peer": denied.source,
            "identity": denied.identity,
            "suppressed": times,
        }
        written: list[None] = []
        done = self._write(encodeMembers(members, MAX_DENIED), False)
        done.addCallbacks(written.append, lambda failure: failure.trap(AuditUnavailable) and None)
        return bool(written)

    def _write(self, members: bytes, durable: bool) -> Deferred[None]:
        try:
            self._tellGap()
            self._append(members)
        except (OSError, Disturbed) as error:
            return fail(self._failed(reasonOf(error), refused=1))
        if not self._doubtful:
            self._recovered()
        done: Deferred[None] = Deferred() if durable else succeed(None)
        if durable:
            self._waiting.append(done)
        if durable or self._doubtful or self._file.hasRetired:
            self._startSync()
        return done

    def _append(self, members: bytes) -> None:
        """Write a record as the next of the chain."""
        n, moment = self._head.n + 1, timestamp(self._clock.seconds())
        line, sealed = sealRecord(n, moment, members, self._previous)
        if self._file.isOpen and self._file.size and self._file.size + len(line) >= self._rotateAt:
            self._rotate()
        self._file.append(line)
        self._head, self._previous = sealed.head, sealed.digest

    def _rotate(self) -> None:
        try:
            self._file.rotate()
        except (OSError, Disturbed) as error:
            # Not with each record: after another eighth of a file.
            self._rotateAt = self._file.size + self._maxBytes // 8
            if not self._rotationFails:
                self._rotationFails = True
                self.log.error(
                    "{path}: cannot be rotated, and grows on: {reason}",
                    path=self.path,
                    reason=reasonOf(error),
                )
            return
        self._rotateAt = self._maxBytes
        if self._rotationFails:
            self._rotationFails = False
            self.log.info("{path}: is rotated again", path=self.path)

    # Waiting for the disk.

    def _countWaiting(self) -> int:
        return len(self._waiting) + len(self._inFlight or ())

    def _refuseWaiting(self) -> AuditUnavailable:
        if not self._overfull:
            self._overfull = True
            self.log.error(
                "{path}: the disk is too slow, {count} records wait for it; "
                "what would be recorded now is refused",
                path=self.path,
                count=self._countWaiting(),
            )
        return AuditUnavailable(
            f"{self._countWaiting()} audit records wait for the disk; try again later."
        )

    def _startSync(self) -> None:
        """Wait for the disk in a thread, once for all that wait now."""
        if self._inFlight is not None or not self._file.isOpen:
            return
        self._inFlight, self._waiting = self._waiting, []
        done = maybeDeferred(self._inThread, self._file.beginSync())
        done.addCallbacks(
            self._syncDone, self._syncFailed, callbackArgs=(self._head.n,)
        ).addErrback(lambda failure: self.log.failure("audit", failure))

    def _syncDone(self, _: None, reached: int) -> None:
        self._file.endSync()
        done, self._inFlight = self._inFlight or [], None
        self._synced = max(self._synced, reached)
        if self._gap is None:
            self._doubtful = False
            self._recovered()
        self._overfull = self._overfull and bool(self._waiting)
        for each in done:
            each.callback(None)
        if self._waiting or self._file.hasRetired:
            self._startSync()

    def _syncFailed(self, failure: Failure) -> None:
        """
        Give up what was to reach the disk.

        The kernel reports a page that it lost only once, and counts it as written then: another
        fsync would succeed and mean nothing. So the file is opened again, and the log says which
        records are in doubt.
        """
        self._file.endSync()
        self._file.drop()
        waited, self._inFlight = self._inFlight or [], None
        self._waiting[:0] = waited
        self._doubtful = True
        self._failed(reasonOf(failure.value), refused=0)

    # Failing and recovering.

    def _failed(self, reason: str, refused: int) -> AuditUnavailable:
        """Note that the log cannot be written, and tell it once."""
        self._gap = self._gap or _Gap(reason)
        self._gap.refused += refused
        if not self._failing:
            self._failing = True
            self.log.error(
                "{path}: cannot be written: {reason}; what has to be recorded is refused",
                path=self.path,
                reason=reason,
            )
        sentence = f"The audit log cannot be written: {reason}; its operator has to mend that."
        if not self._file.isOpen:
            self._failWaiting(sentence)
        return AuditUnavailable(sentence)

    def _failWaiting(self, sentence: str) -> None:
        """Nothing tells any more whether these records reached the disk."""
        failed = [*(self._inFlight or ()), *self._waiting]
        if self._inFlight is not None:
            self._inFlight = []
        self._waiting = []
        if self._gap is not None and self._head.n > self._synced:
            first = self._gap.unsynced[0] if self._gap.unsynced else self._synced + 1
            self._gap.unsynced = (first, self._head.n)
        for each in failed:
            each.errback(AuditUnavailable(sentence))

    def _tellGap(self) -> None:
        """Let the first record after a gap say what the gap was."""
        gap = self._gap
        if gap is None:
            return
        self._append(
            _ownRecord("audit.resumed", cause=gap.cause, refused=gap.refused, unsynced=gap.unsynced)
        )
        self._gap = None

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            self.log.info("{path}: is written again", path=self.path)


def _ownRecord(event: str, **fields: Value) -> bytes:
    """Write what the log tells of itself."""
    return encodeMembers({"event": event, "service": "audit", "peer": "", "identity": "", **fields})


def _threadsOf(reactor: Any) -> Callable[[Callable[[], None]], Deferred[None]]:
    threads: IReactorFromThreads = reactor

    def inThread(function: Callable[[], None]) -> Deferred[None]:
        pool: Any = reactor.getThreadPool()
        return deferToThreadPool(threads, pool, function)

    return inThread
