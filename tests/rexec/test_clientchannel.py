"""
The client's end of a channel, alone and with the server's: all that is sent comes, what was changed
on the way is noticed, and no window is ever exceeded.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.rexec.test_serverchannel import tallied
from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.rexec import serverchannel
from twisted_netsuite.rexec.clientchannel import ClientChannel
from twisted_netsuite.rexec.flow import NOTHING
from twisted_netsuite.rexec.machine import Effect, State
from twisted_netsuite.rexec.messages import (
    MAX_WINDOW,
    RECORDS,
    Attach,
    Cancel,
    Credit,
    Detach,
    Detached,
    End,
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
from twisted_netsuite.rexec.serverchannel import ServerChannel
from twisted_netsuite.wire.session import Record, SessionCodec

START = Start(channel=7, argv=(b"x",), stdin=True, stdoutCredit=100, stderrCredit=50)
STARTED = Started(channel=7, id="abc", stdin=10, stdinOpen=True)
FED = Started(channel=7, id="abc")


def out(data: bytes) -> Stdout:
    """Standard output."""
    return Stdout(channel=7, data=data)


def err(data: bytes) -> Stderr:
    """Standard error."""
    return Stderr(channel=7, data=data)


def end(stdout: Tally = NOTHING, stderr: Tally = NOTHING, **here: Tally) -> End:
    """How it ended."""
    return End(channel=7, outcome=Exited(code=0), stdout=stdout, stderr=stderr, **here)


def begun(asked: Start | Attach = START, started: Started = STARTED, batch: int = 25) -> Any:
    """Make a channel that has got STARTED."""
    channel = ClientChannel(asked, batch)
    channel.received(started)
    return channel


def inputOpen(channel: Any) -> bool:
    """Tell whether input may be sent, and is wanted."""
    return channel._machine.state is State.RUNNING


class ClientChannelTestCase(SynchronousTestCase):
    """One channel."""

    def refused(self, channel: ClientChannel, record: Record) -> str:
        """Take what is said of a record that may not come."""
        with self.assertRaises(ProtocolError) as caught:
            channel.received(record)
        sentence: str = caught.exception.sentence
        return sentence


class StartTests(ClientChannelTestCase):
    """Before STARTED, and with it."""

    def test_asked(self) -> None:
        """Until STARTED nothing runs, and no input may be sent."""
        channel = ClientChannel(START, 25)
        self.assertEqual(
            (channel.number, channel.running, channel.closed, inputOpen(channel)),
            (7, False, False, False),
        )
        self.assertRaises(ProtocolError, channel.sendInput, b"x")
        self.assertRaises(ProtocolError, channel.endInput)
        self.assertRaises(ProtocolError, channel.detach)
        self.assertRaises(ProtocolError, channel.signal, "TERM")
        self.assertRaises(ProtocolError, channel.resize, 1, 1)
        self.assertEqual(channel.cancel(), Cancel(channel=7))

    def test_started(self) -> None:
        """STARTED begins, and opens the window for input."""
        channel = ClientChannel(START, 25)
        self.assertIs(channel.received(STARTED), Effect.BEGIN)
        self.assertEqual(
            (channel.running, inputOpen(channel), channel.stdin.left), (True, True, 10)
        )

    def test_outputBeforeStarted(self) -> None:
        """A server that sends anything but STARTED or END first breaks the protocol."""
        for record in (
            out(b"x"),
            err(b"x"),
            Credit(channel=7, stream="stdin", count=1),
            StdinEof(channel=7),
            Detached(channel=7),
        ):
            self.refused(ClientChannel(START, 25), record)

    def test_startedTwice(self) -> None:
        """STARTED comes once."""
        said = self.refused(begun(), STARTED)
        self.assertEqual(
            said, "STARTED with input open is not expected while running, with input open."
        )
        self.refused(begun(), FED)

    def test_hugeWindow(self) -> None:
        """A server that grants more input than any window has breaks the protocol."""
        channel = ClientChannel(START, 25)
        big = Started(channel=7, id="abc", stdin=MAX_WINDOW + 1, stdinOpen=True)
        said = self.refused(channel, big)
        self.assertEqual(said, "The window of stdin would be 67108865 bytes; 67108864 is the most.")
        ClientChannel(START, 25).received(msgspec.structs.replace(big, stdin=MAX_WINDOW))

    def test_newFromFirstByte(self) -> None:
        """The output of a new command begins with its first byte; that of a known one need not."""
        for stream in ("stdout", "stderr"):
            place: Any = {stream: 5}
            later = Started(channel=7, id="abc", **place)
            said = self.refused(ClientChannel(START, 25), later)
            self.assertEqual(
                said, f"STARTED says that {stream} goes on at 5, and it was asked for from 0."
            )
            channel = ClientChannel(START, 25)
            channel.received(msgspec.structs.replace(later, known=True))
            self.assertEqual(getattr(channel, f"{stream}At"), 5)

    def test_attachedWhereAsked(self) -> None:
        """A server goes on just where it was asked to, or says where if that was left to it."""
        asked = Attach(channel=7, id="abc", stdout=5)
        for place in (0, 4, 6):
            told = Started(channel=7, id="abc", known=True, stdout=place)
            said = self.refused(ClientChannel(asked, 1), told)
            self.assertEqual(
                said, f"STARTED says that stdout goes on at {place}, and it was asked for from 5."
            )
        channel = begun(asked, Started(channel=7, id="abc", known=True, stdout=5, stderr=9), 1)
        self.assertEqual((channel.stdoutAt, channel.stderrAt), (5, 9))

    def test_notStarted(self) -> None:
        """END without STARTED closes, whatever it tells of streams that never were."""
        channel = ClientChannel(START, 25)
        self.assertIs(channel.received(end()), Effect.FINISH)
        self.assertTrue(channel.closed)


class OutputTests(ClientChannelTestCase):
    """What comes."""

    def test_deliver(self) -> None:
        """Output is handed on, and counted for each stream."""
        channel = begun()
        self.assertIs(channel.received(out(b"abc")), Effect.DELIVER)
        self.assertIs(channel.received(err(b"!")), Effect.DELIVER)
        self.assertEqual((channel.stdoutAt, channel.stderrAt), (3, 1))

    def test_windows(self) -> None:
        """A server that sends more than it may breaks the protocol, on each stream apart."""
        channel = begun()
        channel.received(out(b"x" * 100))
        said = self.refused(channel, out(b"x"))
        self.assertEqual(said, "1 bytes of stdout came, and the window was 0.")
        channel = begun()
        channel.received(out(b"x" * 100))
        said = self.refused(channel, err(b"x" * 51))
        self.assertEqual(said, "51 bytes of stderr came, and the window was 50.")

    def test_credit(self) -> None:
        """What was taken is credited by the batch, and then as much may come once more."""
        channel = begun()
        channel.received(out(b"x" * 100))
        self.assertIsNone(channel.taken("stdout", 24))
        self.assertEqual(channel.taken("stdout", 1), Credit(channel=7, stream="stdout", count=25))
        channel.received(out(b"x" * 25))
        self.refused(channel, out(b"x"))

    def test_creditOfEach(self) -> None:
        """With a batch of one byte each delivery is credited."""
        channel = begun(batch=1)
        channel.received(err(b"xy"))
        self.assertEqual(channel.taken("stderr", 2), Credit(channel=7, stream="stderr", count=2))

    def test_smallWindow(self) -> None:
        """A batch is never more than half of a window, so that no stream stands still."""
        start = msgspec.structs.replace(START, stdoutCredit=2)
        channel = begun(start, batch=1000)
        channel.received(out(b"x"))
        self.assertEqual(channel.taken("stdout", 1), Credit(channel=7, stream="stdout", count=1))

    def test_settle(self) -> None:
        """All that was taken can be told at any time, once."""
        channel = begun()
        channel.received(out(b"x" * 20))
        channel.taken("stdout", 5)
        credit = channel.settle("stdout", 7)
        self.assertEqual(credit, Credit(channel=7, stream="stdout", count=12))
        self.assertIsNone(channel.settle("stdout", 0))

    def test_creditAfterEnd(self) -> None:
        """A server that has to know each byte is told of those that were taken after END."""
        channel = begun(batch=1)
        channel.received(out(b"x"))
        channel.received(end(tallied(b"x")))
        self.assertEqual(channel.taken("stdout", 1), Credit(channel=7, stream="stdout", count=1))

    def test_noCreditAfterEnd(self) -> None:
        """Nothing is said of a channel that is closed to a server that need not know."""
        channel = begun(batch=2)
        channel.received(out(b"x"))
        channel.received(end(tallied(b"x")))
        self.assertIsNone(channel.taken("stdout", 1))
        self.assertIsNone(channel.settle("stdout", 0))

    def test_end(self) -> None:
        """END that tells of what has come closes the channel."""
        channel = begun()
        channel.received(out(b"ab"))
        channel.received(err(b"!"))
        channel.received(out(b"c"))
        self.assertIs(channel.received(end(tallied(b"abc"), tallied(b"!"))), Effect.FINISH)
        self.assertTrue(channel.closed)

    def test_truncated(self) -> None:
        """END that tells of more, or of less, than has come is no end."""
        for told, all_ in ((b"abcd", 4), (b"ab", 2), (b"", 0)):
            channel = begun()
            channel.received(out(b"abc"))
            said = self.refused(channel, end(tallied(told)))
            self.assertEqual(said, f"3 bytes of stdout have come, and {all_} were sent.")

    def test_digest(self) -> None:
        """END that tells of as many other bytes is no end."""
        channel = begun()
        channel.received(err(b"abc"))
        said = self.refused(channel, end(NOTHING, tallied(b"abd")))
        self.assertEqual(said, "What has come of stderr is not what was sent: its SHA-256 differs.")

    def test_attached(self) -> None:
        """A channel that began in the middle is compared with what was sent on it, and all."""
        started = Started(channel=7, id="abc", known=True, stdout=3)
        whole, here = tallied(b"abcdef"), tallied(b"def")
        asked = Attach(channel=7, id="abc", stdout=3)
        channel = begun(asked, started)
        channel.received(out(b"def"))
        self.assertIs(channel.received(end(whole, stdoutHere=here)), Effect.FINISH)
        for wrong in (
            end(whole),
            end(whole, stdoutHere=whole),
            end(whole, stdoutHere=tallied(b"deg")),
            end(tallied(b"abcde"), stdoutHere=here),
            end(here, stdoutHere=here),
        ):
            channel = begun(asked, started)
            channel.received(out(b"def"))
            self.refused(channel, wrong)

    def test_nothingAfterEnd(self) -> None:
        """A closed channel takes nothing, not even a second END."""
        for last in (end(), Detached(channel=7)):
            for record in (STARTED, out(b"x"), err(b"x"), end(), Detached(channel=7)):
                channel = begun()
                self.assertIs(channel.received(last), Effect.FINISH)
                self.refused(channel, record)

    def test_notForClients(self) -> None:
        """What only a client sends is refused by its name, and credit for output too."""
        codec = SessionCodec(RECORDS)
        for word, fields in (
            ("stdin", {"data": b"x"}),
            ("signal", {"name": "HUP"}),
            ("cancel", {}),
            ("detach", {}),
            ("listed", {}),
            ("killed", {}),
        ):
            frame = msgspec.msgpack.encode({"type": word, "channel": 7, **fields})
            said = self.refused(begun(), codec.decode(frame))
            self.assertEqual(said, f"A client is sent no {word.upper()}.")
        said = self.refused(begun(), Credit(channel=7, stream="stdout", count=1))
        self.assertEqual(said, "A server grants no credit for its own output.")


class InputTests(ClientChannelTestCase):
    """What is sent."""

    def test_window(self) -> None:
        """No more than the window is sent, until there is credit."""
        channel = begun()
        self.assertEqual(channel.sendInput(b"x" * 10), Stdin(channel=7, data=b"x" * 10))
        self.assertRaises(AssertionError, channel.sendInput, b"x")
        effect = channel.received(Credit(channel=7, stream="stdin", count=3))
        self.assertIs(effect, Effect.GRANT)
        self.assertEqual(channel.stdin.left, 3)

    def test_eof(self) -> None:
        """After the end of the input nothing is sent of it, and credit that comes is dropped."""
        channel = begun()
        self.assertEqual(channel.endInput(), StdinEof(channel=7))
        self.assertFalse(inputOpen(channel))
        self.assertRaises(ProtocolError, channel.sendInput, b"x")
        self.assertRaises(ProtocolError, channel.endInput)
        credit = Credit(channel=7, stream="stdin", count=1)
        self.assertIs(channel.received(credit), Effect.DROP)
        self.assertIs(channel.received(StdinEof(channel=7)), Effect.DROP)

    def test_deaf(self) -> None:
        """Input for a command that reads no more is not sent."""
        channel = begun()
        self.assertIs(channel.received(StdinEof(channel=7)), Effect.DELIVER)
        self.assertFalse(inputOpen(channel))
        self.assertIsNone(channel.sendInput(b"x"))
        self.assertEqual(channel.endInput(), StdinEof(channel=7))
        self.refused(begun(), msgspec.structs.replace(STARTED, stdin=0))

    def test_deafTwice(self) -> None:
        """A server says once that nothing more is read."""
        channel = begun()
        channel.received(StdinEof(channel=7))
        self.refused(channel, StdinEof(channel=7))

    def test_tooMuchCredit(self) -> None:
        """A server that grants more than any window has breaks the protocol."""
        self.refused(begun(), Credit(channel=7, stream="stdin", count=MAX_WINDOW))

    def test_wishes(self) -> None:
        """Each wish is a record, as long as the command runs."""
        channel = begun()
        self.assertEqual(channel.signal("HUP"), Signal(channel=7, name="HUP"))
        self.assertEqual(channel.resize(3, 4), Resize(channel=7, rows=3, cols=4))
        self.assertEqual(channel.cancel(), Cancel(channel=7))
        self.assertEqual(channel.detach(), Detach(channel=7))
        channel.received(end())
        for wish in (channel.cancel, channel.detach, lambda: channel.signal("HUP")):
            self.assertRaises(ProtocolError, wish)


class Far:
    """
    A command at a server, with the channels that follow it, one after another.

    @ivar output: all that it writes, by stream.
    @ivar input: what it was given.
    """

    def __init__(self, output: dict[str, bytes]) -> None:
        self.output = output
        self.input = b""
        self.inputEnded = False
        self.sent = {"stdout": 0, "stderr": 0}
        self.untaken = 0
        self.channel: ServerChannel | None = None
        self.detaching = False

    def open(self, asked: Start | Attach) -> Record:
        """Follow it over a channel; what it was given and has not read takes room still."""
        self.channel = ServerChannel(asked)
        self.detaching = False
        if isinstance(asked, Attach):
            assert asked.stdout is not None and asked.stderr is not None
            self.sent = {"stdout": asked.stdout, "stderr": asked.stderr}
        return self.channel.start(
            "abc",
            known=isinstance(asked, Attach),
            stdout=self.sent["stdout"],
            stderr=self.sent["stderr"],
            stdinAt=len(self.input),
            stdinRoom=None if self.inputEnded else serverchannel.INPUT_WINDOW - self.untaken,
            pty=False,
        )

    def room(self, stream: str) -> int:
        """Tell how much may be sent now."""
        assert self.channel is not None
        window = self.channel.stdout if stream == "stdout" else self.channel.stderr
        return min(window.left, len(self.output[stream]) - self.sent[stream])

    def send(self, stream: str, count: int) -> Record:
        """Send some output."""
        assert self.channel is not None
        at = self.sent[stream]
        self.sent[stream] += count
        piece = self.output[stream][at : at + count]
        if stream == "stdout":
            return self.channel.sendStdout(piece)
        return self.channel.sendStderr(piece)

    def received(self, record: Record) -> None:
        """Take a record."""
        assert self.channel is not None
        effect = self.channel.received(record)
        if isinstance(record, Stdin) and effect is Effect.DELIVER:
            self.input += record.data
            self.untaken += len(record.data)
        elif isinstance(record, StdinEof):
            self.inputEnded = True
        elif isinstance(record, Detach):
            self.detaching = True

    @property
    def done(self) -> bool:
        """Whether all output was sent."""
        return all(self.sent[stream] == len(data) for stream, data in self.output.items())

    def end(self) -> Record:
        """Say how it ended."""
        assert self.channel is not None
        out, err = (tallied(self.output[stream]) for stream in ("stdout", "stderr"))
        return self.channel.end(Exited(code=0), out, err)


class Near:
    """
    A client that follows a command, over one connection after another.

    @ivar got: what its consumers were given, by stream.
    """

    def __init__(self, number: int, input: bytes, window: int, batch: int) -> None:
        self.number = number
        self.input = input
        self.window = window
        self.batch = batch
        self.got = {"stdout": b"", "stderr": b""}
        self.kept = {"stdout": b"", "stderr": b""}
        self.inputAt = 0
        self.channel: ClientChannel | None = None
        self.ended = False
        self.detached = False

    def ask(self) -> Start | Attach:
        """Open a channel, at the first byte that is not here."""
        self.kept = {"stdout": b"", "stderr": b""}
        asked: Start | Attach
        if self.channel is None:
            asked = Start(
                channel=self.number,
                argv=(b"x",),
                stdin=True,
                stdoutCredit=self.window,
                stderrCredit=self.window,
            )
        else:
            asked = Attach(
                channel=self.number,
                id="abc",
                stdout=len(self.got["stdout"]),
                stderr=len(self.got["stderr"]),
                stdoutCredit=self.window,
                stderrCredit=self.window,
            )
        self.channel = ClientChannel(asked, self.batch)
        return asked

    def received(self, record: Record) -> None:
        """Take a record, and keep its output until it is taken."""
        assert self.channel is not None
        effect = self.channel.received(record)
        if isinstance(record, Stdout):
            self.kept["stdout"] += record.data
        elif isinstance(record, Stderr):
            self.kept["stderr"] += record.data
        elif isinstance(record, Started):
            self.inputAt = record.stdinAt
        elif effect is Effect.FINISH:
            self.ended, self.detached = isinstance(record, End), isinstance(record, Detached)
        for kept in self.kept.values():
            assert len(kept) <= self.window, "More is here than was granted."

    def take(self, stream: str, count: int) -> Record | None:
        """Let the consumer take some."""
        assert self.channel is not None
        self.got[stream] += self.kept[stream][:count]
        self.kept[stream] = self.kept[stream][count:]
        return self.channel.taken(stream, count)


class PairTests(SynchronousTestCase):
    """Several commands over one connection after another, with records on their way."""

    @settings(deadline=None, max_examples=250)
    @given(st.data())
    def test_bytesOutAreBytesIn(self, data: st.DataObject) -> None:
        """
        Whatever happens in which order - output, input, credits, detaching, connections that break
        with records on their way - each client has at the end just what its command has written,
        each command what was sent to it, and nothing is ever refused or more than a window ahead.
        """
        window = data.draw(st.integers(1, 20))
        with mock.patch.object(serverchannel, "INPUT_WINDOW", window):
            self.play(data)

    def play(self, data: st.DataObject) -> None:
        """Let things happen, and then all that is left."""
        count = data.draw(st.integers(1, 3))
        pairs: list[tuple[Near, Far, list[Record], list[Record]]] = []
        for number in range(1, count + 1):
            output = {each: data.draw(st.binary(max_size=60)) for each in ("stdout", "stderr")}
            window, batch = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
            near = Near(number, data.draw(st.binary(max_size=40)), window, batch)
            pairs.append((near, Far(output), [], []))
        for pair in pairs:
            self.open(*pair)
        for _ in range(data.draw(st.integers(0, 60))):
            pair = data.draw(st.sampled_from(pairs))
            moves = self.moves(*pair)
            if data.draw(st.integers(0, 30)) == 0:
                # The connection breaks, and all that was on its way on any channel is lost.
                for near, far, toFar, toNear in pairs:
                    if not near.ended:
                        toFar.clear()
                        toNear.clear()
                        near.number += count
                        self.open(near, far, toFar, toNear)
            elif moves:
                self.move(data.draw(st.sampled_from(moves)), data, *pair)
        for pair in pairs:
            self.finish(*pair)
            near, far = pair[:2]
            self.assertEqual(near.got, far.output)
            # A command may end before it has read all.
            self.assertEqual(
                far.input, near.input if far.inputEnded else near.input[: len(far.input)]
            )

    def open(self, near: Near, far: Far, toFar: list[Record], toNear: list[Record]) -> None:
        """Open a channel for a command."""
        near.detached = False
        toNear.append(far.open(near.ask()))

    def moves(self, near: Near, far: Far, toFar: list[Record], toNear: list[Record]) -> list[str]:
        """Tell what can happen now."""
        assert near.channel is not None and far.channel is not None
        found = []
        if toFar:
            found.append("to far")
        if toNear:
            found.append("to near")
        if near.detached:
            found.append("attach")
        if far.channel.started:
            found += [f"send {stream}" for stream in far.output if far.room(stream)]
            if far.untaken:
                found.append("take input")
            if far.detaching:
                found.append("detached")
            if far.done:
                found.append("end")
        if near.channel.running:
            found.append("detach")
            if inputOpen(near.channel) and near.inputAt < len(near.input):
                if near.channel.stdin.left:
                    found.append("input")
            elif inputOpen(near.channel):
                found.append("end input")
        if not near.detached:
            found += [f"take {stream}" for stream, kept in near.kept.items() if kept]
        return found

    def move(
        self,
        what: str,
        data: st.DataObject | None,
        near: Near,
        far: Far,
        toFar: list[Record],
        toNear: list[Record],
    ) -> None:
        """Let one thing happen."""
        assert near.channel is not None and far.channel is not None

        def some(most: int) -> int:
            return most if data is None else data.draw(st.integers(1, most))

        match what.split():
            case ["to", "far"]:
                record = toFar.pop(0)
                if not far.channel.closed:
                    far.received(record)
            case ["to", "near"]:
                near.received(toNear.pop(0))
            case ["attach"]:
                # What was on its way on the channel that is closed is dropped by its number.
                toFar.clear()
                self.open(near, far, toFar, toNear)
            case ["send", stream]:
                toNear.append(far.send(stream, some(far.room(stream))))
            case ["take", "input"]:
                taken = some(far.untaken)
                far.untaken -= taken
                if credit := far.channel.inputTaken(taken):
                    toNear.append(credit)
            case ["take", stream]:
                if due := near.take(stream, some(len(near.kept[stream]))):
                    toFar.append(due)
            case ["detached"]:
                toNear.append(far.channel.detach("as you asked"))
            case ["end"]:
                toNear.append(far.end())
            case ["detach"]:
                toFar.append(near.channel.detach())
            case ["input"]:
                size = some(min(near.channel.stdin.left, len(near.input) - near.inputAt))
                piece = near.input[near.inputAt : near.inputAt + size]
                near.inputAt += size
                if (sent := near.channel.sendInput(piece)) is not None:
                    toFar.append(sent)
            case ["end", "input"]:
                toFar.append(near.channel.endInput())

    def finish(self, near: Near, far: Far, toFar: list[Record], toNear: list[Record]) -> None:
        """Let everything that is left happen, to the end of the command and of its input."""
        for _ in range(10_000):
            assert near.channel is not None
            if near.ended and not any(near.kept.values()):
                break
            moves = [each for each in self.moves(near, far, toFar, toNear) if each != "detach"]
            if not far.inputEnded and len(moves) > 1:
                moves = [each for each in moves if each != "end"]
            self.move(moves[0], None, near, far, toFar, toNear)
        self.assertTrue(near.ended)


class TamperTests(SynchronousTestCase):
    """What happens on the way to what a server has sent."""

    PIECES = st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=4)), max_size=8)

    def sent(self, pieces: list[tuple[bool, bytes]], at: int) -> list[Record]:
        """Make the records of a command."""
        asked = START if not at else Attach(channel=7, id="abc", stdout=at, stderr=0)
        server = ServerChannel(asked)
        records: list[Record] = [
            server.start(
                "abc", known=at > 0, stdout=at, stderr=0, stdinAt=0, stdinRoom=None, pty=False
            )
        ]
        for isOut, data in pieces:
            records.append(server.sendStdout(data) if isOut else server.sendStderr(data))
        before = b"?" * at
        whole = [b"".join(d for isOut, d in pieces if isOut is which) for which in (True, False)]
        records.append(server.end(Exited(code=0), tallied(before, whole[0]), tallied(whole[1])))
        return records

    def streams(self, records: list[Record]) -> list[bytes]:
        """Join the streams."""
        return [
            b"".join(each.data for each in records if isinstance(each, kind))
            for kind in (Stdout, Stderr)
        ]

    def accepted(self, records: list[Record], at: int) -> bool:
        """Tell whether a client takes these for the whole of a command."""
        asked = START if not at else Attach(channel=7, id="abc", stdout=at, stderr=0)
        channel = ClientChannel(asked, 25)
        try:
            for record in records:
                if channel.closed:
                    # It is dropped by its number.
                    break
                channel.received(record)
        except ProtocolError:
            return False
        return channel.closed

    @settings(deadline=None, max_examples=300)
    @given(PIECES, st.sampled_from([0, 0, 3]), st.data())
    def test_noticed(self, pieces: list[tuple[bool, bytes]], at: int, data: st.DataObject) -> None:
        """
        A record that is dropped, doubled, changed in one bit, moved to the other stream or swapped
        with another is noticed at END at the latest, unless the streams are what they were.
        """
        records = self.sent(pieces, at)
        self.assertTrue(self.accepted(records, at))
        changed = list(records)
        for _ in range(data.draw(st.integers(1, 2))):
            self.tamper(changed, data)
        whole = self.streams(changed) == self.streams(records)
        self.assertEqual(self.accepted(changed, at), whole and changed[-1] == records[-1])

    def tamper(self, records: list[Record], data: st.DataObject) -> None:
        """Change something between STARTED and END, or END itself."""
        places = range(1, len(records) - 1)
        how = data.draw(st.sampled_from(["drop", "double", "flip", "move", "swap", "end"]))
        if how == "end":
            last = records[-1]
            assert isinstance(last, End)
            stream = data.draw(st.sampled_from(["stdout", "stderr"]))
            tally = getattr(last, stream)
            if last.stdoutHere is not None and stream == "stdout":
                stream, tally = "stdoutHere", last.stdoutHere
            digest = bytes([tally.sha256[0] ^ 1]) + tally.sha256[1:]
            wrong = data.draw(st.sampled_from([{"count": tally.count + 1}, {"sha256": digest}]))
            changes = {stream: msgspec.structs.replace(tally, **wrong)}
            records[-1] = msgspec.structs.replace(last, **changes)
        elif places:
            place = data.draw(st.sampled_from(places))
            record: Any = records[place]
            match how:
                case "drop":
                    del records[place]
                case "double":
                    records.insert(place, record)
                case "flip":
                    spot = data.draw(st.integers(0, len(record.data) - 1))
                    bit = 1 << data.draw(st.integers(0, 7))
                    wrongData = bytearray(record.data)
                    wrongData[spot] ^= bit
                    records[place] = msgspec.structs.replace(record, data=bytes(wrongData))
                case "move":
                    records[place] = (
                        err(record.data) if isinstance(record, Stdout) else out(record.data)
                    )
                case _:
                    other = data.draw(st.sampled_from(places))
                    records[place], records[other] = records[other], records[place]
