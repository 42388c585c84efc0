"""
Files on their way while the server or the client is killed by SIGKILL: real C{twistd}, real
C{netsuite}, again and again. C{NETSUITE_KILLS} is how often, C{NETSUITE_KILLS_SEED} for what.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import BIN, PATIENCE, Twistd, eventually, scratch
from tests.soak.meter import Meter
from twisted_netsuite.files.digests import CHUNK
from twisted_netsuite.files.leftovers import JOURNAL, PARTIAL
from twisted_netsuite.files.names import RESERVED

KILLS = int(os.environ.get("NETSUITE_KILLS", "200"))
SEED = int(os.environ.get("NETSUITE_KILLS_SEED", "5"))

#: Bytes of what all files are cut from; the largest is a little smaller.
POOL = 101 * 2**20

#: Bytes of files of one chunk, of some chunks, and of many; how often each is taken.
SIZES = ((1, 2**20), (2**20 + 1, 12 * 2**20), (40 * 2**20, 100 * 2**20))
OFTEN = (3, 3, 2)

#: Files of a tree, bytes of each, and of one of them that is larger.
FILES, SMALL, LARGER = (40, 120), 64 * 1024, 3 * 2**20

#: Bytes beside the contents that a file may take on the wire: records, and digests of chunks.
BESIDE = 64 * 1024

#: Seconds that a process lives on at the most once so many bytes have passed: the point is on the
#: disk then, and not on the wire.
LATER = 0.03

#: How often another point is tried when a process has ended before it was killed.
TRIES = 5


@dataclass
class Job:
    """
    Something to be moved.

    @ivar words: the command.
    @ivar source: the file or directory.
    @ivar target: what it becomes.
    @ivar size: bytes of it.
    @ivar connections: over how many it goes.
    """

    words: tuple[str, ...]
    source: Path
    target: Path
    size: int
    connections: int = 1


@dataclass
class Tally:
    """What was seen."""

    found: Counter[str] = field(default_factory=Counter)
    saved: int = 0
    again: int = 0
    leftovers: int = 0


def digest(path: Path) -> str:
    """Digest a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def isOurs(name: str) -> bool:
    """Tell whether a name is one under which nobody is served."""
    return os.fsencode(name).startswith(RESERVED)


def look(top: Path) -> dict[str, str]:
    """Take down all that is published, and its digests."""
    if not top.is_dir():
        return {"": digest(top)} if top.exists() else {}
    files = (path for path in top.rglob("*") if not isOurs(path.name) and path.is_file())
    return {str(path.relative_to(top)): digest(path) for path in files}


def leftovers(directory: Path) -> list[Path]:
    """Find what is not published."""
    return [path for path in directory.rglob(".netsuite-*") if isOurs(path.name)]


def areFree(directory: Path) -> bool:
    """Tell whether nobody writes what is not published."""
    for path in leftovers(directory):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


