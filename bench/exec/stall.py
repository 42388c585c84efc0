"""
A server that runs a command without end for a client that takes nothing: what that costs.
"""

from __future__ import annotations

import math
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.exec.contestants import netsuite
from bench.processes import BenchFailure, processSeconds, residentOf, tree
from bench.servers import Place, place, serving
from twisted_netsuite.net.sessionclient import helloFor
from twisted_netsuite.rexec.messages import (
    DEFAULT_WINDOW,
    MAX_WINDOW,
    RECORDS,
    SERVICE,
    Start,
    Stdout,
)
from twisted_netsuite.wire.session import Record, SessionCodec

SETTLE = 2.0  # seconds until all has begun, and until all is full that fills: windows, sockets
SAMPLE = 0.25  # seconds between two looks at the server's memory
PATIENCE = 10.0  # seconds for what must come
COMMAND = "yes"


@dataclass(frozen=True)
class Stalled:
    """
    What one client that takes nothing cost; sizes are in bytes, CPU in seconds of all the time
    after the first L{SETTLE}.

    @ivar received: bytes of output that came before it took no more.
    @ivar before: resident memory before the client connected.
    @ivar highest: the most that was seen after that.
    @ivar growth: the difference.
    @ivar commandCpu: of the command.
    @ivar state: bytes that the server's state directory has gained, of all files.
    @ivar running: whether the command was still running at the end, waiting.
    """

    client: str
    seconds: float
    received: int
    before: int
    highest: int
    growth: int
    serverCpu: float
    commandCpu: float
    state: int
    running: bool


class Wire:
    """
    A client that speaks the protocol by hand, so that nothing is read unless it says so.
    """

    def __init__(self, port: int) -> None:
        self._codec = SessionCodec(RECORDS)
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)

    def close(self) -> None:
        """
        Leave.
        """
        self._socket.close()

    def send(self, record: Record) -> None:
        """
        Send a record.
        """
        frame = self._codec.encode(record)
        self._socket.sendall(struct.pack("!I", len(frame)) + frame)

    def receive(self) -> Record:
        """
        Take the next record.
        """
        (length,) = struct.unpack("!I", self._exactly(4))
        return self._codec.decode(self._exactly(length))

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise BenchFailure("The server has closed the connection of a stalled client.")
            data += piece
        return bytes(data)

    def open(self, window: int) -> None:
        """
        Open a session, and start the command with a window.
        """
        self.send(helloFor(SERVICE))
        self.receive()
        self.send(Start(channel=1, argv=(COMMAND.encode(),), stdoutCredit=window))


def _givesNoCredit(wire: Wire) -> int:
    """
    Take what the first window lets come, and allow no more.
    """
    wire.open(DEFAULT_WINDOW)
    count = 0
    while count < DEFAULT_WINDOW:
        record = wire.receive()
        if isinstance(record, Stdout):
            count += len(record.data)
    return count


def _readsNothing(wire: Wire) -> int:
    """
    Allow as much as can be allowed, and read none of it.
    """
    wire.open(MAX_WINDOW)
    return 0


CLIENTS: dict[str, Callable[[Wire], int]] = {
    "gives no credit": _givesNoCredit,
    "does not read": _readsNothing,
}


def measure(seconds: float) -> list[Stalled]:
    """
    Let every kind of client stall, all at the same time, each on a server of its own.

    @param seconds: how long.
    """
    print(f"stalled clients: {', '.join(CLIENTS)}", file=sys.stderr)
    with ExitStack() as stack:
        cases = [stack.enter_context(_case(kind)) for kind in CLIENTS]
        _look(cases, SETTLE)
        for each in cases:
            each.begin()
        _look(cases, seconds)
        return [each.result(seconds) for each in cases]


def _look(cases: list[Case], seconds: float) -> None:
    for _ in range(math.ceil(seconds / SAMPLE)):
        time.sleep(SAMPLE)
        for each in cases:
            each.look()


class Case:
    """
    One stalled client and its server.
    """

    def __init__(self, kind: str, server: int, state: Path) -> None:
        """
        @param server: its pid, before the client has connected.
        @param state: what the server keeps on disk.
        """
        self.received = 0
        self._kind = kind
        self._server = server
        self._state = state
        self._kept = _size(state)
        self._before = self._highest = residentOf(server)

    def look(self) -> None:
        """
        Look at the server's memory.
        """
        self._highest = max(self._highest, residentOf(self._server))

    def _cpu(self) -> tuple[float, float]:
        commands = [pid for pid, _ in tree(self._server) if _name(pid) == COMMAND]
        return processSeconds(self._server), sum(map(processSeconds, commands))

    def begin(self) -> None:
        """
        Count CPU time from now on.
        """
        self._began = self._cpu()

    def result(self, seconds: float) -> Stalled:
        """
        Tell what it cost.
        """
        server, command = self._cpu()
        return Stalled(
            client=self._kind,
            seconds=seconds,
            received=self.received,
            before=self._before,
            highest=self._highest,
            growth=self._highest - self._before,
            serverCpu=server - self._began[0],
            commandCpu=command - self._began[1],
            state=_size(self._state) - self._kept,
            running=any(_name(pid) == COMMAND for pid, _ in tree(self._server)),
        )


@contextmanager
def _case(kind: str) -> Iterator[Case]:
    with place() as where, _server(where) as (pid, state):
        case = Case(kind, pid, state)
        with closing(Wire(where.port)) as wire:
            case.received = CLIENTS[kind](wire)
            yield case


@contextmanager
def _server(where: Place) -> Iterator[tuple[int, Path]]:
    """
    Run a server that may keep output on disk.
    """
    state = where.folder / "state"
    state.mkdir(mode=0o700)
    listen = f"tcp:{where.port}:interface=127.0.0.1"
    with serving(where, netsuite(where, listen, "--state", str(state))) as pid:
        # It listens before it has made the files of its state.
        time.sleep(SETTLE)
        yield pid, state


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
