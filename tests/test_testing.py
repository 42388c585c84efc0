"""
Our fakes behave as what they stand for: each scenario of a stream runs over the pair in memory and
over real TCP on loopback, and the same things must happen in the same order.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectionLost, MessageLengthError
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IPullProducer,
    IPushProducer,
    IStreamClientEndpoint,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_netsuite import testing
from twisted_netsuite.net.interfaces import IStreamTransport
from twisted_netsuite.rexec.launch import (
    UNBOUNDED,
    CommandReceiver,
    Ending,
    Exited,
    Launch,
    Lost,
    NotStarted,
    RunningCommand,
    Signalled,
    Spawner,
    TerminalSize,
)
from twisted_netsuite.testing import (
    BUFFER_SIZE,
    FakeCommand,
    FakeSpawner,
    MemoryEndpoint,
    connectPair,
    listenDatagrams,
)

#: Bytes that the kernel may keep for an end that writes.
SEND_BUFFER = 256 * 1024

#: More than the kernel holds for a connection of which the other end does not read: it may take up
#: to 6 MiB for the end that does not.
FLOOD = 8 * 1024 * 1024


class Side(Protocol):
    """
    One end of a scenario, which notes all that happens to it.

    @ivar notes: what has happened, to this end or, if they share it, to both; received bytes that
        follow each other are one note.
    @ivar count: whether bytes are noted by their number.
    """

    transport: IStreamTransport

    def __init__(self, notes: list[str], name: str = "") -> None:
        self.notes = notes
        self.name = name
        self.count = False
        self.got = b""
        self.onData: Callable[[], object] = lambda: None
        self.onEnd: Callable[[], object] = lambda: None
        self._awaited: tuple[str, Deferred[None]] | None = None

    def note(self, what: str) -> None:
        """Note what has happened."""
        self.notes.append(f"{self.name}{what}")
        if self._awaited is not None and self.has(self._awaited[0]):
            awaited, self._awaited = self._awaited[1], None
            awaited.callback(None)

    def has(self, what: str) -> bool:
        """Tell whether something has happened; C{lost} stands for a loss with any reason."""
        wanted = f"{self.name}{what}"
        return any(note == wanted or note.startswith(f"{wanted} ") for note in self.notes)

    def when(self, what: str) -> Deferred[None]:
        """Wait until it has happened."""
        waiting: Deferred[None] = Deferred()
        if self.has(what):
            waiting.callback(None)
        else:
            self._awaited = (what, waiting)
        return waiting

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        what = f"got {len(self.got) if self.count else self.got.decode()}"
        if self.notes and self.notes[-1].startswith(f"{self.name}got "):
            self.notes.pop()
        self.note(what)
        self.onData()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.note(f"lost {reason.type.__name__ if reason.type else ''}")


@implementer(IHalfCloseableProtocol)
class HalfSide(Side):
    """An end that notes the ends of both directions apart."""

    def readConnectionLost(self) -> None:
        self.note("read end")
        self.onEnd()

    def writeConnectionLost(self) -> None:
        self.note("write end")


@implementer(IPushProducer, IPullProducer)
class Source:
    """A producer that notes what it is asked, and then does what the scenario says."""

    def __init__(self, side: Side, onResume: Callable[[], object] = lambda: None) -> None:
        self._side = side
        self._onResume = onResume

    def pauseProducing(self) -> None:
        self._side.note("pause")

    def resumeProducing(self) -> None:
        self._side.note("resume")
        self._onResume()

    def stopProducing(self) -> None:
        self._side.note("stop")


T = TypeVar("T", bound="Scenarios")


def scenario(
    steps: Callable[[T], Coroutine[Deferred[Any], Any, None]],
) -> Callable[[T], Deferred[None] | None]:
    """Make a test method of a coroutine, for either sort of test case."""

    @wraps(steps)
    def test(self: T) -> Deferred[None] | None:
        return self.play(Deferred.fromCoroutine(steps(self)))

    return test


# A mixin: trial would run a test case as it stands.
if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object


class Scenarios(_Base):
    """
    What happens on a stream, in which order.

    A promise of a scenario is one of our fakes because it holds over real TCP as well.
    """

    def play(self, played: Deferred[None]) -> Deferred[None] | None:
        """Run a scenario to its end."""
        raise NotImplementedError

    def connect(self, server: Side, client: Side) -> Deferred[None]:
        """Connect two ends."""
        raise NotImplementedError

    def until(self, side: Side, what: str) -> Deferred[None]:
        """Wait for something that must happen."""
        raise NotImplementedError

    def rest(self) -> Deferred[None]:
        """Give all that could happen the time to."""
        raise NotImplementedError

    async def _sides(
        self, server: type[Side] = Side, client: type[Side] = Side, shared: bool = False
    ) -> tuple[Side, Side]:
        notes: list[str] = []
        near = server(notes, "server ") if shared else server([])
        far = client(notes, "client ") if shared else client([])
        await self.connect(near, far)
        return near, far

    async def _end(self, *sides: Side) -> None:
        for side in sides:
            side.transport.abortConnection()
        for side in sides:
            await self.until(side, "lost")

    @scenario
    async def test_dataThenClose(self) -> None:
        """What was written before a close arrives, then the end, which is a clean one."""
        server, client = await self._sides()
        client.transport.write(b"hello")
        client.transport.loseConnection()
        await self.until(server, "lost ConnectionDone")
        await self.until(client, "lost ConnectionDone")
        self.assertEqual(server.notes, ["got hello", "lost ConnectionDone"])
        self.assertEqual(client.notes, ["lost ConnectionDone"])

    @scenario
    async def test_closeIsLater(self) -> None:
        """A close happens in a later turn, never inside the call."""
        server, client = await self._sides()
        client.transport.loseConnection()
        client.note("called")
        await self.until(client, "lost ConnectionDone")
        await self.until(server, "lost ConnectionDone")
        self.assertEqual(client.notes, ["called", "lost ConnectionDone"])

    @scenario
    async def test_writeAfterClose(self) -> None:
        """What is written in the same turn as the close, after it, still arrives."""
        server, client = await self._sides()
        client.transport.write(b"a")
        client.transport.loseConnection()
        client.transport.write(b"b")
        await self.until(server, "lost ConnectionDone")
        self.assertEqual(server.notes, ["got ab", "lost ConnectionDone"])

    @scenario
    async def test_closeSeenAsEnd(self) -> None:
        """An end that knows half-close sees a close of the other first as the end of reading."""
        server, client = await self._sides(HalfSide)
        client.transport.loseConnection()
        await self.until(server, "read end")
        server.transport.loseConnection()
        await self.until(server, "lost ConnectionDone")
        self.assertEqual(server.notes, ["read end", "lost ConnectionDone"])

    @scenario
    async def test_halfClose(self) -> None:
        """An end that has closed its writing still gets the answer."""
        server, client = await self._sides(HalfSide, HalfSide)
        client.transport.write(b"ask")
        client.transport.loseWriteConnection()
        await self.until(server, "read end")
        await self.until(client, "write end")
        server.transport.write(b"answer")
        server.transport.loseConnection()
        await self.until(client, "read end")
        client.transport.loseConnection()
        await self.until(client, "lost ConnectionDone")
        await self.until(server, "lost ConnectionDone")
        self.assertEqual(server.notes, ["got ask", "read end", "lost ConnectionDone"])
        self.assertEqual(
            client.notes, ["write end", "got answer", "read end", "lost ConnectionDone"]
        )

    @scenario
    async def test_writeAfterHalfClose(self) -> None:
        """What is written after a half-close still arrives until the half-close has happened."""
        server, client = await self._sides(HalfSide, HalfSide)
        client.transport.write(b"a")
        client.transport.loseWriteConnection()
        client.transport.write(b"b")
        await self.until(client, "write end")
        client.transport.write(b"c")
        await self.until(server, "read end")
        await self.rest()
        server.transport.resumeProducing()
        await self.rest()
        self.assertEqual(server.notes, ["got ab", "read end", "read end"])
        await self._end(server, client)

    @scenario
    async def test_closeAfterHalfClose(self) -> None:
        """A close after a half-close that has happened is done within the call."""
        server, client = await self._sides(HalfSide, HalfSide)
        client.transport.loseWriteConnection()
        await self.until(client, "write end")
        client.transport.loseConnection()
        client.note("called")
        self.assertEqual(client.notes, ["write end", "lost ConnectionDone", "called"])
        await self.until(server, "read end")
        server.transport.loseConnection()
        await self.until(server, "lost ConnectionDone")

    @scenario
    async def test_bothHalvesStayOpen(self) -> None:
        """Two half-closes do not make a close: each end has to say so."""
        server, client = await self._sides(HalfSide, HalfSide)
        client.transport.loseWriteConnection()
        server.transport.loseWriteConnection()
        await self.until(client, "read end")
        await self.until(server, "read end")
        await self.rest()
        for side in (server, client):
            self.assertEqual(sorted(side.notes), ["read end", "write end"])
        await self._end(server, client)

    @scenario
    async def test_halfCloseUnknown(self) -> None:
        """An end that does not know half-close takes it for a close."""
        server, client = await self._sides(Side, HalfSide)
        client.transport.loseWriteConnection()
        await self.until(server, "lost ConnectionDone")
        await self.until(client, "read end")
        self.assertEqual(client.notes, ["write end", "read end"])
        client.transport.loseConnection()
        await self.until(client, "lost ConnectionDone")

    @scenario
    async def test_endTwice(self) -> None:
        """Whoever reads on after the end is told of it again."""
        server, client = await self._sides(HalfSide, HalfSide)
        client.transport.loseWriteConnection()
        await self.until(server, "read end")
        server.notes.clear()
        await self.rest()
        self.assertEqual(server.notes, [])
        server.transport.resumeProducing()
        await self.until(server, "read end")
        await self._end(server, client)

    @scenario
    async def test_abort(self) -> None:
        """An abort ends both connections abruptly: aborted at this end, lost at the other."""
        server, client = await self._sides(HalfSide, HalfSide)
        client.transport.abortConnection()
        client.note("called")
        await self.until(client, "lost ConnectionAborted")
        await self.until(server, "lost ConnectionLost")
        self.assertEqual(client.notes, ["called", "lost ConnectionAborted"])
        self.assertEqual(server.notes, ["lost ConnectionLost"])

    @scenario
    async def test_abortTwice(self) -> None:
        """A second abort, and a close after it, change nothing."""
        server, client = await self._sides()
        client.transport.abortConnection()
        client.transport.abortConnection()
        client.transport.loseConnection()
        await self.until(server, "lost ConnectionLost")
        await self.until(client, "lost ConnectionAborted")
        await self.rest()
        self.assertEqual(client.notes, ["lost ConnectionAborted"])

    @scenario
    async def test_abortDropsWrites(self) -> None:
        """What was written in the turn of an abort never arrives."""
        server, client = await self._sides()
        client.transport.write(b"hello")
        client.transport.abortConnection()
        await self.until(server, "lost ConnectionLost")
        self.assertEqual(server.notes, ["lost ConnectionLost"])

    @scenario
    async def test_abortWhileClosing(self) -> None:
        """An abort ends a close that waits for a peer which does not read."""
        server, client = await self._sides()
        server.transport.pauseProducing()
        client.transport.write(bytes(FLOOD))
        client.transport.loseConnection()
        await self.rest()
        self.assertEqual(client.notes, [])
        client.transport.abortConnection()
        await self.until(client, "lost ConnectionAborted")

    @scenario
    async def test_resetUnnoticed(self) -> None:
        """An end that neither reads nor writes learns of a reset once it does."""
        server, client = await self._sides()
        server.transport.pauseProducing()
        client.transport.abortConnection()
        await self.until(client, "lost ConnectionAborted")
        await self.rest()
        self.assertEqual(server.notes, [])
        server.transport.resumeProducing()
        await self.until(server, "lost ConnectionLost")

    @scenario
    async def test_noDataAfterAbort(self) -> None:
        """Nothing is received in the turns after an abort, though more had come."""
        server, client = await self._sides()
        server.count = True
        server.onData = server.transport.abortConnection
        client.transport.write(bytes(FLOOD))
        await self.until(server, "lost ConnectionAborted")
        await self.until(client, "lost ConnectionLost")
        self.assertEqual(len(server.notes), 2)
        self.assertLessEqual(len(server.got), BUFFER_SIZE)

    @scenario
    async def test_resumeWhenEnding(self) -> None:
        """An end that has asked for its own end reads nothing more, told to read on or not."""
        for end, reason in (("abortConnection", "Aborted"), ("loseConnection", "Done")):
            for resume in (False, True):
                server, client = await self._sides()
                client.transport.write(b"hello")
                getattr(server.transport, end)()
                if resume:
                    server.transport.resumeProducing()
                await self.until(server, "lost")
                self.assertEqual(server.notes, [f"lost Connection{reason}"])
                await self._end(client)

    @scenario
    async def test_noDataAfterClose(self) -> None:
        """An end that closes reads no further, and the other sees the end before all else."""
        server, client = await self._sides()
        server.count = True
        server.onData = server.transport.loseConnection
        client.transport.write(bytes(FLOOD))
        await self.until(server, "lost ConnectionDone")
        await self.until(client, "lost ConnectionDone")
        self.assertLessEqual(len(server.got), BUFFER_SIZE)

    @scenario
    async def test_closedPeerWhileWriting(self) -> None:
        """An end that writes on after the other has closed loses the connection."""
        server, client = await self._sides(Side, HalfSide)
        server.onData = server.transport.loseConnection
        client.transport.write(bytes(FLOOD))
        await self.until(client, "lost")
        self.assertEqual(client.notes, ["read end", "lost ConnectionLost"])

    @scenario
    async def test_closedPeerWhilePaused(self) -> None:
        """An end that writes but does not read loses the connection without having seen an end."""
        server, client = await self._sides(Side, HalfSide)
        server.onData = server.transport.loseConnection
        client.transport.pauseProducing()
        client.transport.write(bytes(FLOOD))
        await self.until(client, "lost")
        self.assertEqual(client.notes, ["lost ConnectionLost"])

    @scenario
    async def test_writeToClosedPeer(self) -> None:
        """Who writes on to an end that is gone is stopped, and then told of a lost connection."""
        server, client = await self._sides(HalfSide)
        client.transport.loseConnection()
        await self.until(server, "read end")
        server.notes.clear()
        source = Source(server, lambda: server.transport.write(b"late"))
        server.transport.registerProducer(source, False)
        await self.until(server, "lost ConnectionLost")
        self.assertEqual(server.notes[-2:], ["stop", "lost ConnectionLost"])
        self.assertEqual(set(server.notes[:-2]), {"resume"})

    @scenario
    async def test_pauseHoldsData(self) -> None:
        """An end that pauses gets neither bytes nor their end until it resumes."""
        server, client = await self._sides()
        server.transport.pauseProducing()
        client.transport.write(b"hello")
        client.transport.loseConnection()
        await self.rest()
        self.assertEqual(server.notes, [])
        server.transport.resumeProducing()
        await self.until(server, "lost ConnectionDone")
        self.assertEqual(server.notes, ["got hello", "lost ConnectionDone"])
        await self.until(client, "lost ConnectionDone")

    @scenario
    async def test_pauseInData(self) -> None:
        """An end that pauses while it gets bytes gets the next only once it resumes."""
        server, client = await self._sides()
        server.count = True
        server.onData = server.transport.pauseProducing
        client.transport.write(bytes(4 * BUFFER_SIZE))
        await self.until(server, "got")
        first = server.got
        await self.rest()
        self.assertEqual(server.got, first)
        self.assertLessEqual(len(first), BUFFER_SIZE)
        server.onData = lambda: None
        server.transport.resumeProducing()
        await self.until(server, f"got {4 * BUFFER_SIZE}")
        await self._end(server, client)

    @scenario
    async def test_backpressure(self) -> None:
        """A producer is paused while the other end does not read, and resumed once it does."""
        server, client = await self._sides(shared=True)
        server.count = True
        server.transport.pauseProducing()
        client.transport.registerProducer(Source(client), True)
        client.transport.write(bytes(FLOOD))
        await self.rest()
        server.note("reads")
        server.transport.resumeProducing()
        await self.until(client, "resume")
        await self.until(server, f"got {FLOOD}")
        seen = [note for note in server.notes if " got " not in note]
        self.assertEqual(seen, ["client pause", "server reads", "client resume"])
        await self._end(server, client)

    @scenario
    async def test_pausedAtLimit(self) -> None:
        """A producer is paused by the first byte over the limit, and by every write beyond it."""
        server, client = await self._sides()
        client.transport.registerProducer(Source(client), True)
        client.transport.write(bytes(BUFFER_SIZE))
        self.assertEqual(client.notes, [])
        client.transport.write(b"1")
        client.transport.write(b"2")
        self.assertEqual(client.notes, ["pause", "pause"])
        await self.until(client, "resume")
        await self.rest()
        self.assertEqual(client.notes, ["pause", "pause", "resume"])
        await self._end(server, client)

    @scenario
    async def test_closeWaitsForProducer(self) -> None:
        """A close waits for a paused producer: it is resumed, and nothing closes until it goes."""
        server, client = await self._sides()
        server.count = True
        client.transport.registerProducer(Source(client), True)
        client.transport.write(bytes(BUFFER_SIZE + 1))
        client.transport.loseConnection()
        await self.until(client, "resume")
        await self.rest()
        self.assertEqual(client.notes, ["pause", "resume"])
        client.transport.unregisterProducer()
        await self.until(client, "lost ConnectionDone")
        await self.until(server, "lost ConnectionDone")
        self.assertEqual(len(server.got), BUFFER_SIZE + 1)
        self.assertEqual(client.notes, ["pause", "resume", "lost ConnectionDone"])

    @scenario
    async def test_closeWithRunningProducer(self) -> None:
        """A close does not wait for a streaming producer that is not paused: it is stopped."""
        server, client = await self._sides()
        client.transport.registerProducer(Source(client), True)
        client.transport.write(b"hello")
        client.transport.loseConnection()
        await self.until(server, "lost ConnectionDone")
        self.assertEqual(server.notes, ["got hello", "lost ConnectionDone"])
        self.assertEqual(client.notes, ["stop", "lost ConnectionDone"])

    @scenario
    async def test_pull(self) -> None:
        """A pull producer is asked at once, and again whenever what it wrote has left."""
        server, client = await self._sides()
        pieces = [b"a", b"b", b"c"]

        def produce() -> None:
            if pieces:
                client.transport.write(pieces.pop(0))
            else:
                client.transport.unregisterProducer()
                client.transport.loseConnection()

        client.transport.registerProducer(Source(client, produce), False)
        self.assertEqual(client.notes, ["resume"])
        await self.until(client, "lost ConnectionDone")
        await self.until(server, "lost ConnectionDone")
        self.assertEqual(client.notes, ["resume"] * 4 + ["lost ConnectionDone"])
        self.assertEqual(server.notes, ["got abc", "lost ConnectionDone"])

    @scenario
    async def test_pullOfNothing(self) -> None:
        """A pull producer that writes nothing is not asked again until something has left."""
        server, client = await self._sides()
        client.transport.registerProducer(Source(client), False)
        await self.rest()
        self.assertEqual(client.notes, ["resume"])
        client.transport.write(b"x")
        await self.until(server, "got x")
        await self.rest()
        self.assertEqual(client.notes, ["resume", "resume"])
        await self._end(server, client)

    @scenario
    async def test_producerStopped(self) -> None:
        """A producer is stopped before its connection is told that it is lost."""
        server, client = await self._sides()
        client.transport.registerProducer(Source(client), True)
        server.transport.loseConnection()
        await self.until(client, "lost ConnectionDone")
        self.assertEqual(client.notes, ["stop", "lost ConnectionDone"])

    @scenario
    async def test_producers(self) -> None:
        """One producer at a time is taken, and none by a connection that is lost."""
        server, client = await self._sides()
        client.transport.registerProducer(Source(client), True)
        try:
            client.transport.registerProducer(Source(client), True)
        except RuntimeError:
            client.note("refused")
        client.transport.unregisterProducer()
        server.transport.loseConnection()
        await self.until(client, "lost ConnectionDone")
        client.transport.registerProducer(Source(client), True)
        self.assertEqual(client.notes, ["refused", "lost ConnectionDone", "stop"])

    @scenario
    async def test_deadTransport(self) -> None:
        """Every call on a connection that is lost does nothing."""
        server, client = await self._sides()
        await self._end(server, client)
        server.notes.clear()
        client.notes.clear()
        for side in (server, client):
            side.transport.write(b"x")
            side.transport.writeSequence([b"x"])
            side.transport.pauseProducing()
            side.transport.resumeProducing()
            side.transport.stopProducing()
            side.transport.loseConnection()
            side.transport.abortConnection()
        await self.rest()
        self.assertEqual((server.notes, client.notes), ([], []))


class MemoryScenarioTests(Scenarios, SynchronousTestCase):
    """The scenarios over L{connectPair}."""

    def play(self, played: Deferred[None]) -> None:
        self.successResultOf(played)

    def connect(self, server: Side, client: Side) -> Deferred[None]:
        self.pair = connectPair(server, client)
        return succeed(None)

    def until(self, side: Side, what: str) -> Deferred[None]:
        self.pair.flush()
        self.assertTrue(side.has(what), f"{what} is not in {side.notes}")
        return succeed(None)

    def rest(self) -> Deferred[None]:
        self.pair.flush()
        return succeed(None)


class ByteScenarioTests(MemoryScenarioTests):
    """The scenarios over L{connectPair}, a byte at a time where there are few."""

    def rest(self) -> Deferred[None]:
        few = max(len(self.pair.client.outgoing), len(self.pair.server.outgoing)) < 1000
        self.pair.flush(1 if few else BUFFER_SIZE)
        return succeed(None)


class TCPScenarioTests(Scenarios, TestCase):
    """The scenarios over real TCP on loopback, which prove that Twisted behaves so."""

    #: Seconds after which trial gives up a scenario that hangs; on a machine with a lot to do, the
    #: kernel may let a reader that was paused wait for 0.2 s again and again.
    timeout = 60

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor

    def play(self, played: Deferred[None]) -> Deferred[None]:
        return played

    def connect(self, server: Side, client: Side) -> Deferred[None]:
        return Deferred.fromCoroutine(self._connect(server, client))

    async def _connect(self, server: Side, client: Side) -> None:
        accepted: Deferred[None] = Deferred()

        def build() -> Side:
            self.reactor.callLater(0, accepted.callback, None)
            return server

        factory = Factory.forProtocol(cast(Any, build))
        port = await TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1").listen(factory)
        far = TCP4ClientEndpoint(self.reactor, "127.0.0.1", port.getHost().port)
        await connectProtocol(far, client)
        await accepted
        for side in (server, client):
            sock = cast(Any, side.transport).getHandle()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        await maybeDeferred(port.stopListening)

    def until(self, side: Side, what: str) -> Deferred[None]:
        return side.when(what)

    def rest(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._turns())

    async def _turns(self) -> None:
        for _ in range(50):
            await deferLater(self.reactor, 0)


class PairTests(SynchronousTestCase):
    """What a test can do with a pair in memory that a real connection has not."""

    def test_addresses(self) -> None:
        """Each end knows both addresses, and the server's can be chosen."""
        where = UNIXAddress("/run/x")
        pair = connectPair(Side([]), Side([]), where)
        self.assertEqual((pair.server.getHost(), pair.client.getPeer()), (where, where))
        self.assertEqual(pair.server.getPeer(), pair.client.getHost())

    def test_pieces(self) -> None:
        """Bytes arrive in pieces of the size that the test asks for."""
        server = Side([])
        pair = connectPair(server, Side([]))
        sizes: list[int] = []
        server.onData = lambda: sizes.append(len(server.got))
        pair.client.write(b"hello")
        pair.flush(2)
        self.assertEqual(sizes, [2, 4, 5])

    def test_nothingByItself(self) -> None:
        """Nothing moves until the test says so."""
        server = Side([])
        pair = connectPair(server, Side([]))
        pair.client.write(b"hello")
        self.assertEqual((server.got, pair.client.outgoing), (b"", b"hello"))

    def test_noRest(self) -> None:
        """Two ends that answer each other without end fail the test that lets them."""
        self.patch(testing, "MAX_STEPS", 100)
        server, client = Side([]), Side([])
        pair = connectPair(server, client)
        server.onData = lambda: pair.server.write(b"x")
        client.onData = lambda: pair.client.write(b"x")
        pair.client.write(b"x")
        with self.assertRaises(AssertionError) as caught:
            pair.flush()
        self.assertIn("did not come to rest in 100 steps", str(caught.exception))

    def test_reset(self) -> None:
        """A test can reset one end, once."""
        server = Side([])
        pair = connectPair(server, Side([]))
        pair.server.reset()
        pair.server.reset()
        self.assertEqual(server.notes, ["lost ConnectionLost"])

    def test_socketOptions(self) -> None:
        """What is set on the socket can be read again."""
        transport = connectPair(Side([]), Side([])).server
        for value in (True, False):
            transport.setTcpNoDelay(value)
            transport.setTcpKeepAlive(value)
            self.assertEqual((transport.getTcpNoDelay(), transport.getTcpKeepAlive()), (value,) * 2)

    def test_interface(self) -> None:
        """The transport has every method of the interface, with its arguments."""
        verifyObject(IStreamTransport, connectPair(Side([]), Side([])).server)


