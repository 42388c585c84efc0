"""
A server's end of files in memory, without sessions and protocol: what whoever works on whole trees
sees of it. Answers come at once, or when a test says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, execute, fail
from twisted.python.failure import Failure

from twisted_netsuite.errors import NetsuiteError
from twisted_netsuite.files.bundles import Item
from twisted_netsuite.files.client import Hashed
from twisted_netsuite.files.digests import CHUNK, chunks, combined, digestOf
from twisted_netsuite.files.flights import itsOwn
from twisted_netsuite.files.messages import Facts, Listed
from twisted_netsuite.files.moving import Wishes
from twisted_netsuite.files.names import Parts, split
from twisted_netsuite.files.scan import Scan
from twisted_netsuite.files.store import Attributes, Store, Wanted
from twisted_netsuite.files.transfer import Got, Local, Sent

T = TypeVar("T")

#: What became of the files of a bundle.
Fetched = list[Got | NetsuiteError]
Delivered = list[Sent | NetsuiteError]


class AtOnce:
    """A disk that blocks whoever asks."""

    def run(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> Deferred[T]:
        """Do something now."""
        return execute(work, *args, **kwargs)


class Batches:
    """A list of a server."""

    def __init__(self, entries: Iterable[Listed], why: Exception | None = None) -> None:
        self.entries = list(entries)
        self.why = why
        self.closed = False

    def close(self) -> None:
        """Nobody reads on."""
        self.closed = True

    def next(self) -> Deferred[tuple[Listed, ...] | None]:
        """Give the next three."""
        found, self.entries = tuple(self.entries[:3]), self.entries[3:]
        if self.why is not None and not found:
            return fail(self.why)
        done: Deferred[tuple[Listed, ...] | None] = Deferred()
        done.callback(found or None)
        return done

    def __aiter__(self) -> Batches:
        return self

    async def __anext__(self) -> tuple[Listed, ...]:
        found = await self.next()
        if found is None:
            raise StopAsyncIteration
        return found


class FarEnd:
    """
    A session with a server.

    @ivar asked: what was asked, in order: the verb, and the name.
    @ivar faults: for a verb and a name, what it fails with, once for each.
    @ivar manifests: what it claims to have, if that is not what it has.
    @ivar hides: directories that it cannot read itself.
    @ivar holds: whether files wait until they are released.
    @ivar waiting: files that wait.
    @ivar cancelled: names of files that were broken off.
    @ivar wishes: how files were to be moved, one after the other.
    @ivar bundles: how many files went together, each time.
    @ivar modes: with which directories were made.
    """

    isOpen = True

    def __init__(self, store: Store) -> None:
        self.store = store
        self.asked: list[tuple[str, bytes]] = []
        self.faults: dict[tuple[str, bytes], list[Exception]] = {}
        self.manifests: list[Listed] | None = None
        self.hides: set[bytes] = set()
        self.holds = False
        self.waiting: list[tuple[bytes, Callable[[], object]]] = []
        self.cancelled: list[bytes] = []
        self.wishes: list[dict[str, Any]] = []
        self.modes: list[int | None] = []
        self.bundles: list[int] = []

    def verbs(self) -> list[str]:
        """Tell what was asked, without names."""
        return [verb for verb, _ in self.asked]

    def fault(self, verb: str, name: bytes, *errors: Exception) -> None:
        """Let something fail, as often as there are errors."""
        self.faults[verb, name] = list(errors)

    # As a session.

    def stat(self, name: bytes) -> Deferred[Facts]:
        """Look."""
        return self._do("stat", name, lambda: factsOf(self.store.stat(split(name))))

    def hash(self, name: bytes) -> Deferred[Hashed]:
        """Digest."""
        return self._do("hash", name, lambda: self._hash(split(name)))

    def manifest(self, name: bytes) -> Batches:
        """List all."""
        self.asked.append(("manifest", name))
        if self.manifests is not None:
            return Batches(self.manifests)
        return Batches(
            Listed(name=entry.name, facts=entry.facts)
            for entry in Scan().store(self.store, split(name))
            if not any(entry.name.startswith(hidden + b"/") for hidden in self.hides)
        )

    def list(self, name: bytes) -> Batches:
        """List one."""
        self.asked.append(("list", name))
        errors = self.faults.get(("list", name))
        return Batches([], errors.pop(0) if errors else None)

    def makeDirectory(
        self, name: bytes, *, mode: int | None = None, parents: bool = False
    ) -> Deferred[None]:
        """Make."""
        self.modes.append(mode)
        return self._do("make", name, lambda: self.store.makeDirectory(split(name), mode, parents))

    def remove(self, name: bytes) -> Deferred[None]:
        """Remove."""
        return self._do("remove", name, lambda: self.store.remove(split(name)))

    def change(
        self, name: bytes, *, mode: int | None = None, mtime: int | None = None
    ) -> Deferred[None]:
        """Change."""
        return self._do("change", name, lambda: self.store.change(split(name), mode, mtime))

    def _hash(self, parts: Parts) -> Hashed:
        source = self.store.source(parts)
        data = source.read(0, source.attributes.size)
        return Hashed(factsOf(source.attributes), digestAll(data))

    def _do(self, verb: str, name: bytes, work: Callable[[], T]) -> Deferred[T]:
        self.asked.append((verb, name))
        errors = self.faults.get((verb, name))
        return fail(errors.pop(0)) if errors else execute(work)

    # As L{files.transfer} and L{files.bundles}.

    def getFile(
        self,
        sessions: Iterable[object],
        name: bytes,
        local: Local,
        *,
        facts: Facts | None = None,
        moved: Callable[[int], object],
        **wishes: Any,
    ) -> Deferred[Got]:
        """Fetch a file."""
        assert self in sessions
        self.wishes.append(wishes | {"facts": facts})

        def carry() -> Got:
            found = copied(self.store, split(name), local.store, local.parts, moved, wishes)
            return Got(factsOf(found), bytes(32), found.size, 0)

        return self._carry("get", name, carry, moved)

    def putFile(
        self,
        sessions: Iterable[object],
        local: Local,
        name: bytes,
        *,
        moved: Callable[[int], object],
        **wishes: Any,
    ) -> Deferred[Sent]:
        """Send a file."""
        assert self in sessions
        self.wishes.append(wishes)

        def carry() -> Sent:
            found = copied(local.store, local.parts, self.store, split(name), moved, wishes)
            return Sent(factsOf(found), bytes(32), found.size, found.size, 0)

        return self._carry("put", name, carry, moved)

    def getBundle(
        self, sessions: Iterable[object], items: Sequence[Item], wishes: Wishes
    ) -> Deferred[Fetched]:
        """Fetch small files."""
        assert self in sessions

        def carry(item: Item) -> Got:
            self.wishes.append({**wishes, "facts": item.facts})
            found = self._copied(item, wishes, here=True)
            return Got(factsOf(found), bytes(32), found.size, 0)

        return self._carryAll("get", items, carry)

    def putBundle(
        self, sessions: Iterable[object], items: Sequence[Item], wishes: Wishes
    ) -> Deferred[Delivered]:
        """Send small files."""
        assert self in sessions

        def carry(item: Item) -> Sent:
            self.wishes.append({**wishes})
            found = self._copied(item, wishes, here=False)
            return Sent(factsOf(found), bytes(32), found.size, found.size, 0)

        return self._carryAll("put", items, carry)

    def _copied(self, item: Item, wishes: Wishes, here: bool) -> Attributes:
        ours, theirs = (item.local.store, item.local.parts), (self.store, split(item.name))
        source, target = (theirs, ours) if here else (ours, theirs)
        return copied(*source, *target, lambda count: None, {**wishes})

    def _carryAll(
        self, verb: str, items: Sequence[Item], carry: Callable[[Item], T]
    ) -> Deferred[Any]:
        self.bundles.append(len(items))

        def carried(item: Item) -> T | NetsuiteError:
            self.asked.append((verb, item.name))
            errors = self.faults.get((verb, item.name))
            try:
                if errors:
                    raise errors.pop(0)
                return carry(item)
            except NetsuiteError:
                return itsOwn(Failure())

        return self._held(items[0].name, lambda: [carried(item) for item in items])

    def release(self) -> None:
        """Let the files go on that wait; those that are begun then wait."""
        waiting, self.waiting = self.waiting, []
        for _, go in waiting:
            go()

    def _carry(
        self, verb: str, name: bytes, work: Callable[[], T], moved: Callable[[int], object]
    ) -> Deferred[T]:
        self.asked.append((verb, name))
        errors = self.faults.get((verb, name))
        if errors:
            moved(1)
            return fail(errors.pop(0))
        return self._held(name, work)

    def _held(self, name: bytes, work: Callable[[], T]) -> Deferred[T]:
        if not self.holds:
            return execute(work)
        done: Deferred[T] = Deferred(lambda _: None)
        result: Deferred[T] = Deferred()

        def go() -> None:
            if not done.called:
                execute(work).chainDeferred(done)
            elif not result.called:
                result.errback(CancelledError())

        # As a file that is kept for another try, it takes its time to be broken off.
        def stopped(failure: Any) -> Deferred[T]:
            failure.trap(CancelledError)
            self.cancelled.append(name)
            return result

        self.waiting.append((name, go))
        return done.addErrback(stopped)


def factsOf(attributes: Attributes) -> Facts:
    """Say what a server says."""
    return Facts(
        directory=attributes.kind == "directory",
        size=attributes.size,
        mtime=attributes.mtime,
        mode=attributes.mode,
        version=attributes.version,
    )


def digestAll(data: bytes) -> bytes:
    """Digest a file."""
    pieces = [data[at * CHUNK : (at + 1) * CHUNK] for at in range(chunks(len(data)))]
    return combined([digestOf(piece) for piece in pieces])


def copied(
    source: Store,
    name: Parts,
    target: Store,
    to: Parts,
    moved: Callable[[int], object],
    wishes: dict[str, Any],
) -> Attributes:
    """Copy a file with its mode and time."""
    found = source.source(name)
    data = found.read(0, found.attributes.size)
    found.close()
    facts = found.attributes
    write(target, to, data, facts.mtime, facts.mode, wishes["clobber"], wishes["durable"])
    moved(len(data))
    return facts


def write(
    store: Store,
    parts: Parts,
    data: bytes,
    mtime: int | None = None,
    mode: int | None = None,
    clobber: bool = True,
    durable: bool = False,
) -> None:
    """Put a file into a store."""
    wanted = Wanted(len(data), mtime, mode, clobber=clobber, durable=durable)
    target = store.target(parts, wanted, "test")
    try:
        for index in range(chunks(len(data))):
            piece = data[index * CHUNK : (index + 1) * CHUNK]
            target.write(index * CHUNK, [piece])
            target.chunkWritten(index, digestOf(piece))
        target.commit(digestAll(data))
    except NetsuiteError:
        target.discard()
        raise
