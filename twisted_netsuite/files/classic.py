"""
The tutorials' file dialect I{get}: C{get NAME}, the size, an acknowledgement, the bytes.
"""

from __future__ import annotations

from twisted.internet.interfaces import IPullProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.files.machine import TABLE, Act, Event, Turn
from twisted_netsuite.files.root import OpenFile, Root
from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits
from twisted_netsuite.net.chunks import ChunkProtocol
from twisted_netsuite.net.serving import ServedFactory
from twisted_netsuite.net.tls import peerHasClosed
from twisted_netsuite.wire.machine import Machine
from twisted_netsuite.wire.text import shownBytes

#: Bytes read from the disk at a time. Larger pieces are no faster, and hold the reactor for longer
#: when the disk is slow.
PIECE = 128 * 1024

#: Bytes of a request that the log shows: as much as the longest name of a file, and some path.
MAX_LOGGED = 512

_REQUEST = b"get"


@implementer(IPullProducer)
class ClassicGet(ChunkProtocol):
    """Serves one file after another to one client."""

    factory: ClassicGetFactory
    _file: OpenFile | None = None
    _offset = 0
    _ending = False

    def connectionMade(self) -> None:
        """Wait for a request."""
        self._machine = Machine(TABLE, Turn.IDLE)
        super().connectionMade()

    def chunkReceived(self, chunk: bytes) -> None:
        """Take a request or an acknowledgement."""
        if self._machine.state is Turn.ANNOUNCED or not _isRequest(chunk):
            event, error = Event.OTHER, "unknown request: send 'get NAME'."
        else:
            event, error = self._find(_name(chunk))
        match self._machine.feed(event):
            case Act.ANNOUNCE:
                assert self._file is not None
                self.transport.write(b"%d" % self._file.size)
            case Act.REFUSE:
                self.log.info(
                    "{peer}: refused {chunk}: {error}",
                    peer=self.peer,
                    chunk=shownBytes(chunk, MAX_LOGGED),
                    error=error,
                )
                self.transport.write(f"err: {error}".encode())
            case Act.SEND:
                self._send()
            case Act.NOTHING:
                pass

    def _find(self, name: bytes) -> tuple[Event, str]:
        try:
            self._file = self.factory.root.open(name)
        except NetsuiteError as error:
            return Event.NOT_FOUND, f"{error.wireCode}: {error.sentence}"
        self.log.info(
            "{peer}: gets {name}, {size} bytes",
            peer=self.peer,
            name=shownBytes(name, MAX_LOGGED),
            size=self._file.size,
        )
        return Event.FOUND, ""

    def _send(self) -> None:
        self._offset = 0
        self.hold()
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """Send the next piece."""
        assert self._file is not None
        if peerHasClosed(self.transport):
            self._breakOff("the client has closed")
            return
        self.idle.touch()
        left = self._file.size - self._offset
        if not left:
            self._sent()
            return
        try:
            piece = self._file.read(self._offset, min(PIECE, left))
        except OSError as error:
            self._breakOff(f"reading failed: {error.strerror}")
            return
        if not piece:
            self._breakOff(f"the file shrank to {self._offset} bytes")
            return
        self._offset += len(piece)
        self.transport.write(piece)

    def stopProducing(self) -> None:
        """The client is gone; L{connectionLost} closes the file."""

    def _sent(self) -> None:
        self.transport.unregisterProducer()
        self.watchAnswers()
        self._closeFile()
        self._machine.feed(Event.SENT)
        self.release()
        if self._ending and self._machine.state is not Turn.SENDING:
            self.close()

    def _breakOff(self, why: str) -> None:
        """End the connection abruptly: the announced size cannot be kept, and must not seem so."""
        self.log.warn("{peer}: broken off, {why}", peer=self.peer, why=why)
        self.transport.unregisterProducer()
        self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        """The client asks for no more: finish what it has asked for, then close."""
        if self._machine.state is Turn.SENDING:
            self._ending = True
        else:
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Close the file."""
        super().connectionLost(reason)
        self._closeFile()

    def _closeFile(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _isRequest(chunk: bytes) -> bool:
    return chunk[:4] == _REQUEST + b" " or chunk.rstrip() == _REQUEST


def _name(chunk: bytes) -> bytes:
    """Everything behind C{get }, spaces included, without the line end that a person types."""
    return chunk[4:].removesuffix(b"\n").removesuffix(b"\r")


class ClassicGetFactory(ServedFactory):
    """
    Serves the files of one root.

    @ivar root: where they are.
    """

    protocol = ClassicGet

    def __init__(
        self, clock: IReactorTime, root: Root, limits: ConnectionLimits = DEFAULT_LIMITS
    ) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param root: what is served.
        @param limits: bounds the connections, each of which holds one file open at a time.
        """
        super().__init__(clock, limits)
        self.root = root
