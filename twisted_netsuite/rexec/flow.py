"""
How many bytes may flow on one stream, and what has: windows and digests, at both ends alike.
"""

from __future__ import annotations

import hashlib

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.rexec.messages import MAX_WINDOW, Tally


class Window:
    """
    What the sender of a stream may send.

    @ivar left: bytes that may be sent now.
    """

    def __init__(self, stream: str, left: int) -> None:
        """
        @param stream: its name, for sentences.
        @param left: bytes that may be sent at first.
        """
        self.left = left
        self._stream = stream

    def grant(self, count: int) -> None:
        """
        Take a credit.

        @param count: bytes.
        @raise ProtocolError: when that would make more than any window may be.
        """
        if self.left + count > MAX_WINDOW:
            raise ProtocolError(
                f"The window of {self._stream} would be {self.left + count} bytes; "
                f"{MAX_WINDOW} is the most."
            )
        self.left += count

    def spend(self, count: int) -> None:
        """
        Use what was granted.

        @param count: bytes, no more than are L{left}.
        """
        assert count <= self.left, "The sender looks at what is left first."
        self.left -= count


class Intake:
    """
    What the receiver of a stream has granted, and has to grant.

    @ivar window: bytes that the sender may be ahead of the one who takes them.
    """

    def __init__(self, stream: str, window: int, batch: int) -> None:
        """
        @param stream: its name, for sentences.
        @param window: bytes that were granted at first.
        @param batch: bytes that are taken before they are credited, to save records.
        """
        self.window = window
        self._stream = stream
        self._batch = max(1, batch)
        self._left = window
        self._owed = 0

    def receive(self, count: int) -> None:
        """
        Note what has come.

        @param count: bytes.
        @raise ProtocolError: when they are more than were granted.
        """
        if count > self._left:
            raise ProtocolError(
                f"{count} bytes of {self._stream} came, and the window was {self._left}."
            )
        self._left -= count

    def take(self, count: int) -> int:
        """
        Note what was taken of that.

        @param count: bytes.
        @return: what has to be credited now; 0 for nothing yet.
        """
        self._owed += count
        return self.settle() if self._owed >= self._batch else 0

    def settle(self) -> int:
        """
        Credit what is owed.

        @return: bytes; 0 for none.
        """
        owed, self._owed = self._owed, 0
        self._left += owed
        return owed


class Count:
    """
    Counts and digests a stream.

    @ivar count: bytes so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._digest = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """
        Add what has come next.

        @param data: the bytes.
        """
        self.count += len(data)
        self._digest.update(data)

    def tally(self) -> Tally:
        """
        Tell what has come so far.

        @return: count and digest.
        """
        return Tally(count=self.count, sha256=self._digest.digest())


#: Of a stream on which nothing came.
NOTHING = Count().tally()
