"""
The endpoints C{mtls:}: names only, so that looking for any endpoint imports none of ours.
"""

from importlib import import_module
from typing import cast

from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(
    IPlugin, IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor
)
class _MutualTLSParser:
    """Parses C{mtls:} by the module that makes its endpoints."""

    prefix = "mtls"

    def parseStreamServer(
        self, reactor: object, *args: object, **kwargs: object
    ) -> IStreamServerEndpoint:
        """Parse a server's."""
        parse = import_module("twisted_netsuite.net.mtls").parseServer
        return cast(IStreamServerEndpoint, parse(reactor, *args, **kwargs))

    def parseStreamClient(
        self, reactor: object, *args: object, **kwargs: object
    ) -> IStreamClientEndpoint:
        """Parse a client's."""
        parse = import_module("twisted_netsuite.net.mtls").parseClient
        return cast(IStreamClientEndpoint, parse(reactor, *args, **kwargs))


mutualTLS = _MutualTLSParser()
