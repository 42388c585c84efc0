"""
Whose a file becomes that takes the place of another, and who may do what with it then: whoever
could not read the old one does not read the new one either. What is in them is not known here.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from twisted_netsuite.files.localsource import PERMISSIONS
from twisted_netsuite.files.systemcalls import NOT_THERE

_ACL = "system.posix_acl_access"

#: What systems answer for a file that has no such list, or cannot have any.
_NONE = (*NOT_THERE, errno.ENODATA)

#: Of a mode whose group bits are a list's, or another group's: no more can be known to be safe.
_OWNERS = 0o700


def isPlanted(directory: int, old: os.stat_result) -> bool:
    """
    Tell whether a file may be there only to have what replaces it: in a directory such as C{/tmp},
    where anybody can make a file under a name that somebody is going to use.

    @param directory: a descriptor of where it is.
    @param old: what is known of it.
    @return: whether it is somebody's who has no more to say there than all others.
    """
    if old.st_uid == os.geteuid():
        return False
    status = os.fstat(directory)
    return bool(status.st_mode & stat.S_ISVTX) and old.st_uid != status.st_uid


def inheritGroup(file: int, path: bytes, old: os.stat_result) -> int:
    """
    Give a file the group of the one that it replaces, and its access control list, also when that
    has none; this is for as long as nobody else can read it.

    @param file: its descriptor.
    @param path: of the old one.
    @param old: what is known of that.
    @return: the permission bits of the old one, without those that would let in others now.
    """
    mode = old.st_mode & PERMISSIONS
    if os.fstat(file).st_gid == old.st_gid or _give(file, -1, old.st_gid):
        return mode if _inheritAcl(file, path) else mode & _OWNERS
    if not _hasNoAcl(path):
        return mode & _OWNERS
    # The old group is among the others now, and some of the others are in the new group.
    common = mode & mode >> 3 & 0o007
    return mode & _OWNERS | common << 3 | common


def inheritOwner(file: int, old: os.stat_result) -> None:
    """
    Give a file to the owner of the one that it replaces, where this account may do that; after this
    nothing else should be changed of it.

    @param file: its descriptor.
    @param old: what is known of the old one.
    """
    if old.st_uid != os.geteuid():
        _give(file, old.st_uid, -1)


def _give(file: int, owner: int, group: int) -> bool:
    with suppress(OSError):
        os.fchown(file, owner, group)
        return True
    return False


def _aclOf(path: bytes) -> bytes | None:
    try:
        return os.getxattr(path, _ACL)
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise


def _hasNoAcl(path: bytes) -> bool:
    with suppress(OSError):
        return _aclOf(path) is None
    return False


def _inheritAcl(file: int, path: bytes) -> bool:
    """Copy it; tell whether both have the same, or none."""
    try:
        acl = _aclOf(path)
        if acl is not None:
            os.setxattr(file, _ACL, acl)
        # A new file can have got one from its directory.
        elif _isListed(file):
            os.removexattr(file, _ACL)
    except OSError:
        return False
    return True


def _isListed(file: int) -> bool:
    try:
        return _ACL in os.listxattr(file)
    except OSError as error:
        if error.errno in _NONE:
            return False
        raise
