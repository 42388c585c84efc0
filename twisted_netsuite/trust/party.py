"""
Whom a certificate is asked for: names, checked, and the file that its bundle is in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Literal

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.trust.certificates import addressOf
from twisted_netsuite.trust.identity import NAME

#: How many names, or roles, one certificate may hold: it travels in every handshake, and with a
#: hundred of the longest names it is some 25 KiB, of the 100 KiB that OpenSSL reads.
MAX_NAMES = 100

#: The longest DNS name in characters (RFC 1035, less the length and root octets).
MAX_DNS_NAME = 253

#: The longest name of a file on Linux, in bytes.
MAX_FILE_NAME = 255

#: Bundles that would be a file of the authority's own.
RESERVED = frozenset({"ca", "ca-key", "crl"})

#: A host name (RFC 952 as RFC 1123 has it). The last label has a character that is no digit, so
#: that no misspelt IPv4 address is one.
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_HOST = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")


@dataclass(frozen=True)
class Party:
    """
    Whom a certificate is for.

    @ivar kind: what it may be used as.
    @ivar name: what it is known by.
    @ivar names: of a server, all DNS names and IP addresses that it answers to, its own first.
    @ivar roles: of a client.
    """

    kind: Literal["server", "client"]
    name: str
    names: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    @property
    def fileName(self) -> str:
        """The name of its bundle: never a path, and nothing that a shell or an endpoint quotes."""
        stem = self.name
        if isinstance(addressOf(stem), IPv6Address):
            # No host name has an underscore, so this is no other server's file.
            stem = "_ip6-" + stem.replace(":", "-")
        elif stem.startswith("*."):
            stem = "_wildcard" + stem[1:]
        return f"{stem}.pem"


def server(name: str, sans: Iterable[str]) -> Party:
    """
    Check what a server is called.

    @param name: a DNS name, whose first label may be C{*}, or an IP address.
    @param sans: other such names that clients know it by.
    @return: with every name in one form and no name twice.
    @raise ConfigurationError: when one cannot be in a certificate.
    """
    own = serverName(name)
    names = tuple(dict.fromkeys((own, *map(serverName, sans))))
    _refuseTooMany("names", names)
    return _filed(Party("server", own, names))


def client(name: str, roles: Iterable[str]) -> Party:
    """
    Check what a client is called.

    @param name: as L{NAME} has it.
    @param roles: as well.
    @return: with no role twice.
    @raise ConfigurationError: when one cannot be in a certificate.
    """
    roles = tuple(dict.fromkeys(roles))
    for word, kind in ((name, "name"), *((role, "role") for role in roles)):
        if not NAME.fullmatch(word):
            raise ConfigurationError(
                f"The client's {kind} {_shown(word)} cannot be in a certificate; give 1 to 64 "
                "letters, digits and ._@- of ASCII, with a letter, a digit or _ first."
            )
    _refuseTooMany("roles", roles)
    return _filed(Party("client", name, roles=roles))


def serverName(name: str) -> str:
    """
    Bring one name of a server into the form in which it stands in a certificate.

    @param name: a DNS name or an IP address.
    @return: a DNS name in small letters, or an address in its shortest form.
    @raise ConfigurationError: when it is neither.
    """
    if not name.isascii():
        raise ConfigurationError(
            f"The server's name {_shown(name)} is not ASCII; give its xn-- form, as it is in DNS."
        )
    address = addressOf(name)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ConfigurationError(
            f"The server's address {_shown(name)} has a zone, which means nothing to others; "
            "leave out what begins with the percent sign."
        )
    if address is not None:
        return str(address)
    host = name.lower()
    # A wildcard for all that ends in one label, such as *.com, is no client's to accept.
    rest = host.removeprefix("*.") if host.count(".") > 1 else host
    if len(host) > MAX_DNS_NAME or not _HOST.fullmatch(rest):
        raise ConfigurationError(
            f"The server's name {_shown(name)} is no DNS name or IP address; give one such as "
            "localhost, files.example.org, *.example.org, 192.0.2.1 or 2001:db8::1."
        )
    return host


def _filed(party: Party) -> Party:
    if party.name.lower() in RESERVED:
        raise ConfigurationError(
            f"{party.name} cannot be a {party.kind}'s name, as {party.fileName} is a file of the "
            "CA's own; choose another name."
        )
    if len(party.fileName) > MAX_FILE_NAME:
        raise ConfigurationError(
            f"The server's name {_shown(party.name)} is too long to be a file's; give a shorter "
            "one first, and this one with --san."
        )
    return party


def _refuseTooMany(what: str, names: Sequence[str]) -> None:
    if len(names) > MAX_NAMES:
        raise ConfigurationError(
            f"{len(names)} {what} are too many for one certificate; give at most {MAX_NAMES}."
        )


def _shown(name: str) -> str:
    return repr(name if len(name) <= MAX_DNS_NAME else name[:MAX_DNS_NAME] + "…")
