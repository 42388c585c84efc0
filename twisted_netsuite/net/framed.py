"""
Native sessions over streams as a server sees them: who may begin one, and how all of them end.

What both ends have in common is in L{net.sessionend}, the client's in L{net.sessionclient}.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from twisted_netsuite.errors import (
    ConfigurationError,
    LimitExceeded,
    NetsuiteError,
    ProtocolError,
    TimedOut,
    Unauthenticated,
)
from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits
from twisted_netsuite.net.guesses import Guesses, guesserOf
from twisted_netsuite.net.liveness import PING_INTERVAL
from twisted_netsuite.net.serving import ServedFactory, ServedProtocol
from twisted_netsuite.net.sessionend import SOFTWARE, SessionEnd
from twisted_netsuite.trust.identity import ANONYMOUS, Identity
from twisted_netsuite.trust.tokens import TokenVerifier, refusal
from twisted_netsuite.wire.session import (
    DEFAULT_FRAME,
    MAX_FIRST_FRAME,
    MAX_FRAME,
    MAX_PING,
    MIN_PING,
    Hello,
    Limits,
    Record,
    SessionCodec,
    Welcome,
)
from twisted_netsuite.wire.sessionmachine import (
    Effect,
    Input,
    chooseVersion,
    commonFeatures,
    requireService,
    serverMachine,
)
from twisted_netsuite.wire.text import cleanText

#: Seconds until HELLO has to be whole: a program sends it at once, so this is three lost packets on
#: the slowest link. A service's own limit for a first message holds where it is less.
HELLO_TIMEOUT = 10.0

#: Seconds in which a token has to be checked: a directory on another continent answers in one.
VERIFY_TIMEOUT = 10.0

#: Seconds from HELLO to the refusal of a token at the least: the time that a check takes is to tell
#: neither whether the user exists nor how much of the token is right. Who leaves before that, while
#: the token is checked, has not waited for an answer, and is taken for one who guesses.
REFUSAL_DELAY = 1.0

#: Seconds for GOODBYE to reach its peers when a service stops at once.
STOP_TIMEOUT = 1.0


class SessionProtocol(SessionEnd, ServedProtocol):
    """
    The server's end of a session, which a service makes its own.

    It overrides C{recordReceived}, and C{sessionOpened}, C{sessionDraining}, C{errorReceived} and
    C{sessionClosed} as far as it needs them; it calls C{sendRecord}, C{fail}, C{refuse} and
    C{finish}.

    @ivar hello: what the client has said, from C{sessionOpened} on.
    @ivar features: those that both ends know of.
    """

    factory: SessionFactory
    awaitsAuthentication = True
    hello: Hello
    features: tuple[str, ...] = ()
    _version = 0
    _helloEnd: IDelayedCall | None = None
    _refusal: IDelayedCall | None = None
    _checking: Deferred[Identity] | None = None
    _checkBegun = 0.0
    _guesser = ""

    def connectionMade(self) -> None:
        """Wait for HELLO, but not for ever."""
        self.clock = self.factory.clock
        self.codec = self.factory.codec
        self.machine = serverMachine()
        super().connectionMade()
        seconds = min(HELLO_TIMEOUT, self.factory.limits.firstMessageTimeout or HELLO_TIMEOUT)
        self._helloEnd = self.clock.callLater(seconds, self._helloLate, seconds)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Check nobody any more."""
        super().connectionLost(reason)
        self._stopWaiting()

    def readConnectionLost(self) -> None:
        """The peer sends no more."""
        self.peerEnded(Failure(ConnectionDone()))
        super().readConnectionLost()

    def bytesReceived(self) -> None:
        """The peer lives."""
        self.idle.touch()
        super().bytesReceived()

    def evicted(self) -> None:
        """Too many have proven nothing, and this is the oldest: no time is lost on an ERROR."""
        if self.machine.closed:
            self.transport.abortConnection()
        else:
            self._ended(None)
            super().evicted()

    def idled(self) -> None:
        """Nothing has happened for longer than the service allows."""
        if self.machine.closed:
            self.transport.abortConnection()
        elif self.idle.touched:
            self.refuse(TimedOut(f"Nothing came for {self.factory.limits.idleTimeout:g} s."))
        else:
            self._helloLate(self.factory.limits.firstMessageTimeout)

    def openingFailed(self, reason: NetsuiteError | None) -> None:
        """The peer has left, or has made an end of it: if its token was being checked, in vain."""
        if reason is None or self._checking is None:
            return
        assert self.hello.user is not None
        cause = f"it was over before the token of {cleanText(self.hello.user)} was checked."
        if self.clock.seconds() - self._checkBegun < REFUSAL_DELAY:
            self._countGuess(cause)
        else:
            self._logRefusal(cause)

    def dismiss(self, error: NetsuiteError) -> None:
        """
        End the session with an ERROR, and count it when a limit of sessions has done so.

        @param error: what the peer is told.
        """
        if isinstance(error, LimitExceeded) and not self.machine.closed:
            self.place.ended("session-limits")
        super().dismiss(error)

    def peerName(self) -> str:
        """Name the peer."""
        return self.peer

    def closeConnection(self) -> None:
        """Flush and close."""
        self._stopWaiting()
        ServedProtocol.close(self)

    def begin(self, effect: Effect, record: Record) -> None:
        """Find out who says HELLO."""
        assert isinstance(record, Hello), effect
        self._stopWaiting()
        self.hello = record
        requireService(record.service, self.factory.service)
        self._version = chooseVersion(record.versions)
        self.features = commonFeatures(record.features, self.factory.features)
        if record.user is None and record.token is None:
            self._greet()
        elif record.user is None or record.token is None:
            raise ProtocolError("HELLO has a user without a token, or a token without a user.")
        else:
            self._verify(record.user, record.token)

    def _helloLate(self, seconds: float) -> None:
        self._helloEnd = None
        if self.machine.closed:
            return
        self.factory.admission.refusals["first-message-timeout"] += 1
        self.refuse(TimedOut(f"HELLO was not complete within {seconds:g} s."))

    def _verify(self, user: str, token: str) -> None:
        if not self.secure:
            raise Unauthenticated(
                "A token is accepted only over TLS or a Unix socket; use such an address, and take "
                "this token for known to others."
            )
        if self.factory.tokens is None:
            raise Unauthenticated("This service takes no tokens; connect without one.")
        address = self.transport.getPeer()
        self._guesser = guesserOf(self.place.source, address, self.identity, user)
        if wait := self.factory.guesses.wait(self._guesser):
            self._tooOften(wait)
            return
        self._checkBegun = self.clock.seconds()
        checking = self.factory.tokens.verify(user, token)
        checking.addTimeout(VERIFY_TIMEOUT, self.clock)
        # Before its callbacks, which may run at once.
        self._checking = checking
        checking.addCallbacks(self._proven, self._notProven, errbackArgs=(user,))

    def _tooOften(self, wait: float) -> None:
        self.factory.admission.refusals["penalty"] += 1
        if count := self.factory.guesses.refused(self._guesser):
            self._logRefusal(
                "no token is checked, as too many were not accepted (penalty); "
                f"{count} refused so far"
            )
        seconds = math.ceil(wait)
        self.dismiss(
            Unauthenticated(f"Too many tokens were not accepted; try again in {seconds} s.")
        )

    def _proven(self, identity: Identity) -> None:
        self._checking = None
        if self.machine.closed:
            return
        self.identity = identity
        self.guard(self._greet)

    def _notProven(self, failure: Failure, user: str) -> None:
        self._checking = None
        if self.machine.closed:
            return
        # Now, and not with the answer: who guesses need not wait for that.
        who = cleanText(user)
        if failure.check(Unauthenticated):
            self._countGuess(f"the user {who} and the token are not accepted.")
        elif failure.check(TimeoutError):
            self._logRefusal(f"the token of {who} was not checked within {VERIFY_TIMEOUT:g} s.")
        else:
            cause = f"the token of {who} could not be checked."
            self.log.failure("{peer}: {cause}", failure, peer=self.peer, cause=cause)
        wait = max(0.0, self._checkBegun + REFUSAL_DELAY - self.clock.seconds())
        self._refusal = self.clock.callLater(wait, self.dismiss, refusal())

    def _countGuess(self, cause: str) -> None:
        self.authenticationFailed()
        count = self.factory.guesses.failed(self._guesser)
        if count:
            self._logRefusal(cause if count == 1 else f"{cause[:-1]}; {count} such failures so far")

    def _logRefusal(self, cause: str) -> None:
        self.log.info("{peer}: session refused: {cause}", peer=self.peer, cause=cause)

    def _greet(self) -> None:
        factory = self.factory
        if factory.requireIdentity and self.identity == ANONYMOUS:
            raise Unauthenticated(
                "This service has to know who you are; connect with a client certificate, over a "
                "Unix socket, or with a user and a token over TLS."
            )
        self.machine.feed(Input.PROVEN)
        self.authenticated()
        self.sendRecord(
            Welcome(
                version=self._version,
                server=SOFTWARE,
                features=self.features,
                identity=str(self.identity),
                limits=Limits(frame=factory.frame),
                ping=factory.ping,
            )
        )
        self.MAX_LENGTH = factory.frame
        self.watchPeer(factory.ping)
        self.sessionOpened()

    def _stopWaiting(self) -> None:
        for call in (self._helloEnd, self._refusal):
            if call is not None and call.active():
                call.cancel()
        if self._checking is not None:
            self._checking.cancel()


