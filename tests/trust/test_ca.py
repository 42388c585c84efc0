"""
A certificate authority: what its certificates say, what it remembers, and what it refuses.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.trust.authorities import (
    assertWhole,
    certificateIn,
    content,
    fullAt,
    killedAt,
    underSystem,
    unfinished,
)
from twisted_netsuite.errors import ConfigurationError, NotFound
from twisted_netsuite.trust import durable
from twisted_netsuite.trust.ca import CA_DAYS, CLIENT_DAYS, MAX_DAYS, SERVER_DAYS, Authority
from twisted_netsuite.trust.certificates import BACKDATE
from twisted_netsuite.trust.durable import DurableDirectory
from twisted_netsuite.trust.identity import NAME, certificateIdentity
from twisted_netsuite.trust.issued import Issued, issuedIn

NOW = datetime(2027, 3, 1, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)

#: More calls than any change makes.
MANY = 200

#: Fewer calls than any change makes that is written beside its place and made sure of.
FEW = 5


class AuthorityTestCase(SynchronousTestCase):
    """An authority in a new directory, made at L{NOW}."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.authority = Authority.create(self.path, now=NOW)
        self.server = partial(self.authority.issueServer, now=NOW)
        self.client = partial(self.authority.issueClient, now=NOW)

    def assertRefused(self, words: str, act: Callable[..., object], *args: Any, **kw: Any) -> None:
        """Something is refused in one sentence, and changes nothing."""
        before = content(self.path)
        sentence = self.assertRaises(ConfigurationError, act, *args, **kw).sentence
        self.assertIn(words, sentence)
        self.assertEqual((sentence.count("\n"), sentence[-1]), (0, "."))
        self.assertEqual(content(self.path), before)

    def crl(self) -> x509.CertificateRevocationList:
        """Read the revocation list."""
        return x509.load_pem_x509_crl(self.authority.crlPath.read_bytes())

    def names(self) -> list[str]:
        """Name what was issued."""
        return [each.name for each in self.authority.issued()]


def extension(certificate: Any, kind: type[Any]) -> Any:
    """Find an extension."""
    return certificate.extensions.get_extension_for_class(kind)


