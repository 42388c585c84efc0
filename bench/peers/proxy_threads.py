"""
The tutorials' port forwarder: blocking sockets, two threads for each connection, 1 KiB a read.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from threading import Thread

port, target = map(int, sys.argv[1:])


def copy(source: socket.socket, sink: socket.socket) -> None:
    """
    Copy one way until the source ends, then end the sink.
    """
    with suppress(OSError):
        while data := source.recv(1024):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def forward(client: socket.socket) -> None:
    """
    Copy both ways between one client and the target.
    """
    with client, socket.create_connection(("127.0.0.1", target)) as upstream:
        back = Thread(target=copy, args=(upstream, client), daemon=True)
        back.start()
        copy(client, upstream)
        back.join()


listener = socket.create_server(("127.0.0.1", port), backlog=1024)
while True:
    Thread(target=forward, args=(listener.accept()[0],), daemon=True).start()
