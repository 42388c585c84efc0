"""
Files and directories of this end, as a command line names them: what is there, and the stores that
they are moved to and from.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from twisted_netsuite.cli.filesplaces import Remote, shownName
from twisted_netsuite.cli.filesrun import Work
from twisted_netsuite.errors import ConfigurationError, Conflict, Denied, NotFound
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.localtree import LocalTree
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.plan import Plan
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.transfer import Local


def targetPath(local: str, remote: Remote) -> bytes:
    """
    Find out where a file goes at this end.

    @param local: a file or a directory; empty is this directory.
    @param remote: the file; its own name is taken in a directory.
    @return: its path.
    @raise ConfigurationError: when no file can be there.
    @raise Conflict: when something is there that no file replaces.
    """
    path = _pathOf(local, remote)
    if os.path.lexists(path) and not os.path.isdir(path):
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            raise Conflict(
                f"'{shownName(path)}' is a symbolic link, which no file replaces; choose another "
                "name, or remove it first."
            )
        if not stat.S_ISREG(mode):
            raise Conflict(
                f"'{shownName(path)}' is no regular file, and none replaces it; give - and let "
                f"standard output be it: - > {shownName(path)}"
            )
    return path


def _pathOf(local: str, remote: Remote) -> bytes:
    path = os.fsencode(local or ".")
    if os.path.isdir(path):
        if not remote.last:
            raise ConfigurationError(f"{remote} is a directory; give -r to get all of it.")
        if remote.last == b"..":
            raise ConfigurationError(f"{remote} names no file; give the name of one.")
        return os.path.join(path, remote.last)
    directory = os.path.dirname(path) or b"."
    if path.endswith(b"/") or not os.path.isdir(directory):
        missing = shownName(path if path.endswith(b"/") else directory)
        raise ConfigurationError(f"There is no directory '{missing}'; make it first.")
    return path


def localOf(work: Work, path: bytes) -> Local:
    """
    Take a path for a transfer.

    @param work: has the disk.
    @param path: of a file; its directory exists.
    @return: the file, in a store that the caller closes.
    @raise ConfigurationError: when its directory cannot be opened.
    """
    store, name = storeOf(path)
    return Local(store, (name,), work.disk)


def storeOf(path: bytes) -> tuple[LocalStore, bytes]:
    """
    Open the directory of a file.

    @param path: of the file.
    @return: a store, to be closed, and the name of the file in it.
    @raise ConfigurationError: when the directory cannot be opened.
    """
    directory, name = os.path.split(path)
    return LocalStore(Root(os.fsdecode(directory or b"."))), name


def into(remote: Remote, path: str) -> Remote:
    """
    Name a file of this end in a directory of the server.

    @param remote: the directory.
    @param path: the file.
    @return: where it is to be.
    """
    return remote.within(shownBase(path))


def shownBase(path: str) -> bytes:
    """
    Tell the own name of a file.

    @param path: as it was given.
    @return: its last part.
    """
    return os.fsencode(os.path.basename(path))


def sizeOf(path: str) -> int:
    """
    Look at a file that is to be sent.

    @param path: of this end.
    @return: its bytes.
    @raise NotFound: when there is none.
    @raise ConfigurationError: when it is a directory.
    @raise Conflict: when it is something else.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"There is no file {path!r} here.") from error
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", "") or str(error)).lower()
        raise Denied(f"The file {path!r} cannot be read: {reason}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(f"{path!r} is a directory; give -r to put all of it.")
    if not stat.S_ISREG(status.st_mode):
        raise Conflict(f"{path!r} is no regular file; give - and let it be standard input.")
    return status.st_size


def localTree(work: Work, path: str, exists: bool) -> tuple[LocalTree, LocalStore]:
    """
    Take a directory of this end.

    @param work: has the disk.
    @param path: the directory.
    @param exists: whether it has to be there; else it will be made.
    @return: the tree, and the store that it is in, which the caller closes.
    @raise NotFound: when it has to be there and is not.
    @raise Conflict: when it is something else.
    """
    above, parts = os.path.abspath(path), list[bytes]()
    # A link at its end leads to what is meant; whoever named it knows it.
    while not os.path.isdir(above):
        if os.path.lexists(above):
            raise Conflict(f"{above!r} is no directory; give one.")
        if exists:
            raise NotFound(f"There is no directory {path!r} here.")
        above, name = os.path.split(above)
        parts.insert(0, os.fsencode(name))
    store = LocalStore(Root(above))
    return LocalTree(store, work.disk, tuple(parts), os.path.abspath(path)), store


def places(tree: LocalTree, plan: Plan) -> Iterator[Parts]:
    """
    Tell in which directories of this end files were to come.

    @param tree: theirs.
    @param plan: what there was to do.
    @return: the names of these, and of the top, each once.
    """
    yield tree.parts
    inside = {each.entry.name.rpartition(b"/")[0] for each in plan.transfer}
    for name in inside - {b""}:
        yield (*tree.parts, *name.split(b"/"))
