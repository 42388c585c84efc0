"""
The operator's side of the chat dialect I{plain}. A person who writes to one needs no more than
L{twisted_netsuite.net.conversation.DatagramConversation}.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from twisted_netsuite.chat.messages import (
    MAX_LINE,
    Message,
    Notice,
    Reply,
    decodeForConsole,
    encodeLine,
)
from twisted_netsuite.errors import ConfigurationError, LimitExceeded, ProtocolError
from twisted_netsuite.wire.text import cleanText


def defaultSocket() -> str:
    """
    Tell where service and console meet when neither is told.

    @return: a path in a directory that belongs to this user alone.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/netsuite-{os.getuid()}"  # noqa: S108
    return str(Path(runtime) / "netsuite-chat.sock")


def requirePrivate(directory: str) -> None:
    """
    See to it that nobody else can put a socket of his own into a directory.

    @param directory: exists.
    @raise ConfigurationError: when it is not this user's alone.
    @raise OSError: when it cannot be looked at.
    """
    status = os.lstat(directory)
    private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not private or status.st_uid != os.getuid():
        raise ConfigurationError(
            f"The directory {directory!r} is not this user's alone; "
            "give the operators' socket another place with --operate."
        )


class OperatorClient(LineOnlyReceiver):
    """An operator's side of the Unix socket."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE

    def __init__(self, shown: Callable[[Message | Notice], object]) -> None:
        """
        @param shown: called with each record; its texts are made safe to show.
        """
        self._shown = shown
        self.lastSender = ""
        self.ended: Deferred[None] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        """Show a record."""
        try:
            record = decodeForConsole(line)
        except ProtocolError as error:
            record = Notice(error.sentence)
        if isinstance(record, Message):
            self.lastSender = record.sender
            record = Message(record.time, cleanText(record.sender), cleanText(record.text))
        else:
            record = Notice(cleanText(record.text))
        self._shown(record)

    def reply(self, to: str, text: str) -> None:
        """
        Answer.

        @param to: C{IP:PORT}.
        @param text: what to send.
        @raise LimitExceeded: when the text is too long.
        """
        line = encodeLine(Reply(to, text))
        if len(line) > MAX_LINE:
            raise LimitExceeded(
                f"A text of {len(text)} characters is too long; write a shorter one."
            )
        self.sendLine(line)

    def close(self) -> Deferred[None]:
        """
        Send what is left to send, then close.

        @return: fires when the connection has ended.
        """
        assert self.transport is not None
        self.transport.loseConnection()
        return self.ended

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The service is gone."""
        self.ended.callback(None)
