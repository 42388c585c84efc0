"""
Files and directories in memory, for tests and for programs that serve what they make themselves;
nothing of it outlives the process.

A file is never changed, but replaced by another, so that whoever reads it goes on with what it had.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from threading import RLock

from twisted_netsuite.errors import Conflict, Denied, NotFound, StorageFailed
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.memoryfiles import (
    Key,
    MemorySource,
    MemoryTarget,
    Partial,
    digestOfAll,
)
from twisted_netsuite.files.names import Parts, join, requirePart
from twisted_netsuite.files.root import shown
from twisted_netsuite.files.store import Attributes, Entry, Wanted

#: Bytes of all files together, finished or not, that a store has where nobody says how many.
LIMIT = 64 * 1024 * 1024

#: Modes of what nobody has given any.
_USUAL_FILE, _USUAL_DIRECTORY = 0o644, 0o755

_PERMISSIONS = 0o777

_NANOSECONDS = 1_000_000_000


@dataclass
class _Node:
    mode: int
    mtime: int
    version: bytes


@dataclass
class _File(_Node):
    data: bytes | bytearray

    def attributes(self) -> Attributes:
        return Attributes("file", len(self.data), self.mtime, self.mode, self.version)


@dataclass
class _Directory(_Node):
    nodes: dict[bytes, _File | _Directory] = field(default_factory=dict)

    def attributes(self) -> Attributes:
        return Attributes("directory", 0, self.mtime, self.mode, self.version)


class MemoryStore:
    """The store of what is in this process's memory."""

    def __init__(self, limit: int = LIMIT, now: Callable[[], int] = time.time_ns) -> None:
        """
        @param limit: bytes of all files together, finished or not.
        @param now: tells the time, in nanoseconds since 1970.
        """
        self.limit = limit
        self._now = now
        # One for all: what is done while it is held only moves references and counts.
        self._lock = RLock()
        self._used = 0
        self._changes = 0
        self._root = _Directory(_USUAL_DIRECTORY, now(), self._version())
        self._partials: dict[Key, Partial] = {}
        self._writing: set[Key] = set()

    @property
    def used(self) -> int:
        """Tell how many bytes there are, with those that are reserved for files being written."""
        return self._used

    def close(self) -> None:
        """Let nothing go: it stays for as long as the store does."""

    # Looking.

    def stat(self, parts: Parts) -> Attributes:
        """
        Look at a file or directory.

        @param parts: its name.
        @return: what it is.
        @raise NotFound: when there is none.
        """
        with self._lock:
            return self._find(parts).attributes()

    def list(self, parts: Parts) -> Iterator[Entry]:
        """
        Look into a directory.

        @param parts: its name.
        @return: what was in it when this was called.
        @raise NotFound: when there is no such directory.
        """
        with self._lock:
            directory = self._find(parts)
            if isinstance(directory, _File):
                raise NotFound(f"{_shown(parts)} is no directory.")
            nodes = [*directory.nodes.items()]
        return (Entry(name, node.attributes()) for name, node in nodes)

    def holdsLink(self, parts: Parts) -> bool:
        """
        Tell whether there is something in a directory that leads to another name: never.

        @param parts: the directory's name.
        @return: false.
        """
        return False

    def source(self, parts: Parts) -> MemorySource:
        """
        Open a file for reading.

        @param parts: its name.
        @return: the file.
        @raise NotFound: when there is none.
        @raise Denied: when it is a directory.
        """
        with self._lock:
            file = self._find(parts)
            if isinstance(file, _Directory):
                raise Denied(f"{_shown(parts)} is a directory; give the name of a file.")
            return MemorySource(file.data, file.attributes())

    def readWhole(self, parts: Parts, limit: int) -> tuple[Attributes, bytes] | MemorySource:
        """
        Read a file, if it is small; else open it.

        @param parts: its name.
        @param limit: bytes that it may have at the most.
        @return: what it is, and all of it; or the file, as it is larger.
        @raise NotFound: when there is none.
        @raise Denied: when it is a directory.
        """
        source = self.source(parts)
        size = source.attributes.size
        return source if size > limit else (source.attributes, source.read(0, size))

    # Changing.

    def publishWhole(self, parts: Parts, wanted: Wanted, data: bytes) -> Attributes:
        """
        Publish a file that is all there.

        @param parts: its name; its directory has to exist.
        @param wanted: what it will be, of one chunk at the most; nothing is kept of it for another
            try, whatever its source.
        @param data: all of it, which is right: whoever asks for this has seen to that.
        @return: what it is now.
        @raise Conflict: when there is something that it may not replace.
        @raise StorageFailed: when there is not room enough.
        """
        if not len(data) == wanted.size <= CHUNK:
            raise ValueError(f"{len(data)} bytes are not a file of {wanted.size} in one chunk")
        with self._lock:
            target, digest = self.target(parts, replace(wanted, source=None), ""), digestOf(data)
            target.write(0, [data])
            target.chunkWritten(0, digest)
            return target.commit(digest)

    def target(self, parts: Parts, wanted: Wanted, owner: str) -> MemoryTarget:
        """
        Begin to write a file, or go on where an earlier try of the same source has ended.

        @param parts: its name; its directory has to exist.
        @param wanted: what it will be.
        @param owner: whose it is: nobody else goes on with it.
        @return: the file that will be.
        @raise Conflict: when it is plain already that it cannot be published, or another is being
            written from the same source for the same name.
        @raise StorageFailed: when there is not room enough.
        """
        with self._lock:
            self._replaceable(parts, wanted)
            key = None if wanted.source is None else (owner, parts, wanted.source)
            if key in self._writing:
                raise Conflict(
                    f"{_shown(parts)} is being written from the same source; wait for its end."
                )
            partial = self._partials.pop(key, None) if key else None
            if partial is not None and len(partial.data) != wanted.size:
                self._used -= len(partial.data)
                partial = None
            if partial is None:
                self._reserve(wanted.size, parts)
                partial = Partial(bytearray(wanted.size))
            if key:
                self._writing.add(key)
            return MemoryTarget(self, parts, wanted, key, partial)

    def makeDirectory(
        self, parts: Parts, mode: int | None, parents: bool, durable: bool = False
    ) -> None:
        """
        Make a directory; one that is there already is left as it is.

        @param parts: its name.
        @param mode: permission bits; C{None} for the usual ones.
        @param parents: whether to make those that it is to be in, too.
        @param durable: no matter here.
        @raise Conflict: when there is a file of that name.
        """
        with self._lock:
            for depth in range(1 if parents or not parts else len(parts), len(parts) + 1):
                directory = self._parent(parts[:depth])
                wanted = mode if depth == len(parts) and mode is not None else _USUAL_DIRECTORY
                node = directory.nodes.get(parts[depth - 1])
                if node is None:
                    made = _Directory(wanted & _PERMISSIONS, self._now(), self._version())
                    self._enter(directory, parts[depth - 1], made)
                elif isinstance(node, _File) and depth == len(parts):
                    raise Conflict(
                        f"{_shown(parts)} exists, and is no directory; choose another name."
                    )

    def rename(self, parts: Parts, to: Parts, clobber: bool, durable: bool = False) -> None:
        """
        Give a file or a directory another name; a directory replaces nothing, not even an empty
        one.

        @param parts: its name.
        @param to: its new one.
        @param clobber: whether a file that has that name is replaced.
        @param durable: no matter here.
        @raise Conflict: when the new name is taken, or is below the old one.
        """
        if not parts or not to:
            raise Denied("The root has no other name; give the name of what is in it.")
        with self._lock:
            source, target = self._parent(parts), self._parent(to)
            node, there = self._find(parts), target.nodes.get(to[-1])
            if there is not None and not (
                clobber and isinstance(node, _File) and isinstance(there, _File)
            ):
                raise Conflict(
                    f"{_shown(to)} exists already; choose another name, or remove it first."
                )
            if to[: len(parts)] == parts and to != parts:
                raise Conflict(f"{_shown(parts)} cannot be moved into itself.")
            if node is there:
                return
            self._leave(source, parts[-1])
            self._drop(there)
            self._enter(target, to[-1], node)

    def remove(self, parts: Parts, durable: bool = False) -> None:
        """
        Remove a file, or a directory that is empty.

        @param parts: its name.
        @param durable: no matter here.
        @raise Conflict: when it is a directory with something in it.
        """
        if not parts:
            raise Denied("The root cannot be removed; give the name of what is in it.")
        with self._lock:
            node = self._find(parts)
            if isinstance(node, _Directory) and node.nodes:
                raise Conflict(
                    f"{_shown(parts)} is a directory that is not empty; remove what is in it first."
                )
            self._leave(self._parent(parts), parts[-1])
            self._drop(node)

    def change(self, parts: Parts, mode: int | None, mtime: int | None) -> None:
        """
        Change what is known of a file or directory.

        @param parts: its name.
        @param mode: permission bits; C{None} to leave them. Others are dropped.
        @param mtime: in nanoseconds since 1970; C{None} to leave it.
        """
        with self._lock:
            node = self._find(parts)
            node.mode = node.mode if mode is None else mode & _PERMISSIONS
            node.mtime = node.mtime if mtime is None else mtime
            node.version = self._version()

    def clean(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> int:
        """
        Remove what tries have left that nobody goes on with.

        @param seconds: how old it has to be.
        @param stopped: tells, again and again, whether to leave the rest for another time.
        @return: how many files were removed.
        """
        with self._lock:
            latest = self._now() - int(seconds * _NANOSECONDS)
            old = [key for key, partial in self._partials.items() if partial.since <= latest]
            for key in old:
                self._used -= len(self._partials.pop(key).data)
            return len(old)

    # What targets ask for.

    def publish(self, parts: Parts, wanted: Wanted, data: bytearray) -> Attributes:
        """
        Make a file of what was written.

        @param parts: its name.
        @param wanted: what it was to be.
        @param data: its bytes; they were reserved, and belong to the file from here on.
        @return: what it is now.
        @raise Conflict: when it may not replace what is there.
        """
        with self._lock:
            directory, there = self._replaceable(parts, wanted)
            mode = wanted.mode
            if mode is None:
                mode = _USUAL_FILE if there is None else there.mode
            mtime = self._now() if wanted.mtime is None else wanted.mtime
            file = _File(mode & _PERMISSIONS, mtime, self._version(), data)
            self._drop(there)
            self._enter(directory, parts[-1], file)
            return file.attributes()

    def ended(self, key: Key | None, kept: Partial | None, dropped: int) -> None:
        """
        Know that a try is over.

        @param key: what tells it from the others, if anything does.
        @param kept: what it has written, if that is to be kept for another.
        @param dropped: bytes of room that it gives back.
        """
        with self._lock:
            self._used -= dropped
            if key is not None:
                self._writing.discard(key)
                if kept is not None:
                    kept.since = self._now()
                    self._partials[key] = kept

    # Names, and room.

    def _find(self, parts: Parts) -> _File | _Directory:
        node: _File | _Directory = self._root
        for part in parts:
            requirePart(part)
            below = node.nodes.get(part) if isinstance(node, _Directory) else None
            if below is None:
                raise NotFound(f"{_shown(parts)} does not exist.")
            node = below
        return node

    def _parent(self, parts: Parts) -> _Directory:
        requirePart(parts[-1])
        node = self._find(parts[:-1])
        if isinstance(node, _File):
            raise NotFound(f"{_shown(parts[:-1])} is no directory.")
        return node

    def _replaceable(self, parts: Parts, wanted: Wanted) -> tuple[_Directory, _File | None]:
        """Find where a file is to be, and the one that it replaces, if it may."""
        if not parts:
            raise Conflict("The root is a directory; give the name of a file.")
        directory = self._parent(parts)
        there = directory.nodes.get(parts[-1])
        if isinstance(there, _Directory):
            raise Conflict(f"{_shown(parts)} is a directory; choose another name.")
        if there is not None and not wanted.clobber:
            raise Conflict(f"{_shown(parts)} exists already, and is not to be replaced.")
        if wanted.replaces is not None and (
            there is None or digestOfAll(there.data) != wanted.replaces
        ):
            raise Conflict(f"{_shown(parts)} is not the file that was to be replaced; look again.")
        return directory, there

    def _enter(self, directory: _Directory, name: bytes, node: _File | _Directory) -> None:
        directory.nodes[name] = node
        directory.mtime, directory.version = self._now(), self._version()

    def _leave(self, directory: _Directory, name: bytes) -> None:
        del directory.nodes[name]
        directory.mtime, directory.version = self._now(), self._version()

    def _drop(self, node: _File | _Directory | None) -> None:
        if isinstance(node, _File):
            self._used -= len(node.data)

    def _reserve(self, size: int, parts: Parts) -> None:
        if self._used + size > self.limit:
            raise StorageFailed(
                f"{_shown(parts)} finds no room: it has {size} bytes, and of {self.limit} there "
                f"are {self.limit - self._used} left; remove something first."
            )
        self._used += size

    def _version(self) -> bytes:
        self._changes += 1
        return self._changes.to_bytes(16, "big")


def _shown(parts: Parts) -> str:
    return shown(join(parts))
