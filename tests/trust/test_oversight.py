"""
Asking whether something may be done, and writing down that it is.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from tests.trust.auditdisk import atOnce, clockAt
from tests.trust.overseen import ANNA, BOB, PLACE, HeldNotes, Told, events, overseen, policyFrom
from twisted_netsuite.errors import AuditUnavailable, Denied
from twisted_netsuite.trust.audit import AuditLog, AuditNotes
from twisted_netsuite.trust.decisions import Decision, Policy
from twisted_netsuite.trust.denials import BURST
from twisted_netsuite.trust.identity import ANONYMOUS, Identity
from twisted_netsuite.trust.oversight import UNSEEN, Oversight, Withheld, causeOf

POLICY = """
[identities]
"cert:anna" = ["reader"]
[[roles.reader.files]]
paths = ["/private/**"]
deny = true
[[roles.reader.files]]
paths = ["/**"]
durable = true
"""

FULL = AuditUnavailable("The audit log cannot be written: no space left on device.")


class DecideTests(SynchronousTestCase):
    """L{Oversight.decide}"""

    def test_withoutPolicy(self) -> None:
        """Where there is no policy nobody is asked, and the service's own options decide."""
        for oversight in (UNSEEN, Oversight("files", None, AuditNotes())):
            decision = oversight.decide(lambda policy: self.fail("there is none to ask"))
            self.assertTrue(decision.allowed)
            self.assertEqual((decision.rule, decision.source, decision.durable), (None, "", False))
            self.assertFalse(oversight.guarded)

    def test_policy(self) -> None:
        """A policy answers, and what it does not allow is denied."""
        oversight = overseen(POLICY)
        self.assertTrue(oversight.guarded)
        for who, path, allowed in (
            (ANNA, b"/a", True),
            (ANNA, b"/private/a", False),
            (BOB, b"/a", False),
            (ANONYMOUS, b"/a", False),
        ):
            decision = oversight.decide(partial(self.reading, who, path))
            self.assertIs(decision.allowed, allowed, (who, path))

    def reading(self, who: Identity, path: bytes, policy: Policy) -> Decision:
        """Ask whether somebody may read a file."""
        return policy.files(who, "read", path)

    def test_ofTheMoment(self) -> None:
        """Who asks again gets the answer of the policy that holds then."""
        source = Told(policyFrom(""))
        oversight = Oversight("files", source)

        def allowed() -> bool:
            return oversight.decide(lambda policy: policy.files(ANNA, "read", b"/a")).allowed

        self.assertFalse(allowed())
        source.policy = policyFrom(POLICY)
        self.assertTrue(allowed())


