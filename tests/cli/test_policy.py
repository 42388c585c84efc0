"""
C{netsuite policy}: what it prints, and with which status it ends.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.cli.main import main

POLICY = """\
[identities]
"cert:anna" = ["operator"]
"unix:*" = ["reader"]
anonymous = ["guest"]
[roles.operator]
includes = ["reader"]
[[roles.operator.exec]]
argv = ["/bin/sh", ["a", "b"], "*"]
cwd = ["/srv"]
env = ["LANG"]
user = "root"
pty = true
detach = true
durable = true
[[roles.operator.exec]]
shell = true
[[roles.operator.proxy]]
to = ["10.0.0.0/8", "fd00::/8"]
[roles.reader]
[[roles.reader.files]]
paths = ["/private/**"]
deny = true
[[roles.reader.files]]
[[roles.reader.chat]]
names = ["a*"]
rooms = ["#*"]
[roles.guest]
"""


class PolicyTestCase(SynchronousTestCase):
    """Has a policy file."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.write(POLICY)

    def write(self, text: str) -> None:
        """Write the file."""
        Path(self.path).write_text(text)
        Path(self.path).chmod(0o600)

    def invoke(self, *words: str) -> Result:
        """Run a command about the file."""
        command, *rest = words
        return CliRunner().invoke(main, ["policy", command, self.path, *rest])

    def shown(self, text: str) -> list[str]:
        """Give the lines of an output, with a short name for the file."""
        return text.replace(self.path, "FILE").splitlines()


class CheckTests(PolicyTestCase):
    """C{netsuite policy check}."""

    def test_right(self) -> None:
        """A policy that is right is counted, and what is suspicious in it told."""
        result = self.invoke("check")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(result.stderr, "")
        self.assertEqual(
            self.shown(result.stdout),
            [
                'FILE:15: warning: shell = true lets "cert:anna" run any command at all.',
                "note: no service of this version asks about rules for chat.",
                "FILE is right: 3 roles, 6 rules and 3 identities.",
            ],
        )

    def test_unasked(self) -> None:
        """Rules about which no service asks are told in one line, and those alone."""
        head = '[identities]\n"cert:a" = ["x"]\n'
        for rule, told in (
            ('[[roles.x.exec]]\nargv = ["/bin/sh"]\ncwd = ["/"]\nuser = "root"\npty = true', ""),
            ("[[roles.x.exec]]\nshell = true", ""),
            ('[[roles.x.files]]\nactions = ["write", "delete"]\nquota = 1\nfile-quota = 1', ""),
            ("[[roles.x.files]]\ndeny = true", ""),
            ('[[roles.x.proxy]]\nto = ["*"]', ""),
            ("[[roles.x.chat]]\ndeny = true", "chat"),
        ):
            self.write(f"{head}{rule}\n")
            result = self.invoke("check")
            self.assertEqual(result.exit_code, 0, rule)
            notes = [line for line in self.shown(result.stdout) if line.startswith("note: ")]
            line = f"note: no service of this version asks about rules for {told}."
            self.assertEqual(notes, [line] if told else [], rule)

    def test_single(self) -> None:
        """One of each is counted as one."""
        self.write('[identities]\n"cert:a" = ["x"]\n[[roles.x.files]]\n')
        self.assertEqual(
            self.shown(self.invoke("check").stdout),
            ["FILE is right: 1 role, 1 rule and 1 identity."],
        )

    def test_faults(self) -> None:
        """Every fault is a line that editors understand, and the status is 125."""
        self.write('[identities]\n"*" = ["x"]\n[[roles.x.exec]]\nargv = ["\\u001b[2J"]\n')
        result = self.invoke("check")
        self.assertEqual((result.exit_code, result.stdout), (125, ""))
        first, second = self.shown(result.stderr)
        self.assertTrue(first.startswith('FILE:2: identities."*" cannot be: '), first)
        self.assertTrue(second.startswith("FILE:4: roles.x.exec[0].argv[0] is "), second)
        self.assertTrue(second.isprintable(), second)

    def test_notToml(self) -> None:
        """So is a file that is no TOML."""
        self.write("[identities\n")
        result = self.invoke("check")
        self.assertEqual(result.exit_code, 125)
        self.assertEqual(len(self.shown(result.stderr)), 1)
        self.assertRegex(self.shown(result.stderr)[0], "^FILE:1: this is not TOML: ")

    def test_unusable(self) -> None:
        """A file that cannot be used at all is one sentence."""
        Path(self.path).chmod(0o666)
        result = self.invoke("check")
        self.assertEqual(result.exit_code, 125)
        self.assertEqual(
            self.shown(result.stderr),
            [
                "netsuite: The policy 'FILE' can be changed by others than its owner; "
                "run chmod go-w FILE."
            ],
        )
        os.unlink(self.path)
        result = self.invoke("check")
        self.assertEqual(result.exit_code, 125)
        self.assertIn("no such file", result.stderr)

    def test_owner(self) -> None:
        """A file of another account is right, with a warning."""
        uid = os.stat(self.path).st_uid
        self.patch(os, "geteuid", lambda: uid + 12345)
        if uid == 0:
            os.chown(self.path, 4321, -1)
            uid = 4321
        result = self.invoke("check")
        self.assertEqual(result.exit_code, 0)
        self.assertIn(
            f"FILE: warning: it belongs to uid {uid};", "\n".join(self.shown(result.stdout))
        )


