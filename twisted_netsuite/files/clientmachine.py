"""
One request of the native files protocol, as the client sees it: a table for each kind; not which
chunks may come, which is in L{files.offering}.

In a request that was cancelled everything is expected that was on its way, and dropped.
"""

from __future__ import annotations

from twisted_netsuite.wire.machine import Machine, Symbol, Table


class State(Symbol):
    """Where a request stands."""

    ASKED = "waiting for an answer"
    LISTING = "reading a list"
    RECEIVING = "receiving a file"
    SENDING = "sending a file"
    COMMITTED = "waiting for a file to be published"
    CANCELLED = "cancelled"
    OVER = "over"


class Input(Symbol):
    """What can happen: the client sends a record, or the server does."""

    BODY = "BODY"
    HOLES = "HOLES"
    COMMIT = "COMMIT"
    CANCEL = "CANCEL"
    FOUND = "FOUND"
    HAVE = "HAVE"
    READY = "READY"
    ENTRIES = "ENTRIES"
    BUNDLE = "BUNDLE"
    DONE = "DONE"
    FAILED = "FAILED"


class Effect(Symbol):
    """What the owner of the machine has to do."""

    SEND = "send it"
    BEGIN = "begin"
    TAKE = "take it"
    DROP = "drop it"
    FINISH = "finish"
    FAIL = "fail"
    BREAK = "send CANCEL, and fail"
    FORGET = "forget the request"


Rows = Table[State, Input, Effect]

_CANCELLED: Rows = {
    (State.CANCELLED, Input.DONE): (Effect.FORGET, State.OVER),
    (State.CANCELLED, Input.FAILED): (Effect.FORGET, State.OVER),
}


def _dropped(*inputs: Input) -> Rows:
    return {(State.CANCELLED, each): (Effect.DROP, State.CANCELLED) for each in inputs}


def _ending(*states: State) -> Rows:
    return {
        (state, symbol): transition
        for state in states
        for symbol, transition in {
            Input.DONE: (Effect.FINISH, State.OVER),
            Input.FAILED: (Effect.FAIL, State.OVER),
            Input.CANCEL: (Effect.SEND, State.CANCELLED),
        }.items()
    }


#: STAT, HASH, MKDIR, RENAME, REMOVE and CHANGE.
QUESTION_TABLE: Rows = {**_ending(State.ASKED), **_CANCELLED}

#: LIST and MANIFEST.
LIST_TABLE: Rows = {
    **_ending(State.ASKED, State.LISTING),
    (State.ASKED, Input.ENTRIES): (Effect.TAKE, State.LISTING),
    (State.LISTING, Input.ENTRIES): (Effect.TAKE, State.LISTING),
    **_CANCELLED,
    **_dropped(Input.ENTRIES),
}

GET_TABLE: Rows = {
    **_ending(State.RECEIVING),
    (State.ASKED, Input.FOUND): (Effect.BEGIN, State.RECEIVING),
    (State.ASKED, Input.FAILED): (Effect.FAIL, State.OVER),
    (State.ASKED, Input.CANCEL): (Effect.SEND, State.CANCELLED),
    (State.RECEIVING, Input.BODY): (Effect.TAKE, State.RECEIVING),
    (State.RECEIVING, Input.HOLES): (Effect.TAKE, State.RECEIVING),
    **_CANCELLED,
    **_dropped(Input.FOUND, Input.BODY, Input.HOLES),
}

#: PUT and JOIN; one that does not wait for READY begins where that has come. Each is ended by this
#: end, too, by COMMIT or by CANCEL, so that both know what still comes.
PUT_TABLE: Rows = {
    (State.ASKED, Input.HAVE): (Effect.TAKE, State.ASKED),
    (State.ASKED, Input.READY): (Effect.BEGIN, State.SENDING),
    (State.ASKED, Input.FAILED): (Effect.BREAK, State.OVER),
    (State.ASKED, Input.CANCEL): (Effect.SEND, State.CANCELLED),
    (State.SENDING, Input.BODY): (Effect.SEND, State.SENDING),
    (State.SENDING, Input.HOLES): (Effect.SEND, State.SENDING),
    (State.SENDING, Input.COMMIT): (Effect.SEND, State.COMMITTED),
    (State.SENDING, Input.FAILED): (Effect.BREAK, State.OVER),
    (State.SENDING, Input.CANCEL): (Effect.SEND, State.CANCELLED),
    **_ending(State.COMMITTED),
    **_CANCELLED,
    **_dropped(Input.HAVE, Input.READY),
}

#: GET-BUNDLE and PUT-BUNDLE.
BUNDLE_TABLE: Rows = {
    (State.ASKED, Input.BUNDLE): (Effect.BEGIN, State.RECEIVING),
    (State.ASKED, Input.FAILED): (Effect.FAIL, State.OVER),
    (State.ASKED, Input.CANCEL): (Effect.SEND, State.CANCELLED),
    **_ending(State.RECEIVING),
    **_CANCELLED,
    **_dropped(Input.BUNDLE),
}

RequestMachine = Machine[State, Input, Effect]


def questionMachine() -> RequestMachine:
    """
    Ask what is answered at once.

    @return: its machine.
    """
    return Machine(QUESTION_TABLE, State.ASKED)


def listMachine() -> RequestMachine:
    """
    Begin a LIST or a MANIFEST.

    @return: its machine.
    """
    return Machine(LIST_TABLE, State.ASKED)


def getMachine() -> RequestMachine:
    """
    Begin a GET.

    @return: its machine.
    """
    return Machine(GET_TABLE, State.ASKED)


def putMachine(follows: bool) -> RequestMachine:
    """
    Begin a PUT or a JOIN.

    @param follows: whether it does not wait for READY.
    @return: its machine.
    """
    return Machine(PUT_TABLE, State.SENDING if follows else State.ASKED)


def bundleMachine() -> RequestMachine:
    """
    Begin a GET-BUNDLE or a PUT-BUNDLE.

    @return: its machine.
    """
    return Machine(BUNDLE_TABLE, State.ASKED)
