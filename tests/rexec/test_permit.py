"""
From a START to a command and what bounds it: nothing is given that no rule gives, and nothing is
told to those who may not know it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.trust.overseen import ANNA, BOB, PLACE, Told, policyFrom
from twisted_netsuite.errors import AuditUnavailable, ConfigurationError, Denied
from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.launch import Account, Launch, ResourceLimits, TerminalSize
from twisted_netsuite.rexec.messages import Start, Terminal
from twisted_netsuite.rexec.permit import (
    DEFAULT_PATH,
    NO_POLICY,
    Judgement,
    Permission,
    Terms,
    judge,
    kept,
    launchFor,
    ownPath,
    planOf,
    readPath,
    refusalOf,
)
from twisted_netsuite.trust.audit import AuditNotes
from twisted_netsuite.trust.decisions import Policy
from twisted_netsuite.trust.oversight import UNSEEN, Oversight

#: What is told to whom no rule allows it.
REFUSED = "the policy of this service does not allow it to cert:anna."

#: What a rule can name to run everything that is given by a path.
ANYTHING = 'argv = ["..."]'


def rules(*texts: str, role: str = "x") -> Policy:
    """Give a role with rules to everybody who has a certificate."""
    head = f'[identities]\n"cert:*" = ["{role}"]\n[roles.{role}]\n'
    return policyFrom(head + "".join(f"[[roles.{role}.exec]]\n{text}\n" for text in texts))


def start(*argv: bytes, **told: Any) -> Start:
    """Make a START."""
    return Start(channel=1, argv=argv, **told)


class PermitTestCase(SynchronousTestCase):
    """
    Has two directories for programs.

    @ivar near: the first.
    @ivar far: the second.
    """

    def setUp(self) -> None:
        root = os.path.abspath(self.mktemp())
        self.near, self.far = Path(root, "near"), Path(root, "far")
        for each in (self.near, self.far):
            each.mkdir(parents=True)
        self.terms = self.within()

    def within(self, environment: Mapping[str, str] | None = None, **more: Any) -> Terms:
        """Make terms with the two directories."""
        path = (os.fsencode(self.near), os.fsencode(self.far))
        return Terms(path, environment=kept(environment or {}), **more)

    def put(self, directory: Path, name: str = "tool", mode: int = 0o755) -> bytes:
        """Put a program somewhere."""
        place = directory / name
        place.write_text("#!/bin/sh\n")
        place.chmod(mode)
        return os.fsencode(place)

    def judged(self, policy: Policy, wanted: Start) -> Judgement:
        """Judge a wish."""
        return judge(Oversight("exec", Told(policy)), ANNA, planOf(wanted), self.terms)

    def permitted(self, policy: Policy, wanted: Start) -> Permission:
        """Give the permission for what is allowed."""
        answer = launchFor(planOf(wanted), self.judged(policy, wanted), self.terms)
        assert isinstance(answer, Permission), answer
        return answer

    def launched(self, policy: Policy, wanted: Start) -> Launch:
        """Tell how something that is allowed is started."""
        return self.permitted(policy, wanted).launch

    def answer(self, policy: Policy, wanted: Start) -> Permission | outcome.Outcome:
        """Do all that a service does, and give what it would tell or start."""
        oversight = Oversight("exec", Told(policy), AuditNotes())
        wish = planOf(wanted)
        judgement = judge(oversight, ANNA, wish, self.terms)
        begun = oversight.begin("exec.start", judgement.decision, peer="", identity=ANNA)
        failures: list[Any] = []
        begun.addErrback(failures.append)
        if failures:
            return refusalOf(judgement, failures[0].value)
        return launchFor(wish, judgement, self.terms)

    def assertDenied(self, policy: Policy, wanted: Start, reason: str = REFUSED) -> None:
        """A wish is denied, and the asker told only this."""
        self.assertEqual(self.answer(policy, wanted), outcome.Denied(rule="", reason=reason))


class PathTests(SynchronousTestCase):
    """L{ownPath} and L{readPath}."""

    def test_own(self) -> None:
        """Of the server's PATH what depends on where it was started is left out."""
        for text, found in (
            ("/usr/local/bin:/usr/bin:/bin", [b"/usr/local/bin", b"/usr/bin", b"/bin"]),
            ("/usr/bin//:/usr/./bin:///bin", [b"/usr/bin", b"/bin"]),
            (".:bin::/a/../b:/bin", [b"/bin"]),
            ("/", [b"/"]),
            ("/a\udcff", [b"/a\xff"]),
        ):
            self.assertEqual(ownPath({"PATH": text}), tuple(found))

    def test_none(self) -> None:
        """A server without a PATH that is of use has one all the same."""
        for environment in ({}, {"PATH": ""}, {"PATH": ".:bin"}):
            self.assertEqual(ownPath(environment), DEFAULT_PATH)

    def test_default(self) -> None:
        """Terms that do not say have the PATH and the environment of this process."""
        self.assertEqual(Terms().path, ownPath(os.environ))
        self.assertEqual(Terms().environment, kept(os.environ))

    def test_read(self) -> None:
        """An option is read in the same way."""
        self.assertEqual(readPath("/usr/bin/:/bin:/usr/bin"), (b"/usr/bin", b"/bin"))

    def test_wrong(self) -> None:
        """What would be left out of a PATH is told of an option."""
        for text in ("", "bin", "/bin:", ":/bin", "/bin:.", "/a/..", "/bin:/x\0"):
            with self.assertRaisesRegex(ConfigurationError, r"\AThe path '.*; write such as "):
                readPath(text)


