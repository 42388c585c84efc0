"""
A tree of a hundred thousand awkward entries, there and back, looked at by C{diff} and C{rsync}; it
prints the processor's seconds and the memory of client and server.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import BIN, scratch, started
from tests.peers.awkward import makeAwkward, makeRemovable
from tests.peers.programs import program

ENTRIES = 100_000

#: Makes the tree.
SEED = 2026

#: Seconds for one command on a machine that has other things to do.
LONG = 1800

#: Bytes of memory of the server, and of the client, which has both trees and a plan of them.
SERVER, CLIENT = 160 * 2**20, 512 * 2**20


class TreeTests(SynchronousTestCase):
    """A large tree."""

    def setUp(self) -> None:
        self.rsync = program("rsync", "rsync")
        self.diff = program("diff", "diffutils")
        self.here = scratch(self)
        self.addCleanup(makeRemovable, os.fsencode(self.here))
        self.root = self.here / "root"
        self.root.mkdir()
        self.twistd = started(
            self,
            *("netsuite-files", "--root", str(self.root), "--writable"),
            *("--listen", "tcp:0:interface=127.0.0.1"),
        )
        self.address = self.twistd.places[0].text

    def test_thereAndBack(self) -> None:
        """It is the same at the server and here after put and get and after sync both ways; a sync
        of what is the same, by times and by contents, transfers nothing, and memory has bounds."""
        tree, root = self.here / "tree", self.root
        makeAwkward(os.fsencode(tree), ENTRIES, SEED)
        self.work("put", "-r", "tree", f"{self.address}:/")
        self.assertSame(tree, root / "tree")
        self.work("get", "-r", f"{self.address}:/tree", "back")
        self.assertSame(tree, self.here / "back" / "tree")
        self.work("sync", "tree", f"{self.address}:/two")
        self.assertSame(tree, root / "two")
        self.work("sync", f"{self.address}:/two", "three")
        self.assertSame(tree, self.here / "three")
        for words in ([], ["--checksum"], ["--delete", "--yes"]):
            told = self.work("sync", "tree", f"{self.address}:/two", *words)
            self.assertIn("netsuite: 0 files sent", told)
        self.assertNotIn("Traceback", self.twistd.log())
        self.assertLess(1024 * self.peak(), SERVER)

    def work(self, *words: str) -> str:
        """Run a command that has to succeed, and print what it took; tell what it said."""
        before = self.ticks()
        process = subprocess.Popen(
            [BIN / "netsuite", *words],
            cwd=self.here,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        assert process.stderr is not None
        with process.stderr as stream:
            told = stream.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0, told)
        server = (self.ticks() - before) / os.sysconf("SC_CLK_TCK")
        print(
            f"\n{' '.join(words)}: {told.strip().splitlines()[-1]}\n"
            f"  client {usage.ru_utime + usage.ru_stime:.1f} s, {usage.ru_maxrss // 1024} MiB; "
            f"server {server:.1f} s, {self.peak() // 1024} MiB",
            file=sys.stderr,
        )
        self.assertLess(1024 * usage.ru_maxrss, CLIENT)
        return told

    def assertSame(self, one: Path, other: Path) -> None:
        """Two programs that know nothing of us find no difference."""
        for command in (
            [self.diff, "-r", "--no-dereference", f"{one}", f"{other}"],
            [
                *(self.rsync, "-rnci", "--times", "--perms", "--modify-window=-1", "--delete"),
                *(f"{one}/", f"{other}/"),
            ],
        ):
            done = subprocess.run(command, capture_output=True, timeout=LONG, check=False)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    def ticks(self) -> int:
        """Tell how long the server has used a processor so far."""
        stat = Path(f"/proc/{self.twistd.pid}/stat").read_text().rpartition(")")[2].split()
        return int(stat[11]) + int(stat[12])

    def peak(self) -> int:
        """Tell the most memory that the server had so far, in KiB."""
        status = Path(f"/proc/{self.twistd.pid}/status").read_text()
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1])
