"""
The audit log when system calls fail, and when the process ends at them: some of the stories.
"""

from __future__ import annotations

from tests.trust.auditfaults import FaultStories


class FaultTests(FaultStories):
    """One story of each five, so that they take seconds."""

    every = 5


# Trial would run it as one of this module's.
del FaultStories
