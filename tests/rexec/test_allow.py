"""
What words on the command line allow: just that, to everybody, and nothing by a trick.
"""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.rexec.allow import EVERYBODY, VARIABLES, FixedPolicy, allowed
from twisted_netsuite.rexec.launch import Launch
from twisted_netsuite.rexec.messages import MAX_ARGUMENTS, Start, Terminal
from twisted_netsuite.rexec.outcome import NotStarted
from twisted_netsuite.rexec.permit import Judgement, Permission, Terms, judge, launchFor, planOf
from twisted_netsuite.trust.audit import AuditNotes
from twisted_netsuite.trust.decisions import Decision
from twisted_netsuite.trust.identity import ANONYMOUS, Identity
from twisted_netsuite.trust.oversight import Oversight, Withheld
from twisted_netsuite.trust.reading import readPolicy
from twisted_netsuite.trust.review import review

#: Everybody that there can be.
PEOPLE = (
    Identity("cert", "anna"),
    Identity("cert", "bob", frozenset({"other"})),
    Identity("unix", "root"),
    Identity("unix", "#1234"),
    Identity("token", "job"),
    ANONYMOUS,
)

#: Seconds in which the largest request is decided, with room for a busy machine.
SOON = 0.5

#: What has led other lists of commands astray, each as one argument.
HOSTILE = (
    *(b"; rm -rf /", b"$(reboot)", b"`reboot`", b"| sh", b"&& sh", b"> /etc/passwd", b"a\nb"),
    *(b"\n", b"-x", b"--exec=sh", b"", b" ", b"'", b'"', b"\\", b"*", b"**", b"...", b"\xff\xfe"),
    *(b"\x1b[2J", b"../..", b"/etc/shadow", b"x" * 100_000, "\u202e".encode(), b"~root", b"\r"),
)


#: Arguments that stand for themselves alone where they are written down.
PLAIN = st.text(st.characters(exclude_characters="*?[\0", codec="utf-8")).filter("...".__ne__)


class AllowTestCase(SynchronousTestCase):
    """Has a directory with programs."""

    def setUp(self) -> None:
        self.home = Path(os.path.abspath(self.mktemp()))
        self.home.mkdir()
        self.put("git")
        self.path: tuple[bytes, ...] = (os.fsencode(self.home),)

    def put(self, name: str, mode: int = 0o755) -> None:
        """Put a program there."""
        (self.home / name).write_text("#!/bin/sh\n")
        (self.home / name).chmod(mode)

    def allow(self, *words: str) -> FixedPolicy:
        """Allow words."""
        return allowed(words, self.path)

    def judged(self, source: FixedPolicy, wanted: Start, who: Identity = ANONYMOUS) -> Judgement:
        """Judge a wish."""
        return judge(Oversight("exec", source), who, planOf(wanted), Terms(self.path))

    def ask(self, source: FixedPolicy, *argv: bytes, **more: Any) -> bool:
        """Tell whether a command is allowed."""
        return self.judged(source, Start(channel=1, argv=argv, **more)).decision.allowed

    def launch(self, source: FixedPolicy, wanted: Start) -> Launch:
        """Tell how what is allowed is started."""
        judgement = self.judged(source, wanted)
        permission = launchFor(planOf(wanted), judgement, Terms(self.path))
        assert isinstance(permission, Permission), permission
        return permission.launch

    def assertTakes(self, words: str, right: tuple[str, ...], wrong: tuple[str, ...]) -> None:
        """Words allow some command lines, written with spaces, and do not allow others."""
        source = self.allow(words)
        for lines, answer in ((right, True), (wrong, False)):
            for line in lines:
                argv = [os.fsencode(word) for word in line.split(" ")]
                self.assertIs(self.ask(source, *argv), answer, (words, line))


