"""
The records of the exec service on a native session.

A channel is a number that the client chooses, each greater than all before; all records about one
command carry it, until END. What may come when is another matter: see L{rexec.machine}.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from twisted_netsuite.rexec.outcome import MAX_REASON, Outcome, SignalName
from twisted_netsuite.wire.session import RECORD_ROOM, Record

#: Bytes of a frame, unless a server says otherwise: a command with its environment is one record,
#: and that of a build has more of it than a piece of data.
FRAME = 256 * 1024 + RECORD_ROOM

#: Bytes of input or output in one record: what one read of a command's pipe gives at the most.
PIECE = 112 * 1024

#: Bytes of a word: Linux takes at most twice as many.
MAX_WORD = 64 * 1024

#: What HELLO asks for.
SERVICE = "exec"

#: Bytes that a stream may be ahead of its reader: enough for 200 Mbit/s over 80 ms. What the reader
#: has not taken is in its own memory, so it is the reader who chooses less.
DEFAULT_WINDOW = 2 * 1024 * 1024

#: Bytes that a client may let a stream be ahead: 1 Gbit/s around the world.
MAX_WINDOW = 64 * 1024 * 1024

#: Arguments and variables of one command: what fits in a frame is less, unless it is nothing but
#: empty words.
MAX_ARGUMENTS, MAX_VARIABLES = 16384, 1024

#: Characters of an idempotency key: a UUID has 36, and a digest 64.
MAX_KEY = 128

#: Characters of an account's name: Linux has 32.
MAX_USER = 64

#: Seconds that a command may be given at the least and at the most, which is thirty years.
LEAST_TIME, MOST_TIME = 0.001, 1e9

#: Seconds that a client may ask for, as a time to live: 30 days.
MAX_TTL = 30 * 24 * 3600

#: Bytes of a command line that a list shows.
MAX_SHOWN = 512

#: Commands that one record of a list holds, so that it fits in a frame.
MAX_LISTED = 32

Channel = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**62)]
#: Some 96 random bits in base32: who knows one can only use it as the identity that it belongs to.
CommandId = Annotated[str, Meta(pattern=r"\A[a-z2-7]{1,32}\Z", max_length=32)]
Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY)]
Bytes = Annotated[bytes, Meta(max_length=MAX_WORD)]
VariableName = Annotated[str, Meta(min_length=1, max_length=256)]
Side = Annotated[int, Meta(ge=0, le=65535)]
Stream = Literal["stdin", "stdout", "stderr"]
Disconnect = Literal["kill", "detach"]
When = Annotated[float, Meta(ge=0, le=1e12)]


class Terminal(msgspec.Struct, frozen=True, kw_only=True):
    """
    A terminal for a command.

    @ivar term: its type, which becomes TERM.
    @ivar rows: its lines.
    @ivar cols: its columns.
    """

    term: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._+-]{1,64}\Z", max_length=64)] = "dumb"
    rows: Side = 24
    cols: Side = 80


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """
    What came through a stream.

    @ivar count: bytes.
    @ivar sha256: their digest, 32 bytes.
    """

    count: Count
    sha256: Annotated[bytes, Meta(min_length=32, max_length=32)]


class Start(Record, frozen=True, kw_only=True, tag="start", tag_field="type"):
    """
    Client to server: run this.

    @ivar channel: a new one.
    @ivar argv: program and arguments; with C{shell} the one command line.
    @ivar shell: whether a shell is to read it.
    @ivar env: variables that are set for it.
    @ivar cwd: where it is to run.
    @ivar user: as whom it is to run.
    @ivar pty: the terminal that it is to have.
    @ivar stdin: whether input will come.
    @ivar timeLimit: seconds after which it is ended.
    @ivar onDisconnect: what becomes of it when its connection ends.
    @ivar ttl: seconds that it is kept after that, running or ended.
    @ivar key: names this wish: the same key from the same identity is the same command.
    @ivar stdoutCredit: bytes of standard output that may be sent before any CREDIT.
    @ivar stderrCredit: the same of standard error.
    """

    channel: Channel
    argv: Annotated[tuple[Bytes, ...], Meta(min_length=1, max_length=MAX_ARGUMENTS)]
    shell: bool = False
    env: Annotated[dict[VariableName, Bytes], Meta(max_length=MAX_VARIABLES)] = {}
    cwd: Annotated[bytes, Meta(max_length=4096)] | None = None
    user: Annotated[str, Meta(min_length=1, max_length=MAX_USER)] | None = None
    pty: Terminal | None = None
    stdin: bool = False
    timeLimit: Annotated[float, Meta(ge=LEAST_TIME, le=MOST_TIME)] | None = None
    onDisconnect: Disconnect = "kill"
    ttl: Annotated[int, Meta(ge=1, le=MAX_TTL)] | None = None
    key: Key | None = None
    stdoutCredit: Annotated[int, Meta(ge=0, le=MAX_WINDOW)] = DEFAULT_WINDOW
    stderrCredit: Annotated[int, Meta(ge=0, le=MAX_WINDOW)] = DEFAULT_WINDOW


class Attach(Record, frozen=True, kw_only=True, tag="attach", tag_field="type"):
    """
    Client to server: go on with a command that was started before.

    @ivar channel: a new one.
    @ivar id: the command.
    @ivar stdout: bytes of standard output that the client has; C{None} for as many as were
        credited.
    @ivar stderr: the same of standard error.
    @ivar stdoutCredit: as in START.
    @ivar stderrCredit: as in START.
    """

    channel: Channel
    id: CommandId
    stdout: Count | None = None
    stderr: Count | None = None
    stdoutCredit: Annotated[int, Meta(ge=0, le=MAX_WINDOW)] = DEFAULT_WINDOW
    stderrCredit: Annotated[int, Meta(ge=0, le=MAX_WINDOW)] = DEFAULT_WINDOW


class Started(Record, frozen=True, kw_only=True, tag="started", tag_field="type"):
    """
    Server to client: the command runs, or has run.

    @ivar channel: which.
    @ivar id: names the command from now on.
    @ivar known: whether it was started before, by the same key or another connection.
    @ivar stdout: the place in standard output from which on it will be sent.
    @ivar stderr: the same of standard error.
    @ivar stdin: bytes of input that may be sent before any CREDIT.
    @ivar stdinAt: bytes of input that the command has been given already.
    @ivar stdinOpen: whether it takes more.
    @ivar pty: whether it has a terminal.
    """

    channel: Channel
    id: CommandId
    known: bool = False
    stdout: Count = 0
    stderr: Count = 0
    stdin: Count = 0
    stdinAt: Count = 0
    stdinOpen: bool = False
    pty: bool = False


class Stdin(Record, frozen=True, kw_only=True, tag="stdin", tag_field="type"):
    """
    Client to server: input.

    @ivar channel: whose.
    @ivar data: at least one byte, and no more than there is credit for.
    """

    channel: Channel
    data: Annotated[bytes, Meta(min_length=1, max_length=PIECE)]


class StdinEof(Record, frozen=True, kw_only=True, tag="stdin-eof", tag_field="type"):
    """
    Client to server: no more input comes. Server to client: no more is read.

    @ivar channel: whose.
    """

    channel: Channel


class Stdout(Record, frozen=True, kw_only=True, tag="stdout", tag_field="type"):
    """
    Server to client: output.

    @ivar channel: whose.
    @ivar data: at least one byte, and no more than there is credit for.
    """

    channel: Channel
    data: Annotated[bytes, Meta(min_length=1, max_length=PIECE)]


class Stderr(Record, frozen=True, kw_only=True, tag="stderr", tag_field="type"):
    """
    Server to client: what the command writes to standard error.

    @ivar channel: whose.
    @ivar data: at least one byte, and no more than there is credit for.
    """

    channel: Channel
    data: Annotated[bytes, Meta(min_length=1, max_length=PIECE)]


class Credit(Record, frozen=True, kw_only=True, tag="credit", tag_field="type"):
    """
    Either way, to the one who sends a stream: so many bytes of it have been taken, and as many more
    may be sent.

    @ivar channel: whose.
    @ivar stream: which.
    @ivar count: bytes.
    """

    channel: Channel
    stream: Stream
    count: Annotated[int, Meta(ge=1, le=MAX_WINDOW)]


class Signal(Record, frozen=True, kw_only=True, tag="signal", tag_field="type"):
    """
    Client to server: send the command's process group a signal.

    @ivar channel: whose.
    @ivar name: without SIG.
    """

    channel: Channel
    name: SignalName


class Resize(Record, frozen=True, kw_only=True, tag="resize", tag_field="type"):
    """
    Client to server: the terminal has another size.

    @ivar channel: whose.
    @ivar rows: lines.
    @ivar cols: columns.
    """

    channel: Channel
    rows: Side
    cols: Side


class Cancel(Record, frozen=True, kw_only=True, tag="cancel", tag_field="type"):
    """
    Client to server: end the command, by TERM, and by KILL after a grace; END follows.

    @ivar channel: whose.
    """

    channel: Channel


class Detach(Record, frozen=True, kw_only=True, tag="detach", tag_field="type"):
    """
    Client to server: send no more about this command, which runs on; DETACHED follows.

    @ivar channel: whose.
    """

    channel: Channel


class Detached(Record, frozen=True, kw_only=True, tag="detached", tag_field="type"):
    """
    Server to client, the last of a channel: the command runs on, and this channel follows it no
    more, as was asked for by DETACH, or by another connection with ATTACH.

    @ivar channel: whose.
    @ivar reason: a sentence.
    """

    channel: Channel
    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""


class End(Record, frozen=True, kw_only=True, tag="end", tag_field="type"):
    """
    Server to client, the last of a channel: how the command ended, and what it wrote.

    @ivar channel: whose.
    @ivar outcome: how.
    @ivar stdout: all of standard output, from its first byte.
    @ivar stderr: all of standard error.
    @ivar stdoutHere: what was sent of it on this channel, where that is not all.
    @ivar stderrHere: the same of standard error.
    """

    channel: Channel
    outcome: Outcome
    stdout: Tally
    stderr: Tally
    stdoutHere: Tally | None = None
    stderrHere: Tally | None = None


class List(Record, frozen=True, kw_only=True, tag="list", tag_field="type"):
    """
    Client to server: which commands of mine are there?

    @ivar channel: a new one, for the answer.
    """

    channel: Channel


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """
    One command in a list.

    @ivar id: its name.
    @ivar command: its words, cut.
    @ivar started: seconds since 1970.
    @ivar attached: whether a connection follows it.
    @ivar stdout: bytes of standard output so far.
    @ivar stderr: bytes of standard error so far.
    @ivar outcome: how it ended; C{None} while it runs.
    @ivar ended: seconds since 1970.
    """

    id: CommandId
    command: Annotated[bytes, Meta(max_length=MAX_SHOWN)]
    started: When
    attached: bool = False
    stdout: Count = 0
    stderr: Count = 0
    outcome: Outcome | None = None
    ended: When | None = None


class Listed(Record, frozen=True, kw_only=True, tag="listed", tag_field="type"):
    """
    Server to client: commands.

    @ivar channel: that of the LIST.
    @ivar commands: some of them, the oldest first.
    @ivar last: whether these are the last.
    """

    channel: Channel
    commands: Annotated[tuple[Listing, ...], Meta(max_length=MAX_LISTED)] = ()
    last: bool = True


class Kill(Record, frozen=True, kw_only=True, tag="kill", tag_field="type"):
    """
    Client to server: signal or end a command that this connection does not follow.

    @ivar channel: a new one, for the answer.
    @ivar id: the command.
    @ivar signal: what to send; C{None} to end it as CANCEL does.
    """

    channel: Channel
    id: CommandId
    signal: SignalName | None = None


class Killed(Record, frozen=True, kw_only=True, tag="killed", tag_field="type"):
    """
    Server to client: it was done; for a command that is to end, it has ended.

    @ivar channel: that of the KILL.
    @ivar outcome: how the command ended; C{None} while it runs.
    """

    channel: Channel
    outcome: Outcome | None = None


RECORDS: tuple[type[Record], ...] = (
    Start,
    Attach,
    Started,
    Stdin,
    StdinEof,
    Stdout,
    Stderr,
    Credit,
    Signal,
    Resize,
    Cancel,
    Detach,
    Detached,
    End,
    List,
    Listed,
    Kill,
    Killed,
)
