"""
Processes that a benchmark starts and ends, and what the kernel says they have used.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

READY_WITHIN = 10.0  # seconds: a cold twistd imports for about one
TERM_WITHIN = 5.0  # seconds from TERM to KILL: a server that drains may take a moment
TICKS = os.sysconf("SC_CLK_TCK")


class BenchFailure(Exception):
    """
    Something that a benchmark cannot go on with, in one sentence.
    """


def twoCpus() -> tuple[int, int]:
    """
    Choose the CPU of what is measured and the CPU of all the rest.

    @raise BenchFailure: this process may use only one.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise BenchFailure("The benchmarks need two CPUs: one to measure, one for the load.")
    return cpus[0], cpus[1]


def freePorts(count: int) -> list[int]:
    """
    Find TCP ports on loopback that nobody uses, no two the same.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def started(
    command: Sequence[str], cpu: int | None, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a process, in a session of its own, until the block is left.

    @param cpu: the only one that it runs on; C{None} for any.
    @param log: takes its output, for the sentence that says why it did not start.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=None if cpu is None else partial(os.sched_setaffinity, 0, {cpu}),
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """
    End a process, and whatever of its session it leaves behind.
    """
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(TERM_WITHIN)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def awaitListening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """
    Wait until a process accepts connections.

    @raise BenchFailure: it ended instead, or did not in L{READY_WITHIN} seconds.
    """
    deadline = time.monotonic() + READY_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    raise BenchFailure(f"{process.args!r} does not listen on port {port}: {lines[-1]}")


def cpuSeconds(session: int) -> float:
    """
    Tell the CPU time, user and system, of a session: its processes, their threads, and the
    children they have waited for.

    @param session: the pid of its first process.
    """
    # proc_pid_stat(5), counted from 0 after the name: utime, stime, cutime and cstime are 11 to 14.
    return sum(sum(map(int, stat[11:15])) for _, stat in _members(session)) / TICKS


def treeCpuSeconds(pid: int) -> float:
    """
    Tell the CPU time, user and system, of a process and all that descend from it, whatever session
    they are in: their threads, and the children they have waited for.
    """
    return sum(sum(map(int, stat[11:15])) for _, stat in tree(pid)) / TICKS


def processSeconds(pid: int) -> float:
    """
    Tell the CPU time of all threads of one process, to the nanosecond; what it has waited for, and
    threads that have ended, do not count.
    """
    # Documentation/scheduler/sched-stats.rst: the first word is the time on a CPU.
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def tree(pid: int) -> list[tuple[int, list[str]]]:
    """
    Find a process and all that descend from it, each with the fields of its stat file after the
    name.
    """
    stats = dict(_stats())
    found = [pid]
    for each in found:
        found += [child for child, stat in stats.items() if int(stat[1]) == each]
    return [(each, stats[each]) for each in found if each in stats]


def residentBytes(session: int) -> tuple[int, int]:
    """
    Tell the resident memory of a session's processes, now and at its highest.
    """
    now = highest = 0
    for pid, _ in _members(session):
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            sizes = dict(line.split(":", 1) for line in status.splitlines())
            now += _kibibytes(sizes["VmRSS"])
            highest += _kibibytes(sizes["VmHWM"])
    return now, highest


def residentOf(pid: int) -> int:
    """
    Tell the resident memory of one process.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return _kibibytes(dict(line.split(":", 1) for line in lines)["VmRSS"])


def forgetHighest(session: int) -> None:
    """
    Let the highest resident memory of a session's processes count from now on.
    """
    for pid, _ in _members(session):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _kibibytes(text: str) -> int:
    return int(text.split()[0]) * 1024


def _members(session: int) -> Iterator[tuple[int, list[str]]]:
    """
    Find the processes of a session, each with the fields of its stat file after the name.
    """
    return ((pid, stat) for pid, stat in _stats() if int(stat[3]) == session)


def _stats() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()
