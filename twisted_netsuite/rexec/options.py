"""
How a command is to run, as a caller says it, and the START that asks for it; what no server could
carry out is refused here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from twisted_netsuite.errors import ConfigurationError, LimitExceeded
from twisted_netsuite.rexec.messages import (
    DEFAULT_WINDOW,
    LEAST_TIME,
    MAX_ARGUMENTS,
    MAX_KEY,
    MAX_TTL,
    MAX_USER,
    MAX_VARIABLES,
    MAX_WINDOW,
    MOST_TIME,
    Start,
    Terminal,
)
from twisted_netsuite.wire.text import cleanText

_ID = re.compile(r"[a-z2-7]{1,32}")
_SIGNAL = re.compile(r"[A-Z][A-Z0-9+-]{0,15}")


class Options(TypedDict, total=False):
    """
    How a command is to run.

    @ivar shell: whether the one word that is given is a line for a shell.
    @ivar env: variables that are set for it.
    @ivar cwd: where it runs.
    @ivar user: as whom it runs, on the server.
    @ivar terminal: the terminal that it has.
    @ivar timeLimit: seconds after which the server ends it.
    @ivar onDisconnect: C{"kill"} to end it when the session ends, C{"detach"} to let it run on.
    @ivar ttl: seconds that it is kept then, running or ended.
    @ivar key: names this wish: the same key is the same command, never a second.
    @ivar window: bytes that each of its streams may be ahead of whoever takes them.
    """

    shell: bool
    env: Mapping[str, str | bytes] | None
    cwd: str | bytes | None
    user: str | None
    terminal: Terminal | None
    timeLimit: float | None
    onDisconnect: Literal["kill", "detach"]
    ttl: int | None
    key: str | None
    window: int


def wordsOf(argv: Sequence[bytes | str]) -> tuple[bytes, ...]:
    """
    Read the words of a command.

    @param argv: program and arguments.
    @return: the same as bytes, texts in the encoding of the file system.
    @raise TypeError: when it is one text, or a word is none.
    """
    if isinstance(argv, str | bytes | bytearray):
        raise TypeError("argv is one text; give a list of words, also for a shell's one line")
    return tuple(os.fsencode(word) for word in argv)


def inputOf(data: bytes) -> bytes:
    """
    Read what a command is given as its input.

    @param data: the bytes.
    @return: the same.
    @raise TypeError: when it is no bytes.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"input is {type(data).__name__}; give bytes")
    return bytes(data)


def _word(text: str | bytes | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _variables(env: Mapping[str, str | bytes] | None) -> dict[str, bytes]:
    return {name: os.fsencode(value) for name, value in (env or {}).items()}


def requireKnown(options: Options) -> None:
    """
    See that no option is misspelt: it would be left out silently.

    @param options: what was given.
    @raise TypeError: naming one that is not known.
    """
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise TypeError(f"{unknown[0]} is no option of a command")


def requireWindow(window: int) -> None:
    """
    See that a window can be.

    @param window: bytes.
    @raise ConfigurationError: when it cannot.
    """
    if not 1 <= window <= MAX_WINDOW:
        raise ConfigurationError(f"The window is {window} bytes; give 1 to {MAX_WINDOW}.")


def requireId(id: str) -> None:
    """
    See that a command can have this name.

    @param id: its name.
    @raise ConfigurationError: when no command has.
    """
    if not _ID.fullmatch(id):
        raise ConfigurationError(
            f"{cleanText(id)[:40]!r} is the name of no command; give one that the start or a list "
            "has told."
        )


def signalWord(name: str) -> str:
    """
    Write a signal as it is sent.

    @param name: such as C{TERM} or C{SIGTERM}.
    @return: without SIG.
    @raise ConfigurationError: when that is no name of a signal.
    """
    word = name.removeprefix("SIG")
    if not _SIGNAL.fullmatch(word):
        raise ConfigurationError(
            f"{cleanText(name)[:32]!r} is no name of a signal; give one such as TERM."
        )
    return word


def startOf(channel: int, words: tuple[bytes, ...], stdin: bool, options: Options) -> Start:
    """
    Make the record that asks for a command.

    @param channel: a new one.
    @param words: program and arguments.
    @param stdin: whether input will be given.
    @param options: how it is to run.
    @return: the record.
    @raise ConfigurationError: when no system could start this.
    @raise LimitExceeded: when there are too many words or variables.
    """
    window = options.get("window", DEFAULT_WINDOW)
    requireWindow(window)
    start = Start(
        channel=channel,
        argv=words,
        stdin=stdin,
        stdoutCredit=window,
        stderrCredit=window,
        shell=options.get("shell", False),
        env=_variables(options.get("env")),
        cwd=_word(options.get("cwd")),
        user=options.get("user"),
        pty=options.get("terminal"),
        timeLimit=options.get("timeLimit"),
        onDisconnect=options.get("onDisconnect", "kill"),
        ttl=options.get("ttl"),
        key=options.get("key"),
    )
    _requirePossible(start)
    return start


def _requirePossible(asked: Start) -> None:
    """See that a system could start this, as far as that does not depend on the system."""
    if not asked.argv:
        raise ConfigurationError("There is no command; give a program, and its arguments.")
    if asked.shell and len(asked.argv) != 1:
        raise ConfigurationError(
            f"A shell reads one line, and {len(asked.argv)} words are given; join them."
        )
    for word, value, least, most in (
        ("time limit", asked.timeLimit, LEAST_TIME, MOST_TIME),
        ("time to live", asked.ttl, 1, MAX_TTL),
    ):
        if value is not None and not least <= value <= most:
            raise ConfigurationError(
                f"The {word} is {value:g} seconds; give {least:g} to {most:g}."
            )
    for word, text, length in (("key", asked.key, MAX_KEY), ("user", asked.user, MAX_USER)):
        if text is not None and not 1 <= len(text) <= length:
            raise ConfigurationError(
                f"The {word} has {len(text)} characters; 1 to {length} can be sent."
            )
    for what, count, most in (
        ("arguments", len(asked.argv), MAX_ARGUMENTS),
        ("variables", len(asked.env), MAX_VARIABLES),
    ):
        if count > most:
            raise LimitExceeded(f"The command has {count} {what}, and at most {most} can be sent.")
    for name in asked.env:
        if not name or "=" in name:
            raise ConfigurationError(f"{cleanText(name)[:64]!r} cannot be the name of a variable.")
    texts = (*asked.argv, *asked.env.values(), asked.cwd or b"")
    if any(b"\0" in text for text in texts) or any("\0" in name for name in asked.env):
        raise ConfigurationError(
            "There is a NUL in a word, a variable or the directory, which no system takes."
        )
