"""
The C{twistd} plugin C{netsuite-proxy}: its configuration, options and services.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import (
    Bind,
    ListenAddress,
    parseConnect,
    parseListen,
    splitHostPort,
)
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.ops.config import Kind, Listen, StreamConfig
from twisted_netsuite.ops.launch import makerFor
from twisted_netsuite.ops.options import optionsFor
from twisted_netsuite.proxy.protocol import ProxyFactory


class ProxyConfig(StreamConfig, frozen=True, kw_only=True):
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
    logData: Annotated[bool, msgspec.Meta(description="Log every chunk: time, peer and data.")] = (
        False
    )


def build(config: ProxyConfig, reactor: Any) -> list[ListeningService]:
    """
    Build the service.

    @param config: what it was told.
    @param reactor: what it will run on.
    @return: one service.
    @raise ConfigurationError: when an address cannot be used.
    """
    addresses = [parseListen(reactor, text, ("stream",)) for text in config.listen]
    target = parseConnect(reactor, config.to)
    _requireNoLoop(addresses, config.to)
    factory = ProxyFactory(
        reactor,
        target,
        targetName=config.to,
        logData=config.logData,
        limits=config.limits(),
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
    target = splitHostPort(to.removeprefix("tcp:"))
    if target is None:
        return
    for address in addresses:
        for bind in address.binds():
            here = bind.host in (target[0], "") and Bind("tcp", target[0]).local
            if bind.kind == "tcp" and bind.port == target[1] and here:
                raise ConfigurationError(
                    f"The proxy would forward {address.description!r} to itself; "
                    "give another address with --to."
                )


KIND = Kind("proxy", ProxyConfig, build)
Options = optionsFor(KIND, "Forwards TCP and Unix connections, with half-close and backpressure.")
makeService = makerFor(KIND)