class CreateTests(AuthorityTestCase):
    """L{Authority.create} and L{Authority.open}."""

    def test_files(self) -> None:
        """The CA is there with an empty revocation list, and its key is its owner's alone."""
        self.assertEqual(
            {
                file: stat.S_IMODE((self.path / file).stat().st_mode)
                for file in os.listdir(self.path)
            },
            {"ca.pem": 0o644, "ca-key.pem": 0o600, "crl.pem": 0o644, "issued": 0o700},
        )
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)
        self.assertNotIn(b"PRIVATE", self.authority.certificatePath.read_bytes())
        self.assertEqual(list(self.crl()), [])
        self.assertEqual(self.authority.issued(), [])

    def test_certificate(self) -> None:
        """The certificate may sign those of parties, but none of other CAs, for ten years."""
        own = self.authority.certificate
        basic = extension(own, x509.BasicConstraints)
        usage = extension(own, x509.KeyUsage)
        self.assertEqual((basic.critical, basic.value.ca, basic.value.path_length), (True, True, 0))
        self.assertEqual((usage.critical, usage.value.key_cert_sign), (True, True))
        self.assertEqual((usage.value.crl_sign, usage.value.digital_signature), (True, False))
        self.assertEqual(own.not_valid_before_utc, NOW - BACKDATE)
        self.assertEqual(own.not_valid_after_utc, NOW + CA_DAYS * DAY)
        key = own.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.assertIsInstance(key.curve, ec.SECP256R1)
        self.assertIsInstance(own.signature_hash_algorithm, SHA256)

    def test_revocationList(self) -> None:
        """The revocation list is the CA's, began in the past, and ends with the CA."""
        crl = self.crl()
        own = self.authority.certificate
        self.assertEqual(crl.issuer, own.subject)
        self.assertEqual(crl.last_update_utc, NOW - BACKDATE)
        self.assertEqual(crl.next_update_utc, own.not_valid_after_utc)
        self.assertEqual(extension(crl, x509.CRLNumber).value.crl_number, 1)
        self.assertEqual(
            extension(crl, x509.AuthorityKeyIdentifier).value.key_identifier,
            extension(own, x509.SubjectKeyIdentifier).value.key_identifier,
        )

    def test_name(self) -> None:
        """A CA has the name it is given, and otherwise one that no other has."""
        self.assertEqual(Authority.create(self.mktemp(), name="Büro 7").name, "Büro 7")
        other = Authority.create(self.mktemp())
        self.assertRegex(other.name, r"\Anetsuite CA [0-9a-f]{8}\Z")
        self.assertNotEqual(other.name, self.authority.name)

    def test_badNames(self) -> None:
        """A name that could not be shown, or is too long, is refused, and no directory made."""
        for name in ("a\nb", "\x1b[31m", " a", "a ", "\u202ex", "a" * 65, "\0"):
            path = Path(self.mktemp())
            error = self.assertRaises(ConfigurationError, Authority.create, path, name=name)
            self.assertIn("The CA's name", error.sentence)
            self.assertFalse(path.exists())

    def test_days(self) -> None:
        """No date can leave what a certificate holds."""
        for days in (0, -1, MAX_DAYS + 1, 10**12):
            create = partial(Authority.create, self.mktemp(), days=days)
            self.assertRefused(f"cannot be valid for {days} days", create)
            self.assertRefused("days; give 1 to 36500", self.server, "a", days=days)
            self.assertRefused("days; give 1 to 36500", self.client, "a", days=days)
        longest = Authority.create(self.mktemp(), days=MAX_DAYS, now=NOW)
        self.assertEqual(longest.certificate.not_valid_after_utc, NOW + MAX_DAYS * DAY)

    def test_twice(self) -> None:
        """A CA is not replaced by the way: the sentence tells what would be, and how."""
        self.client("anna")
        for words in (
            f"already holds the CA '{self.authority.name}', valid until 2037-02-26 (certificates "
            "issued: 1);",
            f"add --force to put a new CA in its place and keep this one in '{self.path}/replaced'",
        ):
            self.assertRefused(words, Authority.create, self.path)

    def test_parts(self) -> None:
        """Nor is any part of a CA, whatever has become of the rest."""
        files = [self.path / name for name in ("crl.pem", "ca.pem", "ca-key.pem")]
        for kept in files:
            path = Path(self.mktemp())
            path.mkdir(0o700)
            (path / kept.name).write_bytes(kept.read_bytes())
            error = self.assertRaises(ConfigurationError, Authority.create, path)
            self.assertIn("already holds ", error.sentence)
            self.assertEqual(content(path), {kept.name: kept.read_bytes()})
        self.client("anna")
        for file in files:
            file.unlink()
        self.assertRefused("already holds certificates in issued", Authority.create, self.path)

    def test_existingDirectory(self) -> None:
        """A directory that is there is used as it is, unless others may write to it."""
        path = Path(self.mktemp())
        path.mkdir(0o750)
        (path / "notes").write_bytes(b"mine")
        Authority.create(path)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o750)
        self.assertEqual((path / "notes").read_bytes(), b"mine")
        path = Path(self.mktemp())
        path.mkdir()
        path.chmod(0o770)
        error = self.assertRaises(ConfigurationError, Authority.create, path)
        self.assertIn("run chmod go-w on it", error.sentence)
        self.assertEqual(os.listdir(path), [])

    def test_noPlace(self) -> None:
        """Where no directory can be, the sentence says why."""
        plain = Path(self.mktemp())
        plain.write_bytes(b"")
        for path, reason in (
            (plain, "not a directory"),
            (plain / "x", "not a directory"),
            (Path(self.mktemp()) / "x", "no such file or directory"),
        ):
            error = self.assertRaises(ConfigurationError, Authority.create, path)
            self.assertIn(reason, error.sentence)

    def test_here(self) -> None:
        """The directory may be the one that one is in."""
        path = Path(self.mktemp())
        path.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(path)
        self.assertEqual(Authority.create(".").issueClient("anna"), Path("anna.pem"))
        self.assertEqual(str(Authority.open(".").crlPath), "crl.pem")

    def test_open(self) -> None:
        """A CA is found again, by another process and by its directory's text."""
        again = Authority.open(str(self.path))
        self.assertEqual(again.certificate, self.authority.certificate)
        self.assertEqual(again.name, self.authority.name)

    def test_openNothing(self) -> None:
        """Where there is no CA, the sentence says how to make one."""
        error = self.assertRaises(ConfigurationError, Authority.open, self.mktemp())
        self.assertIn("There is no directory", error.sentence)
        empty = Path(self.mktemp())
        empty.mkdir()
        error = self.assertRaises(ConfigurationError, Authority.open, empty)
        self.assertIn("ca.pem'; make a CA with netsuite ca init", error.sentence)


