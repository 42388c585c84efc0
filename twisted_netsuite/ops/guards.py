"""
The policies and audit logs of one application: each file is opened once, however many services name
it, and read again after SIGHUP.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.hangup import Act, onHangup
from twisted_netsuite.trust.audit import AuditLog
from twisted_netsuite.trust.oversight import Oversight
from twisted_netsuite.trust.policy import PolicyFile


class Guards:
    """
    The files that stand over services.

    @ivar policies: each policy file, by its path.
    @ivar audits: each audit log, by its path.
    """

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: has the threads that wait for the disk.
        """
        self._reactor = reactor
        self.policies: dict[str, PolicyFile] = {}
        self.audits: dict[str, AuditLog] = {}
        self._opened: list[AuditLog] = []
        self._closing = False

    def over(self, service: str, policy: str, audit: str) -> Oversight:
        """
        Put files over a service.

        @param service: its name.
        @param policy: the path of a policy file, or empty.
        @param audit: the path of an audit log, or empty.
        @return: what the service asks.
        @raise ConfigurationError: when the policy cannot be used.
        """
        if policy and policy not in self.policies:
            self.policies[policy] = PolicyFile(policy)
        if audit and audit not in self.audits:
            self.audits[audit] = AuditLog(audit, self._reactor)
        return Oversight(
            service,
            self.policies[policy] if policy else None,
            self.audits[audit] if audit else None,
        )

    def open(self) -> None:
        """
        Open the audit logs that are not open.

        @raise ConfigurationError: naming the one that cannot be written; or when they are still
            being closed.
        """
        if self._closing:
            raise ConfigurationError(
                "The audit logs are still being closed; start again once that is done."
            )
        for audit in self.audits.values():
            if audit not in self._opened:
                audit.open()
                self._opened.append(audit)

    def reload(self) -> None:
        """Read the policies again; one that is wrong stays as it was."""
        for policy in self.policies.values():
            policy.reload()

    def close(self) -> Deferred[object]:
        """
        Close the audit logs.

        @return: fires when all is on the disk.
        """
        self._closing = True
        closing: Deferred[Any] = gatherResults([audit.close() for audit in self._opened])
        return closing.addBoth(self._closed)

    def _closed(self, result: Any) -> Any:
        self._closing = False
        self._opened = []
        return result


class GuardedApplication(MultiService):
    """Services, and the files that stand over them: these are opened first and closed last."""

    _forget: Act | None = None

    def __init__(self, guards: Guards, reactor: Any) -> None:
        """
        @param guards: the files; who wants to know early whether they can be written opens them.
        @param reactor: is told of SIGHUP.
        """
        super().__init__()
        self._guards = guards
        self._reactor = reactor

    def startService(self) -> None:
        """
        Open what is not open, and start the services; from now on SIGHUP ends nothing.

        @raise ConfigurationError: when an audit log cannot be written.
        """
        self._guards.open()
        if self._forget is None:
            # Before the services, of which the last tells people that all has begun.
            self._forget = onHangup(self._reactor, self._guards.reload)
        try:
            super().startService()
        except BaseException:
            self._leaveHangup()
            raise

    def stopService(self) -> Deferred[object]:
        """
        Stop the services, then close the files; until that is done SIGHUP ends nothing.

        @return: fires when all is written.
        """
        stopped: Deferred[Any] = super().stopService()
        return stopped.addBoth(self._close).addBoth(self._leaveHangup)

    def _leaveHangup(self, result: Any = None) -> Any:
        if self._forget is not None:
            self._forget()
            self._forget = None
        return result

    def _close(self, result: Any) -> Any:
        return self._guards.close().addCallback(lambda _: result)
