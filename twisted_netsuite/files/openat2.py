"""
Paths that cannot lead out of a directory, resolved by C{openat2}, for which Python has no name, and
renames that replace nothing; what may be opened is not known here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from contextlib import suppress
from functools import cache
from typing import Any

from twisted_netsuite.files.systemcalls import NOREPLACE, NOT_THERE, renameat2

#: The number of C{openat2}; calls of that age have the same one on all machines but Alpha.
_OPENAT2 = 437

#: Of C{linux/openat2.h}: no links of C{/proc}, no links at all, and nothing above the directory.
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
_RESOLVE = _BENEATH | _NO_MAGICLINKS | _NO_SYMLINKS

#: How often the kernel may ask to try again, as it does when something moves meanwhile.
TRIES = 32


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_LIBC = ctypes.CDLL(None, use_errno=True)


def _function(name: str, *arguments: Any) -> Any:
    try:
        function = _LIBC[name]
    except AttributeError:  # A C library that does not have it.
        return None
    function.argtypes, function.restype = arguments, ctypes.c_long
    return function


# Declared, as what is not would be passed as an int of 32 bits.
_syscall = _function(
    "syscall", ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
)


@cache
def _howOf(flags: int) -> tuple[_OpenHow, int, int]:
    """Make what the kernel reads, and tell where that is, and how long."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE)
    return how, ctypes.addressof(how), ctypes.sizeof(how)


@cache
def available() -> bool:
    """
    Tell whether the kernel has C{openat2}, and lets this process use it.

    Sandboxes answer C{EPERM} where old kernels answer C{ENOSYS}, so that it is tried out, once.

    @return: whether L{openBeneath} can be used.
    """
    directory = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        os.close(openBeneath(directory, b".", os.O_PATH))
    except OSError:
        return False
    finally:
        os.close(directory)
    return True


def openBeneath(directory: int, path: bytes, flags: int) -> int:
    """
    Open what is below a directory, following no link at all.

    @param directory: a descriptor of it.
    @param path: from there on, without NUL.
    @param flags: as for C{os.open}; nothing is made.
    @return: a descriptor, which programs that are started do not get.
    @raise OSError: from the system: C{ELOOP} for a link anywhere in the path, also at its end, and
        C{EXDEV} for what would lead out.
    """
    _how, address, size = _howOf(flags)
    for _ in range(TRIES):
        descriptor = _syscall(_OPENAT2, directory, path, address, size)
        if descriptor >= 0:
            return int(descriptor)
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number), path)


def renameNoReplace(
    source: bytes, sourceDirectory: int, target: bytes, targetDirectory: int
) -> None:
    """
    Rename something to a name that nothing may have, in one step.

    Where that is not possible, a file gets the new name before it loses the old one, which replaces
    nothing either; a directory could replace one that is empty.

    @param source: its name, one part.
    @param sourceDirectory: a descriptor of its directory.
    @param target: its new name, one part.
    @param targetDirectory: a descriptor of its new directory.
    @raise OSError: from the system; C{EEXIST} when the name is taken.
    """
    try:
        renameat2(sourceDirectory, source, targetDirectory, target, NOREPLACE)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        _renameInSteps(source, sourceDirectory, target, targetDirectory)


def _renameInSteps(source: bytes, sourceAt: int, target: bytes, targetAt: int) -> None:
    if stat.S_ISDIR(os.stat(source, dir_fd=sourceAt, follow_symlinks=False).st_mode):
        with suppress(FileNotFoundError):
            os.stat(target, dir_fd=targetAt, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(source, target, src_dir_fd=sourceAt, dst_dir_fd=targetAt)
        return
    os.link(source, target, src_dir_fd=sourceAt, dst_dir_fd=targetAt, follow_symlinks=False)
    with suppress(FileNotFoundError):
        linked = os.stat(target, dir_fd=targetAt, follow_symlinks=False)
        # What has got the old name meanwhile is somebody else's, and stays.
        if os.path.samestat(linked, os.stat(source, dir_fd=sourceAt, follow_symlinks=False)):
            os.unlink(source, dir_fd=sourceAt)
