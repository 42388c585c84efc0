"""
What all commands that work with files have in common: sessions with one server, a disk, a line of
progress, and signals that break off and leave what another run goes on with.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from twisted_netsuite.cli.login import Login
from twisted_netsuite.cli.paced import pacedEndpoint
from twisted_netsuite.cli.progress import Progress, isSeen
from twisted_netsuite.cli.run import say
from twisted_netsuite.cli.signals import Signals
from twisted_netsuite.errors import (
    ConnectionFailed,
    LimitExceeded,
    NetsuiteError,
    ProtocolError,
    TimedOut,
)
from twisted_netsuite.files.client import FilesSession, connectFiles
from twisted_netsuite.files.disk import ThreadedDisk
from twisted_netsuite.net.addresses import parseConnect
from twisted_netsuite.net.rates import Pace
from twisted_netsuite.net.tlscontext import TrustFiles

T = TypeVar("T")

#: The exit status of a process that a signal ends is this and the signal's number.
SIGNAL_BASE = 128

#: The status of a program whose output nobody reads any more, as a shell gives it.
BROKEN_PIPE = SIGNAL_BASE + signal.SIGPIPE

#: What is told of a server whose first bytes are no session's.
_NO_SESSION = "does not keep to the session protocol"

#: What is told of one that has closed the connection at once.
_TOO_SOON = "before the session was open"

#: Signals that break off.
BREAKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _notOpened(failure: Failure, isPlain: bool) -> Failure:
    """Say what it may be when a server does not speak this protocol, or not in plain text."""
    error = failure.value
    if isinstance(error, ProtocolError | LimitExceeded) and _NO_SESSION in error.sentence:
        sentence = f"{error.sentence.rstrip('.')}; see whether it speaks another dialect."
        return Failure(type(error)(sentence))
    if isinstance(error, ConnectionFailed) and _TOO_SOON in error.sentence:
        what = "wants TLS, then give --ca, or speaks" if isPlain else "speaks"
        sentence = f"{error.sentence.rstrip('.')}; see whether it {what} another dialect."
        return Failure(ConnectionFailed(sentence))
    return failure


@dataclass(frozen=True)
class FilesServer:
    """
    Where files are, and as whom one speaks to it.

    @ivar address: an ADDRESS.
    @ivar files: to connect by TLS with; C{None} for plain text.
    @ivar login: who one is.
    @ivar timeout: seconds to connect in, and for each answer.
    @ivar rate: bytes a second at the most, each way; C{None} for any number.
    """

    address: str
    files: TrustFiles | None = None
    login: Login = field(default_factory=Login)
    timeout: float = 60.0
    rate: float | None = None

    def endpoint(self, reactor: Any) -> IStreamClientEndpoint:
        """
        Find out how to connect.

        @param reactor: connects.
        @return: where to.
        @raise ConfigurationError: when that can be no address, or a file cannot be used.
        """
        return parseConnect(reactor, self.address, self.files)


class Sessions:
    """Sessions with one server, opened when they are wanted."""

    def __init__(self, reactor: Any, server: FilesServer) -> None:
        """
        @param reactor: connects.
        @param server: which.
        """
        self._reactor = reactor
        self._server = server
        # All sessions together have one rate, each way.
        self._pace = Pace(reactor, server.rate)
        self._open: list[FilesSession] = []

    def some(self, count: int) -> Deferred[Sequence[FilesSession]]:
        """
        Have sessions; those that have ended are replaced.

        @param count: how many.
        @return: fires with them.
        """
        return Deferred.fromCoroutine(self._some(count))

    async def one(self) -> FilesSession:
        """
        Have a session.

        @return: one that is open.
        """
        return (await self.some(1))[0]

    def answer(self, question: Deferred[T]) -> Deferred[T]:
        """
        Wait for the answer to a question, but not for ever.

        @param question: to the server.
        @return: fires with its answer; fails with L{TimedOut}.
        """
        seconds = self._server.timeout
        late = TimedOut(
            f"{self._server.address} did not answer within {seconds:g} s; see whether it is busy, "
            "or give it longer by --timeout."
        )
        return question.addTimeout(seconds, self._reactor, lambda *_: Failure(late))

    async def close(self) -> None:
        """Close all of them."""
        closing, self._open = self._open, []
        await gatherResults([each.close() for each in closing])

    async def _some(self, count: int) -> Sequence[FilesSession]:
        self._open = [each for each in self._open if each.isOpen]
        missing = [self._connect() for _ in range(count - len(self._open))]
        try:
            await gatherResults(missing, consumeErrors=True)
        except Exception as error:
            for each in missing:
                each.cancel()
            found = getattr(error, "subFailure", None)
            if found is None:
                raise
            raise found.value from None
        return self._open[:count]

    def _connect(self) -> Deferred[FilesSession]:
        server = self._server
        endpoint = server.endpoint(self._reactor)
        if not self._pace.unbounded:
            endpoint = pacedEndpoint(endpoint, self._reactor, self._pace)
        connecting = connectFiles(
            endpoint,
            self._reactor,
            name=server.address,
            user=server.login.user,
            token=server.login.token,
            timeout=server.timeout,
        )
        isPlain = server.files is None and not server.address.startswith("unix:")
        return connecting.addCallbacks(self._opened, _notOpened, errbackArgs=(isPlain,))

    def _opened(self, session: FilesSession) -> FilesSession:
        self._open.append(session)
        return session


def _prompt(question: str) -> None:
    print(question, end="", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Console:
    """
    What this process has that a command uses.

    @ivar stdin: the descriptor of its input.
    @ivar stdout: that of its output.
    @ivar prompt: shows a question.
    @ivar signals: takes its signals, given the reactor.
    @ivar leave: ends it at once, with a status.
    """

    stdin: int = 0
    stdout: int = 1
    prompt: Callable[[str], object] = _prompt
    signals: Callable[[Any], Any] = Signals
    leave: Callable[[int], object] = os._exit


STANDARD = Console()


class Work:
    """
    One command: what it needs while it runs, and how it is broken off.

    @ivar sessions: with its server.
    @ivar disk: does what blocks.
    @ivar progress: how far it is.
    @ivar left: a sentence that says what is left when it is broken off now.
    """

    left = ""

    def __init__(
        self, reactor: Any, server: FilesServer, *, quiet: bool = True, console: Console = STANDARD
    ) -> None:
        """
        @param reactor: connects.
        @param server: where to.
        @param quiet: whether to show no progress, also on a terminal.
        @param console: what this process has.
        """
        self.reactor = reactor
        self.console = console
        self.sessions = Sessions(reactor, server)
        self.disk = ThreadedDisk(reactor)
        self.progress = Progress(not quiet and isSeen())
        self._running: Deferred[int] | None = None
        self._endedBy: int | None = None

    async def run(self, main: Callable[[], Coroutine[Any, Any, int]], left: str = "") -> int:
        """
        Do it.

        @param main: does it, and returns the exit status; it is cancelled to break off.
        @param left: a sentence that says what is left when it was broken off.
        @return: the exit status.
        """
        told, self.left = "", left
        self.disk.start()
        with ExitStack() as stack:
            stack.callback(self.disk.stop)
            stack.enter_context(self.progress)
            signals = stack.enter_context(self.console.signals(self.reactor))
            for number in BREAKING:
                signals.watch(number, partial(self._signalled, SIGNAL_BASE + number))
            self._running = Deferred.fromCoroutine(main())
            try:
                status = await self._running
            except (CancelledError, NetsuiteError):
                if self._endedBy is None:
                    raise
                status, told = self._endedBy, self.left
            finally:
                await self.sessions.close()
        if told and status != BROKEN_PIPE:
            say(told)
        return status

    def breakOff(self, status: int) -> None:
        """
        End soon, and well.

        @param status: the exit status.
        """
        if self._endedBy is None:
            self._endedBy = status
            if self._running is not None:
                self._running.cancel()

    def _signalled(self, status: int) -> None:
        """Break off; the second time leave everything as it is."""
        if self._endedBy is None:
            self.breakOff(status)
            return
        self.progress.close()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        self.console.leave(status)
