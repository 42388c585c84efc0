"""
The client of native exec against a scripted server: what a caller gets of a command, at which pace,
and with which failure, whatever the server, the consumers and the connection do.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer
from twisted.internet.task import Clock
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.rexec.scripted import NAME, Script, ScriptedTestCase
from twisted_netsuite import errors
from twisted_netsuite.errors import (
    ConfigurationError,
    ConnectionFailed,
    LimitExceeded,
    NetsuiteError,
    NotFound,
    ProtocolError,
)
from twisted_netsuite.net.frames import STALL_TIMEOUT
from twisted_netsuite.rexec import client, outcome, questions
from twisted_netsuite.rexec.client import (
    MAX_CHANNELS,
    CommandDetached,
    Completed,
    ExecSession,
    RemoteCommand,
    connectExec,
    outcomeOf,
)
from twisted_netsuite.rexec.flow import NOTHING
from twisted_netsuite.rexec.messages import (
    DEFAULT_WINDOW,
    MAX_ARGUMENTS,
    MAX_WINDOW,
    Attach,
    Cancel,
    Credit,
    Detach,
    Detached,
    End,
    Kill,
    Killed,
    Listed,
    Listing,
    Resize,
    Signal,
    Start,
    Started,
    StdinEof,
    Stdout,
    Terminal,
)
from twisted_netsuite.rexec.outcome import Exited, Signalled
from twisted_netsuite.rexec.serverchannel import INPUT_WINDOW
from twisted_netsuite.rexec.streams import INPUT_BUFFER, InputStream, OutputStream
from twisted_netsuite.testing import MemoryEndpoint
from twisted_netsuite.wire.session import MAX_DATA
from twisted_netsuite.wire.text import cleanText

NO_REASON = "The server gives no reason."


@implementer(IConsumer)
class Sink:
    """
    A consumer that does what the test says.

    @ivar data: what it was given.
    @ivar producer: while it has one.
    @ivar failure: raised at a write, if it is set.
    @ivar pausesAt: pauses its producer at each write once it has so many bytes.
    """

    def __init__(self) -> None:
        self.data = b""
        self.producer: Any = None
        self.hadProducer = False
        self.failure: Exception | None = None
        self.pausesAt: int | None = None
        self.onWrite: Callable[[], object] = lambda: None

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        assert streaming
        self.producer, self.hadProducer = producer, True

    def unregisterProducer(self) -> None:
        assert self.producer is not None, "It is let go once."
        self.producer = None

    def write(self, data: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.data += data
        if self.pausesAt is not None and len(self.data) >= self.pausesAt:
            self.producer.pauseProducing()
        self.onWrite()


class Pusher:
    """A push producer that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class ClientTestCase(ScriptedTestCase):
    """One client, one server."""

    def begin(self, *argv: str, **options: Any) -> tuple[RemoteCommand, Script]:
        """Start a command that the server starts at once."""
        started = {each: options.pop(each) for each in ("pty", "known") if each in options}
        starting = self.session.start(argv or ["x"], **options)
        script = self.script().start(**started)
        self.flush()
        return self.successResultOf(starting), script

    def finish(self, script: Script, outcome: Any = None) -> None:
        """Let a command end."""
        script.end(outcome)
        self.flush()

    @property
    def reason(self) -> str:
        """Why the server thinks that the session has ended."""
        (reason,) = self.server.closedWith
        return "" if reason is None else reason.sentence


class RunTests(ClientTestCase):
    """L{ExecSession.run}: a command from its start to its end."""

    def test_completed(self) -> None:
        """A command that has ended is told of with its outcome and all that it wrote."""
        running = self.session.run(["/bin/x", b"\xff", "é"])
        script = self.script().start()
        self.assertEqual(script.asked, Start(channel=1, argv=(b"/bin/x", b"\xff", "é".encode())))
        script.out(b"out")
        script.err(b"err")
        script.out(b"put")
        self.flush()
        self.assertNoResult(running)
        self.finish(script, Exited(code=3))
        done = self.successResultOf(running)
        self.assertEqual(done, Completed(Exited(code=3), b"output", b"err"))
        self.assertEqual(done.status, 3)

    def test_signalled(self) -> None:
        """A command that a signal has ended has completed, too; the outcome tells."""
        running = self.session.run(["x"])
        self.finish(self.script().start(), Signalled(name="KILL", number=9))
        self.assertEqual(self.successResultOf(running).status, 137)

    def test_everyByteApart(self) -> None:
        """Records are put together from any pieces that the network makes of them."""
        self.size = 1
        running = self.session.run(["x"], input=b"in")
        script = self.script().start()
        script.out(b"out")
        self.flush()
        self.finish(script)
        self.assertEqual(self.successResultOf(running).stdout, b"out")
        self.assertEqual((bytes(script.got), script.inputEnded), (b"in", True))

    def test_options(self) -> None:
        """Every option arrives as it was given, texts as bytes of the file system."""
        self.session.run(
            ["x y"],
            input=b"",
            shell=True,
            env={"A": "b", "C": b"\xff"},
            cwd="/tmp",
            user="bob",
            terminal=Terminal(term="xterm", rows=3, cols=4),
            timeLimit=1.5,
            onDisconnect="detach",
            ttl=60,
            key="k",
            window=1000,
        ).addErrback(lambda _: None)
        self.assertEqual(
            self.script().asked,
            Start(
                channel=1,
                argv=(b"x y",),
                shell=True,
                env={"A": b"b", "C": b"\xff"},
                cwd=b"/tmp",
                user="bob",
                pty=Terminal(term="xterm", rows=3, cols=4),
                stdin=True,
                timeLimit=1.5,
                onDisconnect="detach",
                ttl=60,
                key="k",
                stdoutCredit=1000,
                stderrCredit=1000,
            ),
        )

    def test_input(self) -> None:
        """Input of any size goes at the pace of the command, and then ends."""
        data = bytes(range(256)) * 8000
        running = self.session.run(["cat"], input=data)
        script = self.script()
        script.takes = False
        script.start()
        self.flush()
        self.assertEqual(len(script.got), INPUT_WINDOW)
        script.takes = True
        script.take(INPUT_WINDOW)
        self.flush()
        self.assertTrue(script.inputEnded)
        self.assertEqual(script.got, data)
        self.finish(script)
        self.successResultOf(running)

    def test_noInput(self) -> None:
        """Empty input is an end of input; no input is none at all."""
        self.session.run(["x"], input=b"").addErrback(lambda _: None)
        script = self.script().start()
        self.flush()
        self.assertTrue(script.inputEnded)
        self.session.run(["x"]).addErrback(lambda _: None)
        self.assertFalse(cast(Start, self.script().asked).stdin)

    def test_inputNotRead(self) -> None:
        """A command that ends, or reads no more, before all was sent has completed as it says."""
        for lost in (False, True):
            running = self.session.run(["head"], input=b"x" * 1_000_000)
            script = self.script()
            script.takes = False
            script.start()
            self.flush()
            if lost:
                eof = script.channel.inputLost()
                assert eof is not None
                self.say(eof)
            script.out(b"done")
            self.finish(script)
            self.assertEqual(self.successResultOf(running).stdout, b"done")

    def test_bothWays(self) -> None:
        """Megabytes both ways at once, far beyond every window and buffer, do not stand still."""
        data = b"0123456789" * 500_000
        running = self.session.run(["cat"], input=data)
        script = self.script()
        script.start()
        script.out(data)
        script.err(data)
        self.flush()
        self.finish(script)
        done = self.successResultOf(running)
        self.assertEqual((done.stdout == data, done.stderr == data), (True, True))
        self.assertEqual(bytes(script.got) == data, True)

    def test_outputLimit(self) -> None:
        """More output than is allowed has the command cancelled, and then fails."""
        running = self.session.run(["yes"], outputLimit=10)
        script = self.script().start()
        script.out(b"12345")
        script.err(b"12345")
        self.flush()
        self.assertFalse(script.cancelled)
        script.err(b"6")
        self.flush()
        self.assertTrue(script.cancelled)
        self.assertNoResult(running)
        # What it writes until it has ended is taken, or its END would never come.
        script.out(b"x" * 3 * DEFAULT_WINDOW)
        self.flush()
        self.finish(script, Signalled(name="TERM", number=15))
        self.assertEqual(
            self.error(running, LimitExceeded).sentence,
            "The command wrote more than 10 bytes; allow more, or give consumers that take its "
            "output while it comes.",
        )

    def test_cancelRunning(self) -> None:
        """Cancelling ends the command, fails at once, and leaves the session as it was."""
        running = self.session.run(["x"])
        script = self.script().start()
        script.out(b"some")
        self.flush()
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.flush()
        self.assertTrue(script.cancelled)
        script.out(b"x" * 3 * DEFAULT_WINDOW)
        self.flush()
        self.finish(script, Signalled(name="TERM", number=15))
        self.assertEqual(self.session._channels, {})
        self.test_completedLater()

    def test_completedLater(self) -> None:
        """A session runs one command after the other."""
        running = self.session.run(["y"])
        self.finish(self.script().start())
        self.assertEqual(self.successResultOf(running).status, 0)

    def test_cancelStarting(self) -> None:
        """Cancelling before the command has started ends it all the same, started or not."""
        for started in (True, False):
            running = self.session.run(["x"], input=b"x")
            script = self.script()
            running.cancel()
            self.failureResultOf(running, CancelledError)
            self.flush()
            self.assertTrue(script.cancelled)
            if started:
                script.start()
                script.out(b"some")
                self.flush()
            self.finish(script, Signalled(name="TERM", number=15))
            self.assertEqual(bytes(script.got), b"")
            self.assertEqual(self.session._channels, {})
        self.test_completedLater()

    def test_beginningGone(self) -> None:
        """A known command whose first bytes are not kept is not passed off as a whole one."""
        running = self.session.run(["x"], key="k", onDisconnect="detach")
        script = self.script().start(known=True, stdout=5)
        self.flush()
        self.assertTrue(script.detached)
        self.assertFalse(script.cancelled)
        self.assertEqual(
            self.error(running, LimitExceeded).sentence,
            "The first 5 bytes of stdout of the command abc were taken before, and are not kept "
            "any more; attach to it for the rest.",
        )

    def test_wrongInput(self) -> None:
        """Input that is no bytes is refused before anything is started."""
        for wrong in ("text", 5, ["a"]):
            with self.assertRaises(TypeError):
                self.session.run(["cat"], input=cast(Any, wrong))
        self.flush()
        self.assertEqual(self.server.commands, [])
        for right in (bytearray(b"ab"), memoryview(b"ab")):
            self.session.run(["cat"], input=cast(Any, right))
            script = self.script().start()
            self.flush()
            self.assertEqual((bytes(script.got), script.inputEnded), (b"ab", True))

    def test_wrongEnd(self) -> None:
        """A command is never said to have ended well when an END does not fit what has come."""
        for tally in (
            {"stdout": NOTHING},
            {"stderr": Script.tallyOf(b"x")},
            {"stdout": Script.tallyOf(b"abd")},
        ):
            self.open()
            running, other = self.session.run(["x"]), self.session.run(["y"])
            script = self.script(0).start()
            script.out(b"abc")
            self.flush()
            right = {"stdout": Script.tallyOf(b"abc"), "stderr": NOTHING}
            self.say(End(channel=1, outcome=Exited(code=0), **(right | tally)))
            error = self.error(running, ProtocolError)
            self.assertIn(f"{NAME} does not keep to the session protocol: ", error.sentence)
            self.error(other, ProtocolError)

    def test_connectionLost(self) -> None:
        """Without END nothing has succeeded, however much has come."""
        running = self.session.run(["x"])
        script = self.script().start()
        script.out(b"all there is")
        self.flush()
        self.endpoint.pairs[0].client.reset()
        self.assertIn("broke", self.error(running, ConnectionFailed).sentence)


