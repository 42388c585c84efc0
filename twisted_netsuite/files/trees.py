"""
Whole trees fetched and sent: what is not there yet, or is other there, is transferred, and nothing
is removed. L{files.sync} makes one tree as another.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from twisted_netsuite.files.client import FilesSession
from twisted_netsuite.files.localtree import LocalTree
from twisted_netsuite.files.patterns import EVERYTHING, Patterns
from twisted_netsuite.files.progress import Outcome, Progress
from twisted_netsuite.files.remotetree import RemoteTree
from twisted_netsuite.files.sync import SyncOptions, sync

__all__ = ["LocalTree", "RemoteTree", "getTree", "putTree"]


def getTree(
    sessions: Sequence[FilesSession],
    name: bytes,
    local: LocalTree,
    *,
    patterns: Patterns = EVERYTHING,
    checksum: bool = False,
    clobber: bool = True,
    durable: bool = False,
    progress: Progress | None = None,
) -> Deferred[Outcome]:
    """
    Fetch a directory and all below it.

    What is here already with the same size and time is not fetched again, so that a tree that was
    interrupted goes on where it was.

    @param sessions: one or more with the same server and identity.
    @param name: the directory there; what is in it comes into the one here.
    @param local: the directory here; made when it is not there.
    @param patterns: what is left out.
    @param checksum: whether to compare digests, and not times.
    @param clobber: whether files that are here may be replaced.
    @param durable: whether each file is on the disk, and not in memory only.
    @param progress: hears of each entry.
    @return: fires with what became of it; fails as L{sync} does.
    """
    options = SyncOptions(checksum=checksum, patterns=patterns, clobber=clobber, durable=durable)
    return sync(RemoteTree(sessions, name), local, options, progress=progress)


def putTree(
    sessions: Sequence[FilesSession],
    local: LocalTree,
    name: bytes,
    *,
    patterns: Patterns = EVERYTHING,
    checksum: bool = False,
    clobber: bool = True,
    durable: bool = False,
    progress: Progress | None = None,
) -> Deferred[Outcome]:
    """
    Send a directory and all below it.

    What is there already with the same size and time is not sent again, so that a tree that was
    interrupted goes on where it was.

    @param sessions: one or more with the same server and identity.
    @param local: the directory here; what is in it comes into the one there.
    @param name: the directory there; made when it is not there.
    @param patterns: what is left out.
    @param checksum: whether to compare digests, and not times.
    @param clobber: whether files that are there may be replaced.
    @param durable: whether each file is on the disk, and not in memory only.
    @param progress: hears of each entry.
    @return: fires with what became of it; fails as L{sync} does.
    """
    options = SyncOptions(checksum=checksum, patterns=patterns, clobber=clobber, durable=durable)
    return sync(local, RemoteTree(sessions, name), options, progress=progress)
