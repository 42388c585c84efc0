"""
What must be installed for a competitor to take part, and the sentence that says how.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Debian keeps servers where only root's search path looks.
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
STREAM_MODULE = "ngx_stream_module.so"


@dataclass(frozen=True)
class Need:
    """
    One thing that must be there, and how it gets there.
    """

    present: Callable[[], bool]
    sentence: str


def find(program: str) -> str:
    """
    Find a program by its name; the name itself when it is nowhere.
    """
    return shutil.which(program, path=SEARCH) or program


def twistd() -> str:
    """
    Find the C{twistd} of the Python that runs us.
    """
    return str(Path(sys.executable).with_name("twistd"))


def streamModule() -> str:
    """
    Find nginx's stream module, where that nginx was built to look for modules.
    """
    told = subprocess.run([find("nginx"), "-V"], capture_output=True, text=True).stderr
    folder = re.search(r"--modules-path=(\S+)", told)
    return str(Path(folder[1] if folder else "/usr/lib/nginx/modules") / STREAM_MODULE)


def program(name: str) -> Need:
    """
    A program, of the Debian package with the same name.
    """
    return Need(
        lambda: shutil.which(name, path=SEARCH) is not None,
        f"{name} is missing: install the Debian package {name}",
    )


def module(name: str) -> Need:
    """
    A Python module, of the Debian package that is named after it.
    """
    return Need(
        lambda: importlib.util.find_spec(name) is not None,
        f"{name} is missing: pip install {name}, or install the Debian package python3-{name}",
    )


def plugin(name: str) -> Need:
    """
    A C{twistd} plugin of ours.
    """
    return Need(
        lambda: _succeeds(twistd(), name, "--help"),
        f"twistd has no plugin {name}: install this checkout for {sys.executable}",
    )


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


NGINX_STREAM = Need(
    lambda: Path(streamModule()).exists(),
    "nginx's stream module is missing: install the Debian package libnginx-mod-stream",
)
