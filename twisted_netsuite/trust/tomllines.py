"""
Lines of a TOML document: where each table, key and element of an array stands.

This is no parser: C{tomllib} has read the document before and tells what is in it, without lines.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

#: Where something is in a document: keys of tables and indexes of arrays.
Path = tuple[str | int, ...]

#: Dots that one key or header may hold: right ones have two, as in C{roles.NAME.exec}. The time
#: that C{tomllib} takes grows with the square of them.
MAX_DOTS = 10

#: Arrays within each other of which elements have lines of their own; argv needs two.
MAX_ARRAYS = 4

# What can hide a bracket, a comma or an end of line; then these themselves. A text that never ends
# is one up to the end, so that its beginning is not looked at again from each of its quotes.
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\]|\\\Z)*?(?:"{3,5}|\Z)'
    r"|'''.*?(?:'{3,5}|\Z)"
    r'|"(?:\\.|[^"\\\n])*"?'
    r"|'[^'\n]*'?"
    r"|\#[^\n]*"
    r"|(?P<mark>[\[\]{},=\n])"
    r"|(?P<blank>[ \t]+)"
    r"|(?P<plain>[^\"'#\[\]{},=\n \t]+)",
    re.DOTALL,
)

# A part of a key, when it stands for itself, with the dot behind it.
_PART = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|"([^"\\]*)"|'([^']*)')[ \t]*(\.|\Z)""")


def deepKey(text: str) -> int | None:
    """
    Find a key or header of more parts than C{tomllib} can be given.

    @param text: what may be a document.
    @return: the line of the first, if there is one.
    """
    if not any(each.count(".") > MAX_DOTS for each in text.split("\n")):
        # Nearly always, and by far the fastest to tell.
        return None
    line = 1
    dots = 0
    for token in _TOKEN.finditer(text):
        if token["mark"]:
            dots = 0
        elif plain := token["plain"]:
            dots += plain.count(".")
            if dots > MAX_DOTS:
                return line
        line += token.group().count("\n")
    return None


class Lines:
    """Where the parts of one document stand."""

    def __init__(self, text: str) -> None:
        """
        @param text: the document, which C{tomllib} takes.
        """
        self._lines: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}
        table: Path = ()
        for statement in _statements(text.replace("\r\n", "\n")):
            if statement.key.startswith("["):
                table = self._header(statement)
            else:
                self._value(table, statement)

    def __getitem__(self, path: Path) -> int:
        """
        Tell where something stands.

        @param path: keys and indexes.
        @return: the line, from 1; of what holds it, where it has none of its own.
        """
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _header(self, statement: _Statement) -> Path:
        """Enter the table that a header names, for what follows."""
        array = statement.key.startswith("[[")
        width = 2 if array else 1
        *above, last = _keys(statement.key.strip()[width:-width])
        path = self._resolved((), above, statement.line)
        path = (*path, last)
        self._lines.setdefault(path, statement.line)
        if array:
            count = self._tables.get(path, 0)
            self._tables[path] = count + 1
            path = (*path, count)
        elif path in self._tables:
            raise AssertionError("tomllib takes no table in an array's place")
        self._lines[path] = statement.line
        return path

    def _value(self, table: Path, statement: _Statement) -> None:
        keys = _keys(statement.key)
        path = self._resolved(table, keys, statement.line)
        for within, line in statement.elements:
            self._lines[(*path, *within)] = line

    def _resolved(self, table: Path, keys: list[str], line: int) -> Path:
        """Follow keys from a table on, into the newest table of each array of tables."""
        path = table
        for key in keys:
            path = (*path, key)
            self._lines.setdefault(path, line)
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
        return path


class _Statement:
    """
    A header, or a key and its value.

    @ivar line: its first line.
    @ivar key: the header with its brackets, or what stands before the equals sign.
    @ivar elements: for each element of an array in the value, its indexes and its line.
    """

    def __init__(self, line: int) -> None:
        """
        @param line: its first line.
        """
        self.line = line
        self.key = ""
        self.elements: list[tuple[tuple[int, ...], int]] = []


def _keys(dotted: str) -> list[str]:
    """Take a key into its parts."""
    keys: list[str] = []
    end = 0
    while found := _PART.match(dotted, end):
        keys.append(next(part for part in found.groups() if part is not None))
        end = found.end()
        if not found[4]:
            return keys
    # One with an escape: slower, and rare.
    nested: Any = tomllib.loads(f"{dotted}= 0")
    keys.clear()
    while nested:
        ((key, nested),) = nested.items()
        keys.append(key)
    return keys


def _statements(text: str) -> Iterator[_Statement]:
    line = 1
    statement: _Statement | None = None
    value: _Value | None = None
    for token in _TOKEN.finditer(text):
        word = token.group()
        if word == "\n" and (value is None or not value.open):
            if statement is not None:
                yield statement
            statement = value = None
        elif value is not None:
            value.feed(token, line)
        elif not token["blank"] and not word.startswith("#"):
            statement = statement or _Statement(line)
            if word == "=":
                value = _Value(statement)
            else:
                statement.key += word
        elif token["blank"] and statement is not None:
            statement.key += word
        line += word.count("\n")
    if statement is not None:
        yield statement


class _Value:
    """The part of a statement behind the equals sign, token by token."""

    def __init__(self, statement: _Statement) -> None:
        """
        @param statement: gets the lines of elements.
        """
        self._statement = statement
        #: The brackets that are open, and how many elements were finished in each.
        self._open: list[tuple[str, int]] = []

    @property
    def open(self) -> bool:
        """Whether the value goes on behind an end of line."""
        return bool(self._open)

    def feed(self, token: re.Match[str], line: int) -> None:
        """
        Take the next token.

        @param token: what L{_TOKEN} found.
        @param line: where it begins.
        """
        word = token.group()
        if token["blank"] or word == "\n" or word.startswith("#"):
            return
        if word in ("]", "}"):
            self._open.pop()
        elif word == ",":
            bracket, count = self._open.pop()
            self._open.append((bracket, count + 1))
        elif 0 < len(self._open) <= MAX_ARRAYS and all(bracket == "[" for bracket, _ in self._open):
            within = tuple(count for _, count in self._open)
            self._statement.elements.append((within, line))
        if word in ("[", "{"):
            self._open.append((word, 0))
