"""
What can be asked of a policy, in the one form in which rules match it; nothing here decides.

Some requests no rule may allow, as what they say and what would be done could differ: each kind
tells of itself whether it is one of these.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from twisted_netsuite.trust.hosts import Address, readAddress, readHost
from twisted_netsuite.trust.patterns import MAX_PATH, unusualPath
from twisted_netsuite.wire.text import cleanText

#: What can be done with a file. To list a directory is to read it; to make one is to write it; to
#: rename is to delete here and to write there.
Action = Literal["read", "write", "delete"]

#: What of chat has a name.
Subject = Literal["name", "room"]

#: Characters of a request that a sentence about it shows.
_SHOWN = 200


def asText(data: bytes | str) -> str:
    """
    Turn what came from a peer into what patterns are matched with.

    @param data: bytes, whatever the locale is.
    @return: as UTF-8, where each byte that is none becomes a lone surrogate, as C{os.fsdecode} has
        it.
    """
    return data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data


def shown(text: str) -> str:
    """
    Make a text fit to stand in a sentence.

    @param text: anything.
    @return: cleaned, on one line, and not too long.
    """
    clean = cleanText(text[: _SHOWN + 1])
    return clean if len(clean) <= _SHOWN else clean[: _SHOWN - 1] + "…"


@dataclass(frozen=True)
class ExecRequest:
    """
    A command that somebody wants to run.

    @ivar argv: program and arguments; the program by its whole path, which is what will be started.
        With C{shell}, a single element: the command line.
    @ivar shell: whether a shell is to read it.
    @ivar env: names of the environment variables that the client sets.
    @ivar cwd: where the client wants it to run, if anywhere.
    @ivar user: as whom the client wants it to run, if anybody.
    @ivar pty: whether it shall have a terminal.
    @ivar detach: whether it shall outlive the connection.
    """

    argv: Sequence[bytes]
    shell: bool = False
    env: Collection[str] = ()
    cwd: bytes | str | None = None
    user: str | None = None
    pty: bool = False
    detach: bool = False
    _words: dict[int, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def word(self, index: int) -> str:
        """
        Tell one element of argv.

        @param index: which.
        @return: decoded, when it is first asked for.
        """
        if index not in self._words:
            self._words[index] = asText(self.argv[index])
        return self._words[index]

    @property
    def directory(self) -> str | None:
        """Where the client wants it to run, as text."""
        return None if self.cwd is None else asText(self.cwd)

    def malformed(self) -> str:
        """
        Tell why no rule may allow it.

        @return: the end of a sentence, or nothing.
        """
        if not self.argv or not self.argv[0]:
            return "no command was named"
        if b"\0" in b"".join(self.argv):
            return "an argument holds a NUL, which no program can be given"
        if self.shell:
            if len(self.argv) != 1:
                return "a shell reads one command line"
        elif why := unusualPath(self.word(0)):
            return f"{shown(self.word(0))!r} names no program, as {why}; give its whole path"
        for name in self.env:
            if not name or "=" in name or "\0" in name:
                return f"{shown(name)!r} is no name of an environment variable"
        if self.directory is not None and (why := unusualPath(self.directory)):
            return f"{shown(self.directory)!r} is no directory to run in, as {why}"
        return ""

    def __str__(self) -> str:
        """What is asked for, as it stands behind "may"."""
        if self.shell:
            return f"have a shell run {shown(self.word(0)) if self.argv else ''!r}"
        words = [shown(self.word(index)) for index in range(min(len(self.argv), 8))]
        more = f" and {len(self.argv) - 8} arguments more" if len(self.argv) > 8 else ""
        return f"run {shown(' '.join(map(repr, words)))}{more}"


@dataclass(frozen=True)
class FilesRequest:
    """
    Something that somebody wants to do with a file.

    @ivar action: what.
    @ivar name: the path as it was asked for, from the root on, with or without a leading slash.
    """

    action: Action
    name: bytes | str

    @property
    def path(self) -> str:
        """From the root on, with no part that is empty or a dot."""
        parts = [part for part in asText(self.name).split("/") if part not in ("", ".")]
        return "/" + "/".join(parts)

    def malformed(self) -> str:
        """
        Tell why no rule may allow it.

        @return: the end of a sentence, or nothing.
        """
        if "\0" in self.path:
            return "a name cannot hold a NUL"
        if len(self.path) > MAX_PATH:
            return f"a path has at most {MAX_PATH} characters"
        return "a name cannot hold '..'" if ".." in self.path.split("/") else ""

    def __str__(self) -> str:
        """What is asked for, as it stands behind "may"."""
        return f"{self.action} {shown(self.path)!r}"


@dataclass(frozen=True)
class ChatRequest:
    """
    A name that somebody wants to have, or a room that somebody wants to be in.

    @ivar subject: which of these.
    @ivar text: the name or the room.
    """

    subject: Subject
    text: str

    def malformed(self) -> str:
        """
        Tell why no rule may allow it.

        @return: the end of a sentence, or nothing.
        """
        if not self.text:
            return f"a {self.subject} has at least one character"
        if cleanText(self.text) != self.text:
            return "it holds a character that does not show"
        # Else one that looks the same would not be what a rule that denies means.
        if not unicodedata.is_normalized("NFC", self.text):
            return "it is not in Unicode's composed form (NFC)"
        return ""

    def __str__(self) -> str:
        """What is asked for, as it stands behind "may"."""
        return f"{'have the name' if self.subject == 'name' else 'be in'} {shown(self.text)!r}"


@dataclass(frozen=True)
class ProxyRequest:
    """
    A place that somebody wants to be connected with.

    @ivar target: its name or its address.
    @ivar port: its port.
    @ivar resolved: the addresses that the name has, as far as they are known.
    """

    target: str
    port: int
    resolved: Sequence[str] = ()

    @property
    def host(self) -> str:
        """The target in the form in which it is matched, once it is not malformed."""
        return readHost(self.target)

    @property
    def addresses(self) -> list[Address]:
        """What the target is by address, once it is not malformed."""
        found = map(readAddress, (self.target, *self.resolved))
        return [address for address in found if address is not None]

    def malformed(self) -> str:
        """
        Tell why no rule may allow it.

        @return: the end of a sentence, or nothing.
        """
        if not 1 <= self.port <= 65535:
            return "ports are from 1 to 65535"
        if not all(map(readAddress, self.resolved)):
            return "its name has an address that is none"
        try:
            readHost(self.target)
        except ValueError as error:
            return str(error)
        return ""

    def __str__(self) -> str:
        """What is asked for, as it stands behind "may"."""
        host = f"[{self.target}]" if ":" in self.target else self.target
        return f"be connected with {shown(host)}:{self.port}"


Request = ExecRequest | FilesRequest | ChatRequest | ProxyRequest
