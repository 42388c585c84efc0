"""
Stock Twisted echo: the shortest Protocol that writes back what it is given, on the default reactor.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IReactorCore
from twisted.internet.protocol import Factory, Protocol


class Echo(Protocol):
    """
    Writes back what it is given.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Write it back.
        """
        assert self.transport is not None
        self.transport.write(data)


listening = TCP4ServerEndpoint(
    reactor, int(sys.argv[1]), backlog=1024, interface="127.0.0.1"
).listen(Factory.forProtocol(Echo))
IReactorCore(reactor).run()
