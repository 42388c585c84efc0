"""
One command of the native exec service, apart from any connection: who follows it, and what becomes
of it when nobody does. Its process is a L{run}, and the way of its output a L{delivery}.

Without a spool its output goes to the one who follows it, as fast as that one takes it, and it ends
with it. With one, output is kept on disk and sent from there, so that others can follow later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.delivery import STREAMS, Delivery, StraightDelivery, Taker
from twisted_netsuite.rexec.keptdelivery import Kept, KeptDelivery
from twisted_netsuite.rexec.launch import OutputStream
from twisted_netsuite.rexec.messages import Tally
from twisted_netsuite.rexec.outcome import Outcome
from twisted_netsuite.rexec.run import Run


class Follower(Taker, Protocol):
    """Who follows a command: one channel of one connection."""

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
    @ivar run: its process, and what is done with it.
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
        self.onEnded: Callable[[Command], Deferred[None]] = lambda _: succeed(None)
        self.onLeft: Callable[[Command], None] = lambda _: None
        self.onExpired: Callable[[Command], None] = lambda _: None
        self._clock = clock
        self._delivery: Delivery = (
            StraightDelivery()
            if kept is None
            else KeptDelivery(id, kept, clock, self._pump, self._unreadable)
        )
        self.run = Run(id, clock, self._delivery, self)
        self._follower: Follower | None = None
        #: What its follower had of each stream when it began to follow.
        self._begins = (0, 0)
        self._begun = False
        self._over = False
        self._restored = False
        self._closed = False
        self._followed = 0
        #: Who has followed it to its end, and may take the last of its output after that.
        self._last: Follower | None = None
        self._expiry: IDelayedCall | None = None
        self._waiting: list[Deferred[Outcome]] = []
        self._watching: list[Deferred[None]] = []

    # What those who keep it ask.

    @property
    def attached(self) -> bool:
        """Whether somebody follows it."""
        return self._follower is not None

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
        return self._delivery.tally(stream)

    def written(self, stream: OutputStream) -> int:
        """
        Tell how much it has written.

        @param stream: to which.
        @return: bytes so far.
        """
        return self._delivery.written(stream)

    @property
    def delivered(self) -> bool:
        """Whether it has ended, and those who followed it have taken all that it wrote."""
        taken = all(self.credited(stream) == self.written(stream) for stream in STREAMS)
        return self._over and self._follower is None and taken

    def credited(self, stream: OutputStream) -> int:
        """
        Tell how far those who follow it have come.

        @param stream: in which.
        @return: bytes that were taken.
        """
        return self._delivery.credited(stream)

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
        assert isinstance(self._delivery, KeptDelivery), "What was not kept is gone."
        self._delivery.restore(tallies, credited)
        self._begun = not isinstance(why, outcome.NotStarted | outcome.Denied)
        self._over = self._restored = True

    def expireIn(self, seconds: float) -> None:
        """
        Keep it for a while, if nobody comes to follow it.

        @param seconds: how long.
        """
        self._stopExpiry()
        if not self._closed:
            self._expiry = self._clock.callLater(seconds, self._expired)

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
        self.run.close()
        self._stopExpiry()
        self._delivery.leave()
        self._delivery.close()

    # What who follows it does.

    def follow(self, follower: Follower, stdout: int, stderr: int) -> None:
        """
        Follow it, in place of who has until now.

        @param follower: who.
        @param stdout: how much of its output the follower has.
        @param stderr: the same of standard error.
        @raise LimitExceeded: when what comes next is not kept any more, or has not been written.
        """
        self._delivery.seek(stdout, stderr)
        self._begins = stdout, stderr
        self._followed += 1
        self._last = None
        previous, self._follower = self._follower, follower
        if previous is not None:
            previous.left("Another connection follows this command now.")
        self._stopExpiry()
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
        if self.kept is not None and self.outlives:
            self.expireIn(self.kept.ttl)
        else:
            self.run.cancel()
        self._tellLeft()

    def granted(self, stream: OutputStream, count: int) -> None:
        """
        Learn that the follower has taken output, and takes more.

        @param stream: which.
        @param count: bytes.
        """
        self._delivery.granted(stream, count)
        self._pump()

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
        self._delivery.granted(stream, count)
        self.onLeft(self)
        return any(self.credited(stream) < self.written(stream) for stream in STREAMS)

    def hold(self, held: bool) -> None:
        """
        Let nothing be read of what is not kept for now, or let it go on.

        @param held: whether to stop.
        """
        self._delivery.hold(held)

    def sendPiece(self) -> bool:
        """
        Send the follower a piece of what is kept, if it takes any; the end behind the last.

        @return: whether there is more that it takes.
        """
        follower = self._follower
        if follower is None:
            return False
        more = self._delivery.send(follower)
        if not more:
            self._finish()
        return more

    # What becomes of its run.

    def runStarted(self) -> None:
        """It runs."""
        self._begun = True
        if self._follower is not None:
            self._greet(self._follower)

    def runWrote(self, stream: OutputStream, data: bytes) -> None:
        """It has written."""
        self._delivery.handOn(stream, data, self._follower)
        self._pump()

    def runTookInput(self, count: int) -> None:
        """It has room for more input."""
        if self._follower is not None:
            self._follower.inputTaken(count)

    def runLostInput(self) -> None:
        """It reads no more."""
        if self._follower is not None:
            self._follower.inputLost()

    def runEnded(self, how: Outcome) -> None:
        """It has ended."""
        self.outcome = how
        self.endedAt = self._clock.seconds()
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
            self._delivery.close()
            self.expireIn(self.kept.ttl)

    def _greet(self, follower: Follower) -> None:
        follower.began(self, *self._begins, self.run.inputRoom)
        self._delivery.serve(follower)
        self._pump()

    def _pump(self) -> None:
        """Have sent what is kept, as far as the follower takes it, and the end behind all of it."""
        follower = self._follower
        if follower is not None and self._delivery.due(follower):
            follower.ready(self)
        else:
            self._finish()

    def _finish(self) -> None:
        """Send the end, once it is there and all before it was sent."""
        follower = self._follower
        if follower is None or not self._over or not self._delivery.finish():
            return
        self._follower = None
        self._last = follower
        follower.ended(self)
        self._letGo()
        self._rest()
        self._tellLeft()

    def _letGo(self) -> None:
        self._follower = None
        self._delivery.leave()
        self.onLeft(self)

    def _tellLeft(self) -> None:
        watching, self._watching = self._watching, []
        for each in watching:
            each.callback(None)

    def _unreadable(self, error: Exception) -> None:
        follower = self._follower
        assert follower is not None, "Nothing is read for nobody."
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
        self.run.stop(outcome.Limit(which="ttl", reason=reason))

    def _stopExpiry(self) -> None:
        if self._expiry is not None and self._expiry.active():
            self._expiry.cancel()
