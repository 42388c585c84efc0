"""
TLS contexts for mutual authentication, from PEM files: what is offered, what is demanded, whom one
end trusts. Handshakes and endpoints are elsewhere.

What is offered follows Mozilla's I{intermediate} profile, version 5.7 (Server Side TLS).
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, ServiceID, verify_service_identity

from twisted_netsuite.errors import ConfigurationError, NetsuiteError, Unauthenticated
from twisted_netsuite.trust.identity import UNREADABLE, certificateIdentity

#: The suites of TLS 1.2 in Mozilla's intermediate profile, but for those that need Diffie-Hellman
#: parameters of the server's own, which only clients of before 2014 want.
TLS12_SUITES = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    b"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    b"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)

#: The suites of TLS 1.3, all of them but the CCM ones that no browser offers.
TLS13_SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

#: The groups of the profile, and before them the hybrid with ML-KEM (draft-ietf-tls-ecdhe-mlkem),
#: which what is recorded today keeps from the computers of later.
GROUPS = b"X25519MLKEM768:X25519:prime256v1:secp384r1"

#: Bytes of a PEM file that are read: some hundred certificates, or a CRL of thousands of entries.
MAX_PEM = 4 * 1024 * 1024

#: OpenSSL's C{SSL_MODE_ENABLE_PARTIAL_WRITE}.
_ENABLE_PARTIAL_WRITE = 0x1

#: OpenSSL's C{SSL_MODE_NO_AUTO_CHAIN}: send the chain of the bundle, and not what else is trusted.
_NO_AUTO_CHAIN = 0x8

#: Certificates between a leaf and its root that are followed.
MAX_CHAIN = 4

#: Seconds for which a session may be resumed. Its context ends with every re-read of the files, and
#: its sessions with it, so that none outlives a revocation.
SESSION_LIFETIME = 3600

_Part = TypeVar("_Part")

#: From how many days before its end on a certificate is worth a warning: time for a monthly look.
EXPIRY_DAYS = 30

_CRL = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


class HandshakeNotes:
    """
    What is learned while a handshake runs: a TLS transport is this, too, as that is what Twisted
    keeps at OpenSSL's connection.

    @ivar fault: why the peer's certificate was refused, or empty.
    """

    fault = ""


#: What OpenSSL's codes of a refused certificate mean, for a person at the other end.
_FAULTS = {
    2: "its authority is not trusted here",
    3: "no CRL of its authority is loaded",
    7: "its signature is wrong",
    8: "the CRL's signature is wrong",
    9: "it is not yet valid",
    10: "it has expired",
    11: "the CRL is not yet valid",
    12: "the CRL has expired",
    18: "it is self-signed",
    19: "its authority is not trusted here",
    20: "its authority is not trusted here",
    21: "its authority is not trusted here",
    22: "its chain is too long",
    23: "it is revoked",
    24: "its authority may not issue certificates",
    25: "its chain is longer than its authority allows",
    26: "it is not for this end of a connection",
    28: "its purpose is refused",
    79: "its authority may not issue certificates",
}


@dataclass(frozen=True)
class Trust:
    """
    What one end proves itself with and whom it believes, read from files.

    @ivar key: the private key; without one this end stays nameless.
    @ivar chain: its certificate, then those between it and the root.
    @ivar authorities: whose certificates are believed.
    @ivar revoked: lists of revoked certificates; empty for none.
    """

    key: PrivateKeyTypes | None
    chain: tuple[x509.Certificate, ...]
    authorities: tuple[x509.Certificate, ...]
    revoked: tuple[x509.CertificateRevocationList, ...] = ()


@dataclass(frozen=True)
class TrustFiles:
    """
    Where the parts of a L{Trust} are.

    @ivar cert: a PEM file with certificate and chain, and the key unless that has its own; empty
        for an end that stays nameless.
    @ivar ca: a PEM file of authorities.
    @ivar crl: a PEM file of revocation lists; empty for none.
    @ivar key: a PEM file with the key, when it is not in C{cert}.
    """

    cert: str
    ca: str
    crl: str = ""
    key: str = ""

    def absolute(self) -> TrustFiles:
        """
        Fix the paths before the process changes its directory.

        @return: the same files from the root.
        """
        paths = (self.cert, self.ca, self.crl, self.key)
        return TrustFiles(*(os.path.abspath(os.path.expanduser(p)) if p else "" for p in paths))

    def signature(self) -> tuple[object, ...]:
        """
        Tell the files' state, to notice that one was replaced.

        @return: equal as long as none was.
        """
        return _states((self.cert, self.ca, self.crl, self.key))

    def read(self) -> Trust:
        """
        Read the files.

        @return: what is in them, which fits together.
        @raise ConfigurationError: naming the file and what is wrong with it.
        """
        key, chain = self.readOwn()
        authorities = self.readAuthorities()
        return Trust(key, chain, authorities, self.readRevoked(authorities))

    def readOwn(self) -> tuple[PrivateKeyTypes | None, tuple[x509.Certificate, ...]]:
        """
        Read what this end proves itself with.

        @return: key and chain of a L{Trust}, which OpenSSL takes.
        @raise ConfigurationError: naming the file and what is wrong with it.
        """
        if not self.cert:
            return None, ()
        chain = _certificates(self.cert)
        key = _privateKey(self.key or self.cert)
        if key.public_key() != chain[0].public_key():
            raise ConfigurationError(
                f"The first certificate in {self.cert!r} is not that of the private key in "
                f"{self.key or self.cert!r}; give the two that belong together."
            )
        try:
            _present(SSL.Context(SSL.TLS_METHOD), key, chain)
        except (SSL.Error, TypeError) as error:
            # What is too weak for its policy, or a sort of key that is for other things.
            raise ConfigurationError(
                f"OpenSSL does not take the certificate or key in {self.cert!r}; give others."
            ) from error
        return key, chain

    def readAuthorities(self) -> tuple[x509.Certificate, ...]:
        """
        Read whom this end believes.

        @return: the authorities of a L{Trust}.
        @raise ConfigurationError: naming the file and what is wrong with it.
        """
        return _certificates(self.ca)

    def readRevoked(
        self, authorities: Iterable[x509.Certificate]
    ) -> tuple[x509.CertificateRevocationList, ...]:
        """
        Read the revocation lists.

        @param authorities: who may have made them.
        @return: the newest of each, and none without a file.
        @raise ConfigurationError: naming the file and what is wrong with it.
        """
        return _lists(self.crl, tuple(authorities)) if self.crl else ()


def doubtsOf(trust: Trust, files: TrustFiles, now: datetime) -> list[str]:
    """
    Look for what a server can start with, and no client will like.

    @param trust: what was read.
    @param files: where from.
    @param now: the time.
    @return: a sentence for each.
    """
    doubts: list[str] = []
    if trust.chain:
        days = (trust.chain[0].not_valid_after_utc - now).days
        if days < 0:
            doubts.append(f"The certificate in {files.cert!r} has expired; issue another.")
        elif days <= EXPIRY_DAYS:
            doubts.append(f"The certificate in {files.cert!r} expires in {days} days; renew it.")
        if not _isFor(trust.chain[0], ExtendedKeyUsageOID.SERVER_AUTH):
            doubts.append(
                f"The certificate in {files.cert!r} is not for a server, so clients refuse it; "
                "issue one that is."
            )
    if not all(map(_isAuthority, trust.authorities)):
        doubts.append(
            f"A certificate in {files.ca!r} is not that of an authority, so it vouches for nobody; "
            "give the authority's."
        )
    return doubts


def _isFor(certificate: x509.Certificate, purpose: x509.ObjectIdentifier) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return purpose in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def _isAuthority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        # As in version 1, which has no extensions.
        return certificate.subject == certificate.issuer
    return found.value.ca or certificate.subject == certificate.issuer


class TrustReader:
    """
    Reads the files of one end again and again; what cannot be used stays as it was, and keeps
    nothing else from being read.

    A process that has given root's rights up can read a new revocation list, but not its own key
    once more: what may not be read any more is good as long as its file is the same.

    @ivar files: where the parts are.
    @ivar trust: what is known now; another object after each L{refresh}.
    """

    def __init__(self, files: TrustFiles) -> None:
        """
        @param files: where the parts are.
        @raise ConfigurationError: naming the file and what is wrong with it.
        """
        self.files = files
        self._paths = {
            "own": (files.cert, files.key),
            "authorities": (files.ca,),
            "revoked": (files.crl,),
        }
        # Before they are read: one that is replaced meanwhile counts as changed.
        self._states = {part: _states(paths) for part, paths in self._paths.items()}
        self._signature = files.signature()
        self.trust = files.read()

    def hasChanged(self) -> bool:
        """
        Tell whether to read again.

        @return: whether a file was replaced since that was done last.
        """
        return self.files.signature() != self._signature

    def refresh(self) -> list[ConfigurationError]:
        """
        Read the files again.

        @return: why parts stay as they were, each naming its file; empty when all is read.
        """
        self._signature = self.files.signature()
        faults: list[ConfigurationError] = []
        old, files = self.trust, self.files
        key, chain = self._again("own", files.readOwn, (old.key, old.chain), faults)
        authorities = self._again("authorities", files.readAuthorities, old.authorities, faults)
        revoked = self._again(
            "revoked", lambda: files.readRevoked(authorities), old.revoked, faults
        )
        self.trust = Trust(key, chain, authorities, revoked)
        return faults

    def _again(
        self,
        part: str,
        read: Callable[[], _Part],
        old: _Part,
        faults: list[ConfigurationError],
    ) -> _Part:
        state = _states(self._paths[part])
        try:
            new = read()
        except ConfigurationError as error:
            forbidden = isinstance(error.__cause__, PermissionError)
            if not (forbidden and state == self._states[part]):
                faults.append(error)
            return old
        self._states[part] = state
        return new


def _states(paths: Iterable[str]) -> tuple[object, ...]:
    return tuple(_state(path) for path in paths if path)


def _state(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _readPEM(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_PEM + 1)
    except OSError as error:
        raise ConfigurationError(
            f"The file {path!r} cannot be read: {(error.strerror or str(error)).lower()}; "
            "give one that can."
        ) from error
    if len(data) > MAX_PEM:
        raise ConfigurationError(
            f"The file {path!r} is larger than {MAX_PEM} bytes; give one of certificates in PEM."
        )
    return data


def _certificates(path: str) -> tuple[x509.Certificate, ...]:
    try:
        found = tuple(x509.load_pem_x509_certificates(_readPEM(path)))
        for certificate in found:
            # What cannot be read later is refused now.
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ConfigurationError(
            f"No certificate can be read from {path!r}; give a PEM file of certificates."
        ) from error
    return found


def _privateKey(path: str) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(_readPEM(path), None)
    except TypeError as error:
        raise ConfigurationError(
            f"The private key in {path!r} has a passphrase, which nobody is there to type; "
            "give one without, in a file that only its owner can read."
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"No private key can be read from {path!r}; give a PEM file that holds one."
        ) from error


def _lists(
    path: str, authorities: Sequence[x509.Certificate]
) -> tuple[x509.CertificateRevocationList, ...]:
    blocks = _CRL.findall(_readPEM(path))
    lists: dict[object, list[x509.CertificateRevocationList]] = {}
    try:
        for block in blocks:
            crl = x509.load_pem_x509_crl(block)
            lists.setdefault(_scope(crl, path, authorities), []).append(crl)
    except (x509.InvalidVersion, *UNREADABLE) as error:
        raise ConfigurationError(
            f"A revocation list in {path!r} cannot be read; give a PEM file of CRLs."
        ) from error
    if not lists:
        raise ConfigurationError(f"No revocation list is in {path!r}; give a PEM file of CRLs.")
    return tuple(_newest(found, path) for found in lists.values())


def _scope(
    crl: x509.CertificateRevocationList, path: str, authorities: Iterable[x509.Certificate]
) -> tuple[bytes, ...]:
    """Tell what a list is of: those of one scope take each other's place (RFC 5280, 5)."""
    issuers = (a for a in authorities if a.subject == crl.issuer and _signedBy(crl, a))
    issuer = next(issuers, None)
    if issuer is None:
        raise ConfigurationError(
            f"A revocation list in {path!r} is of none of the authorities that are trusted; "
            "give the list of the same authority."
        )
    partial = (x509.IssuingDistributionPoint, x509.DeltaCRLIndicator)
    extensions = [each.value for each in crl.extensions if isinstance(each.value, partial)]
    key = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key, *sorted(extension.public_bytes() for extension in extensions)


