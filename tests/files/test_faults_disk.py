"""
A disk that fails at each call in its turn, with ENOSPC, EDQUOT and EIO: of all that is done with
names, of PUT at the server and of GET at the client from their first record to their last, and of
the ledger of quotas. L{tests.files.test_target} has the same for the writing of files alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.files import nativerig, storecontract, test_quota, test_target, test_transfer
from tests.files import test_localstore as local
from tests.files.faultydisk import CALLS, FaultyDisk, _Module
from tests.files.nativerig import BIG
from tests.files.test_target import CHUNK, CONTENT, OLD, REPLACES, Run
from tests.files.tree import descriptors, write
from twisted_netsuite.errors import Conflict, LimitExceeded, NetsuiteError, StorageFailed
from twisted_netsuite.files import (
    leftovers,
    locallisting,
    localsource,
    localstore,
    openat2,
    quotaledger,
    root,
)
from twisted_netsuite.files.leftovers import cleanDirectory
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.messages import Cancel, Commit, Failed, Have
from twisted_netsuite.files.names import Parts
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.transfer import Local

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

#: What the rooms call that work with names. What is known of an open directory, and its closing,
#: need nothing of the disk.
_NAMES = (CALLS | {"mkdir", "rmdir", "chmod", "scandir", "readlink"}) - {"close", "fstat"}


def assertCleaned(case: SynchronousTestCase, path: Path, name: str) -> None:
    """Beside a file there is nothing but what time cleans."""
    directory = os.open(path, os.O_RDONLY)
    cleanDirectory(directory, 0)
    os.close(directory)
    case.assertEqual(os.listdir(path), [name])


class MoreRunsTests(test_target.FaultTests):
    """Files that wait for the disk and that do not, with room that is reserved and that is not."""

    RUNS = (
        Run(b"small", None, {"source": None, "durable": False}),
        Run(b"small", OLD, {"source": None, "durable": False}),
        Run(b"small", OLD, {"source": None, "durable": False, **REPLACES}),
        Run(b"", OLD, {}),
        Run(CONTENT, None, {"durable": False}),
        Run(CONTENT, OLD, {"durable": False}),
        Run(CONTENT, None, {"clobber": False, "room": CHUNK * 3 + 100}),
        Run(bytes(len(CONTENT)), OLD, {"room": 0}),
        Run(CONTENT, OLD, {"source": None, "durable": False, "mtime": None}),
    )

    def setUp(self) -> None:
        super().setUp()
        self.patch(test_target, "RUNS", self.RUNS)

    def test_once(self) -> None:
        """Whatever fails: the old file is whole, or the new one is and an error says so; nothing is
        left that is not cleaned; and another try ends right."""
        for number in ERRORS:
            self.assertGreater(self.each(number, frozenset()), 150)


class Operation(NamedTuple):
    """Something that is done with names."""

    name: str
    work: Callable[[LocalStore], object]
    #: Whether nobody has to hear that a call has failed: it is done again some time.
    quiet: bool = False


OPERATIONS = (
    Operation("mkdir", lambda store: store.makeDirectory((b"new",), None, False)),
    Operation("mkdir with a mode", lambda store: store.makeDirectory((b"new",), 0o2707, False)),
    Operation("mkdir -p", lambda store: store.makeDirectory((b"a", b"b", b"c"), 0o700, True)),
    Operation("rename", lambda store: store.rename((b"f",), (b"d", b"new"), True)),
    Operation("rename over", lambda store: store.rename((b"f",), (b"d", b"g"), True)),
    Operation("rename, no clobber", lambda store: store.rename((b"f",), (b"d", b"new"), False)),
    Operation("rename a directory", lambda store: store.rename((b"d",), (b"new",), False)),
    Operation("unlink", lambda store: store.remove((b"d", b"g"))),
    Operation("rmdir", lambda store: store.remove((b"empty",))),
    Operation("rmdir with leftovers", lambda store: store.remove((b"left",))),
    Operation("chmod", lambda store: store.change((b"f",), 0o601, None)),
    Operation("utimes", lambda store: store.change((b"f",), None, 10**18)),
    Operation("chmod and utimes", lambda store: store.change((b"f",), 0o601, 10**18)),
    Operation("clean", lambda store: store.clean(0), quiet=True),
    Operation("stat", lambda store: store.stat((b"f",))),
    Operation("list", lambda store: [*store.list((b"d",))]),
    Operation("get", lambda store: storecontract.get(store, (b"d", b"g"))),
    Operation("hash", lambda store: storecontract.digestsOf(storecontract.get(store, (b"f",)))),
)


class OperationTests(local.LocalCase):
    """All that is done with names."""

    number = 0

    def build(self) -> None:
        """Have a tree, in place of another."""
        self.number += 1
        self.path = os.path.join(self.directory, f"tree{self.number}")
        for name in ("d", "empty", "left"):
            os.makedirs(os.path.join(self.path, name))
        for name in ("f", "d/g"):
            write(os.path.join(self.path, name), local.INSIDE)
        for kind in ("partial", "journal"):
            write(f"{self.path}/left/.netsuite-{kind}-{'0' * 32}", b"left")

    def state(self) -> list[tuple[str, object]]:
        """Take down names, modes, times of files and contents."""
        found = []
        for path in sorted(Path(self.path).rglob("*")):
            status = path.lstat()
            known: object = status.st_mode
            if path.is_file():
                mtime = status.st_mtime_ns if status.st_mtime_ns == 10**18 else 0
                known = (status.st_mode, mtime, path.read_bytes())
            found.append((str(path.relative_to(self.path)), known))
        return found

    def faulty(self) -> FaultyDisk:
        """Have all calls go through a disk that can fail."""
        disk = FaultyDisk(self)
        system: Any = _Module(disk, os, frozenset(_NAMES))
        for module in (leftovers, locallisting, localsource, localstore, openat2, root):
            self.patch(module, "os", system)
        for module, name in ((localstore, "renameNoReplace"), (openat2, "openBeneath")):
            self.patch(module, name, disk.wrapped(name, getattr(module, name)))
        return disk

    def each(self, operation: Operation, number: int, kernel: bool) -> int:
        """Let each of its calls fail; tell how many those were."""
        disk, at = self.disk, 0
        while True:
            at += 1
            disk.reset()
            self.build()
            store = LocalStore(Root(self.path, "never", kernel))
            old, before = self.state(), descriptors()
            disk.reset()
            disk.failAt(at, number)
            sentence = ""
            try:
                operation.work(store)
            except NetsuiteError as error:
                sentence = error.sentence
                # What is left of tries, and cannot be cleaned, makes a directory one that is full.
                kinds = (
                    (StorageFailed, Conflict) if "leftovers" in operation.name else StorageFailed
                )
                self.assertIsInstance(error, kinds)
            failed = disk.calls[at - 1 : at]
            what = f"{operation.name}, {failed}, {sentence}"
            reached = disk.reached
            disk.reset()
            self.assertEqual(descriptors(), before, what)
            if not reached:
                self.assertEqual(sentence, "")
                store.close()
                return at - 1
            self.check(operation, old, sentence, what, store)
            store.close()

    def check(
        self,
        operation: Operation,
        old: list[tuple[str, object]],
        sentence: str,
        what: str,
        store: LocalStore,
    ) -> None:
        """What is there is what was, or is to be; and another try ends at what is to be."""
        found = self.state()
        if not sentence and not operation.quiet:
            self.assertEqual(found, self.wanted[operation.name], what)
        if sentence and len(operation.name.split()) == 1:  # One step is done, or is not.
            self.assertEqual(found, old, what)
        with contextlib.suppress(NetsuiteError):  # It was done by the first.
            operation.work(store)
        if sentence and operation.name == "mkdir with a mode":
            # A directory that is there is left as it is, with what the umask has left of its mode.
            os.chmod(os.path.join(self.path, "new"), 0o707)
        self.assertEqual(self.state(), self.wanted[operation.name], what)

    def test_each(self) -> None:
        """Whatever fails is told, in one sentence; what takes one step is done or is not, what
        takes several can be done again, nothing else is touched, and no descriptor is left."""
        self.disk = self.faulty()
        self.wanted = {}
        faults = 0
        for kernel in (True, False):
            for operation in OPERATIONS:
                self.disk.reset()
                self.build()
                store = LocalStore(Root(self.path, "never", kernel))
                operation.work(store)
                store.close()
                self.wanted[operation.name] = self.state()
                for number in ERRORS:
                    faults += self.each(operation, number, kernel)
        self.assertGreater(faults, 600)


class Served(LocalStore):
    """A directory that a service in memory serves."""

    opened = closed = 0
    _writing: set[Parts] = set()
    ends: list[str] = []


class PutTests(nativerig.NativeCase):
    """A PUT, at the server."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp())
        self.path.mkdir()
        store: Any = Served(Root(str(self.path)))
        self.store = store
        self.serve()
        self.file = self.path / "f"
        self.faulty = FaultyDisk(self)

    def each(self, data: bytes, number: int, **told: Any) -> int:
        """Let each call fail; tell how many those were."""
        at = 0
        client = self.connect()
        while True:
            at += 1
            self.faulty.reset()
            self.file.write_bytes(OLD)
            self.faulty.failAt(at, number)
            failed = self.sent(client, data, **told)
            reached = self.faulty.reached
            what = f"{self.faulty.calls[at - 1 : at]}, {failed}"
            self.faulty.reset()
            there = self.file.read_bytes()
            self.assertIn(there, (OLD, data), what)
            if there == OLD:
                assert failed is not None, what
                self.assertEqual(failed.code, "storage", what)
            elif failed is not None:
                self.assertIn("was published, but", failed.message, what)
            self.assertIsNone(self.sent(client, data, **told), what)
            self.assertEqual(self.file.read_bytes(), data)
            self.assertEqual(client.closed, [])
            if not reached:
                self.assertIsNone(failed)
                return at - 1

    def sent(self, client: nativerig.Client, data: bytes, **told: Any) -> Failed | None:
        """Put it; tell why not."""
        if told.get("source") is None:
            id = client.small(b"f", data, **told)
            self.settle()
        else:
            id = client.put(b"f", data, **told)
            self.settle()
            if client.kinds(id)[-1] == "Failed":
                client.say(Cancel(id=id))
                self.settle()
                found = client.all(id)[-1]
                assert isinstance(found, Failed)
                return found
            there = {
                index
                for have in client.all(id)
                if isinstance(have, Have)
                for index in range(have.index, have.index + len(have.digests) // 32)
            }
            for index, piece in enumerate(nativerig.pieces(data)):
                if index not in there:
                    client.chunk(id, index, piece)
                    self.settle()
            client.say(Commit(id=id, digest=nativerig.digestOfAll(data)))
            self.settle()
        found = client.all(id)[-1]
        return found if isinstance(found, Failed) else None

    def test_small(self) -> None:
        """Whatever fails of a small file is FAILED C{storage}, and the old file is there; or the
        new one is, and that is said. The session goes on, and the next try ends right."""
        for durable in (True, False):
            for number in ERRORS:
                self.assertGreater(self.each(b"small", number, durable=durable), 8)
        assertCleaned(self, self.path, "f")

    def test_large(self) -> None:
        """So it is with a large one, chunk by chunk."""
        for durable in (True, False):
            for number in ERRORS if durable else (errno.EIO,):
                told = {"durable": durable, "source": b"s"}
                self.assertGreater(self.each(BIG, number, **told), 20)
        assertCleaned(self, self.path, "f")


class GetTests(test_transfer.TransferTestCase):
    """A GET, at the client."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp())
        self.path.mkdir()
        self.here = LocalStore(Root(str(self.path)))
        self.addCleanup(lambda: self.here.close())
        self.file = self.path / "here"
        self.faulty = FaultyDisk(self)

    def local(self, name: bytes = b"here") -> Local:
        return Local(self.here, (name,), self.disk)

    def each(self, data: bytes, number: int, **options: Any) -> int:
        """Let each call fail; tell how many those were."""
        at = 0
        self.serve(data)
        while True:
            at += 1
            self.faulty.reset()
            self.file.write_bytes(OLD)
            before = descriptors()
            self.faulty.failAt(at, number)
            result: list[Any] = []
            self.get(**options).addBoth(result.append)
            self.flush()
            reached = self.faulty.reached
            failure = getattr(result[0], "value", None)
            what = f"{self.faulty.calls[at - 1 : at]}, {failure}"
            self.faulty.reset()
            self.assertEqual(descriptors(), before, what)
            there = self.file.read_bytes()
            self.assertIn(there, (OLD, data), what)
            if there == OLD:
                self.assertIsInstance(failure, StorageFailed, what)
            elif failure is not None:
                self.assertIn("was published, but", failure.sentence, what)
            self.successResultOf(self.get(**options))
            self.assertEqual(self.file.read_bytes(), data)
            self.assertTrue(self.session.isOpen)
            if not reached:
                self.assertIsNone(failure)
                return at - 1

    def test_small(self) -> None:
        """Whatever fails of a small file is told, and the old file is there; or the new one is, and
        that is said. The session goes on, and the next try ends right."""
        for durable in (True, False):
            for number in ERRORS:
                self.assertGreater(self.each(b"small", number, durable=durable), 8)
        assertCleaned(self, self.path, "here")

    def test_large(self) -> None:
        """So it is with a large one, chunk by chunk."""
        for durable in (True, False):
            for number in ERRORS if durable else (errno.EIO,):
                self.assertGreater(self.each(BIG, number, durable=durable), 20)
        assertCleaned(self, self.path, "here")


class Statements:
    """
    The database of a ledger, which fails at one statement.

    @ivar count: statements so far.
    @ivar at: which fails; 0 for none.
    """

    def __init__(self) -> None:
        self.count = self.at = 0
        self.message = ""

    def wrapped(self, connection: sqlite3.Connection) -> Any:
        """Have statements counted."""

        class Counted:
            """Passes them on."""

            def execute(_, statement: str, *values: Any) -> Any:
                self.count += 1
                if self.count == self.at:
                    raise sqlite3.OperationalError(self.message)
                return connection.execute(statement, *values)

            def __getattr__(_, name: str) -> Any:
                return getattr(connection, name)

        return Counted()


class LedgerTests(test_quota.QuotaCase):
    """The ledger of quotas."""

    @contextmanager
    def failing(self, at: int, message: str) -> Iterator[Statements]:
        """Let one statement fail."""
        statements = Statements()
        statements.at, statements.message = at, message
        real: Any = quotaledger.QuotaLedger.__dict__["_sql"]
        patch = self.patch(
            quotaledger.QuotaLedger,
            "_sql",
            property(lambda ledger: statements.wrapped(real.fget(ledger))),
        )
        try:
            yield statements
        finally:
            patch.restore()

    def story(self) -> Iterator[Callable[[], object]]:
        """What somebody does with files, step by step: each does all of it, or nothing."""
        yield lambda: self.put(b"/a", 10)
        yield lambda: self.put(b"/b", 20)
        yield lambda: self.put(b"/a", 15)
        yield lambda: self.rename(b"/a", b"/c")
        yield lambda: self.rename(b"/b", b"/c")
        yield lambda: self.reserve(b"/d", 30).release()
        yield lambda: self.put(b"/e", 5)
        yield lambda: self.quotas.keeps(test_quota.ANNA, test_quota.ROOT, test_quota.ALL)
        yield lambda: self.remove(b"/e")

    def told(self, at: int, message: str) -> int:
        """Tell a story with one fault; give the statements of it."""
        self.directory = os.path.abspath(self.mktemp())
        self.world = test_quota.World()
        self.quotas = self.opened()
        with self.failing(at, message) as statements, capturedLogs():
            for step in self.story():
                try:
                    step()
                except (StorageFailed, LimitExceeded) as error:
                    self.assertIsInstance(error, StorageFailed)
                except KeyError:  # What it was about was refused before.
                    pass
        for again in (False, True):
            if again:
                self.quotas.close()
                self.quotas = self.opened()
            sizes = [size or 0 for size, _ in self.world.there.values()]
            found = self.quotas.keeps(test_quota.ANNA, test_quota.ROOT, test_quota.ALL)
            self.assertEqual(found, (sum(sizes), len(sizes)), f"statement {at}, again {again}")
        return statements.count

    def test_each(self) -> None:
        """Whatever statement fails: nothing is let in that is not counted, and what counts in the
        end, and after the next start, is what is there."""
        faults = 0
        for message in ("database or disk is full", "disk I/O error"):
            at = 1
            while self.told(at, message) >= at:
                at += 1
                faults += 1
        self.assertGreater(faults, 60)