class NotStartedTests(ClientTestCase):
    """Commands that a server does not start."""

    def test_outcomes(self) -> None:
        """Why a command was not started is an error of that class, which has the outcome."""
        for ending, kind in (
            (outcome.Denied(rule="r", reason="Not you."), errors.Denied),
            (outcome.Limit(which="processes", reason="Not you."), LimitExceeded),
            (outcome.NotStarted(code="not-found", reason="Not you."), NotFound),
            (outcome.NotStarted(code="denied", reason="Not you."), errors.Denied),
            (outcome.NotStarted(code="what-is-that", reason="Not you."), NetsuiteError),
            (outcome.Lost(reason="Not you."), NetsuiteError),
        ):
            running, starting = self.session.run(["x"]), self.session.start(["x"])
            self.finish(self.script(-2), ending)
            self.finish(self.script(-1), ending)
            for failed in (running, starting):
                error = self.error(failed, kind)
                self.assertEqual(error.sentence, "Not you.")
                self.assertEqual(outcomeOf(error), ending)

    def test_timedOut(self) -> None:
        """A start that took too long is that."""
        running = self.session.run(["x"])
        self.finish(self.script(), outcome.TimedOut(seconds=5))
        error = self.error(running, errors.TimedOut)
        self.assertEqual(error.sentence, "The command was not started within 5 s.")

    def test_cleaned(self) -> None:
        """What the server says is cleaned before anybody sees it; if it says nothing, that too."""
        for said, seen in (("a\x1b[2J\nb", cleanText("a\x1b[2J\nb")), ("", NO_REASON)):
            running = self.session.run(["x"])
            self.finish(self.script(), outcome.Denied(reason=said))
            shown = self.error(running, errors.Denied).sentence
            self.assertEqual(shown, seen)
            self.assertNotIn("\x1b", shown)

    def test_exitedWithoutStart(self) -> None:
        """A command that was never started cannot have exited."""
        running = self.session.run(["x"])
        script = self.script()
        self.say(script.channel.end(Exited(code=0), NOTHING, NOTHING))
        error = self.error(running, ProtocolError)
        self.assertIn("it was never started", error.sentence)

    def test_error(self) -> None:
        """An ERROR about a command that has not begun is its end, and of nothing else."""
        starting, other = self.session.start(["x"]), self.session.start(["y"])
        self.flush()
        self.server.fail(NotFound("No such thing."), 1)
        self.flush()
        error = self.error(starting, NotFound)
        self.assertEqual(error.sentence, f"{NAME} says: No such thing.")
        self.assertIsNone(outcomeOf(error))
        self.assertNoResult(other)
        self.assertEqual(list(self.session._channels), [2])

    def test_errorWhileRunning(self) -> None:
        """An ERROR about a command that runs, or about nothing known, ends nothing."""
        command, script = self.begin()
        for about in (1, 99, "x", None):
            self.server.fail(NotFound("No such signal."), about)
        self.flush()
        self.finish(script)
        self.assertEqual(self.successResultOf(command.whenEnded()).status, 0)

    def test_outcomeOfOthers(self) -> None:
        """Other failures have no outcome."""
        self.assertIsNone(outcomeOf(ConnectionFailed("x")))


