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

import os
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property

from blake3 import blake3

from twisted_netsuite.files.digests import DIGEST, ZEROS, chunks
from twisted_netsuite.files.leftovers import JOURNAL, PARTIAL, acquire, isOurs
from twisted_netsuite.files.localsource import told
from twisted_netsuite.files.verified import Verified

#: What a journal begins with: this format, and no other, is read.
MAGIC = b"NETSUITE-PARTS-1"

#: Entries that a journal has at the most, beyond two for each chunk, so that who sends the same
#: chunks over and over does not fill the disk with it.
SPARE_ENTRIES = 1024

#: Entries that are read at once.
_BATCH = 4096

_HEADER = struct.Struct("<16s16sQQHHH")  # magic, boot, created, size; lengths of what follows
_ENTRY = struct.Struct("<QQ32s56s")  # first chunk, how many, their digest, seal
_SEAL = struct.Struct("<16sQQQqq")  # boot, device, inode, size, times of change
_CHECK = 16
ENTRY = _ENTRY.size + _CHECK

#: Stands for the digest of a chunk that is not right any more, as somebody writes to it.
_DROPPED = bytes(DIGEST)


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
    times = told(status.st_mtime_ns), told(status.st_ctime_ns)
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

    verified: Verified
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
            self.kept = _nothing() if fresh else self._read()
            if self.kept.inode == 0:
                self.restart()
        except BaseException:
            self.close(remove=fresh)
            raise

    def _read(self) -> Kept:
        """Read it; one that is not this claim's, or larger than any can be, says nothing."""
        length = len(self._claim.header(0))
        header = os.pread(self._file, length, 0)
        size = os.fstat(self._file).st_size
        if size > length + self._limit or not self._claim.owns(header):
            return _nothing()
        self._adopt(header)
        verified = Verified(chunks(self._claim.size))
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
                if digest == _DROPPED:
                    verified.discard(first, count)
                elif digest == ZEROS:
                    # Not one by one: each of many entries may be of a million chunks.
                    verified.addZeros(first, count)
                else:
                    verified.update(dict.fromkeys(range(first, first + count), digest))
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


def _nothing() -> Kept:
    return Kept(Verified(0), None, 0)


def _isPrivate(status: os.stat_result) -> bool:
    return isOurs(status) and not status.st_mode & 0o077
