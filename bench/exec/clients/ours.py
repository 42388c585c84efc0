"""
The client API of ours, over one session: C{python -m bench.exec.clients.ours ENDPOINT}.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IConsumer, IProducer
from twisted.internet.task import react
from zope.interface import implementer

from bench.exec.clients.work import Sink, Wrong, serve
from twisted_netsuite.rexec.client import Completed, ExecSession, connectExec


@implementer(IConsumer)
class Dropped:
    """
    Takes output and drops it: the session counts and digests it anyway.
    """

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Never slow it down.
        """

    def unregisterProducer(self) -> None:
        """
        Nothing more comes.
        """

    def write(self, data: bytes) -> None:
        """
        Drop it.
        """


class Ours:
    """
    Runs commands over a session.
    """

    def __init__(self, session: ExecSession) -> None:
        self._session = session

    async def run(self, argv: Sequence[str]) -> tuple[int, bytes]:
        """
        Run one command.
        """
        return self._pair(await self._session.run(argv))

    async def together(self, commands: Sequence[Sequence[str]]) -> list[tuple[int, bytes]]:
        """
        Run all commands at once.
        """
        return list(map(self._pair, await gatherResults(map(self._session.run, commands))))

    def _pair(self, completed: Completed) -> tuple[int, bytes]:
        return completed.status, completed.stdout

    async def bulk(self, argv: Sequence[str], sink: Sink) -> None:
        """
        Run one command with much output.
        """
        command = await self._session.start(argv, stdout=Dropped())
        ended = await command.whenEnded()
        if ended.status:
            raise Wrong(f"it ended with {ended.outcome}")
        sink.told(ended.stdout.count, ended.stdout.sha256)


async def main(reactor: Any) -> None:
    """
    Connect, and do what is told.
    """
    endpoint = clientFromString(reactor, sys.argv[1])
    async with await connectExec(endpoint, reactor, name=sys.argv[1]) as session:
        await serve(Ours(session))


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
