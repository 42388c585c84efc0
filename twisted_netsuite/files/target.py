"""
Files of the local disk while they are written: beside the place that they are for, under a name of
their own, until they are whole and are published there in one step.

What is published replaces a regular file or nothing; never a directory, a FIFO, a device, nor a
link: to replace a link would quietly part what it stood for from what it leads to, and to follow it
would lead out of the directory. Whatever is found there in the last moment is put back.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import os
import stat
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from twisted_netsuite.errors import Conflict, Corrupted, NetsuiteError, SourceChanged, StorageFailed
from twisted_netsuite.files.digests import (
    CHUNK,
    ZEROS,
    chunkLength,
    chunks,
    combined,
    digestOf,
)
from twisted_netsuite.files.journal import (
    PARTIAL,
    Claim,
    Journal,
    acquire,
    create,
    isNamed,
    isOurs,
    sealOf,
)
from twisted_netsuite.files.localsource import PERMISSIONS, LocalSource, attributesOf
from twisted_netsuite.files.root import refusal, shown
from twisted_netsuite.files.store import Attributes, Wanted

#: Of C{linux/fs.h} and C{linux/falloc.h}.
_NOREPLACE, _EXCHANGE = 1, 2
_KEEP_SIZE, _PUNCH_HOLE = 1, 2

#: What kernels, sandboxes and file systems answer that do not have such a call.
_NOT_THERE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)

#: What file systems answer that have no hard links.
_NO_LINKS = (*_NOT_THERE, errno.EPERM, errno.EMLINK)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

#: How often what is at the target's name is looked at, when it comes and goes all the time.
TRIES = 16

#: Seconds between two tries to lock a directory, and how many are made: others do no more than one
#: rename while they have it.
LOCK_PAUSE, LOCK_TRIES = 0.01, 300

#: Threads that read an earlier try's chunks again: the digests of two cores are as fast as memory.
READERS = 4

#: Chunks below which one thread does it.
FEW = 8

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: Pieces that one system call takes.
_IOV_MAX = 1024

_LIBC = ctypes.CDLL(None, use_errno=True)

#: What the names begin with of files of which nothing is kept; no two processes have the same.
_RANDOM = PARTIAL + os.urandom(12).hex().encode() + b"-"
_numbers = itertools.count()


def _function(name: str, *arguments: Any) -> Any:
    function = getattr(_LIBC, name, None)
    if function is not None:
        function.argtypes = arguments
    return function


_INT, _LONG, _BYTES = ctypes.c_int, ctypes.c_longlong, ctypes.c_char_p
_renameat2 = _function("renameat2", _INT, _BYTES, _INT, _BYTES, ctypes.c_uint)
_fallocate = _function("fallocate64", _INT, _INT, _LONG, _LONG)


def _call(function: Any, *arguments: object) -> None:
    """Do a system call that Python has no name for."""
    number = errno.ENOSYS
    while function is not None:
        if function(*arguments) == 0:
            return
        number = ctypes.get_errno()
        if number != errno.EINTR:
            break
    raise OSError(number, os.strerror(number))


def renameat2(directory: int, name: bytes, to: bytes, flags: int) -> None:
    """
    Rename within a directory.

    @param directory: a descriptor of it.
    @param name: what.
    @param to: its new name.
    @param flags: whether to replace nothing, or to exchange the two.
    @raise OSError: from the system.
    """
    _call(_renameat2, directory, name, directory, to, flags)


def fallocate(file: int, mode: int, offset: int, length: int) -> None:
    """
    Take room for a part of a file, or give it back; unlike that of the C library it writes nothing
    where the file system cannot do it.

    @param file: its descriptor.
    @param mode: flags.
    @param offset: where that part begins, in bytes.
    @param length: its bytes.
    @raise OSError: from the system.
    """
    _call(_fallocate, file, mode, offset, length)


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


def _isSame(one: os.stat_result, other: os.stat_result) -> bool:
    """Tell whether contents are the same; a rename changes the other times."""
    return (
        os.path.samestat(one, other)
        and one.st_size == other.st_size
        and one.st_mtime_ns == other.st_mtime_ns
    )


def _close(descriptor: int) -> None:
    """Close; what that could tell of a write an fsync has told before."""
    try:  # noqa: SIM105 - suppress() takes longer than the call, and small files come in thousands.
        os.close(descriptor)
    except OSError:
        pass


def _isUntouched(one: os.stat_result, other: os.stat_result) -> bool:
    """Tell whether nothing at all was done to a file."""
    return _isSame(one, other) and one.st_ctime_ns == other.st_ctime_ns


class Place:
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

    def putNew(self, partial: bytes) -> None:
        """
        Publish a file where nothing is.

        @param partial: its name until then.
        @raise OSError: from the system; C{EEXIST} when something is there.
        """
        try:
            renameat2(self.directory, partial, self.name, _NOREPLACE)
        except OSError as error:
            if error.errno not in _NOT_THERE:
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
                if error.errno not in _NOT_THERE:
                    raise
        # Who compares is alone: else another could compare with what is about to be put back.
        with self._locked():
            found = self.present()
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if expected is not None and not _isSame(found, expected):
                raise self.changed()
            try:
                self._exchange(partial, own, expected)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
                there = {"src_dir_fd": self.directory, "dst_dir_fd": self.directory}
                os.rename(partial, self.name, **there)

    def _exchange(
        self, partial: bytes, own: os.stat_result, expected: os.stat_result | None
    ) -> None:
        renameat2(self.directory, partial, self.name, _EXCHANGE)
        try:
            came = self._look(partial)
        except OSError:
            renameat2(self.directory, partial, self.name, _EXCHANGE)
            raise
        if not stat.S_ISREG(came.st_mode):
            self._putBack(partial, own, came)
            raise self.taken()
        if expected is not None and not _isSame(came, expected):
            self._putBack(partial, own, came)
            raise self.changed()

    def _putBack(self, partial: bytes, own: os.stat_result, came: os.stat_result) -> None:
        """Undo an exchange; if others have published here since, theirs stays."""
        with suppress(FileNotFoundError):  # Somebody has removed it, wherever it was then.
            while True:
                renameat2(self.directory, partial, self.name, _EXCHANGE)
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
            _close(lock)

    def _waitFor(self, lock: int) -> None:
        for _ in range(LOCK_TRIES):
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(LOCK_PAUSE)
        raise Conflict(f"The directory of {shown(self.name)} is locked; end who locks it.")

    def _look(self, name: bytes) -> os.stat_result:
        return os.stat(name, dir_fd=self.directory, follow_symlinks=False)


class LocalTarget:
    """
    A file that is being written, and nobody sees.

    Once an fsync of it has failed none of it is believed any more, nor is it kept: the system tells
    that once, and calls the pages clean that it could not write, so that an fsync later, and
    reading them again, would say that all is well.

    @ivar size: bytes that it will have.
    """

    def __init__(self, directory: int, name: bytes, wanted: Wanted) -> None:
        """
        @param directory: a descriptor of where it will be, which is this one's from here on.
        @param name: what it will be called there.
        @param wanted: what it will be.
        """
        self.size = wanted.size
        self._wanted = wanted
        self._place = Place(directory, name)
        self._partial = b""
        self._file = -1
        self._journal: Journal | None = None
        self._verified: dict[int, bytes] = {}
        # Holes of which nobody but this knows so far: the first of them, and how many.
        self._holes = 0, 0
        # Whether the file has its size; a small one has it once it is written.
        self._sized = False
        # Whether it was made ready to be seen by others, and is seen; whether the disk keeps it.
        self._opened = self._published = False
        self._sound = True
        # Whether nothing of an earlier try is in it.
        self._fresh = True
        # The file that is to be replaced, and its digest. It stays open, as another file can have
        # the same number once it is gone.
        self._replaced: tuple[os.stat_result, bytes] | None = None
        self._old = -1

    @classmethod
    def begin(cls, directory: int, name: bytes, wanted: Wanted, owner: str) -> LocalTarget:
        """
        Begin to write a file, or go on where an earlier try of the same source has ended.

        @param directory: a descriptor of where it will be; it stays the caller's.
        @param name: what it will be called there, one part.
        @param wanted: what it will be.
        @param owner: whose it is: nobody else goes on with it.
        @return: the file.
        @raise Conflict: when it is plain already that it cannot be published, or another is being
            written from the same source for the same name.
        @raise StorageFailed: when there is not room enough.
        """
        target = None
        try:
            target = cls(os.dup(directory), name, wanted)
            if wanted.source is not None or wanted.size > CHUNK:
                target._requireFree()
                target._beginLarge(owner)
            else:
                # As few calls as can be; what is there is looked at when it is published.
                if not wanted.clobber or wanted.replaces is not None:
                    target._requireFree()
                target._create()
        except Exception as error:
            if target is not None:
                target._abandon()
            if isinstance(error, OSError):
                raise refusal(error, name) from error
            raise
        return target

    def _create(self) -> None:
        self._partial = _RANDOM + b"%x" % next(_numbers)
        self._file = create(self._place.directory, self._partial)

    def _requireFree(self) -> None:
        present = self._place.present()
        if present is not None and not self._wanted.clobber:
            raise _exists(self._place.name)
        if self._wanted.replaces is not None:
            self._requireReplaced()

    def _requireReplaced(self) -> os.stat_result:
        """Require that what is there has the digest that it is to have."""
        present = self._place.present()
        if present is None or self._wanted.clobber is False:
            raise self._place.changed()
        if self._replaced is None or not _isUntouched(self._replaced[0], present):
            self._closeOld()
            self._old = os.open(self._place.name, _READ, dir_fd=self._place.directory)
            self._replaced = present, _digestOf(self._place, self._old, present)
        if self._replaced[1] != self._wanted.replaces:
            raise self._place.changed()
        return present

    # What an earlier try has left.

    def _beginLarge(self, owner: str) -> None:
        directory, source = self._place.directory, self._wanted.source
        if source is None:
            self._create()
        else:
            claim = Claim(owner, self._place.name, source, self.size)
            self._journal = Journal(directory, claim)
            self._fresh = self._journal.kept.inode == 0
            self._resume(self._journal, claim.partialName)
        self._reserve()
        if self._journal is not None and self._verified:
            self._journal.seal(self._seal())

    def _resume(self, journal: Journal, partial: bytes) -> None:
        """Find out which chunks are there, and right."""
        kept = journal.kept

        def fits(found: os.stat_result) -> bool:
            return isOurs(found) and found.st_ino == kept.inode

        self._file, self._fresh = acquire(self._place.directory, partial, fits)
        self._partial = partial
        if self._fresh:
            journal.restart()
            return
        status = os.fstat(self._file)
        if kept.seal == sealOf(status) and status.st_size == self.size:
            self._verified = kept.verified
            return
        self._verified = self._reread(kept.verified)
        journal.restart()
        seal = self._seal()
        for run in _runs(self._verified):
            journal.note(*run, seal)

    def _reread(self, verified: dict[int, bytes]) -> dict[int, bytes]:
        """Read chunks again; return those that are right."""
        os.ftruncate(self._file, self.size)
        source = LocalSource(self._file, os.fstat(self._file), self._place.name)
        try:
            found = _digestsOf(source, sorted(verified))
        except (StorageFailed, SourceChanged):
            return {}  # What cannot be read is written again.
        return {index: digest for index, digest in found.items() if verified[index] == digest}

    def _seal(self) -> bytes:
        return sealOf(os.fstat(self._file))

    # Room.

    def _reserve(self) -> None:
        """
        Take the room that it needs, so that it does not run out in the middle.

        What has holes is not to take more room than it needs, and whether a file has some is not
        known before they come: where there is room for it as if it had none that is taken, and each
        hole gives back its own; where not, it is written without.
        """
        system = os.fstatvfs(self._file)
        room = self.size if self._wanted.room is None else self._wanted.room
        free = system.f_bavail * system.f_frsize if system.f_blocks else room  # Not every one says.
        status = os.fstat(self._file)
        missing = max(0, room - status.st_blocks * 512)
        if missing > free and self._wanted.room is not None:
            raise StorageFailed(
                f"{shown(self._place.name)} needs {missing} bytes more, and the disk has {free}; "
                "make some room there."
            )
        if status.st_size != self.size:
            os.ftruncate(self._file, self.size)
        self._sized = True
        if missing > free or room < self.size or not self.size:
            return
        try:
            fallocate(self._file, 0, 0, self.size)
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._release()
                if self._wanted.room is not None:
                    raise
            elif error.errno not in _NOT_THERE:
                raise

    def _release(self) -> None:
        """Give the room back of all that is not there."""
        at, end = 0, chunks(self.size)
        for first, count, _digest in (*_runs(self._verified), (end, 0, b"")):
            if first > at:
                self._punch(at, first - at)
            at = first + count

    def _punch(self, first: int, count: int) -> None:
        """Let chunks be zeros that take no room."""
        start = first * CHUNK
        length = min(count * CHUNK, self.size - start)
        if length <= 0:
            return
        try:
            fallocate(self._file, _PUNCH_HOLE | _KEEP_SIZE, start, length)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            self._writeZeros(first, count)

    def _writeZeros(self, first: int, count: int) -> None:
        source = LocalSource(self._file, os.fstat(self._file), self._place.name)
        for index in range(first, first + count):
            length = chunkLength(self.size, index)
            if source.data(index * CHUNK)[0] < index * CHUNK + length:
                self._writeAll([bytes(length)], index * CHUNK)

    # What comes.

    @property
    def verified(self) -> Mapping[int, bytes]:
        """The chunks that are there, and right, by their index; in the beginning those that an
        earlier try has left."""
        return self._verified

    def write(self, offset: int, pieces: list[bytes]) -> None:
        """
        Write.

        @param offset: where, in bytes.
        @param pieces: what, one behind the other.
        @raise StorageFailed: when the disk is full, or fails.
        """
        try:
            end = offset + sum(map(len, pieces))
            if offset < 0 or end > self.size:
                raise ValueError(f"{offset} to {end} is not in a file of {self.size} bytes")
            if self._verified:
                self._spoil(offset, end)
            self._writeAll(pieces, offset)
        except OSError as error:
            raise refusal(error, self._place.name) from error

    def _writeAll(self, pieces: list[bytes], offset: int) -> None:
        if len(pieces) > _IOV_MAX:
            pieces = [b"".join(pieces)]
        written = os.pwritev(self._file, pieces, offset)
        missing = sum(map(len, pieces)) - written
        while missing:
            offset += written
            written = os.pwrite(self._file, b"".join(pieces)[-missing:], offset)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            missing -= written

    def _spoil(self, start: int, end: int) -> None:
        """Know nothing of chunks any more that are written to, before that is done."""
        for index in range(start // CHUNK, -(-end // CHUNK)):
            if index in self._verified:
                self._flush()
                del self._verified[index]
                if self._journal is not None:
                    self._journal.drop(index, self._seal())

    def chunkWritten(self, index: int, digest: bytes) -> None:
        """
        Note that all of a chunk was written, and is right.

        @param index: which.
        @param digest: its own.
        @raise StorageFailed: when the disk fails.
        """
        if self._journal is not None:
            try:
                self._journal.note(index, 1, digest, self._seal())
            except OSError as error:
                raise refusal(error, self._place.name) from error
        self._verified[index] = digest

    def hole(self, index: int) -> None:
        """
        Let a whole chunk be zeros that take no room.

        @param index: which.
        @raise StorageFailed: when the disk fails.
        """
        first, count = self._holes
        length = chunkLength(self.size, index)
        if not count or index != first + count or length != CHUNK:
            self._flushHoles()
            first, count = index, 0
        self._holes = first, count + 1
        self._verified[index] = ZEROS if length == CHUNK else digestOf(bytes(length))

    def _flushHoles(self) -> None:
        try:
            self._flush()
        except OSError as error:
            raise refusal(error, self._place.name) from error

    def _flush(self) -> None:
        """Make the holes that nobody knows of so far."""
        (first, count), self._holes = self._holes, (0, 0)
        if not count:
            return
        try:
            if not self._sized:
                os.ftruncate(self._file, self.size)
                self._sized = True
            self._punch(first, count)
            if self._journal is not None:
                self._journal.note(first, count, self._verified[first], self._seal())
        except OSError:
            for index in range(first, first + count):
                self._verified.pop(index, None)
            raise

    # The end.

    def commit(self, digest: bytes) -> Attributes:
        """
        Publish it: from here on everybody sees it in place of the old one, and never a part of it.
        It is closed, also when that fails.

        @param digest: that of the whole, by L{combined}.
        @return: what it is now.
        @raise Corrupted: when chunks are missing, or have another digest together; then nothing of
            it is kept.
        @raise Conflict: when there is a file that it may not replace.
        @raise StorageFailed: when the disk is full, or fails.
        """
        try:
            self._flush()
            self._requireWhole(digest)
            self._publish()
            status = os.fstat(self._file)
        except Exception as error:
            failure = self._failure(error) if isinstance(error, OSError) else error
            self._giveUp()
            raise failure from error
        self._close(remove=True)
        return attributesOf(status)

    def _failure(self, error: OSError) -> NetsuiteError:
        name = self._place.name
        if self._published:
            return StorageFailed(
                f"{shown(name)} was published, but whether the disk keeps it is not known: "
                f"{(error.strerror or str(error)).lower()}; see to the disk, and send it again."
            )
        if isinstance(error, FileNotFoundError):
            return StorageFailed(
                f"What had come of {shown(name)} was removed by somebody else; send it again."
            )
        return refusal(error, name)

    def _giveUp(self) -> None:
        """Close what could not be published."""
        named = True
        if self._opened and not self._published:
            try:
                named = isNamed(self._place.directory, self._partial, self._file)
            except OSError:
                named = False
        if named:
            self.keep()
        else:
            # An exchange could not be undone: what has the name now may be somebody's only one.
            self._close(remove=False)

    def _requireWhole(self, digest: bytes) -> None:
        count = chunks(self.size)
        if len(self._verified) != count:
            missing = count - len(self._verified)
            raise Corrupted(
                f"Of {shown(self._place.name)} {missing} of {count} chunks are missing; send it "
                "again."
            )
        if combined([self._verified[index] for index in range(count)]) != digest:
            # All chunks are right, so they are not of this file; there is no telling which.
            self._sound = False
            raise Corrupted(
                f"{shown(self._place.name)} is not what its digest says; send it again."
            )

    def _publish(self) -> None:
        wanted, place = self._wanted, self._place
        expected = None if wanted.replaces is None else self._requireReplaced()
        mode = wanted.mode
        if mode is None:
            present = expected or place.present()
            mode = usualMode() if present is None else present.st_mode
        os.fchmod(self._file, mode & PERMISSIONS)
        self._opened = True
        if wanted.mtime is None:
            os.utime(self._file)
        else:
            os.utime(self._file, ns=(time.time_ns(), wanted.mtime))
        if wanted.durable:
            self._sync()
        left = self._put(expected)
        self._published = True
        if wanted.durable:
            # Before the old one goes, so that it is lost in no order in which the disk does these.
            os.fsync(place.directory)
        if left:
            with suppress(OSError):
                os.unlink(self._partial, dir_fd=place.directory)
        self._partial = b""

    def _sync(self) -> None:
        try:
            os.fsync(self._file)
        except OSError:
            self._sound = False
            raise

    def _put(self, expected: os.stat_result | None) -> bool:
        """Give it its name; tell whether its old name may lead to the file that it replaced."""
        place, partial = self._place, self._partial
        if expected is not None:
            place.putOver(partial, os.fstat(self._file), expected)
            return True
        for _ in range(TRIES):
            try:
                place.putNew(partial)
                return False
            except FileExistsError:
                if not self._wanted.clobber:
                    raise _exists(place.name) from None
            if place.present() is not None:
                with suppress(FileNotFoundError):
                    place.putOver(partial, os.fstat(self._file), None)
                    return True
        raise Conflict(f"{shown(place.name)} comes and goes all the time; try again.")

    def keep(self) -> None:
        """Close it, and keep what is there for another try, if its source has a name."""
        if self._file < 0:
            return
        with suppress(OSError):
            self._flush()
        if self._journal is None or self._published or not (self._sound and self._verified):
            self.discard()
            return
        try:
            if self._opened:
                os.fchmod(self._file, 0o600)
            with suppress(OSError):
                self._release()
            if self._wanted.durable:
                self._sync()
            self._journal.seal(self._seal())
        except OSError:
            self.discard()
            return
        self._close(remove=False)

    def discard(self) -> None:
        """Close it, and leave nothing of it."""
        self._close(remove=True)

    def _abandon(self) -> None:
        """Close what could not be begun; what an earlier try has left stays."""
        self._close(remove=self._fresh)

    def _close(self, remove: bool) -> None:
        directory = self._place.directory
        if directory < 0:
            return
        if remove and self._partial:
            with suppress(OSError):
                os.unlink(self._partial, dir_fd=directory)
        if self._journal is not None:
            self._journal.close(remove)
        self._closeOld()
        for descriptor in (self._file, directory):
            if descriptor >= 0:
                _close(descriptor)
        self._file = self._place.directory = -1

    def _closeOld(self) -> None:
        if self._old >= 0:
            _close(self._old)
        self._old = -1


def _exists(name: bytes) -> Conflict:
    return Conflict(f"{shown(name)} exists already; choose another name, or remove it first.")


def _runs(digests: Mapping[int, bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Put chunks together that follow each other and have the same digest."""
    first, count, last = 0, 0, b""
    for index in sorted(digests):
        if count and index == first + count and digests[index] == last:
            count += 1
            continue
        if count:
            yield first, count, last
        first, count, last = index, 1, digests[index]
    if count:
        yield first, count, last


