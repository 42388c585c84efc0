"""
Trying out, before a service starts, whether its addresses can be bound, and saying why not.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import Bind, ListenAddress

#: The kernel's sun_path has 108 bytes, the last of which ends the string.
MAX_UNIX_PATH = 107


def requireApart(addresses: Iterable[ListenAddress]) -> None:
    """
    Refuse addresses that cannot be listened on at once.

    @param addresses: all addresses of all services that will start together.
    @raise ConfigurationError: naming the first that is taken by one before it.
    """
    seen: list[Bind] = []
    for bind in (bind for address in addresses for bind in address.binds()):
        for other in filter(bind.overlaps, seen):
            twice = "is given twice" if bind == other else f"is taken by {other} already"
            raise ConfigurationError(f"{bind} {twice}; give each service an address of its own.")
        seen.append(bind)


def checkBinds(addresses: Iterable[ListenAddress]) -> None:
    """
    Try out whether every address could be bound now, and leave all of them free.

    This runs before anything is daemonised, so that a person sees what is wrong.

    @param addresses: all addresses of all services that will start together.
    @raise ConfigurationError: naming the first that could not.
    """
    for address in addresses:
        for bind in address.binds():
            _tryBind(bind)


def _tryBind(bind: Bind) -> None:
    try:
        if bind.kind == "unix":
            _tryUNIX(bind.host)
        else:
            _tryIP(bind)
    except OSError as error:
        raise ConfigurationError(bindSentence(str(bind), error)) from error
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{str(bind)!r} is no address that can be listened on ({error}); "
            "give another listen address."
        ) from error


def _tryIP(bind: Bind) -> None:
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    type_ = socket.SOCK_STREAM if bind.kind == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, type_) as probe:
        if bind.kind == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((bind.host, bind.port))


def _tryUNIX(path: str) -> None:
    if path.startswith("\0"):
        return
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    parent = os.path.dirname(path) or "."
    os.stat(parent)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise OSError(errno.EEXIST, "a file that is no socket is in its place")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A listener whose backlog is full would let a blocking probe wait for ever.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


_BIND_ADVICE = {
    errno.EADDRINUSE: "stop the program that holds it, or give another listen address",
    errno.EADDRNOTAVAIL: "it is not an address of this machine; give one that `ip address` shows",
    errno.EACCES: "give a port above 1023 or a directory that you may write to, or start with more "
    "rights",
    errno.ENOENT: "make its directory first",
    errno.EEXIST: "remove that file, or give another path",
    errno.ENAMETOOLONG: f"a socket's path has at most {MAX_UNIX_PATH} bytes",
}


def bindSentence(what: str, error: OSError) -> str:
    """
    Say why an address cannot be bound.

    @param what: the address.
    @param error: what the system answered.
    @return: one sentence with what to do.
    """
    advice = _BIND_ADVICE.get(error.errno or 0, "give another listen address")
    reason = (error.strerror or str(error)).lower()
    return f"Cannot listen on {what}: {reason}; {advice}."
