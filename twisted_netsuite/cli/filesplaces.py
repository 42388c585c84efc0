"""
Where files are, as a command line says it: at a server, or here; nothing is looked at.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.wire.text import decodeText

#: The address ends at the first C{:/} that can end it: a name may hold further ones, and a Unix
#: socket's path follows such a one itself.
_PLACE = re.compile(
    r"""(?P<address>
        (?:\[[^\]]+\] | [^:\[\]]+):\d+    # HOST:PORT
        | unix:[^:]+(?::\w+=[^:]*)*        # unix:PATH, or an endpoint string with fields
        | (?!unix:).+?                     # any other endpoint string
    ):/(?P<name>.*)""",
    re.DOTALL | re.VERBOSE,
)

#: What is an address alone to whoever looks at it.
_ADDRESS = re.compile(r"(?:\w+:)?(?:\[[^\]]+\]|[^:/\[\]]+):\d+:?|unix:[^:]+:?")

#: Characters of a name that a sentence shows.
SHOWN = 200


@dataclass(frozen=True)
class Remote:
    """
    A file or directory at a server.

    @ivar address: the server's ADDRESS.
    @ivar name: bytes, with a slash before it; those of the command line, as they stand.
    """

    address: str
    name: bytes

    @property
    def isInto(self) -> bool:
        """Whether it is written as a directory: by a slash at its end."""
        return self.name.endswith(b"/")

    @property
    def last(self) -> bytes:
        """The last part of its name; empty for the root."""
        return self.name.rstrip(b"/").rpartition(b"/")[2]

    def within(self, part: bytes) -> Remote:
        """
        Name something in this directory.

        @param part: its name there.
        @return: where that is.
        """
        return Remote(self.address, self.name.rstrip(b"/") + b"/" + part)

    def __str__(self) -> str:
        """Write it for a person."""
        return f"{self.address}:{shownName(self.name)}"


def splitPlace(text: str) -> tuple[str, str] | None:
    """
    Split where a file is into server and name.

    @param text: C{ADDRESS:/NAME}, or a path here.
    @return: address, and name without its first slash, perhaps empty; C{None} for a path here: one
        without C{:/}, or with a slash before its first colon.
    """
    slash, colon = text.find("/"), text.find(":")
    if -1 < slash < colon:
        return None
    found = _PLACE.fullmatch(text)
    return None if found is None else (found["address"], found["name"])


def remoteOf(text: str) -> Remote | None:
    """
    Find out whether a word of the command line names something at a server.

    @param text: the word.
    @return: where that is; C{None} for a path here.
    """
    found = splitPlace(text)
    return None if found is None else Remote(found[0], os.fsencode("/" + found[1]))


def requireRemote(text: str, what: str) -> Remote:
    """
    Take a word of the command line that has to name something at a server.

    @param text: the word.
    @param what: what it is, for the sentence.
    @return: where it is.
    @raise ConfigurationError: when it is a path here, or can be none.
    """
    found = remoteOf(text)
    if found is None and _ADDRESS.fullmatch(text):
        raise ConfigurationError(
            f"{text!r} is the address of a server alone; add :/ at its end for all that it has, or "
            "a name behind that."
        )
    if found is None:
        raise ConfigurationError(
            f"The {what} {text!r} names no file of a server; give ADDRESS:/NAME, as in "
            "127.0.0.1:7021:/a.txt."
        )
    return found


def shownName(name: bytes) -> str:
    """
    Write a name for a person.

    @param name: a path, or a part of one.
    @return: at most L{SHOWN} characters, which do nothing to a terminal.
    """
    return decodeText(name, SHOWN)
