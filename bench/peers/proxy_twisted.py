"""
Stock Twisted proxy: `twisted.protocols.portforward` on the default reactor.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorCore, IReactorTCP
from twisted.protocols.portforward import ProxyFactory

port, target = map(int, sys.argv[1:])
IReactorTCP(reactor).listenTCP(
    port, ProxyFactory("127.0.0.1", target), backlog=1024, interface="127.0.0.1"
)
IReactorCore(reactor).run()
