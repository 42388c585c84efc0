"""
The kept output of one stream of one command, in files of bounded size; who may read it, and for how
long, is for its owner to say.

A stream is cut into segments, files that are named by the place of their first byte, so that what
is not needed any more goes by removing a file, and what a crash has left tells where it belongs.
Nothing here waits for the disk: a crash of the server loses nothing, one of the machine can lose
the last seconds.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from typing import Literal

from twisted_netsuite.errors import ConfigurationError, LimitExceeded

#: Segments that a full spool has: what is dropped at a time is a sixteenth of what is kept.
SEGMENTS = 16

#: Bytes that a segment has at least, as a file is not worth less.
MIN_SEGMENT = 64 * 1024

#: What the names of all segments look like; the places of 2**63 bytes have 19 digits.
_SEGMENT = re.compile(r"(stdout|stderr)\.([0-9]{20})")

#: What a full disk answers: then what was released makes room.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

_WRITE = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = _WRITE | os.O_CREAT | os.O_EXCL
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class SpoolFull(LimitExceeded):
    """There is no room for more output before the client takes some."""


class SpoolDamaged(ConfigurationError):
    """What is on the disk is not what a spool has left there."""


class Spool:
    """
    The output of one stream, from the first byte that is kept to the last that was written.

    At most C{limit} bytes are kept that were not released; with those that were, and until they are
    needed stay, no more than C{limit} and one segment are on the disk.

    @ivar directory: where the segments are.
    @ivar name: the stream.
    @ivar limit: bytes that may wait to be released.
    """

    def __init__(
        self, directory: str, name: Literal["stdout", "stderr"], limit: int, start: int = 0
    ) -> None:
        """
        Begin a spool; nothing is on the disk before the first byte.

        @param directory: where it is kept, made when it is needed; its parent exists. The other
            stream of the command may be there as well.
        @param name: the stream.
        @param limit: bytes that may wait to be released, at least 1.
        @param start: the place in the stream of the first byte that will be appended.
        """
        self.directory = directory
        self.name = name
        self.limit = limit
        self._segmentSize = max(MIN_SEGMENT, limit // SEGMENTS)
        # The places of their first bytes, in order. The newest is never dropped: it alone would
        # tell, after a crash, where the stream was.
        self._segments: list[int] = []
        self._first = self._end = self._released = start
        # Whether there may be more on the disk than was appended.
        self._overlong = False
        self._writer = -1
        self._reader = -1
        self._readerAt = -1

    @classmethod
    def open(
        cls, directory: str, name: Literal["stdout", "stderr"], limit: int, start: int = 0
    ) -> Spool:
        """
        Find what an earlier run has kept; none of it counts as released.

        @param directory: where it was kept.
        @param name: the stream.
        @param limit: bytes that may wait to be released.
        @param start: the place of the first byte, if nothing was kept.
        @return: the spool, which can be read and gone on with.
        @raise SpoolDamaged: when a part of it is missing, or it cannot be read.
        """
        spool = cls(directory, name, limit, start)
        try:
            spool._find()
        except OSError as error:
            raise SpoolDamaged(
                f"The kept output in {directory!r} cannot be read: {_reasonOf(error)}; "
                "mend that, or remove the directory."
            ) from error
        return spool

    @property
    def first(self) -> int:
        """Tell the place of the first byte that is kept."""
        return self._first

    @property
    def end(self) -> int:
        """Tell the place behind the last byte: how many the stream has had so far."""
        return self._end

    def room(self) -> int:
        """
        Tell how much can be appended.

        @return: bytes.
        """
        return max(0, self.limit - (self._end - self._released))

    # Writing.

    def append(self, data: bytes) -> None:
        """
        Keep more of the stream: all of this piece, or, when it fails, nothing of it.

        @param data: what comes next.
        @raise SpoolFull: when it is more than there is room for.
        @raise OSError: from the system.
        """
        if len(data) > self.room():
            raise SpoolFull(
                f"There is no room for {len(data)} more bytes of {self.name}, as "
                f"{self._end - self._released} of {self.limit} wait to be taken; take them first."
            )
        if self._overlong:
            self._mend()
        excess = self._end - self._first + len(data) - self.limit
        self._drop(excess)
        try:
            self._write(data)
        except OSError as error:
            full = error.errno in _NO_SPACE and not self._overlong
            if not full or not self._drop(self._end - self._first):
                raise
            self._write(data)

    def _write(self, data: bytes) -> None:
        before, rest = self._end, memoryview(data)
        try:
            while rest:
                room = self._openForWriting()
                written = os.write(self._writer, rest[:room])
                self._end += written
                rest = rest[written:]
        except OSError:
            self._end, self._overlong = before, True
            # If this fails, too, it is done before the next piece.
            with suppress(OSError):
                self._mend()
            raise

    def _openForWriting(self) -> int:
        """Open the newest segment, or one more; return the bytes that it still takes."""
        used = self._end - self._segments[-1] if self._segments else self._segmentSize
        if used >= self._segmentSize:
            self._closeWriter()
            self._writer = self._create(self._end)
            self._segments.append(self._end)
            return self._segmentSize
        if self._writer < 0:
            path = self._pathOf(self._segments[-1])
            self._writer = os.open(path, _WRITE)
            if os.fstat(self._writer).st_size != used:
                self._closeWriter()
                raise OSError(errno.EIO, "Something else has changed the kept output", path)
        return self._segmentSize - used

    def _create(self, at: int) -> int:
        if not self._segments:
            with suppress(FileExistsError):
                os.mkdir(self.directory, 0o700)
        return os.open(self._pathOf(at), _CREATE, 0o600)

    def _mend(self) -> None:
        """Take off the disk what is behind the end."""
        self._closeWriter()
        while len(self._segments) > 1 and self._segments[-1] >= self._end:
            self._remove(self._segments[-1])
            self._segments.pop()
        if self._segments:
            os.truncate(self._pathOf(self._segments[-1]), self._end - self._segments[-1])
        self._overlong = False

    # Making room.

    def release(self, offset: int) -> None:
        """
        Say what has been taken: it stays until its space is needed, and can be dropped then.

        @param offset: the place of the first byte that was not taken.
        @raise ValueError: when the stream has not come to it yet.
        """
        if offset > self._end:
            raise ValueError(f"{offset} is behind the end of {self.name}, which is {self._end}")
        self._released = max(self._released, offset)

    def hold(self, offset: int) -> None:
        """
        Say that somebody will read once more what was released, so that none of it is dropped.

        @param offset: the place from which on it is to stay.
        @raise ValueError: when it is not kept any more, or the stream has not come to it yet.
        """
        self._refuseOutside(offset)
        self._released = min(self._released, offset)

    def _drop(self, count: int) -> bool:
        """Drop the oldest segments that were released as a whole; tell whether there were some."""
        stop = self._first + count
        dropped = False
        while (
            self._first < stop and len(self._segments) > 1 and self._segments[1] <= self._released
        ):
            oldest = self._segments[0]
            if self._readerAt == oldest:
                self._closeReader()
            self._remove(oldest)
            self._segments.pop(0)
            self._first = self._segments[0]
            dropped = True
        return dropped

    # Reading.

    def read(self, offset: int, size: int) -> bytes:
        """
        Read a part of what is kept.

        @param offset: the place of its first byte.
        @param size: bytes to read.
        @return: as many, or those up to the end.
        @raise ValueError: when this place is not kept any more, or the stream has not come to it.
        @raise OSError: from the system; also when a file was changed by something else.
        """
        self._refuseOutside(offset)
        stop = min(self._end, offset + size)
        pieces = []
        while offset < stop:
            pieces.append(self._readPiece(offset, stop))
            offset += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _readPiece(self, offset: int, stop: int) -> bytes:
        at = next(at for at in reversed(self._segments) if at <= offset)
        end = min((after for after in self._segments if after > at), default=self._end)
        path = self._pathOf(at)
        if self._readerAt != at:
            self._closeReader()
            self._reader, self._readerAt = os.open(path, _READ), at
        piece = os.pread(self._reader, min(stop, end) - offset, offset - at)
        if not piece:
            raise OSError(errno.EIO, "Something else has changed the kept output", path)
        return piece

    def _refuseOutside(self, offset: int) -> None:
        if not self._first <= offset <= self._end:
            raise ValueError(
                f"{offset} is not in what is kept of {self.name}: {self._first} to {self._end}"
            )

    # Opening and ending.

    def _find(self) -> None:
        """Find the segments, and see that nothing is missing between them."""
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return
        found = [_SEGMENT.fullmatch(name) for name in names]
        self._segments = [int(each[2]) for each in found if each and each[1] == self.name]
        for number, at in enumerate(self._segments):
            if number and at != self._end:
                missing = "missing" if at > self._end else "there twice"
                raise SpoolDamaged(
                    f"The kept output in {self.directory!r} is damaged: of {self.name} the bytes "
                    f"between {min(at, self._end)} and {max(at, self._end)} are {missing}; "
                    "remove the directory."
                )
            self._end = at + self._sizeOf(at)
        if self._segments:
            self._first = self._released = self._segments[0]

    def _sizeOf(self, at: int) -> int:
        status = os.lstat(self._pathOf(at))
        if not stat.S_ISREG(status.st_mode):
            raise SpoolDamaged(
                f"{self._pathOf(at)!r} is no regular file; remove it, and its directory."
            )
        return status.st_size

    def close(self) -> None:
        """Close the files; they are opened again when they are needed."""
        self._closeWriter()
        self._closeReader()

    def remove(self) -> None:
        """
        Close and remove the files, and the directory once nothing else is in it.

        @raise OSError: from the system; it can be tried again.
        """
        self.close()
        while self._segments:
            self._remove(self._segments[-1])
            self._segments.pop()
        self._first = self._released = self._end
        _removeEmpty(self.directory)

    def _remove(self, at: int) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._pathOf(at))

    def _pathOf(self, at: int) -> str:
        return os.path.join(self.directory, f"{self.name}.{at:020}")

    def _closeWriter(self) -> None:
        descriptor, self._writer = self._writer, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _closeReader(self) -> None:
        descriptor, self._reader, self._readerAt = self._reader, -1, -1
        if descriptor >= 0:
            os.close(descriptor)


def removeSpools(directory: str) -> None:
    """
    Remove the spools of a command that nobody has open, and their directory; what else is in it
    stays, and then so does the directory.

    @param directory: where they are; it need not exist.
    @raise OSError: from the system.
    """
    with suppress(FileNotFoundError):
        for name in os.listdir(directory):
            if _SEGMENT.fullmatch(name):
                os.unlink(os.path.join(directory, name))
    _removeEmpty(directory)


def _removeEmpty(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise


def _reasonOf(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
