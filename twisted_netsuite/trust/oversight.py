"""
The one way for a service to ask whether it may do something, and to write down that it does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import AuditUnavailable, Denied, NetsuiteError
from twisted_netsuite.trust.audit import IAuditLog, NoAudit
from twisted_netsuite.trust.auditvalue import Value
from twisted_netsuite.trust.decisions import Decision, Policy
from twisted_netsuite.trust.identity import Identity


class IPolicySource(Protocol):
    """Where the policy of the moment is."""

    @property
    def policy(self) -> Policy:
        """The policy, as it was read last."""


class Withheld(Denied):
    """
    A denial of which the peer is not told all: the cause names rules and files of the server.

    @ivar cause: the whole of it, for the log.
    """

    def __init__(self, sentence: str, cause: str) -> None:
        """
        @param sentence: for the peer.
        @param cause: for the log.
        """
        super().__init__(sentence)
        self.cause = cause


def causeOf(error: NetsuiteError) -> str:
    """
    Tell why something was refused, for the log.

    @param error: the refusal.
    @return: one sentence, which the peer may not be told.
    """
    return error.cause if isinstance(error, Withheld) else error.sentence


class Oversight:
    """
    What stands over one service: a policy, an audit log, both or neither.

    @ivar service: the service's name, for the audit log.
    @ivar guarded: whether there is a policy.
    """

    def __init__(
        self,
        service: str = "",
        policy: IPolicySource | None = None,
        audit: IAuditLog | None = None,
    ) -> None:
        """
        @param service: the service's name.
        @param policy: tells what is allowed; without one the service's own options do.
        @param audit: takes what is done.
        """
        self.service = service
        self._policy = policy
        self._audit = audit or NoAudit()

    @property
    def guarded(self) -> bool:
        """Whether a policy tells what is allowed."""
        return self._policy is not None

    def under(self, policy: IPolicySource) -> Oversight:
        """
        Put another policy over the same service.

        @param policy: tells what is allowed.
        @return: what stands over it then.
        """
        return Oversight(self.service, policy, self._audit)

    def decide(self, ask: Callable[[Policy], Decision]) -> Decision:
        """
        Ask the policy.

        @param ask: puts the question to it.
        @return: its answer; where there is no policy, that the service's own options decide.
        """
        if self._policy is None:
            return Decision(True, "The options of the service allow it.", False)
        return ask(self._policy.policy)

    def begin(
        self,
        act: str,
        decision: Decision,
        *,
        peer: str,
        identity: Identity,
        **fields: Value,
    ) -> Deferred[None]:
        """
        Write down that something is about to be done, or was refused.

        @param act: what, as C{exec.start}; C{.denied} stands behind it when it was refused.
        @param decision: whether it is allowed.
        @param peer: the peer's address.
        @param identity: who the peer is.
        @param fields: what else there is to tell.
        @return: fires when it may be done; fails with L{Denied}, or with L{AuditUnavailable} when
            it may be done and cannot be written down. Neither before the record is written, so
            that who is denied over and over has one record at a time waiting for the disk.
        """
        event = act if decision.allowed else f"{act}.denied"
        if decision.source:
            fields["rule"] = decision.source
        if not decision.allowed:
            fields["reason"] = decision.reason
        written = self._audit.record(
            event,
            service=self.service,
            peer=peer,
            identity=identity,
            durable=decision.durable,
            denial=not decision.allowed,
            **fields,
        )
        if decision.allowed:
            return written
        return written.addBoth(self._deny, identity, decision.reason)

    def _deny(self, written: Failure | None, identity: Identity, reason: str) -> None:
        if written is not None:
            # That it cannot be written down makes a refusal no less of one.
            written.trap(AuditUnavailable)
        if not self.guarded:
            raise Denied(reason)
        raise Withheld(f"the policy of this service does not allow it to {identity}.", reason)

    def note(self, event: str, *, peer: str, identity: Identity, **fields: Value) -> None:
        """
        Write down what has happened, as far as that can be done.

        @param event: what, as C{exec.end}.
        @param peer: the peer's address.
        @param identity: who the peer is.
        @param fields: what else there is to tell.
        """
        written = self._audit.record(
            event,
            service=self.service,
            peer=peer,
            identity=identity,
            durable=False,
            denial=False,
            **fields,
        )
        # The audit log has told the operator already.
        written.addErrback(lambda failure: failure.trap(AuditUnavailable) and None)


#: For services that nothing stands over.
UNSEEN = Oversight()