class WordsTests(AllowTestCase):
    """What words mean."""

    def test_literal(self) -> None:
        """Words without wildcards are one command."""
        self.assertTakes(
            "git status --short",
            ("git status --short", f"{self.home}/git status --short"),
            (
                "git status",
                "git",
                "git status --short x",
                "git --short status",
                "GIT status --short",
            ),
        )

    def test_one(self) -> None:
        """A star is one argument, which is no option."""
        self.assertTakes(
            "git log *",
            (
                "git log x",
                "git log /a/b",
                "git log x;y",
                "git log ",
                "git log $(x)",
                "git log \udcff",
            ),
            ("git log", "git log x y", "git log -x", "git log --output=x", "git log a\nb"),
        )

    def test_dashed(self) -> None:
        """A star behind a dash takes options."""
        self.assertTakes("git -*", ("git -x", "git --x", "git -"), ("git x", "git"))
        self.assertTakes(
            "git log --author=*",
            ("git log --author=x", "git log --author=/x", "git log --author="),
            ("git log --output=x", "git log --author"),
        )

    def test_rest(self) -> None:
        """Two stars at the end are any more arguments, options among them."""
        self.assertTakes(
            "git log **",
            ("git log", "git log x", "git log --output=x a\nb  /etc"),
            ("git", "git status", "git -c x=y log"),
        )
        self.assertTakes("git **", ("git", "git x"), ("gi", "/bin/sh"))
        self.assertTakes("git * **", ("git x", "git x -y"), ("git", "git -x"))

    def test_wildcards(self) -> None:
        """Other wildcards are those of a policy file, and so is what they leave out."""
        self.assertTakes("git v?.[0-9]", ("git v1.2",), ("git v1.x", "git v.1", "git v?.[0-9]"))
        self.assertTakes(
            "git /srv/*/x", ("git /srv/a/x",), ("git /srv/a/b/x", "git /srv/../x", "git /srv//x")
        )
        self.assertTakes(
            "git /srv/**", ("git /srv/a/b", "git /srv/x"), ("git /srv/../etc", "git /srvx", "git x")
        )
        self.assertTakes("git [*]", ("git *",), ("git x",))

    def test_quotes(self) -> None:
        """Words are split as a shell splits them; quotes hold together, and escape no wildcard."""
        source = self.allow("""git 'a b' "c*" d\\ e ''""")
        self.assertTrue(self.ask(source, b"git", b"a b", b"cx", b"d e", b""))
        self.assertFalse(self.ask(source, b"git", b"a", b"b", b"cx", b"d e", b""))

    def test_several(self) -> None:
        """Each of several words allows its own."""
        source = self.allow("git log", "git status", "/bin/sh -c true")
        for argv in ((b"git", b"log"), (b"git", b"status"), (b"/bin/sh", b"-c", b"true")):
            self.assertTrue(self.ask(source, *argv))
        self.assertFalse(self.ask(source, b"git", b"true"))
        self.assertFalse(self.ask(source, b"/bin/sh", b"-c", b"false"))

    def test_nothing(self) -> None:
        """No words allow nothing."""
        self.assertFalse(self.ask(allowed((), self.path), b"git"))
        self.assertFalse(self.ask(allowed((), self.path), b"ls", shell=True))

    def test_found(self) -> None:
        """A name is the program that was there at the start, and no other of that name."""
        far = self.home / "far"
        far.mkdir()
        self.put("far/tool")
        self.put("tool", 0o644)
        self.path = (*self.path, os.fsencode(far))
        source = self.allow("tool")
        wanted = Start(channel=1, argv=(b"tool",))
        self.assertEqual(self.launch(source, wanted).program, os.fsencode(far / "tool"))
        (self.home / "tool").chmod(0o755)
        self.assertEqual(self.launch(source, wanted).program, os.fsencode(far / "tool"))
        self.assertFalse(self.ask(source, os.fsencode(self.home / "tool")))

    def test_wildPath(self) -> None:
        """A place with a wildcard in its name stands for itself alone."""
        for name in ("a*b", "a?b", "a[b]", "["):
            place = self.home / name
            place.mkdir()
            self.put(f"{name}/tool")
            source = allowed(["tool x"], (os.fsencode(place),))
            self.assertTrue(self.ask(source, os.fsencode(place / "tool"), b"x"), name)
            self.assertFalse(self.ask(source, os.fsencode(self.home / "axb/tool"), b"x"))
            self.assertFalse(self.ask(source, os.fsencode(self.home / "ab/tool"), b"x"))

    def test_later(self) -> None:
        """A whole path may lead to what is not there yet."""
        source = self.allow("/nonesuch/tool *")
        wanted = Start(channel=1, argv=(b"/nonesuch/tool", b"x"))
        judgement = self.judged(source, wanted)
        self.assertTrue(judgement.decision.allowed)
        assert isinstance(judgement.missing, NotStarted)
        self.assertEqual(judgement.missing.code, "not-found")

    def test_wrong(self) -> None:
        """What cannot be used is one sentence that names it and says what to do."""
        self.put("plain", 0o644)
        for words, why in (
            ("", "it names no program; write one, and what its arguments have to be"),
            ("  \n", "it names no program; write one, and what its arguments have to be"),
            ("'' x", "it names no program; write one, and what its arguments have to be"),
            ("**", "it names no program; --allow-any allows every command"),
            ("g*", "the program 'g*' has a wildcard; write it out"),
            ("/usr/bin/* x", "the program '/usr/bin/*' has a wildcard; write it out"),
            ("[ -f x", "the program '[' has a wildcard; write it out"),
            ("nonesuch", f"there is no program 'nonesuch' in {self.home}; give its whole path"),
            ("plain", f"there is no program 'plain' in {self.home}; give its whole path"),
            ("..", f"there is no program '..' in {self.home}; give its whole path"),
            (
                "./git",
                "'./git' names no program, as it does not begin with a slash; give its name or "
                "whole path",
            ),
            (
                "/bin/../git",
                "'/bin/../git' names no program, as it holds a part . or ..; give its name or "
                "whole path",
            ),
            ("git 'x", "no closing quotation"),
            ("git \\", "no escaped character"),
            ("git ** x", "** stands for any more arguments, so it can only be the last word"),
            ("git ** **", "** stands for any more arguments, so it can only be the last word"),
            ("git a**", "** is a whole word or a whole part of a path; write * within one"),
            ("git /a**", "** stands alone between slashes; write * within a part"),
            ("git ...", "... is for policy files; write ** for any more arguments"),
            ("git [a", "a [ is never closed; write [[] for the character itself"),
            ("git a\0", "nothing that is matched can hold a NUL; leave it out"),
            (
                "/git\0",
                "'/git\ufffd' names no program, as it holds a NUL; give its name or whole path",
            ),
            ("git\0", f"there is no program 'git\ufffd' in {self.home}; give its whole path"),
        ):
            with self.assertRaises(ConfigurationError) as caught:
                self.allow("git log", words)
            sentence = caught.exception.sentence
            self.assertTrue(sentence.startswith("--allow "), sentence)
            self.assertTrue(sentence.endswith(f" cannot be used: {why}."), sentence)
            self.assertTrue(sentence.isprintable(), sentence)

    @given(st.text(max_size=20))
    def test_anyWords(self, words: str) -> None:
        """Whatever is written, it is a policy or one sentence, and never allows a shell."""
        try:
            source = self.allow(words)
        except ConfigurationError as error:
            self.assertTrue(error.sentence.isprintable(), error.sentence)
        else:
            self.assertFalse(self.ask(source, b"ls", shell=True))

    @given(st.lists(PLAIN, max_size=4))
    def test_itself(self, words: list[str]) -> None:
        """A command written out is allowed by its own words, and no more is."""
        argv = ["git", *words]
        source = self.allow(shlex.join(argv))
        self.assertTrue(self.ask(source, *map(os.fsencode, argv)))
        self.assertFalse(self.ask(source, *map(os.fsencode, argv), b"x"))


