"""
Standard input, kept in a temporary file: a file has to be known whole before it is sent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import IO, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer
from zope.interface import implementer

from twisted_netsuite.cli.filesrun import Work
from twisted_netsuite.cli.streams import InputDescriptor
from twisted_netsuite.errors import NetsuiteError, StorageFailed


def spoolFile() -> Any:
    """
    Make a file for what comes by standard input: it has to be known whole before it is sent.

    @return: a context manager; the file is gone behind it.
    @raise StorageFailed: when there can be none.
    """
    try:
        return tempfile.NamedTemporaryFile(prefix="netsuite-")
    except OSError as error:
        raise _notSpooled(error) from error


async def spool(work: Work, file: IO[bytes]) -> None:
    """
    Keep standard input in a file.

    @param work: has the console.
    @param file: where.
    @raise StorageFailed: when that has no room.
    """
    spooling = _Spool(file, work.progress.moved)
    source = InputDescriptor(work.reactor, work.console.stdin, spooling.fail)
    try:
        source.begin(spooling)
        await spooling.done
    finally:
        source.stopProducing()


@implementer(IConsumer)
class _Spool:
    """Writes what comes to a file."""

    def __init__(self, file: IO[bytes], moved: Callable[[int], object]) -> None:
        self.done: Deferred[None] = Deferred()
        self._file = file
        self._moved = moved

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Take all that comes."""

    def unregisterProducer(self) -> None:
        """All has come."""
        try:
            self._file.flush()
        except OSError as error:
            self.fail(_notSpooled(error))
        if not self.done.called:
            self.done.callback(None)

    def write(self, data: bytes) -> None:
        """Keep it."""
        try:
            self._file.write(data)
        except OSError as error:
            self.fail(_notSpooled(error))
        self._moved(len(data))

    def fail(self, error: NetsuiteError) -> None:
        """It cannot be read, or not be kept."""
        if not self.done.called:
            self.done.errback(error)


def _notSpooled(error: OSError) -> StorageFailed:
    return StorageFailed(
        "Standard input cannot be kept in a temporary file: "
        f"{(error.strerror or str(error)).lower()}; set TMPDIR to a directory with more room."
    )
