"""
Whether a command may be run, and how: from a START to a L{Launch} and what bounds it, or to the
reason why not. Nothing here starts anything, and all that is looked for is the program, once the
policy has allowed it.

A name without a slash stands for every program of that name in the service's PATH. The policy is
asked about each by its whole path, and of those that it allows the first that is there is started.
So what is answered depends on no file that the asker may not run: a name that is allowed nowhere is
denied, whether there is such a program or not.
"""

from __future__ import annotations

import os
import posixpath
import pwd
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from twisted_netsuite.errors import ConfigurationError, Denied, NetsuiteError, NotFound
from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.launch import Account, Launch, ResourceLimits, TerminalSize
from twisted_netsuite.rexec.messages import Start
from twisted_netsuite.trust.decisions import Decision, Policy
from twisted_netsuite.trust.identity import Identity
from twisted_netsuite.trust.oversight import Oversight
from twisted_netsuite.trust.patterns import unusualPath
from twisted_netsuite.trust.requests import ExecRequest, asText, shown
from twisted_netsuite.trust.rules import ExecRule

#: Reads command lines.
SHELL = b"/bin/sh"

#: Where programs are looked for when the server's own PATH has no whole path in it: what POSIX
#: systems have in common.
DEFAULT_PATH = (b"/usr/bin", b"/bin")

#: Names of the server's environment that a command gets beside LC_*: how texts and times are
#: written. Others may hold secrets of the server, or change what a program runs.
LOCALE = ("LANG", "TZ")

#: Names that tell whose session it is.
PERSONAL = ("HOME", "LOGNAME", "SHELL", "USER")

#: Where temporary files go: in a directory that may be open to the server's own account alone.
TEMPORARY = "TMPDIR"

#: Why a program cannot be started, each with a place for its path.
MISSING = "there is no program {}."
UNREACHABLE = "{} cannot be reached by this service."
IRREGULAR = "{} cannot be run: it is no regular file."
UNEXECUTABLE = "{} cannot be run: it is not executable."

#: What an asker is told when nothing tells who may run commands.
NO_POLICY = "this service runs no commands; its operator can allow some with --allow."

N = TypeVar("N", int, float)


def ownPath(environment: Mapping[str, str] = os.environ) -> tuple[bytes, ...]:
    """
    Tell where the server itself looks for programs.

    @param environment: the server's.
    @return: the directories in its PATH that are written from the root on and lead nowhere up;
        L{DEFAULT_PATH} when there are none. What is relative depends on where the server was
        started, which nobody who writes a policy can know.
    """
    parts = environment.get("PATH", "").split(":")
    found = [_directory(part) for part in parts if part.startswith("/") and not _climbs(part)]
    return tuple(dict.fromkeys(found)) or DEFAULT_PATH


def readPath(text: str) -> tuple[bytes, ...]:
    """
    Read the option that tells where programs are looked for.

    @param text: directories, with colons between them.
    @return: these, each once.
    @raise ConfigurationError: when one is not written from the root on, or leads up.
    """
    parts = text.split(":")
    for part in parts:
        if not part.startswith("/") or _climbs(part) or "\0" in part:
            raise ConfigurationError(
                f"The path {shown(text)!r} holds {shown(part)!r}, which is no directory from the "
                "root on; write such as /usr/local/bin:/usr/bin."
            )
    return tuple(dict.fromkeys(map(_directory, parts)))


def _climbs(path: str) -> bool:
    return ".." in path.split("/")


def _directory(path: str) -> bytes:
    # normpath keeps two slashes at the beginning.
    return os.fsencode(posixpath.normpath("/" + path.lstrip("/")))


