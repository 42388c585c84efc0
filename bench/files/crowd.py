"""
Many clients at once: the memory of the server, and how soon an echo service in the same process
answers meanwhile. An echo service in another process shows what the machine itself makes of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from bench.driver import Driver, driver
from bench.files.contest import Size
from bench.files.scratch import Scratch, makeFile, remove, requireSame
from bench.files.spending import PATIENCE, REAPED, serverSeconds
from bench.measure import Measure, Rounds, spread
from bench.needs import twistd
from bench.processes import BenchFailure, forgetHighest, freePorts, residentBytes
from bench.servers import PEERS, Place, place, serving
from bench.targets import Target

QUIET = 2.0  # seconds of questions while nothing else happens
SETTLE = 1.0  # seconds in which a server that has just started comes to rest
ROUNDS = 2  # at the most: what is looked at is neither a rate nor a ratio
MIB = 2**20

SUITE = """\
[echo.asked]
listen = ["tcp:{echo}:interface=127.0.0.1"]
upper = false

[files.moved]
listen = ["tcp:{port}:interface=127.0.0.1"]
root = "{served}"
writable = true
connection-rate = 0
max-per-source = 0
"""

KINDS = {"get": "all get", "put": "all put"}
GROWTH = Measure("growth_mib", "MiB that the server's memory grew by, at its highest", False)
P99 = Measure("echo_p99_ms", "ms until an answer of echo in the same process, 99 %", False)
MEASURES = (
    GROWTH,
    Measure("after_mib", "MiB of growth that stay once all have ended", False),
    Measure("gbps", "GB/s of all together", True),
    Measure("server_cpu_per_gb", "CPU s/GB of the server", False),
    Measure("client_cpu_per_gb", "CPU s/GB of the clients", False),
    Measure("echo_p50_ms", "ms until an answer of echo in the same process, median", False),
    P99,
    Measure("echo_max_ms", "the same, longest", False),
    Measure("echo_late_percent", "% of the time in which an answer took over 20 ms", False),
    Measure("quiet_p99_ms", "the same when nobody moves files, 99 %", False),
    Measure("other_p50_ms", "ms until an answer of echo in another process, median", False),
    Measure("other_p99_ms", "the same, 99 %", False),
    Measure("other_max_ms", "the same, longest", False),
    Measure("other_late_percent", "% of the time, as above", False),
)
TARGETS = tuple(
    target
    for kind, title in KINDS.items()
    for target in (
        Target(f"{title}: MiB of growth", GROWTH, kind, None, False, 100),
        Target(f"{title}: ms until an answer, 99 %", P99, kind, None, False, 20),
    )
)


@dataclass(frozen=True)
class Ready:
    """
    The server, its clients, and who asks each echo service, by its name.
    """

    server: int
    crowd: Driver
    asking: dict[str, Driver]

    def told(self) -> dict[str, dict[str, float]]:
        """
        Tell how long answers took since the last time.
        """
        return {name: each.do("tell") for name, each in self.asking.items()}


def room(size: Size) -> int:
    """
    Tell the bytes that the files need.
    """
    return (size.clients + 2) * size.each + MIB


def run(scratch: Scratch, size: Size) -> Rounds:
    """
    Measure a crowd that gets and one that puts, each with a fresh server, in turns.
    """
    result = Rounds()
    makeFile(scratch.served / "source", size.each)
    makeFile(scratch.local / "source", size.each)
    began = time.monotonic()
    for number in range(size.rounds):
        if number and time.monotonic() - began > size.within:
            print(f"no time for round {number + 1}", file=sys.stderr)
            break
        result.figures.append({kind: {} for kind in KINDS})
        for kind in list(KINDS)[:: -1 if number % 2 else 1]:
            print(f"crowd, round {number + 1} of {size.rounds}: {kind}", file=sys.stderr)
            try:
                with _ready(scratch, size) as ready:
                    result.figures[-1][kind] = _trial(ready, kind, scratch, size)
            except BenchFailure as why:
                failure = {"round": number + 1, "competitor": kind, "why": str(why)}
                result.failures.append({**failure})
                print(f"    failed: {why}", file=sys.stderr)
    return result


@contextmanager
def _ready(scratch: Scratch, size: Size) -> Iterator[Ready]:
    with place() as where, ExitStack() as stack:
        (other,) = freePorts(1)
        text = SUITE.format(port=where.port, echo=where.target, served=scratch.served)
        config = where.write("suite.toml", text)
        logs = ["--pidfile=", "--logfile", str(where.folder / "twistd.log")]
        suite = [twistd(), "-n", *logs, "netsuite", "--config", config]
        server = stack.enter_context(serving(where, suite))
        # Places of their own, for their logs.
        beside = replace(_own(where, "other"), port=other)
        echo = [sys.executable, str(PEERS / "echo_asyncio.py"), str(other)]
        stack.enter_context(serving(beside, echo))
        asking = {
            name: stack.enter_context(
                driver(_module("asking", port), _own(where, f"asking-{name}"))
            )
            for name, port in (("echo", where.target), ("other", other))
        }
        address = f"127.0.0.1:{where.port}"
        clients = _module("crowd", address, size.clients, scratch.local)
        crowd = stack.enter_context(driver(clients, _own(where, "crowd"), PATIENCE))
        time.sleep(SETTLE)
        yield Ready(server, crowd, asking)


def _own(where: Place, name: str) -> Place:
    """
    Make a place for a client.
    """
    folder = where.folder / name
    folder.mkdir()
    return replace(where, folder=folder)


def _module(name: str, *words: object) -> list[str]:
    return [sys.executable, "-m", f"bench.files.clients.{name}", *map(str, words)]


def _trial(ready: Ready, kind: str, scratch: Scratch, size: Size) -> dict[str, float]:
    """
    Have all clients do the same, and look at the server.
    """
    ready.told()
    time.sleep(QUIET)
    quiet = ready.told()["echo"]
    forgetHighest(ready.server)
    before, _ = residentBytes(ready.server)
    cpu = serverSeconds(ready.server), serverSeconds(ready.crowd.pid)
    try:
        ready.told()
        seconds = ready.crowd.do(kind)["seconds"]
        told = ready.told()
        time.sleep(REAPED)
        after, highest = residentBytes(ready.server)
        used = serverSeconds(ready.server) - cpu[0], serverSeconds(ready.crowd.pid) - cpu[1]
        _require(kind, scratch, size)
    finally:
        for number in range(size.clients):
            remove(scratch.local / f"got-{number}")
            remove(scratch.served / f"put-{number}")
    gigabytes = size.clients * size.each / 1e9
    figures = {
        "growth_mib": (highest - before) / MIB,
        "before_mib": before / MIB,
        "after_mib": (after - before) / MIB,
        "gbps": gigabytes / seconds,
        "server_cpu_per_gb": used[0] / gigabytes,
        "client_cpu_per_gb": used[1] / gigabytes,
        "quiet_p99_ms": quiet["p99_ms"],
    }
    for name, answers in told.items():
        figures |= {f"{name}_{key}": value for key, value in answers.items()}
    return figures


def _require(kind: str, scratch: Scratch, size: Size) -> None:
    """
    Require that all have what they were to have.
    """
    for number in range(size.clients):
        if kind == "get":
            requireSame(scratch.served / "source", scratch.local / f"got-{number}")
        else:
            requireSame(scratch.local / "source", scratch.served / f"put-{number}")


def spreads(rounds: Rounds) -> dict[str, dict[str, object]]:
    """
    Sum up the rounds: for each measure, the middle and the ends of each kind's figure.
    """
    result: dict[str, dict[str, object]] = {}
    for measure in MEASURES:
        result[measure.key] = {}
        for kind in KINDS:
            values = [each[kind][measure.key] for each in rounds.figures if each[kind]]
            if values:
                result[measure.key][kind] = {"figure": vars(spread(values))}
    return result
