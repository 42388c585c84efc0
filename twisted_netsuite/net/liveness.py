"""
Pings: whether the peer of a quiet connection still lives; not how they are written.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from twisted_netsuite.errors import ProtocolError
from twisted_netsuite.net.limits import IdleTimer

#: Seconds without a byte from the peer after which it is asked, and again after which it is dead:
#: 30 s in all, in which no address translator forgets a connection and no person has given up.
PING_INTERVAL = 15


class Liveness:
    """
    Asks a quiet peer whether it lives, and notices when it does not.

    Any byte is a sign of life. Each PING has a greater number than the one before, and each PONG
    has to answer one that is open.
    """

    def __init__(
        self,
        clock: IReactorTime,
        seconds: float,
        ask: Callable[[int], object],
        onDead: Callable[[], object],
    ) -> None:
        """
        @param clock: tells and waits for time.
        @param seconds: of quiet before a PING, and from there to the end.
        @param ask: sends a PING with a number.
        @param onDead: called once, when there was no answer; the watch has then stopped.
        """
        self.seconds = seconds
        self._ask = ask
        self._onDead = onDead
        self._timer = IdleTimer(clock, seconds, self._quiet)
        self._asked = False
        self._sent = 0
        self._answered = 0

    def start(self) -> None:
        """Begin, or begin again, to watch."""
        self._asked = False
        self._timer.start()

    def stop(self) -> None:
        """Watch no more."""
        self._timer.stop()

    def heard(self) -> None:
        """The peer has sent something."""
        self._asked = False
        self._timer.touch()

    def answered(self, number: int) -> None:
        """
        A PONG has come.

        @param number: which PING it answers.
        @raise ProtocolError: when that is not open.
        """
        if not self._answered < number <= self._sent:
            raise ProtocolError(f"PONG {number} answers no PING.")
        self._answered = number

    def _quiet(self) -> None:
        if self._asked:
            self._onDead()
            return
        self._sent += 1
        # First the timer: to ask may end the connection, and with it the watch.
        self._timer.start()
        self._asked = True
        self._ask(self._sent)
