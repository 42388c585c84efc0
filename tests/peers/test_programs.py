"""
What happens where a third-party program is missing.
"""

from __future__ import annotations

import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.peers.programs import REQUIRE, program

MISSING = ("no-such-program", "no-such-package")


class ProgramTests(SynchronousTestCase):
    """L{program}."""

    def test_found(self) -> None:
        """A program, or a file by its path, is found."""
        self.assertTrue(program("sh", "dash", {"PATH": "/bin"}).endswith("/sh"))
        self.assertEqual(sys.executable, program(sys.executable, "python3", {}))

    def test_skipped(self) -> None:
        """A test of a missing program is skipped, with the package that has it."""
        for environment in ({}, {REQUIRE: "0"}, {REQUIRE: ""}):
            error = self.assertRaises(SkipTest, program, *MISSING, environment)
            self.assertIn("no-such-package", str(error))

    def test_required(self) -> None:
        """Where all programs are meant to be there, it fails."""
        error = self.assertRaises(AssertionError, program, *MISSING, {REQUIRE: "1"})
        self.assertIn("no-such-program", str(error))
