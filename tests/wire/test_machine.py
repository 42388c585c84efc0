"""
State machines as tables: whatever is not in the table is a protocol error.
"""

from __future__ import annotations

from enum import Enum

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.wire.machine import Machine


class State(Enum):
    """States of a door."""

    OPEN = "open"
    CLOSED = "closed"
    LOCKED = "locked"


class Input(Enum):
    """What happens to it."""

    PUSH = "a push"
    TURN = "a turn"


class Effect(Enum):
    """What comes of it."""

    BANG = "bang"
    CLICK = "click"


TABLE = {
    (State.OPEN, Input.PUSH): (Effect.BANG, State.CLOSED),
    (State.CLOSED, Input.TURN): (Effect.CLICK, State.LOCKED),
    (State.LOCKED, Input.TURN): (Effect.CLICK, State.CLOSED),
}


class MachineTests(SynchronousTestCase):
    """One run through a table."""

    def test_start(self) -> None:
        """A machine stands where it was told to begin."""
        self.assertIs(Machine(TABLE, State.LOCKED).state, State.LOCKED)

    def test_everyStateAndInput(self) -> None:
        """Each state takes each input as the table says, or refuses it and stays as it is."""
        for state in State:
            for symbol in Input:
                machine = Machine(TABLE, state)
                if (state, symbol) in TABLE:
                    self.assertEqual((machine.feed(symbol), machine.state), TABLE[state, symbol])
                else:
                    self.assertRaises(ProtocolError, machine.feed, symbol)
                    self.assertIs(machine.state, state)

    def test_sentence(self) -> None:
        """A refusal names what came and where the machine stood."""
        with self.assertRaises(ProtocolError) as caught:
            Machine(TABLE, State.LOCKED).feed(Input.PUSH)
        self.assertEqual(caught.exception.sentence, "a push is not expected while locked.")

    def test_independent(self) -> None:
        """Two machines on one table do not share their state."""
        one, two = Machine(TABLE, State.OPEN), Machine(TABLE, State.OPEN)
        one.feed(Input.PUSH)
        self.assertIs(two.state, State.OPEN)

    @settings(deadline=None)
    @given(st.lists(st.sampled_from(list(Input))))
    def test_anyRun(self, symbols: list[Input]) -> None:
        """Any run of inputs leaves the machine where a walk through the table leads."""
        machine, state = Machine(TABLE, State.OPEN), State.OPEN
        for symbol in symbols:
            try:
                machine.feed(symbol)
            except ProtocolError:
                continue
            state = TABLE[state, symbol][1]
        self.assertIs(machine.state, state)
