"""
The one place that turns names from a peer into descriptors, confined to one directory; what is done
with them is for others to say.

Confinement is by file descriptors, so that no name, no link and no race leads outside: the kernel
resolves a whole name below the root (L{openat2}), or it is walked part by part, each opened below
the one before it. Strings are never compared.

None of the directories stays open for the next name: one that was renamed meanwhile would answer in
the name of its successor, to find out takes as long as to resolve the name again, and that is one
call of the kernel whatever the depth.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Literal

from twisted_netsuite.errors import (
    ConfigurationError,
    Conflict,
    Denied,
    InvalidName,
    LimitExceeded,
    NetsuiteError,
    NotFound,
    StorageFailed,
)
from twisted_netsuite.files import openat2
from twisted_netsuite.files.names import MAX_DEPTH, MAX_PART, RESERVED, Parts, join, requirePart
from twisted_netsuite.wire.text import decodeText

#: C{"inside"}: symbolic links are followed as long as all of the way is below the root.
Links = Literal["never", "inside"]

#: Links on the way of one name, as in Linux.
MAX_LINKS = 40

#: Characters of a name in a sentence.
_SHOWN = 200

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Opens nothing: what it finds can be looked at, and is no other when it is opened later.
_FOUND = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that was put in the file's place must not hold anybody.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass
class OpenFile:
    """
    A regular file that is open for reading.

    @ivar descriptor: to be closed by whoever holds this.
    @ivar size: its bytes when it was opened.
    """

    descriptor: int
    size: int

    def read(self, offset: int, count: int) -> bytes:
        """
        Read a piece.

        @param offset: where it begins, in bytes.
        @param count: bytes to read at the most.
        @return: fewer at the end of the file.
        """
        return os.pread(self.descriptor, count, offset)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)


class Root:
    """A directory below which names are looked up."""

    def __init__(self, path: str, links: Links = "never", kernel: bool = True) -> None:
        """
        @param path: the directory; it is opened now, so that later renames do not move the root.
        @param links: which symbolic links are followed.
        @param kernel: whether the kernel resolves whole names, where it can.
        @raise ConfigurationError: when it is no directory, or cannot be opened.
        """
        self.path = path
        self.links = links
        self._kernel = kernel and openat2.available()
        try:
            self._descriptor = os.open(path, _DIRECTORY)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigurationError(
                f"The root {path!r} cannot be opened: {(reason or '').lower()}; "
                "give a directory that exists and can be read."
            ) from error
        if not os.path.exists(reopened(self._descriptor)):
            os.close(self._descriptor)
            raise ConfigurationError(
                f"The root {path!r} cannot be served, as /proc is not there; "
                "mount it where the service runs."
            )

    def close(self) -> None:
        """Give the root's descriptor back."""
        os.close(self._descriptor)

    # Names that were taken apart.

    def require(self, parts: Parts) -> None:
        """
        Require that a name can be one here.

        @param parts: the name.
        @raise InvalidName: when it cannot.
        """
        _pathOf(parts)

    def find(self, parts: Parts, follow: bool = True) -> int:
        """
        Find what has a name, without opening it: a device or a FIFO would notice that.

        @param parts: the name; none for the root itself.
        @param follow: whether a link at its end is followed, where any are.
        @return: a descriptor with C{O_PATH}, never of a link; to be closed.
        @raise InvalidName: when it can be none here.
        @raise OSError: from the system; C{ELOOP} for a link that is not followed, C{EXDEV} for one
            that leads out.
        """
        return self._open(parts, os.O_PATH | os.O_CLOEXEC, follow)

    def directory(self, parts: Parts) -> int:
        """
        Open a directory.

        @param parts: its name; none for the root itself.
        @return: a descriptor for reading, to be closed.
        @raise InvalidName: when it can be none here.
        @raise OSError: from the system; C{ENOTDIR} when it is none.
        """
        return self._open(parts, _DIRECTORY, True)

    def parent(self, parts: Parts, read: bool = False) -> int:
        """
        Find the directory in which a name is, so that something can be done with its last part.

        @param parts: the name, of at least one part.
        @param read: whether the descriptor is to be one for reading.
        @return: a descriptor, with C{O_PATH} where it is not for reading; to be closed.
        @raise InvalidName: when the name can be none here, also for its last part.
        @raise OSError: from the system.
        """
        _pathOf(parts[-1:])
        return self.directory(parts[:-1]) if read else self.find(parts[:-1])

    def persistAbove(self, directory: int) -> None:
        """
        Have the way to a directory on the disk, so that what is kept in there is not lost with it:
        who has made it, or one above it, need not have waited for that.

        @param directory: a descriptor; it is not written itself.
        @raise OSError: from the system.
        """
        root, way = os.fstat(self._descriptor), os.dup(directory)
        try:
            for _ in range(MAX_DEPTH):
                # Whoever moves it out of the root meanwhile: at the top no more is above.
                if os.path.samestat(os.fstat(way), root):
                    return
                above = os.open(b"..", _DIRECTORY, dir_fd=way)
                os.close(way)
                way = above
                os.fsync(way)
        except PermissionError:
            # Of one that it may not read this account cannot say what the disk is to do.
            return
        finally:
            os.close(way)

    def regular(self, parts: Parts) -> tuple[int, os.stat_result]:
        """
        Open a regular file for reading.

        @param parts: its name.
        @return: a descriptor, to be closed, and what is known of the file.
        @raise InvalidName: when it can be none here.
        @raise Denied: when it is something else.
        @raise OSError: from the system.
        """
        found = self.find(parts)
        try:
            status = os.fstat(found)
            if not stat.S_ISREG(status.st_mode):
                raise notServed(join(parts), status)
            return os.open(reopened(found), _FILE), status
        finally:
            os.close(found)

    def _open(self, parts: Parts, flags: int, follow: bool) -> int:
        path = _pathOf(parts)
        if self._kernel:
            # Links are left to the walk, which sees where they lead: not to what is reserved.
            walked = (errno.EAGAIN, errno.ELOOP) if self.links == "inside" else (errno.EAGAIN,)
            try:
                return openat2.openBeneath(self._descriptor, path or b".", flags)
            except OSError as error:
                if error.errno not in walked:
                    raise
        found = self._walk(parts, follow)
        if flags & os.O_PATH:
            return found
        try:
            return os.open(b".", flags, dir_fd=found)
        finally:
            os.close(found)

    def _walk(self, parts: Parts, follow: bool) -> int:
        """Find what has a name, part by part; see L{find}."""
        way = [os.dup(self._descriptor)]
        # What is still to come, the last first.
        rest = [*reversed(parts)]
        links = 0
        try:
            while rest:
                part = rest.pop()
                if part in (b"", b"."):
                    continue
                if part == b"..":
                    _goUp(way)
                    continue
                target = _enter(way, part, bool(rest))
                if target is None:
                    continue
                links += 1
                if self.links == "never" or not (rest or follow) or links > MAX_LINKS:
                    raise _systemError(errno.ELOOP)
                if target.startswith(b"/"):
                    raise _systemError(errno.EXDEV)
                rest.extend(reversed(target.split(b"/")))
            return way.pop()
        finally:
            for descriptor in way:
                os.close(descriptor)

    # Names as the classic dialect has them.

    def open(self, name: bytes) -> OpenFile:
        """
        Open a file.

        @param name: its path from the root, parts divided by slashes; a leading slash stands for
            the root.
        @return: the open file.
        @raise InvalidName: when the name can be none here, as with C{..} in it.
        @raise NotFound: when there is no such file.
        @raise Denied: when it may not be read, is a link, or is no regular file.
        """
        parts = _classicParts(name)
        try:
            descriptor, status = self.regular(parts)
        except InvalidName as error:
            # Parts that are too long, or reserved: this dialect knows no rules but those above.
            raise NotFound("there is no such file.") from error
        except Denied as error:
            raise Denied("only regular files are served, and no links.") from error
        except OSError as error:
            raise _classicRefusal(error) from error
        return OpenFile(descriptor, status.st_size)


