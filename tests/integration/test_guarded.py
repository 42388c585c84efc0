"""
Real C{twistd} under a policy and an audit log: who gets what, what is written down, and what of it
outlives SIGHUP and SIGKILL.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import (
    BIN,
    SOCKET_TIMEOUT,
    Twistd,
    catches,
    eventually,
    kill,
    netsuite,
    scratch,
    started,
    twistd,
)
from tests.integration.tutorial import Refused, ask, get, readAll, runHeader

ME = f"unix:{pwd.getpwuid(os.geteuid()).pw_name}"

POLICY = f"""
[identities]
"{ME}" = ["owner"]
anonymous = ["guest"]
"cert:anna" = ["owner"]

[[roles.owner.exec]]
shell = true
durable = true

[[roles.guest.files]]
paths = ["/public/**"]

[[roles.owner.files]]
paths = ["/**"]
durable = true

[[roles.owner.proxy]]
to = ["127.0.0.1"]
"""

SUITE = """
[exec.main]
listen = ["unix:{dir}/exec.sock", "tcp:0:interface=127.0.0.1"]
dialect = "header"
policy = "policy.toml"
audit = "audit.log"

[files.main]
dialect = "get"
root = "{dir}/root"
listen = ["unix:{dir}/files.sock", "tcp:0:interface=127.0.0.1"]
policy = "./policy.toml"
audit = "{dir}/audit.log"
"""

FILES = {"root/a.txt": b"alpha\n", "root/public/b.txt": b"beta\n", "policy.toml": POLICY.encode()}


def records(path: Path) -> list[dict[str, Any]]:
    """Read an audit log; what is being written at this moment is not read yet."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]


class GuardedCase(SynchronousTestCase):
    """Starts a C{twistd} in a directory with a policy."""

    def start(self, suite: str = SUITE, files: Mapping[str, bytes] = FILES) -> Twistd:
        """Start it."""
        made = Twistd(suite=suite, files=files)
        self.addCleanup(made.stop)
        return made

    def open(self, running: Twistd, service: str, kind: str) -> socket.socket:
        """Connect until the end of the test."""
        made = running.place(service, kind).socket()
        self.addCleanup(made.close)
        return made

    def verified(self, directory: Path) -> None:
        """An audit log is as it was written."""
        done = netsuite("audit", "verify", *map(str, sorted(directory.glob("audit.log*"))))
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)

    def assertQuiet(self, running: Twistd) -> None:
        """Nothing went wrong."""
        self.assertNotIn("Traceback", running.log())
        self.assertNotIn("Unhandled", running.log())
        self.assertEqual("", running.stderr())