class ExplainTests(PolicyTestCase):
    """C{netsuite policy explain}."""

    def assertAnswer(self, words: str, status: int, *lines: str) -> None:
        """A question is answered with a status and these lines, after which others may come."""
        result = self.invoke("explain", *words.split())
        self.assertEqual(result.exit_code, status, result.output)
        self.assertEqual(self.shown(result.stdout)[: len(lines)], list(lines))
        self.assertEqual(result.stderr, "")

    def test_allowed(self) -> None:
        """What is allowed is told with rule, role and line, and the status is 0."""
        self.assertAnswer(
            "--as cert:anna exec -- /bin/sh a x",
            0,
            "allowed: cert:anna may run '/bin/sh' 'a' 'x': FILE:7 allows it.",
            '  rule:  FILE:7: {argv = ["/bin/sh", ["a", "b"], "*"], cwd = ["/srv"], '
            'env = ["LANG"], user = "root", pty = true, detach = true, durable = true}',
            '  role:  operator, given by FILE:2 ("cert:anna")',
            "  audit: the line about it is on the disk before it is done",
        )

    def test_denied(self) -> None:
        """What a rule denies is told in the same way, and the status is 126."""
        self.assertAnswer(
            "--as cert:anna files read private/x",
            126,
            "denied: cert:anna may not read '/private/x': FILE:20 denies it.",
            '  rule:  FILE:20: {paths = ["/private/**"], deny = true}',
            '  role:  operator, which includes reader, given by FILE:2 ("cert:anna")',
        )

    def test_noRule(self) -> None:
        """What no rule allows is told with the roles there are, and with what comes near."""
        self.assertAnswer(
            "--as unix:bob --cwd / exec -- /bin/sh a x",
            126,
            "denied: unix:bob may not run '/bin/sh' 'a' 'x': no rule allows it.",
            '  role:  reader, given by FILE:3 ("unix:*")',
        )
        self.assertAnswer(
            "--as cert:anna --role nothing exec --cwd / -- /bin/sh a x",
            126,
            "denied: cert:anna may not run '/bin/sh' 'a' 'x': no rule allows it; FILE:7 comes "
            "near, but it does not let it run in / (cwd).",
            '  role:  operator, given by FILE:2 ("cert:anna")',
            "  role:  nothing, given by the certificate, but is not in this policy",
        )
        self.assertAnswer(
            "--as token:x chat name x",
            126,
            "denied: token:x may not have the name 'x': it has no role in this policy.",
        )

    def test_who(self) -> None:
        """A name alone is that of a certificate, and this is told."""
        self.assertAnswer(
            "--as anna files read x", 0, "anna is taken for cert:anna.",
            "allowed: cert:anna may read '/x': FILE:23 allows it.",
        )  # fmt: skip
        self.assertAnswer("--as unix:#1000 files read x", 0)
        self.assertAnswer("--as anonymous files read x", 126)
        self.assertAnswer("--as bob --role reader files read x", 0)

    def test_bareName(self) -> None:
        """A program without a slash is any of that name in the PATH, as for a service."""
        self.patch(os, "environ", os.environ | {"PATH": "here:/nonesuch:/bin"})
        for words, part, status in (
            ("exec -- sh b x", "allowed: cert:anna may run '/bin/sh' 'b' 'x': ", 0),
            ("exec -- sh c x", "denied: cert:anna may not run '/nonesuch/sh' 'c' 'x': ", 126),
            ("exec --cwd / -- sh a x", "denied: cert:anna may not run '/bin/sh' 'a' 'x'", 126),
        ):
            result = self.invoke("explain", "--as", "cert:anna", *words.split())
            self.assertEqual(result.exit_code, status)
            self.assertIn(part, result.stdout)

    def test_exec(self) -> None:
        """Everything that a rule for commands looks at can be asked for."""
        self.assertAnswer(
            "--as cert:anna --cwd /srv --env LANG --user root --pty --detach exec -- /bin/sh b x", 0
        )
        for option in ("--cwd /", "--env PATH", "--env LANG --env PATH", "--user bob"):
            self.assertAnswer(f"--as cert:anna exec {option} -- /bin/sh b x", 126)
        self.assertAnswer("--as cert:anna exec --env LANG=C=D --env LANG= -- /bin/sh b x", 0)
        for option in ("--env PATH=/tmp", "--env =LANG", "--cwd srv", "--cwd /srv/", "--cwd ."):
            self.assertAnswer(f"--as cert:anna exec {option} -- /bin/sh b x", 126)
        for option in ("--pty", "--detach", "--env LANG", "--cwd /srv", "--user root"):
            self.assertAnswer(f"--as cert:anna exec {option} -- /bin/sh b x", 0)
            self.assertAnswer(f"--as cert:anna exec {option} --shell -- ls", 126)
        self.assertAnswer("--as cert:anna exec -- /bin/sh b -x", 126)
        self.assertAnswer("--as cert:anna exec -- ./sh b x", 126)
        self.assertAnswer(
            "--as cert:anna exec --shell -- rm -rf /",
            0,
            "allowed: cert:anna may have a shell run 'rm -rf /': FILE:15 allows it.",
        )

    def test_unasked(self) -> None:
        """What no service of this version asks is marked so, whatever the answer is."""
        note = "  note:  no service of this version asks this"
        for words, marked in (
            ("exec -- /bin/sh a x", False),
            ("exec --pty --detach --cwd / --env A --user root -- /bin/sh b x", False),
            ("exec --shell -- ls", False),
            ("files read /x", False),
            ("files write /x", False),
            ("files delete /x", False),
            ("chat name anna", True),
            ("proxy 10.0.0.1:80", False),
        ):
            result = self.invoke("explain", "--as", "anna", *words.split())
            self.assertEqual(result.stdout.splitlines()[-1] == note, marked, words)

    def test_bytes(self) -> None:
        """Arguments that are no text are asked for as they are, and shown clean."""
        result = self.invoke(
            "explain", "--as", "cert:anna", "exec", "--", "/bin/sh", "a", "\udcff\x1b"
        )
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertTrue(all(line.isprintable() for line in result.stdout.splitlines()))

    def test_proxy(self) -> None:
        """A place is a host and a port; addresses of a name can be given."""
        for words, status in (
            ("10.0.0.1:80", 0),
            ("[fd00::1]:80", 0),
            ("11.0.0.1:80", 126),
            ("db:80", 126),
            ("db:80 --resolved 10.0.0.1", 0),
            ("db:80 --resolved 10.0.0.1 --resolved 11.0.0.1", 126),
            ("10.0.0.1:0", 126),
        ):
            self.assertAnswer(f"--as cert:anna proxy {words}", status)

    def test_usage(self) -> None:
        """A question that cannot be asked is one sentence, and the status is 125."""
        for words, said in (
            ("--as anna files look x", "Give one of read, write, delete, and one PATH"),
            ("--as anna files read", "Give one of read, write, delete"),
            ("--as anna files read x y", "Give one of read, write, delete"),
            ("--as anna chat nick x", "Give one of name, room, and one TEXT"),
            ("--as anna proxy x", "Give one HOST:PORT"),
            ("--as anna proxy x:http", "Give one HOST:PORT"),
            ("--as anna proxy ::1:80", "Give one HOST:PORT"),
            ("--as anna proxy x:1 y:2", "Give one HOST:PORT"),
            ("--as anna echo x", "'echo' is not one of"),
            ("--as anna exec", "Missing argument 'REQUEST...'"),
            ("exec x", "Missing option '--as'"),
            ("--as a/b exec x", "'a/b' is nobody; give cert:NAME"),
            ("--as x:anna exec x", "'x:anna' is nobody"),
            ("--as cert:#1 exec x", "'cert:#1' is nobody"),
            ("--as cert: exec x", "'cert:' is nobody"),
            ("--as anonymous:x exec x", "'anonymous:x' is nobody"),
            ("--as unix:anna --role x exec x", "only a certificate gives roles"),
            ("--as anna --cwd / files read x", "--cwd is not for files"),
            ("--as anna --resolved ::1 exec x", "--resolved is not for exec"),
        ):
            result = self.invoke("explain", *words.split())
            self.assertEqual(result.exit_code, 125, words)
            self.assertIn(said, result.stderr)
            self.assertEqual((result.stderr.count("\n"), result.stdout), (1, ""), words)

    def test_badFile(self) -> None:
        """A policy with faults explains nothing."""
        self.write("a = 1")
        result = self.invoke("explain", "--as", "cert:anna", "files", "read", "x")
        self.assertEqual((result.exit_code, result.stdout), (125, ""))
        self.assertEqual(
            self.shown(result.stderr),
            ["netsuite: FILE:1: a is not known; there are identities, roles, audit."],
        )


class PageTests(SynchronousTestCase):
    """The page of the documentation about policies."""

    def test_answers(self) -> None:
        """Every command that the page shows prints what the page shows."""
        page = (Path(__file__).parents[2] / "docs/howto/policy.md").read_text(encoding="utf-8")
        tables = re.findall(r"^```toml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
        consoles = re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
        home = self.mktemp()
        os.mkdir(home)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(home)
        for name, table in zip(
            ("policy.toml", "bad.toml", "odd.toml", "ban.toml"), tables, strict=True
        ):
            Path(name).write_text(table, encoding="utf-8")
            Path(name).chmod(0o600)
        shown = "".join(consoles)
        for command in re.findall(r"^\$ netsuite (.*)$", shown, re.MULTILINE):
            answer = CliRunner().invoke(main, shlex.split(command)).output
            self.assertIn(f"$ netsuite {command}\n{answer}", shown)
