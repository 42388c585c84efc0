"""
Files of the local disk while they are written: beside the place that they are for, under a name of
their own, until they are whole and are published there in one step.

Here is what may take long and be gone on with; a small file that is there at once is in
L{files.wholefile}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

from twisted_netsuite.errors import Conflict, Corrupted, SourceChanged, StorageFailed
from twisted_netsuite.files.digests import CHUNK, ZEROS, chunkLength, chunks, combined, digestOf
from twisted_netsuite.files.journal import Claim, Journal, sealOf
from twisted_netsuite.files.leftovers import acquire, close, create, isNamed, isOurs, unusedName
from twisted_netsuite.files.localsource import LocalSource, attributesOf
from twisted_netsuite.files.partialfile import PartialFile
from twisted_netsuite.files.publishing import Slot
from twisted_netsuite.files.replaced import Replaced
from twisted_netsuite.files.rereading import reread
from twisted_netsuite.files.root import refusal, shown
from twisted_netsuite.files.store import Attributes, Wanted
from twisted_netsuite.files.verified import Verified


class LocalTarget:
    """
    A file that is being written, and nobody sees.

    Once an fsync of it has failed none of it is believed any more, nor is it kept: the system tells
    that once, and calls the pages clean that it could not write, so that an fsync later, and
    reading them again, would say that all is well.

    @ivar size: bytes that it will have.
    @ivar kept: once it is closed, whether something of it is there for another try.
    @ivar isPlace: tells, given the descriptor, whether its directory still is the one that its
        whole name leads to: what was allowed by that name is published by no other.
    """

    def __init__(self, directory: int, name: bytes, wanted: Wanted) -> None:
        """
        @param directory: a descriptor of where it will be, which is this one's from here on.
        @param name: what it will be called there.
        @param wanted: what it will be.
        """
        self.size = wanted.size
        self.kept = False
        self.isPlace: Callable[[int], bool] = lambda directory: True
        self._wanted = wanted
        self._slot = Slot(directory, name)
        self._partial = b""
        self._file = PartialFile(-1, wanted.size, name)
        self._journal: Journal | None = None
        self._verified = Verified(chunks(wanted.size))
        # Holes of which nobody but this knows so far: the first of them, and how many.
        self._holes = 0, 0
        # Whether it was made ready to be seen by others, and is seen; whether the disk keeps it.
        self._opened = self._published = False
        self._sound = True
        # Whether nothing of an earlier try is in it.
        self._fresh = True
        self._replaced = None if wanted.replaces is None else Replaced(self._slot, wanted.replaces)

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
        self._partial = unusedName()
        self._file.descriptor = create(self._slot.directory, self._partial)

    def _requireFree(self) -> None:
        present = self._slot.present()
        if present is not None and not self._wanted.clobber:
            raise self._slot.exists()
        if self._replaced is not None:
            self._requireReplaced(self._replaced)

    def _requireReplaced(self, replaced: Replaced) -> os.stat_result:
        if not self._wanted.clobber:
            raise self._slot.changed()
        return replaced.require()

    # What an earlier try has left.

    def _beginLarge(self, owner: str) -> None:
        directory, source = self._slot.directory, self._wanted.source
        if source is None:
            self._create()
        else:
            claim = Claim(owner, self._slot.name, source, self.size)
            self._journal = Journal(directory, claim)
            self._fresh = self._journal.kept.inode == 0
            self._resume(self._journal, claim.partialName)
        self._file.reserve(self._wanted.room, self._verified)
        if self._journal is not None and self._verified:
            self._journal.seal(self._seal())

    def _resume(self, journal: Journal, partial: bytes) -> None:
        """Find out which chunks are there, and right."""
        kept = journal.kept

        def fits(found: os.stat_result) -> bool:
            return isOurs(found) and found.st_ino == kept.inode

        self._file.descriptor, self._fresh = acquire(self._slot.directory, partial, fits)
        self._partial = partial
        if self._fresh:
            journal.restart()
            return
        status = self._file.status()
        if kept.seal == sealOf(status) and status.st_size == self.size:
            self._verified = kept.verified
            return
        self._verified = self._reread(kept.verified)
        journal.restart()
        seal = self._seal()
        for run in self._verified.runs():
            journal.note(*run, seal)

    def _reread(self, verified: Verified) -> Verified:
        """Read chunks again; return those that are right."""
        self._file.resize()
        source = LocalSource(self._file.descriptor, self._file.status(), self._slot.name)
        try:
            return reread(source, verified)
        except (StorageFailed, SourceChanged):
            return Verified(chunks(self.size))  # What cannot be read is written again.

    def _seal(self) -> bytes:
        return sealOf(self._file.status())

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
            self._spoil(offset, end)
            self._file.write(offset, pieces)
        except OSError as error:
            raise refusal(error, self._slot.name) from error

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
                raise refusal(error, self._slot.name) from error
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
            raise refusal(error, self._slot.name) from error

    def _flush(self) -> None:
        """Make the holes that nobody knows of so far."""
        (first, count), self._holes = self._holes, (0, 0)
        if not count:
            return
        try:
            self._file.resize()
            self._file.punch(first, count)
            if self._journal is not None:
                self._journal.note(first, count, self._verified[first], self._seal())
        except OSError:
            self._verified.discard(first, count)
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
            status = self._file.status()
        except Exception as error:
            self._giveUp()
            if isinstance(error, OSError):
                raise self._slot.failure(error, self._published) from error
            raise
        self._close(remove=True)
        return attributesOf(status)

    def _giveUp(self) -> None:
        """Close what could not be published."""
        named = True
        if self._opened and not self._published:
            try:
                named = isNamed(self._slot.directory, self._partial, self._file.descriptor)
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
                f"Of {shown(self._slot.name)} {missing} of {count} chunks are missing; send it "
                "again."
            )
        if combined(self._verified.digests()) != digest:
            # All chunks are right, so they are not of this file; there is no telling which.
            self._sound = False
            raise Corrupted(f"{shown(self._slot.name)} is not what its digest says; send it again.")

    def _publish(self) -> None:
        wanted, slot, file = self._wanted, self._slot, self._file.descriptor
        expected = None if self._replaced is None else self._requireReplaced(self._replaced)
        # From here on it may be for others to read.
        self._opened = True
        slot.furnish(file, wanted, expected)
        if wanted.durable:
            self._sync()
        if not self.isPlace(slot.directory):
            raise Conflict(
                f"The directory of {shown(slot.name)} was renamed or removed; send it to where it "
                "is now."
            )
        if expected is None:
            left = slot.put(self._partial, file, wanted.clobber)
        else:
            slot.putOver(self._partial, self._file.status(), expected)
            left = True
        self._published = True
        if wanted.durable:
            # Before the old one goes, so that it is lost in no order in which the disk does these.
            os.fsync(slot.directory)
        if left:
            with suppress(OSError):
                os.unlink(self._partial, dir_fd=slot.directory)
        self._partial = b""

    def _sync(self) -> None:
        try:
            os.fsync(self._file.descriptor)
        except OSError:
            self._sound = False
            raise

    def keep(self) -> None:
        """Close it, and keep what is there for another try, if its source has a name."""
        if self._file.descriptor < 0:
            return
        with suppress(OSError):
            self._flush()
        if self._journal is None or self._published or not (self._sound and self._verified):
            self.discard()
            return
        try:
            if self._opened:
                # It got the owner and the mode of what it was to replace; then it would not be
                # known as this account's.
                os.fchown(self._file.descriptor, os.geteuid(), -1)
                os.fchmod(self._file.descriptor, 0o600)
            with suppress(OSError):
                self._file.release(self._verified)
            if self._wanted.durable:
                self._sync()
            self._journal.seal(self._seal())
        except OSError:
            self.discard()
            return
        self._close(remove=False)
        self.kept = True

    def discard(self) -> None:
        """Close it, and leave nothing of it."""
        self._close(remove=True)

    def _abandon(self) -> None:
        """Close what could not be begun; what an earlier try has left stays."""
        self._close(remove=self._fresh)

    def _close(self, remove: bool) -> None:
        directory = self._slot.directory
        if directory < 0:
            return
        if remove and self._partial:
            with suppress(OSError):
                os.unlink(self._partial, dir_fd=directory)
        if self._journal is not None:
            self._journal.close(remove)
        if self._replaced is not None:
            self._replaced.close()
        for descriptor in (self._file.descriptor, directory):
            if descriptor >= 0:
                close(descriptor)
        self._file.descriptor = self._slot.directory = -1
        # Whoever holds this is not to hold that, too: it can be much.
        self._verified = Verified(0)
