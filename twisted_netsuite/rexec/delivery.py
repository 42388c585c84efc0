"""
How output comes from a command to the one who follows it; and the plain way, straight from the
process, by which nothing waits in the server. What is kept on disk comes by L{keptdelivery}.
"""

from __future__ import annotations

from typing import Protocol

from twisted_netsuite.rexec.flow import Count
from twisted_netsuite.rexec.launch import OutputStream, RunningCommand
from twisted_netsuite.rexec.messages import Tally

STREAMS: tuple[OutputStream, OutputStream] = ("stdout", "stderr")

#: Seconds, all together, that a command which has ended waits for a client that lives, and gives
#: too little credit for what is left in its pipes. Whoever has paused a pager over a meal gets the
#: rest; what was forgotten in the evening does not hold its descriptors, and its place among the
#: commands that run, until the morning. A client that is dead, or reads nothing at all, ends with
#: its session long before, and a command that runs waits for any time.
CREDIT_LIMIT = 3600.0


class Taker(Protocol):
    """Who takes output."""

    @property
    def stalled(self) -> bool:
        """Whether nothing is to be sent for now."""

    def room(self, stream: OutputStream) -> int:
        """
        Tell how much it takes now.

        @param stream: of which.
        @return: bytes.
        """

    def output(self, stream: OutputStream, data: bytes) -> None:
        """
        Get output.

        @param stream: which.
        @param data: no more than there was room for.
        """


class Delivery(Protocol):
    """
    The way of one command's output, from its process to whoever follows it.

    A command begins and ends once; meanwhile, and after that, one or the other may follow it.
    """

    @property
    def patience(self) -> float | None:
        """Seconds that the process waits with its output after its end; C{None} for any number."""

    def tally(self, stream: OutputStream) -> Tally:
        """
        Tell what was written.

        @param stream: to which.
        @return: count and digest so far.
        """

    def written(self, stream: OutputStream) -> int:
        """
        Tell how much was written, and counts.

        @param stream: to which.
        @return: bytes so far.
        """

    def credited(self, stream: OutputStream) -> int:
        """
        Tell from where on somebody else can follow.

        @param stream: which.
        @return: bytes that were taken.
        """

    # What its process does.

    def begin(self, running: RunningCommand) -> None:
        """
        Let the process write what can be taken without anybody who follows it.

        @param running: has just begun.
        """

    def take(self, stream: OutputStream, data: bytes) -> None:
        """
        Take output, and count it.

        @param stream: which.
        @param data: comes next.
        @raise LimitExceeded: when there is no room for it; nothing of it counts then.
        @raise OSError: when it cannot be kept; nothing of it counts then.
        """

    def handOn(self, stream: OutputStream, data: bytes, taker: Taker | None) -> None:
        """
        Do with output what comes after taking it.

        @param stream: which.
        @param data: was just taken.
        @param taker: who follows the command, if somebody does.
        """

    def end(self) -> None:
        """The process has ended, and all that it wrote was taken."""

    # What those who follow do.

    def seek(self, stdout: int, stderr: int) -> None:
        """
        Go on from a place, for somebody who begins to follow.

        @param stdout: how much of standard output that one has.
        @param stderr: the same of standard error.
        @raise LimitExceeded: when what comes next is not there; nothing has changed then.
        """

    def serve(self, taker: Taker) -> None:
        """
        Let output come as the one who begins to follow takes it.

        @param taker: knows that the command runs, or has run.
        """

    def granted(self, stream: OutputStream, count: int) -> None:
        """
        Learn that output was taken, and that more is.

        @param stream: which.
        @param count: bytes.
        """

    def hold(self, held: bool) -> None:
        """
        Let nothing come of the process for now, or let it go on, where it is what has to wait.

        @param held: whether to stop.
        """

    def due(self, taker: Taker) -> bool:
        """
        Tell whether there is something to L{send}.

        @param taker: would get it.
        """

    def send(self, taker: Taker) -> bool:
        """
        Send a piece, if one is due.

        @param taker: gets it.
        @return: whether another one is.
        """

    def finish(self) -> bool:
        """
        See to it that nothing is left to be done before the end can be sent.

        @return: whether nothing is; else this is to be called again when more was sent, or when
            the delivery says that it can go on.
        """

    def leave(self) -> None:
        """Nobody follows any more: leave off what is done for that one."""

    def close(self) -> None:
        """Hold no descriptors, until they are needed again."""


class StraightDelivery:
    """
    Output that goes to who follows the command as it comes: the process waits for that one, who may
    have it read by what there is room for. It begins at the first byte, and comes once.
    """

    patience: float | None = CREDIT_LIMIT

    def __init__(self) -> None:
        self._counts: dict[OutputStream, Count] = {stream: Count() for stream in STREAMS}
        self._running: RunningCommand | None = None

    def tally(self, stream: OutputStream) -> Tally:
        """Tell count and digest of what was written so far."""
        return self._counts[stream].tally()

    def written(self, stream: OutputStream) -> int:
        """Tell how much was written so far."""
        return self._counts[stream].count

    def credited(self, stream: OutputStream) -> int:
        """Nobody else can follow."""
        return 0

    def begin(self, running: RunningCommand) -> None:
        """Wait for who follows."""
        self._running = running

    def take(self, stream: OutputStream, data: bytes) -> None:
        """Count it."""
        self._counts[stream].add(data)

    def handOn(self, stream: OutputStream, data: bytes, taker: Taker | None) -> None:
        """Send it."""
        if taker is not None:
            taker.output(stream, data)

    def end(self) -> None:
        """Nothing more comes."""
        self._running = None

    def seek(self, stdout: int, stderr: int) -> None:
        """There is one place to begin."""
        assert stdout == stderr == 0, "What was not kept comes once."

    def serve(self, taker: Taker) -> None:
        """Have read what there is room for."""
        if self._running is not None:
            self.hold(taker.stalled)
            for stream in STREAMS:
                self._running.allow(stream, taker.room(stream))

    def granted(self, stream: OutputStream, count: int) -> None:
        """Have so much more read."""
        if self._running is not None:
            self._running.allow(stream, count)

    def hold(self, held: bool) -> None:
        """Have nothing read, or go on."""
        if self._running is not None:
            (self._running.pause if held else self._running.resume)()

    def due(self, taker: Taker) -> bool:
        """Nothing waits."""
        return False

    def send(self, taker: Taker) -> bool:
        """Nothing waits."""
        return False

    def finish(self) -> bool:
        """All was sent as it came."""
        return True

    def leave(self) -> None:
        """Nothing is done for anybody."""

    def close(self) -> None:
        """There are no descriptors."""
