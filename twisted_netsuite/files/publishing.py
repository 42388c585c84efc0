"""
How a file that was written beside its place gets its name there, in one step.

What is published replaces a regular file or nothing; never a directory, a FIFO, a device, nor a
link: to replace a link would quietly part what it stood for from what it leads to, and to follow it
would lead out of the directory. Whatever is found there in the last moment is put back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from twisted_netsuite.errors import Conflict, NetsuiteError, StorageFailed
from twisted_netsuite.files.inheritance import inheritGroup, inheritOwner, isPlanted
from twisted_netsuite.files.leftovers import close
from twisted_netsuite.files.localsource import PERMISSIONS
from twisted_netsuite.files.root import refusal, reopened, shown
from twisted_netsuite.files.store import Wanted
from twisted_netsuite.files.systemcalls import EXCHANGE, NOREPLACE, NOT_THERE, renameat2

#: What file systems answer that have no hard links.
_NO_LINKS = (*NOT_THERE, errno.EPERM, errno.EMLINK)

#: How often what is at the target's name is looked at, when it comes and goes all the time.
TRIES = 16

#: Seconds between two tries to lock a directory, and how many are made: others do no more than one
#: rename while they have it.
LOCK_PAUSE, LOCK_TRIES = 0.01, 300


@cache
def usualMode() -> int:
    """
    Tell which mode new files get.

    @return: permission bits.
    """
    # To ask by os.umask is to change it, for all threads.
    with suppress(OSError, ValueError, StopIteration), open("/proc/self/status") as lines:
        mask = next(line for line in lines if line.startswith("Umask:")).split()[1]
        return 0o666 & ~int(mask, 8)
    return 0o600


def isSame(one: os.stat_result, other: os.stat_result) -> bool:
    """
    Tell whether contents are the same; a rename changes the other times.

    @param one: what was known of a file.
    @param other: what is known of one now.
    @return: whether it is the same, and nobody has written to it.
    """
    return (
        os.path.samestat(one, other)
        and one.st_size == other.st_size
        and one.st_mtime_ns == other.st_mtime_ns
    )


class Slot:
    """
    A name in a directory, for a file that is published there.

    @ivar directory: a descriptor.
    @ivar name: the name.
    """

    def __init__(self, directory: int, name: bytes) -> None:
        """
        @param directory: a descriptor, which stays its owner's.
        @param name: the name.
        """
        self.directory = directory
        self.name = name

    def present(self) -> os.stat_result | None:
        """
        Look what is there.

        @return: what is known of the file; C{None} when there is nothing.
        @raise Conflict: when it is something that no file can replace.
        """
        try:
            found = self._look(self.name)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            raise self.taken()
        return found

    def taken(self) -> Conflict:
        """
        Say that something is there which no file replaces.

        @return: to be raised.
        """
        return Conflict(
            f"{shown(self.name)} is a directory, a link or a device, which no file replaces; "
            "choose another name, or remove it first."
        )

    def changed(self) -> Conflict:
        """
        Say that what is there is not what it was to be.

        @return: to be raised.
        """
        return Conflict(
            f"{shown(self.name)} has other contents than it was to have; look at it before you "
            "replace it."
        )

    def exists(self) -> Conflict:
        """
        Say that a file is there which is not to be replaced.

        @return: to be raised.
        """
        return Conflict(
            f"{shown(self.name)} exists already; choose another name, or remove it first."
        )

    def failure(self, error: OSError, published: bool) -> NetsuiteError:
        """
        Say what the system's answer means for a file that was to be published here.

        @param error: what the system has raised.
        @param published: whether the file has its name.
        @return: to be raised.
        """
        if published:
            return StorageFailed(
                f"{shown(self.name)} was published, but whether the disk keeps it is not known: "
                f"{(error.strerror or str(error)).lower()}; see to the disk, and send it again."
            )
        if isinstance(error, FileNotFoundError):
            return StorageFailed(
                f"What had come of {shown(self.name)} was removed by somebody else; send it again."
            )
        return refusal(error, self.name)

    def furnish(self, file: int, wanted: Wanted, present: os.stat_result | None = None) -> None:
        """
        Give a file the mode and the time that it is to have here, and what it has of the file that
        it replaces: group, access control list and owner, as far as this account may give them.

        @param file: its descriptor.
        @param wanted: says which.
        @param present: the file that it is to replace, where that is known.
        @raise Conflict: when something is here that no file can replace, and was looked at.
        @raise OSError: from the system.
        """
        # Most are new, and to look for what is not there takes longer than to ask for it.
        if present is None and self._isTaken():
            present = self.present()
        if present is not None and isPlanted(self.directory, present):
            present = None
        mode = usualMode() if present is None else inheritGroup(file, self._path(), present)
        os.fchmod(file, (mode if wanted.mode is None else wanted.mode) & PERMISSIONS)
        if wanted.mtime is None:
            os.utime(file)
        else:
            os.utime(file, ns=(time.time_ns(), wanted.mtime))
        if present is not None:
            inheritOwner(file, present)

    def put(self, partial: bytes, file: int, clobber: bool) -> bool:
        """
        Publish a file.

        @param partial: its name until then.
        @param file: its descriptor.
        @param clobber: whether it may replace a file.
        @return: whether that name may lead to the file that it has replaced.
        @raise Conflict: when something is here that it may not replace, or that nothing can.
        @raise OSError: from the system.
        """
        for _ in range(TRIES):
            try:
                self.putNew(partial)
                return False
            except FileExistsError:
                if not clobber:
                    raise self.exists() from None
            if self.present() is not None:
                with suppress(FileNotFoundError):
                    self.putOver(partial, os.fstat(file), None)
                    return True
        raise Conflict(f"{shown(self.name)} comes and goes all the time; try again.")

    def putNew(self, partial: bytes) -> None:
        """
        Publish a file where nothing is.

        @param partial: its name until then.
        @raise OSError: from the system; C{EEXIST} when something is there.
        """
        try:
            renameat2(self.directory, partial, self.directory, self.name, NOREPLACE)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            self._linkNew(partial)

    def _linkNew(self, partial: bytes) -> None:
        there = {"src_dir_fd": self.directory, "dst_dir_fd": self.directory}
        try:
            os.link(partial, self.name, follow_symlinks=False, **there)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with self._locked():
                if self.present() is not None:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
                os.rename(partial, self.name, **there)
        else:
            with suppress(OSError):  # It is published; what is left has two names, and is cleaned.
                os.unlink(partial, dir_fd=self.directory)

    def putOver(self, partial: bytes, own: os.stat_result, expected: os.stat_result | None) -> None:
        """
        Publish a file in place of another, which gets the name that this one had, where the file
        system can do that; else it is gone.

        @param partial: its name until then.
        @param own: what is known of it.
        @param expected: the one that it may replace; C{None} for any regular file.
        @raise Conflict: when something else is there; then it is still there, or again.
        @raise OSError: from the system; C{ENOENT} when nothing is there.
        """
        if expected is None:
            try:
                self._exchange(partial, own, None)
                return
            except OSError as error:
                if error.errno not in NOT_THERE:
                    raise
        # Who compares is alone: else another could compare with what is about to be put back.
        with self._locked():
            found = self.present()
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if expected is not None and not isSame(found, expected):
                raise self.changed()
            try:
                self._exchange(partial, own, expected)
            except OSError as error:
                if error.errno not in NOT_THERE:
                    raise
                there = {"src_dir_fd": self.directory, "dst_dir_fd": self.directory}
                os.rename(partial, self.name, **there)

    def _exchange(
        self, partial: bytes, own: os.stat_result, expected: os.stat_result | None
    ) -> None:
        renameat2(self.directory, partial, self.directory, self.name, EXCHANGE)
        try:
            came = self._look(partial)
        except OSError:
            renameat2(self.directory, partial, self.directory, self.name, EXCHANGE)
            raise
        if not stat.S_ISREG(came.st_mode):
            self._putBack(partial, own, came)
            raise self.taken()
        if expected is not None and not isSame(came, expected):
            self._putBack(partial, own, came)
            raise self.changed()

    def _putBack(self, partial: bytes, own: os.stat_result, came: os.stat_result) -> None:
        """Undo an exchange; if others have published here since, theirs stays."""
        with suppress(FileNotFoundError):  # Somebody has removed it, wherever it was then.
            while True:
                renameat2(self.directory, partial, self.directory, self.name, EXCHANGE)
                out = self._look(partial)
                if os.path.samestat(out, own):
                    return
                own, came = came, out

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep off who publishes here in the same way; anybody else is not kept off."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        lock = os.open(b".", flags, dir_fd=self.directory)
        try:
            self._waitFor(lock)
            yield
        finally:
            close(lock)

    def _waitFor(self, lock: int) -> None:
        for _ in range(LOCK_TRIES):
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(LOCK_PAUSE)
        raise Conflict(f"The directory of {shown(self.name)} is locked; end who locks it.")

    def _isTaken(self) -> bool:
        return os.access(self.name, os.F_OK, dir_fd=self.directory, follow_symlinks=False)

    def _path(self) -> bytes:
        """Name what is here, for calls that take no descriptor of a directory."""
        return b"%b/%b" % (reopened(self.directory), self.name)

    def _look(self, name: bytes) -> os.stat_result:
        return os.stat(name, dir_fd=self.directory, follow_symlinks=False)
