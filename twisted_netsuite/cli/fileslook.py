"""
C{netsuite ls}, C{stat}, C{rm}, C{mv} and C{mkdir}: what is at a server, and where.
"""

from __future__ import annotations

import json
import os
import stat as modes
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.cli.filesmanner import (
    INCOMPLETE,
    MAX_TOLD,
    counted,
    isDirectory,
    lookAt,
    tellFailures,
)
from twisted_netsuite.cli.filesplaces import Remote, shownName
from twisted_netsuite.cli.filesrun import STANDARD, Console, FilesServer, Work
from twisted_netsuite.cli.filessummary import nameInJson
from twisted_netsuite.cli.filestree import DECLINED, ask
from twisted_netsuite.cli.progress import sizeText
from twisted_netsuite.cli.run import say, writeOut
from twisted_netsuite.errors import ConfigurationError, Conflict, NetsuiteError, NotFound
from twisted_netsuite.files.client import FilesSession
from twisted_netsuite.files.flights import Flights, itsOwn
from twisted_netsuite.files.localtree import heldText
from twisted_netsuite.files.messages import Facts, Listed
from twisted_netsuite.files.names import MAX_NAME, split
from twisted_netsuite.wire.text import decodeText

_SECOND = 1_000_000_000

#: Seconds since 1970 that a calendar here can show: the years 1 to 9999.
_FIRST, _LAST = -62_135_596_800, 253_402_300_799


async def listFiles(
    reactor: Any,
    server: FilesServer,
    remote: Remote,
    *,
    long: bool,
    human: bool = False,
    hidden: bool,
    zero: bool,
    asJson: bool,
    console: Console = STANDARD,
) -> int:
    """
    Print what is in a directory, or a file itself.

    @param reactor: connects.
    @param server: where it is.
    @param remote: which.
    @param long: whether to print more than names.
    @param human: whether sizes among that have units.
    @param hidden: whether to print names that begin with a dot, too.
    @param zero: whether each line ends with a NUL byte, for programs.
    @param asJson: whether to print JSON, for programs.
    @param console: what this process has.
    @return: the exit status.
    """
    work = Work(reactor, server, console=console)

    async def run() -> int:
        session = await work.sessions.one()
        facts = await work.sessions.answer(session.stat(remote.name))
        if facts.directory:
            found = await session.list(remote.name).collect()
        else:
            found = [Listed(name=remote.last, facts=facts)]
        shown = [each for each in found if hidden or not each.name.startswith(b".")]
        shown.sort(key=lambda each: each.name)
        before = partial(_details, human=human) if long else _nothing
        if asJson:
            writeOut(_listInJson(shown))
        elif zero:
            writeOut(b"".join(before(each) + each.name + b"\0" for each in shown))
        else:
            # A name is for a person there, and for a program elsewhere.
            cleans = sys.stdout.isatty()
            writeOut(b"".join(before(each) + _name(each, cleans) + b"\n" for each in shown))
        return 0

    return await work.run(run)


async def tellOf(
    reactor: Any,
    server: FilesServer,
    remote: Remote,
    *,
    digest: bool,
    asJson: bool,
    console: Console = STANDARD,
) -> int:
    """
    Print what is known of a file or directory.

    @param reactor: connects.
    @param server: where it is.
    @param remote: which.
    @param digest: whether the server is to digest it.
    @param asJson: whether to print JSON, for programs.
    @param console: what this process has.
    @return: the exit status.
    """
    work = Work(reactor, server, console=console)

    async def run() -> int:
        session = await work.sessions.one()
        found = None
        if digest:
            # Of a large file that takes as long as it takes.
            hashed = await session.hash(remote.name)
            facts, found = hashed.facts, hashed.digest
        else:
            facts = await work.sessions.answer(session.stat(remote.name))
        if asJson:
            record = nameInJson(remote.name) | _factsInJson(facts)
            if found is not None:
                record["digest"] = found.hex()
            writeOut(json.dumps(record).encode() + b"\n")
        else:
            writeOut(_told(remote, facts, found))
        return 0

    return await work.run(run)


