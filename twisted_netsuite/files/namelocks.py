"""
Keeps apart, in one service, those who change a name and those who do something by a name at or
below it: what was asked about, and counted, by a name is done by that name and no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import TypeVar

from twisted_netsuite.errors import Conflict
from twisted_netsuite.files.names import Parts

T = TypeVar("T")


#: Seconds that a change of a name waits for others: a disk writes down what is small in less, and
#: whoever comes meanwhile waits as long.
PATIENCE = 3.0


class NameLocks:
    """
    Names that are in use. Whoever holds one asks for no other, so nobody waits in a circle.

    Names of different roots are not told apart: at the worst somebody waits for nothing.
    """

    def __init__(self) -> None:
        """None is in use."""
        self._changed = Condition()
        self._shared: list[Parts] = []
        self._taken: list[tuple[Parts, Parts]] = []

    @contextmanager
    def sharing(self, parts: Parts) -> Iterator[None]:
        """
        Do something by a name, which nobody changes meanwhile; this blocks while somebody does.

        @param parts: the name.
        """
        with self._changed:
            while self._taken and any(
                _isAbove(name, parts) for both in self._taken for name in both
            ):
                self._changed.wait()
            self._shared.append(parts)
        try:
            yield
        finally:
            self._leave(self._shared, parts)

    @contextmanager
    def taking(self, source: Parts, target: Parts) -> Iterator[None]:
        """
        Change a name while nobody does anything at or below it; this blocks while somebody does.

        @param source: the name.
        @param target: the new one.
        @raise Conflict: when somebody does for long.
        """
        both = source, target
        until = time.monotonic() + PATIENCE
        with self._changed:
            self._wait(until, lambda: not self._isTaken(both))
            # From here on nobody else comes, so that those who are there are fewer and fewer.
            self._taken.append(both)
        try:
            with self._changed:
                self._wait(until, lambda: not self._isShared(both))
            yield
        finally:
            self._leave(self._taken, both)

    def _isTaken(self, both: tuple[Parts, Parts]) -> bool:
        return any(_overlap(one, name) for one in both for two in self._taken for name in two)

    def _isShared(self, both: tuple[Parts, Parts]) -> bool:
        return any(_isAbove(name, parts) for name in both for parts in self._shared)

    def _wait(self, until: float, free: Callable[[], bool]) -> None:
        if not self._changed.wait_for(free, max(0.0, until - time.monotonic())):
            raise Conflict("It is in use, or something in it is published just now; try again.")

    def _leave(self, held: list[T], one: T) -> None:
        with self._changed:
            held.remove(one)
            self._changed.notify_all()


def _isAbove(name: Parts, parts: Parts) -> bool:
    return parts[: len(name)] == name


def _overlap(one: Parts, other: Parts) -> bool:
    return _isAbove(one, other) or _isAbove(other, one)
