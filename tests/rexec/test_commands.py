"""
The commands of a service: which of them are kept and for how long, what a key promises, who may
have which, and what bounds all of them together.
"""

from __future__ import annotations

import errno
import hashlib
import os
import resource
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, succeed
from twisted.logger import capturedLogs, formatEvent

from tests.rexec.sessions import NOW, SHELL, Client, ExecCase, Sizes
from tests.trust.overseen import ANNA, BOB, CARL, HeldNotes, events
from twisted_netsuite.errors import ConfigurationError, LimitExceeded, NotFound
from twisted_netsuite.net.framed import HELLO_TIMEOUT
from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.commands import (
    DEFAULT_TTL,
    STOP_LIMIT,
    WRITE_LIMIT,
    ExecLimits,
    affordable,
)
from twisted_netsuite.rexec.delivery import CREDIT_LIMIT, STREAMS
from twisted_netsuite.rexec.keptdelivery import PIECES_A_TURN, RETRY, KeptDelivery
from twisted_netsuite.rexec.launch import Launch, OutputStream
from twisted_netsuite.rexec.ledger import LedgerUnavailable
from twisted_netsuite.rexec.messages import (
    Cancel,
    Credit,
    Detach,
    Detached,
    Kill,
    Killed,
    Start,
    Stdin,
    StdinEof,
)
from twisted_netsuite.rexec.native import OPEN_LIMIT, ExecFactory
from twisted_netsuite.rexec.process import END_LIMIT, ProcessSpawner
from twisted_netsuite.rexec.recording import Recording, RecordingFailed
from twisted_netsuite.rexec.spool import Spool
from twisted_netsuite.testing import FakeCommand
from twisted_netsuite.trust.oversight import UNSEEN
from twisted_netsuite.wire.session import MAX_DATA


class KeptCase(ExecCase):
    """A service that keeps something."""

    def setUp(self) -> None:
        super().setUp()
        self.serve(state=True)

    def tearDown(self) -> None:
        super().tearDown()
        self.serve(state=True)
        self.assertEqual(self.flushLoggedErrors(), [])

    def detached(self, client: Client, *argv: bytes, **told: Any) -> tuple[int, str, FakeCommand]:
        """Start a command that outlives its connection."""
        channel, command = self.run_(client, *argv, **{"onDisconnect": "detach", **told})
        return channel, client.started(channel).id, command

    def restart(self, **options: Any) -> None:
        """Let the server crash, and begin anew on what is on the disk."""
        self.crash()
        self.serve(state=True, **options)

    def spooled(self) -> list[str]:
        """List the commands whose output is on the disk."""
        return sorted(os.listdir(os.path.join(self.state, "spool")))

    def spool(self, id: str) -> Spool:
        """Find what is kept of a command's standard output."""
        kept = self.kept(id).kept
        assert kept is not None
        return kept.stdout

    def refusal(self, client: Client, channel: int) -> str:
        """Take why nothing was started, or followed, as a code."""
        end = client.outcome(channel)
        assert isinstance(end, outcome.NotStarted), end
        self.assertEqual(client.kinds(channel), ["End"])
        return end.code


