"""
How files are moved, whichever way and however many: what a person may wish, when it is tried again,
and what is said of failures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.cli.filesplaces import Remote, shownName
from twisted_netsuite.cli.filesrun import Work
from twisted_netsuite.cli.run import say
from twisted_netsuite.errors import ConnectionFailed, Denied, NetsuiteError, NotFound, TimedOut
from twisted_netsuite.files.client import FilesSession
from twisted_netsuite.files.digests import CHUNK
from twisted_netsuite.files.flights import inThread
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.messages import Facts
from twisted_netsuite.files.names import Parts, join
from twisted_netsuite.files.transfer import retrying

T = TypeVar("T")
E = TypeVar("E", bound=NetsuiteError)

#: Bytes of a file for each further connection that it is worth: with fewer it takes longer to
#: connect than to send them.
WORTH_CONNECTING = 8 * CHUNK

#: The status when some of many files failed, and the others did not: that of rsync.
INCOMPLETE = 23

#: Failures that are told, each in a sentence; more are counted.
MAX_TOLD = 20

#: Seconds until what an abandoned command has left here is removed by another one: as long as a
#: server keeps such a thing.
KEEP = 7 * 24 * 3600.0

#: What is said when somebody breaks off.
KEPT = "broken off; run the same command again to go on with what has been transferred."
DROPPED = "broken off; nothing is kept of what was not whole, so the same command begins anew."


@dataclass(frozen=True)
class Manner:
    """
    How files are to be moved.

    @ivar connections: how many connections carry a large file, or a tree.
    @ivar retries: how often is connected again when the connection is lost.
    @ivar resume: whether to go on with what an earlier try has left, and to leave something.
    @ivar clobber: whether files may be replaced.
    @ivar replaces: the digest of the file that is replaced; C{None} for any.
    @ivar preserve: whether files keep their modes and times.
    @ivar durable: whether files are on the disk at the end; C{None} for what is usual.
    @ivar quiet: whether nothing is told but failures.
    """

    connections: int = 1
    retries: int = 4
    resume: bool = True
    clobber: bool = True
    replaces: bytes | None = None
    preserve: bool = False
    durable: bool | None = None
    quiet: bool = False

    @property
    def left(self) -> str:
        """What to say when it is broken off."""
        return KEPT if self.resume else DROPPED


def repeated(
    work: Work,
    manner: Manner,
    connections: int,
    transfer: Callable[[Sequence[FilesSession]], Deferred[T]],
    restart: Callable[[], object] = lambda: None,
) -> Deferred[T]:
    """
    Do a transfer, and go on with it when the connection is lost.

    @param work: has the sessions.
    @param manner: how often.
    @param connections: how many.
    @param transfer: what to do.
    @param restart: called before it is done once more.
    @return: fires with its result.
    """

    broken: list[BaseException | None] = []

    def lost(error: NetsuiteError, seconds: float) -> None:
        work.progress.say(f"{error.sentence} It is tried again in {seconds:.0f} s.")
        restart()

    def noted(failure: Failure) -> Failure:
        broken[:] = [failure.value]
        return failure

    def told(failure: Failure) -> Failure:
        # What connecting fails with says what to do.
        error = failure.value
        if broken and error is broken[0] and isinstance(error, ConnectionFailed | TimedOut):
            return Failure(_advised(error, work.left == KEPT))
        return failure

    tried = retrying(
        lambda: work.sessions.some(connections),
        lambda sessions: transfer(sessions).addErrback(noted),
        clock=work.reactor,
        attempts=manner.retries + 1,
        notice=lost,
    )
    return cast("Deferred[T]", tried.addErrback(told))


def _advised(error: ConnectionFailed | TimedOut, isKept: bool) -> NetsuiteError:
    again = "run the same command again" + (" to go on with it" if isKept else "")
    kind = TimedOut if isinstance(error, TimedOut) else ConnectionFailed
    return kind(f"{error.sentence.rstrip('.')}; {again}.")


async def tidy(work: Work, store: LocalStore, places: Iterable[Parts]) -> None:
    """
    Remove what commands of this account have left in directories, and nobody has gone on with for
    L{KEEP}. Not before a transfer: that may be what goes on with it.

    @param work: has the disk.
    @param store: has the directories.
    @param places: their names; one that cannot be cleaned stays as it is, and nothing is said.
    """

    def clean(stopped: Callable[[], bool]) -> None:
        for parts in places:
            if stopped():
                return
            with suppress(NetsuiteError):
                store.cleanDirectory(parts, KEEP)

    await inThread(work.disk, clean)


def tellFailures(failures: Sequence[tuple[str, str]], count: int) -> None:
    """
    Say what failed.

    @param failures: names, and why, in a sentence.
    @param count: how many there were in all.
    """
    for name, sentence in failures[:MAX_TOLD]:
        # Many sentences name the file themselves, in quotes: a short name is in many words.
        names = f"'{name}'" in sentence or f"/{name}'" in sentence
        say(sentence if names else f"{name}: {sentence}")
    if count > MAX_TOLD:
        say(f"{count - MAX_TOLD} more failed.")


def asGiven(error: E, parts: Parts, path: bytes) -> E:
    """
    Name a file of this end as it was given: the store that it is in knows it from its own top on.

    @param error: what a store here, or a server, has said.
    @param parts: its name in the store.
    @param path: what it was given as.
    @return: the same in these words; what a server says begins with who that is.
    """
    known = f"'{shownName(join(parts))}'"
    if not error.sentence.startswith(known):
        return error
    return type(error)(f"'{shownName(path)}'{error.sentence[len(known) :]}")


def counted(count: int, what: str) -> str:
    """
    Write how many there are of something.

    @param count: how many.
    @param what: what one is called.
    @return: such as C{1 file} or C{2 files}.
    """
    return f"{count} {what}{'' if count == 1 else 's'}"


def worthwhile(most: int, size: int | None) -> int:
    """
    Tell how many connections a file is worth.

    @param most: how many there may be.
    @param size: bytes of the file; C{None} where nobody knows.
    @return: at least one.
    """
    return most if size is None else max(1, min(most, size // WORTH_CONNECTING))


async def isDirectory(work: Work, session: FilesSession, remote: Remote) -> bool:
    """
    Find out whether something at a server is a directory.

    @param work: has the sessions.
    @param session: is asked.
    @param remote: which.
    @return: whether it is, as far as one may know.
    """
    try:
        facts = await lookAt(work, session, remote)
    except NotFound:
        return False
    return facts is not None and facts.directory


async def lookAt(work: Work, session: FilesSession, remote: Remote) -> Facts | None:
    """
    Look what something at a server is.

    @param work: has the sessions.
    @param session: is asked.
    @param remote: which.
    @return: what is known of it; C{None} where one may not look: who may read or write need not be
        allowed that.
    @raise NotFound: when there is nothing.
    """
    try:
        return await work.sessions.answer(session.stat(remote.name))
    except Denied:
        return None
