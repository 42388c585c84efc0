"""
What the Makefile says of itself.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).parents[2]


class HelpTests(SynchronousTestCase):
    """C{make} without a target."""

    def test_help(self) -> None:
        """It lists each target with what it does, and does nothing."""
        listed = [
            subprocess.run(
                ["make", "--no-print-directory", *words],
                cwd=CHECKOUT,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for words in ([], ["help"])
        ]
        self.assertEqual(listed[0], listed[1])
        for target in ("run", "test", "lint", "docs", "bench", "help"):
            self.assertRegex(listed[0], rf"(?m)^  make {target} +\S.*$")
