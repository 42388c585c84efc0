"""
The policies and audit logs of one application, and how long they stand over its services.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.hangup import HangupAction
from twisted_netsuite.ops import guards as module
from twisted_netsuite.ops.guards import GuardedApplication, Guards
from twisted_netsuite.trust.audit import AuditLog
from twisted_netsuite.trust.identity import ANONYMOUS
from twisted_netsuite.trust.oversight import Oversight
from twisted_netsuite.trust.policy import PolicyFile

ALLOWS = """
[identities]
anonymous = ["guest"]
[[roles.guest.files]]
paths = ["/a"]
"""


class GuardsCase(SynchronousTestCase):
    """Files in a directory, with the threads that wait for the disk as quick as the test."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)
        quick = lambda path, reactor: AuditLog(path, reactor, inThread=self.inThread)  # noqa: E731
        self.patch(module, "AuditLog", quick)
        self.threads: list[tuple[Callable[[], None], Deferred[None]]] = []
        self.guards = Guards(Clock())
        self.addCleanup(self.finish)

    def inThread(self, function: Callable[[], None]) -> Deferred[None]:
        """Take something to do."""
        self.threads.append((function, Deferred()))
        return self.threads[-1][1]

    def runThreads(self) -> None:
        """Do all of it."""
        while self.threads:
            function, done = self.threads.pop(0)
            function()
            done.callback(None)

    def finish(self) -> None:
        """Leave no log open."""
        self.guards.close().addErrback(lambda _: None)
        self.runThreads()

    def path(self, name: str, content: str | None = None) -> str:
        """Name a file, and write it if it has content."""
        path = os.path.join(self.directory, name)
        if content is not None:
            Path(path).write_text(content)
        return path

    def recorded(self, path: str) -> str:
        """Read an audit log."""
        return Path(path).read_text()


class GuardsTests(GuardsCase):
    """L{Guards}"""

    def allows(self, oversight: Oversight) -> bool:
        """Ask for a file."""
        return oversight.decide(lambda policy: policy.files(ANONYMOUS, "read", b"/a")).allowed

    def test_onceEach(self) -> None:
        """However many services name a file, there is one of it."""
        policy, audit = self.path("p.toml", ALLOWS), self.path("a.log")
        overs = [self.guards.over(name, policy, audit) for name in ("a", "b", "c")]
        self.assertEqual([over.service for over in overs], ["a", "b", "c"])
        self.assertEqual(
            (list(self.guards.policies), list(self.guards.audits)), ([policy], [audit])
        )
        self.assertEqual(len({id(over._policy) for over in overs}), 1)
        self.assertEqual(len({id(over._audit) for over in overs}), 1)

    def test_either(self) -> None:
        """A service has a policy, an audit log, both or neither."""
        policy, audit = self.path("p.toml", ALLOWS), self.path("a.log")
        self.assertFalse(self.guards.over("x", "", "").guarded)
        self.assertEqual((self.guards.policies, self.guards.audits), ({}, {}))
        self.assertTrue(self.guards.over("x", policy, "").guarded)
        self.assertEqual(self.guards.audits, {})
        self.assertFalse(self.guards.over("x", "", audit).guarded)

    def test_badPolicy(self) -> None:
        """A policy that cannot be used is refused with its file and line."""
        bad = self.path("bad.toml", "[identities]\nanonymous = 3\n")
        error: Any = self.assertRaises(ConfigurationError, self.guards.over, "x", bad, "")
        self.assertIn(f"{bad}:2: ", error.sentence)
        missing = self.path("missing.toml")
        error = self.assertRaises(ConfigurationError, self.guards.over, "x", missing, "")
        self.assertIn(repr(missing), error.sentence)

    def test_nothingIsMade(self) -> None:
        """To put a log over a service makes no file; to open it does."""
        audit = self.path("a.log")
        self.guards.over("x", "", audit)
        self.assertFalse(os.path.exists(audit))
        self.guards.open()
        self.assertEqual(self.recorded(audit).count("audit.opened"), 1)

    def test_held(self) -> None:
        """A log that somebody else writes is named, with what to do."""
        audit = self.path("a.log")
        other = Guards(Clock())
        other.over("x", "", audit)
        other.open()
        self.guards.over("x", "", audit)
        error: Any = self.assertRaises(ConfigurationError, self.guards.open)
        self.assertIn(f"The audit log {audit!r} cannot be used: ", error.sentence)
        self.assertIn("another process writes it", error.sentence)
        other.close()
        self.runThreads()

    def test_reload(self) -> None:
        """Each policy is read again, once; one that is wrong stays as it was, and is told of, and
        the others follow their files."""
        good, bad = self.path("good.toml", ""), self.path("bad.toml", ALLOWS)
        first, second = self.guards.over("a", good, ""), self.guards.over("b", bad, "")
        self.guards.over("c", bad, "")
        self.assertEqual((self.allows(first), self.allows(second)), (False, True))
        self.path("good.toml", ALLOWS)
        self.path("bad.toml", "[identities")
        with capturedLogs() as told:
            self.guards.reload()
        self.assertEqual((self.allows(first), self.allows(second)), (True, True))
        lines = list(map(formatEvent, told))
        self.assertEqual(len(lines), 2)
        self.assertIn(f"The policy {good} was read again.", lines[0])
        self.assertIn("The policy stays as it was before.", lines[1])

    def test_close(self) -> None:
        """Closing waits for every log's disk, and can be done when none was opened."""
        self.successResultOf(self.guards.close())
        logs = [self.path(name) for name in ("a.log", "b.log")]
        for log in logs:
            self.guards.over("x", "", log)
        self.guards.open()
        closed = self.guards.close()
        self.assertNoResult(closed)
        self.runThreads()
        self.successResultOf(closed)
        for log in logs:
            self.assertIn("audit.closed", self.recorded(log))


