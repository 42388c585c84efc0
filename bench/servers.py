"""
The competitors: how each echo server and each proxy is configured and started.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.needs import NGINX_STREAM, Need, find, module, plugin, program, streamModule, twistd
from bench.processes import awaitListening, freePorts, started

PEERS = Path(__file__).with_name("peers")

HAPROXY = """\
global
    nbthread 1
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    {option}
listen bench
    bind 127.0.0.1:{port}
    server target 127.0.0.1:{target}
"""

NGINX = """\
load_module {module};
daemon off;
pid {folder}/nginx.pid;
error_log stderr crit;
worker_processes 1;
events {{ worker_connections 4096; }}
stream {{
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        proxy_pass 127.0.0.1:{target};
    }}
}}
"""


@dataclass(frozen=True)
class Place:
    """
    Where a competitor runs: the port that it listens on, the port that a proxy forwards to, and a
    folder for its files.
    """

    port: int
    target: int
    folder: Path

    def write(self, name: str, text: str) -> str:
        """
        Write a file of configuration; returns its path.
        """
        path = self.folder / name
        path.write_text(text)
        return str(path)


@dataclass(frozen=True)
class Competitor:
    """
    A server to be measured.

    C{command} makes its command line; a competitor without one is the target itself, with nothing
    in front.
    """

    name: str
    title: str
    command: Callable[[Place], list[str]] | None
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True)
class Running:
    """
    A competitor that accepts connections: its port, and its pid when it is a process of its own.
    """

    port: int
    pid: int | None


@contextmanager
def place() -> Iterator[Place]:
    """
    Find a place for a competitor, and remove its files when the block is left.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        port, target = freePorts(2)
        yield Place(port, target, Path(folder))


@contextmanager
def running(competitor: Competitor, where: Place, cpu: int) -> Iterator[Running]:
    """
    Run a competitor, ready, until the block is left.

    @raise BenchFailure: it does not start.
    """
    if competitor.command is None:
        yield Running(where.target, None)
        return
    log = where.folder / "output.log"
    with started(competitor.command(where), cpu, log) as process:
        awaitListening(process, where.port, log)
        yield Running(where.port, process.pid)


@contextmanager
def serving(where: Place, command: Sequence[str]) -> Iterator[int]:
    """
    Run a server, ready, until the block is left.

    @return: its pid.
    @raise BenchFailure: it does not start.
    """
    log = where.folder / "server.log"
    with started(command, None, log) as process:
        awaitListening(process, where.port, log)
        yield process.pid


def _plugin(name: str, place: Place, *options: str) -> list[str]:
    listen = f"tcp:{place.port}:interface=127.0.0.1"
    log = str(place.folder / "twistd.log")
    # All of the load has one address; the peers have no limits by source to turn off.
    unbound = ["--max-per-source", "0", "--connection-rate", "0"]
    words = ["--pidfile=", "--logfile", log, name, "--listen", listen, *unbound, *options]
    return [twistd(), "-n", *words]


def _peer(script: str, *words: object) -> list[str]:
    return [sys.executable, str(PEERS / script), *map(str, words)]


def _socat(place: Place, to: str) -> list[str]:
    listen = f"TCP-LISTEN:{place.port},bind=127.0.0.1,fork,reuseaddr,backlog=1024"
    return [find("socat"), listen, to]


def _haproxy(place: Place, option: str = "") -> list[str]:
    text = HAPROXY.format(port=place.port, target=place.target, option=option)
    return [find("haproxy"), "-db", "-f", place.write("haproxy.cfg", text)]


def _nginx(place: Place) -> list[str]:
    text = NGINX.format(
        module=streamModule(), folder=place.folder, port=place.port, target=place.target
    )
    return [find("nginx"), "-e", "stderr", "-c", place.write("nginx.conf", text)]


BASELINE = "twisted"

ECHO = (
    Competitor(
        "ours",
        "netsuite-echo",
        lambda at: _plugin("netsuite-echo", at, "--no-upper"),
        (plugin("netsuite-echo"),),
    ),
    Competitor(BASELINE, "stock Twisted Protocol", lambda at: _peer("echo_twisted.py", at.port)),
    Competitor("threads", "thread for each client", lambda at: _peer("echo_threads.py", at.port)),
    Competitor("asyncio", "asyncio Protocol", lambda at: _peer("echo_asyncio.py", at.port)),
    Competitor(
        "uvloop",
        "uvloop Protocol",
        lambda at: _peer("echo_asyncio.py", at.port, "uvloop"),
        (module("uvloop"),),
    ),
    Competitor("socat", "socat, forking", lambda at: _socat(at, "PIPE"), (program("socat"),)),
)
NOT_ECHO = {"haproxy": "not an echo server", "nginx": "not an echo server"}

PROXY = (
    Competitor(
        "ours",
        "netsuite-proxy",
        lambda at: _plugin("netsuite-proxy", at, "--to", f"tcp:127.0.0.1:{at.target}"),
        (plugin("netsuite-proxy"),),
    ),
    Competitor(
        BASELINE,
        "stock Twisted portforward",
        lambda at: _peer("proxy_twisted.py", at.port, at.target),
    ),
    Competitor(
        "threads", "threads, 1 KiB reads", lambda at: _peer("proxy_threads.py", at.port, at.target)
    ),
    Competitor(
        "asyncio", "asyncio streams", lambda at: _peer("proxy_asyncio.py", at.port, at.target)
    ),
    Competitor(
        "uvloop",
        "uvloop Protocols",
        lambda at: _peer("proxy_uvloop.py", at.port, at.target),
        (module("uvloop"),),
    ),
    Competitor(
        "socat",
        "socat, forking",
        lambda at: _socat(at, f"TCP:127.0.0.1:{at.target}"),
        (program("socat"),),
    ),
    Competitor("haproxy", "haproxy", _haproxy, (program("haproxy"),)),
    Competitor(
        "haproxy-splice",
        "haproxy, splice-auto",
        lambda at: _haproxy(at, "option splice-auto"),
        (program("haproxy"),),
    ),
    Competitor("nginx", "nginx stream", _nginx, (program("nginx"), NGINX_STREAM)),
    Competitor("direct", "direct, no proxy", None),
)
