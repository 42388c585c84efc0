"""
C{netsuite sync}, and C{get -r} and C{put -r}: trees of files, one of them here and one at a server.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from twisted_netsuite.cli.fileslocal import localTree, places, sizeOf, targetPath
from twisted_netsuite.cli.filesmanner import (
    INCOMPLETE,
    MAX_TOLD,
    Manner,
    asGiven,
    counted,
    lookAt,
    repeated,
    tellFailures,
    tidy,
)
from twisted_netsuite.cli.filesmove import Getting, Putting
from twisted_netsuite.cli.filesplaces import Remote, shownName
from twisted_netsuite.cli.filesrun import STANDARD, Console, FilesServer, Work
from twisted_netsuite.cli.filessummary import Summary, entryHere, planOfFiles, writePlan
from twisted_netsuite.cli.lines import LineReader
from twisted_netsuite.cli.progress import Progress, rateText, sizeText
from twisted_netsuite.cli.run import say
from twisted_netsuite.errors import ConfigurationError, NotFound
from twisted_netsuite.files.client import FilesSession
from twisted_netsuite.files.entries import TreeEntry, entryOf
from twisted_netsuite.files.localtree import LocalTree
from twisted_netsuite.files.messages import Facts
from twisted_netsuite.files.patterns import Patterns, Rule
from twisted_netsuite.files.plan import Plan
from twisted_netsuite.files.progress import Failed, How, Outcome, TreeIncomplete
from twisted_netsuite.files.remotetree import RemoteTree
from twisted_netsuite.files.sync import NO_SOURCE, SyncOptions, once, sync
from twisted_netsuite.wire.text import cleanText

#: The status when somebody was asked whether to remove things, and said no.
DECLINED = 1


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

    @property
    def patterns(self) -> Patterns:
        """
        The rules, to be used.

        @raise ConfigurationError: when one cannot be.
        """
        return Patterns(Rule(include, pattern) for include, pattern in self.rules)

    def options(self, manner: Manner) -> SyncOptions:
        """
        Write it as L{sync} takes it.

        @param manner: how files are moved.
        @return: the options.
        @raise ConfigurationError: when a pattern cannot be used.
        """
        return SyncOptions(
            checksum=self.checksum,
            delete=self.delete,
            patterns=self.patterns,
            clobber=manner.clobber,
            yes=self.yes,
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
    comparison: Comparison | None = None,
) -> int:
    """
    Get a tree, or a file.

    @param reactor: connects.
    @param server: where it is.
    @param remote: which; with a slash at its end what is in it, and else itself.
    @param local: the directory that it goes to; empty is this one.
    @param manner: how.
    @param console: what this process has.
    @param comparison: what is compared, and whether it is only told.
    @return: the exit status.
    """
    work = Work(reactor, server, quiet=manner.quiet, console=console)
    compared = comparison or Comparison()
    trees = Trees(work, compared, manner)

    async def run() -> int:
        facts = await lookAt(work, await work.sessions.one(), remote)
        if facts is None or facts.directory:
            target = local or "."
            if not remote.isInto:
                target = os.path.join(target, os.fsdecode(remote.last))
            return await trees.run([(remote, target)], sending=False)
        if not compared.dryRun:
            return await Getting(work, manner, compared.json).run(remote, local)
        path = targetPath(local, remote)
        name = os.path.basename(path)
        plan = planOfFiles([(entryOf(name, facts), entryHere(name, path))], manner.clobber)
        writePlan(plan, False, compared.json, manner.quiet)
        return INCOMPLETE if plan.clashes else 0

    return await work.run(run, manner.left)


async def putTrees(
    reactor: Any,
    server: FilesServer,
    paths: Sequence[str],
    remote: Remote,
    manner: Manner,
    console: Console = STANDARD,
    comparison: Comparison | None = None,
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
    @param comparison: what is compared, and whether it is only told; what its rules leave out by
        its own name is not put.
    @return: the exit status.
    """
    work = Work(reactor, server, quiet=manner.quiet, console=console)
    compared = comparison or Comparison()
    patterns = compared.patterns
    wanted = [path for path in paths if not _isLeftOut(path, patterns)]
    directories = [path for path in wanted if os.path.isdir(path)]
    files = [path for path in wanted if not os.path.isdir(path)]

    async def run() -> int:
        for path in files:
            sizeOf(path)
        # They make the directory, which files do not.
        pairs = [(_beneath(remote, path), path) for path in directories]
        status = await Trees(work, compared, manner).run(pairs, sending=True)
        if files:
            # Into the directory, where there are others; else a file may get another name there.
            target = remote.within(b"") if len(paths) > 1 else remote
            putting = Putting(work, manner, compared.json)
            if compared.dryRun:
                told = await _tellFiles(work, putting, files, target, compared, manner)
                return told or status
            if target.isInto:
                await _make(work, remote)
            status = await putting.run(files, target) or status
        return status

    return await work.run(run, manner.left)


def _isLeftOut(path: str, patterns: Patterns) -> bool:
    name = os.path.basename(path)
    # What is put without a name of its own cannot be meant by one.
    named = name not in ("", ".", "..")
    return named and patterns.excludes(os.fsencode(name), os.path.isdir(path))


