"""
What a benchmark ran on: the machine, and the version of everything that took part.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from bench.needs import find

DISTRIBUTIONS = ("twisted_netsuite", "Twisted", "uvloop", "matplotlib", "asyncssh", "blake3")
PROGRAMS = {
    "socat": "-V",
    "haproxy": "-v",
    "nginx": "-v",
    "cc": "--version",
    "ssh": "-V",
    "rsync": "--version",
    "vsftpd": "-v",
    "curl": "--version",
    "cp": "--version",
}


def environment() -> dict[str, object]:
    """
    Describe the machine and the versions, for the JSON.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpuModel(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "versions": _versions(),
    }


def _cpuModel() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"Python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    for name, option in PROGRAMS.items():
        versions[name] = _programVersion(find(name), option)
    return versions


def _programVersion(program: str, option: str) -> str | None:
    """
    Take the first thing that looks like a version from what a program says of itself.
    """
    # vsftpd writes its version to standard input.
    command = ["/bin/sh", "-c", 'exec "$0" "$1" 0>&1', program, option]
    try:
        said = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    found = re.search(r"\d+\.\d+[\w.+-]*", said.stdout + said.stderr)
    return found[0] if found else None
