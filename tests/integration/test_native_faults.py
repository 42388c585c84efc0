"""
Faults of every kind against a real native exec service: whatever a peer or a command does, others
are served, nothing is left behind, and what is said of it is safe to show.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import pwd
import random
import resource
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
from twisted.trial.unittest import SkipTest

from tests.integration.console import Console
from tests.integration.execwire import (
    CODEC,
    FAMILY,
    HELLO,
    ExecTestCase,
    Wire,
    busy,
    environment,
    family,
    framed,
    living,
    lone,
    memory,
    packed,
    reset,
)
from tests.integration.processes import (
    BIN,
    PATIENCE,
    SOCKET_TIMEOUT,
    Twistd,
    accepted,
    bearing,
    eventually,
    netsuite,
    scratch,
)
from tests.integration.relay import Relay
from twisted_netsuite.rexec.messages import (
    FRAME,
    MAX_ARGUMENTS,
    Attach,
    Cancel,
    Credit,
    Detach,
    Detached,
    End,
    Kill,
    Killed,
    List,
    Listed,
    Resize,
    Signal,
    Start,
    Started,
    Stderr,
    Stdin,
    StdinEof,
    Stdout,
    Tally,
    Terminal,
)
from twisted_netsuite.rexec.outcome import Denied, Exited, Limit, NotStarted, Signalled
from twisted_netsuite.wire.session import (
    Error,
    Goodbye,
    Limits,
    Ping,
    Pong,
    Record,
    Welcome,
)

NOTHING = Tally(count=0, sha256=hashlib.sha256().digest())

#: One of each record, as it might come first.
EACH: tuple[Record, ...] = (
    Attach(channel=1, id="abc"),
    Started(channel=1, id="abc"),
    Stdin(channel=1, data=b"x"),
    StdinEof(channel=1),
    Stdout(channel=1, data=b"x"),
    Stderr(channel=1, data=b"x"),
    Credit(channel=1, stream="stdout", count=1),
    Signal(channel=1, name="TERM"),
    Resize(channel=1, rows=1, cols=1),
    Cancel(channel=1),
    Detach(channel=1),
    Detached(channel=1),
    End(channel=1, outcome=Exited(code=0), stdout=NOTHING, stderr=NOTHING),
    List(channel=1),
    Listed(channel=1),
    Kill(channel=1, id="abc"),
    Killed(channel=1),
    Welcome(version=1, server="x", identity="root", limits=Limits(frame=FRAME), ping=30),
    Error(code="denied", message="x"),
    Ping(id=1),
    Pong(id=1),
)

#: Bytes by which a service may grow under a flood: less than any of these needs if it is kept.
GROWTH = 32 * 2**20

#: What a person is never to see on a terminal, nor an operator in a log.
HOSTILE = b"\x1b]0;owned\x07\x1b[2J\r\nroot: all is well\x9b31m\xff\xfe\xe2\x80\xae"


class UnprovenTests(ExecTestCase):
    """Before anybody has proven who it is."""

    suite = """
    [exec.main]
    listen = ["unix:{dir}/exec.sock", "tcp:0:interface=127.0.0.1"]
    allow-any = true
    auth = ["file:{dir}/tokens"]
    penalty = 0
    max-per-source = 0
    first-message-timeout = 1
    """
    files = {"tokens": b"anna:s3cret\n"}

    def wire(self, *, known: bool = True, kind: str = "unix") -> Wire:  # type: ignore[override]
        """Connect, as anna or as nobody."""
        hello = msgspec.structs.replace(HELLO, user="anna", token="s3cret") if known else None
        return Wire(self, self.twistd.place("exec.main", kind), hello=hello)

    def canary(self) -> tuple[Path, Start]:
        """Name a file, and the command that would make it."""
        path = self.twistd.directory / f"canary-{self.id()}"
        return path, Start(channel=1, argv=(b"/usr/bin/touch", os.fsencode(path)))

    def test_everyRecord(self) -> None:
        """Each record of the protocol that comes before HELLO ends the connection with an error,
        and has no effect."""
        path, start = self.canary()
        for record in (*EACH, start, Goodbye()):
            wire = self.wire(known=False)
            # What follows is not looked at, either.
            wire.send(record, start)
            self.assertEqual(wire.refused().code, "protocol", record)
        self.assertServes()
        self.assertFalse(path.exists())

    def test_behindHello(self) -> None:
        """A command that is sent in one piece with a HELLO of nobody, of a wrong token or for
        another service is not run."""
        path, start = self.canary()
        anna = msgspec.structs.replace(HELLO, user="anna", token="s3cret")
        for hello, kind, code in (
            (HELLO, "tcp", "unauthenticated"),
            (anna, "tcp", "unauthenticated"),
            # Nothing may come while a token is checked.
            (msgspec.structs.replace(anna, token="wrong"), "unix", "protocol"),
            (msgspec.structs.replace(anna, user="x\x1b[2J"), "unix", "protocol"),
            (msgspec.structs.replace(anna, service="chat"), "unix", "unsupported"),
            (msgspec.structs.replace(anna, versions=(9,)), "unix", "unsupported"),
            (msgspec.structs.replace(anna, token=None), "unix", "protocol"),
        ):
            wire = self.wire(known=False, kind=kind)
            wire.send(hello, start, start)
            error = wire.refused()
            lone(error)
            self.assertEqual(error.code, code, error)
        wire = self.wire(known=False)
        wire.send(msgspec.structs.replace(anna, token="wrong"))
        self.assertEqual(wire.refused().code, "unauthenticated")
        self.assertServes()
        self.assertFalse(path.exists())
        self.assertNotIn("\x1b", self.twistd.log())

    def test_endlessBytes(self) -> None:
        """Bytes without end from nobody are ended at once, and not kept."""
        before = memory(self.twistd)
        for data, code in (
            (b"\xff" * 2**24, "limit"),
            (b"A" * 2**24, "limit"),
            (bytes(2**24), "protocol"),
            (framed(b"A" * 8000) * 2000, "protocol"),
            (b"GET / HTTP/1.1\r\n" * 2**20, "limit"),
            (random.Random(4).randbytes(2**24), "limit"),
        ):
            wire = self.wire(known=False)
            wire.flood(data)
            self.assertEqual(wire.refused().code, code, data[:20])
        self.assertLess(memory(self.twistd) - before, GROWTH)
        self.assertServes()

    def test_drip(self) -> None:
        """A HELLO that drips a byte at a time has no more time than one that does not come."""
        for silent in (False, True):
            wire = self.wire(known=False)
            begun = time.monotonic()
            wire.socket.settimeout(0.05)
            for byte in packed(msgspec.structs.replace(HELLO, client="x" * 64)) * 20:
                try:
                    if not silent:
                        wire.socket.send(bytes([byte]))
                    wire.socket.recv(1, socket.MSG_PEEK)
                    break
                except TimeoutError:
                    continue
            wire.socket.settimeout(SOCKET_TIMEOUT)
            self.assertEqual(wire.refused().code, "timed-out")
            self.assertGreater(time.monotonic() - begun, 0.9)
        self.assertServes()


class FrameTests(ExecTestCase):
    """What is no record, and what is one at its limits."""

    def test_lengths(self) -> None:
        """A frame of no bytes, and one longer than any may be, end the session before anything of
        it has come; the longest is served."""
        for length, code in (
            (0, "protocol"),
            (FRAME + 1, "limit"),
            (2**31 - 1, "limit"),
            (2**31, "limit"),
            (2**32 - 1, "limit"),
        ):
            wire = self.wire()
            wire.socket.sendall(struct.pack("!I", length))
            self.assertEqual(wire.refused().code, code, length)
        for length in (FRAME - 1, FRAME):
            data = self.sized(length)
            wire = self.wire()
            wire.socket.sendall(framed(data))
            done = wire.finish(1)
            self.assertEqual((done.outcome, done.stdout), (Exited(code=0), b""))
        wire = self.wire()
        wire.socket.sendall(framed(self.sized(FRAME + 1)))
        self.assertEqual(wire.refused().code, "limit")
        self.assertServes()

    def sized(self, length: int) -> bytes:
        """Write a command as just so many bytes."""
        words = [b"x" * 60_000] * (length // 60_000)
        for more in range(8):
            argv = (b"/bin/true", *words, b"y" * max(0, length % 60_000 - 80 - more))
            data = CODEC.encode(Start(channel=1, argv=argv))
            rest = length - len(data)
            data = CODEC.encode(Start(channel=1, argv=(*argv[:-1], argv[-1] + b"y" * rest)))
            if len(data) == length:
                return data
        raise AssertionError(length)

    def test_splits(self) -> None:
        """A frame that comes in two parts, cut anywhere, is the same frame; one that is cut off by
        the end of the connection has no effect."""
        path = self.twistd.directory / "cut"
        frame = packed(Start(channel=1, argv=(b"/bin/echo", b"hello")))
        for cut in range(1, len(frame)):
            wire = self.wire()
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.socket.sendall(frame[:cut])
            wire.flood(b"")
            wire.socket.sendall(frame[cut:])
            self.assertEqual(wire.finish(1).stdout, b"hello\n")
        frame = packed(Start(channel=1, argv=(b"/usr/bin/touch", os.fsencode(path))))
        for cut in range(1, len(frame), 7):
            wire = self.wire()
            wire.socket.sendall(frame[:cut])
            if cut % 2:
                reset(wire.socket)
            else:
                wire.socket.shutdown(socket.SHUT_WR)
                while wire.read() is not None:
                    continue
        self.assertServes()
        self.assertFalse(path.exists())

    def test_byteByByte(self) -> None:
        """Answers that arrive a byte at a time are whole for our own client."""
        relay = Relay(self.twistd.place("exec.main"), split=1)
        self.addCleanup(relay.close)
        done = netsuite("exec", relay.place.text, "--", "sh", "-c", "echo hello; echo no >&2")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "hello\n", "no\n"))

    def test_tinyFrames(self) -> None:
        """A million frames of a byte end at the first; a hundred thousand records that are about
        nothing any more are read past; neither costs memory, or others their answers."""
        before = memory(self.twistd)
        flooding = self.wire()
        flood = threading.Thread(target=flooding.flood, args=(framed(b"\xc0") * 1_000_000,))
        flood.start()
        self.assertServes()
        flood.join(PATIENCE)
        self.assertEqual(flooding.refused().code, "protocol")
        wire = self.wire()
        done = wire.run("true")
        late = packed(Credit(channel=done.end.channel, stream="stdout", count=1))
        wire.socket.sendall(late * 100_000)
        self.assertEqual(wire.run("echo", "on").stdout, b"on\n")
        self.assertLess(memory(self.twistd) - before, GROWTH)

    def test_pickle(self) -> None:
        """A pickle that would run something when it is read is no record, and runs nothing."""
        path = self.twistd.directory / "unpickled"
        data = b"cos\nsystem\n(S'touch %s'\ntR." % os.fsencode(path)
        for frame in (data, CODEC.encode(Pong(id=1)) + data):
            wire = self.wire()
            wire.socket.sendall(framed(frame))
            self.assertEqual(wire.refused().code, "protocol")
        self.assertServes()
        self.assertFalse(path.exists())

    def test_garbage(self) -> None:
        """Records with anything in them that may not be there end the session with the path of
        what is wrong, whatever they are about."""
        rng = random.Random(7)
        whole = [CODEC.encode(record) for record in EACH]
        for _ in range(150):
            data = bytearray(rng.choice(whole))
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            wire = self.wire()
            wire.flood(framed(bytes(data)))
            with contextlib.suppress(OSError):
                wire.socket.shutdown(socket.SHUT_WR)
            while (record := wire.read()) is not None:
                if isinstance(record, Error):
                    lone(record)
        self.assertServes()
        self.assertNotIn("\x1b", self.twistd.log())


class ZeroTests(ExecTestCase):
    """Limits that a peer sets to nothing."""

    def test_noCredit(self) -> None:
        """A client that grants nothing is sent nothing: its command waits, for no memory and no
        time of the processor, and a byte that is granted is one byte."""
        wire = self.wire()
        channel = wire.start("yes; true", stdoutCredit=0, stderrCredit=0)
        wire.expect(Started)
        before, used = memory(self.twistd), busy(self.twistd)
        # Something else that takes its time is the only event there is.
        self.assertEqual(self.wire().run("sleep", "1").outcome, Exited(code=0))
        self.assertLess(memory(self.twistd) - before, GROWTH)
        self.assertLess(busy(self.twistd) - used, 0.5)
        wire.send(Credit(channel=channel, stream="stdout", count=1))
        self.assertEqual(wire.expect(Stdout).data, b"y")
        wire.send(Cancel(channel=channel))
        end = wire.expect(End)
        self.assertEqual((end.outcome, end.stdout.count), (Signalled(name="TERM", number=15), 1))

    def test_fields(self) -> None:
        """Where nothing makes no sense the session ends, and the error names the field."""
        start = Start(channel=1, argv=(b"true",))
        replace = msgspec.structs.replace
        for record, field in (
            (replace(start, timeLimit=0.0), "timeLimit"),
            (replace(start, ttl=0), "ttl"),
            (replace(start, key=""), "key"),
            (replace(start, argv=()), "argv"),
            (replace(start, channel=0), "channel"),
            (replace(start, stdoutCredit=-1), "stdoutCredit"),
            (Credit(channel=1, stream="stdout", count=0), "count"),
            (Stdin(channel=1, data=b""), "data"),
            (Attach(channel=1, id=""), "id"),
        ):
            wire = self.wire()
            wire.send(record)
            error = wire.refused()
            self.assertEqual(error.code, "protocol", error)
            self.assertIn(field, error.message)
        self.assertServes()

    def test_terminal(self) -> None:
        """A terminal of no size is one."""
        pty = Terminal(term="dumb", rows=0, cols=0)
        done = self.wire().run("stty", "size", pty=pty)
        self.assertEqual((done.outcome, done.stdout), (Exited(code=0), b"0 0\r\n"))


class WordTests(ExecTestCase):
    """What is in the words of a command, and around it."""

    def test_literal(self) -> None:
        """Words reach the program as they are, whatever a shell would make of them."""
        path = self.twistd.directory / "canary"
        touch = os.fsencode(f"touch {path}")
        given = [
            b";" + touch,
            b"$(" + touch + b")",
            b"`" + touch + b"`",
            b"\n" + touch,
            b"a\nb\r\nc",
            b"-rf",
            b"--",
            b"--help",
            b"*",
            b"~",
            b"$HOME",
            b"",
            b"'\"\\",
            HOSTILE,
            bytes(range(1, 256)),
        ]
        done = self.wire().run("/usr/bin/printf", "%s\\0", *given)
        self.assertEqual(done.stdout.split(b"\0")[:-1], given)
        self.assertFalse(path.exists())

    def test_literalFromHere(self) -> None:
        """So they do from our program, which takes none of them for its own behind --."""
        given = ["; true", "$(true)", "a\nb", "-rf", "--timeout=1", "--", "*", "", "\udcff\udcfe"]
        command: Sequence[str | Path] = [
            *(BIN / "netsuite", "exec", self.address, "--", "/usr/bin/printf", "%s|"),
            *given,
        ]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        self.assertEqual(done.stdout, b"".join(os.fsencode(word) + b"|" for word in given))
        self.assertEqual((done.returncode, done.stderr), (0, b""))

    def test_nul(self) -> None:
        """A NUL, in a word, a variable, a directory or a program, is denied, and cuts nothing."""
        for options in (
            {"argv": (b"/bin/echo", b"a\0b")},
            {"argv": (b"/bin/echo\0x",)},
            {"argv": (b"/bin/echo",), "env": {"A": b"a\0b"}},
            {"argv": (b"/bin/echo",), "env": {"A\0B": b"a"}},
            {"argv": (b"/bin/echo",), "cwd": b"/tmp\0x"},
            {"argv": (b"echo a\0b",), "shell": True},
        ):
            wire = self.wire()
            wire.send(Start(channel=1, **options))
            end = wire.expect(End)
            assert isinstance(end.outcome, Denied), end
            self.assertRegex(end.outcome.reason, "NUL|is no name of an environment variable")
            self.assertNotIn("\0", end.outcome.reason)

    def test_many(self) -> None:
        """As many words as there may be are passed on, one more is refused, and from our program a
        hundred thousand are one sentence."""
        wire = self.wire()
        done = wire.run("/bin/sh", "-c", "echo $#", *[""] * (MAX_ARGUMENTS - 3))
        self.assertEqual(done.stdout, f"{MAX_ARGUMENTS - 4}\n".encode())
        wire.send(Start(channel=9, argv=(b"/bin/true", *[b""] * MAX_ARGUMENTS)))
        self.assertIn("argv", wire.refused().message)
        wire = self.wire()
        wire.flood(packed(Start(channel=9, argv=(b"/bin/true", *[b"x"] * 100_000))))
        self.assertEqual(wire.refused().code, "limit")
        typed = netsuite("exec", self.address, "--", "true", *["x"] * 100_000)
        self.assertEqual(typed.returncode, 125)
        self.assertRegex(typed.stderr, r"\Anetsuite: The command has 100001 arguments, [^\n]*\n\Z")

    def test_variables(self) -> None:
        """What changes how programs run can be set by no client, though it may run everything."""
        for name in ("PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "IFS"):
            done = self.wire().run(b"/usr/bin/env", env={name: b"/tmp/x"})
            assert isinstance(done.outcome, Denied), (name, done)
        typed = netsuite("exec", self.address, "--env", "LD_PRELOAD=/tmp/x", "--", "env")
        self.assertEqual((typed.returncode, typed.stdout), (126, ""))
        self.assertRegex(typed.stderr, r"\Anetsuite: [^\n]*\n\Z")
        done = self.wire().run(b"/usr/bin/env", env={"A=B": b"x"})
        assert isinstance(done.outcome, Denied), done

    def test_missing(self) -> None:
        """A program, or a directory, that is not there is status 127, one that may not be run 126;
        one sentence tells the client and the log why."""
        there = "/etc/passwd"
        for argv, cwd, status in (
            (("no-such-program",), None, 127),
            (("/no/such/program",), None, 127),
            ((f"{there}/x",), None, 127),
            (("true",), "/no/such/directory", 127),
            (("true",), there, 127),
            ((there,), None, 126),
            (("/etc",), None, 126),
        ):
            words = map(os.fsencode, argv)
            done = self.wire().run(*words, cwd=None if cwd is None else os.fsencode(cwd))
            assert isinstance(done.outcome, NotStarted), done
            self.assertEqual((done.outcome.status, done.started), (status, None), (argv, cwd))
            self.assertRegex(done.outcome.reason, r"\A[^\n]*\.\Z")
            self.logged(f"): {done.outcome.reason}")
        typed = netsuite("exec", self.address, "--cwd", "/no/such", "--", "true")
        self.assertEqual((typed.returncode, typed.stdout), (127, ""))
        self.assertRegex(typed.stderr, r"\Anetsuite: [^\n]*/no/such[^\n]*\.\n\Z")

    def test_deletedDirectory(self) -> None:
        """A directory that is deleted under a command, or under the service, is nothing to it."""
        gone = self.twistd.directory / "gone"
        gone.mkdir()
        script = "read x; ls; echo $?"
        wire = self.wire()
        channel = wire.start(script, cwd=os.fsencode(gone), stdin=True)
        started = wire.expect(Started)
        gone.rmdir()
        wire.send(Stdin(channel=channel, data=b"\n"))
        self.assertEqual(wire.finish(channel, started).outcome, Exited(code=0))
        done = self.wire().run("true", cwd=os.fsencode(gone))
        assert isinstance(done.outcome, NotStarted), done
        self.assertEqual(done.outcome.code, "not-found")


class SurroundingsTests(ExecTestCase):
    """A service whose own environment is full of traps and secrets."""

    @classmethod
    def start(cls) -> Twistd:
        """Start it with them."""
        path = scratchFile()
        traps = {
            "BASH_ENV": str(path),
            "ENV": str(path),
            "LD_LIBRARY_PATH": "/nonexistent",
            "PYTHONSTARTUP": str(path),
            "AWS_SECRET_ACCESS_KEY": "secret",
            "IFS": "e",
        }
        before = dict(os.environ)
        os.environ.update(traps)
        try:
            return Twistd(suite=cls.suite)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def test_nothing(self) -> None:
        """None of them reaches a command."""
        done = self.wire().run(b"/usr/bin/env")
        names = {line.partition(b"=")[0].decode() for line in done.stdout.splitlines()}
        known = {"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TZ", "USER"}
        self.assertEqual({name for name in names if not name.startswith("LC_")} - known, set())
        self.assertEqual(self.wire().run("bash", "-c", "echo hello").stdout, b"hello\n")
        self.assertEqual(self.wire().run("echo", "$IFS", shell=False).stdout, b"$IFS\n")

    def test_descriptors(self) -> None:
        """Nor does any descriptor, or a handler of a signal."""
        done = self.wire().run("sh", "-c", "ls /proc/self/fd; grep Sig[BI] /proc/self/status")
        *descriptors, blocked, ignored = done.stdout.split(b"\n")[:-1]
        self.assertEqual(descriptors[:3], [b"0", b"1", b"2"])
        # The one more is the directory that ls reads.
        self.assertEqual(len(descriptors), 4)
        own = 3 << 31  # The two signals of the C library, which it has ignored in all it starts.
        self.assertEqual([int(line.split()[1], 16) & ~own for line in (blocked, ignored)], [0, 0])


def scratchFile() -> Path:
    """Write a file that gives away whoever reads it as a shell."""
    path = Path("/tmp") / f"netsuite-trap-{os.getpid()}"
    path.write_text("echo trapped\n")
    # It is there for as long as the service, which ends with this process at the latest.
    atexit.register(path.unlink, missing_ok=True)
    return path


class ProcessTests(ExecTestCase):
    """What commands do that are not to be trusted."""

    def relatives(self, word: str, last: str) -> tuple[Wire, int]:
        """Start them all, and wait until they are there."""
        wire = self.wire()
        channel = wire.start(FAMILY + last, env=environment(word))
        wire.expect(Started)
        eventually(partial(family, word), "the whole family")
        return wire, channel

    def test_end(self) -> None:
        """When a command has ended by itself all that it started ends with it: what was forked
        twice, has its own session, ignores TERM or is stopped; and its END waits for none of it."""
        word = self.mark("end")
        wire, channel = self.relatives(word, "echo on; read x")
        self.assertEqual(wire.finish(channel).outcome, Exited(code=1))
        self.assertEqual(living(bearing(word)), [])

    def test_cancel(self) -> None:
        """When it is cancelled, too."""
        word = self.mark("cancel")
        wire, channel = self.relatives(word, "sleep 1000")
        wire.send(Cancel(channel=channel))
        self.assertEqual(wire.finish(channel).outcome, Signalled(name="TERM", number=15))
        self.assertEqual(living(bearing(word)), [])

    def test_disconnect(self) -> None:
        """When its client has gone, too, by FIN or by RST."""
        for kind in ("fin", "rst"):
            word = self.mark(kind)
            wire, _ = self.relatives(word, "sleep 1000")
            reset(wire.socket) if kind == "rst" else wire.close()
            self.assertGone(word)

    def test_deafLeader(self) -> None:
        """A command that ignores TERM is killed after it was asked, and a stopped one gets TERM."""
        for number, (script, name) in enumerate(
            (
                ("trap '' TERM; echo on; while :; do sleep 1; done", "KILL"),
                ("echo on; kill -STOP $$; sleep 9", "TERM"),
            )
        ):
            word = self.mark(f"deaf{number}")
            wire = self.wire()
            channel = wire.start(script, env=environment(word))
            started = wire.expect(Started)
            wire.expect(Stdout)
            wire.send(Cancel(channel=channel))
            end = wire.expect(End)
            assert isinstance(end.outcome, Signalled), end
            self.assertEqual(end.outcome.name, name)
            self.assertGone(word)
            self.assertFalse(started.known)

    def test_closedStreams(self) -> None:
        """A command that closes its streams and runs on has not ended, and its status comes when it
        has."""
        path = self.twistd.directory / "runs-on"
        script = f"echo first; exec >&- 2>&-; until [ -e {path} ]; do sleep 0.01; done; exit 7"
        wire = self.wire()
        channel = wire.start(script)
        wire.expect(Started)
        self.assertEqual(wire.expect(Stdout).data, b"first\n")
        wire.send(List(channel=wire.channel()))
        self.assertEqual([each.outcome for each in wire.expect(Listed).commands], [None])
        path.touch()
        self.assertEqual(wire.expect(End).outcome, Exited(code=7))
        self.assertEqual(channel, 1)

    def test_heldOutput(self) -> None:
        """A grandchild that holds the output holds no END; what was written before comes whole."""
        word = self.mark("held")
        done = self.wire().run("sleep 1000 & echo done; exit 3", env=environment(word))
        self.assertEqual((done.outcome, done.stdout), (Exited(code=3), b"done\n"))
        self.assertGone(word)

    def test_number(self) -> None:
        """The number of a command is nobody else's while signals may be sent to it: until all of
        it is gone its leader is there, dead, and was not reaped."""
        wire = self.wire()
        channel = wire.start("sleep 1000 & echo $$; exec cat >/dev/null", stdin=True)
        started = wire.expect(Started)
        first = wire.expect(Stdout)
        pid = int(first.data)
        states = set()
        wire.send(StdinEof(channel=channel))
        wire.socket.setblocking(False)

        def ended() -> bool:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                states.add(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
            try:
                return bool(wire.socket.recv(1, socket.MSG_PEEK))
            except BlockingIOError:
                return False

        eventually(ended, "the end of the command")
        wire.socket.settimeout(SOCKET_TIMEOUT)
        self.assertIn("Z", states)
        self.assertEqual(wire.expect(End).outcome, Exited(code=0))
        # Whoever names a command that is over signals nobody.
        wire.send(Kill(channel=wire.channel(), id=started.id, signal="KILL"))
        self.assertIn(wire.expect(Error).code, ("not-found",))

    def test_bothStreams(self) -> None:
        """Sixty-four megabytes on each stream at once come whole, with the digests that a third
        party computes, over the wire and through our program."""
        size = 64 * 2**20
        script = f"""
        head -c {size} /dev/zero | tr '\\0' x &
        head -c {size} /dev/zero | tr '\\0' y >&2
        wait
        """
        digests = [hashlib.sha256(byte * size).hexdigest() for byte in (b"x", b"y")]
        before = memory(self.twistd)
        done = self.wire().run(script)
        end = done.end
        self.assertEqual([end.stdout.sha256.hex(), end.stderr.sha256.hex()], digests)
        self.assertEqual((end.stdout.count, end.stderr.count), (size, size))
        self.assertLess(memory(self.twistd) - before, GROWTH)
        directory = scratch(self)
        with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
            command: Sequence[str | Path] = [
                *(BIN / "netsuite", "exec", self.address, "--", "sh", "-c", script)
            ]
            status = subprocess.run(command, stdout=out, stderr=err, timeout=120, check=False)
        self.assertEqual(status.returncode, 0)
        sums = subprocess.check_output(["sha256sum", "out", "err"], cwd=directory, text=True)
        self.assertEqual([line.split()[0] for line in sums.splitlines()], digests)

    def test_lateInput(self) -> None:
        """Input for a command that has ended, or reads none, is dropped; the session goes on."""
        wire = self.wire()
        channel = wire.start("true", stdin=True)
        wire.send(*[Stdin(channel=channel, data=b"x" * 1000)] * 20)
        self.assertEqual(wire.finish(channel).outcome, Exited(code=0))
        wire.send(*[Stdin(channel=channel, data=b"x" * 65536)] * 20, StdinEof(channel=channel))
        channel = wire.start("exec <&-; sleep 0.1; echo still", stdin=True)
        started = wire.expect(Started)
        wire.send(*[Stdin(channel=channel, data=b"x" * 1000)] * 20)
        # It may tell that nothing is read.
        record = wire.read()
        if isinstance(record, StdinEof):
            self.assertEqual(wire.finish(channel, started).stdout, b"still\n")
        else:
            assert isinstance(record, Stdout), record
            self.assertEqual(record.data, b"still\n")
        self.assertServes()

    def test_yesHead(self) -> None:
        """An early close goes through at each place where there is a pipe: within the command, of
        its output here, and of its input there; nothing is left of either end."""
        word = self.mark("head")
        tell = ("exec", self.address, "--env", word)
        for line, status, out in (
            ("{} -- sh -c 'yes | head -n 1'", 0, b"y\n"),
            ("{} -- yes | head -n 1; exit ${{PIPESTATUS[0]}}", 128 + signal.SIGPIPE, b"y\n"),
            ("yes | {} -i -- head -n 1; exit ${{PIPESTATUS[1]}}", 0, b"y\n"),
            ("yes | {} -i -- true; exit ${{PIPESTATUS[1]}}", 0, b""),
            ("yes | {} -i -- cat | head -n 1; exit ${{PIPESTATUS[1]}}", 141, b"y\n"),
        ):
            program = " ".join([str(BIN / "netsuite"), *tell])
            done = subprocess.run(
                ["bash", "-c", line.format(program)],
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
            self.assertEqual((done.returncode, done.stdout, done.stderr), (status, out, b""), line)
            self.assertGone(word)


class BombTests(ExecTestCase):
    """A fork bomb of an account that may have few processes; only root can have others run it."""

    LIMIT = 40

    suite = """
    [exec.main]
    listen = ["tcp:0:interface=127.0.0.1"]
    policy = "policy.toml"
    require-identity = false
    """
    files = {
        "policy.toml": f"""
