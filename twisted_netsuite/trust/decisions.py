"""
What somebody may do, by the rules of the roles that somebody has; where these come from is told
elsewhere.

Roles are gone through in order, and of each its own rules before those of the roles it includes.
The first rule that fits decides. Where none does, the answer is no.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted_netsuite.trust.identity import Identity
from twisted_netsuite.trust.requests import (
    Action,
    ChatRequest,
    ExecRequest,
    FilesRequest,
    ProxyRequest,
    Request,
    Subject,
)
from twisted_netsuite.trust.rules import AnyRule, Service
from twisted_netsuite.trust.values import IdentityPattern


@dataclass(frozen=True)
class PlacedRule:
    """
    A rule, and where it stands.

    @ivar rule: the rule.
    @ivar role: the role that it is written in.
    @ivar source: file and line.
    @ivar text: as it is written, on one line.
    """

    rule: AnyRule
    role: str
    source: str
    text: str


@dataclass(frozen=True)
class Grant:
    """
    A line that gives roles.

    @ivar pattern: to whom.
    @ivar roles: which, in order.
    @ivar source: file and line.
    """

    pattern: IdentityPattern
    roles: tuple[str, ...]
    source: str

    def __str__(self) -> str:
        return f'{self.source} ("{self.pattern.text}")'


@dataclass(frozen=True)
class Role:
    """
    What those may do who have it.

    @ivar name: its name.
    @ivar includes: roles whose rules come after its own.
    @ivar rules: its own, for each service, in order.
    @ivar source: file and line.
    """

    name: str
    includes: tuple[str, ...]
    rules: Mapping[Service, Sequence[PlacedRule]]
    source: str


@dataclass(frozen=True)
class Decision:
    """
    The answer to a request.

    @ivar allowed: whether it is yes.
    @ivar reason: one sentence for a person and for the audit log.
    @ivar durable: whether the line about it in the audit log must be on the disk first.
    @ivar rule: the rule that decided, with its limits; C{None} when none did.
    @ivar role: the role that it is written in.
    @ivar source: file and line of it.
    @ivar text: as it is written.
    @ivar chain: from the role that is held to the one with the rule, each including the next.
    @ivar grant: what gave the role that is held.
    @ivar near: whether no rule decided, and one came near.
    """

    allowed: bool
    reason: str
    durable: bool
    rule: AnyRule | None = None
    role: str = ""
    source: str = ""
    text: str = ""
    chain: tuple[str, ...] = ()
    grant: str = ""
    near: bool = False


#: What gives a role that the policy does not give.
BY_CERTIFICATE = "the certificate"


def _given(grants: Iterable[Grant]) -> list[tuple[str, str]]:
    return [(role, str(grant)) for grant in grants for role in grant.roles]


class Policy:
    """
    Who may do what.

    @ivar grants: what gives roles, in order.
    @ivar roles: every role by its name.
    @ivar durable: whether the audit log comes first where a rule does not say.
    """

    def __init__(
        self, grants: Sequence[Grant] = (), roles: Iterable[Role] = (), durable: bool = False
    ) -> None:
        """
        @param grants: what gives roles.
        @param roles: the roles; what includes itself is gone through once.
        @param durable: whether the audit log comes first where a rule does not say.
        """
        self.grants = tuple(grants)
        self.roles = {role.name: role for role in roles}
        self.durable = durable
        #: For each role all that it brings, with the way to it; found when first asked for.
        self._brought: dict[str, list[tuple[tuple[str, ...], Role]]] = {}
        self._exact: dict[str, list[Grant]] = {}
        self._wild = [grant for grant in self.grants if not grant.pattern.name.literal]
        for grant in self.grants:
            if grant.pattern.name.literal:
                self._exact.setdefault(grant.pattern.text, []).append(grant)

    def brings(self, name: str) -> list[tuple[tuple[str, ...], Role]]:
        """
        Tell all that a role brings.

        @param name: its name; one that is not in this policy brings nothing.
        @return: the role and all that it includes, in order, each with the way to it.
        """
        if name not in self._brought and name in self.roles:
            self._brought[name] = list(self._below(name))
        return self._brought.get(name, [])

    def _below(self, name: str) -> Iterator[tuple[tuple[str, ...], Role]]:
        seen: set[str] = set()
        waiting: list[tuple[str, ...]] = [(name,)]
        while waiting:
            chain = waiting.pop()
            if chain[-1] in seen or chain[-1] not in self.roles:
                continue
            seen.add(chain[-1])
            role = self.roles[chain[-1]]
            yield chain, role
            waiting += [(*chain, included) for included in reversed(role.includes)]

    def rolesOf(self, identity: Identity) -> dict[str, str]:
        """
        Tell which roles somebody has.

        @param identity: who.
        @return: in order, with what gives each: first those that this policy gives to just this
            identity, so that it can take back what an authority gave; then those that the
            authority vouches for; then those of lines with wildcards.
        """
        exact = self._exact.get(str(identity), ())
        wild = [grant for grant in self._wild if grant.pattern.matches(identity)]
        found: dict[str, str] = {}
        for role, giver in (
            *_given(exact),
            *((role, BY_CERTIFICATE) for role in sorted(identity.roles)),
            *_given(wild),
        ):
            found.setdefault(role, giver)
        return found

    def exec(self, identity: Identity, request: ExecRequest) -> Decision:
        """
        Decide about a command.

        @param identity: who wants to run it.
        @param request: the command, with its program's whole path.
        @return: whose rule, an L{rules.ExecRule}, bounds it.
        """
        return self._decide(identity, "exec", request)

    def shell(self, identity: Identity, commandLine: bytes) -> Decision:
        """
        Decide about a command line that a shell reads; only a rule with C{shell = true} allows it.

        @param identity: who wants to run it.
        @param commandLine: the line.
        @return: as L{exec}.
        """
        return self.exec(identity, ExecRequest((commandLine,), shell=True))  # noqa: S604

    def files(self, identity: Identity, action: Action, path: bytes | str) -> Decision:
        """
        Decide about a file.

        @param identity: who asks.
        @param action: what for.
        @param path: from the root on, as it was asked for.
        @return: whose rule, an L{rules.FilesRule}, tells the root and the quota.
        """
        return self._decide(identity, "files", FilesRequest(action, path))

    def chat(self, identity: Identity, subject: Subject, text: str) -> Decision:
        """
        Decide about a name or a room.

        @param identity: who wants it.
        @param subject: which of these.
        @param text: the name or the room.
        @return: the answer.
        """
        return self._decide(identity, "chat", ChatRequest(subject, text))

    def proxy(
        self, identity: Identity, host: str, port: int, resolved: Sequence[str] = ()
    ) -> Decision:
        """
        Decide about a connection.

        @param identity: who wants it.
        @param host: a name, or an address without brackets.
        @param port: the port.
        @param resolved: the addresses of the name that may be tried; ask again with them once they
            are known, as rules for networks know a name only by these.
        @return: the answer.
        """
        return self._decide(identity, "proxy", ProxyRequest(host, port, tuple(resolved)))

    def _decide(self, identity: Identity, service: Service, request: Request) -> Decision:
        if why := request.malformed():
            sentence = f"{identity} may not {request}: {why}."
            return Decision(False, sentence, self.durable)
        almost = aside = ""
        held = self.rolesOf(identity)
        for name, grant in held.items():
            for chain, role in self.brings(name):
                for placed in role.rules.get(service, ()):
                    rule: Any = placed.rule
                    unfit = rule.fit(request)
                    if unfit is None:
                        return self._decided(identity, request, placed, chain, grant)
                    if unfit and not almost:
                        almost = f"; {placed.source} comes near, but {unfit}"
                    if isinstance(request, ExecRequest) and request.shell and not rule.deny:
                        # A rule with shell = true fits, or comes near.
                        aside = "; an argv rule is not for a shell"
        known = [name for name in held if name in self.roles]
        lacking = "no rule allows it" if known else "it has no role in this policy"
        sentence = f"{identity} may not {request}: {lacking}{almost or aside}."
        return Decision(False, sentence, self.durable, near=almost != "")

    def _decided(
        self,
        identity: Identity,
        request: Request,
        placed: PlacedRule,
        chain: tuple[str, ...],
        grant: str,
    ) -> Decision:
        rule = placed.rule
        may, does = ("may not", "denies") if rule.deny else ("may", "allows")
        return Decision(
            allowed=not rule.deny,
            reason=f"{identity} {may} {request}: {placed.source} {does} it.",
            durable=self.durable if rule.durable is None else rule.durable,
            rule=rule,
            role=placed.role,
            source=placed.source,
            text=placed.text,
            chain=chain,
            grant=grant,
        )
