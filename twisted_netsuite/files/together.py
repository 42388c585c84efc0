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
    read = False


_held = _Held()


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


def parentOf(root: Root, parts: Parts, read: bool) -> tuple[int, bool]:
    """
    Find the directory of a file that is to be published.

    @param root: where its name is looked up.
    @param parts: the name.
    @param read: whether the descriptor is to be one for reading.
    @return: a descriptor, and whether it is held: else who has asked closes it.
    @raise NetsuiteError: as L{Root.parent}.
    @raise OSError: from the system.
    """
    held = _held
    if not held.active:
        return root.parent(parts, read), False
    if held.root is root and held.parts == parts[:-1] and held.read >= read:
        root.require(parts)
        return held.descriptor, True
    letGo()
    held.descriptor = root.parent(parts, read)
    held.root, held.parts, held.read = root, parts[:-1], read
    return held.descriptor, True


def letGo() -> None:
    """Hold nothing any more, as names are about to change, or the root is closed."""
    held = _held
    if held.descriptor >= 0:
        os.close(held.descriptor)
    held.descriptor, held.root = -1, None
