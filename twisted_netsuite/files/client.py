"""
The client of the native files service: many requests at once over one session. Whole files are
fetched and sent by L{files.transfer}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from twisted_netsuite.errors import (
    ConfigurationError,
    ConnectionFailed,
    NetsuiteError,
    ProtocolError,
)
from twisted_netsuite.files.asking import Asked, Make, Question
from twisted_netsuite.files.batches import Batches
from twisted_netsuite.files.clientmachine import questionMachine
from twisted_netsuite.files.disk import Disk
from twisted_netsuite.files.listing import Listing
from twisted_netsuite.files.messages import (
    MAX_OPEN,
    RECORDS,
    SERVICE,
    Change,
    Done,
    Facts,
    Hash,
    List,
    MakeDirectory,
    Manifest,
    Remove,
    Rename,
    Request,
    Stat,
)
from twisted_netsuite.files.names import split
from twisted_netsuite.files.sendable import requireAttributes
from twisted_netsuite.files.turns import Turns
from twisted_netsuite.net.sessionclient import ClientSession, helloFor, openSession
from twisted_netsuite.wire.session import About, Hello, Record, SessionCodec

__all__ = ["FilesSession", "Hashed", "Listing", "connectFiles"]

T = TypeVar("T")
A = TypeVar("A", bound=Asked)

#: The last number of a request: after two thousand million of them a new session is wanted.
LAST_ID = 2**31 - 1

#: Bytes that have come over one session and wait for the disk, beyond which it is not read: two
#: pieces, one that is written and one that comes.
MAX_DEBT = 1024 * 1024

#: Bytes of small files that have come over one session while their DONE has not: it follows at
#: once, so that more than some are a server's fault.
MAX_GATHERED = 16 * 1024 * 1024

#: Small files that are read and not sent yet, at most 64 KiB each: enough for two batches of work
#: while two more are on their way.
MAX_READ = 256

#: Larger files of one session that are sent or fetched at a time: more would make the disk seek,
#: and each holds some MiB.
MAX_MOVING = 4

#: Bundles of small files of one session that are under way at a time, each of 1 MiB at the most:
#: they fill a link of 100 milliseconds and 40 MB a second.
MAX_BUNDLING = 8


@dataclass(frozen=True)
class Hashed:
    """
    A file, and its digest.

    @ivar facts: what is known of it.
    @ivar digest: as in L{files.digests}.
    """

    facts: Facts
    digest: bytes


class FilesSession(ClientSession):
    """
    Files on one server.

    Any number of requests can be made at once: up to L{MAX_OPEN} are on their way, and more wait
    here, in order.

    @ivar reading: the turns of small files, which are read whole before they are sent.
    @ivar moving: the turns of larger files.
    @ivar bundling: the turns of bundles of small ones.
    """

    # The server may be sending a file while we send one.
    readsOn = True
    _last = 0
    _debt = 0
    _gathered = 0
    _unread = 0

    def __init__(self, clock: IReactorTime, codec: SessionCodec, hello: Hello, name: str) -> None:
        """
        @param clock: tells and waits for time.
        @param codec: knows the records of the service.
        @param hello: what to say first.
        @param name: the server's address, for sentences.
        """
        super().__init__(clock, codec, hello, name)
        self.reading = Turns(MAX_READ)
        self.moving = Turns(MAX_MOVING)
        self.bundling = Turns(MAX_BUNDLING)
        self._open: dict[int, Asked] = {}
        self._waiting: deque[Asked] = deque()
        self._batches: dict[Disk, Batches] = {}

    async def __aenter__(self) -> FilesSession:
        """Use the session."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it; what is open fails."""
        await self.close()

    # What its user calls.

    @property
    def isOpen(self) -> bool:
        """
        Whether more can be asked: neither end has said GOODBYE, the connection stands, and there
        are numbers left.
        """
        return self.machine.isOpen and not self.draining and self._last < LAST_ID

    @property
    def load(self) -> int:
        """How many requests are open, or wait, or will be made when what they need was read."""
        return len(self._open) + len(self._waiting) + self.bundling.load

    def stat(self, name: bytes) -> Deferred[Facts]:
        """
        Look at a file or directory.

        @param name: which.
        @return: fires with what is known of it; cancelling it breaks the request off. Fails with
            the L{NetsuiteError} that the server tells, as L{NotFound} or L{Denied}; with
            L{InvalidName} for what can be no name; with why the session has ended, where it has.
        """
        return self._question(partial(Stat, name=name), _factsOf, name)

    def list(self, name: bytes) -> Listing:
        """
        Look into a directory, batch by batch.

        @param name: which.
        @return: what to read it from; fails there as with L{stat}.
        """
        return self._listing(name, partial(List, name=name), deep=False)

    def manifest(self, name: bytes, digests: bool = False) -> Listing:
        """
        Look into a directory and all below it; each directory comes before what is in it.

        @param name: which.
        @param digests: whether to tell those of files.
        @return: what to read it from; fails there as with L{stat}.
        """
        return self._listing(name, partial(Manifest, name=name, digests=digests), deep=True)

    def hash(self, name: bytes) -> Deferred[Hashed]:
        """
        Have the server digest a file.

        @param name: which.
        @return: fires with what it is; fails as with L{stat}.
        """
        return self._question(partial(Hash, name=name), _hashedOf, name)

    def makeDirectory(
        self, name: bytes, *, mode: int | None = None, parents: bool = False
    ) -> Deferred[Facts | None]:
        """
        Make a directory; one that is there is left as it is.

        @param name: which.
        @param mode: permission bits; C{None} for the usual ones.
        @param parents: whether to make those above it, too.
        @return: fires with what is known of it, if the server tells; fails as with L{stat}.
        """
        make = partial(MakeDirectory, name=name, mode=mode, parents=parents)
        return self._question(make, _factsIfTold, name, mode=mode)

    def rename(self, name: bytes, to: bytes, *, clobber: bool = True) -> Deferred[Facts | None]:
        """
        Give a file or directory another name.

        @param name: which.
        @param to: the new one.
        @param clobber: whether a file of that name is replaced.
        @return: fires with what is known of it, if the server tells; fails as with L{stat}, and
            with L{Conflict} where something has that name.
        """
        make = partial(Rename, name=name, to=to, clobber=clobber)
        return self._question(make, _factsIfTold, name, to)

    def remove(self, name: bytes) -> Deferred[None]:
        """
        Remove a file or an empty directory.

        @param name: which.
        @return: fires when it is gone; fails as with L{stat}, and with L{Conflict} for a directory
            that is not empty.
        """
        return self._question(partial(Remove, name=name), lambda done: None, name)

    def change(
        self, name: bytes, *, mode: int | None = None, mtime: int | None = None
    ) -> Deferred[Facts | None]:
        """
        Change what is known of a file or directory.

        @param name: which.
        @param mode: permission bits; C{None} to leave them.
        @param mtime: nanoseconds since 1970; C{None} to leave it.
        @return: fires with what is known of it, if the server tells; fails as with L{stat}.
        """
        make = partial(Change, name=name, mode=mode, mtime=mtime)
        return self._question(make, _factsIfTold, name, mode=mode, mtime=mtime)

    # What comes.

    def recordReceived(self, record: Record) -> None:
        """Hand a record to its request."""
        id: int = getattr(record, "id", 0)
        asked = self._open.get(id)
        if asked is None:
            what = type(record).__name__.upper()
            raise ProtocolError(f"{what} is for request {id}, which is not open.")
        asked.received(record)

    def errorReceived(self, error: NetsuiteError, about: About) -> None:
        """Note an error that is about no request: those have answers of their own."""
        self.log.warn("{error}", error=error.sentence)

    def sessionDraining(self) -> None:
        """Close, as soon as nothing is open; what waits here is not begun any more."""
        self._loseWaiting()
        if not self._open:
            self.finish()

    def sessionClosed(self, reason: NetsuiteError | None) -> None:
        """Nothing that is open will ever be answered."""
        super().sessionClosed(reason)
        error = reason or ConnectionFailed(
            f"The session with {self.peerName()} was closed while this was open."
        )
        lost = [*self._open.values(), *self._waiting]
        self._open.clear()
        self._waiting.clear()
        for asked in lost:
            asked.lost(error)

    # What the requests, and those who make them, call.

    def ask(self, asked: A) -> A:
        """
        Send a request, or let it wait for its turn.

        @param asked: the request; where the session is over it is told so at once.
        @return: the same.
        """
        if not self.isOpen:
            asked.lost(self._stops() if self.machine.isOpen else self._failure())
        elif len(self._open) < MAX_OPEN and not self._waiting:
            self._begin(asked)
        else:
            self._waiting.append(asked)
        return asked

    def release(self, asked: Asked) -> None:
        """Take a request for answered, and send one that has waited; or end the session."""
        self._open.pop(asked.id, None)
        if self._waiting:
            self._goOn()
        elif not self._open and self.draining:
            self.finish()
        if self._unread:
            self._balanceReading()

    def unsent(self, asked: Asked) -> None:
        """Forget a request that still waits for its turn, or was never made."""
        if asked in self._waiting:
            self._waiting.remove(asked)

    def unread(self, count: int) -> None:
        """Count lists that nobody reads."""
        self._unread += count
        self._balanceReading()

    def waits(self, count: int) -> None:
        """
        Count bytes that wait for the disk, or for whoever takes a file; while there are more than
        L{MAX_DEBT}, nothing is read.

        @param count: how many more; fewer when it is negative.
        """
        self._debt += count
        self._balanceReading()

    def gathers(self, count: int) -> None:
        """
        Count bytes of files of which DONE has not come.

        @param count: how many more; fewer when it is negative.
        @raise ProtocolError: when they are more than L{MAX_GATHERED}.
        """
        self._gathered += count
        if self._gathered > MAX_GATHERED:
            raise ProtocolError(f"{self._gathered} bytes of files came, and DONE for none of them.")

    def batches(self, disk: Disk) -> Batches:
        """
        Find what does the small work of this session.

        @param disk: where.
        @return: does many pieces of work at once, in order.
        """
        found = self._batches.get(disk)
        if found is None:
            found = self._batches[disk] = Batches(self.clock, disk)
        return found

    # What is behind that.

    def _question(
        self,
        make: Callable[..., Request],
        read: Callable[[Done], T],
        *names: bytes,
        mode: int | None = None,
        mtime: int | None = None,
    ) -> Deferred[T]:
        try:
            for name in names:
                split(name)
            requireAttributes(mode, mtime)
        except NetsuiteError as error:
            return fail(error)
        asked = self.ask(Question(self, questionMachine(), _make(make)))
        return asked.answer.addCallback(read)

    def _listing(self, name: bytes, make: Callable[..., Request], deep: bool) -> Listing:
        listing = Listing(self, _make(make), deep=deep)
        try:
            split(name)
        except NetsuiteError as error:
            listing.cancel()
            listing.failed(error)
            return listing
        return self.ask(listing)

    def _goOn(self) -> None:
        """Send a request that has waited; when there is no number for it, none ever will be."""
        if self._last < LAST_ID:
            self._begin(self._waiting.popleft())
        else:
            self._loseWaiting()

    def _loseWaiting(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for asked in waiting:
            asked.lost(self._stops())

    def _begin(self, asked: Asked) -> None:
        self._last += 1
        self._open[self._last] = asked
        asked.begin(self._last)
        if self._unread:
            self._balanceReading()

    def _stops(self) -> NetsuiteError:
        if self._last >= LAST_ID:
            return ConnectionFailed(
                f"This session with {self.peerName()} has had all requests that it can have; "
                "connect again."
            )
        return ConnectionFailed(f"{self.peerName()} stops: nothing new is begun.")

    def _balanceReading(self) -> None:
        """
        Read as long as there is somewhere to put what comes.

        A list that is not read makes the server wait only where nothing else is open: whoever reads
        it may be waiting for that.
        """
        self.hold(self._debt > MAX_DEBT or 0 < self._unread >= len(self._open))


def connectFiles(
    endpoint: IStreamClientEndpoint,
    clock: IReactorTime,
    *,
    name: str,
    user: str | None = None,
    token: str | None = None,
    timeout: float = 10.0,
) -> Deferred[FilesSession]:
    """
    Open a session with a files service.

    @param endpoint: where to.
    @param clock: the reactor, or a fake clock in tests.
    @param name: the address, for sentences.
    @param user: who we are, together with a token.
    @param token: the proof; it is sent only over TLS or a Unix socket.
    @param timeout: seconds until the session has to be open, connecting included.
    @return: fires with the open session; fails as L{connectSession} does.
    """
    try:
        hello = helloFor(SERVICE, user=user, token=token)
    except ConfigurationError as error:
        return fail(error)
    codec = SessionCodec(RECORDS)
    return openSession(FilesSession, endpoint, clock, codec, hello, name=name, timeout=timeout)


def leastBusy(sessions: Sequence[FilesSession]) -> FilesSession:
    """
    Choose a session for what needs only one.

    @param sessions: those that there are.
    @return: the one on which least is open.
    @raise ConnectionFailed: when none of them is.
    """
    if len(sessions) == 1:
        return sessions[0]
    usable = [session for session in sessions if session.isOpen]
    if not usable:
        raise ConnectionFailed("No session is open any more; connect again.")
    return min(usable, key=lambda session: session.load)


def _make(make: Callable[..., Request]) -> Make:
    return lambda id: make(id=id)


def _factsIfTold(done: Done) -> Facts | None:
    return done.facts


def _factsOf(done: Done) -> Facts:
    if done.facts is None:
        raise ProtocolError("The server answered without telling what it has found.")
    return done.facts


def _hashedOf(done: Done) -> Hashed:
    if done.digest is None:
        raise ProtocolError("The server answered without telling the digest.")
    return Hashed(_factsOf(done), done.digest)
