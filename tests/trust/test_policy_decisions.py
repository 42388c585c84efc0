"""
What a policy decides: the first rule that fits, else no; and no way around a rule.
"""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.trust.decisions import BY_CERTIFICATE, Decision, Policy
from twisted_netsuite.trust.identity import ANONYMOUS, Identity
from twisted_netsuite.trust.reading import inline, readPolicy
from twisted_netsuite.trust.requests import Action, ExecRequest, Subject
from twisted_netsuite.trust.rules import ExecRule
from twisted_netsuite.wire.text import cleanText

ANNA = Identity("cert", "anna")

#: Seconds in which the largest request is decided, with room for a busy machine.
SOON = 0.5


def read(text: str) -> Policy:
    """Read a policy that is right."""
    policy, faults = readPolicy(text, "p")
    assert not faults, faults
    return policy


def withRules(service: str, *rules: str) -> Policy:
    """Make a policy in which everybody has one role."""
    head = '[identities]\n"cert:*" = ["x"]\n"unix:*" = ["x"]\nanonymous = ["x"]\n[roles.x]\n'
    return read(head + "".join(f"[[roles.x.{service}]]\n{rule}\n" for rule in rules))


def argv(*words: str) -> ExecRequest:
    """Ask for a command."""
    return ExecRequest([word.encode("utf-8", "surrogateescape") for word in words])


class RoleTests(SynchronousTestCase):
    """Who has which roles, and in which order they are asked."""

    POLICY = """
        [identities]
        "cert:anna" = ["b", "a"]
        "cert:*" = ["c"]
        "unix:*" = ["d"]
        "cert:a*" = ["a", "e"]
        anonymous = ["f"]
        [roles]
        a = {}
        b = {includes = ["g"]}
        c = {}
        d = {}
        e = {}
        f = {}
        g = {includes = ["h", "a"]}
        h = {}
    """

    def test_order(self) -> None:
        """First the lines for just this one, then the certificate, then lines with wildcards."""
        policy = read(self.POLICY)
        self.assertEqual(list(policy.rolesOf(ANNA)), ["b", "a", "c", "e"])
        held = policy.rolesOf(Identity("cert", "anna", frozenset({"z", "e"})))
        self.assertEqual(list(held), ["b", "a", "e", "z", "c"])
        self.assertEqual((held["e"], held["c"]), (BY_CERTIFICATE, 'p:4 ("cert:*")'))
        general = read(
            '[identities]\n"cert:*" = ["b"]\n"cert:anna" = ["a"]\n[roles]\na = {}\nb = {}'
        )
        self.assertEqual(list(general.rolesOf(ANNA)), ["a", "b"])

    def test_ban(self) -> None:
        """A line for just one identity takes back what its certificate gives, for it alone."""
        policy = read("""
            [identities]
            "cert:*" = ["operator"]
            "cert:mallory" = ["banned"]
            [roles.operator]
            exec = [{shell = true}]
            files = [{}]
            chat = [{names = ["*"]}]
            proxy = [{to = ["*"]}]
            [roles.banned]
            exec = [{deny = true}]
            files = [{deny = true}]
            chat = [{deny = true}]
            proxy = [{deny = true}]
        """)
        for name, allowed in (("mallory", False), ("anna", True)):
            who = Identity("cert", name, frozenset({"operator"}))
            for answer in (
                policy.shell(who, b"true"),
                policy.files(who, "read", "/x"),
                policy.chat(who, "name", "x"),
                policy.proxy(who, "x", 1),
            ):
                self.assertIs(answer.allowed, allowed, answer)
                if not allowed:
                    self.assertEqual(answer.grant, 'p:4 ("cert:mallory")')

    def test_method(self) -> None:
        """The same name by another method is somebody else."""
        policy = read(self.POLICY)
        self.assertEqual(list(policy.rolesOf(Identity("unix", "anna"))), ["d"])
        self.assertEqual(list(policy.rolesOf(Identity("token", "anna"))), [])
        self.assertEqual(list(policy.rolesOf(ANONYMOUS)), ["f"])
        self.assertEqual(list(policy.rolesOf(Identity("anonymous", "x"))), [])
        self.assertEqual(list(policy.rolesOf(Identity("cert"))), ["c"])

    def test_includes(self) -> None:
        """Included roles come after the role's own, each once, with the way to them."""
        brought = read(self.POLICY).brings("b")
        chains = [("b",), ("b", "g"), ("b", "g", "h"), ("b", "g", "a")]
        self.assertEqual([chain for chain, _ in brought], chains)
        self.assertEqual(read(self.POLICY).brings("unknown"), [])

    def test_ownFirst(self) -> None:
        """A role's own rules decide before those that it includes, and roles in their order."""
        policy = read("""
            [identities]
            "cert:anna" = ["x", "z"]
            [roles.y]
            files = [{paths = ["/a"]}, {paths = ["/b"], deny = true}, {paths = ["/c"]}]
            [roles.x]
            includes = ["y"]
            files = [{paths = ["/a"], deny = true}, {paths = ["/b"]}]
            [roles.z]
            files = [{paths = ["/c"], deny = true}, {paths = ["/d"]}]
        """)
        answers = [policy.files(ANNA, "read", path) for path in ("/a", "/b", "/c", "/d")]
        self.assertEqual([answer.allowed for answer in answers], [False, True, True, True])
        self.assertEqual([answer.role for answer in answers], ["x", "x", "y", "z"])
        self.assertEqual(answers[2].chain, ("x", "y"))
        self.assertEqual(answers[2].grant, 'p:3 ("cert:anna")')

    def test_certificateRole(self) -> None:
        """A certificate's role counts without a line, and one that is not here brings nothing."""
        policy = read('[[roles.x.files]]\npaths = ["/a"]')
        vouched = policy.files(Identity("cert", "bob", frozenset({"x"})), "read", "/a")
        self.assertEqual((vouched.allowed, vouched.grant), (True, BY_CERTIFICATE))
        lost = policy.files(Identity("cert", "bob", frozenset({"y"})), "read", "/a")
        self.assertIn("has no role in this policy", lost.reason)

    def test_defaults(self) -> None:
        """An empty policy denies all, and an unknown identity has nothing."""
        for policy in (Policy(), read("")):
            for answer in (
                policy.exec(ANNA, argv("/bin/true")),
                policy.shell(ANNA, b"true"),
                policy.files(ANNA, "read", "/"),
                policy.chat(ANNA, "name", "anna"),
                policy.proxy(ANNA, "h", 1),
            ):
                self.assertEqual((answer.allowed, answer.rule), (False, None))


