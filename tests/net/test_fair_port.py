"""
A flood of datagrams leaves the reactor its other work.
"""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.net.addresses import DatagramAddress
from twisted_netsuite.net.datagrams import DATAGRAMS_A_TURN, FairPort


class Notes(DatagramProtocol):
    """Notes every datagram; one that says so makes it fail."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.got.append(datagram)
        if datagram == b"fail":
            raise ValueError("as asked")


class FairPortTests(SynchronousTestCase):
    """
    L{FairPort} on a real loopback socket, read by hand in place of a running reactor.
    """

    def setUp(self) -> None:
        self.protocol = Notes()
        self.reactor = MemoryReactor()
        address = DatagramAddress("udp:0:interface=127.0.0.1", "127.0.0.1", 0)
        self.port = cast(FairPort, address.listen(cast(Any, self.reactor), self.protocol))
        self.addCleanup(self.port.socket.close)
        self.far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.far.connect(self.port.socket.getsockname())
        self.addCleanup(self.far.close)

    def test_boundedTurn(self) -> None:
        """One turn reads no more than its share, empty datagrams counted, and loses none."""
        sent = DATAGRAMS_A_TURN + 3
        for _ in range(sent):
            self.far.send(b"")
        self.port.doRead()
        self.assertEqual(len(self.protocol.got), DATAGRAMS_A_TURN)
        self.port.doRead()
        self.assertEqual(self.protocol.got, [b""] * sent)

    def test_largest(self) -> None:
        """The largest datagram of IPv4 arrives whole."""
        self.far.send(b"x" * 65507)
        self.port.doRead()
        self.assertEqual(self.protocol.got, [b"x" * 65507])

    def test_failure(self) -> None:
        """A protocol that raises is logged, and the next datagram is served."""
        self.far.send(b"fail")
        self.far.send(b"next")
        self.port.doRead()
        self.assertEqual(self.protocol.got, [b"fail", b"next"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_refusal(self) -> None:
        """A refusal reported to a connected port is told to its protocol, and the port goes on."""
        refused: list[bool] = []
        self.protocol.connectionRefused = lambda: refused.append(True)  # type: ignore[method-assign]
        gone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        gone.bind(("127.0.0.1", 0))
        host, port = gone.getsockname()
        gone.close()
        self.port.connect(host, port)
        self.port.write(b"hello", (host, port))
        self.port.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(refused, [True])
        self.assertIn(self.port, self.reactor.getReaders())