def _pathOf(parts: Parts) -> bytes:
    """Put a name together, if it can be one; what is plain is not looked at part by part."""
    path = b"/".join(parts)
    if (
        len(path) > MAX_PART
        or path.count(b"/") + 1 != len(parts)
        or b"\0" in path
        or b"//" in (around := b"/%b/" % path)
        or b"/." in around
    ):
        for part in parts:
            requirePart(part)
    return path


def _enter(way: list[int], part: bytes, more: bool) -> bytes | None:
    """Go one part down, or tell where the link leads that is there."""
    if part.startswith(RESERVED):  # Only links can lead to it.
        raise _systemError(errno.ENOENT)
    descriptor = os.open(part, _FOUND, dir_fd=way[-1])
    way.append(descriptor)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISLNK(mode):
        target = os.readlink(b"", dir_fd=descriptor)
        os.close(way.pop())
        return target
    if more and not stat.S_ISDIR(mode):
        raise _systemError(errno.ENOTDIR)
    if len(way) > MAX_DEPTH + 1:
        raise _systemError(errno.ELOOP)
    return None


def _goUp(way: list[int]) -> None:
    """Go back to where the way came from; what the system calls the parent may have moved."""
    if len(way) == 1:
        raise _systemError(errno.EXDEV)
    os.close(way.pop())


