"""
A tree at a server: how it is looked over and changed, with many requests under way at once. What is
in its files is carried by L{files.transfer}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import Conflict, NotFound
from twisted_netsuite.files.client import FilesSession, Hashed
from twisted_netsuite.files.entries import Intake, TreeEntry, entryOf, shownName
from twisted_netsuite.files.flights import Flights, itsOwn
from twisted_netsuite.files.localtree import Deed, Found, Tell
from twisted_netsuite.files.names import join, split
from twisted_netsuite.files.patterns import Patterns
from twisted_netsuite.files.scan import Unread


@dataclass(frozen=True)
class RemoteTree:
    """
    What is below one directory at a server.

    @ivar sessions: with the same server and identity; the first is asked, all of them carry files.
    @ivar name: its name there.
    """

    sessions: Sequence[FilesSession]
    name: bytes

    @property
    def isRoot(self) -> bool:
        """Whether it is all that the server has."""
        return not split(self.name)

    def shown(self) -> str:
        """
        Name it for a person.

        @return: text.
        """
        return shownName(self._top)

    def nameOf(self, entry: TreeEntry) -> bytes:
        """
        Name something in it.

        @param entry: which; it was checked by L{Intake}, or comes from a tree at this end.
        @return: its name at the server.
        """
        return self.before + entry.name if entry.name else self._top

    async def look(self, patterns: Patterns) -> Found:
        """
        Look over it.

        @param patterns: of no use here: the server knows none.
        @return: what there is.
        @raise Conflict: when there is a file in its place.
        @raise ProtocolError: when the server sends names that can be none there.
        """
        session = self._session
        try:
            facts = await session.stat(self.name)
        except NotFound:
            return Found(None)
        if not facts.directory:
            raise Conflict(
                f"{self.shown()} on the server is a file, and no directory; give a directory."
            )
        found = Found(entryOf(b"", facts))
        intake = Intake()
        listing = session.manifest(self.name)
        try:
            async for batch in listing:
                found.entries.extend(intake.take(batch))
        finally:
            listing.close()
        return found

    async def unreadable(self, entries: Sequence[TreeEntry]) -> list[Unread]:
        """
        Find the directories that cannot be read: in what the server tells of a whole tree, they
        look as if they were empty.

        @param entries: which.
        @return: those that cannot.
        """
        found: list[Unread] = []

        def ended(entry: TreeEntry, result: object) -> None:
            if isinstance(result, Failure):
                error = itsOwn(result)
                found.append(Unread(entry.name, error.sentence.rstrip(".")))

        def begin(entry: TreeEntry) -> Deferred[None]:
            return Deferred.fromCoroutine(self._peek(entry))

        await Flights(entries, begin, ended).run()
        return found

    async def digests(self, entries: Sequence[TreeEntry]) -> dict[bytes, bytes]:
        """
        Have the server digest files.

        @param entries: which.
        @return: their digests by their names; of those that can be read.
        """
        found: dict[bytes, bytes] = {}
        session = self._session

        def begin(entry: TreeEntry) -> Deferred[Hashed]:
            return session.hash(self.nameOf(entry))

        def ended(entry: TreeEntry, result: Hashed | Failure) -> None:
            if isinstance(result, Failure):
                # That it cannot be read is told when it is to be transferred.
                itsOwn(result)
            else:
                found[entry.name] = result.digest

        await Flights(entries, begin, ended).run()
        return found

    async def carryOut(self, deeds: Sequence[Deed], tell: Tell) -> None:
        """
        Change what is there, in any order.

        @param deeds: what to do.
        @param tell: hears of each.
        """

        def ended(deed: Deed, result: object) -> None:
            tell(deed, itsOwn(result) if isinstance(result, Failure) else None)

        await Flights(deeds, self._do, ended).run()

    @cached_property
    def _top(self) -> bytes:
        return join(split(self.name))

    @cached_property
    def before(self) -> bytes:
        """What stands before the names in it, at the server."""
        return b"/" if self.isRoot else self._top + b"/"

    @property
    def _session(self) -> FilesSession:
        """The first that can still be asked."""
        return next((each for each in self.sessions if each.isOpen), self.sessions[0])

    def _do(self, deed: Deed) -> Deferred[Any]:
        session, name = self._session, self.nameOf(deed.entry)
        match deed.do:
            case "make":
                parents = not deed.entry.name
                return session.makeDirectory(name, mode=deed.mode, parents=parents)
            case "change":
                return session.change(name, mode=deed.mode, mtime=deed.mtime)
            case "remove":
                return session.remove(name)

    async def _peek(self, entry: TreeEntry) -> None:
        listing = self._session.list(self.nameOf(entry))
        try:
            await listing.next()
        finally:
            listing.close()
