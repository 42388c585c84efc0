"""
One channel of the exec service as two tables: the server's end and the client's.

How many bytes may flow is another matter: see L{rexec.flow}. In a closed channel nothing is
expected but CREDIT, which tells how far the client has come in the output of a command that is
kept; what else the peer has sent before it knew is dropped by whoever keeps the channels.
"""

from __future__ import annotations

from twisted_netsuite.wire.machine import Machine, Symbol, Table


class State(Symbol):
    """Where a channel stands."""

    ASKED = "asked for"
    RUNNING = "running, with input open"
    DEAF = "running, and reading no more, while input is open"
    FED = "running, with input ended"
    CLOSED = "closed"


class Input(Symbol):
    """What can happen: one end sends a record, and the other gets it."""

    STDIN = "STDIN"
    STDIN_EOF = "STDIN-EOF"
    CREDIT = "CREDIT for output"
    SIGNAL = "SIGNAL"
    RESIZE = "RESIZE"
    CANCEL = "CANCEL"
    DETACH = "DETACH"
    STARTED = "STARTED with input open"
    STARTED_FED = "STARTED with input ended"
    TAKEN = "CREDIT for input"
    DEAFENED = "STDIN-EOF of the server"
    STDOUT = "STDOUT"
    STDERR = "STDERR"
    DETACHED = "DETACHED"
    END = "END"


class Effect(Symbol):
    """What the owner of the machine has to do."""

    SEND = "send it"
    DELIVER = "hand it on"
    GRANT = "add it to the window"
    CARRY_OUT = "carry it out"
    BEGIN = "begin"
    DROP = "drop it"
    FINISH = "finish"


Rows = Table[State, Input, Effect]

_RUNS = (State.RUNNING, State.DEAF, State.FED)


def _running(effect: Effect, *inputs: Input) -> Rows:
    return {(state, symbol): (effect, state) for state in _RUNS for symbol in inputs}


def _closing(effect: Effect, *inputs: Input) -> Rows:
    return {(state, symbol): (effect, State.CLOSED) for state in _RUNS for symbol in inputs}


#: The server gets the first seven of the inputs, and sends the others.
SERVER_TABLE: Rows = {
    (State.ASKED, Input.CREDIT): (Effect.GRANT, State.ASKED),
    (State.ASKED, Input.CANCEL): (Effect.CARRY_OUT, State.ASKED),
    (State.ASKED, Input.STARTED): (Effect.SEND, State.RUNNING),
    (State.ASKED, Input.STARTED_FED): (Effect.SEND, State.FED),
    (State.ASKED, Input.END): (Effect.SEND, State.CLOSED),
    **_running(Effect.GRANT, Input.CREDIT),
    **_running(Effect.CARRY_OUT, Input.SIGNAL, Input.RESIZE, Input.CANCEL, Input.DETACH),
    **_running(Effect.SEND, Input.STDOUT, Input.STDERR),
    **_closing(Effect.SEND, Input.DETACHED, Input.END),
    (State.CLOSED, Input.CREDIT): (Effect.GRANT, State.CLOSED),
    (State.RUNNING, Input.STDIN): (Effect.DELIVER, State.RUNNING),
    (State.RUNNING, Input.STDIN_EOF): (Effect.DELIVER, State.FED),
    (State.RUNNING, Input.TAKEN): (Effect.SEND, State.RUNNING),
    (State.RUNNING, Input.DEAFENED): (Effect.SEND, State.DEAF),
    (State.DEAF, Input.STDIN): (Effect.DROP, State.DEAF),
    (State.DEAF, Input.STDIN_EOF): (Effect.DROP, State.FED),
    (State.DEAF, Input.TAKEN): (Effect.DROP, State.DEAF),
    (State.FED, Input.TAKEN): (Effect.DROP, State.FED),
    (State.FED, Input.DEAFENED): (Effect.DROP, State.FED),
}

#: The client sends the first seven of the inputs, and gets the others.
CLIENT_TABLE: Rows = {
    (State.ASKED, Input.CANCEL): (Effect.SEND, State.ASKED),
    (State.ASKED, Input.STARTED): (Effect.BEGIN, State.RUNNING),
    (State.ASKED, Input.STARTED_FED): (Effect.BEGIN, State.FED),
    (State.ASKED, Input.END): (Effect.FINISH, State.CLOSED),
    **_running(Effect.SEND, Input.CREDIT, Input.SIGNAL, Input.RESIZE, Input.CANCEL, Input.DETACH),
    **_running(Effect.DELIVER, Input.STDOUT, Input.STDERR),
    **_closing(Effect.FINISH, Input.DETACHED, Input.END),
    (State.CLOSED, Input.CREDIT): (Effect.SEND, State.CLOSED),
    (State.RUNNING, Input.STDIN): (Effect.SEND, State.RUNNING),
    (State.RUNNING, Input.STDIN_EOF): (Effect.SEND, State.FED),
    (State.RUNNING, Input.TAKEN): (Effect.GRANT, State.RUNNING),
    (State.RUNNING, Input.DEAFENED): (Effect.DELIVER, State.DEAF),
    (State.DEAF, Input.STDIN): (Effect.DROP, State.DEAF),
    (State.DEAF, Input.STDIN_EOF): (Effect.SEND, State.FED),
    (State.DEAF, Input.TAKEN): (Effect.DROP, State.DEAF),
    (State.FED, Input.TAKEN): (Effect.DROP, State.FED),
    (State.FED, Input.DEAFENED): (Effect.DROP, State.FED),
}


def serverMachine() -> Machine[State, Input, Effect]:
    """
    Make the machine of a server's channel.

    @return: in its first state.
    """
    return Machine(SERVER_TABLE, State.ASKED)


def clientMachine() -> Machine[State, Input, Effect]:
    """
    Make the machine of a client's channel.

    @return: in its first state.
    """
    return Machine(CLIENT_TABLE, State.ASKED)
