"""
The header dialect's answers: written as the tutorial reads them, read however they are split.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import LimitExceeded, ProtocolError
from twisted_netsuite.wire.header import MAX_HEADER, AnswerHeader, AnswerParser, encodeAnswer

MAX_PAYLOAD = 1000


def raw(header: bytes, payload: bytes = b"", length: int | None = None) -> bytes:
    """Put an answer together by hand, with a length that may be a lie."""
    return struct.pack("<i", len(header) if length is None else length) + header + payload


def tutorial(payload: bytes, total: int | None = None) -> bytes:
    """Write an answer as the tutorial's server does."""
    head = {
        "filename": "a.txt",
        "total_size": len(payload) if total is None else total,
        "hash": "x",
    }
    return raw(json.dumps(head).encode(), payload)


def feedAll(parser: AnswerParser, data: bytes, size: int) -> list[tuple[AnswerHeader, bytes]]:
    """Feed bytes in pieces of one size."""
    answers = []
    for start in range(0, len(data), size):
        answers += parser.feed(data[start : start + size])
    return answers


class EncodeTests(SynchronousTestCase):
    """L{encodeAnswer} as the tutorial's client takes it apart."""

    def test_tutorialClient(self) -> None:
        """The tutorial's steps find the length, the three keys and the payload where it looks."""
        answer = encodeAnswer("ls", b"a\nb\n", 0, "exited")
        length = struct.unpack("i", answer[:4])[0]
        head = json.loads(answer[4 : 4 + length])
        payload = answer[4 + length :]
        self.assertEqual(payload, b"a\nb\n")
        self.assertEqual(head["filename"], "ls")
        self.assertEqual(head["total_size"], 4)
        self.assertEqual(head["hash"], hashlib.sha256(payload).hexdigest())

    def test_littleEndian(self) -> None:
        """The length is little-endian whatever the machine."""
        answer = encodeAnswer("x", b"", 0, "exited")
        self.assertEqual(int.from_bytes(answer[:4], "little"), len(answer) - 4)

    def test_furtherKeys(self) -> None:
        """Status, outcome and the digest's name go along for clients that know them."""
        ((header, _),) = AnswerParser(9).feed(encodeAnswer("x", b"", 126, "denied"))
        self.assertEqual(
            (header.exit_status, header.outcome, header.hash_algorithm), (126, "denied", "sha256")
        )

    def test_emptyPayload(self) -> None:
        """An answer without output is whole as soon as its header is."""
        ((header, payload),) = AnswerParser(0).feed(encodeAnswer("true", b"", 0, "exited"))
        self.assertEqual((header.total_size, payload), (0, b""))


