"""
A command that is followed over one connection after another: started once, each byte once, and an
end that fits all of it.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IProducer
from twisted.trial.unittest import SynchronousTestCase

from tests.rexec.scripted import NAME, Script, ScriptedTestCase
from tests.rexec.test_client import Sink
from twisted_netsuite.errors import (
    ConfigurationError,
    ConnectionFailed,
    Denied,
    LimitExceeded,
    NotFound,
    ProtocolError,
)
from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.client import CommandDetached, Ended, ExecSession, connectExec
from twisted_netsuite.rexec.flow import Count
from twisted_netsuite.rexec.messages import Attach, Start
from twisted_netsuite.rexec.outcome import Exited, Signalled
from twisted_netsuite.rexec.resume import FIRST_PAUSE, LONGEST_PAUSE, PATIENCE, runDetached


class ResumeTestCase(ScriptedTestCase):
    """One command, and a server that can be lost."""

    def setUp(self) -> None:
        super().setUp()
        self.ending: Deferred[Ended] = Deferred()
        self.out, self.err = Sink(), Sink()
        self.down = False
        self.attempts: list[float] = []

    def connecting(self) -> Deferred[ExecSession]:
        """Open a session, if the server is there."""
        self.attempts.append(self.clock.seconds())
        if self.down:
            return fail(ConnectionFailed("The server is down."))
        return connectExec(self.endpoint, self.clock, name=NAME)

    def follow(self, *argv: str, **options: Any) -> Deferred[Ended]:
        """Begin."""
        self.ending = runDetached(
            self.connecting, self.clock, argv or ["x"], stdout=self.out, stderr=self.err, **options
        )
        return self.ending

    def latest(self, position: int = -1) -> Script:
        """Find the command on the newest connection."""
        self.flush()
        self.server = self.endpoint.pairs[-1].server.protocol  # type: ignore[assignment]
        return self.server.commands[position]

    def lose(self) -> None:
        """Lose the connection."""
        self.endpoint.pairs[-1].client.reset()
        self.flush()

    def again(self, before: Script | None = None, **told: Any) -> Script:
        """Wait for the next connection, and go on where the client asks."""
        self.clock.advance(LONGEST_PAUSE)
        script = self.latest()
        asked = script.asked
        if isinstance(asked, Attach):
            assert asked.stdout is not None and asked.stderr is not None
            told = {"stdout": asked.stdout, "stderr": asked.stderr} | told
        if before is not None:
            script.all = before.all
        return script.start(known=True, **told)


class ResumeTests(ResumeTestCase):
    """L{runDetached}."""

    def test_oneConnection(self) -> None:
        """Where nothing breaks it is as any command, and its session is closed at the end."""
        self.follow("a", "b", ttl=60)
        script = self.latest().start()
        asked = script.asked
        assert isinstance(asked, Start)
        self.assertEqual((asked.argv, asked.onDisconnect, asked.ttl), ((b"a", b"b"), "detach", 60))
        self.assertEqual(len(asked.key or ""), 32)
        script.out(b"abc")
        script.err(b"!")
        script.end(Exited(code=2))
        self.flush()
        self.assertEqual(self.successResultOf(self.ending).status, 2)
        self.assertEqual((self.out.data, self.err.data), (b"abc", b"!"))
        self.assertEqual((self.out.producer, self.err.producer), (None, None))
        self.assertEqual(self.server.closedWith, [None])
        self.assertEqual(len(self.attempts), 1)

    def test_goesOn(self) -> None:
        """After a connection is lost the command goes on at the byte that is missing."""
        self.follow()
        script = self.latest().start()
        script.out(b"abc")
        script.err(b"1")
        self.flush()
        self.lose()
        self.assertNoResult(self.ending)
        second = self.again(script)
        self.assertEqual(second.asked, Attach(channel=1, id="abc", stdout=3, stderr=1))
        second.out(b"def")
        second.end()
        self.flush()
        self.assertEqual(self.successResultOf(self.ending).stdout.count, 6)
        self.assertEqual((self.out.data, self.err.data), (b"abcdef", b"1"))

    def test_lostOnTheWay(self) -> None:
        """What was sent and has not arrived is asked for again; what was kept here, too."""
        self.follow()
        script = self.latest().start()
        script.out(b"abc")
        self.flush()
        self.out.producer.pauseProducing()
        script.out(b"kept")
        self.flush()
        script.out(b"on its way")
        self.lose()
        self.out.producer.resumeProducing()
        second = self.again()
        asked = second.asked
        assert isinstance(asked, Attach)
        self.assertEqual((asked.stdout, self.out.data), (3, b"abc"))
        second.all["stdout"] = Count()
        second.all["stdout"].add(b"abc")
        second.out(b"kept and all")
        second.end()
        self.flush()
        self.successResultOf(self.ending)
        self.assertEqual(self.out.data, b"abckept and all")

    def test_startLost(self) -> None:
        """Where nobody knows whether it was started it is asked for by the same key."""
        self.follow()
        first = self.latest().asked
        self.lose()
        second = self.again()
        assert isinstance(first, Start) and isinstance(second.asked, Start)
        self.assertEqual(first.key, second.asked.key)
        second.end()
        self.flush()
        self.successResultOf(self.ending)

    def test_ownKey(self) -> None:
        """A key of the caller's own is kept."""
        self.follow(key="mine")
        asked = self.latest().asked
        assert isinstance(asked, Start)
        self.assertEqual(asked.key, "mine")

    def test_input(self) -> None:
        """Input goes on where the command has it, and is not given twice."""
        self.follow(input=b"0123456789")
        script = self.latest()
        script.start(stdinRoom=4)
        self.flush()
        self.assertEqual(bytes(script.got), b"0123")
        self.lose()
        second = self.again(stdinAt=4, stdinRoom=100)
        self.flush()
        self.assertEqual((bytes(second.got), second.inputEnded), (b"456789", True))
        self.lose()
        third = self.again(stdinAt=10)
        third.end()
        self.flush()
        self.assertEqual(bytes(third.got), b"")
        self.successResultOf(self.ending)

    def test_wrongWhole(self) -> None:
        """An end that fits each connection, and not all of them together, is no success."""
        self.follow()
        script = self.latest().start()
        script.out(b"abc")
        self.flush()
        self.lose()
        second = self.again()
        second.all["stdout"].add(b"abX")
        second.out(b"def")
        second.end()
        self.flush()
        self.assertEqual(
            self.error(self.ending, ProtocolError).sentence,
            "6 bytes of stdout have come, over several connections, and 6 were sent, or others.",
        )

    def test_backOff(self) -> None:
        """Attempts come ever more seldom, until patience has come to its end."""
        self.follow()
        self.latest().start()
        self.flush()
        self.down = True
        self.lose()
        for _ in range(int(PATIENCE * 8)):
            self.clock.advance(0.125)
        error = self.error(self.ending, ConnectionFailed)
        self.assertEqual(
            error.sentence,
            "The command abc was given up after 300 s without a connection, and may still run: The "
            "server is down.",
        )
        pauses = [b - a for a, b in zip(self.attempts[1:], self.attempts[2:], strict=False)]
        self.assertLessEqual(self.attempts[1] - self.attempts[0], FIRST_PAUSE + 0.125)
        self.assertLessEqual(max(pauses), LONGEST_PAUSE + 0.125)
        self.assertGreater(len(pauses), 20)
        self.assertLess(len(pauses), 50)
        self.assertEqual((self.out.producer, self.err.producer), (None, None))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_patienceAnew(self) -> None:
        """Each connection that was made renews patience, and the attempts are frequent again."""
        self.follow(patience=20)
        script = self.latest().start()
        for _ in range(5):
            self.flush()
            self.down = True
            self.lose()
            self.clock.pump([1.0] * 15)
            self.assertNoResult(self.ending)
            self.down = False
            script = self.again(script)
        self.down = False
        script.end()
        self.flush()
        self.successResultOf(self.ending)

    def test_neverConnected(self) -> None:
        """Where nothing was asked for yet a failure to connect is told at once."""
        self.down = True
        error = self.error(self.follow(), ConnectionFailed)
        self.assertEqual(error.sentence, "The server is down.")
        self.assertEqual(self.out.producer, None)

    def test_notStarted(self) -> None:
        """A command that is denied, or gone, is not asked for again."""
        self.follow()
        self.latest().end(outcome.Denied(reason="No."))
        self.flush()
        self.error(self.ending, Denied)
        self.out, self.err = Sink(), Sink()
        self.follow()
        self.latest().start()
        self.flush()
        self.lose()
        self.clock.advance(LONGEST_PAUSE)
        self.latest().end(outcome.NotStarted(code="not-found", reason="Gone."))
        self.flush()
        self.error(self.ending, NotFound)

    def test_beginningGone(self) -> None:
        """A command of the same key whose first bytes are gone is not taken for a whole one."""
        self.follow(key="k")
        script = self.latest().start(known=True, stdout=3)
        self.flush()
        self.assertTrue(script.detached)
        self.error(self.ending, LimitExceeded)

    def test_takenOver(self) -> None:
        """When somebody else follows the command it is left to them."""
        self.follow()
        script = self.latest().start()
        self.flush()
        self.server.say(script.channel.detach("Another connection follows this command now."))
        self.flush()
        self.error(self.ending, CommandDetached)

    def test_drain(self) -> None:
        """A server that stops and lets go of the command is waited for."""
        self.follow()
        script = self.latest().start()
        self.flush()
        self.server.leave("Restart.")
        self.server.say(script.channel.detach("The service stops."))
        self.flush()
        self.assertNoResult(self.ending)
        self.again(script).end()
        self.flush()
        self.successResultOf(self.ending)

    def test_consumerFails(self) -> None:
        """A consumer that raises, whatever that is, or stops, has the command left alone."""
        for failure in (OSError("disk full"), ConnectionFailed("mine"), None):
            self.out, self.err = Sink(), Sink()
            self.follow()
            script = self.latest().start()
            self.flush()
            if failure is None:
                self.out.producer.stopProducing()
            else:
                self.out.failure = failure
                script.out(b"x")
            self.flush()
            self.assertEqual((script.detached, script.cancelled), (True, False))
            self.server.say(script.channel.detach(""))
            self.flush()
            self.error(self.ending, type(failure) if failure else ConnectionFailed)
            self.assertIsNone(self.out.producer)

    def test_consumerGone(self) -> None:
        """A consumer that is lost while there is no connection, or was before, is not taken for one
        that has all of the output."""
        self.follow()
        self.latest().start()
        self.flush()
        self.lose()
        self.out.producer.stopProducing()
        self.clock.advance(LONGEST_PAUSE)
        self.flush()
        error = self.error(self.ending, ConnectionFailed)
        self.assertEqual(error.sentence, "Nobody takes stdout of the command any more.")
        self.assertIsNone(self.out.producer)

        class Gone(Sink):
            def registerProducer(self, producer: IProducer, streaming: bool) -> None:
                super().registerProducer(producer, streaming)
                self.producer.stopProducing()

        self.out = Gone()
        self.follow()
        self.flush()
        self.error(self.ending, ConnectionFailed)
        server: Any = self.endpoint.pairs[-1].server.protocol
        self.assertEqual((server.commands, self.out.producer), ([], None))

    def test_joined(self) -> None:
        """One consumer for both streams gets each byte of both once."""
        self.err = self.out
        self.follow()
        script = self.latest().start()
        script.out(b"a")
        script.err(b"B")
        self.flush()
        self.lose()
        second = self.again(script)
        second.out(b"c")
        second.err(b"D")
        second.end()
        self.flush()
        ended = self.successResultOf(self.ending)
        self.assertEqual((ended.stdout.count, ended.stderr.count), (2, 2))
        self.assertEqual((self.out.data, self.out.producer), (b"aBcD", None))

    def test_cancel(self) -> None:
        """Cancelling ends the command, at whatever point."""
        self.follow()
        script = self.latest().start()
        self.flush()
        self.ending.cancel()
        self.failureResultOf(self.ending, CancelledError)
        self.flush()
        self.assertTrue(script.cancelled)
        self.out, self.err = Sink(), Sink()
        self.follow()
        self.latest().start()
        self.flush()
        self.lose()
        self.ending.cancel()
        self.failureResultOf(self.ending, CancelledError)
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.getTime() < 1], [])

    def test_pauseStays(self) -> None:
        """A consumer that has paused stays paused over a lost connection."""
        self.follow()
        script = self.latest().start()
        self.flush()
        self.out.producer.pauseProducing()
        self.lose()
        second = self.again(script)
        second.out(b"abc")
        second.end(Signalled(name="KILL", number=9))
        self.flush()
        self.assertEqual(self.out.data, b"")
        self.assertNoResult(self.ending)
        self.out.producer.resumeProducing()
        self.assertEqual((self.out.data, self.successResultOf(self.ending).status), (b"abc", 137))

    def test_policy(self) -> None:
        """A command that ends with its connection cannot be followed over several."""
        with self.assertRaises(ConfigurationError):
            self.follow(onDisconnect="kill")

    def test_wrongTypes(self) -> None:
        """One text, or an option that is misspelt, is told of at once."""
        with self.assertRaises(TypeError):
            self.follow(timelimit=5)
        connect: Any = None
        with self.assertRaises(TypeError):
            runDetached(connect, self.clock, "ls -l", stdout=self.out, stderr=self.err)
        with self.assertRaises(TypeError):
            self.follow(input="text")
        self.assertFalse(self.out.hadProducer)

    @settings(deadline=None, max_examples=25)
    @given(st.data())
    def test_anyBreaks(self, data: st.DataObject) -> None:
        """Wherever connections break, and whenever the consumer pauses, each byte comes once."""
        self.setUp()
        try:
            self.play(data)
        finally:
            # Where Hypothesis has had enough, too.
            self.ending.addErrback(lambda _: None).cancel()

    def play(self, data: st.DataObject) -> None:
        """Let things happen, and then all that is left."""
        whole = data.draw(st.binary(min_size=1, max_size=200))
        window = data.draw(st.integers(1, 60))
        self.follow(window=window)
        script = self.latest().start()
        sent = 0
        self.flush()
        for _ in range(data.draw(st.integers(0, 12))):
            match data.draw(st.sampled_from(["write", "lose", "pause", "resume"])):
                case "write":
                    size = data.draw(st.integers(0, 30))
                    script.out(whole[sent : sent + size])
                    sent = min(len(whole), sent + size)
                    if data.draw(st.booleans()):
                        self.flush()
                case "lose":
                    self.lose()
                    script = self.again()
                    script.all["stdout"].add(self.out.data)
                    sent = len(self.out.data)
                case "pause":
                    self.out.producer.pauseProducing()
                case _:
                    self.out.producer.resumeProducing()
        self.out.producer.resumeProducing()
        script.out(whole[sent:])
        self.flush()
        script.end()
        self.flush()
        self.assertEqual(self.successResultOf(self.ending).stdout.count, len(whole))
        self.assertEqual(self.out.data, whole)


class NothingTests(SynchronousTestCase):
    """What is wrong from the start."""

    def test_consumerTaken(self) -> None:
        """A consumer that takes no producer has the other one let go."""
        out = Sink()
        taken: Any = object()
        failed = runDetached(taken, taken, ["x"], stdout=out, stderr=taken)
        self.failureResultOf(failed, AttributeError)
        self.assertIsNone(out.producer)
