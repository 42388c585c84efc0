"""
An authority's own files, read and checked against one another before anything is signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.trust.durable import DurableDirectory
from twisted_netsuite.trust.issued import readCertificate

#: The authority's certificate, which every party needs.
CERTIFICATE = "ca.pem"

#: Its private key, which nobody else may see.
KEY = "ca-key.pem"

#: Its revocation list, which every server needs.
REVOKED = "crl.pem"

#: Permissions of these: only the key is a secret.
MODES = {REVOKED: 0o644, CERTIFICATE: 0o644, KEY: 0o600}


@dataclass(frozen=True)
class Signer:
    """
    What signs.

    @ivar certificate: the authority's.
    @ivar key: the authority's.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def readAuthority(directory: DurableDirectory) -> x509.Certificate:
    """
    Read an authority's certificate.

    @param directory: the authority's.
    @return: its certificate.
    @raise ConfigurationError: when there is none, or it is not like those that are made here.
    """
    path = str(directory.path / CERTIFICATE)
    if not directory.has(CERTIFICATE):
        raise ConfigurationError(
            f"There is no {path!r}; make a CA with netsuite ca init, or give the directory of one."
        )
    certificate = readCertificate(directory, CERTIFICATE)
    try:
        find = certificate.extensions.get_extension_for_class
        find(x509.SubjectKeyIdentifier)
        right = find(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        right = False
    if not right or not isinstance(certificate.public_key(), ec.EllipticCurvePublicKey):
        raise ConfigurationError(
            f"{path!r} is no CA's certificate as netsuite ca init makes it; bring that back."
        )
    return certificate


def readSigner(directory: DurableDirectory, now: datetime) -> Signer:
    """
    Read what an authority signs with.

    @param directory: the authority's.
    @param now: the time.
    @return: certificate and key.
    @raise ConfigurationError: when they are not there, do not match, or have expired.
    """
    certificate = readAuthority(directory)
    path = str(directory.path / KEY)
    data = directory.read(KEY, private=True)
    if data is None:
        raise ConfigurationError(
            f"There is no {path!r}, and nothing can be signed without it; bring it back."
        )
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path!r} holds no private key in PEM without a password; bring it back."
        ) from error
    if (
        not isinstance(key, ec.EllipticCurvePrivateKey)
        or key.public_key() != certificate.public_key()
    ):
        raise ConfigurationError(
            f"{path!r} is not the private key of {str(directory.path / CERTIFICATE)!r}; bring "
            "back the one that is."
        )
    if now > certificate.not_valid_after_utc:
        raise ConfigurationError(
            f"The CA in {str(directory.path)!r} expired on {certificate.not_valid_after_utc:%F}, "
            "and with it all that it issued; make another with netsuite ca init --force."
        )
    return Signer(certificate, key)


def readRevocations(
    directory: DurableDirectory, own: x509.Certificate
) -> x509.CertificateRevocationList:
    """
    Read what an authority has revoked.

    @param directory: the authority's.
    @param own: the authority's certificate.
    @return: its revocation list.
    @raise ConfigurationError: when there is none that it has signed. A new one is no way out, as it
        would forgive what was revoked.
    """
    path = str(directory.path / REVOKED)
    data = directory.read(REVOKED)
    if data is None:
        raise ConfigurationError(f"There is no {path!r}; bring it back, as from a server.")
    try:
        crl = x509.load_pem_x509_crl(data)
        key = own.public_key()
        signed = isinstance(key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)
        numbered = any(isinstance(each.value, x509.CRLNumber) for each in crl.extensions)
    except (ValueError, TypeError, x509.DuplicateExtension) as error:
        raise ConfigurationError(
            f"{path!r} holds no revocation list in PEM; bring it back, as from a server."
        ) from error
    if not signed or not numbered:
        raise ConfigurationError(
            f"{path!r} is not the revocation list of {str(directory.path / CERTIFICATE)!r}; bring "
            "that back, as from a server."
        )
    return crl
