"""
The server's ends of a command's streams: what it writes, read by allowance, and what it reads. They
know descriptors and the reactor, not processes.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.rexec.launch import TerminalSize

#: Bytes that one read takes: nearly what a pipe holds then, and below the 128 KiB from which on the
#: C library makes and gives back pages of memory for each piece.
READ_SIZE = 112 * 1024

#: Bytes that a pipe gets room for once it was found full. With 64 KiB a gigabyte passes at 0.7 to
#: 1.4 GB/s, with 128 KiB at 1.4 to 1.8, and no faster with more.
PIPE_SIZE = 128 * 1024

#: Bytes that a pipe holds when Linux has made it. Only one that is found full gets more room:
#: without privileges, a user's pipes have 64 MiB together, and those beyond get almost nothing.
USUAL_PIPE = 64 * 1024

#: Bytes that are written at a time: more than any pipe takes are not cut off the rest, and copied,
#: again and again.
WRITE_SIZE = 64 * 1024


@implementer(IReadDescriptor)
class OutputReader:
    """
    Reads what a command writes, and no more of it than was allowed.

    It is among the reactor's readers only while something may be read: else a pipe that has data,
    or has ended, would wake the reactor again and again for nothing.

    @ivar open: whether there may be more to come.
    """

    def __init__(
        self,
        reactor: Any,
        received: Callable[[bytes], object],
        changed: Callable[[], object],
        broken: Callable[[], object],
    ) -> None:
        """
        @param reactor: watches the pipe.
        @param received: gets what was read.
        @param changed: called after C{reading} or C{open} may have changed.
        @param broken: called when it cannot be read to its end.
        """
        self.open = True
        self._reactor = reactor
        self._received = received
        self._changed = changed
        self._broken = broken
        self._descriptor = -1
        self._allowed = 0
        self._begun = False
        self._unwritten = False
        self._paused = False
        self._watched = False
        self._grown = False

    def connect(self, descriptor: int) -> None:
        """
        Take what is to be read; it is, once L{begin} was called.

        @param descriptor: the reading end of a pipe, or a terminal; closed at the end.
        """
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    def begin(self) -> None:
        """Read."""
        self._begun = True
        self._watch()

    @property
    def reading(self) -> bool:
        """Whether something may be read now."""
        return self.open and self._begun and self._allowed > 0 and not self._paused

    def allow(self, count: int) -> None:
        """
        Let more be read.

        @param count: bytes.
        """
        self._allowed += count
        self._watch()

    def pause(self, paused: bool) -> None:
        """
        Read nothing for now, or read on.

        @param paused: whether nothing is to be read.
        """
        self._paused = paused
        self._watch()

    def _watch(self) -> None:
        watched = self.reading
        if watched != self._watched:
            self._watched = watched
            (self._reactor.addReader if watched else self._reactor.removeReader)(self)
        self._changed()

    def fileno(self) -> int:
        """Tell the descriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Name this in the log."""
        return "command"

    def doRead(self) -> None:
        """Take what is there."""
        if self.reading:
            self._take()
            self._look()

    def _take(self) -> int:
        """Read once, and tell how much that was: nothing when nothing is there, or all was."""
        try:
            data = os.read(self._descriptor, min(self._allowed, READ_SIZE))
        except BlockingIOError:
            return 0
        except OSError:
            # So a terminal says that nobody has it open any more.
            data = b""
        if not data:
            self.close()
            return 0
        self._allowed -= len(data)
        if not self._grown and len(data) >= USUAL_PIPE:
            self._grow()
        if self._allowed <= 0:
            self._watch()
        self._received(data)
        return len(data)

    def _grow(self) -> None:
        self._grown = True
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except (AttributeError, OSError):
            # It is slower then.
            return

    def drain(self) -> None:
        """
        Take all that is there and may be read, without waiting; then close, unless more is there.

        Not more than a pipe holds: whoever still writes to it could go on for ever.
        """
        taken = 0
        while self.reading and taken < PIPE_SIZE:
            count = self._take()
            if not count:
                break
            taken += count
        if self.reading:
            self.close()
        self._look()

    def unwritten(self) -> None:
        """Nobody writes any more: end with the last byte, for which nothing need be allowed."""
        self._unwritten = True
        self._look()

    def _look(self) -> None:
        """Close what holds nothing, and never will again."""
        if self._unwritten and self.open and not holds(self._descriptor):
            self.close()

    def connectionLost(self, reason: Failure) -> None:
        """The pipe has ended, which some reactors notice without a read; or a read has failed."""
        if self.open and not reason.check(ConnectionDone):
            self._broken()
        self.close()

    def close(self) -> None:
        """Read no more."""
        if not self.open:
            return
        self.open = False
        self._letGo()
        self._changed()

    def _letGo(self) -> None:
        if self._watched:
            self._watched = False
            self._reactor.removeReader(self)
        if self._descriptor >= 0:
            closeSoon(self._reactor, self._descriptor)
            self._descriptor = -1


@implementer(IWriteDescriptor)
class InputWriter:
    """
    Writes what a command reads.

    @ivar open: whether it takes anything.
    """

    def __init__(
        self,
        reactor: Any,
        taken: Callable[[int], object],
        lost: Callable[[], object],
        broken: Callable[[], object],
    ) -> None:
        """
        @param reactor: watches the pipe.
        @param taken: called with the number of bytes that have reached the pipe.
        @param lost: called when nobody reads them.
        @param broken: called when it cannot be written to, though somebody may read.
        """
        self.open = True
        self._reactor = reactor
        self._taken = taken
        self._lost = lost
        self._broken = broken
        self._descriptor = -1
        self._waiting = bytearray()
        self._ending = False
        self._begun = False
        self._watched = False
        self._last = b"\n"

    def connect(self, descriptor: int) -> None:
        """
        Take what is to be written to; it is, once L{begin} was called.

        @param descriptor: the writing end of a pipe, or a terminal; closed at the end.
        """
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    def begin(self) -> None:
        """Write."""
        self._begun = True
        self._watch()

    def write(self, data: bytes) -> None:
        """
        Write as soon as there is room.

        @param data: what the command will read.
        """
        if self.open and not self._ending:
            self._waiting += data
            self._watch()

    def end(self) -> None:
        """Close after all that was written."""
        if self.open:
            self._ending = True
            self._watch()

    def _watch(self) -> None:
        watched = self._begun and self.open and bool(self._waiting or self._ending)
        if watched != self._watched:
            self._watched = watched
            (self._reactor.addWriter if watched else self._reactor.removeWriter)(self)

    def fileno(self) -> int:
        """Tell the descriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Name this in the log."""
        return "command"

    def doWrite(self) -> None:
        """Write what there is room for."""
        if not self.open:
            return
        try:
            if self._waiting:
                self._write()
            if self.open and self._ending and not self._waiting:
                self._finish()
        except BlockingIOError:
            return
        except OSError:
            self._fail()
            return
        if self.open:
            self._watch()

    def _write(self) -> None:
        count = os.write(self._descriptor, self._waiting[:WRITE_SIZE])
        self._last = bytes(self._waiting[count - 1 : count])
        del self._waiting[:count]
        self._taken(count)

    def _finish(self) -> None:
        word = terminalEnd(self._descriptor)
        if word:
            # Within a line, the first one only hands the line over.
            os.write(self._descriptor, word if self._last == b"\n" else word * 2)
        self.close()

    def _fail(self) -> None:
        self.close()
        self._lost()

    def connectionLost(self, reason: Failure) -> None:
        """Nobody reads the pipe any more; or a write has failed."""
        if not self.open:
            return
        if reason.check(ConnectionDone, ConnectionLost):
            self._fail()
        else:
            self._broken()
            self.halt()

    def halt(self) -> None:
        """Drop what was not written, and do not let it seem that this was all."""
        self.open = False
        self._waiting.clear()
        if self._watched:
            self._watched = False
            self._reactor.removeWriter(self)

    def close(self) -> None:
        """Drop what was not written."""
        self.halt()
        if self._descriptor >= 0:
            closeSoon(self._reactor, self._descriptor)
            self._descriptor = -1


def closeSoon(reactor: Any, descriptor: int) -> None:
    """
    Close a descriptor that a reactor has watched, in the reactor's next turn.

    In this one there may be more events of it to come. Were its number given to another by then,
    that one would be taken to have ended.

    @param reactor: watches it no more.
    @param descriptor: the descriptor.
    """
    reactor.callLater(0, os.close, descriptor)


def holds(descriptor: int) -> bool:
    """
    Tell whether there is something to read.

    @param descriptor: of a pipe or a terminal.
    """
    look = select.poll()
    look.register(descriptor, select.POLLIN)
    return any(event & select.POLLIN for _, event in look.poll(0))


def terminalEnd(descriptor: int) -> bytes:
    """
    Tell what stands for the end of input.

    @param descriptor: of a pipe or a terminal.
    @return: a character that a terminal takes for the end, if it is one that reads whole lines.
    """
    try:
        attributes = termios.tcgetattr(descriptor)
    except termios.error:
        return b""
    if not attributes[3] & termios.ICANON:
        return b""
    character = attributes[6][termios.VEOF]
    return character if isinstance(character, bytes) else bytes([character])


def setSize(descriptor: int, size: TerminalSize) -> None:
    """
    Set a terminal's size; its foreground processes learn of it.

    @param descriptor: of the terminal.
    @param size: the new one.
    """
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.cols, 0, 0))


def foregroundGroup(descriptor: int) -> int:
    """
    Tell the process group that has a terminal.

    @param descriptor: of the terminal.
    @return: its number; 0 when there is none.
    """
    try:
        return os.tcgetpgrp(descriptor)
    except OSError:
        return 0