class PolicyTests(GuardedCase):
    """Who gets what."""

    def test_identities(self) -> None:
        """On one audit log of two services: the account on a Unix socket gets what it may, nobody
        what nobody may, and all of it can be read and verified once it has stopped."""
        running = self.start()
        mine, nobodys = (self.open(running, "exec.main", kind) for kind in ("unix", "tcp"))
        self.assertEqual(runHeader(mine, "echo hello")[1], b"hello\n")
        header, text = runHeader(nobodys, "echo hello")
        self.assertEqual((header["exit_status"], header["outcome"]), (126, "denied"))
        denial = b"the policy of this service does not allow it to anonymous."
        self.assertEqual(text, b"netsuite: " + denial + b"\n")
        mine, nobodys = (self.open(running, "files.main", kind) for kind in ("unix", "tcp"))
        self.assertEqual(get(mine, "a.txt"), b"alpha\n")
        self.assertEqual(get(nobodys, "/public//b.txt"), b"beta\n")
        for name in ("a.txt", "public/../a.txt", "missing"):
            with self.assertRaises(Refused) as caught:
                get(nobodys, name)
            self.assertEqual(str(caught.exception).encode(), b"err: denied: " + denial)
        self.assertIn(f"({ME}): runs b'echo hello'", running.log())
        running.signal(signal.SIGTERM)
        running.wait()
        self.assertQuiet(running)
        log = running.directory / "audit.log"
        self.assertEqual(
            [(each["event"], each["service"], each["identity"]) for each in records(log)],
            [
                ("audit.opened", "audit", ""),
                ("exec.start", "exec.main", ME),
                ("exec.end", "exec.main", ME),
                ("exec.start.denied", "exec.main", "anonymous"),
                ("files.read", "files.main", ME),
                ("files.read", "files.main", "anonymous"),
                *[("files.read.denied", "files.main", "anonymous")] * 3,
                ("audit.closed", "audit", ""),
            ],
        )
        self.verified(running.directory)

    def test_reload(self) -> None:
        """SIGHUP reads the policy again for the next command, also on an open connection; a bad
        one keeps what was, and the log says so."""
        running = self.start()
        mine = self.open(running, "exec.main", "unix")
        policy = running.directory / "policy.toml"
        self.assertEqual(runHeader(mine, "echo 1")[1], b"1\n")
        for text, says, allowed in (
            ("[identities\n", "The policy stays as it was before.", True),
            ("", "policy.toml was read again.", False),
            ("[roles]\nx = 3\n", "The policy stays as it was before.", False),
            (POLICY, "policy.toml was read again.", True),
        ):
            policy.write_text(text)
            before = running.log().count(says)
            running.signal(signal.SIGHUP)
            eventually(partial(self.grown, running, says, before), says)
            self.assertEqual(running.log().count(says), before + 1)
            header, _ = runHeader(mine, "echo 1")
            self.assertEqual(header["outcome"], "exited" if allowed else "denied", text)
        self.assertQuiet(running)

    def grown(self, running: Twistd, says: str, before: int) -> bool:
        """Tell whether the log says something once more."""
        return running.log().count(says) > before

    def test_hangupWithoutPolicy(self) -> None:
        """A C{twistd} without policy or certificates survives SIGHUP, too."""
        running = started(self, "netsuite-echo", "--listen=tcp:0:interface=127.0.0.1")
        client = self.open(running, "echo", "tcp")
        for _ in range(3):
            running.signal(signal.SIGHUP)
            self.assertEqual(ask(client, b"hello"), b"HELLO")

    def test_proxy(self) -> None:
        """A client that may not be connected never reaches the target, whatever it sends first."""
        with socket.socket() as target:
            target.bind(("127.0.0.1", 0))
            target.listen()
            target.settimeout(SOCKET_TIMEOUT)
            port = target.getsockname()[1]
            running = self.start(
                f"""
                [proxy.main]
                to = "127.0.0.1:{port}"
                listen = ["unix:{{dir}}/proxy.sock", "tcp:0:interface=127.0.0.1"]
                policy = "policy.toml"
                audit = "audit.log"
                """
            )
            stranger = self.open(running, "proxy.main", "tcp")
            stranger.send(b"early")
            # It is reset if what it had sent was not read.
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(readAll(stranger), b"")
            mine = self.open(running, "proxy.main", "unix")
            mine.send(b"hello")
            accepted, _ = target.accept()
            self.addCleanup(accepted.close)
            accepted.settimeout(SOCKET_TIMEOUT)
            self.assertEqual(accepted.recv(100), b"hello")
        where = f"anonymous may not be connected with 127.0.0.1:{port}"
        self.assertEqual(running.log().count(where), 1)
        events = [each["event"] for each in records(running.directory / "audit.log")]
        self.assertEqual(events, ["audit.opened", "proxy.connect.denied", "proxy.connect"])
        self.assertQuiet(running)

    def test_certificate(self) -> None:
        """Beyond loopback, by a certificate: anna is let in as herself, and the end of a command
        whose client has gone is recorded with her name and address."""
        running = self.certified()
        address = f"127.0.0.1:{running.place('exec.main').port}"
        directory = running.directory / "ca"
        anna = ("--cert", str(directory / "anna.pem"), "--ca", str(directory / "ca.pem"))
        told = ("exec", "--dialect", "header", *anna, address)
        done = netsuite(*told, "echo hello")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "hello\n", ""))
        done = netsuite(*told, "--timeout", "0.5", "sleep 1000")
        self.assertEqual(done.returncode, 124)
        log = running.directory / "audit.log"
        eventually(lambda: len(records(log)) == 5, "the end of the command")
        start, end = records(log)[-2:]
        self.assertEqual((start["event"], end["event"]), ("exec.start", "exec.end"))
        self.assertEqual(end["identity"], "cert:anna")
        self.assertEqual(start["peer"], end["peer"])
        self.assertEqual(end["outcome"], "signalled")
        self.assertQuiet(running)

    def certified(self) -> Twistd:
        """Start exec for clients with certificates."""
        directory = scratch(self) / "ca"
        for words in (
            ("init", str(directory)),
            ("issue", str(directory), "--server", "127.0.0.1"),
            ("issue", str(directory), "--client", "anna"),
        ):
            self.assertEqual(netsuite("ca", *words).returncode, 0)
        files = {f"ca/{path.name}": path.read_bytes() for path in directory.glob("*.pem")}
        return self.start(
            """
            [exec.main]
            listen = ["mtls:0:cert={dir}/ca/127.0.0.1.pem:clientCA={dir}/ca/ca.pem"]
            dialect = "header"
            policy = "policy.toml"
            audit = "audit.log"
            """,
            FILES | files,
        )


