"""
One end of a native session: what a server's and a client's end have in common, from frames to ends.

How a session begins is in L{net.framed}; what may come when is in L{wire.sessionmachine}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, ParamSpec

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_netsuite.errors import ConnectionFailed, LimitExceeded, NetsuiteError, TimedOut
from twisted_netsuite.net.conversation import connectReason
from twisted_netsuite.net.frames import STALL_TIMEOUT, FrameReceiver
from twisted_netsuite.net.interfaces import IStreamTransport
from twisted_netsuite.net.limits import TokenBuckets
from twisted_netsuite.net.liveness import Liveness
from twisted_netsuite.net.sendfile import Part
from twisted_netsuite.wire.session import (
    About,
    Error,
    Goodbye,
    Ping,
    Pong,
    Record,
    SessionCodec,
    errorRecord,
    failureOf,
    goodbyeRecord,
)
from twisted_netsuite.wire.sessionmachine import Effect, Input, SessionMachine, inputOf
from twisted_netsuite.wire.text import cleanText

P = ParamSpec("P")

#: What either end calls itself.
SOFTWARE = "netsuite"

#: PINGs a second that are answered, and how many at once: a peer has reason for one in 5 seconds.
PING_RATE, PING_BURST = 1.0, 10

#: Seconds in which what the peer still sends is read and dropped after the last record: where bytes
#: are left unread the kernel resets the connection, and the peer may lose that record. A round trip
#: to anywhere takes less.
LINGER_TIMEOUT = 2.0


class SessionEnd(FrameReceiver):
    """
    One end of a session.

    Subclasses set C{clock}, C{codec} and C{machine} before they are connected, and carry out the
    effects that are theirs in L{begin}.

    @ivar codec: knows the records.
    @ivar machine: where the session stands.
    """

    log: ClassVar[Logger] = Logger()
    codec: SessionCodec
    machine: SessionMachine
    _liveness: Liveness | None = None
    _pings: TokenBuckets | None = None
    _lingering: IDelayedCall | None = None
    _opened = False
    _goodbye: str | None = None

    # What a service, or a client, says.

    def recordReceived(self, record: Record) -> None:
        """
        Take a record of the service.

        A L{NetsuiteError} that is raised here ends the session with an ERROR.

        @param record: what came.
        """
        raise NotImplementedError

    def errorReceived(self, error: NetsuiteError, about: About) -> None:
        """
        Take an ERROR that does not end the session.

        @param error: what the peer says.
        @param about: what it refers to.
        """
        self.log.debug(
            "{peer}: {error} (about {about})",
            peer=self.peerName(),
            error=error.sentence,
            about=cleanText(str(about)),
        )

    def sessionOpened(self) -> None:
        """The session is open."""

    def sessionDraining(self) -> None:
        """
        The peer has said GOODBYE: begin nothing new, and call L{finish} when nothing is open.

        Unless a subclass says otherwise nothing ever is.
        """
        self.finish()

    def sessionClosed(self, reason: NetsuiteError | None) -> None:
        """
        The session that was open has ended; nothing that is sent from here on arrives.

        @param reason: why; C{None} for an end that both expected.
        """

    def openingFailed(self, reason: NetsuiteError | None) -> None:
        """
        The session has ended before it was open.

        @param reason: why; C{None} when the peer said GOODBYE.
        """

    def blame(self, error: NetsuiteError) -> NetsuiteError:
        """
        Put what is wrong with the peer into words for this end.

        @param error: what the peer is told.
        @return: what L{sessionClosed} is told.
        """
        return error

    def begin(self, effect: Effect, record: Record) -> None:
        """
        Carry out an effect that only one of the ends has.

        @param effect: which.
        @param record: what came.
        """
        raise NotImplementedError

    def peerName(self) -> str:
        """
        Name the peer.

        @return: for the log and for sentences.
        """
        raise NotImplementedError

    def closeConnection(self) -> None:
        """Flush and close the connection; it is cut off when that takes too long."""
        raise NotImplementedError

    # What a service, or a client, calls.

    @property
    def goodbye(self) -> str | None:
        """What the peer gave as the reason of its GOODBYE; C{None} as long as it has said none."""
        return self._goodbye

    def sendRecord(self, record: Record) -> None:
        """
        Send a record; once the session has ended it is dropped, as what was on its way then is.

        @param record: of the service.
        @raise LimitExceeded: when it is larger than a frame may be.
        """
        if not self.machine.closed:
            self.sendFrame(self.codec.encode(record))

    def sendBody(self, record: Record, body: bytes | Part) -> Deferred[int]:
        """
        Send a record and the bytes that it announces, which stand outside frames behind it.

        What is sent meanwhile, bodies too, waits behind them, in its order.

        @param record: of the service.
        @param body: the bytes, or where to find them.
        @return: fires when they have left and the peer takes more, with how many of them could not
            be read and were sent as zeros; fails with L{ConnectionFailed} when the session ends, or
            has ended, before. Either way nothing uses the file any more.
        @raise LimitExceeded: when the record is larger than a frame may be.
        """
        # Once the session has ended no frame leaves.
        return self.sendFrameWithBody(self.codec.encode(record), body)

    def receiveRaw(self, count: int, sink: Callable[[bytes | memoryview], object]) -> None:
        """
        Take the next bytes from outside frames, as L{FrameReceiver.receiveRaw} does.

        @param count: how many.
        @param sink: gets them; what it raises ends the session, as it does in L{recordReceived}.
        """
        super().receiveRaw(count, lambda data: self.guard(sink, data))

    def fail(self, error: NetsuiteError, about: About = None) -> None:
        """
        Send an ERROR; the session goes on.

        @param error: what cannot be.
        @param about: what it refers to.
        """
        self.sendRecord(errorRecord(error, about=about))

    def refuse(self, error: NetsuiteError, cause: str = "") -> None:
        """
        End the session with an ERROR and a line in the log.

        @param error: what the peer is told.
        @param cause: what the log is told, when that is more.
        """
        if self.machine.closed:
            return
        self.log.info(
            "{peer}: session ended: {cause}", peer=self.peerName(), cause=cause or error.sentence
        )
        self.dismiss(error)

    def dismiss(self, error: NetsuiteError) -> None:
        """
        End the session with an ERROR, of which the log has been told.

        @param error: what the peer is told.
        """
        if self.machine.closed:
            return
        self.sendRecord(errorRecord(error, fatal=True))
        self._end(self.blame(error))

    def leave(self, reason: str = "") -> None:
        """
        Say GOODBYE, once: nothing new is begun, and what is open may finish.

        @param reason: a sentence.
        """
        try:
            effect = self.machine.feed(Input.LEAVE)
        except NetsuiteError:
            # It has been said, or nobody is there to be told.
            return
        self.sendFrame(self.codec.encode(goodbyeRecord(reason)))
        if effect is Effect.FAREWELL:
            self._end(None)

    def finish(self) -> None:
        """Close a session in which GOODBYE was said, as nothing is open any more."""
        if self.machine.draining:
            self.machine.feed(Input.FINISHED)
            self._end(None)

    def watchPeer(self, seconds: float) -> None:
        """
        Begin to look after the peer, once the session is open.

        @param seconds: of quiet before a PING.
        """
        self._opened = True
        self._liveness = Liveness(self.clock, seconds, self._ping, self._peerDead)
        self._liveness.start()

    # What comes.

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, and with it the session."""
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        self.peerEnded(reason)
        super().connectionLost(reason)

    def peerEnded(self, reason: Failure) -> None:
        """
        The peer sends no more.

        @param reason: how that came.
        """
        if self.machine.closed:
            return
        clean = reason.check(ConnectionDone) is not None
        how = "was closed" if clean else "broke"
        when = " in the middle of a record" if self.inFrame else ""
        when += "" if self._opened else " before the session was open"
        why = "" if clean else f": {connectReason(reason.value)}"
        error = ConnectionFailed(f"The connection to {self.peerName()} {how}{when}{why}.")
        if self.inFrame or (self._opened and not clean):
            self.log.info("session ended: {cause}", cause=error.sentence)
        self._ended(None if clean and self.machine.draining else error)

    def abandon(self, error: NetsuiteError) -> None:
        """
        Leave the session and cut the connection off; the peer hears nothing of why.

        @param error: why.
        """
        self._ended(error)
        self.transport.abortConnection()

    def frameReceived(self, frame: bytes) -> None:
        """Take a record."""
        self.guard(self._recordFramed, frame)

    def guard(self, act: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """
        Do something; when it fails the session ends, and nothing else.

        @param act: what to do.
        @param args: for it.
        @param kwargs: for it.
        """
        try:
            act(*args, **kwargs)
        except NetsuiteError as error:
            self.refuse(error)
        except Exception:
            self.log.failure("{peer}: the service failed", peer=self.peerName())
            self.refuse(NetsuiteError("The service failed; its log says why."))

    def _recordFramed(self, frame: bytes) -> None:
        record = self.codec.decode(frame)
        self._carryOut(self.machine.feed(inputOf(record)), record)

    def frameFault(self, error: NetsuiteError) -> None:
        """End the session."""
        self.refuse(error)

    def answersNotTaken(self) -> None:
        """Cut the peer off: an ERROR would wait behind what it does not take."""
        error = TimedOut(f"Nothing was taken by the peer for {STALL_TIMEOUT:g} s.")
        self.log.info("{peer}: session ended: {cause}", peer=self.peerName(), cause=error.sentence)
        self.abandon(self.blame(error))

    def rawFault(self, error: NetsuiteError) -> None:
        """Cut the connection off: this is a fault of the service, which has miscounted."""
        self.log.error("{peer}: session ended: {cause}", peer=self.peerName(), cause=error.sentence)
        self.abandon(error)

    def bytesReceived(self) -> None:
        """The peer lives."""
        if self._liveness is not None:
            self._liveness.heard()

    def readingChanged(self, reading: bool) -> None:
        """Who is not read cannot be heard to live."""
        if self._liveness is None:
            return
        if reading:
            self._liveness.start()
        else:
            self._liveness.stop()

    def _carryOut(self, effect: Effect, record: Record) -> None:
        match effect, record:
            case Effect.DELIVER, _:
                self.recordReceived(record)
            case Effect.ANSWER, Ping():
                self._answer(record)
            case Effect.NOTE, Pong():
                self._watched().answered(record.id)
            case Effect.REPORT, Error():
                self.errorReceived(failureOf(record, self.peerName()), record.about)
            case Effect.CLOSE, Error():
                error = failureOf(record, self.peerName())
                self.log.info("session ended: {cause}", cause=error.sentence)
                self._end(error)
            case Effect.CLOSE | Effect.DRAIN, Goodbye():
                self._goodbye = cleanText(record.reason)
                if effect is Effect.DRAIN:
                    self.sessionDraining()
                else:
                    self._end(None)
            case _:
                self.begin(effect, record)

    def _answer(self, ping: Ping) -> None:
        if self._pings is None:
            self._pings = TokenBuckets(self.clock, PING_RATE, PING_BURST, 1)
        if not self._pings.take(""):
            raise LimitExceeded(f"More PINGs came than {PING_RATE:g} a second.")
        self.sendRecord(Pong(id=ping.id))

    def _ping(self, number: int) -> None:
        self.sendRecord(Ping(id=number))

    def _peerDead(self) -> None:
        self.refuse(TimedOut(f"Nothing came for {2 * self._watched().seconds:g} s."))

    def _watched(self) -> Liveness:
        assert self._liveness is not None, "An open session has a watch."
        return self._liveness

    def _ended(self, reason: NetsuiteError | None) -> None:
        """Leave the session, in every case: nothing is sent, served or waited for from here on."""
        self.machine.end()
        self.stopFrames()
        if self._liveness is not None:
            self._liveness.stop()
        if self._opened:
            self._opened = False
            self.sessionClosed(reason)
        else:
            self.openingFailed(reason)

    def _end(self, reason: NetsuiteError | None) -> None:
        """Leave the session, and close the connection so that the last record arrives."""
        self._ended(reason)
        if not _canHalfClose(self.transport):
            self.closeConnection()
            return
        self.transport.loseWriteConnection()
        self._lingering = self.clock.callLater(LINGER_TIMEOUT, self.closeConnection)


def _canHalfClose(transport: IStreamTransport) -> bool:
    # TLS has no half-close, but an attribute of that name, which is that of the transport below it;
    # it waits for the peer's goodbye by itself.
    tls = ISSLTransport.providedBy(transport)
    return not tls and hasattr(transport, "loseWriteConnection")
