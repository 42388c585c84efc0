"""
Sessions of the native exec service: what a client may send when, how much it is sent, and what
becomes of it when either end leaves.
"""

from __future__ import annotations

import errno
import hashlib
from typing import Any

from twisted.logger import capturedLogs

from tests.rexec.sessions import SHELL, Client, ExecCase
from tests.trust.overseen import PLACE, HeldNotes, events
from twisted_netsuite.errors import (
    AuditUnavailable,
    ConfigurationError,
    NotFound,
    ProtocolError,
)
from twisted_netsuite.net.frames import MAX_BEHIND, STALL_TIMEOUT
from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.commands import STOP_LIMIT
from twisted_netsuite.rexec.launch import TerminalSize
from twisted_netsuite.rexec.machine import SERVER_TABLE, Effect, Input, State
from twisted_netsuite.rexec.messages import (
    DEFAULT_WINDOW,
    FRAME,
    MAX_WINDOW,
    Attach,
    Cancel,
    Credit,
    Detach,
    Detached,
    End,
    Kill,
    Killed,
    List,
    Listed,
    Resize,
    Signal,
    Start,
    Started,
    Stderr,
    Stdin,
    StdinEof,
    Stdout,
    Tally,
    Terminal,
)
from twisted_netsuite.rexec.native import MAX_CHANNELS, ExecFactory
from twisted_netsuite.rexec.serverchannel import INPUT_WINDOW
from twisted_netsuite.testing import BUFFER_SIZE
from twisted_netsuite.trust.oversight import UNSEEN
from twisted_netsuite.wire.session import MAX_DATA, Record

#: Bytes that a stalled connection may hold at most: what Twisted buffers before it says so, and the
#: largest piece.
MOST_UNSENT = BUFFER_SIZE + 2 * MAX_DATA + 4096


def tally(data: bytes) -> Tally:
    """Count and digest bytes, as a client does."""
    return Tally(count=len(data), sha256=hashlib.sha256(data).digest())


