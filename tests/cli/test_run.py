"""
How a command ends: one sentence and a status.
"""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

import twisted.internet
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.cli.terminal import Screen
from twisted_netsuite.cli.run import INTERRUPTED, report, run, say, writeOut
from twisted_netsuite.errors import (
    ConfigurationError,
    ConnectionFailed,
    Denied,
    LimitExceeded,
    NetsuiteError,
    NotFound,
    ProtocolError,
    TimedOut,
)


class OneRun:
    """
    A reactor that runs until it is stopped, while a test says what happens.

    @ivar meanwhile: called while it runs.
    """

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None
        self.stops = 0
        self._begin: Callable[[], object]
        self._beforeShutdown: Callable[[], object]

    def callWhenRunning(self, begin: Callable[[], object]) -> None:
        """Note what to do first."""
        self._begin = begin

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[[], object]) -> None:
        """Note what to do before the shutdown."""
        assert (phase, event) == ("before", "shutdown")
        self._beforeShutdown = call

    def run(self) -> None:
        """Run."""
        self._begin()
        self.meanwhile()
        assert self.stops == 1
        self._beforeShutdown()
        del self._begin, self._beforeShutdown

    def stop(self) -> None:
        """Stop, which can be asked for once."""
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning


class RunTests(SynchronousTestCase):
    """L{run}."""

    def setUp(self) -> None:
        self.screen = Screen(self)
        self.reactor = OneRun()
        patching = mock.patch.object(twisted.internet, "reactor", self.reactor, create=True)
        patching.start()
        self.addCleanup(patching.stop)
        self.work: Deferred[int] = Deferred()

    def status(self, main: Callable[[Any], Coroutine[Deferred[Any], Any, int]]) -> object:
        """Run a command and tell its status."""
        return self.assertRaises(SystemExit, run, main).code

    async def wait(self, reactor: object) -> int:
        """Be a command that works for a while."""
        self.assertIs(reactor, self.reactor)
        return await self.work

    def test_atOnce(self) -> None:
        """A command that is done at once ends with its status."""

        async def main(reactor: object) -> int:
            return 7

        self.assertEqual(self.status(main), 7)
        self.assertEqual(self.screen.err, "")

    def test_later(self) -> None:
        """A command that works for a while ends with its status."""
        self.reactor.meanwhile = lambda: self.work.callback(3)
        self.assertEqual(self.status(self.wait), 3)

    def test_failure(self) -> None:
        """A command that fails ends with one sentence and the status of its failure."""
        self.reactor.meanwhile = lambda: self.work.errback(TimedOut("No answer; ask again."))
        self.assertEqual(self.status(self.wait), 124)
        self.assertEqual(self.screen.err, "netsuite: No answer; ask again.\n")

    def test_interrupted(self) -> None:
        """A command that Ctrl-C ends has the status that a shell gives it, and says nothing."""
        self.reactor.meanwhile = self.reactor.stop
        self.assertEqual(self.status(self.wait), 130)
        self.assertEqual(INTERRUPTED, 130)
        self.assertEqual(self.screen.err, "")

    def test_interruptedWhileItWaits(self) -> None:
        """It is the interruption that counts, whatever a command makes of its cancellation."""
        for ending in (TimedOut("late"), ValueError("odd")):
            self.reactor.stops = 0
            self.reactor.meanwhile = self.reactor.stop

            async def main(reactor: object, ending: Exception = ending) -> int:
                try:
                    return await Deferred[int]()
                except Exception:
                    raise ending from None

            self.assertEqual(self.status(main), 130)
        self.assertEqual(self.screen.err, "")

    def test_interruptedAtTheEnd(self) -> None:
        """A command that is done in the moment of Ctrl-C is done."""

        def both() -> None:
            self.reactor.stop()
            self.work.callback(5)
            self.reactor.stops = 1

        self.reactor.meanwhile = both
        self.assertEqual(self.status(self.wait), 5)
        self.assertEqual(self.screen.err, "")
        # A failure that nobody takes is only logged once its Deferred is collected.
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_characterLacks(self) -> None:
        """A character that the terminal lacks is replaced, and ends nothing."""
        out = io.BytesIO()
        self.patch(sys, "stdout", io.TextIOWrapper(out, "ascii", write_through=True))

        async def main(reactor: object) -> int:
            print("gr\u00fc\u00df")
            return 0

        self.assertEqual(self.status(main), 0)
        self.assertEqual(out.getvalue(), b"gr??\n")

    def test_cancelledByItself(self) -> None:
        """A cancellation that nobody asked for is a failure, not a program that never ends."""
        self.reactor.meanwhile = lambda: self.work.cancel()
        self.assertEqual(self.status(self.wait), 125)
        self.assertIn("CancelledError", self.screen.err)


