"""
Links that come and go while names are used. C{NETSUITE_RACE_SECONDS} is how long each race goes on;
C{make soak} has them for longer.

Unlike other tests of one module these take real time, bounded by a constant: L{races} tells why.
"""

from __future__ import annotations

from tests.files import races


class RaceTests(races.RaceStories):
    """For a moment each, L{races.SECONDS}, with a thread that swaps."""
