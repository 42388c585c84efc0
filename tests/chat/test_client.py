"""
The operator's side of the plain dialect.
"""

from __future__ import annotations

import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.chat.consoles import connectConsole
from tests.echo.farend import FarEnd
from twisted_netsuite.chat.classic import OperatorFactory, Switchboard
from twisted_netsuite.chat.client import OperatorClient, defaultSocket
from twisted_netsuite.chat.messages import MAX_LINE, Message, Notice, Reply, encodeLine
from twisted_netsuite.errors import LimitExceeded
from twisted_netsuite.testing import listenDatagrams


class OperatorClientTests(SynchronousTestCase):
    """L{OperatorClient}."""

    def setUp(self) -> None:
        self.shown: list[Message | Notice] = []
        self.console = OperatorClient(self.shown.append)
        self.service = FarEnd()
        self.pair = connectConsole(self.service, self.console)

    def serve(self, *lines: bytes) -> None:
        """Let the service send lines."""
        for line in lines:
            self.service.transport.write(line + b"\n")
        self.pair.flush(3)

    def test_shown(self) -> None:
        """Each record is shown, and who wrote last is known."""
        records: list[Message | Notice] = [
            Message(1.5, "192.0.2.1:5", "hi"),
            Notice("n"),
            Message(2, "[::1]:5", "ho"),
        ]
        self.assertEqual(self.console.lastSender, "")
        self.serve(*[encodeLine(record) for record in records])
        self.assertEqual(self.shown, records)
        self.assertEqual(self.console.lastSender, "[::1]:5")

    def test_clean(self) -> None:
        """What a service sends controls no terminal, though it should have been cleaned before."""
        self.serve(encodeLine(Message(1, "\x1b[2J", "\x1b[0m")), encodeLine(Notice("\x07")))
        self.assertEqual(self.shown, [Message(1, "\ufffd[2J", "\ufffd[0m"), Notice("\ufffd")])

    def test_garbage(self) -> None:
        """A line that cannot be read is shown as a notice, and the console goes on."""
        self.serve(b"\x1bhello", encodeLine(Notice("n")))
        self.assertIn("The service sent a line that cannot be read", self.shown[0].text)
        self.assertEqual(self.shown[1], Notice("n"))

    def test_reply(self) -> None:
        """An answer is one line for the service."""
        self.console.reply("192.0.2.1:5", "hi\nthere")
        self.pair.flush()
        self.assertEqual(
            self.service.received, encodeLine(Reply("192.0.2.1:5", "hi\nthere")) + b"\n"
        )

    def test_longReply(self) -> None:
        """The longest answer that fits a line is sent; a longer one fails, and nothing is sent."""
        room = MAX_LINE - len(encodeLine(Reply("192.0.2.1:5", "")))
        self.console.reply("192.0.2.1:5", "x" * room)
        self.pair.flush()
        self.assertEqual(len(self.service.received), MAX_LINE + 1)
        error = self.assertRaises(
            LimitExceeded, self.console.reply, "192.0.2.1:5", "x" * (room + 1)
        )
        self.assertIn(f"A text of {room + 1} characters is too long", str(error))
        self.pair.flush()
        self.assertEqual(len(self.service.received), MAX_LINE + 1)

    def test_ended(self) -> None:
        """The end of the service is told once."""
        self.assertNoResult(self.console.ended)
        self.service.transport.loseConnection()
        self.pair.flush()
        self.successResultOf(self.console.ended)

    def test_close(self) -> None:
        """A console that closes has sent all its answers when it says that it has ended."""
        self.service.transport.pauseProducing()
        self.console.reply("192.0.2.1:5", "hi")
        ended = self.console.close()
        self.pair.flush()
        self.assertNoResult(ended)
        self.service.transport.resumeProducing()
        self.pair.flush()
        self.assertTrue(self.service.received.endswith(b"\n"))
        self.assertTrue(self.service.ended)
        self.successResultOf(ended)

    def test_withService(self) -> None:
        """Console and service understand each other."""
        switchboard = Switchboard(Clock(), lambda: 1.0)
        line = switchboard.listen()
        notes = listenDatagrams(line)
        service = OperatorFactory(Clock(), switchboard).buildProtocol(None)
        assert service is not None
        console = OperatorClient(self.shown.append)
        pair = connectConsole(service, console)
        line.datagramReceived(b"hello", ("192.0.2.1", 5))
        pair.flush(1)
        self.assertEqual(self.shown, [Message(1.0, "192.0.2.1:5", "hello")])
        console.reply(console.lastSender, "hi")
        console.reply("nobody", "hi")
        pair.flush(1)
        self.assertEqual(notes.sent, [(b"hi", ("192.0.2.1", 5))])
        self.assertEqual(
            self.shown[1:], [Notice("'nobody' is no IP:PORT; write @IP:PORT and the text.")]
        )


class DefaultSocketTests(SynchronousTestCase):
    """L{defaultSocket}."""

    def test_runtimeDirectory(self) -> None:
        """It stands in the user's own runtime directory where there is one."""
        self.patch(os, "environ", {"XDG_RUNTIME_DIR": "/run/user/7"})
        self.assertEqual(defaultSocket(), "/run/user/7/netsuite-chat.sock")

    def test_without(self) -> None:
        """Otherwise it stands in a directory that is named after the user."""
        for environ in ({}, {"XDG_RUNTIME_DIR": ""}):
            self.patch(os, "environ", environ)
            self.assertEqual(defaultSocket(), f"/tmp/netsuite-{os.getuid()}/netsuite-chat.sock")
