"""
The streams of a remote command as its caller has them: output that goes to a consumer at the pace
of that, and input that comes from a producer at the pace of the command; no records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IProducer, IPullProducer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.errors import ConnectionFailed, LimitExceeded
from twisted_netsuite.rexec.messages import PIECE

#: Bytes of input that wait here before their producer is paused: what it gives at once, and as much
#: again, so that a command that takes the one finds the other.
INPUT_BUFFER = 2 * PIECE

_log = Logger()


@implementer(IPushProducer)
class OutputStream:
    """
    One output stream of a command, on its way to a consumer.

    What comes while the consumer is paused is kept, which the window of the stream bounds; only
    what it was given counts as taken.

    @ivar name: C{stdout} or C{stderr}.
    @ivar begun: the place in the stream of the first byte that comes here.
    @ivar at: the place of the next byte that the consumer will be given: so much of the stream it
        has had, and whatever came before L{begun}.
    @ivar writing: whether the consumer is being given something, which does not count yet.
    """

    def __init__(
        self,
        name: str,
        consumer: IConsumer,
        taken: Callable[[int], object],
        broke: Callable[[Failure], object],
        finished: Callable[[], object],
    ) -> None:
        """
        @param name: of the stream.
        @param consumer: gets it; the stream is its producer from now on.
        @param taken: called with how many bytes it was given, or were dropped in its place.
        @param broke: called with why it takes no more, when it has raised something or has stopped
            its producer; who is called then calls L{drop} or L{leave}.
        @param finished: called once, when it has all of the stream.
        @raise ConnectionFailed: when the consumer stops its producer at once, having lost its own
            connection before; besides, whatever it raises.
        """
        self.name = name
        self.begun = self.at = 0
        self.writing = False
        self._consumer = consumer
        self._taken = taken
        self._broke = broke
        self._finished = finished
        self._kept = bytearray()
        self._paused = False
        self._delivering = False
        self._dropping = False
        self._ended = False
        self._released = False
        self._registering, self._refused = True, False
        consumer.registerProducer(self, True)
        self._registering = False
        if self._refused:
            self.leave()
            raise self._notTaken()

    @property
    def released(self) -> bool:
        """Whether nothing more is delivered."""
        return self._released

    @property
    def collected(self) -> bytes:
        """What has come so far, where nobody gave a consumer."""
        return bytes(self._consumer.data) if isinstance(self._consumer, Collector) else b""

    # What the consumer calls.

    def pauseProducing(self) -> None:
        """Keep what comes."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on with what was kept."""
        self._paused = False
        self._deliver()

    def stopProducing(self) -> None:
        """The consumer takes no more: it was closed, or has lost its connection."""
        if self._registering:
            # Nobody is ready to hear of it.
            self._refused = True
        elif not self._released:
            self._break(Failure(self._notTaken()))

    # What the command calls.

    def begin(self, at: int) -> None:
        """
        Note where the stream begins.

        @param at: the place of the first byte that will come.
        """
        self.begun = self.at = at

    def receive(self, data: bytes) -> None:
        """
        Take what has come.

        @param data: the next bytes of the stream.
        """
        if self._released:
            if self._dropping:
                self._taken(len(data))
        elif self._paused or self._kept or self._delivering:
            self._kept += data
            self._deliver()
        else:
            self._write(data)

    def end(self) -> None:
        """Note that nothing more comes; what is kept is still delivered."""
        self._ended = True
        self._deliver()

    def drop(self) -> None:
        """Deliver no more; what is kept, and what comes, counts as taken, so that the end comes."""
        kept = len(self._kept)
        self._dropping = True
        self.leave()
        if kept:
            self._taken(kept)

    def leave(self) -> None:
        """Deliver no more; what is kept is forgotten, and does not count as taken."""
        self._kept.clear()
        if self._released:
            return
        self._released = True
        try:
            self._consumer.unregisterProducer()
        except Exception:
            _log.failure("a consumer of {name} could not let its producer go", name=self.name)

    def _deliver(self) -> None:
        if self._delivering or self._released:
            return
        self._delivering = True
        try:
            while self._kept and not self._paused and not self._released:
                with memoryview(self._kept) as kept:
                    piece = bytes(kept[:PIECE])
                del self._kept[:PIECE]
                self._write(piece)
        finally:
            self._delivering = False
        if self._ended and not self._kept and not self._released:
            self.leave()
            self._finished()

    def _write(self, data: bytes) -> None:
        self.writing = True
        try:
            self._consumer.write(data)
        except Exception:
            self.writing = False
            self._kept[:0] = data
            self._break(Failure())
            return
        self.writing = False
        self.at += len(data)
        self._taken(len(data))

    def _notTaken(self) -> ConnectionFailed:
        return ConnectionFailed(f"Nobody takes {self.name} of the command any more.")

    def _break(self, why: Failure) -> None:
        if not self._released:
            self._paused = True
            self._broke(why)