def kept(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    """
    Choose what commands get of an environment.

    @param environment: the server's.
    @return: L{LOCALE}, L{TEMPORARY} and LC_*; and L{PERSONAL}, for commands of an account that has
        no name, and so nothing of its own that could stand in their place.
    """
    return {
        os.fsencode(name): os.fsencode(value)
        for name, value in environment.items()
        if name in (*LOCALE, *PERSONAL, TEMPORARY) or name.startswith("LC_")
    }


@dataclass(frozen=True)
class Terms:
    """
    What holds for every command of a service.

    @ivar path: the directories in which programs are looked for; what commands get as PATH.
    @ivar timeLimit: seconds that a command may run; C{None} for any number.
    @ivar outputLimit: bytes that it may write on both streams together; C{None} for any number.
    @ivar environment: what commands get of the server's environment.
    """

    path: tuple[bytes, ...] = field(default_factory=ownPath)
    timeLimit: float | None = None
    outputLimit: int | None = None
    environment: Mapping[bytes, bytes] = field(default_factory=lambda: kept(os.environ))


@dataclass(frozen=True)
class Wish:
    """
    A command that somebody wants to run.

    @ivar start: as it came.
    @ivar request: as a policy is asked about it, but for the program, which is as it came, too.
    @ivar fault: the end of a sentence that tells why no rule can allow it, or nothing.
    """

    start: Start
    request: ExecRequest
    fault: str

    def programs(self, path: Sequence[bytes]) -> list[bytes]:
        """
        Tell what it may start.

        @param path: the directories in which programs are looked for.
        @return: whole paths, the first first.
        """
        if self.start.shell:
            return [SHELL]
        name = self.start.argv[0]
        return [posixpath.join(each, name) for each in path] if _bare(name) else [name]

    def about(self, program: bytes) -> ExecRequest:
        """
        Put the question whether it may be run.

        @param program: the whole path of the program.
        @return: what a policy is asked, which for a shell is about its line alone.
        """
        if self.start.shell:
            return self.request
        return replace(self.request, argv=(program, *self.start.argv[1:]))


def _bare(name: bytes) -> bool:
    return name != b"" and b"/" not in name


def planOf(start: Start) -> Wish:
    """
    Read what somebody wants to run.

    @param start: a record that came.
    @return: the wish.
    """
    request = ExecRequest(
        start.argv,
        shell=start.shell,
        env=tuple(start.env),
        cwd=start.cwd,
        user=start.user,
        pty=start.pty is not None,
        detach=start.onDisconnect == "detach",
    )
    return Wish(start, request, _fault(start, request))


def _fault(start: Start, request: ExecRequest) -> str:
    if not start.shell and _bare(start.argv[0]):
        # Where it will be looked for is nothing that the asker is told.
        rooted = b"/" + start.argv[0]
        if why := unusualPath(asText(rooted)):
            return f"{shown(request.word(0))!r} names no program, as {why}; give its whole path"
        request = replace(request, argv=(rooted, *start.argv[1:]))
    if why := request.malformed():
        return why
    for name, value in start.env.items():
        if b"\0" in value:
            return f"the variable {shown(name)} holds a NUL, which no program can be given"
    return ""


@dataclass(frozen=True)
class Judgement:
    """
    What became of the question whether a command may be run.

    @ivar decision: the answer, for the audit log; it tells of the program by its whole path.
    @ivar program: what is to be started, when it is yes and there is such a program.
    @ivar missing: when it is yes, and there is none.
    @ivar told: what the asker may be told of a no, where that is all of it.
    @ivar denier: the role whose rule denies it, if one does.
    """

    decision: Decision
    program: bytes = b""
    missing: outcome.NotStarted | None = None
    told: str = ""
    denier: str = ""


def judge(oversight: Oversight, identity: Identity, wish: Wish, terms: Terms) -> Judgement:
    """
    Ask whether somebody may run a command.

    @param oversight: has the policy; without one nothing may be run.
    @param identity: who.
    @param wish: the command.
    @param terms: tell where programs are looked for.
    @return: the answer; only once L{Oversight.begin} has taken its decision it may be acted upon.
    """
    judgement = Judgement(Decision(False, NO_POLICY, False))

    def ask(policy: Policy) -> Decision:
        nonlocal judgement
        judgement = _judged(policy, identity, wish, terms.path)
        return judgement.decision

    oversight.decide(ask)
    return judgement


def _judged(policy: Policy, identity: Identity, wish: Wish, path: Sequence[bytes]) -> Judgement:
    if wish.fault:
        sentence = f"{identity} may not {wish.request}: {wish.fault}."
        told = f"no rule can allow this: {wish.fault}."
        return Judgement(Decision(False, sentence, policy.durable), told=told)
    programs = wish.programs(path)
    asked: dict[bytes, Decision] = {}
    faults: dict[bytes, str] = {}
    for program in programs:
        decision = asked[program] = policy.exec(identity, wish.about(program))
        if not decision.allowed:
            continue
        # Only now: to look for what the asker chose may take as long as a file system that is gone.
        faults[program] = unrunnable(program)
        if not faults[program]:
            return Judgement(decision, program)
    if not faults:
        return _denied(list(asked.values()))
    # As execvp has it: what is there and cannot be run counts for more than what is not there.
    program = next((each for each in faults if faults[each] != MISSING), next(iter(faults)))
    return Judgement(asked[program], missing=_notStarted(wish, program, faults[program]))


def _denied(decisions: Sequence[Decision]) -> Judgement:
    """Tell the log of the program that is most likely meant, and the asker of none."""
    denier = next((each.role for each in decisions if each.rule is not None), "")
    told = sorted(decisions, key=lambda each: (each.rule is None, not each.near))[0]
    # How long the answer takes is an answer, too.
    durable = any(each.durable for each in decisions)
    return Judgement(replace(told, durable=durable), denier=denier)


def _notStarted(wish: Wish, program: bytes, fault: str) -> outcome.NotStarted:
    if fault != MISSING:
        reason = fault.format(repr(shown(asText(program))))
        return outcome.notStarted(Denied.wireCode, reason)
    if wish.start.shell or not _bare(wish.start.argv[0]):
        reason = fault.format(repr(shown(asText(program))))
    else:
        reason = f"this service has no program {shown(wish.request.word(0))!r} that you may run."
    return outcome.notStarted(NotFound.wireCode, reason)


def unrunnable(program: bytes) -> str:
    """
    Look for a program, for as long as its file system takes: so in the reactor only for one that
    the policy allows, and so its author has chosen.

    @param program: its whole path.
    @return: nothing when it is there and this process may run it; else one of the sentences
        L{MISSING}, L{UNREACHABLE}, L{IRREGULAR} and L{UNEXECUTABLE}.
    """
    try:
        mode = os.stat(program).st_mode
    except PermissionError:
        return UNREACHABLE
    except OSError:
        return MISSING
    if not stat.S_ISREG(mode):
        return IRREGULAR
    return "" if os.access(program, os.X_OK) else UNEXECUTABLE


def refusalOf(judgement: Judgement, error: NetsuiteError) -> outcome.Denied | outcome.NotStarted:
    """
    Tell the asker that a command was not started.

    @param judgement: what was judged.
    @param error: what L{Oversight.begin} failed with.
    @return: with nothing in it of what the policy says, but the role whose rule denies it.
    """
    if isinstance(error, Denied):
        return outcome.Denied(rule=judgement.denier, reason=judgement.told or error.sentence)
    return outcome.notStarted(error.wireCode, error.sentence)


@dataclass(frozen=True)
class Permission:
    """
    A command that may be started.

    @ivar launch: what, and how.
    @ivar timeLimit: seconds that it may run; C{None} for any number.
    @ivar outputLimit: bytes that it may write on both streams together; C{None} for any number.
    @ivar concurrency: how many by this rule one identity may run at a time; C{None} for any number.
    @ivar source: where the rule stands; names the rule.
    """

    launch: Launch
    timeLimit: float | None
    outputLimit: int | None
    concurrency: int | None
    source: str


def launchFor(wish: Wish, judgement: Judgement, terms: Terms) -> Permission | outcome.NotStarted:
    """
    Tell how to start a command that is allowed.

    @param wish: the command.
    @param judgement: a yes.
    @param terms: what holds for every command.
    @return: how, within what its rule gives; or why it cannot be.
    @raise ValueError: when it is a no.
    """
    decision = judgement.decision
    rule = decision.rule
    if not decision.allowed or not isinstance(rule, ExecRule):
        raise ValueError("only a rule lets a command be started")
    if judgement.missing is not None:
        return judgement.missing
    try:
        entry = _entry(rule.user)
        account = _account(entry, rule.user)
    except ConfigurationError as error:
        return outcome.notStarted(error.wireCode, error.sentence)
    return Permission(
        launch=_launch(wish.start, judgement.program, rule, terms, entry, account),
        timeLimit=_least(wish.start.timeLimit, rule.timeLimit, terms.timeLimit),
        outputLimit=_least(rule.outputLimit, terms.outputLimit),
        concurrency=rule.concurrency,
        source=decision.source,
    )


def _least(*limits: N | None) -> N | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _launch(
    start: Start,
    program: bytes,
    rule: ExecRule,
    terms: Terms,
    entry: pwd.struct_passwd | None,
    account: Account | None,
) -> Launch:
    env = baseEnvironment(entry, terms)
    if start.pty is not None:
        env[b"TERM"] = start.pty.term.encode()
    env |= {_asBytes(name): value for name, value in start.env.items()}
    return Launch(
        program=program,
        # Behind -- a line that begins with a dash is a line all the same.
        argv=(SHELL, b"-c", b"--", *start.argv) if start.shell else start.argv,
        env=env,
        cwd=start.cwd if start.cwd is not None else _home(rule, entry),
        stdin=start.stdin,
        terminal=TerminalSize(start.pty.rows, start.pty.cols) if start.pty else None,
        account=account,
        limits=ResourceLimits(
            cpuTime=rule.cpuTime,
            memory=rule.memory,
            processes=rule.processes,
            openFiles=rule.openFiles,
            fileSize=rule.fileSize,
        ),
    )


def _asBytes(text: str) -> bytes:
    """Undo L{asText}, whatever the locale is."""
    return text.encode("utf-8", "surrogateescape")


def _home(rule: ExecRule, entry: pwd.struct_passwd | None) -> bytes:
    """Tell where a command runs whose asker does not say."""
    if rule.directory is not None:
        return _asBytes(rule.directory)
    home = entry.pw_dir if entry else ""
    return os.fsencode(home) if home.startswith("/") and os.path.isdir(home) else b"/"


def ownEntry() -> pwd.struct_passwd | None:
    """
    Find the account that the server runs as.

    @return: C{None} when it has no name.
    """
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        return None


def _entry(user: str | None) -> pwd.struct_passwd | None:
    if user is None:
        return ownEntry()
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise ConfigurationError(
            f"the service cannot run it as {shown(user)}: there is no such account."
        ) from None


def _account(entry: pwd.struct_passwd | None, user: str | None) -> Account | None:
    """Tell as whom a command runs; a server that is not root can only be itself."""
    if user is None or entry is None:
        return None
    if os.geteuid() != 0:
        if entry.pw_uid == os.geteuid():
            return None
        raise ConfigurationError(
            f"the service cannot run it as {shown(user)}: only one that runs as root can."
        )
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups))


def baseEnvironment(entry: pwd.struct_passwd | None, terms: Terms) -> dict[bytes, bytes]:
    """
    Tell what stands in the environment of every command.

    @param entry: the account that it runs as; C{None} for the server's own that has no name.
    @param terms: have the PATH, and what comes from the server's environment.
    @return: these, and L{PERSONAL} of the account; L{TEMPORARY} for the server's own alone.
    """
    env = {**terms.environment, b"PATH": b":".join(terms.path)}
    if entry is not None:
        if entry.pw_uid != os.geteuid():
            env.pop(TEMPORARY.encode(), None)
        env[b"HOME"] = os.fsencode(entry.pw_dir)
        env[b"LOGNAME"] = env[b"USER"] = os.fsencode(entry.pw_name)
        env[b"SHELL"] = os.fsencode(entry.pw_shell) or SHELL
    return env
