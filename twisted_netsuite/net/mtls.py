"""
The endpoints C{mtls:}: TCP under TLS, with both ends proven by certificates.

Any Twisted application can listen on one or connect to one; the strings are parsed here for the
plugins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorFromThreads,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.handshake import (
    HANDSHAKE_TIMEOUT,
    BoundedTLSTransport,
    DialledGateFactory,
    HandshakeGateFactory,
    protocolsOf,
)
from twisted_netsuite.net.hangup import Act, onHangup
from twisted_netsuite.net.tlscontext import (
    Trust,
    TrustFiles,
    TrustReader,
    clientContext,
    doubtsOf,
    serverContext,
    serviceName,
)

#: Bytes of a name for ALPN (RFC 7301 has one byte for its length).
MAX_NAME = 255


class BoundedTLSFactory(TLSMemoryBIOFactory):
    """TLS whose handshakes are bounded."""

    protocol = BoundedTLSTransport

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """
        Put TLS below a protocol, unless there is none, which Twisted's own does not expect.

        @param addr: the peer.
        """
        inner = self.wrappedFactory.buildProtocol(addr)
        return inner if inner is None else self.protocol(self, inner)


class ServerContexts:
    """The contexts of one endpoint, from files that can be read again; one for each choice of names
    for ALPN."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, files: TrustFiles, *, require: bool) -> None:
        """
        @param files: the server's certificate, and whom it believes.
        @param require: whether a client without a certificate is refused.
        @raise ConfigurationError: naming the file that cannot be used.
        """
        self._reader = TrustReader(files)
        self._require = require
        self._made: dict[tuple[bytes, ...], SSL.Context] = {}

    def get(self, protocols: tuple[bytes, ...]) -> SSL.Context:
        """
        Take a context for the next connection.

        @param protocols: names for ALPN.
        @return: of the files as they were read last.
        """
        if protocols not in self._made:
            self._made[protocols] = serverContext(
                self._reader.trust, require=self._require, protocols=protocols
            )
        return self._made[protocols]

    def refresh(self) -> list[ConfigurationError]:
        """
        Read the files again, for the connections to come; those that live are left alone.

        @return: why parts stay as they were; empty when all is read.
        """
        faults = self._reader.refresh()
        self._made.clear()
        return faults

    def reload(self) -> bool:
        """
        Read the files again, and tell the log.

        @return: whether that went well; if not, what could not be used stays as it was.
        """
        faults = self.refresh()
        for fault in faults:
            self.log.error("certificates were not read again: {reason}", reason=fault.sentence)
        if not faults:
            self.log.info("read again: {cert}", cert=self._reader.files.cert)
        self.tellDoubts()
        return not faults

    def tellDoubts(self) -> None:
        """Warn of what clients will not like."""
        for doubt in doubtsOf(self._reader.trust, self._reader.files, datetime.now(UTC)):
            self.log.warn("{doubt}", doubt=doubt)


@implementer(IOpenSSLServerConnectionCreator)
class ServerCreator:
    """Makes a server's connections."""

    def __init__(self, contexts: ServerContexts, protocols: Sequence[bytes]) -> None:
        """
        @param contexts: those of the endpoint.
        @param protocols: names for ALPN.
        """
        self.contexts = contexts
        self.protocols = tuple(protocols)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """
        Make one connection.

        @param tlsProtocol: will use it.
        """
        return SSL.Connection(self.contexts.get(self.protocols), None)


class HangupHold:
    """Asks for SIGHUP as long as anybody holds this."""

    _forget: Act | None = None

    def __init__(self, reactor: Any, act: Act) -> None:
        """
        @param reactor: runs the act; one that no signal can call is not asked.
        @param act: called after each SIGHUP, once for all who hold this.
        """
        self._reactor = reactor
        self._act = act
        self._count = 0

    def take(self) -> None:
        """Hold it."""
        self._count += 1
        if self._count == 1 and IReactorFromThreads.providedBy(self._reactor):
            self._forget = onHangup(self._reactor, self._act)

    def release(self) -> None:
        """Hold it no more; whoever took it does so once."""
        self._count -= 1
        if not self._count and self._forget is not None:
            self._forget()
            self._forget = None


