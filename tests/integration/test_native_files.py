"""
The native files service as it is used: C{twistd} and the C{netsuite} program, killed on the way,
with readers and writers at once, and over mutual TLS.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import (
    BIN,
    PATIENCE,
    Twistd,
    alive,
    eventually,
    freePort,
    kill,
    netsuite,
    scratch,
    started,
    twistd,
)
from tests.trust.certificates import authority, clientBundle, endpoint, serverFiles
from twisted_netsuite.files.names import RESERVED

SIZE = 20 * 2**20

#: Bytes a second at which there is time to kill somebody.
SLOW = 4 * 2**20

POLICY = b"""
[identities]
"cert:*" = ["owner"]

[[roles.owner.files]]
actions = ["read", "write", "delete"]
"""


def sha256(path: Path) -> str:
    """Digest a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def begun(path: Path) -> bool:
    """Tell whether 2 MiB of a file of random bytes have come, beside where it will be."""
    for each in path.iterdir():
        with contextlib.suppress(FileNotFoundError), each.open("rb") as file:
            file.seek(2 * 2**20)
            if os.fsencode(each.name).startswith(RESERVED) and any(file.read(4096)):
                return True
    return False


class ProgramCase(SynchronousTestCase):
    """What a person types, and a root to serve."""

    def setUp(self) -> None:
        self.here = scratch(self)
        self.root = self.here / "root"
        self.root.mkdir()
        self.file = self.here / "big"
        self.file.write_bytes(os.urandom(SIZE))

    def serve(self, *words: str, port: int = 0) -> Twistd:
        """Start a service of the root."""
        twistd = started(
            self,
            *("netsuite-files", "--root", str(self.root)),
            *("--listen", f"tcp:{port}:interface=127.0.0.1", *words),
        )
        self.address = twistd.places[0].text
        return twistd

    def run_(self, *words: str) -> str:
        """Run a command that has to succeed."""
        done = netsuite(*words, cwd=self.here)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command."""
        process = subprocess.Popen(
            [str(BIN / "netsuite"), *words],
            cwd=self.here,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        """End a command that may have ended."""
        if process.poll() is None:
            process.kill()
        process.communicate()

    def assertClean(self, directory: Path, *names: str) -> None:
        """Nothing is there but these files: no half of any."""
        self.assertEqual(sorted(os.listdir(directory)), sorted(names))

    def assertQuiet(self, twistd: Twistd) -> None:
        """Nothing went wrong in a service."""
        self.assertNotIn("Traceback", twistd.log())


class ProgramTests(ProgramCase):
    """A server in the foreground."""

    def test_there_and_back(self) -> None:
        """A file is the same at both ends, over one connection and over several."""
        twistd = self.serve("--writable")
        for jobs in ("1", "3"):
            self.run_("put", "-q", "-j", jobs, "big", f"{self.address}:/there")
            self.run_("get", "-q", "-j", jobs, f"{self.address}:/there", "back")
            self.assertEqual(sha256(self.root / "there"), sha256(self.file))
            self.assertEqual(sha256(self.here / "back"), sha256(self.file))
            (self.here / "back").unlink()
            (self.root / "there").unlink()
        self.assertClean(self.root)
        self.assertQuiet(twistd)

    def test_serverKilled(self) -> None:
        """A PUT whose server is killed publishes nothing, and the same command goes on with it."""
        port = freePort()
        twistd = self.serve("--writable", port=port)
        words = ("put", "-q", "--retries", "0", "big", f"{self.address}:/there")
        process = self.begin(*words, "--limit-rate", str(SLOW))
        eventually(lambda: begun(self.root), "some of the file")
        twistd.signal(signal.SIGKILL)
        twistd.wait()
        _, err = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, err.count("\n")), (125, 1), err)
        self.assertNotIn("there", os.listdir(self.root))
        twistd = self.serve("--writable", port=port)
        self.run_(*words)
        self.assertEqual(sha256(self.root / "there"), sha256(self.file))
        self.assertClean(self.root, "there")
        self.assertQuiet(twistd)

    def test_serverStopped(self) -> None:
        """A server that is told to stop keeps what has come, and what it kept is gone on with."""
        port = freePort()
        twistd = self.serve("--writable", port=port)
        words = ("put", "--retries", "0", "big", f"{self.address}:/there")
        process = self.begin(*words, "-q", "--limit-rate", str(SLOW))
        eventually(lambda: begun(self.root), "some of the file")
        twistd.signal(signal.SIGTERM)
        self.assertEqual(twistd.wait(), -signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        left = [os.fsencode(each) for each in os.listdir(self.root)]
        self.assertEqual([each.startswith(RESERVED) for each in left], [True, True])
        self.assertNotIn("there", os.listdir(self.root))
        self.assertQuiet(twistd)
        twistd = self.serve("--writable", port=port)
        self.run_(*words)
        self.assertEqual(sha256(self.root / "there"), sha256(self.file))
        self.assertClean(self.root, "there")

    def test_clientKilled(self) -> None:
        """A GET that is killed leaves nothing under the name, and the same command goes on."""
        twistd = self.serve()
        (self.root / "there").write_bytes(self.file.read_bytes())
        target = self.here / "target"
        target.mkdir()
        words = ("get", "-q", f"{self.address}:/there", "target/back")
        process = self.begin(*words, "--limit-rate", str(SLOW))
        eventually(lambda: begun(target), "some of the file")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertFalse((target / "back").exists())
        self.run_(*words)
        self.assertEqual(sha256(target / "back"), sha256(self.file))
        self.assertClean(target, "back")
        self.assertQuiet(twistd)

    def test_putterKilled(self) -> None:
        """A PUT whose client is killed leaves nothing under the name, and is gone on with."""
        twistd = self.serve("--writable")
        words = ("put", "-q", "big", f"{self.address}:/there")
        process = self.begin(*words, "--limit-rate", str(SLOW))
        eventually(lambda: begun(self.root), "some of the file")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertNotIn("there", os.listdir(self.root))
        self.run_(*words)
        self.assertEqual(sha256(self.root / "there"), sha256(self.file))
        self.assertClean(self.root, "there")
        self.assertQuiet(twistd)

    def test_writers(self) -> None:
        """Of two who write one name all who read it meanwhile get one whole version: by the
        program, and on the server's own disk, however slowly they read."""
        twistd = self.serve("--writable")
        versions = []
        for name in ("one", "two"):
            path = self.here / name
            path.write_bytes(os.urandom(3 * 2**20))
            versions.append(sha256(path))
        self.run_("put", "-q", "one", f"{self.address}:/there")
        seen: Counter[str] = Counter()
        got: Counter[str] = Counter()
        ended = threading.Event()
        threads = [
            threading.Thread(target=self.look, args=(ended, seen)),
            threading.Thread(target=self.fetch, args=(ended, got)),
        ]
        for thread in threads:
            thread.start()
        writers: list[subprocess.Popen[str]] = []
        try:
            for _ in range(6):
                pair = [
                    self.begin("put", "-q", name, f"{self.address}:/there")
                    for name in ("one", "two")
                ]
                writers += pair
                for each in pair:
                    each.wait(PATIENCE)
        finally:
            ended.set()
            for thread in threads:
                thread.join(PATIENCE)
        self.assertEqual([each.returncode for each in writers], [0] * len(writers))
        for found in (seen, got):
            self.assertEqual(set(found) - set(versions), set())
            self.assertGreater(found.total(), 1)
        # Who looks often enough has seen both.
        self.assertEqual(set(seen), set(versions))
        self.assertClean(self.root, "there")
        self.assertQuiet(twistd)

    def look(self, ended: threading.Event, seen: Counter[str]) -> None:
        """Read a file on the server's disk again and again, piece by piece."""
        while not ended.is_set():
            digest = hashlib.sha256()
            with (self.root / "there").open("rb", buffering=0) as file:
                while data := file.read(64 * 1024):
                    digest.update(data)
            seen[digest.hexdigest()] += 1

    def fetch(self, ended: threading.Event, got: Counter[str]) -> None:
        """Get the same again and again; a failure counts as a version that nobody wrote."""
        while not ended.is_set():
            done = netsuite("get", "-q", f"{self.address}:/there", "back", cwd=self.here)
            got[done.stderr or sha256(self.here / "back")] += 1

    def test_readOnly(self) -> None:
        """A server that may only be read refuses with one sentence."""
        twistd = self.serve()
        done = netsuite("put", "-q", "big", f"{self.address}:/there", cwd=self.here)
        self.assertEqual(done.returncode, 126)
        self.assertRegex(done.stderr, r"\Anetsuite: [^\n]*\n\Z")
        self.assertClean(self.root)
        self.assertQuiet(twistd)

    def test_sync(self) -> None:
        """A tree that was synchronized there and back is the same."""
        twistd = self.serve("--writable")
        tree = self.here / "tree"
        for number in range(200):
            path = tree / f"d{number % 7}" / f"e{number % 3}" / f"f{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(number * 50))
        (tree / "large").write_bytes(os.urandom(3 * 2**20 + 1))
        (tree / "empty").touch()
        self.run_("sync", "-q", "tree/", f"{self.address}:/")
        self.run_("sync", "-q", f"{self.address}:/", "back/")
        for place in (self.root, self.here / "back"):
            same = subprocess.run(
                ["diff", "-r", str(tree), str(place)],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            self.assertEqual((same.returncode, same.stdout), (0, ""))
        self.assertQuiet(twistd)


class DaemonTests(ProgramCase):
    """A server in the background."""

    def setUp(self) -> None:
        super().setUp()
        self.port = freePort()
        self.address = f"127.0.0.1:{self.port}"
        self.pidfile, self.log = self.here / "pid", self.here / "log"

    def daemon(self) -> int:
        """Start one, which finds its root although it has gone elsewhere; tell its number."""
        done = twistd(
            *(f"--pidfile={self.pidfile}", f"--logfile={self.log}", "--rundir=/"),
            *("netsuite-files", "--root=root", "--writable"),
            f"--listen=tcp:{self.port}:interface=127.0.0.1",
            cwd=self.here,
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        eventually(self.pidfile.exists, "the number of a daemon")
        pid = int(self.pidfile.read_text())
        self.addCleanup(kill, pid)
        return pid

    def stop(self, pid: int) -> None:
        """End one."""
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not alive(pid), "the end of a daemon")
        self.assertFalse(self.pidfile.exists())
        self.assertNotIn("Traceback", self.log.read_text())

    def test_put(self) -> None:
        """One that is stopped in the middle of a PUT leaves what was there before; the client hears
        one sentence, and ends well with the next daemon."""
        (self.root / "there").write_bytes(b"before")
        pid = self.daemon()
        self.run_("put", "-q", "big", f"{self.address}:/whole")
        words = ("put", "-q", "--retries", "0", "big", f"{self.address}:/there")
        process = self.begin(*words, "--limit-rate", str(SLOW))
        eventually(lambda: begun(self.root), "some of the file")
        self.stop(pid)
        _, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 125)
        self.assertRegex(err, r"\Anetsuite: [^\n]*\.\n\Z")
        self.assertEqual((self.root / "there").read_bytes(), b"before")
        self.assertEqual(sha256(self.root / "whole"), sha256(self.file))
        pid = self.daemon()
        self.run_(*words)
        self.assertEqual(sha256(self.root / "there"), sha256(self.file))
        self.assertClean(self.root, "there", "whole")
        self.stop(pid)

    def test_get(self) -> None:
        """Who gets from one that is stopped waits for the next, and ends well by itself."""
        (self.root / "there").write_bytes(self.file.read_bytes())
        target = self.here / "target"
        target.mkdir()
        pid = self.daemon()
        process = self.begin(
            *("get", "-q", "--limit-rate", str(SLOW), f"{self.address}:/there", "target/back")
        )
        eventually(lambda: begun(target), "some of the file")
        self.stop(pid)
        self.assertFalse((target / "back").exists())
        pid = self.daemon()
        _, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0, err)
        self.assertRegex(err, r"\A(netsuite: [^\n]* It is tried again in \d+ s\.\n)+\Z")
        self.assertEqual(sha256(target / "back"), sha256(self.file))
        self.assertClean(target, "back")
        self.stop(pid)

    def test_tree(self) -> None:
        """A tree whose server is stopped on the way holds whole files only, and the same command
        sends the rest."""
        tree = self.here / "tree"
        tree.mkdir()
        for number in range(40):
            (tree / f"{number:02}").write_bytes(os.urandom(300_000))
        pid = self.daemon()
        words = ("put", "-q", "-r", "--retries", "0", "tree", f"{self.address}:/")
        process = self.begin(*words, "--limit-rate", str(SLOW))
        there = self.root / "tree"
        eventually(lambda: there.exists() and len(self.whole(there)) > 2, "some of the files")
        self.stop(pid)
        _, err = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, err.count("\n")), (125, 1), err)
        sent = self.whole(there)
        self.assertLess(len(sent), 40)
        for name, digest in sent.items():
            self.assertEqual(digest, sha256(tree / name), name)
        before = {name: (there / name).stat().st_ino for name in sent}
        pid = self.daemon()
        self.run_(*words)
        self.assertEqual(self.whole(there), self.whole(tree))
        self.assertEqual({name: (there / name).stat().st_ino for name in sent}, before)
        self.assertClean(there, *os.listdir(tree))
        self.stop(pid)

    def whole(self, directory: Path) -> dict[str, str]:
        """Digest the files that are there under their names."""
        return {
            each.name: sha256(each)
            for each in directory.iterdir()
            if not os.fsencode(each.name).startswith(RESERVED)
        }


class MutualTests(SynchronousTestCase):
    """Mutual TLS."""

    def test_mutual(self) -> None:
        """Who has a certificate that the policy knows puts and gets, and nobody else does."""
        here = scratch(self)
        (here / "root").mkdir()
        (here / "policy.toml").write_bytes(POLICY)
        twistd = started(
            self,
            *("netsuite-files", "--root", str(here / "root")),
            *("--policy", str(here / "policy.toml"), "--listen", endpoint(serverFiles())),
        )
        address = f"127.0.0.1:{twistd.places[0].port}"
        file = here / "big"
        file.write_bytes(os.urandom(SIZE // 4))
        ca = ("--ca", str(authority().certificatePath))
        mine = (*ca, "--cert", clientBundle())
        for words in (("put", "-q", "big", f"{address}:/f"), ("get", "-q", f"{address}:/f", "b")):
            done = netsuite(*words, *mine, cwd=here)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sha256(here / "b"), sha256(file))
        done = netsuite("get", "-q", f"{address}:/f", "c", *ca, cwd=here)
        self.assertNotEqual(done.returncode, 0)
        self.assertFalse((here / "c").exists())
        self.assertNotIn("Traceback", twistd.log())
