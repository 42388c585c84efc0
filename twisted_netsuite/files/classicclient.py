"""
The client of the classic file dialect I{get}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from twisted_netsuite.errors import (
    ConnectionFailed,
    Denied,
    NetsuiteError,
    ProtocolError,
    TimedOut,
    classForCode,
)
from twisted_netsuite.net.conversation import Conversation, converse

#: Seconds in which the digits of a size, or the words of an error, must come when they were split;
#: nothing marks their end.
SIZE_QUIET = 0.2

#: Bytes of a size or of an error that are read.
MAX_REPLY = 4096

#: Digits of a size: enough for any 64-bit number.
MAX_DIGITS = 20

_ERROR = b"err: "

#: What a server of the native dialect answers begins with a frame's length, a byte that says how
#: many fields a record has, and the first of these.
_FRAME, _RECORD = 5, b"\xa4type"


class ClassicFiles:
    """Gets files over one connection, one after another."""

    def __init__(self, conversation: Conversation, timeout: float) -> None:
        """
        @param conversation: an open connection.
        @param timeout: seconds that may pass without a byte.
        """
        self._conversation = conversation
        self._timeout = timeout

    async def get(self, name: str, write: Callable[[bytes], object]) -> int:
        """
        Get one file.

        @param name: its path from the server's root.
        @param write: takes each piece of it, in order.
        @return: its bytes.
        @raise NetsuiteError: as the server refused, for example L{NotFound}.
        @raise TimedOut: when nothing comes in time.
        @raise ConnectionFailed: when the connection ends first; the pieces are not the whole file.
        @raise ProtocolError: when the server speaks another dialect.
        """
        self._conversation.write(b"get " + name.encode("utf-8", "surrogateescape"))
        reply = await self._conversation.readUntilQuiet(self._timeout, SIZE_QUIET, 0, MAX_REPLY)
        if reply.startswith(_ERROR):
            raise _refusal(name, reply[len(_ERROR) :].decode("utf-8", "replace"))
        if reply[_FRAME : _FRAME + len(_RECORD)] == _RECORD:
            raise ProtocolError("The server speaks the native dialect; leave --dialect out.")
        if not reply.isdigit() or len(reply) > MAX_DIGITS:
            raise ProtocolError(
                f"The server answered {reply[:40]!r} where the get dialect sends a size; "
                "see whether it speaks another dialect."
            )
        size = left = int(reply)
        self._conversation.write(b"recv_ready")
        if not size:
            await self._acknowledged()
        while left:
            piece = await self._conversation.readChunk(self._timeout, left)
            left -= len(piece)
            write(piece)
        return size

    async def _acknowledged(self) -> None:
        """
        Let the server read an acknowledgement that it does not answer.

        What is sent right behind it, such as the next request, would be taken for a part of it.
        """
        try:
            unasked = await self._conversation.readChunk(SIZE_QUIET)
        except (TimedOut, ConnectionFailed):
            return
        raise ProtocolError(f"The server sent {unasked[:40]!r} behind a file of no bytes.")

    def close(self) -> Deferred[None]:
        """
        Close the connection.

        @return: fires when it is closed.
        """
        return self._conversation.close()


def _refusal(name: str, reason: str) -> NetsuiteError:
    code, _, sentence = reason.partition(": ")
    known = classForCode(code)
    if known is None:
        return Denied(f"The server refused {name!r}: {reason}")
    return known(f"The server refused {name!r}: {sentence}")


async def connectClassic(
    endpoint: IStreamClientEndpoint, clock: IReactorTime, *, name: str, timeout: float = 60.0
) -> ClassicFiles:
    """
    Connect to a classic file service.

    @param endpoint: where to.
    @param clock: the reactor, or a fake clock in tests.
    @param name: the address, for error sentences.
    @param timeout: seconds that may pass without a byte.
    @return: an open session.
    @raise ConnectionFailed: with the reason.
    """
    return ClassicFiles(await converse(endpoint, clock, name), timeout)
