"""
A program that serves Python's standard clients with Twisted's own servers, for the proxy to stand
before. It prints one line of JSON, name to port, and serves until it is ended.

Twisted has no NNTP and no Gopher: those two are a few lines here.
"""

from __future__ import annotations

import io
import json
from typing import Any

from twisted.conch.telnet import StatefulTelnetProtocol, TelnetTransport
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.mail import imap4, pop3, smtp
from twisted.protocols.basic import LineReceiver
from twisted.protocols.ftp import FTPFactory, FTPRealm
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

USER, PASSWORD = "anna", "secret"

#: What was mailed: SMTP puts it here, POP3 and IMAP4 show it.
_mails: list[bytes] = []


class Page(Resource):
    """Answers GET with a page and POST with the size of what was posted."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """Answer."""
        return b"page %s" % request.path

    def render_POST(self, request: Any) -> bytes:
        """Answer."""
        return b"%d bytes" % len(request.content.read())


@implementer(smtp.IMessage)
class Mail:
    """One mail that comes in."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        """Take a line."""
        self._lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        """Deliver."""
        _mails.append(b"\n".join(self._lines) + b"\n")
        return succeed(None)

    def connectionLost(self) -> None:
        """Forget it."""


@implementer(smtp.IMessageDelivery)
class Delivery:
    """Takes any mail."""

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        """Add a line."""
        return b"Received: by a test"

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        """From anyone."""
        return origin

    def validateTo(self, user: Any) -> Any:
        """To anyone."""
        return Mail


class Incoming(smtp.ESMTP):
    """SMTP."""

    def __init__(self) -> None:
        super().__init__()
        self.delivery = Delivery()


class Maildrop(pop3.Mailbox):
    """What POP3 shows."""

    def listMessages(self, index: int | None = None) -> Any:
        """Tell sizes."""
        sizes = [len(mail) for mail in _mails]
        return sizes if index is None else sizes[index]

    def getMessage(self, index: int) -> Any:
        """Give one mail."""
        return io.BytesIO(_mails[index])

    def getUidl(self, index: int) -> bytes:
        """Name one mail."""
        return b"mail-%d" % index


class Inbox:
    """What IMAP4 shows: as much of C{imap4.IMailbox} as SELECT asks."""

    def getFlags(self) -> list[str]:
        """No marks."""
        return []

    def getHierarchicalDelimiter(self) -> str:
        """Nothing is below it."""
        return "/"

    def getMessageCount(self) -> int:
        """Count."""
        return len(_mails)

    def getRecentCount(self) -> int:
        """None is new."""
        return 0

    def getUIDValidity(self) -> int:
        """Names hold for this run."""
        return 1

    def isWriteable(self) -> bool:
        """For reading."""
        return False

    def addListener(self, listener: object) -> None:
        """Nothing changes."""

    def removeListener(self, listener: object) -> None:
        """Nothing changed."""


@implementer(IRealm)
class MailRealm:
    """Gives whoever is let in one of the two views."""

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """Let in."""
        if pop3.IMailbox in interfaces:
            return pop3.IMailbox, Maildrop(), lambda: None
        account = imap4.MemoryAccount(avatarId)
        account.addMailbox("INBOX", Inbox())
        return imap4.IAccount, account, lambda: None


class Talk(StatefulTelnetProtocol):
    """Says each line again, and speaks first."""

    transport: Any
    state = "Command"

    def connectionMade(self) -> None:
        """Greet."""
        self.transport.write(b"welcome\n")

    def telnet_Command(self, line: bytes) -> None:
        """Answer."""
        self.transport.write(b"you said " + line + b"\n")


class News(LineReceiver):
    """As much of NNTP (RFC 3977) as one conversation takes."""

    transport: Any

    def connectionMade(self) -> None:
        """Greet."""
        self.sendLine(b"200 news ready")

    def lineReceived(self, line: bytes) -> None:
        """Answer."""
        match line.split():
            case [b"GROUP", group]:
                self.sendLine(b"211 1 1 1 " + group)
            case [b"ARTICLE", b"1"]:
                for each in (b"220 1 <1@test>", b"Subject: one", b"", b"an article", b"."):
                    self.sendLine(each)
            case [b"QUIT"]:
                self.sendLine(b"205 bye")
                self.transport.loseConnection()
            case _:
                self.sendLine(b"500 what?")


class Gopher(LineReceiver):
    """As much of Gopher (RFC 1436) as one conversation takes: the server closes."""

    transport: Any

    def lineReceived(self, line: bytes) -> None:
        """Answer with a menu, or with a text."""
        if line:
            self.transport.write(b"the text of " + line + b"\r\n.\r\n")
        else:
            self.transport.write(b"0About\t/about\tlocalhost\t70\r\n.\r\n")
        self.transport.loseConnection()


def main() -> None:
    """Serve, and tell where."""
    checker = InMemoryUsernamePasswordDatabaseDontUse()
    checker.addUser(USER.encode(), PASSWORD.encode())
    # Twisted's FTP alone decodes names and passwords.
    checker.addUser(USER, PASSWORD)  # type: ignore[arg-type]
    portal = Portal(MailRealm(), [checker])

    def withPortal(make: Any) -> Any:
        def build() -> Protocol:
            protocol: Protocol = make()
            protocol.portal = portal  # type: ignore[attr-defined]
            return protocol

        return Factory.forProtocol(build)

    factories = {
        "http": Site(Page()),
        "smtp": Factory.forProtocol(Incoming),
        "pop3": withPortal(pop3.POP3),
        "imap4": withPortal(imap4.IMAP4Server),
        "ftp": FTPFactory(Portal(FTPRealm(".", "."), [checker])),
        "telnet": Factory.forProtocol(lambda: TelnetTransport(Talk)),
        "nntp": Factory.forProtocol(News),
        "gopher": Factory.forProtocol(Gopher),
    }
    ports: dict[str, int] = {}
    for name, factory in factories.items():
        heard = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        heard.addCallback(lambda port, name=name: ports.update({name: port.getHost().port}))
    print(json.dumps(ports), flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
