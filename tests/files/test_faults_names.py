"""
Names that mean something elsewhere, or nearly the same, or too much; and servers that send names
which nobody asked for, to each command of the program and to each place that it can be given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from tests.cli.filesrig import FilesCase
from tests.files.nativerig import BIG, NativeCase, digestOfAll, pieces
from twisted_netsuite.cli.fileslook import listFiles, remove
from twisted_netsuite.cli.filesmanner import INCOMPLETE, Manner
from twisted_netsuite.cli.filesmove import get
from twisted_netsuite.cli.filestree import Comparison, getTree, syncTree
from twisted_netsuite.errors import ConfigurationError, InvalidName, ProtocolError
from twisted_netsuite.files.digests import CHUNK
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.messages import (
    Change,
    Commit,
    Done,
    Entries,
    Failed,
    Holes,
    List,
    MakeDirectory,
    Put,
    Rename,
)
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.store import Attributes, Entry

#: What means a drive, a share, a device, a stream or the same as another name on other systems.
ELSEWHERE = (
    *(b"C:\\x", b"C:", b"\\\\host\\share", b"..\\up", b"CON", b"nul.txt", b"aux", b"a:stream"),
    *(b"dot.", b"space ", b" space", b"question?", b"pipe|", b"~", b"-rf", b"COM1", b"lpt9.txt"),
)

#: Equal but for case, for normal form, or for what cannot be seen.
NEARLY = (
    *("a", "A", "\u00e9", "e\u0301", "\u212b", "\u00c5", "\ufb01", "fi", "stra\u00dfe", "strasse"),
    *("\u0131", "i", "\u200ba", "a\u00a0b", "a b"),
)

#: A name as long as can be.
LONGEST = b"\xc3\xa9" * 127 + b"x"

MANNER = Manner(quiet=True)


class Served(LocalStore):
    """A directory that a service in memory serves; the service looks at what it leaves open."""

    opened = closed = 0
    _writing: set[Parts] = set()


class DiskCase(NativeCase):
    """A service in memory, of a directory on the disk."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()
        store: Any = Served(Root(str(self.path)))
        self.store = store
        self.serve()
        self.client = self.connect()

    def there(self) -> set[bytes]:
        """List what is on the disk."""
        return set(os.listdir(os.fsencode(self.path)))

    def listed(self) -> set[bytes]:
        """List what the service tells of."""
        id = self.client.ask(List, name=b"/")
        self.settle()
        answers = [each for each in self.client.all(id) if isinstance(each, Entries)]
        return {entry.name for answer in answers for entry in answer.entries}

    def refused(self, id: int, code: str) -> str:
        """Require a failure; give its sentence. The session goes on."""
        self.settle()
        failed = [each for each in self.client.all(id) if isinstance(each, Failed)]
        self.assertEqual([each.code for each in failed], [code])
        self.assertEqual(self.client.closed, [])
        return failed[0].message

    def small(self, name: bytes, data: bytes = b"x", **told: Any) -> int:
        """Put a small file."""
        id = self.client.small(name, data, **told)
        self.settle()
        return id


