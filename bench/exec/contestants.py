"""
The contestants: how each server is configured and started, and the client that goes with it.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.exec.driver import Driver, driver
from bench.needs import Need, find, module, plugin, program, twistd
from bench.processes import BenchFailure, awaitListening, started
from bench.servers import Place, place

# What an OpenSSH without options for more safety would agree on, and what is fast on most CPUs.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")
CIPHER_BYTES = 256 * 1024 * 1024
CIPHER_TRIES = 2  # the better one counts: what else the machine does only makes them slower
CROWD = 1000  # sessions, connections and commands that every server allows at once
PRIVILEGE_FOLDER = Path("/run/sshd")  # sshd wants it when root starts it, and is told by no option

SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
UsePAM no
UseDNS no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
MaxSessions {crowd}
MaxStartups {crowd}
# What a user has in .bashrc is no part of this; bash reads it for sshd unless it is within another.
SetEnv SHLVL=1
LogLevel ERROR
"""

# No file of the user's own says anything: neither options nor keys nor known hosts.
SSH = (
    *("-F", "{folder}/ssh_config", "-p", "{port}", "-i", "{folder}/user", "-c", "{cipher}"),
    *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
    *("-o", "UserKnownHostsFile={folder}/known", "-o", "LogLevel=ERROR", "-T"),
)


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


def _keys(where: Place) -> None:
    for name in ("host", "user"):
        path = str(where.folder / name)
        command = [find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", path]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            raise BenchFailure(f"ssh-keygen makes no key: {made.stderr.strip()}")


@contextmanager
def _sshd(where: Place) -> Iterator[int]:
    """
    Run an C{sshd} with keys of its own.
    """
    _keys(where)
    where.write("ssh_config", "")
    text = SSHD.format(port=where.port, folder=where.folder, crowd=CROWD)
    if os.getuid() == 0:
        PRIVILEGE_FOLDER.mkdir(mode=0o755, exist_ok=True)
    command = [find("sshd"), "-D", "-e", "-f", where.write("sshd_config", text)]
    with serving(where, command) as pid:
        yield pid


def _ssh(where: Place, cipher: str) -> list[str]:
    options = [each.format(folder=where.folder, port=where.port, cipher=cipher) for each in SSH]
    return [find("ssh"), *options, f"{getpass.getuser()}@127.0.0.1"]


def _openssh(kind: str) -> Callable[[Place, str], Iterator[Sides]]:
    def ready(where: Place, cipher: str) -> Iterator[Sides]:
        with _sshd(where) as pid:
            to = _module("clients.openssh", kind, *_ssh(where, cipher))
            with driver(to, where) as client:
                yield Sides(pid, client)

    return ready


def _asyncssh(where: Place, cipher: str) -> Iterator[Sides]:
    words = (where.port, getpass.getuser(), where.folder / "user", cipher)
    with _sshd(where) as pid, driver(_module("clients.asyncssh_client", *words), where) as client:
        yield Sides(pid, client)


OURS = "ours"
BARE = "bare"
MASTER = "controlmaster"
TLS = "ours-tls"
FRESH = "openssh"
_OPENSSH = (
    replace(program("ssh"), sentence="ssh is missing: install the Debian package openssh-client"),
    replace(program("sshd"), sentence="sshd is missing: install the Debian package openssh-server"),
)
_NETSUITE = (plugin("netsuite-exec"),)

CONTESTANTS = (
    Contestant(OURS, "netsuite-exec", lambda where, cipher: oursPlain(where), _NETSUITE),
    Contestant(BARE, "bare spawnProcess", _bare),
    Contestant(TLS, "netsuite-exec, mutual TLS", _oursTLS, _NETSUITE),
    Contestant(
        FRESH,
        "OpenSSH, fresh connections",
        _openssh("fresh"),
        _OPENSSH,
        tripShare=0.1,
        ssh=True,
        crowd=False,
    ),
    Contestant(
        MASTER, "OpenSSH, ControlMaster", _openssh("master"), _OPENSSH, tripShare=0.5, ssh=True
    ),
    Contestant(
        "asyncssh",
        "asyncssh client, sshd",
        _asyncssh,
        (*_OPENSSH, module("asyncssh")),
        bulkShare=0.125,
        ssh=True,
    ),
)


def ciphers() -> dict[str, float]:
    """
    Try ciphers with C{ssh}.

    @return: seconds for L{CIPHER_BYTES} with each; the fastest is the one to compare with.
    @raise BenchFailure: one does not work.
    """
    seconds = {}
    with place() as where, ExitStack() as stack:
        stack.enter_context(_sshd(where))
        for cipher in CIPHERS:
            tries = [_bulkSeconds(_ssh(where, cipher)) for _ in range(CIPHER_TRIES)]
            seconds[cipher] = min(tries)
    return seconds


def _bulkSeconds(ssh: Sequence[str]) -> float:
    began = time.perf_counter()
    command = [*ssh, f"head -c {CIPHER_BYTES} /dev/zero"]
    null = subprocess.DEVNULL
    ended = subprocess.run(command, stdin=null, stdout=null, stderr=subprocess.PIPE, text=True)
    if ended.returncode:
        raise BenchFailure(f"ssh does not run a command: {ended.stderr.strip()}")
    return time.perf_counter() - began
