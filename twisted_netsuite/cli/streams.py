"""
Standard input and output on the reactor, whatever they are: files, pipes, terminals, sockets,
devices; with back pressure both ways.

Others may share them, such as the shell whose terminal it is, so none of them is ever made
non-blocking. A pipe or a device is opened once more in its place; what cannot be is read only when
there is something, and written only in pieces for which there is room.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IConsumer,
    IProducer,
    IPushProducer,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.errors import ConfigurationError, NetsuiteError

#: Bytes of one read: what a pipe holds.
MAX_READ = 64 * 1024

#: Bytes that a pipe or a terminal takes at once whenever it says that it takes something
#: (PIPE_BUF), so that even a blocking write of them does not block.
SURE_PIECE = select.PIPE_BUF

#: The device number of /dev/ptmx, of which each opening is a terminal of its own.
TERMINAL_MAKER = os.makedev(5, 2)


def holdStandard() -> None:
    """
    Open the null device in place of a standard stream that is closed.

    Otherwise the next thing that is opened, such as a connection, would get its number, and what
    is printed would go there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one.
            os.open(os.devnull, os.O_RDWR)
    # Python has none for what was closed, and prints on the one what is for the other.
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _reopened(descriptor: int, access: int) -> int | None:
    """
    Open what a descriptor stands for once more, not blocking.

    @param descriptor: stays as it is.
    @param access: C{os.O_RDONLY} or C{os.O_WRONLY}.
    @return: a descriptor of our own; C{None} where that cannot be, or is of no use.
    """
    status = os.fstat(descriptor)
    had = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    # A file would begin anew, a socket has a way of its own, and the far side of a
    # terminal would be another terminal.
    isTerminal = os.isatty(descriptor) and status.st_rdev != TERMINAL_MAKER
    if not (stat.S_ISFIFO(status.st_mode) or isTerminal) or had not in (access, os.O_RDWR):
        return None
    with suppress(OSError):
        flags = access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(f"/proc/self/fd/{descriptor}", flags)
    # Such as the terminal of somebody else, after su.
    return None


def _isSocket(descriptor: int) -> bool:
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)


