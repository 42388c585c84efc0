"""
The words of files that people write.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.wire.words import MAX_LISTED, didYouMean, kebab


class KebabTests(SynchronousTestCase):
    """L{kebab}: a field's name as people write it."""

    def test_names(self) -> None:
        """Each hump becomes a hyphen and a small letter."""
        for name, word in (
            ("listen", "listen"),
            ("idleTimeout", "idle-timeout"),
            ("maxConnectionsAtOnce", "max-connections-at-once"),
            ("ipv6Only", "ipv6-only"),
            ("", ""),
        ):
            self.assertEqual(kebab(name), word)


class DidYouMeanTests(SynchronousTestCase):
    """L{didYouMean}: advice after an unknown word."""

    def test_near(self) -> None:
        """The nearest word is named, if one is near."""
        self.assertEqual(didYouMean("ech", ["echo", "exec"]), "did you mean echo?")

    def test_far(self) -> None:
        """Without one that is near, all are listed that a person would read."""
        self.assertEqual(didYouMean("xyz", {"echo": 1, "exec": 2}), "there are echo, exec.")
        many = [f"w{number}" for number in range(MAX_LISTED + 1)]
        self.assertEqual(didYouMean("xyz", many), f"there are {', '.join(many[:-1])}.")

    def test_none(self) -> None:
        """Where there are no words, that is said."""
        self.assertEqual(didYouMean("xyz", []), "there are none.")
