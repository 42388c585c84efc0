"""
One command apart from any session: whatever happens between it and those who follow it, no byte is
lost, and none comes twice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.rexec.sessions import NOW
from twisted_netsuite.errors import LimitExceeded
from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.command import Command
from twisted_netsuite.rexec.delivery import CREDIT_LIMIT, STREAMS
from twisted_netsuite.rexec.flow import Count
from twisted_netsuite.rexec.keptdelivery import ALLOWED_PART, Kept
from twisted_netsuite.rexec.launch import Launch, OutputStream
from twisted_netsuite.rexec.run import Bounds
from twisted_netsuite.rexec.spool import MIN_SEGMENT, Spool
from twisted_netsuite.testing import FakeCommand, FakeSpawner

#: Bytes that are kept of each stream: more than a segment, so that some are dropped.
KEPT = 3 * MIN_SEGMENT


class Follower:
    """
    A client that keeps what comes.

    @ivar got: all that came, after C{begins} bytes that it had.
    @ivar rooms: what it takes.
    """

    def __init__(self, begins: dict[OutputStream, bytes], room: int) -> None:
        self.stalled = self.waits = False
        self.got: dict[OutputStream, bytes] = dict(begins)
        self.rooms: dict[OutputStream, int] = dict.fromkeys(STREAMS, room)
        self.uncredited: dict[OutputStream, int] = dict.fromkeys(STREAMS, 0)
        self.reasons: list[str] = []
        self.ends: list[Command] = []
        self.begun = 0

    def room(self, stream: OutputStream) -> int:
        return self.rooms[stream]

    def began(self, command: Command, stdout: int, stderr: int, stdinRoom: int | None) -> None:
        assert (stdout, stderr) == (len(self.got["stdout"]), len(self.got["stderr"]))
        self.begun += 1

    def ready(self, command: Command) -> None:
        self.waits = True

    def takeTurn(self, command: Command) -> None:
        if self.waits and not self.stalled:
            self.waits = False
            self.waits = command.sendPiece() or self.waits

    def output(self, stream: OutputStream, data: bytes) -> None:
        assert self.begun == 1, "Output comes after the beginning."
        assert not self.ends and not self.reasons, "Nothing comes after the end."
        assert 0 < len(data) <= self.rooms[stream], "No more comes than there is room for."
        self.rooms[stream] -= len(data)
        self.uncredited[stream] += len(data)
        self.got[stream] += data

    def inputTaken(self, count: int) -> None:
        """Not of interest."""

    def inputLost(self) -> None:
        """Not of interest."""

    def ended(self, command: Command) -> None:
        self.ends.append(command)

    def left(self, reason: str) -> None:
        self.reasons.append(reason)


@dataclass
class World:
    """A kept command, what it has really written, and who follows it."""

    clock: Clock
    command: Command
    fake: FakeCommand
    written: dict[OutputStream, bytes]
    credited: dict[OutputStream, int]
    follower: Follower | None = None

    def write(self, stream: OutputStream, size: int) -> None:
        """Let it write as much of that as it may."""
        data = os.urandom(16) * (size // 16 + 1)
        while size and self.fake.allowed[stream] and not self.fake.ended:
            piece = data[: min(size, self.fake.allowed[stream])]
            size -= len(piece)
            self.written[stream] += piece
            (self.fake.out if stream == "stdout" else self.fake.err)(piece)

    def exit(self) -> None:
        """Let it end, if it has not."""
        if not self.fake.ended:
            self.fake.exit(3)

    def attach(self, back: int, room: int) -> None:
        """Follow it anew, from some bytes before what was credited."""
        have: dict[OutputStream, bytes] = {}
        for stream in STREAMS:
            at = max(0, self.credited[stream] - back)
            have[stream] = self.written[stream][:at]
        follower = Follower(have, room)
        try:
            self.command.follow(follower, len(have["stdout"]), len(have["stderr"]))
        except LimitExceeded:
            # Only what was credited may be gone.
            assert back
            return
        self.credited = {stream: len(have[stream]) for stream in STREAMS}
        self.follower = follower

    def leave(self) -> None:
        """Follow it no more."""
        if self.follower is not None:
            self.command.unfollow(self.follower)
            self.follower = None

    def credit(self, stream: OutputStream) -> None:
        """Credit what has come."""
        if self.follower is None or not self.follower.uncredited[stream]:
            return
        count, self.follower.uncredited[stream] = self.follower.uncredited[stream], 0
        self.follower.rooms[stream] += count
        if not self.follower.ends:
            self.credited[stream] += count
            self.command.granted(stream, count)

    def turn(self) -> None:
        """Let the follower have its turn, and time pass."""
        self.clock.advance(0)
        if self.follower is not None:
            self.follower.takeTurn(self.command)

    def stall(self, stalled: bool) -> None:
        """Let the follower take nothing, or all again."""
        if self.follower is not None:
            self.follower.stalled = stalled
            self.command.hold(stalled)


sizes = st.one_of(st.integers(1, 300), st.integers(1, 80_000))
steps = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(STREAMS), sizes),
    st.tuples(st.just("write"), st.sampled_from(STREAMS), sizes),
    st.tuples(st.just("credit"), st.sampled_from(STREAMS)),
    st.tuples(st.just("attach"), st.sampled_from([0, 0, 1, 100, 70_000]), sizes),
    st.tuples(st.just("leave")),
    st.tuples(st.just("stall"), st.booleans()),
    st.tuples(st.just("turn")),
    st.tuples(st.just("exit")),
)


class CommandCase(SynchronousTestCase):
    """Has commands."""

    def make(self, spool: int | None = KEPT) -> World:
        """Start a command that outlives whoever follows it; or of which nothing is kept."""
        clock = Clock()
        clock.advance(NOW)
        directory = self.mktemp()
        kept = None
        if spool is not None:
            stdout, stderr = (Spool(directory, stream, spool) for stream in STREAMS)
            kept = Kept(stdout, stderr, True, 60.0)
        self.addCleanup(shutil.rmtree, directory, True)
        command = Command("abc", "cert:anna", b"x", clock, NOW, kept)
        self.addCleanup(command.close)
        spawner = FakeSpawner()
        command.run.begin(spawner, Launch(b"/bin/sh", (b"sh",), {}), Bounds(), None)
        fake = spawner.commands[0]
        fake.start()
        nothing: dict[OutputStream, bytes] = dict.fromkeys(STREAMS, b"")
        return World(clock, command, fake, nothing, dict.fromkeys(STREAMS, 0))


class CommandTests(CommandCase):
    """L{Command}, in most cases one whose output is kept."""

    @settings(deadline=None, max_examples=150)
    @given(st.lists(steps, max_size=40))
    def test_anyOrder(self, acts: list[tuple[object, ...]]) -> None:
        """Over any disconnects all that was written arrives, once and in order, and then END."""
        world = self.make()
        does: dict[object, Callable[..., object]] = {
            "write": world.write,
            "credit": world.credit,
            "attach": world.attach,
            "leave": world.leave,
            "stall": world.stall,
            "turn": world.turn,
            "exit": world.exit,
        }
        for name, *told in acts:
            does[name](*told)
            self.assertFalse(world.fake.asked)
            for stream in STREAMS:
                if world.follower is not None:
                    got = world.follower.got[stream]
                    self.assertTrue(world.written[stream].startswith(got))
                uncredited = len(world.written[stream]) - world.credited[stream]
                self.assertLessEqual(uncredited, KEPT)
            if world.follower is not None and world.follower.ends:
                self.assertEqual(world.follower.got, world.written)
            if world.follower is not None and (world.follower.ends or world.follower.reasons):
                world.follower = None
        world.attach(0, 10**7)
        last = world.follower
        assert last is not None
        world.exit()
        while not last.ends:
            self.assertTrue(last.waits)
            last.takeTurn(world.command)
        self.assertEqual(last.got, world.written)
        for stream in STREAMS:
            tally, data = world.command.tally(stream), world.written[stream]
            self.assertEqual(
                (tally.count, tally.sha256), (len(data), hashlib.sha256(data).digest())
            )
        self.assertEqual(world.command.outcome, outcome.Exited(code=3))
        self.assertEqual(len(world.clock.getDelayedCalls()), 1)
        world.command.close()
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_bothStreams(self) -> None:
        """What there is of both streams comes in turns: neither waits for all of the other."""
        world = self.make()
        for stream in STREAMS:
            world.write(stream, 3 * 65536)
        world.attach(0, 10**7)
        assert world.follower is not None
        for _ in range(2):
            world.turn()
        self.assertTrue(all(world.follower.got.values()))

    def test_fault(self) -> None:
        """Output that we fail to take is never missing from an end that looks whole."""
        for spool in (KEPT, None):
            world = self.make(spool)
            world.attach(0, 10**7)
            follower = world.follower
            assert follower is not None
            world.fake.out(b"before")
            world.turn()
            with patch.object(Count, "add", side_effect=ZeroDivisionError):
                world.fake.out(b"lost")
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertTrue(world.fake.asked)
            world.fake.out(b"after")
            world.fake.exit(0)
            world.turn()
            self.assertEqual(len(follower.ends), 1)
            ending = world.command.outcome
            self.assertIsInstance(ending, outcome.Lost)
            self.assertIn("the service failed", str(ending))
            self.assertEqual(follower.got["stdout"], b"before")
            self.assertEqual(world.command.tally("stdout").count, len(b"before"))

    def test_allowed(self) -> None:
        """What it may write at a time is a part of what can be kept, and is asked for in steps."""
        world = self.make()
        part = KEPT // ALLOWED_PART
        self.assertEqual(world.fake.allowed, {"stdout": part, "stderr": part})
        world.write("stdout", part // 2 - 1)
        self.assertEqual(world.fake.allowed["stdout"], part - part // 2 + 1)
        world.write("stdout", 1)
        self.assertEqual(world.fake.allowed["stdout"], part)

    def test_fills(self) -> None:
        """Without anybody who follows it, it writes as much as can be kept, and not a byte more."""
        for spool in (1, 2, 15, 16, 17, 1000, KEPT):
            world = self.make(spool)
            while world.fake.allowed["stdout"]:
                world.write("stdout", 10**6)
            self.assertEqual(len(world.written["stdout"]), spool)
            self.assertFalse(world.fake.asked)
            world.command.close()

    def test_readAhead(self) -> None:
        """Who goes back to the first byte that can be had leaves room for what may be written."""
        world = self.make()
        world.attach(0, 10**7)
        for _ in range(2 * ALLOWED_PART):
            world.write("stdout", KEPT // ALLOWED_PART)
            world.turn()
            world.credit("stdout")
        end = len(world.written["stdout"])
        self.assertEqual(end, 2 * KEPT)
        refused = 0
        for at in range(0, end, 100):
            have: dict[OutputStream, bytes] = {
                "stdout": world.written["stdout"][:at],
                "stderr": b"",
            }
            try:
                world.command.follow(Follower(have, 0), at, 0)
            except LimitExceeded:
                refused += 1
                continue
            break
        self.assertGreater(refused, KEPT // 100)
        while world.fake.allowed["stdout"]:
            world.write("stdout", 10**6)
        self.assertFalse(world.fake.asked)
        world.command.close()


class CreditTests(CommandCase):
    """A command that has ended while a follower who stays takes no more of its output."""

    def left(self, spool: int | None = None) -> tuple[World, Follower]:
        """Let a command end that has written more than its follower takes."""
        world = self.make(spool)
        world.attach(0, 4)
        follower = world.follower
        assert follower is not None
        world.write("stdout", 4)
        world.fake.leave()
        return world, follower

    def test_untaken(self) -> None:
        """After a while its place is free, and its end looks like nothing that is whole."""
        world, follower = self.left()
        world.clock.advance(CREDIT_LIMIT - 1)
        self.assertFalse(world.fake.asked)
        world.clock.advance(1)
        self.assertTrue(world.fake.asked)
        self.assertEqual(follower.ends, [])
        world.fake.exit(0)
        self.assertEqual(follower.ends, [world.command])
        ending = world.command.outcome
        assert isinstance(ending, outcome.Limit)
        self.assertEqual((ending.which, ending.status), ("credit", 125))
        self.assertIn(f"{CREDIT_LIMIT:g} s", ending.reason)
        self.assertEqual(world.command.tally("stdout").count, 4)
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_taken(self) -> None:
        """Who takes the rest before that gets all of it, and the end that it had."""
        world, follower = self.left()
        world.clock.advance(CREDIT_LIMIT - 1)
        world.credit("stdout")
        world.write("stdout", 4)
        world.exit()
        self.assertEqual(follower.got, world.written)
        self.assertEqual(world.command.outcome, outcome.Exited(code=3))
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_takenInPart(self) -> None:
        """Who takes a little at a time gets no more time for all of it: a place is not held so."""
        world, _ = self.left()
        for _ in range(4):
            world.clock.advance(CREDIT_LIMIT / 4)
            world.credit("stdout")
            world.write("stdout", 4)
        self.assertTrue(world.fake.asked)

    def test_late(self) -> None:
        """What is taken once the time is over makes nothing whole of it."""
        world, _ = self.left()
        world.clock.advance(CREDIT_LIMIT)
        world.credit("stdout")
        world.write("stdout", 4)
        world.exit()
        self.assertIsInstance(world.command.outcome, outcome.Limit)

    def test_running(self) -> None:
        """A command that runs waits for its follower as long as that likes."""
        world = self.make(None)
        world.attach(0, 4)
        world.write("stdout", 4)
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_firstCause(self) -> None:
        """What had ended it for another reason before keeps that one."""
        world, _ = self.left()
        lost = outcome.Lost(reason="the service was stopped, and the command with it.")
        world.command.run.stop(lost)
        world.clock.advance(CREDIT_LIMIT)
        world.exit()
        self.assertEqual(world.command.outcome, lost)

    def test_kept(self) -> None:
        """What has room on the disk waits there, and what has none until somebody takes it."""
        for spool in (KEPT, 4):
            world, follower = self.left(spool)
            world.clock.advance(10 * CREDIT_LIMIT)
            self.assertFalse(world.fake.asked)
            world.turn()
            world.credit("stdout")
            world.write("stdout", 4)
            world.turn()
            world.exit()
            world.turn()
            self.assertEqual((len(follower.ends), len(follower.got["stdout"])), (1, 8))
            self.assertEqual(world.command.outcome, outcome.Exited(code=3))
            world.command.close()

    def test_followerLeaves(self) -> None:
        """When the follower leaves it ends at once, as any other; nobody waits any longer."""
        world, _ = self.left()
        world.leave()
        self.assertTrue(world.fake.asked)
        world.exit()
        self.assertEqual(world.clock.getDelayedCalls(), [])
