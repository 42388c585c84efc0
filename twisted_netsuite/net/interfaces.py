"""
What the services need of a transport, as one interface.
"""

from __future__ import annotations

from twisted.internet.interfaces import IConsumer, IPushProducer, ISystemHandle, ITCPTransport


class IStreamTransport(ITCPTransport, IConsumer, IPushProducer, ISystemHandle):
    """
    A stream that can be paused, half-closed and aborted.

    Twisted's TCP and Unix transports are this; its TLS transport too, except for the half-close.
    """
