"""
The client of echo over streams; over datagrams L{net.conversation} has all it takes.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from twisted_netsuite.net.conversation import Conversation, converse

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

    def close(self) -> None:
        """Close the connection."""
        self._conversation.close()


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
