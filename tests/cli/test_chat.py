"""
The command chat: an operator's console, and a client with contacts.
"""

from __future__ import annotations

import os
import sys
import time
from types import SimpleNamespace
from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

import twisted_netsuite.cli.chat as command
from tests.chat.consoles import ConsoleEndpoint
from tests.cli.terminal import Keyboard, Screen
from tests.echo.farend import DatagramReactor, FarEnd
from twisted_netsuite.chat.client import defaultSocket
from twisted_netsuite.chat.messages import (
    MAX_LINE,
    Message,
    Notice,
    Reply,
    decodeForService,
    encodeLine,
)
from twisted_netsuite.cli.chat import loadContacts, operate, talk
from twisted_netsuite.cli.lines import LineReader
from twisted_netsuite.errors import ConfigurationError, ConnectionFailed


class ChatCommandTestCase(SynchronousTestCase):
    """A terminal and a reactor."""

    def setUp(self) -> None:
        self.screen = Screen(self)
        self.reactor = DatagramReactor()
        self.keyboard = Keyboard(self, self.reactor)
        self.patch(
            command, "LineReader", lambda reactor: LineReader(reactor, self.keyboard.descriptor)
        )
        shown = SimpleNamespace(
            strftime=lambda form, moment=None: "12:34:56", localtime=time.gmtime
        )
        self.patch(command, "time", shown)

    def printed(self) -> list[str]:
        """The lines on standard output."""
        return self.screen.out.decode().splitlines()


