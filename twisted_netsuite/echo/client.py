"""
The clients of echo over streams, classic and native; over datagrams L{net.conversation} has all it
takes.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from twisted_netsuite.echo.messages import RECORDS, SERVICE, Echo
from twisted_netsuite.errors import ConfigurationError, ConnectionFailed, ProtocolError, TimedOut
from twisted_netsuite.net.conversation import Conversation, converse
from twisted_netsuite.net.sessionclient import ClientSession, helloFor, openSession
from twisted_netsuite.wire.session import MAX_DATA, RECORD_ROOM, SessionCodec

#: Seconds of silence after which an answer shorter than its message is taken to be complete: a
#: service may answer a fixed text.
QUIET = 0.3

#: Bytes of one answer that are read.
MAX_ANSWER = 16 * 1024 * 1024


class EchoSession:
    """Sends messages over one stream, and reads the answer to each."""

    def __init__(self, conversation: Conversation, timeout: float) -> None:
        """
        @param conversation: an open connection.
        @param timeout: seconds to wait for an answer.
        """
        self._conversation = conversation
        self._timeout = timeout

    async def send(self, message: bytes) -> bytes:
        """
        Send a message.

        @param message: at least one byte.
        @return: its answer: as many bytes as were sent, or fewer when silence or the end of the
            connection follows.
        @raise TimedOut: when nothing comes in time.
        @raise ConnectionFailed: when the connection ends before an answer.
        """
        self._conversation.write(message)
        return await self._conversation.readUntilQuiet(
            self._timeout, QUIET, len(message), MAX_ANSWER
        )

    def close(self) -> Deferred[None]:
        """
        Close the connection.

        @return: fires when it is closed.
        """
        return self._conversation.close()


async def connectEcho(
    endpoint: IStreamClientEndpoint, clock: IReactorTime, *, name: str, timeout: float = 10.0
) -> EchoSession:
    """
    Connect to an echo service.

    @param endpoint: where to.
    @param clock: the reactor, or a fake clock in tests.
    @param name: the address, for error sentences.
    @param timeout: seconds to wait for an answer.
    @return: an open session.
    @raise ConnectionFailed: with the reason.
    """
    return EchoSession(await converse(endpoint, clock, name), timeout)


class NativeEchoSession(ClientSession):
    """Sends messages over a session, one at a time, and reads the answer to each."""

    timeout = 10.0
    _asking = False

    def ask(self, message: bytes) -> Deferred[bytes]:
        """
        Send a message.

        @param message: any bytes; what one record cannot hold goes in several, one after the other.
        @return: fires with what came back; fails with L{TimedOut} when a record does not come back
            in time; with L{ConnectionFailed} when the session is over, or the server has said
            GOODBYE; with L{ProtocolError} when the server answers something else.
        """
        return Deferred.fromCoroutine(self._ask(message))

    async def _ask(self, message: bytes) -> bytes:
        if self.draining:
            raise ConnectionFailed(f"{self.peerName()} stops: nothing new is begun.")
        self._asking = True
        try:
            return b"".join([await self._exchange(piece) for piece in self._pieces(message)])
        finally:
            self._asking = False
            if self.goodbye is not None:
                self.finish()

    def sessionDraining(self) -> None:
        """Close, unless an answer is on its way."""
        if not self._asking:
            self.finish()

    def _pieces(self, message: bytes) -> list[bytes]:
        size = min(MAX_DATA, self.MAX_LENGTH - RECORD_ROOM)
        starts = range(0, max(1, len(message)), size)
        return [message[start : start + size] for start in starts]

    async def _exchange(self, data: bytes) -> bytes:
        self.send(Echo(data=data))
        try:
            answer = await self.next(self.timeout)
        except TimedOut as error:
            # What comes late would be taken for the answer to something else.
            self.abandon(error)
            raise
        if not isinstance(answer, Echo):
            raise ProtocolError(f"{self.peerName()} answered something else.")
        return answer.data


def connectNativeEcho(
    endpoint: IStreamClientEndpoint,
    clock: IReactorTime,
    *,
    name: str,
    user: str | None = None,
    token: str | None = None,
    timeout: float = 10.0,
) -> Deferred[NativeEchoSession]:
    """
    Connect to a native echo service.

    @param endpoint: where to.
    @param clock: the reactor, or a fake clock in tests.
    @param name: the address, for sentences.
    @param user: who we are, together with a token.
    @param token: the proof; it is sent only over TLS or a Unix socket.
    @param timeout: seconds for the session to open, and for each record to come back.
    @return: fires with the open session; fails as with
        L{connectSession<twisted_netsuite.net.sessionclient.connectSession>}.
    """
    try:
        hello = helloFor(SERVICE, user=user, token=token)
    except ConfigurationError as error:
        return fail(error)

    def opened(session: NativeEchoSession) -> NativeEchoSession:
        session.timeout = timeout
        return session

    codec = SessionCodec(RECORDS)
    return openSession(
        NativeEchoSession, endpoint, clock, codec, hello, name=name, timeout=timeout
    ).addCallback(opened)
