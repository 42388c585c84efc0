"""
What the service does on a disk for requests that are done in one go; all of it blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from twisted_netsuite.errors import Corrupted, NetsuiteError, NotFound, SourceChanged
from twisted_netsuite.files.answers import factsOf
from twisted_netsuite.files.digests import chunks, combined, digestOf
from twisted_netsuite.files.messages import (
    LIST_BYTES,
    LIST_ENTRIES,
    Change,
    Facts,
    Get,
    Listed,
    MakeDirectory,
    Put,
    Remove,
    Rename,
    Stat,
)
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.permit import Move, Place
from twisted_netsuite.files.store import Attributes, Entry, Source, Store, Wanted
from twisted_netsuite.files.uploads import Begun

#: Bytes of a file that is read at once and answered whole: what the C library gives without new
#: pages of memory, and a thread reads in less time than the way to it takes.
SMALL = 112 * 1024

#: Tells whether who asks may know that there is something of that name.
Shows = Callable[[Parts], bool]


@dataclass(frozen=True)
class Small:
    """
    A whole file.

    @ivar attributes: what is known of it.
    @ivar data: its contents.
    @ivar digest: theirs.
    """

    attributes: Attributes
    data: bytes
    digest: bytes


def carryOut(record: Stat | MakeDirectory | Remove | Change, place: Place) -> Facts | None:
    """
    Do what is asked of one name.

    @param record: the request.
    @param place: where it is.
    @return: what it is then, if it still is.
    """
    store, parts = place.store, place.parts
    match record:
        case MakeDirectory():
            place.makeDirectory(record.mode, record.parents)
        case Change():
            store.change(parts, record.mode, record.mtime)
        case Remove():
            place.remove()
            return None
    return factsOf(store.stat(parts))


def rename(record: Rename, move: Move) -> Facts:
    """
    Give something another name.

    @param record: the request.
    @param move: allows it.
    @return: what it is then.
    """
    move.make(record.clobber)
    return factsOf(move.target.store.stat(move.target.parts))


def openFile(record: Get, place: Place) -> Small | Source:
    """
    Open a file, and read it when it is small.

    @param record: the request.
    @param place: where it is.
    @return: all of it, or what has to be closed.
    @raise SourceChanged: when it is not the version that was asked for.
    """
    source = place.store.source(place.parts)
    try:
        attributes = source.attributes
        if record.version is not None and record.version != attributes.version:
            raise SourceChanged("The file has changed since it was looked at; begin anew.")
        whole = not record.first and record.count in (None, 1)
        if attributes.size > SMALL or not whole:
            return source
        data = source.read(0, attributes.size)
        small = Small(attributes, data, digestOf(data))
    except BaseException:
        source.close()
        raise
    source.close()
    return small


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
    if digestOf(data) != digest:
        raise Corrupted("The file came with other contents than its digest says; send it again.")
    begun = begin(record, place)
    try:
        begun.target.write(0, [data])
        begun.target.chunkWritten(0, digest)
    except BaseException:
        begun.end(keep=False)
        raise
    return begun.commit(digest)


def begin(record: Put, place: Place) -> Begun:
    """
    Begin to write a file, or go on with it.

    @param record: the request.
    @param place: where it goes.
    @return: the file.
    """
    wanted = wantedBy(record, place.durable)
    reservation = place.reserve(record.size, wanted.source)
    try:
        target = place.store.target(place.parts, wanted, place.owner)
    except BaseException:
        reservation.release()
        raise
    return Begun(target, reservation, place)


def wantedBy(record: Put, durable: bool) -> Wanted:
    """
    Read what is to be published.

    @param record: the request.
    @param durable: whether it has to be on the disk, whatever the request says.
    @return: what it says.
    """
    return Wanted(
        size=record.size,
        mtime=record.mtime,
        mode=record.mode,
        clobber=record.clobber,
        replaces=record.replaces,
        source=None if record.follows else record.source,
        durable=record.durable or durable,
        room=record.room,
    )


def digest(place: Place) -> tuple[Facts, bytes]:
    """
    Digest a file.

    @param place: where it is.
    @return: what is known of it, and its digest.
    @raise SourceChanged: when it changes meanwhile.
    """
    return _digest(place.store, place.parts)


def _digest(store: Store, parts: Parts) -> tuple[Facts, bytes]:
    source = store.source(parts)
    try:
        size = source.attributes.size
        found = combined([source.digest(index) for index in range(chunks(size))])
        if not source.unchanged():
            raise SourceChanged("The file changes while it is digested; try again later.")
        return factsOf(source.attributes), found
    finally:
        source.close()


def listed(place: Place, shows: Shows | None) -> Iterator[tuple[Listed, ...]]:
    """
    List a directory.

    @param place: where it is.
    @param shows: tells which names may be known; C{None} when all may be.
    @return: the entries, in pieces that fit into a record.
    """
    parts = place.parts
    # Not before the first piece is asked for, in a thread.
    yield from _inPieces(
        Listed(name=entry.name, facts=factsOf(entry.attributes))
        for entry in place.store.list(parts)
        if shows is None or shows((*parts, entry.name))
    )


def manifest(place: Place, shows: Shows | None, digests: bool) -> Iterator[tuple[Listed, ...]]:
    """
    List a directory and all below it.

    @param place: where it is.
    @param shows: tells which names may be known; C{None} when all may be.
    @param digests: whether to digest files.
    @return: the entries, in pieces that fit into a record.
    """
    yield from _inPieces(_below(place.store, place.parts, shows, digests))


def _below(store: Store, top: Parts, shows: Shows | None, digests: bool) -> Iterator[Listed]:
    directories = [top]
    while directories:
        here = directories.pop()
        for entry in _entries(store, here, top=here == top):
            parts = (*here, entry.name)
            if shows is not None and not shows(parts):
                continue
            directory = entry.attributes.kind == "directory"
            if directory:
                directories.append(parts)
            yield Listed(
                name=b"/".join(parts[len(top) :]),
                facts=factsOf(entry.attributes),
                digest=_digestOf(store, parts) if digests and not directory else None,
            )


def _entries(store: Store, parts: Parts, top: bool) -> Iterator[Entry]:
    """
    One that has vanished since it was listed holds nothing. One that cannot be read ends the list:
    whoever takes what is not listed for removed would lose what is there.
    """
    try:
        yield from store.list(parts)
    except NotFound:
        if top:
            raise


def _digestOf(store: Store, parts: Parts) -> bytes | None:
    """What cannot be read has no digest."""
    try:
        return _digest(store, parts)[1]
    except NetsuiteError:
        return None


def _inPieces(entries: Iterator[Listed]) -> Iterator[tuple[Listed, ...]]:
    piece: list[Listed] = []
    size = 0
    for entry in entries:
        piece.append(entry)
        size += len(entry.name)
        if len(piece) == LIST_ENTRIES or size >= LIST_BYTES:
            yield tuple(piece)
            piece, size = [], 0
    if piece:
        yield tuple(piece)
