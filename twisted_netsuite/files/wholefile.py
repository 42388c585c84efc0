"""
Small files of the local disk that are published, or read, in one go: thousands of them come and go
in a second, so that each system call counts.

A file that is written here is as safe as one that takes long (L{files.target}): it has a reserved
name until it is whole, and is published in the same one step. It is not held against those who
clean up: nothing of it is so old that they would take it, but where its directory is removed
meanwhile; then it fails, as if that had been first.
"""

from __future__ import annotations

import os
from contextlib import suppress

from twisted_netsuite.files.leftovers import close, isNamed, make, unusedName
from twisted_netsuite.files.localsource import LocalSource, attributesOf, isUnchanged
from twisted_netsuite.files.partialfile import writeAll
from twisted_netsuite.files.publishing import Slot
from twisted_netsuite.files.root import refusal
from twisted_netsuite.files.store import Attributes, Wanted


def publishWhole(directory: int, name: bytes, wanted: Wanted, data: bytes) -> Attributes:
    """
    Publish a file.

    @param directory: a descriptor of where it will be, for reading where it has to be durable; it
        stays the caller's.
    @param name: what it will be called there, one part.
    @param wanted: what it will be; any file is replaced, or none, and nothing is kept of it.
    @param data: all of it.
    @return: what it is now.
    @raise Conflict: when there is something that it may not replace.
    @raise StorageFailed: when the disk is full, or fails.
    """
    slot = Slot(directory, name)
    partial = unusedName()
    try:
        file = make(directory, partial)
    except OSError as error:
        raise refusal(error, name) from error
    published = False
    try:
        if os.pwrite(file, data, 0) != len(data):
            writeAll(file, [data], 0)
        slot.furnish(file, wanted)
        if wanted.durable:
            os.fsync(file)
        left = slot.put(partial, file, wanted.clobber)
        published = True
        if wanted.durable:
            # Before the old one goes, so that it is lost in no order in which the disk does these.
            os.fsync(directory)
        if left:
            with suppress(OSError):
                os.unlink(partial, dir_fd=directory)
        return attributesOf(os.fstat(file))
    except Exception as error:
        _clear(directory, partial, file, published)
        if isinstance(error, OSError):
            raise slot.failure(error, published) from error
        raise
    finally:
        close(file)


def _clear(directory: int, partial: bytes, file: int, published: bool) -> None:
    """Leave nothing; but what has the name while this is not published may be somebody's only one,
    where an exchange could not be undone."""
    with suppress(OSError):
        if published or isNamed(directory, partial, file):
            os.unlink(partial, dir_fd=directory)


def readWhole(
    descriptor: int, status: os.stat_result, name: bytes, limit: int
) -> tuple[Attributes, bytes] | LocalSource:
    """
    Read a file, if it is small and holds still.

    @param descriptor: of the file; it belongs to this from here on.
    @param status: what it was when it was opened.
    @param name: what it was asked for by.
    @param limit: bytes that it may have at the most.
    @return: what it is, and all of it, of one version; or the file, to be read piece by piece.
    @raise StorageFailed: when the disk fails.
    """
    if status.st_size > limit:
        return LocalSource(descriptor, status, name)
    try:
        data = os.pread(descriptor, status.st_size, 0)
        now = os.fstat(descriptor)
    except OSError as error:
        close(descriptor)
        raise refusal(error, name) from error
    if len(data) != status.st_size or not isUnchanged(status, now):
        return LocalSource(descriptor, now, name)
    close(descriptor)
    return attributesOf(status), data
