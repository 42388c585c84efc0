"""
Files and directories on the local disk, below one root: what can be done with them by name.

How names are confined is in L{files.root}, how files come to be in L{files.target}. What is neither
a regular file nor a directory is never opened, changed or removed, and never replaced.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial

from twisted_netsuite.errors import Conflict, Denied, NetsuiteError, NotFound, StorageFailed
from twisted_netsuite.files.digests import CHUNK, digestOf
from twisted_netsuite.files.leftovers import InTheWay, cleanDirectory, cleanTree
from twisted_netsuite.files.locallisting import LocalListing, isServed
from twisted_netsuite.files.localsource import PERMISSIONS, LocalSource, attributesOf
from twisted_netsuite.files.names import RESERVED, Parts, join
from twisted_netsuite.files.openat2 import renameNoReplace
from twisted_netsuite.files.root import Root, notServed, refusal, reopened, shown
from twisted_netsuite.files.store import Attributes, Wanted
from twisted_netsuite.files.target import LocalTarget
from twisted_netsuite.files.together import letGo, parentOf, renamed
from twisted_netsuite.files.wholefile import publishWhole, readWhole

#: What directories get that nobody has given a mode; the process's umask is taken off.
_USUAL = 0o777

#: Bits of a directory that its administrator has set, and a change of its mode leaves alone.
_KEPT = stat.S_ISGID | stat.S_ISVTX

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# One that was just made may have a mode with which it cannot be read.
_MADE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalStore:
    """
    The store of what is below one directory.

    @ivar inTheWay: why nothing is kept for another try of the file that this was last the case of.
    """

    inTheWay: InTheWay | None = None

    def __init__(self, root: Root) -> None:
        """
        @param root: the directory; it is closed with this.
        """
        self._root = root

    def close(self) -> None:
        """Let the root go."""
        self._root.close()

    # Looking.

    def stat(self, parts: Parts) -> Attributes:
        """
        Look at a file or directory.

        @param parts: its name.
        @return: what it is.
        @raise NotFound: when there is none.
        @raise Denied: when it is something else, or cannot be reached.
        """
        found, status = self._served(parts, True)
        os.close(found)
        return attributesOf(status)

    def list(self, parts: Parts) -> LocalListing:
        """
        Look into a directory, in no order; what is neither file nor directory is left out, and so
        are links: what they lead to is served by its name, if at all.

        @param parts: its name.
        @return: closes what it holds when it is closed, or at its end.
        @raise NotFound: when there is no such directory.
        """
        return LocalListing(self._directory(parts), join(parts))

    def holdsLink(self, parts: Parts) -> bool:
        """
        Tell whether there is a symbolic link in a directory, where any are followed.

        @param parts: the directory's name.
        @return: whether there is one; where it leads does not matter.
        @raise NotFound: when there is no such directory.
        """
        if self._root.links == "never":
            return False
        directory = self._directory(parts)
        try:
            with _refusing(parts), os.scandir(directory) as entries:
                return any(entry.is_symlink() for entry in entries)
        finally:
            os.close(directory)

    def source(self, parts: Parts) -> LocalSource:
        """
        Open a file for reading.

        @param parts: its name.
        @return: the file.
        @raise NotFound: when there is none.
        @raise Denied: when it is something else, or cannot be read.
        """
        return LocalSource(*self._regular(parts), join(parts))

    def readWhole(self, parts: Parts, limit: int) -> tuple[Attributes, bytes] | LocalSource:
        """
        Read a file, if it is small and holds still; else open it.

        @param parts: its name.
        @param limit: bytes that it may have at the most.
        @return: what it is, and all of it, of one version; or the file, as it is larger, or changes
            just now.
        @raise NotFound: when there is none.
        @raise Denied: when it is something else, or cannot be read.
        @raise StorageFailed: when the disk fails.
        """
        return readWhole(*self._regular(parts), join(parts), limit)

    def _regular(self, parts: Parts) -> tuple[int, os.stat_result]:
        try:
            return self._root.regular(parts)
        except OSError as error:
            raise refusal(error, join(parts)) from error

    # Changing.

    def target(self, parts: Parts, wanted: Wanted, owner: str) -> LocalTarget:
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
        directory, held = self._parentOfFile(parts, True, wanted.durable)
        try:
            target = self._begin(directory, parts[-1], wanted, owner)
        finally:
            if not held:
                os.close(directory)
        target.isPlace = partial(self._isParent, parts)
        return target

    def _isParent(self, parts: Parts, directory: int) -> bool:
        """Tell whether a name still is in the directory that it was in."""
        try:
            with self._parent(parts) as now:
                return os.path.samestat(os.fstat(now), os.fstat(directory))
        except OSError:
            return False

    def _begin(self, directory: int, name: bytes, wanted: Wanted, owner: str) -> LocalTarget:
        try:
            return LocalTarget.begin(directory, name, wanted, owner)
        except InTheWay as error:
            # Where anybody may make files, as in /tmp, what is kept has a name that others can
            # foresee. They must not keep this one from being written.
            self.inTheWay = error
            return LocalTarget.begin(directory, name, replace(wanted, source=None), owner)

    def publishWhole(self, parts: Parts, wanted: Wanted, data: bytes) -> Attributes:
        """
        Publish a file that is all there. It is as safe as one that is written piece by piece, and
        takes less time.

        @param parts: its name; its directory has to exist.
        @param wanted: what it will be, of one chunk at the most; nothing is kept of it for another
            try, whatever its source.
        @param data: all of it, which is right: whoever asks for this has seen to that.
        @return: what it is now.
        @raise Conflict: when there is something that it may not replace.
        @raise StorageFailed: when the disk is full, or fails.
        """
        if not len(data) == wanted.size <= CHUNK:
            raise ValueError(f"{len(data)} bytes are not a file of {wanted.size} in one chunk")
        if wanted.replaces is not None:
            # To compare takes longer than all else.
            return self._publishOver(parts, replace(wanted, source=None), data)
        directory, held = self._parentOfFile(parts, wanted.durable, wanted.durable)
        try:
            return publishWhole(directory, parts[-1], wanted, data)
        finally:
            if not held:
                os.close(directory)

    def _publishOver(self, parts: Parts, wanted: Wanted, data: bytes) -> Attributes:
        target, digest = self.target(parts, wanted, ""), digestOf(data)
        try:
            target.write(0, [data])
            target.chunkWritten(0, digest)
            return target.commit(digest)
        finally:
            target.discard()

    def _parentOfFile(self, parts: Parts, read: bool, durable: bool) -> tuple[int, bool]:
        if not parts:
            raise Conflict("The root is a directory; give the name of a file.")
        try:
            return parentOf(self._root, parts, read, durable)
        except OSError as error:
            raise refusal(error, join(parts)) from error

    def makeDirectory(
        self, parts: Parts, mode: int | None, parents: bool, durable: bool = False
    ) -> None:
        """
        Make a directory; one that is there already is left as it is.

        @param parts: its name.
        @param mode: permission bits; C{None} for the usual ones.
        @param parents: whether to make those that it is to be in, too.
        @param durable: whether it is on the disk, and not in memory only, once it is made.
        @raise Conflict: when there is something else of that name.
        @raise StorageFailed: when it was made, and the disk cannot be told to keep it.
        """
        letGo()
        with _refusing(parts):
            for depth in range(1, len(parts)) if parents else ():
                # Each from the root on: what was made a moment ago may have moved.
                with self._parent(parts[:depth], durable) as directory:
                    with suppress(FileExistsError):
                        os.mkdir(parts[depth - 1], dir_fd=directory)
                    _persist(directory, parts[:depth], "made", durable)
            if parts:
                with self._parent(parts, durable) as directory:
                    _makeDirectory(parts, directory, mode)
                    # Also one that is there: it may have been made a moment ago, and not be kept.
                    _persist(directory, parts, "made", durable)

    def rename(self, parts: Parts, to: Parts, clobber: bool, durable: bool = False) -> None:
        """
        Give a file or a directory another name; a directory replaces nothing, not even an empty
        one.

        @param parts: its name.
        @param to: its new one.
        @param clobber: whether a file that has that name is replaced.
        @param durable: whether the disk, and not memory only, has the new name then.
        @raise Conflict: when the new name is taken, or is below the old one.
        @raise StorageFailed: when it was renamed, and the disk cannot be told to keep that.
        """
        if not parts or not to:
            raise Denied("The root has no other name; give the name of what is in it.")
        letGo()
        with _refusing(parts), ExitStack() as opened:
            source = opened.enter_context(self._parent(parts, durable))
            status = _look(parts[-1], source)
            if not isServed(status):
                raise notServed(join(parts), status)
            with _refusing(to):
                target = opened.enter_context(self._parent(to, durable))
                replaced = _replaced(to, target)
            try:
                if clobber and replaced is not None and stat.S_ISREG(status.st_mode):
                    _replace(parts[-1], source, to[-1], target)
                else:
                    renameNoReplace(parts[-1], source, to[-1], target)
            except OSError as error:
                raise _renameRefusal(error, parts, to) from error
            finally:
                renamed()
            # The new name first: so there are two of them at the worst, and never none.
            _persist(target, parts, "renamed", durable)
            _persist(source, parts, "renamed", durable)

    def remove(self, parts: Parts, durable: bool = False) -> None:
        """
        Remove a file, or a directory that is empty, or holds nothing but what was never published.

        @param parts: its name.
        @param durable: whether it is gone from the disk then, and not in memory only.
        @raise Conflict: when it is a directory with something in it.
        @raise StorageFailed: when it was removed, and the disk cannot be told to keep that.
        """
        if not parts:
            raise Denied("The root cannot be removed; give the name of what is in it.")
        letGo()
        with _refusing(parts), self._parent(parts, durable) as directory:
            status = _look(parts[-1], directory)
            if stat.S_ISREG(status.st_mode):
                os.unlink(parts[-1], dir_fd=directory)
            elif stat.S_ISDIR(status.st_mode):
                _removeDirectory(parts[-1], directory)
            else:
                raise notServed(join(parts), status)
            _persist(directory, parts, "removed", durable)

    def change(self, parts: Parts, mode: int | None, mtime: int | None) -> None:
        """
        Change what is known of a file or directory.

        @param parts: its name.
        @param mode: permission bits; C{None} to leave them. Others are dropped, from a file also
            those that it has.
        @param mtime: in nanoseconds since 1970; C{None} to leave it.
        """
        found, status = self._served(parts, False)
        try:
            with _refusing(parts):
                if mode is not None:
                    _setMode(found, status, mode)
                if mtime is not None:
                    os.utime(reopened(found), ns=(status.st_atime_ns, mtime))
        finally:
            os.close(found)

    def clean(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> int:
        """
        Remove what tries have left that nobody goes on with, in the whole tree.

        @param seconds: how old it has to be.
        @param stopped: tells, again and again, whether to leave the rest for another time.
        @return: how many files were removed.
        """
        with _refusing(()):
            return cleanTree(self._directory(()), seconds, stopped)

    def cleanDirectory(self, parts: Parts, seconds: float) -> int:
        """
        Remove what tries of this account have left in one directory, and nobody goes on with.

        @param parts: its name.
        @param seconds: how old it has to be.
        @return: how many files were removed.
        @raise NotFound: when there is no such directory.
        """
        directory = self._directory(parts)
        try:
            with _refusing(parts):
                return cleanDirectory(directory, seconds, onlyOurs=True)
        finally:
            os.close(directory)

    # Names.

    def _served(self, parts: Parts, follow: bool) -> tuple[int, os.stat_result]:
        """Find a file or directory; the descriptor has C{O_PATH} and is to be closed."""
        try:
            found = self._root.find(parts, follow)
        except OSError as error:
            raise refusal(error, join(parts)) from error
        status = os.fstat(found)
        if not isServed(status):
            os.close(found)
            raise notServed(join(parts), status)
        return found, status

    def _directory(self, parts: Parts) -> int:
        try:
            return self._root.directory(parts)
        except NotADirectoryError as error:
            raise NotFound(f"{shown(join(parts))} is no directory.") from error
        except OSError as error:
            raise refusal(error, join(parts)) from error

    @contextmanager
    def _parent(self, parts: Parts, read: bool = False) -> Iterator[int]:
        """Have the directory in which a name is, for as long as something is done there."""
        directory = self._root.parent(parts, read)
        try:
            yield directory
        finally:
            os.close(directory)


@contextmanager
def _refusing(parts: Parts) -> Iterator[None]:
    """Say what the system's answers mean for a name."""
    try:
        yield
    except OSError as error:
        raise refusal(error, join(parts)) from error


