"""
Text from a peer can be shown without harm.
"""

from __future__ import annotations

import sys
import unicodedata

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.wire.text import cleanText, decodeText, shownBytes

#: Format characters (category Cf) that are seen: signs before Arabic, Syriac and Kaithi numbers,
#: and the joiners of Egyptian hieroglyphs.
SEEN = {
    *range(0x600, 0x606),
    0x6DD,
    0x70F,
    0x890,
    0x891,
    0x8E2,
    0x110BD,
    0x110CD,
    *range(0x13430, 0x13440),
}

#: Letters and marks that show nothing, so that a line can hide in what seems to be its blank end.
BLANK = {0x34F, 0x115F, 0x1160, 0x2800, 0x3164, 0xFFA0, *range(0x180B, 0x180E)}

BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


class CleanTextTests(SynchronousTestCase):
    """L{cleanText} over all of Unicode."""

    def test_plain(self) -> None:
        """Ordinary text, of any script and with emoji, stays as it is."""
        for text in ("", "hello", "Grüße", "你好", "שלום", "مرحبا", "🙂", "e\u0301", "\u00a0"):
            self.assertEqual(cleanText(text), text)

    def test_lineEnds(self) -> None:
        """A tab or a line end becomes a space, so that a text stays one line."""
        self.assertEqual(cleanText("a\tb\nc\rd\r\n"), "a b c d  ")

    def test_escape(self) -> None:
        """An escape sequence loses its escape and so its power."""
        self.assertEqual(cleanText("\x1b[31mred\x9b0m"), "\ufffd[31mred\ufffd0m")

    def test_everyCharacter(self) -> None:
        """Nothing that controls, ends a line or does not show is let through, and all else is."""
        unsafe = {"Cc", "Cs", "Zl", "Zp", "Cf"}
        for number in range(sys.maxunicode + 1):
            char = chr(number)
            wanted = char
            hidden = unicodedata.category(char) in unsafe and number not in SEEN
            if hidden or number in BLANK:
                wanted = " " if char in "\t\n\r" else "\ufffd"
            if unicodedata.category(char) != "Cn":
                self.assertEqual(cleanText(char), wanted, f"U+{number:04X}")

    def test_bidirectional(self) -> None:
        """Nothing that changes the order of writing is let through."""
        for number in range(sys.maxunicode + 1):
            if unicodedata.bidirectional(chr(number)) in BIDI:
                self.assertEqual(cleanText(chr(number)), "\ufffd", f"U+{number:04X}")

    @settings(deadline=None)
    @given(st.text(st.characters()))
    def test_lengthAndAgain(self, text: str) -> None:
        """Cleaning keeps the number of characters, and cleaning twice is cleaning once."""
        cleaned = cleanText(text)
        self.assertEqual(len(cleaned), len(text))
        self.assertEqual(cleanText(cleaned), cleaned)

    @settings(deadline=None)
    @given(st.text(st.characters()))
    def test_oneLine(self, text: str) -> None:
        """What is cleaned is one line, by every notion of a line that Python has."""
        self.assertLessEqual(len(cleanText(text).splitlines()), 1)


class ShownBytesTests(SynchronousTestCase):
    """L{shownBytes}: any bytes, in a line of the log."""

    def test_limit(self) -> None:
        """Bytes up to the limit are shown whole; of more, it is told how many are left out."""
        self.assertEqual(shownBytes(b"", 3), "b''")
        self.assertEqual(shownBytes(b"abc", 3), "b'abc'")
        self.assertEqual(shownBytes(b"abcd", 3), "b'abc' and 1 bytes more")
        self.assertEqual(shownBytes(bytes(1 << 16), 1), "b'\\x00' and 65535 bytes more")

    @settings(deadline=None)
    @given(st.binary(), st.integers(0, 20))
    def test_anything(self, data: bytes, limit: int) -> None:
        """Whatever the bytes are, the line is short and clean."""
        shown = shownBytes(data, limit)
        self.assertLess(len(shown), 4 * limit + 30)
        self.assertEqual(cleanText(shown), shown)


class DecodeTextTests(SynchronousTestCase):
    """L{decodeText} of anything that a peer can send."""

    def test_limit(self) -> None:
        """Text up to the limit is whole; one character more, and it is cut with an ellipsis."""
        self.assertEqual(decodeText(b"abc", 4), "abc")
        self.assertEqual(decodeText(b"abcd", 4), "abcd")
        self.assertEqual(decodeText(b"abcde", 4), "abc…")
        self.assertEqual(decodeText(b"ab", 1), "…")

    def test_characters(self) -> None:
        """The limit counts characters, not bytes."""
        self.assertEqual(decodeText("你好吗".encode(), 3), "你好吗")

    def test_notUTF8(self) -> None:
        """Bytes that are no UTF-8 show as replacement characters, and the rest is kept."""
        self.assertEqual(decodeText(b"a\xff\xfeb", 10), "a\ufffd\ufffdb")

    def test_cutCharacter(self) -> None:
        """A character that was cut in its middle does no harm."""
        self.assertEqual(decodeText("é".encode()[:1], 10), "\ufffd")

    @settings(deadline=None)
    @given(st.binary(), st.integers(1, 20))
    @example(b"\xed\xa0\x80", 9)
    def test_anything(self, data: bytes, limit: int) -> None:
        """Whatever comes, the answer is short, clean and can be encoded."""
        text = decodeText(data, limit)
        self.assertLessEqual(len(text), limit)
        self.assertEqual(cleanText(text), text)
        text.encode()
