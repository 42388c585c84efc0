"""
What is measured, round by round, and the ratios to stock Twisted that come of it.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from bench.load import Load, LoadFailure
from bench.processes import cpuSeconds
from bench.servers import BASELINE, ECHO, NOT_ECHO, PROXY, Competitor, Running, place, running

CONNECTIONS = 32
MESSAGE = 64  # bytes
WARM_UP = 0.2  # seconds of messages before the first measure of a fresh server, not counted

Figures = dict[str, float]


@dataclass(frozen=True)
class Measure:
    """
    One figure that every competitor gets.
    """

    key: str
    title: str
    higherIsBetter: bool
    drawn: bool = True


@dataclass(frozen=True)
class Contest:
    """
    The competitors of one service, what is measured, and the trial that measures it.
    """

    name: str
    competitors: tuple[Competitor, ...]
    measures: tuple[Measure, ...]
    trial: Callable[[Competitor, Load, int, float, Figures], None]
    leftOut: dict[str, str] = field(default_factory=dict)

    def among(self, competitors: Iterable[Competitor]) -> Contest:
        """
        Make the same contest among these only.
        """
        return replace(self, competitors=tuple(competitors))


@dataclass(frozen=True)
class Spread:
    """
    The middle and the ends of a figure over the rounds.
    """

    median: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Standing:
    """
    How a competitor did in one measure: its figure, and its ratio to the baseline's of the same
    round.
    """

    figure: Spread
    ratio: Spread


@dataclass
class Rounds:
    """
    The raw figures, one dict of competitors for each round, and what went wrong.
    """

    figures: list[dict[str, Figures]] = field(default_factory=list)
    failures: list[dict[str, object]] = field(default_factory=list)


def run(contest: Contest, load: Load, cpu: int, rounds: int, seconds: float) -> Rounds:
    """
    Measure all competitors in turn, so many times over: what changes on the machine meanwhile
    meets them all.

    @param cpu: where the competitors run.
    @param seconds: how long each load takes.
    """
    result = Rounds()
    for number in range(1, rounds + 1):
        result.figures.append({})
        for competitor in contest.competitors:
            print(f"round {number} of {rounds}: {competitor.name}", file=sys.stderr)
            figures = result.figures[-1].setdefault(competitor.name, {})
            try:
                contest.trial(competitor, load, cpu, seconds, figures)
            except LoadFailure as why:
                result.failures.append(
                    {"round": number, "competitor": competitor.name, "why": str(why)}
                )
                print(f"    failed: {why}", file=sys.stderr)
    return result


def standings(
    rounds: Sequence[dict[str, Figures]], measure: Measure, baseline: str = BASELINE
) -> dict[str, Standing]:
    """
    Compare the competitors in one measure; one that has no figure in any round is left out.

    @param baseline: whose figures the others' are divided by.
    """
    result = {}
    for name in rounds[0]:
        pairs = [
            (each[name][measure.key], each[baseline][measure.key])
            for each in rounds
            if measure.key in each[name] and measure.key in each[baseline]
        ]
        if pairs:
            result[name] = Standing(
                spread([figure for figure, _ in pairs]),
                spread([figure / other for figure, other in pairs]),
            )
    return result


def spread(figures: Sequence[float]) -> Spread:
    """
    Tell the middle and the ends of figures.
    """
    return Spread(statistics.median(figures), min(figures), max(figures))


def _echoTrial(
    competitor: Competitor, load: Load, cpu: int, seconds: float, figures: Figures
) -> None:
    with place() as where, running(competitor, where, cpu) as server:
        _pingPong(server, load, WARM_UP)
        figures |= _pingPong(server, load, seconds)
        figures |= _connect(server, load, seconds)
        figures |= _flow(server, load, seconds, "stream")


def _proxyTrial(
    competitor: Competitor, load: Load, cpu: int, seconds: float, figures: Figures
) -> None:
    with place() as where, ExitStack() as stack:
        with load.target(where.target, where.folder):
            proxy = stack.enter_context(running(competitor, where, cpu))
            _pingPong(proxy, load, WARM_UP)
            figures |= _pingPong(proxy, load, seconds)
            figures |= _connect(proxy, load, seconds)
        figures |= _flow(proxy, load, seconds, "bulk", where.target)


def _used(server: Running) -> float:
    return cpuSeconds(server.pid) if server.pid is not None else 0.0


def _pingPong(server: Running, load: Load, seconds: float) -> Figures:
    before = _used(server)
    words = ("pingpong", "127.0.0.1", server.port, CONNECTIONS, MESSAGE, seconds)
    with load.run(*words, seconds=seconds) as told:
        used = _used(server) - before
    figures = {
        "messages_per_second": told["messages"] / told["seconds"],
        "p50_us": told["p50_us"],
        "p99_us": told["p99_us"],
    }
    if server.pid is not None:
        figures["cpu_us_per_message"] = used / told["messages"] * 1e6
    return figures


def _connect(server: Running, load: Load, seconds: float) -> Figures:
    with load.run("connect", "127.0.0.1", server.port, seconds, seconds=seconds) as told:
        return {"connections_per_second": told["connections"] / told["seconds"]}


def _flow(server: Running, load: Load, seconds: float, kind: str, *more: object) -> Figures:
    before = _used(server)
    with load.run(kind, "127.0.0.1", server.port, seconds, *more, seconds=seconds) as told:
        used = _used(server) - before
    gigabytes = told["bytes"] / 1e9
    figures = {"gb_per_second": gigabytes / told["seconds"]}
    if server.pid is not None:
        figures["cpu_seconds_per_gb"] = used / gigabytes
    return figures


MESSAGES = Measure(
    "messages_per_second", f"messages/s, {MESSAGE} B ping-pong, {CONNECTIONS} connections", True
)
CPU_OF_MESSAGE = "CPU us a message, the same ping-pong"
LATENCIES = (
    Measure("p50_us", "latency us, half of the messages, the same ping-pong", False, drawn=False),
    Measure("p99_us", "latency us, 99 % of the messages, the same ping-pong", False),
)
CALLS = Measure("connections_per_second", "connections/s: connect, 1 byte each way, close", True)
CPU_OF_GIGABYTE = "CPU seconds a GB, the same connection"

ECHO_CONTEST = Contest(
    "echo",
    ECHO,
    (
        MESSAGES,
        Measure("cpu_us_per_message", CPU_OF_MESSAGE, False),
        *LATENCIES,
        CALLS,
        Measure("gb_per_second", "GB/s there and back, one connection", True),
        Measure("cpu_seconds_per_gb", CPU_OF_GIGABYTE, False),
    ),
    _echoTrial,
    NOT_ECHO,
)
PROXY_CONTEST = Contest(
    "proxy",
    PROXY,
    (
        MESSAGES,
        Measure("cpu_us_per_message", CPU_OF_MESSAGE, False),
        *LATENCIES,
        CALLS,
        Measure("gb_per_second", "GB/s through the proxy, one connection", True),
        Measure("cpu_seconds_per_gb", CPU_OF_GIGABYTE, False),
    ),
    _proxyTrial,
)
CONTESTS = {contest.name: contest for contest in (ECHO_CONTEST, PROXY_CONTEST)}
