"""
One request of the native files protocol that takes more than an answer, as the server sees it: a
table for what is sent, a list or a file, and one for what is received.

What is asked of a name alone, and answered at once, needs no table.
"""

from __future__ import annotations

from twisted_netsuite.wire.machine import Machine, Symbol, Table


class State(Symbol):
    """Where a request stands."""

    OPENING = "opening what was asked for"
    SENDING = "sending"
    FOLLOWED = "receiving what follows at once"
    RECEIVING = "receiving"
    PUBLISHING = "publishing"
    STOPPING = "stopping"
    FAILED = "failed, before the client knows"
    OVER = "over"


class Input(Symbol):
    """What can happen: the client sends a record, or the server does."""

    BODY = "BODY"
    HOLES = "HOLES"
    COMMIT = "COMMIT"
    CANCEL = "CANCEL"
    FOUND = "FOUND"
    PART = "a part of an answer"
    READY = "READY"
    DONE = "DONE"
    FAILED = "FAILED"


class Effect(Symbol):
    """What the owner of the machine has to do."""

    SEND = "send it"
    TAKE = "take it"
    DROP = "drop it"
    PUBLISH = "publish"
    STOP = "stop"
    FORGET = "forget the request"


Rows = Table[State, Input, Effect]

#: GET, LIST and MANIFEST.
SENDING_TABLE: Rows = {
    (State.OPENING, Input.FOUND): (Effect.SEND, State.SENDING),
    (State.OPENING, Input.PART): (Effect.SEND, State.SENDING),
    (State.OPENING, Input.DONE): (Effect.SEND, State.OVER),
    (State.OPENING, Input.FAILED): (Effect.SEND, State.OVER),
    (State.OPENING, Input.CANCEL): (Effect.STOP, State.STOPPING),
    (State.SENDING, Input.PART): (Effect.SEND, State.SENDING),
    (State.SENDING, Input.DONE): (Effect.SEND, State.OVER),
    (State.SENDING, Input.FAILED): (Effect.SEND, State.OVER),
    (State.SENDING, Input.CANCEL): (Effect.STOP, State.STOPPING),
    # What was under way when CANCEL came is sent, or dropped.
    (State.STOPPING, Input.FOUND): (Effect.DROP, State.STOPPING),
    (State.STOPPING, Input.PART): (Effect.DROP, State.STOPPING),
    (State.STOPPING, Input.DONE): (Effect.SEND, State.OVER),
    (State.STOPPING, Input.FAILED): (Effect.SEND, State.OVER),
}

#: PUT, JOIN and PUT-BUNDLE, whose bytes are its only body; their end is its COMMIT, and BUNDLE is a
#: part of an answer. Who is told FAILED before it has sent COMMIT or CANCEL has to send CANCEL, so
#: that both ends know what still comes.
RECEIVING_TABLE: Rows = {
    (State.OPENING, Input.READY): (Effect.SEND, State.RECEIVING),
    (State.OPENING, Input.FAILED): (Effect.SEND, State.FAILED),
    (State.OPENING, Input.CANCEL): (Effect.STOP, State.STOPPING),
    (State.FOLLOWED, Input.BODY): (Effect.TAKE, State.FOLLOWED),
    (State.FOLLOWED, Input.COMMIT): (Effect.PUBLISH, State.PUBLISHING),
    (State.FOLLOWED, Input.CANCEL): (Effect.STOP, State.STOPPING),
    (State.RECEIVING, Input.BODY): (Effect.TAKE, State.RECEIVING),
    (State.RECEIVING, Input.HOLES): (Effect.TAKE, State.RECEIVING),
    (State.RECEIVING, Input.COMMIT): (Effect.PUBLISH, State.PUBLISHING),
    (State.RECEIVING, Input.FAILED): (Effect.SEND, State.FAILED),
    (State.RECEIVING, Input.CANCEL): (Effect.STOP, State.STOPPING),
    (State.PUBLISHING, Input.PART): (Effect.SEND, State.PUBLISHING),
    (State.PUBLISHING, Input.DONE): (Effect.SEND, State.OVER),
    (State.PUBLISHING, Input.FAILED): (Effect.SEND, State.OVER),
    (State.PUBLISHING, Input.CANCEL): (Effect.DROP, State.PUBLISHING),
    (State.STOPPING, Input.READY): (Effect.DROP, State.STOPPING),
    (State.STOPPING, Input.DONE): (Effect.SEND, State.OVER),
    (State.STOPPING, Input.FAILED): (Effect.SEND, State.OVER),
    (State.FAILED, Input.BODY): (Effect.DROP, State.FAILED),
    (State.FAILED, Input.HOLES): (Effect.DROP, State.FAILED),
    (State.FAILED, Input.READY): (Effect.DROP, State.FAILED),
    (State.FAILED, Input.FAILED): (Effect.DROP, State.FAILED),
    (State.FAILED, Input.COMMIT): (Effect.FORGET, State.OVER),
    (State.FAILED, Input.CANCEL): (Effect.FORGET, State.OVER),
}

RequestMachine = Machine[State, Input, Effect]


def sendingMachine() -> RequestMachine:
    """
    Begin a GET, a LIST or a MANIFEST.

    @return: its machine.
    """
    return Machine(SENDING_TABLE, State.OPENING)


def receivingMachine(follows: bool) -> RequestMachine:
    """
    Begin a PUT, a JOIN or a PUT-BUNDLE.

    @param follows: whether a body may come at once.
    @return: its machine.
    """
    return Machine(RECEIVING_TABLE, State.FOLLOWED if follows else State.OPENING)