class DecisionTests(SynchronousTestCase):
    """What is told of a decision."""

    def test_allowed(self) -> None:
        """One that allows names rule, role, line and what gave the role."""
        answer = withRules("exec", 'argv = ["/a", "*"]\ntime-limit = 5').exec(ANNA, argv("/a", "b"))
        self.assertEqual(answer.reason, "cert:anna may run '/a' 'b': p:6 allows it.")
        self.assertEqual((answer.role, answer.source, answer.chain), ("x", "p:6", ("x",)))
        self.assertEqual(answer.text, '{argv = ["/a", "*"], time-limit = 5}')
        assert isinstance(answer.rule, ExecRule)
        self.assertEqual(answer.rule.timeLimit, 5)

    def test_denied(self) -> None:
        """One that denies names the rule that does."""
        answer = withRules("files", "deny = true").files(ANNA, "read", "a")
        self.assertEqual(answer.reason, "cert:anna may not read '/a': p:6 denies it.")

    def test_near(self) -> None:
        """One by no rule names the first that comes near, and what is in the way."""
        policy = withRules("exec", 'argv = ["/b"]', 'argv = ["/a"]', 'argv = ["/a"]')
        answer = policy.exec(ANNA, ExecRequest([b"/a"], env=["PATH"]))
        self.assertEqual(
            answer.reason,
            "cert:anna may not run '/a': no rule allows it; p:8 comes near, but it does not let "
            "the variable PATH be set (env).",
        )
        self.assertEqual((answer.rule, answer.source), (None, ""))

    def test_clean(self) -> None:
        """No request reaches a log or a terminal as it is, or at any length."""
        policy = withRules("exec", 'argv = ["..."]')
        for request in (
            argv("/a", "\x1b[2J\n\u202e"),
            argv("/a", "x" * 10**6),
            argv(*["/a"] * 10**5),
            ExecRequest([b"/a\xff"]),
            ExecRequest([b"/a"], env=["\x1b=" * 10**5]),
            ExecRequest([b"\x1b" * 10**5], cwd=b"\x1b", user="\x1b"),
        ):
            reason = policy.exec(ANNA, request).reason
            self.assertTrue(reason.isprintable(), reason)
            self.assertLess(len(reason), 1000)

    def test_argvForShell(self) -> None:
        """Whoever has rules with argv alone is told that these are not for a shell."""
        aside = "cert:anna may not have a shell run 'ls': no rule allows it{}."
        for rules, told in (
            ('[[roles.x.exec]]\nargv = ["/bin/ls"]\n', "; an argv rule is not for a shell"),
            ('[[roles.x.exec]]\nargv = ["..."]\n', "; an argv rule is not for a shell"),
            ('[[roles.x.exec]]\nargv = ["/bin/ls"]\ndeny = true\n', ""),
            ("[[roles.x.files]]\n", ""),
        ):
            policy = read(f'[identities]\n"cert:anna" = ["x"]\n{rules}')
            self.assertEqual(policy.shell(ANNA, b"ls").reason, aside.format(told))

    def test_durable(self) -> None:
        """A rule says whether the audit log comes first, else the file does."""
        for audit, rule, durable in (
            ("", "", False),
            ("durable = true", "", True),
            ("durable = true", "durable = false", False),
            ("", "durable = true", True),
        ):
            policy = read(
                f"[audit]\n{audit}\n[[roles.x.exec]]\nshell = true\n{rule}\n[identities]\n"
                '"cert:*" = ["x"]'
            )
            self.assertIs(policy.shell(ANNA, b"a").durable, durable, (audit, rule))


