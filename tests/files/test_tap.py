"""What the files plugin can be told, and what it refuses."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.unix import Port
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.files.tree import descriptors, makeTree
from tests.trust.overseen import ANNA, PLACE, overseen
from twisted_netsuite.errors import ConfigurationError, NetsuiteError
from twisted_netsuite.files.allowance import Allowance
from twisted_netsuite.files.classic import ClassicGetFactory
from twisted_netsuite.files.native import FilesFactory
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.quota import Quotas
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.tap import FilesConfig, Options, build
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.trust.audit import AuditNotes
from twisted_netsuite.trust.oversight import UNSEEN, Oversight

#: Addresses that others can reach.
ELSEWHERE = ("tcp:7021", "tcp:7021:interface=192.0.2.1", "haproxy:tcp:7021:interface=127.0.0.1")

#: Addresses that nobody on other machines can reach.
HERE = ("tcp:7021:interface=127.0.0.1", "unix:/tmp/files.sock")

#: A policy that lets somebody keep a little.
COUNTED = """
    [identities]
    "cert:*" = ["x"]
    [[roles.x.files]]
    actions = ["write"]
    file-quota = 1
"""


def parsed(*words: str) -> FilesConfig:
    """Parse a command line."""
    options = Options()
    options.parseOptions(list(words))
    assert isinstance(options.config, FilesConfig)
    return options.config


class TapCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = makeTree(os.path.abspath(self.mktemp()), {"a.txt": b"a"})

    def service(self, oversight: Oversight = UNSEEN, **told: Any) -> ListeningService:
        """Build the service."""
        reactor: Any = MemoryReactorClock()
        (service,) = build(FilesConfig(**{"root": self.root} | told), reactor, oversight)
        if isinstance(service.factory, ClassicGetFactory):
            self.addCleanup(service.factory.root.close)
        return service

    def native(self, oversight: Oversight = UNSEEN, **told: Any) -> FilesFactory:
        """Give the native service's factory."""
        factory = self.service(oversight, **told).factory
        assert isinstance(factory, FilesFactory)
        return factory

    def classic(self, oversight: Oversight = UNSEEN, **told: Any) -> ClassicGetFactory:
        """Give the classic service's factory."""
        factory = self.service(oversight, dialect="get", **told).factory
        assert isinstance(factory, ClassicGetFactory)
        return factory

    def refused(self, oversight: Oversight = UNSEEN, **told: Any) -> str:
        """Build, and give the sentence of the refusal; nothing stays open."""
        before = descriptors()
        error: Any = self.assertRaises(ConfigurationError, self.service, oversight, **told)
        self.assertEqual(descriptors(), before)
        return str(error.sentence)


class BothTests(TapCase):
    """What holds for both dialects."""

    def test_defaults(self) -> None:
        """Told nothing but a root, the service is native, on loopback and read-only."""
        config = parsed("--root", self.root)
        self.assertEqual(config.listen, ("tcp:7021:interface=127.0.0.1",))
        self.assertEqual((config.dialect, config.writable), ("native", False))
        self.assertEqual(self.service().dialect, "native")

    def test_example(self) -> None:
        """The line to try it with names a file that is there, and nothing a terminal obeys."""
        for dialect, words in (("native", ""), ("get", "--dialect get ")):
            service = self.service(dialect=dialect)
            self.assertEqual(service.example("h:1"), f"netsuite get {words}h:1:/a.txt -")
            for name in (b"\x1b[2J", b"\xff", "ü".encode(), b"\n"):
                other = os.path.join(os.fsencode(self.root), name)
                os.rename(os.path.join(self.root, "a.txt"), other)
                service = self.service(dialect=dialect)
                self.assertEqual(service.example("h:1"), f"netsuite get {words}h:1:/NAME -")
                os.rename(other, os.path.join(self.root, "a.txt"))

    def test_wrongOptions(self) -> None:
        """A value that an option cannot take ends the program with the option and the value."""
        for words, parts in (
            ([], ["--root is missing", "directory"]),
            (["--root", ""], ["--root is ''"]),
            (["--root", self.root, "--dialect", "ftp"], ["--dialect is 'ftp'", "native, get"]),
            (["--root", self.root, "--links", "all"], ["--links is 'all'", "never, inside"]),
            (["--root", self.root, "--max-connections", "0"], ["--max-connections is '0'"]),
            (["--root", self.root, "--idle-timeout", "-1"], ["--idle-timeout is '-1'"]),
            (["--root", self.root, "--quota", "1 MB"], ["--quota is '1 MB'"]),
            (["--root", self.root, "--limit-rate", "-1"], ["--limit-rate is '-1'"]),
            (["--write"], ["netsuite-files", "--help"]),
        ):
            sentence = str(self.assertRaises(SystemExit, parsed, *words))
            for part in parts:
                self.assertIn(part, sentence)

    def test_wrongRoot(self) -> None:
        """A root that is missing or a file is named with what to do."""
        for dialect in ("native", "get"):
            for path in (self.root + "/missing", self.root + "/a.txt"):
                sentence = self.refused(root=path, dialect=dialect)
                self.assertIn(repr(path), sentence)
                self.assertIn("give a directory", sentence)

    def test_address(self) -> None:
        """Addresses that are none, or are for datagrams, are named."""
        for listen in ("tcp:x", "nonsense", "udp:7021", "tcp:70000"):
            self.assertIn(repr(listen), self.refused(listen=(listen,)))

    def test_oversight(self) -> None:
        """A policy and an audit log are options of the plugin."""
        config = parsed("--root", self.root, "--policy", "p.toml", "--audit", "a.log")
        self.assertEqual((config.policy, config.audit), ("p.toml", "a.log"))


