"""
haproxy and nginx in front of our echo.
"""

from __future__ import annotations

import socket
from pathlib import Path

from tests.integration.processes import (
    SOCKET_TIMEOUT,
    ServedTestCase,
    eventually,
    freePort,
    scratch,
)
from tests.integration.tutorial import ask
from tests.peers.programs import Background, program


class FrontTests(ServedTestCase):
    """Other people's forwarders in front of our echo."""

    suite = '[echo.main]\nlisten = ["tcp:0:interface=127.0.0.1"]\n'

    def configured(self, text: str) -> tuple[Path, int]:
        """
        Write a configuration.

        @param text: with C{DIR}, C{FRONT} and C{ECHO} for a directory and two addresses.
        @return: its path, and the port in front.
        """
        directory, port = scratch(self), freePort()
        text = text.replace("DIR", str(directory)).replace("FRONT", f"127.0.0.1:{port}")
        path = directory / "front.conf"
        path.write_text(text.replace("ECHO", self.twistd.place("echo.main").text))
        return path, port

    def talks(self, port: int) -> None:
        """
        See that clients are served through a forwarder, and half-close passes.

        @param port: where it will listen.
        """
        eventually(lambda: _listens(port), f"a forwarder at port {port}")
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port), SOCKET_TIMEOUT) as client:
                self.assertEqual(b"HELLO", ask(client, b"hello"))
                client.sendall(b"last")
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(b"LAST", client.recv(1024))
                self.assertEqual(b"", client.recv(1024))

    def test_haproxy(self) -> None:
        """haproxy in TCP mode."""
        haproxy = program("haproxy", "haproxy")
        path, port = self.configured(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n"
            "  timeout server 30s\n"
            "listen echo\n  bind FRONT\n  server main ECHO\n"
        )
        Background(self, haproxy, "-db", "-f", str(path))
        self.talks(port)

    def test_nginx(self) -> None:
        """nginx with its stream module."""
        nginx = program("nginx", "nginx")
        module = program("/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream")
        path, port = self.configured(
            f"load_module {module};\n"
            "daemon off;\nmaster_process off;\npid DIR/nginx.pid;\nerror_log stderr;\n"
            "events {}\nstream {\n  server {\n    listen FRONT;\n    proxy_pass ECHO;\n"
            "    proxy_half_close on;\n  }\n}\n"
        )
        Background(self, nginx, "-p", str(path.parent), "-e", "stderr", "-c", str(path))
        self.talks(port)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