class ExecTests(SynchronousTestCase):
    """Commands."""

    def allowed(self, rules: str | list[str], request: ExecRequest) -> bool:
        """Tell whether rules allow a command."""
        rules = [rules] if isinstance(rules, str) else rules
        return withRules("exec", *rules).exec(ANNA, request).allowed

    def test_elements(self) -> None:
        """Each argument is matched for itself, and there are no more and no fewer."""
        rule = 'argv = ["/usr/bin/git", ["log", "st*"], "*"]'
        for words, allowed in (
            (["/usr/bin/git", "log", "a b; c"], True),
            (["/usr/bin/git", "status", ""], True),
            (["/usr/bin/git", "log"], False),
            (["/usr/bin/git", "log", "a", "b"], False),
            (["/usr/bin/git", "push", "a"], False),
            (["/usr/bin/gitx", "log", "a"], False),
            (["/usr/bin/git", "log", "-a"], False),
            (["/usr/bin/git", "log", "--output=/etc/passwd"], False),
            (["/usr/bin/git", "log", "a\nb"], False),
            (["/usr/bin/git log a"], False),
        ):
            self.assertIs(self.allowed(rule, argv(*words)), allowed, words)

    def test_rest(self) -> None:
        """Three dots at the end are any further arguments, also none and options."""
        rule = 'argv = ["/a", "b", "..."]'
        for words, allowed in (
            (["/a", "b"], True),
            (["/a", "b", "-x", "c\nd"], True),
            (["/a"], False),
            (["/a", "c"], False),
        ):
            self.assertIs(self.allowed(rule, argv(*words)), allowed, words)
        self.assertTrue(self.allowed('argv = ["..."]', argv("/x", "-y")))
        self.assertFalse(self.allowed('argv = ["/a", "[.]..", "b"]', argv("/a", "c", "b")))

    def test_program(self) -> None:
        """A program is asked for by the one way to write its whole path, else never allowed."""
        for program in ("a", "./a", "", "/usr/../a", "//a", "/a/", "/./a", "/usr/bin/..", "~/a"):
            self.assertFalse(self.allowed('argv = ["..."]', argv(program)), program)
        self.assertTrue(self.allowed('argv = ["/opt/*"]', argv("/opt/a")))
        self.assertFalse(self.allowed('argv = ["/opt/*"]', argv("/opt/b/a")))

    def test_paths(self) -> None:
        """A pattern with a slash keeps an argument below its directory."""
        rule = 'argv = ["/usr/bin/tail", "/var/log/*.log"]'
        self.assertTrue(self.allowed(rule, argv("/usr/bin/tail", "/var/log/x.log")))
        for path in ("/var/log/../../etc/x.log", "/var/log/a/x.log", "/var/log/x", "x.log"):
            self.assertFalse(self.allowed(rule, argv("/usr/bin/tail", path)), path)

    def test_bytes(self) -> None:
        """Arguments are bytes: what is not UTF-8 fits a wildcard, and no other text."""
        self.assertTrue(self.allowed('argv = ["/a", "*"]', ExecRequest([b"/a", b"\xff\xfe"])))
        self.assertTrue(self.allowed('argv = ["/a", "ü"]', ExecRequest([b"/a", "ü".encode()])))
        self.assertFalse(self.allowed('argv = ["/a", "ü"]', ExecRequest([b"/a", b"\xfc"])))

    def test_malformed(self) -> None:
        """What no program can be given is never allowed."""
        for request in (
            ExecRequest([]),
            ExecRequest([b"/a", b"b\0c"]),
            ExecRequest([b"/a\0b"]),
            ExecRequest([b"/a"], env=[""]),
            ExecRequest([b"/a"], env=["LANG=x"]),
            ExecRequest([b"/a"], env=["LANG\0"]),
            ExecRequest([b"/a"], cwd=b"x"),
            ExecRequest([b"/a"], cwd=b"/x/../y"),
            ExecRequest([b"/a"], cwd=b""),
            ExecRequest([b"a", b"b"], shell=True),
            ExecRequest([b""], shell=True),
            ExecRequest([b"a\0"], shell=True),
        ):
            answer = withRules(
                "exec",
                'argv = ["..."]\ncwd = ["/**"]\nenv = ["LANG_*"]',
                'shell = true\ncwd = ["/**"]\nenv = ["LANG_*"]',
            ).exec(ANNA, request)
            self.assertEqual((answer.allowed, answer.rule), (False, None), request)
            self.assertTrue(answer.reason.endswith("."), answer.reason)

    def test_shell(self) -> None:
        """A command line is allowed by a rule for the shell alone, and such a rule no argv."""
        line = ExecRequest([b"rm -rf / ; true"], shell=True)
        self.assertTrue(self.allowed("shell = true", line))
        self.assertTrue(withRules("exec", "shell = true").shell(ANNA, b"true | false").allowed)
        self.assertFalse(self.allowed('argv = ["..."]', line))
        self.assertFalse(self.allowed('argv = ["..."]', ExecRequest([b"/bin/ls"], shell=True)))
        self.assertFalse(self.allowed("shell = true", argv("/bin/ls")))

    def test_environment(self) -> None:
        """Only variables that a rule names may be set, and all of them must be."""
        rule = 'argv = ["/a"]\nenv = ["LANG", "LC_*"]'
        for env, allowed in (
            ([], True),
            (["LANG", "LC_ALL"], True),
            (["LANG", "PATH"], False),
            (["LD_PRELOAD"], False),
            (["lang"], False),
        ):
            self.assertIs(self.allowed(rule, ExecRequest([b"/a"], env=env)), allowed, env)
        asked = ExecRequest([b"/a"], env=["LD_PRELOAD"])
        config = ExecRequest([b"/a"], env=["npm_config_script_shell"])
        self.assertFalse(self.allowed('argv = ["/a"]\nenv = ["npm_*"]', config))
        self.assertFalse(self.allowed('argv = ["/a"]\nenv = ["LD_*"]', asked))
        self.assertTrue(self.allowed('argv = ["/a"]\nenv = ["LD_PRELOAD"]', asked))

    def test_directory(self) -> None:
        """A client may choose a directory only where a rule names it."""
        rule = 'argv = ["/a"]\ncwd = ["/srv", "/srv/*"]'
        for cwd, allowed in (
            (None, True),
            (b"/srv", True),
            (b"/srv/a", True),
            (b"/srv/a/b", False),
            (b"/", False),
            (b"/srv/..", False),
        ):
            self.assertIs(self.allowed(rule, ExecRequest([b"/a"], cwd=cwd)), allowed, cwd)
        self.assertFalse(self.allowed('argv = ["/a"]', ExecRequest([b"/a"], cwd=b"/")))

    def test_others(self) -> None:
        """User, terminal and outliving are given by name only; another rule may give them."""
        for asked, field in (
            (ExecRequest([b"/a"], user="deploy"), 'user = "deploy"'),
            (ExecRequest([b"/a"], pty=True), "pty = true"),
            (ExecRequest([b"/a"], detach=True), "detach = true"),
        ):
            self.assertFalse(self.allowed('argv = ["/a"]', asked), field)
            self.assertTrue(self.allowed(f'argv = ["/a"]\n{field}', asked), field)
            self.assertTrue(self.allowed(f'argv = ["/a"]\n{field}', argv("/a")), field)
            self.assertTrue(
                self.allowed(['argv = ["/a"]', f'argv = ["/a"]\n{field}'], asked), field
            )
        self.assertFalse(
            self.allowed('argv = ["/a"]\nuser = "deploy"', ExecRequest([b"/a"], user="root"))
        )

    def test_deny(self) -> None:
        """A rule that denies takes in what those that allow leave out."""
        allow = 'argv = ["/a", "..."]\nenv = ["A", "B"]\ncwd = ["/**"]'
        for deny, request in (
            ("", argv("/a")),
            ('argv = ["/a", "*x*"]', argv("/a", "-x")),
            ('argv = ["/a", "*x*"]', argv("/a", "x\ny")),
            ('argv = ["*", "x"]', argv("/a", "x")),
            ('argv = ["/a", "/etc/*"]', argv("/a", "/etc/../etc/./x")),
            ('argv = ["/a", "/etc/**"]', argv("/a", "/srv/../etc//x")),
            ('argv = ["/a", "/etc/shadow"]', argv("/a", "//etc/shadow")),
            ('argv = ["/a", "/etc/shadow"]', argv("/a", "//etc/../etc/shadow")),
            ('env = ["B*"]', ExecRequest([b"/a"], env=["A", "B"])),
            ('cwd = ["/etc/**"]', ExecRequest([b"/a"], cwd=b"/etc/x")),
        ):
            self.assertTrue(self.allowed(allow, request), request)
            self.assertFalse(self.allowed([f"deny = true\n{deny}", allow], request), deny)
            self.assertTrue(self.allowed([allow, f"deny = true\n{deny}"], request), deny)

    def test_denySpellings(self) -> None:
        """One path that is denied before all are allowed is denied however it is written."""
        rules = ['deny = true\nargv = ["/bin/cat", "/etc/shadow"]', 'argv = ["/bin/cat", "/**"]']
        for path in ("/etc/shadow", "//etc/shadow", "///etc//shadow", "//etc/../etc/shadow",
                     "/../etc/shadow", "//./etc/shadow", "/etc/shadow/"):  # fmt: skip
            self.assertFalse(self.allowed(rules, argv("/bin/cat", path)), path)
        for path in ("/etc/shadow2", "//etc/passwd"):
            self.assertTrue(self.allowed(rules, argv("/bin/cat", path)), path)

    def test_denyIsNarrow(self) -> None:
        """A rule that denies some leaves the others."""
        allow = 'argv = ["/a", "..."]\nenv = ["A", "B"]\ncwd = ["/**"]'
        for deny, request in (
            ("shell = true", argv("/a")),
            ('argv = ["/a", "x"]', argv("/a", "y")),
            ('env = ["B*"]', ExecRequest([b"/a"], env=["A"])),
            ('cwd = ["/etc/**"]', ExecRequest([b"/a"], cwd=b"/srv")),
            ('cwd = ["/etc/**"]', argv("/a")),
        ):
            self.assertTrue(self.allowed([f"deny = true\n{deny}", allow], request), deny)
        for deny, allowed in (("", False), ("shell = true", False), ('argv = ["/a"]', True)):
            line = ExecRequest([b"a"], shell=True)
            self.assertIs(
                self.allowed([f"deny = true\n{deny}", "shell = true"], line), allowed, deny
            )

    def test_time(self) -> None:
        """The largest requests are decided at once, by many rules."""
        rules = [f'argv = ["/a{n}", "*a*b*c*", "/**/x/**", "..."]' for n in range(200)]
        policy = withRules("exec", *rules, 'argv = ["/a", "*a*b*a*", "*", "..."]')
        for request in (
            argv("/a", "ab" * 500_000, "/x" * 500_000, *["x"] * 100_000),
            argv("/a199", "abc" * 300_000, "/x" * 500_000, *["x"] * 100_000),
            argv(*["/a"] * 100_000),
            argv("/" + "a/" * 500_000),
        ):
            began = time.process_time()
            policy.exec(ANNA, request)
            self.assertLess(time.process_time() - began, SOON)