class ClassicTests(TapCase):
    """What the dialect get can be told."""

    def test_options(self) -> None:
        """Each option reaches the factory."""
        words = ["--root", self.root, "--max-connections", "3", "--idle-timeout", "9"]
        config = parsed(*words, "--dialect", "get", "--listen", "unix:/tmp/files.sock")
        reactor: Any = MemoryReactorClock()
        (service,) = build(config, reactor)
        factory = service.factory
        assert isinstance(factory, ClassicGetFactory)
        self.addCleanup(factory.root.close)
        self.assertEqual((factory.limits.maxConnections, factory.limits.idleTimeout), (3, 9.0))
        factory.root.open(b"a.txt").close()
        self.assertEqual(service.dialect, "get")

    def test_relativeRoot(self) -> None:
        """A relative root is fixed before the program changes its directory."""
        self.assertEqual(self.classic(root=os.path.relpath(self.root)).root.path, self.root)

    def test_oversight(self) -> None:
        """A policy and an audit log stand over the factory."""
        oversight = overseen("")
        self.assertIs(self.classic(oversight)._oversight, oversight)

    def test_beyondLoopback(self) -> None:
        """With a policy it may be offered to anybody, as without: it can change nothing."""
        for listen in ELSEWHERE:
            self.classic(overseen(""), listen=(listen,))

    def test_nativeOptions(self) -> None:
        """What only the native dialect can do is refused by name, and not left out silently."""
        for key, told in (
            ("writable", {"writable": True}),
            ("links", {"links": "inside"}),
            ("durable", {"durable": True}),
            ("max-size", {"maxSize": 1}),
            ("quota", {"quota": 1}),
            ("file-quota", {"fileQuota": 1}),
            ("state", {"state": "x"}),
            ("limit-rate", {"limitRate": 1}),
            ("total-rate", {"totalRate": 1}),
            ("auth", {"auth": ("memory:a:b",)}),
            ("require-identity", {"requireIdentity": True}),
        ):
            sentence = self.refused(dialect="get", **told)
            self.assertTrue(sentence.startswith(f"{key} is for the dialect native"), sentence)


