"""
A directory that is looked up once for all the small files that one thread publishes there in a row.

That is safe as long as what is done together was asked for before it began. Whoever renames the
directory meanwhile, or puts another in its place, cannot tell whether that was before or after the
files were asked for, as each of them could have been looked up that early; what is asked for later
is looked up later. So nothing is held from one L{together} to the next, and in one of them nothing
that this thread does to names comes in between.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.root import Root


class _Held(threading.local):
    """The directory of the last file, one in each thread."""

    active = False
    descriptor = -1
    root: Root | None = None
    parts: Parts = ()
    read = durable = False
    since: object = None


_held = _Held()

#: Another one after each change of a name, in any thread: a directory may have another name then,
#: and who was allowed to write by the old one need not be by that.
_latest = object()


@contextmanager
def together() -> Iterator[None]:
    """Do in this thread what was asked for before."""
    if _held.active:
        yield
        return
    _held.active = True
    try:
        yield
    finally:
        letGo()
        _held.active = False


def parentOf(root: Root, parts: Parts, read: bool, durable: bool) -> tuple[int, bool]:
    """
    Find the directory of a file that is to be published.

    @param root: where its name is looked up.
    @param parts: the name.
    @param read: whether the descriptor is to be one for reading.
    @param durable: whether the way there is to be on the disk, and not in memory only.
    @return: a descriptor, and whether it is held: else who has asked closes it.
    @raise NetsuiteError: as L{Root.parent}.
    @raise OSError: from the system.
    """
    held = _held
    if not held.active:
        return _found(root, parts, read, durable), False
    fits = held.since is _latest and held.read >= read and held.durable >= durable
    if held.root is root and held.parts == parts[:-1] and fits:
        root.require(parts)
        return held.descriptor, True
    letGo()
    # Before it is looked up: what changes after that is noticed.
    held.since = _latest
    held.descriptor = _found(root, parts, read, durable)
    held.root, held.parts, held.read, held.durable = root, parts[:-1], read, durable
    return held.descriptor, True


def _found(root: Root, parts: Parts, read: bool, durable: bool) -> int:
    directory = root.parent(parts, read)
    try:
        if durable:
            root.persistAbove(directory)
    except BaseException:
        os.close(directory)
        raise
    return directory


def renamed() -> None:
    """Let no thread go on with a directory that it had before, as it may have another name."""
    global _latest
    _latest = object()


def letGo() -> None:
    """Hold nothing any more, as names are about to change, or the root is closed."""
    held = _held
    if held.descriptor >= 0:
        os.close(held.descriptor)
    held.descriptor, held.root = -1, None
