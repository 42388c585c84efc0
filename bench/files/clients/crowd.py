"""
Many clients at once, each with a session of its own, in one process: C{python -m
bench.files.clients.crowd ADDRESS COUNT DIRECTORY}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.files.client import FilesSession, connectFiles
from twisted_netsuite.files.disk import ThreadedDisk
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.transfer import Local, getFile, putFile
from twisted_netsuite.net.addresses import parseConnect


class Crowd:
    """
    Clients that do the same at the same time.
    """

    def __init__(self, sessions: Sequence[FilesSession], disk: ThreadedDisk, folder: str) -> None:
        """
        @param folder: where C{source} is, and what they get goes.
        """
        self._sessions = sessions
        self._disk = disk
        self._store = LocalStore(Root(folder))

    def get(self) -> list[Deferred[Any]]:
        """
        Have each get C{source} as a file of its own.
        """
        return [
            getFile([session], b"source", self._local(b"got-%d" % number))
            for number, session in enumerate(self._sessions)
        ]

    def put(self) -> list[Deferred[Any]]:
        """
        Have each put C{source} as a file of its own.
        """
        return [
            putFile([session], self._local(b"source"), b"put-%d" % number)
            for number, session in enumerate(self._sessions)
        ]

    def _local(self, name: bytes) -> Local:
        return Local(self._store, (name,), self._disk)


async def main(reactor: Any) -> None:
    """
    Connect all, and do what is told, a line of JSON each.
    """
    address, count, folder = sys.argv[1:]
    disk = ThreadedDisk(reactor)
    disk.start()
    endpoint = parseConnect(reactor, address)
    sessions = [await connectFiles(endpoint, reactor, name=address) for _ in range(int(count))]
    crowd = Crowd(sessions, disk, folder)
    _say({"ready": True})
    for line in sys.stdin:
        task = json.loads(line)["task"]
        began = time.perf_counter()
        try:
            await gatherResults(crowd.get() if task == "get" else crowd.put(), consumeErrors=True)
            _say({"seconds": time.perf_counter() - began})
        except Exception as error:
            why = getattr(error, "subFailure", error)
            cause = getattr(why, "value", why)
            _say({"wrong": cause.sentence if isinstance(cause, NetsuiteError) else repr(cause)})
    disk.stop()


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
