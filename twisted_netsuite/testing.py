"""
Fakes for tests without sockets, processes or real time: for our tests, and for those of whoever
embeds our factories.

Streams behave as Twisted's TCP transports do, half-close, backpressure and abrupt ends included;
bytes move only when a test says so, in pieces of the size it says.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterable
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.net.interfaces import IStreamTransport
from twisted_netsuite.rexec.launch import (
    CommandReceiver,
    Ending,
    Exited,
    Launch,
    Lost,
    NotStarted,
    OutputStream,
    Signalled,
    TerminalSize,
)

#: Bytes that a transport takes before it asks its producer to pause, as in Twisted.
BUFFER_SIZE = 64 * 1024

#: Steps after which a test that never comes to rest is given up.
MAX_STEPS = 1_000_000

#: The number of a spawner's first process; those after it count on.
FIRST_PID = 1001


@implementer(IStreamTransport)
class MemoryTransport:
    """
    One end of a connection in memory.

    @ivar outgoing: bytes that were written and have not reached the other end.
    @ivar reading: whether this end takes bytes, that is, whether it is not paused.
    @ivar lost: why the connection ended at this end, or C{None}.
    @ivar wasReset: whether the other end has ended abruptly. As with a socket, this end loses the
        connection once it reads or writes: nobody looks at one that does neither.
    """

    def __init__(self, host: IAddress, peer: IAddress) -> None:
        """
        @param host: this end's address.
        @param peer: the other end's address.
        """
        self.outgoing = bytearray()
        self.reading = True
        self.lost: Failure | None = None
        self.wasReset = False
        self.other: MemoryTransport
        self.protocol: IProtocol
        self.noDelay = False
        self.keepAlive = False
        self._host = host
        self._peer = peer
        self._producer: Any = None
        self._streaming = False
        self._producerPaused = False
        self._writing = False
        self._closing = False
        self._endingWrites = False
        self._writesEnded = False
        self._aborting = False

    # What a protocol calls.

    def write(self, data: bytes) -> None:
        """Take bytes for the other end."""
        if self.lost is not None or self._writesEnded or not data:
            return
        self.outgoing += data
        self._writing = True
        if len(self.outgoing) > BUFFER_SIZE and self._producer is not None and self._streaming:
            self._producerPaused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Take bytes for the other end."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once everything has been taken and no paused producer is left."""
        if self.lost is not None or self._closing:
            return
        self.reading = False
        if self._writesEnded:
            self._lose(Failure(ConnectionDone()))
        else:
            self._closing = self._writing = True

    def loseWriteConnection(self) -> None:
        """Close this direction once everything has been taken."""
        self._endingWrites = self._writing = True

    def abortConnection(self) -> None:
        """End abruptly, in the next step."""
        self._aborting = True
        self.reading = False

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Take a producer."""
        if self._producer is not None:
            raise RuntimeError("A producer is registered already.")
        if self.lost is not None:
            producer.stopProducing()
            return
        self._producer, self._streaming = producer, streaming
        if not streaming:
            self._producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Let the producer go."""
        self._producer = None
        if self._closing:
            self._writing = True

    def pauseProducing(self) -> None:
        """Take no bytes."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Take bytes again; after their end, be told of it again."""
        self.reading = self.lost is None and not self._closing and not self._aborting

    def stopProducing(self) -> None:
        """Close, as Twisted's transports do."""
        self.loseConnection()

    def getHost(self) -> Any:
        """Tell this end's address."""
        return self._host

    def getPeer(self) -> Any:
        """Tell the other end's address."""
        return self._peer

    def getHandle(self) -> object:
        """There is no handle below this transport."""
        return None

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Note it."""
        self.noDelay = enabled

    def getTcpNoDelay(self) -> bool:
        """Tell what was noted."""
        return self.noDelay

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Note it."""
        self.keepAlive = enabled

    def getTcpKeepAlive(self) -> bool:
        """Tell what was noted."""
        return self.keepAlive

    # What a test calls.

    def reset(self) -> None:
        """Let the connection end at this end as a reset from the other does."""
        if self.lost is None:
            self._lose(Failure(ConnectionLost()))

    def step(self, size: int) -> bool:
        """
        Let one thing happen.

        @param size: bytes that move at the most.
        @return: whether anything happened.
        """
        if self.lost is not None:
            return False
        if self._aborting:
            self._lose(Failure(ConnectionAborted()))
            self.other.wasReset = True
            return True
        if self.wasReset and (self.reading or self._writing):
            self.reset()
            return True
        return self._endReads() or (self._writing and self._moveBytes(size))

    def _endReads(self) -> bool:
        ended = self.other._writesEnded or self.other.lost is not None
        if not ended or not self.reading or self.other.outgoing:
            return False
        self.reading = False
        halfCloseable = IHalfCloseableProtocol(self.protocol, None)
        if halfCloseable is not None:
            halfCloseable.readConnectionLost()
        else:
            self._lose(Failure(ConnectionDone()))
        return True

    def _moveBytes(self, size: int) -> bool:
        if not self.outgoing:
            self._writing = False
            self._drained()
            return True
        if self.other.lost is not None:
            self.reset()
            return True
        if not self.other.reading:
            return False
        piece = bytes(self.outgoing[:size])
        del self.outgoing[:size]
        self.other.protocol.dataReceived(piece)
        return True

    def _drained(self) -> None:
        """Do what waits for all bytes to have left: the producer first, as in Twisted."""
        if self._producer is not None and (not self._streaming or self._producerPaused):
            self._producerPaused = False
            self._producer.resumeProducing()
        elif self._closing:
            self._lose(Failure(ConnectionDone()))
        elif self._endingWrites:
            self._writesEnded = True
            halfCloseable = IHalfCloseableProtocol(self.protocol, None)
            if halfCloseable is not None:
                halfCloseable.writeConnectionLost()

    def _lose(self, reason: Failure) -> None:
        self.lost = reason
        self.reading = False
        self.outgoing.clear()
        if self._producer is not None:
            self._producer.stopProducing()
            self._producer = None
        self.protocol.connectionLost(reason)


