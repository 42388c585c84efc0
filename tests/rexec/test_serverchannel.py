"""
The server's end of a channel: what it takes, what it sends, and what its END tells.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.rexec.flow import NOTHING, Count
from twisted_netsuite.rexec.machine import Effect
from twisted_netsuite.rexec.messages import (
    MAX_WINDOW,
    RECORDS,
    Attach,
    Cancel,
    Credit,
    Detach,
    Resize,
    Signal,
    Start,
    Started,
    Stderr,
    Stdin,
    StdinEof,
    Stdout,
    Tally,
)
from twisted_netsuite.rexec.outcome import Exited
from twisted_netsuite.rexec.serverchannel import INPUT_WINDOW, ServerChannel
from twisted_netsuite.wire.session import Record, SessionCodec

START = Start(channel=7, argv=(b"x",), stdin=True, stdoutCredit=100, stderrCredit=50)
OTHERS: tuple[Record, ...] = (
    Signal(channel=7, name="TERM"),
    Resize(channel=7, rows=1, cols=2),
    Cancel(channel=7),
    Detach(channel=7),
)


def tallied(*pieces: bytes) -> Tally:
    """Count and digest."""
    count = Count()
    for piece in pieces:
        count.add(piece)
    return count.tally()


def begun(asked: Start | Attach = START, **changes: Any) -> ServerChannel:
    """Make a channel that has said STARTED."""
    channel = ServerChannel(asked)
    told: dict[str, Any] = {
        "known": False,
        "stdout": 0,
        "stderr": 0,
        "stdinAt": 0,
        "stdinRoom": INPUT_WINDOW,
        "pty": False,
    }
    channel.start("abc", **(told | changes))
    return channel


class ServerChannelTestCase(SynchronousTestCase):
    """One channel."""

    def refused(self, channel: ServerChannel, record: Record) -> str:
        """Take what is said of a record that may not come."""
        with self.assertRaises(ProtocolError) as caught:
            channel.received(record)
        sentence: str = caught.exception.sentence
        return sentence


class StartTests(ServerChannelTestCase):
    """Before STARTED, and with it."""

    def test_asked(self) -> None:
        """Until STARTED a channel is neither begun nor closed."""
        channel = ServerChannel(START)
        self.assertEqual((channel.number, channel.started, channel.closed), (7, False, False))

    def test_started(self) -> None:
        """STARTED tells all that the client has to know to go on."""
        channel = ServerChannel(START)
        told = channel.start(
            "abc", known=True, stdout=3, stderr=4, stdinAt=5, stdinRoom=6, pty=True
        )
        self.assertEqual(
            told,
            Started(
                channel=7,
                id="abc",
                known=True,
                stdout=3,
                stderr=4,
                stdin=6,
                stdinAt=5,
                stdinOpen=True,
                pty=True,
            ),
        )
        self.assertTrue(channel.started)

    def test_fed(self) -> None:
        """Where the input has ended none is granted, and none may come."""
        channel = ServerChannel(START)
        told = channel.start(
            "abc", known=False, stdout=0, stderr=0, stdinAt=9, stdinRoom=None, pty=False
        )
        self.assertEqual((told.stdin, told.stdinOpen, told.stdinAt), (0, False, 9))
        self.refused(channel, Stdin(channel=7, data=b"x"))
        self.refused(channel, StdinEof(channel=7))

    def test_beforeStarted(self) -> None:
        """Before STARTED a client may cancel and grant, and nothing else."""
        for record in (*OTHERS, Stdin(channel=7, data=b"x"), StdinEof(channel=7)):
            if not isinstance(record, Cancel):
                self.refused(ServerChannel(START), record)
        channel = ServerChannel(START)
        self.assertIs(channel.received(Cancel(channel=7)), Effect.CARRY_OUT)
        channel.received(Credit(channel=7, stream="stdout", count=1))
        self.assertEqual(channel.stdout.left, 101)

    def test_notStarted(self) -> None:
        """A command that is never started ends without any output."""
        channel = ServerChannel(START)
        end = channel.end(Exited(code=0), NOTHING, NOTHING)
        self.assertTrue(channel.closed)
        self.assertEqual((end.channel, end.stdoutHere, end.stderrHere), (7, None, None))

    def test_outputBeforeStarted(self) -> None:
        """No output is sent before STARTED, and no second STARTED."""
        channel = ServerChannel(START)
        self.assertRaises(ProtocolError, channel.sendStdout, b"x")
        self.assertRaises(ProtocolError, channel.sendStderr, b"x")
        self.assertRaises(ProtocolError, channel.detach, "")
        with self.assertRaises(ProtocolError):
            running = begun()
            running.start("abc", known=False, stdout=0, stderr=0, stdinAt=0, stdinRoom=1, pty=False)


class OutputTests(ServerChannelTestCase):
    """What is sent."""

    def test_windows(self) -> None:
        """Each stream has the window that the client gave it, and its credits make it larger."""
        channel = begun()
        self.assertEqual(channel.sendStdout(b"x" * 100), Stdout(channel=7, data=b"x" * 100))
        self.assertEqual(channel.sendStderr(b"y" * 20), Stderr(channel=7, data=b"y" * 20))
        self.assertEqual((channel.stdout.left, channel.stderr.left), (0, 30))
        effect = channel.received(Credit(channel=7, stream="stdout", count=5))
        self.assertIs(effect, Effect.GRANT)
        channel.received(Credit(channel=7, stream="stderr", count=6))
        self.assertEqual((channel.stdout.left, channel.stderr.left), (5, 36))

    def test_beyondWindow(self) -> None:
        """Nothing is sent beyond the window."""
        channel = begun()
        self.assertRaises(AssertionError, channel.sendStdout, b"x" * 101)
        self.assertRaises(AssertionError, channel.sendStderr, b"x" * 51)

    def test_tooMuchCredit(self) -> None:
        """A client that grants more than any window has breaks the protocol."""
        said = self.refused(begun(), Credit(channel=7, stream="stdout", count=MAX_WINDOW))
        self.assertEqual(
            said, "The window of stdout would be 67108964 bytes; 67108864 is the most."
        )

    def test_creditForInput(self) -> None:
        """A client has no credit to give for its own input."""
        said = self.refused(begun(), Credit(channel=7, stream="stdin", count=1))
        self.assertEqual(said, "A client grants no credit for its own input.")

    def test_end(self) -> None:
        """END tells of the whole streams; what was sent here is told only where that is less."""
        channel = begun()
        end = channel.end(Exited(code=3), tallied(b"abc"), NOTHING)
        self.assertEqual((end.outcome, end.stdout), (Exited(code=3), tallied(b"abc")))
        self.assertEqual((end.stdoutHere, end.stderrHere), (None, None))

    def test_endOfAttached(self) -> None:
        """A client that came in the middle is told of what it was sent, for each stream apart."""
        channel = begun(Attach(channel=7, id="abc"), stdout=3, known=True)
        channel.sendStdout(b"de")
        channel.sendStdout(b"f")
        channel.sendStderr(b"!")
        end = channel.end(Exited(code=0), tallied(b"abcdef"), tallied(b"!"))
        self.assertEqual((end.stdoutHere, end.stderrHere), (tallied(b"def"), None))

    def test_endOfAttachedAtEnd(self) -> None:
        """Where nothing was left to send that is told, too."""
        channel = begun(Attach(channel=7, id="abc"), stdout=3, stderr=1, known=True)
        end = channel.end(Exited(code=0), tallied(b"abc"), tallied(b"!"))
        self.assertEqual((end.stdoutHere, end.stderrHere), (NOTHING, NOTHING))

    def test_detached(self) -> None:
        """DETACHED closes, with a reason."""
        channel = begun()
        self.assertEqual(channel.detach("why").reason, "why")
        self.assertTrue(channel.closed)
        self.assertFalse(channel.started)

    def test_nothingAfterEnd(self) -> None:
        """A closed channel carries nothing more, either way."""
        for close in (
            lambda channel: channel.end(Exited(code=0), NOTHING, NOTHING),
            lambda channel: channel.detach(""),
        ):
            channel = begun()
            close(channel)
            for act in (
                lambda c=channel: c.sendStdout(b"x"),
                lambda c=channel: c.sendStderr(b"x"),
                lambda c=channel: c.end(Exited(code=0), NOTHING, NOTHING),
                lambda c=channel: c.detach(""),
                lambda c=channel: c.inputTaken(1),
                channel.inputLost,
            ):
                self.assertRaises(ProtocolError, act)


class InputTests(ServerChannelTestCase):
    """What comes."""

    def test_window(self) -> None:
        """All that was granted may come, and not one byte more."""
        channel = begun(stdinRoom=10)
        self.assertIs(channel.received(Stdin(channel=7, data=b"x" * 10)), Effect.DELIVER)
        said = self.refused(channel, Stdin(channel=7, data=b"x"))
        self.assertEqual(said, "1 bytes of stdin came, and the window was 0.")

    def test_credit(self) -> None:
        """What the command has taken is credited by the quarter of the window."""
        channel = begun()
        quarter = INPUT_WINDOW // 4
        channel.received(Stdin(channel=7, data=b"x" * quarter))
        self.assertIsNone(channel.inputTaken(quarter - 1))
        credit = channel.inputTaken(1)
        self.assertEqual(credit, Credit(channel=7, stream="stdin", count=quarter))

    def test_eof(self) -> None:
        """The end of input is handed on; then no more comes, and nothing is credited."""
        channel = begun()
        channel.received(Stdin(channel=7, data=b"x"))
        self.assertIs(channel.received(StdinEof(channel=7)), Effect.DELIVER)
        self.assertIsNone(channel.inputTaken(INPUT_WINDOW))
        self.assertIsNone(channel.inputLost())
        said = self.refused(channel, Stdin(channel=7, data=b"x"))
        self.assertEqual(said, "STDIN is not expected while running, with input ended.")
        self.refused(channel, StdinEof(channel=7))

    def test_lost(self) -> None:
        """A command that reads no more has the client told once; what was on its way is dropped."""
        channel = begun(stdinRoom=10)
        self.assertEqual(channel.inputLost(), StdinEof(channel=7))
        self.assertIs(channel.received(Stdin(channel=7, data=b"x" * 10)), Effect.DROP)
        self.assertIsNone(channel.inputTaken(INPUT_WINDOW))
        self.refused(channel, Stdin(channel=7, data=b"x"))
        self.assertIs(channel.received(StdinEof(channel=7)), Effect.DROP)

    def test_others(self) -> None:
        """Wishes are carried out in each state of a command that runs."""
        for input in ("open", "ended", "lost"):
            channel = begun()
            if input == "ended":
                channel.received(StdinEof(channel=7))
            elif input == "lost":
                channel.inputLost()
            for record in OTHERS:
                self.assertIs(channel.received(record), Effect.CARRY_OUT)

    def test_notForServers(self) -> None:
        """What only a server sends, or what opens a channel, is refused by its name."""
        codec = SessionCodec(RECORDS)
        for word, fields in (
            ("stdout", {"data": b"x"}),
            ("stderr", {"data": b"x"}),
            ("started", {"id": "abc"}),
            ("detached", {}),
            ("killed", {}),
            ("listed", {}),
            ("list", {}),
        ):
            record = codec.decode(msgspec.msgpack.encode({"type": word, "channel": 7, **fields}))
            said = self.refused(begun(), record)
            self.assertEqual(said, f"A server is sent no {word.upper()}.")
        self.assertEqual(self.refused(begun(), START), "A server is sent no START.")

    @given(st.lists(st.integers(1, INPUT_WINDOW // 8), max_size=40), st.randoms())
    def test_anyPace(self, sizes: list[int], random: Any) -> None:
        """A client that keeps to its window is never refused, and is never stuck for good."""
        channel = begun()
        left, waiting = INPUT_WINDOW, 0
        for size in sizes:
            while left < size:
                taken = random.randint(1, waiting)
                waiting -= taken
                credit = channel.inputTaken(taken)
                left += credit.count if credit else 0
            channel.received(Stdin(channel=7, data=b"x" * size))
            left -= size
            waiting += size
            self.assertLessEqual(waiting + left, INPUT_WINDOW)