class RefusalTests(ClientTestCase):
    """What is not even sent."""

    def refuse(self, kind: type[NetsuiteError], argv: Any, **options: Any) -> str:
        """Take the sentence with which a command is refused here, both ways to start it."""
        error = self.error(self.session.start(argv, **options), kind)
        self.error(self.session.run(argv, **options), kind)
        self.flush()
        self.assertEqual(self.server.commands, [])
        self.assertEqual(self.session._channels, {})
        sentence: str = error.sentence
        return sentence

    def test_oneText(self) -> None:
        """One text is no list of words, and is not taken apart."""
        for text in ("ls -l", b"ls -l"):
            self.assertRaises(TypeError, self.session.start, text)
            self.assertRaises(TypeError, self.session.run, text)
        for wrong in ([1], [None], None):
            self.assertRaises(TypeError, self.session.start, wrong)

    def test_unknownOption(self) -> None:
        """An option that is misspelt is not left out silently."""
        wrong: Any = {"timelimit": 5}
        for act in (self.session.start, self.session.run):
            with self.assertRaises(TypeError) as caught:
                act(["x"], **wrong)
            self.assertEqual(str(caught.exception), "timelimit is no option of a command")

    def test_nothing(self) -> None:
        """There has to be a program."""
        self.assertEqual(
            self.refuse(ConfigurationError, []),
            "There is no command; give a program, and its arguments.",
        )

    def test_shell(self) -> None:
        """A shell reads one line."""
        self.assertEqual(
            self.refuse(ConfigurationError, ["a", "b"], shell=True),
            "A shell reads one line, and 2 words are given; join them.",
        )

    def test_tooLarge(self) -> None:
        """What fits in no frame is refused with both sizes, and a bit less is sent."""
        self.assertEqual(
            self.refuse(LimitExceeded, ["x", "y" * 65_000, "z" * 2000]),
            "The command takes 67036 bytes, and exec.example:7512 takes at most 66560 at once; "
            "give fewer or shorter words and variables, or send them as input.",
        )
        self.session.start(["x", "y" * 65_000, "z" * 1000])
        self.assertEqual(len(self.script().asked.argv), 3)  # type: ignore[union-attr]

    def test_tooMany(self) -> None:
        """There may be so many words and variables, of no size at all, and no more."""
        said = self.refuse(LimitExceeded, [""] * (MAX_ARGUMENTS + 1))
        self.assertEqual(said, "The command has 16385 arguments, and at most 16384 can be sent.")
        said = self.refuse(LimitExceeded, ["x"], env={str(n): "" for n in range(1025)})
        self.assertEqual(said, "The command has 1025 variables, and at most 1024 can be sent.")
        self.session.start([""] * MAX_ARGUMENTS)
        self.script()

    def test_impossible(self) -> None:
        """What no system takes is refused: NUL anywhere, and variables without a proper name."""
        for options in (
            {"argv": ["a\0b"]},
            {"argv": ["x"], "env": {"A": b"\0"}},
            {"argv": ["x"], "env": {"A\0": b""}},
            {"argv": ["x"], "cwd": "/\0"},
            {"argv": ["x"], "env": {"": "x"}},
            {"argv": ["x"], "env": {"A=B": "x"}},
        ):
            self.refuse(ConfigurationError, **options)

    def test_unsendable(self) -> None:
        """What the records do not hold is refused here, as the server would end the session."""
        for options in (
            {"timeLimit": 0},
            {"timeLimit": -1},
            {"timeLimit": float("nan")},
            {"timeLimit": float("inf")},
            {"ttl": 0},
            {"ttl": 2**70},
            {"key": ""},
            {"key": "x" * 129},
            {"key": "\udcff"},
            {"user": ""},
            {"onDisconnect": "linger"},
            {"terminal": Terminal(term="a b")},
            {"terminal": Terminal(rows=70_000)},
            {"window": 0},
            {"window": MAX_WINDOW + 1},
            {"cwd": "x" * 5000},
            {"env": {"x" * 300: ""}},
            {"env": {"\udcff": ""}},
        ):
            self.refuse(ConfigurationError, ["x"], **options)

    def test_most(self) -> None:
        """So many commands may be open at once; when one has ended another may begin."""
        started = [self.session.start(["x"]) for _ in range(MAX_CHANNELS)]
        scripts = list(self.script().server.commands)
        self.assertEqual(
            self.error(self.session.start(["x"]), LimitExceeded).sentence,
            "1000 commands are open on this session, and at most 1000 can be; wait for one to end, "
            "or open another session.",
        )
        self.error(self.session.commands(), LimitExceeded)
        self.error(self.session.attach("abc"), LimitExceeded)
        self.error(self.session.kill("abc"), LimitExceeded)
        self.finish(scripts[500].start())
        self.successResultOf(started[500])
        more = self.session.run(["x"])
        self.finish(self.script().start())
        self.successResultOf(more)

    def test_lastChannel(self) -> None:
        """The numbers of channels end."""
        self.patch(client, "LAST_CHANNEL", 1)
        self.session.start(["x"])
        self.error(self.session.start(["x"]), LimitExceeded)

    def test_notConnected(self) -> None:
        """A session that is over begins nothing."""
        closing = self.session.close()
        for failed in (
            self.session.start(["x"]),
            self.session.run(["x"]),
            self.session.attach("abc"),
            self.session.commands(),
            self.session.kill("abc"),
        ):
            self.error(failed, ConnectionFailed)
        self.flush()
        self.successResultOf(closing)


