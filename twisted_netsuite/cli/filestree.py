"""
C{netsuite sync}, and C{get -r} and C{put -r}: trees of files, one of them here and one at a server.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from twisted_netsuite.cli.filesmanner import (
    INCOMPLETE,
    MAX_TOLD,
    Manner,
    counted,
    lookAt,
    repeated,
    tellFailures,
)
from twisted_netsuite.cli.filesmove import Putting
from twisted_netsuite.cli.filesmove import get as getOne
from twisted_netsuite.cli.filesplaces import Remote, shownName
from twisted_netsuite.cli.filesrun import STANDARD, Console, FilesServer, Work
from twisted_netsuite.cli.lines import LineReader
from twisted_netsuite.cli.progress import Progress, rateText, sizeText
from twisted_netsuite.cli.run import say, writeOut
from twisted_netsuite.errors import ConfigurationError, Conflict, NetsuiteError, NotFound
from twisted_netsuite.files.client import FilesSession
from twisted_netsuite.files.itemize import jsonLines, textLines
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.localtree import LocalTree
from twisted_netsuite.files.patterns import Patterns, Rule
from twisted_netsuite.files.plan import Plan
from twisted_netsuite.files.progress import How, Outcome, TreeIncomplete
from twisted_netsuite.files.remotetree import RemoteTree
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.sync import SyncOptions, sync
from twisted_netsuite.wire.text import cleanText

#: The status when somebody was asked whether to remove things, and said no.
DECLINED = 1

#: Lines that are printed at a time.
LINES = 1000


@dataclass(frozen=True)
class Comparison:
    """
    What trees are compared by, and what is done about it.

    @ivar checksum: whether contents are compared, and not times.
    @ivar delete: whether what only the target has is removed.
    @ivar yes: whether that is done unasked.
    @ivar dryRun: whether it is only told what would be done.
    @ivar json: whether that, or what was done, is told to a program.
    @ivar rules: which names are left out or taken, in their order.
    """

    checksum: bool = False
    delete: bool = False
    yes: bool = False
    dryRun: bool = False
    json: bool = False
    rules: Sequence[tuple[bool, bytes]] = field(default_factory=tuple)

    def options(self, manner: Manner, *, yes: bool) -> SyncOptions:
        """
        Write it as L{sync} takes it.

        @param manner: how files are moved.
        @param yes: whether things are removed without asking.
        @return: the options.
        @raise ConfigurationError: when a pattern cannot be used.
        """
        return SyncOptions(
            checksum=self.checksum,
            delete=self.delete,
            patterns=Patterns(Rule(include, pattern) for include, pattern in self.rules),
            clobber=manner.clobber,
            yes=yes,
            dryRun=self.dryRun,
            durable=manner.durable is True,
        )


async def syncTree(
    reactor: Any,
    server: FilesServer,
    remote: Remote,
    local: str,
    *,
    sending: bool,
    comparison: Comparison,
    manner: Manner,
    console: Console = STANDARD,
) -> int:
    """
    Make one tree as another.

    @param reactor: connects.
    @param server: where one of them is.
    @param remote: which.
    @param local: the other, at this end.
    @param sending: whether that of this end is what the other shall be.
    @param comparison: what is compared.
    @param manner: how files are moved.
    @param console: what this process has.
    @return: the exit status.
    """
    work = Work(reactor, server, quiet=manner.quiet, console=console)
    trees = Trees(work, comparison, manner)
    return await work.run(lambda: trees.run([(remote, local)], sending), manner.left)


async def getTree(
    reactor: Any,
    server: FilesServer,
    remote: Remote,
    local: str,
    manner: Manner,
    console: Console = STANDARD,
) -> int:
    """
    Get a tree, or a file.

    @param reactor: connects.
    @param server: where it is.
    @param remote: which; with a slash at its end what is in it, and else itself.
    @param local: the directory that it goes to; empty is this one.
    @param manner: how.
    @param console: what this process has.
    @return: the exit status.
    """
    work = Work(reactor, server, quiet=manner.quiet, console=console)
    trees = Trees(work, Comparison(), manner)
    isFile = False

    async def run() -> int:
        nonlocal isFile
        facts = await lookAt(work, await work.sessions.one(), remote)
        if facts is not None and not facts.directory:
            isFile = True
            return 0
        target = local or "."
        if not remote.isInto:
            target = os.path.join(target, os.fsdecode(remote.last))
        return await trees.run([(remote, target)], sending=False)

    status = await work.run(run, manner.left)
    if isFile and not status:
        return await getOne(reactor, server, remote, local, manner, console)
    return status


async def putTrees(
    reactor: Any,
    server: FilesServer,
    paths: Sequence[str],
    remote: Remote,
    manner: Manner,
    console: Console = STANDARD,
) -> int:
    """
    Put trees, and files among them.

    @param reactor: connects.
    @param server: where to.
    @param paths: directories and files of this end; of a directory with a slash at its end what is
        in it, and else itself.
    @param remote: the directory that they go to.
    @param manner: how.
    @param console: what this process has.
    @return: the exit status.
    """
    work = Work(reactor, server, quiet=manner.quiet, console=console)
    directories = [path for path in paths if os.path.isdir(path)]
    files = [path for path in paths if not os.path.isdir(path)]

    async def run() -> int:
        status = 0
        if files:
            # Into the directory, where there are others; else a file may get another name there.
            target = remote.within(b"") if len(paths) > 1 else remote
            status = await Putting(work, manner).run(files, target)
        pairs = [(_beneath(remote, path), path) for path in directories]
        return await Trees(work, Comparison(), manner).run(pairs, sending=True) or status

    return await work.run(run, manner.left)


def _beneath(remote: Remote, path: str) -> Remote:
    name = os.path.basename(path)
    return remote if name in ("", ".", "..") else remote.within(os.fsencode(name))


class Watch:
    """
    Watches trees, and counts what the outcome of one does not tell.

    @ivar files: transferred, also by tries that did not come to their end.
    @ivar deleted: files and directories that were removed.
    """

    def __init__(self, progress: Progress) -> None:
        """
        @param progress: is told, too.
        """
        self.files = self.deleted = 0
        self._progress = progress
        # There may be very many, and often nobody looks.
        self.moved = progress.moved
        self.planned = progress.planned
        self.failed = progress.failed

    def finished(self, name: bytes, how: How) -> None:
        """
        Count an entry.

        @param name: which.
        @param how: what was done.
        """
        if how == "deleted":
            self.deleted += 1
        elif how not in ("made", "changed"):
            self.files += 1
            self._progress.finished(name, how)


class Trees:
    """Trees to transfer, one after the other, between this end and one server."""

    def __init__(self, work: Work, comparison: Comparison, manner: Manner) -> None:
        """
        @param work: has the sessions.
        @param comparison: what is compared.
        @param manner: how files are moved.
        """
        self._work = work
        self._comparison = comparison
        self._manner = manner
        self._sending = False
        self._confirmed = comparison.yes
        self._declined = False

    async def run(self, pairs: Sequence[tuple[Remote, str]], sending: bool) -> int:
        """
        Transfer them.

        @param pairs: what is at the server, and what is here.
        @param sending: whether what is here is what the other shall be.
        @return: the exit status.
        """
        self._sending = sending
        comparison = self._comparison
        asks = comparison.delete and not comparison.yes and not comparison.dryRun
        if asks and not os.isatty(self._work.console.stdin):
            raise ConfigurationError(
                "Nobody is here to be asked whether things may be removed; give --yes if they may, "
                "or --dry-run to see what would be."
            )
        # Who cannot be reached at all is not tried again and again.
        await self._work.sessions.one()
        status = 0
        for remote, local in pairs:
            status = await self._one(remote, local) or status
        return status

    async def _one(self, remote: Remote, local: str) -> int:
        work = self._work
        begun = work.reactor.seconds()
        tree = localTree(work, local, self._sending)
        watch = Watch(work.progress)
        try:
            outcome = await self._transfer(tree, remote, watch)
        except TreeIncomplete as error:
            outcome = error.outcome
        finally:
            tree.store.close()
        work.progress.close()
        if self._comparison.dryRun:
            self._printPlan(outcome.plan)
            tellFailures(_failures(outcome), outcome.failed)
        elif self._declined:
            say("nothing was done.")
            return DECLINED
        else:
            self._tell(outcome, watch, work.reactor.seconds() - begun)
        return INCOMPLETE if outcome.failed else 0

    async def _transfer(self, tree: LocalTree, remote: Remote, watch: Watch) -> Outcome:
        confirm: Callable[[Plan], Any] | None = None
        if self._comparison.delete and not self._confirmed:
            confirm = self._confirm

        def transfer(sessions: Sequence[FilesSession]) -> Any:
            other = RemoteTree(sessions, remote.name)
            source, target = (tree, other) if self._sending else (other, tree)
            options = self._comparison.options(self._manner, yes=self._confirmed)
            return sync(source, target, options, confirm=confirm, progress=watch)

        outcome: Outcome = await repeated(
            self._work, self._manner, self._manner.connections, transfer
        )
        return outcome

    async def _asked(self, plan: Plan) -> bool:
        names = [entry.name for entry in [*plan.clear, *plan.delete]]
        shown = ", ".join(f"'{shownName(name)}'" for name in names[:3])
        more = ", ..." if len(names) > 3 else ""
        what = "1 file or directory" if len(names) == 1 else f"{len(names)} files and directories"
        yes = await ask(self._work, f"Remove {what} ({shown}{more})?")
        self._confirmed, self._declined = yes, not yes
        return yes

    def _confirm(self, plan: Plan) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._asked(plan))

    def _printPlan(self, plan: Plan) -> None:
        written = jsonLines(plan) if self._comparison.json else textLines(plan, self._sending)
        for piece in inPieces(written):
            writeOut(piece)
        if not (self._comparison.json or self._manner.quiet):
            say(
                f"{counted(plan.files, 'file')} to transfer, {sizeText(plan.bytes)}; "
                f"{plan.unchanged} unchanged, {plan.removes} to remove."
            )

    def _tell(self, outcome: Outcome, watch: Watch, seconds: float) -> None:
        if self._comparison.json:
            writeOut(_inJson(outcome, watch, seconds))
            return
        tellFailures(_failures(outcome), outcome.failed)
        if outcome.spared:
            what = "1 entry was" if outcome.spared == 1 else f"{outcome.spared} entries were"
            say(f"{what} not removed, as something else had failed.")
        if self._manner.quiet:
            return
        if skipped := outcome.links + outcome.special:
            names = ", ".join(f"'{shownName(name)}'" for name in outcome.told[:3])
            what = "1 entry, which is" if skipped == 1 else f"{skipped} entries, which are"
            say(f"skipped {what} neither file nor directory: {names}{', ...' * (skipped > 3)}.")
        parts = [
            f"{counted(watch.files, 'file')} {'sent' if self._sending else 'fetched'}",
            f"{outcome.plan.unchanged} unchanged",
        ]
        if watch.deleted:
            parts.append(f"{watch.deleted} removed")
        if outcome.failed:
            parts.append(f"{outcome.failed} failed")
        say(f"{', '.join(parts)}; {sizeText(outcome.bytes)} in {rateText(outcome.bytes, seconds)}.")


def localTree(work: Work, path: str, exists: bool) -> LocalTree:
    """
    Take a directory of this end.

    @param work: has the disk.
    @param path: the directory.
    @param exists: whether it has to be there; else it will be made.
    @return: the tree, in a store that the caller closes.
    @raise NotFound: when it has to be there and is not.
    @raise Conflict: when it is something else.
    """
    above, parts = os.path.abspath(path), list[bytes]()
    # A link at its end leads to what is meant; whoever named it knows it.
    while not os.path.isdir(above):
        if os.path.lexists(above):
            raise Conflict(f"{above!r} is no directory; give one.")
        if exists:
            raise NotFound(f"There is no directory {path!r} here.")
        above, name = os.path.split(above)
        parts.insert(0, os.fsencode(name))
    return LocalTree(LocalStore(Root(above)), work.disk, tuple(parts), os.path.abspath(path))


async def ask(work: Work, question: str) -> bool:
    """
    Ask the person at the terminal.

    @param work: has the console.
    @param question: can be answered by yes or no.
    @return: whether it was yes.
    """
    work.progress.close()
    work.console.prompt(cleanText(f"netsuite: {question} [y/N] "))
    answer = await LineReader(work.reactor, work.console.stdin).readLine()
    return answer is not None and answer.strip().lower() in ("y", "yes")


def inPieces(lines: Iterable[str]) -> Iterator[bytes]:
    """
    Put lines together, some at a time.

    @param lines: without their ends.
    @return: as they are printed.
    """
    piece: list[str] = []
    for line in lines:
        piece.append(line + "\n")
        if len(piece) == LINES:
            yield "".join(piece).encode("utf-8", "replace")
            piece.clear()
    yield "".join(piece).encode("utf-8", "replace")


def _failures(outcome: Outcome) -> list[tuple[str, str]]:
    return [(shownName(each.name), each.error.sentence) for each in outcome.failures[:MAX_TOLD]]


def _inJson(outcome: Outcome, watch: Watch, seconds: float) -> bytes:
    record = {
        "files": watch.files,
        "bytes": outcome.bytes,
        "unchanged": outcome.plan.unchanged,
        "deleted": watch.deleted,
        "failed": outcome.failed,
        "spared": outcome.spared,
        "skipped": outcome.links + outcome.special,
        "seconds": round(seconds, 3),
        "failures": [
            nameInJson(each.name) | {"code": each.error.wireCode, "error": _clean(each.error)}
            for each in outcome.failures
        ],
    }
    return json.dumps(record).encode() + b"\n"


def _clean(error: NetsuiteError) -> str:
    return cleanText(error.sentence)


def nameInJson(name: bytes) -> dict[str, str]:
    """
    Write a name for a program, as L{files.itemize} does.

    @param name: any bytes.
    @return: C{name}, or C{name64} for what is no UTF-8.
    """
    try:
        return {"name": name.decode() or "."}
    except UnicodeDecodeError:
        return {"name64": base64.b64encode(name).decode()}
