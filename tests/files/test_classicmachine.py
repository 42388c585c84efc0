"""The table of the classic file conversation."""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.files.classicmachine import TABLE, Act, Event, Turn
from twisted_netsuite.wire.machine import Machine

LEGAL = {
    (Turn.IDLE, Event.FOUND): (Act.ANNOUNCE, Turn.ANNOUNCED),
    (Turn.IDLE, Event.NOT_FOUND): (Act.REFUSE, Turn.REFUSED),
    (Turn.IDLE, Event.OTHER): (Act.REFUSE, Turn.REFUSED),
    (Turn.REFUSED, Event.FOUND): (Act.ANNOUNCE, Turn.ANNOUNCED),
    (Turn.REFUSED, Event.NOT_FOUND): (Act.REFUSE, Turn.REFUSED),
    (Turn.REFUSED, Event.OTHER): (Act.NOTHING, Turn.IDLE),
    (Turn.ANNOUNCED, Event.OTHER): (Act.SEND, Turn.SENDING),
    (Turn.SENDING, Event.SENT): (Act.NOTHING, Turn.IDLE),
}


class TableTests(SynchronousTestCase):
    def test_everyStateAndInput(self) -> None:
        """Every state takes exactly the inputs of its dialect; all others are protocol errors."""
        for turn, event in product(Turn, Event):
            machine = Machine(TABLE, turn)
            if (turn, event) in LEGAL:
                act, after = LEGAL[turn, event]
                self.assertEqual((machine.feed(event), machine.state), (act, after))
            else:
                error = self.assertRaises(ProtocolError, machine.feed, event)
                self.assertIn(event.value, error.sentence)
                self.assertIn(turn.value, error.sentence)
                self.assertIs(machine.state, turn)
