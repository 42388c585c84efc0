"""
A directory whose files appear whole or not at all, also when the power fails; what is in them is
its user's business.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from twisted_netsuite.errors import ConfigurationError

#: How long to wait for another run to be done with the directory, in seconds. A change takes some
#: milliseconds, so whoever holds it for longer is stopped or stuck.
LOCK_TIMEOUT = 10.0

#: Seconds between two tries to get the lock: too short for a person to notice.
LOCK_INTERVAL = 0.02

#: What the names of unfinished files begin with, so that those of a run that was killed are known.
UNFINISHED = ".netsuite-unfinished-"


@dataclass(frozen=True)
class Draft:
    """
    A file that is written and safe on the disk, and not there under its name yet.

    @ivar name: what it will be called.
    @ivar temporary: what it is called until then.
    """

    name: str
    temporary: str


class DurableDirectory:
    """
    An open directory; as a context manager it is closed, and with that unlocked, at the end.

    Every failure of the system is a L{ConfigurationError} that names the file.
    """

    def __init__(self, path: Path, within: DurableDirectory | None = None) -> None:
        """
        Open it.

        @param path: where it is.
        @param within: the directory it is in, when that is open, and so need not be found again;
            then it must be there itself, not be led to by a link, and be the caller's own.
        @raise ConfigurationError: when it cannot be opened.
        """
        self.path = path
        if within is not None:
            within._refuseLink(path)
        with self._told("opened", path):
            self._descriptor: int = os.open(
                path.name if within else path,
                os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if within else 0),
                dir_fd=within._descriptor if within else None,
            )
        if within is not None:
            try:
                self.refuseForeign()
            except BaseException:
                os.close(self._descriptor)
                raise

    def _refuseLink(self, path: Path) -> None:
        """Say what the system would call no directory."""
        with self._told("read", path), suppress(FileNotFoundError):
            status = os.stat(path.name, dir_fd=self._descriptor, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                raise ConfigurationError(
                    f"{str(path)!r} is a link, which may lead out of {str(self.path)!r}; put the "
                    "directory itself in its place."
                )

    def __enter__(self) -> DurableDirectory:
        """Give it to the block."""
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        os.close(self._descriptor)

    def lock(self, shared: bool = False) -> None:
        """
        Keep other runs out until this is closed, and clear away what a killed one left unfinished.

        @param shared: whether others may read meanwhile; then nothing may be changed.
        @raise ConfigurationError: when another run does not end.
        """
        deadline = time.monotonic() + LOCK_TIMEOUT
        operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        while True:
            try:
                fcntl.flock(self._descriptor, operation)
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise ConfigurationError(
                        f"Another program has locked {str(self.path)!r} for {LOCK_TIMEOUT:g} s; "
                        "wait for it to end, or end it."
                    ) from error
                time.sleep(LOCK_INTERVAL)
            else:
                break
        if not shared:
            self.clear()

    def clear(self) -> None:
        """Remove unfinished files: whoever calls this has the lock, so nobody is writing them."""
        unfinished = [name for name in self.names() if name.startswith(UNFINISHED)]
        if unfinished:
            self.remove(unfinished)

    def refuseForeign(self) -> None:
        """
        See to it that it is the caller's own: another owner can exchange what is in it at any time,
        also for root.

        @raise ConfigurationError: when it belongs to another account.
        """
        with self._told("read", self.path):
            owner = os.fstat(self._descriptor).st_uid
        if owner != os.geteuid():
            raise ConfigurationError(
                f"{str(self.path)!r} belongs to another account (uid {owner}), which could lead "
                f"this one (uid {os.geteuid()}) astray there, also if that is root; run this as "
                "its owner."
            )

    def refuseOthers(self) -> None:
        """
        See to it that nobody but its owner can exchange its files.

        @raise ConfigurationError: when its mode lets others write.
        """
        with self._told("read", self.path):
            mode = os.fstat(self._descriptor).st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigurationError(
                f"Others than its owner may write to {str(self.path)!r}, and so exchange what is "
                "in it; run chmod go-w on it, or choose another directory."
            )

    def names(self) -> list[str]:
        """
        List what is in it.

        @return: names, sorted.
        """
        with self._told("read", self.path):
            return sorted(os.listdir(self._descriptor))

    def has(self, name: str) -> bool:
        """
        Tell whether a name is taken, by whatever it is.

        @param name: a file's.
        @return: C{True} for a dangling link, too.
        """
        with self._told("read", self.path / name):
            try:
                os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            except FileNotFoundError:
                return False
            return True

    def read(self, name: str, private: bool = False) -> bytes | None:
        """
        Read a file.

        @param name: its name.
        @param private: whether it is to be refused when others than its owner have access to it.
        @return: its content, or C{None} when there is none.
        """
        path = self.path / name
        with self._told("read", path):
            try:
                # Nonblocking, as opening a FIFO would wait for somebody who writes to it.
                descriptor = os.open(
                    name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self._descriptor
                )
            except FileNotFoundError:
                return None
            try:
                self._check(path, os.fstat(descriptor).st_mode, private)
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read()
            finally:
                os.close(descriptor)

    def _check(self, path: Path, mode: int, private: bool) -> None:
        if not stat.S_ISREG(mode):
            raise ConfigurationError(f"{str(path)!r} is no file; put one there.")
        if private and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigurationError(
                f"The file {str(path)!r} is open to others than its owner, by its mode "
                f"{stat.S_IMODE(mode):04o}; run chmod 600 on it, and think who may have read it."
            )

    @contextmanager
    def draft(
        self, name: str, data: bytes, mode: int = 0o600, keepOwner: bool = False
    ) -> Iterator[Draft]:
        """
        Write a file without giving it its name; a context manager that removes what is not
        published in the block.

        @param name: what it will be called.
        @param data: its content.
        @param mode: its permissions in the end; until it is whole only its owner has any.
        @param keepOwner: whether it is to belong, where that is allowed, to the account and group
            of the file that has the name now.
        """
        draft = Draft(name, UNFINISHED + secrets.token_hex(8))
        try:
            with self._told("written", self.path / name):
                owner = self._ownerOf(name) if keepOwner else None
                self._write(draft.temporary, data, mode, owner)
            yield draft
        finally:
            with suppress(OSError):
                os.unlink(draft.temporary, dir_fd=self._descriptor)

    def _ownerOf(self, name: str) -> tuple[int, int] | None:
        with suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                return status.st_uid, status.st_gid
        return None

    def _write(self, name: str, data: bytes, mode: int, owner: tuple[int, int] | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self._descriptor)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if owner is not None:
                with suppress(PermissionError):
                    os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def publish(self, draft: Draft, replace: bool = False) -> None:
        """
        Give a file its name, and be sure that it keeps it.

        @param draft: what was written.
        @param replace: whether it may take the place of another.
        @raise ConfigurationError: when it may not, and there is another, or when it fails. Then it
            is not there; only when it did replace another, the disk may not be sure of it.
        """
        here = self._descriptor
        with self._told("written", self.path / draft.name):
            if replace:
                os.replace(draft.temporary, draft.name, src_dir_fd=here, dst_dir_fd=here)
                os.fsync(here)
                return
            # A link, as a rename would silently replace what appears at the last moment.
            os.link(draft.temporary, draft.name, src_dir_fd=here, dst_dir_fd=here)
            try:
                os.fsync(here)
            except OSError:
                os.unlink(draft.name, dir_fd=here)
                raise

    def make(self, name: str) -> DurableDirectory:
        """
        Open a directory in this one, made first if need be, for its owner alone.

        @param name: its name.
        @return: the directory.
        """
        path = self.path / name
        with self._told("made", path):
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self._descriptor)
            os.fsync(self._descriptor)
        return DurableDirectory(path, self)

    def copyTo(self, other: DurableDirectory, names: Iterable[str]) -> None:
        """
        Let files be in another directory as well.

        @param other: on the same file system.
        @param names: files, which the other does not have.
        """
        for name in names:
            with self._told("kept", self.path / name):
                os.link(name, name, src_dir_fd=self._descriptor, dst_dir_fd=other._descriptor)
        with self._told("kept", self.path):
            os.fsync(other._descriptor)

    def remove(self, names: Iterable[str]) -> None:
        """
        Remove files.

        @param names: what they are called.
        """
        for name in names:
            with self._told("removed", self.path / name):
                os.unlink(name, dir_fd=self._descriptor)
        with self._told("removed", self.path):
            os.fsync(self._descriptor)

    @contextmanager
    def _told(self, done: str, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigurationError(
                f"{str(path)!r} cannot be {done}: {reason}; {_advice(error)}."
            ) from error


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "make room, and run this again"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "run this as the directory's owner, where it can be written"
        case errno.ENOENT | errno.ENOTDIR | errno.EISDIR | errno.ELOOP:
            return "give the path of another"
        case errno.EEXIST:
            return "see what it is, and remove it or choose another name"
    return "see to the disk, and run this again"
