"""
What it takes to start a command, and what comes of it: the interface between those who want one
run and the one who runs it; nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from twisted.internet.defer import Deferred

#: What a command writes.
OutputStream = Literal["stdout", "stderr"]

#: For L{RunningCommand.allow}: more than any command ever writes.
UNBOUNDED = 2**62


@dataclass(frozen=True)
class TerminalSize:
    """
    The size of a terminal, in characters.

    @ivar rows: its lines.
    @ivar cols: its columns.
    """

    rows: int
    cols: int


@dataclass(frozen=True)
class Account:
    """
    As whom a command runs.

    @ivar name: of the user.
    @ivar uid: its number.
    @ivar gid: the number of its group.
    @ivar groups: the numbers of all groups that it is in.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class ResourceLimits:
    """
    What the kernel grants a command; C{None} for what the server itself has.

    @ivar cpuTime: seconds of processor time for each process (RLIMIT_CPU).
    @ivar memory: bytes of address space for each process (RLIMIT_AS).
    @ivar processes: processes of its user at a time (RLIMIT_NPROC).
    @ivar openFiles: descriptors of each process (RLIMIT_NOFILE).
    @ivar fileSize: bytes of any file that it writes (RLIMIT_FSIZE).
    """

    cpuTime: int | None = None
    memory: int | None = None
    processes: int | None = None
    openFiles: int | None = None
    fileSize: int | None = None


@dataclass(frozen=True)
class Launch:
    """
    A command that is to be started.

    @ivar program: the whole path of what is started.
    @ivar argv: what it gets as its arguments, its own name first.
    @ivar env: its whole environment.
    @ivar cwd: where it runs.
    @ivar stdin: whether it can be written to; without, its standard input is empty.
    @ivar terminal: the size of the terminal that it has on all three streams, which then all are
        C{stdout}; C{None} for pipes.
    @ivar account: as whom it runs; C{None} for the server's own user.
    @ivar limits: what the kernel grants it.
    """

    program: bytes
    argv: Sequence[bytes]
    env: Mapping[bytes, bytes]
    cwd: bytes = b"/"
    stdin: bool = False
    terminal: TerminalSize | None = None
    account: Account | None = None
    limits: ResourceLimits = field(default_factory=ResourceLimits)


@dataclass(frozen=True)
class Exited:
    """
    The command ended by itself.

    @ivar code: its exit status, 0 to 255.
    """

    code: int


@dataclass(frozen=True)
class Signalled:
    """
    A signal ended the command.

    @ivar number: the signal.
    @ivar core: whether it left a core dump.
    """

    number: int
    core: bool = False


@dataclass(frozen=True)
class NotStarted:
    """
    The command was never started.

    @ivar errno: what the system says.
    @ivar what: what could not be done, as C{run /bin/nothing} or C{enter /nowhere}.
    @ivar own: whether this says nothing of the command, as the service itself has failed; its log
        tells why.
    """

    errno: int
    what: str
    own: bool = False


@dataclass(frozen=True)
class Lost:
    """
    Nobody knows how the command ended, as what watched it is gone.

    @ivar clear: whether it is known that nothing of it runs any more.
    """

    clear: bool = True


Ending = Exited | Signalled | NotStarted | Lost


class CommandReceiver(Protocol):
    """
    Gets what becomes of a command; nothing is called before the spawner has returned.

    One that raises has missed something: its command is killed, and L{Lost}.
    """

    def started(self, pid: int) -> None:
        """
        Learn that it runs.

        @param pid: the number of its first process, which is also that of its process group.
        """

    def outReceived(self, data: bytes) -> None:
        """Get a piece of standard output, of at most what was allowed."""

    def errReceived(self, data: bytes) -> None:
        """Get a piece of standard error, of at most what was allowed."""

    def stdinTaken(self, count: int) -> None:
        """
        Learn that there is room for more input.

        @param count: bytes of what was written that have reached the command's pipe.
        """

    def stdinLost(self) -> None:
        """Learn that the command reads no more: what is written from here on is dropped."""

    def outputWaits(self) -> None:
        """
        Learn, once, that the command's own process has ended while a stream may not be read.

        How it ended is told when all of its output was read, however long that takes, or after
        L{RunningCommand.end}.
        """

    def commandEnded(self, ending: Ending) -> None:
        """
        Learn how it ended; nothing comes after this.

        None of its processes is left, but for those that the kernel does not let go, and where
        the ending says otherwise.
        """


class RunningCommand(Protocol):
    """A command that was started, or is being started."""

    def allow(self, stream: OutputStream, count: int) -> None:
        """
        Let some of its output be read; nothing is, until this is called.

        @param stream: which.
        @param count: bytes, beside those that were allowed before.
        """

    def pause(self) -> None:
        """Read nothing for now, whatever was allowed."""

    def resume(self) -> None:
        """Read on."""

    def write(self, data: bytes) -> None:
        """
        Give it input.

        @param data: what it will read; kept until it does, so its writer bounds how much that is.
        """

    def endInput(self) -> None:
        """Let it read the end of its input, after all that was written."""

    def signal(self, number: int) -> None:
        """
        Send a signal to its process group; with a terminal, to the group in the foreground as well.

        @param number: the signal.
        """

    def resize(self, size: TerminalSize) -> None:
        """
        Change the size of its terminal, if it has one.

        @param size: the new one.
        """

    def end(self) -> None:
        """Ask the whole process group to end, and soon after kill it and all that has left it."""


class Spawner(Protocol):
    """Starts commands."""

    def __call__(self, launch: Launch, receiver: CommandReceiver) -> RunningCommand:
        """
        Start a command.

        @param launch: what, and how.
        @param receiver: gets what becomes of it; that it could not be started, too.
        @return: the command.
        """

    def stop(self) -> Deferred[None]:
        """
        Let go of all that it holds; what still runs is killed.

        @return: fires once nothing is left.
        """
