"""
OpenSSL's own client against services behind C{mtls:}: alerts, the profile, and sessions.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.integration.processes import PATIENCE, Place, ServedTestCase, Twistd, eventually, scratch
from tests.peers.programs import Background, program
from tests.trust.certificates import (
    Issuer,
    authority,
    bundle,
    clientBundle,
    endpoint,
    forge,
    newAuthority,
    revocations,
    serverBundle,
    serverFiles,
    stranger,
    written,
)


class MutualTLSTests(ServedTestCase):
    """Echo for clients with certificates."""

    revoked = ""

    @classmethod
    def start(cls) -> Twistd:
        """Start echo with a list in which one client stands."""
        own = Issuer.of(authority())
        client = forge(["bob"], own)
        cls.revoked = bundle(client)
        crl = written(revocations(own, [client.certificate]))
        listen = endpoint(serverFiles(crl=crl))
        return Twistd(
            suite=f'[echo.main]\nlisten = ["{listen}"]\npenalty = 0\nhandshake-timeout = 2\n'
        )

    def setUp(self) -> None:
        """Find openssl."""
        self.openssl = program("openssl", "openssl")
        super().setUp()
        self.place: Place = self.twistd.place("echo.main")

    def words(self, cert: str = "", *more: str) -> tuple[str, ...]:
        """Write the command of a client."""
        made = (
            *(self.openssl, "s_client", "-connect", self.place.text, "-servername", "localhost"),
            *("-CAfile", str(authority().certificatePath), "-verify_return_error"),
            *("-verify_hostname", "localhost", *more),
        )
        return (*made, "-cert", cert, "-key", cert) if cert else made

    def client(self, cert: str = "", *more: str, typed: bytes = b"") -> str:
        """Run a client to its end."""
        done = subprocess.run(
            self.words(cert, *more),
            input=typed,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        return (done.stdout + done.stderr).decode(errors="replace")

    def test_accepted(self) -> None:
        """A client with a certificate is served, and sees a chain that verifies."""
        client = Background(self, *self.words(clientBundle(), "-brief", "-ign_eof"))
        client.expect(b"Verification: OK")
        client.type(b"hello\n")
        printed = client.expect(b"HELLO\n")
        self.assertIn(b"Protocol version: TLSv1.3", printed)

    def alert(self, number: int, cert: str, *more: str) -> None:
        """A client is refused with an alert."""
        for version in ("-tls1_2", "-tls1_3"):
            # With -ign_eof the client reads on until the alert comes.
            printed = self.client(cert, version, "-ign_eof", *more)
            self.assertIn(f"SSL alert number {number}", printed, version)

    def test_alerts(self) -> None:
        """Each fault of a certificate has the alert that RFC 8446 gives it."""
        own = Issuer.of(authority())
        now = datetime.now(UTC)
        hour = timedelta(hours=1)
        self.alert(48, str(stranger().issueClient("alerts")))
        self.alert(48, bundle(forge()))
        self.alert(45, bundle(forge(issuer=own, end=now - hour)))
        self.alert(44, self.revoked)
        self.alert(42, bundle(forge(issuer=own, begin=now + hour)))
        self.alert(43, serverBundle())

    def test_none(self) -> None:
        """Without a certificate the alert is certificate_required; TLS 1.2 has only a failure."""
        self.assertIn("SSL alert number 116", self.client("", "-tls1_3", "-ign_eof"))
        self.assertIn("SSL alert number 40", self.client("", "-tls1_2", "-ign_eof"))

    def test_oldVersions(self) -> None:
        """TLS 1.0 and 1.1 are refused with protocol_version."""
        for version in ("-tls1", "-tls1_1"):
            printed = self.client(clientBundle(), version, "-cipher", "ALL:@SECLEVEL=0")
            self.assertIn("SSL alert number 70", printed)

    def test_suites(self) -> None:
        """A client without a suite of the profile is refused with handshake_failure."""
        for words in (
            ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384"),
            ("-tls1_2", "-cipher", "AES128-GCM-SHA256"),
            ("-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"),
            ("-tls1_3", "-curves", "P-521"),
        ):
            self.assertIn("SSL alert number 40", self.client(clientBundle(), *words))

    def test_wrongName(self) -> None:
        """openssl, asked for another name, refuses the server's certificate."""
        printed = self.client(clientBundle(), "-verify_hostname", "other.example.com")
        self.assertIn("verify error", printed)

    def test_renegotiation(self) -> None:
        """A client of TLS 1.2 that wants to shake hands again is refused, and echo lives on."""
        client = Background(self, *self.words(clientBundle(), "-tls1_2"))
        client.expect(b"Verify return code: 0")
        client.type(b"R\n")
        client.expect(b"no renegotiation")
        self.test_accepted()

    def resumed(self, version: str) -> str:
        """Take a session, and tell what a second connection makes of it."""
        session = str(Path(self.directory) / f"session{version}")
        first = Background(self, *self.words(self.cert, version, "-sess_out", session))
        first.expect(b"Verify return code: 0")
        first.type(b"hello\n")
        first.expect(b"HELLO")
        first.type(b"Q\n")
        eventually(lambda: Path(session).exists(), "openssl keeps the session")
        return self.again(version)

    def again(self, version: str) -> str:
        """Connect with the session that was taken."""
        session = str(Path(self.directory) / f"session{version}")
        return self.client(self.cert, version, "-sess_in", session, "-ign_eof", typed=b"")

    def test_resumption(self) -> None:
        """Sessions are resumed by both versions, until the files are read again."""
        self.directory = scratch(self)
        own = newAuthority()
        self.cert = str(own.issueClient("anna"))
        server = self.directory / "server.pem"
        shutil.copy(own.issueServer("localhost"), server)
        listen = (
            f"mtls:0:cert={server}:clientCA={own.certificatePath}:crl={own.crlPath}"
            ":interface=127.0.0.1"
        )
        suite = f'[echo.main]\nlisten = ["{listen}"]\npenalty = 0\nidle-timeout = 1\n'
        running = Twistd(suite=suite)
        self.addCleanup(running.stop)
        self.place = running.place("echo.main")
        self.patch_ca(str(own.certificatePath))
        for version in ("-tls1_2", "-tls1_3"):
            self.assertRegex(self.resumed(version), r"(?m)^Reused, TLSv1")
        own.revoke("anna")
        running.signal(signal.SIGHUP)
        eventually(lambda: "read again" in running.log(), "the files are read again")
        for version in ("-tls1_2", "-tls1_3"):
            printed = self.again(version)
            self.assertNotRegex(printed, r"(?m)^Reused, TLSv1")
            self.assertIn("SSL alert number 44", printed)

    def patch_ca(self, ca: str) -> None:
        """Let the clients of this test trust another authority."""
        words = self.words

        def other(cert: str = "", *more: str) -> tuple[str, ...]:
            return tuple(
                ca if word == str(authority().certificatePath) else word
                for word in words(cert, *more)
            )

        self.patch(self, "words", other)
