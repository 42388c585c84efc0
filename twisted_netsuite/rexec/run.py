"""
The one run of a command: what goes into its process and comes out of it, what bounds that, and
which outcome it has. Who follows the command is in L{command}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_netsuite.errors import LimitExceeded
from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.delivery import STREAMS, Delivery
from twisted_netsuite.rexec.ending import outcomeOf
from twisted_netsuite.rexec.launch import (
    Ending,
    Launch,
    Lost,
    OutputStream,
    RunningCommand,
    Spawner,
    TerminalSize,
)
from twisted_netsuite.rexec.outcome import Outcome
from twisted_netsuite.rexec.recording import Recording, RecordingFailed
from twisted_netsuite.rexec.serverchannel import INPUT_WINDOW


@dataclass(frozen=True)
class Bounds:
    """
    What bounds one command.

    @ivar seconds: how long it may run; C{None} for ever.
    @ivar output: bytes that it may write on both streams together; C{None} for any.
    """

    seconds: float | None = None
    output: int | None = None


class Watcher(Protocol):
    """Learns what becomes of a run."""

    def runStarted(self) -> None:
        """The process runs."""

    def runWrote(self, stream: OutputStream, data: bytes) -> None:
        """
        Learn of output, which counts.

        @param stream: which.
        @param data: what the delivery has taken.
        """

    def runTookInput(self, count: int) -> None:
        """
        Learn that input was taken.

        @param count: bytes.
        """

    def runLostInput(self) -> None:
        """The process reads no more."""

    def runEnded(self, how: Outcome) -> None:
        """
        Learn how it ended; nothing comes after this.

        @param how: its outcome.
        """


class Run:
    """
    The one run of a command, or that it never came to one.

    @ivar inputAt: bytes of input that it was given.
    @ivar pty: whether it has a terminal.
    @ivar cancelled: whether it was asked to end.
    """

    log = Logger()

    def __init__(self, id: str, clock: IReactorTime, delivery: Delivery, watcher: Watcher) -> None:
        """
        @param id: the name of the command.
        @param clock: waits for time.
        @param delivery: takes its output.
        @param watcher: learns what becomes of it.
        """
        self.inputAt = 0
        self.pty = False
        self.cancelled = False
        self._id = id
        self._clock = clock
        self._delivery = delivery
        self._watcher = watcher
        self._running: RunningCommand | None = None
        self._bounds = Bounds()
        self._recording: Recording | None = None
        self._unread = 0
        self._inputOpen = False
        #: Whether some of its output could not be taken: then none behind that is.
        self._cutShort = False
        self._cause: Outcome | None = None
        self._timer: IDelayedCall | None = None
        #: Ends the time in which a client can take what is left in the pipes after its end.
        self._patience: IDelayedCall | None = None

    @property
    def running(self) -> bool:
        """Whether it was started, or is being started, and has not ended."""
        return self._running is not None

    @property
    def inputRoom(self) -> int | None:
        """Bytes of input that it takes; C{None} when that has ended."""
        return INPUT_WINDOW - self._unread if self._inputOpen else None

    # What is done with it.

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

    def stop(self, why: Outcome) -> None:
        """
        End it for a reason, which becomes its outcome.

        @param why: the reason; of several the first holds.
        """
        if self._cause is None:
            self._cause = why
        self.cancel()

    def close(self) -> None:
        """Forget it: nothing of it runs."""
        for call in (self._timer, self._patience):
            if call is not None and call.active():
                call.cancel()

    # What comes of the process.

    def started(self, pid: int) -> None:
        """It runs."""
        if self._bounds.seconds is not None:
            late = outcome.TimedOut(seconds=self._bounds.seconds)
            self._timer = self._clock.callLater(self._bounds.seconds, self.stop, late)
        assert self._running is not None
        self._delivery.begin(self._running)
        self._watcher.runStarted()

    def outReceived(self, data: bytes) -> None:
        """It has written."""
        self._take("stdout", data)

    def errReceived(self, data: bytes) -> None:
        """It has written to standard error."""
        self._take("stderr", data)

    def stdinTaken(self, count: int) -> None:
        """It has room for more input."""
        self._unread -= count
        self._watcher.runTookInput(count)

    def stdinLost(self) -> None:
        """It reads no more."""
        self._inputOpen = False
        self._unread = 0
        self._watcher.runLostInput()

    def outputWaits(self) -> None:
        """Its process has ended, and what is left of its output waits for who follows."""
        seconds = self._delivery.patience
        if seconds is not None:
            reason = (
                f"it had ended, and its client did not take the rest of its output for {seconds:g} "
                "s; start what has to wait longer with --on-disconnect detach."
            )
            late = outcome.Limit(which="credit", reason=reason)
            self._patience = self._clock.callLater(seconds, self.stop, late)

    def commandEnded(self, ending: Ending) -> None:
        """It has ended."""
        self.close()
        self._running = None
        self._delivery.end()
        self._inputOpen = False
        how = self._cause or outcomeOf(ending)
        self._record(lambda recording: recording.close())
        self._watcher.runEnded(how)

    def _take(self, stream: OutputStream, data: bytes) -> None:
        """Take output; when that fails nothing of it counts, and no end of it looks whole."""
        if self._cutShort:
            return
        try:
            self._received(stream, data)
        except Exception:
            self.log.failure("command {id}: this is a fault of the service", id=self._id)
            self._cutShort = True
            self.stop(outcome.Lost(reason="the service failed; its log says why."))

    def _received(self, stream: OutputStream, data: bytes) -> None:
        most = self._bounds.output
        if most is not None:
            left = most - sum(self._delivery.written(each) for each in STREAMS)
            if len(data) > left:
                data = data[: max(0, left)]
                reason = f"it wrote more than {most} bytes."
                self.stop(outcome.Limit(which="output", reason=reason))
        if not data:
            return
        try:
            self._delivery.take(stream, data)
        except (LimitExceeded, OSError) as error:
            self._notKept(error)
            return
        self._record(lambda recording: recording.output(stream, data))
        self._watcher.runWrote(stream, data)

    def _notKept(self, error: Exception) -> None:
        if self._cause is None:
            self.log.error(
                "command {id}: ended, its output cannot be kept: {reason}",
                id=self._id,
                reason=str(error),
            )
        self._cutShort = True
        reason = "its output cannot be kept, as the server's disk takes no more."
        self.stop(outcome.Limit(which="spool", reason=reason))

    def _record(self, act: Callable[[Recording], object]) -> None:
        if self._recording is not None:
            try:
                act(self._recording)
            except RecordingFailed as error:
                self._notRecorded(error)

    def _notRecorded(self, error: RecordingFailed) -> None:
        """What cannot be recorded is not to run."""
        self._recording = None
        self.log.error("command {id}: {reason}", id=self._id, reason=error.sentence)
        reason = "it cannot be recorded any more, and nothing runs here that is not."
        self.stop(outcome.Limit(which="recording", reason=reason))
