"""
From a configuration to what listens: checked before, told of after.
"""

from __future__ import annotations

import io
import os
import pwd
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import skipIf

from twisted.application.service import MultiService
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.ops.sample import SAMPLE, SampleConfig
from tests.trust.certificates import serverFiles
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.files.classic import ClassicGetFactory
from twisted_netsuite.files.tap import KIND as FILES
from twisted_netsuite.files.tap import FilesConfig
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.net.mtls import MutualTLSServerEndpoint
from twisted_netsuite.ops.config import readConfig
from twisted_netsuite.ops.guards import GuardedApplication
from twisted_netsuite.ops.launch import (
    DESCRIPTORS,
    Planned,
    TableService,
    asServer,
    build,
    dialled,
    launch,
    makerFor,
    tried,
)
from twisted_netsuite.ops.options import PluginOptions, optionsFor
from twisted_netsuite.trust.audit import AuditLog

SampleOptions = optionsFor(SAMPLE, "A sample.")


def sample(**told: Any) -> SampleConfig:
    """Make a configuration."""
    return SampleConfig(**({"root": "/srv"} | told))


class BuildTests(SynchronousTestCase):
    """L{build}: services that listen once they are started."""

    def test_names(self) -> None:
        """Each service is named as planned; those beside the first have a name of their own."""
        planned = [
            (SAMPLE, "sample.a", sample()),
            (SAMPLE, "sample.b", sample(colour="green", listen=["tcp:0"])),
        ]
        services = build(planned, MemoryReactorClock())
        names = [service.name for service in services]
        self.assertEqual(names, ["sample.a", "sample.b", "sample.b/second"])

    def test_blame(self) -> None:
        """What is wrong in a file is said with the file and the service, which have no option."""
        planned = [(SAMPLE, "sample.a", sample(listen=["odd:1"]))]
        for source, where in (("", ""), ("/etc/n.toml", "/etc/n.toml: sample.a: ")):
            error = self.assertRaises(
                ConfigurationError, build, planned, MemoryReactorClock(), source
            )
            self.assertTrue(str(error).startswith(f"{where}The listen address 'odd:1'"), error)

    def test_reactor(self) -> None:
        """They are built for the reactor that was handed in, and listen on nothing yet."""
        reactor: Any = MemoryReactorClock()
        (service,) = build([(SAMPLE, "sample", sample())], reactor)
        self.assertEqual(reactor.tcpServers, [])
        service.startService()
        self.assertEqual(reactor.tcpServers[0][0], 7000)

    def test_wrong(self) -> None:
        """What is wrong is told as it is for one service, with its name for several."""
        wrong = (SAMPLE, "sample.b", sample(root="wrong"))
        with self.assertRaises(ConfigurationError) as alone:
            build([wrong], MemoryReactorClock())
        with self.assertRaises(ConfigurationError) as among:
            build([(SAMPLE, "sample.a", sample()), wrong], MemoryReactorClock())
        self.assertEqual(str(alone.exception), "The root 'wrong' is wrong; give another.")
        self.assertEqual(str(among.exception), f"sample.b: {alone.exception}")


