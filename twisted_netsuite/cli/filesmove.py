"""
C{netsuite get} and C{netsuite put} in the native dialect, for files; trees are in L{cli.filestree}.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_netsuite.cli.filesmanner import (
    DROPPED,
    INCOMPLETE,
    MAX_TOLD,
    Manner,
    counted,
    lookAt,
    repeated,
    tellFailures,
    tidy,
    worthwhile,
)
from twisted_netsuite.cli.filesplaces import Remote, shownName
from twisted_netsuite.cli.filesrun import BROKEN_PIPE, STANDARD, Console, FilesServer, Work
from twisted_netsuite.cli.filesspool import spool, spoolFile
from twisted_netsuite.cli.filessummary import Summary
from twisted_netsuite.cli.progress import rateText, shownFile, sizeText
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
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.messages import Facts
from twisted_netsuite.files.progress import MAX_FAILURES
from twisted_netsuite.files.root import Root
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
            took = rateText(got.moved, seconds)
            say(f"{shownFile(remote.last)}: {sizeText(got.facts.size)} in {took}.")
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
        places, sizes = await self.places(paths, remote)
        if len(paths) == 1:
            return await self._one(paths[0], shownBase(paths[0]), places[0], sizes[0])
        return await self._many(list(zip(paths, places, strict=True)), sizes)

    async def places(self, paths: Sequence[str], remote: Remote) -> tuple[list[Remote], list[int]]:
        """
        Find out where files go.

        @param paths: files of this end.
        @param remote: what one is to be there, or the directory for them.
        @return: what each is to be there, and its bytes.
        """
        session = await self._work.sessions.one()
        sizes = [sizeOf(path) for path in paths]
        if len(paths) == 1:
            return [await self._targetOf(session, paths[0], remote)], sizes
        return [into(remote, path) for path in paths], sizes

    async def _targetOf(self, session: FilesSession, path: str, remote: Remote) -> Remote:
        """Find out whether a name is that of a directory."""
        if remote.isInto:
            return into(remote, path)
        try:
            facts = await lookAt(self._work, session, remote)
        except NotFound:
            return remote
        return into(remote, path) if facts is not None and facts.directory else remote

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
            took = rateText(sent.moved, seconds)
            say(f"{shownFile(name)}: {sizeText(sent.size)} in {took}.")
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
            raise NotFound(
                f"There is no directory for {remote}; make it with netsuite mkdir -p."
            ) from error
        finally:
            local.store.close()


def targetPath(local: str, remote: Remote) -> bytes:
    """
    Find out where a file goes at this end.

    @param local: a file or a directory; empty is this directory.
    @param remote: the file; its own name is taken in a directory.
    @return: its path.
    @raise ConfigurationError: when no file can be there.
    """
    path = os.fsencode(local or ".")
    if os.path.isdir(path):
        if not remote.last:
            raise ConfigurationError(f"{remote} is a directory; give -r to get all of it.")
        if remote.last == b"..":
            raise ConfigurationError(f"{remote} names no file; give the name of one.")
        return os.path.join(path, remote.last)
    directory = os.path.dirname(path) or b"."
    if path.endswith(b"/") or not os.path.isdir(directory):
        missing = shownName(path if path.endswith(b"/") else directory)
        raise ConfigurationError(f"There is no directory '{missing}'; make it first.")
    return path


def localOf(work: Work, path: bytes) -> Local:
    """
    Take a path for a transfer.

    @param work: has the disk.
    @param path: of a file; its directory exists.
    @return: the file, in a store that the caller closes.
    @raise ConfigurationError: when its directory cannot be opened.
    """
    store, name = storeOf(path)
    return Local(store, (name,), work.disk)


def storeOf(path: bytes) -> tuple[LocalStore, bytes]:
    """
    Open the directory of a file.

    @param path: of the file.
    @return: a store, to be closed, and the name of the file in it.
    @raise ConfigurationError: when the directory cannot be opened.
    """
    directory, name = os.path.split(path)
    return LocalStore(Root(os.fsdecode(directory or b"."))), name


def into(remote: Remote, path: str) -> Remote:
    """
    Name a file of this end in a directory of the server.

    @param remote: the directory.
    @param path: the file.
    @return: where it is to be.
    """
    return remote.within(shownBase(path))


def shownBase(path: str) -> bytes:
    """
    Tell the own name of a file.

    @param path: as it was given.
    @return: its last part.
    """
    return os.fsencode(os.path.basename(path))


def sizeOf(path: str) -> int:
    """
    Look at a file that is to be sent.

    @param path: of this end.
    @return: its bytes.
    @raise NotFound: when there is none.
    @raise ConfigurationError: when it is a directory.
    @raise Conflict: when it is something else.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"There is no file {path!r} here.") from error
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", "") or str(error)).lower()
        raise Denied(f"The file {path!r} cannot be read: {reason}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(f"{path!r} is a directory; give -r to put all of it.")
    if not stat.S_ISREG(status.st_mode):
        raise Conflict(f"{path!r} is no regular file; give - and let it be standard input.")
    return status.st_size
