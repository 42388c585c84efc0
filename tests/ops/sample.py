"""
A service with a field of every sort, for the tests of configuration, options and launching.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import parseListen
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.net.serving import ServedFactory
from twisted_netsuite.ops.config import Kind, Listen, StreamConfig
from twisted_netsuite.trust.oversight import UNSEEN, Oversight


class SampleConfig(StreamConfig, frozen=True, kw_only=True):
    """What the sample can be told."""

    root: Annotated[str, msgspec.Meta(description="A directory.")]
    listen: Listen = ("tcp:7000:interface=127.0.0.1",)
    colour: Annotated[Literal["red", "green"], msgspec.Meta(description="Its colour.")] = "red"
    loud: Annotated[bool, msgspec.Meta(description="Be quiet.")] = True
    logData: Annotated[bool, msgspec.Meta(description="Log it all.")] = False
    plain: str = ""


def build(
    config: SampleConfig, reactor: Any, oversight: Oversight = UNSEEN
) -> list[ListeningService]:
    """Build one service, or two when its colour is green; a root of C{wrong} is refused."""
    if config.root == "wrong":
        raise ConfigurationError("The root 'wrong' is wrong; give another.")
    addresses = [parseListen(reactor, text, ("stream", "datagram")) for text in config.listen]
    services = [
        ListeningService(
            reactor,
            addresses,
            factory=ServedFactory(Clock()),
            datagrams=DatagramProtocol,
            dialect="spoken",
            example=lambda where: f"try {where}",
        )
        for _ in range(1 + (config.colour == "green"))
    ]
    for service in services[1:]:
        service.addresses = []
        service.name = "second"
    return services


SAMPLE = Kind("sample", SampleConfig, build)
