"""
The values of a policy: sizes, arguments, and whom a line means.
"""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.trust.identity import ANONYMOUS, Identity
from twisted_netsuite.trust.values import Element, IdentityPattern, RoomPattern, Size, convertHook


class SizeTests(SynchronousTestCase):
    """L{Size}."""

    def test_right(self) -> None:
        """A size is a number of bytes, or a number with a binary or decimal unit."""
        for written, size in (
            (1, 1),
            ("1 B", 1),
            ("64 MiB", 64 * 2**20),
            ("64MiB", 64 * 2**20),
            ("1.5 KiB", 1536),
            ("10 GB", 10**10),
            ("10 GiB", 10 * 2**30),
            ("2 kB", 2000),
            ("3 MB", 3 * 10**6),
            ("1 TiB", 2**40),
            ("1 TB", 10**12),
            (2**63 - 1, 2**63 - 1),
        ):
            self.assertEqual(Size.read(written), size)

    def test_refused(self) -> None:
        """What is no size, or one of nothing, is refused."""
        wrong: list[object] = [0, -1, 2**63, True, 1.5, None, [], "", "5", "MiB", "1 mib", "1 KB"]
        wrong += ["1 M", "0 B", "-1 B", "0.1 B", "1e3 B", "1  MiB", "1 MiB ", "٣ B", "9" * 5000]
        wrong += ["999999999999999 TiB"]
        for written in wrong:
            with self.assertRaises(ValueError, msg=repr(written)):
                Size.read(written)

    @given(st.text())
    def test_anything(self, written: str) -> None:
        """Any text is a size of at least one byte, or refused in words."""
        with contextlib.suppress(ValueError):
            self.assertGreaterEqual(Size.read(written), 1)


class ElementTests(SynchronousTestCase):
    """L{Element}."""

    def test_alternatives(self) -> None:
        """One of the alternatives has to fit."""
        element = Element(["log", "st*"])
        self.assertTrue(element.matches("log", False))
        self.assertTrue(element.matches("status", False))
        self.assertFalse(element.matches("push", False))
        self.assertFalse(element.rest)

    def test_rest(self) -> None:
        """Three dots alone are the rest; in brackets they are three dots."""
        self.assertTrue(Element("...").rest)
        self.assertFalse(Element("[.]..").rest)
        self.assertTrue(Element("[.]..").matches("...", False))

    def test_refused(self) -> None:
        """What is no pattern is refused."""
        wrong: list[object] = [1, [], [1], ["a", ["b"]], {}, ["a", "..."], ["..."], "[", None, "**"]
        for written in wrong:
            with self.assertRaises(ValueError, msg=repr(written)):
                Element(written)


class IdentityPatternTests(SynchronousTestCase):
    """L{IdentityPattern}."""

    def means(self, pattern: str) -> list[str]:
        """List whom a pattern means, of a few."""
        everybody = [
            Identity("cert", "anna"),
            Identity("unix", "anna"),
            Identity("token", "anna"),
            Identity("cert", "bob"),
            Identity("unix", "#1000"),
            ANONYMOUS,
        ]
        return [str(who) for who in everybody if IdentityPattern(pattern).matches(who)]

    def test_means(self) -> None:
        """A pattern means names below the method that it says, and no other."""
        for pattern, means in (
            ("cert:anna", ["cert:anna"]),
            ("cert:*", ["cert:anna", "cert:bob"]),
            ("unix:*", ["unix:anna", "unix:#1000"]),
            ("unix:#1000", ["unix:#1000"]),
            ("token:a*", ["token:anna"]),
            ("anonymous", ["anonymous"]),
            ("cert:Anna", []),
        ):
            self.assertEqual(self.means(pattern), means, pattern)

    def test_refused(self) -> None:
        """The method can be no wildcard, and the name must be one that somebody can have."""
        for pattern in ("*", "*:anna", "anna", "cert", "cert:", "", "anonymous:x", "anon*",
                        "c?rt:a", "CERT:anna", "cert:an na", "cert:-x", "cert:[a", "unix:#",
                        "cert:a/b"):  # fmt: skip
            with self.assertRaises(ValueError, msg=pattern):
                IdentityPattern(pattern)


class HookTests(SynchronousTestCase):
    """L{convertHook}."""

    def test_texts(self) -> None:
        """Patterns are made of texts only."""
        self.assertEqual(convertHook(RoomPattern, "#a/*").text, "#a/*")  # type: ignore[attr-defined]
        wrong: list[object] = [1, [], {}, True, None]
        for value in wrong:
            with self.assertRaises(ValueError, msg=repr(value)):
                convertHook(RoomPattern, value)

    def test_room(self) -> None:
        """In rooms a slash is a character as any other; an empty name is nobody's."""
        self.assertTrue(RoomPattern("#*").matches("#a/b"))
        with self.assertRaises(ValueError):
            RoomPattern("")
