"""
From the text of a policy file to a policy, or to all that is wrong with it, each with its line.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec

from twisted_netsuite.trust.decisions import Grant, PlacedRule, Policy, Role
from twisted_netsuite.trust.identity import NAME
from twisted_netsuite.trust.rules import RULES, AnyRule, Audit, Service
from twisted_netsuite.trust.tomllines import MAX_DOTS, Lines, Path, deepKey
from twisted_netsuite.trust.values import IdentityPattern, convertHook
from twisted_netsuite.wire.text import cleanText
from twisted_netsuite.wire.words import didYouMean

#: Characters of a value that a sentence shows.
_SHOWN = 80

#: Faults that are told of one policy. Who mends these sees the next; a file with more is some other
#: file, and each takes time to find words for.
MAX_FAULTS = 100

_TOO_DEEP = (
    f"more than {MAX_DOTS} dots stand in one key; those of a policy have at most two, as in "
    "[[roles.NAME.exec]]."
)


class _Enough(Exception):
    """There are as many faults as are told."""


@dataclass(frozen=True)
class Fault:
    """
    Something wrong in a policy.

    @ivar line: where, from 1.
    @ivar sentence: what, which value, what to do.
    """

    line: int
    sentence: str


def readPolicy(text: str, name: str) -> tuple[Policy, list[Fault]]:
    """
    Read a policy.

    @param text: TOML.
    @param name: the file's name, for what is said of its lines.
    @return: the policy, which is whole only when there is no fault; and the faults by line, up to
        L{MAX_FAULTS}.
    """
    if line := deepKey(text):
        return Policy(), [Fault(line, _TOO_DEEP)]
    try:
        document = tomllib.loads(text)
    except RecursionError:
        return Policy(), [Fault(1, "brackets stand in brackets without end; mend that.")]
    except ValueError as error:
        return Policy(), [_notToml(str(error), text)]
    reader = _Reader(document, Lines(text), name)
    policy = Policy()
    with suppress(_Enough):
        policy = reader.read()
    return policy, sorted(reader.faults, key=lambda fault: fault.line)


def _notToml(message: str, text: str) -> Fault:
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    if found is None:
        return Fault(1, f"this is not TOML: {_lower(cleanText(message))}; mend it.")
    line = int(found[2]) if found[2] else text.rstrip("\n").count("\n") + 1
    column = f" at column {found[3]}" if found[3] else " at the end"
    return Fault(line, f"this is not TOML: {_lower(cleanText(found[1]))}{column}; mend it.")


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def dotted(path: Path) -> str:
    """
    Write a path as a person knows it.

    @param path: keys and indexes.
    @return: such as C{roles.operator.exec[0].argv[1]}.
    """
    parts: list[str] = []
    for part in path:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        else:
            plain = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            parts.append("." + (part if plain else json.dumps(part, ensure_ascii=False)))
    return cleanText("".join(parts).removeprefix("."))


def inline(value: Any) -> str:
    """
    Write a value as TOML on one line.

    @param value: what C{tomllib} gave.
    @return: such as C{{argv = ["/bin/true"], pty = true}}.
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(inline, value))}]"
    if isinstance(value, str | bool | int | float):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _shown(value: Any) -> str:
    text = cleanText(inline(value))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


