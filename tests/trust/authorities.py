"""
An authority for tests: its directory looked into, and the system below it made to fail.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.trust import durable
from twisted_netsuite.trust.ca import Authority


class Killed(BaseException):
    """Stands for the end of the process: nothing that is done after it has an effect."""


class FailingSystem:
    """
    The module C{os} with calls that fail.

    @ivar calls: how many calls there were that change something.
    """

    CHANGING = frozenset(
        {"open", "write", "fchmod", "fsync", "link", "replace", "mkdir", "unlink", "rmdir"}
    )

    def __init__(self, fails: Callable[[int, str], BaseException | None]) -> None:
        """
        @param fails: gets the number of a changing call and its name, and returns how it fails.
        """
        self._fails = fails
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        """Find a function of C{os}."""
        real = getattr(os, name)
        if name not in self.CHANGING:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **kwargs)
            self.calls += 1
            error = self._fails(self.calls, name)
            if error is not None:
                raise error
            return real(*args, **kwargs)

        return call


def fullAt(number: int) -> FailingSystem:
    """Make a system whose disk is full at one call, counted from 1."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return FailingSystem(lambda call, name: full if call == number else None)


def killedAt(number: int) -> FailingSystem:
    """Make a system that does nothing from one call on, counted from 1."""
    return FailingSystem(lambda call, name: Killed() if call >= number else None)


def underSystem(test: SynchronousTestCase, system: FailingSystem, act: Callable[[], Any]) -> bool:
    """
    Do something on a system.

    @param test: gives the system back.
    @param system: which.
    @param act: what to do; fails as everything here fails, or is killed.
    @return: whether it failed.
    """
    patch = test.patch(durable, "os", system)
    try:
        act()
    except (ConfigurationError, Killed):
        return True
    finally:
        patch.restore()
    return False


def content(path: Path) -> dict[str, bytes]:
    """Read all files below a directory."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def unfinished(path: Path) -> list[Path]:
    """List what killed runs have left."""
    return list(path.rglob(durable.UNFINISHED + "*"))


def assertWhole(test: SynchronousTestCase, path: Path) -> Authority:
    """An authority's files fit one another, and all that it has handed out is in its index."""
    authority = Authority.open(path)
    known = {each.serial for each in authority.issued()}
    for file in path.glob("*.pem"):
        if file.name in ("ca.pem", "ca-key.pem", "crl.pem"):
            continue
        certificate = certificateIn(file)
        key = load_pem_private_key(file.read_bytes(), None)
        test.assertEqual(key.public_key(), certificate.public_key())
        if certificate.issuer == authority.certificate.subject:
            test.assertIn(certificate.serial_number, known, file)
    key = load_pem_private_key(authority.keyPath.read_bytes(), None)
    test.assertEqual(key.public_key(), authority.certificate.public_key())
    return authority


def certificateIn(path: Path) -> x509.Certificate:
    """Read the certificate in a file."""
    return x509.load_pem_x509_certificate(path.read_bytes())
