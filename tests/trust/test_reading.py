"""
Reading a policy: what is taken, and what is said of all that is not, with its line.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.trust.reading import MAX_FAULTS, dotted, inline, readPolicy
from twisted_netsuite.trust.rules import ExecRule, FilesRule
from twisted_netsuite.trust.tomllines import MAX_DOTS

EXAMPLE = Path(__file__).parents[2] / "docs/examples/policy.toml"


def said(text: str) -> list[str]:
    """List what is said of a policy."""
    return [f"{fault.line}: {fault.sentence}" for fault in readPolicy(text, "p.toml")[1]]


def ofRule(service: str, *lines: str) -> list[str]:
    """List what is said of one rule, whose first line is the second one."""
    return [
        line.replace(f"roles.x.{service}[0]", "RULE")
        for line in said("\n".join([f"[[roles.x.{service}]]", *lines]))
    ]


class RightTests(SynchronousTestCase):
    """What is taken."""

    def test_example(self) -> None:
        """The example of the documentation is right, and has every field of every service."""
        text = EXAMPLE.read_text(encoding="utf-8")
        policy, faults = readPolicy(text, "policy.toml")
        self.assertEqual(faults, [])
        self.assertEqual(list(policy.roles), ["operator", "builder", "reader", "guest"])
        for role in policy.roles.values():
            for rules in role.rules.values():
                for placed in rules:
                    line = int(placed.source.removeprefix("policy.toml:"))
                    self.assertRegex(text.splitlines()[line - 1], rf"\[\[roles\.{role.name}\.")

    def test_fields(self) -> None:
        """Every field of a rule for commands is read."""
        policy, faults = readPolicy(
            '[[roles.x.exec]]\nargv = ["/a", ["b", "c*"], "..."]\nenv = ["LANG"]\n'
            'cwd = ["/", "/x/*"]\n'
            'user = "build"\npty = true\ndetach = true\ndurable = true\ntime-limit = 1.5\n'
            'output-limit = "1 MiB"\nconcurrency = 2\ncpu-time = 3\nmemory = 4\nprocesses = 5\n'
            'open-files = 6\nfile-size = "7 B"\n',
            "p",
        )
        self.assertEqual(faults, [])
        rule = policy.roles["x"].rules["exec"][0].rule
        assert isinstance(rule, ExecRule)
        limits = (rule.timeLimit, rule.outputLimit, rule.concurrency, rule.cpuTime, rule.memory,
                  rule.processes, rule.openFiles, rule.fileSize)  # fmt: skip
        self.assertEqual(limits, (1.5, 1048576, 2, 3, 4, 5, 6, 7))
        self.assertEqual((rule.user, rule.pty, rule.detach, rule.durable), ("build",) + (True,) * 3)
        self.assertEqual(rule.directory, "/")

    def test_filesFields(self) -> None:
        """Every field of a rule for files is read."""
        policy, faults = readPolicy(
            '[[roles.x.files]]\nroot = "/srv"\npaths = ["/a/**"]\nactions = ["read", "write"]\n'
            'quota = "1 GiB"\nfile-quota = 10\nmax-size = 5\n',
            "p",
        )
        self.assertEqual(faults, [])
        rule = policy.roles["x"].rules["files"][0].rule
        assert isinstance(rule, FilesRule)
        self.assertEqual(
            (rule.root, rule.quota, rule.fileQuota, rule.maxSize), ("/srv", 2**30, 10, 5)
        )

    def test_forms(self) -> None:
        """Rules may stand in any form that TOML has, each with its line."""
        policy, faults = readPolicy(
            "[roles.x]\r\nexec = [\r\n  {shell = true},\r\n  {deny = true},\r\n]\r\n[roles.y]\r\n"
            '[identities]\r\n"cert:*" = ["x",\r\n"y"]\r\n',
            "p",
        )
        self.assertEqual(faults, [])
        sources = [placed.source for placed in policy.roles["x"].rules["exec"]]
        self.assertEqual(sources, ["p:3", "p:4"])
        self.assertEqual(policy.grants[0].roles, ("x", "y"))

    def test_empty(self) -> None:
        """A policy may be empty; it then gives nobody anything."""
        policy, faults = readPolicy("", "p")
        self.assertEqual((policy.roles, policy.grants, faults), ({}, (), []))


class FaultTests(SynchronousTestCase):
    """What is said."""

    maxDiff = None

    def test_notToml(self) -> None:
        """What is not TOML is said with its line."""
        for text, words in (
            ("a = 1\nb = \n", "2: this is not TOML: invalid value at column 5; mend it."),
            ("a = [\n\n", "1: this is not TOML: .* at the end; mend it."),
            (
                "a = 1\na = 2\n",
                "2: this is not TOML: cannot overwrite a value at column 6; mend it.",
            ),
            ("a = " + "[" * 5000, "1: brackets stand in brackets without end; mend that."),
            ("\ufeffa = 1", "1: this is not TOML: .*"),
        ):
            (line,) = said(text)
            self.assertRegex(line, words)

    def test_top(self) -> None:
        """What is no part of a policy is said, with what is."""
        self.assertEqual(said("[role.x]"), ["1: role is not known; did you mean roles?"])
        self.assertEqual(
            said("\nroles = 1"), ["2: roles is no table; write it below a line [roles]."]
        )
        self.assertEqual(said("identities = []")[0][:25], "1: identities is no table")
        self.assertEqual(said("[audit]\nx = 1"), ["2: audit.x is not known; there are durable."])
        self.assertEqual(
            said("[audit]\n\ndurable = 1"), ["3: audit.durable is 1; write true or false."]
        )
        self.assertEqual(said("[roles]\nx = 1"),
                         ["2: roles.x is no table; write it below a line [roles.x]."])  # fmt: skip
        self.assertEqual(said("[roles.x]\nexecs = 1"),
                         ["2: roles.x.execs is not known; did you mean exec?"])  # fmt: skip
        (line,) = said("[roles.x.exec]")
        self.assertEqual(
            line, "1: roles.x.exec is no list of rules; write each below [[roles.x.exec]]."
        )
        self.assertIn("cannot be a role's name", said('[roles."a b"]')[0])

    def test_identities(self) -> None:
        """Lines that give roles are checked in all that they say."""
        text = "[roles.reader]\n[identities]\n{} = {}\n"
        for who, given_, words in (
            ('"*"', '["reader"]', '3: identities."\\*" cannot be: it names no identity; write how'),
            ("anna", '["reader"]', "3: identities.anna cannot be: it names no identity"),
            ('"cert:anna"', '["reder"]',
             '3: identities."cert:anna"\\[0\\] is "reder", which is no role here; did you'),
            ('"cert:anna"', '["reader",\n 3]', '4: .*\\[1\\] is 3; write the name of a role.'),
            ('"cert:anna"', '"reader"', '3: .* is "reader"; write a list of roles'),
            ('"cert:anna"', "[]", "3: .* is \\[\\]; write a list of roles"),
        ):  # fmt: skip
            (line,) = said(text.format(who, given_))
            self.assertRegex(line, words)

    def test_includes(self) -> None:
        """Roles that include none, or themselves in the end, are refused."""
        self.assertEqual(
            said('[roles.a]\nincludes = ["b"]'),
            ['2: roles.a.includes[0] is "b", which is no role here; there are a.'],
        )
        self.assertEqual(
            said('[roles.a]\nincludes = ["a"]'),
            ["2: roles.a.includes goes round: a -> a; take one of them out."],
        )
        (line,) = said(
            '[roles.a]\nincludes = ["b"]\n[roles.b]\nincludes = ["c"]\n[roles.c]\nincludes = ["a"]'
        )
        self.assertRegex(line, r"goes round: (a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c);")
        diamond = '[roles.a]\nincludes = ["b", "c"]\n[roles.b]\nincludes = ["c"]\n[roles.c]\n'
        self.assertEqual(said(diamond), [])

    def test_deepIncludes(self) -> None:
        """Very many roles that include each other in a row are no harm."""
        roles = "".join(f'[roles.r{n}]\nincludes = ["r{n + 1}"]\n' for n in range(3000))
        self.assertEqual(said(roles + "[roles.r3000]"), [])

    def test_exec(self) -> None:
        """What a rule for commands cannot say is said on its line."""
        for line, words in (
            ("argv = []", "2: RULE.argv is empty"),
            ('argv = "/x"', '2: RULE.argv is "/x"; write a list.'),
            ('argv = ["git"]', "2: RULE.argv[0] is 'git'; write a program's whole path"),
            ('argv = ["*"]', "2: RULE.argv[0] is '*'; write"),
            ('argv = ["/usr/../x"]', "2: RULE.argv[0] is '/usr/../x'; write"),
            ('argv = [["/a", "b"]]', "2: RULE.argv[0] is 'b'; write"),
            ('argv = ["/a", "...", "b"]', '2: RULE.argv[1] is "...", which can only be the last.'),
            ('argv = ["/a", "...", "..."]', '2: RULE.argv[1] is "...", which can only'),
            ('argv = ["/a",\n\n["..."]]', '4: RULE.argv[1] is ["..."]: "..." is no alternative'),
            ('argv = ["/a", 3]', "2: RULE.argv[1] is 3: it is no pattern"),
            ('argv = ["/a", "[b"]', '2: RULE.argv[1] is "[b": a [ is never closed'),
            ('argv = ["/a"]\nshell = true', "3: RULE.shell and argv are two ways"),
            ("", "1: RULE allows nothing; write argv"),
            ("shell = false", "1: RULE allows nothing; write argv"),
            ('shell = "yes"', '2: RULE.shell is "yes"; write true or false.'),
            ("shell = true\nuser = \"a b\"", "3: RULE.user is 'a b', which is no account's name"),
            ("shell = true\ncwd = [\"x\"]", '3: RULE.cwd[0] is "x": it does not begin'),
            ("shell = true\nenv = [\"A=b\"]", '3: RULE.env[0] is "A=b": a name holds'),
            ("shell = true\nenv = [\"*\"]", "3: RULE.env[0] is '*', which lets through variables"),
            ("shell = true\nenv = [\"A\", \"C_*\"]", "3: RULE.env[1] is 'C_*', which lets through"),
            ("shell = true\nenv = [\"LC*\"]", "3: RULE.env[0] is 'LC*', which lets through"),
            ("shell = true\nenv = [\"?LC_*\"]", "3: RULE.env[0] is '?LC_*', which lets through"),
            ("shell = true\ncwd = [\"/[^a]\"]", '3: RULE.cwd[0] is "/[^a]": [^ is another way'),
            ("shell = true\nenv = [3]", "3: RULE.env[0] is 3: it is no text"),
            ("shell = true\ntime-limit = 0", "3: RULE.time-limit is 0; write a number above 0."),
            ("shell = true\ntime-limit = nan", "3: RULE.time-limit is NaN"),
            ("shell = true\ntime-limit = inf", "3: RULE.time-limit is Infinity"),
            ("shell = true\ntime-limit = \"1\"", '3: RULE.time-limit is "1"; write a number.'),
            ("shell = true\nconcurrency = 0", "3: RULE.concurrency is 0; write a whole number of"),
            ("shell = true\nmemory = \"1 GO\"", '3: RULE.memory is "1 GO": it is no size'),
            ("shell = true\ntime-limits = 3", "3: RULE.time-limits is not known; did you mean"),
            ("deny = true\npty = true", "3: RULE.pty is for rules that allow"),
            ("deny = true\nuser = \"a\"", "3: RULE.user is for rules that allow"),
            ("deny = true\ntime-limit = 3", "3: RULE.time-limit is for rules that allow"),
        ):  # fmt: skip
            (found,) = ofRule("exec", line)
            self.assertEqual(found[: len(words)], words, line)
            self.assertRegex(found, r"[.?]$")

    def test_denies(self) -> None:
        """A rule that denies may say less: all commands, and any program's."""
        for lines in ("deny = true", "deny = true\nshell = true", 'deny = true\nargv = ["*", "-f"]',
                      'deny = true\nenv = ["LD_*", "*"]',
                      'deny = true\ncwd = ["/srv/**"]'):  # fmt: skip
            self.assertEqual(ofRule("exec", lines), [], lines)
        self.assertEqual(len(ofRule("exec", 'deny = true\nargv = ["git"]')), 1)
        self.assertEqual(len(ofRule("exec", 'deny = true\nargv = ["*/git"]')), 1)

    def test_others(self) -> None:
        """What rules for files, chat and the proxy cannot say is said on its line."""
        for service, line, words in (
            ("files", 'paths = ["a"]', '2: RULE.paths[0] is "a": it does not begin with a slash'),
            ("files", 'paths = ["/a/../b"]', '2: RULE.paths[0] is "/a/../b": it holds a part'),
            ("files", "paths = []", "2: RULE.paths is empty"),
            ("files", "actions = []", "2: RULE.actions is empty"),
            ("files", 'actions = ["reed"]', '2: RULE.actions[0] is "reed"; write "read", "write"'),
            ("files", 'root = "a"', "2: RULE.root is 'a': it does not begin with a slash"),
            ("files", 'root = "/a/*"', "2: RULE.root is '/a/*'; only paths take wildcards"),
            ("files", "quota = 1", "2: RULE.quota bounds what is written"),
            ("files", 'max-size = "1 B"', "2: RULE.max-size bounds what is written"),
            ("files", "file-quota = 1", "2: RULE.file-quota bounds what is written"),
            ("files", 'deny = true\nroot = "/a"', "3: RULE.root is for rules that allow"),
            ("chat", "", "1: RULE allows nothing; write names or rooms."),
            ("chat", "names = []", "2: RULE.names is empty"),
            ("chat", 'rooms = ["["]', '2: RULE.rooms[0] is "[": a [ is never closed'),
            ("proxy", "", "1: RULE does not say where to"),
            ("proxy", "to = []", "2: RULE.to is empty"),
            (
                "proxy",
                'to = ["10.0.0.1/8"]',
                '2: RULE.to[0] is "10.0.0.1/8": it is an address within',
            ),
            ("proxy", 'to = ["a"]\nports = []', "3: RULE.ports is empty"),
            ("proxy", 'to = ["a"]\nports = [80, "x"]', '3: RULE.ports[1] is "x": it is no port'),
            ("proxy", 'to = ["a"]\nports = [true]', "3: RULE.ports[0] is true: it is no port"),
        ):
            (found,) = ofRule(service, line)
            self.assertEqual(found[: len(words)], words, line)
            self.assertRegex(found, r"\.$")

    def test_all(self) -> None:
        """Every fault is found at once, in the order of lines."""
        found = readPolicy(
            "[roles.x]\n[[roles.x.exec]]\n[[roles.x.chat]]\n[identities]\nanna = 1\n[rest]\n", "p"
        )[1]
        self.assertEqual([fault.line for fault in found], [2, 3, 5, 5, 6])

    def test_deepKeys(self) -> None:
        """A key of very many parts is refused before it takes time, wherever it stands."""
        deep = ".".join(["a"] * 30_000)
        quoted = " . ".join(['"a.b"'] * 30_000)
        for text in (f"{deep} = 1", f"[{deep}]", f"[[{deep}]]", f"a = {{{deep} = 1}}",
                     f"{quoted} = 1", f"a = [\n{{{deep} = 1}}]"):  # fmt: skip
            line = 2 if "\n" in text else 1
            (found,) = said("# a\n" + text)
            self.assertEqual(
                found,
                f"{line + 1}: more than {MAX_DOTS} dots stand in one key; those of a policy have "
                "at most two, as in [[roles.NAME.exec]].",
            )

    def test_dotsElsewhere(self) -> None:
        """Dots of texts and comments are no parts of keys."""
        dots = "." * 100
        for text in (f"a = 1 # {dots}", f'"{dots}" = 1', f"'{dots}' = 1", f'a = "\\"{dots}"',
                     f"a = '''\n'{dots}'''", f'a = """\n{dots}"""',
                     f"a = [{'1.5, ' * 100}]"):  # fmt: skip
            self.assertRegex(said(text)[0], "is not known; there are")

    def test_many(self) -> None:
        """Of very many faults only the first are told."""
        text = "".join(f"k{number} = 1\n" for number in range(MAX_FAULTS + 50))
        found = said(text)
        self.assertEqual(len(found), MAX_FAULTS)
        self.assertIn(f"k{MAX_FAULTS - 1} is not known", found[-1])

    def test_controls(self) -> None:
        """No text of the file reaches a terminal as it is."""
        text = '[roles.x]\n"a\\u001b[2J" = 1\n[[roles.x.exec]]\nargv = ["\\u001b]0;\\u202e"]\n'
        for line in said(text):
            self.assertTrue(line.isprintable(), line)

    def test_long(self) -> None:
        """A sentence shows only the beginning of a long value."""
        (found,) = ofRule("exec", f'argv = "{"a" * 10000}"')
        self.assertLess(len(found), 200)


