"""
The life of one forwarded connection, as a table: two legs, each of which ends in two halves.

The I{client} is who connected to us, the I{target} is where we connect. Data is no input: it flows
on the hot path, and never changes a state.
"""

from __future__ import annotations

from enum import Enum

from twisted_netsuite.wire.machine import Table


class Flow(Enum):
    """Where a forwarded connection stands."""

    CONNECTING = "connecting to the target"
    CONNECTING_ENDED = "connecting to the target for a client that sends no more"
    CONNECTING_CLOSED = "connecting to the target for a client that has closed"
    OPEN = "open both ways"
    CLIENT_ENDED = "open from the target to the client only"
    TARGET_ENDED = "open from the client to the target only"
    CLOSED = "closed"


class Happening(Enum):
    """What can happen to it."""

    TARGET_OPEN = "the target's acceptance"
    TARGET_REFUSED = "the target's refusal"
    CLIENT_END = "the end of the client's data"
    TARGET_END = "the end of the target's data"
    CLIENT_CLOSED = "the full close of the client"
    CLIENT_LOST = "the loss of the client"
    TARGET_LOST = "the loss of the target"


class Effect(Enum):
    """What its owner has to do."""

    NOTHING = "nothing"
    JOIN = "join the legs"
    JOIN_AND_END_TARGET = "join the legs, then pass on the client's end"
    DELIVER = "give the target what the client had sent, then close it"
    DROP_CLIENT = "close the client"
    DROP_TARGET = "close the target, or give up connecting to it"
    END_TARGET = "pass on the client's end"
    END_CLIENT = "pass on the target's end"
    FINISH = "flush and close both legs"


TABLE: Table[Flow, Happening, Effect] = {
    (Flow.CONNECTING, Happening.TARGET_OPEN): (Effect.JOIN, Flow.OPEN),
    (Flow.CONNECTING, Happening.TARGET_REFUSED): (Effect.DROP_CLIENT, Flow.CLOSED),
    (Flow.CONNECTING, Happening.CLIENT_END): (Effect.NOTHING, Flow.CONNECTING_ENDED),
    # Over TLS a client that ends closes both directions at once: what it sent is still delivered.
    (Flow.CONNECTING, Happening.CLIENT_CLOSED): (Effect.NOTHING, Flow.CONNECTING_CLOSED),
    (Flow.CONNECTING, Happening.CLIENT_LOST): (Effect.DROP_TARGET, Flow.CLOSED),
    (Flow.CONNECTING_ENDED, Happening.TARGET_OPEN): (
        Effect.JOIN_AND_END_TARGET,
        Flow.CLIENT_ENDED,
    ),
    (Flow.CONNECTING_ENDED, Happening.TARGET_REFUSED): (Effect.DROP_CLIENT, Flow.CLOSED),
    (Flow.CONNECTING_ENDED, Happening.CLIENT_LOST): (Effect.DROP_TARGET, Flow.CLOSED),
    (Flow.CONNECTING_CLOSED, Happening.TARGET_OPEN): (Effect.DELIVER, Flow.CLOSED),
    (Flow.CONNECTING_CLOSED, Happening.TARGET_REFUSED): (Effect.NOTHING, Flow.CLOSED),
    (Flow.OPEN, Happening.CLIENT_END): (Effect.END_TARGET, Flow.CLIENT_ENDED),
    (Flow.OPEN, Happening.TARGET_END): (Effect.END_CLIENT, Flow.TARGET_ENDED),
    (Flow.OPEN, Happening.CLIENT_CLOSED): (Effect.DROP_TARGET, Flow.CLOSED),
    (Flow.OPEN, Happening.CLIENT_LOST): (Effect.DROP_TARGET, Flow.CLOSED),
    (Flow.OPEN, Happening.TARGET_LOST): (Effect.DROP_CLIENT, Flow.CLOSED),
    (Flow.CLIENT_ENDED, Happening.TARGET_END): (Effect.FINISH, Flow.CLOSED),
    (Flow.CLIENT_ENDED, Happening.CLIENT_CLOSED): (Effect.DROP_TARGET, Flow.CLOSED),
    (Flow.CLIENT_ENDED, Happening.CLIENT_LOST): (Effect.DROP_TARGET, Flow.CLOSED),
    (Flow.CLIENT_ENDED, Happening.TARGET_LOST): (Effect.DROP_CLIENT, Flow.CLOSED),
    (Flow.TARGET_ENDED, Happening.CLIENT_END): (Effect.FINISH, Flow.CLOSED),
    (Flow.TARGET_ENDED, Happening.CLIENT_CLOSED): (Effect.DROP_TARGET, Flow.CLOSED),
    (Flow.TARGET_ENDED, Happening.CLIENT_LOST): (Effect.DROP_TARGET, Flow.CLOSED),
    (Flow.TARGET_ENDED, Happening.TARGET_LOST): (Effect.DROP_CLIENT, Flow.CLOSED),
    (Flow.CLOSED, Happening.TARGET_OPEN): (Effect.DROP_TARGET, Flow.CLOSED),
    (Flow.CLOSED, Happening.TARGET_REFUSED): (Effect.NOTHING, Flow.CLOSED),
    (Flow.CLOSED, Happening.CLIENT_END): (Effect.NOTHING, Flow.CLOSED),
    (Flow.CLOSED, Happening.TARGET_END): (Effect.NOTHING, Flow.CLOSED),
    (Flow.CLOSED, Happening.CLIENT_CLOSED): (Effect.NOTHING, Flow.CLOSED),
    (Flow.CLOSED, Happening.CLIENT_LOST): (Effect.NOTHING, Flow.CLOSED),
    (Flow.CLOSED, Happening.TARGET_LOST): (Effect.NOTHING, Flow.CLOSED),
}
