"""
The C{twistd} plugin C{netsuite-files}: its configuration, options and services.
"""

from __future__ import annotations

import os
import shlex
from typing import Annotated, Any, Literal

import msgspec

from twisted_netsuite.files.classic import ClassicGetFactory
from twisted_netsuite.files.root import Root
from twisted_netsuite.net.addresses import parseListen
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.ops.config import Count, GuardedConfig, Kind, Listen, PerSource
from twisted_netsuite.ops.launch import makerFor
from twisted_netsuite.ops.options import absolute, optionsFor
from twisted_netsuite.trust.oversight import UNSEEN, Oversight


class FilesConfig(GuardedConfig, frozen=True, kw_only=True):
    """What the file service can be told."""

    root: Annotated[
        str,
        # An empty path would be the working directory, which nobody has asked for.
        msgspec.Meta(
            min_length=1, description="The directory of which the files are served, read-only."
        ),
    ]
    listen: Listen = ("tcp:7021:interface=127.0.0.1",)
    dialect: Annotated[Literal["get"], msgspec.Meta(description="What is spoken on the wire.")] = (
        "get"
    )
    maxPerSource: PerSource = 200
    maxConnections: Annotated[
        Count, msgspec.Meta(description="Connections at a time, each with one file open.")
    ] = 400


def build(
    config: FilesConfig, reactor: Any, oversight: Oversight = UNSEEN
) -> list[ListeningService]:
    """
    Build the service.

    @param config: what it was told.
    @param reactor: what it will run on.
    @param oversight: what stands over it.
    @return: one service.
    @raise ConfigurationError: when an address or the root cannot be used.
    """
    addresses = [parseListen(reactor, text, ("stream",)) for text in config.listen]
    root = absolute(config.root)
    factory = ClassicGetFactory(reactor, Root(root), config.limits(), oversight)
    return [
        ListeningService(
            reactor,
            addresses,
            factory=factory,
            dialect=config.dialect,
            example=lambda address: f"netsuite get --dialect get {address}:/{_sample(root)} -",
        )
    ]


def _sample(root: str) -> str:
    """A file that can be got, so that the line to try it with works as it stands."""
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    # The line is printed: a name that a terminal would obey, or could not show, is no example.
    shown = (name for name in names if name.isascii() and name.isprintable())
    return shlex.quote(min(shown, default="NAME"))


KIND = Kind("files", FilesConfig, build)
Options = optionsFor(KIND, "Serves the files of one directory, read-only and confined to it.")
makeService = makerFor(KIND)
