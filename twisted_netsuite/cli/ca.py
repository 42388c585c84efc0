"""
C{netsuite ca}: a certificate authority in a directory, made and used without a reactor.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from twisted_netsuite.errors import ConfigurationError, NetsuiteError
from twisted_netsuite.wire.text import cleanText

if TYPE_CHECKING:
    from pathlib import Path

    from twisted_netsuite.trust.ca import Authority
    from twisted_netsuite.trust.issued import Issued

#: Why a certificate of a server or a client is revoked, in the words of RFC 5280.
REASONS = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)

#: From how many days before its end on a certificate is said to expire: time for a monthly look.
SOON_DAYS = 30

_REPLACED = (
    "The CA before is kept in {}, for list and revoke; its bundles are no use with the new one: "
    "issue them again, with --force."
)

_DIRECTORY = click.argument("directory", metavar="DIR")


def _days(default: int) -> Callable[[Any], Any]:
    return click.option(
        "--days",
        type=click.IntRange(1, 36500),
        default=default,
        show_default=True,
        help="How long it is valid.",
    )


@click.group()
def ca() -> None:
    """Make a certificate authority, and certificates for servers and clients.

    DIR is the authority's directory. Whoever can read DIR/ca-key.pem can be anybody, so keep DIR on
    one machine and copy to the others only what they need: a party's own bundle, ca.pem, and, for
    servers and for clients that look for revoked ones, crl.pem.
    """


@ca.command()
@_DIRECTORY
@click.option("--name", default="", help="What the CA is called; by default a name of its own.")
@_days(3650)
@click.option(
    "--server", "servers", metavar="NAME", multiple=True, help="Issue one for this server, too."
)
@click.option(
    "--client", "clients", metavar="NAME", multiple=True, help="Issue one for this client, too."
)
@click.option("--force", is_flag=True, help="Replace the CA in DIR; it is kept in DIR/replaced.")
def init(
    directory: str,
    name: str,
    days: int,
    servers: tuple[str, ...],
    clients: tuple[str, ...],
    force: bool,
) -> None:
    """Make a CA in DIR, and perhaps its first certificates.

    --server and --client may be given many times; netsuite ca issue makes more, and tells more of
    each.
    """
    from twisted_netsuite.trust import party
    from twisted_netsuite.trust.ca import Authority

    # What cannot be issued is found out before anything is made.
    for each in servers:
        party.server(each, ())
    for each in clients:
        party.client(each, ())
    authority = Authority.create(directory, name=name, days=days, force=force)
    issue = shlex.join(["netsuite", "ca", "issue", directory])
    _print(
        f"The CA {authority.name!r} is valid until {_day(_end(authority))}.",
        f"  {authority.certificatePath}: its certificate, for every server and client",
        f"  {authority.crlPath}: what it has revoked, for every server",
        f"  {authority.keyPath}: its private key, for nobody else",
        *([_REPLACED.format(authority.replaced)] if authority.replaced else []),
    )
    if not servers and not clients:
        _print(f"Next: {issue} --server localhost", f"      {issue} --client anna")
    for each in servers:
        path = authority.issueServer(each, force=force)
        _printIssued(authority, directory, path, renewed=force)
    for each in clients:
        path = authority.issueClient(each, force=force)
        _printIssued(authority, directory, path, renewed=force)


@ca.command()
@_DIRECTORY
@click.option("--server", metavar="NAME", help="For a server: its DNS name or IP address.")
@click.option("--client", metavar="NAME", help="For a client: the name that services know it by.")
@click.option(
    "--san", "sans", metavar="NAME", multiple=True, help="Another DNS name or address of a server."
)
@click.option("--role", "roles", metavar="ROLE", multiple=True, help="A role of a client.")
@_days(365)
@click.option("--force", is_flag=True, help="Replace the bundle that is there for this name.")
def issue(
    directory: str,
    server: str | None,
    client: str | None,
    sans: tuple[str, ...],
    roles: tuple[str, ...],
    days: int,
    force: bool,
) -> None:
    """Make a key and a certificate for one server or client, as one file in DIR.

    It is called NAME.pem. --san and --role may be given many times; with --force and without them,
    those of the newest certificate of this name are kept (--role '' keeps none). No certificate
    outlives its CA.
    """
    if (server is None) == (client is None):
        raise click.UsageError("Give one of --server and --client.")
    if client is not None and sans:
        raise click.UsageError("--san is for a server; a client has --role.")
    if server is not None and roles:
        raise click.UsageError("--role is for a client; a server has --san.")
    from twisted_netsuite.trust.ca import Authority

    authority = Authority.open(directory)
    if server is not None:
        path = authority.issueServer(server, sans=sans or None, days=days, force=force)
    else:
        assert client is not None
        given = () if roles == ("",) else roles or None
        path = authority.issueClient(client, roles=given, days=days, force=force)
    _printIssued(authority, directory, path, renewed=force and not sans and not roles)


def _printIssued(authority: Authority, directory: str, path: Path, renewed: bool) -> None:
    from twisted_netsuite.trust.issued import issuedIn

    made = issuedIn(path)
    until = f"until {_day(made.notAfter)}"
    if made.notAfter == _end(authority):
        until += ", when its CA ends"
    _print(
        f"The certificate of {_who(made)} is valid {until}.",
        f"  {path}: private key and certificate, for this {made.kind} alone",
        *(_kept(made) if renewed else []),
        *_others(authority, directory, made),
        f"Next: {_next(authority, path, made)}",
    )


def _kept(made: Issued) -> Iterator[str]:
    """Say what a certificate has that nobody asked for."""
    if names := made.roles or made.sans[1:]:
        option = "--role" if made.roles else "--san"
        yield f"Kept from the one before, as no {option} was given: {', '.join(names)}"


def _who(made: Issued) -> str:
    more = made.roles or made.sans[1:]
    return f"the {made.kind} {made.name}" + (f" ({', '.join(more)})" if more else "")


def _others(authority: Authority, directory: str, made: Issued) -> Iterator[str]:
    now = datetime.now(UTC)
    issued: list[Issued] = []
    # A hint: what is wrong with the index is no reason to say that the issue failed.
    with suppress(NetsuiteError):
        issued = authority.issued()
    for each in issued:
        same = each.name == made.name and each.serial != made.serial
        if same and each.state(now) == "valid":
            revoke = shlex.join(["netsuite", "ca", "revoke", directory, "--serial", each.hexSerial])
            yield f"An older one is valid until {_day(each.notAfter)}; to end it: {revoke}"


def _next(authority: Authority, path: object, made: Issued) -> str:
    from twisted.internet.endpoints import quoteStringArgument

    own = authority.certificatePath
    if made.kind == "client":
        words = ["netsuite", "echo", "--cert", str(path), "--ca", str(own)]
        return shlex.join([*words, "localhost:7007", "hello"])
    files = {"cert": path, "clientCA": own, "crl": authority.crlPath}
    listen = "".join(f":{key}={quoteStringArgument(str(file))}" for key, file in files.items())
    return shlex.join(["twistd", "-n", "netsuite-echo", "--listen", f"mtls:7007{listen}"])


@ca.command("list")
@_DIRECTORY
@click.option("--json", "asJSON", is_flag=True, help="As a JSON array.")
def list_(directory: str, asJSON: bool) -> None:
    """List every certificate that the CA in DIR has issued, and its state."""
    from twisted_netsuite.trust.ca import Authority

    authority = Authority.open(directory)
    now = datetime.now(UTC)
    issued = authority.issued()
    if asJSON:
        _print(*json.dumps([_record(each, now) for each in issued], indent=2).splitlines())
    else:
        _print(*_table([_HEAD, *(_row(each, now) for each in issued)]))
    if (left := (_end(authority) - now).days) <= SOON_DAYS:
        _note(f"The CA itself {_expiry(left)}; make another with netsuite ca init --force.")


_HEAD = ("SERIAL", "KIND", "NAME", "ROLES", "SANS", "NOT AFTER", "STATE")


def _row(each: Issued, now: datetime) -> tuple[str, ...]:
    state: str = each.state(now)
    if state == "valid" and each.daysLeft(now) <= SOON_DAYS:
        state = _expiry(each.daysLeft(now))
    elif each.revoked is not None:
        state = f"revoked {_day(each.revoked)}"
    roles, sans = (",".join(names) or "-" for names in (each.roles, each.sans))
    return each.hexSerial, each.kind, each.name, roles, sans, _day(each.notAfter), state


def _expiry(days: int) -> str:
    if days < 0:
        return "expired"
    return "expires within a day" if days == 0 else f"expires in {days} day{'s'[: days > 1]}"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _record(each: Issued, now: datetime) -> dict[str, object]:
    return {
        "serial": each.hexSerial,
        "kind": each.kind,
        "name": each.name,
        "roles": each.roles,
        "sans": each.sans,
        "notBefore": each.notBefore.isoformat(),
        "notAfter": each.notAfter.isoformat(),
        "daysLeft": each.daysLeft(now),
        "state": each.state(now),
        "revoked": each.revoked.isoformat() if each.revoked else None,
        "reason": each.reason or None,
    }


_FOR_CLIENTS = (
    "      Bring it to every client, too: netsuite's commands take it as --crl, and mtls: as crl=."
)


def _reason(context: click.Context, option: click.Parameter, given: str) -> str:
    """Take a reason in any case; click's own choice shows such words in small letters."""
    for reason in REASONS:
        if reason.lower() == given.lower():
            return reason
    raise click.BadParameter(f"{given!r} is not one of {', '.join(REASONS)}.", context, option)


