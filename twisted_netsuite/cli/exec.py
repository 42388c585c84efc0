"""
C{netsuite exec}: what it takes. What it does is in L{cli.execnative}, L{cli.exechosts} and
L{cli.classicexec}.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from twisted_netsuite.cli.options import Seconds, Span, tls, whoIAm
from twisted_netsuite.errors import ConfigurationError

if TYPE_CHECKING:
    from twisted_netsuite.cli.execnative import Server
    from twisted_netsuite.net.tlscontext import TrustFiles

#: Seconds that a classic dialect waits for an answer, unless it is told otherwise.
CLASSIC_TIMEOUT = 60.0

#: Servers at a time that commands run on, unless it is told otherwise: all answer while one waits,
#: and no shell's limit of open files is reached.
DEFAULT_PARALLEL = 32

#: Servers at a time that can be asked for: each takes a connection, and two files where its output
#: is kept.
MAX_PARALLEL = 1000

#: The longest time to live, in seconds: the server's own bound.
LONGEST = 30 * 24 * 3600

#: What ends the options, and with --hosts has to, so that no server is taken for the command.
_DASHES = "--"

#: What only the native dialect has, by the name of the parameter.
_NATIVE = {
    "terminal": "--tty",
    "stdin": "--stdin",
    "env": "--env",
    "cwd": "--cwd",
    "account": "--as",
    "shell": "--shell",
    "detach": "--detach",
    "on_disconnect": "--on-disconnect",
    "ttl": "--ttl",
    "key": "--key",
    "hosts": "--hosts",
    "block": "--block",
    "parallel": "--parallel",
    "user": "--user",
    "token_file": "--token-file",
    "connect_timeout": "--connect-timeout",
}

#: What a command on many servers cannot have: there is one terminal, and one standard input.
_SINGLE = {
    "terminal": "--tty",
    "stdin": "--stdin",
    "detach": "--detach",
    "on_disconnect": "--on-disconnect",
    "ttl": "--ttl",
    "key": "--key",
}


class _ExecCommand(click.Command):
    """
    A command that is another one when its first word says so.

    An ADDRESS has a colon or is otherwise unlike a single word, so the two are never mixed up.

    @ivar others: those others, by that word.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.others: dict[str, click.Command] = {}

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the words of this command, or of the one that the first of them names."""
        if args and args[0] in self.others:
            other = self.others[args[0]]
            return other.make_context(f"{info_name} {args[0]}", args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take options before and behind the ADDRESS, and all from the first word of ARGV on as it
        stands: an option there is one of the command's own."""
        head, words, dashes, given = self._untilWord(ctx, args)
        if "hosts" in given:
            if words and not dashes:
                raise click.UsageError(
                    f"With --hosts, ARGV stands behind {_DASHES}, and {words[0]!r} is before it.",
                    ctx,
                )
        elif words and not dashes:
            address = words[0]
            more, words, dashes, given = self._untilWord(ctx, words[1:])
            if "hosts" in given:
                raise click.UsageError(
                    f"--hosts names the servers, so {address!r} cannot be one beside it.", ctx
                )
            head, words = [*head, *more], [address, *words]
        return super().parse_args(ctx, [*head, _DASHES, *words])

    def _untilWord(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[list[str], list[str], bool, set[str]]:
        """Split before the first word: options, the rest, whether a dash was between, and names."""
        parser = self.make_parser(ctx)
        parser.allow_interspersed_args = False
        values, _, _ = parser.parse_args(list(args))
        words = values.pop("words", ())
        # Where there is none, click has a mark of its own.
        rest = list(words) if isinstance(words, tuple) else []
        head = args[: len(args) - len(rest)]
        dashes = head[-1:] == [_DASHES]
        return head[:-1] if dashes else head, rest, dashes, set(values)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show every form of the command."""
        formatter.write_usage(ctx.command_path, "ADDRESS [OPTIONS] -- ARGV...")
        for rest in ("--hosts A,B,C|@FILE [OPTIONS] -- ARGV...", "ps ADDRESS", "attach ADDRESS ID"):
            formatter.write_usage(ctx.command_path, rest, prefix="   or: ")
        formatter.write_usage(ctx.command_path, "kill ADDRESS ID", prefix="   or: ")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the other commands."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, each.get_short_help_str(80)) for name, each in self.others.items()]
            )


class _OnDisconnect(click.ParamType[tuple[str, int | None]]):
    """What becomes of a command when its connection ends: C{kill} or C{detach[:TTL]}."""

    name = "policy"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | None]:
        """Take a word, and perhaps a span of time."""
        if isinstance(value, tuple):
            return value
        word, colon, span = value.partition(":")
        if word not in ("kill", "detach") or (word == "kill" and colon):
            self.fail(f"{value!r} is neither kill nor detach[:TTL].", param, ctx)
        return word, Span(LONGEST).convert(span, param, ctx) if colon else None


class _Variable(click.ParamType[tuple[str, str]]):
    """A variable of the environment, C{NAME=VALUE}."""

    name = "variable"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Take a name and a value."""
        if isinstance(value, tuple):
            return value
        name, equals, content = value.partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is no variable; give NAME=VALUE.", param, ctx)
        return name, content


_CONNECT_TIMEOUT = click.option(
    "--connect-timeout",
    type=Seconds(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to connect and be greeted in.",
)


def _given(ctx: click.Context, names: dict[str, str]) -> str:
    """Find the first option of some that stands on the command line; empty for none."""
    typed = click.core.ParameterSource.COMMANDLINE
    return next((names[n] for n in names if ctx.get_parameter_source(n) is typed), "")


def _server(
    address: str, files: TrustFiles | None, user: str, tokenFile: str, timeout: float
) -> Server:
    from twisted_netsuite.cli.execnative import Server
    from twisted_netsuite.cli.login import readLogin

    return Server(address, files, readLogin(user, tokenFile), timeout)


def _run(main: Callable[[Any], Any]) -> NoReturn:
    """Run a command on the reactor, with all standard streams open."""
    from twisted_netsuite.cli.streams import holdStandard

    holdStandard()
    from twisted_netsuite.cli.run import run

    run(main)


@click.command("exec", cls=_ExecCommand)
@click.argument("words", metavar="ADDRESS -- ARGV...", nargs=-1)
@click.option(
    "--dialect",
    type=click.Choice(["int32", "raw", "length", "header"]),
    default="int32",
    show_default=True,
    help="What the server speaks.",
)
@click.option(
    "-t", "--tty", "terminal", is_flag=True, help="Give it a terminal, and this one; means -i."
)
@click.option("-i", "--stdin", is_flag=True, help="Give it standard input; else that is empty.")
@click.option(
    "--env", metavar="NAME=VALUE", type=_Variable(), multiple=True, help="Set a variable."
)
@click.option("--cwd", metavar="DIR", help="Run it there.")
@click.option("--as", "account", metavar="NAME", help="Run it as that account of the server.")
@click.option("--shell", is_flag=True, help="Let the server's shell read ARGV, joined by spaces.")
@click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    metavar="SPAN",
    help="After so long it is ended, as 90 or 10m; in a classic dialect, how long to wait for an "
    "answer (60).",
)
@click.option("--detach", is_flag=True, help="Start it, print its ID, and leave.")
@click.option(
    "--on-disconnect",
    type=_OnDisconnect(),
    metavar="kill|detach[:TTL]",
    default="kill",
    show_default="kill; with --key, detach",
    help="What becomes of it when the connection ends.",
)
@click.option(
    "--ttl",
    type=Span(LONGEST),
    metavar="SPAN",
    help="How long a detached one, or one with a key, is kept, as 90, 10m, 2h or 1d.",
)
@click.option(
    "--key",
    metavar="KEY",
    help="With the same KEY it is started once, and then found, for a day unless --ttl or the "
    "server says otherwise.",
)
@click.option(
    "--hosts",
    metavar="A,B,C|@FILE",
    multiple=True,
    help="Run it on all these ADDRESSes, once on each; may be given several times.",
)
@click.option(
    "-P",
    "--parallel",
    type=click.IntRange(1, MAX_PARALLEL),
    default=DEFAULT_PARALLEL,
    show_default=True,
    help="With --hosts: at so many at a time.",
)
@click.option(
    "--block/--prefix", help="With --hosts: one block for each, or its ADDRESS before each line."
)
@_CONNECT_TIMEOUT
@whoIAm
@tls
def execute(
    words: tuple[str, ...],
    dialect: str,
    files: TrustFiles | None,
    timeout: float | None,
    **options: Any,
) -> NoReturn:
    """Run ARGV on a server, or on many, with this program's output and exit status in its place.

    Options end where ARGV begins. No shell reads ARGV, unless there is --shell. Standard input is
    given to it only with -i or -t. With -t, ~. at the beginning of a line leaves. Ctrl-C interrupts
    it, a second Ctrl-C ends it, and a third leaves.

    With --key, it goes on when the connection ends, and the same call finds it again.

    The exit status is its own; 128+N when signal N ended it, 124 when it ran too long. With --hosts
    it is the number of hosts where it failed, and 101 for more than 100.

    In the dialects raw, length and header, ARGV is joined by spaces and read by the server's shell,
    and the other options of ARGV are not there. The exit status is the command's own in the header
    dialect, and otherwise 0 once an answer has come.
    """
    ctx = click.get_current_context()
    if dialect != "int32":
        _classic(ctx, words, dialect, files, timeout)
    if options["hosts"]:
        _many(ctx, words, files, timeout, options)
    if word := _given(ctx, {"block": "--block", "parallel": "--parallel"}):
        raise click.UsageError(f"{word} is for --hosts.", ctx)
    address, argv = _split(ctx, words)
    _one(ctx, address, argv, files, timeout, options)


def _split(ctx: click.Context, words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    if not words:
        raise click.UsageError("Missing argument 'ADDRESS'.", ctx)
    if len(words) == 1:
        raise click.UsageError("Missing argument 'ARGV...'.", ctx)
    return words[0], words[1:]


def _classic(
    ctx: click.Context,
    words: tuple[str, ...],
    dialect: str,
    files: TrustFiles | None,
    timeout: float | None,
) -> NoReturn:
    if word := _given(ctx, _NATIVE):
        raise click.UsageError(f"{word} is for --dialect int32.", ctx)
    address, argv = _split(ctx, words)
    from twisted_netsuite.cli.classicexec import runCommand

    line, seconds = " ".join(argv), CLASSIC_TIMEOUT if timeout is None else timeout
    _run(lambda reactor: runCommand(reactor, address, line, dialect, seconds, files))


def _wish(argv: tuple[str, ...], timeout: float | None, options: dict[str, Any]) -> Any:
    from twisted_netsuite.cli.execnative import Wish

    onDisconnect, ttl = options["on_disconnect"]
    if options["detach"]:
        onDisconnect = "detach"
    return Wish(
        argv=argv,
        shell=options["shell"],
        env=dict(options["env"]),
        cwd=options["cwd"],
        account=options["account"],
        timeLimit=timeout,
        onDisconnect=onDisconnect,
        ttl=options["ttl"] if ttl is None else ttl,
        key=options["key"],
        terminal=options["terminal"],
        stdin=options["stdin"] or options["terminal"],
    )


def _one(
    ctx: click.Context,
    address: str,
    argv: tuple[str, ...],
    files: TrustFiles | None,
    timeout: float | None,
    options: dict[str, Any],
) -> NoReturn:
    if options["key"] is not None and not _given(ctx, {"on_disconnect": "--on-disconnect"}):
        # Otherwise the command would end with its client, and the next one get just that end.
        options["on_disconnect"] = ("detach", None)
    if options["detach"]:
        if word := _given(ctx, {"terminal": "--tty", "stdin": "--stdin"}):
            raise click.UsageError(f"--detach leaves at once, so it takes no {word}.", ctx)
        if (
            _given(ctx, {"on_disconnect": "--on-disconnect"})
            and options["on_disconnect"][0] == "kill"
        ):
            raise click.UsageError("--detach leaves, so it takes no --on-disconnect kill.", ctx)
    elif (
        options["ttl"] is not None
        and options["key"] is None
        and options["on_disconnect"][0] == "kill"
    ):
        raise click.UsageError("--ttl is for --detach, --key and --on-disconnect detach.", ctx)
    if options["ttl"] is not None and options["on_disconnect"][1] is not None:
        raise click.UsageError("--ttl and detach:TTL say the same; leave one of them out.", ctx)
    wish = _wish(argv, timeout, options)
    server = _server(
        address, files, options["user"], options["token_file"], options["connect_timeout"]
    )
    from twisted_netsuite.cli import execnative

    if options["detach"]:
        _run(lambda reactor: execnative.detached(reactor, server, wish))
    _run(lambda reactor: execnative.execute(reactor, server, wish))


def _many(
    ctx: click.Context,
    words: tuple[str, ...],
    files: TrustFiles | None,
    timeout: float | None,
    options: dict[str, Any],
) -> NoReturn:
    if word := _given(ctx, _SINGLE):
        raise click.UsageError(f"{word} is for a single ADDRESS, not for --hosts.", ctx)
    if not words:
        raise click.UsageError("Missing argument 'ARGV...'.", ctx)
    from twisted_netsuite.cli.exechosts import readHosts, runOnHosts

    try:
        addresses = readHosts(*options["hosts"])
    except ConfigurationError as error:
        raise click.UsageError(error.sentence, ctx) from error
    servers = [
        _server(each, files, options["user"], options["token_file"], options["connect_timeout"])
        for each in addresses
    ]
    wish, parallel, blocks = _wish(words, timeout, options), options["parallel"], options["block"]
    _run(lambda reactor: runOnHosts(reactor, servers, wish, parallel=parallel, blocks=blocks))


def _options(command: Any) -> Any:
    """Add what every command about running ones takes."""
    return click.argument("address")(_CONNECT_TIMEOUT(whoIAm(tls(command))))


@click.command()
@_options
@click.option("--json", "asJson", is_flag=True, help="Print JSON.")
def ps(
    address: str,
    asJson: bool,
    files: TrustFiles | None,
    user: str,
    token_file: str,
    connect_timeout: float,
) -> NoReturn:
    """List your commands that run, or have ended and are kept."""
    from twisted_netsuite.cli.execnative import listCommands

    server = _server(address, files, user, token_file, connect_timeout)
    _run(lambda reactor: listCommands(reactor, server, asJson=asJson))


@click.command()
@_options
@click.argument("id")
@click.option("-t", "--tty", "raw", is_flag=True, help="Be its terminal again; means -i.")
@click.option("-i", "--stdin", is_flag=True, help="Give it standard input.")
@click.option(
    "--from-start", is_flag=True, help="Print all of its output, not just what nobody has had."
)
def attach(
    address: str,
    id: str,
    raw: bool,
    stdin: bool,
    from_start: bool,
    files: TrustFiles | None,
    user: str,
    token_file: str,
    connect_timeout: float,
) -> NoReturn:
    """Go on with a detached command, at the byte where its last client has stopped.

    The exit status is the command's own. Who leaves, by ~. with -t or by a signal, leaves it
    running; Ctrl-C interrupts it.
    """
    from twisted_netsuite.cli import execnative

    server = _server(address, files, user, token_file, connect_timeout)
    _run(
        lambda reactor: execnative.attach(
            reactor, server, id, stdin=stdin or raw, raw=raw, fromStart=from_start
        )
    )


@click.command()
@_options
@click.argument("id")
@click.option(
    "--signal",
    "name",
    metavar="NAME",
    help="Send this, as HUP or 1; without, it is ended for good.",
)
def kill(
    address: str,
    id: str,
    name: str | None,
    files: TrustFiles | None,
    user: str,
    token_file: str,
    connect_timeout: float,
) -> NoReturn:
    """End a command by TERM, and soon after by KILL, and wait for that; or send it a signal.

    One that has ended is forgotten: its key, and what of its output nobody has had.
    """
    from twisted_netsuite.cli import execnative

    server = _server(address, files, user, token_file, connect_timeout)
    word = None if name is None else _signal(name)
    _run(lambda reactor: execnative.kill(reactor, server, id, word))


def _signal(text: str) -> str:
    """Write a signal, which may be a number of this system, by its name."""
    if not text.isdecimal():
        return text.upper().removeprefix("SIG")
    try:
        return signal.Signals(int(text)).name.removeprefix("SIG")
    except ValueError:
        raise click.UsageError(f"{text} is the number of no signal; give a name, as HUP.") from None


execute.others.update(ps=ps, attach=attach, kill=kill)
