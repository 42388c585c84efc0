"""
Names of addresses, for people.
"""

from __future__ import annotations

import os
import re

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from twisted_netsuite.wire.text import cleanText

_MAPPED = re.compile(r"::ffff:(\d+\.\d+\.\d+\.\d+)", re.IGNORECASE)


def peerName(address: object) -> str:
    """
    Name an address for a log line.

    @param address: what C{getPeer} or C{getHost} gave; behind a balancer it may hold anything.
    @return: C{HOST:PORT} with brackets around IPv6, C{unix:PATH} or C{unix}.
    """
    match address:
        case IPv4Address():
            return f"{cleanText(address.host)}:{address.port}"
        case IPv6Address():
            # A socket for both versions names an IPv4 peer this way; one peer has one name.
            mapped = _MAPPED.fullmatch(address.host)
            host = mapped[1] if mapped else f"[{cleanText(address.host)}]"
            return f"{host}:{address.port}"
        case UNIXAddress():
            # A client may bind its socket to any name before it connects.
            return f"unix:{cleanText(os.fsdecode(address.name))}" if address.name else "unix"
        case _:
            return cleanText(str(address))
