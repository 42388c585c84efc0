"""
Configuration: what is taken, and what is said of all that is not.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.ops.sample import SAMPLE, SampleConfig
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.ops.config import (
    ServiceConfig,
    StreamConfig,
    fieldsOf,
    loadFile,
    readConfig,
    readSuite,
)


class FieldTests(SynchronousTestCase):
    """L{fieldsOf}: what a service can be told."""

    def test_sorts(self) -> None:
        """Each sort of field is told apart, in the order of definition."""
        fields = {field.name: field for field in fieldsOf(SampleConfig)}
        self.assertEqual(
            sorted(fields),
            sorted(
                ["listen", "root", "colour", "loud", "log-data", "plain"]
                + [field.name for field in fieldsOf(StreamConfig) if field.name != "listen"]
            ),
        )
        self.assertTrue(fields["listen"].repeated)
        self.assertEqual([name for name, field in fields.items() if field.repeated], ["listen"])
        self.assertEqual([n for n, field in fields.items() if field.flag], ["loud", "log-data"])
        self.assertEqual(fields["colour"].choices, ("red", "green"))
        self.assertEqual(fields["idle-timeout"].attribute, "idleTimeout")
        self.assertEqual(fields["max-connections"].description, "Connections at a time.")
        self.assertEqual((fields["plain"].description, fields["plain"].default), ("", ""))
        self.assertIs(fields["root"].default, msgspec.NODEFAULT)

    def test_inherited(self) -> None:
        """What a service leaves as it was keeps its description."""
        (listen,) = fieldsOf(ServiceConfig)
        self.assertIn("udp:PORT[:interface=ADDR]", listen.description)


class ReadConfigTests(SynchronousTestCase):
    """L{readConfig} of values of every sort."""

    def read(self, **values: Any) -> SampleConfig:
        """Read values, of which the names have underscores for hyphens."""
        told = {"root": "/srv"} | {name.replace("_", "-"): v for name, v in values.items()}
        return readConfig(SampleConfig, told, "f.toml: sample.main.{}".format)

    def refusal(self, **values: Any) -> str:
        """Read values that are wrong, and return what is said of them."""
        with self.assertRaises(ConfigurationError) as caught:
            self.read(**values)
        return str(caught.exception)

    def test_defaults(self) -> None:
        """What is not told has its default."""
        config = self.read()
        self.assertEqual(config, SampleConfig(root="/srv"))
        self.assertEqual(config.limits(), ConnectionLimits(1000, 600.0))

    def test_told(self) -> None:
        """What is told holds."""
        config = self.read(
            listen=["tcp:1", "tcp:2"],
            max_connections=1,
            idle_timeout=0,
            colour="green",
            loud=False,
            log_data=True,
            plain="x",
        )
        self.assertEqual((config.listen, config.colour), (("tcp:1", "tcp:2"), "green"))
        self.assertEqual((config.loud, config.logData, config.plain), (False, True, "x"))
        self.assertEqual(config.limits(), ConnectionLimits(1, 0))

    def test_unknown(self) -> None:
        """A word that is not known is answered with the nearest one."""
        self.assertEqual(
            self.refusal(idle_timeuot=5),
            "f.toml: sample.main.idle-timeuot is not known; did you mean idle-timeout?",
        )

    def test_unknownFar(self) -> None:
        """One that is near to none is answered with all there are."""
        self.assertEqual(
            self.refusal(xyzzy=5),
            "f.toml: sample.main.xyzzy is not known; there are "
            f"{', '.join(field.name for field in fieldsOf(SampleConfig))}.",
        )

    def test_ownName(self) -> None:
        """A field's name in the program is not its name in a file."""
        self.assertIn("did you mean idle-timeout?", self.refusal(idleTimeout=5))

    def test_missing(self) -> None:
        """A field that must be given is named, with what it is for."""
        with self.assertRaises(ConfigurationError) as caught:
            readConfig(SampleConfig, {}, "--{}".format)
        self.assertEqual(caught.exception.sentence, "--root is missing; give a directory.")

    def test_wrong(self) -> None:
        """A wrong type or value is named with its path, what was given, and what to give."""
        for field, value, advice in (
            ("listen", "tcp:1", "a list"),
            ("listen", [], "a list of length >= 1"),
            ("root", 5, "a text"),
            ("plain", None, "a text"),
            ("loud", "no", "true or false"),
            ("loud", 0, "true or false"),
            ("max-connections", 0, "a whole number >= 1"),
            ("max-connections", -1, "a whole number >= 1"),
            ("max-connections", 1.5, "a whole number"),
            ("max-connections", "12", "a whole number"),
            ("max-connections", True, "a whole number"),
            ("idle-timeout", -0.5, "a number >= 0.0"),
            ("idle-timeout", math.nan, "a number >= 0.0"),
            ("idle-timeout", "5", "a number"),
            ("idle-timeout", {}, "a number"),
            ("colour", "blue", "one of red, green"),
            ("colour", 5, "one of red, green"),
        ):
            sentence = self.refusal(**{field: value})
            self.assertEqual(sentence, f"f.toml: sample.main.{field} is {value!r}; give {advice}.")

    def test_wrongInList(self) -> None:
        """In a list it is the element that is named, with its place."""
        self.assertEqual(
            self.refusal(listen=["tcp:1", 5]),
            "f.toml: sample.main.listen[1] is 5; give a text.",
        )

    def test_loose(self) -> None:
        """From a command line, numbers come as text."""
        values = {"root": "x", "max-connections": "12", "idle-timeout": "1.5"}
        config = readConfig(SampleConfig, values, str, strict=False)
        self.assertEqual((config.maxConnections, config.idleTimeout), (12, 1.5))
        values["max-connections"] = "many"
        with self.assertRaises(ConfigurationError) as caught:
            readConfig(SampleConfig, values, str, strict=False)
        self.assertEqual(
            caught.exception.sentence, "max-connections is 'many'; give a whole number."
        )

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(["root", "listen", "colour", "loud", "idle-timeout", "nonsense"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                max_leaves=5,
            ),
        )
    )
    def test_anything(self, values: dict[str, Any]) -> None:
        """Whatever a file holds, it is a configuration or is refused in one sentence."""
        try:
            readConfig(SampleConfig, values, str)
        except ConfigurationError as error:
            self.assertRegex(error.sentence, r"(?s) is .*[.?]\Z")


