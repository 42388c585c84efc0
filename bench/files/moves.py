"""
What a round measures: one large file and a tree, there and back, and trees that are the same
already.
"""

from __future__ import annotations

import os
import shutil

from bench.files.contest import Part, Size, Trial
from bench.files.contestants import NGINX_TLS, OURS, RSYNC, SCP, TLS, Task
from bench.files.scratch import Scratch, identities, makeFile, makeTree, remove, requireSame
from bench.measure import Measure
from bench.processes import BenchFailure
from bench.targets import Target

GET_RATE = Measure("get_gbps", "GB/s of one large file, get", True)
PUT_RATE = Measure("put_gbps", "GB/s of one large file, put", True)
FILE_MEASURES = (
    GET_RATE,
    Measure("get_client_cpu_per_gb", "CPU s/GB of the client, get", False),
    Measure("get_server_cpu_per_gb", "CPU s/GB of the server, get", False),
    PUT_RATE,
    Measure("put_client_cpu_per_gb", "CPU s/GB of the client, put", False),
    Measure("put_server_cpu_per_gb", "CPU s/GB of the server, put", False),
    Measure("small_seconds", "seconds to get a file of one byte", False),
)

TREE_TITLES = {
    Task.GET_TREE: "a tree, get",
    Task.PUT_TREE: "a tree, put",
    Task.PULL: "the same tree again, nothing to get",
    Task.PUSH: "the same tree again, nothing to put",
    Task.PULL_CHECKED: "the same, contents compared, get",
    Task.PUSH_CHECKED: "the same, contents compared, put",
}


def _treeMeasures() -> dict[Task, tuple[Measure, Measure, Measure]]:
    result = {}
    for task, title in TREE_TITLES.items():
        name = task.name.lower()
        result[task] = (
            Measure(f"{name}_seconds", f"seconds: {title}", False),
            Measure(f"{name}_client_cpu", f"CPU s of the client: {title}", False),
            Measure(f"{name}_server_cpu", f"CPU s of the server: {title}", False),
        )
    return result


TREE_MEASURES = _treeMeasures()


def _prepareFile(place: Scratch, size: Size) -> None:
    makeFile(place.served / "source", size.bulk)
    makeFile(place.served / "small", 1)
    # The same pages in memory for both ways.
    os.link(place.served / "source", place.local / "source")


def _file(trial: Trial) -> None:
    """
    Measure one large file both ways, after a small one.
    """
    served, local, words = trial.scratch.served, trial.scratch.local, trial.sides.words
    gigabytes = trial.size.bulk / 1e9
    moves = {
        Task.GET: (local / "got", "source"),
        Task.PUT: (local / "source", "put"),
    }
    try:
        # It also has a fresh server import what it imports late.
        small = trial.spent(words(Task.GET, str(local / "got-small"), "small"))
        trial.figures["small_seconds"] = small.seconds
        for task, (here, there) in moves.items():
            used = trial.spent(words(task, str(here), there))
            requireSame(here, served / there)
            name = task.name.lower()
            trial.figures[f"{name}_gbps"] = gigabytes / used.seconds
            trial.figures[f"{name}_client_cpu_per_gb"] = used.client / gigabytes
            if trial.sides.server is not None:
                trial.figures[f"{name}_server_cpu_per_gb"] = used.server / gigabytes
            remove(here if task is Task.GET else served / there)
    finally:
        for path in (local / "got-small", local / "got", served / "put"):
            remove(path)


def _prepareTree(place: Scratch, size: Size) -> None:
    makeTree(place.served / "tree", size.files, size.fileSize)
    shutil.copytree(place.served / "tree", place.local / "tree")


def _tree(trial: Trial) -> None:
    """
    Measure a tree both ways; and that it is there already, if the client can see that.
    """
    served, local = trial.scratch.served, trial.scratch.local
    got, put = local / "got", served / "put"
    try:
        _treeMove(trial, Task.GET_TREE)
        requireSame(served / "tree", got)
        _treeMove(trial, Task.PUT_TREE)
        requireSame(local / "tree", put)
        if trial.sides.syncs:
            for task in (Task.PULL, Task.PUSH, Task.PULL_CHECKED, Task.PUSH_CHECKED):
                before = identities(got) | identities(put)
                _treeMove(trial, task)
                if identities(got) | identities(put) != before:
                    raise BenchFailure(f"{task.name}: it has written files that were the same")
            requireSame(served / "tree", got)
            requireSame(local / "tree", put)
    finally:
        remove(got)
        remove(put)


def _treeMove(trial: Trial, task: Task) -> None:
    here, there = ("got", "tree") if task.comes else ("tree", "put")
    used = trial.spent(trial.sides.words(task, str(trial.scratch.local / here), there))
    seconds, client, server = TREE_MEASURES[task]
    trial.figures[seconds.key] = used.seconds
    trial.figures[client.key] = used.client
    if trial.sides.server is not None:
        trial.figures[server.key] = used.server


def _roomOfFile(size: Size) -> int:
    return 2 * size.bulk + 2**20


def _roomOfTree(size: Size) -> int:
    # A small file takes at least a page, and an inode of about as much.
    return 4 * size.files * (size.fileSize + 2 * 4096) + 2**20


BULK = Part(
    "bulk",
    "one large file over loopback",
    (OURS, "ours-quick", RSYNC, "nginx", "vsftpd", "twisted-ftp", "cp"),
    OURS,
    FILE_MEASURES,
    (
        Target("one large file, get, GB/s: ours / rsync -W", GET_RATE, OURS, RSYNC, True, 1),
        Target("one large file, put, GB/s: ours / rsync -W", PUT_RATE, OURS, RSYNC, True, 1),
    ),
    _roomOfFile,
    _prepareFile,
    _file,
)
ENCRYPTED = Part(
    "tls",
    "one large file, encrypted",
    (TLS, SCP, NGINX_TLS),
    TLS,
    FILE_MEASURES,
    (
        Target("one large file over TLS, get: ours / scp", GET_RATE, TLS, SCP, True, 1),
        Target("one large file over TLS, put: ours / scp", PUT_RATE, TLS, SCP, True, 1),
    ),
    _roomOfFile,
    _prepareFile,
    _file,
)
DISK = Part(
    "disk",
    "one large file on a disk",
    (OURS, "ours-quick", RSYNC, "rsync-fsync", "cp"),
    OURS,
    FILE_MEASURES,
    (),
    _roomOfFile,
    _prepareFile,
    _file,
    disk=True,
)


def _noSlower(title: str, task: Task) -> Target:
    return Target(f"{title}, seconds: ours / rsync", TREE_MEASURES[task][0], OURS, RSYNC, False, 1)


TREES = Part(
    "trees",
    "many small files",
    (OURS, RSYNC, SCP, "cp"),
    OURS,
    tuple(measure for measures in TREE_MEASURES.values() for measure in measures),
    (
        _noSlower("a tree, get", Task.GET_TREE),
        _noSlower("a tree, put", Task.PUT_TREE),
        _noSlower("the same tree, get", Task.PULL),
        _noSlower("the same tree, put", Task.PUSH),
    ),
    _roomOfTree,
    _prepareTree,
    _tree,
)
