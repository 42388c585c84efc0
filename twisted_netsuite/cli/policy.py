"""
C{netsuite policy}: what is wrong with a policy file, and what it decides and why.

The decisions themselves are those that the services ask for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, cast

import click

from twisted_netsuite.errors import Denied, NetsuiteError
from twisted_netsuite.wire.text import cleanText

if TYPE_CHECKING:
    from twisted_netsuite.trust.decisions import Decision, Policy
    from twisted_netsuite.trust.identity import Identity

T = TypeVar("T")


@click.group()
def policy() -> None:
    """Check a policy file, and explain what it decides."""


@policy.command()
@click.argument("file")
def check(file: str) -> None:
    """Say what is wrong in FILE.

    Each fault is FILE:LINE and a sentence on stderr, and the status is then 125. What is right but
    suspicious is told on standard output, and what no service of this version asks about: they
    change no status.
    """
    from twisted_netsuite.trust.policy import faultLine, loadText
    from twisted_netsuite.trust.reading import readPolicy
    from twisted_netsuite.trust.review import review, unasked

    found, faults = readPolicy(_orExit(lambda: loadText(file, ours=False)), file)
    for fault in faults:
        click.echo(faultLine(file, fault), err=True)
    if faults:
        raise SystemExit(NetsuiteError.exitStatus)
    for where, sentence in review(found):
        click.echo(f"{where}: warning: {cleanText(sentence)}")
    if owner := _otherOwner(file):
        click.echo(f"{cleanText(file)}: warning: {owner}")
    if idle := unasked(found):
        click.echo(f"note: no service of this version asks about rules for {', '.join(idle)}.")
    click.echo(f"{cleanText(file)} is right: {_counted(found)}.")


def _otherOwner(file: str) -> str:
    uid = os.stat(file).st_uid
    if uid in (0, os.geteuid()):
        return ""
    return f"it belongs to uid {uid}; only a service that runs as that account will take it."


def _counted(found: Policy) -> str:
    rules = sum(len(each) for role in found.roles.values() for each in role.rules.values())
    counts = ((len(found.roles), "role"), (rules, "rule"), (len(found.grants), "identity"))
    words = [f"{count} {word if count == 1 else _PLURALS[word]}" for count, word in counts]
    return f"{words[0]}, {words[1]} and {words[2]}"


_PLURALS = {"role": "roles", "rule": "rules", "identity": "identities"}


def _orExit(work: Callable[[], T]) -> T:
    """Do something, and end the program with the sentence of its failure."""
    from twisted_netsuite.cli.run import say

    try:
        return work()
    except NetsuiteError as error:
        say(error.sentence)
        raise SystemExit(error.exitStatus) from error


@policy.command()
@click.argument("file")
@click.argument("service", type=click.Choice(["exec", "files", "chat", "proxy"]))
@click.argument("request", nargs=-1, required=True)
@click.option("--as", "who", required=True, help="Who asks: cert:NAME, unix:NAME, token:NAME ...")
@click.option("--role", "roles", multiple=True, help="A role that the certificate gives.")
@click.option("--shell", is_flag=True, help="exec: the request is a command line for a shell.")
@click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="exec: a variable that is set.")
@click.option("--cwd", help="exec: where to run.")
@click.option("--user", help="exec: as whom to run.")
@click.option("--pty", is_flag=True, help="exec: with a terminal.")
@click.option("--detach", is_flag=True, help="exec: to outlive the connection.")
@click.option("--resolved", multiple=True, metavar="ADDRESS", help="proxy: an address of HOST.")
def explain(
    file: str,
    service: str,
    request: tuple[str, ...],
    who: str,
    roles: tuple[str, ...],
    **options: Any,
) -> NoReturn:
    """Say whether REQUEST is allowed by FILE, and which rule decides.

    \b
    netsuite policy explain FILE --as NAME exec -- /usr/bin/git log
    netsuite policy explain FILE --as NAME files read|write|delete PATH
    netsuite policy explain FILE --as NAME chat name|room TEXT
    netsuite policy explain FILE --as NAME proxy HOST:PORT

    The status is 0 when it is allowed and 126 when it is denied. A NAME alone is that of a
    certificate. Services of this version ask about exec, files and proxy alone; of their classic
    dialects exec about --shell, and files about read.
    """
    unused = [name for name, value in options.items() if value and name not in _OPTIONS[service]]
    if unused:
        raise click.UsageError(f"--{unused[0]} is not for {service}.")
    identity = _identity(who, roles)
    from twisted_netsuite.trust.policy import loadPolicy

    found = _orExit(lambda: loadPolicy(file, ours=False))
    decision = _ASKED[service](found, identity, request, options)
    if str(identity) != who:
        click.echo(f"{cleanText(who)} is taken for {identity}.")
    for line in _told(decision, found, identity):
        click.echo(cleanText(line))
    if not _ASKED_BY_SERVICES[service](request, options):
        click.echo("  note:  no service of this version asks this")
    raise SystemExit(0 if decision.allowed else Denied.exitStatus)


_OPTIONS = {
    "exec": ("shell", "env", "cwd", "user", "pty", "detach"),
    "files": (),
    "chat": (),
    "proxy": ("resolved",),
}


def _identity(who: str, roles: Sequence[str]) -> Identity:
    """Read an identity as a policy writes it, or the name of a certificate."""
    from twisted_netsuite.trust.identity import ANONYMOUS, NAME, Identity

    if who == "anonymous" and not roles:
        return ANONYMOUS
    method, colon, name = who.partition(":")
    if not colon:
        method, name = "cert", who
    plain = NAME.fullmatch(name) or (method == "unix" and re.fullmatch(r"#\d+", name))
    if method not in ("cert", "unix", "token") or not plain:
        raise click.BadParameter(
            f"{who!r} is nobody; give cert:NAME, unix:NAME, token:NAME or anonymous.",
            param_hint="'--as'",
        )
    if roles and method != "cert":
        raise click.BadParameter("only a certificate gives roles.", param_hint="'--role'")
    return Identity(cast(Literal["cert", "unix", "token"], method), name, frozenset(roles))


def _askExec(
    policy: Policy, identity: Identity, request: Sequence[str], options: Mapping[str, Any]
) -> Decision:
    from twisted_netsuite.trust.requests import ExecRequest

    given = {name: options[name] for name in _OPTIONS["exec"]}
    # No rule is about values, and who asks about a command may have it with these.
    given["env"] = [name.partition("=")[0] for name in options["env"]]

    def ask(*words: str) -> Decision:
        return policy.exec(identity, ExecRequest([os.fsencode(word) for word in words], **given))

    if options["shell"]:
        return ask(" ".join(request))
    program, *rest = request
    places = _places(program)
    if not places:
        return ask(*request)
    # What a service runs, or else tells its log of, that has this PATH.
    answers = [(place, ask(place, *rest)) for place in places]
    return min(answers, key=lambda answer: _rank(*answer))[1]


def _places(program: str) -> list[str]:
    """Tell the whole paths that a name without a slash can stand for."""
    if "/" in program or program in ("", ".", ".."):
        return []
    directories = os.environ.get("PATH", os.defpath).split(":")
    return [os.path.join(each, program) for each in directories if each.startswith("/")]


def _rank(place: str, decision: Decision) -> tuple[bool, bool, bool, bool]:
    runs = decision.allowed and os.access(place, os.X_OK)
    return not decision.allowed, not runs, decision.rule is None, not decision.near


def _askFiles(
    policy: Policy, identity: Identity, request: Sequence[str], options: Mapping[str, Any]
) -> Decision:
    action, path = _two(request, ("read", "write", "delete"), "PATH")
    return policy.files(identity, cast(Any, action), os.fsencode(path))


def _askChat(
    policy: Policy, identity: Identity, request: Sequence[str], options: Mapping[str, Any]
) -> Decision:
    subject, text = _two(request, ("name", "room"), "TEXT")
    return policy.chat(identity, cast(Any, subject), text)


def _two(request: Sequence[str], first: Sequence[str], second: str) -> tuple[str, str]:
    if len(request) != 2 or request[0] not in first:
        raise click.UsageError(f"Give one of {', '.join(first)}, and one {second}.")
    return request[0], request[1]


def _askProxy(
    policy: Policy, identity: Identity, request: Sequence[str], options: Mapping[str, Any]
) -> Decision:
    found = re.fullmatch(r"(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})", request[0], re.ASCII)
    if len(request) != 1 or found is None:
        raise click.UsageError("Give one HOST:PORT, with brackets around an IPv6 address.")
    return policy.proxy(identity, found[1] or found[2], int(found[3]), options["resolved"])


#: Whether a service of this version asks such a thing.
_ASKED_BY_SERVICES: dict[str, Callable[[Sequence[str], Mapping[str, Any]], bool]] = {
    "exec": lambda request, options: True,
    "files": lambda request, options: True,
    "chat": lambda request, options: False,
    "proxy": lambda request, options: True,
}

_ASKED = {"exec": _askExec, "files": _askFiles, "chat": _askChat, "proxy": _askProxy}


def _told(decision: Decision, policy: Policy, identity: Identity) -> Iterator[str]:
    """Tell a decision and what led to it, line by line."""
    yield f"{'allowed' if decision.allowed else 'denied'}: {decision.reason}"
    if decision.rule is not None:
        yield f"  rule:  {decision.source}: {decision.text}"
        chain = ", which includes ".join(decision.chain)
        yield f"  role:  {chain}, given by {decision.grant}"
        if decision.durable:
            yield "  audit: the line about it is on the disk before it is done"
        return
    for role, grant in policy.rolesOf(identity).items():
        lost = "" if role in policy.roles else ", but is not in this policy"
        yield f"  role:  {role}, given by {grant}{lost}"
