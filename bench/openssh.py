"""
An C{sshd} of our own with keys of its own, and how OpenSSH's clients are told to reach it.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.needs import find, program
from bench.processes import BenchFailure
from bench.servers import Place, place, serving

# What an OpenSSH without options for more safety would agree on, and what is fast on most CPUs.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")
CIPHER_BYTES = 256 * 1024 * 1024
CIPHER_TRIES = 2  # the better one counts: what else the machine does only makes them slower
CROWD = 1000  # sessions and connections that it allows at once
PRIVILEGE_FOLDER = Path("/run/sshd")  # sshd wants it when root starts it, and is told by no option

OPENSSH = (
    replace(program("ssh"), sentence="ssh is missing: install the Debian package openssh-client"),
    replace(program("sshd"), sentence="sshd is missing: install the Debian package openssh-server"),
)

SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
Subsystem sftp internal-sftp
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
OPTIONS = (
    *("-F", "{folder}/ssh_config", "-o", "Port={port}", "-i", "{folder}/user", "-c", "{cipher}"),
    *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
    *("-o", "UserKnownHostsFile={folder}/known", "-o", "LogLevel=ERROR"),
)


def _keys(where: Place) -> None:
    for name in ("host", "user"):
        path = str(where.folder / name)
        command = [find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", path]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            raise BenchFailure(f"ssh-keygen makes no key: {made.stderr.strip()}")


@contextmanager
def sshd(where: Place) -> Iterator[int]:
    """
    Run an C{sshd} with keys of its own, ready, until the block is left.

    @return: its pid.
    @raise BenchFailure: it does not start.
    """
    _keys(where)
    where.write("ssh_config", "")
    text = SSHD.format(port=where.port, folder=where.folder, crowd=CROWD)
    if os.getuid() == 0:
        PRIVILEGE_FOLDER.mkdir(mode=0o755, exist_ok=True)
    command = [find("sshd"), "-D", "-e", "-f", where.write("sshd_config", text)]
    with serving(where, command) as pid:
        yield pid


def options(where: Place, cipher: str) -> list[str]:
    """
    Tell the options with which C{ssh} and C{scp} reach L{sshd}.
    """
    return [each.format(folder=where.folder, port=where.port, cipher=cipher) for each in OPTIONS]


def account() -> str:
    """
    Tell whose account it is at which server.
    """
    return f"{getpass.getuser()}@127.0.0.1"


def ssh(where: Place, cipher: str) -> list[str]:
    """
    Tell the command line of C{ssh}, which a command is to follow.
    """
    return [find("ssh"), *options(where, cipher), "-T", account()]


def ciphers() -> dict[str, float]:
    """
    Try ciphers with C{ssh}.

    @return: seconds for L{CIPHER_BYTES} with each; the fastest is the one to compare with.
    @raise BenchFailure: one does not work.
    """
    seconds = {}
    with place() as where, sshd(where):
        for cipher in CIPHERS:
            tries = [_bulkSeconds(ssh(where, cipher)) for _ in range(CIPHER_TRIES)]
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