class Pair:
    """
    A server's and a client's protocol that talk in memory.

    @ivar server: the server's transport.
    @ivar client: the client's transport.
    """

    def __init__(self, server: MemoryTransport, client: MemoryTransport) -> None:
        """
        @param server: one end.
        @param client: the other.
        """
        self.server = server
        self.client = client

    def flush(self, size: int = BUFFER_SIZE) -> None:
        """
        Let everything happen that can, without time passing.

        @param size: bytes that move at a time: 1 splits every message at every place.
        """
        for _ in range(MAX_STEPS):
            moved = self.client.step(size)
            if not self.server.step(size) and not moved:
                return
        raise AssertionError(f"The two ends did not come to rest in {MAX_STEPS} steps.")


def connectPair(
    server: IProtocol,
    client: IProtocol,
    serverAddress: IAddress | None = None,
    clientAddress: IAddress | None = None,
) -> Pair:
    """
    Connect two protocols in memory.

    @param server: gets its C{connectionMade} first.
    @param client: the other.
    @param serverAddress: where the server seems to be.
    @param clientAddress: where the client seems to be.
    @return: the connection; L{Pair.flush} lets it work.
    """
    near = serverAddress or IPv4Address("TCP", "127.0.0.1", 7)
    far = clientAddress or IPv4Address("TCP", "127.0.0.1", 50_000)
    serverEnd, clientEnd = MemoryTransport(near, far), MemoryTransport(far, near)
    serverEnd.other, clientEnd.other = clientEnd, serverEnd
    serverEnd.protocol, clientEnd.protocol = server, client
    server.makeConnection(cast(Any, serverEnd))
    client.makeConnection(cast(Any, clientEnd))
    return Pair(serverEnd, clientEnd)


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """
    Connects to a server's factory in memory.

    @ivar pairs: the connections that were made.
    """

    def __init__(self, server: IProtocolFactory) -> None:
        """
        @param server: makes the server's protocols.
        """
        self._server = server
        self.pairs: list[Pair] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; a server that builds no protocol refuses."""
        address = IPv4Address("TCP", "127.0.0.1", 7)
        server = self._server.buildProtocol(IPv4Address("TCP", "127.0.0.1", 50_000))
        client = protocolFactory.buildProtocol(address)
        if server is None or client is None:
            return fail(ConnectionLost())
        near = IPv4Address("TCP", "127.0.0.1", 40_000 + len(self.pairs))
        self.pairs.append(connectPair(server, client, clientAddress=near))
        return succeed(client)

    def flush(self, size: int = BUFFER_SIZE) -> None:
        """
        Let everything happen on every connection.

        @param size: bytes that move at a time.
        """
        for pair in self.pairs:
            pair.flush(size)


@implementer(IUDPTransport)
class DatagramNotes:
    """
    A datagram transport that notes what is sent.

    @ivar sent: payload and address of each datagram.
    @ivar failure: raised by the next writes, if it is set.
    """

    def __init__(self, host: IPv4Address | None = None) -> None:
        """
        @param host: where the protocol seems to be.
        """
        self.sent: list[tuple[bytes, tuple[str, int] | None]] = []
        self.connected: tuple[str, int] | None = None
        self.failure: Exception | None = None
        self._host = host or IPv4Address("UDP", "127.0.0.1", 7007)

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        """Note a datagram."""
        if self.failure is not None:
            raise self.failure
        self.sent.append((packet, addr))

    def connect(self, host: str, port: int) -> None:
        """Note an address."""
        self.connected = (host, port)

    def getHost(self) -> IPv4Address:
        """Tell the protocol's address."""
        return self._host

    def stopListening(self) -> Deferred[None]:
        """Stop."""
        return succeed(None)

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """Nothing is broadcast here."""

    def getBroadcastAllowed(self) -> bool:
        """Nothing is broadcast here."""
        return False