class LaunchTests(SynchronousTestCase):
    """L{launch} and L{makerFor} on real sockets of loopback, which are never listened on."""

    def options(self, *words: str) -> PluginOptions:
        """Parse the options of the whole suite."""
        options = PluginOptions()
        options.parseOptions(list(words))
        return options

    @contextmanager
    def port(self) -> Iterator[int]:
        """Hold a port of loopback."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            yield sock.getsockname()[1]

    def test_all(self) -> None:
        """The application holds every service, started by nobody yet, and its ports are free."""
        with self.port() as number:
            pass
        listens = {"a": f"tcp:{number}:interface=127.0.0.1", "b": "tcp:0:interface=127.0.0.1"}
        application = launch(
            self.options(),
            [(SAMPLE, name, sample(listen=[where])) for name, where in listens.items()],
        )
        self.assertIsInstance(application, MultiService)
        self.assertEqual([service.name for service in application], ["a", "b"])
        self.assertFalse(application.running)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", number))

    def test_inUse(self) -> None:
        """A port in use ends the program with one sentence, before anything is daemonised."""
        with self.port() as number, self.assertRaises(SystemExit) as caught:
            where = f"tcp:{number}:interface=127.0.0.1"
            launch(self.options(), [(SAMPLE, "a", sample(listen=[where]))])
        self.assertEqual(
            caught.exception.code,
            f"netsuite: Cannot listen on tcp 127.0.0.1:{number}: address already in use; stop the "
            "program that holds it, or give another listen address.",
        )

    def test_twice(self) -> None:
        """Two services on one address end the program with one sentence."""
        with self.assertRaises(SystemExit) as caught:
            where = "unix:/tmp/netsuite-test-nobody-listens-here"
            launch(self.options(), [(SAMPLE, name, sample(listen=[where])) for name in "ab"])
        self.assertIn("is given twice", str(caught.exception.code))

    def test_wrong(self) -> None:
        """A configuration that is wrong ends the program with one sentence, when checked, too."""
        for words in ([], ["--check"]):
            with self.assertRaises(SystemExit) as caught:
                launch(self.options(*words), [(SAMPLE, "a", sample(root="wrong"))])
            self.assertEqual(
                caught.exception.code, "netsuite: The root 'wrong' is wrong; give another."
            )

    def test_control(self) -> None:
        """What is said of a configuration cannot control the terminal that shows it."""
        where = "unix:/nowhere\x1b[2J\n/x"
        with self.assertRaises(SystemExit) as caught:
            launch(self.options(), [(SAMPLE, "a", sample(listen=[where]))])
        self.assertIn("/nowhere\ufffd[2J /x", str(caught.exception.code))

    def test_descriptors(self) -> None:
        """So many descriptors are allowed as the services can need, or as may be, and none less."""
        infinite = resource.RLIM_INFINITY
        for soft, hard, wanted in (
            (1024, 1 << 20, DESCRIPTORS),
            (1024, 4096, 4096),
            (1024, infinite, DESCRIPTORS),
            (DESCRIPTORS, 1 << 20, None),
            (1 << 20, 1 << 20, None),
            (infinite, infinite, None),
        ):
            told: list[tuple[int, int]] = []
            self.patch(resource, "getrlimit", lambda _, limits=(soft, hard): limits)
            self.patch(resource, "setrlimit", lambda _, limits, told=told: told.append(limits))
            launch(self.options(), [(SAMPLE, "a", sample(listen=["tcp:0"]))])
            self.assertEqual(told, [] if wanted is None else [(wanted, hard)])

    def test_check(self) -> None:
        """A check ends with status 0 and says so; it binds nothing, so a port in use is right."""
        self.patch(sys, "stdout", io.StringIO())
        with self.port() as number:
            where = [f"tcp:{port}:interface=127.0.0.1" for port in (number, 0)]
            for count, said in ((1, "1 service"), (2, "2 services")):
                planned = [(SAMPLE, str(n), sample(listen=[where[n]])) for n in range(count)]
                with self.assertRaises(SystemExit) as caught:
                    launch(self.options("--check"), planned)
                self.assertEqual(caught.exception.code, 0)
                output: Any = sys.stdout
                self.assertEqual(
                    output.getvalue().splitlines()[-1],
                    f"netsuite: the configuration is right ({said}).",
                )

    def test_checkTwice(self) -> None:
        """A check notices two services that want one address."""
        where = ["tcp:7099:interface=127.0.0.1"]
        planned = [(SAMPLE, name, sample(listen=where)) for name in ("a", "b")]
        with self.assertRaises(SystemExit) as caught:
            launch(self.options("--check"), planned)
        self.assertIn("tcp 127.0.0.1:7099 is given twice", str(caught.exception.code))

    def test_table(self) -> None:
        """A table is printed after all services, so that it shows what really listens."""
        planned = [(SAMPLE, "a", sample(listen=["tcp:0:interface=127.0.0.1"]))]
        (*_, last) = launch(self.options("--table"), planned)
        self.assertIsInstance(last, TableService)

    def test_maker(self) -> None:
        """A plugin's makeService builds the one service of its options."""
        options = SampleOptions()
        options.parseOptions(["--root", "/srv", "--listen", "tcp:0:interface=127.0.0.1"])
        (service,) = makerFor(SAMPLE)(options)
        assert isinstance(service, ListeningService)
        self.assertEqual((service.name, service.running), ("sample", False))

    def test_makerWrong(self) -> None:
        """Its sentence begins with the plugin's own name."""
        options = SampleOptions()
        options.parseOptions(["--root", "wrong"])
        with self.assertRaises(SystemExit) as caught:
            makerFor(SAMPLE)(options)
        self.assertIn("netsuite-sample: The root", str(caught.exception.code))


