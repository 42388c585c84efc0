"""
Files of the service's own beside those that it serves: made, held against other processes, and
cleaned away when nobody goes on with them. What is in them is not known here.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress

from twisted_netsuite.errors import Conflict, Denied
from twisted_netsuite.files.names import MAX_DEPTH, RESERVED, Parts

#: What the names of leftovers begin with.
PARTIAL, JOURNAL = RESERVED + b"partial-", RESERVED + b"journal-"

#: How often a file is looked for, and made, that others remove and make at the same time.
TRIES = 16

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: What the names begin with of files of which nothing is kept; no two processes have the same.
_RANDOM = PARTIAL + os.urandom(12).hex().encode()
_numbers = itertools.count()


class InTheWay(Denied):
    """What has a name of ours is another account's, and cannot be removed."""


def unusedName() -> bytes:
    """
    Make up a name for a file of which nothing is kept.

    @return: one that no other file has, in no process, also when one was forked off another.
    """
    return b"%b-%x-%x" % (_RANDOM, os.getpid(), next(_numbers))


def acquire(
    directory: int, name: bytes, fits: Callable[[os.stat_result], bool]
) -> tuple[int, bool]:
    """
    Open a file of ours for this process alone, or make it; what else has its name is removed.

    @param directory: a descriptor of where it is.
    @param name: its name.
    @param fits: whether what is there can be ours.
    @return: its descriptor, and whether it was made.
    @raise Conflict: when another has it open.
    @raise InTheWay: when something else has its name, and stays.
    @raise OSError: from the system.
    """
    for _ in range(TRIES):
        with suppress(FileNotFoundError, FileExistsError):
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not fits(found):
                _removeFree(directory, name, found)
            elif (file := _openFound(directory, name, found)) >= 0:
                return file, False
            continue
        with suppress(FileExistsError):
            return _made(directory, name), True
    raise Conflict("The same file is being begun and ended all the time; try again.")


def make(directory: int, name: bytes) -> int:
    """
    Make a file, and hold it against nobody.

    @param directory: a descriptor of where it will be.
    @param name: its name.
    @return: its descriptor.
    @raise OSError: from the system; C{EEXIST} when the name is taken.
    """
    return os.open(name, _CREATE, 0o600, dir_fd=directory)


def create(directory: int, name: bytes) -> int:
    """
    Make a file for this process alone.

    @param directory: a descriptor of where it will be.
    @param name: its name.
    @return: its descriptor.
    @raise Conflict: when another has found it, and opened it, before this process could hold it.
    @raise OSError: from the system; C{EEXIST} when the name is taken.
    """
    file = make(directory, name)
    try:
        held = _hold(file)
    except BaseException:
        _undo(directory, name, file)
        raise
    if not held:  # Whoever was quicker has it, and it is not to be taken away from there.
        os.close(file)
        raise _busy()
    return file


def _made(directory: int, name: bytes) -> int:
    file = create(directory, name)
    try:
        if isNamed(directory, name, file):
            return file
    except BaseException:
        _undo(directory, name, file)
        raise
    os.close(file)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _undo(directory: int, name: bytes, file: int) -> None:
    close(file)
    with suppress(OSError):
        os.unlink(name, dir_fd=directory)


def _openFound(directory: int, name: bytes, found: os.stat_result) -> int:
    """Open what was found; -1 when it is not there any more."""
    file = os.open(name, _OPEN, dir_fd=directory)
    try:
        if not _hold(file):
            raise _busy()
        if os.path.samestat(os.fstat(file), found) and isNamed(directory, name, file):
            return file
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return -1


def _busy() -> Conflict:
    return Conflict(
        "The same file is being written from the same source already; wait for that, or end it."
    )


