"""
What Twisted's transports do not tell: that a TLS peer has said goodbye, what is below a balancer's
header, and whether others can read what passes.
"""

from __future__ import annotations

from typing import cast

from OpenSSL.SSL import RECEIVED_SHUTDOWN, Connection
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import ISSLTransport, ITransport
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol

from twisted_netsuite.net.interfaces import IStreamTransport


def peerHasClosed(transport: IStreamTransport) -> bool:
    """
    Tell whether the peer of a TLS connection has sent its close_notify.

    From then on Twisted drops whatever is written, without a word, until the connection is lost,
    which a producer that writes on puts off for ever.

    @param transport: any connection.
    @return: whether nothing that is written will arrive.
    """
    if not ISSLTransport.providedBy(transport):
        return False
    connection = cast(Connection | None, transport.getHandle())
    # Once the connection is lost there is none, and nothing arrives either.
    return connection is None or bool(connection.get_shutdown() & RECEIVED_SHUTDOWN)


def isBalanced(transport: ITransport) -> bool:
    """
    Tell whether a connection comes from a balancer, for somebody else.

    @param transport: any connection.
    @return: whether a balancer's header is read next to it; not when a TLS connection stands before
        that, whose peer is the balancer's client.
    """
    below: ITransport | None = transport
    while isinstance(below, ProtocolWrapper):
        if isinstance(below, HAProxyProtocolWrapper):
            return True
        if isinstance(below, TLSMemoryBIOProtocol):
            return False
        below = below.transport
    return False


def isSecure(transport: ITransport) -> bool:
    """
    Tell whether nobody else can read what passes.

    @param transport: any connection.
    @return: whether it is TLS, or a Unix socket; what a balancer says of its own peer is neither.
    """
    if ISSLTransport.providedBy(transport):
        return True
    below: ITransport | None = transport
    while isinstance(below, ProtocolWrapper):
        below = below.transport
    return below is not None and isinstance(below.getPeer(), UNIXAddress)
