"""
The life of a forwarded connection, in every state and with everything that can happen.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.proxy.machine import TABLE, Effect, Flow, Happening
from twisted_netsuite.wire.machine import Machine

#: What must be done, and where that leads; a dash is what can never happen. One row a state; the
#: columns are TARGET_OPEN, TARGET_REFUSED, CLIENT_END, TARGET_END, CLIENT_CLOSED, CLIENT_LOST and
#: TARGET_LOST.
PROMISED = """
CONNECTING:        JOIN>OPEN                        DROP_CLIENT>CLOSED NOTHING>CONNECTING_ENDED
                   -            NOTHING>CONNECTING_CLOSED DROP_TARGET>CLOSED -
CONNECTING_ENDED:  JOIN_AND_END_TARGET>CLIENT_ENDED DROP_CLIENT>CLOSED -
                   -                        -             DROP_TARGET>CLOSED -
CONNECTING_CLOSED: DELIVER>CLOSED                   NOTHING>CLOSED     -
                   -                        -             -                  -
OPEN:              -                                -                  END_TARGET>CLIENT_ENDED
                   END_CLIENT>TARGET_ENDED  DROP_TARGET>CLOSED DROP_TARGET>CLOSED DROP_CLIENT>CLOSED
CLIENT_ENDED:      -                                -                  -
                   FINISH>CLOSED            DROP_TARGET>CLOSED DROP_TARGET>CLOSED DROP_CLIENT>CLOSED
TARGET_ENDED:      -                                -                  FINISH>CLOSED
                   -                        DROP_TARGET>CLOSED DROP_TARGET>CLOSED DROP_CLIENT>CLOSED
CLOSED:            DROP_TARGET>CLOSED               NOTHING>CLOSED     NOTHING>CLOSED
                   NOTHING>CLOSED           NOTHING>CLOSED     NOTHING>CLOSED     NOTHING>CLOSED
"""


def promised() -> dict[tuple[Flow, Happening], str]:
    """Read the table above."""
    cells: dict[tuple[Flow, Happening], str] = {}
    state, column = Flow.CONNECTING, 0
    happenings = list(Happening)
    for word in PROMISED.split():
        if word.endswith(":"):
            state, column = Flow[word[:-1]], 0
        else:
            cells[state, happenings[column]] = word
            column += 1
    return cells


class TableTests(SynchronousTestCase):
    """L{TABLE}."""

    def test_everyCell(self) -> None:
        """Everything that can happen in a state does what is promised, and nothing else can."""
        cells = promised()
        self.assertEqual(len(cells), len(Flow) * len(Happening))
        for (state, happening), cell in cells.items():
            machine: Machine[Flow, Happening, Effect] = Machine(TABLE, state)
            if cell == "-":
                error = self.assertRaises(ProtocolError, machine.feed, happening)
                self.assertEqual(
                    str(error), f"{happening.value} is not expected while {state.value}."
                )
                self.assertIs(machine.state, state)
            else:
                effect = machine.feed(happening)
                self.assertEqual(f"{effect.name}>{machine.state.name}", cell)

    @settings(deadline=None)
    @given(st.data())
    def test_everyLifeEnds(self, data: st.DataObject) -> None:
        """Whatever happens, a flow is closed after three steps at the most, and stays so."""
        machine: Machine[Flow, Happening, Effect] = Machine(TABLE, Flow.CONNECTING)
        steps = 0
        while machine.state is not Flow.CLOSED:
            legal = [happening for state, happening in TABLE if state is machine.state]
            machine.feed(data.draw(st.sampled_from(legal)))
            steps += 1
        self.assertLessEqual(steps, 3)
        for happening in data.draw(st.lists(st.sampled_from(list(Happening)))):
            self.assertIn(machine.feed(happening), (Effect.NOTHING, Effect.DROP_TARGET))
            self.assertIs(machine.state, Flow.CLOSED)
