"""
The client's end of a native session, read with C{await} or by overriding what comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectingCancelledError, ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.errors import ConfigurationError, ConnectionFailed, NetsuiteError, TimedOut
from twisted_netsuite.net.conversation import notConnected, within
from twisted_netsuite.net.serving import CLOSE_TIMEOUT, sendAtOnce
from twisted_netsuite.net.sessionend import SOFTWARE, SessionEnd
from twisted_netsuite.net.tls import isSecure
from twisted_netsuite.trust.identity import NAME
from twisted_netsuite.wire.session import MAX_TOKEN, About, Hello, Record, SessionCodec, Welcome
from twisted_netsuite.wire.sessionmachine import (
    VERSIONS,
    Effect,
    clientMachine,
    requireAgreed,
)
from twisted_netsuite.wire.text import cleanText

S = TypeVar("S", bound="ClientSession")

#: Records that wait to be read before the server is made to wait.
MAX_WAITING = 64


@implementer(IHalfCloseableProtocol)
class ClientSession(SessionEnd):
    """
    The client's end of a session.

    Records wait for L{next}, or a subclass overrides C{recordReceived} and C{errorReceived}. When
    L{MAX_WAITING} wait, nothing is read until they are fewer: a service bounds what it sends
    unasked, as a client that does not read for two intervals of its pings is taken for dead.

    @ivar welcome: what the server has said.
    """

    welcome: Welcome
    _reader: Deferred[None] | None = None
    _why: NetsuiteError | None = None
    _isOver = False
    _cutOff: IDelayedCall | None = None
    _lost = False

    def __init__(self, clock: IReactorTime, codec: SessionCodec, hello: Hello, name: str) -> None:
        """
        @param clock: tells and waits for time.
        @param codec: knows the records of the service.
        @param hello: what to say first.
        @param name: the server's address, for sentences.
        """
        self.clock = clock
        self.codec = codec
        self.machine = clientMachine()
        self.greeted: Deferred[None] = Deferred()
        self._hello = hello
        self._name = name
        self._leavers: list[Deferred[None]] = []
        self._watchers: list[Deferred[None]] = []
        self._queue: deque[Record | NetsuiteError] = deque()

    # What its user calls.

    @property
    def draining(self) -> bool:
        """Whether either end has said GOODBYE, so that nothing new should be begun."""
        return self.machine.draining

    def send(self, record: Record) -> None:
        """
        Send a record.

        @param record: of the service.
        @raise ConnectionFailed: when the session is over; or the error that has ended it.
        @raise LimitExceeded: when it is larger than the server takes.
        """
        if not self.machine.isOpen:
            raise self._failure()
        self.sendRecord(record)

    def next(self, timeout: float) -> Deferred[Record]:
        """
        Read a record; one read may wait at a time.

        @param timeout: seconds to wait for it.
        @return: fires with the next that the service has sent; fails with a L{NetsuiteError}: what
            the server's next ERROR says, and the session goes on unless that has ended it;
            L{TimedOut} when nothing comes in time; L{ConnectionFailed} when the session is over.
        """
        return Deferred.fromCoroutine(self._next(timeout))

    async def _next(self, timeout: float) -> Record:
        if not self._queue:
            await self._arrival(timeout)
        if not self._queue:
            raise self._failure()
        found = self._queue.popleft()
        self.hold(len(self._queue) >= MAX_WAITING)
        if isinstance(found, NetsuiteError):
            raise found
        return found

    def whenEnded(self) -> Deferred[None]:
        """
        Wait for the end of the session.

        @return: one for each caller; fires when the session is over and both ends have agreed to
            that, and fails with why when they have not.
        """
        if self._isOver:
            return succeed(None) if self._why is None else fail(self._why)
        watcher: Deferred[None] = Deferred(self._watchers.remove)
        self._watchers.append(watcher)
        return watcher

    def close(self, reason: str = "") -> Deferred[None]:
        """
        Say GOODBYE and close.

        @param reason: a sentence for the server.
        @return: fires when the connection is gone; a program that ends before may take the GOODBYE
            with it.
        """
        self.leave(reason)
        self.finish()
        gone: Deferred[None] = Deferred()
        if self._lost:
            gone.callback(None)
        else:
            self._leavers.append(gone)
        return gone

    # What comes.

    def recordReceived(self, record: Record) -> None:
        """Keep a record until it is read."""
        self._keep(record)

    def errorReceived(self, error: NetsuiteError, about: About) -> None:
        """Keep an error until it is read."""
        self._keep(error)

    def sessionDraining(self) -> None:
        """Go on: whoever reads knows best what is still open."""

    def sessionClosed(self, reason: NetsuiteError | None) -> None:
        """Tell whoever waits."""
        self._why, self._isOver = reason, True
        self._wake()
        watchers, self._watchers = self._watchers, []
        for each in watchers:
            if reason is None:
                each.callback(None)
            else:
                each.errback(reason)

    def connectionMade(self) -> None:
        """Say HELLO; a token only where nobody else can read it."""
        sendAtOnce(self.transport)
        super().connectionMade()
        if self._hello.token is not None and not isSecure(self.transport):
            error = ConfigurationError(
                f"A token is sent only over TLS or a Unix socket, and {self._name} is neither; "
                "give such an address."
            )
            self.abandon(error)
            return
        self.sendRecord(self._hello)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._lost = True
        if self._cutOff is not None and self._cutOff.active():
            self._cutOff.cancel()
        super().connectionLost(reason)
        leavers, self._leavers = self._leavers, []
        for each in leavers:
            each.callback(None)

    def readConnectionLost(self) -> None:
        """The server sends no more."""
        self.peerEnded(Failure(ConnectionDone()))
        self.closeConnection()

    def writeConnectionLost(self) -> None:
        """Our side is closed, as we asked."""

    def begin(self, effect: Effect, record: Record) -> None:
        """The session is open."""
        assert isinstance(record, Welcome), effect
        requireAgreed(record, self._hello.versions, self._hello.features)
        self.welcome = record
        self.MAX_LENGTH = record.limits.frame
        self.watchPeer(record.ping)
        self.sessionOpened()
        self.greeted.callback(None)

    def openingFailed(self, reason: NetsuiteError | None) -> None:
        """Tell whoever connects."""
        if not self.greeted.called:
            self.greeted.errback(reason or self._failure())

    def blame(self, error: NetsuiteError) -> NetsuiteError:
        """Say of the server what is wrong with it."""
        return type(error)(f"{self._name} does not keep to the session protocol: {error.sentence}")

    def peerName(self) -> str:
        """Name the server."""
        return self._name

    def closeConnection(self) -> None:
        """Flush and close; a server that does not take its bytes in time is cut off."""
        if self._cutOff is None and not self._lost:
            self._cutOff = self.clock.callLater(CLOSE_TIMEOUT, self.transport.abortConnection)
        self.transport.loseConnection()

    def _keep(self, found: Record | NetsuiteError) -> None:
        self._queue.append(found)
        self.hold(len(self._queue) >= MAX_WAITING)
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.callback(None)

    async def _arrival(self, timeout: float) -> None:
        if not self.machine.isOpen:
            return
        if self._reader is not None:
            raise RuntimeError("One read may wait at a time.")
        reader: Deferred[None] = Deferred()
        self._reader = reader
        late = TimedOut(
            f"{self._name} did not answer within {timeout:g} s; see whether it is busy, or give it "
            "longer."
        )
        try:
            await within(self.clock, timeout, reader, late)
        finally:
            if self._reader is reader:
                self._reader = None

    def _failure(self) -> NetsuiteError:
        """Say why there is nothing more."""
        if self._why is not None:
            return self._why
        reason = f": {self.goodbye}" if self.goodbye else "."
        what = "has said goodbye" if self.goodbye is not None else "is not connected any more"
        return ConnectionFailed(f"{self._name} {what}{reason}")


def connectSession(
    endpoint: IStreamClientEndpoint,
    clock: IReactorTime,
    codec: SessionCodec,
    *,
    service: str,
    name: str,
    user: str | None = None,
    token: str | None = None,
    features: Iterable[str] = (),
    timeout: float = 10.0,
) -> Deferred[ClientSession]:
    """
    Open a session.

    @param endpoint: where to.
    @param clock: the reactor, or a fake clock in tests.
    @param codec: knows the records of the service.
    @param service: its word.
    @param name: the address, for sentences.
    @param user: who we are, together with a token.
    @param token: the proof; it is sent only over TLS or a Unix socket.
    @param features: words that we know.
    @param timeout: seconds until the session has to be open, connecting included.
    @return: fires with the open session; fails with L{ConnectionFailed} and the reason; with
        L{TimedOut} when it takes too long; or with what the server's ERROR says, as a
        L{NetsuiteError} of the class of its code; with L{ConfigurationError} when the user or the
        token cannot be, or the token may not be sent.
    """
    try:
        hello = helloFor(service, user=user, token=token, features=features)
    except ConfigurationError as error:
        return fail(error)
    return openSession(ClientSession, endpoint, clock, codec, hello, name=name, timeout=timeout)


def openSession(
    session: type[S],
    endpoint: IStreamClientEndpoint,
    clock: IReactorTime,
    codec: SessionCodec,
    hello: Hello,
    *,
    name: str,
    timeout: float,
) -> Deferred[S]:
    """
    Open a session of a class of one's own; all else is as with L{connectSession}.

    @param session: L{ClientSession} or a subclass that is made alike.
    @param endpoint: where to.
    @param clock: the reactor, or a fake clock in tests.
    @param codec: knows the records of the service.
    @param hello: from L{helloFor}.
    @param name: the address, for sentences.
    @param timeout: seconds until the session has to be open, connecting included.
    @return: fires with the open session.
    """
    factory = Factory.forProtocol(lambda: session(clock, codec, hello, name))
    factory.noisy = False
    opening = Deferred.fromCoroutine(_open(endpoint, factory, name))

    def late(result: object, seconds: float) -> Failure:
        return Failure(
            TimedOut(
                f"{name} did not open a session within {seconds:g} s; see whether the service "
                "speaks this protocol, or give it longer."
            )
        )

    return cast(Deferred[S], opening.addTimeout(timeout, clock, late))


async def _open(
    endpoint: IStreamClientEndpoint, factory: IProtocolFactory, name: str
) -> ClientSession:
    try:
        session = cast(ClientSession, await endpoint.connect(factory))
    except (CancelledError, ConnectingCancelledError) as error:
        # The caller gave up, which is no failure of the connection.
        raise CancelledError from error
    except Exception as error:
        raise notConnected(name, error) from error
    try:
        await session.greeted
    except CancelledError:
        session.abandon(ConnectionFailed(f"The caller gave {name} up."))
        raise
    return session


def helloFor(
    service: str,
    *,
    user: str | None = None,
    token: str | None = None,
    features: Iterable[str] = (),
) -> Hello:
    """
    Make the first record of a client.

    @param service: what it wants.
    @param user: who it is, together with a token.
    @param token: the proof.
    @param features: words that it knows.
    @return: the record.
    @raise ConfigurationError: when the user or the token cannot be.
    """
    if (user is None) != (token is None):
        raise ConfigurationError("A user goes with a token, and a token with a user; give both.")
    if user is not None and not NAME.fullmatch(user):
        raise ConfigurationError(
            f"The user {cleanText(user)[:64]!r} is no name; give letters, digits and ._@-, at most "
            "64 of them."
        )
    if token is not None and not 0 < len(token) <= MAX_TOKEN:
        raise ConfigurationError(
            f"The token has {len(token)} characters; 1 to {MAX_TOKEN} can be sent."
        )
    if token is not None and not _isText(token):
        raise ConfigurationError("The token is no UTF-8; give text.")
    return Hello(
        versions=VERSIONS,
        service=service,
        client=SOFTWARE,
        features=tuple(sorted(set(features))),
        user=user,
        token=token,
    )


def _isText(token: str) -> bool:
    try:
        token.encode()
    except UnicodeEncodeError:
        # As an argument or a file that is no UTF-8 is read by Python.
        return False
    return True