class Slow(Service):
    """Stops when a test says so, and writes something down at its end."""

    def __init__(self, oversight: Oversight) -> None:
        self.oversight = oversight
        self.stopped: Deferred[None] = Deferred()

    def stopService(self) -> Deferred[None]:
        """Stop."""
        super().stopService()
        return self.stopped.addCallback(
            lambda _: self.oversight.note("slow.end", peer="", identity=ANONYMOUS)
        )


class Failing(Service):
    """Does not start, or does not stop."""

    def __init__(self, *, starts: bool) -> None:
        self.starts = starts

    def startService(self) -> None:
        """Start, perhaps."""
        if not self.starts:
            raise ConfigurationError("There is no place to listen on.")

    def stopService(self) -> Deferred[None]:
        """Fail to stop."""
        return fail(ZeroDivisionError())


class AtOnce:
    """A reactor that does at once what is to be done in its turn."""

    def callFromThread(self, act: Callable[[], object]) -> None:
        """Do it."""
        act()


class ApplicationTests(GuardsCase):
    """L{GuardedApplication}"""

    def setUp(self) -> None:
        super().setUp()
        self.audit = self.path("a.log")
        self.oversight = self.guards.over("slow", self.path("p.toml", ALLOWS), self.audit)
        self.guards.open()
        self.application = GuardedApplication(self.guards, AtOnce())
        self.before = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, self.before)

    def test_closedLast(self) -> None:
        """The logs are closed after all services have stopped: their last records are in them."""
        slow = Slow(self.oversight)
        slow.setServiceParent(self.application)
        self.application.startService()
        stopped = self.application.stopService()
        self.assertNotIn("audit.closed", self.recorded(self.audit))
        self.assertNoResult(stopped)
        slow.stopped.callback(None)
        self.runThreads()
        self.successResultOf(stopped)
        text = self.recorded(self.audit)
        self.assertLess(text.index("slow.end"), text.index("audit.closed"))

    def test_failsToStop(self) -> None:
        """The logs are closed when a service fails to stop, too."""
        Failing(starts=True).setServiceParent(self.application)
        self.application.startService()
        stopped = self.application.stopService()
        self.runThreads()
        self.assertIn("audit.closed", self.recorded(self.audit))
        del stopped
        # Twisted tells of the failure once nobody can see it any more.
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_hangup(self) -> None:
        """From its start to its end SIGHUP reads the policies again, and ends nothing; then all is
        as it was before."""
        read: list[PolicyFile] = []
        self.patch(PolicyFile, "reload", lambda each: read.append(each))
        self.application.startService()
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(read, list(self.guards.policies.values()) * 2)
        stopped = self.application.stopService()
        self.runThreads()
        self.successResultOf(stopped)
        self.assertEqual(signal.getsignal(signal.SIGHUP), self.before)

    def test_hangupAtTheEnd(self) -> None:
        """SIGHUP ends nothing while services drain and while the logs are closed."""
        slow = Slow(self.oversight)
        slow.setServiceParent(self.application)
        self.application.startService()
        stopped = self.application.stopService()
        self.assertIsInstance(signal.getsignal(signal.SIGHUP), HangupAction)
        slow.stopped.callback(None)
        self.assertNoResult(stopped)
        self.assertIsInstance(signal.getsignal(signal.SIGHUP), HangupAction)
        self.runThreads()
        self.successResultOf(stopped)
        self.assertEqual(signal.getsignal(signal.SIGHUP), self.before)

    def test_again(self) -> None:
        """One that has stopped can be started again, and goes on with its logs."""
        for _ in range(2):
            self.application.startService()
            self.oversight.note("act", peer="", identity=ANONYMOUS)
            stopped = self.application.stopService()
            self.runThreads()
            self.successResultOf(stopped)
        text = self.recorded(self.audit)
        for event in ("audit.opened", '"act"', "audit.closed"):
            self.assertEqual(text.count(event), 2)

    def test_againTooEarly(self) -> None:
        """One whose logs are still being closed is not started, and says why."""
        self.application.startService()
        stopped = self.application.stopService()
        error: Any = self.assertRaises(ConfigurationError, self.application.startService)
        self.assertIn("still being closed", error.sentence)
        self.runThreads()
        self.successResultOf(stopped)
        self.application.startService()
        self.application.stopService()

    def test_opens(self) -> None:
        """It opens by itself what nobody has opened before, and does not start without."""
        path = self.path("b.log")
        self.guards.over("other", "", path)
        self.application.startService()
        self.assertIn("audit.opened", self.recorded(path))
        self.assertEqual(self.recorded(self.audit).count("audit.opened"), 1)
        self.application.stopService()
        guards = Guards(Clock())
        guards.over("other", "", self.directory)
        application = GuardedApplication(guards, AtOnce())
        self.assertRaises(ConfigurationError, application.startService)
        self.assertFalse(application.running)

    def test_hangupWithoutPolicy(self) -> None:
        """SIGHUP ends nothing where there is no file at all, either."""
        application = GuardedApplication(Guards(Clock()), AtOnce())
        application.startService()
        signal.raise_signal(signal.SIGHUP)
        self.successResultOf(application.stopService())

    def test_doesNotStart(self) -> None:
        """An application that does not start leaves SIGHUP as it was."""
        Failing(starts=False).setServiceParent(self.application)
        self.assertRaises(ConfigurationError, self.application.startService)
        self.assertEqual(signal.getsignal(signal.SIGHUP), self.before)

    def test_neverStarted(self) -> None:
        """One that never began can be stopped, and gives its logs back."""
        stopped = self.application.stopService()
        self.runThreads()
        self.successResultOf(stopped)
        self.assertIn("audit.closed", self.recorded(self.audit))