class FilesTests(SynchronousTestCase):
    """Files."""

    def allowed(self, rules: list[str], action: Action, path: bytes | str) -> bool:
        """Tell whether rules allow something."""
        return withRules("files", *rules).files(ANNA, action, path).allowed

    def test_paths(self) -> None:
        """Paths are matched in one form, with or without a leading slash."""
        for path in ("/pub/a", "pub/a", "//pub/./a", b"pub/a", "/pub", "pub/", "/pub/a/b"):
            self.assertTrue(self.allowed(['paths = ["/pub/**"]'], "read", path), path)
        for path in ("/", "", "/publ", "/pub/../etc", "..", "/pub/..", "pub/a\0", "/pub/a\nb"):
            self.assertFalse(self.allowed(['paths = ["/pub/**"]'], "read", path), path)

    def test_every(self) -> None:
        """A rule without paths is for every one, of whatever bytes, but for ways up."""
        for path in ("/", "", b"/\xff", "/a\nb", "/-x"):
            self.assertTrue(self.allowed([""], "read", path), path)
        for path in ("..", "/a/../b", "/a\0", "/" + "a" * 5000):
            self.assertFalse(self.allowed([""], "read", path), path[:10])

    def test_actions(self) -> None:
        """Reading is given unless said otherwise, and nothing that is not said."""
        self.assertTrue(self.allowed([""], "read", "/a"))
        self.assertFalse(self.allowed([""], "write", "/a"))
        self.assertFalse(self.allowed(['actions = ["write"]'], "read", "/a"))
        self.assertTrue(self.allowed(["", 'actions = ["write"]'], "write", "/a"))

    def test_deny(self) -> None:
        """A rule that denies means all actions unless said otherwise, and every way to a path."""
        every = 'actions = ["read", "write", "delete"]'
        secret = 'deny = true\npaths = ["/s/**"]'
        actions: tuple[Action, ...] = ("read", "write", "delete")
        for action in actions:
            for path in ("/s/a", "s", "/./s//a", "/s/a\nb", "/s/-"):
                self.assertFalse(self.allowed([secret, every], action, path), (action, path))
            self.assertTrue(self.allowed([secret, every], action, "/t"))
        kept = 'deny = true\nactions = ["delete"]'
        answers = [self.allowed([kept, every], action, "/a") for action in actions]
        self.assertEqual(answers, [True, True, False])

    def test_root(self) -> None:
        """The rule tells the root and the limits."""
        answer = withRules("files", 'root = "/srv/x"').files(ANNA, "read", "/a")
        self.assertEqual(answer.rule.root, "/srv/x")  # type: ignore[union-attr]