class NameTests(DiskCase):
    """Names, through all of a service."""

    def test_elsewhere(self) -> None:
        """What means a drive, a share or a device elsewhere is a name like any other: it is put,
        listed and got as it is, and nothing else is there."""
        for name in ELSEWHERE:
            self.client.last(self.small(name, name), Done)
        self.assertEqual(self.there(), set(ELSEWHERE))
        self.assertEqual(self.listed(), set(ELSEWHERE))
        for name in ELSEWHERE:
            self.assertEqual(self.client.data(self.getting(self.client, name)), name)

    def test_nearly(self) -> None:
        """Names that are equal but for case or normal form are as many files, none of which takes
        another's contents or partial; none is changed on its way."""
        names = [name.encode() for name in NEARLY]
        # All at once, so that one could find what is being written of another.
        ids = [self.putting(self.client, name, BIG, source=b"s") for name in names]
        for id, name in zip(ids, names, strict=True):
            data = BIG[:-1] + name[-1:]
            for index, piece in enumerate(pieces(data)):
                self.client.chunk(id, index, piece)
            self.client.say(Commit(id=id, digest=digestOfAll(data)))
            self.settle()
            self.client.last(id, Done)
        self.assertEqual((self.there(), self.listed()), (set(names), set(names)))
        for name in names:
            self.assertEqual((self.path / os.fsdecode(name)).read_bytes()[-1:], name[-1:])

    def test_longest(self) -> None:
        """A name of 255 bytes is put, small or large, broken off and gone on with; one of 256 is
        FAILED C{invalid-name}, as the last part and on the way."""
        self.client.last(self.small(LONGEST), Done)
        id = self.putting(self.client, LONGEST, BIG, source=b"s")
        self.client.chunk(id, 0, BIG[:CHUNK])
        self.settle()
        self.cancelled(self.client, id)
        self.client.last(self.whole(self.client, LONGEST, BIG, source=b"s"), Done)
        self.assertEqual((self.path / os.fsdecode(LONGEST)).read_bytes(), BIG)
        for name in (LONGEST + b"x", LONGEST + b"x/f"):
            self.refused(self.small(name), "invalid-name")
            self.refused(self.client.ask(MakeDirectory, name=name, parents=True), "invalid-name")
            self.refused(self.client.ask(Rename, name=LONGEST, to=name), "invalid-name")
        self.assertEqual(self.there(), {LONGEST})

    def test_fileAsParent(self) -> None:
        """Below a file nothing is put, made, renamed or found; the file stays."""
        self.small(b"f", b"file")
        self.small(b"g", b"other")
        for name in (b"f/x", b"f/x/y", b"f/."):
            ids = [self.small(name)] if name != b"f/." else []
            ids += [
                self.client.ask(MakeDirectory, name=name, parents=True),
                self.client.ask(Rename, name=b"g", to=name, clobber=False),
            ]
            for id in ids:
                self.settle()
                failed = self.client.last(id, Failed)
                self.assertIn(failed.code, ("not-found", "conflict"), (name, failed.message))
        self.assertEqual(self.client.closed, [])
        self.assertEqual(self.there(), {b"f", b"g"})
        self.assertEqual((self.path / "f").read_bytes(), b"file")

    def test_upwards(self) -> None:
        """C{..}, NUL, and the service's own names are FAILED C{invalid-name} for each request; an
        absolute name is one below the root."""
        self.small(b"f")
        outside = self.path.parent / f"{self.path.name}-outside"
        for name in (
            *(b"../" + os.fsencode(outside.name), b"/../x", b"d/../../x", b".."),
            *(b"x\0y", b"\0", b".netsuite-partial-x", b"d/.netsuite-x/f"),
        ):
            self.refused(self.small(name), "invalid-name")
            self.refused(self.client.put(name, BIG, source=b"s"), "invalid-name")
            for kind in (List, MakeDirectory, Change):
                told: dict[str, Any] = {"mode": 0o700} if kind is Change else {}
                self.refused(self.client.ask(kind, name=name, **told), "invalid-name")
            self.refused(self.client.ask(Rename, name=b"f", to=name), "invalid-name")
            self.refused(self.client.ask(Rename, name=name, to=b"g"), "invalid-name")
        self.client.last(self.small(b"//etc-passwd"), Done)
        self.assertEqual(self.there(), {b"f", b"etc-passwd"})
        self.assertFalse(outside.exists())

    def test_setuid(self) -> None:
        """More than nine permission bits are no record, which ends the session; what the replaced
        file had beyond them is not on the new one."""
        self.small(b"f", b"old")
        os.chmod(self.path / "f", 0o6755)
        self.client.last(self.small(b"f", b"new"), Done)
        self.assertEqual((self.path / "f").stat().st_mode & 0o7777, 0o755)
        os.chmod(self.path / "f", 0o6755)
        self.client.last(self.client.ask(Change, name=b"f", mode=0o700), Done)
        self.assertEqual((self.path / "f").stat().st_mode & 0o7777, 0o700)
        self.small(b"g", b"x", mode=0o4755)
        self.assertIn("mode", self.client.why())
        self.assertFalse((self.path / "g").exists())

    def test_nothingExpands(self) -> None:
        """Nothing is compressed, so nothing expands but holes: a few bytes that stand for a
        thousand gigabytes take no room on the disk, nor in memory."""
        size = 2**40
        id = self.client.ask(Put, name=b"f", size=size, source=b"s", room=0)
        self.settle()
        self.client.say(Holes(id=id, index=0, count=size // CHUNK))
        self.settle()
        self.assertEqual(self.client.closed, [])
        self.cancelled(self.client, id, keep=False)
        self.assertEqual(self.there(), set())


class LyingStore(MemoryStore):
    """
    What a server has that lies about names.

    @ivar lies: names that each directory is said to hold.
    @ivar mode: what is said of each.
    """

    lies: tuple[tuple[bytes, bool], ...] = ()

    def list(self, parts: Parts) -> Iterator[Entry]:
        """List what is there, and what is not, which holds nothing."""
        if parts and any(parts[-1] == name for name, _ in self.lies):
            return
        yield from super().list(parts)
        for name, directory in self.lies:
            kind: Any = "directory" if directory else "file"
            yield Entry(name, Attributes(kind, 0 if directory else 4, 0, 0o644, bytes(16)))


#: Names that lead elsewhere, or are none, and whether they are said to be directories.
LIES: tuple[tuple[tuple[bytes, bool], ...], ...] = (
    ((b"../evil", False),),
    ((b"/tmp/evil", False),),
    ((b"..", True),),
    ((b".", True),),
    ((b"", True),),
    ((b"a/evil", False),),
    ((b"..", True), (b"../evil", False)),
    ((b"good", True), (b"good/../../evil", False)),
    ((b"evil\0", False),),
    ((b".netsuite-partial-evil", False),),
    ((b".netsuite-evil", True),),
    ((b"e" * 256, False),),
    ((b"twice", False), (b"twice", False)),
)


class LyingTests(FilesCase):
    """A server that sends names which nobody asked for, and the program."""

    def setUp(self) -> None:
        super().setUp()
        # What is beside where the commands run, too.
        self.outer = os.path.join(self.directory, "outer")
        self.inner = os.path.join(self.outer, "inner")
        os.makedirs(self.inner)
        self.write(os.path.join(self.outer, "kept"), b"kept")
        os.chdir(self.inner)

    def makePermit(self) -> Any:
        self.store = self.lying = LyingStore()
        return super().makePermit()

    def everything(self) -> set[str]:
        """List all that is here, and beside here."""
        return {
            os.path.relpath(os.path.join(above, name), self.outer)
            for above, directories, files in os.walk(self.outer)
            for name in (*directories, *files)
        }

    def commands(self) -> dict[str, Callable[[], Coroutine[Any, Any, int]]]:
        """Make each command, for each place that it can be given."""

        def got(name: str, local: str) -> Callable[[], Coroutine[Any, Any, int]]:
            return lambda: getTree(
                self.reactor, self.server, self.at(name), local, MANNER, self.console
            )

        def synced(name: str, local: str, **how: Any) -> Callable[[], Coroutine[Any, Any, int]]:
            return lambda: syncTree(
                self.reactor,
                self.server,
                self.at(name),
                local,
                sending=False,
                comparison=Comparison(**how),
                manner=MANNER,
                console=self.console,
            )

        return {
            f"{what} {name} {local}": make(name, local, **how)
            for name in ("/t", "/t/", "/")
            for what, make, places, how in (
                ("get -r", got, ("", ".", "here", "here/", "../inner", self.inner), {}),
                ("sync", synced, (".", "here", "here/", "../inner", self.inner), {}),
                ("sync --delete", synced, (".", "here"), {"delete": True, "yes": True}),
                ("sync --checksum", synced, ("here",), {"checksum": True}),
                ("sync --dry-run", synced, ("here",), {"dryRun": True}),
            )
            for local in (places if name == "/t" else places[-1:])
        }

    def test_trees(self) -> None:
        """Whatever a tree is got or synchronized to: when one name leads elsewhere, is none, or
        comes twice, nothing at all is written or removed, here or elsewhere."""
        self.serve("t/true", b"true")
        tried = 0
        for lies in LIES:
            self.lying.lies = lies
            for what, command in self.commands().items():
                os.makedirs("here", exist_ok=True)
                self.write("here/mine", b"mine")
                before = self.everything()
                self.failureResultOf(self.start(command()), ProtocolError)
                self.assertEqual(self.everything(), before, (what, lies))
                tried += 1
        self.assertGreater(tried, 250)

    def test_lists(self) -> None:
        """Such a name is not listed either, and C{rm -r} asks to remove nothing by it."""
        self.serve("t/true", b"true")
        self.serve("evil", b"evil")
        for lies in LIES[:-1]:
            self.lying.lies = lies
            for command in (
                listFiles(
                    self.reactor,
                    self.server,
                    self.at("/t"),
                    long=False,
                    hidden=True,
                    zero=True,
                    asJson=False,
                    console=self.console,
                ),
                remove(
                    self.reactor,
                    self.server,
                    self.at("/t"),
                    recursive=True,
                    yes=True,
                    console=self.console,
                ),
            ):
                result: list[Any] = []
                self.start(command).addBoth(result.append)
                # A name that is none of a list is the server's own to refuse.
                wrong = getattr(result[0], "type", None) is ProtocolError
                self.assertTrue(wrong or result == [INCOMPLETE] or "netsuite" in str(lies), lies)
            self.assertEqual(self.served("evil"), b"evil")

    def test_ownNames(self) -> None:
        """A name of the command line that leads upwards is refused before anybody is asked, and
        leaves nothing anywhere, whatever the place."""
        before = self.everything()
        for name in ("/..", "/t/..", "/../x", "/t/../../x", "/t/.netsuite-x", "/t/../"):
            for local in ("", ".", "../inner", "new"):
                for command in (getTree, get):
                    asked = self.at(name)
                    done = self.start(
                        command(self.reactor, self.server, asked, local, MANNER, self.console)
                    )
                    self.failureResultOf(done, InvalidName, ConfigurationError)
                    self.assertEqual(self.everything(), before, (name, local))
