"""
System calls that Python has no names for, and that take names or descriptors as they are: what they
may be done with is not known here.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

#: Of C{linux/fs.h}: replace nothing, or let the two change places.
NOREPLACE, EXCHANGE = 1, 2

#: Of C{linux/falloc.h}: leave the size, and give room back.
KEEP_SIZE, PUNCH_HOLE = 1, 2

#: What kernels, sandboxes and file systems answer that do not have such a call.
NOT_THERE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)

_LIBC = ctypes.CDLL(None, use_errno=True)


def _function(name: str, *arguments: Any) -> Any:
    function = getattr(_LIBC, name, None)
    if function is not None:  # There are C libraries that do not have it.
        function.argtypes = arguments
    return function


# Declared, as what is not would be passed as an int of 32 bits.
_INT, _LONG, _BYTES = ctypes.c_int, ctypes.c_longlong, ctypes.c_char_p
_renameat2 = _function("renameat2", _INT, _BYTES, _INT, _BYTES, ctypes.c_uint)
_fallocate = _function("fallocate64", _INT, _INT, _LONG, _LONG)


def renameat2(source: int, name: bytes, target: int, to: bytes, flags: int) -> None:
    """
    Rename.

    @param source: a descriptor of the directory.
    @param name: what, in there.
    @param target: a descriptor of its new directory.
    @param to: its new name.
    @param flags: whether to replace nothing, or to exchange the two.
    @raise OSError: from the system.
    """
    # Not by _call, as small files come in thousands.
    if _renameat2 is None or _renameat2(source, name, target, to, flags):
        raise _failure(_renameat2, name)


def fallocate(file: int, mode: int, offset: int, length: int) -> None:
    """
    Take room for a part of a file, or give it back; unlike that of the C library it writes nothing
    where the file system cannot do it.

    @param file: its descriptor.
    @param mode: flags.
    @param offset: where that part begins, in bytes.
    @param length: its bytes.
    @raise OSError: from the system.
    """
    while _fallocate is None or _fallocate(file, mode, offset, length):
        error = _failure(_fallocate)
        if error.errno != errno.EINTR:
            raise error


def _failure(function: Any, *names: bytes) -> OSError:
    number = errno.ENOSYS if function is None else ctypes.get_errno()
    return OSError(number, os.strerror(number), *names)
