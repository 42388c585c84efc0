"""
A service on several addresses: all of them, or none.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, cast

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import DatagramAddress, ListenAddress, StreamAddress
from twisted_netsuite.net.listening import ListeningService, portName
from twisted_netsuite.net.serving import ServedFactory, ServedProtocol
from twisted_netsuite.testing import connectPair


class FakePort:
    """A port that notes when it is closed, and is when the test says so."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = 0
        self.closing: Deferred[None] = succeed(None)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self.number)

    def startListening(self) -> None:
        raise AssertionError("it listens")

    def stopListening(self) -> Deferred[None]:
        self.closed += 1
        return self.closing


class FakeEndpoint:
    """An endpoint that gives what the test says."""

    def __init__(self, *answers: Deferred[Any]) -> None:
        self.answers = list(answers)
        self.factories: list[Any] = []

    def listen(self, factory: Any) -> Deferred[Any]:
        self.factories.append(factory)
        return self.answers.pop(0)


def address(*answers: Any, description: str = "fake:1") -> StreamAddress:
    """Make an address that gives, one after the other, ports, failures or what is yet to come."""
    given = [
        answer if isinstance(answer, Deferred) else succeed(answer)
        for answer in (fail(a) if isinstance(a, Exception) else a for a in answers)
    ]
    return StreamAddress(description, cast(Any, FakeEndpoint(*given)))


class ListeningTests(SynchronousTestCase):
    """L{ListeningService} on addresses of all sorts."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.factory = ServedFactory(self.clock)
        self.factory.protocol = ServedProtocol

    def service(self, *addresses: ListenAddress, **told: Any) -> ListeningService:
        """Make a service."""
        return ListeningService(
            self.clock,
            addresses,
            factory=self.factory,
            dialect="classic",
            example=lambda where: f"try {where}",
            **told,
        )

    def test_several(self) -> None:
        """It listens on every address, with one factory, in their order."""
        ports = [FakePort(1), FakePort(2)]
        addresses = [address(port) for port in ports]
        service = self.service(*addresses)
        self.assertEqual(service.ports, [])
        service.startService()
        self.assertEqual(service.ports, ports)
        for one in addresses:
            self.assertEqual(cast(FakeEndpoint, one.endpoint).factories, [self.factory])

    def test_log(self) -> None:
        """Each address is told of in one line, with the service's name and dialect."""
        service = self.service(address(FakePort(7007)))
        service.name = "echo.main"
        with capturedLogs() as events:
            service.startService()
        told = [(event["name"], event["address"], event["dialect"]) for event in events]
        self.assertEqual(told, [("echo.main", "tcp 127.0.0.1:7007", "classic")])

    def test_privileged(self) -> None:
        """What was listened on with more rights is not listened on again."""
        one = address(FakePort(1))
        service = self.service(one)
        service.privilegedStartService()
        service.startService()
        self.assertEqual(cast(FakeEndpoint, one.endpoint).factories, [self.factory])
        self.assertTrue(service.running)

    def test_stop(self) -> None:
        """When it stops, every port closes; that is told once all are closed."""
        ports = [FakePort(1), FakePort(2)]
        ports[1].closing = Deferred()
        service = self.service(*map(address, ports))
        service.startService()
        stopped = service.stopService()
        self.assertEqual([port.closed for port in ports], [1, 1])
        self.assertNoResult(stopped)
        ports[1].closing.callback(None)
        self.successResultOf(stopped)
        self.assertEqual((service.ports, service.running), ([], False))

    def test_connections(self) -> None:
        """After the ports, the connections end, and it waits for them."""
        port = FakePort(1)
        port.closing = Deferred()
        service = self.service(address(port))
        service.startService()
        protocol = self.factory.buildProtocol(None)
        assert protocol is not None
        pair = connectPair(protocol, Protocol())
        stopped = service.stopService()
        pair.flush()
        self.assertIsNone(pair.server.lost)
        port.closing.callback(None)
        self.assertNoResult(stopped)
        pair.flush()
        self.successResultOf(stopped)
        self.assertIsNotNone(pair.server.lost)

    def test_portFails(self) -> None:
        """A port that cannot be closed is told of, and keeps neither the others nor connections."""
        ports = [FakePort(1), FakePort(2)]
        ports[0].closing = fail(OSError("no"))
        service = self.service(*map(address, ports))
        service.startService()
        service.name = "echo.main"
        with capturedLogs() as events:
            self.successResultOf(service.stopService())
        self.assertEqual(ports[1].closed, 1)
        told = [(event["name"], event["address"], event["reason"]) for event in events]
        self.assertEqual(told, [("echo.main", "tcp 127.0.0.1:1", "no")])

    def test_stoppedBefore(self) -> None:
        """What was never started can be stopped."""
        self.successResultOf(self.service(address()).stopService())

    def test_again(self) -> None:
        """It can be started again after it was stopped."""
        one, two = FakePort(1), FakePort(2)
        service = self.service(address(one, two))
        service.startService()
        self.successResultOf(service.stopService())
        service.startService()
        self.assertEqual(service.ports, [two])

    def test_secondFails(self) -> None:
        """When one address cannot be bound, those before are released and none after is tried."""
        port, never = FakePort(1), address()
        refused = CannotListenError("127.0.0.1", 2, OSError(errno.EADDRINUSE, "Address in use"))
        service = self.service(address(port), address(refused, description="tcp:2"), never)
        with self.assertRaises(ConfigurationError) as caught:
            service.startService()
        sentence = caught.exception.sentence
        self.assertIn("Cannot listen on 'tcp:2': address in use", sentence)
        self.assertIn("stop the program that holds it", sentence)
        self.assertEqual((port.closed, service.ports), (1, []))
        self.assertEqual(cast(FakeEndpoint, never.endpoint).factories, [])

    def test_otherFailure(self) -> None:
        """A failure of another sort is a sentence with the address, the reason and what to do."""
        for failure in (ValueError("odd"), CannotListenError(None, "/x", "Cannot acquire lock")):
            service = self.service(address(failure, description="odd:1"))
            with self.assertRaises(ConfigurationError) as caught:
                service.startService()
            sentence = caught.exception.sentence
            self.assertIn("Cannot listen on 'odd:1'", sentence)
            self.assertIn(str(failure), sentence)
            self.assertIn("give another listen address", sentence)

    def test_raises(self) -> None:
        """An endpoint that raises is one that fails."""
        broken: Any = FakeEndpoint()
        service = self.service(StreamAddress("odd:1", broken))
        self.assertRaises(ConfigurationError, service.startService)

    def test_late(self) -> None:
        """An endpoint that takes its time is listened on when it is ready."""
        waiting: Deferred[IListeningPort] = Deferred()
        service = self.service(address(waiting))
        service.startService()
        self.assertEqual(service.ports, [])
        port: Any = FakePort(1)
        waiting.callback(port)
        self.assertEqual(service.ports, [port])

    def test_lateFailure(self) -> None:
        """One that fails later is told of in one line of the log; the others serve on."""
        waiting: Deferred[IListeningPort] = Deferred()
        service = self.service(address(FakePort(1)), address(waiting, description="slow:1"))
        service.startService()
        with capturedLogs() as events:
            waiting.errback(OSError("gone"))
        self.assertEqual(len(events), 1)
        self.assertIn("Cannot listen on 'slow:1': gone", events[0]["reason"])
        self.assertEqual(len(service.ports), 1)

    def test_stoppedWaiting(self) -> None:
        """One that is not ready when the service stops is given up, without a word."""
        cancelled: list[object] = []
        waiting: Deferred[IListeningPort] = Deferred(cancelled.append)
        service = self.service(address(waiting))
        service.startService()
        with capturedLogs() as events:
            self.successResultOf(service.stopService())
        self.assertEqual(cancelled, [waiting])
        self.assertEqual(list(events), [])


