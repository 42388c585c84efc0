"""
The records of a policy file: what a rule of each service can say.

A rule tells whether it fits a request, and what contradicts itself in it; which of several rules
decides is told elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import ClassVar, Literal

import msgspec

from twisted_netsuite.trust.hosts import HostPattern, PortRange
from twisted_netsuite.trust.patterns import AbsolutePath, VariableName
from twisted_netsuite.trust.requests import (
    Action,
    ChatRequest,
    ExecRequest,
    FilesRequest,
    ProxyRequest,
    shown,
)
from twisted_netsuite.trust.values import Count, Element, RoomPattern, Seconds, Size
from twisted_netsuite.wire.words import kebab

#: What takes part in naming the accounts of a machine.
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}")

#: A fault of a rule: the field that it is about, and the end of a sentence.
Fault = tuple[str, str]


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    # msgspec evaluates every annotation each time, which for thousands of rules takes seconds.
    return msgspec.structs.fields(kind)


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=kebab):
    """
    What every rule can say.

    @cvar GIVES: fields that only a rule which allows can have.
    """

    deny: bool = False
    durable: bool | None = None

    GIVES: ClassVar[tuple[str, ...]] = ()

    def faults(self) -> Iterator[Fault]:
        """
        Find what contradicts itself.

        @return: fields and sentences.
        """
        for field in _fields(type(self)):
            given = getattr(self, field.name) != field.default
            if self.deny and given and field.name in self.GIVES:
                yield field.encode_name, "is for rules that allow, and this one denies; drop it"


class ExecRule(Rule, frozen=True, kw_only=True):
    """
    Commands that may be run, or may not.

    @ivar argv: what program and arguments have to be.
    @ivar shell: whether this is about command lines that a shell reads.
    @ivar env: names of variables that the client may set.
    @ivar cwd: where it may run at the client's wish; the first without a wildcard is where it runs
        without one.
    @ivar user: as whom it runs.
    @ivar pty: whether it may have a terminal.
    @ivar detach: whether it may outlive the connection.
    @ivar timeLimit: seconds that it may run.
    @ivar outputLimit: bytes that it may write on both streams together.
    @ivar concurrency: how many by this rule one identity may run at a time.
    @ivar cpuTime: seconds of processor time for each process (RLIMIT_CPU).
    @ivar memory: bytes of address space for each process (RLIMIT_AS).
    @ivar processes: processes of its user at a time (RLIMIT_NPROC).
    @ivar openFiles: descriptors of each process (RLIMIT_NOFILE).
    @ivar fileSize: bytes of any file that it writes (RLIMIT_FSIZE).
    """

    argv: tuple[Element, ...] | None = None
    shell: bool = False
    env: tuple[VariableName, ...] = ()
    cwd: tuple[AbsolutePath, ...] = ()
    user: str | None = None
    pty: bool = False
    detach: bool = False
    timeLimit: Seconds | None = None
    outputLimit: Size | None = None
    concurrency: Count | None = None
    cpuTime: Count | None = None
    memory: Size | None = None
    processes: Count | None = None
    openFiles: Count | None = None
    fileSize: Size | None = None

    GIVES: ClassVar[tuple[str, ...]] = (
        *("user", "pty", "detach", "timeLimit", "outputLimit", "concurrency"),
        *("cpuTime", "memory", "processes", "openFiles", "fileSize"),
    )

    @property
    def directory(self) -> str | None:
        """Where a command runs when the client does not say."""
        return next((path.text for path in self.cwd if path.literal), None)

    def fit(self, asked: ExecRequest) -> str | None:
        """
        Tell whether this rule decides a request.

        @param asked: the request.
        @return: C{None} when it does; nothing when it is about other commands; else what is in the
            way, as it stands behind "but".
        """
        if not (self._fitsLine() if asked.shell else self._fitsArgv(asked)):
            return ""
        return self._missed(asked) if self.deny else self._notGiven(asked)

    def _fitsLine(self) -> bool:
        return self.shell or (self.deny and self.argv is None)

    def _fitsArgv(self, asked: ExecRequest) -> bool:
        if self.argv is None:
            return self.deny and not self.shell
        rest = self.argv[-1].rest
        count = len(self.argv) - rest
        if len(asked.argv) < count or (len(asked.argv) > count and not rest):
            return False
        return all(self.argv[index].matches(asked.word(index), self.deny) for index in range(count))

    def _missed(self, asked: ExecRequest) -> str | None:
        """Rules that deny decide when all that they name is in the request."""
        if self.env and not any(
            name.matches(each, True) for name in self.env for each in asked.env
        ):
            return ""
        where = asked.directory
        if self.cwd and (where is None or not any(path.matches(where, True) for path in self.cwd)):
            return ""
        return None

    def _notGiven(self, asked: ExecRequest) -> str | None:
        """Rules that allow decide when nothing is in the request that they do not name."""
        for each in asked.env:
            if not any(name.matches(each) for name in self.env):
                return f"it does not let the variable {shown(each)} be set (env)"
        where = asked.directory
        if where is not None and not any(path.matches(where) for path in self.cwd):
            return f"it does not let it run in {shown(where)} (cwd)"
        if asked.user is not None and asked.user != self.user:
            return f"it does not let it run as {shown(asked.user)} (user)"
        if asked.pty and not self.pty:
            return "it gives no terminal (pty)"
        if asked.detach and not self.detach:
            return "it lets nothing outlive the connection (detach)"
        return None

    def faults(self) -> Iterator[Fault]:
        """
        Find what contradicts itself.

        @return: fields and sentences.
        """
        yield from super().faults()
        if self.argv is not None and self.shell:
            yield "shell", "and argv are two ways to run something; write a rule for each"
        if self.argv is None and not self.shell and not self.deny:
            yield "", 'allows nothing; write argv = ["/path/of/program", ...] or shell = true'
        for index, name in enumerate(() if self.deny else self.env):
            if not name.bound:
                yield (
                    f"env[{index}]",
                    f"is {name.text!r}, which lets through variables that make programs run "
                    "others; write whole names, or what they begin with up to a _, as in LC_*",
                )
        if self.user is not None and not _ACCOUNT.fullmatch(self.user):
            yield "user", f"is {self.user!r}, which is no account's name; write one"
        for index, element in enumerate(self.argv or ()):
            if element.rest and element is not (self.argv or ())[-1]:
                yield f"argv[{index}]", 'is "...", which can only be the last'
        yield from self._programFaults()

    def _programFaults(self) -> Iterator[Fault]:
        if self.argv is None:
            return
        if not self.argv:
            yield "argv", "is empty; write the program's whole path and its arguments"
            return
        for pattern in self.argv[0].alternatives:
            if pattern.text == "*" and self.deny:
                continue
            try:
                AbsolutePath(pattern.text)
            except ValueError:
                yield (
                    "argv[0]",
                    f"is {pattern.text!r}; write a program's whole path such as /usr/bin/git, "
                    'or argv = ["..."] for every command',
                )


class FilesRule(Rule, frozen=True, kw_only=True):
    """
    Files that may be read and changed, or may not.

    @ivar root: the directory on the server in which the paths are looked up, in place of the
        service's own. Nothing is renamed from one root to another.
    @ivar paths: which, as clients name them, from that root on; all when there are none.
    @ivar actions: what may be done with them, or may not; when nothing is said, reading is allowed,
        or everything denied.
    @ivar quota: bytes that one identity may keep by this rule: of all files that it has written in
        this root to these paths, by whichever rule.
    @ivar fileQuota: files that one identity may keep, likewise.
    @ivar maxSize: bytes of one file that is written.
    """

    root: str | None = None
    paths: tuple[AbsolutePath, ...] | None = None
    actions: tuple[Action, ...] | None = None
    quota: Size | None = None
    fileQuota: Count | None = None
    maxSize: Size | None = None

    GIVES: ClassVar[tuple[str, ...]] = ("root", "quota", "fileQuota", "maxSize")

    @property
    def decides(self) -> frozenset[Action]:
        """The actions that this rule is about."""
        if self.actions is not None:
            return frozenset(self.actions)
        return frozenset({"read", "write", "delete"} if self.deny else {"read"})

    def fit(self, asked: FilesRequest) -> str | None:
        """
        Tell whether this rule decides a request.

        @param asked: the request.
        @return: as L{ExecRule.fit}.
        """
        if self.paths is not None:
            path = asked.path
            if not any(each.matches(path, self.deny) for each in self.paths):
                return ""
        if asked.action in self.decides:
            return None
        return "" if self.deny else f"it does not allow to {asked.action} (actions)"

    def faults(self) -> Iterator[Fault]:
        """
        Find what contradicts itself.

        @return: fields and sentences.
        """
        yield from super().faults()
        for name in ("paths", "actions"):
            if getattr(self, name) == ():
                yield name, "is empty, so this rule is about nothing; fill it, or drop the rule"
        if self.root is not None:
            try:
                if not AbsolutePath(self.root).literal:
                    yield (
                        "root",
                        f"is {self.root!r}; only paths take wildcards, so name a directory",
                    )
            except ValueError as error:
                yield "root", f"is {self.root!r}: {error}"
        if not self.deny and "write" not in self.decides:
            for name, value in (("quota", self.quota), ("max-size", self.maxSize)):
                if value is not None:
                    yield name, 'bounds what is written, and this rule allows none; add "write"'
            if self.fileQuota is not None:
                yield "file-quota", 'bounds what is written, and this rule allows none; add "write"'


class ChatRule(Rule, frozen=True, kw_only=True):
    """
    Names that somebody may have in chat and rooms to be in, or may not.

    @ivar names: the names.
    @ivar rooms: the rooms.
    """

    names: tuple[RoomPattern, ...] | None = None
    rooms: tuple[RoomPattern, ...] | None = None

    def fit(self, asked: ChatRequest) -> str | None:
        """
        Tell whether this rule decides a request.

        @param asked: the request.
        @return: C{None} when it does, else nothing.
        """
        if self.deny and self.names is None and self.rooms is None:
            return None
        patterns = self.names if asked.subject == "name" else self.rooms
        return None if any(each.matches(asked.text, self.deny) for each in patterns or ()) else ""

    def faults(self) -> Iterator[Fault]:
        """
        Find what contradicts itself.

        @return: fields and sentences.
        """
        yield from super().faults()
        if not self.deny and self.names is None and self.rooms is None:
            yield "", "allows nothing; write names or rooms"
        for name in ("names", "rooms"):
            if getattr(self, name) == ():
                yield name, "is empty, so it is about nothing; fill it, or drop it"


class ProxyRule(Rule, frozen=True, kw_only=True):
    """
    Places that somebody may be connected with, or may not.

    @ivar to: networks and names.
    @ivar ports: ports; all when there are none.
    """

    to: tuple[HostPattern, ...] | None = None
    ports: tuple[PortRange, ...] | None = None

    def fit(self, asked: ProxyRequest) -> str | None:
        """
        Tell whether this rule decides a request.

        One that allows does when the name fits, or every address that the name has. One that
        denies does when the name fits, or any of these.

        @param asked: the request.
        @return: as L{ExecRule.fit}.
        """
        if self.to is not None and not self._holds(asked):
            return ""
        if self.ports is not None and not any(asked.port in ports for ports in self.ports):
            return "" if self.deny else f"not for port {asked.port} (ports)"
        return None

    def _holds(self, asked: ProxyRequest) -> bool:
        hosts = self.to or ()
        if any(host.matchesName(asked.host) for host in hosts):
            return True
        held = [
            any(host.holds(address, self.deny) for host in hosts) for address in asked.addresses
        ]
        return any(held) if self.deny else bool(held) and all(held)

    def faults(self) -> Iterator[Fault]:
        """
        Find what contradicts itself.

        @return: fields and sentences.
        """
        yield from super().faults()
        if self.to is None and not self.deny:
            yield "", 'does not say where to; write to = ["HOST", "NETWORK"], or "*" for every host'
        for name in ("to", "ports"):
            if getattr(self, name) == ():
                yield name, "is empty, so it is about nothing; fill it, or drop it"


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What holds for the audit log.

    @ivar durable: whether the line about an act is on the disk before the act is allowed, where a
        rule does not say.
    """

    durable: bool = False


AnyRule = ExecRule | FilesRule | ChatRule | ProxyRule
Service = Literal["exec", "files", "chat", "proxy"]

#: The rules of each service.
RULES: dict[Service, type[AnyRule]] = {
    "exec": ExecRule,
    "files": FilesRule,
    "chat": ChatRule,
    "proxy": ProxyRule,
}
