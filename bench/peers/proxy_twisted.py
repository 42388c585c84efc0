"""
Stock Twisted proxy: `twisted.protocols.portforward` on the default reactor.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IReactorCore
from twisted.protocols.portforward import ProxyFactory

port, target = map(int, sys.argv[1:])
listening = TCP4ServerEndpoint(reactor, port, backlog=1024, interface="127.0.0.1").listen(
    ProxyFactory("127.0.0.1", target)
)
IReactorCore(reactor).run()
