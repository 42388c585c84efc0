"""
Bytes that a service sends outside frames: so many, by any of Twisted's producers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.interfaces import IConsumer, IProducer, IPullProducer, IPushProducer
from zope.interface import implementer

from twisted_netsuite.net.interfaces import IStreamTransport


@implementer(IConsumer, IPushProducer, IPullProducer)
class RawBytes:
    """
    Takes the bytes for a while in which a connection carries no frames.

    It stands between the transport and the producer, so that both ends of its life are noticed.
    """

    def __init__(
        self,
        transport: IStreamTransport,
        count: int,
        onStall: Callable[[bool], object],
        onEnd: Callable[[int], object],
    ) -> None:
        """
        @param transport: has no producer.
        @param count: bytes that will be written.
        @param onStall: called with whether the peer has to take something before more is written.
        @param onEnd: called with how many bytes have not been written, once no more will be, and at
            the first byte too many, which does not leave, with a negative number.
        """
        self._transport = transport
        self._left = count
        self._onStall = onStall
        self._onEnd = onEnd
        self._producer: IProducer | None = None
        self._streaming = True
        self._paused = False
        self._over = False

    # What the producer calls.

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Take a producer; where the connection has gone already it is stopped."""
        if self._producer is not None:
            raise RuntimeError("A producer is registered already.")
        if self._over:
            producer.stopProducing()
            return
        self._producer, self._streaming = producer, streaming
        self._transport.registerProducer(self, streaming)

    def unregisterProducer(self) -> None:
        """All bytes have been written."""
        if self._release() is not None:
            self._transport.unregisterProducer()
        self._end()

    def write(self, data: bytes) -> None:
        """Send bytes; once the connection has gone they are dropped."""
        if self._over:
            return
        self._left -= len(data)
        if self._left < 0:
            self._end()
            return
        self._transport.write(data)
        if not self._streaming:
            self._onStall(True)

    # What the transport calls.

    def pauseProducing(self) -> None:
        """The peer does not take what was written."""
        if not self._paused:
            # Twisted says so again at each write, which is no sign that anything was taken.
            self._paused = True
            self._onStall(True)
        if self._producer is not None:
            cast(IPushProducer, self._producer).pauseProducing()

    def resumeProducing(self) -> None:
        """The peer has taken it."""
        self._paused = False
        self._onStall(False)
        if self._producer is not None:
            cast(IPushProducer, self._producer).resumeProducing()

    def stopProducing(self) -> None:
        """The connection is lost."""
        self._over = True
        producer = self._release()
        if producer is not None:
            producer.stopProducing()

    # What the owner of the connection calls.

    def stop(self) -> None:
        """Give up: what has not been written never will be."""
        if self._producer is not None:
            self._transport.unregisterProducer()
        self.stopProducing()

    def _release(self) -> IProducer | None:
        producer, self._producer = self._producer, None
        return producer

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._onEnd(self._left)
