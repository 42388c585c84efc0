"""
A service that says what a test tells it to, for commands to talk with.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.testing import MemoryEndpoint


class Scripted(Protocol):
    """Answers each chunk with the next of its answers; with none left it closes."""

    def __init__(self, answers: Sequence[bytes | None], heard: list[bytes]) -> None:
        """
        @param answers: what to say; L{None} is to say nothing.
        @param heard: gets each chunk.
        """
        self._answers = list(answers)
        self._heard = heard

    def dataReceived(self, data: bytes) -> None:
        """Say the next answer."""
        self._heard.append(data)
        assert self.transport is not None
        if not self._answers:
            self.transport.loseConnection()
            return
        answer = self._answers.pop(0)
        if answer is not None:
            self.transport.write(answer)


def scripted(
    test: SynchronousTestCase, module: ModuleType, *answers: bytes | None
) -> tuple[MemoryEndpoint, list[bytes]]:
    """
    Let the commands of a module connect to a scripted service.

    @param test: the test, during which that holds.
    @param module: a module of commands.
    @param answers: what the service says, in order.
    @return: connects to it, and what it hears.
    """
    heard: list[bytes] = []
    endpoint = MemoryEndpoint(Factory.forProtocol(lambda: Scripted(answers, heard)))
    test.patch(module, "parseConnect", lambda reactor, address, files: endpoint)
    return endpoint, heard