class OperateTests(ChatCommandTestCase):
    """L{operate}."""

    def setUp(self) -> None:
        super().setUp()
        self.service = FarEnd()
        self.endpoint = ConsoleEndpoint(self.service)
        self.paths: list[str] = []
        self.patch(command, "UNIXClientEndpoint", self.at)

    def at(self, reactor: object, path: str) -> ConsoleEndpoint:
        """Note the path."""
        self.paths.append(path)
        return self.endpoint

    def start(self, path: str = "/run/chat.sock") -> Deferred[int]:
        """Run the command."""
        return Deferred.fromCoroutine(operate(self.reactor, path))

    def serve(self, *records: Message | Notice) -> None:
        """Let the service send records."""
        for record in records:
            self.service.transport.write(encodeLine(record) + b"\n")
        self.endpoint.pair.flush()

    def replies(self) -> list[Reply]:
        """Take what the service got since."""
        self.endpoint.pair.flush()
        lines = bytes(self.service.received).split(b"\n")[:-1]
        self.service.received.clear()
        return [decodeForService(line) for line in lines]

    def test_shown(self) -> None:
        """A message shows its time, its sender and its text; a notice is marked as one."""
        self.start()
        self.serve(Message(0, "192.0.2.1:5", "hello"), Notice("Something."))
        self.assertEqual(
            self.printed(), ["12:34:56 A message from [192.0.2.1:5]: hello", "* Something."]
        )

    def test_answers(self) -> None:
        """A line answers who wrote last, or whom it names; a blank one is not sent."""
        self.start()
        self.serve(Message(0, "192.0.2.1:5", "hello"))
        self.keyboard.type("hi\n")
        self.serve(Message(0, "[::1]:5", "hello"))
        self.keyboard.type(
            "  ho there \n\n \n@192.0.2.9:1 you  there\n@192.0.2.9:1\n@192.0.2.9:1 \n"
        )
        self.assertEqual(
            self.replies(),
            [
                Reply("192.0.2.1:5", "hi"),
                Reply("[::1]:5", "ho there"),
                Reply("192.0.2.9:1", "you  there"),
            ],
        )
        self.assertEqual(self.screen.err, "")

    def test_nobodyYet(self) -> None:
        """An answer to nobody is told how to be written, and the console goes on."""
        done = self.start()
        self.keyboard.type("hi\n@1.2.3.4:5 hi\n")
        self.assertEqual(
            self.screen.err, "netsuite: Nobody has written yet; write @IP:PORT and the text.\n"
        )
        self.assertEqual(self.replies(), [Reply("1.2.3.4:5", "hi")])
        self.assertNoResult(done)

    def test_tooLong(self) -> None:
        """An answer that is too long is told so, and the console goes on."""
        self.start()
        half = "x" * (MAX_LINE // 2)
        self.keyboard.type("@1.2.3.4:5 " + half)
        self.keyboard.type(half + "\n@1.2.3.4:5 short\n")
        self.assertIn(f"A text of {MAX_LINE} characters is too long", self.screen.err)
        self.assertEqual(self.replies(), [Reply("1.2.3.4:5", "short")])

    def test_end(self) -> None:
        """When input ends, all answers still reach the service before the command does."""
        done = self.start()
        self.endpoint.pair.server.pauseProducing()
        self.keyboard.type("@1.2.3.4:5 one\n@1.2.3.4:5 two")
        self.keyboard.end()
        self.endpoint.pair.flush()
        self.assertNoResult(done)
        self.endpoint.pair.server.resumeProducing()
        self.assertEqual(self.replies(), [Reply("1.2.3.4:5", "one"), Reply("1.2.3.4:5", "two")])
        self.assertEqual(self.successResultOf(done), 0)

    def test_serviceEnds(self) -> None:
        """When the service ends, so does the command, with one sentence."""
        done = self.start()
        self.service.transport.loseConnection()
        self.endpoint.pair.flush()
        error = self.failureResultOf(done, ConnectionFailed).value
        self.assertEqual(
            str(error), "The chat service at /run/chat.sock has ended; start it again."
        )
        self.assertEqual(self.reactor.getReaders(), [])

    def test_noService(self) -> None:
        """A socket where no service is is named, with the reason and what to do."""
        self.endpoint = ConsoleEndpoint(None)
        error = self.failureResultOf(self.start("/run/none.sock"), ConnectionFailed).value
        self.assertEqual(
            str(error),
            "Cannot reach the chat service at /run/none.sock: no such file or directory; "
            "see whether it runs and has this socket.",
        )

    def test_paths(self) -> None:
        """The socket is the default one, or that which is told, from a person's home too."""
        self.patch(os, "environ", {"HOME": "/home/anna", "XDG_RUNTIME_DIR": self.runtime(0o700)})
        self.start("")
        self.start("~/s")
        self.assertEqual(self.paths, [defaultSocket(), "/home/anna/s"])

    def runtime(self, mode: int) -> str:
        """Make a directory for the default socket."""
        directory: str = os.path.realpath(self.mktemp())
        os.mkdir(directory)
        os.chmod(directory, mode)
        return directory

    def test_notPrivate(self) -> None:
        """The default socket is not used where others could have put one of their own."""
        directory = self.runtime(0o755)
        self.patch(os, "environ", {"XDG_RUNTIME_DIR": directory})
        for path in ("", defaultSocket()):
            error = self.failureResultOf(self.start(path), ConfigurationError).value
            self.assertIn(f"{directory!r} is not this user's alone", str(error))
        self.assertEqual(self.paths, [])

    def test_noTime(self) -> None:
        """A time that no clock can show does not hide its message."""
        self.patch(command, "time", time)
        self.start()
        self.serve(Message(1e300, "192.0.2.1:5", "hello"))
        self.assertEqual(self.printed(), ["--:--:-- A message from [192.0.2.1:5]: hello"])

    def test_interrupted(self) -> None:
        """An interruption lets input go."""
        done = self.start()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(self.reactor.getReaders(), [])


class TalkTests(ChatCommandTestCase):
    """L{talk}."""

    def start(self, address: str | None = None, contacts: str | None = None) -> Deferred[int]:
        """Run the command."""
        return Deferred.fromCoroutine(talk(self.reactor, address, contacts, 5))

    def contacts(self) -> str:
        """Make a contact list."""
        path: str = self.mktemp()
        with open(path, "w") as file:
            file.write('[contacts]\nanna = "127.0.0.1:1001"\nbert = "127.0.0.1:1002"\n')
        return path

    def sent(self, port: int = -1) -> list[str]:
        """What was sent from one of the sockets, the last by default."""
        notes = self.reactor.ports[port][1]
        return [datagram.decode() for datagram, _ in notes.sent]

    def answer(self, text: str | bytes, port: int = -1) -> None:
        """Let the other side write."""
        datagram = text.encode() if isinstance(text, str) else text
        self.reactor.ports[port][0].datagramReceived(datagram, ("127.0.0.1", 1001))

    def test_talk(self) -> None:
        """A line is sent, its answer shown, then the next line is sent; a blank one is not."""
        done = self.start("127.0.0.1:1001")
        self.keyboard.type("  hello é \n\n \nnext\n")
        self.assertEqual(self.sent(), ["hello é"])
        self.answer("hi")
        self.assertEqual(self.printed(), ["12:34:56 127.0.0.1:1001: hi"])
        self.assertEqual(self.sent(), ["hello é", "next"])
        self.answer(b"\x1b[2J\xff")
        self.assertEqual(self.printed()[1:], ["12:34:56 127.0.0.1:1001: \ufffd[2J\ufffd"])
        self.keyboard.end()
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(self.screen.err, "")

    def test_quit(self) -> None:
        """With one address, quit ends the command."""
        done = self.start("udp:127.0.0.1:1001")
        self.keyboard.type("quit\n")
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(self.sent(), [])

    def test_unasked(self) -> None:
        """What comes while nothing is waited for is shown, too."""
        self.start("127.0.0.1:1001")
        self.answer("knock")
        self.assertEqual(self.printed(), ["12:34:56 127.0.0.1:1001: knock"])

    def test_lostAnswer(self) -> None:
        """A lost answer is told after the timeout, and the next line can be sent."""
        self.start("127.0.0.1:1001")
        self.keyboard.type("hello\n")
        self.reactor.advance(4.9)
        self.assertEqual(self.screen.err, "")
        self.reactor.advance(0.1)
        self.assertIn("No answer from 127.0.0.1:1001 within 5 s", self.screen.err)
        self.keyboard.type("again\n")
        self.assertEqual(self.sent(), ["hello", "again"])

    def test_refused(self) -> None:
        """That nobody listens is told at once, and the next line can be sent."""
        self.start("127.0.0.1:1001")
        self.keyboard.type("hello\n")
        self.reactor.ports[0][0].connectionRefused()
        self.assertIn("Nobody listens at 127.0.0.1:1001", self.screen.err)
        self.keyboard.type("again\n")
        self.assertEqual(self.sent(), ["hello", "again"])

    def test_IPv6(self) -> None:
        """An address of IPv6 is talked to over IPv6."""
        self.start("[::1]:1001")
        self.assertEqual(self.reactor.ports[0][1].connected, ("::1", 1001))
        self.assertEqual(self.reactor.ports[0][1].getHost().host, "::")

    def test_badAddress(self) -> None:
        """What is no HOST:PORT is named."""
        for address in ("anna", "127.0.0.1", "tcp:127.0.0.1:1"):
            error = self.failureResultOf(self.start(address), ConfigurationError).value
            self.assertEqual(
                str(error), f"The address {address!r} cannot be understood; give HOST:PORT."
            )

    def test_contacts(self) -> None:
        """One contact is talked to after another: quit goes back to the list, and there it ends."""
        done = self.start(contacts=self.contacts())
        self.assertEqual(self.printed(), ["Contacts: anna, bert"])
        self.keyboard.type("anna\nhello\n")
        self.assertEqual(self.reactor.ports[0][1].connected, ("127.0.0.1", 1001))
        self.answer("hi")
        self.assertEqual(self.printed()[-1], "12:34:56 anna: hi")
        self.keyboard.type("quit\n")
        self.assertEqual(self.printed()[-1], "Contacts: anna, bert")
        self.keyboard.type(" bert \nhello\n")
        self.assertEqual(self.reactor.ports[1][1].connected, ("127.0.0.1", 1002))
        self.assertEqual(self.sent(), ["hello"])
        self.answer("ho")
        self.keyboard.type("quit\nquit\n")
        self.assertEqual(self.successResultOf(done), 0)

    def test_unknownContact(self) -> None:
        """Who is not in the list is told so, with who is; a blank line is not."""
        done = self.start(contacts=self.contacts())
        self.keyboard.type("\ncarl\n")
        self.assertEqual(
            self.screen.err,
            "netsuite: 'carl' is not in the contact list; there are anna, bert.\n",
        )
        self.keyboard.end()
        self.assertEqual(self.successResultOf(done), 0)

    def test_endWithinTalk(self) -> None:
        """When input ends within a talk, so does the command."""
        done = self.start(contacts=self.contacts())
        self.keyboard.type("anna\n")
        self.keyboard.end()
        self.assertEqual(self.successResultOf(done), 0)

    def test_prompt(self) -> None:
        """A person at a terminal is prompted; a program at a pipe is not."""
        self.patch(sys, "stdin", SimpleNamespace(isatty=lambda: True))
        self.start("127.0.0.1:1001")
        self.assertEqual(self.screen.out, b"")
        self.patch(sys.stdout, "isatty", lambda: True)
        self.start("127.0.0.1:1001")
        self.assertEqual(self.screen.out, b"127.0.0.1:1001> ")


class LoadContactsTests(SynchronousTestCase):
    """L{loadContacts}."""

    def load(self, text: str | bytes) -> dict[str, tuple[str, int]]:
        """Load a contact list."""
        self.path = self.mktemp()
        with open(self.path, "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
        return loadContacts(self.path)

    def refusal(self, text: str | bytes) -> str:
        """Tell why a contact list is refused."""
        error = self.assertRaises(ConfigurationError, self.load, text)
        self.assertIn(self.path, str(error))
        return cast(ConfigurationError, error).sentence

    def test_contacts(self) -> None:
        """Each name has a host and a port."""
        self.assertEqual(
            self.load('[contacts]\nanna = "127.0.0.1:1"\n"b é" = "[::1]:2"\nc = "h.example:3"\n'),
            {"anna": ("127.0.0.1", 1), "b é": ("::1", 2), "c": ("h.example", 3)},
        )

    def test_badAddress(self) -> None:
        """An address that is none is told with its name, and what to give."""
        for address in ("", "h", "1.2.3.4", "::1:5", "tcp:h:5"):
            self.assertEqual(
                self.refusal(f'[contacts]\nanna = "{address}"\n'),
                f"{self.path}: contacts.anna is {address!r}; give HOST:PORT, as in 127.0.0.1:7425.",
            )
        sentence = self.refusal('[contacts]\nanna = "h:65536"\n')
        self.assertIn("contacts.anna: The port 65536", sentence)

    def test_badShape(self) -> None:
        """A file of another shape is told what to write."""
        for text in (
            "",
            "[contact]\n",
            "contacts = 1\n",
            "[contacts]\nanna = 1\n",
            "[contacts]\n[x]\n",
        ):
            self.assertIn("write a table [contacts] of lines such as", self.refusal(text))
        self.assertIn("$.contacts", self.refusal("[contacts]\nanna = 1\n"))

    def test_unreadable(self) -> None:
        """A file that is no TOML, no UTF-8, or not there is named with the reason."""
        self.assertIn("is not TOML", self.refusal("[contacts\n"))
        self.assertIn("is not UTF-8", self.refusal(b"\xff"))
        error = self.assertRaises(ConfigurationError, loadContacts, "/nonexistent/contacts.toml")
        self.assertIn("'/nonexistent/contacts.toml' cannot be read: no such file", str(error))