async def remove(
    reactor: Any,
    server: FilesServer,
    remote: Remote,
    *,
    recursive: bool,
    yes: bool,
    console: Console = STANDARD,
) -> int:
    """
    Remove a file, an empty directory, or a whole tree.

    @param reactor: connects.
    @param server: where it is.
    @param remote: which.
    @param recursive: whether a directory goes with all that is in it.
    @param yes: whether that is done without asking.
    @param console: what this process has.
    @return: the exit status.
    @raise ConfigurationError: when it is all that the server has, or nobody can be asked.
    """
    # One slash too early is easily typed, and nothing brings all of it back.
    if recursive and not split(remote.name):
        raise ConfigurationError(
            f"{remote} is all that the server has, which is not removed; name what is in it, such "
            f"as {remote.within(b'photos')}."
        )
    if recursive and not yes and not os.isatty(console.stdin):
        raise ConfigurationError(
            "Nobody is here to be asked whether all of that may be removed; give --yes if it may."
        )
    work = Work(reactor, server, console=console)
    left = "broken off; what was not removed is still there." if recursive else ""
    removing = _Removing(work, remote, yes)
    return await work.run(removing.tree if recursive else removing.one, left)


async def rename(
    reactor: Any,
    server: FilesServer,
    remote: Remote,
    to: Remote,
    *,
    clobber: bool,
    console: Console = STANDARD,
) -> int:
    """
    Give a file or a directory another name.

    @param reactor: connects.
    @param server: where it is.
    @param remote: which.
    @param to: its new name, or with a slash at its end the directory that it goes to.
    @param clobber: whether a file is replaced.
    @param console: what this process has.
    @return: the exit status.
    """
    work = Work(reactor, server, console=console)

    async def run() -> int:
        session = await work.sessions.one()
        target = to.within(remote.last) if to.isInto else to
        question = session.rename(remote.name, target.name, clobber=clobber)
        try:
            await work.sessions.answer(question)
        except Conflict as error:
            if to.isInto or not await isDirectory(work, session, to):
                raise
            raise Conflict(
                f"{to} is a directory; write {to}/ to move it into that directory."
            ) from error
        except NotFound as error:
            # The server names what is to be; what is not there is that which is moved, or a
            # directory above its new name.
            if await lookAt(work, session, remote) is None:
                raise
            raise NotFound(
                f"There is no directory for {target}; make it with netsuite mkdir -p."
            ) from error
        return 0

    return await work.run(run)


async def makeDirectory(
    reactor: Any,
    server: FilesServer,
    remote: Remote,
    *,
    parents: bool,
    console: Console = STANDARD,
) -> int:
    """
    Make a directory; one that is there already is left as it is.

    @param reactor: connects.
    @param server: where.
    @param remote: which.
    @param parents: whether to make those above it, too.
    @param console: what this process has.
    @return: the exit status.
    """
    work = Work(reactor, server, console=console)

    async def run() -> int:
        session = await work.sessions.one()
        try:
            await work.sessions.answer(session.makeDirectory(remote.name, parents=parents))
        except NotFound as error:
            if parents:
                raise
            # What the server names is what is to be made; what is not there is above it.
            raise NotFound(
                f"There is no directory for {remote}; give -p to make that, too."
            ) from error
        return 0

    return await work.run(run)


