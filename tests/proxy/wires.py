"""
A client, the proxy and its target in memory.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from tests.echo.farend import FarEnd, lookLikeTLS
from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits
from twisted_netsuite.proxy.protocol import ProxyFactory
from twisted_netsuite.testing import (
    BUFFER_SIZE,
    MAX_STEPS,
    MemoryEndpoint,
    MemoryTransport,
    connectPair,
)
from twisted_netsuite.trust.oversight import UNSEEN, Oversight

PEER = IPv4Address("TCP", "127.0.0.1", 50_000)


class OverTLS(Protocol):
    """Lets a protocol see TLS from the first moment of its connection."""

    def __init__(self, protocol: Protocol) -> None:
        """
        @param protocol: gets the connection.
        """
        self._protocol = protocol

    def makeConnection(self, transport: ITransport) -> None:
        """Hand the connection on."""
        end = cast(MemoryTransport, transport)
        lookLikeTLS(end)
        end.protocol = self._protocol
        self._protocol.makeConnection(transport)


class TLSEndpoint(MemoryEndpoint):
    """Connects over what looks like TLS."""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect."""
        connected = super().connect(protocolFactory)
        lookLikeTLS(self.pairs[-1].client)
        return connected


@implementer(IStreamClientEndpoint)
class WaitingEndpoint:
    """
    Connects when a test says so.

    @ivar cancelled: whether the proxy has given up connecting.
    """

    def __init__(self, target: MemoryEndpoint) -> None:
        """
        @param target: connects in the end.
        """
        self.cancelled = False
        self._target = target
        self._waiting: Deferred[IProtocol]
        self._factory: IProtocolFactory

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Wait."""
        self._factory = protocolFactory
        self._waiting = Deferred(lambda _: setattr(self, "cancelled", True))
        return self._waiting

    def accept(self) -> None:
        """Let the target accept."""
        self._target.connect(self._factory).chainDeferred(self._waiting)

    def refuse(self, error: Exception) -> None:
        """
        Let the target refuse.

        @param error: why.
        """
        self._waiting.errback(error)


class Wires:
    """
    One proxy whose bytes move when a test says so.

    @ivar client: the client's end of the first connection.
    @ivar targets: the target's end of each connection, in order.
    @ivar endpoint: connects to the target at once.
    @ivar waiting: connects to it when a test says so; only used when C{wait} was given.
    """

    def __init__(
        self,
        *,
        wait: bool = False,
        first: bytes = b"",
        logData: bool = False,
        limits: ConnectionLimits = DEFAULT_LIMITS,
        tlsClient: bool = False,
        tlsTarget: bool = False,
        oversight: Oversight = UNSEEN,
    ) -> None:
        """
        @param wait: whether the target accepts only when it is told to.
        @param first: what the target says first.
        @param logData: whether chunks are logged.
        @param limits: bounds the connections.
        @param tlsClient: whether clients seem to connect over TLS.
        @param tlsTarget: whether the target seems to be reached over TLS.
        @param oversight: what stands over the proxy.
        """
        self._tlsClient = tlsClient
        self.clock = Clock()
        self.targets: list[FarEnd] = []
        endpoint = TLSEndpoint if tlsTarget else MemoryEndpoint
        self.endpoint = endpoint(Factory.forProtocol(lambda: self._target(first)))
        self.waiting = WaitingEndpoint(self.endpoint)
        self.factory = ProxyFactory(
            self.clock,
            self.waiting if wait else self.endpoint,
            targetName="target.example:80",
            logData=logData,
            limits=limits,
            oversight=oversight,
            place=("target.example", 80),
        )
        self._transports: list[MemoryTransport] = []
        self.client = self.connect()
        self.toClient = self._transports[1]

    def connect(self, peer: IPv4Address = PEER, host: IPv4Address | None = None) -> FarEnd:
        """
        Connect one more client.

        @param peer: its address.
        @param host: where it has connected to; by default an address that the target has too.
        """
        leg = self.factory.buildProtocol(peer)
        if self._tlsClient:
            leg = OverTLS(leg)
        far = FarEnd()
        pair = connectPair(leg, far, host, peer)
        self._transports += [pair.client, pair.server]
        return far

    @property
    def target(self) -> FarEnd:
        """The target's end of the first connection."""
        return self.targets[0]

    @property
    def toTarget(self) -> MemoryTransport:
        """The proxy's end of the first connection to the target."""
        return self.endpoint.pairs[0].client

    def _target(self, first: bytes) -> FarEnd:
        self.targets.append(FarEnd(first))
        return self.targets[-1]

    def step(self, size: int = BUFFER_SIZE) -> bool:
        """
        Let one thing happen at every end.

        @param size: bytes that move at a time.
        @return: whether anything happened.
        """
        ends = [*self._transports]
        for pair in self.endpoint.pairs:
            ends += [pair.server, pair.client]
        moved = False
        for end in ends:
            moved = end.step(size) or moved
        return moved

    def settle(self, size: int = BUFFER_SIZE) -> None:
        """
        Let everything happen that can, without time passing.

        @param size: bytes that move at a time.
        """
        for _ in range(MAX_STEPS):
            if not self.step(size):
                return
        raise AssertionError("The ends did not come to rest.")
