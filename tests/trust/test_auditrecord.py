"""
Records of the audit log: any value survives, no line is too long, no change goes unseen.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.trust.auditrecord import (
    MAX_FIELDS,
    MAX_RECORD,
    NOTHING_BEFORE,
    SEAL_SIZE,
    BadRecord,
    Head,
    digestOf,
    encodeMembers,
    isCutOff,
    openRecord,
    sealRecord,
    timestamp,
)
from twisted_netsuite.trust.auditvalue import MAX_BITS, MAX_DIGESTED, MAX_ELEMENTS

TIME = "2026-11-21T13:28:03.450000Z"

#: Any text, lone surrogates too.
TEXTS = st.text(st.characters(), max_size=50)
SCALARS = st.one_of(
    TEXTS, st.binary(max_size=50), st.integers(), st.floats(), st.booleans(), st.none()
)


def line(n: int = 1, previous: str = NOTHING_BEFORE, **fields: Any) -> bytes:
    """Write a record."""
    return sealRecord(n, TIME, encodeMembers({"event": "e", **fields}), previous)[0]


def written(value: Any) -> Any:
    """Write a value, and tell what a JSON reader finds."""
    return json.loads(line(x=value))["x"]


def meant(form: Any) -> str | bytes:
    """Read a text or bytes as the page about the format says."""
    match form:
        case {"base64": str(text)}:
            return base64.b64decode(text)
        case {"json": str(text)}:
            value = json.loads(text)
            assert isinstance(value, str)
            return value
        case str():
            return form
    raise AssertionError(form)


class ValueTests(SynchronousTestCase):
    """Values of every kind."""

    def test_plain(self) -> None:
        """What JSON has is written as it is."""
        for value in ("", "a", 0, -1, 2**53, 1.5, True, False, None, [], ["a", 1, None], "grüß"):
            self.assertEqual(written(value), value)
        self.assertEqual(written(("a", b"b")), ["a", "b"])

    def test_numbers(self) -> None:
        """Numbers that JSON, or its readers, do not have are texts."""
        for value, text in (
            (2**53 + 1, "0x20000000000001"),
            (-(2**64), "-0x10000000000000000"),
            (float("nan"), "nan"),
            (float("-inf"), "-inf"),
        ):
            self.assertEqual(written(value), text)
        most = 2**MAX_BITS - 1
        self.assertEqual(int(written(-most), 16), -most)
        self.assertRaises(ValueError, written, most + 1)
        self.assertRaises(ValueError, written, [most + 1])

    def test_bytes(self) -> None:
        """Bytes that are UTF-8 are text; others are Base64, also in Python's disguise as text."""
        self.assertEqual(written(b"gr\xc3\xbc\xc3\x9f"), "grüß")
        self.assertEqual(written(b"\xff\x00"), {"base64": "/wA="})
        self.assertEqual(written(bytearray(b"\xff\x00")), {"base64": "/wA="})
        self.assertEqual(written("caf\udce9"), {"base64": "Y2Fm6Q=="})
        self.assertEqual(written([b"\xff", "\udce9"]), [{"base64": "/w=="}, {"base64": "6Q=="}])

    def test_escaped(self) -> None:
        """Controls, DEL and all beyond ASCII are escapes: alone, in a list, with surrogates."""
        text = '\x1b\x7f\x80é\u2028\U0001f600"\\'
        for value in (text, [text]):
            self.assertTrue(all(0x20 <= byte < 0x7F for byte in line(x=value)))
            self.assertEqual(written(value), value)
        self.assertEqual(meant(written(text + "\ud800")), text + "\ud800")

    def test_surrogates(self) -> None:
        """Text that is none is kept apart from all that is."""
        for text in ("\ud800", "\udcc3\udca9", "a\udfffb"):
            self.assertEqual(written(text), {"json": json.dumps(text)})

    def test_enumeration(self) -> None:
        """A member of an enumeration of texts is its text."""

        class Colour(str, enum.Enum):  # noqa: UP042
            RED = "red"

        self.assertEqual(written(Colour.RED), "red")

    @settings(deadline=None, max_examples=50)
    @given(st.one_of(TEXTS, st.binary()), st.one_of(TEXTS, st.binary()))
    def test_lossless(self, one: str | bytes, other: str | bytes) -> None:
        """Any text and any bytes can be read again, and two that differ never look the same."""
        for value in (one, other):
            found = meant(written(value))
            if isinstance(found, str) != isinstance(value, str):
                # The same bytes.
                text, data = (found, value) if isinstance(found, str) else (value, found)
                assert isinstance(text, str) and isinstance(data, bytes)
                self.assertEqual(text.encode("utf-8", "surrogateescape"), data)
            else:
                self.assertEqual(found, value)
        if isinstance(one, str) == isinstance(other, str) and one != other:
            self.assertNotEqual(written(one), written(other))

    @settings(deadline=None, max_examples=50)
    @given(st.dictionaries(st.from_regex(r"\A[a-z]{1,9}\Z"), st.one_of(SCALARS, st.lists(SCALARS))))
    def test_oneLine(self, fields: dict[str, Any]) -> None:
        """Whatever is recorded is one line of printable ASCII, and right."""
        for name in ("n", "time", "previous", "hash", "event"):
            fields.pop(name, None)
        found = line(**fields)
        self.assertTrue(all(0x20 <= byte < 0x7F for byte in found))
        self.assertEqual(openRecord(found).head.n, 1)
        self.assertEqual(list(json.loads(found))[3:-2], list(fields))


