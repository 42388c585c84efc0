"""
Where the files of the benchmark lie while it runs, what is in them, and whether a copy is right.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import BenchFailure

MEMORY = Path("/dev/shm")  # a tmpfs on every Linux, so that what a disk does is not measured
SPARE = 2 * 1024**3  # bytes that stay free, for all that runs and for whoever else is here
BLOCK = 1024 * 1024
FOLDER_FILES = 100  # files in each directory of a tree


@dataclass(frozen=True)
class Scratch:
    """
    A directory for both ends.

    @ivar served: what servers serve.
    @ivar local: what clients have.
    @ivar system: the file system that both are on.
    """

    served: Path
    local: Path
    system: str


@contextmanager
def scratch(size: int, folder: Path | None) -> Iterator[Scratch]:
    """
    Make room, and remove all that is in it when the block is left.

    @param size: bytes that are needed.
    @param folder: where; C{None} for memory when there is room, and else for the disk.
    @raise BenchFailure: there is no room.
    """
    if folder is None:
        folder = MEMORY if _room(MEMORY) >= size + SPARE else Path(tempfile.gettempdir())
    if (room := _room(folder)) < size:
        raise BenchFailure(
            f"{folder} has {room / 2**30:.1f} GiB free of the {size / 2**30:.1f} that are needed; "
            "name another directory with --data, or measure less."
        )
    with tempfile.TemporaryDirectory(prefix="bench-files-", dir=folder) as name:
        whole = Scratch(Path(name, "served"), Path(name, "local"), f"{_system(folder)} at {folder}")
        whole.served.mkdir()
        whole.local.mkdir()
        yield whole


def _room(folder: Path) -> int:
    """
    Tell the bytes that fit into a directory; of a tmpfs also only those that memory has left.
    """
    try:
        room = shutil.disk_usage(folder).free
    except OSError:
        return 0
    if _system(folder) != "tmpfs":
        return room
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = dict(line.split(":", 1) for line in lines)["MemAvailable"]
    return min(room, int(available.split()[0]) * 1024)


def _system(folder: Path) -> str:
    """
    Tell the type of the file system that a directory is on.
    """
    device = os.stat(folder).st_dev
    found = "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mounted, system, *_ = line.split()
        try:
            # The last that is mounted on a place is the one that is seen.
            found = system if os.stat(mounted).st_dev == device else found
        except OSError:
            continue
    return found


def makeFile(path: Path, size: int) -> None:
    """
    Write a file of random bytes.
    """
    with path.open("wb") as file:
        for start in range(0, size, BLOCK):
            file.write(os.urandom(min(BLOCK, size - start)))


def makeTree(path: Path, count: int, size: int) -> None:
    """
    Write so many files of random bytes, L{FOLDER_FILES} to a directory.

    @param size: of each, in bytes.
    """
    for number in range(count):
        folder = path / f"folder-{number // FOLDER_FILES:04}"
        if number % FOLDER_FILES == 0:
            folder.mkdir(parents=True)
        (folder / f"file-{number:06}.bin").write_bytes(os.urandom(size))


def requireSame(one: Path, other: Path) -> None:
    """
    Require that two files, or two trees, hold the same.

    @raise BenchFailure: they do not.
    """
    for path in (one, other):
        if not path.exists():
            raise BenchFailure(f"{path.name} is not there afterwards")
    command = ["diff", "-rq", "--no-dereference"] if one.is_dir() else ["cmp"]
    compared = subprocess.run([*command, str(one), str(other)], capture_output=True, text=True)
    if compared.returncode:
        said = (compared.stdout + compared.stderr).strip().splitlines() or ["they differ"]
        raise BenchFailure(f"the contents are wrong: {said[0]}")


def identities(tree: Path) -> set[tuple[str, int, int]]:
    """
    Tell each file of a tree with its inode and the time of its last change: a file that was
    written again has others.
    """
    found = set()
    for path in tree.rglob("*"):
        if path.is_file():
            status = path.stat()
            found.add((str(path), status.st_ino, status.st_mtime_ns))
    return found


def remove(path: Path) -> None:
    """
    Remove a file or a tree, if it is there.
    """
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
