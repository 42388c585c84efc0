"""Names as they stand on the wire, which lead nowhere but below the root."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import InvalidName
from twisted_netsuite.files.names import (
    MAX_DEPTH,
    MAX_NAME,
    MAX_PART,
    RESERVED,
    join,
    requirePart,
    split,
)


class SplitTests(SynchronousTestCase):
    """Names taken apart."""

    def assertRefused(self, name: bytes) -> None:
        """Check that a name can be none, and that the sentence tells why without showing it."""
        error = self.assertRaises(InvalidName, split, name)
        self.assertRegex(error.sentence, r"\A[A-Z].*\.\Z")
        self.assertTrue(error.sentence.isprintable())

    def test_parts(self) -> None:
        """Slashes and dots that say nothing are left out; the root has no parts."""
        for name, parts in (
            (b"", ()),
            (b"/", ()),
            (b"./.", ()),
            (b"/a/b", (b"a", b"b")),
            (b"a//b/", (b"a", b"b")),
            (b"./a/./b/.", (b"a", b"b")),
            (b"...", (b"...",)),
            (b".a/..b", (b".a", b"..b")),
            (b"\xff\n-\x1b", (b"\xff\n-\x1b",)),
            (b"C:\\x", (b"C:\\x",)),
        ):
            self.assertEqual(split(name), parts, name)

    def test_refused(self) -> None:
        """What leads upwards, what no disk can hold, and the service's own names are refused."""
        for name in (
            b"..",
            b"/..",
            b"a/../b",
            b"a/..",
            b"a\0b",
            b"\0",
            b"x" * (MAX_PART + 1),
            b"a/" * (MAX_DEPTH + 1),
            b"a" * (MAX_NAME + 1),
            RESERVED + b"partial-1",
            b"a/" + RESERVED,
        ):
            self.assertRefused(name)

    def test_bounds(self) -> None:
        """What is as long as can be is taken."""
        self.assertEqual(split(b"x" * MAX_PART), (b"x" * MAX_PART,))
        self.assertEqual(len(split(b"a/" * MAX_DEPTH)), MAX_DEPTH)

    def test_requirePart(self) -> None:
        """One part of a list holds no slash, is no dots, and is not empty."""
        for part in (b"", b".", b"..", b"a/b", b"/", b"a\0", RESERVED):
            self.assertRaises(InvalidName, requirePart, part)
        requirePart(b".hidden")

    @given(st.lists(st.binary(min_size=1, max_size=20), max_size=10))
    def test_model(self, parts: list[bytes]) -> None:
        """Whatever is taken apart has parts that can stand alone, and is put together as it was."""
        name = b"/".join(parts)
        try:
            found = split(name)
        except InvalidName:
            return
        for part in found:
            requirePart(part)
        self.assertEqual(split(join(found)), found)
        meant = [part for part in name.split(b"/") if part not in (b"", b".")]
        self.assertEqual(list(found), meant)
