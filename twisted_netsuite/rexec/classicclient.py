"""
The client of the classic exec dialects.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from twisted_netsuite.errors import Denied, LimitExceeded, ProtocolError, TimedOut
from twisted_netsuite.net.conversation import Conversation, converse
from twisted_netsuite.wire.header import AnswerHeader, AnswerParser

Dialect = Literal["raw", "length", "header"]

#: Seconds of silence after which a I{raw} answer is taken to be complete: nothing marks its end.
RAW_QUIET = 1.0

#: Seconds in which the digits of a I{length} that was split must come; they are not marked either.
LENGTH_QUIET = 0.2

#: Digits of a length: enough for any 64-bit number.
MAX_DIGITS = 20

#: Bytes of an answer that the client keeps: a server that announces more is not waited for.
MAX_ANSWER = 64 * 1024 * 1024


#: The status that stands for an outcome, for a server that tells no other.
_STATUS = {
    "denied": Denied.exitStatus,
    "timed-out": TimedOut.exitStatus,
    "limit": LimitExceeded.exitStatus,
}


@dataclass(frozen=True)
class Answer:
    """
    What a command was answered.

    @ivar output: stdout, then stderr.
    @ivar status: how it ended, as a shell would say it; C{None} when the dialect or the server does
        not tell.
    """

    output: bytes
    status: int | None


class ClassicSession:
    """Runs commands over one connection, one after another."""

    def __init__(self, conversation: Conversation, dialect: Dialect, timeout: float) -> None:
        """
        @param conversation: an open connection.
        @param dialect: what the server speaks.
        @param timeout: seconds that may pass without a byte.
        """
        self._conversation = conversation
        self._dialect = dialect
        self._timeout = timeout
        self._parser = AnswerParser(MAX_ANSWER)
        self._answers: list[tuple[AnswerHeader, bytes]] = []

    async def run(self, command: str) -> Answer:
        """
        Run a command.

        @param command: a command line for the server's shell.
        @return: its answer.
        @raise TimedOut: when nothing comes in time.
        @raise ConnectionFailed: when the connection ends first.
        @raise ProtocolError: when the server speaks another dialect, or its digest is not that of
            what came.
        @raise LimitExceeded: when the answer is too large.
        """
        self._conversation.write(command.encode("utf-8", "surrogateescape"))
        match self._dialect:
            case "raw":
                return Answer(await self._rawAnswer(), None)
            case "length":
                return Answer(await self._lengthAnswer(), None)
            case "header":
                return await self._headerAnswer()

    def close(self) -> Deferred[None]:
        """
        Close the connection.

        @return: fires when it is closed.
        """
        return self._conversation.close()

    async def _rawAnswer(self) -> bytes:
        # One byte more than is accepted tells a large answer from one that is cut.
        output = await self._conversation.readUntilQuiet(
            self._timeout, RAW_QUIET, 0, MAX_ANSWER + 1
        )
        if len(output) > MAX_ANSWER:
            raise LimitExceeded(
                f"The server sent {len(output)} bytes and more; at most {MAX_ANSWER} are accepted."
            )
        return output

    async def _lengthAnswer(self) -> bytes:
        digits = await self._conversation.readUntilQuiet(self._timeout, LENGTH_QUIET, 0, MAX_DIGITS)
        if not digits.isdigit() or len(digits) > MAX_DIGITS:
            raise ProtocolError(
                f"The server answered {digits[:40]!r} where the length dialect sends a number; "
                "see whether it speaks another --dialect."
            )
        if int(digits) > MAX_ANSWER:
            raise LimitExceeded(
                f"The server announced {int(digits)} bytes; at most {MAX_ANSWER} are accepted."
            )
        self._conversation.write(b"recv_ready")
        return await self._conversation.readExactly(int(digits), self._timeout)

    async def _headerAnswer(self) -> Answer:
        while not self._answers:
            self._answers += self._parser.feed(await self._conversation.readChunk(self._timeout))
        header, payload = self._answers.pop(0)
        if header.hash_algorithm == "sha256" and sha256(payload).hexdigest() != header.hash:
            raise ProtocolError("The output that came does not have the digest that was sent.")
        status = header.exit_status
        return Answer(payload, _STATUS.get(header.outcome) if status is None else status)


async def connectClassic(
    endpoint: IStreamClientEndpoint,
    clock: IReactorTime,
    *,
    dialect: Dialect,
    name: str,
    timeout: float = 60.0,
) -> ClassicSession:
    """
    Connect to a classic exec service.

    @param endpoint: where to.
    @param clock: the reactor, or a fake clock in tests.
    @param dialect: what the server speaks.
    @param name: the address, for error sentences.
    @param timeout: seconds that may pass without a byte.
    @return: an open session.
    @raise ConnectionFailed: with the reason.
    """
    return ClassicSession(await converse(endpoint, clock, name), dialect, timeout)
