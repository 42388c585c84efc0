"""
C{netsuite exec} on one server: streams, signals and terminal of this process for a remote command.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

import twisted_netsuite.cli.execnative as command
from tests.cli.remote import RemoteCommand, RemoteServers, RemoteSession
from tests.cli.terminal import DescriptorReactor, Screen, closed, drained, pipe
from twisted_netsuite import errors
from twisted_netsuite.cli.execnative import (
    CANCEL_PATIENCE,
    Console,
    Server,
    Wish,
    attach,
    detached,
    execute,
    howItEnded,
    kill,
    listCommands,
)
from twisted_netsuite.cli.login import Login
from twisted_netsuite.errors import ConfigurationError, ConnectionFailed, NetsuiteError, NotFound
from twisted_netsuite.net.tlscontext import TrustFiles
from twisted_netsuite.rexec.client import CommandDetached
from twisted_netsuite.rexec.messages import Listing, Terminal
from twisted_netsuite.rexec.outcome import (
    Denied,
    Exited,
    Limit,
    Lost,
    NotStarted,
    Outcome,
    Signalled,
    TimedOut,
)

SERVER = Server("h:1")
TERM = Signalled(name="TERM", number=15)
BIG = 1_000_000


class Posted:
    """
    The signals of a process, sent by a test.

    @ivar watched: who watches which.
    """

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], object]] = {}

    def __call__(self, reactor: object) -> Posted:
        return self

    def __enter__(self) -> Posted:
        return self

    def __exit__(self, *_: object) -> None:
        self.watched.clear()

    def watch(self, number: int, call: Callable[[], object]) -> None:
        self.watched[number] = call

    def send(self, number: int, times: int = 1) -> None:
        """Send one, so many times."""
        for _ in range(times):
            self.watched[number]()


class AttendedTestCase(SynchronousTestCase):
    """Tests with a command, and the ends of its streams."""

    def setUp(self) -> None:
        self.reactor = DescriptorReactor()
        self.screen = Screen(self)
        self.servers = RemoteServers(self, command)
        self.session = self.servers.sessions["h:1"] = RemoteSession()
        self.signals = Posted()
        self.stdin, self.typist = pipe(self)
        self.printed, self.stdout = pipe(self)
        self.complained, self.stderr = pipe(self)

    @property
    def console(self) -> Console:
        """What the process has."""
        return Console(self.stdin, self.stdout, self.stderr, self.signals)

    @property
    def remote(self) -> RemoteCommand:
        """The command."""
        [found] = self.session.started
        return found

    def run_(self, **wish: Any) -> Deferred[int]:
        """Run a command."""
        wished = Wish(("ls", "-l"), **wish)
        return Deferred.fromCoroutine(execute(self.reactor, SERVER, wished, self.console))

    def attach(self, **how: Any) -> Deferred[int]:
        """Attach to one."""
        how = {"stdin": False, "raw": False, "fromStart": False, **how}
        return Deferred.fromCoroutine(
            attach(self.reactor, SERVER, "qrst", console=self.console, **how)
        )

    def assertStatus(self, done: Deferred[int], status: int, err: str = "") -> None:
        """A command has ended with a status, and perhaps a sentence; nothing is left of it."""
        self.assertEqual(self.successResultOf(done), status)
        self.assertEqual(self.screen.err, err)
        self.assertGone()

    def assertFails(self, done: Deferred[int], cls: type[NetsuiteError]) -> str:
        """A command has failed; give the sentence."""
        error = self.failureResultOf(done, cls).value
        self.assertGone()
        return str(error)

    def assertGone(self) -> None:
        """Nothing is watched any more."""
        self.assertTrue(self.session.closed)
        self.assertEqual(self.signals.watched, {})
        self.assertEqual(self.reactor.getReaders(), [])
        self.assertEqual(self.reactor.getWriters(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class OutputTests(AttendedTestCase):
    """What the command writes, and how it ends."""

    def test_streams(self) -> None:
        """Both streams come out apart and as they are, and the status is the command's own."""
        done = self.run_()
        self.remote.stdout.receive(b"out\xff\0")
        self.remote.stderr.receive(b"err\r\n")
        self.assertNoResult(done)
        self.assertEqual(drained(self.printed), b"out\xff\0")
        self.assertEqual(drained(self.complained), b"err\r\n")
        self.remote.end(Exited(code=7))
        self.assertStatus(done, 7)

    def test_asked(self) -> None:
        """Just what was wished is asked for, and input is empty unless it was wished."""
        done = self.run_()
        [(word, options)] = self.session.asked
        self.assertEqual((word, options["argv"]), ("start", ("ls", "-l")))
        self.assertEqual(
            (options["stdin"], options["terminal"], options["onDisconnect"], options["shell"]),
            (False, None, "kill", False),
        )
        self.reactor.settle()
        self.assertIsNone(self.remote.stdin.producer)
        self.remote.end(Exited(code=0))
        self.assertStatus(done, 0)

    def test_options(self) -> None:
        """Every option of the wish reaches the server; a shell gets one line."""
        self.run_(
            shell=True,
            env={"A": "b"},
            cwd="/tmp",
            account="www",
            timeLimit=1.5,
            onDisconnect="detach",
            ttl=60,
            key="k",
        )
        [(_, options)] = self.session.asked
        self.assertEqual(
            options,
            {
                "argv": ("ls -l",),
                "shell": True,
                "env": {"A": "b"},
                "cwd": "/tmp",
                "user": "www",
                "stdin": False,
                "timeLimit": 1.5,
                "onDisconnect": "detach",
                "ttl": 60,
                "key": "k",
                "terminal": None,
            },
        )

    def test_connects(self) -> None:
        """The session is opened as the person says to be."""
        files = TrustFiles("a.pem", "ca.pem")
        server = Server("h:1", files, Login("bob", "sesame"), 3.0)
        Deferred.fromCoroutine(execute(self.reactor, server, Wish(("ls",)), self.console))
        self.assertEqual(
            self.servers.connects,
            [{"endpoint": ("h:1", files), "user": "bob", "token": "sesame", "timeout": 3.0}],
        )

    def test_outcomes(self) -> None:
        """A command that ended otherwise than by itself is told in one sentence."""
        endings: list[tuple[Outcome, int, str]] = [
            (Exited(code=255), 255, ""),
            (TERM, 143, "netsuite: the command was ended by TERM.\n"),
            (
                Signalled(name="SEGV", number=11, core=True),
                139,
                "netsuite: the command was ended by SEGV, and left a core dump.\n",
            ),
            (
                TimedOut(seconds=2.5),
                124,
                "netsuite: the command was ended after its time limit of 2.5 s.\n",
            ),
            (Limit(which="output", reason="too much."), 125, "netsuite: too much.\n"),
            (Lost(reason="gone."), 125, "netsuite: gone.\n"),
            (Denied(reason="no."), 126, "netsuite: no.\n"),
            (NotStarted(code="not-found", reason="none."), 127, "netsuite: none.\n"),
        ]
        for outcome, status, sentence in endings:
            self.setUp()
            done = self.run_()
            self.remote.end(outcome)
            self.assertStatus(done, status, sentence)

    def test_notStarted(self) -> None:
        """A command that cannot be started is a failure of its kind."""
        self.session.refusal = NotFound("there is no such program.")
        done = self.run_()
        self.assertIn("no such program", self.assertFails(done, NotFound))

    def test_slowReader(self) -> None:
        """A reader that takes nothing stops the command's output, and gets all of it in the end."""
        done = self.run_()
        for _ in range(20):
            self.remote.stdout.receive(b"x" * 65536)
        self.assertLessEqual(self.remote.taken, 3 * 65536)
        self.remote.end(Exited(code=0))
        self.assertNoResult(done)
        found = b""
        for _ in range(100):
            found += drained(self.printed)
            self.reactor.turn()
        self.assertEqual(len(found), 20 * 65536)
        self.assertStatus(done, 0)

    def test_endedAndNotRead(self) -> None:
        """Who does not want to wait for a reader any longer can leave."""
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            self.setUp()
            done = self.run_()
            self.remote.stdout.receive(b"x" * BIG)
            self.remote.end(Exited(code=0))
            # The rest of it is with this process, and the command is over.
            self.assertTrue(self.remote.stdout.released)
            self.assertNoResult(done)
            self.signals.send(number)
            self.assertStatus(done, status)

    def test_brokenPipe(self) -> None:
        """When nobody reads the output any more the command is ended, quietly, with status 141."""
        for end in ("printed", "complained"):
            self.setUp()
            done = self.run_()
            os.close(getattr(self, end))
            stream = self.remote.stdout if end == "printed" else self.remote.stderr
            for _ in range(3):
                stream.receive(b"x")
            self.assertEqual(self.remote.told, ["cancel"])
            self.assertNoResult(done)
            self.remote.end(TERM)
            self.assertStatus(done, 141)

    def test_brokenPipeBehindMuch(self) -> None:
        """What had to wait for a reader that leaves is dropped, so that the end can come."""
        done = self.run_()
        for _ in range(10):
            self.remote.stdout.receive(b"x" * 65536)
        os.close(self.printed)
        self.reactor.settle()
        self.assertEqual(self.remote.taken, 10 * 65536)
        self.remote.end(TERM)
        self.assertStatus(done, 141)

    def test_full(self) -> None:
        """An output that takes no more is told in one sentence, and the command ended."""
        self.stdout = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(closed, self.stdout)
        done = self.run_()
        self.remote.stdout.receive(b"x")
        self.assertEqual(self.remote.told, ["cancel"])
        self.remote.end(TERM)
        self.assertIn("no space left on device", self.assertFails(done, ConfigurationError))

    def test_connectionLost(self) -> None:
        """What has come before the connection broke is printed, and then why there is no more."""
        done = self.run_()
        self.remote.stdout.receive(b"x" * 70_000)
        self.remote.lose(ConnectionFailed("h:1 is gone."))
        self.assertNoResult(done)
        found = b""
        while not done.called:
            found += drained(self.printed)
            self.reactor.turn()
        found += drained(self.printed)
        self.assertEqual(len(found), 70_000)
        self.assertEqual(self.assertFails(done, ConnectionFailed), "h:1 is gone.")

    def test_stubborn(self) -> None:
        """A command whose end never comes does not keep the program for ever."""
        done = self.run_()
        os.close(self.printed)
        self.remote.stdout.receive(b"x")
        self.reactor.advance(CANCEL_PATIENCE)
        self.assertStatus(done, 141)

    def test_cancelled(self) -> None:
        """Who gives up while nothing has begun closes the session."""
        self.session.waits = True
        done = self.run_()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertGone()

    def test_cancelledLater(self) -> None:
        """Who gives up in the middle closes the session, too."""
        done = self.run_()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertGone()