class ReplaceTests(AuthorityTestCase):
    """L{Authority.create} with C{force}."""

    def kept(self) -> Path:
        """Find the CA that was replaced."""
        (kept,) = (self.path / "replaced").iterdir()
        return kept

    def test_kept(self) -> None:
        """The CA that is replaced is kept whole: it lists, and revokes, in its new place."""
        self.client("anna")
        self.authority.revoke("anna", now=NOW)
        self.client("bert")
        before = content(self.path)
        new = Authority.create(self.path, force=True, now=NOW)
        self.assertNotEqual(new.certificate, self.authority.certificate)
        self.assertEqual(new.replaced, self.kept())
        self.assertIsNone(self.authority.replaced)
        old = Authority.open(self.kept())
        self.assertEqual(
            content(self.kept()),
            {name: data for name, data in before.items() if name not in ("anna.pem", "bert.pem")},
        )
        self.assertEqual([each.state(NOW) for each in old.issued()], ["revoked", "valid"])
        self.assertEqual(len(old.revoke("bert", now=NOW)), 1)
        self.assertEqual(stat.S_IMODE(old.keyPath.stat().st_mode), 0o600)

    def test_new(self) -> None:
        """The new CA has issued nothing, and its own first certificate is its only one."""
        self.client("anna")
        new = Authority.create(self.path, force=True, now=NOW)
        self.assertEqual(new.issued(), [])
        self.assertEqual(os.listdir(self.path / "issued"), [])
        self.assertRaises(NotFound, new.revoke, "anna", now=NOW)
        self.assertRefused("is there already, for the client anna", new.issueClient, "anna")
        new.issueClient("anna", force=True, now=NOW)
        self.assertEqual(len(new.issued()), 1)
        assertWhole(self, self.path)

    def test_again(self) -> None:
        """Every CA that was ever there is kept, even if two are replaced in the same second."""
        for _ in range(3):
            Authority.create(self.path, force=True, now=NOW)
        self.assertEqual(len(list((self.path / "replaced").iterdir())), 3)

    def test_nothing(self) -> None:
        """Force where there is nothing to replace keeps nothing."""
        path = Path(self.mktemp())
        Authority.create(path, force=True)
        self.assertFalse((path / "replaced").exists())

    def test_leftRecords(self) -> None:
        """A record of the old CA, left by a run that was killed, is not listed by the new one."""
        self.client("anna")
        (record,) = (self.path / "issued").iterdir()
        data = record.read_bytes()
        new = Authority.create(self.path, force=True, now=NOW)
        record.write_bytes(data)
        self.assertEqual(new.issued(), [])

    def test_links(self) -> None:
        """What links in its directory lead to stays as it is: nothing goes in or out by them."""
        outside = Path(self.mktemp())
        outside.mkdir(0o700)
        (outside / "mine.pem").write_bytes(b"mine")
        (self.path / "issued").rename(self.path / "moved")
        os.symlink(outside.absolute(), self.path / "issued")
        os.symlink(outside.absolute(), self.path / "replaced")
        create = partial(Authority.create, self.path, now=NOW)
        self.assertRefused("issued' is a link", create, force=True)
        self.assertRefused("issued' is a link", self.client, "anna")
        self.assertRefused("issued' is a link", self.authority.revoke, "anna")
        self.assertRefused("issued' is a link", self.authority.issued)
        (self.path / "issued").unlink()
        (self.path / "moved").rename(self.path / "issued")
        self.assertRefused("replaced' is a link", create, force=True)
        self.assertEqual(content(outside), {"mine.pem": b"mine"})

    def test_foreign(self) -> None:
        """Nobody, not even root, works in a directory of another account."""
        if os.geteuid():
            raise SkipTest("only root can give a directory away")
        self.client("anna")
        create = partial(Authority.create, self.path, now=NOW, force=True)
        for place in (self.path / "issued", self.path):
            os.chown(place, 12345, -1)
            for act in (create, partial(self.client, "bob"), self.authority.issued):
                self.assertRefused("belongs to another account (uid 12345)", act)
            os.chown(place, 0, -1)
        os.chown(self.path, 12345, -1)
        self.assertRefused("run this as its owner", Authority.open, self.path)

    def test_broken(self) -> None:
        """A CA that is broken can be replaced, and is kept as it is."""
        self.authority.certificatePath.write_bytes(b"rubbish")
        self.authority.keyPath.unlink()
        Authority.create(self.path, force=True, now=NOW)
        assertWhole(self, self.path)
        self.assertEqual(content(self.kept())["ca.pem"], b"rubbish")