class ParserTests(SynchronousTestCase):
    """L{AnswerParser} over bytes that are split, joined, cut, too long or not an answer."""

    def setUp(self) -> None:
        self.parser = AnswerParser(MAX_PAYLOAD)

    def test_tutorialServer(self) -> None:
        """An answer with the tutorial's three keys is read; what it does not say stays unknown."""
        ((header, payload),) = self.parser.feed(tutorial(b"hello"))
        self.assertEqual(payload, b"hello")
        self.assertEqual(
            (header.hash_algorithm, header.exit_status, header.outcome), ("", None, "")
        )

    def test_unknownKey(self) -> None:
        """A key that we do not know is ignored."""
        head = b'{"filename":"a","total_size":1,"hash":"","colour":["red"]}'
        ((header, payload),) = self.parser.feed(raw(head, b"x"))
        self.assertEqual((header.filename, payload), ("a", b"x"))

    def test_statuses(self) -> None:
        """A status is one that a process can end with; another is no answer."""
        for status, right in ((-1, False), (0, True), (255, True), (256, False), (10**30, False)):
            head = b'{"filename":"a","total_size":0,"hash":"","exit_status":%d}' % status
            parser = AnswerParser(MAX_PAYLOAD)
            if right:
                ((header, _),) = parser.feed(raw(head))
                self.assertEqual(header.exit_status, status)
            else:
                self.assertRaises(ProtocolError, parser.feed, raw(head))

    def test_nested(self) -> None:
        """Brackets in brackets without end are no answer, and no more than that."""
        head = b'{"colour":' + b"[" * (MAX_HEADER - 10)
        self.assertRaises(ProtocolError, self.parser.feed, raw(head))

    def test_everySplit(self) -> None:
        """Two answers joined, then split at every place, are the same two answers."""
        data = encodeAnswer("a", b"hello", 0, "exited") + encodeAnswer("b", b"", 1, "exited")
        for cut in range(len(data) + 1):
            parser = AnswerParser(MAX_PAYLOAD)
            answers = parser.feed(data[:cut]) + parser.feed(data[cut:])
            self.assertEqual(
                [(h.filename, p) for h, p in answers], [("a", b"hello"), ("b", b"")], cut
            )

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.text(), st.binary(max_size=99), st.integers(0, 255)), max_size=5),
        st.integers(1, 50),
    )
    def test_anySplit(self, commands: list[tuple[str, bytes, int]], size: int) -> None:
        """Any answers come out as they went in, in pieces of any size."""
        data = b"".join(encodeAnswer(n, p, status, "exited") for n, p, status in commands)
        answers = feedAll(AnswerParser(MAX_PAYLOAD), data, size)
        self.assertEqual([(h.filename, p, h.exit_status) for h, p in answers], commands)

    def test_headerLengthRefused(self) -> None:
        """A header of a length that cannot be is refused with that number, before it comes."""
        for length in (-(2**31), -1, 0, MAX_HEADER + 1, 2**31 - 1):
            parser = AnswerParser(MAX_PAYLOAD)
            with self.assertRaises(LimitExceeded) as caught:
                parser.feed(struct.pack("<i", length))
            self.assertIn(f"a header of {length} bytes", caught.exception.sentence)
            self.assertIn(f"1 to {MAX_HEADER} are accepted", caught.exception.sentence)

    def test_largestHeader(self) -> None:
        """A header of just the largest size is read, and one of a byte less."""
        plain = json.dumps({"filename": "", "total_size": 0, "hash": ""}).encode()
        for size in (MAX_HEADER - 1, MAX_HEADER):
            name = b'"filename": "' + b"n" * (size - len(plain))
            head = plain.replace(b'"filename": "', name)
            self.assertEqual(len(head), size)
            self.assertEqual(len(AnswerParser(0).feed(raw(head))), 1)

    def test_payloadLimit(self) -> None:
        """A payload of just the limit is read; one byte more is refused when it is announced."""
        for size in (MAX_PAYLOAD - 1, MAX_PAYLOAD):
            ((_, payload),) = self.parser.feed(tutorial(b"x" * size))
            self.assertEqual(len(payload), size)
        with self.assertRaises(LimitExceeded) as caught:
            self.parser.feed(tutorial(b"", MAX_PAYLOAD + 1))
        self.assertIn(f"announced {MAX_PAYLOAD + 1} bytes", caught.exception.sentence)
        self.assertIn(f"0 to {MAX_PAYLOAD} are accepted", caught.exception.sentence)

    def test_negativePayload(self) -> None:
        """A payload of fewer than no bytes is refused."""
        self.assertRaises(LimitExceeded, self.parser.feed, tutorial(b"", -1))

    def test_notAHeader(self) -> None:
        """A header that is no such JSON object is refused with the reason and the field's path."""
        for head, reason in (
            (b"not json!", "malformed"),
            (b"\xff\xfe{}", "malformed"),
            (b"[]", "object"),
            (b"{}", "filename"),
            (b'{"filename":"a","total_size":"5","hash":""}', "$.total_size"),
            (b'{"filename":"a","total_size":1e99,"hash":""}', "$.total_size"),
            (b'{"filename":1,"total_size":5,"hash":""}', "$.filename"),
            (b'{"filename":"\xff","total_size":5,"hash":""}', "utf-8"),
            (b'{"filename":"a","total_size":5,"hash":null}', "$.hash"),
            (b'{"filename":"a","total_size":5,"hash":""', "truncated"),
        ):
            with self.assertRaises(ProtocolError) as caught:
                AnswerParser(MAX_PAYLOAD).feed(raw(head))
            self.assertIn("answer header cannot be read", caught.exception.sentence)
            self.assertIn(reason, caught.exception.sentence)

    @settings(deadline=None)
    @given(st.binary(max_size=200), st.integers(1, 20))
    def test_garbage(self, data: bytes, size: int) -> None:
        """Garbage ends in one of our errors or waits for more; nothing else is raised."""
        with contextlib.suppress(ProtocolError, LimitExceeded):
            feedAll(AnswerParser(MAX_PAYLOAD), data, size)

    @settings(deadline=None)
    @given(st.binary(min_size=1, max_size=100))
    def test_garbageHeader(self, head: bytes) -> None:
        """A header of garbage is refused as such, or turns out to be one."""
        with contextlib.suppress(ProtocolError, LimitExceeded):
            AnswerParser(MAX_PAYLOAD).feed(raw(head))
