"""
The C{netsuite} program: its commands and what they take.

Twisted is imported by the command that runs, not by the one that only prints its help.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

#: What a shell reports of a program that Ctrl-C ended.
INTERRUPTED = 128 + signal.SIGINT

try:
    import click

    from twisted_netsuite import __version__
    from twisted_netsuite.cli.audit import audit
    from twisted_netsuite.cli.ca import ca
    from twisted_netsuite.cli.exec import execute
    from twisted_netsuite.cli.files import COMMANDS
    from twisted_netsuite.cli.options import TIMEOUT, tls, whoIAm
    from twisted_netsuite.cli.policy import policy
    from twisted_netsuite.errors import NetsuiteError
    from twisted_netsuite.wire.text import cleanText
except KeyboardInterrupt:
    # That takes long enough for somebody to change their mind.
    sys.exit(INTERRUPTED)

if TYPE_CHECKING:
    from twisted_netsuite.net.tlscontext import TrustFiles


class Program(click.Group):
    """A group of commands whose failures are one sentence and a status that no command has."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command that the words name, and exit."""
        kwargs["standalone_mode"] = False
        try:
            status = super().main(*args, **kwargs)
        except click.UsageError as error:
            program = error.ctx.command_path if error.ctx else "netsuite"
            click.echo(f"{_sentence(error)}; see {program} --help.", err=True)
            sys.exit(NetsuiteError.exitStatus)
        except NetsuiteError as error:
            click.echo(cleanText(f"netsuite: {error.sentence}"), err=True)
            sys.exit(error.exitStatus)
        except click.ClickException as error:
            click.echo(f"{_sentence(error)}.", err=True)
            sys.exit(NetsuiteError.exitStatus)
        except click.Abort:
            # Ctrl-C before the reactor takes it, such as while modules are imported.
            sys.exit(INTERRUPTED)
        sys.exit(status if isinstance(status, int) else 0)


def _sentence(error: click.ClickException) -> str:
    words = " ".join(error.format_message().split()).rstrip(".")
    return cleanText(f"netsuite: {words}")


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="netsuite")
def main() -> None:
    """Clients for the services of twisted_netsuite.

    ADDRESS is HOST:PORT, unix:PATH or any Twisted client endpoint string. A failure is one sentence
    on stderr; the exit status is 124 for a timeout, 125 for a failure of the program or the
    connection, 126 for a refusal and 127 for something that is not there.
    """


@main.command()
@click.argument("address")
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@click.option(
    "--dialect",
    type=click.Choice(["classic", "native"]),
    default="classic",
    show_default=True,
    help="What the server speaks.",
)
@whoIAm
@tls
@TIMEOUT
def echo(
    address: str,
    texts: tuple[str, ...],
    timeout: float,
    files: TrustFiles | None,
    dialect: str,
    user: str,
    token_file: str,
) -> NoReturn:
    """Send each TEXT and print its answer on a line of its own.

    ADDRESS may also be udp:HOST:PORT in the classic dialect.
    """
    if dialect != "native" and (user or token_file):
        raise click.UsageError("--user and --token-file are for --dialect native.")
    from twisted_netsuite.cli.echo import echoTexts
    from twisted_netsuite.cli.login import readLogin
    from twisted_netsuite.cli.run import run

    login = readLogin(user, token_file) if dialect == "native" else None
    run(lambda reactor: echoTexts(reactor, address, texts, timeout, files, login))


@main.command()
@click.argument("address", required=False)
@click.option("--plain", is_flag=True, required=True, help="Speak the plain dialect.")
@click.option(
    "--operate",
    metavar="SOCKET",
    is_flag=False,
    flag_value="",
    help="Be the operator of the service behind this Unix socket; without SOCKET, its default.",
)
@click.option(
    "--contacts", metavar="FILE.toml", help="Choose whom to talk to from this contact list."
)
@TIMEOUT
def chat(
    address: str | None, plain: bool, operate: str | None, contacts: str | None, timeout: float
) -> NoReturn:
    """Talk over UDP: as an operator, to a contact, or to the service at ADDRESS (HOST:PORT).

    As an operator, a line answers whoever wrote last, and '@IP:PORT text' anyone else. As a client,
    'quit' goes back to the contact list, and there it ends the program.
    """
    from twisted_netsuite.cli import chat as command
    from twisted_netsuite.cli.run import run

    if [address, operate, contacts].count(None) != 2:
        raise click.UsageError("Give one of ADDRESS, --operate and --contacts.")
    if operate is not None:
        run(lambda reactor: command.operate(reactor, operate))
    run(lambda reactor: command.talk(reactor, address, contacts, timeout))


main.add_command(audit)
main.add_command(ca)
main.add_command(execute)
main.add_command(policy)
for each in COMMANDS:
    main.add_command(each)
