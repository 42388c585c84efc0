"""
What a TLS connection says of its peer's goodbye.
"""

from __future__ import annotations

import contextlib
from typing import Any, cast

from OpenSSL.SSL import (
    TLS_METHOD,
    Connection,
    Context,
    TLSv1_2_METHOD,
    WantReadError,
    ZeroReturnError,
)
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import ISSLTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from twisted_netsuite.net.tls import peerHasClosed
from twisted_netsuite.testing import MemoryTransport

HERE = IPv4Address("TCP", "127.0.0.1", 7)


def shaken() -> tuple[Connection, Connection]:
    """Finish a handshake in memory, which needs no certificate."""
    context = Context(TLSv1_2_METHOD)
    context.set_cipher_list(b"AECDH:@SECLEVEL=0")
    server, client = Connection(context, None), Connection(context, None)
    server.set_accept_state()
    client.set_connect_state()
    for _ in range(4):
        for near, far in ((client, server), (server, client)):
            with contextlib.suppress(WantReadError):
                near.do_handshake()
            deliver(near, far)
    return server, client


def deliver(near: Connection, far: Connection) -> None:
    """Pass on what one end has written."""
    with contextlib.suppress(WantReadError):
        far.bio_write(near.bio_read(1 << 16))


class PeerHasClosedTests(SynchronousTestCase):
    """L{peerHasClosed} on connections of every sort."""

    def transport(self, handle: object) -> MemoryTransport:
        """Make a TLS transport with this handle."""
        transport: Any = MemoryTransport(HERE, HERE)
        alsoProvides(transport, ISSLTransport)
        transport.getHandle = lambda: handle
        return cast(MemoryTransport, transport)

    def test_goodbye(self) -> None:
        """It is true from the peer's close_notify on, and not before."""
        server, client = shaken()
        transport = self.transport(server)
        self.assertFalse(peerHasClosed(transport))
        client.shutdown()
        deliver(client, server)
        self.assertRaises(ZeroReturnError, server.recv, 1)
        self.assertTrue(peerHasClosed(transport))

    def test_ours(self) -> None:
        """Our own goodbye is not the peer's."""
        server, _ = shaken()
        server.shutdown()
        self.assertFalse(peerHasClosed(self.transport(server)))

    def test_beforeTheHandshake(self) -> None:
        """A connection that has only begun is open."""
        self.assertFalse(peerHasClosed(self.transport(Connection(Context(TLS_METHOD), None))))

    def test_plain(self) -> None:
        """A connection without TLS has no such goodbye."""
        self.assertFalse(peerHasClosed(MemoryTransport(HERE, HERE)))
