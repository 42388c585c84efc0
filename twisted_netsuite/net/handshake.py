"""
The wait for a TLS handshake: nothing above it hears of a connection before its peer is proven.

Twisted tells a protocol of its connection before the handshake, so that a proxy, say, would connect
to its target for a peer that has no certificate.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from OpenSSL.SSL import Connection
from OpenSSL.SSL import Error as SSLError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    ILoggingContext,
    IProtocol,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    IReactorTime,
    ISystemHandle,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.errors import Unauthenticated
from twisted_netsuite.net.admission import Place, Recurrences, admitting, sourceOf
from twisted_netsuite.net.bulktls import BulkTLSTransport
from twisted_netsuite.net.interfaces import IStreamTransport
from twisted_netsuite.net.names import peerName
from twisted_netsuite.net.serving import RefusedProtocol
from twisted_netsuite.net.tls import peerHasClosed
from twisted_netsuite.net.tlscontext import HandshakeNotes, inWords
from twisted_netsuite.trust.identity import ANONYMOUS, Identity, identityOf

#: Seconds for a handshake: three round trips of the slowest satellite link, and a certificate from
#: a card that a person must touch.
HANDSHAKE_TIMEOUT = 10.0

#: Bytes from a peer before its handshake is complete: a chain of certificates has at most 100 KiB
#: by OpenSSL's own bound, and all else in a handshake is small.
MAX_HANDSHAKE = 256 * 1024


class HandshakeFailed(ConnectError):
    """
    The handshake failed.

    @ivar cause: why, in words without a full stop.
    """

    def __init__(self, cause: str) -> None:
        """
        @param cause: why, in words without a full stop.
        """
        super().__init__()
        self.cause = cause

    def __str__(self) -> str:
        """Say why, and nothing else."""
        return self.cause


class HandshakeGivenUp(HandshakeFailed):
    """This end gave the handshake up, which says nothing of the peer."""


class BoundedTLSTransport(BulkTLSTransport, HandshakeNotes):
    """TLS that bounds the bytes of a handshake, and tells of an end that is not as it should be."""

    log: ClassVar[Logger] = Logger()
    _early: int | None = 0
    _who: Identity = ANONYMOUS

    def handshakeEnded(self, who: Identity) -> None:
        """
        Count no more.

        @param who: the peer, for the log.
        """
        self._early = None
        self._who = who

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell of an end that anybody on the way may have made."""
        if self._early is None and not self.disconnecting:
            # What TLS itself has failed with, which Twisted keeps for the protocol.
            error = self._reason and self._reason.value
            cause = tlsReason(error)
            if not cause and not peerHasClosed(cast(IStreamTransport, self)):
                cause = "it ended without close_notify, so what came may be cut short"
            if cause:
                peer = peerName(self.getPeer())
                who = "" if self._who is ANONYMOUS else f" ({self._who})"
                self.log.info("{peer}{who}: closed, TLS: {cause}", peer=peer, who=who, cause=cause)
        super().connectionLost(reason)

    def _shutdownTLS(self) -> None:
        """Answer a goodbye, but not before what was written in answer to the bytes before it."""
        if not self._aborted:
            self._aggregator.flush()
        super()._shutdownTLS()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes, unless they are too many."""
        if self._early is not None:
            self._early += len(data)
            if self._early > MAX_HANDSHAKE:
                self.failVerification(
                    Failure(HandshakeFailed(f"it has more than {MAX_HANDSHAKE} bytes"))
                )
                return
        super().dataReceived(data)


#: What OpenSSL's reasons mean, for a person; the first that is part of a reason counts.
_REASONS = {
    "peer did not return a certificate": "no certificate was sent",
    "certificate required": "the server wants a client certificate",
    "http request": "plain HTTP was sent",
    "https proxy request": "plain HTTP was sent",
    "wrong version number": "what was sent is not TLS",
    "packet length too long": "what was sent is not TLS",
    "record layer failure": "what was sent is not TLS",
    "unknown protocol": "what was sent is not TLS",
    "bad record type": "what was sent is not TLS",
    "version too low": "the versions of TLS that both speak have none in common",
    "unsupported protocol": "the versions of TLS that both speak have none in common",
    "alert protocol version": "the versions of TLS that both speak have none in common",
    "unexpected message": "the peer broke the rules of TLS",
    "no shared cipher": "no cipher suite is common to both",
    "no suitable key share": "no group is common to both",
    "no suitable groups": "no group is common to both",
    "unknown ca": "the peer does not trust this end's authority",
    "bad certificate": "the peer refuses this end's certificate",
    "certificate expired": "the peer says that this end's certificate has expired",
    "certificate revoked": "the peer says that this end's certificate is revoked",
    "certificate unknown": "the peer refuses this end's certificate",
    "unsupported certificate": "the peer says that this end's certificate is not for this end",
    "alert handshake failure": "the peer refused the handshake",
    # What pyOpenSSL sends for a certificate that is refused by more than OpenSSL's own checks.
    "alert internal error": "the peer refuses this end's certificate, perhaps for its name",
    "certificate verify failed": "the peer's certificate was refused",
}


def tlsReason(error: BaseException | None, notes: HandshakeNotes | None = None) -> str:
    """
    Say why TLS ended a connection.

    @param error: what the connection was lost with.
    @param notes: what was noted of the peer's certificate.
    @return: words without a full stop; empty when it was not TLS that ended it.
    """
    if isinstance(error, HandshakeFailed):
        return str(error)
    if notes is not None and notes.fault:
        return f"the peer's certificate was refused: {notes.fault}"
    if not isinstance(error, SSLError) or not error.args or not isinstance(error.args[0], list):
        return ""
    reasons = [str(reason) for *_, reason in error.args[0]]
    for part, meaning in _REASONS.items():
        if any(part in reason.lower() for reason in reasons):
            return meaning
    return ", ".join(filter(None, reasons)) or "the peer broke the rules of TLS"


#: What a peer's alerts say of this end's certificate, by their names in RFC 8446, 6.2; the last is
#: what pyOpenSSL sends for a certificate that is refused by more than OpenSSL's own checks.
_OF_OURS = (
    "alert unknown ca",
    "alert bad certificate",
    "alert unsupported certificate",
    "alert certificate expired",
    "alert certificate revoked",
    "alert certificate unknown",
    "alert internal error",
)


def refusesOurs(error: BaseException | None) -> bool:
    """
    Tell whether a peer has ended a connection for the sake of this end's certificate, which is no
    failure of the peer's.

    @param error: what the connection was lost with.
    @return: whether an alert has come that says so.
    """
    if not isinstance(error, SSLError) or not error.args or not isinstance(error.args[0], list):
        return False
    reasons = [str(reason).lower() for *_, reason in error.args[0]]
    return any(alert in reason for alert in _OF_OURS for reason in reasons)


def _blameless(error: BaseException | None) -> bool:
    return isinstance(error, HandshakeGivenUp) or refusesOurs(error)


@implementer(IHandshakeListener)
class HandshakeGate(Protocol):
    """Stands in the place of a protocol until the handshake below it is complete."""

    transport: IStreamTransport
    _deadline: IDelayedCall | None = None

    def __init__(
        self, gates: HandshakeGateFactory, addr: IAddress | None, place: Place | None
    ) -> None:
        """
        @param gates: made this.
        @param addr: the peer.
        @param place: what the connection takes of a service's limits, if that has any.
        """
        self._gates = gates
        self._addr = addr
        self._place = place
        self._complete = False

    def logPrefix(self) -> str:
        """Name the application: it is what the log is read for."""
        factory = self._gates.wrappedFactory
        if ILoggingContext.providedBy(factory):
            return str(factory.logPrefix())
        return type(factory).__name__

    def connectionMade(self) -> None:
        """Wait for the handshake, but not for ever."""
        self._gates.waiting.add(self)
        seconds = self._gates.timeout
        if seconds is None:
            limits = self._place and self._place.limits
            seconds = limits.handshakeTimeout if limits else HANDSHAKE_TIMEOUT
        if self._place is not None:
            self._place.onEvicted = self._evicted
            self._place.await_()
        self._deadline = self._gates.clock.callLater(seconds, self._late, seconds)

    def handshakeCompleted(self) -> None:
        """Hand the connection over."""
        self._stopWaiting()
        try:
            who = self._gates.prove(self.transport)
        except Unauthenticated as error:
            self._fail(HandshakeFailed(inWords(error)))
            return
        self._complete = True
        if isinstance(self.transport, BoundedTLSTransport):
            self.transport.handshakeEnded(who)
        try:
            inner = self._handOver()
        except Exception:
            # The reactor logs it and ends the connection, as it does when nothing is between.
            self._gates.refused(Failure())
            raise
        if inner is None:
            self._gates.refused(Failure(NoProtocol()))
            self.transport.abortConnection()
            return
        self._gates.passed(inner)
        if IHandshakeListener.providedBy(inner):
            inner.handshakeCompleted()

    def _handOver(self) -> IProtocol | None:
        """Make the protocol, and let it have the connection."""
        inner = self._gates.make(self._addr, self._place)
        if inner is not None:
            # From here on nothing stands between the two.
            transport: Any = self.transport
            transport.wrappedProtocol = inner
            inner.makeConnection(transport)
        return inner

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """There was no handshake: say why, once; or nobody wanted what there was."""
        self._stopWaiting()
        if not self._complete:
            self._failed(reason)
        if self._place is not None:
            self._place.leave()

    def _failed(self, reason: Failure) -> None:
        transport: Any = self.transport
        notes = transport if isinstance(transport, HandshakeNotes) else None
        cause = tlsReason(reason.value, notes)
        if not cause:
            # Gone before it had begun, as a check of health does, or in the middle: no proof of
            # anything, and no attempt at one. Twisted says the same of a close and of a reset.
            ended = reason.check(ConnectionDone, ConnectionLost)
            cause = "the connection ended before that" if ended else reason.getErrorMessage()
        elif self._place is not None and not _blameless(reason.value):
            self._place.fail()
        self._gates.failed(transport.getPeer(), cause)

    def _late(self, seconds: float) -> None:
        self._deadline = None
        if self._place is not None:
            self._place.ended("handshake-timeout")
        self._fail(HandshakeFailed(f"it was not complete within {seconds:g} s"))

    def _evicted(self) -> None:
        self.giveUp("too many are waiting to be complete (max-pending)")

    def giveUp(self, cause: str) -> None:
        """
        Wait no more, through no fault of the peer's.

        @param cause: why, in words without a full stop.
        """
        self._fail(HandshakeGivenUp(cause))

    def _fail(self, error: HandshakeFailed) -> None:
        transport: Any = self.transport
        transport.failVerification(Failure(error))

    def _stopWaiting(self) -> None:
        self._gates.waiting.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class HandshakeGateFactory(WrappingFactory[Any]):
    """
    Puts a gate before each protocol of a factory.

    @ivar clock: tells and waits for time.
    @ivar timeout: seconds for a handshake; C{None} for what the factory's own limits say, or
        L{HANDSHAKE_TIMEOUT}.
    @ivar waiting: the gates whose handshakes are not complete.
    """

    noisy = False
    log: ClassVar[Logger] = Logger(namespace=__name__)

    def __init__(
        self,
        wrapped: IProtocolFactory,
        clock: IReactorTime,
        timeout: float | None = None,
    ) -> None:
        """
        @param wrapped: makes the protocols.
        @param clock: the reactor, or a fake clock in tests.
        @param timeout: seconds for a handshake; C{None} for what the factory's own limits say.
        """
        super().__init__(wrapped)
        self.clock = clock
        self.timeout = timeout
        self.waiting: set[HandshakeGate] = set()
        self._failures = Recurrences(clock)

    def stopFactory(self) -> None:
        """Give up what is not complete: a service that has stopped gets no more connections."""
        for gate in list(self.waiting):
            gate.giveUp("the service stops")

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """
        Put a gate where a protocol will be, which is made once the handshake is complete; what that
        waits for takes its place of the service's limits now.

        @param addr: the peer.
        @return: one that closes the connection at once when there is no place for it.
        """
        admits = admitting(self.wrappedFactory)
        place = admits and admits.placeFor(addr)
        if admits is not None and place is None:
            return RefusedProtocol()
        return HandshakeGate(self, addr, place)

    def make(self, addr: IAddress | None, place: Place | None) -> IProtocol | None:
        """
        Make the protocol of a connection whose handshake is complete.

        @param addr: the peer.
        @param place: what the connection has, if the factory gives out places.
        @return: the protocol; C{None} when the factory has none for it.
        """
        if place is None:
            return cast(IProtocol | None, self.wrappedFactory.buildProtocol(addr))
        with admitting(self.wrappedFactory).withPlace(place):
            return cast(IProtocol | None, self.wrappedFactory.buildProtocol(addr))

    def prove(self, transport: ITransport) -> Identity:
        """
        Require that a peer which proved something is somebody, also where OpenSSL did not ask: in
        a session that is resumed nothing is verified again.

        @param transport: its handshake is complete.
        @return: who the peer is.
        @raise Unauthenticated: when its certificate names nobody, or has expired.
        """
        connection = cast(Connection, cast(ISystemHandle, transport).getHandle())
        certificate = connection.get_peer_certificate(as_cryptography=True)
        if certificate and certificate.not_valid_after_utc < datetime.now(UTC):
            raise Unauthenticated("The peer's certificate has expired.")
        return identityOf(transport)

    def passed(self, inner: IProtocol) -> None:
        """
        Note a handshake that was completed.

        @param inner: has the connection now.
        """

    def refused(self, failure: Failure) -> None:
        """
        Note a handshake that was completed for nothing: nobody took the connection.

        @param failure: why; the log has it unless it is C{NoProtocol}.
        """

    def failed(self, peer: IAddress, cause: str) -> None:
        """
        Note a handshake that failed.

        @param peer: the other end.
        @param cause: why, in words without a full stop.
        """
        count = self._failures.again((sourceOf(peer), cause))
        if count:
            self.log.info(
                "{peer}: closed, no TLS handshake: {cause}{again}",
                peer=peerName(peer),
                cause=cause,
                again=f"; {count} times so far" if count > 1 else "",
            )


class DialledGateFactory(HandshakeGateFactory):
    """
    The same for a client, which is told how its handshake went.

    @ivar done: fires with the client's protocol once it is connected, or fails with
        L{HandshakeFailed}.
    """

    def __init__(self, wrapped: IProtocolFactory, clock: IReactorTime, timeout: float) -> None:
        """
        @param wrapped: makes the protocol.
        @param clock: the reactor, or a fake clock in tests.
        @param timeout: seconds for the handshake.
        """
        super().__init__(wrapped, clock, timeout)
        self.done: Deferred[IProtocol] = Deferred()

    def prove(self, transport: ITransport) -> Identity:
        """A server is proven by the name in its certificate, which was checked."""
        return ANONYMOUS

    def passed(self, inner: IProtocol) -> None:
        """Tell the caller."""
        self.done.callback(inner)

    def refused(self, failure: Failure) -> None:
        """Tell the caller."""
        self.done.errback(failure)

    def failed(self, peer: IAddress, cause: str) -> None:
        """Tell the caller."""
        self.done.errback(Failure(HandshakeFailed(f"TLS: {cause}")))


def protocolsOf(factory: IProtocolFactory) -> list[bytes]:
    """
    Tell what a factory would like to speak, for ALPN.

    @param factory: any.
    @return: names, the preferred first; empty when it does not say.
    """
    if IProtocolNegotiationFactory.providedBy(factory):
        return list(factory.acceptableProtocols())
    return []
