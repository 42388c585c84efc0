"""
The tables of a session, every state and input of both; and what HELLO and WELCOME agree on.
"""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ProtocolError, Unsupported
from twisted_netsuite.wire.session import (
    SESSION_RECORDS,
    Error,
    Goodbye,
    Hello,
    Limits,
    Ping,
    Pong,
    Record,
    Welcome,
)
from twisted_netsuite.wire.sessionmachine import (
    CLIENT_TABLE,
    SERVER_TABLE,
    VERSIONS,
    Effect,
    Input,
    Rows,
    SessionMachine,
    State,
    chooseVersion,
    clientMachine,
    commonFeatures,
    inputOf,
    requireAgreed,
    requireService,
    serverMachine,
)

#: What a session may do once it is open, at either end: the same in each of its four states but for
#: the goodbyes.
TALK = {
    Input.RECORD: Effect.DELIVER,
    Input.ERROR: Effect.REPORT,
    Input.PING: Effect.ANSWER,
    Input.PONG: Effect.NOTE,
}
TALKING = {State.OPEN, State.LEAVING, State.DRAINING, State.PARTING}
GOODBYES = {
    (State.OPEN, Input.LEAVE): (Effect.SAY_GOODBYE, State.LEAVING),
    (State.OPEN, Input.GOODBYE): (Effect.DRAIN, State.DRAINING),
    (State.LEAVING, Input.GOODBYE): (Effect.DRAIN, State.PARTING),
    (State.DRAINING, Input.LEAVE): (Effect.SAY_GOODBYE, State.PARTING),
    (State.LEAVING, Input.FINISHED): (Effect.CLOSE, State.CLOSED),
    (State.DRAINING, Input.FINISHED): (Effect.CLOSE, State.CLOSED),
    (State.PARTING, Input.FINISHED): (Effect.CLOSE, State.CLOSED),
}
SERVER_OPENING = {
    (State.AWAIT_HELLO, Input.HELLO): (Effect.IDENTIFY, State.AUTHENTICATING),
    (State.AWAIT_HELLO, Input.LEAVE): (Effect.FAREWELL, State.CLOSED),
    (State.AUTHENTICATING, Input.PROVEN): (Effect.GREET, State.OPEN),
    (State.AUTHENTICATING, Input.LEAVE): (Effect.FAREWELL, State.CLOSED),
}
CLIENT_OPENING = {
    (State.AWAIT_WELCOME, Input.WELCOME): (Effect.BEGIN, State.OPEN),
    (State.AWAIT_WELCOME, Input.FATAL): (Effect.CLOSE, State.CLOSED),
    (State.AWAIT_WELCOME, Input.GOODBYE): (Effect.CLOSE, State.CLOSED),
}

WELCOME = Welcome(
    version=1, server="s", features=("a",), identity="x", limits=Limits(frame=9999), ping=15
)


