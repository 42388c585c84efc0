"""What the exec plugin can be told, and what it refuses."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.unix import Port
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.trust.overseen import ANNA, overseen
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.ops.launch import makerFor
from twisted_netsuite.rexec.classic import ClassicExecFactory
from twisted_netsuite.rexec.commands import DEFAULT_EXEC_LIMITS, ExecLimits
from twisted_netsuite.rexec.launch import Launch
from twisted_netsuite.rexec.ledger import Ledger
from twisted_netsuite.rexec.messages import MAX_TTL, Start
from twisted_netsuite.rexec.native import ExecFactory
from twisted_netsuite.rexec.permit import Terms, judge, ownPath, planOf
from twisted_netsuite.rexec.process import ProcessSpawner
from twisted_netsuite.rexec.tap import CLASSIC, KIND, NATIVE, ExecConfig, Options, build
from twisted_netsuite.trust.audit import AuditNotes
from twisted_netsuite.trust.ca import Authority
from twisted_netsuite.trust.identity import ANONYMOUS, Identity
from twisted_netsuite.trust.oversight import UNSEEN, Oversight
from twisted_netsuite.wire.words import kebab

#: Addresses that other machines can reach, or of which nobody knows better.
ELSEWHERE = (
    "tcp:7512",
    "tcp:7512:interface=0.0.0.0",
    "tcp:7512:interface=\\:\\:",
    "tcp:7512:interface=192.0.2.1",
)

#: Addresses of this machine alone.
HERE = (
    "tcp:7512:interface=127.0.0.1",
    "tcp:7512:interface=127.9.9.9",
    "tcp:7512:interface=\\:\\:1",
    "unix:/tmp/exec.sock",
)

#: A value for each option that only one side has, other than its default.
TOLD: dict[str, Any] = {
    "allow": ("true",),
    "allowAny": True,
    "auth": ("memory:a:b",),
    "requireIdentity": True,
    "path": "/usr/bin",
    "state": "state",
    "record": "recordings",
    "maxCommands": 1,
    "maxKept": 1,
    "keepLimit": 65536,
    "maxTtl": 1,
    "drain": 1.0,
    "allowShell": True,
    "encoding": "gbk",
}


def parsed(*words: str) -> ExecConfig:
    """Parse a command line."""
    options = Options()
    options.parseOptions(list(words))
    assert isinstance(options.config, ExecConfig)
    return options.config


class TapCase(SynchronousTestCase):
    """Builds the service."""

    def service(self, oversight: Oversight = UNSEEN, **values: Any) -> ListeningService:
        """Build the service."""
        reactor: Any = MemoryReactorClock()
        (service,) = build(ExecConfig(**values), reactor, oversight)
        return service

    def refused(self, oversight: Oversight = UNSEEN, **values: Any) -> str:
        """Build, and give the one sentence of the refusal."""
        error: Any = self.assertRaises(ConfigurationError, self.service, oversight, **values)
        assert isinstance(error, ConfigurationError)
        self.assertRegex(error.sentence, r"\A[^\n]+\.\Z")
        return error.sentence

    def native(self, oversight: Oversight = UNSEEN, **values: Any) -> ExecFactory:
        """Build the native dialect, and give its factory."""
        factory = self.service(oversight, **values).factory
        assert isinstance(factory, ExecFactory)
        return factory

    def classic(self, oversight: Oversight = UNSEEN, **values: Any) -> ClassicExecFactory:
        """Build a classic dialect, and give its factory."""
        factory = self.service(oversight, **{"dialect": "header"} | values).factory
        assert isinstance(factory, ClassicExecFactory)
        return factory


class TapTests(TapCase):
    """What holds for every dialect."""

    def test_defaults(self) -> None:
        """Told nothing, the service is the native dialect on loopback, and runs nothing."""
        config = parsed()
        self.assertEqual(config, ExecConfig())
        self.assertEqual(config.listen, ("tcp:7512:interface=127.0.0.1",))
        self.assertEqual(config.dialect, "int32")
        service = self.service()
        self.assertEqual(service.dialect, "int32")
        self.assertEqual(service.example("127.0.0.1:7"), "netsuite exec 127.0.0.1:7 uname")
        factory = self.native()
        self.assertFalse(factory.commands._oversight.guarded)
        self.assertEqual(factory.commands.limits, DEFAULT_EXEC_LIMITS)
        self.assertEqual(factory.commands._terms, Terms(path=ownPath()))
        self.assertEqual((factory.commands._ledger, factory.commands._recorder), (None, None))
        self.assertEqual((factory.tokens, factory.requireIdentity), (None, False))
        self.assertIsInstance(factory.commands._spawner, ProcessSpawner)

    def test_wrongOptions(self) -> None:
        """A value that an option cannot take ends the program with the option and the value."""
        for words, parts in (
            (["--dialect", "morse"], ["--dialect is 'morse'", "int32, raw, length, header"]),
            (["--output-limit", "-1"], ["--output-limit is '-1'"]),
            (["--output-limit", "many"], ["--output-limit is 'many'"]),
            (["--time-limit", "-0.1"], ["--time-limit is '-0.1'"]),
            (["--drain", "-1"], ["--drain is '-1'"]),
            (["--drain", "soon"], ["--drain is 'soon'"]),
            (["--max-commands", "0"], ["--max-commands is '0'"]),
            (["--max-kept", "0"], ["--max-kept is '0'"]),
            (["--keep-limit", "0"], ["--keep-limit is '0'"]),
            (["--max-ttl", "-1"], ["--max-ttl is '-1'"]),
            (["--max-ttl", "2592001"], ["--max-ttl is '2592001'", "a whole number <= 2592000"]),
            (["--max-ttl", "0"], ["--max-ttl is '0'", "a whole number >= 1"]),
            (["--keep-limit", "65535"], ["--keep-limit is '65535'", "a whole number >= 65536"]),
            (["--keep-limit", "9007199254740993"], ["--keep-limit", "<= 9007199254740992"]),
            (["--output-limit", "9007199254740993"], ["--output-limit", "<= 9007199254740992"]),
            (["--max-commands", "100001"], ["--max-commands is '100001'", "<= 100000"]),
            (["--max-kept", "100001"], ["--max-kept is '100001'", "<= 100000"]),
            (["--time-limit", "inf"], ["--time-limit is 'inf'", "<= 1000000000.0"]),
            (["--drain", "inf"], ["--drain is 'inf'", "<= 86400.0"]),
            (["--max-connections", "0"], ["--max-connections is '0'"]),
            (["--shell"], ["netsuite-exec", "--help"]),
        ):
            sentence = str(self.assertRaises(SystemExit, parsed, *words))
            for part in parts:
                self.assertIn(part, sentence)

    def test_address(self) -> None:
        """Addresses that are none, or are for datagrams, are named, whatever is spoken there."""
        for listen in ("tcp:x", "nonsense", "udp:7512", "tcp:70000"):
            for dialect in ("int32", "raw", "length", "header"):
                self.assertIn(repr(listen), self.refused(listen=(listen,), dialect=dialect))

    def test_everyField(self) -> None:
        """The tests below know each option that belongs to one side only."""
        self.assertEqual(set(TOLD), {*NATIVE, *CLASSIC})

    def test_otherDialect(self) -> None:
        """What only the native dialect can be told, a classic one refuses by its name; and the
        reverse. So nobody believes in a bound that does not hold."""
        for field in NATIVE:
            for dialect in ("raw", "length", "header"):
                sentence = self.refused(dialect=dialect, **{field: TOLD[field]})
                self.assertEqual(
                    sentence,
                    f"{kebab(field)} is for the dialect int32, and this is {dialect}; leave it "
                    "out, or give another dialect.",
                )
        for field in CLASSIC:
            sentence = self.refused(**{field: TOLD[field]})
            self.assertIn(" is for a classic dialect, and this is int32", sentence)
        self.assertIn("allow-any lets clients run everything", self.refused(allowShell=True))

    def test_alsoAtDefault(self) -> None:
        """A value that is the default contradicts nothing, however it was given."""
        self.classic(allow=(), drain=0.0, requireIdentity=False)
        self.native(allowShell=False, encoding="utf-8")


class NativeTests(TapCase):
    """What the native dialect can be told."""

    def test_options(self) -> None:
        """Each option reaches what it bounds."""
        config = parsed(
            *("--allow", "ls **", "--allow", "true", "--auth", "memory:anna:secret"),
            *("--path", "/usr/bin:/bin", "--output-limit", "5", "--time-limit", "2.5"),
            *("--max-commands", "7", "--max-kept", "8", "--keep-limit", "70000", "--max-ttl", "10"),
            *("--drain", "11", "--max-connections", "12", "--idle-timeout", "13"),
            *("--state", "state", "--record", "recordings"),
        )
        self.assertEqual(config.allow, ("ls **", "true"))
        reactor: Any = MemoryReactorClock()
        (service,) = build(config, reactor)
        factory = service.factory
        assert isinstance(factory, ExecFactory)
        commands = factory.commands
        self.assertEqual(commands.limits, ExecLimits(commands=7, kept=8, spool=70000, ttl=10))
        self.assertEqual(
            commands._terms, Terms(path=(b"/usr/bin", b"/bin"), timeLimit=2.5, outputLimit=5)
        )
        self.assertEqual((factory.limits.maxConnections, factory.limits.idleTimeout), (12, 13.0))
        self.assertEqual(factory._drain, 11.0)
        self.assertIsNotNone(factory.tokens)
        assert commands._ledger is not None
        self.assertEqual(commands._ledger.directory, os.path.abspath("state"))
        self.assertIsNotNone(commands._recorder)

    def test_noBound(self) -> None:
        """0 is no bound for time and output of a native command, whose output is kept nowhere."""
        terms = self.native(timeLimit=0.0, outputLimit=0).commands._terms
        self.assertEqual((terms.timeLimit, terms.outputLimit), (None, None))

    def test_ttl(self) -> None:
        """By default the longest time to live is what a client can ask for at all."""
        self.assertEqual(ExecConfig().maxTtl, MAX_TTL)

    def test_identity(self) -> None:
        """Who has a checker of tokens, or asks for names, lets nobody in without one."""
        factory = self.native(auth=("memory:anna:secret",))
        self.assertTrue(factory.requireIdentity)
        self.assertIsNotNone(factory.tokens)
        factory = self.native(requireIdentity=True)
        self.assertTrue(factory.requireIdentity)
        self.assertIsNone(factory.tokens)

    def test_auth(self) -> None:
        """A checker that cannot be is named."""
        self.assertIn("'x:y'", self.refused(auth=("x:y",)))

    def test_path(self) -> None:
        """Directories that depend on where the server was started, or lead up, are refused."""
        for path in ("bin", "/usr/bin:", "/usr/bin:bin", "/usr/../bin", ":/usr/bin"):
            self.assertIn(repr(path), self.refused(path=path))

    def test_directories(self) -> None:
        """State and recordings are where the program was started, wherever it goes then, and a
        tilde is the home of who starts it."""
        home = self.mktemp()
        self.patch(os, "environ", os.environ | {"HOME": os.path.abspath(home)})
        ledger = self.native(state="~/state").commands._ledger
        assert ledger is not None
        self.assertEqual(ledger.directory, os.path.abspath(f"{home}/state"))

    def test_record(self) -> None:
        """A recording is made in the directory that was told, of what runs and whose it is."""
        directory = Path(self.mktemp())
        service = self.service(record=str(directory))
        self.assertFalse(directory.exists())
        service.furnish()
        factory = service.factory
        assert isinstance(factory, ExecFactory)
        recorder = factory.commands._recorder
        assert recorder is not None
        launch = Launch(program=b"/bin/ls", argv=(b"ls",), env={b"TERM": b"vt100"}, cwd=b"/")
        recorder("abcdef", launch, "cert:anna").close()
        (path,) = directory.iterdir()
        text = path.read_text()
        for part in ("cert:anna", "vt100", "ls"):
            self.assertIn(part, text)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)


class AllowTests(TapCase):
    """Commands that everybody may run who can reach the service."""

    def may(self, factory: ExecFactory, *argv: bytes, who: Identity = ANONYMOUS) -> bool:
        """Ask what its policy decides."""
        commands = factory.commands
        wish = planOf(Start(channel=1, argv=argv))
        return judge(commands._oversight, who, wish, commands._terms).decision.allowed

    def test_allow(self) -> None:
        """Each one that is allowed may be run by everybody, and nothing else."""
        factory = self.native(allow=("sh -c true", "env **"), path="/usr/bin:/bin")
        shell = _program("sh")
        for who in (ANONYMOUS, ANNA):
            self.assertTrue(self.may(factory, shell, b"-c", b"true", who=who))
            self.assertTrue(self.may(factory, _program("env"), b"x", b"y", who=who))
            self.assertFalse(self.may(factory, shell, b"-c", b"false", who=who))
            self.assertFalse(self.may(factory, _program("ls"), who=who))

    def test_allowAny(self) -> None:
        """With everything allowed, that is what everybody may run."""
        factory = self.native(allowAny=True)
        self.assertTrue(self.may(factory, b"/any/program", b"at all"))

    def test_nothing(self) -> None:
        """With neither, and no policy, nobody may run anything."""
        factory = self.native()
        self.assertFalse(self.may(factory, b"/bin/true"))

    def test_both(self) -> None:
        """Some and everything contradict each other."""
        self.assertIn("leave one of them out", self.refused(allow=("true",), allowAny=True))

    def test_wrong(self) -> None:
        """Words that cannot be used are named."""
        for words in ("", "no-such-program-here", "ls ** more", "'ls"):
            self.assertIn(f"--allow {words!r}", self.refused(allow=(words,)))

    def test_here(self) -> None:
        """On loopback and on Unix sockets commands can be allowed."""
        for listen in HERE:
            self.native(listen=(listen,), allow=("true",))
            self.native(listen=(listen,), allowAny=True)

    def test_elsewhere(self) -> None:
        """On no address that other machines can reach, whatever asks for names there: the sentence
        names the address, and the two ways."""
        directory = self.mktemp()
        made = Authority.create(directory).issueServer("localhost")
        for listen in (
            *ELSEWHERE,
            f"mtls:7512:cert={made}:clientCA={directory}/ca.pem",
            "haproxy:tcp:7512",
            "haproxy:tcp:7512:interface=127.0.0.1",
        ):
            for told in ({"allow": ("true",)}, {"allowAny": True}):
                sentence = self.refused(listen=("tcp:1:interface=127.0.0.1", listen), **told)
                self.assertIn(repr(listen), sentence)
                self.assertIn("allow and allow-any ask no one's name", sentence)
                self.assertIn("write a policy file", sentence)
                self.assertIn("interface=127.0.0.1", sentence)

    def test_tokens(self) -> None:
        """That names are asked for there makes no difference: the words ask for none."""
        for told in ({"auth": ("memory:a:b",)}, {"requireIdentity": True}):
            sentence = self.refused(listen=("tcp:7512",), allow=("true",), **told)
            self.assertIn("'tcp:7512' can be reached from other machines", sentence)

    def test_policy(self) -> None:
        """Words and a policy contradict each other."""
        for told in ({"allow": ("true",)}, {"allowAny": True}):
            self.assertEqual(
                self.refused(overseen(""), **told),
                "A policy says who may run what, and allow and allow-any let everybody; leave one "
                "of them out.",
            )

    def test_audited(self) -> None:
        """The audit log that stands over the service stands over what is allowed by words."""
        notes = AuditNotes()
        factory = self.native(overseen(None, notes), allow=("true",))
        factory.commands._oversight.note("exec.end", peer="", identity=ANNA)
        self.assertEqual([each["event"] for each in notes.records], ["exec.end"])


def _program(name: str) -> bytes:
    """Find a program as the service does."""
    found = shutil.which(name, path="/usr/bin:/bin")
    assert found is not None
    return found.encode()


class NativePolicyTests(TapCase):
    """The native dialect with a policy."""

    def test_elsewhere(self) -> None:
        """Nobody on other machines may try what the policy allows, who cannot prove a name."""
        for listen in ("tcp:7512", "tcp:7512:interface=192.0.2.1", "haproxy:tcp:7512"):
            sentence = self.refused(overseen(""), listen=("tcp:1:interface=127.0.0.1", listen))
            self.assertIn(f"{listen!r} can be reached from other machines", sentence)
            self.assertIn("anyone could try what the policy allows", sentence)
            self.assertIn("mtls:PORT:cert=FILE:clientCA=FILE", sentence)

    def test_named(self) -> None:
        """Where clients without a name are refused, it may listen anywhere."""
        for told in ({"auth": ("memory:a:b",)}, {"requireIdentity": True}):
            self.native(overseen(""), listen=("tcp:7512",), **told)

    def test_here(self) -> None:
        """On this machine it stands over the factory."""
        for listen in HERE:
            oversight = overseen("")
            factory = self.native(oversight, listen=(listen,))
            self.assertIs(factory.commands._oversight, oversight)

    def test_nothingAnywhere(self) -> None:
        """A service that refuses every command may be offered to anybody."""
        for listen in ELSEWHERE:
            self.native(listen=(listen,))


class ClassicTests(TapCase):
    """What the classic dialects can be told."""

    def test_defaults(self) -> None:
        """Told no more than its name, a classic dialect refuses every command."""
        for dialect in ("raw", "length", "header"):
            service = self.service(dialect=dialect)
            factory = service.factory
            assert isinstance(factory, ClassicExecFactory)
            self.assertEqual((factory.dialect, factory._allowShell), (dialect, False))
            limits = factory._commandLimits
            self.assertEqual((limits.output, limits.seconds), (1024 * 1024, 300.0))
            self.assertEqual(service.dialect, dialect)
            self.assertEqual(
                service.example("127.0.0.1:7512"),
                f"netsuite exec --dialect {dialect} 127.0.0.1:7512 uname",
            )

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

    def test_shellBeyondLoopback(self) -> None:
        """A shell is offered to no other machine; the sentence names the address and the way."""
        for listen in ELSEWHERE:
            sentence = self.refused(dialect="header", listen=(listen,), allowShell=True)
            self.assertIn(repr(listen), sentence)
            self.assertIn("interface=127.0.0.1", sentence)
            self.assertIn("allow-shell", sentence)

    def test_oneAddressBeyondLoopback(self) -> None:
        """One address that others can reach among several is enough for a refusal."""
        listen = ("tcp:1:interface=127.0.0.1", "tcp:2")
        told: dict[str, Any] = {"listen": listen, "dialect": "raw", "allowShell": True}
        self.assertIn("'tcp:2'", self.refused(**told))

    def test_shellOnThisMachine(self) -> None:
        """A shell on loopback or a Unix socket is allowed."""
        for listen in HERE:
            self.assertTrue(self.classic(listen=(listen,), allowShell=True)._allowShell)

    def test_noShellAnywhere(self) -> None:
        """A service that refuses every command may be offered to anybody."""
        self.assertFalse(self.classic(listen=("tcp:7512",))._allowShell)

    def test_encoding(self) -> None:
        """An encoding that cannot be used is named, with two that can."""
        for name in ("klingon", "hex", "idna", "a\0b"):
            sentence = self.refused(dialect="header", encoding=name)
            self.assertIn(repr(name), sentence)
            self.assertIn("utf-8 or gbk", sentence)


class ClassicPolicyTests(TapCase):
    """The classic dialects with a policy."""

    def test_allowShell(self) -> None:
        """A shell for everybody and a policy contradict each other."""
        self.assertEqual(
            self.refused(overseen(""), dialect="header", allowShell=True),
            "A policy says who may use a shell, and allow-shell would let everybody; leave one of "
            "them out.",
        )

    def test_beyondLoopback(self) -> None:
        """Nobody on other machines may try what the policy allows, who has not proven who he
        is."""
        for listen in ("tcp:7512", "tcp:7512:interface=192.0.2.1", "haproxy:tcp:7512"):
            both = ("tcp:1:interface=127.0.0.1", listen)
            sentence = self.refused(overseen(""), dialect="raw", listen=both)
            self.assertIn(f"{listen!r} can be reached from other machines", sentence)
            self.assertIn("anyone could try what the policy allows", sentence)
            self.assertIn("mtls:PORT:cert=FILE:clientCA=FILE", sentence)

    def test_here(self) -> None:
        """On loopback and on Unix sockets it stands over the factory."""
        for listen in HERE:
            oversight = overseen("")
            self.assertIs(self.classic(oversight, listen=(listen,))._oversight, oversight)

    def test_audit(self) -> None:
        """An audit log alone changes nothing of where the service may listen."""
        oversight = overseen(None, AuditNotes())
        self.classic(oversight, listen=("tcp:7512",))
        self.refused(oversight, dialect="header", listen=("tcp:7512",), allowShell=True)

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


class StartedCase(TapCase):
    """The service on a real Unix socket."""

    def setUp(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        self.path = os.path.join(directory, "exec.sock")

    def mode(self, options: str = "", *, oversight: Oversight = UNSEEN, **told: Any) -> int:
        """Listen there, and tell the rights that the socket had."""
        reactor: Any = UNIXReactor()
        config = ExecConfig(listen=(f"unix:{self.path}{options}",), **told)
        (service,) = build(config, reactor, oversight)
        service.startService()
        mode = stat.S_IMODE(os.stat(self.path).st_mode)
        stopped = service.stopService()
        reactor.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(os.umask(0), 0)
        return mode


class UNIXTests(StartedCase):
    """Who is let in to a Unix socket."""

    #: What lets everybody do something who is let in.
    open: Sequence[dict[str, Any]] = (
        {"dialect": "header", "allowShell": True},
        {"allow": ("true",)},
        {"allowAny": True},
    )

    #: What lets nobody do anything.
    closed: Sequence[dict[str, Any]] = ({"dialect": "header"}, {})

    def test_private(self) -> None:
        """A shell, or what else everybody may run, is for the user alone who started it."""
        for told in self.open:
            self.assertEqual(self.mode(**told), 0o600, told)

    def test_atOnce(self) -> None:
        """Nobody else gets in before the socket's mode is set, either."""
        self.patch(os, "chmod", lambda *_: None)
        for told in self.open:
            self.assertEqual(self.mode(**told) & 0o077, 0, told)

    def test_given(self) -> None:
        """A mode that was given is kept: so a group can be let in."""
        for told in self.open:
            self.assertEqual(self.mode(":mode=660", **told), 0o660, told)

    def test_withoutShell(self) -> None:
        """Where nothing is run there is nothing to keep others from."""
        for told in self.closed:
            self.assertEqual(self.mode(**told), 0o666, told)

    def test_policy(self) -> None:
        """With a policy it is the user's alone, too, until a mode lets in those whom it names."""
        for told in self.closed:
            self.assertEqual(self.mode(oversight=overseen(""), **told), 0o600, told)
            self.assertEqual(self.mode(":mode=666", oversight=overseen(""), **told), 0o666, told)


