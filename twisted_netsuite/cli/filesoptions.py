"""
What several commands for files take: how they reach a server, and how they move files.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from twisted_netsuite.cli.filesplaces import Remote
from twisted_netsuite.cli.options import TIMEOUT, tls, whoIAm

if TYPE_CHECKING:
    from twisted_netsuite.cli.filesmanner import Manner
    from twisted_netsuite.cli.filesrun import FilesServer
    from twisted_netsuite.net.tlscontext import TrustFiles

#: Connections of one command at the most: what they bring is had with a few, and a server has to
#: bear many clients.
MAX_CONNECTIONS = 16

#: Times that is tried again at the most: with half a minute between two that is most of a day.
MAX_RETRIES = 1000

#: Bytes a second that each connection needs: a chunk of a file has to pass in less time than that
#: after which a peer that says nothing is taken for dead.
MIN_RATE = 32 * 1024

#: A letter alone counts by 1024, as it does elsewhere; the others are those of policies.
_UNITS: dict[str, int] = {
    "": 1,
    "B": 1,
    **{unit: 1024**n for n, c in enumerate("KMG", 1) for unit in (c, c.lower(), f"{c}iB")},
    **{unit: 1000**n for n, c in enumerate("KMG", 1) for unit in (f"{c}B", f"{c.lower()}B")},
}
_RATE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII | re.IGNORECASE)


class Rate(click.ParamType[float]):
    """Bytes a second, as 500K, 1.5MiB or 20 MB; 0 for any number."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Take a number, and perhaps a unit."""
        if isinstance(value, float):
            return value
        found = _RATE.fullmatch(value)
        if found is None or found[2] not in _UNITS:
            self.fail(
                f"{value!r} is no rate; give bytes a second, as 500K, 1.5MiB or 20MB, or 0 for any "
                "number.",
                param,
                ctx,
            )
        return float(found[1]) * _UNITS[found[2]]


class Digest(click.ParamType[bytes]):
    """The digest of a file, as C{netsuite stat --hash} prints it."""

    name = "digest"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """Take 64 hexadecimal digits."""
        if isinstance(value, bytes):
            return value
        if not _DIGEST.fullmatch(value):
            self.fail(f"{value!r} is no digest; give what netsuite stat --hash prints.", param, ctx)
        return bytes.fromhex(value)


def moving(command: Any) -> Any:
    """
    Add what all commands have that move files.

    @param command: takes C{manner}, which makes a C{Manner}, and the C{rate} of L{reaching}.
    @return: the command.
    """

    @functools.wraps(command)
    def moves(
        *args: Any,
        no_clobber: bool,
        durable: bool | None,
        no_resume: bool,
        connections: int,
        retries: int,
        rate: float | None,
        quiet: bool,
        preserve: bool = False,
        if_unchanged: bytes | None = None,
        **kwargs: Any,
    ) -> Any:
        rate = rate or None
        if rate is not None and rate < MIN_RATE * connections:
            least = MIN_RATE * connections // 1024
            raise click.UsageError(
                f"--limit-rate has to be {least}K at least with -j {connections}: the server would "
                "take a slower client for dead."
            )

        def manner() -> Manner:
            from twisted_netsuite.cli.filesmanner import Manner

            return Manner(
                connections=connections,
                retries=retries,
                resume=not no_resume,
                clobber=not no_clobber,
                replaces=if_unchanged,
                preserve=preserve,
                durable=durable,
                quiet=quiet,
            )

        return command(*args, rate=rate, manner=manner, **kwargs)

    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Tell nothing but failures."),
        click.option(
            "--retries",
            type=click.IntRange(0, MAX_RETRIES),
            default=4,
            show_default=True,
            help="Connect again so often when the connection is lost.",
        ),
        click.option(
            "-j",
            "connections",
            metavar="N",
            type=click.IntRange(1, MAX_CONNECTIONS),
            default=1,
            show_default=True,
            help="Connections that carry large files.",
        ),
        click.option(
            "--limit-rate",
            "rate",
            type=Rate(),
            help=f"Bytes a second, each way: 20M and 20MiB are 20 times 1024 times 1024, 20MB are "
            f"20 million; {MIN_RATE // 1024}K at least for each connection, 0 for no bound.",
        ),
        click.option("--no-resume", is_flag=True, help="Begin anew, and leave nothing unfinished."),
        click.option(
            "--durable/--no-durable",
            default=None,
            help="Wait until files are on the disk; usual for files, and not for trees.",
        ),
        # Without a short name: -n is a dry run to who knows rsync, and would not be one.
        click.option("--no-clobber", is_flag=True, help="Replace no file."),
    ):
        moves = option(moves)
    return moves


@dataclass(frozen=True)
class Reach:
    """
    How servers are reached.

    @ivar files: to connect by TLS with; C{None} for plain text.
    @ivar user: who one is; empty for nobody in particular.
    @ivar tokenFile: the file with the token that proves it.
    @ivar timeout: seconds to wait.
    @ivar rate: bytes a second; C{None} for any number.
    """

    files: TrustFiles | None
    user: str
    tokenFile: str
    timeout: float
    rate: float | None

    def server(self, remote: Remote) -> FilesServer:
        """
        Take what is at a server for the server.

        @param remote: what is there.
        @return: the server.
        @raise ConfigurationError: when the token cannot be read.
        """
        from twisted_netsuite.cli.filesrun import FilesServer
        from twisted_netsuite.cli.login import readLogin

        login = readLogin(self.user, self.tokenFile)
        return FilesServer(remote.address, self.files, login, self.timeout, self.rate)


def reaching(command: Any) -> Any:
    """
    Add what all commands have that talk to a server.

    @param command: takes C{reach}, a L{Reach}.
    @return: the command.
    """

    @functools.wraps(command)
    def reaches(
        *args: Any,
        files: TrustFiles | None,
        user: str,
        token_file: str,
        timeout: float,
        rate: float | None = None,
        **kwargs: Any,
    ) -> Any:
        return command(*args, reach=Reach(files, user, token_file, timeout, rate), **kwargs)

    return TIMEOUT(whoIAm(tls(reaches)))


def runNow(main: Callable[[Any], Any]) -> NoReturn:
    """
    Run a command on the reactor, with all standard streams open.

    @param main: gets the reactor, and returns the exit status.
    """
    from twisted_netsuite.cli.streams import holdStandard

    holdStandard()
    from twisted_netsuite.cli.run import run

    run(main)


def given(names: dict[str, str]) -> str:
    """
    Find the first option of some that stands on the command line.

    @param names: options by the names of their parameters.
    @return: the option; empty for none.
    """
    ctx = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    return next((names[n] for n in names if ctx.get_parameter_source(n) is typed), "")


PRESERVE = click.option("-p", "--preserve", is_flag=True, help="Keep mode and time, as with trees.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
YES = click.option("--yes", is_flag=True, help="Remove without asking.")
