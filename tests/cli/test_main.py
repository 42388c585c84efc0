"""
The words of the netsuite program: what each command takes, and what is refused.
"""

from __future__ import annotations

import subprocess
import sys
from typing import NoReturn

import twisted_netsuite.cli.chat as chat
import twisted_netsuite.cli.classicexec as execute
import twisted_netsuite.cli.echo as echo
import twisted_netsuite.cli.get as get
import twisted_netsuite.cli.run as running
from tests.cli.words import WordsCase
from twisted_netsuite import __version__
from twisted_netsuite.net.tlscontext import TrustFiles


class MainTests(WordsCase):
    """L{main}."""

    def setUp(self) -> None:
        super().setUp()
        for module, name in (
            (echo, "echoTexts"),
            (execute, "runCommand"),
            (get, "getFile"),
            (chat, "operate"),
            (chat, "talk"),
        ):
            self.record(module, name)

    def test_echo(self) -> None:
        """Echo takes an address and texts."""
        self.assertCalls(
            "echo h:7 a b", "echoTexts", "reactor", "h:7", ("a", "b"), 60.0, None, None
        )
        self.assertCalls(
            "echo --timeout 0.5 udp:h:7 a",
            "echoTexts",
            "reactor",
            "udp:h:7",
            ("a",),
            0.5,
            None,
            None,
        )
        self.assertRefused("echo", "Missing argument 'ADDRESS'")
        self.assertRefused("echo h:7", "Missing argument 'TEXT...'")

    def test_tls(self) -> None:
        """A certificate and an authority are what to connect by TLS with."""
        self.assertCalls(
            "echo --cert a.pem --ca ca.pem h:7 a",
            "echoTexts", "reactor", "h:7", ("a",), 60.0, TrustFiles("a.pem", "ca.pem"), None,
        )  # fmt: skip
        self.assertCalls(
            "get --ca ca.pem --dialect get h:1:/a",
            "getFile", "reactor", "h:1:/a", "", 60.0, TrustFiles("", "ca.pem"),
        )  # fmt: skip
        self.assertCalls(
            "get --ca ca.pem --crl crl.pem --dialect get h:1:/a",
            "getFile", "reactor", "h:1:/a", "", 60.0, TrustFiles("", "ca.pem", "crl.pem"),
        )  # fmt: skip
        self.assertRefused("echo --cert a.pem h:7 a", "--cert needs --ca")
        self.assertRefused("echo --crl crl.pem h:7 a", "--crl needs --ca")

    def test_get(self) -> None:
        """Get takes a source and perhaps a place for it."""
        self.assertCalls("get --dialect get h:1:/a", "getFile", "reactor", "h:1:/a", "", 60.0, None)
        self.assertCalls(
            "get --dialect get h:1:/a -", "getFile", "reactor", "h:1:/a", "-", 60.0, None
        )
        self.assertRefused("get --dialect get", "Missing argument 'ADDRESS:/REMOTE'")

    def test_chat(self) -> None:
        """Chat takes one of an address, contacts and a socket, which has a default."""
        self.assertCalls("chat --plain h:1", "talk", "reactor", "h:1", None, 60.0)
        self.assertCalls("chat --plain --contacts f", "talk", "reactor", None, "f", 60.0)
        self.assertCalls("chat --plain --operate /s", "operate", "reactor", "/s")
        self.assertCalls("chat --plain --operate", "operate", "reactor", "")
        self.assertCalls("chat --operate --plain", "operate", "reactor", "")
        self.assertRefused("chat h:1", "Missing option '--plain'")
        for words in (
            "chat --plain",
            "chat --plain h:1 --contacts f",
            "chat --plain h:1 --operate /s",
            "chat --plain --operate --contacts f",
        ):
            self.assertRefused(words, "Give one of ADDRESS, --operate and --contacts")

    def test_timeouts(self) -> None:
        """A timeout is more than nothing."""
        for command in (
            "echo h:1 a",
            "exec --dialect raw h:1 ls",
            "get --dialect get h:1:/a",
            "chat --plain h:1",
        ):
            name, rest = command.split(" ", 1)
            for seconds in ("0", "-1", "soon", "nan"):
                self.assertRefused(
                    f"{name} --timeout={seconds} {rest}", "Invalid value for '--timeout'"
                )

    def test_interrupted(self) -> None:
        """Ctrl-C at any moment has the status that a shell gives it, and no traceback."""

        def interrupted(*_: object) -> NoReturn:
            raise KeyboardInterrupt

        self.patch(running, "run", interrupted)
        result = self.invoke("echo", "h:1", "x")
        self.assertEqual((result.exit_code, result.output.strip()), (130, ""))

    def test_interruptedLoading(self) -> None:
        """Ctrl-C while the program is still being loaded is no different."""
        script = (
            "import sys\n"
            "class Interrupts:\n"
            "    def find_spec(self, name, *_):\n"
            "        if name == 'click': raise KeyboardInterrupt\n"
            "sys.meta_path.insert(0, Interrupts())\n"
            "from twisted_netsuite.cli.main import main\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, timeout=60, check=False
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (130, b"", b""))

    def test_help(self) -> None:
        """Help and version are told without doing anything."""
        for words in ("-h", "--help", "echo --help", "exec -h", "get -h", "chat -h"):
            result = self.invoke(*words.split())
            self.assertEqual(result.exit_code, 0)
            self.assertIn("Usage:", result.output)
        self.assertIn(__version__, self.invoke("--version").output)
        self.assertEqual(self.called, [])

    def test_unknown(self) -> None:
        """A command that does not exist is named."""
        self.assertRefused("eco h:1 a", "No such command 'eco'")
