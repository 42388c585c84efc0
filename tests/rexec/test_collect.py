"""What is kept of a command's output, and for how long it may run."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.rexec.collect import CollectedCommand, CommandLimits, Outcome, Result
from twisted_netsuite.rexec.launch import Launch
from twisted_netsuite.testing import FakeCommand, FakeSpawner

LAUNCH = Launch(b"/a", [b"a", b"b"], {b"A": b"B"})
LIMITS = CommandLimits(output=10, seconds=5.0)
OVER = b"\nnetsuite: the output limit of 10 bytes was reached, and the command was ended.\n"
LATE = b"\nnetsuite: the time limit of 5 s was reached, and the command was ended.\n"


class CollectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.collected, self.command = self.start()

    def start(self) -> tuple[CollectedCommand, FakeCommand]:
        spawner = FakeSpawner()
        collected = CollectedCommand(self.clock, spawner, LAUNCH, LIMITS)
        return collected, spawner.commands[0]

    def result(self) -> Result:
        return self.successResultOf(self.collected.result)

    def test_started(self) -> None:
        """The spawner gets the launch as it is."""
        self.assertIs(self.command.launch, LAUNCH)

    def test_allowed(self) -> None:
        """All output is read, however much it is: a command never waits for us."""
        self.command.out(b"o" * 5_000_000)
        self.command.err(b"e" * 5_000_000)
        self.assertGreater(min(self.command.allowed.values()), 2**60)
        self.assertFalse(self.command.paused)

    def test_stdoutThenStderr(self) -> None:
        """stdout comes first, then stderr, whatever was written first."""
        self.command.err(b"E1")
        self.command.out(b"O1")
        self.command.err(b"E2")
        self.command.out(b"O2")
        self.command.exit(3)
        self.assertEqual(self.result(), Result(b"O1O2E1E2", Outcome.EXITED, 3))

    def test_nothing(self) -> None:
        """A command that writes nothing has an empty output, and no result before its end."""
        self.assertNoResult(self.collected.result)
        self.command.exit()
        self.assertEqual(self.result(), Result(b"", Outcome.EXITED, 0))

    def test_signal(self) -> None:
        """Death by a signal has the status that a shell gives it."""
        self.command.die(15)
        self.assertEqual(self.result(), Result(b"", Outcome.SIGNALLED, 143))

    def test_belowAndAtTheLimit(self) -> None:
        """Output of one byte less than the limit, and of the limit itself, is kept whole."""
        for size in (9, 10):
            collected, command = self.start()
            command.out(b"o" * (size - 4))
            command.err(b"e" * 4)
            self.assertFalse(command.asked)
            command.exit()
            result = self.successResultOf(collected.result)
            self.assertEqual(
                result, Result(b"o" * (size - 4) + b"e" * 4, Outcome.EXITED, 0), str(size)
            )

    def test_overTheLimit(self) -> None:
        """One byte more than the limit, over both streams, ends the command and says so."""
        self.command.out(b"o" * 6)
        self.command.err(b"e" * 5)
        self.assertTrue(self.command.asked)
        self.assertNoResult(self.collected.result)
        self.command.die(15)
        self.assertEqual(self.result(), Result(b"o" * 6 + b"e" * 4 + OVER, Outcome.LIMIT, 125))

    def test_onePieceOverTheLimit(self) -> None:
        """Of a single piece that is larger than the limit, the first bytes are kept."""
        self.command.out(b"0123456789ab")
        self.command.exit()
        self.assertEqual(self.result(), Result(b"0123456789" + OVER, Outcome.LIMIT, 125))

    def test_nothingKeptAfterTheLimit(self) -> None:
        """What is written after the limit, on either stream, is not kept."""
        self.command.out(b"o" * 11)
        for _ in range(1000):
            self.command.out(b"more")
            self.command.err(b"more")
        self.command.exit()
        self.assertEqual(self.result().output, b"o" * 10 + OVER)

    def test_timeLimit(self) -> None:
        """At the time limit, and not before, the command is asked to end."""
        self.command.out(b"so far")
        self.clock.advance(4.9)
        self.assertFalse(self.command.asked)
        self.clock.advance(0.1)
        self.assertTrue(self.command.asked)
        self.assertNoResult(self.collected.result)
        self.command.die(9)
        self.assertEqual(self.result(), Result(b"so far" + LATE, Outcome.TIMED_OUT, 124))

    def test_firstLimitCounts(self) -> None:
        """A command that passes both limits is reported for the first."""
        self.command.out(b"o" * 11)
        self.clock.advance(5)
        self.command.die(9)
        self.assertIs(self.result().outcome, Outcome.LIMIT)

    def test_lateOutputOverTheLimit(self) -> None:
        """Output that floods in after the time limit does not change the reason."""
        self.clock.advance(5)
        self.command.out(b"o" * 11)
        self.command.die(9)
        self.assertEqual(self.result(), Result(b"o" * 10 + LATE, Outcome.TIMED_OUT, 124))

    def test_noTimerLeft(self) -> None:
        """A command that has ended leaves no timer behind."""
        self.command.exit()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_end(self) -> None:
        """Asking for the end is passed on, and the result waits for it."""
        self.collected.end()
        self.assertTrue(self.command.asked)
        self.assertNoResult(self.collected.result)

    def test_notStarted(self) -> None:
        """A command that could not be started is a limit of ours, with the system's reason."""
        self.command.refuse(24, "run /a")
        sentence = b"netsuite: the command was not started: Too many open files.\n"
        self.assertEqual(self.result(), Result(sentence, Outcome.LIMIT, 125))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_serviceFailed(self) -> None:
        """Where the service itself has failed, no reason of the command's is made up."""
        self.command.refuse(13, "run /a", own=True)
        self.assertIn(b"not started: the service failed", self.result().output)

    def test_lost(self) -> None:
        """A command that was lost with what watched it counts as killed, which it was."""
        self.command.out(b"so far")
        self.command.lose()
        self.assertEqual(self.result(), Result(b"so far", Outcome.SIGNALLED, 137))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=6)), max_size=8))
    def test_anyPieces(self, pieces: list[tuple[bool, bytes]]) -> None:
        """However output is cut, the first bytes up to the limit are kept, in stream order."""
        collected, command = self.start()
        kept: dict[bool, bytes] = {True: b"", False: b""}
        left = LIMITS.output
        for isError, data in pieces:
            (command.err if isError else command.out)(data)
            kept[isError] += data[:left]
            left -= len(data[:left])
        total = sum(len(data) for _, data in pieces)
        self.assertEqual(command.asked, total > LIMITS.output)
        command.exit()
        result = self.successResultOf(collected.result)
        note = OVER if total > LIMITS.output else b""
        self.assertEqual(result.output, kept[False] + kept[True] + note)
