"""
UDP chat between the tutorial's client and an operator.
"""

from __future__ import annotations

import os
import signal
import socket
import stat

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.console import Console
from tests.integration.processes import (
    SOCKET_TIMEOUT,
    ServedTestCase,
    freePort,
    netsuite,
    scratch,
    started,
)
from tests.integration.tutorial import ask

KEPT = b"No operator is here; your message is kept."


def ownName(sock: socket.socket) -> str:
    """
    Name the address of one's own side.

    @param sock: over IPv4.
    @return: C{IP:PORT}.
    """
    host, port = sock.getsockname()
    return f"{host}:{port}"


class OperatorTests(ServedTestCase):
    """The service between plain clients and an operator."""

    suite = """
    [chat.main]
    listen = ["udp:0:interface=127.0.0.1"]
    operate = "{dir}/operate.sock"
    """

    def setUp(self) -> None:
        """Know the operators' socket."""
        super().setUp()
        self.socket = str(self.twistd.directory / "operate.sock")

    def operate(self, terminal: bool = False) -> Console:
        """Attach an operator's console until the end of the test."""
        return Console(self, "chat", "--plain", "--operate", self.socket, terminal=terminal)

    def test_private(self) -> None:
        """The operators' socket is for the service's own user alone."""
        self.assertEqual(0o600, stat.S_IMODE(os.stat(self.socket).st_mode))

    def test_answer(self) -> None:
        """A client's line is shown with its sender, and the operator's line answers it."""
        client = self.open("chat.main", "udp")
        sender = ownName(client)
        self.assertEqual(KEPT, ask(client, b"anybody?"))
        operator = self.operate()
        operator.expect("anybody?")
        client.send("你好, operator".encode())
        self.assertIn(f"A message from [{sender}]:", operator.expect("你好, operator"))
        operator.type("你好, client")
        self.assertEqual("你好, client".encode(), client.recv(1024))
        self.assertEqual(0, operator.end())

    def test_named(self) -> None:
        """The operator answers the last who wrote, and anyone else by @IP:PORT."""
        first, second = self.open("chat.main", "udp"), self.open("chat.main", "udp")
        operator = self.operate()
        ask(first, b"I am first")
        operator.expect("I am first")
        second.send(b"I am second")
        operator.expect("I am second")
        operator.type(f"@{ownName(first)} to the first")
        self.assertEqual(b"to the first", first.recv(1024))
        operator.type("to the last")
        self.assertEqual(b"to the last", second.recv(1024))
        self.assertEqual(0, operator.end())

    def test_kept(self) -> None:
        """What comes while no operator is there is kept in order for the next one, once."""
        client = self.open("chat.main", "udp")
        for number in range(3):
            self.assertEqual(KEPT, ask(client, b"kept %d" % number))
        operator = self.operate()
        shown = operator.expect("kept 2")
        self.assertEqual([1, 1], [shown.count("kept 0"), shown.count("kept 1")])
        self.assertLess(shown.index("kept 0"), shown.index("kept 1"))
        self.assertEqual(0, operator.end())
        self.assertEqual(KEPT, ask(client, b"for the next"))
        following = self.operate()
        self.assertNotIn("kept 2", following.expect("for the next"))
        self.assertEqual(0, following.end())

    def test_terminal(self) -> None:
        """At a terminal the sender is in colour, and what clients send controls nothing."""
        client = self.open("chat.main", "udp")
        operator = self.operate(terminal=True)
        client.send(b"\x1b[2Jred \x1b]0;title\x07\nA message from [1.1.1.1:1]: forged")
        shown = operator.expect("forged")
        self.assertIn("\x1b[32mA message from [", shown)
        self.assertNotIn("\x1b[2J", shown)
        self.assertNotIn("\x1b]0", shown)
        self.assertEqual(1, len([line for line in shown.splitlines() if "forged" in line]))
        self.assertIn("red", shown.splitlines()[-1])

    def test_wrongAddress(self) -> None:
        """An answer to no address is answered with a sentence, and the console goes on."""
        operator = self.operate()
        operator.type("@nobody hello")
        operator.expect("'nobody' is no IP:PORT; write @IP:PORT and the text.")
        self.assertEqual(0, operator.end())

    def test_blank(self) -> None:
        """An empty line from a client is neither shown nor answered."""
        client = self.open("chat.main", "udp")
        for blank in (b"", b" ", b"\r\n"):
            client.send(blank)
        self.assertEqual(KEPT, ask(client, b"a line"))
        operator = self.operate()
        sender = ownName(client)
        self.assertEqual(1, operator.expect("a line").count(sender))

    def test_noService(self) -> None:
        """A console without a service says so in one line."""
        done = netsuite("chat", "--plain", "--operate", "/nonexistent/operate.sock")
        self.assertEqual((125, ""), (done.returncode, done.stdout))
        self.assertRegex(done.stderr, r"\Anetsuite: .*/nonexistent/operate\.sock.*\n\Z")


