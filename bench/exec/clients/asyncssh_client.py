"""
asyncssh's client, over one connection:
C{python -m bench.exec.clients.asyncssh_client PORT USER KEY CIPHER}.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Sequence

import asyncssh

from bench.exec.clients.work import Sink, Wrong, serve

READ_SIZE = 128 * 1024  # bytes of one read, as much as ours


class AsyncSSH:
    """
    Runs commands over a connection.
    """

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection

    async def run(self, argv: Sequence[str]) -> tuple[int, bytes]:
        """
        Run one command.
        """
        ended = await self._connection.run(shlex.join(argv), encoding=None)
        assert isinstance(ended.stdout, bytes)
        return -1 if ended.exit_status is None else ended.exit_status, ended.stdout

    async def together(self, commands: Sequence[Sequence[str]]) -> list[tuple[int, bytes]]:
        """
        Run all commands at once.
        """
        return list(await asyncio.gather(*map(self.run, commands)))

    async def bulk(self, argv: Sequence[str], sink: Sink) -> None:
        """
        Run one command with much output.
        """
        process = await self._connection.create_process(shlex.join(argv), encoding=None)
        while data := await process.stdout.read(READ_SIZE):
            assert isinstance(data, bytes)
            sink.take(data)
        ended = await process.wait()
        if ended.exit_status:
            raise Wrong(f"it ended with {ended.exit_status}")


async def main(port: str, user: str, key: str, cipher: str) -> None:
    """
    Connect, and do what is told.
    """
    async with asyncssh.connect(
        "127.0.0.1",
        int(port),
        username=user,
        client_keys=[key],
        known_hosts=None,
        config=None,
        agent_path=None,
        encryption_algs=[cipher],
    ) as connection:
        await serve(AsyncSSH(connection))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
