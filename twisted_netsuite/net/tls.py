"""
What Twisted's TLS transport does not tell: that its peer has said goodbye.
"""

from __future__ import annotations

from typing import cast

from OpenSSL.SSL import RECEIVED_SHUTDOWN, Connection
from twisted.internet.interfaces import ISSLTransport

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
