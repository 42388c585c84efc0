"""
Files of this end that say that they are empty, and are not, as those in C{/proc}: how large they
are is known once they have been read, so what is in them is kept in another file until it is sent.
"""

from __future__ import annotations

import os
import tempfile

from twisted_netsuite.errors import StorageFailed
from twisted_netsuite.files.digests import CHUNK
from twisted_netsuite.files.localsource import LocalSource
from twisted_netsuite.files.moving import Local, shown
from twisted_netsuite.files.names import join
from twisted_netsuite.files.partialfile import writeAll
from twisted_netsuite.files.root import refusal


def unsized(local: Local) -> LocalSource | None:
    """
    Read a file that says that it is empty; blocks.

    @param local: which.
    @return: what is in it, as it was just now; it has to be closed. C{None} when there is nothing.
    @raise StorageFailed: when it cannot be read, or not be kept.
    """
    name = join(local.parts)
    source = local.store.source(local.parts)
    try:
        if source.attributes.size or not isinstance(source, LocalSource):
            return None
        first = _next(source, name)
        return _kept(source, first, name) if first else None
    finally:
        source.close()


def _next(source: LocalSource, name: bytes) -> bytes:
    assert source.descriptor is not None, "It is open."
    try:
        # Not by its offset: what such files hold may be made as it is read.
        return os.read(source.descriptor, CHUNK)
    except OSError as error:
        raise refusal(error, name) from error


def _kept(source: LocalSource, data: bytes, name: bytes) -> LocalSource:
    try:
        with tempfile.TemporaryFile(prefix="netsuite-") as file:
            size = 0
            while data:
                writeAll(file.fileno(), [data], size)
                size += len(data)
                data = _next(source, name)
            kept = LocalSource(os.dup(file.fileno()), os.fstat(file.fileno()), name)
    except OSError as error:
        raise StorageFailed(
            f"{shown(name)} cannot be kept in a temporary file: "
            f"{(error.strerror or str(error)).lower()}; set TMPDIR to a directory with more room."
        ) from error
    own = source.attributes
    kept.attributes = kept.attributes._replace(mtime=own.mtime, mode=own.mode)
    return kept
