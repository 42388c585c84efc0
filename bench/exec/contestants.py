"""
The contestants: how each server is configured and started, and the client that goes with it.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.driver import Driver, driver
from bench.needs import Need, module, plugin, twistd
from bench.openssh import OPENSSH, ssh, sshd
from bench.servers import Place, place, serving

CROWD = 1000  # sessions and commands that our server allows at once


@dataclass(frozen=True)
class Sides:
    """
    Both ends of a contestant that is ready: the pid of its server, when it has one, and what its
    client is told through.
    """

    server: int | None
    client: Driver


@dataclass(frozen=True)
class Contestant:
    """
    One way to run commands.

    @ivar ready: makes both ends ready, with the name of a cipher, until its block is left.
    @ivar tripShare: how many of the trips it gets: what is slow needs no more for a figure.
    @ivar bulkShare: how many of the bytes.
    @ivar ssh: whether it speaks SSH, with the cipher that was found to be the fastest.
    @ivar crowd: whether it runs many commands over one connection, or with none.
    """

    name: str
    title: str
    ready: Callable[[Place, str], Iterator[Sides]]
    needs: tuple[Need, ...] = ()
    tripShare: float = 1.0
    bulkShare: float = 1.0
    ssh: bool = False
    crowd: bool = True

    @contextmanager
    def running(self, cipher: str) -> Iterator[Sides]:
        """
        Make both ends ready, until the block is left.

        @raise BenchFailure: they do not become that.
        """
        with place() as where:
            yield from self.ready(where, cipher)


def _module(name: str, *words: object) -> list[str]:
    return [sys.executable, "-m", f"bench.exec.{name}", *map(str, words)]


def netsuite(where: Place, listen: str, *options: str) -> list[str]:
    """
    Tell the command line of our server.

    @param listen: the endpoint.
    @param options: more, for the service.
    """
    logs = ["--pidfile=", "--logfile", str(where.folder / "twistd.log")]
    service = ["netsuite-exec", "--allow-any", "--listen", listen, "--max-per-source", "0"]
    bounds = ["--connection-rate", "0", "--max-commands", str(2 * CROWD)]
    return [twistd(), "-n", *logs, *service, *bounds, *options]


def oursPlain(where: Place, *options: str) -> Iterator[Sides]:
    """
    Make our server and our client ready, over plain TCP.

    @param options: more, for the service.
    """
    listen = f"tcp:{where.port}:interface=127.0.0.1"
    to = _module("clients.ours", f"tcp:127.0.0.1:{where.port}")
    with serving(where, netsuite(where, listen, *options)) as pid, driver(to, where) as client:
        yield Sides(pid, client)


def _oursTLS(where: Place, cipher: str) -> Iterator[Sides]:
    from twisted_netsuite.trust.ca import Authority

    authority = Authority.create(where.folder / "ca")
    server = authority.issueServer("localhost", sans=["127.0.0.1"])
    user = authority.issueClient("bench")
    ca = authority.certificatePath
    listen = f"mtls:{where.port}:interface=127.0.0.1:cert={server}:clientCA={ca}"
    to = _module("clients.ours", f"mtls:127.0.0.1:{where.port}:cert={user}:ca={ca}")
    with serving(where, netsuite(where, listen)) as pid, driver(to, where) as client:
        yield Sides(pid, client)


def _bare(where: Place, cipher: str) -> Iterator[Sides]:
    with driver(_module("clients.bare"), where) as client:
        yield Sides(None, client)


def _openssh(kind: str) -> Callable[[Place, str], Iterator[Sides]]:
    def ready(where: Place, cipher: str) -> Iterator[Sides]:
        with sshd(where) as pid:
            to = _module("clients.openssh", kind, *ssh(where, cipher))
            with driver(to, where) as client:
                yield Sides(pid, client)

    return ready


def _asyncssh(where: Place, cipher: str) -> Iterator[Sides]:
    words = (where.port, getpass.getuser(), where.folder / "user", cipher)
    with sshd(where) as pid, driver(_module("clients.asyncssh_client", *words), where) as client:
        yield Sides(pid, client)


OURS = "ours"
BARE = "bare"
MASTER = "controlmaster"
TLS = "ours-tls"
FRESH = "openssh"
_NETSUITE = (plugin("netsuite-exec"),)

CONTESTANTS = (
    Contestant(OURS, "netsuite-exec", lambda where, cipher: oursPlain(where), _NETSUITE),
    Contestant(BARE, "bare spawnProcess", _bare),
    Contestant(TLS, "netsuite-exec, mutual TLS", _oursTLS, _NETSUITE),
    Contestant(
        FRESH,
        "OpenSSH, fresh connections",
        _openssh("fresh"),
        OPENSSH,
        tripShare=0.1,
        ssh=True,
        crowd=False,
    ),
    Contestant(
        MASTER, "OpenSSH, ControlMaster", _openssh("master"), OPENSSH, tripShare=0.5, ssh=True
    ),
    Contestant(
        "asyncssh",
        "asyncssh client, sshd",
        _asyncssh,
        (*OPENSSH, module("asyncssh")),
        bulkShare=0.125,
        ssh=True,
    ),
)
