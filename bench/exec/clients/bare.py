"""
Twisted's C{spawnProcess} and a reactor, with no server: C{python -m bench.exec.clients.bare}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import react
from twisted.python.failure import Failure

from bench.exec.clients.work import Sink, Wrong, serve


class Watched(ProcessProtocol):
    """
    Passes on what a process writes, and tells its status in the end.

    @ivar ended: fires with the status.
    """

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self.ended: Deferred[int] = Deferred()
        self._take = take

    def outReceived(self, data: bytes) -> None:
        """
        Pass it on.
        """
        self._take(data)

    def processEnded(self, reason: Failure) -> None:
        """
        Tell the status.
        """
        code = getattr(reason.value, "exitCode", None)
        self.ended.callback(-1 if code is None else code)


class Bare:
    """
    Runs commands as children of this process.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def _spawn(self, argv: Sequence[str], take: Callable[[bytes], object]) -> Deferred[int]:
        watched = Watched(take)
        program = argv[0] if "/" in argv[0] else f"/usr/bin/{argv[0]}"
        self._reactor.spawnProcess(watched, program, argv, env=os.environ)
        return watched.ended

    def _run(self, argv: Sequence[str]) -> Deferred[tuple[int, bytes]]:
        said: list[bytes] = []
        return self._spawn(argv, said.append).addCallback(lambda code: (code, b"".join(said)))

    async def run(self, argv: Sequence[str]) -> tuple[int, bytes]:
        """
        Run one command.
        """
        return await self._run(argv)

    async def together(self, commands: Sequence[Sequence[str]]) -> list[tuple[int, bytes]]:
        """
        Run all commands at once.
        """
        return list(await gatherResults(map(self._run, commands)))

    async def bulk(self, argv: Sequence[str], sink: Sink) -> None:
        """
        Run one command with much output.
        """
        if code := await self._spawn(argv, sink.take):
            raise Wrong(f"it ended with {code}")


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(serve(Bare(reactor))))