def _hold(file: int) -> bool:
    """Keep others off; a process that dies lets it go."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def isNamed(directory: int, name: bytes, file: int) -> bool:
    """
    Tell whether a file still has its name: it may have been cleaned away before it was held.

    @param directory: a descriptor of where it is.
    @param name: its name.
    @param file: its descriptor.
    @return: whether it has.
    """
    try:
        named = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(file))


def isOurs(status: os.stat_result) -> bool:
    """
    Tell whether a file can be one that was left here by this account, and that no other name leads
    to.

    @param status: what is known of it.
    @return: whether it can.
    """
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1


# Cleaning.


def cleanDirectory(directory: int, seconds: float, onlyOurs: bool = False) -> int:
    """
    Remove what tries have left in a directory, and nobody has open.

    @param directory: a descriptor of it.
    @param seconds: how long ago it was touched last, at least; 0 for all of it.
    @param onlyOurs: whether what cannot have been left by this account stays, though it may be
        removed.
    @return: how many files were removed.
    @raise OSError: when the directory cannot be read.
    """
    tags: dict[bytes, list[bytes]] = {}
    for name in map(os.fsencode, os.listdir(directory)):
        for prefix in (PARTIAL, JOURNAL):
            if name.startswith(prefix):
                tags.setdefault(name[len(prefix) :], []).append(name)
    before = time.time() - seconds if seconds > 0 else float("inf")
    # The journal first, as who goes on with a file does it, and as long as it is there it is held.
    return sum(_cleanPair(directory, sorted(names), before, onlyOurs) for names in tags.values())


def cleanTree(root: int, seconds: float, stopped: Callable[[], bool] = lambda: False) -> int:
    """
    Remove what tries have left in a directory and all below it, and nobody has open.

    @param root: a descriptor of it, which is closed then.
    @param seconds: how long ago it was touched last, at least; 0 for all of it.
    @param stopped: tells, before each entry, whether to leave the rest for another time.
    @return: how many files were removed.
    @raise OSError: when the directory itself cannot be read.
    """
    removed = 0
    # Names of directories that are still to be gone through: the root, and such as are deeper below
    # another of these than a name has parts. No request leads there, but a change of names may
    # have.
    tops: list[Parts] = [()]
    try:
        while tops and not stopped():
            top = tops.pop()
            # What has vanished, or cannot be read, does not keep the rest from being cleaned.
            with suppress(OSError) if top else nullcontext():
                removed += _cleanBelow(_descend(root, top), top, tops, seconds, stopped)
        return removed
    finally:
        os.close(root)


def _cleanBelow(
    directory: int,
    top: Parts,
    deeper: list[Parts],
    seconds: float,
    stopped: Callable[[], bool],
) -> int:
    """Clean a directory, and what is below it as far as a name has parts."""
    # Directories, and where each has been read to: never more of them than a name has parts.
    way: list[tuple[int, Iterator[os.DirEntry[str]]]] = []
    names: list[bytes] = []
    removed = 0
    try:
        _enter(way, directory)
        while way and not stopped():
            directory, entries = way[-1]
            entry = None
            with suppress(OSError):
                entry = next(entries, None)
            if entry is None:
                with suppress(OSError):
                    removed += cleanDirectory(directory, seconds)
                os.close(directory)
                way.pop()
                del names[-1:]
                continue
            with suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    continue
                name = os.fsencode(entry.name)
                if len(way) == MAX_DEPTH:
                    deeper.append((*top, *names, name))
                else:
                    _enter(way, os.open(name, _DIRECTORY, dir_fd=directory))
                    names.append(name)
        return removed
    finally:
        for directory, _ in way:
            os.close(directory)


def _descend(directory: int, parts: Parts) -> int:
    """Open a directory below another, each part below the one before it."""
    found = os.dup(directory)
    for part in parts:
        above = found
        try:
            found = os.open(part, _DIRECTORY, dir_fd=above)
        finally:
            os.close(above)
    return found


def _enter(way: list[tuple[int, Iterator[os.DirEntry[str]]]], directory: int) -> None:
    try:
        way.append((directory, os.scandir(directory)))
    except OSError:
        os.close(directory)
        raise


def _cleanPair(directory: int, names: list[bytes], before: float, onlyOurs: bool) -> int:
    """Remove a partial and its journal, or none of them."""
    held: list[int] = []
    old: list[tuple[bytes, os.stat_result]] = []
    removed = 0
    try:
        for name in names:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if status.st_ctime > before or (onlyOurs and not isOurs(status)):
                return 0
            if not _holdFound(directory, name, status, held):
                return 0
            old.append((name, status))
        for name, status in reversed(old):
            # A name can have been given to another file before this one was held.
            now = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if os.path.samestat(now, status):
                os.unlink(name, dir_fd=directory)
                removed += 1
    except OSError:
        return removed  # Somebody else has it, or the disk will not: there is another time.
    finally:
        _closeAll(held)
    return removed


def _removeFree(directory: int, name: bytes, found: os.stat_result) -> None:
    """Remove what has a name of ours and is not what it should be, but not from under a writer."""
    held: list[int] = []
    try:
        with suppress(PermissionError):  # Of another account: no process of this one has it.
            if not _holdFound(directory, name, found, held):
                raise _busy() if found.st_uid == os.geteuid() else _inTheWay(name)
        os.unlink(name, dir_fd=directory)
    except (PermissionError, IsADirectoryError) as error:
        raise _inTheWay(name) from error
    finally:
        _closeAll(held)


def _inTheWay(name: bytes) -> InTheWay:
    return InTheWay(
        f"'{name.decode()}' is in the way of what is kept for another try, and not this account's "
        "to remove; have whoever made it do that."
    )


def _closeAll(held: list[int]) -> None:
    for file in held:
        close(file)


def close(descriptor: int) -> None:
    """
    Close; what that could tell of a write an fsync has told before.

    @param descriptor: of what is closed then, whatever the system answers.
    """
    try:  # noqa: SIM105 - suppress() takes longer than the call, and small files come in thousands.
        os.close(descriptor)
    except OSError:
        pass


def _holdFound(directory: int, name: bytes, found: os.stat_result, held: list[int]) -> bool:
    """Keep others off a file; what is none cannot be held by them either."""
    if not stat.S_ISREG(found.st_mode):
        return True
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    held.append(os.open(name, flags, dir_fd=directory))
    return _hold(held[-1])
