"""
Frames over a stream: four bytes of length, big-endian, then so many bytes; not what is in them.

The same at both ends. What a peer can cost here is bounded: bytes by the limit of a frame, time by
a deadline for each, turns of the reactor by a number of frames, and answers by not reading on while
they are not taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.tcp import Connection
from twisted.protocols.basic import Int32StringReceiver
from zope.interface import implementer

from twisted_netsuite.errors import LimitExceeded, NetsuiteError, ProtocolError, TimedOut
from twisted_netsuite.net.interfaces import IStreamTransport
from twisted_netsuite.net.limits import IdleTimer
from twisted_netsuite.net.outgoing import Outgoing
from twisted_netsuite.net.sendfile import Part
from twisted_netsuite.wire.session import MAX_FIRST_FRAME

#: Seconds from the first byte of a frame to its last: the largest frame over 300 kbit/s.
FRAME_TIMEOUT = 30.0

#: Seconds without any of the bytes that are to come outside frames: who announces them has them at
#: hand, and even a line that loses packets carries some in that time.
RAW_TIMEOUT = 30.0

#: Bytes that are read at once while many are to come outside frames.
RAW_READ = 256 * 1024

#: Frames that are served before other work of the process gets its turn: at some 10 us for the
#: smallest, less than a millisecond.
FRAMES_A_TURN = 64

#: Seconds in which a peer has to take what Twisted has buffered for it, which is 64 KiB and one
#: frame at the most, or some of a body: a slow link can, and what a dead peer holds is freed.
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
    _behind = 0
    _held = False
    _notRead = False
    _nextTurn: IDelayedCall | None = None
    _begun: float | None = None
    _check: IDelayedCall | None = None
    _out: Outgoing
    #: Where the bytes go that stand outside frames, and how many are to come.
    _sink: Callable[[bytes | memoryview], object] | None = None
    _rawLeft = 0
    #: The connection, where it is a socket and nothing is between.
    _socket: Connection | None = None
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
        return self._out.stalled

    def sendFrame(self, frame: bytes) -> None:
        """
        Send a frame.

        @param frame: at least one byte.
        @raise LimitExceeded: when it is larger than the other end would take.
        """
        self._requireFits(frame)
        self._out.sendFrame(frame)
        self._countBehind(len(frame))

    def sendFrameWithBody(self, frame: bytes, body: bytes | Part) -> Deferred[int]:
        """
        Send a frame and a body of bytes outside frames, after all that was sent before.

        Frames and bodies that are sent meanwhile wait for the last of the bytes, in their order.
        Nothing is read meanwhile, unless the service L{readsOn}.

        @param frame: at least one byte; the other end has to learn from it how many bytes follow.
        @param body: the bytes, or where to find them.
        @return: fires when they have left and the peer takes more, with how many of them could not
            be read and were sent as zeros; at once for a small body while the peer takes all. Fails
            with L{ConnectionFailed} when the session ends before. Either way nothing uses the file
            any more.
        @raise LimitExceeded: when the frame is larger than the other end would take.
        """
        self._requireFits(frame)
        sent = self._out.sendBody(frame, body)
        self._countBehind(len(frame))
        return sent

    def sendRaw(self, count: int) -> IConsumer:
        """
        Send bytes outside frames, after the frames that were sent.

        Frames that are sent meanwhile wait for the last of the bytes, and nothing is read, unless
        the service L{readsOn}.

        @param count: how many; the other end has to know.
        @return: what to write them to, with or without a producer; C{unregisterProducer} is its
            end, as with C{FileSender}.
        """
        return self._out.sendRaw(count)

    def receiveRaw(self, count: int, sink: Callable[[bytes | memoryview], object]) -> None:
        """
        Take the next bytes from outside frames; then frames go on.

        It is called while the frame is taken that announces them, or later, if the service has held
        since then.

        @param count: how many; with 0 nothing happens.
        @param sink: gets them in pieces as they come; raises nothing. It may hold, and when it gets
            the last piece it may ask for further bytes. A C{memoryview} that is kept keeps all of
            the read that it is of.
        @raise RuntimeError: when such bytes are to come already, or a frame has begun.
        """
        if self._rawLeft:
            raise RuntimeError("Bytes outside frames are to come already.")
        if not self._inPrefix or not (self._kept == 0 or self.paused):
            raise RuntimeError("A frame has begun already.")
        if self._over or not count:
            return
        self._rawLeft, self._sink = count, sink
        if self._socket is not None and count > RAW_READ:
            # Twisted's own size costs a gigabyte a third more CPU.
            self._socket.bufferSize = RAW_READ

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
        for call in (self._nextTurn, self._check):
            if call is not None and call.active():
                call.cancel()
        if self._out.raw is None and self._registered:
            self.transport.unregisterProducer()
        self._out.stop()
        if self.paused:
            self.transport.resumeProducing()
        # Ends the loop that may be running below.
        self.paused = True
        self._partial.clear()
        self._kept = self._rawLeft = 0
        self._sink = None

    @property
    def inFrame(self) -> bool:
        """Whether a frame, or bytes outside frames, have begun and not ended."""
        begun = self._kept > 0 or not self._inPrefix or self._rawLeft > 0
        return begun and not self._over

    # What the transport calls.

    def makeConnection(self, transport: Any) -> None:
        """Have nothing of any frame yet."""
        self._partial = []
        self._socket = transport if isinstance(transport, Connection) else None
        self._out = Outgoing(
            transport,
            self._atTurn,
            self._stallTimer,
            self._rawBegins,
            self._rawEnded,
            self._miscounted,
        )
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes."""
        if self._over:
            return
        if not self._registered and self._out.raw is None:
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
        if self.stalled:
            # Twisted says so again at each write.
            return
        self._out.stalled = True
        self._behind = 0
        self._out.watchStall(True)
        self._balance()
        self.writingChanged(False)

    def resumeProducing(self) -> None:
        """Go on: the peer has taken them."""
        self._out.stalled = False
        self._out.watchStall(False)
        self._taken()

    def stopProducing(self) -> None:
        """The connection is lost: the protocol hears of that itself."""

    def _atTurn(self, act: Callable[[], object]) -> IDelayedCall:
        return self.clock.callLater(0, act)

    def _stallTimer(self) -> IdleTimer:
        return IdleTimer(self.clock, STALL_TIMEOUT, self.answersNotTaken)

    def _requireFits(self, frame: bytes) -> None:
        if len(frame) > self.MAX_LENGTH:
            raise LimitExceeded(
                f"A record of {len(frame)} bytes fits in no frame of {self.MAX_LENGTH}; send less "
                "at once."
            )

    def _countBehind(self, count: int) -> None:
        if self.stalled or self._out.raw is not None:
            self._behind += count
            self._balance()

    def _taken(self) -> None:
        self._balance()
        self.writingChanged(True)
        self._out.settle()

    def _rawBegins(self) -> None:
        """Leave the transport to bytes outside frames."""
        if self._registered:
            self.transport.unregisterProducer()
        # What has stalled stays so until they have left: more of it would only wait behind them.
        if not self.stalled:
            self._behind = 0
        self._balance()

    def _rawEnded(self) -> None:
        """Go on with frames."""
        stalled, self._out.stalled = self.stalled, False
        if self._registered:
            self.transport.registerProducer(self, True)
        self._out.flush()
        if stalled and not self.stalled:
            self._taken()
        else:
            self._balance()

    def _miscounted(self, left: int) -> None:
        what = f"{left} fewer" if left > 0 else f"{-left} more"
        self.rawFault(ProtocolError(f"{what} bytes were written outside frames than announced."))

    def _takeTurn(self) -> None:
        self._nextTurn = None
        self._balance()

    def _balance(self) -> None:
        """Read only while there is somewhere to write, somebody to take it, and a turn."""
        if self._over:
            return
        blocked = self.stalled or self._out.raw is not None
        readsOn = self.readsOn and self._behind <= MAX_BEHIND
        waiting = self._held or (blocked and not readsOn)
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
        """Take all that is whole now, and keep the rest, whose pieces are joined once."""
        if self._partial and not self.paused and (self._rawLeft or self._kept >= self._wanted):
            # What came while nothing was taken.
            data = b"".join([*self._partial, data])
            self._partial.clear()
            self._kept = 0
        at = 0
        while not self.paused:
            if self._rawLeft:
                if at == len(data):
                    break
                at = self._takeRaw(data, at)
            elif self._kept + len(data) - at >= self._wanted:
                taken = self._wanted - self._kept
                if not self._takePiece(data[at : at + taken]):
                    return
                at += taken
            else:
                break
        if at < len(data) and not self._over:
            rest = data[at:] if at else data
            self._partial.append(rest)
            self._kept += len(rest)

    def _takePiece(self, found: bytes) -> bool:
        """Take the end of a length or of a frame; tell whether there can be more."""
        if self._partial:
            found = b"".join([*self._partial, found])
            self._partial.clear()
            self._kept = 0
        if not self._inPrefix:
            self._inPrefix, self._wanted = True, self.prefixLength
            self.stringReceived(found)
            return True
        length = int.from_bytes(found, "big")
        if length > self.MAX_LENGTH:
            self.lengthLimitExceeded(length)
            return False
        self._inPrefix, self._wanted = length == 0, length or self.prefixLength
        if not length:
            self.stringReceived(b"")
        return True

    def _takeRaw(self, data: bytes, at: int) -> int:
        """Pass on what has come of the bytes outside frames; tell where that ends."""
        sink = self._sink
        assert sink is not None
        end = min(len(data), at + self._rawLeft)
        self._rawLeft -= end - at
        # Time counts anew: for the rest, and for the frame that may have begun behind it.
        self._begun = None
        if not self._rawLeft:
            self._sink = None
            if self._socket is not None:
                self._socket.bufferSize = Connection.bufferSize
        sink(data if end - at == len(data) else memoryview(data)[at:end])
        return end

    def _watch(self) -> None:
        """
        Note when the frame that is coming in began, or that some of the bytes outside frames have
        come; one pending call serves all of them.
        """
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
        limit = RAW_TIMEOUT if self._rawLeft else FRAME_TIMEOUT
        left = self._begun + limit - self.clock.seconds()
        if left > 0:
            self._check = self.clock.callLater(left, self._checkFrame)
        elif self._rawLeft:
            self.frameFault(
                TimedOut(
                    f"Nothing came for {limit:g} s, and {self._rawLeft} bytes that were announced "
                    "are missing."
                )
            )
        else:
            self.frameFault(TimedOut(f"A frame was not complete within {limit:g} s."))
