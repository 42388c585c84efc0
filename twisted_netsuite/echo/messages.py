"""
The one record of the native echo.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from twisted_netsuite.wire.session import MAX_DATA, Record

#: What a client asks for in HELLO.
SERVICE = "echo"


class Echo(Record, frozen=True, kw_only=True, tag="echo", tag_field="type"):
    """
    Either way: a message, and its answer.

    @ivar data: comes back as it went.
    """

    data: Annotated[bytes, Meta(max_length=MAX_DATA)]


RECORDS: tuple[type[Record], ...] = (Echo,)
