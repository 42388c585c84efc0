"""
What a connection that carries frames sends: frames, and bytes outside them, each in its turn.

What comes in is in L{net.frames}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from twisted_netsuite.errors import ConnectionFailed
from twisted_netsuite.net.eager import eagerWrite
from twisted_netsuite.net.interfaces import IStreamTransport
from twisted_netsuite.net.limits import IdleTimer
from twisted_netsuite.net.rawbytes import RawBytes
from twisted_netsuite.net.sendfile import PIECE, Part, PartSender, partOf

#: Bytes before a frame that tell its length, big-endian.
PREFIX = 4

#: Has something called when a turn of the reactor is over.
AtTurn = Callable[[Callable[[], object]], IDelayedCall]

#: Bytes of frames that are sent with one system call: it costs as much as to copy 50 KB does, so
#: with more of them little is saved, and a peer would wait for what is there.
GATHER = 64 * 1024


class _Body(NamedTuple):
    """A frame whose body follows it, and who waits for it to have been sent."""

    frame: bytes
    body: bytes | Part
    sent: Deferred[int]


class Cork:
    """
    Writes the first that comes in a turn of the reactor at once, and what follows in the same turn
    together, at its end: so one request does not wait, and hundreds cost a few system calls.

    A transport that is no socket, as under TLS, gathers by itself, and gets all at once.
    """

    def __init__(self, transport: IStreamTransport, atTurn: AtTurn) -> None:
        """
        @param transport: nobody else writes to it, unless after L{flush}.
        @param atTurn: has something called when this turn of the reactor is over.
        """
        self._eager = eagerWrite(transport)
        self._isSocket = isinstance(transport, FileDescriptor) and self._eager != transport.write
        self._atTurn = atTurn
        self._turn: IDelayedCall | None = None
        self._gathered: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """
        Write, now or at the end of this turn.

        @param data: some.
        """
        if self._turn is None:
            if self._isSocket:
                self._turn = self._atTurn(self._turnOver)
            self._eager(data)
            return
        self._gathered.append(data)
        self._size += len(data)
        if self._size >= GATHER:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._size = 0
            self._eager(data)

    def stop(self) -> None:
        """Write what was gathered; nothing follows."""
        self.flush()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _turnOver(self) -> None:
        self._turn = None
        self.flush()


class Outgoing:
    """
    Sends frames, and bytes outside them; what is sent while such bytes leave waits behind them.

    @ivar raw: the bytes outside frames that are being sent.
    @ivar stalled: whether the peer does not take what was sent; its owner says so.
    """

    def __init__(
        self,
        transport: IStreamTransport,
        atTurn: AtTurn,
        stallTimer: Callable[[], IdleTimer],
        onRaw: Callable[[], object],
        onFrames: Callable[[], object],
        onFault: Callable[[int], object],
    ) -> None:
        """
        @param transport: where to.
        @param atTurn: as L{Cork} has it.
        @param stallTimer: makes what runs while the peer has to take something; most peers always
            have.
        @param onRaw: called before bytes outside frames: the transport may have no producer then.
        @param onFrames: called after them; it calls L{flush}.
        @param onFault: called with how many fewer bytes were written than announced.
        """
        self.raw: RawBytes | PartSender | None = None
        self.stalled = False
        self._transport = transport
        self._cork = Cork(transport, atTurn)
        self._write = self._cork.write
        self._makeStall = stallTimer
        self._stall: IdleTimer | None = None
        self._stallRuns = False
        self._onRaw = onRaw
        self._onFrames = onFrames
        self._onFault = onFault
        self._behind: deque[bytes | _Body] = deque()
        #: Who waits for the peer to take what was written, and how many bytes were missing of that.
        self._waiting: list[tuple[Deferred[int], int]] = []
        self._flushing = False
        self._over = False

    def sendFrame(self, frame: bytes) -> None:
        """
        Send a frame.

        @param frame: at least one byte.
        """
        if self._over:
            return
        if self.raw is None:
            self._write(b"%b%b" % (len(frame).to_bytes(PREFIX, "big"), frame))
        else:
            self._behind.append(frame)

    def sendBody(self, frame: bytes, body: bytes | Part) -> Deferred[int]:
        """
        Send a frame and bytes behind it.

        @param frame: at least one byte; it tells how many bytes follow.
        @param body: they.
        @return: fires when they have left, and the next may be sent, with how many of them were
            missing; fails with L{ConnectionFailed}.
        """
        found = _Body(frame, body, Deferred())
        if self._over:
            found.sent.errback(_gone())
        elif self.raw is not None:
            self._behind.append(found)
        else:
            self._begin(found)
            self.settle()
        return found.sent

    def sendRaw(self, count: int) -> RawBytes:
        """
        Send bytes outside frames.

        @param count: how many.
        @return: what to write them to.
        """
        if self.raw is not None:
            raise RuntimeError("Bytes outside frames are sent already.")
        raw = RawBytes(self._transport, count, self.watchStall, self._rawEnded)
        if self._over:
            raw.stop()
        else:
            self._open(raw)
        return raw

    def flush(self) -> None:
        """Send what waits behind bytes outside frames, up to the next of them."""
        if self._flushing:
            # A body was small enough to leave at once; the loop goes on behind it.
            return
        self._flushing = True
        while self._behind and self.raw is None:
            found = self._behind.popleft()
            if isinstance(found, bytes):
                self.sendFrame(found)
            else:
                self._begin(found)
        self._flushing = False

    def settle(self) -> None:
        """Tell those whose bytes have left that more may be sent, unless the peer takes none."""
        if self.stalled:
            return
        waiting, self._waiting = self._waiting, []
        for sent, missing in waiting:
            sent.callback(missing)

    def watchStall(self, stalled: bool) -> None:
        """
        Note whether the peer has to take something.

        @param stalled: whether it has; said again when it has taken something, and more is left.
        """
        if stalled and not self._over:
            if self._stall is None:
                self._stall = self._makeStall()
            if self._stallRuns:
                self._stall.touch()
            else:
                self._stallRuns = True
                self._stall.start()
        elif self._stallRuns and self._stall is not None:
            self._stallRuns = False
            self._stall.stop()

    def stop(self) -> None:
        """Send nothing more; what has been written to the transport is left to it."""
        if self._over:
            return
        self._over = True
        self._cork.stop()
        self.watchStall(False)
        if self.raw is not None:
            self.raw.stop()
        waiting = [sent for sent, _ in self._waiting]
        waiting += [one.sent for one in self._behind if isinstance(one, _Body)]
        self._waiting.clear()
        self._behind.clear()
        for each in waiting:
            each.errback(_gone())

    def _begin(self, found: _Body) -> None:
        body = found.body
        if isinstance(body, bytes) and len(body) <= PIECE:
            # A small file is one write, and so one system call.
            prefix = len(found.frame).to_bytes(PREFIX, "big")
            self._write(b"%b%b%b" % (prefix, found.frame, body))
            self._waiting.append((found.sent, 0))
            return
        self.sendFrame(found.frame)
        part = partOf(body) if isinstance(body, bytes) else body
        sender = PartSender(
            self._transport,
            part,
            self.watchStall,
            lambda left: self._partEnded(sender, found.sent, left),
        )
        self._open(sender)
        sender.start()

    def _open(self, raw: RawBytes | PartSender) -> None:
        self._cork.flush()
        self.raw = raw
        self.watchStall(False)
        self._onRaw()

    def _partEnded(self, sender: PartSender, sent: Deferred[int], left: int) -> None:
        if left:
            sent.errback(_gone())
            return
        self._waiting.append((sent, sender.missing))
        self._rawEnded(0)
        self.settle()

    def _rawEnded(self, left: int) -> None:
        if left:
            self._onFault(left)
            return
        self.raw = None
        self.watchStall(False)
        self._onFrames()


def _gone() -> ConnectionFailed:
    return ConnectionFailed("The session ended before all of this was sent.")