class GivenTests(AllowTestCase):
    """What goes with a command that is allowed, and who may run it."""

    def test_everybody(self) -> None:
        """It is allowed to whoever can reach the service."""
        for source in (self.allow("git log **"), allowed((), self.path, everything=True)):
            for who in PEOPLE:
                wanted = Start(channel=1, argv=(b"git", b"log"))
                self.assertTrue(self.judged(source, wanted, who).decision.allowed, who)
        self.assertEqual(EVERYBODY, ("cert:*", "unix:*", "token:*", "anonymous"))

    def test_given(self) -> None:
        """With it comes a life without connection; no terminal, no place and no user."""
        source = self.allow("git")
        self.assertTrue(self.ask(source, b"git", onDisconnect="detach", stdin=True))
        self.assertFalse(self.ask(source, b"git", pty=Terminal()))
        self.assertFalse(self.ask(source, b"git", cwd=b"/"))
        self.assertFalse(self.ask(source, b"git", user="root"))
        self.assertIsNone(self.launch(source, Start(channel=1, argv=(b"git",))).account)

    def test_variables(self) -> None:
        """Only variables for terminals, texts and times can be set."""
        source = self.allow("git **")
        for name in ("TERM", "LANG", "LC_ALL", "LC_TIME"):
            self.assertTrue(self.ask(source, b"git", env={name: b"x"}), name)
        for name in (
            *("PATH", "LD_PRELOAD", "BASH_ENV", "HOME", "GIT_SSH_COMMAND", "TERMCAP", "LANGUAGE"),
            *("lc_all", "LC_", "LC_\n", "LC_=", "", "TERM\0", "X"),
        ):
            may = name == "LC_"
            self.assertIs(self.ask(source, b"git", env={name: b"x"}), may, name)
        self.assertEqual(VARIABLES, ("TERM", "LANG", "LC_*"))

    def test_reasons(self) -> None:
        """What is written down of a decision names the words, in one clean line."""
        source = self.allow("git log **", "git 'a b'", "git \x1b[*]")
        for argv, told in (
            ((b"git", b"log", b"-1"), "--allow 'git log **' allows it."),
            ((b"git", b"a b"), """--allow "git 'a b'" allows it."""),
            ((b"git", b"\x1b*"), "--allow 'git \ufffd[*]' allows it."),
            ((b"git", b"push"), "no rule allows it."),
        ):
            decision = self.judged(source, Start(channel=1, argv=argv)).decision
            self.assertTrue(decision.reason.startswith("anonymous may "), decision.reason)
            self.assertTrue(decision.reason.endswith(f": {told}"), decision.reason)
            self.assertTrue(decision.reason.isprintable())

    def test_near(self) -> None:
        """What words do not give is told in the log, and of the rest the asker learns nothing."""
        source = self.allow("git")
        oversight = Oversight("exec", source, AuditNotes())
        wanted = Start(channel=1, argv=(b"git",), cwd=b"/")
        decision = self.judged(source, wanted).decision
        self.assertIn("--allow 'git' comes near, but it does not let it run in /", decision.reason)
        begun = oversight.begin("exec.start", decision, peer="", identity=ANONYMOUS)
        error = self.failureResultOf(begun, Withheld).value
        self.assertEqual(
            error.sentence, "the policy of this service does not allow it to anonymous."
        )

    def test_asPolicy(self) -> None:
        """The text of each rule, in a policy file, allows the same."""
        words = self.allow("git 'a\"b' /srv/[a-z]* **")
        for source in (words, allowed((), self.path, everything=True)):
            (role,) = source.policy.roles.values()
            for placed in role.rules["exec"]:
                text = f"[identities]\nanonymous = ['x']\n[roles.x]\nexec = [{placed.text}]\n"
                policy, faults = readPolicy(text, "p")
                faults = [each for each in faults if "lets through variables" not in each.sentence]
                self.assertEqual(faults, [])
                if source is words:
                    wanted = (b"git", b'a"b', b"/srv/x", b"-y")
                    self.assertTrue(self.ask(FixedPolicy(policy), *wanted, onDisconnect="detach"))

    def test_review(self) -> None:
        """Nothing is suspicious in a policy of such words."""
        self.assertEqual(list(review(self.allow("git log", "git log -1", "git -*").policy)), [])


