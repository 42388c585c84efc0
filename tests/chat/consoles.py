"""
An operator's console in memory.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from twisted_netsuite.testing import MemoryTransport, Pair


class LineTransport(MemoryTransport):
    """Tells whether it closes: Twisted's line receivers ask for that before each line."""

    @property
    def disconnecting(self) -> bool:
        """Whether it was asked to close."""
        return self._closing


def connectConsole(service: IProtocol, console: IProtocol) -> Pair:
    """
    Connect a console over what looks like a Unix socket.

    @param service: the service's end.
    @param console: the operator's end.
    @return: the connection.
    """
    near, far = UNIXAddress(b"/run/chat.sock"), UNIXAddress(None)
    serviceEnd, consoleEnd = LineTransport(near, far), LineTransport(far, near)
    serviceEnd.other, consoleEnd.other = consoleEnd, serviceEnd
    serviceEnd.protocol, consoleEnd.protocol = service, console
    service.makeConnection(cast(Any, serviceEnd))
    console.makeConnection(cast(Any, consoleEnd))
    return Pair(serviceEnd, consoleEnd)


@implementer(IStreamClientEndpoint)
class ConsoleEndpoint:
    """
    Connects one console.

    @ivar pair: the connection, once it is made.
    """

    pair: Pair

    def __init__(self, service: IProtocol | None) -> None:
        """
        @param service: the service's end; without it nobody listens.
        """
        self._service = service

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect."""
        console = protocolFactory.buildProtocol(UNIXAddress(b"/run/chat.sock"))
        if self._service is None or console is None:
            return fail(ConnectError(2, "No such file or directory"))
        self.pair = connectConsole(self._service, console)
        return succeed(console)