class _Removing:
    """What is to be removed."""

    def __init__(self, work: Work, remote: Remote, yes: bool) -> None:
        self._work = work
        self._remote = remote
        self._yes = yes
        self._removed = self._failed = 0
        self._failures: list[tuple[str, str]] = []
        # Directories in which something is left that could not be removed.
        self._holding: set[bytes] = set()

    async def one(self) -> int:
        """Remove a file, or an empty directory."""
        work, remote = self._work, self._remote
        session = await work.sessions.one()
        try:
            await work.sessions.answer(session.remove(remote.name))
        except Conflict as error:
            if not (split(remote.name) and await isDirectory(work, session, remote)):
                raise
            raise Conflict(
                f"{remote} is a directory that is not empty; give -r to remove all of it."
            ) from error
        return 0

    async def tree(self) -> int:
        """Remove all."""
        work, remote = self._work, self._remote
        session = await work.sessions.one()
        facts = await work.sessions.answer(session.stat(remote.name))
        if not facts.directory:
            return await self.one()
        found = await session.manifest(remote.name).collect()
        if not (self._yes or await ask(work, self._question(found))):
            say("nothing was done.")
            return DECLINED
        await self._all(session, [each.name for each in found if not each.facts.directory])
        directories = [each.name for each in found if each.facts.directory]
        # What is in a directory goes before it.
        directories.sort(key=_depth, reverse=True)
        for _, level in groupby(directories, key=_depth):
            await self._all(session, list(level))
        if not self._failed:
            await self._all(session, [b""])
        tellFailures(self._failures, self._failed)
        if self._failed:
            say(f"{self._removed} removed, {self._failed} not.")
        return INCOMPLETE if self._failed else 0

    def _question(self, found: Sequence[Listed]) -> str:
        files = [each for each in found if not each.facts.directory]
        size = sizeText(sum(each.facts.size for each in files))
        directories = len(found) - len(files)
        return (
            f"Remove {self._remote} with {counted(len(files), 'file')} of {size} and "
            f"{directories} director{'y' if directories == 1 else 'ies'} in it?"
        )

    async def _all(self, session: FilesSession, names: Sequence[bytes]) -> None:
        def begin(name: bytes) -> Deferred[None]:
            whole = self._remote.within(name) if name else self._remote
            return session.remove(whole.name)

        await Flights(names, begin, self._ended).run()

    def _ended(self, name: bytes, result: Failure | None) -> None:
        if not isinstance(result, Failure):
            self._removed += 1
            return
        error: NetsuiteError = itsOwn(result)
        sentence = error.sentence
        if isinstance(error, Conflict) and name not in self._holding:
            # All went that was told to be in it.
            sentence = heldText("the server")
        if name:
            self._holding.add(name.rpartition(b"/")[0])
        self._failed += 1
        if len(self._failures) < MAX_TOLD:
            self._failures.append((shownName(name or self._remote.name), sentence))


def _depth(name: bytes) -> int:
    return name.count(b"/")


def _name(each: Listed, cleans: bool) -> bytes:
    # Whole, as it is what the line is for.
    return decodeText(each.name, MAX_NAME).encode() if cleans else each.name


def _details(each: Listed, human: bool) -> bytes:
    facts = each.facts
    when = _when(facts.mtime, "%Y-%m-%d %H:%M")
    size = sizeText(facts.size) if human else str(facts.size)
    return f"{_modeText(facts)} {size:>12} {when} ".encode()


def _nothing(each: Listed) -> bytes:
    return b""


def _modeText(facts: Facts) -> str:
    kind = modes.S_IFDIR if facts.directory else modes.S_IFREG
    return modes.filemode(kind | facts.mode)


def _when(mtime: int, form: str) -> str:
    seconds = mtime // _SECOND
    if not _FIRST <= seconds <= _LAST:
        return f"{seconds} s from 1970"
    part = f".{mtime % _SECOND:09}"
    return time.strftime(form.replace("{part}", part), time.localtime(seconds))


def _told(remote: Remote, facts: Facts, digest: bytes | None) -> bytes:
    rows = [
        ("name", shownName(remote.name)),
        ("kind", "directory" if facts.directory else "file"),
        ("size", "" if facts.directory else str(facts.size)),
        ("mode", f"{facts.mode:04o} {_modeText(facts)}"),
        ("changed", _when(facts.mtime, "%Y-%m-%d %H:%M:%S{part} %z")),
        ("digest", "" if digest is None else digest.hex()),
    ]
    lines = [f"{word + ':':<9}{value}\n" for word, value in rows if value]
    return "".join(lines).encode("utf-8", "replace")


def _listInJson(found: Iterable[Listed]) -> bytes:
    rows = [nameInJson(each.name) | _factsInJson(each.facts) for each in found]
    return json.dumps(rows, indent=2).encode() + b"\n"


def _factsInJson(facts: Facts) -> dict[str, Any]:
    sign, mtime = ("-", -facts.mtime) if facts.mtime < 0 else ("", facts.mtime)
    record: dict[str, Any] = {"kind": "directory" if facts.directory else "file"}
    if not facts.directory:
        record["size"] = facts.size
    record["mode"] = f"{facts.mode:04o}"
    # As text: many programs lose digits of numbers that are so long.
    record["mtime"] = f"{sign}{mtime // _SECOND}.{mtime % _SECOND:09}"
    return record
