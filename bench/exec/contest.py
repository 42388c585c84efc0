"""
What is measured of each contestant, round by round, and the targets that the figures are held
against.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from bench.exec.clients.work import CROWD_SLEEP
from bench.exec.contestants import BARE, FRESH, MASTER, OURS, TLS, Contestant, Sides
from bench.measure import Figures, Measure, Rounds
from bench.processes import BenchFailure, treeCpuSeconds
from bench.targets import Target

TRIPS = 200
CROWD_COMMANDS = 500
REAPED = 0.1  # seconds until what has ended was waited for, and counts for its parent

TRIP = Measure("trip_ms", "ms from START to END of /bin/true, one after the other, median", False)
BULK = Measure("bulk_gbps", "GB/s of output; the receiver drops it", True)
CHECKED = Measure("checked_gbps", "GB/s of output; the receiver takes its SHA-256", True)
FLOCK = Measure("crowd_seconds", f"seconds for {CROWD_COMMANDS} commands at once", False)
MEASURES = (
    TRIP,
    Measure("trip_mean_ms", "the same, mean", False),
    Measure("trip_p99_ms", "the same, 99 % of them", False),
    Measure("trip_cpu_ms", "CPU ms a command, both ends and the command", False),
    BULK,
    CHECKED,
    Measure("server_cpu_per_gb", "CPU s/GB of the server with the command", False),
    Measure("client_cpu_per_gb", "CPU s/GB of the client", False),
    Measure("cpu_per_gb", "CPU s/GB of all of it", False),
    FLOCK,
)
CROWD_WORDS = f"each sleeps {CROWD_SLEEP} s, writes its number and ends with a status of its own"


TARGETS = (
    Target("round trip: ours / bare spawnProcess", TRIP, OURS, BARE, False, 1.5),
    Target("round trip: ControlMaster / ours", TRIP, MASTER, OURS, True, 20),
    Target("1 GiB over TLS: ours / ssh", BULK, TLS, FRESH, True, 1),
    Target("1 GiB over TLS, SHA-256 taken: ours / ssh", CHECKED, TLS, FRESH, True, 1),
    Target("1 GiB over loopback: GB/s of ours", BULK, OURS, None, True, 1),
    Target("1 GiB over loopback: bare pipe / ours", BULK, BARE, OURS, False, 1.3),
    Target("the same, SHA-256 taken: bare pipe / ours", CHECKED, BARE, OURS, False, 1.3),
)


@dataclass(frozen=True)
class Size:
    """
    How much is measured.

    @ivar rounds: of everything.
    @ivar bulk: bytes of output.
    @ivar within: seconds after which no other round begins, however slow the machine is.
    """

    rounds: int
    bulk: int
    within: float


def run(contestants: Sequence[Contestant], size: Size, cipher: str) -> Rounds:
    """
    Measure all contestants in turn, so many times over: what changes on the machine meanwhile
    meets them all.

    @param cipher: for whoever speaks SSH.
    """
    result = Rounds()
    began = time.monotonic()
    for number in range(1, size.rounds + 1):
        if result.figures and time.monotonic() - began > size.within:
            print(f"no time for round {number}", file=sys.stderr)
            break
        result.figures.append({})
        for each in contestants:
            print(f"round {number} of {size.rounds}: {each.name}", file=sys.stderr)
            figures = result.figures[-1].setdefault(each.name, {})
            try:
                with each.running(cipher) as sides:
                    _measure(each, sides, size.bulk, figures)
            except BenchFailure as why:
                failure: dict[str, object] = {
                    "round": number,
                    "competitor": each.name,
                    "why": str(why),
                }
                result.failures.append(failure)
                print(f"    failed: {why}", file=sys.stderr)
    return result


def _measure(contestant: Contestant, sides: Sides, size: int, figures: Figures) -> None:
    figures |= _trips(sides, round(TRIPS * contestant.tripShare))
    figures |= _bulk(sides, contestant.name in (OURS, TLS), round(size * contestant.bulkShare))
    if contestant.crowd:
        answer = sides.client.do("crowd", count=CROWD_COMMANDS)
        figures[FLOCK.key] = answer["seconds"]


def _trips(sides: Sides, count: int) -> Figures:
    usage = Usage(sides)
    times = sorted(sides.client.do("trips", count=count)["seconds"])
    return {
        TRIP.key: statistics.median(times) * 1e3,
        "trip_mean_ms": statistics.fmean(times) * 1e3,
        "trip_p99_ms": times[len(times) * 99 // 100] * 1e3,
        "trip_cpu_ms": sum(usage.used()) / count * 1e3,
    }


def _bulk(sides: Sides, checksAnyway: bool, size: int) -> Figures:
    """
    Measure bulk output.

    @param checksAnyway: whether the client knows no other way than to check the digest.
    """
    how = {"size": size, "digest": digestOfZeros(size)}
    usage = Usage(sides)
    seconds = sides.client.do("bulk", checked=False, **how)["seconds"]
    server, client = usage.used()
    checked = seconds if checksAnyway else sides.client.do("bulk", checked=True, **how)["seconds"]
    gigabytes = size / 1e9
    figures = {
        BULK.key: gigabytes / seconds,
        CHECKED.key: gigabytes / checked,
        "client_cpu_per_gb": client / gigabytes,
        "cpu_per_gb": (server + client) / gigabytes,
    }
    if sides.server is not None:
        figures["server_cpu_per_gb"] = server / gigabytes
    return figures


class Usage:
    """
    CPU time of both ends from now on.
    """

    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._before = self._now()

    def _now(self) -> tuple[float, float]:
        sides = self._sides
        server = treeCpuSeconds(sides.server) if sides.server is not None else 0.0
        return server, treeCpuSeconds(sides.client.pid)

    def used(self) -> tuple[float, float]:
        """
        Tell the seconds of the server and of the client, the commands included.
        """
        time.sleep(REAPED)
        server, client = self._now()
        return server - self._before[0], client - self._before[1]


@cache
def digestOfZeros(size: int) -> str:
    """
    Tell the SHA-256 of so many zero bytes.
    """
    digest = hashlib.sha256()
    block = bytes(1024 * 1024)
    for _ in range(size // len(block)):
        digest.update(block)
    digest.update(bytes(size % len(block)))
    return digest.hexdigest()
