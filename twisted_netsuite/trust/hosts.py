"""
Hosts and ports as a policy means them: the one form of a host, and patterns for it. Nothing here
resolves a name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from twisted_netsuite.trust.patterns import Glob

#: Characters of a host name, by RFC 1035 without the last dot.
MAX_HOST = 253

_WILD = re.compile(r"[*?\[]")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def readAddress(host: str) -> Address | None:
    """
    Read an IP address.

    @param host: what may be one.
    @return: the address, with one that only wraps an IPv4 address unwrapped; C{None} for a name.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        # A zone tells by which link an address is reached, not which one it is.
        return ipaddress.IPv6Address(int(address))
    return address


#: The prefixes behind which translators and relays find an IPv4 address, and how many bits of an
#: address stand behind it: the old IPv4-compatible form, NAT64 (RFC 6052) and 6to4 (RFC 3056).
_WRAPPINGS = (
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)

_LOOPBACKS: tuple[Address, ...] = (
    ipaddress.IPv4Address("127.0.0.1"),
    ipaddress.IPv6Address("::1"),
)


def _reached(address: Address) -> Iterator[Address]:
    """List every address that a connection with one can end at."""
    yield address
    if address.is_unspecified:
        yield from _LOOPBACKS
    elif isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
        for network, behind in _WRAPPINGS:
            if address in network:
                yield from _reached(ipaddress.IPv4Address(int(address) >> behind & 0xFFFFFFFF))


_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
#: What resolvers take for an IPv4 address though it is none here: C{127.1}, C{0x7f000001}.
_NUMERIC_END = re.compile(r"(?:.*\.)?(?:\d+|0[xX][0-9A-Fa-f]*)")


def readHost(host: str) -> str:
    """
    Bring a host's name to the one form in which it is matched.

    @param host: a name, or an IP address without brackets.
    @return: in small letters, without the last dot.
    @raise ValueError: when it is neither.
    """
    address = readAddress(host)
    if address is not None:
        return str(address)
    name = host.removesuffix(".")
    if len(name) > MAX_HOST or not _HOST.fullmatch(name):
        raise ValueError("it is no host name in ASCII and no IP address")
    if _NUMERIC_END.fullmatch(name):
        raise ValueError("it is an IP address in a form that is not taken")
    return name.lower()


class HostPattern:
    """A network such as C{10.0.0.0/8}, a name such as C{*.example.org}, or C{*} for every host."""

    __slots__ = ("_glob", "network", "text")

    def __init__(self, text: str) -> None:
        """
        @param text: the pattern.
        @raise ValueError: when it is none.
        """
        self.text = text
        self.network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
        self._glob = Glob(text.lower().removesuffix("."))
        if ":" in text or "/" in text or readAddress(text):
            self.network = _network(text)
        elif text != "*":
            _checkName(text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"

    @property
    def literal(self) -> bool:
        """Whether it stands for one name only."""
        return self.network is None and self._glob.literal

    @property
    def every(self) -> bool:
        """Whether it stands for all hosts, by name or by address."""
        return self.text == "*"

    def matchesName(self, name: str) -> bool:
        """
        Tell whether a host fits by its name.

        @param name: by L{readHost}; an address is no name.
        @return: whether it does; a wildcard may stand for several labels.
        """
        if self.every:
            return True
        return self.network is None and readAddress(name) is None and self._glob.fits(name)

    def holds(self, address: Address, wide: bool = False) -> bool:
        """
        Tell whether an address fits.

        @param address: by L{readAddress}.
        @param wide: whether a network takes in C{0.0.0.0} and C{::} with the addresses of this
            machine, and what wraps an IPv4 address with that; else it never holds C{0.0.0.0} and
            C{::}.
        @return: whether it does.
        """
        network = self.network
        if self.every or network is None:
            return self.every
        if wide:
            return any(each in network for each in _reached(address))
        return not address.is_unspecified and address in network


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError("it is no network; write such as 10.0.0.0/8 or fd00::/8") from None
        raise ValueError(f"it is an address within {meant}; write that network") from None
    if isinstance(network, ipaddress.IPv6Network):
        wrapped = network.network_address.ipv4_mapped
        if wrapped is not None and network.prefixlen >= 96:
            return ipaddress.IPv4Network((wrapped, network.prefixlen - 96))
    return network


def _checkName(text: str) -> None:
    sample = _WILD.sub("x", re.sub(r"\[.*?\]", "x", text))
    if re.fullmatch(r"[\d.*?\[\]!-]*", text) and _WILD.search(text):
        raise ValueError("a wildcard is for names; write a network such as 10.0.0.0/8")
    readHost(sample)


class PortRange:
    """A port, or some next to each other."""

    __slots__ = ("first", "last")

    def __init__(self, ports: int | str) -> None:
        """
        @param ports: such as C{80} or C{"8000-8100"}.
        @raise ValueError: when these are no ports.
        """
        found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", str(ports), re.ASCII)
        if isinstance(ports, bool) or found is None:
            raise ValueError('it is no port; write such as 80 or "8000-8100"')
        self.first = int(found[1])
        self.last = int(found[2] or found[1])
        if not 1 <= self.first <= self.last <= 65535:
            raise ValueError("ports are from 1 to 65535, the smaller one first")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.first}-{self.last})"

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last
