"""
The same commands through OpenSSH and through C{netsuite exec}: same output, same status.
"""

from __future__ import annotations

import os
import random
import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import (
    BIN,
    PATIENCE,
    Twistd,
    eventually,
    freePort,
    scratch,
)
from tests.peers.programs import program, run

#: Any bytes, in an order that no one would write; large enough to fill every buffer.
BINARY = random.Random(4).randbytes(3_000_000)

#: Connections of either at a time: each costs a start of Python, or a key exchange.
AT_ONCE = 4


@dataclass(frozen=True)
class Case:
    """
    A command that both run.

    @ivar name: what is looked at.
    @ivar argv: program and arguments, which C{ssh} is given as words of a line.
    @ivar typed: its input; C{None} for none.
    @ivar cwd: where it runs, as the C{--cwd} of C{netsuite exec} and the C{cd} of C{ssh}.
    @ivar env: what is set for it, likewise.
    @ivar ssh: what C{ssh} ends with, where that is by design not what C{netsuite exec} does.
    @ivar said: what C{netsuite exec} says of an end that is no exit, on standard error.
    """

    name: str
    argv: Sequence[str]
    typed: bytes | None = None
    cwd: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    ssh: int | None = None
    said: bytes = b""

    @property
    def line(self) -> str:
        """It as a line for the shell that C{ssh} talks to."""
        before = [] if self.cwd is None else ["cd", shlex.quote(self.cwd), "&&"]
        if self.env:
            before += ["env", *(shlex.quote(f"{name}={value}") for name, value in self.env.items())]
        return " ".join([*before, *map(shlex.quote, self.argv)])

    @property
    def options(self) -> list[str]:
        """What C{netsuite exec} is told before C{--}."""
        told = [] if self.typed is None else ["-i"]
        told += [] if self.cwd is None else ["--cwd", self.cwd]
        for name, value in self.env.items():
            told += ["--env", f"{name}={value}"]
        return told


def sh(name: str, script: str, **told: object) -> Case:
    """Write a case that is a script."""
    return Case(name, ("sh", "-c", script), **told)  # type: ignore[arg-type]


CASES = (
    Case("nothing", ("true",)),
    Case("a status", ("false",)),
    sh("the largest status", "exit 255"),
    sh("a status after output", "echo out; exit 42"),
    sh("both streams", "echo out; echo err >&2; echo out again; echo err again >&2"),
    sh("standard error alone", "echo only >&2; exit 1"),
    Case("no end of line", ("printf", "%s", "no newline")),
    Case("binary input", ("cat",), typed=BINARY),
    Case("binary output", ("head", "-c", "1000000", "/dev/zero")),
    sh("large output", "seq 300000"),
    sh("large on both", "seq 100000 >&2 & seq 100000; wait"),
    Case("quoting", ("printf", "[%s]", "a b", "$HOME", "'x'", '"y"', ";id", "*", "\\", "")),
    Case("a newline in a word", ("printf", "%s", "a\nb\r\nc")),
    Case("unicode", ("printf", "%s", "naïve 你好 🎉")),
    Case("bytes that are no text", ("printf", "%s", "\udcff\udcfe")),
    Case("an environment", ("printenv", "LC_TEST"), env={"LC_TEST": "a b"}),
    Case("a directory", ("pwd",), cwd="/usr/lib"),
    Case("end of input", ("wc", "-c"), typed=b""),
    Case("input after its end", ("sort", "-n"), typed=b"3\n1\n2"),
    Case("more input than is read", ("head", "-c", "5"), typed=b"hello, world\n"),
    Case("no such program", ("no-such-program-here",), ssh=127),
    Case("no input", ("cat",), typed=b""),
    sh("the group of the command", "sleep 0.1 & wait; echo done"),
    sh("killed", "echo before; kill -KILL $$", ssh=255, said=b"KILL"),
    sh("terminated", "echo before; kill -TERM $$", ssh=255, said=b"TERM"),
)


