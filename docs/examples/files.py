"""
A service that has files in memory, and a client of it that has none on a disk either: put, get, a
stream, a transfer that is broken off, and what is refused.

Run it with C{python files.py}; it ends by itself.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IConsumer, IListeningPort, IProducer
from twisted.internet.task import react
from zope.interface import implementer

from twisted_netsuite.errors import Conflict
from twisted_netsuite.files.client import FilesSession, connectFiles
from twisted_netsuite.files.disk import ThreadedDisk
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.native import FilesFactory
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.files.transfer import Local, getFile, getStream, putFile
from twisted_netsuite.trust.oversight import Oversight


async def serve(reactor: Any, endpoint: str) -> tuple[IListeningPort, FilesFactory]:
    """Listen; whoever calls this ends it by the port's stopListening and the factory's
    abortConnections."""
    store = MemoryStore()
    # Without a policy everything may be read, and with writable everything changed.
    permit = Permit(Oversight("shelf"), Roots("/", lambda path: store), writable=True)
    factory = FilesFactory(reactor, permit)
    await factory.open()
    port = await serverFromString(reactor, endpoint).listen(factory)
    return port, factory


@implementer(IConsumer)
class Counter:
    """Counts bytes as they come, and keeps none."""

    count = 0

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Could pause the producer when it is given more than it can take."""

    def unregisterProducer(self) -> None:
        """Nothing more comes."""

    def write(self, data: bytes) -> None:
        """Count what comes, which is verified already."""
        self.count += len(data)


async def thereAndBack(session: FilesSession, disk: ThreadedDisk, text: bytes) -> bytes:
    """Put a file from a store of our own, and get it back into it."""
    ours = MemoryStore()
    ours.publishWhole((b"mine",), Wanted(len(text)), text)
    await session.makeDirectory(b"/notes")
    await putFile([session], Local(ours, (b"mine",), disk), b"/notes/a.txt")
    await getFile([session], b"/notes/a.txt", Local(ours, (b"back",), disk))
    back = ours.source((b"back",))
    return back.read(0, back.attributes.size)


async def counted(session: FilesSession, name: bytes) -> int:
    """Take a file as a stream, of which a few MiB are in memory at a time."""
    counter = Counter()
    await getStream([session], name, counter)
    return counter.count


async def givenUp(session: FilesSession, disk: ThreadedDisk, name: bytes) -> str:
    """Cancel a transfer: nothing gets that name, and the session goes on."""
    getting = getFile([session], name, Local(MemoryStore(), (b"copy",), disk))
    getting.cancel()
    try:
        await getting
    except CancelledError:
        return "given up"
    return "done"


async def refused(session: FilesSession, disk: ThreadedDisk, name: bytes) -> str:
    """Put what would replace something else."""
    ours = MemoryStore()
    ours.publishWhole((b"mine",), Wanted(5), b"other")
    try:
        await putFile([session], Local(ours, (b"mine",), disk), name, clobber=False)
    except Conflict as error:
        return error.sentence
    return "done"


async def main(reactor: Any) -> None:
    """Serve on a Unix socket of our own, and be the client."""
    with tempfile.TemporaryDirectory() as directory:
        socket = os.path.join(directory, "files.sock")
        port, factory = await serve(reactor, f"unix:{socket}")
        disk = ThreadedDisk(reactor)
        disk.start()
        endpoint = clientFromString(reactor, f"unix:{socket}")
        async with await connectFiles(endpoint, reactor, name="the shelf") as session:
            print(await thereAndBack(session, disk, b"hello\n"))
            print([entry.name for entry in await session.list(b"/notes").collect()])
            print(await counted(session, b"/notes/a.txt"))
            print(await givenUp(session, disk, b"/notes/a.txt"))
            print(await refused(session, disk, b"/notes/a.txt"))
        disk.stop()
        await maybeDeferred(port.stopListening)
        await factory.abortConnections()


if __name__ == "__main__":
    react(main)