class DiskTests(StartedCase):
    """What of the service is on the disk, and when."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def told(self, **values: Any) -> ListeningService:
        """Build it with a directory for all."""
        told = {"state": str(self.directory / "state"), "record": str(self.directory / "record")}
        service = self.service(listen=(f"unix:{self.path}",), **told | values)
        assert isinstance(service.factory, ExecFactory)
        ledger = service.factory.commands._ledger
        assert ledger is not None
        ledger._inThread = maybeDeferred
        return service

    def test_built(self) -> None:
        """Building, and so checking a configuration, creates nothing."""
        self.told()
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_check(self) -> None:
        """C{--check} says that it is right, and creates nothing."""
        options = Options()
        options.parseOptions(
            ["--check", "--state", f"{self.directory}/state", "--record", f"{self.directory}/rec"]
        )
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            ended: Any = self.assertRaises(SystemExit, makerFor(KIND), options)
        self.assertIn("is right", said.getvalue())
        self.assertEqual(ended.code, 0)
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_furnished(self) -> None:
        """Both are made for their owner alone; not yet by what is done with more rights than the
        service has in the end."""
        service = self.told()
        service.prepare()
        service.privilegedStartService()
        self.assertEqual(list(self.directory.iterdir()), [])
        service.startService()
        self.addCleanup(service.stopService)
        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in self.directory.iterdir()}
        self.assertEqual(found, {"state": 0o700, "record": 0o700})

    def test_noParent(self) -> None:
        """A directory that cannot be made is one sentence with its path, and nothing listens."""
        for key in ("state", "record"):
            place = os.path.abspath(self.directory / "missing" / key)
            for privileged in (False, True):
                service = self.told(**{key: place})
                if privileged:
                    service.privilegedStartService()
                error: Any = self.assertRaises(ConfigurationError, service.startService)
                self.assertIn(repr(place), error.sentence)
                self.assertFalse(os.path.exists(self.path))
                self.assertEqual((service.ports, service.running), ([], 0))

    def test_inUse(self) -> None:
        """A state directory that another service has is one sentence, before anything listens."""
        clock: Any = MemoryReactorClock()
        first = Ledger(str(self.directory / "state"), clock, inThread=maybeDeferred)
        self.successResultOf(first.open())
        self.addCleanup(lambda: self.successResultOf(first.close()))
        service = self.told()
        error: Any = self.assertRaises(ConfigurationError, service.startService)
        self.assertIn(repr(os.path.abspath(self.directory / "state")), error.sentence)
        self.assertIn("Another server uses the state directory", error.sentence)
        self.assertFalse(os.path.exists(self.path))
        self.assertEqual(service.ports, [])


class WarningTests(StartedCase):
    """What people learn at the start."""

    def told(self, **told: Any) -> list[str]:
        """Start it, and give what the log warns of."""
        with capturedLogs() as events:
            self.mode(**told)
        warned = [each for each in events if each["log_level"].name == "warn"]
        return [formatEvent(each) for each in warned]

    def test_nothing(self) -> None:
        """A service that refuses every command says so."""
        (warning,) = self.told()
        self.assertIn("nothing is allowed, so every command is refused; allow some by", warning)

    def test_something(self) -> None:
        """One that does not has nothing to say."""
        for told in ({"allow": ("true",)}, {"allowAny": True}, {"oversight": overseen("")}):
            self.assertEqual(self.told(**told), [])


class OpeningTests(StartedCase):
    """A service that keeps something."""

    def test_notOpened(self) -> None:
        """When the state cannot be used after all, the service goes on without: what would be kept
        is refused, and the log says why once."""
        state = self.mktemp()
        reactor: Any = UNIXReactor()
        (service,) = build(ExecConfig(listen=(f"unix:{self.path}",), state=state), reactor)
        factory = service.factory
        assert isinstance(factory, ExecFactory)
        ledger = factory.commands._ledger
        assert ledger is not None
        ledger._inThread = maybeDeferred
        service.furnish()
        database = Path(state) / "ledger.sqlite"
        # Somebody else writes there between the look and the start.
        self.patch(service, "furnish", lambda: None)
        database.write_bytes(b"nothing of ours" * 100)
        with capturedLogs() as events:
            service.startService()
        told = [each for each in events if "nothing is kept" in each.get("log_format", "")]
        self.assertEqual([each["log_level"].name for each in told], ["error"])
        self.assertEqual(len(service.ports), 1)
        stopped = service.stopService()
        reactor.advance(0)
        self.successResultOf(stopped)
        self.flushLoggedErrors()
