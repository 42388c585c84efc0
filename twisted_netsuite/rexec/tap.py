"""
The C{twistd} plugin C{netsuite-exec}: its configuration, options and services.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import parseListen, privately, requireAuthentication
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.ops.config import Count, GuardedConfig, Kind, Listen, PerSource
from twisted_netsuite.ops.launch import makerFor
from twisted_netsuite.ops.options import optionsFor
from twisted_netsuite.rexec.classic import ClassicExecFactory
from twisted_netsuite.rexec.collect import CommandLimits
from twisted_netsuite.rexec.process import ProcessSpawner
from twisted_netsuite.trust.oversight import UNSEEN, Oversight


class ExecConfig(GuardedConfig, frozen=True, kw_only=True):
    """What the exec service can be told."""

    listen: Listen = ("tcp:7512:interface=127.0.0.1",)
    dialect: Annotated[
        Literal["raw", "length", "header"],
        msgspec.Meta(description="The form of the answers."),
    ] = "header"
    allowShell: Annotated[
        bool,
        msgspec.Meta(
            description="Give every command to /bin/sh; without it each is refused. Whoever can "
            "reach the service can then do whatever its user can."
        ),
    ] = False
    outputLimit: Annotated[
        Count, msgspec.Meta(description="Bytes of output at which a command is ended.")
    ] = CommandLimits.output
    timeLimit: Annotated[
        float, msgspec.Meta(gt=0, description="Seconds after which a command is ended.")
    ] = CommandLimits.seconds
    encoding: Annotated[
        str, msgspec.Meta(description="The encoding of the answers, such as gbk.")
    ] = "utf-8"
    maxPerSource: PerSource = 32
    maxConnections: Annotated[
        Count,
        msgspec.Meta(description="Connections at a time, each with one command and its output."),
    ] = 64


def build(
    config: ExecConfig, reactor: Any, oversight: Oversight = UNSEEN
) -> list[ListeningService]:
    """
    Build the service.

    @param config: what it was told.
    @param reactor: what it will run on.
    @param oversight: what stands over it.
    @return: one service.
    @raise ConfigurationError: when an address or the encoding cannot be used, or a shell would be
        offered to other machines.
    """
    addresses = [parseListen(reactor, text, ("stream",)) for text in config.listen]
    if config.allowShell and oversight.guarded:
        raise ConfigurationError(
            "A policy says who may use a shell, and allow-shell would let everybody; leave one of "
            "them out."
        )
    if config.allowShell or oversight.guarded:
        danger = "anyone could run commands, as allow-shell asks no one's name"
        guarded = "anyone could try what the policy allows"
        requireAuthentication(addresses, danger if config.allowShell else guarded)
        addresses = [privately(reactor, address) for address in addresses]
    try:
        factory = ClassicExecFactory(
            reactor,
            config.dialect,
            ProcessSpawner(reactor),
            allowShell=config.allowShell,
            encoding=config.encoding,
            commandLimits=CommandLimits(config.outputLimit, config.timeLimit),
            limits=config.limits(),
            oversight=oversight,
        )
    except LookupError as error:
        raise ConfigurationError(
            f"The encoding {config.encoding!r} is not known; give one such as utf-8 or gbk."
        ) from error
    return [
        ListeningService(
            reactor,
            addresses,
            factory=factory,
            dialect=config.dialect,
            example=lambda address: f"netsuite exec --dialect {config.dialect} {address} uname",
        )
    ]


KIND = Kind("exec", ExecConfig, build)
Options = optionsFor(
    KIND,
    "Runs commands for clients of the tutorials' three dialects, if --allow-shell is given or a "
    "policy allows it.",
)
makeService = makerFor(KIND)
