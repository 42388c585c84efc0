"""
Certificates for tests: of one authority that all tests of a process share, and odd ones that no
authority of ours would issue.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twisted_netsuite.net.tlscontext import TrustFiles
from twisted_netsuite.trust.ca import Authority

DAY = timedelta(days=1)

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH

_numbers = itertools.count()


@functools.cache
def folder() -> Path:
    """Make the directory of this process' certificates, which goes with it."""
    path = Path(tempfile.mkdtemp(prefix="netsuite-tls-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def newPath(suffix: str = ".pem") -> Path:
    """Name a file that is not there."""
    return folder() / f"{next(_numbers)}{suffix}"


def newAuthority(**kwargs: Any) -> Authority:
    """Make an authority of one's own, for who revokes."""
    return Authority.create(newPath(".ca"), **kwargs)


@functools.cache
def authority() -> Authority:
    """Make the authority that is shared, and never revokes."""
    return newAuthority(name="Shared")


@functools.cache
def stranger() -> Authority:
    """Make an authority that nobody trusts."""
    return newAuthority(name="Stranger")


@functools.cache
def serverBundle(*names: str) -> str:
    """Issue a server's bundle; without a name for localhost and its addresses."""
    first, *sans = names or ("localhost", "127.0.0.1", "::1", "*.example.org")
    return str(authority().issueServer(first, sans=sans))


@functools.cache
def strangeServer() -> str:
    """Issue a server's bundle of the authority that nobody trusts."""
    return str(stranger().issueServer("localhost"))


@functools.cache
def clientBundle(name: str = "anna", *roles: str) -> str:
    """Issue a client's bundle."""
    return str(authority().issueClient(name, roles=roles))


def serverFiles(**kwargs: str) -> TrustFiles:
    """Tell the files of a server of the shared authority, with some of them replaced."""
    given = {"cert": serverBundle(), "ca": str(authority().certificatePath), **kwargs}
    return TrustFiles(**given)


def clientFiles(**kwargs: str) -> TrustFiles:
    """Tell the files of the client anna, with some of them replaced."""
    return serverFiles(**{"cert": clientBundle(), **kwargs})


def endpoint(files: TrustFiles, port: int = 0, more: str = ":interface=127.0.0.1") -> str:
    """Write a server's endpoint string."""
    crl = f":crl={files.crl}" if files.crl else ""
    return f"mtls:{port}:cert={files.cert}:clientCA={files.ca}{crl}{more}"


@dataclass(frozen=True)
class Issuer:
    """Who signs what this module forges."""

    certificate: x509.Certificate
    key: Any

    @classmethod
    def of(cls, own: Authority) -> Issuer:
        """Take the place of a real authority."""
        key: Any = load_pem_private_key(own.keyPath.read_bytes(), None)
        return cls(own.certificate, key)

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    def save(self) -> str:
        """Write the certificate into a file."""
        return written(self.pem)


def written(data: bytes) -> str:
    """Write a new file."""
    path = newPath()
    path.write_bytes(data)
    return str(path)


def keyPEM(key: PrivateKeyTypes) -> bytes:
    """Write a key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def forge(
    names: Sequence[str] = ("anna",),
    issuer: Issuer | None = None,
    *,
    usage: x509.ObjectIdentifier | None = CLIENT,
    sans: Sequence[x509.GeneralName] = (),
    ca: bool = False,
    begin: datetime | None = None,
    end: datetime | None = None,
    key: Any = None,
) -> Issuer:
    """
    Make any certificate.

    @param names: its common names.
    @param issuer: signs it; without one it is self-signed.
    @param usage: what it is for.
    @param sans: subject alternative names.
    @param ca: whether it may sign others.
    @param begin: when it begins; without one yesterday.
    @param end: when it ends; without one tomorrow.
    @param key: its own.
    @return: with its key.
    """
    now = datetime.now(UTC)
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .public_key(key.public_key())
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .not_valid_before(begin or now - DAY)
        .not_valid_after(end or now + DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    signer = issuer.key if issuer else key
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else SHA256()
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    return Issuer(builder.sign(signer, digest), key)


def bundle(party: Issuer, *chain: Issuer) -> str:
    """Write key, certificate and those above it into one file."""
    return written(keyPEM(party.key) + b"".join(each.pem for each in (party, *chain)))


def revocations(
    issuer: Issuer,
    revoked: Iterable[x509.Certificate] = (),
    *,
    begin: datetime | None = None,
    end: datetime | None = None,
    number: int | None = None,
    scope: x509.IssuingDistributionPoint | None = None,
) -> bytes:
    """Make a revocation list."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(begin or now - DAY)
        .next_update(end or now + DAY)
    )
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    if scope is not None:
        builder = builder.add_extension(scope, critical=True)
    for each in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(each.serial_number)
            .revocation_date(now - DAY)
            .build()
        )
    return builder.sign(issuer.key, SHA256()).public_bytes(Encoding.PEM)