def _persist(directory: int, parts: Parts, done: str, durable: bool) -> None:
    """Have what was done in a directory on the disk."""
    try:
        if durable:
            os.fsync(directory)
    except OSError as error:
        raise StorageFailed(
            f"{shown(join(parts))} was {done}, but whether the disk keeps that is not known: "
            f"{(error.strerror or str(error)).lower()}; see to the disk."
        ) from error


def _look(name: bytes, directory: int) -> os.stat_result:
    return os.stat(name, dir_fd=directory, follow_symlinks=False)


def _setMode(found: int, status: os.stat_result, mode: int) -> None:
    kept = status.st_mode & _KEPT if stat.S_ISDIR(status.st_mode) else 0
    wanted = mode & PERMISSIONS | kept
    if stat.S_IMODE(status.st_mode) != wanted:
        os.chmod(reopened(found), wanted)


def _makeDirectory(parts: Parts, directory: int, mode: int | None) -> None:
    try:
        os.mkdir(parts[-1], _USUAL if mode is None else mode & PERMISSIONS, dir_fd=directory)
    except FileExistsError as error:
        if stat.S_ISDIR(_look(parts[-1], directory).st_mode):
            return
        raise Conflict(
            f"{shown(join(parts))} exists, and is no directory; choose another name."
        ) from error
    if mode is not None:  # The umask was taken off.
        made = os.open(parts[-1], _MADE, dir_fd=directory)
        try:
            _setMode(made, os.fstat(made), mode)
        finally:
            os.close(made)