class MemoryEndpointTests(SynchronousTestCase):
    """L{MemoryEndpoint} in place of a client's endpoint."""

    def test_connects(self) -> None:
        """Each connection reaches a protocol of its own, and all are moved together."""
        servers: list[Side] = []

        def build() -> Side:
            servers.append(Side([]))
            return servers[-1]

        endpoint = MemoryEndpoint(Factory.forProtocol(cast(Any, build)))
        verifyObject(IStreamClientEndpoint, endpoint)
        for text in (b"one", b"two"):
            client: Any = self.successResultOf(connectProtocol(endpoint, Side([])))
            client.transport.write(text)
        endpoint.flush()
        self.assertEqual([server.got for server in servers], [b"one", b"two"])

    def test_refused(self) -> None:
        """A factory that builds no protocol refuses the connection."""
        factory = Factory()
        factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        refused = connectProtocol(MemoryEndpoint(factory), Side([]))
        self.failureResultOf(refused, ConnectionLost)


class DatagramNotesTests(SynchronousTestCase):
    """L{listenDatagrams} in place of a UDP socket."""

    def test_sent(self) -> None:
        """What is sent is noted with its address, in order."""
        protocol = DatagramProtocol()
        notes = listenDatagrams(protocol)
        cast(Any, protocol.transport).write(b"a", ("127.0.0.1", 1))
        cast(Any, protocol.transport).write(b"")
        self.assertEqual(notes.sent, [(b"a", ("127.0.0.1", 1)), (b"", None)])

    def test_failure(self) -> None:
        """A write fails as the test says, and then nothing was sent."""
        notes = listenDatagrams(DatagramProtocol())
        notes.failure = MessageLengthError()
        self.assertRaises(MessageLengthError, notes.write, b"x")
        self.assertEqual(notes.sent, [])

    def test_host(self) -> None:
        """The protocol is started where the test says, and stops."""
        here = IPv4Address("UDP", "127.0.0.1", 9)
        notes = listenDatagrams(DatagramProtocol(), here)
        notes.connect("127.0.0.2", 5)
        self.assertEqual((notes.getHost(), notes.connected), (here, ("127.0.0.2", 5)))
        self.successResultOf(notes.stopListening())

    def test_interface(self) -> None:
        """The transport has every method of the interface, with its arguments."""
        verifyObject(IUDPTransport, listenDatagrams(DatagramProtocol()))


