"""
Lines of TOML documents: each part of a document is found where it stands.
"""

from __future__ import annotations

import json
import time
import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.trust.tomllines import Lines, Path

KEYS = st.sampled_from(["a", "b-c", '"d.e"', "'f g'", '"[h]"', '"#="', '"i\\"]"', "1"])
BLANKS = st.sampled_from(["", " ", "\t"])
ENDS = st.sampled_from(["", " # comment", " # \"[x]\" = '''"])
SPACES = st.sampled_from(["", "\n", "# c ]\n", "\n\n  "])


class Writer:
    """
    Writes a random document, and notes where it wrote what.

    @ivar text: the document.
    @ivar where: the line of each value that has one of its own, by what is written there.
    """

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.where: dict[str, int] = {}
        self._count = 0

    @property
    def line(self) -> int:
        """The line on which the next character comes."""
        return self.text.count("\n") + 1

    def mark(self, line: int) -> str:
        """Make a text that is nowhere else, for something that stands on a line."""
        self._count += 1
        text = f"mark{self._count}"
        self.where[text] = line
        return text

    def string(self, line: int) -> None:
        """Write a string in some form."""
        mark = self.mark(line)
        forms = ['"{}"', "'{}'", '"""{}"""', "'''{}'''", '"{}\\n\\"]"', "'{}#['",
                 '"""\n{}\n]"\\"""""', "'''\n{}\n=''''", '"""{} ""[""\n"""']  # fmt: skip
        self.text += self.draw(st.sampled_from(forms)).format(mark)

    def value(self, line: int, depth: int, breaks: bool) -> None:
        """Write a value; an array may break lines, which an inline table may not."""
        kind = self.draw(st.sampled_from(["string", "array", "table"])) if depth else "string"
        if kind == "string":
            self.string(line)
        elif kind == "array":
            self.text += "["
            for _ in range(self.draw(st.integers(0, 3))):
                self.text += self.draw(SPACES) if breaks else ""
                self.value(self.line if breaks else line, depth - 1, breaks)
                self.text += (self.draw(SPACES) if breaks else "") + ","
            self.text += (self.draw(SPACES) if breaks else "") + "]"
        else:
            keys = self.draw(st.lists(KEYS, max_size=3, unique=True))
            self.text += "{"
            for index, key in enumerate(keys):
                self.text += ", " if index else " "
                self.text += f"{key} = "
                self.value(line, depth - 1, False)
            self.text += "}"

    def pairs(self) -> None:
        """Write keys and values."""
        for key in self.draw(st.lists(KEYS, max_size=3, unique=True)):
            self.text += self.draw(st.sampled_from(["", "\n", "# c\n"])) + self.draw(BLANKS)
            line = self.line
            dot = self.draw(st.sampled_from(["", ".x", " . 'y.z'"]))
            self.text += f"{key}{dot}{self.draw(BLANKS)}={self.draw(BLANKS)}"
            self.value(line, self.draw(st.integers(0, 3)), True)
            self.text += self.draw(ENDS) + "\n"

    def document(self) -> None:
        """Write everything."""
        self.pairs()
        for index in range(self.draw(st.integers(0, 4))):
            name = self.draw(st.sampled_from([f"t{index}", f"t{index}.u", f't{index} . "v.w"']))
            for _ in range(self.draw(st.integers(1, 3))):
                array = self.draw(st.booleans())
                self.text += f"[[{name}]]\n" if array else f"[{name}]{self.draw(ENDS)}\n"
                self.pairs()
                if not array:
                    break
                name_ = f"[{name}.sub]\n"
                self.text += name_ if self.draw(st.booleans()) else ""
            name += "x"


@st.composite
def documents(draw: Any) -> tuple[str, dict[str, int]]:
    """Make documents that C{tomllib} takes, with the lines of their marks."""
    writer = Writer(draw)
    writer.document()
    try:
        tomllib.loads(writer.text)
    except tomllib.TOMLDecodeError:
        from hypothesis import reject

        reject()
    return writer.text, writer.where


