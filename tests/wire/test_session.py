"""
Records of a session: what is read, what is refused and in which words, what has to be bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite import errors
from twisted_netsuite.errors import Denied, LimitExceeded, NetsuiteError, ProtocolError
from twisted_netsuite.wire.session import (
    MAX_FIRST_FRAME,
    MAX_FRAME,
    MAX_PING,
    MAX_SENTENCE,
    MIN_PING,
    SESSION_RECORDS,
    Error,
    Goodbye,
    Hello,
    Limits,
    Ping,
    Pong,
    Record,
    SessionCodec,
    Welcome,
    errorRecord,
    failureOf,
    goodbyeRecord,
)

#: A character of four bytes.
WIDE = "\N{GRINNING FACE}"

pack = msgspec.msgpack.encode


class Measure(Record, frozen=True, kw_only=True, tag="measure", tag_field="type"):
    """A record of some service."""

    degrees: Annotated[float, Meta(ge=-300, le=10_000)]


HELLO = {"type": "hello", "versions": [1], "service": "echo", "client": "me"}
LIMITS = {"frame": MAX_FIRST_FRAME}
WELCOME = {
    "type": "welcome",
    "version": 1,
    "server": "it",
    "identity": "anonymous",
    "limits": LIMITS,
    "ping": 15,
}

NAMES = st.text(min_size=1, max_size=64)
WORDS = st.from_regex(r"\A[a-z][a-z0-9.-]{0,31}\Z")
FEATURES = st.lists(WORDS, max_size=64).map(tuple)
SERIALS = st.integers(0, 2**53)
RECORDS = st.one_of(
    st.builds(
        Hello,
        versions=st.lists(st.integers(1, 65535), min_size=1, max_size=16).map(tuple),
        service=WORDS,
        client=NAMES,
        features=FEATURES,
        user=st.none() | NAMES,
        token=st.none() | st.text(min_size=1, max_size=1024),
    ),
    st.builds(
        Welcome,
        version=st.integers(1, 65535),
        server=NAMES,
        features=FEATURES,
        identity=st.text(min_size=1, max_size=128),
        limits=st.builds(Limits, frame=st.integers(MAX_FIRST_FRAME, MAX_FRAME)),
        ping=st.integers(MIN_PING, MAX_PING),
    ),
    st.builds(
        Error,
        code=WORDS,
        message=st.text(max_size=MAX_SENTENCE),
        about=st.none() | SERIALS | st.text(max_size=256),
        fatal=st.booleans(),
    ),
    st.builds(Ping, id=SERIALS),
    st.builds(Pong, id=SERIALS),
    st.builds(Goodbye, reason=st.text(max_size=MAX_SENTENCE)),
    st.builds(Measure, degrees=st.floats(-300, 10_000)),
)


class CodecTests(SynchronousTestCase):
    """L{SessionCodec} with one record of a service."""

    def setUp(self) -> None:
        self.codec = SessionCodec([Measure])

    def refused(self, frame: bytes) -> str:
        """Tell why a frame is refused."""
        error: ProtocolError = self.assertRaises(ProtocolError, self.codec.decode, frame)
        return error.sentence

    @settings(deadline=None)
    @given(RECORDS)
    def test_roundTrip(self, record: Record) -> None:
        """Every record that its bounds allow comes out as it went in."""
        codec = SessionCodec([Measure])
        self.assertEqual(codec.decode(codec.encode(record)), record)

    @settings(deadline=None)
    @given(RECORDS)
    def test_firstFrame(self, record: Record) -> None:
        """Every record of a session itself fits in a first frame, whatever it says."""
        self.assertLessEqual(len(SessionCodec([Measure]).encode(record)), MAX_FIRST_FRAME)

    def test_largestHello(self) -> None:
        """The largest HELLO of all fits in a first frame."""
        hello = Hello(
            versions=(65535,) * 16,
            service="a" * 32,
            client=WIDE * 64,
            features=("a" * 32,) * 64,
            user=WIDE * 64,
            token=WIDE * 1024,
        )
        frame = self.codec.encode(hello)
        self.assertLessEqual(len(frame), MAX_FIRST_FRAME)
        self.assertEqual(self.codec.decode(frame), hello)

    @settings(deadline=None, max_examples=300)
    @given(st.binary(max_size=300))
    def test_anyBytes(self, frame: bytes) -> None:
        """Any bytes are a record or a protocol error of one line, and nothing else."""
        codec = SessionCodec([Measure])
        try:
            self.assertIsInstance(codec.decode(frame), Record)
        except ProtocolError as error:
            self.assertNotIn("\n", error.sentence)

    @settings(deadline=None)
    @given(RECORDS, st.integers(0, 10_000), st.integers(0, 255))
    def test_changedByte(self, record: Record, place: int, value: int) -> None:
        """A record with one byte changed is a record or a protocol error."""
        codec = SessionCodec([Measure])
        frame = bytearray(codec.encode(record))
        frame[place % len(frame)] = value
        try:
            codec.decode(bytes(frame))
        except ProtocolError as error:
            self.assertTrue(error.sentence.startswith("A record "))

    @settings(deadline=None)
    @given(RECORDS, st.integers(0, 10_000))
    def test_cut(self, record: Record, place: int) -> None:
        """A record that is cut short anywhere is refused."""
        codec = SessionCodec([Measure])
        frame = codec.encode(record)
        self.assertRaises(ProtocolError, codec.decode, frame[: place % len(frame)])

    def test_unknownField(self) -> None:
        """A field that is not known is ignored, whatever it holds, in a record and below it."""
        extras: list[Any] = [1, None, "x", [[{}]], {"a": {"b": b"c"}}, b"\0" * 999, 1e300]
        for extra in extras:
            hello = self.codec.decode(pack({**HELLO, "colour": extra}))
            self.assertEqual(hello, self.codec.decode(pack(HELLO)))
            limits = {**LIMITS, "colour": extra}
            welcome = self.codec.decode(pack({**WELCOME, "limits": limits}))
            self.assertEqual(welcome, self.codec.decode(pack(WELCOME)))

    def test_wrongField(self) -> None:
        """A field of a wrong type or size is refused with its path."""
        for change, path in (
            ({"versions": "1"}, "$.versions"),
            ({"versions": []}, "$.versions"),
            ({"versions": [1] * 17}, "$.versions"),
            ({"versions": [1, "2"]}, "$.versions[1]"),
            ({"versions": [0]}, "$.versions[0]"),
            ({"versions": [65536]}, "$.versions[0]"),
            ({"versions": [True]}, "$.versions[0]"),
            ({"versions": [1.5]}, "$.versions[0]"),
            ({"service": ""}, "$.service"),
            ({"service": "Echo"}, "$.service"),
            ({"service": "echo\n"}, "$.service"),
            ({"service": "a" * 33}, "$.service"),
            ({"service": None}, "$.service"),
            ({"client": ""}, "$.client"),
            ({"client": "x" * 65}, "$.client"),
            ({"client": b"x"}, "$.client"),
            ({"features": ["a"] * 65}, "$.features"),
            ({"features": ["a", "-"]}, "$.features[1]"),
            ({"user": ""}, "$.user"),
            ({"user": 7}, "$.user"),
            ({"token": ""}, "$.token"),
            ({"token": "x" * 1025}, "$.token"),
        ):
            self.assertIn(f"at `{path}`", self.refused(pack({**HELLO, **change})), change)

    def test_limitsOfThePeer(self) -> None:
        """Limits of nothing, of less than nothing and of more than can be are refused."""
        for change, path in (
            ({"limits": {}}, "$.limits"),
            ({"limits": {"frame": 0}}, "$.limits.frame"),
            ({"limits": {"frame": -1}}, "$.limits.frame"),
            ({"limits": {"frame": MAX_FIRST_FRAME - 1}}, "$.limits.frame"),
            ({"limits": {"frame": MAX_FRAME + 1}}, "$.limits.frame"),
            ({"limits": {"frame": 2**64 - 1}}, "$.limits.frame"),
            ({"limits": {"frame": float("inf")}}, "$.limits.frame"),
            ({"limits": {"frame": float("nan")}}, "$.limits.frame"),
            ({"limits": None}, "$.limits"),
            ({"ping": 0}, "$.ping"),
            ({"ping": MIN_PING - 1}, "$.ping"),
            ({"ping": MAX_PING + 1}, "$.ping"),
            ({"ping": float("nan")}, "$.ping"),
        ):
            self.assertIn(f"at `{path}`", self.refused(pack({**WELCOME, **change})), change)

    def test_missingField(self) -> None:
        """A record without what it needs is refused with the name of the field."""
        for name in ("type", "versions", "service", "client"):
            rest = {key: value for key, value in HELLO.items() if key != name}
            self.assertIn(f"`{name}`", self.refused(pack(rest)))

    def test_unknownRecord(self) -> None:
        """A record of a type that is not known is refused by its name, which is cleaned and cut."""
        self.assertEqual(
            self.refused(pack({"type": "dance"})),
            "A record cannot be read: no record of type 'dance' is known here.",
        )
        sentence = self.refused(pack({"type": "\x1b[2J\n" + "x" * 5000}))
        self.assertIn("'\ufffd[2J xxx", sentence)
        self.assertLess(len(sentence), 150)

    def test_recordsOfAnotherService(self) -> None:
        """A record of a service is known only to a codec that was given it."""
        frame = self.codec.encode(Measure(degrees=1))
        error = self.assertRaises(ProtocolError, SessionCodec().decode, frame)
        self.assertIn("'measure'", error.sentence)

    def test_nested(self) -> None:
        """Lists and maps in each other without end are a protocol error, wherever they stand."""
        bombs = (b"\x91" * MAX_FIRST_FRAME, b"\x81\xa1a" * 2000)
        for bomb in bombs:
            for head in (b"", b"\x82\xa4type\xa4ping\xa1x", b"\x82\xa4type\xa4ping\xa2id"):
                self.refused(head + bomb)
        # How deep is too deep is Python's to say; the largest frame is, for each version.
        deep = b"\x82\xa4type\xa4ping\xa1x" + b"\x91" * (MAX_FRAME - 100) + b"\xc0"
        self.assertEqual(self.refused(deep), "A record is nested too deeply.")

    def test_sizesThatLie(self) -> None:
        """Lists, maps and texts that announce more than comes are refused and cost nothing."""
        for lie in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"):
            for head in (b"", b"\x82\xa4type\xa4ping\xa2id", b"\x82\xa4type\xa5hello\xa8versions"):
                self.refused(head + lie)

    def test_trailing(self) -> None:
        """What stands behind a record is refused."""
        frame = self.codec.encode(Ping(id=1))
        self.assertIn("trailing", self.refused(frame + b"\xc0"))
        self.refused(frame + frame)

    def test_notARecord(self) -> None:
        """What is no map, or is empty, is refused."""
        for value in ([], ["ping", 1], "ping", 1, None, True, b"ping", 1.5):
            self.refused(pack(value))
        self.refused(b"")
        self.refused(b"\xc1")

    def test_notText(self) -> None:
        """A text that is no UTF-8 is refused, as a type, a field or its name."""
        for frame in (
            b"\x81\xa4type\xa1\xff",
            b"\x82\xa4type\xa7goodbye\xa6reason\xa1\xff",
            b"\x81\xa1\xff\xa1a",
        ):
            self.refused(frame)

    def test_twice(self) -> None:
        """A record that gives its type twice is refused, unless both are the same."""
        self.refused(b"\x83\xa4type\xa4ping\xa2id\x01\xa4type\xa4pong")

    def test_noNumber(self) -> None:
        """What is no number, or has no end, is refused where a number belongs."""
        for value in (float("nan"), float("inf"), -float("inf"), 10_001.0, "1", True):
            self.assertIn("$.degrees", self.refused(pack({"type": "measure", "degrees": value})))

    def test_nothingIsUnpickled(self) -> None:
        """A pickle is no record, nor is an extension type of msgpack a field."""
        self.refused(b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system")
        self.refused(b"\x82\xa4type\xa4ping\xa2id\xd6\xff\x00\x00\x00\x00")


class BoundTests(SynchronousTestCase):
    """What a service may put into its records."""

    def fault(self, kind: Any) -> str:
        """Tell why a record with a field of that type is refused."""
        record = msgspec.defstruct(
            "Odd", [("field", kind)], bases=(Record,), tag="odd", tag_field="type", kw_only=True
        )
        error = self.assertRaises(TypeError, SessionCodec, [record])
        return str(error)

    def test_unbounded(self) -> None:
        """A record that a peer could make of any size is refused where it is written."""
        short = Annotated[str, Meta(max_length=9)]
        for kind in (
            str,
            bytes,
            list[int],
            tuple[int, ...],
            Annotated[tuple[str, ...], Meta(max_length=9)],
            dict[short, int],
            Annotated[dict[str, int], Meta(max_length=9)],
            Annotated[dict[short, bytes], Meta(max_length=9)],
            str | None,
            tuple[int, str],
            float,
            Annotated[float, Meta(ge=0)],
            Annotated[float, Meta(gt=0, lt=9)],
        ):
            self.assertIn("Odd.field", self.fault(kind), kind)

    def test_anything(self) -> None:
        """A record whose field may be anything, or of a type that runs more code, is refused."""

        @dataclass
        class Plain:
            """No record."""

        for kind in (Any, object, msgspec.Raw, Plain, Decimal, set[int], bytearray, list[Any]):
            self.assertIn("Odd.field", self.fault(kind), kind)

    def test_below(self) -> None:
        """What a record holds is bounded, too, and named by its path."""

        class Inner(msgspec.Struct):
            """Is held."""

            text: str

        self.assertIn("Odd.field.text", self.fault(Inner))
        self.assertIn("Odd.field.text", self.fault(Inner | None))

    def test_ours(self) -> None:
        """Records of the session are bounded: each has only what the wire page says."""
        SessionCodec()
        fields = {each.__name__: each.__struct_fields__ for each in SESSION_RECORDS}
        self.assertEqual(
            fields,
            {
                "Hello": ("versions", "service", "client", "features", "user", "token"),
                "Welcome": ("version", "server", "features", "identity", "limits", "ping"),
                "Error": ("code", "message", "about", "fatal"),
                "Ping": ("id",),
                "Pong": ("id",),
                "Goodbye": ("reason",),
            },
        )


class SecretTests(SynchronousTestCase):
    """What a record shows of itself."""

    def test_token(self) -> None:
        """A token is never in what is logged of a HELLO; that there is one is."""
        hello = Hello(versions=(1,), service="echo", client="me", user="anna", token="s3cret")
        for shown in (repr(hello), str(hello), f"{[hello]}"):
            self.assertNotIn("s3cret", shown)
            self.assertIn("user='anna', token=...", shown)
        without = Hello(versions=(1,), service="echo", client="me")
        self.assertIn("token=None", repr(without))


class ErrorTests(SynchronousTestCase):
    """Errors as records and back."""

    def test_everyClass(self) -> None:
        """Each class of error arrives as that class, with its sentence and who says it."""
        classes: list[type[NetsuiteError]] = [NetsuiteError, *NetsuiteError.__subclasses__()]
        for cls in classes:
            found = failureOf(errorRecord(cls("No.")), "exec.example:7512")
            self.assertIs(type(found), cls)
            self.assertEqual(found.sentence, "exec.example:7512 says: No.")
        self.assertGreater(len(NetsuiteError.__subclasses__()), 9)

    def test_fields(self) -> None:
        """What it is about, and whether it ends the session, go along."""
        record = errorRecord(Denied("No."), about="channel 3", fatal=True)
        self.assertEqual((record.about, record.fatal), ("channel 3", True))
        self.assertEqual(errorRecord(Denied("No.")), Error(code="denied", message="No."))

    def test_unknownCode(self) -> None:
        """A code that is not known is an error of no special kind, which names the code."""
        found = failureOf(Error(code="tired", message="Not today."), "x:1")
        self.assertIs(type(found), NetsuiteError)
        self.assertEqual(found.sentence, "x:1 says: Not today. (tired)")
        self.assertIsNone(errors.classForCode("tired"))

    def test_hostileText(self) -> None:
        """Text of a peer moves no cursor and begins no line."""
        found = failureOf(Error(code="denied", message="a\x1b[2J\nb\u202ec"), "x:1")
        self.assertEqual(found.sentence, "x:1 says: a\ufffd[2J b\ufffdc")

    def test_noText(self) -> None:
        """An ERROR without a sentence is told of as such."""
        for message in ("", " ", "\n"):
            found = failureOf(Error(code="denied", message=message), "x:1")
            self.assertEqual(found.sentence, "x:1 says: no reason was given.")

    def test_long(self) -> None:
        """A sentence that is too long is cut to what the other end accepts."""
        codec = SessionCodec()
        for length in (MAX_SENTENCE, MAX_SENTENCE + 1, 100_000):
            record = codec.decode(codec.encode(errorRecord(LimitExceeded("x" * length))))
            assert isinstance(record, Error)
            self.assertEqual(len(record.message), MAX_SENTENCE)
            self.assertEqual(record.message.endswith("…"), length > MAX_SENTENCE)
            goodbye = codec.decode(codec.encode(goodbyeRecord(WIDE * length)))
            assert isinstance(goodbye, Goodbye)
            self.assertEqual(len(goodbye.reason), MAX_SENTENCE)

    def test_unwritable(self) -> None:
        """A sentence that quotes what is no text, as a file's name may be, can be sent."""
        codec = SessionCodec()
        record = codec.decode(codec.encode(errorRecord(Denied("No \udcff."))))
        self.assertEqual(record, Error(code="denied", message="No \ufffd."))
