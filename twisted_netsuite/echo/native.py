"""
The native echo, the smallest service over a session: each record comes back as it came.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from twisted_netsuite.echo.messages import RECORDS, SERVICE
from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits
from twisted_netsuite.net.framed import SessionFactory, SessionProtocol
from twisted_netsuite.trust.tokens import TokenVerifier
from twisted_netsuite.wire.session import Record


class NativeEcho(SessionProtocol):
    """Answers each record."""

    def recordReceived(self, record: Record) -> None:
        """Send it back."""
        self.sendRecord(record)


class NativeEchoFactory(SessionFactory):
    """Serves echo over native sessions."""

    protocol = NativeEcho

    def __init__(
        self,
        clock: IReactorTime,
        *,
        tokens: TokenVerifier | None = None,
        requireIdentity: bool = False,
        limits: ConnectionLimits = DEFAULT_LIMITS,
    ) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param tokens: checks users and tokens; C{None} where none are taken.
        @param requireIdentity: whether to refuse who is anonymous.
        @param limits: bounds the connections.
        """
        super().__init__(
            clock,
            SERVICE,
            RECORDS,
            tokens=tokens,
            requireIdentity=requireIdentity,
            limits=limits,
        )