class WordTests(SynchronousTestCase):
    """Paths, values and advice in words."""

    def test_dotted(self) -> None:
        """A path is written as in TOML."""
        self.assertEqual(dotted(("roles", "a b", "exec", 0, "argv", 1)),
                         'roles."a b".exec[0].argv[1]')  # fmt: skip

    @given(
        st.recursive(
            st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(codec="utf-8")),
            lambda values: (
                st.lists(values, max_size=3)
                | st.dictionaries(st.from_regex("[a-z-]{1,5}", fullmatch=True), values, max_size=3)
            ),
        )
    )
    def test_inline(self, value: Any) -> None:
        """A value is written on one line as TOML that reads the same."""
        written = inline(value)
        self.assertNotIn("\n", written)
        if "\x7f" not in written:
            self.assertEqual(tomllib.loads(f"x = {written}")["x"], value)


#: Values and keys of which random policies are made, right and wrong ones.
VALUES = [
    True,
    False,
    0,
    1,
    -1,
    1.5,
    *["*", "/a", "...", "a", "10.0.0.0/8", "[", "1B", "cert:*", "read", "x", "y", "\x1b"],
    "",
]
NAMES = [
    *["argv", "shell", "deny", "env", "cwd", "user", "paths", "actions", "names", "rooms", "to"],
    *["ports", "exec", "files", "chat", "proxy", "includes", "x", "y", "roles", "identities"],
    *["cert:*", "audit", "durable", "memory"],
]


