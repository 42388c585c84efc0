"""
What an operator allows without a policy file: words on the command line, made into a policy, so
that one way of deciding serves all.

Words are patterns as in the C{argv} of a policy file, with C{**} for its C{...}. What they allow,
they allow to everybody who can reach the service; without a terminal, at which many programs let
start others, as pagers do a shell.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.rexec.permit import unrunnable
from twisted_netsuite.trust.decisions import Grant, PlacedRule, Policy, Role
from twisted_netsuite.trust.patterns import AbsolutePath, VariableName, unusualPath
from twisted_netsuite.trust.reading import inline
from twisted_netsuite.trust.requests import asText, shown
from twisted_netsuite.trust.rules import ExecRule
from twisted_netsuite.trust.values import REST, Element, IdentityPattern
from twisted_netsuite.wire.text import cleanText

#: The role that everybody has by these options.
ROLE = "allow"

#: Stands for any more arguments, also none.
MORE = "**"

#: Everybody there is: each way of knowing somebody has a line of its own.
EVERYBODY = (*(f"{method}:*" for method in IdentityPattern.METHODS), "anonymous")

#: Variables that a client may set with C{--allow}: how a terminal, texts and times are written. No
#: program is known to run another one for their sake.
VARIABLES = ("TERM", "LANG", "LC_*")

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class FixedPolicy:
    """
    A policy that never changes.

    @ivar policy: the policy.
    """

    policy: Policy


def allowed(words: Sequence[str], path: Sequence[bytes], everything: bool = False) -> FixedPolicy:
    """
    Allow commands, always as the server's own user.

    @param words: for each command its program and what its arguments have to be, as one text; with
        none, nothing is allowed to anybody.
    @param path: the directories in which programs are looked for that are given by name, such as
        C{(b"/usr/bin", b"/bin")}; C{permit.ownPath} gives those of the server.
    @param everything: whether to allow every command instead, also lines for a shell, and to run
        anywhere. Variables such as PATH and LD_PRELOAD clients cannot set even so, as no wildcard
        stands for these; the program C{env} sets them where that is meant.
    @return: allows these to everybody, also to outlive the connection; everything also with a
        terminal.
    @raise ConfigurationError: when words cannot be used, or are of no effect beside everything.
    """
    if not everything:
        return _policy("--allow", [_placed(each, path) for each in words])
    if words:
        raise ConfigurationError(
            "--allow-any allows every command, and --allow some; leave one of them out."
        )
    return _policy("--allow-any", _anything())


def _anything() -> list[PlacedRule]:
    what = {"env": ["*"], "cwd": ["/**"], "pty": True, "detach": True}
    argv = ExecRule(
        argv=(Element(REST),),
        env=(VariableName("*"),),
        cwd=(AbsolutePath("/**"),),
        pty=True,
        detach=True,
    )
    shell = ExecRule(shell=True, env=argv.env, cwd=argv.cwd, pty=True, detach=True)  # noqa: S604
    texts = (inline({"argv": [REST], **what}), inline({"shell": True, **what}))
    return [
        PlacedRule(rule, ROLE, "--allow-any", text)
        for rule, text in zip((argv, shell), texts, strict=True)
    ]


def _policy(source: str, rules: list[PlacedRule]) -> FixedPolicy:
    grants = [Grant(IdentityPattern(text), (ROLE,), source) for text in EVERYBODY]
    return FixedPolicy(Policy(grants, [Role(ROLE, (), {"exec": rules}, source)]))


def _placed(words: str, path: Sequence[bytes]) -> PlacedRule:
    source = f"--allow {shown(words)!r}"
    try:
        name, *rest = shlex.split(words) or [""]
        patterns = [_program(name, path), *map(_argument, rest, range(len(rest), 0, -1))]
        argv = tuple(map(Element, patterns))
    except ValueError as error:
        raise ConfigurationError(f"{source} cannot be used: {_lower(error)}.") from error
    env = tuple(map(VariableName, VARIABLES))
    what = {"argv": patterns, "env": list(VARIABLES), "detach": True}
    rule = ExecRule(argv=argv, env=env, detach=True)
    return PlacedRule(rule, ROLE, source, cleanText(inline(what)))


def _lower(error: ValueError) -> str:
    # shlex begins its sentences with a capital.
    sentence = str(error)
    return f"{sentence[:1].lower()}{sentence[1:]}".removesuffix(".")


def _argument(word: str, left: int) -> str:
    """Turn a word into what stands for it in a policy file."""
    if word == REST:
        raise ValueError(f"{REST} is for policy files; write {MORE} for any more arguments")
    if MORE in word and word != MORE and "/" not in word:
        raise ValueError(f"{MORE} is a whole word or a whole part of a path; write * within one")
    if word != MORE:
        return word
    if left > 1:
        raise ValueError(f"{MORE} stands for any more arguments, so it can only be the last word")
    return REST


def _program(name: str, path: Sequence[bytes]) -> str:
    """Find the program, and write its path as a pattern."""
    if not name:
        raise ValueError("it names no program; write one, and what its arguments have to be")
    if name == MORE:
        raise ValueError("it names no program; --allow-any allows every command")
    if _WILD.search(name):
        raise ValueError(f"the program {shown(name)!r} has a wildcard; write it out")
    if "/" not in name:
        name = _found(name, path)
    elif why := unusualPath(name):
        raise ValueError(f"{shown(name)!r} names no program, as {why}; give its name or whole path")
    # A directory of the PATH may hold what is a wildcard elsewhere.
    return _WILD.sub(lambda found: f"[{found[0]}]", name)


def _found(name: str, path: Sequence[bytes]) -> str:
    if "\0" not in name and name not in (".", ".."):
        for directory in path:
            program = os.path.join(directory, os.fsencode(name))
            if not unrunnable(program):
                return asText(program)
    places = shown(asText(b":".join(path)))
    raise ValueError(f"there is no program {shown(name)!r} in {places}; give its whole path")
