"""
A good client among a thousand that never finish a handshake: its latency before and during.

What is asserted does not depend on time: each answer arrives, memory grows no further than a bound,
no more peers wait than may. The latencies are printed, one line of JSON a run.
"""

from __future__ import annotations

import json
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import PATIENCE, Place, Twistd, scratch, started
from tests.soak.drips import RAMP
from twisted_netsuite.echo.messages import RECORDS, SERVICE, Echo
from twisted_netsuite.net.sessionclient import helloFor
from twisted_netsuite.trust.ca import Authority
from twisted_netsuite.wire.session import Record, SessionCodec, Welcome

#: Peers that never finish.
PEERS = 1000

#: Seconds that the good client works alone, and then among the others.
ALONE, AMONG = 5.0, 20.0

#: Seconds between two round trips of the connection that is kept, and between two connections of
#: the client that connects each time.
KEPT_PAUSE, FRESH_PAUSE = 0.02, 0.1

#: Bytes by which the service may grow for one that waits: OpenSSL's buffers and state, and
#: Twisted's objects.
GROWTH_EACH = 150 * 1024

#: Bytes by which it may grow besides, whatever waits: its tables of sources, its log, what Python
#: keeps for later.
GROWTH = 16 * 1024 * 1024

#: Connections that may be there beyond those that wait and the good client's, at one moment: one
#: turn of the reactor accepts a hundred and more, and those that are ended go in the next.
PASSING = 300

CODEC = SessionCodec(RECORDS)


def latencies(seconds: list[float]) -> dict[str, float]:
    """Sum some latencies up, in milliseconds."""
    ordered = sorted(each * 1000 for each in seconds)
    return {
        "count": len(ordered),
        "median": round(statistics.median(ordered), 2),
        "p99": round(ordered[int(len(ordered) * 0.99)], 2),
        "max": round(ordered[-1], 2),
    }


def memory(pid: int) -> int:
    """Tell the bytes of memory that a process has in use."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def connections(pid: int) -> int:
    """Count the sockets of a process."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += str(entry.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue
    return found


class Session:
    """A good client's connection."""

    def __init__(self, place: Place, context: ssl.SSLContext | None) -> None:
        """
        Connect.

        @param place: where to.
        @param context: for TLS; without it, the native dialect is spoken.
        """
        plain = socket.create_connection((place.host, place.port), PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._native = context is None
        self._socket = context.wrap_socket(plain, server_hostname="127.0.0.1") if context else plain
        if self._native:
            self._send(helloFor(SERVICE))
            assert isinstance(self._receive(), Welcome)

    def roundTrip(self) -> None:
        """Send a message, and take the right answer."""
        if self._native:
            self._send(Echo(data=b"hello"))
            answer = self._receive()
            assert isinstance(answer, Echo) and answer.data == b"hello", answer
        else:
            self._socket.sendall(b"hello")
            assert self._read(5) == b"HELLO"

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _send(self, record: Record) -> None:
        frame = CODEC.encode(record)
        self._socket.sendall(len(frame).to_bytes(4, "big") + frame)

    def _receive(self) -> Record:
        return CODEC.decode(self._read(int.from_bytes(self._read(4), "big")))

    def _read(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            piece = self._socket.recv(size - len(got))
            assert piece, "the service has closed the good client's connection"
            got += piece
        return got


class Repeating(threading.Thread):
    """
    Does the same again and again, and notes how long each time took.

    @ivar took: seconds, one entry a time.
    @ivar failures: what went wrong; it goes on all the same.
    """

    def __init__(self, act: Callable[[], object], pause: float) -> None:
        """
        @param act: what to do.
        @param pause: seconds between.
        """
        super().__init__(daemon=True)
        self._act = act
        self._pause = pause
        self._over = threading.Event()
        self.took: list[float] = []
        self.failures: list[str] = []
        self.start()

    def run(self) -> None:
        """Begin."""
        while not self._over.wait(self._pause):
            begun = time.monotonic()
            try:
                self._act()
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))
            self.took.append(time.monotonic() - begun)

    def taken(self) -> list[float]:
        """Take what was noted so far."""
        taken, self.took = self.took, []
        return taken

    def stop(self) -> None:
        """End."""
        self._over.set()
        self.join()