class ProgramTests(PermitTestCase):
    """Which program is started."""

    def test_first(self) -> None:
        """A name is the first program of that name; argv stays as it came."""
        near, far = self.put(self.near), self.put(self.far)
        launch = self.launched(rules(ANYTHING), start(b"tool", b"-x", b""))
        self.assertEqual((launch.program, launch.argv), (near, (b"tool", b"-x", b"")))
        os.unlink(near)
        self.assertEqual(self.launched(rules(ANYTHING), start(b"tool")).program, far)

    def test_passedOver(self) -> None:
        """As for C{execvp}: directories and what is not executable are passed over."""
        far = self.put(self.far)
        place = self.near / "tool"
        place.mkdir()
        self.assertEqual(self.launched(rules(ANYTHING), start(b"tool")).program, far)
        place.rmdir()
        self.put(self.near, mode=0o644)
        self.assertEqual(self.launched(rules(ANYTHING), start(b"tool")).program, far)
        os.unlink(place)
        os.mkfifo(place, 0o755)
        self.assertEqual(self.launched(rules(ANYTHING), start(b"tool")).program, far)

    def test_link(self) -> None:
        """A link is decided about and started by its own name; one that leads nowhere is none."""
        far = self.put(self.far)
        place = self.near / "tool"
        place.symlink_to(os.fsdecode(far))
        launch = self.launched(rules(f'argv = ["{place}"]'), start(b"tool"))
        self.assertEqual(launch.program, os.fsencode(place))
        place.unlink()
        place.symlink_to("/nonesuch")
        self.assertEqual(self.launched(rules(ANYTHING), start(b"tool")).program, far)

    def test_allowedOnly(self) -> None:
        """A program that no rule allows is passed over, too: no deny is needed for that."""
        self.put(self.near)
        far = self.put(self.far)
        for policy in (
            rules(f'argv = ["{self.far}/tool"]'),
            rules(f'argv = ["{self.near}/*", "..."]\ndeny = true', ANYTHING),
        ):
            self.assertEqual(self.launched(policy, start(b"tool")).program, far)

    def test_decided(self) -> None:
        """What is written down of it names the program that is started."""
        self.put(self.far)
        reason = self.judged(rules(ANYTHING), start(b"tool", b"x")).decision.reason
        self.assertEqual(reason, f"cert:anna may run '{self.far}/tool' 'x': {PLACE}:4 allows it.")

    def test_path(self) -> None:
        """A whole path is what it says, wherever the service looks for names."""
        launch = self.launched(rules('argv = ["/bin/sh"]'), start(b"/bin/sh"))
        self.assertEqual((launch.program, launch.argv), (b"/bin/sh", (b"/bin/sh",)))
        self.assertDenied(rules('argv = ["/bin/sh"]'), start(b"sh"))

    def test_bytes(self) -> None:
        """Names need be no text."""
        place = os.fsencode(self.near) + b"/\xff\n"
        Path(os.fsdecode(place)).write_text("")
        os.chmod(place, 0o755)
        self.assertEqual(self.launched(rules(ANYTHING), start(b"\xff\n")).program, place)

    def test_relative(self) -> None:
        """A path that is no whole and usual one is refused with a sentence that says so."""
        policy = rules(ANYTHING)
        for name, why in (
            (b"./tool", "it does not begin with a slash"),
            (b"near/tool", "it does not begin with a slash"),
            (b"/bin/../bin/sh", "it holds a part . or .."),
            (b"/bin//sh", "it holds an empty part"),
            (b"/bin/", "it holds an empty part"),
            (b"//bin/sh", "it holds an empty part"),
            (b"..", "it holds a part . or .."),
            (b".", "it holds a part . or .."),
            (b"x" * 4096, "it has more than 4096 characters"),
        ):
            told = name.decode() if len(name) < 200 else "x" * 199 + "…"
            self.assertDenied(
                policy,
                start(name),
                f"no rule can allow this: {told!r} names no program, as {why}; give its whole "
                "path.",
            )

    def test_nothing(self) -> None:
        """Neither an empty name nor a NUL gets anywhere."""
        policy = rules(ANYTHING, "shell = true")
        for wanted, why in (
            (start(b""), "no command was named"),
            (start(b"", shell=True), "no command was named"),
            (start(b"a", b"b", shell=True), "a shell reads one command line"),
            (start(b"tool", b"a\0b"), "an argument holds a NUL, which no program can be given"),
            (start(b"/bin/sh\0"), "an argument holds a NUL, which no program can be given"),
            (
                start(b"a\0b", shell=True),
                "an argument holds a NUL, which no program can be given",
            ),
            (
                start(b"to\0ol"),
                "'to\ufffdol' names no program, as it holds a NUL; give its whole path",
            ),
        ):
            self.assertDenied(policy, wanted, f"no rule can allow this: {why}.")

    def test_faultIsAudited(self) -> None:
        """What no rule can allow is a denial as any other, in one clean line."""
        judgement = self.judged(rules(ANYTHING), start(b"./a\x1b\n", b"x"))
        self.assertFalse(judgement.decision.allowed)
        self.assertTrue(judgement.decision.reason.startswith("cert:anna may not run '"))
        self.assertTrue(judgement.decision.reason.isprintable())

    def test_shell(self) -> None:
        """A line for a shell is given to it as it is, though it begins with a dash."""
        policy = rules("shell = true")
        for line in (b"echo hello; exit 3", b"-x y", b"--", b"a\nb\xff"):
            launch = self.launched(policy, start(line, shell=True))
            self.assertEqual(launch.program, b"/bin/sh")
            self.assertEqual(launch.argv, (b"/bin/sh", b"-c", b"--", line))
        self.assertDenied(rules(ANYTHING), start(b"ls", shell=True))
        self.assertDenied(policy, start(b"/bin/sh", b"-c", b"ls"))

    def test_dash(self) -> None:
        """The shell of this machine takes what stands behind C{--} for the line."""
        line = b"-nonesuch; echo $0 here"
        launch = self.launched(rules("shell = true"), start(line, shell=True))
        ran = subprocess.run(
            launch.argv, executable=launch.program, env={}, capture_output=True, timeout=10
        )
        self.assertEqual(ran.stdout, b"/bin/sh here\n", ran.stderr)