class OutputTests(ClientTestCase):
    """Output, at the pace of consumers."""

    def test_interfaces(self) -> None:
        """Streams are what Twisted calls them."""
        command, _ = self.begin()
        verifyObject(IConsumer, command.stdin)
        verifyObject(IPushProducer, command.stdout)
        self.assertIsInstance(command.stdin, InputStream)
        self.assertIsInstance(command.stdout, OutputStream)

    def test_consumers(self) -> None:
        """Each stream goes to its consumer as it comes, which is let go at the end."""
        out, err = Sink(), Sink()
        command, script = self.begin(stdout=out, stderr=err)
        script.out(b"a")
        script.err(b"b")
        self.flush()
        self.assertEqual((out.data, err.data), (b"a", b"b"))
        script.out(b"c")
        self.finish(script)
        ended = self.successResultOf(command.whenEnded())
        self.assertEqual((out.data, err.data), (b"ac", b"b"))
        self.assertEqual((out.producer, err.producer), (None, None))
        self.assertEqual((ended.stdout.count, ended.stderr.count, ended.status), (2, 1, 0))
        self.assertEqual((command.status, command.outcome), (0, Exited(code=0)))

    def test_kept(self) -> None:
        """Without a consumer output is kept, and each who waits for the end is told."""
        command, script = self.begin()
        first, second = command.whenEnded(), command.whenEnded()
        self.assertEqual((command.id, command.known, command.pty), ("abc", False, False))
        script.out(b"o")
        script.err(b"e")
        self.flush()
        self.assertEqual((command.status, command.outcome), (None, None))
        self.finish(script)
        self.assertEqual((command.stdout.collected, command.stderr.collected), (b"o", b"e"))
        self.assertIs(self.successResultOf(first), self.successResultOf(second))
        self.successResultOf(command.whenEnded())

    def test_cancelledWait(self) -> None:
        """Who waits no more changes nothing for others."""
        command, script = self.begin()
        first, second = command.whenEnded(), command.whenEnded()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.finish(script)
        self.successResultOf(second)

    def test_stalled(self) -> None:
        """What a paused consumer does not take is kept up to the window, and no more is sent."""
        out, err = Sink(), Sink()
        command, script = self.begin(stdout=out, stderr=err, window=1000)
        out.producer.pauseProducing()
        script.out(b"x" * 5000)
        script.err(b"y" * 5000)
        self.flush()
        self.assertEqual((out.data, script.channel.stdout.left), (b"", 0))
        self.assertEqual(len(script.waiting["stdout"]), 4000)
        # The other stream does not suffer.
        self.assertEqual(len(err.data), 5000)
        self.assertEqual(command.stdout.at, 0)
        out.producer.resumeProducing()
        self.flush()
        self.assertEqual(out.data, b"x" * 5000)
        self.finish(script)
        self.successResultOf(command.whenEnded())

    def test_pausesInWrite(self) -> None:
        """A consumer that pauses in a write is given no more before it resumes."""
        out = Sink()
        out.pausesAt = 1
        command, script = self.begin(stdout=out, window=1000)
        for _ in range(5):
            script.out(b"x")
        self.finish(script)
        self.assertEqual(out.data, b"x")
        self.assertNoResult(command.whenEnded())
        # What was kept comes at once, and the end behind it.
        out.producer.resumeProducing()
        self.assertEqual(out.data, b"xxxxx")

    def test_endWaits(self) -> None:
        """The end is told when the consumer has everything, also when the session has gone."""
        out = Sink()
        command, script = self.begin(stdout=out)
        out.producer.pauseProducing()
        script.out(b"x" * 100_000)
        self.finish(script)
        ended = command.whenEnded()
        self.assertNoResult(ended)
        self.assertIsNone(command.status)
        self.session.close()
        self.flush()
        out.producer.resumeProducing()
        self.assertEqual(len(out.data), 100_000)
        self.assertEqual(self.successResultOf(ended).status, 0)
        self.assertIsNone(out.producer)

    def test_batches(self) -> None:
        """Credit is given four times a window; where another may go on, for each delivery."""
        for options, credits in (
            ({}, 0),
            ({"onDisconnect": "detach"}, 3),
            ({"key": "k"}, 3),
        ):
            command, script = self.begin(window=1000, **options)
            for _ in range(3):
                script.out(b"x" * 80)
                self.flush()
            self.assertEqual(script.saw(Credit), credits)
            script.out(b"x" * 10)
            self.flush()
            self.assertEqual(script.saw(Credit), credits + 1)
            self.assertEqual(script.channel.stdout.left, 1000)
            self.finish(script)
            self.successResultOf(command.whenEnded())

    def test_raises(self) -> None:
        """A consumer that raises has the command cancelled; its failure is told at the end."""
        out, err = Sink(), Sink()
        command, script = self.begin(stdout=out, stderr=err)
        out.failure = OSError("disk full")
        script.out(b"x" * 100)
        self.flush()
        self.assertTrue(script.cancelled)
        ended = command.whenEnded()
        self.assertNoResult(ended)
        script.out(b"x" * 2 * DEFAULT_WINDOW)
        self.flush()
        self.finish(script, Signalled(name="TERM", number=15))
        self.assertEqual(str(self.error(ended, OSError)), "disk full")
        self.assertEqual((out.producer, err.producer, command.status), (None, None, None))
        self.assertEqual(script.saw(Cancel), 1)

    def test_raisesBesideStalled(self) -> None:
        """What a stalled stream keeps is let go with the other one, so that the end can come."""
        out, err = Sink(), Sink()
        command, script = self.begin(stdout=out, stderr=err, window=1000)
        out.producer.pauseProducing()
        script.out(b"x" * 5000)
        self.flush()
        err.failure = OSError("disk full")
        script.err(b"!")
        self.flush()
        self.assertEqual(script.waiting["stdout"], b"")
        self.finish(script, Signalled(name="TERM", number=15))
        self.error(command.whenEnded(), OSError)
        self.assertEqual(out.data, b"")

    def test_raisesLate(self) -> None:
        """A consumer that raises after the END has not had everything, which is a failure too."""
        for stays in ("kill", "detach"):
            out = Sink()
            command, script = self.begin(stdout=out, onDisconnect=stays)
            out.producer.pauseProducing()
            script.out(b"x")
            self.finish(script)
            out.failure = OSError("disk full")
            out.producer.resumeProducing()
            self.error(command.whenEnded(), OSError)
            self.assertIsNone(out.producer)

    def test_raisesWhileDetachable(self) -> None:
        """A command that is to outlive this end is left alone when its output cannot be taken."""
        out = Sink()
        command, script = self.begin(stdout=out, onDisconnect="detach")
        script.out(b"abc")
        self.flush()
        out.failure = OSError("disk full")
        script.out(b"def")
        self.flush()
        self.assertEqual((script.cancelled, script.detached), (False, True))
        # What it could not take does not count.
        self.assertEqual(command.stdout.at, 3)
        self.assertEqual(script.channel.stdout.left, DEFAULT_WINDOW - 3)
        self.say(script.channel.detach(""))
        self.error(command.whenEnded(), OSError)

    def test_stops(self) -> None:
        """A consumer that stops its producer, as a lost connection does, ends the command."""
        out = Sink()
        command, script = self.begin(stdout=out)
        out.producer.stopProducing()
        self.flush()
        self.assertTrue(script.cancelled)
        self.finish(script, Signalled(name="TERM", number=15))
        error = self.error(command.whenEnded(), ConnectionFailed)
        self.assertEqual(error.sentence, "Nobody takes stdout of the command any more.")

    def test_stopsEarly(self) -> None:
        """A consumer may stop before the command has started."""
        out = Sink()
        starting = self.session.start(["x"], stdout=out)
        out.producer.stopProducing()
        script = self.script()
        self.assertTrue(script.cancelled)
        script.start()
        self.flush()
        command = self.successResultOf(starting)
        self.finish(script, Signalled(name="TERM", number=15))
        self.error(command.whenEnded(), ConnectionFailed)

    def test_taken(self) -> None:
        """A consumer that has a producer already takes no command, and nothing is sent."""

        class Taken(Sink):
            def registerProducer(self, producer: IProducer, streaming: bool) -> None:
                raise RuntimeError("taken")

        out, taken = Sink(), Taken()
        for stdout, stderr in ((out, taken), (taken, out), (taken, taken)):
            self.error(self.session.start(["x"], stdout=stdout, stderr=stderr), RuntimeError)
            self.error(self.session.attach("abc", stdout=stdout, stderr=stderr), RuntimeError)
            self.assertIsNone(out.producer)
        self.flush()
        self.assertEqual((self.server.commands, self.session._channels), ([], {}))
        self.assertEqual(self.begin()[1].asked.channel, 1)

    def test_goneBefore(self) -> None:
        """A consumer that has lost its connection before takes no command, and nothing is sent."""

        class Gone(Sink):
            def registerProducer(self, producer: IProducer, streaming: bool) -> None:
                super().registerProducer(producer, streaming)
                self.producer.stopProducing()

        out, gone = Sink(), Gone()
        for stdout, stderr, name in (
            (out, gone, "stderr"),
            (gone, out, "stdout"),
            (gone, gone, "stdout"),
        ):
            starting = self.session.start(["x"], stdout=stdout, stderr=stderr)
            error = self.error(starting, ConnectionFailed)
            self.assertEqual(error.sentence, f"Nobody takes {name} of the command any more.")
            self.assertEqual((out.producer, gone.producer), (None, None))
        self.flush()
        self.assertEqual((self.server.commands, self.server.closedWith), ([], []))

    def test_emptyConsumer(self) -> None:
        """A consumer that is false, as a container of nothing is, gets the output all the same."""

        class Container(Sink):
            def __len__(self) -> int:
                return len(self.data)

        out, err = Container(), Container()
        command, script = self.begin(stdout=out, stderr=err)
        script.out(b"abc")
        script.err(b"!")
        self.finish(script)
        self.successResultOf(command.whenEnded())
        self.assertEqual((out.data, err.data), (b"abc", b"!"))

    def test_surface(self) -> None:
        """What a caller holds has what is for callers, and nothing that is for the session."""
        command, _ = self.begin()
        self.assertEqual(
            {each for each in dir(command) if not each.startswith("_")},
            {"id", "known", "pty", "stdin", "stdout", "stderr", "outcome", "status"}
            | {"whenEnded", "signal", "resize", "cancel", "detach"},
        )

    def test_notStarted(self) -> None:
        """The consumers of a command that is not started are let go."""
        out = Sink()
        starting = self.session.start(["x"], stdout=out)
        self.finish(self.script(), outcome.Denied(reason="No."))
        self.error(starting, errors.Denied)
        self.assertEqual((out.producer, out.hadProducer), (None, True))

    def test_lostWhileStalled(self) -> None:
        """When the session is lost what was not taken does not count, and nothing is delivered."""
        out = Sink()
        command, script = self.begin(stdout=out)
        script.out(b"abc")
        self.flush()
        producer = out.producer
        producer.pauseProducing()
        script.out(b"def")
        self.flush()
        self.endpoint.pairs[0].client.reset()
        self.error(command.whenEnded(), ConnectionFailed)
        producer.resumeProducing()
        self.assertEqual((out.data, command.stdout.at, out.producer), (b"abc", 3, None))
        # What a caller does to it now is in vain, and no fault.
        command.cancel()
        command.signal("TERM")
        self.error(command.detach(), ConnectionFailed)

    @settings(deadline=None, max_examples=25)
    @given(st.data())
    def test_anyPace(self, data: st.DataObject) -> None:
        """Consumers that pause and resume as they like get every byte once, in order."""
        self.setUp()
        out, err = Sink(), Sink()
        window = data.draw(st.integers(1, 100))
        policy = data.draw(st.sampled_from(["kill", "detach"]))
        command, script = self.begin(stdout=out, stderr=err, window=window, onDisconnect=policy)
        wanted = {"stdout": b"", "stderr": b""}
        for number in range(data.draw(st.integers(0, 20))):
            stream, sink = data.draw(st.sampled_from([("stdout", out), ("stderr", err)]))
            match data.draw(st.sampled_from(["write", "pause", "resume", "flush"])):
                case "write":
                    piece = bytes([number]) * data.draw(st.integers(1, 150))
                    wanted[stream] += piece
                    script.out(piece, stream)
                case "pause":
                    sink.producer.pauseProducing()
                case "resume":
                    sink.producer.resumeProducing()
                case _:
                    self.flush()
        out.producer.resumeProducing()
        err.producer.resumeProducing()
        self.flush()
        self.finish(script)
        self.successResultOf(command.whenEnded())
        self.assertEqual({"stdout": out.data, "stderr": err.data}, wanted)


