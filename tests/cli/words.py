"""
Command lines whose commands are only noted: what each is given, and what is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from click.testing import CliRunner, Result
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import twisted_netsuite.cli.run as running
from twisted_netsuite.cli.main import main


class WordsCase(SynchronousTestCase):
    """
    A test that gives the program words.

    @ivar called: the commands that were called, with what they were given.
    """

    def setUp(self) -> None:
        self.called: list[Any] = []
        self.patch(running, "run", self.run_)

    def run_(self, command: Callable[[Any], Coroutine[Deferred[Any], Any, int]]) -> NoReturn:
        """Run a command without a reactor."""
        raise SystemExit(self.successResultOf(Deferred.fromCoroutine(command("reactor"))))

    def record(self, module: Any, name: str) -> None:
        """Let a command only note what it is given, and end with status 7."""

        async def recorded(*args: object, **kwargs: object) -> int:
            self.called.append((name, *args, kwargs) if kwargs else (name, *args))
            return 7

        self.patch(module, name, recorded)

    def invoke(self, *words: str) -> Result:
        """Run the program."""
        return CliRunner().invoke(main, words)

    def assertCalls(self, words: str, *call: object) -> None:
        """A command line does one thing, whose status is the program's."""
        self.called.clear()
        result = self.invoke(*words.split())
        self.assertEqual(self.called, [call], result.output)
        self.assertEqual(result.exit_code, 7)

    def assertRefused(self, words: str, *sentences: str) -> None:
        """A command line is refused in one sentence, with what is wrong in it."""
        self.called.clear()
        result = self.invoke(*words.split())
        self.assertEqual(result.exit_code, 125, words)
        self.assertEqual(result.stderr.count("\n"), 1, words)
        self.assertEqual(self.called, [])
        for sentence in sentences:
            self.assertIn(sentence, result.stderr)