class InputTests(AttendedTestCase):
    """What the command reads."""

    def test_input(self) -> None:
        """The command gets the input as it comes, and its end."""
        done = self.run_(stdin=True)
        self.assertTrue(self.session.asked[0][1]["stdin"])
        os.write(self.typist, b"a\xff~.\n~.")
        self.reactor.settle()
        self.assertEqual(self.remote.stdin.data, b"a\xff~.\n~.")
        self.assertFalse(self.remote.stdin.ended)
        os.close(self.typist)
        self.reactor.settle()
        self.assertTrue(self.remote.stdin.ended)
        self.remote.end(Exited(code=0))
        self.assertStatus(done, 0)

    def test_leftForOthers(self) -> None:
        """What the command does not ask for stays where it is, for the next program."""
        done = self.run_(stdin=True)
        self.remote.stdin.producer.pauseProducing()
        os.write(self.typist, b"next")
        self.reactor.settle()
        self.remote.end(Exited(code=0))
        self.assertStatus(done, 0)
        self.assertEqual(drained(self.stdin), b"next")

    def test_unreadable(self) -> None:
        """Input that cannot be read ends the command: half of it must not pass for all of it."""
        self.stdin = os.open(".", os.O_RDONLY)
        self.addCleanup(closed, self.stdin)
        done = self.run_(stdin=True)
        self.reactor.settle()
        self.assertEqual((self.remote.told, self.remote.stdin.ended), (["cancel"], False))
        self.remote.end(TERM)
        self.assertIn("is a directory", self.assertFails(done, ConfigurationError))