class JoinedTests(ClientTestCase):
    """One consumer for both streams."""

    def setUp(self) -> None:
        super().setUp()
        self.both = Sink()
        self.command, self.remote = self.begin(stdout=self.both, stderr=self.both)

    def write(self, *pieces: bytes) -> None:
        """Let the command write, to its two streams in turn."""
        for number, piece in enumerate(pieces):
            (self.remote.err if number % 2 else self.remote.out)(piece)
        self.flush()

    def test_order(self) -> None:
        """It gets both in the order in which they come; each is counted, and checked, by itself."""
        self.write(b"a", b"BB", b"c", b"DD")
        self.assertEqual(self.both.data, b"aBBcDD")
        self.finish(self.remote)
        ended = self.successResultOf(self.command.whenEnded())
        self.assertEqual((ended.stdout.count, ended.stderr.count), (2, 4))
        self.assertIsNone(self.both.producer)

    def test_stalled(self) -> None:
        """While it is paused neither stream goes on, and the end waits for both."""
        self.both.pausesAt = 1
        producer = self.both.producer
        self.write(b"a", b"b", b"c", b"d")
        self.assertEqual(self.both.data, b"a")
        self.finish(self.remote)
        ending = self.command.whenEnded()
        # What a stream has kept comes at once, and the two take turns.
        for seen in (b"abd", b"abdc"):
            self.assertNoResult(ending)
            producer.resumeProducing()
            self.assertEqual(self.both.data, seen)
        self.successResultOf(ending)

    def test_pausedBefore(self) -> None:
        """A consumer that is paused as it takes the first gets nothing of the second either."""

        class Paused(Sink):
            def registerProducer(self, producer: IProducer, streaming: bool) -> None:
                super().registerProducer(producer, streaming)
                self.producer.pauseProducing()

        self.both = Paused()
        self.command, self.remote = self.begin(stdout=self.both, stderr=self.both)
        self.write(b"a", b"b")
        self.assertEqual(self.both.data, b"")
        self.both.producer.resumeProducing()
        self.assertEqual(sorted(self.both.data), sorted(b"ab"))

    def test_turns(self) -> None:
        """Of two streams without end neither waits for ever for the other."""
        self.both.pausesAt = 0
        for _ in range(20):
            self.write(b"o" * MAX_DATA, b"e" * MAX_DATA)
            self.both.producer.resumeProducing()
        out, err = self.command.stdout.at, self.command.stderr.at
        self.assertLessEqual(abs(out - err), 2 * MAX_DATA)

    def test_stops(self) -> None:
        """One that takes no more ends the command, and is let go once."""
        self.both.producer.stopProducing()
        self.flush()
        self.assertTrue(self.remote.cancelled)
        self.assertIsNone(self.both.producer)
        self.finish(self.remote, Signalled(name="TERM", number=15))
        self.error(self.command.whenEnded(), ConnectionFailed)

    def test_raises(self) -> None:
        """One that raises ends the command, and gets nothing more of either stream."""
        self.both.failure = OSError("full")
        self.write(b"a", b"b")
        self.both.failure = None
        self.write(b"c", b"d")
        self.assertEqual((self.both.data, self.both.producer), (b"", None))
        self.finish(self.remote, Signalled(name="TERM", number=15))
        self.error(self.command.whenEnded(), OSError)


