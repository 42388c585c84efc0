"""
A web site that serves echo and a proxy to it beside its pages: one process, one reactor.

Run it with C{python embed.py}; Ctrl-C ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import react
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from twisted_netsuite.echo.protocol import EchoFactory
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.net.serving import ServedFactory
from twisted_netsuite.proxy.protocol import ProxyFactory


class Connections(Resource):
    """The site's only page: how many connections each service has now."""

    isLeaf = True

    def __init__(self, services: Mapping[str, ServedFactory]) -> None:
        super().__init__()
        self._services = services

    def render_GET(self, request: Request) -> bytes:
        """Write a line a service."""
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        lines = (f"{name}: {len(each.connections)}\n" for name, each in self._services.items())
        return "".join(lines).encode()


@dataclass(frozen=True)
class Application:
    """What runs: the ports of the site, echo and the proxy, and the factories of the last two."""

    ports: Mapping[str, IListeningPort]
    services: Mapping[str, ServedFactory]

    async def stop(self) -> None:
        """Listen no more, then end every connection of echo and the proxy."""
        await gatherResults([maybeDeferred(port.stopListening) for port in self.ports.values()])
        await gatherResults([service.abortConnections() for service in self.services.values()])


async def start(
    reactor: Any,
    site: str = "tcp:8080:interface=127.0.0.1",
    echo: str = "tcp:7007:interface=127.0.0.1",
    proxy: str = "tcp:7080:interface=127.0.0.1",
) -> Application:
    """Listen on three addresses, each a Twisted server endpoint string."""
    echoes = EchoFactory(reactor, limits=ConnectionLimits(maxConnections=100, idleTimeout=60))
    echoPort: Any = await serverFromString(reactor, echo).listen(echoes)

    target = HostnameEndpoint(reactor, "127.0.0.1", echoPort.getHost().port)
    flows = ProxyFactory(reactor, target, targetName="echo")
    proxyPort = await serverFromString(reactor, proxy).listen(flows)

    services = {"echo": echoes, "proxy": flows}
    sitePort = await serverFromString(reactor, site).listen(Site(Connections(services)))
    return Application({"site": sitePort, "echo": echoPort, "proxy": proxyPort}, services)


async def main(reactor: Any) -> None:
    """Run until the process is told to end."""
    application = await start(reactor)
    for name, port in application.ports.items():
        print(f"{name} on {port.getHost()}")
    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: Deferred.fromCoroutine(application.stop())
    )
    await Deferred()


if __name__ == "__main__":
    react(main)
