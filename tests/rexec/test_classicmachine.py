"""The table of the classic exec conversation."""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.rexec.classicmachine import TABLE, Act, Event, Turn
from twisted_netsuite.wire.machine import Machine

LEGAL = {
    (Turn.IDLE, Event.CHUNK): (Act.RUN, Turn.RUNNING),
    (Turn.RUNNING, Event.ANSWER): (Act.SEND, Turn.IDLE),
    (Turn.RUNNING, Event.LENGTH): (Act.SEND, Turn.ANNOUNCED),
    (Turn.ANNOUNCED, Event.CHUNK): (Act.SEND_REST, Turn.IDLE),
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