def leaves(value: Any, path: Path = ()) -> list[tuple[Path, str]]:
    """List every string of a document with its path."""
    if isinstance(value, dict):
        return [leaf for key, each in value.items() for leaf in leaves(each, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, each in enumerate(value) for leaf in leaves(each, (*path, index))]
    return [(path, value)]


class LinesTests(SynchronousTestCase):
    """L{Lines}."""

    def test_everything(self) -> None:
        """Tables, keys, elements and rules in each form are found on their lines."""
        lines = Lines(
            "# a policy\n"
            "\n"
            "[roles.x]\n"
            'includes = ["y",\n'
            '  "z"]  # [\n'
            "[[roles.x.exec]]\n"
            'argv = ["/a",\n'
            '        ["b",\n'
            '         "c"],\n'
            "        # not yet\n"
            '        "d"]\n'
            "[[roles.x.exec]]\n"
            "[roles.x.exec.more]\n"
            "a.b = 1\n"
            "[roles.y]\n"
            "exec = [{shell = true}, {deny = true},\n"
            "  {argv = [\n"
            '"a"]}]\n'
        )
        for path, line in (
            (("roles",), 3),
            (("roles", "x"), 3),
            (("roles", "x", "includes", 0), 4),
            (("roles", "x", "includes", 1), 5),
            (("roles", "x", "exec"), 6),
            (("roles", "x", "exec", 0), 6),
            (("roles", "x", "exec", 0, "argv"), 7),
            (("roles", "x", "exec", 0, "argv", 1), 8),
            (("roles", "x", "exec", 0, "argv", 1, 1), 9),
            (("roles", "x", "exec", 0, "argv", 2), 11),
            (("roles", "x", "exec", 1), 12),
            (("roles", "x", "exec", 1, "more"), 13),
            (("roles", "x", "exec", 1, "more", "a", "b"), 14),
            (("roles", "y", "exec", 1), 16),
            (("roles", "y", "exec", 2), 17),
            (("roles", "y", "exec", 2, "argv", 0), 17),
            (("nothing", "of", 5), 1),
        ):
            self.assertEqual(Lines.__getitem__(lines, path), line, path)

    def test_empty(self) -> None:
        """A document with nothing in it has a first line."""
        for text in ("", "\n", "# c", " \t\n#\n"):
            self.assertEqual(Lines(text)[()], 1)

    @given(documents(), st.booleans())
    def test_tomllib(self, document: tuple[str, dict[str, int]], crlf: bool) -> None:
        """Whatever C{tomllib} reads stands on the line where it was written."""
        text, where = document
        lines = Lines(text.replace("\n", "\r\n") if crlf else text)
        found = leaves(tomllib.loads(text))
        self.assertEqual(len(found), len(where))
        for path, value in found:
            mark = value.strip().split()[0].split("\n")[0]
            mark = mark[: len("mark") + sum(map(str.isdigit, mark))]
            self.assertEqual(lines[path], where[mark], (path, text))

    @given(st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=5))
    def test_anyKey(self, pairs: list[tuple[str, str]]) -> None:
        """A key of any characters is found."""

        def quoted(text: str) -> str:
            # JSON's strings are TOML's, but for surrogates and DEL.
            return json.dumps(text).replace("\x7f", "\\u007f")

        unique = dict(pairs)
        text = "".join(f"{quoted(key)} = {quoted(value)}\n" for key, value in unique.items())
        try:
            keys = list(tomllib.loads(text))
        except tomllib.TOMLDecodeError:
            return
        self.assertEqual([Lines(text)[key,] for key in keys], list(range(1, len(keys) + 1)))

    def test_time(self) -> None:
        """A value over very many lines takes no longer than as many values."""
        began = time.process_time()
        Lines("a = [\n" + '"x",\n' * 50_000 + "]")
        self.assertLess(time.process_time() - began, 3)
