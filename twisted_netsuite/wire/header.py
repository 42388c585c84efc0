"""
The answer form of the I{header} exec dialect: 4 bytes of length, a JSON header, then the payload.

The length is C{struct.pack('i', n)} on the machines where the tutorial runs: little-endian, signed.
The header is C{{"filename": str, "total_size": int, "hash": str}}; further keys may stand in it.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Annotated

import msgspec

from twisted_netsuite.errors import LimitExceeded, ProtocolError

_LENGTH = struct.Struct("<i")

#: A header holds a name, a number and a digest: 64 KiB is far more than any real one needs, and
#: little enough to hold for each connection.
MAX_HEADER = 64 * 1024


class AnswerHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The JSON header that goes before a payload.

    @ivar filename: the name of the program that ran.
    @ivar total_size: bytes of payload that follow.
    @ivar hash: digest of the payload, in hex.
    @ivar hash_algorithm: the digest's name, when the server vouches for it; servers of the tutorial
        do not send it, and their C{hash} is not one.
    @ivar exit_status: how the command ended, as a shell would say it; absent when unknown.
    @ivar outcome: one of C{exited}, C{signalled}, C{timed-out}, C{limit}, C{denied}; absent when
        unknown.
    """

    filename: str
    total_size: int
    hash: str
    hash_algorithm: str = ""
    exit_status: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    outcome: str = ""


_decoder = msgspec.json.Decoder(AnswerHeader)


def encodeAnswer(filename: str, payload: bytes, exitStatus: int, outcome: str) -> bytes:
    """
    Encode one whole answer.

    @param filename: the name of the program that ran.
    @param payload: stdout, then stderr.
    @param exitStatus: how the command ended, as a shell would say it.
    @param outcome: one of the words of L{AnswerHeader.outcome}.
    @return: length, header and payload.
    """
    header = msgspec.json.encode(
        AnswerHeader(
            filename=filename,
            total_size=len(payload),
            hash=hashlib.sha256(payload).hexdigest(),
            hash_algorithm="sha256",
            exit_status=exitStatus,
            outcome=outcome,
        )
    )
    return b"".join((_LENGTH.pack(len(header)), header, payload))


class AnswerParser:
    """
    Turns received bytes, split or joined anywhere, into whole answers.

    After it has raised, it is of no more use: the stream has lost its framing.
    """

    def __init__(self, maxPayload: int) -> None:
        """
        @param maxPayload: the largest payload that is accepted, in bytes.
        """
        self._maxPayload = maxPayload
        self._buffer = bytearray()
        self._header: AnswerHeader | None = None
        self._wanted = _LENGTH.size
        self._inHeader = False

    def feed(self, data: bytes) -> list[tuple[AnswerHeader, bytes]]:
        """
        Take received bytes.

        @param data: any number of bytes.
        @return: the answers that are now complete, each as header and payload.
        @raise ProtocolError: when the bytes are no such answer.
        @raise LimitExceeded: when a header or a payload announces more than is accepted.
        """
        self._buffer += data
        answers = []
        while len(self._buffer) >= self._wanted:
            piece = bytes(self._buffer[: self._wanted])
            del self._buffer[: self._wanted]
            if self._header is not None:
                answers.append((self._header, piece))
                self._header, self._wanted = None, _LENGTH.size
            elif self._inHeader:
                self._header = self._parseHeader(piece)
                self._inHeader, self._wanted = False, self._header.total_size
            else:
                self._inHeader, self._wanted = True, self._parseLength(piece)
        return answers

    def _parseLength(self, piece: bytes) -> int:
        (length,) = _LENGTH.unpack(piece)
        if not 0 < length <= MAX_HEADER:
            raise LimitExceeded(
                f"The server announced a header of {length} bytes; 1 to {MAX_HEADER} are accepted, "
                "so this is no answer of the header dialect."
            )
        return int(length)

    def _parseHeader(self, piece: bytes) -> AnswerHeader:
        try:
            header = _decoder.decode(piece)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"The server's answer header cannot be read: {error}.") from error
        if not 0 <= header.total_size <= self._maxPayload:
            raise LimitExceeded(
                f"The server announced {header.total_size} bytes of output; "
                f"0 to {self._maxPayload} are accepted."
            )
        return header