class InputTests(ClientTestCase):
    """Input, at the pace of the command."""

    def test_write(self) -> None:
        """What is written is read, and then its end."""
        command, script = self.begin(stdin=True)
        self.assertTrue(command.stdin.open)
        command.stdin.write(b"ab")
        command.stdin.write(b"c")
        self.flush()
        self.assertEqual((bytes(script.got), script.inputEnded), (b"abc", False))
        command.stdin.finish()
        command.stdin.finish()
        self.flush()
        self.assertEqual(
            (script.inputEnded, command.stdin.open, command.stdin.at), (True, False, 3)
        )
        command.stdin.write(b"late")
        self.flush()
        self.assertEqual(bytes(script.got), b"abc")

    def stall(self, **options: Any) -> tuple[RemoteCommand, Script]:
        """Start a command that reads nothing, with a full window."""
        command, script = self.begin(stdin=True, **options)
        script.takes = False
        command.stdin.write(b"w" * INPUT_WINDOW)
        self.flush()
        self.assertEqual(len(script.got), INPUT_WINDOW)
        return command, script

    def test_writeLimit(self) -> None:
        """Without a producer that can be paused, only so much waits."""
        command, script = self.stall()
        command.stdin.write(b"x" * INPUT_BUFFER)
        with self.assertRaises(LimitExceeded) as caught:
            command.stdin.write(b"y")
        self.assertEqual(
            caught.exception.sentence,
            f"{INPUT_BUFFER} bytes of input wait for the command, and at most {INPUT_BUFFER} may; "
            "wait for what send() returns, or register a producer.",
        )
        script.takes = True
        script.take(INPUT_WINDOW)
        self.flush()
        command.stdin.write(b"y")
        command.stdin.finish()
        self.flush()
        self.assertEqual(script.got[INPUT_WINDOW:], b"x" * INPUT_BUFFER + b"y")

    def test_send(self) -> None:
        """Who sends is told when all has gone, in order."""
        command, script = self.stall()
        first = command.stdin.send(b"x" * 500_000)
        second = command.stdin.send(b"y")
        given = command.stdin.send(b"z")
        given.cancel()
        self.failureResultOf(given, CancelledError)
        command.stdin.finish()
        self.flush()
        self.assertNoResult(first)
        script.takes = True
        script.take(INPUT_WINDOW)
        self.flush()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(script.got[INPUT_WINDOW:], b"x" * 500_000 + b"yz")
        self.assertTrue(script.inputEnded)

    def test_sendAtOnce(self) -> None:
        """Who sends what there is room for need not wait."""
        command, _ = self.begin(stdin=True)
        self.successResultOf(command.stdin.send(b"x"))
        self.successResultOf(command.stdin.send(b""))

    def test_sendInVain(self) -> None:
        """Who sends to a command that reads no more is told."""
        command, script = self.stall()
        waiting = command.stdin.send(b"x")
        eof = script.channel.inputLost()
        assert eof is not None
        self.say(eof)
        self.assertEqual(
            self.error(waiting, ConnectionFailed).sentence, "The command reads no more input."
        )
        self.error(command.stdin.send(b"y"), ConnectionFailed)
        self.assertFalse(command.stdin.open)
        self.finish(script)

    def test_noInput(self) -> None:
        """A command without input takes none, and stops whoever would produce it."""
        command, script = self.begin()
        producer: Any = Pusher()
        command.stdin.registerProducer(producer, True)
        command.stdin.unregisterProducer()
        self.assertEqual(producer.told, ["stop"])
        command.stdin.write(b"x")
        command.stdin.finish()
        self.error(command.stdin.send(b"x"), ConnectionFailed)
        self.flush()
        self.assertEqual((bytes(script.got), script.inputEnded), (b"", False))

    def test_pull(self) -> None:
        """A pull producer is asked as the command takes, and its end is the end of the input."""
        data = bytes(range(256)) * 4000
        command, script = self.stall()
        sending = FileSender().beginFileTransfer(io.BytesIO(data), command.stdin)
        self.flush()
        self.assertNoResult(sending)
        script.takes = True
        script.take(INPUT_WINDOW)
        self.flush()
        self.successResultOf(sending)
        self.assertEqual(script.got[INPUT_WINDOW:], data)
        self.assertTrue(script.inputEnded)

    def test_latePull(self) -> None:
        """A pull producer that gives later is asked once for each time that it gives."""

        class Later:
            asked = 0

            def resumeProducing(self) -> None:
                self.asked += 1

            def stopProducing(self) -> None:
                raise AssertionError

        command, script = self.begin(stdin=True)
        producer: Any = Later()
        command.stdin.registerProducer(producer, False)
        self.flush()
        self.assertEqual(producer.asked, 1)
        command.stdin.write(b"x")
        self.flush()
        self.assertEqual((producer.asked, bytes(script.got)), (2, b"x"))
        command.stdin.unregisterProducer()
        self.flush()
        self.assertTrue(script.inputEnded)

    def test_push(self) -> None:
        """A push producer is paused when enough waits, and goes on when that has gone."""
        command, script = self.stall()
        producer: Any = Pusher()
        command.stdin.registerProducer(producer, True)
        command.stdin.write(b"x" * (INPUT_BUFFER - 1))
        self.assertEqual(producer.told, [])
        command.stdin.write(b"y")
        self.assertEqual(producer.told, ["pause"])
        # What it had on its way is taken all the same.
        command.stdin.write(b"z" * 1000)
        self.assertEqual(producer.told, ["pause"])
        script.takes = True
        script.take(INPUT_WINDOW)
        self.flush()
        self.assertEqual(producer.told, ["pause", "resume"])
        command.stdin.unregisterProducer()
        self.flush()
        self.assertEqual(len(script.got), INPUT_WINDOW + INPUT_BUFFER + 1000)
        self.assertTrue(script.inputEnded)

    def test_twoProducers(self) -> None:
        """There is one producer at a time."""
        command, _ = self.begin(stdin=True)
        producer: Any = Pusher()
        command.stdin.registerProducer(producer, True)
        self.assertRaises(RuntimeError, command.stdin.registerProducer, producer, True)

    def test_stopped(self) -> None:
        """A producer is stopped when the command reads no more, ends, is left, or is lost."""
        for how in ("deaf", "end", "detach", "lost"):
            self.open()
            command, script = self.begin(stdin=True)
            producer: Any = Pusher()
            command.stdin.registerProducer(producer, True)
            if how == "deaf":
                eof = script.channel.inputLost()
                assert eof is not None
                self.say(eof)
            elif how == "end":
                self.finish(script)
            elif how == "detach":
                command.detach()
            else:
                self.endpoint.pairs[0].client.reset()
            self.assertEqual(producer.told, ["stop"], how)
            # As producers do that are stopped.
            command.stdin.unregisterProducer()
            command.stdin.write(b"x")

    def test_producerFails(self) -> None:
        """A producer that fails has the command cancelled: its input ends nowhere else."""

        class Broken:
            def resumeProducing(self) -> None:
                raise OSError("read error")

            def stopProducing(self) -> None:
                pass

        command, script = self.begin(stdin=True)
        producer: Any = Broken()
        command.stdin.registerProducer(producer, False)
        self.flush()
        self.assertEqual((script.cancelled, script.inputEnded), (True, False))
        self.finish(script, Exited(code=0))
        self.assertEqual(str(self.error(command.whenEnded(), OSError)), "read error")


class WishTests(ClientTestCase):
    """Signals, sizes, cancelling and leaving."""

    def test_signal(self) -> None:
        """A signal is sent by its name, with SIG or without, as long as the command runs."""
        command, script = self.begin()
        command.signal("HUP")
        command.signal("SIGRTMIN+3")
        self.flush()
        self.assertEqual(
            script.others, [Signal(channel=1, name="HUP"), Signal(channel=1, name="RTMIN+3")]
        )
        for wrong in ("", "term", "9", "A B", "A" * 17, "\x1b"):
            self.assertRaises(ConfigurationError, command.signal, wrong)
        self.finish(script)
        command.signal("HUP")

    def test_resize(self) -> None:
        """A terminal is resized; what is none is not."""
        command, script = self.begin(terminal=Terminal(), pty=True)
        self.assertTrue(command.pty)
        command.resize(3, 4)
        self.flush()
        self.assertEqual(script.others, [Resize(channel=1, rows=3, cols=4)])
        for wrong in ((-1, 1), (1, 65536)):
            self.assertRaises(ConfigurationError, command.resize, *wrong)
        command, script = self.begin()
        command.resize(3, 4)
        self.flush()
        self.assertEqual(script.others, [])

    def test_cancel(self) -> None:
        """Cancelling asks for the end; the rest of the output, and the end, still come."""
        command, script = self.begin()
        command.cancel()
        self.flush()
        self.assertTrue(script.cancelled)
        script.out(b"bye")
        self.finish(script, Signalled(name="TERM", number=15))
        self.assertEqual(self.successResultOf(command.whenEnded()).status, 143)
        self.assertEqual(command.stdout.collected, b"bye")
        command.cancel()

    def test_detach(self) -> None:
        """A command that is left runs on; the server knows to the byte what was taken here."""
        out = Sink()
        command, script = self.begin(stdout=out, onDisconnect="detach")
        script.out(b"abc")
        self.flush()
        ended, left = command.whenEnded(), command.detach()
        # What comes after that is not delivered.
        script.out(b"def")
        self.flush()
        self.assertEqual((out.data, command.stdout.at, script.detached), (b"abc", 3, True))
        self.assertNoResult(left)
        self.say(script.channel.detach("As asked."))
        self.successResultOf(left)
        self.successResultOf(command.detach())
        self.assertEqual(
            self.error(ended, CommandDetached).sentence,
            "The command abc is followed here no more: As asked.",
        )
        self.assertEqual((script.channel.stdout.left, out.producer), (DEFAULT_WINDOW - 3, None))
        self.assertEqual(self.session._channels, {})

    def test_detachTellsAll(self) -> None:
        """What was taken and not yet credited is, before a command is left."""
        command, script = self.begin()
        script.out(b"abc")
        self.flush()
        self.assertEqual(script.others, [])
        command.detach()
        self.flush()
        self.assertEqual(
            script.others,
            [Credit(channel=1, stream="stdout", count=3), Detach(channel=1)],
        )

    def test_detachInWrite(self) -> None:
        """A command that is left from within a write is left behind what was written."""
        out = Sink()
        command, script = self.begin(stdout=out, onDisconnect="detach")
        out.onWrite = command.detach
        script.out(b"abc")
        script.out(b"def")
        self.flush()
        self.assertEqual((out.data, command.stdout.at), (b"abc", 3))
        self.assertEqual(
            script.others,
            [Credit(channel=1, stream="stdout", count=3), Detach(channel=1)],
        )

    def test_endWhileDetaching(self) -> None:
        """A command that ends just then was not delivered as a whole, and is not said to be."""
        command, script = self.begin(onDisconnect="detach")
        left = command.detach()
        script.out(b"abc")
        self.finish(script)
        self.successResultOf(left)
        self.error(command.whenEnded(), CommandDetached)
        self.assertIsNone(command.status)

    def test_takenOver(self) -> None:
        """A command that another connection follows is no success and no end here."""
        out = Sink()
        command, script = self.begin(stdout=out, onDisconnect="detach")
        self.say(script.channel.detach(""))
        self.assertEqual(
            self.error(command.whenEnded(), CommandDetached).sentence,
            "The command abc is followed here no more.",
        )
        self.assertIsNone(out.producer)


