"""
A relay that counts the bytes between clients and whichever server there is, and does something when
so many have passed. It looks at none of them.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from tests.integration.processes import Place

#: Bytes of one read.
_READ = 2**18


class Meter:
    """
    Carries any number of connections, as they come.

    @ivar address: where clients connect, as C{netsuite} takes it.
    @ivar server: where they are carried to; it may change from one connection to the next.
    @ivar passed: bytes that went either way since L{watch}.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.server: Place | None = None
        self.passed = 0
        self._lock = threading.Lock()
        self._at, self._act = 0, lambda: None
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def watch(self, at: int = 0, act: Callable[[], None] = lambda: None) -> None:
        """
        Count from 0 on.

        @param at: bytes after which something is done; 0 for never.
        @param act: does it, while what comes next waits.
        """
        with self._lock:
            self.passed, self._at, self._act = 0, at, act

    def close(self) -> None:
        """Take no more connections; those that are there end with their ends."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            assert self.server is not None, "A server comes before its clients."
            try:
                server = socket.create_connection((self.server.host, self.server.port))
            except OSError:  # It is dead.
                client.close()
                continue
            threads = [
                threading.Thread(target=self._carry, args=ways, daemon=True)
                for ways in ((client, server), (server, client))
            ]
            self._threads += threads
            for thread in threads:
                thread.start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := source.recv(_READ):
                self._count(len(data))
                target.sendall(data)
        # Whoever is gone is gone for the other, too; half of a connection is of no use here.
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _count(self, count: int) -> None:
        with self._lock:
            self.passed += count
            if 0 < self._at <= self.passed:
                self._at = 0
                self._act()
