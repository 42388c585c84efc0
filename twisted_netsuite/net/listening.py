"""
A Twisted service that listens on several addresses at once, streams and datagrams alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorFDSet
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import DatagramAddress, ListenAddress
from twisted_netsuite.net.binding import bindSentence
from twisted_netsuite.net.names import peerName
from twisted_netsuite.net.serving import ServedFactory

DatagramProtocolMaker = Callable[[], DatagramProtocol]


class ListeningService(Service):
    """
    Listens while it runs; when it stops, its ports and its connections close.

    @ivar ports: what it listens on, once it has started.
    """

    log = Logger()
    name: str | None = None

    def __init__(
        self,
        reactor: object,
        addresses: Sequence[ListenAddress],
        *,
        factory: ServedFactory | None = None,
        datagrams: DatagramProtocolMaker | None = None,
        dialect: str,
        example: Callable[[str], str],
        prepare: Callable[[], object] = lambda: None,
        furnish: Callable[[], object] = lambda: None,
    ) -> None:
        """
        @param reactor: makes the datagram sockets; the stream endpoints have their own.
        @param addresses: where to listen.
        @param factory: serves streams.
        @param datagrams: makes a protocol for each datagram address.
        @param dialect: what is spoken there, for people.
        @param example: turns an ADDRESS of the C{netsuite} program into a line to try it with.
        @param prepare: makes what must be there before the addresses can be bound; called before
            they are tried out and before they are bound, never by a mere check.
        @param furnish: makes what the service writes to, and tries that; called as the user that it
            runs as, who may have fewer rights than binds the addresses.
        """
        self._reactor = reactor
        self.addresses = addresses
        self.factory = factory
        self._datagrams = datagrams
        self.dialect = dialect
        self.example = example
        self.prepare = prepare
        self.furnish = furnish
        self.ports: list[IListeningPort] = []
        self._listening: list[Deferred[None]] = []
        self._begun = False

    def privilegedStartService(self) -> None:
        """
        Listen on every address.

        @raise ConfigurationError: when one cannot be bound; none is bound then.
        """
        super().privilegedStartService()
        self.prepare()
        for address in self.addresses:
            failures: list[Failure] = []
            heard = self._listen(address).addCallback(self._heard)
            heard.addErrback(self._failed, address, failures)
            if failures:
                self.stopService()
                raise _explained(address, failures[0])
            self._listening.append(heard)
        self._begun = True

    def startService(self) -> None:
        """
        Listen, unless that was done with more rights before.

        @raise ConfigurationError: when an address cannot be bound, or what the service writes to
            cannot be used; then it listens nowhere.
        """
        try:
            self.furnish()
        except ConfigurationError:
            self.stopService()
            raise
        if not self._listening:
            self.privilegedStartService()
        super().startService()

    def stopService(self) -> Deferred[object]:
        """
        Close every port, then every connection.

        @return: fires when all are closed.
        """
        super().stopService()
        ports, self.ports, self._begun = self.ports, [], False
        for pending in self._listening:
            pending.cancel()
        self._listening = []
        closed: Deferred[Any] = gatherResults([self._close(port) for port in ports])
        factory = self.factory
        if factory is not None:
            closed.addBoth(lambda _: factory.abortConnections())
        return closed

    def _close(self, port: IListeningPort) -> Deferred[object]:
        address = portName(port)

        def failed(failure: Failure) -> None:
            self.log.warn(
                "{name}: {address} was not closed cleanly: {reason}",
                name=self.name or "netsuite",
                address=address,
                reason=failure.getErrorMessage(),
            )

        return maybeDeferred(port.stopListening).addErrback(failed)

    def _listen(self, address: ListenAddress) -> Deferred[IListeningPort]:
        if isinstance(address, DatagramAddress):
            assert self._datagrams is not None
            protocol = self._datagrams()
            return maybeDeferred(address.listen, cast(IReactorFDSet, self._reactor), protocol)
        assert self.factory is not None
        return address.listen(self.factory, self.factory.clock)

    def _failed(self, failure: Failure, address: ListenAddress, failures: list[Failure]) -> None:
        """Leave a failure to who is starting us, or tell of one that comes after that."""
        if not self._begun:
            failures.append(failure)
        else:
            self.log.error("{reason}", reason=_explained(address, failure).sentence)

    def _heard(self, port: IListeningPort) -> None:
        self.ports.append(port)
        self.log.info(
            "{name}: listening on {address} ({dialect})",
            name=self.name or "netsuite",
            address=portName(port),
            dialect=self.dialect,
        )


def portName(port: IListeningPort) -> str:
    """
    Name the address of a port.

    @param port: listens.
    @return: such as C{tcp 127.0.0.1:7007} or C{unix:/run/echo.sock}.
    """
    host = port.getHost()
    kind = getattr(host, "type", "").lower()
    return f"{kind} {peerName(host)}" if kind else peerName(host)


def _explained(address: ListenAddress, failure: Failure) -> ConfigurationError:
    error = failure.value
    if isinstance(error, CannotListenError) and isinstance(error.socketError, OSError):
        return ConfigurationError(bindSentence(repr(address.description), error.socketError))
    return ConfigurationError(
        f"Cannot listen on {address.description!r}: {error}; give another listen address."
    )
