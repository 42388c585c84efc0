"""
The tree of exceptions: codes for the wire, statuses for a shell, sentences for a person.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite import errors
from twisted_netsuite.errors import NetsuiteError, classForCode

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, NetsuiteError)
]


class ErrorTests(SynchronousTestCase):
    """What every class of the tree promises."""

    def test_codesUnique(self) -> None:
        """No two classes share a wire code, so a code names one class."""
        codes = [cls.wireCode for cls in CLASSES]
        self.assertEqual(len(codes), len(set(codes)))

    def test_codesAreWords(self) -> None:
        """A wire code is lower-case ASCII words, joined by hyphens: no peer can mistake it."""
        for cls in CLASSES:
            self.assertRegex(cls.wireCode, r"\A[a-z]+(-[a-z]+)*\Z")

    def test_statusesFail(self) -> None:
        """No failure ends a command with success, nor with a status of a signal."""
        for cls in CLASSES:
            self.assertIn(cls.exitStatus, (1, 124, 125, 126, 127), cls)

    def test_statusesOfShells(self) -> None:
        """Late, denied and not found have the statuses that C{timeout} and shells give them."""
        self.assertEqual(errors.TimedOut.exitStatus, 124)
        self.assertEqual(errors.Denied.exitStatus, 126)
        self.assertEqual(errors.NotFound.exitStatus, 127)

    def test_ownFailures(self) -> None:
        """Whatever has no status of its own is 125, our own failure."""
        for cls in (
            NetsuiteError,
            errors.ConnectionFailed,
            errors.ProtocolError,
            errors.LimitExceeded,
            errors.ConfigurationError,
        ):
            self.assertEqual(cls.exitStatus, 125)

    def test_everyClassFound(self) -> None:
        """Each class but the root is found again by its code."""
        for cls in CLASSES:
            if cls is not NetsuiteError:
                self.assertIs(classForCode(cls.wireCode), cls)

    def test_unknownCode(self) -> None:
        """A word that stands for no class gives none, and neither does the root's."""
        for code in ("", "nonsense", "DENIED", "internal", "denied "):
            self.assertIsNone(classForCode(code))

    def test_sentence(self) -> None:
        """An error's sentence is just what it was given."""
        self.assertEqual(errors.Denied("No.").sentence, "No.")

    def test_documented(self) -> None:
        """Each class says in a sentence what it means."""
        for cls in CLASSES:
            self.assertTrue((cls.__doc__ or "").strip().split("\n")[0].endswith("."), cls)