@implementer(IPushProducer)
class Junction:
    """
    Lets several streams share one consumer, which takes a single producer: it gets what they write
    in the order in which that comes.

    @ivar consumer: gets it.
    """

    def __init__(self, consumer: IConsumer) -> None:
        """
        @param consumer: has no producer while none of the streams does.
        """
        self.consumer = consumer
        self._producers: list[IPushProducer] = []
        self._paused = False

    # What the consumer calls.

    def pauseProducing(self) -> None:
        """Let all of them wait."""
        self._paused = True
        for each in list(self._producers):
            each.pauseProducing()

    def resumeProducing(self) -> None:
        """Let them go on, until the consumer has enough."""
        self._paused = False
        # The next time another comes first.
        self._producers.reverse()
        for each in list(self._producers):
            if not self._paused and each in self._producers:
                each.resumeProducing()

    def stopProducing(self) -> None:
        """The consumer takes no more, of any of them."""
        for each in list(self._producers):
            each.stopProducing()

    # What its branches call.

    def join(self, producer: IPushProducer) -> None:
        """
        Let one more produce.

        @param producer: one of a branch.
        """
        self._producers.append(producer)
        if len(self._producers) > 1:
            if self._paused:
                producer.pauseProducing()
            return
        self._paused = False
        try:
            self.consumer.registerProducer(self, True)
        except BaseException:
            self._producers.remove(producer)
            raise

    def part(self, producer: IPushProducer) -> None:
        """
        Let one go, and the consumer with the last.

        @param producer: one that has joined.
        """
        self._producers.remove(producer)
        if not self._producers:
            self.consumer.unregisterProducer()


@implementer(IConsumer)
class Branch:
    """What one stream writes to of a consumer that it shares."""

    def __init__(self, junction: Junction) -> None:
        """
        @param junction: leads to the consumer.
        """
        self._junction = junction
        self._producer: IPushProducer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Take the stream, which pushes."""
        self._producer = cast(IPushProducer, producer)
        self._junction.join(self._producer)

    def unregisterProducer(self) -> None:
        """Let the stream go."""
        self._junction.part(self._producer)

    def write(self, data: bytes) -> None:
        """Hand some output on."""
        self._junction.consumer.write(data)


def apart(stdout: IConsumer, stderr: IConsumer) -> tuple[IConsumer, IConsumer]:
    """
    Give each stream a consumer of its own, also where one is wanted for both.

    @param stdout: gets standard output.
    @param stderr: gets standard error; may be the same.
    @return: one for each.
    """
    if stdout is not stderr:
        return stdout, stderr
    junction = Junction(stdout)
    return Branch(junction), Branch(junction)


class Allowance:
    """
    Bytes that may be kept, by several collectors together.

    @ivar limit: how many.
    @ivar left: how many more.
    """

    def __init__(self, limit: int) -> None:
        """
        @param limit: bytes.
        """
        self.limit = self.left = limit


@implementer(IConsumer)
class Collector:
    """
    Keeps what it is given.

    @ivar data: all of it.
    """

    def __init__(self, allowance: Allowance) -> None:
        """
        @param allowance: how much that may be.
        """
        self.data = bytearray()
        self._allowance = allowance

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Let it produce: what it makes is bounded by what is allowed."""

    def unregisterProducer(self) -> None:
        """Nothing more comes."""

    def write(self, data: bytes) -> None:
        """
        Keep some more.

        @param data: the bytes.
        @raise LimitExceeded: when that is more than is allowed.
        """
        if len(data) > self._allowance.left:
            raise LimitExceeded(
                f"The command wrote more than {self._allowance.limit} bytes; allow more, or give "
                "consumers that take its output while it comes."
            )
        self._allowance.left -= len(data)
        self.data += data


class InputSink(Protocol):
    """Where input goes."""

    def inputRoom(self) -> int:
        """
        Tell how much can be sent at once.

        @return: bytes; 0 to wait, until L{InputStream.pump} is called.
        """

    def sendInput(self, data: bytes) -> None:
        """Send input, no more than there is room for."""

    def endInput(self) -> None:
        """Say that no more comes."""

    def inputBroke(self, why: Failure) -> None:
        """Learn that the producer has failed, so that the end of the input never comes."""


