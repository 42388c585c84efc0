"""
Frames of one turn of the reactor: the first leaves at once, the others together, all in order.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import Any, cast

from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.net.frames import FrameReceiver
from twisted_netsuite.net.outgoing import GATHER, Cork


class Counting(Connection):
    """A socket that notes what the kernel is asked to send."""

    def writeSomeData(self, data: Any) -> int | ConnectionLost:
        self.sends.append(len(data))
        return super().writeSomeData(data)

    sends: list[int]


class CorkTests(SynchronousTestCase):
    """L{Cork} over one end of a real socket pair, whose reactor turns when a test says so."""

    def setUp(self) -> None:
        ours, self.far = socket.socketpair()
        self.far.setblocking(False)
        self.addCleanup(ours.close)
        self.addCleanup(self.far.close)
        self.reactor = MemoryReactorClock()
        self.transport = Counting(ours, cast(Any, Protocol()), cast(Any, self.reactor))
        self.transport.sends = []
        self.transport.connected = 1
        self.cork = Cork(cast(Any, self.transport), partial(self.reactor.callLater, 0))

    def received(self) -> bytes:
        """Take what the other end has now."""
        got = b""
        while True:
            try:
                got += self.far.recv(1 << 20)
            except BlockingIOError:
                return got

    def test_firstAtOnce(self) -> None:
        """Who sends one thing in a turn does not wait for its end."""
        for number in range(3):
            self.cork.write(b"%d" % number)
            self.assertEqual(self.received(), b"%d" % number)
            self.reactor.advance(0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.transport.sends, [1, 1, 1])

    def test_together(self) -> None:
        """What follows in a turn leaves with one system call, at its end, in order."""
        for number in range(100, 200):
            self.cork.write(b"%d" % number)
        self.assertEqual(self.received(), b"100")
        self.reactor.advance(0)
        self.assertEqual(self.received(), b"".join(b"%d" % number for number in range(101, 200)))
        self.assertEqual(self.transport.sends, [3, 297])

    def test_bounded(self) -> None:
        """No more is gathered than is worth it, however much comes in one turn."""
        piece = bytes(4096)
        for number in range(1 + GATHER // 4096):
            self.assertEqual(len(self.transport.sends), min(number, 1))
            self.cork.write(piece)
        self.assertEqual(self.transport.sends, [4096, GATHER])

    def test_flush(self) -> None:
        """Before others write to the transport all that was gathered has been written."""
        for each in (b"a", b"b", b"c"):
            self.cork.write(each)
        self.cork.flush()
        self.transport.write(b"d")
        self.cork.write(b"e")
        self.reactor.advance(0)
        self.transport.doWrite()
        self.assertEqual(self.received(), b"abcde")

    def test_stop(self) -> None:
        """At the end nothing is left behind, and nothing is left to happen."""
        self.cork.write(b"a")
        self.cork.write(b"b")
        self.cork.stop()
        self.transport.loseConnection()
        self.assertEqual(self.received(), b"ab")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_notTaken(self) -> None:
        """What the kernel does not take keeps its order."""
        sent = b""
        for number in range(2000):
            sent += (piece := b"%04d" % number * 500)
            self.cork.write(piece)
        got = b""
        for _ in range(1000):
            self.reactor.advance(0)
            self.transport.doWrite()
            got += self.received()
        self.assertEqual(got, sent)

    def test_clock(self) -> None:
        """Whoever carries frames tells when a turn is over by the clock that it was given, whatever
        reactor its socket has."""
        clock = Clock()
        frames = FrameReceiver()
        frames.clock = clock
        frames.makeConnection(self.transport)
        for word in (b"a", b"b", b"c"):
            frames.sendFrame(word)
        self.assertEqual(self.received(), b"\0\0\0\1a")
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        clock.advance(0)
        self.assertEqual(self.received(), b"\0\0\0\1b\0\0\0\1c")
        frames.stopFrames()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_noSocket(self) -> None:
        """Over what is no socket, as TLS, all is written at once: that gathers by itself."""
        transport = StringTransport()
        cork = Cork(cast(Any, transport), partial(self.reactor.callLater, 0))
        cork.write(b"a")
        cork.write(b"b")
        self.assertEqual(transport.value(), b"ab")
        cork.stop()
