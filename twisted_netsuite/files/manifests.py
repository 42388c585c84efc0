"""
Lists of directories, and digests of files, found step by step; all of it blocks. What takes long
pauses now and then, so that nobody else waits for long, and it can be broken off.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from twisted_netsuite.errors import NetsuiteError, NotFound, SourceChanged
from twisted_netsuite.files.answers import factsOf
from twisted_netsuite.files.digests import CHUNK, chunks, combined, digestOf
from twisted_netsuite.files.messages import LIST_BYTES, LIST_ENTRIES, Listed
from twisted_netsuite.files.names import Parts, isName
from twisted_netsuite.files.permit import Place
from twisted_netsuite.files.quick import Shows
from twisted_netsuite.files.store import Attributes, Entry, Source, Store

#: Chunks, or small files, that are digested in one step: with BLAKE3 some 10 milliseconds, from a
#: slow disk less than a second.
STEP = 16

#: The digest of a whole chunk of zeros, of which sparse files can have millions.
_ZERO = digestOf(bytes(CHUNK))

#: Entries that fit into a record; none where there is only a pause.
Piece = tuple[Listed, ...]


def digesting(store: Store, parts: Parts) -> Generator[tuple[Attributes, bytes] | None]:
    """
    Digest a file, step by step.

    @param store: has it.
    @param parts: its name.
    @return: gives C{None} after each step but the last, then what is known of it and its digest;
        closes the file when it is closed, or at its end.
    @raise SourceChanged: when it changes meanwhile.
    """
    source = store.source(parts)
    try:
        made: list[bytes] = []
        count = chunks(source.attributes.size)
        while len(made) < count:
            _digestSome(source, made, count)
            if len(made) < count:
                yield None
        if not source.unchanged():
            raise SourceChanged("The file changes while it is digested; try again later.")
        yield source.attributes, combined(made)
    finally:
        source.close()


def _digestSome(source: Source, made: list[bytes], count: int) -> None:
    """Add the digests of the holes that come next, or of some chunks that are none."""
    size, index = source.attributes.size, len(made)
    start = source.data(index * CHUNK)[0]
    # The last chunk may be shorter, so that it has a digest of its own.
    holes = min(start // CHUNK, count - 1) - index
    if holes > 0:
        made.extend([_ZERO] * holes)
    elif start >= size > 0:
        made.append(digestOf(bytes(size - index * CHUNK)))
    else:
        made.extend(source.digest(each) for each in range(index, min(index + STEP, count)))


def listed(place: Place, shows: Shows | None) -> Iterator[Piece]:
    """
    List a directory, but for what is so deep that no request can name it.

    @param place: where it is.
    @param shows: tells which names may be known; C{None} when all may be.
    @return: the entries, in pieces that fit into a record.
    """
    parts = place.parts
    # Not before the first piece is asked for, in a thread.
    yield from _inPieces(
        Listed(name=entry.name, facts=factsOf(entry.attributes))
        for entry in place.store.list(parts)
        if isName((*parts, entry.name)) and (shows is None or shows((*parts, entry.name)))
    )


def manifest(place: Place, shows: Shows | None, digests: bool) -> Iterator[Piece]:
    """
    List a directory and all below it, but for what is so deep that no request can name it.

    @param place: where it is.
    @param shows: tells which names may be known; C{None} when all may be.
    @param digests: whether to digest files.
    @return: the entries, in pieces that fit into a record.
    """
    yield from _inPieces(_below(place.store, place.parts, shows, digests))


def _below(store: Store, top: Parts, shows: Shows | None, digests: bool) -> Iterator[Listed | None]:
    directories = [top]
    digested = 0
    while directories:
        here = directories.pop()
        for entry in _entries(store, here, top=here == top):
            parts = (*here, entry.name)
            if not isName(parts) or (shows is not None and not shows(parts)):
                continue
            directory = entry.attributes.kind == "directory"
            if directory:
                directories.append(parts)
            digest = None
            if digests and not directory:
                digested += 1
                if digested % STEP == 0:
                    yield None
                digest = yield from _digested(store, parts)
            yield Listed(
                name=b"/".join(parts[len(top) :]), facts=factsOf(entry.attributes), digest=digest
            )


def _digested(store: Store, parts: Parts) -> Generator[None, None, bytes | None]:
    """What cannot be read has no digest."""
    try:
        for found in digesting(store, parts):
            if found is not None:
                return found[1]
            yield None
    except NetsuiteError:
        pass
    return None


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


def _inPieces(entries: Iterator[Listed | None]) -> Iterator[Piece]:
    piece: list[Listed] = []
    size = 0
    for entry in entries:
        if entry is None:
            yield ()
            continue
        piece.append(entry)
        size += len(entry.name)
        if len(piece) == LIST_ENTRIES or size >= LIST_BYTES:
            yield tuple(piece)
            piece, size = [], 0
    if piece:
        yield tuple(piece)
