"""
Twisted's own servers of the standard protocols, each behind a proxy of ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration.processes import Twistd


class ProxiedServers(Twistd):
    """A proxy before each of the standard servers, and the program that these are."""

    def __init__(self) -> None:
        """Start both."""
        self._servers = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("standard_servers.py")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._servers.stdout is not None
        ports = json.loads(self._servers.stdout.readline())
        super().__init__(
            suite="\n".join(
                f'[proxy.{name}]\nlisten = ["tcp:0:interface=127.0.0.1"]\n'
                f'to = "tcp:127.0.0.1:{port}"\n'
                for name, port in ports.items()
            )
        )

    def stop(self) -> None:
        """End both."""
        super().stop()
        self._servers.kill()
        self._servers.wait()
        assert self._servers.stdout is not None
        self._servers.stdout.close()