class NativeTests(GuardedCase):
    """Native exec under a policy and an audit log."""

    suite = """
    [exec.main]
    listen = ["unix:{dir}/exec.sock", "tcp:0:interface=127.0.0.1"]
    policy = "policy.toml"
    audit = "audit.log"
    """

    policy = f"""
    [identities]
    "{ME}" = ["owner"]

    [[roles.owner.exec]]
    argv = ["/bin/sh", "-c", "exit 3"]
    deny = true

    [[roles.owner.exec]]
    argv = ["/bin/sh", "-c", "..."]
    durable = true
    """

    def ask(self, running: Twistd, kind: str, line: str) -> tuple[int, str, str]:
        """Have a line run, and tell status and both streams."""
        address = running.place("exec.main", kind).text
        done = netsuite("exec", address, "--", "/bin/sh", "-c", line)
        return done.returncode, done.stdout, done.stderr

    def test_records(self) -> None:
        """Each identity gets what its rules say, and no word of the rules; what was decided and
        what came of it is in a log that can be verified, with digests of both streams."""
        running = self.start(self.suite, {"policy.toml": self.policy.encode()})
        self.assertEqual(self.ask(running, "unix", "echo hello; exit 2"), (2, "hello\n", ""))
        self.assertEqual(self.ask(running, "unix", "exit 3")[0], 126)
        status, _, told = self.ask(running, "tcp", "echo hello")
        self.assertEqual(
            (status, told),
            (126, "netsuite: the policy of this service does not allow it to anonymous.\n"),
        )
        running.signal(signal.SIGTERM)
        running.wait()
        self.assertQuiet(running)
        found = records(running.directory / "audit.log")
        self.assertEqual(
            [(each["event"], each["identity"]) for each in found],
            [
                ("audit.opened", ""),
                ("exec.start", ME),
                ("exec.end", ME),
                ("exec.start.denied", ME),
                ("exec.start.denied", "anonymous"),
                ("audit.closed", ""),
            ],
        )
        start, end = found[1:3]
        self.assertEqual(start["command"], ["/bin/sh", "-c", "echo hello; exit 2"])
        self.assertEqual((start["id"], start["peer"]), (end["id"], end["peer"]))
        self.assertEqual((end["outcome"], end["status"], end["stdout"]), ("exited", 2, 6))
        self.assertEqual(end["stdoutSha256"], hashlib.sha256(b"hello\n").hexdigest())
        self.assertEqual(end["stderrSha256"], hashlib.sha256(b"").hexdigest())
        self.verified(running.directory)

    def test_reload(self) -> None:
        """SIGHUP reads the policy again for the next command."""
        running = self.start(self.suite, {"policy.toml": self.policy.encode()})
        self.assertEqual(self.ask(running, "unix", "exit 4")[0], 4)
        (running.directory / "policy.toml").write_text("")
        running.signal(signal.SIGHUP)
        eventually(lambda: "policy.toml was read again." in running.log(), "another policy")
        self.assertEqual(self.ask(running, "unix", "exit 4")[0], 126)
        self.assertQuiet(running)


