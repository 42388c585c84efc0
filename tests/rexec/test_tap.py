"""What the exec plugin can be told, and what it refuses."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.unix import Port
from twisted.trial.unittest import SynchronousTestCase

from tests.trust.overseen import overseen
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.rexec.classic import ClassicExecFactory
from twisted_netsuite.rexec.tap import ExecConfig, Options, build
from twisted_netsuite.trust.audit import AuditNotes
from twisted_netsuite.trust.oversight import UNSEEN, Oversight


def parsed(*words: str) -> ExecConfig:
    """Parse a command line."""
    options = Options()
    options.parseOptions(list(words))
    assert isinstance(options.config, ExecConfig)
    return options.config


class TapTests(SynchronousTestCase):
    def build(self, **values: Any) -> ClassicExecFactory:
        """Build the service and give its factory."""
        reactor: Any = MemoryReactorClock()
        (service,) = build(ExecConfig(**values), reactor)
        assert isinstance(service.factory, ClassicExecFactory)
        return service.factory

    def refused(self, **values: Any) -> str:
        """Build, and give the sentence of the refusal."""
        error: ConfigurationError = self.assertRaises(ConfigurationError, self.build, **values)
        return error.sentence

    def test_defaults(self) -> None:
        """Told nothing, the service is the header dialect on loopback, and runs nothing."""
        config = parsed()
        self.assertEqual(config.listen, ("tcp:7512:interface=127.0.0.1",))
        self.assertEqual(config.dialect, "header")
        self.assertFalse(config.allowShell)
        factory = self.build()
        self.assertEqual(factory.dialect, "header")
        self.assertFalse(factory._allowShell)

    def test_options(self) -> None:
        """Each option reaches the factory."""
        words = "--dialect raw --allow-shell --output-limit 5 --time-limit 2.5 --encoding gbk"
        config = parsed(*words.split(), "--max-connections", "3", "--idle-timeout", "9")
        reactor: Any = MemoryReactorClock()
        (service,) = build(config, reactor)
        factory = service.factory
        assert isinstance(factory, ClassicExecFactory)
        self.assertEqual((factory.dialect, factory._allowShell), ("raw", True))
        limits = factory._commandLimits
        self.assertEqual((limits.output, limits.seconds), (5, 2.5))
        self.assertEqual((factory.limits.maxConnections, factory.limits.idleTimeout), (3, 9.0))
        self.assertEqual(factory.transcode("中".encode()), "中".encode("gbk"))
        self.assertEqual(service.dialect, "raw")
        self.assertEqual(
            service.example("127.0.0.1:7512"), "netsuite exec --dialect raw 127.0.0.1:7512 uname"
        )

    def test_wrongOptions(self) -> None:
        """A value that an option cannot take ends the program with the option and the value."""
        for words, parts in (
            (["--dialect", "morse"], ["--dialect is 'morse'", "raw, length, header"]),
            (["--output-limit", "0"], ["--output-limit is '0'"]),
            (["--output-limit", "many"], ["--output-limit is 'many'"]),
            (["--time-limit", "0"], ["--time-limit is '0'"]),
            (["--max-connections", "0"], ["--max-connections is '0'"]),
            (["--shell"], ["netsuite-exec", "--help"]),
        ):
            sentence = str(self.assertRaises(SystemExit, parsed, *words))
            for part in parts:
                self.assertIn(part, sentence)

    def test_shellBeyondLoopback(self) -> None:
        """A shell is offered to no other machine; the sentence names the address and the way."""
        for listen in (
            "tcp:7512",
            "tcp:7512:interface=0.0.0.0",
            "tcp:7512:interface=\\:\\:",
            "tcp:7512:interface=192.0.2.1",
        ):
            sentence = self.refused(listen=(listen,), allowShell=True)
            self.assertIn(repr(listen), sentence)
            self.assertIn("interface=127.0.0.1", sentence)
            self.assertIn("allow-shell", sentence)

    def test_oneAddressBeyondLoopback(self) -> None:
        """One address that others can reach among several is enough for a refusal."""
        listen = ("tcp:1:interface=127.0.0.1", "tcp:2")
        self.assertIn("'tcp:2'", self.refused(listen=listen, allowShell=True))

    def test_shellOnThisMachine(self) -> None:
        """A shell on loopback or a Unix socket is allowed."""
        for listen in (
            "tcp:7512:interface=127.0.0.1",
            "tcp:7512:interface=127.9.9.9",
            "tcp:7512:interface=\\:\\:1",
            "unix:/tmp/exec.sock",
        ):
            self.assertTrue(self.build(listen=(listen,), allowShell=True)._allowShell)

    def test_noShellAnywhere(self) -> None:
        """A service that refuses every command may be offered to anybody."""
        self.assertFalse(self.build(listen=("tcp:7512",))._allowShell)

    def test_encoding(self) -> None:
        """An encoding that cannot be used is named, with two that can."""
        for name in ("klingon", "hex", "idna", "a\0b"):
            sentence = self.refused(encoding=name)
            self.assertIn(repr(name), sentence)
            self.assertIn("utf-8 or gbk", sentence)

    def test_address(self) -> None:
        """Addresses that are none, or are for datagrams, are named."""
        for listen in ("tcp:x", "nonsense", "udp:7512", "tcp:70000"):
            self.assertIn(repr(listen), self.refused(listen=(listen,)))


class PolicyTests(SynchronousTestCase):
    """The service with a policy."""

    def refused(self, **values: Any) -> str:
        """Build, and give the sentence of the refusal."""
        reactor: Any = MemoryReactorClock()
        config = ExecConfig(**values)
        error: Any = self.assertRaises(ConfigurationError, build, config, reactor, overseen(""))
        assert isinstance(error, ConfigurationError)
        return error.sentence

    def test_allowShell(self) -> None:
        """A shell for everybody and a policy contradict each other."""
        self.assertEqual(
            self.refused(allowShell=True),
            "A policy says who may use a shell, and allow-shell would let everybody; leave one of "
            "them out.",
        )

    def test_beyondLoopback(self) -> None:
        """Nobody on other machines may try what the policy allows, who has not proven who he
        is."""
        for listen in ("tcp:7512", "tcp:7512:interface=192.0.2.1", "haproxy:tcp:7512"):
            sentence = self.refused(listen=("tcp:1:interface=127.0.0.1", listen))
            self.assertIn(f"{listen!r} can be reached from other machines", sentence)
            self.assertIn("anyone could try what the policy allows", sentence)
            self.assertIn("mtls:PORT:cert=FILE:clientCA=FILE", sentence)

    def test_here(self) -> None:
        """On loopback and on Unix sockets it stands over the factory."""
        reactor: Any = MemoryReactorClock()
        for listen in ("tcp:7512:interface=127.0.0.1", "unix:/tmp/exec.sock"):
            oversight = overseen("")
            (service,) = build(ExecConfig(listen=(listen,)), reactor, oversight)
            assert isinstance(service.factory, ClassicExecFactory)
            self.assertIs(service.factory._oversight, oversight)

    def test_audit(self) -> None:
        """An audit log alone changes nothing of where the service may listen."""
        reactor: Any = MemoryReactorClock()
        oversight = overseen(None, AuditNotes())
        build(ExecConfig(listen=("tcp:7512",)), reactor, oversight)
        config = ExecConfig(listen=("tcp:7512",), allowShell=True)
        self.assertRaises(ConfigurationError, build, config, reactor, oversight)

    def test_options(self) -> None:
        """Policy and audit log are options of the plugin."""
        config = parsed("--policy", "p.toml", "--audit", "a.log")
        self.assertEqual((config.policy, config.audit), ("p.toml", "a.log"))


class UNIXReactor(MemoryReactorClock):
    """A reactor in memory that really binds Unix sockets."""

    def listenUNIX(self, *args: Any, **told: Any) -> IListeningPort:
        port = Port(*args, **told | {"reactor": self})
        port.startListening()
        return port


class UNIXTests(SynchronousTestCase):
    """The service on a real Unix socket, started by who lets everybody do everything."""

    def setUp(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        self.path = os.path.join(directory, "exec.sock")

    def mode(
        self, options: str = "", *, allowShell: bool = True, oversight: Oversight = UNSEEN
    ) -> int:
        """Listen there, and tell the rights that the socket had."""
        reactor: Any = UNIXReactor()
        config = ExecConfig(listen=(f"unix:{self.path}{options}",), allowShell=allowShell)
        (service,) = build(config, reactor, oversight)
        service.startService()
        mode = stat.S_IMODE(os.stat(self.path).st_mode)
        stopped = service.stopService()
        reactor.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(os.umask(0), 0)
        return mode

    def test_private(self) -> None:
        """A shell on a Unix socket is for the user alone who started it."""
        self.assertEqual(self.mode(), 0o600)

    def test_atOnce(self) -> None:
        """Nobody else gets in before the socket's mode is set, either."""
        self.patch(os, "chmod", lambda *_: None)
        self.assertEqual(self.mode() & 0o077, 0)

    def test_given(self) -> None:
        """A mode that was given is kept: so a group can be let in."""
        self.assertEqual(self.mode(":mode=660"), 0o660)

    def test_withoutShell(self) -> None:
        """Without a shell there is nothing to keep others from."""
        self.assertEqual(self.mode(allowShell=False), 0o666)

    def test_policy(self) -> None:
        """With a policy it is the user's alone, too, until a mode lets in those whom it names."""
        told: dict[str, Any] = {"allowShell": False, "oversight": overseen("")}
        self.assertEqual(self.mode(**told), 0o600)
        self.assertEqual(self.mode(":mode=666", **told), 0o666)
