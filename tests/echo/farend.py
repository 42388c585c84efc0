"""
The other end of a connection, and a reactor for datagrams, in memory: what several tests talk with.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from OpenSSL.SSL import RECEIVED_SHUTDOWN
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IReactorTime,
    IReactorUDP,
    ISSLTransport,
)
from twisted.internet.protocol import DatagramProtocol, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer, implementer_only

from twisted_netsuite.net.addresses import DatagramAddress
from twisted_netsuite.testing import DatagramNotes, MemoryTransport, listenDatagrams


@implementer(IHalfCloseableProtocol)
class FarEnd(Protocol):
    """
    Notes what it gets, and does only what a test tells it.

    @ivar received: every byte that came.
    @ivar ended: whether the other side has said that no more comes.
    @ivar lost: why the connection ended, or L{None}.
    """

    transport: MemoryTransport

    def __init__(self, first: bytes = b"") -> None:
        """
        @param first: sent as soon as the connection stands.
        """
        self.received = bytearray()
        self.ended = False
        self.lost: Failure | None = None
        self._first = first

    def connectionMade(self) -> None:
        """Speak first, if there is something to say."""
        if self._first:
            self.transport.write(self._first)

    def dataReceived(self, data: bytes) -> None:
        """Note bytes."""
        self.received += data

    def readConnectionLost(self) -> None:
        """Note the end."""
        self.ended = True

    def writeConnectionLost(self) -> None:
        """Nothing is noted: the test asked for it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note the loss."""
        self.lost = reason


def lookLikeTLS(transport: MemoryTransport, shutdown: int = 0) -> None:
    """
    Let a connection look like one over TLS.

    @param transport: one end.
    @param shutdown: what OpenSSL knows there of its goodbyes.
    """
    alsoProvides(transport, ISSLTransport)
    handle = SimpleNamespace(
        get_shutdown=lambda: shutdown, get_peer_certificate=lambda as_cryptography: None
    )
    transport.getHandle = lambda: handle  # type: ignore[method-assign]


def sayGoodbyeOverTLS(transport: MemoryTransport) -> None:
    """
    Let a connection look like one over TLS whose peer has sent its close_notify.

    @param transport: the end that has received it.
    """
    lookLikeTLS(transport, RECEIVED_SHUTDOWN)


#: Protocol and notes of each datagram port, in the order of listening.
Ports = list[tuple[DatagramProtocol, DatagramNotes]]


def _host(interface: str, port: int) -> Any:
    return (IPv6Address if ":" in interface else IPv4Address)("UDP", interface, port)


def datagramsInMemory(test: SynchronousTestCase) -> Ports:
    """
    Let services listen for datagrams in memory while a test runs.

    @param test: the test.
    @return: grows by one for each address that is listened on.
    """
    ports: Ports = []

    def listen(address: DatagramAddress, reactor: object, protocol: DatagramProtocol) -> Any:
        notes = listenDatagrams(protocol, _host(address.interface, address.port))
        ports.append((protocol, notes))
        return notes

    test.patch(DatagramAddress, "listen", listen)
    return ports


@implementer_only(IReactorTime, IReactorUDP)
class DatagramReactor(MemoryReactorClock):
    """
    Listens for datagrams in memory, which Twisted's own memory reactor does not.

    It watches no descriptors, so that no real socket is made for it.

    @ivar ports: protocol and notes of each port.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports: Ports = []

    def listenUDP(
        self, port: int, protocol: DatagramProtocol, interface: str = "", maxPacketSize: int = 8192
    ) -> Any:
        """Give the protocol a transport that takes notes."""
        notes = listenDatagrams(protocol, _host(interface, port))
        self.ports.append((protocol, notes))
        return notes
