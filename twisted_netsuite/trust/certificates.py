"""
How the certificates and revocation lists of our own authority look (RFC 5280); no file is read or
written here.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twisted_netsuite.trust.identity import ROLE_URI

#: How far certificates and revocation lists begin in the past, as the clock of the machine that
#: reads them may be behind ours.
BACKDATE = timedelta(minutes=10)

#: The longest common name that X.520 allows.
LONGEST_COMMON_NAME = 64

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH

Address = IPv4Address | IPv6Address


def newSerial() -> int:
    """
    Draw a serial number.

    @return: of just 128 bits, 127 of them random, so that it has 32 hexadecimal digits whoever
        prints it.
    """
    return 1 << 127 | secrets.randbits(127)


def newKey() -> ec.EllipticCurvePrivateKey:
    """
    Make a private key.

    @return: on the curve P-256.
    """
    return ec.generate_private_key(ec.SECP256R1())


def keyPEM(key: ec.EllipticCurvePrivateKey) -> bytes:
    """
    Write a private key.

    @param key: the key.
    @return: PKCS #8 in PEM, not encrypted.
    """
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def authorityCertificate(
    key: ec.EllipticCurvePrivateKey, name: str, now: datetime, notAfter: datetime
) -> x509.Certificate:
    """
    Make the certificate of an authority, which may sign those of others and revocation lists.

    @param key: its own; the certificate is signed with it.
    @param name: its common name.
    @param now: when it is made.
    @param notAfter: when it ends.
    @return: the certificate.
    """
    subject = _named(name)
    builder = _blank(key.public_key(), subject, subject, now, notAfter)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(
        _keyUsage(key_cert_sign=True, crl_sign=True), critical=True
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, SHA256())


def partyCertificate(
    issuer: x509.Certificate,
    issuerKey: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    name: str,
    usage: x509.ObjectIdentifier,
    alternatives: Sequence[x509.GeneralName],
    now: datetime,
    notAfter: datetime,
) -> x509.Certificate:
    """
    Make the certificate of a server or a client.

    @param issuer: the authority's certificate.
    @param issuerKey: the authority's key.
    @param key: the party's key.
    @param name: the party's common name. One that is too long for it is left out; then there have
        to be alternatives, and they are critical.
    @param usage: C{SERVER} or C{CLIENT}.
    @param alternatives: subject alternative names.
    @param now: when it is made.
    @param notAfter: when it ends.
    @return: the certificate.
    """
    subject = _named(name) if len(name) <= LONGEST_COMMON_NAME else x509.Name([])
    builder = _blank(key, subject, issuer.subject, now, notAfter)
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_keyUsage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([usage]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (authorityKeyIdentifier(issuer), False),
    ):
        builder = builder.add_extension(extension, critical)
    if alternatives:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(alternatives), critical=not subject
        )
    return builder.sign(issuerKey, SHA256())


def revocationList(
    issuer: x509.Certificate,
    issuerKey: ec.EllipticCurvePrivateKey,
    number: int,
    revoked: Iterable[x509.RevokedCertificate],
    now: datetime,
) -> x509.CertificateRevocationList:
    """
    Make a revocation list, which is good until a newer one, or the end of its authority.

    @param issuer: the authority's certificate.
    @param issuerKey: the authority's key.
    @param number: larger than that of the list before.
    @param revoked: what is revoked.
    @param now: when it is made.
    @return: the list.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - BACKDATE)
        .next_update(issuer.not_valid_after_utc)
        .add_extension(authorityKeyIdentifier(issuer), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuerKey, SHA256())


def revocation(serial: int, reason: x509.ReasonFlags, now: datetime) -> x509.RevokedCertificate:
    """
    Make an entry of a revocation list.

    @param serial: of the certificate.
    @param reason: why.
    @param now: when.
    @return: the entry; RFC 5280 wants no reason to stand there that says nothing.
    """
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
    if reason is not x509.ReasonFlags.unspecified:
        builder = builder.add_extension(x509.CRLReason(reason), critical=False)
    return builder.build()


def authorityKeyIdentifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """
    Name the key with which an authority signs.

    @param issuer: its certificate.
    @return: the identifier that stands in the certificate.
    """
    found = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def isIssuedBy(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """
    Tell whether an authority has signed a certificate.

    @param certificate: anybody's.
    @param issuer: the authority's.
    @return: by the signature.
    """
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def serverAlternatives(names: Iterable[str]) -> list[x509.GeneralName]:
    """
    Write a server's names into its certificate.

    @param names: DNS names and IP addresses.
    @return: one alternative for each.
    """
    return [
        x509.DNSName(name) if address is None else x509.IPAddress(address)
        for name in names
        for address in [addressOf(name)]
    ]


def roleAlternatives(roles: Iterable[str]) -> list[x509.GeneralName]:
    """
    Write a client's roles into its certificate.

    @param roles: their names.
    @return: one alternative for each.
    """
    return [x509.UniformResourceIdentifier(ROLE_URI + role) for role in roles]


def alternativesOf(certificate: x509.Certificate) -> tuple[str, ...]:
    """
    Read a server's names from its certificate.

    @param certificate: the server's.
    @return: DNS names and IP addresses, in order.
    """
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    kinds = (x509.DNSName, x509.IPAddress)
    return tuple(str(name.value) for name in found.value if isinstance(name, kinds))


def addressOf(name: str) -> Address | None:
    """
    Read an IP address.

    @param name: anything.
    @return: the address, if it is one.
    """
    try:
        return ip_address(name)
    except ValueError:
        return None


def commonName(certificate: x509.Certificate) -> str:
    """
    Read the name that stands in a certificate.

    @param certificate: one of ours.
    @return: the common name of its subject; empty when it has none.
    """
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _blank(
    key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    issuer: x509.Name,
    now: datetime,
    notAfter: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .serial_number(newSerial())
        .public_key(key)
        .subject_name(subject)
        .issuer_name(issuer)
        .not_valid_before(now - BACKDATE)
        .not_valid_after(notAfter)
    )


def _keyUsage(
    digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