class ServerTests(SynchronousTestCase):
    """L{asServer}: what a server has to be able to do is tried as the user that it becomes."""

    def who(self, **told: Any) -> tuple[int, int, list[int]]:
        """Tell as whom something is done."""
        options: Any = PluginOptions()
        options.parent = told
        found: list[tuple[int, int, list[int]]] = []
        asServer(options, lambda: found.append((os.geteuid(), os.getegid(), os.getgroups())))
        return found[0]

    def test_same(self) -> None:
        """Without a user it is who starts it."""
        own = (os.geteuid(), os.getegid(), os.getgroups())
        self.assertEqual(self.who(), own)
        self.assertEqual(self.who(uid=None, gid=None), own)
        found: list[int] = []
        asServer(PluginOptions(), lambda: found.append(os.geteuid()))
        self.assertEqual(found, [os.geteuid()])

    @skipIf(os.geteuid(), "only root can give its rights up")
    def test_other(self) -> None:
        """With one it is that one with its groups; afterwards, also after a failure, who it was."""
        own = (os.geteuid(), os.getegid(), os.getgroups())
        nobody = pwd.getpwnam("nobody")
        groups = os.getgrouplist("nobody", nobody.pw_gid)
        self.assertEqual(self.who(uid=nobody.pw_uid), (nobody.pw_uid, nobody.pw_gid, groups))
        self.assertEqual(self.who(uid=nobody.pw_uid, gid=7)[:2], (nobody.pw_uid, 7))
        self.assertEqual(self.who(gid=7)[:2], (own[0], 7))

        def fail() -> None:
            raise ConfigurationError("It cannot be used; mend that.")

        options: Any = PluginOptions()
        options.parent = {"uid": nobody.pw_uid}
        self.assertRaises(ConfigurationError, asServer, options, fail)
        self.assertEqual((os.geteuid(), os.getegid(), os.getgroups()), own)

    def test_powerless(self) -> None:
        """Who may become nobody else tries it as who it is; C{twistd} says the rest."""
        self.patch(os, "geteuid", lambda: 1234)
        self.assertEqual(self.who(uid=65534)[0], 1234)


