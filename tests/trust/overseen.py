"""
What stands over a service in tests: a policy from a text, and an audit log that waits to be told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from twisted_netsuite.trust.audit import AuditNotes, IAuditLog
from twisted_netsuite.trust.decisions import Policy
from twisted_netsuite.trust.identity import Identity
from twisted_netsuite.trust.oversight import Oversight
from twisted_netsuite.trust.reading import readPolicy

#: Where the policies of tests seem to be: nothing of it may reach a peer.
PLACE = "/etc/hidden/policy.toml"

ANNA = Identity("cert", "anna")
BOB = Identity("unix", "bob")
CARL = Identity("cert", "carl")


@dataclass
class Told:
    """A policy that a test can put another in the place of."""

    policy: Policy


def policyFrom(text: str) -> Policy:
    """Read a policy that is right."""
    policy, faults = readPolicy(text, PLACE)
    assert not faults, faults
    return policy


class HeldNotes(AuditNotes):
    """
    An audit log in memory whose disk is slow.

    @ivar holding: whether what is recorded has to wait.
    @ivar waiting: what waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.holding = True
        self.waiting: list[Deferred[None]] = []

    def record(self, event: str, **told: Any) -> Deferred[None]:
        """Note a record, of which it is not known yet whether it has reached the disk."""
        written = super().record(event, **told)
        if not self.holding or self.failure is not None:
            return written
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def let(self) -> None:
        """Let the disk be done with all, and wait no more."""
        self.holding = False
        while self.waiting:
            self.waiting.pop(0).callback(None)

    def giveUp(self, error: Exception) -> None:
        """Let the disk fail with all that waits."""
        while self.waiting:
            self.waiting.pop(0).errback(error)


def events(notes: AuditNotes) -> list[str]:
    """List what happened, in order."""
    return [record["event"] for record in notes.records]


def overseen(text: str | None, notes: IAuditLog | None = None, service: str = "test") -> Oversight:
    """
    Put a policy and an audit log over a service.

    @param text: the policy; C{None} for none.
    @param notes: the audit log, if there is one.
    @param service: its name.
    """
    return Oversight(service, None if text is None else Told(policyFrom(text)), notes)
