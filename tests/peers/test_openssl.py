"""
OpenSSL's own client against services on a C{tls:} endpoint.
"""

from __future__ import annotations

from tests.integration.processes import ServedTestCase, scratch
from tests.peers.programs import Background, program, run


class TLSTests(ServedTestCase):
    """Echo and proxy behind TLS, with a certificate made for this test."""

    suite = """
    [echo.main]
    listen = ["tls:{dir}/pems:port=0:interface=127.0.0.1", "unix:{dir}/echo.sock"]
    [proxy.main]
    listen = ["tls:{dir}/pems:port=0:interface=127.0.0.1"]
    to = "unix:{dir}/echo.sock"
    """

    def setUp(self) -> None:
        """Find openssl, and let it make the certificate before the service starts."""
        self.openssl = program("openssl", "openssl")
        cls = type(self)
        if not cls.files:
            directory = scratch(self)
            run(
                *(self.openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
                *("-keyout", "key.pem", "-out", "certificate.pem"),
                cwd=directory,
            )
            certificate = (directory / "certificate.pem").read_bytes()
            key = (directory / "key.pem").read_bytes()
            cls.files = {"pems/localhost.pem": key + certificate, "ca.pem": certificate}
        super().setUp()

    def test_talk(self) -> None:
        """The certificate is verified, and what is typed comes back."""
        for service in ("echo.main", "proxy.main"):
            client = Background(
                self,
                *(self.openssl, "s_client", "-connect", self.twistd.place(service).text),
                *("-servername", "localhost", "-verify_hostname", "localhost"),
                *("-CAfile", f"{self.twistd.directory}/ca.pem", "-verify_return_error"),
                *("-brief", "-ign_eof"),
            )
            client.expect(b"Verification: OK")
            client.type(b"hello\n")
            client.expect(b"HELLO\n")

    def test_plainText(self) -> None:
        """Plain text on a TLS port ends that connection, and nothing else."""
        client = self.open("echo.main")
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while client.recv(1024):
            pass
        self.test_talk()