async def _tellFiles(
    work: Work,
    putting: Putting,
    paths: Sequence[str],
    remote: Remote,
    comparison: Comparison,
    manner: Manner,
) -> int:
    """Tell what would be done with files that are named one by one; the same status."""
    pairs: list[tuple[TreeEntry, TreeEntry | None]] = []
    for path, place in zip(paths, await putting.places(paths, remote), strict=True):
        ours = entryHere(place.last, path)
        if ours is not None:
            facts = await _factsOf(work, place)
            pairs.append((ours, None if facts is None else entryOf(place.last, facts)))
    plan = planOfFiles(pairs, manner.clobber)
    writePlan(plan, True, comparison.json, manner.quiet)
    return INCOMPLETE if plan.clashes else 0


async def _make(work: Work, remote: Remote) -> None:
    """Make the directory for files, unless it is there: who may put them need not be allowed to."""
    session = await work.sessions.one()
    try:
        await lookAt(work, session, remote)
    except NotFound:
        await work.sessions.answer(session.makeDirectory(remote.name, parents=True))


async def _factsOf(work: Work, remote: Remote) -> Facts | None:
    try:
        return await lookAt(work, await work.sessions.one(), remote)
    except NotFound:
        return None


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
        self._declined = self._agreed = False

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
        tree, store = localTree(work, local, self._sending)
        watch = Watch(work.progress)
        try:
            outcome = await self._transfer(tree, remote, watch)
            if outcome.carriedOut and not self._sending:
                await tidy(work, store, places(tree, outcome.plan))
        finally:
            store.close()
        work.progress.close()
        outcome.failures = [_asGiven(each, tree, local) for each in outcome.failures]
        if self._comparison.dryRun:
            writePlan(outcome.plan, self._sending, self._comparison.json, self._manner.quiet)
            tellFailures(_failures(outcome), outcome.failed)
        elif self._declined:
            say("nothing was done.")
            return DECLINED
        else:
            self._tell(outcome, watch, work.reactor.seconds() - begun)
        return INCOMPLETE if outcome.failed else 0

    async def _transfer(self, tree: LocalTree, remote: Remote, watch: Watch) -> Outcome:
        comparison = self._comparison
        options = comparison.options(self._manner)
        confirm = once(self._confirm) if comparison.delete and not comparison.yes else None

        def transfer(sessions: Sequence[FilesSession]) -> Any:
            other = RemoteTree(sessions, remote.name)
            source, target = (tree, other) if self._sending else (other, tree)
            return sync(source, target, options, confirm=confirm, progress=watch)

        try:
            outcome: Outcome = await repeated(
                self._work, self._manner, self._manner.connections, transfer
            )
        except TreeIncomplete as error:
            return error.outcome
        except NotFound as error:
            if self._sending or not error.sentence.startswith(NO_SOURCE):
                raise
            raise NotFound(f"{NO_SOURCE} '{remote}'.") from error
        return outcome

    async def _asked(self, plan: Plan) -> bool:
        names = [entry.name for entry in [*plan.clear, *plan.delete]]
        shown = ", ".join(f"'{shownName(name)}'" for name in names[:3])
        more = ", ..." if len(names) > 3 else ""
        what = "1 file or directory" if len(names) == 1 else f"{len(names)} files and directories"
        yes = await ask(self._work, f"Remove {what} ({shown}{more})?", not self._agreed)
        self._declined, self._agreed = not yes, yes
        return yes

    def _confirm(self, plan: Plan) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._asked(plan))

    def _tell(self, outcome: Outcome, watch: Watch, seconds: float) -> None:
        if self._comparison.json:
            _summary(outcome, watch, seconds).write(
                (each.name, each.error) for each in outcome.failures
            )
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
        if kept := outcome.plan.kept:
            parts.append(f"{kept} kept, as {'it differs' if kept == 1 else 'they differ'}")
        if watch.deleted:
            parts.append(f"{watch.deleted} removed")
        if outcome.failed:
            parts.append(f"{outcome.failed} failed")
        say(f"{', '.join(parts)}; {sizeText(outcome.bytes)} in {rateText(outcome.bytes, seconds)}.")


async def ask(work: Work, question: str, isFirst: bool = True) -> bool:
    """
    Ask the person at the terminal.

    @param work: has the console.
    @param question: can be answered by yes or no.
    @param isFirst: whether nothing was done before, which who breaks off is told.
    @return: whether it was yes.
    """
    left = work.left
    if isFirst:
        work.left = "broken off; nothing was begun."
    work.progress.close()
    work.console.prompt(cleanText(f"netsuite: {question} [y/N] "))
    answer = await LineReader(work.reactor, work.console.stdin).readLine()
    work.left = left
    return answer is not None and answer.strip().lower() in ("y", "yes")


def _asGiven(failed: Failed, tree: LocalTree, local: str) -> Failed:
    name = failed.name
    parts = (*tree.parts, *filter(None, name.split(b"/")))
    path = os.path.join(os.fsencode(local), name)
    return Failed(name, asGiven(failed.error, parts, path))


def _failures(outcome: Outcome) -> list[tuple[str, str]]:
    return [(shownName(each.name), each.error.sentence) for each in outcome.failures[:MAX_TOLD]]


def _summary(outcome: Outcome, watch: Watch, seconds: float) -> Summary:
    return Summary(
        files=watch.files,
        bytes=outcome.bytes,
        unchanged=outcome.plan.unchanged,
        kept=outcome.plan.kept,
        deleted=watch.deleted,
        failed=outcome.failed,
        spared=outcome.spared,
        skipped=outcome.links + outcome.special,
        seconds=seconds,
    )