class CutTests(SynchronousTestCase):
    """Values that are too long."""

    def assertFits(self, found: bytes) -> None:
        """A line is no longer than a record, and right."""
        self.assertLess(len(found), MAX_RECORD)
        openRecord(found)

    def test_text(self) -> None:
        """A long text is cut, at a character; its length and digest are told."""
        for text in ("x" * 100_000, "é" * 100_000, "\U0001f600" * 50_000, "\x1b" * 100_000):
            found = line(x=text, y="short")
            self.assertFits(found)
            members = json.loads(found)
            data = text.encode()
            self.assertEqual(members["y"], "short")
            self.assertEqual(members["x"]["length"], len(data))
            self.assertEqual(members["x"]["sha256"], hashlib.sha256(data).hexdigest())
            self.assertTrue(text.startswith(members["x"]["cut"]))
            self.assertGreater(len(found), MAX_RECORD // 2)

    def test_bytes(self) -> None:
        """Long bytes are cut; their length and digest are told."""
        data = b"\xff\x00" * 100_000
        found = line(x=data)
        self.assertFits(found)
        cut = json.loads(found)["x"]
        self.assertTrue(data.startswith(base64.b64decode(cut["cut"]["base64"])))
        self.assertEqual((cut["length"], cut["sha256"]), (len(data), digestOf(data)))

    def test_largest(self) -> None:
        """What just fits is not cut."""
        most = next(n for n in range(MAX_RECORD, 0, -1) if "cut" not in written("x" * n))
        self.assertGreater(most, MAX_RECORD - 400)
        self.assertFits(line(x="x" * most))
        self.assertFits(line(x="x" * (most + 1)))
        self.assertFits(line(10**18, x="x" * most))

    def test_command(self) -> None:
        """A command's long argument is cut, and the others stay."""
        argv = json.loads(line(argv=["sh", "-c", "x" * 100_000, "end"]))["argv"]
        self.assertEqual((argv[:2], argv[3]), (["sh", "-c"], "end"))
        self.assertEqual(argv[2]["length"], 100_000)

    def test_manyArguments(self) -> None:
        """Of a hundred thousand arguments the first are kept, with their number."""
        argv = [str(number) for number in range(100_000)]
        found = line(argv=argv)
        self.assertFits(found)
        cut = json.loads(found)["argv"]
        self.assertEqual(cut, {"cut": argv[:MAX_ELEMENTS], "length": 100_000, "sha256": None})
        self.assertEqual(written(argv[:MAX_ELEMENTS]), argv[:MAX_ELEMENTS])

    def test_listDigest(self) -> None:
        """The digest of a list that is cut is that of its elements, each with a NUL behind it."""
        argv = ["é" * 4000, b"\xff" * 4000, 1, None, "\ud800"] * 20
        cut = json.loads(line(argv=argv))["argv"]
        self.assertLess(len(cut["cut"]), cut["length"])
        one = b"".join(
            each + b"\0"
            for each in ("é".encode() * 4000, b"\xff" * 4000, b"1", b"null", b"\xed\xa0\x80")
        )
        self.assertEqual(cut["sha256"], hashlib.sha256(one * 20).hexdigest())

    def test_manyLongArguments(self) -> None:
        """Of many long arguments some are kept, each cut."""
        found = line(argv=["x" * 70_000] * 1000)
        self.assertFits(found)
        cut = json.loads(found)["argv"]
        self.assertEqual(cut["length"], 1000)
        self.assertGreater(len(cut["cut"]), 3)

    def test_mostOfAValue(self) -> None:
        """Where each value is held to some bytes, those beyond are cut, and the others whole."""
        members = b"{%s}" % encodeMembers({"a": "x" * 510, "b": "x" * 511, "c": ["y"] * 900}, 512)
        found = json.loads(members)
        self.assertEqual(found["a"], "x" * 510)
        self.assertEqual(found["b"]["length"], 511)
        self.assertGreater(len(found["b"]["cut"]), 380)
        self.assertEqual(found["c"]["length"], 900)
        self.assertLess(len(members), 3 * 512 + 20)

    def test_anywhere(self) -> None:
        """Wherever a value is cut, what is kept is its beginning: no half of an escape."""
        for text in ('\\"' * 400, "a\\u00e9\\\\" * 100, "\x7fé\U0001f600\n" * 200, "\\ud83d" * 200):
            for most in range(256, 300):
                members = b"{%s}" % encodeMembers({"x": text}, most)
                self.assertLessEqual(len(members), most + 6)
                cut = json.loads(members)["x"]["cut"]
                self.assertTrue(text.startswith(cut), (text[:20], most, cut))
                self.assertGreater(len(json.dumps(cut)), most - 150)

    def test_work(self) -> None:
        """Whatever is recorded, no more than some times a record's size is looked at."""
        looked: list[int] = []
        dumps = json.dumps

        def counted(text: str) -> str:
            looked.append(len(text))
            return dumps(text)

        self.patch(json, "dumps", counted)
        long = 1_000_000
        for value in (
            "\x7f" * long, "é" * long, "\ud800" * long, "\udce9" * long, b"\xc3\xa9" * long,
            ["\u2028" * 300] * 20_000, ["é"] * long, ["\udce9" * long] * 300,
        ):  # fmt: skip
            for count in (1, 60):
                looked.clear()
                fields: dict[str, Any] = {f"x{number}": value for number in range(count)}
                self.assertFits(line(**fields))
                self.assertLess(sum(looked), 2 * MAX_RECORD)
                self.assertLess(len(looked), MAX_ELEMENTS + MAX_FIELDS)

    def test_digested(self) -> None:
        """A value that is longer than digests are computed of has its length, and no digest."""
        for value in (b"x" * (MAX_DIGESTED + 1), "x" * (MAX_DIGESTED + 1)):
            cut = written(value)
            self.assertEqual((cut["length"], cut["sha256"]), (MAX_DIGESTED + 1, None))
        half = "é" * (MAX_DIGESTED // 4)
        fields = json.loads(line(one=half, other=half))
        self.assertEqual(fields["one"]["sha256"], digestOf(half.encode()))
        self.assertEqual(fields["one"]["length"], len(half) * 2)
        self.assertEqual(fields["other"]["sha256"], None)
        self.assertEqual(fields["other"]["length"], len(half))

    def test_every(self) -> None:
        """As many fields as there can be, each as long as it likes, all have their place."""
        fields: dict[str, Any] = {f"f{n}{'x' * 60}": "\x00" * 10_000 for n in range(MAX_FIELDS - 1)}
        found = line(10**18, **fields)
        self.assertFits(found)
        self.assertEqual(len(json.loads(found)), MAX_FIELDS + 4)
        fields["one"] = 1
        self.assertRaises(ValueError, encodeMembers, {"event": "e", **fields})

    def test_names(self) -> None:
        """A name that cannot be a member's is refused, and those of the chain are."""
        for name in ("", "1a", "a b", 'a"', "ä", "a" * 65, "n", "time", "previous", "hash"):
            self.assertRaises(ValueError, encodeMembers, {name: 1})

    @settings(deadline=None, max_examples=30)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["x", "é", "\x00", "\udcff", "\ud800"]), st.integers(0, 99_999)
            ),
            max_size=20,
        )
    )
    def test_any(self, values: list[tuple[str, int]]) -> None:
        """Any mixture fits."""
        fields: dict[str, Any] = {f"f{n}": c * times for n, (c, times) in enumerate(values)}
        self.assertFits(line(**fields))
        self.assertFits(line(all=list(fields.values())))