class NativeTests(TapCase):
    """What the native dialect can be told."""

    def test_options(self) -> None:
        """Each option reaches the factory."""
        state = os.path.abspath(self.mktemp())
        config = parsed(
            *("--root", os.path.relpath(self.root), "--writable"),
            *("--durable", "--max-size", "10", "--quota", "20", "--file-quota", "30"),
            *("--state", state, "--limit-rate", "1000", "--total-rate", "2000"),
            *("--require-identity", "--max-connections", "3", "--idle-timeout", "9"),
        )
        reactor: Any = MemoryReactorClock()
        (service,) = build(config, reactor)
        factory = service.factory
        assert isinstance(factory, FilesFactory)
        self.assertEqual((factory.limits.maxConnections, factory.limits.idleTimeout), (3, 9.0))
        self.assertTrue(factory.requireIdentity)
        permit = factory.permit
        self.assertEqual(permit.roots.own, self.root)
        self.assertEqual(permit._allowance, Allowance(20, 30, 10))
        self.assertTrue(permit._writable)
        place = self.successResultOf(permit.access(ANNA, "").write(b"/a", 1))
        self.assertTrue(place.durable)
        self.assertEqual(factory.pace.take("a", 2000), 2.0 - 0.5)
        self.assertFalse(os.path.exists(state))

    def test_links(self) -> None:
        """Links are followed as it was told."""
        os.symlink("a.txt", os.path.join(self.root, "link"))
        for links, kind in (("never", None), ("inside", "file")):
            roots = self.native(links=links).permit.roots
            try:
                found = roots.look(roots.own, (b"link",))
            except Exception:
                found = None
            self.assertEqual(found and found.kind, kind)
            roots.close()

    def test_unbounded(self) -> None:
        """Told nothing, it bounds nothing and changes nothing."""
        factory = self.native()
        self.assertTrue(factory.pace.unbounded)
        self.assertEqual(factory.permit._allowance, Allowance())
        self.assertFalse(factory.permit._writable)
        self.assertFalse(factory.requireIdentity)
        self.assertIsNone(factory.tokens)

    def test_tokens(self) -> None:
        """Where tokens are checked nobody stays without a name."""
        factory = self.native(auth=("memory:a:b",))
        self.assertIsNotNone(factory.tokens)
        self.assertTrue(factory.requireIdentity)

    def test_policy(self) -> None:
        """A policy and an audit log stand over it."""
        notes = AuditNotes()
        factory = self.native(overseen("", notes))
        asked = factory.permit.access(ANNA, "").read(b"/a")
        self.assertIsInstance(self.failureResultOf(asked), Failure)
        self.assertEqual([each["event"] for each in notes.records], ["files.read.denied"])


class WhereTests(TapCase):
    """Where a service that can change files may listen."""

    def test_writable(self) -> None:
        """What everybody can change is offered to no other machine, whoever proves a name."""
        tokens: dict[str, Any] = {"auth": ("memory:a:b",)}
        for told in ({}, tokens):
            for listen in ELSEWHERE:
                both = ("tcp:1:interface=127.0.0.1", listen)
                sentence = self.refused(writable=True, listen=both, **told)
                self.assertIn(repr(listen), sentence)
                self.assertIn("writable asks no one's name", sentence)
                self.assertIn("write a policy", sentence)
                self.assertIn("interface=127.0.0.1", sentence)

    def test_here(self) -> None:
        """On this machine it may be."""
        for listen in HERE:
            self.native(writable=True, listen=(listen,))

    def test_readOnly(self) -> None:
        """What nobody can change may be offered to anybody."""
        for listen in ELSEWHERE:
            self.native(listen=(listen,))

    def test_writableAndPolicy(self) -> None:
        """A policy and the option contradict each other."""
        self.assertEqual(
            self.refused(overseen(""), writable=True),
            "A policy says who may change what, and writable lets everybody; leave one of them "
            "out.",
        )

    def test_policy(self) -> None:
        """Nobody on other machines may try what a policy allows, who cannot prove a name."""
        for listen in ELSEWHERE:
            sentence = self.refused(overseen(""), listen=(listen,))
            self.assertIn(repr(listen), sentence)
            self.assertIn("anyone could try what the policy allows", sentence)
            self.assertIn("mtls:PORT:cert=FILE:clientCA=FILE", sentence)
        for told in ({"auth": ("memory:a:b",)}, {"requireIdentity": True}):
            self.native(overseen(""), listen=("tcp:7021",), **told)
        for listen in HERE:
            self.native(overseen(""), listen=(listen,))