class SessionFactory(ServedFactory):
    """
    Serves sessions of one service.

    @ivar service: the word that a client asks for.
    @ivar codec: knows its records.
    @ivar features: words that it knows.
    @ivar tokens: checks users and tokens; C{None} where none are taken.
    @ivar requireIdentity: whether nobody may stay anonymous.
    @ivar frame: bytes of a frame, both ways, once a session is open.
    @ivar ping: seconds of quiet before either end sends a PING.
    @ivar guesses: tokens that were not accepted.
    """

    protocol = SessionProtocol

    def __init__(
        self,
        clock: IReactorTime,
        service: str,
        records: Iterable[type[Record]] = (),
        *,
        features: Iterable[str] = (),
        tokens: TokenVerifier | None = None,
        requireIdentity: bool = False,
        frame: int = DEFAULT_FRAME,
        ping: int = PING_INTERVAL,
        limits: ConnectionLimits = DEFAULT_LIMITS,
    ) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param service: what is served.
        @param records: those of the service.
        @param features: words that it knows.
        @param tokens: checks users and tokens.
        @param requireIdentity: whether to refuse who is anonymous.
        @param frame: bytes of a frame.
        @param ping: seconds of quiet before a PING.
        @param limits: bounds the connections.
        @raise ConfigurationError: when a number cannot be.
        """
        super().__init__(clock, limits)
        _requireBetween("frame", frame, MAX_FIRST_FRAME, MAX_FRAME)
        _requireBetween("ping", ping, MIN_PING, MAX_PING)
        self.service = service
        self.codec = SessionCodec(records)
        self.features = frozenset(features)
        self.tokens = tokens
        self.requireIdentity = requireIdentity
        self.frame = frame
        self.ping = ping
        self.guesses = Guesses(clock, limits.penalty)
        self._waiting: list[Deferred[None]] = []

    def connectionGone(self, protocol: ServedProtocol) -> None:
        """Note that a connection has ended."""
        super().connectionGone(protocol)
        if not self.connections:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def drain(self, reason: str, seconds: float) -> Deferred[None]:
        """
        Say GOODBYE on every session and let them finish what is open.

        @param reason: a sentence for the peers.
        @param seconds: how long that may take; then they are cut off.
        @return: fires when all connections have gone.
        """
        for protocol in self.sessions():
            protocol.leave(reason)
        return self._goneWithin(seconds)

    def abortConnections(self) -> Deferred[None]:
        """
        Say GOODBYE on every session and end it, finished or not.

        @return: fires when all connections have gone.
        """
        for protocol in self.sessions():
            protocol.leave("The service stops.")
            protocol.finish()
        return self._goneWithin(STOP_TIMEOUT)

    def sessions(self) -> list[SessionProtocol]:
        """
        Tell which connections there are that carry sessions.

        @return: all of them, also those that are not open yet.
        """
        return [each for each in self.connections if isinstance(each, SessionProtocol)]

    def _goneWithin(self, seconds: float) -> Deferred[None]:
        if not self.connections:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._waiting.append(gone)
        late = self.clock.callLater(seconds, super().abortConnections)

        def done(result: None) -> None:
            if late.active():
                late.cancel()

        return gone.addCallback(done)


def _requireBetween(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ConfigurationError(f"{name} is {value}; give {least} to {most}.")