@ca.command()
@_DIRECTORY
@click.argument("name", required=False)
@click.option("--serial", metavar="HEX", help="Only the certificate with this serial number.")
@click.option(
    "--reason",
    callback=_reason,
    metavar="REASON",
    default="unspecified",
    show_default=True,
    help=f"Why: {', '.join(REASONS)}.",
)
def revoke(directory: str, name: str | None, serial: str | None, reason: str) -> None:
    """Revoke every certificate of NAME that has not expired, or only one.

    Servers know of it once they have the new DIR/crl.pem and a SIGHUP, clients once they have it.
    """
    if (name is None) == (serial is None):
        raise click.UsageError("Give one of NAME and --serial.")
    number = _number(serial) if serial is not None else None
    from twisted_netsuite.trust.ca import Authority

    authority = Authority.open(directory)
    revoked = authority.revoke(name or "", serial=number, reason=reason)
    if not revoked:
        _print("Nothing to do: what there is has been revoked before, or has expired.")
        return
    count = f"{len(revoked)} certificate{'s'[: len(revoked) > 1]}"
    _print(
        f"Revoked {count}:",
        *(f"  {each.hexSerial}: {_who(each)}" for each in revoked),
        f"Next: bring {authority.crlPath} to every server, and send each a SIGHUP.",
        *([_FOR_CLIENTS] if any(each.kind == "server" for each in revoked) else []),
    )


def _number(serial: str) -> int:
    try:
        # As list prints it, and as openssl does.
        return int(serial.replace(":", ""), 16)
    except ValueError as error:
        raise ConfigurationError(
            f"The serial number {serial!r} is not hexadecimal; see netsuite ca list."
        ) from error


def _end(authority: Authority) -> datetime:
    return authority.certificate.not_valid_after_utc


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _print(*lines: str) -> None:
    from twisted_netsuite.cli.run import writeOut

    writeOut("".join(f"{cleanText(line)}\n" for line in lines).encode())


def _note(sentence: str) -> None:
    click.echo(cleanText(f"netsuite: {sentence}"), err=True)
