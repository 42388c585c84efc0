"""
What every stream service's factory and protocol have in common: a bound on connections, an idle
timeout, one line a fault in the log, and an orderly end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.net.admission import (
    DEFAULT_LIMITS,
    Admission,
    ConnectionLimits,
    IAdmits,
    Place,
)
from twisted_netsuite.net.interfaces import IStreamTransport
from twisted_netsuite.net.limits import IdleTimer
from twisted_netsuite.net.names import peerName
from twisted_netsuite.net.tls import isBalanced, isSecure
from twisted_netsuite.trust.identity import ANONYMOUS, Identity, identityOf

#: How long a connection that was asked to close may take to take its last bytes, in seconds: enough
#: for a slow link to take the 64 KiB that are buffered, short enough to free what a dead one holds.
CLOSE_TIMEOUT = 30.0


@implementer(IHalfCloseableProtocol)
class ServedProtocol(Protocol):
    """
    One accepted connection of a L{ServedFactory}.

    A peer that closes its side gets what is still buffered for it, then the connection closes.
    Subclasses call C{self.idle.touch()} for each sign of life.

    @cvar awaitsAuthentication: whether the peer proves who it is only after it is connected; such a
        subclass calls L{authenticated} or L{authenticationFailed}.
    @ivar identity: who the peer is, as far as that is known.
    @ivar place: what the connection takes of the factory's limits.
    """

    factory: ServedFactory
    transport: IStreamTransport
    log: ClassVar[Logger] = Logger()
    awaitsAuthentication: ClassVar[bool] = False
    identity: Identity = ANONYMOUS
    place: Place
    idle: IdleTimer
    _cutOff: IDelayedCall | None = None

    @property
    def address(self) -> str:
        """The peer's address: behind a balancer it is known only after a while."""
        return peerName(self.transport.getPeer())

    @property
    def peer(self) -> str:
        """The peer's address and, unless it is anonymous, who the peer is, for the log."""
        if self.identity is ANONYMOUS:
            return self.address
        return f"{self.address} ({self.identity})"

    @property
    def secure(self) -> bool:
        """Whether nobody else can read what passes: it is TLS, or a Unix socket."""
        return isSecure(self.transport)

    def connectionMade(self) -> None:
        """Take a place among the factory's connections."""
        sendAtOnce(self.transport)
        if not isBalanced(self.transport):
            # Else what would be found is who the balancer is, and it forwards strangers.
            self.identity = identityOf(self.transport)
        self.factory.connections.add(self)
        limits = self.factory.limits
        self.idle = IdleTimer(
            self.factory.clock, limits.idleTimeout, self.idled, limits.firstMessageTimeout
        )
        self.idle.start()
        if self.awaitsAuthentication:
            self.place.onEvicted = self.evicted
            self.place.await_()
        else:
            self.place.settle()

    def authenticated(self) -> None:
        """The peer may stay."""
        self.place.settle()

    def authenticationFailed(self) -> None:
        """The peer has failed to prove who it is."""
        self.place.fail()

    def evicted(self) -> None:
        """Too many wait to prove who they are, and this one for the longest: give it up."""
        self.log.info(
            "{peer}: closed, too many have not proven who they are (max-pending)", peer=self.peer
        )
        self.transport.abortConnection()

    def broken(self, failure: Failure) -> None:
        """
        Close the connection after a fault of ours, which the log gets whole.

        @param failure: what nobody has expected.
        """
        self.log.failure("{peer}: closed, this is a fault of the service", failure, peer=self.peer)
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave the factory's connections."""
        self.idle.stop()
        if self._cutOff is not None and self._cutOff.active():
            self._cutOff.cancel()
        self.factory.connectionGone(self)

    def readConnectionLost(self) -> None:
        """The peer sends no more: flush what it has to get, then close."""
        self.close()

    def writeConnectionLost(self) -> None:
        """Our side is closed, which only ever happens on the way to a full close."""

    def idled(self) -> None:
        """Nothing has happened for too long: give the connection up."""
        limits = self.factory.limits
        first, later = limits.firstMessageTimeout, limits.idleTimeout
        silent = not self.idle.touched and bool(first) and (not later or first < later)
        self.place.ended("first-message-timeout" if silent else "idle-timeout")
        self.log.info(
            "{peer}: closed, {what} for {seconds:g} s",
            peer=self.peer,
            what="no message" if silent else "idle",
            seconds=first if silent else later,
        )
        self.transport.abortConnection()

    def close(self) -> None:
        """Flush and close; a peer that does not take its bytes in time is cut off."""
        self.idle.stop()
        if self._cutOff is None and self in self.factory.connections:
            # Apart from the idle timer: bytes from a peer, which TLS still delivers, win no time.
            self._cutOff = self.factory.clock.callLater(
                CLOSE_TIMEOUT, self.transport.abortConnection
            )
        self.transport.loseConnection()


