"""
Ends of commands in the words of the wire: none is told as what it is not.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import NotFound
from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.ending import outcomeOf, signalName, signalNumber
from twisted_netsuite.rexec.launch import Lost, NotStarted


class EndingTests(SynchronousTestCase):
    """What the system says of an end."""

    def test_ownTrouble(self) -> None:
        """What the service has failed at is not told as if it were the command's, and a command
        that may still run is not told to be gone."""
        why = outcomeOf(NotStarted(13, "run /bin/sh", own=True))
        assert isinstance(why, outcome.NotStarted)
        self.assertEqual((why.code, why.status), ("internal", 125))
        self.assertNotIn("permission", why.reason)
        for clear in (True, False):
            lost = outcomeOf(Lost(clear))
            assert isinstance(lost, outcome.Lost)
            self.assertEqual("may still run" in lost.reason, not clear)

    def test_signals(self) -> None:
        """Every signal that has a name is found by it, and all others are told apart."""
        for number in range(1, 65):
            name = signalName(number)
            if not name.startswith("RTMIN+-"):
                self.assertEqual(signalNumber(name), number)
        for name in ("", "SIGTERM", "TERMS", "RTMIN+31", "RTMIN+", "RTMAX+1", "15"):
            self.assertRaises(NotFound, signalNumber, name)