class SignalTests(AttendedTestCase):
    """What signals to this process do."""

    def test_interrupt(self) -> None:
        """Ctrl-C interrupts the command; a second one ends it; a third leaves."""
        done = self.run_()
        self.signals.send(signal.SIGINT)
        self.assertEqual(self.remote.told, ["INT"])
        self.signals.send(signal.SIGINT)
        self.assertEqual(self.remote.told, ["INT", "cancel"])
        self.assertNoResult(done)
        self.signals.send(signal.SIGINT)
        self.assertStatus(done, 130)

    def test_interrupted(self) -> None:
        """The status after Ctrl-C is what the command makes of it."""
        done = self.run_()
        self.signals.send(signal.SIGINT)
        self.remote.end(Exited(code=3))
        self.assertStatus(done, 3)

    def test_terminate(self) -> None:
        """TERM ends the command, and a second one leaves."""
        done = self.run_()
        self.signals.send(signal.SIGTERM)
        self.assertEqual(self.remote.told, ["cancel"])
        self.signals.send(signal.SIGTERM)
        self.assertStatus(done, 143)

    def test_terminated(self) -> None:
        """After TERM the end of the command is waited for."""
        done = self.run_()
        self.signals.send(signal.SIGTERM)
        self.remote.stdout.receive(b"bye")
        self.remote.end(TERM)
        self.assertStatus(done, 143, "netsuite: the command was ended by TERM.\n")
        self.assertEqual(drained(self.printed), b"bye")

    def test_hangUp(self) -> None:
        """HUP leaves: what becomes of the command is what was asked for."""
        done = self.run_()
        self.signals.send(signal.SIGHUP)
        self.assertEqual(self.remote.told, [])
        self.assertStatus(done, 129)