class MissingTests(PermitTestCase):
    """What is said where there is no program, and to whom."""

    def assertMissing(self, policy: Policy, wanted: Start, code: str, reason: str) -> None:
        """What is allowed is not started, for a reason."""
        self.assertEqual(self.answer(policy, wanted), outcome.NotStarted(code=code, reason=reason))

    def test_notFound(self) -> None:
        """Who may run a program is told that there is none."""
        self.assertMissing(
            rules(f'argv = ["{self.far}/tool"]'),
            start(b"tool"),
            "not-found",
            "this service has no program 'tool' that you may run.",
        )
        for path in ("/nonesuch/tool", "/bin/sh/tool"):
            self.assertMissing(
                rules(ANYTHING), start(path.encode()), "not-found", f"there is no program '{path}'."
            )
        self.assertEqual(outcome.NotStarted(code="not-found", reason="").status, 127)

    def test_unrunnable(self) -> None:
        """So is whoever may run what cannot be run, as C{execvp} would say it: not permitted."""
        place = self.put(self.far, mode=0o644).decode()
        reason = f"'{place}' cannot be run: it is not executable."
        for name in (b"tool", place.encode()):
            self.assertMissing(rules(ANYTHING), start(name), "denied", reason)
        reason = f"'{self.near}' cannot be run: it is no regular file."
        self.assertMissing(rules(ANYTHING), start(os.fsencode(self.near)), "denied", reason)
        self.assertEqual(outcome.NotStarted(code="denied", reason="").status, 126)

    def test_unreachable(self) -> None:
        """A program in a directory that the service cannot enter is not permitted, either."""
        look = os.stat

        def forbidden(path: Any, *args: Any, **named: Any) -> os.stat_result:
            if path == b"/root/tool":
                raise PermissionError(13, "Permission denied")
            return look(path, *args, **named)

        self.patch(os, "stat", forbidden)
        reason = "'/root/tool' cannot be reached by this service."
        self.assertMissing(rules(ANYTHING), start(b"/root/tool"), "denied", reason)

    def test_deniedIsNotLookedFor(self) -> None:
        """Nothing is looked for that the asker may not run: what is not there, or on a file system
        that hangs, makes no difference."""
        looked: list[object] = []
        look = os.stat

        def noted(path: Any, *args: Any, **named: Any) -> os.stat_result:
            looked.append(path)
            return look(path, *args, **named)

        self.patch(os, "stat", noted)
        far = self.put(self.far)
        policy = rules(f'argv = ["{self.far}/*"]')
        for wanted in (start(b"/bin/sh"), start(b"/nonesuch/x"), start(b"ls", shell=True)):
            self.assertDenied(policy, wanted)
        self.assertDenied(rules('argv = ["/bin/sh"]'), start(b"tool"))
        self.assertEqual(looked, [])
        self.launched(policy, start(b"tool"))
        # The account's home is looked for, too.
        self.assertEqual(looked[0], far)

    def test_deniedIsTold(self) -> None:
        """If a rule says something of one of several programs, the log is told of that one."""
        for rule, why in (
            (f'argv = ["{self.far}/tool"]', " comes near, but "),
            (f'argv = ["{self.far}/tool"]\ndeny = true', " denies it."),
        ):
            reason = self.judged(rules(rule), start(b"tool", cwd=b"/srv")).decision.reason
            self.assertIn(f"may not run '{self.far}/tool'", reason)
            self.assertIn(why, reason)

    def test_longName(self) -> None:
        """A name that no file can have is that of none."""
        name = "x" * 300
        self.assertMissing(
            rules(ANYTHING),
            start(name.encode()),
            "not-found",
            f"this service has no program {'x' * 199 + '…'!r} that you may run.",
        )

    def test_nothingLeaks(self) -> None:
        """What is told depends on no program that the asker may not run."""
        places = (self.near / "tool", self.far / "tool")
        seen: dict[object, tuple[object, bool]] = {}
        for allows, denies in product(product((False, True), repeat=2), repeat=2):
            policy = rules(
                *(
                    f'argv = ["{place}"]\ndeny = true\ndurable = {str(place is places[0]).lower()}'
                    for place, deny in zip(places, denies, strict=True)
                    if deny
                ),
                *(
                    f'argv = ["{place}"]'
                    for place, allow in zip(places, allows, strict=True)
                    if allow
                ),
            )
            free = [a and not d for a, d in zip(allows, denies, strict=True)]
            for modes in product((None, 0o644, 0o755), repeat=2):
                for place, mode in zip(places, modes, strict=True):
                    place.unlink(missing_ok=True)
                    if mode is not None:
                        self.put(place.parent, mode=mode)
                known = [mode if may else "-" for mode, may in zip(modes, free, strict=True)]
                for name in (b"tool", *map(os.fsencode, places)):
                    told = self.answer(policy, start(name))
                    durable = self.judged(policy, start(name)).decision.durable
                    key = (allows, denies, tuple(known), name)
                    self.assertEqual(seen.setdefault(key, (told, durable)), (told, durable), key)
                    if isinstance(told, Permission):
                        self.assertTrue(free[places.index(Path(os.fsdecode(told.launch.program)))])
        kinds = {(type(told), getattr(told, "code", "")) for told, _ in seen.values()}
        self.assertEqual(
            kinds,
            {
                (Permission, ""),
                (outcome.Denied, ""),
                (outcome.NotStarted, "denied"),
                (outcome.NotStarted, "not-found"),
            },
        )

    def test_denier(self) -> None:
        """Who is denied by a rule is told its role, and neither its file nor its line."""
        policy = rules(f'argv = ["{self.far}/*"]\ndeny = true', role="banned")
        for name in (b"tool", os.fsencode(self.far / "tool")):
            told = self.answer(policy, start(name))
            self.assertEqual(told, outcome.Denied(rule="banned", reason=REFUSED))
            self.assertNotIn(PLACE, repr(told))
        policy = policyFrom(
            '[identities]\n"cert:*" = ["x", "y"]\n'
            f'[[roles.x.exec]]\nargv = ["{self.far}/*"]\ndeny = true\n'
            f'[[roles.y.exec]]\nargv = ["{self.near}/*"]\ndeny = true\n'
        )
        for _ in range(2):
            told = self.answer(policy, start(b"tool"))
            self.assertEqual(told, outcome.Denied(rule="y", reason=REFUSED))
            self.put(self.far)

    def test_logged(self) -> None:
        """The log tells of the first program that could be meant, be it there or not."""
        policy = rules('argv = ["/x"]')
        self.put(self.far)
        reason = self.judged(policy, start(b"tool")).decision.reason
        self.assertEqual(reason, f"cert:anna may not run '{self.near}/tool': no rule allows it.")

    def test_unguarded(self) -> None:
        """Where nothing says who may run commands, nobody may."""
        wish = planOf(start(b"/bin/sh"))
        judgement = judge(UNSEEN, ANNA, wish, self.terms)
        self.assertEqual(judgement, Judgement(judgement.decision))
        self.assertFalse(judgement.decision.allowed)
        begun = UNSEEN.begin("exec.start", judgement.decision, peer="", identity=ANNA)
        denied = refusalOf(judgement, self.failureResultOf(begun, Denied).value)
        self.assertEqual(denied, outcome.Denied(rule="", reason=NO_POLICY))
        self.assertRaises(ValueError, launchFor, wish, judgement, self.terms)

    def test_audit(self) -> None:
        """What cannot be written down is not started, and is no denial."""
        judgement = self.judged(rules(ANYTHING), start(b"/bin/sh"))
        told = refusalOf(judgement, AuditUnavailable("the audit log is full."))
        self.assertEqual(
            told, outcome.NotStarted(code="audit-unavailable", reason="the audit log is full.")
        )

    def test_identity(self) -> None:
        """It is decided for the one who asks."""
        oversight = Oversight("exec", Told(rules(ANYTHING)))
        wish = planOf(start(b"/bin/sh"))
        self.assertTrue(judge(oversight, ANNA, wish, self.terms).decision.allowed)
        self.assertFalse(judge(oversight, BOB, wish, self.terms).decision.allowed)

    @given(st.binary(max_size=12), st.lists(st.binary(max_size=4), max_size=3), st.booleans())
    def test_anything(self, name: bytes, rest: list[bytes], shell: bool) -> None:
        """Whatever is asked, the answer can be sent, and only a whole path is started."""
        policy = rules(ANYTHING, "shell = true")
        told = self.answer(policy, start(name, *rest, shell=shell))
        if isinstance(told, Permission):
            self.assertTrue(told.launch.program.startswith(b"/"))
            return
        assert isinstance(told, outcome.Denied | outcome.NotStarted)
        self.assertTrue(told.reason.isprintable() and told.reason.endswith("."), told)
        sent = msgspec.msgpack.encode(told)
        self.assertEqual(msgspec.msgpack.decode(sent, type=outcome.Outcome), told)