def listenDatagrams(protocol: DatagramProtocol, host: IPv4Address | None = None) -> DatagramNotes:
    """
    Give a datagram protocol a transport in memory.

    @param protocol: to be started.
    @param host: where it seems to be.
    @return: notes what it sends.
    """
    notes = DatagramNotes(host)
    protocol.makeConnection(cast(Any, notes))
    return notes


class FakeCommand:
    """
    A command that runs only in a test.

    It has been started once it does anything, or once a test says so by L{start}. A test in which
    it does what the real ones never do fails: it writes no more than it was allowed, and nothing
    apart to the stderr of a terminal; takes no more input than it was given; and does nothing after
    its end, nor begins once its spawner was stopped.

    @ivar launch: what was started, and how.
    @ivar pid: the number of its process.
    @ivar written: all that was written to it, until the end or the loss of its input.
    @ivar inputEnded: whether it can read the end of its input.
    @ivar asked: whether it was asked to end.
    @ivar signals: the numbers of the signals that it was sent.
    @ivar sizes: the sizes that its terminal was given after its start.
    @ivar allowed: bytes that may be read of each stream, beside those that were.
    @ivar paused: whether nothing may be read for now.
    @ivar ended: whether it has ended, however.
    """

    def __init__(self, launch: Launch, receiver: CommandReceiver, pid: int) -> None:
        """
        @param launch: what is started, and how.
        @param receiver: gets what the test does.
        @param pid: the number of its process.
        """
        self.launch = launch
        self.pid = pid
        self.written = b""
        self.inputEnded = False
        self.asked = False
        self.signals: list[int] = []
        self.sizes: list[TerminalSize] = []
        self.allowed: dict[OutputStream, int] = {"stdout": 0, "stderr": 0}
        self.paused = False
        self.ended = False
        self._started = False
        self._taken = 0
        self._inputLost = False
        self._left = False
        self._stopped = False
        self._receiver = receiver
        self._awaitingEnd: list[Deferred[None]] = []

    # What its owner calls.

    def allow(self, stream: OutputStream, count: int) -> None:
        """Note that more may be read."""
        self.allowed[stream] += count

    def pause(self) -> None:
        """Note that nothing may be read for now."""
        self.paused = True

    def resume(self) -> None:
        """Note that it may be read again."""
        self.paused = False

    def write(self, data: bytes) -> None:
        """Note input; the test decides when it is taken."""
        if not (self.ended or self.inputEnded or self._inputLost):
            self.written += data

    def endInput(self) -> None:
        """Note that no more input comes."""
        self.inputEnded = True

    def signal(self, number: int) -> None:
        """Note a signal."""
        self.signals.append(number)

    def resize(self, size: TerminalSize) -> None:
        """Note a size."""
        self.sizes.append(size)

    def end(self) -> None:
        """Note that it was asked to end; the test decides when it does."""
        self.asked = True

    # What a test calls.

    def start(self, pid: int | None = None) -> None:
        """
        Have been started.

        @param pid: the number of its process, instead of the one that it has.
        @raise AssertionError: when it has ended, or its spawner was stopped before.
        """
        if self.ended:
            raise AssertionError("A command does nothing after its end.")
        if not self._started:
            if self._stopped:
                raise AssertionError("What has not begun when its spawner is stopped never does.")
            self._started = True
            self.pid = self.pid if pid is None else pid
            self._receiver.started(self.pid)

    def out(self, data: bytes) -> None:
        """
        Write to standard output.

        @param data: what the command writes.
        @raise AssertionError: when so much may not be read.
        """
        self._spend("stdout", data)
        self._receiver.outReceived(data)

    def err(self, data: bytes) -> None:
        """
        Write to standard error.

        @param data: what the command writes.
        @raise AssertionError: when so much may not be read, or it has a terminal.
        """
        if self.launch.terminal is not None:
            raise AssertionError("All that is written to a terminal is stdout.")
        self._spend("stderr", data)
        self._receiver.errReceived(data)

    def _spend(self, stream: OutputStream, data: bytes) -> None:
        self.start()
        if self.paused or len(data) > self.allowed[stream]:
            raise AssertionError(
                f"{len(data)} bytes of {stream} come, but {self.allowed[stream]} may be read"
                f"{', as it is paused' * self.paused}."
            )
        self.allowed[stream] -= len(data)

    def takeInput(self, count: int) -> None:
        """
        Take input.

        @param count: bytes of what was written.
        @raise AssertionError: when so much was not, or it has no input, or reads no more.
        """
        self.start()
        self._read()
        waiting = len(self.written) - self._taken
        if count > waiting:
            raise AssertionError(f"{count} bytes of input are taken, but there are {waiting}.")
        self._taken += count
        self._receiver.stdinTaken(count)

    def loseInput(self) -> None:
        """
        Read no more input.

        @raise AssertionError: when it has none, or read no more before.
        """
        self.start()
        self._read()
        self._inputLost = True
        self._receiver.stdinLost()

    def _read(self) -> None:
        if not self.launch.stdin and self.launch.terminal is None:
            raise AssertionError("A command that was started without input reads none.")
        if self._inputLost:
            raise AssertionError("A command that reads no more input never does again.")

    def leave(self) -> None:
        """
        Be gone, while some of the output may not be read; L{exit} or L{die} tells the end later.

        @raise AssertionError: when it was gone, or has ended, before.
        """
        self.start()
        if self._left:
            raise AssertionError("A command leaves its output once.")
        self._left = True
        self._receiver.outputWaits()

    def exit(self, code: int = 0) -> None:
        """
        End by itself.

        @param code: the exit status.
        """
        self.start()
        self._end(Exited(code))

    def die(self, number: int, core: bool = False) -> None:
        """
        End by a signal.

        @param number: the signal.
        @param core: whether it leaves a core dump.
        """
        self.start()
        self._end(Signalled(number, core))

    def refuse(self, errno: int, what: str, own: bool = False) -> None:
        """
        Turn out not to be started.

        @param errno: what the system says.
        @param what: what could not be done.
        @param own: whether the service itself has failed.
        @raise AssertionError: when it was started.
        """
        if self._started:
            raise AssertionError("What was started cannot turn out not to be.")
        self._end(NotStarted(errno, what, own))

    def lose(self, clear: bool = True) -> None:
        """
        Lose what watches it.

        @param clear: whether nothing of it is left.
        """
        self._end(Lost(clear))

    def stop(self, obedient: bool) -> Deferred[None]:
        """
        Be told that the spawner is stopped.

        @param obedient: whether it ends; else the test decides when it does.
        @return: fires once it has ended.
        """
        self._stopped = True
        if obedient and not self.ended:
            if self._started:
                self.die(signal.SIGKILL)
            else:
                self.refuse(errno.ECANCELED, f"run {self.launch.program.decode()}")
        ended: Deferred[None] = Deferred()
        if self.ended:
            ended.callback(None)
        else:
            self._awaitingEnd.append(ended)
        return ended

    def _end(self, ending: Ending) -> None:
        if self.ended:
            raise AssertionError("A command ends once.")
        self.ended = True
        self._receiver.commandEnded(ending)
        awaiting, self._awaitingEnd = self._awaitingEnd, []
        for ended in awaiting:
            ended.callback(None)


class FakeSpawner:
    """
    Starts commands that run only in a test.

    @ivar commands: what was started, in order.
    @ivar stopped: whether it was asked to stop.
    """

    def __init__(self, obedient: bool = False) -> None:
        """
        @param obedient: whether commands end when it is stopped, as real ones do; else a test says
            when.
        """
        self.commands: list[FakeCommand] = []
        self.stopped = False
        self._obedient = obedient

    def __call__(self, launch: Launch, receiver: CommandReceiver) -> FakeCommand:
        """Note a command."""
        command = FakeCommand(launch, receiver, FIRST_PID + len(self.commands))
        self.commands.append(command)
        return command

    def stop(self) -> Deferred[None]:
        """Note it; the returned Deferred fires once all commands have ended."""
        self.stopped = True
        ended = [command.stop(self._obedient) for command in self.commands]
        return gatherResults(ended).addCallback(lambda _: None)
