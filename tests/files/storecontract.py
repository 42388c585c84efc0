"""
What every store promises, as tests that each implementation runs.

Import this module and none of its classes, as trial runs each case that a module names.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.files.tree import descriptors
from twisted_netsuite.errors import (
    Conflict,
    Corrupted,
    Denied,
    InvalidName,
    NetsuiteError,
    NotFound,
    SourceChanged,
)
from twisted_netsuite.files.digests import CHUNK, ZEROS, chunks, combined, digestOf
from twisted_netsuite.files.names import MAX_PART, Parts, split
from twisted_netsuite.files.store import Attributes, Source, Store, Target, Wanted

OWNER = "alice"

#: Three chunks, the last of them short.
LONG = b"".join(bytes([byte]) * CHUNK for byte in (1, 2)) + b"end"

#: Parts that are no part of a name, wherever they come from.
WRONG_PARTS = (b"", b".", b"..", b"a/b", b"../x", b"/", b"nul\0", b".netsuite-x", b"n" * 256)


def digestsOf(data: bytes) -> list[bytes]:
    """Digest each chunk."""
    return [digestOf(data[at * CHUNK : (at + 1) * CHUNK]) for at in range(chunks(len(data)))]


def writeChunks(target: Target, data: bytes, *indexes: int) -> None:
    """Write some chunks of what a target is to have, each in two pieces."""
    for index in indexes:
        chunk = data[index * CHUNK : (index + 1) * CHUNK]
        target.write(index * CHUNK, [chunk[:10], chunk[10:]])
        target.chunkWritten(index, digestOf(chunk))


def put(store: Store, parts: Parts, data: bytes, **wanted: Any) -> Attributes:
    """Publish a file, without waiting for the disk where that is not asked for."""
    target = store.target(parts, Wanted(len(data), **{"durable": False, **wanted}), OWNER)
    writeChunks(target, data, *range(chunks(len(data))))
    return target.commit(combined(digestsOf(data)))


def get(store: Store, parts: Parts) -> bytes:
    """Read a file."""
    source = store.source(parts)
    try:
        return source.read(0, source.attributes.size)
    finally:
        source.close()


def names(store: Store, parts: Parts = ()) -> set[bytes]:
    """List a directory."""
    return {entry.name for entry in store.list(parts)}


class StoreCase(SynchronousTestCase):
    """
    Ways to say short what is done with a store.

    @ivar store: set by C{setUp}.
    """

    store: Store

    def put(self, name: bytes, data: bytes = b"new", **wanted: Any) -> Attributes:
        """Publish a file."""
        return put(self.store, split(name), data, **wanted)

    def get(self, name: bytes) -> bytes:
        """Read a file."""
        return get(self.store, split(name))

    def source(self, name: bytes) -> Source:
        """Open a file until the end of the test."""
        source = self.store.source(split(name))
        self.addCleanup(source.close)
        return source

    def begin(self, name: bytes, size: int, owner: str = OWNER, **wanted: Any) -> Target:
        """Begin to write a file, and leave nothing of it after the test."""
        wanted = {"durable": False, **wanted}
        target = self.store.target(split(name), Wanted(size, **wanted), owner)

        def end() -> None:
            with suppress(NetsuiteError, OSError):
                target.discard()

        self.addCleanup(end)
        return target

    def refused(self, error: type[NetsuiteError], work: Callable[..., object], *args: Any) -> str:
        """Expect a refusal with one sentence, and that it holds no descriptor."""
        before = descriptors()
        refusal: NetsuiteError = self.assertRaises(error, work, *args)
        self.assertEqual(descriptors(), before)
        self.assertTrue(refusal.sentence.endswith("."), refusal.sentence)
        self.assertFalse("\n" in refusal.sentence)
        return refusal.sentence


class LookContract(StoreCase):
    """Stat, list, and sources."""

    def test_statFile(self) -> None:
        """A file has its size, times and permissions, and is the same until it is changed."""
        published = self.put(b"f", b"12345", mode=0o640, mtime=1_500_000_000_123_456_789)
        attributes = self.store.stat((b"f",))
        self.assertEqual(attributes, published)
        self.assertEqual((attributes.kind, attributes.size), ("file", 5))
        self.assertEqual((attributes.mode, attributes.mtime), (0o640, 1_500_000_000_123_456_789))
        self.assertEqual(len(attributes.version), 16)

    def test_statDirectory(self) -> None:
        """A directory has no size; the root is one."""
        self.store.makeDirectory((b"d",), 0o750, False)
        self.assertEqual(self.store.stat((b"d",)).mode, 0o750)
        for parts in ((), (b"d",)):
            attributes = self.store.stat(parts)
            self.assertEqual((attributes.kind, attributes.size), ("directory", 0))

    def test_missing(self) -> None:
        """What is not there is not found, nor what is below a file; the name is told."""
        self.put(b"f")
        self.store.makeDirectory((b"d",), None, False)
        for name in (b"missing", b"d/missing", b"missing/f", b"f/below", b"f/below/that"):
            parts = split(name)
            calls: tuple[tuple[Any, ...], ...] = (
                (self.store.stat, parts),
                (self.store.list, parts),
                (self.store.source, parts),
                (self.store.remove, parts),
                (self.store.change, parts, 0o600, None),
                (self.store.rename, parts, (b"other",), True),
                (self.store.rename, parts, (b"other",), False),
                (self.store.rename, (b"d",), (*parts, b"x"), True),
                (self.store.target, (*parts, b"x"), Wanted(1), OWNER),
                (self.store.makeDirectory, (*parts, b"x"), None, False),
            )
            for work, *args in calls:
                self.assertIn(parts[0].decode(), self.refused(NotFound, work, *args))
        self.assertEqual(names(self.store), {b"f", b"d"})

    def test_wrongNames(self) -> None:
        """Names that can be none are refused by everything, in the middle and at the end."""
        self.store.makeDirectory((b"d",), None, False)
        self.put(b"f")
        for wrong in WRONG_PARTS:
            for parts in ((wrong,), (b"d", wrong), (wrong, b"x")):
                for work, *args in (
                    (self.store.stat, parts),
                    (self.store.list, parts),
                    (self.store.source, parts),
                    (self.store.remove, parts),
                    (self.store.change, parts, 0o600, 1),
                    (self.store.rename, parts, (b"g",), True),
                    (self.store.rename, (b"f",), parts, True),
                    (self.store.rename, (b"f",), parts, False),
                    (self.store.target, parts, Wanted(1), OWNER),
                    (self.store.makeDirectory, parts, None, False),
                    (self.store.makeDirectory, parts, None, True),
                ):
                    self.refused(InvalidName, work, *args)
        self.assertEqual(names(self.store), {b"f", b"d"})
        self.assertEqual(names(self.store, (b"d",)), set())

    def test_awkwardNames(self) -> None:
        """A name may hold any byte but slash and NUL, and have 255 of them."""
        awkward = {
            *(
                b"\xff\xfe",
                b"a\nb",
                b"\x1b[2J",
                "名".encode(),
                b"-rf",
                b"...",
                b"C:\\x",
                b" ",
                b"~",
            ),
            *(
                b"A",
                b"a",
                "é".encode(),
                "e\u0301".encode(),
                b"n" * MAX_PART,
                b"netsuite-x",
                b"$(x)",
            ),
        }
        for name in awkward:
            self.put(name, name)
            self.store.makeDirectory((b"d", name), None, True)
        self.assertEqual(names(self.store), {*awkward, b"d"})
        self.assertEqual(names(self.store, (b"d",)), awkward)
        for name in awkward:
            self.assertEqual(self.get(name), name)

    def test_list(self) -> None:
        """A list has each entry once, with what C{stat} says of it; its end is its end."""
        self.assertEqual([*self.store.list(())], [])
        self.put(b"f", b"1")
        self.put(b"g", b"22")
        self.store.makeDirectory((b"d", b"e"), None, True)
        entries = self.store.list(())
        found = [*entries]
        self.assertEqual([*entries], [])
        self.assertEqual(sorted(entry.name for entry in found), [b"d", b"f", b"g"])
        for entry in found:
            self.assertEqual(entry.attributes, self.store.stat((entry.name,)))
        self.assertEqual(names(self.store, (b"d",)), {b"e"})

    def test_listClosed(self) -> None:
        """A list that is closed, or just forgotten, holds nothing, wherever it was."""
        for name in (b"f", b"g"):
            self.put(name)
        gc.collect()
        before = descriptors()
        for taken in range(3):
            for close in (True, False):
                entries: Any = self.store.list(())
                for _ in range(taken):
                    next(entries)
                if close:
                    entries.close()
                    self.assertEqual([*entries], [])
                del entries
                gc.collect()
                self.assertEqual(descriptors(), before)

    def test_listFile(self) -> None:
        """A file cannot be looked into."""
        self.put(b"f")
        self.assertIn("no directory", self.refused(NotFound, self.store.list, (b"f",)))

    def test_listHidesPartials(self) -> None:
        """What is being written, or was left, is not seen."""
        self.begin(b"f", len(LONG), source=b"s")
        self.begin(b"g", 5)
        kept = self.begin(b"h", 5, source=b"s")
        kept.keep()
        self.assertEqual(names(self.store), set())
        self.refused(NotFound, self.store.stat, (b"f",))

    def test_source(self) -> None:
        """A source gives any piece of the file, and the digests of its chunks."""
        published = self.put(b"f", LONG)
        before = descriptors()
        source = self.store.source((b"f",))
        self.assertEqual(source.attributes, published)
        self.assertEqual(source.read(CHUNK - 1, 3), b"\1\2\2")
        self.assertEqual(source.read(len(LONG), 0), b"")
        self.assertEqual([source.digest(index) for index in range(3)], digestsOf(LONG))
        self.assertTrue(source.unchanged())
        source.close()
        source.close()
        self.assertEqual(descriptors(), before)

    def test_sourceShort(self) -> None:
        """More than there is cannot be read, and not a part of it either."""
        self.put(b"f", b"12345")
        source = self.source(b"f")
        for offset, count in ((0, 6), (4, 2), (5, 1), (100, 1)):
            self.assertRaises(SourceChanged, source.read, offset, count)

    def test_sourceEmpty(self) -> None:
        """An empty file has one empty chunk, and no data."""
        self.put(b"f", b"")
        source = self.source(b"f")
        self.assertEqual(source.read(0, 0), b"")
        self.assertEqual(source.digest(0), digestOf(b""))
        self.assertEqual(source.data(0), (0, 0))

    def test_sourceData(self) -> None:
        """Data begins where it is asked for, where there is no hole, and ends with the file."""
        self.put(b"f", LONG)
        source = self.source(b"f")
        self.assertEqual(source.data(0), (0, len(LONG)))
        self.assertEqual(source.data(17), (17, len(LONG)))
        for offset in (len(LONG), len(LONG) + 1):
            self.assertEqual(source.data(offset), (len(LONG), len(LONG)))

    def test_sourceDirectory(self) -> None:
        """A directory, the root too, is not opened for reading."""
        self.store.makeDirectory((b"d",), None, False)
        for parts in ((), (b"d",)):
            self.assertIn("is a directory", self.refused(Denied, self.store.source, parts))

    def test_sourceStays(self) -> None:
        """Who reads a file while it is replaced, renamed over or removed has the old one, whole."""
        self.put(b"f", b"old one")
        sources = [self.source(b"f")]
        self.put(b"f", b"2nd one")
        sources.append(self.source(b"f"))
        self.put(b"g", b"3rd one")
        self.store.rename((b"g",), (b"f",), True)
        sources.append(self.source(b"f"))
        self.store.remove((b"f",))
        self.assertEqual([s.read(0, 7) for s in sources], [b"old one", b"2nd one", b"3rd one"])
        self.assertTrue(all(source.unchanged() for source in sources))

    def test_version(self) -> None:
        """The version is another one for each file that was published, and stays while it does."""
        seen = {self.put(b"f", b"1", mtime=10**18).version for _ in range(3)}
        self.assertEqual(len(seen), 3)
        self.assertIn(self.store.stat((b"f",)).version, seen)
        self.put(b"g", b"1", mtime=10**18)
        self.assertEqual(len({*seen, self.store.stat((b"g",)).version}), 4)


class TargetContract(StoreCase):
    """Targets: publishing, conflicts and resuming."""

    def test_publish(self) -> None:
        """A file is seen once it is committed, whole, and nothing of it before."""
        target = self.begin(b"f", len(LONG))
        self.assertEqual((target.size, dict(target.verified)), (len(LONG), {}))
        writeChunks(target, LONG, 2, 0, 1)
        self.refused(NotFound, self.store.stat, (b"f",))
        self.assertEqual(dict(target.verified), dict(enumerate(digestsOf(LONG))))
        self.assertEqual(target.commit(combined(digestsOf(LONG))), self.store.stat((b"f",)))
        self.assertEqual(self.get(b"f"), LONG)

    def test_empty(self) -> None:
        """An empty file can be published, with its one empty chunk."""
        self.assertEqual(self.put(b"f", b"").size, 0)
        self.assertEqual(self.get(b"f"), b"")

    def test_replace(self) -> None:
        """A file is replaced by a whole one, and keeps its permissions where none are given."""
        self.put(b"f", b"old", mode=0o604)
        target = self.begin(b"f", 3)
        writeChunks(target, b"new", 0)
        self.assertEqual(self.get(b"f"), b"old")
        self.assertEqual(target.commit(digestOf(b"new")).mode, 0o604)
        self.assertEqual(self.get(b"f"), b"new")
        self.assertEqual(self.put(b"f", mode=0o640).mode, 0o640)

    def test_mode(self) -> None:
        """A mode loses setuid, setgid and the sticky bit; without one a file can be read."""
        self.assertEqual(self.put(b"f", mode=0o7755).mode, 0o755)
        self.assertEqual(self.put(b"g").mode & 0o600, 0o600)

    def test_wrongDigest(self) -> None:
        """What is not what it should be is not published, and the old file stays."""
        self.put(b"f", b"old")
        target = self.begin(b"f", 3)
        writeChunks(target, b"new", 0)
        before = descriptors()
        self.assertRaises(Corrupted, target.commit, digestOf(b"other"))
        self.assertTrue(descriptors() <= before)
        self.assertEqual(self.get(b"f"), b"old")

    def test_missingChunk(self) -> None:
        """A file with a chunk missing is not published."""
        for missing in range(3):
            target = self.begin(b"f", len(LONG))
            writeChunks(target, LONG, *({0, 1, 2} - {missing}))
            self.assertRaises(Corrupted, target.commit, combined(digestsOf(LONG)))
        self.assertEqual(names(self.store), set())

    def test_noClobber(self) -> None:
        """A file that may not be replaced is not: at once, and when it comes meanwhile."""
        target = self.begin(b"f", 3, clobber=False)
        writeChunks(target, b"new", 0)
        self.put(b"f", b"old", clobber=False)
        self.assertRaises(Conflict, target.commit, digestOf(b"new"))
        wanted = Wanted(3, clobber=False)
        self.refused(Conflict, self.store.target, (b"f",), wanted, OWNER)
        self.assertEqual(self.get(b"f"), b"old")

    def test_replaces(self) -> None:
        """Only the file with the digest that was named is replaced, and no absent one."""
        self.put(b"f", LONG)
        old = combined(digestsOf(LONG))
        late = self.begin(b"f", 3, replaces=old)
        writeChunks(late, b"new", 0)
        self.put(b"f", b"second", replaces=old)
        self.assertRaises(Conflict, late.commit, digestOf(b"new"))
        for name in (b"f", b"missing"):

            def attempt(name: bytes = name) -> None:
                self.put(name, b"third", replaces=old)

            self.assertRaises(Conflict, attempt)
        self.assertEqual(self.get(b"f"), b"second")
        self.assertEqual(names(self.store), {b"f"})

    def test_overDirectory(self) -> None:
        """No file takes the place of a directory, be it early or late; nor of the root."""
        self.store.makeDirectory((b"d",), None, False)
        for parts in ((b"d",), ()):
            for source in (None, b"s"):
                self.refused(Conflict, lambda p=parts, s=source: put(self.store, p, b"", source=s))
        target = self.begin(b"e", 3)
        writeChunks(target, b"new", 0)
        self.store.makeDirectory((b"e",), None, False)
        self.assertRaises(Conflict, target.commit, digestOf(b"new"))
        self.assertEqual(self.store.stat((b"e",)).kind, "directory")

    def test_resume(self) -> None:
        """Another try of the same source goes on with the chunks that are there."""
        target = self.begin(b"f", len(LONG), source=b"s")
        writeChunks(target, LONG, 0, 2)
        target.write(CHUNK, [b"half of a chunk"])
        target.keep()
        again = self.begin(b"f", len(LONG), source=b"s")
        digests = digestsOf(LONG)
        self.assertEqual(dict(again.verified), {0: digests[0], 2: digests[2]})
        writeChunks(again, LONG, 1)
        again.commit(combined(digests))
        self.assertEqual(self.get(b"f"), LONG)
        self.assertEqual(dict(self.begin(b"f", len(LONG), source=b"s").verified), {})

    def test_resumeOthers(self) -> None:
        """Another owner, source, name or size begins from nothing."""
        target = self.begin(b"f", len(LONG), source=b"s")
        writeChunks(target, LONG, 0)
        target.keep()
        for name, size, owner, source in (
            (b"f", len(LONG), "bob", b"s"),
            (b"f", len(LONG), OWNER, b"t"),
            (b"f", len(LONG), OWNER, None),
            (b"g", len(LONG), OWNER, b"s"),
            (b"f", len(LONG) + 1, OWNER, b"s"),
        ):
            other = self.begin(name, size, owner, source=source)
            self.assertEqual(dict(other.verified), {})
            other.discard()

    def test_keepNothing(self) -> None:
        """What has no name for its source is not kept; what is discarded neither."""
        for source, end in ((None, "keep"), (b"s", "discard"), (None, "discard")):
            target = self.begin(b"f", len(LONG), source=source)
            writeChunks(target, LONG, 0)
            before = descriptors()
            getattr(target, end)()
            self.assertTrue(descriptors() <= before)
            self.assertEqual(self.store.clean(0), 0)
            again = self.begin(b"f", len(LONG), source=b"s")
            self.assertEqual(dict(again.verified), {})
            again.discard()

    def test_twiceAtOnce(self) -> None:
        """One source is not written twice at once for one name; different ones are."""
        first = self.begin(b"f", 3, source=b"s")
        self.refused(Conflict, self.store.target, (b"f",), Wanted(3, source=b"s"), OWNER)
        others = [self.begin(b"f", 3, source=s) for s in (b"t", None, None)]
        for index, target in enumerate((first, *others)):
            data = b"%03d" % index
            writeChunks(target, data, 0)
            target.commit(digestOf(data))
            self.assertEqual(self.get(b"f"), data)
        self.begin(b"f", 3, source=b"s").discard()

    def test_hole(self) -> None:
        """A hole is zeros, whatever an earlier try has left there."""
        size = 2 * CHUNK + 3
        target = self.begin(b"f", size, source=b"s")
        target.write(0, [b"left"])
        target.write(2 * CHUNK, [b"xy"])
        target.keep()
        target = self.begin(b"f", size, source=b"s")
        for index in range(3):
            target.hole(index)
        digests = [ZEROS, ZEROS, digestOf(bytes(3))]
        self.assertEqual(dict(target.verified), dict(enumerate(digests)))
        target.commit(combined(digests))
        self.assertEqual(self.get(b"f"), bytes(size))

    def test_clean(self) -> None:
        """What tries have left is removed by its age, in the whole tree; the rest stays."""
        self.store.makeDirectory((b"d", b"e"), None, True)
        self.put(b"d/f")
        for name in (b"g", b"d/e/g"):
            target = self.begin(name, len(LONG), source=b"s")
            writeChunks(target, LONG, 0)
            target.keep()
        going = self.begin(b"h", 3, source=b"s")
        self.assertEqual(self.store.clean(3600), 0)
        self.assertTrue(self.store.clean(0) >= 2)
        self.assertEqual(self.store.clean(0), 0)
        self.assertEqual(dict(self.begin(b"g", len(LONG), source=b"s").verified), {})
        writeChunks(going, b"new", 0)
        going.commit(digestOf(b"new"))
        self.assertEqual(self.get(b"d/f"), b"new")


class WholeContract(StoreCase):
    """Files that are read and published in one go."""

    def whole(self, name: bytes, data: bytes = b"new", **wanted: Any) -> Attributes:
        """Publish a file in one go."""
        want = Wanted(len(data), **{"durable": False, **wanted})
        return self.store.publishWhole(split(name), want, data)

    def test_publishWhole(self) -> None:
        """It is the file that it would be if it came piece by piece."""
        for data in (b"", b"new", b"x" * CHUNK):
            found = self.whole(b"f", data, mode=0o604, mtime=10**18)
            self.assertEqual(found, self.store.stat((b"f",)))
            self.assertEqual((found.size, found.mode, found.mtime), (len(data), 0o604, 10**18))
            self.assertEqual(self.get(b"f"), data)
        self.assertEqual(names(self.store), {b"f"})

    def test_publishWholeRefused(self) -> None:
        """Nothing is replaced that may not be, by the name, the leave to replace, or the digest;
        and there has to be a directory."""
        self.put(b"f", b"old")
        self.store.makeDirectory((b"d",), None, False)
        refused: tuple[tuple[type[NetsuiteError], bytes, dict[str, Any]], ...] = (
            (Conflict, b"", {}),
            (Conflict, b"d", {}),
            (Conflict, b"f", {"clobber": False}),
            (Conflict, b"f", {"replaces": digestOf(b"other")}),
            (Conflict, b"g", {"replaces": digestOf(b"old")}),
            (NotFound, b"f/g", {}),
            (NotFound, b"none/g", {}),
        )
        for error, name, wanted in refused:
            self.refused(error, lambda: self.whole(name, **wanted))  # noqa: B023
        for part in WRONG_PARTS:
            self.refused(InvalidName, self.store.publishWhole, (part,), Wanted(1), b"x")
        self.assertEqual(names(self.store), {b"f", b"d"})
        self.assertEqual(self.get(b"f"), b"old")
        self.whole(b"f", replaces=digestOf(b"old"))
        self.assertEqual(self.get(b"f"), b"new")

    def test_publishWholeLength(self) -> None:
        """It has as many bytes as were announced, and no more than a chunk."""
        for size, data in ((4, b"new"), (CHUNK + 1, bytes(CHUNK + 1))):
            self.assertRaises(
                ValueError, self.store.publishWhole, (b"f",), Wanted(size, durable=False), data
            )
        self.assertEqual(names(self.store), set())

    def test_publishWholeKeepsNothing(self) -> None:
        """Its source makes no difference: what a try has left is neither used nor touched."""
        writeChunks(kept := self.begin(b"f", len(LONG), source=b"s"), LONG, 0)
        kept.keep()
        self.assertTrue(kept.kept)
        self.whole(b"f", b"new", source=b"s")
        self.assertEqual(self.get(b"f"), b"new")
        self.assertEqual([*self.begin(b"f", len(LONG), source=b"s").verified], [0])

    def test_readWhole(self) -> None:
        """A small file is read, a larger one is opened, and what is none is refused."""
        attributes = self.put(b"f", b"12345")
        self.assertEqual(self.store.readWhole((b"f",), 5), (attributes, b"12345"))
        found = self.store.readWhole((b"f",), 4)
        assert not isinstance(found, tuple)
        self.addCleanup(found.close)
        self.assertEqual((found.attributes, found.read(0, 5)), (attributes, b"12345"))
        self.refused(NotFound, self.store.readWhole, (b"none",), 5)
        self.refused(Denied, self.store.readWhole, (), 5)
        for part in WRONG_PARTS:
            self.refused(InvalidName, self.store.readWhole, (part,), 5)

    def test_kept(self) -> None:
        """A file that was closed tells whether something of it is there for another try."""
        for source, chunks_, end, kept in (
            (b"s", 1, "keep", True),
            (None, 1, "keep", False),
            (b"s", 1, "discard", False),
        ):
            target = self.begin(b"f", len(LONG), source=source)
            writeChunks(target, LONG, *range(chunks_))
            getattr(target, end)()
            self.assertEqual(target.kept, kept)
            self.begin(b"f", len(LONG), source=b"s").discard()
        target = self.begin(b"f", len(LONG), source=b"s", clobber=False)
        writeChunks(target, LONG, 0, 1, 2)
        self.put(b"f")
        self.assertRaises(Conflict, target.commit, combined(digestsOf(LONG)))
        self.assertTrue(target.kept)


class ChangeContract(StoreCase):
    """Directories, names and what is known of files."""

    def test_makeDirectory(self) -> None:
        """A directory is made with its permissions, without setuid, setgid and the sticky bit."""
        self.store.makeDirectory((b"d",), 0o7711, False)
        self.assertEqual(self.store.stat((b"d",)).mode, 0o711)
        self.store.makeDirectory((b"e",), None, False)
        self.assertEqual(self.store.stat((b"e",)).mode & 0o700, 0o700)
        self.assertEqual(names(self.store), {b"d", b"e"})

    def test_makeDirectoryThere(self) -> None:
        """One that is there is left as it is, the root too; a file is not one."""
        self.store.makeDirectory((b"d",), 0o711, False)
        self.put(b"d/f")
        for parents in (False, True):
            self.store.makeDirectory((b"d",), 0o700, parents)
            self.store.makeDirectory((), 0o700, parents)
            self.refused(Conflict, self.store.makeDirectory, (b"d", b"f"), None, parents)
        self.assertEqual(self.store.stat((b"d",)).mode, 0o711)
        self.assertEqual(names(self.store, (b"d",)), {b"f"})

    def test_makeParents(self) -> None:
        """Those above it are made only when that is asked for, with the usual permissions."""
        self.refused(NotFound, self.store.makeDirectory, (b"a", b"b", b"c"), 0o700, False)
        self.assertEqual(names(self.store), set())
        self.store.makeDirectory((b"a", b"b", b"c"), 0o711, True)
        self.assertEqual(self.store.stat((b"a", b"b", b"c")).mode, 0o711)
        self.assertEqual(self.store.stat((b"a", b"b")).mode & 0o700, 0o700)
        self.put(b"a/f")
        self.refused(NotFound, self.store.makeDirectory, (b"a", b"f", b"c"), None, True)

    def test_makeDeep(self) -> None:
        """A directory of as many parts as a name may have can be made, used and removed."""
        deep = (b"d",) * 63
        self.store.makeDirectory(deep, None, True)
        put(self.store, (*deep, b"f"), b"new")
        self.assertEqual(get(self.store, (*deep, b"f")), b"new")
        self.store.remove((*deep, b"f"))
        for depth in range(63, 0, -1):
            self.store.remove(deep[:depth])
        self.assertEqual(names(self.store), set())

    def test_rename(self) -> None:
        """Files and directories get other names, in other directories too."""
        self.put(b"f", b"data")
        self.store.makeDirectory((b"d",), None, False)
        self.store.makeDirectory((b"e",), None, False)
        for clobber in (True, False):
            self.store.rename((b"f",), (b"d", b"g"), clobber)
            self.store.rename((b"d",), (b"e", b"h"), clobber)
            self.assertEqual(self.get(b"e/h/g"), b"data")
            self.assertEqual(names(self.store), {b"e"})
            self.store.rename((b"e", b"h"), (b"d",), clobber)
            self.store.rename((b"d", b"g"), (b"f",), clobber)
        self.assertEqual(names(self.store), {b"d", b"e", b"f"})

    def test_renameOver(self) -> None:
        """A file is replaced when that was asked for, and only by a file."""
        for name in (b"f", b"g", b"h"):
            self.put(name, name)
        for name in (b"d", b"e"):
            self.store.makeDirectory((name,), None, False)
        self.put(b"d/x")
        for source, to, clobber in (
            *((b"f", b"g", False), (b"f", b"f", False), (b"f", b"d", True), (b"f", b"e", True)),
            *((b"f", b"e", False), (b"d", b"f", True), (b"d", b"f", False), (b"d", b"e", True)),
            *((b"d", b"e", False), (b"e", b"d", True), (b"d/x", b"d", True), (b"d", b"d", False)),
        ):
            self.refused(Conflict, self.store.rename, split(source), split(to), clobber)
        self.assertEqual(names(self.store), {b"d", b"e", b"f", b"g", b"h"})
        self.store.rename((b"f",), (b"g",), True)
        self.store.rename((b"h",), (b"h",), True)
        self.assertEqual(names(self.store), {b"d", b"e", b"g", b"h"})
        self.assertEqual((self.get(b"g"), self.get(b"h")), (b"f", b"h"))

    def test_renameIntoItself(self) -> None:
        """A directory is not moved to below itself."""
        self.store.makeDirectory((b"d", b"e"), None, True)
        for to in ((b"d", b"x"), (b"d", b"e", b"x")):
            for clobber in (True, False):
                sentence = self.refused(Conflict, self.store.rename, (b"d",), to, clobber)
                self.assertIn("into itself", sentence)
        self.assertEqual(names(self.store, (b"d",)), {b"e"})

    def test_root(self) -> None:
        """The root is not renamed, replaced or removed."""
        self.put(b"f")
        self.refused(Denied, self.store.rename, (), (b"x",), True)
        self.refused(Denied, self.store.rename, (b"f",), (), True)
        self.refused(Denied, self.store.remove, ())
        self.assertEqual(names(self.store), {b"f"})

    def test_remove(self) -> None:
        """A file goes, and a directory once it is empty."""
        self.store.makeDirectory((b"d",), None, False)
        self.put(b"d/f")
        self.refused(Conflict, self.store.remove, (b"d",))
        self.store.remove((b"d", b"f"))
        self.store.remove((b"d",))
        self.assertEqual(names(self.store), set())

    def test_removeLeftovers(self) -> None:
        """A directory that only holds what was never published goes with it."""
        self.store.makeDirectory((b"d",), None, False)
        target = self.begin(b"d/f", len(LONG), source=b"s")
        writeChunks(target, LONG, 0)
        target.keep()
        self.put(b"d/g")
        self.refused(Conflict, self.store.remove, (b"d",))
        self.store.remove((b"d", b"g"))
        again = self.begin(b"d/f", len(LONG), source=b"s")
        self.assertEqual([*again.verified], [0])
        again.keep()
        self.store.remove((b"d",))
        self.assertEqual(names(self.store), set())

    def test_change(self) -> None:
        """Permissions and time are changed, alone and together; contents are not."""
        self.put(b"f", b"data", mode=0o640, mtime=10**18)
        self.store.makeDirectory((b"d",), 0o750, False)
        for name in (b"f", b"d"):
            self.store.change((name,), 0o600, None)
            self.assertEqual(self.store.stat((name,)).mode, 0o600)
            for mtime in (1_234_567_890_123_456_789, 0, -1_000_000_001):
                self.store.change((name,), None, mtime)
                self.assertEqual(self.store.stat((name,)).mtime, mtime)
            self.store.change((name,), 0o7755, 10**18)
            attributes = self.store.stat((name,))
            self.assertEqual((attributes.mode, attributes.mtime), (0o755, 10**18))
            self.store.change((name,), None, None)
        self.assertEqual(self.get(b"f"), b"data")

    def test_changeRoot(self) -> None:
        """The root is a directory like any other."""
        self.store.change((), 0o711, 10**18)
        attributes = self.store.stat(())
        self.assertEqual((attributes.mode, attributes.mtime), (0o711, 10**18))


class StoreContract(LookContract, TargetContract, WholeContract, ChangeContract):
    """All that a store promises."""
