"""
The audit log's file on disk: its lock, its end, whole lines, rotation. It knows no chain.

A line is in the file whole, or not at all; what cannot be made so is told, and mended before the
next line.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from twisted_netsuite.trust.auditrecord import MAX_RECORD, digestOf

#: Bytes without a line end that are set aside as torn when a log is opened: a crash of the machine
#: can leave as much as the kernel had not yet written, which is some seconds of records.
MAX_TORN = 4 * 1024 * 1024

#: The log belongs to whoever writes it; that it may be read by others is for its owner to say.
_MODE = 0o600

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class SystemCalls:
    """What the log asks of the system; tests hand in one that fails."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    write = staticmethod(os.write)
    pread = staticmethod(os.pread)
    fsync = staticmethod(os.fsync)
    ftruncate = staticmethod(os.ftruncate)
    fstat = staticmethod(os.fstat)
    stat = staticmethod(os.stat)
    lstat = staticmethod(os.lstat)
    flock = staticmethod(fcntl.flock)
    link = staticmethod(os.link)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    listdir = staticmethod(os.listdir)


SYSTEM = SystemCalls()


class Disturbed(Exception):
    """The file is not what only the log makes of it; the argument says why not."""


@dataclass(frozen=True)
class Torn:
    """
    What a crash left of a line.

    @ivar path: where it is now.
    @ivar data: the bytes.
    """

    path: str
    data: bytes


def reasonOf(error: BaseException | None) -> str:
    """
    Say why something failed.

    @param error: an C{OSError}, L{Disturbed}, or what else ended a thread.
    @return: the middle of a sentence.
    """
    if isinstance(error, OSError):
        return (error.strerror or str(error) or type(error).__name__).lower()
    return str(error) or type(error).__name__


def numberOf(path: str, name: str) -> int | None:
    """
    Tell the number of a file that was rotated away.

    @param path: the log.
    @param name: a file's name in its directory.
    @return: its number, from 1; C{None} when it is no such file.
    """
    found = re.fullmatch(re.escape(os.path.basename(path)) + r"\.([1-9][0-9]*)", name)
    return int(found[1]) if found else None


