"""
The native exec service: many commands at once over one session, each on a channel of its own.

What one channel may carry is in L{rexec.serverchannel}, what becomes of a command in
L{rexec.command}, and who may have which in L{rexec.commands}.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime

from twisted_netsuite.errors import (
    ConfigurationError,
    LimitExceeded,
    NetsuiteError,
    NotFound,
    ProtocolError,
)
from twisted_netsuite.net.admission import DEFAULT_LIMITS, ConnectionLimits
from twisted_netsuite.net.framed import SessionFactory, SessionProtocol
from twisted_netsuite.rexec.command import Command
from twisted_netsuite.rexec.commands import (
    DEFAULT_EXEC_LIMITS,
    Asker,
    Commands,
    ExecLimits,
    Recorder,
    affordable,
)
from twisted_netsuite.rexec.ending import signalNumber
from twisted_netsuite.rexec.flow import NOTHING
from twisted_netsuite.rexec.launch import OutputStream, Spawner, TerminalSize
from twisted_netsuite.rexec.ledger import Ledger
from twisted_netsuite.rexec.machine import Effect
from twisted_netsuite.rexec.messages import (
    FRAME,
    PIECE,
    RECORDS,
    SERVICE,
    Attach,
    Cancel,
    Credit,
    Detach,
    Detached,
    End,
    Kill,
    Killed,
    List,
    Resize,
    Signal,
    Start,
    Stdin,
    StdinEof,
)
from twisted_netsuite.rexec.outcome import Outcome, notStarted
from twisted_netsuite.rexec.permit import Terms
from twisted_netsuite.rexec.process import ProcessSpawner
from twisted_netsuite.rexec.serverchannel import ServerChannel
from twisted_netsuite.trust.oversight import Oversight
from twisted_netsuite.trust.tokens import TokenVerifier
from twisted_netsuite.wire.session import RECORD_ROOM, Record
from twisted_netsuite.wire.sessionmachine import Effect as OpeningEffect

#: Seconds that a client waits, after its HELLO, until what an earlier run has kept was read: the
#: rows of some hundred commands take a fraction of one, and a disk that hangs may take for ever.
OPEN_LIMIT = 30.0

#: Pieces of kept output that a session sends before other work of the process gets its turn: a
#: megabyte, which takes some milliseconds.
PIECES_A_TURN = 9

#: Channels of one session at a time: more than anybody has asked of one connection, and each costs
#: some kilobytes before it has a command.
MAX_CHANNELS = 1000

T = TypeVar("T")

#: Records of a client about a channel that is open.
OnChannel = Stdin | StdinEof | Credit | Signal | Resize | Cancel | Detach


class Following:
    """
    What one channel follows: a command, for one client.

    @ivar channel: the channel.
    @ivar command: the command, once it is known.
    """

    def __init__(self, session: NativeExec, asked: Start | Attach) -> None:
        """
        @param session: the session that the channel is of.
        @param asked: what it was opened with.
        """
        self.channel = ServerChannel(asked)
        self.command: Command | None = None
        self._session = session

    @property
    def stalled(self) -> bool:
        """Whether the client does not take what was sent."""
        return self._session.stalled

    def room(self, stream: OutputStream) -> int:
        """Tell how much output the client takes."""
        return self.channel.stdout.left if stream == "stdout" else self.channel.stderr.left

    def began(self, command: Command, stdout: int, stderr: int, stdinRoom: int | None) -> None:
        """Tell the client that the command runs."""
        self.command = command
        started = self.channel.start(
            command.id,
            known=command.known,
            stdout=stdout,
            stderr=stderr,
            stdinAt=command.run.inputAt,
            stdinRoom=stdinRoom,
            pty=command.run.pty,
        )
        self._session.sendRecord(started)

    def ready(self, command: Command) -> None:
        """Send kept output, in turn with the other channels."""
        self._session.wait(self)

    def output(self, stream: OutputStream, data: bytes) -> None:
        """Send output, in records that fit into frames."""
        self._session.served(self)
        send = self.channel.sendStdout if stream == "stdout" else self.channel.sendStderr
        size = self._session.pieceSize
        if len(data) <= size:
            self._session.sendRecord(send(data))
            return
        for start in range(0, len(data), size):
            self._session.sendRecord(send(data[start : start + size]))

    def inputTaken(self, count: int) -> None:
        """Grant the client room for more input."""
        if self.channel.started and (credit := self.channel.inputTaken(count)):
            self._session.sendRecord(credit)

    def inputLost(self) -> None:
        """Tell the client that nothing more is read."""
        if self.channel.started and (eof := self.channel.inputLost()):
            self._session.sendRecord(eof)

    def ended(self, command: Command) -> None:
        """Tell the client how it ended."""
        assert command.outcome is not None
        tallies = command.tally("stdout"), command.tally("stderr")
        self._session.channelClosed(self.channel.end(command.outcome, *tallies))

    def refused(self, error: NetsuiteError) -> None:
        """
        Tell the client that there is nothing to follow.

        @param error: why.
        """
        why = notStarted(error.wireCode, error.sentence)
        self._session.channelClosed(self.channel.end(why, NOTHING, NOTHING))

    def left(self, reason: str) -> None:
        """Tell the client that nothing more comes."""
        if self.channel.started:
            self._session.channelClosed(self.channel.detach(reason))
        else:
            self.refused(LimitExceeded(reason))

    def received(self, record: OnChannel) -> None:
        """
        Take a record of the client.

        @param record: on this channel.
        @raise ProtocolError: when it may not come now.
        """
        effect = self.channel.received(record)
        command = self.command
        if command is None or effect is Effect.DROP:
            return
        match record:
            case Stdin():
                command.run.write(record.data)
            case StdinEof():
                command.run.endInput()
            case Signal():
                self._signal(command, record.name)
            case Resize():
                command.run.resize(TerminalSize(record.rows, record.cols))
            case Cancel():
                command.run.cancel()
            case Detach():
                self._detach(command)
            case Credit():
                assert record.stream != "stdin", "The channel takes no other."
                command.granted(record.stream, record.count)

    @property
    def creditable(self) -> bool:
        """Whether it matters how far the client comes after END."""
        return self.command is not None and self.command.kept is not None

    def acknowledged(self, credit: Credit) -> bool:
        """
        Take a CREDIT after END.

        @param credit: what came.
        @return: whether more may come.
        @raise ProtocolError: when it may not come, or is for what was not sent.
        """
        self.channel.received(credit)
        assert self.command is not None
        assert credit.stream != "stdin", "The channel takes no other."
        return self.command.acknowledged(self, credit.stream, credit.count)

    def _signal(self, command: Command, name: str) -> None:
        try:
            command.run.signal(signalNumber(name))
        except NotFound as error:
            self._session.fail(error, self.channel.number)

    def _detach(self, command: Command) -> None:
        ends = "It is ended, as nobody else can follow it."
        self.left("As you have asked." if command.outlives else ends)
        command.unfollow(self)


class NativeExec(SessionProtocol):
    """The server's end of one session of exec."""

    factory: ExecFactory
    readsOn = True

    def connectionMade(self) -> None:
        """Have no channels yet."""
        self._channels: dict[int, Following] = {}
        #: Those whose END was sent, and whose client may still say how far it has come.
        self._delivered: dict[int, Following] = {}
        #: Those that wait for their turn, the first first: with kept output to be sent, or not to
        #: be read for now.
        self._waiting: dict[int, Following] = {}
        self._nextTurn: IDelayedCall | None = None
        #: Whether nobody has been read since the client has taken all.
        self._unread = True
        self._opening: Deferred[None] = succeed(None)
        self._highest = 0
        self._killing = 0
        self.pieceSize = min(PIECE, self.factory.frame - RECORD_ROOM)
        super().connectionMade()

    def begin(self, effect: OpeningEffect, record: Record) -> None:
        """Find out who says HELLO, as soon as it is known what was kept for whom."""
        # HELLO is there: what takes time from here on is ours.
        self._stopWaiting()
        self._opening = self.factory.whenOpen()
        self._opening.addTimeout(OPEN_LIMIT, self.clock)
        self._opening.addCallbacks(
            lambda _: self._begin(effect, record), lambda failure: self._notOpen()
        )

    def _begin(self, effect: OpeningEffect, record: Record) -> None:
        self.guard(super().begin, effect, record)

    def _notOpen(self) -> None:
        self.refuse(
            LimitExceeded(
                f"What this service has kept was not read within {OPEN_LIMIT:g} s; try again later."
            )
        )

    def openingFailed(self, reason: NetsuiteError | None) -> None:
        """Wait for nothing more."""
        self._opening.cancel()
        super().openingFailed(reason)

    def sessionOpened(self) -> None:
        """Know who asks."""
        self._asker = Asker(self.identity, self.address, self.peer)

    def sessionClosed(self, reason: NetsuiteError | None) -> None:
        """Follow nothing more: what was not to outlive this ends."""
        channels, self._channels = self._channels, {}
        self._delivered.clear()
        self._waiting.clear()
        if self._nextTurn is not None:
            self._nextTurn.cancel()
            self._nextTurn = None
        for following in channels.values():
            if following.command is not None:
                following.command.unfollow(following)

    def sessionDraining(self) -> None:
        """The client starts nothing more: close once all that is open has ended."""
        self._finishIfDone()

    def writingChanged(self, taken: bool) -> None:
        """Send no output while the client does not take any; then, in turns."""
        if not self.stalled:
            self._serve()
            return
        self._unread = True
        for number, following in self._channels.items():
            self._waiting.setdefault(number, following)
            if following.command is not None:
                following.command.hold(True)

    def wait(self, following: Following) -> None:
        """
        Have kept output sent, once it is the turn of that channel.

        @param following: the channel.
        """
        self._waiting.setdefault(following.channel.number, following)
        self._serve()

    def served(self, following: Following) -> None:
        """
        Let the other channels come first, when they all have to wait.

        @param following: the channel that had its turn.
        """
        number = following.channel.number
        if number in self._channels:
            self._channels[number] = self._channels.pop(number)

    def _serve(self) -> None:
        if self._nextTurn is None:
            self.guard(self._takeTurns)

    def _nextServed(self) -> None:
        self._nextTurn = None
        self.guard(self._takeTurns)

    def _takeTurns(self) -> None:
        """
        Let those that wait have their turns, until the client takes no more.

        Of kept output a turn is a piece. What is not kept the reactor reads, in an order of its
        own: so the first has one round of the reactor for itself, before all others are read, too.
        """
        pieces = 0
        while self._waiting and not self.stalled and pieces < PIECES_A_TURN:
            number = next(iter(self._waiting))
            following = self._waiting.pop(number)
            self.served(following)
            command = following.command
            if command is None:
                continue
            if command.kept is not None:
                pieces += 1
                if command.sendPiece():
                    self._waiting.setdefault(number, following)
                continue
            command.hold(False)
            if self._unread:
                self._unread = False
                break
        if self._waiting and not self.stalled:
            self._nextTurn = self.clock.callLater(0, self._nextServed)

    def recordReceived(self, record: Record) -> None:
        """Take a record."""
        match record:
            case Start():
                self._open(record, partial(self.factory.commands.start, self._asker, record))
            case Attach():
                self._open(record, partial(self.factory.commands.attach, self._asker, record))
            case List():
                self._claim(record.channel)
                for listed in self.factory.commands.listed(self._asker, record.channel):
                    self.sendRecord(listed)
            case Kill():
                self._claim(record.channel)
                self._kill(record)
            case Stdin() | StdinEof() | Credit() | Signal() | Resize() | Cancel() | Detach():
                self._within(record)
            case _:
                raise ProtocolError(f"A server is sent no {type(record).__name__.upper()}.")

    def channelClosed(self, last: End | Detached) -> None:
        """
        Close a channel.

        @param last: the last record on it.
        """
        following = self._channels.pop(last.channel, None)
        self._waiting.pop(last.channel, None)
        if isinstance(last, End) and following is not None and following.creditable:
            self._delivered[last.channel] = following
            while len(self._delivered) > MAX_CHANNELS:
                self._delivered.pop(next(iter(self._delivered)))
        self.sendRecord(last)
        self._finishIfDone()

    def _claim(self, number: int) -> None:
        """Take the number of a new channel."""
        if number <= self._highest:
            raise ProtocolError(
                f"Channel {number} was opened after {self._highest}; each has a greater number."
            )
        self._highest = number

    def _open(self, asked: Start | Attach, find: Callable[[Following], Command]) -> None:
        self._claim(asked.channel)
        following = Following(self, asked)
        if len(self._channels) >= MAX_CHANNELS:
            reason = f"{MAX_CHANNELS} commands run over this connection, and no more can."
            following.refused(LimitExceeded(reason))
            return
        self._channels[asked.channel] = following
        if self.stalled:
            self._waiting[asked.channel] = following
        try:
            following.command = find(following)
        except NetsuiteError as error:
            following.refused(error)

    def _within(self, record: OnChannel) -> None:
        following = self._channels.get(record.channel)
        if following is not None:
            following.received(record)
        elif isinstance(record, Credit) and record.channel in self._delivered:
            if not self._delivered[record.channel].acknowledged(record):
                del self._delivered[record.channel]
        elif record.channel > self._highest:
            raise ProtocolError(f"Channel {record.channel} was not opened.")

    def _kill(self, record: Kill) -> None:
        if self._killing >= MAX_CHANNELS:
            self.fail(LimitExceeded(f"{MAX_CHANNELS} KILLs are open."), record.channel)
            return
        try:
            number = None if record.signal is None else signalNumber(record.signal)
            killed = self.factory.commands.kill(self._asker, record.id, number)
        except NetsuiteError as error:
            self.fail(error, record.channel)
            return
        self._killing += 1
        killed.addCallback(self._killed, record.channel)

    def _killed(self, ending: Outcome | None, channel: int) -> None:
        self._killing -= 1
        self.sendRecord(Killed(channel=channel, outcome=ending))
        self._finishIfDone()

    def _finishIfDone(self) -> None:
        if not self._channels and not self._killing and self.machine.draining:
            self.finish()


