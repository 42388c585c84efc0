"""
Addresses as people write them: where a service listens, where a client connects.

What a server address would bind is found by letting its endpoint listen on a reactor that only
takes notes, so that any endpoint, also one from another package, can be checked before it is used.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, cast

from OpenSSL.crypto import Error as PEMError
from OpenSSL.SSL import Error as SSLError
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    StandardIOEndpoint,
    UNIXClientEndpoint,
    clientFromString,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IReactorFDSet,
    IReactorSocket,
    IReactorSSL,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
    IReactorUNIX,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.protocols.haproxy import proxyEndpoint
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import alsoProvides, implementer

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.admission import IAdmits, Place, admitting
from twisted_netsuite.net.datagrams import bindDatagrams
from twisted_netsuite.net.handshake import HandshakeGateFactory
from twisted_netsuite.net.mtls import MutualTLSClientEndpoint, MutualTLSServerEndpoint
from twisted_netsuite.net.tlscontext import TrustFiles

_UDP_FORM = "udp:PORT[:interface=ADDR]"

#: The interfaces that stand for all IPv4 addresses.
_ANY_IPV4 = frozenset({"", "0.0.0.0"})

#: What a parser of endpoint strings raises for one that it cannot use.
_UNUSABLE = (ValueError, TypeError, LookupError, OSError, SSLError, PEMError)


@dataclass(frozen=True)
class Bind:
    """
    One socket that an address would bind.

    @ivar kind: the sort of socket.
    @ivar host: the interface's address, empty for all; for C{unix} the path.
    @ivar port: the port, 0 for any free one.
    """

    kind: Literal["tcp", "udp", "unix"]
    host: str
    port: int = 0

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host or "*"
        return f"{self.kind} {host}:{self.port}"

    def overlaps(self, other: Bind) -> bool:
        """
        Tell whether the two cannot be listened on at once.

        @param other: another socket.
        @return: whether they are the same, or one stands for all addresses of the machine.
        """
        if (self.kind, self.port) != (other.kind, other.port):
            return False
        hosts = {self.host, other.host}
        if self.kind == "unix" or not self.port:
            return self.kind == "unix" and len(hosts) == 1
        # An IPv6 socket for all addresses takes IPv4 as well.
        both = any(":" in host for host in hosts)
        return len(hosts) == 1 or "::" in hosts or (not both and not hosts.isdisjoint(_ANY_IPV4))

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.kind == "unix":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            # A name is resolved only when it is bound, and may then be anything.
            return False


@dataclass(frozen=True)
class StreamAddress:
    """
    An address for streams.

    @ivar description: the endpoint string, as it was given.
    @ivar endpoint: listens there; for C{haproxy:} what is below it, which knows of no balancer.
    """

    description: str
    endpoint: IStreamServerEndpoint

    @property
    def balanced(self) -> bool:
        """Whether a balancer connects there, for clients of its own."""
        return _BALANCED.match(self.description) is not None

    @property
    def authenticates(self) -> bool:
        """Whether a client is let in only once it has proven who it is, itself."""
        if self.balanced:
            return False
        return isinstance(self.endpoint, MutualTLSServerEndpoint) and self.endpoint.requires

    def binds(self) -> list[Bind]:
        """
        Tell what this address would bind.

        @return: one for each socket; empty when the endpoint does not say, as with sockets that are
            inherited.
        """
        return self._notes.binds

    @functools.cached_property
    def _notes(self) -> _BindNotes:
        # Taken once, while it is parsed: C{twistd} may change its directory before it listens, and
        # files that the description names by a relative path would not be found any more.
        notes = _BindNotes()
        with contextlib.suppress(ValueError, TypeError, AttributeError, NotImplementedError):
            absolute = _withAbsolutePath(self.description)
            heard = serverFromString(notes, absolute).listen(Factory())
            heard.addErrback(lambda _: None)
        return notes

    def listen(self, factory: IProtocolFactory, clock: IReactorTime) -> Deferred[IListeningPort]:
        """
        Listen.

        @param factory: its protocols are connected once a TLS handshake, if there is one, is
            complete.
        @param clock: tells and waits for time.
        @return: fires with the port.
        """
        endpoint = self.endpoint
        if self._notes.overTLS:
            # Right above TLS: the header, too, is read only after the handshake.
            endpoint = _GatedEndpoint(endpoint, clock)
        if self.balanced:
            endpoint = cast(IStreamServerEndpoint, proxyEndpoint(endpoint))
            factory = BalancedFactory(factory)
        return cast(Deferred[IListeningPort], maybeDeferred(endpoint.listen, factory))


@dataclass(frozen=True)
class DatagramAddress:
    """
    An address for datagrams.

    @ivar description: C{udp:PORT[:interface=ADDR]}, as it was given.
    @ivar interface: the interface's address; empty for all.
    @ivar port: the port, 0 for any free one.
    """

    description: str
    interface: str
    port: int

    def binds(self) -> list[Bind]:
        """
        Tell what this address would bind.

        @return: one socket.
        """
        return [Bind("udp", self.interface, self.port)]

    def listen(
        self, reactor: IReactorFDSet | IReactorUDP, protocol: DatagramProtocol
    ) -> IListeningPort:
        """
        Listen.

        @param reactor: watches the socket.
        @param protocol: gets the datagrams.
        @return: the port.
        @raise twisted.internet.error.CannotListenError: when it cannot be bound.
        """
        return bindDatagrams(reactor, self.port, protocol, self.interface)


ListenAddress = StreamAddress | DatagramAddress


def parseListen(
    reactor: object, description: str, accepts: Iterable[Literal["stream", "datagram"]]
) -> ListenAddress:
    """
    Parse one server address.

    @param reactor: will listen.
    @param description: any Twisted server endpoint string, or C{udp:PORT[:interface=ADDR]}.
    @param accepts: what the service speaks.
    @return: the address, which has bound nothing yet.
    @raise ConfigurationError: when it cannot be understood, or the service does not speak it.
    """
    if description.startswith("udp:"):
        if "datagram" not in accepts:
            raise ConfigurationError(
                f"This service speaks streams, so it cannot listen on {description!r}; "
                "give tcp:PORT:interface=ADDR or another stream endpoint."
            )
        return _parseUDP(description)
    if "stream" not in accepts:
        raise ConfigurationError(
            f"This service speaks datagrams, so it cannot listen on {description!r}; "
            f"give {_UDP_FORM}."
        )
    try:
        absolute = _withAbsolutePath(description)
        endpoint = serverFromString(reactor, _BALANCED.sub("", absolute, count=1))
    except _UNUSABLE as error:
        form = "an endpoint string such as tcp:7007:interface=127.0.0.1 or unix:/run/echo.sock"
        if description.startswith("mtls:"):
            # Nothing that lets go of the certificates.
            form = "mtls:PORT:cert=FILE:clientCA=FILE[:crl=FILE][:interface=ADDR]"
        raise ConfigurationError(
            f"The listen address {description!r} cannot be understood ({_reason(error)}); "
            f"give {form}."
        ) from error
    if isinstance(endpoint, StandardIOEndpoint):
        raise ConfigurationError(
            f"{description!r} is one connection and no address to listen on; "
            "give an endpoint string such as tcp:7007:interface=127.0.0.1."
        )
    address = StreamAddress(description, endpoint)
    for bind in address.binds():
        _checkPort(description, bind.port)
        if bind.kind == "unix" and not bind.host:
            raise ConfigurationError(
                f"The listen address {description!r} has no path; give one such as "
                "unix:/run/echo.sock."
            )
    return address


#: What stands before an address that a balancer connects to.
_BALANCED = re.compile(r"\Ahaproxy:", re.IGNORECASE)

_UNIX = re.compile(
    r"(?P<kind>(?:haproxy:)?unix:(?:address=)?)(?P<path>(?:\\.|[^:\\=])+)(?P<rest>(?::.*)?)",
    re.DOTALL,
)

#: A mode in a description, by name or, as the first field behind the path, without one.
_MODE = re.compile(r"(?<!\\):(?:mode=|[0-7]+(?::|$))")


def _withAbsolutePath(description: str) -> str:
    """Fix a relative path of a socket: C{twistd} may change its directory before it is bound."""
    found = _UNIX.fullmatch(description)
    if found is None:
        return description
    path = os.path.abspath(re.sub(r"\\(.)", r"\1", found["path"]))
    quoted = quoteStringArgument(path).replace("=", "\\=")
    return f"{found['kind']}{quoted}{found['rest']}"


def _parseUDP(description: str) -> DatagramAddress:
    fields = [re.sub(r"\\(.)", r"\1", f) for f in re.findall(r"(?:\\.|[^:\\])+", description[4:])]
    options = dict(f.split("=", 1) for f in fields if "=" in f)
    plain = [f for f in fields if "=" not in f]
    port = options.pop("port", None) or (plain.pop(0) if plain else "")
    interface = options.pop("interface", "")
    if plain or options or not re.fullmatch("[0-9]{1,9}", port):
        raise ConfigurationError(
            f"The listen address {description!r} cannot be understood; give {_UDP_FORM}, with each "
            "colon of an IPv6 address behind a backslash."
        )
    _checkPort(description, int(port))
    if interface:
        try:
            ipaddress.ip_address(interface)
        except ValueError:
            raise ConfigurationError(
                f"The interface {interface!r} of {description!r} is no IP address; "
                "give one such as 127.0.0.1."
            ) from None
    return DatagramAddress(description, interface, int(port))


def _checkPort(description: str, port: int) -> None:
    if not 0 <= port <= 65535:
        raise ConfigurationError(
            f"The port {port} of {description!r} does not exist; give one from 0 to 65535."
        )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        reason = error.strerror or "a file in it cannot be used"
        return f"{reason}: {error.filename}" if error.filename else reason
    if isinstance(error, SSLError | PEMError):
        return "a certificate or key in it cannot be used"
    if isinstance(error, LookupError):
        return "no socket of that name or number was handed over"
    if isinstance(error, TypeError):
        # What a parser says of its arguments, without its own name.
        return re.sub(r"^[\w.]+\(\) ", "", str(error))
    return str(error).replace("\n", " ").rstrip(".") or type(error).__name__


class BalancedFactory(WrappingFactory[Any]):
    """Makes protocols behind a balancer, which is not whom their connections come from."""

    noisy = False

    def __init__(self, wrapped: IProtocolFactory) -> None:
        """
        @param wrapped: makes the protocols.
        """
        super().__init__(wrapped)
        self._admits = admitting(wrapped)
        if self._admits is not None:
            alsoProvides(self, IAdmits)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """
        Make a protocol whose peer is not known yet.

        @param addr: the balancer.
        """
        return self.wrappedFactory.buildProtocol(None)

    def placeFor(self, address: IAddress | None) -> Place | None:
        """
        Give a new connection a place, whoever its peer will be.

        @param address: the balancer's.
        @return: the place; C{None} when there is none, which has been logged.
        """
        return cast(Place | None, self._admits.placeFor(None))

    def withPlace(self, place: Place) -> AbstractContextManager[None]:
        """
        Hand a place on to the protocol that is made within.

        @param place: what L{placeFor} gave.
        """
        return cast(AbstractContextManager[None], self._admits.withPlace(place))


@implementer(IStreamServerEndpoint)
@dataclass(frozen=True)
class _GatedEndpoint:
    """Listens over TLS, and lets nothing above it hear of a connection before its handshake."""

    endpoint: IStreamServerEndpoint
    clock: IReactorTime

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen."""
        return self.endpoint.listen(HandshakeGateFactory(protocolFactory, self.clock))


