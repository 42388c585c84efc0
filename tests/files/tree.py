"""A directory to serve, with something beside it that must never be served."""

from __future__ import annotations

import os

SECRET = b"outside of the root"


def makeTree(directory: str, files: dict[str, bytes] | None = None) -> str:
    """
    Make C{directory/root} with files in it, and C{directory/secret} beside it.

    @return: the path of the root.
    """
    root = os.path.join(directory, "root")
    os.makedirs(root)
    write(os.path.join(directory, "secret"), SECRET)
    for name, content in (files or {}).items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, content)
    return root


def write(path: str, content: bytes) -> None:
    """Write a whole file."""
    with open(path, "wb") as file:
        file.write(content)


def descriptors() -> int:
    """Count the descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))
