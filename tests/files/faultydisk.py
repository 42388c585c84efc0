"""
A disk that fails, or a process that dies, at the n-th system call; all calls of the rooms that
write files go through the few names that are put in place here.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.files import (
    inheritance,
    journal,
    leftovers,
    localsource,
    partialfile,
    publishing,
    replaced,
    systemcalls,
    target,
    wholefile,
)

#: What can fail; all else of C{os} is as it is.
CALLS = frozenset(
    (
        *("open", "close", "dup", "pread", "pwrite", "pwritev", "fsync", "fstat", "stat", "utime"),
        *("fstatvfs", "ftruncate", "fchmod", "rename", "link", "unlink", "lseek", "listdir"),
        *("access", "fchown", "getxattr", "listxattr", "setxattr", "removexattr"),
    )
)

_WRITES = ("pwrite", "pwritev")

#: What a full disk refuses; it goes on to serve what takes no room.
NEEDS_ROOM = (*_WRITES, "open", "ftruncate", "fallocate", "link")

#: The rooms whose system calls these are.
_ROOMS = (
    *(inheritance, journal, leftovers, localsource, partialfile, publishing, replaced, target),
    wholefile,
)


class Crash(BaseException):
    """The process is dead: nothing catches this, and no call does anything any more."""


class _Module:
    """A module some of whose functions go through a L{FaultyDisk}."""

    def __init__(self, disk: FaultyDisk, real: Any, names: frozenset[str]) -> None:
        self._disk = disk
        self._real = real
        self._names = names

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return self._disk.wrapped(name, real) if name in self._names else real


class FaultyDisk:
    """
    System calls that are counted, and one of which can fail.

    @ivar calls: the names of those that were done.
    @ivar descriptors: those that are open.
    """

    def __init__(self, case: SynchronousTestCase) -> None:
        """
        @param case: for which this is in place, until it ends.
        """
        self.calls: list[str] = []
        self.descriptors: set[int] = set()
        self.reset()
        system = _Module(self, os, CALLS)
        for module in _ROOMS:
            case.patch(module, "os", system)
        locks = _Module(self, fcntl, frozenset(["flock"]))
        for module in (leftovers, publishing):
            case.patch(module, "fcntl", locks)
        case.patch(publishing, "renameat2", self.wrapped("renameat2", systemcalls.renameat2))
        case.patch(partialfile, "fallocate", self.wrapped("fallocate", systemcalls.fallocate))

    def reset(self) -> None:
        """Work."""
        self.calls.clear()
        self._at = 0
        self._errno = 0
        self._sticky: frozenset[str] = frozenset()
        self._torn = self._dead = False
        self.short = False
        self.before: Callable[[str, tuple[Any, ...]], None] | None = None

    def failAt(self, at: int, number: int, sticky: frozenset[str] = frozenset()) -> None:
        """
        Fail.

        @param at: at which call, from 1 on.
        @param number: with which errno.
        @param sticky: the calls that fail from there on, too.
        """
        self._at, self._errno, self._sticky = at, number, sticky

    def crashAt(self, at: int, torn: bool = False) -> None:
        """
        Die.

        @param at: before which call, from 1 on.
        @param torn: whether half of it is done, when it writes.
        """
        self._at, self._errno, self._torn = at, 0, torn

    def crash(self) -> None:
        """Be dead: the system closes what was open."""
        self.reset()
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()

    @property
    def reached(self) -> bool:
        """Whether the call was come to that fails."""
        return 0 < self._at <= len(self.calls)

    def wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """
        Count a call.

        @param name: its name.
        @param real: does it.
        @return: to be called in its place.
        """

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._dead:
                raise Crash
            self.calls.append(name)
            if self.before is not None:
                self.before(name, args)
            number = len(self.calls)
            if self._at and number == self._at and not self._errno:
                if self._torn and name in _WRITES:
                    _half(real, *args)
                self._dead = True
                raise Crash
            if self._at and (number == self._at or (number > self._at and name in self._sticky)):
                if name == "close":  # What has failed so is closed nevertheless.
                    self._done(name, args, real(*args))
                raise OSError(self._errno, os.strerror(self._errno))
            if self.short and name in _WRITES:
                return _half(real, *args)
            if name == "fsync":  # The machine itself does not fail here: no need to wait for it.
                return None
            return self._done(name, args, real(*args, **kwargs))

        return call

    def _done(self, name: str, args: tuple[Any, ...], result: Any) -> Any:
        if name in ("open", "dup"):
            self.descriptors.add(result)
        elif name == "close":
            self.descriptors.discard(args[0])
        return result


def _half(real: Callable[..., Any], file: int, data: Any, offset: int) -> Any:
    whole = data if isinstance(data, bytes) else b"".join(data)
    return os.pwrite(file, whole[: max(1, len(whole) // 2)], offset)


def unsupported(*names: str) -> Callable[[str, tuple[Any, ...]], None]:
    """
    Be a system that lacks some calls.

    @param names: which.
    @return: for L{FaultyDisk.before}.
    """

    def before(name: str, args: tuple[Any, ...]) -> None:
        if name in names:
            number = errno.EPERM if name == "link" else errno.EOPNOTSUPP
            raise OSError(number, os.strerror(number))

    return before
