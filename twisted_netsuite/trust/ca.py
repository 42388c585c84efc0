"""
A certificate authority in a directory: it issues, remembers what it issued, and revokes.

How it comes to be there is L{trust.founding}'s matter, how its certificates look
L{trust.certificates}', how files are written L{trust.durable}'s.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from twisted_netsuite.errors import ConfigurationError, NotFound
from twisted_netsuite.trust import certificates, party
from twisted_netsuite.trust.durable import DurableDirectory
from twisted_netsuite.trust.founding import found
from twisted_netsuite.trust.issued import (
    SUFFIX,
    Issued,
    describe,
    openIndex,
    readCertificate,
    readIndex,
)
from twisted_netsuite.trust.party import Party
from twisted_netsuite.trust.signing import (
    CERTIFICATE,
    KEY,
    MODES,
    REVOKED,
    Signer,
    readAuthority,
    readRevocations,
    readSigner,
)
from twisted_netsuite.wire.text import cleanText

#: Ten years: changing the CA means changing every party, and its key never leaves its directory.
CA_DAYS = 3650

#: A year, within the 366 days that Mozilla's intermediate profile allows a server.
SERVER_DAYS = 365

#: A year, too: whoever must go before that is revoked.
CLIENT_DAYS = 365

#: A hundred years, so that no date leaves what a certificate can hold.
MAX_DAYS = 36500


class Authority:
    """
    A certificate authority.

    Every method that changes something waits for other runs that do, and leaves either all of the
    change or nothing of it. Times are aware datetimes; without one it is now.

    @ivar path: its directory.
    @ivar certificate: its own.
    @ivar replaced: the directory of the one before, when this was just made in its place.
    """

    def __init__(
        self, path: Path, certificate: x509.Certificate, replaced: Path | None = None
    ) -> None:
        """
        Not to be called: see L{create} and L{open}.

        @param path: its directory.
        @param certificate: its own.
        @param replaced: the directory of the one before.
        """
        self.path = path
        self.certificate = certificate
        self.replaced = replaced

    @property
    def certificatePath(self) -> Path:
        """The file of its certificate, which every party needs."""
        return self.path / CERTIFICATE

    @property
    def keyPath(self) -> Path:
        """The file of its private key, which nobody else may see."""
        return self.path / KEY

    @property
    def crlPath(self) -> Path:
        """The file of its revocation list, for servers, and clients that look at it."""
        return self.path / REVOKED

    @property
    def name(self) -> str:
        """Its common name."""
        return certificates.commonName(self.certificate)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Authority:
        """
        Open an authority that was made before.

        @param path: its directory.
        @return: the authority.
        @raise ConfigurationError: when there is none.
        """
        with _place(Path(path)) as directory:
            directory.lock(shared=True)
            return cls(Path(path), readAuthority(directory))

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str = "",
        days: int = CA_DAYS,
        now: datetime | None = None,
        force: bool = False,
    ) -> Authority:
        """
        Make a new authority.

        @param path: its directory, which is made, for its owner alone, when it is not there.
        @param name: its common name; without one, a name that no other has.
        @param days: how long it is valid.
        @param now: when it begins.
        @param force: whether it may replace another, which is then kept below L{REPLACED}.
        @return: the authority.
        @raise ConfigurationError: when that cannot be done, or must not.
        """
        name = _authorityName(name or f"netsuite CA {secrets.token_hex(4)}")
        moment = _moment(now)
        key = certificates.newKey()
        own = certificates.authorityCertificate(key, name, moment, _end(moment, days))
        contents = {
            REVOKED: _pem(certificates.revocationList(own, key, 1, [], moment)),
            CERTIFICATE: _pem(own),
            KEY: certificates.keyPEM(key),
        }
        replaced = found(Path(path), contents, moment, force)
        return cls(Path(path), own, replaced)

    def issueServer(
        self,
        name: str,
        *,
        sans: Iterable[str] | None = None,
        days: int = SERVER_DAYS,
        now: datetime | None = None,
        force: bool = False,
    ) -> Path:
        """
        Issue a certificate to a server.

        @param name: a DNS name, whose first label may be C{*}, or an IP address.
        @param sans: other names that clients know it by; with C{force} and without these, those of
            its newest certificate.
        @param days: how long it is valid, unless the authority ends before that.
        @param now: when it begins.
        @param force: whether its bundle may replace another file.
        @return: the bundle: private key and certificate.
        @raise ConfigurationError: when that cannot be done, or must not.
        """
        whom = party.server(name, sans or ())
        return self._issue(whom, days, now, force, force and sans is None)

    def issueClient(
        self,
        name: str,
        *,
        roles: Iterable[str] | None = None,
        days: int = CLIENT_DAYS,
        now: datetime | None = None,
        force: bool = False,
    ) -> Path:
        """
        Issue a certificate to a client.

        @param name: its name, as L{trust.identity.certificateIdentity} will read it.
        @param roles: its roles, as well; with C{force} and without these, those of its newest
            certificate.
        @param days: how long it is valid, unless the authority ends before that.
        @param now: when it begins.
        @param force: whether its bundle may replace another file.
        @return: the bundle: private key and certificate.
        @raise ConfigurationError: when that cannot be done, or must not.
        """
        whom = party.client(name, roles or ())
        return self._issue(whom, days, now, force, force and roles is None)

    def _issue(
        self, whom: Party, days: int, now: datetime | None, force: bool, renew: bool
    ) -> Path:
        moment = _moment(now)
        end = _end(moment, days)
        with self._changing() as directory, openIndex(directory) as index:
            index.clear()
            holder = _refuseTaken(directory, whom, force)
            signer = readSigner(directory, moment)
            if renew:
                whom = _asBefore(directory, index, signer.certificate, whom, holder)
            key = certificates.newKey()
            certificate = certificates.partyCertificate(
                signer.certificate,
                signer.key,
                key.public_key(),
                whom.name,
                certificates.SERVER if whom.kind == "server" else certificates.CLIENT,
                certificates.serverAlternatives(whom.names)
                + certificates.roleAlternatives(whom.roles),
                moment,
                min(end, signer.certificate.not_valid_after_utc),
            )
            bundle = certificates.keyPEM(key) + _pem(certificate)
            _handOut(directory, index, whom.fileName, bundle, certificate, force)
        return self.path / whom.fileName

    def issued(self) -> list[Issued]:
        """
        List all that was issued.

        @return: the oldest first.
        @raise ConfigurationError: when that cannot be read.
        """
        with _place(self.path) as directory:
            directory.lock(shared=True)
            own = readAuthority(directory)
            with openIndex(directory) as index:
                return readIndex(index, own, readRevocations(directory, own))

    def revoke(
        self,
        name: str = "",
        *,
        serial: int | None = None,
        reason: str = "unspecified",
        now: datetime | None = None,
    ) -> list[Issued]:
        """
        Revoke every certificate of a name that has not expired, or one by its serial number.

        @param name: whose.
        @param serial: which, instead of a name.
        @param reason: as RFC 5280 writes it, such as C{keyCompromise}.
        @param now: when.
        @return: what was revoked now; nothing, when all was revoked or had expired before.
        @raise NotFound: when there is no such certificate.
        @raise ConfigurationError: when that cannot be done.
        """
        flag = _reason(reason)
        moment = _moment(now)
        with self._changing() as directory, openIndex(directory) as index:
            signer = readSigner(directory, moment)
            before = readRevocations(directory, signer.certificate)
            found = _chosen(readIndex(index, signer.certificate, before), name, serial)
            due = [each for each in found if not each.revoked and each.notAfter >= moment]
            if due:
                entries = [certificates.revocation(each.serial, flag, moment) for each in due]
                _extend(directory, signer, before, entries, moment)
        return due

    @contextmanager
    def _changing(self) -> Iterator[DurableDirectory]:
        with _place(self.path) as directory:
            directory.lock()
            directory.refuseOthers()
            yield directory


def _handOut(
    directory: DurableDirectory,
    index: DurableDirectory,
    name: str,
    bundle: bytes,
    certificate: x509.Certificate,
    force: bool,
) -> None:
    record = describe(certificate).hexSerial + SUFFIX
    with (
        directory.draft(name, bundle, keepOwner=force) as bundleDraft,
        index.draft(record, _pem(certificate)) as recordDraft,
    ):
        # The record is first: what is out there can always be found, and revoked.
        index.publish(recordDraft)
        try:
            directory.publish(bundleDraft, replace=force)
        except ConfigurationError:
            # Unless it has its name, and only the disk is not sure of it, nobody will ever have it.
            if directory.has(bundleDraft.temporary):
                with suppress(ConfigurationError):
                    index.remove([record])
            raise


def _extend(
    directory: DurableDirectory,
    signer: Signer,
    before: x509.CertificateRevocationList,
    entries: Iterable[x509.RevokedCertificate],
    now: datetime,
) -> None:
    number = before.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    newer = certificates.revocationList(
        signer.certificate, signer.key, number + 1, [*before, *entries], now
    )
    with directory.draft(REVOKED, _pem(newer), MODES[REVOKED]) as draft:
        directory.publish(draft, replace=True)


def _refuseTaken(directory: DurableDirectory, whom: Party, force: bool) -> Issued | None:
    """Tell whose bundle is there that may be replaced, if any is."""
    if not directory.has(whom.fileName):
        return None
    holder = None
    what = "and is no bundle made here"
    with suppress(ConfigurationError):
        holder = describe(readCertificate(directory, whom.fileName))
        what = f"for the {holder.kind} {holder.name}, valid until {holder.notAfter:%F}"
    there = f"{str(directory.path / whom.fileName)!r} is there already, {what}"
    if holder is not None and holder.kind != whom.kind:
        raise ConfigurationError(
            f"{there}; choose another name, as a server and a client never share a file."
        )
    if not force:
        raise ConfigurationError(
            f"{there}; choose another name, or add --force to replace it by a new key and "
            "certificate."
        )
    return holder


def _asBefore(
    directory: DurableDirectory,
    index: DurableDirectory,
    own: x509.Certificate,
    whom: Party,
    holder: Issued | None,
) -> Party:
    """Give somebody the names and roles of the newest certificate of that name and kind."""

    def same(each: Issued | None) -> bool:
        return each is not None and (each.kind, each.name) == (whom.kind, whom.name)

    # The bundle that is there is the newest; it may be all that is left here of the CA before.
    newest = holder if same(holder) else None
    if newest is None:
        issued = readIndex(index, own, readRevocations(directory, own))
        newest = next((each for each in reversed(issued) if same(each)), None)
    if newest is None:
        return whom
    if whom.kind == "server":
        return party.server(whom.name, newest.sans)
    return party.client(whom.name, newest.roles)


def _chosen(index: list[Issued], name: str, serial: int | None) -> list[Issued]:
    if serial is not None:
        found = [each for each in index if each.serial == serial]
        what = f"serial number {serial:032x}"
    else:
        found = [each for each in index if each.name == name]
        with suppress(ConfigurationError):
            same = party.serverName(name)
            found = found or [each for each in index if (each.kind, each.name) == ("server", same)]
        what = f"name {name!r}"
    if not found:
        raise NotFound(f"No certificate with the {what} was issued here; see netsuite ca list.")
    return found


@contextmanager
def _place(path: Path) -> Iterator[DurableDirectory]:
    try:
        directory = DurableDirectory(path)
    except ConfigurationError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise ConfigurationError(
                f"There is no directory {str(path)!r}; make a CA with netsuite ca init, or give "
                "the directory of one."
            ) from error
        raise
    with directory:
        directory.refuseForeign()
        yield directory


def _moment(now: datetime | None) -> datetime:
    return (now or datetime.now(UTC)).replace(microsecond=0)


def _end(now: datetime, days: int) -> datetime:
    if not 1 <= days <= MAX_DAYS:
        raise ConfigurationError(
            f"A certificate cannot be valid for {days} days; give 1 to {MAX_DAYS}."
        )
    return now + timedelta(days=days)


def _authorityName(name: str) -> str:
    longest = certificates.LONGEST_COMMON_NAME
    if len(name) > longest or name != cleanText(name).strip():
        raise ConfigurationError(
            f"The CA's name {name[:longest]!r} cannot be in a certificate; give 1 to {longest} "
            "characters that can be seen."
        )
    return name


def _reason(reason: str) -> x509.ReasonFlags:
    try:
        flag = x509.ReasonFlags(reason)
    except ValueError:
        flag = x509.ReasonFlags.remove_from_crl
    if flag in (x509.ReasonFlags.remove_from_crl, x509.ReasonFlags.certificate_hold):
        # Nothing that is revoked here comes back.
        raise ConfigurationError(
            f"{reason!r} is no reason to revoke a certificate for good; give one of RFC 5280's, "
            "such as keyCompromise."
        )
    return flag


def _pem(signed: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return signed.public_bytes(Encoding.PEM)
