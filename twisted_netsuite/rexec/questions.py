"""
What a client of exec asks a server about commands that it does not follow, and the answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from twisted_netsuite.errors import LimitExceeded, NetsuiteError, ProtocolError
from twisted_netsuite.rexec.messages import Killed, Listed, Listing
from twisted_netsuite.rexec.outcome import Outcome
from twisted_netsuite.wire.session import Record

#: Commands that a list may have: what it costs here is bounded, whatever the server keeps.
MAX_LISTED_COMMANDS = 16384


class Channel(Protocol):
    """What a session keeps for each channel that is open."""

    def received(self, record: Record) -> None:
        """Take a record of this channel."""

    def refused(self, error: NetsuiteError) -> bool:
        """Take an ERROR about it; tell whether that closes it."""

    def lost(self, error: NetsuiteError) -> None:
        """Give up: nothing more comes."""

    def flush(self) -> None:
        """Say what had to wait until the connection took more."""


class Question(Channel):
    """A question about commands, and its answers."""

    def __init__(self, release: Callable[[int], object], number: int) -> None:
        """
        @param release: called with the number when the last answer has come.
        @param number: of its channel.
        """
        self._release = release
        self._number = number

    def refused(self, error: NetsuiteError) -> bool:
        """It is not answered."""
        # First, as whoever is told may close the session, which gives up what is open.
        self.answered()
        self.lost(error)
        return True

    def flush(self) -> None:
        """Nothing waits."""

    def unexpected(self, record: Record) -> ProtocolError:
        """Say what is wrong with an answer."""
        return ProtocolError(
            f"{type(record).__name__.upper()} is no answer to {type(self).__name__.upper()}."
        )

    def answered(self) -> None:
        """Nothing more is to come."""
        self._release(self._number)


class Listings(Question):
    """
    Which commands are there?

    @ivar answer: fires with all of them.
    """

    def __init__(self, release: Callable[[int], object], number: int) -> None:
        """
        @param release: called with the number when the last answer has come.
        @param number: of its channel.
        """
        super().__init__(release, number)
        self._found: list[Listing] = []
        # Who gives up drops the answer, which still comes.
        self.answer: Deferred[list[Listing]] = Deferred()

    def received(self, record: Record) -> None:
        """Take some more."""
        if not isinstance(record, Listed):
            raise self.unexpected(record)
        self._found += record.commands
        if len(self._found) > MAX_LISTED_COMMANDS:
            raise LimitExceeded(f"A list has more than {MAX_LISTED_COMMANDS} commands.")
        if record.last:
            self.answered()
            self.answer.callback(self._found)

    def lost(self, error: NetsuiteError) -> None:
        """It is not answered."""
        self.answer.errback(error)


class Killing(Question):
    """
    Has the command been signalled, or ended?

    @ivar answer: fires with how it ended, or C{None} while it runs.
    """

    def __init__(self, release: Callable[[int], object], number: int) -> None:
        """
        @param release: called with the number when the last answer has come.
        @param number: of its channel.
        """
        super().__init__(release, number)
        self.answer: Deferred[Outcome | None] = Deferred()

    def received(self, record: Record) -> None:
        """Take the answer."""
        if not isinstance(record, Killed):
            raise self.unexpected(record)
        self.answered()
        self.answer.callback(record.outcome)

    def lost(self, error: NetsuiteError) -> None:
        """It is not answered."""
        self.answer.errback(error)
