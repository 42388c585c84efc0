"""
Stock Twisted echo: the shortest Protocol that writes back what it is given, on the default reactor.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorCore, IReactorTCP
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


IReactorTCP(reactor).listenTCP(
    int(sys.argv[1]), Factory.forProtocol(Echo), backlog=1024, interface="127.0.0.1"
)
IReactorCore(reactor).run()