class DetachTests(KeptCase):
    """Commands that outlive the connection that started them."""

    def test_killPolicy(self) -> None:
        """A command that is kept for its key alone ends with its connection."""
        client = self.connect()
        _channel, command = self.run_(client, key="k")
        client.reset()
        self.settle()
        self.assertTrue(command.asked)
        command.die(15)

    def test_runsOn(self) -> None:
        """A detached command runs on, is read on, and is there for another connection."""
        client = self.connect()
        _channel, id, command = self.detached(client)
        command.out(b"before ")
        self.settle()
        client.reset()
        self.settle()
        self.assertFalse(command.asked)
        command.out(b"between ")
        other = self.connect()
        again = other.attach(id, stdout=7, stderr=0)
        started = other.started(again)
        self.assertEqual((started.stdout, started.stderr, started.known), (7, 0, True))
        command.out(b"after")
        command.exit(5)
        self.settle()
        self.assertEqual(other.stdout(again), b"between after")
        end = other.end(again)
        self.assertEqual(end.outcome, outcome.Exited(code=5))
        self.assertEqual(end.stdout.count, len(b"before between after"))
        assert end.stdoutHere is not None
        self.assertEqual((end.stdoutHere.count, end.stderrHere), (13, None))

    def test_detach(self) -> None:
        """DETACH is answered, nothing comes behind the answer, and the command runs on."""
        client = self.connect()
        channel, _id, command = self.detached(client)
        client.say(Detach(channel=channel))
        command.out(b"x")
        self.settle()
        self.assertEqual(client.kinds(channel), ["Started", "Detached"])
        self.assertFalse(command.asked)
        self.assertEqual([each.attached for each in client.listings()], [False])

    def test_creditedAfterEnd(self) -> None:
        """What was taken only after END was sent counts as well, over a restart, too."""
        client = self.connect()
        channel, id, command = self.detached(client)
        command.out(b"0123456789")
        command.exit(0)
        self.settle()
        self.assertEqual(client.outcome(channel), outcome.Exited(code=0))
        client.say(Credit(channel=channel, stream="stdout", count=7))
        self.settle()
        other = self.connect()
        self.assertEqual(other.stdout(other.attach(id)), b"789")
        client.say(Credit(channel=channel, stream="stdout", count=3))
        self.settle()
        # Somebody else has come since.
        other = self.connect()
        self.assertEqual(other.stdout(other.attach(id)), b"789")
        self.restart()
        other = self.connect()
        self.assertEqual(other.stdout(other.attach(id)), b"789")

    def test_creditedWholeAfterEnd(self) -> None:
        """When all was taken after END, nothing more is expected on that channel."""
        client = self.connect()
        channel, id, command = self.detached(client)
        command.out(b"0123456789")
        command.exit(0)
        self.settle()
        client.say(Credit(channel=channel, stream="stdout", count=10))
        client.say(Credit(channel=channel, stream="stdout", count=10))
        self.settle()
        self.assertEqual(client.closed, [])
        other = self.connect()
        self.assertEqual(other.stdout(other.attach(id)), b"")

    def test_credited(self) -> None:
        """Without offsets it goes on where the last one that followed it has credited."""
        client = self.connect()
        channel, id, command = self.detached(client)
        command.out(b"0123456789")
        command.err(b"abc")
        self.settle()
        client.say(Credit(channel=channel, stream="stdout", count=4))
        client.reset()
        self.settle()
        other = self.connect()
        again = other.attach(id)
        self.assertEqual((other.started(again).stdout, other.started(again).stderr), (4, 0))
        self.assertEqual((other.stdout(again), other.stderr(again)), (b"456789", b"abc"))

    def test_creditedTooMuch(self) -> None:
        """What was credited and never sent does not count as taken."""
        client = self.connect()
        channel, id, command = self.detached(client)
        command.out(b"0123456789")
        self.settle()
        client.say(Credit(channel=channel, stream="stdout", count=1000))
        client.say(Detach(channel=channel))
        command.out(b"abc")
        again = client.attach(id)
        self.assertEqual((client.started(again).stdout, client.stdout(again)), (10, b"abc"))

    def test_fromTheStart(self) -> None:
        """What is still kept can be had again."""
        client = self.connect()
        client.takes = True
        _channel, id, command = self.detached(client)
        command.out(b"0123456789")
        self.settle()
        again = client.attach(id, stdout=0, stderr=0)
        self.assertEqual(client.stdout(again), b"0123456789")

    def test_beyond(self) -> None:
        """Nobody can go on behind the end, and the command does not notice."""
        client = self.connect()
        channel, id, command = self.detached(client)
        command.out(b"0123456789")
        self.settle()
        for told in ({"stdout": 11}, {"stderr": 1}, {"stdout": 2**62}):
            again = client.attach(id, **told)
            self.assertEqual(self.refusal(client, again), "limit")
        command.out(b"more")
        self.settle()
        self.assertEqual(client.stdout(channel), b"0123456789more")
        self.assertEqual(client.kinds(channel)[-1], "Stdout")

    def test_tooOld(self) -> None:
        """What is not kept any more is refused in words that say what is, and by its name."""
        self.stop()
        self.serve(state=True, bounds=ExecLimits(spool=100))
        client = self.connect()
        client.takes = True
        _channel, id, command = self.detached(client)
        written = 0
        while not self.spool(id).first:
            size = command.allowed["stdout"]
            command.out(b"x" * size)
            written += size
            self.settle()
        again = client.attach(id, stdout=0)
        self.assertEqual(self.refusal(client, again), "limit")
        end = client.outcome(again)
        assert isinstance(end, outcome.NotStarted)
        self.assertIn(id, end.reason)
        self.assertIn(f"to {written}", end.reason)

    def test_foreign(self) -> None:
        """A command of another identity is not there, in the same words as one that is not."""
        client, foreign = self.connect(ANNA), self.connect(BOB)
        channel, id, _command = self.detached(client)
        self.assertEqual(self.refusal(foreign, foreign.attach(id)), "not-found")
        reasons = []
        for each in (id, "a" * len(id)):
            end = foreign.outcome(foreign.attach(each))
            assert isinstance(end, outcome.NotStarted)
            reasons.append(end.reason.replace(each, "ID"))
        self.assertEqual(len(set(reasons)), 1)
        self.assertEqual(client.kinds(channel), ["Started"])

    def test_notKept(self) -> None:
        """A command that is not kept cannot be followed by others, and is not disturbed."""
        client = self.connect()
        channel, command = self.run_(client)
        other = self.connect()
        again = other.attach(client.started(channel).id)
        self.assertEqual(self.refusal(other, again), "configuration")
        command.out(b"x")
        self.settle()
        self.assertEqual(client.stdout(channel), b"x")

    def test_takenOver(self) -> None:
        """A second one that attaches gets the command, and the first is told."""
        client = self.connect()
        channel, id, command = self.detached(client)
        command.out(b"abc")
        self.settle()
        other = self.connect()
        again = other.attach(id, stdout=3)
        self.settle()
        self.assertEqual(client.kinds(channel), ["Started", "Stdout", "Detached"])
        command.out(b"def")
        self.settle()
        self.assertEqual((client.stdout(channel), other.stdout(again)), (b"abc", b"def"))
        client.reset()
        self.settle()
        self.assertFalse(command.asked)
        command.out(b"ghi")
        self.settle()
        self.assertEqual(other.stdout(again), b"defghi")

    def test_input(self) -> None:
        """Input goes on where it was: what was given is told, and its window is what is left."""
        client = self.connect()
        channel, id, command = self.detached(client, stdin=True)
        window = client.started(channel).stdin
        client.say(Stdin(channel=channel, data=b"x" * 1000))
        command.takeInput(300)
        client.reset()
        self.settle()
        self.assertFalse(command.inputEnded)
        other = self.connect()
        again = other.attach(id)
        started = other.started(again)
        self.assertEqual((started.stdinAt, started.stdin), (1000, window - 700))
        self.assertTrue(started.stdinOpen)
        other.say(Stdin(channel=again, data=b"y"), StdinEof(channel=again))
        self.assertEqual(command.written, b"x" * 1000 + b"y")
        third = self.connect()
        self.assertFalse(third.started(third.attach(id)).stdinOpen)

    def test_untaken(self) -> None:
        """A client that lives and takes no more of what has ended holds no place for good; of what
        is kept it can have the rest at any time."""
        self.stop()
        self.serve(state=True, bounds=ExecLimits(commands=4))
        client = self.connect()
        kept, _, other = self.detached(client, stdoutCredit=4)
        other.out(b"12345")
        other.exit(0)
        self.run_(client)
        channel, command = self.run_(client, stdoutCredit=4)
        command.out(b"1234")
        command.leave()
        for _ in range(int(CREDIT_LIMIT) // 10):
            self.assertFalse(command.asked)
            self.clock.advance(10)
            self.settle()
        self.assertTrue(command.asked)
        command.exit(0)
        self.settle()
        end = client.end(channel)
        assert isinstance(end.outcome, outcome.Limit)
        self.assertEqual((end.outcome.which, end.stdout.count), ("credit", 4))
        client.say(Credit(channel=kept, stream="stdout", count=1))
        self.settle()
        self.assertEqual(client.stdout(kept), b"12345")
        self.assertEqual(client.outcome(kept), outcome.Exited(code=0))
        self.run_(client)

    def test_smallWindow(self) -> None:
        """A kept command is read ahead of its client, who is sent what it takes and no more."""
        client = self.connect()
        channel, _id, command = self.detached(client, stdoutCredit=5)
        command.out(b"x" * 1000)
        command.exit()
        self.settle()
        self.assertEqual(client.kinds(channel), ["Started", "Stdout"])
        self.assertEqual(len(client.stdout(channel)), 5)
        client.say(Credit(channel=channel, stream="stdout", count=994))
        self.settle()
        self.assertEqual(len(client.stdout(channel)), 999)
        client.say(Credit(channel=channel, stream="stdout", count=1))
        self.settle()
        self.assertEqual(client.end(channel).stdout.count, 1000)

    def test_stalled(self) -> None:
        """A client that reads nothing holds no more than a little of kept output in memory."""
        client = self.connect()
        client.takes = True
        channel, _id, command = self.detached(client)
        client.stall()
        for _ in range(20):
            command.out(b"x" * MAX_DATA)
            self.settle()
        self.assertLess(len(client.pair.server.outgoing), 4 * MAX_DATA)
        client.goOn()
        self.settle()
        command.exit()
        self.settle()
        self.assertEqual(client.end(channel).stdout.count, len(client.stdout(channel)))
        self.assertEqual(len(client.stdout(channel)), 20 * MAX_DATA)

    def test_manyPieces(self) -> None:
        """Much that was kept is sent in turns, and all of it arrives."""
        client = self.connect()
        _channel, id, command = self.detached(client)
        client.reset()
        for _ in range(30):
            command.out(os.urandom(1000) * 66)
        other = self.connect()
        again = other.attach(id, stdoutCredit=4_000_000)
        self.settle()
        command.exit()
        self.settle()
        self.assertEqual(other.end(again).stdout.count, len(other.stdout(again)))

    def test_fullSpool(self) -> None:
        """A command whose output nobody takes is not read any more once so much is kept."""
        self.stop()
        self.serve(state=True, bounds=ExecLimits(spool=1000))
        client = self.connect()
        channel, _id, command = self.detached(client, stdoutCredit=0, stderrCredit=0)
        written = 0
        while command.allowed["stdout"]:
            size = command.allowed["stdout"]
            command.out(b"x" * size)
            written += size
        self.assertEqual((written, command.asked), (1000, False))
        self.assertTrue(command.allowed["stderr"])
        client.say(Credit(channel=channel, stream="stdout", count=600))
        self.settle()
        client.say(Credit(channel=channel, stream="stdout", count=600))
        self.assertTrue(command.allowed["stdout"])

    def test_attachedBack(self) -> None:
        """Who goes back to what was taken before does not end the command, however full it is."""
        self.stop()
        self.serve(state=True, bounds=ExecLimits(spool=1000))
        client = self.connect()
        client.takes = True
        _channel, id, command = self.detached(client)
        for _ in range(9):
            command.out(b"x" * min(100, command.allowed["stdout"]))
            self.settle()
        client.takes = False
        client.reset()
        self.settle()
        other = self.connect()
        again = other.attach(id, stdout=100, stdoutCredit=10)
        self.settle()
        while command.allowed["stdout"]:
            command.out(b"y" * min(100, command.allowed["stdout"]))
            self.settle()
        self.assertFalse(command.asked)
        self.assertLessEqual(self.kept(id).written("stdout") - 100, 1000)
        other.takes = True
        other.say(Credit(channel=again, stream="stdout", count=10_000))
        self.settle()
        command.out(b"z")
        command.exit()
        self.settle()
        self.assertEqual(other.outcome(again), outcome.Exited(code=0))
        self.assertTrue(other.stdout(again).endswith(b"z"))

    def test_refusedInPart(self) -> None:
        """An ATTACH that is refused for one stream changes nothing for the other."""
        client = self.connect()
        client.takes = True
        _channel, id, command = self.detached(client)
        command.out(b"0123456789")
        self.settle()
        before = self.spool(id).room()
        self.assertEqual(self.refusal(client, client.attach(id, stdout=0, stderr=5)), "limit")
        self.assertEqual(self.spool(id).room(), before)

    def test_diskFull(self) -> None:
        """Output that cannot be kept ends its command, and nothing behind it is sent."""
        client = self.connect()
        channel, id, command = self.detached(client)
        command.out(b"abc")
        spool = self.spool(id)
        with patch.object(spool, "append", side_effect=OSError(28, "No space")), capturedLogs():
            command.out(b"lost")
        self.assertTrue(command.asked)
        command.out(b"behind")
        command.die(15)
        self.settle()
        end = client.end(channel)
        assert isinstance(end.outcome, outcome.Limit)
        self.assertEqual((end.outcome.which, client.stdout(channel)), ("spool", b"abc"))
        self.assertEqual(end.stdout.count, 3)

    def test_noDescriptor(self) -> None:
        """Where no descriptor is left kept output waits until there is one."""
        client = self.connect()
        channel, _id, command = self.detached(client)
        full = OSError(errno.EMFILE, "Too many open files")
        with patch.object(Spool, "read", side_effect=full):
            command.out(b"x" * 10)
            command.exit(0)
            self.settle()
            self.clock.advance(3 * RETRY)
            self.settle()
        self.assertEqual(client.kinds(channel), ["Started"])
        self.clock.advance(RETRY)
        self.settle()
        self.assertEqual(client.kinds(channel), ["Started", "Stdout", "End"])

    def test_unreadable(self) -> None:
        """Kept output that cannot be read is told of, and the command goes on."""
        client = self.connect()
        _channel, id, command = self.detached(client)
        client.reset()
        command.out(b"abc")
        other = self.connect()
        spool = self.spool(id)
        with patch.object(spool, "read", side_effect=OSError(5, "No")), capturedLogs():
            again = other.attach(id)
            self.settle()
        self.assertEqual(other.kinds(again), ["Started", "Detached"])
        self.assertFalse(command.asked)
        third = self.connect()
        self.assertEqual(third.stdout(third.attach(id)), b"abc")


class TimeTests(KeptCase):
    """How long commands are kept."""

    def test_running(self) -> None:
        """A command that nobody comes back to is ended when its time is over, and not before."""
        client = self.connect()
        _channel, id, command = self.detached(client, ttl=60)
        self.clock.advance(100)
        client.takes = True
        self.settle()
        client.reset()
        self.settle()
        self.clock.advance(59.5)
        self.assertFalse(command.asked)
        self.clock.advance(0.5)
        self.assertTrue(command.asked)
        command.die(15)
        other = self.connect()
        again = other.attach(id)
        end = other.outcome(again) if other.kinds(again) == ["End"] else other.of(again)[-1].outcome
        assert isinstance(end, outcome.Limit)
        self.assertEqual(end.which, "ttl")

    def test_ended(self) -> None:
        """One that has ended is kept for its time, and then nothing of it is left."""
        client = self.connect()
        _channel, id, command = self.detached(client, ttl=60)
        command.out(b"abc")
        self.settle()
        client.reset()
        self.settle()
        command.exit()
        self.assertEqual(self.spooled(), [id])
        self.clock.advance(59.5)
        self.assertIn(id, self.factory.commands._byId)
        self.clock.advance(0.5)
        self.assertEqual((self.spooled(), self.sizes()), ([], Sizes(0, 0, 0, 0, 0)))
        self.restart()
        self.assertEqual(self.sizes().ids, 0)

    def test_delivered(self) -> None:
        """Also one whose end was delivered is kept for its time: a retry may still come."""
        client = self.connect()
        _channel, command = self.run_(client, key="k", ttl=60)
        command.exit()
        self.settle()
        self.clock.advance(59)
        self.assertEqual(self.sizes().keys, 1)
        self.clock.advance(1)
        self.settle()
        self.assertEqual(self.sizes().keys, 0)

    def test_anew(self) -> None:
        """Whoever follows it stops the time, which begins anew when nobody does any more."""
        client = self.connect()
        _channel, id, command = self.detached(client, ttl=60)
        for _ in range(4):
            client.reset()
            self.settle()
            self.clock.advance(50)
            client = self.connect()
            client.attach(id)
        for _ in range(20):
            self.clock.advance(5)
            self.settle()
        self.assertFalse(command.asked)

    def test_cancelledTimer(self) -> None:
        """An ATTACH that is refused does not stop the time."""
        client = self.connect()
        _channel, id, command = self.detached(client, ttl=60)
        client.reset()
        self.settle()
        other = self.connect()
        other.attach(id, stdout=1000)
        self.clock.advance(60)
        self.assertTrue(command.asked)

    def test_least(self) -> None:
        """A client gets no more time than the service gives, and a usual one if it does not say."""
        client = self.connect()
        _, id, _ = self.detached(client)
        kept = self.kept(id).kept
        assert kept is not None
        self.assertEqual(kept.ttl, DEFAULT_TTL)
        self.stop()
        self.serve(state=True, bounds=ExecLimits(ttl=10))
        client = self.connect()
        _, id, _ = self.detached(client, ttl=60)
        kept = self.kept(id).kept
        assert kept is not None
        self.assertEqual(kept.ttl, 10)

    def test_overRestart(self) -> None:
        """The time of one that has ended goes on over a restart, from when it was left last."""
        client = self.connect()
        _channel, id, command = self.detached(client, ttl=60)
        command.exit()
        self.settle()
        self.clock.advance(50)
        client.attach(id)
        self.settle()
        self.clock.advance(5)
        self.restart()
        self.clock.advance(50)
        self.assertIn(id, self.factory.commands._byId)
        self.clock.advance(10)
        self.assertEqual(self.sizes(), Sizes(0, 0, 0, 0, 0))


class KeyTests(KeptCase):
    """What an idempotency key promises."""

    def test_running(self) -> None:
        """The same key while the command runs gives the same command, from its first byte."""
        client = self.connect()
        channel, command = self.run_(client, key="k")
        command.out(b"abc")
        self.settle()
        again = client.start(key="k")
        self.settle()
        self.assertEqual(len(self.spawner.commands), 1)
        first, second = client.started(channel), client.started(again)
        self.assertEqual((second.id, first.known, second.known), (first.id, False, True))
        self.assertEqual(client.kinds(channel)[-1], "Detached")
        self.assertEqual(client.stdout(again), b"abc")
        self.assertFalse(command.asked)

    def test_ended(self) -> None:
        """The same key after the end gives the same end and output."""
        client = self.connect()
        channel, command = self.run_(client, key="k")
        command.out(b"abc")
        command.exit(9)
        self.settle()
        again = client.start(key="k")
        self.settle()
        self.assertEqual(len(self.spawner.commands), 1)
        self.assertEqual(client.end(again).outcome, client.end(channel).outcome)
        self.assertEqual(client.end(again).stdout, client.end(channel).stdout)
        self.assertEqual(client.stdout(again), b"abc")

    def test_whileAsked(self) -> None:
        """The same key while it is still asked starts one command, followed by who came last."""
        self.stop()
        self.notes = HeldNotes()
        self.serve(state=True)
        client = self.connect()
        one, two = client.start(key="k"), client.start(key="k")
        self.notes.let()
        self.settle()
        self.assertEqual(len(self.spawner.commands), 1)
        self.last().out(b"x")
        self.settle()
        self.assertEqual((client.kinds(one), client.stdout(two)), (["End"], b"x"))

    def test_oneChunk(self) -> None:
        """Two STARTs with one key in one chunk of bytes start one command."""
        client = self.connect()
        client.say(*(Start(channel=number, argv=(SHELL,), key="k") for number in (1, 2, 3)))
        self.assertEqual(len(self.spawner.commands), 1)

    def test_twoSessions(self) -> None:
        """Two sessions of one identity, at the same time, start one command."""
        self.threads.holding = True
        clients = [self.connect(), self.connect()]
        for client in clients:
            client.start(key="k")
        self.threads.let()
        self.settle()
        self.assertEqual(len(self.spawner.commands), 1)

    def test_identities(self) -> None:
        """The same key of another identity is another command."""
        for identity in (ANNA, BOB, CARL):
            self.connect(identity).start(key="k")
        self.assertEqual(len(self.spawner.commands), 3)

    def test_otherWish(self) -> None:
        """The same key with another wish is a mistake, and disturbs nothing."""
        client = self.connect()
        channel, _command = self.run_(client, key="k")
        for told in ({"env": {"LANG": b"C"}}, {"cwd": b"/"}, {"stdin": True}):
            again = client.start(key="k", **told)
            self.assertEqual(self.refusal(client, again), "configuration")
        self.assertEqual(self.refusal(client, client.start(SHELL, b"x", key="k")), "configuration")
        self.assertEqual(len(self.spawner.commands), 1)
        self.assertEqual(client.kinds(channel), ["Started"])

    def test_afterRestart(self) -> None:
        """After a restart the same key gives the end and the output that there were."""
        client = self.connect()
        channel, command = self.run_(client, key="k")
        command.out(b"abc")
        command.err(b"de")
        command.exit(9)
        self.settle()
        before = client.end(channel)
        self.restart()
        client = self.connect()
        again = client.start(key="k")
        self.settle()
        self.assertEqual(self.spawner.commands, [])
        end = client.end(again)
        self.assertEqual(
            (end.outcome, end.stdout, end.stderr),
            (
                before.outcome,
                before.stdout,
                before.stderr,
            ),
        )
        self.assertEqual((client.stdout(again), client.stderr(again)), (b"abc", b"de"))
        self.assertTrue(client.started(again).known)

    def test_lostInCrash(self) -> None:
        """What ran when the server crashed is lost, and is not run again for its key."""
        client = self.connect()
        _channel, command = self.run_(client, key="k", onDisconnect="detach")
        command.out(b"abc")
        self.restart()
        client = self.connect()
        again = client.start(key="k", onDisconnect="detach")
        self.settle()
        self.assertEqual(self.spawner.commands, [])
        end = client.end(again)
        self.assertIsInstance(end.outcome, outcome.Lost)
        self.assertEqual((client.stdout(again), end.stdout.count), (b"abc", 3))

    def test_crashWhileBegun(self) -> None:
        """A key that was promised just before a crash is not run again either."""
        client = self.connect()
        self.threads.holding = True
        client.start(key="k")
        self.threads.let()
        self.restart()
        client = self.connect()
        channel = client.start(key="k")
        self.settle()
        self.assertEqual(self.spawner.commands, [])
        self.assertIsInstance(client.of(channel)[-1].outcome, outcome.Lost)

    def test_deniedAgain(self) -> None:
        """A key that was denied can be tried again, and nothing is remembered of it."""
        client = self.connect()
        before = self.sizes()
        for _ in range(10):
            self.assertIsInstance(
                client.outcome(client.start(b"/bin/false", key="k", ttl=3600)), outcome.Denied
            )
        self.assertEqual(self.sizes(), before)
        self.run_(client, key="k")

    def test_neverStarted(self) -> None:
        """A key whose command was never started can be tried again, and nothing is remembered."""
        client = self.connect()
        before = self.sizes()
        for _ in range(10):
            channel = client.start(key="k")
            self.last().refuse(11, "run /bin/sh")
            self.settle()
            self.assertEqual(self.refusal(client, channel), "limit")
        self.assertEqual((self.sizes(), self.spooled()), (before, []))
        channel, command = self.run_(client, key="k")
        command.exit()
        self.restart()
        self.assertEqual(self.sizes().ids, 1)

    def test_goneBeforeStart(self) -> None:
        """A client that was gone before its command could start gets it with the same key."""
        client = self.connect()
        self.threads.holding = True
        client.start(key="k")
        client.reset()
        self.settle()
        self.threads.let()
        self.assertEqual(self.spawner.commands, [])
        client = self.connect()
        channel, _command = self.run_(client, key="k")
        self.assertFalse(client.started(channel).known)

    def test_ledgerFails(self) -> None:
        """What cannot be promised is not started, and can be tried again."""
        client = self.connect()
        before = self.sizes()
        self.threads.failure = LedgerUnavailable("The disk is full.")
        with capturedLogs():
            channel = client.start(key="k")
        self.settle()
        self.assertEqual(self.refusal(client, channel), "limit")
        self.assertEqual((self.spawner.commands, self.sizes()), ([], before))
        self.threads.failure = None
        self.run_(client, key="k")

    def test_ledgerFailsLater(self) -> None:
        """An end that cannot be written down is told all the same."""
        client = self.connect()
        channel, command = self.run_(client, key="k")
        self.threads.failure = LedgerUnavailable("The disk is full.")
        with capturedLogs():
            command.exit(3)
            self.settle()
        self.assertEqual(client.outcome(channel), outcome.Exited(code=3))
        self.threads.failure = None

    def test_endOnDisk(self) -> None:
        """The end is on the disk before it is told."""
        client = self.connect()
        channel, command = self.run_(client, key="k")
        self.threads.holding = True
        command.exit(3)
        self.settle()
        self.assertEqual(client.kinds(channel), ["Started"])
        self.threads.let()
        self.settle()
        self.assertEqual(client.outcome(channel), outcome.Exited(code=3))

    def test_cancelWhileWritten(self) -> None:
        """A command that is cancelled while its key is written down is not started."""
        client = self.connect()
        self.threads.holding = True
        channel = client.start(key="k")
        client.say(Cancel(channel=channel))
        self.threads.let()
        self.settle()
        self.assertEqual(self.refusal(client, channel), "cancelled")
        self.assertEqual(self.spawner.commands, [])

    def test_cancelledKept(self) -> None:
        """A command that was cancelled ended so for its key, too."""
        client = self.connect()
        channel, command = self.run_(client, key="k")
        client.say(Cancel(channel=channel))
        command.die(15)
        self.settle()
        again = client.start(key="k")
        self.settle()
        end = client.of(again)[-1].outcome
        self.assertEqual(end, outcome.Signalled(name="TERM", number=15))
        self.assertEqual(len(self.spawner.commands), 1)

    def test_nothingKept(self) -> None:
        """A service that keeps nothing says so to whom it would have to promise something."""
        self.stop()
        self.serve()
        client = self.connect()
        self.assertEqual(self.refusal(client, client.start(key="k")), "unsupported")
        self.assertEqual(self.refusal(client, client.start(onDisconnect="detach")), "unsupported")
        self.assertEqual(self.spawner.commands, [])


class ListTests(KeptCase):
    """LIST and KILL."""

    def test_list(self) -> None:
        """Each sees what is its own, the oldest first, running or ended."""
        client, foreign = self.connect(ANNA), self.connect(BOB)
        self.assertEqual(client.listings(), [])
        _channel, _command = self.run_(client, SHELL, b"-c", b"\xff")
        self.clock.advance(1)
        kept, id, other = self.detached(client)
        other.out(b"abc")
        other.err(b"d")
        self.settle()
        client.say(Detach(channel=kept))
        other.exit(2)
        self.clock.advance(1)
        self.run_(foreign)
        first, second = client.listings()
        self.assertEqual((first.command, first.outcome), (b"/bin/sh -c '\xff'", None))
        self.assertEqual((first.started, first.attached, first.ended), (NOW, True, None))
        self.assertEqual((second.id, second.stdout, second.stderr), (id, 3, 1))
        self.assertEqual(second.outcome, outcome.Exited(code=2))
        self.assertEqual((second.started, second.attached, second.ended), (NOW + 1, False, NOW + 1))
        self.assertEqual(len(foreign.listings()), 1)

    def test_long(self) -> None:
        """A long list comes whole, in records that fit in frames."""
        client = self.connect()
        ids = []
        for _ in range(100):
            channel, _command = self.run_(client, SHELL, b"x" * 10_000)
            ids.append(client.started(channel).id)
        self.assertEqual([each.id for each in client.listings()], ids)

    def test_kill(self) -> None:
        """A command is ended from elsewhere, and KILLED tells how it ended once it has."""
        client, other = self.connect(), self.connect()
        channel, command = self.run_(client)
        asked = other.open(Kill, id=client.started(channel).id)
        self.assertTrue(command.asked)
        self.assertEqual(other.of(asked), [])
        command.die(9)
        self.settle()
        killed = outcome.Signalled(name="KILL", number=9)
        self.assertEqual(other.of(asked), [Killed(channel=asked, outcome=killed)])
        self.assertEqual(client.outcome(channel), killed)
        self.assertEqual(events(self.notes), ["exec.start", "exec.kill", "exec.end"])

    def test_signal(self) -> None:
        """A signal is sent from elsewhere, and answered at once."""
        client, other = self.connect(), self.connect()
        channel, command = self.run_(client)
        asked = other.open(Kill, id=client.started(channel).id, signal="USR1")
        self.assertEqual(other.of(asked), [Killed(channel=asked)])
        self.assertEqual((command.signals, command.asked), ([10], False))

    def test_ended(self) -> None:
        """Who kills what has ended learns how, and it is forgotten with its key; a signal does
        nothing to it."""
        client = self.connect()
        _channel, id, command = self.detached(client, key="k")
        command.out(b"kept")
        command.exit(3)
        self.settle()
        for told in ({"signal": "TERM"}, {}):
            self.assertEqual(self.spooled(), [id])
            asked = client.open(Kill, id=id, **told)
            ended = outcome.Exited(code=3)
            self.assertEqual(client.of(asked), [Killed(channel=asked, outcome=ended)])
        self.settle()
        self.assertEqual((self.spooled(), client.listings()), ([], []))
        self.assertEqual(self.sizes(), Sizes(0, 0, 0, 0, self.sizes().timers))
        self.run_(client, key="k")

    def test_followed(self) -> None:
        """Who still takes the output of what is forgotten is let go."""
        client = self.connect()
        channel, id, command = self.detached(client, stdoutCredit=1)
        command.out(b"kept")
        command.exit(3)
        self.settle()
        client.open(Kill, id=id)
        self.settle()
        self.assertEqual(client.kinds(channel), ["Started", "Stdout", "Detached"])
        self.assertEqual((client.closed, self.spooled()), ([], []))

    def test_cancelled(self) -> None:
        """Who waits for the end of what it kills can cease to."""
        client = self.connect()
        channel, command = self.run_(client)
        id = client.started(channel).id
        waiting = self.factory.commands.kill(client.server._asker, id, None)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        command.exit(3)
        self.settle()
        self.assertEqual(client.outcome(channel), outcome.Exited(code=3))

    def test_nobodys(self) -> None:
        """Nobody kills what is another's, or not there."""
        client, foreign = self.connect(ANNA), self.connect(BOB)
        channel, command = self.run_(client)
        for id in (client.started(channel).id, "abc"):
            for told in ({}, {"signal": "KILL"}):
                asked = foreign.open(Kill, id=id, **told)
                error, about = foreign.errors.pop()
                self.assertIsInstance(error, NotFound)
                self.assertEqual(about, asked)
        self.assertEqual((command.asked, command.signals), (False, []))

    def test_unknownSignal(self) -> None:
        """A signal that there is not is an ERROR, and nothing is sent."""
        client = self.connect()
        channel, command = self.run_(client)
        asked = client.open(Kill, id=client.started(channel).id, signal="NONE")
        error, about = client.errors.pop()
        self.assertEqual((type(error), about, command.signals), (NotFound, asked, []))

    def test_killWhileAsked(self) -> None:
        """A command that is killed before it could be started is not started."""
        self.threads.holding = True
        client = self.connect()
        client.start(key="k")
        (listing,) = client.listings()
        asked = client.open(Kill, id=listing.id)
        self.threads.let()
        self.settle()
        (killed,) = client.all(Killed)
        self.assertEqual((killed.channel, self.spawner.commands), (asked, []))
        self.assertIsInstance(killed.outcome, outcome.NotStarted)

    def test_killerGone(self) -> None:
        """Who kills and leaves has killed."""
        client, other = self.connect(), self.connect()
        channel, command = self.run_(client)
        other.open(Kill, id=client.started(channel).id)
        other.reset()
        self.settle()
        command.die(15)
        self.settle()
        self.assertEqual(client.outcome(channel), outcome.Signalled(name="TERM", number=15))


class LimitTests(KeptCase):
    """What bounds all commands together."""

    def limit(self, client: Client, channel: int) -> str:
        """Take which limit was reached."""
        end = client.outcome(channel)
        assert isinstance(end, outcome.Limit), end
        return end.which

    def test_commands(self) -> None:
        """So many run at a time, whoever started them; one that ended makes room."""
        self.stop()
        self.serve(state=True, bounds=ExecLimits(commands=3))
        client, other = self.connect(ANNA), self.connect(BOB)
        _channel, command = self.run_(client)
        self.run_(client)
        self.run_(other)
        self.assertEqual(self.limit(other, other.start()), "commands")
        command.exit()
        self.settle()
        self.run_(other)

    def test_share(self) -> None:
        """Nobody has more than half of what may run, or be kept, so that others find room."""
        self.stop()
        self.serve(state=True, bounds=ExecLimits(commands=6, kept=4))
        client, other = self.connect(ANNA), self.connect(BOB)
        for key in "ab":
            self.run_(client, key=key)
        self.assertEqual(self.limit(client, client.start(key="c")), "kept")
        self.run_(client)
        self.assertEqual(self.limit(client, client.start()), "commands")
        for key in "ab":
            self.run_(other, key=key)

    def test_descriptors(self) -> None:
        """No more run than leave descriptors for others, and no more than are wanted."""
        for soft, most in ((1024, 128), (100, 1), (10**6, 1000), (resource.RLIM_INFINITY, 1000)):
            with patch.object(resource, "getrlimit", return_value=(soft, soft)):
                self.assertEqual(affordable(ExecLimits()), ExecLimits(commands=most))
        spawner = ProcessSpawner(self.clock)
        factory = ExecFactory(self.clock, UNSEEN, spawner=spawner)
        with (
            patch.object(resource, "getrlimit", return_value=(1024, 1024)),
            capturedLogs() as logs,
        ):
            self.successResultOf(factory.open())
        self.assertEqual(factory.commands.limits.commands, 128)
        self.assertIn("128 commands run at a time, and not 1000", formatEvent(logs[0]))

    def test_makeRoom(self) -> None:
        """The oldest that has ended makes room, if all of it was taken and it has no key."""
        self.stop()
        self.serve(state=True, bounds=ExecLimits(kept=8))
        client = self.connect()
        ids = {}
        made: tuple[tuple[str, dict[str, Any]], ...] = (
            ("untaken", {"stdoutCredit": 1}),
            ("key", {"key": "k"}),
            ("older", {}),
            ("newer", {}),
        )
        for name, told in made:
            channel, id, command = self.detached(client, **told)
            ids[name] = id
            command.out(b"xy")
            command.exit()
            self.settle()
            count = told.get("stdoutCredit", 2)
            client.say(Credit(channel=channel, stream="stdout", count=count))
            self.settle()
            self.clock.advance(1)
        client.reset()
        client = self.connect()
        for gone in ("older", "newer"):
            self.detached(client)
            self.settle()
            there = [each.id for each in client.listings()]
            self.assertNotIn(ids.pop(gone), there)
            self.assertLessEqual(set(ids.values()), set(there))
        self.assertEqual(self.limit(client, client.start(onDisconnect="detach")), "kept")
        self.assertEqual(set(self.spooled()), set(ids.values()))

    def test_commandsAsked(self) -> None:
        """Those that are still asked for count, too."""
        self.stop()
        self.notes = HeldNotes()
        self.serve(state=True, bounds=ExecLimits(commands=4))
        client = self.connect()
        client.start()
        client.start()
        self.assertEqual(self.limit(client, client.start()), "commands")
        self.notes.let()

    def test_kept(self) -> None:
        """So many are kept, running or ended; one that has expired makes room; others still run."""
        self.stop()
        self.serve(state=True, bounds=ExecLimits(kept=4))
        client = self.connect()
        _channel, command = self.run_(client, key="a", ttl=10)
        command.exit()
        self.settle()
        self.run_(client, onDisconnect="detach")
        self.assertEqual(self.limit(client, client.start(key="b")), "kept")
        self.assertEqual(self.limit(client, client.start(onDisconnect="detach")), "kept")
        self.run_(client)
        again = client.start(key="a")
        self.settle()
        self.assertEqual(client.outcome(again), outcome.Exited(code=0))
        self.clock.advance(10)
        self.settle()
        self.run_(client, key="b")

    def test_concurrency(self) -> None:
        """One identity runs so many by one rule, counted before they have started."""
        client, other = self.connect(ANNA), self.connect(BOB)
        cat = b"/bin/cat"
        client.say(*(Start(channel=number, argv=(cat,)) for number in (1, 2, 3)))
        client.channel = 3
        self.settle()
        self.assertEqual((len(self.spawner.commands), self.limit(client, 3)), (2, "concurrency"))
        self.run_(client)
        self.run_(other, cat)
        self.spawner.commands[0].exit()
        self.settle()
        self.run_(client, cat)
        self.assertEqual(self.limit(client, client.start(cat)), "concurrency")

    def test_concurrencyWhileWritten(self) -> None:
        """They count also while their keys are written down."""
        self.threads.holding = True
        client = self.connect()
        channels = [client.start(b"/bin/cat", key=key) for key in "abc"]
        self.threads.let()
        self.settle()
        self.assertEqual(len(self.spawner.commands), 2)
        self.assertEqual(self.limit(client, channels[2]), "concurrency")
        self.spawner.commands[0].exit()
        self.settle()
        self.run_(client, b"/bin/cat", key="c")

    def test_nothingLeft(self) -> None:
        """After a thousand kept commands have expired a service remembers none of them."""
        client = self.connect()
        client.takes = True
        before = self.sizes()
        for number in range(1000):
            told = {"key": str(number)} if number % 2 else {"onDisconnect": "detach"}
            channel = client.start(ttl=5, **told)
            if number % 5 == 1:
                self.last().refuse(11, "run it")
            elif number % 5 == 2:
                client.say(Cancel(channel=channel))
                self.last().die(15)
            else:
                self.last().out(b"x" * 10)
                self.last().exit()
            self.settle()
            self.clock.advance(0.1)
        self.clock.advance(5)
        self.settle()
        self.assertEqual((self.sizes(), self.spooled()), (before, []))
        self.assertEqual(client.server._channels, {})


class OpeningTests(KeptCase):
    """The moment in which what an earlier run has kept is found."""

    def test_tooEarly(self) -> None:
        """Who comes while it is being found waits, and finds it."""
        client = self.connect()
        _, id, command = self.detached(client)
        command.out(b"kept")
        command.exit(0)
        self.settle()
        self.stop()
        self.serve(state=True)
        self.stop()
        self.threads.holding = True
        opened = self.factory.open()
        client = self.knock()
        self.assertNoResult(client.greeted)
        self.threads.let()
        self.successResultOf(opened)
        self.settle()
        self.successResultOf(client.greeted)
        self.assertEqual(client.stdout(client.attach(id, stdout=0)), b"kept")

    def test_goneTooEarly(self) -> None:
        """Who leaves while it waits is not missed."""
        self.stop()
        self.threads.holding = True
        opened = self.factory.open()
        client = self.knock()
        client.reset()
        self.settle()
        self.failureResultOf(client.greeted)
        self.threads.let()
        self.successResultOf(opened)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_tooLong(self) -> None:
        """Who waits for too long is told whose fault that is; who has left is not remembered."""
        self.stop()
        self.threads.holding = True
        opened = self.factory.open()
        client, gone = self.knock(), self.knock()
        self.clock.advance(HELLO_TIMEOUT)
        gone.reset()
        self.settle()
        self.assertNoResult(client.greeted)
        self.assertEqual(len(self.factory._beginnings or ()), 1)
        self.clock.advance(OPEN_LIMIT - HELLO_TIMEOUT)
        self.settle()
        failure = self.failureResultOf(client.greeted, LimitExceeded)
        self.assertIn("was not read within 30 s", failure.value.sentence)
        self.failureResultOf(gone.greeted)
        self.assertEqual(self.factory._beginnings, [])
        self.threads.let()
        self.successResultOf(opened)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_stopped(self) -> None:
        """What is found after the service was stopped is left alone."""
        _, id, command = self.detached(self.connect())
        command.exit(0)
        self.settle()
        self.stop()
        self.threads.holding = True
        opened = self.factory.open()
        stopped = self.factory.commands.stop(0)
        self.clock.advance(0)
        self.threads.let()
        self.successResultOf(opened)
        self.successResultOf(stopped)
        self.assertEqual(self.sizes(), Sizes(0, 0, 0, 0, 0))
        self.serve(state=True)
        self.assertEqual([each.id for each in self.connect().listings()], [id])

    def test_whileStopping(self) -> None:
        """A service that is begun again while it stops begins once it has stopped."""
        client = self.connect()
        channel, id, command = self.detached(client)
        stopped = self.factory.commands.stop(5)
        opened = self.factory.open()
        self.settle()
        self.assertNoResult(opened)
        self.assertEqual(self.refusal(client, client.start()), "unsupported")
        command.exit(4)
        self.settle()
        self.successResultOf(stopped)
        self.successResultOf(opened)
        again = client.attach(id)
        self.settle()
        self.assertEqual(client.outcome(again), outcome.Exited(code=4))
        self.assertEqual(client.outcome(channel), outcome.Exited(code=4))

    def test_stoppedAgain(self) -> None:
        """One that is stopped again before that is not begun."""
        self.run_(self.connect())
        stops = [self.factory.commands.stop(0)]
        opened = self.factory.open()
        stops.append(self.factory.commands.stop(0))
        self.assertIn("stopped", str(self.failureResultOf(opened, ConfigurationError)))
        self.clock.advance(0)
        self.last().die(15)
        self.settle()
        for each in stops:
            self.successResultOf(each)

    def test_lateEnd(self) -> None:
        """The end of a command that outlasted a stop forgets nothing of the one that was found."""
        client = self.connect()
        _, id, command = self.detached(client)
        with patch.object(self.spawner, "stop", return_value=succeed(None)):
            stopped = self.factory.commands.stop(0)
            self.clock.advance(STOP_LIMIT)
        self.settle()
        self.successResultOf(stopped)
        self.successResultOf(self.factory.open())
        command.die(9)
        self.settle()
        (listing,) = self.connect().listings()
        self.assertEqual(listing.id, id)


class StopTests(KeptCase):
    """What a stop leaves for the next run."""

    def test_slowEnd(self) -> None:
        """The end of a command that takes as long as any is waited for, and is there after it."""
        client = self.connect()
        _, id, command = self.detached(client)
        command.out(b"x")
        stopped = self.factory.commands.stop(0)
        self.clock.advance(0)
        self.assertTrue(command.asked)
        self.clock.advance(END_LIMIT)
        self.assertFalse(self.spawner.stopped)
        command.lose(clear=False)
        self.settle()
        self.successResultOf(stopped)
        self.successResultOf(self.factory.open())
        (listing,) = self.connect().listings()
        self.assertEqual((listing.id, listing.stdout), (id, 1))
        assert isinstance(listing.outcome, outcome.Lost)
        self.assertIn("stopped", listing.outcome.reason)

    def test_diskHangs(self) -> None:
        """A disk that does not answer keeps the service from stopping for a while only."""
        self.connect()
        self.threads.holding = True
        stopped = self.factory.commands.stop(0)
        self.clock.advance(0)
        self.assertNoResult(stopped)
        with capturedLogs() as logs:
            self.clock.advance(WRITE_LIMIT)
        self.successResultOf(stopped)
        self.assertIn("does not answer", formatEvent(logs[0]))
        self.threads.let()

    def test_lost(self) -> None:
        """The audit log has one end of each kept command that ran as the server was killed."""
        client = self.connect()
        _, id, _ = self.detached(client, SHELL, b"a b")
        _, _, command = self.detached(client)
        command.exit(0)
        self.settle()
        for restarts in (1, 2):
            self.clock.advance(1)
            self.restart()
            lost = [each for each in self.notes.records if each.get("outcome") == "lost"]
            self.assertEqual(len(lost), 1, restarts)
        self.assertEqual((lost[0]["event"], lost[0]["id"]), ("exec.end", id))
        self.assertEqual((lost[0]["identity"], lost[0]["peer"]), ("cert:anna", "-"))
        self.assertEqual(lost[0]["command"], b"/bin/sh 'a b'")
        self.assertIn("stopped", lost[0]["reason"])

    def test_digestInTurns(self) -> None:
        """What a crash has left undigested is digested before END, and never for long at a time."""
        client = self.connect()
        _, id, command = self.detached(client)
        data = os.urandom(1000) * 6000
        for at in range(0, len(data), MAX_DATA):
            command.out(data[at : at + MAX_DATA])
        self.restart()
        client = self.connect()
        turns: list[int] = []

        def turn(delivery: KeptDelivery) -> None:
            before = reads.call_count
            digest(delivery)
            turns.append(reads.call_count - before)

        digest = KeptDelivery._countOn
        with (
            patch.object(Spool, "read", autospec=True, side_effect=Spool.read) as reads,
            patch.object(KeptDelivery, "_countOn", autospec=True, side_effect=turn),
        ):
            again = client.attach(id, stdout=len(data), stderr=0)
            self.settle()
        self.assertGreater(len(turns), 2)
        self.assertEqual(max(turns), PIECES_A_TURN)
        tally = client.end(again).stdout
        self.assertEqual((tally.count, tally.sha256), (len(data), hashlib.sha256(data).digest()))

    def test_leftWhileDigested(self) -> None:
        """Who leaves meanwhile is not missed, and the next one gets the same."""
        client = self.connect()
        _, id, command = self.detached(client)
        for _ in range(30):
            command.out(b"x" * MAX_DATA)
        self.restart()
        client = self.connect()
        client.attach(id, stdout=30 * MAX_DATA)
        self.clock.advance(0)
        client.reset()
        self.settle()
        other = self.connect()
        again = other.attach(id, stdout=30 * MAX_DATA)
        self.settle()
        whole = hashlib.sha256(b"x" * 30 * MAX_DATA).digest()
        self.assertEqual(other.end(again).stdout.sha256, whole)

    def test_updates(self) -> None:
        """However often a client says how far it has come, only the last of it waits for the
        disk."""
        client = self.connect()
        channel, id, command = self.detached(client)
        command.out(b"x" * 1000)
        command.exit(0)
        self.settle()
        ledger = self.factory.commands._ledger
        assert ledger is not None
        self.threads.holding = True
        with patch.object(ledger, "update", wraps=ledger.update) as update:
            for _ in range(900):
                client.say(Credit(channel=channel, stream="stdout", count=1))
            self.assertEqual(update.call_count, 1)
            self.threads.let()
            self.settle()
            self.assertEqual(update.call_count, 2)
        self.stop()
        self.serve(state=True)
        client = self.connect()
        self.assertEqual(client.started(client.attach(id)).stdout, 900)

    def test_lastUpdate(self) -> None:
        """How far a client has come is written down also when the service stops right then."""
        client = self.connect()
        channel, id, command = self.detached(client)
        command.out(b"x" * 1000)
        command.exit(0)
        self.settle()
        self.threads.holding = True
        for _ in range(900):
            client.say(Credit(channel=channel, stream="stdout", count=1))
        stopped = self.factory.commands.stop(0)
        self.threads.let()
        self.successResultOf(stopped)
        self.stop()
        self.serve(state=True)
        client = self.connect()
        self.assertEqual(client.started(client.attach(id)).stdout, 900)

    def test_credited(self) -> None:
        """Who attaches after a stop goes on where it was, also to what had been delivered whole."""
        client = self.connect()
        channel, id, command = self.detached(client)
        command.out(b"0123456789")
        self.settle()
        client.say(Credit(channel=channel, stream="stdout", count=4))
        command.exit(1)
        self.settle()
        self.stop()
        self.serve(state=True)
        client = self.connect()
        again = client.attach(id)
        self.settle()
        self.assertEqual((client.started(again).stdout, client.stdout(again)), (4, b"456789"))
        self.assertEqual(client.outcome(again), outcome.Exited(code=1))

    def test_attached(self) -> None:
        """What was attached when the service stopped goes on at the byte that was credited."""
        client = self.connect()
        channel, id, command = self.detached(client)
        command.out(b"0123456789")
        self.settle()
        client.say(Credit(channel=channel, stream="stdout", count=6))
        self.stop()
        self.serve(state=True)
        client = self.connect()
        again = client.attach(id)
        self.settle()
        self.assertEqual((client.started(again).stdout, client.stdout(again)), (6, b"6789"))
        self.assertIsInstance(client.outcome(again), outcome.Lost)

    def test_untaken(self) -> None:
        """Output that was not taken before a stop is there after it."""
        client = self.connect()
        channel, id, command = self.detached(client, stdoutCredit=3)
        command.out(b"0123456789")
        command.exit(1)
        self.settle()
        self.assertEqual(client.stdout(channel), b"012")
        self.stop()
        self.serve(state=True)
        client = self.connect()
        again = client.attach(id, stdout=3)
        self.settle()
        self.assertEqual(client.stdout(again), b"3456789")
        self.assertEqual(client.outcome(again), outcome.Exited(code=1))

    def test_backlog(self) -> None:
        """Who still takes what was kept when the service stops may go on, while there is time."""
        for late in (False, True):
            self.stop()
            self.serve(state=True, drain=10.0)
            client = self.connect()
            channel, _, command = self.detached(client, stdoutCredit=3)
            command.out(b"0123456789")
            command.exit(1)
            self.settle()
            stopped = self.factory.abortConnections()
            self.settle()
            self.clock.advance(10 if late else 9)
            self.settle()
            if late:
                self.assertEqual(client.kinds(channel), ["Started", "Stdout", "Detached"])
                self.assertIn("is kept", client.all(Detached)[0].reason)
            else:
                self.assertNoResult(stopped)
                client.say(Credit(channel=channel, stream="stdout", count=7))
                self.settle()
                self.assertEqual(client.outcome(channel), outcome.Exited(code=1))
                self.assertEqual(client.stdout(channel), b"0123456789")
            self.clock.advance(3)
            self.settle()
            self.successResultOf(stopped)

    def test_whileWritten(self) -> None:
        """A stop while an end is written down waits for that, and leaves nothing behind."""
        client = self.connect()
        channel, _id, command = self.detached(client)
        self.threads.holding = True
        command.exit(1)
        stopped = self.factory.abortConnections()
        self.settle()
        self.assertNoResult(stopped)
        self.threads.let()
        self.settle()
        self.clock.advance(40)
        self.settle()
        self.successResultOf(stopped)
        self.assertEqual(client.outcome(channel), outcome.Exited(code=1))
        self.assertEqual(self.sizes(), Sizes(0, 0, 0, 0, 0))

    def test_damaged(self) -> None:
        """A command whose kept output is damaged still tells how it ended, and then expires."""
        client = self.connect()
        client.takes = True
        channel, command = self.run_(client, key="k", ttl=60)
        command.out(b"0123456789")
        command.exit(1)
        self.settle()
        id = client.started(channel).id
        self.stop()
        (segment,) = os.listdir(os.path.join(self.state, "spool", id))
        os.unlink(os.path.join(self.state, "spool", id, segment))
        os.mkdir(os.path.join(self.state, "spool", id, segment))
        with capturedLogs():
            self.serve(state=True)
        client = self.connect()
        self.assertEqual(self.refusal(client, client.attach(id, stdout=0)), "limit")
        again = client.attach(id, stdout=10)
        self.settle()
        self.assertEqual(client.outcome(again), outcome.Exited(code=1))
        os.rmdir(os.path.join(self.state, "spool", id, segment))
        self.clock.advance(60)
        self.settle()
        self.assertEqual((self.sizes().ids, self.spooled()), (0, []))


class Reader:
    """
    A client program that comes back as often as it takes, and counts on nothing but what it has.

    @ivar has: what has come of each stream.
    """

    def __init__(self, case: KeptCase, id: str, client: Client, channel: int) -> None:
        self._case = case
        self._id = id
        self.client = client
        self.channel = channel
        self.has: dict[OutputStream, bytes] = {"stdout": b"", "stderr": b""}
        self._before = dict(self.has)
        self._uncredited: dict[OutputStream, int] = {"stdout": 0, "stderr": 0}

    def flush(self, size: int = 1 << 16) -> None:
        """Let what is under way arrive, and take it."""
        self.client.pair.flush(size)
        for stream in STREAMS:
            come = self.client.stdout if stream == "stdout" else self.client.stderr
            now = self._before[stream] + come(self.channel)
            self._uncredited[stream] += len(now) - len(self.has[stream])
            self.has[stream] = now

    def credit(self, stream: OutputStream) -> None:
        """Let more come."""
        count, self._uncredited[stream] = self._uncredited[stream], 0
        if count and self.client.machine.isOpen:
            self.client.say(Credit(channel=self.channel, stream=stream, count=count))
            self.flush()

    def comeBack(self, told: bool, window: int) -> None:
        """Lose the connection with all that is under way, and attach by another."""
        self.client.reset()
        self._case.settle()
        self.client = self._case.connect()
        at = {"stdout": len(self.has["stdout"]), "stderr": len(self.has["stderr"])}
        self.channel = self.client.attach(
            self._id, stdoutCredit=window, stderrCredit=window, **(at if told else {})
        )
        started = self.client.started(self.channel)
        self._before = {
            "stdout": self.has["stdout"][: started.stdout],
            "stderr": self.has["stderr"][: started.stderr],
        }
        assert len(self._before["stdout"]) == started.stdout, "Nothing is left out."
        assert len(self._before["stderr"]) == started.stderr, "Nothing is left out."
        self.has = dict(self._before)
        self._uncredited = {"stdout": 0, "stderr": 0}
        self.flush()


happenings = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(STREAMS), st.integers(1, 50_000)),
    st.tuples(st.just("write"), st.sampled_from(STREAMS), st.integers(1, 50)),
    st.tuples(st.just("flush"), st.integers(1, 5000)),
    st.tuples(st.just("credit"), st.sampled_from(STREAMS)),
    st.tuples(st.just("come back"), st.booleans(), st.integers(0, 100_000)),
)


