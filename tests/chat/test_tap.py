"""
The plugin of chat: where it listens, and who may operate it.
"""

from __future__ import annotations

import os
import stat
from typing import Any, cast

from twisted.internet.testing import MemoryReactorClock
from twisted.internet.unix import Port
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.echo.farend import datagramsInMemory
from twisted_netsuite.chat.classic import KEPT, OperatorFactory
from twisted_netsuite.chat.tap import ChatConfig, build
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.listening import ListeningService


class UnixReactor(MemoryReactorClock):
    """Makes real Unix sockets, and notes the mask under which each was made."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[int] = []

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: Any = 0
    ) -> Port:
        """Listen for real."""
        mask = os.umask(0)
        os.umask(mask)
        self.masks.append(mask)
        port = Port(address, factory, backlog, mode, self, wantPID)
        port.startListening()
        return port


class BuildTests(SynchronousTestCase):
    """L{build}."""

    def setUp(self) -> None:
        self.udp = datagramsInMemory(self)
        self.reactor = UnixReactor()
        self.directory = os.path.realpath(self.mktemp())
        os.mkdir(self.directory, 0o700)
        # A socket's path has little room: the test's own directory is too deep.
        home = os.getcwd()
        os.chdir(self.directory)
        self.addCleanup(os.chdir, home)

    def build(self, **options: Any) -> list[ListeningService]:
        """Build the services."""
        return build(ChatConfig(**options), self.reactor)

    def start(self, **options: Any) -> list[ListeningService]:
        """Build the services and start them while the test runs."""
        services = self.build(**options)
        with capturedLogs():
            for service in services:
                service.startService()
        self.addCleanup(self.stop, services)
        return services

    def stop(self, services: list[ListeningService]) -> None:
        """Stop them."""
        for service in services:
            service.stopService()
        self.reactor.advance(0)

    def refusal(self, **options: Any) -> str:
        """Tell why a configuration is refused."""
        error = self.assertRaises(ConfigurationError, self.prepare, **options)
        return cast(ConfigurationError, error).sentence

    def prepare(self, **options: Any) -> None:
        """Build the services, and make what they need before they listen."""
        for service in self.build(**options):
            service.prepare()

    def test_services(self) -> None:
        """One service is for the clients, on loopback, and one for the operators."""
        clients, operators = self.build(operate="chat.sock")
        self.assertEqual(
            [a.description for a in clients.addresses], ["udp:7425:interface=127.0.0.1"]
        )
        self.assertEqual(operators.name, "operators")
        self.assertIsInstance(operators.factory, OperatorFactory)
        path = os.path.join(self.directory, "chat.sock")
        [bind] = operators.addresses[0].binds()
        self.assertEqual((bind.kind, bind.host), ("unix", path))
        self.assertEqual(
            clients.example("udp:127.0.0.1:7425"), "netsuite chat --plain 127.0.0.1:7425"
        )
        self.assertEqual(
            operators.example(f"unix:{path}"), f"netsuite chat --plain --operate {path}"
        )

    def test_oneSwitchboard(self) -> None:
        """All addresses lead to the same operators."""
        self.patch(os.path, "abspath", lambda path: path)
        _, operators = self.start(
            operate="s", listen=("udp:1:interface=127.0.0.1", "udp:2:interface=127.0.0.1")
        )
        for line, notes in self.udp:
            line.datagramReceived(b"hello", ("192.0.2.1", 5))
            self.assertEqual(notes.sent, [(KEPT.encode(), ("192.0.2.1", 5))])
        factory = operators.factory
        assert isinstance(factory, OperatorFactory)
        self.assertEqual(len(factory.switchboard.kept), 2)

    def test_socketMode(self) -> None:
        """The operators' socket is its owner's alone from the first moment, whatever the mask."""
        self.patch(os.path, "abspath", lambda path: path)
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.start(operate="s")
        status = os.stat("s")
        self.assertTrue(stat.S_ISSOCK(status.st_mode))
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)
        self.assertEqual(self.reactor.masks, [0o177])
        self.assertEqual(os.umask(0), 0)

    def test_oddPaths(self) -> None:
        """A path may have the characters that mean something in an endpoint string."""
        for name in ("a:b", "a=b", "a\\b", "a:mode=666", "a b"):
            _, operators = self.build(operate=name)
            [bind] = operators.addresses[0].binds()
            self.assertEqual(bind.host, os.path.join(self.directory, name))

    def test_defaultSocket(self) -> None:
        """By default the socket stands in a directory that the service makes for this user."""
        runtime = os.path.join(self.directory, "runtime")
        self.patch(os, "environ", {"XDG_RUNTIME_DIR": runtime})
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        for _ in range(2):
            _, operators = self.build()
            operators.prepare()
            self.assertEqual(stat.S_IMODE(os.stat(runtime).st_mode), 0o700)
            self.assertEqual(
                operators.addresses[0].binds()[0].host, f"{runtime}/netsuite-chat.sock"
            )

    def test_builtOnly(self) -> None:
        """A service that is only built, as for a check of its configuration, makes nothing."""
        runtime = os.path.join(self.directory, "runtime")
        self.patch(os, "environ", {"XDG_RUNTIME_DIR": runtime})
        self.build()
        self.assertFalse(os.path.exists(runtime))

    def test_defaultDirectoryNotPrivate(self) -> None:
        """A directory that others could enter, or that another has made, is refused by name."""
        runtime = os.path.join(self.directory, "runtime")
        self.patch(os, "environ", {"XDG_RUNTIME_DIR": runtime})
        sentence = (
            f"The directory {runtime!r} is not this user's alone; "
            "give the operators' socket another place with --operate."
        )
        os.mkdir(runtime)
        for mode in (0o701, 0o710, 0o777):
            os.chmod(runtime, mode)
            self.assertEqual(self.refusal(), sentence)
        os.chmod(runtime, 0o700)
        self.prepare()
        self.patch(os, "getuid", lambda: 12_345_678)
        self.assertEqual(self.refusal(), sentence)

    def test_defaultDirectoryIsLink(self) -> None:
        """A link in the directory's place is refused: it may lead where another looks on."""
        private = os.path.join(self.directory, "private")
        os.mkdir(private, 0o700)
        runtime = os.path.join(self.directory, "runtime")
        os.symlink(private, runtime)
        self.patch(os, "environ", {"XDG_RUNTIME_DIR": runtime})
        self.assertIn("is not this user's alone", self.refusal())

    def test_defaultDirectoryCannotBeMade(self) -> None:
        """A directory that cannot be made is named, with the reason and what to do."""
        runtime = os.path.join(self.directory, "missing", "runtime")
        self.patch(os, "environ", {"XDG_RUNTIME_DIR": runtime})
        self.assertEqual(
            self.refusal(),
            f"The directory {runtime!r} for the operators' socket cannot be made: "
            "no such file or directory; give another socket with --operate.",
        )

    def test_streams(self) -> None:
        """Chat speaks datagrams: a stream address is refused."""
        self.assertIn("'tcp:7425'", self.refusal(operate="s", listen=("tcp:7425",)))