class DrippingTests(SynchronousTestCase):
    """A thousand peers that are silent, or send a byte a second."""

    #: Seconds for one run, which trial knows by this name.
    timeout = 120
    #: What lets all of them wait at once.
    roomy: ClassVar[tuple[str, ...]] = (
        "--max-connections=2000",
        f"--max-pending={PEERS + 50}",
        "--handshake-timeout=60",
    )

    def serve(self, words: tuple[str, ...]) -> None:
        """Serve."""
        self.twistd: Twistd = started(self, "netsuite-echo", *words)
        self.place = self.twistd.place("echo")

    def mutual(self, *words: str) -> ssl.SSLContext:
        """Serve over mutual TLS; return what a good client needs."""
        directory = scratch(self) / "ca"
        authority = Authority.create(directory)
        authority.issueServer("localhost", sans=["127.0.0.1"])
        authority.issueClient("anna")
        where = f"mtls:0:interface=127.0.0.1:timeout=60:cert={directory}/localhost.pem"
        self.serve(("--listen", f"{where}:clientCA={directory}/ca.pem", *words))
        context = ssl.create_default_context(cafile=f"{directory}/ca.pem")
        context.load_cert_chain(f"{directory}/anna.pem")
        return context

    def drip(self, dialect: str) -> Callable[[], dict[str, Any]]:
        """Let the others come; what is returned ends them and tells what they did."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.drips", str(self.place.port), dialect, str(PEERS)],
            cwd=Path(__file__).resolve().parent.parent.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)

        def end() -> dict[str, Any]:
            process.terminate()
            told: dict[str, Any] = json.loads(process.communicate(timeout=PATIENCE)[0])
            return told

        return end

    def work(self, run: str, dialect: str, context: ssl.SSLContext | None, waiting: int) -> None:
        """Let a good client work alone, then among the others, and tell how that went."""
        kept = Session(self.place, context)
        self.addCleanup(kept.close)

        def fresh() -> None:
            session = Session(self.place, context)
            try:
                session.roundTrip()
            finally:
                session.close()

        workers = {
            "kept": Repeating(kept.roundTrip, KEPT_PAUSE),
            "fresh": Repeating(fresh, FRESH_PAUSE),
        }
        for worker in workers.values():
            self.addCleanup(worker.stop)
        time.sleep(ALONE)
        before = {name: worker.taken() for name, worker in workers.items()}
        sockets, memoryBefore = connections(self.twistd.pid), memory(self.twistd.pid)
        end = self.drip(dialect)
        time.sleep(RAMP)
        for worker in workers.values():
            worker.taken()
        counted, memoryDuring = self.watch()
        during = {name: worker.taken() for name, worker in workers.items()}
        others = end()
        for worker in workers.values():
            worker.stop()
        told = {
            "run": run,
            "milliseconds": {
                name: {"before": latencies(before[name]), "during": latencies(during[name])}
                for name in workers
            },
            "memory": {"before": memoryBefore, "during": memoryDuring},
            "others": others
            | {"waiting": statistics.median(counted) - sockets, "most": max(counted) - sockets},
        }
        # Trial writes the name of the test before it, and what became of it behind it.
        print("\n" + json.dumps(told), flush=True)
        self.assertEqual([worker.failures for worker in workers.values()], [[], []])
        self.assertGreater(others["connects"], PEERS - 1)
        self.assertLess(memoryDuring - memoryBefore, GROWTH + waiting * GROWTH_EACH)
        self.assertLessEqual(statistics.median(counted) - sockets, waiting + 2)
        self.assertLess(max(counted) - sockets, waiting + PASSING)
        self.assertNotIn("Traceback", self.twistd.log())

    def watch(self) -> tuple[list[int], int]:
        """Look at the service for a while: how many connections it has, its most memory."""
        counted, most = [], 0
        until = time.monotonic() + AMONG
        while time.monotonic() < until:
            counted.append(connections(self.twistd.pid))
            most = max(most, memory(self.twistd.pid))
            time.sleep(0.25)
        return counted, most

    def test_mutualTLS(self) -> None:
        """By default a hundred wait, whoever comes; the good client gets all its answers."""
        self.work("mtls", "tls", self.mutual(), 100)

    def test_mutualTLSRoomy(self) -> None:
        """So it does where all thousand may wait."""
        self.work("mtls, all wait", "tls", self.mutual(*self.roomy), PEERS + 50)

    def native(self, *words: str) -> None:
        """Serve the native dialect."""
        listen = ("--listen", "tcp:0:interface=127.0.0.1")
        self.serve((*listen, "--dialect", "native", *words))

    def test_native(self) -> None:
        """The same of native sessions, by default."""
        self.native()
        self.work("native", "native", None, 100)

    def test_nativeRoomy(self) -> None:
        """The same of native sessions, where all thousand may wait."""
        self.native(*self.roomy)
        self.work("native, all wait", "native", None, PEERS + 50)
