"""
The memory of a server whose client does not read, for ever or for a while.
"""

from __future__ import annotations

import hashlib
import math
import os
import select
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.load import Load
from bench.processes import BenchFailure, forgetHighest, residentBytes
from bench.servers import Competitor, Running, place, running

TOTAL = 1024 * 1024 * 1024  # bytes that the client has to send
BLOCK = 1024 * 1024  # bytes offered to one send, and asked of one recv
STALL = 10.0  # seconds without a byte either way after which the client gives up
TICK = 0.05  # seconds that the client waits at most before it looks at the clock again
SAMPLE = 0.25  # seconds between two looks at the server's memory
SETTLE = 1.0  # seconds that a server has to free what its client left behind

# The kinds of clients, and after how many seconds each begins to read.
CLIENTS = {"never reads": math.inf, "reads after 5 s": 5.0}


@dataclass(frozen=True)
class Memory:
    """
    What one server did with one client; sizes are in bytes.

    C{intact} tells whether everything came back as it was sent, of a client that reads.
    C{samples} are the resident memory every so many seconds; C{highest} is the kernel's own mark.
    """

    service: str
    competitor: str
    client: str
    ended: str
    accepted: int
    returned: int
    intact: bool | None
    before: int
    highest: int
    after: int
    samples: list[tuple[float, int]]


class Payload:
    """
    Bytes without end, no two blocks of them alike, that need no memory to speak of.
    """

    def __init__(self) -> None:
        self._noise = memoryview(os.urandom(2 * BLOCK))

    def block(self, offset: int) -> memoryview:
        """
        Tell the bytes from an offset to the end of its block.
        """
        index, skip = divmod(offset, BLOCK)
        start = index * 7919 % BLOCK
        return self._noise[start + skip : start + BLOCK]


class Client:
    """
    Sends what is accepted of its payload, and reads only when told to.
    """

    def __init__(self, connection: socket.socket) -> None:
        """
        @param connection: connected to the server; is made non-blocking.
        """
        connection.setblocking(False)
        self._connection = connection
        self._payload = Payload()
        self._sentDigest = hashlib.sha256()
        self._receivedDigest = hashlib.sha256()
        self.sent = 0
        self.received = 0

    def step(self, reading: bool) -> None:
        """
        Send and read once what goes now, or wait for it for a L{TICK}.
        """
        writers = [self._connection] if self.sent < TOTAL else []
        readers = [self._connection] if reading else []
        readable, writable, _ = select.select(readers, writers, [], TICK)
        if writable:
            block = self._payload.block(self.sent)
            accepted = self._connection.send(block)
            self._sentDigest.update(block[:accepted])
            self.sent += accepted
        if readable:
            data = self._connection.recv(BLOCK)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            self._receivedDigest.update(data)
            self.received += len(data)

    def intact(self) -> bool:
        """
        Tell whether what has come back is what was sent, all of it.
        """
        return self._sentDigest.digest() == self._receivedDigest.digest()


class Watch:
    """
    Looks at the memory of a server's processes from time to time.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = time.monotonic()
        self.samples: list[tuple[float, int]] = []

    def look(self) -> None:
        """
        Take a sample, if the last one is old enough.
        """
        seconds = time.monotonic() - self._began
        if not self.samples or seconds - self.samples[-1][0] >= SAMPLE:
            self.samples.append((round(seconds, 2), residentBytes(self._pid)[0]))


def measure(services: Mapping[str, Sequence[Competitor]], load: Load, cpu: int) -> Iterator[Memory]:
    """
    Try every kind of client on a fresh server each.

    @param services: the competitors of C{echo} and of C{proxy}; a proxy stands before an echo
        server.
    @param cpu: where the servers run.
    """
    for service, competitors in services.items():
        for competitor in competitors:
            for kind in CLIENTS:
                with _fresh(service, competitor, load, cpu) as server:
                    yield _tried(service, competitor, kind, server)


@contextmanager
def _fresh(service: str, competitor: Competitor, load: Load, cpu: int) -> Iterator[Running]:
    with place() as where, ExitStack() as stack:
        if service == "proxy":
            stack.enter_context(load.target(where.target, where.folder))
        yield stack.enter_context(running(competitor, where, cpu))


def _tried(service: str, competitor: Competitor, kind: str, server: Running) -> Memory:
    """
    Let one client behave as it does, and tell what became of the server's memory.
    """
    pid = server.pid
    if pid is None:
        raise BenchFailure(f"{competitor.name} is no process whose memory could be measured.")
    before, _ = residentBytes(pid)
    forgetHighest(pid)
    watch = Watch(pid)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        client = Client(connection)
        ended = _converse(client, CLIENTS[kind], watch)
        _, highest = residentBytes(pid)
    time.sleep(SETTLE)
    after, _ = residentBytes(pid)
    return Memory(
        service=service,
        competitor=competitor.name,
        client=kind,
        ended=ended,
        accepted=client.sent,
        returned=client.received,
        intact=client.intact() if math.isfinite(CLIENTS[kind]) else None,
        before=before,
        highest=highest,
        after=after,
        samples=watch.samples,
    )


def _converse(client: Client, readsAfter: float, watch: Watch) -> str:
    """
    Send everything, and read it all back once so many seconds have passed; returns how it ended.
    """
    wanted = TOTAL if math.isfinite(readsAfter) else 0
    began = moved = time.monotonic()
    progress = 0
    while client.sent < TOTAL or client.received < wanted:
        try:
            client.step(reading=time.monotonic() - began >= readsAfter)
        except OSError as why:
            return f"lost: {why}"
        watch.look()
        if client.sent + client.received > progress:
            progress, moved = client.sent + client.received, time.monotonic()
        elif time.monotonic() - moved >= STALL:
            return f"nothing moved for {STALL:.0f} s"
    return "complete"


def table(results: Sequence[Memory]) -> str:
    """
    Make the table for the terminal, in MiB.
    """
    lines = [f"{'':36} {'accepted':>9} {'before':>7} {'highest':>7} {'after':>7}  MiB"]
    for each in results:
        title = f"{each.service} {each.competitor}, {each.client}"
        sizes = (each.accepted, each.before, each.highest, each.after)
        accepted, before, highest, after = (size / 2**20 for size in sizes)
        intact = {None: "", True: ", intact", False: ", NOT INTACT"}[each.intact]
        lines.append(
            f"{title:36} {accepted:9.1f} {before:7.1f} {highest:7.1f} {after:7.1f}  "
            f"{each.ended}{intact}"
        )
    return "\n".join(lines)
