"""
A small file that was read whole, at either end.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted_netsuite.files.digests import digestOf
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.store import Attributes, Source, Store


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


def readSmall(store: Store, parts: Parts, limit: int) -> Small | Source:
    """
    Read a file, if it is small and holds still; blocks.

    @param store: has it.
    @param parts: its name.
    @param limit: bytes that it may have at the most.
    @return: all of it; else the open file, which has to be closed.
    @raise NetsuiteError: as L{Store.readWhole}.
    """
    found = store.readWhole(parts, limit)
    if not isinstance(found, tuple):
        return found
    attributes, data = found
    return Small(attributes, data, digestOf(data))
