"""
Output that is kept on disk, on its way to whoever follows the command: it is read from there, so
that others can follow later, also after another start of the server. How it is kept is in L{spool}.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_netsuite.errors import LimitExceeded
from twisted_netsuite.rexec.delivery import STREAMS, Taker
from twisted_netsuite.rexec.flow import Count
from twisted_netsuite.rexec.launch import OutputStream, RunningCommand
from twisted_netsuite.rexec.messages import PIECE, Tally
from twisted_netsuite.rexec.spool import Spool

#: Pieces of kept output that are read and digested before other work of the process gets its turn:
#: a megabyte, which takes some milliseconds.
PIECES_A_TURN = 9

#: A process may write this part of what can be kept before it is let on: so most of that stays free
#: for those who come back to what was taken, and who must not take the room that it was given.
ALLOWED_PART = 16

#: Seconds after which kept output is read again that no descriptor was left for: others let go of
#: theirs in less.
RETRY = 1.0

#: What the system says when it, or this process, has no more descriptors.
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


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

    def spool(self, stream: OutputStream) -> Spool:
        """
        Find a stream.

        @param stream: which.
        @return: what is kept of it.
        """
        return self.stdout if stream == "stdout" else self.stderr


class KeptDelivery:
    """
    Output that is kept, and read again for who follows the command.

    The process waits for nobody, as long as there is room on the disk for what it writes.

    @ivar patience: C{None}: where there is no room its time to live bounds it.
    """

    patience: float | None = None

    def __init__(
        self,
        id: str,
        kept: Kept,
        clock: IReactorTime,
        goOn: Callable[[], object],
        unreadable: Callable[[Exception], object],
    ) -> None:
        """
        @param id: the name of the command.
        @param kept: where its output is kept.
        @param clock: waits for time.
        @param goOn: called when there may be something to be sent, or to L{finish}, again.
        @param unreadable: called when what comes next cannot be read.
        """
        self._id = id
        self._kept = kept
        self._clock = clock
        self._goOn = goOn
        self._unreadable = unreadable
        self._running: RunningCommand | None = None
        self._counts: dict[OutputStream, Count] = {stream: Count() for stream in STREAMS}
        #: What an earlier run of the server has counted.
        self._tallies: dict[OutputStream, Tally] = {}
        self._restored = False
        #: Bytes that may be read of the process and have not come.
        self._allowed: dict[OutputStream, int] = dict.fromkeys(STREAMS, 0)
        #: The next byte for who follows, and the first that was not credited.
        self._sent: dict[OutputStream, int] = dict.fromkeys(STREAMS, 0)
        self._credited: dict[OutputStream, int] = dict.fromkeys(STREAMS, 0)
        #: The streams, and first the one that was not sent of last.
        self._turns = list(STREAMS)
        #: Until then nothing is read.
        self._nextTurn: IDelayedCall | None = None

    def restore(
        self, tallies: dict[OutputStream, Tally | None], credited: dict[OutputStream, int]
    ) -> None:
        """
        Go on with what an earlier run of the server has kept.

        @param tallies: what was written; C{None} where nobody knows: then what is kept counts.
        @param credited: how far those who followed the command had come.
        """
        self._restored = True
        self._tallies = {stream: tally for stream, tally in tallies.items() if tally is not None}
        self._credited = dict(credited)
        for stream in STREAMS:
            if stream not in self._tallies:
                self._counts[stream].count = self._kept.spool(stream).first

    def tally(self, stream: OutputStream) -> Tally:
        """Tell count and digest of what was written so far."""
        return self._tallies.get(stream) or self._counts[stream].tally()

    def written(self, stream: OutputStream) -> int:
        """Tell the place behind the last byte to be sent: what a fault left uncounted is not."""
        return self._kept.spool(stream).end if self._restored else self._counts[stream].count

    def credited(self, stream: OutputStream) -> int:
        """Tell how far those who follow have come."""
        return self._credited[stream]

    # What its process does.

    def begin(self, running: RunningCommand) -> None:
        """Let it write as much as can be kept."""
        self._running = running
        for stream in STREAMS:
            self._refill(stream)

    def take(self, stream: OutputStream, data: bytes) -> None:
        """Keep it; what cannot be kept is neither counted nor sent."""
        self._allowed[stream] -= len(data)
        self._kept.spool(stream).append(data)
        self._counts[stream].add(data)

    def handOn(self, stream: OutputStream, data: bytes, taker: Taker | None) -> None:
        """Let more be written: this comes from the disk, as soon as it is its turn."""
        self._refill(stream)

    def end(self) -> None:
        """Nothing more is written."""
        self._running = None

    def _refill(self, stream: OutputStream) -> None:
        """Let the process write on, as far as that can be kept."""
        if self._running is None:
            return
        spool = self._kept.spool(stream)
        part = max(1, spool.limit // ALLOWED_PART)
        more = min(part, spool.room()) - self._allowed[stream]
        # In large steps: each costs calls of the system.
        if more > 0 and self._allowed[stream] <= part // 2:
            self._allowed[stream] += more
            self._running.allow(stream, more)

    # What those who follow do.

    def seek(self, stdout: int, stderr: int) -> None:
        """Go on from a place that is still kept, and keep what comes behind it."""
        self._requireKept("stdout", stdout)
        self._requireKept("stderr", stderr)
        self._kept.stdout.hold(stdout)
        self._kept.stderr.hold(stderr)
        self._sent = {"stdout": stdout, "stderr": stderr}
        self._credited = dict(self._sent)

    def _requireKept(self, stream: OutputStream, offset: int) -> None:
        spool = self._kept.spool(stream)
        first = spool.first
        if self._running is not None:
            # What it may write already has its room.
            first = max(first, spool.end + self._allowed[stream] - spool.limit)
        if not first <= offset <= spool.end:
            raise LimitExceeded(
                f"The {stream} of the command {self._id} is kept from byte {first} to {spool.end}; "
                f"go on from there, and not from {offset}."
            )

    def serve(self, taker: Taker) -> None:
        """What is there is sent piece by piece, in turn with others."""

    def granted(self, stream: OutputStream, count: int) -> None:
        """Let go of what was taken, if its place is needed, and of no more than was sent."""
        self._credited[stream] = min(self._credited[stream] + count, self._sent[stream])
        self._kept.spool(stream).release(self._credited[stream])
        self._refill(stream)

    def hold(self, held: bool) -> None:
        """It is the disk that waits."""

    def due(self, taker: Taker) -> bool:
        """Tell whether there is a piece that the one who follows takes."""
        return self._next(taker) is not None

    def _next(self, taker: Taker) -> OutputStream | None:
        """Tell of which stream the next piece is: of both in turn, where both have some."""
        if self._nextTurn is not None:
            return None
        for stream in self._turns:
            if self._sent[stream] < self.written(stream) and taker.room(stream):
                return stream
        return None

    def send(self, taker: Taker) -> bool:
        """Read a piece, and send it."""
        stream = self._next(taker)
        if stream is None:
            return False
        at = self._sent[stream]
        size = min(taker.room(stream), PIECE, self.written(stream) - at)
        try:
            data = self._kept.spool(stream).read(at, size)
        except (OSError, ValueError) as error:
            self._notRead(error)
            return False
        self._turns.reverse()
        self._sent[stream] = at + len(data)
        taker.output(stream, data)
        return self._next(taker) is not None

    def finish(self) -> bool:
        """Have all sent, and digested as well where an earlier run came not so far."""
        if self._nextTurn is not None:
            return False
        if any(self._sent[stream] < self.written(stream) for stream in STREAMS):
            return False
        if self._uncounted() is None:
            return True
        self._nextTurn = self._clock.callLater(0, self._countOn)
        return False

    def _uncounted(self) -> OutputStream | None:
        """Tell a stream whose digest is still to be made."""
        if self._restored:
            for stream in STREAMS:
                behind = self._counts[stream].count < self._kept.spool(stream).end
                if behind and stream not in self._tallies:
                    return stream
        return None

    def _countOn(self) -> None:
        """Digest some more of what is kept: where some of it is not, the digest is of the rest."""
        self._nextTurn = None
        for _ in range(PIECES_A_TURN):
            stream = self._uncounted()
            if stream is None:
                break
            count = self._counts[stream]
            try:
                count.add(self._kept.spool(stream).read(count.count, PIECE))
            except (OSError, ValueError) as error:
                self._notRead(error)
                return
        self._goOn()

    def _notRead(self, error: Exception) -> None:
        """Try it again later, where all that is missing is a descriptor; else give it up."""
        if isinstance(error, OSError) and error.errno in _NO_DESCRIPTORS:
            self._nextTurn = self._clock.callLater(RETRY, self._again)
        else:
            self._unreadable(error)

    def _again(self) -> None:
        self._nextTurn = None
        self._goOn()

    def leave(self) -> None:
        """Read nothing for anybody."""
        if self._nextTurn is not None and self._nextTurn.active():
            self._nextTurn.cancel()
        self._nextTurn = None

    def close(self) -> None:
        """Hold no descriptors: what is read or kept later opens its files anew."""
        self._kept.stdout.close()
        self._kept.stderr.close()