class StartTests(GuardedCase):
    """What is said before anything begins."""

    def setUp(self) -> None:
        """Have a directory with a policy and a root."""
        self.directory = scratch(self)
        (self.directory / "root").mkdir()
        (self.directory / "policy.toml").write_text(POLICY)

    def said(self, *words: str) -> str:
        """See a C{netsuite-files} end, and read its one line."""
        done = twistd(
            *("-n", "--pidfile=", "--logfile=twistd.log", "netsuite-files", "--root=root"),
            *("--listen=tcp:0:interface=127.0.0.1", *words),
            cwd=self.directory,
        )
        self.status = done.returncode
        self.assertRegex(done.stdout + done.stderr, r"\A[^\n]+\n\Z")
        return done.stdout + done.stderr

    def test_badPolicy(self) -> None:
        """A policy that is wrong is one sentence with file and line, and status 1."""
        (self.directory / "policy.toml").write_text("[identities]\nanonymous = 3\n")
        sentence = self.said("--policy=policy.toml", "--audit=audit.log")
        self.assertTrue(sentence.startswith("netsuite-files: "), sentence)
        self.assertIn(f"{self.directory}/policy.toml:2: identities.anonymous is 3", sentence)
        self.assertEqual(self.status, 1)
        self.assertEqual(sorted(os.listdir(self.directory)), ["policy.toml", "root"])

    def test_check(self) -> None:
        """A check reads the policy, opens no audit log, and leaves no file."""
        sentence = self.said("--policy=policy.toml", "--audit=audit.log", "--check")
        self.assertIn("is right", sentence)
        self.assertEqual(self.status, 0)
        self.assertEqual(sorted(os.listdir(self.directory)), ["policy.toml", "root"])

    def test_logInUse(self) -> None:
        """A log that another process writes is one sentence, and status 1; the other goes on."""
        running = self.start()
        sentence = self.said(f"--audit={running.directory}/audit.log")
        self.assertIn(f"The audit log '{running.directory}/audit.log' cannot be used", sentence)
        self.assertIn("another process writes it", sentence)
        self.assertEqual(self.status, 1)
        mine = self.open(running, "files.main", "unix")
        self.assertEqual(get(mine, "a.txt"), b"alpha\n")
        self.verified(running.directory)

    def test_daemon(self) -> None:
        """A daemon has its log as a foreground process has: nobody else can write it, and the
        policy is found after it has changed its directory."""
        pidfile = self.directory / "pid"
        done = twistd(
            *(f"--pidfile={pidfile}", "--logfile=twistd.log", "--rundir=root"),
            *("netsuite-files", "--dialect=get", "--root=root"),
            f"--listen=unix:{self.directory}/s",
            *("--policy=policy.toml", "--audit=audit.log"),
            cwd=self.directory,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        pid = int(pidfile.read_text())
        self.addCleanup(kill, pid)
        self.assertIn("another process writes it", self.said("--audit=audit.log"))
        log = self.directory / "twistd.log"
        os.kill(pid, signal.SIGHUP)
        eventually(lambda: "was read again" in log.read_text(), "a policy that is read again")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(SOCKET_TIMEOUT)
            client.connect(f"{self.directory}/s")
            self.assertRaises(Refused, get, client, "nothing")
        os.kill(pid, signal.SIGTERM)
        path = self.directory / "audit.log"
        eventually(lambda: records(path)[-1]["event"] == "audit.closed", "the end of the log")
        events = [each["event"] for each in records(path)]
        self.assertEqual(events, ["audit.opened", "files.read", "audit.closed"])


class StopTests(GuardedCase):
    """How a log ends whose services are busy."""

    def busy(self) -> Twistd:
        """Start services, and a command and many requests on them."""
        running = self.start()
        self.pids = running.directory / "pids"
        command = self.open(running, "exec.main", "unix")
        command.send(f"echo $$ >{self.pids}; sleep 1000".encode())
        eventually(lambda: self.pids.exists() and self.pids.read_text(), "a running command")
        self.addCleanup(kill, int(self.pids.read_text()))
        mine = self.open(running, "files.main", "unix")
        for _ in range(20):
            self.assertEqual(get(mine, "a.txt"), b"alpha\n")
        for _ in range(200):
            mine.send(b"get missing")
        return running

    def test_terminate(self) -> None:
        """A service that is stopped writes down the end of the command that it ends."""
        running = self.busy()
        running.signal(signal.SIGTERM)
        running.wait()
        found = records(running.directory / "audit.log")
        ends = [each for each in found if each["event"] == "exec.end"]
        self.assertEqual([each["outcome"] for each in ends], ["signalled"])
        self.assertEqual(found[-1]["event"], "audit.closed")
        self.verified(running.directory)
        self.assertQuiet(running)

    def test_kill(self) -> None:
        """After SIGKILL in the midst of work the log is as it was written, has what was done, and
        is gone on with by the next start."""
        running = self.busy()
        running.signal(signal.SIGKILL)
        running.wait()
        self.verified(running.directory)
        log = running.directory / "audit.log"
        before = records(log)
        events = [each["event"] for each in before]
        self.assertEqual(events.count("exec.start"), 1)
        self.assertEqual(events.count("exec.end"), 0)
        self.assertGreaterEqual(events.count("files.read"), 20)
        # As if the machine itself had died in the middle of a line.
        with log.open("ab") as file:
            file.write(b'{"n":')
        self.again(running.directory)
        self.verified(running.directory)
        after = records(log)
        self.assertEqual(after[: len(before)], before)
        self.assertEqual(
            [each["event"] for each in after[len(before) :]],
            ["audit.torn", "audit.opened", "audit.closed"],
        )

    def again(self, directory: Path) -> None:
        """Start and stop the same services once more."""
        process = subprocess.Popen(
            [str(BIN / "twistd"), "-n", "--pidfile=", "--logfile=again.log"]
            + ["netsuite", "--config=suite.toml"],
            cwd=directory,
            stdin=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait)
        self.addCleanup(partial(kill, process.pid))
        log = directory / "again.log"
        eventually(
            lambda: log.exists() and log.read_text().count("listening on") == 4, "four addresses"
        )
        eventually(lambda: catches(process.pid, signal.SIGTERM), "a service that takes signals")
        process.terminate()
        process.wait(SOCKET_TIMEOUT)
