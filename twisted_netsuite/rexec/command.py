"""
One command of the native exec service, apart from any connection: what it writes, who follows it,
what bounds it, and how it ends.

Without a spool its output goes to the one who follows it, as fast as that one takes it, and it ends
with it. With one, output is kept on disk and sent from there, so that others can follow later.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_netsuite.errors import Denied, LimitExceeded, NotFound
from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.flow import Count
from twisted_netsuite.rexec.launch import (
    Ending,
    Exited,
    Launch,
    Lost,
    NotStarted,
    OutputStream,
    RunningCommand,
    Signalled,
    Spawner,
    TerminalSize,
)
from twisted_netsuite.rexec.messages import PIECE, Tally
from twisted_netsuite.rexec.outcome import Outcome, notStarted
from twisted_netsuite.rexec.recording import Recording, RecordingFailed
from twisted_netsuite.rexec.serverchannel import INPUT_WINDOW
from twisted_netsuite.rexec.spool import Spool
from twisted_netsuite.wire.text import cleanText, shortened

#: Pieces of kept output that are read and digested before other work of the process gets its turn:
#: a megabyte, which takes some milliseconds.
PIECES_A_TURN = 16

#: A process may write this part of what can be kept before it is let on: so most of that stays free
#: for those who come back to what was taken, and who must not take the room that it was given.
ALLOWED_PART = 16

#: Seconds after which kept output is read again that no descriptor was left for: others let go of
#: theirs in less.
RETRY = 1.0

#: What the system says when it, or this process, has no more descriptors.
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

#: The code of what was cancelled before it could be started.
CANCELLED = "cancelled"

STREAMS: tuple[OutputStream, OutputStream] = ("stdout", "stderr")


class Follower(Protocol):
    """Who follows a command: one channel of one connection."""

    @property
    def stalled(self) -> bool:
        """Whether nothing is to be sent for now."""

    def room(self, stream: OutputStream) -> int:
        """
        Tell how much it takes now.

        @param stream: of which.
        @return: bytes.
        """

    def began(self, command: Command, stdout: int, stderr: int, stdinRoom: int | None) -> None:
        """
        Learn that the command runs, or has run.

        @param command: which.
        @param stdout: where its output begins here.
        @param stderr: the same of standard error.
        @param stdinRoom: bytes of input that it takes; C{None} when that has ended.
        """

    def ready(self, command: Command) -> None:
        """
        Learn that there is kept output to be sent, which comes by L{Command.sendPiece} as soon as
        it is this follower's turn.

        @param command: of which.
        """

    def output(self, stream: OutputStream, data: bytes) -> None:
        """
        Get output.

        @param stream: which.
        @param data: no more than there was room for.
        """

    def inputTaken(self, count: int) -> None:
        """
        Learn that input was taken.

        @param count: bytes.
        """

    def inputLost(self) -> None:
        """Learn that the command reads no more."""

    def ended(self, command: Command) -> None:
        """
        Learn that it has ended, after all of its output.

        @param command: which.
        """

    def left(self, reason: str) -> None:
        """
        Learn that nothing more comes, while the command runs on.

        @param reason: a sentence.
        """


@dataclass(frozen=True)
class Bounds:
    """
    What bounds one command.

    @ivar seconds: how long it may run; C{None} for ever.
    @ivar output: bytes that it may write on both streams together; C{None} for any.
    """

    seconds: float | None = None
    output: int | None = None


@dataclass(frozen=True)
class Kept:
    """
    What is kept of a command on disk.

    @ivar stdout: its standard output.
    @ivar stderr: its standard error.
    @ivar detaches: whether it outlives its connection.
    @ivar ttl: seconds that it is kept without anybody who follows it, running or ended.
    """

    stdout: Spool
    stderr: Spool
    detaches: bool
    ttl: float


class Command:
    """
    One command.

    @ivar id: its name.
    @ivar owner: the identity that it belongs to, as text.
    @ivar words: what was asked for, as a person would type it, cut.
    @ivar argv: the same, word by word; C{None} of one that an earlier run has started.
    @ivar kept: where its output is kept, if that is.
    @ivar startedAt: when it was asked for, in seconds since 1970.
    @ivar endedAt: the same of its end.
    @ivar outcome: how it has ended; C{None} while it has not.
    @ivar inputAt: bytes of input that it was given.
    @ivar pty: whether it has a terminal.
    @ivar cancelled: whether it was asked to end.
    @ivar onEnded: called once when it has ended, before its follower is told; what it returns is
        waited for, so that what is promised of an end is on the disk.
    @ivar onLeft: called when who has followed it does so no more.
    @ivar onExpired: called when it has been kept for as long as it was to be.
    """

    log = Logger()

    def __init__(
        self,
        id: str,
        owner: str,
        words: bytes,
        clock: IReactorTime,
        startedAt: float,
        kept: Kept | None = None,
    ) -> None:
        """
        @param id: its name.
        @param owner: who it belongs to.
        @param words: what was asked for.
        @param clock: tells and waits for time.
        @param startedAt: the time of day, in seconds since 1970.
        @param kept: where its output is kept, if that is.
        """
        self.id = id
        self.owner = owner
        self.words = words
        self.argv: tuple[bytes, ...] | None = None
        self.kept = kept
        self.startedAt = startedAt
        self.endedAt: float | None = None
        self.outcome: Outcome | None = None
        self.inputAt = 0
        self.pty = False
        self.cancelled = False
        self.onEnded: Callable[[Command], Deferred[None]] = lambda _: succeed(None)
        self.onLeft: Callable[[Command], None] = lambda _: None
        self.onExpired: Callable[[Command], None] = lambda _: None
        self._clock = clock
        self._tallies: dict[OutputStream, Tally] = {}
        self._counts: dict[OutputStream, Count] = {stream: Count() for stream in STREAMS}
        self._follower: Follower | None = None
        #: The next byte of kept output for the follower, and the first that it has not credited.
        self._sent: dict[OutputStream, int] = dict.fromkeys(STREAMS, 0)
        self._credited: dict[OutputStream, int] = dict.fromkeys(STREAMS, 0)
        #: Bytes that may be read of the process and have not come.
        self._allowed: dict[OutputStream, int] = dict.fromkeys(STREAMS, 0)
        self._running: RunningCommand | None = None
        self._begun = False
        self._over = False
        self._restored = False
        self._closed = False
        self._followed = 0
        #: The streams, and first the one that was not sent of last.
        self._turns = list(STREAMS)
        self._unread = 0
        self._inputOpen = False
        #: Whether some of its output could not be taken: then none behind that is.
        self._cutShort = False
        #: Who has followed it to its end, and may take the last of its output after that.
        self._last: Follower | None = None
        self._bounds = Bounds()
        self._recording: Recording | None = None
        self._cause: Outcome | None = None
        self._timer: IDelayedCall | None = None
        self._expiry: IDelayedCall | None = None
        self._nextTurn: IDelayedCall | None = None
        self._waiting: list[Deferred[Outcome]] = []
        self._watching: list[Deferred[None]] = []

    # What those who keep it ask.

    @property
    def attached(self) -> bool:
        """Whether somebody follows it."""
        return self._follower is not None

    @property
    def running(self) -> bool:
        """Whether it was started, or is being started, and has not ended."""
        return self._running is not None

    @property
    def settled(self) -> bool:
        """Whether it has ended, and all that is promised of that was done."""
        return self._over

    @property
    def outlives(self) -> bool:
        """Whether it goes on, or what came of it stays, when who follows it leaves."""
        return self.kept is not None and (self.kept.detaches or self._over)

    @property
    def known(self) -> bool:
        """Whether it was followed before, or started by an earlier run of the server."""
        return self._restored or self._followed > 1

    def tally(self, stream: OutputStream) -> Tally:
        """
        Tell what it has written.

        @param stream: to which.
        @return: count and digest so far.
        """
        return self._tallies.get(stream) or self._counts[stream].tally()

    def written(self, stream: OutputStream) -> int:
        """
        Tell how much it has written.

        @param stream: to which.
        @return: bytes so far.
        """
        if self.kept is not None:
            return self._spool(stream).end
        return self._counts[stream].count

    @property
    def delivered(self) -> bool:
        """Whether it has ended, and those who followed it have taken all that it wrote."""
        taken = all(self._credited[stream] == self.written(stream) for stream in STREAMS)
        return self._over and self._follower is None and taken

    def credited(self, stream: OutputStream) -> int:
        """
        Tell how far those who follow it have come.

        @param stream: in which.
        @return: bytes that were taken.
        """
        return self._credited[stream]

    def whenEnded(self) -> Deferred[Outcome]:
        """
        Wait for its end.

        @return: one for each caller; fires with how it ended.
        """
        if self._over:
            assert self.outcome is not None
            return succeed(self.outcome)
        ended: Deferred[Outcome] = Deferred()
        self._waiting.append(ended)
        return ended

    def whenLeft(self) -> Deferred[None]:
        """
        Wait until nobody follows it.

        @return: one for each caller; fires when all of it was sent, or its follower has left.
        """
        if self._follower is None:
            return succeed(None)
        left: Deferred[None] = Deferred()
        self._watching.append(left)
        return left

    # What those who keep it do.

    def begin(
        self, spawner: Spawner, launch: Launch, bounds: Bounds, recording: Recording | None
    ) -> None:
        """
        Start it.

        @param spawner: starts it.
        @param launch: what, and how.
        @param bounds: bounds it.
        @param recording: takes what it writes, too.
        """
        self.pty = launch.terminal is not None
        self._inputOpen = launch.stdin or self.pty
        self._bounds = bounds
        self._recording = recording
        if recording is not None:
            recording.onFailed = self._notRecorded
        self._running = spawner(launch, self)

    def refuse(self, why: Outcome) -> None:
        """
        End it before it was started.

        @param why: what becomes its outcome.
        """
        self._cause = why
        self.commandEnded(Lost())

    def restore(
        self,
        why: Outcome,
        endedAt: float,
        tallies: dict[OutputStream, Tally | None],
        credited: dict[OutputStream, int],
    ) -> None:
        """
        Be a command that ended in an earlier run of the server.

        @param why: how it ended.
        @param endedAt: when, in seconds since 1970.
        @param tallies: what it had written; C{None} where nobody knows: then what is kept counts.
        @param credited: how far those who followed it had come.
        """
        self.outcome, self.endedAt = why, endedAt
        self._tallies = {stream: tally for stream, tally in tallies.items() if tally is not None}
        self._credited = dict(credited)
        for stream in STREAMS:
            if self.kept is not None and stream not in self._tallies:
                self._counts[stream].count = self._spool(stream).first
        self._begun = not isinstance(why, outcome.NotStarted | outcome.Denied)
        self._over = self._restored = True

    def expireIn(self, seconds: float) -> None:
        """
        Keep it for a while, if nobody comes to follow it.

        @param seconds: how long.
        """
        self._stop(self._expiry)
        if not self._closed:
            self._expiry = self._clock.callLater(seconds, self._expired)

    def stop(self, why: Outcome) -> None:
        """
        End it for a reason, which becomes its outcome.

        @param why: the reason; of several the first holds.
        """
        if self._cause is None:
            self._cause = why
        self.cancel()

    def keepNothing(self) -> None:
        """Keep nothing of it, as it never was started."""
        self.close()
        self.kept = None

    def dismiss(self, reason: str) -> None:
        """
        Let go of who follows it.

        @param reason: a sentence for that one.
        """
        follower = self._follower
        if follower is not None:
            self._letGo()
            follower.left(reason)
            self._tellLeft()

    def close(self) -> None:
        """Forget it: nobody follows it, and nothing of it runs."""
        self._closed = True
        for call in (self._timer, self._expiry, self._nextTurn):
            self._stop(call)
        if self.kept is not None:
            self.kept.stdout.close()
            self.kept.stderr.close()

    # What who follows it does.

    def follow(self, follower: Follower, stdout: int, stderr: int) -> None:
        """
        Follow it, in place of who has until now.

        @param follower: who.
        @param stdout: how much of its output the follower has.
        @param stderr: the same of standard error.
        @raise LimitExceeded: when what comes next is not kept any more, or has not been written.
        """
        if self.kept is not None:
            self._requireKept("stdout", stdout)
            self._requireKept("stderr", stderr)
            self.kept.stdout.hold(stdout)
            self.kept.stderr.hold(stderr)
        self._followed += 1
        self._last = None
        previous, self._follower = self._follower, follower
        if previous is not None:
            previous.left("Another connection follows this command now.")
        self._sent = {"stdout": stdout, "stderr": stderr}
        self._credited = dict(self._sent)
        self._stop(self._expiry)
        if self._begun:
            self._greet(follower)
        elif self._over:
            self._pump()

    def unfollow(self, follower: Follower) -> None:
        """
        Follow it no more: it ends, unless it was to outlive that.

        @param follower: who does; nothing happens when somebody else has come.
        """
        if self._follower is not follower:
            return
        self._letGo()
        if self.kept is None or not self.outlives:
            self.cancel()
        else:
            self.expireIn(self.kept.ttl)
        self._tellLeft()

    def granted(self, stream: OutputStream, count: int) -> None:
        """
        Learn that the follower has taken output, and takes more.

        @param stream: which.
        @param count: bytes.
        """
        if self.kept is None:
            if self._running is not None and self._begun:
                self._running.allow(stream, count)
            return
        self._credit(stream, count)
        self._refill(stream)
        self._pump()

    def _credit(self, stream: OutputStream, count: int) -> None:
        self._credited[stream] = min(self._credited[stream] + count, self._sent[stream])
        self._spool(stream).release(self._credited[stream])

    def acknowledged(self, follower: Follower, stream: OutputStream, count: int) -> bool:
        """
        Learn that who followed it to its end has taken output since.

        @param follower: who; nothing happens when somebody else has come.
        @param stream: which.
        @param count: bytes.
        @return: whether more of that is to come.
        """
        if self._last is not follower or self._closed:
            return False
        self._credit(stream, count)
        self.onLeft(self)
        return self._credited != self._sent

    def hold(self, held: bool) -> None:
        """
        Let nothing be read of what is not kept for now, or let it go on.

        @param held: whether to stop.
        """
        if self.kept is None and self._running is not None:
            (self._running.pause if held else self._running.resume)()

    def sendPiece(self) -> bool:
        """
        Send the follower a piece of what is kept, if it takes any; the end behind the last.

        @return: whether there is more that it takes.
        """
        follower = self._follower
        stream = None if follower is None else self._next(follower)
        if follower is None or stream is None:
            return False
        at = self._sent[stream]
        size = min(follower.room(stream), PIECE, self._until(stream) - at)
        try:
            data = self._spool(stream).read(at, size)
        except (OSError, ValueError) as error:
            self._notRead(follower, error)
            return False
        self._turns.reverse()
        self._sent[stream] = at + len(data)
        follower.output(stream, data)
        if self._next(follower) is not None:
            return True
        self._finish()
        return False

    def write(self, data: bytes) -> None:
        """
        Give it input.

        @param data: what it will read.
        """
        self.inputAt += len(data)
        if self._running is not None and self._inputOpen:
            self._unread += len(data)
            self._running.write(data)

    def endInput(self) -> None:
        """Let it come to the end of its input."""
        self._inputOpen = False
        if self._running is not None:
            self._running.endInput()

    def signal(self, number: int) -> None:
        """
        Send it a signal.

        @param number: the signal.
        """
        if self._running is not None:
            self._running.signal(number)

    def resize(self, size: TerminalSize) -> None:
        """
        Change the size of its terminal.

        @param size: the new one.
        """
        if self._running is not None and self.pty:
            self._running.resize(size)
            self._record(lambda recording: recording.resize(size.cols, size.rows))

    def cancel(self) -> None:
        """End it: TERM, and KILL after a grace; what was not started will not be."""
        self.cancelled = True
        if self._running is not None:
            self._running.end()

    # What comes of the process.

    def started(self, pid: int) -> None:
        """It runs."""
        self._begun = True
        if self._bounds.seconds is not None:
            late = outcome.TimedOut(seconds=self._bounds.seconds)
            self._timer = self._clock.callLater(self._bounds.seconds, self.stop, late)
        for stream in STREAMS:
            self._refill(stream)
        if self._follower is not None:
            self._greet(self._follower)

    def outReceived(self, data: bytes) -> None:
        """It has written."""
        self._take("stdout", data)

    def errReceived(self, data: bytes) -> None:
        """It has written to standard error."""
        self._take("stderr", data)

    def stdinTaken(self, count: int) -> None:
        """It has room for more input."""
        self._unread -= count
        if self._follower is not None:
            self._follower.inputTaken(count)

    def stdinLost(self) -> None:
        """It reads no more."""
        self._inputOpen = False
        self._unread = 0
        if self._follower is not None:
            self._follower.inputLost()

    def commandEnded(self, ending: Ending) -> None:
        """It has ended."""
        self._stop(self._timer)
        self._running = None
        self._inputOpen = False
        self.outcome = self._cause or outcomeOf(ending)
        self.endedAt = self._clock.seconds()
        self._record(lambda recording: recording.close())
        self.onEnded(self).addBoth(self._settled)

    def _settled(self, _: object) -> None:
        self._over = True
        self._pump()
        if self._follower is None:
            self._rest()
        assert self.outcome is not None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self.outcome)

    def _rest(self) -> None:
        """Wait, as something that has ended, for others to follow, and hold no descriptors."""
        if self.kept is not None:
            self.kept.stdout.close()
            self.kept.stderr.close()
            self.expireIn(self.kept.ttl)

    def _take(self, stream: OutputStream, data: bytes) -> None:
        """Take output; when that fails nothing of it counts, and no end of it looks whole."""
        if self._cutShort:
            return
        try:
            self._received(stream, data)
        except Exception:
            self.log.failure("command {id}: this is a fault of the service", id=self.id)
            self._cutShort = True
            self.stop(outcome.Lost(reason="the service failed; its log says why."))

    def _received(self, stream: OutputStream, data: bytes) -> None:
        self._allowed[stream] -= len(data)
        most = self._bounds.output
        if most is not None:
            left = most - sum(count.count for count in self._counts.values())
            if len(data) > left:
                data = data[: max(0, left)]
                reason = f"it wrote more than {most} bytes."
                self.stop(outcome.Limit(which="output", reason=reason))
        if not data or not self._takes(stream, data):
            return
        self._counts[stream].add(data)
        self._record(lambda recording: recording.output(stream, data))
        if self.kept is not None:
            self._refill(stream)
            self._pump()
        elif self._follower is not None:
            self._follower.output(stream, data)

    def _takes(self, stream: OutputStream, data: bytes) -> bool:
        """Keep output, if it is to be; what cannot be kept is neither counted nor sent."""
        if self.kept is None:
            return True
        try:
            self._spool(stream).append(data)
        except (LimitExceeded, OSError) as error:
            if self._cause is None:
                self.log.error(
                    "command {id}: ended, its output cannot be kept: {reason}",
                    id=self.id,
                    reason=str(error),
                )
            self._cutShort = True
            reason = "its output cannot be kept, as the server's disk takes no more."
            self.stop(outcome.Limit(which="spool", reason=reason))
            return False
        return True

    def _greet(self, follower: Follower) -> None:
        room = INPUT_WINDOW - self._unread if self._inputOpen else None
        follower.began(self, self._sent["stdout"], self._sent["stderr"], room)
        if self._running is None or self.kept is not None:
            self._pump()
        else:
            self.hold(follower.stalled)
            for stream in STREAMS:
                self._running.allow(stream, follower.room(stream))

    def _refill(self, stream: OutputStream) -> None:
        """Let the process write on, as far as that can be kept."""
        if self.kept is None or self._running is None:
            return
        spool = self._spool(stream)
        part = max(1, spool.limit // ALLOWED_PART)
        more = min(part, spool.room()) - self._allowed[stream]
        # In large steps: each costs calls of the system.
        if more > 0 and self._allowed[stream] <= part // 2:
            self._allowed[stream] += more
            self._running.allow(stream, more)

    def _requireKept(self, stream: OutputStream, offset: int) -> None:
        spool = self._spool(stream)
        first = spool.first
        if self._running is not None:
            # What it may write already has its room.
            first = max(first, spool.end + self._allowed[stream] - spool.limit)
        if not first <= offset <= spool.end:
            raise LimitExceeded(
                f"The {stream} of the command {self.id} is kept from byte {first} to {spool.end}; "
                f"go on from there, and not from {offset}."
            )

    def _pump(self) -> None:
        """Have sent what is kept, as far as the follower takes it, and the end behind all of it."""
        follower = self._follower
        if follower is not None and self._next(follower) is not None:
            follower.ready(self)
        else:
            self._finish()

    def _next(self, follower: Follower) -> OutputStream | None:
        """Tell of which stream the next piece is: of both in turn, where both have some."""
        if self.kept is None or not self._begun or self._nextTurn is not None:
            return None
        for stream in self._turns:
            if self._sent[stream] < self._until(stream) and follower.room(stream):
                return stream
        return None

    def _until(self, stream: OutputStream) -> int:
        """Tell the place behind the last byte to be sent: what a fault left uncounted is not."""
        return self._spool(stream).end if self._restored else self._counts[stream].count

    def _finish(self) -> None:
        """Send the end, once it is there and all before it was sent."""
        follower = self._follower
        if follower is None or not self._over or self._nextTurn is not None:
            return
        if self.kept is not None and self._begun:
            if any(self._sent[stream] < self._until(stream) for stream in STREAMS):
                return
            if self._uncounted():
                self._nextTurn = self._clock.callLater(0, self._countOn)
                return
        self._follower = None
        self._last = follower
        follower.ended(self)
        self._letGo()
        self._rest()
        self._tellLeft()

    def _uncounted(self) -> OutputStream | None:
        """Tell a stream whose digest is still to be made, as an earlier run came not so far."""
        if self._restored:
            for stream in STREAMS:
                behind = self._counts[stream].count < self._spool(stream).end
                if behind and stream not in self._tallies:
                    return stream
        return None

    def _countOn(self) -> None:
        """Digest some more of what is kept: where some of it is not, the digest is of the rest."""
        self._nextTurn = None
        follower = self._follower
        for _ in range(PIECES_A_TURN):
            stream = self._uncounted()
            if stream is None:
                break
            count = self._counts[stream]
            try:
                count.add(self._spool(stream).read(count.count, PIECE))
            except (OSError, ValueError) as error:
                assert follower is not None, "Without one nothing is digested."
                self._notRead(follower, error)
                return
        self._finish()

    def _letGo(self) -> None:
        self._follower = None
        self._stop(self._nextTurn)
        self._nextTurn = None
        self.onLeft(self)

    def _tellLeft(self) -> None:
        watching, self._watching = self._watching, []
        for each in watching:
            each.callback(None)

    def _notRead(self, follower: Follower, error: Exception) -> None:
        """Try it again later, where all that is missing is a descriptor; else give it up."""
        if isinstance(error, OSError) and error.errno in _NO_DESCRIPTORS:
            self._nextTurn = self._clock.callLater(RETRY, self._again)
        else:
            self._unreadable(follower, error)

    def _again(self) -> None:
        self._nextTurn = None
        self._pump()

    def _unreadable(self, follower: Follower, error: Exception) -> None:
        self.log.error(
            "command {id}: its kept output cannot be read: {reason}", id=self.id, reason=str(error)
        )
        follower.left("What the server has kept of the output cannot be read.")
        self.unfollow(follower)

    def _expired(self) -> None:
        self._expiry = None
        if self._over:
            self.onExpired(self)
            return
        assert self.kept is not None
        reason = f"nobody has followed it for {self.kept.ttl:g} s."
        self.stop(outcome.Limit(which="ttl", reason=reason))

    def _record(self, act: Callable[[Recording], object]) -> None:
        if self._recording is not None:
            try:
                act(self._recording)
            except RecordingFailed as error:
                self._notRecorded(error)

    def _notRecorded(self, error: RecordingFailed) -> None:
        """What cannot be recorded is not to run."""
        self._recording = None
        self.log.error("command {id}: {reason}", id=self.id, reason=error.sentence)
        reason = "it cannot be recorded any more, and nothing runs here that is not."
        self.stop(outcome.Limit(which="recording", reason=reason))

    def _spool(self, stream: OutputStream) -> Spool:
        assert self.kept is not None
        return self.kept.stdout if stream == "stdout" else self.kept.stderr

    def _stop(self, call: IDelayedCall | None) -> None:
        if call is not None and call.active():
            call.cancel()


#: What the system says when a program, or the directory to run in, is not there.
_MISSING = (errno.ENOENT, errno.ENOTDIR)

#: Why something was not started, of what was tried and what the system says.
_COULD_NOT = "it could not {}: {}."

#: What it says when it may not be used.
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ELOOP)


def outcomeOf(ending: Ending) -> Outcome:
    """
    Tell how a command has ended, for the wire.

    @param ending: what the system says.
    @return: the outcome.
    """
    match ending:
        case Exited():
            return outcome.Exited(code=ending.code)
        case Signalled():
            name = signalName(ending.number)
            return outcome.Signalled(name=name, number=ending.number, core=ending.core)
        case NotStarted(own=True):
            return notStarted("internal", "the service failed to start it; its log says why.")
        case NotStarted():
            why = os.strerror(ending.errno).lower()
            room = outcome.MAX_REASON - len(_COULD_NOT) - len(why)
            what = shortened(cleanText(ending.what), room)
            return notStarted(_codeOf(ending.errno), _COULD_NOT.format(what, why))
        case Lost():
            ended = "so it was ended" if ending.clear else "and some of it may still run"
            return outcome.Lost(reason=f"what watched it was lost, {ended}.")


def _codeOf(number: int) -> str:
    if number in _MISSING:
        return NotFound.wireCode
    if number in _FORBIDDEN:
        return Denied.wireCode
    if number == errno.ECANCELED:
        return CANCELLED
    return LimitExceeded.wireCode


def signalName(number: int) -> str:
    """
    Name a signal.

    @param number: the signal.
    @return: without SIG; C{RTMIN+n} for those that have no other.
    """
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return f"RTMIN+{number - signal.SIGRTMIN}"


def signalNumber(name: str) -> int:
    """
    Find a signal.

    @param name: without SIG.
    @return: its number here.
    @raise NotFound: when there is none of that name.
    """
    if name.startswith("RTMIN+") and name[6:].isdigit():
        number = signal.SIGRTMIN + int(name[6:])
        if number <= signal.SIGRTMAX:
            return number
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        raise NotFound(f"There is no signal {name}; give such as TERM, INT or USR1.") from None
