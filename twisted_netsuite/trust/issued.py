"""
What an authority has issued, read from the certificates themselves: there is no other record of it
that could say something else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from cryptography import x509

from twisted_netsuite.errors import ConfigurationError, Unauthenticated
from twisted_netsuite.trust.certificates import SERVER, alternativesOf, commonName, isIssuedBy
from twisted_netsuite.trust.durable import DurableDirectory
from twisted_netsuite.trust.identity import certificateIdentity

#: The directory of all certificates that an authority issued, each named by its serial number.
ISSUED = "issued"

#: What the name of a file ends in that holds a certificate.
SUFFIX = ".pem"


@dataclass(frozen=True)
class Issued:
    """
    A certificate of a server or a client.

    @ivar serial: its serial number.
    @ivar kind: what it may be used as.
    @ivar name: whom it is for.
    @ivar roles: what a client's says of its roles, sorted.
    @ivar sans: the DNS names and IP addresses of a server's.
    @ivar notBefore: when it began.
    @ivar notAfter: when it ends.
    @ivar revoked: when it was revoked.
    @ivar reason: why, as RFC 5280 writes it; empty when it is not revoked.
    """

    serial: int
    kind: Literal["server", "client"]
    name: str
    roles: tuple[str, ...]
    sans: tuple[str, ...]
    notBefore: datetime
    notAfter: datetime
    revoked: datetime | None = None
    reason: str = ""

    @property
    def hexSerial(self) -> str:
        """The serial number as a person reads it, and as its file is called."""
        return f"{self.serial:032x}"

    def daysLeft(self, now: datetime) -> int:
        """
        Count the days until it ends.

        @param now: the time.
        @return: whole days; below 0 when it has ended.
        """
        return (self.notAfter - now).days

    def state(self, now: datetime) -> Literal["revoked", "expired", "not yet valid", "valid"]:
        """
        Tell whether it can be used.

        @param now: the time.
        @return: the first of these that holds.
        """
        if self.revoked is not None:
            return "revoked"
        if now > self.notAfter:
            return "expired"
        return "not yet valid" if now < self.notBefore else "valid"


def describe(certificate: x509.Certificate, entry: x509.RevokedCertificate | None = None) -> Issued:
    """
    Read what a certificate says.

    @param certificate: of a server or a client.
    @param entry: its entry in the revocation list, when it has one.
    @return: what it says.
    @raise ConfigurationError: when it is neither a server's nor a client's as they are made here.
    """
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        server = SERVER in usage
        sans = alternativesOf(certificate)
        roles = () if server else tuple(sorted(certificateIdentity(certificate).roles))
        name = commonName(certificate) or sans[0]
    except (
        *(x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
        *(Unauthenticated, ValueError, IndexError),
    ) as error:
        raise ConfigurationError(
            f"The certificate {certificate.serial_number:032x} is not like those made here; "
            "take it away."
        ) from error
    return Issued(
        serial=certificate.serial_number,
        kind="server" if server else "client",
        name=name,
        roles=roles,
        sans=sans,
        notBefore=certificate.not_valid_before_utc,
        notAfter=certificate.not_valid_after_utc,
        revoked=entry.revocation_date_utc if entry else None,
        reason=_reason(entry) if entry else "",
    )


def _reason(entry: x509.RevokedCertificate) -> str:
    for extension in entry.extensions:
        if isinstance(extension.value, x509.CRLReason):
            return extension.value.reason.value
    return x509.ReasonFlags.unspecified.value


def issuedIn(path: str | os.PathLike[str]) -> Issued:
    """
    Read what a bundle's certificate says.

    @param path: the bundle.
    @return: all but whether it is revoked.
    @raise ConfigurationError: when it cannot be read.
    """
    file = Path(path)
    with DurableDirectory(file.parent) as directory:
        return describe(readCertificate(directory, file.name))


def readCertificate(directory: DurableDirectory, name: str) -> x509.Certificate:
    """
    Read a certificate.

    @param directory: where it is.
    @param name: its file, which may hold a private key as well.
    @return: the first in the file.
    @raise ConfigurationError: when there is none.
    """
    path = str(directory.path / name)
    data = directory.read(name)
    if data is None:
        raise ConfigurationError(f"There is no {path!r}; bring it back.")
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise ConfigurationError(f"{path!r} holds no certificate in PEM; bring it back.") from error


def openIndex(directory: DurableDirectory) -> DurableDirectory:
    """
    Open the index of an authority.

    @param directory: the authority's.
    @return: the directory of issued certificates.
    @raise ConfigurationError: when it is not there: an empty one instead would hide what is out.
    """
    if not directory.has(ISSUED):
        raise ConfigurationError(
            f"There is no {str(directory.path / ISSUED)!r}, which holds the certificates that were "
            "issued; bring it back."
        )
    return DurableDirectory(directory.path / ISSUED, directory)


def records(index: DurableDirectory) -> list[str]:
    """
    List the files of an index.

    @param index: the directory of issued certificates.
    @return: names.
    """
    return [name for name in index.names() if name.endswith(SUFFIX)]


def readIndex(
    index: DurableDirectory, own: x509.Certificate, crl: x509.CertificateRevocationList
) -> list[Issued]:
    """
    Read all that an authority has issued.

    @param index: the directory of issued certificates.
    @param own: the authority's certificate; what others signed is left out, as it is here only
        when a run that replaced the authority was killed.
    @param crl: what it has revoked.
    @return: the oldest first.
    @raise ConfigurationError: when one cannot be read.
    """
    found = [readCertificate(index, name) for name in records(index)]
    ours = [
        describe(each, crl.get_revoked_certificate_by_serial_number(each.serial_number))
        for each in found
        if isIssuedBy(each, own)
    ]
    return sorted(ours, key=lambda each: (each.notBefore, each.name, each.serial))
