"""
The bytes of a file, or of anything that can be read in parts, sent over a connection: by the kernel
alone where it can, else in pieces as the peer takes them.

What stands before and behind them, and what their number means, is no concern of this module.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.net.interfaces import IStreamTransport

#: Bytes that are read, and written, at once where the kernel does not send from the file. TLS sends
#: up to 120 KiB in one step (L{net.bulktls}), and memory for pieces of 128 KiB or more is made and
#: given back by the C library each time, which costs more than it saves.
PIECE = 112 * 1024

#: Bytes that the kernel sends from a file before other connections get their turn: some 0.2 ms, so
#: that fifty at once keep nobody waiting for longer than 10 ms. Twice as much is a tenth faster.
SEND_A_TURN = 256 * 1024

_ZEROS = bytes(PIECE)

#: Gives so many bytes, from there on, or fewer; none behind the end. What blocks is done in a
#: thread, so that there is a Deferred.
Read = Callable[[int, int], bytes | Deferred[bytes]]


@dataclass(frozen=True)
class Part:
    """
    Bytes that can be read more than once: those of a file from somewhere on, above all.

    @ivar count: how many.
    @ivar read: gives some of them, where the kernel does not send them. What it raises, or fails
        with, is taken as the end of the file.
    @ivar offset: where they begin.
    @ivar descriptor: the file for the kernel to send from, which blocks the reactor where they are
        not in memory; C{None} for what is no file. It stays open until all has been sent.
    """

    count: int
    read: Read
    offset: int = 0
    descriptor: int | None = None


def partOf(data: bytes) -> Part:
    """
    Let bytes that are at hand be sent in pieces.

    @param data: all of them.
    @return: for L{PartSender}.
    """
    return Part(len(data), lambda offset, count: data[offset : offset + count])


@implementer(IPushProducer, IPullProducer)
class PartSender:
    """
    Sends a part of a file; it is the only producer of its transport meanwhile.

    Who sends the kernel's way is a pull producer, as Twisted asks such a one for more when nothing
    is buffered any more: so the bytes come behind those that were written before, and an end of the
    connection that is asked for waits for them.

    What a file does not have any more is sent as zeros, since the peer was promised so many bytes.

    @ivar missing: bytes that were sent as zeros.
    """

    log = Logger()

    def __init__(
        self,
        transport: IStreamTransport,
        part: Part,
        onStall: Callable[[bool], object],
        onEnd: Callable[[int], object],
    ) -> None:
        """
        @param transport: has no producer.
        @param part: what to send.
        @param onStall: called with whether the peer has to take something before more is sent, each
            time that it has taken something.
        @param onEnd: called with how many bytes have not been sent, once no more will be, and
            nothing uses the file any more.
        """
        self.missing = 0
        self._transport = transport
        self._read = part.read
        self._at = part.offset
        self._left = part.count
        self._onStall = onStall
        self._onEnd = onEnd
        self._descriptor = part.descriptor
        self._socket = None if part.descriptor is None else _plainSocket(transport)
        self._pulls = self._socket is not None
        self._started = False
        self._going = False
        self._paused = False
        self._reading = False
        self._stopped = False

    def start(self) -> None:
        """Begin; what has been written to the transport before leaves before."""
        # As a pull producer it is asked for more at once, whatever is still buffered.
        self._transport.registerProducer(self, not self._pulls)
        self._started = True
        if self._stopped:
            return
        if self._socket is None:
            self._go()
        else:
            self._wait(self._socket)

    # What the transport calls.

    def pauseProducing(self) -> None:
        """The peer does not take what was sent."""
        if not self._paused:
            self._paused = True
            self._onStall(True)

    def resumeProducing(self) -> None:
        """The peer has taken it."""
        if not self._started or self._stopped:
            return
        self._paused = False
        if self._socket is None:
            self._onStall(False)
        self._go()

    def stopProducing(self) -> None:
        """The connection is lost."""
        if self._stopped:
            return
        self._stopped = True
        if not self._reading:
            self._onEnd(self._left)

    # What the owner of the connection calls.

    def stop(self) -> None:
        """Give up: what has not been sent never will be."""
        if not self._stopped:
            self._transport.unregisterProducer()
        self.stopProducing()

    def _go(self) -> None:
        """Send as much as goes now."""
        if self._going:
            # What was read was there at once; the loop goes on.
            return
        self._going = True
        while self._left and not (self._paused or self._reading or self._stopped):
            if self._socket is None:
                self._readSome()
            else:
                self._sendFrom(self._socket)
        self._going = False
        if not self._left and not self._stopped:
            self.stop()

    def _sendFrom(self, socket: Connection) -> None:
        """Let the kernel send."""
        assert self._descriptor is not None
        count = min(self._left, SEND_A_TURN)
        try:
            sent = os.sendfile(socket.fileno(), self._descriptor, self._at, count)
        except BlockingIOError:
            self._wait(socket)
            return
        except OSError:
            sent = 0
        if sent < count and _isBroken(socket):
            # Twisted finds that out as it writes. Were it to read it would see a clean end: the
            # kernel tells the reason once, and has told it us, or nobody.
            socket.stopReading()
            socket.write(b"\0")
            self._wait(socket)
        elif sent:
            self._at += sent
            self._left -= sent
            if self._left:
                self._wait(socket)
        else:
            # This is the end of the file, or it cannot be sent so: who reads it finds out.
            self._socket = None
            self._onStall(False)

    def _wait(self, socket: Connection) -> None:
        """Go on when the reactor says that the peer takes more, and others have had their turn."""
        self._paused = True
        self._onStall(True)
        socket.startWriting()

    def _readSome(self) -> None:
        self._reading = True
        count = min(self._left, PIECE)
        reading = maybeDeferred(cast(Callable[[int, int], bytes], self._read), self._at, count)
        reading.addErrback(self._notRead)
        reading.addCallback(self._haveRead, count)

    def _notRead(self, failure: Failure) -> bytes:
        if failure.check(NetsuiteError, OSError) is None:
            self.log.failure("What was to be sent could not be read", failure)
        return b""

    def _haveRead(self, data: bytes, count: int) -> None:
        self._reading = False
        if self._stopped:
            self._onEnd(self._left)
            return
        if not data:
            # Whatever is there later has nothing to do with what was here.
            self._read = _readZeros
            data = _readZeros(self._at, count)
        # More than was asked for would be taken for the next frame.
        data = data[:count]
        if self._read is _readZeros:
            self.missing += len(data)
        self._at += len(data)
        self._left -= len(data)
        self._transport.write(data)
        if self._pulls:
            self.pauseProducing()
        self._go()


def kernelSends(transport: object) -> bool:
    """
    Tell whether the kernel can send from a file by itself, as it cannot through TLS, nor where
    something stands between a protocol and its socket.

    @param transport: of a connection.
    @return: whether it can.
    """
    return _plainSocket(transport) is not None


def _plainSocket(transport: object) -> Connection | None:
    """Find the socket that the kernel can send to, below nothing that would change the bytes."""
    if isinstance(transport, Connection) and not transport.TLS:
        return transport
    return None


def _isBroken(socket: Connection) -> bool:
    """Tell whether there is no connection any more, which leaves no doubt about what has failed."""
    poll = select.poll()
    poll.register(socket.fileno(), 0)
    return bool(poll.poll(0))


def _readZeros(offset: int, count: int) -> bytes:
    return _ZEROS[:count]
