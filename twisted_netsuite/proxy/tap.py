"""
The C{twistd} plugin C{netsuite-proxy}: its configuration, options and services.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

import msgspec

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import (
    Bind,
    ListenAddress,
    parseConnect,
    parseListen,
    requireAuthentication,
    splitHostPort,
)
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.ops.config import GuardedConfig, Kind, Listen, Seconds
from twisted_netsuite.ops.launch import makerFor
from twisted_netsuite.ops.options import optionsFor
from twisted_netsuite.proxy.protocol import PROXY_LIMITS, ProxyFactory
from twisted_netsuite.trust.oversight import UNSEEN, Oversight


class ProxyConfig(GuardedConfig, frozen=True, kw_only=True):
    """What the proxy can be told."""

    to: Annotated[
        str,
        msgspec.Meta(
            description="Where to forward to: HOST:PORT, unix:PATH or any Twisted client endpoint "
            "string."
        ),
    ]
    listen: Listen = ("tcp:7080:interface=127.0.0.1",)
    dialect: Annotated[
        Literal["classic"], msgspec.Meta(description="What is spoken on the wire.")
    ] = "classic"
    firstMessageTimeout: Annotated[
        Seconds,
        msgspec.Meta(
            description="Seconds until the first byte of either side; 0: as for idle-timeout."
        ),
    ] = PROXY_LIMITS.firstMessageTimeout
    lendAccount: Annotated[
        bool,
        msgspec.Meta(
            description="Forward strangers from other machines to a Unix socket, where they are "
            "taken for the account of this service."
        ),
    ] = False
    logData: Annotated[bool, msgspec.Meta(description="Log every chunk: time, peer and data.")] = (
        False
    )


def build(
    config: ProxyConfig, reactor: Any, oversight: Oversight = UNSEEN
) -> list[ListeningService]:
    """
    Build the service.

    @param config: what it was told.
    @param reactor: what it will run on.
    @param oversight: what stands over it.
    @return: one service.
    @raise ConfigurationError: when an address cannot be used.
    """
    addresses = [parseListen(reactor, text, ("stream",)) for text in config.listen]
    target = parseConnect(reactor, config.to)
    bind = _targetBind(config.to)
    if bind is not None and bind.kind == "unix" and not config.lendAccount:
        requireAuthentication(
            addresses,
            "anyone would be taken for this service's account at its target (or say lend-account)",
        )
    _requireNoLoop(addresses, config.to)
    factory = ProxyFactory(
        reactor,
        target,
        targetName=config.to,
        logData=config.logData,
        limits=config.limits(),
        oversight=oversight,
        place=_place(config.to, oversight),
    )
    return [
        ListeningService(
            reactor,
            addresses,
            factory=factory,
            dialect=config.dialect,
            example=lambda address: f"netsuite echo {address} hello   (forwards to {config.to})",
        )
    ]


def _requireNoLoop(addresses: list[ListenAddress], to: str) -> None:
    target = _targetBind(to)
    for address in addresses:
        if target is not None and any(_reaches(target, bind) for bind in address.binds()):
            raise ConfigurationError(
                f"The proxy would forward {address.description!r} to itself; "
                "give another address to forward to."
            )


#: A field of an endpoint string: colons and backslashes in it stand behind a backslash.
_FIELD = r"((?:\\.|[^:\\])+)"
_UNIX_TARGET = re.compile(rf"unix:(?:path=)?{_FIELD}(?::.*)?")
_TCP_TARGET = re.compile(rf"tcp:(?:host=)?{_FIELD}:(?:port=)?(\d+)(?::.*)?")


def _targetBind(to: str) -> Bind | None:
    """Tell the socket that a target has bound, as far as its address says."""
    if found := _UNIX_TARGET.fullmatch(to):
        return Bind("unix", _unescaped(found[1]))
    if found := _TCP_TARGET.fullmatch(to):
        return Bind("tcp", _unescaped(found[1]), int(found[2]))
    hostPort = splitHostPort(to)
    return Bind("tcp", *hostPort) if hostPort else None


_TLS_TARGET = re.compile(rf"m?tls:(?:host=)?{_FIELD}:(?:port=)?(\d+)(?::.*)?")

#: Fields with which an endpoint connects elsewhere than it began to say.
_ELSEWHERE = re.compile(r"(?<!\\):(?:host|port|endpoint)=")


def _place(to: str, oversight: Oversight) -> tuple[str, int]:
    """
    Tell host and port of a target, by which a policy knows it.

    @raise ConfigurationError: when there is a policy, and a target that it cannot know.
    """
    bind = _targetBind(to)
    found = _TLS_TARGET.fullmatch(to) or _TCP_TARGET.fullmatch(to)
    if found and not _ELSEWHERE.search(to, found.end(2)):
        return _unescaped(found[1]), int(found[2])
    if not found and bind is not None and bind.kind == "tcp":
        return bind.host, bind.port
    if oversight.guarded:
        raise ConfigurationError(
            f"A policy knows targets by host and port, and {to!r} does not say these alone; "
            "forward to HOST:PORT, or leave the policy out."
        )
    return "", 0


def _unescaped(field: str) -> str:
    return re.sub(r"\\(.)", r"\1", field)


def _reaches(target: Bind, bind: Bind) -> bool:
    if bind.kind != target.kind or bind.port != target.port:
        return False
    if bind.kind == "unix":
        return os.path.abspath(bind.host) == os.path.abspath(target.host)
    everywhere = bind.host in ("", "0.0.0.0", "::") and target.local
    named = target.host == "localhost" and bind.host in ("127.0.0.1", "::1")
    return bind.host == target.host or everywhere or named


KIND = Kind("proxy", ProxyConfig, build)
Options = optionsFor(KIND, "Forwards TCP and Unix connections, with half-close and backpressure.")
makeService = makerFor(KIND)