[identities]
anonymous = ["users"]

[[roles.users.exec]]
argv = ["/bin/bash", "..."]
env = ["NETSUITE_TEST_COMMAND"]
user = "games"
processes = {LIMIT}
time-limit = 2

[[roles.users.exec]]
argv = ["/usr/bin/echo", "..."]
""".encode()
    }

    def setUp(self) -> None:
        """Be root."""
        if os.geteuid():
            raise SkipTest("only root can run commands as another account")
        pwd.getpwnam("games")
        super().setUp()

    def test_bomb(self) -> None:
        """It has no more processes than it is granted, others are served meanwhile, and at the end
        of its time none of it is left."""
        word = self.mark("bomb")
        wire = self.wire()
        # The dialect of a bomb that cannot be killed one by one: each child has its own session.
        bomb = 'b() { (setsid bash -c "$(declare -f b); b" & b) 2>/dev/null & }; b; b; b; wait'
        channel = wire.start("/bin/bash", "-c", bomb + "; sleep 1000", env=environment(word))
        wire.expect(Started)
        most = 0

        def grown() -> bool:
            nonlocal most
            most = max(most, len(bearing(word)))
            return most > self.LIMIT // 2

        eventually(grown, "many processes")
        self.assertServes()
        grown()
        wire.socket.settimeout(PATIENCE)
        done = wire.finish(channel)
        self.assertEqual(done.outcome.status, 124, done.outcome)
        self.assertEqual(bearing(word), [])
        # Linux lets a user have one more before it refuses to start a program.
        self.assertLessEqual(most, self.LIMIT + 2)
        self.assertServes()


class ShortageTests(ExecTestCase):
    """A machine that has run out of something."""

    def test_descriptors(self) -> None:
        """A service without descriptors says so of each command, serves those that run, and runs
        others again once it has some."""
        wire = self.wire()
        running = wire.started("cat", stdin=True)
        self.addCleanup(resource.prlimit, self.twistd.pid, resource.RLIMIT_NOFILE, (4096, 4096))
        self.assertServes()
        used = len(os.listdir(f"/proc/{self.twistd.pid}/fd"))
        more = self.wire()
        hard = resource.prlimit(self.twistd.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.twistd.pid, resource.RLIMIT_NOFILE, (used, hard))
        for _ in range(3):
            done = more.run("echo", "hello")
            assert isinstance(done.outcome, NotStarted), done
            self.assertEqual(done.outcome.code, "limit")
            self.assertIn("too many open files", done.outcome.reason)
        wire.send(Stdin(channel=1, data=b"on\n"), StdinEof(channel=1))
        self.assertEqual(wire.finish(1, running).stdout, b"on\n")
        resource.prlimit(self.twistd.pid, resource.RLIMIT_NOFILE, (1024, hard))
        self.assertEqual(more.run("echo", "hello").stdout, b"hello\n")
        self.assertServes()

    def test_manyCommands(self) -> None:
        """Three hundred commands leave no more descriptors and processes than some do."""
        wire = self.wire()

        def count() -> tuple[int, int]:
            children = Path(f"/proc/{self.twistd.pid}/task/{self.twistd.pid}/children")
            return len(os.listdir(f"/proc/{self.twistd.pid}/fd")), len(children.read_text().split())

        for _ in range(20):
            wire.run("true")
        before = count()
        for number in range(300):
            wire.run("true" if number % 2 else "/no/such/program")
        # Fewer are those of a connection of before, which was closing still.
        for now, then in zip(count(), before, strict=True):
            self.assertLessEqual(now, then)


class FullDiskTests(ExecTestCase):
    """A disk that takes no more: a small one of its own, which only root can have."""

    suite = """
    [exec.main]
    listen = ["tcp:0:interface=127.0.0.1"]
    allow-any = true
    audit = "disk/audit.log"
    state = "disk/state"
    """

    @classmethod
    def start(cls) -> Twistd:
        """Mount it beneath the directory of the service."""
        raise NotImplementedError("each test has its own")

    def setUp(self) -> None:
        """Have a disk, and a service on it."""
        disk = scratch(self) / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(disk)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            raise SkipTest("only root can mount a small disk")
        self.addCleanup(subprocess.run, ["umount", "-l", str(disk)], check=True)
        self.twistd = Twistd(suite=self.suite.replace('"disk/', f'"{disk}/'))
        self.addCleanup(self.twistd.stop)
        self.addCleanup(self.assertQuiet)
        self.disk = disk

    def tearDown(self) -> None:
        """Trial ends the service before this, as one of the test's own."""

    def assertQuiet(self) -> None:
        """Whatever happened, nothing in the service went wrong."""
        self.assertNotIn("Traceback", self.twistd.log())
        self.assertEqual("", self.twistd.stderr())

    def fill(self) -> Path:
        """Leave no byte."""
        path = self.disk / "ballast"
        with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        return path

    def test_audit(self) -> None:
        """What cannot be written down is not run, and status 126 says so; what runs goes on; and
        with room everything is as before, in a log that verifies."""
        canary = self.disk.parent / "canary"
        wire = self.wire()
        running = wire.started("cat", stdin=True)
        ballast = self.fill()
        # Some lines still fit into the last page of the log.
        eventually(
            lambda: isinstance(self.wire().run(b"/bin/true").outcome, NotStarted), "a full disk"
        )
        done = netsuite("exec", self.address, "--", "touch", str(canary))
        self.assertEqual((done.returncode, done.stdout), (126, ""), done)
        self.assertRegex(done.stderr, r"\Anetsuite: [^\n]*\n\Z")
        self.assertFalse(canary.exists())
        wire.send(Stdin(channel=1, data=b"on\n"), StdinEof(channel=1))
        self.assertEqual(wire.finish(1, running).stdout, b"on\n")
        ballast.unlink()
        eventually(
            lambda: self.wire().run("echo", "hello").stdout == b"hello\n", "commands as before"
        )
        self.twistd.signal(signal.SIGTERM)
        self.twistd.wait()
        done = netsuite("audit", "verify", *map(str, sorted(self.disk.glob("audit.log*"))))
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)

    def test_kept(self) -> None:
        """A command whose output cannot be kept ends, and says why; what was kept of it before
        that arrives."""
        wire = self.wire()
        channel = wire.start(
            "yes; true", onDisconnect="detach", stdoutCredit=0, stderrCredit=0, ttl=60
        )
        wire.expect(Started)
        eventually(lambda: "its output cannot be kept" in self.twistd.log(), "a full disk")
        wire.send(Credit(channel=channel, stream="stdout", count=2**24))
        done = wire.finish(channel)
        assert isinstance(done.outcome, Limit), done
        self.assertEqual(done.outcome.which, "spool")
        self.assertEqual(done.stdout, (b"y\n" * 2**20)[: len(done.stdout)])
        self.assertGreater(len(done.stdout), 0)


