"""
The tables of a channel: every state and input of both ends, and that the two fit each other.
"""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.rexec.machine import (
    CLIENT_TABLE,
    SERVER_TABLE,
    Effect,
    Input,
    Rows,
    State,
    clientMachine,
    serverMachine,
)
from twisted_netsuite.wire.machine import Machine

ASKED, RUNNING, DEAF = State.ASKED, State.RUNNING, State.DEAF
FED, CLOSED = State.FED, State.CLOSED
SEND, DELIVER, GRANT = Effect.SEND, Effect.DELIVER, Effect.GRANT
CARRY_OUT, DROP, BEGIN, FINISH = Effect.CARRY_OUT, Effect.DROP, Effect.BEGIN, Effect.FINISH

Row = dict[State, tuple[Effect, State]]

#: What a client sends: for each input what the server does about it, and where it stands then.
SERVER_GETS: dict[Input, Row] = {
    Input.STDIN: {RUNNING: (DELIVER, RUNNING), DEAF: (DROP, DEAF)},
    Input.STDIN_EOF: {RUNNING: (DELIVER, FED), DEAF: (DROP, FED)},
    Input.CREDIT: {each: (GRANT, each) for each in (ASKED, RUNNING, DEAF, FED, CLOSED)},
    Input.SIGNAL: {each: (CARRY_OUT, each) for each in (RUNNING, DEAF, FED)},
    Input.RESIZE: {each: (CARRY_OUT, each) for each in (RUNNING, DEAF, FED)},
    Input.CANCEL: {each: (CARRY_OUT, each) for each in (ASKED, RUNNING, DEAF, FED)},
    Input.DETACH: {each: (CARRY_OUT, each) for each in (RUNNING, DEAF, FED)},
}
SERVER_SENDS: dict[Input, Row] = {
    Input.STARTED: {ASKED: (SEND, RUNNING)},
    Input.STARTED_FED: {ASKED: (SEND, FED)},
    Input.TAKEN: {RUNNING: (SEND, RUNNING), DEAF: (DROP, DEAF), FED: (DROP, FED)},
    Input.DEAFENED: {RUNNING: (SEND, DEAF), FED: (DROP, FED)},
    Input.STDOUT: {each: (SEND, each) for each in (RUNNING, DEAF, FED)},
    Input.STDERR: {each: (SEND, each) for each in (RUNNING, DEAF, FED)},
    Input.DETACHED: dict.fromkeys((RUNNING, DEAF, FED), (SEND, CLOSED)),
    Input.END: dict.fromkeys((ASKED, RUNNING, DEAF, FED), (SEND, CLOSED)),
}
CLIENT_SENDS: dict[Input, Row] = {
    Input.STDIN: {RUNNING: (SEND, RUNNING), DEAF: (DROP, DEAF)},
    Input.STDIN_EOF: {RUNNING: (SEND, FED), DEAF: (SEND, FED)},
    Input.CREDIT: {each: (SEND, each) for each in (RUNNING, DEAF, FED, CLOSED)},
    Input.SIGNAL: {each: (SEND, each) for each in (RUNNING, DEAF, FED)},
    Input.RESIZE: {each: (SEND, each) for each in (RUNNING, DEAF, FED)},
    Input.CANCEL: {each: (SEND, each) for each in (ASKED, RUNNING, DEAF, FED)},
    Input.DETACH: {each: (SEND, each) for each in (RUNNING, DEAF, FED)},
}
CLIENT_GETS: dict[Input, Row] = {
    Input.STARTED: {ASKED: (BEGIN, RUNNING)},
    Input.STARTED_FED: {ASKED: (BEGIN, FED)},
    Input.TAKEN: {RUNNING: (GRANT, RUNNING), DEAF: (DROP, DEAF), FED: (DROP, FED)},
    Input.DEAFENED: {RUNNING: (DELIVER, DEAF), FED: (DROP, FED)},
    Input.STDOUT: {each: (DELIVER, each) for each in (RUNNING, DEAF, FED)},
    Input.STDERR: {each: (DELIVER, each) for each in (RUNNING, DEAF, FED)},
    Input.DETACHED: dict.fromkeys((RUNNING, DEAF, FED), (FINISH, CLOSED)),
    Input.END: dict.fromkeys((ASKED, RUNNING, DEAF, FED), (FINISH, CLOSED)),
}


