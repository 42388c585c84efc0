"""
curl against Twisted's own web server behind C{mtls:}.
"""

from __future__ import annotations

import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import BIN, PATIENCE, freePort, scratch
from tests.peers.programs import Background, program
from tests.trust.certificates import authority, clientBundle, endpoint, serverFiles, stranger


class WebTests(SynchronousTestCase):
    """C{twistd web --listen mtls:...}, which knows nothing of us but the endpoint."""

    def setUp(self) -> None:
        """Start the server."""
        self.curl = program("curl", "curl")
        directory = scratch(self)
        (directory / "page.txt").write_text("a page\n")
        (directory / "large").write_bytes(bytes(3_000_000))
        self.port = freePort()
        self.server = Background(
            self,
            *(str(BIN / "twistd"), "-n", "--pidfile=", "web", "--path", str(directory)),
            *("--listen", endpoint(serverFiles(), self.port)),
            cwd=directory,
        )
        self.server.expect(b"starting on")

    def fetch(self, path: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Fetch a page."""
        ca = str(authority().certificatePath)
        url = f"https://localhost:{self.port}/{path}"
        command = (self.curl, "-sS", "--max-time", "20", "--cacert", ca, *words, url)
        return subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)

    def test_served(self) -> None:
        """With a certificate pages are served, whichever version of HTTP curl likes best."""
        for version in ("--http1.1", "--http2"):
            done = self.fetch("page.txt", "--cert", clientBundle(), version)
            self.assertEqual((done.stdout, done.stderr), (b"a page\n", b""))
        done = self.fetch("large", "--cert", clientBundle())
        self.assertEqual(len(done.stdout), 3_000_000)

    def test_refused(self) -> None:
        """Without one, or with a stranger's, curl tells of the alert, and the log of the cause."""
        for words, alert, cause in (
            ((), b"certificate required", b"no certificate was sent"),
            (
                ("--cert", str(stranger().issueClient("curl"))),
                b"unknown ca",
                b"the peer's certificate was refused: its authority is not trusted here",
            ),
        ):
            done = self.fetch("page.txt", *words)
            self.assertEqual((done.stdout, done.returncode), (b"", 56))
            self.assertIn(alert, done.stderr)
            self.server.expect(b"closed, no TLS handshake: " + cause)
        self.assertNotIn(b"Traceback", self.server.printed)

    def test_plain(self) -> None:
        """Plain HTTP is told what is wrong by the log, and gets nothing."""
        command = (self.curl, "-sS", f"http://localhost:{self.port}/page.txt")
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.server.expect(b"closed, no TLS handshake: plain HTTP was sent")
