"""
Text from a peer, made safe to show: nothing in it can move a cursor or imitate another line.

What is cleaned: C0 and C1 controls (ESC among them), and the bidirectional and invisible format
characters of Unicode, with which text can be shown in another order than it was written.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # bidi, zero width, separators
    "\u034f\u115f\u1160\u2800\u3164\uffa0\u180b-\u180d"  # blank letters and marks
    "\u00ad\u180e\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # what else does not show
    "\ufff9-\ufffb\U000e0000-\U000e007f"  # annotations, tags
    "\ud800-\udfff]"  # lone surrogates
)


def cleanText(text: str) -> str:
    """
    Replace each character that could control a terminal or hide in a line.

    @param text: any text.
    @return: the text with tabs and line ends as one space and every other unsafe character as
        U+FFFD; its length in characters does not change.
    """
    return _UNSAFE.sub(lambda found: " " if found.group() in "\t\n\r" else "\ufffd", text)


def shownBytes(data: bytes, limit: int) -> str:
    """
    Write bytes so that they can stand in a log.

    @param data: anything.
    @param limit: the largest number of bytes to show.
    @return: escaped as a Python literal, with the number of bytes that are left out.
    """
    rest = len(data) - limit
    return f"{data[:limit]!r} and {rest} bytes more" if rest > 0 else repr(data)


def decodeText(data: bytes, limit: int) -> str:
    """
    Decode and clean what a peer sent.

    @param data: UTF-8, or what claims to be.
    @param limit: the largest number of characters of the answer; what is over it is cut, and an
        ellipsis says so.
    @return: text that is safe to show on one line.
    """
    text = cleanText(data.decode("utf-8", "replace"))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shortened(text: str, most: int) -> str:
    """
    Cut text.

    @param text: any.
    @param most: characters that it may have.
    @return: the text, with an ellipsis in place of what was too much.
    """
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
