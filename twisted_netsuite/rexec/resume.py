"""
A command that is followed to its end over one connection after another: nothing of its output is
lost or comes twice when a connection breaks, and it is started once.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence
from typing import Unpack, cast

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from twisted_netsuite.errors import (
    ConfigurationError,
    ConnectionFailed,
    LimitExceeded,
    NetsuiteError,
    ProtocolError,
    TimedOut,
)
from twisted_netsuite.rexec.client import BytesProducer, ExecSession
from twisted_netsuite.rexec.flow import Count
from twisted_netsuite.rexec.messages import DEFAULT_WINDOW, Tally
from twisted_netsuite.rexec.options import Options, inputOf, requireKnown, wordsOf
from twisted_netsuite.rexec.remote import (
    CommandDetached,
    Ended,
    RemoteCommand,
    abandon,
    leave,
    outcomeOf,
)
from twisted_netsuite.rexec.streams import apart

#: Seconds without a connection after which a command is given up: a server has been restarted by
#: then, and its machine too.
PATIENCE = 300.0

#: Seconds before the first attempt to connect again, and before the later ones, each of which waits
#: twice as long as the one before, up to the second number: often enough for a person who waits.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0

#: Of each pause so much at least; the rest is chance, so that all who have lost one server do not
#: come back to it at once.
LEAST_OF_PAUSE = 0.5


@implementer(IConsumer, IPushProducer)
class Relay:
    """
    Stands between the streams of one connection after another and one consumer.

    @ivar count: what the consumer was given, over all connections.
    @ivar failure: what the consumer has raised, or that it takes no more.
    """

    def __init__(self, name: str, consumer: IConsumer) -> None:
        """
        @param name: of the stream.
        @param consumer: gets all of it; this is its producer until the end.
        """
        self.count = Count()
        self.failure: Exception | None = None
        self._name = name
        self._consumer = consumer
        self._producer: IPushProducer | None = None
        self._paused = False
        consumer.registerProducer(self, True)

    # What the stream of a connection calls.

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Take the stream of another connection; there is none where the consumer is gone."""
        self._producer = cast(IPushProducer, producer)
        if self.failure is not None:
            self._producer.stopProducing()
        elif self._paused:
            self._producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Let it go; there may be another."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """Hand some output on."""
        try:
            self._consumer.write(data)
        except Exception as error:
            self.failure = error
            raise
        self.count.add(data)

    # What the consumer calls.

    def pauseProducing(self) -> None:
        """Give no more for now."""
        self._paused = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """The consumer takes no more."""
        self.failure = ConnectionFailed(f"Nobody takes {self._name} of the command any more.")
        if self._producer is not None:
            self._producer.stopProducing()

    # What the one who follows calls.

    def close(self) -> None:
        """Nothing more comes."""
        self._consumer.unregisterProducer()

    def requireAll(self, sent: Tally) -> None:
        """
        See that the consumer was given just what was sent, over all connections.

        @param sent: what END tells.
        @raise ProtocolError: when it was not.
        """
        if self.count.tally() != sent:
            raise ProtocolError(
                f"{self.count.count} bytes of {self._name} have come, over several connections, "
                f"and {sent.count} were sent, or others."
            )


class Following:
    """One command, from its start to its end."""

    def __init__(
        self,
        connect: Callable[[], Deferred[ExecSession]],
        clock: IReactorTime,
        argv: Sequence[bytes | str],
        stdout: IConsumer,
        stderr: IConsumer,
        input: bytes | None,
        patience: float,
        options: Options,
    ) -> None:
        """
        @param connect: opens a session.
        @param clock: waits for time.
        @param argv: program and arguments.
        @param stdout: gets standard output.
        @param stderr: gets standard error.
        @param input: what it reads.
        @param patience: seconds without a connection after which it is given up.
        @param options: how it is to run, with a key.
        """
        self._connect = connect
        self._clock = clock
        self._argv = argv
        self._input = input
        self._patience = patience
        self._options = options
        self._id = ""
        #: Whether a command may have been started, which nobody else will follow.
        self._asked = False
        self._lostAt: float | None = None
        self._pause = FIRST_PAUSE
        self._session: ExecSession | None = None
        out, err = apart(stdout, stderr)
        self._out = Relay("stdout", out)
        try:
            self._err = Relay("stderr", err)
        except BaseException:
            self._out.close()
            raise

    async def follow(self) -> Ended:
        """
        Follow it to its end.

        @return: how that was.
        """
        try:
            while True:
                try:
                    return await self._followOnce()
                except (ConnectionFailed, TimedOut) as error:
                    await self._wait(error)
        finally:
            self._out.close()
            self._err.close()

    async def _followOnce(self) -> Ended:
        """Follow it over one connection."""
        self._session = session = await self._connect()
        try:
            command = await self._begin(session)
            self._lostAt, self._pause = None, FIRST_PAUSE
            ended = await self._ended(command)
        except Exception:
            # Not also when all of this is thrown away: closing would wake who is no more.
            session.close()
            raise
        session.close()
        self._out.requireAll(ended.stdout)
        self._err.requireAll(ended.stderr)
        return ended

    async def _begin(self, session: ExecSession) -> RemoteCommand:
        out, err = self._out.count.count, self._err.count.count
        if self._id:
            window = self._options.get("window", DEFAULT_WINDOW)
            return await session.attach(
                self._id,
                stdoutAt=out,
                stderrAt=err,
                window=window,
                stdout=self._out,
                stderr=self._err,
            )
        starting = session.start(
            self._argv,
            stdin=self._input is not None,
            stdout=self._out,
            stderr=self._err,
            **self._options,
        )
        self._asked = True
        command = await starting
        self._id = command.id
        if command.stdout.begun or command.stderr.begun:
            leave(command)
            raise LimitExceeded(
                f"The first bytes of the output of the command {command.id} were taken before, and "
                "are not kept any more; attach to it for the rest."
            )
        return command

    async def _ended(self, command: RemoteCommand) -> Ended:
        try:
            ended = command.whenEnded()
            if self._input is not None and command.stdin.open:
                rest = BytesProducer(self._input[command.stdin.at :], command.stdin)
                command.stdin.registerProducer(rest, False)
            return await ended
        except CancelledError:
            abandon(command)
            raise

    async def _wait(self, error: NetsuiteError) -> None:
        """Wait before another attempt, unless there is to be none."""
        for relay in (self._out, self._err):
            if relay.failure is not None:
                raise relay.failure
        leaving = self._session is not None and self._session.goodbye is not None
        takenOver = isinstance(error, CommandDetached) and not leaving
        if not self._asked or takenOver or outcomeOf(error) is not None:
            raise error
        now = self._clock.seconds()
        if self._lostAt is None:
            self._lostAt = now
        left = self._lostAt + self._patience - now
        if left <= 0:
            what = f"command {self._id}" if self._id else "command"
            raise ConnectionFailed(
                f"The {what} was given up after {self._patience:g} s without a connection, and may "
                f"still run: {error.sentence}"
            ) from error
        pause = self._pause * random.uniform(LEAST_OF_PAUSE, 1.0)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        await deferLater(self._clock, min(pause, left))


def runDetached(
    connect: Callable[[], Deferred[ExecSession]],
    clock: IReactorTime,
    argv: Sequence[bytes | str],
    *,
    stdout: IConsumer,
    stderr: IConsumer,
    input: bytes | None = None,
    patience: float = PATIENCE,
    **options: Unpack[Options],
) -> Deferred[Ended]:
    """
    Run a command that outlives its connection, and follow it to its end over as many as it takes.

    @param connect: opens a session; called once more whenever one has ended.
    @param clock: the reactor, or a fake clock in tests.
    @param argv: program and arguments.
    @param stdout: gets standard output, each byte once.
    @param stderr: gets standard error; may be the consumer of standard output.
    @param input: what it reads; C{None} for nothing.
    @param patience: seconds without a connection after which it is given up, and left alone.
    @param options: how it is to run; without a key it gets one by chance.
    @return: fires when it has ended and all of its output was delivered; cancelling it ends the
        command, if there is a connection. Fails as C{ExecSession.start} does; at once, when there
        was never a connection; with L{ConnectionFailed} when patience has come to its end; with
        L{CommandDetached} when somebody else follows the command now; with what a consumer has
        raised, and then the command is left alone, or never started.
    @raise TypeError: as with C{ExecSession.run}.
    @raise ConfigurationError: when it is to end with its connection.
    """
    words = wordsOf(argv)
    requireKnown(options)
    if options.setdefault("onDisconnect", "detach") != "detach":
        raise ConfigurationError(
            "A command that ends with its connection cannot be followed over several."
        )
    if options.get("key") is None:
        options["key"] = secrets.token_hex(16)
    data = None if input is None else inputOf(input)
    try:
        following = Following(connect, clock, words, stdout, stderr, data, patience, options)
    except Exception:
        # A consumer that has a producer already raises what it likes.
        return fail()
    return Deferred.fromCoroutine(following.follow())
