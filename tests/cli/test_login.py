"""
Reading who a person says to be.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.cli.login import MAX_TOKEN, Login, readLogin
from twisted_netsuite.errors import ConfigurationError


class ReadLoginTests(SynchronousTestCase):
    """L{readLogin}."""

    def token(self, content: bytes, mode: int = 0o600) -> str:
        """Write a token file."""
        path = Path(self.mktemp())
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    def refusal(self, user: str, path: str) -> str:
        """Tell why a login is refused."""
        with self.assertRaises(ConfigurationError) as caught:
            readLogin(user, path)
        return str(caught.exception)

    def test_neither(self) -> None:
        """Without either, a certificate or the system is to say who one is."""
        self.assertEqual(readLogin("", ""), Login(None, None))

    def test_both(self) -> None:
        """The token is the first line, without the spaces around it."""
        for content in (b"sesame", b"sesame\n", b" sesame \r\nmore\n"):
            self.assertEqual(readLogin("bob", self.token(content)), Login("bob", "sesame"))

    def test_longest(self) -> None:
        """A token may have so many characters, and no more."""
        longest = b"x" * MAX_TOKEN
        self.assertEqual(readLogin("bob", self.token(longest)).token, longest.decode())
        self.assertIn("holds no token", self.refusal("bob", self.token(longest + b"x")))

    def test_one(self) -> None:
        """One without the other is refused."""
        for user, path in (("bob", ""), ("", self.token(b"x"))):
            self.assertIn("belong together", self.refusal(user, path))

    def test_unusable(self) -> None:
        """A file that is not there, is empty, or is no text is refused by its name."""
        missing = self.mktemp()
        self.assertIn(f"{missing!r} cannot be read: no such file", self.refusal("bob", missing))
        for content in (b"", b"\n", b" \nsesame", "gr\xfc\xdf".encode()):
            self.assertIn("holds no token", self.refusal("bob", self.token(content)))

    def test_private(self) -> None:
        """A file that others can read is refused, and how to mend that is said."""
        for mode in (0o640, 0o604, 0o660):
            self.assertIn("chmod it to 600", self.refusal("bob", self.token(b"x", mode)))

    def test_pipe(self) -> None:
        """A pipe, as a shell makes of a command, has no mode that says anything."""
        reading, writing = os.pipe()
        os.write(writing, b"sesame\n")
        os.close(writing)
        self.addCleanup(os.close, reading)
        self.assertEqual(readLogin("bob", f"/dev/fd/{reading}"), Login("bob", "sesame"))
