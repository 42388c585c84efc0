"""
What the service does on a disk for requests that are done in one go; all of it blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from twisted.python.failure import Failure

from twisted_netsuite.errors import Corrupted, Denied, NetsuiteError, SourceChanged
from twisted_netsuite.files.answers import errorOf, factsOf
from twisted_netsuite.files.digests import digestOf
from twisted_netsuite.files.messages import (
    BUNDLE_BYTES,
    Change,
    Facts,
    Get,
    GetBundle,
    MakeDirectory,
    Put,
    PutBundle,
    Remove,
    Rename,
    Stat,
)
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.permit import Move, Place
from twisted_netsuite.files.small import Small, readSmall
from twisted_netsuite.files.store import Attributes, Wanted
from twisted_netsuite.files.uploads import Begun

#: Bytes of a file that is read at once and answered whole: what the C library gives without new
#: pages of memory, and a thread reads in less time than the way to it takes.
SMALL = 112 * 1024

#: Tells whether who asks may know that there is something of that name.
Shows = Callable[[Parts], bool]

#: Where a file of a bundle is, or why nothing may be done with it.
Placed = Place | NetsuiteError


#: A file of a bundle: whole, or what it is where it is too large, or why it is not there.
Read = Small | Attributes | NetsuiteError


def carryOut(
    record: Stat | MakeDirectory | Remove | Change,
    place: Place,
    shows: Shows | None,
    made: list[Parts],
) -> Facts | None:
    """
    Do what is asked of one name.

    @param record: the request.
    @param place: where it is.
    @param shows: tells which names may be known; C{None} when all may be.
    @param made: gets the names of directories above that were made, too.
    @return: what it is then, if it still is, and may be known.
    @raise Denied: when the root itself is to be changed.
    """
    store, parts = place.store, place.parts
    match record:
        case MakeDirectory():
            place.makeDirectory(record.mode, record.parents, made.append)
        case Change():
            if not parts:
                raise Denied("The root is its operator's; only what is in it can be changed.")
            store.change(parts, record.mode, record.mtime)
        case Remove():
            place.remove()
            return None
    if shows is not None and not shows(parts):
        return None
    return factsOf(store.stat(parts))


def rename(record: Rename, move: Move, shows: Shows | None) -> Facts | None:
    """
    Give something another name.

    @param record: the request.
    @param move: allows it.
    @param shows: tells which names may be known; C{None} when all may be.
    @return: what it is then, if it may be known.
    """
    move.make(record.clobber)
    if shows is not None and not shows(move.target.parts):
        return None
    return factsOf(move.target.store.stat(move.target.parts))


def openFile(record: Get, place: Place) -> Small | Place:
    """
    Read a file when it is small.

    @param record: the request.
    @param place: where it is.
    @return: all of it, or where it is: it is opened when its turn comes, as many may wait.
    @raise SourceChanged: when it is not the version that was asked for.
    """
    whole = not record.first and record.count in (None, 1)
    return _wholeOr(place, record.version, SMALL if whole else -1) or place


def openToDigest(place: Place) -> Small | Place:
    """
    Read a file whose digest is wanted, when it is small.

    @param place: where it is.
    @return: all of it, or where it is.
    """
    return _wholeOr(place, None, SMALL) or place


def _wholeOr(place: Place, version: bytes | None, limit: int) -> Small | None:
    found = readSmall(place.store, place.parts, limit)
    if isinstance(found, Small):
        requireVersion(found.attributes, version)
        return found
    try:
        requireVersion(found.attributes, version)
    finally:
        found.close()
    return None


def readBundle(record: GetBundle, placed: Sequence[Placed]) -> list[Read]:
    """
    Read small files.

    @param record: the request.
    @param placed: where each is.
    @return: each whole; of one that is too large what it is; or why it is not there.
    """
    found: list[Read] = []
    room = BUNDLE_BYTES
    for chosen, place in zip(record.files, placed, strict=True):
        try:
            small = _small(_found(place), chosen.version, room)
        except Exception:
            found.append(errorOf(Failure()))
            continue
        found.append(small)
        if isinstance(small, Small):
            room -= len(small.data)
    return found


def _found(place: Placed) -> Place:
    if isinstance(place, NetsuiteError):
        raise place
    return place


def _small(place: Place, version: bytes | None, room: int) -> Small | Attributes:
    found = readSmall(place.store, place.parts, room)
    if isinstance(found, Small):
        requireVersion(found.attributes, version)
        return found
    found.close()
    return found.attributes


def requireVersion(attributes: Attributes, version: bytes | None) -> None:
    """
    Require that a file is what was asked for.

    @param attributes: what is known of it.
    @param version: which one was asked for; C{None} for any.
    @raise SourceChanged: when it is another.
    """
    if version is not None and version != attributes.version:
        raise SourceChanged("The file has changed since it was looked at; begin anew.")


def publishBundle(
    record: PutBundle, pieces: list[bytes], placed: Sequence[Placed]
) -> list[Attributes | NetsuiteError]:
    """
    Write small files.

    @param record: the request.
    @param pieces: their contents, one behind the other.
    @param placed: where each goes.
    @return: what each is then, or why it is not.
    """
    data = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
    made: list[Attributes | NetsuiteError] = []
    start = 0
    for offered, place in zip(record.files, placed, strict=True):
        end = start + offered.size
        wanted = Wanted(
            size=offered.size,
            mtime=offered.mtime,
            mode=offered.mode,
            clobber=record.clobber,
            durable=record.durable,
        )
        try:
            made.append(_publish(_found(place), wanted, bytes(data[start:end]), offered.digest))
        except Exception:
            made.append(errorOf(Failure()))
        start = end
    return made


def publish(record: Put, place: Place, pieces: list[bytes], digest: bytes) -> Attributes:
    """
    Write a file of one chunk.

    @param record: the request.
    @param place: where it goes.
    @param pieces: its contents.
    @param digest: theirs, as its sender says.
    @return: what it is then.
    @raise Corrupted: when they have another.
    """
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return _publish(place, wantedBy(record), data, digest)


def _publish(place: Place, wanted: Wanted, data: bytes, digest: bytes) -> Attributes:
    if digestOf(data) != digest:
        raise Corrupted("The file came with other contents than its digest says; send it again.")
    wanted = _asPlaced(wanted, place)
    with place.held():
        reservation = place.reserve(wanted.size)
        try:
            attributes = place.store.publishWhole(place.parts, wanted, data)
        except BaseException:
            reservation.release()
            raise
        reservation.publish(attributes.size)
    return attributes


def begin(record: Put, place: Place) -> Begun:
    """
    Begin to write a file, or go on with it.

    @param record: the request.
    @param place: where it goes.
    @return: the file.
    """
    wanted = _asPlaced(wantedBy(record), place)
    with place.held():
        reservation = place.reserve(wanted.size, wanted.source)
        try:
            target = place.store.target(place.parts, wanted, place.owner)
        except BaseException:
            reservation.undo()
            raise
    return Begun(target, reservation, place)


def _asPlaced(wanted: Wanted, place: Place) -> Wanted:
    if place.durable and not wanted.durable:
        return replace(wanted, durable=True)
    return wanted


def wantedBy(record: Put) -> Wanted:
    """
    Read what is to be published.

    @param record: the request.
    @return: what it says.
    """
    return Wanted(
        size=record.size,
        mtime=record.mtime,
        mode=record.mode,
        clobber=record.clobber,
        replaces=record.replaces,
        source=None if record.follows else record.source,
        durable=record.durable,
        room=record.room,
    )
