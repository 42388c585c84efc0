"""
A relay between a client and a service that splits or joins what the service answers.
"""

from __future__ import annotations

import socket
import threading

from tests.integration.processes import SOCKET_TIMEOUT, Place

#: Bytes of one read.
_READ = 65536


class Relay:
    """
    Carries one connection; commands pass as they come, answers are cut or kept.

    @ivar place: where a client connects.
    """

    def __init__(self, target: Place, *, split: int = 0, hold: bool = False) -> None:
        """
        @param target: where the service is.
        @param split: bytes of each piece in which answers are passed on; 0 for as they come.
        @param hold: whether answers are kept until L{release}.
        """
        self._target = target
        self._split = split
        self._held: bytes | None = b"" if hold else None
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._client: socket.socket | None = None
        self._server: socket.socket | None = None
        self.place = Place("relay", "tcp", "127.0.0.1", self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def waitFor(self, ending: bytes) -> None:
        """
        Wait until the service has answered.

        @param ending: how what is kept then ends.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._kept().endswith(ending), SOCKET_TIMEOUT):
                raise AssertionError(f"{self._held!r} does not end with {ending!r}")

    def release(self) -> None:
        """Pass on all that was kept, at once."""
        with self._changed:
            held, self._held = self._kept(), None
            assert self._client is not None
            self._client.sendall(held)

    def close(self) -> None:
        """End both connections."""
        self._listener.close()
        for sock in (self._client, self._server):
            if sock is not None:
                _shut(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SOCKET_TIMEOUT)
        for sock in (self._client, self._server):
            if sock is not None:
                sock.close()

    def _kept(self) -> bytes:
        return self._held or b""

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server = server = self._target.socket()
        server.settimeout(None)
        self._client = client
        answers = threading.Thread(target=self._answers, args=(server, client), daemon=True)
        self._threads.append(answers)
        answers.start()
        while data := _read(client):
            server.sendall(data)
        _shut(server, socket.SHUT_WR)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        while data := _read(server):
            with self._changed:
                if self._held is not None:
                    self._held += data
                    self._changed.notify_all()
                    continue
            size = self._split or len(data)
            for start in range(0, len(data), size):
                client.sendall(data[start : start + size])
        _shut(client, socket.SHUT_WR)


def _read(sock: socket.socket) -> bytes:
    try:
        return sock.recv(_READ)
    except OSError:
        return b""


def _shut(sock: socket.socket, how: int) -> None:
    try:
        sock.shutdown(how)
    except OSError:
        # It is gone already, which is what was wanted.
        return
