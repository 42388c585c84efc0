"""
The classic file conversation as a table: a request, a size, an acknowledgement, a body.
"""

from __future__ import annotations

from enum import Enum

from twisted_netsuite.wire.machine import Table


class Turn(Enum):
    """Whose turn it is."""

    IDLE = "waiting for a request"
    ANNOUNCED = "waiting for the acknowledgement of a size"
    SENDING = "sending a body"
    REFUSED = "waiting for a request, or the acknowledgement of a refusal"


class Event(Enum):
    """What can happen."""

    FOUND = "a request for a file that can be sent"
    NOT_FOUND = "a request that is refused"
    OTHER = "a chunk that is no request"
    SENT = "the end of a body"


class Act(Enum):
    """What the owner has to do."""

    ANNOUNCE = "send the file's size"
    REFUSE = "send an error"
    SEND = "send the body"
    NOTHING = "nothing"


TABLE: Table[Turn, Event, Act] = {
    (Turn.IDLE, Event.FOUND): (Act.ANNOUNCE, Turn.ANNOUNCED),
    (Turn.IDLE, Event.NOT_FOUND): (Act.REFUSE, Turn.REFUSED),
    (Turn.IDLE, Event.OTHER): (Act.REFUSE, Turn.REFUSED),
    (Turn.REFUSED, Event.FOUND): (Act.ANNOUNCE, Turn.ANNOUNCED),
    (Turn.REFUSED, Event.NOT_FOUND): (Act.REFUSE, Turn.REFUSED),
    # A client of the tutorial may acknowledge a refusal as if it were a size: swallowed, once.
    (Turn.REFUSED, Event.OTHER): (Act.NOTHING, Turn.IDLE),
    # Whatever comes now is the acknowledgement, also if it reads like a request.
    (Turn.ANNOUNCED, Event.OTHER): (Act.SEND, Turn.SENDING),
    (Turn.SENDING, Event.SENT): (Act.NOTHING, Turn.IDLE),
}
