"""
The audit log when each system call fails in turn, and when the process ends at each in turn.
"""

from __future__ import annotations

from tests.trust.auditfaults import FaultStories


class FaultTests(FaultStories):
    """Every story."""

    every = 1


# Trial would run it as one of this module's.
del FaultStories