def _systemError(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def reopened(found: int) -> bytes:
    """
    Name what was found, for calls that take no descriptor with C{O_PATH}: no race can put another
    in its place.

    @param found: a descriptor of what is no link.
    @return: a path that the system follows to the very same.
    """
    return b"/proc/self/fd/%d" % found


# What is said of it.


def shown(name: bytes) -> str:
    """
    Write a name so that it can stand in a sentence.

    @param name: any.
    @return: it in quotes, on one line, cut where it is very long.
    """
    return f"'{decodeText(name, _SHOWN)}'"


def notServed(name: bytes, status: os.stat_result) -> Denied:
    """
    Say why something is not opened.

    @param name: what it was asked for by.
    @param status: what it is: no regular file.
    @return: the refusal.
    """
    if stat.S_ISDIR(status.st_mode):
        return Denied(f"{shown(name)} is a directory; give the name of a file.")
    return Denied(f"{shown(name)} is neither a file nor a directory, and nothing else is served.")


def refusal(error: OSError, name: bytes) -> NetsuiteError:
    """
    Say what the system's answer means for what was asked.

    @param error: what the system has raised.
    @param name: what it was asked for by.
    @return: what to raise in its place.
    """
    what = shown(name)
    match error.errno:
        case errno.ENOENT:
            return NotFound(f"{what} does not exist.")
        case errno.ENOTDIR:
            return NotFound(f"{what} cannot be there: what it would be in is no directory.")
        case errno.ENAMETOOLONG:
            return InvalidName(f"{what} is too long a name for the server's file system.")
        case errno.EEXIST | errno.EISDIR:
            return Conflict(f"{what} exists already; choose another name, or remove it first.")
        case errno.ENOTEMPTY:
            return Conflict(f"{what} is a directory that is not empty; remove what is in it first.")
        case errno.EACCES | errno.EPERM:
            return Denied(f"{what} needs a permission that the account of this program lacks.")
        case errno.ELOOP:
            return Denied(f"{what} is, or is behind, a symbolic link that is not followed here.")
        case errno.EXDEV:
            return Denied(f"{what} is not reached without leaving the root or its file system.")
        case errno.EMFILE | errno.ENFILE | errno.ENOMEM | errno.EMLINK:
            return LimitExceeded(f"{what} cannot be opened now: {_reason(error)}; try again later.")
        case errno.ENOSPC | errno.EDQUOT:
            return StorageFailed(f"{what} finds no room: {_reason(error)}; make some there.")
        case errno.EROFS:
            return StorageFailed(f"{what} is on a file system that cannot be written.")
        case _:
            return StorageFailed(f"{what} failed on the disk: {_reason(error)}.")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _classicParts(name: bytes) -> Parts:
    if b"\0" in name:
        raise InvalidName("a name cannot hold a NUL byte.")
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if not parts:
        raise InvalidName("give the name of a file.")
    if b".." in parts:
        raise InvalidName("a name cannot hold '..'.")
    if len(parts) > MAX_DEPTH:
        raise InvalidName(f"a name has at most {MAX_DEPTH} parts.")
    return parts


def _classicRefusal(error: OSError) -> NetsuiteError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ENAMETOOLONG:
            return NotFound("there is no such file.")
        case errno.ELOOP | errno.EXDEV:
            return Denied("only regular files are served, and no links.")
        case errno.EACCES | errno.EPERM:
            return Denied("the server may not read that file.")
        case _:
            return Denied(f"the file cannot be opened: {(error.strerror or '').lower()}.")