class AuditFile:
    """
    One log: the file that is written, and those that were before it.

    @ivar path: the file that is written.
    @ivar size: its bytes: whole lines only.
    @ivar isOpen: whether it can be written as it stands; if not, the next line opens it again.
    """

    def __init__(self, path: str, calls: SystemCalls = SYSTEM) -> None:
        """
        @param path: the file.
        @param calls: asks the system.
        """
        self.path = path
        self.size = 0
        self._calls = calls
        self._directory = os.path.dirname(path) or "."
        self._descriptor = -1
        self._identity = (0, 0)
        # The digest of the last line, by which the file is known again.
        self._lastLine = ""
        # The last line that was tried: what may be found of it behind the others.
        self._tried = b""
        # Whether the directory may not know the file on disk yet.
        self._isNew = True
        self._syncing = False
        self._retired: list[int] = []
        self._toClose: list[int] = []

    @property
    def isOpen(self) -> bool:
        """Tell whether the file can be written as it stands."""
        return self._descriptor >= 0

    @property
    def hasRetired(self) -> bool:
        """Tell whether a file that was rotated away has yet to reach the disk."""
        return bool(self._retired)

    # Opening.

    def openFirst(self) -> list[bytes]:
        """
        Open the log to go on with it.

        @return: the last two lines of the log, or as many as there are.
        @raise OSError: from the system.
        @raise Disturbed: when the file is not such that it can be gone on with.
        """
        self._take()
        try:
            size = self._calls.fstat(self._descriptor).st_size
            lines, self.size = self._readEnd(self._descriptor, size)
            self._lastLine = digestOf(lines[-1]) if lines else ""
            if not lines:
                lines = self._readRotated()
        except BaseException:
            self.drop()
            raise
        return lines

    def setAside(self, n: int) -> Torn | None:
        """
        Move what a crash left of a line out of the log, into a file beside it.

        @param n: the number that the line would have had.
        @return: what that was, if there was something.
        @raise OSError: from the system; nothing is lost then.
        """
        size = self._calls.fstat(self._descriptor).st_size
        data = self._read(self._descriptor, self.size, size)
        if not data:
            return None
        path, descriptor = self._createAside(n)
        try:
            if self._calls.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._calls.fsync(descriptor)
        finally:
            self._calls.close(descriptor)
        self._syncDirectory()
        self._calls.ftruncate(self._descriptor, self.size)
        return Torn(path, data)

    def _createAside(self, n: int) -> tuple[str, int]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        attempt = 0
        while True:
            attempt += 1
            # Not behind the log's name, so that C{audit.log*} are the files of the log.
            name = f"torn-{n}-{attempt}.{os.path.basename(self.path)}"
            path = os.path.join(self._directory, name)
            with suppress(FileExistsError):
                return path, self._calls.open(path, flags, _MODE)

    def _take(self) -> None:
        """Open the file and lock it, if it is one that can be a log."""
        descriptor = self._calls.open(self.path, _FLAGS, _MODE)
        try:
            status = self._calls.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Disturbed("it is no regular file")
            if status.st_mode & 0o022:
                raise Disturbed("other users can write to it (chmod go-w)")
            if status.st_uid not in (0, os.geteuid()):
                raise Disturbed(f"it belongs to another account (uid {status.st_uid})")
            self._lock(descriptor)
        except BaseException:
            self._closeQuietly(descriptor)
            raise
        self._descriptor = descriptor
        self._identity = (status.st_dev, status.st_ino)
        self._isNew = True

    def _lock(self, descriptor: int) -> None:
        try:
            self._calls.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            named, held = self._calls.stat(self.path), self._calls.fstat(descriptor)
            # Whoever has it may have rotated it away since it was opened here.
            mine = (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
        except BlockingIOError:
            mine = False
        if not mine:
            raise Disturbed("another process writes it")

    def _readEnd(self, descriptor: int, size: int) -> tuple[list[bytes], int]:
        """Read the last two whole lines of a file, and where they end."""
        start = max(0, size - MAX_TORN - 2 * MAX_RECORD)
        data = self._read(descriptor, start, size)
        end = data.rfind(b"\n") + 1
        tooLong = size - start - end > MAX_TORN or (end == 0 and start > 0)
        lines = data[:end].split(b"\n")[-3:-1]
        if tooLong or any(len(line) >= MAX_RECORD for line in lines):
            raise Disturbed("it does not end with lines of an audit log")
        return lines, start + end

    def _readRotated(self) -> list[bytes]:
        """Read the last two lines of the file that was written before this one."""
        number = self._newest()
        if not number:
            return []
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = self._calls.open(f"{self.path}.{number}", flags, 0)
        try:
            size = self._calls.fstat(descriptor).st_size
            lines, whole = self._readEnd(descriptor, size)
        finally:
            self._calls.close(descriptor)
        if whole != size or not lines:
            raise Disturbed(f"{self.path}.{number}, with which it goes on, has no whole last line")
        return lines

    def _read(self, descriptor: int, start: int, end: int) -> bytes:
        pieces = []
        while start < end:
            piece = self._calls.pread(descriptor, min(end - start, 1 << 20), start)
            if not piece:
                break
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces)

    # Writing.

    def append(self, line: bytes) -> None:
        """
        Write one line.

        @param line: without its newline.
        @raise OSError: from the system. The file ends where it did, or is closed until the next.
        @raise Disturbed: when something else has changed the file.
        """
        self._check()
        self._tried = line + b"\n"
        try:
            written = self._calls.write(self._descriptor, self._tried)
            if written != len(self._tried):
                # Peers are told this, too: how much it took is nothing to them.
                raise OSError(errno.ENOSPC, "the disk took only a part of a record")
        except OSError:
            self._cutBack()
            raise
        self.size += len(self._tried)
        self._tried = b""
        self._lastLine = digestOf(line)

    def _cutBack(self) -> None:
        try:
            self._calls.ftruncate(self._descriptor, self.size)
        except OSError:
            # It is cut when it is opened again, before anything is written.
            self.drop()

    def _check(self) -> None:
        """See that the file is there, is this one, and ends where it was left."""
        if not self.isOpen:
            self._reopen()
        try:
            held = self._calls.fstat(self._descriptor)
            if (held.st_dev, held.st_ino) != self._identity:
                # Somebody closed the descriptor, and it is another file's now.
                self._descriptor = -1
                raise Disturbed("its descriptor was closed")
            named = self._calls.stat(self.path)
            if (named.st_dev, named.st_ino) != self._identity:
                raise Disturbed("another file has taken its place")
            if named.st_size != self.size:
                raise Disturbed("something else has written to it")
        except FileNotFoundError as error:
            self.drop()
            raise Disturbed("it was deleted or moved away") from error
        except (OSError, Disturbed):
            self.drop()
            raise

    def _reopen(self) -> None:
        """Open the file in mid-life: it is as it was left, or it is empty."""
        self._take()
        try:
            size = self._calls.fstat(self._descriptor).st_size
            if size == 0:
                self.size = 0
                return
            rest = self._read(self._descriptor, self.size, min(size, self.size + MAX_RECORD))
            start = max(0, self.size - MAX_RECORD)
            *_, last, end = [b"", *self._read(self._descriptor, start, self.size).split(b"\n")]
            same = not self.size or (not end and digestOf(last) == self._lastLine)
            strange = size != self.size + len(rest) or not self._tried.startswith(rest)
            if strange or not same:
                raise Disturbed("something else has changed it; verify it, and move it away")
            if rest:
                self._calls.ftruncate(self._descriptor, self.size)
        except BaseException:
            self.drop()
            raise

    # Rotating.

    def rotate(self) -> None:
        """
        Give the file its number, and begin another under its name.

        The name is never without a file, and the file under it never without a lock: a second
        process cannot come between.

        @raise OSError: from the system; the file is written on then.
        @raise Disturbed: when something else has changed the file.
        """
        self._check()
        descriptor = self._createNew()
        try:
            status = self._calls.fstat(descriptor)
            self._calls.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            number = self._newest()
            if not number or not self._isHeld(f"{self.path}.{number}"):
                self._calls.link(self.path, f"{self.path}.{number + 1}")
            self._calls.rename(f"{self.path}.new", self.path)
        except BaseException:
            self._closeQuietly(descriptor)
            raise
        self._retired.append(self._descriptor)
        self._descriptor = descriptor
        self._identity = (status.st_dev, status.st_ino)
        self._isNew = True
        self.size = 0

    def _createNew(self) -> int:
        """Create the next file, in the place of one that a rotation before did not come to use."""
        path = f"{self.path}.new"
        flags = _FLAGS | os.O_EXCL
        with suppress(FileExistsError):
            return self._calls.open(path, flags, _MODE)
        status = self._calls.lstat(path)
        mine = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not mine or status.st_size:
            raise Disturbed(f"there is something in {path}")
        self._calls.unlink(path)
        return self._calls.open(path, flags, _MODE)

    def isRotatedHalf(self) -> bool:
        """
        Tell whether a crash came between the two steps of a rotation.

        @return: whether the file has its number already, and its name still.
        @raise OSError: from the system.
        """
        number = self._newest()
        return bool(number) and self._isHeld(f"{self.path}.{number}")

    def _isHeld(self, path: str) -> bool:
        status = self._calls.stat(path)
        return (status.st_dev, status.st_ino) == self._identity

    def _newest(self) -> int:
        names = self._calls.listdir(self._directory)
        return max((numberOf(self.path, name) or 0 for name in names), default=0)

    # Reaching the disk.

    def beginSync(self) -> Callable[[], None]:
        """
        Prepare to wait for the disk; one at a time.

        @return: to be called in any thread: waits until all lines so far are on the disk, or raises
            C{OSError}. L{endSync} has to follow.
        """
        self._syncing = True
        retired, self._retired = self._retired, []
        self._toClose += retired
        descriptors = [*retired, self._descriptor]
        isNew, self._isNew = self._isNew, False

        def sync() -> None:
            for descriptor in descriptors:
                self._calls.fsync(descriptor)
            if isNew:
                self._syncDirectory()

        return sync

    def endSync(self) -> None:
        """Close what was kept open for the thread."""
        self._syncing = False
        closing, self._toClose = self._toClose, []
        for descriptor in closing:
            self._closeQuietly(descriptor)

    def _syncDirectory(self) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = self._calls.open(self._directory, flags, 0)
        try:
            self._calls.fsync(descriptor)
        finally:
            self._calls.close(descriptor)

    def drop(self) -> None:
        """Close the file, and give its lock back; the next line opens it again."""
        closing = self._retired
        if self._descriptor >= 0:
            closing.append(self._descriptor)
            with suppress(OSError):
                self._calls.flock(self._descriptor, fcntl.LOCK_UN)
        self._descriptor, self._retired = -1, []
        if self._syncing:
            # The thread still has the number, which must not become another file's.
            self._toClose += closing
            return
        for descriptor in closing:
            self._closeQuietly(descriptor)

    def _closeQuietly(self, descriptor: int) -> None:
        with suppress(OSError):
            self._calls.close(descriptor)
