"""
What is known of a file that is not whole yet, kept beside it, so that a later try goes on from
there. The file's own bytes are read here, and never written.

A journal is a header, which says what it belongs to, and entries of one size, each with a checksum:
a run of chunks that have the same digest, and what the system knew of the partial file when that
was noted, its seal. As long as the partial still has the last seal nobody has touched it since, and
the entries can be believed; else all that they say is read again. So a journal needs no fsync, and
one that cannot be written costs no more than the next try's time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property

from blake3 import blake3

from twisted_netsuite.errors import Conflict
from twisted_netsuite.files.digests import DIGEST, chunks
from twisted_netsuite.files.names import RESERVED

#: What the names of leftovers begin with.
PARTIAL, JOURNAL = RESERVED + b"partial-", RESERVED + b"journal-"

#: What a journal begins with: this format, and no other, is read.
MAGIC = b"NETSUITE-PARTS-1"

#: Entries that a journal has at the most, beyond two for each chunk, so that who sends the same
#: chunks over and over does not fill the disk with it.
SPARE_ENTRIES = 1024

#: Entries that are read at once.
_BATCH = 4096

#: How often a file is looked for, and made, that others remove and make at the same time.
TRIES = 16

_HEADER = struct.Struct("<16s16sQQHHH")  # magic, boot, created, size; lengths of what follows
_ENTRY = struct.Struct("<QQ32s56s")  # first chunk, how many, their digest, seal
_SEAL = struct.Struct("<16sQQQqq")  # boot, device, inode, size, times of change
_CHECK = 16
ENTRY = _ENTRY.size + _CHECK

#: Stands for the digest of a chunk that is not right any more, as somebody writes to it.
_DROPPED = bytes(DIGEST)

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@cache
def bootId() -> bytes:
    """
    Tell this boot of the machine from all others.

    @return: 16 bytes.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return bytes.fromhex(file.read().replace(b"-", b"").strip().decode())[:16].ljust(16)
    except (OSError, ValueError):
        return os.urandom(16)  # Then each run is its own boot: more is read again than needed.


def sealOf(status: os.stat_result) -> bytes:
    """
    Take down what changes whenever a file is touched.

    @param status: what the system knows of it.
    @return: the same for a file that nobody has touched in between, in this boot.
    """
    times = status.st_mtime_ns, status.st_ctime_ns
    return _SEAL.pack(bootId(), status.st_dev, status.st_ino, status.st_size, *times)


@dataclass(frozen=True)
class Claim:
    """
    What a partial file belongs to; with anything else of it, it is not found.

    @ivar owner: whose it is.
    @ivar name: what it will be called, in its directory.
    @ivar source: tells its source apart.
    @ivar size: bytes that it will have.
    """

    owner: str
    name: bytes
    source: bytes
    size: int

    @cached_property
    def _texts(self) -> tuple[bytes, bytes, bytes]:
        return self.owner.encode("utf-8", "surrogateescape"), self.name, self.source

    @cached_property
    def _tag(self) -> bytes:
        lengths = (len(text) for text in self._texts)
        fields = struct.pack("<QHHH", self.size, *lengths) + b"".join(self._texts)
        return blake3(fields).digest(16).hex().encode()

    @property
    def partialName(self) -> bytes:
        """What the partial file is called."""
        return PARTIAL + self._tag

    @property
    def journalName(self) -> bytes:
        """What its journal is called."""
        return JOURNAL + self._tag

    def header(self, created: int) -> bytes:
        """
        Write the header of a journal.

        @param created: when it was begun, in nanoseconds since 1970.
        @return: the header; its last bytes are its checksum.
        """
        lengths = (len(text) for text in self._texts)
        head = _HEADER.pack(MAGIC, bootId(), created, self.size, *lengths) + b"".join(self._texts)
        return head + blake3(head).digest(_CHECK)

    def owns(self, header: bytes) -> bool:
        """
        Tell whether a header is whole, and says that its journal belongs to this.

        @param header: of the length that it would have.
        @return: whether it does.
        """
        head, check = header[:-_CHECK], header[-_CHECK:]
        if len(head) < _HEADER.size or blake3(head).digest(_CHECK) != check:
            return False
        magic, _boot, _created, *rest = _HEADER.unpack_from(head)
        fields = self.size, *(len(text) for text in self._texts)
        return magic == MAGIC and tuple(rest) == fields and head.endswith(b"".join(self._texts))


@dataclass
class Kept:
    """
    What a journal says.

    @ivar verified: the digests of chunks, by their index.
    @ivar seal: that of the partial when the last of it was noted; C{None} when something in it was
        not readable, so that nobody knows what that said.
    @ivar inode: that of the partial; 0 when it says nothing of any.
    """

    verified: dict[int, bytes]
    seal: bytes | None
    inode: int