class HostileTests(AllowTestCase):
    """Arguments that have led others astray."""

    def test_literal(self) -> None:
        """None of them is taken for another word, or for none."""
        source = self.allow("git log", "git show x", "/bin/sh")
        for each in HOSTILE:
            for argv in ((b"git", each), (b"git", b"log", each), (b"git", b"show", each)):
                self.assertFalse(self.ask(source, *argv), argv)
            self.assertFalse(self.ask(source, each))
            self.assertFalse(self.ask(source, b"git log" + each))
            self.assertFalse(self.ask(source, b"/bin/sh" + each, b"log"))

    def test_star(self) -> None:
        """A star takes each as the one argument that it is, but no option and no second line."""
        source = self.allow("git log *")
        for each in HOSTILE:
            may = not each.startswith(b"-") and b"\n" not in each
            self.assertIs(self.ask(source, b"git", b"log", each), may, each)
            self.assertFalse(self.ask(source, b"git", b"log", each, b"x"))

    def test_rest(self) -> None:
        """What two stars take reaches the program as it came, byte for byte, as one argument."""
        source = self.allow("git log **")
        wanted = Start(channel=1, argv=(b"git", b"log", *HOSTILE))
        launch = self.launch(source, wanted)
        self.assertEqual(launch.argv, (b"git", b"log", *HOSTILE))
        self.assertEqual(launch.program, os.fsencode(self.home / "git"))

    def test_nul(self) -> None:
        """A NUL gets nowhere, whatever is allowed."""
        for source in (self.allow("git **"), allowed((), self.path, everything=True)):
            for argv in ((b"git", b"a\0"), (b"git\0",), (b"\0git",), (b"git", b"\0")):
                self.assertFalse(self.ask(source, *argv), argv)
            self.assertFalse(self.ask(source, b"ls\0", shell=True))

    def test_many(self) -> None:
        """As many arguments as there can be, and more, are decided about at once."""
        for count in (MAX_ARGUMENTS, 100_000):
            for words, argument, may in (
                ("git **", b"-", True),
                ("git * **", b"x", True),
                ("git * **", b"-", False),
                ("git *", b"x", False),
            ):
                source = self.allow(words)
                begun = time.monotonic()
                answer = self.ask(source, b"git", *[argument] * count)
                self.assertLess(time.monotonic() - begun, SOON)
                self.assertIs(answer, may, (words, argument))

    def test_long(self) -> None:
        """An argument of a megabyte is gone through once."""
        source = self.allow("git *a*a*a*b")
        begun = time.monotonic()
        self.assertFalse(self.ask(source, b"git", b"a" * 2**20))
        self.assertLess(time.monotonic() - begun, SOON)

    def test_shell(self) -> None:
        """A line for a shell is no command that words allow, though it reads the same."""
        source = self.allow("git log", "git **", "/bin/sh **")
        for line in (b"git log", b"git", b"/bin/sh", os.fsencode(self.home / "git")):
            self.assertFalse(self.ask(source, line, shell=True))

    def test_names(self) -> None:
        """No other spelling of the program's path is taken for it."""
        source = self.allow("git")
        place = os.fsencode(self.home)
        for name in (
            *(place + b"//git", place + b"/./git", b"/" + place + b"/git", place + b"/git/"),
            *(place + b"/../" + place.rsplit(b"/", 1)[1] + b"/git", b"./git", b"git/", b"GIT"),
            *(b"git ", b" git", b"git\n", b"gi", b"*"),
        ):
            self.assertFalse(self.ask(source, name), name)


