"""
Answering datagrams without becoming a weapon: no loop, no amplification, no exception.

The source address of a datagram can be forged. So nothing is answered that looks like another
server's answer, and no answer is much larger than what asked for it.
"""

from __future__ import annotations

import errno
import socket
from typing import ClassVar

from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IListeningPort, IReactorFDSet, IReactorUDP, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.udp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_netsuite.net.limits import Clock, TokenBuckets

#: Source ports of services that answer whatever they get: echo, daytime, qotd, chargen and time.
#: An answer to one of them would be answered again, for ever.
LOOP_PORTS = frozenset({7, 13, 17, 19, 37})

#: An answer is at most this many times what asked for it, headers counted: the bound that QUIC
#: (RFC 9000, section 8) sets before an address is proven.
MAX_GAIN = 3

#: Answers a second to one address, and how many at once. Two services that answer each other go
#: round thousands of times a second; the first datagram that is dropped ends that for good.
ANSWER_RATE = 2000.0
ANSWER_BURST = 10_000

#: Bytes of an IPv4 and a UDP header, which every datagram has.
HEADER_BYTES = 28

#: The largest UDP payload over IPv4 is 65507 bytes; one byte more than any shows that none was cut.
MAX_DATAGRAM = 65536


#: Datagrams that one port reads before other work of the process gets its turn: at some 20 us each,
#: less than a millisecond.
DATAGRAMS_A_TURN = 32


class FairPort(Port):
    """
    A UDP port that a flood cannot make the only thing the reactor does.

    Twisted's own reads up to 256 KiB in a turn, which are 262,144 datagrams of one byte, and
    without end while empty ones come.
    """

    log: ClassVar[Logger] = Logger()

    def doRead(self) -> None:
        """Read some datagrams."""
        for _ in range(DATAGRAMS_A_TURN):
            try:
                datagram, addr = self.socket.recvfrom(self.maxPacketSize)
            except OSError:
                # Nothing there, or an ICMP error that an earlier answer met.
                return
            try:
                self.protocol.datagramReceived(datagram, addr[:2])
            except Exception:
                self.log.failure("datagramReceived failed")

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Close when we were asked to, and not for an error of one datagram.

        An ICMP refusal is an error without input to C{epoll}, which Twisted takes for the end.
        """
        if reason is None:
            super().connectionLost()
            return
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.startReading()
        if code == errno.ECONNREFUSED and self._connectedAddr:
            self.protocol.connectionRefused()


def bindDatagrams(
    reactor: IReactorFDSet | IReactorUDP, port: int, protocol: DatagramProtocol, interface: str
) -> IListeningPort:
    """
    Bind a UDP socket.

    @param reactor: watches it; where it does not watch descriptors, Twisted's own port is used.
    @param port: its port, 0 for any free one.
    @param protocol: gets the datagrams.
    @param interface: the interface's address, empty for all of IPv4.
    @return: the port.
    @raise twisted.internet.error.CannotListenError: when it cannot be bound.
    """
    if not IReactorFDSet.providedBy(reactor):
        return reactor.listenUDP(port, protocol, interface, MAX_DATAGRAM)
    fair = FairPort(port, protocol, interface, MAX_DATAGRAM, reactor)
    fair.startListening()
    return fair


def largestAnswer(asked: int) -> int:
    """
    Tell how long an answer may be.

    @param asked: bytes of payload that asked for it.
    @return: bytes of payload.
    """
    return MAX_GAIN * (asked + HEADER_BYTES) - HEADER_BYTES


class GuardedDatagrams(DatagramProtocol):
    """
    A datagram service that may only answer.

    @ivar dropped: datagrams that were not answered because the guard forbade it.
    @ivar unsent: answers that the system did not take; UDP promises no more.
    """

    noisy = False
    transport: IUDPTransport
    log: ClassVar[Logger] = Logger()
    _port = 0

    def __init__(self, clock: Clock) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        """
        self.dropped = 0
        self.unsent = 0
        self._answers = TokenBuckets(clock, ANSWER_RATE, ANSWER_BURST)

    def startProtocol(self) -> None:
        """Learn our own port."""
        self._port = self.transport.getHost().port

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Pass on what is safe to answer."""
        if addr[1] in LOOP_PORTS or addr[1] == self._port:
            self.drop(addr, "its source port is that of a service that would answer again")
            return
        if not self._answers.take(addr):
            self.drop(addr, f"it asks for more than {ANSWER_RATE:g} answers a second")
            return
        self.guardedReceived(datagram, addr)

    def guardedReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        Serve a datagram that is no loop.

        @param datagram: its payload.
        @param addr: host and port of its sender, as far as that can be believed.
        """
        raise NotImplementedError

    def answer(self, answer: bytes, asked: int, addr: tuple[str, int]) -> None:
        """
        Answer, if that does not amplify.

        @param answer: the payload to send.
        @param asked: bytes of payload that asked for it.
        @param addr: host and port.
        """
        if len(answer) > largestAnswer(asked):
            self.drop(addr, f"an answer of {len(answer)} bytes to {asked} would amplify")
            return
        self.send(answer, addr)

    def send(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        Send; what the system does not take is counted and forgotten.

        @param datagram: the payload to send.
        @param addr: host and port.
        """
        try:
            self.transport.write(datagram, addr)
        except (OSError, MessageLengthError, OverflowError):
            self.unsent += 1

    def drop(self, addr: tuple[str, int], why: str) -> None:
        """
        Count a datagram that gets no answer; each time their number has doubled, say so.

        @param addr: host and port.
        @param why: the reason, for the log.
        """
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:
            self.log.warn(
                "{host}:{port}: no answer, {why} ({count} so far)",
                host=addr[0],
                port=addr[1],
                why=why,
                count=self.dropped,
            )