HINT = "The command runs on; follow it with: netsuite exec attach h:1 "


class StayingTests(AttendedTestCase):
    """A command that outlives this process."""

    def test_left(self) -> None:
        """TERM and HUP leave it running, and tell how to follow it again."""
        for number, status in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            self.setUp()
            done = self.run_(onDisconnect="detach")
            self.signals.send(number)
            self.assertEqual(self.remote.told, [])
            self.assertStatus(done, status, f"netsuite: {HINT}abcdefgh\n")

    def test_brokenPipe(self) -> None:
        """When nobody reads its output any more it runs on, and what nobody had is not taken."""
        done = self.run_(onDisconnect="detach")
        os.close(self.printed)
        self.remote.stdout.receive(b"x")
        self.assertEqual(self.remote.told, [])
        self.assertStatus(done, 141)

    def test_full(self) -> None:
        """An output that takes no more leaves it running, too."""
        self.stdout = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(closed, self.stdout)
        done = self.run_(onDisconnect="detach")
        self.remote.stdout.receive(b"x")
        sentence = self.assertFails(done, ConfigurationError)
        self.assertIn(f"another place to go. {HINT}abcdefgh", sentence)

    def test_refused(self) -> None:
        """Of a command that is refused the server hears the end before this process is gone."""
        self.session.refusal = errors.Denied("no.")
        self.session.closing = Deferred()
        done = self.run_()
        self.assertNoResult(done)
        self.session.closing.callback(None)
        self.assertEqual(self.assertFails(done, errors.Denied), "no.")

    def test_connectionLost(self) -> None:
        """A connection that breaks is told together with how to follow it again."""
        done = self.run_(onDisconnect="detach")
        self.remote.lose(ConnectionFailed("h:1 is gone."))
        sentence = self.assertFails(done, ConnectionFailed)
        self.assertEqual(sentence, f"h:1 is gone. {HINT}abcdefgh")

    def test_takenOver(self) -> None:
        """Who loses it to somebody else is not told to take it back; who loses it to the end of the
        service is told how to follow it."""
        for goodbye, hint in ((None, ""), ("Maintenance.", f" {HINT}abcdefgh")):
            self.setUp()
            self.session.goodbye = goodbye
            done = self.run_(onDisconnect="detach")
            self.remote.lose(CommandDetached("It is followed here no more."))
            sentence = self.assertFails(done, CommandDetached)
            self.assertEqual(sentence, f"It is followed here no more.{hint}")

    def test_sameWay(self) -> None:
        """What tells how to follow it again has what it takes to come to the same server, and the
        same use of this process's input; a token is not told."""
        for server, words in (
            (Server("h:1", TrustFiles("my cert", "ca")), " -i --cert 'my cert' --ca ca"),
            (Server("h:1", TrustFiles("", "ca", "crl")), " -i --ca ca --crl crl"),
            (Server("h:1", login=Login("bob", "sesame")), " -i --user bob --token-file FILE"),
        ):
            self.setUp()
            wish = Wish(("x",), stdin=True, onDisconnect="detach")
            done = Deferred.fromCoroutine(execute(self.reactor, server, wish, self.console))
            self.signals.send(signal.SIGHUP)
            self.assertStatus(done, 129, f"netsuite: {HINT}abcdefgh{words}\n")

    def test_interrupt(self) -> None:
        """Ctrl-C is for the command, whether it stays or not."""
        done = self.run_(onDisconnect="detach")
        for _ in range(2):
            self.signals.send(signal.SIGINT)
        self.assertEqual(self.remote.told, ["INT", "cancel"])
        self.remote.end(TERM)
        self.assertStatus(done, 143, "netsuite: the command was ended by TERM.\n")

    def test_attach(self) -> None:
        """To attach goes on where the server knows that the last client has stopped."""
        done = self.attach()
        self.assertEqual(
            self.session.asked, [("attach", {"id": "qrst", "stdoutAt": None, "stderrAt": None})]
        )
        self.remote.stdout.receive(b"more")
        self.remote.end(Exited(code=4))
        self.assertStatus(done, 4)
        self.assertEqual(drained(self.printed), b"more")

    def test_fromStart(self) -> None:
        """All of the output can be asked for."""
        self.attach(fromStart=True)
        self.assertEqual(
            self.session.asked, [("attach", {"id": "qrst", "stdoutAt": 0, "stderrAt": 0})]
        )

    def test_attachedInput(self) -> None:
        """Who attaches may give input."""
        self.attach(stdin=True)
        os.write(self.typist, b"a")
        self.reactor.settle()
        self.assertEqual(self.remote.stdin.data, b"a")

    def test_attachedAndLeft(self) -> None:
        """Who attached leaves it running."""
        done = self.attach()
        self.signals.send(signal.SIGTERM)
        self.assertStatus(done, 143, f"netsuite: {HINT}qrst\n")

    def test_notThere(self) -> None:
        """A command that is not there is told."""
        self.session.refusal = NotFound("there is no such command.")
        self.assertIn("no such command", self.assertFails(self.attach(), NotFound))