def tables(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Make tables of values."""
    return st.dictionaries(st.sampled_from(NAMES), values, max_size=4)


TREES = st.recursive(
    st.sampled_from(VALUES),
    lambda values: st.lists(values, max_size=3) | tables(values),
    max_leaves=12,
)
RULES = st.lists(tables(TREES), max_size=3)


def document(value: object) -> str:
    """Write a random table as a document."""
    if not isinstance(value, dict):
        return ""

    def quoted(each: Any) -> str:
        if isinstance(each, dict):
            return "{" + ", ".join(f'"{key}" = {quoted(v)}' for key, v in each.items()) + "}"
        return f"[{', '.join(map(quoted, each))}]" if isinstance(each, list) else inline(each)

    return "".join(f'"{key}" = {quoted(each)}\n' for key, each in value.items())


class AnythingTests(SynchronousTestCase):
    """Policies of any content."""

    @given(st.text())
    def test_text(self, text: str) -> None:
        """Any text is a policy, or has faults."""
        readPolicy(text, "p")

    @given(st.fixed_dictionaries({"roles": TREES, "identities": TREES, "audit": TREES}))
    def test_tables(self, value: dict[str, Any]) -> None:
        """Any tables are a policy, or have faults, each one sentence on a line that there is."""
        text = document(value)
        for fault in readPolicy(text, "p")[1]:
            self.assertTrue(1 <= fault.line <= text.count("\n"))
            self.assertTrue(fault.sentence.isprintable(), fault.sentence)
            self.assertRegex(fault.sentence, r"[.?]$")

    @given(st.dictionaries(st.sampled_from(["exec", "files", "chat", "proxy"]), RULES))
    def test_rules(self, value: dict[str, Any]) -> None:
        """So do any rules."""
        for fault in readPolicy(document({"roles": {"x": value}}), "p")[1]:
            self.assertRegex(fault.sentence, r"[.?]$")
