"""
The tutorials' concurrent echo: blocking sockets and a thread for each client.
"""

from __future__ import annotations

import socket
import sys
from threading import Thread


def serve(client: socket.socket) -> None:
    """
    Echo for one client until it closes.
    """
    with client:
        while data := client.recv(1024):
            client.sendall(data)


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
while True:
    Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