class Receiver:
    """Notes what a command does."""

    def __init__(self) -> None:
        self.notes: list[object] = []

    def started(self, pid: int) -> None:
        self.notes.append(("started", pid))

    def outReceived(self, data: bytes) -> None:
        self.notes.append(("out", data))

    def errReceived(self, data: bytes) -> None:
        self.notes.append(("err", data))

    def stdinTaken(self, count: int) -> None:
        self.notes.append(("taken", count))

    def stdinLost(self) -> None:
        self.notes.append("lost")

    def outputWaits(self) -> None:
        self.notes.append("waits")

    def commandEnded(self, ending: Ending) -> None:
        self.notes.append(ending)


LAUNCH = Launch(b"/bin/true", [b"true"], {b"A": b"b"}, stdin=True)


class FakeSpawnerTests(SynchronousTestCase):
    """L{FakeSpawner} in place of processes."""

    def setUp(self) -> None:
        self.spawner, self.receiver = FakeSpawner(), Receiver()

    def start(self) -> FakeCommand:
        self.receiver.notes.clear()
        return self.spawner(LAUNCH, self.receiver)

    def test_interface(self) -> None:
        """The fakes are what they stand for."""
        spawner: Spawner = self.spawner
        receiver: CommandReceiver = self.receiver
        command: RunningCommand = spawner(LAUNCH, receiver)
        self.assertEqual(self.spawner.commands, [command])

    def test_command(self) -> None:
        """A command does what the test says, and what it was started with can be seen."""
        command = self.start()
        self.assertEqual(self.spawner.commands, [command])
        self.assertIs(command.launch, LAUNCH)
        self.assertEqual(self.receiver.notes, [])
        command.allow("stdout", UNBOUNDED)
        command.allow("stderr", 1)
        command.out(b"1")
        command.err(b"2")
        command.exit(3)
        self.assertEqual(
            self.receiver.notes, [("started", command.pid), ("out", b"1"), ("err", b"2"), Exited(3)]
        )

    def test_started(self) -> None:
        """A command can be started with any number, once, and before it does anything."""
        command = self.start()
        command.start(77)
        command.start(78)
        command.write(b"x")
        command.takeInput(1)
        self.assertEqual(self.receiver.notes, [("started", 77), ("taken", 1)])
        self.assertNotEqual(self.start().pid, self.start().pid)

    def test_input(self) -> None:
        """What is written to a command can be seen, and is taken when the test says so."""
        command = self.start()
        command.write(b"one")
        command.write(b"two")
        self.assertEqual((command.written, command.inputEnded), (b"onetwo", False))
        command.endInput()
        self.assertTrue(command.inputEnded)
        self.assertEqual(self.receiver.notes, [])
        command.takeInput(4)
        command.loseInput()
        self.assertEqual(self.receiver.notes[1:], [("taken", 4), "lost"])

    def test_leave(self) -> None:
        """A command can be gone, once, while its output waits; its end comes when that was read."""
        command = self.start()
        command.leave()
        self.assertRaises(AssertionError, command.leave)
        command.allow("stdout", 1)
        command.out(b"1")
        command.exit(3)
        self.assertRaises(AssertionError, command.leave)
        self.assertEqual(self.receiver.notes[1:], ["waits", ("out", b"1"), Exited(3)])

    def test_noInput(self) -> None:
        """A test fails in which a command takes what it cannot have been given."""
        command = self.start()
        command.write(b"one")
        self.assertRaises(AssertionError, command.takeInput, 4)
        command.takeInput(2)
        self.assertRaises(AssertionError, command.takeInput, 2)
        command.loseInput()
        self.assertRaises(AssertionError, command.loseInput)
        self.assertRaises(AssertionError, command.takeInput, 1)
        without = self.spawner(replace(LAUNCH, stdin=False), Receiver())
        without.write(b"one")
        self.assertRaises(AssertionError, without.takeInput, 1)
        self.assertRaises(AssertionError, without.loseInput)

    def test_inputAfterItsEnd(self) -> None:
        """What is written after the end of the input, or its loss, reaches no command."""
        for act in (FakeCommand.endInput, FakeCommand.loseInput, FakeCommand.exit):
            command = self.start()
            command.write(b"one")
            act(command)
            command.write(b"two")
            self.assertEqual(command.written, b"one")

    def test_terminal(self) -> None:
        """A terminal has one stream of output, and takes input."""
        launch = replace(LAUNCH, stdin=False, terminal=TerminalSize(24, 80))
        command = self.spawner(launch, self.receiver)
        command.allow("stdout", 1)
        command.allow("stderr", 1)
        command.out(b"1")
        self.assertRaises(AssertionError, command.err, b"1")
        command.write(b"x")
        command.takeInput(1)

    def test_notes(self) -> None:
        """Signals and sizes are noted in order."""
        command = self.start()
        command.signal(15)
        command.signal(9)
        command.resize(TerminalSize(1, 2))
        self.assertEqual((command.signals, command.sizes), ([15, 9], [TerminalSize(1, 2)]))

    def test_allowed(self) -> None:
        """A test in which more comes than may be read fails; each stream has its own allowance."""
        command = self.start()
        self.assertRaises(AssertionError, command.out, b"1")
        command.allow("stdout", 2)
        command.allow("stdout", 1)
        self.assertRaises(AssertionError, command.err, b"1")
        self.assertRaises(AssertionError, command.out, b"1234")
        command.out(b"123")
        self.assertEqual(command.allowed, {"stdout": 0, "stderr": 0})
        self.assertRaises(AssertionError, command.out, b"1")
        self.assertEqual(self.receiver.notes[1:], [("out", b"123")])

    def test_paused(self) -> None:
        """Nothing comes while a command is paused."""
        command = self.start()
        command.allow("stdout", 2)
        command.pause()
        self.assertTrue(command.paused)
        self.assertRaises(AssertionError, command.out, b"1")
        command.resume()
        command.out(b"1")

    def test_end(self) -> None:
        """A command that is asked to end says so, and ends only when the test lets it."""
        command = self.start()
        self.assertFalse(command.asked)
        command.end()
        self.assertTrue(command.asked)
        self.assertEqual(self.receiver.notes, [])

    def test_endings(self) -> None:
        """A command ends once, in any way that there is."""
        for act, ending in (
            (lambda command: command.exit(), Exited(0)),
            (lambda command: command.die(9), Signalled(9)),
            (lambda command: command.die(11, core=True), Signalled(11, True)),
            (lambda command: command.refuse(2, "run x"), NotStarted(2, "run x")),
            (lambda command: command.lose(), Lost()),
        ):
            command = self.start()
            act(command)
            self.assertEqual(self.receiver.notes[-1], ending)
            self.assertTrue(command.ended)
            self.assertRaises(AssertionError, command.lose)
            command.allow("stdout", 1)
            self.assertRaises(AssertionError, command.out, b"1")
            self.assertRaises(AssertionError, command.start)
            self.assertRaises(AssertionError, command.takeInput, 0)
            self.assertRaises(AssertionError, command.loseInput)

    def test_refusedAfterTheStart(self) -> None:
        """What has been started cannot turn out not to be."""
        command = self.start()
        command.start()
        self.assertRaises(AssertionError, command.refuse, 2, "run x")

    def test_stop(self) -> None:
        """A spawner that is stopped says so, and is at once."""
        self.assertFalse(self.spawner.stopped)
        self.assertIsNone(self.successResultOf(self.spawner.stop()))
        self.assertTrue(self.spawner.stopped)

    def test_stopRunning(self) -> None:
        """It has stopped once its commands have ended, of which none begins any more."""
        running, waiting = self.start(), self.start()
        running.start()
        stopped = self.spawner.stop()
        self.assertRaises(AssertionError, waiting.start)
        running.exit()
        self.assertNoResult(stopped)
        waiting.refuse(2, "run x", own=True)
        self.assertEqual(self.receiver.notes[-1], NotStarted(2, "run x", own=True))
        self.assertIsNone(self.successResultOf(stopped))

    def test_obedient(self) -> None:
        """The commands of an obedient one end as those of a real one do."""
        self.spawner = FakeSpawner(obedient=True)
        ended, running, _ = [self.start() for _ in range(3)]
        ended.exit(3)
        running.start()
        self.receiver.notes.clear()
        self.assertIsNone(self.successResultOf(self.spawner.stop()))
        self.assertEqual(
            self.receiver.notes, [Signalled(9), NotStarted(errno.ECANCELED, "run /bin/true")]
        )
