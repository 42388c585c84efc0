"""
The walk over a tree at this end: its files and directories, one after the other, as a peer's
manifest has them.

It goes by descriptors and follows no link, so that nothing outside the tree is ever in it. What is
neither file nor directory is left out and counted; what vanishes meanwhile was never there.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from twisted_netsuite.errors import NetsuiteError, NotFound
from twisted_netsuite.files.entries import MAX_ENTRIES, TreeEntry, tooMany
from twisted_netsuite.files.localsource import told
from twisted_netsuite.files.names import MAX_DEPTH, MAX_NAME, RESERVED, Parts
from twisted_netsuite.files.patterns import EVERYTHING, Patterns
from twisted_netsuite.files.store import Entry, Store

#: Names that are kept of what is skipped, to tell some: the count tells the rest.
MAX_TOLD = 100

#: Names that are kept of what could not be read; with more of them nobody reads on.
MAX_FAILED = 10_000

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_RESERVED = os.fsdecode(RESERVED)

#: What the system says of what is not there any more, or is another thing by now.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


@dataclass(frozen=True)
class Unread:
    """
    What could not be looked at, so that nobody knows what is there.

    @ivar name: from the top of the tree on.
    @ivar reason: why, a few words for a person.
    """

    name: bytes
    reason: str


class Scan:
    """
    One walk over a tree. What a walk tells beside the entries is right once it is over.

    @ivar entries: how many there were.
    @ivar links: symbolic links that were skipped.
    @ivar special: sockets, devices and the like that were skipped.
    @ivar told: names of the first of those.
    @ivar unread: what could not be looked at.
    """

    def __init__(
        self,
        patterns: Patterns = EVERYTHING,
        most: int = MAX_ENTRIES,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        @param patterns: directories that these leave out are told, and not entered; of the rest
            nothing is left out here.
        @param most: entries that there may be.
        @param stopped: whether nobody wants more; asked for each directory.
        """
        self.entries = 0
        self.links = self.special = 0
        self.told: list[bytes] = []
        self.unread: list[Unread] = []
        self._patterns = patterns
        self._most = most
        self._stopped = stopped

    def directory(self, top: int) -> Generator[TreeEntry, None, None]:
        """
        Walk over a tree on the disk, in no order but that each directory is told before what is in
        it. At most one descriptor for each level is open.

        @param top: a descriptor of its top, which stays open.
        @return: closes what it holds when it is closed, or at its end.
        @raise LimitExceeded: when the tree is too large.
        """
        # Names of directories to enter yet, level by level, with the descriptor that they are in.
        levels: list[tuple[int, list[bytes]]] = []
        found: list[bytes] = []
        try:
            yield from self._within(top, b"", found)
            levels.append((top, found))
            while levels and not self._stopped():
                above, waiting = levels[-1]
                if not waiting:
                    levels.pop()
                    if above != top:
                        os.close(above)
                    continue
                name = waiting.pop()
                below = self._entered(above, name)
                if below is not None:
                    found = []
                    levels.append((below, found))
                    yield from self._within(below, name + b"/", found)
        finally:
            for descriptor, _ in levels:
                if descriptor != top:
                    os.close(descriptor)

    def store(self, store: Store, top: Parts) -> Generator[TreeEntry, None, None]:
        """
        Walk over a tree that is kept in some other way; what is skipped there is not counted.

        @param store: where it is.
        @param top: the name of its top.
        @return: closes what it holds when it is closed, or at its end.
        @raise LimitExceeded: when the tree is too large.
        """
        waiting: list[Parts] = [()]
        while waiting and not self._stopped():
            inside = waiting.pop()
            for each in self._listed(store, top, inside):
                attributes = each.attributes
                parts = (*inside, each.name)
                entry = TreeEntry(
                    b"/".join(parts),
                    attributes.kind == "directory",
                    attributes.size,
                    attributes.mtime,
                    attributes.mode,
                    attributes.version,
                )
                self.entries += 1
                if self.entries > self._most:
                    raise tooMany(self._most)
                yield entry
                if entry.directory and not self._patterns.excludes(entry.name, True):
                    waiting.append(parts)

    def _listed(self, store: Store, top: Parts, inside: Parts) -> Iterator[Entry]:
        try:
            yield from store.list((*top, *inside))
        except NotFound:
            if not inside:
                raise
        except NetsuiteError as error:
            self._failed(b"/".join(inside), error.sentence.rstrip("."))

    def _within(self, descriptor: int, before: bytes, found: list[bytes]) -> Iterator[TreeEntry]:
        """Tell what is in one directory, and find those that are to be entered."""
        excludes = self._patterns.excludes
        regular, directory = stat.S_IFREG, stat.S_IFDIR
        inside = len(before)
        deepest = before.count(b"/") >= MAX_DEPTH
        try:
            with os.scandir(descriptor) as listing:
                for each in listing:
                    text = each.name
                    if text.startswith(_RESERVED):
                        continue
                    name = before + text.encode(_ENCODING, _ERRORS)
                    try:
                        status = each.stat(follow_symlinks=False)
                    except OSError as error:
                        self._notRead(name, error)
                        continue
                    mode = status.st_mode
                    kind = mode & 0o170000
                    if kind != regular and kind != directory:
                        self._skip(name, kind)
                        continue
                    if deepest or len(name) > MAX_NAME:
                        self._failed(name, "its name is longer or deeper than names can be")
                        continue
                    self.entries += 1
                    mtime = told(status.st_mtime_ns)
                    if kind == regular:
                        yield TreeEntry(name, False, status.st_size, mtime, mode & 0o777)
                        continue
                    yield TreeEntry(name, True, 0, mtime, mode & 0o777)
                    if not excludes(name, True):
                        found.append(name)
        except OSError as error:
            self._notRead(before[: inside - 1] if before else b"", error)
        if self.entries > self._most:
            raise tooMany(self._most)

    def _entered(self, above: int, name: bytes) -> int | None:
        try:
            return os.open(name.rpartition(b"/")[2], _DIRECTORY, dir_fd=above)
        except OSError as error:
            self._notRead(name, error)
            return None

    def _notRead(self, name: bytes, error: OSError) -> None:
        if error.errno not in _GONE:
            self._failed(name, (error.strerror or str(error)).lower())

    def _failed(self, name: bytes, reason: str) -> None:
        if len(self.unread) < MAX_FAILED:
            self.unread.append(Unread(name, reason))

    def _skip(self, name: bytes, kind: int) -> None:
        if kind == stat.S_IFLNK:
            self.links += 1
        else:
            self.special += 1
        if len(self.told) < MAX_TOLD:
            self.told.append(name)


def openTop(path: str | bytes) -> int:
    """
    Open the top of a tree; a link that leads there is followed, as a person has named it.

    @param path: a directory.
    @return: its descriptor.
    @raise OSError: from the system.
    """
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
