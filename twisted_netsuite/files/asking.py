"""
One request of a client and its answers, apart from what is asked: it waits for its turn, is sent,
answered, cancelled or lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred

from twisted_netsuite.errors import NetsuiteError, ProtocolError
from twisted_netsuite.files.clientmachine import Effect, Input, RequestMachine, State
from twisted_netsuite.files.messages import (
    Body,
    Bundle,
    Cancel,
    Commit,
    Done,
    Entries,
    Failed,
    Found,
    Have,
    Holes,
    Ready,
)
from twisted_netsuite.net.sendfile import Part
from twisted_netsuite.wire.session import Error, Record, SessionCodec, failureOf

#: What bytes outside frames come as.
Piece = bytes | memoryview

#: Makes the record of a request, given its number.
Make = Callable[[int], Record]

#: What each record is to a machine.
INPUTS: dict[type[Record], Input] = {
    Found: Input.FOUND,
    Body: Input.BODY,
    Holes: Input.HOLES,
    Have: Input.HAVE,
    Ready: Input.READY,
    Entries: Input.ENTRIES,
    Bundle: Input.BUNDLE,
    Done: Input.DONE,
    Failed: Input.FAILED,
    Commit: Input.COMMIT,
    Cancel: Input.CANCEL,
}


class Carrier(Protocol):
    """The session, as a request sees it."""

    codec: SessionCodec

    def peerName(self) -> str:
        """Name the server."""

    def sendRecord(self, record: Record) -> None:
        """
        Send a record.

        @param record: about a request.
        """

    def sendBody(self, record: Record, body: bytes | Part) -> Deferred[int]:
        """
        Send a record and bytes outside frames behind it.

        @param record: about a request.
        @param body: the bytes.
        @return: fires when the next may be sent, with how many bytes were missing.
        """

    def receiveRaw(self, count: int, sink: Callable[[Piece], object]) -> None:
        """
        Have the next bytes of the connection, which stand outside frames.

        @param count: how many, at least one.
        @param sink: gets them.
        """

    def release(self, asked: Asked) -> None:
        """
        Take a request for answered.

        @param asked: which.
        """

    def unsent(self, asked: Asked) -> None:
        """
        Forget a request that still waits for its turn.

        @param asked: which.
        """

    def unread(self, count: int) -> None:
        """
        Count lists that nobody reads: while there are some, nothing is read from the server.

        @param count: how many more; fewer when it is negative.
        """


class Asked:
    """
    One request.

    A subclass says what its answers mean; what fails is told to L{failed}, once, and nothing after
    that.

    @ivar id: its number; 0 until it is sent.
    @ivar isLost: whether the session has ended before it was answered.
    """

    id = 0
    isLost = False

    def __init__(self, carrier: Carrier, machine: RequestMachine, make: Make) -> None:
        """
        @param carrier: the session.
        @param machine: what may come.
        @param make: makes its record.
        """
        self.carrier = carrier
        self.machine = machine
        self._make = make

    # What a subclass says.

    def taken(self, record: Record) -> None:
        """
        Take a part of the answer.

        @param record: what came.
        @raise ProtocolError: when it cannot be.
        """
        raise NotImplementedError

    def checkEnd(self, record: Done) -> None:
        """
        See that the answer can end here.

        @param record: its end.
        @raise ProtocolError: when it cannot be.
        """

    def finished(self, record: Done) -> None:
        """
        Take the end of the answer.

        @param record: what came.
        """
        raise NotImplementedError

    def failed(self, error: NetsuiteError) -> None:
        """
        Tell whoever waits that there is no answer.

        @param error: why.
        """
        raise NotImplementedError

    def forgotten(self) -> None:
        """Note that nothing more comes of what was cancelled."""

    # What the session calls.

    def begin(self, id: int) -> None:
        """
        Send the request.

        @param id: its number.
        """
        self.id = id
        self.carrier.sendRecord(self._make(id))

    def received(self, record: Record) -> None:
        """
        Take a record of the server.

        @param record: about this request.
        @raise ProtocolError: when it may not come now.
        """
        kind = type(record)
        symbol = INPUTS.get(kind)
        if symbol is None:
            raise ProtocolError(f"{kind.__name__.upper()} is no answer.")
        effect = self.machine.feed(symbol)
        if effect is Effect.TAKE or effect is Effect.BEGIN:
            self.taken(record)
        elif effect is Effect.FINISH:
            assert isinstance(record, Done)
            self.checkEnd(record)
            # Before anybody is told, who may close the session: that gives up what is open.
            self.carrier.release(self)
            self.finished(record)
        elif effect is Effect.DROP:
            if isinstance(record, Body | Bundle) and record.length:
                self.carrier.receiveRaw(record.length, drop)
        else:
            self._end(record, effect)

    def lost(self, error: NetsuiteError) -> None:
        """
        Give up: the session is over.

        @param error: why.
        """
        cancelled = self.machine.state is State.CANCELLED
        self.machine.state, self.isLost = State.OVER, True
        if cancelled:
            self.forgotten()
        else:
            self.failed(error)

    # What its user calls.

    def cancel(self, keep: bool = True) -> bool:
        """
        Break it off, if it is open; whoever waits hears nothing more from here.

        @param keep: whether what has come of a file shall be kept for another try.
        @return: whether it was open.
        """
        if self.machine.state in (State.CANCELLED, State.OVER):
            return False
        self.machine.feed(Input.CANCEL)
        if self.id:
            self.carrier.sendRecord(Cancel(id=self.id, keep=keep))
        else:
            self.machine.state = State.OVER
            self.carrier.unsent(self)
        return True

    def _end(self, record: Record, effect: Effect) -> None:
        if effect is Effect.BREAK:
            self.carrier.sendRecord(Cancel(id=self.id))
        self.carrier.release(self)
        if effect is Effect.FORGET:
            self.forgotten()
        else:
            assert isinstance(record, Failed)
            self.failed(errorOf(record, self.carrier.peerName()))


class Question(Asked):
    """
    What is answered by one record.

    @ivar answer: fires with it; cancelling that breaks the request off.
    """

    def __init__(self, carrier: Carrier, machine: RequestMachine, make: Make) -> None:
        """
        @param carrier: the session.
        @param machine: what may come.
        @param make: makes its record.
        """
        super().__init__(carrier, machine, make)
        self.answer: Deferred[Done] = Deferred(self._cancelled)

    def finished(self, record: Done) -> None:
        """Tell whoever asked."""
        self.answer.callback(record)

    def failed(self, error: NetsuiteError) -> None:
        """Tell whoever asked."""
        self.answer.errback(error)

    def _cancelled(self, answer: Deferred[Done]) -> None:
        self.cancel()
        answer.errback(CancelledError())


def errorOf(record: Failed, peer: str) -> NetsuiteError:
    """
    Read an error from an answer.

    @param record: what came.
    @param peer: who sent it, for the sentence.
    @return: of the class that its code stands for, with its sentence cleaned.
    """
    return failureOf(Error(code=record.code, message=record.message), peer)


def drop(piece: Piece) -> None:
    """
    Take bytes that nobody wants.

    @param piece: some.
    """
