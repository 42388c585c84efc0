"""
Echo over streams and datagrams (RFC 862), upper-cased as the tutorials do, or as it came.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits
from twisted_netsuite.net.datagrams import GuardedDatagrams
from twisted_netsuite.net.eager import eagerWrite
from twisted_netsuite.net.limits import Clock
from twisted_netsuite.net.serving import ServedFactory, ServedProtocol

Answer = Callable[[bytes], bytes]


def answerFor(*, upper: bool = True, reply: str = "") -> Answer:
    """
    Choose how a message is answered.

    @param upper: whether ASCII letters come back upper-cased; other bytes never change, so UTF-8
        stays whole.
    @param reply: a fixed answer in place of the message.
    @return: message to answer.
    """
    if reply:
        fixed = reply.encode()
        return lambda message: fixed
    return bytes.upper if upper else bytes


class Echo(ServedProtocol):
    """
    Answers each chunk.

    Nothing is read while the peer does not take its answers, so a connection never holds more than
    Twisted's own write buffer and one chunk.
    """

    factory: EchoFactory
    _finished = False

    def connectionMade(self) -> None:
        """Let the write side stop the read side."""
        super().connectionMade()
        self._write = eagerWrite(self.transport)
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        """Answer one chunk."""
        self.idle.touch()
        if self._finished:
            return
        self._write(self.factory.answer(data))
        if self.factory.once:
            self._finished = True
            self.close()

    def close(self) -> None:
        """Let the read side go, for which TLS would wait, and flush and close."""
        self.transport.unregisterProducer()
        super().close()


class EchoFactory(ServedFactory):
    """
    Serves echo over streams.

    @ivar answer: message to answer.
    @ivar once: whether a connection is closed after its first answer.
    """

    protocol = Echo

    def __init__(
        self,
        clock: IReactorTime,
        answer: Answer = bytes.upper,
        *,
        once: bool = False,
        limits: ConnectionLimits = DEFAULT_LIMITS,
    ) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param answer: message to answer, as from L{answerFor}.
        @param once: whether to close after the first answer.
        @param limits: bounds the connections.
        """
        super().__init__(clock, limits)
        self.answer = answer
        self.once = once


class EchoDatagrams(GuardedDatagrams):
    """Answers each datagram; an empty one with an empty one."""

    def __init__(self, clock: Clock, answer: Answer = bytes.upper) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param answer: message to answer, as from L{answerFor}.
        """
        super().__init__(clock)
        self._answer = answer

    def guardedReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Answer one datagram."""
        self.answer(self._answer(datagram), len(datagram), addr)