class QuotaTests(TapCase):
    """What is needed to count."""

    def test_noState(self) -> None:
        """Quotas without a place to count are refused; a largest size needs none."""
        for key in ("quota", "fileQuota"):
            told: dict[str, Any] = {key: 1}
            self.assertIn("by state", self.refused(**told))
        self.assertIsNone(self.native(maxSize=1).permit._quotas)

    def test_inRoot(self) -> None:
        """What clients could read and change is no place to count, wherever a link leads."""
        link = os.path.abspath(self.mktemp())
        os.symlink(self.root, link)
        for state in (self.root, self.root + "/state", link + "/state"):
            sentence = self.refused(state=state, quota=1)
            self.assertIn(repr(state), sentence)
            self.assertIn(repr(self.root), sentence)
        self.native(state=self.root + "-state", quota=1)

    def test_inRulesRoot(self) -> None:
        """Nor is a place in the root of a rule."""
        other = os.path.abspath(self.mktemp())
        text = f'[[roles.x.files]]\nroot = "{other}"'
        self.assertIn(repr(other), self.refused(overseen(text), state=other + "/state"))

    def test_links(self) -> None:
        """A file that has more names than one, by links that are followed, is not counted."""
        state = os.path.abspath(self.mktemp())
        self.assertIn("leave out links, or state", self.refused(state=state, links="inside"))
        self.native(state=state, links="never")
        self.native(links="inside")

    def test_overlapping(self) -> None:
        """Nor is one in a root that lies in another, wherever a link leads."""
        state, other = os.path.abspath(self.mktemp()), os.path.abspath(self.mktemp())
        os.symlink(self.root, other)
        for root in (self.root + "/below", os.path.dirname(self.root), other + "/below"):
            policy = overseen(f'[[roles.x.files]]\nroot = "{root}"')
            self.assertIn("files have two names", self.refused(policy, state=state))
            self.native(policy)
        apart = os.path.abspath(self.mktemp())
        for root in (self.root, apart):
            self.native(overseen(f'[[roles.x.files]]\nroot = "{root}"'), state=state)


class AtOnce:
    """A disk that needs no threads."""

    def run(self, work: Any, *args: Any, **told: Any) -> Deferred[Any]:
        """Do something."""
        return maybeDeferred(work, *args, **told)


class UNIXReactor(MemoryReactorClock):
    """A reactor in memory that really binds Unix sockets."""

    def listenUNIX(self, *args: Any, **told: Any) -> IListeningPort:
        port = Port(*args, **told | {"reactor": self})
        port.startListening()
        return port