class BeginTests(SynchronousTestCase):
    """L{Oversight.begin}"""

    def begin(
        self, oversight: Oversight, path: bytes = b"/a", who: Identity = ANNA, **fields: Any
    ) -> Deferred[None]:
        """Ask for a file and begin to read it."""
        decision = oversight.decide(lambda policy: policy.files(who, "read", path))
        return oversight.begin(
            "files.read", decision, peer="127.0.0.1:1", identity=who, path=path, **fields
        )

    def test_allowed(self) -> None:
        """What is allowed is recorded with who, what and by which rule, as durably as it says."""
        notes = AuditNotes()
        begun = self.begin(overseen(POLICY, notes, "files"), size=3)
        self.assertIsNone(self.successResultOf(begun))
        self.assertEqual(
            notes.records,
            [
                {
                    "event": "files.read",
                    "service": "files",
                    "peer": "127.0.0.1:1",
                    "identity": "cert:anna",
                    "path": b"/a",
                    "size": 3,
                    "rule": f"{PLACE}:7",
                    "durable": True,
                }
            ],
        )

    def test_denied(self) -> None:
        """What is denied is recorded as that, with the whole reason."""
        notes = AuditNotes()
        self.failureResultOf(self.begin(overseen(POLICY, notes), b"/private/a"), Denied)
        (record,) = notes.records
        self.assertEqual(record["event"], "files.read.denied")
        self.assertEqual(record["rule"], f"{PLACE}:4")
        self.assertEqual(
            record["reason"], f"cert:anna may not read '/private/a': {PLACE}:4 denies it."
        )

    def test_flood(self) -> None:
        """The log is told what is a denial, so that it can bound them; each is one to its peer."""
        path = str(self.mktemp())
        log = AuditLog(path, clockAt(), inThread=atOnce)
        log.open()
        oversight = overseen(POLICY, log)
        for _ in range(200):
            self.failureResultOf(self.begin(oversight, b"/private/" + b"x" * 60_000), Withheld)
        for _ in range(200):
            self.successResultOf(self.begin(oversight, b"/a"))
        log.close()
        lines = Path(path).read_bytes().splitlines()
        found = Counter(json.loads(line)["event"] for line in lines)
        self.assertEqual(found["files.read.denied"], BURST + 1)
        self.assertEqual(found["files.read"], 200)

    def test_noRule(self) -> None:
        """A denial for want of a rule names none."""
        notes = AuditNotes()
        self.failureResultOf(self.begin(overseen(POLICY, notes), who=BOB), Denied)
        self.assertNotIn("rule", notes.records[0])
        self.assertIn("no role in this policy", notes.records[0]["reason"])

    def test_peerIsNotToldAll(self) -> None:
        """A peer learns who it is taken for and that it is denied, and nothing of the policy."""
        for who, path in ((ANNA, b"/private/a"), (BOB, b"/a"), (ANNA, b"/../a")):
            begun = self.begin(overseen(POLICY), path, who)
            error = self.failureResultOf(begun, Withheld).value
            assert isinstance(error, Withheld)
            self.assertEqual(
                error.sentence, f"the policy of this service does not allow it to {who}."
            )
            self.assertEqual((error.wireCode, error.exitStatus), ("denied", 126))
            self.assertTrue(causeOf(error).startswith(f"{who} may not read"), causeOf(error))

    def test_withoutPolicy(self) -> None:
        """What the service's own options deny is said to the peer as they say it."""
        for oversight in (UNSEEN, overseen(None, AuditNotes())):
            decision = Decision(False, "no files on Sundays.", False)
            begun = oversight.begin("files.read", decision, peer="", identity=ANNA)
            error = self.failureResultOf(begun, Denied).value
            assert isinstance(error, Denied)
            self.assertNotIsInstance(error, Withheld)
            self.assertEqual((error.sentence, causeOf(error)), ("no files on Sundays.",) * 2)

    def test_afterTheRecord(self) -> None:
        """Neither a permission nor a denial comes before its record is written."""
        for path in (b"/a", b"/private/a"):
            notes = HeldNotes()
            begun = self.begin(overseen(POLICY, notes), path)
            self.assertEqual(len(notes.records), 1)
            self.assertNoResult(begun)
            notes.let()
            if path == b"/a":
                self.assertIsNone(self.successResultOf(begun))
            else:
                self.failureResultOf(begun, Withheld)

    def test_unavailable(self) -> None:
        """What cannot be recorded is not allowed, now or after a while."""
        notes = HeldNotes()
        oversight = overseen(POLICY, notes)
        later = self.begin(oversight)
        notes.failure = FULL
        self.assertIs(self.failureResultOf(self.begin(oversight)).value, FULL)
        notes.giveUp(FULL)
        self.assertIs(self.failureResultOf(later).value, FULL)

    def test_deniedAndUnavailable(self) -> None:
        """A denial that cannot be recorded is still a denial, now or after a while."""
        notes = HeldNotes()
        oversight = overseen(POLICY, notes)
        later = self.begin(oversight, b"/private/a")
        notes.failure = FULL
        self.failureResultOf(self.begin(oversight, b"/private/a"), Withheld)
        notes.giveUp(FULL)
        self.failureResultOf(later, Withheld)

    def test_unexpected(self) -> None:
        """A fault of the log itself is not taken for anything else."""
        notes = AuditNotes()
        self.patch(notes, "record", lambda *_, **__: fail(ZeroDivisionError()))
        for path in (b"/a", b"/private/a"):
            self.failureResultOf(self.begin(overseen(POLICY, notes), path), ZeroDivisionError)


class NoteTests(SynchronousTestCase):
    """L{Oversight.note}"""

    def test_note(self) -> None:
        """What has happened is recorded, and nobody waits for the disk."""
        notes = AuditNotes()
        overseen(POLICY, notes, "exec").note("exec.end", peer="p", identity=BOB, status=3)
        (record,) = notes.records
        self.assertEqual((record["event"], record["service"]), ("exec.end", "exec"))
        self.assertEqual((record["identity"], record["status"]), ("unix:bob", 3))
        self.assertFalse(record["durable"])

    def test_unavailable(self) -> None:
        """That it cannot be recorded changes nothing, now or after a while."""
        notes = HeldNotes()
        oversight = overseen(POLICY, notes)
        oversight.note("exec.end", peer="p", identity=BOB)
        notes.giveUp(FULL)
        notes.failure = FULL
        oversight.note("exec.end", peer="p", identity=BOB)
        self.assertEqual(events(notes), ["exec.end"])

    def test_unseen(self) -> None:
        """Where there is no log there is nothing to fail."""
        UNSEEN.note("exec.end", peer="p", identity=BOB)