class AttachTests(ClientTestCase):
    """L{ExecSession.attach}."""

    def test_attach(self) -> None:
        """A command goes on at the byte that was asked for, and its end fits what came here."""
        out = Sink()
        attaching = self.session.attach("abc", stdoutAt=3, stderrAt=0, window=100, stdout=out)
        script = self.script()
        self.assertEqual(
            script.asked,
            Attach(channel=1, id="abc", stdout=3, stderr=0, stdoutCredit=100, stderrCredit=100),
        )
        script.all["stdout"].add(b"abc")
        script.start(known=True, stdout=3, stdinAt=7, stdinRoom=10)
        script.out(b"def")
        self.flush()
        command = self.successResultOf(attaching)
        self.assertEqual((command.known, command.stdout.begun, command.stdout.at), (True, 3, 6))
        self.assertEqual((command.stdin.open, command.stdin.at), (True, 7))
        self.finish(script)
        ended = self.successResultOf(command.whenEnded())
        self.assertEqual((ended.stdout.count, out.data), (6, b"def"))

    def test_elsewhere(self) -> None:
        """A server that goes on at another byte than was asked for is not believed."""
        attaching = self.session.attach("abc", stdoutAt=3)
        self.script().start(known=True, stdout=4)
        self.flush()
        self.assertIn("goes on at 4", self.error(attaching, ProtocolError).sentence)

    def test_unknown(self) -> None:
        """A command that is not there is told of as with a start."""
        attaching = self.session.attach("abc")
        self.finish(self.script(), outcome.NotStarted(code="not-found", reason="None."))
        self.error(attaching, NotFound)

    def test_refusedAndClosed(self) -> None:
        """Who closes the session for an ERROR is told of it, and of nothing else."""
        asking = self.session.kill("abc")

        def closing(failure: Failure) -> Failure:
            self.session.close()
            return failure

        asking.addErrback(closing)
        self.flush()
        self.server.fail(NotFound("None."), self.server.questions[-1].channel)
        self.flush()
        self.error(asking, NotFound)

    def test_impossible(self) -> None:
        """What can be no command, or no place in one, is not sent."""
        for wrong in ({"id": "ABC"}, {"id": ""}, {"id": "abc", "stdoutAt": -1}):
            self.error(self.session.attach(**wrong), ConfigurationError)
        self.error(self.session.attach("abc", window=0), ConfigurationError)

    def test_cancel(self) -> None:
        """Cancelling leaves the command as it is."""
        attaching = self.session.attach("abc")
        script = self.script()
        attaching.cancel()
        self.failureResultOf(attaching, CancelledError)
        script.start(known=True)
        script.out(b"abc")
        self.flush()
        self.assertEqual((script.cancelled, script.detached), (False, True))
        self.assertEqual(script.saw(Credit), 0)
        self.say(script.channel.detach(""))
        self.assertEqual(self.session._channels, {})

    def test_consumerGone(self) -> None:
        """A consumer that is gone before the command goes on has it left alone."""
        out = Sink()
        attaching = self.session.attach("abc", stdout=out)
        out.producer.stopProducing()
        script = self.script().start(known=True)
        self.flush()
        self.assertEqual((script.cancelled, script.detached), (False, True))
        self.say(script.channel.detach(""))
        self.error(attaching, ConnectionFailed)


class QuestionTests(ClientTestCase):
    """L{ExecSession.commands} and L{ExecSession.kill}."""

    def test_commands(self) -> None:
        """All parts of a list are one list."""
        asking = self.session.commands()
        self.flush()
        (question,) = self.server.questions
        items = [Listing(id=each, command=b"x", started=1.0) for each in ("a", "b", "c")]
        self.say(Listed(channel=1, commands=tuple(items[:2]), last=False))
        self.assertNoResult(asking)
        self.say(Listed(channel=1, commands=(items[2],)))
        self.assertEqual(self.successResultOf(asking), items)
        self.assertEqual(question.channel, 1)
        self.assertEqual(self.session._channels, {})

    def test_endless(self) -> None:
        """A list without end ends the session."""
        self.patch(questions, "MAX_LISTED_COMMANDS", 1)
        asking = self.session.commands()
        self.flush()
        items = tuple(Listing(id=each, command=b"x", started=1.0) for each in ("a", "b"))
        self.say(Listed(channel=1, commands=items, last=False))
        self.error(asking, LimitExceeded)

    def test_kill(self) -> None:
        """A command is ended or signalled by its name, and its outcome told if there is one."""
        ending, signalling = self.session.kill("abc"), self.session.kill("abd", "SIGHUP")
        self.flush()
        self.assertEqual(
            self.server.questions,
            [Kill(channel=1, id="abc"), Kill(channel=2, id="abd", signal="HUP")],
        )
        self.say(Killed(channel=2), Killed(channel=1, outcome=Signalled(name="TERM", number=15)))
        self.assertEqual(self.successResultOf(ending), Signalled(name="TERM", number=15))
        self.assertIsNone(self.successResultOf(signalling))

    def test_refused(self) -> None:
        """An ERROR about a question answers it."""
        for ask in (self.session.commands, lambda: self.session.kill("abc")):
            asking: Deferred[Any] = ask()
            self.flush()
            self.server.fail(NotFound("None."), self.server.questions[-1].channel)
            self.flush()
            self.error(asking, NotFound)
            self.assertEqual(self.session._channels, {})

    def test_impossible(self) -> None:
        """What can be no command, or no signal, is not sent."""
        self.error(self.session.kill("A"), ConfigurationError)
        self.error(self.session.kill("abc", "hup"), ConfigurationError)
        self.flush()
        self.assertEqual(self.server.questions, [])

    def test_otherAnswer(self) -> None:
        """An answer to something else ends the session."""
        for ask, wrong in (
            (lambda session: session.commands(), Killed(channel=1)),
            (lambda session: session.kill("abc"), Listed(channel=1)),
            (lambda session: session.kill("abc"), Started(channel=1, id="abc")),
        ):
            self.open()
            asking = ask(self.session)
            self.flush()
            self.say(wrong)
            self.error(asking, ProtocolError)

    def test_cancelled(self) -> None:
        """An answer that nobody waits for any more is dropped."""
        for ask, answer in (
            (self.session.commands, Listed(channel=1)),
            (lambda: self.session.kill("abc"), Killed(channel=2)),
        ):
            asking: Deferred[Any] = ask()
            asking.cancel()
            self.failureResultOf(asking, CancelledError)
            self.flush()
            self.say(answer)
        self.assertEqual(self.session._channels, {})

    def test_lost(self) -> None:
        """A question that is open when the session ends fails."""
        asking, killing = self.session.commands(), self.session.kill("abc")
        self.flush()
        self.endpoint.pairs[0].client.reset()
        self.error(asking, ConnectionFailed)
        self.error(killing, ConnectionFailed)


