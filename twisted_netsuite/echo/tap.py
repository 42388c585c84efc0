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

from twisted_netsuite.echo.native import NativeEchoFactory
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
from twisted_netsuite.ops.auth import tokensFrom
from twisted_netsuite.ops.config import Kind, Listen, StreamConfig
from twisted_netsuite.ops.launch import makerFor
from twisted_netsuite.ops.options import optionsFor
from twisted_netsuite.trust.oversight import UNSEEN, Oversight

#: Where datagrams are answered unless something else is said.
DEFAULT_UDP = "udp:7007:interface=127.0.0.1"


class EchoConfig(StreamConfig, frozen=True, kw_only=True):
    """What the echo service can be told."""

    listen: Listen = (
        "tcp:7007:interface=127.0.0.1",
        DEFAULT_UDP,
    )
    service: Annotated[
        Literal["echo", "discard", "chargen", "daytime", "time"],
        msgspec.Meta(description="Which of the simple services to be."),
    ] = "echo"
    dialect: Annotated[
        Literal["classic", "native"],
        msgspec.Meta(description="What is spoken on the wire; native is for streams only."),
    ] = "classic"
    auth: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="What checks the tokens of native clients, as strcred names it, such as "
            "file:PATH; may be given many times, and each is asked in turn."
        ),
    ] = ()
    requireIdentity: Annotated[
        bool, msgspec.Meta(description="Refuse native clients that prove no identity.")
    ] = False
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


def build(
    config: EchoConfig, reactor: Any, oversight: Oversight = UNSEEN
) -> list[ListeningService]:
    """
    Build the service.

    @param config: what it was told.
    @param reactor: what it will run on.
    @param oversight: what stands over it.
    @return: one service.
    @raise ConfigurationError: when an address cannot be used, or options contradict each other.
    """
    if config.service != "echo" and (config.once or config.reply or not config.upper):
        raise ConfigurationError(
            f"The service {config.service} answers by its RFC, so it takes no once, reply or "
            "no-upper; leave them out."
        )
    if config.dialect == "native":
        return [_native(config, reactor)]
    if config.auth or config.requireIdentity:
        raise ConfigurationError(
            "The classic dialect has no names, so it takes no auth and no require-identity; leave "
            "them out, or give the dialect native."
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


def _native(config: EchoConfig, reactor: Any) -> ListeningService:
    if config.service != "echo" or config.once or config.reply or not config.upper:
        raise ConfigurationError(
            "The native dialect answers each record as it came, so it takes no other service, no "
            "once, no reply and no no-upper; leave them out."
        )
    # The default address for datagrams is for the other dialect.
    given = [text for text in config.listen if text != DEFAULT_UDP]
    return ListeningService(
        reactor,
        [parseListen(reactor, text, ("stream",)) for text in given],
        factory=NativeEchoFactory(
            reactor,
            tokens=tokensFrom(config.auth),
            requireIdentity=config.requireIdentity,
            limits=config.limits(),
        ),
        dialect=config.dialect,
        example=lambda address: f"netsuite echo --dialect native {address} hello",
    )


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