class RunTests(ExecCase):
    """From START to END."""

    def test_output(self) -> None:
        """Both streams arrive apart and in order, and END has the counts and digests of all."""
        client = self.connect()
        channel, command = self.run_(client, SHELL, b"-c", b"x")
        for piece in (b"one ", b"two"):
            command.out(piece)
        command.err(b"three")
        command.exit(3)
        self.settle()
        self.assertEqual(client.kinds(channel), ["Started", "Stdout", "Stdout", "Stderr", "End"])
        self.assertEqual(client.stdout(channel), b"one two")
        end = client.end(channel)
        self.assertEqual(end.outcome, outcome.Exited(code=3))
        self.assertEqual((end.stdout, end.stderr), (tally(b"one two"), tally(b"three")))
        self.assertEqual((end.stdoutHere, end.stderrHere), (None, None))
        self.assertEqual(command.launch.program, SHELL)
        self.assertEqual(tuple(command.launch.argv), (SHELL, b"-c", b"x"))

    def test_nothing(self) -> None:
        """A command that writes nothing has the digests of nothing."""
        client = self.connect()
        channel, command = self.run_(client)
        command.exit()
        self.settle()
        end = client.end(channel)
        self.assertEqual((end.stdout, end.stderr), (tally(b""), tally(b"")))

    def test_stdin(self) -> None:
        """Input arrives as it was sent, is credited as it is taken, and its end arrives, too."""
        client = self.connect()
        channel, command = self.run_(client, stdin=True)
        started = client.started(channel)
        self.assertTrue(started.stdinOpen)
        self.assertEqual((started.stdin, started.stdinAt), (INPUT_WINDOW, 0))
        data = bytes(range(256)) * 1024
        for at in range(0, len(data), MAX_DATA):
            client.say(Stdin(channel=channel, data=data[at : at + MAX_DATA]))
        self.assertEqual(command.written, data)
        self.assertEqual(client.all(Credit), [])
        command.takeInput(len(data))
        self.settle()
        self.assertEqual(sum(each.count for each in client.all(Credit)), len(data))
        client.say(Stdin(channel=channel, data=b"rest"), StdinEof(channel=channel))
        self.assertEqual((command.written[-4:], command.inputEnded), (b"rest", True))

    def test_noStdin(self) -> None:
        """A command without input says so, and input for it ends the session."""
        client = self.connect()
        channel, command = self.run_(client)
        self.assertFalse(command.launch.stdin)
        self.assertFalse(client.started(channel).stdinOpen)
        client.say(Stdin(channel=channel, data=b"x"))
        self.assertIsInstance(client.closed[0], ProtocolError)
        self.assertEqual(command.written, b"")

    def test_tooMuchStdin(self) -> None:
        """Input beyond its window is never given to the command."""
        client = self.connect()
        channel, command = self.run_(client, stdin=True)
        for _ in range(INPUT_WINDOW // MAX_DATA):
            client.say(Stdin(channel=channel, data=b"x" * MAX_DATA))
        client.say(Stdin(channel=channel, data=b"y"))
        self.assertEqual(command.written, b"x" * INPUT_WINDOW)
        self.assertIn("the window was 0", str(client.closed[0]))

    def test_deaf(self) -> None:
        """A command that reads no more is told of once, and what was on its way is dropped."""
        client = self.connect()
        channel, command = self.run_(client, stdin=True)
        client.say(Stdin(channel=channel, data=b"x" * 100))
        command.loseInput()
        self.settle()
        self.assertEqual(client.kinds(channel), ["Started", "StdinEof"])
        client.say(Stdin(channel=channel, data=b"y"), StdinEof(channel=channel))
        self.assertEqual((command.written, client.closed), (b"x" * 100, []))
        command.exit()
        self.settle()
        self.assertEqual(client.outcome(channel), outcome.Exited(code=0))

    def test_signalled(self) -> None:
        """A signal that ended a command has its name, and a core dump is told of."""
        client = self.connect()
        for number, core, name in ((15, False, "TERM"), (11, True, "SEGV"), (40, False, "RTMIN+6")):
            channel, command = self.run_(client)
            command.die(number, core)
            self.settle()
            end = outcome.Signalled(name=name, number=number, core=core)
            self.assertEqual(client.outcome(channel), end)

    def test_notStarted(self) -> None:
        """What the system says of a start that failed becomes a code, and STARTED never comes."""
        client = self.connect()
        for number, code, status in (
            (errno.ENOENT, "not-found", 127),
            (errno.ENOTDIR, "not-found", 127),
            (errno.EACCES, "denied", 126),
            (errno.ENOEXEC, "denied", 126),
            (errno.EMFILE, "limit", 125),
            (errno.EAGAIN, "limit", 125),
        ):
            channel = client.start()
            self.last().refuse(number, "run /bin/\x1bsh")
            self.settle()
            end = client.outcome(channel)
            assert isinstance(end, outcome.NotStarted)
            self.assertEqual((client.kinds(channel), end.code), (["End"], code))
            self.assertEqual(end.status, status)
            self.assertNotIn("\x1b", end.reason)

    def test_lost(self) -> None:
        """That nobody knows how a command ended is told as just that."""
        client = self.connect()
        channel, command = self.run_(client)
        command.lose()
        self.settle()
        self.assertIsInstance(client.outcome(channel), outcome.Lost)

    def test_timedOut(self) -> None:
        """A command that runs for too long is ended, and how it ended then does not matter."""
        client = self.connect()
        channel, command = self.run_(client, timeLimit=5.0)
        self.clock.advance(4.9)
        self.assertFalse(command.asked)
        self.clock.advance(0.1)
        self.assertTrue(command.asked)
        command.exit(0)
        self.settle()
        self.assertEqual(client.outcome(channel), outcome.TimedOut(seconds=5.0))

    def test_timeOfStart(self) -> None:
        """The time of a command does not run before it does."""
        client = self.connect()
        client.start(timeLimit=5.0)
        self.clock.advance(6)
        self.assertFalse(self.last().asked)
        self.last().start()
        self.clock.advance(4)
        self.assertFalse(self.last().asked)

    def test_outputLimit(self) -> None:
        """Of too much output the part that was allowed arrives, and the digests are of that."""
        client = self.connect()
        channel, command = self.run_(client, b"/bin/ls")
        command.out(b"12345")
        command.err(b"678")
        self.assertFalse(command.asked)
        command.out(b"9abc")
        self.assertTrue(command.asked)
        command.err(b"more")
        command.die(15)
        self.settle()
        end = client.end(channel)
        self.assertEqual(client.stdout(channel) + client.stderr(channel), b"123459a678")
        self.assertEqual((end.stdout, end.stderr), (tally(b"123459a"), tally(b"678")))
        assert isinstance(end.outcome, outcome.Limit)
        self.assertEqual(end.outcome.which, "output")

    def test_firstReason(self) -> None:
        """A command that is ended for one reason, and takes its time, has not ended for another."""
        client = self.connect()
        channel, command = self.run_(client, b"/bin/ls")
        command.out(b"x" * 11)
        self.clock.advance(30)
        self.settle()
        self.clock.advance(30)
        self.settle()
        command.die(9)
        self.settle()
        end = client.outcome(channel)
        assert isinstance(end, outcome.Limit), end
        self.assertEqual(end.which, "output")

    def test_justTheLimit(self) -> None:
        """As much output as is allowed is allowed."""
        client = self.connect()
        channel, command = self.run_(client, b"/bin/ls")
        command.out(b"1234567890")
        self.assertFalse(command.asked)
        command.exit()
        self.settle()
        self.assertEqual(client.outcome(channel), outcome.Exited(code=0))

    def test_terminal(self) -> None:
        """A terminal has the size that was asked for, and then those that are."""
        client = self.connect()
        terminal = Terminal(term="xterm", rows=40, cols=132)
        channel, command = self.run_(client, pty=terminal)
        self.assertEqual(command.launch.terminal, TerminalSize(40, 132))
        self.assertEqual(command.launch.env[b"TERM"], b"xterm")
        started = client.started(channel)
        self.assertTrue(started.pty and started.stdinOpen)
        client.say(Resize(channel=channel, rows=0, cols=65535))
        self.assertEqual(command.sizes, [TerminalSize(0, 65535)])

    def test_resizeNothing(self) -> None:
        """The size of a terminal that is not there is of no interest."""
        client = self.connect()
        channel, command = self.run_(client)
        client.say(Resize(channel=channel, rows=10, cols=10))
        self.assertEqual((command.sizes, client.closed), ([], []))

    def test_longReason(self) -> None:
        """However long what could not be done is, its sentence is one that a client takes."""
        client = self.connect()
        channel = client.start()
        self.last().refuse(errno.ENOENT, "enter /" + "x" * 4095)
        self.settle()
        end = client.outcome(channel)
        assert isinstance(end, outcome.NotStarted), client.closed
        self.assertLessEqual(len(end.reason), outcome.MAX_REASON)
        self.assertTrue(end.reason.endswith("\N{HORIZONTAL ELLIPSIS}: no such file or directory."))
        self.assertEqual(client.closed, [])

    def test_longCommand(self) -> None:
        """A command with its environment may be longer than a piece of data."""
        client = self.connect()
        argv = (SHELL, *(b"x" * 60_000 for _ in range(4)))
        self.run_(client, *argv)
        self.assertEqual(tuple(self.last().launch.argv), argv)
        self.assertGreater(FRAME, 4 * 60_000)

    def test_signal(self) -> None:
        """Signals are sent by name, real-time ones too."""
        client = self.connect()
        channel, command = self.run_(client)
        for name in ("TERM", "INT", "USR1", "RTMIN", "RTMIN+2"):
            client.say(Signal(channel=channel, name=name))
        self.assertEqual(command.signals, [15, 2, 10, 34, 36])

    def test_unknownSignal(self) -> None:
        """A signal that there is not is an ERROR about the channel, and all goes on."""
        client = self.connect()
        channel, command = self.run_(client)
        for name in ("NONE", "RTMIN+999", "RTMIN+", "RTMIN+-1", "DFL"):
            client.say(Signal(channel=channel, name=name))
            error, about = client.errors.pop()
            self.assertIsInstance(error, NotFound)
            self.assertEqual(about, channel)
        client.say(Signal(channel=channel, name="HUP"))
        self.assertEqual((command.signals, client.closed), ([1], []))

    def test_audit(self) -> None:
        """The start is written down before the command is, and the end with counts and digests."""
        self.notes = HeldNotes()
        self.serve()
        client = self.connect()
        channel = client.start(SHELL, b"-c", b"x")
        self.assertEqual(events(self.notes), ["exec.start"])
        self.assertEqual((self.spawner.commands, client.of(channel)), ([], []))
        self.notes.let()
        self.last().out(b"abc")
        self.last().exit(7)
        start, end = self.notes.records
        self.assertEqual((start["event"], start["identity"]), ("exec.start", "cert:anna"))
        self.assertEqual(start["command"], (SHELL, b"-c", b"x"))
        self.assertIn(PLACE.rpartition("/")[2], start["rule"])
        self.assertEqual(
            {name: end[name] for name in ("event", "outcome", "status", "stdout", "stderr", "id")},
            {
                "event": "exec.end",
                "outcome": "exited",
                "status": 7,
                "stdout": 3,
                "stderr": 0,
                "id": start["id"],
            },
        )
        self.assertEqual(end["stdoutSha256"], hashlib.sha256(b"abc").hexdigest())
        self.assertEqual(end["stderrSha256"], hashlib.sha256(b"").hexdigest())
        self.assertEqual(end["command"], start["command"])

    def test_auditEnds(self) -> None:
        """The audit log tells how each command has ended, and why."""
        client = self.connect()
        for act, fields in (
            (lambda: self.last().die(15), {"outcome": "signalled", "signal": "TERM"}),
            (lambda: self.last().out(b"x" * 11), {"outcome": "limit", "which": "output"}),
            (
                lambda: self.last().refuse(errno.ENOENT, "run it"),
                {"outcome": "not-started", "code": "not-found"},
            ),
        ):
            client.start(b"/bin/ls")
            act()
            if not self.last().ended:
                self.last().die(9)
            self.settle()
            end = self.notes.records[-1]
            self.assertEqual({name: end[name] for name in fields}, fields)
            self.assertEqual("reason" in end, "signal" not in end)
            self.last().ended = True

    def test_auditDown(self) -> None:
        """Nothing runs that cannot be written down, and the client learns why."""
        self.notes.failure = AuditUnavailable("The disk is full.")
        client = self.connect()
        channel = client.start()
        end = client.outcome(channel)
        assert isinstance(end, outcome.NotStarted)
        self.assertEqual((end.code, self.spawner.commands), ("audit-unavailable", []))

    def test_denied(self) -> None:
        """What is denied is not started, is written down, and tells nothing of the policy."""
        client = self.connect()
        for argv, rule in (((b"/bin/false",), "operators"), ((b"/usr/bin/id",), "")):
            with capturedLogs():
                channel = client.start(*argv)
            end = client.outcome(channel)
            assert isinstance(end, outcome.Denied)
            self.assertEqual((end.rule, end.status), (rule, 126))
            self.assertNotIn("hidden", end.reason)
            self.assertEqual(client.kinds(channel), ["End"])
        self.assertEqual(self.spawner.commands, [])
        self.assertEqual(events(self.notes), ["exec.start.denied"] * 2)

    def test_noPolicy(self) -> None:
        """Without a policy nothing runs."""
        self.serve(policy=None)
        client = self.connect()
        channel = client.start()
        self.assertIsInstance(client.outcome(channel), outcome.Denied)
        self.assertEqual(self.spawner.commands, [])

    def test_largePieces(self) -> None:
        """What is read of a command at once may be more than fits in a frame, however small."""
        for frame in (8 * 1024, 1024 * 1024):
            self.serve(frame=frame)
            client = self.connect()
            channel, command = self.run_(client)
            data = bytes(range(251)) * 1000
            command.out(data)
            self.settle()
            self.assertEqual((client.stdout(channel), client.closed), (data, []))
            self.stop()


class CreditTests(ExecCase):
    """How much a client is sent."""

    def test_allowed(self) -> None:
        """A command is read for no more than the client lets come, of each stream for itself."""
        client = self.connect()
        channel, command = self.run_(client, stdoutCredit=100, stderrCredit=7)
        self.assertEqual(command.allowed, {"stdout": 100, "stderr": 7})
        command.out(b"x" * 60)
        self.assertEqual(command.allowed, {"stdout": 40, "stderr": 7})
        client.say(Credit(channel=channel, stream="stderr", count=3))
        self.assertEqual(command.allowed, {"stdout": 40, "stderr": 10})

    def test_default(self) -> None:
        """A client that says nothing has a window of usual size."""
        _channel, command = self.run_(self.connect())
        self.assertEqual(command.allowed, {"stdout": DEFAULT_WINDOW, "stderr": DEFAULT_WINDOW})

    def test_noWindow(self) -> None:
        """With no window at all a command runs, and is read for what is credited later."""
        client = self.connect()
        channel, command = self.run_(client, stdoutCredit=0, stderrCredit=0)
        self.assertEqual(command.allowed, {"stdout": 0, "stderr": 0})
        client.say(Credit(channel=channel, stream="stdout", count=5))
        command.out(b"12345")
        command.exit()
        self.settle()
        self.assertEqual((client.stdout(channel), client.end(channel).stdout.count), (b"12345", 5))

    def test_creditBeforeStart(self) -> None:
        """What is credited before the command runs counts from its start, once."""
        client = self.connect()
        channel = client.start(stdoutCredit=10)
        client.say(Credit(channel=channel, stream="stdout", count=5))
        self.assertEqual(self.last().allowed["stdout"], 0)
        self.last().start()
        self.assertEqual(self.last().allowed["stdout"], 15)

    def test_creditWhileAsked(self) -> None:
        """The same, while it is still asked whether it may run."""
        self.notes = HeldNotes()
        self.serve()
        client = self.connect()
        channel = client.start(stdoutCredit=10)
        client.say(Credit(channel=channel, stream="stdout", count=5))
        self.notes.let()
        self.last().start()
        self.assertEqual(self.last().allowed["stdout"], 15)

    def test_largestWindow(self) -> None:
        """A window may be as large as it may be, and one byte more ends the session."""
        client = self.connect()
        channel, command = self.run_(client, stdoutCredit=MAX_WINDOW - 1)
        client.say(Credit(channel=channel, stream="stdout", count=1))
        self.assertEqual((command.allowed["stdout"], client.closed), (MAX_WINDOW, []))
        client.say(Credit(channel=channel, stream="stdout", count=1))
        self.assertIn(str(MAX_WINDOW + 1), str(client.closed[0]))
        self.assertTrue(command.asked)

    def test_afterEnd(self) -> None:
        """Credit that was on its way when the command ended is dropped, as all else is."""
        client = self.connect()
        channel, command = self.run_(client, stdin=True)
        command.exit()
        self.settle()
        for record in (
            Credit(channel=channel, stream="stdout", count=MAX_WINDOW),
            Credit(channel=channel, stream="stdin", count=1),
            Stdin(channel=channel, data=b"x"),
            StdinEof(channel=channel),
            Signal(channel=channel, name="NONE"),
            Cancel(channel=channel),
            Detach(channel=channel),
        ):
            client.say(record)
        self.assertEqual((client.closed, client.errors), ([], []))
        self.assertEqual(client.kinds(channel), ["Started", "End"])

    def test_creditForInput(self) -> None:
        """A client that credits its own input ends its session."""
        client = self.connect()
        channel, command = self.run_(client, stdin=True)
        client.say(Credit(channel=channel, stream="stdin", count=1))
        self.assertIsInstance(client.closed[0], ProtocolError)
        self.assertTrue(command.asked)

    def test_stalled(self) -> None:
        """While the client takes nothing nothing is read; then all arrives, END behind it."""
        client = self.connect()
        channel, command = self.run_(client)
        client.stall()
        while not command.paused:
            command.out(b"x" * MAX_DATA)
        self.assertLess(len(client.pair.server.outgoing), MOST_UNSENT)
        client.goOn()
        self.settle()
        self.assertFalse(command.paused)
        command.out(b"rest")
        command.exit()
        self.settle()
        self.assertEqual(client.end(channel).stdout, tally(client.stdout(channel)))
        self.assertTrue(client.stdout(channel).endswith(b"rest"))

    def test_startedWhileStalled(self) -> None:
        """A command that comes to run while the client takes nothing is not read before it does."""
        client = self.connect()
        _channel, command = self.run_(client)
        client.stall()
        while not command.paused:
            command.out(b"x" * MAX_DATA)
        later = client.start()
        self.last().start()
        self.assertTrue(self.last().paused)
        client.goOn()
        self.settle()
        self.last().out(b"abc")
        self.settle()
        self.assertEqual(client.stdout(later), b"abc")

    def test_manyStalled(self) -> None:
        """A hundred commands that write at once to a client that reads nothing cost no more."""
        client = self.connect()
        commands = [self.run_(client)[1] for _ in range(100)]
        client.stall()
        written = 0
        for _ in range(20):
            for command in commands:
                if not command.paused:
                    command.out(b"x" * 20_000)
                    written += 20_000
        self.assertTrue(all(command.paused for command in commands))
        self.assertLess(len(client.pair.server.outgoing), MOST_UNSENT)
        self.assertLess(written, MOST_UNSENT)
        for command in commands:
            command.exit()
        client.goOn()
        self.settle()
        self.assertEqual(len(client.all(End)), 100)
        self.assertEqual(sum(end.stdout.count for end in client.all(End)), written)

    def test_stalledForGood(self) -> None:
        """A client that takes nothing for too long is cut off, and its commands end."""
        client = self.connect()
        _channel, command = self.run_(client)
        client.stall()
        while not command.paused:
            command.out(b"x" * MAX_DATA)
        self.clock.advance(STALL_TIMEOUT)
        self.settle()
        self.assertTrue(command.asked)

    def test_inputWhileStalled(self) -> None:
        """Input is taken while output is not, so that a filter whose ends both wait goes on."""
        client = self.connect()
        channel, command = self.run_(client, stdin=True)
        client.stall()
        while not command.paused:
            command.out(b"x" * MAX_DATA)
        client.say(Stdin(channel=channel, data=b"more"))
        self.assertEqual(command.written, b"more")

    def flood(self, record: Any, count: int) -> int:
        """Ask again and again, reading no answer; tell how many questions were read."""
        client = self.connect()
        client.stall()
        for _ in range(count):
            client.channel += 1
            client.sendRecord(record(client.channel))
        before = client.server._highest
        self.settle()
        self.assertLess(len(client.pair.server.outgoing), BUFFER_SIZE + 2 * MAX_BEHIND)
        self.assertFalse(client.pair.server.reading)
        read = client.server._highest - before
        client.goOn()
        self.settle()
        self.assertEqual(client.closed, [])
        self.assertEqual(client.server._highest, client.channel)
        return read

    def test_listFlood(self) -> None:
        """Who asks for lists and reads none is read no more."""
        other = self.connect()
        for _ in range(30):
            self.run_(other, SHELL, b"-c", b"x" * 400)
        self.assertLess(self.flood(lambda channel: List(channel=channel), 200), 100)

    def test_killFlood(self) -> None:
        """Who asks for kills and reads no answer is read no more."""
        self.assertLess(self.flood(lambda channel: Kill(channel=channel, id="abc"), 6000), 5000)


#: Records of a client about a channel, by what they are to the machine.
WITHIN: dict[Input, Record] = {
    Input.STDIN: Stdin(channel=1, data=b"x"),
    Input.STDIN_EOF: StdinEof(channel=1),
    Input.CREDIT: Credit(channel=1, stream="stdout", count=1),
    Input.SIGNAL: Signal(channel=1, name="HUP"),
    Input.RESIZE: Resize(channel=1, rows=1, cols=1),
    Input.CANCEL: Cancel(channel=1),
    Input.DETACH: Detach(channel=1),
}


class FairTests(ExecCase):
    """Channels that share one connection which does not carry all that they have."""

    def setUp(self) -> None:
        super().setUp()
        self.serve(state=True)

    def share(self, count: int, rounds: int, **told: Any) -> tuple[Client, list[int], int]:
        """Let commands write without end to a client that reads slowly, then one a word; tell how
        much came of each, and after how many rounds the word did."""
        client = self.connect()
        client.takes = True
        channels = [self.run_(client, **told)[0] for _ in range(count)]
        endless = list(self.spawner.commands)
        for _ in range(rounds):
            self.round(client, endless)
        shares = [len(client.stdout(each)) for each in channels]
        late, short = self.run_(client, **told)
        waited = 0
        while not client.stdout(late):
            waited += 1
            self.assertLess(waited, rounds)
            self.round(client, endless)
            if not short.ended and not short.paused:
                short.out(b"word")
                short.exit()
        return client, shares, waited

    def round(self, client: Client, endless: list[Any]) -> None:
        """Let the reactor turn once: it reads commands in an order of its own."""
        for command in endless:
            for _ in range(4):
                size = min(MAX_DATA, command.allowed["stdout"])
                if not command.paused and size:
                    command.out(b"x" * size)
        self.clock.advance(0)
        for _ in range(2):
            client.pair.client.step(BUFFER_SIZE)
            client.pair.server.step(BUFFER_SIZE)

    def test_direct(self) -> None:
        """None has to wait for ever for the others, whatever the order that they are read in."""
        client, shares, _ = self.share(3, 100)
        self.assertGreater(min(shares), max(shares) // 3, shares)
        self.assertEqual(client.closed, [])

    def test_kept(self) -> None:
        """The same of kept output."""
        client, shares, waited = self.share(3, 60, onDisconnect="detach")
        self.assertGreater(min(shares), max(shares) * 3 // 4, shares)
        self.assertLess(waited, 10)
        self.assertEqual(client.closed, [])

    def test_both(self) -> None:
        """What is kept leaves room for what is not."""
        client = self.connect()
        client.takes = True
        kept, _ = self.run_(client, onDisconnect="detach")
        direct, _ = self.run_(client)
        for _ in range(100):
            self.round(client, list(self.spawner.commands))
        shares = [len(client.stdout(each)) for each in (kept, direct)]
        self.assertGreater(min(shares), max(shares) // 5, shares)


class ChannelTests(ExecCase):
    """What may come when, and on which channel."""

    def within(self, state: State) -> Client:
        """Bring a session's first channel into a state."""
        client = self.connect()
        client.start(stdin=True)
        command = self.last()
        if state is State.ASKED:
            return client
        command.start()
        match state:
            case State.DEAF:
                command.loseInput()
            case State.FED:
                client.say(StdinEof(channel=1))
            case State.CLOSED:
                command.exit()
        self.settle()
        return client

    def test_everyState(self) -> None:
        """Each record of a client does in each state what the table says, and nothing else."""
        for state in State:
            for symbol, record in WITHIN.items():
                client = self.within(state)
                command = self.last()
                client.say(record)
                self.settle()
                told = f"{symbol} while {state}"
                if state is State.CLOSED:
                    self.assertEqual((client.closed, client.errors), ([], []), told)
                elif (state, symbol) not in SERVER_TABLE:
                    self.assertIsInstance(client.closed[0], ProtocolError, told)
                    self.assertIn("is not expected while", str(client.closed[0]), told)
                    self.assertEqual((command.written, command.signals), (b"", []), told)
                    self.assertTrue(command.asked, told)
                else:
                    self.assertEqual((client.closed, client.errors), ([], []), told)
                    effect = SERVER_TABLE[state, symbol][0]
                    delivered = effect in (Effect.DELIVER, Effect.CARRY_OUT)
                    done = {
                        Input.STDIN: command.written == b"x",
                        Input.SIGNAL: command.signals == [1],
                        Input.CANCEL: command.asked,
                        Input.DETACH: command.asked,
                    }
                    self.assertEqual(done.get(symbol, delivered), delivered, told)
                self.stop()
                self.serve()

    def test_unopened(self) -> None:
        """What is about a channel that was never opened ends the session."""
        for record in WITHIN.values():
            client = self.connect()
            client.say(record)
            self.assertEqual(len(client.closed), 1, record)
            self.assertIn("Channel 1 was not opened", str(client.closed[0]))

    def test_numbers(self) -> None:
        """Each channel has a greater number than all before it, whatever it was opened for."""
        opening: list[Any] = [
            lambda number: Start(channel=number, argv=(SHELL,)),
            lambda number: Attach(channel=number, id="abc"),
            lambda number: List(channel=number),
            lambda number: Kill(channel=number, id="abc"),
        ]
        for first in opening:
            for second in opening:
                for number in (4, 5):
                    client = self.connect()
                    client.say(first(5), second(number))
                    self.assertIsInstance(client.closed[0], ProtocolError)
                    self.assertIn(f"Channel {number} was opened after 5", str(client.closed[0]))
        client = self.connect()
        client.say(
            *(make(number) for number, make in zip((1, 7, 100, 2**31 - 1), opening, strict=True))
        )
        self.assertEqual(client.closed, [])

    def test_numberTaken(self) -> None:
        """A number that was used again starts nothing."""
        client = self.connect()
        client.start()
        client.say(Start(channel=1, argv=(SHELL,)))
        self.assertEqual(len(self.spawner.commands), 1)
        self.assertTrue(self.last().asked)

    def test_most(self) -> None:
        """A thousand commands run over a session, one more is refused, and then one may again."""
        self.serve(bounds=self.factory.commands.limits.__class__(commands=5000))
        client = self.connect()
        for _ in range(MAX_CHANNELS):
            client.start()
        self.settle()
        self.assertEqual(len(self.spawner.commands), MAX_CHANNELS)
        refused = client.start()
        self.settle()
        end = client.outcome(refused)
        assert isinstance(end, outcome.NotStarted)
        self.assertEqual((end.code, len(self.spawner.commands)), ("limit", MAX_CHANNELS))
        self.spawner.commands[500].exit()
        self.settle()
        client.start()
        self.settle()
        self.assertEqual((len(self.spawner.commands), client.closed), (MAX_CHANNELS + 1, []))

    def test_sentByTheServer(self) -> None:
        """Records that only a server sends end the session of a client that sends them."""
        nothing = tally(b"")
        for record in (
            Started(channel=1, id="abc"),
            Stdout(channel=1, data=b"x"),
            Stderr(channel=1, data=b"x"),
            Detached(channel=1),
            End(channel=1, outcome=outcome.Exited(code=0), stdout=nothing, stderr=nothing),
            Listed(channel=1),
            Killed(channel=1),
        ):
            client = self.connect()
            _channel, command = self.run_(client)
            client.say(record)
            self.assertIsInstance(client.closed[0], ProtocolError)
            self.assertIn("A server is sent no", str(client.closed[0]))
            self.assertTrue(command.asked)

    def test_apart(self) -> None:
        """What a client does with one channel changes nothing on another."""
        client = self.connect()
        one, first = self.run_(client, stdin=True)
        two, second = self.run_(client, stdin=True)
        client.say(Stdin(channel=two, data=b"2"), Signal(channel=one, name="INT"))
        client.say(Cancel(channel=two))
        first.out(b"1")
        self.settle()
        self.assertEqual((first.written, second.written), (b"", b"2"))
        self.assertEqual((first.signals, second.signals), ([2], []))
        self.assertEqual((first.asked, second.asked), (False, True))
        self.assertEqual((client.stdout(one), client.stdout(two)), (b"1", b""))


class LeavingTests(ExecCase):
    """How a session, a command and the service end."""

    def test_disconnect(self) -> None:
        """A command whose client is gone is ended."""
        for leave in (Client.reset, lambda client: client.pair.client.loseConnection()):
            client = self.connect()
            _channel, command = self.run_(client)
            leave(client)
            self.settle()
            self.assertTrue(command.asked)
            command.out(b"unread")
            command.die(15)
        self.assertEqual(events(self.notes), ["exec.start", "exec.end"] * 2)

    def test_disconnectWhileAsked(self) -> None:
        """A command whose client is gone before it could be started never is."""
        self.notes = HeldNotes()
        self.serve()
        client = self.connect()
        client.start()
        client.reset()
        self.settle()
        self.notes.let()
        self.assertEqual(self.spawner.commands, [])
        self.assertEqual(self.notes.records[-1]["outcome"], "not-started")

    def test_disconnectBeforeStart(self) -> None:
        """A command whose client is gone while it is being started is ended."""
        client = self.connect()
        client.start()
        client.reset()
        self.settle()
        self.assertTrue(self.last().asked)
        self.last().start()
        self.last().die(15)

    def test_startAndGone(self) -> None:
        """A START in the last bytes before the end leaves nothing that runs."""
        client = self.connect()
        client.sendRecord(Start(channel=1, argv=(SHELL,)))
        client.pair.client.loseConnection()
        self.settle()
        self.assertTrue(self.last().asked)

    def test_startAndFault(self) -> None:
        """A START in the same bytes as what ends the session leaves nothing that runs."""
        client = self.connect()
        start = Start(channel=1, argv=(SHELL,))
        client.say(start, Start(channel=2, argv=(SHELL,)), start)
        self.assertEqual([command.asked for command in self.spawner.commands], [True, True])
        self.assertEqual(len(client.closed), 1)

    def test_cancel(self) -> None:
        """A command that is cancelled is asked to end; END tells how it did, after all output."""
        client = self.connect()
        channel, command = self.run_(client)
        client.say(Cancel(channel=channel), Cancel(channel=channel))
        self.assertTrue(command.asked)
        command.out(b"last words")
        command.die(15)
        self.settle()
        self.assertEqual(client.outcome(channel), outcome.Signalled(name="TERM", number=15))
        self.assertEqual(client.stdout(channel), b"last words")

    def test_cancelWhileAsked(self) -> None:
        """A command that is cancelled while the audit log is asked is never started."""
        self.notes = HeldNotes()
        self.serve()
        client = self.connect()
        channel = client.start()
        client.say(Cancel(channel=channel))
        self.notes.let()
        self.settle()
        end = client.outcome(channel)
        assert isinstance(end, outcome.NotStarted)
        self.assertEqual((end.code, self.spawner.commands), ("cancelled", []))

    def test_cancelBeforeStart(self) -> None:
        """A command that is cancelled while it is being started is ended."""
        client = self.connect()
        channel = client.start()
        client.say(Cancel(channel=channel))
        self.assertTrue(self.last().asked)
        self.last().refuse(errno.ECANCELED, "run /bin/sh")
        self.settle()
        end = client.outcome(channel)
        assert isinstance(end, outcome.NotStarted)
        self.assertEqual((client.kinds(channel), end.code), (["End"], "cancelled"))

    def test_cancelAfterEnd(self) -> None:
        """A command that has ended cannot be cancelled, and nobody minds."""
        client = self.connect()
        channel, command = self.run_(client)
        command.exit()
        client.say(Cancel(channel=channel))
        self.assertFalse(command.asked)
        self.assertEqual(client.outcome(channel), outcome.Exited(code=0))

    def test_detachWithoutKeeping(self) -> None:
        """Who follows a command no more that was not to outlive that ends it, and is told so."""
        client = self.connect()
        channel, command = self.run_(client)
        client.say(Detach(channel=channel))
        (detached,) = client.all(Detached)
        self.assertTrue(command.asked)
        self.assertIn("ended", detached.reason)

    def test_goodbye(self) -> None:
        """After a client's GOODBYE what is open finishes, and then the session ends in peace."""
        client = self.connect()
        channel, command = self.run_(client)
        client.leave("Enough.")
        self.settle()
        self.assertEqual((client.closed, command.asked), ([], False))
        command.out(b"abc")
        command.exit()
        self.settle()
        self.assertEqual(client.stdout(channel), b"abc")
        self.assertEqual(client.outcome(channel), outcome.Exited(code=0))
        self.assertIsNotNone(client.pair.server.lost)

    def test_goodbyeWithNothing(self) -> None:
        """A client that leaves with nothing open is let go at once."""
        client = self.connect()
        client.leave("Enough.")
        self.settle()
        self.assertIsNotNone(client.pair.client.lost)

    def test_goodbyeWhileKilling(self) -> None:
        """A KILL that is open when the client leaves is answered before the session ends."""
        other = self.connect()
        channel, command = self.run_(other)
        client = self.connect()
        asked = client.open(Kill, id=other.started(channel).id)
        client.leave("Enough.")
        self.settle()
        command.die(15)
        self.settle()
        (killed,) = client.all(Killed)
        ended = outcome.Signalled(name="TERM", number=15)
        self.assertEqual((killed.channel, killed.outcome), (asked, ended))
        self.assertIsNotNone(client.pair.server.lost)

    def test_stop(self) -> None:
        """What runs when the service stops may finish; nothing else is started meanwhile."""
        self.serve(drain=10.0)
        client, other = self.connect(), self.connect()
        channel, command = self.run_(client)
        stopped = self.factory.abortConnections()
        self.settle()
        refused = other.start()
        end = other.outcome(refused)
        assert isinstance(end, outcome.NotStarted)
        self.assertEqual((end.code, len(self.spawner.commands)), ("unsupported", 1))
        self.clock.advance(9.5)
        self.assertFalse(command.asked or self.spawner.stopped)
        command.out(b"abc")
        command.exit(4)
        self.settle()
        self.assertEqual(client.outcome(channel), outcome.Exited(code=4))
        self.assertEqual(client.stdout(channel), b"abc")
        self.clock.advance(5)
        self.settle()
        self.successResultOf(stopped)
        self.assertTrue(self.spawner.stopped)

    def test_stopLate(self) -> None:
        """What has not finished in time is ended, and its client learns why."""
        self.serve(drain=10.0)
        client = self.connect()
        channel, command = self.run_(client)
        self.factory.abortConnections()
        self.clock.advance(10)
        self.assertTrue(command.asked)
        command.die(15)
        self.settle()
        end = client.outcome(channel)
        assert isinstance(end, outcome.Lost)
        self.assertIn("stopped", end.reason)

    def test_stopWhileAsked(self) -> None:
        """What is still asked for when the service stops is not started."""
        self.notes = HeldNotes()
        self.serve()
        client = self.connect()
        channel = client.start()
        stopped = self.factory.abortConnections()
        self.clock.advance(0)
        self.assertNoResult(stopped)
        self.notes.let()
        self.settle()
        self.assertEqual(self.spawner.commands, [])
        self.assertIsInstance(client.outcome(channel), outcome.NotStarted)

    def test_stopWhileNobodyWrites(self) -> None:
        """An audit log that never answers keeps the service from stopping for a while only."""
        self.notes = HeldNotes()
        self.serve()
        client = self.connect()
        client.start()
        stopped = self.factory.abortConnections()
        self.clock.advance(0)
        self.settle()
        self.clock.advance(STOP_LIMIT)
        self.settle()
        self.successResultOf(stopped)
        self.notes.let()
        self.settle()
        self.assertEqual(self.spawner.commands, [])

    def test_stopWithNothing(self) -> None:
        """A service with nothing that runs stops at once, whatever it would wait."""
        self.serve(drain=1000.0)
        client = self.connect()
        stopped = self.factory.abortConnections()
        self.settle()
        self.clock.advance(5)
        self.settle()
        self.successResultOf(stopped)
        self.assertEqual(client.closed, [None])

    def test_noReactor(self) -> None:
        """Without a spawner what has no descriptors to watch is refused at once."""
        error = self.assertRaises(ConfigurationError, ExecFactory, self.clock, UNSEEN)
        self.assertIn("Clock watches no descriptors", str(error))

    def test_again(self) -> None:
        """A service that was stopped can be begun again."""
        self.stop()
        self.successResultOf(self.factory.open())
        client = self.connect()
        channel, command = self.run_(client)
        command.exit()
        self.settle()
        self.assertEqual(client.outcome(channel), outcome.Exited(code=0))

    def test_nothingLeft(self) -> None:
        """After a thousand commands a service remembers as much as before them."""
        client = self.connect()
        before = self.sizes()
        for number in range(1000):
            channel = client.start()
            if number % 3 == 1:
                self.last().refuse(errno.ENOENT, "run it")
                continue
            if number % 3 == 2:
                client.say(Cancel(channel=channel))
            self.last().out(b"x")
            self.last().exit()
        self.settle()
        self.assertEqual(len(client.all(End)), 1000)
        self.assertEqual((self.sizes(), client.server._channels), (before, {}))
