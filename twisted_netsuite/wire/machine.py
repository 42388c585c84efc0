"""
State machines as tables: what is not in the table is a protocol error.

A machine holds a state and nothing else; effects are words that its owner carries out.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

from twisted_netsuite.errors import ProtocolError


class Symbol(Enum):
    """
    A state, an input or an effect.

    As with every enumeration there is one object of each, so it is hashed as an object: Enum's own
    hash is a call of Python's, of which each transition would make several.
    """

    __hash__ = object.__hash__


S = TypeVar("S", bound=Enum)
I = TypeVar("I", bound=Enum)  # noqa: E741
E = TypeVar("E", bound=Enum)

#: (state, input) -> (effect, next state)
Table = Mapping[tuple[S, I], tuple[E, S]]


class Machine(Generic[S, I, E]):
    """
    One run through a table of transitions.

    @ivar state: where the machine stands.
    """

    def __init__(self, table: Table[S, I, E], start: S) -> None:
        """
        @param table: every legal transition.
        @param start: the first state.
        """
        self._table = table
        self.state = start

    def feed(self, symbol: I) -> E:
        """
        Take one input.

        @param symbol: what happened.
        @return: what the owner of the machine has to do.
        @raise ProtocolError: when the table has no such transition; the state stays as it was.
        """
        try:
            effect, self.state = self._table[self.state, symbol]
        except KeyError:
            raise ProtocolError(
                f"{symbol.value} is not expected while {self.state.value}."
            ) from None
        return effect