class Sshd:
    """A daemon for this test alone, with keys of its own, on a free port of loopback."""

    def __init__(self, test: SynchronousTestCase, daemon: str, keygen: str) -> None:
        """Start it until the end of the test."""
        self.directory = scratch(test)
        # The daemon refuses keys that others could have written.
        self.directory.chmod(0o700)
        for name in ("host", "user"):
            run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / name))
        (self.directory / "authorized").write_bytes((self.directory / "user.pub").read_bytes())
        self.port = freePort()
        config = self.directory / "config"
        config.write_text(
            f"""
            Port {self.port}
            ListenAddress 127.0.0.1
            HostKey {self.directory}/host
            AuthorizedKeysFile {self.directory}/authorized
            PidFile none
            UsePAM no
            PasswordAuthentication no
            PermitRootLogin yes
            StrictModes no
            MaxStartups 100
            """
        )
        if not os.geteuid():
            # What it separates its rights in; Debian's service makes it.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (self.directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [daemon, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log
            )
        test.addCleanup(process.wait)
        test.addCleanup(process.terminate)
        eventually(lambda: "listening" in self.log() or process.poll() is not None, "sshd")
        if process.poll() is not None:
            raise AssertionError(self.log())

    def log(self) -> str:
        """Read what it has said."""
        return (self.directory / "log").read_text()

    def command(self, ssh: str, line: str, *, input: bool) -> list[str]:
        """Write a command of a client."""
        told = ("StrictHostKeyChecking=no", f"UserKnownHostsFile={self.directory}/known")
        options = [f"-o{each}" for each in (*told, "BatchMode=yes", "LogLevel=ERROR")]
        return [
            *(ssh, "-F", "none", "-i", str(self.directory / "user"), "-p", str(self.port)),
            *options,
            *(() if input else ("-n",)),
            *("127.0.0.1", line),
        ]


class SameTests(SynchronousTestCase):
    """OpenSSH's daemon and client beside ours, on one machine, as one user."""

    def setUp(self) -> None:
        """Start both."""
        self.ssh = program("ssh", "openssh-client")
        keygen = program("ssh-keygen", "openssh-client")
        daemon = program("sshd", "openssh-server")
        self.sshd = Sshd(self, daemon, keygen)
        self.twistd = Twistd("netsuite-exec", "--allow-any", "--listen=tcp:0:interface=127.0.0.1")
        self.addCleanup(self.twistd.stop)

    def test_same(self) -> None:
        """Standard output, standard error and status are the same, byte by byte, but where ssh
        cannot tell a signal: there it says 255, as of its own failures, and we 128 and the signal,
        and a sentence."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            theirs = list(pool.map(self.theirs, CASES))
            ours = list(pool.map(self.ours, CASES))
        self.assertGreaterEqual(len(CASES), 20)
        for case, there, here in zip(CASES, theirs, ours, strict=True):
            self.assertEqual(there.stdout == here.stdout, True, (case.name, there, here))
            if case.ssh is None:
                self.assertEqual(
                    (there.returncode, there.stderr), (here.returncode, here.stderr), case.name
                )
                continue
            self.assertEqual(there.returncode, case.ssh, (case.name, there))
            self.assertRegex(here.stderr, rb"\Anetsuite: [^\n]*\n\Z", case.name)
            self.assertIn(case.said, here.stderr)
            expected = {b"KILL": 137, b"TERM": 143}.get(case.said, case.ssh)
            self.assertEqual(here.returncode, expected, (case.name, here))
        self.assertNotIn("Traceback", self.twistd.log())

    def theirs(self, case: Case) -> subprocess.CompletedProcess[bytes]:
        """Run it through ssh."""
        return self.finish(
            case, self.sshd.command(self.ssh, case.line, input=case.typed is not None)
        )

    def ours(self, case: Case) -> subprocess.CompletedProcess[bytes]:
        """Run it through our program."""
        address = self.twistd.place("exec").text
        return self.finish(
            case, [str(BIN / "netsuite"), "exec", address, *case.options, "--", *case.argv]
        )

    def finish(self, case: Case, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Run a client to its end."""
        return subprocess.run(
            list(command),
            input=case.typed or b"",
            capture_output=True,
            timeout=2 * PATIENCE,
            check=False,
        )