class SealTests(SynchronousTestCase):
    """L{sealRecord}, L{openRecord}, L{isCutOff}."""

    def test_seal(self) -> None:
        """The hash is that of the line without it, the digest that of the whole."""
        found, sealed = sealRecord(7, TIME, encodeMembers({"event": "e"}), "ab" * 32)
        members = json.loads(found)
        self.assertEqual(list(members), ["n", "time", "event", "previous", "hash"])
        without = found[:-SEAL_SIZE] + b"}"
        self.assertEqual(json.loads(without), {k: v for k, v in members.items() if k != "hash"})
        self.assertEqual(members["hash"], hashlib.sha256(without).hexdigest())
        self.assertEqual(sealed, openRecord(found))
        self.assertEqual(sealed.head, Head(7, members["hash"]))
        self.assertEqual(sealed.digest, hashlib.sha256(found).hexdigest())
        self.assertEqual(str(sealed.head), f"7:{members['hash']}")

    def test_everyByte(self) -> None:
        """Whichever byte is changed, to whatever, is noticed."""
        found = line(x="y")
        for place in range(len(found)):
            for flip in (1, 0x20, 0x80):
                changed = bytearray(found)
                changed[place] ^= flip
                self.assertRaises(BadRecord, openRecord, bytes(changed))

    def test_everyLength(self) -> None:
        """A line without its end, or with more, is noticed."""
        found = line(x="y")
        for end in range(len(found)):
            self.assertRaises(BadRecord, openRecord, found[:end])
            self.assertTrue(isCutOff(found[:end]))
        self.assertTrue(isCutOff(found))
        for more in (b" ", b"\x00", b"}", found):
            self.assertRaises(BadRecord, openRecord, found + more)
            self.assertFalse(isCutOff(found + more))
        self.assertFalse(isCutOff(b"x" * MAX_RECORD))

    def test_kinds(self) -> None:
        """What is no record is told from what was one."""

        def sealed(body: bytes) -> bytes:
            return body[:-1] + b',"hash":"' + digestOf(body).encode() + b'"}'

        for data, reason in (
            (b"", "is not JSON"),
            (b"hello", "is not JSON"),
            (b"\xff", "is not JSON"),
            (b"[" * 100_000, "is not JSON"),
            (b"{}", "no audit record"),
            (b"[]", "no audit record"),
            (sealed(b'{"n":0,"time":"","previous":""}'), "no audit record"),
            (sealed(b'{"n":"1","time":"","previous":""}'), "no audit record"),
            (sealed(b'{"n":1,"time":1,"previous":""}'), "no audit record"),
            (sealed(b'{"n":1,"time":""}'), "no audit record"),
            (b'{"n":1,"time":"","previous":""}', "its own hash"),
        ):
            error = self.assertRaises(BadRecord, openRecord, data)
            self.assertIn(reason, str(error))

    def test_timestamp(self) -> None:
        """Moments are in UTC with six digits, at every fraction."""
        self.assertEqual(timestamp(1795267683.45), TIME)
        self.assertEqual(timestamp(0), "1970-01-01T00:00:00.000000Z")
