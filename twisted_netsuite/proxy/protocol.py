"""
Forwarding of streams: bytes both ways, under backpressure, with half-close passed through.

Each direction ends on its own: the end of one side's data is passed on once everything before it
has been, and the other direction goes on. A leg over TLS cannot be half closed: see
L{HALF_CLOSED_IDLE}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

from OpenSSL.SSL import Error as SSLError
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.net.conversation import connectReason
from twisted_netsuite.net.eager import eagerWrite
from twisted_netsuite.net.interfaces import IStreamTransport
from twisted_netsuite.net.limits import IdleTimer
from twisted_netsuite.net.names import peerName
from twisted_netsuite.net.serving import (
    CLOSE_TIMEOUT,
    ServedFactory,
    ServedProtocol,
    sendAtOnce,
)
from twisted_netsuite.net.tls import peerHasClosed
from twisted_netsuite.proxy.machine import TABLE, Effect, Flow, Happening
from twisted_netsuite.trust.oversight import UNSEEN, Oversight, causeOf
from twisted_netsuite.wire.machine import Machine
from twisted_netsuite.wire.text import shownBytes

#: Bytes taken from a client before its target has accepted; then reading waits. One read of Twisted
#: holds as much, and it is enough to notice that a client has gone away meanwhile.
MAX_EARLY = 64 * 1024

#: Seconds without a byte after which a flow is given up whose client has ended, where a TLS leg
#: could not be told so: time for an answer that is on its way, not for one that waits for the end.
HALF_CLOSED_IDLE = 60.0

#: Who speaks first, and when, is a matter of what is forwarded: a pool of connections may wait.
PROXY_LIMITS = ConnectionLimits(firstMessageTimeout=0.0)

#: A TCP connection as the system tells it from all others: both its ends, the caller's first. One
#: is not enough, as a port may be used for several connections to different places.
Ends = tuple[str, str]

#: Bytes of a chunk that the log shows; more would make lines that nobody reads.
MAX_LOGGED = 4096


def _ends(caller: object, called: object) -> Ends | None:
    if not isinstance(caller, IPv4Address | IPv6Address):
        return None
    return peerName(caller), peerName(called)


@implementer(IPushProducer)
class Reading:
    """
    The reading of one leg, which the writing of the other pauses.

    A leg itself would close cleanly when its consumer is lost; here nothing is closed but by the
    flow, which knows how the other leg ended.
    """

    def __init__(self, transport: IStreamTransport) -> None:
        """
        @param transport: the leg's.
        """
        self._transport = transport

    def pauseProducing(self) -> None:
        """Read nothing."""
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        self._transport.resumeProducing()

    def stopProducing(self) -> None:
        """The other leg is lost: its C{connectionLost} follows."""


@implementer(IHalfCloseableProtocol)
class TargetLeg(Protocol):
    """
    The connection to the target.

    @ivar gone: fires when it has ended.
    @ivar ends: its ends, once it is made; for a Unix socket, which has no names, C{None}.
    """

    transport: IStreamTransport
    ends: Ends | None = None
    _closing: IdleTimer | None = None

    def __init__(self, client: ClientLeg) -> None:
        """
        @param client: the other leg.
        """
        self._client = client
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """The target has accepted."""
        sendAtOnce(self.transport)
        self._client.factory.targetMade(self)

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        self._client.targetReceived(data)

    def readConnectionLost(self) -> None:
        """The target sends no more."""
        self._client.happened(Happening.TARGET_END)

    def writeConnectionLost(self) -> None:
        """The client's end has been passed on."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The target is gone."""
        if self._closing is not None:
            self._closing.stop()
        if reason.check(SSLError):
            self._client.log.warn(
                "{peer}: {target} was lost: {reason}",
                peer=self._client.peer,
                target=self._client.factory.targetName,
                reason=connectReason(reason.value),
            )
        self._client.happened(Happening.TARGET_LOST, reason)
        self._client.factory.targetGone(self)
        self.gone.callback(None)

    def close(self) -> None:
        """Flush and close; a target that does not take its bytes in time is cut off."""
        self._closing = IdleTimer(
            self._client.factory.clock, CLOSE_TIMEOUT, self.transport.abortConnection
        )
        self._closing.start()
        self.transport.loseConnection()


