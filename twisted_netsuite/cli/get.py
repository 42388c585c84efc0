"""
C{netsuite get} in the classic dialect: one file, unverified. The native one is in L{cli.filesmove}.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from twisted_netsuite.cli.filesplaces import splitPlace
from twisted_netsuite.cli.run import writeOut
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.files.classicclient import connectClassic
from twisted_netsuite.net.addresses import parseConnect
from twisted_netsuite.net.tlscontext import TrustFiles

#: Characters of a file's name that its unfinished file shows: together with what is added they fit
#: the 255 bytes of any name, at four bytes each.
_SHOWN = 50


async def getFile(
    reactor: Any,
    source: str,
    local: str,
    timeout: float,
    files: TrustFiles | None = None,
) -> int:
    """
    Get a file.

    @param reactor: connects.
    @param source: C{ADDRESS:/NAME}.
    @param local: a file or a directory; a dash is standard output; empty is this directory.
    @param timeout: seconds that may pass without a byte.
    @param files: to connect by TLS with; C{None} for plain text.
    @return: the exit status.
    """
    address, name = splitSource(source)
    endpoint = parseConnect(reactor, address, files)
    session = await connectClassic(endpoint, reactor, name=address, timeout=timeout)
    if local == "-":
        await session.get(name, writeOut)
    else:
        with wholeFile(_target(local, name)) as file:
            await session.get(name, file.write)
    await session.close()
    return 0


def splitSource(source: str) -> tuple[str, str]:
    """
    Split where a file is into server and name.

    @param source: C{ADDRESS:/NAME}.
    @return: address and name.
    @raise ConfigurationError: when it has another form.
    """
    found = splitPlace(source)
    if found is None or not found[1]:
        raise ConfigurationError(
            f"The source {source!r} names no file; give ADDRESS:/NAME, as in 127.0.0.1:7021:/a.txt."
        )
    return found


def _target(local: str, name: str) -> str:
    if not local or os.path.isdir(local):
        return os.path.join(local, os.path.basename(name.rstrip("/")))
    return local


@contextmanager
def wholeFile(path: str) -> Iterator[IO[bytes]]:
    """
    Open a file that appears under its name only when all of it is written.

    @param path: its name; what has it now is replaced.
    @return: a context manager; an exception in it leaves what was there before.
    @raise ConfigurationError: when it cannot be written.
    """
    directory, name = os.path.split(path)
    try:
        with tempfile.NamedTemporaryFile(
            dir=directory or ".", prefix=f".{name[:_SHOWN]}.", suffix=".part", delete=False
        ) as file:
            try:
                yield file
                file.flush()
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise ConfigurationError(
            f"The file {path!r} cannot be written: {(error.strerror or str(error)).lower()}; "
            "give another LOCAL."
        ) from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