@implementer(IListeningPort)
class _NoPort:
    """What the note-taking reactor gives in place of a port."""

    def startListening(self) -> None:
        """Nothing starts."""

    def stopListening(self) -> None:
        """Nothing stops."""

    def getHost(self) -> UNIXAddress:
        """Nowhere."""
        return UNIXAddress(None)


@implementer(IReactorTCP, IReactorSSL, IReactorUNIX, IReactorSocket)
class _BindNotes:
    """A reactor that notes what it is asked to listen on, and listens on nothing."""

    def __init__(self) -> None:
        self.binds: list[Bind] = []
        self.overTLS = False

    def listenTCP(
        self, port: int, factory: object, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Note an interface and a port."""
        self.binds.append(Bind("tcp", interface or "", port))
        if isinstance(factory, TLSMemoryBIOFactory):
            # Ours have their gate already.
            self.overTLS = not isinstance(factory.wrappedFactory, HandshakeGateFactory)
        return _NoPort()

    def listenSSL(
        self,
        port: int,
        factory: object,
        contextFactory: object,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """Note an interface and a port."""
        self.overTLS = True
        self.binds.append(Bind("tcp", interface or "", port))
        return _NoPort()

    def listenUNIX(
        self,
        address: str | bytes,
        factory: object,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> IListeningPort:
        """Note a path."""
        self.binds.append(Bind("unix", os.fsdecode(address)))
        return _NoPort()

    def _none(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    connectTCP = connectSSL = connectUNIX = _none
    adoptStreamPort = adoptStreamConnection = adoptDatagramPort = _none


@implementer(IStreamServerEndpoint)
@dataclass(frozen=True)
class _PrivateEndpoint:
    """Listens on a socket that is private from the first moment, not only after a chmod."""

    endpoint: IStreamServerEndpoint

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen under a mask that takes every right from others."""
        mask = os.umask(0o177)
        try:
            return self.endpoint.listen(protocolFactory)
        finally:
            os.umask(mask)


def privately(reactor: object, address: ListenAddress) -> ListenAddress:
    """
    Keep other users of this machine from a Unix socket.

    @param reactor: will listen.
    @param address: any address.
    @return: the same; for a Unix socket without a mode of its own, with mode 0600.
    """
    unix = all(bind.kind == "unix" for bind in address.binds())
    if not isinstance(address, StreamAddress) or not unix or _MODE.search(address.description):
        return address
    private = parseListen(reactor, f"{address.description}:mode=600", ("stream",))
    assert isinstance(private, StreamAddress)
    return StreamAddress(address.description, _PrivateEndpoint(private.endpoint))


def requireAuthentication(addresses: Iterable[ListenAddress], danger: str) -> None:
    """
    Refuse to offer something dangerous to strangers on other machines.

    @param addresses: where the service would listen.
    @param danger: what a stranger could do there, for the sentence.
    @raise ConfigurationError: when an address is beyond loopback and Unix sockets, or a balancer's,
        and lets clients in who have not proven who they are.
    """
    for address in addresses:
        if isinstance(address, StreamAddress) and address.balanced:
            raise ConfigurationError(
                f"{address.description!r} can be reached from other machines by way of its "
                f"balancer, where {danger}; listen without haproxy:, with client certificates by "
                "mtls:PORT:cert=FILE:clientCA=FILE, on a Unix socket, or on loopback by adding "
                ":interface=127.0.0.1."
            )
        if isinstance(address, StreamAddress) and address.authenticates:
            continue
        binds = address.binds()
        if not binds or not all(bind.local for bind in binds):
            raise ConfigurationError(
                f"{address.description!r} can be reached from other machines, where {danger}; "
                "listen with client certificates by mtls:PORT:cert=FILE:clientCA=FILE, on a Unix "
                "socket, or on loopback by adding :interface=127.0.0.1."
            )


#: Words that begin an endpoint string: C{tcp:80} is no host that is named tcp.
_ENDPOINT_WORDS = frozenset({"tcp", "tls", "mtls", "ssl", "unix", "haproxy", "systemd", "fd"})

_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:\[\]/\s]+)):(\d{1,5})")


