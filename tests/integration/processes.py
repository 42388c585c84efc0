"""
Real C{twistd} and C{netsuite} processes for tests: started, read, and ended by their number.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from twisted.trial.unittest import SynchronousTestCase

BIN = Path(sys.executable).parent

#: Seconds after which a test gives up on something that should long have happened.
PATIENCE = 30.0

#: Seconds that a socket of a test waits before it fails.
SOCKET_TIMEOUT = 10.0

#: Seconds between two looks at what tells nobody that it has changed, such as /proc.
LOOK_AGAIN = 0.01


def _ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


#: Why a test of IPv6 is skipped, if it is.
NO_IPV6 = None if _ipv6() else "this machine has no IPv6 loopback"


def eventually(happened: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """
    Look until something has happened that sends no event.

    @param happened: true once it has.
    @param what: what is waited for, for the failure.
    @param seconds: when to give up.
    """
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(LOOK_AGAIN)


def alive(pid: int) -> bool:
    """
    Tell whether a process runs; one that is dead and only waits to be reaped does not.

    @param pid: its number.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def catches(pid: int, number: signal.Signals) -> bool:
    """
    Tell whether a process does something about a signal, in place of being ended by it.

    @param pid: its number.
    @param number: the signal.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (number - 1) & 1)


def kill(pid: int) -> None:
    """
    End a process that should have ended by itself.

    @param pid: its number.
    """
    if alive(pid):
        os.kill(pid, signal.SIGKILL)


def bearing(mark: str) -> list[int]:
    """
    Find the processes with a word in their environment.

    @param mark: C{NAME=VALUE}.
    @return: their numbers.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes().split(b"\0") and alive(int(path.parent.name)):
                found.append(int(path.parent.name))
    return found


