"""
What a record of the native files protocol can carry; what a server makes of it is its own affair.
"""

from __future__ import annotations

from twisted_netsuite.errors import ConfigurationError, InvalidName
from twisted_netsuite.files.names import MAX_NAME

#: Times that the protocol can carry, in nanoseconds.
_MAX_TIME = 2**63


def requireAttributes(mode: int | None, mtime: int | None) -> None:
    """
    Require what a record can carry.

    @param mode: permission bits, or C{None}.
    @param mtime: nanoseconds since 1970, or C{None}.
    @raise ConfigurationError: when it cannot.
    """
    if mode is not None and not 0 <= mode <= 0o777:
        raise ConfigurationError(
            f"A mode of {mode:o} was given; permission bits from 0 to 777 can be set."
        )
    if mtime is not None and not -_MAX_TIME <= mtime < _MAX_TIME:
        raise ConfigurationError(
            f"A time of {mtime} ns was given; give one that fits in 64 bits, from 1970 on."
        )


def requireSendable(name: bytes) -> None:
    """
    Require that a name fits into a record; whether it can be one is for the server to say.

    @param name: of a file.
    @raise InvalidName: when it does not.
    """
    if len(name) > MAX_NAME:
        raise InvalidName(f"A name of {len(name)} bytes was given; at most {MAX_NAME} are taken.")
