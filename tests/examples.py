"""
How many examples Hypothesis makes where a test needs very many: enough for every day, and more when
somebody has the time.
"""

from __future__ import annotations

import os

#: So many times the usual examples: NETSUITE_EXAMPLES=10 for a long look at what is so searched.
TIMES = float(os.environ.get("NETSUITE_EXAMPLES", "1"))


def examples(usual: int) -> int:
    """
    Tell how many examples to make.

    @param usual: how many in every run of the tests.
    @return: as many times that as is asked for.
    """
    return max(1, round(usual * TIMES))