class TerminalTests(AttendedTestCase):
    """A command with the terminal of this process."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(os, "environ", {**os.environ, "TERM": "xterm"})
        self.far, self.stdin = pty.openpty()
        self.addCleanup(closed, self.far)
        self.addCleanup(closed, self.stdin)
        self.resize(30, 100)
        self.before = termios.tcgetattr(self.stdin)

    def resize(self, rows: int, cols: int) -> None:
        """Give the terminal a size."""
        fcntl.ioctl(self.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    @property
    def raw(self) -> bool:
        """Whether the terminal is raw."""
        return not termios.tcgetattr(self.stdin)[3] & termios.ICANON

    def run_(self, **wish: Any) -> Deferred[int]:
        """Run a command at the terminal."""
        return super().run_(terminal=True, stdin=True, **wish)

    def assertGone(self) -> None:
        """The terminal is what it was, and nothing is left."""
        super().assertGone()
        self.assertEqual(termios.tcgetattr(self.stdin), self.before)

    def test_terminal(self) -> None:
        """The command gets a terminal like this one, which is raw while the command runs."""
        done = self.run_()
        [(_, options)] = self.session.asked
        self.assertEqual(options["terminal"], Terminal(term="xterm", rows=30, cols=100))
        self.assertTrue(self.raw)
        os.write(self.far, b"a\x03\x04\r")
        self.reactor.settle()
        self.assertEqual(self.remote.stdin.data, b"a\x03\x04\r")
        self.remote.stdout.receive(b"\x1b[2Jok\r\n")
        self.assertEqual(drained(self.printed), b"\x1b[2Jok\r\n")
        self.remote.end(Exited(code=0))
        self.assertStatus(done, 0)

    def test_resized(self) -> None:
        """The command learns each new size."""
        self.run_()
        self.resize(50, 132)
        self.signals.send(signal.SIGWINCH)
        self.assertEqual(self.remote.told, [(30, 100), (50, 132)])

    def test_notBefore(self) -> None:
        """The terminal is not touched before the command runs."""
        self.session.waits = True
        done = self.run_()
        self.assertFalse(self.raw)
        done.cancel()
        self.failureResultOf(done, CancelledError)

    def test_everyWayOut(self) -> None:
        """The terminal is given back whatever ends the command or this program."""

        def cancel(done: Deferred[int]) -> None:
            done.cancel()
            self.failureResultOf(done, CancelledError)

        ways: list[Callable[[Deferred[int]], object]] = [
            lambda done: self.remote.end(TERM),
            lambda done: self.signals.send(signal.SIGHUP),
            lambda done: self.signals.send(signal.SIGTERM, 2),
            lambda done: self.signals.send(signal.SIGQUIT, 2),
            lambda done: self.signals.send(signal.SIGINT, 3),
            lambda done: self.signals.send(signal.SIGUSR1),
            lambda done: self.signals.send(signal.SIGALRM),
            lambda done: self.signals.send(signal.SIGABRT),
            lambda done: self.signals.send(signal.SIGRTMAX),
            lambda done: os.write(self.far, b"~."),
            cancel,
        ]
        for way in ways:
            self.setUp()
            done = self.run_()
            self.assertTrue(self.raw)
            way(done)
            self.reactor.settle()
            self.assertTrue(done.called)
            self.assertGone()

    def test_connectionLost(self) -> None:
        """The terminal is given back when the connection breaks."""
        done = self.run_()
        self.remote.lose(ConnectionFailed("gone."))
        self.assertFails(done, ConnectionFailed)

    def test_sentenceAfterIt(self) -> None:
        """What there is to say is said when the terminal is what it was."""
        raw: list[bool] = []
        self.patch(command, "say", lambda sentence: raw.append(self.raw))
        self.run_()
        self.remote.end(TERM)
        self.assertEqual(raw, [False])

    def test_escape(self) -> None:
        """Tilde and dot at the beginning of a line leave, as a connection that breaks."""
        done = self.run_()
        os.write(self.far, b"ab\r~.cd")
        self.reactor.settle()
        self.assertEqual(self.remote.stdin.data, b"ab\r")
        self.assertStatus(done, 129)

    def test_escapeAndStay(self) -> None:
        """They leave a command that stays running, which is what was wanted."""
        done = self.run_(onDisconnect="detach")
        os.write(self.far, b"~.")
        self.reactor.settle()
        self.assertStatus(done, 0, f"netsuite: {HINT}abcdefgh -t\n")

    def test_suspended(self) -> None:
        """Who is stopped gives the terminal back, and takes it and its size again afterwards."""
        stopped: list[bool] = []
        self.patch(os, "kill", lambda pid, number: stopped.append(self.raw))
        self.run_()
        self.signals.send(signal.SIGTSTP)
        self.assertEqual((stopped, self.raw), ([False], True))
        termios.tcsetattr(self.stdin, termios.TCSANOW, self.before)
        self.resize(50, 132)
        self.signals.send(signal.SIGCONT)
        self.assertTrue(self.raw)
        self.assertEqual(self.remote.told, [(30, 100), (50, 132)])

    def test_hungUp(self) -> None:
        """The end of the terminal is the end of the command's input."""
        self.run_()
        os.close(self.far)
        self.reactor.settle()
        self.assertTrue(self.remote.stdin.ended)

    def test_noTerminal(self) -> None:
        """Without a terminal here the command gets one of the usual size, and a note tells that."""
        self.stdin, self.typist = pipe(self)
        done = AttendedTestCase.run_(self, terminal=True, stdin=True)
        [(_, options)] = self.session.asked
        self.assertEqual(options["terminal"], Terminal(term="xterm", rows=24, cols=80))
        os.write(self.typist, b"~.")
        self.reactor.settle()
        self.assertEqual(self.remote.stdin.data, b"~.")
        self.remote.end(Exited(code=0))
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(
            self.screen.err,
            "netsuite: Standard input is no terminal; the command gets one of 24 lines and 80 "
            "columns.\n",
        )

    def test_oddType(self) -> None:
        """A type that no terminal has is not passed on."""
        for term in ("", "a b", "x" * 65, "\x1b[2J"):
            self.patch(os, "environ", {"TERM": term})
            self.assertEqual(self.console.terminal().term, "dumb")

    def test_attach(self) -> None:
        """Who attaches to a command with a terminal tells it the size of the own."""
        self.session.pty = True
        done = self.attach(stdin=True, raw=True)
        self.assertTrue(self.raw)
        self.assertEqual(self.remote.told, [(30, 100)])
        self.remote.end(Exited(code=0))
        self.assertStatus(done, 0)

    def test_attachToNone(self) -> None:
        """A command without a terminal leaves this one as it is."""
        self.session.pty = False
        self.attach(stdin=True, raw=True)
        self.assertFalse(self.raw)
        self.assertIn("The command has no terminal", self.screen.err)
        os.write(self.far, b"~.\n")
        self.reactor.settle()
        self.assertEqual(self.remote.stdin.data, b"~.\n")


