"""
Tokens that were not accepted: how long whoever tries them has to wait, and which the log tells of.

A place among the connections is refused by source (L{net.admission}); but some peers have none, and
a connection that is open already needs no other.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from twisted_netsuite.net.admission import Penalties, Recurrences, sourceOf
from twisted_netsuite.net.limits import Clock
from twisted_netsuite.trust.identity import ANONYMOUS, Identity


def guesserOf(source: str | None, address: object, identity: Identity, user: str) -> str:
    """
    Tell what failures count against.

    @param source: of the connection, when it was accepted.
    @param address: the peer's as it is known now, which behind a balancer is more than it was then.
    @param identity: who the peer is by its connection.
    @param user: whose token it shows.
    @return: the source; where there is none, as on a Unix socket, the account; and where that is
        unknown, too, the user, who then waits for others' guesses.
    """
    source = source or sourceOf(address)
    if source is not None:
        return source
    return str(identity) if identity != ANONYMOUS else f"user:{user}"


class Guesses:
    """
    The failures of those who show tokens, by what L{guesserOf} tells.

    Its tables are bounded as L{Penalties} and L{Recurrences} are.
    """

    def __init__(self, clock: IReactorTime | Clock, penalty: float) -> None:
        """
        @param clock: tells time.
        @param penalty: the first penalty in seconds; 0 means none.
        """
        self._clock = clock
        self._penalties = Penalties(clock, penalty)
        self._recurrences = Recurrences(clock)

    def wait(self, guesser: str) -> float:
        """
        Tell for how long no token is checked.

        @param guesser: whose.
        @return: seconds; 0 when one may be checked now.
        """
        until = self._penalties.until(guesser)
        return until - self._clock.seconds() if until else 0.0

    def failed(self, guesser: str) -> int:
        """
        Note that a token was not accepted.

        @param guesser: whose.
        @return: how many were not, when the log is to tell of it; else 0, as a flood must not flood
            the log as well.
        """
        if not self.wait(guesser):
            # What was begun before a penalty is no further try in spite of it.
            self._penalties.failed(guesser)
        return self._recurrences.again(guesser)

    def refused(self, guesser: str) -> int:
        """
        Note that a token was not checked, as its guesser has to wait.

        @param guesser: whose.
        @return: how many were not, when the log is to tell of it; else 0.
        """
        return self._recurrences.again((guesser, "penalty"))
