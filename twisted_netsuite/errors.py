"""
The one tree of exceptions: each class carries its wire code, exit status and sentence for a person.

Nothing here knows Twisted, so that C{wire} and every state machine can raise these.
"""

from __future__ import annotations

from typing import ClassVar


class NetsuiteError(Exception):
    """
    The root of all failures that this project reports.

    The argument is one sentence for a person: what failed, which value, what to do.

    @cvar wireCode: the word that stands for this class on the wire.
    @cvar exitStatus: the status with which a command ends that fails with this error.
    """

    wireCode: ClassVar[str] = "internal"
    exitStatus: ClassVar[int] = 125

    @property
    def sentence(self) -> str:
        """One sentence for a person, with nothing else around it."""
        return str(self)


class ConfigurationError(NetsuiteError):
    """An option, a configuration file or an address cannot be used as it stands."""

    wireCode = "configuration"


class ConnectionFailed(NetsuiteError):
    """A connection could not be made, or ended before its work was done."""

    wireCode = "connection"


class ProtocolError(NetsuiteError):
    """The peer sent what its protocol does not allow at that point."""

    wireCode = "protocol"


class LimitExceeded(NetsuiteError):
    """A named limit was reached."""

    wireCode = "limit"


class InvalidName(NetsuiteError):
    """A name can never be the name of a file here."""

    wireCode = "invalid-name"
    exitStatus = 126


class TimedOut(NetsuiteError):
    """An answer, or the end of a command, did not come in time."""

    wireCode = "timed-out"
    exitStatus = 124


class Denied(NetsuiteError):
    """The request was understood, and is not allowed."""

    wireCode = "denied"
    exitStatus = 126


class Unauthenticated(NetsuiteError):
    """The peer has not proven who it is, or not well enough."""

    wireCode = "unauthenticated"
    exitStatus = 126


class Unsupported(NetsuiteError):
    """Both ends are right, and have no version of the protocol, or no feature, in common."""

    wireCode = "unsupported"


class AuditUnavailable(NetsuiteError):
    """The audit log cannot be written, so what must be in it is not done."""

    wireCode = "audit-unavailable"
    exitStatus = 126


class NotFound(NetsuiteError):
    """What the request names does not exist."""

    wireCode = "not-found"
    exitStatus = 127


class Conflict(NetsuiteError):
    """What is there is not what the request wants to be there: a file that exists, or another."""

    wireCode = "conflict"


class SourceChanged(NetsuiteError):
    """A file changed while it was sent, or between two tries to send it."""

    wireCode = "source-changed"


class Corrupted(NetsuiteError):
    """What has come, or is kept, is not what its digest says."""

    wireCode = "corrupted"


class StorageFailed(NetsuiteError):
    """The disk is full, or has failed."""

    wireCode = "storage"


class Incomplete(NetsuiteError):
    """Some of what was asked for was done, and some could not be."""

    wireCode = "incomplete"


def classForCode(code: str) -> type[NetsuiteError] | None:
    """
    Find the error class that stands for a wire code.

    @param code: the word received from a peer.
    @return: the class, or C{None} when the word stands for none.
    """
    for cls in NetsuiteError.__subclasses__():
        if cls.wireCode == code:
            return cls
    return None
