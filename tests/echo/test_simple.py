"""
Discard, chargen, daytime and time by their RFCs.
"""

from __future__ import annotations

import calendar
import struct
from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.echo.farend import FarEnd, sayGoodbyeOverTLS
from twisted_netsuite.echo.simple import (
    CHARGEN_PATTERN,
    ChargenDatagrams,
    ChargenFactory,
    DiscardDatagrams,
    DiscardFactory,
    TellDatagrams,
    TellFactory,
    daytime,
    time32,
)
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.net.serving import ServedFactory
from twisted_netsuite.testing import BUFFER_SIZE, Pair, connectPair, listenDatagrams

PEER = IPv4Address("TCP", "127.0.0.1", 50_000)
SENDER = ("127.0.0.1", 50_000)


def connect(factory: ServedFactory) -> tuple[Pair, FarEnd]:
    """Connect a client."""
    server = factory.buildProtocol(PEER)
    assert server is not None
    far = FarEnd()
    return connectPair(server, far), far


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    """Tell a moment in seconds since 1970, UTC."""
    return calendar.timegm((year, month, day, hour, minute, second))


class DaytimeTests(SynchronousTestCase):
    """L{daytime} (RFC 867)."""

    def test_form(self) -> None:
        """The RFC's own example, in UTC: a number of the date is not padded, one of time is."""
        self.assertEqual(
            daytime(at(1982, 2, 22, 17, 37, 43)), b"Monday, February 22, 1982 17:37:43-UTC\r\n"
        )
        self.assertEqual(daytime(0), b"Thursday, January 1, 1970 00:00:00-UTC\r\n")
        self.assertEqual(
            daytime(at(2026, 12, 6, 9, 5, 7)), b"Sunday, December 6, 2026 09:05:07-UTC\r\n"
        )

    def test_namesAndYears(self) -> None:
        """Every day and month has its English name, whatever the locale."""
        week = [daytime(at(2026, 11, day)).split(b",")[0].decode() for day in range(2, 9)]
        self.assertEqual(" ".join(week), "Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
        months = [daytime(at(2026, month, 1)).split()[1].decode() for month in range(1, 13)]
        self.assertEqual(months, list(calendar.month_name)[1:])

    def test_fractions(self) -> None:
        """A second lasts until it is over."""
        self.assertEqual(daytime(59.999), daytime(59))


class TimeTests(SynchronousTestCase):
    """L{time32} (RFC 868)."""

    def test_examplesOfTheRFC(self) -> None:
        """The moments that the RFC lists have the values that it lists."""
        for moment, value in (
            (at(1970, 1, 1), 2_208_988_800),
            (at(1976, 1, 1), 2_398_291_200),
            (at(1980, 1, 1), 2_524_521_600),
            (at(1983, 5, 1), 2_629_584_000),
            (at(1858, 11, 17), -1_297_728_000 % 2**32),
        ):
            self.assertEqual(time32(moment), struct.pack("!I", value))

    def test_wrap(self) -> None:
        """The count begins anew in 2036."""
        last = at(2036, 2, 7, 6, 28, 15)
        self.assertEqual(time32(last), b"\xff\xff\xff\xff")
        self.assertEqual(time32(last + 1), b"\0\0\0\0")


class ChargenPatternTests(SynchronousTestCase):
    """The pattern of RFC 864."""

    def test_lines(self) -> None:
        """Lines of 72 printable characters, each rotated by one against the line before."""
        lines = (CHARGEN_PATTERN * 2).split(b"\r\n")[:-1]
        printable = bytes(range(32, 127))
        self.assertTrue(lines[0].startswith(b' !"#$%'))
        for n, line in enumerate(lines):
            start = n % 95
            self.assertEqual(line, (printable[start:] + printable[:start])[:72])
        self.assertEqual(len(lines), 190)


class ChargenTests(SynchronousTestCase):
    """L{ChargenFactory}'s connections."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.factory = ChargenFactory(self.clock, ConnectionLimits(idleTimeout=10))
        self.pair, self.far = connect(self.factory)

    def test_pattern(self) -> None:
        """The pattern comes without a gap where it begins anew."""
        for _ in range(40):
            self.pair.server.step(1000)
        self.assertEqual(self.far.received, (CHARGEN_PATTERN * 6)[: len(self.far.received)])
        self.assertGreater(len(self.far.received), 2 * len(CHARGEN_PATTERN))

    def test_backpressure(self) -> None:
        """To a reader that stalls no more is sent than fits the buffer."""
        self.pair.client.pauseProducing()
        self.pair.flush()
        self.assertLessEqual(len(self.pair.server.outgoing), BUFFER_SIZE + len(CHARGEN_PATTERN))

    def test_input(self) -> None:
        """What the client sends is thrown away, and is no sign that it reads."""
        self.pair.client.pauseProducing()
        self.clock.advance(9)
        self.far.transport.write(b"x")
        self.pair.flush()
        with capturedLogs():
            self.clock.advance(1)
        self.pair.flush()
        self.assertIsNotNone(self.pair.server.lost)

    def test_halfClose(self) -> None:
        """A client that closes its side is sent no further pattern, and then closed."""
        self.pair.server.step(1000)
        self.pair.server.protocol.readConnectionLost()  # type: ignore[attr-defined]
        self.pair.flush()
        self.assertTrue(self.far.ended)
        self.assertEqual(len(self.far.received) % len(CHARGEN_PATTERN), 0)
        assert self.pair.server.lost is not None
        self.assertTrue(self.pair.server.lost.check(ConnectionDone))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_goodbyeOverTLS(self) -> None:
        """A client over TLS that has said goodbye is sent nothing more, and let go at once."""
        self.pair.server.step(1000)
        sayGoodbyeOverTLS(self.pair.server)
        self.pair.flush()
        assert self.pair.server.lost is not None
        self.assertTrue(self.pair.server.lost.check(ConnectionAborted))
        self.assertEqual(len(self.far.received), len(CHARGEN_PATTERN))
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reset(self) -> None:
        """A reset ends the sending."""
        self.far.transport.abortConnection()
        self.pair.flush()
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DiscardTests(SynchronousTestCase):
    """L{DiscardFactory}'s connections."""

    def test_discard(self) -> None:
        """Nothing is answered, all is taken, and data is a sign of life."""
        clock = Clock()
        pair, far = connect(DiscardFactory(clock, ConnectionLimits(idleTimeout=10)))
        for _ in range(5):
            far.transport.write(b"x" * 1_000_000)
            pair.flush()
            clock.advance(9)
        self.assertEqual(far.received, b"")
        self.assertEqual(far.transport.outgoing, b"")
        self.assertIsNone(far.lost)
        far.transport.loseWriteConnection()
        pair.flush()
        self.assertTrue(far.ended)


class TellTests(SynchronousTestCase):
    """L{TellFactory}'s connections."""

    def test_tell(self) -> None:
        """Every client is told the moment of its own connection, and then closed."""
        moments = iter((0, 1))
        factory = TellFactory(Clock(), lambda: time32(next(moments)))
        for answer in (b"\x83\xaa\x7e\x80", b"\x83\xaa\x7e\x81"):
            pair, far = connect(factory)
            pair.flush()
            self.assertEqual(far.received, answer)
            self.assertTrue(far.ended)

    def test_inputIsThrownAway(self) -> None:
        """What a client says meanwhile is not answered."""
        pair, _ = connect(TellFactory(Clock(), lambda: b"now"))
        pair.server.protocol.dataReceived(b"x")
        self.assertEqual(pair.server.outgoing, b"now")


class DatagramTests(SynchronousTestCase):
    """The services over datagrams."""

    def test_discard(self) -> None:
        """Discard never answers."""
        discard = DiscardDatagrams(Clock())
        notes = listenDatagrams(discard)
        discard.datagramReceived(b"x", SENDER)
        self.assertEqual(notes.sent, [])

    def test_tell(self) -> None:
        """Daytime and time answer any datagram, an empty one too."""
        tells: list[Callable[[], bytes]] = [lambda: daytime(0), lambda: time32(0)]
        for tell in tells:
            service = TellDatagrams(Clock(), tell)
            notes = listenDatagrams(service)
            service.datagramReceived(b"", SENDER)
            service.datagramReceived(b"x" * 1000, SENDER)
            self.assertEqual(notes.sent, [(tell(), SENDER)] * 2)

    def test_longestDaytimeIsNoAmplification(self) -> None:
        """Even the longest line of daytime may answer an empty datagram."""
        longest = max(
            (daytime(at(2026, month, day)) for month in range(1, 13) for day in range(1, 29)),
            key=len,
        )
        service = TellDatagrams(Clock(), lambda: longest)
        notes = listenDatagrams(service)
        service.datagramReceived(b"", SENDER)
        self.assertEqual(notes.sent, [(longest, SENDER)])

    @settings(deadline=None)
    @given(st.integers(), st.integers(0, 2000))
    def test_chargen(self, seed: int, asked: int) -> None:
        """Chargen answers with the pattern's begin, at most 512 bytes, and never amplifies."""
        service = ChargenDatagrams(Clock(), Random(seed))
        notes = listenDatagrams(service)
        service.datagramReceived(b"x" * asked, SENDER)
        [(answer, to)] = notes.sent
        self.assertEqual(to, SENDER)
        self.assertTrue(CHARGEN_PATTERN.startswith(answer))
        self.assertLessEqual(len(answer), min(512, 3 * (asked + 28) - 28))

    def test_chargenLengths(self) -> None:
        """Every length from 0 to 512 comes up."""
        service = ChargenDatagrams(Clock(), Random(1))
        notes = listenDatagrams(service)
        for _ in range(10_000):
            service.datagramReceived(b"x" * 1000, SENDER)
        self.assertEqual({len(answer) for answer, _ in notes.sent}, set(range(513)))
