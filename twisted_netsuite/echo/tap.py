"""
The C{twistd} plugin C{netsuite-echo}: its configuration, options and services.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Annotated, Any, Literal

import msgspec
from twisted.internet.protocol import DatagramProtocol

from twisted_netsuite.echo.protocol import EchoDatagrams, EchoFactory, answerFor
from twisted_netsuite.echo.simple import (
    ChargenDatagrams,
    ChargenFactory,
    DiscardDatagrams,
    DiscardFactory,
    TellDatagrams,
    TellFactory,
    daytime,
    time32,
)
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import DatagramAddress, parseListen
from twisted_netsuite.net.datagrams import largestAnswer
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.net.serving import ServedFactory
from twisted_netsuite.ops.config import Kind, Listen, StreamConfig
from twisted_netsuite.ops.launch import makerFor
from twisted_netsuite.ops.options import optionsFor


class EchoConfig(StreamConfig, frozen=True, kw_only=True):
    """What the echo service can be told."""

    listen: Listen = (
        "tcp:7007:interface=127.0.0.1",
        "udp:7007:interface=127.0.0.1",
    )
    service: Annotated[
        Literal["echo", "discard", "chargen", "daytime", "time"],
        msgspec.Meta(description="Which of the simple services to be."),
    ] = "echo"
    dialect: Annotated[
        Literal["classic"], msgspec.Meta(description="What is spoken on the wire.")
    ] = "classic"
    upper: Annotated[
        bool,
        msgspec.Meta(description="Upper-case the answers' ASCII letters, as the tutorials do."),
    ] = True
    once: Annotated[
        bool, msgspec.Meta(description="Close each connection after its first answer.")
    ] = False
    reply: Annotated[
        str, msgspec.Meta(description="A fixed text to answer with, in place of the message.")
    ] = ""


def build(config: EchoConfig, reactor: Any) -> list[ListeningService]:
    """
    Build the service.

    @param config: what it was told.
    @param reactor: what it will run on.
    @return: one service.
    @raise ConfigurationError: when an address cannot be used, or options contradict each other.
    """
    if config.service != "echo" and (config.once or config.reply or not config.upper):
        raise ConfigurationError(
            f"The service {config.service} answers by its RFC, so it takes no once, reply or "
            "no-upper; leave them out."
        )
    addresses = [parseListen(reactor, text, ("stream", "datagram")) for text in config.listen]
    datagrams = any(isinstance(address, DatagramAddress) for address in addresses)
    most = largestAnswer(0)
    if datagrams and len(config.reply.encode()) > most:
        raise ConfigurationError(
            f"A reply of {len(config.reply.encode())} bytes over UDP would amplify what a forged "
            f"sender asks for; give one of at most {most} bytes, or listen on streams only."
        )
    return [
        ListeningService(
            reactor,
            addresses,
            factory=_factory(config, reactor),
            datagrams=lambda: _datagrams(config, reactor),
            dialect=config.service if config.service != "echo" else config.dialect,
            example=lambda address: f"netsuite echo {address} hello",
        )
    ]


def _factory(config: EchoConfig, reactor: Any) -> ServedFactory:
    match config.service:
        case "discard":
            return DiscardFactory(reactor, config.limits())
        case "chargen":
            return ChargenFactory(reactor, config.limits())
        case "daytime" | "time":
            return TellFactory(reactor, _tell(config), config.limits())
        case "echo":
            answer = answerFor(upper=config.upper, reply=config.reply)
            return EchoFactory(reactor, answer, once=config.once, limits=config.limits())


def _datagrams(config: EchoConfig, reactor: Any) -> DatagramProtocol:
    match config.service:
        case "discard":
            return DiscardDatagrams(reactor)
        case "chargen":
            return ChargenDatagrams(reactor, Random())
        case "daytime" | "time":
            return TellDatagrams(reactor, _tell(config))
        case "echo":
            return EchoDatagrams(reactor, answerFor(upper=config.upper, reply=config.reply))


def _tell(config: EchoConfig) -> Callable[[], bytes]:
    write = daytime if config.service == "daytime" else time32
    return lambda: write(time.time())


KIND = Kind("echo", EchoConfig, build)
Options = optionsFor(
    KIND,
    "Echo over TCP, UDP and Unix sockets, upper-cased as in the tutorials, or one of its sibling "
    "services discard, chargen, daytime and time.",
)
makeService = makerFor(KIND)