@implementer(IPushProducer, IReadDescriptor)
class InputDescriptor:
    """
    Gives what can be read to a consumer, and lets it say when to go on.

    Nothing is read before L{begin}, nor while the consumer has no room.
    """

    def __init__(
        self,
        reactor: Any,
        descriptor: int = 0,
        onFault: Callable[[NetsuiteError], object] = lambda error: None,
        strain: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """
        @param reactor: watches the descriptor.
        @param descriptor: what to read.
        @param onFault: told once when it cannot be read; the end of the input is not told then.
        @param strain: makes of what was read what is given on; it may call L{stopProducing}.
        """
        self._reactor = reactor
        self._name = "Standard input" if descriptor == 0 else f"The input {descriptor}"
        self._own = _reopened(descriptor, os.O_RDONLY)
        self._descriptor = descriptor if self._own is None else self._own
        self._onFault = onFault
        self._strain = strain or (lambda data: data)
        self._consumer: Any = None
        self._over = False

    def begin(self, consumer: Any) -> None:
        """
        Read from now on.

        @param consumer: an C{IConsumer}; C{unregisterProducer} tells it the end of the input.
        """
        self._consumer = consumer
        if not self._over:
            self._reactor.addReader(self)
            consumer.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """Read nothing for now."""
        self._reactor.removeReader(self)

    def resumeProducing(self) -> None:
        """Read on."""
        if not self._over:
            self._reactor.addReader(self)

    def stopProducing(self) -> None:
        """Read no more."""
        self._over = True
        self._reactor.removeReader(self)
        if self._own is not None:
            os.close(self._own)
            self._own = None
            self._descriptor = -1

    def fileno(self) -> int:
        """Tell the descriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Name this in the log."""
        return "input"

    def doRead(self) -> Exception | None:  # type: ignore[override]
        """Take what is there."""
        try:
            data = os.read(self._descriptor, MAX_READ)
        except BlockingIOError:
            # Another program that shares it was faster.
            return None
        except OSError as error:
            # EIO: a terminal was hung up, and nobody types any more.
            if error.errno != errno.EIO:
                self._fail(error)
                return None
            data = b""
        if not data:
            return CONNECTION_DONE
        if strained := self._strain(data):
            self._consumer.write(strained)
        return None

    def connectionLost(self, reason: Failure) -> None:
        """The input has ended."""
        if not self._over:
            self.stopProducing()
            self._consumer.unregisterProducer()

    def _fail(self, error: OSError) -> None:
        self.stopProducing()
        self._onFault(
            ConfigurationError(
                f"{self._name} cannot be read: {(error.strerror or str(error)).lower()}; "
                "give another."
            )
        )


@implementer(IConsumer, IWriteDescriptor)
class OutputDescriptor:
    """
    Writes what it is given, and makes whoever gives it wait while it is not taken.

    @ivar broken: whether nobody reads it any more, as behind C{| head}; what comes is dropped.
    """

    broken = False

    def __init__(
        self,
        reactor: Any,
        descriptor: int = 1,
        onBroken: Callable[[], object] = lambda: None,
        onFault: Callable[[NetsuiteError], object] = lambda error: None,
    ) -> None:
        """
        @param reactor: tells when there is room.
        @param descriptor: what to write to.
        @param onBroken: called once when nobody reads it any more.
        @param onFault: told once when it cannot be written for another reason; what comes from then
            on is dropped.
        """
        self._reactor = reactor
        self._name = {1: "Standard output", 2: "Standard error"}.get(descriptor, "The output")
        self._original = descriptor
        self._own = _reopened(descriptor, os.O_WRONLY)
        self._socket = socket.socket(fileno=os.dup(descriptor)) if _isSocket(descriptor) else None
        self._isFile = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._onBroken = onBroken
        self._onFault = onFault
        self._buffer = bytearray()
        self._over = False
        self._producer: IProducer | None = None
        self._streaming = True
        self._paused = False
        self._waiting: list[Deferred[None]] = []

    # What a producer calls.

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Take a producer."""
        if self._producer is not None:
            raise RuntimeError("A producer is registered already.")
        self._producer, self._streaming, self._paused = producer, streaming, False
        if not streaming and self._over:
            # Asked for more it would never come to its end: nothing is ever taken.
            producer.stopProducing()
        elif not streaming:
            producer.resumeProducing()  # type: ignore[attr-defined]
        elif self._buffer:
            self._pause()

    def unregisterProducer(self) -> None:
        """Let the producer go."""
        self._producer = None
        self._settle()

    def write(self, data: bytes) -> None:
        """Write, now or when there is room."""
        if self._over:
            return
        if not self._buffer:
            # What leaves at once is never copied.
            data = data[self._attempt(data) :]
            if self._over:
                return
        self._buffer += data
        if self._buffer or (self._producer is not None and not self._streaming):
            self._reactor.addWriter(self)
            self._pause()

    # What the owner calls.

    def whenTaken(self) -> Deferred[None]:
        """
        Wait for all that was written to be taken.

        @return: fires when no producer is left and nothing is kept, or nothing will ever be taken.
        """
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        self._settle()
        return waiting

    @property
    def pending(self) -> bool:
        """Whether something is kept that was not taken."""
        return bool(self._buffer)

    def close(self) -> None:
        """Write no more; what was not taken is lost, and what it writes to stays open."""
        self._over = True
        self._buffer.clear()
        self._reactor.removeWriter(self)
        if self._own is not None:
            os.close(self._own)
            self._own = None
        if self._socket is not None:
            self._socket.close()

    # What the reactor calls.

    def fileno(self) -> int:
        """Tell the descriptor."""
        return self._original if self._own is None else self._own

    def logPrefix(self) -> str:
        """Name this in the log."""
        return "output"

    def doWrite(self) -> None:
        """Write what there is room for."""
        # The copy is small: what is kept is what one write has left over.
        taken = self._attempt(bytes(self._buffer))
        del self._buffer[:taken]
        if self._buffer or self._over:
            return
        self._reactor.removeWriter(self)
        producer = self._producer
        if producer is not None and (self._paused or not self._streaming):
            self._paused = False
            cast(IPushProducer, producer).resumeProducing()
        self._settle()

    def connectionLost(self, reason: Failure) -> None:
        """Nobody reads any more, which was noticed before anything was written."""
        self._break()

    def _attempt(self, data: bytes | bytearray) -> int:
        """
        Write what there is room for, without ever waiting.

        @return: bytes that were taken; all of them when nothing ever will be.
        """
        taken = 0
        try:
            while taken < len(data) and (count := self._writeSome(memoryview(data)[taken:])):
                taken += count
        except BlockingIOError:
            return taken
        except (BrokenPipeError, ConnectionResetError):
            self._break()
        except OSError as error:
            self._fail(error)
        return len(data) if self._over else taken

    def _writeSome(self, data: memoryview) -> int:
        """Write as much as one call takes; 0 when there is no room."""
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._own is not None or self._isFile:
            return os.write(self.fileno(), data)
        room = select.poll()
        room.register(self._original, select.POLLOUT)
        return os.write(self._original, data[:SURE_PIECE]) if room.poll(0) else 0

    def _fail(self, error: OSError) -> None:
        self.close()
        self._onFault(
            ConfigurationError(
                f"{self._name} takes no more: {(error.strerror or str(error)).lower()}; "
                "give it another place to go."
            )
        )
        self._letGo()

    def _break(self) -> None:
        if not self._over:
            self.broken = True
            self.close()
            self._onBroken()
            self._letGo()

    def _letGo(self) -> None:
        """Let a producer come to its end: what a push producer still has is dropped."""
        if self._producer is not None and not self._streaming:
            self._producer.stopProducing()
        elif self._paused and self._producer is not None:
            self._paused = False
            cast(IPushProducer, self._producer).resumeProducing()
        self._settle()

    def _pause(self) -> None:
        if self._producer is not None and self._streaming and not self._paused:
            self._paused = True
            cast(IPushProducer, self._producer).pauseProducing()

    def _settle(self) -> None:
        if self._over or (self._producer is None and not self._buffer):
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)


def written(stream: OutputDescriptor) -> Deferred[None]:
    """
    Wait for what a stream keeps, whoever may still be registered with it.

    @param stream: the stream.
    @return: fires when it keeps nothing.
    """
    stream.unregisterProducer()
    return stream.whenTaken() if stream.pending else succeed(None)