class DetachedTests(AttendedTestCase):
    """L{detached}, L{kill} and L{listCommands}."""

    def test_detached(self) -> None:
        """Its ID is printed once the server knows that it is left, and none of its output taken."""
        wish = Wish(("ls",), onDisconnect="detach", ttl=60)
        done = Deferred.fromCoroutine(detached(self.reactor, SERVER, wish))
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(self.screen.out, b"abcdefgh\n")
        self.assertEqual(self.remote.told, ["detach"])
        self.remote.stdout.receive(b"x")
        self.remote.stderr.receive(b"x")
        self.assertEqual(self.remote.taken, 0)
        self.assertTrue(self.session.closed)

    def test_detachedNotStarted(self) -> None:
        """What cannot be started has no ID."""
        self.session.refusal = NotFound("there is no such program.")
        done = Deferred.fromCoroutine(detached(self.reactor, SERVER, Wish(("ls",))))
        self.failureResultOf(done, NotFound)
        self.assertEqual(self.screen.out, b"")
        self.assertTrue(self.session.closed)

    def test_kill(self) -> None:
        """A command is ended, or signalled, and nothing is printed."""
        for name in (None, "HUP"):
            done = Deferred.fromCoroutine(kill(self.reactor, SERVER, "qrst", name))
            self.assertEqual(self.successResultOf(done), 0)
            self.assertEqual(self.session.asked[-1], ("kill", {"id": "qrst", "signal": name}))
        self.assertEqual(self.screen.out, b"")

    def test_killNone(self) -> None:
        """A command that is not there is told."""
        self.session.refusal = NotFound("there is no such command.")
        self.failureResultOf(
            Deferred.fromCoroutine(kill(self.reactor, SERVER, "qrst", None)), NotFound
        )
        self.assertTrue(self.session.closed)

    def list(self, asJson: bool, *listings: Listing) -> str:
        """List, and give what is printed."""
        self.session.listings = list(listings)
        before = len(self.screen.out)
        done = Deferred.fromCoroutine(listCommands(self.reactor, SERVER, asJson=asJson))
        self.assertEqual(self.successResultOf(done), 0)
        self.assertTrue(self.session.closed)
        return self.screen.out[before:].decode()

    def test_list(self) -> None:
        """Each command is a line, whatever is in its words."""
        states: list[tuple[dict[str, Any], str]] = [
            ({}, "detached"),
            ({"attached": True}, "attached"),
            ({"outcome": Exited(code=3)}, "exited 3"),
            ({"outcome": TERM}, "ended by TERM"),
            ({"outcome": TimedOut(seconds=1)}, "timed out"),
            ({"outcome": Limit(which="output", reason="")}, "limit output"),
            ({"outcome": Lost(reason="")}, "lost"),
            ({"outcome": NotStarted(code="internal", reason="")}, "not started"),
            ({"outcome": Denied(reason="")}, "not started"),
        ]
        for fields, state in states:
            listing = Listing(
                id="abc", command=b"ls \x1b[2J\n" + b"x" * 99, started=0, stdout=5, **fields
            )
            head, line = self.list(False, listing).splitlines()
            self.assertEqual(
                head.split(), ["ID", "STARTED", "STATE", "STDOUT", "STDERR", "COMMAND"]
            )
            began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(0))
            self.assertIn(f"abc  {began}  {state}  ", line)
            self.assertIn("  5       0       ls \ufffd[2J xxx", line)
            self.assertTrue(line.endswith("x…"))

    def test_listNothing(self) -> None:
        """Where there is none, there is the head alone."""
        self.assertEqual(len(self.list(False).splitlines()), 1)
        self.assertEqual(json.loads(self.list(True)), [])

    def test_json(self) -> None:
        """For programs it is JSON, with the outcome as it is on the wire."""
        listing = Listing(
            id="abc", command=b"a\xff\x1b", started=1.5, outcome=Exited(code=3), ended=2.5
        )
        text = self.list(True, listing)
        self.assertTrue(text.isascii())
        self.assertEqual(
            json.loads(text),
            [
                {
                    "id": "abc",
                    "command": "a\\xff\x1b",
                    "started": 1.5,
                    "ended": 2.5,
                    "attached": False,
                    "stdout": 0,
                    "stderr": 0,
                    "outcome": {"kind": "exited", "code": 3},
                }
            ],
        )

    def test_everyOutcome(self) -> None:
        """There is a sentence for every outcome but that of a command that ended by itself."""
        self.assertEqual(howItEnded(Exited(code=1)), "")
        self.assertEqual(howItEnded(Lost(reason="gone.")), "gone.")