class TableTests(SynchronousTestCase):
    """Both tables."""

    def assertLegal(self, table: Rows, opening: Rows) -> None:
        """Check each state with each input: what is not expected is refused and changes nothing."""
        for state, symbol in product(State, Input):
            machine = SessionMachine(table, state)
            if state in TALKING and symbol in TALK:
                wanted = TALK[symbol], state
            elif state in TALKING and symbol is Input.FATAL:
                wanted = Effect.CLOSE, State.CLOSED
            elif (state, symbol) in GOODBYES:
                wanted = GOODBYES[state, symbol]
            elif (state, symbol) in opening:
                wanted = opening[state, symbol]
            else:
                error = self.assertRaises(ProtocolError, machine.feed, symbol)
                self.assertEqual(
                    error.sentence, f"{symbol.value} is not expected while {state.value}."
                )
                self.assertIs(machine.state, state)
                continue
            self.assertEqual((machine.feed(symbol), machine.state), wanted)

    def test_server(self) -> None:
        """The server's machine takes what the protocol page says, and nothing else."""
        self.assertLegal(SERVER_TABLE, SERVER_OPENING)

    def test_client(self) -> None:
        """The client's machine takes what the protocol page says, and nothing else."""
        self.assertLegal(CLIENT_TABLE, CLIENT_OPENING)

    def test_beginnings(self) -> None:
        """A server waits for HELLO, a client for WELCOME; neither is open."""
        for machine, state in (
            (serverMachine(), State.AWAIT_HELLO),
            (clientMachine(), State.AWAIT_WELCOME),
        ):
            self.assertIs(machine.state, state)
            self.assertEqual(
                (machine.isOpen, machine.closed, machine.draining), (False, False, False)
            )

    def test_questions(self) -> None:
        """A machine tells whether it is open, draining or closed."""
        for state in State:
            machine = SessionMachine(SERVER_TABLE, state)
            self.assertEqual(machine.isOpen, state in TALKING)
            self.assertEqual(machine.draining, state in TALKING - {State.OPEN})
            self.assertEqual(machine.closed, state is State.CLOSED)
            machine.end()
            self.assertTrue(machine.closed)

    @settings(deadline=None)
    @given(st.lists(st.sampled_from(list(Input))))
    def test_onlyOneWayIn(self, symbols: list[Input]) -> None:
        """However a server is fed, nothing of a service is served before HELLO and its proof."""
        machine = serverMachine()
        seen = []
        for symbol in symbols:
            try:
                effect = machine.feed(symbol)
            except ProtocolError:
                continue
            seen.append(effect)
            if effect in (Effect.DELIVER, Effect.ANSWER, Effect.REPORT, Effect.DRAIN):
                self.assertEqual(seen[:2], [Effect.IDENTIFY, Effect.GREET])

    @settings(deadline=None)
    @given(st.lists(st.sampled_from(list(Input))), st.booleans())
    def test_goodbyesOnce(self, symbols: list[Input], server: bool) -> None:
        """However it is fed, each end says GOODBYE at most once, and hears it at most once."""
        machine = serverMachine() if server else clientMachine()
        seen = []
        for symbol in symbols:
            try:
                seen.append(machine.feed(symbol))
            except ProtocolError:
                continue
        said = seen.count(Effect.SAY_GOODBYE) + seen.count(Effect.FAREWELL)
        self.assertLessEqual(said, 1)
        self.assertLessEqual(seen.count(Effect.DRAIN), 1)
        self.assertLessEqual(seen.count(Effect.CLOSE) + seen.count(Effect.FAREWELL), 1)


class InputTests(SynchronousTestCase):
    """What records are to the machine."""

    def test_every(self) -> None:
        """Each record of a session is an input of its own; any other is a service's."""

        class Other(Record, frozen=True, kw_only=True, tag="other", tag_field="type"):
            """Of a service."""

        records: list[tuple[Record, Input]] = [
            (Hello(versions=(1,), service="s", client="c"), Input.HELLO),
            (WELCOME, Input.WELCOME),
            (Error(code="x", message=""), Input.ERROR),
            (Error(code="x", message="", fatal=True), Input.FATAL),
            (Ping(id=1), Input.PING),
            (Pong(id=1), Input.PONG),
            (Goodbye(), Input.GOODBYE),
            (Other(), Input.RECORD),
        ]
        for record, symbol in records:
            self.assertIs(inputOf(record), symbol)
        self.assertLessEqual(set(SESSION_RECORDS), {type(record) for record, _ in records})


class AgreementTests(SynchronousTestCase):
    """What the ends have in common."""

    def test_version(self) -> None:
        """The highest version that both speak is chosen."""
        for offered, spoken, chosen in (
            ((1,), (1,), 1),
            ((1, 2, 3), (1, 2), 2),
            ((3, 1), (1, 2, 3), 3),
            ((9, 1, 9), (1,), 1),
        ):
            self.assertEqual(chooseVersion(offered, spoken), chosen)
        self.assertEqual(chooseVersion(VERSIONS), max(VERSIONS))

    def test_noVersion(self) -> None:
        """Without one in common the refusal names what is spoken here and what was offered."""
        error = self.assertRaises(Unsupported, chooseVersion, (9, 7, 9), (1, 2))
        self.assertIn("speaks version 1, 2 of the session protocol", error.sentence)
        self.assertIn("was offered 7, 9;", error.sentence)

    def test_service(self) -> None:
        """Whoever wants another service is told which one this is."""
        requireService("echo", "echo")
        error = self.assertRaises(Unsupported, requireService, "exec", "echo")
        self.assertIn("This service is echo, not exec;", error.sentence)

    def test_features(self) -> None:
        """The features of both ends remain, each once."""
        self.assertEqual(commonFeatures(("b", "a", "x", "b"), {"a", "b", "c"}), ("a", "b"))
        self.assertEqual(commonFeatures((), {"a"}), ())

    def test_agreed(self) -> None:
        """A WELCOME that chooses what was not offered is refused."""
        requireAgreed(WELCOME, (1, 2), ("a", "b"))
        error = self.assertRaises(ProtocolError, requireAgreed, WELCOME, (2,), ("a",))
        self.assertIn("version 1", error.sentence)
        error = self.assertRaises(ProtocolError, requireAgreed, WELCOME, (1,), ("b",))
        self.assertIn("chose a, a feature", error.sentence)
