"""
The records of a native session and their codec: one msgpack map a frame, its C{type} says which.

What may come when is another matter: see L{wire.sessionmachine}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, Union

import msgspec
from msgspec import Meta, inspect

from twisted_netsuite.errors import NetsuiteError, ProtocolError, classForCode
from twisted_netsuite.wire.text import cleanText, shortened

#: Bytes of a frame before its sender has proven who it is: the largest HELLO that the bounds below
#: allow has less, and a thousand strangers who send all but its last byte cost 8 MB.
MAX_FIRST_FRAME = 8 * 1024

#: Bytes of data that one record of a service carries unless it says otherwise: what Twisted reads
#: at once.
MAX_DATA = 64 * 1024

#: Bytes of a record around its data: the names and numbers of its fields.
RECORD_ROOM = 1024

#: Bytes of a frame once the session is open, unless a service says otherwise.
DEFAULT_FRAME = MAX_DATA + RECORD_ROOM

#: Bytes of any frame: Twisted joins what it has of a frame at each read, which takes 10 ms for this
#: size, and 64 times as long for eight times as much.
MAX_FRAME = 1024 * 1024

#: Seconds of quiet that a server may ask for between PINGs. Fewer than 5 would be traffic for its
#: own sake; after more than 600 most address translators have forgotten the connection.
MIN_PING, MAX_PING = 5, 600

#: Characters of an ERROR's sentence; our own have some 200.
MAX_SENTENCE = 1024

#: Characters of a token: a JSON Web Token with a handful of claims has fewer.
MAX_TOKEN = 1024

#: Characters of a reason, and of a name that a peer sent, that are shown.
_MAX_REASON, _MAX_SHOWN_NAME = 200, 40

Word = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9.-]{0,31}\Z", max_length=32)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Version = Annotated[int, Meta(ge=1, le=65535)]
#: Words that one end can have; each is a feature of some service.
Features = Annotated[tuple[Word, ...], Meta(max_length=64)]
#: What numbers a PING: far more than are ever sent.
Serial = Annotated[int, Meta(ge=0, le=2**53)]
#: What an ERROR is about: the number or the name of what a record of the service spoke of.
About = Annotated[int, Meta(ge=0, le=2**53)] | Annotated[str, Meta(max_length=256)] | None


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What one frame holds.

    A record of a service is a subclass, C{frozen} and C{kw_only}, that gives its C{tag}, with
    C{tag_field="type"}.
    """


class Hello(Record, frozen=True, kw_only=True, tag="hello", tag_field="type"):
    """
    Client to server, first of all.

    @ivar versions: of this protocol, all that the client speaks.
    @ivar service: what it wants.
    @ivar client: what it is, for the log.
    @ivar features: all that it knows of.
    @ivar user: who it is, when it has a token.
    @ivar token: the proof; never shown.
    """

    versions: Annotated[tuple[Version, ...], Meta(min_length=1, max_length=16)]
    service: Word
    client: Name
    features: Features = ()
    user: Name | None = None
    token: Annotated[str, Meta(min_length=1, max_length=MAX_TOKEN)] | None = None

    def __repr__(self) -> str:
        """Without the token: a record may end in a log."""
        token = "..." if self.token is not None else None
        return (
            f"Hello(versions={self.versions}, service={self.service!r}, client={self.client!r}, "
            f"features={self.features}, user={self.user!r}, token={token})"
        )


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """
    What bounds both directions from WELCOME on.

    @ivar frame: bytes of one frame, without its length.
    """

    frame: Annotated[int, Meta(ge=MAX_FIRST_FRAME, le=MAX_FRAME)]


class Welcome(Record, frozen=True, kw_only=True, tag="welcome", tag_field="type"):
    """
    Server to client: the session is open.

    @ivar version: of this protocol, the highest that both speak.
    @ivar server: what the server is.
    @ivar features: those that both know of.
    @ivar identity: who the client is, as the server sees it.
    @ivar limits: what bounds both directions from here on.
    @ivar ping: seconds of quiet after which either end sends a PING.
    """

    version: Version
    server: Name
    features: Features = ()
    identity: Annotated[str, Meta(min_length=1, max_length=128)]
    limits: Limits
    ping: Annotated[int, Meta(ge=MIN_PING, le=MAX_PING)]


class Error(Record, frozen=True, kw_only=True, tag="error", tag_field="type"):
    """
    Either way: something cannot be.

    @ivar code: one of the wire codes of L{errors}.
    @ivar message: a sentence for a person.
    @ivar about: what it refers to; the session as a whole where there is none.
    @ivar fatal: whether the sender ends the session with it.
    """

    code: Word
    message: Annotated[str, Meta(max_length=MAX_SENTENCE)]
    about: About = None
    fatal: bool = False


class Ping(Record, frozen=True, kw_only=True, tag="ping", tag_field="type"):
    """
    Either way: are you there?

    @ivar id: comes back in the PONG; each is greater than the one before.
    """

    id: Serial


class Pong(Record, frozen=True, kw_only=True, tag="pong", tag_field="type"):
    """
    Either way: yes.

    @ivar id: that of the PING.
    """

    id: Serial


