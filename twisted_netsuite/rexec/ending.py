"""
How a command of this machine has ended, in the words of the wire; and signals by their names.
"""

from __future__ import annotations

import errno
import os
import signal

from twisted_netsuite.errors import Denied, LimitExceeded, NotFound
from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.launch import Ending, Exited, Lost, NotStarted, Signalled
from twisted_netsuite.rexec.outcome import Outcome, notStarted
from twisted_netsuite.wire.text import cleanText, shortened

#: The code of what was cancelled before it could be started.
CANCELLED = "cancelled"

#: What the system says when a program, or the directory to run in, is not there.
_MISSING = (errno.ENOENT, errno.ENOTDIR)

#: Why something was not started, of what was tried and what the system says.
_COULD_NOT = "it could not {}: {}."

#: What it says when it may not be used.
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ELOOP)


def outcomeOf(ending: Ending) -> Outcome:
    """
    Tell how a command has ended, for the wire.

    @param ending: what the system says.
    @return: the outcome.
    """
    match ending:
        case Exited():
            return outcome.Exited(code=ending.code)
        case Signalled():
            name = signalName(ending.number)
            return outcome.Signalled(name=name, number=ending.number, core=ending.core)
        case NotStarted(own=True):
            return notStarted("internal", "the service failed to start it; its log says why.")
        case NotStarted():
            why = os.strerror(ending.errno).lower()
            room = outcome.MAX_REASON - len(_COULD_NOT) - len(why)
            what = shortened(cleanText(ending.what), room)
            return notStarted(_codeOf(ending.errno), _COULD_NOT.format(what, why))
        case Lost():
            ended = "so it was ended" if ending.clear else "and some of it may still run"
            return outcome.Lost(reason=f"what watched it was lost, {ended}.")


def _codeOf(number: int) -> str:
    if number in _MISSING:
        return NotFound.wireCode
    if number in _FORBIDDEN:
        return Denied.wireCode
    if number == errno.ECANCELED:
        return CANCELLED
    return LimitExceeded.wireCode


def signalName(number: int) -> str:
    """
    Name a signal.

    @param number: the signal.
    @return: without SIG; C{RTMIN+n} for those that have no other.
    """
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return f"RTMIN+{number - signal.SIGRTMIN}"


def signalNumber(name: str) -> int:
    """
    Find a signal.

    @param name: without SIG.
    @return: its number here.
    @raise NotFound: when there is none of that name.
    """
    if name.startswith("RTMIN+") and name[6:].isdigit():
        number = signal.SIGRTMIN + int(name[6:])
        if number <= signal.SIGRTMAX:
            return number
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        raise NotFound(f"There is no signal {name}; give such as TERM, INT or USR1.") from None
