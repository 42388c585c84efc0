"""
Asks an echo service all the time, and tells how long its answers took: C{python -m
bench.files.clients.asking PORT}.

A line of JSON on standard input asks for what was found since the last; it imports nothing large,
so that it is there at once when an answer is.
"""

from __future__ import annotations

import json
import select
import socket
import statistics
import sys
import time

PAUSE = 0.005  # seconds between an answer and the next question
PATIENCE = 30.0  # seconds for an answer
LATE = 0.020  # seconds from which on an answer is late
QUESTION = b"0123456789ABCDEF" * 4


def main() -> None:
    """
    Ask until standard input ends.
    """
    asked = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=PATIENCE)
    asked.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found: list[float] = []
    began = time.perf_counter()
    print(json.dumps({"ready": True}), flush=True)
    while True:
        found.append(_seconds(asked))
        if select.select([sys.stdin], [], [], PAUSE)[0]:
            if not sys.stdin.readline():
                return
            print(json.dumps(summary(found, time.perf_counter() - began)), flush=True)
            found, began = [], time.perf_counter()


def _seconds(asked: socket.socket) -> float:
    began = time.perf_counter()
    asked.sendall(QUESTION)
    answer = b""
    while len(answer) < len(QUESTION):
        if not (more := asked.recv(len(QUESTION))):
            raise SystemExit("the service has closed the connection")
        answer += more
    taken = time.perf_counter() - began
    if answer != QUESTION:
        raise SystemExit("the answer is another than the question")
    return taken


def summary(times: list[float], seconds: float) -> dict[str, float]:
    """
    Sum up answers.

    @param times: seconds that each took, at least one.
    @param seconds: in which all of them came.
    """
    ordered = sorted(times)
    return {
        "answers": len(ordered),
        "p50_ms": statistics.median(ordered) * 1e3,
        "p99_ms": ordered[len(ordered) * 99 // 100] * 1e3,
        "max_ms": ordered[-1] * 1e3,
        # Who waits asks nothing else: a long answer is one of many, and yet much of the time.
        "late_percent": sum(each for each in ordered if each > LATE) / seconds * 100,
    }


if __name__ == "__main__":
    main()
