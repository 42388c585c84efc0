"""
Remote commands as the tutorials' clients meet them.
"""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

from tests.integration.processes import ServedTestCase, alive, eventually, kill, netsuite
from tests.integration.relay import Relay
from tests.integration.tutorial import (
    ACKNOWLEDGEMENTS,
    BUFSIZE,
    ask,
    readHeader,
    readSize,
    runHeader,
    runLength,
)

#: Far more than one read of anybody.
BIG = 100_000

#: Prints so many bytes.
BIG_COMMAND = f"head -c {BIG} /dev/zero | tr '\\0' x"

#: Writes to both streams, stderr first.
BOTH = "echo complaint >&2; echo answer"

LOOPBACK = 'listen = ["tcp:0:interface=127.0.0.1"]'


class ExecTests(ServedTestCase):
    """The three dialects with a shell."""

    suite = "\n".join(
        f'[exec.{dialect}]\n{LOOPBACK}\ndialect = "{dialect}"\nallow-shell = true\n'
        for dialect in ("raw", "length", "header")
    )

    def test_raw(self) -> None:
        """A chunk is a command, and its output comes back with nothing around it."""
        client = self.open("exec.raw")
        self.assertEqual(b"hello\n", ask(client, b"echo hello"))
        self.assertEqual("你好\n".encode(), ask(client, "echo 你好".encode()))

    def test_rawStreams(self) -> None:
        """The answer is stdout, then stderr."""
        client = self.open("exec.raw")
        client.send(BOTH.encode())
        self.assertEqual(b"answer\ncomplaint\n", readSize(client, 17))

    def test_rawNoOutput(self) -> None:
        """A command without output is answered by one newline, so that no client hangs."""
        client = self.open("exec.raw")
        self.assertEqual(b"\n", ask(client, b"true"))
        self.assertEqual(b"next\n", ask(client, b"echo next"))

    def test_rawSticks(self) -> None:
        """Output beyond one read stays for the next, none of it lost: the dialect as it is."""
        client = self.open("exec.raw")
        first = ask(client, BIG_COMMAND.encode())
        self.assertLessEqual(len(first), BUFSIZE)
        self.assertEqual(b"x" * BIG, first + readSize(client, BIG - len(first)))
        self.assertEqual(b"next\n", ask(client, b"echo next"))

    def test_length(self) -> None:
        """Length, any acknowledgement, output: one command after another."""
        client = self.open("exec.length")
        for acknowledgement in ACKNOWLEDGEMENTS:
            self.assertEqual(b"hello\n", runLength(client, "echo hello", acknowledgement))
        self.assertEqual(b"answer\ncomplaint\n", runLength(client, BOTH))

    def test_lengthNoOutput(self) -> None:
        """A command that prints nothing answers the tutorial's own words."""
        client = self.open("exec.length")
        self.assertEqual(b"Have no message", runLength(client, "true"))
        self.assertEqual(b"next\n", runLength(client, "echo next"))

    def test_lengthBig(self) -> None:
        """A large output comes whole, and the next answer after it is its own."""
        client = self.open("exec.length")
        self.assertEqual(b"x" * BIG, runLength(client, BIG_COMMAND))
        self.assertEqual(b"next\n", runLength(client, "echo next"))

    def test_header(self) -> None:
        """The header tells the program, the size, the digest and the exit status truly."""
        header, output = runHeader(self.open("exec.header"), f"{BOTH}; exit 3")
        self.assertEqual(b"answer\ncomplaint\n", output)
        self.assertEqual("echo", header["filename"])
        self.assertEqual(17, header["total_size"])
        self.assertEqual(hashlib.sha256(output).hexdigest(), header["hash"])
        self.assertEqual(3, header["exit_status"])

    def test_headerNoOutput(self) -> None:
        """A command that prints nothing has a header and no payload."""
        client = self.open("exec.header")
        header, output = runHeader(client, "true")
        self.assertEqual((0, b""), (header["total_size"], output))
        self.assertEqual(b"next\n", runHeader(client, "echo next")[1])

    def test_headerBig(self) -> None:
        """A large output comes whole, and the next answer after it is its own."""
        client = self.open("exec.header")
        header, output = runHeader(client, BIG_COMMAND)
        self.assertEqual((BIG, b"x" * BIG), (header["total_size"], output))
        self.assertEqual(b"next\n", runHeader(client, "echo next")[1])

    def test_headerJoined(self) -> None:
        """Two answers that arrive as one are told apart."""
        relay = self.relay(hold=True)
        client = self.connected(relay)
        for word in (b"hello", b"world"):
            client.send(b"echo " + word)
            relay.waitFor(word + b"\n")
        relay.release()
        answers = [readHeader(client)[1] for _ in range(2)]
        self.assertEqual([b"hello\n", b"world\n"], answers)

    def test_headerByteByByte(self) -> None:
        """Answers that arrive a byte at a time are whole."""
        client = self.connected(self.relay(split=1))
        answers = [runHeader(client, f"echo {word}")[1] for word in ("hello", "world")]
        self.assertEqual([b"hello\n", b"world\n"], answers)

    def test_programByteByByte(self) -> None:
        """Our own client reads answers that arrive a byte at a time, in every dialect."""
        for dialect in ("raw", "length", "header"):
            relay = self.relay(f"exec.{dialect}", split=1)
            done = netsuite(
                "exec", "--dialect", dialect, relay.place.text, "echo hello; echo world"
            )
            self.assertEqual((0, "hello\nworld\n", ""), (done.returncode, done.stdout, done.stderr))

    def test_environment(self) -> None:
        """A command gets neither the service's secrets nor its standard input."""
        client = self.open("exec.raw")
        answer = ask(client, b"cat; env | cut -d= -f1 | sort | tr '\\n' ' '").split()
        known = {"HOME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "SHLVL", "TMPDIR", "TZ", "USER"}
        known |= {"OLDPWD", "_"}
        self.assertLessEqual({a.decode() for a in answer if not a.startswith(b"LC_")}, known)

    def test_closeEndsGroup(self) -> None:
        """Closing the connection ends the command and everything that it has started."""
        self.closeOn("trap '' HUP")

    def test_closeKillsTheStubborn(self) -> None:
        """What ignores the request to end is killed a moment later."""
        self.closeOn("trap '' TERM HUP INT")

    def closeOn(self, trap: str) -> None:
        """
        Start processes, close the connection, and see that they end.

        @param trap: what they ignore.
        """
        path = self.twistd.directory / self.mktemp().replace("/", "-")
        client = self.open("exec.raw")
        client.send(
            f"{trap}; sleep 1000 & echo $! >>{path}; sleep 1000 & echo $! >>{path}; "
            f"echo $$ >>{path}; wait".encode()
        )
        eventually(lambda: len(_lines(path)) == 3, "the numbers of three processes")
        pids = [int(line) for line in _lines(path)]
        for pid in pids:
            self.addCleanup(kill, pid)
        self.assertEqual([True] * 3, [alive(pid) for pid in pids])
        client.close()
        eventually(lambda: not any(map(alive, pids)), "the end of all three", 5)

    def relay(self, service: str = "exec.header", split: int = 0, hold: bool = False) -> Relay:
        """
        Put a relay before a service until the end of the test.

        @param service: its name.
        @param split: as for L{Relay}.
        @param hold: likewise.
        @return: the relay.
        """
        relay = Relay(self.twistd.place(service), split=split, hold=hold)
        self.addCleanup(relay.close)
        return relay

    def connected(self, relay: Relay) -> socket.socket:
        """
        Connect to a relay until the end of the test.

        @param relay: where to.
        @return: a blocking socket.
        """
        client = relay.place.socket()
        self.addCleanup(client.close)
        return client


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


class RefusalTests(ServedTestCase):
    """The three dialects without a shell."""

    suite = "\n".join(
        f'[exec.{dialect}]\n{LOOPBACK}\ndialect = "{dialect}"\n'
        for dialect in ("raw", "length", "header")
    )

    def test_refused(self) -> None:
        """Without --allow-shell each command is refused in the dialect's own form."""
        path = self.twistd.directory / "made"
        answers = [
            ask(self.open("exec.raw"), f"touch {path}".encode()),
            runLength(self.open("exec.length"), f"touch {path}"),
            runHeader(self.open("exec.header"), f"touch {path}")[1],
        ]
        for answer in answers:
            self.assertIn(b"allow them with --allow-shell", answer)
        self.assertFalse(path.exists())

    def test_status(self) -> None:
        """The header tells a refusal from the failure of a command."""
        client = self.open("exec.header")
        for _ in range(2):
            header, _ = runHeader(client, "id")
            self.assertEqual(("denied", 126), (header["outcome"], header["exit_status"]))


class OptionTests(ServedTestCase):
    """Encoding and limits, over TCP and Unix sockets."""

    suite = f"""
    [exec.gbk-raw]
    {LOOPBACK}
    dialect = "raw"
    allow-shell = true
    encoding = "gbk"
    [exec.gbk-length]
    {LOOPBACK}
    dialect = "length"
    allow-shell = true
    encoding = "gbk"
    [exec.gbk-header]
    {LOOPBACK}
    dialect = "header"
    allow-shell = true
    encoding = "gbk"
    [exec.small]
    {LOOPBACK}
    dialect = "header"
    allow-shell = true
    output-limit = 1000
    [exec.short]
    {LOOPBACK}
    dialect = "header"
    allow-shell = true
    time-limit = 0.3
    [exec.local]
    listen = ["unix:{{dir}}/exec.sock"]
    dialect = "header"
    allow-shell = true
    """

    def test_gbk(self) -> None:
        """A client that decodes GBK reads every dialect's answer as it was meant."""
        answers = [
            ask(self.open("exec.gbk-raw"), "echo 你好".encode()),
            runLength(self.open("exec.gbk-length"), "echo 你好"),
            runHeader(self.open("exec.gbk-header"), "echo 你好")[1],
        ]
        self.assertEqual(["你好\n"] * 3, [answer.decode("gbk") for answer in answers])

    def test_outputLimit(self) -> None:
        """A command that prints without end is ended at the limit, and the client told so."""
        client = self.open("exec.small")
        header, output = runHeader(client, "yes")
        self.assertEqual(b"y\n" * 500, output[:1000])
        self.assertIn(b"the output limit of 1000 bytes was reached", output[1000:])
        self.assertEqual("limit", header["outcome"])
        self.assertEqual(b"next\n", runHeader(client, "echo next")[1])

    def test_outputAtLimit(self) -> None:
        """Output of exactly the limit is no breach of it."""
        header, output = runHeader(self.open("exec.small"), "yes | head -c 1000")
        self.assertEqual((b"y\n" * 500, "exited"), (output, header["outcome"]))

    def test_timeLimit(self) -> None:
        """A command that runs too long is ended, and the client told so."""
        client = self.open("exec.short")
        header, output = runHeader(client, "echo begun; sleep 1000")
        self.assertEqual(b"begun\n", output[:6])
        self.assertIn(b"the time limit of 0.3 s was reached", output)
        self.assertEqual(("timed-out", 124), (header["outcome"], header["exit_status"]))
        self.assertEqual(b"next\n", runHeader(client, "echo next")[1])

    def test_unix(self) -> None:
        """The same program is served over AF_UNIX."""
        self.assertEqual(b"hello\n", runHeader(self.open("exec.local", "unix"), "echo hello")[1])

    def test_wireForm(self) -> None:
        """The header's length is 4 bytes little-endian before UTF-8 JSON."""
        client = self.open("exec.local", "unix")
        client.send(b"echo hello")
        length = int.from_bytes(readSize(client, 4), "little")
        header = json.loads(readSize(client, length))
        self.assertEqual(b"hello\n", readSize(client, header["total_size"]))
