"""
Words of files that people write: how a field is called there, and advice after one that is unknown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: Words that an advice lists; more are no advice.
MAX_LISTED = 20


def kebab(name: str) -> str:
    """
    Turn a field's name into the word that people write.

    @param name: such as C{idleTimeout}.
    @return: such as C{idle-timeout}.
    """
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "-" + found[1].lower(), name)


def didYouMean(word: str, known: Iterable[str]) -> str:
    """
    Advise after an unknown word.

    @param word: what was written.
    @param known: the words there are.
    @return: the end of a sentence, with the nearest, or with some of them.
    """
    words = list(known)
    if near := difflib.get_close_matches(word, words, 1):
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(words[:MAX_LISTED])}." if words else "there are none."