def sendAtOnce(transport: ITransport) -> None:
    """
    Let small writes leave without waiting for the acknowledgement of earlier ones.

    @param transport: a connection; one that is not TCP has nothing to set, and Twisted's Unix
        sockets ignore it.
    """
    if ITCPTransport.providedBy(transport):
        transport.setTcpNoDelay(True)


#: Why each limit leaves no place, for the log.
_REFUSALS = {
    "max-connections": "{count} connections are open",
    "max-per-source": "its source has {most} connections open",
    "connection-rate": "its source connects too often",
    "penalty": "its source has failed to prove who it is too often",
}


class RefusedProtocol(Protocol):
    """A connection too many."""

    transport: IStreamTransport

    def connectionMade(self) -> None:
        """Close it."""
        self.transport.abortConnection()


@implementer(IAdmits)
class ServedFactory(Factory):
    """
    Makes the protocols of one service and knows which of them live.

    @ivar clock: tells and waits for time.
    @ivar limits: what bounds its connections.
    @ivar admission: gives out their places, and counts whom each limit has turned away.
    @ivar connections: the connections that are open now.
    """

    noisy = False
    log: ClassVar[Logger] = Logger()

    protocol: type[ServedProtocol]  # type: ignore[assignment]

    def __init__(self, clock: IReactorTime, limits: ConnectionLimits = DEFAULT_LIMITS) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param limits: bounds the connections.
        """
        self.clock = clock
        self.limits = limits
        self.admission = Admission(clock, limits)
        self.connections: set[ServedProtocol] = set()
        self._allGone: Deferred[None] | None = None
        self._handed: Place | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """
        Make the protocol for a new connection.

        @param addr: the peer.
        @return: one that closes it at once when there are too many. Twisted's wrappers, TLS among
            them, do not know what to do with C{None}.
        """
        place, self._handed = self._handed, None
        if place is None:
            place = self.placeFor(addr)
        if place is None:
            return RefusedProtocol()
        protocol = self.protocol()
        protocol.factory = self
        protocol.place = place
        return protocol

    def placeFor(self, address: IAddress | None) -> Place | None:
        """
        Give a new connection a place.

        @param address: the peer's; C{None} when it is not known yet.
        @return: the place; C{None} when there is none, which has been logged.
        """
        place = self.admission.admit(address)
        if isinstance(place, Place):
            return place
        self._logRefusal(address, place)
        return None

    @contextmanager
    def withPlace(self, place: Place) -> Iterator[None]:
        """
        Hand a place on to the protocol that is made within; unless one takes it, it is taken back.

        @param place: what L{placeFor} gave.
        """
        self._handed = place
        try:
            yield
        finally:
            if self._handed is not None:
                self._handed = None
                place.leave()

    def _logRefusal(self, addr: IAddress | None, limit: str) -> None:
        refused = self.admission.refusals[limit]
        # Each time their number has doubled: a flood must not flood the log as well.
        if refused & (refused - 1) == 0:
            self.log.warn(
                "{peer}: refused, {why} ({limit}); {refused} refused so far",
                peer=peerName(addr),
                why=_REFUSALS[limit].format(
                    count=len(self.admission), most=self.limits.maxPerSource
                ),
                limit=limit,
                refused=refused,
            )

    def connectionGone(self, protocol: ServedProtocol) -> None:
        """
        Note that a connection has ended.

        @param protocol: the protocol that served it.
        """
        self.connections.discard(protocol)
        protocol.place.leave()
        if not self.connections and self._allGone is not None:
            done, self._allGone = self._allGone, None
            done.callback(None)

    def abortConnections(self) -> Deferred[None]:
        """
        End every connection at once.

        @return: fires when all have gone.
        """
        if not self.connections:
            return succeed(None)
        if self._allGone is None:
            self._allGone = Deferred()
        waiting = self._allGone
        for protocol in list(self.connections):
            protocol.transport.abortConnection()
        return waiting