class ClientLeg(ServedProtocol):
    """
    The connection that a client made, and the flow it began.

    @ivar ends: its ends, once it is made; for a Unix socket, which has no names, C{None}.
    """

    factory: ProxyFactory
    ends: Ends | None = None
    _target: TargetLeg | None = None
    _connecting: Deferred[IProtocol] | None = None

    def connectionMade(self) -> None:
        """Connect to the target, reading a little meanwhile."""
        super().connectionMade()
        self._early: list[bytes] = []
        self._earlyBytes = 0
        self._write: Callable[[bytes], object] = self._keep
        self._writeBack = eagerWrite(self.transport)
        self._overTLS = ISSLTransport.providedBy(self.transport)
        self._machine = Machine(TABLE, Flow.CONNECTING)
        if not self.factory.admit(self):
            self.transport.abortConnection()
            return
        permitted = maybeDeferred(self.factory.permit, self)
        permitted.addCallbacks(self._connect, self._denied).addErrback(self.broken)

    def _connect(self, _: None) -> None:
        if self._machine.state is not Flow.CLOSED:
            self._connecting = self.factory.connectTarget(self)
            self._connecting.addCallbacks(self._accepted, self._failed)

    def _denied(self, failure: Failure) -> None:
        failure.trap(NetsuiteError)
        cause = causeOf(cast(NetsuiteError, failure.value))
        if self._machine.state is not Flow.CLOSED:
            self.log.info("{peer}: closed, {cause}", peer=self.peer, cause=cause)
        self.happened(Happening.TARGET_REFUSED)

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        if self._machine.state is Flow.CLOSED:
            # TLS delivers even after it was told to close, and the other leg may be gone.
            return
        self.idle.touch()
        if self.factory.logData:
            self.factory.logChunk(self, "sent", data)
        self._write(data)

    def targetReceived(self, data: bytes) -> None:
        """
        Pass on what the target sent.

        @param data: one chunk.
        """
        if self._machine.state is Flow.CLOSED:
            return
        self.idle.touch()
        if self.factory.logData:
            self.factory.logChunk(self, "got", data)
        if self._overTLS and peerHasClosed(self.transport):
            self.transport.abortConnection()
        else:
            self._writeBack(data)

    def readConnectionLost(self) -> None:
        """The client sends no more."""
        self.happened(Happening.CLIENT_END)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone."""
        super().connectionLost(reason)
        closed = reason.check(ConnectionDone) is not None
        self.happened(Happening.CLIENT_CLOSED if closed else Happening.CLIENT_LOST, reason)

    def happened(self, happening: Happening, reason: Failure | None = None) -> None:
        """
        Let the flow take its next step.

        @param happening: what happened.
        @param reason: why, when a leg was lost.
        """
        match self._machine.feed(happening):
            case Effect.JOIN:
                self._join()
            case Effect.JOIN_AND_END_TARGET:
                self._join()
                self._endTarget()
            case Effect.DELIVER:
                self._deliver()
            case Effect.END_TARGET:
                self._endTarget()
            case Effect.END_CLIENT:
                self._endWriting(self)
            case Effect.DROP_CLIENT:
                self._drop(self, reason)
            case Effect.DROP_TARGET:
                self._dropTarget(reason)
            case Effect.FINISH:
                self._finish()
            case Effect.NOTHING:
                pass

    def _keep(self, data: bytes) -> None:
        self._early.append(data)
        self._earlyBytes += len(data)
        if self._earlyBytes >= MAX_EARLY:
            self.transport.pauseProducing()

    def _accepted(self, leg: IProtocol) -> None:
        assert isinstance(leg, TargetLeg)
        self._connecting = None
        self._target = leg
        self.happened(Happening.TARGET_OPEN)

    def _failed(self, failure: Failure) -> None:
        self._connecting = None
        if self._machine.state is not Flow.CLOSED:
            self.log.warn(
                "{peer}: closed, {target} was not reached: {reason}",
                peer=self.peer,
                target=self.factory.targetName,
                reason=connectReason(failure.value),
            )
        self.happened(Happening.TARGET_REFUSED)

    def _join(self) -> None:
        assert self._target is not None
        target = self._target.transport
        early, self._early = self._early, []
        overTLS = ISSLTransport.providedBy(target)
        self._write = self._writeTLS if overTLS else eagerWrite(target)
        target.registerProducer(Reading(self.transport), True)
        self.transport.registerProducer(Reading(target), True)
        if self._earlyBytes >= MAX_EARLY:
            self.transport.resumeProducing()
        if early:
            self._write(b"".join(early))

    def _writeTLS(self, data: bytes) -> None:
        assert self._target is not None
        if peerHasClosed(self._target.transport):
            self._target.transport.abortConnection()
        else:
            self._target.transport.write(data)

    def _deliver(self) -> None:
        assert self._target is not None
        self._target.transport.write(b"".join(self._early))
        self._target.close()

    def _endTarget(self) -> None:
        assert self._target is not None
        self._endWriting(self._target)

    def _endWriting(self, leg: ClientLeg | TargetLeg) -> None:
        leg.transport.unregisterProducer()
        if not ISSLTransport.providedBy(leg.transport):
            leg.transport.loseWriteConnection()
        elif not 0 < self.factory.limits.idleTimeout <= HALF_CLOSED_IDLE:
            self.idle.stop()
            self.idle = IdleTimer(self.factory.clock, HALF_CLOSED_IDLE, self._unanswered)
            self.idle.start()

    def _unanswered(self) -> None:
        self.log.info(
            "{peer}: closed, half closed over TLS and idle for {seconds:g} s",
            peer=self.peer,
            seconds=HALF_CLOSED_IDLE,
        )
        self.transport.abortConnection()

    def _dropTarget(self, reason: Failure | None) -> None:
        if self._target is not None:
            self._drop(self._target, reason)
        elif self._connecting is not None:
            self._connecting.cancel()

    def _drop(self, leg: ClientLeg | TargetLeg, reason: Failure | None) -> None:
        """
        End one leg as the other ended.

        An abrupt end must not look like a clean one, or what was cut off would be taken for whole.
        """
        leg.transport.unregisterProducer()
        if reason is None or reason.check(ConnectionDone):
            leg.close()
        else:
            leg.transport.abortConnection()

    def _finish(self) -> None:
        assert self._target is not None
        for leg in (self, self._target):
            leg.transport.unregisterProducer()
            leg.close()


class ProxyFactory(ServedFactory):
    """
    Forwards each connection to one target.

    @ivar targetName: the target, for the log.
    @ivar logData: whether every chunk is logged.
    @ivar targets: the connections to the target that are open now. One may outlive its client, to
        flush what the client has sent.
    """

    protocol = ClientLeg
    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        target: IStreamClientEndpoint,
        *,
        targetName: str = "the target",
        logData: bool = False,
        limits: ConnectionLimits = PROXY_LIMITS,
        oversight: Oversight = UNSEEN,
        place: tuple[str, int] = ("", 0),
    ) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param target: connects to the target, once for each client.
        @param targetName: the target, for the log.
        @param logData: whether to log every chunk: time, peer and data.
        @param limits: bounds the clients' connections; each has one to the target too.
        @param oversight: tells who may be connected with the target.
        @param place: the target's host and port, by which a policy knows it.
        """
        super().__init__(clock, limits)
        self._target = target
        self.targetName = targetName
        self.logData = logData
        self._oversight = oversight
        self._place = place
        self.targets: set[TargetLeg] = set()
        self._connecting: set[Deferred[IProtocol]] = set()
        self._clientEnds: dict[Ends, ClientLeg] = {}
        self._targetEnds: set[Ends] = set()

    def admit(self, client: ClientLeg) -> bool:
        """
        Take a client, unless it is this proxy itself: whatever the target is called, a leg to it
        that comes back as a client is a loop, which would go on until no descriptor is left.

        @param client: has just connected.
        @return: whether it may stay.
        """
        # Kept, as a balancer's header gives the peer another name later.
        client.ends = _ends(client.transport.getPeer(), client.transport.getHost())
        if client.ends in self._targetEnds:
            self._logLoop(client)
            return False
        if client.ends is not None:
            self._clientEnds[client.ends] = client
        return True

    def connectionGone(self, protocol: ServedProtocol) -> None:
        """Forget a client."""
        assert isinstance(protocol, ClientLeg)
        if protocol.ends is not None and self._clientEnds.get(protocol.ends) is protocol:
            del self._clientEnds[protocol.ends]
        super().connectionGone(protocol)

    def targetMade(self, leg: TargetLeg) -> None:
        """
        Note a leg to the target, and end the client that it turns out to be.

        @param leg: has just connected.
        """
        self.targets.add(leg)
        # Kept, as a lost connection cannot tell them any more.
        leg.ends = _ends(leg.transport.getHost(), leg.transport.getPeer())
        if leg.ends is None:
            return
        self._targetEnds.add(leg.ends)
        client = self._clientEnds.get(leg.ends)
        if client is not None:
            self._logLoop(client)
            client.transport.abortConnection()

    def targetGone(self, leg: TargetLeg) -> None:
        """
        Forget a leg to the target.

        @param leg: has ended.
        """
        self.targets.discard(leg)
        if leg.ends is not None:
            self._targetEnds.discard(leg.ends)

    def _logLoop(self, client: ClientLeg) -> None:
        self.log.warn(
            "{peer}: closed, {target} leads back to this proxy; give it another target",
            peer=client.peer,
            target=self.targetName,
        )

    def permit(self, client: ClientLeg) -> Deferred[None]:
        """
        Ask whether a client may be connected with the target.

        @param client: has just connected.
        @return: fires when it may; fails with L{NetsuiteError}.
        """
        decision = self._oversight.decide(
            lambda policy: policy.proxy(client.identity, *self._place)
        )
        return self._oversight.begin(
            "proxy.connect",
            decision,
            peer=client.address,
            identity=client.identity,
            target=self.targetName,
        )

    def connectTarget(self, client: ClientLeg) -> Deferred[IProtocol]:
        """
        Connect to the target for one client.

        @param client: the client's leg.
        @return: fires with a L{TargetLeg}.
        """
        factory = Factory.forProtocol(lambda: TargetLeg(client))
        factory.noisy = False
        connecting = self._target.connect(factory)
        self._connecting.add(connecting)
        connecting.addBoth(self._connected, connecting)
        return connecting

    def abortConnections(self) -> Deferred[None]:
        """
        End every connection at once, those to the target too.

        @return: fires when all have gone.
        """
        gone = [super().abortConnections(), *(leg.gone for leg in self.targets)]
        for connecting in list(self._connecting):
            connecting.cancel()
        for leg in list(self.targets):
            leg.transport.abortConnection()
        return gatherResults(gone).addCallback(lambda _: None)

    def _connected(self, result: Any, connecting: Deferred[IProtocol]) -> Any:
        self._connecting.discard(connecting)
        return result

    def logChunk(self, client: ClientLeg, verb: str, data: bytes) -> None:
        """
        Log a chunk; its bytes are escaped, so that none can control a terminal.

        @param client: whose it is.
        @param verb: whether the client sent it, or got it.
        @param data: the chunk.
        """
        self.log.info(
            "{peer} {verb} {data}", peer=client.peer, verb=verb, data=shownBytes(data, MAX_LOGGED)
        )
