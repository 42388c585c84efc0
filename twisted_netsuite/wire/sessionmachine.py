"""
A native session as tables: the server's, the client's, and what HELLO and WELCOME agree on.

From WELCOME on both ends are alike, so the two tables share those rows. In a closed session nothing
is expected: its owner feeds it no more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from twisted_netsuite.errors import ProtocolError, Unsupported
from twisted_netsuite.wire.machine import Machine, Symbol, Table
from twisted_netsuite.wire.session import (
    Error,
    Goodbye,
    Hello,
    Ping,
    Pong,
    Record,
    Welcome,
)

#: The versions of the protocol that are spoken here.
VERSIONS = (1,)


class State(Symbol):
    """Where a session stands."""

    AWAIT_HELLO = "waiting for HELLO"
    AUTHENTICATING = "finding out who the client is"
    AWAIT_WELCOME = "waiting for WELCOME"
    OPEN = "open"
    LEAVING = "open, and we have said GOODBYE"
    DRAINING = "open, and the peer has said GOODBYE"
    PARTING = "open, and both have said GOODBYE"
    CLOSED = "closed"


class Input(Symbol):
    """What can happen: a record comes, or this end decides."""

    HELLO = "HELLO"
    WELCOME = "WELCOME"
    ERROR = "ERROR"
    FATAL = "ERROR that ends the session"
    PING = "PING"
    PONG = "PONG"
    GOODBYE = "GOODBYE"
    RECORD = "A record of the service"
    PROVEN = "the proof of who the client is"
    LEAVE = "our own wish to leave"
    FINISHED = "the end of all that was open"


class Effect(Symbol):
    """What the owner of the machine has to do."""

    IDENTIFY = "find out who the client is"
    GREET = "send WELCOME"
    BEGIN = "begin"
    DELIVER = "give it to the service"
    REPORT = "tell the service"
    ANSWER = "send PONG"
    NOTE = "note that the peer lives"
    SAY_GOODBYE = "send GOODBYE"
    FAREWELL = "send GOODBYE and close"
    DRAIN = "begin nothing new"
    CLOSE = "close"


Rows = Table[State, Input, Effect]

_TALKING = (State.OPEN, State.LEAVING, State.DRAINING, State.PARTING)

_TALK: Rows = {
    (state, symbol): transition
    for state in _TALKING
    for symbol, transition in {
        Input.RECORD: (Effect.DELIVER, state),
        Input.ERROR: (Effect.REPORT, state),
        Input.FATAL: (Effect.CLOSE, State.CLOSED),
        Input.PING: (Effect.ANSWER, state),
        Input.PONG: (Effect.NOTE, state),
    }.items()
}

_END: Rows = {
    (State.OPEN, Input.LEAVE): (Effect.SAY_GOODBYE, State.LEAVING),
    (State.OPEN, Input.GOODBYE): (Effect.DRAIN, State.DRAINING),
    (State.LEAVING, Input.GOODBYE): (Effect.DRAIN, State.PARTING),
    (State.LEAVING, Input.FINISHED): (Effect.CLOSE, State.CLOSED),
    (State.DRAINING, Input.LEAVE): (Effect.SAY_GOODBYE, State.PARTING),
    (State.DRAINING, Input.FINISHED): (Effect.CLOSE, State.CLOSED),
    (State.PARTING, Input.FINISHED): (Effect.CLOSE, State.CLOSED),
}

SERVER_TABLE: Rows = {
    (State.AWAIT_HELLO, Input.HELLO): (Effect.IDENTIFY, State.AUTHENTICATING),
    (State.AWAIT_HELLO, Input.LEAVE): (Effect.FAREWELL, State.CLOSED),
    (State.AUTHENTICATING, Input.PROVEN): (Effect.GREET, State.OPEN),
    (State.AUTHENTICATING, Input.LEAVE): (Effect.FAREWELL, State.CLOSED),
    **_TALK,
    **_END,
}

CLIENT_TABLE: Rows = {
    (State.AWAIT_WELCOME, Input.WELCOME): (Effect.BEGIN, State.OPEN),
    (State.AWAIT_WELCOME, Input.FATAL): (Effect.CLOSE, State.CLOSED),
    (State.AWAIT_WELCOME, Input.GOODBYE): (Effect.CLOSE, State.CLOSED),
    **_TALK,
    **_END,
}

_INPUTS: dict[type[Record], Input] = {
    Hello: Input.HELLO,
    Welcome: Input.WELCOME,
    Ping: Input.PING,
    Pong: Input.PONG,
    Goodbye: Input.GOODBYE,
}


def inputOf(record: Record) -> Input:
    """
    Tell what a record is to the machine.

    @param record: what came.
    @return: what is fed.
    """
    if isinstance(record, Error):
        return Input.FATAL if record.fatal else Input.ERROR
    return _INPUTS.get(type(record), Input.RECORD)


class SessionMachine(Machine[State, Input, Effect]):
    """One session, as one of its ends sees it."""

    @property
    def isOpen(self) -> bool:
        """Whether WELCOME has passed and the end has not come."""
        return self.state in _TALKING

    @property
    def closed(self) -> bool:
        """Whether nothing is expected any more."""
        return self.state is State.CLOSED

    @property
    def draining(self) -> bool:
        """Whether either end has said GOODBYE, so that nothing new is begun."""
        return self.state in (State.LEAVING, State.DRAINING, State.PARTING)

    def end(self) -> None:
        """Close, whatever the state: the connection is lost, or an error has ended it."""
        self.state = State.CLOSED


def serverMachine() -> SessionMachine:
    """Begin a session as a server."""
    return SessionMachine(SERVER_TABLE, State.AWAIT_HELLO)


def clientMachine() -> SessionMachine:
    """Begin a session as a client that has sent HELLO."""
    return SessionMachine(CLIENT_TABLE, State.AWAIT_WELCOME)


def chooseVersion(offered: Sequence[int], spoken: Sequence[int] = VERSIONS) -> int:
    """
    Find the version for a session.

    @param offered: what HELLO lists.
    @param spoken: what is spoken here.
    @return: the highest in common.
    @raise Unsupported: when there is none; it names what is spoken here.
    """
    common = set(offered) & set(spoken)
    if not common:
        raise Unsupported(
            f"This service speaks version {_listed(spoken)} of the session protocol, and was "
            f"offered {_listed(offered)}; use a client of its age."
        )
    return max(common)


def _listed(versions: Sequence[int]) -> str:
    return ", ".join(str(version) for version in sorted(set(versions)))


def requireService(wanted: str, service: str) -> None:
    """
    See that a client has come to the right place.

    @param wanted: what HELLO asks for.
    @param service: what is served here.
    @raise Unsupported: when it has not.
    """
    if wanted != service:
        raise Unsupported(f"This service is {service}, not {wanted}; see the address.")


def commonFeatures(offered: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """
    Find the features for a session.

    @param offered: what HELLO lists.
    @param known: what is known here.
    @return: those of both, in order.
    """
    return tuple(sorted(set(offered) & set(known)))


def requireAgreed(welcome: Welcome, versions: Collection[int], features: Collection[str]) -> None:
    """
    See that a server's WELCOME chooses from what HELLO has offered.

    @param welcome: what came.
    @param versions: what was offered.
    @param features: what was offered.
    @raise ProtocolError: when it does not.
    """
    if welcome.version not in versions:
        raise ProtocolError(f"WELCOME chose version {welcome.version}, which was not offered.")
    unknown = sorted(set(welcome.features) - set(features))
    if unknown:
        raise ProtocolError(f"WELCOME chose {unknown[0]}, a feature that was not offered.")
