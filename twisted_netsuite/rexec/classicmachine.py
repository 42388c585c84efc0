"""
The classic exec conversation as a table: a command, its answer, and in the I{length} dialect an
acknowledgement between the answer's length and the answer.
"""

from __future__ import annotations

from enum import Enum

from twisted_netsuite.wire.machine import Table


class Turn(Enum):
    """Whose turn it is."""

    IDLE = "waiting for a command"
    RUNNING = "running a command"
    ANNOUNCED = "waiting for the acknowledgement of a length"


class Event(Enum):
    """What can happen."""

    CHUNK = "a chunk from the client"
    ANSWER = "a complete answer"
    LENGTH = "an answer of which the length goes first"


class Act(Enum):
    """What the owner has to do."""

    RUN = "run the chunk as a command"
    SEND = "send what there is"
    SEND_REST = "send the answer that was announced"


TABLE: Table[Turn, Event, Act] = {
    (Turn.IDLE, Event.CHUNK): (Act.RUN, Turn.RUNNING),
    (Turn.RUNNING, Event.ANSWER): (Act.SEND, Turn.IDLE),
    (Turn.RUNNING, Event.LENGTH): (Act.SEND, Turn.ANNOUNCED),
    (Turn.ANNOUNCED, Event.CHUNK): (Act.SEND_REST, Turn.IDLE),
}
