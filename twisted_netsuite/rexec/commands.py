"""
All commands of one exec service: who has which, what is kept of them, and what is written down.
"""

from __future__ import annotations

import base64
import hashlib
import resource
import secrets
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import msgspec
from twisted.internet.defer import Deferred, TimeoutError, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_netsuite.errors import AuditUnavailable, ConfigurationError, NetsuiteError, NotFound
from twisted_netsuite.rexec import outcome
from twisted_netsuite.rexec.command import Command, Follower
from twisted_netsuite.rexec.delivery import STREAMS
from twisted_netsuite.rexec.ending import CANCELLED
from twisted_netsuite.rexec.keptdelivery import Kept
from twisted_netsuite.rexec.launch import Launch, OutputStream, Spawner
from twisted_netsuite.rexec.ledger import MAX_SWEPT, Ledger, LedgerUnavailable
from twisted_netsuite.rexec.ledger import Kept as Row
from twisted_netsuite.rexec.messages import (
    MAX_LISTED,
    MAX_SHOWN,
    MAX_TTL,
    Attach,
    Listed,
    Listing,
    Start,
)
from twisted_netsuite.rexec.outcome import Outcome, notStarted
from twisted_netsuite.rexec.permit import Permission, Terms, judge, launchFor, planOf, refusalOf
from twisted_netsuite.rexec.process import END_LIMIT
from twisted_netsuite.rexec.recording import Recording
from twisted_netsuite.rexec.run import Bounds
from twisted_netsuite.rexec.spool import Spool, SpoolDamaged, removeSpools
from twisted_netsuite.trust.identity import ANONYMOUS, Identity
from twisted_netsuite.trust.oversight import Oversight, causeOf
from twisted_netsuite.wire.text import cleanText, shortened, shownBytes

T = TypeVar("T")

#: Bytes of a command that the log shows: what a person types is shorter.
MAX_LOGGED = 512

#: Random bytes in the name of a command: nobody guesses one.
ID_BYTES = 12

#: Seconds in which the audit log and the ledger write what they have to as the service stops: it
#: does not wait for a disk that hangs.
WRITE_LIMIT = 10.0

#: Seconds in which commands end that are ended as the service stops: as many as the worst of them
#: takes, and those in which that is written down. What the spawner needs after that to let go of
#: its own processes is not counted, as nothing cuts it short.
STOP_LIMIT = END_LIMIT + WRITE_LIMIT

#: Seconds that a command is kept when its client does not say: a day, in which whoever has started
#: it can come back.
DEFAULT_TTL = 24 * 3600

#: One identity may have one part in so many, rounded up, of the commands that run and of those that
#: are kept: with a half of them nobody keeps everybody else from starting anything.
SHARES = 2

#: What a follower is told that has not taken all when the service stops.
LEFT_BEHIND = "The service stops; what was not taken is kept."


@dataclass(frozen=True)
class ExecLimits:
    """
    What bounds all commands of a service together.

    @ivar commands: that run at a time: each costs some file descriptors and two processes.
    @ivar kept: that are kept on disk at a time, running or ended.
    @ivar spool: bytes that are kept of each stream of such a command, until its client takes them:
        together with C{kept} what the service can need on the disk, 16 GiB.
    @ivar ttl: seconds that a client may have a command kept.
    """

    commands: int = 1000
    kept: int = 128
    spool: int = 64 * 1024 * 1024
    ttl: int = MAX_TTL


DEFAULT_EXEC_LIMITS = ExecLimits()

#: Descriptors that a command costs the server: three for its streams, one for its supervisor, and,
#: as only some are kept or recorded, two for that.
DESCRIPTORS = 6

#: Descriptors that are left for everything else, such as connections, logs and the ledger.
RESERVED_DESCRIPTORS = 256