class DatagramListeningTests(SynchronousTestCase):
    """L{ListeningService} on real UDP sockets of loopback, without a running reactor."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.protocols: list[DatagramProtocol] = []

    def make(self) -> DatagramProtocol:
        """Make a protocol."""
        self.protocols.append(DatagramProtocol())
        return self.protocols[-1]

    def service(self, *ports: int) -> ListeningService:
        """Make a service on ports of loopback."""
        return ListeningService(
            self.reactor,
            [
                DatagramAddress(f"udp:{port}:interface=127.0.0.1", "127.0.0.1", port)
                for port in ports
            ],
            datagrams=self.make,
            dialect="plain",
            example=lambda where: f"try {where}",
        )

    def stop(self, service: ListeningService) -> None:
        """Stop a service to the end."""
        stopped = service.stopService()
        self.reactor.advance(0)
        self.successResultOf(stopped)

    def test_protocolEach(self) -> None:
        """Each address has a protocol of its own, and its port is told."""
        service = self.service(0, 0)
        service.startService()
        self.addCleanup(self.stop, service)
        self.assertEqual(len(set(map(id, self.protocols))), 2)
        for protocol, port in zip(self.protocols, service.ports, strict=True):
            self.assertIs(protocol.transport, port)
            self.assertRegex(portName(port), r"\Audp 127\.0\.0\.1:[1-9]\d*\Z")

    def test_inUse(self) -> None:
        """When the second port is in use, that is told with the address, and the first is free."""
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
        ):
            for sock in (held, probe):
                sock.bind(("127.0.0.1", 0))
            first, second = probe.getsockname()[1], held.getsockname()[1]
            probe.close()
            service = self.service(first, second)
            with self.assertRaises(ConfigurationError) as caught:
                service.startService()
            self.assertIn(f"Cannot listen on 'udp:{second}:inter", caught.exception.sentence)
            self.assertIn("already in use", caught.exception.sentence)
            self.reactor.advance(0)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
                again.bind(("127.0.0.1", first))


class PortNameTests(SynchronousTestCase):
    """L{portName} of each sort of port."""

    def test_names(self) -> None:
        """A port is named with its kind and address."""
        for host, name in (
            (IPv4Address("TCP", "127.0.0.1", 7007), "tcp 127.0.0.1:7007"),
            (IPv4Address("UDP", "0.0.0.0", 7), "udp 0.0.0.0:7"),
            (UNIXAddress("/run/x"), "unix:/run/x"),
        ):
            port: Any = FakePort(1)
            port.getHost = lambda host=host: host
            self.assertEqual(portName(port), name)