def _newest(
    lists: Sequence[x509.CertificateRevocationList], path: str
) -> x509.CertificateRevocationList:
    """Choose among lists of one scope: OpenSSL takes the first where their dates are equal."""
    numbers = [_number(crl) for crl in lists]
    numbered = None not in numbers
    # Without a number in each, the date has to do.
    ages = [
        (number if numbered and number is not None else 0, crl.last_update_utc)
        for number, crl in zip(numbers, lists, strict=True)
    ]
    newest = [crl for age, crl in zip(ages, lists, strict=True) if age == max(ages)]
    if len({crl.tbs_certlist_bytes for crl in newest}) > 1:
        raise ConfigurationError(
            f"Two revocation lists in {path!r} are of one authority and of the same time, so "
            "neither is the newer; give the newer one alone."
        )
    return newest[0]


def _number(crl: x509.CertificateRevocationList) -> int | None:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return None


def _signedBy(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(cast(Any, issuer.public_key()))
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _context(method: int, trust: Trust) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(TLS12_SUITES)
    context.set_tls13_ciphersuites(TLS13_SUITES)
    _setGroups(context)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # With it, which pyOpenSSL sets, one call would encrypt one record.
    context.clear_mode(_ENABLE_PARTIAL_WRITE)
    context.set_verify_depth(MAX_CHAIN)
    if trust.key is not None:
        _present(context, trust.key, trust.chain)
    store = context.get_cert_store()
    assert store is not None
    for authority in trust.authorities:
        store.add_cert(X509.from_cryptography(authority))
    for crl in trust.revoked:
        store.add_crl(crl)
    if trust.revoked:
        # Every certificate of a chain: without the second, one of an authority that was revoked by
        # its own authority would still do.
        store.set_flags(X509StoreFlags.CRL_CHECK | X509StoreFlags.CRL_CHECK_ALL)
    return context


def _present(context: SSL.Context, key: PrivateKeyTypes, chain: Sequence[x509.Certificate]) -> None:
    """Prove this end by a certificate."""
    context.use_certificate(chain[0])
    context.set_mode(_NO_AUTO_CHAIN)
    for certificate in chain[1:]:
        # A root that the peer does not have already it would not believe either.
        if certificate.subject != certificate.issuer:
            context.add_extra_chain_cert(certificate)
    context.use_privatekey(cast(Any, key))
    context.check_privatekey()


def _setGroups(context: SSL.Context) -> None:
    """Choose the groups: pyOpenSSL's own name for that takes a single curve, and no X25519."""
    choose = cast(Any, SSL)._lib.SSL_CTX_set1_curves_list
    if choose(cast(Any, context)._context, GROUPS) != 1:
        # An OpenSSL of before 3.5 has no ML-KEM.
        choose(cast(Any, context)._context, GROUPS.partition(b":")[2])


def _verifier(
    checkName: Callable[[x509.Certificate], str] = lambda certificate: "",
) -> Callable[[SSL.Connection, X509, int, int, int], bool]:
    def verify(
        connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int
    ) -> bool:
        fault = "" if ok else _FAULTS.get(error, f"OpenSSL's verification says {error}")
        if not fault and not depth:
            try:
                fault = checkName(certificate.to_cryptography())
            except Exception:
                # OpenSSL takes what cryptography refuses, by many exceptions. From here each would
                # be a traceback for us, and silence for the peer.
                fault = "it cannot be read"
        notes = connection.get_app_data()
        if fault and isinstance(notes, HandshakeNotes) and not notes.fault:
            notes.fault = fault
        return not fault

    return verify


def _checkIdentity(certificate: x509.Certificate) -> str:
    try:
        certificateIdentity(certificate)
    except Unauthenticated as error:
        return inWords(error)
    return ""


def serverContext(
    trust: Trust, *, require: bool = True, protocols: Iterable[bytes] = ()
) -> SSL.Context:
    """
    Make a server's context.

    @param trust: with the server's certificate, and the authorities of its clients.
    @param require: whether a client without a certificate is refused.
    @param protocols: names for ALPN (RFC 7301), the preferred first; without any, none is chosen.
    @return: a context that is not changed any more.
    """
    context = _context(SSL.TLS_SERVER_METHOD, trust)
    for authority in trust.authorities:
        context.add_client_ca(authority)
    demand = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if require else 0
    context.set_verify(SSL.VERIFY_PEER | demand, _verifier(_checkIdentity))
    # Sessions are bound to this context: those of one that trusted others are worth nothing here.
    context.set_session_id(os.urandom(16))
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_timeout(SESSION_LIFETIME)
    known = tuple(protocols)
    if known:

        def choose(connection: SSL.Connection, offered: list[bytes]) -> Any:
            common = (name for name in known if name in offered)
            return next(common, SSL.NO_OVERLAPPING_PROTOCOLS)

        context.set_alpn_select_callback(choose)
    return context


def clientContext(trust: Trust, host: str, *, protocols: Iterable[bytes] = ()) -> SSL.Context:
    """
    Make a client's context.

    @param trust: with the authorities of the server, and the client's certificate if it has one.
    @param host: the DNS name or IP address that the server's certificate must be for (RFC 9525).
    @param protocols: names for ALPN (RFC 7301), the preferred first.
    @return: a context that is not changed any more.
    """
    context = _context(SSL.TLS_CLIENT_METHOD, trust)
    wanted = serviceName(host)

    def checkName(certificate: x509.Certificate) -> str:
        try:
            verify_service_identity(extract_patterns(certificate), [wanted], [])
        except (VerificationError, CertificateError, *UNREADABLE):
            return f"it is not for {host!r}"
        return ""

    context.set_verify(SSL.VERIFY_PEER, _verifier(checkName))
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    known = list(protocols)
    if known:
        context.set_alpn_protos(known)
    return context


def inWords(error: NetsuiteError) -> str:
    """
    Turn a sentence into part of another.

    @param error: has the sentence.
    @return: without a capital letter at its begin and a full stop at its end.
    """
    sentence = error.sentence.removesuffix(".")
    return sentence[:1].lower() + sentence[1:]


def serviceName(host: str) -> ServiceID:
    """
    Turn a host into what its certificate has to name.

    @param host: a DNS name or an IP address.
    @return: for service-identity; a zone of an address, and the dot of a name that is complete,
        are of this machine, and in no certificate.
    @raise ConfigurationError: when no certificate can name it.
    """
    address = host.partition("%")[0]
    try:
        ipaddress.ip_address(address)
    except ValueError:
        pass
    else:
        return cast(ServiceID, IPAddress_ID(address))
    try:
        return cast(ServiceID, DNS_ID(host.removesuffix(".")))
    except ValueError as error:
        raise ConfigurationError(
            f"No certificate can be for {host!r}; give a DNS name or an IP address."
        ) from error
