"""
A service that runs a few commands for others, and a client of it: many commands over one session,
with input, as a stream, ended early, and refused.

Run it with C{python commands.py}; it ends by itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, gatherResults, maybeDeferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IConsumer, IListeningPort, IProducer
from twisted.internet.task import react
from zope.interface import implementer

from twisted_netsuite.errors import Denied
from twisted_netsuite.rexec.allow import allowed
from twisted_netsuite.rexec.client import Completed, ExecSession, connectExec
from twisted_netsuite.rexec.native import ExecFactory
from twisted_netsuite.rexec.permit import ownPath
from twisted_netsuite.trust.oversight import Oversight

#: What everybody may run who can reach the service; a PolicyFile tells identities apart.
WORDS = ("uname **", "sort", "seq *", "sleep *")


async def serve(reactor: Any, endpoint: str) -> tuple[IListeningPort, ExecFactory]:
    """Listen; whoever calls this ends it by the port's stopListening and the factory's
    abortConnections."""
    factory = ExecFactory(reactor, Oversight("commands", allowed(WORDS, ownPath())))
    await factory.open()
    port = await serverFromString(reactor, endpoint).listen(factory)
    return port, factory


@implementer(IConsumer)
class Counter:
    """Counts lines as they come, and keeps none."""

    lines = 0

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Could pause the producer when it is given more than it can take."""

    def unregisterProducer(self) -> None:
        """Nothing more comes."""

    def write(self, data: bytes) -> None:
        """Count what comes."""
        self.lines += data.count(b"\n")


async def inOrder(session: ExecSession, texts: Sequence[bytes]) -> list[bytes]:
    """Let a command read what we have."""
    completed = await session.run(["sort"], input=b"\n".join(texts) + b"\n")
    return completed.stdout.splitlines()


async def atOnce(session: ExecSession, numbers: Sequence[int]) -> list[bytes]:
    """Run many commands at the same time, over the one connection."""
    running = [session.run(["seq", str(number)]) for number in numbers]
    done: list[Completed] = await gatherResults(running)
    return [each.stdout.splitlines()[-1] for each in done]


async def counted(session: ExecSession, most: int) -> int:
    """Take the output of a command as it comes."""
    counter = Counter()
    command = await session.start(["seq", str(most)], stdout=counter)
    # All of it has come by then, and its length and digest are those that the server tells.
    ended = await command.whenEnded()
    if ended.status:
        raise RuntimeError(f"seq ended with {ended.outcome}")
    return counter.lines


async def givenUp(session: ExecSession) -> str:
    """Cancel a command: nothing of it is left on the server."""
    sleeping = session.run(["sleep", "1000"])
    sleeping.cancel()
    try:
        await sleeping
    except CancelledError:
        return "given up"
    return "slept"


async def refused(session: ExecSession) -> str:
    """Ask for something that is not allowed."""
    try:
        await session.run(["id"])
    except Denied as error:
        return error.sentence
    return "done"


async def main(reactor: Any) -> None:
    """Serve on a Unix socket of our own, and be the client."""
    with tempfile.TemporaryDirectory() as directory:
        socket = os.path.join(directory, "exec.sock")
        port, factory = await serve(reactor, f"unix:{socket}")
        endpoint = clientFromString(reactor, f"unix:{socket}")
        async with await connectExec(endpoint, reactor, name=socket) as session:
            print(await session.run(["uname", "-s"]))
            print(await inOrder(session, [b"pears", b"apples"]))
            print(await atOnce(session, range(1, 6)))
            print(await counted(session, 1_000_000))
            print(await givenUp(session))
            print(await refused(session))
        await maybeDeferred(port.stopListening)
        await factory.abortConnections()


if __name__ == "__main__":
    react(main)
