"""
What every stream service's factory and protocol have in common: a bound on connections, an idle
timeout, one line a fault in the log, and an orderly end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.net.addresses import peerName
from twisted_netsuite.net.interfaces import IStreamTransport
from twisted_netsuite.net.limits import IdleTimer

#: How long a connection that was asked to close may take to take its last bytes, in seconds: enough
#: for a slow link to take the 64 KiB that are buffered, short enough to free what a dead one holds.
CLOSE_TIMEOUT = 30.0


@implementer(IHalfCloseableProtocol)
class ServedProtocol(Protocol):
    """
    One accepted connection of a L{ServedFactory}.

    A peer that closes its side gets what is still buffered for it, then the connection closes.
    Subclasses call C{self.idle.touch()} for each sign of life.
    """

    factory: ServedFactory
    transport: IStreamTransport
    log: ClassVar[Logger] = Logger()
    idle: IdleTimer
    _cutOff: IDelayedCall | None = None

    @property
    def peer(self) -> str:
        """The peer's address, for the log: behind a balancer it is known only after a while."""
        return peerName(self.transport.getPeer())

    def connectionMade(self) -> None:
        """Take a place among the factory's connections."""
        sendAtOnce(self.transport)
        self.factory.connections.add(self)
        self.idle = IdleTimer(self.factory.clock, self.factory.limits.idleTimeout, self.idled)
        self.idle.start()

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
        self.log.info(
            "{peer}: closed, idle for {seconds:g} s",
            peer=self.peer,
            seconds=self.factory.limits.idleTimeout,
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


def sendAtOnce(transport: IStreamTransport) -> None:
    """
    Let small writes leave without waiting for the acknowledgement of earlier ones.

    @param transport: a connection; one that is not TCP has nothing to set.
    """
    if isinstance(transport.getPeer(), IPv4Address | IPv6Address):
        transport.setTcpNoDelay(True)


@dataclass(frozen=True)
class ConnectionLimits:
    """
    What bounds the connections of one factory.

    @ivar maxConnections: connections at a time: 1000 are more than most services ever have, and
        some tens of megabytes of Twisted's objects and buffers when all are idle.
    @ivar idleTimeout: seconds without a byte from the peer before a connection is given up; 0 means
        never. 600 s outlive a person's pause, and free what a vanished peer holds.
    """

    maxConnections: int = 1000
    idleTimeout: float = 600.0


DEFAULT_LIMITS = ConnectionLimits()


class RefusedProtocol(Protocol):
    """A connection too many."""

    transport: IStreamTransport

    def connectionMade(self) -> None:
        """Close it."""
        self.transport.abortConnection()


class ServedFactory(Factory):
    """
    Makes the protocols of one service and knows which of them live.

    @ivar clock: tells and waits for time.
    @ivar connections: the connections that are open now.
    @ivar refused: how many were turned away because there were too many.
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
        self.connections: set[ServedProtocol] = set()
        self.refused = 0
        self._allGone: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """
        Make the protocol for a new connection.

        @param addr: the peer.
        @return: one that closes it at once when there are too many. Twisted's wrappers, TLS among
            them, do not know what to do with C{None}.
        """
        if len(self.connections) >= self.limits.maxConnections:
            self.refused += 1
            # Each time their number has doubled: a flood must not flood the log as well.
            if self.refused & (self.refused - 1) == 0:
                self.log.warn(
                    "{peer}: refused, {count} connections are open (max-connections); "
                    "{refused} refused so far",
                    peer=peerName(addr),
                    count=len(self.connections),
                    refused=self.refused,
                )
            return RefusedProtocol()
        protocol = self.protocol()
        protocol.factory = self
        return protocol

    def connectionGone(self, protocol: ServedProtocol) -> None:
        """
        Note that a connection has ended.

        @param protocol: the protocol that served it.
        """
        self.connections.discard(protocol)
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
