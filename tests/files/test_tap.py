"""What the files plugin can be told, and what it refuses."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.files.tree import makeTree
from tests.trust.overseen import overseen
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.files.classic import ClassicGetFactory
from twisted_netsuite.files.tap import FilesConfig, Options, build
from twisted_netsuite.net.listening import ListeningService


def parsed(*words: str) -> FilesConfig:
    """Parse a command line."""
    options = Options()
    options.parseOptions(list(words))
    assert isinstance(options.config, FilesConfig)
    return options.config


class TapTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = makeTree(os.path.abspath(self.mktemp()), {"a.txt": b"a"})

    def build(self, config: FilesConfig) -> tuple[ListeningService, ClassicGetFactory]:
        """Build the service, and give it with its factory."""
        reactor: Any = MemoryReactorClock()
        (service,) = build(config, reactor)
        assert isinstance(service.factory, ClassicGetFactory)
        self.addCleanup(service.factory.root.close)
        return service, service.factory

    def refused(self, **values: Any) -> str:
        """Build, and give the sentence of the refusal."""
        config = FilesConfig(**values)
        error: ConfigurationError = self.assertRaises(ConfigurationError, self.build, config)
        return error.sentence

    def test_defaults(self) -> None:
        """Told nothing but a root, the service is on loopback."""
        config = parsed("--root", self.root)
        self.assertEqual(config.listen, ("tcp:7021:interface=127.0.0.1",))
        service, factory = self.build(config)
        factory.root.open(b"a.txt").close()
        self.assertEqual(service.dialect, "get")

    def test_example(self) -> None:
        """The line to try it with names a file that is there, and nothing a terminal obeys."""
        config = FilesConfig(root=self.root)
        service, _ = self.build(config)
        self.assertEqual(service.example("h:1"), "netsuite get --dialect get h:1:/a.txt -")
        for name in (b"\x1b[2J", b"\xff", "ü".encode(), b"\n"):
            os.rename(os.path.join(self.root, "a.txt"), os.fsencode(self.root) + b"/" + name)
            service, _ = self.build(config)
            self.assertEqual(service.example("h:1"), "netsuite get --dialect get h:1:/NAME -")
            os.rename(os.fsencode(self.root) + b"/" + name, os.path.join(self.root, "a.txt"))

    def test_options(self) -> None:
        """Each option reaches the factory."""
        words = ["--root", self.root, "--max-connections", "3", "--idle-timeout", "9"]
        _, factory = self.build(parsed(*words, "--listen", "unix:/tmp/files.sock"))
        self.assertEqual((factory.limits.maxConnections, factory.limits.idleTimeout), (3, 9.0))

    def test_relativeRoot(self) -> None:
        """A relative root is fixed before the program changes its directory."""
        _, factory = self.build(FilesConfig(root=os.path.relpath(self.root)))
        self.assertEqual(factory.root.path, self.root)

    def test_wrongOptions(self) -> None:
        """A value that an option cannot take ends the program with the option and the value."""
        for words, parts in (
            ([], ["--root is missing", "directory"]),
            (["--root", ""], ["--root is ''"]),
            (["--root", self.root, "--dialect", "ftp"], ["--dialect is 'ftp'", "get"]),
            (["--root", self.root, "--max-connections", "0"], ["--max-connections is '0'"]),
            (["--root", self.root, "--idle-timeout", "-1"], ["--idle-timeout is '-1'"]),
            (["--write"], ["netsuite-files", "--help"]),
        ):
            sentence = str(self.assertRaises(SystemExit, parsed, *words))
            for part in parts:
                self.assertIn(part, sentence)

    def test_wrongRoot(self) -> None:
        """A root that is missing or a file is named with what to do."""
        for path in (self.root + "/missing", self.root + "/a.txt"):
            sentence = self.refused(root=path)
            self.assertIn(repr(path), sentence)
            self.assertIn("give a directory", sentence)

    def test_address(self) -> None:
        """Addresses that are none, or are for datagrams, are named."""
        for listen in ("tcp:x", "nonsense", "udp:7021", "tcp:70000"):
            self.assertIn(repr(listen), self.refused(root=self.root, listen=(listen,)))

    def test_oversight(self) -> None:
        """A policy and an audit log stand over the factory; they are options of the plugin."""
        words = ("--root", self.root, "--policy", "p.toml", "--audit", "a.log")
        config = parsed(*words)
        self.assertEqual((config.policy, config.audit), ("p.toml", "a.log"))
        oversight = overseen("")
        reactor: Any = MemoryReactorClock()
        (service,) = build(config, reactor, oversight)
        assert isinstance(service.factory, ClassicGetFactory)
        self.addCleanup(service.factory.root.close)
        self.assertIs(service.factory._oversight, oversight)

    def test_beyondLoopback(self) -> None:
        """With a policy it may be offered to anybody, as without: it can change nothing."""
        reactor: Any = MemoryReactorClock()
        config = FilesConfig(root=self.root, listen=("tcp:7021",))
        (service,) = build(config, reactor, overseen(""))
        assert isinstance(service.factory, ClassicGetFactory)
        self.addCleanup(service.factory.root.close)