def _digestOf(place: Place, file: int, present: os.stat_result) -> bytes:
    """Digest the file that is to be replaced, and nothing else."""
    if not _isUntouched(os.fstat(file), present):
        raise place.changed()
    source = LocalSource(file, present, place.name)
    found = _digestsOf(source, list(range(chunks(present.st_size))))
    if not _isUntouched(os.fstat(file), present):
        raise place.changed()
    return combined([found[index] for index in sorted(found)])


def _digestsOf(source: LocalSource, indexes: list[int]) -> dict[int, bytes]:
    """Read chunks; holes are known without that."""
    size = source.attributes.size

    def some(indexes: list[int]) -> list[tuple[int, bytes]]:
        found = []
        start = end = 0
        for index in indexes:
            at, length = index * CHUNK, chunkLength(size, index)
            if at >= end:  # Not for each chunk: to find the end of the data can take long.
                start, end = source.data(at)
            hole = length == CHUNK and start >= at + length
            found.append((index, ZEROS if hole else source.digest(index)))
        return found

    if len(indexes) <= FEW:
        return dict(some(indexes))
    with ThreadPoolExecutor(READERS) as pool:
        parts = pool.map(some, (indexes[at::READERS] for at in range(READERS)))
        return dict(itertools.chain.from_iterable(parts))