class ChatTests(SynchronousTestCase):
    """Names and rooms."""

    def test_patterns(self) -> None:
        """Names and rooms are given apart, case counts, and nothing that does not show."""
        policy = withRules(
            "chat",
            'deny = true\nrooms = ["#secret*"]',
            'names = ["anna", "anna-*"]\nrooms = ["#*"]',
        )
        subjects: tuple[tuple[Subject, str, bool], ...] = (
            ("name", "anna", True),
            ("name", "anna-phone", True),
            ("name", "Anna", False),
            ("name", "#ops", False),
            ("name", "", False),
            ("name", "anna-\u202e", False),
            ("name", "anna-\n", False),
            ("name", "anna-\u0065\u0301", False),
            ("name", "anna-\u00e9", True),
            ("room", "#ops", True),
            ("room", "#secret", False),
            ("room", "#secret-2", False),
            ("room", "anna", False),
        )
        for subject, text, allowed in subjects:
            self.assertIs(policy.chat(ANNA, subject, text).allowed, allowed, (subject, text))

    def test_denyAll(self) -> None:
        """A rule that denies nothing by name denies all."""
        policy = withRules("chat", "deny = true", 'names = ["*"]\nrooms = ["*"]')
        self.assertFalse(policy.chat(ANNA, "name", "anna").allowed)
        self.assertFalse(policy.chat(ANNA, "room", "#a").allowed)


