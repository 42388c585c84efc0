"""
The suite: all services together, harmless as they are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.ops.launch import build
from twisted_netsuite.ops.suite import KINDS, Options, defaults
from twisted_netsuite.rexec.messages import Start
from twisted_netsuite.rexec.native import ExecFactory
from twisted_netsuite.rexec.permit import Terms, judge, planOf
from twisted_netsuite.trust.identity import ANONYMOUS, Identity


class DefaultTests(SynchronousTestCase):
    """What runs without a file."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory, 0o700)
        self.patch(os, "environ", os.environ | {"XDG_RUNTIME_DIR": self.directory})
        self.told: dict[str, Any] = {name: config for _, name, config in defaults()}

    def built(self) -> list[ListeningService]:
        """Build them all."""
        return build(defaults(), MemoryReactorClock())

    def test_kinds(self) -> None:
        """There is one of each of the five kinds, under the kind's name."""
        names = ["echo", "exec", "files", "chat", "proxy"]
        self.assertEqual(list(KINDS), names)
        self.assertEqual([name for _, name, _ in defaults()], names)
        self.assertEqual([KINDS[name].name for name in names], names)

    def test_loopback(self) -> None:
        """Every address is this machine's alone."""
        for service in self.built():
            for address in service.addresses:
                self.assertNotEqual(address.binds(), [])
                for bind in address.binds():
                    self.assertTrue(bind.local, address.description)

    def test_ports(self) -> None:
        """Each service has the port that it is known by, for streams, datagrams or both."""
        found = {
            f"{bind.kind} {bind.port}"
            for service in self.built()
            for address in service.addresses
            for bind in address.binds()
        }
        self.assertEqual(
            found,
            {"tcp 7007", "udp 7007", "tcp 7512", "tcp 7021", "udp 7425", "unix 0", "tcp 7080"},
        )

    def test_apart(self) -> None:
        """No two of them want one address."""
        binds = [b for s in self.built() for address in s.addresses for b in address.binds()]
        for number, bind in enumerate(binds):
            for other in binds[:number]:
                self.assertFalse(bind.overlaps(other), (bind, other))

    def test_commands(self) -> None:
        """Exec speaks the native dialect, runs what is shown to try it with and nothing else, and
        keeps nothing on the disk."""
        told = self.told["exec"]
        self.assertEqual(told.dialect, "int32")
        self.assertEqual(
            (told.allow, told.allowAny, told.allowShell), (("uname **",), False, False)
        )
        self.assertEqual((told.policy, told.state, told.record), ("", "", ""))
        (service,) = (each for each in self.built() if each.name == "exec")
        assert isinstance(service.factory, ExecFactory)
        oversight = service.factory.commands._oversight
        for identity in (ANONYMOUS, Identity("unix", "root")):
            for argv, allowed in (
                ((b"uname",), True),
                ((b"uname", b"-a"), True),
                ((b"/bin/true",), False),
                ((b"sh", b"-c", b"uname"), False),
            ):
                wish = planOf(Start(channel=1, argv=argv))
                decision = judge(oversight, identity, wish, Terms()).decision
                self.assertIs(decision.allowed, allowed, argv)

    def test_files(self) -> None:
        """Files serves a directory of this package, with something to get in it."""
        root = Path(self.told["files"].root)
        self.assertEqual(root.parent.name, "files")
        self.assertTrue([path for path in root.iterdir() if path.is_file()])

    def test_proxy(self) -> None:
        """The proxy forwards to the echo beside it, without a line of every byte."""
        self.assertEqual(self.told["proxy"].to, "tcp:127.0.0.1:7007")
        self.assertFalse(self.told["proxy"].logData)

    def test_examples(self) -> None:
        """Each has a line to try it with, for the program of this project."""
        for service in self.built():
            self.assertTrue(service.example("127.0.0.1:1").startswith("netsuite "), service.name)


class OptionTests(SynchronousTestCase):
    """The options of the plugin of them all."""

    def parse(self, *words: str) -> Options:
        """Parse a command line."""
        options = Options()
        options.parseOptions(list(words))
        return options

    def test_none(self) -> None:
        """Without a file the defaults are planned."""
        self.assertEqual(self.parse().planned, defaults())

    def test_file(self) -> None:
        """With a file just what is in it is planned, whatever its option is called."""
        path = self.mktemp()
        Path(path).write_text('[echo.main]\nlisten = ["tcp:0:interface=127.0.0.1"]\nonce = true\n')
        for word in ("--config", "-c"):
            ((kind, name, config),) = self.parse(word, path).planned
            self.assertEqual((kind, name), (KINDS["echo"], "echo.main"))
            self.assertEqual(
                config, KINDS["echo"].config(listen=("tcp:0:interface=127.0.0.1",), once=True)
            )

    def test_wrong(self) -> None:
        """What is wrong in it is one sentence with the file, from the root, and the path in it."""
        path = self.mktemp()
        Path(path).write_text('[echo.main]\nidle-timeout = "soon"\n')
        with self.assertRaises(SystemExit) as caught:
            self.parse("--config", path)
        self.assertEqual(
            caught.exception.code,
            f"netsuite: {os.path.abspath(path)}: echo.main.idle-timeout is 'soon'; give a number.",
        )

    def test_missing(self) -> None:
        """A file that is not there is one sentence."""
        with self.assertRaises(SystemExit) as caught:
            self.parse("--config", "/nonexistent/netsuite.toml")
        self.assertIn("'/nonexistent/netsuite.toml' cannot be read", str(caught.exception.code))

    def test_word(self) -> None:
        """A file without its option is told how options begin."""
        with self.assertRaises(SystemExit) as caught:
            self.parse("netsuite.toml")
        self.assertIn("'netsuite.toml' is not expected", str(caught.exception.code))

    def test_control(self) -> None:
        """A file's name cannot control the terminal that shows what is wrong with the file."""
        path = Path(self.mktemp() + "\x1b[2J")
        path.write_bytes(b"")
        with self.assertRaises(SystemExit) as caught:
            Options().parseOptions(["--config", str(path)])
        self.assertIn("\ufffd[2J: no service is in it", str(caught.exception.code))