class Journal:
    """The journal of one partial file; while this is open nobody else has it."""

    def __init__(self, directory: int, claim: Claim) -> None:
        """
        Open it, or begin one.

        @param directory: a descriptor of where it is; used until this is closed.
        @param claim: what it belongs to.
        @raise Conflict: when somebody else has it open.
        @raise OSError: from the system.
        """
        self._directory = directory
        self._claim = claim
        self._limit = ENTRY * (2 * chunks(claim.size) + SPARE_ENTRIES)
        # What could not be written so far: it is tried again with what comes next.
        self._unwritten, self._full = b"", False
        self._file, fresh = acquire(directory, claim.journalName, _isPrivate)
        try:
            self.kept = Kept({}, None, 0) if fresh else self._read()
            if self.kept.inode == 0:
                self.restart()
        except BaseException:
            self.close(remove=fresh)
            raise

    def _read(self) -> Kept:
        """Read it; one that is not this claim's, or larger than any can be, says nothing."""
        nothing = Kept({}, None, 0)
        length = len(self._claim.header(0))
        header = os.pread(self._file, length, 0)
        size = os.fstat(self._file).st_size
        if size > length + self._limit or not self._claim.owns(header):
            return nothing
        self._adopt(header)
        verified: dict[int, bytes] = {}
        seal, sound = b"", True
        while data := os.pread(self._file, _BATCH * ENTRY, self._end):
            if len(data) < ENTRY:
                sound = False
                break
            for at in range(0, len(data) - ENTRY + 1, ENTRY):
                entry = self._entry(data[at : at + ENTRY])
                if entry is None:
                    sound = False
                    continue
                first, count, digest, seal = entry
                for index in range(first, first + count):
                    if digest == _DROPPED:
                        verified.pop(index, None)
                    else:
                        verified[index] = digest
            self._end += len(data) // ENTRY * ENTRY
        inode = _SEAL.unpack(seal)[2] if seal else 0
        return Kept(verified, seal if sound else None, inode)

    def _entry(self, data: bytes) -> tuple[int, int, bytes, bytes] | None:
        body, check = data[: _ENTRY.size], data[_ENTRY.size :]
        if blake3(body, key=self._key).digest(_CHECK) != check:
            return None
        first, count, digest, seal = _ENTRY.unpack(body)
        if first + count > chunks(self._claim.size):
            return None
        return first, count, digest, seal

    def _adopt(self, header: bytes) -> None:
        # Entries of an older journal, which the disk may bring back, do not fit to this one.
        self._key = blake3(header).digest()
        self._end = self._start = len(header)

    def restart(self) -> None:
        """
        Forget all that it says.

        @raise OSError: from the system.
        """
        header = self._claim.header(time.time_ns())
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, header, 0)  # One that was not written whole belongs to nobody.
        self._adopt(header)
        self._unwritten, self._full = b"", False

    def note(self, first: int, count: int, digest: bytes, seal: bytes) -> None:
        """
        Note that chunks are right. When it cannot be written, it is missing at the next try.

        @param first: the first of them.
        @param count: how many have this digest.
        @param digest: their digest.
        @param seal: that of the partial.
        """
        body = _ENTRY.pack(first, count, digest, seal)
        self._unwritten += body + blake3(body, key=self._key).digest(_CHECK)
        # Where one entry is missing none may follow, as a seal would say that all are there.
        self._full |= self._end - self._start + len(self._unwritten) > self._limit
        if self._full:
            self._unwritten = b""
            return
        with suppress(OSError):
            written = os.pwrite(self._file, self._unwritten, self._end) // ENTRY * ENTRY
            self._end += written
            self._unwritten = self._unwritten[written:]

    def drop(self, index: int, seal: bytes) -> None:
        """
        Note that a chunk is not right any more.

        @param index: which.
        @param seal: that of the partial.
        """
        self.note(index, 1, _DROPPED, seal)

    def seal(self, seal: bytes) -> None:
        """
        Note that all that it says is true of the partial as it is now.

        @param seal: that of the partial.
        """
        self.note(0, 0, _DROPPED, seal)

    def close(self, remove: bool) -> None:
        """
        Let it go.

        @param remove: whether nothing is to be left of it.
        """
        if remove:
            with suppress(OSError):
                os.unlink(self._claim.journalName, dir_fd=self._directory)
        with suppress(OSError):
            os.close(self._file)


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


def create(directory: int, name: bytes) -> int:
    """
    Make a file for this process alone.

    @param directory: a descriptor of where it will be.
    @param name: its name.
    @return: its descriptor.
    @raise Conflict: when another has found it, and opened it, before this process could hold it.
    @raise OSError: from the system; C{EEXIST} when the name is taken.
    """
    file = os.open(name, _CREATE, 0o600, dir_fd=directory)
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
    with suppress(OSError):
        os.close(file)
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


def _isPrivate(status: os.stat_result) -> bool:
    return isOurs(status) and not status.st_mode & 0o077


# Cleaning.


def cleanDirectory(directory: int, seconds: float) -> int:
    """
    Remove what tries have left in a directory, and nobody has open.

    @param directory: a descriptor of it.
    @param seconds: how long ago it was touched last, at least; 0 for all of it.
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
    return sum(_cleanPair(directory, sorted(names), before) for names in tags.values())


def _cleanPair(directory: int, names: list[bytes], before: float) -> int:
    """Remove a partial and its journal, or none of them."""
    held: list[int] = []
    old: list[tuple[bytes, os.stat_result]] = []
    removed = 0
    try:
        for name in names:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if status.st_ctime > before or not _holdFound(directory, name, status, held):
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
                raise _busy()
        os.unlink(name, dir_fd=directory)
    finally:
        _closeAll(held)


def _closeAll(held: list[int]) -> None:
    for file in held:
        with suppress(OSError):
            os.close(file)


def _holdFound(directory: int, name: bytes, found: os.stat_result, held: list[int]) -> bool:
    """Keep others off a file; what is none cannot be held by them either."""
    if not stat.S_ISREG(found.st_mode):
        return True
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    held.append(os.open(name, flags, dir_fd=directory))
    return _hold(held[-1])