def freePort(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """
    Find a port that nobody holds at this moment, where one must be known beforehand.

    @param kind: of socket.
    @return: its number, on 127.0.0.1.
    """
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scratch(test: SynchronousTestCase) -> Path:
    """
    Make a directory for one test, short enough in name for Unix sockets in it.

    @param test: removes it at its end.
    @return: an empty directory.
    """
    path = Path(tempfile.mkdtemp(prefix="netsuite-"))
    test.addCleanup(shutil.rmtree, path, ignore_errors=True)
    return path


def _takeInterrupts() -> None:
    """Undo what a shell does to its background jobs: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Place:
    """
    Where a service listens.

    @ivar service: its name in the table.
    @ivar kind: the sort of socket.
    @ivar host: the interface, or the path of a Unix socket.
    @ivar port: 0 for a Unix socket.
    """

    service: str
    kind: Literal["tcp", "udp", "unix"]
    host: str
    port: int

    @property
    def text(self) -> str:
        """An ADDRESS of the C{netsuite} program."""
        if self.kind == "unix":
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def family(self) -> socket.AddressFamily:
        """The family of its addresses."""
        if self.kind == "unix":
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def sockaddr(self) -> str | tuple[str, int]:
        """What C{connect} takes."""
        return self.host if self.kind == "unix" else (self.host, self.port)

    def socket(self) -> socket.socket:
        """
        Connect.

        @return: a blocking socket; over UDP it talks to this place alone.
        """
        kind = socket.SOCK_DGRAM if self.kind == "udp" else socket.SOCK_STREAM
        made = socket.socket(self.family, kind)
        made.settimeout(SOCKET_TIMEOUT)
        made.connect(self.sockaddr)
        return made


_ROW = re.compile(r"^(\S+) +(?:(tcp|udp) (\S+):(\d+)|(unix):(\S+)) ", re.MULTILINE)


def readTable(table: str) -> list[Place]:
    """
    Read what C{--table} printed.

    @param table: with its head.
    @return: every place in it.
    """
    places = []
    for service, kind, host, port, unix, path in _ROW.findall(table):
        places.append(Place(service, kind or unix, path or host.strip("[]"), int(port or 0)))
    return places


class Twistd:
    """
    A C{twistd} that stays in the foreground, in a directory of its own.

    @ivar directory: where it runs and logs.
    @ivar pid: its number.
    @ivar places: where it listens.
    """

    def __init__(
        self, *words: str, suite: str = "", files: Mapping[str, bytes] | None = None
    ) -> None:
        """
        Start it, and wait for its table.

        @param words: the plugin and its options; C{{dir}} in one stands for its directory.
        @param suite: a configuration in place of words; C{{dir}} in it likewise.
        @param files: what lies in the directory before it starts.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="netsuite-"))
        for name, content in (files or {}).items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if suite:
            (self.directory / "suite.toml").write_text(self._named(suite))
            words = ("netsuite", "--config", "suite.toml")
        self._errors = (self.directory / "stderr").open("w+")
        self._process = subprocess.Popen(
            [str(BIN / "twistd"), "-n", "--pidfile=", "--logfile=twistd.log"]
            + [self._named(word) for word in [*words, "--table"]],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            preexec_fn=_takeInterrupts,
        )
        self.pid = self._process.pid
        try:
            self.places = readTable(self._table())
            # The table is printed when all listen, which is before the reactor takes signals.
            eventually(self._takesSignals, "a service that takes signals")
        except BaseException:
            self.stop()
            raise

    def _named(self, text: str) -> str:
        return text.replace("{dir}", str(self.directory))

    def _takesSignals(self) -> bool:
        return self._process.poll() is not None or catches(self.pid, signal.SIGTERM)

    def _table(self) -> str:
        """Read the table, which has a row for each line that the log had before it."""
        assert self._process.stdout is not None
        table = b""
        while b"\n" not in table or table.count(b"\n") <= self.log().count(": listening on "):
            if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
                raise AssertionError(f"twistd printed no more than {table!r}")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                self._process.wait()
                raise AssertionError(f"twistd did not start: {self.stderr()}{self.log()}")
            table += piece
        return table.decode()

    def place(self, service: str, kind: str = "tcp", host: str = "") -> Place:
        """
        Find where a service listens.

        @param service: its name in the table.
        @param kind: the sort of socket.
        @param host: the interface, if there is a choice.
        @return: the first such place.
        """
        for place in self.places:
            if (place.service, place.kind) == (service, kind) and host in ("", place.host):
                return place
        raise AssertionError(f"no {kind} of {service} among {self.places}")

    def log(self) -> str:
        """Read its log; Twisted begins a new file after each megabyte."""
        older = sorted(self.directory.glob("twistd.log.*"), key=lambda path: -int(path.suffix[1:]))
        parts = [*older, *self.directory.glob("twistd.log")]
        return "".join(path.read_text(errors="replace") for path in parts)

    def stderr(self) -> str:
        """Read what it wrote on stderr."""
        return (self.directory / "stderr").read_text()

    def signal(self, number: int) -> None:
        """
        Send it a signal.

        @param number: which.
        """
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """
        Wait for its end.

        @param seconds: when to fail.
        @return: its exit status; negative when a signal ended it.
        """
        return self._process.wait(seconds)

    def stop(self) -> None:
        """End it, and remove its directory."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def started(test: SynchronousTestCase, *words: str, suite: str = "") -> Twistd:
    """
    Start a C{twistd} for one test.

    @param test: stops it at its end.
    @param words: as for L{Twistd}.
    @param suite: likewise.
    @return: a running one.
    """
    twistd = Twistd(*words, suite=suite)
    test.addCleanup(twistd.stop)
    return twistd


def _finish(
    command: Sequence[str | Path], cwd: Path | None, env: Mapping[str, str], typed: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **env},
        input=typed,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def twistd(
    *words: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """
    Run a C{twistd} that ends by itself, or goes into the background.

    @param words: its arguments.
    @param cwd: where.
    @param env: added to its environment.
    @return: its end.
    """
    return _finish([BIN / "twistd", *words], cwd, env or {}, "")


def netsuite(
    *words: str, typed: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """
    Run the C{netsuite} program.

    @param words: its arguments.
    @param typed: its standard input.
    @param cwd: where.
    @return: its end.
    """
    return _finish([BIN / "netsuite", *words], cwd, {}, typed)


_shared: dict[type, Twistd] = {}


def _endShared() -> None:
    while _shared:
        _shared.popitem()[1].stop()


atexit.register(_endShared)


class ServedTestCase(SynchronousTestCase):
    """
    Tests that share one running C{twistd}, and each find its log without a traceback.

    Trial knows no fixture of a class: the first test starts it; the first test of the next class,
    or the end of the program, stops it.

    @cvar suite: its configuration, as for L{Twistd}.
    @cvar files: what lies in its directory.
    """

    suite: ClassVar[str] = ""
    files: ClassVar[Mapping[str, bytes]] = {}
    twistd: Twistd

    @classmethod
    def start(cls) -> Twistd:
        """Start the service."""
        return Twistd(suite=cls.suite, files=cls.files)

    def setUp(self) -> None:
        """Start, or find, the service."""
        cls = type(self)
        if cls not in _shared:
            _endShared()
            _shared[cls] = cls.start()
        self.twistd = _shared[cls]

    def tearDown(self) -> None:
        """Whatever a test did, nothing in the service went wrong."""
        before, found, after = self.twistd.log().partition("Traceback")
        self.assertFalse(found, f"{before[-200:]}{found}{after[:4000]}")
        self.assertEqual("", self.twistd.stderr())

    def open(self, service: str, kind: str = "tcp", host: str = "") -> socket.socket:
        """
        Connect to a service until the end of the test.

        @param service: its name in the table.
        @param kind: the sort of socket.
        @param host: the interface, if there is a choice.
        @return: a blocking socket.
        """
        made = self.twistd.place(service, kind, host).socket()
        self.addCleanup(made.close)
        return made


def accepted(heard: socket.socket) -> socket.socket:
    """
    Accept one connection.

    @param heard: listens.
    @return: a blocking socket.
    """
    made, _ = heard.accept()
    made.settimeout(SOCKET_TIMEOUT)
    return made