class ExecFactory(SessionFactory):
    """
    Serves exec over native sessions.

    @ivar commands: those of this service.
    """

    protocol = NativeExec

    def __init__(
        self,
        reactor: IReactorTime,
        oversight: Oversight,
        *,
        spawner: Spawner | None = None,
        terms: Terms | None = None,
        bounds: ExecLimits = DEFAULT_EXEC_LIMITS,
        ledger: Ledger | None = None,
        recorder: Recorder | None = None,
        drain: float = 0.0,
        tokens: TokenVerifier | None = None,
        requireIdentity: bool = False,
        frame: int = FRAME,
        limits: ConnectionLimits = DEFAULT_LIMITS,
    ) -> None:
        """
        @param reactor: the reactor; with a spawner something that tells time is enough, such as a
            fake clock in tests.
        @param oversight: has the policy, without which nothing is run, and the audit log.
        @param spawner: starts commands; by default as processes.
        @param terms: hold for every command.
        @param bounds: all commands together.
        @param ledger: what is kept is written there; without it nothing can be detached or have a
            key.
        @param recorder: makes recordings, if they are wanted.
        @param drain: seconds that commands may take to finish when the service stops.
        @param tokens: checks users and tokens; C{None} where none are taken.
        @param requireIdentity: whether to refuse who is anonymous.
        @param frame: bytes of a frame, both ways.
        @param limits: bounds the connections.
        @raise ConfigurationError: when there is neither a spawner nor a reactor that processes can
            be watched with.
        """
        if spawner is None and not IReactorFDSet.providedBy(reactor):
            raise ConfigurationError(
                f"{type(reactor).__name__} watches no descriptors, as commands need; give a "
                "reactor that does, or a spawner."
            )
        super().__init__(
            reactor,
            SERVICE,
            RECORDS,
            tokens=tokens,
            requireIdentity=requireIdentity,
            frame=frame,
            limits=limits,
        )
        self._drain = drain
        self._processes = spawner is None or isinstance(spawner, ProcessSpawner)
        #: Sessions that wait for what was kept; C{None} when nothing has to be waited for.
        self._beginnings: list[Deferred[None]] | None = None
        self.commands = Commands(
            reactor,
            ProcessSpawner(reactor) if spawner is None else spawner,
            oversight,
            Terms() if terms is None else terms,
            bounds,
            ledger,
            recorder,
        )

    def open(self) -> Deferred[None]:
        """
        Find what an earlier run has kept.

        @return: fires when all is ready; fails with L{ConfigurationError} when the state directory
            cannot be used.
        """
        if self._beginnings is None:
            self._beginnings = []
        if self._processes:
            self._boundCommands()
        return self.commands.open().addBoth(self._opened)

    def _boundCommands(self) -> None:
        """Let commands leave descriptors for connections, once the process has all it will have."""
        wanted = self.commands.limits
        self.commands.limits = affordable(wanted)
        if self.commands.limits.commands < wanted.commands:
            self.log.warn(
                "{count} commands run at a time, and not {wanted}: the process may have too few "
                "descriptors; let it have more (ulimit -n).",
                count=self.commands.limits.commands,
                wanted=wanted.commands,
            )

    def _opened(self, result: T) -> T:
        beginnings, self._beginnings = self._beginnings, None
        for each in beginnings or ():
            each.callback(None)
        return result

    def whenOpen(self) -> Deferred[None]:
        """
        Wait while what was kept is being found: who comes back right after a restart would be told
        that it is not there.

        @return: one for each caller; fires at once when nothing is being found; it can be
            cancelled.
        """
        if self._beginnings is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._beginnings.remove)
        self._beginnings.append(waiting)
        return waiting

    def abortConnections(self) -> Deferred[None]:
        """
        Stop the service: start nothing more, let commands finish for as long as C{drain} says, end
        those that have not, close what is kept, and end every session. L{open} begins it anew.

        Whoever embeds the service calls this before the reactor stops, and waits for it.

        @return: fires when nothing is left of any connection or command. Those that run end at
            most L{commands.STOP_LIMIT} seconds later than C{drain} says; where a process does not
            answer, or a disk, it takes some more to give that up.
        """
        for session in self.sessions():
            session.leave("The service stops.")
        stopped = self.commands.stop(self._drain)
        return stopped.addBoth(lambda _: SessionFactory.abortConnections(self))
