"""
Checking tokens by Twisted's credential checkers, as C{--auth} names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twisted.cred.checkers import (
    FilePasswordDB,
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.strcred import InvalidAuthArgumentString, InvalidAuthType, makeChecker

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.ops.options import absolute
from twisted_netsuite.trust.tokens import TokenVerifier


def tokensFrom(descriptions: Sequence[str]) -> TokenVerifier | None:
    """
    Make what checks tokens.

    @param descriptions: as C{strcred} takes them, such as C{file:PATH}.
    @return: asks them in this order; C{None} when there are none.
    @raise ConfigurationError: naming the one that cannot be used.
    """
    if not descriptions:
        return None
    return TokenVerifier([_checker(description) for description in descriptions])


def _checker(description: str) -> ICredentialsChecker:
    sort, _, argument = description.partition(":")
    if sort == "file" and argument.strip():
        return FilePasswordDB(_readable(absolute(argument)))
    try:
        checker: ICredentialsChecker = makeChecker(description)
    except InvalidAuthType as error:
        raise ConfigurationError(
            f"The auth {description!r} is of no known sort; give file:PATH, or see --help-auth."
        ) from error
    except (InvalidAuthArgumentString, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"The auth {description!r} cannot be understood; see --help-auth-type."
        ) from error
    if isinstance(checker, InMemoryUsernamePasswordDatabaseDontUse):
        # Twisted's own C{memory:} keeps text, and is asked for bytes, which it never finds.
        checker.users = {_bytes(name): _bytes(token) for name, token in checker.users.items()}
    return checker


def _readable(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigurationError(
            f"The file {path!r} of auth cannot be read: {(error.strerror or str(error)).lower()}; "
            "give one that can."
        ) from error
    return path


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