@implementer(IConsumer)
class InputStream:
    """
    The input of a command.

    A producer, push or pull, is paced by what the command reads; that it unregisters is the end of
    the input. Without one, L{send} tells when more may be given.

    @ivar at: bytes that were sent of it, those of other connections before included.
    """

    def __init__(self, sink: InputSink) -> None:
        """
        @param sink: takes it.
        """
        self.at = 0
        self._sink = sink
        self._open = False
        self._ending = False
        self._waiting = bytearray()
        #: Bytes that have gone out or were dropped, and who waits for how many.
        self._gone = 0
        self._senders: list[tuple[int, Deferred[None]]] = []
        self._push: IPushProducer | None = None
        self._pull: IPullProducer | None = None
        self._pushPaused = False
        self._asked = False
        self._pumping = False

    @property
    def open(self) -> bool:
        """Whether the command reads input, and its end was not given."""
        return self._open and not self._ending

    # What the caller calls.

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Take a producer; when the command reads no input it is stopped at once.

        @param producer: gives the input.
        @param streaming: whether it pushes.
        @raise RuntimeError: when there is one already.
        """
        if self._push is not None or self._pull is not None:
            raise RuntimeError("A producer is registered already.")
        if not self.open:
            producer.stopProducing()
        elif streaming:
            self._push, self._pushPaused = cast(IPushProducer, producer), False
            self._slowDown()
        else:
            self._pull, self._asked = cast(IPullProducer, producer), False
            self.pump()

    def unregisterProducer(self) -> None:
        """Let the producer go: it has given all of the input."""
        self._push = self._pull = None
        self.finish()

    def write(self, data: bytes) -> None:
        """
        Send input, as soon as the command takes it; it is dropped when that reads no more.

        @param data: the next bytes.
        @raise LimitExceeded: when there is no producer that could be paused, and more than
            L{INPUT_BUFFER} bytes would wait; L{send} tells when there is room.
        """
        if not self.open:
            return
        produced = self._push is not None or self._pull is not None
        if not produced and self._waiting and len(self._waiting) + len(data) > INPUT_BUFFER:
            raise LimitExceeded(
                f"{len(self._waiting)} bytes of input wait for the command, and at most "
                f"{INPUT_BUFFER} may; wait for what send() returns, or register a producer."
            )
        self._asked = False
        self._waiting += data
        self.pump()
        self._slowDown()

    def send(self, data: bytes) -> Deferred[None]:
        """
        Send input, however much.

        @param data: the next bytes.
        @return: fires when all of it has been sent; fails with L{ConnectionFailed} when the command
            reads no more.
        """
        if not self.open:
            return fail(_readsNoMore())
        self._waiting += data
        until = self._gone + len(self._waiting)
        self.pump()
        if self._gone >= until:
            return succeed(None)
        if not self._open:
            return fail(_readsNoMore())

        def forget(gaveUp: Deferred[None]) -> None:
            self._senders = [each for each in self._senders if each[1] is not gaveUp]

        waiting: Deferred[None] = Deferred(forget)
        self._senders.append((until, waiting))
        return waiting

    def finish(self) -> None:
        """End the input, after all that was given."""
        if self.open:
            self._ending = True
            self.pump()

    # What the command calls.

    def begin(self, at: int) -> None:
        """
        Open it: the command reads.

        @param at: bytes that it was given before.
        """
        self.at = at
        self._open = True

    def close(self) -> None:
        """The command reads no more: stop the producer, and drop what waits."""
        if not self._open:
            return
        self._open = False
        self._waiting.clear()
        producer, self._push, self._pull = self._push or self._pull, None, None
        senders, self._senders = self._senders, []
        if producer is not None:
            try:
                producer.stopProducing()
            except Exception:
                _log.failure("a producer of input could not be stopped")
        for _, each in senders:
            each.errback(_readsNoMore())

    def pump(self) -> None:
        """Send what there is room for, and ask for more of it."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._open and self._step():
                pass
        finally:
            self._pumping = False
        self._tellSenders()

    def _step(self) -> bool:
        """Do one thing; tell whether there may be another."""
        if not self._waiting and self._ending:
            # Before the sink hears of it, which may close this.
            self._open = False
            self._sink.endInput()
            return False
        room = self._sink.inputRoom()
        if self._waiting and room:
            with memoryview(self._waiting) as waiting:
                piece = bytes(waiting[:room])
            del self._waiting[:room]
            self._gone += len(piece)
            self.at += len(piece)
            self._sink.sendInput(piece)
            return True
        return self._askPull(room) or self._askPush()

    def _askPull(self, room: int) -> bool:
        if self._pull is None or self._asked or self._waiting or not room:
            return False
        self._asked = True
        self._call(self._pull.resumeProducing)
        return True

    def _askPush(self) -> bool:
        if self._push is None or not self._pushPaused or len(self._waiting) > INPUT_BUFFER // 2:
            return False
        self._pushPaused = False
        self._call(self._push.resumeProducing)
        return True

    def _slowDown(self) -> None:
        if self._push is None or self._pushPaused or len(self._waiting) < INPUT_BUFFER:
            return
        self._pushPaused = True
        self._call(self._push.pauseProducing)

    def _call(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception:
            # Without this the command would take what it has for all of its input.
            why = Failure()
            self._push = self._pull = None
            self.close()
            self._sink.inputBroke(why)

    def _tellSenders(self) -> None:
        done = [each for until, each in self._senders if until <= self._gone]
        self._senders = [each for each in self._senders if each[0] > self._gone]
        for each in done:
            each.callback(None)


def _readsNoMore() -> ConnectionFailed:
    return ConnectionFailed("The command reads no more input.")