#: A program that ends while a thread of it waits, as for a name server that does not answer.
HANGS = """
import time
from twisted_netsuite.cli.run import run
from twisted_netsuite.errors import TimedOut

async def main(reactor):
    reactor.callInThread(time.sleep, 300)
    print("some")
    raise TimedOut("Nobody answers.")

run(main)
"""


class ThreadTests(SynchronousTestCase):
    """L{run} with threads that cannot be stopped."""

    def test_hangs(self) -> None:
        """They do not keep a program that has said why it ends, nor what it has printed."""
        done = subprocess.run(
            [sys.executable, "-c", HANGS], capture_output=True, timeout=60, check=False
        )
        self.assertEqual(
            (done.returncode, done.stdout, done.stderr),
            (124, b"some\n", b"netsuite: Nobody answers.\n"),
        )


class ReportTests(SynchronousTestCase):
    """L{report}."""

    def setUp(self) -> None:
        self.patch(os, "environ", {})

    def report(self, error: Exception) -> tuple[int, str]:
        """Report, and tell status and words."""
        screen = Screen(self)
        try:
            raise error
        except Exception:
            status = report(Failure())
        self.assertEqual(screen.out, b"")
        return status, screen.err

    def test_statuses(self) -> None:
        """Each failure has the status that is promised for it, and its own sentence."""
        for cls, status in (
            (ConfigurationError, 125),
            (TimedOut, 124),
            (NetsuiteError, 125),
            (ConnectionFailed, 125),
            (ProtocolError, 125),
            (LimitExceeded, 125),
            (Denied, 126),
            (NotFound, 127),
        ):
            self.assertEqual(
                self.report(cls("It failed; do this.")), (status, "netsuite: It failed; do this.\n")
            )

    def test_unexpected(self) -> None:
        """A fault of the program is one sentence that says how to report it, and no traceback."""
        status, words = self.report(ValueError("odd"))
        self.assertEqual(status, 125)
        self.assertEqual(
            words,
            "netsuite: ValueError: odd; this is a fault of the program: run it again with "
            "NETSUITE_DEBUG=1 and report what it prints.\n",
        )

    def test_debug(self) -> None:
        """NETSUITE_DEBUG shows the traceback of any failure, before its sentence."""
        self.patch(os, "environ", {"NETSUITE_DEBUG": "1"})
        for error in (ValueError("odd"), TimedOut("late")):
            _, words = self.report(error)
            self.assertTrue(words.startswith("Traceback (most recent call last):"))
            self.assertIn("netsuite: ", words.splitlines()[-1])


class OutputTests(SynchronousTestCase):
    """L{say} and L{writeOut}."""

    def test_say(self) -> None:
        """A sentence goes to standard error, after the program's name."""
        screen = Screen(self)
        say("It is so.")
        self.assertEqual((screen.out, screen.err), (b"", "netsuite: It is so.\n"))

    def test_sayClean(self) -> None:
        """Nothing that a sentence quotes of a peer controls the terminal."""
        screen = Screen(self)
        say("It said \x1b[2J\x9b2J\u202e\nnetsuite: all is well.")
        self.assertEqual(
            screen.err, "netsuite: It said \ufffd[2J\ufffd2J\ufffd netsuite: all is well.\n"
        )

    def test_writeOut(self) -> None:
        """Bytes go to standard output as they are, at once."""
        screen = Screen(self)
        writeOut(b"\xff\r\n\0")
        self.assertEqual(screen.out, b"\xff\r\n\0")

    def test_outputTakesNoMore(self) -> None:
        """Standard output that takes no more is told in one sentence, and troubles nobody later."""
        with io.TextIOWrapper(open("/dev/full", "wb")) as full:
            self.patch(sys, "stdout", full)
            error = self.assertRaises(ConfigurationError, writeOut, b"hello")
            self.assertEqual(
                str(error),
                "Standard output takes no more: no space left on device; "
                "give it another place to go.",
            )
