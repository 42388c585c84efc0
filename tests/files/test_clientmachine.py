"""
The tables of a client's requests: every state with every input, and together with the server's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.files import machine as server
from twisted_netsuite.files.clientmachine import (
    BUNDLE_TABLE,
    GET_TABLE,
    LIST_TABLE,
    PUT_TABLE,
    QUESTION_TABLE,
    Effect,
    Input,
    RequestMachine,
    State,
    bundleMachine,
    getMachine,
    listMachine,
    putMachine,
    questionMachine,
)
from twisted_netsuite.wire.machine import Machine

TABLES = (QUESTION_TABLE, LIST_TABLE, GET_TABLE, PUT_TABLE, BUNDLE_TABLE)

#: What this end sends.
OURS = {Input.BODY, Input.HOLES, Input.COMMIT, Input.CANCEL}


class TableTests(SynchronousTestCase):
    """What each table allows."""

    def test_nothing_more(self) -> None:
        """What is over gets nothing any more, and does nothing."""
        for table in TABLES:
            for symbol in Input:
                machine = Machine(table, State.OVER)
                self.assertRaises(ProtocolError, machine.feed, symbol)

    def test_last_answer(self) -> None:
        """DONE and FAILED are the last of every request, and all that ends one."""
        for table in TABLES:
            for (_, symbol), (_, after) in table.items():
                last = symbol in (Input.DONE, Input.FAILED)
                self.assertEqual(after is State.OVER, last, (table, symbol))

    def test_failed_always(self) -> None:
        """A server may fail in every state, and a client may cancel, but for what is cancelled."""
        for table in TABLES:
            for state in {state for state, _ in table}:
                self.assertIn((state, Input.FAILED), table)
                if state is not State.CANCELLED:
                    self.assertIn((state, Input.CANCEL), table)

    def test_cancelled_tells_nobody(self) -> None:
        """Who has cancelled hears nothing more of it."""
        for table in TABLES:
            for (state, _), (effect, _) in table.items():
                if state is State.CANCELLED:
                    self.assertIn(effect, (Effect.DROP, Effect.FORGET))

    def test_put_is_ended_by_both(self) -> None:
        """FAILED before COMMIT is answered with CANCEL, after it by nothing."""
        for (state, symbol), (effect, _) in PUT_TABLE.items():
            if symbol is Input.FAILED:
                before = state in (State.ASKED, State.SENDING)
                self.assertEqual(effect is Effect.BREAK, before, state)

    def test_beginnings(self) -> None:
        """Only what does not wait for READY sends at once."""
        self.assertIs(putMachine(follows=True).state, State.SENDING)
        for machine in (
            *(questionMachine(), listMachine(), getMachine(), bundleMachine()),
            putMachine(follows=False),
        ):
            self.assertIs(machine.state, State.ASKED)

    def test_no_done_of_what_is_not_sent(self) -> None:
        """A server that has published what was not sent whole is wrong."""
        for state in (State.ASKED, State.SENDING):
            self.assertNotIn((state, Input.DONE), PUT_TABLE)

    def test_one_bundle(self) -> None:
        """A bundle is told of just once: an end without it, and a second one, are wrong."""
        self.assertRaises(ProtocolError, bundleMachine().feed, Input.DONE)
        machine = bundleMachine()
        machine.feed(Input.BUNDLE)
        self.assertRaises(ProtocolError, machine.feed, Input.BUNDLE)
        machine.feed(Input.DONE)

    def test_no_body_before_found(self) -> None:
        """Chunks of a file that was not found yet are wrong."""
        for symbol in (Input.BODY, Input.HOLES, Input.DONE):
            self.assertRaises(ProtocolError, getMachine().feed, symbol)


class Talk:
    """A client's machine and a server's, with what is on its way between them."""

    def __init__(
        self, client: RequestMachine, other: server.RequestMachine, follows: bool = False
    ) -> None:
        self.client = client
        self.follows = follows
        self.server = other
        self.toServer: deque[str] = deque()
        self.toClient: deque[str] = deque()

    def clientSends(self, symbol: Input) -> None:
        if self.client.feed(symbol) is Effect.SEND:
            self.toServer.append(symbol.name)

    def serverSends(self, symbol: server.Input, name: str) -> None:
        if self.server.feed(symbol) is server.Effect.SEND:
            self.toClient.append(name)

    def clientTakes(self) -> None:
        if self.toClient:
            effect = self.client.feed(Input[self.toClient.popleft()])
            if effect is Effect.BREAK:
                self.toServer.append("CANCEL")

    def serverTakes(self) -> None:
        if self.toServer:
            name = self.toServer.popleft()
            if self.server.state is server.State.OVER and name == "CANCEL":
                # What crosses the last answer.
                return
            self.server.feed(server.Input[name])


def clientCan(talk: Talk) -> list[Input]:
    table = talk.client._table
    # What follows at once is one chunk, and sent as a BODY.
    ours = OURS - {Input.HOLES} if talk.follows else OURS
    return [symbol for symbol in ours if (talk.client.state, symbol) in table]


def serverCan(talk: Talk, names: dict[str, server.Input]) -> list[str]:
    table = talk.server._table
    return [name for name, symbol in names.items() if (talk.server.state, symbol) in table]


PUTS = {"READY": server.Input.READY, "DONE": server.Input.DONE, "FAILED": server.Input.FAILED}
BUNDLES = {"BUNDLE": server.Input.PART, "DONE": server.Input.DONE, "FAILED": server.Input.FAILED}
GETS = {
    "FOUND": server.Input.FOUND,
    "BODY": server.Input.PART,
    "HOLES": server.Input.PART,
    "DONE": server.Input.DONE,
    "FAILED": server.Input.FAILED,
}


class TogetherTests(SynchronousTestCase):
    """Both ends, each of which does what its own table allows, at any time."""

    def run_(
        self, begin: Callable[[], Talk], names: dict[str, server.Input], choices: list[int]
    ) -> None:
        talk = begin()
        for choice in choices:
            acts: list[Callable[[], None]] = [talk.clientTakes, talk.serverTakes]
            acts += [partial(talk.clientSends, s) for s in sorted(clientCan(talk), key=str)]
            acts += [
                partial(talk.serverSends, names[n], n)
                for n in serverCan(talk, names)
                # The server knows by itself that nothing is sent before FOUND.
                if n not in ("BODY", "HOLES", "DONE")
                or names is not GETS
                or talk.server.state is not server.State.OPENING
            ]
            acts[choice % len(acts)]()
        # Now each makes an end of it.
        for _ in range(len(choices) + 10):
            talk.clientTakes()
            talk.serverTakes()
        if talk.client.state is not State.OVER:
            if talk.client.state is not State.CANCELLED:
                talk.clientSends(Input.CANCEL)
            talk.serverTakes()
            if talk.server.state is not server.State.OVER:
                talk.serverSends(server.Input.FAILED, "FAILED")
            talk.clientTakes()
        talk.serverTakes()
        self.assertIs(talk.client.state, State.OVER)
        self.assertIs(talk.server.state, server.State.OVER)
        self.assertEqual((len(talk.toClient), len(talk.toServer)), (0, 0))

    @settings(max_examples=400, deadline=None)
    @given(st.lists(st.integers(0, 11), max_size=40), st.booleans())
    def test_put(self, choices: list[int], follows: bool) -> None:
        """A PUT never surprises either end, whenever it fails or is cancelled, and both end it."""
        self.run_(
            lambda: Talk(putMachine(follows), server.receivingMachine(follows), follows),
            PUTS,
            choices,
        )

    @settings(max_examples=400, deadline=None)
    @given(st.lists(st.integers(0, 11), max_size=40))
    def test_get(self, choices: list[int]) -> None:
        """So it is with a GET."""
        self.run_(lambda: Talk(getMachine(), server.sendingMachine()), GETS, choices)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.integers(0, 11), max_size=20), st.booleans())
    def test_bundle(self, choices: list[int], done: bool) -> None:
        """So it is with a PUT-BUNDLE, all of whose bytes have come, and which is answered by BUNDLE
        and DONE, or by FAILED."""
        machine = server.receivingMachine(follows=True)
        machine.feed(server.Input.BODY)
        machine.feed(server.Input.COMMIT)
        talk = Talk(bundleMachine(), machine)
        answers = ["BUNDLE", "DONE"] if done else ["FAILED"]
        for choice in choices:
            acts: list[Callable[[], None]] = [talk.clientTakes, talk.serverTakes]
            if (talk.client.state, Input.CANCEL) in BUNDLE_TABLE:
                acts.append(partial(talk.clientSends, Input.CANCEL))
            if answers:
                acts.append(partial(self.answer, talk, answers))
            acts[choice % len(acts)]()
        while answers:
            self.answer(talk, answers)
        for _ in range(3):
            talk.clientTakes()
            talk.serverTakes()
        self.assertIs(talk.client.state, State.OVER)
        self.assertIs(talk.server.state, server.State.OVER)
        self.assertEqual((len(talk.toClient), len(talk.toServer)), (0, 0))

    def answer(self, talk: Talk, answers: list[str]) -> None:
        """Let the server say the next."""
        name = answers.pop(0)
        talk.serverSends(BUNDLES[name], name)
