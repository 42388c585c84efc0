"""
Users and tokens as Twisted's checkers see them: who is let in; the rest are told one thing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from twisted.cred.checkers import (
    ANONYMOUS,
    AllowAnonymousAccess,
    FilePasswordDB,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import LoginDenied, UnauthorizedLogin
from twisted.cred.strcred import makeChecker
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError, Unauthenticated
from twisted_netsuite.trust.identity import Identity
from twisted_netsuite.trust.tokens import Token, TokenVerifier, refusal


class Checker:
    """Answers what the test says, and notes what it is asked."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[bytes] = []

    def requestAvatarId(self, credentials: Any) -> Any:
        self.asked.append(credentials.username)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def verifier(*checkers: Any) -> TokenVerifier:
    """Make one of checkers of any sort."""
    return TokenVerifier(checkers)


class TokenVerifierTests(SynchronousTestCase):
    """L{TokenVerifier}."""

    def setUp(self) -> None:
        self.memory = InMemoryUsernamePasswordDatabaseDontUse(anna=b"s3cret", ben="grün".encode())

    def file(self, text: str) -> Path:
        """Write a file of users and tokens."""
        path = Path(self.mktemp())
        path.write_text(text)
        return path

    def accepted(self, verifier: TokenVerifier, user: str, token: str) -> Identity:
        """Take who is let in."""
        return self.successResultOf(verifier.verify(user, token))

    def assertRefused(self, verifier: TokenVerifier, user: str, token: str) -> None:
        """Check that somebody is refused, in the words in which everybody is."""
        failure = self.failureResultOf(verifier.verify(user, token), Unauthenticated)
        self.assertEqual(str(failure.value), str(refusal()))

    def test_right(self) -> None:
        """The right token makes its user known, by that name and by a token."""
        tokens = verifier(self.memory)
        for user, token in (("anna", "s3cret"), ("ben", "grün")):
            identity = self.accepted(tokens, user, token)
            self.assertEqual(identity, Identity("token", user))
            self.assertEqual(str(identity), f"token:{user}")

    def test_wrong(self) -> None:
        """A wrong token, an empty one and a user who is not there are all told the same."""
        tokens = verifier(self.memory)
        for user, token in (
            ("anna", "S3cret"),
            ("anna", "s3cret "),
            ("anna", "s3cre"),
            ("anna", ""),
            ("nobody", "s3cret"),
            ("ben", "grun"),
        ):
            self.assertRefused(tokens, user, token)

    def test_names(self) -> None:
        """No checker is even asked for a user whose name cannot be one."""
        checker = Checker(b"anna")
        for user in ("", "a b", "anna\n", "../anna", "x" * 65, "-a", "a:b", "änna", "\x00"):
            self.assertRefused(verifier(checker), user, "s3cret")
        self.assertEqual(checker.asked, [])

    def test_odd(self) -> None:
        """A token that is no UTF-8, or holds a NUL, is refused like any other."""
        for token in ("\udcff", "\0", "s3cret\0"):
            self.assertRefused(verifier(self.memory), "anna", token)

    def test_inTurn(self) -> None:
        """Several checkers are asked in their order, until one knows the user and the token."""
        other = InMemoryUsernamePasswordDatabaseDontUse(anna=b"other", zoe=b"z")
        last = Checker(b"anna")
        tokens = verifier(self.memory, other, last)
        self.assertEqual(str(self.accepted(tokens, "anna", "other")), "token:anna")
        self.assertEqual(str(self.accepted(tokens, "zoe", "z")), "token:zoe")
        self.assertEqual(last.asked, [])
        self.accepted(tokens, "carl", "c")
        self.assertEqual(last.asked, [b"carl"])

    def test_file(self) -> None:
        """A file of users is read again for each try: who is taken out of it is out."""
        path = self.file("anna:s3cret\nempty:\n")
        tokens = verifier(makeChecker(f"file:{path}"))
        self.accepted(tokens, "anna", "s3cret")
        self.assertRefused(tokens, "empty", "")
        path.write_text("ben:b\n")
        self.assertRefused(tokens, "anna", "s3cret")
        self.accepted(tokens, "ben", "b")

    def test_fileGone(self) -> None:
        """Without its file nobody is let in."""
        self.assertRefused(verifier(FilePasswordDB(self.mktemp())), "anna", "s3cret")
        self.flushLoggedErrors()

    def test_hashed(self) -> None:
        """Tokens can be stored hashed."""

        def digest(user: bytes, token: bytes, stored: bytes) -> bytes:
            return hashlib.sha256(token).hexdigest().encode()

        stored = hashlib.sha256(b"s3cret").hexdigest()
        tokens = verifier(FilePasswordDB(str(self.file(f"anna:{stored}\n")), hash=digest))
        self.accepted(tokens, "anna", "s3cret")
        self.assertRefused(tokens, "anna", stored)

    def test_canonical(self) -> None:
        """Whoever writes a name in another case is known by the name that the checker has."""
        path = self.file("anna:s3cret\n")
        tokens = verifier(FilePasswordDB(str(path), caseSensitive=False))
        self.assertEqual(str(self.accepted(tokens, "ANNA", "s3cret")), "token:anna")

    def test_text(self) -> None:
        """A checker may give its answer as bytes or as text, at once or later."""
        self.assertEqual(str(self.accepted(verifier(Checker("anna")), "a", "b")), "token:anna")
        later: Deferred[bytes] = Deferred()
        waiting = verifier(Checker(later)).verify("a", "b")
        self.assertNoResult(waiting)
        later.callback(b"anna")
        self.assertEqual(str(self.successResultOf(waiting)), "token:anna")

    def test_nobody(self) -> None:
        """A checker that vouches for nobody, or for what is no name, lets nobody in."""
        for avatar in (ANONYMOUS, b"", "", None, 0, b"a b", b"\xff", "x" * 65, object()):
            with capturedLogs() as events:
                self.assertRefused(verifier(Checker(avatar)), "anna", "s3cret")
            self.assertIn("names no user", events[0]["log_format"])

    def test_fault(self) -> None:
        """A checker that fails lets nobody in, is told of in the log, and stops no other."""
        broken = Checker(RuntimeError("no directory\nfor s3cret"))
        with capturedLogs() as events:
            self.assertRefused(verifier(broken), "anna", "s3cret")
            self.accepted(verifier(broken, self.memory), "anna", "s3cret")
        self.assertEqual(events[0]["error"], "RuntimeError: no directory for ...")
        self.assertEqual((events[0]["checker"], events[0]["user"]), ("Checker", "anna"))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_denied(self) -> None:
        """A checker's refusal of any kind is no fault of it."""
        with capturedLogs() as events:
            for error in (UnauthorizedLogin("who?"), LoginDenied("you")):
                self.assertRefused(verifier(Checker(error)), "anna", "s3cret")
        self.assertEqual(events, [])

    def test_cancelled(self) -> None:
        """Whoever does not wait any more ends the check, and no further checker is asked."""
        never: Deferred[bytes] = Deferred()
        last = Checker(b"anna")
        waiting = verifier(Checker(never), last).verify("anna", "s3cret")
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(never.called)
        self.assertEqual(last.asked, [])

    def test_useless(self) -> None:
        """No checker at all, and one that takes no passwords, are refused at the start."""
        error = self.assertRaises(ConfigurationError, verifier)
        self.assertIn("--auth", error.sentence)
        for checker in (AllowAnonymousAccess(), makeChecker("anonymous")):
            error = self.assertRaises(ConfigurationError, verifier, self.memory, checker)
            self.assertIn("AllowAnonymousAccess checks no user names", error.sentence)
        checker = Checker(b"anna")
        checker.credentialInterfaces = (IUsernameHashedPassword,)  # type: ignore[assignment]
        self.assertRaises(ConfigurationError, verifier, checker)


class TokenTests(SynchronousTestCase):
    """L{Token}."""

    def test_check(self) -> None:
        """Only the same token is right; an empty one never is."""
        token = Token(b"anna", b"s3cret")
        self.assertTrue(token.checkPassword(b"s3cret"))
        for other in (b"", b"s3cre", b"s3crets", b"S3CRET"):
            self.assertFalse(token.checkPassword(other))
        self.assertFalse(Token(b"anna", b"").checkPassword(b""))

    def test_shown(self) -> None:
        """It does not show itself."""
        self.assertNotIn("s3cret", repr(Token(b"anna", b"s3cret")))
