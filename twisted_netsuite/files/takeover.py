"""
Who writes a file of which there is one writer at a time: whoever came last, once all others have
ended. What is written is no concern of this module.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred, succeed

from twisted_netsuite.errors import Conflict


def superseded() -> Conflict:
    """
    Say that somebody else goes on with a file.

    @return: to be raised.
    """
    return Conflict(
        "The same file was begun once more from the same source, and is gone on with over that "
        "connection."
    )


class Ending(Protocol):
    """A file that is written."""

    def supersede(self) -> Deferred[None]:
        """
        Give it up for another try of the same, which goes on with what is there.

        @return: fires when it is closed; at once when it is already.
        """


class Turn:
    """
    One who writes a file, or waits until another has ended.

    @ivar upload: the file, once it is open.
    @ivar isSuperseded: whether another has come since.
    """

    def __init__(self, before: Turn | None) -> None:
        """
        @param before: who came before, if anybody is still there.
        """
        self.upload: Ending | None = None
        self.isSuperseded = False
        self._before = before
        self._isOver = False
        self._waiting: list[Deferred[None]] = []

    async def come(self) -> None:
        """
        Wait until nobody writes the file.

        @raise Conflict: when another has come since.
        """
        before, self._before = self._before, None
        if before is not None:
            await before.supersede()
        self.require()

    def require(self) -> None:
        """
        Require that no other has come since.

        @raise Conflict: when one has.
        """
        if self.isSuperseded:
            raise superseded()

    def supersede(self) -> Deferred[None]:
        """
        End it.

        @return: fires when nothing of it is open.
        """
        self.isSuperseded = True
        if self.upload is not None:
            return self.upload.supersede()
        if self._isOver:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def leave(self) -> None:
        """Be over before it was open."""
        self._isOver = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
