"""
What several commands of the C{netsuite} program take: durations, TLS, and who one is.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import click

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


class Seconds(click.FloatRange):
    """A duration in seconds, or of the unit behind it, as 0.5, 90, 10m or 2h."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Take any number above 0, which nan is not."""
        unit = ""
        if isinstance(value, str) and value.endswith(tuple(filter(None, _UNITS))):
            value, unit = value[:-1], value[-1]
        seconds = float(super().convert(value, param, ctx)) * _UNITS[unit]
        if math.isnan(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


_SPAN = re.compile(r"([1-9][0-9]{0,9})([smhd]?)", re.ASCII)


class Span(click.ParamType[int]):
    """A span of whole seconds, as 90, 10m, 2h or 1d."""

    name = "span"

    def __init__(self, most: int) -> None:
        """
        @param most: the longest, in seconds.
        """
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Take a number of seconds, or of the unit behind it."""
        if isinstance(value, int):
            return value
        found = _SPAN.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is no span of time; give one such as 90, 10m, 2h or 1d.")
        seconds = int(found[1]) * _UNITS[found[2]]
        if seconds > self._most:
            self.fail(f"{value!r} is too long; {self._most // _UNITS['d']}d is the most.")
        return seconds


TIMEOUT = click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)


def tls(command: Any) -> Any:
    """
    Add the options of TLS to a command, which gets C{files} in their place.

    @param command: takes C{files}, a C{TrustFiles} or C{None}.
    @return: the command.
    """

    @functools.wraps(command)
    def withFiles(*args: Any, cert: str, ca: str, crl: str, **kwargs: Any) -> Any:
        if (cert or crl) and not ca:
            word = "--cert" if cert else "--crl"
            raise click.UsageError(f"{word} needs --ca, to know the server by.")
        files = None
        if ca:
            from twisted_netsuite.net.tlscontext import TrustFiles

            files = TrustFiles(cert, ca, crl)
        return command(*args, files=files, **kwargs)

    certificate = click.option(
        "--cert", metavar="FILE", default="", help="Your certificate and key, one PEM file."
    )
    authority = click.option(
        "--ca", metavar="FILE", default="", help="Connect by TLS to a server of this authority."
    )
    revoked = click.option(
        "--crl", metavar="FILE", default="", help="What that authority has revoked."
    )
    return certificate(authority(revoked(withFiles)))


def whoIAm(command: Any) -> Any:
    """
    Add the options that say who one is in the native dialect.

    @param command: takes C{user} and C{token_file}; both are empty when not given.
    @return: the command.
    """
    user = click.option(
        "--user", metavar="NAME", default="", help="Who you are, in the native dialect."
    )
    token = click.option(
        "--token-file", metavar="FILE", default="", help="The file with the token that proves it."
    )
    return user(token(command))