class ProxyTests(SynchronousTestCase):
    """Connections."""

    POLICY = (
        'deny = true\nto = ["127.0.0.0/8", "::1", "169.254.0.0/16"]',
        "deny = true\nports = [25]",
        'to = ["10.0.0.0/8", "db.internal", "*.example.org", "::1"]\nports = [80, "8000-8100", 25]',
    )

    def allowed(self, host: str, port: int = 80, *resolved: str) -> bool:
        """Tell whether the rules allow a connection."""
        return withRules("proxy", *self.POLICY).proxy(ANNA, host, port, resolved).allowed

    def test_hosts(self) -> None:
        """Names fit by name, addresses by network, in whatever form they come."""
        for host in (
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "db.internal",
            "DB.internal.",
            "a.b.Example.ORG",
        ):
            self.assertTrue(self.allowed(host), host)
        for host in ("11.0.0.1", "example.org", "internal", "::1", "127.0.0.1", "::ffff:127.0.0.1",
                     "127.1", "10.1", "0xa000001", "167772161", "", "a b", "[::1]", "*",
                     "x.example.org\n"):  # fmt: skip
            self.assertFalse(self.allowed(host), host)

    def test_ports(self) -> None:
        """Only ports that a rule names are allowed."""
        for port, allowed in ((80, True), (8000, True), (8100, True), (81, False), (8101, False),
                              (25, False), (0, False), (-1, False), (65616, False)):  # fmt: skip
            self.assertIs(self.allowed("db.internal", port), allowed, port)

    def test_resolved(self) -> None:
        """A name fits a network when all its addresses do; one forbidden address forbids it."""
        self.assertFalse(self.allowed("x"))
        self.assertTrue(self.allowed("x", 80, "10.0.0.1", "10.0.0.2"))
        self.assertFalse(self.allowed("x", 80, "10.0.0.1", "11.0.0.1"))
        self.assertTrue(self.allowed("a.example.org", 80, "11.0.0.1"))
        self.assertFalse(self.allowed("a.example.org", 80, "11.0.0.1", "127.0.0.1"))
        self.assertFalse(self.allowed("a.example.org", 80, "::ffff:169.254.169.254"))
        self.assertFalse(self.allowed("a.example.org", 80, "nonsense"))

    def test_thisMachine(self) -> None:
        """No spelling of this machine's addresses gets around a rule that denies them."""
        deny = 'deny = true\nto = ["127.0.0.0/8"]'
        policy = withRules("proxy", deny, 'to = ["0.0.0.0/0", "::/0", "*.example.org"]')
        for host in ("0.0.0.0", "::", "::ffff:0.0.0.0", "::127.0.0.1", "::0.0.0.0",
                     "64:ff9b::127.0.0.1", "64:ff9b::", "2002:7f00:1::",
                     "2002:7f00:1::5%1"):  # fmt: skip
            self.assertFalse(policy.proxy(ANNA, host, 80).allowed, host)
            named = policy.proxy(ANNA, "a.example.org", 80, ["10.0.0.1", host])
            self.assertFalse(named.allowed, host)
        for host in ("10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::", "2001:db8::1"):
            self.assertTrue(policy.proxy(ANNA, host, 80).allowed, host)

    def test_every(self) -> None:
        """A star is every host and every port; a rule that denies needs nothing to deny all."""
        policy = withRules("proxy", 'to = ["*"]')
        for host in ("a", "10.0.0.1", "::1"):
            self.assertTrue(policy.proxy(ANNA, host, 1).allowed, host)
        policy = withRules("proxy", "deny = true", 'to = ["*"]')
        self.assertFalse(policy.proxy(ANNA, "a", 1).allowed)