class ServerGateFactory(HandshakeGateFactory):
    """The gates of a server, whose lines in the log bear this name."""


class ServerTLSFactory(BoundedTLSFactory):
    """TLS of one listener, which holds SIGHUP until it has stopped and its last connection ended:
    until then the signal must not end the process."""

    _listens = False
    _holds = False

    def __init__(
        self,
        creator: ServerCreator,
        gates: ServerGateFactory,
        reactor: Any,
        hold: HangupHold | None,
    ) -> None:
        """
        @param creator: makes the connections.
        @param gates: stand before the protocols.
        @param reactor: listens.
        @param hold: that of the endpoint; C{None} for one that leaves SIGHUP alone.
        """
        super().__init__(creator, False, gates, reactor)
        self.creator = creator
        self._contexts = creator.contexts
        self._hold = hold

    def startFactory(self) -> None:
        """Hold SIGHUP."""
        self._listens = True
        self._contexts.tellDoubts()
        if self._hold is not None and not self._holds:
            self._holds = True
            self._hold.take()

    def stopFactory(self) -> None:
        """Let it go, unless there are connections."""
        self._listens = False
        self._release()

    def unregisterProtocol(self, p: Any) -> None:
        """
        Note the end of a connection.

        @param p: had it.
        """
        super().unregisterProtocol(p)
        self._release()

    def _release(self) -> None:
        if self._hold is not None and self._holds and not self._listens and not self.protocols:
            self._holds = False
            self._hold.release()


@implementer(IStreamServerEndpoint)
class MutualTLSServerEndpoint:
    """
    Listens for clients that prove who they are.

    @ivar requires: whether a client without a certificate is refused.
    """

    def __init__(
        self,
        reactor: Any,
        port: int,
        files: TrustFiles,
        *,
        require: bool = True,
        interface: str = "",
        backlog: int = 50,
        timeout: float | None = None,
        protocols: Sequence[bytes] = (),
        hangup: bool = True,
    ) -> None:
        """
        @param reactor: listens.
        @param port: the TCP port; 0 for any free one.
        @param files: the server's certificate, and whom it believes.
        @param require: whether a client without a certificate is refused; without one it is
            anonymous.
        @param interface: the address to listen on; empty for all.
        @param backlog: connections that the kernel holds until they are accepted.
        @param timeout: seconds for a handshake; C{None} for what the factory's own limits say, or
            L{HANDSHAKE_TIMEOUT}.
        @param protocols: names for ALPN; without any, the factory's own.
        @param hangup: whether SIGHUP reads the files again, which it can only where the reactor
            runs in the main thread; L{reload} does so anywhere.
        @raise ConfigurationError: naming the file that cannot be used.
        """
        self._reactor = reactor
        self._timeout = timeout
        self._protocols = protocols
        self._endpoint = TCP4ServerEndpoint(reactor, port, backlog, interface)
        self.requires = require
        # Tried now, so that a person sees what is wrong before anything listens.
        self._contexts = ServerContexts(files.absolute(), require=require)
        self._hold = HangupHold(reactor, self.reload) if hangup else None

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Listen, with the files as they are now.

        @param protocolFactory: its protocols are connected once a handshake is complete.
        @return: fires with the port; fails with L{ConfigurationError} when a file cannot be used
            any more, or as C{TCP4ServerEndpoint.listen} does.
        """
        faults = self._contexts.refresh()
        if faults:
            return fail(faults[0])
        creator = ServerCreator(self._contexts, self._protocols or protocolsOf(protocolFactory))
        gates = ServerGateFactory(protocolFactory, self._reactor, self._timeout)
        factory = ServerTLSFactory(creator, gates, self._reactor, self._hold)
        return cast(Deferred[IListeningPort], self._endpoint.listen(factory))

    def reload(self) -> bool:
        """
        Read the files again, as SIGHUP does, for the connections to come; those that live are left
        alone. Call it in the reactor's thread.

        @return: whether that went well; if not, what could not be used stays as it was, and the log
            says why.
        """
        return self._contexts.reload()


@implementer(IOpenSSLClientConnectionCreator)
class ClientCreator:
    """Makes a client's connections from files, read again when one of them was replaced."""

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        files: TrustFiles,
        name: str,
        protocols: Sequence[bytes],
        reader: TrustReader | None = None,
    ) -> None:
        """
        @param files: the client's certificate, and whom it believes.
        @param name: what the server's certificate must be for.
        @param protocols: names for ALPN.
        @param reader: has read the files already.
        @raise ConfigurationError: naming the file that cannot be used.
        """
        self._name = name
        self._protocols = protocols
        # As it was looked up in DNS; an address is not sent (RFC 6066).
        self._sent = getattr(serviceName(name), "hostname", b"")
        self.reader = reader or TrustReader(files)
        self._made = self._make()

    def _make(self) -> tuple[Trust, SSL.Context]:
        trust = self.reader.trust
        return trust, clientContext(trust, self._name, protocols=self._protocols)

    def _refresh(self) -> SSL.Context:
        faults = self.reader.refresh() if self.reader.hasChanged() else []
        for fault in faults:
            self.log.error("certificates were not read again: {reason}", reason=fault.sentence)
        if self._made[0] is not self.reader.trust:
            self._made = self._make()
        return self._made[1]

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """
        Make one connection.

        @param tlsProtocol: will use it.
        """
        connection = SSL.Connection(self._refresh(), None)
        if self._sent:
            connection.set_tlsext_host_name(self._sent)
        return connection


