"""
What passes between the chat service and a console.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.chat.messages import (
    MAX_LINE,
    MAX_TEXT,
    Message,
    Notice,
    Reply,
    decodeForConsole,
    decodeForService,
    encodeLine,
)
from twisted_netsuite.errors import ProtocolError

_text = st.text(st.characters(exclude_categories=["Cs"]))

GARBAGE = (
    b"",
    b"hello",
    b"{}",
    b"[]",
    b"null",
    b"\xff",
    b'{"type":"reply","to":"a"',
    b'{"type":"order","to":"a","text":"b"}',
    b'{"type":"message","time":"now","sender":"a","text":"b"}',
    b'{"type":"reply","to":1,"text":"b"}',
    b'{"type":"reply","to":"a"}',
    b'{"type":"reply","to":"a","text":"\xff"}',
    b'{"type":"reply","to":"a","text":"\\ud800"}',
    b'{"type":"reply","to":"a","text":"b","x":' + b"[" * 30_000,
    b'{"type":"notice","text":1}',
)


class RecordTests(SynchronousTestCase):
    """L{encodeLine} and its two decoders."""

    @settings(deadline=None)
    @given(
        st.one_of(
            st.builds(Message, st.floats(0, 1e12), _text, _text),
            st.builds(Notice, _text),
        )
    )
    def test_toConsole(self, record: Message | Notice) -> None:
        """Every record for a console is one line, and comes back as it was."""
        line = encodeLine(record)
        self.assertNotIn(b"\n", line)
        self.assertEqual(decodeForConsole(line), record)

    @settings(deadline=None)
    @given(st.builds(Reply, _text, _text))
    def test_toService(self, reply: Reply) -> None:
        """Every record for a service is one line, and comes back as it was."""
        line = encodeLine(reply)
        self.assertNotIn(b"\n", line)
        self.assertEqual(decodeForService(line), reply)

    def test_unknownField(self) -> None:
        """A field that is not known is passed over: a later version may have it."""
        line = b'{"type":"reply","to":"a","text":"b","colour":"red"}'
        self.assertEqual(decodeForService(line), Reply("a", "b"))

    def test_direction(self) -> None:
        """A record is taken only by the side that it is for."""
        self.assertRaises(ProtocolError, decodeForService, encodeLine(Notice("x")))
        self.assertRaises(ProtocolError, decodeForConsole, encodeLine(Reply("a", "b")))

    def test_garbage(self) -> None:
        """A line that is no record fails with a sentence that names who sent it."""
        decoders: dict[str, Callable[[bytes], object]] = {
            "service": decodeForConsole,
            "console": decodeForService,
        }
        for sender, decode in decoders.items():
            for line in GARBAGE:
                error = self.assertRaises(ProtocolError, decode, line)
                self.assertTrue(
                    str(error).startswith(f"The {sender} sent a line that cannot be read: "), error
                )

    def test_path(self) -> None:
        """A wrong type is answered with the path of its field."""
        error = self.assertRaises(
            ProtocolError, decodeForService, b'{"type":"reply","to":1,"text":"b"}'
        )
        self.assertIn("$.to", str(error))

    def test_longest(self) -> None:
        """The longest message that is shown fits a line, whatever its characters."""
        for character in ("\N{GRINNING FACE}", "\\", '"', "\ufffd", "/"):
            line = encodeLine(Message(1e9, "[" + "f" * 39 + "]:65535", character * MAX_TEXT))
            self.assertLess(len(line), MAX_LINE)
