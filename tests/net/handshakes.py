"""
Both ends of a TLS connection in memory, between our endpoints or with a peer of any other make.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.trust.certificates import clientFiles, serverFiles
from twisted_netsuite.net.interfaces import IStreamTransport
from twisted_netsuite.net.mtls import ClientCreator, MutualTLSServerEndpoint
from twisted_netsuite.net.tlscontext import TrustFiles, clientContext
from twisted_netsuite.testing import Pair, connectPair

PEER = IPv4Address("TCP", "192.0.2.1", 50_000)
HERE = IPv4Address("TCP", "192.0.2.2", 7443)


class Notes(Protocol):
    """Notes what it is told."""

    transport: IStreamTransport

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received = b""
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        self.events.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.events.append("lost")
        self.lost = reason


def noting(protocol: IProtocol) -> Factory:
    """Make a factory of one protocol."""
    factory: Any = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    return cast(Factory, factory)


@implementer(IOpenSSLClientConnectionCreator)
class AnyClient:
    """Makes a client's connections from a context of any make."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self._context, None)


class Resuming(AnyClient):
    """Makes one connection with a session of an earlier one."""

    connection: SSL.Connection

    def __init__(self, context: SSL.Context, session: Any) -> None:
        super().__init__(context)
        self._session = session

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        self.connection = super().clientConnectionForTLS(tlsProtocol)
        if self._session is not None:
            self.connection.set_session(self._session)
        return self.connection


def reusedSession(connection: SSL.Connection) -> bool:
    """Tell whether a connection has resumed a session, which pyOpenSSL has no word for."""
    return bool(cast(Any, SSL)._lib.SSL_session_reused(cast(Any, connection)._ssl))


class Served:
    """
    A factory behind an C{mtls:} endpoint in memory.

    @ivar reactor: the fake reactor that it is listened with.
    """

    def __init__(self, factory: IProtocolFactory, **kwargs: Any) -> None:
        """
        @param factory: behind it.
        @param kwargs: for the endpoint; its reactor and its files may be among them.
        """
        self.reactor = kwargs.pop("reactor", None) or MemoryReactorClock()
        files = kwargs.pop("files", None) or serverFiles()
        self.endpoint = MutualTLSServerEndpoint(self.reactor, 0, files, **kwargs)
        heard = self.endpoint.listen(factory)
        assert heard.called
        self.factory = cast(Any, self.reactor.tcpServers[-1][1])
        self.factory.doStart()

    def accept(self, client: IProtocol, peer: IPv4Address = PEER) -> Pair:
        """Connect a client's transport protocol."""
        return connectPair(self.factory.buildProtocol(peer), client, HERE, peer)

    def connect(
        self,
        files: TrustFiles | None = None,
        *,
        name: str = "localhost",
        context: SSL.Context | None = None,
        protocols: tuple[bytes, ...] = (),
        flush: bool = True,
    ) -> tuple[Notes, Pair]:
        """
        Connect a client.

        @param files: its own.
        @param name: the server's.
        @param context: in place of the files.
        @param protocols: names for ALPN.
        @param flush: whether all happens that can.
        @return: what it notes, and its connection.
        """
        inner = Notes()
        creator: Any = (
            AnyClient(context)
            if context is not None
            else ClientCreator(files or clientFiles(), name, protocols)
        )
        tls = TLSMemoryBIOFactory(creator, True, noting(inner), self.reactor)
        pair = self.accept(tls.buildProtocol(HERE))
        if flush:
            self.settle(pair)
        return inner, pair

    def settle(self, pair: Pair, size: int = 1 << 16) -> None:
        """Let everything happen that can, also what TLS puts off to the next turn."""
        for _ in range(4):
            pair.flush(size)
            self.reactor.advance(0)
        pair.flush(size)

    @property
    def waiting(self) -> list[Any]:
        """What waits for time to pass."""
        return [call for call in self.reactor.getDelayedCalls() if call.active()]


@contextmanager
def lines(test: SynchronousTestCase) -> Iterator[list[str]]:
    """Collect what is logged, without what tells of nothing."""
    found: list[str] = []
    with capturedLogs() as events:
        yield found
    found += [formatEvent(event) for event in events]
    test.assertFalse([event for event in events if "log_failure" in event], found)


def upTo(version: int, files: TrustFiles | None = None, name: str = "localhost") -> SSL.Context:
    """Make a client's context for versions of TLS up to one."""
    context = clientContext((files or clientFiles()).read(), name)
    context.set_max_proto_version(version)
    return context


def outcome(waiting: Deferred[Any]) -> list[Any]:
    """Tell what a Deferred has fired with: nothing, a result or a failure."""
    found: list[Any] = []
    waiting.addBoth(found.append)
    return found