def _replaced(to: Parts, directory: int) -> os.stat_result | None:
    """Look at the file that a new name has, which may be replaced; nothing else may."""
    try:
        status = _look(to[-1], directory)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise Conflict(f"{shown(join(to))} exists, and is no file; choose another name.")
    return status


def _replace(name: bytes, source: int, toName: bytes, target: int) -> None:
    os.rename(name, toName, src_dir_fd=source, dst_dir_fd=target)
    if name == toName and os.path.samestat(os.fstat(source), os.fstat(target)):
        return
    # Of two names of one file the system keeps both.
    with suppress(FileNotFoundError):
        if os.path.samestat(_look(name, source), _look(toName, target)):
            os.unlink(name, dir_fd=source)


def _renameRefusal(error: OSError, parts: Parts, to: Parts) -> NetsuiteError:
    match error.errno:
        case errno.EEXIST | errno.ENOTEMPTY | errno.EISDIR | errno.ENOTDIR:
            return refusal(OSError(errno.EEXIST, ""), join(to))
        case errno.EINVAL:
            return Conflict(f"{shown(join(parts))} cannot be moved into itself.")
        case errno.EXDEV:
            return Denied(
                f"{shown(join(parts))} is on another file system than {shown(join(to))}; "
                "copy it, and remove it."
            )
    return refusal(error, join(parts))


def _removeDirectory(name: bytes, directory: int) -> None:
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        inside = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            with os.scandir(inside) as entries:
                if not all(os.fsencode(entry.name).startswith(RESERVED) for entry in entries):
                    raise
            cleanDirectory(inside, 0)
        finally:
            os.close(inside)
        os.rmdir(name, dir_fd=directory)