class KillTests(SynchronousTestCase):
    """Two hundred ends at random points."""

    def setUp(self) -> None:
        self.rng = random.Random(SEED)
        self.pool = self.rng.randbytes(POOL)
        self.here = scratch(self)
        self.root = self.here / "root"
        self.mine = self.here / "mine"
        self.root.mkdir()
        self.mine.mkdir()
        self.meter = Meter()
        self.addCleanup(self.meter.close)
        self.addCleanup(lambda: self.twistd.stop())
        self.tally = Tally()
        self.serve()

    def serve(self) -> None:
        """Start the server."""
        self.twistd = Twistd(
            *("netsuite-files", "--root", str(self.root), "--writable"),
            *("--listen", "tcp:0:interface=127.0.0.1"),
        )
        self.meter.server = self.twistd.places[0]

    # What is moved.

    def content(self, size: int) -> bytes:
        """Make up a version; no chunk of it is one of another's."""
        at = self.rng.randrange(POOL)
        return (self.pool[at : at + size] + self.pool[: max(0, at + size - POOL)])[:size]

    def job(self) -> Job:
        """Make up something to do."""
        getting, isTree = self.rng.random() < 0.5, self.rng.random() < 0.35
        name = f"{'tree' if isTree else 'file'}-{'get' if getting else 'put'}"
        source, target = (self.root, self.mine) if getting else (self.mine, self.root)
        for directory in (source / "from", target / "to"):
            directory.mkdir(exist_ok=True)
        size = (self.tree if isTree else self.file)(source / "from" / name)
        far = f"{self.meter.address}:/{'from' if getting else 'to'}/{name}"
        near = str(self.mine / ("to" if getting else "from") / name)
        verb = "sync" if isTree else "get" if getting else "put"
        connections = 1 if isTree else self.rng.choice((1, 1, 3))
        pair = (far, near) if getting else (near, far)
        words = (verb, "-q", "--retries", "0", "-j", str(connections), *pair)
        return Job(words, source / "from" / name, target / "to" / name, size, connections)

    def file(self, path: Path) -> int:
        """Write a new version of a file; give its size."""
        (bounds,) = self.rng.choices(SIZES, OFTEN)
        data = self.content(self.rng.randint(*bounds))
        path.write_bytes(data)
        return len(data)

    def tree(self, path: Path) -> int:
        """Write a new version of a tree; give the bytes that have to be moved."""
        size = 0
        for number in range(self.rng.randint(*FILES)):
            file = path / f"d{number % 5}" / f"f{number}"
            file.parent.mkdir(parents=True, exist_ok=True)
            data = self.content(self.rng.randint(0, SMALL) if number else LARGER)
            file.write_bytes(data)
            size += len(data)
        return size

    # Who is killed.

    def begin(self, job: Job) -> subprocess.Popen[str]:
        """Begin a command."""
        return subprocess.Popen(
            [BIN / "netsuite", *job.words],
            cwd=self.here,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def killed(self, job: Job, server: bool) -> bool:
        """Do it, and kill one end on the way; tell whether it came to that."""
        reached = []
        near = self.rng.random() < 0.25
        at = job.size + self.rng.randint(-2000, 4000) if near else self.rng.randint(1, job.size)
        wait = self.rng.choice((0.0, self.rng.uniform(0, LATER)))

        def kill() -> None:
            time.sleep(wait)
            reached.append(at)
            if server:
                self.twistd.signal(SIGKILL)
            else:
                process.kill()

        self.meter.watch(max(1, at), kill)
        process = self.begin(job)
        _, err = process.communicate(timeout=PATIENCE)
        self.meter.watch()
        self.assertNotIn("Traceback", err)
        if not reached:
            self.assertEqual((process.returncode, err), (0, ""))
            return False
        if server:
            self.twistd.wait()
            self.assertIn(process.returncode, (0, 125), err)
            self.assertEqual(err.count("\n"), int(process.returncode != 0), err)
        self.assertNotIn("Traceback", self.twistd.log())
        return True

    # What is to be true.

    def assertWhole(self, job: Job, old: dict[str, str], new: dict[str, str]) -> str:
        """All that is published is whole, old or new; tell which it is."""
        found = look(job.target)
        kinds = set()
        for name in found.keys() | old.keys() | new.keys():
            mine = found.get(name)
            self.assertIn(mine, (old.get(name), new.get(name)), f"{name} is neither old nor new")
            kinds.add("new" if mine == new.get(name) else "old")
        return "both" if len(kinds) > 1 else kinds.pop()

    def right(self, job: Job) -> int:
        """Count the chunks of a partial that are what they will have to be."""
        parts = [each for each in leftovers(job.target.parent) if PARTIAL.decode() in each.name]
        journals = {each.name for each in leftovers(job.target.parent)}
        most = 0
        for part in parts:
            if part.name.replace(PARTIAL.decode(), JOURNAL.decode()) not in journals:
                continue
            with part.open("rb") as there, job.source.open("rb") as here:
                same = 0
                while data := here.read(CHUNK):
                    same += there.read(CHUNK) == data
                most = max(most, same)
        return most

    def finish(self, job: Job, right: int) -> None:
        """Do it again: it ends, and what had come already does not pass once more."""
        self.meter.watch()
        process = self.begin(job)
        _, err = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, err), (0, ""))
        if job.words[0] == "sync":
            return
        passed = self.meter.passed
        # What was being written as it died may be right, and is not known to be.
        sure = max(0, right - 2 * job.connections)
        self.assertLess(passed, job.size - sure * CHUNK + BESIDE, f"{right} chunks were there")
        self.assertEqual(leftovers(job.target.parent), [])
        if sure:
            self.tally.found["resumed"] += 1
            self.tally.saved += job.size - passed
            self.tally.again += passed

    def once(self, server: bool) -> bool:
        """One end; tell whether it came to it."""
        job = self.job()
        old, new = look(job.target), look(job.source)
        if job.words[0] == "sync":  # What the source has no more stays.
            new = old | new
        if not self.killed(job, server):
            self.assertEqual(look(job.target), new)
            return False
        self.assertWhole(job, old, new)
        if not server:  # It goes on with what has come, and may still publish it.
            eventually(lambda: areFree(job.target.parent), "what the server has to do")
        whole = self.assertWhole(job, old, new)
        kind = "tree" if job.words[0] == "sync" else "file"
        self.tally.found[f"{kind}s found {whole}"] += 1
        left = leftovers(job.target.parent)
        self.tally.leftovers += len(left)
        right = self.right(job) if kind == "file" else 0
        if server:
            self.twistd.stop()
            self.serve()
        self.finish(job, right)
        self.assertEqual(look(job.target), new)
        for each in leftovers(self.here):  # Those of small files, which time would clean.
            each.unlink()
        return True

    def test_kills(self) -> None:
        """Whoever is killed whenever: what is published is the old file or the new one, whole, what
        is left has a reserved name, and the same command goes on to the right end."""
        began = time.monotonic()
        for number in range(KILLS):
            server = self.rng.random() < 0.5
            for _ in range(TRIES):
                if self.once(server):
                    break
                self.tally.found["too late"] += 1
            self.tally.found["server" if server else "client"] += 1
            with contextlib.suppress(FileNotFoundError):
                if self.rng.random() < 0.1:  # Where nothing was before.
                    shutil.rmtree(self.rng.choice((self.root, self.mine)) / "to")
            if number % 20 == 19:
                print(f"{number + 1} after {time.monotonic() - began:.0f} s", flush=True)
        self.tell(time.monotonic() - began)
        self.assertGreater(self.tally.found["resumed"], KILLS // 10)

    def tell(self, seconds: float) -> None:
        """Say what was seen."""
        tally, mib = self.tally, 2**20
        found = ", ".join(f"{count} {what}" for what, count in sorted(tally.found.items()))
        print(
            f"\nseed {SEED}, {KILLS} kills in {seconds:.0f} s: {found}; {tally.leftovers} "
            "leftovers, all with reserved names; of the files that were resumed "
            f"{tally.again // mib} MiB passed again, and {tally.saved // mib} MiB did not.",
            flush=True,
        )
