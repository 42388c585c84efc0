"""
Writing at once where nothing is buffered, in place of waiting for the reactor's next turn.

Twisted keeps every write until the reactor reports the socket as writable, which costs three system
calls and a turn for each small message. A message that finds nothing before it can be sent right
away; only what the kernel does not take goes the usual way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor

from twisted_netsuite.net.interfaces import IStreamTransport

#: The state of Twisted's own buffer. Some of it has no public name: should a name go, writing is as
#: fast as Twisted's again, and the test of this module says so.
_STATE = (
    "_aborting",
    "_tempDataLen",
    "_writeDisconnecting",
    "connected",
    "dataBuffer",
    "disconnecting",
)


def eagerWrite(transport: IStreamTransport) -> Callable[[bytes], object]:
    """
    Find the fastest way to write to a transport.

    @param transport: a connection.
    @return: a function that writes as C{transport.write} does, in the same order and under the same
        backpressure; for a transport that is no socket itself, as under TLS, C{transport.write}.
    """
    known = all(hasattr(transport, name) for name in _STATE)
    if not known or not isinstance(transport, FileDescriptor):
        return transport.write
    socket: Any = transport
    queue: Callable[[bytes], None] = socket.write
    send: Callable[[bytes], int | BaseException] = socket.writeSomeData

    def write(data: bytes) -> None:
        buffered = socket._tempDataLen or socket.dataBuffer
        ending = socket.disconnecting or socket._writeDisconnecting or socket._aborting
        if buffered or ending or not socket.connected or not data:
            queue(data)
            return
        sent = send(data)
        if not isinstance(sent, int):
            # The connection is lost: the reactor is to find that out in its own turn.
            queue(data)
        elif sent < len(data):
            queue(data[sent:])

    return write