WORDS = st.sampled_from(["/a", "/a/b", "b", "-x", "", "a\nb", "/a/../b", "\ud800", "x" * 50, ".."])
ELEMENTS = st.sampled_from(["*", "b", "-*", "?", "/a/**", "/a/*", "[!b]", "...", ["b", "-x"]])
EXECS = st.fixed_dictionaries(
    {},
    optional={
        "argv": st.lists(ELEMENTS, max_size=3).map(lambda more: ["/a", *more]),
        "shell": st.just(True),
        "deny": st.booleans(),
        "env": st.just(["*"]),
        "cwd": st.just(["/a/**"]),
    },
)
FILES = st.fixed_dictionaries(
    {},
    optional={
        "paths": st.lists(st.sampled_from(["/a", "/a/*", "/**", "/*"]), min_size=1, max_size=2),
        "actions": st.lists(st.sampled_from(["read", "write", "delete"]), min_size=1),
        "deny": st.booleans(),
    },
)
CHATS = st.fixed_dictionaries(
    {},
    optional={
        "names": st.just(["*"]),
        "rooms": st.just(["#*", "b"]),
        "deny": st.booleans(),
    },
)
PROXIES = st.fixed_dictionaries(
    {},
    optional={
        "to": st.lists(st.sampled_from(["*", "10.0.0.0/8", "b", "*.b"]), min_size=1, max_size=2),
        "ports": st.just([80, "90-99"]),
        "deny": st.booleans(),
    },
)
ROLES = st.fixed_dictionaries(
    {},
    optional={
        "exec": st.lists(EXECS, max_size=3),
        "files": st.lists(FILES, max_size=3),
        "chat": st.lists(CHATS, max_size=3),
        "proxy": st.lists(PROXIES, max_size=3),
    },
)
REQUESTS: st.SearchStrategy[tuple[str, tuple[Any, ...]]] = st.one_of(
    st.tuples(
        st.just("exec"),
        st.tuples(
            st.builds(
                ExecRequest,
                st.lists(
                    WORDS.map(lambda word: word.encode("utf-8", "surrogatepass")), max_size=4
                ).map(lambda more: [b"/a", *more]),
                shell=st.booleans(),
                env=st.lists(WORDS, max_size=2),
                cwd=st.none() | WORDS,
                user=st.none() | WORDS,
                pty=st.booleans(),
            )
        ),
    ),
    st.tuples(st.just("shell"), st.tuples(st.binary(max_size=5))),
    st.tuples(
        st.just("files"),
        st.tuples(st.sampled_from(["read", "write", "delete"]), WORDS | st.binary(max_size=9)),
    ),
    st.tuples(st.just("chat"), st.tuples(st.sampled_from(["name", "room"]), WORDS | st.text())),
    st.tuples(
        st.just("proxy"),
        st.tuples(
            st.sampled_from(["b", "a.b", "10.0.0.1", "::1", "127.1", ""]) | st.text(),
            st.integers(-1, 70000) | st.just(80),
            st.lists(st.sampled_from(["10.0.0.1", "::1", "x"]), max_size=2),
        ),
    ),
)