class ClientTests(ServedTestCase):
    """Our own client with its contact list."""

    suite = """
    [chat.main]
    listen = ["udp:0:interface=127.0.0.1"]
    operate = "{dir}/operate.sock"
    """

    def contacts(self, **addresses: str) -> str:
        """
        Write a contact list.

        @param addresses: HOST:PORT by name.
        @return: its path.
        """
        path = scratch(self) / "contacts.toml"
        lines = [f'{name} = "{address}"' for name, address in addresses.items()]
        path.write_text("\n".join(["[contacts]", *lines]))
        return str(path)

    def test_talk(self) -> None:
        """A contact is chosen by name, answers, and 'quit' leads back to the list."""
        place = self.twistd.place("chat.main", "udp")
        operator = Console(
            self, "chat", "--plain", "--operate", str(self.twistd.directory / "operate.sock")
        )
        contacts = self.contacts(service=place.text, other="127.0.0.1:9")
        client = Console(self, "chat", "--plain", "--contacts", contacts, terminal=True)
        client.expect("Contacts: service, other")
        client.type("service")
        client.expect("service> ")
        client.type("hello")
        operator.expect("hello")
        operator.type("hello to you")
        client.expect("hello to you")
        client.type("quit")
        client.expect("Contacts: service, other")
        client.type("nobody")
        client.expect("'nobody' is not in the contact list")
        client.type("quit")
        self.assertEqual(0, client.end())

    def test_emptyLines(self) -> None:
        """An empty line is not sent."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as contact:
            contact.settimeout(SOCKET_TIMEOUT)
            contact.bind(("127.0.0.1", 0))
            contacts = self.contacts(anna=ownName(contact))
            client = Console(self, "chat", "--plain", "--contacts", contacts)
            for line in ("anna", "", "  ", "text"):
                client.type(line)
            message, sender = contact.recvfrom(1024)
            contact.sendto(b"answer", sender)
            client.expect("answer")
            self.assertEqual(b"text", message)
            self.assertEqual(0, client.end())

    def test_lostAnswer(self) -> None:
        """An answer that never comes ends in a message, not in a hang, and the talk goes on."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.settimeout(SOCKET_TIMEOUT)
            silent.bind(("127.0.0.1", 0))
            address = ownName(silent)
            contacts = self.contacts(anna=address)
            done = netsuite(
                *("chat", "--plain", "--contacts", contacts, "--timeout", "0.2"),
                typed="anna\nhello\nagain\nquit\nquit\n",
            )
            self.assertEqual([b"hello", b"again"], [silent.recv(1024) for _ in range(2)])
        self.assertEqual(0, done.returncode)
        self.assertEqual(2, done.stderr.count(f"No answer from {address} within 0.2 s"))
        self.assertEqual(2, done.stdout.count("Contacts: anna"))

    def test_nobodyListens(self) -> None:
        """A contact where nobody listens is told at once for each line, and the talk goes on."""
        address = f"127.0.0.1:{freePort(socket.SOCK_DGRAM)}"
        contacts = self.contacts(anna=address)
        done = netsuite(
            *("chat", "--plain", "--contacts", contacts, "--timeout", "5"),
            typed="anna\nhello\nagain\nquit\nquit\n",
        )
        self.assertEqual((0, 2), (done.returncode, done.stdout.count("Contacts: anna")))
        told = f"Nobody listens at {address}; see whether the service runs there."
        self.assertEqual(2, done.stderr.count(told), done.stderr)

    def test_badContacts(self) -> None:
        """A contact list that cannot be used is told in one line, with file and name."""
        contacts = self.contacts(anna="nowhere")
        done = netsuite("chat", "--plain", "--contacts", contacts)
        self.assertEqual((125, ""), (done.returncode, done.stdout))
        self.assertIn(f"{contacts}: contacts.anna is 'nowhere'", done.stderr)
        self.assertEqual(1, done.stderr.count("\n"))


class RestartTests(SynchronousTestCase):
    """What the operators' socket leaves behind."""

    def test_socketRemoved(self) -> None:
        """A service that ends takes its operators' socket with it."""
        twistd = started(
            self,
            "netsuite-chat",
            "--listen=udp:0:interface=127.0.0.1",
            "--operate={dir}/operate.sock",
        )
        path = twistd.directory / "operate.sock"
        self.assertTrue(path.is_socket())
        with twistd.place("chat", "udp").socket() as client:
            # Only once it serves does it take signals: the table comes a moment before.
            self.assertEqual(KEPT, ask(client, b"hello"))
        twistd.signal(signal.SIGTERM)
        twistd.wait()
        self.assertFalse(path.exists())
