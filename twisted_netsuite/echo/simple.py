"""
The services that a box of simple services has beside echo: discard (RFC 863), chargen (RFC 864),
daytime (RFC 867) and time (RFC 868), over streams and datagrams.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

from twisted.internet.interfaces import IPullProducer, IReactorTime
from zope.interface import implementer

from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits
from twisted_netsuite.net.datagrams import GuardedDatagrams, largestAnswer
from twisted_netsuite.net.limits import Clock
from twisted_netsuite.net.serving import ServedFactory, ServedProtocol
from twisted_netsuite.net.tls import peerHasClosed

#: Tells the time of day in seconds since 1970, UTC.
Now = Callable[[], float]

#: RFC 868 counts seconds from 1900.
_SECONDS_1900_TO_1970 = 2_208_988_800

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def daytime(now: float) -> bytes:
    """
    Write the time as RFC 867 suggests: C{Weekday, Month Day, Year Time-Zone}.

    @param now: seconds since 1970.
    @return: one line in UTC, whatever the locale.
    """
    t = datetime.fromtimestamp(now, UTC)
    day = f"{_DAYS[t.weekday()]}, {_MONTHS[t.month - 1]} {t.day}, {t.year}"
    return f"{day} {t:%H:%M:%S}-UTC\r\n".encode()


def time32(now: float) -> bytes:
    """
    Write the time as RFC 868 says.

    @param now: seconds since 1970.
    @return: seconds since 1900 as 32 bits, big-endian; they begin anew in 2036.
    """
    return struct.pack("!I", (int(now) + _SECONDS_1900_TO_1970) % 2**32)


def _pattern() -> bytes:
    """The rotating pattern of RFC 864: 95 lines of 72 characters, after which it repeats."""
    printable = bytes(range(32, 127))
    doubled = printable * 2
    return b"".join(doubled[i : i + 72] + b"\r\n" for i in range(len(printable)))


CHARGEN_PATTERN = _pattern()

#: RFC 864 allows 0 to 512 characters in a datagram.
_MAX_CHARGEN = 512


class Discard(ServedProtocol):
    """Throws away what it gets."""

    def dataReceived(self, data: bytes) -> None:
        """Note that the peer lives."""
        self.idle.touch()


@implementer(IPullProducer)
class Chargen(ServedProtocol):
    """Sends the pattern as fast as the peer takes it."""

    def connectionMade(self) -> None:
        """Begin to send."""
        super().connectionMade()
        self.transport.registerProducer(self, False)

    def dataReceived(self, data: bytes) -> None:
        """Throw it away; only what the peer takes is a sign of life."""

    def resumeProducing(self) -> None:
        """Send the pattern once more."""
        if peerHasClosed(self.transport):
            self.transport.unregisterProducer()
            self.transport.abortConnection()
            return
        self.idle.touch()
        self.transport.write(CHARGEN_PATTERN)

    def stopProducing(self) -> None:
        """The transport takes no more."""

    def close(self) -> None:
        """Stop sending, then close."""
        self.transport.unregisterProducer()
        super().close()


class Tell(ServedProtocol):
    """Sends one message and closes."""

    factory: TellFactory

    def connectionMade(self) -> None:
        """Tell it."""
        super().connectionMade()
        self.transport.write(self.factory.tell())
        self.close()

    def dataReceived(self, data: bytes) -> None:
        """Throw it away."""


class DiscardFactory(ServedFactory):
    """Serves discard."""

    protocol = Discard


class ChargenFactory(ServedFactory):
    """Serves chargen."""

    protocol = Chargen


class TellFactory(ServedFactory):
    """
    Serves daytime or time.

    @ivar tell: makes the message.
    """

    protocol = Tell

    def __init__(
        self,
        clock: IReactorTime,
        tell: Callable[[], bytes],
        limits: ConnectionLimits = DEFAULT_LIMITS,
    ) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param tell: makes the message.
        @param limits: bounds the connections.
        """
        super().__init__(clock, limits)
        self.tell = tell


class DiscardDatagrams(GuardedDatagrams):
    """Throws away what it gets."""

    def guardedReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Throw it away."""


class TellDatagrams(GuardedDatagrams):
    """Answers every datagram with one message, whatever is in it."""

    def __init__(self, clock: Clock, tell: Callable[[], bytes]) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param tell: makes the message.
        """
        super().__init__(clock)
        self._tell = tell

    def guardedReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Tell it."""
        self.answer(self._tell(), len(datagram), addr)


class ChargenDatagrams(GuardedDatagrams):
    """Answers every datagram with a random number of characters, never so many as to amplify."""

    def __init__(self, clock: Clock, random: Random) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param random: chooses the number.
        """
        super().__init__(clock)
        self._random = random

    def guardedReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Send some of the pattern."""
        most = min(_MAX_CHARGEN, largestAnswer(len(datagram)))
        self.answer(CHARGEN_PATTERN[: self._random.randint(0, most)], len(datagram), addr)
