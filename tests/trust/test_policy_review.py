"""
What is suspicious in a policy: each thing is told once, and nothing is told of a policy without.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from tests.trust.test_policy_decisions import REQUESTS, ROLES, ask, policyOf
from twisted_netsuite.trust.reading import readPolicy
from twisted_netsuite.trust.requests import ChatRequest, ExecRequest, FilesRequest, ProxyRequest
from twisted_netsuite.trust.review import covers, review

EXAMPLE = Path(__file__).parents[2] / "docs/examples/policy.toml"


def told(text: str) -> list[str]:
    """List what is told of a policy."""
    policy, faults = readPolicy(text, "p")
    assert not faults, faults
    return [f"{source}: {sentence}" for source, sentence in review(policy)]


def ofRules(service: str, *rules: str) -> list[str]:
    """List what is told of the rules of a role that everybody has."""
    tables = "".join(f"[[roles.x.{service}]]\n{rule}\n" for rule in rules)
    return told(f'[identities]\n"cert:*" = ["x"]\n{tables}')


class ReviewTests(SynchronousTestCase):
    """L{review}."""

    def test_nothing(self) -> None:
        """Nothing is told of what can be meant."""
        self.assertEqual(told(""), [])
        self.assertEqual(ofRules("exec", 'argv = ["/bin/sh", "x"]\nenv = ["LANG", "LC_*"]'), [])

    def test_unheld(self) -> None:
        """A role that nobody has is told; one that is only included is had."""
        text = '[identities]\n"cert:a" = ["x"]\n[roles.x]\nincludes = ["y"]\n[roles.y]\n[roles.z]\n'
        self.assertEqual(
            told(text), ["p:6: nobody here has the role z; only a certificate can give it."]
        )

    def test_any(self) -> None:
        """Rules for any command are told with those who get them."""
        text = (
            '[identities]\n"cert:a" = ["y"]\n"unix:b" = ["x"]\n[roles.y]\nincludes = ["x"]\n'
            "[[roles.x.exec]]\n{}\n"
        )
        self.assertEqual(
            told(text.format("shell = true")),
            ['p:6: shell = true lets "cert:a", "unix:b" run any command at all.'],
        )
        self.assertEqual(
            told(text.format('argv = ["..."]')),
            ['p:6: argv = ["..."] lets "cert:a", "unix:b" run any command at all.'],
        )
        self.assertEqual(told(text.format("shell = true\ndeny = true")), [])
        (_, line) = told("[[roles.x.exec]]\nshell = true")
        self.assertIn("whoever has a certificate with the role", line)
        many = "".join(f'"cert:{n}" = ["x"]\n' for n in range(9))
        (line,) = told(f"[identities]\n{many}[[roles.x.exec]]\nshell = true")
        self.assertIn('"cert:4" and 4 more run', line)

    def test_programs(self) -> None:
        """Programs that are not there, cannot be run, or may be any, are told."""
        path = os.path.abspath(self.mktemp())
        Path(path).write_text("")
        for program, words in (
            ("/nonesuch/a", "the program '/nonesuch/a' is not on this machine"),
            ("/bin", "the program '/bin' is not on this machine"),
            (path, f"the program {path!r} cannot be run: it is not executable"),
            ("/opt/*", "argv[0] '/opt/*' lets every program there be run"),
        ):
            (line,) = ofRules("exec", f'argv = ["{program}"]')
            self.assertTrue(line.startswith(f"p:3: {words}"), line)
        self.assertEqual(ofRules("exec", f'argv = ["{os.path.realpath(sys.executable)}"]'), [])
        self.assertEqual(len(ofRules("exec", 'argv = [["/bin/sh", "/nonesuch/b"]]')), 1)

    def test_others(self) -> None:
        """Dangerous variables, and accounts and roots that are not there, are told."""
        rule = 'argv = ["/bin/sh"]\n'
        self.assertIn("the variable LD_PRELOAD", ofRules("exec", rule + 'env = ["LD_PRELOAD"]')[0])
        for name in ("TAR_OPTIONS", "npm_config_shell", "http_proxy", "HTTPS_PROXY", "MAKEFLAGS"):
            self.assertIn(f"variable {name} ", ofRules("exec", f'{rule}env = ["{name}"]')[0])
        self.assertIn(
            "'npm_config_*' lets nothing", ofRules("exec", rule + 'env = ["npm_config_*"]')[0]
        )
        self.assertIn("is no account", ofRules("exec", rule + 'user = "no-such-account"')[0])
        self.assertEqual(ofRules("exec", rule + 'user = "root"'), [])
        self.assertIn("is no directory", ofRules("files", 'root = "/nonesuch"')[0])
        self.assertEqual(ofRules("files", 'root = "/"'), [])

    def test_roots(self) -> None:
        """Two roots for one path are told."""
        (line,) = ofRules("files", 'root = "/"', 'root = "/bin"\nactions = ["write"]')
        self.assertRegex(line, "^p:5: the root is another than that of p:3: one path can lead")
        apart = ('root = "/"\npaths = ["/a/**"]', 'root = "/bin"\npaths = ["/b/**"]')
        self.assertEqual(ofRules("files", *apart), [])

    def test_example(self) -> None:
        """Of the example only such things are told as depend on the machine."""
        for line in told(EXAMPLE.read_text(encoding="utf-8")):
            self.assertRegex(line, "on this machine")


class CoverTests(SynchronousTestCase):
    """L{covers}, told as rules that come too late."""

    def assertLate(self, service: str, earlier: str, later: str, late: bool = True) -> None:
        """A rule behind another one is, or is not, told to be too late."""
        lines = ofRules(service, earlier, later)
        found = [line for line in lines if "comes too late" in line]
        self.assertEqual(len(found), late, (earlier, later, lines))

    def test_sentence(self) -> None:
        """The sentence names both rules, and what the earlier does."""
        (line,) = ofRules("files", "", 'deny = true\nactions = ["read"]\npaths = ["/a"]')
        self.assertEqual(
            line, "p:5: this rule comes too late: what it is about, p:3 already allows."
        )

    def test_exec(self) -> None:
        """Rules for commands."""
        sh = 'argv = ["/bin/sh", "..."]'
        for earlier, later, late in (
            (sh, sh, True),
            (sh, 'argv = ["/bin/sh"]', True),
            (sh, 'deny = true\nargv = ["/bin/sh", "-x"]', True),
            (sh, 'argv = ["/bin/ls"]', False),
            ('argv = ["/bin/sh"]', sh, False),
            ('argv = ["/bin/sh", "*"]', 'argv = ["/bin/sh", "a*"]', True),
            ('argv = ["/bin/sh", "*"]', 'argv = ["/bin/sh", "-a*"]', False),
            ('argv = ["/bin/sh", "*"]', 'argv = ["/bin/sh", "-a"]', False),
            ('argv = ["/bin/sh", "a*"]', 'argv = ["/bin/sh", "*"]', False),
            ('argv = ["/bin/sh", ["a", "b"]]', 'argv = ["/bin/sh", "a"]', True),
            ('argv = ["/bin/sh", "a"]', 'argv = ["/bin/sh", ["a", "b"]]', False),
            ('argv = ["/bin/sh", "/a/**"]', 'argv = ["/bin/sh", "/a/b/*"]', True),
            ('argv = ["/bin/sh", "/a/**"]', 'argv = ["/bin/sh", "/a/../*"]', False),
            ('argv = ["/bin/sh", "/a/*/**"]', 'argv = ["/bin/sh", "/a/*/b*"]', False),
            (sh, sh + '\nenv = ["LANG"]', False),
            (sh + '\nenv = ["LANG", "A"]', sh + '\nenv = ["LANG"]', True),
            (sh, sh + '\ncwd = ["/"]', False),
            (sh + '\ncwd = ["/**"]', sh + '\ncwd = ["/a"]', True),
            (sh, sh + '\nuser = "root"', False),
            (sh + '\nuser = "root"', sh, True),
            (sh, sh + "\npty = true", False),
            (sh, sh + "\ndetach = true", False),
            (sh + "\npty = true\ndetach = true", sh + "\ntime-limit = 1", True),
            (sh + '\ncwd = ["/a"]', "deny = true\n" + sh, False),
            ("deny = true", sh, True),
            ("deny = true", "shell = true", True),
            ("deny = true\nshell = true", sh, False),
            ('deny = true\nenv = ["A"]', sh, False),
            ('deny = true\ncwd = ["/a"]', sh, False),
            ('deny = true\nargv = ["*", "-x"]', 'argv = ["/bin/sh", "-x"]', True),
            ("shell = true", "shell = true\ndeny = true", True),
            ("shell = true", sh, False),
            (sh, "shell = true", False),
            (sh, "deny = true", False),
        ):
            self.assertLate("exec", earlier, later, late)

    def test_files(self) -> None:
        """Rules for files."""
        for earlier, later, late in (
            ("", 'paths = ["/a"]', True),
            ("", 'paths = ["/a"]\nactions = ["write"]', False),
            ("deny = true", 'actions = ["read", "write"]', True),
            ('paths = ["/a/**"]', 'paths = ["/a/b", "/a"]', True),
            ('paths = ["/a/**"]', 'paths = ["/a/b", "/b"]', False),
            ('paths = ["/a/**"]', "", False),
        ):
            self.assertLate("files", earlier, later, late)

    def test_chat(self) -> None:
        """Rules for chat."""
        for earlier, later, late in (
            ('names = ["*"]', 'names = ["a*"]', True),
            ('names = ["*"]', 'rooms = ["a*"]', False),
            ('names = ["*"]', 'names = ["a"]\nrooms = ["a*"]', False),
            ('names = ["*"]', "deny = true", False),
            ("deny = true", 'names = ["a"]', True),
        ):
            self.assertLate("chat", earlier, later, late)

    def test_proxy(self) -> None:
        """Rules for the proxy."""
        for earlier, later, late in (
            ('to = ["*"]', 'to = ["a", "::1"]', True),
            ('to = ["*"]', "deny = true", True),
            ('to = ["*"]\nports = [80]', 'to = ["a"]', False),
            ('to = ["*"]\nports = ["1-90"]', 'to = ["a"]\nports = [80, "85-90"]', True),
            ('to = ["*"]\nports = ["1-90"]', 'to = ["a"]\nports = [80, "85-91"]', False),
            ('to = ["10.0.0.0/8"]', 'to = ["10.1.0.0/16"]', True),
            ('to = ["10.0.0.0/8"]', 'to = ["11.1.0.0/16"]', False),
            ('to = ["10.0.0.0/8"]', 'to = ["fd00::/8"]', False),
            ('to = ["fd00::/8"]', 'to = ["fd00::1"]', True),
            ('to = ["*.b"]', 'to = ["a.B"]', True),
            ('to = ["*.b"]', 'to = ["*.B"]', True),
            ('to = ["*.b"]', 'to = ["*.a.b"]', False),
            ("deny = true", 'to = ["a"]', True),
        ):
            self.assertLate("proxy", earlier, later, late)

    @given(ROLES, ROLES, REQUESTS)
    def test_never(self, one: dict[str, Any], other: dict[str, Any], request: Any) -> None:
        """A rule that is told to come too late decides nothing that one like it allows."""
        first, second = policyOf(x=one), policyOf(x=other)
        answer = ask(second, request)
        if answer.rule is None or answer.rule.deny:
            return
        for placed in first.roles["x"].rules[self.service(request)]:
            if covers(placed.rule, answer.rule):
                self.assertIsNone(placed.rule.fit(self.asked(request)))

    def service(self, request: Any) -> Any:
        """Tell which rules a request is for."""
        return "exec" if request[0] == "shell" else request[0]

    def asked(self, request: Any) -> Any:
        """Make what rules are asked with."""
        service, words = request
        if service == "exec":
            return words[0]
        if service == "shell":
            return ExecRequest(words, shell=True)
        kinds = {"files": FilesRequest, "chat": ChatRequest, "proxy": ProxyRequest}
        return kinds[service](*words)