class ReconnectTests(KeptCase):
    """A command that is followed over connections that break."""

    @settings(deadline=None, max_examples=40)
    @given(st.lists(happenings, max_size=25), st.booleans())
    def test_reconnects(self, acts: list[tuple[Any, ...]], restart: bool) -> None:
        """Whenever connections break, and also after a restart, all arrives once and in order."""
        client = self.connect()
        channel, id, command = self.detached(client, stdoutCredit=100, stderrCredit=100)
        reader = Reader(self, id, client, channel)
        written: dict[OutputStream, bytes] = {"stdout": b"", "stderr": b""}

        def write(stream: OutputStream, size: int) -> None:
            data = os.urandom(8) * (size // 8 + 1)
            written[stream] += data
            (command.out if stream == "stdout" else command.err)(data)

        does: dict[str, Callable[..., None]] = {
            "write": write,
            "flush": reader.flush,
            "credit": reader.credit,
            "come back": reader.comeBack,
        }
        for name, *told in acts:
            does[name](*told)
            for stream in STREAMS:
                self.assertTrue(written[stream].startswith(reader.has[stream]))
        command.exit(3)
        if restart:
            self.restart()
        reader.comeBack(True, 10**7)
        self.settle()
        reader.flush()
        end = reader.client.end(reader.channel)
        self.assertEqual((reader.has, end.outcome), (written, outcome.Exited(code=3)))
        self.assertEqual(end.stdout.sha256, hashlib.sha256(written["stdout"]).digest())
        self.assertEqual(end.stderr.sha256, hashlib.sha256(written["stderr"]).digest())


class RecordingTests(ExecCase):
    """What has to be recorded."""

    def recorder(self, **faults: Exception) -> Callable[[str, Launch, bytes], Recording]:
        """Make recordings; what is named fails."""
        self.made: list[Recording] = []

        def record(id: str, launch: Launch, words: bytes) -> Recording:
            os.makedirs(self.state, exist_ok=True)
            if "begin" in faults:
                raise faults["begin"]
            recording = Recording(self.state, id, launch.argv, self.clock)
            self.made.append(recording)
            return recording

        return record

    def test_recorded(self) -> None:
        """What a command writes is in its recording, and that is closed with its end."""
        self.serve(recorder=self.recorder())
        client = self.connect()
        _channel, command = self.run_(client)
        command.out(b"visible")
        command.exit()
        self.settle()
        with open(self.made[0].path) as file:
            self.assertIn("visible", file.read())
        self.assertRaises(RecordingFailed, self.made[0].output, "stdout", b"x")

    def test_notBegun(self) -> None:
        """What cannot be recorded is not started, and its client is told nothing of the disk."""
        error = RecordingFailed("The command's recording cannot be written: /secret is full.")
        self.serve(recorder=self.recorder(begin=error))
        client = self.connect()
        with capturedLogs():
            channel = client.start()
        end = client.outcome(channel)
        assert isinstance(end, outcome.NotStarted)
        self.assertEqual((end.code, self.spawner.commands), ("audit-unavailable", []))
        self.assertNotIn("secret", end.reason)

    def test_fails(self) -> None:
        """What cannot be recorded any more is ended, whether a write failed or one in time."""
        for late in (False, True):
            self.serve(recorder=self.recorder())
            client = self.connect()
            channel, command = self.run_(client)
            with patch("os.write", side_effect=OSError(28, "No space")), capturedLogs():
                command.out(b"x" * (10 if late else 100_000))
                self.clock.advance(2)
            self.assertTrue(command.asked)
            self.settle()
            command.out(b"last words")
            command.die(15)
            self.settle()
            end = client.outcome(channel)
            assert isinstance(end, outcome.Limit)
            self.assertEqual(end.which, "recording")
            self.stop()
        self.serve()
