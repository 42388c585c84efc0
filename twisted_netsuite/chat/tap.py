"""
The C{twistd} plugin C{netsuite-chat}: its configuration, options and services.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import msgspec
from twisted.internet.endpoints import quoteStringArgument

from twisted_netsuite.chat.classic import OperatorFactory, Switchboard
from twisted_netsuite.chat.client import defaultSocket, requirePrivate
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import parseListen, privately
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.ops.config import Kind, Listen, ServiceConfig
from twisted_netsuite.ops.launch import makerFor
from twisted_netsuite.ops.options import absolute, optionsFor
from twisted_netsuite.trust.oversight import UNSEEN, Oversight


class ChatConfig(ServiceConfig, frozen=True, kw_only=True):
    """What the chat service can be told."""

    listen: Listen = ("udp:7425:interface=127.0.0.1",)
    dialect: Annotated[
        Literal["plain"], msgspec.Meta(description="What is spoken on the wire.")
    ] = "plain"
    operate: Annotated[
        str,
        msgspec.Meta(
            description="The Unix socket for operators' consoles, made with mode 0600; without it "
            "netsuite-chat.sock in $XDG_RUNTIME_DIR or /tmp/netsuite-UID."
        ),
    ] = ""


def build(
    config: ChatConfig, reactor: Any, oversight: Oversight = UNSEEN
) -> list[ListeningService]:
    """
    Build the service.

    @param config: what it was told.
    @param reactor: what it will run on.
    @param oversight: what stands over it.
    @return: one service for the clients, and one for the operators.
    @raise ConfigurationError: when an address or the socket cannot be used.
    """
    addresses = [parseListen(reactor, text, ("datagram",)) for text in config.listen]
    path = absolute(config.operate) if config.operate else defaultSocket()
    socket = f"unix:address={quoteStringArgument(path)}"
    switchboard = Switchboard(reactor)
    clients = ListeningService(
        reactor,
        addresses,
        datagrams=switchboard.listen,
        dialect=config.dialect,
        example=lambda address: f"netsuite chat --plain {address.removeprefix('udp:')}",
    )
    operators = ListeningService(
        reactor,
        [privately(reactor, parseListen(reactor, socket, ("stream",)))],
        factory=OperatorFactory(reactor, switchboard),
        dialect="operator",
        prepare=lambda: None if config.operate else _makePrivate(os.path.dirname(path)),
        example=lambda address: f"netsuite chat --plain --operate {path}",
    )
    operators.name = "operators"
    return [clients, operators]


def _makePrivate(directory: str) -> None:
    """Make the directory of the default socket, unless it is there."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(
            f"The directory {directory!r} for the operators' socket cannot be made: "
            f"{(error.strerror or '').lower()}; give another socket with --operate."
        ) from error
    requirePrivate(directory)


KIND = Kind("chat", ChatConfig, build)
Options = optionsFor(KIND, "Relays between plain UDP clients and an operator at a console.")
makeService = makerFor(KIND)
