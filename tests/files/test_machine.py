"""
The tables of requests at the server: each ends once, and what may not come names itself.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.files.machine import (
    RECEIVING_TABLE,
    SENDING_TABLE,
    Input,
    State,
    receivingMachine,
    sendingMachine,
)


class TableTests(SynchronousTestCase):
    """What holds for every row."""

    def test_over(self) -> None:
        """What is over stays over."""
        for table in (SENDING_TABLE, RECEIVING_TABLE):
            self.assertNotIn(State.OVER, {state for state, _ in table})

    def test_ends(self) -> None:
        """From every state that is reached there is a way to the end."""
        for table in (SENDING_TABLE, RECEIVING_TABLE):
            ending = {State.OVER}
            for _ in table:
                ending |= {state for (state, _), (_, to) in table.items() if to in ending}
            self.assertEqual({to for _, to in table.values()} - ending, set())

    def test_starts(self) -> None:
        """A file of one chunk may come at once, and a larger one has to wait for READY."""
        self.assertIs(receivingMachine(True).state, State.FOLLOWED)
        self.assertIs(receivingMachine(False).state, State.OPENING)
        self.assertIs(sendingMachine().state, State.OPENING)

    @given(st.booleans(), st.lists(st.sampled_from(Input)))
    def test_any(self, follows: bool, inputs: list[Input]) -> None:
        """Any input is taken, or refused by name with the state as it was."""
        for machine in (receivingMachine(follows), sendingMachine()):
            for symbol in inputs:
                before = machine.state
                try:
                    machine.feed(symbol)
                except ProtocolError as error:
                    self.assertIs(machine.state, before)
                    self.assertIn(symbol.value, str(error))
                    self.assertIn(before.value, str(error))
