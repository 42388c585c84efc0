"""
Who somebody is: by a certificate, by the kernel's word on a Unix socket, by a token, or nobody.

What an identity may do is another matter: see L{trust.policy}.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import struct
from dataclasses import dataclass
from typing import Literal, cast

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL.SSL import Connection
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import ISSLTransport, ISystemHandle, ITransport

from twisted_netsuite.errors import Unauthenticated
from twisted_netsuite.wire.text import cleanText

#: What stands before a role in a subject alternative name of a certificate. It is a URI, as other
#: authorities write organisations into subjects for reasons of their own.
ROLE_URI = "netsuite:role:"

#: The names and roles that a certificate may give: what a log line, a file name and a policy can
#: hold without quoting. X.520 allows a common name 64 characters.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}")

#: What reading a certificate's fields may fail with, also when OpenSSL takes the certificate.
UNREADABLE = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)

#: The kernel's C{struct ucred}: pid, uid, gid.
_CREDENTIALS = struct.Struct("iII")


@dataclass(frozen=True)
class Identity:
    """
    Who a peer is.

    @ivar method: how that is known: C{cert}, C{unix} and C{token} are proofs, C{anonymous} is none.
    @ivar name: the name below that method.
    @ivar roles: what the authority that vouches for the name says of its roles; a policy gives
        others.
    """

    method: Literal["cert", "unix", "token", "anonymous"]
    name: str = ""
    roles: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """As a policy writes it: C{cert:anna}, C{unix:root}, C{token:anna} or C{anonymous}."""
        return f"{self.method}:{self.name}" if self.name else self.method


ANONYMOUS = Identity("anonymous")


def certificateIdentity(certificate: x509.Certificate) -> Identity:
    """
    Read who a certificate is for; that it is genuine has been verified before.

    @param certificate: the peer's.
    @return: named by the only common name of its subject.
    @raise Unauthenticated: when it has no name, several, or one that no name can be.
    """
    try:
        found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except UNREADABLE as error:
        raise Unauthenticated(
            "The certificate's subject cannot be read; one with a common name is needed."
        ) from error
    names = [attribute.value for attribute in found]
    if len(names) != 1 or not isinstance(names[0], str) or not NAME.fullmatch(names[0]):
        shown = ", ".join(cleanText(str(name)) for name in names) or "none"
        raise Unauthenticated(
            f"The certificate's common name is {shown[:100]!r}; one name of letters, digits and "
            "._@- is needed."
        )
    return Identity("cert", names[0], _roles(certificate))


def _roles(certificate: x509.Certificate) -> frozenset[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, *UNREADABLE):
        return frozenset()
    uris = found.value.get_values_for_type(x509.UniformResourceIdentifier)
    roles = (uri.removeprefix(ROLE_URI) for uri in uris if uri.startswith(ROLE_URI))
    return frozenset(role for role in roles if NAME.fullmatch(role))


def unixIdentity(connection: socket.socket) -> Identity:
    """
    Ask the kernel who connected to a Unix socket (SO_PEERCRED, unix(7)).

    @param connection: connected.
    @return: named by the account; by C{#UID} when that has no name.
    @raise OSError: when the socket is of another kind.
    """
    size = _CREDENTIALS.size
    _, uid, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return _account(uid)


def identityOf(transport: ITransport) -> Identity:
    """
    Tell who is at the other end of a connection.

    @param transport: a connection; under TLS, one whose handshake is complete.
    @return: by the certificate or the Unix account; L{ANONYMOUS} where there is neither.
    @raise Unauthenticated: when there is a certificate that names nobody.
    """
    if ISSLTransport.providedBy(transport):
        connection = cast(Connection | None, cast(ISystemHandle, transport).getHandle())
        certificate = connection and connection.get_peer_certificate(as_cryptography=True)
        return certificateIdentity(certificate) if certificate else ANONYMOUS
    if isinstance(transport.getPeer(), UNIXAddress) and ISystemHandle.providedBy(transport):
        handle = transport.getHandle()
        if isinstance(handle, socket.socket) and handle.family == socket.AF_UNIX:
            return unixIdentity(handle)
    return ANONYMOUS


def ownIdentity() -> Identity:
    """
    Tell who this process is to a service on a Unix socket.

    @return: the account that it runs as.
    """
    return _account(os.geteuid())


def _account(uid: int) -> Identity:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return Identity("unix", f"#{uid}")
    return Identity("unix", name if NAME.fullmatch(name) else f"#{uid}")
