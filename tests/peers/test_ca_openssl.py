"""
OpenSSL's own programs on what our certificate authority makes.
"""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import PATIENCE, scratch
from tests.peers.programs import program, run
from twisted_netsuite.trust.ca import Authority

#: A name that a common name is too short for.
LONG = "a" * 60 + ".example.org"


class VerifyTests(SynchronousTestCase):
    """C{openssl verify}, as strict as it can be."""

    def setUp(self) -> None:
        self.openssl = program("openssl", "openssl")
        self.authority = Authority.create(scratch(self) / "ca")
        self.server = self.authority.issueServer("localhost", sans=["127.0.0.1", "::1"])
        self.client = self.authority.issueClient("anna", roles=["operator"])

    def verify(self, purpose: str, bundle: Path, *more: str) -> str:
        """Verify a bundle's certificate; the answer is what went wrong."""
        done = subprocess.run(
            [
                *(self.openssl, "verify", "-x509_strict", "-purpose", purpose),
                *("-CAfile", str(self.authority.certificatePath), *more, str(bundle)),
            ],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode == 0:
            self.assertEqual(done.stdout, f"{bundle}: OK\n".encode())
            return ""
        return done.stderr.decode()

    def crlCheck(self, bundle: Path) -> str:
        """Verify a client's certificate with our revocation list."""
        return self.verify(
            "sslclient", bundle, "-crl_check", "-CRLfile", str(self.authority.crlPath)
        )

    def test_purposes(self) -> None:
        """A certificate is good for what it was made for, and for nothing else."""
        bare = self.authority.issueClient("bare")
        long = self.authority.issueServer(LONG)
        for purpose, right, wrong in (
            ("sslserver", (self.server, long), (self.client, bare)),
            ("sslclient", (self.client, bare), (self.server, long)),
        ):
            for bundle in right:
                self.assertEqual(self.verify(purpose, bundle), "")
            for bundle in wrong:
                self.assertIn("unsuitable certificate purpose", self.verify(purpose, bundle))

    def test_names(self) -> None:
        """A server is known by each of its names, and by no other."""
        long = self.authority.issueServer(LONG)
        for bundle, *names in (
            (self.server, "-verify_hostname", "localhost"),
            (self.server, "-verify_ip", "127.0.0.1"),
            (self.server, "-verify_ip", "::1"),
            (long, "-verify_hostname", LONG),
        ):
            self.assertEqual(self.verify("sslserver", bundle, *names), "")
        for names in (["-verify_hostname", "other"], ["-verify_ip", "127.0.0.2"]):
            self.assertIn("mismatch", self.verify("sslserver", self.server, *names))

    def test_revoked(self) -> None:
        """A client is accepted until it is revoked; others are, before and after."""
        other = self.authority.issueClient("bert")
        self.assertEqual(self.crlCheck(self.client), "")
        self.authority.revoke("anna", reason="keyCompromise")
        self.assertIn("certificate revoked", self.crlCheck(self.client))
        self.assertEqual(self.crlCheck(other), "")

    def test_listLasts(self) -> None:
        """The revocation list is good for as long as the CA is: servers need no new one."""
        client = self.authority.issueClient("late", days=3650)
        late = str(int((datetime.now(UTC) + timedelta(days=3649)).timestamp()))
        crl = ("-crl_check", "-CRLfile", str(self.authority.crlPath))
        self.assertEqual(self.verify("sslclient", client, "-attime", late, *crl), "")

    def test_expired(self) -> None:
        """A certificate that was made to have expired has."""
        old = self.authority.issueClient("old", now=datetime.now(UTC) - timedelta(days=9), days=3)
        self.assertIn("certificate has expired", self.verify("sslclient", old))

    def test_replaced(self) -> None:
        """Where the old CA and the new one are both trusted, each vouches for its own."""
        name = self.authority.name
        old = self.authority.certificatePath.read_bytes()
        self.authority = Authority.create(self.authority.path, name=name, force=True)
        self.assertNotEqual(self.verify("sslclient", self.client), "")
        new = self.authority.issueClient("bert")
        both = scratch(self) / "both.pem"
        both.write_bytes(old + self.authority.certificatePath.read_bytes())
        for bundle in (self.client, new):
            self.assertEqual(self.verify("sslclient", bundle, "-CAfile", str(both)), "")

    def test_read(self) -> None:
        """Key, certificate and list are read by the programs for them."""
        for bundle in (self.server, self.client):
            certified = run(self.openssl, "x509", "-in", str(bundle), "-noout", "-pubkey")
            own = run(self.openssl, "ec", "-in", str(bundle), "-pubout")
            self.assertEqual(certified, own)
        text = run(self.openssl, "x509", "-in", str(self.client), "-noout", "-text")
        self.assertIn(b"URI:netsuite:role:operator", text)
        self.assertIn(b"NIST CURVE: P-256", text)
        serial = run(self.openssl, "x509", "-in", str(self.client), "-noout", "-serial")
        anna = next(each for each in self.authority.issued() if each.name == "anna")
        self.assertEqual(serial.decode().strip(), f"serial={anna.hexSerial.upper()}")
        run(
            *(self.openssl, "crl", "-in", str(self.authority.crlPath), "-noout"),
            *("-CAfile", str(self.authority.certificatePath)),
        )
