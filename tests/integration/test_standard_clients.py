"""
The protocols of Python's standard clients through the proxy, against Twisted's own servers.
"""

from __future__ import annotations

import ftplib
import http.client
import imaplib
import poplib
import smtplib
import socket

from tests.integration.processes import SOCKET_TIMEOUT, ServedTestCase, Twistd
from tests.integration.proxied import ProxiedServers
from tests.integration.standard_servers import PASSWORD, USER
from tests.integration.tutorial import readAll, readSize

MAIL = "From: bob@example.org\r\nTo: anna@example.org\r\nSubject: hello\r\n\r\nthrough a proxy\r\n"


class StandardClientTests(ServedTestCase):
    """Each client talks to its server as if no proxy were there."""

    @classmethod
    def start(cls) -> Twistd:
        """Start proxies and servers."""
        return ProxiedServers()

    def port(self, name: str) -> int:
        """
        Find a proxy.

        @param name: of the protocol.
        @return: its port on 127.0.0.1.
        """
        return self.twistd.place(f"proxy.{name}").port

    def test_http(self) -> None:
        """http.client gets pages over one connection and posts a large body."""
        client = http.client.HTTPConnection("127.0.0.1", self.port("http"), SOCKET_TIMEOUT)
        self.addCleanup(client.close)
        for path in ("/one", "/two"):
            client.request("GET", path)
            self.assertEqual(f"page {path}".encode(), client.getresponse().read())
        client.request("POST", "/", b"x" * 1_000_000)
        self.assertEqual(b"1000000 bytes", client.getresponse().read())

    def test_mail(self) -> None:
        """What smtplib sends, poplib fetches and imaplib counts."""
        with smtplib.SMTP("127.0.0.1", self.port("smtp"), timeout=SOCKET_TIMEOUT) as sender:
            refused = sender.sendmail("bob@example.org", ["anna@example.org"], MAIL)
        self.assertEqual({}, refused)
        pop = poplib.POP3("127.0.0.1", self.port("pop3"), SOCKET_TIMEOUT)
        self.addCleanup(pop.close)
        pop.user(USER)
        pop.pass_(PASSWORD)
        self.assertEqual(1, pop.stat()[0])
        _, lines, _ = pop.retr(1)
        self.assertEqual(b"through a proxy", lines[-1])
        pop.quit()
        imap = imaplib.IMAP4("127.0.0.1", self.port("imap4"), SOCKET_TIMEOUT)
        imap.login(USER, PASSWORD)
        self.assertEqual(("OK", [b"1"]), imap.select("INBOX", readonly=True))
        self.assertEqual("OK", imap.noop()[0])
        self.assertEqual("BYE", imap.logout()[0])

    def test_wrongPassword(self) -> None:
        """A server's refusal reaches its client as such."""
        imap = imaplib.IMAP4("127.0.0.1", self.port("imap4"), SOCKET_TIMEOUT)
        self.addCleanup(imap.shutdown)
        with self.assertRaises(imaplib.IMAP4.error):
            imap.login(USER, "wrong")

    def test_ftp(self) -> None:
        """ftplib's control connection logs in, asks where it is, and leaves."""
        client = ftplib.FTP(timeout=SOCKET_TIMEOUT)
        self.addCleanup(client.close)
        client.connect("127.0.0.1", self.port("ftp"))
        self.assertTrue(client.login(USER, PASSWORD).startswith("230"))
        self.assertEqual("/", client.pwd())
        self.assertTrue(client.voidcmd("NOOP").startswith("200"))
        self.assertTrue(client.quit().startswith("221"))

    def test_telnet(self) -> None:
        """A telnet server speaks first, refuses an option, and answers a line."""
        client = self.open("proxy.telnet")
        self.assertEqual(b"welcome\r\n", readSize(client, 9))
        client.send(b"\xff\xfd\x01")
        self.assertEqual(b"\xff\xfc\x01", readSize(client, 3))
        client.send(b"hello\r\n")
        self.assertEqual(b"you said hello\r\n", readSize(client, 16))

    def test_nntp(self) -> None:
        """A news reader selects a group, reads an article, and leaves."""
        client = self.open("proxy.nntp")
        talk = client.makefile("rwb", buffering=0)
        self.addCleanup(talk.close)
        self.assertEqual(b"200 news ready\r\n", talk.readline())
        client.sendall(b"GROUP comp.test\r\n")
        self.assertEqual(b"211 1 1 1 comp.test\r\n", talk.readline())
        client.sendall(b"ARTICLE 1\r\n")
        lines = [talk.readline() for _ in range(5)]
        self.assertEqual([b"an article\r\n", b".\r\n"], lines[3:])
        client.sendall(b"QUIT\r\n")
        self.assertEqual(b"205 bye\r\n", readAll(client))

    def test_gopher(self) -> None:
        """A gopher client gets a menu and a text, each ended by the server's close."""
        answers = {b"": b"0About\t/about\tlocalhost\t70\r\n.\r\n"}
        answers[b"/about"] = b"the text of /about\r\n.\r\n"
        for selector, answer in answers.items():
            client = self.open("proxy.gopher")
            client.sendall(selector + b"\r\n")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(answer, readAll(client))
