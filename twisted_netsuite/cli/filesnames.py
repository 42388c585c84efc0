"""
C{netsuite ls}, C{stat}, C{rm}, C{mv} and C{mkdir}: what they take. What they do is in
L{cli.fileslook}.
"""

from __future__ import annotations

import os
from typing import NoReturn

import click

from twisted_netsuite.cli.filesoptions import JSON, YES, Reach, reaching, runNow
from twisted_netsuite.cli.filesplaces import Remote, requireRemote


# Who types -lh wants sizes that are easy to read, and no help.
@click.command(context_settings={"help_option_names": ["--help"]})
@click.argument("place", metavar="ADDRESS:/REMOTE")
@click.option("-l", "long", is_flag=True, help="Print mode, size and time, too.")
@click.option("-h", "--human", is_flag=True, help="Print sizes with units: 1.5 MiB.")
@click.option("-a", "hidden", is_flag=True, help="Print names that begin with a dot, too.")
@click.option("-0", "--zero", is_flag=True, help="End each line with a NUL byte, for programs.")
@JSON
@reaching
def ls(
    place: str,
    long: bool,
    human: bool,
    hidden: bool,
    zero: bool,
    as_json: bool,
    reach: Reach,
) -> NoReturn:
    """Print what is in a directory, by name.

    On a terminal, what could control it is replaced in names; elsewhere they are printed as they
    are.

    \b
    netsuite ls -l 127.0.0.1:7021:/photos
    """
    remote = requireRemote(place, "directory")
    if as_json and (long or zero):
        raise click.UsageError("--json has all of it; give it without -l and -0.")
    if human and not long:
        raise click.UsageError("-h is for -l; --help tells what there is.")
    from twisted_netsuite.cli.fileslook import listFiles

    server = reach.server(remote)
    runNow(
        lambda reactor: listFiles(
            reactor,
            server,
            remote,
            long=long,
            human=human,
            hidden=hidden,
            zero=zero,
            asJson=as_json,
        )
    )


@click.command()
@click.argument("place", metavar="ADDRESS:/REMOTE")
@click.option("--hash", "digest", is_flag=True, help="Let the server digest the file, too.")
@JSON
@reaching
def stat(place: str, digest: bool, as_json: bool, reach: Reach) -> NoReturn:
    """Print what is known of a file or directory.

    The digest is BLAKE3, for a file of up to 1 MiB that which b3sum prints.

    \b
    netsuite stat --hash 127.0.0.1:7021:/big.iso
    """
    remote = requireRemote(place, "place")
    from twisted_netsuite.cli.fileslook import tellOf

    server = reach.server(remote)
    runNow(lambda reactor: tellOf(reactor, server, remote, digest=digest, asJson=as_json))


@click.command()
@click.argument("place", metavar="ADDRESS:/REMOTE")
@click.option("-r", "--recursive", is_flag=True, help="Remove all below it, too; asks before.")
@YES
@reaching
def rm(place: str, recursive: bool, yes: bool, reach: Reach) -> NoReturn:
    """Remove a file, or an empty directory.

    \b
    netsuite rm 127.0.0.1:7021:/notes.txt
    netsuite rm -r --yes 127.0.0.1:7021:/photos
    """
    remote = requireRemote(place, "place")
    if yes and not recursive:
        raise click.UsageError("--yes is for -r.")
    from twisted_netsuite.cli.fileslook import remove

    server = reach.server(remote)
    runNow(lambda reactor: remove(reactor, server, remote, recursive=recursive, yes=yes))


@click.command()
@click.argument("place", metavar="ADDRESS:/REMOTE")
@click.argument("to", metavar="/NAME")
@click.option("--no-clobber", is_flag=True, help="Replace no file.")
@reaching
def mv(place: str, to: str, no_clobber: bool, reach: Reach) -> NoReturn:
    """Give a file or directory another name at the same server.

    With a slash at its end, NAME is the directory that it goes to.

    \b
    netsuite mv 127.0.0.1:7021:/notes.txt /old/notes.txt
    """
    remote = requireRemote(place, "place")
    if to.startswith("/"):
        target = Remote(remote.address, os.fsencode(to))
    else:
        target = requireRemote(to, "name")
    if target.address != remote.address:
        raise click.UsageError(
            "Both names have to be at the same server; get the file, and put it."
        )
    from twisted_netsuite.cli.fileslook import rename

    server = reach.server(remote)
    runNow(lambda reactor: rename(reactor, server, remote, target, clobber=not no_clobber))


@click.command()
@click.argument("place", metavar="ADDRESS:/REMOTE")
@click.option("-p", "--parents", is_flag=True, help="Make those above it, too.")
@reaching
def mkdir(place: str, parents: bool, reach: Reach) -> NoReturn:
    """Make a directory; one that is there is left as it is.

    \b
    netsuite mkdir -p 127.0.0.1:7021:/photos/2026
    """
    remote = requireRemote(place, "place")
    from twisted_netsuite.cli.fileslook import makeDirectory

    server = reach.server(remote)
    runNow(lambda reactor: makeDirectory(reactor, server, remote, parents=parents))
