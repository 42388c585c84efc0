"""
What several commands take.
"""

from __future__ import annotations

import click
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.cli.options import Seconds, Span


class SpanTests(SynchronousTestCase):
    """L{Span} and L{Seconds}."""

    def test_spans(self) -> None:
        """A span is a number of seconds, or of the unit behind it."""
        for text, seconds in (
            *(("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400), ("30d", 2592000)),
        ):
            self.assertEqual(Span(2592000).convert(text, None, None), seconds)
        self.assertEqual(Span(10).convert(5, None, None), 5)

    def test_noSpans(self) -> None:
        """What is none is refused, and so is what is too long."""
        for text in ("", "0", "0m", "-1", "1.5h", "1w", "h", "1 h", "1H", "٣", "1" * 11, "1d\n"):
            error = self.assertRaises(click.BadParameter, Span(99).convert, text, None, None)
            self.assertIn("is no span of time", error.message)
        for text in ("31d", "9999999999d", "2592001"):
            error = self.assertRaises(click.BadParameter, Span(2592000).convert, text, None, None)
            self.assertIn("30d is the most", error.message)

    def test_seconds(self) -> None:
        """A duration is any number in its range, which nan is not."""
        kind = Seconds(min=0, min_open=True)
        for text, seconds in (
            ("0.5", 0.5),
            ("90s", 90),
            ("10m", 600),
            ("1.5h", 5400),
            ("1d", 86400),
        ):
            self.assertEqual(kind.convert(text, None, None), seconds)
        self.assertEqual(kind.convert(0.5, None, None), 0.5)
        for text in ("0", "-1", "nan", "soon", "0m", "m", "", "-1h", "1w", "nand", "1mm"):
            self.assertRaises(click.BadParameter, kind.convert, text, None, None)