class Goodbye(Record, frozen=True, kw_only=True, tag="goodbye", tag_field="type"):
    """
    Either way: the sender begins nothing new, and what is open may finish.

    @ivar reason: a sentence for a person.
    """

    reason: Annotated[str, Meta(max_length=MAX_SENTENCE)] = ""


SESSION_RECORDS: tuple[type[Record], ...] = (Hello, Welcome, Error, Ping, Pong, Goodbye)

#: What decoding can fail with; maps in maps without end are a RecursionError.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class SessionCodec:
    """Turns records into what a frame holds, and back."""

    def __init__(self, records: Iterable[type[Record]] = ()) -> None:
        """
        @param records: those of the service; every text, map and list in them has a largest size,
            and every real number two bounds.
        @raise TypeError: naming a field that has none, or of a type that no record holds.
        """
        types = (*SESSION_RECORDS, *records)
        for known in types:
            _requireBounded(known)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(
            Union[types]  # noqa: UP007
        )

    def encode(self, record: Record) -> bytes:
        """
        Encode a record.

        @param record: of the session or of the service.
        @return: what a frame holds.
        """
        return self._encoder.encode(record)

    def decode(self, frame: bytes) -> Record:
        """
        Decode a frame.

        @param frame: what a peer sent, without its length.
        @return: the record; fields that it has no place for are left out.
        @raise ProtocolError: when it is none: with the path of the field that is wrong, or the name
            of the record that is not known.
        """
        try:
            return self._decoder.decode(frame)
        except RecursionError:
            raise ProtocolError("A record is nested too deeply.") from None
        except _UNREADABLE as error:
            raise ProtocolError(f"A record cannot be read: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    text = str(error)
    # In place of msgspec's words for a C{type} that is none of ours.
    if text.startswith("Invalid value ") and text.endswith(" - at `$.type`"):
        name = text.removeprefix("Invalid value ").removesuffix(" - at `$.type`")
        text = f"no record of type {_short(name, _MAX_SHOWN_NAME)} is known here"
    return _short(text, _MAX_REASON)


def _short(text: str, most: int) -> str:
    return shortened(cleanText(text), most)


#: What a record may hold, and the bounds without which a peer could send any length, or a number
#: that is none: what compares with two bounds is finite, and no NaN.
_BOUNDS: dict[type[inspect.Type], tuple[str, ...]] = {
    inspect.NoneType: (),
    inspect.BoolType: (),
    inspect.IntType: (),
    inspect.LiteralType: (),
    inspect.EnumType: (),
    inspect.StructType: (),
    inspect.UnionType: (),
    inspect.TupleType: (),
    inspect.FloatType: ("ge", "le"),
    inspect.StrType: ("max_length",),
    inspect.BytesType: ("max_length",),
    inspect.VarTupleType: ("max_length",),
    inspect.DictType: ("max_length",),
}


@cache
def _requireBounded(known: type[Record]) -> None:
    # Once for each class, which stays as it is: to look through all of them takes milliseconds, and
    # each client's session has a codec.
    _requireBounds(inspect.type_info(known), known.__name__, set())


def _requireBounds(found: inspect.Type, path: str, seen: set[type]) -> None:
    if isinstance(found, inspect.Metadata):
        found = found.type
    bounds = _BOUNDS.get(type(found))
    if bounds is None:
        raise TypeError(f"{path} is a {type(found).__name__}, which no record holds.")
    for bound in bounds:
        if getattr(found, bound) is None:
            raise TypeError(f"{path} has no {bound}, and a peer could send any.")
    if not isinstance(found, inspect.StructType):
        for below in _inside(found):
            _requireBounds(below, path, seen)
    elif found.cls not in seen:
        seen.add(found.cls)
        for field in found.fields:
            _requireBounds(field.type, f"{path}.{field.name}", seen)


def _inside(found: Any) -> Iterator[inspect.Type]:
    for name in ("item_type", "key_type", "value_type"):
        if hasattr(found, name):
            yield getattr(found, name)
    for name in ("types", "item_types"):
        yield from getattr(found, name, ())


def errorRecord(error: NetsuiteError, *, about: About = None, fatal: bool = False) -> Error:
    """
    Write an error as a record.

    @param error: its sentence is cut where no ERROR has room for it.
    @param about: what it refers to.
    @param fatal: whether the session ends with it.
    @return: the record.
    """
    sentence = _short(error.sentence, MAX_SENTENCE)
    return Error(code=error.wireCode, message=sentence, about=about, fatal=fatal)


def failureOf(record: Error, peer: str) -> NetsuiteError:
    """
    Read an error from a record.

    @param record: what a peer sent.
    @param peer: who that is, for the sentence.
    @return: an error of the class that the code stands for; of the root class for a code that is
        not known here.
    """
    cls = classForCode(record.code)
    sentence = cleanText(record.message).strip() or "no reason was given."
    if cls is None and record.code != NetsuiteError.wireCode:
        sentence = f"{sentence} ({record.code})"
    return (cls or NetsuiteError)(f"{peer} says: {sentence}")


def goodbyeRecord(reason: str) -> Goodbye:
    """
    Write a goodbye as a record.

    @param reason: a sentence, which is cut where no GOODBYE has room for it; may be empty.
    @return: the record.
    """
    return Goodbye(reason=_short(reason, MAX_SENTENCE))