class EnvironmentTests(PermitTestCase):
    """What stands in a command's environment."""

    def env(
        self, rule: str = "", wanted: Mapping[str, bytes] | None = None, pty: bool = False
    ) -> dict[bytes, bytes]:
        """Give the environment of a command that is allowed."""
        terminal = Terminal(term="vt100") if pty else None
        asked = start(b"/bin/sh", env=dict(wanted or {}), pty=terminal)
        return dict(self.launched(rules(f'argv = ["/bin/sh"]\n{rule}'), asked).env)

    def assertRefused(self, rule: str, name: str) -> None:
        """A rule does not let a variable be set."""
        policy = rules(f'argv = ["/bin/sh"]\n{rule}')
        self.assertDenied(policy, start(b"/bin/sh", env={name: b"x"}))

    def test_base(self) -> None:
        """It tells whose session it is and how texts are written, and has nothing of the server."""
        self.terms = self.within(
            {
                "LANG": "C.UTF-8", "LC_TIME": "de_DE", "TZ": "UTC", "HOME": "/of/server",
                "PATH": "/of/server", "LD_PRELOAD": "/x.so", "SECRET": "y", "TERM": "xterm",
                "TMPDIR": "/var/tmp/server",
            }
        )  # fmt: skip
        own = pwd.getpwuid(os.geteuid())
        self.assertEqual(
            self.env(),
            {
                b"LANG": b"C.UTF-8", b"LC_TIME": b"de_DE", b"TZ": b"UTC",
                b"HOME": os.fsencode(own.pw_dir), b"SHELL": os.fsencode(own.pw_shell or "/bin/sh"),
                b"USER": os.fsencode(own.pw_name), b"LOGNAME": os.fsencode(own.pw_name),
                b"PATH": b":".join(self.terms.path), b"TMPDIR": b"/var/tmp/server",
            },
        )  # fmt: skip

    def test_nameless(self) -> None:
        """A server whose account has no name gives what it was given itself."""
        self.patch(os, "geteuid", lambda: 2**31 - 7)
        self.terms = self.within({"HOME": "/h", "USER": "u", "SECRET": "y"})
        env = self.env()
        self.assertEqual((env[b"HOME"], env[b"USER"]), (b"/h", b"u"))
        self.assertNotIn(b"SECRET", env)
        wanted = start(b"/bin/sh")
        self.assertEqual(self.launched(rules(ANYTHING), wanted).cwd, b"/")

    def test_terminal(self) -> None:
        """A terminal brings its type, which needs no rule of its own, and its size."""
        self.assertEqual(self.env("pty = true", pty=True)[b"TERM"], b"vt100")
        self.assertNotIn(b"TERM", self.env("pty = true"))
        env = self.env('pty = true\nenv = ["TERM"]', {"TERM": b"x"}, pty=True)
        self.assertEqual(env[b"TERM"], b"x")
        wanted = start(b"/bin/sh", pty=Terminal(rows=5, cols=7), stdin=True)
        launch = self.launched(rules(f"{ANYTHING}\npty = true"), wanted)
        self.assertEqual((launch.terminal, launch.stdin), (TerminalSize(5, 7), True))
        launch = self.launched(rules(f"{ANYTHING}\npty = true"), start(b"/bin/sh"))
        self.assertEqual((launch.terminal, launch.stdin), (None, False))
        self.assertDenied(rules(ANYTHING), wanted)

    def test_named(self) -> None:
        """A variable that the rule names is set to what the client says, whatever it is."""
        self.terms = self.within({"LC_ALL": "of server"})
        env = self.env('env = ["LC_*", "X"]', {"LC_ALL": b"\xff=\n", "X": b""})
        self.assertEqual((env[b"LC_ALL"], env[b"X"]), (b"\xff=\n", b""))
        self.assertEqual(self.env('env = ["é"]', {"é": b"x"})["é".encode()], b"x")
        self.assertRefused('env = ["LC_*", "X"]', "Y")
        self.assertRefused("", "LANG")

    def test_risky(self) -> None:
        """What makes a program load another is set only where a rule names it literally."""
        for name in (
            *("PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "IFS", "PYTHONPATH"),
            *("GIT_SSH_COMMAND", "HOME", "SHELL", "BASH_FUNC_ls%%", "LOCPATH", "PERL5LIB"),
        ):
            self.assertRefused("", name)
            family = name.split("_", maxsplit=1)[0] + "_*" if "_" in name else "LC_*"
            self.assertRefused(f'env = ["{family}"]', name)
            env = self.env(f'env = ["{name}"]', {name: b"v"})
            self.assertEqual(env[name.encode()], b"v")

    def test_malformed(self) -> None:
        """What is no variable is refused with a sentence, whatever the rule."""
        policy = rules(f'{ANYTHING}\nenv = ["A", "LC_*"]')
        for env, why in (
            ({"": b"x"}, "'' is no name of an environment variable"),
            ({"A=B": b"x"}, "'A=B' is no name of an environment variable"),
            ({"A\0": b"x"}, "'A\ufffd' is no name of an environment variable"),
            ({"A": b"x\0y"}, "the variable A holds a NUL, which no program can be given"),
        ):
            wanted = start(b"/bin/sh", env=env)
            self.assertDenied(policy, wanted, f"no rule can allow this: {why}.")

    def test_shell(self) -> None:
        """A line for a shell gets no other variables than its rule names."""
        wanted = start(b"ls", shell=True, env={"BASH_ENV": b"/x"})
        self.assertDenied(rules("shell = true"), wanted)
        env = self.launched(rules('shell = true\nenv = ["BASH_ENV"]'), wanted).env
        self.assertEqual(env[b"BASH_ENV"], b"/x")

    def test_real(self) -> None:
        """A program that is started so sees just this environment."""
        program = shutil.which("env")
        assert program is not None
        policy = rules(f'{ANYTHING}\nenv = ["A"]')
        launch = self.launched(policy, start(program.encode(), env={"A": b"\xff"}))
        ran = subprocess.run(launch.argv, env=launch.env, capture_output=True, timeout=10)
        lines = dict(line.split(b"=", 1) for line in ran.stdout.splitlines())
        self.assertEqual(lines, launch.env)


class DirectoryTests(PermitTestCase):
    """Where a command runs."""

    def cwd(self, rule: str = "", wanted: bytes | None = None) -> bytes:
        """Tell where something that is allowed runs."""
        return self.launched(rules(f"{ANYTHING}\n{rule}"), start(b"/bin/sh", cwd=wanted)).cwd

    def test_wish(self) -> None:
        """It is where the client wants it, as far as the rule lets that be."""
        rule = 'cwd = ["/srv", "/data/**"]'
        self.assertEqual(self.cwd(rule, b"/srv"), b"/srv")
        self.assertEqual(self.cwd(rule, b"/data/a/\xff"), b"/data/a/\xff")
        for where in (b"/", b"/srv/x", b"/etc"):
            self.assertDenied(rules(f"{ANYTHING}\n{rule}"), start(b"/bin/sh", cwd=where))
        self.assertDenied(rules(ANYTHING), start(b"/bin/sh", cwd=b"/"))

    def test_malformed(self) -> None:
        """What is no whole path is refused with a sentence."""
        policy = rules(f'{ANYTHING}\ncwd = ["/**"]')
        for where, why in (
            (b"", "it does not begin with a slash"),
            (b"srv", "it does not begin with a slash"),
            (b"/srv/../etc", "it holds a part . or .."),
            (b"/srv/", "it holds an empty part"),
            (b"/a\0", "it holds a NUL"),
        ):
            shown = where.decode().replace("\0", "\ufffd")
            self.assertDenied(
                policy,
                start(b"/bin/sh", cwd=where),
                f"no rule can allow this: {shown!r} is no directory to run in, as {why}.",
            )

    def test_default(self) -> None:
        """Without a wish it is where the rule says, else the account's home, else the root."""
        own = pwd.getpwuid(os.geteuid())
        self.patch(pwd, "getpwuid", lambda uid: own)
        self.assertEqual(self.cwd('cwd = ["/data/*", "/srv"]'), b"/srv")
        self.assertEqual(self.cwd('cwd = ["/srv/é"]'), "/srv/é".encode())
        for home, where in (
            (str(self.near), os.fsencode(self.near)),
            ("/nonesuch", b"/"),
            ("/bin/sh", b"/"),
            (".", b"/"),
            ("", b"/"),
        ):
            own = pwd.struct_passwd((*own[:5], home, own[6]))
            self.assertEqual(self.cwd(), where)
            self.assertEqual(self.cwd('cwd = ["/data/*"]'), where)


class AccountTests(PermitTestCase):
    """
    As whom a command runs.

    @ivar uid: that of the server.
    """

    uid = 0

    def setUp(self) -> None:
        super().setUp()
        self.patch(os, "geteuid", lambda: self.uid)
        entry = pwd.struct_passwd(("deploy", "x", 1234, 77, "", str(self.far), ""))
        find, byNumber = pwd.getpwnam, pwd.getpwuid
        self.patch(pwd, "getpwnam", lambda name: entry if name == "deploy" else find(name))
        self.patch(pwd, "getpwuid", lambda uid: entry if uid == 1234 else byNumber(uid))
        self.patch(os, "getgrouplist", lambda name, gid: [gid, 5, 6])

    def account(self, rule: str, user: str | None = None) -> Account | None:
        """Tell as whom something that is allowed runs."""
        return self.launched(rules(f"{ANYTHING}\n{rule}"), start(b"/bin/sh", user=user)).account

    def test_rule(self) -> None:
        """It is whom the rule says; a client can only wish for the same."""
        deploy = Account("deploy", 1234, 77, (77, 5, 6))
        self.assertEqual(self.account('user = "deploy"'), deploy)
        self.assertEqual(self.account('user = "deploy"', "deploy"), deploy)
        for rule, user in (('user = "deploy"', "root"), ("", "root"), ("", "deploy")):
            self.assertDenied(rules(f"{ANYTHING}\n{rule}"), start(b"/bin/sh", user=user))

    def test_environment(self) -> None:
        """Its environment and directory are those of the account."""
        launch = self.launched(rules(f'{ANYTHING}\nuser = "deploy"'), start(b"/bin/sh"))
        self.assertEqual(launch.cwd, os.fsencode(self.far))
        for name, value in (("USER", "deploy"), ("LOGNAME", "deploy"), ("HOME", str(self.far))):
            self.assertEqual(launch.env[name.encode()], os.fsencode(value))
        self.assertEqual(launch.env[b"SHELL"], b"/bin/sh")

    def test_temporaryFiles(self) -> None:
        """The server's directory for temporary files, which may be open to it alone, is for its own
        account's commands only."""
        self.terms = self.within({"TMPDIR": "/run/server"})
        for uid, rule, has in ((0, 'user = "deploy"', False), (1234, "", True)):
            self.uid = uid
            launch = self.launched(rules(f"{ANYTHING}\n{rule}"), start(b"/bin/sh"))
            self.assertEqual(launch.env[b"USER"], b"deploy")
            self.assertEqual(b"TMPDIR" in launch.env, has)

    def test_own(self) -> None:
        """Without a rule it is the server's own account, and so it is when the rule says that."""
        self.assertIsNone(self.account(""))
        self.uid = 1234
        self.assertIsNone(self.account(""))
        self.assertIsNone(self.account('user = "deploy"'))
        self.assertIsNone(self.account('user = "deploy"', "deploy"))

    def test_cannot(self) -> None:
        """A server that is not root, and an account that is not there, are one sentence each."""
        for uid, user, why in (
            (1, "deploy", "only one that runs as root can"),
            (1, "root", "only one that runs as root can"),
            (0, "nonesuch", "there is no such account"),
            (1, "nonesuch", "there is no such account"),
        ):
            self.uid = uid
            self.assertEqual(
                self.answer(rules(f'{ANYTHING}\nuser = "{user}"'), start(b"/bin/sh")),
                outcome.NotStarted(
                    code="configuration", reason=f"the service cannot run it as {user}: {why}."
                ),
            )


class LimitTests(PermitTestCase):
    """What bounds a command."""

    def test_time(self) -> None:
        """It may run for the shortest time that anybody says."""
        for service, rule, client, least in (
            (None, "", None, None),
            (None, "", 5.0, 5),
            (9.0, "", None, 9),
            (9.0, "time-limit = 3", 5.0, 3),
            (2.0, "time-limit = 3", 5.0, 2),
            (9.0, "time-limit = 3", 0.5, 0.5),
        ):
            self.terms = self.within(timeLimit=service)
            permission = self.permitted(
                rules(f"{ANYTHING}\n{rule}"), start(b"/bin/sh", timeLimit=client)
            )
            self.assertEqual(permission.timeLimit, least)

    def test_output(self) -> None:
        """It may write the least that anybody says."""
        for service, rule, least in (
            (None, "", None),
            (10, "", 10),
            (None, "output-limit = 5", 5),
            (10, "output-limit = 5", 5),
            (10, 'output-limit = "1 KiB"', 10),
        ):
            self.terms = self.within(outputLimit=service)
            permission = self.permitted(rules(f"{ANYTHING}\n{rule}"), start(b"/bin/sh"))
            self.assertEqual(permission.outputLimit, least)

    def test_system(self) -> None:
        """Limits of the system are those of the rule."""
        rule = 'cpu-time = 1\nmemory = "2 KiB"\nprocesses = 3\nopen-files = 4\nfile-size = 5'
        launch = self.launched(rules(f"{ANYTHING}\n{rule}"), start(b"/bin/sh"))
        self.assertEqual(launch.limits, ResourceLimits(1, 2048, 3, 4, 5))
        launch = self.launched(rules(ANYTHING), start(b"/bin/sh"))
        self.assertEqual(launch.limits, ResourceLimits())

    def test_rule(self) -> None:
        """The permission tells of the rule what is needed later."""
        permission = self.permitted(rules(f"{ANYTHING}\nconcurrency = 2"), start(b"/bin/sh"))
        self.assertEqual((permission.concurrency, permission.source), (2, f"{PLACE}:4"))
        permission = self.permitted(rules(ANYTHING), start(b"/bin/sh"))
        self.assertEqual(permission.concurrency, None)

    def test_detach(self) -> None:
        """Only a rule lets a command outlive its connection."""
        wanted = start(b"/bin/sh", onDisconnect="detach")
        self.assertDenied(rules(ANYTHING), wanted)
        self.permitted(rules(f"{ANYTHING}\ndetach = true"), wanted)