class SessionTests(ClientTestCase):
    """Many commands on one session, and its end."""

    def test_manyAtOnce(self) -> None:
        """Commands run side by side, each with its own streams."""
        running = [self.session.run(["x", str(n)], input=b"%d" % n) for n in range(500)]
        self.flush()
        scripts = self.server.commands
        self.assertEqual(len(scripts), 500)
        for script in reversed(scripts):
            script.start(id="a")
        self.flush()
        for script in scripts:
            script.out(bytes(script.got) + b"!")
        for script in reversed(scripts):
            script.end()
        self.flush()
        done = [self.successResultOf(each).stdout for each in running]
        self.assertEqual(done, [b"%d!" % n for n in range(500)])

    def test_wrongRecords(self) -> None:
        """What a server may not say at that point ends the session, and every command with it."""
        for wrong in (
            Stdout(channel=1, data=b"x"),
            StdinEof(channel=1),
            Detached(channel=1),
            Credit(channel=1, stream="stdin", count=1),
        ):
            self.open()
            starting = self.session.start(["x"])
            self.flush()
            self.say(wrong)
            self.error(starting, ProtocolError)
            self.assertIn("is not expected while asked for", self.reason)

    def test_startedTwice(self) -> None:
        """STARTED comes once."""
        command, _ = self.begin()
        self.say(Started(channel=1, id="abd"))
        self.error(command.whenEnded(), ProtocolError)
        self.assertEqual(command.id, "abc")

    def test_tooMuch(self) -> None:
        """Output beyond the window ends the session."""
        out = Sink()
        command, script = self.begin(stdout=out, window=10)
        out.producer.pauseProducing()
        script.out(b"x" * 10)
        self.say(Stdout(channel=1, data=b"y"))
        error = self.error(command.whenEnded(), ProtocolError)
        self.assertIn("1 bytes of stdout came, and the window was 0.", error.sentence)

    def test_neverOpened(self) -> None:
        """A record for a channel that was never opened ends the session."""
        command, _ = self.begin()
        self.say(Stdout(channel=2, data=b"x"))
        error = self.error(command.whenEnded(), ProtocolError)
        self.assertIn("A record is for channel 2, which was never opened.", error.sentence)

    def test_closed(self) -> None:
        """What comes for a channel that is closed is dropped, a second END too."""
        first, script = self.begin()
        self.finish(script)
        second, other = self.begin()
        end = End(channel=1, outcome=Exited(code=9), stdout=NOTHING, stderr=NOTHING)
        self.say(Stdout(channel=1, data=b"x"), end, Detached(channel=1), Listed(channel=1))
        self.assertEqual(self.successResultOf(first.whenEnded()).status, 0)
        self.finish(other)
        self.successResultOf(second.whenEnded())

    def test_drain(self) -> None:
        """A server that says GOODBYE lets finish what is open; nothing new begins."""
        command, script = self.begin()
        asking = self.session.commands()
        self.server.leave("Maintenance.")
        self.flush()
        for refused in (self.session.start(["x"]), self.session.run(["x"])):
            self.assertEqual(
                self.error(refused, ConnectionFailed).sentence,
                "exec.example:7512 stops: nothing new is begun.",
            )
        script.out(b"last")
        self.finish(script)
        self.assertEqual(self.successResultOf(command.whenEnded()).status, 0)
        self.assertEqual(self.server.closedWith, [])
        self.say(Listed(channel=2))
        self.successResultOf(asking)
        self.assertEqual(self.server.closedWith, [None])
        self.successResultOf(self.session.whenEnded())

    def test_drainIdle(self) -> None:
        """A session on which nothing is open ends with GOODBYE."""
        self.server.leave("")
        self.flush()
        self.assertEqual(self.server.closedWith, [None])

    def test_goodbyeAndGone(self) -> None:
        """A server that says GOODBYE and goes, while a command runs, has not ended it well."""
        command, _ = self.begin()
        self.server.leave("")
        self.flush()
        self.server.transport.loseConnection()
        self.flush()
        self.error(command.whenEnded(), ConnectionFailed)

    def test_leave(self) -> None:
        """Who says GOODBYE itself, and waits, gets what is open to its end."""
        command, script = self.begin()
        self.session.leave()
        self.flush()
        self.finish(script)
        self.successResultOf(command.whenEnded())
        self.assertEqual(self.server.closedWith, [None])

    def test_contextManager(self) -> None:
        """Leaving the context closes the session; what still runs has failed here."""
        kept: list[RemoteCommand] = []

        async def use() -> int:
            async with self.session as session:
                kept.append(await session.start(["y"]))
                return (await session.run(["x"])).status

        using = Deferred.fromCoroutine(use())
        self.script().start()
        self.flush()
        self.finish(self.script().start(), Exited(code=4))
        self.assertEqual(self.successResultOf(using), 4)
        error = self.error(kept[0].whenEnded(), ConnectionFailed)
        self.assertEqual(
            error.sentence,
            "The session with exec.example:7512 was closed while this was open.",
        )
        self.assertEqual(self.server.closedWith, [None])

    def test_contextManagerFails(self) -> None:
        """A failure within the context passes through it, after the session is closed."""

        async def use() -> None:
            async with self.session:
                raise KeyError("mine")

        using = Deferred.fromCoroutine(use())
        self.flush()
        self.failureResultOf(using, KeyError)
        self.assertEqual(self.server.closedWith, [None])

    def test_serverTakesNothing(self) -> None:
        """
        While the server takes nothing, what comes is read and delivered, credit and input wait,
        and nothing piles up; then all goes on. If it lasts the session ends.
        """
        command, script = self.begin(stdin=True, onDisconnect="detach")
        pair = self.endpoint.pairs[0]
        server = pair.server
        server.pauseProducing()
        self.session.pauseProducing()
        before = len(pair.client.outgoing)
        for _ in range(1000):
            script.out(b"x")
        command.stdin.send(b"y" * 100_000)
        while server.step(1000):
            self.clock.advance(0)
        self.clock.advance(0)
        while server.step(1000):
            self.clock.advance(0)
        self.assertEqual(command.stdout.at, 1000)
        self.assertEqual(len(pair.client.outgoing), before)
        self.session.resumeProducing()
        server.resumeProducing()
        self.flush()
        self.assertEqual(script.channel.stdout.left, DEFAULT_WINDOW)
        self.assertEqual(len(script.got), 100_000)
        self.session.pauseProducing()
        self.clock.advance(STALL_TIMEOUT)
        self.error(command.whenEnded(), errors.TimedOut)

    def test_goodbyeInOutput(self) -> None:
        """A GOODBYE in the middle of output changes nothing about it."""
        command, script = self.begin()
        script.out(b"ab")
        self.server.leave("Bye.")
        script.out(b"cd")
        self.finish(script)
        self.successResultOf(command.whenEnded())
        self.assertEqual(command.stdout.collected, b"abcd")


class ConnectTests(SynchronousTestCase):
    """L{connectExec}."""

    def test_wrongUser(self) -> None:
        """A user without a token is refused before anything is connected."""
        endpoint = MemoryEndpoint(cast(Any, None))
        failed = connectExec(endpoint, Clock(), name=NAME, user="bob")
        self.failureResultOf(failed, ConfigurationError)
        self.assertEqual(endpoint.pairs, [])

    def test_noName(self) -> None:
        """Whoever gives no name for sentences is told of the server."""

        class Down:
            def connect(self, factory: object) -> Deferred[Any]:
                return fail(ConnectionRefusedError())

        failed = connectExec(cast(Any, Down()), Clock())
        error = self.failureResultOf(failed, ConnectionFailed).value
        self.assertIn("Cannot connect to the server: ", error.sentence)

    def test_session(self) -> None:
        """What is opened is a session of exec, of its own class."""
        test = ScriptedTestCase()
        test.setUp()
        self.assertIsInstance(test.session, ExecSession)
        self.assertEqual(test.server.hello.service, "exec")
