"""
The checkers of tokens, as options name them.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred
from twisted.plugins.cred_file import theFileCheckerFactory
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.echo.tap import EchoConfig, Options
from twisted_netsuite.errors import ConfigurationError, Unauthenticated
from twisted_netsuite.ops.auth import tokensFrom
from twisted_netsuite.trust.identity import Identity


class TokensFromTests(SynchronousTestCase):
    """L{tokensFrom}."""

    def verify(self, descriptions: list[str], user: str, token: str) -> Deferred[Identity]:
        """Check a token."""
        verifier = tokensFrom(descriptions)
        assert verifier is not None
        return verifier.verify(user, token)

    def test_none(self) -> None:
        """Without a checker, no tokens are taken."""
        self.assertIsNone(tokensFrom([]))

    def test_file(self) -> None:
        """A file of users and tokens says who is who."""
        path = Path(self.mktemp())
        path.write_text("anna:open\nbob:sesame\n")
        done = self.verify([f"file:{path}"], "bob", "sesame")
        self.assertEqual(self.successResultOf(done), Identity("token", "bob"))
        done = self.verify([f"file:{path}"], "bob", "open")
        self.failureResultOf(done, Unauthenticated)

    def test_relative(self) -> None:
        """A relative path is that of the start, as C{twistd} changes its directory."""
        here = Path.cwd()
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "users").write_text("anna:open\n")
        self.addCleanup(os.chdir, here)
        os.chdir(folder)
        verifier = tokensFrom(["file:users"])
        assert verifier is not None
        os.chdir("/")
        self.assertEqual(
            self.successResultOf(verifier.verify("anna", "open")), Identity("token", "anna")
        )

    def test_noFile(self) -> None:
        """A file that cannot be read is refused in one sentence, and nothing else is printed."""
        gone = os.path.abspath(self.mktemp())
        output = io.StringIO()
        self.patch(theFileCheckerFactory, "errorOutput", output)
        for path, reason in ((gone, "no such file or directory"), ("/", "is a directory")):
            with self.assertRaises(ConfigurationError) as caught:
                tokensFrom([f"file:{path}"])
            self.assertEqual(
                caught.exception.sentence,
                f"The file {path!r} of auth cannot be read: {reason}; give one that can.",
            )
        with self.assertRaises(ConfigurationError) as caught:
            tokensFrom(["file:"])
        self.assertIn("'file:' cannot be understood", caught.exception.sentence)
        self.assertEqual(output.getvalue(), "")

    def test_inTurn(self) -> None:
        """Each checker is asked until one knows the user."""
        done = self.verify(["memory:anna:open", "memory:bob:sesame"], "bob", "sesame")
        self.assertEqual(self.successResultOf(done), Identity("token", "bob"))

    def test_unknown(self) -> None:
        """A sort that there is not is refused by its name."""
        with self.assertRaises(ConfigurationError) as caught:
            tokensFrom(["ldap:host"])
        self.assertIn("'ldap:host' is of no known sort", caught.exception.sentence)

    def test_wrong(self) -> None:
        """An argument that the sort does not take is refused, and where to look is said."""
        with self.assertRaises(ConfigurationError) as caught:
            tokensFrom(["memory:anna"])
        self.assertIn("'memory:anna' cannot be understood", caught.exception.sentence)


class HelpTests(SynchronousTestCase):
    """The options that list the checkers."""

    def test_sorts(self) -> None:
        """C{--help-auth} lists what C{--auth} can name, and ends the program."""
        output = io.StringIO()
        self.patch(Options, "authOutput", output)
        ended = self.assertRaises(SystemExit, Options().parseOptions, ["--help-auth"])
        self.assertEqual(ended.code, 0)
        for word in ("file", "memory"):
            self.assertIn(word, output.getvalue())

    def test_gathered(self) -> None:
        """C{--auth} may be given many times."""
        options = Options()
        words = ["--dialect", "native", "--auth", "memory:a:b", "--auth", "file:/x"]
        options.parseOptions(words)
        config = cast(EchoConfig, options.config)
        self.assertEqual(config.auth, ("memory:a:b", "file:/x"))