class StartedCase(TapCase):
    """The service on a real Unix socket, its disk work done at once."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(os.umask, os.umask(0))
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        self.path = os.path.join(directory, "files.sock")
        real = FilesFactory.__init__

        def init(factory: FilesFactory, *args: Any, **told: Any) -> None:
            real(factory, *args, disk=AtOnce(), **told)

        self.patch(FilesFactory, "__init__", init)

    def started(
        self, oversight: Oversight = UNSEEN, options: str = "", **told: Any
    ) -> ListeningService:
        """Listen."""
        (service,) = self.built(oversight, options, **told)
        service.startService()
        return service

    def built(
        self, oversight: Oversight = UNSEEN, options: str = "", **told: Any
    ) -> list[ListeningService]:
        """Build the service."""
        self.reactor: Any = UNIXReactor()
        config = FilesConfig(root=self.root, listen=(f"unix:{self.path}{options}",), **told)
        return build(config, self.reactor, oversight)

    def stop(self, service: ListeningService) -> None:
        """Listen no more."""
        stopped = service.stopService()
        self.reactor.advance(0)
        self.successResultOf(stopped)


class StartTests(StartedCase):
    """What happens at the start, and at the end."""

    def test_sockets(self) -> None:
        """A socket is for the user alone who started it, where something can be changed there or a
        policy tells who may what; else for everybody; a mode that was given is kept."""
        cases: Sequence[tuple[Oversight, str, bool, int]] = (
            (UNSEEN, "", False, 0o666),
            (UNSEEN, "", True, 0o600),
            (UNSEEN, ":mode=660", True, 0o660),
            (overseen(""), "", False, 0o600),
            (overseen(""), ":mode=666", False, 0o666),
        )
        for oversight, options, writable, mode in cases:
            service = self.started(oversight, options, writable=writable)
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), mode)
            self.stop(service)

    def test_opened(self) -> None:
        """What is served is open while it runs, and nothing of it before and after."""
        before = descriptors()
        state = os.path.abspath(self.mktemp())
        service = self.started(state=state, quota=1)
        factory = service.factory
        assert isinstance(factory, FilesFactory)
        self.assertEqual(len(factory.permit.roots.stores), 1)
        self.assertTrue(os.path.exists(os.path.join(state, "quota.sqlite")))
        self.stop(service)
        self.assertEqual(factory.permit.roots.stores, [])
        self.assertEqual(descriptors(), before)

    def test_inUse(self) -> None:
        """A state directory that another service has is one sentence, before anything listens."""
        state = os.path.abspath(self.mktemp())
        other = Quotas(state)
        other.open(lambda root, parts: None)
        self.addCleanup(other.close)
        error: Any = self.assertRaises(ConfigurationError, self.started, state=state)
        self.assertIn("Another server uses the state directory", error.sentence)
        self.assertFalse(os.path.exists(self.path))

    def test_rootGone(self) -> None:
        """A root that cannot be used any more at the start is one sentence, and nothing listens."""
        (service,) = self.built()
        os.rename(self.root, self.root + "-away")
        error: Any = self.assertRaises(ConfigurationError, service.startService)
        self.assertIn(repr(self.root), error.sentence)
        self.assertFalse(os.path.exists(self.path))

    def test_notOpened(self) -> None:
        """When something cannot be opened after all, the log says what, and the process ends."""
        state = os.path.abspath(self.mktemp())
        self.patch(Quotas, "check", lambda self: None)
        os.mkdir(state)
        Path(state, "quota.sqlite").write_bytes(b"nothing of ours" * 100)
        with capturedLogs() as events:
            service = self.started(state=state)
        told = [formatEvent(each) for each in events if each["log_level"].name == "critical"]
        self.assertEqual(len(told), 1)
        self.assertIn("nothing can be served", told[0])
        self.assertIn(repr(state), told[0])
        self.assertStopsProcess(service)

    def test_openingFails(self) -> None:
        """So it is when it fails for a reason that nobody has thought of."""
        self.patch(Permit, "open", lambda permit: 1 // 0)
        service = self.started()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertStopsProcess(service)

    def assertStopsProcess(self, service: ListeningService) -> None:
        """See that the reactor is stopped once it runs, and that nothing is open."""
        factory = service.factory
        assert isinstance(factory, FilesFactory)
        self.assertEqual(factory.permit.roots.stores, [])
        self.assertRaises(NetsuiteError, factory.requireOpen)
        self.assertEqual([act for act, _, _ in self.reactor.whenRunningHooks], [self.reactor.stop])
        self.stop(service)

    def test_again(self) -> None:
        """A service that was stopped can be started again."""
        service = self.started()
        factory = service.factory
        assert isinstance(factory, FilesFactory)
        self.stop(service)
        service.startService()
        factory.requireOpen()
        self.stop(service)

    def test_notStarted(self) -> None:
        """The stop of a service whose start has failed comes to its end."""
        (service,) = self.built()
        self.patch(service, "furnish", lambda: Root("/nowhere"))
        service.privilegedStartService()
        self.assertRaises(ConfigurationError, service.startService)
        self.stop(service)

    def test_uncounted(self) -> None:
        """A rule with a quota that nothing counts is told of at the start, and only then."""
        for told, warned in (({}, 1), ({"state": os.path.abspath(self.mktemp())}, 0)):
            with capturedLogs() as events:
                service = self.started(overseen(COUNTED), **told)
            warnings = [formatEvent(each) for each in events if each["log_level"].name == "warn"]
            self.assertEqual(len(warnings), warned)
            for each in warnings:
                self.assertIn(PLACE, each)
                self.assertIn("by state", each)
            self.stop(service)

    def test_root(self) -> None:
        """The root that is served is the one of the time of the start, whatever becomes of its
        name."""
        service = self.started()
        os.rename(self.root, self.root + "-away")
        factory = service.factory
        assert isinstance(factory, FilesFactory)
        roots = factory.permit.roots
        self.assertIsNotNone(roots.look(roots.own, (b"a.txt",)))
        self.assertRaises(ConfigurationError, Root, self.root)
        self.stop(service)
