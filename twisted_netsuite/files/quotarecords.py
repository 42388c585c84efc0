"""
What stands in the ledger of quotas: its tables, and what their rows say. How they are read and
written is told elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What is there in the beginning.
SCHEMA = (
    """
    CREATE TABLE file (
        root BLOB NOT NULL,
        name BLOB NOT NULL,
        owner TEXT NOT NULL,
        size INTEGER NOT NULL,
        PRIMARY KEY (root, name)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX fileOwner ON file (owner, root, name)",
    """
    CREATE TABLE upload (
        id INTEGER PRIMARY KEY,
        root BLOB NOT NULL,
        name BLOB NOT NULL,
        owner TEXT NOT NULL,
        size INTEGER NOT NULL,
        source BLOB,
        before BLOB,
        bytes INTEGER NOT NULL,
        files INTEGER NOT NULL,
        expires REAL
    )
    """,
    "CREATE INDEX uploadName ON upload (root, name)",
    """
    CREATE TABLE move (
        id INTEGER PRIMARY KEY,
        root BLOB NOT NULL,
        name BLOB NOT NULL,
        target BLOB NOT NULL,
        owner TEXT NOT NULL
    )
    """,
)

#: Of the schema; it stands in the database.
VERSION = 1


@dataclass(frozen=True)
class Upload:
    """
    A file that is being written, or of which something is kept for another try.

    @ivar id: its number.
    @ivar root: the whole path of the root.
    @ivar name: from there on.
    @ivar owner: whose it will be.
    @ivar size: its bytes.
    @ivar source: as L{store.Wanted} has it.
    @ivar before: the version of what had the name when it was begun; C{None} when nothing had.
    @ivar bytes: what it counts: less than its size while it is to replace a file of its owner.
    @ivar files: likewise 1 or 0.
    @ivar expires: until when it is kept, in seconds since 1970; C{None} while it is written.
    """

    id: int
    root: str
    name: bytes
    owner: str
    size: int
    source: bytes | None
    before: bytes | None
    bytes: int
    files: int
    expires: float | None = None


@dataclass(frozen=True)
class Renaming:
    """
    A change of a name that is being made.

    @ivar id: its number.
    @ivar root: the whole path of the root.
    @ivar name: from there on.
    @ivar target: the new name.
    @ivar owner: who makes it.
    """

    id: int
    root: str
    name: bytes
    target: bytes
    owner: str


@dataclass(frozen=True)
class Owned:
    """
    A file that somebody keeps.

    @ivar name: from the root on.
    @ivar owner: whose it is; empty for nobody's.
    @ivar size: its bytes.
    """

    name: bytes
    owner: str
    size: int
