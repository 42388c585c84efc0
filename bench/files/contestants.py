"""
The contestants: how each server of files is configured and started, and the command of its client.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path

from bench.needs import Need, find, plugin, program, twistd
from bench.openssh import OPENSSH, account, options, sshd
from bench.servers import PEERS, Place, place, serving


class Task(Enum):
    """
    What a client is told to do with a name at the server and a path here.

    C{PULL} and C{PUSH} make a tree at one end as it is at the other; the C{CHECKED} ones compare
    contents, and not times.
    """

    GET = auto()
    PUT = auto()
    GET_TREE = auto()
    PUT_TREE = auto()
    PULL = auto()
    PUSH = auto()
    PULL_CHECKED = auto()
    PUSH_CHECKED = auto()

    @property
    def comes(self) -> bool:
        """Whether files come from the server."""
        return self.name.startswith(("GET", "PULL"))


#: Makes a client's command line of a task, a path here, and a name at the server.
Words = Callable[[Task, str, str], list[str]]


@dataclass(frozen=True)
class Sides:
    """
    Both ends: the pid of the server, when there is one, and the client's command lines.

    @ivar syncs: whether the client sees that a tree is the same already.
    """

    server: int | None
    words: Words
    syncs: bool = False


@dataclass(frozen=True)
class Contestant:
    """
    One way to move files.

    @ivar ready: makes a server ready for a directory, with the name of a cipher, until its block
        is left.
    @ivar ssh: whether it speaks SSH, with the cipher that was found to be the fastest.
    """

    name: str
    title: str
    ready: Callable[[Place, Path, str], Iterator[Sides]]
    needs: tuple[Need, ...] = ()
    ssh: bool = False

    @contextmanager
    def running(self, served: Path, cipher: str) -> Iterator[Sides]:
        """
        Make it ready, until the block is left.

        @param served: what is served.
        @raise BenchFailure: it does not become that.
        """
        with place() as where:
            yield from self.ready(where, served, cipher)


# Ours

# All clients have one address; the peers have no limits by source to turn off.
UNBOUND = ("--max-per-source", "0", "--connection-rate", "0", "--writable")
VERBS = {Task.GET: "get", Task.GET_TREE: "get", Task.PUT: "put", Task.PUT_TREE: "put"}
TREES = (Task.GET_TREE, Task.PUT_TREE)
CHECKED = (Task.PULL_CHECKED, Task.PUSH_CHECKED)


def _netsuite(where: Place, served: Path, listen: str) -> list[str]:
    logs = ["--pidfile=", "--logfile", str(where.folder / "twistd.log")]
    service = ["netsuite-files", "--root", str(served), "--listen", listen]
    return [twistd(), "-n", *logs, *service, *UNBOUND]


def _oursWords(port: int, *more: str) -> Words:
    netsuite = str(Path(sys.executable).with_name("netsuite"))

    def words(task: Task, here: str, name: str) -> list[str]:
        there = f"127.0.0.1:{port}:/{name}"
        if task in TREES:
            # What is in it, not the directory itself.
            there, here = (there + "/", here) if task.comes else (there, here + "/")
        verb = VERBS.get(task, "sync")
        flags = ["-r"] if task in TREES else ["-c"] if task in CHECKED else []
        ends = [there, here] if task.comes else [here, there]
        return [netsuite, verb, "-q", *flags, *more, *ends]

    return words


def _ours(*more: str) -> Callable[[Place, Path, str], Iterator[Sides]]:
    def ready(where: Place, served: Path, cipher: str) -> Iterator[Sides]:
        listen = f"tcp:{where.port}:interface=127.0.0.1"
        with serving(where, _netsuite(where, served, listen)) as pid:
            yield Sides(pid, _oursWords(where.port, *more), syncs=True)

    return ready


def _certificates(where: Place) -> tuple[Path, Path, Path]:
    """
    Make an authority, and the bundles of a server and of a client.
    """
    from twisted_netsuite.trust.ca import Authority

    authority = Authority.create(where.folder / "ca")
    server = authority.issueServer("localhost", sans=["127.0.0.1"])
    return Path(authority.certificatePath), Path(server), Path(authority.issueClient("bench"))


def _oursTLS(where: Place, served: Path, cipher: str) -> Iterator[Sides]:
    ca, server, user = _certificates(where)
    listen = f"mtls:{where.port}:interface=127.0.0.1:cert={server}:clientCA={ca}"
    with serving(where, _netsuite(where, served, listen)) as pid:
        yield Sides(pid, _oursWords(where.port, "--cert", str(user), "--ca", str(ca)))


# rsync

RSYNCD = """\
use chroot = no
max connections = 0
reverse lookup = no
log file = {folder}/rsyncd.log
{identity}
[files]
path = {served}
read only = no
"""


def _rsync(*more: str) -> Callable[[Place, Path, str], Iterator[Sides]]:
    def ready(where: Place, served: Path, cipher: str) -> Iterator[Sides]:
        # Else a daemon that root starts is nobody, and may not write.
        identity = "uid = 0\ngid = 0" if os.getuid() == 0 else ""
        text = RSYNCD.format(folder=where.folder, served=served, identity=identity)
        config = f"--config={where.write('rsyncd.conf', text)}"
        listen = ["--address=127.0.0.1", f"--port={where.port}"]
        with serving(where, [find("rsync"), "--daemon", "--no-detach", config, *listen]) as pid:
            url = f"rsync://127.0.0.1:{where.port}/files"
            yield Sides(pid, _rsyncWords(url, *more), syncs=True)

    return ready


def _rsyncWords(url: str, *more: str) -> Words:
    def words(task: Task, here: str, name: str) -> list[str]:
        there = f"{url}/{name}"
        flags = []
        if task not in (Task.GET, Task.PUT):
            flags = ["-a"] + (["-c"] if task in CHECKED else [])
            there, here = there + "/", here + "/"
        ends = [there, here] if task.comes else [here, there]
        return [find("rsync"), *flags, *more, *ends]

    return words


# curl, for whoever speaks HTTP or FTP


def _curlWords(url: str, *more: str) -> Words:
    def words(task: Task, here: str, name: str) -> list[str]:
        way = ["-o"] if task.comes else ["-T"]
        return [find("curl"), "-sS", "-f", *more, *way, here, f"{url}/{name}"]

    return words


NGINX = """\
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr crit;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    client_max_body_size 0;
    # Beside what is served: what has come is renamed into it, and not copied.
    client_body_temp_path {served}/../nginx-body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port}{tls};
        root {served};
        dav_methods PUT;
        {certificate}
    }}
}}
"""


def _nginxServer(where: Place, served: Path, certificate: Path | None) -> list[str]:
    bundle = f"ssl_certificate {certificate}; ssl_certificate_key {certificate};"
    text = NGINX.format(
        user=f"user {getpass.getuser()};" if os.getuid() == 0 else "",
        folder=where.folder,
        served=served,
        port=where.port,
        tls=" ssl" if certificate else "",
        certificate=bundle if certificate else "",
    )
    return [find("nginx"), "-e", "stderr", "-c", where.write("nginx.conf", text)]


def _nginx(where: Place, served: Path, cipher: str) -> Iterator[Sides]:
    with serving(where, _nginxServer(where, served, None)) as pid:
        yield Sides(pid, _curlWords(f"http://127.0.0.1:{where.port}"))


def _nginxTLS(where: Place, served: Path, cipher: str) -> Iterator[Sides]:
    ca, server, _ = _certificates(where)
    with serving(where, _nginxServer(where, served, server)) as pid:
        yield Sides(pid, _curlWords(f"https://127.0.0.1:{where.port}", "--cacert", str(ca)))


VSFTPD = """\
background=NO
listen=YES
listen_address=127.0.0.1
listen_port={port}
run_as_launching_user=YES
seccomp_sandbox=NO
connect_from_port_20=NO
xferlog_enable=NO
local_enable=NO
anonymous_enable=YES
no_anon_password=YES
anon_root={served}
anon_umask=022
anon_world_readable_only=NO
allow_writeable_chroot=YES
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
"""


def _vsftpd(where: Place, served: Path, cipher: str) -> Iterator[Sides]:
    config = where.write("vsftpd.conf", VSFTPD.format(port=where.port, served=served))
    with serving(where, [find("vsftpd"), config]) as pid:
        yield Sides(pid, _curlWords(f"ftp://127.0.0.1:{where.port}"))


def _twistedFTP(where: Place, served: Path, cipher: str) -> Iterator[Sides]:
    server = [sys.executable, str(PEERS / "ftp_twisted.py"), str(where.port), str(served)]
    with serving(where, server) as pid:
        yield Sides(pid, _curlWords(f"ftp://127.0.0.1:{where.port}"))


# scp and cp


def _scp(where: Place, served: Path, cipher: str) -> Iterator[Sides]:
    def words(task: Task, here: str, name: str) -> list[str]:
        flags = ["-r"] if task in TREES else []
        there = f"{account()}:{served / name}"
        ends = [there, here] if task.comes else [here, there]
        return [find("scp"), "-q", *flags, *options(where, cipher), *ends]

    with sshd(where) as pid:
        yield Sides(pid, words)


def _cp(where: Place, served: Path, cipher: str) -> Iterator[Sides]:
    def words(task: Task, here: str, name: str) -> list[str]:
        flags = ["-r"] if task in TREES else []
        ends = [str(served / name), here] if task.comes else [here, str(served / name)]
        return [find("cp"), *flags, *ends]

    yield Sides(None, words)


OURS = "ours"
TLS = "ours-tls"
RSYNC = "rsync"
SCP = "scp"
NGINX_TLS = "nginx-tls"

_NETSUITE = (plugin("netsuite-files"),)
_RSYNC = (program("rsync"),)
_CURL = (program("curl"),)
_SCP = (
    replace(program("scp"), sentence="scp is missing: install the Debian package openssh-client"),
    *OPENSSH,
)
_SAME = (replace(program("cmp"), sentence="cmp is missing: install the Debian package diffutils"),)

#: Names of all, in the order of the first round.
CONTESTANTS = (
    Contestant(OURS, "netsuite", _ours(), (*_NETSUITE, *_SAME)),
    Contestant("ours-quick", "netsuite --no-durable", _ours("--no-durable"), _NETSUITE),
    Contestant(RSYNC, "rsync daemon -W", _rsync("-W"), _RSYNC),
    Contestant("rsync-fsync", "rsync daemon -W --fsync", _rsync("-W", "--fsync"), _RSYNC),
    Contestant("rsync-append", "rsync daemon --append-verify", _rsync("--append-verify"), _RSYNC),
    Contestant("nginx", "nginx, curl", _nginx, (program("nginx"), *_CURL)),
    Contestant("vsftpd", "vsftpd, curl", _vsftpd, (program("vsftpd"), *_CURL)),
    Contestant("twisted-ftp", "Twisted's FTP, curl", _twistedFTP, _CURL),
    Contestant(TLS, "netsuite, mutual TLS", _oursTLS, (*_NETSUITE, *_SAME)),
    Contestant(SCP, "scp", _scp, _SCP, ssh=True),
    Contestant(NGINX_TLS, "nginx TLS, curl", _nginxTLS, (program("nginx"), *_CURL)),
    Contestant("cp", "cp", _cp),
)
