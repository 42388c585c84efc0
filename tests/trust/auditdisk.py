"""
A disk for audit logs that fails when a test says so, and logs on it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from twisted_netsuite.trust.audit import AuditLog
from twisted_netsuite.trust.auditfile import SystemCalls

#: 2026-11-21T13:28:03.450000Z
BEGUN = 1795267683.45

#: The calls that can fail; to close something always works, as far as anyone could do anything.
CALLS = (
    "open", "write", "pread", "fsync", "ftruncate", "fstat", "stat", "flock", "link", "rename",
    "listdir", "lstat", "unlink",
)  # fmt: skip


class Crashed(BaseException):
    """The process is no more."""


class Disk(SystemCalls):
    """
    Makes system calls, and lets some of them fail.

    @ivar made: how many calls that can fail were made.
    @ivar names: theirs, in order.
    @ivar descriptors: those that are open.
    @ivar short: makes the call at hand, a write, with half of its bytes.
    @ivar dead: whether the process has ended.
    @ivar fault: called with a call's number, its name and how to make it, in its place.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.descriptors: set[int] = set()
        self.fault: Callable[[int, str, Callable[[], Any]], Any] = lambda _, __, call: call()
        self.dead = False
        for name in CALLS:
            # Nothing is learnt from waiting for the real disk, only that there is such a file.
            real = os.fstat if name == "fsync" else getattr(SystemCalls, name)
            setattr(self, name, self._wrapped(name, real))
        setattr(self, "close", self._close)  # noqa: B010

    @property
    def made(self) -> int:
        """How many calls were made."""
        return len(self.names)

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if self.dead:
                raise Crashed
            self.names.append(name)

            def make() -> Any:
                result = real(*args)
                if name == "open":
                    self.descriptors.add(result)
                return result

            def makeShort() -> Any:
                half = args[1][: len(args[1]) // 2]
                return real(args[0], half)

            self.short = makeShort
            return self.fault(self.made - 1, name, make)

        return call

    def _close(self, descriptor: int) -> None:
        if self.dead:
            raise Crashed
        self.descriptors.discard(descriptor)
        os.close(descriptor)

    def crash(self) -> None:
        """End the process: it makes no more calls, and the system closes its files."""
        self.dead = True
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()

    # Faults.

    def failAt(self, which: Callable[[int, str], bool], number: int, after: bool = False) -> None:
        """
        Let calls fail.

        @param which: tells by a call's number and name whether it fails.
        @param number: the system's number of the failure.
        @param after: whether the call is made and fails all the same.
        """

        def fault(index: int, name: str, make: Callable[[], Any]) -> Any:
            if not which(index, name):
                return make()
            if after and name != "open":
                make()
            raise OSError(number, os.strerror(number))

        self.fault = fault

    def failOn(self, *names: str, number: int = errno.ENOSPC) -> None:
        """
        Let all calls of some names fail from now on.

        @param names: of calls.
        @param number: the system's number of the failure.
        """
        self.failAt(lambda _, name: name in names, number)

    def writeShort(self, which: Callable[[int, str], bool]) -> None:
        """
        Let writes take only half of what they are given.

        @param which: tells by a call's number and name which of them.
        """

        def fault(index: int, name: str, make: Callable[[], Any]) -> Any:
            return self.short() if name == "write" and which(index, name) else make()

        self.fault = fault

    def crashAt(self, which: int, after: bool) -> None:
        """
        End the process at a call.

        @param which: its number.
        @param after: whether the call is made still; a write is half made if not.
        """

        def fault(index: int, name: str, make: Callable[[], Any]) -> Any:
            if index != which:
                return make()
            if after:
                make()
            elif name == "write":
                self.short()
            self.crash()
            raise Crashed

        self.fault = fault

    def mend(self) -> None:
        """Let nothing fail any more."""
        self.fault = lambda _, __, call: call()


class Threads:
    """
    A thread that runs when a test says so.

    @ivar waiting: what it has to run, with what to call then.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

    def __call__(self, function: Callable[[], None]) -> Deferred[None]:
        """Take something to run."""
        done: Deferred[None] = Deferred()
        self.waiting.append((function, done))
        return done

    def run(self) -> None:
        """Run the first of what is waiting."""
        function, done = self.waiting.pop(0)
        try:
            function()
        except Crashed:
            raise
        except Exception:
            done.errback()
        else:
            done.callback(None)

    def runAll(self) -> None:
        """Run until nothing is waiting."""
        while self.waiting:
            self.run()


def atOnce(function: Callable[[], None]) -> Deferred[None]:
    """Be a thread that has run as soon as it is asked to."""
    return maybeDeferred(function)


def clockAt(seconds: float = BEGUN) -> Clock:
    """Make a clock that stands at a moment of the real world."""
    clock = Clock()
    clock.advance(seconds)
    return clock


def note(log: AuditLog, text: str, durable: bool = False) -> Deferred[None]:
    """Record something that can be found again by its text."""
    return log.record(
        "test.note", service="test", peer="127.0.0.1:1", identity="cert:anna", durable=durable,
        text=text,
    )  # fmt: skip