def policyOf(**roles: dict[str, Any]) -> Policy:
    """Make a policy of roles that Anna has, in this order; wrong rules are left out."""
    lines = ["[identities]", f'"cert:anna" = {inline(list(roles))}']
    lines += [f"roles.{name} = {inline(table)}" for name, table in roles.items()]
    return readPolicy("\n".join([*lines[2:], *lines[:2]]), "p")[0]


def ask(policy: Policy, request: tuple[str, tuple[Any, ...]]) -> Decision:
    """Ask a policy for something."""
    service, words = request
    decision: Decision = getattr(policy, service)(ANNA, *words)
    return decision


def denying(role: dict[str, Any]) -> dict[str, Any]:
    """Turn all rules of a role into ones that deny."""
    return {name: [rule | {"deny": True} for rule in rules] for name, rules in role.items()}


class AnythingTests(SynchronousTestCase):
    """Any policy and any request."""

    @given(ROLES, REQUESTS)
    def test_answer(self, role: dict[str, Any], request: Any) -> None:
        """Every request has an answer in one sentence, and only a rule allows anything."""
        answer = ask(policyOf(x=role), request)
        self.assertEqual(answer.reason, cleanText(answer.reason))
        self.assertTrue(answer.reason.endswith("."))
        if answer.allowed:
            assert answer.rule is not None
            self.assertFalse(answer.rule.deny)

    @given(REQUESTS)
    def test_default(self, request: Any) -> None:
        """Without rules nothing is allowed."""
        self.assertFalse(ask(policyOf(x={}), request).allowed)

    @given(ROLES, ROLES, REQUESTS)
    def test_denyWins(self, deny: dict[str, Any], role: dict[str, Any], request: Any) -> None:
        """What a rule denies stays denied, whatever comes after it."""
        first = ask(policyOf(x=denying(deny)), request)
        if first.rule is not None:
            self.assertFalse(ask(policyOf(x=denying(deny), y=role), request).allowed)

    @given(ROLES, ROLES, st.booleans(), REQUESTS)
    def test_neverWider(
        self, deny: dict[str, Any], role: dict[str, Any], before: bool, request: Any
    ) -> None:
        """A role that only denies never allows what was not allowed without it."""
        more = {"y": denying(deny), "x": role} if before else {"x": role, "y": denying(deny)}
        if ask(policyOf(**more), request).allowed:
            self.assertTrue(ask(policyOf(x=role), request).allowed)

    @given(ROLES, REQUESTS)
    def test_denyCovers(self, role: dict[str, Any], request: Any) -> None:
        """Before the same rules as denials, rules allow nothing: denials are never narrower."""
        plain = {
            name: [
                {key: value for key, value in rule.items() if key not in ("env", "cwd")}
                for rule in rules
            ]
            for name, rules in role.items()
        }
        self.assertFalse(ask(policyOf(y=denying(plain), x=plain), request).allowed)
