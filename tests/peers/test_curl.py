"""
curl through the proxy to Twisted's own servers, and as a telnet client of echo.
"""

from __future__ import annotations

from tests.integration.processes import ServedTestCase, Twistd
from tests.integration.proxied import ProxiedServers
from tests.peers.programs import Background, program, run


class ProxiedTests(ServedTestCase):
    """Protocols that curl speaks, through the proxy."""

    @classmethod
    def start(cls) -> Twistd:
        """Start proxies and servers."""
        return ProxiedServers()

    def setUp(self) -> None:
        """Find curl."""
        self.curl = program("curl", "curl")
        super().setUp()

    def fetch(self, protocol: str, path: str, *words: str) -> bytes:
        """
        Fetch through a proxy.

        @param protocol: its name in an address, and of the proxy.
        @param path: behind the host.
        @param words: further options.
        @return: what curl prints.
        """
        address = self.twistd.place(f"proxy.{protocol}").text
        return run(self.curl, "-sS", "--max-time", "20", *words, f"{protocol}://{address}{path}")

    def test_http(self) -> None:
        """Pages over one connection, and a large body."""
        self.assertEqual(b"page /onepage /two", self.fetch("http", "/{one,two}"))
        body = self.twistd.directory / "body"
        body.write_bytes(bytes(2_000_000))
        self.assertEqual(b"2000000 bytes", self.fetch("http", "/", "--data-binary", f"@{body}"))

    def test_gopher(self) -> None:
        """A menu and a text."""
        if b"gopher" not in run(self.curl, "--version").split():
            self.skipTest("this curl was built without gopher")
        self.assertEqual(b"0About\t/about\tlocalhost\t70\r\n.\r\n", self.fetch("gopher", "/"))
        self.assertEqual(b"the text of /about\r\n.\r\n", self.fetch("gopher", "/0/about"))


class TelnetTests(ServedTestCase):
    """Echo."""

    suite = '[echo.main]\nlisten = ["tcp:0:interface=127.0.0.1"]\n'

    def test_telnet(self) -> None:
        """A line that is typed into curl's telnet comes back."""
        curl = program("curl", "curl")
        address = self.twistd.place("echo.main").text
        client = Background(self, curl, "-sSN", f"telnet://{address}")
        client.type(b"hello\n")
        client.expect(b"HELLO\n")