class IssueTests(AuthorityTestCase):
    """L{Authority.issueServer} and L{Authority.issueClient}."""

    def test_server(self) -> None:
        """A server's certificate has its names, and is good for servers alone."""
        path = self.server("LocalHost", sans=["127.0.0.1", "::1", "*.example.org"])
        self.assertEqual(path, self.path / "localhost.pem")
        certificate = certificateIn(path)
        sans = extension(certificate, x509.SubjectAlternativeName)
        self.assertEqual(
            sans.value.get_values_for_type(x509.DNSName), ["localhost", "*.example.org"]
        )
        self.assertEqual(
            [str(each) for each in sans.value.get_values_for_type(x509.IPAddress)],
            ["127.0.0.1", "::1"],
        )
        self.assertEqual(certificate.subject.rfc4514_string(), "CN=localhost")
        self.assertFalse(sans.critical)
        self.assertEqual(
            list(extension(certificate, x509.ExtendedKeyUsage).value),
            [ExtendedKeyUsageOID.SERVER_AUTH],
        )
        self.assertEqual(certificate.not_valid_after_utc, NOW + SERVER_DAYS * DAY)

    def test_longServer(self) -> None:
        """A name too long for a common name stands in a critical alternative name (RFC 5280)."""
        name = "a" * 60 + ".example.org"
        certificate = certificateIn(self.server(name))
        self.assertEqual(list(certificate.subject), [])
        self.assertTrue(extension(certificate, x509.SubjectAlternativeName).critical)
        (made,) = self.authority.issued()
        self.assertEqual((made.name, made.sans), (name, (name,)))
        self.assertEqual(self.authority.revoke(name, now=NOW)[0].serial, made.serial)

    def test_client(self) -> None:
        """A client's certificate says who it is and which roles it has, to clients' verifiers."""
        path = self.client("anna", roles=["operator", "dev"])
        self.assertEqual(path, self.path / "anna.pem")
        certificate = certificateIn(path)
        identity = certificateIdentity(certificate)
        self.assertEqual((identity.name, identity.roles), ("anna", {"operator", "dev"}))
        self.assertEqual(
            list(extension(certificate, x509.ExtendedKeyUsage).value),
            [ExtendedKeyUsageOID.CLIENT_AUTH],
        )
        self.assertEqual(certificate.not_valid_after_utc, NOW + CLIENT_DAYS * DAY)

    @settings(max_examples=30, deadline=None)
    @given(
        st.from_regex(NAME, fullmatch=True),
        st.lists(st.from_regex(NAME, fullmatch=True), max_size=5, unique=True),
    )
    def test_readBack(self, name: str, roles: list[str]) -> None:
        """Every name and role that a certificate is made for is read back from it."""
        if name.lower() in ("ca", "ca-key", "crl"):
            return
        certificate = certificateIn(self.client(name, roles=roles, force=True))
        identity = certificateIdentity(certificate)
        self.assertEqual((identity.name, identity.roles), (name, frozenset(roles)))

    def test_both(self) -> None:
        """What RFC 5280 wants of every party's certificate is there."""
        own = self.authority.certificate
        for path in (self.server("localhost"), self.client("anna")):
            certificate = certificateIn(path)
            certificate.verify_directly_issued_by(own)
            basic = extension(certificate, x509.BasicConstraints)
            usage = extension(certificate, x509.KeyUsage)
            self.assertEqual((basic.critical, basic.value.ca), (True, False))
            self.assertEqual((usage.critical, usage.value.digital_signature), (True, True))
            self.assertFalse(usage.value.key_cert_sign or usage.value.crl_sign)
            key = certificate.public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            self.assertIsInstance(key.curve, ec.SECP256R1)
            self.assertIsInstance(certificate.signature_hash_algorithm, SHA256)
            self.assertEqual(
                extension(certificate, x509.SubjectKeyIdentifier).value,
                x509.SubjectKeyIdentifier.from_public_key(key),
            )
            self.assertEqual(
                extension(certificate, x509.AuthorityKeyIdentifier).value.key_identifier,
                extension(own, x509.SubjectKeyIdentifier).value.key_identifier,
            )
            self.assertEqual(certificate.not_valid_before_utc, NOW - BACKDATE)

    def test_verified(self) -> None:
        """An independent verifier accepts a server's certificate for its names and no other."""
        leaf = certificateIn(self.server("localhost", sans=["192.0.2.1"]))
        builder = PolicyBuilder().store(Store([self.authority.certificate])).time(NOW)
        builder.build_server_verifier(x509.DNSName("localhost")).verify(leaf, [])
        self.assertRaises(
            VerificationError,
            builder.build_server_verifier(x509.DNSName("other")).verify,
            leaf,
            [],
        )
        builder.build_client_verifier().verify(certificateIn(self.client("a", roles=["b"])), [])

    def test_bundle(self) -> None:
        """One file, its owner's alone, is all that OpenSSL needs of a party."""
        for path in (self.server("localhost"), self.client("anna")):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
            context = SSL.Context(SSL.TLS_METHOD)
            context.use_certificate_chain_file(os.fspath(path))
            context.use_privatekey_file(os.fspath(path))
            context.check_privatekey()
            data = path.read_bytes()
            self.assertEqual(data.count(b"BEGIN PRIVATE KEY"), 1)
            self.assertEqual(data.count(b"BEGIN CERTIFICATE"), 1)

    def test_serials(self) -> None:
        """Serial numbers have 128 bits, look alike everywhere, and do not come twice."""
        serials = {certificateIn(self.client("anna", force=True)).serial_number for _ in range(50)}
        self.assertEqual(len(serials), 50)
        self.assertEqual({serial.bit_length() for serial in serials}, {128})
        self.assertEqual(len({serial & 0xFFFFFFFF for serial in serials}), 50)

    def test_recorded(self) -> None:
        """The certificate itself is the record of its issue, without the key."""
        path = self.server("localhost")
        (record,) = (self.path / "issued").iterdir()
        self.assertEqual(certificateIn(record), certificateIn(path))
        self.assertEqual(record.name, f"{certificateIn(path).serial_number:032x}.pem")
        self.assertNotIn(b"PRIVATE", record.read_bytes())
        self.assertEqual(stat.S_IMODE(record.stat().st_mode), 0o600)

    def test_outlivesNot(self) -> None:
        """No certificate is valid for longer than its CA."""
        late = NOW + (CA_DAYS - 100) * DAY
        path = self.authority.issueServer("localhost", now=late)
        self.assertEqual(
            certificateIn(path).not_valid_after_utc, self.authority.certificate.not_valid_after_utc
        )
        path = self.authority.issueServer("short", now=late, days=99)
        self.assertEqual(certificateIn(path).not_valid_after_utc, late + 99 * DAY)

    def test_past(self) -> None:
        """A certificate that has expired can be made, for a test of whoever must refuse it."""
        self.authority.issueClient("anna", now=NOW - 10 * DAY, days=3)
        (made,) = self.authority.issued()
        self.assertEqual((made.state(NOW), made.daysLeft(NOW)), ("expired", -7))

    def test_expiredAuthority(self) -> None:
        """A CA that has expired issues and revokes nothing; what it issued can be listed."""
        self.client("anna")
        end = NOW + CA_DAYS * DAY
        self.authority.issueClient("last", now=end)
        for act in (
            partial(self.authority.issueServer, "localhost"),
            partial(self.authority.issueClient, "bert"),
            partial(self.authority.revoke, "anna"),
        ):
            self.assertRefused("expired on 2037-02-26", act, now=end + timedelta(seconds=1))
        self.assertEqual(self.names(), ["anna", "last"])

    def test_clock(self) -> None:
        """Without a time it is now."""
        authority = Authority.create(self.mktemp())
        path = authority.issueServer("localhost")
        began = certificateIn(path).not_valid_before_utc + BACKDATE
        self.assertLess(abs(datetime.now(UTC) - began), timedelta(minutes=1))

    def test_taken(self) -> None:
        """A key is not overwritten by the way, not even a broken one's or another kind's."""
        self.client("anna")
        self.server("localhost")
        (self.path / "mine.pem").write_bytes(b"precious")
        (self.path / "link.pem").symlink_to("nowhere")
        (self.path / "bare.pem").write_bytes(self.authority.certificatePath.read_bytes())
        (self.path / "folder.pem").mkdir()
        for issue, name, words in (
            (self.client, "anna", "for the client anna, valid until 2028-02-29; choose another"),
            (self.server, "anna", "for the client anna, valid"),
            (self.client, "localhost", "for the server localhost, valid until 2028-02-29"),
            (self.server, "LOCALHOST", "for the server localhost"),
            (self.client, "mine", "is no bundle made here; choose another name, or add --force"),
            (self.client, "link", "is no bundle made here"),
            (self.client, "bare", "is no bundle made here"),
            (self.client, "folder", "is no bundle made here"),
        ):
            self.assertRefused(words, issue, name)
        self.assertRefused("folder.pem' cannot be written: ", self.client, "folder", force=True)

    def test_otherKind(self) -> None:
        """A server's bundle is never replaced by a client's of that name, nor the other way."""
        self.server("web")
        self.client("anna")
        for issue, name in ((self.client, "web"), (self.server, "anna")):
            for force in (False, True):
                words = "choose another name, as a server and a client never share a file."
                self.assertRefused(words, issue, name, force=force)
        Authority.create(self.path, force=True, now=NOW)
        self.assertRefused("never share a file", self.client, "web", force=True)

    def test_renewed(self) -> None:
        """Whoever is issued anew keeps names and roles, unless others are given."""
        self.server("web", sans=["www.example.org", "::1"])
        self.client("anna", roles=["operator", "dev"])
        for _ in range(2):
            self.server("web", force=True)
            self.client("anna", force=True)
            server, client = map(self.described, ("web", "anna"))
            self.assertEqual(server.sans, ("web", "www.example.org", "::1"))
            self.assertEqual(client.roles, ("dev", "operator"))
        self.server("web", sans=["::2"], force=True)
        self.client("anna", roles=["dev"], force=True)
        self.assertEqual(self.described("web").sans, ("web", "::2"))
        self.assertEqual(self.described("anna").roles, ("dev",))
        self.server("web", sans=[], force=True)
        self.client("anna", roles=[], force=True)
        self.assertEqual(self.described("web").sans, ("web",))
        self.assertEqual(self.described("anna").roles, ())

    def test_renewedMoved(self) -> None:
        """So it is when the bundle was moved to where it is used, by the newest one's record."""
        for day, role in enumerate(("dev", "operator")):
            at = NOW + day * DAY
            self.authority.issueClient("anna", roles=[role], now=at, force=True)
        (self.path / "anna.pem").unlink()
        self.client("anna", force=True)
        self.assertEqual(self.described("anna").roles, ("operator",))

    def test_renewedOfAnother(self) -> None:
        """A bundle of the CA before is enough; one that was put there for another is not."""
        self.server("web", sans=["::1"])
        self.client("anna", roles=["dev"])
        (self.path / "bert.pem").write_bytes((self.path / "anna.pem").read_bytes())
        new = Authority.create(self.path, force=True, now=NOW)
        new.issueServer("web", force=True, now=NOW)
        new.issueClient("bert", force=True, now=NOW)
        self.assertEqual(self.described("web").sans, ("web", "::1"))
        self.assertEqual(self.described("bert").roles, ())

    def described(self, name: str) -> Issued:
        """Tell what a bundle says."""
        return issuedIn(self.path / f"{name}.pem")

    def test_owner(self) -> None:
        """A bundle that is replaced keeps account and group, and its mode is for these alone."""
        if os.geteuid() != 0:
            raise SkipTest("Only root can give a file away.")
        bundle = self.client("anna")
        os.chown(bundle, 4321, 1234)
        self.client("anna", force=True)
        status = bundle.stat()
        self.assertEqual((status.st_uid, status.st_gid), (4321, 1234))
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)

    def test_ownerNotAllowed(self) -> None:
        """Where a file cannot be given away, the bundle is replaced all the same."""

        def fchown(*args: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        self.client("anna", roles=["dev"])
        self.patch(os, "fchown", fchown)
        self.client("anna", force=True)
        self.assertEqual(len(self.authority.issued()), 2)

    def test_force(self) -> None:
        """A name is issued anew with a fresh key; the older certificate can still be revoked."""
        old = self.client("anna").read_bytes()
        new = self.client("anna", force=True).read_bytes()
        keys = [load_pem_private_key(data, None).public_key() for data in (old, new)]
        self.assertNotEqual(keys[0], keys[1])
        self.assertEqual([each.state(NOW) for each in self.authority.issued()], ["valid"] * 2)
        self.assertEqual(len(self.authority.revoke("anna", now=NOW)), 2)

    def test_lastMoment(self) -> None:
        """A file that appears while one is being issued is not overwritten, and nothing issued."""
        real = os.link

        def link(source: str, target: str, **kwargs: Any) -> None:
            if target == "anna.pem":
                (self.path / target).write_bytes(b"theirs")
            real(source, target, **kwargs)

        self.patch(os, "link", link)
        error = self.assertRaises(ConfigurationError, self.client, "anna")
        self.assertIn("file exists", error.sentence)
        self.assertEqual((self.path / "anna.pem").read_bytes(), b"theirs")
        self.assertEqual(self.authority.issued(), [])
        self.assertEqual(unfinished(self.path), [])

    def test_together(self) -> None:
        """Of many runs for one name at one moment one issues; the others are refused."""
        results: list[str] = []

        def issue() -> None:
            try:
                Authority.open(self.path).issueClient("anna", now=NOW)
                results.append("issued")
            except ConfigurationError as error:
                results.append("refused" if "is there already" in error.sentence else str(error))

        threads = [Thread(target=issue) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(results), ["issued"] + ["refused"] * 7)
        self.assertEqual(self.names(), ["anna"])

    def test_locked(self) -> None:
        """While another run changes the CA, each change and each reader waits, and then says so."""
        self.client("anna")
        self.patch(durable, "LOCK_TIMEOUT", 0.0)
        with DurableDirectory(self.path) as other:
            other.lock()
            for act in (
                partial(self.client, "bert"),
                partial(self.authority.revoke, "anna"),
                partial(Authority.create, self.path, force=True),
                partial(Authority.open, self.path),
                self.authority.issued,
            ):
                self.assertRefused("Another program has locked", act)

    def test_broken(self) -> None:
        """A CA whose files are gone, broken, open to others or of different CAs signs nothing."""
        other = Authority.create(self.mktemp(), now=NOW)
        key = self.authority.keyPath
        rsaKey = rsa.generate_private_key(65537, 2048).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        for file, data, words in (
            ("ca.pem", None, "make a CA with netsuite ca init"),
            ("ca.pem", b"", "holds no certificate in PEM"),
            ("ca.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END", "holds no certificate"),
            ("ca.pem", other.certificatePath.read_bytes(), "is not the private key of"),
            ("ca.pem", self.client("leaf").read_bytes(), "is no CA's certificate"),
            ("ca-key.pem", None, "nothing can be signed without it"),
            ("ca-key.pem", b"", "holds no private key in PEM"),
            ("ca-key.pem", b"\xff" * 100, "holds no private key in PEM"),
            ("ca-key.pem", other.keyPath.read_bytes(), "is not the private key of"),
            ("ca-key.pem", rsaKey, "is not the private key of"),
            ("issued", None, "which holds the certificates that were issued; bring it back"),
        ):
            path = self.path / file
            away = self.mktemp()
            os.rename(path, away)
            if data is not None:
                path.write_bytes(data)
                path.chmod(0o600)
            self.assertRefused(words, self.client, "bert")
            self.assertRefused(words, self.authority.revoke, "leaf", now=NOW)
            os.rename(away, path)
        key.chmod(0o640)
        self.assertRefused("ca-key.pem' is open to others", self.client, "bert")
        key.chmod(0o600)
        self.path.chmod(0o720)
        self.assertRefused("Others than its owner may write", self.client, "bert")
        self.assertRefused("Others than its owner may write", self.authority.revoke, "leaf")


class RevokeTests(AuthorityTestCase):
    """L{Authority.revoke} and L{Authority.issued}."""

    def test_revoked(self) -> None:
        """What is revoked is in the list that servers load, with the time and the reason."""
        serial = certificateIn(self.client("anna")).serial_number
        self.client("bert")
        (revoked,) = self.authority.revoke("anna", reason="keyCompromise", now=NOW + DAY)
        self.assertEqual((revoked.serial, revoked.name), (serial, "anna"))
        (entry,) = self.crl()
        self.assertEqual((entry.serial_number, entry.revocation_date_utc), (serial, NOW + DAY))
        self.assertEqual(extension(entry, x509.CRLReason).value.reason.value, "keyCompromise")
        anna, bert = self.authority.issued()
        self.assertEqual((anna.revoked, anna.reason), (NOW + DAY, "keyCompromise"))
        self.assertEqual((bert.revoked, bert.reason), (None, ""))

    def test_list(self) -> None:
        """Each list is signed by the CA, has a higher number, and is still readable by all."""
        key = self.authority.certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        for number in range(2, 5):
            self.client("anna", force=True)
            self.authority.revoke("anna", now=NOW + number * DAY)
            crl = self.crl()
            self.assertTrue(crl.is_signature_valid(key))
            self.assertEqual(extension(crl, x509.CRLNumber).value.crl_number, number)
            self.assertEqual(len(crl), number - 1)
            self.assertEqual(crl.last_update_utc, NOW + number * DAY - BACKDATE)
            self.assertEqual(crl.next_update_utc, self.authority.certificate.not_valid_after_utc)
        self.assertEqual(stat.S_IMODE(self.authority.crlPath.stat().st_mode), 0o644)

    def test_unspecified(self) -> None:
        """Without a reason there is none in the list (RFC 5280, 5.3.1)."""
        self.client("anna")
        self.authority.revoke("anna", now=NOW)
        (entry,) = self.crl()
        self.assertEqual(list(entry.extensions), [])
        self.assertEqual(self.authority.issued()[0].reason, "unspecified")

    def test_again(self) -> None:
        """Revoking again changes nothing: neither the list nor when and why it was."""
        self.client("anna")
        self.authority.revoke("anna", reason="superseded", now=NOW)
        before = content(self.path)
        self.assertEqual(self.authority.revoke("anna", reason="keyCompromise", now=NOW + DAY), [])
        self.assertEqual(content(self.path), before)

    def test_all(self) -> None:
        """All certificates of a name are revoked that have not expired and are not revoked."""
        self.authority.issueClient("anna", now=NOW - 9 * DAY, days=3)
        for _ in range(2):
            self.client("anna", force=True)
        (self.path / "anna.pem").unlink()
        self.server("anna")
        self.client("bert")
        revoked = self.authority.revoke("anna", now=NOW)
        kinds = sorted(each.kind for each in revoked)
        self.assertEqual(kinds, ["client", "client", "server"])
        self.assertEqual(len(self.crl()), 3)

    def test_expired(self) -> None:
        """What has expired needs no revocation."""
        self.authority.issueClient("anna", now=NOW - 9 * DAY, days=3)
        self.assertEqual(self.authority.revoke("anna", now=NOW), [])
        self.assertEqual(list(self.crl()), [])

    def test_serial(self) -> None:
        """One certificate of a name is revoked by its serial number."""
        first = certificateIn(self.client("anna")).serial_number
        self.client("anna", force=True)
        self.assertEqual([e.serial for e in self.authority.revoke(serial=first, now=NOW)], [first])
        states = {each.serial == first: each.state(NOW) for each in self.authority.issued()}
        self.assertEqual(states, {True: "revoked", False: "valid"})

    def test_serverNames(self) -> None:
        """A server is found by its name however it is written; a client only by its own."""
        self.server("2001:db8::1")
        self.server("a.example")
        self.client("A.example")
        self.assertEqual(len(self.authority.revoke("2001:DB8:0::1", now=NOW)), 1)
        self.assertEqual([e.kind for e in self.authority.revoke("A.example", now=NOW)], ["client"])
        self.assertEqual([e.kind for e in self.authority.revoke("A.EXAMPLE", now=NOW)], ["server"])

    def test_unknown(self) -> None:
        """What was never issued cannot be revoked: a misspelt name is said to be one."""
        self.client("anna")
        for kwargs, words in (
            ({"name": "ana"}, "with the name 'ana'"),
            ({"name": "Anna"}, "with the name 'Anna'"),
            ({"name": ""}, "with the name ''"),
            ({"serial": 0xAB}, "serial number " + "0" * 30 + "ab"),
            ({"serial": self.authority.certificate.serial_number}, "serial number "),
        ):
            revoke = partial(self.authority.revoke, now=NOW, **kwargs)
            self.assertIn(words, self.assertRaises(NotFound, revoke).sentence)
        self.assertEqual(list(self.crl()), [])

    def test_reasons(self) -> None:
        """What is no reason, or one that could be taken back, is refused."""
        self.client("anna")
        for reason in ("", "because", "certificateHold", "removeFromCRL"):
            self.assertRefused(
                "is no reason to revoke", self.authority.revoke, "anna", reason=reason
            )

    def test_lists(self) -> None:
        """A revocation list that is gone, broken or another CA's is not made anew: that would
        forgive what was revoked."""
        self.client("anna")
        other = Authority.create(self.mktemp(), now=NOW)
        key = load_pem_private_key(self.authority.keyPath.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        builder = x509.CertificateRevocationListBuilder(self.authority.certificate.subject)
        builder = builder.last_update(NOW).next_update(NOW + DAY)
        numberless = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
        for data, words in (
            (numberless, "is not the revocation list of"),
            (None, "crl.pem'; bring it back, as from a server"),
            (b"", "holds no revocation list in PEM"),
            (
                b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
                "holds no revocation list",
            ),
            (other.crlPath.read_bytes(), "is not the revocation list of"),
        ):
            self.authority.crlPath.unlink(missing_ok=True)
            if data is not None:
                self.authority.crlPath.write_bytes(data)
            self.assertRefused(words, self.authority.revoke, "anna", now=NOW)
            self.assertRefused(words, self.authority.issued)

    def test_records(self) -> None:
        """A record that cannot be read is named, as what is missing could not be revoked."""
        self.client("anna")
        (record,) = (self.path / "issued").iterdir()
        good = record.read_bytes()
        record.write_bytes(good[:200])
        self.assertRefused(f"{record}' holds no certificate", self.authority.issued)
        self.assertRefused("holds no certificate", self.authority.revoke, "anna", now=NOW)
        record.write_bytes(good)
        (self.path / "issued/README").write_bytes(b"not ours")
        self.assertEqual(self.names(), ["anna"])

    def test_strange(self) -> None:
        """A certificate that somebody else made with the CA's key is refused with its number."""
        key = load_pem_private_key(self.authority.keyPath.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        builder = x509.CertificateBuilder().serial_number(7).public_key(key.public_key())
        builder = builder.issuer_name(self.authority.certificate.subject)
        builder = builder.subject_name(x509.Name([])).not_valid_before(NOW).not_valid_after(NOW)
        pem = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
        (self.path / "issued/strange.pem").write_bytes(pem)
        self.assertRefused(f"{7:032x} is not like those made here", self.authority.issued)

    def test_issued(self) -> None:
        """All that was issued is listed with what it says, the oldest first."""
        self.authority.issueServer("b.example", sans=["::1"], now=NOW + DAY)
        self.client("anna", roles=["z", "a"])
        anna, server = self.authority.issued()
        self.assertEqual(
            anna,
            Issued(
                serial=certificateIn(self.path / "anna.pem").serial_number,
                kind="client",
                name="anna",
                roles=("a", "z"),
                sans=(),
                notBefore=NOW - BACKDATE,
                notAfter=NOW + CLIENT_DAYS * DAY,
            ),
        )
        self.assertEqual((server.kind, server.sans), ("server", ("b.example", "::1")))

    def test_states(self) -> None:
        """A certificate is valid from its first second to its last, unless it is revoked."""
        self.client("anna", days=10)
        (made,) = self.authority.issued()
        second = timedelta(seconds=1)
        for now, state, days in (
            (NOW - BACKDATE - second, "not yet valid", 10),
            (NOW - BACKDATE, "valid", 10),
            (NOW, "valid", 10),
            (NOW + second, "valid", 9),
            (NOW + 10 * DAY, "valid", 0),
            (NOW + 10 * DAY + second, "expired", -1),
        ):
            self.assertEqual((made.state(now), made.daysLeft(now)), (state, days))
        self.authority.revoke("anna", now=NOW)
        (made,) = self.authority.issued()
        self.assertEqual(made.state(NOW + 11 * DAY), "revoked")


class FaultTests(AuthorityTestCase):
    """Every change, with a disk that is full, or a run that is killed, at every call."""

    def setUp(self) -> None:
        super().setUp()
        self.client("anna")
        self.client("old")
        self.authority.revoke("old", now=NOW)

    def everyFull(self, act: Callable[[], object], check: Callable[[int], None]) -> None:
        """Let something fail at each of its calls in turn, until it does not."""
        for number in range(1, MANY):
            if not underSystem(self, fullAt(number), act):
                self.assertGreater(number, FEW)
                return
            self.assertEqual(unfinished(self.path), [], number)
            check(number)
        self.fail("It fails on and on.")

    def everyKilled(self, act: Callable[[], object], check: Callable[[int], None]) -> None:
        """Kill something at each of its calls in turn, until it comes to its end."""
        for number in range(1, MANY):
            if not underSystem(self, killedAt(number), act):
                self.assertGreater(number, FEW)
                return
            check(number)
        self.fail("It is killed on and on.")

    def listed(self) -> list[tuple[str, str]]:
        """List names and states."""
        return [(each.name, each.state(NOW)) for each in self.authority.issued()]

    def test_createFull(self) -> None:
        """A CA that could not be made leaves not even its directory."""
        path = Path(self.mktemp())
        self.everyFull(
            lambda: Authority.create(path), lambda number: self.assertFalse(path.exists(), number)
        )
        assertWhole(self, path)

    def test_createKilled(self) -> None:
        """A CA that was half made is refused, and made by force."""
        for number in range(1, MANY):
            path = Path(self.mktemp())
            killed = underSystem(self, killedAt(number), partial(Authority.create, path))
            if not killed:
                break
            Authority.create(path, force=True)
            assertWhole(self, path)
            self.assertEqual(unfinished(path), [])
        self.assertGreater(number, 10)

    def test_replaceFull(self) -> None:
        """A CA that could not be replaced is what it was."""
        before = content(self.path)

        def check(number: int) -> None:
            after = content(self.path)
            self.assertEqual({name: after.get(name) for name in before}, before, number)
            assertWhole(self, self.path)

        self.everyFull(partial(Authority.create, self.path, force=True, now=NOW), check)
        self.assertEqual(self.listed(), [])

    def test_replaceKilled(self) -> None:
        """Whenever its replacement is killed, a CA's key and records are not lost."""

        def check(number: int) -> None:
            everything = content(self.path)
            for name, data in before.items():
                self.assertIn(data, everything.values(), (number, name))
            Authority.create(self.path, force=True, now=NOW)
            assertWhole(self, self.path)
            self.assertEqual(unfinished(self.path), [])

        before = content(self.path)
        self.everyKilled(partial(Authority.create, self.path, force=True, now=NOW), check)

    def test_issueFull(self) -> None:
        """What could not be issued is neither there nor listed."""
        before = content(self.path)
        self.everyFull(
            partial(self.client, "new"),
            lambda number: self.assertEqual(content(self.path), before, number),
        )
        self.assertIn(("new", "valid"), self.listed())

    def test_issueAgainFull(self) -> None:
        """A bundle that could not be replaced is what it was, or is replaced and listed."""
        before = content(self.path)
        unsure: list[int] = []

        def check(number: int) -> None:
            if content(self.path) != before:
                # Renamed, and then the disk did not confirm it.
                unsure.append(number)
                before.update(content(self.path))
            assertWhole(self, self.path)

        self.everyFull(partial(self.client, "anna", force=True), check)
        self.assertEqual(len(unsure), 1)

    def test_issueKilled(self) -> None:
        """Whenever an issue is killed, what is there is listed; the next clears away its rest."""

        def check(number: int) -> None:
            assertWhole(self, self.path)
            self.client("anna", force=True)
            self.assertEqual(unfinished(self.path), [], number)

        self.everyKilled(partial(self.client, "anna", force=True), check)

    def test_revoke(self) -> None:
        """Whenever a revocation fails, the list is whole, and the next run completes it."""

        def check(number: int) -> None:
            assertWhole(self, self.path)
            self.assertIn(("old", "revoked"), self.listed())

        for every in (self.everyFull, self.everyKilled):
            self.client("anna", force=True)
            every(partial(self.authority.revoke, "anna", now=NOW), check)
            self.assertNotIn("valid", [state for _, state in self.listed()])
