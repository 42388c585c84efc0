"""
Who a person says to be to a service of the native dialect.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from twisted_netsuite.errors import ConfigurationError

#: Bytes of a token file that are read: a token is some dozens.
MAX_TOKEN = 1024


@dataclass(frozen=True)
class Login:
    """
    A user and a token, or neither, where a certificate or the system says who one is.

    @ivar user: the name.
    @ivar token: what proves it.
    """

    user: str | None = None
    token: str | None = None


def readLogin(user: str, tokenFile: str) -> Login:
    """
    Read a token, which no command line should hold, as all users of a machine can read those.

    @param user: the name; empty for none.
    @param tokenFile: the file with the token on its first line; empty for none.
    @return: both, or neither.
    @raise ConfigurationError: when the file cannot be used, or one is given without the other.
    """
    if not user and not tokenFile:
        return Login()
    if not user or not tokenFile:
        raise ConfigurationError("--user and --token-file belong together; give both.")
    try:
        with Path(tokenFile).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            line = file.read(MAX_TOKEN + 1).partition(b"\n")[0].strip()
    except OSError as error:
        raise ConfigurationError(
            f"The token file {tokenFile!r} cannot be read: "
            f"{(error.strerror or str(error)).lower()}; give one that can."
        ) from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise ConfigurationError(
            f"The token file {tokenFile!r} can be read by others; chmod it to 600."
        )
    if not line or len(line) > MAX_TOKEN or not line.isascii():
        raise ConfigurationError(
            f"The token file {tokenFile!r} holds no token; write one line of at most {MAX_TOKEN} "
            "ASCII characters."
        )
    return Login(user, line.decode("ascii"))
