"""TLS in large steps gives the same bytes, the same ends and the same backpressure as Twisted's."""

from __future__ import annotations

import random
from typing import Any, cast
from unittest.mock import patch

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.net.handshakes import Notes, Served, noting, upTo
from twisted_netsuite.net.bulktls import RECORD, STEP, BulkTLSTransport
from twisted_netsuite.testing import Pair


class Pieces(Notes):
    """Notes how what it receives is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def dataReceived(self, data: bytes) -> None:
        self.sizes.append(len(data))
        super().dataReceived(data)


@implementer(IPushProducer)
class Pauses:
    """Notes when it is to produce."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def pauseProducing(self) -> None:
        self.heard.append("pause")

    def resumeProducing(self) -> None:
        self.heard.append("resume")

    def stopProducing(self) -> None:
        self.heard.append("stop")


class BulkTests(SynchronousTestCase):
    """What is written at one end comes out at the other."""

    def connect(self, context: SSL.Context | None = None) -> tuple[Pieces, Notes, Pair]:
        """Connect, and tell the server's end, the client's, and what is between."""
        inner = Pieces()
        self.served = Served(noting(inner))
        client, pair = self.served.connect(context=context)
        return inner, client, pair

    def settle(self, pair: Pair, size: int = 1 << 16) -> None:
        self.served.settle(pair, size)

    def test_sizes(self) -> None:
        """Pieces of every size around a record and a step arrive whole, in both versions of TLS."""
        sizes = [0, 1, RECORD - 1, RECORD, RECORD + 1, STEP - 1, STEP, STEP + 1, 3 * STEP + 17]
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            inner, client, pair = self.connect(upTo(version))
            sent = b""
            for size in sizes:
                data = random.Random(size).randbytes(size)
                inner.transport.write(data)
                client.transport.write(data)
                sent += data
                self.settle(pair)
            self.assertEqual(client.received, sent)
            self.assertEqual(inner.received, sent)

    def test_cut(self) -> None:
        """However the bytes below are cut, those above are the same."""
        data = random.Random(1).randbytes(50_000)
        for size in (1, 7, 1000, RECORD + 22, 1 << 20):
            inner, client, pair = self.connect()
            client.transport.write(data)
            self.settle(pair, size)
            self.assertEqual(inner.received, data, size)

    def test_together(self) -> None:
        """All records that have come are passed on in one piece."""
        inner, client, pair = self.connect()
        client.transport.write(b"x" * (6 * RECORD))
        self.settle(pair, 1 << 20)
        self.assertEqual(inner.sizes, [6 * RECORD])

    def test_fewCalls(self) -> None:
        """A step is encrypted at once, although pyOpenSSL would do so for a record at a time."""
        inner, client, pair = self.connect()
        send = SSL.Connection.send
        with patch.object(SSL.Connection, "send", autospec=True, side_effect=send) as calls:
            inner.transport.write(b"x" * STEP)
            self.settle(pair)
        self.assertEqual(calls.call_count, 1)
        self.assertEqual(len(client.received), STEP)

    def test_beforeHandshake(self) -> None:
        """What is written before the handshake is complete, of any size, comes after it."""
        inner = Pieces()
        self.served = Served(noting(inner))
        client, pair = self.served.connect(flush=False)
        data = random.Random(2).randbytes(2 * STEP + 5)
        client.transport.write(data)
        self.settle(pair)
        self.assertEqual(inner.received, data)

    def test_goodbye(self) -> None:
        """What was written before a goodbye is passed on before the end, which is a clean one."""
        inner, client, pair = self.connect()
        client.transport.write(b"x" * (2 * STEP))
        client.transport.loseConnection()
        self.settle(pair)
        self.assertEqual(len(inner.received), 2 * STEP)
        assert inner.lost is not None
        self.assertIsInstance(inner.lost.value, ConnectionDone)

    def test_garbage(self) -> None:
        """Records before one that cannot be read are passed on, and the connection ends by that."""
        inner, client, pair = self.connect()
        transport = cast(Any, inner.transport)
        while not isinstance(transport, BulkTLSTransport):
            transport = transport.transport
        held: list[bytes] = []
        below = cast(Any, client.transport).transport
        with patch.object(below, "write", held.append):
            client.transport.write(b"whole" * 1000)
            self.served.reactor.advance(0)
        transport.dataReceived(b"".join(held) + b"\x17\x03\x03\x00\x20" + b"?" * 32)
        self.assertEqual(inner.received, b"whole" * 1000)
        self.settle(pair)
        assert inner.lost is not None
        self.assertNotIsInstance(inner.lost.value, ConnectionDone)

    def test_aborted(self) -> None:
        """After an abort within what has come, nothing further is passed on."""
        inner, client, pair = self.connect()

        def once(data: bytes) -> None:
            inner.sizes.append(len(data))
            cast(Any, inner.transport).abortConnection()

        cast(Any, inner).dataReceived = once
        client.transport.write(b"x" * 10)
        self.settle(pair)
        client.transport.write(b"y" * 10)
        self.settle(pair)
        self.assertEqual(inner.sizes, [10])

    def test_backpressure(self) -> None:
        """A producer above is paused once the connection below takes no more, and resumed after."""
        inner, client, pair = self.connect()
        producer = Pauses()
        inner.transport.registerProducer(producer, True)
        inner.transport.write(b"x" * (2 * STEP))
        self.served.reactor.advance(0)
        self.assertIn("pause", producer.heard)
        self.assertNotIn("resume", producer.heard)
        self.settle(pair)
        self.assertEqual(producer.heard[-1], "resume")
        self.assertEqual(len(client.received), 2 * STEP)
        inner.transport.unregisterProducer()

    def test_cutOff(self) -> None:
        """A connection that ends without a goodbye ends so above, after all that has come."""
        inner, client, pair = self.connect()
        client.transport.write(b"x" * 100_000)
        self.settle(pair)
        transport = cast(Any, inner.transport)
        while not isinstance(transport, BulkTLSTransport):
            transport = transport.transport
        transport.connectionLost(Failure(connectionDone.value))
        self.assertEqual(len(inner.received), 100_000)
        assert inner.lost is not None
        self.assertIsInstance(inner.lost.value, ConnectionLost)