@implementer(IStreamClientEndpoint)
class MutualTLSClientEndpoint:
    """Connects to a server that proves who it is, and proves who the client is."""

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        files: TrustFiles,
        *,
        name: str = "",
        timeout: float = 30.0,
        handshakeTimeout: float = HANDSHAKE_TIMEOUT,
        bindAddress: str | None = None,
        protocols: Sequence[bytes] = (),
    ) -> None:
        """
        @param reactor: connects.
        @param host: a DNS name, whose addresses are tried by happy eyeballs, or an address.
        @param port: the TCP port.
        @param files: the client's certificate, if it has one, and whom it believes.
        @param name: what the server's certificate must be for, if that is not C{host}.
        @param timeout: seconds for each address.
        @param handshakeTimeout: seconds for the handshake.
        @param bindAddress: the local address to connect from.
        @param protocols: names for ALPN; without any, the factory's own.
        @raise ConfigurationError: naming the file or the name that cannot be used.
        """
        self._reactor = reactor
        self._files = files.absolute()
        self._name = name or host
        self._handshakeTimeout = handshakeTimeout
        self._protocols = protocols
        self._endpoint = HostnameEndpoint(reactor, host, port, timeout, bindAddress)
        serviceName(self._name)
        self._creator = ClientCreator(self._files, self._name, protocols)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect.

        @param protocolFactory: its protocol is connected once the handshake is complete.
        @return: fires with the protocol; fails with L{HandshakeFailed}, or as
            C{HostnameEndpoint.connect} does.
        """
        creator, names = self._creator, self._protocols or protocolsOf(protocolFactory)
        if list(names) != list(self._protocols):
            creator = ClientCreator(self._files, self._name, names, creator.reader)
        gates = DialledGateFactory(protocolFactory, self._reactor, self._handshakeTimeout)
        factory = BoundedTLSFactory(creator, True, gates, self._reactor)
        return _Dialling(self._endpoint.connect(factory), gates).done


class _Dialling:
    """One attempt to connect: TCP first, then the handshake; both can be called off."""

    def __init__(self, connecting: Deferred[IProtocol], gates: DialledGateFactory) -> None:
        self._connecting = connecting
        self._tls: TLSMemoryBIOProtocol | None = None
        self.done: Deferred[IProtocol] = Deferred(self._cancel)
        connecting.addCallbacks(self._connected, self._settle)
        gates.done.addBoth(self._settle)

    def _connected(self, tls: IProtocol) -> None:
        assert isinstance(tls, TLSMemoryBIOProtocol)
        self._tls = tls

    def _settle(self, result: IProtocol | Failure) -> None:
        if not self.done.called:
            self.done.callback(result)

    def _cancel(self, _: Deferred[IProtocol]) -> None:
        if self._tls is None:
            self._connecting.cancel()
        elif self._tls.connected:
            self._tls.abortConnection()


def parseServer(
    reactor: Any,
    port: str,
    interface: str = "",
    *,
    cert: str = "",
    clientCA: str = "",
    crl: str = "",
    key: str = "",
    require: str = "yes",
    alpn: str = "",
    backlog: str = "50",
    timeout: str | None = None,
    hangup: str = "yes",
) -> MutualTLSServerEndpoint:
    """
    Make a server endpoint from the fields of C{mtls:PORT:cert=FILE:clientCA=FILE...}.

    @param reactor: listens.
    @param port: the TCP port.
    @param interface: the address to listen on.
    @param cert: the server's bundle.
    @param clientCA: the clients' authorities.
    @param crl: revocation lists.
    @param key: the private key, if it is not in C{cert}.
    @param require: C{yes}, or C{no} to let clients without a certificate in as anonymous.
    @param alpn: names for ALPN, with commas between them.
    @param backlog: connections that the kernel holds.
    @param timeout: seconds for a handshake; C{None} for what the factory's own limits say.
    @param hangup: C{yes}, or C{no} to leave SIGHUP alone.
    @return: the endpoint.
    @raise ValueError: for a field that is missing or cannot be understood.
    @raise ConfigurationError: naming the file that cannot be used.
    """
    for word, value in (("cert", cert), ("clientCA", clientCA)):
        if not value:
            raise ValueError(f"{word}=FILE is missing")
    return MutualTLSServerEndpoint(
        reactor,
        _whole("port", port),
        TrustFiles(cert, clientCA, crl, key),
        require=_whether("require", require),
        interface=interface,
        backlog=_whole("backlog", backlog),
        timeout=None if timeout is None else _seconds(timeout),
        protocols=_names(alpn),
        hangup=_whether("hangup", hangup),
    )


def parseClient(
    reactor: Any,
    host: str,
    port: str,
    *,
    ca: str = "",
    cert: str = "",
    crl: str = "",
    key: str = "",
    name: str = "",
    alpn: str = "",
    bindAddress: str | None = None,
    timeout: str = "30",
) -> MutualTLSClientEndpoint:
    """
    Make a client endpoint from the fields of C{mtls:HOST:PORT:cert=FILE:ca=FILE...}.

    @param reactor: connects.
    @param host: where to.
    @param port: the TCP port.
    @param ca: the server's authorities.
    @param cert: the client's bundle; without one the client is anonymous.
    @param crl: revocation lists.
    @param key: the private key, if it is not in C{cert}.
    @param name: what the server's certificate must be for, if that is not C{host}.
    @param alpn: names for ALPN, with commas between them.
    @param bindAddress: the local address to connect from.
    @param timeout: seconds to connect to each address.
    @return: the endpoint.
    @raise ValueError: for a field that is missing or cannot be understood.
    @raise ConfigurationError: naming the file that cannot be used.
    """
    if not ca:
        raise ValueError("ca=FILE is missing")
    return MutualTLSClientEndpoint(
        reactor,
        host,
        _whole("port", port),
        TrustFiles(cert, ca, crl, key),
        name=name,
        timeout=_seconds(timeout),
        bindAddress=bindAddress,
        protocols=_names(alpn),
    )


def _whole(word: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"{word} is {text!r}, no whole number")
    return int(text)


def _whether(word: str, text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"{word} is {text!r}, not yes or no")
    return text == "yes"


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"timeout is {text!r}, no number of seconds above 0")
    return seconds


def _names(text: str) -> tuple[bytes, ...]:
    names = tuple(name.encode() for name in text.split(",") if name)
    if any(len(name) > MAX_NAME for name in names):
        raise ValueError(f"a name in alpn is longer than {MAX_NAME} bytes")
    return names
