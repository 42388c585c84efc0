"""
Writing at once keeps order, backpressure and ends as they are.
"""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.net import eager
from twisted_netsuite.net.eager import eagerWrite


class EagerWriteTests(SynchronousTestCase):
    """
    L{eagerWrite} over one end of a real socket pair, without a running reactor.
    """

    def setUp(self) -> None:
        ours, self.far = socket.socketpair()
        self.far.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.reactor = MemoryReactorClock()
        self.transport = Connection(ours, cast(Any, Protocol()), cast(Any, self.reactor))
        self.transport.connected = 1
        self.addCleanup(ours.close)
        self.addCleanup(self.far.close)
        self.write = eagerWrite(cast(Any, self.transport))

    def received(self) -> bytes:
        """Take what the other end has now."""
        try:
            return self.far.recv(1 << 20)
        except BlockingIOError:
            return b""

    def waits(self) -> bool:
        """Tell whether the transport waits to write."""
        return self.transport in self.reactor.getWriters()

    def test_atOnce(self) -> None:
        """A message that finds nothing before it is sent without the reactor."""
        self.write(b"hello")
        self.assertEqual(self.received(), b"hello")
        self.assertFalse(self.waits())

    def test_restWaits(self) -> None:
        """What the kernel does not take is sent later, in order, with what was written after."""
        message = bytes(range(256)) * 1024
        self.write(message)
        self.write(b"end")
        self.assertTrue(self.waits())
        got = self.received()
        for _ in range(1000):
            self.transport.doWrite()
            got += self.received()
        self.assertEqual(got, message + b"end")
        self.assertFalse(self.waits())

    def test_pausesProducer(self) -> None:
        """A producer is paused as by Twisted's own write once the buffer is full."""
        paused = []

        class Producer:
            def pauseProducing(self) -> None:
                paused.append(True)

            def resumeProducing(self) -> None:
                """Never reached: nothing is flushed here."""

            def stopProducing(self) -> None:
                """Never reached: nothing is closed here."""

        self.transport.registerProducer(cast(Any, Producer()), True)
        self.write(b"x" * (256 * 1024))
        self.assertEqual(paused, [True])

    def test_afterTheEnd(self) -> None:
        """Nothing is sent ahead of an end that was asked for, and nothing after a loss."""
        self.transport.loseConnection()
        self.write(b"late")
        self.assertEqual(self.received(), b"")

    def test_afterAnAbort(self) -> None:
        """Nothing is sent once the connection is to end abruptly."""
        self.transport.abortConnection()
        self.write(b"late")
        self.assertEqual(self.received(), b"")

    def test_privateNames(self) -> None:
        """Twisted still has every name that we look at."""
        self.assertNotEqual(eagerWrite(cast(Any, self.transport)), self.transport.write)

    def test_nameGone(self) -> None:
        """Should Twisted rename one, messages go its usual way."""
        self.patch(eager, "_STATE", (*eager._STATE, "_renamed"))
        write = eagerWrite(cast(Any, self.transport))
        self.assertEqual(write, self.transport.write)
        write(b"hello")
        self.transport.doWrite()
        self.assertEqual(self.received(), b"hello")

    def test_lostConnection(self) -> None:
        """A connection that is gone is left to the reactor, which reports it in its own turn."""
        self.far.close()
        self.write(b"lost")
        self.assertTrue(self.waits())

    def test_otherTransports(self) -> None:
        """A transport that is no socket itself is written to as it wants."""
        transport = StringTransport()
        eagerWrite(cast(Any, transport))(b"hello")
        self.assertEqual(transport.value(), b"hello")
