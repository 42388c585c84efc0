"""
What passes between the chat service and an operator's console: JSON, one object a line.
"""

from __future__ import annotations

import msgspec

from twisted_netsuite.errors import ProtocolError

#: Bytes of one line: twice what L{MAX_TEXT} characters can take, at four bytes of JSON each.
MAX_LINE = 64 * 1024

#: Characters of a message that are shown: more fit on no screen.
MAX_TEXT = 8192


class Message(msgspec.Struct, frozen=True, tag="message", tag_field="type"):
    """
    Service to console: somebody wrote.

    @ivar time: seconds since 1970, UTC.
    @ivar sender: C{IP:PORT}.
    @ivar text: safe to show.
    """

    time: float
    sender: str
    text: str


class Notice(msgspec.Struct, frozen=True, tag="notice", tag_field="type"):
    """
    Service to console: something the operator should know.

    @ivar text: one sentence.
    """

    text: str


class Reply(msgspec.Struct, frozen=True, tag="reply", tag_field="type"):
    """
    Console to service: send this.

    @ivar to: C{IP:PORT}.
    @ivar text: what to send.
    """

    to: str
    text: str


_encoder = msgspec.json.Encoder()
_toConsole = msgspec.json.Decoder(Message | Notice)
_toService = msgspec.json.Decoder(Reply)

#: What decoding can fail with; brackets in brackets without end are a RecursionError.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encodeLine(record: Message | Notice | Reply) -> bytes:
    """
    Encode a record.

    @param record: any of the three.
    @return: one line, without its end.
    """
    return _encoder.encode(record)


def decodeForConsole(line: bytes) -> Message | Notice:
    """
    Decode what a service sent.

    @param line: one line.
    @return: the record.
    @raise ProtocolError: when it is none.
    """
    try:
        record: Message | Notice = _toConsole.decode(line)
    except _UNREADABLE as error:
        raise ProtocolError(f"The service sent a line that cannot be read: {error}.") from error
    return record


def decodeForService(line: bytes) -> Reply:
    """
    Decode what a console sent.

    @param line: one line.
    @return: the record.
    @raise ProtocolError: when it is none.
    """
    try:
        return _toService.decode(line)
    except _UNREADABLE as error:
        raise ProtocolError(f"The console sent a line that cannot be read: {error}.") from error
