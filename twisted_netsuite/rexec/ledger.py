"""
Which commands were started, and how they ended, in SQLite: what a key has promised survives a crash
of the server and of the machine. What they wrote is kept elsewhere; see L{rexec.spool}.

The state directory holds C{ledger.sqlite}, with what SQLite puts beside it, and C{spool/ID} for the
output of each command.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_netsuite.errors import ConfigurationError, Denied, LimitExceeded
from twisted_netsuite.rexec.messages import MAX_SHOWN, Disconnect, Tally
from twisted_netsuite.rexec.outcome import Lost, Outcome
from twisted_netsuite.rexec.spool import removeSpools
from twisted_netsuite.trust.durable import DurableDirectory

#: Commands that wait for the disk at a time. One commit serves all that wait, so more of them mean
#: a disk that has stopped, and commands that had better be refused.
MAX_WAITING = 1024

#: Directories that are looked at in one sweep: about a second's work.
MAX_SWEPT = 1000

#: Seconds to wait for somebody who looks at the ledger with a program of SQLite's.
BUSY_TIMEOUT = 5.0

#: How a command ended that ran when the server did not end it.
STOPPED = Lost(reason="The server stopped while it ran.")

#: What each version of the ledger adds to the one before it; their number is the newest version.
MIGRATIONS = (
    """
    CREATE TABLE command (
        id TEXT PRIMARY KEY NOT NULL,
        identity TEXT NOT NULL,
        key TEXT,
        digest BLOB NOT NULL,
        command BLOB NOT NULL,
        pty INTEGER NOT NULL,
        started REAL NOT NULL,
        onDisconnect TEXT NOT NULL,
        ttl REAL NOT NULL,
        stdinAt INTEGER NOT NULL,
        stdoutCredited INTEGER NOT NULL,
        stderrCredited INTEGER NOT NULL,
        outcome TEXT,
        stdout TEXT,
        stderr TEXT,
        ended REAL,
        expires REAL,
        UNIQUE (identity, key)
    );
    """,
)

#: What the name of a command's directory looks like.
_ID = re.compile(r"[a-z2-7]{1,32}")


class LedgerUnavailable(LimitExceeded):
    """The ledger cannot be written, so what must be in it is not done."""


class KeyTaken(Denied):
    """The identity has used the key for another command, which is still kept."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is kept of a command.

    @ivar id: its name.
    @ivar identity: whose it is, as text.
    @ivar key: by which it is to be started only once; C{None} for a command that is kept only so
        that it can be attached again.
    @ivar digest: of all that was asked for: the same key with another wish is a mistake.
    @ivar command: its words; the first L{MAX_SHOWN} bytes are kept.
    @ivar pty: whether it has a terminal.
    @ivar started: seconds since 1970.
    @ivar onDisconnect: what becomes of it when its connection ends.
    @ivar ttl: seconds that it is kept once it has ended.
    @ivar stdinAt: bytes of input that it was given.
    @ivar stdoutCredited: bytes of standard output that the client has taken.
    @ivar stderrCredited: the same of standard error.
    @ivar outcome: how it ended; C{None} while it runs.
    @ivar stdout: all that came through standard output; C{None} while it runs, and when it was
        lost.
    @ivar stderr: the same of standard error.
    @ivar ended: seconds since 1970; C{None} while it runs.
    @ivar expires: when it is forgotten, in seconds since 1970; C{None} while it runs.
    """

    id: str
    identity: str
    key: str | None = None
    digest: bytes = b""
    command: bytes = b""
    pty: bool = False
    started: float
    onDisconnect: Disconnect = "kill"
    ttl: float
    stdinAt: int = 0
    stdoutCredited: int = 0
    stderrCredited: int = 0
    outcome: Outcome | None = None
    stdout: Tally | None = None
    stderr: Tally | None = None
    ended: float | None = None
    expires: float | None = None


_COLUMNS = Kept.__struct_fields__
_JSON = ("outcome", "stdout", "stderr")
#: What never changes after a command has been started.
_FIXED = ("id", "identity", "key", "digest", "command", "pty", "started", "onDisconnect", "ttl")
_CHANGING = tuple(column for column in _COLUMNS if column not in _FIXED)

# Nothing but names of columns comes into these.
_INSERT = (
    f"INSERT INTO command ({', '.join(_COLUMNS)}) "  # noqa: S608
    f"VALUES ({', '.join(f':{column}' for column in _COLUMNS)})"
)
_UPDATE = (
    f"UPDATE command SET {', '.join(f'{column} = :{column}' for column in _CHANGING)} "  # noqa: S608
    "WHERE id = :id"
)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM command ORDER BY started, id"  # noqa: S608
_END = (
    "UPDATE command SET outcome = :outcome, ended = :now, expires = :now + ttl "
    "WHERE outcome IS NULL"
)


def _toColumns(row: Kept) -> dict[str, Any]:
    columns = msgspec.structs.asdict(row)
    columns["command"] = row.command[:MAX_SHOWN]
    for name in _JSON:
        if columns[name] is not None:
            columns[name] = msgspec.json.encode(columns[name]).decode()
    return columns


def _fromColumns(values: tuple[Any, ...]) -> Kept:
    columns = dict(zip(_COLUMNS, values, strict=True))
    for name in _JSON:
        if columns[name] is not None:
            columns[name] = msgspec.json.decode(columns[name])
    columns["pty"] = bool(columns["pty"])
    return msgspec.convert(columns, Kept)


def _insert(row: Kept, connection: sqlite3.Connection) -> None:
    try:
        connection.execute(_INSERT, _toColumns(row))
    except sqlite3.IntegrityError as error:
        raise KeyTaken(
            "The key names another command, which is kept; use another key, or none."
        ) from error


def _update(row: Kept, connection: sqlite3.Connection) -> None:
    connection.execute(_UPDATE, _toColumns(row))


def _delete(ids: list[tuple[str]], connection: sqlite3.Connection) -> None:
    connection.executemany("DELETE FROM command WHERE id = ?", ids)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Some failures have ended it already.
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _reasonOf(error: sqlite3.Error | OSError) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return (reason or str(error)).lower()


def _syncDirectory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LedgerFile:
    """
    The state directory and the database in it, as one thread at a time uses them.

    @ivar directory: the state directory.
    """

    def __init__(self, directory: str) -> None:
        """
        @param directory: the state directory; it is made when it is opened, its parent is not.
        """
        self.directory = directory
        self.spools = os.path.join(directory, "spool")
        self._path = os.path.join(directory, "ledger.sqlite")
        self._lock = -1
        self._identity = (0, 0)
        self._connection: sqlite3.Connection | None = None

    # Opening.

    def open(self, now: float) -> list[Kept]:
        """
        Take the directory, forget what has expired, and end what ran when the server did not.

        @param now: seconds since 1970.
        @return: all commands that are kept, the oldest first.
        @raise ConfigurationError: when it cannot be used.
        """
        with self._usable():
            connection = self._connect()
            with _transaction(connection):
                stopped = msgspec.json.encode(STOPPED).decode()
                connection.execute(_END, {"outcome": stopped, "now": now})
                connection.execute("DELETE FROM command WHERE expires <= ?", (now,))
                return self._rows(connection)

    def check(self) -> None:
        """
        Take the directory and give it back; it is made if need be, and else nothing is changed.

        @raise ConfigurationError: when it cannot be used.
        """
        with self._usable():
            self._rows(self._connect())
            self.close()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Take the directory, and give it back when that fails, or the block does."""
        try:
            self._prepare()
            yield
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self._unusable(_reasonOf(error)) from error
        except BaseException:
            self.close()
            raise

    def _unusable(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"The state directory {self.directory!r} cannot be used: {reason}; "
            "mend that, or name another directory."
        )

    def _prepare(self) -> None:
        with suppress(FileExistsError):
            os.mkdir(self.directory, 0o700)
            _syncDirectory(os.path.dirname(os.path.abspath(self.directory)))
        with DurableDirectory(Path(self.directory)) as directory:
            directory.refuseForeign()
            directory.refuseOthers()
            self._takeLock()
            self._makeFile()
            # Brings the directory to the disk, and with it what was made before.
            with directory.make("spool"):
                pass

    def _makeFile(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise self._unusable("ledger.sqlite in it is no file")
            # It may have come back from a backup; SQLite makes what stands beside it like it.
            os.fchmod(descriptor, 0o600)
            self._identity = (status.st_dev, status.st_ino)
        finally:
            os.close(descriptor)

    def _takeLock(self) -> None:
        # Of the directory itself: a file made for that could be removed, and be made anew.
        self._lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"Another server uses the state directory {self.directory!r}; stop that one, or "
                "give each a directory of its own."
            ) from error

    def _connect(self) -> sqlite3.Connection:
        # Whichever thread it is, there is one at a time.
        self._connection = connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        self._migrate(connection)
        return connection

    def _rows(self, connection: sqlite3.Connection) -> list[Kept]:
        try:
            return [_fromColumns(row) for row in connection.execute(_SELECT)]
        except msgspec.MsgspecError as error:
            raise self._unusable(f"the ledger in it is damaged, {error}") from error

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring the database to the newest version, if it is one of ours and whole."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version > len(MIGRATIONS):
            raise ConfigurationError(
                f"The ledger {self._path!r} was written by a newer netsuite (version {version}, "
                f"here {len(MIGRATIONS)}); run that one, or name another directory."
            )
        if version == 0 and tables:
            raise self._unusable("ledger.sqlite in it is a database of another program")
        (check,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if check != "ok":
            raise self._unusable(f"the ledger in it is damaged, {check}")
        connection.execute("PRAGMA journal_mode = WAL")
        # A commit is on the disk when it returns; WAL by itself only promises that it is whole.
        connection.execute("PRAGMA synchronous = FULL")
        if version < len(MIGRATIONS):
            with _transaction(connection):
                for migration in MIGRATIONS[version:]:
                    connection.execute(migration)
                connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    # Working.

    def perform(self, works: Iterable[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        """
        Do several things in one transaction.

        @param works: each gets the connection.
        @return: what each has returned, or the L{KeyTaken} that it has raised. All is on the disk.
        @raise LedgerUnavailable: when that failed; then none of it was done.
        """
        connection = self._connection
        if connection is None:
            raise LedgerUnavailable("The ledger of commands is not open; nothing can be kept.")
        results: list[Any] = []
        try:
            self._refuseReplaced()
            with _transaction(connection):
                for work in works:
                    try:
                        results.append(work(connection))
                    except KeyTaken as error:
                        results.append(error)
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailable(
                f"The ledger of commands cannot be written: {_reasonOf(error)}; its operator has "
                "to mend that."
            ) from error
        return results

    def _refuseReplaced(self) -> None:
        """What is written to a file that has lost its name, SQLite takes, and nobody finds."""
        status = os.stat(self._path)
        if (status.st_dev, status.st_ino) != self._identity:
            raise OSError(errno.ESTALE, "another file has taken its place")

    def sweep(self, connection: sqlite3.Connection) -> int:
        """
        Remove the output of commands that are not known.

        @param connection: to the database.
        @return: how many directories are gone.
        """
        removed = 0
        with os.scandir(self.spools) as entries:
            for entry in entries:
                if removed == MAX_SWEPT:
                    break
                ours = _ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
                if ours and not self._knows(connection, entry.name):
                    with suppress(OSError):
                        removeSpools(entry.path)
                    removed += not os.path.lexists(entry.path)
        return removed

    def _knows(self, connection: sqlite3.Connection, name: str) -> bool:
        found = connection.execute("SELECT 1 FROM command WHERE id = ?", (name,))
        return found.fetchone() is not None

    def close(self) -> None:
        """Close the database, and give the directory back."""
        connection, self._connection = self._connection, None
        descriptor, self._lock = self._lock, -1
        try:
            if connection is not None:
                connection.close()
        finally:
            if descriptor >= 0:
                os.close(descriptor)


@dataclass
class _Task:
    """
    Something that waits for the disk.

    @ivar work: what is to be done.
    @ivar done: fires when it is.
    @ivar row: what is written again, when it fails, as soon as the ledger can be written.
    """

    work: Callable[[sqlite3.Connection], Any]
    done: Deferred[Any]
    row: Kept | None = None


class Ledger:
    """
    The ledger of one server: what it is told at a time goes to the disk together, in the order in
    which it was told, and in a thread.

    @ivar directory: the state directory.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        directory: str,
        reactor: Any,
        *,
        inThread: Callable[[Callable[[], Any]], Deferred[Any]] | None = None,
    ) -> None:
        """
        @param directory: the state directory; its parent exists.
        @param reactor: tells the time, and has the threads that wait for the disk.
        @param inThread: calls something in a thread; by default one of the reactor's.
        """
        self.directory = directory
        self._clock: IReactorTime = reactor
        self._inThread = inThread or _threadsOf(reactor)
        self._file = LedgerFile(directory)
        # From open until all is closed; and from when until when it takes anything.
        self._inUse = False
        self._takes = False
        self._waiting: list[_Task] = []
        self._inFlight: list[_Task] | None = None
        self._closing: list[Deferred[None]] = []
        # Ends and offsets that could not be written, by command; no more than there are commands.
        self._owed: dict[str, Kept] = {}
        self._failing = False

    def open(self) -> Deferred[list[Kept]]:
        """
        Take the state directory, which is made if need be; forget what has expired; and write down
        that what ran when the server did not is lost.

        @return: fires with all commands that are kept, the oldest first; all have ended. Fails with
            L{ConfigurationError} when another server uses the directory, or it cannot be used.
        """
        if self._inUse:
            return fail(
                ConfigurationError(
                    f"The state directory {self.directory!r} is in use here; close it, and wait "
                    "until it is."
                )
            )
        self._inUse = True
        done = maybeDeferred(self._inThread, partial(self._file.open, self._clock.seconds()))
        return done.addCallbacks(self._opened, self._notOpened)

    def _opened(self, rows: list[Kept]) -> list[Kept]:
        self._takes = not self._closing
        self._pump()
        return rows

    def _notOpened(self, failure: Failure) -> Failure:
        self._closed(None)
        return failure

    def check(self) -> None:
        """
        See that the state directory can be used, which is made if need be.

        This waits for the disk, so call it before the service listens.

        @raise ConfigurationError: when another server uses it, or it cannot be used.
        """
        if not self._inUse:
            self._file.check()

    def spoolDirectory(self, id: str) -> str:
        """
        Tell where the output of a command is kept; there is nothing before L{begin} has fired.

        @param id: the command.
        @return: a directory, which need not exist; the one it is in does.
        """
        return os.path.join(self._file.spools, id)

    def begin(self, row: Kept) -> Deferred[None]:
        """
        Promise a key, or that a command is kept, before it is started.

        @param row: the command.
        @return: fires once it is on the disk; until then it must not be started. Fails with
            L{KeyTaken} when the identity has used the key before and it is still kept, and with
            L{LedgerUnavailable} when it cannot be written.
        """
        if len(self._waiting) + len(self._inFlight or ()) >= MAX_WAITING:
            return fail(
                LedgerUnavailable(f"{MAX_WAITING} commands wait for the disk; try again later.")
            )
        return self._submit(partial(_insert, row))

    def update(self, row: Kept) -> Deferred[None]:
        """
        Write what has changed of a command: how far its streams were taken, or how it ended.

        @param row: all of the command.
        @return: fires once it is on the disk; fails with L{LedgerUnavailable} when it cannot be
            written. Then it is written with whatever is written next.
        """
        return self._submit(partial(_update, row), row)

    def forget(self, ids: Iterable[str]) -> Deferred[None]:
        """
        Forget commands; their output is for the caller to remove, and after this.

        @param ids: the commands.
        @return: fires once it is on the disk; fails with L{LedgerUnavailable}.
        """
        return self._submit(partial(_delete, [(each,) for each in ids]))

    def sweep(self) -> Deferred[int]:
        """
        Remove kept output that belongs to no command, as a crash can leave it.

        @return: fires with how many directories are gone, at most L{MAX_SWEPT}: then there may be
            more. Fails with L{LedgerUnavailable}.
        """
        return self._submit(self._file.sweep)

    def close(self) -> Deferred[None]:
        """
        Write what is left, and give the directory back.

        @return: fires when that is done; what could not be written, the log tells.
        """
        if not self._inUse:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        if self._takes:
            if self._owed:
                self._submit(lambda connection: None).addErrback(lambda failure: None)
            self._takes = False
            self._pump()
        return closed

    # The queue.

    def _submit(
        self, work: Callable[[sqlite3.Connection], Any], row: Kept | None = None
    ) -> Deferred[Any]:
        if not self._takes:
            return fail(
                LedgerUnavailable("The ledger of commands is not open; nothing can be kept.")
            )
        task = _Task(work, Deferred(), row)
        self._waiting.append(task)
        self._pump()
        return task.done

    def _pump(self) -> None:
        """Bring to the disk, at once, all that waits; in the end, close."""
        if self._inFlight is not None:
            return
        if self._waiting:
            self._inFlight, self._waiting = self._waiting, []
            owed = dict(self._owed)
            # First, so that what is newer holds.
            works: list[Callable[[sqlite3.Connection], Any]]
            works = [partial(_update, row) for row in owed.values()]
            works += [task.work for task in self._inFlight]
            done = maybeDeferred(self._inThread, partial(self._file.perform, works))
            done.addCallbacks(self._performed, self._failed, callbackArgs=(owed,))
            done.addErrback(lambda failure: self.log.failure("ledger", failure))
        elif self._closing:
            self._inFlight = []
            maybeDeferred(self._inThread, self._file.close).addBoth(self._closed)

    def _performed(self, results: list[Any], owed: dict[str, Kept]) -> None:
        done, self._inFlight = self._inFlight or [], None
        self._owed = {id: row for id, row in self._owed.items() if owed.get(id) is not row}
        if self._failing:
            self._failing = False
            self.log.info("{directory}: the ledger is written again", directory=self.directory)
        for task, result in zip(done, results[len(owed) :], strict=True):
            if isinstance(result, KeyTaken):
                task.done.errback(result)
            else:
                task.done.callback(result)
        self._pump()

    def _failed(self, failure: Failure) -> None:
        done, self._inFlight = self._inFlight or [], None
        sentence = "The ledger of commands cannot be written; its operator has to mend that."
        if failure.check(LedgerUnavailable):
            sentence = failure.getErrorMessage()
        else:
            self.log.failure("{directory}: the ledger", failure, directory=self.directory)
        if not self._failing:
            self._failing = True
            self.log.error(
                "{directory}: {sentence} Commands that have to be in it are refused.",
                directory=self.directory,
                sentence=sentence,
            )
        self._owed.update({task.row.id: task.row for task in done if task.row is not None})
        for task in done:
            task.done.errback(LedgerUnavailable(sentence))
        self._pump()

    def _closed(self, result: Failure | None) -> None:
        self._inFlight = None
        self._inUse = False
        self._owed.clear()
        if result is not None:
            self.log.failure("{directory}: closing the ledger", result, directory=self.directory)
        closing, self._closing = self._closing, []
        for each in closing:
            each.callback(None)


def _threadsOf(reactor: Any) -> Callable[[Callable[[], Any]], Deferred[Any]]:
    threads: IReactorFromThreads = reactor

    def inThread(function: Callable[[], Any]) -> Deferred[Any]:
        pool: Any = reactor.getThreadPool()
        return deferToThreadPool(threads, pool, function)

    return inThread
