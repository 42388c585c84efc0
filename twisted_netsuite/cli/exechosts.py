"""
C{netsuite exec --hosts}: one command on many servers, so many at a time; whose output is told apart
by lines or by blocks.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredLock,
    FirstError,
    gatherResults,
)
from twisted.internet.interfaces import IConsumer, IDelayedCall, IProducer, IPushProducer
from zope.interface import implementer

from twisted_netsuite.cli.execnative import BROKEN_PIPE, STANDARD, Console, Server, Wish, howItEnded
from twisted_netsuite.cli.run import INTERRUPTED, say
from twisted_netsuite.cli.streams import OutputDescriptor, written
from twisted_netsuite.errors import ConfigurationError, LimitExceeded, NetsuiteError
from twisted_netsuite.rexec.outcome import SIGNAL_BASE, Exited, Outcome
from twisted_netsuite.wire.text import cleanText

#: Servers of one call: what a person can still read a summary of.
MAX_HOSTS = 100_000

#: Bytes of a file of hosts: so many of the longest addresses.
MAX_HOSTS_FILE = 32 * 1024 * 1024

#: Bytes of a line that are kept until its end comes; a longer one is broken there.
MAX_LINE = 64 * 1024

#: Bytes that a stream of one server may be ahead: with the most servers at a time they and what is
#: made of them stay below 200 MiB.
WINDOW = 128 * 1024

#: Bytes of a block that stay in memory; what is over goes to a temporary file.
MAX_IN_MEMORY = 64 * 1024

#: Bytes of a block at all: a disk is filled by a few such.
MAX_BLOCK = 1024 * 1024 * 1024

#: Bytes of a block that are printed at a time.
PIECE = 64 * 1024

#: Seconds between two changes of the progress line: what an eye can follow.
PROGRESS_INTERVAL = 0.1

#: The exit status tells the number of hosts that failed, up to this; one more stands for all above,
#: as with GNU parallel.
MOST_COUNTED = 100


def readHosts(*texts: str) -> list[str]:
    """
    Read which servers there are.

    @param texts: addresses with commas between them, or C{@} and a file with one on each line,
        where C{#} begins a comment.
    @return: the addresses in their order, each once.
    @raise ConfigurationError: when the file cannot be read, or there is no address.
    """
    hosts = list(dict.fromkeys(each for text in texts for each in _hostsIn(text)))
    if len(hosts) > MAX_HOSTS:
        raise ConfigurationError(
            f"--hosts names {len(hosts)} servers; {MAX_HOSTS} is the most, so give them in parts."
        )
    return hosts


def _hostsIn(text: str) -> list[str]:
    if text.startswith("@"):
        found = [line.partition("#")[0].strip() for line in _linesOf(text[1:])]
    else:
        found = [each.strip() for each in text.split(",")]
    hosts = [each for each in found if each]
    if not hosts:
        raise ConfigurationError(f"--hosts {text!r} names no server; give ADDRESSes.")
    return hosts


def _linesOf(path: str) -> list[str]:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_HOSTS_FILE + 1)
        if len(content) > MAX_HOSTS_FILE:
            raise ConfigurationError(
                f"The file of hosts {path!r} has more than {MAX_HOSTS_FILE} bytes; split it."
            )
        return content.decode("utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(
            f"The file of hosts {path!r} cannot be read: "
            f"{(error.strerror or str(error)).lower()}; give one that can."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"The file of hosts {path!r} is not UTF-8 at byte {error.start}; save it as UTF-8."
        ) from error


class SharedOutput:
    """
    One output of this process, which many streams write to.

    While it takes nothing all of their producers wait.
    """

    def __init__(self, output: OutputDescriptor, before: Callable[[], object]) -> None:
        """
        @param output: takes the bytes.
        @param before: called before each piece, such as to clear the progress line.
        """
        self.output = output
        self._before = before
        self._producers: list[IPushProducer] = []
        self._waiting: list[Deferred[None]] = []
        self._paused = False
        output.registerProducer(_Gate(self._pause, self._resume), True)

    def write(self, data: bytes) -> None:
        """
        Write.

        @param data: whole lines.
        """
        if data:
            self._before()
            self.output.write(data)

    def add(self, producer: IPushProducer) -> None:
        """
        Pause and resume one more producer.

        @param producer: of what is written here.
        """
        self._producers.append(producer)
        if self._paused:
            producer.pauseProducing()

    def remove(self, producer: IPushProducer) -> None:
        """
        Let a producer go.

        @param producer: one that was added.
        """
        self._producers.remove(producer)

    def whenRoom(self) -> Deferred[None]:
        """
        Wait until more may be written.

        @return: fires when it may.
        """
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        if not self._paused:
            self._resume()
        return waiting

    def _pause(self) -> None:
        self._paused = True
        for each in list(self._producers):
            each.pauseProducing()

    def _resume(self) -> None:
        self._paused = False
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
        for each in list(self._producers):
            if self._paused:
                # What one of them wrote has filled it again.
                return
            each.resumeProducing()


@implementer(IPushProducer)
class _Gate:
    """Stands for all producers of a shared output."""

    def __init__(self, pause: Callable[[], object], resume: Callable[[], object]) -> None:
        self._pause = pause
        self._resume = resume

    def pauseProducing(self) -> None:
        self._pause()

    def resumeProducing(self) -> None:
        self._resume()

    def stopProducing(self) -> None:
        """Nobody stops it: an output that is broken drops what comes."""


@implementer(IConsumer)
class PrefixedLines:
    """Puts a host's name before each of its lines, and hands on only whole ones."""

    def __init__(self, shared: SharedOutput, prefix: str, cleaned: bool) -> None:
        """
        @param shared: gets the lines.
        @param prefix: what stands before each.
        @param cleaned: whether what could control a terminal is taken out.
        """
        self._shared = shared
        self._prefix = cleanText(prefix).encode("utf-8", "replace")
        self._cleaned = cleaned
        self._partial = bytearray()
        self._producer: IPushProducer | None = None

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Let it wait whenever the output takes nothing."""
        assert streaming, "Streams of commands push."
        self._producer = IPushProducer(producer)
        self._shared.add(self._producer)

    def unregisterProducer(self) -> None:
        """The stream has ended: a last line needs no end of its own."""
        if self._producer is not None:
            self._shared.remove(self._producer)
            self._producer = None
        self._shared.write(self._line(bytes(self._partial)) if self._partial else b"")
        self._partial.clear()

    def write(self, data: bytes) -> None:
        """Take a piece of the stream."""
        end = data.rfind(b"\n") + 1
        if end:
            lines = (bytes(self._partial) + data[:end]).split(b"\n")[:-1]
            self._partial[:] = data[end:]
            self._shared.write(b"".join(map(self._line, lines)))
        else:
            self._partial += data
        if len(self._partial) >= MAX_LINE:
            self._shared.write(self._line(bytes(self._partial)))
            self._partial.clear()

    def _line(self, line: bytes) -> bytes:
        if self._cleaned:
            cells = line.removesuffix(b"\r").decode("utf-8", "replace").split("\t")
            line = "\t".join(map(cleanText, cells)).encode()
        return self._prefix + line + b"\n"


@implementer(IConsumer)
class Block:
    """
    Keeps what a host writes on one stream until it is printed: a little in memory, more in a file.

    @ivar count: bytes.
    """

    def __init__(self) -> None:
        self.count = 0
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(MAX_IN_MEMORY)  # noqa: SIM115

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Let it produce: a file takes what it is given."""

    def unregisterProducer(self) -> None:
        """The stream has ended."""

    def write(self, data: bytes) -> None:
        """
        Keep a piece.

        @param data: the bytes.
        @raise LimitExceeded: when there are too many, or the disk takes no more.
        """
        self.count += len(data)
        if self.count > MAX_BLOCK:
            raise LimitExceeded(
                f"It wrote more than the {MAX_BLOCK} bytes that a block holds; take it --prefix."
            )
        try:
            self._file.write(data)
        except OSError as error:
            raise LimitExceeded(
                f"Its output cannot be kept in {tempfile.gettempdir()}: "
                f"{(error.strerror or str(error)).lower()}; set TMPDIR, or take it --prefix."
            ) from error

    def pieces(self) -> Iterator[bytes]:
        """
        Read it again.

        @return: all of it in pieces; the last ends a line.
        """
        self._file.seek(0)
        last = b""
        while piece := self._file.read(PIECE):
            yield piece
            last = piece
        if last and not last.endswith(b"\n"):
            yield b"\n"

    def close(self) -> None:
        """Forget it."""
        self._file.close()


class Progress:
    """A line on a terminal that says how far all is, and gives way to what else is printed."""

    def __init__(self, reactor: Any, output: OutputDescriptor, total: int, shown: bool) -> None:
        """
        @param reactor: waits between two changes.
        @param output: the terminal.
        @param total: how many hosts there are.
        @param shown: whether it is one.
        """
        self.done = self.running = self.failed = 0
        self._reactor = reactor
        self._output = output
        self._total = total
        self._shown = shown
        self._visible = False
        self._next: IDelayedCall | None = None

    def changed(self) -> None:
        """Show how it is now, soon."""
        if self._shown and self._next is None:
            self._next = self._reactor.callLater(PROGRESS_INTERVAL, self._show)

    def clear(self) -> None:
        """Give way; it comes back."""
        if self._visible:
            self._visible = False
            self._output.write(b"\r\x1b[K")
            self.changed()

    def stop(self) -> None:
        """Vanish for good."""
        self.clear()
        self._shown = False
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _show(self) -> None:
        self._next = None
        if self._output.pending:
            # A terminal that takes nothing needs no news.
            self.changed()
            return
        self._visible = True
        text = f"{self.done} of {self._total} done, {self.running} running, {self.failed} failed"
        self._output.write(f"\r\x1b[K{text}".encode())


async def runOnHosts(
    reactor: Any,
    servers: Sequence[Server],
    wish: Wish,
    *,
    parallel: int,
    blocks: bool,
    console: Console = STANDARD,
) -> int:
    """
    Run a command on many servers.

    @param reactor: connects.
    @param servers: where.
    @param wish: what.
    @param parallel: on how many at a time.
    @param blocks: whether each host's output comes as a whole when it is done; else it comes by
        lines with the host's address before each.
    @param console: what this process has.
    @return: the exit status: the number of hosts where it failed, 101 for more than 100.
    @raise ConfigurationError: when one of the addresses can be none, before it runs anywhere.
    """
    for server in servers:
        server.endpoint(reactor)
    return await _Round(reactor, servers, wish, blocks, console).run(parallel)


class _Round:
    """One command on many servers."""

    def __init__(
        self, reactor: Any, servers: Sequence[Server], wish: Wish, blocks: bool, console: Console
    ) -> None:
        self._reactor = reactor
        self._servers = servers
        self._queue = iter(servers)
        self._wish = wish
        self._blocks = blocks
        self._console = console
        self._failures: list[tuple[str, str]] = []
        self._fault: NetsuiteError | None = None
        self._stoppedBy: int | None = None
        self._work: Deferred[Any] | None = None
        #: One block is printed at a time.
        self._printing = DeferredLock()
        out = OutputDescriptor(reactor, console.stdout, self._broken, self._faulty)
        err = OutputDescriptor(reactor, console.stderr, self._broken, self._faulty)
        self._progress = Progress(reactor, err, len(servers), os.isatty(console.stderr))
        self._out = SharedOutput(out, self._progress.clear)
        self._err = SharedOutput(err, self._progress.clear)

    async def run(self, parallel: int) -> int:
        with self._console.signals(self._reactor) as signals:
            signals.watch(signal.SIGINT, lambda: self._stop(INTERRUPTED))
            for number in (signal.SIGTERM, signal.SIGHUP):
                signals.watch(number, lambda number=number: self._stop(SIGNAL_BASE + number))
            self._work = Deferred.fromCoroutine(self._all(min(parallel, len(self._servers))))
            try:
                await self._work
            except (CancelledError, FirstError):
                if self._stoppedBy is None:
                    raise
            finally:
                self._progress.stop()
                self._out.output.close()
                self._err.output.close()
        return self._status()

    async def _all(self, parallel: int) -> None:
        lanes = [Deferred.fromCoroutine(self._lane()) for _ in range(parallel)]
        await gatherResults(lanes, consumeErrors=True)
        self._progress.stop()
        self._summarize()
        await written(self._out.output)
        await written(self._err.output)

    def _status(self) -> int:
        if self._fault is not None:
            raise self._fault
        if self._stoppedBy is None:
            return min(len(self._failures), MOST_COUNTED + 1)
        if self._stoppedBy != BROKEN_PIPE:
            say(f"stopped when {self._progress.done} of {len(self._servers)} hosts were done.")
        return self._stoppedBy

    async def _lane(self) -> None:
        """Take one host after another."""
        for server in self._queue:
            self._progress.running += 1
            self._progress.changed()
            failure = await self._visit(server)
            self._progress.running -= 1
            self._progress.done += 1
            if failure:
                self._progress.failed += 1
                self._failures.append((server.address, failure))
            self._progress.changed()

    async def _visit(self, server: Server) -> str:
        """Run the command on a host, print what it writes, and tell why it failed, if it did."""
        if not self._blocks:
            name = f"{server.address}: "
            out = PrefixedLines(self._out, name, os.isatty(self._console.stdout))
            err = PrefixedLines(self._err, name, os.isatty(self._console.stderr))
            return await self._follow(server, out, err)
        kept = Block(), Block()
        try:
            failure = await self._follow(server, *kept)
            await self._printing.run(self._print, server.address, failure, *kept)
        finally:
            for block in kept:
                block.close()
        return failure

    async def _follow(self, server: Server, out: Any, err: Any) -> str:
        try:
            session = await server.connect(self._reactor)
            try:
                command = await session.start(
                    **self._wish.options(), window=WINDOW, stdout=out, stderr=err
                )
                ended = await command.whenEnded()
            except NetsuiteError:
                # That server hears a proper end, too.
                await session.close()
                raise
            finally:
                closing = session.close()
            await closing
        except NetsuiteError as error:
            return error.sentence
        return _failure(ended.outcome)

    def _print(self, address: str, failure: str, out: Block, err: Block) -> Deferred[None]:
        return Deferred.fromCoroutine(self._printBlock(address, failure, out, err))

    async def _printBlock(self, address: str, failure: str, out: Block, err: Block) -> None:
        self._out.write(cleanText(f"== {address}: {failure or 'done'}").encode() + b"\n")
        for block, shared, descriptor in (
            (out, self._out, self._console.stdout),
            (err, self._err, self._console.stderr),
        ):
            lines = PrefixedLines(shared, "", True) if os.isatty(descriptor) else shared
            for piece in block.pieces():
                await shared.whenRoom()
                lines.write(piece)

    def _summarize(self) -> None:
        total, failed = len(self._servers), len(self._failures)
        # What failed with the connection names its server by itself.
        lines = [why if address in why else f"{address}: {why}" for address, why in self._failures]
        lines.append(
            f"{failed} of {total} hosts failed."
            if failed
            else f"{total} of {total} hosts are done."
        )
        text = "".join(cleanText(f"netsuite: {line}") + "\n" for line in lines)
        self._err.write(text.encode("utf-8", "replace"))

    # What happens to this process.

    def _stop(self, status: int) -> None:
        if self._stoppedBy is None:
            self._stoppedBy = status
            if self._work is not None:
                self._work.cancel()

    def _broken(self) -> None:
        """Nobody reads the output any more."""
        self._stop(BROKEN_PIPE)

    def _faulty(self, error: NetsuiteError) -> None:
        """The output cannot be used."""
        self._fault = self._fault or error
        self._stop(error.exitStatus)


def _failure(outcome: Outcome) -> str:
    if isinstance(outcome, Exited):
        return f"exited with {outcome.code}." if outcome.code else ""
    return howItEnded(outcome)
