"""
The C{netsuite} program against real services: output, one sentence for a failure, exit status.
"""

from __future__ import annotations

import socket

from tests.integration.processes import (
    NO_IPV6,
    ServedTestCase,
    freePort,
    netsuite,
)


class ProgramTests(ServedTestCase):
    """Clients over every family."""

    suite = """
    [echo.main]
    listen = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1", "unix:{dir}/echo.sock"]
    [exec.header]
    listen = ["tcp:0:interface=127.0.0.1"]
    dialect = "header"
    allow-shell = true
    [exec.refused]
    listen = ["tcp:0:interface=127.0.0.1"]
    dialect = "header"
    [exec.raw]
    listen = ["tcp:0:interface=127.0.0.1"]
    dialect = "raw"
    allow-shell = true
    [exec.native]
    listen = ["tcp:0:interface=127.0.0.1"]
    allow = ["sh -c *", "nice **"]
    [exec.nothing]
    listen = ["tcp:0:interface=127.0.0.1"]
    """

    def prints(self, output: str, *words: str, status: int = 0) -> None:
        """
        See what a command prints.

        @param output: on stdout; nothing may be on stderr.
        @param words: the command.
        @param status: its exit status.
        """
        done = netsuite(*words)
        self.assertEqual((output, "", status), (done.stdout, done.stderr, done.returncode))

    def fails(self, status: int, *words: str, says: str) -> None:
        """
        See how a command fails.

        @param status: its exit status.
        @param words: the command.
        @param says: part of its one line on stderr.
        """
        done = netsuite(*words)
        self.assertEqual((status, ""), (done.returncode, done.stdout))
        self.assertRegex(done.stderr, r"\Anetsuite: [^\n]+\n\Z")
        self.assertIn(says, done.stderr)

    def test_echo(self) -> None:
        """Each text is answered on a line of its own, over TCP, UDP and Unix sockets."""
        addresses = [
            self.twistd.place("echo.main").text,
            f"udp:{self.twistd.place('echo.main', 'udp').text}",
            self.twistd.place("echo.main", "unix").text,
            f"tcp:127.0.0.1:{self.twistd.place('echo.main').port}",
        ]
        for address in addresses:
            self.prints("HELLO\n你好 WORLD\n", "echo", address, "hello", "你好 world")

    def test_exec(self) -> None:
        """Output and exit status are the command's own."""
        address = self.twistd.place("exec.header").text
        self.prints("out\n", "exec", "--dialect=header", address, "echo out; exit 7", status=7)

    def test_execNative(self) -> None:
        """Without a dialect, words are words: both streams and the exit status are the command's
        own, and no shell reads what is sent unless it is asked for."""
        address = self.twistd.place("exec.native").text
        done = netsuite("exec", address, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
        self.assertEqual(("out\n", "err\n", 7), (done.stdout, done.stderr, done.returncode))
        self.prints("$HOME;*\n", "exec", address, "--", "nice", "echo", "$HOME;*")

    def test_execNativeRefused(self) -> None:
        """What no words allow is one line and the status 126, and so is everything where nothing
        is allowed."""
        told = "the policy of this service does not allow it to anonymous."
        self.fails(126, "exec", self.twistd.place("exec.native").text, "--", "id", says=told)
        says = "its operator can allow some with --allow."
        self.fails(126, "exec", self.twistd.place("exec.nothing").text, "--", "id", says=says)

    def test_execOtherDialect(self) -> None:
        """A native client tells at once that a server speaks a tutorial's dialect, and a shell
        behind that runs nothing of what the client has sent."""
        for name in ("exec.raw", "exec.header", "exec.refused"):
            address = self.twistd.place(name).text
            says = f"{address} does not keep to the session protocol"
            self.fails(125, "exec", address, "--", "id", says=says)
        self.assertNotIn("runs b'\\x00", self.twistd.log())

    def test_execRaw(self) -> None:
        """An answer that nothing marks the end of is taken to be complete after a silence."""
        address = self.twistd.place("exec.raw").text
        self.prints("out\n", "exec", "--dialect=raw", address, "echo out")

    def test_execRefused(self) -> None:
        """A refusal has the status 126."""
        done = netsuite("exec", "--dialect=header", self.twistd.place("exec.refused").text, "id")
        self.assertEqual(126, done.returncode)
        self.assertIn("--allow-shell", done.stdout + done.stderr)

    def test_nobodyListens(self) -> None:
        """A refused connection is one line and the status 125."""
        address = f"127.0.0.1:{freePort()}"
        self.fails(
            125, "echo", address, "hi", says=f"Cannot connect to {address}: connection refused"
        )
        self.fails(125, "exec", "--dialect=raw", address, "id", says=address)
        self.fails(125, "get", "--dialect=get", f"{address}:/a.txt", "-", says=address)

    def test_nobodyListensOnDatagrams(self) -> None:
        """A datagram that is refused is told at once, not after the timeout."""
        address = f"127.0.0.1:{freePort(socket.SOCK_DGRAM)}"
        self.fails(
            *(125, "echo", "--timeout=5", f"udp:{address}", "hi"),
            says=f"Nobody listens at {address}",
        )

    def test_silence(self) -> None:
        """A server that says nothing is given up with the status 124."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            self.fails(
                *(124, "echo", "--timeout=0.2", address, "hi"),
                says=f"{address} did not answer within 0.2 s",
            )

    def test_otherDialect(self) -> None:
        """A server of another dialect is told, not waited for."""
        address = self.twistd.place("echo.main").text
        self.fails(125, "exec", "--dialect=length", address, "id", says="another --dialect")

    def test_wrongAddress(self) -> None:
        """An address that cannot be understood is told with what can, and the status 1."""
        self.fails(125, "echo", "nowhere", "hi", says="'nowhere'")


class IPv6Tests(ServedTestCase):
    """Clients over IPv6."""

    skip = NO_IPV6
    suite = r"""
    [echo.main]
    listen = ['tcp6:0:interface=\:\:1', 'udp:0:interface=\:\:1']
    """

    def test_echo(self) -> None:
        """An IPv6 address stands in brackets, over TCP and UDP."""
        for kind, prefix in (("tcp", ""), ("udp", "udp:")):
            address = prefix + self.twistd.place("echo.main", kind).text
            self.assertEqual("HELLO\n", netsuite("echo", address, "hello").stdout)
