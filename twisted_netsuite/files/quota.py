"""
How much of what is served each identity keeps, so that a quota holds across restarts and crashes.
Where files are and what is in them is the store's business.

Whoever writes a name owns what is there: a file that is replaced or renamed changes hands, and what
was there before the service counts for nobody. What is about to be published or renamed is
committed before, and after a crash settled by looking; with each commit goes what has happened
since the one before, so that a file costs one. That survives a crash of the server; when the power
fails, the last moments before may count for nobody.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from threading import RLock
from typing import ClassVar

from twisted.logger import Logger

from twisted_netsuite.errors import LimitExceeded, NetsuiteError, StorageFailed
from twisted_netsuite.files.allowance import Allowance, Sum
from twisted_netsuite.files.names import Parts, join, split
from twisted_netsuite.files.quotaledger import QuotaLedger, reasonOf
from twisted_netsuite.files.quotarecords import Owned, Renaming, Upload
from twisted_netsuite.files.quotasums import Sums
from twisted_netsuite.files.reservation import Reservation
from twisted_netsuite.files.store import Attributes

#: Files that are looked at again before somebody is refused: some ten milliseconds.
MAX_LOOKED = 512

#: Seconds until all files of somebody are looked at again: who is refused and tries on and on
#: keeps the disk no busier than that.
LOOK_PAUSE = 1.0

#: Seconds that what is left of an upload counts, if the store does not say how long it is kept.
KEEP = 7 * 24 * 3600.0

#: Seconds between two looks for uploads that are kept no longer.
FORGET_INTERVAL = 60.0

#: Looks at a file or directory, given the whole path of its root and its name: C{None} when there
#: is none.
Look = Callable[[str, Parts], Attributes | None]


class Quotas:
    """Counts for one service; all of it blocks, and may be called in any thread."""

    log: ClassVar[Logger] = Logger()

    def __init__(
        self, directory: str, seconds: Callable[[], float] = time.time, keep: float = KEEP
    ) -> None:
        """
        @param directory: the state directory; it is made when it is opened, its parent is not.
        @param seconds: tells the time, in seconds since 1970.
        @param keep: seconds that the store keeps what is left of an upload.
        """
        self._ledger = QuotaLedger(directory)
        self._seconds = seconds
        self._keep = keep
        self._lock = RLock()
        self._look: Look = lambda root, parts: None
        self._sums = Sums(self._ledger.counted)
        #: Those that are under way; the ledger may have others, after a crash or a failure.
        self._uploads: dict[int, Upload] = {}
        self._renamings: dict[int, Renaming] = {}
        self._highest = 0
        self._torn = False
        self._failing = False
        self._forgetAt = 0.0

    # Opening and closing.

    def check(self) -> None:
        """
        See that the state directory can be used, which is made if need be.

        @raise ConfigurationError: when another server uses it, or it cannot be used.
        """
        with self._lock:
            if not self._ledger.isOpen:
                self._ledger.open()
                self._ledger.close()

    def open(self, look: Look) -> None:
        """
        Take the state directory, and settle what a crash has left open.

        @param look: tells what is there.
        @raise ConfigurationError: when another server uses it, or it cannot be used.
        """
        with self._lock:
            self._ledger.open()
            self._look = look
            self._torn = True
            try:
                with self._using() as ledger:
                    self._highest = ledger.highest()
            except StorageFailed as error:
                self.close()
                raise self._ledger.unusable(error.sentence.rstrip(".")) from error

    def close(self) -> None:
        """Write what is left, and give the directory back."""
        with self._lock:
            self._ledger.close()
            self._sums.clear()
            self._uploads.clear()
            self._renamings.clear()

    # Uploads.

    def reserve(
        self,
        owner: str,
        root: str,
        parts: Parts,
        size: int,
        allowance: Allowance,
        source: bytes | None = None,
    ) -> Reservation:
        """
        Take room for a file before it is written.

        @param owner: whose it will be.
        @param root: the whole path of the root.
        @param parts: its name.
        @param size: its bytes.
        @param allowance: what the owner may keep.
        @param source: as L{store.Wanted} has it: what is kept of an earlier try counts no more.
        @return: what counts from now on.
        @raise LimitExceeded: when it does not fit.
        @raise StorageFailed: when the ledger cannot be written.
        """
        allowance.requireSize(size)
        seen, name = self._look(root, parts), join(parts)
        before = None if seen is None else seen.version
        with self._using() as ledger:
            self._forget()
            # One of another size lies beside it, and goes on to count.
            kept = None if source is None else ledger.kept(root, name, owner, source, size)
            bytes, files = self._charge(root, name, owner, size)
            less = (kept.bytes, kept.files) if kept else (0, 0)
            self._require(owner, root, name, allowance, bytes - less[0], files - less[1])
            if kept is not None:
                self._drop(kept)
            id = self._newId()
            upload = Upload(id, root, name, owner, size, source, before, bytes, files)
            self._add(upload)
            ledger.commit()
            self._uploads[id] = upload
            return Reservation(partial(self.settle, id), partial(self._undo, id, kept))

    def _newId(self) -> int:
        # Never one that was used before: who has it may still ask for something.
        self._highest += 1
        return self._highest

    def _charge(self, root: str, name: bytes, owner: str, size: int) -> tuple[int, int]:
        """Tell what an upload counts: what it replaces will count no more, and that only once."""
        found = self._ledger.file(root, name)
        if found is None or found.owner != owner or self._ledger.replacing(root, name):
            return size, 1
        return size - found.size, 0

    def settle(self, id: int, size: int | None, keep: bool) -> None:
        """
        Count what has become of an upload.

        It never fails: what cannot be written now is found out by looking, before anything else is
        written.

        @param id: its number.
        @param size: bytes of the file that was published; C{None} when none was.
        @param keep: whether what is there is kept for another try.
        """
        with self._lock:
            if id not in self._uploads:
                return
            with suppress(StorageFailed), self._using():
                self._settle(self._uploads.pop(id), size, keep)
            self._uploads.pop(id, None)

    def _undo(self, id: int, kept: Upload | None) -> None:
        """Count what had counted before an upload that could not be begun."""
        with self._lock:
            upload = self._uploads.get(id)
            if upload is None:
                return
            with suppress(StorageFailed), self._using():
                self._drop(self._uploads.pop(id))
                if kept is not None:
                    # Its directory may have got another name meanwhile.
                    self._add(replace(kept, name=upload.name))
            self._uploads.pop(id, None)

    def _settle(self, upload: Upload, size: int | None, keep: bool) -> None:
        self._drop(upload)
        if size is not None:
            self._own(upload.root, upload.name, upload.owner, size)
        elif keep and upload.source is not None:
            until = self._seconds() + self._keep
            self._add(replace(upload, bytes=upload.size, files=1, expires=until))

    def _forget(self) -> None:
        """Count no more what the store has cleaned away."""
        now = self._seconds()
        if now >= self._forgetAt:
            self._forgetAt = now + FORGET_INTERVAL
            for upload in self._ledger.expired(now):
                self._drop(upload)

    def _add(self, upload: Upload) -> None:
        self._ledger.add(upload)
        self._sums.count(upload.owner, upload.root, upload.name, upload.bytes, upload.files)

    def _drop(self, upload: Upload) -> None:
        self._ledger.drop(upload.id)
        self._sums.count(upload.owner, upload.root, upload.name, -upload.bytes, -upload.files)

    # Other changes.

    def removed(self, root: str, parts: Parts) -> None:
        """
        Count a file no more that was removed; if that cannot be written it is noticed later.

        @param root: the whole path of the root.
        @param parts: its name.
        """
        with suppress(StorageFailed), self._using():
            self._disown(root, join(parts))

    def beginRename(
        self, owner: str, root: str, parts: Parts, target: Parts, allowance: Allowance
    ) -> int:
        """
        Take room for what is to be renamed, as it will be the owner's.

        @param owner: who renames.
        @param root: the whole path of the root.
        @param parts: the name.
        @param target: the new one.
        @param allowance: what the owner may keep there.
        @return: for L{endRename}.
        @raise LimitExceeded: when it does not fit.
        @raise StorageFailed: when the ledger cannot be written.
        """
        seen = self._look(root, parts)
        with self._using() as ledger:
            self._forget()
            renaming = Renaming(self._newId(), root, join(parts), join(target), owner)
            bytes, files = self._moved(renaming, allowance, seen)
            self._require(owner, root, renaming.target, allowance, bytes, files)
            ledger.addRenaming(renaming)
            ledger.commit()
            self._renamings[renaming.id] = renaming
            return renaming.id

    def _moved(
        self, renaming: Renaming, allowance: Allowance, seen: Attributes | None
    ) -> tuple[int, int]:
        """Tell how much of what is moved counts for the owner only then."""
        sums = self._sums.sum(renaming.owner, renaming.root, allowance)
        bytes = files = 0
        for file, new in self._moves(renaming, seen):
            allowance.requireSize(file.size)
            counts = file.owner == renaming.owner and sums.holds(file.name)
            if sums.holds(new) and not counts:
                bytes, files = bytes + file.size, files + 1
            if file.name == renaming.name and counts:
                # What was to replace it counts in full then.
                for upload in self._ledger.replacing(renaming.root, file.name):
                    bytes, files = bytes + upload.size - upload.bytes, files + 1
        replaced = self._ledger.file(renaming.root, renaming.target)
        if replaced is not None and replaced.owner == renaming.owner:
            bytes, files = bytes - replaced.size, files - 1
        return bytes, files

    def _moves(self, renaming: Renaming, seen: Attributes | None) -> Iterator[tuple[Owned, bytes]]:
        """List files with their new names; one that is nobody's only where it is what is renamed:
        a directory may hold any number."""
        found = self._ledger.below(renaming.root, renaming.name)
        if not found and seen is not None and seen.kind == "file":
            found = [Owned(renaming.name, "", seen.size)]
        for file in found:
            yield file, renaming.target + file.name[len(renaming.name) :]

    def endRename(self, id: int, done: bool | None = None) -> None:
        """
        Count what has become of a change of a name; it never fails. Until here nobody else may do
        anything by one of both names, or by one below them.

        @param id: its number.
        @param done: whether it was made; C{None} when that has to be found out by looking.
        """
        with self._lock:
            if id not in self._renamings:
                return
            with suppress(StorageFailed), self._using():
                self._settleRenaming(self._renamings.pop(id), done)
            self._renamings.pop(id, None)

    def _settleRenaming(self, renaming: Renaming, done: bool | None) -> None:
        root, ledger = renaming.root, self._ledger
        try:
            there = self._look(root, split(renaming.target))
            if done is None:
                done = there is not None and self._look(root, split(renaming.name)) is None
        except NetsuiteError:
            # It is there for the next start.
            return
        ledger.dropRenaming(renaming.id)
        if not done:
            return
        moves = list(self._moves(renaming, there))
        self._disown(root, renaming.target)
        for file, new in moves:
            self._disown(root, file.name)
            self._disown(root, new)
            self._own(root, new, renaming.owner, file.size)
        # What is being written in a directory goes with it.
        for upload in ledger.inside(root, renaming.name):
            new = renaming.target + upload.name[len(renaming.name) :]
            ledger.renameUpload(upload.id, new)
            if upload.id in self._uploads:
                self._uploads[upload.id] = replace(upload, name=new)
            self._sums.count(upload.owner, root, upload.name, -upload.bytes, -upload.files)
            self._sums.count(upload.owner, root, new, upload.bytes, upload.files)

    def _own(self, root: str, name: bytes, owner: str, size: int) -> None:
        had = self._leave(root, name)
        self._ledger.own(root, name, owner, size)
        self._sums.count(owner, root, name, size, 1)
        if had:
            self._recharge(root, name)
        # After a crash this file is not to be taken for theirs.
        for upload in self._uploads.values():
            if upload.name == name and upload.root == root:
                with suppress(NetsuiteError):
                    if (seen := self._look(root, split(name))) is not None:
                        self._ledger.rebase(upload.id, seen.version)

    def _disown(self, root: str, name: bytes) -> None:
        if self._leave(root, name):
            self._recharge(root, name)

    def _leave(self, root: str, name: bytes) -> bool:
        """Let a file be nobody's, and tell whether it was somebody's."""
        found = self._ledger.file(root, name)
        if found is not None:
            self._ledger.disown(root, name)
            self._sums.count(found.owner, root, name, -found.size, -1)
        return found is not None

    def _recharge(self, root: str, name: bytes) -> None:
        """Count an upload anew that counts less for the file that it is to replace, as that is
        gone, or another."""
        for upload in self._ledger.replacing(root, name):
            self._drop(upload)
            bytes, files = self._charge(root, name, upload.owner, upload.size)
            again = replace(upload, bytes=bytes, files=files)
            self._add(again)
            if upload.id in self._uploads:
                self._uploads[upload.id] = again

    # Sums.

    def keeps(self, owner: str, root: str, allowance: Allowance) -> tuple[int, int]:
        """
        Tell what somebody keeps, uploads among it.

        @param owner: who.
        @param root: the whole path of the root.
        @param allowance: says of which names.
        @return: bytes and files.
        @raise StorageFailed: when the ledger cannot be read.
        """
        with self._using():
            sums = self._sums.sum(owner, root, allowance)
            return sums.bytes, sums.files

    def _require(
        self, owner: str, root: str, name: bytes, allowance: Allowance, bytes: int, files: int
    ) -> None:
        if not allowance.counted:
            return
        sums = self._sums.sum(owner, root, allowance)
        try:
            sums.require(allowance, bytes, files)
        except LimitExceeded:
            if not self._lookAgain(owner, root, sums):
                raise
            sums.require(allowance, bytes, files)

    def _lookAgain(self, owner: str, root: str, sums: Sum) -> bool:
        """Find files that have gone or changed without the service, and tell whether any has."""
        if self._seconds() < sums.lookAgain:
            return False
        before = sums.bytes, sums.files
        found = self._ledger.after(owner, root, sums.looked, MAX_LOOKED)
        for file in found:
            with suppress(NetsuiteError):
                seen = self._look(root, split(file.name))
                if seen is None or seen.kind != "file":
                    self._disown(root, file.name)
                elif seen.size != file.size:
                    self._own(root, file.name, owner, seen.size)
        if len(found) == MAX_LOOKED:
            sums.looked = found[-1].name
        else:
            sums.looked, sums.lookAgain = b"", self._seconds() + LOOK_PAUSE
        return (sums.bytes, sums.files) != before

    # The ledger.

    @contextmanager
    def _using(self) -> Iterator[QuotaLedger]:
        """Have the ledger for oneself, in a transaction that the next commit ends."""
        with self._lock:
            if not self._ledger.isOpen:
                raise StorageFailed("The ledger of quotas is not open; nothing can be written.")
            try:
                self._ledger.begin()
                if self._torn:
                    self._settleAll()
                    self._torn = self._failing = False
                yield self._ledger
            except sqlite3.Error as error:
                raise self._tear(error) from error

    def _tear(self, error: sqlite3.Error) -> StorageFailed:
        """Believe nothing that was not committed."""
        self._ledger.rollBack()
        self._sums.clear()
        self._torn = True
        failed = StorageFailed(
            f"The ledger of quotas cannot be written: {reasonOf(error)}; its operator has to mend "
            "that."
        )
        if not self._failing:
            self._failing = True
            self.log.error(
                "{directory}: {sentence}",
                directory=self._ledger.directory,
                sentence=failed.sentence,
            )
        return failed

    def _settleAll(self) -> None:
        """Find out what has become of uploads and renamings that nobody here will settle."""
        for upload in self._ledger.unsettled():
            if upload.id not in self._uploads:
                with suppress(NetsuiteError):
                    seen = self._look(upload.root, split(upload.name))
                    new = seen is not None and seen.version != upload.before
                    published = new and seen is not None and seen.size == upload.size
                    self._settle(upload, upload.size if published else None, keep=True)
        for renaming in self._ledger.renamings():
            if renaming.id not in self._renamings:
                self._settleRenaming(renaming, None)
