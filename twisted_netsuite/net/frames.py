"""
Frames over a stream: four bytes of length, big-endian, then so many bytes; not what is in them.

The same at both ends. What a peer can cost here is bounded: bytes by the limit of a frame, time by
a deadline for each, turns of the reactor by a number of frames, and answers by not reading on while
they are not taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer, IReactorTime
from twisted.protocols.basic import Int32StringReceiver
from zope.interface import implementer

from twisted_netsuite.errors import LimitExceeded, NetsuiteError, ProtocolError, TimedOut
from twisted_netsuite.net.eager import eagerWrite
from twisted_netsuite.net.interfaces import IStreamTransport
from twisted_netsuite.net.rawbytes import RawBytes
from twisted_netsuite.wire.session import MAX_FIRST_FRAME

#: Seconds from the first byte of a frame to its last: the largest frame over 300 kbit/s.
FRAME_TIMEOUT = 30.0

#: Frames that are served before other work of the process gets its turn: at some 10 us for the
#: smallest, less than a millisecond.
FRAMES_A_TURN = 64

#: Seconds in which a peer has to take what Twisted has buffered for it, which is 64 KiB and one
#: frame at the most: a slow link can, and what a dead peer holds is freed.
STALL_TIMEOUT = 60.0

#: Bytes of frames that are sent to a peer that takes none before nothing is read from it either:
#: what a service that reads on meanwhile has to say beside its bulk data is small.
MAX_BEHIND = 256 * 1024


@implementer(IPushProducer)
class FrameReceiver(Int32StringReceiver):
    """
    One end of a connection that carries frames.

    What Twisted's receiver does with bytes it does not do: that one joins all it has of a frame at
    each read, which for a frame in small pieces takes a time that grows with its square.

    It is the producer of its own answers: while the peer does not take them, nothing is read.

    @ivar clock: tells and waits for time.
    @ivar MAX_LENGTH: bytes of a frame, both ways.
    @ivar readsOn: whether frames are taken also while the peer takes none, up to L{MAX_BEHIND}. For
        services that send bulk data both ways: were each end to wait for the other to take what it
        has, both would wait for ever. They stop their bulk data in L{writingChanged}.
    """

    transport: IStreamTransport
    clock: IReactorTime
    MAX_LENGTH = MAX_FIRST_FRAME
    readsOn: ClassVar[bool] = False
    _over = False
    _registered = False
    _parsing = False
    _served = 0
    _stalled = False
    _behind = 0
    _held = False
    _notRead = False
    _nextTurn: IDelayedCall | None = None
    _stallEnd: IDelayedCall | None = None
    _begun: float | None = None
    _check: IDelayedCall | None = None
    _raw: RawBytes | None = None
    _behindRaw: list[bytes]
    _write: Callable[[bytes], object] | None = None
    #: What has come of a frame or of its length, how many bytes that is, and how many it will be.
    _partial: list[bytes]
    _kept = 0
    _wanted = Int32StringReceiver.prefixLength
    _inPrefix = True

    # What a subclass says.

    def frameReceived(self, frame: bytes) -> None:
        """
        Take a frame; nothing is raised.

        @param frame: what it holds, at least one byte.
        """
        raise NotImplementedError

    def frameFault(self, error: NetsuiteError) -> None:
        """
        End the connection: what the peer sends are no frames, or too large or too slow.

        @param error: what is wrong.
        """
        raise NotImplementedError

    def answersNotTaken(self) -> None:
        """Give the peer up: it has not taken anything for too long."""
        raise NotImplementedError

    def rawFault(self, error: NetsuiteError) -> None:
        """
        Cut the connection off: more or fewer bytes than were announced stand outside frames, and
        whatever is sent from here on would be taken for something else.

        @param error: what is wrong.
        """
        raise NotImplementedError

    def bytesReceived(self) -> None:
        """Note a sign of life."""

    def readingChanged(self, reading: bool) -> None:
        """
        Note that reading has stopped because of the peer or the service, or goes on.

        @param reading: whether it goes on.
        """

    def writingChanged(self, taken: bool) -> None:
        """
        Note that the peer does not take what was sent, or has taken it.

        @param taken: whether it has.
        """

    # What a subclass calls.

    @property
    def stalled(self) -> bool:
        """Whether the peer does not take what was sent."""
        return self._stalled

    def sendFrame(self, frame: bytes) -> None:
        """
        Send a frame.

        @param frame: at least one byte.
        @raise LimitExceeded: when it is larger than the other end would take.
        """
        if len(frame) > self.MAX_LENGTH:
            raise LimitExceeded(
                f"A record of {len(frame)} bytes fits in no frame of {self.MAX_LENGTH}; send less "
                "at once."
            )
        if self._raw is None:
            self._send(frame)
        elif not self._over:
            self._behindRaw.append(frame)
        if self._stalled:
            self._behind += len(frame)
            self._balance()

    def sendRaw(self, count: int) -> IConsumer:
        """
        Send bytes outside frames, after the frames that were sent.

        Frames that are sent meanwhile wait for the last of the bytes, and nothing is read.

        @param count: how many; the other end has to know.
        @return: what to write them to, with or without a producer; C{unregisterProducer} is its
            end, as with C{FileSender}.
        """
        if self._raw is not None:
            raise RuntimeError("Bytes outside frames are sent already.")
        self._behindRaw = []
        self._raw = RawBytes(self.transport, count, self._watchStall, self._rawEnded)
        if self._over:
            self._raw.stop()
            return self._raw
        if self._registered:
            self.transport.unregisterProducer()
        # What has stalled stays so until they have left: more of it would only wait behind them.
        self._watchStall(False)
        self._balance()
        return self._raw

    def hold(self, held: bool) -> None:
        """
        Stop to read, or go on.

        @param held: whether frames have to wait.
        """
        self._held = held
        self._balance()

    def stopFrames(self) -> None:
        """Take no further frame; what comes is read and dropped, and what is buffered is sent."""
        if self._over:
            return
        self._over = True
        for call in (self._nextTurn, self._stallEnd, self._check):
            if call is not None and call.active():
                call.cancel()
        if self._raw is not None:
            self._raw.stop()
            self._behindRaw.clear()
        elif self._registered:
            self.transport.unregisterProducer()
        if self.paused:
            self.transport.resumeProducing()
        # Ends the loop that may be running below.
        self.paused = True
        self._partial.clear()
        self._kept = 0

    @property
    def inFrame(self) -> bool:
        """Whether a frame has begun and not ended."""
        return (self._kept > 0 or not self._inPrefix) and not self._over

    # What the transport calls.

    def makeConnection(self, transport: Any) -> None:
        """Have nothing of any frame yet."""
        self._partial = []
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes."""
        if self._over:
            return
        if not self._registered and self._raw is None:
            # Not before: TLS asks its producer to pause at a write during the handshake, and were
            # we not to read then, the handshake would never end.
            self._registered = True
            self.transport.registerProducer(self, True)
        self.bytesReceived()
        self._parse(data)

    def stringReceived(self, string: bytes) -> None:
        """Take a frame."""
        self._served += 1
        if self._served == FRAMES_A_TURN and self._nextTurn is None:
            self._nextTurn = self.clock.callLater(0, self._takeTurn)
            self._balance()
        if string:
            self.frameReceived(string)
        else:
            self.frameFault(ProtocolError("A frame of 0 bytes holds no record."))

    def lengthLimitExceeded(self, length: int) -> None:
        """Refuse a frame before it comes."""
        self.frameFault(
            LimitExceeded(
                f"A frame of {length} bytes was announced; 1 to {self.MAX_LENGTH} are accepted."
            )
        )

    def pauseProducing(self) -> None:
        """Make no answers: the peer does not take them."""
        if self._stalled:
            # Twisted says so again at each write.
            return
        self._stalled = True
        self._behind = 0
        self._watchStall(True)
        self._balance()
        self.writingChanged(False)

    def resumeProducing(self) -> None:
        """Go on: the peer has taken them."""
        self._stalled = False
        self._watchStall(False)
        self._balance()
        self.writingChanged(True)

    def stopProducing(self) -> None:
        """The connection is lost: the protocol hears of that itself."""

    def _send(self, frame: bytes) -> None:
        if self._write is None:
            self._write = eagerWrite(self.transport)
        self._write(b"%b%b" % (len(frame).to_bytes(self.prefixLength, "big"), frame))

    def _watchStall(self, stalled: bool) -> None:
        if not stalled:
            if self._stallEnd is not None and self._stallEnd.active():
                self._stallEnd.cancel()
            self._stallEnd = None
        elif self._stallEnd is None and not self._over:
            self._stallEnd = self.clock.callLater(STALL_TIMEOUT, self._stalledTooLong)

    def _rawEnded(self, left: int) -> None:
        """Go on with frames."""
        if left:
            what = f"{left} fewer" if left > 0 else f"{-left} more"
            self.rawFault(
                ProtocolError(f"{what} bytes were written outside frames than announced.")
            )
            return
        self._raw = None
        self._watchStall(False)
        stalled, self._stalled = self._stalled, False
        if self._registered:
            self.transport.registerProducer(self, True)
        for frame in self._behindRaw:
            self._send(frame)
        self._balance()
        if stalled and not self._stalled:
            self.writingChanged(True)

    def _stalledTooLong(self) -> None:
        self._stallEnd = None
        self.answersNotTaken()

    def _takeTurn(self) -> None:
        self._nextTurn = None
        self._balance()

    def _balance(self) -> None:
        """Read only while there is somewhere to write, somebody to take it, and a turn."""
        if self._over:
            return
        stalled = self._stalled and not (self.readsOn and self._behind <= MAX_BEHIND)
        waiting = stalled or self._held or self._raw is not None
        if waiting != self._notRead:
            self._notRead = waiting
            self.readingChanged(not waiting)
        paused = waiting or self._nextTurn is not None
        if paused == self.paused:
            return
        self.paused = paused
        if paused:
            # From here on it is we who make the peer wait.
            self._begun = None
            self.transport.pauseProducing()
            return
        if not self._parsing:
            # What is here already comes first; it may well pause us again.
            self._parse(b"")
        if not self.paused:
            self.transport.resumeProducing()

    def _parse(self, data: bytes) -> None:
        self._served = 0
        self._parsing = True
        try:
            self._takeFrames(data)
        finally:
            self._parsing = False
        if not self._over:
            self._watch()

    def _takeFrames(self, data: bytes) -> None:
        """Take all frames that are whole now, and keep the rest, whose pieces are joined once."""
        if self._kept >= self._wanted:
            # What came while nothing was taken.
            data = b"".join([*self._partial, data])
            self._partial.clear()
            self._kept = 0
        at = 0
        while not self.paused and self._kept + len(data) - at >= self._wanted:
            taken = self._wanted - self._kept
            found = data[at : at + taken]
            if self._partial:
                found = b"".join([*self._partial, found])
                self._partial.clear()
                self._kept = 0
            at += taken
            if self._inPrefix:
                length = int.from_bytes(found, "big")
                if length > self.MAX_LENGTH:
                    self.lengthLimitExceeded(length)
                    return
                self._inPrefix, self._wanted = length == 0, length or self.prefixLength
                if length:
                    continue
                found = b""
            else:
                self._inPrefix, self._wanted = True, self.prefixLength
            self.stringReceived(found)
        if at < len(data) and not self._over:
            rest = data[at:] if at else data
            self._partial.append(rest)
            self._kept += len(rest)

    def _watch(self) -> None:
        """Note when the frame that is coming in began; one pending call serves all of them."""
        if not self.inFrame or self.paused:
            self._begun = None
            return
        if self._served or self._begun is None:
            self._begun = self.clock.seconds()
        if self._check is None:
            self._check = self.clock.callLater(FRAME_TIMEOUT, self._checkFrame)

    def _checkFrame(self) -> None:
        self._check = None
        if self._begun is None:
            return
        left = self._begun + FRAME_TIMEOUT - self.clock.seconds()
        if left > 0:
            self._check = self.clock.callLater(left, self._checkFrame)
            return
        self.frameFault(TimedOut(f"A frame was not complete within {FRAME_TIMEOUT:g} s."))
