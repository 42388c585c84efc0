"""
SIGHUP as the wish to read files again; here it is really raised.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_netsuite.net.hangup import HangupAction, onHangup


@implementer(IReactorFromThreads)
class Turns:
    """Keeps what is to be called in the reactor's next turn."""

    def __init__(self) -> None:
        self.calls: list[Callable[..., object]] = []

    def callFromThread(self, callable: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        self.calls.append(callable)

    def turn(self) -> None:
        """Call them."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class HangupTests(SynchronousTestCase):
    """L{onHangup}."""

    def setUp(self) -> None:
        self.found = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGHUP, self.found)
        self.reactor = Turns()
        self.told: list[str] = []

    def ask(self, name: str = "a", reactor: Turns | None = None) -> Callable[[], object]:
        """Ask to be told."""
        return onHangup(
            cast(IReactorFromThreads, reactor or self.reactor), lambda: self.told.append(name)
        )

    def hangup(self) -> None:
        """Hang up, and take a turn."""
        signal.raise_signal(signal.SIGHUP)
        self.reactor.turn()

    def test_told(self) -> None:
        """Each who asked is told, each time, and in the reactor's turn, not in the signal's."""
        self.ask("a")
        self.ask("b")
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(self.told, [])
        self.reactor.turn()
        self.assertEqual(self.told, ["a", "b"])
        self.hangup()
        self.assertEqual(self.told, ["a", "b"] * 2)

    def test_reactors(self) -> None:
        """Each is told by its own reactor."""
        other = Turns()
        self.ask("a")
        self.ask("b", other)
        self.hangup()
        self.assertEqual(self.told, ["a"])
        other.turn()
        self.assertEqual(self.told, ["a", "b"])

    def test_forget(self) -> None:
        """Who has left is told no more, and the others still are; to leave twice is no harm."""
        forget = self.ask("a")
        self.ask("b")
        forget()
        forget()
        self.hangup()
        self.assertEqual(self.told, ["b"])

    def test_sameAct(self) -> None:
        """Two who ask with the same act are two."""
        act = self.told.clear
        reactor = cast(IReactorFromThreads, self.reactor)
        forget = onHangup(reactor, act)
        onHangup(reactor, act)
        forget()
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(self.reactor.calls, [act])

    def test_chained(self) -> None:
        """What was done before is done still, and alone once nobody asks any more."""
        before: list[tuple[int, FrameType | None]] = []

        def action(number: int, frame: FrameType | None) -> None:
            before.append((number, frame))

        signal.signal(signal.SIGHUP, action)
        forget = self.ask()
        self.hangup()
        self.assertEqual([number for number, _ in before], [signal.SIGHUP])
        self.assertIsNotNone(before[0][1])
        self.assertEqual(self.told, ["a"])
        forget()
        self.assertIs(signal.getsignal(signal.SIGHUP), action)

    def test_restored(self) -> None:
        """With the last who leaves the action comes back that was there, with the first asked."""
        for before in (signal.SIG_IGN, signal.SIG_DFL):
            signal.signal(signal.SIGHUP, before)
            forgets = [self.ask() for _ in range(3)]
            for forget in forgets:
                self.assertIsInstance(signal.getsignal(signal.SIGHUP), HangupAction)
                forget()
            self.assertEqual(signal.getsignal(signal.SIGHUP), before)

    def test_unknownBefore(self) -> None:
        """An action that Python does not know cannot come back: the system's own does."""
        self.patch(signal, "getsignal", lambda number: None)
        reactor = cast(IReactorFromThreads, self.reactor)
        action = HangupAction(None)
        signal.signal(signal.SIGHUP, action)
        self.patch(signal, "getsignal", lambda number: action)
        onHangup(reactor, self.told.clear)()
        signal.raise_signal(signal.SIGCONT)
        self.assertEqual(signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.SIG_DFL)

    def test_replaced(self) -> None:
        """An action that came after ours is left in its place; who asks then is told by both."""
        forget = self.ask("a")
        ours: Any = signal.getsignal(signal.SIGHUP)
        later: list[int] = []

        def action(number: int, frame: FrameType | None) -> None:
            later.append(number)
            ours(number, frame)

        signal.signal(signal.SIGHUP, action)
        self.ask("b")
        self.hangup()
        self.assertEqual((sorted(self.told), later), (["a", "b"], [signal.SIGHUP]))
        forget()
        self.hangup()
        self.assertEqual(sorted(self.told), ["a", "b", "b"])

    def test_otherThread(self) -> None:
        """Outside of the main thread no action can be set: nothing happens, and nothing breaks."""
        forgets: list[Callable[[], object]] = []
        with capturedLogs() as told:
            thread = threading.Thread(target=lambda: forgets.append(self.ask()))
            thread.start()
            thread.join()
        (line,) = map(formatEvent, told)
        self.assertIn("SIGHUP cannot be had outside the main thread", line)
        self.assertEqual(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)
        forgets[0]()

    def test_leavingWhileTold(self) -> None:
        """Who leaves when it is told keeps nobody else from being told."""
        forgets: list[Callable[[], object]] = []

        def leave() -> None:
            forgets.pop()()

        forgets.append(onHangup(cast(IReactorFromThreads, self.reactor), leave))
        self.ask("b")
        self.hangup()
        self.hangup()
        self.assertEqual(self.told, ["b", "b"])
