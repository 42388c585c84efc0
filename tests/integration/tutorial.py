"""
The tutorials' clients, written as the tutorials write them: blocking sockets, C{recv(1024)}, and no
framing but what each dialect has.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

#: What one C{recv} of the tutorials asks for.
BUFSIZE = 1024

#: The two acknowledgements that the tutorials send.
ACKNOWLEDGEMENTS = (b"recv_ready", "准备好了,可以接收".encode())


class Refused(Exception):
    """The server answered words where the client expected a number."""


def ask(sock: socket.socket, message: bytes) -> bytes:
    """
    Send a message and take one chunk for its answer.

    @param sock: connected.
    @param message: to send.
    @return: what one C{recv} returns.
    """
    sock.send(message)
    return sock.recv(BUFSIZE)


def readAll(sock: socket.socket) -> bytes:
    """
    Read until the other side closes.

    @param sock: connected.
    @return: all of it.
    """
    received = bytearray()
    while chunk := sock.recv(BUFSIZE):
        received += chunk
    return bytes(received)


def readSize(sock: socket.socket, size: int) -> bytes:
    """
    Read until so many bytes are there, and not one more.

    @param sock: connected.
    @param size: how many.
    @return: all of them.
    """
    received = bytearray()
    while len(received) < size:
        chunk = sock.recv(min(BUFSIZE, size - len(received)))
        if not chunk:
            raise EOFError(f"{len(received)} of {size} bytes came")
        received += chunk
    return bytes(received)


def _announced(
    sock: socket.socket, request: bytes, acknowledgement: bytes = ACKNOWLEDGEMENTS[0]
) -> bytes:
    answer = ask(sock, request)
    if not answer.isdigit():
        raise Refused(answer.decode())
    sock.send(acknowledgement)
    return readSize(sock, int(answer.decode()))


def runLength(
    sock: socket.socket, command: str, acknowledgement: bytes = ACKNOWLEDGEMENTS[0]
) -> bytes:
    """
    Run a command in the dialect I{length}.

    @param sock: connected.
    @param command: for the shell.
    @param acknowledgement: any chunk.
    @return: its output.
    """
    return _announced(sock, command.encode("utf-8"), acknowledgement)


def readHeader(sock: socket.socket) -> tuple[dict[str, Any], bytes]:
    """
    Read one answer of the dialect I{header}.

    @param sock: connected.
    @return: header and output.
    """
    (length,) = struct.unpack("i", readSize(sock, 4))
    header = json.loads(readSize(sock, length).decode("utf-8"))
    return header, readSize(sock, header["total_size"])


def runHeader(sock: socket.socket, command: str) -> tuple[dict[str, Any], bytes]:
    """
    Run a command in the dialect I{header}.

    @param sock: connected.
    @param command: for the shell.
    @return: header and output.
    """
    sock.send(command.encode("utf-8"))
    return readHeader(sock)


def get(sock: socket.socket, name: str, acknowledgement: bytes = ACKNOWLEDGEMENTS[0]) -> bytes:
    """
    Get a file.

    @param sock: connected.
    @param name: of the file.
    @param acknowledgement: any chunk.
    @return: its content.
    @raise Refused: when there is no size.
    """
    return _announced(sock, f"get {name}".encode(), acknowledgement)
