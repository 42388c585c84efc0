"""
A service of one's own over native sessions: notes that each client keeps for itself, behind client
certificates, a policy and an audit log.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import react
from twisted.python.failure import Failure

from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.net.framed import SessionFactory, SessionProtocol
from twisted_netsuite.trust.audit import AuditLog
from twisted_netsuite.trust.oversight import Oversight
from twisted_netsuite.trust.policy import PolicyFile
from twisted_netsuite.wire.session import Record

Text = Annotated[str, msgspec.Meta(max_length=1000)]


class Keep(Record, frozen=True, kw_only=True, tag="keep", tag_field="type"):
    """Keep a note; without text, tell the one that is kept."""

    text: Text = ""


class Kept(Record, frozen=True, kw_only=True, tag="kept", tag_field="type"):
    """The note that is kept."""

    text: Text


class Notes(SessionProtocol):
    """One client."""

    factory: NotesFactory

    def recordReceived(self, record: Record) -> None:
        """Ask whether it may be done, write down that it is, and do it."""
        assert isinstance(record, Keep)
        oversight, who = self.factory.oversight, self.identity
        decision = oversight.decide(lambda policy: policy.files(who, "write", "/notes"))
        begun = oversight.begin("notes.keep", decision, peer=self.address, identity=who)
        begun.addCallbacks(lambda _: self.keep(record.text), self.refused)

    def refused(self, failure: Failure) -> None:
        """Tell the client, and go on."""
        failure.trap(NetsuiteError)
        self.fail(cast(NetsuiteError, failure.value))

    def keep(self, text: str) -> None:
        """Keep a note, and tell it."""
        notes, name = self.factory.notes, str(self.identity)
        if text:
            notes[name] = text
        self.sendRecord(Kept(text=notes.get(name, "")))


class NotesFactory(SessionFactory):
    """Keeps one note for each identity."""

    protocol = Notes

    def __init__(self, reactor: Any, oversight: Oversight) -> None:
        super().__init__(reactor, "notes", (Keep, Kept), requireIdentity=True)
        self.oversight = oversight
        self.notes: dict[str, str] = {}


async def main(reactor: Any, listen: str, policyFile: str, auditFile: str) -> None:
    """Serve until the process is stopped."""
    audit = AuditLog(auditFile, reactor)
    audit.open()
    reactor.addSystemEventTrigger("before", "shutdown", audit.close)
    oversight = Oversight("notes", PolicyFile(policyFile), audit)
    await serverFromString(reactor, listen).listen(NotesFactory(reactor, oversight))
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
