"""
The tutorials' file dialect I{get}: C{get NAME}, the size, an acknowledgement, the bytes.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IPullProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.errors import ConfigurationError, NetsuiteError
from twisted_netsuite.files.classicmachine import TABLE, Act, Event, Turn
from twisted_netsuite.files.root import OpenFile, Root
from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits
from twisted_netsuite.net.chunks import ChunkProtocol
from twisted_netsuite.net.serving import ServedFactory
from twisted_netsuite.net.tls import peerHasClosed
from twisted_netsuite.trust.decisions import Decision
from twisted_netsuite.trust.oversight import UNSEEN, Oversight, Withheld, causeOf
from twisted_netsuite.trust.rules import FilesRule
from twisted_netsuite.wire.machine import Machine
from twisted_netsuite.wire.text import shownBytes

#: Bytes read from the disk at a time. Larger pieces are no faster, and hold the reactor for longer
#: when the disk is slow.
PIECE = 128 * 1024

#: Bytes of a request that the log shows: as much as the longest name of a file, and some path.
MAX_LOGGED = 512

_REQUEST = b"get"

_UNKNOWN = "unknown request: send 'get NAME'."

#: What a request has come to: the event, what the client is told, and what the log is.
Found = tuple[Event, str, str]


@implementer(IPullProducer)
class ClassicGet(ChunkProtocol):
    """Serves one file after another to one client."""

    factory: ClassicGetFactory
    _file: OpenFile | None = None
    _offset = 0
    _asking = False
    _ending = False

    def connectionMade(self) -> None:
        """Wait for a request."""
        self._machine = Machine(TABLE, Turn.IDLE)
        super().connectionMade()

    def chunkReceived(self, chunk: bytes) -> None:
        """Take a request or an acknowledgement."""
        if self._machine.state is Turn.ANNOUNCED or not _isRequest(chunk):
            self._take(chunk, Event.OTHER, _UNKNOWN, _UNKNOWN)
            self._closeIfDone()
            return
        self.hold()
        self._asking = True
        name = _name(chunk)
        asked = maybeDeferred(self.factory.permit, self, name).addCallback(self._permitted, name)
        asked.addErrback(self._refused).addCallback(self._asked, chunk).addErrback(self.broken)

    def _permitted(self, decision: Decision, name: bytes) -> Found | None:
        # Permission may have taken longer than its client would wait.
        return self._find(decision, name) if self._connected else None

    def _refused(self, failure: Failure) -> Found:
        failure.trap(NetsuiteError)
        error = cast(NetsuiteError, failure.value)
        code = f"{error.wireCode}: "
        return Event.NOT_FOUND, code + error.sentence, code + causeOf(error)

    def _asked(self, found: Found | None, chunk: bytes) -> None:
        self._asking = False
        if found is None or not self._connected:
            return
        self._take(chunk, *found)
        self.release()
        self._closeIfDone()

    @property
    def _connected(self) -> bool:
        return self in self.factory.connections

    def _closeIfDone(self) -> None:
        """Close once all is served that a client has asked for which asks for no more."""
        busy = self._asking or self._held or self._machine.state is Turn.SENDING
        if self._ending and not busy:
            self.close()

    def _take(self, chunk: bytes, event: Event, answer: str, cause: str) -> None:
        match self._machine.feed(event):
            case Act.ANNOUNCE:
                assert self._file is not None
                self.transport.write(b"%d" % self._file.size)
            case Act.REFUSE:
                self.log.info(
                    "{peer}: refused {chunk}: {cause}",
                    peer=self.peer,
                    chunk=shownBytes(chunk, MAX_LOGGED),
                    cause=cause,
                )
                self.transport.write(f"err: {answer}".encode())
            case Act.SEND:
                self._send()
            case Act.NOTHING:
                pass

    def _find(self, decision: Decision, name: bytes) -> Found:
        self._file = self.factory.open(decision, name)
        self.log.info(
            "{peer}: gets {name}, {size} bytes",
            peer=self.peer,
            name=shownBytes(name, MAX_LOGGED),
            size=self._file.size,
        )
        return Event.FOUND, "", ""

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
        self._closeIfDone()

    def _breakOff(self, why: str) -> None:
        """End the connection abruptly: the announced size cannot be kept, and must not seem so."""
        self.log.warn("{peer}: broken off, {why}", peer=self.peer, why=why)
        self.transport.unregisterProducer()
        self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        """The client asks for no more: finish what it has asked for, then close."""
        self._ending = True
        self._closeIfDone()

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
        self,
        clock: IReactorTime,
        root: Root,
        limits: ConnectionLimits = DEFAULT_LIMITS,
        oversight: Oversight = UNSEEN,
    ) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param root: what is served.
        @param limits: bounds the connections, each of which holds one file open at a time.
        @param oversight: tells who may read what.
        """
        super().__init__(clock, limits)
        self.root = root
        self._oversight = oversight

    def permit(self, client: ClassicGet, name: bytes) -> Deferred[Decision]:
        """
        Ask whether a client may read a file.

        @param client: asks.
        @param name: the file's, as the client names it.
        @return: fires with what allows it; fails with L{NetsuiteError}.
        """
        path = b"/" + name.lstrip(b"/")
        decision = self._oversight.decide(
            lambda policy: policy.files(client.identity, "read", path)
        )
        permitted = self._oversight.begin(
            "files.read", decision, peer=client.address, identity=client.identity, path=path
        )
        return permitted.addCallback(lambda _: decision)

    def open(self, decision: Decision, name: bytes) -> OpenFile:
        """
        Open a file that a client may read.

        @param decision: what allows it. A rule may have a root of its own; that is opened anew each
            time, as the policy may be another the next time.
        @param name: the file's, as the client names it.
        @return: the open file.
        @raise NetsuiteError: as L{Root.open}; and with L{Withheld} when the rule's root cannot be
            opened.
        """
        rule = decision.rule
        if not isinstance(rule, FilesRule) or rule.root is None:
            return self.root.open(name)
        try:
            root = Root(rule.root)
        except ConfigurationError as error:
            raise Withheld(
                "the file cannot be opened; the server's log says why.",
                f"{decision.source}: {error.sentence}",
            ) from error
        try:
            return root.open(name)
        finally:
            root.close()