class AnythingTests(AllowTestCase):
    """What C{--allow-any} allows."""

    def setUp(self) -> None:
        super().setUp()
        self.source = allowed((), self.path, everything=True)

    def test_commands(self) -> None:
        """Every command and every line is allowed, with what goes with it."""
        more = {"pty": Terminal(), "onDisconnect": "detach", "env": {"X": b"y", "_": b""}}
        for each in HOSTILE:
            self.assertTrue(self.ask(self.source, b"git", each, **more), each)
            if each:
                self.assertTrue(self.ask(self.source, each, shell=True, **more), each)
        for where in (b"/", b"/tmp", b"/a/b/c", b"/\xff"):
            self.assertTrue(self.ask(self.source, b"git", cwd=where), where)
        self.assertTrue(self.ask(self.source, b"/nonesuch"))

    def test_not(self) -> None:
        """Variables that change what is run, and other users, are not given."""
        for name in ("PATH", "LD_PRELOAD", "BASH_ENV", "HOME", "http_proxy", "-x", "a\nb"):
            self.assertFalse(self.ask(self.source, b"git", env={name: b"x"}), name)
        self.assertFalse(self.ask(self.source, b"git", user="root"))
        self.assertFalse(self.ask(self.source, b"git", user=""))
        self.assertFalse(self.ask(self.source, b"./git"))

    def test_reason(self) -> None:
        """The option is what allows it."""
        for wanted in (
            Start(channel=1, argv=(b"git", b"x")),
            Start(channel=1, argv=(b"git x",), shell=True),
        ):
            decision: Decision = self.judged(self.source, wanted).decision
            self.assertTrue(decision.reason.endswith(": --allow-any allows it."), decision.reason)

    def test_both(self) -> None:
        """With words beside it, one of the two is a mistake."""
        with self.assertRaisesRegex(ConfigurationError, "leave one of them out"):
            allowed(["git"], self.path, everything=True)