class GuardedTests(SynchronousTestCase):
    """What stands over the services that L{launch} builds."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)
        self.policy = self.path("policy.toml", "")
        self.audit = os.path.join(self.directory, "audit.log")
        self.opened: list[AuditLog] = []
        self.patch(AuditLog, "open", lambda log: self.opened.append(log))

    def path(self, name: str, text: str) -> str:
        """Write a file."""
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def planned(self, *names: str, **told: Any) -> list[Planned]:
        """Plan file services."""
        values = {
            "root": self.directory,
            "dialect": "get",
            "listen": ["tcp:0:interface=127.0.0.1"],
            "policy": self.policy,
            "audit": self.audit,
        }
        config = readConfig(FilesConfig, values | told, str)
        return [(FILES, name, config) for name in names]

    def launched(self, planned: list[Planned], *words: str, source: str = "") -> GuardedApplication:
        """Launch them."""
        options = PluginOptions()
        options.parseOptions(list(words))
        application = launch(options, planned, source)
        assert isinstance(application, GuardedApplication)
        for service in application:
            assert isinstance(service, ListeningService)
            assert isinstance(service.factory, ClassicGetFactory)
            self.addCleanup(service.factory.root.close)
        return application

    def refused(self, planned: list[Planned], *words: str, source: str = "") -> str:
        """Launch, and give the sentence of the refusal."""
        with self.assertRaises(SystemExit) as caught:
            self.launched(planned, *words, source=source)
        return str(caught.exception.code)

    def test_shared(self) -> None:
        """Services that name the same files share them, however the paths are written; each log is
        opened once."""
        relative = [os.path.relpath(path) for path in (self.policy, self.audit)]
        dotted = [f"{self.directory}/./{name}" for name in ("policy.toml", "audit.log")]
        planned = self.planned("a")
        for name, (policy, audit) in (("b", relative), ("c", dotted)):
            planned += self.planned(name, policy=policy, audit=audit)
        application = self.launched(planned)
        guards = application._guards
        self.assertEqual([*guards.policies, *guards.audits], [self.policy, self.audit])
        self.assertEqual(self.opened, list(guards.audits.values()))

    def test_other(self) -> None:
        """For a service that has neither, nothing is opened."""
        guards = self.launched(self.planned("a", policy="", audit=""))._guards
        self.assertEqual((guards.policies, guards.audits, self.opened), ({}, {}, []))

    def test_badPolicy(self) -> None:
        """A policy that is wrong ends the program with one sentence that names the file of the
        services, the service, and the policy's line; when checked, too."""
        bad = self.path("bad.toml", "[identities]\nanonymous = 3\n")
        planned = [*self.planned("files.a"), *self.planned("files.b", policy=bad)]
        for words in ([], ["--check"]):
            sentence = self.refused(planned, *words, source="suite.toml")
            begin = f"netsuite: suite.toml: files.b: {bad}:2: identities.anonymous is 3"
            self.assertTrue(sentence.startswith(begin), sentence)
            self.assertNotIn("\n", sentence)
            self.assertIn(f"netsuite: {bad}:2: ", self.refused(planned[1:], *words))

    def test_check(self) -> None:
        """A check reads the policy and opens no log."""
        self.patch(sys, "stdout", io.StringIO())
        self.assertEqual(self.refused(self.planned("a"), "--check"), "0")
        self.assertEqual(self.opened, [])
        self.assertEqual(os.listdir(self.directory), ["policy.toml"])

    def test_logInUse(self) -> None:
        """A log that cannot be opened ends the program with one sentence."""

        def fail(log: AuditLog) -> None:
            raise ConfigurationError(f"The audit log {log.path!r} cannot be used: mend that.")

        self.patch(AuditLog, "open", fail)
        self.assertEqual(
            self.refused(self.planned("a"), source="suite.toml"),
            f"netsuite: suite.toml: The audit log {self.audit!r} cannot be used: mend that.",
        )

    def test_portInUse(self) -> None:
        """Services that cannot listen leave no record of having begun."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            where = f"tcp:{sock.getsockname()[1]}:interface=127.0.0.1"
            sentence = self.refused(self.planned("a", listen=[where]))
        self.assertIn("address already in use", sentence)
        self.assertEqual(self.opened, [])


class TableTests(SynchronousTestCase):
    """L{TableService}: what is listening, for people."""

    def test_table(self) -> None:
        """Each port has a line with service, address, dialect, and a line that can be typed."""
        reactor = MemoryReactorClock()
        listen = ["tcp:7000", "tcp:80:interface=\\:\\:", "unix:/run/x"]
        services = build([(SAMPLE, "sample.main", sample(listen=listen))], reactor)
        output = io.StringIO()
        table = TableService(services, output)
        for service in (*services, table):
            service.startService()
        self.assertEqual(
            output.getvalue().splitlines(),
            [
                "SERVICE      ADDRESS           DIALECT  TRY",
                "sample.main  tcp 0.0.0.0:7000  spoken   try 127.0.0.1:7000",
                "sample.main  tcp [::]:80       spoken   try [::1]:80",
                "sample.main  unix:/run/x       spoken   try unix:/run/x",
            ],
        )

    def test_certificates(self) -> None:
        """Where clients need a certificate, the line says so."""
        reactor = MemoryReactorClock()
        endpoint = MutualTLSServerEndpoint(reactor, 0, serverFiles())
        self.successResultOf(endpoint.listen(Factory()))
        overTLS: Any = SimpleNamespace(factory=reactor.tcpServers[0][1])
        plain: Any = SimpleNamespace(factory=Factory())
        self.assertEqual(tried("netsuite echo h:7 x", plain), "netsuite echo h:7 x")
        self.assertEqual(
            tried("netsuite echo h:7 x", overTLS),
            "netsuite echo --cert CLIENT.pem --ca CA.pem h:7 x",
        )

    def test_nothing(self) -> None:
        """Without a port there is only the head."""
        output = io.StringIO()
        TableService([], output).startService()
        self.assertEqual(output.getvalue(), "SERVICE  ADDRESS  DIALECT  TRY\n")

    def test_closedPipe(self) -> None:
        """That nobody reads the table is no reason not to serve."""
        reader, writer = os.pipe()
        os.close(reader)
        output = open(writer, "w", encoding="utf-8")  # noqa: SIM115
        self.addCleanup(os.close, os.dup(writer))
        self.addCleanup(self.assertRaises, BrokenPipeError, output.close)
        table = TableService([], output)
        table.startService()
        self.assertTrue(table.running)


class DialledTests(SynchronousTestCase):
    """L{dialled}: an address of a port as a client on this machine writes it."""

    def test_addresses(self) -> None:
        """What stands for all addresses is dialled on loopback; datagrams say that they are."""
        for host, address in (
            (IPv4Address("TCP", "192.0.2.1", 7), "192.0.2.1:7"),
            (IPv4Address("TCP", "0.0.0.0", 7), "127.0.0.1:7"),
            (IPv6Address("TCP", "::", 7), "[::1]:7"),
            (IPv6Address("TCP", "2001:db8::1", 7), "[2001:db8::1]:7"),
            (IPv4Address("UDP", "0.0.0.0", 7), "udp:127.0.0.1:7"),
            (IPv6Address("UDP", "::", 7), "udp:[::1]:7"),
            (UNIXAddress("/run/x"), "unix:/run/x"),
        ):

            class Port:
                """A port there."""

                getHost = staticmethod(lambda host=host: host)

            port: Any = Port()
            self.assertEqual(dialled(port), address)
