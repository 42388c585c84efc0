"""
C{netsuite get} and C{netsuite put} in the native dialect, for files; trees are in L{cli.filestree}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_netsuite.cli.fileslocal import into, localOf, shownBase, sizeOf, storeOf, targetPath
from twisted_netsuite.cli.filesmanner import (
    DROPPED,
    INCOMPLETE,
    MAX_TOLD,
    Manner,
    asGiven,
    counted,
    isDirectory,
    lookAt,
    repeated,
    tellFailures,
    tidy,
    worthwhile,
)
from twisted_netsuite.cli.filesplaces import Remote
from twisted_netsuite.cli.filesrun import BROKEN_PIPE, STANDARD, Console, FilesServer, Work
from twisted_netsuite.cli.filesspool import spool, spoolFile
from twisted_netsuite.cli.filessummary import Summary
from twisted_netsuite.cli.progress import rateText, shownFile, sizeText, wholeText
from twisted_netsuite.cli.run import say
from twisted_netsuite.cli.streams import OutputDescriptor
from twisted_netsuite.errors import (
    ConfigurationError,
    Conflict,
    Denied,
    NetsuiteError,
    NotFound,
    SourceChanged,
)
from twisted_netsuite.files.client import FilesSession
from twisted_netsuite.files.flights import Flights, itsOwn
from twisted_netsuite.files.messages import Facts
from twisted_netsuite.files.names import join, split
from twisted_netsuite.files.progress import MAX_FAILURES
from twisted_netsuite.files.transfer import Got, Local, Sent, getFile, getStream, putFile

#: Times that a file that has changed while it came is got once more; one that changes all the time
#: never comes whole.
CHANGES = 2

#: What a dash stands for.
STANDARD_STREAM = "-"


async def get(
    reactor: Any,
    server: FilesServer,
    remote: Remote,
    local: str,
    manner: Manner,
    console: Console = STANDARD,
) -> int:
    """
    Get a file.

    @param reactor: connects.
    @param server: where it is.
    @param remote: which.
    @param local: a file or a directory; a dash is standard output; empty is this directory.
    @param manner: how.
    @param console: what this process has.
    @return: the exit status.
    """
    work = Work(reactor, server, quiet=manner.quiet, console=console)
    getting = Getting(work, manner)
    left = "" if local == STANDARD_STREAM else manner.left
    return await work.run(lambda: getting.run(remote, local), left)


async def put(
    reactor: Any,
    server: FilesServer,
    paths: Sequence[str],
    remote: Remote,
    manner: Manner,
    console: Console = STANDARD,
) -> int:
    """
    Put files.

    @param reactor: connects.
    @param server: where to.
    @param paths: files of this end; a dash alone is standard input.
    @param remote: what it is to be there, or the directory for them.
    @param manner: how.
    @param console: what this process has.
    @return: the exit status.
    """
    work = Work(reactor, server, quiet=manner.quiet, console=console)
    putting = Putting(work, manner)
    left = DROPPED if STANDARD_STREAM in paths else manner.left
    return await work.run(lambda: putting.run(paths, remote), left)


class Getting:
    """One file to get."""

    def __init__(self, work: Work, manner: Manner, asJson: bool = False) -> None:
        """
        @param work: has the sessions.
        @param manner: how.
        @param asJson: whether a program is told what was done.
        """
        self._work = work
        self._manner = manner
        self._asJson = asJson

    async def run(self, remote: Remote, local: str) -> int:
        """
        Get it.

        @param remote: which.
        @param local: a file or a directory; a dash is standard output; empty is this directory.
        @return: the exit status.
        """
        work = self._work
        path = b"" if local == STANDARD_STREAM else targetPath(local, remote)
        # Who cannot be reached at all is not tried again and again.
        session = await work.sessions.one()
        facts = await lookAt(work, session, remote)
        if facts is not None and facts.directory:
            raise ConfigurationError(f"{remote} is a directory; give -r to get all of it.")
        work.progress.begin(remote.last, facts.size if facts else None)
        begun = work.reactor.seconds()
        if path:
            got = await self._toFile(remote, facts, path)
        else:
            got = await self._toStream(session, remote, facts)
        work.progress.close()
        seconds = work.reactor.seconds() - begun
        if self._asJson:
            Summary(1, got.moved, seconds=seconds).write([])
        elif work.progress.isShown:
            told = wholeText(got.facts.size, got.moved, "came", seconds)
            say(f"{shownFile(remote.last)}: {told}.")
        return 0

    async def _toFile(self, remote: Remote, facts: Facts | None, path: bytes) -> Got:
        work = self._work
        store, name = storeOf(path)
        local = Local(store, (name,), work.disk)
        try:
            got = await self._latest(remote, facts, local)
            await tidy(work, store, [()])
            return got
        except (CancelledError, NetsuiteError):
            if store.inTheWay is not None:
                work.left = DROPPED
                work.progress.say(store.inTheWay.sentence)
            raise
        finally:
            store.close()

    async def _latest(self, remote: Remote, facts: Facts | None, local: Local) -> Got:
        work = self._work
        for _ in range(CHANGES):
            try:
                return await self._toLocal(remote, facts, local)
            except SourceChanged:
                # Of one that is replaced now and then, the next version is as good.
                facts = await lookAt(work, await work.sessions.one(), remote)
                work.progress.begin(remote.last, facts.size if facts else None)
        return await self._toLocal(remote, facts, local)

    def _toLocal(self, remote: Remote, facts: Facts | None, local: Local) -> Deferred[Got]:
        work, manner = self._work, self._manner
        size = facts.size if facts else None
        return repeated(
            work,
            manner,
            worthwhile(manner.connections, size),
            lambda sessions: getFile(
                sessions,
                remote.name,
                local,
                facts=facts,
                resume=manner.resume,
                clobber=manner.clobber,
                preserve=manner.preserve,
                durable=manner.durable is not False,
                moved=work.progress.moved,
            ),
            lambda: work.progress.begin(remote.last, size),
        )

    async def _toStream(self, session: FilesSession, remote: Remote, facts: Facts | None) -> Got:
        work = self._work
        faults: list[NetsuiteError] = []

        def faulty(error: NetsuiteError) -> None:
            faults.append(error)
            getting.cancel()

        out = OutputDescriptor(
            work.reactor, work.console.stdout, lambda: work.breakOff(BROKEN_PIPE), faulty
        )
        getting: Deferred[Got] = getStream(
            [session], remote.name, out, facts=facts, moved=work.progress.moved
        )
        try:
            got = await getting
            await out.whenTaken()
        except (CancelledError, NetsuiteError):
            if not faults:
                raise
        finally:
            out.close()
        if faults:
            raise faults[0]
        return got


class Putting:
    """Files to put."""

    def __init__(self, work: Work, manner: Manner, asJson: bool = False) -> None:
        """
        @param work: has the sessions.
        @param manner: how.
        @param asJson: whether a program is told what was done.
        """
        self._work = work
        self._manner = manner
        self._asJson = asJson
        self._failures: list[tuple[str, NetsuiteError]] = []
        self._failed = 0
        self._moved = 0

    async def run(self, paths: Sequence[str], remote: Remote) -> int:
        """
        Put them.

        @param paths: files of this end; a dash alone is standard input.
        @param remote: what it is to be there, or the directory for them.
        @return: the exit status.
        """
        if STANDARD_STREAM in paths:
            await self._work.sessions.one()
            if len(paths) > 1 or remote.isInto:
                raise ConfigurationError(
                    f"Standard input is one file without a name; give {STANDARD_STREAM} alone, and "
                    "the name of a file."
                )
            return await self._input(remote)
        # Who cannot be reached at all is not tried again and again.
        await self._work.sessions.one()
        sizes = [sizeOf(path) for path in paths]
        if len(paths) == 1:
            return await self._alone(paths[0], remote, sizes[0])
        return await self._many([(path, into(remote, path)) for path in paths], sizes)

    async def places(self, paths: Sequence[str], remote: Remote) -> list[Remote]:
        """
        Find out where files go, for who only tells that.

        @param paths: files of this end.
        @param remote: what one is to be there, or the directory for them.
        @return: what each is to be there.
        """
        work = self._work
        isInto = remote.isInto or len(paths) > 1
        if isInto or await isDirectory(work, await work.sessions.one(), remote):
            return [into(remote, path) for path in paths]
        return [remote]

    async def _alone(self, path: str, remote: Remote, size: int) -> int:
        """Put one file, into a directory if that has the name."""
        name, work = shownBase(path), self._work
        if not remote.isInto:
            # Only who may not put it there asks what is there: to look is not allowed to everybody.
            try:
                return await self._one(path, name, remote, size)
            except (Conflict, Denied):
                if not await isDirectory(work, await work.sessions.one(), remote):
                    raise
        return await self._one(path, name, into(remote, path), size)

    async def _input(self, remote: Remote) -> int:
        with spoolFile() as file:
            self._work.progress.begin(os.fsencode(STANDARD_STREAM), None)
            await spool(self._work, file)
            return await self._one(file.name, remote.last, remote, os.stat(file.name).st_size)

    async def _one(self, path: str, name: bytes, remote: Remote, size: int) -> int:
        work, progress = self._work, self._work.progress
        # What says that it is empty may be of unknown size.
        progress.begin(name, size or None)
        begun = work.reactor.seconds()
        sent = await self._put(path, remote, size, lambda: progress.begin(name, size or None))
        progress.close()
        seconds = work.reactor.seconds() - begun
        if self._asJson:
            Summary(1, sent.moved, seconds=seconds).write([])
        elif progress.isShown:
            say(f"{shownFile(name)}: {wholeText(sent.size, sent.moved, 'went', seconds)}.")
        return 0

    async def _many(self, pairs: Sequence[tuple[str, Remote]], sizes: Sequence[int]) -> int:
        work = self._work
        work.progress.planned(len(pairs), sum(sizes))
        begun = work.reactor.seconds()
        known = dict(zip([path for path, _ in pairs], sizes, strict=True))

        def begin(pair: tuple[str, Remote]) -> Deferred[Sent]:
            return Deferred.fromCoroutine(self._put(*pair, known[pair[0]]))

        def ended(pair: tuple[str, Remote], result: Sent | Failure) -> None:
            name = os.fsencode(pair[0])
            if isinstance(result, Failure):
                error = itsOwn(result)
                self._failed += 1
                if len(self._failures) < MAX_FAILURES:
                    self._failures.append((pair[0], error))
                work.progress.failed(name, error)
            else:
                self._moved += result.moved
                work.progress.finished(name, "new")

        await Flights(pairs, begin, ended, lambda pair: known[pair[0]]).run()
        work.progress.close()
        self._tell(len(pairs) - self._failed, work.reactor.seconds() - begun)
        return INCOMPLETE if self._failed else 0

    def _tell(self, count: int, seconds: float) -> None:
        if self._asJson:
            summary = Summary(count, self._moved, failed=self._failed, seconds=seconds)
            summary.write((os.fsencode(path), error) for path, error in self._failures)
            return
        told = [(path, error.sentence) for path, error in self._failures[:MAX_TOLD]]
        tellFailures(told, self._failed)
        if not self._manner.quiet:
            took = rateText(self._moved, seconds)
            failed = f", {self._failed} failed" if self._failed else ""
            say(f"{counted(count, 'file')} sent{failed}; {sizeText(self._moved)} in {took}.")

    async def _put(
        self,
        path: str,
        remote: Remote,
        size: int,
        restart: Callable[[], object] = lambda: None,
    ) -> Sent:
        work, manner = self._work, self._manner
        local = localOf(work, os.fsencode(os.path.realpath(path)))
        try:
            return await repeated(
                work,
                manner,
                worthwhile(manner.connections, size),
                lambda sessions: putFile(
                    sessions,
                    local,
                    remote.name,
                    resume=manner.resume,
                    clobber=manner.clobber,
                    replaces=manner.replaces,
                    preserve=manner.preserve,
                    durable=manner.durable is not False,
                    moved=work.progress.moved,
                ),
                restart,
            )
        except NotFound as error:
            if not os.path.exists(path):
                raise
            # The server names what is to be; what is not there is above it.
            if file := await self._fileAbove(remote):
                raise Conflict(f"{file} is a file, and no directory; give a directory.") from error
            raise NotFound(
                f"There is no directory for {remote}; make it with netsuite mkdir -p."
            ) from error
        except Conflict as error:
            if manner.replaces is not None and await self._isMissing(remote):
                raise NotFound(
                    f"There is no file {remote} to replace; leave --if-unchanged out to make it."
                ) from error
            raise
        except Denied as error:
            raise asGiven(error, local.parts, os.fsencode(path)) from error
        finally:
            local.store.close()

    async def _fileAbove(self, remote: Remote) -> Remote | None:
        """Find the file that is in the place of a directory."""
        parts = split(remote.name)
        for count in range(len(parts) - 1, 0, -1):
            above = Remote(remote.address, join(parts[:count]))
            if await self._isMissing(above):
                continue
            session = await self._work.sessions.one()
            facts = await lookAt(self._work, session, above)
            return above if facts is not None and not facts.directory else None
        return None

    async def _isMissing(self, remote: Remote) -> bool:
        try:
            await lookAt(self._work, await self._work.sessions.one(), remote)
        except NotFound:
            return True
        return False
