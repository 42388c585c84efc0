"""
The work that every client is given, and how it is told: a line of JSON for a task, one for the
answer.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

TRUE = "/bin/true"
CROWD_SLEEP = 1  # seconds: longer than it takes to start all of a crowd, so that all run at once
STATUSES = 7  # different statuses in a crowd, so that a mixed up one is seen
WARM_UP = 3  # commands before the first that counts: imports, warm processes


class Wrong(Exception):
    """
    A command did not do what it does.
    """


class Client(Protocol):
    """
    Runs commands on a server, or without one.
    """

    async def run(self, argv: Sequence[str]) -> tuple[int, bytes]:
        """
        Run one command; returns its status and its output.
        """

    async def together(self, commands: Sequence[Sequence[str]]) -> list[tuple[int, bytes]]:
        """
        Run all commands at once.
        """

    async def bulk(self, argv: Sequence[str], sink: Sink) -> None:
        """
        Run one command with much output.

        @raise Wrong: it did not end well.
        """


class Sink:
    """
    Takes bulk output: counts it, and takes its digest if that is wanted.

    @ivar count: bytes that came; C{None} when that cannot be told, as the output went elsewhere.
    @ivar checked: whether the receiver takes the digest.
    """

    def __init__(self, checked: bool) -> None:
        self.checked = checked
        self.count: int | None = 0
        self._digest = hashlib.sha256()
        self._told: bytes | None = None

    def take(self, data: bytes) -> None:
        """
        Take the next bytes.
        """
        assert self.count is not None
        self.count += len(data)
        if self.checked:
            self._digest.update(data)

    def told(self, count: int, digest: bytes) -> None:
        """
        Learn what a client has counted and checked by itself.
        """
        self.count, self._told = count, digest

    def require(self, size: int, digest: str) -> None:
        """
        See that everything came.

        @raise Wrong: it did not.
        """
        if self.count is not None and self.count != size:
            raise Wrong(f"{self.count} bytes came of {size}")
        own = self._told or (self._digest.digest() if self.checked else None)
        if own is not None and own.hex() != digest:
            raise Wrong("the digest is wrong")


async def serve(client: Client) -> None:
    """
    Do the tasks that come on standard input, until it ends.
    """
    _say({"ready": True})
    for line in sys.stdin:
        task = json.loads(line)
        try:
            _say(await _perform(client, **task))
        except Wrong as why:
            _say({"wrong": str(why)})


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


async def _perform(client: Client, task: str, **how: Any) -> dict[str, Any]:
    match task:
        case "trips":
            return {"seconds": await _trips(client, **how)}
        case "bulk":
            return {"seconds": await _bulk(client, **how)}
        case "crowd":
            return {"seconds": await _crowd(client, **how)}
        case _:
            await _many(client, **how)
            return {}


async def _trips(client: Client, count: int) -> list[float]:
    """
    Run a command that does nothing, one after the other; returns the seconds of each.
    """
    seconds = []
    for _ in range(WARM_UP + count):
        began = time.perf_counter()
        ended = await client.run([TRUE])
        seconds.append(time.perf_counter() - began)
        if ended != (0, b""):
            raise Wrong(f"{TRUE} ended with {ended}")
    return seconds[WARM_UP:]


async def _bulk(client: Client, size: int, digest: str, checked: bool) -> float:
    sink = Sink(checked)
    began = time.perf_counter()
    await client.bulk(["head", "-c", str(size), "/dev/zero"], sink)
    seconds = time.perf_counter() - began
    sink.require(size, digest)
    return seconds


async def _crowd(client: Client, count: int) -> float:
    commands = [
        ["/bin/sh", "-c", f"sleep {CROWD_SLEEP}; echo {number}; exit {number % STATUSES}"]
        for number in range(count)
    ]
    wanted = [(number % STATUSES, b"%d\n" % number) for number in range(count)]
    began = time.perf_counter()
    ended = await client.together(commands)
    seconds = time.perf_counter() - began
    if ended != wanted:
        wrong = [pair for pair in zip(wanted, ended, strict=True) if pair[0] != pair[1]]
        raise Wrong(f"{len(wrong)} of {count} commands were wrong; the first was {wrong[0][1]!r}")
    return seconds


async def _many(client: Client, count: int, width: int) -> None:
    """
    Run many commands that do nothing, so many at once.
    """
    left = count
    while left:
        batch = min(left, width)
        left -= batch
        ended = await client.together([[TRUE]] * batch)
        if any(each != (0, b"") for each in ended):
            raise Wrong(f"{TRUE} ended with {ended}")