def affordable(limits: ExecLimits) -> ExecLimits:
    """
    Bound commands so that they leave descriptors for others.

    @param limits: what is wanted.
    @return: the same, or with fewer commands where this process may have too few descriptors.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits
    most = max(1, (soft - RESERVED_DESCRIPTORS) // DESCRIPTORS)
    return replace(limits, commands=min(limits.commands, most))


@dataclass(frozen=True)
class Asker:
    """
    Who asks.

    @ivar identity: who it is.
    @ivar address: where from.
    @ivar name: both, for the log.
    """

    identity: Identity
    address: str
    name: str


#: Makes what records a command: of its name, its launch, and whose it is.
Recorder = Callable[[str, Launch, str], Recording]


class Commands:
    """
    The commands of one service.

    @ivar limits: bounds all of them together.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        spawner: Spawner,
        oversight: Oversight,
        terms: Terms,
        limits: ExecLimits = DEFAULT_EXEC_LIMITS,
        ledger: Ledger | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """
        @param clock: tells and waits for time.
        @param spawner: starts commands.
        @param oversight: tells who may run which.
        @param terms: hold for every command.
        @param limits: bounds all of them together.
        @param ledger: what is kept is written there; without, nothing is kept.
        @param recorder: makes recordings, if they are wanted.
        """
        self.limits = limits
        self._clock = clock
        self._spawner = spawner
        self._oversight = oversight
        self._terms = terms
        self._ledger = ledger
        self._recorder = recorder
        self._byId: dict[str, Command] = {}
        self._byKey: dict[tuple[str, str], tuple[bytes, Command]] = {}
        #: Those that have not ended, with the rule that each counts for.
        self._unended: dict[Command, str] = {}
        self._rows: dict[Command, Row] = {}
        #: Those of which is being written how far they were taken, and whether that has changed.
        self._writing: dict[Command, bool] = {}
        self._stopping = False
        #: Stops that are under way, and who wants to begin after them.
        self._stops = 0
        self._opening: list[Deferred[None]] = []

    # Beginning and end.

    def open(self) -> Deferred[None]:
        """
        Find what an earlier run has kept.

        @return: fires when commands can be started; fails with L{ConfigurationError} when the state
            directory cannot be used, or when the service is stopped while this waits for the end
            of the stop before.
        """
        if self._stops:
            stopped: Deferred[None] = Deferred()
            self._opening.append(stopped)
            return stopped.addCallback(lambda _: self.open())
        self._stopping = False
        if self._ledger is None:
            return succeed(None)
        begun = self._clock.seconds()
        return self._ledger.open().addCallback(self._restore, self._ledger, begun)

    def _restore(self, rows: list[Row], ledger: Ledger, begun: float) -> None:
        if self._stopping:
            # It came too late: nothing would close what is begun here.
            return
        for row in rows:
            self._restoreOne(row)
            if isinstance(row.outcome, outcome.Lost) and (row.ended or 0.0) >= begun:
                self._noteLost(row, row.outcome)
        self._sweep(ledger)

    def _sweep(self, ledger: Ledger) -> None:
        """Remove the output of commands that a crash has left without a row."""

        def swept(count: int) -> None:
            if count == MAX_SWEPT:
                self._sweep(ledger)

        ledger.sweep().addCallbacks(swept, _told)

    def _restoreOne(self, row: Row) -> None:
        detaches = row.onDisconnect == "detach"
        tallies = {"stdout": row.stdout, "stderr": row.stderr}
        try:
            kept = self._kept(row.id, detaches, row.ttl, Spool.open)
            _requireWhole(row, kept)
        except SpoolDamaged as error:
            self.log.error("command {id}: {reason}", id=row.id, reason=error.sentence)

            def behind(directory: str, stream: OutputStream, limit: int) -> Spool:
                """Keep nothing, so that nobody is sent anything but how it ended."""
                tally = tallies[stream]
                return Spool(directory, stream, limit, tally.count if tally else 0)

            kept = self._kept(row.id, detaches, row.ttl, behind)
        command = Command(row.id, row.identity, row.command, self._clock, row.started, kept)
        command.run.pty = row.pty
        assert row.outcome is not None
        assert row.ended is not None
        command.run.inputAt = row.stdinAt
        command.restore(
            row.outcome,
            row.ended,
            {"stdout": tallies["stdout"], "stderr": tallies["stderr"]},
            {"stdout": row.stdoutCredited, "stderr": row.stderrCredited},
        )
        command.onLeft = self._left
        command.onExpired = self._expired
        self._byId[row.id] = command
        self._rows[command] = row
        if row.key is not None:
            self._byKey[row.identity, row.key] = (row.digest, command)
        command.expireIn(max(0.0, (row.expires or row.ended) - self._clock.seconds()))

    def _noteLost(self, row: Row, ending: Outcome) -> None:
        """Write down the end that the run before this one could not, as it was killed."""
        method, _, name = row.identity.partition(":")
        self._oversight.note(
            "exec.end",
            peer="-",
            identity=Identity(cast(Any, method), name) if name else ANONYMOUS,
            id=row.id,
            command=row.command,
            **_fieldsOf(ending),
        )

    def stop(self, seconds: float) -> Deferred[None]:
        """
        Start nothing more; let what runs finish, or end it; and close what is kept.

        @param seconds: how long it may take to finish, and its followers to take what was kept for
            them; then it is ended, and they are let go.
        @return: fires when nothing is left of any command.
        """
        self._stopping = True
        self._stops += 1
        opening, self._opening = self._opening, []
        for each in opening:
            each.errback(ConfigurationError("This service was stopped before it had begun."))
        # Those that have ended may still wait for the ledger.
        ends = [each.whenEnded() for each in self._byId.values()]
        running = gatherResults(ends, consumeErrors=True)
        running.addTimeout(seconds + STOP_LIMIT, self._clock)
        late = self._clock.callLater(seconds, self._endAll)

        def ended(result: object) -> Deferred[list[None]]:
            taken = [each.whenLeft() for each in self._byId.values()] if late.active() else []
            return gatherResults(taken)

        def taken(result: object) -> Deferred[None]:
            if late.active():
                late.cancel()
            return self._spawner.stop()

        return running.addBoth(ended).addBoth(taken).addCallback(self._close).addBoth(self._stopped)

    def _stopped(self, result: T) -> T:
        self._stops -= 1
        if not self._stops:
            opening, self._opening = self._opening, []
            for each in opening:
                each.callback(None)
        return result

    def _endAll(self) -> None:
        for command in list(self._byId.values()):
            if command.outcome is None:
                reason = "the service was stopped, and the command with it."
                command.run.stop(outcome.Lost(reason=reason))
            elif command.settled:
                command.dismiss(LEFT_BEHIND)

    def _close(self, _: object) -> Deferred[None]:
        for command in list(self._byId.values()):
            command.dismiss(LEFT_BEHIND)
            command.close()
        for command in [each for each, changed in self._writing.items() if changed]:
            if command in self._rows:
                self._write(command)
        self._writing.clear()
        self._byId.clear()
        self._byKey.clear()
        self._rows.clear()
        if self._ledger is None:
            return succeed(None)
        # A thread that a disk holds in the kernel cannot be ended, and the reactor waits for it as
        # it exits: until the disk answers, or somebody kills the process. Nothing runs here then.
        closed = self._ledger.close().addTimeout(WRITE_LIMIT, self._clock)
        return closed.addErrback(self._notClosed)

    def _notClosed(self, failure: Failure) -> None:
        failure.trap(TimeoutError)
        self.log.error(
            "the ledger of commands is not closed after {seconds} s: the disk does not answer",
            seconds=WRITE_LIMIT,
        )

    # What clients ask for.

    def start(self, asker: Asker, start: Start, follower: Follower) -> Command:
        """
        Start a command, or find the one that was started by the same key.

        @param asker: who wants it.
        @param start: what is wanted.
        @param follower: who follows it; it learns of a refusal, too.
        @return: the command.
        @raise LimitExceeded: when it was started before, and what it wrote is not kept any more.
        """
        owner = str(asker.identity)
        digest = _digestOf(start)
        if start.key is not None and (owner, start.key) in self._byKey:
            known, command = self._byKey[owner, start.key]
            if known != digest:
                reason = f"the key {start.key!r} was used for another command; use another key."
                return self._refused(owner, start, follower, notStarted("configuration", reason))
            self._note("exec.attach", asker, command)
            command.follow(follower, 0, 0)
            return command
        if why := self._unable(owner, start):
            return self._refused(owner, start, follower, why)
        id = _newId()
        kept = None
        if start.key is not None or start.onDisconnect == "detach":
            ttl = min(start.ttl or DEFAULT_TTL, self.limits.ttl)
            kept = self._kept(id, start.onDisconnect == "detach", ttl, Spool)
        command = Command(id, owner, _lineOf(start), self._clock, self._clock.seconds(), kept)
        command.argv = start.argv
        command.onEnded = lambda command: self._ended(asker, command)
        command.onLeft = self._left
        command.onExpired = self._expired
        self._byId[id] = command
        self._unended[command] = ""
        if start.key is not None:
            self._byKey[owner, start.key] = (digest, command)
        command.follow(follower, 0, 0)
        Deferred.fromCoroutine(self._start(asker, start, digest, command)).addErrback(
            self._failed, command
        )
        return command

    def attach(self, asker: Asker, asked: Attach, follower: Follower) -> Command:
        """
        Follow a command that was started before.

        @param asker: who wants to.
        @param asked: which, and from where on.
        @param follower: follows it.
        @return: the command.
        @raise NetsuiteError: when that cannot be.
        """
        command = self.find(asker, asked.id)
        if command.kept is None:
            raise ConfigurationError(
                f"The command {command.id} is followed by the connection that started it; start "
                "those that others are to follow with --on-disconnect detach."
            )
        stdout = command.credited("stdout") if asked.stdout is None else asked.stdout
        stderr = command.credited("stderr") if asked.stderr is None else asked.stderr
        command.follow(follower, stdout, stderr)
        self._note("exec.attach", asker, command)
        return command

    def find(self, asker: Asker, id: str) -> Command:
        """
        Find a command of somebody.

        @param asker: whose it has to be.
        @param id: its name.
        @return: the command.
        @raise NotFound: when there is none, or it is somebody else's.
        """
        command = self._byId.get(id)
        if command is None or command.owner != str(asker.identity):
            raise NotFound(f"You have no command {id} here; see which with 'ps'.")
        return command

    def listed(self, asker: Asker, channel: int) -> Iterator[Listed]:
        """
        List the commands of somebody.

        @param asker: whose.
        @param channel: for the answer.
        @return: records; there is at least one.
        """
        owner = str(asker.identity)
        own = [_listing(each) for each in self._byId.values() if each.owner == owner]
        for at in range(0, max(1, len(own)), MAX_LISTED):
            last = at + MAX_LISTED >= len(own)
            yield Listed(channel=channel, commands=tuple(own[at : at + MAX_LISTED]), last=last)

    def kill(self, asker: Asker, id: str, number: int | None) -> Deferred[Outcome] | Deferred[None]:
        """
        Signal or end a command of somebody; or forget it, with its key, when it has ended.

        @param asker: whose it has to be.
        @param id: its name.
        @param number: the signal, which does nothing to what has ended; C{None} to end it.
        @return: fires once that was done: with how it ended; with C{None} when it was signalled and
            runs. It can be cancelled.
        @raise NotFound: when there is none.
        """
        command = self.find(asker, id)
        self._note("exec.kill", asker, command, signal=number)
        if number is not None and command.outcome is None:
            command.run.signal(number)
            return succeed(None)
        if number is None and command.settled and command.kept is not None:
            command.dismiss("It was ended, and forgotten.")
            self._expired(command)
        command.run.cancel()
        return command.whenEnded()

    def _note(self, event: str, asker: Asker, command: Command, **fields: int | None) -> None:
        given = {name: value for name, value in fields.items() if value is not None}
        self._oversight.note(
            event,
            peer=asker.address,
            identity=asker.identity,
            id=command.id,
            command=command.argv or command.words,
            **given,
        )

    # Starting.

    def _unable(self, owner: str, start: Start) -> Outcome | None:
        """Tell why nothing is started at all, whatever it is."""
        if self._stopping:
            return notStarted("unsupported", "this service is stopping, and starts nothing more.")
        if len(self._unended) >= self.limits.commands:
            reason = f"{len(self._unended)} commands run here, and no more are started."
            return outcome.Limit(which="commands", reason=reason)
        if (own := _countOf(owner, self._unended)) >= _share(self.limits.commands):
            reason = f"you run {own} commands here, and may run no more at a time."
            return outcome.Limit(which="commands", reason=reason)
        if start.key is None and start.onDisconnect != "detach":
            return None
        if self._ledger is None:
            reason = "this service keeps nothing; its operator can have it do so with --state."
            return notStarted("unsupported", reason)
        kept = [each for each in self._byId.values() if each.kept is not None]
        own = _countOf(owner, kept)
        if own >= _share(self.limits.kept) and not self._makeRoom(owner):
            reason = f"{own} commands are kept for you, and no more can be; 'kill' forgets one."
            return outcome.Limit(which="kept", reason=reason)
        if len(kept) >= self.limits.kept and not self._makeRoom(None):
            reason = f"{len(kept)} commands are kept here, and no more are until one is forgotten."
            return outcome.Limit(which="kept", reason=reason)
        return None

    def _makeRoom(self, owner: str | None) -> bool:
        """
        Forget the one that ended first of those that nobody misses: all of its output was taken,
        and no key promises that it is known.
        """
        idle = [
            each
            for each, row in self._rows.items()
            if each.delivered and row.key is None and owner in (None, each.owner)
        ]
        if not idle:
            return False
        self._expired(min(idle, key=lambda each: each.endedAt or 0.0))
        return True

    def _refused(self, owner: str, start: Start, follower: Follower, why: Outcome) -> Command:
        command = Command(_newId(), owner, _lineOf(start), self._clock, self._clock.seconds())
        command.follow(follower, 0, 0)
        command.run.refuse(why)
        return command

    async def _start(self, asker: Asker, start: Start, digest: bytes, command: Command) -> None:
        line = shownBytes(command.words, MAX_LOGGED)
        wish = planOf(start)
        judgement = judge(self._oversight, asker.identity, wish, self._terms)
        try:
            await self._oversight.begin(
                "exec.start",
                judgement.decision,
                peer=asker.address,
                identity=asker.identity,
                id=command.id,
                command=start.argv,
            )
        except NetsuiteError as error:
            self.log.info(
                "{peer}: refused {line}: {cause}", peer=asker.name, line=line, cause=causeOf(error)
            )
            command.onEnded = self._unkept
            command.run.refuse(refusalOf(judgement, error))
            return
        permission = launchFor(wish, judgement, self._terms)
        why = await self._hindrance(asker, start, digest, command, permission)
        if why is None and command.run.cancelled:
            why = notStarted(CANCELLED, "it was cancelled before it was started.")
        if why is not None or not isinstance(permission, Permission):
            assert why is not None
            command.run.refuse(why)
            return
        self.log.info("{peer}: runs {line} ({id})", peer=asker.name, line=line, id=command.id)
        launch = permission.launch
        try:
            recording = (
                self._recorder(command.id, launch, command.owner) if self._recorder else None
            )
        except NetsuiteError as error:
            self.log.error("command {id}: {reason}", id=command.id, reason=error.sentence)
            reason = "it cannot be recorded, and nothing runs here that is not."
            command.run.refuse(notStarted(AuditUnavailable.wireCode, reason))
            return
        bounds = Bounds(permission.timeLimit, permission.outputLimit)
        command.run.begin(self._spawner, launch, bounds, recording)

    async def _hindrance(
        self,
        asker: Asker,
        start: Start,
        digest: bytes,
        command: Command,
        permission: Permission | outcome.NotStarted,
    ) -> Outcome | None:
        """Tell why a command that is allowed is not started."""
        if isinstance(permission, outcome.NotStarted):
            return permission
        if permission.concurrency is not None:
            running = sum(
                each.owner == command.owner and source == permission.source
                for each, source in self._unended.items()
            )
            if running >= permission.concurrency:
                reason = f"you run {running} such commands, and may run no more at a time."
                return outcome.Limit(which="concurrency", reason=reason)
        self._unended[command] = permission.source
        if command.kept is None:
            return None
        assert self._ledger is not None
        row = Row(
            id=command.id,
            identity=command.owner,
            key=start.key,
            digest=digest,
            command=command.words,
            pty=start.pty is not None,
            started=command.startedAt,
            onDisconnect=start.onDisconnect,
            ttl=command.kept.ttl,
        )
        try:
            await self._ledger.begin(row)
        except NetsuiteError as error:
            return notStarted(error.wireCode, error.sentence)
        self._rows[command] = row
        return None

    def _failed(self, failure: Failure, command: Command) -> None:
        self.log.failure("command {id}: this is a fault of the service", failure, id=command.id)
        if command.outcome is None and not command.run.running:
            command.run.refuse(notStarted("internal", "the service failed; its log says why."))

    # What becomes of it.

    def _unkept(self, command: Command) -> Deferred[None]:
        """Forget one that is not kept, or never was started: its key can be tried again."""
        self._unended.pop(command, None)
        written = command in self._rows
        self._forget(command)
        command.keepNothing()
        if not written:
            return succeed(None)
        assert self._ledger is not None
        return self._ledger.forget([command.id]).addErrback(_told)

    def _ended(self, asker: Asker, command: Command) -> Deferred[None]:
        assert command.outcome is not None
        tallies = {stream: command.tally(stream) for stream in STREAMS}
        ending = command.outcome
        kind = str(ending.__struct_config__.tag)
        self.log.info(
            "{peer}: {kind} {status} {line} ({id}){why}",
            peer=asker.name,
            kind=kind,
            status=ending.status,
            line=shownBytes(command.words, MAX_LOGGED),
            id=command.id,
            why=_why(ending),
        )
        self._oversight.note(
            "exec.end",
            peer=asker.address,
            identity=asker.identity,
            id=command.id,
            command=command.argv or command.words,
            **_fieldsOf(ending),
            stdout=tallies["stdout"].count,
            stdoutSha256=tallies["stdout"].sha256.hex(),
            stderr=tallies["stderr"].count,
            stderrSha256=tallies["stderr"].sha256.hex(),
        )
        del self._unended[command]
        if isinstance(ending, outcome.NotStarted) or command not in self._rows:
            return self._unkept(command)
        assert command.kept is not None
        now = self._clock.seconds()
        self._rows[command] = msgspec.structs.replace(
            self._rows[command],
            outcome=ending,
            stdout=tallies["stdout"],
            stderr=tallies["stderr"],
            ended=now,
            expires=now + command.kept.ttl,
        )
        return self._write(command)

    def _left(self, command: Command) -> None:
        """
        Write down how far its follower has come, and that its time begins anew.

        What changes while that is being written is written once after it, however often.
        """
        if command in self._writing:
            self._writing[command] = True
            return
        row = self._rows.get(command)
        if row is not None:
            if row.expires is not None:
                expires = self._clock.seconds() + row.ttl
                self._rows[command] = msgspec.structs.replace(row, expires=expires)
            self._writing[command] = False
            self._write(command).addBoth(self._written, command)

    def _written(self, _: object, command: Command) -> None:
        if self._writing.pop(command, False):
            self._left(command)

    def _write(self, command: Command) -> Deferred[None]:
        assert self._ledger is not None
        self._rows[command] = msgspec.structs.replace(
            self._rows[command],
            stdinAt=command.run.inputAt,
            stdoutCredited=command.credited("stdout"),
            stderrCredited=command.credited("stderr"),
        )
        # The ledger has told the operator already, and writes it again.
        return self._ledger.update(self._rows[command]).addErrback(_told)

    def _expired(self, command: Command) -> None:
        self._forget(command)
        if self._ledger is None:
            return
        directory = self._ledger.spoolDirectory(command.id)
        forgotten = self._ledger.forget([command.id])
        forgotten.addCallbacks(lambda _: removeSpools(directory), _told)
        forgotten.addErrback(
            lambda failure: self.log.failure("command {id}", failure, id=command.id)
        )

    def _forget(self, command: Command) -> None:
        if self._byId.get(command.id) is command:
            # After a stop and another beginning it may be one that was restored.
            del self._byId[command.id]
        row = self._rows.pop(command, None)
        self._writing.pop(command, None)
        for name in [name for name, (_, each) in self._byKey.items() if each is command]:
            del self._byKey[name]
        if row is not None:
            command.close()

    def _kept(
        self, id: str, detaches: bool, ttl: float, make: Callable[[str, OutputStream, int], Spool]
    ) -> Kept:
        assert self._ledger is not None
        directory = self._ledger.spoolDirectory(id)
        stdout, stderr = (make(directory, stream, self.limits.spool) for stream in STREAMS)
        return Kept(stdout, stderr, detaches, ttl)


