"""
The options of a plugin: one for each field, and one sentence for whatever is wrong.
"""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from tests.ops.sample import SAMPLE, SampleConfig
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.ops.options import PluginOptions, ServiceOptions, absolute, optionsFor
from twisted_netsuite.wire.text import cleanText

SampleOptions = optionsFor(SAMPLE, "A sample.")


class OptionTests(SynchronousTestCase):
    """The options that are made of a configuration."""

    def parse(self, *words: str) -> ServiceOptions:
        """Parse a command line, on which the root is given."""
        options = SampleOptions()
        options.parseOptions(["--root", "/srv", *words])
        return options

    def config(self, *words: str) -> SampleConfig:
        """Tell what a command line adds up to."""
        config = self.parse(*words).config
        assert isinstance(config, SampleConfig)
        return config

    def refusal(self, *words: str) -> str:
        """Parse a command line that is wrong, and return what is said of it."""
        with self.assertRaises(SystemExit) as caught:
            SampleOptions().parseOptions(list(words))
        sentence = caught.exception.code
        assert isinstance(sentence, str)
        self.assertTrue(sentence.startswith("netsuite-sample: "), sentence)
        self.assertEqual(len(sentence.splitlines()), 1)
        return sentence.removeprefix("netsuite-sample: ")

    def test_defaults(self) -> None:
        """Without an option each field has its default."""
        options = self.parse()
        self.assertEqual(options.config, SampleConfig(root="/srv"))
        self.assertEqual((options["check"], options["table"]), (0, 0))

    def test_each(self) -> None:
        """Each field has an option of its name."""
        for words, attribute, value in (
            (["--listen", "tcp:1"], "listen", ("tcp:1",)),
            (["--colour", "green"], "colour", "green"),
            (["--colour=green"], "colour", "green"),
            (["--log-data"], "logData", True),
            (["--plain", "x y"], "plain", "x y"),
            (["--plain="], "plain", ""),
            (["--max-connections", "12"], "maxConnections", 12),
            (["--idle-timeout", "1.5"], "idleTimeout", 1.5),
            (["--idle-timeout", "0"], "idleTimeout", 0),
        ):
            self.assertEqual(getattr(self.config(*words), attribute), value, words)

    def test_yes(self) -> None:
        """A field that is yes by default has an option that says no, and none that says yes."""
        self.assertTrue(self.config().loud)
        self.assertFalse(self.config("--no-loud").loud)
        self.assertIn("option --loud not recognized", self.refusal("--loud"))
        self.assertIn("option --no-log-data not recognized", self.refusal("--no-log-data"))

    def test_repeated(self) -> None:
        """A field of many values takes one each time, in their order, in place of the default."""
        config = self.config("--listen", "tcp:1", "--listen", "tcp:2", "--listen", "tcp:1")
        self.assertEqual(config.listen, ("tcp:1", "tcp:2", "tcp:1"))

    def test_fresh(self) -> None:
        """Options that were parsed before leave nothing behind for the next."""
        self.parse("--listen", "tcp:1")
        self.assertEqual(self.config("--listen", "tcp:2").listen, ("tcp:2",))

    def test_flags(self) -> None:
        """The options that every plugin has are there."""
        options = self.parse("--check", "--table")
        self.assertEqual((options["check"], options["table"]), (1, 1))

    def test_limits(self) -> None:
        """What bounds connections comes from the options."""
        config = self.config("--max-connections", "5", "--idle-timeout", "2")
        self.assertEqual(config.limits(), ConnectionLimits(5, 2))

    def test_missing(self) -> None:
        """An option that must be given is named, with what it is for."""
        self.assertEqual(self.refusal(), "--root is missing; give a directory.")

    def test_wrong(self) -> None:
        """A wrong value is named with its option, and with what to give."""
        for option, given, advice in (
            ("--max-connections", "many", "a whole number"),
            ("--max-connections", "0", "a whole number >= 1"),
            ("--max-connections", "1.5", "a whole number"),
            ("--max-connections", "", "a whole number"),
            ("--idle-timeout", "soon", "a number"),
            ("--idle-timeout", "-1", "a number >= 0.0"),
            ("--idle-timeout", "nan", "a number >= 0.0"),
            ("--colour", "blue", "one of red, green"),
        ):
            sentence = self.refusal("--root", "x", option, given)
            self.assertEqual(sentence, f"{option} is {given!r}; give {advice}.")

    def test_unknown(self) -> None:
        """An option that there is not, or that lacks its value, is one sentence, not a page."""
        for words, said in (
            (["--nonsense"], "option --nonsense not recognized"),
            (["-z"], "option -z not recognized"),
            (["--listen"], "option --listen requires argument"),
            (["--no-loud=1"], "option --no-loud must not have an argument"),
            (["--root", "x", "word"], "'word' is not expected, as options begin with --"),
            (["--root", "x", "one", "two"], "'one' is not expected"),
        ):
            sentence = self.refusal(*words)
            self.assertIn(said, sentence)
            self.assertTrue(sentence.endswith("; see twistd netsuite-sample --help."), sentence)

    def test_help(self) -> None:
        """The help has each option once, with its description, words and default."""
        text = " ".join(str(SampleOptions()).split())
        for said in (
            "--root= A directory.",
            "--colour= Its colour. One of red, green. [default: red]",
            "--no-loud Turn off: Be quiet.",
            "--log-data Log it all.",
            "--max-connections= Connections at a time. [default: 1000]",
            "[default: tcp:7000:interface=127.0.0.1]",
            "--check Only check",
            "--table Print a table",
            "A sample.",
        ):
            self.assertEqual(text.count(said), 1, said)


class PluginOptionTests(SynchronousTestCase):
    """What all plugins have in common."""

    def test_status(self) -> None:
        """A wrong option ends the program with a sentence, which stands for status 1."""
        with self.assertRaises(SystemExit) as caught:
            PluginOptions().parseOptions(["--nonsense"])
        self.assertEqual(
            caught.exception.code,
            "netsuite: option --nonsense not recognized; see twistd netsuite --help.",
        )

    def test_control(self) -> None:
        """A word that is not understood cannot control the terminal that shows it."""
        for words in (["--\x1b[2Jx"], ["\x1b[2J\n"], ["--check=\x9b2J"], ["--x\u202e"]):
            with self.assertRaises(SystemExit) as caught:
                PluginOptions().parseOptions(words)
            sentence = str(caught.exception.code)
            self.assertEqual(cleanText(sentence), sentence)
            self.assertTrue(sentence.startswith("netsuite: "), sentence)

    def test_none(self) -> None:
        """No words at all are right."""
        PluginOptions().parseOptions([])


class AbsoluteTests(SynchronousTestCase):
    """L{absolute}: a path that stays right when the directory is changed."""

    def test_paths(self) -> None:
        """A path is taken from here, and a tilde stands for home."""
        self.patch(os, "environ", {"HOME": "/home/somebody"})
        self.assertEqual(absolute("x/../y"), os.path.join(os.getcwd(), "y"))
        self.assertEqual(absolute("/x"), "/x")
        self.assertEqual(absolute("~/x"), "/home/somebody/x")
        self.assertEqual(absolute(""), os.getcwd())
