"""
Room that was taken for one file before it is written; who counts it is told elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable


class Reservation:
    """
    Room for one file. What is called first holds; all of it blocks, and nothing fails.

    @ivar undo: counts what had counted before: the file could not be begun, so what an earlier try
        has left is still there.
    """

    def __init__(
        self,
        settle: Callable[[int | None, bool], object],
        undo: Callable[[], object] = lambda: None,
    ) -> None:
        """
        @param settle: counts what has become of it, given the bytes of the file that was published,
            or C{None}, and whether something is kept for another try.
        @param undo: counts what had counted before.
        """
        self._settle = settle
        self.undo = undo

    def publish(self, size: int) -> None:
        """
        Count the file, which was published.

        @param size: its bytes.
        """
        self._settle(size, False)

    def keep(self) -> None:
        """Count what is kept for another try, until the store cleans that away."""
        self._settle(None, True)

    def release(self) -> None:
        """Count nothing: nothing of it was kept."""
        self._settle(None, False)


#: Where nothing is counted.
FREE = Reservation(lambda size, keep: None)
