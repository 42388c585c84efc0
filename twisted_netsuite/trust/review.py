"""
What is suspicious in a policy that is right: for whoever writes it; no decision depends on this.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from twisted_netsuite.trust.decisions import PlacedRule, Policy, Role
from twisted_netsuite.trust.hosts import HostPattern, PortRange
from twisted_netsuite.trust.patterns import Glob, PathGlob
from twisted_netsuite.trust.rules import AnyRule, ChatRule, ExecRule, FilesRule, ProxyRule
from twisted_netsuite.trust.values import Element

#: Identities that one sentence names.
_NAMED = 5


def review(policy: Policy) -> Iterator[tuple[str, str]]:
    """
    Find what its author may not have meant.

    @param policy: one without faults.
    @return: file and line, and a sentence.
    """
    held = {role for grant in policy.grants for role in grant.roles}
    given = {below.name for name in held for _, below in policy.brings(name)}
    for role in policy.roles.values():
        if role.name not in given:
            yield (
                role.source,
                f"nobody here has the role {role.name}; only a certificate can give it.",
            )
        for rules in role.rules.values():
            yield from _late(rules)
            for placed in rules:
                for sentence in _about(placed.rule, partial(_holders, policy, role)):
                    yield placed.source, sentence
        yield from _roots(role)


def unasked(policy: Policy) -> list[str]:
    """
    Find what no service of this version asks about, so that it allows nothing yet.

    @param policy: one without faults.
    @return: what it is, in words, each once.
    """
    rules = [
        placed.rule
        for role in policy.roles.values()
        for each in role.rules.values()
        for placed in each
    ]
    return [words for words, about in _UNASKED.items() if any(map(about, rules))]


_UNASKED: dict[str, Callable[[AnyRule], bool]] = {
    "chat": lambda rule: isinstance(rule, ChatRule),
}


def _holders(policy: Policy, role: Role) -> str:
    """Name those who have a role."""
    names = [
        f'"{grant.pattern.text}"'
        for grant in policy.grants
        if any(below is role for name in grant.roles for _, below in policy.brings(name))
    ]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more if names else "whoever has a certificate with the role"


def _late(rules: Sequence[PlacedRule]) -> Iterator[tuple[str, str]]:
    for index, later in enumerate(rules):
        for earlier in rules[:index]:
            if covers(earlier.rule, later.rule):
                does = "denies" if earlier.rule.deny else "allows"
                yield (
                    later.source,
                    f"this rule comes too late: what it is about, {earlier.source} already {does}.",
                )
                break


def _about(rule: AnyRule, holders: Callable[[], str]) -> Iterator[str]:
    if rule.deny:
        return
    if isinstance(rule, FilesRule) and rule.root is not None and not os.path.isdir(rule.root):
        yield f"the root {rule.root!r} is no directory on this machine."
    if not isinstance(rule, ExecRule):
        return
    if rule.shell:
        yield f"shell = true lets {holders()} run any command at all."
    if rule.argv is not None and rule.argv[0].rest:
        yield f'argv = ["..."] lets {holders()} run any command at all.'
    for pattern in rule.argv[0].alternatives if rule.argv else ():
        yield from _program(pattern)
    for name in rule.env:
        if not name.risky:
            continue
        if name.literal:
            yield f"with the variable {name.text} a program can be made to run or load another."
        else:
            yield f"env {name.text!r} lets nothing through, as wildcards leave out such variables."
    if rule.user is not None and not _account(rule.user):
        yield f"the user {rule.user} is no account on this machine."


def _program(pattern: Glob | PathGlob) -> Iterator[str]:
    if not pattern.literal:
        yield f"argv[0] {pattern.text!r} lets every program there be run, also one put there later."
    elif not os.path.isfile(pattern.text):
        yield f"the program {pattern.text!r} is not on this machine."
    elif not os.access(pattern.text, os.X_OK):
        yield f"the program {pattern.text!r} cannot be run: it is not executable."


def _account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _roots(role: Role) -> Iterator[tuple[str, str]]:
    """Find rules by which one path leads to one file for reading and to another for writing."""
    first: tuple[FilesRule, str] | None = None
    for placed in role.rules.get("files", ()):
        rule = placed.rule
        if not isinstance(rule, FilesRule) or rule.deny:
            continue
        if first is None:
            first = rule, placed.source
        elif rule.root != first[0].root and None in (rule.paths, first[0].paths):
            yield (
                placed.source,
                f"the root is another than that of {first[1]}: one path can lead to two files; "
                "give both rules paths that differ.",
            )


def covers(earlier: AnyRule, later: AnyRule) -> bool:
    """
    Tell whether a rule takes all that another one is about.

    @param earlier: the rule that is asked first.
    @param later: one for the same service.
    @return: whether it surely does, but for texts that only a rule which denies takes in.
    """
    match earlier, later:
        case ExecRule(), ExecRule():
            return _execCovers(earlier, later)
        case FilesRule(), FilesRule():
            return later.decides <= earlier.decides and _listCovers(
                earlier.paths, later.paths, earlier.deny
            )
        case ChatRule(), ChatRule():
            return _chatCovers(earlier, later)
        case ProxyRule(), ProxyRule():
            return _proxyCovers(earlier, later)
    return False


def _patternCovers(one: Glob | PathGlob, other: Glob | PathGlob, wide: bool) -> bool:
    if other.literal:
        return one.matches(other.text, wide)
    if one.text == other.text:
        return True
    if one.text == "*":
        return wide or not other.text.startswith("-")
    above = one.text.removesuffix("**")
    return (
        one.text.endswith("/**")
        and Glob(above).literal
        and other.text.startswith(above)
        and PathGlob.DOTS.isdisjoint(other.text.split("/"))
    )


def _listCovers(
    one: Iterable[Glob | PathGlob] | None, other: Iterable[Glob | PathGlob] | None, wide: bool
) -> bool:
    """Compare lists of patterns of which one has to fit; C{None} takes everything."""
    if one is None:
        return True
    patterns = list(one)
    return other is not None and all(
        any(_patternCovers(each, pattern, wide) for each in patterns) for pattern in other
    )


def _execCovers(earlier: ExecRule, later: ExecRule) -> bool:
    if not _commandsCover(earlier, later):
        return False
    if earlier.deny:
        return not earlier.env and not earlier.cwd
    if later.deny:
        return not earlier.cwd
    return (
        _listCovers(earlier.env, later.env, False)
        and _listCovers(earlier.cwd, later.cwd, False)
        and later.user in (None, earlier.user)
        and earlier.pty >= later.pty
        and earlier.detach >= later.detach
    )


def _commandsCover(earlier: ExecRule, later: ExecRule) -> bool:
    if earlier.argv is None and not earlier.shell:
        return True
    if earlier.argv is None or later.argv is None:
        return earlier.shell and later.shell
    return _argvCovers(earlier.argv, later.argv, earlier.deny)


def _argvCovers(one: Sequence[Element], other: Sequence[Element], wide: bool) -> bool:
    rest = one[-1].rest
    count = len(one) - rest
    fixed = len(other) - other[-1].rest
    if fixed < count or (not rest and (fixed > count or other[-1].rest)):
        return False
    return all(
        _listCovers(one[index].alternatives, other[index].alternatives, wide)
        for index in range(count)
    )


def _chatCovers(earlier: ChatRule, later: ChatRule) -> bool:
    if earlier.deny and earlier.names is None and earlier.rooms is None:
        return True
    if later.names is None and later.rooms is None:
        return False
    return _listCovers(earlier.names or (), later.names or (), earlier.deny) and _listCovers(
        earlier.rooms or (), later.rooms or (), earlier.deny
    )


def _proxyCovers(earlier: ProxyRule, later: ProxyRule) -> bool:
    if earlier.ports is not None and not all(
        any(_within(ports, each) for each in earlier.ports)
        for ports in later.ports or (PortRange("1-65535"),)
    ):
        return False
    return earlier.to is None or all(
        any(_hostCovers(each, host) for each in earlier.to)
        for host in later.to or (HostPattern("*"),)
    )


def _within(inner: PortRange, outer: PortRange) -> bool:
    return inner.first in outer and inner.last in outer


def _hostCovers(one: HostPattern, other: HostPattern) -> bool:
    match one.network, other.network:
        case ipaddress.IPv4Network() as outer, ipaddress.IPv4Network() as inner:
            return inner.subnet_of(outer)
        case ipaddress.IPv6Network() as outer, ipaddress.IPv6Network() as inner:
            return inner.subnet_of(outer)
    same = one.text.lower() == other.text.lower()
    return one.every or same or (other.literal and one.matchesName(other.text.lower()))