class HostileTextTests(ExecTestCase):
    """Bytes that would move a cursor, or write a line of their own, where they could come out."""

    suite = ExecTestCase.suite + 'audit = "audit.log"\nrecord = "{dir}/recordings"\n'

    def assertClean(self, text: str, what: str) -> None:
        """Nothing in a text does more than be read."""
        for found in ("\x1b", "\x07", "\x9b", "\r", "\u202e"):
            self.assertNotIn(found, text, what)
        for line in text.split("\n"):
            self.assertFalse(line.startswith("root: all is well"), what)

    def test_everywhere(self) -> None:
        """In the log, the audit log, a recording and the list that a person is shown."""
        text = HOSTILE.decode("utf-8", "replace")
        wire = self.wire()
        for options in (
            {"argv": (b"/bin/true", HOSTILE)},
            {"argv": (HOSTILE,)},
            {"argv": (b"/no/" + HOSTILE,)},
            {"argv": (b"true",), "cwd": b"/" + HOSTILE},
            {"argv": (b"true",), "env": {text: b"x"}},
            {"argv": (b"true",), "env": {"A": HOSTILE}},
            {"argv": (b"true",), "user": text[:60]},
            {"argv": (b"true",), "key": text},
            {"argv": (b"echo " + HOSTILE,), "shell": True},
        ):
            channel = wire.channel()
            wire.send(Start(channel=channel, **options))
            done = wire.finish(channel)
            reason = getattr(done.outcome, "reason", "")
            self.assertClean(reason, str(options))
            self.assertNotIn("\n", reason)
        other = Start(channel=wire.channel(), argv=(b"false",), key=text)
        wire.send(other)
        self.assertClean(str(wire.expect(End).outcome), "a key that was used")
        wire.send(Kill(channel=wire.channel(), id="abc", signal="X+-9"))
        lone(wire.expect(Error))
        path = self.twistd.directory / "run"
        os.mkfifo(path)
        channel = wire.start("/bin/cat", path, HOSTILE)
        wire.expect(Started)
        self.assertListed()
        wire.send(Cancel(channel=channel))
        wire.finish(channel)
        self.assertClean(self.twistd.log().replace("\r", "\\r"), "the log")
        self.assertNotIn("\r", self.twistd.log())
        lines = (self.twistd.directory / "audit.log").read_bytes().split(b"\n")[:-1]
        for row in lines:
            self.assertIsInstance(json.loads(row), dict)
            self.assertClean(row.decode("utf-8"), "the audit log")
        for recording in (self.twistd.directory / "recordings").iterdir():
            for line in recording.read_text().splitlines():
                json.loads(line)
                self.assertNotIn("\x1b", line)

    def assertListed(self) -> None:
        """The list at a terminal, and as JSON, shows the command and obeys nothing in it."""
        console = Console(self, "exec", "ps", self.address, terminal=True)
        seen = console.expect("/bin/cat")
        seen += console.expect("\n")
        self.assertClean(seen.replace("\r\n", "\n"), "ps")
        done = netsuite("exec", "ps", self.address, "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertClean(done.stdout, "ps --json")
        json.loads(done.stdout)

    def test_server(self) -> None:
        """A server that lies in every sentence that it can say moves no cursor of our program,
        which says one line of it."""
        sentence = "\x1b[2J\x07\r\nroot: all is well\n\u202eevil"
        end = End(
            channel=1,
            outcome=NotStarted(code="not-found", reason=sentence),
            stdout=NOTHING,
            stderr=NOTHING,
        )
        lost = msgspec.structs.replace(end, outcome=Limit(which="x", reason=sentence))
        started = Started(channel=1, id="abc")
        lies: list[list[Record]] = [
            [end],
            [started, lost],
            [Error(code="denied", message=sentence, about=1)],
            [Error(code="\x1b[2J", message=sentence, fatal=True)],
            [Goodbye(reason=sentence)],
            [started, Detached(channel=1, reason=sentence)],
        ]
        for records in lies:
            said = self.lied(records)
            self.assertRegex(said, r"\Anetsuite: [^\n]*\n\Z", str(records))
            self.assertClean(said, str(records))

    def lied(self, records: list[Record]) -> str:
        """Have our program meet a server that says these."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(SOCKET_TIMEOUT)
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            process = subprocess.Popen(
                [BIN / "netsuite", "exec", address, "--", "true"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            welcome = Welcome(
                version=1,
                server="\x1b[2J",
                identity="\x1b[2J",
                limits=Limits(frame=FRAME),
                ping=30,
            )
            with accepted(listener) as client:
                client.recv(65536)
                client.sendall(packed(welcome))
                client.recv(65536)
                client.sendall(packed(*records))
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_WR)
                out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(out, b"")
        self.assertNotEqual(process.returncode, 0)
        return err.decode()