class FileTests(SynchronousTestCase):
    """L{readSuite} and L{loadFile} of files, right and wrong."""

    def write(self, content: str | bytes) -> str:
        """Write a file."""
        path = Path(self.mktemp())
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def refusal(self, content: str | bytes) -> tuple[str, str]:
        """Read a file that is wrong, and return what is said of it, and its path."""
        path = self.write(content)
        with self.assertRaises(ConfigurationError) as caught:
            readSuite(path, {"sample": SAMPLE, "other": SAMPLE})
        self.assertIn(path, caught.exception.sentence)
        return caught.exception.sentence, path

    def test_services(self) -> None:
        """Each table is one service, in the file's order, named by its kind and name."""
        path = self.write(
            '[other.b]\nroot = "/b"\n[sample.a]\nroot = "/a"\nlog-data = true\n'
            '[other.a]\nroot = "é"\n'
        )
        planned = readSuite(path, {"sample": SAMPLE, "other": SAMPLE})
        self.assertEqual(
            planned,
            [
                (SAMPLE, "other.b", SampleConfig(root="/b")),
                (SAMPLE, "other.a", SampleConfig(root="é")),
                (SAMPLE, "sample.a", SampleConfig(root="/a", logData=True)),
            ],
        )

    def test_wrongField(self) -> None:
        """What is wrong in a table is told with file and path."""
        sentence, path = self.refusal('[sample.main]\nroot = "x"\nidle-timeout = "soon"\n')
        self.assertEqual(sentence, f"{path}: sample.main.idle-timeout is 'soon'; give a number.")

    def test_missingField(self) -> None:
        """So is what is missing."""
        sentence, path = self.refusal("[sample.main]\n")
        self.assertEqual(sentence, f"{path}: sample.main.root is missing; give a directory.")

    def test_unknownField(self) -> None:
        """So is what is not known, with a suggestion."""
        sentence, path = self.refusal("[sample.main]\nrot = 1\n")
        self.assertEqual(sentence, f"{path}: sample.main.rot is not known; did you mean root?")

    def test_unknownKind(self) -> None:
        """A kind of service that there is not is told with the nearest, or all there are."""
        sentence, path = self.refusal("[sampel.main]\n")
        self.assertEqual(sentence, f"{path}: sampel is no service; did you mean sample?")
        sentence, path = self.refusal("[xyzzy.main]\n")
        self.assertEqual(sentence, f"{path}: xyzzy is no service; there are sample, other.")

    def test_noName(self) -> None:
        """A table without a name is told how to get one."""
        sentence, path = self.refusal('[sample]\nroot = "x"\n')
        self.assertEqual(
            sentence, f"{path}: sample.root is not a table; write it below a line [sample.NAME]."
        )

    def test_arrays(self) -> None:
        """An array of tables is no table, with or without a name."""
        sentence, path = self.refusal('[[sample]]\nroot = "x"\n')
        self.assertEqual(sentence, f"{path}: sample holds no service; write a table [sample.NAME].")
        sentence, path = self.refusal('[[sample.main]]\nroot = "x"\n')
        self.assertEqual(
            sentence, f"{path}: sample.main is not a table; write it below a line [sample.NAME]."
        )

    def test_valueForKind(self) -> None:
        """A plain value in a kind's place is told what belongs there."""
        for content in ("sample = 5\n", "sample = {}\n", "[sample]\n"):
            sentence, path = self.refusal(content)
            self.assertEqual(
                sentence, f"{path}: sample holds no service; write a table [sample.NAME]."
            )

    def test_empty(self) -> None:
        """A file without a service is told what one looks like."""
        for content in ("", "# nothing\n"):
            sentence, path = self.refusal(content)
            self.assertEqual(
                sentence, f"{path}: no service is in it; write a table such as [echo.main]."
            )

    def test_endless(self) -> None:
        """What no parser can take, brackets or digits without end, is one sentence, too."""
        for content, said in (
            ("a = " + "[" * 100_000, "holds brackets in brackets without end; mend that."),
            ("a = " + "9" * 100_000, "is not TOML: "),
        ):
            sentence, path = self.refusal(content)
            self.assertIn(f"The file {path!r} {said}", sentence)
            self.assertLess(len(sentence), 400)
            self.assertEqual(len(sentence.splitlines()), 1)

    def test_notTOML(self) -> None:
        """What is no TOML is told with the line."""
        for content in ("[sample.main\n", "root = \n", "a = 1\na = 2\n", "\0"):
            sentence, path = self.refusal(content)
            self.assertIn(f"The file {path!r} is not TOML: ", sentence)
            self.assertRegex(sentence, r"\(at (line \d+, column \d+|end of document)\)")
            self.assertTrue(sentence.endswith("; mend that line."))

    def test_notUTF8(self) -> None:
        """What is no UTF-8 is told with the byte."""
        sentence, path = self.refusal(b'[sample.main]\nroot = "\xff"\n')
        self.assertEqual(sentence, f"The file {path!r} is not UTF-8 at byte 22; save it as UTF-8.")

    def test_noFile(self) -> None:
        """A file that is not there, or is a directory, is told with the reason."""
        missing, directory = self.mktemp(), self.mktemp()
        Path(directory).mkdir()
        for path, reason in ((missing, "no such file or directory"), (directory, "is a directory")):
            with self.assertRaises(ConfigurationError) as caught:
                loadFile(path)
            self.assertEqual(
                caught.exception.sentence,
                f"The file {path!r} cannot be read: {reason}; give one that can.",
            )

    @settings(deadline=None, max_examples=50)
    @given(st.binary(max_size=60) | st.text("[]samplein.= \"'5tru\n").map(str.encode))
    def test_anything(self, content: bytes) -> None:
        """Whatever bytes a file has, they are services or are refused in one sentence."""
        path = self.write(content)
        try:
            readSuite(path, {"sample": SAMPLE})
        except ConfigurationError as error:
            self.assertIn(path, error.sentence)
