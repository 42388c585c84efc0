"""
The client of native exec: many commands at once over one session; a command itself is in
L{rexec.remote}, its streams in L{rexec.streams}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Unpack

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import (
    IConsumer,
    IPullProducer,
    IReactorTime,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from twisted_netsuite.errors import (
    ConfigurationError,
    ConnectionFailed,
    LimitExceeded,
    NetsuiteError,
    ProtocolError,
)
from twisted_netsuite.net.sessionclient import ClientSession, helloFor, openSession
from twisted_netsuite.rexec.messages import (
    DEFAULT_WINDOW,
    PIECE,
    RECORDS,
    SERVICE,
    Attach,
    Kill,
    List,
    Listing,
    Start,
)
from twisted_netsuite.rexec.options import (
    Options,
    inputOf,
    requireId,
    requireKnown,
    requireWindow,
    signalWord,
    startOf,
    wordsOf,
)
from twisted_netsuite.rexec.outcome import Outcome
from twisted_netsuite.rexec.questions import Channel, Killing, Listings
from twisted_netsuite.rexec.remote import (
    OUTPUT_LIMIT,
    CommandChannel,
    CommandDetached,
    Ended,
    RemoteCommand,
    abandon,
    leave,
    outcomeOf,
)
from twisted_netsuite.rexec.streams import Allowance, Collector, InputStream, OutputStream
from twisted_netsuite.wire.session import RECORD_ROOM, About, Hello, Record, SessionCodec

__all__ = [
    "MAX_CHANNELS",
    "OUTPUT_LIMIT",
    "Allowance",
    "Collector",
    "CommandDetached",
    "Completed",
    "Ended",
    "ExecSession",
    "InputStream",
    "Options",
    "OutputStream",
    "RemoteCommand",
    "connectExec",
    "outcomeOf",
]

#: Commands and questions that are open at once on one session: twice what one server is expected to
#: run, and with default windows what this end may be sent is some GB already.
MAX_CHANNELS = 1000

#: The last number of a channel: after two thousand million commands a new session is wanted.
LAST_CHANNEL = 2**31 - 1

#: How often what was taken of a stream is credited: so many times for each window, and after so
#: many bytes: on a slow link it is by CREDIT that the server hears of us.
CREDITS_A_WINDOW, CREDIT_BATCH = 4, 128 * 1024


@dataclass(frozen=True)
class Completed:
    """
    A command that has ended, with all that it wrote.

    @ivar outcome: how it ended.
    @ivar stdout: its standard output.
    @ivar stderr: its standard error.
    """

    outcome: Outcome
    stdout: bytes
    stderr: bytes

    @property
    def status(self) -> int:
        """What a client exits with."""
        return self.outcome.status


@implementer(IPullProducer)
class BytesProducer:
    """Gives bytes that are there as the input of a command."""

    def __init__(self, data: bytes, consumer: IConsumer) -> None:
        """
        @param data: all of it.
        @param consumer: gets it.
        """
        self._rest = memoryview(data)
        self._consumer = consumer

    def resumeProducing(self) -> None:
        """Give some more."""
        if not self._rest:
            self._consumer.unregisterProducer()
            return
        piece, self._rest = bytes(self._rest[:PIECE]), self._rest[PIECE:]
        self._consumer.write(piece)

    def stopProducing(self) -> None:
        """The command reads no more, which it may."""


class ExecSession(ClientSession):
    """
    Commands on one server.

    What the connection does not take at once is credit and input, and both wait; what the server
    sends is read in any case, so that two ends that have much to say never wait for each other.
    """

    readsOn = True
    _last = 0

    def __init__(self, clock: IReactorTime, codec: SessionCodec, hello: Hello, name: str) -> None:
        """
        @param clock: tells and waits for time.
        @param codec: knows the records of the service.
        @param hello: what to say first.
        @param name: the server's address, for sentences.
        """
        super().__init__(clock, codec, hello, name)
        self._channels: dict[int, Channel] = {}

    async def __aenter__(self) -> ExecSession:
        """Use the session."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it; what runs and is not to outlive it ends."""
        await self.close()

    # What its user calls.

    def start(
        self,
        argv: Sequence[bytes | str],
        *,
        stdin: bool = False,
        stdout: IConsumer | None = None,
        stderr: IConsumer | None = None,
        **options: Unpack[Options],
    ) -> Deferred[RemoteCommand]:
        """
        Start a command.

        @param argv: program and arguments.
        @param stdin: whether input will be given.
        @param stdout: gets standard output, from the first byte to the last; C{None} to keep it for
            C{stdout.collected}: up to L{OUTPUT_LIMIT} bytes of both streams, more than which ends
            the command.
        @param stderr: gets standard error; the consumer of standard output, to have both in the
            order in which they come.
        @param options: how it is to run.
        @return: fires when it runs; cancelling it ends the command. Fails with an error of the
            class of the outcome, which L{outcomeOf} tells, when the server does not start it; with
            L{LimitExceeded} when it is too large for a record, or too much is open; with
            L{ConfigurationError} when it can be sent to no server; with L{ConnectionFailed} when
            the session is over or about to be, or a consumer takes nothing any more; with what a
            consumer raises that has a producer already.
        @raise TypeError: when what is given is of a wrong type, as one text for all words, or an
            option is not known.
        """
        words = wordsOf(argv)
        requireKnown(options)
        try:
            asked = startOf(self._number(), words, stdin, options)
            frame = self._frameOf(asked)
        except NetsuiteError as error:
            return fail(error)
        stays = asked.onDisconnect == "detach"
        exact = stays or asked.key is not None
        return self._ask(asked, frame, exact, stays, stdout, stderr)

    def run(
        self,
        argv: Sequence[bytes | str],
        *,
        input: bytes | None = None,
        outputLimit: int = OUTPUT_LIMIT,
        **options: Unpack[Options],
    ) -> Deferred[Completed]:
        """
        Run a command to its end.

        @param argv: program and arguments.
        @param input: what it reads; C{None} for nothing.
        @param outputLimit: bytes that it may write to both streams together.
        @param options: how it is to run.
        @return: fires with how it ended, and all of its output; cancelling it ends the command.
            Fails as C{start} does; with L{LimitExceeded} when there was more output, once the
            command, which then is cancelled, has ended.
        @raise TypeError: as with C{start}, and when the input is text.
        """
        words = wordsOf(argv)
        requireKnown(options)
        data = None if input is None else inputOf(input)
        return Deferred.fromCoroutine(self._run(words, data, outputLimit, options))

    async def _run(
        self, words: tuple[bytes, ...], input: bytes | None, outputLimit: int, options: Options
    ) -> Completed:
        allowance = Allowance(outputLimit)
        out, err = Collector(allowance), Collector(allowance)
        command = await self.start(
            words, stdin=input is not None, stdout=out, stderr=err, **options
        )
        _requireFirstBytes(command)
        try:
            ended = command.whenEnded()
            if input is not None:
                command.stdin.registerProducer(BytesProducer(input, command.stdin), False)
            end = await ended
        except Exception:
            abandon(command)
            raise
        return Completed(end.outcome, bytes(out.data), bytes(err.data))

    def attach(
        self,
        id: str,
        *,
        stdoutAt: int | None = None,
        stderrAt: int | None = None,
        window: int = DEFAULT_WINDOW,
        stdout: IConsumer | None = None,
        stderr: IConsumer | None = None,
    ) -> Deferred[RemoteCommand]:
        """
        Go on with a command that was started before, by the same identity.

        @param id: names it.
        @param stdoutAt: bytes of standard output that are here already; C{None} for as many as the
            server was told of.
        @param stderrAt: the same of standard error.
        @param window: bytes that each stream may be ahead of whoever takes it.
        @param stdout: gets standard output from there on; C{None} to keep it, as with C{start}.
        @param stderr: gets standard error; may be the consumer of standard output.
        @return: fires when the server goes on; cancelling it leaves the command alone. Fails as
            with C{start}; with L{NotFound} where there is no such command.
        """
        try:
            requireWindow(window)
            requireId(id)
            asked = Attach(
                channel=self._number(),
                id=id,
                stdout=stdoutAt,
                stderr=stderrAt,
                stdoutCredit=window,
                stderrCredit=window,
            )
            frame = self._frameOf(asked)
        except NetsuiteError as error:
            return fail(error)
        return self._ask(asked, frame, True, True, stdout, stderr)

    def commands(self) -> Deferred[list[Listing]]:
        """
        List the commands of this identity that run, or are kept.

        @return: fires with them, the oldest first; fails with L{ConnectionFailed} when the session
            is over, or with what the server says.
        """
        try:
            question = Listings(self.release, self._number())
            frame = self._frameOf(List(channel=self._last + 1))
        except NetsuiteError as error:
            return fail(error)
        self._open(question, frame)
        return question.answer

    def kill(self, id: str, signal: str | None = None) -> Deferred[Outcome | None]:
        """
        Signal or end a command of this identity, whoever follows it; or forget one that has ended.

        @param id: names it.
        @param signal: such as C{HUP}; C{None} to end it, by TERM and after a grace KILL.
        @return: fires with how it ended, or, after a signal, with C{None} if it has not; fails with
            L{NotFound} when there is none, and otherwise as C{commands} does.
        """
        try:
            requireId(id)
            name = None if signal is None else signalWord(signal)
            question = Killing(self.release, self._number())
            frame = self._frameOf(Kill(channel=self._last + 1, id=id, signal=name))
        except NetsuiteError as error:
            return fail(error)
        self._open(question, frame)
        return question.answer

    # What comes.

    def recordReceived(self, record: Record) -> None:
        """Hand a record to its channel; what comes for one that is closed was on its way."""
        number: int = getattr(record, "channel", 0)
        channel = self._channels.get(number)
        if channel is not None:
            channel.received(record)
        elif number > self._last:
            raise ProtocolError(f"A record is for channel {number}, which was never opened.")

    def errorReceived(self, error: NetsuiteError, about: About) -> None:
        """Hand an error to what it is about."""
        channel = self._channels.get(about) if isinstance(about, int) else None
        if channel is None or not channel.refused(error):
            self.log.warn("{error}", error=error.sentence)
        elif isinstance(about, int):
            self.release(about)

    def sessionDraining(self) -> None:
        """Close, as soon as nothing is open."""
        if not self._channels:
            self.finish()

    def sessionClosed(self, reason: NetsuiteError | None) -> None:
        """Nothing that is open will ever end."""
        super().sessionClosed(reason)
        channels, self._channels = self._channels, {}
        error = reason or ConnectionFailed(
            f"The session with {self.peerName()} was closed while this was open."
        )
        for each in channels.values():
            each.lost(error)

    def writingChanged(self, taken: bool) -> None:
        """Say what has waited, in turns, as the server takes more."""
        for number, each in list(self._channels.items()):
            if self.stalled:
                return
            if number in self._channels:
                # The next time the others come first.
                self._channels[number] = self._channels.pop(number)
                self.guard(each.flush)

    # What the channels call.

    @property
    def writable(self) -> bool:
        """Whether the connection takes more than what must be said."""
        return not self.stalled

    @property
    def pieceSize(self) -> int:
        """Bytes of input that fit in one record."""
        return min(PIECE, self.MAX_LENGTH - RECORD_ROOM)

    def release(self, number: int) -> None:
        """Take a channel for closed; the session too, if that was the last before its end."""
        self._channels.pop(number, None)
        if not self._channels and self.draining:
            self.finish()

    # What is behind that.

    def _number(self) -> int:
        """Choose the number of a new channel."""
        if not self.machine.isOpen:
            raise self._failure()
        if self.draining:
            raise ConnectionFailed(f"{self.peerName()} stops: nothing new is begun.")
        if len(self._channels) >= MAX_CHANNELS:
            raise LimitExceeded(
                f"{len(self._channels)} commands are open on this session, and at most "
                f"{MAX_CHANNELS} can be; wait for one to end, or open another session."
            )
        if self._last >= LAST_CHANNEL:
            raise LimitExceeded("This session has had all the commands that it can; open another.")
        return self._last + 1

    def _frameOf(self, record: Record) -> bytes:
        """Encode a record with which a channel is opened, as the server will take it."""
        try:
            frame = self.codec.encode(record)
        except (UnicodeEncodeError, OverflowError) as error:
            raise ConfigurationError(f"This can be sent to no server: {error}.") from error
        if len(frame) > self.MAX_LENGTH:
            raise LimitExceeded(
                f"The command takes {len(frame)} bytes, and {self.peerName()} takes at most "
                f"{self.MAX_LENGTH} at once; give fewer or shorter words and variables, or send "
                "them as input."
            )
        try:
            self.codec.decode(frame)
        except ProtocolError as error:
            raise ConfigurationError(f"This can be sent to no server: {error.sentence}") from error
        return frame

    def _ask(
        self,
        asked: Start | Attach,
        frame: bytes,
        exact: bool,
        stays: bool,
        stdout: IConsumer | None,
        stderr: IConsumer | None,
    ) -> Deferred[RemoteCommand]:
        """
        Open the channel of a command.

        @param exact: whether the server is to know of each byte that was taken, as another
            connection may have to go on from there.
        """
        batch = 1 if exact else min(asked.stdoutCredit // CREDITS_A_WINDOW, CREDIT_BATCH)
        try:
            channel = CommandChannel(self, asked, batch, stays=stays, stdout=stdout, stderr=stderr)
        except Exception:
            # A consumer that has a producer already raises what it likes.
            return fail()
        self._open(channel, frame)
        return channel.starting

    def _open(self, channel: Channel, frame: bytes) -> None:
        self._last += 1
        self._channels[self._last] = channel
        self.sendFrame(frame)


def connectExec(
    endpoint: IStreamClientEndpoint,
    clock: IReactorTime,
    *,
    name: str = "the server",
    user: str | None = None,
    token: str | None = None,
    timeout: float = 10.0,
) -> Deferred[ExecSession]:
    """
    Connect to a native exec service.

    @param endpoint: where to.
    @param clock: the reactor, or a fake clock in tests.
    @param name: the address, for sentences.
    @param user: who we are, together with a token.
    @param token: the proof; it is sent only over TLS or a Unix socket.
    @param timeout: seconds for the session to open.
    @return: fires with the open session; fails as with
        L{connectSession<twisted_netsuite.net.sessionclient.connectSession>}.
    """
    try:
        hello = helloFor(SERVICE, user=user, token=token)
    except ConfigurationError as error:
        return fail(error)
    return openSession(
        ExecSession, endpoint, clock, SessionCodec(RECORDS), hello, name=name, timeout=timeout
    )


def _requireFirstBytes(command: RemoteCommand) -> None:
    """See that the output of a command that was known comes from its first byte on."""
    for stream in (command.stdout, command.stderr):
        if stream.begun:
            leave(command)
            raise LimitExceeded(
                f"The first {stream.begun} bytes of {stream.name} of the command {command.id} were "
                "taken before, and are not kept any more; attach to it for the rest."
            )