def _requireWhole(row: Row, kept: Kept) -> None:
    """After a power failure less may be on the disk than was written."""
    for spool, tally in ((kept.stdout, row.stdout), (kept.stderr, row.stderr)):
        if tally is not None and spool.end < tally.count:
            raise SpoolDamaged(
                f"The kept {spool.name} in {spool.directory!r} has {spool.end} of {tally.count} "
                "bytes; the rest was lost with the machine."
            )


def _fieldsOf(ending: Outcome) -> dict[str, str | int]:
    """Tell how a command ended, for the audit log."""
    fields: dict[str, str | int] = {
        "outcome": str(ending.__struct_config__.tag),
        "status": ending.status,
    }
    match ending:
        case outcome.Signalled():
            fields["signal"] = ending.name
        case outcome.Limit():
            fields["which"] = ending.which
        case outcome.NotStarted():
            fields["code"] = ending.code
        case _:
            pass
    if reason := cleanText(getattr(ending, "reason", "")):
        fields["reason"] = shortened(reason, outcome.MAX_REASON)
    return fields


def _share(most: int) -> int:
    return -(-most // SHARES)


def _countOf(owner: str, commands: Iterable[Command]) -> int:
    return sum(each.owner == owner for each in commands)


def _why(ending: Outcome) -> str:
    """Write the reason of an end, if it has one, for the end of a line in the log."""
    reason = cleanText(getattr(ending, "reason", ""))
    return f": {reason}" if reason else ""


def _told(failure: Failure) -> None:
    failure.trap(LedgerUnavailable)


def _newId() -> str:
    return base64.b32encode(secrets.token_bytes(ID_BYTES)).decode().rstrip("=").lower()


def _lineOf(start: Start) -> bytes:
    """Write a wish as a person would type it: a word with a space in it is still one."""
    if start.shell:
        return start.argv[0][:MAX_SHOWN]
    # Any byte is a character there, and comes back as it was.
    words = (word[:MAX_SHOWN].decode("latin-1") for word in start.argv[:MAX_SHOWN])
    return shlex.join(words).encode("latin-1")[:MAX_SHOWN]


def _digestOf(start: Start) -> bytes:
    """Tell one wish from another: all that makes a difference to what runs."""
    wish = (
        start.argv,
        start.shell,
        sorted(start.env.items()),
        start.cwd,
        start.user,
        start.pty is not None,
        start.stdin,
    )
    return hashlib.sha256(msgspec.msgpack.encode(wish)).digest()


def _listing(command: Command) -> Listing:
    over = command.outcome is not None
    return Listing(
        id=command.id,
        command=command.words,
        started=command.startedAt,
        attached=command.attached,
        stdout=command.written("stdout"),
        stderr=command.written("stderr"),
        outcome=command.outcome,
        ended=command.endedAt if over else None,
    )
