"""
The C{twistd} plugin C{netsuite}: all services in one process, from one TOML file or by default.

This is the one place that knows every service by name.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from twisted.application.service import MultiService

from twisted_netsuite.chat.tap import KIND as CHAT
from twisted_netsuite.echo.tap import KIND as ECHO
from twisted_netsuite.files.tap import KIND as FILES
from twisted_netsuite.ops.config import Kind, readSuite
from twisted_netsuite.ops.launch import Planned, launch
from twisted_netsuite.ops.options import PluginOptions, absolute
from twisted_netsuite.proxy.tap import KIND as PROXY
from twisted_netsuite.rexec.tap import KIND as EXEC

KINDS: dict[str, Kind[Any]] = {kind.name: kind for kind in (ECHO, EXEC, FILES, CHAT, PROXY)}


def defaults() -> list[Planned]:
    """
    Plan the suite without a file: all five on loopback, harmless as they are.

    Exec runs C{uname} and nothing else, files serves a directory of this package, and the proxy
    forwards to the echo beside it.

    @return: one of each kind.
    """
    told: dict[str, dict[str, Any]] = {
        "exec": {"allow": ("uname **",)},
        "files": {"root": str(files("twisted_netsuite.files") / "welcome")},
        "proxy": {"to": "tcp:127.0.0.1:7007"},
    }
    return [(kind, name, kind.config(**told.get(name, {}))) for name, kind in KINDS.items()]


class Options(PluginOptions):
    """
    The options of the whole suite.

    @ivar planned: the services they add up to, once they are parsed.
    @ivar source: the file they were read from; empty without one.
    """

    longdesc = (
        "Echo, remote exec, files, UDP chat and a port-forwarding proxy in one process. Without "
        "--config all five listen on loopback with safe defaults."
    )
    optParameters = [
        ["config", "c", None, "A TOML file; each table [KIND.NAME] in it is one service."]
    ]
    planned: list[Planned]
    source: str

    def postOptions(self) -> None:
        """Read the file, if there is one."""
        self.source = absolute(self["config"]) if self["config"] is not None else ""
        self.planned = readSuite(self.source, KINDS) if self.source else defaults()


def makeService(options: Options) -> MultiService:
    """
    Build the whole suite.

    @param options: with what was planned.
    @return: the services, not yet listening.
    """
    return launch(options, options.planned, options.source)