class TableTests(SynchronousTestCase):
    """Both tables, cell by cell."""

    def check(self, table: Rows, expected: dict[Input, Row]) -> None:
        """Compare each state and each input."""
        self.assertEqual(set(expected), set(Input))
        for state, symbol in product(State, Input):
            machine = Machine(table, state)
            if state in expected[symbol]:
                found = (machine.feed(symbol), machine.state)
                self.assertEqual(found, expected[symbol][state], (state, symbol))
            else:
                self.assertRaises(ProtocolError, machine.feed, symbol)
                self.assertIs(machine.state, state)

    def test_server(self) -> None:
        """The server takes and sends in each state what the protocol says, and refuses the rest."""
        self.check(SERVER_TABLE, SERVER_GETS | SERVER_SENDS)

    def test_client(self) -> None:
        """The client takes and sends in each state what the protocol says, and refuses the rest."""
        self.check(CLIENT_TABLE, CLIENT_GETS | CLIENT_SENDS)

    def test_closed(self) -> None:
        """Nothing but CREDIT comes in a closed channel, and END can close every channel."""
        for table in (SERVER_TABLE, CLIENT_TABLE):
            inputs = [symbol for state, symbol in table if state is CLOSED]
            self.assertEqual(inputs, [Input.CREDIT])
            for state in State:
                if state is not CLOSED:
                    self.assertIs(table[state, Input.END][1], CLOSED)

    def test_reachable(self) -> None:
        """Each state can be reached at either end."""
        for table in (SERVER_TABLE, CLIENT_TABLE):
            reached, before = {ASKED}, set[State]()
            while reached != before:
                before = set(reached)
                reached |= {after for (state, _), (_, after) in table.items() if state in before}
            self.assertEqual(reached, set(State))

    def test_begin(self) -> None:
        """Both ends begin by waiting for the start."""
        self.assertIs(serverMachine().state, ASKED)
        self.assertIs(clientMachine().state, ASKED)

    def test_sentence(self) -> None:
        """A refusal names the record and the state of the channel."""
        with self.assertRaises(ProtocolError) as caught:
            clientMachine().feed(Input.STDOUT)
        self.assertEqual(caught.exception.sentence, "STDOUT is not expected while asked for.")


class PairTests(SynchronousTestCase):
    """The two machines, with records on their way both ways."""

    @settings(deadline=None, max_examples=200)
    @given(st.data())
    def test_neverRefused(self, data: st.DataObject) -> None:
        """
        Whatever either end may send, and however long it is on its way, the other end expects it,
        as long as it does not know the channel to be closed; then both agree on where it stands.
        """
        server, client = serverMachine(), clientMachine()
        toServer: list[Input] = []
        toClient: list[Input] = []
        for _ in range(data.draw(st.integers(0, 40))):
            moves: list[tuple[str, Input]] = []
            moves += [
                ("client", each) for each in CLIENT_SENDS if client.state in CLIENT_SENDS[each]
            ]
            moves += [
                ("server", each) for each in SERVER_SENDS if server.state in SERVER_SENDS[each]
            ]
            moves += [("arrives at server", toServer[0])] if toServer else []
            moves += [("arrives at client", toClient[0])] if toClient else []
            if not moves:
                break
            who, symbol = data.draw(st.sampled_from(moves))
            if who == "client":
                if client.feed(symbol) is SEND:
                    toServer.append(symbol)
            elif who == "server":
                if server.feed(symbol) is SEND:
                    toClient.append(symbol)
            elif who == "arrives at server":
                toServer.pop(0)
                if server.state is not CLOSED:
                    server.feed(symbol)
            else:
                toClient.pop(0)
                client.feed(symbol)
        while toServer or toClient:
            if toServer and (symbol := toServer.pop(0)) and server.state is not CLOSED:
                server.feed(symbol)
            if toClient:
                client.feed(toClient.pop(0))
        if CLOSED in (server.state, client.state):
            self.assertIs(server.state, client.state)
        elif server.state is not client.state:
            self.fail(f"The server is {server.state}, the client {client.state}.")
