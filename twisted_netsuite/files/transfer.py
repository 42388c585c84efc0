"""
Files fetched and sent, whole and verified: the client's side of GET and PUT, over one or several
sessions, and once more over new ones.

Small files cost no round trip each when many are begun without waiting for one another.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar, Unpack

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.task import deferLater

from twisted_netsuite.errors import (
    ConfigurationError,
    ConnectionFailed,
    Denied,
    InvalidName,
    NetsuiteError,
    NotFound,
    TimedOut,
)
from twisted_netsuite.files.client import FilesSession
from twisted_netsuite.files.disk import Disk
from twisted_netsuite.files.getfile import GetFile
from twisted_netsuite.files.messages import Facts
from twisted_netsuite.files.moving import (
    Got,
    Local,
    Moved,
    Sent,
    Unconfirmed,
    Wishes,
    wantedOf,
)
from twisted_netsuite.files.putfile import PutFile
from twisted_netsuite.files.sendable import requireAttributes, requireSendable
from twisted_netsuite.files.streaming import Streaming
from twisted_netsuite.files.streamput import PutStream
from twisted_netsuite.files.told import Told

__all__ = [
    "Got",
    "Local",
    "Moved",
    "PutStream",
    "Sent",
    "Unconfirmed",
    "Wishes",
    "getFile",
    "getStream",
    "putFile",
    "putStream",
    "retrying",
]

T = TypeVar("T")

Sessions = Sequence[FilesSession]

_WISHES = frozenset(Wishes.__annotations__)

#: Bytes of a file that the protocol can tell of.
MAX_SIZE = 2**62

#: What is written has no other one to be told apart from.
_NO_VERSION = bytes(16)

#: How often a transfer is tried, and seconds before the second try and before any: together some
#: half a minute, in which most links come back.
ATTEMPTS, DELAY, MAX_DELAY = 6, 1.0, 30.0


def getFile(
    sessions: Sessions,
    name: bytes,
    local: Local,
    *,
    facts: Facts | None = None,
    moved: Moved | None = None,
    **wishes: Unpack[Wishes],
) -> Deferred[Got]:
    """
    Fetch a file, and publish it at this end when it is whole and right.

    @param sessions: of one server and identity, at least one: all of them fetch chunks of a large
        file, and the one with the least to do a small one.
    @param name: the file there.
    @param local: where it is to be; its directory exists.
    @param facts: what a list or C{stat} has told of it. Then it has to be that version, and what is
        there of a large file from an earlier try is known before anything is fetched.
    @param moved: called with bytes that are in place now; what it raises ends the transfer with
        that, here and in the others.
    @param wishes: how; as L{Wishes} says.
    @return: fires when it is published. Cancelling it breaks it off, with what has come kept for
        another try, and fires when that is so. Fails with L{NotFound}, L{Denied} and the like from
        either end; with L{SourceChanged} when it changed meanwhile; with L{Corrupted} when a chunk
        came wrong twice; with L{Conflict} when it may not replace what is there; with
        L{StorageFailed}; with L{ConnectionFailed} when no session is left.
    """
    try:
        _require(name, local, wishes)
        return _telling(
            sessions,
            moved,
            lambda told: GetFile(sessions, name, local, facts, wishes, told).start(),
        )
    except NetsuiteError as error:
        return fail(error)


def getStream(
    sessions: Sessions,
    name: bytes,
    consumer: IConsumer,
    *,
    facts: Facts | None = None,
    moved: Moved | None = None,
) -> Deferred[Got]:
    """
    Fetch a file into a consumer, in order; each chunk is verified before any of it is handed on.

    @param sessions: of one server and identity, at least one; when one ends, the next goes on.
    @param name: the file there.
    @param consumer: gets it, and a push producer; while it pauses that, the server waits, and all
        else on that session with it: give a stream that may pause for long a session of its own.
    @param facts: what is known of it; then it has to be that version.
    @param moved: called with bytes that were handed on.
    @return: fires when all was handed on, and the file had not changed by then. Cancelling it
        breaks it off. Fails as L{getFile} does, when a part may have been handed on, and with
        L{ConnectionFailed} when the consumer takes nothing any more.
    """
    try:
        requireSendable(name)
    except NetsuiteError as error:
        return fail(error)

    def begin(told: Moved) -> Deferred[Got]:
        streaming = Streaming(sessions, name, consumer, facts, told)
        streaming.start()
        return streaming.done

    return _telling(sessions, moved, begin)


def putFile(
    sessions: Sessions,
    local: Local,
    name: bytes,
    *,
    moved: Moved | None = None,
    **wishes: Unpack[Wishes],
) -> Deferred[Sent]:
    """
    Send a file; the server publishes it when it is whole and right.

    @param sessions: of one server and identity, at least one: all of them send chunks of a large
        file, and the one with the least to do a small one.
    @param local: the file at this end.
    @param name: what it is to be there; its directory exists.
    @param moved: called with bytes that were sent, or were there.
    @param wishes: how; as L{Wishes} says.
    @return: fires when it is published. Cancelling it breaks it off, with what the server has kept
        for another try. Fails as L{getFile} does; with L{Unconfirmed} when the connection ended
        after all was sent, so that it may have been published.
    """
    try:
        _require(name, local, wishes)
        return _telling(
            sessions, moved, lambda told: PutFile(sessions, local, name, wishes, told).start()
        )
    except NetsuiteError as error:
        return fail(error)


def putStream(
    sessions: Sessions,
    name: bytes,
    size: int,
    disk: Disk,
    *,
    moved: Moved | None = None,
    **wishes: Unpack[Wishes],
) -> PutStream:
    """
    Send a file as a producer writes it; the server publishes it when it is whole and right.

    @param sessions: of one server and identity, at least one, of which one is used.
    @param name: what it is to be there; its directory exists.
    @param size: its bytes, which the server wants to know before they come.
    @param disk: digests them, apart from the reactor; at most three chunks are in memory.
    @param moved: called with bytes that were sent.
    @param wishes: how; as L{Wishes} says. Nothing can be resumed, and nothing be preserved.
    @return: a consumer: what is written to it is the file, and C{unregisterProducer} is its end.
        Its C{done} fires when it is published; cancelling that breaks it off. It fails with
        L{SourceChanged} when it came shorter or longer than promised; with L{Conflict}, L{Denied}
        and the like from the server; with L{LimitExceeded} when for minutes nothing comes; with
        L{ConnectionFailed} when the session ends, of which L{Unconfirmed} says that all was sent;
        with what the producer raises. Then the producer is stopped, and nothing was published.
    @raise NetsuiteError: when it cannot be begun: L{ConnectionFailed} when no session is open,
        L{InvalidName} and L{ConfigurationError} for what can never be sent.
    """
    requireSendable(name)
    _requireWishes(wishes)
    if wishes.get("preserve", False):
        raise ConfigurationError("A stream has no mode or time to preserve; give them.")
    if not 0 <= size <= MAX_SIZE:
        raise ConfigurationError(f"A size of {size} bytes was given; a file has 0 to {MAX_SIZE}.")
    wanted = wantedOf(Facts(size=size, version=_NO_VERSION), wishes, None)
    if moved is None or not sessions:
        stream = PutStream(sessions, name, wanted, disk, moved or _untold)
    else:
        told = Told(sessions[0].clock, moved)
        stream = PutStream(sessions, name, wanted, disk, told)
        told.follow(stream.done)
    stream.start()
    return stream


def retrying(
    connect: Callable[[], Deferred[Sessions]],
    transfer: Callable[[Sessions], Deferred[T]],
    *,
    clock: IReactorTime,
    attempts: int = ATTEMPTS,
    delay: float = DELAY,
    most: float = MAX_DELAY,
    notice: Callable[[NetsuiteError, float], object] | None = None,
) -> Deferred[T | Sent]:
    """
    Do a transfer, and go on with it over new sessions when they are lost.

    @param connect: gives sessions, new ones or what is open still; nothing is closed here.
    @param transfer: L{getFile} or L{putFile} with what belongs to it; begun anew it goes on where
        it was. What has gone into a consumer cannot be taken back: L{getStream} is not for this.
    @param clock: waits.
    @param attempts: how often it is tried, at least once.
    @param delay: seconds before the second try; twice as many before each of the next.
    @param most: seconds before any.
    @param notice: called before each wait with what has failed, and the seconds.
    @return: fires with what the transfer does. Where it was a PUT of which all was sent and nobody
        said whether it was published, the server's file is compared before it is sent again.
        Cancelling it breaks off what is going on. Fails with what is neither L{ConnectionFailed}
        nor L{TimedOut}, and with the last of these.
    """
    tried: Coroutine[Deferred[Any], Any, Any] = _retrying(
        connect, transfer, clock, attempts, delay, most, notice or _unnoticed
    )
    return Deferred.fromCoroutine(tried)


async def _retrying(
    connect: Callable[[], Deferred[Sessions]],
    transfer: Callable[[Sessions], Deferred[Any]],
    clock: IReactorTime,
    attempts: int,
    delay: float,
    most: float,
    notice: Callable[[NetsuiteError, float], object],
) -> Any:
    unconfirmed: Unconfirmed | None = None
    while True:
        attempts -= 1
        try:
            sessions = await connect()
            isThere = False if unconfirmed is None else await _isThere(sessions, unconfirmed)
            if isThere is False:
                unconfirmed = None
                return await transfer(sessions)
        except (ConnectionFailed, TimedOut) as error:
            if isinstance(error, Unconfirmed):
                unconfirmed = error
            if attempts <= 0:
                raise unconfirmed or error from None
            notice(error, delay)
            await deferLater(clock, delay)
            delay = min(most, 2 * delay)
            continue
        assert unconfirmed is not None, "Only of such a one it is asked."
        if isThere:
            return unconfirmed.sent
        raise unconfirmed


async def _isThere(sessions: Sessions, unconfirmed: Unconfirmed) -> bool | None:
    """Ask whether what was sent was published; who may not read cannot know."""
    try:
        hashed = await sessions[0].hash(unconfirmed.name)
    except NotFound:
        return False
    except Denied:
        return None
    return hashed.digest == unconfirmed.sent.digest


def _require(name: bytes, local: Local, wishes: Wishes) -> None:
    requireSendable(name)
    if not local.parts:
        raise InvalidName("The root is no file; give the name of one.")
    _requireWishes(wishes)


def _requireWishes(wishes: Wishes) -> None:
    if not wishes:
        return
    if not wishes.keys() <= _WISHES:
        raise TypeError(f"{min(wishes.keys() - _WISHES)!r} is no wish for a transfer.")
    replaces = wishes.get("replaces")
    if replaces is not None and len(replaces) != 32:
        raise ConfigurationError(
            f"A digest of {len(replaces)} bytes was given for the file to replace; it has 32."
        )
    requireAttributes(wishes.get("mode"), wishes.get("mtime"))


def _telling(
    sessions: Sessions, moved: Moved | None, begin: Callable[[Moved], Deferred[T]]
) -> Deferred[T]:
    if moved is None or not sessions:
        return begin(moved or _untold)
    told = Told(sessions[0].clock, moved)
    return told.follow(begin(told))


def _untold(count: int) -> None:
    """Nobody follows."""


def _unnoticed(error: NetsuiteError, seconds: float) -> None:
    """Nobody wants to know."""