class _Reader:
    """
    Reads one document.

    @ivar faults: what is wrong, so far.
    """

    def __init__(self, document: dict[str, Any], lines: Lines, name: str) -> None:
        self.faults: list[Fault] = []
        self._document = document
        self._lines = lines
        self._name = cleanText(name)

    def read(self) -> Policy:
        """
        Read it.

        @return: what is right of it.
        """
        for key in self._document:
            if key not in ("identities", "roles", "audit"):
                known = ("identities", "roles", "audit")
                self._fault((key,), f"is not known; {didYouMean(key, known)}")
        audit = self._convert(self._table("audit"), Audit, ("audit",)) or Audit()
        tables = self._table("roles")
        roles = [role for name in tables if (role := self._role(name, tables[name], tables))]
        self._cycle(roles)
        grants = self._table("identities")
        given = [grant for who in grants if (grant := self._grant(who, grants[who], tables))]
        return Policy(given, roles, audit.durable)

    def _fault(self, path: Path, sentence: str) -> None:
        where = dotted(path)
        self.faults.append(Fault(self._lines[path], f"{where} {sentence}"))
        if len(self.faults) == MAX_FAULTS:
            raise _Enough

    def _source(self, path: Path) -> str:
        return f"{self._name}:{self._lines[path]}"

    def _table(self, key: str) -> dict[str, Any]:
        table = self._document.get(key, {})
        if isinstance(table, dict):
            return table
        self._fault((key,), f"is no table; write it below a line [{key}].")
        return {}

    def _grant(self, who: str, given: object, roles: Mapping[str, Any]) -> Grant | None:
        path = ("identities", who)
        names = self._names(path, given, roles)
        try:
            pattern = IdentityPattern(who)
        except ValueError as error:
            self._fault(path, f"cannot be: {error}.")
            return None
        return Grant(pattern, names, self._source(path))

    def _names(self, path: Path, given: object, roles: Mapping[str, Any]) -> tuple[str, ...]:
        """Read a list of names of roles."""
        if not isinstance(given, list) or not given:
            self._fault(path, f'is {_shown(given)}; write a list of roles such as ["reader"].')
            return ()
        names = []
        for index, name in enumerate(given):
            if not isinstance(name, str):
                self._fault((*path, index), f"is {_shown(name)}; write the name of a role.")
            elif name not in roles:
                advice = didYouMean(name, roles)
                self._fault((*path, index), f"is {_shown(name)}, which is no role here; {advice}")
            else:
                names.append(name)
        return tuple(names)

    def _role(self, name: str, table: object, roles: Mapping[str, Any]) -> Role | None:
        path = ("roles", name)
        if not NAME.fullmatch(name):
            self._fault(path, "cannot be a role's name; write letters, digits and ._@-.")
        if not isinstance(table, dict):
            self._fault(path, f"is no table; write it below a line [roles.{name}].")
            return None
        for key in table:
            if key not in RULES and key != "includes":
                self._fault((*path, key), f"is not known; {didYouMean(key, ['includes', *RULES])}")
        includes: tuple[str, ...] = ()
        if "includes" in table:
            includes = self._names((*path, "includes"), table["includes"], roles)
        rules = {service: self._rules(name, service, table.get(service, [])) for service in RULES}
        return Role(name, includes, rules, self._source(path))

    def _rules(self, role: str, service: Service, tables: object) -> list[PlacedRule]:
        path: Path = ("roles", role, service)
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._fault(path, f"is no list of rules; write each below [[roles.{role}.{service}]].")
            return []
        placed = []
        for index, table in enumerate(tables):
            where = (*path, index)
            rule: AnyRule | None = self._convert(table, RULES[service], where)
            if rule is None:
                continue
            faults = list(rule.faults())
            for field, sentence in faults:
                self._fault((*where, *_path(field)), f"{sentence}.")
            if not faults:
                placed.append(PlacedRule(rule, role, self._source(where), cleanText(inline(table))))
        return placed

    def _convert(self, table: dict[str, Any], kind: type[Any], path: Path) -> Any:
        try:
            return msgspec.convert(table, kind, dec_hook=convertHook)
        except msgspec.ValidationError as error:
            within, sentence = _explained(str(error), table, kind)
            self._fault((*path, *within), sentence)
            return None

    def _cycle(self, roles: Sequence[Role]) -> None:
        """Find a role that includes itself, by way of others or not."""
        try:
            TopologicalSorter({role.name: role.includes for role in roles}).prepare()
        except CycleError as error:
            ring = error.args[1][::-1]
            path = ("roles", ring[0], "includes")
            self._fault(path, f"goes round: {' -> '.join(ring)}; take one of them out.")


_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def _path(written: str) -> Path:
    """Read a path such as C{argv[1]}."""
    return tuple(
        int(found[2]) if found[2] else found[1] for found in _STEP.finditer(written) if found[0]
    )


_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_AT = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(\w+)(?: \| null)?`(?:, got .*| ([<>]=?) (.*))?", re.DOTALL)
_BOUNDS = {">=": "of at least", ">": "above", "<=": "of at most"}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
}


def _explained(message: str, table: Any, kind: type[Any]) -> tuple[Path, str]:
    """Turn what C{msgspec} says of a rule into a path within it and a sentence."""
    if found := _UNKNOWN.fullmatch(message):
        known = [field.encode_name for field in msgspec.structs.fields(kind)]
        return (found[1],), f"is not known; {didYouMean(found[1], known)}"
    found = _AT.fullmatch(message)
    message, path = (found[1], _path(found[2])) if found else (message, ())
    for step in path:
        table = table[step]
    if found := _EXPECTED.fullmatch(message):
        bound = f" {_BOUNDS[found[2]]} {float(found[3]):g}" if found[2] else ""
        return path, f"is {_shown(table)}; write {_WORDS.get(found[1], found[1])}{bound}."
    if found := re.fullmatch("Invalid enum value (.*)", message, re.DOTALL):
        return path, f'is {_shown(table)}; write "read", "write" or "delete".'
    return path, f"is {_shown(table)}: {_lower(message)}."