def splitHostPort(address: str) -> tuple[str, int] | None:
    """
    Split C{HOST:PORT} or C{[IPV6]:PORT}.

    @param address: what a person wrote.
    @return: host and port; C{None} when it has another form.
    @raise ConfigurationError: when the port does not exist.
    """
    found = _HOST_PORT.fullmatch(address)
    if found is None:
        return None
    port = int(found[3])
    _checkPort(address, port)
    return found[1] or found[2], port


def parseConnect(
    reactor: object, address: str, files: TrustFiles | None = None
) -> IStreamClientEndpoint:
    """
    Parse an address to connect to.

    @param reactor: will connect.
    @param address: C{HOST:PORT}, C{unix:PATH} or any Twisted client endpoint string.
    @param files: to connect by TLS with, which takes a C{HOST:PORT}.
    @return: the endpoint; a host with several addresses is tried by happy eyeballs.
    @raise ConfigurationError: when it cannot be understood, or a file cannot be used.
    """
    if files is not None:
        hostPort = splitHostPort(address)
        if hostPort is None:
            raise ConfigurationError(
                f"A certificate is for an address HOST:PORT, which {address!r} is not; "
                "give one, or leave --cert and --ca out."
            )
        return MutualTLSClientEndpoint(reactor, *hostPort, files)
    if address.startswith("unix:") and ":" not in address[5:] and len(address) > 5:
        return UNIXClientEndpoint(reactor, address[5:])
    hostPort = splitHostPort(address)
    if hostPort is not None and hostPort[0] not in _ENDPOINT_WORDS:
        return HostnameEndpoint(reactor, *hostPort)
    try:
        return cast(IStreamClientEndpoint, clientFromString(reactor, address))
    except _UNUSABLE as error:
        form = "HOST:PORT, unix:PATH or a Twisted client endpoint string such as tls:HOST:PORT"
        if address.startswith("mtls:"):
            form = "mtls:HOST:PORT:cert=FILE:ca=FILE"
        raise ConfigurationError(
            f"The address {address!r} cannot be understood ({_reason(error)}); give {form}."
        ) from error
