"""
How a command can end, as it is written on the wire, kept on disk and told to callers.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from twisted_netsuite.errors import NetsuiteError, classForCode
from twisted_netsuite.wire.text import shortened

#: Characters of a reason: as many as an ERROR's sentence has.
MAX_REASON = 1024

#: What a shell adds to the number of the signal that has ended a command.
SIGNAL_BASE = 128

Reason = Annotated[str, Meta(max_length=MAX_REASON)]
Word = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9.-]{0,31}\Z", max_length=32)]
SignalName = Annotated[str, Meta(pattern=r"\A[A-Z][A-Z0-9+-]{0,15}\Z", max_length=16)]


class Exited(msgspec.Struct, frozen=True, kw_only=True, tag="exited", tag_field="kind"):
    """
    It ended by itself.

    @ivar code: its exit status.
    """

    code: Annotated[int, Meta(ge=0, le=255)]

    @property
    def status(self) -> int:
        """What a client exits with."""
        return self.code


class Signalled(msgspec.Struct, frozen=True, kw_only=True, tag="signalled", tag_field="kind"):
    """
    A signal ended it.

    @ivar name: of the signal, without SIG; C{RTMIN+n} for one of the real-time signals.
    @ivar number: of the signal, on the server.
    @ivar core: whether it left a core dump.
    """

    name: SignalName
    number: Annotated[int, Meta(ge=1, le=127)]
    core: bool = False

    @property
    def status(self) -> int:
        """What a client exits with, as a shell would."""
        return SIGNAL_BASE + self.number


class TimedOut(msgspec.Struct, frozen=True, kw_only=True, tag="timed-out", tag_field="kind"):
    """
    It ran for longer than it might, and was ended.

    @ivar seconds: how long it might.
    """

    seconds: Annotated[float, Meta(ge=0, le=1e10)]

    @property
    def status(self) -> int:
        """What a client exits with."""
        return 124


class Denied(msgspec.Struct, frozen=True, kw_only=True, tag="denied", tag_field="kind"):
    """
    It was not started, as it is not allowed.

    @ivar rule: the role whose rule denies it; empty when no rule allows it.
    @ivar reason: a sentence.
    """

    rule: Annotated[str, Meta(max_length=256)] = ""
    reason: Reason

    @property
    def status(self) -> int:
        """What a client exits with."""
        return 126


class Limit(msgspec.Struct, frozen=True, kw_only=True, tag="limit", tag_field="kind"):
    """
    A limit was reached: it was not started, or was ended.

    @ivar which: the limit.
    @ivar reason: a sentence.
    """

    which: Word
    reason: Reason

    @property
    def status(self) -> int:
        """What a client exits with."""
        return NetsuiteError.exitStatus


class Lost(msgspec.Struct, frozen=True, kw_only=True, tag="lost", tag_field="kind"):
    """
    It was begun, and what came of it is not known: the server stopped, or lost sight of it. Nothing
    of it runs any more, unless the reason says so.

    @ivar reason: a sentence.
    """

    reason: Reason

    @property
    def status(self) -> int:
        """What a client exits with."""
        return NetsuiteError.exitStatus


class NotStarted(msgspec.Struct, frozen=True, kw_only=True, tag="not-started", tag_field="kind"):
    """
    It was allowed, and could not be started.

    @ivar code: one of the wire codes of L{errors}, such as C{not-found} for a missing program.
    @ivar reason: a sentence.
    """

    code: Word
    reason: Reason

    @property
    def status(self) -> int:
        """What a client exits with."""
        return (classForCode(self.code) or NetsuiteError).exitStatus


Outcome = Exited | Signalled | TimedOut | Denied | Limit | Lost | NotStarted


def notStarted(code: str, reason: str) -> NotStarted:
    """
    Say why something was not started.

    @param code: one of the wire codes.
    @param reason: a sentence, cut to what a record has room for.
    @return: the outcome.
    """
    return NotStarted(code=code, reason=shortened(reason, MAX_REASON))
