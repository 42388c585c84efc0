"""
The database that tells who has written which file, in SQLite; what may be kept is told elsewhere.

It is used by one thread at a time. What is written goes to the disk with the next commit.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.files.quotarecords import SCHEMA, VERSION, Owned, Renaming, Upload
from twisted_netsuite.trust.durable import DurableDirectory

#: Seconds to wait for somebody who looks at the ledger with a program of SQLite's.
BUSY_TIMEOUT = 5.0

_INSERT = "INSERT INTO upload VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPLOAD = "SELECT * FROM upload WHERE "
_OWNED = "SELECT name, owner, size FROM file WHERE "


class QuotaLedger:
    """
    The state directory and the database in it.

    Everything but L{open} and L{close} raises C{sqlite3.Error} when it cannot be done.

    @ivar directory: the state directory.
    """

    def __init__(self, directory: str) -> None:
        """
        @param directory: the state directory; it is made when it is opened, its parent is not.
        """
        self.directory = directory
        self._path = os.path.join(directory, "quota.sqlite")
        self._lock = -1
        self._connection: sqlite3.Connection | None = None

    # Opening and closing.

    @property
    def isOpen(self) -> bool:
        """Whether it can be used."""
        return self._connection is not None

    def open(self) -> None:
        """
        Take the state directory.

        @raise ConfigurationError: when another server uses it, or it cannot be used.
        """
        try:
            with suppress(FileExistsError):
                os.mkdir(self.directory, 0o700)
            with DurableDirectory(Path(self.directory)) as directory:
                directory.refuseForeign()
                directory.refuseOthers()
            self._takeLock()
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(self._path, flags, 0o600))
            # Whichever thread it is, there is one at a time.
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            self._connection = connection
            self._prepare(connection)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self.unusable(reasonOf(error)) from error
        except BaseException:
            self.close()
            raise

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

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Begin the database, if it is new; refuse it when it is none of ours, or not whole."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version > VERSION:
            raise ConfigurationError(
                f"The ledger {self._path!r} was written by a newer netsuite (version {version}, "
                f"here {VERSION}); run that one, or name another directory."
            )
        if version == 0 and tables:
            raise self.unusable("quota.sqlite in it is a database of another program")
        (check,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if check != "ok":
            raise self.unusable(f"the ledger in it is damaged, {check}")
        connection.execute("PRAGMA journal_mode = WAL")
        # A commit is safe from a crash of this process, and costs no wait for the disk.
        connection.execute("PRAGMA synchronous = NORMAL")
        if version == 0:
            connection.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")

    def unusable(self, reason: str) -> ConfigurationError:
        """
        Make the error for a state directory that cannot be used.

        @param reason: the middle of a sentence.
        @return: the error.
        """
        return ConfigurationError(
            f"The state directory {self.directory!r} cannot be used: {reason}; mend that, or name "
            "another directory."
        )

    def close(self) -> None:
        """Commit, close the database, and give the directory back."""
        connection, self._connection = self._connection, None
        descriptor, self._lock = self._lock, -1
        if connection is not None:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("COMMIT")
            connection.close()
        if descriptor >= 0:
            os.close(descriptor)

    # Transactions.

    def begin(self) -> None:
        """Begin a transaction, or go on with it."""
        if not self._sql.in_transaction:
            self._sql.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Write all that has changed."""
        self._sql.execute("COMMIT")

    def rollBack(self) -> None:
        """Forget what was not committed, as far as a failure has not done so already."""
        with suppress(sqlite3.Error):
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")

    @property
    def _sql(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("it is not open")
        return self._connection

    # Files.

    def file(self, root: str, name: bytes) -> Owned | None:
        """
        Find whose a file is.

        @param root: the whole path of the root.
        @param name: from there on.
        @return: C{None} when it is nobody's.
        """
        found = self._owned("root = ? AND name = ?", os.fsencode(root), name)
        return found[0] if found else None

    def below(self, root: str, name: bytes) -> list[Owned]:
        """
        List what has a name, or is below it.

        @param root: the whole path of the root.
        @param name: from there on.
        @return: by name.
        """
        place = os.fsencode(root)
        found = self._owned("root = ? AND name = ?", place, name)
        return found + self._owned("root = ? AND name > ? AND name < ?", place, *_inside(name))

    def after(self, owner: str, root: str, name: bytes, count: int) -> list[Owned]:
        """
        List some files of somebody.

        @param owner: whose.
        @param root: the whole path of the root.
        @param name: behind which to begin.
        @param count: how many at the most.
        @return: by name.
        """
        which = "owner = ? AND root = ? AND name > ? ORDER BY name LIMIT ?"
        return self._owned(which, owner, os.fsencode(root), name, count)

    def _owned(self, which: str, *values: Any) -> list[Owned]:
        return [Owned(*row) for row in self._sql.execute(_OWNED + which, values)]

    def own(self, root: str, name: bytes, owner: str, size: int) -> None:
        """
        Note whose a file is that is nobody's.

        @param root: the whole path of the root.
        @param name: from there on.
        @param owner: whose it is.
        @param size: its bytes.
        """
        row = (os.fsencode(root), name, owner, size)
        self._sql.execute("INSERT INTO file VALUES (?, ?, ?, ?)", row)

    def disown(self, root: str, name: bytes) -> None:
        """
        Let a file be nobody's.

        @param root: the whole path of the root.
        @param name: from there on.
        """
        where = (os.fsencode(root), name)
        self._sql.execute("DELETE FROM file WHERE root = ? AND name = ?", where)

    def counted(self, owner: str, root: str) -> Iterator[tuple[bytes, int, int]]:
        """
        List all that counts for somebody.

        @param owner: whose.
        @param root: the whole path of the root.
        @return: names, bytes and files.
        """
        where = (owner, os.fsencode(root))
        files = "SELECT name, size, 1 FROM file WHERE owner = ? AND root = ?"
        yield from self._sql.execute(files, where)
        uploads = "SELECT name, bytes, files FROM upload WHERE owner = ? AND root = ?"
        yield from self._sql.execute(uploads, where)

    # Uploads.

    def unsettled(self) -> list[Upload]:
        """List uploads that are being written, or were when a server was killed."""
        return self._uploads("expires IS NULL")

    def expired(self, now: float) -> list[Upload]:
        """
        List uploads that are kept no longer.

        @param now: seconds since 1970.
        """
        return self._uploads("expires <= ?", now)

    def kept(self, root: str, name: bytes, owner: str, source: bytes, size: int) -> Upload | None:
        """
        Find what is kept of an earlier try.

        @param root: the whole path of the root.
        @param name: from there on.
        @param owner: whose.
        @param source: of what.
        @param size: its bytes.
        @return: C{None} when there is nothing.
        """
        which = (
            "root = ? AND name = ? AND owner = ? AND source = ? AND size = ? "
            "AND expires IS NOT NULL"
        )
        found = self._uploads(which, os.fsencode(root), name, owner, source, size)
        return found[0] if found else None

    def replacing(self, root: str, name: bytes) -> list[Upload]:
        """
        List uploads that count less, as they will replace a file: one at the most.

        @param root: the whole path of the root.
        @param name: from there on.
        """
        return self._uploads("root = ? AND name = ? AND files = 0", os.fsencode(root), name)

    def inside(self, root: str, name: bytes) -> list[Upload]:
        """
        List uploads into a directory, and into all below it.

        @param root: the whole path of the root.
        @param name: of the directory.
        """
        which = "root = ? AND name > ? AND name < ?"
        return self._uploads(which, os.fsencode(root), *_inside(name))

    def _uploads(self, which: str, *values: Any) -> list[Upload]:
        return [
            Upload(id, os.fsdecode(root), *rest)
            for id, root, *rest in self._sql.execute(_UPLOAD + which, values)
        ]

    def add(self, upload: Upload) -> None:
        """
        Note an upload.

        @param upload: has a number that no other has.
        """
        one = upload
        first = (one.id, os.fsencode(one.root), one.name, one.owner, one.size, one.source)
        self._sql.execute(_INSERT, (*first, one.before, one.bytes, one.files, one.expires))

    def highest(self) -> int:
        """Tell the highest number that an upload or a renaming has."""
        uploads = self._sql.execute("SELECT max(id) FROM upload").fetchone()
        moves = self._sql.execute("SELECT max(id) FROM move").fetchone()
        return max(uploads[0] or 0, moves[0] or 0)

    def drop(self, id: int) -> None:
        """
        Forget an upload.

        @param id: its number.
        """
        self._sql.execute("DELETE FROM upload WHERE id = ?", (id,))

    def rebase(self, id: int, before: bytes) -> None:
        """
        Note that a name has another file than when an upload to it was begun.

        @param id: the upload's number.
        @param before: the version of that file.
        """
        self._sql.execute("UPDATE upload SET before = ? WHERE id = ?", (before, id))

    def renameUpload(self, id: int, name: bytes) -> None:
        """
        Give an upload another name.

        @param id: its number.
        @param name: the new one.
        """
        self._sql.execute("UPDATE upload SET name = ? WHERE id = ?", (name, id))

    # Changes of names.

    def renamings(self) -> list[Renaming]:
        """List those that are being made, or were when a server was killed."""
        rows = self._sql.execute("SELECT id, root, name, target, owner FROM move")
        return [Renaming(id, os.fsdecode(root), *rest) for id, root, *rest in rows]

    def addRenaming(self, renaming: Renaming) -> None:
        """
        Note one.

        @param renaming: has a number that no other has.
        """
        one = renaming
        row = (one.id, os.fsencode(one.root), one.name, one.target, one.owner)
        self._sql.execute("INSERT INTO move VALUES (?, ?, ?, ?, ?)", row)

    def dropRenaming(self, id: int) -> None:
        """
        Forget one.

        @param id: its number.
        """
        self._sql.execute("DELETE FROM move WHERE id = ?", (id,))


def _inside(name: bytes) -> tuple[bytes, bytes]:
    # The character behind a slash is a zero.
    return name + b"/", name + b"0"


def reasonOf(error: sqlite3.Error | OSError) -> str:
    """
    Tell why something failed.

    @param error: the failure.
    @return: the end of a sentence.
    """
    reason = error.strerror if isinstance(error, OSError) else None
    return (reason or str(error)).lower()
