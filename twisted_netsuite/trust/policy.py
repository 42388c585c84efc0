"""
The policy file: read once, and read again without ever being half there.

What stands in it, and what it decides, is told in C{rules} and C{decisions}.
"""

from __future__ import annotations

import os
import stat
from typing import ClassVar

from twisted.logger import Logger

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.trust.decisions import Decision, Policy
from twisted_netsuite.trust.reading import Fault, readPolicy
from twisted_netsuite.trust.requests import ExecRequest
from twisted_netsuite.wire.text import cleanText

__all__ = ["Decision", "ExecRequest", "Policy", "PolicyFile", "loadPolicy", "loadText"]

#: Bytes of a policy file: thousands of rules. What is larger is some other file, and reading it
#: would hold the service up: C{tomllib} alone takes a second for 1 MiB of short keys.
MAX_SIZE = 256 * 1024


def loadText(path: str, ours: bool = True) -> str:
    """
    Read the text of a policy file.

    @param path: the file.
    @param ours: whether it must belong to root or to whom this process runs as; others could change
        it.
    @return: its text.
    @raise ConfigurationError: when it cannot be read, is too large, is no UTF-8, or others may
        change it.
    """
    shown = cleanText(path)
    try:
        # O_NONBLOCK: a FIFO in the file's place must not hold the service up.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            _checkTrust(shown, os.fstat(descriptor), ours)
            data = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigurationError(
            f"The policy {shown!r} cannot be read: {reason.lower()}; give a file that can."
        ) from error
    if len(data) > MAX_SIZE:
        raise ConfigurationError(
            f"The policy {shown!r} has more than {MAX_SIZE} bytes; is it the right file?"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{shown}:{line}: this line is not UTF-8; save the file as UTF-8."
        ) from error


def _checkTrust(shown: str, status: os.stat_result, ours: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"The policy {shown!r} is no regular file; give one.")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(
            f"The policy {shown!r} can be changed by others than its owner; run chmod go-w {shown}."
        )
    if ours and status.st_uid not in (0, os.geteuid()):
        raise ConfigurationError(
            f"The policy {shown!r} belongs to another account (uid {status.st_uid}), which could "
            f"change it; run chown root {shown}."
        )


def loadPolicy(path: str, ours: bool = True) -> Policy:
    """
    Read a policy file.

    @param path: the file.
    @param ours: as for L{loadText}.
    @return: the policy.
    @raise ConfigurationError: as L{loadText}; and with the first fault in it, and its line.
    """
    policy, faults = readPolicy(loadText(path, ours), path)
    if faults:
        raise ConfigurationError(faultLine(path, faults[0]) + _others(len(faults) - 1))
    return policy


def faultLine(path: str, fault: Fault) -> str:
    """
    Write a fault as compilers do, so that editors find it.

    @param path: the file.
    @param fault: what is wrong in it.
    @return: C{FILE:LINE: sentence}.
    """
    return f"{cleanText(path)}:{fault.line}: {fault.sentence}"


def _others(count: int) -> str:
    if not count:
        return ""
    faults = "1 fault more" if count == 1 else f"{count} faults more"
    return f" ({faults}: netsuite policy check lists all.)"


class PolicyFile:
    """
    A policy that follows its file when it is told to.

    @ivar path: the file.
    @ivar policy: what holds now: the file as it last was right.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, path: str) -> None:
        """
        @param path: the file.
        @raise ConfigurationError: when it is not right.
        """
        self.path = path
        self.policy = loadPolicy(path)

    def reload(self) -> bool:
        """
        Read the file again; one that is not right changes nothing, and is logged.

        @return: whether what holds now is what the file says.
        """
        try:
            self.policy = loadPolicy(self.path)
        except ConfigurationError as error:
            self.log.error("{sentence} The policy stays as it was before.", sentence=error.sentence)
            return False
        self.log.info("The policy {path} was read again.", path=cleanText(self.path))
        return True
