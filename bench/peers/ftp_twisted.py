"""
Twisted's own FTP server: one directory, which everyone may write to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from twisted.cred.checkers import AllowAnonymousAccess
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IReactorCore
from twisted.protocols.ftp import FTPFactory, FTPShell, IFTPShell
from twisted.python.filepath import FilePath
from zope.interface import Interface, implementer


@implementer(IRealm)
class Directory:
    """
    Gives everyone the same directory.
    """

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], object, Callable[[], None]]:
        """
        Give it.
        """
        return IFTPShell, FTPShell(FilePath(sys.argv[2])), lambda: None


# The shell that Twisted has for anonymous users only reads; this one also writes.
portal = Portal(Directory(), [AllowAnonymousAccess()])
TCP4ServerEndpoint(reactor, int(sys.argv[1]), interface="127.0.0.1").listen(FTPFactory(portal))
IReactorCore(reactor).run()
