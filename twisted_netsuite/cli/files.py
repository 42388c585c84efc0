"""
C{netsuite get}, C{put} and C{sync}: what they take. What they do is in L{cli.filesmove} and
L{cli.filestree}; the classic dialect of C{get} in L{cli.get}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from twisted_netsuite.cli.filesnames import ls, mkdir, mv, rm, stat
from twisted_netsuite.cli.filesoptions import (
    JSON,
    PRESERVE,
    YES,
    Digest,
    Reach,
    given,
    moving,
    reaching,
    runNow,
)
from twisted_netsuite.cli.filesplaces import remoteOf, requireRemote

if TYPE_CHECKING:
    from twisted_netsuite.cli.filesmanner import Manner

#: Dialects of get.
_CLASSIC, _NATIVE = "get", "native"

#: What C{get} has only in the native dialect, by the name of the parameter.
_NATIVE_ONLY = {
    "recursive": "-r",
    "preserve": "--preserve",
    "no_clobber": "--no-clobber",
    "durable": "--durable",
    "no_resume": "--no-resume",
    "connections": "-j",
    "retries": "--retries",
    "rate": "--limit-rate",
    "quiet": "--quiet",
    "user": "--user",
    "token_file": "--token-file",
    "exclude": "--exclude",
    "include": "--include",
    "dry_run": "--dry-run",
    "as_json": "--json",
}


class _RulesCommand(click.Command):
    """A command that knows in which order C{--exclude} and C{--include} were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the order, which is lost where options of one name are put together."""
        values, _, order = self.make_parser(ctx).parse_args(list(args))
        given = {name: iter(values.get(name) or ()) for name in ("exclude", "include")}
        ctx.meta[_RULES] = tuple(
            (each.name == "include", os.fsencode(next(given[each.name])))
            for each in order
            if each.name in given
        )
        return super().parse_args(ctx, args)


_RULES = f"{__name__}.rules"

#: What C{get} and C{put} have only for trees, by the name of the parameter.
_TREES_ONLY = {
    "exclude": "--exclude",
    "include": "--include",
    "dry_run": "--dry-run",
    "as_json": "--json",
}


def _telling(command: Any) -> Any:
    """
    Add what says which names of trees are taken, and who is told what.

    @param command: a L{_RulesCommand} before it is one.
    @return: the same.
    """
    for option in (
        click.option(
            "--include",
            metavar="PATTERN",
            multiple=True,
            help="But take these, if it is given before.",
        ),
        click.option(
            "--exclude",
            metavar="PATTERN",
            multiple=True,
            help="Leave out names, such as '*.o' or /tmp/.",
        ),
        JSON,
        click.option(
            "-n", "--dry-run", is_flag=True, help="Tell what would be done, and do nothing."
        ),
    ):
        command = option(command)
    return command


def _rules() -> tuple[tuple[bool, bytes], ...]:
    found: tuple[tuple[bool, bytes], ...] = click.get_current_context().meta[_RULES]
    return found


def _requireFor(recursive: bool) -> None:
    """Refuse what is for trees alone, or for files alone, where there are others."""
    if recursive:
        _refuseNoResume()
    elif word := given(_TREES_ONLY):
        raise click.UsageError(f"{word} is for trees, with -r.")


def _refuseNoResume() -> None:
    if given({"no_resume": "--no-resume"}):
        raise click.UsageError("--no-resume is for files; trees are always gone on with.")


@click.command(cls=_RulesCommand)
@click.argument("source", metavar="ADDRESS:/REMOTE")
@click.argument("local", default="")
@click.option(
    "--dialect",
    type=click.Choice([_NATIVE, _CLASSIC]),
    default=_NATIVE,
    show_default=True,
    help="What the server speaks.",
)
@click.option("-r", "--recursive", is_flag=True, help="Get a directory and all below it.")
@_telling
@PRESERVE
@moving
@reaching
def get(
    source: str,
    local: str,
    dialect: str,
    recursive: bool,
    manner: Callable[[], Manner],
    reach: Reach,
    dry_run: bool,
    as_json: bool,
    **rules: tuple[str, ...],
) -> NoReturn:
    """Get a file, or a tree with -r.

    LOCAL is a file or a directory, by default this one; a dash is standard output. A file appears
    under its name only once it is whole and verified. What was broken off is gone on with by the
    same command.

    With -r, REMOTE goes into LOCAL under its own name, and with a slash at its end what is in it;
    files of the same size and time are left as they are. --exclude, --include, --dry-run and --json
    are for that.

    \b
    netsuite get 127.0.0.1:7021:/big.iso
    netsuite get -r 127.0.0.1:7021:/photos backup

    In the classic dialect, which the name get stands for, one file is got, and not verified.
    """
    if dialect == _CLASSIC:
        if word := given(_NATIVE_ONLY):
            raise click.UsageError(f"{word} is for --dialect {_NATIVE}.")
        from twisted_netsuite.cli.get import getFile
        from twisted_netsuite.cli.run import run

        run(lambda reactor: getFile(reactor, source, local, reach.timeout, reach.files))
    remote = requireRemote(source, "source")
    _requireFor(recursive)
    if recursive and local == "-":
        raise click.UsageError("A tree cannot be written to standard output.")
    from twisted_netsuite.cli import filesmove, filestree

    server, way = reach.server(remote), manner()
    if recursive:
        comparison = filestree.Comparison(dryRun=dry_run, json=as_json, rules=_rules())
        runNow(
            lambda reactor: filestree.getTree(
                reactor, server, remote, local, way, comparison=comparison
            )
        )
    runNow(lambda reactor: filesmove.get(reactor, server, remote, local, way))


@click.command(cls=_RulesCommand)
@click.argument("words", metavar="LOCAL... ADDRESS:/REMOTE", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="Put directories and all below them.")
@_telling
@PRESERVE
@click.option(
    "--if-unchanged",
    metavar="DIGEST",
    type=Digest(),
    help="Replace the file only if it still has this digest.",
)
@moving
@reaching
def put(
    words: tuple[str, ...],
    recursive: bool,
    manner: Callable[[], Manner],
    reach: Reach,
    dry_run: bool,
    as_json: bool,
    **rules: tuple[str, ...],
) -> NoReturn:
    """Put files, or trees with -r.

    REMOTE is the name that the file gets, or a directory for it: one that is there, or that is
    written with a slash at its end. LOCAL is a file; a dash is standard input, which is kept in a
    temporary file until it has ended. The server shows a file under its name only once it is whole
    and verified. What was broken off is gone on with by the same command.

    With -r, each LOCAL goes into REMOTE under its own name, and of one with a slash at its end
    what is in it; files of the same size and time are left as they are. --exclude, --include,
    --dry-run and --json are for that.

    \b
    netsuite put notes.txt 127.0.0.1:7021:/notes.txt
    netsuite put -r photos 127.0.0.1:7021:/backup
    pg_dump db | netsuite put - 127.0.0.1:7021:/db.sql
    """
    if len(words) < 2:
        raise click.UsageError("Give one LOCAL or more, and ADDRESS:/REMOTE.")
    *paths, last = words
    remote = requireRemote(last, "target")
    _requireFor(recursive)
    many = recursive or len(paths) > 1
    if many and "-" in paths:
        raise click.UsageError("Standard input is put alone, and without -r.")
    if many and given({"if_unchanged": "--if-unchanged"}):
        raise click.UsageError("--if-unchanged is for one file.")
    from twisted_netsuite.cli import filesmove, filestree

    server, way = reach.server(remote), manner()
    if recursive:
        comparison = filestree.Comparison(dryRun=dry_run, json=as_json, rules=_rules())
        runNow(
            lambda reactor: filestree.putTrees(
                reactor, server, paths, remote, way, comparison=comparison
            )
        )
    runNow(lambda reactor: filesmove.put(reactor, server, paths, remote, way))


@click.command(cls=_RulesCommand)
@click.argument("source")
@click.argument("target")
@click.option("--delete", is_flag=True, help="Remove what only TARGET has; asks before.")
@YES
@click.option("-c", "--checksum", is_flag=True, help="Compare contents, and not times.")
@_telling
@moving
@reaching
def sync(
    source: str,
    target: str,
    dry_run: bool,
    as_json: bool,
    manner: Callable[[], Manner],
    reach: Reach,
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    **compared: bool,
) -> NoReturn:
    """Make the directory TARGET as SOURCE is; one of them is ADDRESS:/REMOTE, and one is here.

    Files of the same size and time are left as they are. Modes and times are kept. Of the patterns
    the first that matches a name decides; what is left out is neither transferred nor removed.

    \b
    netsuite sync photos 127.0.0.1:7021:/photos
    netsuite sync 127.0.0.1:7021:/www www --delete --dry-run --exclude '*.tmp'

    The exit status is 23 when some of it failed, and 1 when nobody wanted to remove things.
    """
    remotes = remoteOf(source), remoteOf(target)
    remote = remotes[0] or remotes[1]
    if remote is None or all(remotes):
        raise click.UsageError(
            "One of SOURCE and TARGET has to be here, and one at a server, as ADDRESS:/REMOTE; a "
            "path here with ':/' in it begins with './'."
        )
    _refuseNoResume()
    if compared["yes"] and not compared["delete"]:
        raise click.UsageError("--yes is for --delete.")
    sending = remotes[0] is None
    from twisted_netsuite.cli.filestree import Comparison, syncTree

    comparison = Comparison(dryRun=dry_run, json=as_json, rules=_rules(), **compared)
    server, way = reach.server(remote), manner()
    local = source if sending else target
    runNow(
        lambda reactor: syncTree(
            reactor,
            server,
            remote,
            local,
            sending=sending,
            comparison=comparison,
            manner=way,
        )
    )


#: All of them, in the order in which a person meets them.
COMMANDS = (get, put, sync, ls, stat, rm, mv, mkdir)
